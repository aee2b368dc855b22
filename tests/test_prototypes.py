"""Neurons that become prototypes of their classes: the rule, what is saved of it, and what takes it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import assert_refused

import snnjax
from snnjax import Conv, ImageSpec, Network, Pool, Settings, Trainer, stage
from snnjax.core.paths import leaves, replace
from snnjax.data import Dataset, digits
from snnjax.encoding import PIXELS
from snnjax.export._event_programs import check_network
from snnjax.export.c import integer_prototypes
from snnjax.export.nir import exportable
from snnjax.layers import Ramp
from snnjax.learners import Prototypes, Signal
from snnjax.networks import NETWORKS, Flatten, Input, Majority, Model, SpikingNetwork, quantise, with_prototypes
from snnjax.networks.operations import firing_windows
from snnjax.runs import RunFolder

pytestmark = pytest.mark.slow

CLASSES = 3
PER_CLASS = 4
RNG = np.random.default_rng(0)
LABELS = RNG.permutation(np.repeat(np.arange(CLASSES), 20)).astype(np.int32)
KINDS = RNG.integers(0, 256, (CLASSES, 2, 4, 4, 3))
PICTURES = (KINDS[LABELS, RNG.integers(0, 2, 60)] * 0.5 + RNG.integers(0, 128, (60, 4, 4, 3))).astype(np.uint8)
DATA = Dataset("kinds", PICTURES[:45], LABELS[:45], PICTURES[45:], LABELS[45:], classes=CLASSES)
HALVES = slice(0, 30), slice(30, 60)
READOUT = Conv(
    CLASSES * PER_CLASS,
    4,
    threshold=0.0,
    weight_mean=0.0,
    weight_std=0.0,
    ramp=Ramp(inhibition=False, rise=0.5),
    learners=Prototypes(),
)
SPEC = Network("kinds", (3, 4, 4), CLASSES, (stage(READOUT),), time_steps=255, encoder=PIXELS, epochs=(3,), patience=0)
LATENCIES = np.asarray(SpikingNetwork(SPEC).features(PICTURES, 0))


def trained(data=DATA, epochs=3, network=SPEC):
    """The network at the end of some epochs, and its state."""
    trainer = Trainer(network, data, Settings((epochs,), patience=0))
    state = trainer.run(trainer.initial_state())
    return SpikingNetwork(state.network(network), weights=state.weights), state


def inputs_of(network, images):
    """What each input adds to a potential per weight, (N, C, 16)."""
    latency = np.asarray(network.features(images, 0)).astype(np.float64)
    return np.rint(255 * np.sqrt((255 - latency) / 255)).reshape(len(latency), 3, 16)


def rule(inputs, labels, epochs, gap=0.4, step=0.05, tie=0.03):
    """Weights, thresholds and wins of the neurons, (classes, M, ...), by the equations."""
    raw = inputs.reshape(len(inputs), -1) / 255
    centred = (inputs - inputs.mean(axis=1, keepdims=True)).reshape(raw.shape) / 255
    lengths = np.linalg.norm(centred, axis=1)
    w = np.zeros((CLASSES, PER_CLASS, raw.shape[1]))
    bias = np.zeros((CLASSES, PER_CLASS))
    wins = np.zeros((CLASSES, PER_CLASS))
    for x, length, v, y in zip(centred / lengths[:, None], lengths, raw, labels, strict=True):
        seen = int(wins.sum() - (PER_CLASS - 1) * np.any(wins, axis=1).sum())
        u = w[y] @ v - lengths[: max(seen, 1)].mean() * bias[y]
        k = np.argmin(np.where(u >= u.max() - tie * length, wins[y], np.inf))
        if not wins[y].any():
            w[y] = x
            wins[y] = 1
        else:
            idle = (wins[y] == 1) & (np.arange(PER_CLASS) != k)
            w[y, idle] += (x - w[y, idle]) / (wins[y].sum() - PER_CLASS + 2)
            w[y, k] += (x - w[y, k]) / (wins[y, k] + 1)
            wins[y, k] += 1
        bias[y] = (np.square(w[y]).sum(axis=1) - 1) / 2
    corrected = 0
    for _ in range(epochs - 1):
        for x, length, v, y in zip(centred / lengths[:, None], lengths, raw, labels, strict=True):
            u = np.where(wins > 0, w @ v - lengths.mean() * bias, -np.inf)
            k = np.argmax(u[y])
            others = np.where(np.arange(CLASSES)[:, None] == y, -np.inf, u)
            j = np.unravel_index(np.argmax(others), u.shape)
            if np.isfinite(others[j]) and u[y, k] - others[j] < gap * length:
                w[y, k] += step * x
                w[j] -= step * x
                corrected += 1
    return w, 255 * lengths.mean() * bias, wins, corrected


@pytest.mark.parametrize("epochs", [1, 3])
def test_learns_by_the_equations(epochs):
    network, _ = trained(epochs=epochs)
    weights, threshold, wins, corrected = rule(inputs_of(network, DATA.train_images), DATA.train_labels, epochs)
    assert (corrected > 0) == (epochs > 1)
    assert np.sum(wins > 1) > CLASSES
    conv = network.network.stages[0].branches[0]
    np.testing.assert_allclose(network.weights()["layer1"].reshape(CLASSES, PER_CLASS, -1), weights, atol=1e-5)
    np.testing.assert_allclose(np.reshape(conv.threshold, threshold.shape), threshold, rtol=1e-4, atol=1e-2)
    np.testing.assert_array_equal(np.reshape(conv.learners.wins, wins.shape), wins)


@jax.jit
def learned(layer, latency, label, epoch=0):
    """A layer of the network after one image, and the info."""
    rule = layer.conv.learners
    response = rule.forward(layer, (), latency, None)
    layer, _, info = rule.update(layer, jnp.int32(epoch), latency, response, Signal(label, label, label))
    return layer, info


def shown(layer, order):
    """A layer of the network that has learned from some pictures, in order, as from a stream."""
    for index in order:
        layer, _ = learned(layer, LATENCIES[index], LABELS[index])
    return layer


@jax.jit
def potentials_of(layer):
    """Those of deciding spikes on all pictures."""
    return jax.vmap(lambda latency: layer.deciding_spikes(latency).potential.ravel())(LATENCIES)


def decided(layer):
    """The decisions on all pictures."""
    strongest = np.asarray(potentials_of(layer)).reshape(60, CLASSES, PER_CLASS).max(axis=2)
    return np.where(strongest.max(axis=1) > 0, strongest.argmax(axis=1), -1)


def test_classes_come_one_after_another():
    """Those without images are silent; the next one leaves the weights of the others alone, as if it came first."""
    layer = jax.tree.map(jnp.float32, Model.of(SPEC, SPEC.initial_weights()).layers["layer1"])
    assert set(decided(layer)) == {-1}
    one = shown(layer, [0])
    assert LABELS[0] in decided(one)
    assert set(decided(one)) <= {-1, LABELS[0]}
    assert not one.conv.threshold.any()
    two = np.flatnonzero(LABELS < 2)
    before = shown(layer, two)
    assert set(decided(before)) <= {-1, 0, 1}
    after = shown(before, np.flatnonzero(LABELS == 2))
    np.testing.assert_array_equal(after.weights[: 2 * PER_CLASS], before.weights[: 2 * PER_CLASS])
    assert np.mean(decided(after) == LABELS) > 0.9
    other = shown(layer, [*np.flatnonzero(LABELS == 2), *two])
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-3), after, other)


def test_unlabelled_and_silent_images_change_nothing():
    layer = shown(jax.tree.map(jnp.float32, Model.of(SPEC, SPEC.initial_weights()).layers["layer1"]), range(10))
    for latency, label in ((LATENCIES[10], -1), (np.full_like(LATENCIES[10], 255), 0)):
        for epoch in (0, 1):
            same, info = learned(layer, latency, np.int32(label), epoch)
            jax.tree.map(np.testing.assert_array_equal, same, layer)
            assert info["winner"] == -1


def test_learning_goes_on_from_a_file(tmp_path):
    """Half of the images, saved, then the others: the same as all at once."""
    first, second = (dataclasses.replace(DATA, train_images=PICTURES[x], train_labels=LABELS[x]) for x in HALVES)
    with RunFolder(tmp_path / "run", Trainer(SPEC, first, Settings((1,), patience=0))) as run:
        run.run()
    loaded = snnjax.load(tmp_path / "run")
    trainer = Trainer(loaded.network, second, Settings((1,), patience=0))
    with pytest.warns(UserWarning, match="as if it had learned already"):
        state = trainer.initial_state()
    state.weights = {name: np.asarray(values) for name, values in loaded.weights().items()}
    state = trainer.run(state)
    _, at_once = trained(dataclasses.replace(DATA, train_images=PICTURES, train_labels=LABELS), epochs=1)
    np.testing.assert_allclose(state.weights["layer1"], at_once.weights["layer1"], atol=1e-6)
    for path in ("layer1.threshold", "layer1.learners.wins", "layer1.learners.length"):
        np.testing.assert_allclose(state.learned_params[path], at_once.learned_params[path], rtol=1e-4, atol=1e-3)


def test_what_has_been_corrected_is_corrected_further():
    """A stream changes the thresholds of no neuron; new classes and integers that learn are refused."""
    network, _ = trained(epochs=3)
    stream = snnjax.Stream(network)
    before = network.network.stages[0].branches[0]
    _, state = stream.learn(stream.init(), PICTURES[45:], LABELS[45:])
    after = stream.network(state)
    for field in ("threshold", "learners.wins"):
        np.testing.assert_array_equal(leaves(after.network.stages[0].branches[0])[field], leaves(before)[field])
    assert np.mean(np.asarray(after(PICTURES)) == LABELS) > 0.9
    assert not np.array_equal(after.weights()["layer1"], network.weights()["layer1"])
    wins = np.where(np.arange(CLASSES * PER_CLASS) < PER_CLASS, 0, before.learners.wins)
    unseen = replace(network.network, "stages.0.branches.0.learners.wins", wins)
    assert_refused(
        (lambda: snnjax.Stream(SpikingNetwork(unseen, weights=network.weights())).init(), "takes no new classes"),
        (lambda: integer_prototypes(network), "has corrected errors, which learning image by image would undo"),
    )


def test_a_stream_of_means_equals_an_epoch():
    network, _ = trained(epochs=1)
    stream = snnjax.Stream(SpikingNetwork(SPEC))
    _, state = stream.learn(stream.init(), DATA.train_images, DATA.train_labels)
    streamed = stream.network(state)
    np.testing.assert_array_equal(streamed.weights()["layer1"], network.weights()["layer1"])
    first = stream.end_epoch(stream.learn(stream.init(), PICTURES[LABELS < 2], LABELS[LABELS < 2])[1])
    _, state = stream.learn(first, PICTURES[LABELS == 2], LABELS[LABELS == 2])
    assert np.mean(np.asarray(stream.network(state)(PICTURES)) == LABELS) > 0.6  # the first of a new class is learned


def test_ncg_prototypes_is_trained_saved_reported_and_rounded(tmp_path):
    data = digits().subset(700, 300)
    description = NETWORKS["ncg_prototypes"](ImageSpec.of(data))
    trainer = Trainer(description, data, dataclasses.replace(Settings.of(description, data), epochs=(1, 2)))
    with RunFolder(tmp_path / "run", trainer, draw=snnjax.app.draw_run) as run:
        results = run.run()
    assert results["test"]["accuracy"] > 0.9
    network = snnjax.load(tmp_path / "run")
    decisions = np.asarray(network(data.test_images))
    assert np.mean(decisions == data.test_labels) == pytest.approx(results["test"]["accuracy"])
    np.testing.assert_array_equal([network(image) for image in data.test_images[:5]], decisions[:5])
    rounded = np.asarray(quantise(network, 8)(data.test_images))
    assert np.mean(rounded == decisions) > 0.98
    counted = snnjax.cost(network, data.test_images[:20], data.test_labels[:20])
    assert 0 < counted.layers[-1].spikes.max() <= 50
    assert firing_windows(network.network) == (0, 0, 0)
    diagnosis = results["diagnoses"]["Prototypes"]
    assert sum(diagnosis["wins"]["layer2"]) == len(data.train_images)
    assert 0 < diagnosis["corrected"]["layer2"] < 1
    refused = "`ramp` of .*layer2.* of ncg_prototypes.* must be None"
    assert_refused(
        (lambda: check_network(network, "on a page"), refused),
        (lambda: exportable(network), "`ramp` of .* for NIR"),
    )


def test_with_prototypes_keeps_what_is_read():
    ncg = NETWORKS["goupy2024_ncg"]()
    last = with_prototypes(ncg, per_class=3).stages[-1]
    assert last.inputs == (Input("stage1", pool=Pool(2, stride=1)),)
    assert last.branches[0].features == 30
    scales = with_prototypes(NETWORKS["ncg_scales"]()).stages[-1]
    assert isinstance(scales.join, Flatten)
    svm = with_prototypes(NETWORKS["kheradpisheh2018"]())
    assert [len(stage.branches) for stage in svm.stages] == [1] * len(svm.stages)
    assert len(svm.stages) == len(NETWORKS["kheradpisheh2018"]().stages) + 1


def test_decision_needs_no_levels_and_times_matter():
    """A later spike adds less, though every input fires: the decision is not that of who fires alone."""
    network, _ = trained()
    assert isinstance(network.network.decision, Majority)
    decisions = np.asarray(network(PICTURES))
    late = np.asarray(network(np.where(PICTURES > 0, 200, 0).astype(np.uint8)))
    assert np.mean(decisions == LABELS) > 0.9 > np.mean(late == LABELS)
