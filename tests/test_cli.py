"""`snnjax train` and what it leaves, `snnjax report` over one or several runs, and what commands refuse."""

import dataclasses
import fcntl
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
from unittest import mock

import jax
import numpy as np
import pytest
from command import ENVIRONMENT, RUN, STATE, Command, called, read, refused, table
from tiny import TRAIN

from snnjax import InputError, data
from snnjax.app import planning
from snnjax.app.names import MODELS
from snnjax.core import files
from snnjax.kernels import backend, native
from snnjax.networks import NETWORKS
from snnjax.runs.run_folder import RunFolder
from snnjax.runs.trained import Trained

LEFT = sorted([*STATE, "pictures", "report.html", "results.json", "weights.npz"])
DIGITS = data.digits()
TRAINING = Command("train")
NCG = "pretrained:goupy2024_ncg_mnist"
WEIGHTS = f"{RUN}/weights.npz"


def snapshot(folder: pathlib.Path) -> dict[str, tuple[int, bytes]]:
    """All files of a folder with their times and contents."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def test_a_run_leaves_its_files(finished):
    assert sorted(path.name for path in finished.iterdir()) == LEFT
    trained = Trained.read(finished)
    assert {name: w.shape for name, w in trained.weights.items()} == dict(layer1=(4, 6, 5, 5), layer2=(20, 4, 4, 4))
    assert "command" not in trained.settings, "weights are given to others"
    results = read(finished)
    assert results["command"] == shlex.join(["snnjax", "train", *TRAIN, "--out", str(finished)])
    settings = dict(model=TRAIN[1], imports=[TRAIN[1].removesuffix(":plain")], dataset="digits", encoder="grey")
    settings |= dict(time_steps=15, epochs=[2, 3], adapt_every=20, patience=0, images_taken=40, test_images=40)
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


def test_a_stopped_run_goes_on(finished, work, monkeypatch, capsys):
    """Ctrl-C in the first phase, at its end and in the last: with --resume it ends as if nothing had happened."""
    save, again = RunFolder.save, [*TRAIN, "--out", "stopped", "--resume"]
    for count, names, note in (
        (1, STATE[:1], "it holds no run yet"),
        (2, STATE[:2], "continuing with epoch 2 of STDP layer1\n"),
        (1, STATE, "continuing with epoch 1 of R-STDP\n"),
    ):
        left = iter(range(count))

        def stop(self, state, left=left, last=count - 1):
            save(self, state)
            if next(left) == last:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(RunFolder, "save", stop)
            with pytest.raises(SystemExit) as caught:
                TRAINING.main(again)
        assert caught.value.code == 130
        assert sorted(os.listdir("stopped")) == names
        assert note in capsys.readouterr().out
    TRAINING.main(again)
    results, expected = read("stopped"), read(finished)
    assert f"test accuracy {results['test']['accuracy']:.2%}" in capsys.readouterr().out
    assert sorted(os.listdir("stopped")) == LEFT
    assert pathlib.Path("stopped/history.csv").read_text() == (finished / "history.csv").read_text()
    for name in ("epochs", "best_epoch", "test", "misclassified", "diagnoses", "curves"):
        assert results[name] == expected[name], name
    jax.tree.map(np.testing.assert_array_equal, Trained.read("stopped").weights, Trained.read(finished).weights)


def test_folders_that_are_refused_stay_as_they_are(work, capsys):
    run, before = work / RUN, snapshot(work / RUN)
    line = refused(TRAINING, capsys, *TRAIN, "--out", run)
    assert "already holds a run (weights.npz, results.json, checkpoint.npz, checkpoint.previous.npz)" in line
    with (run / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another run is writing into" in refused(TRAINING, capsys, *TRAIN, "--resume", "--out", run)
    for name in STATE[:2]:
        (run / name).unlink()
    assert "but no checkpoint.npz to go on from" in refused(TRAINING, capsys, *TRAIN, "--resume", "--out", run)
    (run / ".lock").unlink(missing_ok=True)
    assert snapshot(run) == {name: each for name, each in before.items() if name not in STATE[:2]}


def test_a_finished_run_goes_on_with_the_same_data_alone(work, finished, capsys):
    """Whatever their name. Files that it has lost are made anew."""
    before = snapshot(work / RUN)
    DIGITS.save("moved.npz")
    arguments = [*TRAIN, "--dataset", "moved.npz", "--patience", "0", "--out", RUN, "--resume"]
    TRAINING.main(arguments)
    assert snapshot(work / RUN) == before
    pixels, labels = DIGITS.train_images.copy(), DIGITS.train_labels.copy()
    pixels[0, 14, 14] -= 1
    labels[:2] = labels[1::-1]
    for changed in (dict(train_images=pixels), dict(train_labels=labels)):
        dataclasses.replace(DIGITS, **changed).save("moved.npz")
        line = refused(TRAINING, capsys, *arguments)
        assert f"other settings or data: it had data {read(RUN)['settings']['data']} (now sha256:" in line
    assert snapshot(work / RUN) == before
    for path in (*work.glob(f"{RUN}/pictures/*"), *(work / RUN / name for name in ("weights.npz", "report.html"))):
        path.unlink()
    TRAINING.main([*TRAIN, "--out", RUN, "--resume"])
    assert snapshot(work / RUN).keys() == before.keys()
    jax.tree.map(np.testing.assert_array_equal, Trained.read(RUN).weights, Trained.read(finished).weights)


@pytest.mark.slow
def test_folds_are_trained_one_after_the_other_and_tested_again_as_they_were(tmp_path, monkeypatch, capsys):
    """By train and by sweep; evaluation finds the images of the fold, also in another place."""
    monkeypatch.chdir(tmp_path)
    DIGITS.save("first.npz")
    few = [*TRAIN[:6], "--epochs", "2", "3"]
    out = called(capsys, "train", *few, "--dataset", "first.npz", "--folds", "2", "--split_seed", "3", "--out", "runs")
    folds = DIGITS.folds(2, seed=3)
    results = [read("runs/fold1"), read("runs/fold2")]
    for result, fold in zip(results, folds, strict=True):
        learned = fold.subset(40, 40).hold_out(0.1, 0)
        assert result["settings"]["data"] == f"sha256:{learned.digest}"
    accuracies = np.array([100 * result["test"]["accuracy"] for result in results])
    half = 12.706 * abs(accuracies[0] - accuracies[1]) / 2
    mean = f"{accuracies.mean():.2f} ± {half:.2f}, sd {accuracies.std(ddof=1):.2f} %"
    assert f"test accuracy over 2 folds {mean} mean ± half of" in out
    summary = json.loads(pathlib.Path("runs/summary.json").read_text())
    assert summary["accuracy"]["mean"] == pytest.approx(accuracies.mean() / 100)
    assert [(x["folder"], x["best_epoch"]) for x in summary["folds"]] == [
        (f"fold{number}", result["best_epoch"]) for number, result in enumerate(results, 1)
    ]
    assert [x["test"]["f1"] for x in summary["folds"]] == [result["test"]["f1"] for result in results]
    cells = [f"{100 * results[1]['test'][part]:.2f}" for part in ("accuracy", "wrong", "silent")]
    assert f"fold2 │ {len(folds[1].test_images[:40])} │ {' │ '.join(cells)} │" in re.sub(r" +", " ", out)
    assert re.search(r" fold 2 of 2, about \d+ s left ", out)
    pathlib.Path("first.npz").rename("moved.npz")
    called(capsys, "evaluate", "runs/fold2", "--dataset", "moved.npz", "--out", "again.json")
    assert json.loads(pathlib.Path("again.json").read_text())["accuracy"] == results[1]["test"]["accuracy"]
    assert "`folds` must be at least 2, got 1" in refused(TRAINING, capsys, *few, "--folds", "1")
    swept = called(
        capsys, "sweep", *few, "--dataset", "moved.npz", "--folds", "2", "--split_seed", "3", "--out", "sweep"
    )
    records = [json.loads(pathlib.Path(f"sweep/fold{number}/sweep.json").read_text()) for number in (1, 2)]
    assert [record["settings"]["fold"] for record in records] == [1, 2]
    tests = [record["networks"][0]["test"]["accuracy"] for record in records]
    assert tests == [result["test"]["accuracy"] for result in results], "each network as alone"
    assert f"of the best combination in each {mean}" in swept
    compared = re.sub(" +", " ", called(capsys, "report", "runs", "sweep", "--out", "page.html"))
    values = f"{accuracies.mean():.2f} ± {half:.2f}"
    assert re.search(
        rf"│ 1 │ 1-2 │ 2 │.*│ {values} │ │ .*│ 2 │ 3-4 │ 2 │.*│ {values} │ \+0.00 ± 0.00 \(2\) │", compared
    )
    for command, folder, words in (
        ("sweep", "runs", "runs/fold1 holds a run, not a sweep: name another folder"),
        ("train", "sweep", "sweep/fold1 holds a sweep, not a run: name another folder"),
    ):
        resume = ["--resume"] * (command == "train")
        given = [*few, *resume, "--dataset", "moved.npz", "--folds", "2", "--split_seed", "3", "--out", folder]
        with pytest.raises(SystemExit):
            Command(command).main(given)
        assert words in capsys.readouterr().err


def test_the_options_know_every_network():
    assert {*NETWORKS} == {*MODELS}


def test_a_run_goes_on_with_the_back_end_that_it_began_with(tmp_path, monkeypatch, capsys, compiler):
    """Or says why it cannot; that of a damaged run is that of the checkpoint before. Earlier ones say `native`."""
    assert planning.resolve_backend("auto", 15, tmp_path) == "native"
    began = [("native", dict(backend="native")), ("xla", dict(backend="xla"))]
    for expected, settings in [*began, ("native", dict(native=True)), ("xla", dict(native=False))]:
        files.save_checkpoint(tmp_path / "checkpoint.previous.npz", {}, dict(settings=settings))
        (tmp_path / "checkpoint.npz").write_bytes(b"damaged")
        assert planning.resolve_backend("auto", 15, tmp_path) == expected
    assert capsys.readouterr().out == ""
    assert planning.resolve_backend("auto", 256, tmp_path / "none") == "xla"
    assert "at most 255 time steps, got 256" in capsys.readouterr().out
    monkeypatch.setattr(native, "load", mock.Mock(side_effect=OSError("no\ncompiler")))
    assert planning.resolve_backend("auto", 15, tmp_path) == "xla"
    files.save_checkpoint(tmp_path / "checkpoint.npz", {}, dict(settings=dict(backend="native")))
    with pytest.raises(InputError, match=r"the run in .* began on the native back end: no compiler$"):
        planning.resolve_backend("auto", 15, tmp_path)
    assert planning.resolve_backend("auto", 15, tmp_path / "none") == "xla"
    assert capsys.readouterr().out == "on the xla back end: no compiler\n"
    monkeypatch.setattr("snnjax.core.devices.local_devices", lambda: [mock.Mock(platform="gpu")])
    assert "got the device gpu" in backend.unavailable()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--model", "mozafari18"], "`model` must be one of .*'mozafari18': did you mean 'mozafari2018'"),
        (["train", "--device", "tpu"], "`device` tpu is not available; jax sees: "),
        (["train", "--seed", 2**64], f"`seed` must be at most {2**64 - 1}, got {2**64}"),
        (["train", "--draw"], "`draw` draws the images of `train_images` or of `labels`"),
        (["train", "--data_dir", "."], r"`data_dir` is for a folder, and has no effect on digits, got \."),
        (["train", *TRAIN, "--out", "digit.png"], "digit.png is a file, not a folder"),
        (["train", "--epoch", 1], "Unrecognized options: --epoch"),
        (["train", "--learn", "stage2"], r"`add_classes` \(--add_classes\) need `start`"),
        (
            ["train", "--from", RUN, "--dataset", "odd.npz"],
            "takes images 28 high, 28 wide, those of odd are 20",
        ),
        (["train", "--from", RUN, "--time_steps", 9], r"`time_steps` must be that of `start` \(--from\), got 9"),
        (["evaluate", "nowhere"], "there is no run nowhere"),
        (["evaluate", RUN, "--test_images", 0], "`test_images` must be at least 1, got 0"),
        (["evaluate", RUN, "--out", "no/folder.json"], "there is no folder no to write folder.json into"),
        (["evaluate", RUN, "--dataset", "odd.npz"], "takes images 28 high, 28 wide, those of odd are 20"),
        (["evaluate", f"{RUN}/checkpoint.npz"], "holds no trained network"),
        (["predict", RUN], "`PICTURE` must be image files or folders .*, got none"),
        (["predict", RUN, "--images", 3, 40], "`images` must lie in 0..39, got 40"),
        (["predict", RUN, "some.zip"], "`PICTURE` must be an image file or a folder, got some.zip"),
        (["predict", RUN, "bad.png", "--csv", "digit.png"], "digit.png already exists"),
        (["predict", RUN, "bad.png", "--out", "drawn"], "0_bad.png already exists"),
        (["data", "digits", "--out", "odd.npz"], "odd.npz already exists"),
        (["report"], "`RUN` must be a run folder, .*, got none"),
        (["report", RUN, "--out", "page.html"], "`out` is for several runs"),
        (["report", RUN, RUN, "--out", "page.html"], "`RUN` must differ, got 'runs/first' twice"),
        (["report", RUN, RUN, "--images", 1], "`images` is for one run, .*got"),
        (["report", RUN, RUN, "--out", "compared"], "`out` must end in .html, got compared"),
        (["demo", RUN, "--out", "page.htm"], "`out` must end in .html, got page.htm"),
        (["report", RUN, "swept", "--out", "page.html"], "sweep.json is damaged: .*: delete it"),
        (
            ["stream", RUN, "mnits"],
            "`PICTURES` must be one of .*, an .npz file or a folder.*did you mean 'mnist'",
        ),
        (["stream", RUN, "runs"], "`PICTURES` runs must have a folder for each class, named after it"),
        (["stream", RUN, "digits", "--memory", 3], "`replays` must be at least 1 with a `memory`"),
        (["stream", RUN, "digits", "--train_images", 0], "`train_images` must be at least 1, got 0"),
        (["cost", RUN, "--pj_multiply", 4.6], "`pj_accumulate` must be given too, such as --pj_accumulate 0.9"),
        (["cost", RUN, "--csv", "no/folder.csv"], "there is no folder no"),
        (["export", "pretrained:kheradpisheh2018_mnist", "--to", "c", "--out", "new"], "LinearSVM"),
        (["export", NCG, "--to", "c", "--bits", 9, "--out", "new"], "`bits` must be"),
        (["export", NCG, "--to", "c", "--name", "../mine", "--out", "new"], "`name` must begin with a letter"),
        (["export", NCG, "--to", "c", "--neuron", "LIF", "--out", "new"], "`neuron` is for --to nir, got LIF"),
        (["export", NCG, "--to", "nir", "--bits", 3, "--out", "new"], "`bits` is for --to c"),
        (["convert", WEIGHTS, "out.npz", "--model", "deep"], "`model` must be plain, got deep: that of .*weights.npz"),
        (["convert", "odd.npz", "out.npz"], "`model` must be named for the state_dict odd.npz, got None"),
        (["convert", WEIGHTS, "out.txt"], "`path` must end in .npz, .pth, .pt, got out.txt"),
        (["convert", "odd.npz", "out.pth"], "`destination` of weights from odd.npz must end in .npz, got out.pth"),
        (["convert", "odd.npz", "out.npz", "--model", "deep2024", "--channels", 3], "`channels` must be one of 6, 18"),
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
    noted = f"layer1 as learned by {work / RUN} continuing: layer2, as learned by {work / RUN} "
    assert noted in called(capsys, *arguments, "--from", RUN)
    assert "it had start sha256:" in refused(TRAINING, capsys, *arguments[1:])
    results = read("runs/second")
    assert (results["start"]["source"], results["start"]["frozen"]) == (str(work / RUN), ["layer1"])
    assert results["start"]["continued"] == ["layer2"]
    assert "--out runs/second --from" in results["command"]
    assert "STDP layer1" not in {phase["name"] for phase in results["phases"]}
    report = re.sub("<[^>]*>|\\n", "", (work / "runs/second/report.html").read_text())
    assert f"Start{work / RUN}layer1 as learned therelayer2 as learned there, learned further" in report
    out = called(capsys, "report", RUN, "runs/second")
    page = (work / "runs" / "comparison.html").read_text().replace("<wbr>", "")
    for text in (RUN, "runs/second", "epochs", "test accuracy, %"):
        assert text in page
        assert text in out
    assert "comparison.html" in called(capsys, "report", RUN, "runs/second"), "a page of ours"
    (work / "runs" / "comparison.html").write_text("<html>mine</html>")
    assert "comparison.html already exists" in refused(Command("report"), capsys, RUN, "runs/second")


def test_networks_and_rules_of_ones_own_are_named_on_the_command_line(work, capsys):
    rules = pathlib.Path(__file__).with_name("own_swept.py").read_text().replace("Own", "Early")
    (work / "rules.py").write_text(f"{rules}\nNUMBER = 3\n")
    (work / "bad.py").write_text("import snnjax\nsnnjax.Conv(4, 3, threshold=float('nan'))\n")
    short = [*TRAIN[2:], "--epochs", "0", "0"]
    called(capsys, "train", "--model", "rules.py:network", *short)
    assert read("runs/swept_digits")["settings"]["imports"] == [str(work / "rules.py")]
    evaluate = [sys.executable, "-m", "snnjax", "evaluate", "runs/swept_digits", "--import", "rules.py"]
    done = subprocess.run([*evaluate, "--dataset", "none.npz"], capture_output=True, text=True, env=ENVIRONMENT)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "snnjax evaluate: there is no file none.npz\n")
    for model, words in {
        "rules.py:networks": "`model` rules.py:networks: rules.py has no 'networks': did you mean 'network'?",
        "rules.py:NUMBER": "must be a Network, or a function of `ImageSpec`, got 3",
        "bad.py:mine": "bad.py, line 2: `threshold` must be",
        "rule.py:mine": "there is no file rule.py",
        "no.such:mine": "`model` must name a Python file or a module, got 'no.such'",
    }.items():
        assert words in refused(TRAINING, capsys, "--model", model, *short)
