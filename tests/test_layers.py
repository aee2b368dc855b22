"""Layer descriptions and the module that holds a layer's weights."""

import jax
import jax.numpy as jnp
import judge
import numpy as np
import pytest
from flax import nnx

from snnjax import kernels
from snnjax.layers import RSTDP, STDP, Conv, PlasticWeight, Pool, SpikingConv, spiked_to_latency

T = 15
RNG = np.random.default_rng(0)
LATENCIES = RNG.integers(0, 20, (3, 2, 6, 7)).clip(max=T).astype(np.uint8)
LAYERS = [
    Conv(4, kernel=3, padding=1, threshold=4, winners=3, radius=1, stdp=STDP()),
    Conv(4, kernel=(2, 3), padding=(1, 0), stride=(2, 1), threshold=2.5, winners=2, stdp=STDP()),
    Conv(6, kernel=3, padding=2, winners=2, rstdp=RSTDP()),
    Conv(4, kernel=3, padding=1, threshold=1, winners=4, stdp=STDP(bounds=(-1, 1)), weight_mean=0.1, weight_std=0.5),
]


def layer_of(spec: Conv, channels: int = 2) -> SpikingConv:
    """A layer with weights drawn by NumPy, which compiles nothing."""
    layer = nnx.eval_shape(lambda: SpikingConv(spec, channels, time_steps=T, rngs=nnx.Rngs(0)))
    graphdef, weights = nnx.split(layer)
    draw = np.random.default_rng(1).normal
    return nnx.merge(
        graphdef, jax.tree.map(lambda w: jnp.float32(draw(spec.weight_mean, spec.weight_std, w.shape)), weights)
    )


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def judged_spikes(layer: SpikingConv, latency: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    padded = judge.pad(latency, pair(layer.spec.padding), T)
    weights = np.asarray(layer.weight[...])
    return judge.fire(judge.potentials(padded, weights, T, pair(layer.spec.stride)), layer.spec.threshold)


def test_weights_are_plastic_variables_drawn_from_the_seed():
    def weights_of(seed):
        return SpikingConv(Conv(30, kernel=5), channels=6, time_steps=T, rngs=nnx.Rngs(seed)).weight

    assert isinstance(weights_of(0), PlasticWeight)
    assert not isinstance(weights_of(0), nnx.Param), "an optimizer of gradients must not find them"
    weights = weights_of(0)[...]
    assert (weights.shape, weights.dtype) == ((30, 6, 5, 5), jnp.float32)
    assert abs(float(weights.mean()) - 0.8) < 0.005
    assert abs(float(weights.std()) - 0.05) < 0.003
    np.testing.assert_array_equal(weights, weights_of(0)[...])
    assert np.any(weights != weights_of(1)[...])


@pytest.mark.parametrize("spec", LAYERS)
def test_a_layer_fires_and_competes_as_the_judge_says(spec):
    layer = layer_of(spec)
    for latency in LATENCIES:
        spikes, (expected, potential) = layer(latency), judged_spikes(layer, latency)
        np.testing.assert_array_equal(spikes.latency, expected)
        np.testing.assert_allclose(spikes.potential, potential, rtol=1e-5)
        assert spikes.latency.shape[1:] == spec.output_size(latency.shape[1:])
        left = judge.pointwise_inhibition(expected, potential, T)
        winners = judge.k_winners(*left, spec.winners, spec.radius, T)
        won = layer.winners(latency)
        assert [tuple(map(int, w)) for w in zip(won.feature, won.row, won.column, strict=True) if w[0] >= 0] == winners


@pytest.mark.parametrize("spec", [spec for spec in LAYERS if spec.monotone])
def test_who_fires_follows_from_who_fired(spec):
    layer = layer_of(spec)
    for latency in LATENCIES:
        np.testing.assert_array_equal(layer.fired(latency < T), judged_spikes(layer, latency)[0] < T)


@pytest.mark.parametrize(
    ("spec", "rule"),
    [(LAYERS[0], STDP()), (LAYERS[1], STDP(bounds=(-1, 2), stabiliser=False)), (LAYERS[2], RSTDP())],
)
def test_learning_is_that_of_the_judge(spec, rule):
    layer = layer_of(spec)
    before, rates = np.asarray(layer.weight[...]), np.float32([0.125, -0.0625])
    winners = layer.winners(LATENCIES[0])
    judged = [
        ((int(f), int(i), int(j)), int(t)) for f, i, j, t in zip(*jax.tree.leaves(winners), strict=True) if f >= 0
    ]
    padded = judge.pad(LATENCIES[0], pair(spec.padding), T)
    expected = judge.stdp(before, padded, judged, rates, T, rule.bounds, rule.stabiliser, pair(spec.stride))
    rows = layer.learned_rows(layer.weight[...][winners.feature], LATENCIES[0], winners, rates, rule)
    layer.learn(LATENCIES[0], winners, rates, rule)
    assert judged, "nobody learns"
    np.testing.assert_allclose(layer.weight[...], expected, rtol=1e-5, atol=1e-7)
    for row, feature in zip(rows, winners.feature, strict=True):
        if feature >= 0 and np.all((before >= rule.bounds[0]) & (before <= rule.bounds[1])):
            np.testing.assert_array_equal(row, layer.weight[...][feature])


def test_the_largest_potential_decides():
    layer = layer_of(Conv(4, kernel=1, rstdp=RSTDP()))

    def decide(potentials):
        won = layer.decide(jnp.float32(potentials).reshape(4, 1, 2))
        return int(won.feature[0]), int(won.column[0])

    assert decide([[0, 1], [2, 3], [3, 0], [-5, 2]]) == (1, 1), "lowest flat index among equals"
    assert decide(np.full((4, 2), -1))[0] == decide(np.zeros((4, 2)))[0] == -1, "nobody above 0"


def test_only_bounds_from_zero_up_are_monotone():
    assert Conv(1, 1, stdp=STDP(), rstdp=RSTDP()).monotone
    assert not Conv(1, 1, stdp=STDP(bounds=(-1, 1))).monotone
    assert not Conv(1, 1).monotone, "nothing is known of weights without a rule"
    assert not Conv(1, 1, stdp=STDP(), rstdp=RSTDP(bounds=(-0.1, 1))).monotone


def test_spiked_to_latency():
    latency = spiked_to_latency(np.array([True, False]), time_steps=300)
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
        (dict(winners=0), ValueError, "`winners` must be at least 1"),
        (dict(radius=-1), ValueError, "`radius` must be at least 0"),
        (dict(radius=True), TypeError, "`radius` must be an integer"),
        (dict(threshold=float("nan")), ValueError, "`threshold` must be finite, got nan"),
        (dict(threshold="15"), TypeError, "`threshold` must be a number or None"),
    ],
)
def test_bad_settings_are_named(settings, error, message):
    with pytest.raises(error, match=message):
        Conv(**dict(features=4, kernel=3) | settings)


def test_input_of_other_channels_is_refused():
    with pytest.raises(ValueError, match="must have the 2 channels of `weights`, got 1"):
        layer_of(LAYERS[0])(LATENCIES[0][:1])
