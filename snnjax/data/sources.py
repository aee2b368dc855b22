"""Data sets by name: from scikit-learn, their own files, tensorflow-datasets, or a file of one's own."""

import dataclasses
from pathlib import Path

import numpy as np

from snnjax.data.dataset import ARRAYS, Dataset
from snnjax.data.readers import read_cifar, read_idx, read_npz
from snnjax.errors import InputError


@dataclasses.dataclass(frozen=True)
class _Source:
    """What is known of a data set beforehand.

    Attributes:
      builder: its name in tensorflow-datasets.
      files: its own: IDX files of training images and labels, test images and labels; or CIFAR's, the test file last.
      classes: how many there are.
      first_label: the label of the first class in the files.
      transposed: whether the files hold rows as columns.
    """

    builder: str
    files: tuple[str, ...] = (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    )
    classes: int = 10
    first_label: int = 0
    transposed: bool = False


def _emnist(split: str, classes: int, first_label: int = 0) -> _Source:
    kinds = [(part, kind) for part in ("train", "test") for kind in ("images-idx3", "labels-idx1")]
    files = tuple(f"emnist-{split}-{part}-{kind}-ubyte" for part, kind in kinds)
    return _Source(f"emnist/{split}", files, classes, first_label, transposed=True)


_SOURCES = {
    "mnist": _Source("mnist"),
    "fashion_mnist": _Source("fashion_mnist"),
    "kmnist": _Source("kmnist"),
    "emnist_digits": _emnist("digits", 10),
    "emnist_letters": _emnist("letters", 26, first_label=1),
    "emnist_balanced": _emnist("balanced", 47),
    "cifar10": _Source("cifar10", (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")),
}
DATASETS = ("digits", *_SOURCES)


def load(name: str, data_dir: Path | str | None = None) -> Dataset:
    """Loads a data set by name.

    Args:
      name: one of `DATASETS`, of which "digits" needs no files; or the path of an .npz file, see `npz_file`.
      data_dir: a folder of the set's own files: IDX, gzipped or not (EMNIST's begin with emnist-), or for cifar10 the
        binary version's; or one that tensorflow-datasets has prepared sets in (its own default folder if None).

    Returns:
      Upright images, labels from 0. The set's own files keep their order, tensorflow-datasets has one of its own.

    Raises:
      InputError: an unknown name; files that are truncated, mislabelled or do not fit together.
      FileNotFoundError: no such folder, or nothing in it that can be read; the message says what to do.
    """
    own = name.endswith(".npz")
    if name not in DATASETS and not own:
        raise InputError(f"`dataset` must be one of {', '.join(DATASETS)}, or an .npz file, got {name!r}")
    if name == "digits" or own:
        if data_dir is not None:
            which = ".npz files" if own else "digits"
            raise InputError(f"`data_dir` {data_dir} is for all sets but {which}: name another `dataset`")
        return npz_file(Path(name)) if own else digits()
    data_dir = None if data_dir is None else Path(data_dir)
    if data_dir is not None and not data_dir.is_dir():
        raise FileNotFoundError(f"`data_dir` {data_dir} is no folder")
    if data_dir is None or not any(_file(data_dir, each) for each in _SOURCES[name].files):
        return prepared(name, data_dir)
    read = cifar_folder if name == "cifar10" else idx_folder
    return read(name, data_dir)


def digits() -> Dataset:
    """scikit-learn's 1,797 digits of 8x8, enlarged bilinearly to 24x24 and centred in 28x28; every fifth for testing.

    The split is stratified and always the same.
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
    """Reads a data set of one's own, as `Dataset.save` writes it; its name is that of the file.

    Args:
      path: of an .npz file of train_images, train_labels, test_images and test_labels as `Dataset` has them, integers
        or floats, and perhaps `classes`, by default the highest label and one.

    Raises:
      FileNotFoundError: there is none.
      InputError: it is damaged, lacks an array, or its arrays are no images and labels.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    arrays = read_npz(path)
    if lacking := [name for name in ARRAYS if name not in arrays]:
        raise InputError(f"{path} must hold {', '.join(ARRAYS)}, it lacks {', '.join(lacking)}")
    try:
        for name in ARRAYS:
            kinds, rank, what = ("iu", 1, "(N,) integers") if "labels" in name else ("iuf", 3, "(N, H, W, ...) numbers")
            if (array := arrays[name]).dtype.kind not in kinds or array.ndim < rank:
                raise InputError(f"`{name}` must be {what}, got {array.dtype} of shape {array.shape}")
        images = [
            arrays[name] if arrays[name].dtype == np.uint8 else arrays[name].astype(np.float32) for name in ARRAYS[::2]
        ]
        labels = [arrays[name].astype(np.int32) for name in ARRAYS[1::2]]
        classes = arrays.get("classes", max(each.max(initial=0) for each in labels) + 1)
        if np.ndim(classes) or classes.dtype.kind not in "iu" or classes < 1:
            raise InputError(f"`classes` must be an integer of at least 1, got {classes}")
        return Dataset(path.stem, images[0], labels[0], images[1], labels[1], int(classes))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _file(folder: Path, name: str) -> Path | None:
    for each in (name, name.replace("-idx", ".idx")):
        for suffix in ("", ".gz"):
            if (folder / (each + suffix)).is_file():
                return folder / (each + suffix)
    return None


def _existing(folder: Path, name: str) -> Path:
    path = _file(folder, name)
    if path is None:
        raise FileNotFoundError(f"{folder} lacks {name} (or the same with .gz)")
    return path


def _dataset(name: str, arrays: list[np.ndarray]) -> Dataset:
    """Training images and labels, test images and labels as the files hold them, set upright and counted from 0."""
    source = _SOURCES[name]
    train, test = (
        np.ascontiguousarray(images.swapaxes(1, 2)) if source.transposed else images for images in arrays[::2]
    )
    train_labels, test_labels = (labels.astype(np.int32) - source.first_label for labels in arrays[1::2])
    return Dataset(name, train, train_labels, test, test_labels, source.classes)


def idx_folder(name: str, folder: Path) -> Dataset:
    """Reads the four IDX files of MNIST or its like from one folder, gzipped or not.

    Raises:
      FileNotFoundError: a file is missing.
      InputError: a file is damaged, or they do not fit together.
    """
    files = zip(_SOURCES[name].files, (3, 1, 3, 1), strict=True)
    return _dataset(name, [read_idx(_existing(folder, each), rank) for each, rank in files])


def cifar_folder(name: str, folder: Path) -> Dataset:
    """Reads the six files of CIFAR-10's binary version from one folder, gzipped or not.

    Raises:
      FileNotFoundError: a file is missing.
      InputError: a file is damaged.
    """
    *train, test = [read_cifar(_existing(folder, each)) for each in _SOURCES[name].files]
    images, labels = (np.concatenate(parts) for parts in zip(*train, strict=True))
    return _dataset(name, [images, labels, *test])


def prepared(name: str, data_dir: Path | None) -> Dataset:
    """Reads a set that tensorflow-datasets has prepared as array_record, without TensorFlow.

    Raises:
      FileNotFoundError: it is not prepared; the message says how to do it.
      InputError: it is damaged.
    """
    import tensorflow_datasets as tfds

    source = _SOURCES[name]
    try:
        builder = tfds.builder(source.builder, data_dir=data_dir, file_format="array_record")
        splits = builder.as_data_source(["train", "test"])
    except Exception as error:
        where = f"{data_dir} holds" if data_dir else "there are"
        raise FileNotFoundError(
            f"{where} neither the files of {name} nor a set that tensorflow-datasets has prepared. "
            f"Put {', '.join(source.files)} (each may end in .gz) into a folder and name it with --data_dir; or, with "
            f"a network, pip install 'snnjax[tensorflow]' and run: python -c \"import tensorflow_datasets as tfds; "
            f"tfds.builder('{source.builder}', data_dir='{data_dir or 'DIR'}', file_format='array_record')"
            f'.download_and_prepare()"'
        ) from error
    arrays = []
    for split in splits:
        try:
            records = list(split)
        except Exception as error:  # what a damaged file raises depends on the damage
            raise InputError(f"the prepared set {name} in {builder.data_dir} is damaged: {error}") from error
        images = np.stack([record["image"] for record in records])
        arrays.append(images[..., 0] if images.shape[-1] == 1 else images)
        arrays.append(np.array([record["label"] for record in records]))
    return _dataset(name, arrays)
