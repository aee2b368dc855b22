"""The command line, and what a run leaves behind."""

import csv
import dataclasses
import fcntl
import html
import itertools
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

from snnjax import data
from snnjax.app import options, tested
from snnjax.app.commands.train import prepare
from snnjax.core import files
from snnjax.kernels import native
from snnjax.layers.conv import WTA, Conv
from snnjax.learners import RSTDP, STDP
from snnjax.networks import NETWORKS, Network, stage
from snnjax.runs import checkpoint_folder, run_folder
from snnjax.runs.run_folder import CheckpointFolder
from snnjax.runs.trained import Trained

ROOT = pathlib.Path(__file__).parents[1]
SHORT = ["--epochs", "1", "1", "--train_images", "64", "--test_images", "32", "--device", "cpu"]
STATE = ["checkpoint.npz", "checkpoint.previous.npz", "history.csv", "layers"]
LEFT = sorted([*STATE, "pictures", "report.html", "results.json", "weights.npz"])


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "snnjax", "train", *map(str, arguments)]


ENVIRONMENT = os.environ | dict(PYTHONPATH=str(ROOT))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run as a person starts it: the folder and the finished process."""
    folder = tmp_path_factory.mktemp("runs") / "short"
    process = subprocess.run(command(*SHORT, "--out", folder), capture_output=True, text=True, env=ENVIRONMENT)
    assert process.returncode == 0, process.stderr
    return folder, process


@pytest.fixture(scope="module")
def script():
    """The command `snnjax train`, with a network that takes little time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "tiny", tiny)
        yield Command("train")
    jax.config.update("jax_default_device", None)


@pytest.fixture
def train(script, monkeypatch, tmp_path):
    """The command in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return script


@pytest.fixture(scope="module")
def whole(script, tmp_path_factory):
    """The folder of a run of the tiny network from first to last."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    script.main([*TINY, "--out", str(folder)])
    return folder


def tiny(images) -> Network:
    layer = Conv(4, kernel=5, padding=2, threshold=15, competition=WTA(2, radius=3), learners=STDP())
    stages = (stage(layer, pool=7), stage(Conv(2 * images.classes, kernel=4, learners=RSTDP())))
    return Network("tiny", images.input_shape, images.classes, stages, epochs=(1, 2))


TINY = ["--model", "tiny", "--train_images", "40", "--test_images", "40", "--epochs", "2", "3", "--batch_size", "20"]
TINY += ["--kernels", "xla", "--validation", "0"]
"""As many images of each kind, and as those that tests train without the command: they share programs."""


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


def test_a_run_leaves_its_files(run):
    folder, process = run
    assert sorted(path.name for path in folder.iterdir()) == LEFT
    assert process.stderr == ""
    assert "test accuracy" in process.stdout
    assert "Traceback" not in process.stdout


def test_results(run):
    results = json.loads((run[0] / "results.json").read_text())
    assert results["command"] == shlex.join(["snnjax", "train", *SHORT, "--out", str(run[0])])
    assert results["command"] in html.unescape(re.sub("<[^>]+>", "", (run[0] / "report.html").read_text()))
    assert "command" not in Trained.read(run[0]).settings, "weights are given to others"
    assert results.keys() >= {"settings", "versions", "device", "phases", "epochs", "test"}
    settings = dict(model="goupy2024_ncg", dataset="digits", epochs=[1, 1], train_images=58, test_images=32, seed=0)
    settings |= dict(validation=0.1, validation_images=6, shuffle=True, mirror=False)
    assert results["settings"].items() >= settings.items()
    assert results["versions"].keys() >= {"python", "jax", "jaxlib", "flax", "numpy"}
    assert results["versions"]["jax"] == jax.__version__
    assert results["device"].startswith("cpu")
    phases = {phase["name"]: phase for phase in results["phases"]}
    assert phases.keys() >= {"fit encoder", "encode", "TargetTime layer1", "SupervisedSTDP", "validation"}
    for phase in phases.values():
        assert phase["images"] in (6, 58, 64)
        assert phase["images_per_second"] == pytest.approx(phase["images"] / phase["seconds"], rel=0.05)
    (epoch,) = results["epochs"]
    assert epoch.keys() == {"epoch", "train", "validation"}, "the test images are left alone"
    for part in (epoch["train"], epoch["validation"], results["test"]):
        assert part["accuracy"] + part["wrong"] + part["silent"] == pytest.approx(1)
    matrix = np.array(results["test"]["confusion_matrix"])
    assert matrix.shape == (10, 10)
    assert matrix.sum() == round(32 * (1 - results["test"]["silent"]))
    assert np.trace(matrix) == round(32 * results["test"]["accuracy"])


def test_history(run):
    with (run[0] / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    (epoch,) = json.loads((run[0] / "results.json").read_text())["epochs"]
    assert [{name: float(value) for name, value in row.items()} for row in rows] == [
        dict(
            epoch=0,
            train_acc=epoch["train"]["accuracy"],
            train_loss=epoch["train"]["wrong"],
            validation_acc=epoch["validation"]["accuracy"],
            validation_loss=epoch["validation"]["wrong"],
        )
    ]


def test_weights(run):
    weights = Trained.read(run[0]).weights
    assert {name: w.shape for name, w in weights.items()} == dict(layer1=(128, 2, 5, 5), layer2=(50, 128, 6, 6))
    for each in weights.values():
        assert 0 <= each.min() < each.max() <= 1


def test_pictures(run):
    from matplotlib.image import imread

    names = {path.stem for path in (run[0] / "pictures").iterdir()}
    assert names > {"confusion", "history", "weights", *(f"features_layer{number}" for number in (1, 2))}
    assert any(name.startswith("image_") for name in names)
    for name in names:
        picture = imread(run[0] / "pictures" / f"{name}.png")
        assert min(picture.shape[:2]) > 150, name
        assert picture[..., :3].std() > 0.05, f"nothing is drawn in {name}"


def test_the_report_holds_all_on_one_page(run):
    page = (run[0] / "report.html").read_text()
    for text in ("goupy2024_ncg on digits", "TargetTime layer1</dt><dd>no neuron fired at", "precision", "jaxlib"):
        assert text in page
    assert page.count('src="data:image/png;base64,') == len(list((run[0] / "pictures").iterdir()))
    assert not re.search(r'(src|href)="(?!data:|#)', page), "it needs no other file"


def test_what_the_phases_show(run):
    results = json.loads((run[0] / "results.json").read_text())
    names = ["TargetTime layer1", "outputs of stage 1", "SupervisedSTDP"]
    assert list(results["diagnoses"]) == names
    out = " ".join(run[1].stdout.split())
    for name, found in results["diagnoses"].items():
        assert f"{name}: {'; '.join(found['words'])}" in out


def test_a_second_run_into_the_folder_is_refused(whole, train, capsys):
    before = snapshot(whole)
    for arguments in (TINY, [*TINY, "--seed", "1"]):
        assert "already holds a run" in refused(train, capsys, *arguments, "--out", whole)
    assert snapshot(whole) == before


def test_what_only_says_where_parts_come_from_may_change(whole, train, tmp_path):
    """A run of an earlier version, or whose data and network have another name by now, is resumed."""
    shutil.copytree(whole, tmp_path / "run")
    for name in ("checkpoint.npz", "checkpoint.previous.npz"):
        arrays, meta = files.load_checkpoint(tmp_path / "run" / name)
        assert not {"model", "dataset", "data_dir", "size", "imports"} & meta["settings"].keys()
        files.save_checkpoint(tmp_path / "run" / name, arrays, meta | dict(settings=meta["settings"] | dict(model="x")))
    data.digits().save(tmp_path / "moved.npz")
    before = (tmp_path / "run" / "results.json").read_bytes()
    arguments = [*TINY, "--dataset", "moved.npz", "--patience", "0", "--out", "run", "--resume"]
    train.main(arguments)
    assert (tmp_path / "run" / "results.json").read_bytes() == before


def test_other_settings_are_not_resumed(whole, train, capsys):
    before = snapshot(whole)
    line = refused(train, capsys, *TINY, "--seed", 1, "--out", whole, "--resume")
    assert "cannot be resumed with other settings" in line
    assert "seed 0 (now 1)" in line
    assert snapshot(whole) == before


def test_other_data_are_not_resumed(train, capsys, tmp_path):
    """The same settings and as many images, but one pixel or one label of another value."""
    images, labels = data.digits().train_images[:40].astype(np.uint8), data.digits().train_labels[:40].astype(np.uint8)
    arguments = [*TINY, "--dataset", "mnist", "--data_dir", "idx", "--epochs", "0", "0", "--out", "run"]
    write_idx(tmp_path / "idx", images, labels)
    train.main(arguments)
    settings = json.loads((tmp_path / "run" / "results.json").read_text())["settings"]
    before = snapshot(tmp_path / "run")
    for change in ("images", "labels"):
        changed = dict(images=images.copy(), labels=labels.copy())
        changed[change].flat[5] = 3 - changed[change].flat[5] % 2
        write_idx(tmp_path / "idx", **changed)
        line = refused(train, capsys, *arguments, "--resume")
        assert re.search(
            rf"other settings or data: it had data {settings['data']} \(now sha256:[0-9a-f]{{12}}\)$", line
        )
    assert snapshot(tmp_path / "run") == before


@pytest.mark.slow
def test_a_run_on_colour_images(train, tmp_path):
    """From CIFAR files, with altered copies of half of them: 18 channels and 20 time steps."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 10, 3, 8, 8), np.uint8)
    planes = noise.repeat(4, axis=-2).repeat(4, axis=-1).reshape(6, 10, -1)
    labels = np.tile(np.arange(10, dtype=np.uint8), (6, 1))[..., None]
    names = [f"data_batch_{number}.bin" for number in range(1, 6)]
    for name, records in zip([*names, "test_batch.bin"], np.concatenate([labels, planes], axis=-1), strict=True):
        (tmp_path / name).write_bytes(records.tobytes())
    options = ["--dataset", "cifar10", "--data_dir", str(tmp_path), "--augment", "--ratio", "0.5", "--out", "run"]
    train.main([*TINY, *options])
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["settings"].items() >= dict(augment=True, ratio=0.5, train_images=60, test_images=10).items()
    weights = Trained.read(tmp_path / "run").weights
    assert weights["layer1"].shape == (4, 18, 5, 5)
    assert results["test"]["silent"] < 1
    assert sorted(os.listdir(tmp_path / "run")) == LEFT


@pytest.mark.parametrize("saves", [1, 4])
def test_a_stopped_run_goes_on(whole, train, monkeypatch, capsys, saves):
    """Ctrl-C after any epoch: the same command with --resume ends as if nothing had happened."""
    count = iter(range(1, 100))
    save = run_folder.RunFolder.save

    def stop(self, state):
        save(self, state)
        if next(count) == saves:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_folder.RunFolder, "save", stop)
        with pytest.raises(SystemExit) as caught:
            train.main([*TINY, "--out", "stopped"])
    assert caught.value.code == 130
    assert "--resume" in capsys.readouterr().out
    assert sorted(os.listdir("stopped")) == (STATE[:1] if saves == 1 else STATE)
    train.main([*TINY, "--out", "stopped", "--resume"])
    stopped = pathlib.Path("stopped")
    assert sorted(os.listdir(stopped)) == LEFT
    assert (stopped / "history.csv").read_text() == (whole / "history.csv").read_text()
    weights = Trained.read(whole).weights
    for name, array in Trained.read(stopped).weights.items():
        np.testing.assert_array_equal(array, weights[name])
    results, expected = (json.loads((folder / "results.json").read_text()) for folder in (stopped, whole))
    assert (results["epochs"], results["test"]) == (expected["epochs"], expected["test"])


def test_resuming_a_finished_run_changes_nothing(whole, train):
    before = snapshot(whole)
    train.main([*TINY, "--out", str(whole), "--resume"])
    after = snapshot(whole)
    assert after.keys() == before.keys()
    for name in ("checkpoint.npz", "history.csv", "results.json", "weights.npz"):
        assert after[name][1] == before[name][1]


def test_results_without_a_checkpoint_are_not_resumed(train, capsys, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.json").write_text("{}")
    line = refused(train, capsys, *TINY, "--out", tmp_path / "out", "--resume")
    assert "holds results but no checkpoint.npz" in line
    assert os.listdir(tmp_path / "out") == ["results.json"]


def test_an_interrupt_leaves_a_checkpoint(tmp_path):
    """A real Ctrl-C in the middle of the last phase."""
    arguments = [*SHORT[3:], "--epochs", "1", "100000", "--patience", "0", "--out", tmp_path / "out"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # one that ignores Ctrl-C would be inherited
    with subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        signal.signal(signal.SIGINT, before)
        deadline = time.monotonic() + 300
        while not (tmp_path / "out" / "history.csv").exists() and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "--resume" in out
    assert "Traceback" not in err
    arrays, meta = files.load_checkpoint(tmp_path / "out" / "checkpoint.npz")
    assert meta["done"] == len(meta["epochs"]) > 0
    assert {name for name in arrays if name.startswith("best/")} == {"best/layer1", "best/layer2"}
    assert sorted(os.listdir(tmp_path / "out")) == STATE


def test_a_folder_in_use_is_refused(train, capsys, tmp_path):
    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another run is writing into" in refused(train, capsys, *TINY, "--out", tmp_path / "out")
    assert os.listdir(tmp_path / "out") == [".lock"]


@pytest.mark.parametrize("damage", [lambda whole: whole[:-100], lambda whole: b"", lambda whole: whole[::-1]])
def test_a_damaged_checkpoint_is_refused(whole, train, capsys, tmp_path, damage):
    path = tmp_path / "out" / "checkpoint.npz"
    path.parent.mkdir()
    path.write_bytes(damage((whole / "checkpoint.npz").read_bytes()))
    before = snapshot(tmp_path)
    assert "is damaged" in refused(train, capsys, *TINY, "--out", path.parent, "--resume")
    assert snapshot(tmp_path) == before


def test_a_disk_that_fills_up_ends_in_one_line(train, capsys, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SystemExit) as caught:
        train.main([*TINY, "--out", "out"])
    err = capsys.readouterr().err
    assert caught.value.code == 2
    assert "No space left on device" in err
    assert err.count("\n") == 1
    assert err.endswith("; nothing was kept\n")
    assert os.listdir(tmp_path / "out") == []


def test_what_was_saved_before_a_disk_fills_up_is_kept(train, capsys, monkeypatch, tmp_path):
    save, count = CheckpointFolder._save_checkpoint, itertools.count()

    def full(*given):
        if next(count) == 1:
            raise OSError(28, "No space left on device")
        save(*given)

    monkeypatch.setattr(CheckpointFolder, "_save_checkpoint", full)
    with pytest.raises(SystemExit):
        train.main([*TINY, "--out", "out"])
    assert capsys.readouterr().err.endswith("; finished epochs are kept, go on once out can be written\n")


@pytest.mark.parametrize(
    ("arguments", "status"), [(["train", "--help"], 0), (["data"], 0), (["train", "--seed", "-1"], 2)]
)
def test_standard_output_may_be_closed(arguments, status):
    started = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "snnjax", *arguments]
    done = subprocess.run(started, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert (done.returncode, done.stderr.count("\n")) == (status, status // 2), done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "vgg"], r"`model` must be one of mozafari2018, .*, or FILE.py:NAME, got 'vgg'$"),
        (["--model", "mozafari18"], r"`model` must be one of .*, got 'mozafari18': did you mean 'mozafari2018'\?"),
        (["--model", "mine.py:net"], r"there is no file mine.py"),
        (
            ["--dataset", "cifar"],
            "`dataset` must be one of digits, mnist, .*cifar10, .*, or an .npz file, got 'cifar'",
        ),
        (
            ["--device", "abacus"],
            r"invalid choice 'abacus' for argument '--device'. Expected one of \('auto', 'cpu', 'gpu'",
        ),
        (["--device", "tpu"], "`device` tpu is not available; jax sees: "),
        (["--epochs", "1"], r"`epochs` must be 2 numbers for goupy2024_ncg, got 1"),
        (["--epochs", "1", "2", "3"], r"`epochs` must be 2 numbers for goupy2024_ncg, got 3"),
        (["--epochs", "1", "-1"], "epochs"),
        (["--epochs", "1", "1.5"], "epochs"),
        (["--epochs", "one"], "epochs"),
        (["--batch_size", "0"], "`batch_size` must be at least 1, got 0"),
        (["--batch_size", "many"], "batch_size"),
        (["--patience", "-1"], "patience"),
        (["--update_batch", "0"], "`update_batch` must be at least 1, got 0"),
        (["--seed", "-1"], "`seed` must be at least 0, got -1"),
        (["--seed", str(2**64)], f"`seed` must be at most {2**64 - 1}, got {2**64}"),
        (["--batch_size", str(2**31)], "`batch_size` must be at most 2147483647, got 2147483648"),
        (["--update_batch", str(2**31)], "`update_batch` must be at most 2147483647, got 2147483648"),
        (["--patience", str(2**31)], "`patience` must be at most 2147483647, got 2147483648"),
        (["--time_steps", str(2**31)], "`time_steps` must be at most 2147483647, got 2147483648"),
        (["--epochs", "1", str(2**31)], "`epochs` must be at most 2147483647, got 2147483648"),
        (["--test_images", str(2**31)], "`test_images` must be at most 2147483647, got 2147483648"),
        (["--ratio", "0"], r"`ratio` must lie in \(0, 1\], got 0.0"),
        (["--ratio", "1.5"], r"`ratio` must lie in \(0, 1\], got 1.5"),
        (["--ratio", "nan"], r"`ratio` must lie in \(0, 1\], got nan"),
        (["--ratio", "0.0001"], r"`ratio` must lie in \(0, 1\], got 0.0001, and leave some of 1293 training images"),
        (["--train_images", "0"], "`train_images` must be at least 1, got 0"),
        (["--test_images", "-5"], "test_images"),
        (["--data_dir", "empty"], r"`data_dir` has no effect on digits: for your own .* folder \(--dataset folder\)"),
        (["--dataset", "mnist", "--data_dir", "nowhere"], "`data_dir` nowhere is no folder"),
        (["--dataset", "mnist", "--data_dir", "empty"], "empty holds neither the files of mnist nor"),
        (["--dataset", "cifar10", "--data_dir", "truncated"], "truncated/test_batch.bin must hold 3073 bytes for each"),
        (["--dataset", "kmnist", "--data_dir", "uneven"], "kmnist: 1 train images but 2 labels"),
        (["--dataset", "mnist", "--data_dir", "truncated"], "truncated/train-images-idx3-ubyte must hold 116 bytes"),
        (["--model", "tiny", "--epochs", "1", "1", "--out", "file/out"], "file"),
        (
            ["--model", "tiny", "--epochs", "1", "1", "--out", "file"],
            "file is a file, not a folder: name another folder",
        ),
        (["--unknown", "1"], "Unrecognized options: --unknown"),
        (["--epoch", "1"], "Unrecognized options: --epoch.* Perhaps you meant: --epochs N"),
        (["--noreuse"], "Perhaps you meant: --reuse, --no_reuse"),
        (["--data_dir"], "Missing value for argument '--data_dir'"),
        (["stray"], "Unrecognized options: stray"),
    ],
)
def test_bad_arguments_end_in_one_line(train, capsys, tmp_path, arguments, message):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    write_idx(tmp_path / "truncated", np.zeros((1, 10, 10), np.uint8), np.zeros(1, np.uint8))
    (tmp_path / "truncated" / "train-images-idx3-ubyte").write_bytes(
        bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 10, 0, 0, 0, 10]) + bytes(99)
    )
    for name in ("test_batch.bin", *(f"data_batch_{number}.bin" for number in range(1, 6))):
        (tmp_path / "truncated" / name).write_bytes(bytes(3072 if name == "test_batch.bin" else 3073))
    write_idx(tmp_path / "uneven", np.zeros((1, 28, 28), np.uint8), np.zeros(2, np.uint8))
    before = sorted(tmp_path.rglob("*"))
    assert re.search(message, refused(train, capsys, *arguments))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("fault", "status", "lines"),
    [
        ("devices.choose = lambda _: int('a fault')", 1, ["Traceback (most recent", "ValueError: invalid literal"]),
        ("sys.argv += ['--batch_size', '0']", 2, ["snnjax train: `batch_size` must be at least 1"] * 2),
    ],
    ids=["of the program", "of the user"],
)
def test_only_faults_of_the_program_have_a_traceback(fault, status, lines):
    script = f"import sys; from snnjax.core import devices; from snnjax.app import main; {fault}; main.program()"
    process = subprocess.run(
        [sys.executable, "-c", script, "train"], capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    said = process.stderr.splitlines()
    assert process.returncode == status
    assert (len(said) > 1) == (lines[0] != lines[1])
    assert said[0].startswith(lines[0])
    assert said[-1].startswith(lines[1])


def test_help_names_every_option_with_its_default(train, capsys):
    with pytest.raises(SystemExit) as caught:
        train.main(["--help"])
    assert caught.value.code == 0
    _, text = unboxed(capsys.readouterr().out).split("network options")
    for option, default in {
        "import FILE.py ...": "none",
        "model NAME": "goupy2024_ncg",
        "encoder NAME": "the network's own, or that of the data",
        "time_steps T": "those of the network or its encoder",
        "dataset NAME": "digits",
        "data_dir DIR": "the cache folder, downloaded if need be",
        "size PIXELS": "their own, 32 if they differ",
        "colour, --no_colour": "as most pictures",
        "group REGEX": "none",
        "test_images N": "all",
        "train_images N": "all",
        "validation SHARE": "0.1",
        "draw, --no_draw": "False",
        "augment, --no_augment": "False",
        "ratio SHARE": "1.0",
        "epochs N ...": options.EPOCHS,
        "batch_size N": "1000; 100 on few images",
        "shuffle, --no_shuffle": "the network's own",
        "mirror, --no_mirror": "False",
        "patience N": "the network's own, or 5; 0 on few images",
        "seed N": "0",
        "update_batch N": "1",
        "reuse, --no_reuse": "from your own folders",
        "device {auto,cpu,gpu,tpu}": "auto",
        "kernels {auto,xla,native}": "auto",
        "out DIR": "runs/MODEL_DATASET",
        "resume, --no_resume": "False",
        "tensorboard, --no_tensorboard": "False",
    }.items():
        assert (explained := re.search(rf"--{re.escape(option)} (.+?) \(default: (.+?)\)", text)), option
        assert re.sub(r"(\d), (\d{3})\b", r"\1,\2", explained[2]) == default, "lines may end within a number"
    assert {*re.findall(r" --(\w+)(?= |,)", text)} >= {"import", "tensorboard"}
    assert f"one of {', '.join(options.MODELS)}; or FILE.py:NAME" in text
    assert {*NETWORKS} - {"tiny"} == {*options.MODELS}
    assert f"one of {', '.join(options.ENCODERS)}; or FILE.py:NAME" in text
    assert f"one of {', '.join((*data.DATASETS, 'folder', *data.RECORDINGS))}; or an .npz file" in text


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (None, dict(epochs=(8, 8, 100), batch_size=100, patience=0)),
        (50, dict(epochs=(223, 223, 100), batch_size=100, patience=0)),
        (5000, dict(epochs=(2, 4, 100), batch_size=1000, patience=5)),
    ],
)
def test_the_defaults_are_those_the_help_names(monkeypatch, count, expected):
    images = data.digits()
    if count:
        places = np.resize(np.arange(len(images.train_images)), count)
        fields = dict(train_images=images.train_images[places], train_labels=images.train_labels[places])
        images = dataclasses.replace(images, **fields)
    monkeypatch.setattr(data, "load", lambda name, folder: images)
    chosen = options.Train(options.Network(model="mozafari2018"))
    trainer, recorded, path = prepare(chosen.network, chosen.data, chosen.training, options.Machine(kernels="xla"))
    assert path == pathlib.Path("runs/mozafari2018_digits")
    others = dict(seed=0, update_batch=1, native=False, shuffle=False, mirror=False)
    assert dataclasses.asdict(trainer.settings) == expected | others
    assert len(trainer.data.validation_images) == round(0.1 * len(images.train_images))
    assert recorded.items() >= dict(model="mozafari2018", dataset="digits", ratio=1.0).items()


def prepared(draw: bool) -> tuple[data.Dataset, dict, data.Dataset]:
    """The data of a training with so many images, its settings, and the test images that `evaluate` takes for it."""
    chosen = options.TrainData(train_images=50, test_images=20, validation=0, draw=draw)
    network = options.Network(model="mozafari2018")
    trainer, about, _ = prepare(network, chosen, options.Training(seed=1), options.Machine(kernels="xla"))
    settings = about | dict(test_images=len(trainer.data.test_images))
    return trainer.data, about, tested.load(options.TestData(), settings, (28, 28), "RUN").images


def test_fewer_images_of_all_classes_or_drawn():
    whole = data.digits()
    for draw, found in (
        (False, whole.first(50, 20)),
        (True, whole.first(50, None, seed=1).first(None, 20)),
    ):
        images, about, tested = prepared(draw)
        assert images.digest == found.digest
        np.testing.assert_array_equal(tested.test_images, images.test_images)
        assert about["draw"] == draw


def test_drawing_without_a_number_is_refused(train, capsys):
    line = refused(train, capsys, *TINY[:2], "--draw")
    assert "`draw` draws the images of `train_images` (--train_images): name their number" in line
    line = refused(train, capsys, *TINY[:2], "--train_images", 9)
    assert "`train_images` must be at least 10, one of each class of digits, got 9" in line


def on_native(path: str = "out") -> bool:
    """Whether a run in this folder says that it was on compiled kernels."""
    return json.loads(pathlib.Path(path, "results.json").read_text())["settings"]["native"]


def test_compiled_kernels_are_taken_unasked_and_kept(train, capsys, monkeypatch, compiler):
    """A run goes on with those that it began with, or says why it cannot."""
    arguments = [*TINY, "--device", "cpu", "--out", "out", "--kernels"]
    train.main([*arguments, "auto"])
    assert on_native()
    assert ", compiled kernels; into out" in capsys.readouterr().out
    assert "native True (now False)" in refused(train, capsys, *arguments, "xla", "--resume")
    train.main([*arguments, "auto", "--resume"])
    monkeypatch.setattr(native, "load", missing)
    said = refused(train, capsys, *arguments, "auto", "--resume")
    assert "the run in out began on compiled kernels: no compiler" in said
    assert said.endswith("no compiler\n")
    assert "no compiler" in refused(train, capsys, *arguments, "native", "--resume")
    monkeypatch.undo()


def missing() -> None:
    raise OSError("no\ncompiler")


def test_kernels_of_xla_are_taken_where_there_are_no_others(train, capsys, monkeypatch, compiler):
    arguments = [*TINY, "--device", "cpu", "--kernels", "auto", "--out"]
    with monkeypatch.context() as patch:
        patch.setattr(native, "load", missing)
        train.main([*arguments, "out"])
    assert "on XLA's kernels: no compiler\n" in (said := capsys.readouterr().out)
    assert ", XLA's kernels; into out" in said
    assert not on_native()
    capsys.readouterr()
    train.main([*arguments, "out", "--resume"])  # where a compiler has come
    assert "on XLA's kernels:" not in (said := capsys.readouterr().out)
    assert ", XLA's kernels; into out" in said


def test_other_devices_and_many_time_steps_take_kernels_of_xla(monkeypatch):
    assert native.unavailable(256) == "`native` kernels take at most 255 time steps, got 256"
    monkeypatch.setattr("snnjax.core.devices.peers", lambda: [types.SimpleNamespace(platform="gpu")])
    assert native.unavailable() == "`native` kernels run on a CPU, got the device gpu"


def test_the_kernels_of_a_damaged_run_are_those_of_the_checkpoint_before(tmp_path):
    files.save_checkpoint(tmp_path / "checkpoint.previous.npz", {}, dict(settings=dict(native=True)))
    (tmp_path / "checkpoint.npz").write_bytes(b"damaged")
    assert checkpoint_folder.kernels_of(tmp_path) == "native"
    files.save_checkpoint(tmp_path / "checkpoint.npz", {}, dict(settings=dict(native=False)))
    assert checkpoint_folder.kernels_of(tmp_path) == "xla"
    (tmp_path / "other").mkdir()
    for meta in (dict(settings={}), dict(settings=3), {}):
        files.save_checkpoint(tmp_path / "other" / "checkpoint.npz", {}, meta)
        assert checkpoint_folder.kernels_of(tmp_path / "other") == "auto"
    assert checkpoint_folder.kernels_of(tmp_path / "none") == "auto"
