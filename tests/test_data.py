"""Data sets: scikit-learn's digits, IDX and CIFAR files, and what tensorflow-datasets has prepared."""

import errno
import gzip
import pathlib
import re
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from snnjax.core.errors import DownloadError, InputError
from snnjax.data import DATASETS, RECORDINGS, Dataset, digits, find, load, read_cifar, read_idx, relabel
from snnjax.encoding import COLOUR, GREY

RNG = np.random.default_rng(0)
FILES = {
    "train-images-idx3-ubyte": RNG.integers(0, 256, (12, 5, 4), np.uint8),
    "train-labels-idx1-ubyte": np.arange(12, dtype=np.uint8) % 10,
    "t10k-images-idx3-ubyte": RNG.integers(0, 256, (7, 5, 4), np.uint8),
    "t10k-labels-idx1-ubyte": np.arange(7, dtype=np.uint8),
}
PREPARE = """
import io, sys
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

class Mnist(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("3.0.1")
    SHAPE, CLASSES, USED = (28, 28, 1), 10, 10

    def _info(self):
        label = tfds.features.ClassLabel(num_classes=self.CLASSES)
        features = dict(image=tfds.features.Image(shape=self.SHAPE), label=label)
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return dict(train=self._generate_examples(range(self.USED + 2)), test=self._generate_examples(range(100, 107)))

    def _generate_examples(self, numbers):
        for number in numbers:
            pixels = np.full(self.SHAPE, number, np.uint8)
            pixels[1, 2] = 255 - np.arange(self.SHAPE[-1])
            png = io.BytesIO()  # as bytes, since arrays would need TensorFlow
            Image.fromarray(pixels.squeeze()).save(png, "png")
            png.seek(0)
            yield number, dict(image=png, label=number % self.USED + (self.CLASSES > self.USED))

class Emnist(Mnist):
    VERSION = tfds.core.Version("3.1.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="letters")]
    CLASSES, USED = 37, 26  # as tensorflow-datasets has it: 26 letters, counted from 1

class Cifar10(Mnist):
    VERSION = tfds.core.Version("3.0.2")
    SHAPE = (32, 32, 3)

for kind in (Mnist, Emnist, Cifar10):
    kind(data_dir=sys.argv[1], file_format="array_record").download_and_prepare()
"""


def idx(array: np.ndarray) -> bytes:
    """The bytes of an IDX file."""
    return bytes([0, 0, 8, array.ndim, *b"".join(size.to_bytes(4, "big") for size in array.shape)]) + array.tobytes()


@pytest.fixture
def folder(tmp_path):
    """A folder of plain IDX files."""
    for name, array in FILES.items():
        (tmp_path / name).write_bytes(idx(array))
    return tmp_path


@pytest.fixture
def calls(monkeypatch) -> list:
    """What was said to the network, which does not answer."""
    calls = []

    def call(*args, **_):
        calls.append(args)
        raise OSError("no network")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, call)
    monkeypatch.setattr(socket.socket, "connect", call)
    return calls


def cifar(count: int, first: int) -> tuple[bytes, np.ndarray, np.ndarray]:
    """The bytes of a CIFAR file of so many images, with its images and labels."""
    images = RNG.integers(0, 256, (count, 32, 32, 3), np.uint8)
    labels = np.arange(first, first + count, dtype=np.uint8) % 10
    records = [bytes([label]) + image.transpose(2, 0, 1).tobytes() for image, label in zip(images, labels, strict=True)]
    return b"".join(records), images, labels


CIFAR = {f"data_batch_{n}.bin": cifar(2 * n, n) for n in range(1, 6)} | {"test_batch.bin": cifar(3, 7)}


@pytest.fixture
def cifar_files(tmp_path):
    """A folder of the files of CIFAR-10's binary version."""
    for name, (content, *_) in CIFAR.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def small(**change) -> Dataset:
    images, labels = np.zeros((3, 4, 4), np.uint8), np.array([0, 1, 2])
    parts = dict(train_images=images, train_labels=labels, test_images=images, test_labels=labels, classes=3)
    return Dataset("small", **parts | change)


def test_digits():
    data = digits()
    assert data.train_images.shape == (1437, 28, 28)
    assert data.test_images.shape == (360, 28, 28)
    assert data.train_images.dtype == np.float32
    assert data.train_labels.dtype == np.int32
    images = np.concatenate([data.train_images, data.test_images])
    assert (images.min(), images.max()) == (0, 255)
    assert not images[:, [0, 1, -2, -1]].any(), "two blank rows above and below"
    counts = np.bincount(data.train_labels), np.bincount(data.test_labels)
    np.testing.assert_allclose(counts[0] / 4, counts[1], atol=1.1)
    again = load("digits")
    for part in ("train_images", "train_labels", "test_images", "test_labels"):
        np.testing.assert_array_equal(getattr(data, part), getattr(again, part))


@pytest.mark.parametrize("zipped", [(), tuple(FILES), ("t10k-labels-idx1-ubyte",)])
@pytest.mark.parametrize("dotted", [False, True])
def test_idx_files_are_read_plain_and_gzipped(folder, zipped, dotted):
    for name in FILES:
        path = folder / (name.replace("-idx", ".idx") if dotted else name)
        (folder / name).rename(path)
        if name in zipped:
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
            path.unlink()
    data = load("mnist", str(folder))
    read = (data.train_images, data.train_labels, data.test_images, data.test_labels)
    for array, expected in zip(read, FILES.values(), strict=True):
        np.testing.assert_array_equal(array, expected)
    assert (data.train_images.dtype, data.train_labels.dtype) == (np.uint8, np.int32)
    assert (data.name, data.classes) == ("mnist", 10)


@pytest.mark.parametrize("name", ["fashion_mnist", "kmnist"])
def test_sets_in_the_files_of_mnist(folder, name):
    data, mnist = load(name, folder), load("mnist", folder)
    assert (data.name, data.classes) == (name, 10)
    assert data.names[8] == dict(fashion_mnist="bag", kmnist="re")[name]
    np.testing.assert_array_equal(data.train_images, mnist.train_images)
    np.testing.assert_array_equal(data.test_labels, mnist.test_labels)


@pytest.mark.parametrize(("split", "classes", "first"), [("digits", 10, 0), ("letters", 26, 1), ("balanced", 47, 0)])
def test_emnist_is_set_upright_and_counted_from_0(tmp_path, split, classes, first):
    labels = np.arange(classes, dtype=np.uint8)
    images = RNG.integers(0, 256, (classes, 5, 4), np.uint8)
    for part in ("train", "test"):
        (tmp_path / f"emnist-{split}-{part}-images-idx3-ubyte").write_bytes(idx(images.swapaxes(1, 2)))
        zipped = gzip.compress(idx(labels + np.uint8(first)), mtime=0)
        (tmp_path / f"emnist-{split}-{part}-labels-idx1-ubyte.gz").write_bytes(zipped)
    data = load(f"emnist_{split}", tmp_path)
    for array, expected in (
        (data.train_images, images),
        (data.test_images, images),
        (data.train_labels, labels),
        (data.test_labels, labels),
    ):
        np.testing.assert_array_equal(array, expected)
    assert data.train_images.flags.c_contiguous
    assert (data.train_labels.dtype, data.classes) == (np.int32, classes)
    assert (data.names[0], data.names[-1], len(data.names)) == (*NAMES[split], classes)
    other = "emnist_balanced" if split != "balanced" else "emnist_digits"
    with pytest.raises(FileNotFoundError, match=f"{other.replace('_', '-')}-train-images-idx3-ubyte"):
        load(other, tmp_path)


NAMES = dict(digits=("0", "9"), letters=("A", "Z"), balanced=("0", "t"))


@pytest.mark.parametrize("label", [0, 27])
def test_labels_beyond_the_letters_are_refused(tmp_path, label):
    for part in ("train", "test"):
        (tmp_path / f"emnist-letters-{part}-images-idx3-ubyte").write_bytes(idx(FILES["train-images-idx3-ubyte"][:1]))
        (tmp_path / f"emnist-letters-{part}-labels-idx1-ubyte").write_bytes(idx(np.uint8([label])))
    message = f"emnist_letters: train labels must lie in 0..25, got {label - 1}..{label - 1}"
    with pytest.raises(ValueError, match=re.escape(message)):
        load("emnist_letters", tmp_path)


def test_cifar_files(cifar_files):
    (cifar_files / "data_batch_4.bin.gz").write_bytes(gzip.compress(CIFAR["data_batch_4.bin"][0], mtime=0))
    (cifar_files / "data_batch_4.bin").unlink()
    data = load("cifar10", cifar_files)
    *train, test = [arrays for _, *arrays in CIFAR.values()]
    images, labels = (np.concatenate(parts) for parts in zip(*train, strict=True))
    read = (data.train_images, data.train_labels, data.test_images, data.test_labels)
    for array, expected in zip(read, (images, labels, *test), strict=True):
        np.testing.assert_array_equal(array, expected)
    assert (data.train_images.dtype, data.train_labels.dtype, data.classes) == (np.uint8, np.int32, 10)
    assert data.encoder is COLOUR
    assert data.input_shape == (18, 34, 34)
    assert data.class_names[3] == "cat"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (CIFAR["test_batch.bin"][0][:-1], "must hold 3073 bytes for each image, got 9218 bytes in all"),
        (b"", "must hold 3073 bytes for each image, got 0 bytes in all"),
        (gzip.compress(CIFAR["test_batch.bin"][0], mtime=0)[:-9], "is truncated or damaged"),
        (b"\x0a" + bytes(3072), "cifar10: test labels must lie in 0..9, got 10..10"),
    ],
)
def test_damaged_cifar_files_are_named(cifar_files, content, message):
    path = cifar_files / "test_batch.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load("cifar10", cifar_files)
    assert str(path) in str(caught.value) or str(caught.value).startswith("cifar10: ")


def test_a_disk_that_cannot_be_read_is_no_damaged_file(folder, monkeypatch):
    def read(*_):
        raise OSError(errno.EIO, "Input/output error")

    for name in FILES:
        (folder / name).write_bytes(gzip.compress((folder / name).read_bytes(), mtime=0))
    monkeypatch.setattr(gzip.GzipFile, "read", read)
    with pytest.raises(OSError, match="Input/output error"):
        load("mnist", folder)


def test_a_missing_cifar_file_is_named(cifar_files):
    (cifar_files / "data_batch_1.bin").unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(f"{cifar_files} lacks data_batch_1.bin")):
        load("cifar10", cifar_files)
    with pytest.raises(FileNotFoundError):
        read_cifar(cifar_files / "data_batch_1.bin")


GOOD = idx(FILES["train-images-idx3-ubyte"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-images-idx3-ubyte", GOOD[:-1], "must hold 256 bytes for shape (12, 5, 4), got 255"),
        ("train-images-idx3-ubyte", GOOD + b"x", "must hold 256 bytes for shape (12, 5, 4), got 257"),
        ("train-images-idx3-ubyte", GOOD[:9], "must hold 16 bytes for shape (12, 0, 0), got 9"),
        ("train-images-idx3-ubyte", b"", "must begin with the IDX magic number 00000803, got nothing"),
        ("train-images-idx3-ubyte", b"\x89PNG" + GOOD[4:], "must begin with the IDX magic number 00000803"),
        ("train-images-idx3-ubyte", idx(FILES["train-images-idx3-ubyte"][0]), "magic number 00000803, got 00000802"),
        ("train-images-idx3-ubyte", bytes([0, 0, 8, 3]) + b"\xff" * 12, "must hold"),
        ("train-images-idx3-ubyte", bytes([0, 0, 8, 3]) + bytes(4) + b"\xff" * 8, "must hold 16 bytes for shape (0, "),
        ("train-images-idx3-ubyte", gzip.compress(GOOD, mtime=0)[:-9], "is truncated or damaged"),
        ("train-images-idx3-ubyte", gzip.compress(GOOD, mtime=0)[:30] + b"\xff" * 40, "is truncated or damaged"),
        ("t10k-labels-idx1-ubyte", GOOD, "must begin with the IDX magic number 00000801, got 00000803"),
        ("t10k-labels-idx1-ubyte", idx(np.arange(6, dtype=np.uint8)), "mnist: 7 test images but 6 labels"),
        ("train-labels-idx1-ubyte", idx(np.arange(12, dtype=np.uint8)), "train labels must lie in 0..9, got 0..11"),
        ("t10k-images-idx3-ubyte", idx(np.zeros((0, 5, 4), np.uint8)), "mnist: 0 test images but 7 labels"),
    ],
)
def test_damaged_files_are_named(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load("mnist", folder)
    assert str(folder / name) in str(caught.value) or str(caught.value).startswith("mnist: ")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(f"{folder} lacks {name}")):
        load("mnist", folder)


def test_a_missing_folder_is_named(folder):
    for path in (folder / "nowhere", folder / "train-images-idx3-ubyte"):
        with pytest.raises(FileNotFoundError, match=re.escape(f"`data_dir` {path} is no folder")):
            load("mnist", path)


def test_an_unknown_set_is_refused():
    with pytest.raises(
        ValueError,
        match=f"`dataset` must be one of {', '.join((*DATASETS, 'folder', *RECORDINGS))}, or an .npz file, got 'cifar'",
    ):
        load("cifar")


def test_read_idx_reads_any_rank(tmp_path):
    array = RNG.integers(0, 256, (2, 3, 1, 4), np.uint8)
    (tmp_path / "any").write_bytes(idx(array))
    np.testing.assert_array_equal(read_idx(tmp_path / "any", 4), array)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder in which tensorflow-datasets has prepared a small set as array_record."""
    script = tmp_path_factory.mktemp("script") / "prepare.py"
    script.write_text(PREPARE)
    folder = tmp_path_factory.mktemp("sets")
    subprocess.run([sys.executable, script, folder], check=True, capture_output=True)
    return folder


def test_prepared_sets_are_read_without_tensorflow(prepared, calls):
    data = load("mnist", prepared)
    assert (data.train_images.shape, data.train_images.dtype) == ((12, 28, 28), np.uint8)
    for images, labels, numbers in (
        (data.train_images, data.train_labels, range(12)),
        (data.test_images, data.test_labels, range(100, 107)),
    ):
        assert sorted(images[:, 0, 0]) == [*numbers]
        assert np.all(images[:, 1, 2] == 255)
        np.testing.assert_array_equal(images[:, 27, 27] % 10, labels)
    assert labels.dtype == np.int32
    assert not calls
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize(
    ("name", "shape", "classes", "bright"),
    [("emnist_letters", (28, 28), 26, (2, 1)), ("cifar10", (32, 32, 3), 10, (1, 2))],
)
def test_prepared_sets_are_set_upright_and_counted_from_0(prepared, calls, name, shape, classes, bright):
    data = load(name, prepared)
    assert (data.train_images.shape, data.train_images.dtype) == ((classes + 2, *shape), np.uint8)
    assert (data.name, data.classes, data.test_labels.dtype) == (name, classes, np.int32)
    for images, labels in ((data.train_images, data.train_labels), (data.test_images, data.test_labels)):
        pixels = images.reshape(*images.shape[:3], -1)
        np.testing.assert_array_equal(pixels[:, 27, 27, 0] % classes, labels)
        np.testing.assert_array_equal(pixels[:, *bright], np.tile(255 - np.arange(pixels.shape[-1]), (len(images), 1)))
    assert not calls
    assert "tensorflow" not in sys.modules


def test_damaged_prepared_sets_are_named(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    (record,) = tmp_path.rglob("mnist-test.array_record*")
    record.write_bytes(record.read_bytes()[:3000])
    with pytest.raises((ValueError, OSError), match=re.escape(str(tmp_path))):
        load("mnist", tmp_path)


def test_a_set_is_taken_from_the_cache_then_as_prepared_by_default(prepared, tmp_path, calls, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    assert find("mnist") == ("tensorflow-datasets", prepared)
    assert find("kmnist") == ("absent", None)
    assert load("mnist").train_images.shape == (12, 28, 28)
    cache = tmp_path / "snnjax" / "data" / "mnist"
    cache.mkdir(parents=True)
    for name, array in FILES.items():
        assert find("mnist").kind == "tensorflow-datasets"
        (cache / name).write_bytes(idx(array))
    assert find("mnist") == ("cache", cache)
    assert load("mnist").train_images.shape == (12, 5, 4)
    assert not calls


def test_a_set_prepared_in_another_version_is_downloaded(prepared, tmp_path, calls, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "sets"))
    shutil.copytree(prepared / "mnist" / "3.0.1", tmp_path / "sets" / "mnist" / "1.0.0")
    with pytest.raises(DownloadError, match="mnist cannot be downloaded"):
        load("mnist")
    assert calls, "the network was asked"
    with pytest.raises(FileNotFoundError, match="nor a set that tensorflow-datasets has prepared"):
        load("mnist", tmp_path / "sets")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist", "train-images-idx3-ubyte"),
        ("emnist_balanced", "emnist-balanced-test-labels-idx1-ubyte"),
        ("cifar10", "data_batch_1.bin"),
    ],
)
def test_nothing_is_downloaded_for_a_folder_that_was_named(tmp_path, calls, monkeypatch, name, file):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # importing it would take seconds
    with pytest.raises(FileNotFoundError, match="nor a set that tensorflow-datasets has prepared") as caught:
        load(name, tmp_path)
    for hint in (str(tmp_path), file, "leave `data_dir` (--data_dir) out, and the set is downloaded"):
        assert hint in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not calls, "the network was asked"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            dict(train_images=np.zeros((3, 4, 4, 1))),
            "must have axes (N H W), (N H W 3) or (N H W 2), got shape (3, 4, 4, 1)",
        ),
        (
            dict(test_images=np.zeros((3, 16))),
            "`test_images` must have axes (N H W), (N H W 3) or (N H W 2), got shape (3, 16)",
        ),
        (
            dict(test_images=np.zeros((3, 4, 4, 3), np.uint8)),
            "small: training images are uint8 of (4, 4), test images uint8 of (4, 4, 3)",
        ),
        (dict(test_labels=np.array([0, 1])), "small: 3 test images but 2 labels"),
        (dict(train_images=np.zeros((0, 4, 4)), train_labels=np.zeros(0, int)), "small: there are no train images"),
        (dict(test_labels=np.array([0, 1, 3])), "small: test labels must lie in 0..2, got 0..3"),
        (dict(train_labels=np.array([-1, 1, 2])), "small: train labels must lie in 0..2, got -1..2"),
        (dict(train_images=np.full((3, 4, 4), np.nan)), "small: train images hold NaN or infinite values"),
        (dict(test_images=np.full((3, 4, 4), -np.inf)), "small: test images hold NaN or infinite values"),
        *(
            (
                dict(train_images=images),
                f"`train_images` must be of 0..255, got values up to {most}: multiply them by 255",
            )
            for images, most in (
                (np.full((3, 4, 4), 1.0), "1.0"),
                (np.full((3, 4, 4), 0.5), "0.5"),
                (np.ones((3, 4, 4), bool), True),
            )
        ),
        (
            dict(test_images=np.ones((3, 4, 4), np.uint8)),
            "`test_images` must be of 0..255, got values up to 1: multiply",
        ),
        (
            dict(test_images=np.zeros((3, 4, 4), np.float64)),
            "small: training images are uint8 of (4, 4), test images float64 of (4, 4)",
        ),
        (dict(train_images=np.full((3, 4, 4), -5.0)), "`train_images` must be of 0..255, got -5.0..0.0"),
        (dict(test_images=np.full((3, 4, 4), 200_000)), "`test_images` must be of 0..255, got 0..200000"),
        (dict(train_labels=np.zeros((3, 2), int)), "`train_labels` must have axes (N), got shape (3, 2)"),
        (dict(train_labels=[0, 1, 2]), "`train_labels` must be an array of axes (N), got list"),
        (dict(test_labels=np.zeros(3)), "`test_labels` must hold integers, got dtype float64"),
        (dict(test_images=None), "`test_images` must be an array, got NoneType"),
        (dict(train_images=np.full((3, 4, 4), "a")), "`train_images` must hold numbers, got dtype <U1"),
        (dict(classes=2.5), "`classes` must be an integer, got 2.5"),
        (dict(classes=0), "`classes` must be at least 1, got 0"),
        (
            dict(train_images=np.ma.zeros((3, 4, 4))),
            "`train_images` must be a plain array, got a masked one: fill it, as by `.filled(0)`",
        ),
        (dict(test_labels=np.ma.arange(3)), "`test_labels` must be a plain array, got a masked one: fill it"),
        *(
            (dict(train_images=np.zeros(shape)), f"`train_images` must have rows and columns, got shape {shape}")
            for shape in ((3, 0, 4), (3, 4, 0), (3, 0, 0, 3))
        ),
        (dict(classes=5), "small: there are no training images of class 3, 4: add some, or number only the classes"),
        (
            dict(train_labels=np.array([1, 1, 1]), class_names=("ant", "bee", "cow")),
            "class 0 (ant), 2 (cow): add some, or number only the classes that there are, by `snnjax.data.relabel(",
        ),
        (
            dict(train_labels=np.array([7, 3, 7]), test_labels=np.array([7, 3, 7]), classes=None),
            "no training images of class 0, 1, 2 and 3 more",
        ),
        (
            dict(train_labels=np.array([0, 1, 2**40]), classes=None),
            "no training images of class 2, 3, 4 and 1,099,511,627,771 more",
        ),
        (dict(test_files=("a.png", "b.png")), "`test_files` must be the file name of each of 3 images, got ('a.png', "),
        (dict(train_files="abc"), "`train_files` must be the file name of each of 3 images, got 'abc'"),
        (dict(validation_files=("a.png",)), "`validation_files` must be the file name of each of 0 images"),
        (dict(train_groups=np.arange(4)), "`train_groups` must have shape (3,) of `train_labels`, got (4,)"),
        (dict(train_groups=["a", "b", "c"]), "`train_groups` must be an array of axes (N), got list"),
    ],
)
def test_sets_that_do_not_fit_together_are_refused(change, message):
    with pytest.raises(InputError, match=re.escape(message)):
        small(**change)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a", "b"), "`class_names` must be one for each of 3 classes, got 2"),
        (("a", "b", "a"), "`class_names` must differ, got 'a' twice"),
        (("a", "b", "c\n"), r"`class_names` must be of printable characters, got 'c\n'"),
        (("a", "b", " "), "`class_names` must be of printable characters, got ' '"),
        (("a", "b", 3), "`class_names` must be of printable characters, got 3"),
        ("abc", "`class_names` must be a tuple of names, got the text 'abc'"),
        (("a", "b", "(silent)"), "`class_names` must not hold '(silent)', which says that a network decides for none"),
        (("caf\u00e9", "b", "cafe\u0301"), "`class_names` must differ, got 'caf\u00e9' twice"),
    ],
)
def test_names_that_do_not_fit_are_refused(names, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        small(class_names=names)


def test_names_stay_with_the_images():
    data = small(class_names=["ant", "bee", "cow"], notes=("one",))
    assert data.names == data.class_names == ("ant", "bee", "cow")
    assert small().names == ("0", "1", "2")
    assert small().class_names == ()
    for other in (data.first(3, 2), data.share(1.0, 0), data.augment(1.0, 0)):
        assert (other.names, other.notes) == (data.names, ("one",))
    assert data.digest == small().digest, "names are no data"


def test_decomposed_names_are_the_composed_ones(tmp_path):
    expected, given = ("caf\u00e9", "b", "c"), ("cafe\u0301", "b", "c")
    assert small(class_names=given).names == expected
    names = np.array([*given[:1], *"bcdefghij"])
    assert load(own(tmp_path / "named.npz", class_names=names)).class_names[0] == expected[0]


def test_the_number_of_classes_follows_from_names_or_labels():
    assert small(classes=None).classes == 3
    assert small(classes=None, class_names=("ant", "bee", "cow")).classes == 3
    two = np.array([0, 1, 1])
    assert small(classes=None, train_labels=two, test_labels=two).classes == 2
    assert small(test_labels=np.array([0, 0, 2])).classes == 3, "test images may lack a class"


@pytest.mark.parametrize(
    ("labels", "expected", "names"),
    [
        ([[7, 3, 7], [3]], [[1, 0, 1], [0]], ("3", "7")),
        ([[-1, 12, 3], [12, -1]], [[0, 2, 1], [2, 0]], ("-1", "3", "12")),
        ([["dog", "cat 10", "cat 2"]], [[2, 1, 0]], ("cat 2", "cat 10", "dog")),
    ],
)
def test_labels_are_numbered_without_gaps(labels, expected, names):
    numbers, found = relabel(*map(np.array, labels))
    assert found == names
    assert [each.tolist() for each in numbers] == expected
    assert {each.dtype for each in numbers} == {np.dtype(np.int32)}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (([0, 1], [1, 5, 7]), "`labels` of training must have all classes, they lack 5, 7"),
        (([0.5],), "`labels` must be \\(N,\\) integers or text, got \\[0.5\\] of float64"),
        (([0, 1], ["0"]), "`labels` must all be integers, or all text, got both"),
        ((), "`labels` must be of at least one image, got none"),
    ],
)
def test_labels_that_cannot_be_numbered_are_refused(labels, message):
    with pytest.raises(InputError, match=message):
        relabel(*labels)


def test_arrays_of_the_other_byte_order_are_the_same_data():
    images, labels = RNG.integers(0, 256, (3, 4, 4)).astype(np.float32), np.array([2, 0, 1], np.int32)
    parts = dict(train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    swapped = {name: array.astype(array.dtype.newbyteorder(">")) for name, array in parts.items()}
    data = small(**swapped)
    assert data.digest == small(**parts).digest
    assert all(getattr(data, name).dtype.isnative for name in parts)


def test_a_set_is_shown_in_one_line():
    assert repr(small()) == "Dataset(small: 3 training and 3 test images of 4x4, 3 classes)"
    images = np.zeros((3, 5, 4, 3), np.uint8)
    assert "3 test images of 5x4x3, 3 classes" in repr(small(train_images=images, test_images=images))


def test_first():
    whole = digits()
    data = whole.first(40, None, in_order=True)
    assert (len(data.train_images), len(data.train_labels), len(data.test_labels)) == (40, 40, 360)
    np.testing.assert_array_equal(data.train_images, whole.train_images[:40])
    assert whole.first(2000, 2000).digest == whole.digest


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ((-1, None), "`train_images` must be at least 1, got -1"),
        ((3, 1.5), "`test_images` must be an integer, got 1.5"),
        ((2, None), "`train_images` must be at least 3, one of each class of small, got 2"),
    ],
)
def test_a_wrong_number_of_first_images_is_refused(counts, message):
    with pytest.raises(InputError, match=message):
        small().first(*counts)


def sorted_set() -> Dataset:
    """Images of class 0, then of class 1, then of class 2, with the names of their files; five are a group."""
    labels = np.repeat(np.arange(3), (60, 30, 10))
    images = np.arange(2, 102, dtype=np.uint8).repeat(4).reshape(100, 2, 2)
    files = tuple(f"{number}.png" for number in range(100))
    return Dataset(
        "sorted", images, labels, images, labels, train_files=files, test_files=files, train_groups=np.arange(100) // 5
    )


def test_fewer_images_are_of_all_classes_alike():
    data = sorted_set().first(10, 5)
    assert data.train_labels.tolist() == [0] * 6 + [1] * 3 + [2]
    assert data.train_images[:, 0, 0].tolist() == [2, 3, 4, 5, 6, 7, 62, 63, 64, 92], "the first ones, in order"
    assert data.test_labels.tolist() == [0, 0, 0, 1, 2]
    assert np.bincount(sorted_set().first(3, 2).train_labels).tolist() == [1, 1, 1]
    assert sorted_set().first(3, 2).test_labels.tolist() == [0, 1]
    with pytest.raises(InputError, match="no training images of class 1, 2: add some"):
        sorted_set().first(10, None, in_order=True)


def test_fewer_images_are_drawn_by_a_seed():
    drawn, again, other = (sorted_set().first(20, 20, seed=seed) for seed in (0, 0, 2**64 - 1))
    assert drawn.digest == again.digest != other.digest
    assert np.bincount(drawn.train_labels).tolist() == np.bincount(drawn.test_labels).tolist() == [12, 6, 2]
    assert np.all(np.diff(drawn.train_images[:, 0, 0].astype(int)) > 0), "in their order, none twice"
    assert drawn.train_images.tolist() != sorted_set().first(20, None).train_images.tolist()
    assert drawn.train_images.tolist() != drawn.test_images.tolist()
    with pytest.raises(InputError, match="`seed` must be at least 0, got -1"):
        sorted_set().first(20, None, seed=-1)


def test_a_share_has_all_classes():
    for seed in range(5):
        assert np.bincount(sorted_set().share(0.1, seed).train_labels).tolist() == [6, 3, 1]
    with pytest.raises(InputError, match=r"`ratio` must leave each of 3 classes a training image, got 0\.02 of 100"):
        sorted_set().share(0.02, 0)
    assert len(sorted_set().augment(0.02, 0).train_labels) == 102, "of the copies, a class may have none"


def test_names_of_files_stay_with_their_images(tmp_path):
    whole = sorted_set()
    held = whole.hold_out(0.2, 0)
    sets = [whole.first(20, 30), whole.first(20, 30, seed=1), whole.share(0.3, 0), held, whole.augment(0.5, 0)]
    held.save(tmp_path / "held.npz")
    for data in (*sets, load(tmp_path / "held.npz")):
        for part in ("train", "test", "validation"):
            files, images = getattr(data, f"{part}_files"), getattr(data, f"{part}_images")
            assert (files is None) == (images is None)
            if files is not None:
                copies = data is sets[-1]
                named = [int(name.removesuffix(".png")) for name in files]
                same = images[:, 0, 0] == np.add(named, 2)
                assert same.sum() >= 100 if copies else same.all()
                if part == "train":
                    np.testing.assert_array_equal(data.train_groups, np.floor_divide(named, 5))
    assert whole.digest == small(**{n: getattr(whole, n) for n in FIELDS}).digest, "names of files are no data"


FIELDS = ("train_images", "train_labels", "test_images", "test_labels")


def test_a_share_is_drawn_with_the_seed():
    whole = digits()
    half, again, other = whole.share(0.5, 0), whole.share(0.5, 0), whole.share(0.5, 1)
    np.testing.assert_array_equal(half.train_images, again.train_images)
    assert np.any(half.train_images != other.train_images)
    places = [np.flatnonzero((whole.train_images == image).all(axis=(1, 2)))[0] for image in half.train_images]
    assert len(places) == 718
    assert np.all(np.diff(places) > 0), "in their order, none twice"
    np.testing.assert_array_equal(half.train_labels, whole.train_labels[places])
    np.testing.assert_array_equal(half.test_images, whole.test_images)
    assert whole.share(1, 0) is whole


@pytest.mark.parametrize("ratio", [0, -0.1, 1.01, float("nan"), 1e-6])
def test_a_share_of_nothing_is_refused(ratio):
    with pytest.raises(ValueError, match="`ratio`"):
        digits().share(ratio, 0)


def test_the_digest_tells_data_apart():
    data = small()
    assert data.digest == small().digest
    images, labels = data.train_images.copy(), data.train_labels[::-1]
    images[1, 2, 3] = 9
    others = [small(train_images=images), small(test_images=images), small(train_labels=labels), data.first(None, 2)]
    assert len({data.digest, *(other.digest for other in others)}) == 5
    assert re.fullmatch("[0-9a-f]{12}", data.digest)


def test_grey_and_colour_have_encoders_of_their_own():
    assert (digits().encoder, digits().input_shape) == (GREY, (6, 28, 28))
    images = np.zeros((3, 20, 16, 3), np.uint8)
    colour = small(train_images=images, test_images=images)
    assert (colour.encoder, colour.input_shape) == (COLOUR, (18, 22, 18))


@pytest.mark.parametrize("planes", [(), (3,)])
def test_copies_are_rotated_and_mirrored(planes):
    images = RNG.integers(0, 256, (60, 28, 28, *planes), np.uint8)
    labels = np.arange(60)
    data = small(train_images=images, train_labels=labels, test_images=images, test_labels=labels, classes=60)
    both = data.augment(1.0, seed=0)
    assert (both.train_images.shape, both.train_images.dtype) == ((120, *images.shape[1:]), np.uint8)
    np.testing.assert_array_equal(np.bincount(both.train_labels), np.full(60, 2))
    np.testing.assert_array_equal(both.test_images, images)
    alterations = {
        (angle, flip): [np.flip(Image.fromarray(image).rotate(angle), flip) for image in images]
        for angle in sorted(range(-30, 31), key=abs)
        for flip in [(), (0,), (1,), (0, 1)]
    }
    found = []
    for image, label in zip(both.train_images, both.train_labels, strict=True):
        apart = {alteration: np.mean(altered[label] != image) for alteration, altered in alterations.items()}
        found.append(min(apart, key=lambda alteration: apart[alteration]))
        assert apart[found[-1]] < 0.4, "no rotation within 30 degrees comes close"
    angles, flips = zip(*found, strict=True)
    assert 60 <= found.count((0, ())) <= 66, "one of each image is as it was, and a small angle may change nothing"
    assert 20 <= found[:60].count((0, ())) <= 45, "originals and copies are mixed"
    assert (min(angles) < -25, max(angles) > 25) == (True, True)
    assert min(flips.count(flip) - 60 * (flip == ()) for flip in set(flips)) >= 7, "a quarter each"
    assert len(set(flips)) == 4


def test_the_angles_are_drawn_apart_from_what_is_copied(monkeypatch):
    """The numbers that say which images are copied do not say by how much they are rotated."""
    angles, rotate = [], scipy.ndimage.rotate
    monkeypatch.setattr(
        scipy.ndimage, "rotate", lambda image, angle, **how: (angles.append(angle), rotate(image, angle, **how))[1]
    )
    for seed in range(3):
        digits().first(40, 1).augment(0.5, seed)
        assert not np.isin(angles, np.random.default_rng(seed).uniform(-30, 30, 1000)).any()
    assert len(angles) == len(set(angles)) == 60


def test_copies_are_drawn_with_the_seed():
    data = digits().first(100, 10)
    assert data.augment(0.5, 0).digest == data.augment(0.5, 0).digest
    assert data.augment(0.5, 0).digest != data.augment(0.5, 1).digest
    some = data.augment(0.25, 0)
    assert len(some.train_images) == 125
    assert some.train_images.dtype == np.float32
    originals = [(some.train_images == image).all(axis=(1, 2)).any() for image in data.train_images]
    assert all(originals), "no original is left out"
    with pytest.raises(ValueError, match="`ratio`"):
        data.augment(0, 0)


OWN = Dataset("mine", *FILES.values())


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("planes", [(), (3,)])
def test_a_set_of_ones_own_is_saved_and_loaded(tmp_path, kind, planes):
    """The very same images and labels, so that their digest is the same."""
    images = [RNG.integers(0, 256, (count, 5, 4, *planes)).astype(kind) for count in (20, 7)]
    labels = [np.arange(len(each), dtype=np.int32) for each in images]
    names = tuple(f"{number}. é" for number in range(20)) if planes else ()
    saved = Dataset("mine", images[0], labels[0], images[1], labels[1], 20, class_names=names)
    saved.save(tmp_path / "mine.npz")
    loaded = load(str(tmp_path / "mine.npz"))
    assert (loaded.name, loaded.classes, loaded.digest, loaded.class_names) == ("mine", 20, saved.digest, names)
    assert loaded.train_images.dtype == kind
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(saved, name))


def test_a_file_is_named_by_its_path(tmp_path):
    OWN.save(tmp_path / "mine.npz")
    assert load(tmp_path / "mine.npz").train_digest == OWN.train_digest


def own(path, **changes) -> str:
    """A file of one's own set, some arrays changed or, if None, left out."""
    parts = ("train_images", "train_labels", "test_images", "test_labels")
    arrays = {name: getattr(OWN, name) for name in parts}
    arrays = {name: x for name, x in (arrays | changes).items() if x is not None}
    np.savez_compressed(path, **arrays)
    return str(path)


def test_own_files_of_other_programs_are_read(tmp_path):
    """Compressed, of other numbers, without the number of classes."""
    wide = dict(train_images=OWN.train_images.astype(float), test_images=OWN.test_images.astype(np.int64))
    loaded = load(own(tmp_path / "theirs.npz", **wide, train_labels=OWN.train_labels.astype(np.int64)))
    assert (loaded.classes, loaded.train_labels.dtype) == (OWN.train_labels.max() + 1, np.int32)
    assert (loaded.train_images.dtype, loaded.test_images.dtype) == (np.float32, np.float32)
    np.testing.assert_array_equal(loaded.test_images, OWN.test_images)
    swapped = {
        name: getattr(OWN, name).astype(kind) for name, kind in (("train_images", ">f4"), ("test_labels", ">i8"))
    }
    other = load(own(tmp_path / "swapped.npz", **swapped, test_images=OWN.test_images.astype(">f8")))
    assert (other.train_images.dtype, other.test_images.dtype) == (np.float32, np.float32)
    assert load(own(tmp_path / "more.npz", classes=np.array(10))).classes == 10
    named = load(own(tmp_path / "named.npz", class_names=np.array([*"abcdefghij"])))
    assert (named.classes, named.names) == (10, tuple("abcdefghij"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            dict(test_labels=None),
            "must hold train_images, train_labels, test_images, test_labels, it lacks test_labels",
        ),
        (
            dict(train_images=np.zeros((12, 20))),
            r"`train_images` must have axes .*, got shape \(12, 20\)",
        ),
        (dict(train_images=np.full((12, 5, 4), "a")), "`train_images` must hold numbers, got dtype <U1"),
        (dict(test_labels=np.zeros(7)), "`test_labels` must hold integers, got dtype float64"),
        (dict(test_labels=np.int32(7)), r"`test_labels` must have axes \(N\), got shape \(\)"),
        (dict(test_labels=np.zeros(6, int)), "theirs: 7 test images but 6 labels"),
        (dict(classes=np.array(3)), r"train labels must lie in 0\.\.2, got 0\.\.9"),
        (dict(classes=np.array(2.5)), "`classes` must be an integer, got 2.5"),
        (dict(classes=np.zeros(2, int)), r"`classes` must be an integer, got \[0, 0\]"),
        (dict(class_names=np.arange(12)), "`class_names` must be of printable characters, got 0"),
        (dict(class_names=np.array([["a"]])), r"`class_names` must be of printable characters, got \['a'\]"),
        (dict(class_names=np.array([*"aa"] * 6)), "`class_names` must differ, got 'a' twice"),
        (dict(class_names=np.array(["a", "b"]), classes=np.array(12)), "`class_names` must be one for each of 12 clas"),
        (dict(train_images=np.full((12, 5, 4), np.nan)), "train images hold NaN"),
        (
            dict(train_labels=np.repeat([3, 7], 6)),
            "no training images of class 0, 1, 2 and 3 more: add some, or number",
        ),
        (dict(train_labels=np.arange(12) + 2**32), "no training images of class 0, 1, 2 and 4,294,967,293 more"),
        (dict(train_images=np.zeros((12, 5, 0))), r"`train_images` must have rows and columns, got shape \(12, 5, 0\)"),
        (dict(train_files=np.arange(12)), "`train_files` must be the file name of each of 12 images"),
        (dict(test_files=np.array(["a"])), "`test_files` must be the file name of each of 7 images"),
        (dict(train_groups=np.zeros(12)), "`train_groups` must hold integers, got dtype float64"),
        (dict(train_labels=np.array([{}] * 12)), "is damaged or no .npz file: Object arrays cannot be loaded"),
    ],
)
def test_bad_files_of_ones_own_are_named(tmp_path, changes, message):
    path = own(tmp_path / "theirs.npz", **changes)
    with pytest.raises(ValueError, match=rf"theirs\.npz.*{message}"):
        load(path)


def test_damaged_files_of_ones_own_are_named(tmp_path):
    whole = pathlib.Path(own(tmp_path / "whole.npz")).read_bytes()
    for content in (b"", b"data", *(whole[:length] for length in range(10, len(whole), len(whole) // 10))):
        (tmp_path / "mine.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"mine\.npz is damaged or no \.npz file: \w+"):
            load(str(tmp_path / "mine.npz"))


def test_a_file_that_unpacks_to_too_much_is_not_unpacked(tmp_path, monkeypatch):
    path = own(tmp_path / "bomb.npz", train_images=np.zeros((12, 500, 500), np.uint8))
    monkeypatch.setattr("snnjax.data.readers.MOST_BYTES", 1_000_000)
    with pytest.raises(ValueError, match=r"bomb\.npz is damaged .*: it holds \d+ bytes, at most 1000000 are read"):
        load(path)


def test_files_of_ones_own_that_are_not_there_or_not_meant(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file none\.npz"):
        load("none.npz")
    with pytest.raises(ValueError, match=r"`data_dir` has no effect on .*mine\.npz: for your own pictures, `dataset`"):
        load(own(tmp_path / "mine.npz"), tmp_path)
    with pytest.raises(ValueError, match=r"`path` must end in \.npz, got .*mine"):
        OWN.save(tmp_path / "mine")
    with pytest.raises(TypeError, match=r"`dataset` must be a name, or the path of an \.npz file, got None"):
        load(None)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.npz"]
