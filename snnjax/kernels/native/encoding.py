"""Sums of the encoding, in C++: the same as XLA's bit for bit, because those of each part are exact in any order."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from snnjax.kernels.native import _call, float_array


def filter_sums(image: jax.Array, groups: Sequence[np.ndarray], window: int, *, bits: int, parts: int) -> jax.Array:
    """Valid cross-correlation of an image (H, W) float32 with all kernels of some groups, (F, H', W') float32, exactly.

    The image is split into `parts` of so many bits; a single one means that it holds integers. `groups` are parts of
    taps (parts, F, rows, n), of kernels that are the same upside down only the rows up to the middle; kernels lie in
    the middle of a `window`.
    """
    size = [length - window + 1 for length in image.shape]
    result = float_array((sum(group.shape[1] for group in groups), *size))
    folded = [_folded(group) for group in groups]
    taps = jnp.asarray(np.concatenate([group.ravel() for group in folded]))
    shapes = jnp.asarray([(*few.shape, group.shape[3]) for few, group in zip(folded, groups, strict=True)], jnp.int32)
    return _call("filter_sums", result, image, taps, shapes, bits=bits, parts=parts)


def _folded(taps: np.ndarray) -> np.ndarray:
    """Of taps (..., n) that are the same from right to left the columns up to the middle, that one halved."""
    middle = taps.shape[-1] // 2
    if not middle or (taps != taps[..., ::-1]).any():
        return taps
    return np.concatenate([taps[..., :middle], taps[..., middle : middle + 1] / 2], axis=-1)


def neighbourhood_sums(maps: jax.Array, radius: int, *, bits: int, parts: int) -> jax.Array:
    """The sums of zero-padded neighbourhoods of 2 radius + 1 rows and columns, (C, H, W) float32 in and out, exactly.

    Maps are split into `parts` of so many bits, each of which has exact sums.
    """
    reach = min(radius, max(maps.shape[1:]))
    return _call("neighbourhood_sums", float_array(maps.shape), maps, radius=reach, bits=bits, parts=parts)
