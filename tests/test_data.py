"""Data sets: scikit-learn's digits, IDX files, and what tensorflow-datasets has prepared."""

import gzip
import re
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest

from snnjax.data import Dataset, digits, idx_folder, load, read_idx

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

    def _info(self):
        features = dict(image=tfds.features.Image(shape=(28, 28, 1)), label=tfds.features.ClassLabel(num_classes=10))
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return dict(train=self._generate_examples(range(12)), test=self._generate_examples(range(100, 107)))

    def _generate_examples(self, numbers):
        for number in numbers:
            png = io.BytesIO()  # as bytes, since arrays would need TensorFlow
            Image.fromarray(np.full((28, 28), number, np.uint8)).save(png, "png")
            png.seek(0)
            yield number, dict(image=png, label=number % 10)

Mnist(data_dir=sys.argv[1], file_format="array_record").download_and_prepare()
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
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    data = load("mnist", folder)
    read = (data.train_images, data.train_labels, data.test_images, data.test_labels)
    for array, expected in zip(read, FILES.values(), strict=True):
        np.testing.assert_array_equal(array, expected)
    assert (data.train_images.dtype, data.train_labels.dtype) == (np.uint8, np.int32)
    assert (data.name, data.classes) == ("mnist", 10)


GOOD = idx(FILES["train-images-idx3-ubyte"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-images-idx3-ubyte", GOOD[:-1], "must hold 256 bytes for shape (12, 5, 4), got 255"),
        ("train-images-idx3-ubyte", GOOD + b"x", "must hold 256 bytes for shape (12, 5, 4), got 257"),
        ("train-images-idx3-ubyte", GOOD[:9], "is truncated"),
        ("train-images-idx3-ubyte", b"", "must begin with the IDX magic number 00000803, got nothing"),
        ("train-images-idx3-ubyte", b"\x89PNG" + GOOD[4:], "must begin with the IDX magic number 00000803"),
        ("train-images-idx3-ubyte", idx(FILES["train-images-idx3-ubyte"][0]), "magic number 00000803, got 00000802"),
        ("train-images-idx3-ubyte", bytes([0, 0, 8, 3]) + b"\xff" * 12, "must hold"),
        ("train-images-idx3-ubyte", gzip.compress(GOOD)[:-9], "is truncated or damaged"),
        ("train-images-idx3-ubyte", gzip.compress(GOOD)[:30] + b"\xff" * 40, "is truncated or damaged"),
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
    with pytest.raises(FileNotFoundError, match=name) as caught:
        load("mnist", folder)
    assert str(folder) in str(caught.value)
    with pytest.raises(FileNotFoundError, match=f"lacks {name}"):
        idx_folder("mnist", folder)


def test_a_missing_folder_is_named(folder):
    for path in (folder / "nowhere", folder / "train-images-idx3-ubyte"):
        with pytest.raises(FileNotFoundError, match=re.escape(f"`data_dir` {path} is no folder")):
            load("mnist", path)


def test_an_unknown_set_is_refused():
    with pytest.raises(ValueError, match="`dataset` must be one of digits, mnist, got 'cifar'"):
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
        np.testing.assert_array_equal(images[:, 27, 27] % 10, labels)
    assert labels.dtype == np.int32
    assert not calls
    assert "tensorflow" not in sys.modules


def test_damaged_prepared_sets_are_named(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    (record,) = tmp_path.rglob("mnist-test.array_record*")
    record.write_bytes(record.read_bytes()[:3000])
    with pytest.raises((ValueError, OSError), match=re.escape(str(tmp_path))):
        load("mnist", tmp_path)


def test_what_is_not_prepared_is_not_downloaded(tmp_path, calls):
    with pytest.raises(FileNotFoundError, match="nor a set that tensorflow-datasets has prepared") as caught:
        load("mnist", tmp_path)
    for hint in (str(tmp_path), "train-images-idx3-ubyte", "--data_dir", "download_and_prepare"):
        assert hint in str(caught.value)
    assert not calls, "the network was asked"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(train_images=np.zeros((3, 4, 4, 1))), "`train_images` must have axes (N H W), got shape (3, 4, 4, 1)"),
        (dict(test_labels=np.array([0, 1])), "small: 3 test images but 2 labels"),
        (dict(train_images=np.zeros((0, 4, 4)), train_labels=np.array([])), "small: there are no train images"),
        (dict(test_labels=np.array([0, 1, 3])), "small: test labels must lie in 0..2, got 0..3"),
        (dict(train_labels=np.array([-1, 1, 2])), "small: train labels must lie in 0..2, got -1..2"),
        (dict(train_images=np.full((3, 4, 4), np.nan)), "small: train images hold NaN or infinite values"),
        (dict(test_images=np.full((3, 4, 4), -np.inf)), "small: test images hold NaN or infinite values"),
    ],
)
def test_sets_that_do_not_fit_together_are_refused(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        small(**change)


def test_first():
    data = digits().first(5, None)
    assert (len(data.train_images), len(data.train_labels), len(data.test_labels)) == (5, 5, 360)
    np.testing.assert_array_equal(data.train_images, digits().train_images[:5])


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
