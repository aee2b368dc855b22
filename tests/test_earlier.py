"""Files of version 0.6 are read and continued under the names of this version, or refused with the command that helps.

`golden/version_0_6` holds folders as version 0.6 wrote them: of a run, of runs that were stopped, and of a sweep.
"""

import dataclasses
import json
import pathlib
import re
import shlex
import shutil

import own_classes
import pytest
from tiny import images, labelled, plain

import snnjax
from snnjax import Conv, ImageSpec, Settings, Stream, Sweep, TargetTime, Trainer, stage
from snnjax.app.main import COMMANDS, main, parse
from snnjax.core import components, files
from snnjax.core.codec import from_data, to_data
from snnjax.core.differences import described, described_differences
from snnjax.core.errors import InputError
from snnjax.core.paths import replace
from snnjax.layers import Ramp
from snnjax.learners import SoftHebb
from snnjax.runs import RunFolder, StreamFolder, SweepFolder, Trained
from snnjax.runs.checkpoint_folder import CHECKPOINT
from snnjax.runs.earlier import current_command
from snnjax.runs.results_file import read_results, read_sweep

pytestmark = pytest.mark.slow

RECORDED = pathlib.Path(__file__).parent / "golden" / "version_0_6"
SETTINGS = dict(adapt_every=20, patience=0, backend="xla")
FINISH = "snnjax 0.6.0 wrote it, finish the run with that version; or move"


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    """A copy of the folders of version 0.6."""
    return pathlib.Path(shutil.copytree(RECORDED, tmp_path / "runs"))


def trainer_of(network: snnjax.Network | None = None) -> Trainer:
    return Trainer(network or plain(ImageSpec()), images(), Settings((2, 3), **SETTINGS))


def in_earlier_names(path: pathlib.Path) -> None:
    """Gives the settings and counts in a file the names that they had between version 0.6 and this one."""
    arrays, meta = files.load_checkpoint(path)
    settings = dict(meta["settings"])
    settings["batch_size"] = settings.pop("adapt_every")
    settings["native"] = settings.pop("backend") == "native"
    arrays = {name.replace("counts.interval", "counts.batch"): array for name, array in arrays.items()}
    files.save_checkpoint(path, arrays, meta | dict(settings=settings))


def test_the_settings_of_a_run_a_network_and_a_sweep_are_read_by_their_new_names(folder):
    found = [
        read_results(folder / "run")["settings"],
        Trained.read(folder / "run").settings,
        Trained.read(folder / "sweep" / "weights_001.npz").settings,
        read_sweep(folder / "sweep")["settings"],
    ]
    for settings in found:
        assert SETTINGS.items() <= settings.items()
        assert not {"batch_size", "native"} & settings.keys()


def test_a_network_decides_as_it_did(folder):
    run = folder / "run"
    decisions = snnjax.load(run)(images().test_images)
    wrong = [int(number) for number, found in enumerate(decisions) if found != images().test_labels[number]]
    assert wrong == [record["image"] for record in read_results(run)["misclassified"]]
    assert 0 < len(wrong) < 40


def test_runs_and_sweeps_are_compared(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    main(["report", "run", "sweep"])
    assert "means over seeds and folds" in capsys.readouterr().out
    assert (folder / "runs" / "comparison.html").exists()


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("stopped", "continuing with epoch 3 of R-STDP"),
        ("within_epoch", "continuing with epoch 1 of R-STDP, after 32 of its images"),
    ],
)
def test_a_run_is_continued_to_the_same_end(folder, name, note):
    trainer = trainer_of()
    with RunFolder(folder / name, trainer, resume=True) as run:
        results = run.run()
    assert note in run.notes
    assert "the run began with" in run.notes[0]
    assert f"snnjax 0.6.0 (now {snnjax.__version__})" in run.notes[0]
    assert results["epochs"] == read_results(folder / "run")["epochs"]
    assert results["settings"]["adapt_every"] == 20


def test_a_sweep_keeps_its_networks_and_gets_a_new_one(folder):
    sweep = Sweep(plain(ImageSpec()), images(), Settings((1, 1), **SETTINGS), [dict(seed=seed) for seed in (0, 1, 2)])
    before = (folder / "sweep" / "weights_001.npz").read_bytes()
    with SweepFolder(folder / "sweep", sweep) as opened:
        networks = opened.run()
    assert [record["variant"]["seed"] for record in networks] == [0, 1, 2]
    assert networks[:2] == [*json.loads((RECORDED / "sweep" / "sweep.json").read_text())["networks"]]
    assert (folder / "sweep" / "weights_001.npz").read_bytes() == before


def test_the_checkpoint_of_a_stream_is_continued(tmp_path):
    """As versions between 0.6 and this one wrote it."""
    network = snnjax.SpikingNetwork(labelled(ImageSpec()), class_names=())
    stream = Stream(network, adapt_every=20, backend="xla")
    with StreamFolder(tmp_path, stream, {}) as folder:
        _, state = stream.learn(folder.course.state, images().train_images[0], 1)
        folder.course = folder.course._replace(state=state, shown=1, images=1)
        folder.save()
    in_earlier_names(tmp_path / CHECKPOINT)
    with StreamFolder(tmp_path, stream, {}, resume=True) as folder:
        assert folder.notes == ["continuing after 1 images"]
    with (
        pytest.raises(InputError, match=r"other settings or data: it had adapt_every 20 \(now 21\)"),
        StreamFolder(tmp_path, Stream(network, adapt_every=21, backend="xla"), {}, resume=True),
    ):
        pass


def test_a_soft_hebb_layer_is_read_and_compared_by_the_new_name_of_its_field():
    conv = Conv(4, kernel=3, padding=1, ramp=Ramp(), learners=SoftHebb(minibatch_size=4))
    present = to_data(conv, {})
    earlier = to_data(conv, {})
    earlier["learners"]["batch"] = earlier["learners"].pop("minibatch_size")
    assert from_data(earlier, {}) == conv
    assert described_differences(described(present, {}), described(earlier, {})) == []


def refusal_of(path: pathlib.Path, trainer: Trainer, command: str = "") -> str:
    with pytest.raises(InputError) as refused, RunFolder(path, trainer, resume=True, command=command):
        pass
    return str(refused.value)


def test_a_run_that_cannot_be_continued_is_refused_with_the_command_that_begins_it_again(folder):
    """Of a rule whose state has another form, of a custom rule within an epoch, and of a network that has changed."""
    network = plain(ImageSpec())
    timed = Conv(4, kernel=5, padding=2, threshold=10.0, learners=TargetTime())
    timed = dataclasses.replace(network, name="timed", stages=(stage(timed, pool=7), network.stages[1]))
    path = folder / "within_target_time"
    found = refusal_of(path, trainer_of(timed), "snnjax train --model timed")
    assert "`learning` must hold" in found
    assert found.endswith(f"{FINISH} {path} away, and begin again: snnjax train --model timed")
    path = folder / "stopped"
    found = refusal_of(path, trainer_of(replace(network, "stages.0.branches.0.threshold", 40.0)))
    assert "belongs to another network" in found
    assert found.endswith("finish the run with that version; or begin again in another folder")
    arrays, meta = files.load_checkpoint(folder / "within_epoch" / CHECKPOINT)
    own = replace(network, "stages.0.branches.0.learners", own_classes.Hebb())
    with RunFolder(folder / "own", trainer_of(own)) as run:
        state = run.start()
        state.shown = 20
        run._write_state(state)
    arrays, meta = files.load_checkpoint(folder / "own" / CHECKPOINT)
    meta["versions"]["snnjax"] = "0.6.0"
    files.save_checkpoint(folder / "own" / CHECKPOINT, arrays, meta)
    assert "within an epoch of Hebb, without the winners of layer1" in refusal_of(folder / "own", trainer_of(own))


def test_a_network_with_activities_is_refused_with_the_command_that_trains_it_again(folder, monkeypatch):
    """That of its run, with the options of this version; else one from its settings; or in Python, what to write."""
    run = folder / "soft"
    with pytest.raises(InputError) as refused:
        snnjax.load(run)
    problem, _, command = str(refused.value).rpartition(": ")
    assert "holds a network of snnjax 0.6 with LatencyCode and Triangle" in problem
    assert problem.endswith(f"move {run} away, and train it again")
    assert command == "snnjax train --model softhebb_narrow --adapt_every 20 --backend xla --out runs/soft"
    parse(COMMANDS["train"], shlex.split(command)[2:], command)
    (run / "results.json").unlink()
    message = re.escape("train it again: snnjax train --model softhebb_narrow --dataset digits")
    with pytest.raises(InputError, match=f"{message}$"):
        snnjax.load(run)
    arrays, meta = files.load_checkpoint(run / "weights.npz")
    files.save_checkpoint(run / "weights.npz", arrays, meta | dict(settings={}))
    with pytest.raises(InputError, match=r"train it again, with `Conv\(ramp=Ramp\(p\)\)` in place of"):
        snnjax.load(run)
    monkeypatch.setitem(components.TYPES, "Triangle", own_classes.Hebb)  # custom components may have these names
    with pytest.raises(InputError, match=r"0\.6 with LatencyCode, which"):
        snnjax.load(run)


def test_a_command_of_version_06_is_translated():
    old = "snnjax train --batch_size 50 --no_reuse --distributed host:1 2 0 --kernels native --out 'my run'"
    assert current_command(old) == "snnjax train --adapt_every 50 --backend native --out 'my run'"
