"""Nothing is lost: runs that were killed, folders on bad disks, damaged or foreign checkpoints, layers used again."""

import dataclasses
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import types

import jax
import numpy as np
import pytest

import snnjax
from snnjax import data
from snnjax.app import draw_run
from snnjax.core import devices, files
from snnjax.encoding import Encoder
from snnjax.layers.conv import WTA, Conv
from snnjax.learners import RSTDP, STDP, TargetTime
from snnjax.networks import Network, stage
from snnjax.runs import checkpoint_folder, reuse
from snnjax.runs.checkpoint_folder import CHECKPOINT, PREVIOUS
from snnjax.runs.run_folder import RunFolder
from snnjax.runs.trained import Trained
from snnjax.training import cache_key, epoch, loop
from snnjax.training.loop import Trainer
from snnjax.training.state import FORMAT, Settings, TrainState

KILLED = pathlib.Path(__file__).parent / "killed.py"
ROOT = KILLED.parents[1]
MOMENTS = [
    "encode:0",
    "STDP layer1:0.05",
    "step:fsync:0",
    "outputs of stage 1:0.02",
    "STDP layer2_1:0.1",
    "step:replace:0",
    "STDP layer2_2:0",
    "who fires in stage 2:0.1",
    "R-STDP:0.05",
    "step:link:1",
    "step:replace:5",
    "step:savez:1",
]


def killed(kind: str, folder: pathlib.Path, *moments: str) -> list[str]:
    """Runs trainings or sweeps into a folder that end at these moments, and one to the end: what became of each."""
    environment = os.environ | dict(PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "experiments")]))
    process = subprocess.run(
        [sys.executable, str(KILLED), kind, str(folder), *moments], capture_output=True, text=True, env=environment
    )
    assert process.returncode == 0, process.stderr
    lines = process.stdout.split("\n")[:-1]
    assert [line.rpartition("=")[0] for line in lines] == [*moments, "end"]
    assert lines[-1] == "end=0", process.stderr
    return [line.rpartition("=")[2] for line in lines[:-1]]


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_was_not(tmp_path):
    whole, other = tmp_path / "one" / "whole", tmp_path / "two" / "killed"
    assert killed("run", whole) == []
    ends = killed("run", other, *MOMENTS)
    assert set(ends) == {"-9"}, "every moment comes before the end"
    for name in ("checkpoint.npz", "weights.npz"):
        (arrays, meta), (expected, expected_meta) = (files.load_checkpoint(folder / name) for folder in (other, whole))
        assert arrays.keys() == expected.keys()
        for key, array in arrays.items():
            np.testing.assert_array_equal(array, expected[key], f"{name} {key}")
        for each in (meta, expected_meta):
            for name in ("phases", "spent"):  # how long they took
                each.pop(name, None)
        assert meta == expected_meta
    assert (other / "history.csv").read_bytes() == (whole / "history.csv").read_bytes()
    left = [path.name for path in other.iterdir() if path.name.startswith(".")]
    assert len(left) <= sum("step" in moment for moment in MOMENTS), "one temporary file a kill at most"


class Halted(Exception):
    """What a test raises."""


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("learner", [STDP(doubling=20), TargetTime(threshold_min=0.5)], ids=["STDP", "TargetTime"])
def test_layers_that_learn_alone_go_on_within_an_epoch(learner, count, native, monkeypatch, compiler):
    """Of one network, and of several side by side."""
    monkeypatch.setattr(epoch, "EVERY", 0.0)
    monkeypatch.setattr(epoch, "SLICE", 12)
    monkeypatch.setattr(epoch, "ALIGNED", 4)
    competition = WTA(2, radius=3) if isinstance(learner, STDP) else Conv.competition
    spec, images = small(40), data.digits().first(40, 20)
    settings = dict(competition=competition, learners=learner)
    convs = [dataclasses.replace(spec.stages[0].branches[0], threshold=8.0 + at, **settings) for at in range(count)]
    networks = [dataclasses.replace(spec, stages=(stage(each, pool=7), spec.stages[1])) for each in convs]
    made = loop.Training(networks, images, Settings((2, 0), batch_size=20, patience=0, native=native))
    expected, states = made.run(made.initial_states()), made.initial_states()
    kept = []

    def save(states):
        if states[0].done == 1 and states[0].shown:
            kept[:] = [TrainState.unflatten(*json_of(each)) for each in states]
            raise Halted

    with pytest.raises(Halted):
        made.run(states, save)
    again = loop.Training(networks, images, made.settings)
    for state in kept:
        again.runners.check(state)
    for found, state in zip(again.run(kept), expected, strict=True):
        np.testing.assert_array_equal(found.weights["layer1"], state.weights["layer1"])
        assert found.diagnoses == state.diagnoses
        assert found.curves == state.curves


def json_of(state):
    """The parts of a checkpoint, as they come back from a file."""
    arrays, meta = state.flatten()
    return {name: np.array(each) for name, each in arrays.items()}, json.loads(json.dumps(meta))


@pytest.mark.slow
def test_a_sweep_that_is_killed_again_and_again_ends_as_one_that_was_not(tmp_path):
    """Four networks in two programs, killed somewhere in each phase of both, in writing files, and in the tests."""
    whole, other, tested = tmp_path / "whole", tmp_path / "killed", tmp_path / "tested"
    assert killed("sweep", whole) == []
    assert killed("sweep", tested, "step:test_best:0", "step:test_best:1") == ["-9", "-9"]
    random = np.random.default_rng(0)
    places = ["encode", "STDP layer1", "R-STDP", "STDP layer1", "R-STDP"]
    moments = [f"{place}:{seconds:.3f}" for place, seconds in zip(places, random.uniform(0, 0.2, 5), strict=True)]
    moments[2:2] = [f"step:replace:{random.integers(4)}"]
    moments[4:4] = [f"step:savez:{random.integers(1, 4)}"]
    ends = killed("sweep", other, *moments)
    assert ends.count("-9") >= 5, ends
    assert set(ends) <= {"-9", "0"}

    def told(path):
        """What a file says, but for how long it took, and for the folder in the command."""
        results = json.loads((path / "sweep.json").read_text())
        assert results["about"].pop("command").endswith(f" --out {path}")
        for each in results["networks"]:
            assert each.pop("seconds") > 0
            assert each.pop("compile_seconds") >= 0
        return results

    assert told(other) == told(tested) == told(whole)
    assert sorted("test" in each for each in told(other)["networks"]) == [False, False, True, True]
    for path in whole.glob("weights_*.npz"):
        (arrays, meta), (expected, expected_meta) = (files.load_checkpoint(each / path.name) for each in (other, whole))
        assert meta == expected_meta
        assert arrays.keys() == expected.keys() == {"layer1", "layer2"}
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, expected[name], f"{path.name} {name}")
    assert {path.name for path in other.iterdir() if path.name[0] != "."} == {path.name for path in whole.iterdir()}


def last(kernel: int):
    return stage(Conv(20, kernel=kernel, learners=RSTDP()))


def small(features: int = 4) -> Network:
    layer = Conv(features, kernel=5, padding=2, threshold=15, competition=WTA(2, radius=3), learners=STDP())
    return Network("small", (6, 28, 28), 10, (stage(layer, pool=7), last(4)))


SETTINGS = dict(model="small", seed=0)


def trainer_of(spec: Network | None = None, epochs=(1, 3), seed: int = 0, images: int = 40, **others) -> Trainer:
    settings = Settings(epochs, batch_size=20, patience=0, seed=seed, **others)
    return Trainer(spec or small(), data.digits().first(images, 40), settings)


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
        trainer.run(run.start(reuse=False), save)
    return folder


@pytest.fixture
def folder(stopped, tmp_path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(stopped, tmp_path / "runs" / "stopped"))


def opened(folder: pathlib.Path, trainer: Trainer, settings=SETTINGS) -> tuple[TrainState | None, list[str]]:
    with RunFolder(folder, trainer, settings, resume=True) as run:
        return run.state, run.notes


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_both_checkpoints_are_kept_one_epoch_apart(folder, trainer):
    state, notes = opened(folder, trainer)
    assert (len(state.epochs), notes) == (2, [])
    (folder / CHECKPOINT).unlink()
    state, _ = opened(folder, trainer)
    assert len(state.epochs) == 1


def test_a_damaged_checkpoint_gives_way_to_the_one_before(folder, trainer):
    """200 damages: the last good state is used and said so, or the damage lies where nothing is; no file changes."""
    whole, random, used = (folder / CHECKPOINT).read_bytes(), np.random.default_rng(0), 0
    expected = {2: opened(folder, trainer)[0]}
    (folder / CHECKPOINT).unlink()
    expected[1] = opened(folder, trainer)[0]
    for number in range(200):
        place = int(random.integers(len(whole)))
        damaged = whole[:place] if number % 2 else bytearray(whole)
        if number % 2 == 0:
            damaged[place] ^= 1 << int(random.integers(8))
        (folder / CHECKPOINT).write_bytes(damaged)
        before = contents(folder)
        state, notes = opened(folder, trainer)
        assert contents(folder) == before
        good = expected[len(state.epochs)]
        for name, array in good.weights.items():
            np.testing.assert_array_equal(state.weights[name], array)
        assert state.epochs == good.epochs
        if len(state.epochs) == 1:
            used += 1
            assert "damaged" in notes[0]
            assert "going on from checkpoint.previous.npz" in notes[0]
        else:
            assert number % 2 == 0, "a truncated file is damaged"
    assert used > 150
    (folder / PREVIOUS).write_bytes(b"")
    (folder / CHECKPOINT).write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"damaged.*damaged.*nothing to go on from, name another folder"):
        opened(folder, trainer)


def test_going_on_from_the_one_before_ends_alike(folder, trainer):
    """The epoch that the damaged checkpoint held is done again, to the last bit."""
    whole = trainer.run(trainer.initial_state())
    (folder / CHECKPOINT).write_bytes((folder / CHECKPOINT).read_bytes()[:-5])
    with RunFolder(folder, trainer, SETTINGS, resume=True) as run:
        state = trainer.run(run.start(reuse=True), run.save)
    assert state.epochs == whole.epochs
    for name, array in whole.weights.items():
        np.testing.assert_array_equal(state.weights[name], array)


FAULTS = [
    (module, name, at)
    for module, name in (
        (files.np, "savez"),
        (os, "fsync"),
        (os, "link"),
        (os, "close"),
        (pathlib.Path, "replace"),
        (pathlib.Path, "touch"),
    )
    for at in range(3)
]


@pytest.mark.parametrize("message", ["No space left on device", "Read-only file system", "Input/output error"])
def test_a_disk_that_fails_loses_no_epoch(folder, trainer, monkeypatch, message):
    """Wherever writing fails, a state that was there before or the new one can be gone on from; no file is half."""
    before, _ = opened(folder, trainer)
    for module, name, at in FAULTS:
        count = itertools.count()
        real = getattr(module, name)

        def fail(*args, real=real, count=count, at=at, **settings):
            if next(count) == at:
                raise OSError(28, message)
            return real(*args, **settings)

        with RunFolder(folder, trainer, SETTINGS, resume=True) as run:
            state = run.start(reuse=False)
            with monkeypatch.context() as patch:
                patch.setattr(module, name, fail)
                try:
                    run.save(state)
                except OSError as error:
                    assert message in str(error)
        after, notes = opened(folder, trainer)
        assert notes == []
        assert after.epochs == before.epochs
        assert {path.name for path in folder.iterdir()} == {CHECKPOINT, PREVIOUS, "history.csv", "layers"}


def test_foreign_checkpoints_are_refused_and_kept(folder, trainer, monkeypatch):
    cases = [
        (trainer_of(seed=1), SETTINGS, r"cannot be resumed with other settings or data: it had seed 0 \(now 1\)"),
        (trainer_of(small(5)), SETTINGS, r"another network: .*, it has stages.0.branches.0.features 4 \(now 5\)"),
    ]
    before = contents(folder)
    for other, settings, message in cases:
        with pytest.raises(ValueError, match=message):
            opened(folder, other, settings)
    assert contents(folder) == before


def test_files_call_the_results_of_an_unfinished_epoch_as_they_did():
    state = TrainState({}, results={"infos.layer1": np.ones(3)})
    arrays, meta = state.flatten()
    assert [*arrays] == ["found/infos.layer1"]
    assert [*TrainState.unflatten(arrays, meta).results] == ["infos.layer1"]


@pytest.mark.parametrize("found", [1, None, FORMAT + 1])
def test_checkpoints_of_another_format_are_refused_and_kept(folder, trainer, found):
    """As earlier versions have left them: some said no format at all."""
    arrays, meta = files.load_checkpoint(folder / CHECKPOINT)
    del meta["format"]
    files.save_checkpoint(folder / CHECKPOINT, arrays, meta if found is None else meta | dict(format=found))
    before = contents(folder)
    line = rf"checkpoint\.npz was written by another version of snnjax \(format {found}, now {FORMAT}\): finish"
    with pytest.raises(ValueError, match=line):
        opened(folder, trainer)
    assert contents(folder) == before


@pytest.mark.parametrize("found", [2, None, 4])
def test_trained_networks_of_another_format_are_refused(trainer, tmp_path, found):
    state, path = trainer.initial_state(), tmp_path / "weights.npz"
    Trained(trainer.network, state.weights, (28, 28)).save(path)
    arrays, meta = files.load_checkpoint(path)
    del meta["format"]
    files.save_checkpoint(path, arrays, meta if found is None else meta | dict(format=found))
    line = rf"weights\.npz was written by another version of snnjax \(format {found}, now 3\)"
    with pytest.raises(ValueError, match=line):
        snnjax.load(tmp_path)


def test_other_versions_of_packages_are_named(folder, trainer, monkeypatch):
    monkeypatch.setattr(
        checkpoint_folder, "versions", lambda real=checkpoint_folder.versions: real() | dict(jax="99.0")
    )
    state, notes = opened(folder, trainer)
    assert len(state.epochs) == 2
    assert notes == [f"the run began with jax {jax.__version__} (now 99.0): results may differ slightly"]


def test_another_device_is_named(folder, trainer, monkeypatch):
    was = devices.name_of(jax.devices()[0])
    monkeypatch.setattr(devices, "name_of", lambda device: "gpu: another")
    state, notes = opened(folder, trainer)
    assert len(state.epochs) == 2
    assert notes == [f"the run began with device {was} (now gpu: another): results may differ slightly"]


def test_states_that_are_none_are_refused(folder, trainer):
    """With a sound checksum, so that it is not damage: arrays missing, of other shapes, or figures out of range."""
    arrays, meta = files.load_checkpoint(folder / CHECKPOINT)
    without = {name: array for name, array in arrays.items() if name != "weights/layer2"}
    old = {name.removesuffix(".rates"): array for name, array in arrays.items()}  # as 0.3 kept the rates of reward
    cases = [
        (old, meta, "`learning` must hold"),
        (without, meta, "`weights` must hold"),
        (arrays | {"weights/layer1": arrays["weights/layer1"][:2]}, meta, "`weights` must hold"),
        (arrays | {"best/layer1": arrays["weights/layer2"]}, meta, "`best` must hold"),
        (arrays | {"learning/layer2": np.zeros(3)}, meta, "`learning` must hold"),
        (arrays | {"learning/more": np.zeros(3)}, meta, "`learning` must hold"),
        (arrays | {"numbers/layer1.0": np.zeros(3)}, meta, "`numbers` must be of .*, got layer1.0"),
        (arrays | {"../layer1": np.zeros(3)}, meta, r"holds no array '\.\./layer1'"),
        (arrays, meta | dict(phase=9), "`phase` must lie in 0..2, got 9"),
        (arrays, meta | dict(phase="1"), "holds `phase`, int, got '1'"),
        (arrays, {name: value for name, value in meta.items() if name != "epochs"}, "holds `epochs`, list, got None"),
    ]
    for changed, known, message in cases:
        files.save_checkpoint(folder / CHECKPOINT, changed, known)
        with pytest.raises(ValueError, match=message):
            opened(folder, trainer)


def test_layers_of_a_run_beside_are_used_again(folder, trainer):
    """Other reward settings, same images and seed: no STDP, the same weights, and it is said."""
    other = Trainer(trainer.network, trainer.data, Settings((1, 2), batch_size=10, patience=0))
    with RunFolder(folder.parent / "second", other, SETTINGS, resume=False) as run:
        start = run.start(reuse=True)
        assert run.notes == [f"layer1 is that of {folder}, trained from the same images, settings and seed"]
        assert start.phase == 1
        state = other.run(start, run.save)
        run.finish(state)
    alone = Trainer(trainer.network, trainer.data, Settings((1, 2), batch_size=10, patience=0))
    expected = alone.run(alone.initial_state())
    results = json.loads((folder.parent / "second" / "results.json").read_text())
    assert results["reused"] == dict(layer1=str(folder))
    assert "STDP layer1" not in {phase["name"] for phase in results["phases"]}
    assert results["diagnoses"]["STDP layer1"] == expected.diagnoses["STDP layer1"]
    assert state.diagnoses == expected.diagnoses
    assert state.epochs == expected.epochs
    for name, array in expected.weights.items():
        np.testing.assert_array_equal(state.weights[name], array)
    assert not (folder.parent / "second" / "layers").exists()


@pytest.mark.parametrize(
    "other",
    [
        lambda: trainer_of(seed=1),
        lambda: trainer_of(images=39),
        lambda: trainer_of(epochs=(2, 3)),
        lambda: trainer_of(small(5)),
        lambda: trainer_of(small().vary("layer1.ltp", 0.005)),
        lambda: trainer_of(dataclasses.replace(small(), encoder=Encoder(radius=7))),
        lambda: trainer_of(update_batch=2),
        lambda: trainer_of(native=True),
    ],
    ids=["seed", "images", "epochs", "network", "rate", "encoder", "update_batch", "native"],
)
def test_layers_of_another_training_are_not(folder, other):
    with RunFolder(folder.parent / "second", other(), SETTINGS, resume=False) as run:
        assert run.start(reuse=True).phase == 0
        assert run.notes == []


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (cache_key, "_library", lambda: "of other sources"),
        (jax, "__version__", "99.0"),
        (cache_key.jaxlib, "__version__", "99.0"),
        (np, "__version__", "99.0"),
        (devices, "name_of", lambda device: "cpu: another"),
        (cache_key, "_library", cache_key._library),
    ],
    ids=["sources", "jax", "jaxlib", "numpy", "device", "nothing"],
)
def test_layers_that_other_programs_or_devices_have_trained_are_not(folder, monkeypatch, module, name, value):
    same = value is getattr(module, name)
    monkeypatch.setattr(module, name, value)
    with RunFolder(folder.parent / "second", trainer_of(), SETTINGS) as run:
        assert run.start(reuse=True).phase == (1 if same else 0)
        assert len(run.notes) == (1 if same else 0)


def test_the_key_of_a_layer_is_kept_in_the_checkpoint(folder, trainer):
    """Made when it is finished, not when it is stored: by then sources and device may be others."""
    (path,) = (folder / "layers").iterdir()
    _, meta = files.load_checkpoint(folder / CHECKPOINT)
    assert path.name == f"layer1-{meta['keys']['layer1']}.npz"
    state, _ = opened(folder, trainer)
    assert state.keys == meta["keys"]


@pytest.mark.parametrize("other", [True, False], ids=["another device", "the same"])
def test_a_layer_that_two_devices_have_trained_is_not_stored(tmp_path, monkeypatch, other):
    """Begun on one and finished on the other; nor is a layer after it, which depends on it."""

    def stop(state):
        run.save(state)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), RunFolder(tmp_path, trainer_of(epochs=(2, 1)), SETTINGS) as run:
        run.trainer.run(run.start(), stop)
    if other:
        monkeypatch.setattr(devices, "name_of", lambda device: "cpu: another")
    trainer = trainer_of(epochs=(2, 1))
    with RunFolder(tmp_path, trainer, SETTINGS, resume=True) as run:
        assert any("the run began with device" in note for note in run.notes) == other
        state = run.start()
        assert (state.phase, state.done) == (0, 1)
        assert any("its phase began with other sources" in note for note in run.notes) == other
        trainer.run(state, run.save)
    assert (tmp_path / "layers").exists() != other
    assert ("layer1" in state.keys) != other
    _, meta = files.load_checkpoint(tmp_path / CHECKPOINT)
    assert meta["keys"] == state.keys
    two = stage(Conv(3, kernel=2, threshold=2.0, learners=STDP()))
    deep = trainer_of(Network("deep", (6, 28, 28), 10, (*small().stages[:1], two, last(3))), epochs=(2, 2, 1))
    after = TrainState(deep.initial_state().weights, phase=1, keys=state.keys)
    assert bool(deep.training.key(after)) != other


def test_damaged_layers_are_trained_anew(folder, trainer):
    (path,) = (folder / "layers").iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    with RunFolder(folder.parent / "second", trainer, SETTINGS, resume=False) as run:
        assert run.start(reuse=True).phase == 0
        assert "layer1 is trained anew" in run.notes[0]
        assert "damaged" in run.notes[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays, found: found.pop("words"), "`diagnosis` of layer1 must have words"),
        (lambda arrays, found: found.update(wins=[1, 2]), "`diagnosis` must be by layer of layer1, got wins: [1, 2]"),
        (lambda arrays, found: arrays.clear(), "holds no layer1 with its diagnosis"),
        (lambda arrays, found: arrays.update(layer1=arrays["layer1"][:2]), "must have shape (4, 6, 5, 5), got (2,"),
        (lambda arrays, found: arrays.update(layer1=arrays["layer1"].astype(float)), "of float32, got float64"),
        (lambda arrays, found: arrays.update(layer1=-arrays["layer1"]), "must be at least 0"),
        (
            lambda arrays, found: arrays.update(layer1=arrays["layer1"] * np.float32(np.nan)),
            "bounds, got nan",
        ),
        (lambda arrays, found: arrays.update({"layer1.threshold": np.zeros(3)}), "`numbers` of layer1 must be some"),
        (lambda arrays, found: arrays.update({"layer9.threshold": np.zeros(())}), "`numbers` of layer1 must be some"),
    ],
)
def test_incomplete_layers_are_trained_anew(folder, trainer, change, message):
    """With a sound checksum."""
    (path,) = (folder / "layers").iterdir()
    arrays, meta = files.load_checkpoint(path)
    change(arrays, meta["diagnosis"])
    reuse.save(path, meta["key"], arrays, meta["diagnosis"])
    with RunFolder(folder.parent / "second", trainer, SETTINGS) as run:
        state = run.start(reuse=True)
    assert (state.phase, state.keys, state.reused, state.numbers) == (0, {}, {}, {})
    (note,) = run.notes
    assert "layer1 is trained anew" in note
    assert message in note


def started(folder: pathlib.Path, trainer: Trainer, reuse: bool | None) -> tuple[int, list[str]]:
    """The phase in which a run beside one begins, and its notes."""
    with RunFolder(folder.parent / "second", trainer, SETTINGS) as run:
        return run.start(reuse=reuse).phase, run.notes


def test_a_layer_file_says_what_it_is_of(folder, trainer):
    """Another key in its place, and content that is another than the run wrote."""
    (path,) = (folder / "layers").iterdir()
    arrays, meta = files.load_checkpoint(path)
    assert f"layer1-{meta['key']}.npz" == path.name
    files.save_checkpoint(path, arrays, meta | dict(key="0" * 16))
    phase, (note,) = started(folder, trainer, True)
    assert phase == 0
    assert "holds layers of another training (key 0000000000000000): it was renamed" in note
    arrays["layer1"] = arrays["layer1"] + np.float32(0.01)
    files.save_checkpoint(path, arrays, meta)
    phase, (note,) = started(folder, trainer, True)
    assert phase == 0
    assert "holds other weights or another diagnosis than the run wrote" in note


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda run: os.chmod(run, 0o777), "can be changed by others (chmod go-w "),
        (lambda run: os.chmod(run / "layers", 0o757), "can be changed by others (chmod go-w "),
        (lambda run: os.chmod(next((run / "layers").iterdir()), 0o646), "can be changed by others (chmod go-w "),
        (lambda run: run.rename(run.parents[1] / "far") and run.symlink_to(run.parents[1] / "far"), "is a link out of"),
        (lambda run: None, "which belongs to another user"),
    ],
    ids=["run", "folder", "file", "link", "user"],
)
def test_layers_that_may_be_of_others_are_reused_on_request_alone(folder, trainer, monkeypatch, change, words):
    """By default those of this user's folders, which nobody else can write."""
    for each in (folder, folder / "layers", *(folder / "layers").iterdir()):
        each.chmod(0o755 if each.is_dir() else 0o644)
    assert started(folder, trainer, None)[0] == 1
    change(folder)
    if "user" in words:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    phase, (note,) = started(folder, trainer, None)
    assert phase == 0
    assert words in note
    assert note.endswith("`reuse` (--reuse) takes it all the same")
    assert started(folder, trainer, True)[0] == 1
    assert started(folder, trainer, False) == (0, [])


def test_a_group_of_this_user_alone_may_write(tmp_path, monkeypatch):
    """As folders are made under a umask of 002, on systems that give each user such a group."""
    path = tmp_path / "layers" / "file.npz"
    path.parent.mkdir()
    path.touch()
    for each in (tmp_path, path.parent, path):
        each.chmod(0o775)
    user = types.SimpleNamespace(pw_name="me", pw_gid=os.stat(path).st_gid)
    other = types.SimpleNamespace(pw_name="you", pw_gid=user.pw_gid)
    users, group = [user], types.SimpleNamespace(gr_name="me", gr_mem=["me"])
    monkeypatch.setattr("pwd.getpwuid", lambda number: user)
    monkeypatch.setattr("pwd.getpwall", lambda: users)
    monkeypatch.setattr("grp.getgrgid", lambda number: group)
    assert reuse.reason_not_owned(path, tmp_path) == ""
    changes = [(user, dict(pw_gid=-1)), (group, dict(gr_name="staff")), (group, dict(gr_mem=["you"]))]
    for part, change in changes:
        with monkeypatch.context() as changed:
            for name, value in change.items():
                changed.setattr(part, name, value)
            assert reuse.reason_not_owned(path, tmp_path) == f"can be changed by others (chmod go-w {tmp_path})"
    users.append(other)
    assert "can be changed by others" in reuse.reason_not_owned(path, tmp_path)
    users.remove(other)
    path.chmod(0o666)
    assert reuse.reason_not_owned(path, tmp_path) == f"can be changed by others (chmod go-w {path})"


def test_where_owners_are_not_known_layers_are_reused_on_request_alone(folder, trainer, monkeypatch):
    monkeypatch.delattr(os, "geteuid")
    phase, (note,) = started(folder, trainer, None)
    assert phase == 0
    assert "of an owner that this system does not tell" in note
    assert started(folder, trainer, True)[0] == 1


def test_a_layer_file_without_a_diagnosis_is_trained_anew(folder, trainer):
    (path,) = (folder / "layers").iterdir()
    files.save_checkpoint(path, files.load_checkpoint(path)[0], {})
    with RunFolder(folder.parent / "second", trainer, SETTINGS) as run:
        assert run.start(reuse=True).phase == 0
    assert "holds no layer1 with its diagnosis" in run.notes[0]


def test_a_finished_run_is_loaded_as_a_network(folder, trainer):
    with RunFolder(folder, trainer, SETTINGS, resume=True, draw=draw_run) as run:
        state = trainer.run(run.start(reuse=True), run.save)
        with pytest.raises(FileNotFoundError, match=r"holds no weights\.npz"):
            snnjax.load(folder)
        run.finish(state)
    network = snnjax.load(folder)
    assert network.spec == trainer.network
    images = trainer.data.test_images
    decisions, scores = trainer.predict(state, images)
    np.testing.assert_array_equal(jax.jit(jax.vmap(network))(images), decisions)
    latency = snnjax.encode(images[0])
    seen = network.model.observe(latency)
    assert int(seen.decided.decision) == decisions[0]
    np.testing.assert_allclose(seen.decided.scores, scores[0], rtol=1e-5)
    assert {name: x.shape for name, x in seen.latencies.items()} == dict(
        input=(6, 28, 28), layer1=(4, 28, 28), layer2=(20, 1, 1)
    )
    np.testing.assert_array_equal(seen.latencies["layer1"], network.model.layers["layer1"].responses(latency))
    report = (folder / "report.html").read_text()
    assert "http" not in report, "it needs no network"
    assert report.count("data:image/png;base64,") == len(list((folder / "pictures").iterdir())) >= 6


def test_a_good_checkpoint_is_not_replaced_by_a_damaged_one(folder, trainer, monkeypatch):
    """Going on from the checkpoint before, and killed before the first new one is in place."""
    (folder / CHECKPOINT).write_bytes((folder / CHECKPOINT).read_bytes()[:-5])
    monkeypatch.setattr(files, "save_checkpoint", lambda *_: pytest.fail("killed here"))
    with RunFolder(folder, trainer, SETTINGS, resume=True) as run, pytest.raises(pytest.fail.Exception):
        run.save(run.start(reuse=False))
    assert len(opened(folder, trainer)[0].epochs) == 1


def test_what_a_killed_run_was_writing_is_cleared_away(folder, trainer):
    (folder / "pictures").mkdir()
    halves = [folder / ".checkpoint.npz.x1b_c3d4.npz", folder / "pictures" / ".confusion.png.abcdefgh.png"]
    others = [folder / name for name in (".gitignore", ".pre-commit-config.yaml", ".notes.txt", ".a.npz.b.npz")]
    for path in (*halves, *others):
        path.write_bytes(b"half")
    opened(folder, trainer)
    assert not any(path.exists() for path in halves)
    assert all(path.exists() for path in others), "nothing but its own temporary files"
    with files.atomic_write(folder / "checkpoint.npz") as temporary:
        files.clear(folder)
        assert not temporary.exists(), "as `atomic_write` names them"
        temporary.touch()


def test_the_seconds_of_a_run_are_those_of_all_its_commands(trainer, tmp_path):
    with RunFolder(tmp_path, trainer) as folder:
        folder.since -= 1000  # as if it had begun then
        folder.save(trainer.initial_state())
    with RunFolder(tmp_path, trainer, resume=True) as folder:
        assert 1000 < folder.seconds < 1500
        assert folder.run()["seconds"] > 1000
