"""From an image to latencies: filters, normalisation, pooling, inhibition, rank order, and their combination."""

import dataclasses
import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from snnjax.core import checks
from snnjax.core.checks import Pair
from snnjax.core.components import component, static
from snnjax.core.errors import wrong_type
from snnjax.encoding.filters import COLOURS, DIGITS, GABORS, ON_OFF_DOGS, FilterBank, filter_image
from snnjax.kernels import exact
from snnjax.kernels.competition import pointwise_inhibition
from snnjax.kernels.hebbian import pool_largest
from snnjax.kernels.kernel import byte_array, dispatch, kernel, native_call
from snnjax.kernels.native import MAX_TIME_STEPS
from snnjax.kernels.neurons import Spikes
from snnjax.kernels.spikes import latency_dtype
from snnjax.layers.pool import Pool

EPSILON = 1e-12
"""By default what `local_normalization` adds to a mean."""


@kernel("radius")
def local_normalization(maps: jax.Array, *, radius: int, epsilon: float = EPSILON) -> jax.Array:
    """Divides each value by the mean of its zero-padded square neighbourhood, channel by channel.

    Maps are (C, H, W) float in and out. Neighbourhoods have 2 radius + 1 rows and columns, radius >= 0; `epsilon`
    guards against division by 0.

    Examples:
      >>> import jax.numpy as jnp
      >>> from snnjax.encoding import local_normalization
      >>> weak_and_strong = jnp.array([[[1.0, 4.0, 1.0]], [[10.0, 40.0, 10.0]]])
      >>> local_normalization(weak_and_strong, radius=1).round().tolist()
      [[[2.0, 6.0, 2.0]], [[2.0, 6.0, 2.0]]]
    """
    checks.array("maps", maps, "C H W", "floats")
    width = 2 * checks.integer("radius", radius, 0) + 1
    # Exact sums, so that equal neighbourhoods have equal means.
    bits = bits_of_parts(radius, (maps.shape[1], maps.shape[2]))
    count = -(-RANGE_BITS // bits)
    parts = exact.split(maps, bits, count)
    total = exact.add(jnp.split(_neighbourhoods(jnp.concatenate(parts), radius), count)[::-1])
    mean = total / width**2
    return maps / (mean + epsilon)


def _neighbourhoods(maps: jax.Array, radius: int) -> jax.Array:
    """The sums of the zero-padded neighbourhoods of each value, (C, H, W)."""
    distances = (np.abs(np.subtract.outer(range(size), range(size))) for size in maps.shape[1:])
    rows, columns = (jnp.asarray(distance <= radius, maps.dtype) for distance in distances)  # bands of ones
    return jnp.einsum("ih,chw,wj->cij", rows, maps, columns, precision=lax.Precision.HIGHEST)


def bits_of_parts(radius: int, size: tuple[int, int]) -> int:
    """How many bits the parts of a value may have, so that sums over neighbourhoods in a map (H, W) are exact."""
    most = min((2 * radius + 1) ** 2, math.prod(size))
    return max(1, exact.MANTISSA - (most - 1).bit_length())


RANGE_BITS = 40
"""Bits between the largest intensity of an image and those that the means of `local_normalization` neglect."""


@kernel("window", "stride", "padding")
def max_pooling(maps: jax.Array, window: Pair, *, stride: Pair | None = None, padding: Pair = 0) -> jax.Array:
    """The largest value of each window, channel by channel; incomplete windows are dropped.

    Maps (C, H, W) float, with `padding` rows and columns of zeros on each side, to (C, H', W'), with the same shapes as
    `kernels.pool` for latencies. The default stride is the size of the window.

    Examples:
      >>> import jax.numpy as jnp
      >>> from snnjax.encoding import max_pooling
      >>> maps = jnp.arange(16.0).reshape(1, 4, 4)
      >>> max_pooling(maps, 2).tolist()
      [[[5.0, 7.0], [13.0, 15.0]]]
    """
    checks.array("maps", maps, "C H W", "floats")
    return pool_largest(maps, window, stride=stride, padding=padding)


@jax.jit
def lateral_inhibition(maps: jax.Array, percents: jax.Array) -> jax.Array:
    """Raises each value by a share of itself for every smaller neighbour (Kheradpisheh et al. 2018).

    This is an optional step before `rank_order`. Maps are (C, H, W) float in and out. `percents`, (D,) float, are the
    shares for neighbours at the Chebyshev distances 1, 2, ... D; 0.15 means 15 %.

    Examples:
      >>> import jax.numpy as jnp
      >>> from snnjax.encoding import lateral_inhibition
      >>> maps = jnp.zeros((1, 3, 4)).at[0, 1, 1].set(4.0).at[0, 1, 2].set(2.0)
      >>> lateral_inhibition(maps, jnp.array([0.25]))[0, 1].tolist()  # eight and seven smaller neighbours
      [0.0, 12.0, 5.5, 0.0]
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


@kernel("time_steps")
def rank_order(intensities: jax.Array, *, time_steps: int) -> jax.Array:
    """Converts intensities to latencies: the strongest values spike first, and equally many at each step.

    With n values above 0 and a bin size of n // T, the value of rank r (in descending order, equal values in order of
    their flat index) spikes at step r // bin. The last n - T bin values are silent. If n < T, each value spikes at a
    different step. Intensities are (...) float32, none negative; latencies are (...) unsigned integers, T for silent.

    Examples:
      >>> import jax.numpy as jnp
      >>> from snnjax.encoding import rank_order
      >>> rank_order(jnp.array([0.0, 5.0, 3.0, 9.0]), time_steps=3).tolist()
      [3, 1, 2, 0]
    """
    checks.array("intensities", intensities, None, "floats")
    checks.time_steps(time_steps)
    run_native = native_call("rank_order", byte_array(intensities.shape), steps=int(time_steps), rank=intensities.ndim)
    xla = functools.partial(_rank_order, time_steps=time_steps)
    return dispatch(time_steps <= MAX_TIME_STEPS, run_native, xla)(intensities.astype(jnp.float32))


def _rank_order(intensities: jax.Array, *, time_steps: int) -> jax.Array:
    # No indices are sorted, several times faster than argsort: the boundaries between bins come from one sort of bare
    # values and, where a boundary splits equal values, from one sort of their positions.
    # Non-negative floats order as the integers of their bits, and integers sort fast.
    keys = lax.bitcast_convert_type(jnp.maximum(intensities, 0).ravel(), jnp.int32)
    size = keys.size
    ascending = lax.sort(keys, is_stable=False)
    count = jnp.sum(keys > 0, dtype=jnp.int32)
    bin_size = jnp.maximum(count // time_steps, 1)
    # Rank and value of the first spike of the bins 1..T; from rank `count` on there are only zeros.
    ranks = jnp.arange(1, time_steps + 1, dtype=jnp.int32) * bin_size
    boundaries = jnp.where(ranks < size, ascending[jnp.clip(size - 1 - ranks, 0, size - 1)], 0)
    greater, at_least = (size - jnp.searchsorted(ascending, boundaries, side=side) for side in ("right", "left"))

    def by_position() -> jax.Array:
        """The bins if a boundary splits equal values: the values from position `first` on lie behind it."""
        below = keys[None] < boundaries[:, None]
        equal = keys[None] == boundaries[:, None]
        boundary = jnp.arange(time_steps, dtype=jnp.int32)
        first_equal = jnp.argmax(boundaries[:, None] == boundaries[None], axis=1)  # the first of the same value
        group = jnp.where(equal, boundary[:, None], time_steps).min(axis=0)
        positions = lax.iota(jnp.int32, size)
        grouped = lax.sort(group * size + positions, is_stable=False)
        members = jnp.where(first_equal == boundary, at_least - greater, 0)
        start = (jnp.cumsum(members) - members)[first_equal]
        first = grouped[jnp.clip(start + ranks - greater, 0, size - 1)] % size
        return jnp.sum(below | (equal & (positions[None] >= first[:, None])), axis=0, dtype=jnp.int32)

    def by_value() -> jax.Array:
        return jnp.sum(keys[None] <= boundaries[:, None], axis=0, dtype=jnp.int32)

    split = (greater < ranks) & (boundaries > 0)
    # Looking for ties only where a boundary splits equal values takes 0.061 instead of 0.093 ms for an image of MNIST.
    latency = lax.cond(split.any(), by_position, by_value)
    latency = jnp.where(keys > 0, latency, time_steps).astype(latency_dtype(time_steps))
    return latency.reshape(intensities.shape)


_STATIC = ("time_steps", "bank", "radius", "pool", "inhibition", "pointwise", "scale")


def _check_image(image: Any, scale: float, **_: Any) -> None:
    checks.pixels("image", image, scale)


@kernel(*_STATIC, check=_check_image)
def encode(
    image: jax.Array,
    *,
    time_steps: int = 15,
    bank: FilterBank = DIGITS,
    radius: int | None = 8,
    pool: Pool | None = None,
    inhibition: tuple[float, ...] = (),
    pointwise: bool = False,
    scale: float = 1.0,
) -> jax.Array:
    """Encodes an image as latencies: `filter_image`, up to three optional steps, then `rank_order` over all maps.

    The optional steps are `local_normalization` (unless `radius` is None), `max_pooling`, and `lateral_inhibition` by
    percents. Filter outputs below 0 are silent. With `pointwise`, only the first spike at each position remains, in a
    tie the strongest.

    Maps (H, W) or (H, W, 3), uint8 or floats in 0..255, times `scale`, to (F, H', W') unsigned integers, T for silent.
    Constant images are silent except at their border. Raises InputError if known pixels are NaN, infinite or in 0..1,
    and InputTypeError for other dtypes.

    Examples:
      >>> from snnjax.data import digits
      >>> from snnjax.encoding import encode
      >>> latency = encode(digits().test_images[0], time_steps=10)
      >>> latency.shape, latency.dtype
      ((6, 28, 28), dtype('uint8'))
    """
    checks.array("image", image, None)
    maps = jnp.maximum(filter_image(image, bank=bank, scale=scale), 0)
    if radius is not None:
        maps = local_normalization(maps, radius=radius)
    if pool is not None:
        maps = max_pooling(maps, pool.window, stride=pool.stride, padding=pool.padding)
    if inhibition:
        maps = lateral_inhibition(maps, jnp.asarray(inhibition, jnp.float32))
    latency = rank_order(maps, time_steps=time_steps)
    return pointwise_inhibition(Spikes(latency, maps), time_steps=time_steps).latency if pointwise else latency


@component
class Encoder:
    """The settings of `encode`: `encoder(image)` returns (F, H, W) latencies.

    Attributes:
      bank: the filters and their thresholds.
      time_steps: T.
      radius: the radius of the local normalisation, in pixels; None: no normalisation.
      pool: max pooling of intensities, or None.
      inhibition: the shares of lateral inhibition for neighbours at distance 1, 2, ..., such as 0.15; (): none.
      pointwise: whether only one map fires at each position: that of the first spike, in a tie of the strongest.
      scale: the factor by which pixels in 0..255 are multiplied before thresholds apply. The planes of colour images
        are summed.

    Examples:
      >>> from snnjax.data import digits
      >>> from snnjax.encoding import Encoder
      >>> from snnjax.layers import Pool
      >>> encoder = Encoder(time_steps=10, pool=Pool(2))
      >>> encoder(digits().test_images[0]).shape
      (6, 14, 14)
    """

    bank: FilterBank = static(default=DIGITS)
    time_steps: int = static(default=15, minimum=1)
    radius: int | None = static(default=8, minimum=0)
    pool: Pool | None = static(default=None)
    inhibition: tuple[float, ...] = static(default=())
    pointwise: bool = static(default=False)
    scale: float = static(default=1.0, above=0)

    def check(self) -> None:
        """Raises TypeError or InputError for invalid settings."""
        checks.instance("bank", self.bank, FilterBank, "a FilterBank")
        checks.instance("pool", self.pool, Pool | None, "a Pool or None", "Pool(...)")
        if self.pool is not None:
            checks.equal("mean of the `pool` of an encoder", self.pool.mean, False, "intensities are not averaged")
        percents = self.inhibition
        if not isinstance(percents, tuple) or not all(isinstance(x, float) for x in percents):
            raise wrong_type("inhibition", "a tuple of numbers", percents, "inhibition=(0.15, ...)")
        checks.number("inhibition", percents, arrays=True)

    def __call__(self, image: jax.Array) -> jax.Array:
        """Encodes an image as `encode` does."""
        settings: dict[str, Any] = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return encode(image, **settings)

    def output_shape(self, image_shape: tuple[int, ...]) -> tuple[int, int, int]:
        """As `FilterBank.output_shape`, but the shape of the latencies."""
        shape = self.bank.output_shape(image_shape)
        if self.pool is None:
            return shape
        return shape[0], *self.pool.output_size(shape[1:])


GREY = Encoder()
"""For images (H, W): six maps of the image's size, T = 15."""

COLOUR = Encoder(COLOURS, time_steps=20)
"""For images (H, W, 3): 18 maps, two rows and columns larger than the image, T = 20."""

DOG = Encoder(ON_OFF_DOGS)
"""On and off centre at one scale, as Kheradpisheh et al. 2018: two maps of the image's size, T = 15."""

GABOR = Encoder(
    GABORS,
    radius=None,
    pool=Pool(7, stride=6, padding=3),
    inhibition=(0.15, 0.12, 0.1, 0.07, 0.05),
    pointwise=True,
    scale=1 / 255,
)
"""Of objects, as Mozafari et al. 2018 for Caltech: four maps of a sixth of the image's size, T = 15.

For ETH-80 they pool by `Pool(5, stride=4, padding=2)`. The image is reflected at its border, so that it is no edge.
"""
