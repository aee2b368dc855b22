"""Inhibition, winners, the search for them, and their learning by STDP."""

import jax
import judge
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_neurons import assert_spikes

from snnjax import kernels
from snnjax.kernels import Spikes, Winners, integrate_and_fire, k_winners, stdp, strongest_feature
from snnjax.kernels.competition import early_winners
from snnjax.kernels.plasticity import set_rows

MAPS = [
    ((4, 4, 3), 5, 3),
    ((6, 5, 4), 15, 8),
    ((5, 1, 1), 1, 17),
]  # shape, T, k


@st.composite
def cases(draw):
    """Spikes of few different potentials, so that many are equal; T; k."""
    shape, time_steps, k = draw(st.sampled_from(MAPS))
    latency = draw(judge.latencies(shape, time_steps))
    potential = draw(judge.dyadic(shape, low=1))
    return latency, np.where(latency < time_steps, potential, np.float32(0)), time_steps, k


def neurons(winners):
    """The winners as the judge lists them; everything beyond them must be empty."""
    feature, row, column = map(np.asarray, (winners.feature, winners.row, winners.column))
    number = int((feature >= 0).sum())
    assert np.asarray(winners.valid)[:number].all()
    return [tuple(map(int, place)) for place in zip(feature[:number], row[:number], column[:number], strict=True)]


@given(cases())
def test_inhibition(case):
    latency, potential, time_steps, _ = case
    spikes = Spikes(latency, potential)
    left = judge.pointwise_inhibition(latency, potential, time_steps)
    assert_spikes(kernels.pointwise_inhibition(spikes, time_steps=time_steps), left)
    strongest = strongest_feature(spikes, time_steps=time_steps)
    assert_spikes(strongest, (left[0].min(axis=0), left[1].max(axis=0)))
    fired = left[0].min(axis=0) < time_steps
    np.testing.assert_array_equal(np.asarray(strongest.feature)[fired], left[0].argmin(axis=0)[fired])
    inhibited = np.arange(len(latency)) % 2 == 0
    silenced = inhibited[:, None, None]
    expected = np.where(silenced, time_steps, latency), np.where(silenced, 0, potential)
    assert_spikes(kernels.feature_inhibition(spikes, inhibited, time_steps=time_steps), expected)


@given(cases(), st.integers(0, 3))
def test_winners(case, radius):
    """Of all neurons, and of what pointwise inhibition leaves."""
    latency, potential, time_steps, k = case
    settings = dict(k=k, radius=radius, time_steps=time_steps)
    spikes = Spikes(latency, potential)
    expected = judge.k_winners(latency, potential, **settings)
    won = [latency[neuron] for neuron in expected]
    winners = k_winners(spikes, **settings)
    assert neurons(winners) == expected
    assert winners.latency.tolist() == won + [time_steps] * (k - len(won))
    places = strongest_feature(spikes, time_steps=time_steps)
    left = judge.pointwise_inhibition(latency, potential, time_steps)
    assert neurons(k_winners(places, **settings)) == judge.k_winners(*left, **settings)


def test_potentials_that_differ_in_their_last_bit():
    potential = np.float32([1000, 1000, np.nextafter(np.float32(1000), np.float32(2000)), 1000]).reshape(4, 1, 1)
    spikes = Spikes(np.zeros((4, 1, 1), np.uint8), potential)
    assert neurons(k_winners(spikes, k=4, radius=0, time_steps=15)) == [(f, 0, 0) for f in (2, 0, 1, 3)]
    assert strongest_feature(spikes, time_steps=15).feature.item() == 2


@st.composite
def learning(draw):
    """A layer and up to three winners with latencies, rates and bounds; dyadic, so that all products are exact."""
    layer = draw(judge.layers(low=-64, high=80))
    (height, width), steps = layer.geometry.output_size, layer.geometry.time_steps
    features = draw(st.permutations(range(layer.geometry.features)))[: draw(st.integers(0, 3))]
    place = st.tuples(st.integers(0, height - 1), st.integers(0, width - 1), st.integers(0, steps))
    won = [((feature, row, column), spike) for feature in features for row, column, spike in [draw(place)]]
    rate = st.integers(-64, 64).map(lambda number: number / 256)
    return layer, won, draw(st.tuples(rate, rate)), draw(st.sampled_from([(0.0, 1.0), (0.25, 0.75), (-0.5, 1.0)]))


@given(learning())
def test_stdp_is_that_of_the_judge(case):
    """Without a winner not even the bounds apply; silent inputs are not causal, even to winners that are silent.

    If the weights lie within the bounds, only the winners' rows change.
    """
    layer, won, rates, bounds = case
    geometry = layer.geometry
    settings = dict(time_steps=geometry.time_steps, stride=geometry.stride, bounds=bounds)
    settings["stabiliser"] = geometry.channels == 2
    places = [(*neuron, step) for neuron, step in won] + [(-1, 0, 0, geometry.time_steps)] * (3 - len(won))
    feature, row, column, step = np.int32(places).T
    winners = Winners(feature, row, column, np.uint8(step))
    expected = judge.stdp(layer.weights, layer.latency, won, rates, **settings)
    learned = stdp(layer.weights, layer.latency, winners, np.float32(rates), **settings)
    np.testing.assert_array_equal(learned, np.float32(expected), strict=True)
    within = np.clip(layer.weights, *bounds)
    learned = stdp(within, layer.latency, winners, np.float32(rates), **settings)
    np.testing.assert_array_equal(set_rows(within, winners, learned[feature]), learned)


def expected(layer: judge.Layer, k: int, radius: int) -> tuple[list[judge.Neuron], list[int]]:
    """Winners and their latencies, one neuron, one step and one synapse at a time."""
    steps = layer.geometry.time_steps
    movie = judge.potentials(layer.latency, layer.weights, steps, layer.geometry.stride)
    inhibited = judge.pointwise_inhibition(*judge.fire(movie, layer.threshold), steps)
    winners = judge.k_winners(*inhibited, k=k, radius=radius, time_steps=steps)
    return winners, [inhibited[0][winner] for winner in winners]


@settings(max_examples=15)
@given(judge.layers(high=80), st.sampled_from([1, 8]), st.integers(0, 2))
def test_the_winners_of_a_plain_loop(layer, k, radius):
    """Of thresholds below 0 too, and of weights above 1."""
    geometry = layer.geometry
    options = dict(threshold=layer.threshold, time_steps=geometry.time_steps, stride=geometry.stride)
    winners = early_winners(layer.latency, layer.weights, k=k, radius=radius, **options)
    places, latencies = expected(layer, k, radius)
    assert neurons(winners) == places
    assert winners.latency.tolist() == latencies + [geometry.time_steps] * (k - len(places))


@pytest.mark.parametrize("threshold", [9, None])
def test_many_positions_a_few_at_a_time(threshold):
    """Larger maps than are looked at together; sums of multiples of 1/64 are exact."""
    rng = np.random.default_rng(0)
    weights = np.float32(rng.integers(0, 65, (300, 3, 3, 3)) / 64)
    options = dict(k=8, radius=2, time_steps=15)
    find = jax.jit(lambda x: early_winners(x, weights, threshold=threshold, **options))

    @jax.jit
    def judged(latency):
        spikes = integrate_and_fire(latency, weights, threshold=threshold, time_steps=15)
        return k_winners(strongest_feature(spikes, time_steps=15), **options)

    won = set()
    for latency in rng.integers(0, 40, (20, 3, 17, 14)).clip(max=15).astype(np.uint8):
        winners = neurons(find(latency))
        assert winners == neurons(judged(latency))
        won.add(len(winners))
    assert max(won) == 8
