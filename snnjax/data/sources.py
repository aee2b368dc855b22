"""Data sets by name: scikit-learn's, own files, tensorflow-datasets', tonic's, folders of pictures, .npz files."""

import contextlib
import os
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from snnjax.core import files
from snnjax.core.errors import DownloadError, InputError, unknown, wrong_type
from snnjax.data.catalogue import CATALOGUE, Progress
from snnjax.data.dataset import ARRAYS, FILES, VALIDATION, Dataset
from snnjax.data.events import RECORDINGS, recordings
from snnjax.data.folder import picture_folder
from snnjax.data.readers import read_cifar, read_idx, read_npz


class _Source(NamedTuple):
    """Where a data set comes from, and what its files hold."""

    builder: str  # its name in tensorflow-datasets
    files: tuple[str, ...]  # IDX: training images and labels, test images and labels; CIFAR: the test file last
    classes: int = 10
    first_label: int = 0  # of the first class in the files
    transposed: bool = False  # whether the files hold rows as columns


def _idx_files(*parts: str) -> tuple[str, ...]:
    return tuple(f"{part}-{kind}-ubyte" for part in parts for kind in ("images-idx3", "labels-idx1"))


def _emnist(split: str, classes: int, first_label: int = 0) -> _Source:
    files = _idx_files(f"emnist-{split}-train", f"emnist-{split}-test")
    return _Source(f"emnist/{split}", files, classes, first_label, transposed=True)


_SOURCES = {
    **{name: _Source(name, _idx_files("train", "t10k")) for name in ("mnist", "fashion_mnist", "kmnist")},
    "emnist_digits": _emnist("digits", 10),
    "emnist_letters": _emnist("letters", 26, first_label=1),
    "emnist_balanced": _emnist("balanced", 47),
    "cifar10": _Source("cifar10", (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")),
}
DATASETS = ("digits", *_SOURCES)

_UPPER, _LOWER = string.ascii_uppercase, "abdefghnqrt"  # the letters of EMNIST that differ in lower case
_CLASS_NAMES: dict[str, tuple[str, ...]] = {
    "fashion_mnist": (
        *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    ),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    "emnist_letters": tuple(_UPPER),  # in both cases
    "emnist_balanced": (*string.digits, *_UPPER, *_LOWER),
    "cifar10": (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
}
"""Of the sets whose classes are not digits."""


def load(
    name: str | os.PathLike[str],
    data_dir: Path | str | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    colour: bool | None = None,
    group: str | None = None,
) -> Dataset:
    """Loads a data set by name: upright images, labels from 0.

    Args:
      name: one of `DATASETS`, of which "digits" needs no files; one of `RECORDINGS`, of event cameras; "folder" for
        pictures in folders, one for each class; or the path of an .npz file (see `npz_file`).
      data_dir: folder of the set's own files: IDX, gzipped or not (EMNIST's begin with emnist-), or for cifar10 the
        binary version's; or one that tensorflow-datasets has prepared sets in, in another order. None takes what `find`
        finds, else downloads the set into the cache. For "folder" the folder or .zip file of the pictures (see
        `picture_folder`), for recordings what `recordings` takes.
      size, colour, group: of the images of a "folder", as `picture_folder` takes them; `size` also of recordings.

    Raises InputError for an unknown name, or files that are damaged or do not fit together; FileNotFoundError if
    `data_dir` has none, DownloadError if they cannot be downloaded, saying what to do.
    """
    if not isinstance(name, str | os.PathLike):
        raise wrong_type("dataset", "a name, or the path of an .npz file", name)
    name = os.fspath(name)
    if name == "folder":
        if data_dir is None:
            raise InputError("`data_dir` must name the folder or .zip file of pictures for `dataset` folder, got none")
        return picture_folder(data_dir, size, colour, group=group)
    if name in RECORDINGS and colour is None and group is None:
        return recordings(name, data_dir, size=size)
    for option, given in (("size", size), ("colour", colour), ("group", group)):
        if given is not None:
            kinds = "pictures and recordings" if option == "size" else "pictures"
            raise InputError(f"`{option}` (--{option}) is for {kinds}, not for `dataset` {name}")
    if name == "digits" or name.endswith(".npz"):
        if data_dir is not None:
            raise InputError(
                f"`data_dir` has no effect on {name}: for your own pictures, "
                "`dataset` must be folder (--dataset folder)"
            )
        return digits() if name == "digits" else npz_file(Path(name))
    _check(name)
    if data_dir is None:
        return _found(name)
    folder = Path(data_dir)
    if not folder.is_dir():
        raise FileNotFoundError(f"`data_dir` {folder} is no folder")
    if not any(_find(folder, each) for each in _SOURCES[name].files):
        return prepared(name, folder)
    return _own_files(name, folder)


class Found(NamedTuple):
    """Where a data set is at hand.

    Attributes:
      kind: "built in", "cache", "tensorflow-datasets" or "absent".
      path: of the folder, if there is one.
    """

    kind: str
    path: Path | None = None


class Description(NamedTuple):
    """What a data set holds.

    Attributes:
      name: as `load` takes it.
      train_images, test_images: their numbers.
      shape: of an image, (H, W) or (H, W, 3).
      classes: their number.
      download: bytes to download, 0 if none.
      found: where it is at hand.
    """

    name: str
    train_images: int
    test_images: int
    shape: tuple[int, ...]
    classes: int
    download: int
    found: Found


def find(name: str) -> Found:
    """Where `load` would take a set of `DATASETS` from without a download, in that order; reads and imports nothing.

    Raises InputError for an unknown name.
    """
    _check(name)
    if name == "digits":
        return Found("built in")
    with contextlib.suppress(OSError):  # without a cache there may still be a prepared set
        folder = _cached(name)
        if all(_find(folder, each) for each in _SOURCES[name].files):
            return Found("cache", folder)
    folder = _prepared_folder()
    return Found("tensorflow-datasets", folder) if _is_prepared(name, folder) else Found("absent")


def fetch(name: str, *, mirror: str | None = None, progress: Progress | None = None) -> Path:
    """Downloads what the cache lacks of a set's files, each checked by SHA-256, and gives their folder.

    Args:
      name: one of `DATASETS` but digits.
      mirror: address tried before the published ones: mnist's files lie at MIRROR/mnist/, those of EMNIST's sets at
        MIRROR/emnist/. By default that in the environment variable SNNJAX_MIRROR.
      progress: receives a file's name, the bytes received so far, and all its bytes; by default there are bars on the
        error stream if that is a terminal.

    Raises InputError for an unknown name or a bad `mirror`, DownloadError if no mirror gives a file, other OSError if
    nothing can be written.
    """
    from snnjax.data.download import download

    _check(name)
    if (published := CATALOGUE[name].published) is None:
        raise InputError(f"{name} needs no download")
    folder = _cached(name)
    try:
        download(published, folder, mirror=mirror, progress=progress)
    except DownloadError as error:
        raise DownloadError(
            f"{name} cannot be downloaded: {error}. Try again with a network, or put {', '.join(_SOURCES[name].files)} "
            "(each may end in .gz) into a folder and name it with `data_dir` (--data_dir)"
        ) from error
    return folder


def describe(name: str) -> Description:
    """What a set of `DATASETS` holds, and where it is; as quick as `find`, and raises as it does."""
    found = find(name)
    entry = CATALOGUE[name]
    classes = _SOURCES[name].classes if name in _SOURCES else 10
    size = entry.published.size if entry.published else 0
    return Description(name, entry.train_images, entry.test_images, entry.shape, classes, size, found)


def _check(name: str) -> None:
    if name not in DATASETS:
        raise unknown("dataset", name, (*DATASETS, "folder", *RECORDINGS), ", or an .npz file")


def _cached(name: str) -> Path:
    """The folder in the cache for a set's files; raises OSError if there can be no cache."""
    published = CATALOGUE[name].published
    return files.cache_folder() / "data" / (published.folder if published else name)


def _found(name: str) -> Dataset:
    """A set from the cache, prepared by tensorflow-datasets, or downloaded."""
    found = find(name)
    if found.kind == "tensorflow-datasets":
        try:
            return prepared(name)
        except FileNotFoundError:  # prepared in a version that is not read any more
            found = Found("absent")
    folder = found.path or fetch(name)
    try:
        return _own_files(name, folder)
    except InputError as error:
        raise InputError(f"{error}: remove {folder}, and the set is downloaded again") from error


def _own_files(name: str, folder: Path) -> Dataset:
    return cifar_folder(name, folder) if name == "cifar10" else idx_folder(name, folder)


def digits() -> Dataset:
    """scikit-learn's 1,797 digits of 8x8, enlarged bilinearly to 24x24 and centred in 28x28.

    A fifth is for testing; the split is stratified and always the same.
    """
    from scipy.ndimage import zoom
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    raw = load_digits()
    large = zoom((raw.images * (255 / 16)).astype(np.float32), (1, 3, 3), order=1)
    images = np.pad(large, ((0, 0), (2, 2), (2, 2)))
    labels = raw.target.astype(np.int32)
    train, test = train_test_split(np.arange(len(labels)), test_size=0.2, random_state=0, stratify=labels)
    return Dataset("digits", images[train], labels[train], images[test], labels[test])


def npz_file(path: Path) -> Dataset:
    """Reads a data set named as its file, as `Dataset.save` writes it.

    The file holds train_images, train_labels, test_images and test_labels as `Dataset` does, of any integers or floats,
    and optionally validation_images and validation_labels, `classes`, and as arrays of text `class_names` and the names
    of files; train_groups are integers. Raises as `load` does.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    arrays = read_npz(path)
    if lacking := [name for name in ARRAYS if name not in arrays]:
        raise InputError(f"{path} must hold {', '.join(ARRAYS)}, it lacks {', '.join(lacking)}")
    parts: dict[str, Any] = {}
    try:
        for name in (*ARRAYS, *(each for each in VALIDATION if each in arrays)):
            array = arrays[name]
            is_labels = "labels" in name
            kinds, rank, what = ("iu", 1, "(N,) integers") if is_labels else ("iuf", 3, "(N, H, W, ...) numbers")
            if array.dtype.kind not in kinds or array.ndim < rank:
                raise InputError(f"`{name}` must be {what}, got {array.dtype} of shape {array.shape}")
            parts[name] = array if is_labels or array.dtype == np.uint8 else array.astype(np.float32, copy=False)
        for name in ("class_names", *FILES):
            if name in arrays:
                array = arrays[name]
                if array.dtype.kind != "U" or array.ndim != 1:
                    axis = "C" if name == "class_names" else "N"
                    raise InputError(f"`{name}` must be ({axis},) text, got {array.dtype} of shape {array.shape}")
                parts[name] = tuple(array.tolist())
        if "classes" in arrays:
            classes = arrays["classes"]
            if np.ndim(classes) or classes.dtype.kind not in "iu" or classes < 1:
                raise InputError(f"`classes` must be an integer of at least 1, got {classes}")
            parts["classes"] = int(classes)
        return Dataset(path.stem, **parts, train_groups=arrays.get("train_groups"))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _find(folder: Path, name: str) -> Path | None:
    """A file of a data set, also gzipped, also with .idx for -idx; None if there is none."""
    names = (stem + suffix for stem in (name, name.replace("-idx", ".idx")) for suffix in ("", ".gz"))
    return next((folder / each for each in names if (folder / each).is_file()), None)


def _paths(name: str, folder: Path) -> Iterator[Path]:
    """The files of a data set in a folder; raises FileNotFoundError if one is missing."""
    for each in _SOURCES[name].files:
        if (path := _find(folder, each)) is None:
            raise FileNotFoundError(f"{folder} lacks {each} (or the same with .gz)")
        yield path


def _dataset(name: str, arrays: list[np.ndarray]) -> Dataset:
    """The `ARRAYS` as the files hold them, set upright and counted from 0."""
    source = _SOURCES[name]
    if source.transposed:
        arrays[::2] = [np.ascontiguousarray(images.swapaxes(1, 2)) for images in arrays[::2]]
    arrays[1::2] = [labels.astype(np.int32) - source.first_label for labels in arrays[1::2]]
    parts: dict[str, Any] = dict(zip(ARRAYS, arrays, strict=True))
    return Dataset(name, **parts, classes=source.classes, class_names=_CLASS_NAMES.get(name, ()))


def idx_folder(name: str, folder: Path) -> Dataset:
    """Reads a set of `DATASETS` from its four IDX files in a folder, gzipped or not; raises as `load` does."""
    return _dataset(name, list(map(read_idx, _paths(name, folder), (3, 1, 3, 1))))


def cifar_folder(name: str, folder: Path) -> Dataset:
    """As `idx_folder`, from the six files of CIFAR-10's binary version."""
    *train, test = map(read_cifar, _paths(name, folder))
    return _dataset(name, [*map(np.concatenate, zip(*train, strict=True)), *test])


def _prepared_folder() -> Path:
    """Where tensorflow-datasets prepares sets by default."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def _is_prepared(name: str, data_dir: Path) -> bool:
    """Whether there is any version of a set as array_record; importing tensorflow-datasets would take seconds."""
    return any(data_dir.glob(f"{_SOURCES[name].builder}/*/*.array_record*"))


def prepared(name: str, data_dir: Path | None = None) -> Dataset:
    """Reads a set that tensorflow-datasets has prepared as array_record, without TensorFlow; raises as `load` does."""
    source = _SOURCES[name]
    data_dir = data_dir or _prepared_folder()
    lacking = FileNotFoundError(
        f"{data_dir} holds neither the files of {name} nor a set that tensorflow-datasets has prepared as "
        "array_record: leave `data_dir` (--data_dir) out, and the set is downloaded; or put "
        f"{', '.join(source.files)} (each may end in .gz) there"
    )
    if not _is_prepared(name, data_dir):
        raise lacking
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(source.builder, data_dir=data_dir, file_format="array_record")
        splits = builder.as_data_source(["train", "test"])
    except Exception as error:  # of another version, or damaged
        raise lacking from error
    arrays = []
    for split in splits:
        try:
            records = list(split)
        except Exception as error:  # what a damaged file raises depends on the damage
            raise InputError(f"the prepared set {name} in {builder.data_dir} is damaged: {error}") from error
        images = np.stack([record["image"] for record in records])
        images = images[..., 0] if images.shape[-1] == 1 else images
        arrays += [images, np.array([record["label"] for record in records])]
    return _dataset(name, arrays)
