"""`snnjax evaluate` and `snnjax predict`: decisions on data sets, pictures and folders of them."""

import csv
import dataclasses
import json
import os
import pathlib
import re
import shutil

import numpy as np
import pytest
from command import RUN, Command, called, read, refused, table
from PIL import Image

from snnjax import data
from snnjax.app import console, planning, report, shared_options
from snnjax.app.commands import predict
from snnjax.networks import Observed
from snnjax.networks.decision import Decided
from snnjax.runs.trained import Trained

DIGITS = data.digits()


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
    assert f"test image 3 of digits, label {DIGITS.subset(40, 40).test_labels[3]}: " in out
    assert results["test"]["confusion_matrix"] == matrix.tolist()
    assert results["test"]["accuracy"] == pytest.approx(np.trace(matrix) / 40)
    assert results["misclassified"] == wrong
    out = called(capsys, "evaluate", RUN, "--out", "figures.json")
    figures = json.loads((work / "figures.json").read_text())
    assert {name: figures[name] for name in results["test"]} == results["test"]
    np.fill_diagonal(matrix, 0)
    row = matrix[matrix.max(axis=1).argmax()]
    assert f"{row.argmax()} ({console.times(row.max())})" in out.split("most often confused with")[1]
    assert [console.times(count) for count in (1, 2, 1234)] == ["once", "2 times", "1,234 times"]


def test_pictures_are_decided_on(work, capsys):
    """By name in words, with notes on how they were read; light ones are told of once, where most are light."""
    network = Trained.read(RUN).spiking_network()
    resized = 255 - np.asarray(Image.open("paper.png").convert("L").resize((28, 28), Image.Resampling.BOX))
    paper = report.decided(network.model.predict(network.model.encode(resized)), "0123456789")
    out = called(capsys, "predict", RUN, "paper.png", "--invert", "--out", "drawn")
    assert f"paper.png: {paper} resized from 300 high, 300 wide to 28 high, 28 wide inverted" in out
    assert "time step │ input │ layer1 │ layer2" in re.sub("[┃|]", "│", out)
    assert os.listdir("drawn") == ["0_paper.png"]
    pictures = ["paper.png", "digit.png"] * 2
    assert "light" not in called(capsys, "predict", RUN, *pictures)
    out = called(capsys, "predict", RUN, *pictures, "paper.png")
    assert "the background is light, that of the training was dark: try --invert" in out


@pytest.mark.parametrize(
    ("learned", "light", "inverted", "words"),
    [
        ("light", 0.1, False, "the background is dark, that of the training was light: try --invert"),
        ("dark", 0.9, True, "the background is light, that of the training was dark: leave out --invert"),
        (None, 0.9, False, ""),
    ],
)
def test_another_background_than_that_of_the_training_is_noted(work, learned, light, inverted, words):
    trained = Trained.read(RUN)
    trained.settings["background"] = learned
    assert predict.background_advice(trained, light, inverted) == words


def test_a_run_on_data_of_ones_own_needs_no_options_afterwards(work, monkeypatch, capsys):
    """The run says where the data are, and from whichever folder; that of a run made in Python does not."""
    (work / "sets").mkdir()
    dataclasses.replace(DIGITS.subset(40, 40), name="mine").save("sets/mine.npz")
    chosen = shared_options.TrainData(dataset="sets/mine.npz", validation=0)
    options = shared_options.Network(), chosen, shared_options.Training(), shared_options.Machine()
    plan, path = planning.plan_run(*options, out=None)
    about = plan.source
    assert (about["dataset"], path.name) == (str(work / "sets" / "mine.npz"), "goupy2024_ncg_mine")
    known = Trained.read(RUN)
    dataclasses.replace(known, settings=about).save(f"{RUN}/weights.npz")
    monkeypatch.chdir("sets")
    run, expected = f"../{RUN}", read(work / RUN)["test"]
    assert f"data: {work}/sets/mine.npz, as in {run}" in called(capsys, "evaluate", run, "--out", "figures.json")
    assert json.loads(pathlib.Path("figures.json").read_text()).items() >= expected.items()
    os.rename("mine.npz", "moved.npz")
    assert f"there is no file {work}/sets/mine.npz" in refused(Command("evaluate"), capsys, run)
    dataclasses.replace(known, settings={}).save(f"{run}/weights.npz")
    assert "`dataset` must be named" in refused(Command("evaluate"), capsys, run)
    out = called(capsys, "evaluate", run, "--dataset", "moved.npz", "--test_images", 41, "--out", "moved.json")
    assert "--test_images 41: there are only 40" in out
    assert json.loads(pathlib.Path("moved.json").read_text()).items() >= expected.items()


def test_folders_of_pictures_are_decided_on_in_blocks(work, monkeypatch, capsys):
    """With labels by the nearest folder named after a class; what is decided on is kept if the command stops."""
    classes = ("cafe\u0301", "two", "three", *(f"class {number}" for number in range(7)))
    dataclasses.replace(Trained.read(RUN), class_names=classes).save(f"{RUN}/weights.npz")
    folders = {"cafe\u0301": "caf\u00e9", "others": "", "test/three/two": "two", "two": "two"}
    labels = {f"many/{name}/{number}.png": label for name, label in folders.items() for number in range(2)}
    labels["many/z_black.png"] = ""
    images = [*DIGITS.test_images[:8].astype(np.uint8), np.zeros((28, 28), np.uint8)]
    for path, image in zip(labels, images, strict=True):
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    (work / "many" / "notes.txt").touch()
    shutil.copy("bad.png", "many/broken.png")
    Command("predict").main([RUN, "many", "--csv", "all.csv"])
    out, err = capsys.readouterr()
    assert "many/broken.png is not an image" in err
    rows = table("all.csv")
    assert {row["image"]: row["label"] for row in rows} == labels
    network = Trained.read(RUN).spiking_network()
    for row, image in zip(rows, images, strict=True):
        expected = network.model.predict(network.model.encode(image))
        assert (row["number"], row["class"]) == (str(expected.decision), network.class_name(expected.decision))
        scores = [float(value) for name, value in row.items() if name.startswith("score")]
        np.testing.assert_allclose(scores, expected.scores, rtol=1e-5)
    assert (rows[-1]["class"], rows[-1]["number"]) == ("(silent)", "-1")
    right = sum(row["class"] == row["label"] for row in rows)
    silent = sum(row["class"] == "(silent)" for row in rows if row["label"])
    assert " ".join(out.split()).endswith(f"{right} of 6 agree with their labels, {silent} silent")

    def stopped(path, **settings):
        if path.name == "z_black.png":
            raise MemoryError
        return data.read_picture(path, **settings)

    monkeypatch.setattr(predict, "read_picture", stopped)
    with pytest.raises(MemoryError):
        called(capsys, "predict", RUN, "many", "--csv", "some.csv")
    assert table("some.csv") == rows[:7], "a batch of three, without the broken one, and one of four"
    monkeypatch.chdir("many/two")
    called(capsys, "predict", work / RUN, "0.png", "../two/1.png", "--csv", "near.csv")
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
        assert predict.csv_text(first) == f"'{first}"
    assert predict.csv_text("1=2") == "1=2"


def test_names_that_terminals_would_obey(work, capsys):
    """And names that are no UTF-8, which can neither be printed nor written as they are, or with markup."""
    odd = "runs/_x$5_$[/b]"
    shutil.copytree(RUN, odd)
    (work / "odd").mkdir()
    for name, source in ((b"esc\x1b[31m$5_$.png", "digit"), (b"\xff.png", "digit"), (b"bad\x1b[31m.png", "bad")):
        shutil.copy(f"{source}.png", work / "odd" / os.fsdecode(name))
    (work / "odd" / "gone.png").symlink_to("nowhere.png")
    with pytest.raises(SystemExit, match="2"):
        called(capsys, "predict", RUN, "bad.png", "none.png", "--csv", "odd.csv")
    assert capsys.readouterr().err.endswith("snnjax predict: none of 2 pictures can be read\n")
    Command("predict").main([odd, "odd", "--csv", "odd.csv", "--out", "drawn"])
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert "odd/esc?[31m$5_$.png: " in out
    assert "bad?[31m.png is not an image" in err
    assert "there is no file odd/gone.png; left out" in err
    assert [row["image"] for row in table("odd.csv")] == ["odd/esc?[31m$5_$.png", "odd/?.png"]
    assert len(os.listdir("drawn")) == 2
    assert f"{odd}/report.html" in called(capsys, "report", odd)


def test_modules_behind_import_swallow_no_pictures(work, capsys):
    """Nor runs: the option takes one module, and may be repeated."""
    for name in ("mine", "first", "second"):
        pathlib.Path(f"{name}.py").write_text(f"print('imported {name}')\n")
    for behind in (["--import", "mine.py", "digit.png"], ["--import=mine.py", "digit.png", "--as_is"]):
        assert "digit.png: " in called(capsys, "predict", RUN, *behind)
    assert "digit.png: " in called(capsys, "predict", "--import", "mine.py", RUN, "digit.png", "--as_is")
    printed = called(capsys, "predict", "--import", "first.py", "--import", "second.py", RUN, "digit.png")
    assert printed.startswith("imported first imported second digit.png: ")
