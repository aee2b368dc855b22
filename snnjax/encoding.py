"""From an image to the latencies of its first spikes (S1/C1): filters, thresholds, local normalisation, rank order.

References:
  Mozafari et al. 2019, Bio-inspired digit recognition using reward-modulated STDP in deep convolutional networks.
  Kheradpisheh et al. 2018, STDP-based spiking deep convolutional neural networks for object recognition.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from snnjax.errors import InputError
from snnjax.kernels import checks, native
from snnjax.kernels.spikes import latency_dtype


def dog_kernel(window: int, sigma1: float, sigma2: float) -> np.ndarray:
    """A difference of two Gaussians with zero mean and maximum 1.

    Args:
      window: odd number of rows and columns.
      sigma1: standard deviation in pixels of the Gaussian that is added.
      sigma2: standard deviation in pixels of the Gaussian that is subtracted.

    Returns:
      (window, window) float32.

    Raises:
      TypeError, InputError: `window` is no odd integer >= 1, or a sigma is not positive.
    """
    row, column = _offsets(window)
    if not (sigma1 > 0 and sigma2 > 0 and sigma1 != sigma2):
        raise InputError(f"`sigma1` and `sigma2` must be positive and differ, got {sigma1} and {sigma2}")
    squared = row**2 + column**2
    outer, inner = (np.exp(-squared / (2 * sigma**2)) / sigma**2 for sigma in (sigma1, sigma2))
    return _balanced((outer - inner) / (2 * np.pi))


def gabor_kernel(window: int, orientation: float, div: float = 4.0) -> np.ndarray:
    """A Gabor filter with zero mean and maximum 1.

    Args:
      window: odd number of rows and columns.
      orientation: in degrees.
      div: the wavelength is 2 window / div pixels.

    Returns:
      (window, window) float32.

    Raises:
      TypeError, InputError: `window` is no odd integer >= 1, or `div` is not positive.
    """
    row, column = _offsets(window)
    if not div > 0:
        raise InputError(f"`div` must be positive, got {div}")
    wavelength, angle = 2 * window / div, np.deg2rad(orientation)
    sigma, gamma = 0.8 * wavelength, 0.3
    along = row * np.cos(angle) + column * np.sin(angle)
    across = column * np.cos(angle) - row * np.sin(angle)
    envelope = np.exp(-(along**2 + gamma**2 * across**2) / (2 * sigma**2))
    return _balanced(envelope * np.cos(2 * np.pi * along / wavelength))


def _offsets(window: int) -> tuple[np.ndarray, np.ndarray]:
    if checks.integer("window", window, 1) % 2 == 0:
        raise InputError(f"`window` must be odd, got {window}")
    row, column = np.mgrid[:window, :window] - window // 2
    return row, column


def _balanced(kernel: np.ndarray) -> np.ndarray:
    kernel = kernel - kernel.mean()
    if not kernel.max() > 0:
        raise InputError(f"`window` must be at least 3 for a filter with zero mean, got {len(kernel)}")
    return (kernel / kernel.max()).astype(np.float32)


@functools.partial(jax.jit, static_argnames="radius")
def local_normalization(maps: jax.Array, *, radius: int, epsilon: float = 1e-12) -> jax.Array:
    """Divides each value by the mean of its zero-padded square neighbourhood, channel by channel.

    Args:
      maps: (C, H, W) float.
      radius: of the neighbourhood, in pixels; it has 2 radius + 1 rows and columns.
      epsilon: added to the mean.

    Returns:
      (C, H, W) float.

    Raises:
      TypeError, InputError: wrong rank or dtype; a radius below 0.
    """
    checks.real("maps", maps, "C H W")
    width = 2 * checks.integer("radius", radius, 0) + 1
    mean = _box_sum(maps, radius) / width**2
    return maps / (mean + epsilon)


def _box_sum(maps: jax.Array, radius: int) -> jax.Array:
    """Sums over square neighbourhoods, as products with a band of ones on each side."""

    def band(size: int) -> jax.Array:
        distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
        return jnp.asarray(distance <= radius, maps.dtype)

    rows, columns = band(maps.shape[1]), band(maps.shape[2])
    return jnp.einsum("ih,chw,wj->cij", rows, maps, columns, precision=lax.Precision.HIGHEST)


@jax.jit
def lateral_inhibition(maps: jax.Array, percents: jax.Array) -> jax.Array:
    """Raises each value by a share of itself for every smaller neighbour, by their Chebyshev distance.

    The step is optional, before `rank_order`: values that stand out gain on their surroundings (Kheradpisheh et al.).

    Args:
      maps: (C, H, W) float; beyond the border lie zeros.
      percents: (D,) float, the share for a neighbour at distance 1, 2, ... D.

    Returns:
      (C, H, W) float.

    Raises:
      TypeError, InputError: wrong rank or dtype.
    """
    checks.real("maps", maps, "C H W")
    checks.array("percents", percents, "D")
    radius = percents.shape[0]
    padded = jnp.pad(maps, ((0, 0), (radius, radius), (radius, radius)))
    factor = jnp.ones_like(maps)
    for row in range(-radius, radius + 1):
        for column in range(-radius, radius + 1):
            if distance := max(abs(row), abs(column)):
                start = (0, radius + row, radius + column)
                neighbour = lax.dynamic_slice(padded, start, maps.shape)
                factor += jnp.where(neighbour < maps, percents[distance - 1].astype(maps.dtype), 0)
    return maps * factor


@functools.partial(jax.jit, static_argnames="time_steps")
def rank_order(intensities: jax.Array, *, time_steps: int) -> jax.Array:
    """Intensity to latency: the strongest values spike first, in equal numbers a step.

    With n values above zero and bins of n // T, the value of rank r (descending; equal values in order of flat index)
    spikes at step r // bin; the last n - T bin stay silent. With n < T, each spikes at a step of its own.

    No indices are sorted: the boundaries between the bins come from one sort of bare values, and where a boundary
    splits equal values, from one sort of those values' positions. That is several times faster than an argsort.

    Args:
      intensities: (...) float32, none negative.
      time_steps: T.

    Returns:
      (...) unsigned integer latencies, T where silent.

    Raises:
      TypeError, InputError: wrong dtype; T < 1.
    """
    checks.real("intensities", intensities, None)
    checks.time_steps(time_steps)
    # Floats that are not negative order as the integers of their bits do, and integers sort fast.
    keys = lax.bitcast_convert_type(jnp.maximum(intensities, 0).astype(jnp.float32).ravel(), jnp.int32)
    size = keys.size
    ascending = lax.sort(keys, is_stable=False)
    count = jnp.sum(keys > 0, dtype=jnp.int32)
    bin_size = jnp.maximum(count // time_steps, 1)
    # Rank and value of the first spike of the bins 1..T; below rank `count` there is nothing but zeros.
    ranks = jnp.arange(1, time_steps + 1, dtype=jnp.int32) * bin_size
    boundaries = jnp.where(ranks < size, ascending[jnp.clip(size - 1 - ranks, 0, size - 1)], 0)
    greater, at_least = (size - jnp.searchsorted(ascending, boundaries, side=side) for side in ("right", "left"))

    def apart() -> jax.Array:
        """Equal values on both sides of a boundary are told apart by position: from `first` on they come after it."""
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

    split = (greater < ranks) & (boundaries > 0)
    latency = lax.cond(split.any(), apart, lambda: jnp.sum(keys[None] <= boundaries[:, None], axis=0, dtype=jnp.int32))
    latency = jnp.where(keys > 0, latency, time_steps).astype(latency_dtype(time_steps))
    return latency.reshape(intensities.shape)


@dataclasses.dataclass(frozen=True)
class FilterBank:
    """Filters with their thresholds: what an image passes first. Hashable, so that it can be a static argument.

    Attributes:
      kernels: the filters, (n, n) each with n odd; smaller ones are zero-padded to the largest.
      threshold: outputs below it become 0; one number, or one for each kernel.
      absolute: takes the absolute value of the outputs, after the threshold.
      padding: rows and columns of zeros on each side of the image; by default n // 2 of the largest kernel, so that
        the outputs are of the image's size.
      copies: how often each output comes, side by side.
    """

    kernels: tuple[tuple[tuple[float, ...], ...], ...]
    threshold: float | tuple[float, ...] = 50.0
    absolute: bool = False
    padding: int | None = None
    copies: int = 1

    @classmethod
    def of(
        cls,
        kernels: Sequence[np.ndarray],
        threshold: float | tuple[float, ...] = 50.0,
        absolute: bool = False,
        *,
        padding: int | None = None,
        copies: int = 1,
    ) -> "FilterBank":
        """A bank of arrays such as `dog_kernel` and `gabor_kernel` make.

        Raises:
          TypeError, InputError: kernels that are no squares of odd sides; thresholds that are not as many.
        """
        if not len(kernels):
            raise InputError("`kernels` must hold at least one")
        for kernel in kernels:
            if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or len(kernel) % 2 == 0:
                raise InputError(f"`kernels` must be square with odd sides, got shape {kernel.shape}")
        if isinstance(threshold, tuple) and len(threshold) != len(kernels):
            raise InputError(f"`threshold` must be one number or {len(kernels)}, got {len(threshold)}")
        if padding is not None:
            checks.integer("padding", padding, 0)
        checks.integer("copies", copies, 1)
        rows = tuple(tuple(map(tuple, kernel.tolist())) for kernel in kernels)
        return cls(rows, threshold, absolute, padding, copies)

    @property
    def weights(self) -> np.ndarray:
        """(F, n, n) float32, one for each output, n the largest window."""
        window = max(len(kernel) for kernel in self.kernels)
        margins = [(window - len(kernel)) // 2 for kernel in self.kernels]
        padded = [np.pad(np.asarray(k, np.float32), m) for k, m in zip(self.kernels, margins, strict=True)]
        return np.repeat(padded, self.copies, axis=0)

    @property
    def margin(self) -> int:
        """Rows and columns of zeros on each side of the image."""
        return max(map(len, self.kernels)) // 2 if self.padding is None else self.padding

    def output_shape(self, image_shape: tuple[int, ...]) -> tuple[int, int, int]:
        """(F, H, W) of the outputs for images (H, W) or (H, W, 3).

        Raises:
          InputError: another shape, or an image too small for the largest kernel.
        """
        if len(image_shape) not in (2, 3) or image_shape[2:] not in ((), (3,)):
            raise InputError(f"`image` must have axes (H W 3) or (H W), got shape {image_shape}")
        growth = 2 * self.margin - max(map(len, self.kernels)) + 1
        height, width = (size + growth for size in image_shape[:2])
        if min(height, width) < 1:
            raise InputError(f"`image` must have more than {-growth} rows and columns, got shape {image_shape}")
        return len(self.kernels) * self.copies, height, width


def _dogs(*windows: int) -> list[np.ndarray]:
    """Differences of Gaussians at the digit networks' three scales, on and off centre, in windows of these sizes."""
    scales = zip(windows, (3 / 9, 7 / 9, 13 / 9), strict=True)
    return [dog_kernel(n, *sigmas) for n, sigma in scales for sigmas in ((sigma, 2 * sigma), (2 * sigma, sigma))]


DIGITS = FilterBank.of(_dogs(3, 7, 13))
"""The six differences of Gaussians, on and off centre at three scales, of the digit networks."""

COLOURS = FilterBank.of(_dogs(5, 9, 15), threshold=40.0, padding=8, copies=3)
"""For colour images: the same scales in wider windows, each three times; the maps gain two rows and columns."""


@functools.partial(jax.jit, static_argnames="bank")
def filter_image(image: jax.Array, *, bank: FilterBank = DIGITS) -> jax.Array:
    """Filters an image by cross-correlation with zero padding and applies the thresholds.

    Args:
      image: (H, W) or (H, W, 3) of 0..255, any real dtype; colour planes are added up.
      bank: the filters.

    Returns:
      (F, H, W) float32, F = kernels x copies; of another size than the image if `bank.padding` says so.

    Raises:
      TypeError, InputError: wrong shape, or an image smaller than the filters.
    """
    checks.array("image", image, None)
    bank.output_shape(image.shape)  # raises where the image does not fit
    pixels = image.astype(jnp.float32)
    grey = pixels if image.ndim == 2 else pixels.sum(axis=-1)
    maps = _correlate(jnp.pad(grey, bank.margin), bank)
    threshold = jnp.asarray(bank.threshold, jnp.float32).reshape(-1, 1, 1)
    maps = jnp.where(maps < threshold, 0, maps)
    return jnp.repeat(jnp.abs(maps) if bank.absolute else maps, bank.copies, axis=0)


def _correlate(image: jax.Array, bank: FilterBank) -> jax.Array:
    """Valid cross-correlation with the kernels of a bank, (H, W) to (F, H - n + 1, W - n + 1), without copies.

    Each kernel is a sum of few products of a column and a row, three for a difference of Gaussians, so that the image
    is correlated with rows and the result with columns.
    """
    columns, rows, kept, scale = _separated(bank)
    height, width = (size - rows.shape[2] + 1 for size in image.shape)
    seen, bands = _tiles(image, rows)
    across = jnp.einsum("thc,frcw->frhtw", seen, bands, precision=lax.Precision.HIGHEST)
    across = across.reshape(*across.shape[:3], -1)[..., :width]
    seen, bands = _tiles(jnp.moveaxis(across, 2, 3), columns)
    maps = jnp.einsum("tfrwc,frch->fthw", seen, bands, precision=lax.Precision.HIGHEST)
    maps = maps.reshape(len(maps), -1, width)[:, :height]
    return maps[kept] * scale[:, None, None]


@functools.cache
def _separated(bank: FilterBank) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The kernels as sums of products, but for those that are multiples of others, as off centre is of on centre.

    Returns:
      columns and rows, (kernels, terms, n) float32; then for each of the bank's kernels which of them it is a multiple
      of, (F,), and by which factor, (F,) float32.
    """
    kernels = bank.weights[:: bank.copies].astype(np.float64)
    firsts, kept, scale = list[np.ndarray](), list[int](), list[float]()
    for kernel in kernels:
        factors = [np.vdot(kernel, first) / (np.vdot(first, first) or 1.0) for first in firsts] + [1.0]
        candidates = [factor * first for factor, first in zip(factors, [*firsts, kernel], strict=True)]
        at = next(
            i
            for i, each in enumerate(candidates)
            if np.allclose(each, kernel, rtol=0, atol=_SAME * np.abs(kernel).max())
        )
        if at == len(firsts):
            firsts.append(kernel)
        kept.append(at)
        scale.append(factors[at])
    left, size, right = np.linalg.svd(np.stack(firsts))
    terms = max(1, int((size > _SAME * size[:, :1]).sum(axis=1).max()))
    columns = np.swapaxes(left * size[:, None], 1, 2)[:, :terms]
    return columns.astype(np.float32), right[:, :terms].astype(np.float32), np.array(kept), np.array(scale, np.float32)


_SAME = 1e-6
"""Parts of a kernel that do not count, to its largest value: they are its rounding to float32."""


def _tiles(maps: jax.Array, taps: np.ndarray, tile: int = 32) -> tuple[jax.Array, jax.Array]:
    """For a correlation of the last axis, `tile` places at once: what each tile sees, and the taps at each place.

    Returns:
      (tiles, ..., c) of `maps` (..., c'), and band matrices (..., c, tile) of `taps` (..., n), with c = tile + n - 1.
    """
    window = taps.shape[-1]
    size = maps.shape[-1] - window + 1
    tile = min(tile, size)
    tiles = -(-size // tile)
    band = np.zeros((*taps.shape[:-1], tile + window - 1, tile), np.float32)
    for place in range(tile):
        band[..., place : place + window, place] = taps
    padded = jnp.pad(maps, [(0, 0)] * (maps.ndim - 1) + [(0, tiles * tile - size)])
    seen = [padded[..., at * tile : (at + 1) * tile + window - 1] for at in range(tiles)]
    return jnp.stack(seen), jnp.asarray(band)


@functools.partial(jax.jit, static_argnames=("time_steps", "bank", "radius"))
def encode(image: jax.Array, *, time_steps: int = 15, bank: FilterBank = DIGITS, radius: int = 8) -> jax.Array:
    """Encodes an image as latencies: filters, thresholds, local normalisation, rank order over all channels.

    Args:
      image: (H, W) or (H, W, 3) of 0..255, any real dtype.
      time_steps: T.
      bank: the filters and their thresholds.
      radius: of the local normalisation, in pixels.

    Returns:
      (F, H, W) unsigned integer latencies, T where silent. A blank or constant image is silent but for its border.

    Raises:
      TypeError, InputError: wrong shape; T < 1.
    """
    maps = filter_image(image, bank=bank)
    return rank_order(local_normalization(maps, radius=radius), time_steps=time_steps)


@dataclasses.dataclass(frozen=True)
class Encoder:
    """The settings of `encode` in one place: `encoder(image)` is (F, H, W) latencies.

    Attributes:
      bank: the filters and their thresholds.
      time_steps: T.
      radius: of the local normalisation, in pixels.
      native: takes the compiled rank order of `snnjax.kernels.native`, on a CPU; its results are the same.
    """

    bank: FilterBank = DIGITS
    time_steps: int = 15
    radius: int = 8
    native: bool = False

    def __call__(self, image: jax.Array) -> jax.Array:
        """Encodes an image, as `encode` does."""
        if self.native:
            maps = local_normalization(filter_image(image, bank=self.bank), radius=self.radius)
            return native.rank_order(maps, time_steps=self.time_steps)
        return encode(image, time_steps=self.time_steps, bank=self.bank, radius=self.radius)

    def output_shape(self, image_shape: tuple[int, ...]) -> tuple[int, int, int]:
        """(F, H, W) of the latencies of images of this shape; raises InputError where it does not fit."""
        return self.bank.output_shape(image_shape)


GREY = Encoder()
"""For images (H, W): six maps of the image's size, T = 15."""

COLOUR = Encoder(COLOURS, time_steps=20)
"""For images (H, W, 3): 18 maps, two rows and columns larger than the image, T = 20."""
