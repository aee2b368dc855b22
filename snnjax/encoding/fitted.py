"""Encoders that are fitted to the training images: on and off centre, or whitened, calibrated, linear latencies.

References:
  Falez et al. 2019, Multi-layered SNN with target timestamp threshold adaptation and STDP (arXiv 1904.01908).
  Falez et al. 2020, Improving STDP-based visual feature learning with whitening (arXiv 2002.10177).
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from snnjax.core import checks, devices
from snnjax.core.components import component, fitted, number, static
from snnjax.core.errors import InputError, TooSmallError
from snnjax.encoding.filters import PIXEL_BITS, FilterBank, check_odd, correlate, grey_of, pixel_parts, planes
from snnjax.kernels import exact
from snnjax.kernels.spikes import linear_latency

PATCHES = 100_000  # that whitening is computed from
PATCHES_AT_ONCE = 5_000
ROUNDING = 1e-5
MAPS_AT_ONCE = 1 << 24  # bytes of the maps of the images that are calibrated at once

Numbers = float | np.ndarray


@jax.jit
def calibrate(maps: jax.Array, minimum: jax.Array, maximum: jax.Array) -> jax.Array:
    """Rescales each pixel of each map from its minimum..maximum to 0..1, clipped; 0 if both are equal.

    The maps (of filtered images in 0..1), the minimum and the maximum are (C, H, W) float. Differences of up to 1e-5
    are caused by rounding and count as 0, because otherwise pixels that never change would fire at random.

    Examples:
      >>> import jax.numpy as jnp
      >>> from snnjax.encoding import calibrate
      >>> maps = jnp.array([[[0.5, 0.75, 0.5]]])
      >>> minimum = jnp.array([[[0.5, 0.5, 0.5]]])
      >>> maximum = jnp.array([[[1.0, 1.0, 0.5]]])
      >>> calibrate(maps, minimum, maximum).tolist()
      [[[0.0, 0.5, 0.0]]]
    """
    checks.array("maps", maps, "C H W", "floats")
    above = maps - minimum
    span = jnp.asarray(maximum - minimum)
    differ = (above > ROUNDING) & (span > ROUNDING)
    return jnp.minimum(jnp.where(differ, above / jnp.where(differ, span, 1), 0), 1)


class Calibrated:
    """Base class of both encoders: latencies of their `maps`, each pixel calibrated to the training images."""

    @property
    def fitted(self: Any) -> bool:
        """Whether it has been fitted."""
        return np.ndim(self.maximum) > 0

    def fit(self: Any, images: np.ndarray) -> Any:
        """The same encoder, fitted to images (N, H, W) or (N, H, W, 3) in 0..255; raises InputError if all are equal.

        The same images give the same encoder.
        """
        checks.array("images", images, None)
        checks.some("images", images, "at least two that differ")
        bytes_each = 4 * math.prod(self._size(images.shape[1:]))
        encoder = self._with_filters(images)
        count = len(images)
        at_once = min(count, max(1, MAPS_AT_ONCE // bytes_each))
        parts = []
        for start in range(0, count, at_once):
            places = np.minimum(np.arange(start, start + at_once), count - 1)  # the last image again: no other program
            parts.append(_extremes(encoder, images[places]))
        minimum = np.min([low for low, _ in parts], axis=0)
        maximum = np.max([high for _, high in parts], axis=0)
        if not (maximum - minimum > ROUNDING).any():
            raise InputError(
                f"`images` must differ for an encoder to be fitted to them, got {count} that are all alike"
            )
        return dataclasses.replace(encoder, minimum=minimum, maximum=maximum)

    def __call__(self: Any, image: jax.Array) -> jax.Array:
        """Maps an image in 0..255, of any real dtype, to unsigned integers of `output_shape`, T for silent."""
        checks.array("image", image, None)
        if not self.fitted:
            kind = type(self).__name__
            raise InputError(f"`encoder` must be fitted to take images: train the network, or call {kind}.fit(images)")
        self.output_shape(image.shape)
        return _latencies(self, image)

    def output_shape(self: Any, image_shape: tuple[int, ...]) -> tuple[int, int, int]:
        """The shape of the latencies of images (H, W) or (H, W, 3).

        Raises InputError for other shapes, for images smaller than a patch, and for a size that differs from that of
        the images in `fit`.
        """
        shape = self._size(image_shape)
        if self.fitted and shape != np.shape(self.maximum):
            fitted = f"that the encoder is fitted to, which become {np.shape(self.maximum)}"
            raise InputError(
                f"`image` must be as those {fitted}, got {image_shape}: resize it, or fit the encoder again"
            )
        return shape

    def _check_extremes(self: Any, channels: int) -> None:
        """Raises InputError unless minimum and maximum are numbers, or finite (channels, H, W)."""
        shapes = np.shape(self.minimum), np.shape(self.maximum)
        if shapes[0] != shapes[1] or (shapes[0] and (len(shapes[0]) != 3 or shapes[0][0] != channels)):
            raise InputError(
                f"`minimum` and `maximum` must have one shape ({channels}, H, W), got {shapes[0]}, {shapes[1]}"
            )


@jax.jit
def _latencies(encoder: Any, image: jax.Array) -> jax.Array:
    values = calibrate(encoder.maps(image), encoder.minimum, encoder.maximum)
    return linear_latency(values, time_steps=encoder.time_steps)


@jax.jit
def _extremes(encoder: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Minimum and maximum of the maps of images (N, ...), (C, H, W) each."""
    maps = devices.map_each(encoder.maps, images)
    return maps.min(axis=0), maps.max(axis=0)


@component
class OnOff(Calibrated):
    """On-centre and off-centre responses of a difference of Gaussians as latencies, calibrated to the training images.

    `encoder.fit(images)` calibrates the encoder. `encoder(image)` returns `linear_latency`, (2, H, W), of the positive
    and of the negative part of the filtered image, after each pixel has been rescaled to its range in the training
    images. Colour planes are averaged, and borders are replicated. Sums are as exact as those of `filter_image`.

    Attributes:
      window: rows and columns of the filter, odd.
      centre: the standard deviation of the inner Gaussian, in pixels; its sum is 1.
      surround: the standard deviation of the outer Gaussian, in pixels; its sum is 1.
      time_steps: T.
      minimum: the minimum of each part and pixel over the training images, (2, H, W) float32; 0.0 until fitted.
      maximum: the maximum, in the same form.

    Examples:
      >>> from snnjax.data import digits
      >>> from snnjax.encoding import OnOff
      >>> data = digits()
      >>> encoder = OnOff(surround=4.0).fit(data.train_images[:100])
      >>> encoder(data.test_images[0]).shape
      (2, 28, 28)
    """

    window: int = static(default=7)
    centre: float = static(default=1.0, above=0)
    surround: float = static(default=2.0, above=0)
    time_steps: int = static(default=255, minimum=1)
    minimum: Numbers = fitted(default=0.0)
    maximum: Numbers = fitted(default=0.0)

    def check(self) -> None:
        """Raises TypeError or InputError for invalid settings."""
        check_odd("window", self.window, 3)
        if self.centre == self.surround:
            raise InputError(f"`centre` and `surround` must differ, got {self.centre} for both")
        self._check_extremes(2)

    def maps(self, image: jax.Array) -> jax.Array:
        """The positive and the negative part of the filtered image, (2, H, W) float32, not calibrated."""
        grey, bits = grey_of(image)
        padded = jnp.pad(grey, self.window // 2, mode="edge")
        return jnp.maximum(correlate(padded, image.dtype, bits, self.bank, 1 / (255 * planes(image.shape))), 0)

    def _taps(self) -> np.ndarray:
        """The rows and columns of the two Gaussians: (2, window), each with the sum 1."""
        places = np.arange(self.window) - self.window // 2
        gaussians = np.exp(-(places**2) / (2 * np.square([[self.centre], [self.surround]])))
        return gaussians / gaussians.sum(axis=1, keepdims=True)

    def _size(self, image_shape: tuple[int, ...]) -> tuple[int, int, int]:
        planes(image_shape)
        return 2, image_shape[0], image_shape[1]

    def _with_filters(self, images: np.ndarray) -> "OnOff":
        return self

    @property
    def bank(self) -> FilterBank:
        """The filters of the two maps."""
        centre, surround = (np.outer(taps, taps) for taps in self._taps())
        return FilterBank.of([centre - surround, surround - centre])


class Filters(NamedTuple):
    """The filters of an encoder's maps.

    Attributes:
      weights: of each map, (F, n, n) or in colour (F, n, n, 3).
      margin: rows and columns of a filter before its middle.
    """

    weights: np.ndarray
    margin: int


@component
class Whitening(Calibrated):
    """Whitened pixels as latencies, calibrated to the training images.

    `encoder.fit(images)` computes the filters and calibrates the encoder. `encoder(image)` returns `linear_latency`,
    (2 C, H, W), with C = 1 for grey images or 3 for colours: the positive parts of all filtered channels, then the
    negative parts. Borders are replicated.

    The filters are those of zero-phase component analysis (ZCA). From random patches of training images, minus their
    mean, the covariance U diag(s) U' is computed, and W = U diag(1 / sqrt(s + epsilon)) U'. The filter of a channel is
    the response of W to an impulse in this channel in the middle of the patch, minus its mean.

    Attributes:
      window: rows and columns of the patches and filters, odd.
      epsilon: added to the variances of images in 0..1.
      share: the share of the principal components that are kept, those with the largest variance; above 0, at most 1.
      time_steps: T.
      filters: (C, C, window, window) float32, by output and input channel; 0.0 until fitted.
      minimum: the minimum of each part and pixel over the training images, (2 C, H, W) float32; 0.0 until fitted.
      maximum: the maximum, in the same form.

    Examples:
      >>> from snnjax.data import digits
      >>> from snnjax.encoding import Whitening
      >>> data = digits()
      >>> encoder = Whitening(window=5).fit(data.train_images[:100])
      >>> encoder.filters.shape, encoder(data.test_images[0]).shape
      ((1, 1, 5, 5), (2, 28, 28))
    """

    window: int = static(default=9)
    epsilon: float = number(default=0.01, above=0)
    share: float = number(default=1.0, above=0, maximum=1)
    time_steps: int = static(default=255, minimum=1)
    filters: Numbers = fitted(default=0.0)
    minimum: Numbers = fitted(default=0.0)
    maximum: Numbers = fitted(default=0.0)

    def check(self) -> None:
        """Raises TypeError or InputError for invalid settings."""
        check_odd("window", self.window, 3)
        filters = np.asarray(self.filters)
        channels = len(np.atleast_1d(self.filters))
        if self.fitted:
            size = (self.window, self.window)
            checks.shape("filters", filters, (channels, channels, *size), "(C, C, window, window)")
        self._check_extremes(2 * channels)

    def maps(self, image: jax.Array) -> jax.Array:
        """The positive and the negative parts of the filtered image, (2 C, H, W) float32, not calibrated."""
        channels = jnp.moveaxis(jnp.atleast_3d(image.astype(jnp.float32)), -1, 0)
        images = pixel_parts(channels, image.dtype)
        filters = jnp.asarray(self.filters)
        bits = max(1, exact.MANTISSA - PIXEL_BITS - (filters[0].size - 1).bit_length())
        taps = exact.split(filters, bits, -(-exact.MANTISSA // bits))
        together = jnp.concatenate(taps[::-1])
        filtered = [jnp.split(_correlate(part, together), len(taps)) for part in reversed(images)]
        responses = exact.add(piece for pieces in filtered for piece in pieces) / 255
        return jnp.maximum(jnp.concatenate([responses, -responses]), 0)

    def _size(self, image_shape: tuple[int, ...]) -> tuple[int, int, int]:
        channels = planes(image_shape)
        height = image_shape[0]
        width = image_shape[1]
        if min(height, width) < self.window:
            raise TooSmallError(f"`image` must have at least {self.window} rows and columns, got shape {image_shape}")
        return 2 * channels, height, width

    def _with_filters(self, images: np.ndarray) -> "Whitening":
        filters = whitening_filters(images, self.window, float(self.epsilon), float(self.share))
        return dataclasses.replace(self, filters=filters, minimum=0.0, maximum=0.0)

    @property
    def bank(self) -> Filters | None:
        """The filters of the maps, grey or in colour; None until fitted."""
        if not self.fitted:
            return None
        filters = np.moveaxis(np.asarray(self.filters), 1, -1)
        grey = filters[..., 0] if filters.shape[-1] == 1 else filters
        return Filters(np.concatenate([grey, -grey]), self.window // 2)


def whitening_filters(images: np.ndarray, patch: int, epsilon: float, share: float) -> np.ndarray:
    """The filters of `Whitening`, (C, C, patch, patch) float32, from images (N, H, W[, C]) of 0..255."""
    views = np.lib.stride_tricks.sliding_window_view(images, (patch, patch), axis=(1, 2))
    # A fixed seed, because a resumed training run may fit its encoder again, and must get the same filters.
    places = np.random.default_rng(0).integers(0, views.shape[:3], (PATCHES, 3))
    values = views[0, 0, 0].size
    total = np.zeros(values)
    products = np.zeros((values, values))
    for start in range(0, PATCHES, PATCHES_AT_ONCE):
        drawn = views[tuple(places[start : start + PATCHES_AT_ONCE].T)]
        flat = drawn.reshape(-1, values).astype(np.float64) / 255
        total += flat.sum(axis=0)
        products += flat.T @ flat
    mean = total / PATCHES
    variances, components = np.linalg.eigh(products / PATCHES - np.outer(mean, mean))
    # `eigh` sorts variances in ascending order: the components to keep are the last ones.
    kept = max(1, round(share * values))
    components = components[:, -kept:]
    # Rounding may carry the least variances below 0.
    scale = 1 / np.sqrt(np.maximum(variances[-kept:], 0) + epsilon)
    channels = values // patch**2
    middles = patch**2 * np.arange(channels) + patch**2 // 2
    responses = (components[middles] * scale) @ components.T
    responses -= responses.mean(axis=1, keepdims=True)
    return responses.reshape(channels, channels, patch, patch).astype(np.float32)


def _correlate(channels: jax.Array, taps: jax.Array) -> jax.Array:
    """Cross-correlation of (C, H, W) with filters (F, C, n, n), borders replicated: (F, H, W).

    As one product with all columns of the filters side by side, then the sum over their rows, each shifted: many times
    faster than a convolution of so few channels.
    """
    (features, count, n, _), (_, height, width) = taps.shape, channels.shape
    margin = n // 2
    padded = jnp.pad(channels, ((0, 0), (margin, margin), (margin, margin)), mode="edge")
    shifted = jnp.concatenate([padded[:, :, column : column + width] for column in range(n)]).reshape(n * count, -1)
    columns = taps.transpose(2, 0, 3, 1).reshape(n * features, n * count)
    rows = jnp.matmul(columns, shifted, precision=lax.Precision.HIGHEST).reshape(n, features, -1, width)
    return functools.reduce(jnp.add, [rows[row, :, row : row + height] for row in range(n)])


ON_OFF = OnOff()
"""Fitted to images (H, W): two maps of the image's size, T = 255. Falez et al. 2019 have `surround=4.0` for MNIST."""

WHITENING = Whitening()
"""Fitted to images (H, W, 3), or (H, W): six maps, or two, of the image's size, T = 255, as Falez et al. 2020."""
