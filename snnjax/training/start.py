"""Trainings that start from a trained network, which gives its encoder and its first layers."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from snnjax.core import files
from snnjax.core.components import differences, list_differences, to_data
from snnjax.core.errors import InputError, wrong_type
from snnjax.networks import Network, SpikingNetwork
from snnjax.training.state import Arrays, Phase, TrainState


def check_start(network: Network, plan: Sequence[Phase], start: SpikingNetwork) -> tuple[str, ...]:
    """Names of the layers that a training takes from a trained network: those before the first that needs labels.

    Raises InputError where there are none, or where these layers, their stages, the encoder, the input or the time
    steps differ in more than numbers that `start` has learned.
    """
    if not isinstance(start, SpikingNetwork):
        raise wrong_type("start", "a SpikingNetwork", start, "snnjax.load(run)")
    stages = min(network.first_supervised, start.spec.first_supervised)
    names = tuple(name for stage, name, _ in network.layers() if stage < stages)
    if not names:
        got = f"{start.spec.name} for {network.name}"
        raise InputError(f"`start` (--from) must share layers that learn without labels with the network, got {got}")
    now: Arrays = {}
    was: Arrays = {}
    found = differences(_described(network, stages, now), _described(start.spec, stages, was))
    differing = [difference for difference in found if not _is_learned(*difference)]
    differing += [
        (path, array, was[path]) for path, array in now.items() if path in was and not np.array_equal(array, was[path])
    ]
    if differing:
        wanted = f"the same encoder and {', '.join(names)} as {network.name}"
        raise InputError(f"`start` (--from) must have {wanted}, it has {list_differences(differing)}")
    for phase in plan:
        if phase.stage < stages < phase.end:
            wanted = f"{', '.join(phase.layers)} of {network.name}, which learn jointly"
            raise InputError(f"`start` (--from) must have {wanted}, got {', '.join(names)}")
    return names


def _described(network: Network, stages: int, arrays: Arrays) -> dict[str, Any]:
    """What the first stages of a network depend on, as JSON data by name; arrays are put into `arrays`."""
    parts: dict[str, Any] = dict(
        input="x".join(map(str, network.input_shape)),
        time_steps=network.time_steps,
        encoder=to_data(network.encoder, arrays, "encoder"),
    )
    for number, stage in enumerate(network.stages[:stages]):
        described = to_data(stage, arrays, f"stage{number + 1}")
        layers = described.pop("branches")
        parts |= dict(zip(network.names[number], layers, strict=True))
        parts[f"stage{number + 1}"] = described
    return parts


def _is_learned(path: str, now: Any, was: Any) -> bool:
    """Whether a difference is an array in place of a number: of a fitted encoder, or of thresholds that learned."""
    return isinstance(now, int | float) and isinstance(was, dict) and "array" in was


def take_layers(state: TrainState, network: Network, start: SpikingNetwork, names: Sequence[str]) -> None:
    """Puts the encoder and some layers of a trained network, as `check_start` names them, into a state."""
    weights = start.weights()
    trained = {name: conv for _, name, conv in start.spec.layers()}
    state.keep_numbers("encoder", network.encoder, jax.tree.leaves(start.spec.encoder))
    for _, name, conv in network.layers():
        if name in names:
            state.keep_layer(name, conv, np.asarray(weights[name]), jax.tree.leaves(trained[name]))


def digest(start: SpikingNetwork) -> str:
    """The SHA-256 of the weights and of all arrays of a trained network, in hexadecimal digits."""
    arrays = {name: np.asarray(values) for name, values in start.weights().items()}
    to_data(start.spec, arrays)
    return files.digest(arrays).hex()
