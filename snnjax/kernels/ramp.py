"""Neurons that fire in the window after that of their inputs, as the threshold falls on a ramp.

Time is divided into windows of T steps. In one window a neuron adds up its inputs: each that fires adds its weight to
the slope of the potential, so that an early spike counts for all the steps that remain. In the next window the
threshold falls from level to level, one a step, and the neuron fires once a level has come down to its potential. So
the strongest fire first, and what passes between layers is one spike a neuron, as in first-spike codes of trained
networks (Rueckauer and Liu 2018, doi 10.1109/ISCAS.2018.8351295; Stanojevic et al. 2024, doi
10.1038/s41467-024-51110-5).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from snnjax.core import checks
from snnjax.core.errors import InputError
from snnjax.kernels import hebbian
from snnjax.kernels.kernel import byte_array, dispatch, kernel, native_call, supports_native
from snnjax.kernels.spikes import Pooling, latency_dtype


@kernel("time_steps")
def remaining_steps(latency: jax.Array, *, time_steps: int) -> jax.Array:
    """T - latency, float32 of the shape of `latency`: the steps of the window that remain to a spike, 0 of silence."""
    checks.latency("latency", latency, None, time_steps=checks.time_steps(time_steps))
    return time_steps - jnp.clip(latency, 0, time_steps).astype(jnp.float32)


def _check_ramp(potential: Any, levels: Any) -> None:
    checks.array("potential", potential, None, "floats")
    checks.array("levels", levels, "T", "floats")
    checks.not_empty("levels", levels)
    known = checks.concrete_values(levels, jnp.floating)
    if known is not None and not (known[1:] <= known[:-1]).all():
        raise InputError("`levels` must fall from step to step, got levels that rise or are NaN")


@kernel(check=_check_ramp)
def fire_on_ramp(potential: jax.Array, levels: jax.Array) -> jax.Array:
    """Latencies (...) of neurons of potentials (...) float32 at the end of the window before.

    A neuron fires at the first step t at which its potential is at least levels[t], (T,) float32, falling; else never.
    """
    later = jnp.searchsorted(-levels, -potential, method="scan_unrolled")
    return later.astype(latency_dtype(levels.shape[0]))


def _check_pooled_ramp(potential: Any, levels: Any, **_: Any) -> None:
    checks.array("potential", potential, "H W F", "floats")
    _check_ramp(potential, levels)


@kernel("pool", check=_check_pooled_ramp)
def fire_pooled_on_ramp(potential: jax.Array, levels: jax.Array, pool: Pooling) -> jax.Array:
    """`fire_on_ramp` of potentials (H, W, F) float32, pooled as by `pool`: latencies (F, H', W')."""
    height, width, features = potential.shape
    maps = pool.of((features, height, width))
    run_native = native_call("ramp", byte_array(maps.shape), pool=maps.setting)

    def xla(potential: jax.Array, levels: jax.Array) -> jax.Array:
        maps = jnp.moveaxis(potential, -1, 0)
        # The strongest neuron of a window is the earliest: fewer fire if they are pooled first.
        largest = hebbian.pool_largest(maps, pool.window, stride=pool.stride, padding=pool.padding)
        return fire_on_ramp(largest, levels)

    supported = supports_native(potential, len(levels)) and levels.dtype == jnp.float32
    return dispatch(supported, run_native, xla)(potential, levels)


def ramp_levels(highest: float, *, power: float, time_steps: int) -> np.ndarray:
    """Levels (T,) float32 that fall from `highest` as (1 - t / T)^(1 / power).

    So the steps that remain to a spike are T (potential / highest)^power, rounded down and at most T.
    """
    checks.number("highest", highest, above=0)
    checks.number("power", power, above=0)
    checks.time_steps(time_steps)
    remaining = 1 - np.arange(time_steps) / time_steps
    return (highest * remaining ** (1 / power)).astype(np.float32)


class Integrator(NamedTuple):
    """What makes potentials of inputs.

    Attributes:
      weights: (F, K) float32, in the order of `hebbian.reflected_patches`.
      threshold: (F,) float32, subtracted from the sums.
      tiles: `winograd.tile_weights`, by which sums are computed if given.
    """

    weights: jax.Array
    threshold: jax.Array
    tiles: jax.Array | None = None
