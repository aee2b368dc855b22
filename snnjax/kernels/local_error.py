"""The activities of a layer as a linear readout of its own sees them: averaged over parts of the map.

References:
  Nøkland and Eidnes 2019, Training neural networks with local error signals (arXiv 1901.06656).
"""

import jax
import jax.numpy as jnp
import numpy as np

from snnjax.core import checks
from snnjax.kernels.kernel import kernel


@kernel("parts")
def part_means(maps: jax.Array, *, parts: int) -> jax.Array:
    """The means of maps (B, H, W, F) float over parts x parts of their area: (B, parts, parts, F).

    Where H or W is no multiple of `parts`, neighbouring parts share a row or column, as in adaptive average pooling.
    """
    checks.array("maps", maps, "B H W F", "floats")
    checks.integer("parts", parts, 1)
    _, height, width, _ = maps.shape
    down = _averages(height, parts)
    right = _averages(width, parts)
    return jnp.einsum("ph, bhwf, qw -> bpqf", down, maps, right, precision=jax.lax.Precision.HIGHEST)


def _averages(size: int, parts: int) -> np.ndarray:
    """The weight of each of `size` places in the mean of each part, (parts, size) float32."""
    place = np.arange(size)
    part = np.arange(parts)[:, None]
    inside = (place >= part * size // parts) & (place < -(-(part + 1) * size // parts))
    return (inside / inside.sum(axis=1, keepdims=True)).astype(np.float32)
