"""Windows that slide over maps: pooling, and the sizes of the outputs."""

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
    """Pooling: the earliest spike of each window passes, in an encoder the largest intensity.

    Attributes:
      window: rows and columns; one integer for both.
      stride: rows and columns between neighbouring windows; by default those of the window.
      padding: silent rows and columns added to the input.
      mean: whether neurons average each window, as of `kernels.spikes.mean_pool`: only in an `Input`.
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
    """Latencies (C, H, W), pooled if `pool` is given: as it says."""
    if pool is None:
        return maps
    pooling = kernels.spikes.mean_pool if pool.mean else kernels.pool
    return pooling(maps, pool.window, stride=pool.stride, padding=pool.padding, time_steps=time_steps)


def pooling(pool: Pool | None, margin: Pair) -> kernels.Pooling:
    """The settings for kernels of a pool, if any, behind silent rows and columns, `margin` on each side."""
    pool = pool or Pool(1)
    rows, columns = checks.pair("margin", margin, 0)
    top, left = checks.pair("padding", pool.padding, 0)
    # Both margins are silent, so kernels can pool as if there were one margin of their sum.
    return kernels.Pooling(pool.window, pool.stride, (rows + top, columns + left))


def map_size(size: tuple[int, int], name: str, window: Pair, stride: Pair, padding: Pair) -> tuple[int, int]:
    """Rows and columns of a map after a window named `name`; raises TooSmallError if the window does not fit."""
    rows, columns = checks.pair("padding", padding, 0)
    kernel = checks.pair("kernel", window, 1)
    padded = size[0] + 2 * rows, size[1] + 2 * columns
    checks.window(name, kernel, padded)
    return output_size(padded, kernel, checks.pair("stride", stride, 1))
