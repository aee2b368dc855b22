"""Sums that are exact in float32, so that they do not depend on the order in which a device adds their terms.

Floats are split into parts with few bits (Ozaki et al. 2012, Error-free transformations of matrix multiplication by
using fast routines of matrix multiplication). Products and sums of these parts are integers up to 2^24 times a power of
two, which float32 represents exactly. The sums of the parts are added in a fixed order.
"""

import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

MANTISSA = 24
"""Integers with this number of bits are exact in float32."""
_LEAST = 2.0**-60  # smaller values count as 0


def split_constants(values: np.ndarray, largest: float) -> np.ndarray:
    """`values` as a sum of parts, (parts, ...) float32, whose products with integers up to `largest` have exact sums.

    Values are (F, ...), and the products of each row are added up. All values must be multiples of one power of two,
    like the results of `round_to_bits`.
    """
    rest = np.asarray(values, np.float64)
    parts: list[np.ndarray] = []
    while rest.any() or not parts:
        parts.append(round_for_exact_sums(rest, largest))
        rest = rest - parts[-1]
    return np.stack(parts).astype(np.float32)


def round_for_exact_sums(values: np.ndarray, largest: float = 1) -> np.ndarray:
    """The nearest values whose products with integers up to `largest` have exact sums in float32, in any order.

    Values are finite floats (F, ...); the products of any entries of a row are added up. They are rounded to multiples
    of the smallest power of two that makes these sums exact, at most 2^-23 of the largest sum. Values that are already
    rounded stay as they are. Raises ValueError for values that are not finite.
    """
    axes = tuple(range(1, values.ndim))

    def largest_sum(values: np.ndarray) -> float:
        return float(np.abs(values).sum(axis=axes, dtype=np.float64).max(initial=0))

    if not np.isfinite(values).all():
        raise ValueError(f"`values` must be finite, got {values[~np.isfinite(values)][0]}")
    tiny = float(np.finfo(np.float32).tiny)
    unit = max(2.0 ** np.floor(np.log2(max(largest_sum(values), tiny) * largest) - MANTISSA), tiny)
    while True:
        rounded = np.round(values / values.dtype.type(unit)) * values.dtype.type(unit)
        # Rounding up may push the largest sum beyond the integers that float32 represents exactly; then the next unit
        # is tried.
        if largest_sum(rounded) * largest <= unit * 2.0**MANTISSA:
            return rounded
        unit *= 2


def round_to_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """The nearest multiples of a power of two, float64, chosen so that the largest value has at most `bits` bits."""
    unit = np.ldexp(1.0, int(np.frexp(np.abs(values).max())[1]) - bits)
    return np.round(np.asarray(values, np.float64) / unit) * unit


def split(values: jax.Array, bits: int, parts: int) -> list[jax.Array]:
    """`values`, (...) float32, as a sum of parts, each of which holds integers of `bits` bits times a power of two.

    All parts together hold `bits` * `parts` bits of the largest absolute value.
    """
    largest = jnp.max(jnp.abs(values), initial=_LEAST)
    unit = jnp.ldexp(jnp.float32(1), jnp.frexp(largest)[1] - bits)
    pieces = []
    for _ in range(parts):
        part = jnp.round(values / unit) * unit
        pieces.append(part)
        values = values - part
        unit = unit * 2.0**-bits
    return pieces


def add(parts: Iterable[jax.Array]) -> jax.Array:
    """The sum of arrays of the same shape, added one after the other, so that it is always rounded in the same way."""
    return functools.reduce(jnp.add, parts)


def product(left: jax.Array, right: jax.Array) -> jax.Array:
    """The product of a matrix (M, K) and a vector (K,), (M,) float32, which is the same for any order of the sums.

    It is as exact as sums in float32.
    """
    bits = max(1, (MANTISSA - (right.size - 1).bit_length()) // 2)
    count = -(-MANTISSA // bits)
    lefts = jnp.stack(split(left, bits, count))
    rights = jnp.stack(split(right, bits, count))
    # Sums are exact only if products keep all 24 bits; the default precision of accelerators rounds factors to fewer.
    sums = jnp.einsum("imk,jk->ijm", lefts, rights, precision=lax.Precision.HIGHEST)
    pairs = sorted((i + j, i, j) for i in range(count) for j in range(count) if i + j <= count)
    return add(sums[i, j] for _, i, j in reversed(pairs))
