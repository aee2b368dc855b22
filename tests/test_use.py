"""Using a trained network: evaluate.py, predict.py, and report.py over one or several runs."""

import csv
import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import command
import numpy as np
import pytest
from command import Command
from PIL import Image
from test_cli import TINY, script, snapshot, tiny, whole  # noqa: F401  (fixtures)

from snnjax import Images, InputError, data
from snnjax.app import options, parts, report, tested
from snnjax.app.commands import predict
from snnjax.app.commands.predict import csv_text
from snnjax.core import files
from snnjax.data.pictures import read_picture
from snnjax.networks import Observed
from snnjax.networks.decision import Decided
from snnjax.runs import trained
from snnjax.runs.run_folder import RunFolder
from snnjax.runs.trained import Trained
from snnjax.training.loop import Trainer
from snnjax.training.state import FORMAT, Settings

RUN = "runs/first"


@pytest.fixture
def work(whole, monkeypatch, tmp_path):  # noqa: F811
    """A folder to work in, with a run and a picture."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(whole, RUN)
    image = data.digits().test_images[3]
    Image.fromarray(image.astype(np.uint8)).save("digit.png")
    Image.fromarray(255 - image.astype(np.uint8)).resize((300, 300)).convert("RGB").save("paper.jpg")
    return tmp_path


def called(name, monkeypatch, capsys, *arguments) -> str:
    capsys.readouterr()
    Command(name).main(arguments)
    return " ".join(capsys.readouterr().out.split())


def refused(name, monkeypatch, capsys, *arguments) -> str:
    return command.refused(Command(name), capsys, *arguments)


def test_a_run_is_evaluated_as_at_its_end(work, monkeypatch, capsys):
    results = json.loads((work / RUN / "results.json").read_text())
    out = called("evaluate", monkeypatch, capsys, RUN, "--test_images", 40, "--out", "figures.json")
    figures = json.loads((work / "figures.json").read_text())
    assert {name: figures[name] for name in results["test"]} == results["test"]
    assert f"test accuracy {results['test']['accuracy']:.2%}" in out
    assert "most often confused with" in out
    assert "figures.json: these figures and the confusion matrix" in out
    before = snapshot(work)
    line = refused("evaluate", monkeypatch, capsys, RUN, "--out", "figures.json")
    assert "already exists" in line
    assert snapshot(work) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere"),
        ([RUN, "--dataset", "emnist_letters", "--data_dir", "."], "holds neither the files of emnist_letters"),
        ([RUN, "--test_images", "0"], "`test_images` must be at least 1, got 0"),
        ([RUN, "--out", "no/folder.json"], "there is no folder no to write folder.json into"),
        (["digit.png"], "digit.png is damaged or no checkpoint"),
        ([f"{RUN}/checkpoint.npz"], "holds no trained network"),
    ],
)
def test_evaluations_that_are_refused(work, monkeypatch, capsys, arguments, message):
    assert message in refused("evaluate", monkeypatch, capsys, *arguments)


@pytest.mark.parametrize(
    ("known", "message"),
    [
        (
            dict(dataset="folder", data_dir="/"),
            "the data of RUN: / is the root folder or of the system; name others by",
        ),
        (dict(dataset="folder", data_dir="/proc"), "/proc is the root folder or of the system"),
        (dict(dataset="mnist", data_dir="{folder}/link"), "link is the root folder or of the system"),
        (dict(dataset="{folder}/pipe.npz"), "pipe.npz must be a regular file, got a device, pipe or socket"),
        (dict(dataset=["digits"]), "RUN says that `dataset` of its data is ['digits']: name data (--dataset)"),
        (dict(dataset="digits", data_dir=3), "RUN says that `data_dir` of its data is 3"),
        (dict(dataset="digits", size=32), "RUN says that `size` of its data is 32"),
    ],
)
def test_where_a_run_says_that_its_data_are_is_not_believed(tmp_path, capsys, known, message):
    """Its file may come from anyone."""
    (tmp_path / "link").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe.npz")
    said = {name: each.format(folder=tmp_path) if isinstance(each, str) else each for name, each in known.items()}
    with pytest.raises(InputError) as caught:
        tested.load(options.TestData(), said, (8, 8), "RUN")
    assert message in str(caught.value)
    assert capsys.readouterr().out == ""


def test_where_data_are_is_said_where_the_run_says_it(tmp_path, capsys):
    three().save(tmp_path / "three.npz")
    known = dict(dataset=str(tmp_path / "three.npz"), data_dir=None, size=[], colour=False)
    tested.load(options.TestData(), known, (28, 28), "RUN")
    assert capsys.readouterr().out == f"data: {tmp_path}/three.npz, as RUN says; --dataset names others\n"
    tested.load(options.TestData(dataset=known["dataset"]), dict(data_dir=[3]), (28, 28), "RUN")
    tested.load(options.TestData(), dict(dataset="digits"), (28, 28), "RUN")
    assert capsys.readouterr().out == ""


FAST_GROUPS = [r"^o\d+", r"(\w+)_(\d{3})\.png$", r"[^_|]+", r"(?P<name>\w+)-", r"(?:person)(\d+)", r"[]a+(]*\)+"]
SLOW_GROUPS = [
    r"(a+)+$",
    r"(a|aa)*$",
    r"((a+)){9}",
    r"a*a*a*b",
    r"(a+)\1*",
    r"(?:a?b?)+",
    "a|b",
    "x" * 201,
    r"(?=a+)b",
    "[a](b*)*",
]


@pytest.mark.parametrize("group", FAST_GROUPS + SLOW_GROUPS)
def test_expressions_that_may_never_end_are_found(group):
    re.compile(group)
    assert parts.is_fast(group) == (group in FAST_GROUPS)


@pytest.mark.parametrize("named", [False, True], ids=["of the run", "the same, named"])
def test_an_expression_that_may_never_end_is_taken_from_runs_of_this_user_alone(tmp_path, monkeypatch, named):
    run, pictures = tmp_path / "run", tmp_path / "pictures"
    run.mkdir(mode=0o755)
    (run / trained.WEIGHTS).touch(0o644)
    for name in "ab":
        (pictures / name).mkdir(parents=True)
        for number in range(5):
            Image.new("L", (8, 8)).save(pictures / name / f"{'a' * 40}{number}.png")
    known = dict(dataset="folder", data_dir=str(pictures), size=[], colour=False, group="(a+)+[0-9]")
    chosen = options.TestData(dataset="folder", data_dir=pictures) if named else options.TestData()
    with pytest.raises(InputError, match="a class must have at least 2 groups"):
        tested.load(chosen, known, (8, 8), run)
    known["group"] = "(a+)+$"  # which no name ends in
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(InputError) as caught:
        tested.load(chosen, known, (8, 8), run)
    assert str(caught.value) == (
        f"`group` '(a+)+$' of {run} may never end, and {run / trained.WEIGHTS} lies in {run}, which belongs to another "
        "user: name other data (--dataset, --data_dir), or copy the run to trust it"
    )


def test_a_report_shows_pictures_of_its_own_folder_alone(tmp_path, monkeypatch):
    """A link may lead to any file, or to a device."""
    shown = []
    monkeypatch.setattr(report, "run_page", lambda results, run, pictures: shown.append(pictures) or "")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "pictures" / "weights.png").symlink_to(tmp_path / "secret")
    (tmp_path / "pictures" / "confusion.png").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pictures" / "activity.png")
    report.write(tmp_path, {}, [])
    assert shown == [{}]


def test_pictures_are_decided_on(work, monkeypatch, capsys):
    trained = Trained.read(RUN)
    network = trained.spiking_network()
    images = [
        np.asarray(Image.open("digit.png")),
        255 - np.asarray(Image.open("paper.jpg").convert("L").resize((28, 28), Image.Resampling.BOX)),
    ]
    expected = [int(network(image)) for image in images]
    out = called("predict", monkeypatch, capsys, RUN, "digit.png")
    assert f"digit.png: class {expected[0]} " in out
    assert "resized" not in out
    assert "input" in out
    assert "layer1" in out
    out = called("predict", monkeypatch, capsys, RUN, "paper.jpg", "--invert", "--out", "drawn")
    assert f"paper.jpg: class {expected[1]} resized from 300x300 to 28x28 inverted" in out
    assert os.listdir("drawn") == ["0_paper.png"]
    out = called("predict", monkeypatch, capsys, RUN, "paper.jpg")
    assert out.endswith("light background: 1 of 1; use --invert if the network has learned light strokes on dark")


def test_light_pictures_are_told_of_once(work, monkeypatch, capsys):
    """And only where most are light and are not inverted yet."""
    shutil.copy("paper.jpg", "more.jpg")
    out = called("predict", monkeypatch, capsys, RUN, "paper.jpg", "more.jpg", "digit.png")
    assert out.count("--invert") == 1
    assert "light background: 2 of 3; use --invert" in out
    for named in (["paper.jpg", "digit.png"], ["digit.png", "--invert"]):
        assert "--invert" not in called("predict", monkeypatch, capsys, RUN, *named)


def test_zip_files_of_pictures_are_for_other_options(work, monkeypatch, capsys):
    shutil.make_archive("pictures", "zip", work, "digit.png")
    line = refused("predict", monkeypatch, capsys, RUN, "pictures.zip")
    assert "`PICTURE` must be an image file or a folder, got pictures.zip: unpack it" in line
    assert "only `--data_dir` takes it" in line


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is no image"), (b"\x89PNG\r\n\x1a\n" + b"x" * 50, "cannot be read"), (None, "there is no file bad.png")],
)
def test_files_that_are_no_pictures(work, monkeypatch, capsys, content, message):
    if content is not None:
        (work / "bad.png").write_bytes(content)
    line = refused("predict", monkeypatch, capsys, RUN, "bad.png")
    assert "bad.png" in line
    assert message in line


def test_truncated_pictures(work, monkeypatch, capsys):
    picture = (work / "digit.png").read_bytes()
    for length in range(8, len(picture) // 2, 7):
        (work / "bad.png").write_bytes(picture[:length])
        assert "bad.png" in refused("predict", monkeypatch, capsys, RUN, "bad.png")


@pytest.mark.parametrize("mode", ["CMYK", "P", "1", "I;16", "LA", "F"])
def test_pictures_of_other_kinds(work, monkeypatch, capsys, mode):
    plain = Image.open("digit.png")
    if mode == "I;16":
        Image.fromarray(np.asarray(plain).astype(np.uint16) * 257).save("other.tiff")
    else:
        plain.convert(mode).save("other.tiff")
    if mode == "F":
        assert "other.tiff cannot be read: it holds floats" in refused(
            "predict", monkeypatch, capsys, RUN, "other.tiff"
        )
        return
    out = called("predict", monkeypatch, capsys, RUN, "other.tiff")
    assert ("16 bits a pixel taken as 8" in out) == (mode == "I;16")
    if mode in ("P", "I;16", "LA"):
        assert out.split("classes")[1] == called("predict", monkeypatch, capsys, RUN, "digit.png").split("classes")[1]


def test_no_picture_runs_a_program(work, monkeypatch, capsys):
    """PostScript would be handed to an interpreter."""
    (work / "bad.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n%%EndComments\nshowpage\n")
    assert "bad.png is no image that can be read" in refused("predict", monkeypatch, capsys, RUN, "bad.png")


def test_names_with_markup_and_dollars(work, monkeypatch, capsys):
    shutil.copytree(RUN, "runs/_x$5_$[/b]")
    out = called("report", monkeypatch, capsys, RUN, "runs/_x$5_$[/b]")
    assert "[/b]" in out
    os.rename("digit.png", "money_$5_$.png")
    called("predict", monkeypatch, capsys, "runs/_x$5_$[/b]", "money_$5_$.png", "--out", "drawn")
    assert os.listdir("drawn") == ["0_money_$5_$.png"]


def test_a_finished_run_that_lost_files_is_finished_anew(work, script, whole):  # noqa: F811
    for path in (work / RUN / "weights.npz", work / RUN / "report.html"):
        path.unlink()
    shutil.rmtree(work / RUN / "pictures")
    script.main([*TINY, "--out", RUN, "--resume"])
    found, expected = (Trained.read(folder).weights for folder in (work / RUN, whole))
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    assert len(list((work / RUN / "pictures").iterdir())) == len(list((whole / "pictures").iterdir()))


def test_a_report_is_written_anew(work, monkeypatch, capsys):
    (work / RUN / "report.html").unlink()
    for picture in (work / RUN / "pictures").glob("features*"):
        picture.unlink()
    out = called("report", monkeypatch, capsys, RUN, "--images", 5, 7)
    assert f"{RUN}/report.html" in out
    names = {path.name for path in (work / RUN / "pictures").iterdir()}
    assert names >= {"features_layer1.png", "features_layer2.png", "image_00005.png", "image_00007.png"}
    page = (work / RUN / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(names)
    assert "`images` must lie in 0..39, got 400" in refused("report", monkeypatch, capsys, RUN, "--images", 400)


def test_runs_are_compared(work, script, monkeypatch, capsys):  # noqa: F811
    script.main([*TINY, "--batch_size", "10", "--out", "runs/second"])
    out = called("report", monkeypatch, capsys, RUN, "runs/second")
    page = (work / "runs" / "comparison.html").read_text().replace("<wbr>", "")
    for text in (RUN, "runs/second", "batch_size", "test accuracy, %"):
        assert text in page
        assert text in out
    assert ">seed<" not in page, "only settings that differ are shown"
    assert "comparison.html" in out
    assert "comparison.html" in called("report", monkeypatch, capsys, RUN, "runs/second"), "a page of ours"
    (work / "runs" / "comparison.html").write_text("<html>mine</html>")
    assert "comparison.html already exists" in refused("report", monkeypatch, capsys, RUN, "runs/second")
    assert "runs that differ" in refused("report", monkeypatch, capsys, RUN, RUN, "--out", "other.html")
    assert "holds no results.json" in refused("report", monkeypatch, capsys, RUN, "runs", "--out", "other.html")
    (work / "runs" / "sweep.json").touch()
    for others in ([], [RUN, "--out", "other.html"]):
        line = refused("report", monkeypatch, capsys, "runs", *others)
        assert "runs is the folder of a sweep, whose results are in runs/sweep.json" in line
    results = json.loads((work / "runs" / "second" / "results.json").read_text())
    damages = ["[]", "[" * 100_000, json.dumps(results | dict(test={})), json.dumps(results | dict(best_epoch=99))]
    for text in [
        *damages,
        json.dumps(results | dict(phases=[1])),
        json.dumps({**results, "network": 0} | dict(epochs=3)),
    ]:
        (work / "runs" / "second" / "results.json").write_text(text)
        line = refused("report", monkeypatch, capsys, RUN, "runs/second", "--out", "o.html")
        assert "runs/second/results.json is damaged" in line


def test_layers_are_used_again_from_the_command_line(work, script, capsys):  # noqa: F811
    for each in (work / RUN, *(work / RUN).rglob("*")):
        each.chmod(0o755 if each.is_dir() else 0o644)  # whatever the umask
    script.main([*TINY, "--batch_size", "10", "--out", "runs/second"])
    assert f"layer1 is that of {RUN}, trained from the same images, settings and seed" in capsys.readouterr().out
    script.main([*TINY, "--batch_size", "10", "--no_reuse", "--out", "runs/third"])
    assert "is that of" not in capsys.readouterr().out
    second, third = (json.loads((work / "runs" / name / "results.json").read_text()) for name in ("second", "third"))
    assert second["epochs"] == third["epochs"]


def three() -> data.Dataset:
    """A set of one's own: three of the digits."""
    digits = data.digits()
    train, test = digits.train_labels < 3, digits.test_labels < 3
    return data.Dataset(
        "three",
        digits.train_images[train][:30].round().astype(np.uint8),
        digits.train_labels[train][:30],
        digits.test_images[test][:15].round().astype(np.uint8),
        digits.test_labels[test][:15],
        classes=3,
    )


@pytest.mark.slow
def test_a_run_on_data_of_ones_own_needs_no_options_afterwards(work, script, monkeypatch, capsys):  # noqa: F811
    """The run says where the data are, and from whichever folder they are found."""
    (work / "sets").mkdir()
    three().save(work / "sets" / "mine.npz")
    script.main(["--model", "tiny", "--epochs", "1", "2", "--dataset", "sets/mine.npz"])
    run = work / "runs" / "tiny_mine"
    results = json.loads((run / "results.json").read_text())
    assert (results["data"], results["settings"]["dataset"]) == ("mine", str(work / "sets" / "mine.npz"))
    assert len(results["test"]["confusion_matrix"]) == 3
    (work / "elsewhere").mkdir()
    monkeypatch.chdir(work / "elsewhere")
    called("evaluate", monkeypatch, capsys, run, "--out", "figures.json")
    figures = json.loads(pathlib.Path("figures.json").read_text())
    assert {name: figures[name] for name in results["test"]} == results["test"]
    called("report", monkeypatch, capsys, run, "--images", 2, 4)
    assert {path.name for path in (run / "pictures").iterdir()} > {"image_00002.png", "image_00004.png"}
    assert "`images` must lie in 0..14, got 15" in refused("report", monkeypatch, capsys, run, "--images", 15)
    script.main(
        ["--model", "tiny", "--epochs", "1", "2", "--dataset", "../sets/mine.npz", "--out", str(run), "--resume"]
    )
    (work / "sets" / "mine.npz").rename(work / "moved.npz")
    for name, extra in (("evaluate", []), ("report", ["--images", 2])):
        line = refused(name, monkeypatch, capsys, run, *extra)
        assert f"there is no file {work / 'sets' / 'mine.npz'}" in line
        called(name, monkeypatch, capsys, run, *extra, "--dataset", "../moved.npz")


@pytest.mark.parametrize(
    ("shape", "classes", "message"),
    [
        ((28, 28), 20, "the network has 10 classes, mine has 20"),
        ((20, 20), 10, "the network takes images of 28x28, those of mine are 20x20"),
        ((32, 32, 3), 10, "the network takes images of 28x28, those of mine are 32x32x3"),
    ],
)
def test_data_that_do_not_fit_are_refused(work, monkeypatch, capsys, shape, classes, message):
    images, labels = np.full((20, *shape), 9, np.uint8), np.arange(20, dtype=np.int32) % classes
    data.Dataset("mine", images, labels, images, labels, classes).save("mine.npz")
    before = snapshot(work)
    for name, *arguments in (("evaluate",), ("predict", "--images", 19), ("report", "--images", 19)):
        assert message in refused(name, monkeypatch, capsys, RUN, *arguments, "--dataset", "mine.npz")
    assert snapshot(work) == before


def test_a_run_made_in_python_is_evaluated_on_a_file(work, monkeypatch, capsys):
    """Its settings say nothing of where its data are."""
    images = dataclasses.replace(data.digits().first(40, 40), name="mine")
    trainer = Trainer(tiny(Images()), images, Settings((1, 1), batch_size=20))
    with RunFolder("runs/mine", trainer, {}) as run:
        results = run.finish(trainer.run(run.start(), run.save))
    for line in (
        refused("evaluate", monkeypatch, capsys, "runs/mine"),
        refused("report", monkeypatch, capsys, "runs/mine", "--images", 1),
    ):
        assert "`dataset` must be named, since the run does not say what it was trained on: one of digits, " in line
    images.save("mine.npz")
    called("evaluate", monkeypatch, capsys, "runs/mine", "--dataset", "mine.npz", "--out", "figures.json")
    figures = json.loads(pathlib.Path("figures.json").read_text())
    assert {name: figures[name] for name in results["test"]} == results["test"]
    called("report", monkeypatch, capsys, "runs/mine", "--images", 1, "--dataset", "mine.npz")
    assert pathlib.Path("runs/mine/pictures/image_00001.png").exists()


def test_pictures_of_other_data_have_names_of_their_own(work, monkeypatch, capsys):
    """Those of the run stay."""
    called("report", monkeypatch, capsys, RUN, "--images", 3)
    before = (work / RUN / "pictures" / "image_00003.png").read_bytes()
    images = data.digits()
    dataclasses.replace(images, test_images=images.test_images[::-1]).save("an other.npz")
    called("report", monkeypatch, capsys, RUN, "--images", 3, "--dataset", "an other.npz")
    assert (work / RUN / "pictures" / "image_00003.png").read_bytes() == before
    assert (work / RUN / "pictures" / "image_an_other_00003.png").read_bytes() != before
    page = (work / RUN / "report.html").read_text()
    assert "test image 3: when each" in page
    assert "test image 3 of an_other: when each" in page


@pytest.mark.parametrize("found", [1, None])
def test_runs_of_another_format_are_refused_in_one_line(work, script, monkeypatch, capsys, found):  # noqa: F811
    """As earlier versions have left them; no command takes them for what they are not."""
    for name in ("weights.npz", "checkpoint.npz"):
        arrays, meta = files.load_checkpoint(work / RUN / name)
        del meta["format"]
        files.save_checkpoint(work / RUN / name, arrays, meta if found is None else meta | dict(format=found))
    before = snapshot(work)
    for name, *arguments in (("evaluate", RUN), ("predict", RUN, "digit.png"), ("report", RUN)):
        line = refused(name, monkeypatch, capsys, *arguments)
        assert (
            f"{RUN}/weights.npz was written by another version of snnjax (format {found}, now {trained.FORMAT})" in line
        )
    line = refused("train", monkeypatch, capsys, *TINY, "--out", RUN, "--resume")
    now = f"(format {found}, now {FORMAT})"
    assert f"{RUN}/checkpoint.npz was written by another version of snnjax {now}" in line
    after = snapshot(work)
    assert {name: content for name, (_, content) in after.items()} == {name: x for name, (_, x) in before.items()}


def test_a_new_folder_of_pictures_is_tested_whole(work, monkeypatch, capsys):
    """Not that of the training, of which the pictures for testing stay the same."""
    digits = data.digits()
    for number, (image, label) in enumerate(zip(digits.test_images[:60], digits.test_labels[:60], strict=True)):
        (work / "new" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.astype(np.uint8)).save(work / "new" / str(label) / f"{number}.png")
    named = ("--dataset", "folder", "--data_dir", "new")
    out = called("evaluate", monkeypatch, capsys, RUN, *named)
    assert "no test folder: all pictures are for testing" in out
    assert "on 60 test images of new" in out
    chosen = options.TestData(dataset="folder", data_dir=pathlib.Path("new"))
    known = dict(dataset="folder", data_dir=str(work / "new"))
    for each in (chosen, options.TestData()):
        images = tested.load(each, known, (28, 28), "RUN").images
        assert images.notes == ("no test folder: a fifth of each class is for testing",)
        assert len(images.test_images) < 20


def test_folders_of_pictures_are_decided_on(work, monkeypatch, capsys):
    """More than a few pictures: a line each, and a table in a file."""
    (work / "pictures" / "more").mkdir(parents=True)
    for number, image in enumerate(data.digits().test_images[:5]):
        folder = work / "pictures" / "more" if number % 2 else work / "pictures"
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{number}.png")
    (work / "pictures" / "notes.txt").touch()
    (work / "pictures" / "broken.png").write_bytes(b"no picture")
    Command("predict").main([RUN, "pictures", "--csv", "decided.csv"])
    out, err = capsys.readouterr()
    assert out.count(".png: ") == 5
    assert "broken.png is no image" in err
    assert "time step" not in out
    with open("decided.csv", newline="") as file:
        rows = {pathlib.Path(row["image"]).stem: row for row in csv.DictReader(file)}
    network = Trained.read(RUN).spiking_network()
    for number, image in enumerate(data.digits().test_images[:5]):
        decision = int(network(image.astype(np.uint8)))
        row = rows[str(number)]
        assert (row["image"], row["label"]) == (f"pictures/{'more/' * (number % 2)}{number}.png", "")
        assert (row["class"], row["number"]) == (network.class_name(decision), str(decision))
        assert len([name for name in rows[str(number)] if name.startswith("score")]) == 10
    assert "decided.csv already exists" in refused(
        "predict", monkeypatch, capsys, RUN, "digit.png", "--csv", "decided.csv"
    )
    (work / "empty").mkdir()
    assert "empty holds no pictures" in refused("predict", monkeypatch, capsys, RUN, "empty")
    assert "`PICTURE` is missing" in refused("predict", monkeypatch, capsys, RUN)


def test_pictures_in_folders_of_classes_have_labels(work, monkeypatch, capsys):
    """By the nearest folder that is named after a class, however the picture is named, in any Unicode form."""
    names = ("cafe\u0301", "two", "three", *(f"class {number}" for number in range(7)))
    dataclasses.replace(Trained.read(RUN), class_names=names).save(f"{RUN}/weights.npz")
    labels = {
        "set/two/1.png": "two",
        "set/test/three/two/2.png": "two",
        "set/cafe\u0301/3.png": "caf\u00e9",
        "set/others/4.png": "",
    }
    for path in map(pathlib.Path, labels):
        path.parent.mkdir(parents=True)
        shutil.copy("digit.png", path)
    called("predict", monkeypatch, capsys, RUN, "set", "--csv", "set.csv")
    out = called("predict", monkeypatch, capsys, RUN, "set/two", "set/test/three", *labels, "--csv", "each.csv")
    for table in ("set.csv", "each.csv"):
        with open(table, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
            assert {row["image"]: row["label"] for row in rows} == labels
    labelled = [row for row in rows if row["label"]]
    right = sum(row["class"] == row["label"] for row in labelled)
    silent = sum(row["class"] == "(silent)" for row in labelled)
    assert out.endswith(f"{right} of 5 as labelled, {silent} silent")
    monkeypatch.chdir("set/two")
    called("predict", monkeypatch, capsys, work / RUN, "1.png", "../two/1.png", "--csv", "near.csv")
    with open("near.csv", newline="", encoding="utf-8") as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["two", "two"]


def test_one_unreadable_picture_loses_no_other(work, monkeypatch, capsys):
    (work / "bad.png").write_bytes(b"no picture")
    Command("predict").main([RUN, "bad.png", "digit.png", "missing.png", "--csv", "decided.csv"])
    out, err = capsys.readouterr()
    assert "digit.png: " in out
    assert [line.endswith("; left out") for line in err.splitlines()] == [True, True]
    assert "bad.png is no image" in err
    assert "there is no file missing.png" in err
    with open("decided.csv", newline="") as file:
        assert [row["image"] for row in csv.DictReader(file)] == ["digit.png"]
    with pytest.raises(SystemExit):
        called("predict", monkeypatch, capsys, RUN, "bad.png", "missing.png")
    assert "none of 2 pictures can be read" in capsys.readouterr().err


def test_spreadsheets_run_no_cell(tmp_path):
    names = ("=1+1", '@"sum"', "-2")
    image = predict.Source("+picture;=2.png", "+picture;=2.png", "", "\uff1done", None, lambda: None)
    decided = [Decided(number, np.zeros(1), np.array([-1.5, 0, 2])) for number in (0, 1, 2, -1)]
    block = [predict.Classified(image, np.zeros((2, 2)), [], Observed({}, each)) for each in decided]
    predict.append(tmp_path / "some.csv", block, names)
    head, *rows = csv.reader((tmp_path / "some.csv").read_text().splitlines())
    assert head == ["image", "file", "label", "class", "number", "score =1+1", 'score @"sum"', "score -2"]
    assert [row[:4] for row in rows] == [
        ["'+picture;=2.png", "", "'\uff1done", name] for name in ("'=1+1", '\'@"sum"', "'-2", "(silent)")
    ]
    assert [row[4:] for row in rows] == [[str(number), "-1.5", "0.0", "2.0"] for number in (0, 1, 2, -1)]
    assert '"\'+picture;=2.png",' in (tmp_path / "some.csv").read_text(), "quoted, whatever separates cells"
    for first in "=+-@\t\r\n":
        assert csv_text(first) == f"'{first}"
    assert csv_text("1=2") == "1=2"


def test_many_pictures_are_decided_on_in_blocks(work, monkeypatch, capsys):
    """As one by one, and what is decided on is in the file although a later picture stops the command."""
    monkeypatch.setattr(predict, "BLOCK", 4)
    (work / "many").mkdir()
    digits = data.digits().test_images[:10].astype(np.uint8)
    for number, image in enumerate(digits):
        Image.fromarray(image).save(work / "many" / f"{number}.png")
    Image.new("L", (28, 28)).save(work / "many" / "black.png")
    called("predict", monkeypatch, capsys, RUN, "many", "--csv", "all.csv")
    with open("all.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    network = Trained.read(RUN).spiking_network()
    assert [row["image"] for row in rows] == [*(f"many/{number}.png" for number in range(10)), "many/black.png"]
    for row, image in zip(rows, [*digits, np.zeros((28, 28), np.uint8)], strict=True):
        found = network.model.predict(network.model.encode(image))
        assert int(row["number"]) == found.decision
        scores = [float(value) for name, value in row.items() if name.startswith("score")]
        np.testing.assert_allclose(scores, found.scores, rtol=1e-5)
    assert (rows[-1]["class"], rows[-1]["number"]) == ("(silent)", "-1")

    def stopped(path, shape, invert):
        if path.name == "black.png":
            raise MemoryError
        return read_picture(path, shape, invert)

    monkeypatch.setattr(predict, "read_picture", stopped)
    with pytest.raises(MemoryError):
        called("predict", monkeypatch, capsys, RUN, "many", "--csv", "some.csv")
    assert (work / "some.csv").read_text().splitlines() == (work / "all.csv").read_text().splitlines()[:9]


def test_targets_are_checked_before_pictures_are_read(work, monkeypatch, capsys):
    (work / "bad.png").write_bytes(b"no picture")
    (work / "drawn").mkdir()
    (work / "drawn" / "0_bad.png").touch()
    for target in (["--csv", "no/folder.csv"], ["--csv", "digit.png"], ["--out", "drawn"]):
        line = refused("predict", monkeypatch, capsys, RUN, "bad.png", *target)
        assert "already exists" in line or "there is no folder no" in line
    (work / "bad").mkdir()
    (work / "bad.png").rename(work / "bad" / "bad.png")
    with pytest.raises(SystemExit):
        called("predict", monkeypatch, capsys, RUN, "bad", "--csv", "none.csv")
    assert "none of 1 pictures can be read" in capsys.readouterr().err
    assert not (work / "none.csv").exists()


def test_names_that_terminals_would_obey(work, monkeypatch, capsys):
    """And names that are no UTF-8, which can neither be printed nor written as they are."""
    for name, content in ((b"esc\x1b[31mred.png", True), (b"\xff.png", True), (b"bad\x1b[31m.png", False)):
        (work / "odd").mkdir(exist_ok=True)
        path = work / "odd" / os.fsdecode(name)
        shutil.copy("digit.png", path) if content else path.write_bytes(b"no picture")
    for extra in ([], ["--out", "drawn"]):
        Command("predict").main([RUN, "odd", "--csv", f"odd{len(extra)}.csv", *extra])
        out, err = capsys.readouterr()
        assert "\x1b" not in out + err
        assert "odd/esc?[31mred.png: " in out
        assert "bad?[31m.png is no image" in err
        text = (work / f"odd{len(extra)}.csv").read_text(encoding="utf-8")
        cells = [row[0] for row in csv.reader(text.splitlines())]
        assert cells == ["image", "odd/esc?[31mred.png", "odd/?.png"]
    assert len(os.listdir("drawn")) == 2


def test_test_images_are_decided_on_by_number(work, monkeypatch, capsys):
    out = called("predict", monkeypatch, capsys, RUN, "--images", 3, "--out", "drawn", "--csv", "decided.csv")
    assert f"test image 3 of digits, label {data.digits().test_labels[3]}: " in out
    head, row = (work / "decided.csv").read_text().splitlines()
    assert head.startswith('"image","file","label","class","number","score 0",')
    assert row.startswith(f'"3","","{data.digits().test_labels[3]}",')
    assert os.listdir("drawn") == ["0_image_00003.png"]
    assert "`images` must lie in 0..39, got 360" in refused("predict", monkeypatch, capsys, RUN, "--images", 360)


OWN = '''
import numpy as np
import snnjax
from snnjax import RSTDP, WTA, Conv, Network, stage


@snnjax.component
class Early(snnjax.Learner):
    """Winners move towards early inputs."""

    rate: float = 0.1
    bounds = (0.0, 1.0)

    def update(self, layer, state, latency, response, signal):
        early = layer.receptive_fields(latency, response.winners) < 5
        old = layer.rows_of(response.winners)
        return layer.with_rows(response.winners, old + self.rate * (early - old)), state, response.winners.feature


def mine(images):
    features = Conv(4, kernel=5, padding=2, threshold=20, competition=WTA(2, radius=3), learners=Early())
    deciding = Conv(2 * images.classes, 4, learners=RSTDP())
    return Network("mine", images.input_shape, images.classes, (stage(features, pool=7), stage(deciding)))
'''
"""But for the rule the network `tiny`, so that they share programs."""


def test_networks_and_rules_of_ones_own_are_named_on_the_command_line(work, monkeypatch, capsys):
    (work / "rules.py").write_text(OWN + "\n\nOWN = 3\n")
    (work / "bad.py").write_text("import snnjax\nsnnjax.Conv(4, 3, threshold=float('nan'))\n")
    short = [*TINY[TINY.index("--train_images") :]]
    called("train", monkeypatch, capsys, "--model", "rules.py:mine", *short)
    results = json.loads(pathlib.Path("runs/mine_digits/results.json").read_text())
    assert "Early layer1" in [phase["name"] for phase in results["phases"]]
    command = [sys.executable, "-m", "snnjax", "evaluate", "runs/mine_digits", "--test_images", "40"]
    done = subprocess.run([*command, "--import", "rules.py"], capture_output=True, text=True, check=True)
    assert f"test accuracy {results['test']['accuracy']:.2%}" in done.stdout
    refusal = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refusal.returncode == 2
    assert "import the module that defines it" in refusal.stderr
    for model, words in {
        "rules.py:mime": "`model` rules.py:mime: rules.py has no 'mime': did you mean 'mine'?",
        "rules.py:OWN": "must be a Network, or a function of `Images`, got 3",
        "bad.py:mine": "bad.py, line 2: `threshold` must be",
        "rule.py:mine": "there is no file rule.py",
        "no.such:mine": "no.such",
    }.items():
        assert words in refused("train", monkeypatch, capsys, "--model", model, *short)
