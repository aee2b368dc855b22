"""What is true of every kernel: mapped as in a loop, compiled once, the same without `jax.jit`; and exact sums."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close

from snnjax import kernels
from snnjax.kernels import Spikes, Winners, competition, exact, neurons
from snnjax.kernels.neurons import MANY_STEPS, PositionSpikes

RNG = np.random.default_rng(0)
T = 5
LATENCY = RNG.integers(0, T + 1, (2, 2, 6, 5), np.uint8)
RESPONSE = RNG.integers(0, T + 1, (2, 4, 4, 3), np.uint8)
AT_SPIKE = np.float32(RNG.integers(1, 9, RESPONSE.shape) / 4 * (RESPONSE < T))
WEIGHTS = np.float32(RNG.integers(0, 65, (2, 4, 2, 3, 3)) / 64)

BATCHES = dict(
    latency=LATENCY,
    wave=LATENCY[:, None] <= np.arange(T).reshape(T, 1, 1, 1),
    spiked=LATENCY < T,
    weights=WEIGHTS,
    rows=WEIGHTS[:, :3],
    threshold=np.float32([[2, 2.5, 3, 1], [3, 2, 1.5, 2]]),
    potentials=np.float32(RNG.integers(-2, 4, (2, T, 4, 4, 3))),
    potential=np.float32(RNG.integers(-2, 4, (2, 4, 4, 3))),
    levels=np.float32([[3, 2, 2, 1, 0.5], [4, 3.5, 3, 2, 1]]),
    spikes=Spikes(RESPONSE, AT_SPIKE),
    places=PositionSpikes(RNG.integers(0, 4, (2, 4, 3), np.int32), RESPONSE[:, 0], AT_SPIKE[:, 0]),
    inhibited=np.array([[True, False, False, True], [False] * 4]),
    winners=Winners(
        feature=np.int32([[2, 0, -1], [1, 3, 0]]),
        row=np.int32([[3, 0, 0], [1, 2, 3]]),
        column=np.int32([[0, 2, 0], [1, 2, 0]]),
        latency=np.uint8([[2, 3, T], [0, 1, 4]]),
    ),
    rates=np.float32([[0.5, -0.375], [0.25, -0.125]]),
    bounds=(np.float32([0, 0.25]), np.float32([1, 0.75])),
    outcome=np.int32([1, -1]),
    reward=np.float32([[0.5, -0.375], [0.25, -0.125]]),
    punish=np.float32([[-0.5, 0.375], [-0.25, 0.125]]),
    time=np.float32([[0.25, 0.5, 1, 0], [0.5, 0.125, 0.75, 1]]),
    target=np.array([[True, False] * 2, [False, True] * 2]),
    error=np.float32([[0.5, -0.25, 0, 0.125], [0, 0.25, -0.5, 0.5]]),
    vector=RNG.integers(0, T + 1, (2, 5), np.uint8),
    spike=RNG.integers(0, T + 1, (2, 4), np.uint8),
    matrix=np.float32(RNG.integers(0, 65, (2, 4, 5)) / 64),
)
"""Valid arguments of kernels, two of each."""
STEPS = dict(time_steps=T)
COMPETITION = dict(k=3, radius=1, time_steps=T)
LEARNING = dict(time_steps=T, stabiliser=True)


def error_stdp(matrix, vector, spike, error, rates, bounds):
    return kernels.supervised.error_stdp(matrix, vector, spike, error, rates, bounds=bounds)


KERNELS = {
    "latency_to_wave": (kernels.latency_to_wave, "latency", STEPS),
    "wave_to_latency": (kernels.wave_to_latency, "wave", {}),
    "pad": (kernels.pad, "latency", dict(padding=(1, 2), **STEPS)),
    "pool": (kernels.pool, "latency", dict(window=(2, 3), stride=(1, 2), padding=1, **STEPS)),
    "potentials": (kernels.potentials, "latency weights", STEPS),
    "final_potentials": (neurons.final_potentials, "spiked weights", dict(stride=(1, 2))),
    "fire": (kernels.fire, "potentials threshold", {}),
    "fire at the last step": (kernels.fire, "potentials", dict(threshold=None)),
    "integrate_and_fire": (kernels.integrate_and_fire, "latency weights threshold", STEPS),
    "latencies": (neurons.latencies, "latency weights threshold", STEPS),
    "latencies, many steps": (neurons.latencies, "latency weights threshold", dict(time_steps=MANY_STEPS + 1)),
    "timed_spikes": (kernels.timed_spikes, "latency weights threshold", dict(fractional=True, **STEPS)),
    "remaining_steps": (kernels.ramp.remaining_steps, "latency", STEPS),
    "fire_on_ramp": (kernels.ramp.fire_on_ramp, "potential levels", {}),
    "strongest_feature": (kernels.strongest_feature, "spikes", STEPS),
    "pointwise_inhibition": (kernels.pointwise_inhibition, "spikes", STEPS),
    "feature_inhibition": (kernels.feature_inhibition, "spikes inhibited", STEPS),
    "k_winners": (kernels.k_winners, "spikes", COMPETITION),
    "early_winners": (competition.early_winners, "latency weights threshold", COMPETITION),
    "k_winners of places": (lambda places: kernels.k_winners(places, **COMPETITION), "places", {}),
    "stdp": (kernels.stdp, "weights latency winners rates bounds", LEARNING),
    "set_rows": (kernels.plasticity.set_rows, "weights winners rows", {}),
    "reward_rates": (kernels.reward_rates, "outcome reward punish", {}),
    "desired_times": (kernels.desired_times, "time target", dict(gap=0.25, per_class=2)),
    "error_stdp": (error_stdp, "matrix vector spike error rates bounds", {}),
}
"""Kernels with the arguments that come in batches, and settings."""


def arguments_of(name, index):
    """The arguments of a kernel, number `index` of each batch."""
    batches = {argument: BATCHES[argument] for argument in KERNELS[name][1].split()}
    return jax.tree.map(lambda x: jnp.asarray(x[index]), batches)


@pytest.mark.parametrize("name", KERNELS)
def test_the_contract(name, contract):
    kernel, batched, settings = KERNELS[name]
    arguments = batched.split()
    batch = [jax.tree.map(jnp.asarray, BATCHES[argument]) for argument in arguments]
    contract(lambda *values: kernel(**dict(zip(arguments, values, strict=True)), **settings), batch)


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
def test_results_are_the_same_without_jit(name):
    kernel, _, settings = KERNELS[name]
    arguments = arguments_of(name, 0) | settings
    compiled = jax.tree.map(np.asarray, kernel(**arguments))
    with jax.disable_jit():
        assert_close(kernel(**arguments), compiled)


WRONG = [  # the arguments that a kernel has, a wrong one made of the last of them, the error, words of its message
    ("latency", lambda x: x[0], ValueError, r"`latency`.*shape \(6, 5\)"),
    ("latency", lambda x: x + 1, ValueError, "`latency`.*got 6"),
    ("latency time_steps", lambda x: 300, ValueError, "`latency`.*300.*dtype uint8"),
    ("latency", lambda x: np.ma.masked_array(x), TypeError, "`latency` must be a plain array, got a masked array"),
    ("wave", lambda x: np.uint8(1), ValueError, r"`wave` must have axes \(T ...\), got shape \(\)"),
    ("wave", lambda x: [[0, 1]], TypeError, "`wave` must be an array, got list"),
    ("spiked", lambda x: x.astype(int), TypeError, "`spiked`.*dtype int"),
    ("weights", lambda x: x[0], ValueError, r"`weights`.*shape \(2, 3, 3\)"),
    ("weights", lambda x: x[:, :1], ValueError, "channels of `weights`, got 2"),
    ("weights", lambda x: np.tile(x, 2), ValueError, "`weights`.*6x5, got 3x6"),
    ("weights", lambda x: x[:0], ValueError, r"`weights` must not be empty, got shape \(0, 2, 3, 3\)"),
    ("weights", lambda x: x[:, :0], ValueError, r"`weights` must not be empty, got shape \(4, 0, 3, 3\)"),
    ("weights", lambda x: x[:, :, :0], ValueError, r"`weights` must not be empty, got shape \(4, 2, 0, 3\)"),
    ("rows", lambda x: x[:2], ValueError, r"`rows`.*`winners`, got \(2, 2, 3, 3\)"),
    ("potentials", lambda x: x[0], ValueError, r"`potentials`.*shape \(4, 4, 3\)"),
    ("threshold", lambda x: float("nan"), ValueError, "`threshold`.*got nan"),
    ("threshold", lambda x: np.ones(5, np.float32), ValueError, r"`threshold`.*shape \(5,\)"),
    ("spikes", lambda x: x.latency, TypeError, "`spikes`.* Spikes"),
    ("spikes", lambda x: Spikes(x.latency + 1, x.potential), ValueError, "`spikes.latency`.*got 6"),
    ("spikes", lambda x: Spikes(x.latency, x.latency), TypeError, "`spikes.potential`.*dtype uint8"),
    (
        "spikes",
        lambda x: jax.tree.map(lambda y: y[:0], x),
        ValueError,
        r"`spikes.latency` must not be empty.*\(0, 4, 3",
    ),
    ("spikes", lambda x: Spikes(x.latency, x.potential[:1]), ValueError, r"`spikes.potential`.*\(4, 4, 3\).*\(1, 4, 3"),
    ("spikes", lambda x: Spikes(*[x.latency] * 2, x.potential[0]), TypeError, "`spikes.potential`.*dtype uint8"),
    ("spikes", lambda x: Spikes(x.latency, x.potential, x.potential[0]), ValueError, r"`spikes.time`.*\(4, 3\)"),
    ("spikes", lambda x: Spikes(x.latency, x.potential * np.nan), ValueError, "`spikes.potential`.*got NaN"),
    ("spikes time_steps", lambda x: 256, ValueError, "`spikes.latency`.*256.*dtype uint8"),
    ("places", lambda x: jax.tree.map(lambda y: y[:, :0], x), ValueError, r"`spikes.latency` must not be empty"),
    ("places", lambda x: PositionSpikes(x.potential, x.latency, x.potential), TypeError, "`spikes.feature`.*float32"),
    ("places", lambda x: PositionSpikes(x.feature, x.latency[0], x.potential), ValueError, r"`spikes.latency`.*\(3,\)"),
    ("inhibited", lambda x: x[:3], ValueError, "`inhibited`.*got 3"),
    ("rates", lambda x: np.ones(3, np.float32), ValueError, r"`rates`.*shape \(2,\).*got \(3,\)"),
    ("rates", lambda x: x * 1j, TypeError, "`rates` must hold real numbers, got dtype complex64"),
    ("reward", lambda x: [0.1, -0.1], TypeError, "`reward` must be an array.*got list: write"),
    ("punish", lambda x: np.ones(3), ValueError, r"`punish` must have shape \(2,\) of \(a\+, a-\), got \(3,\)"),
    ("bounds", lambda x: (0.5, 0.5), ValueError, r"`bounds`.*got \(0.5, 0.5\)"),
    ("bounds", lambda x: (jnp.ones(()), np.zeros(())), ValueError, "`bounds`.*lower < upper"),
    ("bounds", lambda x: (None, 1.0), TypeError, r"`bounds` must be \(lower, upper\), two numbers.*None"),
    ("bounds", lambda x: (np.zeros(1), np.ones(1)), TypeError, r"`bounds` must be \(lower, upper\), two numbers"),
    ("bounds", lambda x: (0.0, 1e300), ValueError, "`bounds` must fit into float32, got 1e\\+300"),
    ("levels", lambda x: x[:0], ValueError, r"`levels` must not be empty"),
    ("levels", lambda x: x[::-1], ValueError, r"`levels` must fall from step to step"),
    ("radius", lambda x: jnp.float32(1.5), TypeError, "`radius` must be an integer or an array"),
    ("radius", lambda x: np.asarray(-1), ValueError, "`radius` must be at least 0, got -1"),
    ("per_class", lambda x: 5, ValueError, "`per_class` must be at most 4, the neurons of `time`, got 5"),
    ("time_steps", lambda x: 0, ValueError, "`time_steps`.*got 0"),
    ("padding", lambda x: -1, ValueError, "`padding`.*got -1"),
    ("window", lambda x: (2, 8), ValueError, "`window`.*got 2x8"),
    ("k", lambda x: 0, ValueError, "`k`.*got 0"),
    ("k", lambda x: np.asarray(3), TypeError, "`k` must be a plain integer, got an array"),
    ("stride", lambda x: np.asarray(1), TypeError, "`stride` must be a plain integer, got an array"),
    ("time_steps", lambda x: np.asarray(T), TypeError, "`time_steps` must be a plain integer, got an array"),
]
ANY = {
    ("latency_to_wave", WRONG[0]),
    ("remaining_steps", WRONG[0]),
    ("latencies, many steps", WRONG[1]),
    ("k_winners of places", WRONG[0]),
    *(("set_rows", case) for case in WRONG),
}
"""Kernels that take other shapes or latencies too."""


@pytest.mark.parametrize("name", KERNELS)
def test_wrong_arguments_are_refused(name):
    kernel, _, settings = KERNELS[name]
    parameters = inspect.signature(kernel).parameters
    for case in WRONG:
        (*others, argument), wrong, error, message = case[0].split(), *case[1:]
        if not parameters.keys() >= {*others, argument} or (name, case) in ANY:
            continue
        given = settings | arguments_of(name, 0)
        with pytest.raises(error, match=message):
            kernel(**given | {argument: wrong(given.get(argument))})


@pytest.mark.filterwarnings("error")
def test_rounded_values_add_up_exactly_and_are_close():
    """Zeros remain as they are, and values that are not finite are refused."""
    values = np.float32(RNG.uniform(0, 1, (4, 300)))
    rounded = exact.round_for_exact_sums(values)
    assert rounded.dtype == np.float32
    np.testing.assert_allclose(rounded, values, rtol=0, atol=values.sum(axis=1).max() * 2.0**-23)
    np.testing.assert_array_equal(exact.round_for_exact_sums(rounded), rounded)
    shuffled = RNG.permuted(rounded, axis=1)
    np.testing.assert_array_equal(np.cumsum(shuffled, axis=1, dtype=np.float32)[:, -1], np.float64(rounded).sum(axis=1))
    zeros = np.zeros((5, 40), np.float32)
    np.testing.assert_array_equal(exact.round_for_exact_sums(zeros), zeros)
    np.testing.assert_array_equal(jax.jit(exact.split, static_argnums=(1, 2))(zeros, 12, 2), [zeros, zeros])
    with pytest.raises(ValueError, match="must be finite"):
        exact.round_for_exact_sums(np.float32([[1, np.inf]]))
