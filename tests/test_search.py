"""The search for the winners of a layer."""

import jax
import jax.numpy as jnp
import judge
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_competition import neurons

from snnjax.kernels import integrate_and_fire, k_winners, strongest_feature
from snnjax.kernels.competition import early_winners

RNG = np.random.default_rng(0)
LATENCY = RNG.integers(0, 6, (3, 2, 6, 5), np.uint8)
WEIGHTS = np.float32(RNG.integers(0, 65, (3, 4, 2, 3, 2)) / 64)
SETTINGS = dict(threshold=2.0, k=3, radius=1, time_steps=5)


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


def test_contract(contract):
    thresholds = np.float32([1, 2, 3])

    def search(latency, weights, threshold):
        return early_winners(latency, weights, **SETTINGS | dict(threshold=threshold))

    contract(search, [jnp.asarray(each) for each in (LATENCY, WEIGHTS, thresholds)])


def test_another_threshold_or_radius_compiles_nothing(compilations):
    early_winners(LATENCY[0], WEIGHTS[0], **SETTINGS)
    other = SETTINGS | dict(threshold=1.25, radius=2)
    assert compilations(lambda: early_winners(LATENCY[0], WEIGHTS[0], **other)) == 0


def test_bad_input():
    for change, error, message in (
        (dict(k=0), ValueError, "`k` .*got 0"),
        (dict(radius=-1), ValueError, "`radius` .*got -1"),
        (dict(threshold="2"), TypeError, "`threshold` .*got '2'"),
        (dict(stride=0), ValueError, "`stride` .*got 0"),
        (dict(latency=LATENCY[0, :1]), ValueError, "`latency` must have the 2 channels of `weights`, got 1"),
    ):
        with pytest.raises(error, match=message):
            early_winners(**dict(latency=LATENCY[0], weights=WEIGHTS[0], **SETTINGS) | change)
