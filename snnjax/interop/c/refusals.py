"""Which networks can be programs in C."""

import math
from typing import Any

import numpy as np

from snnjax.core import checks
from snnjax.core.errors import InputError, wrong_type
from snnjax.encoding import Encoder, OnOff, Pixels
from snnjax.networks import Network, SpikingNetwork
from snnjax.networks.decision import Earliest, Majority
from snnjax.networks.model import check_fitted

MOST_STEPS = 255
MOST_INPUTS = 1 << 24
"""Inputs of a neuron, by far enough to keep potentials within 32 bits."""
ENCODERS = Encoder, OnOff, Pixels
DECISIONS = Earliest, Majority


def check(network: SpikingNetwork, image_shape: tuple[int, ...]) -> None:
    """Raises InputError where a network, on images of a shape, cannot be a program; weights are not checked."""
    if not isinstance(network, SpikingNetwork):
        raise wrong_type("network", "a SpikingNetwork", network, "snnjax.load(RUN)")
    spec = network.spec
    checks.integer("time_steps", spec.time_steps, 1, MOST_STEPS)
    for name, part, kinds in (("encoder", spec.encoder, ENCODERS), ("decision", spec.decision, DECISIONS)):
        if type(part) not in kinds:
            expected = ", ".join(kind.__name__ for kind in kinds)
            raise InputError(f"`{name}` of {spec.name} must be one of {expected} in C, got {type(part).__name__}")
    check_fitted(spec, "encoder")
    _check_encoder(spec, spec.encoder)
    _check_shape(spec, image_shape)
    for number in range(len(spec.stages)):
        _check_stage(spec, number)


def _check_encoder(spec: Network, encoder: Any) -> None:
    """Raises InputError where an `Encoder` does more than filters, local normalisation and rank order."""
    if not isinstance(encoder, Encoder):
        return
    settings = dict(pool=encoder.pool, inhibition=encoder.inhibition, pointwise=encoder.pointwise)
    settings |= {"bank.absolute": encoder.bank.absolute, "bank.reflect": encoder.bank.reflect}
    for name, value in settings.items():
        if value:
            raise InputError(f"`encoder` of {spec.name} must do without `{name}` in C, got {value}")


def _check_shape(spec: Network, image_shape: tuple[int, ...]) -> None:
    """Raises InputError unless images of this shape become the network's input."""
    if not isinstance(image_shape, tuple):
        raise wrong_type("image_shape", "a tuple such as (28, 28)", image_shape)
    for size in image_shape:
        checks.integer("image_shape", size, 1)
    becomes = spec.encoder.output_shape(image_shape)  # type: ignore[union-attr]
    if becomes != spec.input_shape:
        got = f"{image_shape}, which becomes {becomes}"
        raise InputError(f"`image_shape` must become {spec.input_shape}, the input of {spec.name}, got {got}")


def _check_stage(spec: Network, number: int) -> None:
    """Raises InputError unless stage `number` has one spiking layer, on the stage before, with thresholds as needed."""
    stage = spec.stages[number]
    title = f"stage {number + 1} of {spec.name}"
    if not spec.graph.plain(number) or spec.graph.sources(number) != (number,):
        raise InputError(f"{title} must read the one before alone in C, got `inputs` {stage.inputs}")
    if len(stage.branches) != 1:
        raise InputError(f"{title} must have one layer in C, got {len(stage.branches)}")
    (conv,) = stage.branches
    if conv.real:
        raise InputError(f"{title} must spike in C, got a layer with an `activation`")
    inputs = math.prod(spec.weight_shapes[spec.names[number][0]][1:])
    if inputs > MOST_INPUTS:
        raise InputError(f"{title} must have at most {MOST_INPUTS} inputs a neuron in C, got {inputs}")
    if conv.fractional:
        raise InputError(f"`fractional` of {title} must be False in C: spikes have whole steps")
    deciding = number == len(spec.stages) - 1
    if not deciding and conv.threshold is None:
        raise InputError(f"`threshold` of {title} must be a number in C, got None")
    if conv.threshold is not None and np.min(conv.threshold) < 0:
        raise InputError(f"`threshold` of {title} must be at least 0 in C, got {np.min(conv.threshold):.4g}")
