"""Nothing is lost: runs that were killed, folders on bad disks, damaged or foreign checkpoints, other devices."""

import contextlib
import copy
import dataclasses
import errno
import itertools
import json
import os
import pathlib
import shutil
import zipfile
from unittest import mock

import jax
import numpy as np
import own_classes
import pytest
from same import assert_same_state
from tiny import images, plain

import snnjax
from snnjax import ImageSpec
from snnjax.core import devices, files
from snnjax.core.devices import BATCH_SIZES
from snnjax.layers.conv import Conv
from snnjax.layers.ramp import Ramp, Standardise
from snnjax.learners import STDP, SoftHebb, TargetTime
from snnjax.networks import Network, stage
from snnjax.runs import checkpoint_folder
from snnjax.runs.checkpoint_folder import CHECKPOINT, PREVIOUS
from snnjax.runs.run_folder import RunFolder
from snnjax.runs.trained import Trained
from snnjax.training import learning_phase, loop
from snnjax.training.loop import Trainer
from snnjax.training.state import FORMAT, Callback, Settings, TrainState

SETTINGS = dict(model="small", seed=0)
RAMPED = dict(ramp=Ramp(), standardise=Standardise(), weight_mean=0.0)


def small() -> Network:
    return plain(ImageSpec())


def trainer_of(network: Network | None = None, epochs=(2, 3), seed: int = 0, **others) -> Trainer:
    """By default that of the run `finished`."""
    settings = Settings(epochs, **dict(adapt_every=20, patience=0, seed=seed) | others)
    return Trainer(network or small(), images(), settings)


@pytest.mark.parametrize(
    ("changes", "backend"),
    [
        pytest.param(dict(learners=STDP(doubling=20)), "xla", marks=pytest.mark.slow),
        (dict(learners=own_classes.Hebb()), "native"),
        (dict(learners=TargetTime(threshold_min=0.5), competition=Conv.competition), "native"),
        pytest.param(
            dict(learners=SoftHebb(minibatch_size=4), competition=Conv.competition, **RAMPED),
            "native",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["STDP, of XLA", "custom", "TargetTime", "SoftHebb"],
)
def test_layers_that_learn_alone_go_on_within_an_epoch(changes, backend, monkeypatch, compiler):
    """Of two networks side by side, interrupted twice; progress is of what remains to be learned from."""
    monkeypatch.setattr(loop, "SAVE_INTERVAL_S", 0.0)
    monkeypatch.setitem(BATCH_SIZES, "learned", 12)
    monkeypatch.setattr(learning_phase, "ALIGNED", 4)
    first, last = small().stages
    conv = dataclasses.replace(first.branches[0], **changes)
    convs = [dataclasses.replace(conv, threshold=threshold) for threshold in (8.0, 9.0)]
    networks = [dataclasses.replace(small(), stages=(stage(each, pool=7), last)) for each in convs]
    made = Trainer(networks, images(), Settings((2, 0), adapt_every=20, patience=0, backend=backend))
    expected = made.run([made.initial_state(index) for index in range(2)])
    states = [made.initial_state(index) for index in range(2)]
    kept = []

    def save(states):
        if states[0].done == 1 and states[0].shown:
            kept.clear()
            for state in states:
                arrays, meta = copy.deepcopy(state.flatten())
                assert "found/" in " ".join(arrays), "as files have always called results of an unfinished epoch"
                kept.append(TrainState.unflatten(arrays, json.loads(json.dumps(meta))))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.run(states, save)
    monkeypatch.setitem(BATCH_SIZES, "learned", 20)  # so that the state is from within a batch
    progress = {}
    callback = Callback()
    callback.started = progress.__setitem__
    callback.advanced = lambda images, correct: progress.update({[*progress][-1]: [*progress.values()][-1] - images})
    again = Trainer(networks, images(), made.settings, callback=callback)
    for state in kept:
        again.check_state(state)
    with pytest.raises(KeyboardInterrupt):
        again.run([*kept], save)
    progress.clear()
    for found, state in zip(again.run(kept), expected, strict=True):
        assert_same_state(found, state)
    assert progress == {"encode": 0, f"{type(conv.learners).__name__} layer1": 0}


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    return trainer_of()


@pytest.fixture(scope="module")
def stopped(trainer, tmp_path_factory) -> pathlib.Path:
    """The folder of a run that stopped after its second reward epoch."""
    folder = tmp_path_factory.mktemp("runs") / "stopped"

    def save(state):
        run.save(state)
        if len(state.epochs) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), RunFolder(folder, trainer, SETTINGS, resume=False) as run:
        trainer.run(run.start(), save)
    return folder


@pytest.fixture
def folder(stopped, tmp_path) -> pathlib.Path:
    """A copy of that folder."""
    return pathlib.Path(shutil.copytree(stopped, tmp_path / "runs" / "stopped"))


def opened(folder: pathlib.Path, trainer: Trainer) -> tuple[TrainState | None, list[str]]:
    with RunFolder(folder, trainer, SETTINGS, resume=True) as run:
        return run.state, run.notes


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_damaged_checkpoint_gives_way_to_the_one_before(folder, trainer, finished):
    """The last good state is used and said so; the epoch that the damaged one held is done again, to the last bit."""
    state, notes = opened(folder, trainer)
    assert (len(state.epochs), notes) == (2, [])
    for name, array in state.best.items():
        np.testing.assert_array_equal(array, state.weights[name], "of equally good epochs the last one is the best")
    whole = (folder / CHECKPOINT).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 4
    for damaged in (b"", flipped, whole[:-5]):
        (folder / CHECKPOINT).write_bytes(damaged)
        before = contents(folder)
        state, (note,) = opened(folder, trainer)
        assert len(state.epochs) == 1
        assert "damaged" in note
        assert "continuing from checkpoint.previous.npz" in note
        assert contents(folder) == before
    with RunFolder(folder, trainer, SETTINGS, resume=True) as run:
        state = trainer.run(run.start(), run.save)
        with pytest.raises(FileNotFoundError, match=r"holds no weights\.npz"):
            snnjax.load(folder)
        results = run.finish(state)
    arrays, _ = state.flatten()
    expected, expected_meta = files.load_checkpoint(finished / CHECKPOINT)
    jax.tree.map(np.testing.assert_array_equal, arrays, expected)
    for name in ("epochs", "diagnoses", "curves", "phase", "done"):
        assert getattr(state, name) == expected_meta[name], name
    assert results["test"] == json.loads((finished / "results.json").read_text())["test"]
    assert snnjax.load(folder).network == trainer.network
    for name in (CHECKPOINT, PREVIOUS):
        (folder / name).write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"damaged.*damaged.*nothing to go on from, name another folder"):
        opened(folder, trainer)


def test_a_good_checkpoint_is_not_replaced_by_a_damaged_one(folder, trainer, monkeypatch):
    """Going on from the checkpoint before, and killed before the first new one is in place."""
    (folder / CHECKPOINT).write_bytes((folder / CHECKPOINT).read_bytes()[:-5])
    monkeypatch.setattr(files, "save_checkpoint", lambda *_: pytest.fail("killed here"))
    with RunFolder(folder, trainer, SETTINGS, resume=True) as run, pytest.raises(pytest.fail.Exception):
        run.save(run.start())
    assert len(opened(folder, trainer)[0].epochs) == 1


def test_short_epochs_are_not_all_saved(trainer, tmp_path, monkeypatch):
    """Where saving takes long, only the first state and the ends of phases are, and all that lie within an epoch."""
    written: list[tuple[int, int]] = []
    write = files.save_checkpoint

    def note(path, arrays, meta):
        if path.name == CHECKPOINT:
            written.append((meta["phase"], meta["done"]))
        write(path, arrays, meta)

    monkeypatch.setattr(files, "save_checkpoint", note)
    ends = [(0, 1), (1, 0), (2, 0)]
    for pause, expected in ((0, [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (1, 3), (2, 0)]), (1e6, ends)):
        monkeypatch.setattr(checkpoint_folder, "PAUSE", pause)
        written.clear()
        with RunFolder(tmp_path / str(pause), trainer, SETTINGS) as run:
            run.run()
            assert written == expected
            run.save(dataclasses.replace(trainer.initial_state(), phase=2, shown=20))
        assert written == [*expected, (2, 0)]
        assert len((tmp_path / str(pause) / "history.csv").read_text().splitlines()) == 1 + 3


@pytest.mark.parametrize(
    ("module", "name"),
    [(files.np, "savez"), (os, "fsync"), (os, "link"), (pathlib.Path, "replace")],
)
def test_a_disk_that_fails_loses_no_epoch(folder, trainer, monkeypatch, module, name):
    """A state that was there before or the new one can be gone on from; no file is half, also of a killed run."""
    (folder / ".checkpoint.npz.x1b_c3d4.npz").write_bytes(b"half")
    before, _ = opened(folder, trainer)
    real = getattr(module, name)
    for place in range(3):
        count = itertools.count()

        def fail(*args, count=count, place=place, **settings):
            if next(count) == place:
                if name == "savez":
                    args[0].write(b"half of it")
                raise OSError(28, "No space left on device")
            return real(*args, **settings)

        with RunFolder(folder, trainer, SETTINGS, resume=True) as run:
            state = run.start()
            with monkeypatch.context() as patch, contextlib.suppress(OSError):
                patch.setattr(module, name, fail)
                run.save(state)
            assert place or next(count), f"nothing was written by {name}"
        after, notes = opened(folder, trainer)
        assert notes == []
        assert after.epochs == before.epochs
        assert {path.name for path in folder.iterdir()} == {CHECKPOINT, PREVIOUS, "history.csv"}


def test_foreign_checkpoints_are_refused_and_kept(folder, trainer, tmp_path):
    """And states that are none, with a sound checksum; and other formats, of which some said no format at all."""
    before = contents(folder)
    for other, message in (
        (trainer_of(seed=1), r"cannot be resumed with other settings or data: it had seed 0 \(now 1\)"),
        (trainer_of(small().vary("layer1.threshold", 40.0)), r"another network: .*threshold 50.* \(now 40"),
    ):
        with pytest.raises(ValueError, match=message):
            opened(folder, other)
    assert contents(folder) == before
    arrays, meta = files.load_checkpoint(folder / CHECKPOINT)
    without = {name: array for name, array in arrays.items() if name != "weights/layer2"}
    for changed, known, message in (
        (without, meta, "`weights` must hold"),
        (arrays | {"best/layer1": arrays["weights/layer2"]}, meta, "`best` must hold"),
    ):
        files.save_checkpoint(folder / CHECKPOINT, changed, known)
        with pytest.raises(ValueError, match=f"holds no state to go on from: .*{message}"):
            opened(folder, trainer)
    Trained(trainer.network, trainer.initial_state().weights, (28, 28)).save(tmp_path / "weights.npz")
    for found in (FORMAT + 1, None):
        for path in (folder / CHECKPOINT, tmp_path / "weights.npz"):
            arrays, meta = files.load_checkpoint(path)
            files.save_checkpoint(path, arrays, meta | dict(format=found))
        line = r"{} was written by another version of snnjax \(format {}, now {}\)"
        with pytest.raises(ValueError, match=line.format(r"checkpoint\.npz", found, FORMAT)):
            opened(folder, trainer)
        with pytest.raises(ValueError, match=line.format(r"weights\.npz", found, 3)):
            snnjax.load(tmp_path)


def test_runs_whose_settings_say_native_are_continued(folder, trainer):
    """As earlier versions wrote the back end."""
    arrays, meta = files.load_checkpoint(folder / CHECKPOINT)
    state = opened(folder, trainer)[0]
    native = meta["settings"].pop("backend") == "native"
    for value in (native, not native):
        files.save_checkpoint(folder / CHECKPOINT, arrays, meta | dict(settings=meta["settings"] | dict(native=value)))
        if value == native:
            assert_same_state(opened(folder, trainer)[0], state)
            continue
        with pytest.raises(
            ValueError, match=r"other settings or data: it had backend (xla|native) \(now (xla|native)\)"
        ):
            opened(folder, trainer)


def test_other_versions_and_another_device_are_noted(folder, trainer, monkeypatch):
    was = devices.name_of(jax.devices()[0])
    versions = checkpoint_folder.versions()
    monkeypatch.setattr(checkpoint_folder, "versions", lambda: versions | dict(jax="99.0"))
    monkeypatch.setattr(devices, "name_of", lambda device: "gpu: another")
    changes = f"jax {jax.__version__} (now 99.0), device {was} (now gpu: another)"
    assert opened(folder, trainer)[1] == [f"the run began with {changes}: results may differ slightly"]


def test_the_seconds_of_a_run_are_those_of_all_its_commands(trainer, tmp_path):
    with RunFolder(tmp_path, trainer) as folder:
        folder.since -= 1000  # as if it had begun then
        folder.save(trainer.initial_state())
    with RunFolder(tmp_path, trainer, resume=True) as folder:
        assert 1000 < folder.seconds < 1500
        assert folder.run()["seconds"] > 1000


# Checkpoint files: what is written is read back to the last bit, or not at all

ARRAYS = {
    "weights/layer1": np.random.default_rng(0).normal(size=(4, 2, 3, 3)).astype(np.float32),
    "best/layer1": np.float32([np.inf, -0.0, np.nan, 1e-45]),
    "wins/layer1": np.arange(5),
    "reward/seen": np.int32(7),
    "spikes": np.array([[True, False]]),
    "nothing": np.zeros((0, 3), np.uint8),
    "a name/with Ünicode": np.uint8([1, 2]),
}
META = dict(phase=2, done=0, epochs=[dict(epoch=0, test=dict(accuracy=0.1))], settings=dict(out=None, name="ü"))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "checkpoint.npz"
    files.save_checkpoint(path, ARRAYS, META)
    return path


def assert_whole(path: pathlib.Path) -> None:
    arrays, meta = files.load_checkpoint(path)
    assert meta == META
    assert arrays.keys() == ARRAYS.keys()
    for name, expected in ARRAYS.items():
        assert (arrays[name].dtype, arrays[name].shape) == (expected.dtype, expected.shape), name
        assert arrays[name].tobytes() == expected.tobytes(), name


def test_sound_files_keep_everything_and_changed_ones_are_refused(path):
    """tests/test_fuzz.py damages them in all ways."""
    assert_whole(path)
    with np.load(path) as file:  # as other programs read it
        entries = dict(file)
    np.savez(path, **entries)
    assert_whole(path)
    meta = np.frombuffer(json.dumps({}).encode(), np.uint8)
    without = {name: entry for name, entry in entries.items() if name != "spikes"}
    for changed, message in (
        (entries | {"wins/layer1": np.arange(1, 6)}, "its checksum does not match"),
        (entries | dict(meta=meta), "its checksum does not match"),
        (without, "its checksum does not match"),
        (dict(weights=np.zeros(3)), "is damaged or not a valid checkpoint"),
        (dict(checksum=np.array([{}], dtype=object)), "is damaged or not a valid checkpoint"),
    ):
        np.savez(path, **changed)
        with pytest.raises(ValueError, match=message):
            files.load_checkpoint(path)


def test_what_cannot_be_read_is_no_damaged_file(path, monkeypatch):
    """A failing disk or too little memory."""
    for fault in (OSError(errno.EIO, "Input/output error"), MemoryError("too little")):
        monkeypatch.setattr(zipfile.ZipExtFile, "read", mock.Mock(side_effect=fault))
        with pytest.raises(type(fault), match=str(fault.args[-1])):
            files.load_checkpoint(path)
