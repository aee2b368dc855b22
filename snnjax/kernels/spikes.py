"""Spikes as latencies: the two forms of a stimulus, padding and pooling.

A neuron fires at most once during a stimulus, so that its activity is a single integer, the *latency*: the time step of
the spike, or `time_steps` if the neuron stays silent. The *wave* of SpykeTorch represents the same as T binary frames.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from snnjax.core import checks
from snnjax.core.checks import Pair
from snnjax.core.errors import InputError, wrong_type
from snnjax.kernels.kernel import kernel


def latency_dtype(time_steps: int) -> jnp.dtype:
    """The smallest unsigned integer type that can represent latencies 0..time_steps."""
    # Not up to 256 steps: silence is the number T itself, and 256 would be step 0 in a byte.
    return jnp.dtype(jnp.uint8 if time_steps <= 255 else jnp.uint16 if time_steps <= 65535 else jnp.uint32)


def to_unsigned(latency: jax.Array, *, time_steps: int) -> jax.Array:
    """Latencies of any integer type converted to `latency_dtype`; values from `time_steps` on become silent."""
    dtype = latency_dtype(time_steps)
    # Without clipping, a latency of 256 would become 0 in a byte: silence would fire first.
    return latency if latency.dtype == dtype else jnp.clip(latency, 0, time_steps).astype(dtype)


@kernel("time_steps")
def latency_to_wave(latency: jax.Array, *, time_steps: int) -> jax.Array:
    """Latencies (...) as a cumulative spike wave (T, ...) bool: a neuron that fires at step t is 1 at t, t+1, ..."""
    checks.latency("latency", latency, None, time_steps=checks.time_steps(time_steps))
    steps = jnp.arange(time_steps, dtype=latency.dtype)
    return jnp.expand_dims(latency, 0) <= steps.reshape(-1, *(1,) * latency.ndim)


def _check_wave(wave: Any) -> None:
    checks.array("wave", wave, None)
    if not wave.ndim:
        raise InputError("`wave` must have axes (T ...), got shape ()")
    frames = checks.concrete_values(wave, np.generic)
    if frames is not None and len(frames) > 1 and ((frames[:-1] != 0) & (frames[1:] == 0)).any():
        write = "np.maximum.accumulate(wave)"
        raise InputError(f"`wave` must stay 1 once a neuron has fired, got a later 0: for single spikes write {write}")


@kernel(check=_check_wave)
def wave_to_latency(wave: jax.Array) -> jax.Array:
    """The latencies (...), unsigned, of a cumulative spike wave (T, ...) of any dtype; T for silent neurons."""
    time_steps = checks.time_steps(wave.shape[0])
    return (time_steps - jnp.count_nonzero(wave, axis=0)).astype(latency_dtype(time_steps))


@kernel("padding", "time_steps")
def pad(latency: jax.Array, padding: Pair, *, time_steps: int) -> jax.Array:
    """Surrounds each map with silent neurons: (C, H, W) to (C, H + 2 rows, W + 2 columns) of the same dtype."""
    checks.latency("latency", latency, time_steps=checks.time_steps(time_steps))
    rows, columns = checks.pair("padding", padding, 0)
    return jnp.pad(latency, ((0, 0), (rows, rows), (columns, columns)), constant_values=time_steps)


def windows(maps: jax.Array, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Iterator[jax.Array]:
    """For each element of a sliding window, row by row, its inputs at all positions: (C, H', W') views of (C, H, W)."""
    channels, height, width = maps.shape
    bottom = (height - kernel[0]) // stride[0] * stride[0] + 1
    right = (width - kernel[1]) // stride[1] * stride[1] + 1
    for row in range(kernel[0]):
        for column in range(kernel[1]):
            yield lax.slice(maps, (0, row, column), (channels, row + bottom, column + right), (1, *stride))


class Pooling(NamedTuple):
    """The settings of `kernels.pool`, for kernels that also pool their results.

    Attributes:
      window: rows and columns, or one integer for both.
      stride: rows and columns between neighbouring windows; None: the size of the window.
      padding: silent rows and columns on each side.
    """

    window: Pair = 1
    stride: Pair | None = None
    padding: Pair = 0

    @property
    def overlaps(self) -> bool:
        """Whether windows overlap."""
        strides = checks.pair("stride", self.window if self.stride is None else self.stride, 1)
        return any(step < size for step, size in zip(strides, checks.pair("window", self.window, 1), strict=True))

    def of(self, shape: tuple[int, ...]) -> "PooledMaps":
        """Maps of the shape (F, H, W), pooled."""
        size = checks.pair("window", self.window, 1)
        margins = checks.pair("pool padding", self.padding, 0)
        strides = checks.pair("pool stride", size if self.stride is None else self.stride, 1)
        padded = shape[1] + 2 * margins[0], shape[2] + 2 * margins[1]
        checks.window("`window`", size, padded)
        pooled = output_size(padded, size, strides)
        return PooledMaps((shape[0], *pooled), np.array([*size, *strides, *margins, *pooled], np.int64))


class PooledMaps(NamedTuple):
    """Maps after a `Pooling`.

    Attributes:
      shape: (F, H', W').
      setting: of a C++ kernel that pools them, (8,) int64.
    """

    shape: tuple[int, int, int]
    setting: np.ndarray


def check_pool(value: Any) -> None:
    """Raises InputTypeError unless the pooling that follows a layer is `Pooling`, or None."""
    if not isinstance(value, Pooling | None):
        write = f"kernels.Pooling({value})" if isinstance(value, int | tuple) else ""
        raise wrong_type("pool", "kernels.Pooling(...) or None", value, write)


@kernel("window", "stride", "padding", "time_steps")
def pool(
    latency: jax.Array, window: Pair, *, time_steps: int, stride: Pair | None = None, padding: Pair = 0
) -> jax.Array:
    """Max pooling of the spike wave: each window passes on its earliest spike. Incomplete windows are dropped.

    From (C, H, W), padded as by `pad`, to (C, H', W') of the same dtype, H' = (H + 2 padding - window) // stride + 1.
    The stride is the size of the window by default.
    """
    return _reduced(jnp.minimum, pad(latency, padding, time_steps=time_steps), window, stride)


@kernel("window", "stride", "padding", "time_steps")
def mean_pool(
    latency: jax.Array, window: Pair, *, time_steps: int, stride: Pair | None = None, padding: Pair = 0
) -> jax.Array:
    """Mean pooling, by neurons that fire in the time window after that of their inputs.

    Each neuron sums the steps that remain after the spikes of its inputs, T - input, and fires the earlier, the larger
    the sum is: latency = T - floor(sum of (T - input) / number of inputs). It is silent (T) if this mean is below 1.
    Shapes and dtypes are those of `pool`.
    """
    # In 32 bits, because the sum of a window does not fit the bytes of latencies.
    padded = pad(latency, padding, time_steps=time_steps).astype(jnp.int32)
    remaining = time_steps - jnp.clip(padded, 0, time_steps)
    sums = _reduced(jnp.add, remaining, window, stride)
    return (time_steps - sums // math.prod(checks.pair("window", window, 1))).astype(latency.dtype)


def _reduced(join: Callable[..., jax.Array], padded: jax.Array, window: Pair, stride: Pair | None) -> jax.Array:
    """What `join` makes of each window of padded maps (C, H, W): (C, H', W')."""
    size = checks.pair("window", window, 1)
    checks.window("`window`", size, padded.shape[1:])
    strides = checks.pair("stride", size if stride is None else stride, 1)
    tall = functools.reduce(join, windows(padded, (size[0], 1), (strides[0], 1)))  # rows first: less work
    return functools.reduce(join, windows(tall, (1, size[1]), (1, strides[1])))


def output_size(size: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...]) -> tuple[int, int]:
    """The numbers of rows and columns of positions at which a window fits on a map."""
    rows, columns = ((length - taken) // step + 1 for length, taken, step in zip(size, kernel, stride, strict=True))
    return rows, columns


def layer_shape(
    latency: tuple[int, ...], weights: tuple[int, ...], stride: Pair, padding: Pair
) -> tuple[int, int, int]:
    """The shape (F, H', W') of a layer's output, given the shapes (..., C, H, W) of its input and of its weights."""
    margins = checks.pair("padding", padding, 0)
    size = latency[-2] + 2 * margins[0], latency[-1] + 2 * margins[1]
    return weights[0], *output_size(size, weights[2:], checks.pair("stride", stride, 1))


@kernel("time_steps")
def linear_latency(values: jax.Array, *, time_steps: int) -> jax.Array:
    """Encodes values as latencies that fall linearly: 1 fires at the first step, and 0 stays silent.

    Maps (...) float, clipped to 0..1, to (...) unsigned integers, min(floor((1 - value) T), T - 1), or T for silent.
    """
    checks.array("values", values, None, "floats")
    dtype = latency_dtype(checks.time_steps(time_steps))
    values = values.astype(jnp.promote_types(values.dtype, jnp.float32))  # 16 bits do not hold many time steps
    step = jnp.minimum(((1 - jnp.clip(values, 0, 1)) * time_steps).astype(jnp.uint32), time_steps - 1)
    return jnp.where(values > 0, step, time_steps).astype(dtype)
