"""Sums that do not depend on their order."""

import jax
import numpy as np
import pytest

from snnjax.kernels import exact

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("scale", [1e-3, 1e5])
def test_parts_of_an_array_add_up_to_it_and_have_few_bits(scale):
    values = np.float32(scale * RANDOM.standard_normal((5, 40)))
    parts = np.stack(jax.jit(exact.split, static_argnums=(1, 2))(values, 12, 2))
    largest = np.abs(values).max()
    np.testing.assert_allclose(parts.sum(axis=0), values, rtol=0, atol=largest * 2.0**-24)
    units = 2.0 ** (np.ceil(np.log2(largest)) - 12 * np.arange(1, 3)).reshape(2, 1, 1)
    np.testing.assert_array_equal(parts / units, np.round(parts / units))
    assert np.abs(parts / units).max() <= 2**12


def test_products_of_constants_and_integers_are_the_same_in_any_order():
    constants = exact.round_to_bits(RANDOM.standard_normal((3, 169)), 24)
    parts = exact.split_constants(constants, 255)
    np.testing.assert_array_equal(np.float64(parts).sum(axis=0), constants)
    pixels, order = RANDOM.integers(0, 256, 169).astype(np.float32), RANDOM.permutation(169)
    expected = np.float64(parts) @ np.float64(pixels)
    for taps, seen in ((parts, pixels), (parts[:, :, order], pixels[order])):
        np.testing.assert_array_equal(np.cumsum(taps * seen, axis=2, dtype=np.float32)[:, :, -1], expected)


def test_rounded_values_add_up_exactly_and_are_close():
    values = np.float32(RANDOM.uniform(0, 1, (4, 300)))
    rounded = exact.round_for_exact_sums(values)
    assert rounded.dtype == np.float32
    np.testing.assert_allclose(rounded, values, rtol=0, atol=values.sum(axis=1).max() * 2.0**-23)
    np.testing.assert_array_equal(exact.round_for_exact_sums(rounded), rounded)
    shuffled = RANDOM.permuted(rounded, axis=1)
    np.testing.assert_array_equal(np.cumsum(shuffled, axis=1, dtype=np.float32)[:, -1], np.float64(rounded).sum(axis=1))


@pytest.mark.filterwarnings("error")
def test_zeros_remain_as_they_are_and_values_that_are_not_finite_are_refused():
    zeros = np.zeros((5, 40), np.float32)
    np.testing.assert_array_equal(exact.round_for_exact_sums(zeros), zeros)
    np.testing.assert_array_equal(jax.jit(exact.split, static_argnums=(1, 2))(zeros, 12, 2), [zeros, zeros])
    with pytest.raises(ValueError, match="must be finite"):
        exact.round_for_exact_sums(np.float32([[1, np.inf]]))


def test_a_product_is_the_same_in_any_order():
    left, right = np.float32(RANDOM.standard_normal((3, 2000))), np.float32(RANDOM.uniform(0, 1, 2000))
    program, order = jax.jit(exact.product), RANDOM.permutation(2000)
    found = program(left, right)
    np.testing.assert_allclose(found, np.float64(left) @ np.float64(right), rtol=1e-6, atol=1e-5)
    np.testing.assert_array_equal(program(left[:, order], right[order]), found)
    np.testing.assert_array_equal(jax.vmap(exact.product)(np.stack([left, left]), np.stack([right, right]))[1], found)
