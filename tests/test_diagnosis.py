"""What phases show, in figures and words: plainly bad thresholds are named."""

import dataclasses

import numpy as np
import pytest

from snnjax.data import digits
from snnjax.layers.conv import WTA, Conv
from snnjax.layers.layer_kernels import PLAIN
from snnjax.layers.spiking import Layer
from snnjax.learners import RSTDP, STDP, Learner, convergence
from snnjax.networks import Network, SpikingNetwork, stage
from snnjax.training.advice import describe, diagnose_decisions, diagnose_outputs, listed, percent
from snnjax.training.loop import Trainer
from snnjax.training.state import Callback, Settings

CONV = Conv(4, kernel=5, padding=2, threshold=15, competition=WTA(2, radius=3), learners=STDP(doubling=20))
SPEC = Network("two", (6, 28, 28), 10, (stage(CONV, pool=4), stage(Conv(20, kernel=7, learners=RSTDP()))))
WEIGHTS = np.full((4, 6, 5, 5), 0.8)
SILENT = np.full((10, 2), -1)
"""Winners of ten images without spikes."""


def layer_of(conv: Conv, weights: np.ndarray) -> Layer:
    return Layer(conv, weights, SPEC.time_steps, PLAIN)


def sentences_of(conv: Conv, weights: np.ndarray, info: np.ndarray) -> list[str]:
    layer = layer_of(conv, weights)
    return describe("layer1", layer, conv.learners, conv.learners.diagnose(layer, info))


@pytest.mark.slow
def test_phases_of_a_training_tell_what_they_show():
    heard = {}

    class Hearing(Callback):
        def diagnosed(self, phase, diagnosis):
            heard[phase] = diagnosis

    trainer = Trainer(SPEC, digits().first(60, 20), Settings((2, 1), batch_size=20), Hearing())
    state = trainer.run(trainer.initial_state())
    assert state.diagnoses == heard
    assert heard.keys() == {"STDP layer1", "outputs of stage 1", "R-STDP"}
    words = " ".join(word for each in heard.values() for word in each["words"])
    assert "too high" not in words
    assert "too low" not in words
    learned = heard["STDP layer1"]
    assert learned["silent"] == dict(layer1=0)
    assert sum(learned["wins"]["layer1"]) == 60 * 2, "of one epoch, two winners to an image"
    assert learned["convergence"]["layer1"] == convergence(state.weights["layer1"]) < 0.16
    model = SpikingNetwork(trainer.network, weights=state.weights).model
    latencies = [model.forward(model.encode(image), 0, 1) for image in trainer.data.train_images]
    share = np.mean(np.array(latencies) < trainer.network.time_steps)
    assert heard["outputs of stage 1"]["firing"]["layer1"] == pytest.approx(share)


def test_a_threshold_that_is_too_high_is_named():
    won = SILENT.copy()
    won[0] = 1
    words = sentences_of(CONV, WEIGHTS, won)
    assert words[0] == "no neuron fired at 90 % of the images"
    assert words[-1] == "the threshold 15 is too high: try a lower one"
    fired = np.zeros((10, 4, 7, 7), bool)
    assert "15 of layer1 is too high" in diagnose_outputs(SPEC, 0, fired, {})["words"][-1]
    words = diagnose_decisions([*map(str, range(10))], np.full(10, -1), {})["words"]
    assert "too little reaches the deciding layer" in words[-1]


def test_a_threshold_that_is_too_low_is_named():
    """In the branch whose neurons nearly all fire."""
    branches = stage(CONV, dataclasses.replace(CONV, threshold=0.01), pool=4)
    spec = dataclasses.replace(SPEC, stages=(branches, SPEC.stages[1]))
    fired = np.arange(10 * 8 * 49).reshape(10, 8, 7, 7) % 3 == 0
    fired[:, 4:] = True
    diagnosis = diagnose_outputs(spec, 0, fired, {})
    assert diagnosis["words"][-1] == "the threshold 0.01 of layer1_2 is too low: nearly every neuron fires"
    assert sum("too low" in word or "too high" in word for word in diagnosis["words"]) == 1
    assert diagnosis["firing"] == dict(layer1_1=pytest.approx(1 / 3, abs=0.01), layer1_2=1.0)
    assert diagnosis["silent"] == 0
    early = diagnose_outputs(spec, 0, fired, dict(layer1_2=0.15))["words"][-1]
    assert early.startswith("layer1_2 has learned too little yet, or the threshold 0.01 is too low"), "the weights tell"


def test_figures_of_stdp_by_hand():
    won = np.array([[0, 1], [0, -1], [0, 3], [-1, -1]])
    weights = np.array([0.0, 1.0, 0.5, 0.5]).reshape(4, 1, 1, 1)
    figures = CONV.learners.diagnose(layer_of(CONV, weights), won)
    assert figures["wins"] == [3, 1, 0, 1]
    assert (figures["silent"], figures["never_won"]) == (0.25, 1)
    assert figures["convergence"] == pytest.approx(0.125)
    words = sentences_of(CONV, weights, won)
    assert words[1:3] == ["1 of 4 features never won (2)", "0 won more than 5 times as often as the mean"]
    assert words[3:] == [
        "mean w(1-w) is 0.125, not converged yet",
        "more images or epochs, or higher rates, would let the weights converge",
    ]
    assert sentences_of(CONV, weights.round(), won)[3:] == ["mean w(1-w) is 0.000, converged"]
    greedy = np.zeros((100, 1), int)
    greedy[:3, 0] = 1, 2, 3
    words = sentences_of(dataclasses.replace(CONV, features=40), weights, greedy)
    assert words[2] == "1 won more than 5 times as often as the mean (0)"
    assert "most features never win" in words[-1]


def test_figures_of_reward_by_hand():
    conv = Conv(3, kernel=3, learners=RSTDP(bounds=(0.2, 0.8)))
    layer = layer_of(conv, np.array([0.2, 0.8, 0.5, 0.2]))
    figures = conv.learners.diagnose(layer, dict(feature=np.zeros((4, 1), int)))
    assert figures["convergence"] == pytest.approx(0.0625)
    learners = {name: dict(layer1=figure) for name, figure in figures.items()}
    learners["words"] = describe("layer1", layer, conv.learners, figures)
    assert learners["words"] == [
        "mean w(1-w) between the bounds of layer1 is 0.062",
        "2 of 3 features of layer1 never won (1, 2)",
    ]
    diagnosis = diagnose_decisions(["cat", "dog", "owl"], np.array([0, 0, -1, 2]), learners)
    assert (diagnosis["silent"], diagnosis["decided"], diagnosis["never_decided"]) == (0.25, [2, 0, 1], 1)
    assert diagnosis["convergence"] == dict(layer1=pytest.approx(0.0625))
    assert diagnosis["words"][:2] == [
        "the network stayed silent at 25 % of the images",
        "1 of 3 classes were never predicted (dog)",
    ]
    assert diagnosis["words"][2:4] == learners["words"]
    assert "some classes are never chosen" in diagnosis["words"][-1]


def test_the_sentences_are_those_of_the_class_that_makes_the_figures():
    """A subclass keeps them unless it has figures of its own; a learner that says nothing shows its weights."""

    class Slower(STDP):
        pass

    class Other(STDP):
        def diagnose(self, layer, info):
            return dict(spread=0.25)

    layer = layer_of(CONV, WEIGHTS)
    words = describe("layer1", layer, Slower(), STDP().diagnose(layer, SILENT))
    assert words[-1] == "the threshold 15 is too high: try a lower one"
    assert describe("layer1", layer, Other(), dict(spread=0.25)) == ["spread of layer1 is 0.25"]
    layer = layer_of(CONV, np.array([0.25, 0.75]))
    figures = Learner().diagnose(layer, ())
    assert figures == dict(weights_mean=0.5)
    assert describe("layer1", layer, Learner(), figures) == ["weights_mean of layer1 is 0.5"]


def test_shares_and_lists_in_words():
    assert [percent(share) for share in (0, 0.012, 0.1, 0.5)] == ["0 %", "1.2 %", "10.0 %", "50 %"]
    assert [listed([]), listed("ab"), listed(range(8))] == ["", " (a, b)", " (0, 1, 2, 3, 4, 5, 6, 7)"]
    assert listed(range(9)) == " (0, 1, 2, 3, 4, 5, 6, 7, ...)"
