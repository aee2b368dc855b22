"""STDP and pooled outputs by sums of integers: exactly those of the kernels, where floats hold all sums exactly."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from snnjax import RSTDP, STDP, WTA, Conv, Network, Settings, TargetTime, Trainer, kernels, stage
from snnjax.core.errors import InputError, InputTypeError
from snnjax.data import digits
from snnjax.kernels.native import Pooling, blocks

T = 15
SHAPES = {
    "many inputs": dict(inputs=(150, 7, 7), features=70, kernel=(3, 3), padding=1),
    "few channels": dict(inputs=(5, 9, 8), features=65, kernel=(3, 2), padding=(1, 0), stride=(2, 3)),
    "one feature": dict(inputs=(33, 4, 4), features=1, kernel=(2, 2)),
    "one position": dict(inputs=(40, 3, 3), features=130, kernel=(3, 3)),
}
RULES = {
    "several winners": dict(threshold=0.1, k=5, radius=1),
    "all at once": dict(threshold=0.0, k=3, radius=0),
    "late": dict(threshold=0.45, k=2, radius=2),
    "without input": dict(threshold=-0.5, k=4, radius=1),
}


def exact_weights(shape: tuple[int, ...], least: float, most: float, rng: np.random.Generator) -> np.ndarray:
    """Multiples of 2^-10, few of them, so that neurons tie."""
    return (rng.integers(int(least * 64), int(most * 64) + 1, shape) / 64).astype(np.float32)


def made(name: str, least: float, most: float, images: int = 12):
    """Images from empty to full, weights (F, C, kh, kw), and where the layer lies."""
    rng, case = np.random.default_rng(8), dict(SHAPES[name])
    inputs, features, kernel = (case.pop(key) for key in ("inputs", "features", "kernel"))
    share = np.linspace(0, 1, images)[:, None, None, None]
    size = (images, *inputs)
    latencies = np.where(rng.random(size) < share, rng.integers(0, T, size), T).astype(np.uint8)
    return latencies, exact_weights((features, inputs[0], *kernel), least, most, rng), case


def as_taps(weights: np.ndarray) -> jnp.ndarray:
    return jnp.asarray(weights.transpose(2, 3, 0, 1))


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.25, 0.75)])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", SHAPES)
def test_it_learns_as_the_kernels(name, rule, bounds):
    """Image by image; weights outside the bounds are drawn in by the first update."""
    latencies, weights, case = made(name, 0, 1)
    padding, stride = case.get("padding", 0), case.get("stride", 1)
    settings = dict(RULES[rule])
    settings["threshold"] *= weights[0].size / 2
    rates = np.tile(np.float32([[1 / 64, -1 / 128], [1 / 32, -1 / 64]]), (6, 1))
    span = np.array([1, 11], np.int32)
    common = dict(time_steps=T, bounds=bounds, stabiliser=False)
    found = blocks.learn_by_stdp(as_taps(weights), latencies, span, rates, **settings, **common, **case)
    assert (np.asarray(found.feature[0]) == -1).all()
    assert (np.asarray(found.feature[11]) == -1).all()
    for at in range(1, 11):
        seen = kernels.pad(jnp.asarray(latencies[at]), padding, time_steps=T)
        won = kernels.early_winners(seen, jnp.asarray(weights), time_steps=T, stride=stride, **settings)
        np.testing.assert_array_equal(found.feature[at], won.feature)
        weights = np.asarray(kernels.stdp(jnp.asarray(weights), seen, won, rates[at], stride=stride, **common))
    np.testing.assert_array_equal(found.weights, as_taps(weights))
    assert (np.asarray(found.feature) >= 0).any()


@pytest.mark.parametrize("wrong", [False, True])
def test_a_deciding_layer_draws_its_weights_in(wrong):
    """With the first image that it learns from, which decides before."""
    latencies, weights, case = made("many inputs", 0, 1)
    bounds, rates = (0.25, 0.75), np.float32([[1 / 64, -1 / 64], [-1 / 64, 1 / 128]])
    layer = blocks.Layer(as_taps(weights), rates, bounds, False, **case)
    labels = np.where(np.arange(12) < 4, -1, 0).astype(np.int32)
    found = blocks.learn_by_reward(layer, latencies, labels, np.array([0, 12], np.int32), classes=5, time_steps=T)
    for at, latency in enumerate(latencies):
        seen = kernels.pad(jnp.asarray(latency), case["padding"], time_steps=T)
        spikes = kernels.fire_at_last_step(kernels.final_potentials(seen < T, jnp.asarray(weights)), time_steps=T)
        won = kernels.k_winners(kernels.strongest_feature(spikes, time_steps=T), k=1, radius=0, time_steps=T)
        feature = int(won.feature[0])
        assert found.vote[at] == (feature // 14 if feature >= 0 else -1)
        if feature < 0 or labels[at] < 0:
            continue
        rate, rule = rates[int(found.vote[at] != labels[at])], dict(bounds=bounds, stabiliser=False, time_steps=T)
        weights = np.asarray(kernels.stdp(jnp.asarray(weights), seen, won, rate, **rule))
    np.testing.assert_array_equal(found.weights, as_taps(weights))
    assert weights.min() >= 0.25
    assert weights.max() <= 0.75


@pytest.mark.parametrize("pool", [Pooling(), Pooling(2), Pooling((3, 2), (2, 1), 1)])
@pytest.mark.parametrize("share", [-0.1, 0.0, 0.2, 0.4])
@pytest.mark.parametrize("name", ["many inputs", "few channels"])
def test_who_fires_is_that_of_the_kernels(name, share, pool):
    """Also where potentials are exactly at the threshold: these stay silent."""
    latencies, weights, case = made(name, 0, 1)
    padding, stride = case.get("padding", 0), case.get("stride", 1)
    threshold = np.floor(share * weights[0].size)
    place = dict(threshold=float(threshold), time_steps=T, padding=padding, stride=stride)
    found = blocks.who_fires(latencies, as_taps(weights), **place, pool=pool)
    for image, latency in zip(found, latencies, strict=True):
        seen = kernels.pad(jnp.asarray(latency), padding, time_steps=T)
        potential = kernels.final_potentials(seen < T, jnp.asarray(weights), stride=stride)
        fired = jnp.where(potential > threshold, T - 1, T).astype(jnp.uint8)
        expected = kernels.pool(fired, pool.window, stride=pool.stride, padding=pool.padding, time_steps=T)
        np.testing.assert_array_equal(image, expected)


def test_negative_weights_that_fire_are_no_longer_looked_at():
    """A neuron that has crossed its threshold has fired, whatever comes later."""
    latency = np.full((1, 3, 1, 1), T, np.uint8)
    latency[0, :, 0, 0] = 0, 1, 2
    weights = np.float32([[1.0, -2.0, 0.5], [0.25, 0.25, 0.25]])[:, :, None, None]
    rates, settings = np.float32([[0.5, -0.5]]), dict(threshold=0.5, radius=0, time_steps=T, stabiliser=False)
    found = blocks.learn_by_stdp(
        as_taps(weights), latency, np.array([0, 1], np.int32), rates, k=2, bounds=(-2.0, 2.0), **settings
    )
    np.testing.assert_array_equal(found.feature, [[0, -1]])
    np.testing.assert_array_equal(np.asarray(found.weights)[0, 0], [[1.5, -2.0, 0.0], [0.25, 0.25, 0.25]])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(rates=np.ones((3, 2), np.float32)), InputError, r"`rates` must have shape \(12, 2\), got \(3, 2\)"),
        (dict(rates=np.ones((12, 2), np.float64)), InputTypeError, "`rates` must be float32 for native kernels"),
        (dict(span=np.zeros(1, np.int32)), InputError, r"`span` must have shape \(2,\), got \(1,\)"),
        (dict(span=np.zeros(2, np.float32)), InputTypeError, "`span` must be int32 for native kernels, got float32"),
        (dict(radius=-3), InputError, "`radius`"),
        (dict(threshold=np.ones(65)), InputError, r"`threshold` must be one number .* got shape \(65,\)"),
        (dict(bounds=(0.0, np.inf)), InputError, r"`bounds` must be finite for native kernels, got \(0.0, inf\)"),
        (dict(bounds=(-3e38, 3e38)), InputError, "`bounds` must be finite"),
        (dict(k=0), InputError, "`k` must be at least 1, got 0"),
        (dict(bounds=(1.0, 0.0)), InputError, "`bounds`"),
        (dict(time_steps=256), InputError, "`time_steps` must be at most 255"),
    ],
)
def test_bad_input(change, error, message):
    latencies, weights, case = made("few channels", 0, 1)
    span, rates = np.array([0, 12], np.int32), np.ones((12, 2), np.float32)
    given = dict(span=span, rates=rates, threshold=1.0, k=1, radius=0, time_steps=T) | case | change
    with pytest.raises(error, match=message):
        blocks.learn_by_stdp(as_taps(weights), latencies, given.pop("span"), given.pop("rates"), **given)


def test_one_time_step():
    latencies, weights, case = made("many inputs", 0, 1)
    rates, span, rule = np.ones((12, 2), np.float32), np.array([0, 12], np.int32), dict(k=2, radius=0, time_steps=1)
    found = blocks.learn_by_stdp(
        as_taps(weights), np.minimum(latencies, 1), span, rates, threshold=10.0, **rule, **case
    )
    seen = kernels.pad(jnp.asarray(np.minimum(latencies[11], 1)), 1, time_steps=1)
    won = kernels.early_winners(seen, jnp.asarray(found.weights).transpose(2, 3, 0, 1), threshold=10.0, **rule)
    assert (np.asarray(found.feature[11]) >= 0).sum() == won.valid.sum() == 2


def test_weights_that_are_no_numbers_fire_nowhere():
    """And touch no memory but their own."""
    latencies = np.zeros((3, 4, 2, 2), np.uint8)
    weights, place = jnp.full((2, 2, 64, 4), jnp.nan), dict(time_steps=T)
    assert not np.nan_to_num(blocks.strongest_of_classes(latencies, weights, classes=64, **place)).any()
    assert (np.asarray(blocks.who_fires(latencies, weights, threshold=1.0, **place)) == T).all()
    rates, rule = np.ones((3, 2), np.float32), dict(threshold=1.0, k=2, radius=0)
    assert (
        blocks.learn_by_stdp(weights, latencies, np.array([0, 3], np.int32), rates, **rule, **place).feature == -1
    ).all()


LARGE = dict(kernel=3, padding=1, competition=WTA(4, 1))
LAYERS = {
    "one threshold": Conv(400, threshold=6.0, learners=STDP(), **LARGE),
    "a threshold of each feature": Conv(400, threshold=np.linspace(4, 6, 400), learners=STDP(), **LARGE),
    "target times": Conv(400, threshold=6.0, learners=TargetTime(), kernel=3, padding=1),
    "no upper bound": Conv(400, threshold=6.0, learners=STDP(bounds=(0.0, np.inf), stabiliser=False), **LARGE),
    "inputs that pass one spike": Conv(400, threshold=2.0, learners=STDP(pointwise=True), **LARGE),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_large_layers_of_all_kinds_learn(kind):
    """As with XLA's kernels: sums of these few inputs are nearly those of floats, so that most weights agree."""
    decision = Conv(20, kernel=3, padding=1, learners=RSTDP())
    network = Network("wide", (6, 28, 28), 10, stages=(stage(LAYERS[kind], pool=4), stage(decision)))
    found = []
    for native in (True, False):
        trainer = Trainer(network, digits().first(30, 20), Settings((1, 1), 10, patience=0, native=native))
        found.append(trainer.run(trainer.initial_state()))
    ours, theirs = (each.weights["layer1"] for each in found)
    assert np.mean(abs(ours - theirs) < 1e-4) > 0.9
    assert np.mean(ours != trainer.initial_state().weights["layer1"]) > 0.01


@pytest.mark.parametrize("learns", [True, False])
def test_a_stage_beside_one_that_learns_by_reward(learns):
    """Branches of which one learns alone, one by reward: both kernels decide alike."""
    place = dict(kernel=3, padding=1, threshold=6.0, competition=WTA(4, 1))
    both = Conv(400, learners=STDP(), **place), Conv(64 if learns else 30, learners=RSTDP(), **place)
    decision = Conv(20, kernel=3, padding=1, learners=RSTDP())
    network = Network("branches", (6, 28, 28), 10, stages=(stage(*both, pool=4), stage(decision)))
    data, settings = digits().first(30, 20), Settings((1, 1), 10, patience=0)
    plain, native = (Trainer(network, data, dataclasses.replace(settings, native=each)) for each in (False, True))
    state = native.run(native.initial_state())
    decisions, _ = native.predict(state, data.test_images)
    assert np.mean(decisions == plain.predict(state, data.test_images)[0]) > 0.9
