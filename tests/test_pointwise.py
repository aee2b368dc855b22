"""Pointwise inhibition after a stage, the potentials that decisions read, and networks without a decision."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from command import Command, refused
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.svm import LinearSVC

import snnjax
from snnjax import (
    InputError,
    Settings,
    SpikingClassifier,
    SpikingFeatures,
    SpikingNetwork,
    Stream,
    Sweep,
    Trainer,
    kernels,
)
from snnjax.app.report import draw_run
from snnjax.data import Dataset
from snnjax.encoding import PIXELS
from snnjax.export import nir
from snnjax.export.c import program
from snnjax.layers import WTA, Conv
from snnjax.learners import RSTDP, STDP
from snnjax.networks import ImageSpec, LinearSVM, Network, stage
from snnjax.networks.batches import input_batch
from snnjax.networks.graph import Activations
from snnjax.runs.run_folder import RunFolder
from snnjax.training import TrainState
from snnjax.training.cost import cost

T = 15
RANDOM = np.random.default_rng(0)
LATENCIES = RANDOM.integers(0, 25, (12, 2, 9, 8)).clip(max=T).astype(np.uint8)
IMAGES = RANDOM.integers(0, 256, (32, 10, 10), np.uint8)
LABELS = np.arange(32, dtype=np.int32) % 3
DATA = Dataset("noise", IMAGES, LABELS, IMAGES, LABELS, classes=3)
EXACT = STDP(ltp=1 / 64, ltd=-1 / 128, doubling=10, ltp_max=0.25, stabiliser=False)
FIRST = Conv(6, 3, padding=1, threshold=4.0, competition=WTA(2, radius=1), learners=EXACT)
DEEP_RULE = RSTDP((1 / 64, -1 / 128), (-1 / 64, 1 / 128), bounds=(0.0, 1.0))
SECOND = Conv(5, 3, threshold=6.0, competition=WTA(2, radius=1), learners=EXACT)


def exact_weights(network: Network) -> dict[str, np.ndarray]:
    """Multiples of 1/64, which all programs add up exactly; equal potentials are frequent."""
    random = np.random.default_rng(1)
    return {name: np.float32(random.integers(8, 40, shape) / 64) for name, shape in network.weight_shapes.items()}


def potentials_of(latency: np.ndarray, weights: np.ndarray, padding: int) -> np.ndarray:
    """Potentials after each step, (T, F, H, W)."""
    margins = [(0, 0), (padding, padding), (padding, padding)]
    padded = np.pad(latency, margins, constant_values=T)
    fields = sliding_window_view(padded, weights.shape[2:], axis=(1, 2))
    return np.stack([np.einsum("fcrs,chwrs->fhw", weights, fields <= step) for step in range(T)])


def first_spikes(potentials: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Latencies and potentials at the spike."""
    above = np.concatenate([potentials > threshold, np.ones((1, *potentials.shape[1:]), bool)])
    latency = above.argmax(axis=0)
    at_spike = np.take_along_axis(np.concatenate([potentials, 0 * potentials[:1]]), latency[None], axis=0)[0]
    return latency, at_spike


def inhibited(latency: np.ndarray, potential: np.ndarray) -> np.ndarray:
    """Position by position: the earliest spike is left, then the strongest, then that of the lowest feature."""
    left = np.full_like(latency, T)
    for row, column in np.ndindex(latency.shape[1:]):
        ranks = [(latency[f, row, column], -potential[f, row, column], f) for f in range(len(latency))]
        earliest, _, feature = min(ranks)
        left[feature, row, column] = earliest
    return left


def judged(image: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """The output of a stage of two layers, the second of which has an `output_padding` of 1, pooled by 2."""
    spikes = [first_spikes(potentials_of(image, weights["layer1_1"], 1), 4.0)]
    latency, potential = first_spikes(potentials_of(image, weights["layer1_2"], 0), 6.0)
    ring = [(0, 0), (1, 1), (1, 1)]
    spikes.append((np.pad(latency, ring, constant_values=T), np.pad(potential, ring)))
    left = inhibited(*(np.concatenate(parts) for parts in zip(*spikes, strict=True)))
    return left[:, :8, :8].reshape(-1, 4, 2, 4, 2).min(axis=(2, 4))


@pytest.mark.parametrize("backend", ["xla", "native"])
def test_one_spike_passes_at_each_position_of_a_stage(backend, compiler):
    branch = dataclasses.replace(SECOND, output_padding=1)
    network = Network("two", (2, 9, 8), stages=(stage(FIRST, branch, pool=2, pointwise=True),), decision=None)
    weights = exact_weights(network)
    model = SpikingNetwork(network, weights=weights).model
    with kernels.use_backend(backend):
        outputs = jax.jit(lambda images: input_batch(model, Activations({0: images}), number=1))(LATENCIES)
    expected = np.stack([judged(image, weights) for image in LATENCIES])
    np.testing.assert_array_equal(outputs, expected)
    seen = jax.jit(model.observe)(LATENCIES[0])
    other = np.pad(seen.latencies["layer1_2"], [(0, 0), (1, 1), (1, 1)], constant_values=T)
    fired = np.concatenate([seen.latencies["layer1_1"], other])
    assert np.all(np.sum(fired < T, axis=0) <= 1)
    pooled = fired[:, :8, :8].reshape(-1, 4, 2, 4, 2).min(axis=(2, 4))
    np.testing.assert_array_equal(pooled, expected[0])


def deep(*, pointwise: bool, learners: Any) -> Network:
    """A layer before the deciding one, which learns by reward too, or another rule."""
    first = dataclasses.replace(FIRST, padding=0, threshold=1.0, learners=learners)
    stages = stage(first, pool=2, pointwise=pointwise), stage(Conv(6, 4, learners=DEEP_RULE))
    return Network("deep", (1, 10, 10), 3, stages, T, encoder=dataclasses.replace(PIXELS, time_steps=T))


@pytest.mark.parametrize("learners", [EXACT, pytest.param(DEEP_RULE, marks=pytest.mark.slow)], ids=["STDP", "reward"])
def test_all_ways_to_train_and_decide_are_the_same(learners, compiler):
    """Also where the layer before the deciding one learns by reward, for which there is a fast step without inhibition.

    Untimed decisions ask only who fires, and under inhibition that depends on when.
    """
    shown = []
    for backend in ("xla", "native"):
        for batch in (1, 8):
            network = deep(pointwise=True, learners=learners)
            trainer = Trainer(network, DATA, Settings((1, 2), adapt_every=8, update_batch=batch, backend=backend))
            state = trainer.initial_state()
            state.weights = exact_weights(network)
            state = trainer.run(state)
            shown.append((batch, state.weights, state.epochs, trainer.predict(state, IMAGES)))
    for (batch, *one), (same, *other) in zip(shown[:2], shown[2:], strict=True):
        assert batch == same
        jax.tree.map(np.testing.assert_array_equal, one, other)
    trained = trainer.trained(state)
    decisions, scores = trainer.predict(state, IMAGES)
    np.testing.assert_array_equal(trained.scores(IMAGES), scores)
    np.testing.assert_array_equal(trained(IMAGES), decisions)
    free = SpikingNetwork(deep(pointwise=False, learners=learners), weights=trained.weights())
    assert np.any(free.scores(IMAGES) != scores), "inhibition changes nothing here"
    figures = cost(trained, IMAGES, LABELS)
    assert figures.decisions[:, -1].tolist() == decisions.tolist()


# Potentials that a decision reads


def reading(reads: str, **last) -> Network:
    stages = stage(dataclasses.replace(FIRST, threshold=1.0), pool=2), stage(SECOND, **last)
    encoder = dataclasses.replace(PIXELS, time_steps=T)
    return Network("reading", (1, 10, 10), 3, stages, T, encoder=encoder, decision=LinearSVM(C=0.5, reads=reads))


@pytest.mark.filterwarnings("ignore:Liblinear failed to converge")
@pytest.mark.parametrize(
    ("reads", "pool"),
    [
        pytest.param("potentials", None, marks=pytest.mark.slow),
        ("potentials", 2),
        pytest.param("maxima", None, marks=pytest.mark.slow),
    ],
)
def test_a_machine_reads_potentials_of_the_last_step(reads, pool, compiler):
    """Whatever the threshold of the last layer; divided by the largest they are the inputs of `LinearSVC`."""
    network = reading(reads, pool=pool)
    weights = exact_weights(network)
    for backend in ("xla", "native"):
        trainer = Trainer(network, DATA, Settings((0, 0), backend=backend))
        state = trainer.initial_state()
        state.weights = weights
        state = trainer.run(state)
        trained = trainer.trained(state)
        latencies = np.asarray(trained.features(IMAGES, 1))
        potentials = np.stack([potentials_of(image, weights["layer2"], 0)[-1] for image in latencies])
        values = potentials if reads == "potentials" else potentials.max(axis=(2, 3), keepdims=True)
        if pool:
            values = sliding_window_view(values, (2, 2), axis=(2, 3))[:, :, ::2, ::2].max(axis=(4, 5))
        found = trained.features(IMAGES)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, values)
        flat = values.reshape(32, -1)
        dual = len(LABELS) <= flat.shape[1]
        machine = LinearSVC(C=0.5, tol=0.1 if dual else 0.001, max_iter=100, dual=dual, random_state=0)
        known = machine.fit(flat / flat.max(), LABELS)
        margins = known.decision_function(flat / flat.max())
        decisions, scores = trainer.predict(state, IMAGES)
        np.testing.assert_allclose(scores, np.log1p(np.exp(margins)), rtol=1e-4)
        np.testing.assert_array_equal(decisions, known.predict(flat / flat.max()))
        np.testing.assert_array_equal(trained(IMAGES), decisions)
        assert state.epochs[0]["train"]["accuracy"] == np.mean(decisions == LABELS)
    assert trained(np.zeros((10, 10), np.uint8)) == -1, "no class if all potentials are 0"
    figures = cost(trained, IMAGES, LABELS)
    assert figures.decisions[:, -1].tolist() == decisions.tolist()
    layer = {layer.name: layer for layer in figures.layers}["layer2"]
    assert not layer.spikes.any()
    assert layer.effective_operations.all(), "its synapses work, although its neurons do not fire"


def test_potentials_that_are_much_alike_are_learned():
    """More images than inputs, none of which is near 0: as well as by a fit that has converged."""
    random = np.random.default_rng(0)
    labels = np.arange(1000, dtype=np.int32) % 10
    values = random.uniform(9, 12, (1000, 10, 1, 1)).astype(np.float32)
    values[np.arange(1000), labels] += 2
    machine = LinearSVM(reads="maxima").fit(values, labels, 10, T)
    margins = values.reshape(1000, 10) @ machine.coefficients.reshape(10, 10).T + machine.intercepts
    flat = values.reshape(1000, 10) / values.max()
    known = LinearSVC(C=2.4, tol=1e-5, max_iter=10_000, random_state=0).fit(flat, labels)
    assert np.mean(margins.argmax(axis=1) == labels) == pytest.approx(known.score(flat, labels), abs=0.01)
    assert known.score(flat, labels) > 0.7


# Networks that decide nothing


def features(images: ImageSpec = ImageSpec((10, 10), 3)) -> Network:  # noqa: B008
    """Two layers that learn without labels; `tests/test_pointwise.py:features` names it."""
    first = dataclasses.replace(FIRST, threshold=1.0)
    encoder = dataclasses.replace(PIXELS, time_steps=T)
    stages = stage(first, pool=2, pointwise=True), stage(SECOND)
    return Network(
        "features", encoder.output_shape(images.shape), stages=stages, time_steps=T, encoder=encoder, decision=None
    )


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A finished run of `features`."""
    folder = tmp_path_factory.mktemp("features")
    np.savez(folder / "noise.npz", train_images=IMAGES, train_labels=LABELS, test_images=IMAGES, test_labels=LABELS)
    data = snnjax.data.load(folder / "noise.npz")
    trainer = Trainer(features(), data, Settings((1, 1)))
    with RunFolder(folder / "run", trainer, draw=draw_run) as run:
        results = run.run()
    return folder / "run", results, trainer


def test_a_network_without_a_decision_learns_features(learned):
    path, results, trainer = learned
    assert [phase.name for phase in trainer.job.phases] == ["STDP layer1", "STDP layer2", "features"]
    assert (results["test"], results["epochs"], results["best_epoch"]) == (None, [], -1)
    assert results["diagnoses"]["outputs of stage 2"]["firing"]["layer2"] > 0
    assert "STDP layer2" in (path / "report.html").read_text()
    network = snnjax.load(path)
    assert network.network.decision is None
    assert np.asarray(network.features(IMAGES)).shape == (32, 5, 3, 3)
    np.testing.assert_array_equal(network.features(IMAGES), network.features(IMAGES, 2))
    with pytest.raises(InputError, match="`decision` of features is None, so that the network decides nothing: call"):
        network(IMAGES)
    with pytest.raises(InputError, match="`decision` of features is None"):
        network.predict(np.zeros((1, 10, 10), np.uint8))
    state = TrainState({name: np.asarray(weights) for name, weights in network.weights().items()})
    with pytest.raises(InputError, match="`decision` of features is None"):
        trainer.predict(state, IMAGES)


def test_what_uses_features_and_what_needs_a_decision(learned, tmp_path, capsys):
    path, _, trainer = learned
    network = snnjax.load(path)
    figures = cost(network, IMAGES, LABELS)
    assert figures.accuracy is None
    assert figures.layers[1].spikes.sum() > 0
    assert "settled" not in figures.as_json()
    for name in ("settled", "same_as_last"):
        with pytest.raises(InputError, match="`decision` of features is None, so that no image is decided"):
            getattr(figures, name)
    assert (
        trainer.trained(trainer.initial_state()).model.observe(np.zeros((1, 10, 10), np.uint8)).decided.scores.size == 0
    )
    estimator = SpikingFeatures(features, image_shape=(10, 10), epochs=(1, 1)).fit(IMAGES.reshape(32, -1))
    assert estimator.transform(IMAGES.reshape(32, -1)).shape == (32, estimator._n_features_out)
    refusals = {
        "`network` must decide, or take SpikingFeatures: `decision` of features": lambda: SpikingClassifier(
            features, image_shape=(10, 10)
        ).fit(IMAGES.reshape(32, -1), LABELS),
        "`network` must have layers that learn from labels, got one without a decision": lambda: Stream(network),
        "a sweep compares accuracies": lambda: Sweep(features(), DATA, Settings((1, 1), patience=0), [{"seed": 0}]),
        "is None, so that the network decides nothing": lambda: nir.exportable(network),
        "decides nothing: call `features`, or": lambda: program(network, 8, (10, 10)),
    }
    for message, call in refusals.items():
        with pytest.raises(InputError, match=message):
            call()
    (tmp_path / "picture.png").touch()
    line = refused(Command("stream"), capsys, path, tmp_path)
    assert "`network` must have layers that learn from labels, got one without a decision" in line
    decided = dataclasses.replace(features(), name="decided", classes=3, decision=LinearSVM(C=1.0))
    trained = Trainer(decided, DATA, Settings((1, 1)), start=network)
    assert [phase.name for phase in trained.job.phases] == ["fit LinearSVM"]
    state = trained.run(trained.initial_state())
    np.testing.assert_array_equal(state.weights["layer2"], network.weights()["layer2"])
    assert state.epochs[-1]["train"]["accuracy"] > 1 / 3
