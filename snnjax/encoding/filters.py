"""Filters of images: differences of Gaussians, Gabor filters, and banks of them with thresholds."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from snnjax.components import component, static
from snnjax.errors import InputError, wrong_type
from snnjax.kernels import checks


def dog_kernel(window: int, sigma1: float, sigma2: float) -> np.ndarray:
    """A difference of Gaussians with zero mean and maximum 1, (window, window) float32.

    The Gaussian of standard deviation `sigma1`, in pixels, is added, that of `sigma2` subtracted; both are positive and
    differ. `window` is odd, >= 3.
    """
    row, column = _offsets(window)
    if not (sigma1 > 0 and sigma2 > 0 and sigma1 != sigma2):
        raise InputError(f"`sigma1` and `sigma2` must be positive and differ, got {sigma1} and {sigma2}")
    squared = row**2 + column**2
    outer, inner = (np.exp(-squared / (2 * sigma**2)) / sigma**2 for sigma in (sigma1, sigma2))
    return _balanced((outer - inner) / (2 * np.pi))


def gabor_kernel(window: int, orientation: float, div: float = 4.0) -> np.ndarray:
    """A Gabor filter with zero mean and maximum 1, (window, window) float32.

    The orientation is in degrees, the wavelength 2 window / div pixels. `window` is odd, >= 3.
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


def _offsets(window: int) -> np.ndarray:
    if checks.integer("window", window, 1) % 2 == 0:
        raise InputError(f"`window` must be odd, got {window}")
    return np.mgrid[:window, :window] - window // 2


def _balanced(kernel: np.ndarray) -> np.ndarray:
    kernel = kernel - kernel.mean()
    if not kernel.max() > 0:
        raise InputError(f"`window` must be at least 3 for a filter with zero mean, got {len(kernel)}")
    return (kernel / kernel.max()).astype(np.float32)


@component
class FilterBank:
    """Filters with their thresholds, the first step of the encoding.

    Attributes:
      kernels: the filters, (n, n) each with n odd; smaller ones are zero-padded to the largest.
      threshold: outputs below it become 0; one number, one for each kernel, or None for no threshold.
      absolute: takes the absolute value of the outputs, after the threshold.
      padding: rows and columns of zeros on each side of the image; by default those that keep the image's size.
      copies: how many times each output is repeated, side by side.
    """

    kernels: tuple[tuple[tuple[float, ...], ...], ...] = static()
    threshold: float | tuple[float, ...] | None = static(default=None)
    absolute: bool = static(default=False)
    padding: int | None = static(default=None)
    copies: int = static(default=1)

    def check(self) -> None:
        """Raises TypeError or InputError for invalid settings."""
        if not isinstance(self.kernels, tuple) or not self.kernels:
            raise wrong_type("kernels", "one filter or several, as tuples", self.kernels, "FilterBank.of([...])")
        for kernel in self.kernels:
            rows, shapes = len(kernel), sorted({np.shape(row) for row in kernel})
            if rows % 2 == 0 or shapes != [(rows,)]:
                raise InputError(f"`kernels` must be square with odd sides, got {rows} rows of shapes {shapes}")
        thresholds = () if self.threshold is None else self.threshold
        if thresholds != () and np.shape(thresholds) not in ((), (len(self.kernels),)):
            raise InputError(f"`threshold` must be one number or {len(self.kernels)}, got {np.size(thresholds)}")
        if not all(np.isfinite(numbers).all() for numbers in (thresholds, *self.kernels)):
            raise InputError("`kernels` and `threshold` must be finite numbers, got NaN or infinity")
        checks.integer("padding", self.margin, 0)
        checks.integer("copies", self.copies, 1)

    def __repr__(self) -> str:
        count, size = len(self.kernels), self.window
        return f"FilterBank({count} kernels up to {size}x{size}, threshold={self.threshold})"

    @classmethod
    def of(
        cls,
        kernels: Sequence[np.ndarray],
        threshold: float | tuple[float, ...] | None = None,
        absolute: bool = False,
        *,
        padding: int | None = None,
        copies: int = 1,
    ) -> "FilterBank":
        """A bank of (n, n) arrays, such as those of `dog_kernel`."""
        for kernel in kernels:
            checks.array("kernels", kernel, "n n")
        rows = tuple(tuple(map(tuple, kernel.tolist())) for kernel in kernels)
        return cls(rows, threshold, absolute, padding, copies)

    @property
    def window(self) -> int:
        """Rows and columns of the largest kernel."""
        return max(map(len, self.kernels))

    @property
    def weights(self) -> np.ndarray:
        """(F, n, n) float32, one for each output, n the largest window."""
        padded = [np.pad(kernel, (self.window - len(kernel)) // 2) for kernel in self.kernels]
        return np.repeat(padded, self.copies, axis=0).astype(np.float32)

    @property
    def margin(self) -> int:
        """Rows and columns of zeros on each side of the image."""
        return self.window // 2 if self.padding is None else self.padding

    def output_shape(self, image_shape: tuple[int, ...]) -> tuple[int, int, int]:
        """(F, H', W') of the outputs for images (H, W) or (H, W, 3); raises InputError where they do not fit."""
        planes(image_shape)
        growth = 2 * self.margin - self.window + 1
        height, width = (size + growth for size in image_shape[:2])
        if min(height, width) < 1:
            raise InputError(f"`image` must have more than {-growth} rows and columns, got shape {image_shape}")
        return len(self.kernels) * self.copies, height, width


def planes(image_shape: tuple[int, ...]) -> int:
    """1 for images (H, W), 3 for (H, W, 3); raises InputError for other shapes."""
    if len(image_shape) not in (2, 3) or tuple(image_shape[2:]) not in ((), (3,)):
        raise InputError(f"`image` must have axes (H W 3) or (H W), got shape {image_shape}")
    return len(image_shape[2:]) * 2 + 1


def _dogs(*windows: int) -> list[np.ndarray]:
    """Differences of Gaussians at the digit networks' three scales, on and off centre, in windows of these sizes."""
    scales = zip(windows, (3 / 9, 7 / 9, 13 / 9), strict=True)
    return [dog_kernel(n, *sigmas) for n, sigma in scales for sigmas in ((sigma, 2 * sigma), (2 * sigma, sigma))]


DIGITS = FilterBank.of(_dogs(3, 7, 13), threshold=50.0)
"""The six differences of Gaussians, on and off centre at three scales, of the digit networks."""

COLOURS = FilterBank.of(_dogs(5, 9, 15), threshold=40.0, padding=8, copies=3)
"""For colour images: the same scales in wider windows, each three times; the maps gain two rows and columns."""

ON_OFF_DOGS = FilterBank.of([dog_kernel(7, 1, 2), dog_kernel(7, 2, 1)], threshold=50.0)
"""Two differences of Gaussians, on and off centre, of Kheradpisheh et al. 2018."""

GABORS = FilterBank.of([gabor_kernel(5, orientation) for orientation in (67.5, 112.5, 157.5, 202.5)], absolute=True)
"""The four orientations of Mozafari et al. 2018, whatever the sign of the contrast."""


@functools.partial(jax.jit, static_argnames="bank")
def filter_image(image: jax.Array, *, bank: FilterBank = DIGITS) -> jax.Array:
    """Filters an image by zero-padded cross-correlation and applies the thresholds, if any: (F, H', W') float32.

    The image is (H, W) or (H, W, 3) of 0..255, any real dtype; colour planes are added up.
    """
    checks.array("image", image, None)
    bank.output_shape(image.shape)  # raises where the image does not fit
    grey = jnp.atleast_3d(image.astype(jnp.float32)).sum(axis=-1)
    maps = _correlate(jnp.pad(grey, bank.margin), bank)
    if bank.threshold is not None:
        threshold = jnp.asarray(bank.threshold, jnp.float32).reshape(-1, 1, 1)
        maps = jnp.where(maps < threshold, 0, maps)
    return jnp.repeat(jnp.abs(maps) if bank.absolute else maps, bank.copies, axis=0)


def _correlate(image: jax.Array, bank: FilterBank) -> jax.Array:
    """Valid cross-correlation with the kernels of a bank, (H, W) to (F, H - n + 1, W - n + 1), without copies.

    Each kernel is a sum of few products of a column and a row, so that rows and columns are correlated one by one.
    """
    columns, rows, kept, scale = _separated(bank)
    height, width = (size - rows.shape[2] + 1 for size in image.shape)
    tiles, bands = _tiles(image, rows)
    across = jnp.einsum("thc,frcw->frhtw", tiles, bands, precision=lax.Precision.HIGHEST)
    across = across.reshape(*across.shape[:3], -1)[..., :width]
    tiles, bands = _tiles(jnp.moveaxis(across, 2, 3), columns)
    maps = jnp.einsum("tfrwc,frch->fthw", tiles, bands, precision=lax.Precision.HIGHEST)
    maps = maps.reshape(len(maps), -1, width)[:, :height]
    return maps[kept] * scale[:, None, None]


_ROUNDING = 1e-6  # differences to ignore, relative to a kernel's largest value: from its rounding to float32


@functools.cache
def _separated(bank: FilterBank) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The kernels, but for multiples of others, as sums of products: columns and rows, (kernels, terms, n) float32.

    Also, for each kernel of the bank, which of these it is a multiple of, (F,), and the factor, (F,) float32.
    """
    kernels = bank.weights[:: bank.copies].astype(np.float64)
    flat = kernels.reshape(len(kernels), -1)
    factors = flat @ flat.T / np.maximum(np.square(flat).sum(axis=1), np.finfo(float).tiny)
    differences = np.abs(flat[:, None] - factors[:, :, None] * flat).max(axis=2)
    multiples = differences <= _ROUNDING * np.abs(flat).max(axis=1, keepdims=True)
    firsts, kept = np.unique(multiples.argmax(axis=1), return_inverse=True)
    scale = factors[np.arange(len(kernels)), firsts[kept]]
    left, size, right = np.linalg.svd(kernels[firsts])
    terms = max(1, int((size > _ROUNDING * size[:, :1]).sum(axis=1).max()))
    columns = np.swapaxes(left * size[:, None], 1, 2)[:, :terms]
    return columns.astype(np.float32), right[:, :terms].astype(np.float32), kept, scale.astype(np.float32)


def _tiles(maps: jax.Array, taps: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """Tiles of `maps` (tiles, ..., c) and bands of `taps` (..., c, tile) whose product correlates the last axis."""
    window = taps.shape[-1]
    size = maps.shape[-1] - window + 1
    tile = min(32, size)
    count = -(-size // tile)
    band = np.zeros((*taps.shape[:-1], tile + window - 1, tile), np.float32)
    for place in range(tile):
        band[..., place : place + window, place] = taps
    padded = jnp.pad(maps, [(0, 0)] * (maps.ndim - 1) + [(0, count * tile - size)])
    tiles = [padded[..., at * tile : (at + 1) * tile + window - 1] for at in range(count)]
    return jnp.stack(tiles), jnp.asarray(band)
