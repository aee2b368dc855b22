"""The base class of the estimators."""

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from jax.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from snnjax.core import checks
from snnjax.core.errors import InputError, wrong_type
from snnjax.core.metrics import tested_part
from snnjax.data import Dataset
from snnjax.data.pictures import MNIST, enlarged, is_small
from snnjax.networks import NETWORKS, ImageSpec, Network, SpikingNetwork
from snnjax.networks.images import default_encoder
from snnjax.networks.model import image_shape
from snnjax.training.loop import Trainer
from snnjax.training.run_plan import RunPlan, encoded_by, network_for
from snnjax.training.state import Callback, Settings

ROUNDING = 1e-3
"""How far a pixel may be above white or below 0, as a share of white: a quarter of one of 255 grey levels."""
MAX_OUTSIDE_SHARE = 0.1
"""The share of pixels that may lie outside the range of the training images. If there are more, the range is wrong."""

Method = TypeVar("Method", bound=Callable[..., Any])


def restores_on_error(method: Method) -> Method:
    """A method that leaves its estimator as it was if it raises an error or is interrupted."""

    @functools.wraps(method)
    def restoring(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = dict(vars(self))
        try:
            return method(self, *args, **kwargs)
        except BaseException:
            self.__dict__ = before
            raise

    return restoring  # type: ignore[return-value]


class _Printed(Callback):
    """Prints a line for each phase of a training run, and for each epoch that learns from labels."""

    def finished(self, record: Mapping[str, Any]) -> None:
        print(f"{record['name']}: {record['images']:,} images in {record['seconds']:.1f} s")

    def tested(self, record: Mapping[str, Any]) -> None:
        print(f"epoch {record['epoch'] + 1}: accuracy {record[tested_part(record)]['accuracy']:.2%}")


@dataclasses.dataclass(eq=False, repr=False)
class SpikingEstimator(BaseEstimator):
    """The base class of both estimators: parameters, images, training, and the responses of the network.

    Attributes:
      network, epochs, image_shape, enlarge, largest, hyperparameters, mirror: as of `SpikingClassifier`.
      update_batch, random_state, verbose: as of `SpikingClassifier`.
    """

    network: str | Network | Callable[[ImageSpec], Network] | None = None
    _: dataclasses.KW_ONLY
    epochs: tuple[int, ...] | int | None = None
    image_shape: tuple[int, ...] | None = None
    enlarge: bool = True
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
        """Images to learn from, as returned by `_images`; with labels, a pair of images and labels."""
        rows, shape = _rows(X)
        checked = validate_data(self, rows, **labels)
        pixels = checked[0] if labels else checked
        given = shape or self.image_shape or _square(pixels.shape[1])
        example = "" if shape else ", such as image_shape=(28, 20) for 560"
        name = "The shape of images in `X`" if shape else "`image_shape`"
        found = f"{name} must be (H, W) or (H, W, 3){example}, got {given} for {pixels.shape[1]} pixels"
        try:
            self.image_shape_ = ImageSpec(pixels[:1].reshape(1, *given).shape[1:]).shape  # type: ignore[misc]
        except (ValueError, TypeError) as error:
            raise InputError(found) from error
        self.enlarged_ = self._enlarges()
        if pixels.min() < -ROUNDING * abs(pixels.max()):
            raise self._negative(pixels)
        self.largest_ = self._white(pixels.max())
        if pixels.max() > self.largest_ * (1 + ROUNDING):
            raise self._too_large(pixels)
        self._check_range(pixels)
        images = self._scaled(pixels)
        return (images, checked[1]) if labels else images

    def _images(self, X: ArrayLike, **labels: Any) -> Any:
        """Images (N, H, W) or (N, H, W, 3) for the network that has learned, uint8 or float32 of 0..255.

        If labels are given, a pair of images and labels.
        """
        check_is_fitted(self)
        rows, shape = _rows(X)
        if shape:
            checks.equal("shape of images in `X`", shape, self.image_shape_, "those of training have that")
        checked = validate_data(self, rows, reset=False, **labels)
        pixels = checked[0] if labels else checked
        self._check_range(pixels)
        return (self._scaled(pixels), checked[1]) if labels else self._scaled(pixels)

    def _enlarges(self) -> bool:
        """Whether images are enlarged: small ones are; for a Network only if it is made for enlarged ones."""
        if not self.enlarge or not is_small(self.image_shape_):
            return False
        if not isinstance(self.network, Network):
            return True
        channels = self.image_shape_[2:]
        encoder = self.network.encoder or default_encoder(self.network, channels)
        encoded = dataclasses.replace(self.network, encoder=encoder)
        return image_shape(encoded, channels) == (*MNIST, *channels)

    def _white(self, most: float) -> float:
        """The value of a white pixel, given the largest pixel of the training images."""
        if self.largest is not None:
            checks.number("largest", self.largest, above=0)
            return float(self.largest)
        if most <= 1 + ROUNDING:
            return 1.0
        if 128 <= most <= 255 * (1 + ROUNDING):
            return 255.0
        advice = "give the value that is white if it is another"
        warnings.warn(f"`largest` is taken to be {most:g}, the largest pixel of `X`: {advice}", stacklevel=5)
        return float(most)

    def _check_range(self, pixels: np.ndarray) -> None:
        """Raises InputError if the range of pixels (N, H * W) differs from that of the training images, 0..`largest_`.

        Warns if a few pixels lie outside and are clipped, and if images are dark.
        """
        margin = ROUNDING * self.largest_
        outside = np.count_nonzero((pixels < -margin) | (pixels > self.largest_ + margin))
        if outside > MAX_OUTSIDE_SHARE * np.count_nonzero(pixels):
            raise self._negative(pixels) if pixels.min() < -margin else self._too_large(pixels)
        if outside:
            known = f"0..{self.largest_:g}, the range of the training images"
            warnings.warn(f"{outside:,} of {pixels.size:,} pixels of `X` are clipped to {known}", stacklevel=5)
        most = pixels.max()
        if 0 < most <= self.largest_ / 255 and np.count_nonzero(pixels) > 1:
            raise self._too_large(pixels)
        if 0 < most <= 1 < self.largest_:
            warnings.warn(f"{self._too_large(pixels)}, unless all images are that dark", stacklevel=5)

    def _negative(self, pixels: np.ndarray) -> InputError:
        words = f"Negative values in data passed to {type(self).__name__}"  # which scikit-learn asks for
        return InputError(f"{words}: `X` must hold pixels from 0, which is black, got {pixels.min():g}: scale X")

    def _too_large(self, pixels: np.ndarray) -> InputError:
        got = f"got values up to {pixels.max():g}: scale X, or give `largest`"
        return InputError(f"`X` must hold pixels of 0..{self.largest_:g}, {got}")

    def _scaled(self, pixels: np.ndarray) -> np.ndarray:
        """Images in 0..255 for the network, given pixels (N, H * W)."""
        if self.largest_ == 255 and pixels.dtype.kind in "iu":
            bright = pixels.clip(0, 255).astype(np.uint8)
        else:
            bright = (pixels.clip(0, self.largest_) * (255 / self.largest_)).astype(np.float32)
        images = bright.reshape(-1, *self.image_shape_)
        return enlarged(images) if self.enlarged_ else images

    def _network(self, data: Dataset, default: str = "goupy2024_ncg") -> Network:
        """The untrained network for a data set: `network`, or the default network."""
        network = default if self.network is None else self.network
        if isinstance(network, str):
            checks.one_of("network", network, NETWORKS)
            network = NETWORKS[network]
        if not isinstance(network, Network) and not callable(network):
            raise wrong_type("network", "a name of snnjax.NETWORKS, a function of `ImageSpec` or a Network", network)
        made = encoded_by(network, data) if isinstance(network, Network) else network_for(network, data)
        for path, number in (self.hyperparameters or {}).items():
            made = made.vary(path, number)
        return made

    def _plan(self, network: Network, data: Dataset) -> RunPlan:
        """The plan for training a network on a data set, according to the parameters."""
        settings = Settings.of(network, data)
        settings = dataclasses.replace(
            settings,
            epochs=settings.epochs if self.epochs is None else self.epochs,  # type: ignore[arg-type]
            mirror=self.mirror,
            update_batch=self.update_batch,
            seed=self._seed(),
        )
        return RunPlan(network, data, settings)

    def _trainer(self, network: Network, data: Dataset) -> Trainer:
        """The trainer of a network on a data set."""
        return self._plan(network, data).trainer(_Printed() if self.verbose else None)

    def _learned_features(self, network: Network, data: Dataset) -> SpikingNetwork:
        """A network whose layers that do not learn from decisions have learned from the images of a data set."""
        trainer = self._trainer(network, data)
        earlier = [phase for phase in trainer.job.phases if not phase.supervised]
        return trainer.trained(trainer.run(trainer.initial_state(), phases=len(earlier)))

    def _seed(self) -> int:
        seed = self.random_state
        return int(seed if isinstance(seed, int | np.integer) else check_random_state(seed).randint(2**31))


def _square(pixels: int) -> tuple[int, int] | None:
    """(H, W) of a square image with this number of pixels, if there is one."""
    side = math.isqrt(pixels)
    return (side, side) if side * side == pixels else None


def _rows(X: Any) -> tuple[Any, tuple[int, ...]]:
    """Images as rows of pixels, (n, H * W), and the shape of an image; any other value unchanged, and ()."""
    shape = tuple(X.shape) if hasattr(X, "shape") else np.asarray(X).shape
    if len(shape) < 3:
        return X, ()
    return np.asarray(X).reshape(shape[0], math.prod(shape[1:])), shape[1:]
