"""Potentials, firing, and the shortcuts through them."""

import jax.numpy as jnp
import judge
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnjax.kernels import (
    final_potentials,
    final_potentials_of_block,
    fire,
    first_spikes,
    integrate_and_fire,
    potentials,
    timed_spikes,
)

RNG = np.random.default_rng(0)
LATENCY = RNG.integers(0, 6, (3, 2, 6, 5), np.uint8)
WEIGHTS = np.float32(RNG.integers(0, 65, (3, 4, 2, 3, 2)) / 64)
THRESHOLDS = np.float32([2, 2.5, 3])


def assert_spikes(spikes, expected):
    np.testing.assert_array_equal(spikes.latency, expected[0])
    np.testing.assert_array_equal(spikes.potential, expected[1])
    assert (spikes.latency.dtype, spikes.potential.dtype) == (np.uint8, np.float32)


@given(judge.layers(low=-64))
def test_potentials(layer):
    steps, stride = layer.geometry.time_steps, layer.geometry.stride
    expected = judge.potentials(layer.latency, layer.weights, steps, stride)
    movie = potentials(layer.latency, layer.weights, time_steps=steps, stride=stride)
    np.testing.assert_array_equal(movie, expected)
    assert movie.shape[2:] == layer.geometry.output_size
    final = final_potentials(layer.latency < steps, layer.weights, stride=stride)
    np.testing.assert_array_equal(final, expected[-1])


def test_large_kernels_are_those_of_the_judge():
    """They take their inputs in fewer slices."""
    rng = np.random.default_rng(0)
    latency = rng.integers(0, 7, (2, 14, 13)).clip(max=5).astype(np.uint8)
    weights = np.float32(rng.integers(0, 65, (3, 2, 11, 9)) / 64)
    for stride in ((1, 1), (3, 2)):
        movie = potentials(latency, weights, time_steps=5, stride=stride)
        np.testing.assert_array_equal(movie, judge.potentials(latency, weights, 5, stride))


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize(
    ("size", "kernel", "padding", "stride"),
    [
        ((4, 4), (5, 5), 2, 1),
        ((2, 3), (5, 5), 2, 1),
        ((1, 1), (5, 5), 2, 1),
        ((3, 3), (7, 7), 2, 1),
        ((5, 4), (3, 2), (1, 0), (2, 1)),
        ((4, 5), (3, 3), 5, 3),
        ((10, 12), (9, 9), (1, 2), (2, 1)),
    ],
)
def test_final_potentials_of_a_block(images, size, kernel, padding, stride):
    """Sums of multiples of 1/64 are exact in any order."""
    rng = np.random.default_rng(0)
    spiked = rng.random((images, 3, *size)) < 0.5
    weights = np.float32(rng.integers(0, 65, (4, 3, *kernel)) / 64)
    taps = weights.transpose(2, 3, 0, 1)
    block = final_potentials_of_block(spiked, taps, padding=padding, stride=stride)
    rows, columns = np.broadcast_to(padding, 2)
    for image, potential in zip(spiked, block, strict=True):
        padded = np.pad(image, ((0, 0), (rows, rows), (columns, columns)))
        np.testing.assert_array_equal(potential, final_potentials(padded, weights, stride=stride))


@given(judge.layers(low=-64))
def test_firing_at_the_first_crossing(layer):
    steps, stride = layer.geometry.time_steps, layer.geometry.stride
    movie = judge.potentials(layer.latency, layer.weights, steps, stride)
    expected = judge.fire(movie, layer.threshold)
    assert_spikes(fire(np.float32(movie), threshold=layer.threshold), expected)
    settings = dict(threshold=layer.threshold, time_steps=steps, stride=stride)
    assert_spikes(integrate_and_fire(layer.latency, layer.weights, **settings), expected)


@given(judge.layers())
def test_first_spikes_are_what_pointwise_inhibition_leaves(layer):
    steps, stride = layer.geometry.time_steps, layer.geometry.stride
    spikes = judge.fire(judge.potentials(layer.latency, layer.weights, steps, stride), layer.threshold)
    latency, potential = judge.pointwise_inhibition(*spikes, steps)
    settings = dict(threshold=layer.threshold, time_steps=steps, stride=stride)
    first = first_spikes(layer.latency, layer.weights, **settings)
    np.testing.assert_array_equal(first.latency, latency.min(axis=0))
    np.testing.assert_array_equal(first.potential, potential.max(axis=0))
    fired = np.asarray(first.latency) < steps
    np.testing.assert_array_equal(np.asarray(first.feature)[fired], latency.argmin(axis=0)[fired])


@pytest.mark.parametrize("time_steps", [2, 3, 4, 15, 16, 17, 256, 257, 300])
def test_the_search_reaches_every_step(time_steps):
    latency = np.arange(time_steps + 1, dtype=np.uint16)[None, None]
    first = first_spikes(latency, np.ones((1, 1, 1, 1), np.float32), threshold=0.5, time_steps=time_steps)
    np.testing.assert_array_equal(first.latency, latency[0])
    np.testing.assert_array_equal(first.potential, latency[0] < time_steps)


def test_the_threshold_must_be_exceeded():
    movie = np.float32([1, 2, 3, 4]).reshape(4, 1, 1, 1)
    spikes = fire(movie, threshold=2)
    assert (spikes.latency.item(), spikes.potential.item()) == (2, 3)


def test_a_spike_stays_though_the_potential_falls():
    movie = np.float32([0, 5, -1, 9]).reshape(4, 1, 1, 1)
    spikes = fire(movie, threshold=1)
    assert (spikes.latency.item(), spikes.potential.item()) == (1, 5)


def test_without_a_threshold_only_the_last_step_counts():
    movie = np.float32([[7, 0, 7], [0, 1, -1]]).reshape(2, 3, 1, 1)
    spikes = fire(movie, threshold=None)
    np.testing.assert_array_equal(spikes.latency.ravel(), [2, 1, 2])
    np.testing.assert_array_equal(spikes.potential.ravel(), [0, 1, 0])


CONTRACTS = {
    "potentials": (lambda x, w: potentials(x, w, time_steps=5), [LATENCY, WEIGHTS]),
    "final_potentials": (lambda x, w: final_potentials(x, w, stride=(1, 2)), [LATENCY < 5, WEIGHTS]),
    "fire": (lambda p, t: fire(p, threshold=t), [RNG.normal(size=(3, 5, 2, 4, 3)).astype(np.float32), THRESHOLDS / 4]),
    "fire at the last step": (lambda p: fire(p, threshold=None), [np.float32(RNG.integers(-2, 3, (3, 5, 2, 4, 3)))]),
} | {
    f"{layer.__name__}, threshold {kind}": case
    for layer in (integrate_and_fire, first_spikes)
    for kind, case in {
        "given": (lambda x, w, t, layer=layer: layer(x, w, threshold=t, time_steps=5), [LATENCY, WEIGHTS, THRESHOLDS]),
        "None": (lambda x, w, layer=layer: layer(x, w, threshold=None, time_steps=5, stride=2), [LATENCY, WEIGHTS]),
    }.items()
}


@pytest.mark.parametrize("kernel", CONTRACTS)
def test_contract(kernel, contract):
    function, batch = CONTRACTS[kernel]
    contract(function, list(map(jnp.asarray, batch)))


def test_another_threshold_compiles_nothing(compilations):
    def layers(threshold):
        settings = dict(threshold=threshold, time_steps=5)
        movie = np.ones((5, 2, 3, 4), np.float32)
        spikes = [layer(LATENCY[0], WEIGHTS[0], **settings) for layer in (integrate_and_fire, first_spikes)]
        return [*spikes, fire(movie, threshold=threshold)]

    layers(1.5)
    assert compilations(lambda: layers(2.25)) == 0


@pytest.mark.parametrize("layer", [integrate_and_fire, first_spikes])
def test_settings_may_be_numpy_numbers(layer):
    spikes = layer(LATENCY[0], WEIGHTS[0], threshold=np.float64(2), time_steps=np.int64(5))
    expected = layer(LATENCY[0], WEIGHTS[0], threshold=2.0, time_steps=5)
    np.testing.assert_array_equal(spikes.latency, expected.latency)
    np.testing.assert_array_equal(spikes.potential, expected.potential)


LAYERS = [
    lambda x, w, **settings: potentials(x, w, **{"time_steps": 5} | settings),
    lambda x, w, **settings: integrate_and_fire(x, w, **{"threshold": 1.0, "time_steps": 5} | settings),
    lambda x, w, **settings: first_spikes(x, w, **{"threshold": 1.0, "time_steps": 5} | settings),
]


@pytest.mark.parametrize("layer", LAYERS, ids=["potentials", "integrate_and_fire", "first_spikes"])
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f, x, w: f(x[0], w), ValueError, r"`latency` .*\(C H W\), got shape \(6, 5\)"),
        (lambda f, x, w: f(x / 2, w), TypeError, "`latency` must hold integer .*got dtype float"),
        (lambda f, x, w: f(x.tolist(), w), TypeError, "`latency` must be an array .*got list"),
        (lambda f, x, w: f(x, w[0]), ValueError, r"`weights` .*\(F C kh kw\), got shape \(2, 3, 2\)"),
        (lambda f, x, w: f(x, w.astype(int)), TypeError, "`weights` must hold floats, got dtype int"),
        (lambda f, x, w: f(x[:1], w), ValueError, "`latency` must have the 2 channels of `weights`, got 1"),
        (lambda f, x, w: f(x[:, :, :1], w), ValueError, "the kernel of `weights` must fit .*6x1, got 3x2"),
        (lambda f, x, w: f(x, w, stride=0), ValueError, "`stride` must be at least 1, got 0"),
        (lambda f, x, w: f(x, w, time_steps=0), ValueError, "`time_steps` must be at least 1, got 0"),
        (lambda f, x, w: f(x, w, time_steps=5.0), TypeError, "`time_steps` must be an integer, got 5.0"),
    ],
)
def test_bad_input(layer, call, error, message):
    with pytest.raises(error, match=message):
        call(layer, LATENCY[0], WEIGHTS[0])


@pytest.mark.parametrize(
    "layer",
    [
        lambda threshold: fire(np.zeros((5, 2, 3, 4), np.float32), threshold=threshold),
        lambda threshold: integrate_and_fire(LATENCY[0], WEIGHTS[0], threshold=threshold, time_steps=5),
        lambda threshold: first_spikes(LATENCY[0], WEIGHTS[0], threshold=threshold, time_steps=5),
    ],
    ids=["fire", "integrate_and_fire", "first_spikes"],
)
@pytest.mark.parametrize(
    ("threshold", "error", "message"),
    [
        (float("nan"), ValueError, "`threshold` must be finite, got nan"),
        (float("inf"), ValueError, "`threshold` must be finite, got inf"),
        ("15", TypeError, "`threshold` must be a number, .* or None, got '15'"),
        (True, TypeError, "`threshold` must be a number, .* or None, got True"),
        ([1.0], TypeError, r"`threshold` must be a number, .* or None, got \[1.0\]"),
        (jnp.ones(5), ValueError, r"`threshold` must have shape \(\) or \([24],\), got shape \(5,\)"),
        (jnp.ones((4, 1)), ValueError, r"`threshold` must have shape \(\) or \(F,\), got shape \(4, 1\)"),
        (np.float32([1, np.nan, 1, 1]), ValueError, "`threshold` must be finite, got "),
    ],
)
def test_bad_threshold(layer, threshold, error, message):
    with pytest.raises(error, match=message):
        layer(threshold)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: fire(p[0], threshold=1), ValueError, r"`potentials` .*\(T F H W\), got shape \(2, 3, 4\)"),
        (lambda p: fire(p.astype(int), threshold=1), TypeError, "`potentials` must hold floats, got dtype int"),
        (lambda p: fire(p.tolist(), threshold=1), TypeError, "`potentials` must be an array .*got list"),
        (lambda p: fire(p[:0], threshold=1), ValueError, "at least 1.*got 0"),
        (lambda p: final_potentials(p[0, 0] > 0, WEIGHTS[0]), ValueError, r"`spiked` .*got shape \(3, 4\)"),
        (lambda p: final_potentials(p[0] > 0, WEIGHTS[0][0]), ValueError, r"`weights` .*got shape \(2, 3, 2\)"),
        (lambda p: final_potentials(p[0, :1] > 0, WEIGHTS[0]), ValueError, "`spiked` must have the 2 channels .*got 1"),
        (lambda p: final_potentials(p[0, :, :2] > 0, WEIGHTS[0]), ValueError, "`weights` must fit .*2x4, got 3x2"),
        (lambda p: final_potentials(LATENCY[0], WEIGHTS[0]), TypeError, "`spiked` must hold bool.*got dtype uint8"),
    ],
)
def test_bad_potentials(call, error, message):
    with pytest.raises(error, match=message):
        call(np.zeros((5, 2, 3, 4), np.float32))


@given(judge.layers(low=-64), st.booleans())
def test_timed_spikes(layer, fractional):
    steps, stride = layer.geometry.time_steps, layer.geometry.stride
    movie = judge.potentials(layer.latency, layer.weights, steps, stride)
    settings = dict(threshold=1.5, time_steps=steps, stride=stride)
    found = timed_spikes(layer.latency, layer.weights, **settings, fractional=fractional)
    plain = integrate_and_fire(layer.latency, layer.weights, **settings)
    np.testing.assert_array_equal(found.latency, plain.latency)
    fired = found.latency < steps
    np.testing.assert_array_equal(found.potential, np.where(fired, plain.potential, movie[-1]))
    within = np.zeros(fired.shape)
    for place in zip(*np.nonzero(fired & fractional), strict=True):
        step = int(found.latency[place])
        before = movie[step - 1][place] if step else 0.0
        within[place] = (1.5 - before) / (movie[step][place] - before)
    np.testing.assert_allclose(found.time, np.where(fired, (found.latency + within) / steps, 1), rtol=1e-6)
    np.testing.assert_array_equal(found.time < 1, fired)
    assert found.time.dtype == np.float32
