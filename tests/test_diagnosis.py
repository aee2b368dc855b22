"""What phases show, in figures and words: plainly bad thresholds are named."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
import tiny

from snnjax import Images
from snnjax.layers.conv import WTA, Conv
from snnjax.layers.layer_kernels import PLAIN
from snnjax.layers.spiking import Layer
from snnjax.learners import RSTDP, STDP, convergence
from snnjax.networks import Network, SpikingNetwork, stage
from snnjax.training.advice import describe, diagnose_decisions, diagnose_outputs
from snnjax.training.loop import Trainer
from snnjax.training.state import Callback, Settings

CONV = Conv(4, kernel=5, padding=2, threshold=15, competition=WTA(2, radius=3), learners=STDP(doubling=20))
SPEC = Network("two", (6, 28, 28), 10, (stage(CONV, pool=4), stage(Conv(20, kernel=7, learners=RSTDP()))))


def test_phases_of_a_training_tell_what_they_show():
    heard = {}

    class Hearing(Callback):
        def diagnosed(self, phase, diagnosis):
            heard[phase] = diagnosis

    trainer = Trainer(tiny.plain(Images()), tiny.images(), Settings((2, 1), batch_size=20), Hearing())
    state = trainer.run(trainer.initial_state())
    assert state.diagnoses == heard
    assert heard.keys() == {"STDP layer1", "outputs of stage 1", "R-STDP"}
    learned = heard["STDP layer1"]
    assert 0 < sum(learned["wins"]["layer1"]) <= 40 * 2, "of one epoch, two winners to an image"
    assert learned["convergence"]["layer1"] == convergence(state.weights["layer1"])
    model = SpikingNetwork(trainer.network, weights=state.weights).model
    latencies = jax.vmap(lambda image: model.forward(model.encode(image), 0, 1))(trainer.data.train_images)
    share = np.mean(np.array(latencies) < trainer.network.time_steps)
    assert heard["outputs of stage 1"]["firing"]["layer1"] == pytest.approx(share)


def layer_of(conv: Conv, weights: np.ndarray) -> Layer:
    return Layer(conv, weights, SPEC.time_steps, PLAIN)


def figures_of(conv: Conv, weights: np.ndarray, info: np.ndarray) -> tuple[dict[str, Any], str]:
    """Figures and sentences."""
    layer = layer_of(conv, weights)
    figures = conv.learners.diagnose(layer, info)
    return figures, "; ".join(describe("layer1", layer, conv.learners, figures))


def test_plainly_bad_thresholds_are_named():
    """Too low in the branch whose neurons nearly all fire."""
    won = np.full((10, 2), -1)
    won[0] = 1
    assert "15 is too high" in figures_of(CONV, np.full(4, 0.8), won)[1]
    branches = stage(CONV, dataclasses.replace(CONV, threshold=0.01), pool=4)
    spec = dataclasses.replace(SPEC, stages=(branches, SPEC.stages[1]))
    fired = np.arange(10 * 8 * 49).reshape(10, 8, 7, 7) % 3 == 0
    fired[:, 4:] = True
    diagnosis = diagnose_outputs(spec, 0, fired, {})
    assert [word for word in diagnosis["words"] if "too" in word] == [
        "the threshold 0.01 of layer1_2 is too low: nearly every neuron fires"
    ]
    assert diagnosis["firing"] == dict(layer1_1=pytest.approx(1 / 3, abs=0.01), layer1_2=1.0)
    assert diagnosis["silent"] == 0
    assert "15 of layer1 is too high" in diagnose_outputs(SPEC, 0, np.zeros((10, 4, 7, 7), bool), {})["words"][-1]


def test_figures_by_hand():
    won = np.array([[0, 1], [0, -1], [0, 3], [-1, -1]])
    figures, words = figures_of(CONV, np.array([0.0, 1.0, 0.5, 0.5]), won)
    assert (figures["wins"], figures["silent"], figures["never_won"]) == ([3, 1, 0, 1], 0.25, 1)
    assert figures["convergence"] == pytest.approx(0.125)
    assert "1 of 4 features never won (2); 0 won more than 5 times" in words
    assert "0.125, not converged yet" in words
    assert "0.000, converged" in figures_of(CONV, np.ones(4), won)[1]
    conv = Conv(3, kernel=3, learners=RSTDP(bounds=(0.2, 0.8)))
    figures, words = figures_of(conv, np.array([0.2, 0.8, 0.5, 0.2]), dict(feature=np.zeros((4, 1), int)))
    assert figures["convergence"] == pytest.approx(0.0625)
    assert "2 of 3 features of layer1 never won (1, 2)" in words
    diagnosis = diagnose_decisions(["cat", "dog", "owl"], np.array([0, 0, -1, 2]), dict(words=[words]))
    assert (diagnosis["silent"], diagnosis["decided"], diagnosis["never_decided"]) == (0.25, [2, 0, 1], 1)
    assert "1 of 3 classes were never predicted (dog)" in diagnosis["words"]


def test_a_subclass_with_figures_of_its_own_has_its_own_sentences():
    class Other(STDP):
        def diagnose(self, layer, info):
            return dict(spread=0.25)

    layer = layer_of(CONV, np.full(4, 0.8))
    assert describe("layer1", layer, Other(), dict(spread=0.25)) == ["spread of layer1 is 0.25"]
