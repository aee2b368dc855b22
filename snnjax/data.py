"""Data sets as arrays: from scikit-learn, from their own files, or as tensorflow-datasets has prepared them."""

import dataclasses
import gzip
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np

from snnjax.encoding import COLOUR, GREY, Encoder
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


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images with their labels.

    Attributes:
      name: of the data set.
      train_images: (N, H, W) grey or (N, H, W, 3) colour, uint8 or float32 of 0..255.
      train_labels: (N,) int32 of 0..classes-1.
      test_images: (M, H, W) or (M, H, W, 3), as `train_images`.
      test_labels: (M,) int32.
      classes: how many there are.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: int = 10

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            if images.ndim != 3 and (images.ndim != 4 or images.shape[-1] != 3):
                raise InputError(f"`{part}_images` must have axes (N H W) or (N H W 3), got shape {images.shape}")
            if len(images) != len(labels):
                raise InputError(f"{self.name}: {len(images)} {part} images but {len(labels)} labels")
            if len(images) == 0:
                raise InputError(f"{self.name}: there are no {part} images")
            if labels.min() < 0 or labels.max() >= self.classes:
                raise InputError(
                    f"{self.name}: {part} labels must lie in 0..{self.classes - 1}, got {labels.min()}..{labels.max()}"
                )
            if not np.isfinite(images).all():
                raise InputError(f"{self.name}: {part} images hold NaN or infinite values")
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise InputError(
                f"{self.name}: training images are of {self.train_images.shape[1:]}, "
                f"test images of {self.test_images.shape[1:]}"
            )
        if self.train_images.dtype != self.test_images.dtype:
            raise InputError(
                f"{self.name}: training images are {self.train_images.dtype}, test images {self.test_images.dtype}"
            )

    @property
    def encoder(self) -> Encoder:
        """What makes latencies of the images: `GREY` or `COLOUR`."""
        return GREY if self.train_images.ndim == 3 else COLOUR

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the encoded images, as a network takes them."""
        return self.encoder.output_shape(self.train_images.shape[1:])

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that tell these images and labels from all others, by SHA-256."""
        return _digest(self.train_images, self.train_labels, self.test_images, self.test_labels)

    @property
    def train_digest(self) -> str:
        """As `digest`, of the training images alone: all that STDP sees."""
        return _digest(self.train_images)

    def first(self, train: int | None, test: int | None) -> "Dataset":
        """The first `train` and `test` images only; None keeps all."""
        return dataclasses.replace(
            self,
            train_images=self.train_images[:train],
            train_labels=self.train_labels[:train],
            test_images=self.test_images[:test],
            test_labels=self.test_labels[:test],
        )

    def share(self, ratio: float, seed: int) -> "Dataset":
        """A random share of the training images, in their order.

        Raises:
          InputError: `ratio` is not in (0, 1], or leaves no image.
        """
        if not 0 < ratio <= 1:
            raise InputError(f"`ratio` must lie in (0, 1], got {ratio}")
        count = int(ratio * len(self.train_images))
        if count == 0:
            raise InputError(f"`ratio` {ratio} of {len(self.train_images)} training images leaves none")
        if count == len(self.train_images):
            return self
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self.train_images))[:count])
        return dataclasses.replace(self, train_images=self.train_images[chosen], train_labels=self.train_labels[chosen])

    def augment(self, ratio: float, seed: int) -> "Dataset":
        """Adds altered copies of a random share of the training images, and mixes all of them.

        A copy is rotated about its centre by up to 30 degrees either way (nearest pixel, black beyond the border), then
        mirrored left to right and top to bottom, each with probability 1/2.

        Raises:
          InputError: as `share` does.
        """
        copied, rng = self.share(ratio, seed), np.random.default_rng(seed)
        images = np.concatenate([self.train_images, [_altered(image, rng) for image in copied.train_images]])
        labels = np.concatenate([self.train_labels, copied.train_labels])
        order = rng.permutation(len(images))
        return dataclasses.replace(self, train_images=images[order], train_labels=labels[order])


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


def load(name: str, data_dir: Path | str | None = None) -> Dataset:
    """Loads a data set by name.

    Args:
      name: one of `DATASETS`; "digits" needs no files.
      data_dir: a folder of the set's own files: IDX, gzipped or not (EMNIST's begin with emnist-), or for cifar10 the
        binary version's; or one that tensorflow-datasets has prepared sets in (its own default folder if None).

    Returns:
      Upright images, labels from 0. The set's own files keep their order, tensorflow-datasets has one of its own.

    Raises:
      InputError: an unknown name; files that are truncated, mislabelled or do not fit together.
      FileNotFoundError: no such folder, or nothing in it that can be read; the message says what to do.
    """
    if name not in DATASETS:
        raise InputError(f"`dataset` must be one of {', '.join(DATASETS)}, got {name!r}")
    if name == "digits":
        if data_dir is not None:
            raise InputError(f"`data_dir` {data_dir} is for all sets but digits: name another `dataset`")
        return digits()
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


def read_cifar(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads one file of CIFAR-10's binary version: a label, then the red, green and blue plane of each image.

    Returns:
      (N, 32, 32, 3) and (N,), uint8.

    Raises:
      InputError: not a whole number of images, or damaged compression.
    """
    raw, record = _read(path, MOST_BYTES), 1 + 3 * 32 * 32
    if not raw or len(raw) % record:
        raise InputError(f"{path} must hold {record} bytes for each image, got {len(raw)} bytes in all")
    records = np.frombuffer(raw, np.uint8).reshape(-1, record)
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, 0]


def read_idx(path: Path, rank: int) -> np.ndarray:
    """Reads one IDX file of unsigned bytes, gzipped or not.

    Args:
      path: of the file.
      rank: number of axes it must have: 3 for images, 1 for labels.

    Returns:
      uint8 array of `rank` axes.

    Raises:
      InputError: wrong magic number, rank or length, or damaged compression.
    """
    header = 4 + 4 * rank
    magic = bytes([0, 0, 8, rank])
    begin = _read(path, header)
    if begin[:4] != magic:
        raise InputError(
            f"{path} must begin with the IDX magic number {magic.hex()}, got {begin[:4].hex() or 'nothing'}"
        )
    if len(begin) < header:
        raise InputError(f"{path} is truncated: it ends within its header")
    shape = tuple(int.from_bytes(begin[at : at + 4], "big") for at in range(4, header, 4))
    expected = header + math.prod(shape)
    if expected > MOST_BYTES:
        raise InputError(f"{path} must hold at most {MOST_BYTES} bytes, its header says {expected} for shape {shape}")
    raw = _read(path, expected + 1)
    if len(raw) != expected:
        more = "more" if len(raw) > expected else len(raw)
        raise InputError(f"{path} must hold {expected} bytes for shape {shape}, got {more}")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


MOST_BYTES = 1 << 30
"""No file of a data set may hold more, unzipped; the largest known, EMNIST's by class, holds half of it."""


def _read(path: Path, most: int) -> bytes:
    """The bytes of a file up to so many, unzipped if it is gzipped."""
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream, pieces, left = gzip.GzipFile(fileobj=file) if gzipped else file, list[bytes](), most
        try:
            while left and (piece := stream.read(min(left, 1 << 20))):
                pieces.append(piece)
                left -= len(piece)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path} is truncated or damaged: {error}") from error
    return b"".join(pieces)


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
