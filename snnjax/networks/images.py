"""A description of the images for which a network is made."""

import dataclasses
from typing import Any

from snnjax.core import checks
from snnjax.core.defaults import EPOCHS_OF_FEW, FEW, SHOWN
from snnjax.core.errors import InputError
from snnjax.data.dataset import DEFAULT_ENCODERS, Dataset
from snnjax.encoding import ImageEncoder
from snnjax.networks.model import image_shape
from snnjax.networks.network import Network


@dataclasses.dataclass(frozen=True)
class ImageSpec:
    """The images for which a network is made: the first argument of each function that returns a network.

    Raises InputError for a shape that images cannot have, and for numbers below 1.

    Attributes:
      shape: (H, W) for grey images, (H, W, 3) for colour images, or (H, W, 2) for event pictures.
      classes: the number of classes.
      count: the number of training images with labels, including those held out.
      encoder: the encoder that the user chose; None: that of the network, or else one that suits the images.
      unlabelled: the number of additional training images without labels.
      held_out: how many of the labelled images are held out for validation.

    Examples:
      >>> from snnjax.data import digits
      >>> from snnjax.networks import ImageSpec, mozafari2018
      >>> images = ImageSpec.of(digits())  # or ImageSpec((28, 28), classes=10, count=1437)
      >>> images.shape, images.classes, images.count
      ((28, 28), 10, 1437)
      >>> mozafari2018(images).input_shape == images.input_shape
      True
    """

    shape: tuple[int, ...] = (28, 28)
    classes: int = 10
    count: int = 60_000
    encoder: ImageEncoder | None = None
    unlabelled: int = 0
    held_out: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.shape, tuple) or len(self.shape) < 2 or self.shape[2:] not in DEFAULT_ENCODERS:
            raise InputError(f"`shape` of images must be (H, W), (H, W, 3) or (H, W, 2), got {self.shape}")
        checks.integer("classes", self.classes, 1)
        checks.integer("count", self.count, 1)
        checks.integer("unlabelled", self.unlabelled, 0)
        checks.integer("held_out", self.held_out, 0, self.count)

    @classmethod
    def of(cls, data: Dataset, encoder: ImageEncoder | None = None) -> "ImageSpec":
        """The images of a data set."""
        held_out = 0 if data.validation_images is None else len(data.validation_images)
        unlabelled = 0 if data.unlabelled_images is None else len(data.unlabelled_images)
        labelled = len(data.train_images) + held_out
        return cls(data.train_images.shape[1:], data.classes, labelled, encoder, unlabelled, held_out)

    @property
    def total(self) -> int:
        """The number of training images, with or without labels."""
        return self.count + self.unlabelled

    @property
    def few(self) -> bool:
        """Whether only few images have labels."""
        return self.count < FEW

    def epochs(self, *unsupervised: int, supervised: int | None = None) -> tuple[int, ...]:
        """The number of epochs of each stage: the given numbers, unless only a `few` images have labels.

        In that case there are 100 supervised epochs. If there are fewer than 5,000 images in total, a stage that learns
        without labels also gets more epochs, so that it sees 10,000 images; a stage with 0 epochs keeps them.
        """
        shown = self.total - self.held_out
        if self.few and shown < FEW:
            enough = -(-SHOWN // max(1, shown))
            unsupervised = tuple(enough if epochs else 0 for epochs in unsupervised)
        if supervised is None:
            return unsupervised
        return *unsupervised, EPOCHS_OF_FEW if self.few else supervised

    @property
    def suitable_encoder(self) -> ImageEncoder:
        """`encoder`, or else the one that suits the images: `GREY`, `COLOUR` or `EVENTS`."""
        return self.encoder or DEFAULT_ENCODERS[self.shape[2:]]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images, encoded by `suitable_encoder`."""
        shape: Any = self.suitable_encoder.output_shape(self.shape)
        checks.instance("encoder.output_shape(...)", shape, tuple | list, "(C, H, W)")
        return tuple(shape)


def default_encoder(network: Network, pixel: tuple[int, ...]) -> ImageEncoder:
    """The encoder for a network without one, for images whose pixels have this shape: (), (3,) or (2,)."""
    return dataclasses.replace(DEFAULT_ENCODERS[pixel], time_steps=network.time_steps)


def with_encoder(network: Network, data: Dataset) -> Network:
    """The network with an encoder: its own, or that of the data."""
    if network.encoder is not None:
        return network
    return dataclasses.replace(network, encoder=default_encoder(network, data.train_images.shape[3:]))


def with_default_encoder(network: Network) -> Network:
    """The network with an encoder: its own, or the `default_encoder` that produces its input, if there is one."""
    if network.encoder is not None:
        return network
    for pixel in DEFAULT_ENCODERS:
        encoded = dataclasses.replace(network, encoder=default_encoder(network, pixel))
        if image_shape(encoded, pixel):
            return encoded
    return network


def check_images(images: Any) -> None:
    """Raises InputError unless the argument of a function that makes a network is an `ImageSpec`."""
    checks.instance("images", images, ImageSpec, "an ImageSpec", "ImageSpec((28, 28), classes=10)")


MNIST = ImageSpec()
CIFAR10 = ImageSpec((32, 32, 3), count=50_000)
