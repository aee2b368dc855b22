"""Protocols of encoders."""

from typing import Protocol

import jax
import numpy as np


class ImageEncoder(Protocol):
    """A component that converts images to latencies; networks save it, and sweeps vary its numbers.

    This is a protocol: a class with these attributes and methods need not inherit from it. An encoder with an
    additional method `fit` is fitted to the training images: see `FittedEncoder`.

    Attributes:
      time_steps: T.
    """

    @property
    def time_steps(self) -> int: ...

    def __call__(self, image: jax.Array, /) -> jax.Array:
        """The latencies (C, H, W) of an image, uint8 for up to 255 steps, uint16 for up to 65,535; T for silent.

        Images have the form of the data set: (H, W), (H, W, 3) or (H, W, 2), uint8 or float32 in 0..255. The method is
        called under jit.
        """

    def output_shape(self, image_shape: tuple[int, ...], /) -> tuple[int, int, int]:
        """(C, H, W) for images of this shape, also before a fit; raises InputError if the shape is not supported."""


class FittedEncoder(ImageEncoder, Protocol):
    """An encoder that is fitted to the training images, before the first layer learns.

    Attributes:
      fitted: whether it has been fitted. Fields that `fit` determines are declared with `snnjax.networks.fitted`, and
        are saved with the network. Before the fit they contain a number such as 0.0, so that this attribute may be
        `np.ndim(self.mean) > 0`.
    """

    @property
    def fitted(self) -> bool: ...

    def fit(self, images: np.ndarray, /) -> "FittedEncoder":
        """The same component with fitted arrays, given the training images (N, ...); no other field may change.

        The same images must give the same arrays, because a run may fit twice.
        """
