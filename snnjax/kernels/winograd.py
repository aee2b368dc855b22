"""Weighted sums of 3x3 patches with fewer products: Winograd's algorithm F(4x4, 3x3).

Reference:
  Lavin and Gray 2016, Fast algorithms for convolutional neural networks (arXiv 1509.09308).
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from snnjax.core import checks
from snnjax.core.checks import Pair
from snnjax.kernels.hebbian import reflected
from snnjax.kernels.kernel import kernel

# These matrices map the six values of a tile to the first factors of its six products, three weights to the second
# factors, and the six products to four sums.
_OF_VALUES = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_OF_WEIGHTS = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
_OF_PRODUCTS = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
# Tiles for 2x2 sums, with 16 products for 4 sums, were not faster. Nor were larger blocks that share the weights of a
# product.
_SUMS = 4
_TILE = 6


@kernel()
def tile_weights(weights: jax.Array) -> jax.Array:
    """The weights (F, C, 3, 3) float in the form that `tiled_sums` expects: (6, 6, F, C)."""
    checks.array("weights", weights, "F C kh kw", "floats")
    checks.shape("weights", weights, (*weights.shape[:2], 3, 3), "3 rows and columns")
    columns = []
    for column in range(3):
        taps = [weights[:, :, row, column] for row in range(3)]
        columns.append(_combined(_OF_WEIGHTS, taps))
    rows = [jnp.stack(_combined(_OF_WEIGHTS, taps)) for taps in zip(*columns, strict=True)]
    return jnp.stack(rows)


@kernel("padding")
def tiled_sums(values: jax.Array, weights: jax.Array, *, padding: Pair = 0) -> jax.Array:
    """The `weighted_sums` of 3x3 `reflected_patches` of values (C, H, W) float, with `tile_weights`: (H', W', F).

    For `weighted_sums`, the same weights (F, C, 3, 3) are `weights.transpose(0, 2, 3, 1).reshape(F, 9 * C)`.
    A tile of 6x6 values gives 4x4 sums with 36 products instead of 144. The results are rounded differently: the
    difference is about 1e-5 of the largest sum.
    """
    checks.array("values", values, "C H W", "floats")
    checks.array("weights", weights, "6 6 F C", "floats")
    checks.shape("weights", weights, (_TILE, _TILE, weights.shape[2], len(values)), "`values`")
    padded = reflected(values, padding)
    checks.window("the kernel", (3, 3), padded.shape[:2])
    height = padded.shape[0] - 2
    width = padded.shape[1] - 2
    whole = jnp.pad(padded, ((0, -height % _SUMS), (0, -width % _SUMS), (0, 0)))
    # A loop goes through the six rows of a tile. The results are bit-identical to those of one product for all rows,
    # but compilation takes 3.9 s instead of 7.1 s, and an image of goupy2024_softhebb 3.3 ms instead of 3.7 ms.
    rows = lax.map(_row_sums, (jnp.stack(_factors(whole, axis=0)), weights))  # (6, H'/4, W'/4, 4, F)
    tiles = jnp.stack(_combined(_OF_PRODUCTS, rows), axis=1)  # (H'/4, 4, W'/4, 4, F)
    return tiles.reshape(_SUMS * tiles.shape[0], _SUMS * tiles.shape[2], -1)[:height, :width]


@kernel("padding")
def tiled_gradient(values: jax.Array, error: jax.Array, *, padding: Pair = 0) -> jax.Array:
    """The gradient with respect to the tile weights of `tiled_sums`, (6, 6, F, C), summed over B stimuli.

    Their values are (B, C, H, W) float, and `error`, (B, H', W', F) float, is the gradient with respect to their sums.
    """
    checks.array("values", values, "B C H W", "floats")
    checks.array("error", error, "B H W F", "floats")
    padded = jax.vmap(functools.partial(reflected, padding=padding))(values)
    height, width = error.shape[1:3]
    checks.shape("values", padded, (len(error), height + 2, width + 2, values.shape[1]), "`error`, padded")
    beyond = [(0, 0), (0, -height % _SUMS), (0, -width % _SUMS), (0, 0)]
    rows = jnp.stack(_factors(jnp.pad(padded, beyond), axis=1))
    tiles = jnp.pad(error, beyond)
    tiles = tiles.reshape(len(tiles), tiles.shape[1] // _SUMS, _SUMS, tiles.shape[2] // _SUMS, _SUMS, -1)
    errors = jnp.stack(_combined(_OF_PRODUCTS.T, jnp.moveaxis(tiles, 2, 0)))
    return lax.map(_row_gradient, (rows, errors))


def _row_gradient(row_and_error: tuple[jax.Array, jax.Array]) -> jax.Array:
    """The gradient of weights, (6, F, C), from one row of values, (B, H'/4, W, C), and error, (B, H'/4, W'/4, 4, F)."""
    row, error = row_and_error
    # Without the barriers, XLA would compute both twice.
    factors = lax.optimization_barrier(jnp.stack(_factors(row, axis=2)))
    errors = lax.optimization_barrier(jnp.stack(_combined(_OF_PRODUCTS.T, jnp.moveaxis(error, 3, 0))))
    contracted = ((1, 2, 3), (1, 2, 3)), ((0,), (0,))
    return lax.dot_general(errors, factors, contracted, precision=lax.Precision.HIGHEST)


def _row_sums(row_and_weights: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Four sums per tile, (H'/4, W'/4, 4, F), from one row of its values, (H'/4, W, C), and weights, (6, F, C)."""
    row, weights = row_and_weights
    factors = lax.optimization_barrier(jnp.stack(_factors(row, axis=1)))  # otherwise XLA would compute them twice
    products = lax.dot_general(factors, weights, (((3,), (2,)), ((0,), (0,))), precision=lax.Precision.HIGHEST)
    return jnp.stack(_combined(_OF_PRODUCTS, products), axis=2)


def _factors(values: jax.Array, axis: int) -> list[jax.Array]:
    """The six factors of each tile of six values along an axis; each tile begins four values after the previous one."""
    last = values.shape[axis] - _TILE + 1
    tiles = [lax.slice_in_dim(values, place, last + place, stride=_SUMS, axis=axis) for place in range(_TILE)]
    return _combined(_OF_VALUES, tiles)


def _combined(matrix: np.ndarray, parts: Sequence[jax.Array] | jax.Array) -> list[jax.Array]:
    """The product of a small matrix and a vector of arrays, or of one array whose first axis is that of the vector."""
    sums = []
    for row in matrix.tolist():
        terms = [part if factor == 1 else factor * part for factor, part in zip(row, parts, strict=True) if factor]
        sums.append(functools.reduce(jnp.add, terms))
    return sums
