"""Learning: STDP and the rates that reward gives it."""

import dataclasses

import jax.numpy as jnp
import judge
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnjax.kernels import Winners, adapted_rates, learned_rows, reward_rates, set_rows, stdp

K = 3  # places for winners
BOUNDS = [(0.0, 1.0), (0.25, 0.75), (-0.5, 1.0)]


@dataclasses.dataclass(frozen=True)
class Case:
    layer: judge.Layer
    won: list[tuple[judge.Neuron, int]]  # the winners with their latencies
    rates: tuple[float, float]
    bounds: tuple[float, float]

    @property
    def settings(self):
        geometry = self.layer.geometry
        settings = dict(time_steps=geometry.time_steps, stride=geometry.stride, bounds=self.bounds)
        return settings | dict(stabiliser=geometry.channels == 2)

    @property
    def winners(self):
        """The winners as arrays, the last places empty."""
        empty = [(-1, 0, 0, self.layer.geometry.time_steps)] * (K - len(self.won))
        feature, row, column, latency = zip(*([*neuron, step] for neuron, step in self.won), *empty, strict=True)
        return Winners(*map(np.int32, (feature, row, column)), np.uint8(latency))


@st.composite
def cases(draw, low=-64, high=80):
    """Dyadic weights, bounds and rates: all products and sums are exact."""
    layer = draw(judge.layers(low, high))
    (height, width), steps = layer.geometry.output_size, layer.geometry.time_steps
    features = draw(st.permutations(range(layer.geometry.features)))[: draw(st.integers(0, K))]
    place = st.tuples(st.integers(0, height - 1), st.integers(0, width - 1), st.integers(0, steps))
    won = [((feature, row, column), spike) for feature in features for row, column, spike in [draw(place)]]
    rate = st.integers(-64, 64).map(lambda number: number / 256)
    return Case(layer, won, draw(st.tuples(rate, rate)), draw(st.sampled_from(BOUNDS)))


@given(cases())
def test_stdp_is_that_of_the_judge(case):
    """Without a winner not even the bounds apply; silent inputs are not causal, even to winners that are silent."""
    layer, rates = case.layer, np.float32(case.rates)
    expected = judge.stdp(layer.weights, layer.latency, case.won, case.rates, **case.settings)
    learned = stdp(layer.weights, layer.latency, case.winners, rates, **case.settings)
    np.testing.assert_array_equal(learned, np.float32(expected), strict=True)


@given(cases(low=16, high=48))
def test_rows_within_the_bounds_learn_alone(case):
    layer, winners = case.layer, case.winners
    rows = learned_rows(layer.weights[winners.feature], layer.latency, winners, np.float32(case.rates), **case.settings)
    expected = judge.stdp(layer.weights, layer.latency, case.won, case.rates, **case.settings)
    np.testing.assert_array_equal(set_rows(jnp.asarray(layer.weights), winners, rows), expected)


@pytest.mark.parametrize(("outcome", "rates"), [(1, [0.004, -0.003]), (-1, [-0.004, 0.0005]), (0, [0, 0])])
def test_reward_rates(outcome, rates):
    reward, punish = np.float32([0.004, -0.003]), np.float32([-0.004, 0.0005])
    np.testing.assert_array_equal(reward_rates(np.int32(outcome), reward, punish), np.float32(rates))


def test_adapted_rates():
    base, fraction = np.float32([[0.004, -0.003], [-0.004, 0.0005]]), np.float32(0.25)
    np.testing.assert_array_equal(adapted_rates(base, fraction), base * fraction)
