"""Learning by reward, against the plain loop over images of `reward_judge`, to the last bit."""

import dataclasses

import numpy as np
import pytest
from reward_judge import DEEP, ONE, RULE, THREE, WIDE, Judged, assert_judged, images_of, judged, learn, network_of

from snnjax.core.devices import BATCH_SIZES
from snnjax.data import Dataset
from snnjax.networks import stage
from snnjax.training.learning_phase import begin_phase
from snnjax.training.loop import Trainer, run_epoch
from snnjax.training.state import Settings


def with_rule(deciding, **settings):
    rule = dataclasses.replace(RULE, **settings)
    return stage(*(dataclasses.replace(conv, learners=rule) for conv in deciding.branches))


SLICE = 32
ROUGH = with_rule(ONE, reward=(200 / 256, -16 / 256), punish=(-64 / 256, 200 / 256), bounds=(-2.0, 2.0))
"""Its updates often change which feature is the strongest."""


@pytest.mark.parametrize(
    ("deciding", "by_turns", "batch_sizes"),
    [
        pytest.param(ROUGH, False, (4, 16), id="one branch", marks=pytest.mark.slow),
        pytest.param(THREE, False, (8,), id="three branches", marks=pytest.mark.slow),
        pytest.param(with_rule(THREE, dropout=0.25, floor=0.25), True, (8,), id="three by turns, dropout and a floor"),
    ],
)
def test_images_one_by_one_and_in_sequences_are_the_judges(deciding, by_turns, batch_sizes, compiler):
    network = network_of(deciding, by_turns=by_turns)
    inputs, labels = images_of(network)
    for batch_size in batch_sizes:
        kept = [] if deciding is not ROUGH else None
        result = learn(network, inputs, labels, batch_size, epochs=2, kept=kept)
        expected = judged(network, inputs, labels, batch_size, epochs=2, kept=kept)
        assert_judged(result, expected)
        for way in ("sequences", "sequences, compiled"):
            assert_judged(learn(network, inputs, labels, batch_size, epochs=2, way=way), expected)
    made = np.array(expected.decisions[0])
    if deciding is ROUGH:
        at_once = judged(network, inputs, labels, batch_size, epochs=2, batched=16)
        assert_judged(learn(network, inputs, labels, batch_size, 2, "sequences", update_batch=16), at_once)
        assert np.sum(made != at_once.decisions[0]) > 8, "no image changes how the next ones are decided"
    assert min(np.sum(made == labels), np.sum((made >= 0) & (made != labels))) >= 8, "the case tells nothing"
    assert np.sum(made < 0) >= 4


@pytest.mark.parametrize(
    ("stages", "by_turns", "ways"),
    [
        pytest.param(DEEP, False, ("image by image", "pair, compiled"), id="one"),
        pytest.param(DEEP, True, ("pair, compiled",), id="one by turns"),
        pytest.param(WIDE, True, ("image by image",), id="two side by side by turns"),
    ],
)
def test_earlier_layers_learn_by_the_decision(stages, by_turns, ways, compiler):
    """Each of those side by side learns once from an image, by winners of its own; the last from its own winner."""
    network = network_of(*stages, by_turns=by_turns)
    inputs, labels = images_of(network)
    kept = []
    results = [learn(network, inputs, labels, 8, epochs=2, way=way, kept=kept) for way in ways]
    expected = judged(network, inputs, labels, 8, epochs=2, kept=kept)
    for result in results:
        assert set(result.weights) == set(network.weights()) - {"layer1"}
        assert_judged(result, expected)
        for name, weights in result.weights.items():
            assert np.any(weights != network.weights()[name]), f"{name} has learned nothing"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stages", "batched"),
    [((ONE,), 6), ((THREE,), 1), (DEEP, 6)],
)
def test_epochs_of_the_trainer_are_the_judges(stages, batched, compilations, monkeypatch):
    """Weights out of bounds are pulled in before the first image; the second batch of an epoch is short."""
    monkeypatch.setitem(BATCH_SIZES, "learned", SLICE)
    network = network_of(*stages, dyadic=(700, 1100))
    inputs, labels = images_of(network, silent=slice(0, SLICE + 2))
    expected = judged(network, inputs, labels, 8, epochs=2, batched=batched)
    images = np.zeros((len(labels), 6, 6), np.uint8)
    data = Dataset("none", images, labels, images, labels, network.network.classes)
    epochs = (0,) * (len(stages) - 1) + (2,)
    trainer = Trainer(network.network, data, Settings(epochs, adapt_every=8, update_batch=batched))
    state = trainer.initial_state()
    state.weights = {name: np.asarray(weights) for name, weights in network.weights().items()}
    state.phase = len(trainer.job.phases) - 1
    learning_phase = begin_phase(trainer.job, trainer.job.phases[-1], [state], inputs)
    _, first = run_epoch(learning_phase)
    results = [first]
    assert compilations(lambda: results.append(run_epoch(learning_phase)[1])) == 0, "the second epoch compiles again"
    layers, states, counts = learning_phase.placement.unstack(learning_phase.carry)[0]
    assert (int(counts.epoch), int(counts.seen)) == (2, 0)
    weights = {name: np.asarray(layer.weights) for name, layer in layers.items()}
    rates = np.stack([states[name]["rates"] for name in layers])
    assert_judged(Judged(weights, rates, [found.decisions[0].tolist() for found in results]), expected)
