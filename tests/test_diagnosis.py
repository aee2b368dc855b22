"""What phases show, in figures and words: plainly bad thresholds are named."""

import dataclasses

import numpy as np
import pytest

from snnjax.data import digits
from snnjax.layers import RSTDP, STDP, Conv
from snnjax.networks import Network, stage
from snnjax.training import diagnosis
from snnjax.training.trainer import Listener, Settings, Trainer

LAYER = Conv(4, kernel=5, padding=2, threshold=15, winners=2, radius=3, stdp=STDP(doubling=20))


SPEC = Network("two", (6, 28, 28), 10, (stage(LAYER, pool=4), stage(Conv(20, kernel=7, rstdp=RSTDP()))))


def test_phases_of_a_training_tell_what_they_show():
    heard = {}

    class Hearing(Listener):
        def diagnosed(self, phase, diagnosis):
            heard[phase] = diagnosis

    trainer = Trainer(SPEC, digits().first(60, 20), Settings((2, 1), batch_size=20), Hearing())
    state = trainer.run(trainer.initial_state())
    assert state.diagnoses == heard
    assert heard.keys() == {"STDP layer1", "who fires in stage 1", "R-STDP"}
    assert "plainly" not in " ".join(word for each in heard.values() for word in each["words"])
    learned = heard["STDP layer1"]
    assert learned["silent"] == 0
    assert learned["wins"] == state.wins["layer1"].tolist()
    assert learned["convergence"] == diagnosis.convergence(state.weights["layer1"]) < 0.16
    latencies = [trainer.network.respond(0, trainer.encoder(image)) for image in trainer.data.train_images]
    share = np.mean(np.array(latencies) < SPEC.time_steps)
    assert heard["who fires in stage 1"]["firing"]["layer1"] == pytest.approx(share)


def test_a_threshold_that_is_too_high_is_named():
    won = np.full((10, 2), -1)
    won[0] = 1
    words = diagnosis.of_stdp(LAYER, np.full((4, 6, 5, 5), 0.8), won)["words"]
    assert words[0] == "nobody fired at 90 % of the images"
    assert words[-1] == "the threshold 15 is plainly too high: try a lower one"
    fired = np.zeros((10, 4, 7, 7), bool)
    assert "15 of layer1 is plainly too high" in diagnosis.of_outputs(SPEC, 0, fired)["words"][-1]
    words = diagnosis.of_reward(SPEC, dict(layer2=np.full(3, 0.5)), np.full(10, -1))["words"]
    assert "too little reaches the decision layer" in words[-1]


def test_a_threshold_that_is_too_low_is_named():
    """In the branch whose neurons nearly all fire."""
    branches = stage(LAYER, dataclasses.replace(LAYER, threshold=0.01), pool=4)
    spec = dataclasses.replace(SPEC, stages=(branches, SPEC.stages[1]))
    fired = np.arange(10 * 8 * 49).reshape(10, 8, 7, 7) % 3 == 0
    fired[:, 4:] = True
    found = diagnosis.of_outputs(spec, 0, fired)
    assert found["words"][-1] == "the threshold 0.01 of layer1_2 is plainly too low: nearly every neuron fires"
    assert sum("plainly" in word for word in found["words"]) == 1
    assert found["firing"] == dict(layer1_1=pytest.approx(1 / 3, abs=0.01), layer1_2=1.0)
    early = diagnosis.of_outputs(spec, 0, fired, dict(layer1_2=0.15))["words"][-1]
    assert early.startswith("layer1_2 has learned too little yet, or its threshold 0.01 is too low"), "the weights tell"


def test_figures_of_stdp_by_hand():
    won = np.array([[0, 1], [0, -1], [0, 3], [-1, -1]])
    weights = np.array([0.0, 1.0, 0.5, 0.5]).reshape(4, 1, 1, 1)
    found = diagnosis.of_stdp(LAYER, weights, won)
    assert found["wins"] == [3, 1, 0, 1]
    assert (found["silent"], found["never_won"], found["won_too_often"]) == (0.25, 1, 0)
    assert found["convergence"] == pytest.approx(0.125)
    assert "1 of 4 features never won (2)" in found["words"]
    greedy = np.zeros((100, 1), int)
    greedy[:3, 0] = 1, 2, 3
    layer = dataclasses.replace(LAYER, features=40)
    found = diagnosis.of_stdp(layer, weights, greedy)
    assert found["won_too_often"] == 1
    assert "most features never win" in found["words"][-1]


def test_figures_of_reward_by_hand():
    spec = Network("one", (1, 9, 9), 3, (stage(Conv(3, kernel=3, rstdp=RSTDP(bounds=(0.2, 0.8)))),))
    weights = dict(layer1=np.array([0.2, 0.8, 0.5, 0.2]))
    found = diagnosis.of_reward(spec, weights, np.array([0, 0, -1, 2]))
    assert (found["silent"], found["decided"], found["never_decided"]) == (0.25, [2, 0, 1], 1)
    assert found["convergence"]["layer1"] == pytest.approx(0.0625)
    assert "1 of 3 classes were never decided for (1)" in found["words"]
