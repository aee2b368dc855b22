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
    rest = np.float64(values)
    axes = tuple(range(1, rest.ndim))
    parts = []
    while rest.any() or not parts:
        total = max(np.abs(rest).sum(axis=axes).max(), np.finfo(np.float32).tiny)
        unit = 2.0 ** np.floor(np.log2(total * largest) - MANTISSA)
        part = np.round(rest / unit) * unit
        while np.abs(part).sum(axis=axes).max() * largest > unit * 2.0**MANTISSA:
            unit *= 2
            part = np.round(rest / unit) * unit
        parts.append(part)
        rest = rest - part
    return np.stack(parts).astype(np.float32)


def on_grid(values: np.ndarray, bits: int) -> np.ndarray:
    """The nearest multiples of a power of two, float64, of which the largest value has at most `bits` bits."""
    unit = np.ldexp(1.0, int(np.frexp(np.abs(values).max())[1]) - bits)
    return np.round(np.float64(values) / unit) * unit


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
