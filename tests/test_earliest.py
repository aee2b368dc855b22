"""R-STDP where the earliest spike decides, with dropout of features, a floor of the rates and rates of the epoch."""

import copy
import dataclasses
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reward_judge import (
    ALL,
    CLASSES,
    EARLIER,
    ONE,
    RULE,
    T,
    assert_judged,
    images_of,
    judged,
    learn,
    network_of,
    task_of,
)

from snnjax import Earliest, Network, Settings, Trainer, component, stage
from snnjax.core.errors import InputError
from snnjax.data import Dataset, digits
from snnjax.encoding import GREY
from snnjax.kernels import Spikes
from snnjax.layers.conv import Conv
from snnjax.layers.layer_kernels import NATIVE, XLA
from snnjax.layers.spiking import Layer
from snnjax.learners import RSTDP, Tally, winner_of_class
from snnjax.steps import registry
from snnjax.steps.registry import Case
from snnjax.training.advice import describe
from snnjax.training.state import TrainState

FIRST = Conv(9, kernel=3, padding=1, threshold=10.0, learners=RULE)
HIGH = dataclasses.replace(FIRST, threshold=12.0)
SMALL = dataclasses.replace(FIRST, kernel=2, threshold=5.5)
PER_CLASS = dataclasses.replace(FIRST, features=CLASSES, kernel=6, padding=0, threshold=26.0)


def with_rule(conv: Conv, **settings) -> Conv:
    return dataclasses.replace(conv, learners=dataclasses.replace(conv.last_learner, **settings))


@pytest.mark.parametrize(
    ("convs", "fallback", "form"),
    [
        pytest.param((FIRST,), False, XLA, id="plain"),
        pytest.param((PER_CLASS,), True, XLA, id="a feature a class, fallback"),
        pytest.param((HIGH, SMALL), True, XLA, id="two layers, fallback"),
        pytest.param((with_rule(FIRST, **ALL),), True, NATIVE, id="all settings, compiled kernels"),
    ],
)
def test_the_earliest_spike_decides_and_its_neuron_learns(convs, fallback, form, request):
    """Where nobody fires, the strongest of all learns, if there is a fallback."""
    if form is NATIVE:
        request.getfixturevalue("compiler")
    network = network_of(stage(*convs), decision=Earliest(fallback))
    inputs, labels = (each[:64] for each in images_of(network))  # so that fractions of an epoch are exact
    kept = [] if convs[0].last_learner.dropout is not None else None
    result = learn(network, inputs, labels, 8, 3, form=form, kept=kept)
    assert_judged(result, judged(network, inputs, labels, 8, 3, kept=kept))
    made = np.array(result.decisions)
    assert min(np.sum(made == each) for each in range(CLASSES)) >= 3, "the case tells nothing"
    silent = np.sum(made < 0)
    assert (silent == 3 * 4) == fallback, f"{silent} silent decisions, 4 images have no spikes"


def test_rates_with_a_floor_and_of_the_epoch():
    base = np.float32([RULE.reward, RULE.punish])
    layer = Layer(FIRST, np.zeros((9, 4, 3, 3)), T, XLA, classes=CLASSES)
    tally = Tally(*jnp.int32([3, 5, 10, 1, 0]))  # correct, wrong, seen

    def rates(floor, wrong, right):
        return base * (floor + (1 - floor) * np.float32([[wrong], [right]]))

    for floor in (None, 0.25):
        rule = dataclasses.replace(RULE, floor=floor)
        state = rule.init(layer, None, 0)
        expected = base if floor is None else rates(floor, 2 / 3, 1 / 3)
        np.testing.assert_allclose(state["rates"], expected, rtol=1e-6)
        np.testing.assert_allclose(rule.end_batch(state, tally)["rates"], rates(floor or 0, 0.5, 0.3), rtol=1e-6)
        late = dataclasses.replace(rule, by_epoch=True)
        state = late.init(layer, None, 0)
        np.testing.assert_array_equal(late.end_epoch(state)["rates"], state["rates"], "no image was seen")
        after = late.end_batch(late.end_batch(state, tally), Tally(*jnp.int32([1, 5, 10, 2, 0])))
        np.testing.assert_array_equal(after["rates"], state["rates"], "the epoch has not ended")
        ended = late.end_epoch(after)
        np.testing.assert_allclose(ended["rates"], rates(floor or 0, 0.5, 0.2), rtol=1e-6)
        assert not np.any(ended["counts"])


def test_features_are_dropped_anew_each_epoch_by_a_key_of_the_layer():
    rule = RSTDP(dropout=0.25)
    layer = Layer(Conv(4000, 1, learners=rule), np.zeros((4000, 1, 1, 1)), T, XLA, classes=2)
    state, other = (rule.init(layer, np.array([0, seed], np.uint32), 0) for seed in (0, 1))
    following = rule.end_epoch(state)
    masks = [np.asarray(each["kept"]) for each in (state, following, rule.end_epoch(following), other)]
    for mask in masks:
        assert mask.mean() == pytest.approx(0.75, abs=0.03)
    agree = [np.mean(one == two) for at, one in enumerate(masks) for two in masks[:at]]
    np.testing.assert_allclose(agree, 0.75**2 + 0.25**2, atol=0.04)
    adapted = rule.end_batch(state, Tally(*jnp.int32([1, 1, 2, 0, 0])))
    np.testing.assert_array_equal(adapted["kept"], masks[0])


@pytest.mark.parametrize(
    ("form", "threshold"), [(XLA, 5.0), (XLA, None), (NATIVE, 5.0)], ids=["fast", "no threshold", "native"]
)
def test_dropped_features_of_an_earlier_layer_cannot_win(form, threshold, request):
    """By a higher threshold or, without one, before the competition: the winners are the others."""
    if form is NATIVE:
        request.getfixturevalue("compiler")
    conv = with_rule(dataclasses.replace(EARLIER, threshold=threshold), dropout=0.5)
    weights = np.float32(np.random.default_rng(0).integers(20, 60, (5, 2, 3, 3)) / 64)
    layer = Layer(conv, jnp.asarray(weights), T, XLA, conv.monotone)
    rule, fewer, dropped = conv.last_learner, 0, 0
    for seed in range(6):
        state = rule.init(layer, np.array([0, seed], np.uint32), 0)
        latency = np.random.default_rng(seed).integers(0, 2 * T, (2, 6, 6)).clip(max=T).astype(np.uint8)
        found = rule.forward(layer.packed(form), state, latency, None).winners
        silenced = layer.with_weights(layer.weights * state["kept"][:, None, None, None])
        jax.tree.map(np.testing.assert_array_equal, found.feature, silenced.winners(latency).feature)
        assert not np.isin(np.flatnonzero(~state["kept"]), found.feature).any()
        fewer += int(np.sum(found.feature < 0))
        dropped += int(np.sum(~state["kept"]))
    assert dropped > 6
    assert fewer > 0, "three win where only two are kept"


def small(**settings) -> Network:
    conv = Conv(4, 6, stride=2, threshold=25, learners=RSTDP(**dict(dropout=0.5, floor=0.25, by_epoch=True) | settings))
    return Network("one", (6, 28, 28), 2, (stage(conv),), decision=Earliest(), encoder=GREY)


def two_digits(images: int = 30) -> Dataset:
    data = digits()
    few = np.flatnonzero(data.train_labels < 2)[:images]
    images, labels = data.train_images[few], data.train_labels[few]
    return Dataset("two", images, labels, images, labels, classes=2)


SAME = Settings((2,), batch_size=10, patience=0, seed=3)
"""As for all trainings here, so that they share programs."""


def test_a_run_goes_on_where_it_stopped():
    """The features of the next epoch, and the key of those after it, are in the state; so are decisions counted."""
    trainer = Trainer(small(), two_digits(), dataclasses.replace(SAME, epochs=(4,), batch_size=7))
    states = []
    whole = trainer.run(trainer.initial_state(), save=lambda state: states.append(copy.deepcopy(state.flatten())))
    at_two = TrainState.unflatten(*states[1])
    assert at_two.done == 2
    resumed = trainer.run(at_two)
    assert resumed.epochs == whole.epochs
    np.testing.assert_array_equal(resumed.weights["layer1"], whole.weights["layer1"])
    kept = [tuple(arrays["learning/layer1.kept"]) for arrays, meta in states if meta["done"]]
    assert len(set(kept)) > 1
    found = whole.diagnoses["R-STDP"]
    assert 0 < found["spike_time"]["layer1"] < 1
    assert sum(found["wins"]["layer1"]) == 30 - round(30 * found["silent"])


def test_only_learning_drops_features():
    """With rates of 0, tests decide as the same network without dropout, and learning does not."""
    records = []
    for dropout in (0.0, 0.75):
        still = small(reward=(0, 0), punish=(0, 0), bounds=(0, 2), dropout=dropout)
        trainer = Trainer(still, two_digits(), SAME)
        records.append(trainer.run(trainer.initial_state()).epochs)
    (plain, _), (first, second) = records
    assert plain["test"] == plain["train"] == first["test"] == second["test"]
    assert first["train"] != plain["train"] or second["train"] != plain["train"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(dropout=1), "`dropout` must be None, or at least 0 and below 1, got 1.0"),
        (dict(dropout=-0.1), "`dropout` must be"),
        (dict(floor=1.5), r"`floor` must be None, or lie in 0..1, got 1.5"),
        (dict(floor=float("nan")), "`floor` must be"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        RSTDP(**settings)


def test_dropout_and_floor_are_hyperparameters():
    network = small()
    assert network.vary("dropout", 0.25).stages[0].branches[0].last_learner.dropout == 0.25
    assert network.vary("floor", 0).structure == network.structure
    assert {"layer1.learners.dropout", "layer1.learners.floor"} <= network.hyperparameters().keys()


def on_accelerator(layer, spikes, vote):
    """By the kernels for other platforms than a CPU."""
    with mock.patch.object(jax.lax, "platform_dependent", lambda *given, default, **_: default(*given)):
        return winner_of_class(layer, spikes, vote)


@pytest.mark.parametrize("find", [winner_of_class, on_accelerator])
def test_the_earliest_neuron_wins_within_its_step_too(find):
    """By its time, not by its potential; another class's neurons do not count."""
    layer = Layer(Conv(4, 1), np.zeros((4, 1, 1, 1)), T, XLA, classes=2, timed=True)
    program = jax.jit(find)

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
    layer = Layer(conv, np.full((4, 1, 3, 3), 0.5), T, XLA, classes=2, timed=True)

    def diagnosed(feature, step):
        info = dict(feature=np.array(feature)[:, None], step=np.array(step)[:, None])
        found = conv.learners.diagnose(layer, info)
        return found, " ".join(describe("layer1", layer, conv.learners, found))

    found, words = diagnosed([0, 0, 2, -1, -1], [4, 6, 5, 9, T])
    assert (found["wins"], found["never_won"]) == ([2, 0, 1, 0], 2)
    assert (found["silent_neurons"], found["spike_time"]) == (0.2, 0.4)
    assert "2 of 4 features of layer1 never won (1, 3)" in words
    assert "no neuron of layer1 fired at 20 % of the images" in words
    assert "fired at step 6.0 of 15" in words
    assert "too" not in words
    silent, words = diagnosed([-1, -1], [T, T])
    assert (silent["silent_neurons"], silent["spike_time"]) == (1.0, 1.0)
    assert words.endswith("the threshold 15 of layer1 is too high: try a lower one")
    words = diagnosed([0, 1, 2], [0, 0, 0])[1]
    assert words.endswith("the threshold 15 of layer1 is too low: 100 % of the first spikes come at the first step")


@component
class Another(RSTDP):
    """May learn otherwise."""


def test_blocks_are_for_untimed_decisions_of_this_rule_alone():
    """The program of others is that of images one by one."""
    (conv,) = ONE.branches
    other = dataclasses.replace(conv, learners=Another())
    cases = (
        (network_of(ONE), True),
        (network_of(stage(FIRST), decision=Earliest()), False),
        (network_of(stage(other)), False),
        (network_of(stage(conv, other)), False),
    )
    for network, expected in cases:
        case = Case(task_of(network), network.model, native=False, platform="cpu")
        assert (registry.fast_step(case) is not None) == expected
