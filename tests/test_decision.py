"""Decisions: what they are made from, in learning as in testing."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import snnjax
from snnjax import RSTDP, Conv, Majority, Model, Network, Settings, Trainer, stage
from snnjax.data import digits
from snnjax.networks.network import majority, votes_of


@snnjax.component
class Earliest:
    """Votes for the class that fires first."""

    timed: ClassVar[bool] = True

    def scores(self, spikes, classes):
        return (15 - spikes.latency.reshape(classes, -1).min(axis=1)).astype(jnp.float32)

    def decide(self, scores):
        return majority(votes_of(scores), scores.shape[1])


def network(decision, threshold) -> Network:
    conv = Conv(4, 6, stride=2, threshold=threshold, learners=RSTDP(punish=(0, 0), reward=(0, 0)))
    return Network("one", (6, 28, 28), 2, (stage(conv),), decision=decision)


@pytest.mark.parametrize(("decision", "threshold"), [(Earliest(), 20), (Majority(), None)], ids=["timed", "untimed"])
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
        found = RSTDP().forward(layer, RSTDP().init(layer, np.zeros(2, np.uint32), 0), latency).spikes
        expected = layer.spikes(latency) if timed else layer.last_spikes(latency)
        jax.tree.map(np.testing.assert_array_equal, found, expected)
        assert (len(np.unique(found.latency)) > 2) == timed
