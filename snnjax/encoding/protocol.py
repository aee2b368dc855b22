"""Protocols of encoders."""

from typing import Protocol

import jax
import numpy as np


class ImageEncoder(Protocol):
    """Makes latencies of images: a component, so that networks save it and sweeps vary its numbers.

    It is a description: a class that has these need not inherit from it.
    One that also has `fit` is fitted to the training images: see `FittedEncoder`.

    Attributes:
      time_steps: T.
    """

    @property
    def time_steps(self) -> int: ...

    def __call__(self, image: jax.Array, /) -> jax.Array:
        """The latencies (C, H, W) of an image, uint8 up to 255 steps, uint16 up to 65,535; T where silent. Under jit.

        Images are as the data set has them: (H, W), (H, W, 3) or (H, W, 2), uint8 or float32 of 0..255.
        """

    def output_shape(self, image_shape: tuple[int, ...], /) -> tuple[int, int, int]:
        """(C, H, W) for images of this shape, before any fit; raises InputError for one that it does not take."""


class FittedEncoder(ImageEncoder, Protocol):
    """An encoder that is fitted to the training images, before the first layer learns.

    Attributes:
      fitted: whether `fit` has made it. Until then the fields that it fits hold a number such as 0.0, so this may be
        `np.ndim(self.mean) > 0`. They are marked by `snnjax.networks.fitted`, and saved with the network.
    """

    @property
    def fitted(self) -> bool: ...

    def fit(self, images: np.ndarray, /) -> "FittedEncoder":
        """The same component with its arrays, from the training images (N, ...): no other field may change.

        The same images must give the same arrays: a run may fit twice.
        """
