"""Folders of pictures and .zip files of them as data sets."""

import itertools
import os
import re
import shutil
import struct
import tracemalloc
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tiny
from made_files import brightness, fill, packed, picture, png, zipped
from PIL import Image

import snnjax
from snnjax import InputError
from snnjax.app import data_source, planning, run_data, shared_options
from snnjax.app.commands.predict import reader_of
from snnjax.data import Dataset, folder, layout, load, picture_folder, pictures, read_picture
from snnjax.data.names import natural
from snnjax.runs.run_folder import RunFolder

CLASSES = ("ant 2", "ant 10", "Bee")
FIFTH = "no test folder: a fifth of each class is for testing"


@pytest.fixture
def pets(tmp_path) -> Path:
    """Five pictures of each class."""
    return fill(tmp_path / "pets", dict.fromkeys(CLASSES, 5))


@pytest.mark.parametrize(("top", "train", "test"), [("", "train", "test"), ("a/b/", "Training", "VAL")])
def test_training_and_test_folders(tmp_path, top, train, test):
    path = tmp_path / "pets"
    fill(path / top / train, dict.fromkeys(CLASSES, 12))
    fill(path / top / test, dict.fromkeys(CLASSES, 5))
    data = load("folder", path)
    assert repr(data) == "Dataset(pets: 36 training and 15 test images, 7 high, 9 wide, 3 classes)"
    note = f"without a test folder, {test}/ is for testing, not for validation"
    assert (data.class_names, data.notes) == (CLASSES, (note,) if test == "VAL" else ())
    for part, count in (("train", 12), ("test", 5)):
        images, labels = getattr(data, f"{part}_images"), getattr(data, f"{part}_labels")
        assert sorted(brightness(images)) == [40 * label + number for label in range(3) for number in range(count)]
        np.testing.assert_array_equal(images[:, 6, 8] // 40, labels)
        read = [np.asarray(Image.open(path / name)) for name in getattr(data, f"{part}_files")]
        np.testing.assert_array_equal(read, images)
    before = sorted(tmp_path.rglob("*"))
    archive = load("folder", packed(path))
    assert (archive.digest, archive.class_names, archive.name) == (data.digest, CLASSES, "pets")
    assert archive.train_files == data.train_files
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "pets.zip"]), "nothing is unpacked"
    np.testing.assert_array_equal(picture_folder(path, test_only=True).test_images, data.test_images)


def test_without_a_test_folder_a_fifth_of_each_class_is_for_testing(tmp_path):
    """Each class is spread evenly over the set, in no order of names."""
    fill(tmp_path / "pets" / "train", dict(zip(CLASSES, (30, 10, 2), strict=True)))
    data, archive = picture_folder(tmp_path / "pets"), picture_folder(packed(tmp_path / "pets"))
    assert (data.digest, data.notes) == (archive.digest, (FIFTH,))
    assert np.bincount(data.train_labels).tolist() == [24, 8, 1]
    assert sorted(data.train_labels[:3]) == [0, 1, 2]
    for at in range(3, 33, 10):
        np.testing.assert_allclose(np.bincount(data.train_labels[at : at + 10], minlength=3), [8, 2.5, 0], atol=1.5)
    assert brightness(data.test_images) == [10, 49, 81, 19, 6, 28, 18, 12, 48], "drawn from all, always the same"
    assert sorted(brightness(data.train_images) + brightness(data.test_images)) == [*range(30), *range(40, 50), 80, 81]
    only = picture_folder(tmp_path / "pets", test_only=True)
    assert len(only.test_images) == 42
    np.testing.assert_array_equal(only.test_images[:, 0, 0] // 40, only.test_labels)
    assert only.notes == ("no test folder: all pictures are for testing",)


def test_a_validation_folder_is_used(tmp_path):
    """A class of which no test picture can be read is named."""
    for part, count in (("train", 12), ("test", 5), ("Valid", 4)):
        fill(tmp_path / part, dict.fromkeys(CLASSES, count))
    data = load("folder", tmp_path)
    assert (len(data.train_images), len(data.test_images), data.notes) == (36, 15, ())
    expected = [40 * label + number for label in range(3) for number in range(4)]
    assert sorted(brightness(data.validation_images)) == expected
    np.testing.assert_array_equal(data.validation_images[:, 0, 0] // 40, data.validation_labels)
    assert all(each.startswith("Valid/") for each in data.validation_files)
    assert data_source.split(data, 0.1) is data, "no others are held out"
    assert data_source.split(data, 0).validation_files is None
    assert picture_folder(tmp_path, test_only=True).validation_images is None
    for path in (tmp_path / "test").rglob("Bee/*"):
        path.write_bytes(b"")
    data = load("folder", tmp_path)
    assert (data.notes[-1], len(data.test_images)) == ("no test picture of Bee can be read", 10)
    for path in (tmp_path / "test").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(snnjax.InputError, match="no test picture of ant 2, ant 10, Bee can be read"):
        load("folder", tmp_path)
    shutil.rmtree(tmp_path / "Valid" / "Bee")
    with pytest.raises(snnjax.InputError, match=r"train/ and Valid/ must hold .* the same classes: Valid/ lacks Bee"):
        load("folder", tmp_path)


def by_object(root: Path, objects: int = 5) -> Path:
    """Pictures of objects of two classes, four views in several folders; their brightness is the object's number."""
    for name, number, view in itertools.product(("cup", "jug"), range(objects), range(4)):
        place = root / name / f"view{view}" if number % 2 else root / name
        place.mkdir(parents=True, exist_ok=True)
        picture(number + 100 * (name == "jug")).save(place / f"o{number}_{view}.png")
    return root


@pytest.mark.parametrize("group", [r"^(o\d+)_", "^[^_]+"])
def test_pictures_of_a_group_stay_together(tmp_path, group):
    path = by_object(tmp_path / "things", objects=10)
    for each in (path, packed(path)):
        data = load("folder", each, group=group)
        assert data.notes[:2] == (FIFTH, "80 pictures belong to 10 groups, such as 'o0' and 'o1'"), "of both classes"
        few = "only 2 groups tested, and the accuracy depends on which: o3, o8"
        few += "; `folds` (--folds) tests all groups in turn"
        assert data.notes[2:] == (few,)
        assert data.test_group_names == ("o3", "o8")
        assert not {*np.mod(brightness(data.train_images), 100)} & {*np.mod(brightness(data.test_images), 100)}
        assert np.bincount(data.test_labels).tolist() == [8, 8], "a fifth of each class"
    assert data.hold_out(0.1, 0).notes[-1] == "8 of 64 training images are held out for validation, 1 of 8 groups"


def test_a_picture_that_does_not_match_is_a_group_of_its_own(tmp_path):
    fill(tmp_path / "train", dict.fromkeys("ab", 10))
    data = load("folder", tmp_path / "train", group="^[01]")
    assert data.notes[1].startswith("4 pictures belong to 2 groups, such as '0' and '1'; each of the 16 pictures")
    assert len(np.unique(data.train_groups)) + len({*brightness(data.test_images)} - {40, 41}) >= 16
    fill(tmp_path / "test", dict.fromkeys("ab", 2))
    shared = "2 groups have pictures in train/ and in other folders, which makes the test easier"
    assert load("folder", tmp_path, group=r"\d").notes[0] == shared


def test_another_split_seed_draws_other_test_pictures(tmp_path):
    """Seed 0 draws as ever; a test folder leaves nothing to draw."""
    path = by_object(tmp_path / "things", objects=10)
    for group in (None, r"o\d+"):
        files = [load("folder", path, group=group, split_seed=seed).test_files for seed in (0, 0, 1, 2)]
        assert files[0] == files[1]
        assert len({*files}) == 3
    drawn = load("folder", path, group=r"o\d+", split_seed=1)
    assert drawn.test_group_names == ("o7", "o8")
    assert {file.split("/")[-1].split("_")[0] for file in drawn.test_files} == {"o7", "o8"}
    fill(tmp_path / "own" / "train", dict.fromkeys("ab", 4))
    fill(tmp_path / "own" / "test", dict.fromkeys("ab", 4))
    with pytest.raises(snnjax.InputError, match=r"`split_seed` must be 0, got 1: there is a test folder"):
        load("folder", tmp_path / "own", split_seed=1)
    with pytest.raises(snnjax.InputError, match=r"`split_seed` is for pictures, not for `dataset` digits"):
        load("digits", split_seed=1)


def test_folds_test_each_group_once(tmp_path):
    """By name, also where the data were stored; the same share of each class as far as the groups allow."""
    data = load("folder", by_object(tmp_path / "things", objects=10), group=r"o\d+")
    data.save(tmp_path / "things.npz")
    folds = data.folds(5)
    for fold, stored in zip(folds, load(tmp_path / "things.npz").folds(5, groups=True), strict=True):
        assert fold.digest == stored.digest
        assert fold.test_group_names == stored.test_group_names
        assert not {*np.mod(brightness(fold.train_images), 100)} & {*np.mod(brightness(fold.test_images), 100)}
        assert np.bincount(fold.test_labels).tolist() == [8, 8]
        assert sorted({*fold.train_files} | {*fold.test_files}) == sorted(data.train_files + data.test_files)
    assert sorted(name for fold in folds for name in fold.test_group_names) == [f"o{number}" for number in range(10)]
    named = ", ".join(folds[1].test_group_names)
    again = "training and test images are split again: part 2 of 5 is for testing"
    assert folds[1].notes[-1] == f"{again}, of groups {named}"
    assert not any(note.startswith("only 2 groups") for note in folds[1].notes), "of the test images before"


def activations_of(path: Path, out: Path, **how) -> tuple[dict, Dataset]:
    """The settings of a run on a folder of pictures, and its data."""
    chosen = shared_options.TrainData(dataset="folder", data_dir=path, size=(28,), **how)
    network = shared_options.Network(model=f"{tiny.__file__}:plain")
    machine = shared_options.Machine(backend="xla")
    plan, _ = planning.plan_run(network, chosen, shared_options.Training(seed=3), machine, out=None)
    trainer = plan.trainer()
    about = plan.source
    with RunFolder(out, trainer, about=about) as run:
        return run.settings, trainer.data


@pytest.mark.parametrize(
    ("count", "how"), [(7, dict(train_images=20, draw=True, ratio=0.5)), (31, dict(augment=True, ratio=0.3))]
)
def test_a_moved_folder_is_known_by_its_digest(tmp_path, count, how):
    """Else the network would be tested on pictures that it has learned."""
    path = by_object(tmp_path / "things")
    known, learned = activations_of(path, tmp_path / "run", group=r"^o\d+", test_images=6, validation=0.25, **how)
    assert len(learned.train_images) == count, "of the 20 or 32 that are not tested, a quarter is held out"
    images, own = run_data.load(shared_options.TestData(), known, (28, 28), "RUN")
    assert (images.test_files, own) == (learned.test_files, True), "of the same groups"
    assert not any(run_data.LEAK in note for note in images.notes)
    path.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match=f"the data of RUN are no longer in {path}: .* `data_dir`"):
        run_data.load(shared_options.TestData(), known, (28, 28), "RUN")
    for named in (None, "folder"):
        chosen = shared_options.TestData(dataset=named, data_dir=tmp_path / "moved")
        images, own = run_data.load(chosen, known, (28, 28), "RUN")
        assert (images.test_files, own) == (learned.test_files, True)
        assert images.notes[-1] == run_data.AS_TRAINED


def test_other_pictures_may_be_those_of_the_training(tmp_path):
    """All are tested, however many the run was tested on, and it is said."""
    path = by_object(tmp_path / "things")
    known, _ = activations_of(path, tmp_path / "run", test_images=6)
    images = load("folder", path, size=28)
    assert run_data.is_own(images, known)
    shutil.copytree(path, tmp_path / "more")
    for place in (path, tmp_path / "more"):
        picture(99).save(place / "cup" / "new.png")
    more = shared_options.TestData(dataset="folder", data_dir=tmp_path / "more")
    for chosen, count, words in (
        (more, 41, "these are not exactly the data of the training run"),
        (shared_options.TestData(), 8, f"{path} has changed since the training"),
        (shared_options.TestData(dataset="folder", data_dir=path), 8, f"{path} has changed since the training"),
    ):
        images, own = run_data.load(chosen, known, (28, 28), tmp_path)
        assert (len(images.test_images), own, images.notes[-1]) == (count, False, f"{words}: {run_data.LEAK}")
    published = known | dict(dataset="mnist", data_dir=None)
    assert not any(run_data.LEAK in note for note in run_data.load(more, published, (28, 28), "RUN").images.notes)


def test_names_are_sorted_as_people_do():
    names = ["10", "2", "b10c", "B2", "a", "b2", "", "1", "01", "x" * 3 + "9" * 5000]
    assert sorted(names, key=natural) == ["", "01", "1", "2", "10", "a", "B2", "b2", "b10c", names[-1]]


def test_zip_files_of_other_systems(tmp_path):
    """Names with backslashes, in other normal forms, without entries for folders, and UTF-8 without its flag."""
    tops = ("set\\bär", "/set/ba\u0308r", "set\\hase", "../set/hase")
    content = {f"{top}/{number}{len(top)}.png": png(9) for top in tops for number in range(2)}
    path = tmp_path / "pets.zip"
    path.write_bytes(zipped(content | {"set/ba\u0308r/": b""}))
    data = load("folder", path)
    assert (data.class_names, data.notes) == (("bär", "hase"), (FIFTH,))
    assert len(data.train_files) + len(data.test_files) == 6, "what leads out of it is left out"
    content = {f"{top}/{number}.png": png(9) for top in ("b##r", "hase") for number in range(3)}
    for system, name in ((3, "bär"), (0, "bär".encode().decode("cp437"))):
        path.write_bytes(zipped(content, system).replace(b"b##r", "bär".encode()))
        assert load("folder", path).class_names == (name, "hase"), f"written on system {system}"


def test_pictures_of_all_kinds(tmp_path):
    pixels = np.zeros((60, 60, 3), np.uint8)  # red on top, green below
    pixels[:30, :, 0] = pixels[30:, :, 1] = 200
    fill(tmp_path, dict(all=0, grey=3))
    whole = Image.fromarray(pixels)
    turned = whole.rotate(90, expand=True)
    exif = turned.getexif()
    exif[0x0112] = 6
    for name, image, how in (
        *((f"plain.{suffix}", whole, dict(lossless=True)) for suffix in ("png", "bmp", "tiff", "webp", "ppm", "JPEG")),
        ("large.jpg", whole.resize((3000, 3000)), {}),
        ("palette.png", whole.quantize(4), {}),
        ("cmyk.jpg", whole.convert("CMYK"), {}),
        ("animated.gif", whole, dict(save_all=True, append_images=[picture(0, (60, 60)), picture(99, (60, 60))])),
        ("turned.jpg", turned, dict(exif=exif)),
    ):
        image.save(tmp_path / "all" / name, quality=100, **how)
    data = load("folder", tmp_path, size=(10, 8), colour=True)
    coloured = np.concatenate([data.train_images[data.train_labels == 0], data.test_images[data.test_labels == 0]])
    assert coloured.shape == (11, 10, 8, 3)
    for each in coloured:
        np.testing.assert_allclose(each[[1, 8], 4], [[200, 0, 0], [0, 200, 0]], atol=30)


def test_16_bits_and_transparency(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((5, 5), 200 * 257, np.uint16)).save(tmp_path / name / "deep.png")
        Image.new("RGBA", (5, 5), (255, 255, 255, 128)).save(tmp_path / name / "clear.png")
    data = load("folder", tmp_path)
    assert sorted(brightness(data.train_images) + brightness(data.test_images)) == [128, 128, 200, 200]
    notes = {"2 of 4 pictures: transparent pixels became black", "2 of 4 pictures: 16 bits per pixel were reduced to 8"}
    assert {*data.notes[1:]} == notes


@pytest.mark.parametrize(
    ("values", "dtype", "words"),
    [
        (
            (200, 250),
            np.uint16,
            ": no value exceeds 250 of 65,535, so they become black: if values have 8 ",
        ),
        (
            (200, 4000),
            np.int32,
            ": no value exceeds 4,000 of 65,535, so they become nearly black: if values have 12 ",
        ),
        ((200, 4096), np.uint16, "$"),
        ((200, 70000), np.int32, ", and larger values to white: the largest is 70,000"),
    ],
)
def test_the_largest_value_of_16_bits_is_named_where_it_is_small_or_too_large(tmp_path, values, dtype, words):
    """That of all pictures of a folder."""
    for name, place in itertools.product("ab", range(2)):
        (tmp_path / name).mkdir(exist_ok=True)
        Image.fromarray(np.full((5, 5), values[place], dtype)).save(tmp_path / name / f"{place}.tif")
    (note,) = load("folder", tmp_path).notes[1:]
    assert re.match(f"4 of 4 pictures: 16 bits per pixel were reduced to 8{words}", note)
    _, notes = read_picture(tmp_path / "a" / "0.tif", (5, 5))
    assert "exceeds 200 of 65,535" in notes[0]


def test_proportions_are_kept(tmp_path):
    """What does not fit is cut off at both sides."""
    pixels = np.zeros((20, 60), np.uint8)
    pixels[:, 20:40] = 100
    pixels[:, :20] = 250
    for name, image, size in (("tall", pixels.T, "60 high, 20 wide"), ("wide", pixels, "20 high, 60 wide")):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
        seen, notes = read_picture(tmp_path / f"{name}.png", (10, 10))
        assert np.all(seen == 100)
        assert notes == [f"resized from {size} to 10 high, 10 wide, 67 % of it cut off to keep its proportions"]
    seen, notes = read_picture(tmp_path / "wide.png", (10, 30, 3), invert=True)
    np.testing.assert_array_equal(seen, 255 - np.stack([pixels[::2, ::2]] * 3, axis=-1))
    assert notes == ["resized from 20 high, 60 wide to 10 high, 30 wide", "inverted"]
    assert (pictures.is_light(pixels), pictures.is_light(255 - pixels)) == (False, True)


def test_padding_keeps_all_of_a_picture(tmp_path):
    """A border in the median colour of the outermost pixels makes up for other proportions."""
    pixels = np.full((20, 60), 7, np.uint8)
    pixels[4:16, 20:40] = 100
    pixels[:, :2] = 250
    for name, image in (("tall", pixels.T), ("wide", pixels)):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
        seen, notes = read_picture(tmp_path / f"{name}.png", (30, 30), fit="pad")
        expected = np.full((30, 30), 7, np.uint8)
        expected[10:20] = pixels[::2, ::2]
        np.testing.assert_array_equal(seen.T if name == "tall" else seen, expected)
        assert notes[0].endswith("to 30 high, 30 wide, 67 % of the image added as a border to keep its proportions")
    colours = np.stack([pixels, pixels + 1, pixels + 2], axis=-1)
    Image.fromarray(colours).save(tmp_path / "small.png")
    seen, _ = read_picture(tmp_path / "small.png", (60, 120, 3), fit="pad")
    assert seen[0, 0].tolist() == seen[59, 119].tolist() == [7, 8, 9]
    assert seen.max() == 252
    with pytest.raises(InputError, match="`fit` must be one of crop, pad, got 'cut'"):
        read_picture(tmp_path / "small.png", (60, 120, 3), fit="cut")


def test_a_run_keeps_how_pictures_are_made_to_fit(pets):
    rng = np.random.default_rng(0)
    for path in pets.rglob("*.png"):
        Image.fromarray(rng.integers(0, 256, (7, 9), np.uint8)).save(path)
    odd = pets / "Bee" / "odd.png"
    Image.fromarray(rng.integers(0, 256, (40, 20), np.uint8)).save(odd)
    padded = load("folder", pets, size=12, fit="pad")
    assert padded.notes[1:] == (
        "15 of 16 pictures: enlarged, the smallest from 7 high, 9 wide",
        "1 of 16 pictures: more than 25 % of the image is a border that was added to keep their proportions",
    )
    with pytest.raises(InputError, match=r"`fit` is for pictures, not for `dataset` digits"):
        load("digits", fit="pad")
    chosen = shared_options.Data(dataset="folder", data_dir=pets, size=(12,), fit="pad")
    read = data_source.read_images(chosen)
    settings = data_source.source(shared_options.Network(), chosen, read) | dict(split_seed=0)
    assert data_source.load(settings).digest == padded.digest
    tested = run_data.load(shared_options.TestData(), settings, (12, 12), "run").images
    np.testing.assert_array_equal(tested.test_images, padded.test_images)
    cropped = run_data.load(shared_options.TestData(fit="crop"), settings, (12, 12), "run").images
    assert not np.array_equal(cropped.test_images, padded.test_images)
    trained = types.SimpleNamespace(settings=settings, image_shape=(12, 12))
    asked = types.SimpleNamespace(as_is=False, invert=False)
    for fit, expected in ((None, "pad"), ("crop", "crop")):
        seen, _ = reader_of(asked, trained, fit)(odd)
        np.testing.assert_array_equal(seen, read_picture(odd, (12, 12), fit=expected)[0])


def test_the_size_that_pictures_have(pets, monkeypatch):
    assert load("folder", pets, size=(12, 6)).train_images.shape == (12, 12, 6)
    picture(3, (40, 20)).save(pets / "Bee" / "odd.png")
    for sample in (folder.SAMPLE, 1):  # where the sample holds the odd one, and where it does not
        monkeypatch.setattr(folder, "SAMPLE", sample)
        data = load("folder", pets)
        assert data.train_images.shape == (13, 32, 32)
        assert data.notes[1].startswith("sizes differ or are large, so that pictures are resized to 32 high, 32 ")
    assert load("folder", pets, size=12).notes[1:] == (
        "15 of 16 pictures: enlarged, the smallest from 7 high, 9 wide",
        "1 of 16 pictures: more than 25 % cut off to keep their proportions; "
        "`fit='pad'` (--fit pad) adds a border instead",
    )
    for path in pets.rglob("*.png"):
        picture(9, (513, 20)).save(path)
    assert load("folder", pets).train_images.shape == (13, 32, 32)


def test_colour_is_as_most_pictures_are(pets):
    notes = ("", "some are grey: all are read in grey", "all are read in colour", "the pictures are read in colour")
    for coloured, words in enumerate(notes):
        for path in (pets / name / f"{number}.png" for name in CLASSES[:coloured] for number in range(5)):
            Image.new("RGB", (9, 7), (90, 20, 20)).save(path)
        data = load("folder", pets)
        assert data.train_images.shape[1:] == (7, 9, *(3,) * (coloured >= 2))
        assert words in data.notes[-1]
    for path in (pets / "Bee").iterdir():  # stored as colour, though it holds none
        Image.new("RGB", (9, 7), (90, 90, 90)).save(path)
    shutil.rmtree(pets / "ant 2")
    assert load("folder", pets).train_images.shape[1:] == (7, 9), "grey where half of them are"


def test_what_is_no_picture_is_left_out(pets, tmp_path, monkeypatch):
    expected = load("folder", pets).digest
    for name in (".DS_Store", "._0.png", "labels.txt"):
        (pets / "Bee" / name).write_bytes(b"x")
        (pets / name).write_bytes(b"x")
    fill(pets / "__MACOSX", dict(Bee=1))
    assert (load("folder", packed(pets)).digest, load("folder", packed(pets)).notes) == (expected, (FIFTH,))
    (pets / "ant 2").rename(tmp_path / "ant 2")
    (pets / "ant 2").symlink_to(tmp_path / "ant 2")
    (pets / "Bee" / "round").symlink_to(pets)
    os.mkfifo(pets / "Bee" / "pipe.png")
    assert (load("folder", pets).digest, load("folder", pets).notes) == (expected, (FIFTH,))
    (pets / "Bee" / "z.png").symlink_to("nowhere.png")
    (pets / "cow").symlink_to("nowhere")
    broken, unreadable = load("folder", pets).notes[1:]
    assert broken == "links that lead nowhere are left out: cow"
    assert unreadable.startswith("1 of 16 pictures are left out: Bee/z.png cannot be read")
    for part in ("train", "test", "other"):
        fill(tmp_path / "sets" / part, dict.fromkeys(CLASSES, 5))
    (tmp_path / "sets" / "train" / "cow").mkdir()
    for number in range(5):
        picture(1).save(tmp_path / "sets" / "test" / f"{number}.png")
    assert load("folder", tmp_path / "sets").notes == (
        "train/ and test/ are used; left out: other/",
        "pictures outside the folders of classes are left out: test/0.png, test/1.png, test/2.png and 2 more",
        "folders without pictures are left out: cow",
    )
    monkeypatch.setattr(layout, "MOST_ENTRIES", 10)
    with pytest.raises(snnjax.InputError, match="pets: it holds more than 10 files and folders"):
        load("folder", pets)


@pytest.mark.filterwarnings("error")
def test_pictures_that_cannot_be_read_are_named(pets, monkeypatch):
    bad = pets / "ant 2"
    picture(3, (11, 10)).save(bad / "0.png")
    monkeypatch.setattr(pictures, "MOST_PIXELS", 109)
    too_large = "ant 2/0.png cannot be read: it is 11 high, 10 wide, at most 109 pixels are read"
    assert too_large in load("folder", pets).notes[1]
    (bad / "0.png").unlink()
    (bad / "a.png").write_bytes(png(9)[:50])
    (bad / "b.heic").write_bytes(b"ftypheic")
    (bad / "c.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n%%EndComments\nshowpage\n")
    Image.fromarray(np.zeros((7, 9), np.float32)).save(bad / "d.tif")
    for path in (pets, packed(pets)):
        data = load("folder", path)
        assert np.bincount(np.concatenate([data.train_labels, data.test_labels])).tolist() == [4, 5, 5]
        np.testing.assert_array_equal(data.train_images[:, 0, 0] // 40, data.train_labels)
        assert data.notes[1].startswith("4 of 18 pictures are left out: ant 2/a.png ")
        assert "; ant 2/b.heic is not an image that can be read (PNG, JPEG, GIF, BMP, TIFF, WEBP, PPM)" in data.notes[1]
    for number in range(1, 5):
        (bad / f"{number}.png").write_bytes(b"")
    with pytest.raises(snnjax.InputError, match=r": 8 of 18 pictures are left.*; no training picture of ant 2 can be"):
        load("folder", pets)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("a.txt", "there are no pictures in it \\(.png, .jpg"),
        ("cat/1.png cat/2.png", "each of several classes, got only one class: cat"),
        ("cat/1.png cat/2.png dog/1.png", "a class must have at least 2 pictures,.* got 1 of dog"),
        ("train/a/1.png train/b/1.png test/A/1.png test/b/1.png", "same classes: train/ lacks A, test/ lacks a"),
        ("train/a/1.png train/b/1.png test/1.png", "test/ must hold a folder for each class as train/ does"),
        ("a/1.png a/2.png b\n/1.png b\n/2.png", r"`class_names` must be of printable.*'b\\n'"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, names, words):
    for name in names.split(" "):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png(0))
    with pytest.raises(snnjax.InputError, match=f"`data_dir` {tmp_path}: .*{words}"):
        load("folder", tmp_path)


def test_options_that_do_not_fit_are_refused(pets, tmp_path):
    (tmp_path / "cut.zip").write_bytes(packed(pets).read_bytes()[:-9])
    with pytest.raises(FileNotFoundError, match=r"`data_dir` .*nowhere: there is no such folder"):
        load("folder", tmp_path / "nowhere")
    for name, path, given, message in (
        ("folder", tmp_path / "cut.zip", {}, r"`data_dir` must be .* got .*cut\.zip"),
        ("folder", None, {}, r"`data_dir` must name the folder or \.zip file"),
        ("folder", pets, dict(group="("), r"`group` must be a regular expression, got '\(': miss"),
        ("folder", pets, dict(group=3), "`group` must be a regular expression, got 3"),
        ("folder", pets, dict(group="Bee"), "`group` 'Bee' matches no picture's file name, such as"),
        ("folder", pets, dict(group="png"), "a class must have at least 2 groups .*, got 1 of ant 2"),
        ("folder", pets, dict(size=4097), "`size` must be at most 4096, got 4097"),
        ("digits", None, dict(size=28), r"`size` is for pictures and recordings, not for .*digits"),
        ("nmnist", None, dict(colour=True), r"`colour` is for pictures, not .* nmnist"),
    ):
        with pytest.raises(snnjax.InputError, match=message):
            load(name, path, **given)


def test_hostile_and_damaged_zip_files(pets, tmp_path, monkeypatch):
    path, lying = tmp_path / "bomb.zip", tmp_path / "lying.zip"
    good = {f"{name}/{number}.png": png(9) for name in ("a", "b") for number in range(9)}
    path.write_bytes(zipped(good | {"b/bad.png": bytes(50_000_000)}))
    lying.write_bytes(path.read_bytes().replace(struct.pack("<I", 50_000_000), struct.pack("<I", 500)))
    tracemalloc.start()
    assert "1 of 19 pictures are left out: b/bad.png cannot be read: " in load("folder", lying).notes[1]
    monkeypatch.setattr(layout, "MOST_BYTES", 1_000_000)
    note = load("folder", path).notes[1]
    assert "b/bad.png cannot be read: it holds 50000000 bytes when decompressed, but at most 1000000 are read" in note
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()
    monkeypatch.setattr(layout, "FREE", 1_000_000)
    with pytest.raises(snnjax.InputError, match=r"bomb\.zip holds 5000\d+ bytes when decompressed, but at most \d+ "):
        load("folder", path)
    with pytest.raises(snnjax.InputError, match="cannot be read: its compression, number 12, is not supported"):
        load("folder", packed(pets, zipfile.ZIP_BZIP2))
