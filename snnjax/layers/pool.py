"""Pooling, and the sizes of maps after a sliding window."""

import jax
import jax.numpy as jnp
from jax import lax

from snnjax import kernels
from snnjax.core import checks
from snnjax.core.checks import Pair
from snnjax.core.components import component, static
from snnjax.kernels.spikes import output_size


@component
class Pool:
    """Pooling, which passes the earliest spike of each window or, in an encoder, the largest intensity.

    Attributes:
      window: rows and columns of the window, or one integer for both.
      stride: rows and columns between neighbouring windows; by default the size of the window.
      padding: silent rows and columns added at each edge of the input.
      mean: whether neurons average each window, as in `kernels.spikes.mean_pool`; this is possible only in an `Input`.

    Examples:
      >>> from snnjax.layers import Pool
      >>> Pool(2).output_size((28, 28))
      (14, 14)
      >>> Pool(7, stride=6, padding=3).output_size((28, 28))
      (5, 5)
    """

    window: Pair = static(minimum=1)
    stride: Pair | None = static(default=None, minimum=1)
    padding: Pair = static(default=0, minimum=0)
    mean: bool = static(default=False)

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the pooled map."""
        return map_size(size, "the pooling window", self.window, self.stride or self.window, self.padding)

    def largest(self, maps: jax.Array) -> jax.Array:
        """The largest value of each window of maps, (C, H, W) floats."""
        shape = 1, *checks.pair("window", self.window, 1)
        strides = 1, *checks.pair("stride", self.stride or self.window, 1)
        margins = [(0, 0), *((margin, margin) for margin in checks.pair("padding", self.padding, 0))]
        return lax.reduce_window(maps, -jnp.inf, lax.max, shape, strides, margins)


def pooled_maps(maps: jax.Array, pool: Pool | None, time_steps: int) -> jax.Array:
    """The latencies (C, H, W) after pooling by `pool`, or unchanged if it is None."""
    if pool is None:
        return maps
    pooling = kernels.spikes.mean_pool if pool.mean else kernels.pool
    return pooling(maps, pool.window, stride=pool.stride, padding=pool.padding, time_steps=time_steps)


def pooling(pool: Pool | None, margin: Pair) -> kernels.Pooling:
    """The pooling settings for kernels, for a map that gets `margin` silent rows and columns on each side first."""
    pool = pool or Pool(1)
    rows, columns = checks.pair("margin", margin, 0)
    top, left = checks.pair("padding", pool.padding, 0)
    # Both margins are silent, so that kernels can pool as if there were a single margin, their sum.
    return kernels.Pooling(pool.window, pool.stride, (rows + top, columns + left))


def map_size(size: tuple[int, int], name: str, window: Pair, stride: Pair, padding: Pair) -> tuple[int, int]:
    """Rows and columns of the map that a sliding window gives; raises TooSmallError if the window does not fit.

    `name` is the name of the window in the message.
    """
    rows, columns = checks.pair("padding", padding, 0)
    kernel = checks.pair("kernel", window, 1)
    padded = size[0] + 2 * rows, size[1] + 2 * columns
    checks.window(name, kernel, padded)
    return output_size(padded, kernel, checks.pair("stride", stride, 1))
