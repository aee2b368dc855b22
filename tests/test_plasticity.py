"""Learning: STDP and the rates that reward gives it."""

import dataclasses

import jax
import jax.numpy as jnp
import judge
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnjax.kernels import Winners, adapted_rates, learned_rows, reward_rates, set_rows, stdp

K = 3  # places for winners
RULES = [((0.0, 1.0), True), ((0.25, 0.75), False), ((-0.5, 1.0), True)]  # bounds, stabiliser
RNG = np.random.default_rng(0)
LATENCY = RNG.integers(0, 6, (3, 2, 6, 5), np.uint8)
WEIGHTS = np.float32(RNG.integers(0, 65, (3, 4, 2, 3, 2)) / 64)
RATES = np.float32([[0.5, -0.375], [0.25, -0.125], [-0.5, 0.0625]])
WINNERS = Winners(
    feature=np.int32([[2, 0, -1], [1, 3, 0], [-1, -1, -1]]),
    row=np.int32([[3, 0, 0], [1, 2, 3], [0, 0, 0]]),
    column=np.int32([[0, 3, 0], [1, 2, 3], [0, 0, 0]]),
    latency=np.uint8([[2, 3, 5], [0, 1, 4], [5, 5, 5]]),
)


@dataclasses.dataclass(frozen=True)
class Case:
    layer: judge.Layer
    won: list[tuple[judge.Neuron, int]]  # the winners with their latencies
    rates: tuple[float, float]
    bounds: tuple[float, float]
    stabiliser: bool

    @property
    def settings(self):
        geometry = self.layer.geometry
        fixed = dict(time_steps=geometry.time_steps, stride=geometry.stride)
        return fixed | dict(bounds=self.bounds, stabiliser=self.stabiliser)

    @property
    def winners(self):
        """The winners as arrays, the last places empty."""
        empty = [(-1, 0, 0, self.layer.geometry.time_steps)] * (K - len(self.won))
        feature, row, column, latency = zip(*([*neuron, step] for neuron, step in self.won), *empty, strict=True)
        return Winners(*map(np.int32, (feature, row, column)), np.uint8(latency))

    def learned(self):
        return stdp(self.layer.weights, self.layer.latency, self.winners, np.float32(self.rates), **self.settings)


@st.composite
def cases(draw, low=-64, high=80, winners=(0, K)):
    """Dyadic weights, bounds and rates: all products and sums are exact."""
    layer = draw(judge.layers(low, high))
    (height, width), steps = layer.geometry.output_size, layer.geometry.time_steps
    features = draw(st.permutations(range(layer.geometry.features)))[: draw(st.integers(*winners))]
    place = st.tuples(st.integers(0, height - 1), st.integers(0, width - 1), st.integers(0, steps - 1))
    won = [((feature, row, column), spike) for feature in features for row, column, spike in [draw(place)]]
    rate = st.integers(-64, 64).map(lambda number: number / 256)
    return Case(layer, won, draw(st.tuples(rate, rate)), *draw(st.sampled_from(RULES)))


@given(cases())
def test_stdp(case):
    expected = judge.stdp(case.layer.weights, case.layer.latency, case.won, case.rates, **case.settings)
    learned = case.learned()
    np.testing.assert_array_equal(learned, expected)
    assert learned.dtype == np.float32


@given(cases(winners=(1, K)))
def test_weights_come_within_the_bounds_as_soon_as_anybody_learns(case):
    still = dataclasses.replace(case, rates=(0.0, 0.0))
    np.testing.assert_array_equal(still.learned(), np.clip(case.layer.weights, *case.bounds))
    learned = np.asarray(case.learned())
    assert learned.min() >= case.bounds[0]
    assert learned.max() <= case.bounds[1]


@given(cases(winners=(0, 0)))
def test_without_a_winner_not_even_the_bounds_apply(case):
    np.testing.assert_array_equal(case.learned(), case.layer.weights)


@given(cases(low=16, high=48))
def test_only_the_features_of_winners_change(case):
    losers = sorted(set(range(len(case.layer.weights))) - {feature for (feature, _, _), _ in case.won})
    np.testing.assert_array_equal(case.learned()[np.array(losers, int)], case.layer.weights[losers])


@given(cases(low=16, high=48))
def test_rows_learn_alone(case):
    weights, winners = jnp.asarray(case.layer.weights), case.winners
    rows = learned_rows(weights[winners.feature], case.layer.latency, winners, np.float32(case.rates), **case.settings)
    np.testing.assert_array_equal(set_rows(weights, winners, rows), case.learned())


def test_a_synapse_is_causal_up_to_the_step_of_the_winner():
    latency = np.array([[[0, 2, 3, 4, 5]]], np.uint8)
    winners = Winners(*np.zeros((3, 1), np.int32), np.uint8([3]))
    weights = np.full((1, 1, 1, 5), 0.5, np.float32)
    learned = stdp(weights, latency, winners, np.float32([0.25, -0.25]), time_steps=5, stabiliser=False)
    np.testing.assert_array_equal(learned.ravel(), [0.75, 0.75, 0.75, 0.25, 0.25])


def test_silent_inputs_are_not_causal_at_the_last_step():
    latency = np.array([[[4, 5]]], np.uint8)
    winners = Winners(*np.zeros((3, 1), np.int32), np.uint8([5]))
    weights = np.full((1, 1, 1, 2), 0.5, np.float32)
    learned = stdp(weights, latency, winners, np.float32([0.25, -0.25]), time_steps=5, stabiliser=False)
    np.testing.assert_array_equal(learned.ravel(), [0.75, 0.25])


@pytest.mark.parametrize(("outcome", "rates"), [(1, [0.004, -0.003]), (-1, [-0.004, 0.0005]), (0, [0, 0])])
def test_reward_rates(outcome, rates):
    reward, punish = np.float32([0.004, -0.003]), np.float32([-0.004, 0.0005])
    np.testing.assert_array_equal(reward_rates(np.int32(outcome), reward, punish), np.float32(rates))


@pytest.mark.parametrize("base", [[0.004, -0.003], [[0.004, -0.003], [-0.004, 0.0005]]])
@pytest.mark.parametrize("fraction", [0, 0.25, 1])
def test_adapted_rates(base, fraction):
    adapted = adapted_rates(np.float32(base), np.float32(fraction))
    np.testing.assert_array_equal(adapted, np.float32(base) * np.float32(fraction))


SETTINGS = dict(time_steps=5, bounds=(0.0, 1.0), stabiliser=True)
ROWS = WEIGHTS[:, :K]
CONTRACTS = {
    "stdp": (lambda w, x, n, r: stdp(w, x, n, r, **SETTINGS), [WEIGHTS, LATENCY, WINNERS, RATES]),
    "learned_rows": (lambda w, x, n, r: learned_rows(w, x, n, r, **SETTINGS), [ROWS, LATENCY, WINNERS, RATES]),
    "set_rows": (set_rows, [WEIGHTS, WINNERS, ROWS / 2]),
    "reward_rates": (reward_rates, [np.int32([1, -1, 0]), RATES, -RATES]),
    "adapted_rates": (adapted_rates, [RATES, np.float32([0.5, 0.25, 1])]),
}


@pytest.mark.parametrize("kernel", CONTRACTS)
def test_contract(kernel, contract):
    function, batch = CONTRACTS[kernel]
    contract(function, jax.tree.map(jnp.asarray, batch))


@pytest.mark.parametrize("learn", [stdp, learned_rows])
def test_bounds_are_numbers_like_any_other(learn, compilations):
    """Other ones compile nothing; arrays do what numbers do, also one for each of a batch."""
    inputs = [ROWS[0], LATENCY[0], jax.tree.map(lambda x: x[0], WINNERS), RATES[0]]

    def learned(lower, upper):
        return learn(*inputs, time_steps=5, bounds=(lower, upper))

    expected = [learned(0.0, 1.0), learned(0.25, 0.75)]
    assert compilations(lambda: learned(-0.5, 0.5)) == 0
    found = jax.jit(jax.vmap(learned))(jnp.float32([0, 0.25]), jnp.float32([1, 0.75]))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("learn", [stdp, learned_rows])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(latency=LATENCY[0, 0]), ValueError, r"`latency` .*\(C H W\), got shape \(6, 5\)"),
        (dict(latency=LATENCY[0] / 2), TypeError, "`latency` must hold integer .*got dtype float"),
        (dict(latency=LATENCY[0, :1]), ValueError, "`latency` must have the 2 channels of `weights`, got 1"),
        (dict(latency=LATENCY[0, :, :2]), ValueError, "kernel of `weights` must fit .*2x5, got 3x2"),
        (dict(weights=WEIGHTS[0, 0]), ValueError, r"`weights` .*\(F C kh kw\), got shape \(2, 3, 2\)"),
        (dict(weights=ROWS[0].astype(int)), TypeError, "`weights` must hold floats, got dtype int"),
        (dict(rates=np.float32(1)), ValueError, r"`rates` .*\(2\), got shape \(\)"),
        (dict(rates=np.float32([1, 2, 3])), ValueError, r"`rates` .*2.*got shape \(3,\)"),
        (dict(rates=(1.0, 2.0)), TypeError, "`rates` must be an array .*got tuple"),
        (dict(bounds=(1.0, 0.0)), ValueError, r"`bounds` .*lower < upper, got \(1.0, 0.0\)"),
        (dict(bounds=(0.5, 0.5)), ValueError, r"`bounds` .*lower < upper, got \(0.5, 0.5\)"),
        (dict(bounds=(0.0, float("nan"))), ValueError, r"`bounds` .*lower < upper, got \(0.0, nan\)"),
        (dict(stride=0), ValueError, "`stride` must be at least 1, got 0"),
        (dict(time_steps=0), ValueError, "`time_steps` must be at least 1, got 0"),
        (dict(time_steps=2.5), TypeError, "`time_steps` must be an integer, got 2.5"),
    ],
)
def test_bad_input(learn, change, error, message):
    arrays = dict(weights=ROWS[0], latency=LATENCY[0], winners=jax.tree.map(lambda x: x[0], WINNERS))
    arguments = arrays | dict(rates=RATES[0]) | SETTINGS | change
    if learn is learned_rows:
        message = message.replace("`weights`", "`rows`").replace("(F", "(k")
    positional = [arguments.pop(name) for name in ("weights", "latency", "winners", "rates")]
    with pytest.raises(error, match=message):
        learn(*positional, **arguments)
