"""Many networks at once: each ends as it ends alone."""

import contextlib
import dataclasses
import errno
import io
import json
import pathlib
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
import pytest
import tiny
from command import Command, refused
from same import assert_same_sweep, records_of, untimed
from test_trainer import SHALLOW

from snnjax import InputError, component
from snnjax.core import files
from snnjax.core.paths import parts
from snnjax.encoding import PIXELS, Pixels
from snnjax.layers.conv import WTA
from snnjax.learners import STDP
from snnjax.networks import Earliest, stage
from snnjax.networks.model import rounded_weights
from snnjax.runs.checkpoint_folder import CHECKPOINT, PREVIOUS
from snnjax.runs.sweep_folder import GROUPS, SweepFolder
from snnjax.runs.trained import Trained
from snnjax.training.groups import Group, train, varied
from snnjax.training.loop import Trainer
from snnjax.training.state import Callback, Settings
from snnjax.training.sweep import Choice, Sweep, SweepState
from snnjax.training.workers import Workers

IMAGES = tiny.images()
SETTINGS = Settings((1, 2), adapt_every=20, patience=0)
SEEDS = [{"seed": seed} for seed in range(2)]
GROWTH = "layer1.growth"


@component
class Exploding(STDP):
    """Lets weights grow without bound once the growth is above 1."""

    growth: float = 1.0

    def update(self, layer, state, latency, response, signal):
        learned, state, info = super().update(layer, state, latency, response, signal)
        return learned.with_weights(learned.weights * self.growth), state, info


def places(sweep: Sweep, **how: Any) -> list[list[int]]:
    """The groups of a sweep."""
    return [[*each.places] for each in sweep.groups(**how)]


def test_other_numbers_compile_nothing(compilations):
    """The time of all is shared out."""
    variants = [
        {"seed": 1, "layer1.threshold": 9.0, "layer1.radius": 1},
        {"seed": 3, "layer1.ltp": 0.02, "layer1.ltd": -0.01, "layer1.doubling": 7},
    ]
    outcome = train(IMAGES, SETTINGS, *Sweep(SHALLOW, IMAGES, SETTINGS, variants).groups())
    for record, state in zip(outcome.records, outcome.states, strict=True):
        for name in ("seconds", "compile_seconds"):
            assert record[name] == pytest.approx(sum(phase[name] for phase in state.phases) / 2)
    others = [{"seed": 5, "layer1.threshold": 8.0, "layer1.radius": 2}, {"seed": 6, "layer2.reward.0": 0.01}]
    assert compilations(lambda: Sweep(SHALLOW, IMAGES, SETTINGS, others).run().done) == 0


@pytest.mark.parametrize(
    ("variants", "words"),
    [
        ([], "`variants` must be at least one dict, got none"),
        ([{"layer1.kernels": 3}], r"^did you mean `layer1\.kernel`\? `layer1\.kernels` .* one of .*1\.threshold"),
        ([{"layer1.radius": 1.5}], "`layer1.radius` must be an integer, got 1.5"),
        ([{"layer1.ltp": 0.2}], r"`ltp` must be at most `ltp_max` \(0\.15\), got 0\.2"),
        (
            [{"layer1.learners": rule, "layer1.growth": 0.5} for rule in (Exploding(), STDP())],
            "`layer1.growth` must be a number that every network of the sweep has, .* with layer1.learners=STDP: vary",
        ),
        ([{"seed": float("nan")}], "`seed` must be an integer, got nan"),
    ],
)
def test_bad_variants(variants, words):
    with pytest.raises(ValueError, match=words):
        Sweep(SHALLOW, IMAGES, SETTINGS, variants)
    with pytest.raises(ValueError, match=r"`patience` must be 0, got 3: a sweep"):
        Sweep(SHALLOW, IMAGES, dataclasses.replace(SETTINGS, patience=3), SEEDS)


@pytest.mark.parametrize(
    ("at_once", "workers", "done", "expected"),
    [
        (16, 1, [], [[0, 1, 3, 4], [2]]),
        (2, 1, [1], [[0, 3], [4], [2]]),
        (16, 4, [], [[0], [1], [3], [4], [2]]),
        (16, 2, [0, 2, 4], [[1], [3]]),
    ],
)
def test_groups_are_of_one_structure_and_all_workers_have_something_to_do(at_once, workers, done, expected):
    variants = [{"seed": float(seed)} for seed in range(5)]
    variants[2]["layer1.winners"] = 3
    sweep = Sweep(SHALLOW, IMAGES, SETTINGS, variants, at_once=at_once)
    assert places(sweep, workers=workers, done=done) == expected
    assert sweep.seeds == [*range(5)]


def test_networks_that_learning_leaves_invalid_are_named_and_the_others_continue(tmp_path, monkeypatch):
    """They are as they are alone; also where the sweep is stopped after that."""
    problems = []
    callback = Callback()
    callback.invalid = problems.append
    variants = [{"seed": 0, GROWTH: 1e30}, {"seed": 1}, {"seed": 2}]
    growing = stage(dataclasses.replace(tiny.FIRST, learners=Exploding(doubling=50)), pool=7)
    description = dataclasses.replace(SHALLOW, stages=(growing, SHALLOW.stages[1]))
    sweep = Sweep(description, IMAGES, SETTINGS, variants, callback)
    save, load = Group.save, Group.load
    begun = []

    def stop(self, states, errors):
        save(self, states, errors)
        if errors and states[0].phase == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Group, "save", stop)
    with SweepFolder(tmp_path, sweep) as folder, pytest.raises(KeyboardInterrupt):
        folder.run()
    monkeypatch.setattr(Group, "save", save)
    monkeypatch.setattr(Group, "load", lambda group: begun.append([*load(group)[1]]) or load(group))
    with SweepFolder(tmp_path, sweep) as folder:
        records = folder.run()
        assert folder.groups() == [], "none is trained again"
    assert begun == [[0]], "it continues without it"
    assert [record["variant"] for record in records] == variants
    errors = [record.get("error", "") for record in records]
    assert errors[0].startswith(f"seed=0, {GROWTH}=1e+30: `update` of Exploding left layer1 invalid in epoch 1: ")
    assert errors[1:] == ["", ""]
    assert problems == errors[:1], "a network ends once"
    for record, network in zip(records[1:], sweep.networks[1:], strict=True):
        alone = Trainer(network, IMAGES, dataclasses.replace(SETTINGS, seed=record["variant"]["seed"]))
        expected = alone.run(alone.initial_state())
        assert (record["epochs"], record["diagnoses"]) == (expected.epochs, expected.diagnoses)
        trained = Trained.read(tmp_path / record["weights"]).weights
        jax.tree.map(np.testing.assert_array_equal, trained, rounded_weights(network, expected.trained.weights))
    assert len([*tmp_path.glob("weights*")]) == 2


def test_a_network_that_cannot_be_kept_is_not_done(tmp_path, monkeypatch):
    monkeypatch.setattr(Trained, "save", lambda *_: (_ for _ in ()).throw(OSError("No space left")))
    sweep = Sweep(SHALLOW, IMAGES, SETTINGS, SEEDS, at_once=1)
    with SweepFolder(tmp_path, sweep) as folder, pytest.raises(OSError, match="No space left"):
        folder.run()
    assert not folder.state.done


def test_states_of_other_groups_are_left_alone(tmp_path):
    """Those of other settings or data, and damaged ones: their networks are trained from the start."""
    sweep = Sweep(SHALLOW, IMAGES, SETTINGS, SEEDS, at_once=1)
    together = dataclasses.replace(sweep, at_once=2)
    folder = tmp_path / GROUPS
    folder.mkdir()
    first, second = sweep.groups((), folder)
    begun = [[each.trainer(IMAGES, SETTINGS, None, [0]).initial_state()] for each in (first, second)]
    second.save(begun[1], {})
    assert places(sweep, folder=folder) == [[1], [0]]
    assert places(sweep, folder=folder, done=[1]) == [[0]]
    for change in (dict(settings=Settings((2, 2), patience=0)), dict(data=IMAGES.subset(39, 30))):
        assert places(dataclasses.replace(together, **change), folder=folder) == [[0, 1]], change.keys()
    dataclasses.replace(first, file=second.file).save(begun[0], {})
    assert places(together, folder=folder) == [[0, 1]], "of another network"
    second.file.write_bytes(second.file.read_bytes()[:-9])
    assert second.load() == ([], {}), "damaged"
    second.save(begun[1], {})
    sweep.run(SweepState({at: {} for at in (0, 1)}), folder=folder)
    assert not folder.exists(), "states of trained networks are not left"


def test_an_error_of_one_group_loses_nothing_and_a_sweep_continues_with_others_too(tmp_path, monkeypatch):
    """A disk is full where the second of three groups is trained; then other networks are asked for.

    All ends the same, in the order of the variants, to the last bit, however the networks are cut into groups.
    """

    def folder(name: str, *thresholds: float) -> SweepFolder:
        variants = [{"layer1.threshold": each} for each in thresholds]
        at_once = 2 if name == "pairs" else 1
        return SweepFolder(tmp_path / name, Sweep(SHALLOW, IMAGES, SETTINGS, variants, at_once=at_once))

    save = Group.save

    def fail(self, states, errors):
        if self.places == (1,) and len(states[0].epochs) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(self, states, errors)

    monkeypatch.setattr(Group, "save", fail)
    with ThreadPoolExecutor(1) as executor, folder("swept", 9, 10, 11) as failed:
        with pytest.raises(OSError, match="No space left on device"):
            failed.run(Workers(executor, 3))
        assert [each["variant"]["layer1.threshold"] for each in records_of(failed.path)] == [9, 11]
    monkeypatch.setattr(Group, "save", save)
    with folder("swept", 10, 12) as other:
        (state,) = other.groups()[0].load()[0]
        assert (state.phase, state.done) == (1, 1), "it continues in the epoch where it was"
        other.run()
    assert not (tmp_path / "swept" / GROUPS).exists()
    with folder("swept", 9, 10, 11, 12) as again, folder("pairs", 9, 10, 11, 12) as pairs:
        assert again.groups() == []
        again.run()
        pairs.run()
    assert_same_sweep(tmp_path / "swept", tmp_path / "pairs")


# Components

RULES = """
import snnjax
from snnjax import STDP

@snnjax.component
class Halved(STDP):
    share: float = 0.5

    def rates(self, image):
        return self.share * super().rates(image)

SLOW = Halved(share=0.125)
"""


def test_components_vary_like_numbers_each_trained_as_alone():
    """Numbers are those of the variant's own component."""
    halved = Exploding(growth=0.5, doubling=50)
    variants = [{"seed": 1}, {"layer1.growth": 0.75, "layer1.learners": halved, "seed": 1}]
    sweep = Sweep(SHALLOW, IMAGES, SETTINGS, variants)
    assert places(sweep) == [[0], [1]]
    label = {"layer1.growth": 0.75, "layer1.learners": "Exploding(doubling=50, growth=0.5)", "seed": 1}
    assert sweep.labels == [{"seed": 1}, label]
    done = sweep.run().done
    assert [done[place]["variant"] for place in (0, 1)] == sweep.labels
    assert done[1]["components"]["layer1.learners"]["growth"] == 0.5
    network = SHALLOW.vary("layer1.learners", dataclasses.replace(halved, growth=0.75))
    alone = Trainer(network, IMAGES, dataclasses.replace(SETTINGS, seed=1))
    expected = alone.run(alone.initial_state())
    assert done[1]["epochs"] == expected.epochs
    assert done[1]["diagnoses"] == expected.diagnoses != done[0]["diagnoses"]


def test_an_encoder_brings_its_maps_and_time_steps():
    (network,) = Sweep(SHALLOW, IMAGES, SETTINGS, [{"encoder": Pixels(time_steps=9)}]).networks
    assert (network.input_shape, network.time_steps, network.encoder) == ((1, 28, 28), 9, Pixels(time_steps=9))
    made = dataclasses.replace(SHALLOW, name="made")
    sweep = Sweep(SHALLOW, IMAGES, SETTINGS, [{"encoder": Choice(PIXELS, "FILE.py:PIXELS", made)}])
    assert sweep.networks[0].name == "made"
    assert sweep.labels == [{"encoder": "FILE.py:PIXELS"}]
    assert sweep.variants == [{"encoder": PIXELS}]


def test_words_are_no_numbers_of_a_variant():
    with pytest.raises(InputError, match=r"layer1\.learners"):
        varied(SHALLOW, {"layer1.learners": "STDP"})


def test_paths_of_components():
    paths = SHALLOW.components()
    assert paths["layer1.learners"] == STDP(doubling=50)
    assert {"layer1.competition", "layer2.learners", "stage1.join", "encoder", "decision"} < paths.keys()
    several = dataclasses.replace(tiny.FIRST, learners=(STDP(), STDP(doubling=9)))
    assert dict(parts(several))["learners.1"] == STDP(doubling=9)
    changed = SHALLOW.vary("layer1.competition", WTA(1)).vary("decision", Earliest())
    assert (changed.stages[0].branches[0].competition, changed.decision) == (WTA(1), Earliest())
    with pytest.raises(InputError, match=r"^did you mean `layer1\.learners`\? `layer1\.learner` must name one of .*"):
        SHALLOW.vary("layer1.learner", STDP())
    with pytest.raises(InputError, match=r"layer1\.learners=WTA: `learners` must be instances of classes that derive"):
        SHALLOW.vary("layer1.learners", WTA())
    with pytest.raises(InputError, match=r"numbers and components, got 'STDP': write STDP\(\.\.\.\)"):
        Sweep(SHALLOW, IMAGES, SETTINGS, [{"layer1.learners": "STDP"}])


@pytest.mark.slow
def test_the_command_compares_components_by_name(tmp_path, monkeypatch, capsys):
    """The network's own by its class, others from a file; records of a rule that has changed are refused."""
    monkeypatch.chdir(tmp_path)
    rules = tmp_path / "rules_of_sweep.py"
    rules.write_text(RULES)
    rule = f"{rules}:Halved"
    given = [*tiny.TRAIN, "--epochs", "1", "2", "--vary", f"layer1.learners=STDP,{rule},{rules}:SLOW", "--out", "s"]
    Command("sweep").main(given)
    assert "program 3 of 3: 1 network, layer1.learners=" in capsys.readouterr().out
    records = records_of(tmp_path / "s")
    assert [each["variant"]["layer1.learners"] for each in records] == ["STDP", rule, f"{rules}:SLOW"]
    assert records[0]["components"]["layer1.learners"]["doubling"] == 50, "the network's own"
    assert [each["components"]["layer1.learners"].get("share") for each in records] == [None, 0.5, 0.125]
    results = json.loads((tmp_path / "s" / "sweep.json").read_text())
    assert str(rules) in results["settings"]["imports"]
    learned = Trained.read(tmp_path / "s" / records[2]["weights"]).network
    assert type(learned.stages[0].branches[0].learners).__name__ == "Halved"
    checkpoint = tmp_path / "s" / CHECKPOINT
    arrays, meta = files.load_checkpoint(checkpoint)
    meta["done"]["1"]["components"]["layer1.learners"]["share"] = 0.75
    files.save_checkpoint(checkpoint, arrays, meta)
    said = refused(Command("sweep"), capsys, *given)
    assert "was trained with other components: name another folder, it has layer1.learners.share 0.75 (now 0.5)" in said


@pytest.mark.parametrize(
    ("vary", "words"),
    [
        (
            "layer1.learners=STPD,RSTDP",
            "`layer1.learners` must be one of .*STDP.*, or FILE.py:NAME, got 'STPD': did you",
        ),
        ("layer1.learners=STDP,3", "`vary` must give numbers or names of components, not both, got"),
        ("layer1.learnings=STDP", "did you mean `layer1.learners`?"),
        (
            "layer1.learners=nofile.py:Own",
            "`layer1.learners` must name a Python file .*: there is no file nofile",
        ),
        ("layer1.learners=snnjax.learners.stdp:npp", r"`layer1.learners` .* has no 'npp'\s*$"),
        ("encoder=greey", "got 'greey': did you mean 'grey'?"),
        ("layer1.learners=", "`vary` must be a name and its values"),
        ("layer1.competition=STDP,WTA", "`layer1.competition` must be one of WTA, or FILE.py:NAME, got 'STDP'"),
        ("stage1.join=WTA", "`stage1.join` must be one of Concatenate, EarliestSpike, Flatten, LatestSpike, or FILE"),
        ("decision=STDP", "`decision` must be one of [^:]*Majority[^:]*, or FILE.py:NAME, got 'STDP'"),
        ("encoder.bank=STDP", "`encoder.bank` must be FILE.py:NAME, .* got 'STDP'"),
        ("decision=Majority,LinearSVM", "decision=LinearSVM: .* must be unsupervised"),
    ],
)
def test_wrong_components(tmp_path, capsys, vary, words):
    assert re.search(words, refused(Command("sweep"), capsys, *tiny.TRAIN, "--out", tmp_path / "out", "--vary", vary))


# The command

SWEPT = ["--vary", "layer1.threshold=9,1e6", "--at_once", "3", *tiny.TRAIN, "--epochs", "1", "2"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> tuple[pathlib.Path, str]:
    """The folder of a finished sweep, and what the command has printed; folders may be named like markup."""
    path = tmp_path_factory.mktemp("swept")
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.chdir(path):
        Command("sweep").main([*SWEPT, "--seeds", "2", "--out", "o[/x]/s"])
    return path / "o[/x]" / "s", out.getvalue()


def run_again(folder: pathlib.Path, capsys, *options: object, seeds: int = 2) -> str:
    """Runs the command on a folder; what it prints."""
    capsys.readouterr()
    Command("sweep").main([*SWEPT, "--seeds", seeds, "--out", folder, *options])
    return " ".join(capsys.readouterr().out.split())


def test_the_command_says_what_it_trains_and_keeps_it(swept):
    folder, printed = swept
    assert "program 2 of 2: 2 networks, layer1.threshold=1e+06" in printed
    assert "o[/x]/s: sweep.json, sweep.png" in printed
    assert (folder / "sweep.png").stat().st_size > 1000
    records = records_of(folder)
    assert [each["variant"] for each in records] == [
        {"layer1.threshold": threshold, "seed": seed} for threshold in (9, 1e6) for seed in (0, 1)
    ]
    for record in records:
        trained = Trained.read(folder / record["weights"])
        assert {name: x.shape for name, x in trained.weights.items()} == SHALLOW.weight_shapes
        assert trained.network.hyperparameters()["layer1.threshold"] == record["variant"]["layer1.threshold"]
        assert trained.settings["seed"] == record["variant"]["seed"]


def test_the_command_trains_what_is_new_or_lost(swept, tmp_path, capsys):
    copied = shutil.copytree(swept[0], tmp_path / "swept")
    before = records_of(copied)
    printed = run_again(copied, capsys, seeds=3)
    assert "6 networks, 2 to be trained" in printed
    records = records_of(copied)
    assert records[:4] == before
    assert [each["variant"]["seed"] for each in records[4:]] == [2, 2]
    assert len({each["weights"] for each in records}) == 6
    for name in ("sweep.json", "sweep.png"):
        (copied / name).unlink()
    assert "4 networks, 0 to be trained" in run_again(copied, capsys)
    assert records_of(copied) == records, "nothing is trained again, and nothing forgotten"
    assert (copied / "sweep.png").exists()
    shutil.copytree(swept[0], copied, dirs_exist_ok=True)
    (copied / CHECKPOINT).write_bytes((copied / CHECKPOINT).read_bytes()[:-7])
    printed = run_again(copied, capsys)
    assert f"continuing from {PREVIOUS}, the previous state" in printed
    assert "4 networks, 2 to be trained" in printed
    assert untimed(records_of(copied)) == untimed(before)


def test_the_folder_of_another_sweep_is_left_alone(swept, tmp_path, capsys):
    said = refused(Command("sweep"), capsys, *SWEPT, "--adapt_every", 7, "--out", swept[0])
    assert f"the sweep in {swept[0]} cannot be resumed with other settings or data: it had adapt_every 20" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--vary", "layer1.threshold"], "`vary` must be a name and its values"),
        (["--vary", "seed=1,2"], "`vary` must name each hyperparameter once, and no seed"),
        (["--vary", "layer1.radius=1,1"], "`vary` of layer1.radius must differ"),
        (["--epochs", 1, 0], "`epochs` must end with at least 1 supervised epoch, got (1, 0)"),
        (["--seeds", 60000, "--vary", "layer1.radius=1,2"], "must make at most 100,000 networks, got 120,000"),
        (
            ["--workers", 2, "--scheduler", "tcp://x:1"],
            "`workers` is for this machine, `scheduler` tcp://x:1 has its own, got 2",
        ),
    ],
)
def test_bad_options(tmp_path, capsys, options, words):
    assert words in refused(Command("sweep"), capsys, *tiny.TRAIN, "--out", tmp_path / "out", *options)
