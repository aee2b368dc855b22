"""Data sets as arrays: from scikit-learn, from IDX files, or as tensorflow-datasets has prepared them."""

import dataclasses
import gzip
import zlib
from pathlib import Path

import numpy as np

DATASETS = ("digits", "mnist")


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Grey images with their labels.

    Attributes:
      name: of the data set.
      train_images: (N, H, W) uint8 or float32 of 0..255.
      train_labels: (N,) int32 of 0..classes-1.
      test_images: (M, H, W), as `train_images`.
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
            if images.ndim != 3:
                raise ValueError(f"`{part}_images` must have axes (N H W), got shape {images.shape}")
            if len(images) != len(labels):
                raise ValueError(f"{self.name}: {len(images)} {part} images but {len(labels)} labels")
            if len(images) == 0:
                raise ValueError(f"{self.name}: there are no {part} images")
            if labels.min() < 0 or labels.max() >= self.classes:
                raise ValueError(
                    f"{self.name}: {part} labels must lie in 0..{self.classes - 1}, got {labels.min()}..{labels.max()}"
                )
            if not np.isfinite(images).all():
                raise ValueError(f"{self.name}: {part} images hold NaN or infinite values")

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
          ValueError: `ratio` is not in (0, 1], or leaves no image.
        """
        if not 0 < ratio <= 1:
            raise ValueError(f"`ratio` must lie in (0, 1], got {ratio}")
        count = int(ratio * len(self.train_images))
        if count == 0:
            raise ValueError(f"`ratio` {ratio} of {len(self.train_images)} training images leaves none")
        if count == len(self.train_images):
            return self
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self.train_images))[:count])
        return dataclasses.replace(self, train_images=self.train_images[chosen], train_labels=self.train_labels[chosen])


def load(name: str, data_dir: Path | None = None) -> Dataset:
    """Loads a data set by name.

    Args:
      name: "digits", which needs no files, or "mnist".
      data_dir: for mnist, a folder of IDX files, gzipped or not; or one that tensorflow-datasets has prepared sets in
        (its own default folder if None).

    Raises:
      ValueError: an unknown name; files that are truncated, mislabelled or do not fit together.
      FileNotFoundError: no such folder, or nothing in it that can be read; the message says what to do.
    """
    if name not in DATASETS:
        raise ValueError(f"`dataset` must be one of {', '.join(DATASETS)}, got {name!r}")
    if name == "digits":
        return digits()
    if data_dir is not None and not data_dir.is_dir():
        raise FileNotFoundError(f"`data_dir` {data_dir} is no folder")
    if data_dir is not None and _idx_file(data_dir, "train", "images"):
        return idx_folder(name, data_dir)
    return prepared(name, data_dir)


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


def _idx_file(folder: Path, part: str, kind: str) -> Path | None:
    stem = {"train": "train", "test": "t10k"}[part]
    rank = {"images": 3, "labels": 1}[kind]
    for name in (f"{stem}-{kind}-idx{rank}-ubyte", f"{stem}-{kind}.idx{rank}-ubyte"):
        for suffix in ("", ".gz"):
            if (folder / (name + suffix)).is_file():
                return folder / (name + suffix)
    return None


def idx_folder(name: str, folder: Path, classes: int = 10) -> Dataset:
    """Reads the four IDX files of MNIST and its like from one folder, gzipped or not.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: a file is damaged, or they do not fit together.
    """
    arrays = {}
    for part in ("train", "test"):
        for kind, rank in (("images", 3), ("labels", 1)):
            path = _idx_file(folder, part, kind)
            if path is None:
                stem = {"train": "train", "test": "t10k"}[part]
                raise FileNotFoundError(f"{folder} lacks {stem}-{kind}-idx{rank}-ubyte (or the same with .gz)")
            arrays[f"{part}_{kind}"] = read_idx(path, rank)
    for kind in ("train_labels", "test_labels"):
        arrays[kind] = arrays[kind].astype(np.int32)
    return Dataset(name, **arrays, classes=classes)


def read_idx(path: Path, rank: int) -> np.ndarray:
    """Reads one IDX file of unsigned bytes, gzipped or not.

    Args:
      path: of the file.
      rank: number of axes it must have: 3 for images, 1 for labels.

    Returns:
      uint8 array of `rank` axes.

    Raises:
      ValueError: wrong magic number, rank or length, or damaged compression.
    """
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is truncated or damaged: {error}") from error
    header = 4 + 4 * rank
    magic = bytes([0, 0, 8, rank])
    if raw[:4] != magic:
        raise ValueError(f"{path} must begin with the IDX magic number {magic.hex()}, got {raw[:4].hex() or 'nothing'}")
    if len(raw) < header:
        raise ValueError(f"{path} is truncated: it ends within its header")
    shape = tuple(int.from_bytes(raw[at : at + 4], "big") for at in range(4, header, 4))
    expected = header + int(np.prod(shape, dtype=object))
    if len(raw) != expected:
        raise ValueError(f"{path} must hold {expected} bytes for shape {shape}, got {len(raw)}")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def prepared(name: str, data_dir: Path | None) -> Dataset:
    """Reads a set that tensorflow-datasets has prepared as array_record, without TensorFlow.

    Raises:
      FileNotFoundError: it is not prepared; the message says how to do it.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
        source = builder.as_data_source()
        sources = {part: source[part] for part in ("train", "test")}
    except Exception as error:
        where = f"{data_dir} holds" if data_dir else "there are"
        folder = data_dir or "DIR"
        raise FileNotFoundError(
            f"{where} neither IDX files of {name} nor a set that tensorflow-datasets has prepared. "
            f"Put train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte "
            f"(each may end in .gz) into a folder and name it with --data_dir; or, with a network, "
            f"pip install 'snnjax[tensorflow]' and run: python -c \"import tensorflow_datasets as tfds; "
            f"tfds.builder('{name}', data_dir='{folder}', file_format='array_record').download_and_prepare()\""
        ) from error
    arrays = {}
    for part in ("train", "test"):
        try:
            records = list(sources[part])
        except Exception as error:  # what a damaged file raises depends on the damage
            raise ValueError(f"the prepared set {name} in {builder.data_dir} is damaged: {error}") from error
        arrays[f"{part}_images"] = np.stack([record["image"] for record in records])[..., 0]
        arrays[f"{part}_labels"] = np.array([record["label"] for record in records], np.int32)
    return Dataset(name, **arrays, classes=builder.info.features["label"].num_classes)
