"""Layer descriptions, and layers with their weights."""

import dataclasses

import jax
import jax.numpy as jnp
import judge
import numpy as np
import pytest
from flax import nnx

from snnjax import InputError, kernels
from snnjax.kernels.neurons import fire_at_last_step
from snnjax.layers.activations import Triangle
from snnjax.layers.conv import WTA, Conv
from snnjax.layers.layer import LayerKernels
from snnjax.layers.layer_kernels import PLAIN, XLA
from snnjax.layers.pool import Pool
from snnjax.layers.real import RealLayer
from snnjax.layers.spiking import Layer, at_last_step
from snnjax.learners import RSTDP, STDP, winner_of_class
from snnjax.networks import Network, SpikingNetwork, stage
from snnjax.networks.model import PlasticWeight
from snnjax.steps.reward_in_blocks import Strongest

T = 15
RNG = np.random.default_rng(0)
LATENCIES = RNG.integers(0, 20, (3, 2, 6, 7)).clip(max=T).astype(np.uint8)
SIGNED = dict(weight_mean=0.1, weight_std=0.5)
LAYERS = [
    Conv(4, kernel=3, padding=1, threshold=4, competition=WTA(3, radius=1), learners=STDP()),
    Conv(4, kernel=(2, 3), padding=(1, 0), stride=(2, 1), threshold=2.5, competition=WTA(2), learners=STDP()),
    Conv(6, kernel=3, padding=2, competition=WTA(2), learners=RSTDP()),
    Conv(4, kernel=3, padding=1, threshold=1, competition=WTA(4), learners=STDP(bounds=(-1, 1)), **SIGNED),
]


def layer_of(conv: Conv, channels: int = 2, form: LayerKernels = XLA) -> Layer:
    """A layer with weights drawn by NumPy, which compiles nothing."""
    drawn = np.random.default_rng(1).normal(
        conv.weight_mean, conv.weight_std, (conv.features, channels, *pair(conv.kernel))
    )
    return Layer(conv, jnp.float32(drawn), T, form, conv.monotone)


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def judged_spikes(layer: Layer, latency: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    padded = judge.pad(latency, pair(layer.conv.padding), T)
    weights = np.asarray(layer.weights)
    return judge.fire(judge.potentials(padded, weights, T, pair(layer.conv.stride)), layer.conv.threshold)


def test_weights_are_plastic_variables_drawn_from_the_seed():
    spec = Network("one", (6, 9, 9), 10, (stage(Conv(30, kernel=5, learners=RSTDP())),))

    def weights_of(seed):
        return SpikingNetwork(spec, seed).layer1

    assert isinstance(weights_of(0), PlasticWeight)
    assert not isinstance(weights_of(0), nnx.Param), "an optimizer of gradients must not find them"
    weights = weights_of(0)[...]
    assert (weights.shape, weights.dtype) == ((30, 6, 5, 5), jnp.float32)
    assert abs(float(weights.mean()) - 0.8) < 0.005
    assert abs(float(weights.std()) - 0.05) < 0.003
    np.testing.assert_array_equal(weights, weights_of(0)[...])
    assert np.any(weights != weights_of(1)[...])


@pytest.mark.parametrize("conv", LAYERS)
@pytest.mark.parametrize("form", [XLA, PLAIN], ids=["fast", "plain"])
def test_a_layer_fires_and_competes_as_the_judge_says(conv, form):
    layer = layer_of(conv, form=form)
    for latency in LATENCIES:
        spikes, (expected, potential) = layer.spikes(latency), judged_spikes(layer, latency)
        np.testing.assert_array_equal(spikes.latency, expected)
        np.testing.assert_array_equal(layer.responses(latency), expected)
        np.testing.assert_allclose(spikes.potential, potential, rtol=1e-5)
        assert spikes.latency.shape[1:] == conv.output_size(latency.shape[1:])
        left = judge.pointwise_inhibition(expected, potential, T)
        winners = judge.k_winners(*left, conv.competition.winners, conv.competition.radius, T)
        won = layer.winners(latency)
        assert [tuple(map(int, w)) for w in zip(won.feature, won.row, won.column, strict=True) if w[0] >= 0] == winners


@pytest.mark.parametrize("conv", [conv for conv in LAYERS if conv.monotone])
def test_who_fires_follows_from_who_fired(conv):
    layer = layer_of(conv)
    for latency in LATENCIES:
        potentials = layer.potentials(at_last_step(latency < T, T))
        np.testing.assert_array_equal(potentials, layer.potentials(latency))
        np.testing.assert_array_equal(potentials > (conv.threshold or 0), judged_spikes(layer, latency)[0] < T)


@pytest.mark.parametrize(
    ("conv", "rule"),
    [(LAYERS[0], STDP()), (LAYERS[1], STDP(bounds=(-1, 2), stabiliser=False)), (LAYERS[2], RSTDP())],
)
def test_learning_is_that_of_the_judge(conv, rule):
    layer = layer_of(conv)
    before, rates = np.asarray(layer.weights), np.float32([0.125, -0.0625])
    winners = layer.winners(LATENCIES[0])
    judged = [
        ((int(f), int(i), int(j)), int(t)) for f, i, j, t in zip(*jax.tree.leaves(winners), strict=True) if f >= 0
    ]
    padded = judge.pad(LATENCIES[0], pair(conv.padding), T)
    expected = judge.stdp(before, padded, judged, rates, T, rule.bounds, rule.stabiliser, pair(conv.stride))
    how = dict(bounds=rule.bounds, stabiliser=rule.stabiliser)
    learned = layer.learn(LATENCIES[0], winners, rates, **how).weights
    assert judged, "nobody learns"
    np.testing.assert_allclose(learned, expected, rtol=1e-5, atol=1e-7)
    if np.all((before >= rule.bounds[0]) & (before <= rule.bounds[1])):
        within = dataclasses.replace(layer, in_bounds=True).learn(LATENCIES[0], winners, rates, **how)
        np.testing.assert_array_equal(within.weights, learned, "only the winners' features are touched")


def test_only_the_winners_weights_are_computed_whatever_tuple_the_bounds_are_given_in():
    layer = dataclasses.replace(layer_of(LAYERS[0]), in_bounds=True)
    winners = layer.winners(LATENCIES[0])
    asked = []

    def learn(layer, latency, winners, rates, **rule):
        asked.append(rule)
        return layer.stored

    layer = dataclasses.replace(layer, kernels=XLA._replace(learn=learn))

    def update(layer, lower, upper):
        return layer.learn(LATENCIES[0], winners, np.float32([0.1, -0.1]), bounds=(lower, upper)).weights

    own = jax.jit(lambda layer: update(layer, *layer.conv.learners.bounds))
    for compute in (own, lambda layer: update(layer, 0.0, 1.0)):
        compute(layer)
        assert asked.pop()
    update(layer, 0.0, 0.5)
    assert not asked, "bounds that are not those of its learner may change other weights"


def test_the_largest_potential_decides():
    """The strongest neuron of all, image by image and in blocks, and the strongest of a class."""
    layer = dataclasses.replace(layer_of(Conv(4, kernel=1, learners=RSTDP())), classes=1)

    def decide(potentials):
        potentials = jnp.float32(potentials).reshape(4, 1, 2)
        won = winner_of_class(layer, fire_at_last_step(potentials, time_steps=T), jnp.int32(0))
        stale = jax.tree.map(lambda x: x[0], Strongest.of(potentials[None]))
        in_block = stale.winner(layer, (1, 2))
        assert in_block.feature == won.feature
        if won.feature >= 0:
            assert (in_block.row, in_block.column, in_block.latency) == (won.row, won.column, won.latency)
        return int(won.feature[0]), int(won.column[0])

    assert decide([[0, 1], [2, 3], [3, 0], [-5, 2]]) == (1, 1), "lowest flat index among equals"
    assert decide(np.full((4, 2), -1))[0] == decide(np.zeros((4, 2)))[0] == -1, "nobody above 0"
    layer = dataclasses.replace(layer, classes=2)
    spikes = fire_at_last_step(jnp.float32([[0, 1], [2, 3], [3, 4], [4, 0]]).reshape(4, 1, 2), time_steps=T)
    for vote, expected in ((0, (1, 1)), (1, (2, 1)), (-1, (-1,))):
        won = winner_of_class(layer, spikes, jnp.int32(vote))
        assert (int(won.feature[0]), int(won.column[0]))[: len(expected)] == expected


def test_only_bounds_from_zero_up_are_monotone():
    assert Conv(1, 1, learners=(STDP(), RSTDP())).monotone
    assert not Conv(1, 1, learners=STDP(bounds=(-1, 1))).monotone
    assert not Conv(1, 1).monotone, "nothing is known of weights without a rule"
    assert not Conv(1, 1, learners=(STDP(), RSTDP(bounds=(-0.1, 1)))).monotone


def test_who_fired_as_latencies():
    latency = at_last_step(np.array([True, False]), time_steps=300)
    assert latency.tolist() == [299, 300]


@pytest.mark.parametrize("pool", [Pool(2), Pool(3, stride=2, padding=1), Pool((2, 3), stride=(1, 2), padding=(0, 1))])
@pytest.mark.parametrize("size", [(7, 8), (6, 5)])
def test_pools_know_their_output_size(pool, size):
    latency = np.zeros((1, *size), np.uint8)
    pooled = kernels.pool(latency, pool.window, stride=pool.stride, padding=pool.padding, time_steps=T)
    assert pooled.shape[1:] == pool.output_size(size)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (dict(features=0), ValueError, "`features` must be at least 1, got 0"),
        (dict(features=2.0), TypeError, "`features` must be an integer, got 2.0"),
        (dict(kernel=0), ValueError, "`kernel` must be at least 1"),
        (dict(kernel=(3, 3, 3)), ValueError, "`kernel` must be one integer or two"),
        (dict(padding=-1), ValueError, "`padding` must be at least 0, got -1"),
        (dict(stride=0), ValueError, "`stride` must be at least 1"),
        (dict(output_padding=(0, -2)), ValueError, "`output_padding` must be at least 0, got -2"),
        (
            dict(threshold=-1.0, fractional=True),
            ValueError,
            "`threshold` must be at least 0 with `fractional`, got -1.0",
        ),
        (dict(weight_std=-0.1), ValueError, "`weight_std` must be finite and at least 0, got -0.1"),
        (dict(weight_std=float("nan")), ValueError, "`weight_std` must be finite and at least 0, got nan"),
        (dict(weight_mean=float("inf")), ValueError, "`weight_mean` must be finite, got inf"),
        (dict(competition=5), ValueError, "`competition` must be a component"),
        (dict(learners=(STDP(), "RSTDP")), ValueError, "`learners` must be a component"),
        (dict(threshold=float("nan")), ValueError, "`threshold` must be finite, got nan"),
        (dict(threshold="15"), TypeError, "`threshold` must be a number"),
    ],
)
def test_bad_settings_are_named(settings, error, message):
    with pytest.raises(error, match=message):
        Conv(**dict(features=4, kernel=3) | settings)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (dict(winners=0), ValueError, "`winners` must be at least 1"),
        (dict(radius=-1), ValueError, "`radius` must be at least 0"),
        (dict(radius=True), TypeError, "`radius` must be an integer"),
    ],
)
def test_bad_competitions_are_named(settings, error, message):
    with pytest.raises(error, match=message):
        WTA(**settings)


def test_a_layer_comes_back_from_a_device():
    """Numbers come as arrays without axes, and go on as numbers."""
    layer = jax.tree.map(jnp.asarray, layer_of(LAYERS[0]))
    for back in (jax.device_get(layer), jax.tree.map(np.asarray, layer)):
        for one, other in zip(jax.tree.leaves(back), jax.tree.leaves(layer), strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(back.responses(LATENCIES[0]), layer.responses(LATENCIES[0]))
    with pytest.raises(ValueError, match="`threshold` must be finite, got nan"):
        dataclasses.replace(LAYERS[0], threshold=np.array(np.nan))


def test_input_of_other_channels_is_refused():
    with pytest.raises(ValueError, match="must have the 2 channels of `weights`, got 1"):
        layer_of(LAYERS[0]).spikes(LATENCIES[0][:1])


@pytest.mark.parametrize("shape", [(18, 4), (72,), (4, 18)])
def test_rows_of_all_features_have_the_shape_of_the_weights(shape):
    """Rows that were transposed would be taken as they lie in memory."""
    layer = RealLayer(Conv(4, kernel=3, activation=Triangle()), layer_of(LAYERS[0]).stored, T, PLAIN)
    rows = jnp.arange(72, dtype=jnp.float32).reshape(shape)
    if shape == (4, 18):
        np.testing.assert_array_equal(layer.with_all_rows(rows).rows(), rows)
    else:
        message = r"^`rows` must have (shape \(4, 18\) of `RealLayer.rows`, got|axes \(F K\))"
        with pytest.raises(InputError, match=message):
            layer.with_all_rows(rows)
