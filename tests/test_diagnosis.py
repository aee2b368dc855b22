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
from snnjax.training.advice import describe, diagnose_decisions, diagnose_outputs
from snnjax.training.loop import Trainer
from snnjax.training.state import Callback, Settings

CONV = Conv(4, kernel=5, padding=2, threshold=15, competition=WTA(2, radius=3), learners=STDP(doubling=20))
SPEC = Network("two", (6, 28, 28), 10, (stage(CONV, pool=4), stage(Conv(20, kernel=7, learners=RSTDP()))))


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
    assert "too high" not in (words := " ".join(word for each in heard.values() for word in each["words"]))
    assert "too low" not in words
    learned = heard["STDP layer1"]
    assert learned["silent"] == dict(layer1=0)
    assert sum(learned["wins"]["layer1"]) == 60 * 2, "of one epoch, two winners to an image"
    assert learned["convergence"]["layer1"] == convergence(state.weights["layer1"]) < 0.16
    model = SpikingNetwork(trainer.network, weights=state.weights).model
    latencies = [model.forward(model.encode(image), 0, 1) for image in trainer.data.train_images]
    share = np.mean(np.array(latencies) < SPEC.time_steps)
    assert heard["outputs of stage 1"]["firing"]["layer1"] == pytest.approx(share)


def test_a_threshold_that_is_too_high_is_named():
    won = np.full((10, 2), -1)
    won[0] = 1
    words = sentences_of(CONV, np.full((4, 6, 5, 5), 0.8), won)
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
    found = diagnose_outputs(spec, 0, fired, {})
    assert found["words"][-1] == "the threshold 0.01 of layer1_2 is too low: nearly every neuron fires"
    assert sum("too low" in word or "too high" in word for word in found["words"]) == 1
    assert found["firing"] == dict(layer1_1=pytest.approx(1 / 3, abs=0.01), layer1_2=1.0)
    early = diagnose_outputs(spec, 0, fired, dict(layer1_2=0.15))["words"][-1]
    assert early.startswith("layer1_2 has learned too little yet, or the threshold 0.01 is too low"), "the weights tell"


def test_figures_of_stdp_by_hand():
    won = np.array([[0, 1], [0, -1], [0, 3], [-1, -1]])
    weights = np.array([0.0, 1.0, 0.5, 0.5]).reshape(4, 1, 1, 1)
    found = CONV.learners.diagnose(layer_of(CONV, weights), won)
    assert found["wins"] == [3, 1, 0, 1]
    assert (found["silent"], found["never_won"]) == (0.25, 1)
    assert found["convergence"] == pytest.approx(0.125)
    words = sentences_of(CONV, weights, won)
    assert words[1:3] == ["1 of 4 features never won (2)", "0 won more than 5 times as often as the mean"]
    greedy = np.zeros((100, 1), int)
    greedy[:3, 0] = 1, 2, 3
    conv = dataclasses.replace(CONV, features=40)
    words = sentences_of(conv, weights, greedy)
    assert words[2] == "1 won more than 5 times as often as the mean (0)"
    assert "most features never win" in words[-1]


def test_figures_of_reward_by_hand():
    conv = Conv(3, kernel=3, learners=RSTDP(bounds=(0.2, 0.8)))
    layer = layer_of(conv, np.array([0.2, 0.8, 0.5, 0.2]))
    info = dict(feature=np.zeros((4, 1), int))
    found = conv.learners.diagnose(layer, info)
    assert found["convergence"] == pytest.approx(0.0625)
    learners = {name: dict(layer1=figure) for name, figure in found.items()}
    learners["words"] = describe("layer1", layer, conv.learners, found)
    found = diagnose_decisions(["cat", "dog", "owl"], np.array([0, 0, -1, 2]), learners)
    assert (found["silent"], found["decided"], found["never_decided"]) == (0.25, [2, 0, 1], 1)
    assert found["convergence"]["layer1"] == pytest.approx(0.0625)
    assert "1 of 3 classes were never predicted (dog)" in found["words"]
    assert any("between the bounds of layer1" in word for word in found["words"])


def test_a_learner_that_says_nothing_shows_its_weights():
    layer = layer_of(CONV, np.array([0.25, 0.75]))
    found = Learner().diagnose(layer, ())
    assert found == dict(weights_mean=0.5)
    assert describe("layer1", layer, Learner(), found) == ["weights_mean of layer1 is 0.5"]


def test_a_subclass_keeps_the_sentences_unless_it_has_figures_of_its_own():
    class Slower(STDP):
        pass

    class Other(STDP):
        def diagnose(self, layer, info):
            return dict(spread=0.25)

    won = np.full((10, 2), -1)
    layer = layer_of(CONV, np.full((4, 6, 5, 5), 0.8))
    found = STDP().diagnose(layer, won)
    assert describe("layer1", layer, Slower(), found)[-1] == "the threshold 15 is too high: try a lower one"
    assert describe("layer1", layer, Other(), dict(spread=0.25)) == ["spread of layer1 is 0.25"]
