"""A data set in memory."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from snnjax.core import checks, files
from snnjax.core.errors import InputError, image_size, printable, shown
from snnjax.core.files import atomic_write, empty, take_rows
from snnjax.data.folds import cut_into_folds
from snnjax.data.names import checked, natural, numbered
from snnjax.data.pictures import rotated_and_mirrored
from snnjax.data.splits import hold_out, hold_out_groups, stratified_indices
from snnjax.encoding import COLOUR, EVENTS, GREY, Encoder, EventEncoder

DEFAULT_ENCODERS: dict[tuple[int, ...], Encoder | EventEncoder] = {(): GREY, (2,): EVENTS, (3,): COLOUR}
"""By the axes of an image behind the second."""
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
VALIDATION = ("validation_images", "validation_labels")
UNLABELLED = "unlabelled_images"
FILES = ("train_files", "test_files", "validation_files")
GROUPS = ("train_groups", "test_groups")


@dataclasses.dataclass(frozen=True, repr=False)
class Dataset:
    """Images with their labels.

    Attributes:
      name: the name in messages and reports.
      train_images: (N, H, W) grey, (N, H, W, 3) colour or (N, H, W, 2) event pictures (see `EventEncoder`), integers or
        floats of 0..255; integers become uint8.
      train_labels: (N,) int32 of 0..classes-1. Each class has training images; `relabel` numbers classes from 0
        without gaps.
      test_images: as `train_images`.
      test_labels: as `train_labels`.
      classes: the number of classes. None: the number of `class_names`, or else the highest training label + 1.
      class_names: the name of each class, in order; or none.
      notes: sentences about data that were left out or changed when the images were read.
      validation_images: held-out images, as `train_images`, on which the best epoch is selected and early stopping is
        based; None: the test images are used for this.
      validation_labels: as `train_labels`.
      train_files: the name of each image's file, relative to the folder; or None.
      test_files: as `train_files`.
      validation_files: as `train_files`.
      train_groups: (N,) integers, equal for training images that `hold_out` and `folds` must keep together; or None.
      test_groups: as `train_groups`, with the same numbers.
      group_names: the name of each group, by its number; or none.
      unlabelled_images: additional training images without labels; or None. Layers that learn without labels use them
        too, after the labelled images unless images are shuffled.

    Examples:
      >>> import numpy as np
      >>> from snnjax.data import Dataset
      >>> images = np.zeros((6, 20, 30), np.uint8)
      >>> labels = np.array([0, 1, 0, 1, 0, 1])
      >>> Dataset("mine", images[:4], labels[:4], images[4:], labels[4:], class_names=("cat", "dog"))
      Dataset(mine: 4 training and 2 test images, 20 high, 30 wide, 2 classes)
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: int = None  # type: ignore[assignment]  # None is replaced at once
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    validation_images: np.ndarray | None = None
    validation_labels: np.ndarray | None = None
    train_files: tuple[str, ...] | None = None
    test_files: tuple[str, ...] | None = None
    validation_files: tuple[str, ...] | None = None
    train_groups: np.ndarray | None = None
    unlabelled_images: np.ndarray | None = None
    test_groups: np.ndarray | None = None
    group_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        classes = self.classes if self.classes is None else checks.integer("classes", self.classes, 1)
        names = checked(self.class_names, classes)
        if (self.validation_images is None) != (self.validation_labels is None):
            raise InputError(f"{self.name}: `validation_images` and `validation_labels` must both be given, or neither")
        kind = ""
        parts = ["train", "test"]
        if self.validation_images is not None:
            parts.append("validation")
        if self.unlabelled_images is not None:
            parts.append("unlabelled")
        for part in parts:
            images = self._check_images(part)
            part_kind = f"{images.dtype} of {images.shape[1:]}"
            kind = kind or part_kind
            if kind != part_kind:
                raise InputError(f"{self.name}: training images are {kind}, {part} images {part_kind}")
            object.__setattr__(self, f"{part}_images", images)
            if part == "unlabelled":
                continue
            labels = self._check_labels(part)
            classes = classes or len(names) or max(0, int(labels.max())) + 1  # of the training labels, which come first
            checks.all_within(f"{part}_labels of {self.name}", labels, 0, classes - 1)
            if part == "train":
                self._check_classes(labels, classes, names)
            object.__setattr__(self, f"{part}_labels", labels.astype(np.int32, copy=False))
        object.__setattr__(self, "classes", classes)
        object.__setattr__(self, "class_names", names)
        for name in FILES:
            if getattr(self, name) is not None:
                object.__setattr__(self, name, self._check_files(name))
        object.__setattr__(self, "group_names", tuple(map(str, self.group_names)))
        for part in ("train", "test"):
            if getattr(self, f"{part}_groups") is not None:
                object.__setattr__(self, f"{part}_groups", self._check_groups(part))

    def _check_images(self, part: str) -> np.ndarray:
        """The images of a part, uint8 or floats in the machine's byte order; raises InputError if they are invalid."""
        images = getattr(self, f"{part}_images")
        checks.array(f"{part}_images", images, None, "numbers")
        if images.ndim < 3 or images.shape[3:] not in DEFAULT_ENCODERS:
            axes = "(N H W), (N H W 3) or (N H W 2)"
            raise InputError(f"`{part}_images` must have axes {axes}, got shape {images.shape}")
        checks.not_empty(f"{part}_images", images)
        checks.pixel_values(f"{part}_images", images)
        return images.astype(np.uint8, copy=False) if images.dtype.kind in "iu" else _native(images)

    def _check_labels(self, part: str) -> np.ndarray:
        """The labels of a part in the machine's byte order; raises InputError unless there is one for each image."""
        labels = getattr(self, f"{part}_labels")
        checks.array(f"{part}_labels", labels, "N", "integers")
        images = len(getattr(self, f"{part}_images"))
        checks.length(f"{part}_labels", labels, images, f"images of {self.name}")
        return _native(labels)

    def _check_classes(self, labels: np.ndarray, classes: int, names: tuple[str, ...]) -> None:
        """Raises InputError if a class has no training images."""
        present = np.unique(labels)
        if (count := classes - len(present)) == 0:
            return
        lacking = np.setdiff1d(np.arange(min(classes, len(present) + 3)), present)[:3].tolist()
        named = ", ".join(f"{label} ({printable(names[label])})" if names else str(label) for label in lacking)
        more = f" and {count - 3:,} more" if count > 3 else ""
        raise InputError(
            f"{self.name}: there are no training images of class {named}{more}: add some, or number only the classes "
            "that there are, by `snnjax.data.relabel(train_labels, test_labels)`"
        )

    def _check_groups(self, part: str) -> np.ndarray:
        """The groups of a part in the byte order of the machine; raises InputError unless all have names, or none."""
        groups = getattr(self, f"{part}_groups")
        checks.array(f"{part}_groups", groups, "N", "integers")
        checks.shape(f"{part}_groups", groups, getattr(self, f"{part}_labels").shape, f"`{part}_labels`")
        if self.group_names:
            most = len(self.group_names) - 1
            checks.all_within(f"{part}_groups", groups, 0, most, f"lie in 0..{most}, as `group_names` are {most + 1}")
        return _native(groups)

    def _check_files(self, name: str) -> tuple[str, ...]:
        names: Any = getattr(self, name)
        labels = getattr(self, name.replace("files", "labels"))
        count = 0 if labels is None else len(labels)
        given = () if isinstance(names, str) else tuple(names)
        if len(given) != count or not all(isinstance(x, str) for x in given):
            raise InputError(f"`{name}` must be the file name of each of {count} images, got {shown(names)}")
        return tuple(map(str, given))

    def __repr__(self) -> str:
        size = image_size(self.train_images.shape[1:])
        return f"Dataset({self.name}: {self.counts}, {size}, {self.classes} classes)"

    @property
    def counts(self) -> str:
        """Numbers of images, in words."""
        counts = [f"{len(self.train_images):,} training"]
        if self.unlabelled_images is not None:
            counts.append(f"{len(self.unlabelled_images):,} unlabelled")
        if self.validation_images is not None:
            counts.append(f"{len(self.validation_images):,} validation")
        return f"{', '.join(counts)} and {len(self.test_images):,} test images"

    @property
    def tested(self) -> str:
        """The part on which the best epoch is selected: "validation" if there are such images, otherwise "test"."""
        return "test" if self.validation_images is None else "validation"

    @property
    def all_images(self) -> np.ndarray:
        """The training images, followed by the unlabelled images if there are any (in a new array)."""
        if self.unlabelled_images is None:
            return self.train_images
        labelled = len(self.train_images)
        images = empty((labelled + len(self.unlabelled_images), *self.train_images.shape[1:]), self.train_images.dtype)
        images[:labelled] = self.train_images
        images[labelled:] = self.unlabelled_images
        return images

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each class: `class_names`, or "0", "1", ... if none were given."""
        return self.class_names or numbered(self.classes)

    @property
    def test_group_names(self) -> tuple[str, ...]:
        """The names of the groups of the test images, or their numbers, in order; empty if images have no groups."""
        if self.test_groups is None:
            return ()
        numbers = np.unique(self.test_groups).tolist()
        return tuple(sorted((self.group_names[x] if self.group_names else str(x) for x in numbers), key=natural))

    @property
    def encoder(self) -> Encoder | EventEncoder:
        """The encoder for the images: `GREY`, `COLOUR` or `EVENTS`."""
        return DEFAULT_ENCODERS[self.train_images.shape[3:]]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the encoded images, a network's input."""
        return self.encoder.output_shape(self.train_images.shape[1:])

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits of the SHA-256 of images and labels."""
        return _digest(*(getattr(self, name) for name in (*ARRAYS, *VALIDATION, UNLABELLED)))

    def part_fields(self, part: str, places: np.ndarray, into: str = "") -> dict[str, Any]:
        """The fields of a part for the images at these indices, as fields of the part `into`, by default the same."""
        into = into or part
        files: tuple[str, ...] | None = getattr(self, f"{part}_files")
        taken: dict[str, Any] = {f"{into}_files": files and tuple(files[place] for place in places)}
        for name in ("images", "labels"):
            taken[f"{into}_{name}"] = take_rows(getattr(self, f"{part}_{name}"), places)
        if into != "validation":
            groups = getattr(self, f"{part}_groups")
            taken[f"{into}_groups"] = None if groups is None else groups[places]
        return taken

    def save(self, path: Path | str) -> None:
        """Writes everything except name and notes to an .npz file, atomically; `snnjax.data.load` reads it."""
        path = Path(path)
        files.check_suffix("path", path, ".npz")
        arrays: dict[str, Any] = {}
        for name in (*ARRAYS, *VALIDATION, *FILES, UNLABELLED, *GROUPS, "group_names", "class_names"):
            value = getattr(self, name)
            if value is not None and len(value):
                arrays[name] = np.asarray(value)
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez(file, classes=np.int32(self.classes), **arrays)

    def subset(
        self, train: int | None, test: int | None, *, seed: int | None = None, in_order: bool = False
    ) -> "Dataset":
        """At most `train` training images and `test` test images, stratified by class; None keeps all.

        The first images of each class are used, or with a `seed` images that are drawn at random; they keep their
        order. Each class keeps at least one image, unless there are fewer test images than classes. With `in_order`,
        the first images of the data set are used, regardless of their class. All unlabelled images are kept. Raises
        InputError if a class would have no training images.
        """
        changes: dict[str, Any] = {}
        for part, count in (("train", train), ("test", test)):
            name = f"{part}_images"
            if count is None or checks.integer(name, count, 1) >= len(getattr(self, f"{part}_labels")):
                continue
            if part == "train":
                self._check_all_classes(name, count)
            changes |= self.part_fields(part, np.arange(count) if in_order else self._chosen(part, count, seed))
        return dataclasses.replace(self, **changes)

    def _check_all_classes(self, argument: str, count: int) -> None:
        """Raises InputError if there are fewer training images than classes."""
        if count < self.classes:
            wanted = f"at least {self.classes}, one of each class of {self.name}"
            raise InputError(f"`{argument}` must be {wanted}, got {count}")

    def _chosen(self, part: str, count: int, seed: int | None) -> np.ndarray:
        """The indices of the `count` images of a part that `subset` selects."""
        stream = dict(train=0, test=1)[part]
        rng = None if seed is None else np.random.default_rng([checks.seed(seed), stream])
        return stratified_indices(getattr(self, f"{part}_labels"), count, rng)

    def keep_labels(self, count: int, *, seed: int | None = None) -> "Dataset":
        """Keeps the labels of `count` training images, selected as by `subset`; all other images become unlabelled.

        Raises InputError as `subset`, and if images have groups, because unlabelled images have none.
        """
        if self.train_groups is not None:
            raise InputError(f"{self.name}: `labels` cannot be left out where images have groups (--group)")
        if checks.integer("labels", count, 1) >= len(self.train_labels):
            return self
        self._check_all_classes("labels", count)
        places = self._chosen("train", count, seed)
        others = np.setdiff1d(np.arange(len(self.train_labels)), places)
        unlabelled = take_rows(self.train_images, others)
        if self.unlabelled_images is not None:
            unlabelled = np.concatenate([unlabelled, self.unlabelled_images])
        return dataclasses.replace(self, **self.part_fields("train", places), unlabelled_images=unlabelled)

    def share(self, ratio: float, seed: int) -> "Dataset":
        """A random, stratified share of the training images, in order, and all unlabelled images.

        Raises InputError if `ratio` is not in (0, 1] or leaves a class without images.
        """
        places = self._draw(ratio, seed)
        if len(places) == len(self.train_labels):
            return self
        if len(places) < self.classes:
            wanted = f"leave each of {self.classes} classes a training image"
            raise InputError(f"`ratio` must {wanted}, got {ratio} of {len(self.train_labels)}")
        return dataclasses.replace(self, **self.part_fields("train", places))

    def _draw(self, ratio: float, seed: int) -> np.ndarray:
        """The indices of a random, stratified share of the training images, in order."""
        total = len(self.train_labels)
        count = int(ratio * total) if 0 < ratio <= 1 else 0
        if count == 0:
            raise InputError(f"`ratio` must lie in (0, 1], got {ratio}, and leave some of {total} training images")
        return stratified_indices(self.train_labels, count, np.random.default_rng(checks.seed(seed)))

    def hold_out(self, share: float, seed: int) -> "Dataset":
        """Holds out a random, stratified share of the training images as validation images.

        Both parts keep their order, at least one image is held out, and each class keeps at least one training image.
        Images of the same group (`train_groups`) stay together. Raises InputError unless `share` lies in (0, 1), there
        is an image or group to hold out, and there are no validation images yet.
        """
        checks.real("share of the validation images", share)
        checks.number("share of the validation images", share, above=0, below=1)
        rng = np.random.default_rng(checks.seed(seed))
        if self.validation_images is not None:
            count = len(self.validation_images)
            raise InputError(f"{self.name} has {count} validation images already: hold out a share of it only once")
        if self.train_groups is None:
            chosen = hold_out(self.train_labels, share, rng)
            units = "training images"
        else:
            chosen = hold_out_groups(self.train_labels, self.train_groups, share, rng)
            units = "groups"
        if not chosen.any():
            advice = "take more, or hold out none (--validation 0)"
            raise InputError(f"{self.name}: to hold out a share, a class must have at least 2 {units}: {advice}")
        note = f"{chosen.sum():,} of {len(chosen):,} training images are held out for validation"
        if self.train_groups is not None:
            note += f", {len(np.unique(self.train_groups[chosen])):,} of {len(np.unique(self.train_groups)):,} groups"
        kept = self.part_fields("train", np.flatnonzero(~chosen))
        held = self.part_fields("train", np.flatnonzero(chosen), "validation")
        return dataclasses.replace(self, **kept, **held, notes=(*self.notes, note))

    def folds(self, k: int, *, groups: bool | None = None, seed: int = 0) -> "list[Dataset]":
        """Splits training and test images into k parts: k data sets, each of which has a different part for testing.

        Each image is tested once, and each part has about the same share of each class. With `groups`, images of one
        group (`train_groups`, `test_groups`) are in one part; with None, this is so if there are groups. The parts are
        drawn by scikit-learn's StratifiedKFold or StratifiedGroupKFold, with the `seed`, up to 2**32 - 1. Validation
        and unlabelled images are the same in all data sets. Raises InputError if no class has k images or groups, if
        groups are requested but unknown, or if a class would have no training images.
        """
        return cut_into_folds(self, k, groups=groups, seed=seed)

    def augment(self, ratio: float, seed: int) -> "Dataset":
        """Adds altered copies of a random, stratified share of the labelled training images, and shuffles all.

        A copy is rotated by up to 30 degrees in either direction (nearest pixel, black beyond the border), then flipped
        horizontally and vertically, each with probability 1/2. It keeps its file name and group. Raises InputError if
        `ratio` is not in (0, 1], or if no image would be copied.
        """
        copied = self._draw(ratio, seed)
        (stream,) = np.random.SeedSequence(seed).spawn(1)  # independent of the one that `share` draws from
        rng = np.random.default_rng(stream)
        altered = np.stack([rotated_and_mirrored(self.train_images[place], rng) for place in copied])
        total = len(self.train_labels)
        order = rng.permutation(total + len(copied))
        mixed = self.part_fields("train", np.concatenate([np.arange(total), copied])[order])
        # Copies must follow their labels, which this order has shuffled.
        mixed["train_images"][order >= total] = altered[order[order >= total] - total]
        return dataclasses.replace(self, **mixed)


def _native(array: Any) -> np.ndarray:
    """The same array in the byte order of the machine."""
    # JAX refuses arrays of the other byte order, which files may hold.
    return np.asanyarray(array).astype(array.dtype.newbyteorder("="), copy=False)


def _digest(*arrays: np.ndarray | None) -> str:
    hashed = hashlib.sha256()
    for array in arrays:
        if array is None:
            continue
        hashed.update(f"{array.dtype} {array.shape}".encode())
        hashed.update(np.ascontiguousarray(array).data)
    return hashed.hexdigest()[:12]
