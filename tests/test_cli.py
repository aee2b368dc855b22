"""The command `snnjax train` and what it leaves; `evaluate`, `predict`, and `report` over one or several runs."""

import csv
import dataclasses
import fcntl
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
from unittest import mock

import jax
import numpy as np
import pytest
from command import ENVIRONMENT, Command, begin, refused, until
from PIL import Image
from tiny import TRAIN

from snnjax import InputError, data
from snnjax.app import interrupts, options, parts, plots, report
from snnjax.app import main as program
from snnjax.app.commands import predict
from snnjax.app.commands.train import prepare
from snnjax.core import devices, files
from snnjax.kernels import native
from snnjax.networks import NETWORKS, Observed
from snnjax.networks.decision import Decided
from snnjax.runs.run_folder import RunFolder
from snnjax.runs.trained import Trained

STATE = ["checkpoint.npz", "checkpoint.previous.npz", "history.csv"]
LEFT = sorted([*STATE, "pictures", "report.html", "results.json", "weights.npz"])
RUN = "runs/first"
DIGITS = data.digits()


@pytest.fixture
def train(monkeypatch, tmp_path):
    """The command, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return Command("train")


def snapshot(folder: pathlib.Path) -> dict[str, tuple[int, bytes]]:
    """All files of a folder with their times and contents."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def read(folder: pathlib.Path | str) -> dict:
    """The results of a run."""
    return json.loads(pathlib.Path(folder, "results.json").read_text())


def test_a_run_leaves_its_files(finished):
    assert sorted(path.name for path in finished.iterdir()) == LEFT
    trained = Trained.read(finished)
    assert {name: w.shape for name, w in trained.weights.items()} == dict(layer1=(4, 6, 5, 5), layer2=(20, 4, 4, 4))
    assert "command" not in trained.settings, "weights are given to others"
    results = read(finished)
    assert results["command"] == shlex.join(["snnjax", "train", *TRAIN, "--out", str(finished)])
    settings = dict(model=TRAIN[1], imports=[TRAIN[1].removesuffix(":plain")], dataset="digits", encoder="grey")
    settings |= dict(time_steps=15, epochs=[2, 3], batch_size=20, patience=0, images_taken=40, test_images=40)
    assert results["settings"].items() >= settings.items()
    assert results["versions"]["jax"] == jax.__version__
    shown = {phase["name"]: phase["images"] for phase in results["phases"]}
    alone = {"encode": 80, "STDP layer1": 80, "outputs of stage 1": 40, "outputs of stage 1, test": 40}
    assert shown == alone | {"R-STDP": 120, "test": 120}
    for phase in results["phases"]:
        assert phase["images_per_second"] == pytest.approx(phase["images"] / phase["seconds"], rel=0.05)
    accuracies = [epoch["test"]["accuracy"] for epoch in results["epochs"]]
    assert results["best_epoch"] == max(range(3), key=lambda epoch: (accuracies[epoch], epoch)) == 1
    for number, (row, epoch) in enumerate(zip(table(finished / "history.csv"), results["epochs"], strict=True)):
        expected = dict(epoch=number)
        for part in ("train", "test"):
            assert sum(epoch[part].values()) == pytest.approx(1)
            expected |= {f"{part}_acc": epoch[part]["accuracy"], f"{part}_loss": epoch[part]["wrong"]}
        assert {name: float(value) for name, value in row.items()} == expected


def test_a_stopped_run_goes_on(finished, train, monkeypatch, capsys):
    """Ctrl-C in the first phase, at its end and in the last: with --resume it ends as if nothing had happened."""
    drawn = (finished / "pictures" / "weights.png").read_bytes()
    monkeypatch.setattr(plots, "png", lambda figure: drawn)  # drawing takes longer than all the rest
    save, again = RunFolder.save, [*TRAIN, "--out", "stopped", "--resume"]
    for count, names, note in (
        (1, STATE[:1], "it holds no run yet"),
        (2, STATE[:2], "going on with epoch 2 of STDP layer1\n"),
        (1, STATE, "going on with epoch 1 of R-STDP\n"),
    ):
        left = iter(range(count))

        def stop(self, state, left=left, last=count - 1):
            save(self, state)
            if next(left) == last:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(RunFolder, "save", stop)
            with pytest.raises(SystemExit) as caught:
                train.main(again)
        assert caught.value.code == 130
        assert sorted(os.listdir("stopped")) == names
        assert note in capsys.readouterr().out
    train.main(again)
    results, expected = read("stopped"), read(finished)
    assert f"test accuracy {results['test']['accuracy']:.2%}" in capsys.readouterr().out
    assert sorted(os.listdir("stopped")) == LEFT
    assert pathlib.Path("stopped/history.csv").read_text() == (finished / "history.csv").read_text()
    for name in ("epochs", "best_epoch", "test", "misclassified", "diagnoses", "curves"):
        assert results[name] == expected[name], name
    jax.tree.map(np.testing.assert_array_equal, Trained.read("stopped").weights, Trained.read(finished).weights)


def test_folders_that_are_refused_stay_as_they_are(work, train, capsys):
    run, before = work / RUN, snapshot(work / RUN)
    line = refused(train, capsys, *TRAIN, "--out", run)
    assert "already holds a run (results.json, checkpoint.npz, checkpoint.previous.npz)" in line
    with (run / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another run is writing into" in refused(train, capsys, *TRAIN, "--resume", "--out", run)
    for name in STATE[:2]:
        (run / name).unlink()
    assert "holds results but no checkpoint.npz" in refused(train, capsys, *TRAIN, "--resume", "--out", run)
    (run / ".lock").unlink(missing_ok=True)
    assert snapshot(run) == {name: each for name, each in before.items() if name not in STATE[:2]}


def test_a_finished_run_goes_on_with_the_same_data_alone(work, finished, capsys):
    """Whatever their name. Files that it has lost are made anew."""
    before, command = snapshot(work / RUN), Command("train")
    DIGITS.save("moved.npz")
    arguments = [*TRAIN, "--dataset", "moved.npz", "--patience", "0", "--out", RUN, "--resume"]
    command.main(arguments)
    assert snapshot(work / RUN) == before
    pixels, labels = DIGITS.train_images.copy(), DIGITS.train_labels.copy()
    pixels[0, 14, 14] -= 1
    labels[:2] = labels[1::-1]
    for changed in (dict(train_images=pixels), dict(train_labels=labels)):
        dataclasses.replace(DIGITS, **changed).save("moved.npz")
        line = refused(command, capsys, *arguments)
        assert f"other settings or data: it had data {read(RUN)['settings']['data']} (now sha256:" in line
    assert snapshot(work / RUN) == before
    for path in (*work.glob(f"{RUN}/pictures/*"), *(work / RUN / name for name in ("weights.npz", "report.html"))):
        path.unlink()
    command.main([*TRAIN, "--out", RUN, "--resume"])
    assert snapshot(work / RUN).keys() == before.keys()
    jax.tree.map(np.testing.assert_array_equal, Trained.read(RUN).weights, Trained.read(finished).weights)


def test_an_interrupt_leaves_a_checkpoint(tmp_path):
    """A real Ctrl-C in the middle of the last phase."""
    process = begin("train", *TRAIN, "--epochs", 1, 100000, "--patience", 0, "--out", tmp_path / "out")
    until((tmp_path / "out" / "history.csv").exists, process)
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert (process.returncode, err) == (130, "")
    assert "--resume" in out
    _, meta = files.load_checkpoint(tmp_path / "out" / "checkpoint.npz")
    assert meta["done"] == len(meta["epochs"]) > 0
    assert sorted(os.listdir(tmp_path / "out")) == STATE


LOSING = """
import contextlib, time
from snnjax.app import interrupts, main

def work():
    print("begun", flush=True)
    for _ in range(2):
        with contextlib.suppress(KeyboardInterrupt):  # as a callback of the interpreter would
            time.sleep(60)
    time.sleep(60)

interrupts.RESEND_AFTER = 0.1
main.protected(work)
"""


TURNING = """
import time
from snnjax.app import main

class Archive:
    def close(self):
        raise ValueError("Can't close the ZIP file while there is an open writing handle on it.")

    __del__ = close

def work():
    archive = Archive()
    print("begun", flush=True)
    try:
        time.sleep(60)
    finally:
        archive.close()

main.protected(work)
"""
"""As np.savez, interrupted between two of its lines."""


IMPORTING = """
import sys, time, traceback
from snnjax.__main__ import program

class Finder:
    def find_spec(name, path, target=None):
        if name == "{module}":
            print("begun", flush=True)
            try:
                time.sleep(60)
            except BaseException:
                traceback.print_exc()
                raise

sys.argv = ["snnjax", "evaluate", "run"]
sys.meta_path.insert(0, Finder)
program()
"""
"""As modules of C in NumPy, which print exceptions while they are imported, or crash."""


@pytest.mark.parametrize(
    "text",
    [LOSING, TURNING, IMPORTING.format(module="tyro"), IMPORTING.format(module="numpy")],
    ids=["swallowed", "turned into another error", "while options are imported", "while NumPy is"],
)
def test_an_interrupt_stops_a_program_whatever_becomes_of_it(text):
    streams = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process = subprocess.Popen([sys.executable, "-c", text], **streams, env=ENVIRONMENT)
    assert process.stdout.readline() == "begun\n"
    process.terminate()
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (interrupts.STOPPED, "\nStopped.\n", "")


def test_the_options_know_every_network():
    assert {*NETWORKS} == {*options.MODELS}


def test_only_faults_of_the_program_have_a_traceback(train, monkeypatch, capsys):
    """An error that no user can mend leaves the program as it is; others end it in one line, with status 2."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(sys, "argv", ["snnjax", "train"])
    for error, raised in ((ValueError("a fault"), ValueError), (OSError("no disk"), SystemExit)):
        monkeypatch.setattr(devices, "choose", mock.Mock(side_effect=error))
        try:
            with pytest.raises(raised) as caught:
                program.program()
            assert signal.getsignal(signal.SIGTERM) is interrupts._interrupt, "it stops as Ctrl-C does"
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    assert (caught.value.code, capsys.readouterr().err) == (2, "snnjax train: no disk\n")
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    with pytest.raises(SystemExit) as caught, program.user_errors("snnjax"):
        raise BrokenPipeError
    assert (caught.value.code, capsys.readouterr().err) == (1, ""), "whoever reads the output has seen enough"


def test_a_run_goes_on_with_the_kernels_that_it_began_with(tmp_path, monkeypatch, capsys, compiler):
    """Or says why it cannot; those of a damaged run are those of the checkpoint before."""
    assert parts.use_native("auto", 15, tmp_path)
    for native_before in (True, False):
        files.save_checkpoint(tmp_path / "checkpoint.previous.npz", {}, dict(settings=dict(native=native_before)))
        (tmp_path / "checkpoint.npz").write_bytes(b"damaged")
        assert parts.use_native("auto", 15, tmp_path) == native_before
    assert capsys.readouterr().out == ""
    assert not parts.use_native("auto", 256, tmp_path / "none")
    assert "at most 255 time steps, got 256" in capsys.readouterr().out
    monkeypatch.setattr(native, "load", mock.Mock(side_effect=OSError("no\ncompiler")))
    assert not parts.use_native("auto", 15, tmp_path)
    files.save_checkpoint(tmp_path / "checkpoint.npz", {}, dict(settings=dict(native=True)))
    with pytest.raises(InputError, match=r"the run in .* began on compiled kernels: no compiler$"):
        parts.use_native("auto", 15, tmp_path)
    assert not parts.use_native("auto", 15, tmp_path / "none")
    assert capsys.readouterr().out == "on XLA's kernels: no compiler\n"
    monkeypatch.setattr("snnjax.core.devices.peers", lambda: [mock.Mock(platform="gpu")])
    assert "got the device gpu" in native.unavailable()


@pytest.fixture
def work(train, finished, monkeypatch, tmp_path):
    """A folder to work in, with a run and pictures, where drawing takes no time."""
    shutil.copytree(finished, RUN)
    picture = Image.fromarray(DIGITS.test_images[3].astype(np.uint8))
    picture.save("digit.png")
    Image.fromarray(255 - np.asarray(picture)).resize((300, 300)).convert("RGB").save("paper.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    drawn = (finished / "pictures" / "weights.png").read_bytes()
    monkeypatch.setattr(plots, "png", lambda figure: drawn)
    monkeypatch.setattr(predict, "BLOCK", 4)
    return tmp_path


def called(capsys, name, *arguments) -> str:
    """What a command prints, in one line."""
    capsys.readouterr()
    Command(name).main(arguments)
    return " ".join(capsys.readouterr().out.split())


def table(path: str | pathlib.Path) -> list[dict[str, str]]:
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["train", "--model", "mozafari18"],
            "`model` must be one of .*, got 'mozafari18': did you mean 'mozafari2018'",
        ),
        (["train", "--device", "tpu"], "`device` tpu is not available; jax sees: "),
        (["train", "--seed", 2**64], f"`seed` must be at most {2**64 - 1}, got {2**64}"),
        (["train", "--draw"], "`draw` draws the images of `train_images` or of `labels`"),
        (["train", "--labels", "5"], "`labels` must be at least 10, one of each class of digits, got 5"),
        (["train", "--data_dir", "."], "`data_dir` has no effect on digits"),
        (["train", *TRAIN, "--out", "digit.png"], "digit.png is a file, not a folder"),
        (["train", "--epoch", 1], "Unrecognized options: --epoch"),
        (["evaluate", "nowhere"], "there is no run nowhere"),
        (["evaluate", RUN, "--test_images", 0], "`test_images` must be at least 1, got 0"),
        (["evaluate", RUN, "--out", "no/folder.json"], "there is no folder no to write folder.json into"),
        (["evaluate", RUN, "--dataset", "odd.npz"], "the network takes images of 28x28, those of odd are 20x20"),
        (["evaluate", RUN, "--out", "digit.png"], "digit.png already exists"),
        (["evaluate", f"{RUN}/checkpoint.npz"], "holds no trained network"),
        (["predict", RUN], "`PICTURE` is missing"),
        (["predict", RUN, "--images", 3, 40], "`images` must lie in 0..39, got 40"),
        (["predict", RUN, "some.zip"], "`PICTURE` must be an image file or a folder, got some.zip"),
        (["predict", RUN, "bad.png", "--csv", "digit.png"], "digit.png already exists"),
        (["predict", RUN, "bad.png", "--out", "drawn"], "0_bad.png already exists"),
        (["data", "digits", "--out", "odd.npz"], "odd.npz already exists"),
        (["data", "digits", "mnist", "--out", "x.npz"], "`out` stores one data set, got 2"),
        (["report"], "`RUN` is missing"),
        (["report", RUN, "--out", "page.html"], "`out` is for several runs"),
        (["report", RUN, RUN, "--out", "page.html"], "`RUN` must name runs that differ"),
        (["report", RUN, RUN, "--images", 1], "`images` are drawn of one run"),
        (["report", RUN, "swept", "--out", "page.html"], "swept is the folder of a sweep"),
    ],
    ids=lambda value: " ".join(map(str, value[-4:])) if isinstance(value, list) else "",
)
def test_what_commands_refuse_changes_nothing(work, capsys, arguments, message):
    """Targets are checked before pictures are read."""
    images, labels = np.zeros((20, 20, 20), np.uint8), np.arange(20) % 10
    data.Dataset("odd", images, labels, images, labels).save("odd.npz")
    for path in ("drawn/0_bad.png", "swept/sweep.json"):
        (work / path).parent.mkdir()
        (work / path).touch()
    before = snapshot(work)
    assert re.search(message, refused(Command(arguments[0]), capsys, *arguments[1:]))
    assert snapshot(work) == before


def test_pictures_are_decided_on(work, capsys):
    """By name in words, with notes on how they were read; light ones are told of once, where most are light."""
    network = Trained.read(RUN).spiking_network()
    resized = 255 - np.asarray(Image.open("paper.png").convert("L").resize((28, 28), Image.Resampling.BOX))
    paper = report.decided(network.model.predict(network.model.encode(resized)), "0123456789")
    out = called(capsys, "predict", RUN, "paper.png", "--invert", "--out", "drawn")
    assert f"paper.png: {paper} resized from 300x300 to 28x28 inverted" in out
    assert "time step │ input │ layer1 │ layer2" in re.sub("[┃|]", "│", out)
    assert os.listdir("drawn") == ["0_paper.png"]
    pictures = ["paper.png", "digit.png"] * 2
    assert "light" not in called(capsys, "predict", RUN, *pictures)
    out = called(capsys, "predict", RUN, *pictures, "paper.png")
    assert "the background is light, that of the training was dark: try --invert" in out


@pytest.mark.parametrize(
    ("learned", "light", "inverted", "words"),
    [
        ("light", 0.9, False, ""),
        ("light", 0.1, False, "the background is dark, that of the training was light: try --invert"),
        ("dark", 0.9, True, "the background is light, that of the training was dark: leave out --invert"),
        (None, 0.9, False, ""),
    ],
)
def test_another_background_than_that_of_the_training_is_noted(work, learned, light, inverted, words):
    trained = Trained.read(RUN)
    trained.settings["background"] = learned
    assert predict.background_advice(trained, light, inverted) == words


def test_a_report_is_written_anew(work, capsys):
    """With pictures of test images; those of other data have other names, and those of the run stay."""
    pictures = work / RUN / "pictures"
    names = {path.name for path in pictures.iterdir()}
    (work / RUN / "report.html").unlink()
    (pictures / "features_layer1.png").unlink()
    dataclasses.replace(DIGITS, test_images=DIGITS.test_images[::-1]).save("an other.npz")
    called(capsys, "report", RUN, "--images", 5, 7)
    called(capsys, "report", RUN, "--images", 5, "--dataset", "an other.npz")
    names |= {"image_00005.png", "image_00007.png", "image_an_other_00005.png"}
    assert {path.name for path in pictures.iterdir()} == names
    page = (work / RUN / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(names)
    assert "test image 5 of an_other: when each" in page


def test_a_run_takes_the_layer_of_another_and_is_compared_with_it(work, capsys):
    arguments = ["train", *TRAIN, "--epochs", "2", "1", "--out", "runs/second", "--resume"]
    assert f"layer1 as learned by {work / RUN} " in called(capsys, *arguments, "--from", RUN)
    assert "it had start sha256:" in refused(Command("train"), capsys, *arguments[1:])
    second = work / "runs" / "second" / "results.json"
    results = read("runs/second")
    assert results["taken"] == dict(layer1=str(work / RUN))
    assert results["epochs"] == read(RUN)["epochs"][:1]
    assert "STDP layer1" not in {phase["name"] for phase in results["phases"]}
    assert f"layer1taken from {work / RUN}." in re.sub(
        "<[^>]*>|\\n", "", (work / "runs/second/report.html").read_text()
    )
    out = called(capsys, "report", RUN, "runs/second")
    page = (work / "runs" / "comparison.html").read_text().replace("<wbr>", "")
    for text in (RUN, "runs/second", "epochs", "test accuracy, %"):
        assert text in page
        assert text in out
    assert "comparison.html" in called(capsys, "report", RUN, "runs/second"), "a page of ours"
    (work / "runs" / "comparison.html").write_text("<html>mine</html>")
    assert "comparison.html already exists" in refused(Command("report"), capsys, RUN, "runs/second")
    for damage in ("[" * 100_000, json.dumps(results | dict(best_epoch=99))):
        second.write_text(damage)
        line = refused(Command("report"), capsys, RUN, "runs/second", "--out", "o.html")
        assert "runs/second/results.json is damaged" in line


def test_a_run_on_data_of_ones_own_needs_no_options_afterwards(work, monkeypatch, capsys):
    """The run says where the data are, and from whichever folder; that of a run made in Python does not."""
    (work / "sets").mkdir()
    dataclasses.replace(DIGITS.first(40, 40), name="mine").save("sets/mine.npz")
    chosen = options.TrainData(dataset="sets/mine.npz", validation=0)
    _, about, path = prepare(options.Network(), chosen, options.Training(), options.Machine())
    assert (about["dataset"], path.name) == (str(work / "sets" / "mine.npz"), "goupy2024_ncg_mine")
    known = Trained.read(RUN)
    dataclasses.replace(known, settings=about).save(f"{RUN}/weights.npz")
    monkeypatch.chdir("sets")
    run, expected = f"../{RUN}", read(work / RUN)["test"]
    assert f"data: {work}/sets/mine.npz, as {run} says" in called(capsys, "evaluate", run, "--out", "figures.json")
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
    assert "many/broken.png is no image" in err
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
    assert " ".join(out.split()).endswith(f"{right} of 6 as labelled, {silent} silent")

    def stopped(path, shape, invert):
        if path.name == "z_black.png":
            raise MemoryError
        return data.read_picture(path, shape, invert)

    monkeypatch.setattr(predict, "read_picture", stopped)
    with pytest.raises(MemoryError):
        called(capsys, "predict", RUN, "many", "--csv", "some.csv")
    assert table("some.csv") == rows[:7], "a block of three, without the broken one, and one of four"
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
    assert "bad?[31m.png is no image" in err
    assert "there is no file odd/gone.png; left out" in err
    assert [row["image"] for row in table("odd.csv")] == ["odd/esc?[31m$5_$.png", "odd/?.png"]
    assert len(os.listdir("drawn")) == 2
    assert f"{odd}/report.html" in called(capsys, "report", odd)


def test_networks_and_rules_of_ones_own_are_named_on_the_command_line(work, capsys):
    rules = pathlib.Path(__file__).with_name("own_swept.py").read_text().replace("Own", "Early")
    (work / "rules.py").write_text(f"{rules}\nNUMBER = 3\n")
    (work / "bad.py").write_text("import snnjax\nsnnjax.Conv(4, 3, threshold=float('nan'))\n")
    short = [*TRAIN[2:], "--epochs", "0", "0"]
    called(capsys, "train", "--model", "rules.py:network", *short)
    assert read("runs/swept_digits")["settings"]["imports"] == [str(work / "rules.py")]
    evaluate = [sys.executable, "-m", "snnjax", "evaluate", "runs/swept_digits"]
    for given, words in (
        ([], "it holds a 'Early', unknown to this program: import the module that defines it"),
        (["--import", "rules.py", "--dataset", "none.npz"], "there is no file none.npz"),
    ):
        done = subprocess.run([*evaluate, *given], capture_output=True, text=True, check=False, env=ENVIRONMENT)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert words in done.stderr
    for model, words in {
        "rules.py:networks": "`model` rules.py:networks: rules.py has no 'networks': did you mean 'network'?",
        "rules.py:NUMBER": "must be a Network, or a function of `Images`, got 3",
        "bad.py:mine": "bad.py, line 2: `threshold` must be",
        "rule.py:mine": "there is no file rule.py",
        "no.such:mine": "`model` must name a Python file or a module, got 'no.such'",
    }.items():
        assert words in refused(Command("train"), capsys, "--model", model, *short)
