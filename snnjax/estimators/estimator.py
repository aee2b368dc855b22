"""What the estimators have in common."""

import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, check_non_negative, validate_data

from snnjax.core import checks
from snnjax.core.errors import InputError, unknown, wrong_type
from snnjax.core.metrics import tested_part
from snnjax.data import Dataset
from snnjax.networks import NETWORKS, Images, Network
from snnjax.training.build import encoded_by, network_for
from snnjax.training.loop import Trainer
from snnjax.training.state import Callback, Settings


class _Printed(Callback):
    """Prints a line for each phase of a training, and one for each epoch that learns from labels."""

    def finished(self, record: Mapping[str, Any]) -> None:
        print(f"{record['name']}: {record['images']:,} images in {record['seconds']:.1f} s")

    def tested(self, record: Mapping[str, Any]) -> None:
        print(f"epoch {record['epoch'] + 1}: accuracy {record[tested_part(record)]['accuracy']:.2%}")


@dataclasses.dataclass(eq=False, repr=False)
class SpikingEstimator(BaseEstimator):
    """What both estimators have in common: parameters, images, the training, and the network's responses.

    Attributes:
      network, epochs, image_shape, largest, hyperparameters, mirror: as of `SpikingClassifier`.
      update_batch, random_state, verbose: as of `SpikingClassifier`.
    """

    network: str | Network | Callable[[Images], Network] = "goupy2024_ncg"
    _: dataclasses.KW_ONLY
    epochs: tuple[int, ...] | int | None = None
    image_shape: tuple[int, ...] | None = None
    largest: float | None = None
    hyperparameters: Mapping[str, float] | None = None
    mirror: bool = False
    update_batch: int = 1
    random_state: int | np.random.RandomState | None = 0
    verbose: bool = False

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.input_tags.three_d_array = True
        return tags

    def _learned_images(self, X: ArrayLike, **labels: Any) -> Any:
        """Images to learn from, as of `_images`; if labels are given, a pair of images and labels."""
        rows, shape = _rows(X)
        checked = validate_data(self, rows, **labels)
        pixels = checked[0] if labels else checked
        given = shape or self.image_shape
        example = "" if shape else ", such as image_shape=(28, 28) for 784"
        name = "The shape of images in `X`" if shape else "`image_shape`"
        found = f"{name} must be (H, W) or (H, W, 3){example}, got {given} for {pixels.shape[1]} pixels"
        try:
            self.image_shape_ = Images(pixels[:1].reshape(1, *given).shape[1:]).shape  # type: ignore[misc]
        except (ValueError, TypeError) as error:
            raise InputError(found) from error
        self.largest_ = self._white(pixels.max())
        images = self._scaled(pixels)
        return (images, checked[1]) if labels else images

    def _images(self, X: ArrayLike, **labels: Any) -> Any:
        """Images (N, H, W) or (N, H, W, 3) for the network that has learned, uint8 or float32 of 0..255.

        If labels are given, a pair of images and labels.
        """
        check_is_fitted(self)
        rows, shape = _rows(X)
        if shape and shape != self.image_shape_:
            raise InputError(f"`X` must be of images of shape {self.image_shape_}, as in training, got {shape}")
        checked = validate_data(self, rows, reset=False, **labels)
        return (self._scaled(checked[0]), checked[1]) if labels else self._scaled(checked)

    def _white(self, most: float) -> float:
        """The pixel that is white, given the largest one of the training images."""
        if self.largest is not None:
            checks.number("largest", self.largest, above=True)
            return float(self.largest)
        if 1 < most < 128 or most > 255:
            write = f"write largest={most:g} if that is white"
            raise InputError(f"`largest` must be the pixel that is white, where X is not of 0..1 or 0..255: {write}")
        return 1.0 if most <= 1 else 255.0

    def _scaled(self, pixels: np.ndarray) -> np.ndarray:
        """Images of 0..255, given pixels (N, H * W); raises InputError where they are not of 0..`largest_`."""
        check_non_negative(pixels, type(self).__name__)
        most = pixels.max()
        found = f"`X` must hold pixels of 0..{self.largest_:g}, got values up to {most:g}: scale X, or give `largest`"
        if most > self.largest_ or (0 < most <= self.largest_ / 255 and np.count_nonzero(pixels) > 1):
            raise InputError(found)
        if 0 < most <= 1 < self.largest_:
            warnings.warn(f"{found}, unless all images are that dark", stacklevel=4)
        images = pixels.reshape(-1, *self.image_shape_)
        if self.largest_ == 255 and images.dtype.kind in "iu":
            return images.astype(np.uint8)
        return (images * (255 / self.largest_)).astype(np.float32)

    def _network(self, data: Dataset) -> Network:
        """The network for a data set, before it learns."""
        network = self.network
        if isinstance(network, str):
            if network not in NETWORKS:
                raise unknown("network", network, NETWORKS)
            network = NETWORKS[network]
        if not isinstance(network, Network) and not callable(network):
            raise wrong_type("network", "a name of snnjax.NETWORKS, a function of Images or a Network", network)
        made = encoded_by(network, data) if isinstance(network, Network) else network_for(network, data)
        for path, number in (self.hyperparameters or {}).items():
            made = made.vary(path, number)
        return made

    def _trainer(self, network: Network, data: Dataset) -> Trainer:
        """What trains a network on a data set, by the parameters."""
        settings = Settings.of(network, data)
        settings = dataclasses.replace(
            settings,
            epochs=settings.epochs if self.epochs is None else self.epochs,  # type: ignore[arg-type]
            mirror=self.mirror,
            update_batch=self.update_batch,
            seed=self._seed(),
        )
        return Trainer(network, data, settings, _Printed() if self.verbose else None)

    def _seed(self) -> int:
        seed = self.random_state
        return int(seed if isinstance(seed, int | np.integer) else check_random_state(seed).randint(2**31))


def _rows(X: Any) -> tuple[Any, tuple[int, ...]]:
    """Images as rows of pixels, (n, H * W), and the shape of an image; anything else as it is, and ()."""
    shape = tuple(X.shape) if hasattr(X, "shape") else np.asarray(X).shape
    if len(shape) < 3:
        return X, ()
    return np.asarray(X).reshape(shape[0], math.prod(shape[1:])), shape[1:]
