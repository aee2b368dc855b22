"""Data sets by name: scikit-learn's, own files, tensorflow-datasets', tonic's, folders of pictures, .npz files."""

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
    """Loads a data set by name: upright images, labels from 0.

    Args:
      name: one of `DATASETS`, of which "digits" needs no files; one of `RECORDINGS`, of event cameras; "folder" for
        pictures in folders, one for each class; or the path of an .npz file, which holds the arrays of a `Dataset` by
        name, as `Dataset.save` writes it: the four of images and labels at least, of any integers or floats.
      data_dir: folder of the set's own files: IDX, gzipped or not (EMNIST's begin with emnist-), or for cifar10 the
        binary version's; or one that tensorflow-datasets has prepared sets in, in another order. None takes what `find`
        finds, else downloads the set into the cache. For "folder" the folder or .zip file of the pictures (see
        `picture_folder`), for recordings as in `recordings`.
      size: of the images of a "folder", as `picture_folder` takes it, or of recordings.
      colour: of a "folder", as `picture_folder` takes it.
      group: of a "folder", as `picture_folder` takes it.
      split_seed: of a "folder", as `picture_folder` takes it.
      fit: of a "folder", as `picture_folder` takes it; None: "crop".

    Raises InputError for an unknown name, or files that are damaged or do not fit together; FileNotFoundError if
    `data_dir` has none, DownloadError if they cannot be downloaded, MissingPackageError if tensorflow-datasets is
    needed and absent, each with a remedy.
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
    """Raises InputError if an option is given that this data set does not have."""
    for option, given in options.items():
        kinds = "pictures and recordings" if option == "size" else "pictures"
        checks.only_for(option, given, f"{kinds}, not for `dataset` {name}", f"leave out --{option}")


class Location(NamedTuple):
    """The location of a data set on this machine.

    Attributes:
      kind: "built in", "cache", "tensorflow-datasets" or "absent".
      path: of the folder, if there is one.
    """

    kind: str
    path: Path | None = None


def find(name: str) -> Location:
    """The location from which `load` takes a set of `DATASETS` without a download; reads and imports nothing.

    Raises InputError for an unknown name.
    """
    _check(name)
    published = CATALOGUE[name].published
    if published is None:
        return Location("built in")
    with contextlib.suppress(OSError):  # without a cache there may still be a prepared set
        folder = _cached(published)
        if all(_find(folder, file) for file in CATALOGUE[name].files):
            return Location("cache", folder)
    folder = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    return Location("tensorflow-datasets", folder) if _is_prepared(name, folder) else Location("absent")


def fetch(name: str, *, mirror: str | None = None, progress: Progress | None = None) -> Path:
    """Downloads a set's files that the cache lacks, each checked by SHA-256, and returns their folder.

    Args:
      name: one of `DATASETS` but digits.
      mirror: address tried before the published ones: mnist's files lie at MIRROR/mnist/, EMNIST's at
        MIRROR/emnist/. By default that in the environment variable SNNJAX_MIRROR.
      progress: receives a file's name, the bytes received so far, and all its bytes; by default there are bars on the
        error stream if that is a terminal.

    Raises InputError for an unknown name or a bad `mirror`, DownloadError if no mirror gives a file, other OSError if
    nothing can be written.
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
    """The folder in the cache for files; raises OSError if there can be no cache."""
    return files.cache_folder() / "data" / published.folder


def _find_and_read(name: str) -> Dataset:
    """A set from the cache, prepared by tensorflow-datasets, or downloaded."""
    kind, folder = find(name)
    if folder and kind == "tensorflow-datasets":
        with contextlib.suppress(FileNotFoundError):  # prepared in a version that is not read any more
            return _prepared(name, folder)
    folder = folder if folder and kind == "cache" else fetch(name)
    with explained(advice=f"remove {folder}, and the set is downloaded again"):
        return _own_files(name, folder)


def _read_folder(name: str, folder: Path) -> Dataset:
    """A set from the folder that a user names."""
    if not folder.is_dir():
        raise FileNotFoundError(f"`data_dir` {folder} is no folder")
    if any(_find(folder, file) for file in CATALOGUE[name].files):
        return _own_files(name, folder)
    return _prepared(name, folder)


def digits() -> Dataset:
    """scikit-learn's 1,797 digits of 8x8, enlarged bilinearly to 24x24 and centred in 28x28.

    A fifth is for testing; the split is stratified and always the same.

    They come from "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak, 1998, UCI Machine Learning
    Repository, CC BY 4.0. The file holds the numbers of the images of both parts too, in the order of scikit-learn's
    `train_test_split`: to import that takes a second, which is a tenth of a short training.
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
    """A file of a data set, also gzipped, also with .idx for -idx; None if there is none."""
    names = (stem + suffix for stem in (name, name.replace("-idx", ".idx")) for suffix in ("", ".gz"))
    return next((folder / candidate for candidate in names if (folder / candidate).is_file()), None)


def _own_files(name: str, folder: Path) -> Dataset:
    """A set from its own files; raises FileNotFoundError if one is missing."""
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
    """The `ARRAYS` as the files hold them, set upright and counted from 0."""
    entry = CATALOGUE[name]
    if entry.transposed:
        arrays[::2] = [np.ascontiguousarray(images.swapaxes(1, 2)) for images in arrays[::2]]
    arrays[1::2] = [labels.astype(np.int32) - entry.first_label for labels in arrays[1::2]]
    train_images, train_labels, test_images, test_labels = arrays
    return Dataset(name, train_images, train_labels, test_images, test_labels, entry.classes, entry.class_names)


def _is_prepared(name: str, data_dir: Path) -> bool:
    """Whether there is any version of a set as array_record; importing tensorflow-datasets would take seconds."""
    return any(data_dir.glob(f"{CATALOGUE[name].builder}/*/*.array_record*"))


def _prepared(name: str, data_dir: Path) -> Dataset:
    """A set that tensorflow-datasets has prepared as array_record, read without TensorFlow."""
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
