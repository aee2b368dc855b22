"""The command `snnjax train`, and what a run leaves behind."""

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
import time
import types

import jax
import numpy as np
import pytest
from command import Command, refused, unboxed
from tiny import TRAIN

from snnjax import InputError, data
from snnjax.app import main as program
from snnjax.app import options, parts, plots, tested
from snnjax.app.commands.train import prepare
from snnjax.core import devices, files
from snnjax.kernels import native
from snnjax.networks import NETWORKS
from snnjax.runs.run_folder import RunFolder
from snnjax.runs.trained import Trained

ROOT = pathlib.Path(__file__).parents[1]
ENVIRONMENT = os.environ | dict(PYTHONPATH=str(ROOT))
STATE = ["checkpoint.npz", "checkpoint.previous.npz", "history.csv", "layers"]
LEFT = sorted([*STATE, "pictures", "report.html", "results.json", "weights.npz"])
"""A training that learns nothing."""


@pytest.fixture
def train(monkeypatch, tmp_path):
    """The command, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    yield Command("train")
    jax.config.update("jax_default_device", None)


@pytest.fixture
def run(finished, tmp_path) -> pathlib.Path:
    """A finished run that may be changed."""
    return pathlib.Path(shutil.copytree(finished, tmp_path / "run"))


def write_idx(folder: pathlib.Path, images: np.ndarray, labels: np.ndarray) -> None:
    """IDX files of the same images and labels for training and test."""
    folder.mkdir(exist_ok=True)
    for part in ("train", "t10k"):
        for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
            (folder / name).write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())


def snapshot(folder: pathlib.Path) -> dict[str, tuple[int, bytes]]:
    """All files of a folder with their times and contents."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


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
    alone = {"encode": 80, "STDP layer1": 80, "who fires in stage 1": 40, "who fires in stage 1, test": 40}
    assert shown == alone | {"R-STDP": 120, "test": 120}
    for phase in results["phases"]:
        assert phase["images_per_second"] == pytest.approx(phase["images"] / phase["seconds"], rel=0.05)
    accuracies = [epoch["test"]["accuracy"] for epoch in results["epochs"]]
    assert results["best_epoch"] == max(range(3), key=lambda epoch: (accuracies[epoch], epoch)) == 1
    with (finished / "history.csv").open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    for number, (row, epoch) in enumerate(zip(rows, results["epochs"], strict=True)):
        expected = dict(epoch=epoch["epoch"])
        for part in ("train", "test"):
            assert sum(epoch[part].values()) == pytest.approx(1)
            expected |= {f"{part}_acc": epoch[part]["accuracy"], f"{part}_loss": epoch[part]["wrong"]}
        assert row == expected
        assert number == epoch["epoch"]


def test_a_stopped_run_goes_on(finished, train, monkeypatch, capsys):
    """Ctrl-C in the first phase, at its end and in the last: with --resume it ends as if nothing had happened."""
    drawn = (finished / "pictures" / "weights.png").read_bytes()
    monkeypatch.setattr(plots, "png", lambda figure: drawn)  # drawing takes longer than all the rest
    save, again = RunFolder.save, [*TRAIN, "--out", "stopped", "--resume"]
    for count, names, note in (
        (1, STATE[:1], "it holds no run yet"),
        (2, [*STATE[:2], "layers"], "going on with epoch 2 of STDP layer1\n"),
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
    for name in ("epochs", "best_epoch", "test", "misclassified", "diagnoses", "curves", "reused"):
        assert results[name] == expected[name], name
    weights = Trained.read(finished).weights
    for name, array in Trained.read("stopped").weights.items():
        np.testing.assert_array_equal(array, weights[name], name)


@pytest.mark.parametrize(
    ("lost", "given", "message"),
    [
        ([], [], "already holds a run (results.json, checkpoint.npz, checkpoint.previous.npz)"),
        (STATE[:2], ["--resume"], "holds results but no checkpoint.npz"),
        ([".lock"], ["--resume"], "another run is writing into"),
    ],
    ids=["another run", "no checkpoint", "in use"],
)
def test_folders_that_are_refused_stay_as_they_are(run, train, capsys, lost, given, message):
    for name in lost:
        (run / name).unlink(missing_ok=True)
    before = snapshot(run)
    with (run.parent if ".lock" not in lost else run).joinpath(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert message in refused(train, capsys, *TRAIN, *given, "--out", run)
    (run / ".lock").unlink(missing_ok=True)
    assert snapshot(run) == before


def test_a_finished_run_is_the_same_wherever_its_parts_come_from(run, train, capsys):
    """A run whose data have another name by now; but not with other data."""
    settings = read(run)["settings"]
    before, digits = snapshot(run), data.digits()
    digits.save("moved.npz")
    arguments = [*TRAIN, "--dataset", "moved.npz", "--patience", "0", "--out", "run", "--resume"]
    train.main(arguments)
    assert snapshot(run) == before
    pixels, labels = digits.train_images.copy(), digits.train_labels.copy()
    pixels[0, 14, 14] -= 1
    labels[:2] = labels[1::-1]
    for changed in (dict(train_images=pixels), dict(train_labels=labels)):
        dataclasses.replace(digits, **changed).save("moved.npz")
        line = refused(train, capsys, *arguments)
        assert f"other settings or data: it had data {settings['data']} (now sha256:" in line
    assert snapshot(run) == before


def test_an_interrupt_leaves_a_checkpoint(tmp_path):
    """A real Ctrl-C in the middle of the last phase."""
    arguments = [*TRAIN, "--epochs", "1", "100000", "--patience", "0", "--out", str(tmp_path / "out")]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # one that ignores Ctrl-C would be inherited
    command = [sys.executable, "-m", "snnjax", "train", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        signal.signal(signal.SIGINT, before)
        deadline = time.monotonic() + 300
        while not (tmp_path / "out" / "history.csv").exists() and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (130, "")
    assert "--resume" in out
    _, meta = files.load_checkpoint(tmp_path / "out" / "checkpoint.npz")
    assert meta["done"] == len(meta["epochs"]) > 0
    assert sorted(os.listdir(tmp_path / "out")) == STATE


def test_standard_output_may_be_closed():
    started = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "snnjax", "data"]
    done = subprocess.run(started, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "mozafari18"], "`model` must be one of .*, got 'mozafari18': did you mean 'mozafari2018'"),
        (["--device", "tpu"], "`device` tpu is not available; jax sees: "),
        (["--epochs", "1"], "`epochs` must be 2 numbers for goupy2024_ncg, got 1"),
        (["--epochs", "1", "-1"], "`epochs` must be at least 0, got -1"),
        (["--patience", str(2**31)], "`patience` must be at most 2147483647, got 2147483648"),
        (["--seed", str(2**64)], f"`seed` must be at most {2**64 - 1}, got {2**64}"),
        (["--time_steps", "0"], "`time_steps` must be at least 1, got 0"),
        (["--train_images", "0"], "`train_images` must be at least 1, got 0"),
        (["--train_images", "9"], "`train_images` must be at least 10, one of each class of digits, got 9"),
        (["--draw"], "`draw` draws the images of `train_images`"),
        (["--ratio", "0.0001"], r"`ratio` must lie in \(0, 1\], got 0.0001, and leave some of 1293 training images"),
        (["--data_dir", "empty"], "`data_dir` has no effect on digits"),
        (["--dataset", "mnist", "--data_dir", "nowhere"], "`data_dir` nowhere is no folder"),
        (["--dataset", "kmnist", "--data_dir", "uneven"], "kmnist: 1 train images but 2 labels"),
        ([*TRAIN, "--out", "file"], "file is a file, not a folder"),
        (["--epoch", "1"], "Unrecognized options: --epoch"),
    ],
    ids=lambda value: " ".join(value[-4:]) if isinstance(value, list) else "",
)
def test_bad_arguments_end_in_one_line(train, capsys, tmp_path, arguments, message):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    write_idx(tmp_path / "uneven", np.zeros((1, 28, 28), np.uint8), np.zeros(2, np.uint8))
    before = sorted(tmp_path.rglob("*"))
    assert re.search(message, refused(train, capsys, *arguments))
    assert sorted(tmp_path.rglob("*")) == before


def test_only_faults_of_the_program_have_a_traceback(train, monkeypatch, capsys):
    """An error that no user can mend leaves the program as it is; others end it in one line, with status 2."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(sys, "argv", ["snnjax", "train"])
    for error, raised in ((ValueError("a fault"), ValueError), (OSError("no disk"), SystemExit)):

        def fail(name, error=error):
            raise error

        monkeypatch.setattr(devices, "choose", fail)
        try:
            with pytest.raises(raised) as caught:
                program.program()
            assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler, "it stops as Ctrl-C does"
        finally:
            signal.signal(signal.SIGTERM, before)
    assert (caught.value.code, capsys.readouterr().err) == (2, "snnjax train: no disk\n")
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    with pytest.raises(SystemExit) as caught, program.user_errors("snnjax"):
        raise BrokenPipeError
    assert (caught.value.code, capsys.readouterr().err) == (1, ""), "whoever reads the output has seen enough"


def test_help_names_every_network_and_data_set(train, capsys):
    with pytest.raises(SystemExit):
        train.main(["--help"])
    text = unboxed(capsys.readouterr().out)
    assert {*NETWORKS} == {*options.MODELS}
    assert f"one of {', '.join(options.MODELS)}; or FILE.py:NAME" in text
    assert f"one of {', '.join((*data.DATASETS, 'folder', *data.RECORDINGS))}; or an .npz file" in text


def test_few_images_take_more_epochs(monkeypatch):
    images = data.digits()
    for count, expected in ((50, ((223, 223, 100), 100, 0)), (5000, ((2, 4, 100), 1000, 5))):
        places = np.resize(np.arange(len(images.train_images)), count)
        fields = dict(train_images=images.train_images[places], train_labels=images.train_labels[places])
        monkeypatch.setattr(data, "load", lambda *_, fields=fields: dataclasses.replace(images, **fields))
        chosen = options.Train(options.Network(model="mozafari2018"))
        trainer, _, path = prepare(chosen.network, chosen.data, chosen.training, options.Machine(kernels="xla"))
        assert path == pathlib.Path("runs/mozafari2018_digits")
        assert (trainer.settings.epochs, trainer.settings.batch_size, trainer.settings.patience) == expected
        assert len(trainer.data.validation_images) == round(0.1 * count)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (dict(draw=True), lambda whole: whole.first(50, None, seed=1).first(None, 20)),
        (dict(ratio=0.5), lambda whole: whole.first(50, 20).share(0.5, 1)),
        (dict(ratio=0.5, augment=True), lambda whole: whole.first(50, 20).augment(0.5, 1)),
        (dict(validation=0.2), lambda whole: whole.first(50, 20).hold_out(0.2, seed=0)),
    ],
    ids=["drawn", "a share", "copies", "held out"],
)
def test_the_images_of_a_run(how, expected):
    """Of all classes alike; and `evaluate` takes the same test images for such a run."""
    chosen = options.TrainData(**dict(train_images=50, test_images=20, validation=0) | how)
    network = options.Network(model="mozafari2018")
    trainer, about, _ = prepare(network, chosen, options.Training(seed=1), options.Machine(kernels="xla"))
    assert about.items() >= how.items()
    assert trainer.data.digest == expected(data.digits()).digest
    settings = about | dict(test_images=len(trainer.data.test_images))
    images = tested.load(options.TestData(), settings, (28, 28), "RUN").images
    np.testing.assert_array_equal(images.test_images, trainer.data.test_images)


def test_a_run_goes_on_with_the_kernels_that_it_began_with(tmp_path, monkeypatch, capsys, compiler):
    """Or says why it cannot; those of a damaged run are those of the checkpoint before."""

    def missing():
        raise OSError("no\ncompiler")

    assert parts.use_native("auto", 15, tmp_path)
    for native_before in (True, False):
        files.save_checkpoint(tmp_path / "checkpoint.previous.npz", {}, dict(settings=dict(native=native_before)))
        (tmp_path / "checkpoint.npz").write_bytes(b"damaged")
        assert parts.use_native("auto", 15, tmp_path) == native_before
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(native, "load", missing)
    assert not parts.use_native("auto", 15, tmp_path)
    files.save_checkpoint(tmp_path / "checkpoint.npz", {}, dict(settings=dict(native=True)))
    with pytest.raises(InputError, match=r"the run in .* began on compiled kernels: no compiler$"):
        parts.use_native("auto", 15, tmp_path)
    assert not parts.use_native("auto", 15, tmp_path / "none")
    assert capsys.readouterr().out == "on XLA's kernels: no compiler\n"


def test_other_devices_and_many_time_steps_take_kernels_of_xla(monkeypatch):
    assert native.unavailable(256) == "`native` kernels take at most 255 time steps, got 256"
    monkeypatch.setattr("snnjax.core.devices.peers", lambda: [types.SimpleNamespace(platform="gpu")])
    assert "got the device gpu" in native.unavailable()
