"""Whole trainings of small networks: that they learn, stop, and go on from any state as if they had never stopped."""

import collections
import copy
import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnjax import Learner, component
from snnjax.core import devices, files, metrics
from snnjax.core.components import leaves
from snnjax.core.errors import InputError
from snnjax.data import Dataset, digits
from snnjax.encoding import encode
from snnjax.layers.conv import WTA, Conv
from snnjax.layers.layer_kernels import XLA
from snnjax.layers.spiking import Layer
from snnjax.learners import RSTDP, STDP
from snnjax.networks import Model, Network, stage
from snnjax.steps import plain
from snnjax.steps.plain import Carry, Slice, Task
from snnjax.training import results
from snnjax.training.draws import key_of
from snnjax.training.groups import named
from snnjax.training.loop import Trainer, Training
from snnjax.training.placement import Placement
from snnjax.training.state import Callback, Settings, TrainState
from snnjax.training.sweep import Sweep

SHAPE = (6, 28, 28)
QUICK = STDP(doubling=50)
FIRST = Conv(10, kernel=5, padding=2, threshold=15, competition=WTA(5, radius=3), learners=QUICK)
DECIDING = Conv(100, kernel=5, padding=1, learners=RSTDP())
SHALLOW = Network("shallow", SHAPE, 10, (stage(FIRST, pool=4), stage(DECIDING)))
MIDDLE = stage(
    Conv(30, kernel=2, threshold=2, competition=WTA(8, radius=1), learners=QUICK),
    Conv(30, kernel=4, threshold=6, competition=WTA(8, radius=1), learners=QUICK, output_padding=1),
    pool=2,
)
BRANCHES = Network("branches", SHAPE, 10, (stage(FIRST, pool=4), MIDDLE, stage(Conv(100, 3, learners=RSTDP()))))
SINGLE = Network("single", SHAPE, 10, (stage(Conv(50, kernel=28, learners=RSTDP())),))
REWARDED = RSTDP(bounds=(0, 1))
BOTH = dataclasses.replace(FIRST, learners=(QUICK, REWARDED))
BY_TURNS = Network("by turns", SHAPE, 10, (stage(BOTH, pool=4), stage(DECIDING)), reward_by_turns=True)
LATE = Network(
    "late",
    SHAPE,
    10,
    (
        stage(dataclasses.replace(FIRST, learners=REWARDED), pool=4),
        stage(Conv(12, kernel=2, threshold=2, competition=WTA(4, radius=1), learners=QUICK), pool=2),
        stage(Conv(20, kernel=3, learners=RSTDP())),
    ),
)
"""A stage that learns by STDP after one that learns by reward alone."""


@pytest.fixture(scope="module")
def data() -> Dataset:
    return digits().first(400, 200)


@pytest.fixture(scope="module")
def little(data) -> Dataset:
    return data.first(60, 30)


def train(spec: Network, data: Dataset, epochs: tuple[int, ...], **settings) -> TrainState:
    trainer = Trainer(spec, data, Settings(epochs, **dict(batch_size=20, patience=0) | settings))
    return trainer.run(trainer.initial_state())


def assert_same(state: TrainState, expected: TrainState) -> None:
    """To the last bit, in all but how long it took."""
    for group in ("weights", "numbers", "learning", "best", "best_numbers"):
        arrays, others = getattr(state, group), getattr(expected, group)
        assert arrays.keys() == others.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, others[name], f"{group} {name}")
    for name in ("phase", "done", "epochs", "diagnoses", "reused", "keys", "origin"):
        assert getattr(state, name) == getattr(expected, name), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "epochs", "least"), [(SHALLOW, (2, 10), 0.5), (BRANCHES, (2, 2, 10), 0.3), (SINGLE, (10,), 0.5)]
)
def test_networks_beyond_the_shipped_ones_learn(data, spec, epochs, least):
    trainer = Trainer(spec, data, Settings(epochs, batch_size=50))
    state = trainer.run(trainer.initial_state())
    best = state.epochs[state.best_epoch]["test"]
    assert best["accuracy"] > least > state.epochs[0]["train"]["accuracy"]
    decisions, scores = trainer.predict(state, data.test_images)
    assert (scores.argmax(axis=1) == decisions)[decisions >= 0].all(), "of one deciding layer"
    network = trainer.trained(state)
    assert [int(network(image)) for image in data.test_images[:3]] == decisions[:3].tolist()
    found = metrics.fractions(decisions, data.test_labels)
    assert found == pytest.approx(best, abs=0.05), "from images, the best network decides otherwise but for ties"
    for part in ("train", "test"):
        assert sum(state.epochs[-1][part].values()) == pytest.approx(1)


@pytest.mark.slow
def test_layers_learn_one_after_the_other_from_frozen_ones(little):
    """The image number runs on from one branch to the next; each branch starts at the first rates."""
    state = train(BRANCHES, little, (1, 2, 0))
    weights = BRANCHES.initial_weights()
    latencies = jax.vmap(encode)(little.train_images)
    learn = jax.jit(plain.learn_unsupervised, static_argnums=0)
    convs = {name: conv for _, name, conv in BRANCHES.layers()}
    for name, numbers in (("layer1", [0]), ("layer2_1", [0, 60]), ("layer2_2", [120 % 50, 120 % 50 + 60])):
        if name == "layer2_1":
            model = Model.of(BRANCHES, weights)
            latencies = jax.jit(jax.vmap(lambda latency: model.forward(latency, 0, 1)))(latencies)
        layer = Layer(convs[name], jnp.asarray(weights[name]), BRANCHES.time_steps, XLA, convs[name].monotone)
        for number in numbers:
            part = Slice(latencies, np.int32(0), np.int32(len(latencies)), np.bool_(True))
            carry = Carry({name: layer}, {name: np.int32(number)})
            carry, found = learn(Task((name,), learner=0), carry, None, part)
            layer, won = carry.layers[name], found.infos[name]
        weights[name], won = np.asarray(layer.weights), np.asarray(won)
        np.testing.assert_allclose(state.weights[name], weights[name], rtol=1e-4, atol=1e-6)
        wins = np.bincount(won[won >= 0], minlength=len(weights[name]))
        assert state.diagnoses[f"STDP {name}"]["wins"] == {name: wins.tolist()}


@pytest.mark.parametrize(
    ("spec", "epochs", "update_batch"),
    [(BRANCHES, (2, 1, 2), 1), (BY_TURNS, (0, 3), 1), (LATE, (0, 2, 2), 1), (LATE, (0, 2, 2), 8)],
    ids=["branches", "by turns", "late", "late, batched"],
)
def test_a_run_goes_on_from_any_state_as_if_it_had_not_stopped(little, spec, epochs, update_batch, tmp_path):
    """By the same trainer begun anew, and from every file that was saved, by a new trainer."""
    saved = []

    def save(state):
        saved.append(tmp_path / f"{len(saved)}.npz")
        files.save_checkpoint(saved[-1], *state.flatten())

    def trainer():
        return Trainer(spec, little, Settings(epochs, batch_size=20, patience=0, update_batch=update_batch))

    first = trainer()
    whole = copy.deepcopy(first.run(first.initial_state(), save))
    assert len(whole.epochs) == epochs[-1]
    assert_same(first.run(first.initial_state()), whole)
    for path in saved:
        resumed = trainer().run(TrainState.unflatten(*files.load_checkpoint(path)))
        assert_same(resumed, whole)
        assert {phase["name"] for phase in resumed.phases} == {phase["name"] for phase in whole.phases}, path
    assert len(saved) == len(first.plan) + sum(phase.epochs for phase in first.plan)


def test_a_run_resumed_after_every_epoch_is_the_whole_run(little):
    """Each epoch by a trainer of its own, that knows nothing but the state."""
    settings = Settings((0, 2, 2), batch_size=20, patience=0)
    states = [Trainer(LATE, little, settings).initial_state()]
    whole = Trainer(LATE, little, settings).run(copy.deepcopy(states[0]))

    class Stop(Exception):
        pass

    def stop(state):
        arrays, meta = copy.deepcopy(state.flatten())
        states.append(TrainState.unflatten(arrays, meta))
        raise Stop

    for _ in range(20):
        try:
            last = Trainer(LATE, little, settings).run(copy.deepcopy(states[-1]), stop)
        except Stop:
            continue
        break
    assert len(states) > 4
    assert_same(last, whole)
    assert np.any(whole.weights["layer1"] != states[0].weights["layer1"]), "the first layer has learned nothing"
    assert np.any(whole.weights["layer2"] != states[0].weights["layer2"])


@pytest.mark.parametrize("at", [0, 3, 5])
def test_a_run_that_failed_is_begun_anew_with_the_same_trainer(little, at):
    """What the trainer keeps of the outputs of layers is not of the run that was interrupted."""
    settings = Settings((0, 2, 2), batch_size=20, patience=0)
    whole = Trainer(LATE, little, settings)
    expected = whole.run(whole.initial_state())
    trainer, saved = Trainer(LATE, little, settings), []

    def fail(state):
        saved.append(copy.deepcopy(state))
        if len(saved) > at:
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        trainer.run(trainer.initial_state(), fail)
    assert_same(trainer.run(trainer.initial_state()), expected)
    assert_same(trainer.run(saved[-1]), expected)
    other = dataclasses.replace(settings, seed=1)
    different = Trainer(LATE, little, other).initial_state()
    assert_same(trainer.run(copy.deepcopy(different)), Trainer(LATE, little, settings).run(different))


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [16, 1000])
def test_a_layer_that_waits_for_its_turn_stays_outside_the_bounds(little, batch_size):
    """The decision layer learns from the second batch on, and its initial weights reach above its bounds till then."""
    state = train(BY_TURNS, little.first(20, 10), (1, 2), batch_size=batch_size)
    assert len(state.epochs) == 2
    assert state.weights["layer2"].max() <= DECIDING.learners.bounds[1]


def test_images_and_seconds_are_counted_after_each_epoch(little):
    trainer = Trainer(SHALLOW, little, Settings((1, 3), batch_size=20, patience=0))
    seen = []
    trainer.run(trainer.initial_state(), lambda state: seen.append({p["name"]: dict(p) for p in state.phases}))
    images = [phases["R-STDP"]["images"] for phases in seen if "R-STDP" in phases]
    assert images[:3] == [60, 120, 180]


def test_seeds_decide(little):
    first, again, other = (train(SHALLOW, little, (1, 1), seed=seed) for seed in (0, 0, 1))
    assert_same(again, first)
    assert np.any(first.weights["layer1"] != other.weights["layer1"])


def test_bounds_that_allow_other_kernels_are_no_mere_numbers(little):
    """Weights that may become negative need other programs, whichever network comes first in a sweep."""
    settings, path = Settings((1, 1), batch_size=20, patience=0), "layer1.learners.bounds.0"
    rough = dataclasses.replace(FIRST, threshold=3, learners=STDP(ltp=0.1, ltd=-0.3, stabiliser=False))
    spec = dataclasses.replace(SHALLOW, stages=(stage(rough, pool=4), SHALLOW.stages[1]))
    variants, found = [{path: 0.0}, {path: -1.0}], {}
    Sweep(spec, little, settings, variants).run(keep=lambda at, network, state: found.update({at: state}) or {})
    for at, variant in enumerate(variants):
        trainer = Trainer(spec.vary(path, variant[path]), little, settings)
        alone = trainer.run(trainer.initial_state())
        for name, weights in alone.weights.items():
            np.testing.assert_allclose(found[at].weights[name], weights, atol=1e-6)
    assert alone.weights["layer1"].min() < -0.5, "the case tells nothing"
    mixed = [spec.vary(path, variant[path]) for variant in variants]
    with pytest.raises(ValueError, match="`networks` must differ in numbers alone"):
        Training(mixed, little, settings)


def scripted(monkeypatch, data, accuracies, part="test"):
    """Lets the tests of the reward epochs end with these accuracies."""
    script = iter(accuracies)

    def fractions(decisions, labels):
        truth = metrics.fractions(decisions, labels)
        return dict(truth, accuracy=next(script)) if labels is getattr(data, f"{part}_labels") else truth

    monkeypatch.setattr(results, "fractions", fractions)


@pytest.mark.parametrize(
    ("accuracies", "patience", "length", "best"),
    [
        ([0.5, 0.7, 0.7, 0.6, 0.1, 0.2, 0.9, 0.9], 2, 6, 2),
        ([0.5, 0.7, 0.7, 0.6, 0.1, 0.2, 0.9, 0.9], 0, 8, 7),
        ([0.5, 0.7, 0.7, 0.6, 0.1, 0.2, 0.9, 0.9], 5, 8, 7),
        ([0.3] * 8, 1, 8, 7),
        ([0.9, *[0.3] * 7], 5, 7, 0),
    ],
)
def test_patience_and_the_best_network(monkeypatch, little, accuracies, patience, length, best):
    """Stops when the best epoch lies more than `patience` back; among equals the later network is the best."""
    scripted(monkeypatch, little, accuracies)
    trainer = Trainer(SHALLOW, little, Settings((0, 8), batch_size=20, patience=patience))
    seen = []
    state = trainer.run(trainer.initial_state(), lambda state: seen.append(dict(state.weights)))
    assert len(state.epochs) == length
    assert state.best_epoch == best
    for name, weights in state.best.items():
        np.testing.assert_array_equal(weights, seen[1 + best][name])
    assert any(np.any(seen[1][name] != seen[length][name]) for name in state.best), "all epochs are alike"


def test_no_epochs_leave_the_initial_weights(little):
    trainer = Trainer(SHALLOW, little, Settings((0, 0)))
    initial = trainer.initial_state()
    state = trainer.run(trainer.initial_state())
    assert (state.epochs, state.best, state.phases, state.best_epoch) == ([], {}, [], -1)
    for name, weights in initial.weights.items():
        np.testing.assert_array_equal(state.weights[name], weights)


def test_callbacks_hear_of_every_image(little):
    class Counter(Callback):
        def __init__(self):
            self.promised, self.heard, self.tests = collections.Counter(), collections.Counter(), 0

        def started(self, phase, images):
            self.phase = phase
            self.promised[phase] += images

        def advanced(self, images, correct):
            assert 0 <= correct <= images
            self.heard[self.phase] += images

        def finished(self, record):
            assert record["images_per_second"] > 0

        def tested(self, record):
            self.tests += 1

    counter = Counter()
    trainer = Trainer(SHALLOW, little, Settings((2, 3), batch_size=20), counter)
    state = trainer.run(trainer.initial_state())
    assert counter.heard == counter.promised
    assert list(counter.heard.items()) == [
        ("encode", 90),
        ("STDP layer1", 120),
        ("who fires in stage 1", 60),
        ("who fires in stage 1, test", 30),
        ("R-STDP", 180),
    ]
    assert counter.tests == 3
    assert {phase["name"]: phase["images"] for phase in state.phases} == dict(counter.heard, test=90)


@pytest.mark.parametrize("spec", [SHALLOW, BRANCHES])
def test_more_epochs_and_other_seeds_compile_nothing(little, compilations, spec):
    stages = len(spec.stages)
    train(spec, little, (1,) * stages)
    assert compilations(lambda: train(spec, little, (3,) * stages, seed=1).epochs) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(epochs=(1, 2, 3)), r"`epochs` must be 2 numbers for shallow, got 3: \(1, 2, 3\)"),
        (dict(epochs=(1, -1)), r"`epochs` must be at least 0, got -1"),
        (dict(epochs=()), r"`epochs` must be a tuple of integers, one for each stage, got \(\)"),
        (dict(epochs=(1, 2.5)), r"`epochs` must be an integer, got 2.5"),
        (dict(batch_size=0), "`batch_size` must be at least 1, got 0"),
        (dict(patience=-1), "`patience` must be at least 0, got -1"),
        (dict(seed=-1), "`seed` must be at least 0, got -1"),
    ],
)
def test_bad_settings_are_named(little, change, message):
    with pytest.raises(ValueError, match=message):
        Trainer(SHALLOW, little, Settings(**dict(epochs=(1, 1)) | change))


def test_seeds_of_up_to_64_bits_draw_keys_that_differ():
    """Those below 2**32 are the keys that they were before."""
    assert key_of(3, 2**32 - 1).tolist() == [3, 2**32 - 1]
    seeds = (0, 1, 2**32, 2**32 + 1, 2**64 - 1)
    keys = [key_of(*each) for each in itertools.product((0, 1), seeds, (0, 1))]
    assert {key.dtype for key in keys} == {np.dtype(np.uint32)}
    assert {key.shape for key in keys} == {(2,)}
    assert len({(*key.tolist(),) for key in keys}) == len(keys)


@component
class Keyed(Learner):
    """Its state is its key."""

    def init(self, layer, key, seen):
        return key

    def update(self, layer, state, latency, response, signal):
        return layer, state, ()


@component
class KeyedTeacher(Keyed):
    supervised = True


def test_each_learner_of_a_layer_has_a_key_of_its_own(little):
    conv = dataclasses.replace(FIRST, learners=(Keyed(), KeyedTeacher()))
    trainer = Trainer(Network("keyed", SHAPE, 10, (stage(conv, pool=4), stage(DECIDING))), little, Settings((1, 1)))
    state = trainer.initial_state()
    keys = []
    for phase in range(2):
        state.phase = phase
        keys.append(trainer.training.runners.fresh(state, 0)[0]["layer1"].tolist())
    assert keys[0] == [0, 0]
    assert keys[0] != keys[1]


def test_the_largest_seed_begins_alike_alone_and_in_a_sweep(little):
    spec = Network("single", SHAPE, 10, (stage(Conv(50, kernel=28, learners=RSTDP(dropout=0.5))),))
    settings = Settings((1,), patience=0)
    alone = Trainer(spec, little, dataclasses.replace(settings, seed=2**64 - 1)).training
    (group,) = Sweep(spec, little, settings, [{"seed": 2**64 - 1}]).groups()
    swept = group.training(little, settings, None, [0])
    assert named(*group.variants) == "seed=18446744073709551615"
    (one,), (other,) = alone.initial_states(), swept.initial_states()
    assert np.array_equal(one.weights["layer1"], other.weights["layer1"])
    drawn, same = alone.runners.fresh(one, 0), swept.runners.fresh(other, 0)
    assert jax.tree.all(jax.tree.map(np.array_equal, drawn, same))


def test_an_update_batch_is_of_no_more_images_than_there_are(little):
    def weights(batch: int):
        trainer = Trainer(SINGLE, little, Settings((1,), update_batch=batch, patience=0))
        assert trainer.training.settings.update_batch == len(little.train_images)
        assert trainer.settings.update_batch == batch, "as the run's settings hold it"
        return trainer.run(trainer.initial_state()).weights

    one, other = weights(len(little.train_images)), weights(2**31 - 1)
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])


def test_data_that_do_not_fit_the_network_are_refused(little):
    with pytest.raises(ValueError, match="the network has 10 classes, digits has 11"):
        Trainer(SHALLOW, dataclasses.replace(little, train_labels=np.arange(60) % 11, classes=11), Settings((1, 1)))
    small = dataclasses.replace(little, train_images=little.train_images[:, 1:], test_images=little.test_images[:, 1:])
    with pytest.raises(ValueError, match=r"the network takes \(6, 28, 28\), images of \(27, 28\) become \(6, 27, 28\)"):
        Trainer(SHALLOW, small, Settings((1, 1)))


def test_metrics_by_hand():
    decisions, labels = np.array([0, 1, 2, -1, 1, 2, -1, 0]), np.array([0, 1, 1, 2, 2, 2, 0, 0])
    assert metrics.fractions(decisions, labels) == dict(accuracy=0.5, wrong=0.25, silent=0.25)
    potentials = np.eye(3)[decisions] * (decisions >= 0)[:, None] + 0.5 * (labels == 2)[:, None]
    report = metrics.report(decisions, labels, potentials)
    assert report["confusion_matrix"] == [[2, 0, 0], [0, 1, 1], [0, 1, 1]]
    assert report["classes"]["precision"] == [1, 0.5, 0.5]
    assert report["classes"]["recall"] == pytest.approx([2 / 3, 1 / 2, 1 / 3])
    assert report["classes"]["images"] == [3, 2, 3]
    assert report["f1"] == pytest.approx(np.mean([0.8, 0.5, 0.4]))
    # Class 1 against the rest: 1 and -1 for its images; -1, 0, 0.75, -0.6, 0, -1 for the others.
    assert report["classes"]["roc_auc"][1] == pytest.approx((6 + 1) / 12)
    assert report["roc_auc"] == pytest.approx(np.mean(report["classes"]["roc_auc"]))
    silent = metrics.report(np.full(8, -1), labels, np.zeros((8, 3)))
    assert (silent["accuracy"], silent["silent"], silent["f1"], silent["roc_auc"]) == (0, 1, 0, 0.5)
    assert silent["confusion_matrix"] == [[0] * 3] * 3
    one_class = metrics.report(np.ones(2, int), np.ones(2, int), np.ones((2, 2)))
    assert (one_class["roc_auc"], one_class["f1"]) == (None, 1), "classes without images count for nothing"

    assert all(type(count) is int for found in (report, silent) for count in found["classes"]["images"])


def test_the_roc_auc_ranks_images_on_one_scale():
    """1 for perfect decisions, whether by the largest score or not; about 1/2 by chance or where all are silent."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 2000)
    sizes = 10.0 ** random.uniform(-6, 6, (2000, 1))
    scores = (sizes * random.uniform(0.1, 1, (2000, 4))).astype(np.float32)
    for perfect in (scores, scores + 5 * scores * np.eye(4, dtype=np.float32)[labels]):
        found = metrics.report(labels, labels, perfect)
        assert (found["roc_auc"], found["classes"]["roc_auc"]) == (1, [1] * 4)
    assert metrics.report(scores.argmax(axis=1), labels, scores)["roc_auc"] == pytest.approx(0.5, abs=0.03)
    assert metrics.report(np.full(2000, -1), labels, 0 * scores)["roc_auc"] == 0.5
    half = np.where(random.random(2000) < 0.5, labels, -1)  # silent images are neutral
    assert metrics.report(half, labels, scores)["roc_auc"] == pytest.approx(0.875, abs=0.02)


def test_a_number_that_has_its_initial_value_again_is_not_kept():
    state, numbers = TrainState({}), [np.asarray(leaf) for leaf in jax.tree.leaves(FIRST)]
    weights = np.zeros((10, 6, 5, 5), np.float32)
    state.keep_layer("layer1", FIRST, weights, [number + number.dtype.type(1) for number in numbers])
    assert len(state.numbers) == len(numbers)
    assert state.numbers.keys() == leaves(FIRST, "layer1").keys()
    assert state.numbers.keys() > {"layer1.threshold", "layer1.learners.bounds.1"}
    state.keep_layer("layer1", FIRST, weights, numbers)
    assert state.numbers == {}


def test_a_network_learns_on_the_default_device():
    other = jax.devices("cpu")[-1]
    with jax.default_device(other):
        assert devices.peers()[0] == other
        assert Placement(1).learning.devices.item() == other
    assert Placement(1).learning.devices.item() == jax.devices("cpu")[0]


def test_a_training_takes_a_seed_for_each_network():
    network, data = Network("n", (6, 28, 28), 10, (stage(Conv(10, kernel=28, learners=RSTDP())),)), digits()
    for networks, seeds in (([], []), ([network, network], [1])):
        with pytest.raises(InputError, match=f"`seeds` .* got {len(seeds)} of {len(networks)}"):
            Training(networks, data, Settings((1,), patience=0), seeds)


def test_a_state_keeps_what_it_was_when_a_layer_is_kept():
    first = Conv(4, kernel=28, threshold=7.0, learners=STDP())
    network = Network("n", (6, 28, 28), 10, (stage(first), stage(Conv(10, kernel=1, learners=RSTDP()))))
    state = TrainState(network.initial_weights())
    leaves = jax.tree.leaves(first)
    at = next(at for at, leaf in enumerate(leaves) if leaf == 7.0)
    changed = [np.float32(np.inf) if place == at else np.asarray(leaf) for place, leaf in enumerate(leaves)]
    before = state.trained
    state.keep_layer("layer1", first, state.weights["layer1"], changed)
    assert not before.numbers
    assert state.network(network).stages[0].branches[0].threshold == np.inf, "a layer may silence itself"
    state.keep_layer("layer1", first, state.weights["layer1"], [np.asarray(leaf) for leaf in leaves])
    assert not state.numbers
