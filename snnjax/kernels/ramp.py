"""Neurons that fire in the window after that of their inputs, when a falling threshold reaches their potential.

Time is divided into windows of T time steps. In one window, a neuron adds up its inputs: each input that fires adds its
weight to the slope of the potential, so that an early spike counts for all time steps that remain. In the next window,
the threshold falls by one level per time step, and the neuron fires as soon as a level is not above its potential. The
strongest neurons therefore fire first, and each neuron sends at most one spike to the next layer, as in first-spike
codes of trained networks (Rueckauer and Liu 2018, doi 10.1109/ISCAS.2018.8351295; Stanojevic et al. 2024, doi
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
    """T - latency, float32 of the shape of `latency`: the time steps left in the window after a spike, 0 if silent."""
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
    """Latencies (...) of neurons with the potentials (...) float32 at the end of the previous window.

    A neuron fires at the first time step t at which its potential is at least levels[t], and stays silent if there is
    none. `levels` are (T,) float32 and must fall.
    """
    later = jnp.searchsorted(-levels, -potential, method="scan_unrolled")
    return later.astype(latency_dtype(levels.shape[0]))


def _check_pooled_ramp(potential: Any, levels: Any, **_: Any) -> None:
    checks.array("potential", potential, "H W F", "floats")
    _check_ramp(potential, levels)


@kernel("pool", check=_check_pooled_ramp)
def fire_pooled_on_ramp(potential: jax.Array, levels: jax.Array, pool: Pooling) -> jax.Array:
    """`fire_on_ramp` of potentials (H, W, F) float32, followed by pooling with `pool`: latencies (F, H', W')."""
    height, width, features = potential.shape
    maps = pool.of((features, height, width))
    run_native = native_call("ramp", byte_array(maps.shape), pool=maps.setting)

    def xla(potential: jax.Array, levels: jax.Array) -> jax.Array:
        maps = jnp.moveaxis(potential, -1, 0)
        # The strongest neuron of a pooling window is also the earliest. Pooling first leaves fewer neurons to fire.
        largest = hebbian.pool_largest(maps, pool.window, stride=pool.stride, padding=pool.padding)
        return fire_on_ramp(largest, levels)

    supported = supports_native(potential, len(levels)) and levels.dtype == jnp.float32
    return dispatch(supported, run_native, xla)(potential, levels)


def ramp_levels(highest: float, *, power: float, time_steps: int) -> np.ndarray:
    """Levels (T,) float32 that fall from `highest` as (1 - t / T)^(1 / power).

    The time steps that remain after a spike are therefore T (potential / highest)^power, rounded down and at most T.
    """
    checks.number("highest", highest, above=0)
    checks.number("power", power, above=0)
    checks.time_steps(time_steps)
    remaining = 1 - np.arange(time_steps) / time_steps
    return (highest * remaining ** (1 / power)).astype(np.float32)


class Integrator(NamedTuple):
    """The arrays from which the potentials of a layer are computed.

    Attributes:
      weights: (F, K) float32, in the order of `hebbian.reflected_patches`.
      threshold: (F,) float32, subtracted from the sums.
      tiles: the result of `winograd.tile_weights`, with which the sums are computed if it is given.
    """

    weights: jax.Array
    threshold: jax.Array
    tiles: jax.Array | None = None
