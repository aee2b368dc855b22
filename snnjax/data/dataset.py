"""A data set in memory."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from snnjax.data.names import checked, numbered
from snnjax.encoding import COLOUR, EVENTS, GREY, Encoder, EventEncoder
from snnjax.errors import InputError, InputTypeError, shown
from snnjax.files import atomic_write, take_rows
from snnjax.kernels import checks

OF_CHANNELS: dict[int, Encoder | EventEncoder] = {2: EVENTS, 3: COLOUR}  # by the channels of an image
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
VALIDATION = ("validation_images", "validation_labels")


@dataclasses.dataclass(frozen=True, repr=False)
class Dataset:
    """Images with their labels.

    Attributes:
      name: shown in messages and reports.
      train_images, test_images: (N, H, W) grey, (N, H, W, 3) colour or (N, H, W, 2) event pictures (see
        `EventEncoder`), uint8 or float32 of 0..255.
      train_labels, test_labels: (N,) int32 of 0..classes-1.
      classes: their number.
      class_names: one for each class, in order; or none.
      notes: what was left out or altered when the images were read.
      validation_images, validation_labels: as those of training, to choose the best epoch by and to stop early; None:
        the test images serve for this too.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: int = 10
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    validation_images: np.ndarray | None = None
    validation_labels: np.ndarray | None = None

    def __post_init__(self) -> None:
        name, last = self.name, checks.integer("classes", self.classes, 1) - 1
        object.__setattr__(self, "class_names", checked(self.class_names, self.classes))
        if (self.validation_images is None) != (self.validation_labels is None):
            raise InputError(f"{name}: `validation_images` and `validation_labels` must both be given, or neither")
        for part in dict.fromkeys(("train", "test", self.tested)):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            _check_kind(f"{part}_images", images, "uifb", "numbers")
            _check_kind(f"{part}_labels", labels, "ui", "integers")
            if images.ndim != 3 and (images.ndim != 4 or images.shape[-1] not in OF_CHANNELS):
                axes = "(N H W), (N H W 3) or (N H W 2)"
                raise InputError(f"`{part}_images` must have axes {axes}, got shape {images.shape}")
            if labels.ndim != 1:
                raise InputError(f"`{part}_labels` must have axes (N), got shape {labels.shape}")
            if len(images) != len(labels):
                raise InputError(f"{name}: {len(images)} {part} images but {len(labels)} labels")
            if len(images) == 0:
                raise InputError(f"{name}: there are no {part} images")
            if (lowest := labels.min()) < 0 or labels.max() > last:
                raise InputError(f"{name}: {part} labels must lie in 0..{last}, got {lowest}..{labels.max()}")
            lowest, largest = images.min(initial=0), images.max(initial=0)
            if not (np.isfinite(lowest) and np.isfinite(largest)):
                raise InputError(f"{name}: {part} images hold NaN or infinite values")
            if lowest < 0 or largest > 255:
                raise InputError(f"`{part}_images` must be of 0..255, got {lowest}..{largest}")
            if 0 < largest <= 1:
                raise InputError(f"`{part}_images` must be of 0..255, got values up to {largest}: multiply them by 255")
        for part in ("test", self.tested):
            train, other = (f"{x.dtype} of {x.shape[1:]}" for x in (self.train_images, getattr(self, f"{part}_images")))
            if train != other:
                raise InputError(f"{name}: training images are {train}, {part} images {other}")

    def __repr__(self) -> str:
        size = "x".join(map(str, self.train_images.shape[1:]))
        return f"Dataset({self.name}: {self.counts} of {size}, {self.classes} classes)"

    @property
    def counts(self) -> str:
        """How many images there are, in words."""
        held_out = "" if self.validation_images is None else f", {len(self.validation_images):,} validation"
        return f"{len(self.train_images):,} training{held_out} and {len(self.test_images):,} test images"

    @property
    def tested(self) -> str:
        """The part that is tested after each epoch, to choose the best one by: "validation" if there is any, "test"."""
        return "test" if self.validation_images is None else "validation"

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each class: `class_names`, or "0", "1", ... where none were given."""
        return self.class_names or numbered(self.classes)

    @property
    def encoder(self) -> Encoder | EventEncoder:
        """The encoder for the images: `GREY`, `COLOUR` or `EVENTS`."""
        return GREY if self.train_images.ndim == 3 else OF_CHANNELS[self.train_images.shape[-1]]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the encoded images, a network's input."""
        return self.encoder.output_shape(self.train_images.shape[1:])

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits of the SHA-256 of images and labels."""
        return _digest(*self._arrays().values())

    @property
    def train_digest(self) -> str:
        """As `digest`, of the training images alone, all that STDP sees."""
        return _digest(self.train_images)

    def _arrays(self) -> dict[str, np.ndarray]:
        """All images and labels that there are, by name."""
        found = {name: getattr(self, name) for name in (*ARRAYS, *VALIDATION)}
        return {name: array for name, array in found.items() if array is not None}

    def save(self, path: Path | str) -> None:
        """Writes an .npz file of images, labels and class names, atomically; `snnjax.data.load` takes its path."""
        path = Path(path)
        if path.suffix != ".npz":
            raise InputError(f"`path` must end in .npz, got {path}")
        arrays: dict[str, Any] = self._arrays()
        if self.class_names:
            arrays["class_names"] = np.array(self.class_names)
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez(file, classes=np.int32(self.classes), **arrays)

    def first(self, train: int | None, test: int | None) -> "Dataset":
        """The first `train` and `test` images only, at least 1; None keeps all."""
        for name, count in (("train", train), ("test", test)):
            if count is not None:
                checks.integer(name, count, 1)
        counts = zip(ARRAYS, (train, train, test, test), strict=True)
        return dataclasses.replace(self, **{name: getattr(self, name)[:count] for name, count in counts})

    def share(self, ratio: float, seed: int) -> "Dataset":
        """A random share of the training images, in order; InputError if `ratio` is not in (0, 1] or leaves none."""
        checks.seed(seed)
        total = len(self.train_images)
        count = int(ratio * total) if 0 < ratio <= 1 else 0
        if count == 0:
            raise InputError(f"`ratio` must lie in (0, 1], got {ratio}, and leave some of {total} training images")
        if count == total:
            return self
        chosen = np.sort(np.random.default_rng(seed).permutation(total)[:count])
        return dataclasses.replace(
            self, train_images=take_rows(self.train_images, chosen), train_labels=self.train_labels[chosen]
        )

    def hold_out(self, share: float, seed: int) -> "Dataset":
        """Makes a random share of the training images, of each class about that share, the validation images.

        Both parts keep their order, and at least one image each. Raises InputError unless `share` lies in (0, 1), there
        are two training images at least, and no validation images yet.
        """
        total = len(self.train_images)
        if isinstance(share, bool) or not isinstance(share, int | float | np.number) or not 0 < share < 1:
            raise InputError(f"`share` of the validation images must lie between 0 and 1, got {shown(share)}")
        checks.seed(seed)
        if total < 2:
            advice = "take more, or hold out none (--validation 0)"
            raise InputError(
                f"{self.name}: to hold out a share takes at least 2 training images, got {total}: {advice}"
            )
        if self.validation_images is not None:
            count = len(self.validation_images)
            raise InputError(f"{self.name} has {count} validation images already: hold out a share of it only once")
        count = min(max(1, round(share * total)), total - 1)
        random = np.random.default_rng(seed).permutation(total)
        sorted_ = random[np.argsort(self.train_labels[random], kind="stable")]  # by class, at random within it
        chosen = np.zeros(total, bool)
        chosen[sorted_[(2 * np.arange(count) + 1) * total // (2 * count)]] = True
        (images, held_images), (labels, held_labels) = (
            (take_rows(array, np.flatnonzero(~chosen)), take_rows(array, np.flatnonzero(chosen)))
            for array in (self.train_images, self.train_labels)
        )
        note = f"{count:,} of {total:,} training images are held out for validation"
        parts: dict[str, Any] = dict(train_images=images, train_labels=labels, notes=(*self.notes, note))
        return dataclasses.replace(self, **parts, validation_images=held_images, validation_labels=held_labels)

    def augment(self, ratio: float, seed: int) -> "Dataset":
        """Adds altered copies of a random share of the training images, and shuffles; raises as `share` does.

        A copy is rotated by up to 30 degrees either way (nearest pixel, black beyond the border), then mirrored left to
        right and top to bottom, each with probability 1/2.
        """
        copied = self.share(ratio, seed)
        (stream,) = np.random.SeedSequence(seed).spawn(1)  # independent of the one that `share` draws from
        rng = np.random.default_rng(stream)
        images = np.concatenate([self.train_images, [_altered(image, rng) for image in copied.train_images]])
        labels = np.concatenate([self.train_labels, copied.train_labels])
        order = rng.permutation(len(images))
        return dataclasses.replace(self, train_images=images[order], train_labels=labels[order])


def _check_kind(name: str, array: Any, kinds: str, what: str) -> None:
    """Raises InputTypeError unless it is an array of one of the `kinds` of dtypes."""
    dtype = getattr(array, "dtype", None)
    if getattr(dtype, "kind", "") not in tuple(kinds):
        got = shown(array) if dtype is None else f"dtype {dtype}"
        raise InputTypeError(f"`{name}` must be an array of {what}, got {got}")


def _digest(*arrays: np.ndarray) -> str:
    hashed = hashlib.sha256()
    for array in arrays:
        hashed.update(f"{array.dtype} {array.shape}".encode())
        hashed.update(np.ascontiguousarray(array).data)
    return hashed.hexdigest()[:12]


def _altered(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    from scipy.ndimage import rotate

    image = rotate(image, rng.uniform(-30, 30), reshape=False, order=0, mode="grid-constant")
    return np.flip(image, tuple(axis for axis in (1, 0) if rng.random() < 0.5))
