"""Joins, which combine the maps that a stage reads into one input."""

from typing import Protocol

import jax
import jax.numpy as jnp

from snnjax.core import checks
from snnjax.core.components import component
from snnjax.core.errors import InputError


class Join(Protocol):
    """A component that combines the maps that a stage reads, in order, into one input; a pure function."""

    def __call__(self, *maps: jax.Array, time_steps: int) -> jax.Array:
        """Maps several arrays of latencies, (C, H, W) each, to one, (C', H', W'), unsigned integers.

        Raises InputError if their shapes do not fit each other.
        """


@component
class Concatenate:
    """Concatenates the maps of all inputs along the channels, in order; their rows and columns must be equal.

    Examples:
      >>> import jax.numpy as jnp
      >>> from snnjax.networks import Concatenate
      >>> Concatenate()(jnp.zeros((4, 7, 7), jnp.uint8), jnp.zeros((8, 7, 7), jnp.uint8), time_steps=15).shape
      (12, 7, 7)
    """

    def __call__(self, *maps: jax.Array, time_steps: int) -> jax.Array:
        """From (C_i, H, W) to (sum of C_i, H, W)."""
        if len({x.shape[1:] for x in maps}) > 1:
            advice = "pool the larger ones by Input(..., pool=Pool(...)), or join them by Flatten()"
            raise InputError(f"`inputs` must have maps of one size, got {_shapes(maps)}: {advice}")
        return jnp.concatenate(maps)


@component
class EarliestSpike:
    """Each neuron fires with the first of its inputs, one from each map (the logical or of their spike waves).

    Examples:
      >>> import jax.numpy as jnp
      >>> from snnjax.networks import EarliestSpike
      >>> one, other = jnp.array([[[[3, 15]]], [[[5, 9]]]], jnp.uint8)  # two maps of two neurons; 15: silent
      >>> EarliestSpike()(one, other, time_steps=15).tolist()
      [[[3, 9]]]
    """

    def __call__(self, *maps: jax.Array, time_steps: int) -> jax.Array:
        """From latencies (C, H, W) each to latencies (C, H, W)."""
        return jnp.stack(_checked(self, maps, time_steps)).min(axis=0)


@component
class LatestSpike:
    """Each neuron fires with the last of its inputs, one from each map, if all fire (the logical and of the waves).

    Examples:
      >>> import jax.numpy as jnp
      >>> from snnjax.networks import LatestSpike
      >>> one, other = jnp.array([[[[3, 15]]], [[[5, 9]]]], jnp.uint8)  # two maps of two neurons; 15: silent
      >>> LatestSpike()(one, other, time_steps=15).tolist()
      [[[5, 15]]]
    """

    def __call__(self, *maps: jax.Array, time_steps: int) -> jax.Array:
        """From latencies (C, H, W) each to latencies (C, H, W)."""
        return jnp.stack(_checked(self, maps, time_steps)).max(axis=0)


@component
class Flatten:
    """All neurons of all inputs become channels of one position, so that a kernel of 1 reads whole maps.

    Examples:
      >>> import jax.numpy as jnp
      >>> from snnjax.networks import Flatten
      >>> Flatten()(jnp.zeros((4, 7, 7), jnp.uint8), jnp.zeros((8, 3, 3), jnp.uint8), time_steps=15).shape
      (268, 1, 1)
    """

    def __call__(self, *maps: jax.Array, time_steps: int) -> jax.Array:
        """From (C_i, H_i, W_i) to (sum of C_i * H_i * W_i, 1, 1)."""
        return jnp.concatenate([x.reshape(-1, 1, 1) for x in maps])


def _checked(join: Join, maps: tuple[jax.Array, ...], time_steps: int) -> tuple[jax.Array, ...]:
    """The maps; raises InputError unless they are latencies of one shape."""
    for latency in maps:
        checks.latency("inputs", latency, time_steps=time_steps)
    if len({x.shape for x in maps}) > 1:
        raise InputError(f"`inputs` of {type(join).__name__} must have one shape, got {_shapes(maps)}")
    return maps


def _shapes(maps: tuple[jax.Array, ...]) -> str:
    return " and ".join(str(x.shape) for x in maps)
