"""Latencies and waves, padding and pooling, potentials, firing, and the shortcuts through them."""

import judge
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnjax import Conv, Pool, kernels
from snnjax.core.checks import pair
from snnjax.kernels import latency_to_wave, neurons, pad, pool, wave_to_latency
from snnjax.kernels.spikes import latency_dtype
from snnjax.layers.spiking import Layer

WINDOWS = [  # shape, T, window, stride, padding
    ((2, 4, 5), 5, 2, None, 0),
    ((2, 4, 5), 5, (2, 3), (1, 2), (0, 1)),
    ((1, 7, 3), 1, (3, 1), (3, 3), (2, 0)),
]


@given(st.sampled_from(WINDOWS).flatmap(lambda case: st.tuples(st.just(case), judge.latencies(*case[:2]))))
def test_latencies_waves_and_pooling_are_those_of_the_judge(case):
    """One integer stands for rows and columns; pooling is the maximum of the wave."""
    (_, time_steps, window, stride, padding), latency = case
    wave = latency_to_wave(latency, time_steps=time_steps)
    np.testing.assert_array_equal(wave, judge.wave(latency, time_steps), strict=True)
    np.testing.assert_array_equal(wave_to_latency(wave), latency, strict=True)
    np.testing.assert_array_equal(wave_to_latency(np.float32(wave)), latency, strict=True)
    size, steps, margins = (tuple(np.broadcast_to(x, 2)) for x in (window, stride or window, padding))
    padded = pad(latency, padding, time_steps=time_steps)
    np.testing.assert_array_equal(padded, judge.pad(latency, margins, time_steps), strict=True)
    pooled = pool(latency, window, stride=stride, padding=padding, time_steps=time_steps)
    np.testing.assert_array_equal(pooled, judge.pool(latency, size, time_steps, steps, margins))
    assert pooled.dtype == latency.dtype


def test_the_dtype_holds_silence_and_more_steps_than_a_byte_counts():
    dtypes = {1: "uint8", 255: "uint8", 256: "uint16", 65535: "uint16", 65536: "uint32"}
    assert {time_steps: latency_dtype(time_steps).name for time_steps in dtypes} == dtypes
    latency = np.array([[[0, 255, 256, 299, 300]]], np.uint16)
    found = wave_to_latency(latency_to_wave(latency, time_steps=300))
    np.testing.assert_array_equal(found, latency, strict=True)
    np.testing.assert_array_equal(pool(latency, (1, 2), time_steps=300, padding=(0, 1)), [[[0, 255, 299]]])


def settings_of(layer, threshold):
    geometry = layer.geometry
    return dict(threshold=threshold, time_steps=geometry.time_steps, stride=geometry.stride)


def assert_spikes(spikes, expected):
    np.testing.assert_array_equal(spikes.latency, expected[0])
    np.testing.assert_array_equal(spikes.potential, expected[1])
    assert (spikes.latency.dtype, spikes.potential.dtype) == (np.uint8, np.float32)


@given(judge.layers(low=-64))
def test_potentials_and_spikes_are_those_of_the_judge(layer):
    """Neurons fire at the first crossing; the threshold is often hit exactly, and potentials may fall.

    Timed spikes lie within their steps where each feature has its own threshold; silent neurons have last potentials.
    """
    steps, stride, given = layer.geometry.time_steps, layer.geometry.stride, (layer.latency, layer.weights)
    movie = judge.potentials(*given, steps, stride)
    np.testing.assert_array_equal(kernels.potentials(*given, time_steps=steps, stride=stride), movie)
    expected = judge.fire(movie, layer.threshold)
    assert_spikes(kernels.fire(np.float32(movie), threshold=layer.threshold), expected)
    assert_spikes(kernels.integrate_and_fire(*given, **settings_of(layer, layer.threshold)), expected)

    fractional = np.ndim(layer.threshold) == 1
    threshold = layer.threshold
    latency, potential = judge.fire(movie, threshold)
    found = kernels.timed_spikes(*given, **settings_of(layer, threshold), fractional=fractional)
    assert_spikes(found, (latency, np.where(latency < steps, potential, movie[-1])))
    within = np.zeros(latency.shape)
    for place in zip(*np.nonzero((latency < steps) & fractional), strict=True):
        step = latency[place]
        before = movie[step - 1][place] if step else 0.0
        if before <= threshold[place[0]]:  # else it is below 0, where potentials begin
            within[place] = (threshold[place[0]] - before) / (movie[step][place] - before)
    np.testing.assert_allclose(found.time, np.where(latency < steps, (latency + within) / steps, 1), rtol=1e-6)
    np.testing.assert_array_equal(found.time < 1, latency < steps)
    assert found.time.dtype == np.float32


@pytest.mark.parametrize(
    ("images", "size", "kernel", "padding", "stride"),
    [
        (3, (4, 5), (3, 3), (5, 4), (3, 2)),
        (1, (5, 4), (3, 2), (1, 0), (2, 1)),
        (2, (10, 12), (9, 9), (1, 2), (2, 1)),
    ],
)
def test_final_potentials_of_a_block(images, size, kernel, padding, stride):
    """As of single images; large kernels take their inputs in fewer slices."""
    rng = np.random.default_rng(0)
    spiked = rng.random((images, 3, *size)) < 0.5
    weights = np.float32(rng.integers(0, 65, (4, 3, *kernel)) / 64)
    block = neurons.final_potentials_of_block(spiked, weights.transpose(2, 3, 0, 1), padding=padding, stride=stride)
    for image, potential in zip(spiked, block, strict=True):
        padded = judge.pad(np.uint8(~image), padding, 1)
        expected = judge.potentials(padded, weights, 1, stride)[0]
        np.testing.assert_array_equal(potential, expected)
        np.testing.assert_array_equal(neurons.final_potentials(padded == 0, weights, stride=stride), expected)


def test_a_spike_at_the_end_of_the_last_step_is_no_silence():
    almost = np.nextafter(np.float32(1), np.float32(0))
    latency, weights = np.full((1, 1, 1), 14, np.uint8), np.ones((1, 1, 1, 1), np.float32)
    found = kernels.timed_spikes(latency, weights, threshold=almost, time_steps=15, fractional=True)
    assert (found.latency.item(), found.time.item()) == (14, almost)


RNG = np.random.default_rng(0)
POOLS = [Pool(2), Pool(3, stride=2, padding=(0, 1)), Pool((3, 2), padding=1), Pool(2, stride=(3, 2)), None]
CONVS = {
    "one threshold": Conv(5, kernel=3, padding=1, threshold=3.0, output_padding=(2, 1)),
    "own thresholds": Conv(20, kernel=(2, 3), padding=(0, 2), threshold=np.float32(RNG.integers(2, 24, 20)) / 4),
    "below 0": Conv(3, kernel=2, threshold=-0.25),
    "at 0": Conv(3, kernel=2, threshold=0.0),
    "strided": Conv(4, kernel=3, stride=(2, 1), threshold=3.0, output_padding=(2, 1)),
    "many features": Conv(150, kernel=3, padding=1, threshold=np.float32(RNG.integers(4, 40, 150)) / 4),
    "weights above 1": Conv(3, kernel=3, threshold=12.0),
}
CASES = [(name, 255) for name in CONVS] + [("one threshold", 1), ("below 0", 1), ("many features", 15)]


def stimuli(time_steps):
    """A random one, one that is silent and one that fires at once."""
    latencies = RNG.integers(0, 2 * time_steps, (3, 2, 7, 8)).clip(max=time_steps)
    latencies[1:] = np.reshape([time_steps, 0], (2, 1, 1, 1))
    return latencies.astype(np.uint8)


def weights_of(conv, lowest=0, highest=64):
    """Of 64ths: their sums are exact in any order."""
    shape = conv.features, 2, *pair("", conv.kernel, 1)
    return np.float32(np.random.default_rng(1).integers(lowest, highest + 1, shape) / 64)


def responses(conv, weights, latency, time_steps):
    padded = judge.pad(latency, pair("", conv.padding, 0), time_steps)
    movie = judge.potentials(padded, weights, time_steps, pair("", conv.stride, 1))
    return judge.fire(movie, conv.threshold)[0]


@pytest.mark.parametrize(("name", "time_steps"), CASES)
def test_latencies_and_pooled_outputs_of_layers_are_those_of_the_judge(name, time_steps, compiler):
    conv, pool = CONVS[name], POOLS[CASES.index((name, time_steps)) % 5]
    weights = weights_of(conv, highest=256 if name == "weights above 1" else 64)
    layer = Layer(conv, weights, time_steps)
    for latency in stimuli(time_steps):
        expected = responses(conv, weights, latency, time_steps)
        outputs = judge.pad(expected, pair("", conv.output_padding, 0), time_steps)
        if pool is not None:
            window, padding = pair("", pool.window, 1), pair("", pool.padding, 0)
            outputs = judge.pool(outputs, window, time_steps, pair("", pool.stride or window, 1), padding)
        for chosen in ("xla", "native"):
            with kernels.use_backend(chosen):
                np.testing.assert_array_equal(layer.responses(latency), expected)
                found = layer.outputs(latency, pool)
            np.testing.assert_array_equal(found, np.uint8(outputs), strict=True)


def test_latencies_with_weights_below_0():
    """A potential that falls again has crossed the threshold; one that starts below may never."""
    conv = Conv(4, kernel=3, threshold=np.float32([0.5, -1, 0, -0.5]))
    weights = weights_of(conv, lowest=-65)
    for latency in stimuli(255):
        found = neurons.latencies(latency, weights, threshold=conv.threshold, time_steps=255)
        np.testing.assert_array_equal(found, responses(conv, weights, latency, 255))
    with pytest.raises(ValueError, match="`window` must fit into the map of 5x6, got 7x7"):
        kernels.latencies(stimuli(15)[0], weights, threshold=1.0, time_steps=15, pool=kernels.Pooling(7))
