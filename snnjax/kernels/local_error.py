"""What a layer with its own head computes: weighted sums with gradients, block maxima, and means of parts.

References:
  Nøkland and Eidnes 2019, Training neural networks with local error signals (arXiv 1901.06656).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from snnjax.core import checks
from snnjax.core.checks import Pair
from snnjax.kernels import winograd
from snnjax.kernels.hebbian import reflected_patches, weighted_sums
from snnjax.kernels.kernel import kernel


class PatchSettings(NamedTuple):
    """The kernel, stride and padding by which patches are cut from a map.

    Attributes:
      kernel: rows and columns of a patch.
      stride: rows and columns between neighbouring patches.
      padding: rows and columns added on each side by reflection.
    """

    kernel: Pair
    stride: Pair = 1
    padding: Pair = 0

    def patches(self, values: jax.Array) -> jax.Array:
        """The patches of values (B, C, H, W): (B, H', W', K)."""
        cut = functools.partial(reflected_patches, kernel=self.kernel, stride=self.stride, padding=self.padding)
        return jax.vmap(cut)(values)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def patch_sums(values: jax.Array, weights: jax.Array, settings: PatchSettings) -> jax.Array:
    """The sums of the patches of values (B, C, H, W) float, weighted by (F, K): (B, H', W', F).

    Only the weights have a gradient; the values are treated as constants. For the gradient, the patches are computed
    again, because they need much more memory than the values.
    """
    return weighted_sums(settings.patches(values), weights)


def _patch_gradient(settings: PatchSettings, values: jax.Array, error: jax.Array) -> tuple[None, jax.Array]:
    positions = ((0, 1, 2), (0, 1, 2)), ((), ())
    return None, lax.dot_general(error, settings.patches(values), positions, precision=lax.Precision.HIGHEST)


patch_sums.defvjp(
    lambda values, weights, settings: (patch_sums(values, weights, settings), values),
    _patch_gradient,
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def tiled_patch_sums(values: jax.Array, tiles: jax.Array, padding: Pair) -> jax.Array:
    """As `patch_sums` for 3x3 patches, given `winograd.tile_weights`; only these have a gradient."""
    return jax.vmap(lambda stimulus: winograd.tiled_sums(stimulus, tiles, padding=padding))(values)


def _tiles_gradient(padding: Pair, values: jax.Array, error: jax.Array) -> tuple[None, jax.Array]:
    return None, winograd.tiled_gradient(values, error, padding=padding)


tiled_patch_sums.defvjp(
    lambda values, tiles, padding: (tiled_patch_sums(values, tiles, padding), values),
    _tiles_gradient,
)


@kernel("parts")
def part_means(maps: jax.Array, *, parts: int) -> jax.Array:
    """The means of maps (B, H, W, F) float over parts x parts of their area: (B, parts, parts, F).

    If H or W is not a multiple of `parts`, neighbouring parts share a row or column, as in adaptive average pooling.
    """
    checks.array("maps", maps, "B H W F", "floats")
    checks.integer("parts", parts, 1)
    count, height, width, features = maps.shape
    if height % parts == width % parts == 0:  # a product with weights takes up to four times as long
        blocks = maps.reshape(count, parts, height // parts, parts, width // parts, features)
        return blocks.mean(axis=(2, 4))
    down = _averages(height, parts)
    right = _averages(width, parts)
    return jnp.einsum("ph, bhwf, qw -> bpqf", down, maps, right, precision=jax.lax.Precision.HIGHEST)


@kernel("size")
def block_maxima(maps: jax.Array, *, size: int) -> jax.Array:
    """The maxima of maps (B, H, W, F) float in blocks of size x size: (B, H', W', F), H' and W' rounded up.

    The gradient of a maximum goes to the first of equal values, row by row.
    """
    checks.array("maps", maps, "B H W F", "floats")
    checks.integer("size", size, 1)
    if size == 1:
        return maps
    beyond = [(0, 0), (0, -maps.shape[1] % size), (0, -maps.shape[2] % size), (0, 0)]
    return _block_maxima(jnp.pad(maps, beyond, constant_values=-jnp.inf), size)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _block_maxima(maps: jax.Array, size: int) -> jax.Array:
    """The block maxima of maps whose rows and columns are multiples of `size`."""
    return _maxima_and_places(maps, size)[0]


def _maxima_and_places(maps: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """The maximum of each block, and its index within the block, row by row: (B, H / size, W / size, F) each."""
    count, height, width, features = maps.shape
    blocks = maps.reshape(count, height // size, size, width // size, size, features)
    largest = blocks[:, :, 0, :, 0]
    place = jnp.zeros(largest.shape, jnp.int32)
    for number in range(1, size * size):
        value = blocks[:, :, number // size, :, number % size]
        place = jnp.where(value > largest, number, place)
        largest = jnp.maximum(value, largest)
    return largest, place.astype(np.min_scalar_type(size * size))


def _blocks_gradient(size: int, place: jax.Array, error: jax.Array) -> tuple[jax.Array]:
    number = jnp.arange(size * size, dtype=place.dtype).reshape(1, 1, size, 1, size, 1)
    blocks = jnp.where(place[:, :, None, :, None] == number, error[:, :, None, :, None], 0)
    count, height, width, features = place.shape
    return (blocks.reshape(count, size * height, size * width, features),)


_block_maxima.defvjp(_maxima_and_places, _blocks_gradient)


def _averages(size: int, parts: int) -> np.ndarray:
    """The weight of each of `size` places in the mean of each part, (parts, size) float32."""
    place = np.arange(size)
    part = np.arange(parts)[:, None]
    inside = (place >= part * size // parts) & (place < -(-(part + 1) * size // parts))
    return (inside / inside.sum(axis=1, keepdims=True)).astype(np.float32)
