"""Checks of arguments where users come in: all static, so they cost nothing under `jax.jit`."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from snnjax.errors import InputError

Pair = int | tuple[int, int]
Bounds = tuple[float | jax.Array, float | jax.Array]


def array(name: str, value: object, axes: str | None) -> None:
    """Raises TypeError if `value` is no array, InputError if its rank is not that of `axes` ("C H W"; None: any)."""
    if not isinstance(value, jax.Array | np.ndarray):
        expected = "" if axes is None else f" of axes ({axes})"
        raise TypeError(f"`{name}` must be an array{expected}, got {type(value).__name__}")
    if axes is not None and value.ndim != len(axes.split()):
        raise InputError(f"`{name}` must have axes ({axes}), got shape {value.shape}")


def latency(name: str, value: object, axes: str | None = "C H W", *, time_steps: int = 0) -> None:
    """Raises TypeError or InputError unless `value` is an array of integers with `axes`, that can hold `time_steps`."""
    array(name, value, axes)
    dtype = value.dtype  # type: ignore[attr-defined]
    if not jnp.issubdtype(dtype, jnp.integer):
        raise TypeError(f"`{name}` must hold integer time steps, got dtype {dtype}")
    if time_steps > jnp.iinfo(dtype).max:
        raise InputError(f"`{name}` must be of a type that can hold {time_steps}, got dtype {dtype}")


def real(name: str, value: object, axes: str | None) -> None:
    """Raises TypeError or InputError unless `value` is an array of floats with `axes`."""
    array(name, value, axes)
    dtype = value.dtype  # type: ignore[attr-defined]
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"`{name}` must hold floats, got dtype {dtype}")


def integer(name: str, value: object, minimum: int) -> int:
    """Returns `value`; raises TypeError if it is no integer, InputError if it is below `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"`{name}` must be an integer, got {value!r}")
    if value < minimum:
        raise InputError(f"`{name}` must be at least {minimum}, got {value}")
    return int(value)


def pair(name: str, value: Pair, minimum: int) -> tuple[int, int]:
    """Returns `value` as (rows, columns); raises as `integer` does."""
    values: Sequence[int] = value if isinstance(value, tuple | list) else (value, value)
    if len(values) != 2:
        raise InputError(f"`{name}` must be one integer or two (rows, columns), got {value!r}")
    return integer(name, values[0], minimum), integer(name, values[1], minimum)


def time_steps(value: object) -> int:
    """Returns the number of time steps; raises TypeError or InputError unless it is an integer >= 1."""
    return integer("time_steps", value, 1)


def threshold(value: object) -> None:
    """Raises TypeError or InputError unless `value` is None, a finite number, or a real array of shape ()."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if _is_number(value):
        if not math.isfinite(value):  # type: ignore[arg-type]
            raise InputError(f"`threshold` must be finite, got {value}")
    elif value is not None:
        kind = getattr(value, "dtype", bool)
        real = jnp.issubdtype(kind, jnp.integer) or jnp.issubdtype(kind, jnp.floating)
        if getattr(value, "shape", None) != () or not real:
            raise TypeError(f"`threshold` must be a number or None, got {value!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def bounds(value: Bounds) -> None:
    """Raises InputError unless `value` is (lower, upper); of arrays the order is not known yet."""
    if len(value) != 2 or (all(map(_is_number, value)) and not value[0] < value[1]):
        raise InputError(f"`bounds` must be (lower, upper) with lower < upper, got {value}")


def convolution(latency_in: object, weights: object, *, name: str = "latency", time_steps: int = 0) -> None:
    """Raises TypeError or InputError unless `weights` (F, C, kh, kw) fit over `latency_in` (C, H, W), named `name`."""
    latency(name, latency_in, time_steps=time_steps)
    real("weights", weights, "F C kh kw")
    channels, *size = latency_in.shape  # type: ignore[attr-defined]
    _, expected, *kernel = weights.shape  # type: ignore[attr-defined]
    if channels != expected:
        raise InputError(f"`{name}` must have the {expected} channels of `weights`, got {channels}")
    window("the kernel of `weights`", kernel, size)


def window(name: str, kernel: Sequence[int], size: Sequence[int]) -> None:
    """Raises InputError if a window is larger than the map it slides over."""
    if kernel[0] > size[0] or kernel[1] > size[1]:
        raise InputError(f"{name} must fit into the map of {size[0]}x{size[1]}, got {kernel[0]}x{kernel[1]}")
