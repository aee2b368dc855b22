"""What a layer with a linear readout of its own computes: differentiable sums, and their means over parts of the map.

References:
  Nøkland and Eidnes 2019, Training neural networks with local error signals (arXiv 1901.06656).
"""

import functools
import math
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


class Windows(NamedTuple):
    """Where the patches of a map lie, and how their weighted sums are computed.

    Attributes:
      kernel: rows and columns of a patch.
      stride: from one to the next.
      padding: margins, by reflection.
      tiled: whether sums are computed by Winograd's tiles, for patches of 3x3.
    """

    kernel: Pair
    stride: Pair = 1
    padding: Pair = 0
    tiled: bool = False

    def patches(self, values: jax.Array) -> jax.Array:
        """The patches of values (B, C, H, W): (B, H', W', K)."""
        cut = functools.partial(reflected_patches, kernel=self.kernel, stride=self.stride, padding=self.padding)
        return jax.vmap(cut)(values)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def differentiable_sums(values: jax.Array, weights: jax.Array, windows: Windows) -> jax.Array:
    """The sums of patches of values (B, C, H, W) float weighted by (F, K), as of `weighted_sums`: (B, H', W', F).

    They are differentiable in the weights alone: the values count as constants.
    """
    if windows.tiled:
        tiles = _tiles(weights)
        return jax.vmap(lambda stimulus: winograd.tiled_sums(stimulus, tiles, padding=windows.padding))(values)
    shape = jax.eval_shape(windows.patches, values)
    sums = lax.map(lambda group: weighted_sums(windows.patches(group), weights), _groups(values, shape))
    return sums.reshape(len(values), *sums.shape[2:])


def _forward(values: jax.Array, weights: jax.Array, windows: Windows) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return differentiable_sums(values, weights, windows), (values, weights)


def _backward(windows: Windows, given: tuple[jax.Array, jax.Array], error: jax.Array) -> tuple[jax.Array, jax.Array]:
    values, weights = given

    def gradient(values: jax.Array, error: jax.Array) -> jax.Array:
        """Of the weights, or of their tiles."""
        if windows.tiled:
            return winograd.tiled_gradient(values, error, padding=windows.padding)
        positions = ((0, 1, 2), (0, 1, 2)), ((), ())
        return lax.dot_general(error, windows.patches(values), positions, precision=lax.Precision.HIGHEST)

    groups = _groups(values, error), _groups(error, error)
    start = jnp.zeros(jax.eval_shape(gradient, *(group[0] for group in groups)).shape, weights.dtype)
    total, _ = lax.scan(lambda total, group: (total + gradient(*group), None), start, groups)
    if windows.tiled:
        _, of_tiles = jax.vjp(_tiles, weights)
        (total,) = of_tiles(total)
    return jnp.zeros_like(values), total


differentiable_sums.defvjp(_forward, _backward)


def _tiles(weights: jax.Array) -> jax.Array:
    """`winograd.tile_weights` of weights (F, K)."""
    return winograd.tile_weights(weights.reshape(len(weights), 3, 3, -1).transpose(0, 3, 1, 2))


def _groups(arrays: jax.Array, maps: jax.Array | jax.ShapeDtypeStruct) -> jax.Array:
    """Arrays (B, ...), of stimuli with maps (B, H', W', F), in groups that are computed at once: (B / G, G, ...)."""
    count = len(arrays)
    if devices.local_devices()[0].platform == "cpu":
        at_once = max(1, _POSITIONS // math.prod(maps.shape[1:3]))
        count = math.gcd(count, at_once)
    return arrays.reshape(len(arrays) // count, count, *arrays.shape[1:])


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
