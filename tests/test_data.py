"""Data sets: scikit-learn's digits, IDX and CIFAR files, .npz files, and what tensorflow-datasets has prepared."""

import dataclasses
import gzip
import io
import re
import shutil
import socket
import sys
from unittest import mock

import numpy as np
import pytest
import scipy.ndimage
from made_files import CIFAR, EMNIST, FILES, RNG, UPRIGHT, brightness, idx, png
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from snnjax.core.errors import InputError, MissingPackageError
from snnjax.data import DATASETS, RECORDINGS, Dataset, digits, find, load, readers, relabel
from snnjax.data.pictures import enlarged, is_small
from snnjax.encoding import COLOUR, GREY

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def assert_arrays(data: Dataset, expected) -> None:
    """The four arrays are these, images of uint8 and labels of int32."""
    for name, array in zip(ARRAYS, expected, strict=True):
        np.testing.assert_array_equal(getattr(data, name), array, err_msg=name)
        assert getattr(data, name).dtype == (np.int32 if "labels" in name else np.uint8), name


def small(**change) -> Dataset:
    images = np.zeros((3, 4, 4), np.uint8)
    labels = np.array([0, 1, 2])
    parts = dict(train_images=images, train_labels=labels, test_images=images, test_labels=labels, classes=3)
    return Dataset("small", **parts | change)


@pytest.fixture
def folder(tmp_path):
    """A folder of plain IDX files, EMNIST's among them, and those of CIFAR-10's binary version."""
    contents = {name: idx(array) for name, array in FILES.items()} | {name: raw for name, (raw, *_) in CIFAR.items()}
    for name, content in (contents | EMNIST).items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.fixture
def network(monkeypatch) -> mock.Mock:
    """It does not answer."""
    network = mock.Mock(side_effect=OSError("no network"))
    monkeypatch.setattr(socket, "getaddrinfo", network)
    return network


def test_digits():
    raw = load_digits()
    numbers = np.arange(len(raw.target))
    train, test = train_test_split(numbers, test_size=0.2, random_state=0, stratify=raw.target)
    images = enlarged(raw.images * (255 / 16))
    data = digits()
    np.testing.assert_array_equal(data.train_images, images[train])
    np.testing.assert_array_equal(data.test_images, images[test])
    np.testing.assert_array_equal(data.train_labels, raw.target[train])
    np.testing.assert_array_equal(data.test_labels, raw.target[test])
    assert (data.train_images.dtype, data.encoder, data.input_shape) == (np.float32, GREY, (6, 28, 28))
    images = np.concatenate([data.train_images, data.test_images])
    assert (images.min(), images.max()) == (0, 255)
    assert not images[:, [0, 1, -2, -1]].any(), "two blank rows above and below"
    np.testing.assert_allclose(np.bincount(data.train_labels) / 4, np.bincount(data.test_labels), atol=1.1)
    assert data.test_labels[:12].tolist() == [7, 6, 3, 7, 7, 3, 2, 8, 9, 3, 2, 6], "always the same split"


def test_own_files_are_read_plain_and_gzipped(folder):
    for name, named in (("mnist", "8"), ("fashion_mnist", "bag"), ("kmnist", "re")):
        data = load(name, str(folder))
        assert_arrays(data, FILES.values())
        assert (data.name, data.classes, data.names[8]) == (name, 10, named)
    for file in (*FILES, "data_batch_4.bin"):
        (folder / f"{file.replace('-idx', '.idx')}.gz").write_bytes(gzip.compress((folder / file).read_bytes()))
        (folder / file).unlink()
    assert_arrays(load("mnist", folder), FILES.values())
    data = load("cifar10", folder)
    *train, test = [arrays for _, *arrays in CIFAR.values()]
    assert_arrays(data, (*(np.concatenate(parts) for parts in zip(*train, strict=True)), *test))
    assert (data.encoder, data.input_shape, data.classes, data.names[3]) == (COLOUR, (18, 34, 34), 10, "cat")
    (folder / "t10k-images.idx3-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(f"{folder} lacks t10k-images-idx3-ubyte")):
        load("mnist", folder)


@pytest.mark.parametrize(("split", "ends"), [("digits", "09"), ("letters", "AZ"), ("balanced", "0t")])
def test_emnist_is_set_upright_and_counted_from_0(folder, split, ends):
    data, images = load(f"emnist_{split}", folder), UPRIGHT[split]
    labels = np.arange(len(images), dtype=np.uint8)
    assert_arrays(data, (images, labels, images, labels))
    assert (data.classes, data.names[0], data.names[-1], len(data.names)) == (len(images), *ends, len(images))
    if split == "letters":
        (folder / "emnist-letters-test-labels-idx1-ubyte").write_bytes(idx(labels))
        with pytest.raises(InputError, match=r"`test_labels` of emnist_letters must lie in 0\.\.25, got -1\.\.24"):
            load("emnist_letters", folder)


def test_damaged_files_are_named(folder, monkeypatch):
    monkeypatch.setattr(readers, "MOST_BYTES", 90_000)
    good = idx(FILES["train-images-idx3-ubyte"])
    for file, content, message in (
        ("train-images-idx3-ubyte", good[:-1], "must hold 256 bytes for shape (12, 5, 4), got 255"),
        ("train-images-idx3-ubyte", gzip.compress(good)[:-9], "is truncated or damaged"),
        (
            "train-images-idx3-ubyte",
            gzip.compress(bytes(90_001)),
            "holds 90001 bytes when decompressed, but at most 90000 are read",
        ),
        ("train-labels-idx1-ubyte", good, "must begin with the IDX magic number 00000801, got 00000803"),
        ("data_batch_1.bin", CIFAR["test_batch.bin"][0][:-1], "must hold 3073 bytes for each image, got 9218"),
    ):
        before = (folder / file).read_bytes()
        (folder / file).write_bytes(content)
        with pytest.raises(InputError, match=re.escape(f"{folder / file} {message}")):
            load("mnist" if "ubyte" in file else "cifar10", folder)
        (folder / file).write_bytes(before)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder in which tensorflow-datasets has prepared a small set as array_record."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered

    with registered.skip_registration():

        class Mnist(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("3.0.1")

            def _info(self):
                features = dict(
                    image=tfds.features.Image(shape=(28, 28, 1)), label=tfds.features.ClassLabel(num_classes=10)
                )
                return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

            def _split_generators(self, _):
                return dict(train=self._generate_examples(range(12)), test=self._generate_examples(range(100, 107)))

            def _generate_examples(self, numbers):
                for number in numbers:  # arrays would need TensorFlow
                    yield number, dict(image=io.BytesIO(png(number, (28, 28))), label=number % 10)

    folder = tmp_path_factory.mktemp("sets")
    Mnist(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


def test_a_set_is_taken_from_the_cache_then_as_prepared_without_tensorflow(prepared, tmp_path, network, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    data = load("mnist")
    assert (data.train_images.shape, data.train_images.dtype) == ((12, 28, 28), np.uint8)
    assert sorted(brightness(data.train_images)) == [*range(12)]
    assert sorted(brightness(data.test_images)) == [*range(100, 107)]
    np.testing.assert_array_equal(data.train_images[:, 27, 27] % 10, data.train_labels)
    np.testing.assert_array_equal(data.test_images[:, 27, 27] % 10, data.test_labels)
    assert "tensorflow" not in sys.modules
    cache = tmp_path / "snnjax" / "data" / "mnist"
    for name, array in FILES.items():
        assert find("mnist") == ("tensorflow-datasets", prepared)
        cache.mkdir(parents=True, exist_ok=True)
        (cache / name).write_bytes(idx(array))
    assert find("mnist") == ("cache", cache)
    assert load("mnist").train_images.shape == (12, 5, 4)
    assert not network.called, "the network was asked"


def test_prepared_sets_that_cannot_be_read_are_named(prepared, tmp_path):
    shutil.copytree(prepared / "mnist" / "3.0.1", tmp_path / "mnist" / "1.0.0")  # another version
    with pytest.raises(FileNotFoundError, match="nor a set that tensorflow-datasets has prepared"):
        load("mnist", tmp_path)
    (tmp_path / "mnist" / "1.0.0").rename(tmp_path / "mnist" / "3.0.1")
    (record,) = tmp_path.rglob("mnist-test.array_record*")
    record.write_bytes(record.read_bytes()[: record.stat().st_size // 2])
    with pytest.raises((ValueError, OSError), match=re.escape(str(tmp_path))):
        load("mnist", tmp_path)


def test_prepared_sets_need_an_extra(prepared, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(MissingPackageError, match=r"mnist .* needs .* pip install 'snnjax\[datasets\]'"):
        load("mnist", prepared)


def test_nothing_is_downloaded_for_a_folder_that_was_named(tmp_path, network, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # importing it would take seconds
    with pytest.raises(FileNotFoundError, match=f"{tmp_path} .* nor a set .* prepared .*emnist-balanced-test-labels"):
        load("emnist_balanced", tmp_path)
    with pytest.raises(FileNotFoundError, match=re.escape(f"`data_dir` {tmp_path / 'nowhere'} is not a folder")):
        load("mnist", tmp_path / "nowhere")
    assert not network.called, "the network was asked"
    assert not list(tmp_path.iterdir())
    known = ", ".join((*DATASETS, "folder", *RECORDINGS))
    with pytest.raises(InputError, match=f"`dataset` must be one of {known}, or an .npz file, got 'cifar'"):
        load("cifar")


ZERO = np.zeros((3, 4, 4))
NAMED = ("ant", "bee", "cow")
WRONG = {
    "four axes": (dict(train_images=ZERO[..., None]), "`train_images` must have axes (N H W), ", "(3, 4, 4, 1)"),
    "colour and grey": (dict(test_images=np.zeros((3, 4, 4, 3), np.uint8)), "uint8 of (4, 4), test", "of (4, 4, 3)"),
    "two labels": (
        dict(test_labels=np.array([0, 1])),
        "`test_labels` must have one value for each of 3 images of small, got 2",
    ),
    "label 3": (dict(test_labels=np.array([0, 1, 3])), "`test_labels` of small must lie in 0..2, got 0..3"),
    "infinite": (dict(train_images=np.where(np.eye(4), np.inf, ZERO)), "`train_images` must be finite, got inf"),
    "of 0..1": (dict(train_images=ZERO + 1), "`train_images` must hold values in 0..255", "in 1..1: multiply"),
    "below 0": (dict(train_images=ZERO - 5), "`train_images` must hold values in 0..255, got values in -5..-5"),
    "above 255": (dict(test_images=np.full((3, 4, 4), 256)), "`test_images` must hold values", "values in 256..256"),
    "float labels": (dict(test_labels=np.zeros(3)), "`test_labels` must hold integers, got dtype float64"),
    "no rows": (dict(train_images=ZERO[:, :0]), "`train_images` must not be empty", "(3, 0, 4)"),
    "classes without images": (dict(classes=5), "small: there are no training images of class 3, 4: add some"),
    "named ones": (dict(train_labels=np.array([1, 1, 1]), class_names=NAMED), "class 0 (ant), 2 (cow): add"),
    "a huge gap": (dict(train_labels=np.array([0, 1, 2**40]), classes=None), "2, 3, 4 and 1,099,511,627,771 more"),
    "a text as files": (dict(train_files="abc"), "`train_files` must be the file name of each of 3", "got 'abc'"),
    "files of nothing": (dict(validation_files=("a",)), "`validation_files` must be the file name of each of 0 images"),
    "four groups": (dict(train_groups=np.arange(4)), "`train_groups` must have shape (3,)", "got (4,)"),
    "groups without names": (
        dict(train_groups=np.arange(3), group_names=("a", "b")),
        "`train_groups` must lie in 0..1",
        "got 0..2",
    ),
    "two names": (dict(class_names=("a", "b")), "`class_names` must have one value for each of 3 classes, got 2"),
    "blank name": (dict(class_names=("a", "b", " ")), "`class_names` must be of printable characters, got ' '"),
    "silent": (dict(class_names=("a", "b", "(silent)")), "`class_names` must not hold '(silent)'"),
    "equal when composed": (dict(class_names=("caf\u00e9", "b", "cafe\u0301")), "`class_names` must differ", "twice"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_sets_that_do_not_fit_together_are_refused(kind):
    change, *words = WRONG[kind]
    with pytest.raises(InputError, match=".*".join(map(re.escape, words))):
        small(**change)


def test_integer_images_become_bytes():
    """Networks take no other integers, since these may be of any range."""
    data = small(train_images=np.full((3, 4, 4), 200), test_images=np.full((3, 4, 4), 255, ">u2"))
    assert (data.train_images.dtype, data.test_images.dtype, data.test_images.max()) == (np.uint8, np.uint8, 255)


def test_labels_are_numbered_without_gaps():
    for labels, expected, names in (
        ([[7, 3, 7], [3]], [[1, 0, 1], [0]], ("3", "7")),
        ([[-1, 12, 3], [12, -1]], [[0, 2, 1], [2, 0]], ("-1", "3", "12")),
        ([["dog", "cat 10", "cat 2"]], [[2, 1, 0]], ("cat 2", "cat 10", "dog")),
    ):
        numbers, found = relabel(*map(np.array, labels))
        assert ([each.tolist() for each in numbers], found) == (expected, names)
        assert {each.dtype for each in numbers} == {np.dtype(np.int32)}
    for labels, error, message in (
        (([0, 1], [1, 5, 7]), ValueError, "`labels` of training must have all classes, they lack 5, 7"),
        (([0.5],), TypeError, r"`labels` must be \(N,\) integers or text, got \[0.5\] of float64"),
        (([0, 1], ["0"]), TypeError, "`labels` must all be integers, or all text, got both"),
        ((), ValueError, "`labels` must be of at least one image, got none"),
    ):
        with pytest.raises(error, match=message):
            relabel(*labels)


def test_the_digest_tells_data_apart():
    data = small()
    images = data.train_images.copy()
    images[1, 2, 3] = 9
    others = [small(train_images=images), small(test_images=images), data.subset(None, 2)]
    others += [small(train_labels=data.train_labels[::-1]), small(test_labels=data.train_labels[::-1])]
    assert len({data.digest, *(other.digest for other in others)}) == 6
    swapped = {name: getattr(data, name).astype(getattr(data, name).dtype.newbyteorder(">")) for name in ARRAYS}
    assert small(**swapped).digest == data.digest, "of the other byte order"


def test_names_of_classes_and_notes_stay_with_the_images():
    data = small(classes=None, class_names=NAMED, notes=("one",))
    assert data.digest == small().digest
    for other in (data, data.subset(3, 2), data.share(1.0, 0), data.augment(1.0, 0)):
        assert other.names == other.class_names == NAMED
        assert other.notes == ("one",)
    assert small(test_labels=np.array([0, 0, 2])).classes == 3, "test images may lack a class"


def sorted_set() -> Dataset:
    """Images of class 0, then of class 1, then of class 2, with the names of their files; five are a group."""
    labels = np.repeat(np.arange(3), (60, 30, 10))
    images = np.arange(2, 102, dtype=np.uint8).repeat(4).reshape(100, 2, 2)
    files = tuple(f"{number}.png" for number in range(100))
    groups = np.arange(100) // 5
    return Dataset("sorted", images, labels, images, labels, train_files=files, test_files=files, train_groups=groups)


def test_fewer_images_are_of_all_classes_alike():
    """The first ones, or some that are drawn by a seed."""
    whole = sorted_set()
    data = whole.subset(10, 5)
    assert brightness(data.train_images) == [2, 3, 4, 5, 6, 7, 62, 63, 64, 92], "the first ones, in order"
    assert data.train_labels.tolist() == [0] * 6 + [1] * 3 + [2]
    assert data.test_labels.tolist() == [0, 0, 0, 1, 2]
    assert np.bincount(whole.subset(4, 7).test_labels).tolist() == [4, 2, 1]
    assert whole.subset(100, 2000).digest == whole.digest
    first = digits().subset(40, None, in_order=True)
    np.testing.assert_array_equal(first.train_images, digits().train_images[:40])
    for draw in (lambda seed: whole.share(0.2, seed), lambda seed: whole.subset(20, 20, seed=seed)):
        drawn, again, other = map(draw, (0, 0, 2**64 - 1))
        assert drawn.digest == again.digest != other.digest
        assert np.bincount(drawn.train_labels).tolist() == [12, 6, 2]
        assert np.all(np.diff(brightness(drawn.train_images)) > 0), "in their order, none twice"
        assert brightness(drawn.train_images) != brightness(whole.subset(20, None).train_images)
    assert np.bincount(drawn.test_labels).tolist() == [12, 6, 2]
    assert brightness(drawn.train_images) != brightness(drawn.test_images)
    assert len(whole.share(0.559, 0).train_labels) == 55
    assert whole.share(1, 0) is whole
    assert len(whole.augment(0.02, 0).train_labels) == 102, "of the copies, a class may have none"


def test_parts_that_cannot_be_are_refused():
    whole = sorted_set()
    for call, message in (
        (lambda: whole.subset(-1, None), "`train_images` must be at least 1, got -1"),
        (lambda: whole.subset(2, None), "`train_images` must be at least 3, .* sorted, got 2"),
        (lambda: whole.subset(10, None, in_order=True), "no training images of class 1, 2: add some"),
        (lambda: whole.subset(20, None, seed=-1), "`seed` must be at least 0, got -1"),
        (lambda: whole.share(0.02, 0), r"`ratio` must leave each of 3 classes .*, got 0\.02 of 100"),
        (lambda: whole.share(0, 0), r"`ratio` must lie in \(0, 1\], got 0, "),
        (lambda: whole.save("mine.npy"), "`path` must end in .npz, got mine.npy"),
    ):
        with pytest.raises(InputError, match=message):
            call()


def test_names_of_files_stay_with_their_images(tmp_path):
    whole = sorted_set()
    held = whole.hold_out(0.2, 0)
    held.save(tmp_path / "held.npz")
    copies = whole.augment(0.5, 0)
    for data in (whole.subset(20, 30), whole.subset(20, 30, seed=1), held, copies, load(tmp_path / "held.npz")):
        for part in ("train", "test", "validation") if data.validation_files else ("train", "test"):
            named = np.array([int(name.removesuffix(".png")) for name in getattr(data, f"{part}_files")])
            same = getattr(data, f"{part}_images")[:, 0, 0] == named + 2
            assert same.sum() >= 100 if data is copies else same.all()  # copies are altered
            if part == "train":
                np.testing.assert_array_equal(data.train_groups, named // 5)
    assert len(load(tmp_path / "held.npz").validation_files) == len(held.validation_images) == 20
    assert whole.digest == small(**{name: getattr(whole, name) for name in ARRAYS}).digest, "names are no data"


def test_copies_are_rotated_and_mirrored(monkeypatch):
    images = RNG.integers(0, 256, (60, 28, 28, 3), np.uint8)
    data = small(train_images=images, train_labels=np.arange(60), test_images=images[:3], classes=60)
    rotate = mock.Mock(wraps=scipy.ndimage.rotate)
    monkeypatch.setattr(scipy.ndimage, "rotate", rotate)
    both = data.augment(1.0, seed=0)
    drawn = [call.args[1] for call in rotate.call_args_list]
    assert both.digest == data.augment(1.0, 0).digest != data.augment(1.0, 1).digest
    assert (both.train_images.shape, both.train_images.dtype) == ((120, 28, 28, 3), np.uint8)
    np.testing.assert_array_equal(both.test_images, images[:3])
    altered = (both.train_images != images[both.train_labels]).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(np.bincount(both.train_labels[altered]), np.ones(60), "one copy of each")
    assert 20 <= sum(altered[:60]) <= 40, "originals and copies are mixed"
    flips = []
    for image, label in zip(both.train_images[altered], both.train_labels[altered], strict=True):
        rotated = Image.fromarray(images[label]).rotate(drawn[label])
        apart = {flip: np.mean(np.flip(rotated, flip) != image) for flip in ((), (0,), (1,), (0, 1))}
        flips.append(min(apart, key=apart.get))
        assert apart[flips[-1]] < 0.05, f"image {label} is not rotated by {drawn[label]}"
    assert min(map(flips.count, ((), (0,), (1,), (0, 1)))) >= 7, "about a quarter each"
    assert (len(set(drawn)), -30 <= min(drawn) < -25, 25 < max(drawn) <= 30) == (60, True, True)
    assert not np.isin(drawn, np.random.default_rng(0).uniform(-30, 30, 1000)).any(), "as what `share` draws"


def test_own_files_of_other_programs_are_read(tmp_path, monkeypatch):
    """Compressed, of other numbers, without the number of classes."""
    path = tmp_path / "theirs.npz"
    arrays = dict(zip(ARRAYS, FILES.values(), strict=True))

    def loaded(**changes):
        """A file of these arrays, some changed or, if None, left out."""
        np.savez_compressed(path, **{name: x for name, x in (arrays | changes).items() if x is not None})
        return load(path)

    wide = loaded(**{name: x.astype(">i8" if "labels" in name else ">f4") for name, x in arrays.items()})
    assert (wide.classes, wide.train_labels.dtype, wide.train_images.dtype) == (10, np.int32, np.float32)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(wide, name), arrays[name])
    named = loaded(class_names=np.array(["cafe\u0301", *"bcdefghij"]))
    assert (named.classes, named.names) == (10, ("caf\u00e9", *"bcdefghij"))
    assert loaded(train_ids=np.zeros(12), test_ids=np.zeros(12)).classes == 10, "other arrays may be there"
    monkeypatch.setattr(readers, "MOST_BYTES", 100_000)
    for changes, message in (
        (dict(unlabeled_images=arrays["test_images"]), "holds unlabeled_images, .* rename it unlabelled_images"),
        (dict(test_labels=None), "must hold .* test_labels, it lacks test_labels"),
        (dict(train_images=np.zeros((12, 100, 100), np.uint8)), "it holds .* bytes .*, but at most 100000 are read"),
    ):
        with pytest.raises(InputError, match=rf"theirs\.npz.*{message}"):
            loaded(**changes)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"theirs\.npz is damaged or not a valid \.npz file: \w+"):
        load(path)


def test_folds_test_each_image_once():
    """Each class has the same share; another seed cuts otherwise."""
    data = digits()
    folds = data.folds(5)
    pooled = np.concatenate([data.train_images, data.test_images])
    tested = np.concatenate([fold.test_images for fold in folds])
    assert sorted(image.tobytes() for image in tested) == sorted(image.tobytes() for image in pooled)
    counts = np.array([np.bincount(fold.test_labels) for fold in folds])
    assert np.ptp(counts, axis=0).max() <= 1
    assert all(len(fold.train_images) + len(fold.test_images) == len(pooled) for fold in folds)
    assert data.folds(5, seed=1)[0].digest != folds[0].digest == data.folds(5, seed=0)[0].digest


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (dict(k=1), "`k` must be at least 2, got 1"),
        (dict(k=41), r"`k` must be at most 40, the images of the largest class \(--folds\), got 41"),
        (dict(k=3, groups=True), "digits: `groups` stay together where images have `train_groups` and `test_groups`"),
        (dict(k=3, seed=2**32), "`seed` must be at most 4294967295"),
    ],
)
def test_folds_that_cannot_be_cut(how, words):
    labels = np.repeat(np.arange(3), 20)
    data = Dataset("digits", np.full((60, 4, 4), 9, np.uint8), labels, np.full((60, 4, 4), 9, np.uint8), labels)
    with pytest.raises(InputError, match=words):
        data.folds(**how)
    one_each = dataclasses.replace(data, train_groups=labels, test_groups=labels)
    with pytest.raises(InputError, match=r"must be at most 1, the groups of the largest class \(--folds\), got 2"):
        one_each.folds(2)


def test_small_images_are_enlarged_to_24_pixels_and_centred_in_28():
    grey = np.full((2, 4, 6), 200, np.uint8)
    large = enlarged(grey)
    assert large.shape == (2, 28, 28)
    assert large.dtype == np.float32
    assert (large[:, 6:22, 2:26] == 200).all()
    assert large.sum() == 2 * 16 * 24 * 200
    colours = np.random.default_rng(0).random((3, 8, 8, 3)) * 255
    for channel in range(3):
        np.testing.assert_array_equal(enlarged(colours)[..., channel], enlarged(colours[..., channel]))
    assert [is_small(shape) for shape in ((23, 8), (24, 8), (8, 8, 3), (8, 8, 2))] == [True, False, True, False]
