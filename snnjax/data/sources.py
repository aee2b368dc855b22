"""Loads data sets by name, from scikit-learn, local files, tensorflow-datasets, tonic, folders and .npz files."""

import contextlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from snnjax.core import checks, files
from snnjax.core.defaults import Fit
from snnjax.core.errors import DownloadError, InputError, explained, nearest, optional_package
from snnjax.data import readers
from snnjax.data.catalogue import CATALOGUE, DATASETS, Progress, Published
from snnjax.data.dataset import ARRAYS, FILES, GROUPS, UNLABELLED, VALIDATION, Dataset
from snnjax.data.events import RECORDINGS, recordings
from snnjax.data.folder import picture_folder
from snnjax.data.pictures import enlarged
from snnjax.data.readers import read_cifar, read_idx

DIGITS = Path(__file__).with_name("digits.npz")


def load(
    name: str | os.PathLike[str],
    data_dir: Path | str | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    colour: bool | None = None,
    group: str | None = None,
    split_seed: int = 0,
    fit: Fit | None = None,
) -> Dataset:
    """Loads a data set by name, with upright images and with labels that start at 0.

    Args:
      name: one of `DATASETS`, of which "digits" needs no files; one of `RECORDINGS`, the event-camera data sets;
        "folder" for a folder of pictures with a subfolder for each class; or the path of an .npz file. This file
        contains the arrays of a `Dataset` by name, as `Dataset.save` writes them: at least the training and test images
        and labels, with any integer or float type.
      data_dir: a folder with the files of the data set: IDX files, gzipped or not (those of EMNIST begin with emnist-),
        or for cifar10 the files of its binary version. Alternatively, a folder in which tensorflow-datasets has
        prepared data sets; the order of the images then differs. None: the location that `find` returns or, if there is
        none, a download into the cache. For "folder", the folder or .zip file of the pictures (see `picture_folder`);
        for recordings, as in `recordings`.
      size: for "folder" as in `picture_folder`, for recordings as in `recordings`.
      colour: only for "folder", as in `picture_folder`.
      group: only for "folder", as in `picture_folder`.
      split_seed: only for "folder", as in `picture_folder`.
      fit: only for "folder", as in `picture_folder`; None: "crop".

    Raises InputError if the name is unknown, or if files are damaged or do not match each other; FileNotFoundError if
    `data_dir` has no files of the data set; DownloadError if they cannot be downloaded; MissingPackageError if a
    package is needed that is not installed. The message of each error says what to do.

    Examples:
      >>> from snnjax.data import load
      >>> load("digits")
      Dataset(digits: 1,437 training and 360 test images, 28 high, 28 wide, 10 classes)
      >>> load("folder", "pictures")  # pictures/cat/1.png, ..., pictures/dog/10.png
      Dataset(pictures: 16 training and 4 test images, 48 high, 64 wide, 2 classes)
    """
    checks.instance("dataset", name, str | os.PathLike, "a name, or the path of an .npz file")
    name = os.fspath(name)
    if name == "folder":
        if data_dir is None:
            raise InputError("`data_dir` must name the folder or .zip file of pictures for `dataset` folder, got none")
        return picture_folder(data_dir, size, colour, group=group, split_seed=split_seed, fit=fit or "crop")
    if name in RECORDINGS:
        _refuse(name, colour=colour, group=group, split_seed=split_seed or None, fit=fit)
        return recordings(name, data_dir, size=size)
    _refuse(name, size=size, colour=colour, group=group, split_seed=split_seed or None, fit=fit)
    if name == "digits" or name.endswith(".npz"):
        advice = "for your own pictures, `dataset` must be folder (--dataset folder)"
        checks.only_for("data_dir", data_dir, f"a folder, and has no effect on {name}", advice)
        return digits() if name == "digits" else _npz_file(Path(name))
    _check(name)
    return _find_and_read(name) if data_dir is None else _read_folder(name, Path(data_dir))


def _refuse(name: str, **options: Any) -> None:
    """Raises InputError if an option is given that does not apply to this data set."""
    for option, given in options.items():
        kinds = "pictures and recordings" if option == "size" else "pictures"
        checks.only_for(option, given, f"{kinds}, not for `dataset` {name}", f"leave out --{option}")


class Location(NamedTuple):
    """The location of a data set on this computer.

    Attributes:
      kind: "built in", "cache", "tensorflow-datasets" or "absent".
      path: the path of the folder, if there is one.
    """

    kind: str
    path: Path | None = None


def find(name: str) -> Location:
    """The location from which `load` reads one of `DATASETS` without a download; reads no data, imports nothing.

    Raises InputError for an unknown name.

    Examples:
      >>> from snnjax.data import find
      >>> find("digits")
      Location(kind='built in', path=None)
    """
    _check(name)
    published = CATALOGUE[name].published
    if published is None:
        return Location("built in")
    with contextlib.suppress(OSError):  # even without a cache, there may be a prepared data set
        folder = _cached(published)
        if all(_find(folder, file) for file in CATALOGUE[name].files):
            return Location("cache", folder)
    folder = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    return Location("tensorflow-datasets", folder) if _is_prepared(name, folder) else Location("absent")


def fetch(name: str, *, mirror: str | None = None, progress: Progress | None = None) -> Path:
    """Downloads the files of a data set that are not in the cache, checks their SHA-256, and returns their folder.

    Args:
      name: one of `DATASETS` except digits.
      mirror: the address of a server that is tried before the published addresses. It offers the files of mnist at
        MIRROR/mnist/, and those of the EMNIST data sets at MIRROR/emnist/. The default is the value of the environment
        variable SNNJAX_MIRROR, if it is set.
      progress: a function of the name of a file, the number of bytes received so far, and its size in bytes, which is
        called repeatedly. By default, progress bars are shown on the error stream if that is a terminal.

    Raises InputError if the name is unknown or the `mirror` is invalid, DownloadError if a file cannot be downloaded
    from any mirror, and other types of OSError if the files cannot be written.

    Examples:
      >>> from snnjax.data import fetch, load
      >>> folder = fetch("mnist")  # doctest: +SKIP
      >>> load("mnist", folder)  # doctest: +SKIP
      Dataset(mnist: 60,000 training and 10,000 test images, 28 high, 28 wide, 10 classes)
    """
    from snnjax.data.download import download

    _check(name)
    published = CATALOGUE[name].published
    if published is None:
        raise InputError(f"{name} needs no download")
    folder = _cached(published)
    try:
        download(published, folder, mirror=mirror, progress=progress)
    except DownloadError as error:
        needed = ", ".join(CATALOGUE[name].files)
        advice = f"put {needed} (each may end in .gz) into a folder and name it with `data_dir` (--data_dir)"
        raise DownloadError(f"{name} cannot be downloaded: {error}. Try again with a network, or {advice}") from error
    return folder


def _check(name: str) -> None:
    checks.one_of("dataset", name, (*DATASETS, "folder", *RECORDINGS), ", or an .npz file")


def _cached(published: Published) -> Path:
    """The folder in the cache for published files; raises OSError if no cache can be created."""
    return files.cache_folder() / "data" / published.folder


def _find_and_read(name: str) -> Dataset:
    """Reads a data set from the cache or as prepared by tensorflow-datasets, or downloads it."""
    kind, folder = find(name)
    if folder and kind == "tensorflow-datasets":
        with contextlib.suppress(FileNotFoundError):  # it was prepared in a version that cannot be read any more
            return _prepared(name, folder)
    folder = folder if folder and kind == "cache" else fetch(name)
    with explained(advice=f"remove {folder}, and the set is downloaded again"):
        return _own_files(name, folder)


def _read_folder(name: str, folder: Path) -> Dataset:
    """Reads a data set from the folder that the user has specified."""
    if not folder.is_dir():
        raise FileNotFoundError(f"`data_dir` {folder} is not a folder")
    if any(_find(folder, file) for file in CATALOGUE[name].files):
        return _own_files(name, folder)
    return _prepared(name, folder)


def digits() -> Dataset:
    """Loads scikit-learn's 1,797 digits, 8x8 images that are enlarged bilinearly to 24x24 and centred in 28x28.

    A fifth of the images is for testing; the split is stratified and always the same.

    The images come from "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak, 1998, UCI Machine
    Learning Repository, CC BY 4.0. The file that comes with snnjax also contains the indices of both parts, as
    scikit-learn's `train_test_split` returns them: importing this function would take a second, a tenth of the time of
    a short training run.

    Examples:
      >>> from snnjax.data import digits
      >>> data = digits()
      >>> data
      Dataset(digits: 1,437 training and 360 test images, 28 high, 28 wide, 10 classes)
      >>> data.subset(100, 50)
      Dataset(digits: 100 training and 50 test images, 28 high, 28 wide, 10 classes)
    """
    raw = files.read_npz(DIGITS, "digits", readers.MOST_BYTES)
    images = enlarged(raw["images"] * (255 / 16))
    labels = raw["labels"].astype(np.int32)
    train = raw["train"]
    test = raw["test"]
    return Dataset("digits", images[train], labels[train], images[test], labels[test])


def _npz_file(path: Path) -> Dataset:
    files.check_exists(path)
    arrays = files.read_npz(path, ".npz file", readers.MOST_BYTES)
    if lacking := [name for name in ARRAYS if name not in arrays]:
        raise InputError(f"{path} must hold {', '.join(ARRAYS)}, it lacks {', '.join(lacking)}")
    fields = (*ARRAYS, *VALIDATION, UNLABELLED, "classes", "class_names", *FILES, *GROUPS, "group_names")
    absent = [field for field in fields if field not in arrays]
    for name in sorted(arrays.keys() - {*fields}):
        if meant := nearest(name, absent, likeness=0.82):
            raise InputError(
                f"{path} holds {name}, which is not read: rename it {meant} if that is meant, or remove it"
            )
    parts: dict[str, Any] = {name: arrays[name] for name in fields if name in arrays}
    for name, array in parts.items():
        if name == "classes":
            parts[name] = array.tolist()
        elif name in ("class_names", "group_names", *FILES):
            parts[name] = tuple(np.atleast_1d(array).tolist())
        elif "images" in name and array.dtype != np.uint8 and array.dtype.kind in "iuf":
            parts[name] = array.astype(np.float32, copy=False)
    with explained(str(path)):
        return Dataset(path.stem, **parts)


def _find(folder: Path, name: str) -> Path | None:
    """The path of a file of a data set, which may be gzipped or have .idx for -idx in its name; None if missing."""
    names = (stem + suffix for stem in (name, name.replace("-idx", ".idx")) for suffix in ("", ".gz"))
    return next((folder / candidate for candidate in names if (folder / candidate).is_file()), None)


def _own_files(name: str, folder: Path) -> Dataset:
    """Reads a data set from its original files; raises FileNotFoundError if one of them is missing."""
    paths = []
    for file in CATALOGUE[name].files:
        if (path := _find(folder, file)) is None:
            raise FileNotFoundError(f"{folder} lacks {file} (or the same with .gz)")
        paths.append(path)
    if name != "cifar10":
        return _dataset(name, list(map(read_idx, paths, (3, 1, 3, 1))))
    *train, test = map(read_cifar, paths)
    return _dataset(name, [*map(np.concatenate, zip(*train, strict=True)), *test])


def _dataset(name: str, arrays: list[np.ndarray]) -> Dataset:
    """The data set of the `ARRAYS` in the files, with images turned upright and labels that start at 0."""
    entry = CATALOGUE[name]
    if entry.transposed:
        arrays[::2] = [np.ascontiguousarray(images.swapaxes(1, 2)) for images in arrays[::2]]
    arrays[1::2] = [labels.astype(np.int32) - entry.first_label for labels in arrays[1::2]]
    train_images, train_labels, test_images, test_labels = arrays
    return Dataset(name, train_images, train_labels, test_images, test_labels, entry.classes, entry.class_names)


def _is_prepared(name: str, data_dir: Path) -> bool:
    """Whether any version of a data set exists as array_record.

    The files are searched for here, because importing tensorflow-datasets would take seconds.
    """
    return any(data_dir.glob(f"{CATALOGUE[name].builder}/*/*.array_record*"))


def _prepared(name: str, data_dir: Path) -> Dataset:
    """Reads, without TensorFlow, a data set that tensorflow-datasets has prepared as array_record."""
    entry = CATALOGUE[name]
    advice = "leave `data_dir` (--data_dir) out, and the set is downloaded; or put"
    lacking = FileNotFoundError(
        f"{data_dir} holds neither the files of {name} nor a set that tensorflow-datasets has prepared as "
        f"array_record: {advice} {', '.join(entry.files)} (each may end in .gz) there"
    )
    if not _is_prepared(name, data_dir):
        raise lacking
    needs = f"the prepared set {name} in {data_dir} needs the package tensorflow-datasets"
    with optional_package(needs, "'snnjax[datasets]'"):
        import tensorflow_datasets as tfds
    try:
        builder = tfds.builder(entry.builder, data_dir=data_dir, file_format="array_record")
        splits = builder.as_data_source(["train", "test"])
    except Exception as error:  # of another version, or damaged
        raise lacking from error
    arrays = []
    for split in splits:
        with files.refuse_damaged(f"the prepared set {name} in {builder.data_dir} is damaged"):
            records = list(split)
        images = np.stack([record["image"] for record in records])
        images = images[..., 0] if images.shape[-1] == 1 else images
        arrays += [images, np.array([record["label"] for record in records])]
    return _dataset(name, arrays)
