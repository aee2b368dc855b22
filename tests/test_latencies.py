"""When neurons fire, for many time steps and pooled: all kernels against their definition in NumPy."""

import jax
import judge
import numpy as np
import pytest

from snnjax import Conv, Pool, kernels
from snnjax.core.checks import pair
from snnjax.kernels import native
from snnjax.kernels.neurons import MANY_STEPS
from snnjax.layers.layer_kernels import NATIVE, XLA, native_suits
from snnjax.layers.spiking import Layer

RNG = np.random.default_rng(0)
POOLS = [Pool(2), Pool(3, stride=2, padding=(0, 1)), Pool((3, 2), padding=1), Pool(2, stride=(3, 2)), None]
CONVS = {
    "one threshold": Conv(5, kernel=3, padding=1, threshold=3.0),
    "own thresholds": Conv(20, kernel=(2, 3), padding=(0, 2), threshold=np.float32(RNG.integers(2, 24, 20)) / 4),
    "below 0": Conv(3, kernel=2, threshold=-0.25),
    "at 0": Conv(3, kernel=2, threshold=0.0),
    "strided": Conv(4, kernel=3, stride=(2, 1), threshold=3.0, output_padding=(2, 1)),
    "many features": Conv(150, kernel=3, padding=1, threshold=np.float32(RNG.integers(4, 40, 150)) / 4),
}
CASES = [(name, 255) for name in CONVS] + [("one threshold", 1), ("below 0", 1), ("many features", 15)]


def stimuli(time_steps):
    """A random one, one that is silent and one that fires at once."""
    latencies = RNG.integers(0, 2 * time_steps, (3, 2, 7, 8)).clip(max=time_steps)
    latencies[1:] = np.reshape([time_steps, 0], (2, 1, 1, 1))
    return latencies.astype(np.uint8)


def weights_of(conv, lowest=0):
    """Their sums are exact in any order."""
    return np.float32(np.random.default_rng(1).integers(lowest, 65, (conv.features, 2, *pair("", conv.kernel, 1))) / 64)


def responses(conv, weights, latency, time_steps):
    """Latencies by definition."""
    padded = judge.pad(latency, pair("", conv.padding, 0), time_steps)
    limits = np.broadcast_to(conv.threshold, conv.features).reshape(-1, 1, 1)
    crossed = judge.potentials(padded, weights, time_steps, pair("", conv.stride, 1)) > limits
    return np.where(crossed.any(axis=0), crossed.argmax(axis=0), time_steps).astype(latency.dtype)


def pooled(latency, pool, padding, time_steps):
    """What passes of latencies: the earliest spike of each window."""
    padded = judge.pad(latency, pair("", padding, 0), time_steps)
    if pool is None:
        return padded
    window = pair("", pool.window, 1)
    padded = judge.pad(padded, pair("", pool.padding, 0), time_steps)
    return judge.slide(padded, window, pair("", pool.stride or window, 1), lambda seen: seen.min(axis=(-2, -1)))


@pytest.mark.parametrize(("name", "time_steps"), CASES)
def test_latencies_and_pooled_outputs_are_those_of_the_definition(name, time_steps, compiler):
    conv = CONVS[name]
    fast = Layer(conv, weights_of(conv), time_steps, XLA)
    compiled = [fast.packed(NATIVE)] if native_suits(conv, time_steps) else []
    first = CASES.index((name, time_steps))
    pools = [POOLS[first % 5], POOLS[(first + 2) % 5]]
    for latency in stimuli(time_steps):
        expected = responses(conv, weights_of(conv), latency, time_steps)
        for layer in (fast, *compiled):
            np.testing.assert_array_equal(layer.responses(latency), expected, strict=True)
            for pool in pools if layer is not fast else pools[:1]:
                padded = pooled(expected, pool, conv.output_padding, time_steps)
                np.testing.assert_array_equal(layer.outputs(latency, pool), padded, f"{pool}", strict=True)


def test_weights_below_0():
    """A potential that falls again has crossed the threshold; one that starts below may never."""
    conv = Conv(4, kernel=3, threshold=np.float32([0.5, -1, 0, -0.5]))
    weights, settings = weights_of(conv, lowest=-65), dict(threshold=conv.threshold, time_steps=255)
    for latency in stimuli(255):
        found = kernels.latencies(latency, weights, **settings)
        np.testing.assert_array_equal(found, responses(conv, weights, latency, 255), strict=True)
        found = kernels.latencies(latency, weights, threshold=None, time_steps=255)
        potential = judge.potentials(latency // 255, weights, 1)[0]
        np.testing.assert_array_equal(found, np.where(potential > 0, 254, 255), "without a threshold")


@pytest.mark.parametrize("time_steps", [MANY_STEPS, MANY_STEPS + 1])
def test_latencies_compile_once_and_under_vmap(time_steps, compilations):
    conv = Conv(4, kernel=3, threshold=2.0)
    latency, weights = stimuli(time_steps), weights_of(conv)

    def one(latency, threshold=2.0):
        return kernels.latencies(latency, weights, threshold=threshold, time_steps=time_steps)

    expected = [responses(conv, weights, x, time_steps) for x in latency]
    np.testing.assert_array_equal(one(latency[0]), expected[0], strict=True)
    np.testing.assert_array_equal(jax.vmap(one)(latency), expected, strict=True)
    assert compilations(lambda: one(latency[1], 3.0)) == 0


def test_a_window_that_does_not_fit_is_refused():
    taps = native.arrange(np.ones((2, 2, 3, 3), np.float32))
    with pytest.raises(ValueError, match="`window` must fit into the map of 5x6, got 7x7"):
        native.latencies(stimuli(15)[0], taps, features=2, threshold=1.0, time_steps=15, pool=native.Pooling(7))
