"""Trainings that start from a trained network, which gives its encoder and its first layers."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from snnjax.core.components import differences, list_differences, to_data
from snnjax.core.errors import InputError, wrong_type
from snnjax.layers.conv import Conv
from snnjax.networks import Network, SpikingNetwork
from snnjax.training.state import Arrays

RULES = ("competition", "learners", "weight_mean", "weight_std", "weight_range")
"""Of a layer: without effect once it has learned."""


class Taken(NamedTuple):
    """What a training takes from a trained network.

    Attributes:
      network: the description that is trained: with the encoder and the first stages of the trained network.
      weights: (F, C, kh, kw) float32 of the layers of these stages, by name.
      rules: how these layers have learned otherwise than the network asked for would, in words; "" if in no way.
      initial: the numbers that they and the encoder had before they learned, by path, as of `SpikingNetwork`.
    """

    network: Network
    weights: Arrays
    rules: str
    initial: dict[str, Any]


def take(network: Network, start: SpikingNetwork) -> Taken:
    """The layers of a trained network before the first that needs labels, as the first layers of another network.

    Raises InputError where there are none, or where the input, the time steps, the encoder or the layers differ in more
    than what was learned or fitted, and how.
    """
    if not isinstance(start, SpikingNetwork):
        raise wrong_type("start", "a SpikingNetwork", start, "snnjax.load(run)")
    trained = jax.tree.map(_on_host, start.spec)
    recipe = jax.tree.map(_on_host, start.recipe)
    stages = min(network.first_supervised, trained.first_supervised)
    layers = {name: conv for stage, name, conv in network.layers() if stage < stages}
    names = list(layers)
    if not names:
        got = f"{trained.name} for {network.name}"
        raise InputError(f"`start` (--from) must share layers that learn without labels with the network, got {got}")
    wanted = f"{', '.join(names)} of {network.name}"
    found = _differing(network, recipe, stages)
    rules = [difference for difference in found if _is_of_rule(difference[0], layers)]
    if others := [difference for difference in found if not _is_of_rule(difference[0], layers)]:
        raise InputError(f"`start` (--from) must fit {wanted}, it has {list_differences(others)}")
    stages_of_both = (*trained.stages[:stages], *network.stages[stages:])
    described = dataclasses.replace(network, encoder=trained.encoder, stages=stages_of_both)
    weights = {name: np.asarray(values) for name, values in start.weights().items() if name in names}
    places = ("encoder.", *(f"stages.{stage}." for stage in range(stages)))
    initial = {path: number for path, number in start.initial.items() if path.startswith(places)}
    return Taken(described, weights, list_differences(rules), initial)


def _on_host(leaf: Any) -> Any:
    return np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf


def _differing(network: Network, recipe: Network, stages: int) -> list[tuple[str, Any, Any]]:
    """The `differences` of the first stages of two networks that have not learned."""
    now: Arrays = {}
    was: Arrays = {}
    found = differences(_described(network, stages, now), _described(recipe, stages, was))
    differing = [difference for difference in found if not _is_learned(*difference)]
    for path in now.keys() & was.keys():
        if not np.array_equal(now[path], was[path]):
            differing.append((path, now[path], was[path]))
    return differing


def _is_learned(path: str, now: Any, was: Any) -> bool:
    """Whether a difference is an array in place of a number: what a network of an earlier version has learned."""
    return isinstance(now, int | float) and isinstance(was, dict) and "array" in was


def _is_of_rule(path: str, layers: Mapping[str, Conv]) -> bool:
    """Whether a difference is one of the `RULES` of a layer, "layer1.learners.ltp", or a threshold that has learned."""
    name, _, rest = path.partition(".")
    field = rest.partition(".")[0]
    return name in layers and (field in RULES or (field == "threshold" and layers[name].own_thresholds))


def _described(network: Network, stages: int, arrays: Arrays) -> dict[str, Any]:
    """What the outputs of the first stages depend on, as JSON data by name; arrays are put into `arrays`."""
    parts: dict[str, Any] = dict(
        input="x".join(map(str, network.input_shape)),
        time_steps=network.time_steps,
        encoder=to_data(network.encoder, arrays, "encoder"),
    )
    for number, stage in enumerate(network.stages[:stages]):
        for name, conv in zip(network.names[number], stage.branches, strict=True):
            parts[name] = to_data(conv, arrays, name)
        title = f"stage{number + 1}"
        held: Arrays = {}
        parts[title] = to_data(stage, held, title)
        del parts[title]["branches"]
        arrays |= {path: array for path, array in held.items() if not path.startswith(f"{title}.branches.")}
    return parts
