"""R-STDP where the earliest spike decides, with dropout of features, a floor of the rates and rates of the epoch."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from reward_judge import ALL, CLASSES, RULE, T, assert_judged, images_of, judged, learn, network_of

from snnjax import ImageSpec, Network, Settings, Trainer, stage
from snnjax.core.errors import InputError
from snnjax.kernels import Spikes
from snnjax.layers.conv import Conv
from snnjax.layers.spiking import Layer
from snnjax.learners import RSTDP, DecisionCounts, winner_of_class
from snnjax.networks import Earliest
from snnjax.training.advice import describe

FIRST = Conv(9, kernel=3, padding=1, threshold=10.0, learners=RULE)
HIGH = dataclasses.replace(FIRST, threshold=12.0)
SMALL = dataclasses.replace(FIRST, kernel=2, threshold=5.5)
PER_CLASS = dataclasses.replace(FIRST, features=CLASSES, kernel=6, padding=0, threshold=26.0)


def with_rule(conv: Conv, **settings) -> Conv:
    return dataclasses.replace(conv, learners=dataclasses.replace(conv.last_learner, **settings))


@pytest.mark.parametrize(
    ("convs", "fallback", "way"),
    [
        pytest.param((FIRST,), False, "image by image", id="image by image"),
        pytest.param((PER_CLASS,), True, "image by image", id="a feature a class, fallback"),
        pytest.param((HIGH, SMALL), True, "image by image", id="two layers, fallback"),
        pytest.param((with_rule(FIRST, **ALL),), True, "image by image, compiled", id="all settings"),
    ],
)
def test_the_earliest_spike_decides_and_its_neuron_learns(convs, fallback, way, compiler):
    """Where nobody fires, the strongest of all learns, if there is a fallback."""
    network = network_of(stage(*convs), decision=Earliest(fallback))
    inputs, labels = (each[:64] for each in images_of(network))  # so that fractions of an epoch are exact
    kept = [] if convs[0].last_learner.dropout is not None else None
    result = learn(network, inputs, labels, 8, 3, way=way, kept=kept)
    assert_judged(result, judged(network, inputs, labels, 8, 3, kept=kept))
    made = np.array(result.decisions)
    assert min(np.sum(made == each) for each in range(CLASSES)) >= 3, "the case tells nothing"
    silent = np.sum(made < 0)
    assert (silent == 3 * 4) == fallback, f"{silent} silent decisions, 4 images have no spikes"


def test_features_are_dropped_anew_each_epoch_by_a_key_of_the_layer():
    rule = RSTDP(dropout=0.25)
    layer = Layer(Conv(4000, 1, learners=rule), np.zeros((4000, 1, 1, 1)), T, classes=2)
    state, other = (rule.init(layer, np.array([0, seed], np.uint32), 0) for seed in (0, 1))
    following = rule.end_epoch(state)
    masks = [np.asarray(each["kept"]) for each in (state, following, rule.end_epoch(following), other)]
    for mask in masks:
        assert mask.mean() == pytest.approx(0.75, abs=0.03)
    agree = [np.mean(one == two) for index, one in enumerate(masks) for two in masks[:index]]
    np.testing.assert_allclose(agree, 0.75**2 + 0.25**2, atol=0.04)
    adapted = rule.end_interval(state, DecisionCounts(*jnp.int32([1, 1, 2, 0, 0])))
    np.testing.assert_array_equal(adapted["kept"], masks[0])


def network_with(**settings) -> Network:
    plain = tiny.plain(ImageSpec())
    last = plain.stages[1].branches[0]
    return dataclasses.replace(plain, stages=(plain.stages[0], stage(with_rule(last, **settings))))


def test_only_learning_drops_features():
    """With rates of 0, tests decide as the same network without dropout, and learning does not."""
    records = []
    for dropout in (0.0, 0.75):
        still = network_with(reward=(0, 0), punish=(0, 0), bounds=(0, 2), dropout=dropout)
        trainer = Trainer(still, tiny.images(), Settings((1, 2), adapt_every=20, patience=0))
        records.append([found for found in trainer.run(trainer.initial_state()).epochs if "test" in found])
    (plain, _), (first, second) = records
    assert plain["test"] == first["test"] == second["test"]
    assert first["train"] != plain["train"] or second["train"] != plain["train"]


def test_the_earliest_neuron_wins_within_its_step_too():
    """By its time, not by its potential; another class's neurons do not count."""
    layer = Layer(Conv(4, 1), np.zeros((4, 1, 1, 1)), T, classes=2, timed=True)
    program = jax.jit(lambda *given: winner_of_class(*given))

    def winner(times, potentials, vote=0, latency=(3, 3, 1, 1)):
        time, potential = (np.float32(x).reshape(4, 1, 1) for x in (times, potentials))
        won = program(layer, Spikes(np.uint8(latency).reshape(4, 1, 1), potential, time), np.int32(vote))
        return int(won.feature[0]), int(won.latency[0])

    assert winner([0.25, 0.23, 0.1, 0.1], [9, 1, 9, 9]) == (1, 3)
    assert winner([0.25, 0.25, 0.1, 0.1], [1, 9, 9, 9]) == (1, 3)
    assert winner([0.25, 0.25, 0.1, 0.1], [9, 9, 9, 9]) == (0, 3)
    assert winner([0.25, 0.25, 0.1, 0.1], [9, 9, 1, 2], vote=1) == (3, 1)
    assert winner([1, 1, 0.1, 0.1], [2, 3, 9, 9], latency=(T, T, 1, 1)) == (1, T), "a fallback"
    assert winner([1, 1, 1, 1], [0, 0, 0, 0], latency=(T,) * 4) == (-1, T)
    assert winner([0.2, 1, 1, 1], [9, 3, 9, 9], vote=-1, latency=(3, T, T, T)) == (-1, T)


def test_figures_by_hand():
    conv = Conv(4, 3, threshold=15, learners=RSTDP())
    layer = Layer(conv, np.full((4, 1, 3, 3), 0.5), T, classes=2, timed=True)

    def diagnosed(feature, step):
        found = conv.learners.diagnose(layer, dict(feature=np.int32(feature)[:, None], step=np.int32(step)[:, None]))
        advice = re.findall("too high|too low", " ".join(describe("layer1", layer, conv.learners, found)))
        names = "wins", "never_won", "silent_neurons", "spike_time", "at_first_step"
        return [found[name] for name in names] + advice

    assert diagnosed([0, 0, 2, -1, -1], [4, 6, 0, 14, T]) == [[2, 0, 1, 0], 2, 0.2, 0.4, 0.25]
    assert diagnosed([-1, -1], [T, T]) == [[0] * 4, 4, 1.0, 1.0, 0.0, "too high"]
    assert diagnosed([0, 1, 2], [0, 0, 0]) == [[1, 1, 1, 0], 1, 0.0, 0.0, 1.0, "too low"]


def test_settings_out_of_range_and_epochs_without_images():
    for name, value in (("dropout", 1.0), ("dropout", -0.1), ("floor", 1.5)):
        with pytest.raises(InputError, match=f"`{name}` must .* got {value}"):
            RSTDP(**{name: value})
    rule = RSTDP(by_epoch=True)
    state = rule.init(None, None, 0)
    np.testing.assert_array_equal(rule.end_epoch(state)["rates"], state["rates"])
