"""Sums that do not depend on their order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnjax.kernels import exact

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e5])
def test_parts_of_an_array_add_up_to_it_and_have_few_bits(scale):
    values = np.float32(scale * RANDOM.standard_normal((5, 40)))
    parts = np.stack(exact.split(jnp.asarray(values), 12, 2))
    largest = np.abs(values).max()
    np.testing.assert_allclose(parts.sum(axis=0), values, rtol=0, atol=largest * 2.0**-24)
    for at, part in enumerate(parts):
        unit = 2.0 ** (np.ceil(np.log2(largest)) - 12 * (at + 1))
        np.testing.assert_array_equal(part / unit, np.round(part / unit))
        assert np.abs(part / unit).max() <= 2**12


def test_an_array_of_zeros_has_parts_of_zeros():
    np.testing.assert_array_equal(exact.split(jnp.zeros(3), 12, 2), np.zeros((2, 3)))


def test_products_of_constants_and_integers_are_the_same_in_any_order():
    constants = exact.on_grid(RANDOM.standard_normal((3, 169)), 24)
    parts = exact.split_constants(constants, 255)
    np.testing.assert_array_equal(np.float64(parts).sum(axis=0), constants)
    pixels = RANDOM.integers(0, 256, 169).astype(np.float32)
    order = RANDOM.permutation(169)
    for part in parts:
        expected = np.float64(part) @ np.float64(pixels)
        for taps, seen in ((part, pixels), (part[:, order], pixels[order])):
            np.testing.assert_array_equal(jnp.matmul(taps, seen, precision=jax.lax.Precision.HIGHEST), expected)
            np.testing.assert_array_equal(np.cumsum(taps * seen, axis=1, dtype=np.float32)[:, -1], expected)
