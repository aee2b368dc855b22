"""Layer descriptions, and layers with their weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnjax import kernels
from snnjax.kernels import Pooling
from snnjax.kernels.neurons import at_last_step
from snnjax.layers.conv import WTA, Conv
from snnjax.layers.pool import Pool
from snnjax.layers.ramp import Ramp
from snnjax.layers.spiking import Layer
from snnjax.learners import RSTDP, STDP, SoftHebb

T = 15
RNG = np.random.default_rng(0)
LATENCIES = RNG.integers(0, 20, (2, 2, 6, 7)).clip(max=T).astype(np.uint8)
CONV = Conv(4, kernel=3, padding=1, threshold=4, competition=WTA(3, radius=1), learners=STDP())


def layer_of(conv: Conv, channels: int = 2) -> Layer:
    """A layer with weights drawn by NumPy, which compiles nothing."""
    mean, deviation = (0.8, 0.05) if conv.monotone else (0.1, 0.5)
    drawn = np.random.default_rng(1).normal(mean, deviation, (conv.features, channels, *pair(conv.kernel)))
    return Layer(conv, jnp.float32(drawn), T, conv.monotone)


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


@jax.jit
def responses_of(layer, latency):
    """All that a layer makes of one stimulus, by one program."""
    return (
        layer.spikes(latency),
        layer.responses(latency),
        layer.winners(latency),
        layer.last_outputs(latency[None], None),
    )


def test_only_bounds_from_zero_up_are_monotone():
    assert Conv(1, 1, learners=(STDP(), RSTDP())).monotone
    assert not Conv(1, 1, learners=STDP(bounds=(-1, 1))).monotone
    assert not Conv(1, 1).monotone, "nothing is known of weights without a rule"
    assert not Conv(1, 1, learners=(STDP(), RSTDP(bounds=(-0.1, 1)))).monotone
    assert not Conv(1, 1, ramp=Ramp(), learners=SoftHebb()).monotone, "its potential may fall"


def test_differences_between_latencies_have_signs():
    layer = Layer(Conv(1, 2, padding=1), np.ones((1, 1, 2, 2), np.float32), T)
    winners = kernels.Winners(np.int32([0, -1]), np.int32([0, 1]), np.int32([1, 1]), np.uint8([3, T]))
    differences = layer.time_differences(np.uint8([[[5, 2], [T, 0]]]), winners)
    assert differences.dtype == np.int32
    np.testing.assert_array_equal(differences[0], [[[3 - T, 3 - T], [-2, 1]]])


def test_who_fired_as_latencies():
    latency = at_last_step(np.array([True, False]), time_steps=300)
    assert latency.tolist() == [299, 300]
    layer = Layer(Conv(1, 1, threshold=1.0, learners=STDP()), np.ones((1, 2, 1, 1), np.float32), T, True)
    fired = layer.last_outputs(np.uint8([[[[0, 0]], [[T, 1]]]]), None)
    assert fired.tolist() == [[[[T, T - 1]]]], "the threshold must be exceeded"


@pytest.mark.parametrize("pool", [Pool(2), Pool(3, stride=2, padding=1), Pool((2, 3), stride=(1, 2), padding=(0, 1))])
@pytest.mark.parametrize("size", [(7, 8), (6, 5)])
def test_pools_know_their_output_size(pool, size):
    settings = dict(stride=pool.stride, padding=pool.padding, time_steps=T)
    pooled = kernels.pool.eval_shape(np.zeros((1, *size), np.uint8), pool.window, **settings)
    assert pooled.shape[1:] == pool.output_size(size)


def test_pools_overlap_where_a_step_is_smaller_than_the_window():
    assert [Pooling(2).overlaps, Pooling(3, stride=2).overlaps, Pooling((2, 3), stride=(2, 2)).overlaps] == [
        False,
        True,
        True,
    ]
    assert not Pooling(2, stride=3).overlaps


def test_a_layer_comes_back_from_a_device():
    """Numbers come as arrays without axes, and go on as numbers."""
    layer = jax.tree.map(jnp.asarray, layer_of(CONV))
    expected = responses_of(layer, LATENCIES[0])[1]
    for back in (jax.device_get(layer), jax.tree.map(np.asarray, layer)):
        np.testing.assert_array_equal(responses_of(back, LATENCIES[0])[1], expected)
