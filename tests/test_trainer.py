"""Whole trainings of small networks: they learn, stop, and continue from any state as if they had never stopped."""

import collections
import copy
import dataclasses
import itertools

import jax
import numpy as np
import pytest
import tiny

from snnjax import Images
from snnjax.core import devices, files, metrics
from snnjax.core.components import leaves
from snnjax.core.errors import InputError
from snnjax.layers.conv import WTA, Conv
from snnjax.learners import RSTDP, STDP
from snnjax.networks import Network, stage
from snnjax.training import results
from snnjax.training.draws import key_of
from snnjax.training.groups import named
from snnjax.training.loop import Trainer, Training
from snnjax.training.placement import Placement
from snnjax.training.state import Callback, Settings, TrainState
from snnjax.training.sweep import Sweep

SHAPE = (6, 28, 28)
SHALLOW = tiny.plain(Images())
BRANCHES = tiny.branches(Images())
DECIDING = SHALLOW.stages[-1].branches[0]
SINGLE = Network("single", SHAPE, 10, (stage(Conv(20, kernel=28, learners=RSTDP())),))
REWARDED = RSTDP(bounds=(0, 1))
BOTH = dataclasses.replace(tiny.FIRST, learners=(tiny.FIRST.learners, REWARDED))
BY_TURNS = Network("by turns", SHAPE, 10, (stage(BOTH, pool=7), stage(DECIDING)), reward_by_turns=True)
MIDDLE = Conv(6, kernel=2, threshold=2, competition=WTA(4, radius=1), learners=tiny.FIRST.learners)
LATE = Network(
    "late",
    SHAPE,
    10,
    (
        stage(dataclasses.replace(tiny.FIRST, learners=REWARDED), pool=7),
        stage(MIDDLE),
        stage(Conv(20, kernel=3, learners=RSTDP())),
    ),
)
"""A stage that learns by STDP after one that learns by reward alone."""
DATA = tiny.images()


def train(spec: Network, epochs: tuple[int, ...], **settings) -> TrainState:
    trainer = Trainer(spec, DATA, Settings(epochs, **dict(batch_size=20, patience=0) | settings))
    return trainer.run(trainer.initial_state())


def assert_same(state: TrainState, expected: TrainState) -> None:
    """To the last bit, in all but how long it took."""
    for group in ("weights", "numbers", "learning", "best", "best_numbers"):
        arrays = getattr(state, group)
        others = getattr(expected, group)
        assert arrays.keys() == others.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, others[name], f"{group} {name}")
    for name in ("phase", "done", "epochs", "diagnoses", "curves", "reused", "keys", "origin"):
        assert getattr(state, name) == getattr(expected, name), name


@pytest.mark.parametrize(
    ("spec", "epochs", "update_batch"),
    [(BRANCHES, (1, 1, 2), 1), (LATE, (0, 2, 2), 8)],
    ids=["branches", "late, batched"],
)
def test_a_run_continues_from_any_state_as_if_it_had_not_stopped(spec, epochs, update_batch, tmp_path):
    """From every file that was saved, by a new trainer that saves the same."""
    saved = []

    def save(state):
        saved.append(tmp_path / f"{len(saved)}.npz")
        files.save_checkpoint(saved[-1], *state.flatten())

    def trainer():
        return Trainer(spec, DATA, Settings(epochs, batch_size=20, patience=0, update_batch=update_batch))

    first = trainer()
    initial = first.initial_state()
    whole = copy.deepcopy(first.run(first.initial_state(), save))
    assert len(whole.epochs) == epochs[-1]
    for name, weights in whole.weights.items():
        assert np.any(weights != initial.weights[name]), f"{name} has learned nothing"
    assert len(saved) == len(first.plan) + sum(phase.epochs for phase in first.plan)
    states = [TrainState.unflatten(*files.load_checkpoint(path)) for path in saved]
    for number, state in enumerate(states):
        later = iter(states[number + 1 :])
        resumed = trainer().run(copy.deepcopy(state), lambda state: assert_same(state, next(later)))
        assert_same(resumed, whole)
        assert next(later, None) is None, "all states have been saved"


def test_a_run_that_failed_begins_anew_with_the_same_trainer():
    """What the trainer keeps of the outputs of layers is not of the run that was interrupted."""
    settings = Settings((0, 2, 2), batch_size=20, patience=0, update_batch=8)
    trainer = Trainer(LATE, DATA, settings)
    expected = trainer.run(trainer.initial_state())
    for at in (0, 5):
        trainer = Trainer(LATE, DATA, settings)
        saved = []

        def fail(state):
            saved.append(copy.deepcopy(state))
            if len(saved) > at:
                raise OSError("the disk is full")

        with pytest.raises(OSError, match="the disk is full"):
            trainer.run(trainer.initial_state(), fail)
        assert_same(trainer.run(trainer.initial_state()), expected)
        assert_same(trainer.run(saved[-1]), expected)
    different = Trainer(LATE, DATA, dataclasses.replace(settings, seed=1)).initial_state()
    assert_same(trainer.run(copy.deepcopy(different)), Trainer(LATE, DATA, settings).run(different))


@pytest.mark.slow
def test_a_layer_that_waits_for_its_turn_stays_outside_the_bounds():
    """The decision layer learns from the second batch on, and its initial weights reach above its bounds till then."""
    for batch_size in (16, 1000):
        state = train(BY_TURNS, (1, 2), batch_size=batch_size)
        assert len(state.epochs) == 2
        assert state.weights["layer2"].max() <= DECIDING.learners.bounds[1], batch_size


def test_bounds_that_allow_other_kernels_are_no_mere_numbers():
    """Weights that may become negative need other programs, whichever network comes first in a sweep."""
    settings = Settings((1, 1), batch_size=20, patience=0)
    path = "layer1.learners.bounds.0"
    rough = dataclasses.replace(tiny.FIRST, threshold=3, learners=STDP(ltp=0.1, ltd=-0.3, stabiliser=False))
    spec = dataclasses.replace(SHALLOW, stages=(stage(rough, pool=7), SHALLOW.stages[1]))
    variants = [{path: 0.0}, {path: -1.0}]
    states = Sweep(spec, DATA, settings, variants).run().trained
    trainer = Trainer(spec.vary(path, -1.0), DATA, settings)
    alone = trainer.run(trainer.initial_state()).trained
    for name, weights in alone.weights.items():
        np.testing.assert_allclose(states[1].weights[name], weights, atol=1e-6)
    assert alone.weights["layer1"].min() < -0.5 < states[0].weights["layer1"].min()
    with pytest.raises(ValueError, match="`networks` must differ in numbers alone"):
        Training([spec, trainer.network], DATA, settings)


@pytest.mark.parametrize(
    ("accuracies", "patience", "length", "best"),
    [
        ([0.5, 0.7, 0.7, 0.6, 0.1, 0.2, 0.9, 0.9], 2, 6, 2),
        ([0.5, 0.7, 0.7, 0.6, 0.1, 0.2, 0.9, 0.9], 0, 8, 7),
        ([0.3] * 8, 1, 8, 7),
        ([0.9, *[0.3] * 7], 5, 7, 0),
    ],
)
def test_patience_and_the_best_network(monkeypatch, accuracies, patience, length, best):
    """Stops when the best epoch lies more than `patience` back; among equals the later network is the best."""
    script = iter(accuracies)

    def fractions(decisions, labels):
        truth = metrics.fractions(decisions, labels)
        return dict(truth, accuracy=next(script)) if labels is DATA.test_labels else truth

    monkeypatch.setattr(results, "fractions", fractions)
    trainer = Trainer(SHALLOW, DATA, Settings((2, 8), batch_size=20, patience=patience))
    seen = []
    state = trainer.run(trainer.initial_state(), lambda state: seen.append(dict(state.weights)))
    assert (len(state.epochs), state.best_epoch) == (length, best)
    jax.tree.map(np.testing.assert_array_equal, state.best, {name: seen[3 + best][name] for name in state.best})
    assert any(np.any(seen[3][name] != seen[2 + length][name]) for name in state.best), "all epochs are alike"


def test_callbacks_hear_of_every_image():
    class Counter(Callback):
        def __init__(self):
            self.promised, self.heard, self.epochs, self.correct = {}, collections.Counter(), [], []

        def started(self, phase, images):
            self.phase = phase
            self.promised[phase] = images

        def advanced(self, images, correct):
            self.heard[self.phase] += images
            self.correct.append(correct)

        def tested(self, record):
            self.epochs.append(record)

    counter = Counter()
    trainer = Trainer(SHALLOW, DATA, Settings((2, 3), batch_size=20), counter)
    state = trainer.run(trainer.initial_state())
    images = {"encode": 80, "STDP layer1": 80, "who fires in stage 1": 40, "who fires in stage 1, test": 40}
    assert counter.heard == counter.promised == images | {"R-STDP": 120}
    assert counter.epochs == state.epochs
    assert counter.correct[-3:] == [round(40 * each["train"]["accuracy"]) for each in state.epochs]
    assert {phase["name"]: phase["images"] for phase in state.phases} == dict(counter.heard, test=120)


def test_more_epochs_and_other_seeds_compile_nothing(compilations):
    first = train(BRANCHES, (1, 1, 1))
    others = []
    assert compilations(lambda: others.append(train(BRANCHES, (3, 3, 3), seed=1))) == 0
    assert np.any(first.weights["layer1"] != others[0].weights["layer1"])


WIDE = dataclasses.replace(DATA, train_labels=np.arange(40) % 11, classes=11)
LOW = dataclasses.replace(DATA, train_images=DATA.train_images[:, 1:], test_images=DATA.test_images[:, 1:])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Trainer(SHALLOW, DATA, Settings((1, 2, 3))), r"`epochs` must be 2 numbers for plain, got 3"),
        (lambda: Settings((1, -1)), "`epochs` must be at least 0, got -1"),
        (lambda: Settings(()), r"`epochs` must be a tuple .*got \(\)"),
        (lambda: Settings((1, 1), batch_size=0), "`batch_size` .*got 0"),
        (lambda: Settings((1, 1), patience=-1), "`patience` .*got -1"),
        (lambda: Settings((1, 1), update_batch=0), "`update_batch` .*got 0"),
        (lambda: Settings((1, 1), seed=-1), "`seed` .*got -1"),
        (lambda: Trainer(SHALLOW, WIDE, Settings((1, 1))), "the network has 10 classes, digits has 11"),
        (lambda: Trainer(SHALLOW, LOW, Settings((1, 1))), r"takes \(6, 28, 28\), .*become \(6, 27, 28\)"),
        (lambda: Training([SHALLOW, SHALLOW], DATA, Settings((1, 1)), [1]), "`seeds` .*got 1 of 2"),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_seeds_of_up_to_64_bits_draw_keys_that_differ():
    """Those below 2**32 are the keys that they were before."""
    assert key_of(3, 2**32 - 1).tolist() == [3, 2**32 - 1]
    assert named({"seed": 2**64 - 1}) == "seed=18446744073709551615"
    seeds = (0, 1, 2**32, 2**32 + 1, 2**64 - 1)
    keys = [key_of(*each) for each in itertools.product((0, 1), seeds, (0, 1))]
    assert {(key.dtype, key.shape) for key in keys} == {(np.dtype(np.uint32), (2,))}
    assert len({(*key.tolist(),) for key in keys}) == len(keys)


def test_each_learner_of_a_layer_has_a_key_of_its_own(monkeypatch):
    trainer = Trainer(BRANCHES, DATA, Settings((1, 3, 1)))
    state = trainer.initial_state()
    for phase, shown in enumerate((0, 0, 3 * 40 % 50)):  # a branch continues from the images of the one before
        state.phase = phase
        assert [*trainer.training.runners.fresh(state, 0)[0].values()] == [shown]
    for rule in (STDP, RSTDP):
        monkeypatch.setattr(rule, "init", lambda self, layer, key, seen: key)
    trainer = Trainer(BY_TURNS, DATA, Settings((1, 1), update_batch=2**31 - 1))
    assert trainer.training.runners.task(trainer.plan[0]).batch == 40, "of no more images than there are"
    assert trainer.uncompiled() == ["layer1 (STDP)", "layer1 (RSTDP)", "layer2 (RSTDP)"]
    assert trainer.training.runners.fresh(trainer.initial_state(), 0)[0]["layer1"].tolist() == [0, 0]
    keys = trainer.training.runners.fresh(dataclasses.replace(trainer.initial_state(), phase=1), 0)[0]
    assert {name: key.tolist() for name, key in keys.items()} == dict(layer1=[1 << 16, 0], layer2=[1, 0])


def test_metrics_by_hand():
    decisions = np.array([0, 1, 0, -1, 1, 2, -1, 0])
    labels = np.array([0, 1, 1, 2, 2, 2, 0, 0])
    assert metrics.fractions(decisions, labels) == dict(accuracy=0.5, wrong=0.25, silent=0.25)
    scores = np.eye(3)[decisions] * (decisions >= 0)[:, None] + 0.5 * (labels == 2)[:, None]
    report = metrics.report(decisions, labels, scores)
    assert report["confusion_matrix"] == [[2, 0, 0], [1, 1, 0], [0, 1, 1]], "labels in rows"
    classes = report["classes"]
    assert (classes["precision"], classes["images"]) == ([2 / 3, 0.5, 1], [3, 2, 3])
    assert classes["recall"] == pytest.approx([2 / 3, 1 / 2, 1 / 3])
    assert report["f1"] == pytest.approx(np.mean([2 / 3, 0.5, 0.5]))
    # Class 1 against the rest: 1 and -1 for its images; -1, 0, 0.75, -0.6, 0, -1 for the others.
    assert classes["roc_auc"][1] == pytest.approx((6 + 1) / 12)
    assert report["roc_auc"] == pytest.approx(np.mean(classes["roc_auc"]))
    one_class = metrics.report(np.ones(2, int), np.ones(2, int), np.ones((2, 2)))
    assert (one_class["roc_auc"], one_class["f1"]) == (None, 1), "classes without images count for nothing"


def test_the_roc_auc_ranks_images_on_one_scale():
    """1 for perfect decisions, whether by the largest score or not."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 2000)
    scores = (10.0 ** random.uniform(-6, 6, (2000, 1)) * random.uniform(0.1, 1, (2000, 4))).astype(np.float32)
    for perfect in (scores, scores + 5 * scores * np.eye(4, dtype=np.float32)[labels]):
        assert metrics.report(labels, labels, perfect)["classes"]["roc_auc"] == [1] * 4
    half = np.where(random.random(2000) < 0.5, labels, -1)  # silent images are neutral
    assert metrics.report(half, labels, scores)["roc_auc"] == pytest.approx(0.875, abs=0.02)


def test_a_state_keeps_the_numbers_that_learning_has_changed():
    """A number that has its initial value again is not kept; a network taken from the state before keeps its own."""
    state = TrainState(SHALLOW.initial_weights())
    numbers = dict(zip(leaves(tiny.FIRST, "layer1"), map(np.asarray, jax.tree.leaves(tiny.FIRST)), strict=True))
    changed = numbers | {"layer1.threshold": np.float32(np.inf), "layer1.learners.bounds.1": np.float32(2)}
    before = state.trained
    state.keep_layer("layer1", tiny.FIRST, np.zeros((4, 6, 5, 5), np.float32), list(changed.values()))
    assert state.numbers.keys() == {"layer1.threshold", "layer1.learners.bounds.1"}
    assert not before.numbers
    assert np.all(before.weights["layer1"] > state.weights["layer1"])
    assert state.network(SHALLOW).stages[0].branches[0].threshold == np.inf, "a layer may silence itself"
    state.keep_layer("layer1", tiny.FIRST, state.weights["layer1"], list(numbers.values()))
    assert state.numbers == {}


def test_a_network_learns_on_the_default_device():
    other = jax.devices("cpu")[-1]
    with jax.default_device(other):
        assert devices.peers()[0] == other
        assert Placement(1).learning.devices.item() == other
    assert Placement(1).learning.devices.item() == jax.devices("cpu")[0]
