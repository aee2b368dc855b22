"""Filters of images: differences of Gaussians, Gabor filters, and banks of them with thresholds."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from snnjax.core import checks
from snnjax.core.components import component, static
from snnjax.core.errors import InputError
from snnjax.kernels import exact


def dog_kernel(window: int, sigma1: float, sigma2: float) -> np.ndarray:
    """A difference of Gaussians with zero mean and maximum 1, (window, window) float32.

    It is the Gaussian with the standard deviation `sigma1`, in pixels, minus that with `sigma2`; both must be positive,
    and must differ. `window` must be odd, and at least 3.

    Examples:
      >>> from snnjax.encoding import dog_kernel
      >>> on_centre = dog_kernel(7, sigma1=1.0, sigma2=2.0)
      >>> on_centre.shape, float(on_centre[3, 3])
      ((7, 7), 1.0)
    """
    row, column = _offsets(window)
    checks.number("sigma1", sigma1, above=0)
    checks.number("sigma2", sigma2, above=0)
    if sigma1 == sigma2:
        raise InputError(f"`sigma1` and `sigma2` must differ, got {sigma1} for both")
    squared = row**2 + column**2
    outer, inner = (np.exp(-squared / (2 * sigma**2)) / sigma**2 for sigma in (sigma1, sigma2))
    return _balanced((outer - inner) / (2 * np.pi))


def gabor_kernel(window: int, orientation: float, div: float = 4.0) -> np.ndarray:
    """A Gabor filter with zero mean and maximum 1, (window, window) float32.

    The orientation is in degrees, and the wavelength is 2 window / div pixels. `window` must be odd, and at least 3.

    Examples:
      >>> from snnjax.encoding import FilterBank, gabor_kernel
      >>> edges = FilterBank.of([gabor_kernel(5, orientation) for orientation in (0, 45, 90, 135)], absolute=True)
      >>> edges.output_shape((28, 28))
      (4, 28, 28)
    """
    row, column = _offsets(window)
    checks.number("div", div, above=0)
    wavelength = 2 * window / div
    angle = np.deg2rad(orientation)
    sigma = 0.8 * wavelength
    gamma = 0.3
    along = row * np.cos(angle) + column * np.sin(angle)
    across = column * np.cos(angle) - row * np.sin(angle)
    envelope = np.exp(-(along**2 + gamma**2 * across**2) / (2 * sigma**2))
    return _balanced(envelope * np.cos(2 * np.pi * along / wavelength))


def _offsets(window: int) -> np.ndarray:
    check_odd("window", window, 1)
    return np.mgrid[:window, :window] - window // 2


def check_odd(name: str, value: int, least: int) -> None:
    """Raises InputError unless a value is an odd integer of at least `least`."""
    if checks.integer(name, value, least) % 2 == 0:
        raise InputError(f"`{name}` must be odd, got {value}")


def _balanced(kernel: np.ndarray) -> np.ndarray:
    kernel = kernel - kernel.mean()
    if not kernel.max() > 0:
        raise InputError(f"`window` must be at least 3 for a filter with zero mean, got {len(kernel)}")
    return (kernel / kernel.max()).astype(np.float32)


LARGEST_WINDOW = 127
"""Rows and columns of a kernel: sums of more taps would take many parts to be exact."""


@component
class FilterBank:
    """Filters with their thresholds, the first step of the encoding.

    Attributes:
      kernels: the filters, (n, n) each, with n odd and at most 127; smaller ones are zero-padded to the largest size.
      threshold: outputs below the threshold become 0; one number, a number for each kernel, or None for no threshold.
      absolute: whether the absolute values of the outputs are used, after the threshold.
      padding: rows and columns added on each side of the image; by default so many that the size does not change.
      copies: how often each output is repeated, as consecutive maps.
      reflect: whether the image is padded by reflection instead of zeros, which act like an edge.

    Examples:
      >>> from snnjax.encoding import Encoder, FilterBank, dog_kernel
      >>> on_and_off = FilterBank.of([dog_kernel(7, 1, 2), dog_kernel(7, 2, 1)], threshold=50.0)
      >>> on_and_off
      FilterBank(2 kernels up to 7x7, threshold=50.0)
      >>> Encoder(on_and_off).output_shape((28, 28))
      (2, 28, 28)
    """

    kernels: tuple[tuple[tuple[float, ...], ...], ...] = static()
    threshold: float | tuple[float, ...] | None = static(default=None)
    absolute: bool = static(default=False)
    padding: int | None = static(default=None, minimum=0)
    copies: int = static(default=1, minimum=1)
    reflect: bool = static(default=False)

    def check(self) -> None:
        """Raises TypeError or InputError for invalid settings."""
        expected = "one filter or several, as tuples"
        checks.instance("kernels", self.kernels or None, tuple, expected, "FilterBank.of([...])")
        for kernel in self.kernels:
            rows = len(kernel)
            shapes = sorted({np.shape(row) for row in kernel})
            if rows % 2 == 0 or rows > LARGEST_WINDOW or shapes != [(rows,)]:
                expected = f"square with odd sides of at most {LARGEST_WINDOW}"
                raise InputError(f"`kernels` must be {expected}, got {rows} rows of shapes {shapes}")
            checks.number("kernels", kernel, arrays=True)
        if self.threshold is not None:
            checks.scalar_or_vector("threshold", self.threshold, len(self.kernels), "kernels")
            checks.number("threshold", self.threshold, arrays=True)

    def __repr__(self) -> str:
        count = len(self.kernels)
        size = self.window
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
        reflect: bool = False,
    ) -> "FilterBank":
        """A bank with (n, n) arrays, such as those from `dog_kernel`."""
        for kernel in kernels:
            checks.array("kernels", kernel, "n n")
        rows = tuple(tuple(map(tuple, kernel.tolist())) for kernel in kernels)
        return cls(rows, threshold, absolute, padding, copies, reflect)

    @property
    def window(self) -> int:
        """Rows and columns of the largest kernel."""
        return max(map(len, self.kernels))

    @property
    def weights(self) -> np.ndarray:
        """(F, n, n) float32, one filter for each output, where n is the largest window."""
        padded = [np.pad(kernel, (self.window - len(kernel)) // 2) for kernel in self.kernels]
        return np.repeat(padded, self.copies, axis=0).astype(np.float32)

    @property
    def margin(self) -> int:
        """Rows and columns added on each side of the image."""
        return self.window // 2 if self.padding is None else self.padding

    def output_shape(self, image_shape: tuple[int, ...]) -> tuple[int, int, int]:
        """(F, H', W') of the outputs for images (H, W) or (H, W, 3); raises InputError if they do not fit."""
        planes(image_shape)
        growth = 2 * self.margin - self.window + 1
        height, width = (size + growth for size in image_shape[:2])
        least = max(-growth, self.margin if self.reflect else 0)
        if min(image_shape[:2]) <= least:
            raise InputError(f"`image` must have more than {least} rows and columns, got shape {image_shape}")
        return len(self.kernels) * self.copies, height, width


def planes(image_shape: tuple[int, ...]) -> int:
    """The number of planes: 1 for images (H, W), 3 for (H, W, 3); raises InputError for other shapes."""
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

GABORS = FilterBank.of(
    [gabor_kernel(5, orientation) for orientation in (67.5, 112.5, 157.5, 202.5)], absolute=True, reflect=True
)
"""The four orientations of Mozafari et al. 2018, whatever the sign of the contrast; the border is no edge."""


@functools.partial(jax.jit, static_argnames=("bank", "scale"))
def filter_image(image: jax.Array, *, bank: FilterBank = DIGITS, scale: float = 1.0) -> jax.Array:
    """Filters an image by cross-correlation and applies the thresholds, if any: (F, H', W') float32.

    The image is (H, W) or (H, W, 3) in 0..255, of any real dtype, times `scale`; colour planes are summed.

    Outputs do not depend on the device or on how many images are filtered at a time, because partial sums are exact and
    then added in a fixed order. Equal neighbourhoods have equal outputs, and a filter with zero mean gives exactly 0
    where an image is constant. Floats are rounded to 24 bits of the largest one.

    Examples:
      >>> from snnjax.data import digits
      >>> from snnjax.encoding import ON_OFF_DOGS, filter_image
      >>> maps = filter_image(digits().test_images[0], bank=ON_OFF_DOGS)
      >>> maps.shape, maps.dtype
      ((2, 28, 28), dtype('float32'))
    """
    checks.array("image", image, None)
    bank.output_shape(image.shape)  # raises where the image does not fit
    grey, bits = grey_of(image)
    padded = jnp.pad(grey, bank.margin, mode="reflect" if bank.reflect else "constant")
    maps = correlate(padded, image.dtype, bits, bank, scale)
    if bank.threshold is not None:
        threshold = jnp.asarray(bank.threshold, jnp.float32).reshape(-1, 1, 1)
        maps = jnp.where(maps < threshold, 0, maps)
    return jnp.repeat(jnp.abs(maps) if bank.absolute else maps, bank.copies, axis=0)


PIXEL_BITS = 8
PIXEL_PARTS = 3  # of pixels that are floats
TILE = 32  # columns of the output that are computed by one product
TAP_BITS = 24  # of the largest tap of a filter, as many as float32 has


def grey_of(image: jax.Array) -> tuple[jax.Array, int]:
    """The sum of an image's planes, (H, W) float32, and the bits of a part of it."""
    colours = jnp.atleast_3d(image.astype(jnp.float32))
    grey = exact.add(colours[..., plane] for plane in range(colours.shape[2]))
    return grey, PIXEL_BITS + (colours.shape[2] - 1).bit_length()


def pixel_parts(pixels: jax.Array, dtype: jnp.dtype, bits: int = PIXEL_BITS) -> list[jax.Array]:
    """Pixels (...) float32, originally of a `dtype`, as exact parts of `bits` bits; uint8 pixels are a single part."""
    return [pixels] if dtype == jnp.uint8 else exact.split(pixels, bits, PIXEL_PARTS)


def correlate(grey: jax.Array, dtype: jnp.dtype, bits: int, bank: FilterBank, scale: float) -> jax.Array:
    """Valid cross-correlation of an image (H, W) with a bank's kernels, times `scale`: (F, H', W') float32, exactly.

    The image, originally of a `dtype` and then converted by `grey_of`, is split into parts of `bits` bits.
    """
    kernels = distinct_kernels(bank, 2**bits)
    images = pixel_parts(grey, dtype, bits)
    sums = [_group_sums(images, group, (bank.window - group.window) // 2) for group in kernels.groups]
    maps = jnp.concatenate(sums)
    return maps[kernels.places] * (kernels.factors * np.float32(scale))[:, None, None]


def _group_sums(images: Sequence[jax.Array], group: "TapGroup", margin: int) -> jax.Array:
    """The sum of all parts of a group on all parts of an image less a `margin`, (F, H', W')."""
    inner = [image[margin : image.shape[0] - margin, margin : image.shape[1] - margin] for image in images]
    parts = [_correlate(image, group) for image in inner]
    return exact.add(part[:, index] for index in reversed(range(len(group.taps))) for part in reversed(parts))


class TapGroup(NamedTuple):
    """Kernels of one size, as exact parts.

    Attributes:
      taps: (parts, F, rows, n) float32; for kernels that equal their vertical mirror image, only the rows up to the
        middle one.
      window: n.
    """

    taps: np.ndarray
    window: int

    @property
    def folded(self) -> bool:
        """Whether rows are left out."""
        return self.taps.shape[2] < self.window

    @property
    def unfolded(self) -> np.ndarray:
        """The taps with all rows, (parts, F, n, n) float32."""
        below = self.taps[:, :, : self.window - self.taps.shape[2]]
        return np.concatenate([self.taps, below[:, :, ::-1]], axis=2)


class DistinctKernels(NamedTuple):
    """The distinct kernels of a bank, without those that are multiples of another one.

    Attributes:
      groups: the distinct kernels, grouped by size.
      places: for each kernel of the bank, the index among all groups of the kernel that it is a multiple of, (F,).
      factors: for each kernel of the bank, the factor, (F,) float32.
    """

    groups: list[TapGroup]
    places: np.ndarray
    factors: np.ndarray


def _correlate(image: jax.Array, group: TapGroup) -> jax.Array:
    """Valid cross-correlation of one image with all parts of the taps, (F, parts, H', W').

    As one product: a row of the output sees `window` rows of the image side by side.
    """
    height, width = (length - group.window + 1 for length in image.shape)
    rows = [image[row : row + height] for row in range(group.window)]
    if group.folded:
        middle = group.window // 2
        rows = [*(rows[row] + rows[-1 - row] for row in range(middle)), rows[middle]]
    tile = min(TILE, width)
    count = -(-width // tile)
    parts, features, _, window = group.taps.shape
    band = np.zeros((len(rows), tile + window - 1, features, parts, tile), np.float32)
    for place in range(tile):
        band[:, place : place + window, :, :, place] = group.taps.transpose(2, 3, 1, 0)
    spare = count * tile - width
    padded = [jnp.pad(row, ((0, 0), (0, spare))) for row in rows]
    starts = range(0, count * tile, tile)
    tiles = [jnp.concatenate([row[:, start : start + len(band[0])] for row in padded], axis=1) for start in starts]
    # Sums are exact only if products keep all 24 bits: the default precision of accelerators rounds factors to fewer.
    sums = jnp.matmul(
        jnp.concatenate(tiles), band.reshape(-1, features * parts * tile), precision=lax.Precision.HIGHEST
    )
    sums = sums.reshape(count, height, features, parts, tile).transpose(2, 3, 1, 0, 4)
    return sums.reshape(features, parts, height, -1)[..., :width]


_ROUNDING = 1e-6  # differences to ignore, relative to a kernel's largest value: from its rounding to float32


@functools.cache
def distinct_kernels(bank: FilterBank, largest: int) -> DistinctKernels:
    """The `DistinctKernels` of a bank, for images with integer values up to `largest`."""
    kernels = bank.weights[:: bank.copies].astype(np.float64)
    firsts: list[int] = []
    kept = np.zeros(len(kernels), int)
    factors = np.ones(len(kernels))
    for index, kernel in enumerate(kernels):
        earlier = kernels[firsts]
        squares = np.maximum(np.square(earlier).sum(axis=(1, 2)), np.finfo(float).tiny)
        factor = np.tensordot(earlier, kernel, 2) / squares
        differences = np.abs(kernel - factor[:, None, None] * earlier).max(axis=(1, 2))
        # On and off centre differ only by a factor below 0, so that half of the filters of the digit networks need not
        # be applied.
        same = np.flatnonzero(differences <= _ROUNDING * np.abs(kernel).max())
        if len(same):
            kept[index] = same[0]
            factors[index] = factor[same[0]]
        else:
            kept[index] = len(firsts)
            firsts.append(index)
    sizes = [_size(kernels[first]) for first in firsts]
    groups = []
    order = []
    for size in sorted(set(sizes)):
        members = [index for index, other in enumerate(sizes) if other == size]
        order += members
        margin = (bank.window - size) // 2
        inside = slice(margin, bank.window - margin)
        inner = [kernels[firsts[index]][inside, inside] for index in members]
        groups.append(_group(np.stack([_rounded(kernel) for kernel in inner]), largest))
    places = np.argsort(order)[kept]
    return DistinctKernels(groups, places, factors.astype(np.float32))


def _size(kernel: np.ndarray) -> int:
    """Rows and columns of a kernel without the zeros around it."""
    distances = np.abs(np.argwhere(kernel) - len(kernel) // 2)
    return 2 * int(distances.max(initial=0)) + 1


def _rounded(kernel: np.ndarray) -> np.ndarray:
    """A kernel rounded to `TAP_BITS`, with a sum of exactly 0 if its sum is 0 up to rounding."""
    if not kernel.any():
        return kernel
    rounded = exact.round_to_bits(kernel, TAP_BITS)
    if abs(kernel.sum()) <= _ROUNDING * np.abs(kernel).sum():
        middle = len(kernel) // 2
        rounded[middle, middle] -= rounded.sum()
    return rounded


def _group(kernels: np.ndarray, largest: int) -> TapGroup:
    taps = exact.split_constants(kernels, largest)
    window = kernels.shape[-1]
    if np.array_equal(kernels, kernels[:, ::-1]):
        taps = taps[:, :, : window // 2 + 1]
    return TapGroup(taps, window)
