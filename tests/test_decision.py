"""Decisions: what they are made from, in learning as in testing."""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import pytest

import snnjax
from snnjax import RSTDP, Conv, Earliest, Majority, Model, Network, Settings, Trainer, stage
from snnjax.data import digits
from snnjax.kernels import Spikes
from snnjax.networks.decision import decide, majority, votes_of


@snnjax.component
class FirstToFire:
    """Votes for the class that fires first."""

    timed: ClassVar[bool] = True

    def scores(self, spikes, classes):
        return (15 - spikes.latency.reshape(classes, -1).min(axis=1)).astype(jnp.float32)

    def decide(self, scores):
        return majority(votes_of(scores), scores.shape[1])


def network(decision, threshold) -> Network:
    conv = Conv(4, 6, stride=2, threshold=threshold, learners=RSTDP(punish=(0, 0), reward=(0, 0)))
    return Network("one", (6, 28, 28), 2, (stage(conv),), decision=decision)


@pytest.mark.parametrize(
    ("decision", "threshold"),
    [(FirstToFire(), 20), (Earliest(), 20), (Majority(), None)],
    ids=["own", "timed", "untimed"],
)
def test_learning_sees_what_testing_sees(decision, threshold):
    """With rates of 0 the decisions on the images learned from are those that the network takes on them later."""
    data = digits()
    few = np.flatnonzero(data.train_labels < 2)[:30]
    images, labels = data.train_images[few], data.train_labels[few]
    data = snnjax.data.Dataset("two", images, labels, images, labels, classes=2)
    trainer = Trainer(network(decision, threshold), data, Settings((1,), patience=0))
    state = trainer.run(trainer.initial_state())
    (record,) = state.epochs
    assert record["train"] == record["test"]
    decisions, _ = trainer.predict(state, images)
    counts = np.bincount(decisions[decisions >= 0], minlength=2).tolist()
    assert state.diagnoses["R-STDP"]["decided"] == counts


def test_spikes_of_a_deciding_layer_come_with_times_where_they_matter():
    latency = snnjax.encode(digits().train_images[0])
    for decision, threshold, timed in ((Earliest(), 20, True), (Majority(), None, False)):
        spec = network(decision, threshold)
        (layer,) = Model.of(spec, spec.initial_weights(0)).layers.values()
        state = RSTDP().init(layer, np.zeros(2, np.uint32), 0)
        found = RSTDP().forward(layer, state, latency, np.int32(0)).spikes
        expected = layer.spikes(latency) if timed else layer.last_spikes(latency)
        np.testing.assert_array_equal(found.latency, expected.latency)
        fired = found.latency < 15
        np.testing.assert_array_equal(np.where(fired, found.potential, 0), expected.potential)
        assert (len(np.unique(found.latency)) > 2) == timed
        if timed:
            np.testing.assert_allclose(found.time, np.float32(expected.latency) / 15, rtol=1e-6)
            np.testing.assert_array_equal(
                np.where(fired, 0, found.potential), np.where(fired, 0, layer.potentials(latency))
            )


def spikes(times, potentials) -> Spikes:
    """One neuron a feature; `Earliest` looks at times and potentials alone."""
    time, potential = (np.float32(x).reshape(-1, 1, 1) for x in (times, potentials))
    return Spikes(np.uint8(time), potential, time)


@pytest.mark.parametrize(
    ("times", "potentials", "decision", "fallback"),
    [
        ([0.5, 0.25, 0.75], [9, 1, 9], 1, 1),
        ([0.5, 0.25, 0.25], [9, 1, 2], 2, 2),
        ([0.25, 0.25, 0.25], [2, 2, 2], 0, 0),
        ([1, 1, 0.5], [9, 8, 1], 2, 2),
        ([1, 1, 1], [2, 3, 1], -1, 1),
        ([1, 1, 1], [3, 3, 1], -1, 0),
        ([1, 1, 1], [0, 0, 0], -1, -1),
        ([1, 1, 1 - 2**-24], [1e6, 1e5, 1], 2, 2),
        ([0.5, 0.5 + 2**-24, 1], [1, 9, 9], 0, 0),
        ([0, 1, 1], [1, 9, 9], 0, 0),
    ],
)
def test_the_earliest_neuron_decides_then_the_strongest_then_the_lowest(times, potentials, decision, fallback):
    for rule, expected in ((Earliest(), decision), (Earliest(fallback=True), fallback)):
        decided = decide(rule, [spikes(times, potentials)], 3)
        assert decided.decision == decided.votes[0] == expected
        shown = [1 - time if time < 1 else 0 for time in times]
        np.testing.assert_allclose(decided.scores, shown, atol=1e-6)
    # two neurons a class: the better one counts
    worse = np.stack([times, np.ones(3)], 1), np.stack([potentials, np.zeros(3)], 1)
    assert decide(Earliest(fallback=True), [spikes(*worse)], 3).decision == fallback


def test_the_earliest_of_several_layers_decides():
    layers = [spikes([0.5, 0.75, 1], [1, 1, 1]), spikes([1, 0.25, 1], [1, 1, 1]), spikes([0.5, 1, 1], [9, 1, 1])]
    assert decide(Earliest(), layers, 3).decision == 1
    assert decide(Earliest(), layers[::2], 3).decision == 0
    assert decide(Earliest(), layers, 3).votes.tolist() == [0, 1, 0]
