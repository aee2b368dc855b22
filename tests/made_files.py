"""Small files of data sets, made up: IDX, CIFAR-10's binary version, pictures, archives."""

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

RNG = np.random.default_rng(0)
FILES = {
    "train-images-idx3-ubyte": RNG.integers(0, 256, (12, 5, 4), np.uint8),
    "train-labels-idx1-ubyte": np.arange(12, dtype=np.uint8) % 10,
    "t10k-images-idx3-ubyte": RNG.integers(0, 256, (7, 5, 4), np.uint8),
    "t10k-labels-idx1-ubyte": np.arange(7, dtype=np.uint8),
}
"""The arrays of a small MNIST by the names of its files."""


def idx(array: np.ndarray) -> bytes:
    """The bytes of an IDX file."""
    sizes = [size.to_bytes(4, "big") for size in array.shape]
    return bytes([0, 0, 8, array.ndim, *b"".join(sizes)]) + array.tobytes()


def write_idx(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """IDX files of the same images and labels for training and test."""
    folder.mkdir(exist_ok=True)
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))


def cifar(count: int, first: int) -> tuple[bytes, np.ndarray, np.ndarray]:
    """The bytes of a CIFAR file of so many images, with its images and labels."""
    images = RNG.integers(0, 256, (count, 32, 32, 3), np.uint8)
    labels = np.arange(first, first + count, dtype=np.uint8) % 10
    records = [bytes([label]) + image.transpose(2, 0, 1).tobytes() for image, label in zip(images, labels, strict=True)]
    return b"".join(records), images, labels


CIFAR = {f"data_batch_{n}.bin": cifar(2 * n, n) for n in range(1, 6)} | {"test_batch.bin": cifar(3, 7)}


UPRIGHT: dict[str, np.ndarray] = {}
"""Images of the classes of each part of EMNIST."""
EMNIST: dict[str, bytes] = {}
"""Files that hold them on their sides; they count the classes of letters from 1."""
for _split, _classes in dict(digits=10, letters=26, balanced=47).items():
    UPRIGHT[_split] = RNG.integers(0, 256, (_classes, 5, 4), np.uint8)
    for _part in (f"emnist-{_split}-train", f"emnist-{_split}-test"):
        EMNIST[f"{_part}-images-idx3-ubyte"] = idx(UPRIGHT[_split].swapaxes(1, 2))
        EMNIST[f"{_part}-labels-idx1-ubyte"] = idx(np.arange(_classes, dtype=np.uint8) + np.uint8(_split == "letters"))


def picture(number: int, size: tuple[int, int] = (7, 9)) -> Image.Image:
    """A grey picture of one brightness that names it."""
    return Image.new("L", size[::-1], number)


def png(number: int, size: tuple[int, int] = (7, 9)) -> bytes:
    """The bytes of a grey picture."""
    raw = io.BytesIO()
    picture(number, size).save(raw, "png")
    return raw.getvalue()


def in_colour(picture: bytes) -> bytes:
    """The bytes of the same picture in colour."""
    raw = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").save(raw, "png")
    return raw.getvalue()


def brightness(images: np.ndarray) -> list[int]:
    """The number that each image of one brightness shows."""
    return images[:, 0, 0].tolist()


def fill(root: Path, names: dict[str, int]) -> Path:
    """Writes pictures, whose brightness is 40 times the number of their class, plus their own number."""
    for label, (name, count) in enumerate(names.items()):
        (root / name).mkdir(parents=True)
        for number in range(count):
            (root / name / f"{number}.png").write_bytes(png(40 * label + number))
    return root


def packed(root: Path, compression: int = zipfile.ZIP_STORED) -> Path:
    """A folder as a .zip file beside it."""
    path = root.with_name(f"{root.name}.zip")
    with zipfile.ZipFile(path, "w", compression) as archive:
        for each in sorted(root.rglob("*"), reverse=True):
            archive.write(each, each.relative_to(root))
    return path


def zipped(entries: dict[str, bytes], system: int = 3) -> bytes:
    """The bytes of a .zip file of these entries, written on Unix (3) or another system."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name)
            info.create_system, info.compress_type = system, zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return raw.getvalue()
