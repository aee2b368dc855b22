"""Which networks can be programs in C."""

import math

from snnjax.core import checks
from snnjax.core.errors import InputError, wrong_type
from snnjax.interop import event_programs
from snnjax.networks import Network, SpikingNetwork

MOST_STEPS = 255
MOST_INPUTS = 1 << 24
"""Inputs of a neuron, by far enough to keep potentials within 32 bits."""


def check(network: SpikingNetwork, image_shape: tuple[int, ...]) -> None:
    """Raises InputError where a network, on images of a shape, cannot be a program; weights are not checked."""
    event_programs.check(network, "in C")
    spec = network.spec
    checks.integer("time_steps", spec.time_steps, 1, MOST_STEPS)
    _check_shape(spec, image_shape)
    for name, (_, *inputs) in spec.weight_shapes.items():
        if (count := math.prod(inputs)) > MOST_INPUTS:
            raise InputError(f"{name} of {spec.name} must have at most {MOST_INPUTS} inputs a neuron in C, got {count}")


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
