"""From an image to latencies: filters, local normalisation, rank order, and the encoder that does all of it."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from snnjax.components import component, static
from snnjax.encoding.filters import COLOURS, DIGITS, FilterBank, filter_image
from snnjax.errors import wrong_type
from snnjax.kernels import checks
from snnjax.kernels import native as compiled
from snnjax.kernels.spikes import latency_dtype


@functools.partial(jax.jit, static_argnames="radius")
def local_normalization(maps: jax.Array, *, radius: int, epsilon: float = 1e-12) -> jax.Array:
    """Divides each value by the mean of its zero-padded square neighbourhood, channel by channel.

    Maps are (C, H, W) float in and out. Neighbourhoods have 2 radius + 1 rows and columns, radius >= 0; `epsilon`
    guards against division by 0.
    """
    checks.array("maps", maps, "C H W", "floats")
    width = 2 * checks.integer("radius", radius, 0) + 1
    distances = (np.abs(np.subtract.outer(range(size), range(size))) for size in maps.shape[1:])
    rows, columns = (jnp.asarray(distance <= radius, maps.dtype) for distance in distances)  # bands of ones
    mean = jnp.einsum("ih,chw,wj->cij", rows, maps, columns, precision=lax.Precision.HIGHEST) / width**2
    return maps / (mean + epsilon)


@jax.jit
def lateral_inhibition(maps: jax.Array, percents: jax.Array) -> jax.Array:
    """Raises each value by a share of itself for every smaller neighbour (Kheradpisheh et al. 2018).

    An optional step before `rank_order`. Maps are (C, H, W) float in and out, `percents` (D,) float: the share for a
    neighbour at Chebyshev distance 1, 2, ... D.
    """
    checks.array("maps", maps, "C H W", "floats")
    checks.array("percents", percents, "D")
    radius = percents.shape[0]
    padded = jnp.pad(maps, ((0, 0), (radius, radius), (radius, radius)))
    factor = jnp.ones_like(maps)
    for row, column in itertools.product(range(-radius, radius + 1), repeat=2):
        if distance := max(abs(row), abs(column)):
            neighbour = lax.dynamic_slice(padded, (0, radius + row, radius + column), maps.shape)
            factor += jnp.where(neighbour < maps, percents[distance - 1].astype(maps.dtype), 0)
    return maps * factor


@functools.partial(jax.jit, static_argnames="time_steps")
def rank_order(intensities: jax.Array, *, time_steps: int) -> jax.Array:
    """Intensity to latency: the strongest values spike first, the same number at each step.

    With n values above zero and bins of n // T, the value of rank r (descending; equal values in order of flat index)
    spikes at step r // bin; the last n - T bin stay silent. With n < T, each spikes at its own step.
    Intensities are (...) float32, none negative; latencies (...) unsigned integers, T where silent.
    """
    # No indices are sorted, several times faster than argsort: the boundaries between bins come from one sort of bare
    # values and, where a boundary splits equal values, from one sort of their positions.
    checks.array("intensities", intensities, None, "floats")
    checks.time_steps(time_steps)
    # Non-negative floats order as the integers of their bits, and integers sort fast.
    keys = lax.bitcast_convert_type(jnp.maximum(intensities, 0).astype(jnp.float32).ravel(), jnp.int32)
    size = keys.size
    ascending = lax.sort(keys, is_stable=False)
    count = jnp.sum(keys > 0, dtype=jnp.int32)
    bin_size = jnp.maximum(count // time_steps, 1)
    # Rank and value of the first spike of the bins 1..T; from rank `count` on there are only zeros.
    ranks = jnp.arange(1, time_steps + 1, dtype=jnp.int32) * bin_size
    boundaries = jnp.where(ranks < size, ascending[jnp.clip(size - 1 - ranks, 0, size - 1)], 0)
    greater, at_least = (size - jnp.searchsorted(ascending, boundaries, side=side) for side in ("right", "left"))

    def by_position() -> jax.Array:
        """Bins where a boundary splits equal values: those from position `first` on come after it."""
        below, equal = keys[None] < boundaries[:, None], keys[None] == boundaries[:, None]
        boundary = jnp.arange(time_steps, dtype=jnp.int32)
        alike = jnp.argmax(boundaries[:, None] == boundaries[None], axis=1)  # the first boundary of the same value
        group = jnp.where(equal, boundary[:, None], time_steps).min(axis=0)
        positions = lax.iota(jnp.int32, size)
        grouped = lax.sort(group * size + positions, is_stable=False)
        members = jnp.where(alike == boundary, at_least - greater, 0)
        start = (jnp.cumsum(members) - members)[alike]
        first = grouped[jnp.clip(start + ranks - greater, 0, size - 1)] % size
        return jnp.sum(below | (equal & (positions[None] >= first[:, None])), axis=0, dtype=jnp.int32)

    def by_value() -> jax.Array:
        return jnp.sum(keys[None] <= boundaries[:, None], axis=0, dtype=jnp.int32)

    split = (greater < ranks) & (boundaries > 0)
    latency = lax.cond(split.any(), by_position, by_value)
    latency = jnp.where(keys > 0, latency, time_steps).astype(latency_dtype(time_steps))
    return latency.reshape(intensities.shape)


@functools.partial(jax.jit, static_argnames=("time_steps", "bank", "radius", "native"))
def encode(
    image: jax.Array, *, time_steps: int = 15, bank: FilterBank = DIGITS, radius: int = 8, native: bool = False
) -> jax.Array:
    """Encodes an image as latencies: `filter_image`, `local_normalization`, and `rank_order` over all channels.

    From (H, W) or (H, W, 3) of 0..255, any real dtype, to (F, H', W') unsigned integers, T where silent; constant
    images are silent but for their border. `native`: rank order by `snnjax.kernels.native`, on a CPU, T <= 255.
    """
    maps = local_normalization(filter_image(image, bank=bank), radius=radius)
    return (compiled.rank_order if native else rank_order)(maps, time_steps=time_steps)


@component
class Encoder:
    """The settings of `encode`: `encoder(image)` returns (F, H, W) latencies.

    Attributes:
      bank: the filters and their thresholds.
      time_steps: T.
      radius: of the local normalisation, in pixels.
    """

    bank: FilterBank = static(default=DIGITS)
    time_steps: int = static(default=15)
    radius: int = static(default=8)

    def check(self) -> None:
        """Raises TypeError or InputError for invalid settings."""
        if not isinstance(self.bank, FilterBank):
            raise wrong_type("bank", "a FilterBank", self.bank)
        checks.time_steps(self.time_steps)
        checks.integer("radius", self.radius, 0)

    def __call__(self, image: jax.Array, *, native: bool = False) -> jax.Array:
        """Encodes an image as `encode` does."""
        return encode(image, time_steps=self.time_steps, bank=self.bank, radius=self.radius, native=native)

    def output_shape(self, image_shape: tuple[int, ...]) -> tuple[int, int, int]:
        """As `FilterBank.output_shape`, of the latencies."""
        return self.bank.output_shape(image_shape)


GREY = Encoder()
"""For images (H, W): six maps of the image's size, T = 15."""

COLOUR = Encoder(COLOURS, time_steps=20)
"""For images (H, W, 3): 18 maps, two rows and columns larger than the image, T = 20."""
