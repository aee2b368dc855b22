"""Learning by reward, against the plain loop over images of `reward_judge`, to the last bit."""

import dataclasses

import numpy as np
import pytest
import reward_judge
from reward_judge import DEEP, ONE, RULE, THREE, WIDE, T, assert_judged, images_of, judged, learn, network_of

from snnjax.data import Dataset
from snnjax.layers.conv import Conv
from snnjax.learners import RSTDP
from snnjax.networks import stage
from snnjax.steps.plain import Slice
from snnjax.steps.reward_in_blocks import BLOCK
from snnjax.training import epoch as epoch_module
from snnjax.training.loop import Trainer
from snnjax.training.state import Settings


def with_rule(deciding, **settings):
    rule = dataclasses.replace(RULE, **settings)
    return stage(*(dataclasses.replace(conv, learners=rule) for conv in deciding.branches))


@pytest.mark.parametrize(
    ("deciding", "by_turns", "batch_sizes"),
    [(ONE, False, (4, 16)), (with_rule(THREE, dropout=0.25, floor=0.25), True, (8,))],
    ids=["one branch", "three branches by turns, with dropout and a floor"],
)
def test_images_one_by_one_and_in_blocks_are_the_judges(deciding, by_turns, batch_sizes):
    network = network_of(deciding, by_turns=by_turns)
    inputs, labels = images_of(network)
    for batch_size in batch_sizes:
        kept = [] if deciding is not ONE else None
        result = learn(network, inputs, labels, batch_size, epochs=2, kept=kept)
        expected = judged(network, inputs, labels, batch_size, epochs=2, kept=kept)
        assert_judged(result, expected)
        for way in ("blocks", "compiled blocks", "few kernels"):
            assert_judged(learn(network, inputs, labels, batch_size, epochs=2, way=way), expected)
    made = np.array(expected.decisions[0])
    assert min(np.sum(made == labels), np.sum((made >= 0) & (made != labels))) >= 8, "the case tells nothing"
    assert np.sum(made < 0) >= 4


ROUGH = {
    "wide bounds": RSTDP((200 / 256, -16 / 256), (-64 / 256, 200 / 256), bounds=(-2.0, 2.0)),
    "stabiliser": RSTDP((64 / 256, -16 / 256), (-200 / 256, 200 / 256), bounds=(-2.0, 2.0), stabiliser=True),
}
"""Rules whose updates often change which feature is the strongest."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ROUGH)
def test_a_feature_that_may_have_become_the_strongest_is_looked_at(name):
    """In blocks, whichever way they look, as in images one by one."""
    rule, rng, changes = ROUGH[name], np.random.default_rng(5), 0
    network = network_of(stage(Conv(12, kernel=5, padding=1, learners=rule)))
    for _ in range(6):
        levels = np.linspace(*rule.bounds, 5)
        network.set_weights(dict(layer1=np.float32(rng.choice(levels, network.layer1[...].shape))))
        spiked = rng.random((64, 4, 6, 6)) < rng.choice([0.05, 0.3, 0.9])
        images = np.where(spiked, np.uint8(T - 1), np.uint8(T))
        labels = rng.integers(0, reward_judge.CLASSES, 64, np.int32)
        start, count = np.int32(rng.integers(0, 9)), np.int32(rng.integers(50, 65))
        part = Slice(images, start, count, np.bool_(False), labels, np.int32(8))

        def run(way, batch=1):
            carry, found = reward_judge.run(network, way, part, batch)
            return np.asarray(found.decisions), np.asarray(carry.layers["layer1"].weights)

        decisions, weights = run("plain")
        for way in ("few kernels", "blocks", "compiled blocks"):
            decided, learned = run(way)
            assert decided.tolist() == decisions.tolist(), way
            np.testing.assert_allclose(learned, weights, rtol=0, atol=1e-4 if rule.stabiliser else 0)
        at_once = run("blocks", batch=16)[0]
        np.testing.assert_array_equal(at_once, run("plain", batch=16)[0], "with the same weights")
        changes += np.sum(decisions != at_once)
    assert changes > 50, "the cases tell nothing"


@pytest.mark.parametrize(
    ("stages", "by_turns", "ways"),
    [
        pytest.param(DEEP, False, ("plain", "few kernels, deep", "compiled blocks"), id="one"),
        pytest.param(DEEP, True, ("plain", "compiled blocks"), id="one by turns"),
        pytest.param(WIDE, True, ("plain", "few kernels, deep"), id="two side by side by turns"),
    ],
)
def test_earlier_layers_learn_by_the_decision(stages, by_turns, ways):
    """Each of those side by side learns once from an image, by winners of its own; the last from its own winner."""
    network = network_of(*stages, by_turns=by_turns)
    inputs, labels = images_of(network)
    expected = judged(network, inputs, labels, 8, epochs=2)
    for way in ways:
        result = learn(network, inputs, labels, 8, epochs=2, way=way)
        assert set(result.weights) == set(network.weights()) - {"layer1"}
        assert_judged(result, expected)
        for name, weights in result.weights.items():
            assert np.any(weights != network.weights()[name]), f"{name} has learned nothing"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stages", "batched"),
    [((ONE,), 6), ((THREE,), 1), (WIDE, 6)],
    ids=["one branch, batches", "three branches", "two earlier layers, batches"],
)
def test_epochs_of_the_trainer_are_the_judges(stages, batched, compilations, monkeypatch):
    """Weights out of bounds are pulled in by the first update, which here comes only in the second block of images.

    The second slice of an epoch is short.
    """
    monkeypatch.setattr(epoch_module, "SLICE", BLOCK)
    network = network_of(*stages, dyadic=(700, 1100))
    inputs, labels = images_of(network, silent=slice(0, BLOCK + 2))
    expected = judged(network, inputs, labels, 8, epochs=2, batched=batched)
    images = np.zeros((reward_judge.IMAGES, 6, 6), np.uint8)
    data = Dataset("none", images, labels, images, labels, reward_judge.CLASSES)
    epochs = (0,) * (len(stages) - 1) + (2,)
    trainer = Trainer(network.spec, data, Settings(epochs, batch_size=8, update_batch=batched))
    state = dataclasses.replace(
        trainer.initial_state(), weights={n: np.asarray(w) for n, w in network.weights().items()}
    )
    state.phase = len(trainer.plan) - 1
    runner = trainer.training.runners.of_phase(trainer.plan[-1], [state], inputs)
    _, first = runner.run()
    results = [first]
    assert compilations(lambda: results.append(runner.run()[1])) == 0, "the second epoch compiles again"
    layers, states, tally = runner.placement.unstack(runner.carry)[0]
    assert (int(tally.epoch), int(tally.seen)) == (2, 0)
    weights = {name: np.asarray(layer.weights) for name, layer in layers.items()}
    rates = np.stack([states[name]["rates"] for name in layers])
    assert_judged(reward_judge.Judged(weights, rates, [found.decisions[0].tolist() for found in results]), expected)
    assert all(found.decisions.shape == (1, reward_judge.IMAGES) for found in results)


def test_weights_outside_the_bounds_are_known():
    for dyadic, beyond in (((256, 768), False), ((200, 800), True), ((500, 1000), True)):
        layers = network_of(ONE, dyadic=dyadic).model.layers
        assert epoch_module.outside(layers, -1) == beyond
