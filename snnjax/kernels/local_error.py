"""What a layer with a head of its own computes: weighted sums with gradients, block maxima, and means of parts.

References:
  Nøkland and Eidnes 2019, Training neural networks with local error signals (arXiv 1901.06656).
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from snnjax.core import checks, devices
from snnjax.core.checks import Pair
from snnjax.kernels import winograd
from snnjax.kernels.hebbian import reflected_patches, weighted_sums
from snnjax.kernels.kernel import kernel

# Positions that a CPU computes at a time, so that their patches stay in its cache. The gradients of the first two
# layers of local_narrow take 23 and 31 ms for 128 stimuli, instead of 42 and 56 ms for all at once. That of the second
# takes 129 ms where JAX derives it from `tiled_sums`.
_POSITIONS = 4096


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

    Only the weights have a gradient: the values count as constants.
    """
    positions = math.prod(jax.eval_shape(settings.patches, values).shape[1:3])
    groups = _groups(values, positions)
    sums = lax.map(lambda group: weighted_sums(settings.patches(group), weights), groups)
    return sums.reshape(len(values), *sums.shape[2:])


def _patch_gradient(settings: PatchSettings, values: jax.Array, error: jax.Array) -> tuple[None, jax.Array]:
    def of_group(values: jax.Array, error: jax.Array) -> jax.Array:
        positions = ((0, 1, 2), (0, 1, 2)), ((), ())
        return lax.dot_general(error, settings.patches(values), positions, precision=lax.Precision.HIGHEST)

    return None, _summed_over_groups(of_group, values, error)


patch_sums.defvjp(
    lambda values, weights, settings: (patch_sums(values, weights, settings), values),
    _patch_gradient,
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def tiled_patch_sums(values: jax.Array, tiles: jax.Array, padding: Pair) -> jax.Array:
    """As `patch_sums` of patches of 3x3, from `winograd.tile_weights`: only they have a gradient."""
    return jax.vmap(lambda stimulus: winograd.tiled_sums(stimulus, tiles, padding=padding))(values)


def _tiles_gradient(padding: Pair, values: jax.Array, error: jax.Array) -> tuple[None, jax.Array]:
    return None, _summed_over_groups(functools.partial(winograd.tiled_gradient, padding=padding), values, error)


tiled_patch_sums.defvjp(
    lambda values, tiles, padding: (tiled_patch_sums(values, tiles, padding), values),
    _tiles_gradient,
)


def _summed_over_groups(
    gradient: Callable[[jax.Array, jax.Array], jax.Array], values: jax.Array, error: jax.Array
) -> jax.Array:
    """The sum of the gradients that groups of stimuli give, from values (B, C, H, W) and error (B, H', W', F)."""
    positions = math.prod(error.shape[1:3])
    groups = _groups(values, positions), _groups(error, positions)
    of_group = jax.eval_shape(gradient, *(group[0] for group in groups))
    start = jnp.zeros(of_group.shape, of_group.dtype)

    def add(total: jax.Array, group: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        return total + gradient(*group), None

    return lax.scan(add, start, groups)[0]


def _groups(arrays: jax.Array, positions: int) -> jax.Array:
    """Arrays (B, ...), of stimuli with so many positions each, in groups that are computed at once: (B / G, G, ...)."""
    count = len(arrays)
    size = count
    if devices.local_devices()[0].platform == "cpu":
        largest = max(1, _POSITIONS // positions)
        # The largest divisor: by the greatest common one 128 stimuli with maps of 7x7 would be computed one by one.
        size = max(size for size in range(1, min(largest, count) + 1) if count % size == 0)
    return arrays.reshape(count // size, size, *arrays.shape[1:])


@kernel("parts")
def part_means(maps: jax.Array, *, parts: int) -> jax.Array:
    """The means of maps (B, H, W, F) float over parts x parts of their area: (B, parts, parts, F).

    Where H or W is no multiple of `parts`, neighbouring parts share a row or column, as in adaptive average pooling.
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
    """The maxima of maps (B, H, W, F) float in blocks of size x size: (B, H', W', F), H' and W' rounded up."""
    checks.array("maps", maps, "B H W F", "floats")
    checks.integer("size", size, 1)
    if size == 1:
        return maps
    count, height, width, features = maps.shape
    beyond = [(0, 0), (0, -height % size), (0, -width % size), (0, 0)]
    whole = jnp.pad(maps, beyond, constant_values=-jnp.inf)
    blocks = whole.reshape(count, whole.shape[1] // size, size, whole.shape[2] // size, size, features)
    return blocks.max(axis=(2, 4))


def _averages(size: int, parts: int) -> np.ndarray:
    """The weight of each of `size` places in the mean of each part, (parts, size) float32."""
    place = np.arange(size)
    part = np.arange(parts)[:, None]
    inside = (place >= part * size // parts) & (place < -(-(part + 1) * size // parts))
    return (inside / inside.sum(axis=1, keepdims=True)).astype(np.float32)
