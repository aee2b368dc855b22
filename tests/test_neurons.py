"""Potentials, firing, and the shortcuts through them."""

import judge
import numpy as np
import pytest
from hypothesis import given

from snnjax import kernels


def settings_of(layer, threshold):
    geometry = layer.geometry
    return dict(threshold=threshold, time_steps=geometry.time_steps, stride=geometry.stride)


def assert_spikes(spikes, expected):
    np.testing.assert_array_equal(spikes.latency, expected[0])
    np.testing.assert_array_equal(spikes.potential, expected[1])
    assert (spikes.latency.dtype, spikes.potential.dtype) == (np.uint8, np.float32)


@given(judge.layers(low=-64))
def test_potentials_and_spikes_are_those_of_the_judge(layer):
    """Neurons fire at the first crossing; the threshold is often hit exactly, and potentials may fall."""
    steps, stride = layer.geometry.time_steps, layer.geometry.stride
    movie = judge.potentials(layer.latency, layer.weights, steps, stride)
    np.testing.assert_array_equal(
        kernels.potentials(layer.latency, layer.weights, time_steps=steps, stride=stride), movie
    )
    final = kernels.final_potentials(layer.latency < steps, layer.weights, stride=stride)
    np.testing.assert_array_equal(final, movie[-1])
    expected = judge.fire(movie, layer.threshold)
    assert_spikes(kernels.fire(np.float32(movie), threshold=layer.threshold), expected)
    settings = settings_of(layer, layer.threshold)
    assert_spikes(kernels.integrate_and_fire(layer.latency, layer.weights, **settings), expected)


@given(judge.layers(low=-64))
def test_timed_spikes(layer):
    """Spikes lie within their steps where each feature has its own threshold; silent neurons have last potentials."""
    steps, fractional = layer.geometry.time_steps, np.ndim(layer.threshold) == 1
    threshold = np.abs(layer.threshold) if fractional else layer.threshold
    movie = judge.potentials(layer.latency, layer.weights, steps, layer.geometry.stride)
    latency, potential = judge.fire(movie, threshold)
    found = kernels.timed_spikes(layer.latency, layer.weights, **settings_of(layer, threshold), fractional=fractional)
    assert_spikes(found, (latency, np.where(latency < steps, potential, movie[-1])))
    within = np.zeros(latency.shape)
    for place in zip(*np.nonzero((latency < steps) & fractional), strict=True):
        step = latency[place]
        before = movie[step - 1][place] if step else 0.0
        within[place] = (threshold[place[0]] - before) / (movie[step][place] - before)
    np.testing.assert_allclose(found.time, np.where(latency < steps, (latency + within) / steps, 1), rtol=1e-6)
    np.testing.assert_array_equal(found.time < 1, latency < steps)
    assert found.time.dtype == np.float32


@given(judge.layers())
def test_first_spikes_are_what_pointwise_inhibition_leaves(layer):
    steps = layer.geometry.time_steps
    spikes = judge.fire(judge.potentials(layer.latency, layer.weights, steps, layer.geometry.stride), layer.threshold)
    latency, potential = judge.pointwise_inhibition(*spikes, steps)
    first = kernels.first_spikes(layer.latency, layer.weights, **settings_of(layer, layer.threshold))
    assert_spikes(first, (latency.min(axis=0), potential.max(axis=0)))
    fired = latency.min(axis=0) < steps
    np.testing.assert_array_equal(np.asarray(first.feature)[fired], latency.argmin(axis=0)[fired])


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
    block = kernels.final_potentials_of_block(spiked, weights.transpose(2, 3, 0, 1), padding=padding, stride=stride)
    for image, potential in zip(spiked, block, strict=True):
        padded = judge.pad(np.uint8(~image), padding, 1)
        expected = judge.potentials(padded, weights, 1, stride)[0]
        np.testing.assert_array_equal(potential, expected)
        np.testing.assert_array_equal(kernels.final_potentials(padded == 0, weights, stride=stride), expected)


@pytest.mark.parametrize("time_steps", [16, 17, 300])
def test_the_search_reaches_every_step(time_steps):
    """Settings may be NumPy's numbers."""
    latency = np.arange(time_steps + 1, dtype=np.uint16)[None, None]
    settings = dict(threshold=np.float64(0.5), time_steps=np.int64(time_steps))
    first = kernels.first_spikes(latency, np.ones((1, 1, 1, 1), np.float32), **settings)
    np.testing.assert_array_equal(first.latency, latency[0])
    np.testing.assert_array_equal(first.potential, latency[0] < time_steps)


def test_a_spike_at_the_end_of_the_last_step_is_no_silence():
    almost = np.nextafter(np.float32(1), np.float32(0))
    latency, weights = np.full((1, 1, 1), 14, np.uint8), np.ones((1, 1, 1, 1), np.float32)
    found = kernels.timed_spikes(latency, weights, threshold=almost, time_steps=15, fractional=True)
    assert (found.latency.item(), found.time.item()) == (14, almost)
