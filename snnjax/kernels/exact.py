"""Sums that are exact in float32, so that they do not depend on the order in which a device adds them up.

Floats are split into parts of few bits (Ozaki et al. 2012, Error-free transformations of matrix multiplication by using
fast routines of matrix multiplication). Products and sums of such parts are integers up to 2^24 times a power of two,
which float32 holds exactly.
"""

import jax
import jax.numpy as jnp
import numpy as np

MANTISSA = 24
"""Integers of so many bits are exact in float32."""
_LEAST = 2.0**-60  # below it all values count as 0


def split_constants(values: np.ndarray, largest: float) -> np.ndarray:
    """`values` as a sum of parts, (parts, ...) float32, whose products with integers up to `largest` add up exactly.

    Values are (F, ...), of which the products of each row are added up; all are multiples of one power of two, as
    `on_grid` makes them.
    """
    rest = np.asarray(values, np.float64)
    parts: list[np.ndarray] = []
    while rest.any() or not parts:
        parts.append(round_for_sums(rest, largest))
        rest = rest - parts[-1]
    return np.stack(parts).astype(np.float32)


def round_for_sums(values: np.ndarray, largest: float = 1) -> np.ndarray:
    """The nearest float64 whose products with integers up to `largest` add up exactly in float32, in any order.

    Values are (F, ...): the products of any entries of a row are added up. They become multiples of the least power of
    two that allows it, at most 2^-23 of the largest sum; what is rounded already stays as it is.
    """
    exact = np.asarray(values, np.float64)
    axes = tuple(range(1, exact.ndim))
    total = max(np.abs(exact).sum(axis=axes).max(initial=0), np.finfo(np.float32).tiny)
    unit = 2.0 ** np.floor(np.log2(total * largest) - MANTISSA)
    while True:
        rounded = np.round(exact / unit) * unit
        if np.abs(rounded).sum(axis=axes).max(initial=0) * largest <= unit * 2.0**MANTISSA:
            return rounded
        unit *= 2


def on_grid(values: np.ndarray, bits: int) -> np.ndarray:
    """The nearest multiples of a power of two, float64, of which the largest value has at most `bits` bits."""
    unit = np.ldexp(1.0, int(np.frexp(np.abs(values).max())[1]) - bits)
    return np.round(np.asarray(values, np.float64) / unit) * unit


def split(values: jax.Array, bits: int, parts: int) -> list[jax.Array]:
    """`values`, (...) float32, as a sum of parts, each of integers of at most `bits` bits times a power of two.

    All parts together hold `bits` * `parts` bits of the largest absolute value.
    """
    largest = jnp.max(jnp.abs(values), initial=_LEAST)
    unit = jnp.ldexp(jnp.float32(1), jnp.frexp(largest)[1] - bits)
    found = []
    for _ in range(parts):
        part = jnp.round(values / unit) * unit
        found.append(part)
        values = values - part
        unit = unit * 2.0**-bits
    return found
