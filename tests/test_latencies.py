"""When neurons fire, for many time steps and pooled: every form against `integrate_and_fire` and `pool`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnjax import RSTDP, STDP, Conv, Model, Network, Pool, kernels, stage
from snnjax.kernels import native
from snnjax.kernels.neurons import MANY_STEPS
from snnjax.layers.layer_kernels import NATIVE, PLAIN, XLA, native_suits
from snnjax.layers.spiking import Layer

RNG = np.random.default_rng(0)
POOLS = [None, Pool(2), Pool(3), Pool((3, 2), padding=1), Pool(2, stride=(3, 2)), Pool(3, stride=2, padding=(0, 1))]
CONVS = {
    "one threshold": Conv(5, kernel=3, padding=1, threshold=3.0),
    "own thresholds": Conv(20, kernel=(2, 3), padding=(0, 2), threshold=np.float32(RNG.integers(2, 24, 20)) / 4),
    "below 0": Conv(3, kernel=2, threshold=-0.25),
    "at 0": Conv(3, kernel=2, threshold=0.0),
    "output padding": Conv(4, kernel=3, threshold=3.0, output_padding=(2, 1)),
    "strided": Conv(4, kernel=3, stride=(2, 1), threshold=3.0),
    "many features": Conv(150, kernel=3, padding=1, threshold=np.float32(RNG.integers(4, 40, 150)) / 4),
    "as large as the map": Conv(2, kernel=(7, 8), threshold=20.0),
    "silent": Conv(2, kernel=3, threshold=1e6),
}


def stimuli(time_steps, count=4):
    """Random ones, one that is silent and one that fires at once."""
    latencies = RNG.integers(0, 2 * time_steps, (count, 2, 7, 8)).clip(max=time_steps)
    latencies[-2:] = np.reshape([time_steps, 0], (2, 1, 1, 1))
    return latencies.astype(np.uint8)


def layer(conv, time_steps, lowest=0):
    """With weights whose sums are exact in any order."""
    kernel = conv.kernel if isinstance(conv.kernel, tuple) else (conv.kernel,) * 2
    weights = jnp.float32(np.random.default_rng(1).integers(lowest, 65, (conv.features, 2, *kernel)) / 64)
    return Layer(conv, weights, time_steps, PLAIN)


@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("form", [XLA, NATIVE], ids=["fast", "native"])
@pytest.mark.parametrize("time_steps", [1, 15, 255])
def test_outputs_are_those_of_the_definition(name, form, time_steps, request):
    conv = CONVS[name]
    if form is NATIVE:
        if not native_suits(conv, time_steps):
            pytest.skip("compiled kernels have no strides")
        request.getfixturevalue("compiler")
    plain = layer(conv, time_steps)
    fired = 0
    for latency in stimuli(time_steps):
        expected = plain.responses(latency)
        fired += (expected < time_steps).sum()
        np.testing.assert_array_equal(plain.packed(form).responses(latency), expected, strict=True)
        for pool in POOLS if name != "as large as the map" else [None, Pool(1), Pool(2, padding=1)]:
            found, pooled = (each.outputs(latency, pool) for each in (plain.packed(form), plain))
            np.testing.assert_array_equal(found, pooled, strict=True)
    assert (fired > 0) == (name != "silent")


@pytest.mark.parametrize("threshold", [0.25, -0.5, np.float32([0.5, -1, 0])])
def test_weights_below_0(threshold):
    """A potential that falls again has crossed the threshold; one that starts below may never."""
    signed = layer(Conv(3, kernel=3, threshold=threshold), 255, lowest=-65)
    for latency in stimuli(255):
        settings = dict(threshold=threshold, time_steps=255)
        expected = kernels.integrate_and_fire(latency, signed.weights, **settings).latency
        np.testing.assert_array_equal(kernels.latencies(latency, signed.weights, **settings), expected)


@pytest.mark.parametrize("time_steps", [MANY_STEPS, MANY_STEPS + 1, 255, 1000])
def test_latencies_compile_once_and_under_vmap(time_steps, compilations):
    latency = RNG.integers(0, 2 * time_steps, (3, 2, 6, 6)).clip(max=time_steps)
    latency = jnp.asarray(latency, kernels.latency_dtype(time_steps))
    weights = jnp.float32(RNG.integers(0, 65, (4, 2, 3, 3)) / 64)

    def one(latency, threshold=2.0):
        return kernels.latencies(latency, weights, threshold=threshold, time_steps=time_steps)

    expected = kernels.integrate_and_fire(latency[0], weights, threshold=2.0, time_steps=time_steps).latency
    np.testing.assert_array_equal(one(latency[0]), expected, strict=True)
    np.testing.assert_array_equal(jax.jit(jax.vmap(one))(latency), jnp.stack([one(x) for x in latency]))
    assert compilations(lambda: one(latency[1], 3.0)) == 0


def test_neurons_without_a_threshold():
    latency, weights = stimuli(255)[0], jnp.ones((2, 2, 3, 3))
    settings = dict(threshold=None, time_steps=255)
    expected = kernels.integrate_and_fire(latency, weights, **settings).latency
    np.testing.assert_array_equal(kernels.latencies(latency, weights, **settings), expected)


def test_a_stage_of_branches_is_joined_and_pooled():
    """By `forward` as by `observe`."""
    branches = [
        Conv(3, 3, threshold=4.0, learners=STDP()),
        Conv(2, 5, threshold=9.0, output_padding=1, learners=STDP()),
    ]
    deciding = stage(Conv(2, 3, learners=RSTDP()))
    network = Network("two", (2, 8, 9), 2, (stage(*branches, pool=Pool(2, padding=1)), deciding), time_steps=60)
    model = Model.of(network, network.initial_weights())
    latency = jnp.asarray(RNG.integers(0, 120, (2, 8, 9)).clip(max=60), jnp.uint8)
    for each in (model, model.packed(dict.fromkeys(model.layers, PLAIN))):
        seen = each.observe(latency).latencies
        joined = each.join(0, [seen["layer1_1"], seen["layer1_2"]])
        np.testing.assert_array_equal(each.forward(latency), joined)
        padded = [seen["layer1_1"], kernels.pad(seen["layer1_2"], 1, time_steps=60)]
        expected = kernels.pool(jnp.concatenate(padded), 2, padding=1, time_steps=60)
        np.testing.assert_array_equal(joined, expected)


def test_a_window_that_does_not_fit_is_refused():
    settings = dict(features=2, threshold=1.0, time_steps=15)
    taps = native.arrange(jnp.ones((2, 2, 3, 3)))
    with pytest.raises(ValueError, match="`window` must fit into the map of 5x6, got 7x7"):
        native.latencies(stimuli(15)[0], taps, pool=native.Pooling(7), **settings)
