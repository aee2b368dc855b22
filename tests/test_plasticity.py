"""Learning by STDP."""

import dataclasses

import jax.numpy as jnp
import judge
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from snnjax.kernels import Winners, learned_rows, set_rows, stdp

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
def cases(draw):
    """Dyadic weights, bounds and rates: all products and sums are exact."""
    layer = draw(judge.layers(low=-64, high=80))
    (height, width), steps = layer.geometry.output_size, layer.geometry.time_steps
    features = draw(st.permutations(range(layer.geometry.features)))[: draw(st.integers(0, K))]
    place = st.tuples(st.integers(0, height - 1), st.integers(0, width - 1), st.integers(0, steps))
    won = [((feature, row, column), spike) for feature in features for row, column, spike in [draw(place)]]
    rate = st.integers(-64, 64).map(lambda number: number / 256)
    return Case(layer, won, draw(st.tuples(rate, rate)), draw(st.sampled_from(BOUNDS)))


@given(cases())
def test_stdp_is_that_of_the_judge(case):
    """Without a winner not even the bounds apply; silent inputs are not causal, even to winners that are silent.

    Rows of weights within the bounds learn alone.
    """
    layer, rates = case.layer, np.float32(case.rates)
    expected = judge.stdp(layer.weights, layer.latency, case.won, case.rates, **case.settings)
    learned = stdp(layer.weights, layer.latency, case.winners, rates, **case.settings)
    np.testing.assert_array_equal(learned, np.float32(expected), strict=True)
    within, winners = np.clip(layer.weights, *case.bounds), case.winners
    rows = learned_rows(within[winners.feature], layer.latency, winners, rates, **case.settings)
    expected = judge.stdp(within, layer.latency, case.won, case.rates, **case.settings)
    np.testing.assert_array_equal(set_rows(jnp.asarray(within), winners, rows), expected)
