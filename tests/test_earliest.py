"""R-STDP where the earliest spike decides, with dropout of features, a floor of the rates and rates of the epoch."""

import copy
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reward_judge import (
    AT_ONCE,
    CLASSES,
    EARLIER,
    ONE,
    QUICK,
    RULE,
    THREE,
    T,
    assert_judged,
    images_of,
    judged,
    learn,
    network_of,
    task_of,
)

from snnjax import Earliest, Network, Settings, Sweep, Trainer, component, stage
from snnjax.core.errors import InputError
from snnjax.data import Dataset, digits
from snnjax.encoding import GREY
from snnjax.kernels import Spikes
from snnjax.layers.conv import Conv
from snnjax.layers.layer_kernels import NATIVE, XLA
from snnjax.layers.spiking import Layer
from snnjax.learners import RSTDP, Tally, winner_of_class
from snnjax.networks import SpikingNetwork
from snnjax.steps import registry
from snnjax.steps.registry import Case
from snnjax.training.advice import describe
from snnjax.training.state import TrainState

FIRST = Conv(9, kernel=3, padding=1, threshold=6.5, learners=RULE)
PER_CLASS = dataclasses.replace(FIRST, features=CLASSES, kernel=6, padding=0, threshold=26.0)
SETTINGS = {
    "plain": {},
    "dropout": dict(dropout=0.5),
    "floor": dict(floor=0.25),
    "epoch": dict(by_epoch=True),
    "all": dict(dropout=0.25, floor=0.25, by_epoch=True),
}
WHOLE = 64  # images, a power of two: fractions of an epoch are exact


def with_rule(conv: Conv, **settings) -> Conv:
    return dataclasses.replace(conv, learners=dataclasses.replace(conv.last_learner, **settings))


def both(network: SpikingNetwork, form=XLA, block=None, batch_size=8, epochs=3):
    """What is learned, and what the judge learns with the same features dropped."""
    inputs, labels = (each[:WHOLE] for each in images_of(network))
    kept = [] if any(conv.last_learner.dropout is not None for _, _, conv in network.spec.layers()) else None
    result = learn(network, inputs, labels, batch_size, epochs, block, form, kept)
    return result, judged(network, inputs, labels, batch_size, epochs, kept=kept)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_earliest_spike_decides_and_its_neuron_learns(name):
    result, expected = both(network_of(stage(with_rule(FIRST, **SETTINGS[name])), decision=Earliest()))
    assert_judged(result, expected)
    made = np.array(result.decisions)
    assert min(np.sum(made < 0), *(np.sum(made == each) for each in range(CLASSES))) >= 3, "the case tells nothing"


@pytest.mark.parametrize("fallback", [False, True])
def test_it_does_so_in_compiled_kernels(fallback, compiler):
    deciding = stage(with_rule(dataclasses.replace(FIRST, threshold=10.0), **SETTINGS["all"]))
    assert_judged(*both(network_of(deciding, decision=Earliest(fallback)), NATIVE))


@pytest.mark.parametrize("fallback", [False, True])
def test_one_feature_a_class_and_several_layers(fallback):
    """Where nobody fires, the strongest of all learns, if there is a fallback."""
    high = dataclasses.replace(FIRST, threshold=12.0)
    for deciding in (stage(PER_CLASS), stage(high, dataclasses.replace(high, kernel=2, threshold=5.5))):
        result, expected = both(network_of(deciding, decision=Earliest(fallback)))
        assert_judged(result, expected)
    silent = np.sum(np.array(result.decisions) < 0)
    assert (silent == 3 * 4) == fallback, f"{silent} silent decisions, 4 images have no spikes"


@pytest.mark.parametrize(
    ("name", "deciding"),
    [
        *(pytest.param(name, ONE, id=f"{name}, one branch") for name in ("dropout", "floor", "epoch", "all")),
        *(
            pytest.param(name, THREE, id=f"{name}, three branches", marks=[pytest.mark.slow] * (name != "all"))
            for name in ("dropout", "floor", "epoch", "all")
        ),
    ],
)
def test_untimed_decisions_in_blocks_too(name, deciding):
    convs = (with_rule(conv, **SETTINGS[name]) for conv in deciding.branches)
    network = network_of(stage(*convs))
    for block in (None, 16, AT_ONCE):
        kept = [] if "dropout" in SETTINGS[name] else None
        inputs, labels = (each[:WHOLE] for each in images_of(network))
        result = learn(network, inputs, labels, 8, 2, block, kept=kept)
        assert_judged(result, judged(network, inputs, labels, 8, 2, kept=kept))


def test_no_dropout_is_a_dropout_of_0():
    """To the last bit, in blocks too, as is a floor of 0 once rates have adapted."""
    for deciding, decision, blocks in (
        (ONE, {}, (None, 16, AT_ONCE)),
        (stage(FIRST), dict(decision=Earliest()), (None,)),
    ):
        network = network_of(deciding, **decision)
        none = network_of(stage(with_rule(deciding.branches[0], dropout=0.0)), **decision)
        inputs, labels = images_of(network)
        for block in blocks:
            found = learn(none, inputs, labels, 8, 2, block)
            assert_judged(found, learn(network, inputs, labels, 8, 2, block))
    tally = Tally(*jnp.int32([3, 5, 11, 1, 0]))
    none, zero = (rule.end_batch({}, tally)["rates"] for rule in (QUICK, dataclasses.replace(QUICK, floor=0.0)))
    np.testing.assert_array_equal(none, zero)


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


@pytest.mark.parametrize("form", [XLA, NATIVE], ids=["fast", "native"])
@pytest.mark.parametrize("threshold", [5.0, None])
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
    conv = Conv(4, 6, stride=2, threshold=25, learners=RSTDP(**settings))
    return Network("one", (6, 28, 28), 2, (stage(conv),), decision=Earliest(), encoder=GREY)


def two_digits(images: int = 30) -> Dataset:
    data = digits()
    few = np.flatnonzero(data.train_labels < 2)[:images]
    images, labels = data.train_images[few], data.train_labels[few]
    return Dataset("two", images, labels, images, labels, classes=2)


def test_a_run_goes_on_where_it_stopped():
    """The features of the next epoch, and the key of those after it, are in the state; so are decisions counted."""
    data, network = two_digits(), small(dropout=0.5, floor=0.25, by_epoch=True)
    trainer, states = Trainer(network, data, Settings((4,), batch_size=7, patience=0)), []
    whole = trainer.run(trainer.initial_state(), save=lambda state: states.append(copy.deepcopy(state.flatten())))
    at_two = TrainState.unflatten(*states[1])
    assert at_two.done == 2
    resumed = trainer.run(at_two)
    assert resumed.epochs == whole.epochs
    for name, array in whole.weights.items():
        np.testing.assert_array_equal(resumed.weights[name], array)
    kept = [tuple(arrays["learning/layer1.kept"]) for arrays, meta in states if meta["done"]]
    assert len(set(kept)) > 1


def test_only_learning_drops_features():
    """With rates of 0, tests decide as the same network without dropout, and learning does not."""
    data, records = two_digits(), []
    for dropout in (None, 0.75):
        still = small(reward=(0, 0), punish=(0, 0), bounds=(0, 2), dropout=dropout)
        trainer = Trainer(still, data, Settings((2,), patience=0))
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


def test_sweeps_vary_them_in_one_program():
    network = small(dropout=0.5, floor=0.2, by_epoch=True)
    assert network.vary("dropout", 0.25).stages[0].branches[0].last_learner.dropout == 0.25
    assert network.vary("floor", 0).structure == network.structure
    assert {"layer1.learners.dropout", "layer1.learners.floor"} <= network.hyperparameters().keys()
    data, settings = two_digits(), Settings((2,), batch_size=10, patience=0)
    variants = [dict(seed=3), {"seed": 3, "layer1.learners.dropout": 0.0}]
    swept = Sweep(network, data, settings, variants).run()
    for at, variant in enumerate(variants):
        alone = network.vary("dropout", variant.get("layer1.learners.dropout", 0.5))
        trainer = Trainer(alone, data, dataclasses.replace(settings, seed=3))
        assert trainer.run(trainer.initial_state()).epochs == swept.done[at]["epochs"]


def test_the_earliest_neuron_wins_within_its_step_too():
    """By its time, not by its potential; another class's neurons do not count."""
    layer = Layer(Conv(4, 1), np.zeros((4, 1, 1, 1)), T, XLA, classes=2, timed=True)

    def winner(times, potentials, vote=0, latency=(3, 3, 1, 1)):
        time, potential = (jnp.float32(x).reshape(4, 1, 1) for x in (times, potentials))
        spikes = Spikes(jnp.uint8(latency).reshape(4, 1, 1), potential, time)
        won = winner_of_class(layer, spikes, jnp.int32(vote))
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
    assert (found["wins"], found["never_won"], found["silent_neurons"], found["spike_time"]) == (
        [2, 0, 1, 0],
        2,
        0.2,
        0.4,
    )
    assert "2 of 4 features of layer1 never won (1, 3)" in words
    assert "no neuron of layer1 fired at 20 % of the images" in words
    assert "fired at step 6.0 of 15" in words
    assert "too" not in words
    found, words = diagnosed([-1, -1, 0], [T, T, 3])
    assert words.endswith("the threshold 15 of layer1 is too high: try a lower one")
    found, words = diagnosed([0, 1, 2], [0, 0, 0])
    assert words.endswith("the threshold 15 of layer1 is too low: 100 % of the first spikes come at the first step")
    found, words = diagnosed([-1, -1], [T, T])
    assert (found["silent_neurons"], found["spike_time"]) == (1.0, 1.0)
    assert "too high" in words


def test_a_training_tells_when_the_first_spikes_came():
    trainer = Trainer(small(), two_digits(), Settings((1,), patience=0))
    state = trainer.run(trainer.initial_state())
    found = state.diagnoses["R-STDP"]
    assert 0 < found["spike_time"]["layer1"] < 1
    assert sum(found["wins"]["layer1"]) == 30 - round(30 * found["silent"])


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
