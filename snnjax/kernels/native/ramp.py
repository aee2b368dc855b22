"""Neurons that fire on a ramp, in C++."""

import jax

from snnjax.core import checks
from snnjax.kernels.native import _call, _steps, byte_array
from snnjax.kernels.spikes import Pooling


def fire_on_ramp(potential: jax.Array, levels: jax.Array, pool: Pooling) -> jax.Array:
    """`kernels.fire_on_ramp` of potentials (H, W, F) float32, pooled: latencies (F, H', W') uint8.

    There are at most 255 levels.
    """
    checks.array("potential", potential, "H W F", "floats")
    checks.array("levels", levels, "T", "floats")
    _steps(levels.shape[0])
    height, width, features = potential.shape
    pooled, numbers = pool.of((features, height, width))
    return _call("ramp", byte_array(pooled), potential, levels, pool=numbers)
