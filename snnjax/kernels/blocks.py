"""What compiled kernels on blocks of images are given: latencies (S, C, H, W) uint8, weights (kh, kw, F, C) float32."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from snnjax.core import checks
from snnjax.core.checks import Bounds, Number, Pair
from snnjax.core.errors import InputError, InputTypeError
from snnjax.kernels.spikes import output_size


def place(
    weights: jax.Array, shape: tuple[int, ...], padding: Pair, stride: Pair
) -> tuple[tuple[int, int, int], np.ndarray]:
    """(F, H', W') of a layer on inputs (..., C, H, W), and the setting of a call; raises where weights do not fit."""
    checks.array("weights", weights, "kh kw F C")
    if weights.dtype != jnp.float32:
        raise InputTypeError(f"`weights` must be float32 for native kernels, got {weights.dtype}")
    rows, columns, features, channels = weights.shape
    margins = checks.pair("padding", padding, 0)
    strides = checks.pair("stride", stride, 1)
    size = shape[-2] + 2 * margins[0], shape[-1] + 2 * margins[1]
    checks.fits("latencies", (shape[-3], *size), "weights", (channels, rows, columns))
    return (features, *output_size(size, (rows, columns), strides)), np.array([*margins, *strides], np.int64)


def check_latencies(latencies: jax.Array, time_steps: int) -> tuple[int, ...]:
    """The shape of latencies; raises where they are not (S, C, H, W) uint8, or known to exceed the time steps."""
    checks.array("latencies", latencies, "S C H W")
    if latencies.dtype != jnp.uint8:
        raise InputTypeError(f"`latencies` must be uint8 for native kernels, got {latencies.dtype}")
    checks.check_latency_range("latencies", latencies, time_steps)
    return latencies.shape


def check_shape(name: str, array: Any, shape: tuple[int, ...], dtype: str = "") -> None:
    """Raises where an array is not of this shape, and of this dtype if one is given."""
    if np.shape(array) != shape:
        raise InputError(f"`{name}` must have shape {shape}, got {np.shape(array)}")
    if dtype and (found := array.dtype if hasattr(array, "dtype") else np.asarray(array).dtype) != dtype:
        raise InputTypeError(f"`{name}` must be {dtype} for native kernels, got {found}")


def limits(threshold: Number, radius: Number) -> tuple[jax.Array, jax.Array]:
    """A threshold of all features, (1,) float32, and the radius of inhibition, (1,) int32."""
    checks.radius(radius)
    return common_threshold(threshold), jnp.asarray(radius, jnp.int32).reshape(1)


def common_threshold(threshold: Number) -> jax.Array:
    """(1,) float32; raises where each feature has its own."""
    if np.ndim(threshold):
        raise InputError(f"`threshold` must be one number for native kernels, got shape {np.shape(threshold)}")
    return jnp.asarray(threshold, jnp.float32).reshape(1)


def ends(bounds: Bounds) -> jax.Array:
    """The bounds as an array, (2,) float32; raises where these are known and not `finite`."""
    checks.bounds(bounds)
    if all(isinstance(bound, int | float | np.number) for bound in bounds) and not finite(bounds):
        raise InputError(f"`bounds` must be finite for native kernels, got {bounds}")
    return jnp.stack([jnp.asarray(bound, jnp.float32) for bound in bounds])


def finite(bounds: Bounds) -> bool:
    """Whether integers can stand for weights between these bounds."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.float32(bounds[1]) - np.float32(bounds[0])))
