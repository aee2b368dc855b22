"""Filters of images: differences of Gaussians, Gabor filters, and banks of them with thresholds."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from snnjax.components import component, static
from snnjax.errors import InputError
from snnjax.kernels import checks


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


@component
class FilterBank:
    """Filters with their thresholds: what an image passes first. All of it is structure; it is hashable.

    Attributes:
      kernels: the filters, (n, n) each with n odd; smaller ones are zero-padded to the largest.
      threshold: outputs below it become 0; one number, or one for each kernel.
      absolute: takes the absolute value of the outputs, after the threshold.
      padding: rows and columns of zeros on each side of the image; by default n // 2 of the largest kernel, so that
        the outputs are of the image's size.
      copies: how often each output comes, side by side.
    """

    kernels: tuple[tuple[tuple[float, ...], ...], ...] = static()
    threshold: float | tuple[float, ...] = static(default=50.0)
    absolute: bool = static(default=False)
    padding: int | None = static(default=None)
    copies: int = static(default=1)

    def check(self) -> None:
        """Raises TypeError or InputError where something is wrong."""
        if not self.kernels:
            raise InputError("`kernels` must hold at least one")
        for kernel in self.kernels:
            shapes = sorted({np.shape(row) for row in kernel})
            if len(kernel) % 2 == 0 or shapes != [(len(kernel),)]:
                raise InputError(f"`kernels` must be square with odd sides, got {len(kernel)} rows of shapes {shapes}")
        each = self.threshold if isinstance(self.threshold, tuple) else (self.threshold,) * len(self.kernels)
        if len(each) != len(self.kernels):
            raise InputError(f"`threshold` must be one number or {len(self.kernels)}, got {len(each)}")
        if not np.isfinite([*each, *(tap for kernel in self.kernels for row in kernel for tap in row)]).all():
            raise InputError("`kernels` and `threshold` must be finite numbers")
        if self.padding is not None:
            checks.integer("padding", self.padding, 0)
        checks.integer("copies", self.copies, 1)

    def __repr__(self) -> str:
        window = max(map(len, self.kernels))
        return f"FilterBank({len(self.kernels)} kernels up to {window}x{window}, threshold={self.threshold})"

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
        for kernel in kernels:
            checks.array("kernels", kernel, "n n")
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
