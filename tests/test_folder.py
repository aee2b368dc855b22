"""Folders of pictures and .zip files of them as data sets."""

import ast
import html
import io
import os
import pathlib
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image

import snnjax
from snnjax.app import console, options, parts, report, tested
from snnjax.app.commands.train import prepare
from snnjax.data import digits, folder, layout, load, picture_folder, read_picture
from snnjax.data.names import natural
from snnjax.runs.run_folder import RunFolder
from snnjax.training.build import network_for

CLASSES = ("ant 2", "ant 10", "Bee")
FIFTH = "no test folder: a fifth of each class is for testing"


def picture(number: int, size: tuple[int, int] = (7, 9)) -> Image.Image:
    """A grey picture of one brightness that names it."""
    return Image.new("L", size[::-1], number)


def fill(root: pathlib.Path, names: dict[str, int], **how) -> pathlib.Path:
    """Writes pictures, whose brightness is 40 times the number of their class, plus their own number."""
    for label, (name, count) in enumerate(names.items()):
        (root / name).mkdir(parents=True)
        for number in range(count):
            picture(40 * label + number, **how).save(root / name / f"{number}.png")
    return root


def zipped(root: pathlib.Path, top: str = "", **how) -> pathlib.Path:
    """The same as a .zip file beside it."""
    path = root.with_name(f"{root.name}.zip")
    with zipfile.ZipFile(path, "w", **how) as archive:
        for each in sorted(root.rglob("*"), reverse=True):
            archive.write(each, top + str(each.relative_to(root)))
    return path


def numbers(images: np.ndarray) -> list[int]:
    return images[:, 0, 0].tolist()


PAIRS = [("train", "test"), ("training", "testing"), ("Train", "VAL"), ("train", "valid"), ("Training", "Validation")]


@pytest.mark.parametrize("top", ["", "pets-main/", "a/b/"])
@pytest.mark.parametrize("parts", PAIRS)
def test_training_and_test_folders(tmp_path, top, parts):
    for part, count in zip(parts, (12, 5), strict=True):
        fill(tmp_path / "pets" / top / part, dict.fromkeys(CLASSES, count))
    data = load("folder", tmp_path / "pets")
    assert repr(data) == "Dataset(pets: 36 training and 15 test images of 7x9, 3 classes)"
    note = f"without a test folder, {parts[1]}/ is for testing, not for validation"
    assert (data.class_names, data.notes) == (CLASSES, (note,) if parts[1].lower().startswith("val") else ())
    for images, labels, count in (
        (data.train_images, data.train_labels, 12),
        (data.test_images, data.test_labels, 5),
    ):
        assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
        assert sorted(numbers(images)) == [40 * label + number for label in range(3) for number in range(count)]
        np.testing.assert_array_equal(images[:, 6, 8] // 40, labels)
    before = sorted(tmp_path.rglob("*"))
    archive = load("folder", zipped(tmp_path / "pets"))
    assert (archive.digest, archive.class_names, archive.name) == (data.digest, CLASSES, "pets")
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "pets.zip"]), "nothing is unpacked"


@pytest.mark.parametrize("top", ["", "train/", "pets/", "pets/train/"])
def test_without_a_test_folder_a_fifth_of_each_class_is_for_testing(tmp_path, top):
    fill(tmp_path / "pets" / top, dict(zip(CLASSES, (30, 10, 2), strict=True)))
    data, archive = picture_folder(tmp_path / "pets"), picture_folder(zipped(tmp_path / "pets"))
    assert (data.digest, data.notes) == (archive.digest, (FIFTH,))
    assert np.bincount(data.train_labels).tolist() == [24, 8, 1]
    assert np.bincount(data.test_labels).tolist() == [6, 2, 1]
    every = numbers(data.train_images) + numbers(data.test_images)
    assert sorted(every) == [*range(30), *range(40, 50), 80, 81]
    first = [number for number in numbers(data.test_images) if number < 40]
    assert first not in ([*range(6)], [*range(24, 30)]), "drawn from all of the class"


@pytest.mark.parametrize("top", ["", "train/"])
def test_all_pictures_are_for_testing_if_none_are_for_training(tmp_path, top):
    fill(tmp_path / top, dict(zip(CLASSES, (30, 10, 1), strict=True)))
    (tmp_path / top / "Bee" / "bad.png").write_bytes(b"")
    data = picture_folder(tmp_path, test_only=True)
    assert sorted(numbers(data.test_images)) == [*range(30), *range(40, 50), 80]
    np.testing.assert_array_equal(data.test_images[:, 0, 0] // 40, data.test_labels)
    assert data.notes[0] == "no test folder: all pictures are for testing"
    assert data.notes[1].startswith("1 of 42 pictures are left out: "), "each is read once"


def test_of_training_and_test_folders_that_for_testing_is_read(tmp_path):
    for part, count in (("train", 12), ("test", 5)):
        fill(tmp_path / part, dict.fromkeys(CLASSES, count))
    data, whole = picture_folder(tmp_path, test_only=True), picture_folder(tmp_path)
    np.testing.assert_array_equal(data.test_images, whole.test_images)
    assert (len(data.train_images), data.notes) == (15, ())


def test_a_set_that_was_written_is_read_again(tmp_path):
    """The digits, and the same whichever system lists the files."""
    known = digits().first(300, 60)
    for part in ("train", "test"):
        images, labels = getattr(known, f"{part}_images"), getattr(known, f"{part}_labels")
        for number, (image, label) in enumerate(zip(images.astype(np.uint8), labels, strict=True)):
            path = tmp_path / "digits" / part / str(label) / f"{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    data = load("folder", tmp_path / "digits")
    assert data.class_names == tuple("0123456789")
    for part in ("train", "test"):
        read, expected = (
            {(image.tobytes(), int(label)) for image, label in zip(images.astype(np.uint8), labels, strict=True)}
            for images, labels in (
                (getattr(each, f"{part}_images"), getattr(each, f"{part}_labels")) for each in (data, known)
            )
        )
        assert read == expected
    assert load("folder", tmp_path / "digits").digest == data.digest


@pytest.mark.parametrize("name", ["val", "Valid", "validation"])
def test_a_validation_folder_is_used(tmp_path, name):
    for part, count in (("train", 12), ("test", 5), (name, 4)):
        fill(tmp_path / "pets" / part, dict.fromkeys(CLASSES, count))
    data = load("folder", tmp_path / "pets")
    assert repr(data).startswith("Dataset(pets: 36 training, 12 validation and 15 test images")
    assert data.notes == ()
    assert sorted(numbers(data.validation_images)) == [40 * label + number for label in range(3) for number in range(4)]
    np.testing.assert_array_equal(data.validation_images[:, 0, 0] // 40, data.validation_labels)
    assert all(each.startswith(f"{name}/") for each in data.validation_files)
    assert parts.split(data, 0.1) is data, "no others are held out"
    assert parts.split(data, 0).validation_files is None
    assert picture_folder(tmp_path / "pets", test_only=True).validation_images is None
    shutil.rmtree(tmp_path / "pets" / name / "Bee")
    with pytest.raises(
        ValueError, match=f"train/ and {name}/ must hold folders of the same classes: {name}/ lacks Bee"
    ):
        load("folder", tmp_path / "pets")


def test_images_have_the_names_of_their_files(tmp_path):
    fill(tmp_path / "pets", dict(zip(CLASSES, (10, 6, 5), strict=True)))
    (tmp_path / "pets" / "Bee" / "0.png").write_bytes(b"")
    for path in (tmp_path / "pets", zipped(tmp_path / "pets")):
        data = load("folder", path)
        assert len({*data.train_files, *data.test_files}) == 20
        for part in ("train", "test"):
            files, images = getattr(data, f"{part}_files"), getattr(data, f"{part}_images")
            read = [np.asarray(Image.open(tmp_path / "pets" / name)) for name in files]
            np.testing.assert_array_equal(read, images)


def by_object(root: pathlib.Path, objects: int, views: int) -> pathlib.Path:
    """Pictures of objects of two classes, by view in several folders; their brightness is the object's number."""
    for name, first in (("cup", 0), ("jug", 100)):
        for number in range(objects):
            for view in range(views):
                folder = root / name / f"view{view}" if number % 2 else root / name
                folder.mkdir(parents=True, exist_ok=True)
                picture(first + number).save(folder / f"o{number}_{view}.png")
    return root


@pytest.mark.parametrize("group", [r"^(o\d+)_", "^[^_]+"])
def test_pictures_of_a_group_stay_together(tmp_path, group):
    path = by_object(tmp_path / "things", objects=10, views=4)
    apart = load("folder", path)
    assert {*numbers(apart.train_images)} & {*numbers(apart.test_images)}, "objects are in both"
    for each in (path, zipped(path)):
        data = load("folder", each, group=group)
        assert data.notes == (FIFTH, "80 pictures are of 10 groups, such as 'o0' and 'o1'"), "of both classes"
        objects = [{*np.mod(numbers(images), 100)} for images in (data.train_images, data.test_images)]
        assert not objects[0] & objects[1]
        assert np.bincount(data.test_labels).tolist() == [8, 8], "a fifth of each class"
        for seed in range(5):
            held = data.hold_out(0.1, seed)
            parted = [{*np.mod(numbers(images), 100)} for images in (held.train_images, held.validation_images)]
            assert not parted[0] & parted[1]
            assert np.bincount(held.validation_labels).tolist() == [4, 4]
        assert held.notes[-1] == "8 of 64 training images are held out for validation, 1 of 8 groups"


def test_groups_in_training_and_test_folders_are_said(tmp_path):
    for part in ("train", "test"):
        fill(tmp_path / part, dict(a=4, b=3) if part == "train" else dict(a=2, b=2))
    data = load("folder", tmp_path, group=r"\d")
    assert data.notes[0] == "2 groups have pictures in train/ and in other folders, which makes the test easier"


def test_a_group_is_kept_with_a_run(tmp_path):
    """So that it is tested on the same pictures."""
    path = by_object(tmp_path / "things", objects=5, views=4)
    chosen = options.Data(dataset="folder", data_dir=path, group=r"^o\d+", test_images=6)
    known = parts.source(options.Network(), chosen) | dict(test_images=6)
    trained = parts.load(vars(chosen)).first(None, 6)
    for named in (options.TestData(), options.TestData(dataset="folder", data_dir=path)):
        assert tested.load(named, known, (7, 9), "RUN").images.test_files == trained.test_files


TAKEN = [
    {},
    dict(train_images=24, test_images=6, validation=0.25),
    dict(train_images=20, draw=True, ratio=0.5),
    dict(augment=True, ratio=0.3, validation=0),
]


def known_of(path: pathlib.Path, out: pathlib.Path, **how) -> tuple[dict, snnjax.data.Dataset]:
    """The settings of a run on a folder of pictures, and its data."""
    chosen = options.TrainData(dataset="folder", data_dir=path, size=(28,), **how)
    network = options.Network(model="mozafari2018")
    trainer, about, _ = prepare(network, chosen, options.Training(seed=3), options.Machine(kernels="xla"))
    with RunFolder(out, trainer, about=about) as run:
        return run.settings, trainer.data


@pytest.mark.parametrize("how", TAKEN)
def test_a_moved_folder_is_known_by_its_digest(tmp_path, capsys, how):
    """Else the network would be tested on pictures that it has learned."""
    path = by_object(tmp_path / "things", objects=5, views=4)
    known, learned = known_of(path, tmp_path / "run", group=r"^o\d+", **how)
    path.rename(tmp_path / "moved")
    lost = f"the data of RUN are no longer in {path}: say where they are by `data_dir` (--data_dir)"
    with pytest.raises(FileNotFoundError, match=re.escape(lost)):
        tested.load(options.TestData(), known, (28, 28), "RUN")
    for named in (None, "folder"):
        chosen = options.TestData(dataset=named, data_dir=tmp_path / "moved")
        images, own = tested.load(chosen, known, (28, 28), "RUN")
        assert (images.test_files, own) == (learned.test_files, True)
        assert images.notes[-1] == tested.AS_TRAINED
    (tmp_path / "moved").rename(path)
    assert not any(tested.LEAK in note for note in tested.load(options.TestData(), known, (28, 28), "RUN").images.notes)


def test_other_pictures_may_be_those_of_the_training(tmp_path):
    """All are tested, however many the run was tested on, and it is said."""
    path = by_object(tmp_path / "things", objects=5, views=4)
    known, _ = known_of(path, tmp_path / "run", test_images=6)
    shutil.copytree(path, tmp_path / "more")
    for place in (path, tmp_path / "more"):
        picture(99).save(place / "cup" / "new.png")
    for named in (None, "folder"):
        images, own = tested.load(
            options.TestData(dataset=named, data_dir=tmp_path / "more"), known, (28, 28), tmp_path
        )
        assert (len(images.test_images), own) == (41, False)
        assert images.notes[-1] == f"these are not exactly the data of the training: {tested.LEAK}"
    images, own = tested.load(options.TestData(), known, (28, 28), tmp_path)
    assert (len(images.test_images), own) == (8, False)
    assert images.notes[-1] == f"{path} has changed since the training: {tested.LEAK}"
    published = known | dict(dataset="mnist", data_dir=None)
    chosen = options.TestData(dataset="folder", data_dir=path)
    assert not any(tested.LEAK in note for note in tested.load(chosen, published, (28, 28), "RUN").images.notes)


@pytest.mark.parametrize(
    "broken", [dict(train_images="x"), dict(validation=[]), dict(seed=None, draw=True), dict(data=3)]
)
def test_settings_that_no_run_has_are_of_other_data(tmp_path, broken):
    """A run's file may come from anyone."""
    path = by_object(tmp_path / "things", objects=5, views=4)
    known, _ = known_of(path, tmp_path / "run")
    images = load("folder", path, size=28)
    assert tested.is_own(images, known)
    assert not tested.is_own(images, known | broken | dict(images_taken="x" if "train_images" in broken else 32))
    assert not tested.is_own(images, {})


def test_fewer_images_than_asked_for_are_said(tmp_path):
    path = by_object(tmp_path / "things", objects=5, views=4)
    images = parts.note_fewer(load("folder", path), train=400, test=9)
    assert images.notes[1:] == ("--train_images 400: there are only 32", "--test_images 9: there are only 8")


def test_the_program_in_a_report_is_python(tmp_path):
    settings = dict(dataset="folder", data_dir="/a b", size=[28], colour=True, group="^o'\\d+")
    text = html.unescape(re.sub("<[^>]*>", "", report.usage(settings, tmp_path)))
    (line,) = [each for each in text.splitlines() if each.startswith("image = ")]
    call = ast.parse(line).body[0].value.value.value
    assert {each.arg: ast.literal_eval(each.value) for each in call.keywords} == dict(
        size=(28, 28), colour=True, group="^o'\\d+"
    )


def test_a_picture_that_does_not_match_is_a_group_of_its_own(tmp_path):
    fill(tmp_path, dict.fromkeys("ab", 10))
    data = load("folder", tmp_path, group="^[01]")
    alone = "16 that `group` does not match are groups of their own"
    assert data.notes[-1] == f"4 pictures are of 2 groups, such as '0' and '1'; {alone}"
    (tmp_path / "a" / "1.png").write_bytes(b"")
    (tmp_path / "b" / "1.png").write_bytes(b"")
    (tmp_path / "b" / "9.png").write_bytes(b"")
    few = load("folder", tmp_path, group="^[01]").notes[-1]
    assert few == "2 pictures are of 1 group, such as '0'; 15 that `group` does not match are groups of their own"
    assert len(np.unique(data.train_groups)) + len({*numbers(data.test_images)} - {40, 41}) >= 16


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("(", r"`group` must be a regular expression, got '\(': missing \), unterminated subpattern"),
        (3, "`group` must be a regular expression, got 3"),
        ("nothing", r"`data_dir` .*: `group` 'nothing' matches no picture's file name, such as '0\.png'"),
        (r"^a/\d", r"`group` '\^a/\\d' matches no picture's file name, such as '0\.png'"),
        ("png", "a class must have at least 2 groups of pictures, one of them for testing, got 1 of a, b"),
    ],
)
def test_groups_that_cannot_be_are_refused(tmp_path, group, message):
    fill(tmp_path, dict.fromkeys("ab", 3))
    with pytest.raises(ValueError, match=message):
        load("folder", tmp_path, group=group)
    with pytest.raises(ValueError, match=r"`group` \(--group\) is for pictures, not for `dataset` digits"):
        load("digits", group="a")


def test_decomposed_names_are_the_composed_ones(tmp_path):
    """Of classes, in training and test folders and beside each other, and of the folder that holds all."""
    fill(tmp_path / "pets" / "train", {"ba\u0308r": 6, "hase": 6})
    fill(tmp_path / "pets" / "test", {"b\u00e4r": 3, "hase": 3})
    data = load("folder", tmp_path / "pets")
    assert (data.class_names, len(data.test_images), data.notes) == (("b\u00e4r", "hase"), 6, ())
    assert "train/ba\u0308r/0.png" in data.train_files, "so that the file is found"
    png = io.BytesIO()
    picture(9).save(png, "png")
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for top in ("\u00fc", "u\u0308"):
            for name in ("b\u00e4r", "ba\u0308r", "hase"):
                archive.writestr(f"{top}/{name}/", "")
                archive.writestr(f"{top}/{name}/{len(top)}{len(name)}.png", png.getvalue())
    both = load("folder", tmp_path / "pets.zip")
    assert (both.class_names, len(both.train_images) + len(both.test_images)) == (("b\u00e4r", "hase"), 6)
    assert both.notes == (FIFTH,)
    os.mkdir(tmp_path / "u\u0308")
    fill(tmp_path / "u\u0308", dict.fromkeys("ab", 2))
    assert load("folder", tmp_path / "u\u0308").name == "\u00fc"


def test_folders_are_not_walked_without_end(tmp_path, monkeypatch):
    """Links from each of ten folders to all others are more than three million paths."""
    fill(tmp_path / "pets", dict.fromkeys("abcdefghij", 1))
    for one in "abcdefghij":
        for other in {*"abcdefghij"} - {one}:
            (tmp_path / "pets" / one / other).symlink_to(tmp_path / "pets" / other)
    monkeypatch.setattr(layout, "MOST_ENTRIES", 1000)
    with pytest.raises(
        ValueError, match="pets: it holds more than 1,000 files and folders: name the folder that holds"
    ):
        load("folder", tmp_path / "pets")
    monkeypatch.setattr(layout, "MOST_ENTRIES", 5)
    fill(tmp_path / "few", dict.fromkeys("ab", 3))
    with pytest.raises(ValueError, match=r"few\.zip: it holds more than 5 files and folders"):
        load("folder", zipped(tmp_path / "few"))


def test_a_class_is_not_called_as_what_stands_for_none(tmp_path):
    fill(tmp_path, {"silent": 3, "loud": 3})
    assert load("folder", tmp_path).class_names == ("loud", "silent")
    (tmp_path / "silent").rename(tmp_path / "(silent)")
    with pytest.raises(ValueError, match=r"`class_names` must not hold '\(silent\)'"):
        load("folder", tmp_path)


def test_classes_are_spread_evenly(tmp_path):
    counts = (40, 20, 10)
    for part in ("train", "test"):
        fill(tmp_path / part, dict(zip("abc", counts, strict=True)))
    data = load("folder", tmp_path)
    labels = data.train_labels
    assert sorted(labels[:3]) == [0, 1, 2]
    assert sorted(data.first(3, 3).test_labels) == [0, 1, 2]
    for at in range(0, 70, 14):
        np.testing.assert_allclose(np.bincount(labels[at : at + 14], minlength=3), [8, 4, 2], atol=1.5)
    assert len({tuple(labels[at : at + 7]) for at in range(0, 70, 7)}) > 5, "in no cycle"
    assert np.corrcoef(numbers(data.train_images[labels == 0]), np.arange(40))[0, 1] < 0.5, "in no order of names"


def test_names_are_sorted_as_people_do():
    names = ["10", "2", "b10c", "B2", "a", "b2", "", "1", "01", "x" * 3 + "9" * 5000]
    assert sorted(names, key=natural) == ["", "01", "1", "2", "10", "a", "B2", "b2", "b10c", names[-1]]


SAVED = {
    "png": {},
    "jpg": dict(quality=100),
    "gif": {},
    "bmp": {},
    "tiff": {},
    "webp": dict(lossless=True),
    "ppm": {},
    "JPEG": {},
}


def striped(size: tuple[int, int]) -> Image.Image:
    """Red on top, green below."""
    height, width = size
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, :, 0] = pixels[height // 2 :, :, 1] = 200
    return Image.fromarray(pixels)


def test_pictures_of_all_kinds(tmp_path):
    def save(name, image, **how):
        image.save(tmp_path / "all" / name, **how)

    (tmp_path / "all").mkdir()
    whole = striped((60, 60))
    for suffix, how in SAVED.items():
        save(f"plain.{suffix}", whole, **how)
    save("large.jpg", striped((3000, 3000)))
    save("palette.png", whole.quantize(4))
    save("cmyk.jpg", whole.convert("CMYK"), quality=100)
    save("cmyk.tif", whole.convert("CMYK"))
    save("lab.tif", Image.fromarray(np.full((60, 60, 3), 128, np.uint8), "LAB"))
    save("animated.gif", whole, save_all=True, append_images=[picture(0, (60, 60)), picture(99, (60, 60))])
    turned = whole.rotate(90, expand=True)
    exif = turned.getexif()
    exif[0x0112] = 6
    save("turned.jpg", turned, exif=exif, quality=100)
    fill(tmp_path / "other", dict(other=3), size=(30, 24))
    shutil.move(tmp_path / "other" / "other", tmp_path / "grey")
    shutil.rmtree(tmp_path / "other")
    data = load("folder", tmp_path, size=(10, 8), colour=True)
    coloured = np.concatenate([data.train_images[data.train_labels == 0], data.test_images[data.test_labels == 0]])
    assert coloured.shape == (15, 10, 8, 3)
    right = [np.allclose(each[[1, 8], 4], [[200, 0, 0], [0, 200, 0]], atol=30) for each in coloured]
    assert sum(right) == 14, "all but the one of LAB"
    grey = load("folder", tmp_path, size=(10, 8), colour=False)
    assert grey.train_images.shape[1:] == (10, 8)
    assert data.notes == grey.notes == (FIFTH,)


def test_16_bits_and_transparency(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((5, 5), 200 * 257, np.uint16)).save(tmp_path / name / "deep.png")
        Image.fromarray(np.full((5, 5), 200 * 257, np.uint16)).save(tmp_path / name / "deep.tiff")
        clear = Image.new("RGBA", (5, 5), (255, 255, 255, 128))
        clear.save(tmp_path / name / "clear.png")
    data = load("folder", tmp_path)
    assert data.train_images.shape == (4, 5, 5), "grey"
    seen = numbers(data.train_images) + numbers(data.test_images)
    assert sorted(seen) == [128, 128, 200, 200, 200, 200]
    assert data.notes[1:] == (
        "2 of 6 pictures: transparent pixels taken as black",
        "4 of 6 pictures: 16 bits a pixel taken as 8",
    ) or data.notes[1:] == (
        "4 of 6 pictures: 16 bits a pixel taken as 8",
        "2 of 6 pictures: transparent pixels taken as black",
    )


def test_proportions_are_kept(tmp_path):
    """What does not fit is cut off at both sides."""
    pixels = np.zeros((20, 60), np.uint8)
    pixels[:, 20:40] = 100
    pixels[:, :20] = 250
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    Image.fromarray(pixels.T).save(tmp_path / "tall.png")
    for name, size in (("wide", "60x20"), ("tall", "20x60")):
        seen, notes = read_picture(tmp_path / f"{name}.png", (10, 10))
        assert np.all(seen == 100)
        assert notes == [f"resized from {size} to 10x10, 67 % of it cut off to keep its proportions"]
    seen, notes = read_picture(tmp_path / "wide.png", (10, 30))
    np.testing.assert_array_equal(seen, pixels[::2, ::2])
    assert notes == ["resized from 60x20 to 30x10"]
    seen, notes = read_picture(tmp_path / "wide.png", (20, 60, 3), invert=True)
    np.testing.assert_array_equal(seen, 255 - np.stack([pixels] * 3, axis=-1))
    assert notes[0] == "inverted"


def test_the_size_that_pictures_have(tmp_path, monkeypatch):
    fill(tmp_path / "pets", dict.fromkeys(CLASSES, 5))
    assert load("folder", tmp_path / "pets").train_images.shape == (12, 7, 9)
    odd = tmp_path / "pets" / "Bee" / "odd.png"
    picture(3, (40, 20)).save(odd)
    for sample in (folder.SAMPLE, 1):  # where the sample holds the odd one, and where it does not
        monkeypatch.setattr(folder, "SAMPLE", sample)
        data = load("folder", tmp_path / "pets")
        assert data.train_images.shape == (13, 32, 32)
        assert data.notes[1].startswith(
            "pictures of several sizes or large ones are taken as 32x32: `size` (--size) sets"
        )
    data = load("folder", tmp_path / "pets", size=12)
    assert (data.train_images.shape, data.notes) == (
        (13, 12, 12),
        (
            FIFTH,
            "15 of 16 pictures: enlarged, the smallest from 9x7",
            "1 of 16 pictures: more than 25 % cut off to keep their proportions",
        ),
    )
    (tmp_path / "pets" / "Bee" / "broken.png").write_bytes(b"no picture")
    note = load("folder", tmp_path / "pets", size=12).notes[2]
    assert note.startswith("1 of 16 pictures: more than"), "those that can be read"
    (tmp_path / "pets" / "Bee" / "broken.png").unlink()
    assert load("folder", tmp_path / "pets", size=(12, 6)).train_images.shape == (13, 12, 6)
    odd.unlink()
    picture(3, (600, 600)).save(odd)
    for path in (tmp_path / "pets").rglob("*.png"):
        picture(9, (600, 600)).save(path)
    assert load("folder", tmp_path / "pets").train_images.shape == (13, 32, 32), "large ones are not kept unasked"


AS_GREY = "`colour=False` (--no_colour) takes them as grey"


@pytest.mark.parametrize(("coloured", "colour"), [(0, False), (1, False), (2, True), (3, True)])
def test_colour_is_as_most_pictures_are(tmp_path, coloured, colour):
    fill(tmp_path, dict.fromkeys(CLASSES, 4))
    for name in CLASSES[:coloured]:
        for path in (tmp_path / name).iterdir():
            Image.new("RGB", (9, 7), (90, 20, 20)).save(path)
    for path in (tmp_path / "Bee").iterdir():  # stored as colour, though it may hold none
        Image.open(path).convert("RGB").save(path)
    data, planes = load("folder", tmp_path), (3,) * colour
    assert data.train_images.shape[1:] == (7, 9, *planes)
    notes = [
        (),
        ("some pictures have colour, some are grey: all are taken as grey; `colour=True` (--colour) keeps it",),
        (f"some pictures have colour, some are grey: all are taken in colour; {AS_GREY}",),
        (f"the pictures are taken in colour; {AS_GREY}",),
    ]
    assert data.notes == (FIFTH, *notes[coloured])
    chosen = parts.load(vars(options.Data(dataset="folder", data_dir=tmp_path)))
    assert (chosen.digest, chosen.notes) == (data.digest, data.notes), "the command line reads the same"
    for note in console.notes(data):
        assert "colour=" not in note
        assert "--no_colour takes them as grey" in note or "--colour keeps it" in note or note == FIFTH
    for asked in (True, False):
        read = load("folder", tmp_path, colour=asked)
        assert read.train_images.shape[1:] == (7, 9, *(3,) * asked)
        assert read.notes == (FIFTH,)
        chosen = options.Data(dataset="folder", data_dir=tmp_path, colour=asked)
        assert parts.load(vars(chosen)).digest == read.digest


def test_what_is_no_picture_is_left_out(tmp_path):
    fill(tmp_path / "pets", dict.fromkeys(CLASSES, 5))
    expected = load("folder", tmp_path / "pets").digest
    for name in ("Thumbs.db", ".DS_Store", "._0.png", "labels.txt", "no_suffix"):
        (tmp_path / "pets" / "Bee" / name).write_bytes(b"x")
        (tmp_path / "pets" / name).write_bytes(b"x")
    for name in ("__MACOSX", ".git"):
        (tmp_path / "pets" / name / "Bee").mkdir(parents=True)
        picture(0).save(tmp_path / "pets" / name / "Bee" / "0.png")
    for path in (tmp_path / "pets", zipped(tmp_path / "pets")):
        data = load("folder", path)
        assert (data.digest, data.notes) == (expected, (FIFTH,))


def test_what_is_left_out_is_told(tmp_path):
    fill(tmp_path / "train", dict.fromkeys(CLASSES, 5))
    fill(tmp_path / "test", dict.fromkeys(CLASSES, 5))
    fill(tmp_path / "other", dict.fromkeys(CLASSES, 5))
    (tmp_path / "train" / "cow").mkdir()
    for number in range(5):
        picture(1).save(tmp_path / "test" / f"{number}.png")
    assert load("folder", tmp_path).notes == (
        "train/ and test/ are used; left out: other/",
        "pictures in no class's folder are left out: test/0.png, test/1.png, test/2.png and 2 more",
        "folders without pictures are left out: cow",
    )


def test_pictures_that_cannot_be_read_are_named(tmp_path):
    fill(tmp_path / "pets", dict.fromkeys(CLASSES, 6))
    expected = load("folder", tmp_path / "pets")
    bad = tmp_path / "pets" / "ant 2"
    whole = (bad / "0.png").read_bytes()
    (bad / "a.jpg").write_bytes(b"")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 70), np.uint8)).save(bad / "b.png")
    (bad / "b.png").write_bytes((bad / "b.png").read_bytes()[:3000])
    (bad / "c.heic").write_bytes(b"ftypheic")
    (bad / "d.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n%%EndComments\nshowpage\n")
    Image.fromarray(np.zeros((7, 9), np.float32)).save(bad / "e.tif")
    for path in (tmp_path / "pets", zipped(tmp_path / "pets")):
        data = load("folder", path)
        assert np.bincount(np.concatenate([data.train_labels, data.test_labels])).tolist() == [6, 6, 6]
        assert data.train_images.shape[1:] == expected.train_images.shape[1:]
        assert len(data.train_images) == len(data.train_labels)
        np.testing.assert_array_equal(data.train_images[:, 0, 0] // 40, data.train_labels)
        _, note = data.notes
        assert note.startswith("5 of 23 pictures are left out: ant 2/a.jpg is no image that can be read, of PNG, JPEG")
        assert "; ant 2/b.png cannot be read: " in note
        assert note.endswith(" and 2 more")
    for name in ("0", "1", "2", "3", "4", "5"):
        (bad / f"{name}.png").write_bytes(whole[:40])
    with pytest.raises(snnjax.InputError, match=r": 11 of 23 pictures are left.*; no training picture of ant 2 can be"):
        load("folder", tmp_path / "pets")


def test_a_class_without_test_pictures_is_told(tmp_path):
    for part in ("train", "test"):
        fill(tmp_path / part, dict.fromkeys(CLASSES, 2))
    for number in range(2):
        (tmp_path / "test" / "Bee" / f"{number}.png").write_bytes(b"")
    data = load("folder", tmp_path)
    assert data.notes[-1] == "no test picture of Bee can be read"
    assert np.bincount(data.test_labels).tolist() == [2, 2]
    for path in (tmp_path / "test").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="no test picture of ant 2, ant 10, Bee can be read"):
        load("folder", tmp_path)


def test_odd_files_warn_of_nothing(tmp_path):
    fill(tmp_path, dict.fromkeys(CLASSES, 3))
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x05junk"
    for name in "ab":
        Image.new("RGB", (9, 7)).save(tmp_path / "Bee" / f"{name}.jpg", exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load("folder", tmp_path).notes == (FIFTH,)


def test_links(tmp_path):
    fill(tmp_path / "real", dict.fromkeys(CLASSES, 5))
    (tmp_path / "pets").mkdir()
    for name in CLASSES[:2]:
        os.symlink(tmp_path / "real" / name, tmp_path / "pets" / name)
    (tmp_path / "pets" / "Bee").mkdir()
    for number in range(5):
        os.symlink(tmp_path / "real" / "Bee" / f"{number}.png", tmp_path / "pets" / "Bee" / f"{number}.png")
    expected = load("folder", tmp_path / "real").digest
    assert load("folder", tmp_path / "pets").digest == expected
    os.symlink(tmp_path / "pets", tmp_path / "pets" / "Bee" / "round")
    os.mkfifo(tmp_path / "pets" / "Bee" / "pipe.png")
    data = load("folder", tmp_path / "pets")
    assert (data.digest, data.notes) == (expected, (FIFTH,))
    os.symlink("nowhere.png", tmp_path / "pets" / "Bee" / "broken.png")
    assert "1 of 16 pictures are left out: Bee/broken.png cannot be read" in load("folder", tmp_path / "pets").notes[1]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "there are no pictures in it (.png, .jpg"),
        (["a.txt"], "there are no pictures in it"),
        (["1.png", "2.png"], "each of several classes, got pictures in no class's folder"),
        (["cat/1.png", "cat/2.png"], "each of several classes, got those of one: cat"),
        (
            ["cat/1.png", "cat/2.png", "dog/1.png"],
            "a class must have at least 2 pictures, one of them for testing, got",
        ),
        (
            ["train/cat/1.png", "train/dog/1.png", "test/Cat/1.png", "test/dog/1.png"],
            "train/ and test/ must hold folders of the same classes: train/ lacks Cat, test/ lacks cat",
        ),
        (
            [*(f"train/{n}/1.png" for n in range(12)), "test/1/1.png"],
            "same classes: test/ lacks 0, 2, 3 and 8 more",
        ),
        (
            ["train/cat/1.png", "train/dog/1.png", "test/1.png", "test/2.png"],
            "test/ must hold a folder for each class as train/ does, it has none; without test/, a fifth of train/",
        ),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, names, message):
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(0).save(path) if name.endswith(".png") else path.write_text("")
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load("folder", tmp_path)
    assert str(caught.value).startswith(f"`data_dir` {tmp_path}: ")


def test_what_is_no_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`data_dir` .*nowhere: there is no such folder or \.zip file"):
        load("folder", tmp_path / "nowhere")
    (tmp_path / "text.zip").write_text("text")
    with pytest.raises(ValueError, match=r"`data_dir` must be a folder of pictures or a \.zip file of one, got"):
        load("folder", tmp_path / "text.zip")
    with pytest.raises(
        ValueError, match=r"`data_dir` must name the folder or \.zip file of pictures for `dataset` fol"
    ):
        load("folder")
    with pytest.raises(ValueError, match=r"`size` \(--size\) is for pictures and recordings, not for `dataset` digits"):
        load("digits", size=28)
    fill(tmp_path / "line\nbreak", dict.fromkeys(("a", "b\n"), 3))
    with pytest.raises(ValueError, match=r"`class_names` must be of printable characters, got 'b\\n'"):
        load("folder", tmp_path / "line\nbreak")


@pytest.mark.parametrize("size", [0, -1, 4097, True, 1.5, (3,), (3, 0), (3, 4, 5), "28"])
def test_a_size_that_is_none_is_refused(tmp_path, size):
    with pytest.raises(ValueError, match=r"`size` must be (an integer|one integer or two|at (least 1|most 4096))"):
        picture_folder(tmp_path, size)


def test_pictures_too_small_for_a_network(tmp_path):
    fill(tmp_path, dict.fromkeys(CLASSES, 3))
    data = load("folder", tmp_path, size=4)
    with pytest.raises(ValueError, match=rf"images of {tmp_path.name} have 4x4 pixels: take a larger `size`"):
        network_for(snnjax.NETWORKS["mozafari2018"], data)


def archive_of(path: pathlib.Path, content: bytes, **how) -> pathlib.Path:
    """A .zip file of two classes, of one of which this is a picture."""
    png = io.BytesIO()
    picture(9).save(png, "png")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a", "b"):
            for number in range(9):
                archive.writestr(f"{name}/{number}.png", png.getvalue())
        archive.writestr("b/bad.png", content)
    return path


def loaded_in_little_memory(path):
    tracemalloc.start()
    data = load("folder", path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000
    return data


def test_zip_files_that_hold_too_much(tmp_path, monkeypatch):
    path = archive_of(tmp_path / "pets.zip", bytes(50_000_000))
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(layout, "MOST_BYTES", 1_000_000)
    data = loaded_in_little_memory(path)
    assert "b/bad.png cannot be read: it holds 50000000 bytes, unzipped, at most 1000000 are read" in data.notes[1]
    monkeypatch.setattr(layout, "FREE", 1_000_000)
    with pytest.raises(ValueError, match=r"pets\.zip holds 5000\d+ bytes, unzipped: at most \d+ are read"):
        load("folder", path)


def test_a_zip_file_that_holds_more_than_it_says(tmp_path):
    path = archive_of(tmp_path / "pets.zip", bytes(50_000_000))
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 50_000_000), struct.pack("<I", 500)))
    data = loaded_in_little_memory(path)
    assert "1 of 19 pictures are left out: b/bad.png cannot be read: " in data.notes[1]


def test_names_of_files_do_not_reach_the_terminal_as_they_are(tmp_path):
    fill(tmp_path, dict.fromkeys(CLASSES, 3))
    (tmp_path / "Bee" / "\x1b[31m\udcffred.png").write_bytes(b"")
    assert "Bee/?[31m?red.png is no image" in load("folder", tmp_path).notes[1]


def test_compressions_without_a_limit_are_not_read(tmp_path):
    fill(tmp_path / "pets", dict.fromkeys(CLASSES, 3))
    with pytest.raises(ValueError, match="cannot be read: its compression, number 12, is none that is read"):
        load("folder", zipped(tmp_path / "pets", compression=zipfile.ZIP_BZIP2))


def test_damaged_zip_files(tmp_path):
    fill(tmp_path / "pets", dict.fromkeys(CLASSES, 5))
    whole = zipped(tmp_path / "pets").read_bytes()
    path = tmp_path / "cut.zip"
    for length in range(0, len(whole), len(whole) // 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"`data_dir` must be .* got .*cut\.zip: "):
            load("folder", path)
    draw = np.random.default_rng(0)
    for _ in range(30):
        damaged = bytearray(whole)
        for at in draw.integers(0, len(whole), 5):
            damaged[at] = draw.integers(256)
        path.write_bytes(damaged)
        try:
            load("folder", path)
        except ValueError as error:
            assert "cut.zip" in str(error) or "class_names" in str(error)


def test_zip_files_of_other_systems(tmp_path):
    """Names with backslashes, in other normal forms, and without entries for folders."""
    png = io.BytesIO()
    picture(9).save(png, "png")
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for name in ("set\\bär", "/set/ba\u0308r", "set\\hase", "../set/hase"):
            for number in range(2):
                archive.writestr(f"{name}/{number}{len(name)}.png", png.getvalue())
    data = load("folder", tmp_path / "pets.zip")
    assert data.class_names == ("bär", "hase")


class UnixInfo(zipfile.ZipInfo):
    """A file that Info-ZIP on Unix has packed: its name is UTF-8, without the flag that says so."""

    def _encodeFilenameFlags(self):
        return self.filename.encode(), self.flag_bits & ~0x800


@pytest.mark.parametrize(("system", "name"), [(3, "bär"), (0, "bär".encode().decode("cp437"))])
def test_names_in_utf_8_without_its_flag(tmp_path, system, name):
    png = io.BytesIO()
    picture(9).save(png, "png")
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for number in range(4):
            info = UnixInfo(f"{'bär' if number % 2 else 'hase'}/{number}.png")
            info.create_system = system
            archive.writestr(info, png.getvalue())
    data = load("folder", tmp_path / "pets.zip")
    assert data.class_names == (name, "hase")
    assert len(data.train_images) == 2


def test_a_bar_is_shown_on_a_terminal_alone(tmp_path):
    fill(tmp_path / "pets", dict.fromkeys(CLASSES, 5))
    command = [sys.executable, "-c", f"from snnjax.data import load; print(load('folder', {str(tmp_path / 'pets')!r}))"]
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=os.environ | dict(TERM="xterm"))
    out = process.communicate()[0]
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert process.returncode == 0
    assert "reading pictures" in shown
    assert out.startswith(b"Dataset(pets: ")
    done = subprocess.run(command, capture_output=True, check=True)
    assert b"reading" not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("size", "colour", "least"), [(28, False, 0.65), (32, True, 0.35)])
def test_networks_learn_from_folders(tmp_path, size, colour, least):
    """The digits, grey and in the colour of sand."""
    known = digits()
    for part in ("train", "test"):
        images, labels = getattr(known, f"{part}_images"), getattr(known, f"{part}_labels")
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = tmp_path / part / f"digit {label}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image[..., None] * np.array([1.0, 0.8, 0.3])).astype(np.uint8)).save(path)
    data = load("folder", tmp_path, size=size, colour=colour)
    network = network_for(snnjax.NETWORKS["mozafari2018"], data)
    trainer = snnjax.Trainer(network, data, snnjax.Settings((7, 7, 8), batch_size=100, patience=0))
    state = trainer.run(trainer.initial_state())
    assert state.epochs[-1]["test"]["accuracy"] > least
