"""Neurons that fire on a ramp, in C++."""

import jax

from snnjax.core import checks
from snnjax.kernels.native import Pooling, _call, _steps, byte_array


def fire_on_ramp(sums: jax.Array, threshold: jax.Array, levels: jax.Array, pool: Pooling) -> jax.Array:
    """`kernels.fire_on_ramp` of sums (H, W, F) less thresholds (F,), all float32: (F, H', W') uint8, pooled.

    There are at most 255 levels.
    """
    checks.array("sums", sums, "H W F", "floats")
    checks.array("levels", levels, "T", "floats")
    _steps(levels.shape[0])
    height, width, features = sums.shape
    checks.shape("threshold", threshold, (features,), "`sums`")
    pooled, numbers = pool.of((features, height, width))
    return _call("ramp", byte_array(pooled), sums, threshold, levels, batched=True, pool=numbers)
