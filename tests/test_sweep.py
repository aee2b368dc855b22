"""Many networks at once: each comes to what it comes to alone."""

import dataclasses
import errno
import itertools
import json
import pathlib
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command import Command

from snnjax import component, data, static
from snnjax.app import comparisons, draw_sweep
from snnjax.app.commands.sweep import table
from snnjax.core import devices, files
from snnjax.encoding import encode
from snnjax.layers.conv import WTA, Conv
from snnjax.learners import RSTDP, STDP
from snnjax.networks import NETWORKS, Network, stage
from snnjax.runs.run_folder import CHECKPOINT, PREVIOUS
from snnjax.runs.sweep_folder import GROUPS, SweepFolder
from snnjax.runs.trained import Trained
from snnjax.training import epoch
from snnjax.training.groups import Group, Progress, train
from snnjax.training.loop import Trainer
from snnjax.training.state import Settings
from snnjax.training.sweep import Sweep, SweepState
from snnjax.training.workers import Workers

IMAGES = data.digits().first(40, 30)
RULE, BOUNDED = STDP(doubling=15), RSTDP(bounds=(0.0, 1.0))
FEATURES = Conv(12, kernel=5, padding=2, threshold=15, competition=WTA(4, radius=3), learners=RULE)
SECOND = Conv(8, kernel=3, padding=1, threshold=3, competition=WTA(3, radius=1), learners=RULE)
REWARDED = dataclasses.replace(SECOND, learners=(RULE, BOUNDED))
DECISION = Conv(20, kernel=3, padding=1, learners=RSTDP())
STAGES = {
    "one": (stage(FEATURES, pool=4), stage(DECISION)),
    "branches": (stage(FEATURES, pool=2), stage(SECOND, SECOND, pool=2), stage(DECISION)),
    "votes": (stage(FEATURES, pool=4), stage(DECISION, dataclasses.replace(DECISION, kernel=1, padding=0), DECISION)),
    "mixed": (stage(FEATURES, pool=2), stage(REWARDED, SECOND, pool=2), stage(DECISION)),
    "first": (stage(dataclasses.replace(FEATURES, learners=(RULE, BOUNDED)), pool=4), stage(DECISION)),
    "rewarded": (stage(FEATURES, pool=2), stage(REWARDED, pool=2), stage(DECISION)),
}
VARIANTS = [
    {"seed": 3},
    {"seed": 1, "layer1.threshold": 9.0, "layer1.radius": 1},
    {"seed": 3, "layer1.ltp": 0.02, "layer1.ltd": -0.01, "layer1.doubling": 7},
]


@component
class Gain:
    """Encodes a darker image."""

    gain: float = 1.0
    time_steps: int = static(default=15)

    def __call__(self, image):
        return encode(image * self.gain)

    def output_shape(self, image_shape):
        return (6, *image_shape)


@component
class Least:
    """The strongest class, if it is strong enough."""

    timed = False
    least: float = 0.0

    def scores(self, spikes, classes):
        return spikes.potential.reshape(classes, -1).max(axis=1)

    def decide(self, scores):
        total = scores.sum(axis=0)
        return jnp.where(total.max() > self.least, jnp.argmax(total), -1).astype(jnp.int32)


@component
class Exploding(STDP):
    """Whose weights grow without bound once the growth is above 1."""

    growth: float = 1.0

    def update(self, layer, state, latency, response, signal):
        learned, state, info = super().update(layer, state, latency, response, signal)
        return learned.with_weights(learned.weights * self.growth), state, info


def growing(rewarded: bool) -> Network:
    """A network with a first layer that may grow, by STDP or by reward."""
    first = dataclasses.replace(FEATURES, learners=Exploding(doubling=15))
    if not rewarded:
        return Network("growing", (6, 28, 28), 10, (stage(first, pool=4), stage(DECISION)))
    decision = dataclasses.replace(DECISION, learners=ExplodingByReward())
    return Network("growing", (6, 28, 28), 10, (stage(FEATURES, pool=4), stage(decision)))


@component
class ExplodingByReward(RSTDP):
    """As `Exploding`, by reward, in the second epoch."""

    growth: float = 1.0

    def init(self, layer, key, seen):
        return super().init(layer, key, seen), jnp.zeros((), jnp.int32)

    def update(self, layer, state, latency, response, signal):
        learned, inner, info = super().update(layer, state[0], latency, response, signal)
        factor = jnp.where(state[1] > 0, self.growth, 1.0)
        return learned.with_weights(learned.weights * factor), (inner, state[1]), info

    def end_batch(self, state, tally):
        return super().end_batch(state[0], tally), state[1]

    def end_epoch(self, state):
        return super().end_epoch(state[0]), state[1] + 1

    def scalars(self, state):
        return super().scalars(state[0])


def network(name: str) -> Network:
    return Network(name, (6, 28, 28), 10, STAGES[name])


def places(sweep: Sweep, **how: Any) -> list[list[int]]:
    """The groups of a sweep."""
    return [[*each.places] for each in sweep.groups(**how)]


def weights_of(sweep: Sweep) -> dict[int, dict[str, np.ndarray]]:
    """Does a sweep; the last weights of each network."""
    weights = {}
    sweep.run(keep=lambda at, network, state: weights.update({at: state.weights}) or {})
    return weights


def assert_as_alone(sweep: Sweep, state: SweepState, weights: dict[int, dict[str, np.ndarray]], *places: int) -> None:
    """The networks of a sweep at these places end with what they end with alone, to the last bit."""
    for at in places:
        alone = Trainer(sweep.networks[at], sweep.data, dataclasses.replace(sweep.settings, seed=sweep.seeds[at]))
        expected = alone.run(alone.initial_state())
        assert state.done[at]["epochs"] == expected.epochs
        assert state.done[at]["diagnoses"] == expected.diagnoses
        for layer, array in expected.weights.items():
            np.testing.assert_array_equal(weights[at][layer], array)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "native"), [(name, False) for name in STAGES if name != "first"] + [("first", True)])
def test_each_network_comes_to_what_it_comes_to_alone(name, native):
    """Bit for bit; the number in one program is odd, so that a device has one more than the other."""
    spec = network(name)
    last = f"{spec.names[-1][-1]}."
    variants = [*VARIANTS[:2], {**VARIANTS[2], f"{last}reward.0": 0.01, f"{last}punish.1": 0.002}]
    variants += [{"seed": 1, "layer1.winners": 2}] if name == "one" else []  # of a structure, and a program, of its own
    settings, weights = Settings((2,) * len(spec.stages), batch_size=15, patience=0, native=native), {}
    sweep = Sweep(spec, IMAGES, settings, variants)
    assert places(sweep) == [[0, 1, 2], [3]][: len(variants) - 2]
    state = sweep.run(keep=lambda at, network, state: weights.update({at: state.weights}) or {})
    assert [state.done[at]["variant"] for at in range(len(variants))] == variants
    assert len({json.dumps([record["epochs"], record["diagnoses"]]) for record in state.done.values()}) > 2
    assert sweep.seeds == [each["seed"] for each in variants]
    assert_as_alone(sweep, state, weights, *range(1, len(variants)))


@pytest.mark.slow
def test_the_encoder_and_the_decision_may_vary_too():
    """Each network has latencies of its own then."""
    spec, settings = dataclasses.replace(network("one"), encoder=Gain(), decision=Least()), Settings((1, 2), patience=0)
    variants = [{"seed": 0}, {"seed": 0, "encoder.gain": 0.1}, {"seed": 0, "decision.least": 1e9}]
    sweep = Sweep(spec, IMAGES, settings, variants)
    assert places(sweep) == [[0, 1, 2]]
    done = sweep.run().done
    assert len({json.dumps([record["epochs"], record["diagnoses"]]) for record in done.values()}) == 3
    assert done[2]["epochs"][-1]["test"]["silent"] == 1
    for at in (1, 2):
        alone = Trainer(sweep.networks[at], IMAGES, settings)
        assert done[at]["epochs"] == alone.run(alone.initial_state()).epochs


@pytest.mark.slow
def test_side_by_side_as_on_an_accelerator(monkeypatch):
    """Under `jax.vmap` all networks and images go together; sums may round otherwise."""
    settings, variants = Settings((2, 2), batch_size=15, patience=0), VARIANTS[:2]
    alone = weights_of(Sweep(network("one"), IMAGES, settings, variants))
    jax.clear_caches()
    monkeypatch.setattr(devices, "map_each", lambda function, images: jax.vmap(function)(images))
    batched = weights_of(Sweep(network("one"), IMAGES, settings, variants))
    jax.clear_caches()
    for at, one in alone.items():
        for layer, weights in one.items():
            assert (np.abs(weights - batched[at][layer]) < 1e-5).mean() > 0.9


@pytest.mark.slow
def test_more_networks_compile_no_more(compilations):
    spec, settings = network("one"), Settings((1, 1), batch_size=15, patience=0)
    spec = spec.vary("layer1.features", 11)  # a structure of its own, so that nothing of it is compiled already
    counts = [compilations(lambda n=n: weights_of(Sweep(spec, IMAGES, settings, VARIANTS[1:] * n))) for n in (1, 3)]
    assert counts[0] > 3
    assert counts[1] <= counts[0]


def test_other_numbers_compile_nothing(compilations):
    spec, settings = network("one"), Settings((1, 1), batch_size=15, patience=0)
    weights_of(Sweep(spec, IMAGES, settings, VARIANTS[1:]))
    others = [{"seed": 5, "layer1.threshold": 8.0, "layer1.radius": 2}, {"seed": 6, "layer2.reward.0": 0.01}]
    assert compilations(lambda: weights_of(Sweep(spec, IMAGES, settings, others))) == 0


def test_what_may_vary_and_how_it_is_now():
    shape = dict(kernel=3, padding=1, stride=1, output_padding=0)
    initial = dict(weight_mean=0.8, weight_std=0.05)
    rule = dict(ltp=0.004, ltd=-0.003, doubling=15, ltp_max=0.15) | {"bounds.0": 0, "bounds.1": 1}
    reward = {"reward.0": 0.004, "reward.1": -0.003, "punish.0": -0.004, "punish.1": 0.0005}

    def learns(numbers: dict[str, float], place: str = "") -> dict[str, float]:
        return {f"learners.{place}{name}": value for name, value in numbers.items()}

    def competes(winners: int, radius: int) -> dict[str, float]:
        return {"competition.winners": winners, "competition.radius": radius}

    first = shape | dict(features=12, kernel=5, padding=2, threshold=15) | competes(4, 3) | learns(rule) | initial
    second = shape | dict(features=8, threshold=3) | competes(3, 1) | learns(rule) | initial
    last = shape | dict(features=20) | competes(1, 0) | learns(reward | {"bounds.0": 0.2, "bounds.1": 0.8}) | initial
    layers = dict(layer1=first, layer2_1=second, layer2_2=second, layer3=last)
    expected = {f"{layer}.{key}": value for layer, each in layers.items() for key, value in each.items()}
    assert network("branches").hyperparameters() == expected
    both = shape | dict(features=8, threshold=3) | competes(3, 1) | initial | learns(rule, "0.")
    both |= learns(reward | {"bounds.0": 0, "bounds.1": 1}, "1.")
    found = network("rewarded").hyperparameters()
    assert {name.removeprefix("layer2."): x for name, x in found.items() if name.startswith("layer2.")} == both
    encoding = dataclasses.replace(network("one"), encoder=Gain(), decision=Least()).hyperparameters()
    assert {name: x for name, x in encoding.items() if not name.startswith("layer")} == {
        "encoder.gain": 1,
        "encoder.time_steps": 15,
        "decision.least": 0,
    }


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ([], "`variants` must be at least one dict, got none"),
        (
            [{"layer1.kernels": 3}],
            r"^did you mean `layer1\.kernel`\? `layer1\.kernels` must name one of layer1\.features, .*1\.threshold",
        ),
        ([{"layer2.bounds": 3}], "`layer2.bounds` must name one of"),
        ([{"features": 3}], r"^`features` must name one of layer1\.features, layer2\.features$"),
        ([{"layer1.kernel": 40}], "the kernel"),
        ([{"layer1.winners": 0}], "`winners` must be at least 1, got 0"),
        ([{"layer1.winners": float("inf")}], "`layer1.winners` must be a finite number of 32 bits, got inf"),
        ([{"layer1.radius": 1.5}], "`layer1.radius` must be an integer, got 1.5"),
        ([{"layer1.radius": -1}], "^layer1.radius=-1: `radius` must be at least 0, got -1"),
        ([{"layer1.threshold": 1e39}], r"`layer1\.threshold` must be a finite number of 32 bits, got 1e\+39"),
        ([{"layer1.threshold": float("-inf")}], "`layer1.threshold` must be a finite number of 32 bits, got -inf"),
        ([{"layer1.ltp": 0.2}], r"`ltp` must lie above 0 and up to `ltp_max` \(0\.15\), got 0\.2"),
        ([{"layer2.reward.0": float("nan")}], "`layer2.reward.0` must be a finite number of 32 bits, got nan"),
        ([{"seed": -1}], "`seed` must be at least 0, got -1"),
        ([{"seed": float("nan")}], "`seed` must be an integer, got nan"),
    ],
)
def test_bad_variants(variants, message):
    with pytest.raises(ValueError, match=message):
        Sweep(network("one"), IMAGES, Settings((1, 1), patience=0), variants)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """The command in a folder of its own, with a small network."""
    monkeypatch.setitem(NETWORKS, "tiny", lambda images: dataclasses.replace(network("one"), epochs=(1, 1)))
    monkeypatch.chdir(tmp_path)
    small = ["--model", "tiny", "--epochs", "1", "1", "--train_images", "40", "--test_images", "30", "--device", "cpu"]
    return lambda *arguments: Command("sweep").main([*small, "--out", "swept", *arguments])


def told(folder: pathlib.Path | str = "swept") -> dict[str, Any]:
    """What sweep.json says."""
    return json.loads((pathlib.Path(folder) / "sweep.json").read_text())


def test_the_command_keeps_what_is_finished(run, capsys):
    run("--vary", "layer1.threshold=9,15", "--seeds", "2", "--at_once", "3", "--alone", "1")
    printed = capsys.readouterr().out
    assert "4 networks, 4 to be trained" in printed
    lines = [line for line in printed.splitlines() if line.startswith(("program", "alone:"))]
    assert lines == [
        "program 1 of 2: 2 networks, layer1.threshold=9",
        "program 2 of 2: 2 networks, layer1.threshold=15",
        "alone: network 1 of 1, layer1.threshold=9, seed=0",
    ]
    assert "1 reached exactly the same accuracies" in printed
    first = told()
    assert [each["variant"]["layer1.threshold"] for each in first["networks"]] == [9, 9, 15, 15]
    for at, each in enumerate(first["networks"]):
        trained = Trained.read(pathlib.Path("swept") / each["weights"])
        shapes = {name: value.shape for name, value in trained.weights.items()}
        assert shapes == {"layer1": (12, 6, 5, 5), "layer2": (20, 12, 3, 3)}
        assert trained.network.hyperparameters()["layer1.threshold"] == [9, 9, 15, 15][at]
        assert trained.settings["seed"] == each["variant"]["seed"] == at % 2
    assert pathlib.Path("swept/sweep.png").stat().st_size > 1000
    run("--vary", "layer1.threshold=9,15", "--seeds", "3")
    assert "6 networks, 2 to be trained" in capsys.readouterr().out
    second = told()
    assert second["networks"][:4] == first["networks"]
    assert len({each["weights"] for each in second["networks"]}) == 6
    assert [each["variant"]["seed"] for each in second["networks"][4:]] == [2, 2]
    run("--vary", "layer1.threshold=9,15", "--seeds", "2", "--alone", "1")
    assert "4 networks, 0 to be trained" in capsys.readouterr().out
    for each, expected in zip(told()["networks"], second["networks"], strict=True):
        assert each | dict(test=None) == expected | dict(test=None), "nothing is trained again, and nothing forgotten"
        assert "test" not in each or each["variant"]["seed"] < 2, "the best of these variants alone is tested"
    run("--vary", "layer1.threshold=9,15", "--seeds", "3", "--alone", "1")
    assert "6 networks, 0 to be trained" in capsys.readouterr().out
    assert told()["networks"] == second["networks"]


def test_the_command_says_which_networks_stay_silent(run, capsys):
    """And what to try; nothing of those that fire."""
    run("--vary", "layer1.threshold=9,1e6")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("layer1.threshold ")]
    assert len(lines) == 1
    assert lines[0].startswith("layer1.threshold 1e+06, seed 0: ")
    assert "the threshold 1e+06 of layer1 is too high: try a lower one" in lines[0]


@pytest.mark.parametrize(("seeds", "title"), [(1, "accuracy in %"), (2, "accuracy in %, mean ± standard deviation")])
def test_the_table_says_what_follows_the_mean(seeds, title):
    def network(seed: int) -> dict[str, Any]:
        parts = {part: dict(accuracy=0.5 + 0.01 * seed) for part in ("train", "validation", "test")}
        return dict(variant=dict(gap=1, seed=seed), epochs=[parts], best_epoch=0, test=parts["test"])

    shown = table([network(seed) for seed in range(seeds)])
    assert str(shown.title).removesuffix(" over the seeds") == title
    assert [*shown.columns[-1].cells] == ["50.0" if seeds == 1 else "50.5 ± 0.7"]


def test_a_folder_may_be_named_like_markup(run, capsys):
    run("--out", "o[/x]/s")
    assert "o[/x]/s: sweep.json, sweep.png" in capsys.readouterr().out


def test_no_more_networks_than_told_share_a_program():
    variants = [{"seed": 1}, {"seed": 2, "layer1.winners": 2}, {"seed": 3}, {"seed": 4, "layer1.threshold": 9.0}]
    sweep = Sweep(network("one"), IMAGES, Settings((1, 1), patience=0), variants, at_once=2)
    assert places(sweep) == [[0, 2], [3], [1]]


@pytest.mark.parametrize(
    ("workers", "expected"),
    [
        (1, [[0, 1, 3, 4], [2]]),
        (3, [[0, 1], [3, 4], [2]]),
        (4, [[0], [1], [3], [4], [2]]),
        (9, [[0], [1], [3], [4], [2]]),
    ],
)
def test_all_workers_have_something_to_do(workers, expected):
    variants = [{"seed": seed} for seed in range(5)]
    variants[2]["layer1.winners"] = 2
    sweep = Sweep(network("one"), IMAGES, Settings((1, 1), patience=0), variants)
    assert places(sweep, workers=workers) == expected
    assert places(sweep, done=[0, 2, 4], workers=workers) == ([[1, 3]] if workers == 1 else [[1], [3]])


class Travelling(ThreadPoolExecutor):
    """Work, groups and outcomes travel as to another process and back."""

    def submit(self, task, *arguments):
        sent = pickle.dumps((task, arguments))
        return super().submit(travelled, sent)


def travelled(sent: bytes) -> Any:
    task, arguments = pickle.loads(sent)
    return pickle.loads(pickle.dumps(task(*arguments)))


def test_workers_may_end_in_any_order(tmp_path):
    """Records, in their order, and weights are the same to the last bit, however the networks are cut into groups."""
    variants = [{"seed": seed, "layer1.threshold": threshold} for threshold in (9.0, 15.0) for seed in (0, 1)]
    sweep = Sweep(network("one"), IMAGES, Settings((1, 2), batch_size=15, patience=0), variants)
    for count in (1, 3):
        with Travelling(2) as executor, SweepFolder(tmp_path / str(count), sweep, draw=draw_sweep) as folder:
            assert len(folder.groups(count)) == (1, 4)[count == 3]
            folder.run(Workers(executor, count))
    assert_same_sweep(tmp_path / "1", tmp_path / "3")


def assert_same_sweep(one: pathlib.Path, other: pathlib.Path) -> None:
    """Two folders hold the same networks, and nothing of any training; how long they took may differ."""
    tables = []
    for path in (one, other):
        tables.append([{**each, "seconds": 0, "compile_seconds": 0} for each in told(path)["networks"]])
        names = {each.name for each in path.iterdir()} - {CHECKPOINT, PREVIOUS, ".lock"}
        trained = [each["weights"] for each in tables[-1] if "error" not in each]
        assert names == {"sweep.json", "sweep.png", *trained}
    assert tables[0] == tables[1]
    for name in trained:
        (arrays, meta), (others, other_meta) = (files.load_checkpoint(path / name) for path in (one, other))
        assert meta == other_meta
        assert arrays.keys() == others.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, others[name])


def test_an_error_of_one_group_loses_nothing_of_the_others(tmp_path, monkeypatch):
    """A disk is full where the second of three groups is trained; the sweep goes on with its last whole epoch."""
    variants = [{"seed": seed} for seed in range(3)]
    sweep = Sweep(network("one"), IMAGES, Settings((1, 2), batch_size=15, patience=0), variants, at_once=1)
    save, saved, begun = Group.save, [], []

    def fail(self, progress):
        if self.places == (1,) and progress.states[0].epochs:
            raise OSError(errno.ENOSPC, "No space left on device")
        saved.append(self.places)
        save(self, progress)

    with ThreadPoolExecutor(1) as executor, SweepFolder(tmp_path / "failed", sweep, draw=draw_sweep) as folder:
        monkeypatch.setattr(Group, "save", fail)
        with pytest.raises(OSError, match="No space left on device"):
            folder.run(Workers(executor, 3))
        assert [each["variant"]["seed"] for each in told(folder.path)["networks"]] == [0, 2]
        assert [at for (at,) in saved if at == 1], "it had an epoch by then"
    monkeypatch.setattr(Group, "save", save)
    load = Group.load
    monkeypatch.setattr(Group, "load", lambda group: begun.append(load(group).states[0].phase) or load(group))
    with SweepFolder(tmp_path / "failed", sweep, draw=draw_sweep) as folder:
        folder.run()
    assert begun == [1]
    monkeypatch.setattr(Group, "load", load)
    with SweepFolder(tmp_path / "whole", sweep, draw=draw_sweep) as folder:
        folder.run()
    assert_same_sweep(tmp_path / "failed", tmp_path / "whole")


@pytest.mark.parametrize("rewarded", [False, True], ids=["stdp", "reward"])
def test_networks_that_learning_leaves_invalid_are_named_and_the_others_go_on(rewarded, tmp_path, monkeypatch):
    """They are as they are alone; also where the sweep is stopped after that, or has no folder."""
    growth = "layer2.growth" if rewarded else "layer1.growth"
    variants = [{"seed": 0}, {"seed": 1, growth: 1e30}, {"seed": 2}, {"seed": 3, growth: 1e30}]
    sweep = Sweep(growing(rewarded), IMAGES, Settings((2, 3), batch_size=15, patience=0), variants)
    weights: dict[int, dict[str, np.ndarray]] = {}
    state = sweep.run(keep=lambda at, network, state: weights.update({at: state.weights}) or {})
    assert_as_alone(sweep, state, weights, 0, 2)
    for at in (1, 3):
        where = f" left {growth[:6]} invalid in epoch {1 + rewarded}: `weights` must "
        assert state.done[at]["error"].startswith(f"seed={at}, {growth}=1e+30: `update` of ")
        assert where in state.done[at]["error"], state.done[at]["error"]
        assert (state.done[at]["variant"], state.done[at]["epochs"]) == (variants[at], [])
    assert sorted(weights) == sorted(state.trained) == [0, 2]
    save = Group.save

    def stop(self, progress):
        save(self, progress)
        if progress.errors and progress.states[0].phase == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Group, "save", stop)
    with SweepFolder(tmp_path / "stopped", sweep, draw=draw_sweep) as folder, pytest.raises(KeyboardInterrupt):
        folder.run()
    monkeypatch.setattr(Group, "save", save)
    load, begun = Group.load, []
    monkeypatch.setattr(Group, "load", lambda group: begun.append([*load(group).errors]) or load(group))
    with SweepFolder(tmp_path / "stopped", sweep, draw=draw_sweep) as folder:
        folder.run()
    assert begun == [[1, 3]], "it goes on without them"
    monkeypatch.setattr(Group, "load", load)
    with SweepFolder(tmp_path / "whole", sweep, draw=draw_sweep) as folder:
        records = folder.run()
    assert [each["epochs"] for each in records] == [state.done[at]["epochs"] for at in range(4)]
    assert_same_sweep(tmp_path / "stopped", tmp_path / "whole")
    with SweepFolder(tmp_path / "whole", sweep, draw=draw_sweep) as folder:
        assert folder.groups() == [], "none is trained again"
    monkeypatch.setattr(epoch, "SLICE", 15)
    monkeypatch.setattr(epoch, "EVERY", 0.0)
    within = pickle.loads(pickle.dumps(train(sweep.data, sweep.settings, *sweep.groups())))  # as in another process
    assert [each["epochs"] for each in within.records] == [each["epochs"] for each in records]
    assert [each is None for each in within.states] == [False, True, False, True]


def test_a_group_may_be_invalid_as_a_whole(tmp_path):
    data, settings = IMAGES.hold_out(0.2, 0), Settings((1, 1), batch_size=15, patience=0)
    sweep = Sweep(growing(rewarded=False), data, settings, [{"layer1.growth": 1e30}, {"seed": 1}], at_once=1)
    with SweepFolder(tmp_path, sweep) as folder:
        invalid, trained = folder.run()
    assert "error" in invalid
    assert "test" in trained
    assert {each.name for each in tmp_path.glob("weights*")} == {trained["weights"]}


def test_a_network_that_cannot_be_kept_is_not_done(tmp_path, monkeypatch):
    sweep = Sweep(network("one"), IMAGES, Settings((1, 1), batch_size=15, patience=0), [{"seed": 0}])
    save = Trained.save
    monkeypatch.setattr(Trained, "save", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with SweepFolder(tmp_path, sweep) as folder:
        with pytest.raises(OSError, match="No space left"):
            folder.run()
        assert not folder.state.done
        monkeypatch.setattr(Trained, "save", save)
        assert "weights" in folder.run()[0]


def test_the_command_says_which_networks_are_invalid(monkeypatch, tmp_path, capsys):
    """And goes on; the best combination is one without such networks."""
    monkeypatch.setitem(NETWORKS, "growing", lambda images: growing(rewarded=False))
    monkeypatch.chdir(tmp_path)
    small = ["--model", "growing", "--epochs", "1", "1", "--train_images", "40", "--test_images", "30"]
    small += ["--device", "cpu", "--out", "swept"]

    def printed(*values: str) -> str:
        Command("sweep").main([*small, "--vary", f"growth={','.join(values)}", "--alone", "9"])
        return " ".join(capsys.readouterr().out.split())

    out = printed("1e30", "1")
    assert out.count("growth=1e+30, seed=0: `update` of Exploding left layer1 invalid in epoch 1: ") == 2, "at once too"
    assert "stopped: growth=1e+30, seed=0: `update` of Exploding" in out
    assert "1 network side by side" in out
    records = {each["variant"]["growth"]: each for each in told()["networks"]}
    assert "weights" not in records[1e30]
    assert "test" in records[1]
    assert "2 networks, 0 to be trained" in printed("1e30", "1")
    assert "3 networks, 1 to be trained" in printed("1e30", "1", "2e30")
    with pytest.raises(SystemExit) as stopped:
        printed("1e30", "2e30")
    shown = capsys.readouterr()
    assert "2 networks, 0 to be trained" in shown.out
    assert (stopped.value.code, shown.err.count("\n")) == (2, 1)
    assert "learning left all networks invalid; growth=1e+30, seed=0: `update` of Exploding left layer1" in shown.err
    with pytest.raises(FileNotFoundError, match=r"such as swept/weights_\d+\.npz, the best"):
        Trained.read("swept")


def test_after_an_error_no_more_groups_are_handed_out(monkeypatch):
    begun = []
    monkeypatch.setattr(Group, "training", lambda self, *_: begun.append(self.places) or (_ for _ in ()).throw(OSError))
    sweep = Sweep(network("one"), IMAGES, Settings((1, 1), patience=0), [{"seed": 0}, {"seed": 1}], at_once=1)
    with pytest.raises(OSError):  # noqa: PT011
        sweep.run()
    assert begun == [(0,)]


def test_states_of_other_groups_are_left_alone(tmp_path):
    """Those of other settings or data, and damaged ones: their networks are trained from the start."""
    settings, variants = Settings((1, 2), batch_size=15, patience=0), [{"seed": 0}, {"seed": 1}]
    sweep = Sweep(network("one"), IMAGES, settings, variants, at_once=1)
    folder = tmp_path / GROUPS
    folder.mkdir()
    first, second = sweep.groups((), folder)
    begun = [Progress(each.training(IMAGES, settings, None, [0]).initial_states()) for each in (first, second)]
    second.save(begun[1])
    assert places(sweep, folder=folder) == [[1], [0]]
    assert places(sweep, folder=folder, done=[1]) == [[0]]
    assert places(dataclasses.replace(sweep, at_once=2), folder=folder) == [[1], [0]]
    assert places(dataclasses.replace(sweep, at_once=2, settings=Settings((2, 2), patience=0)), folder=folder) == [
        [0, 1]
    ]
    assert places(dataclasses.replace(sweep, at_once=2, data=IMAGES.first(39, 30)), folder=folder) == [[0, 1]]
    arrays, meta = files.load_checkpoint(second.file)
    files.save_checkpoint(second.file, arrays, {name: each for name, each in meta.items() if name != "errors"})
    assert len(second.load().states) == 1, "a file from before networks could be invalid"
    dataclasses.replace(first, file=second.file).save(begun[0])
    assert places(dataclasses.replace(sweep, at_once=2), folder=folder) == [[0, 1]]
    second.file.write_bytes(second.file.read_bytes()[:-9])
    assert places(dataclasses.replace(sweep, at_once=2), folder=folder) == [[0, 1]]
    for file in (second.file, tmp_path / "none" / "x.npz"):
        assert dataclasses.replace(second, file=file).load() == Progress()
    dataclasses.replace(second, file=tmp_path / "none" / "x.npz").save(begun[0])
    assert not (tmp_path / "none").exists(), "a worker elsewhere has no such folder"


def test_losing_what_can_be_written_again_loses_nothing(run, capsys):
    arguments = ["--vary", "layer1.threshold=9,15", "--at_once", "1", "--validation", "0"]
    run(*arguments)
    folder, before = pathlib.Path("swept"), told()
    for name in ("sweep.json", "sweep.png"):
        (folder / name).unlink()
    run(*arguments)
    assert "2 networks, 0 to be trained" in capsys.readouterr().out.replace("2 to be", "")
    assert told() == before
    assert (folder / "sweep.png").exists()
    whole = (folder / CHECKPOINT).read_bytes()
    for damaged in (whole[:-7], b"", whole[: len(whole) // 2]):
        (folder / CHECKPOINT).write_bytes(damaged)
        capsys.readouterr()
        run(*arguments)
        out = " ".join(capsys.readouterr().out.split())
        assert "checkpoint.npz is damaged" in out
        assert f"going on from {PREVIOUS}, the state before" in out
        assert "2 networks, 1 to be trained" in out
        found = told()
        for each, expected in zip(found["networks"], before["networks"], strict=True):
            assert {**each, **dict.fromkeys(("seconds", "compile_seconds"))} == {
                **expected,
                **dict.fromkeys(("seconds", "compile_seconds")),
            }
    for name in (CHECKPOINT, PREVIOUS):
        (folder / name).write_bytes(whole[:-7])
    with pytest.raises(SystemExit):
        run(*arguments)
    assert "there is nothing to go on from, name another folder" in capsys.readouterr().err


def test_a_sweep_that_stopped_goes_on_with_others_too(run, capsys, monkeypatch):
    """Stopped within the second of two programs, then asked for other networks at once, and more of them."""
    calls, save, begun = itertools.count(), Group.save, []

    def stop(self, progress):
        save(self, progress)
        if next(calls) == 6:
            raise KeyboardInterrupt

    def begin(self):
        begun.append([state.phase for state in load(self).states])
        return load(self)

    arguments = ["--vary", "layer1.winners=3,2", "--epochs", "1", "2"]
    monkeypatch.setattr(Group, "save", stop)
    with pytest.raises(SystemExit) as stopped:
        run(*arguments, "--at_once", "1")
    monkeypatch.setattr(Group, "save", save)
    assert stopped.value.code == 130
    assert "The same command goes on" in capsys.readouterr().out
    _, meta = files.load_checkpoint(pathlib.Path("swept") / CHECKPOINT)
    assert list(meta["done"]) == ["0"]
    load = Group.load
    monkeypatch.setattr(Group, "load", begin)
    run("--vary", "layer1.winners=2,4", "--epochs", "1", "2")
    assert begun == [[1], []], "it goes on with the group that was in training"
    assert not (pathlib.Path("swept") / GROUPS).exists()
    assert "2 networks, 2 to be trained" in capsys.readouterr().out
    found = {each["variant"]["layer1.winners"]: each for each in told()["networks"]}
    assert list(found) == [3, 2, 4]
    run(*arguments, "--out", "whole")
    for each in told("whole")["networks"]:
        assert found[each["variant"]["layer1.winners"]]["epochs"] == each["epochs"]
        ours = Trained.read(pathlib.Path("swept") / found[each["variant"]["layer1.winners"]]["weights"])
        theirs = Trained.read(pathlib.Path("whole") / each["weights"])
        assert ours.network == theirs.network
        for name, array in theirs.weights.items():
            np.testing.assert_array_equal(ours.weights[name], array)


@pytest.mark.parametrize(
    "change",
    [
        dict(done=None),
        dict(done={"7": {}}),
        dict(trained=[0]),
        dict(states=[dict(phase=3)]),
    ],
)
def test_states_of_sweeps_that_are_none_are_refused(run, capsys, change):
    run("--vary", "layer1.threshold=9,15")
    path = pathlib.Path("swept") / CHECKPOINT
    arrays, meta = files.load_checkpoint(path)
    files.save_checkpoint(path, arrays, meta | change)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        run("--vary", "layer1.threshold=9,15")
    err = capsys.readouterr().err
    assert (stopped.value.code, err.count("\n")) == (2, 1)
    assert "checkpoint.npz holds no state to go on from" in err


def test_a_folder_holds_one_sweep_at_a_time(run, capsys):
    pathlib.Path("swept").mkdir()
    with files.lock(pathlib.Path("swept")), pytest.raises(SystemExit):
        run()
    assert "another run is writing into swept" in capsys.readouterr().err
    assert not list(pathlib.Path("swept").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--vary", "layer1.threshold"],
            "`vary` must be a name and its values, numbers without blanks, as layer1.threshold=10,15",
        ),
        (["--vary", "seed=1,2"], "`vary` must name each hyperparameter once, and no seed"),
        (["--vary", "layer1.radius=1,2", "layer1.radius=3"], "must name each hyperparameter once"),
        (["--vary", "layer1.radius=1,1"], "`vary` must give values that differ"),
        (["--epochs", "1", "0"], "`epochs` must end with at least 1 supervised epoch, got (1, 0)"),
        (["--vary", "layer1.kernels=3"], "`layer1.kernels` must name one of layer1.features, "),
        (["--seeds", "0"], "`seeds` must be at least 1, got 0"),
        (["--at_once", "0"], "`at_once` must be at least 1, got 0"),
        (["--at_once", str(2**31)], "`at_once` must be at most 2147483647, got 2147483648"),
        (["--workers", str(2**31)], "`workers` must be at most 2147483647, got 2147483648"),
        (["--seeds", "60000", "--vary", "layer1.radius=1,2"], "must make at most 100,000 networks, got 120,000"),
        (["--workers", "0"], "`workers` must be at least 1, got 0"),
        (
            ["--workers", "2", "--scheduler", "tcp://x:1"],
            "`scheduler` tcp://x:1 has others: take one of both",
        ),
        (["--model", "none"], "`model` must be one of mozafari2018, "),
    ],
)
def test_bad_options(run, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_another_sweep_is_not_overwritten(run, capsys):
    run()
    with pytest.raises(SystemExit):
        run("--batch_size", "7")
    err = capsys.readouterr().err
    assert "swept cannot be resumed with other settings or data: it had batch_size 100 (now 7)" in err


def test_a_sweep_keeps_the_variants_it_was_given():
    variants = [{"seed": 1.0}]
    made = Sweep(Network("n", (6, 28, 28), 10, STAGES["one"]), IMAGES, Settings((1, 1), patience=0), variants)
    variants[0]["seed"] = 2.0
    variants.append({"seed": 3.0})
    assert made.variants == [{"seed": 1.0}]
    assert made.seeds == [1]


@pytest.mark.parametrize("variants", [[{}], [{}, {"layer1.threshold": 20}], [{"layer1.threshold": 20}, {"seed": 1}]])
def test_variants_that_differ_in_what_they_vary_are_drawn(tmp_path, variants):
    epochs = [dict(test=dict(accuracy=0.5))]
    comparisons.draw_sweep(tmp_path, [dict(variant=each, epochs=epochs) for each in variants])
    assert (tmp_path / "sweep.png").stat().st_size > 1000
