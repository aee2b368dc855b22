"""Using a trained network: the commands `evaluate`, `predict`, and `report` over one or several runs."""

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
import jax
import numpy as np
import pytest
from command import Command
from PIL import Image
from test_cli import read, snapshot
from tiny import TRAIN

from snnjax import InputError, data
from snnjax.app import options, parts, plots, report, tested
from snnjax.app.commands import predict, train
from snnjax.app.commands.predict import csv_text
from snnjax.data.pictures import read_picture
from snnjax.networks import Observed
from snnjax.networks.decision import Decided
from snnjax.runs import trained
from snnjax.runs.run_folder import RunFolder
from snnjax.runs.trained import Trained

RUN = "runs/first"
DIGITS = data.digits()


@pytest.fixture
def work(finished, monkeypatch, tmp_path):
    """A folder to work in, with a run and pictures, where drawing takes no time."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, RUN)
    picture = Image.fromarray(DIGITS.test_images[3].astype(np.uint8))
    picture.save("digit.png")
    Image.fromarray(255 - np.asarray(picture)).resize((300, 300)).convert("RGB").save("paper.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    drawn = (finished / "pictures" / "weights.png").read_bytes()
    monkeypatch.setattr(plots, "png", lambda figure: drawn)
    monkeypatch.setattr(predict, "BLOCK", 4)
    yield tmp_path
    jax.config.update("jax_default_device", None)


def called(capsys, name, *arguments) -> str:
    """What a command prints, in one line."""
    capsys.readouterr()
    Command(name).main(arguments)
    return " ".join(capsys.readouterr().out.split())


def refused(capsys, name, *arguments) -> str:
    return command.refused(Command(name), capsys, *arguments)


def table(path: str) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_run_is_evaluated_as_at_its_end(work, capsys):
    results = read(RUN)
    out = called(capsys, "predict", RUN, "--images", *range(40), "--csv", "decided.csv")
    matrix, wrong = np.zeros((10, 10), int), []
    for number, row in enumerate(table("decided.csv")):
        assert row["image"] == str(number)
        if row["number"] != "-1":
            matrix[int(row["label"]), int(row["number"])] += 1
        if row["class"] != row["label"]:
            wrong.append(dict(image=number, file=None, label=row["label"], decision=row["class"]))
    assert f"test image 3 of digits, label {DIGITS.first(40, 40).test_labels[3]}: " in out
    assert results["test"]["confusion_matrix"] == matrix.tolist()
    assert results["test"]["accuracy"] == pytest.approx(np.trace(matrix) / 40)
    assert results["misclassified"] == wrong
    out = called(capsys, "evaluate", RUN, "--out", "figures.json")
    figures = json.loads((work / "figures.json").read_text())
    assert {name: figures[name] for name in results["test"]} == results["test"]
    np.fill_diagonal(matrix, 0)
    row = matrix[matrix.max(axis=1).argmax()]
    assert f"{row.argmax()} ({row.max()} times)" in out.split("most often confused with")[1]
    before = snapshot(work)
    assert "already exists" in refused(capsys, "evaluate", RUN, "--out", "figures.json")
    assert snapshot(work) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "nowhere"], "there is no run nowhere"),
        (["evaluate", RUN, "--test_images", 0], "`test_images` must be at least 1, got 0"),
        (["evaluate", RUN, "--out", "no/folder.json"], "there is no folder no to write folder.json into"),
        (["evaluate", RUN, "--dataset", "odd.npz"], "the network takes images of 28x28, those of odd are 20x20"),
        (["evaluate", f"{RUN}/checkpoint.npz"], "holds no trained network"),
        (["predict", RUN], "`PICTURE` is missing"),
        (["predict", RUN, "--images", 40], "`images` must lie in 0..39, got 40"),
        (["predict", RUN, "--images", 3, -1], "`images` must lie in 0..39, got -1"),
        (["predict", RUN, "some.zip"], "`PICTURE` must be an image file or a folder, got some.zip"),
        (["predict", RUN, "bad.png", "none.png", "--csv", "none.csv"], "none of 2 pictures can be read"),
        (["predict", RUN, "bad.png", "--csv", "digit.png"], "digit.png already exists"),
        (["predict", RUN, "bad.png", "--out", "drawn"], "0_bad.png already exists"),
        (["report"], "`RUN` is missing"),
        (["report", RUN, "--out", "page.html"], "`out` is for several runs"),
        (["report", RUN, RUN, "--out", "page.html"], "`RUN` must name runs that differ"),
        (["report", RUN, RUN, "--images", 1], "`images` are drawn of one run"),
        (["report", RUN, "swept", "--out", "page.html"], "swept is the folder of a sweep"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_what_commands_refuse_changes_nothing(work, capsys, arguments, message):
    """Targets are checked before pictures are read."""
    images, labels = np.zeros((20, 20, 20), np.uint8), np.arange(20) % 10
    data.Dataset("odd", images, labels, images, labels).save("odd.npz")
    for path in ("drawn/0_bad.png", "swept/sweep.json"):
        (work / path).parent.mkdir()
        (work / path).touch()
    before = snapshot(work)
    with pytest.raises(SystemExit) as caught:
        Command(arguments[0]).main(arguments[1:])
    assert caught.value.code == 2
    *_, line, end = capsys.readouterr().err.split("\n")
    assert line.startswith(f"snnjax {arguments[0]}: ")
    assert message in line
    assert end == ""
    assert snapshot(work) == before


def test_where_a_run_says_that_its_data_are_is_not_believed(tmp_path, capsys):
    """Its file may come from anyone."""
    (tmp_path / "link").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe.npz")
    for known, message in (
        (dict(dataset="mnist", data_dir=f"{tmp_path}/link"), "the data of RUN: .*link is the root folder"),
        (dict(dataset=f"{tmp_path}/pipe.npz"), "pipe.npz must be a regular file, got a device, pipe or socket"),
        (dict(dataset="folder", data_dir=f"{tmp_path}/gone"), "gone: say where they are by `data_dir`"),
        (dict(dataset="digits", size=32), "RUN says that `size` of its data is 32"),
    ):
        with pytest.raises((InputError, FileNotFoundError), match=message):
            tested.load(options.TestData(), known, (8, 8), "RUN")
    assert capsys.readouterr().out == ""


def test_expressions_that_may_never_end_are_found():
    fast = [r"^o\d+", r"(\w+)_(\d{3})\.png$", r"[^_|]+", r"(?P<name>\w+)-", r"(?:person)(\d+)", r"[]a+(]*\)+"]
    slow = [r"(a+)+$", r"(a|aa)*$", r"((a+)){9}", r"a*a*a*b", r"(a+)\1*", r"(?:a?b?)+", "a|b", "x" * 201]
    slow += [r"(?=a+)b", "[a](b*)*"]
    assert [group for group in fast + slow if parts.is_fast(group)] == fast


def test_an_expression_that_may_never_end_is_taken_from_runs_of_this_user_alone(tmp_path, monkeypatch):
    run = tmp_path / "run"
    run.mkdir(mode=0o755)
    (run / trained.WEIGHTS).touch(0o644)
    for name in "ab":
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(5):
            Image.new("L", (8, 8)).save(tmp_path / "pictures" / name / f"{'a' * 40}{number}.png")
    folder = tmp_path / "pictures"
    known = dict(dataset="folder", data_dir=str(folder), size=[], colour=False)
    for chosen in (options.TestData(), options.TestData(dataset="folder", data_dir=folder)):
        with pytest.raises(InputError, match="a class must have at least 2 groups"):
            tested.load(chosen, known | dict(group="(a+)+[0-9]"), (8, 8), run)
        with monkeypatch.context() as patch:
            patch.setattr(os, "geteuid", lambda: os.getuid() + 1)
            with pytest.raises(InputError, match=r"`group` '\(a\+\)\+\$' of .* may never end, .* to another user"):
                tested.load(chosen, known | dict(group="(a+)+$"), (8, 8), run)  # which no name ends in


def test_pictures_are_decided_on(work, capsys):
    """By name in words, with notes on how they were read; light ones are told of once, where most are light."""
    network = Trained.read(RUN).spiking_network()
    resized = 255 - np.asarray(Image.open("paper.png").convert("L").resize((28, 28), Image.Resampling.BOX))
    paper = report.decided(network.model.predict(network.model.encode(resized)), "0123456789")
    out = called(capsys, "predict", RUN, "paper.png", "--invert", "--out", "drawn")
    assert f"paper.png: {paper} resized from 300x300 to 28x28 inverted" in out
    assert "time step │ input │ layer1 │ layer2" in re.sub("[┃|]", "│", out)
    assert os.listdir("drawn") == ["0_paper.png"]
    assert "light" not in called(capsys, "predict", RUN, "paper.png", "digit.png", "paper.png", "digit.png")
    out = called(capsys, "predict", RUN, "paper.png", "digit.png", "paper.png", "digit.png", "paper.png")
    assert "light background: 3 of 5; use --invert" in out


def test_a_finished_run_that_lost_files_is_finished_anew(work, finished, capsys):
    lost = ("weights.npz", "report.html")
    for name in lost:
        (work / RUN / name).unlink()
    shutil.rmtree(work / RUN / "pictures")
    called(capsys, "train", *TRAIN, "--out", RUN, "--resume")
    found, expected = (Trained.read(folder).weights for folder in (work / RUN, finished))
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, name)
    assert (work / RUN / "report.html").exists()
    assert {*os.listdir(work / RUN / "pictures")} == {*os.listdir(finished / "pictures")}


def test_a_report_is_written_anew(work, capsys):
    """With pictures of test images; those of other data have other names, and those of the run stay."""
    pictures = work / RUN / "pictures"
    (work / RUN / "report.html").unlink()
    (pictures / "features_layer1.png").unlink()
    called(capsys, "report", RUN, "--images", 5, 7)
    names = {path.name for path in pictures.iterdir()}
    assert names >= {"features_layer1.png", "image_00005.png", "image_00007.png"}
    dataclasses.replace(DIGITS, test_images=DIGITS.test_images[::-1]).save("an other.npz")
    called(capsys, "report", RUN, "--images", 5, "--dataset", "an other.npz")
    assert {path.name for path in pictures.iterdir()} == names | {"image_an_other_00005.png"}
    page = (work / RUN / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(names) + 1
    assert "test image 5 of an_other: when each" in page


def test_a_report_shows_pictures_of_its_own_folder_alone(tmp_path, monkeypatch):
    """A link may lead to any file, or to a device."""
    shown = []
    monkeypatch.setattr(report, "run_page", lambda results, run, pictures: shown.append(pictures) or "")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "confusion.png").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pictures" / "activity.png")
    report.write(tmp_path, {}, [])
    assert shown == [{}]


def test_a_run_beside_another_takes_its_layer_and_is_compared_with_it(work, monkeypatch, capsys):
    for each in (work / RUN, *(work / RUN).rglob("*")):
        each.chmod(0o755 if each.is_dir() else 0o644)  # whatever the umask
    arguments = [*TRAIN, "--epochs", "2", "1", "--out"]
    taken = f"layer1 is that of {RUN}, trained from the same images, settings and seed"
    assert taken in called(capsys, "train", *arguments, "runs/second")
    second = work / "runs" / "second" / "results.json"
    results, whole = read("runs/second"), read(RUN)
    assert results["reused"] == dict(layer1=RUN)
    assert results["epochs"] == whole["epochs"][:2]
    assert results["diagnoses"]["STDP layer1"] == whole["diagnoses"]["STDP layer1"]
    assert "STDP layer1" not in {phase["name"] for phase in results["phases"]}
    assert not (second.parent / "layers").exists()
    weights = [Trained.read(folder).weights["layer1"] for folder in (RUN, "runs/second")]
    np.testing.assert_array_equal(*weights)
    monkeypatch.setattr(RunFolder, "save", lambda *_: sys.exit("stopped"))
    with pytest.raises(SystemExit):
        called(capsys, "train", *arguments, "runs/third", "--no_reuse")
    assert "is that of" not in capsys.readouterr().out
    out = called(capsys, "report", RUN, "runs/second")
    page = (work / "runs" / "comparison.html").read_text().replace("<wbr>", "")
    for text in (RUN, "runs/second", "epochs", "test accuracy, %"):
        assert text in page
        assert text in out
    assert "comparison.html" in called(capsys, "report", RUN, "runs/second"), "a page of ours"
    (work / "runs" / "comparison.html").write_text("<html>mine</html>")
    assert "comparison.html already exists" in refused(capsys, "report", RUN, "runs/second")
    for damage in ("[" * 100_000, json.dumps(results | dict(best_epoch=99))):
        second.write_text(damage)
        line = refused(capsys, "report", RUN, "runs/second", "--out", "o.html")
        assert "runs/second/results.json is damaged" in line


def test_a_run_on_data_of_ones_own_needs_no_options_afterwards(work, monkeypatch, capsys):
    """The run says where the data are, and from whichever folder; that of a run made in Python does not."""
    (work / "sets").mkdir()
    dataclasses.replace(DIGITS.first(40, 40), name="mine").save("sets/mine.npz")
    chosen = options.TrainData(dataset="sets/mine.npz", validation=0)
    _, about, path = train.prepare(options.Network(), chosen, options.Training(), options.Machine())
    assert (about["dataset"], path.name) == (str(work / "sets" / "mine.npz"), "goupy2024_ncg_mine")
    known = Trained.read(RUN)
    dataclasses.replace(known, settings=about).save(f"{RUN}/weights.npz")
    monkeypatch.chdir("sets")
    run, expected = f"../{RUN}", read(work / RUN)["test"]
    assert f"data: {work}/sets/mine.npz, as {run} says" in called(capsys, "evaluate", run, "--out", "figures.json")
    assert json.loads(pathlib.Path("figures.json").read_text()).items() >= expected.items()
    os.rename("mine.npz", "moved.npz")
    assert f"there is no file {work}/sets/mine.npz" in refused(capsys, "evaluate", run)
    dataclasses.replace(known, settings={}).save(f"{run}/weights.npz")
    assert "`dataset` must be named" in refused(capsys, "evaluate", run)
    out = called(capsys, "evaluate", run, "--dataset", "moved.npz", "--test_images", 41, "--out", "moved.json")
    assert "--test_images 41: there are only 40" in out
    assert json.loads(pathlib.Path("moved.json").read_text()).items() >= expected.items()


def test_a_new_folder_of_pictures_is_tested_whole(work, capsys):
    """Not that of the training, of which the pictures for testing stay the same."""
    digits = DIGITS.first(40, 40)
    for number, (image, label) in enumerate(zip(digits.test_images, digits.test_labels, strict=True)):
        (work / "new" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.astype(np.uint8)).save(work / "new" / str(label) / f"{number}.png")
    assert "on 40 test images of new" in called(capsys, "evaluate", RUN, "--dataset", "folder", "--data_dir", "new")
    chosen = options.TestData(dataset="folder", data_dir=pathlib.Path("new"))
    known = dict(dataset="folder", data_dir=str(work / "new"))
    for each in (chosen, options.TestData()):
        images = tested.load(each, known, (28, 28), "RUN").images
        assert images.notes == ("no test folder: a fifth of each class is for testing",)
        assert len(images.test_images) < 20


def test_folders_of_pictures_are_decided_on_in_blocks(work, monkeypatch, capsys):
    """As one by one; what is decided on is in the file although a later picture stops the command."""
    (work / "many" / "more").mkdir(parents=True)
    images = [*DIGITS.test_images[:8].astype(np.uint8), np.zeros((28, 28), np.uint8)]
    names = [*(f"many/more/{number}.png" for number in range(8)), "many/z_black.png"]
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image).save(name)
    (work / "many" / "notes.txt").touch()
    shutil.copy("bad.png", "many/broken.png")
    Command("predict").main([RUN, "many", "--csv", "all.csv"])
    assert "many/broken.png is no image" in capsys.readouterr().err
    rows = table("all.csv")
    network = Trained.read(RUN).spiking_network()
    assert [row["image"] for row in rows] == names
    for row, image in zip(rows, images, strict=True):
        expected = network.model.predict(network.model.encode(image))
        assert (row["label"], row["number"]) == ("", str(int(expected.decision)))
        assert row["class"] == network.class_name(expected.decision)
        scores = [float(value) for name, value in row.items() if name.startswith("score")]
        np.testing.assert_allclose(scores, expected.scores, rtol=1e-5)
    assert (rows[-1]["class"], rows[-1]["number"]) == ("(silent)", "-1")

    def stopped(path, shape, invert):
        if path.name == "z_black.png":
            raise MemoryError
        return read_picture(path, shape, invert)

    monkeypatch.setattr(predict, "read_picture", stopped)
    with pytest.raises(MemoryError):
        called(capsys, "predict", RUN, "many", "--csv", "some.csv")
    assert table("some.csv") == rows[:7], "a block of three, without the broken one, and one of four"


def test_pictures_in_folders_of_classes_have_labels(work, monkeypatch, capsys):
    """By the nearest folder that is named after a class, however the picture is named, in any Unicode form."""
    names = ("cafe\u0301", "two", "three", *(f"class {number}" for number in range(7)))
    dataclasses.replace(Trained.read(RUN), class_names=names).save(f"{RUN}/weights.npz")
    labels = {"set/two/1.png": "two", "set/test/three/two/2.png": "two"}
    labels |= {"set/cafe\u0301/3.png": "caf\u00e9", "set/others/4.png": "", "set/other/5.png": ""}
    for path in map(pathlib.Path, labels):
        path.parent.mkdir(parents=True)
        shutil.copy("digit.png", path)
    out = called(capsys, "predict", RUN, "set", "--csv", "set.csv")
    rows = table("set.csv")
    assert {row["image"]: row["label"] for row in rows} == labels
    labelled = [row for row in rows if row["label"]]
    right = sum(row["class"] == row["label"] for row in labelled)
    silent = sum(row["class"] == "(silent)" for row in labelled)
    assert out.endswith(f"{right} of 3 as labelled, {silent} silent")
    monkeypatch.chdir("set/two")
    called(capsys, "predict", work / RUN, "1.png", "../two/1.png", "--csv", "near.csv")
    assert [row["label"] for row in table("near.csv")] == ["two", "two"]


def test_spreadsheets_run_no_cell(tmp_path):
    names = ("=1+1", '@"sum"', "-2")
    image = predict.Source("+picture;=2.png", "+picture;=2.png", "=file", "\uff1done", None, lambda: None)
    decided = [Decided(number, np.zeros(1), np.array([-1.5, 0, 2])) for number in (0, 1, 2, -1)]
    block = [predict.Classified(image, np.zeros((2, 2)), [], Observed({}, each)) for each in decided]
    predict.append(tmp_path / "some.csv", block, names)
    head, *rows = csv.reader((tmp_path / "some.csv").read_text().splitlines())
    assert head == ["image", "file", "label", "class", "number", "score =1+1", 'score @"sum"', "score -2"]
    for row, number, name in zip(rows, (0, 1, 2, -1), ("'=1+1", '\'@"sum"', "'-2", "(silent)"), strict=True):
        assert row == ["'+picture;=2.png", "'=file", "'\uff1done", name, str(number), "-1.5", "0.0", "2.0"]
    assert '"\'+picture;=2.png",' in (tmp_path / "some.csv").read_text(), "quoted, whatever separates cells"
    for first in "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20":
        assert csv_text(first) == f"'{first}"
    assert csv_text("1=2") == "1=2"


def test_names_that_terminals_would_obey(work, capsys):
    """And names that are no UTF-8, which can neither be printed nor written as they are, or with markup."""
    odd = "runs/_x$5_$[/b]"
    shutil.copytree(RUN, odd)
    (work / "odd").mkdir()
    for name, source in ((b"esc\x1b[31m$5_$.png", "digit"), (b"\xff.png", "digit"), (b"bad\x1b[31m.png", "bad")):
        shutil.copy(f"{source}.png", work / "odd" / os.fsdecode(name))
    Command("predict").main([odd, "odd", "--csv", "odd.csv", "--out", "drawn"])
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert "odd/esc?[31m$5_$.png: " in out
    assert "bad?[31m.png is no image" in err
    assert [row["image"] for row in table("odd.csv")] == ["odd/esc?[31m$5_$.png", "odd/?.png"]
    assert len(os.listdir("drawn")) == 2
    assert f"{odd}/report.html" in called(capsys, "report", odd)


OWN = """
from snnjax import RSTDP, STDP, WTA, Conv, Network, component, stage


@component
class Early(STDP):
    pass


def mine(images):
    features = Conv(4, kernel=5, padding=2, threshold=15, competition=WTA(2, radius=3), learners=Early(doubling=50))
    deciding = Conv(2 * images.classes, 4, learners=RSTDP())
    return Network("mine", images.input_shape, images.classes, (stage(features, pool=7), stage(deciding)))


NUMBER = 3
"""


def test_networks_and_rules_of_ones_own_are_named_on_the_command_line(work, capsys):
    (work / "rules.py").write_text(OWN)
    (work / "bad.py").write_text("import snnjax\nsnnjax.Conv(4, 3, threshold=float('nan'))\n")
    short = [*TRAIN[2:], "--epochs", "0", "0"]
    called(capsys, "train", "--model", "rules.py:mine", *short)
    assert read("runs/mine_digits")["settings"]["imports"] == [str(work / "rules.py")]
    evaluate = [sys.executable, "-m", "snnjax", "evaluate", "runs/mine_digits"]
    for options_given, words in (
        ([], "it holds a 'Early', unknown to this program: import the module that defines it"),
        (["--import", "rules.py", "--dataset", "none.npz"], "there is no file none.npz"),
    ):
        done = subprocess.run([*evaluate, *options_given], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert words in done.stderr
    for model, words in {
        "rules.py:mime": "`model` rules.py:mime: rules.py has no 'mime': did you mean 'mine'?",
        "rules.py:NUMBER": "must be a Network, or a function of `Images`, got 3",
        "bad.py:mine": "bad.py, line 2: `threshold` must be",
        "rule.py:mine": "there is no file rule.py",
        "no.such:mine": "`model` must name a Python file or a module, got 'no.such'",
    }.items():
        assert words in refused(capsys, "train", "--model", model, *short)
