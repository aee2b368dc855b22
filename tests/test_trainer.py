"""Whole trainings of small networks: that they learn, stop, and go on from any state as if they had never stopped."""

import collections
import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.experimental.compilation_cache import compilation_cache
from snnjax.training.unsupervised import stdp_epoch

from snnjax import checkpoint, metrics
from snnjax.data import Dataset, digits
from snnjax.encoding import encode
from snnjax.layers import RSTDP, STDP, Conv
from snnjax.networks import Network, draw, stage
from snnjax.training import trainer as trainer_module
from snnjax.training.trainer import Listener, Settings, Trainer, TrainState

SHAPE = (6, 28, 28)
FAST = STDP(doubling=50)
FIRST = stage(Conv(10, kernel=5, padding=2, threshold=15, winners=5, radius=3, stdp=FAST), pool=4)
SHALLOW = Network("shallow", SHAPE, 10, (FIRST, stage(Conv(100, kernel=5, padding=1, rstdp=RSTDP()))))
MIDDLE = stage(
    Conv(30, kernel=2, threshold=2, winners=8, radius=1, stdp=FAST),
    Conv(30, kernel=4, threshold=6, winners=8, radius=1, stdp=FAST, output_padding=1),
    pool=2,
)
BRANCHES = Network("branches", SHAPE, 10, (FIRST, MIDDLE, stage(Conv(100, kernel=3, rstdp=RSTDP()))))
SINGLE = Network("single", SHAPE, 10, (stage(Conv(50, kernel=28, rstdp=RSTDP())),))
BY_TURNS = Network(
    "by turns",
    SHAPE,
    10,
    (stage(dataclasses.replace(FIRST.branches[0], rstdp=RSTDP(bounds=(0, 1))), pool=4), SHALLOW.stages[1]),
    reward_by_turns=True,
)


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """Many trainings here are of the same networks: what they compile is kept, so that they take less time."""
    settings = dict(
        jax_compilation_cache_dir=str(tmp_path_factory.mktemp("compiled")),
        jax_persistent_cache_min_compile_time_secs=0,
        jax_persistent_cache_min_entry_size_bytes=-1,
    )
    before = {name: getattr(jax.config, name) for name in settings}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            jax.config.update(name, value)
            patch.setenv(name.upper(), str(value))  # for programs that a test starts
        compilation_cache.reset_cache()
        yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


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
    for group in ("weights", "reward", "best", "wins"):
        arrays, others = getattr(state, group), getattr(expected, group)
        assert arrays.keys() == others.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, others[name], f"{group} {name}")
    assert (state.phase, state.done, state.epochs) == (expected.phase, expected.done, expected.epochs)


@pytest.mark.parametrize(
    ("spec", "epochs", "least"), [(SHALLOW, (2, 10), 0.5), (BRANCHES, (2, 2, 10), 0.3), (SINGLE, (10,), 0.5)]
)
def test_networks_beyond_the_shipped_ones_learn(data, spec, epochs, least):
    trainer = Trainer(spec, data, Settings(epochs, batch_size=50))
    state = trainer.run(trainer.initial_state())
    best = state.epochs[state.best_epoch]["test"]
    assert best["accuracy"] > least > state.epochs[0]["train"]["accuracy"]
    decisions = trainer.decisions(state.best, data.test_images)
    assert metrics.fractions(decisions, data.test_labels) == best, "from images, the best network decides otherwise"
    for part in ("train", "test"):
        assert sum(state.epochs[-1][part].values()) == pytest.approx(1)


def test_layers_learn_one_after_the_other_from_frozen_ones(little):
    """The image number runs on from one branch to the next; each branch starts at the first rates."""
    state = train(BRANCHES, little, (1, 2, 0))
    network = draw(BRANCHES)
    latencies = jax.vmap(encode)(little.train_images)
    for name, numbers in (("layer1", [0]), ("layer2_1", [0, 60]), ("layer2_2", [120 % 50, 120 % 50 + 60])):
        if name == "layer2_1":
            graphdef, weights = nnx.split(network)
            respond = jax.jit(jax.vmap(lambda latency: nnx.merge(graphdef, weights).respond(0, latency)))
            latencies = respond(latencies)
        graphdef, weights = nnx.split(getattr(network, name))
        for number in numbers:
            weights, features = stdp_epoch(
                graphdef, weights, jnp.int32(number), latencies[None, :, None], jnp.ones((1, len(latencies), 1), bool)
            )
        nnx.update(getattr(network, name), weights)
        np.testing.assert_allclose(state.weights[name], weights["weight"][...], rtol=1e-4, atol=1e-6)
        won = np.asarray(features)
        np.testing.assert_array_equal(state.wins[name], np.bincount(won[won >= 0], minlength=len(state.wins[name])))


@pytest.mark.parametrize(("spec", "epochs"), [(BRANCHES, (2, 1, 2)), (BY_TURNS, (0, 3))])
def test_a_run_goes_on_from_any_state_as_if_it_had_not_stopped(little, spec, epochs, tmp_path):
    names = (tmp_path / f"{number}.npz" for number in itertools.count())
    states = {}

    def save(state):
        """Keeps the first file of each state: a phase that is over is saved once more, before the next begins."""
        states.setdefault((state.phase, state.done), path := next(names))
        checkpoint.save(path, *state.flatten())

    def trainer():
        return Trainer(spec, little, Settings(epochs, batch_size=20, patience=0))

    whole = trainer().run(trainer().initial_state(), save)
    assert len(whole.epochs) == epochs[-1]
    for where, path in states.items():
        resumed = trainer().run(TrainState.unflatten(*checkpoint.load(path)))
        assert_same(resumed, whole)
        assert {phase["name"] for phase in resumed.phases} == {phase["name"] for phase in whole.phases}, where


@pytest.mark.parametrize("batch_size", [16, 1000])
def test_a_layer_that_waits_for_its_turn_stays_outside_the_bounds(little, batch_size):
    """The decision layer learns from the second batch on, and its initial weights reach above its bounds till then."""
    state = train(BY_TURNS, little.first(20, 10), (1, 2), batch_size=batch_size)
    assert len(state.epochs) == 2
    assert state.weights["layer2"].max() <= BY_TURNS.stages[1].branches[0].rstdp.bounds[1]


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


def scripted(monkeypatch, data, accuracies):
    """Lets the tests of the reward epochs end with these accuracies."""
    script = iter(accuracies)

    def fractions(decisions, labels):
        truth = metrics.fractions(decisions, labels)
        return dict(truth, accuracy=next(script)) if labels is data.test_labels else truth

    monkeypatch.setattr(trainer_module, "fractions", fractions)


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


def test_listeners_hear_of_every_image(little):
    class Counter(Listener):
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
        ("who fires in stage 1", 90),
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
        (dict(epochs=(1, -1)), r"`epochs` must be integers of at least 0"),
        (dict(epochs=()), r"`epochs` must be integers of at least 0"),
        (dict(epochs=(1, 2.5)), r"`epochs` must be integers of at least 0"),
        (dict(batch_size=0), "`batch_size` must be an integer of at least 1, got 0"),
        (dict(patience=-1), "`patience` must be an integer of at least 0, got -1"),
        (dict(seed=-1), "`seed` must be an integer of at least 0, got -1"),
    ],
)
def test_bad_settings_are_named(little, change, message):
    with pytest.raises(ValueError, match=message):
        Trainer(SHALLOW, little, Settings(**dict(epochs=(1, 1)) | change))


def test_data_that_do_not_fit_the_network_are_refused(little):
    with pytest.raises(ValueError, match="the network has 10 classes, digits has 11"):
        Trainer(SHALLOW, dataclasses.replace(little, classes=11), Settings((1, 1)))
    small = dataclasses.replace(little, train_images=little.train_images[:, 1:], test_images=little.test_images[:, 1:])
    with pytest.raises(ValueError, match=r"the network takes \(6, 28, 28\), images of digits become \(6, 27, 28\)"):
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
    # Class 1 against the rest: 1 and 0 for its images; 0, 0.5, 1.5, 0.5, 0, 0 for the others.
    assert report["classes"]["roc_auc"][1] == pytest.approx((5 + 1.5) / 12)
    assert report["roc_auc"] == pytest.approx(np.mean(report["classes"]["roc_auc"]))
    silent = metrics.report(np.full(8, -1), labels, np.zeros((8, 3)))
    assert (silent["accuracy"], silent["silent"], silent["f1"], silent["roc_auc"]) == (0, 1, 0, 0.5)
    assert silent["confusion_matrix"] == [[0] * 3] * 3
    one_class = metrics.report(np.ones(2, int), np.ones(2, int), np.ones((2, 2)))
    assert (one_class["roc_auc"], one_class["f1"]) == (None, 1), "classes without images count for nothing"
