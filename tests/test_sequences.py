"""Kernels that learn from sequences, and decisions on many stimuli: as a judge has them, on both back ends.

Where weights and rates are multiples of a power of two nothing rounds, and all ways to learn agree bit for bit.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import judge
import numpy as np
import pytest
from conftest import assert_close

from snnjax import kernels
from snnjax.core.errors import InputError, InputTypeError

T = 15
RNG = np.random.default_rng(0)
BACKENDS = "xla", "native"
LAYER = dict(time_steps=T)


def stimuli(count: int, *shape: int) -> np.ndarray:
    """Latencies (S, C, H, W), of which some are silent."""
    latencies = RNG.integers(0, 3 * T, (count, *shape)).clip(max=T).astype(np.uint8)
    latencies[4::7] = T
    return latencies


def weights_of(*shape: int) -> np.ndarray:
    """Multiples of 1/64, a few of them above 1."""
    return np.float32(RNG.integers(32, 70, shape) / 64)


def pairs(*numbers: Any) -> list[tuple[int, int]]:
    return [tuple(np.broadcast_to(number, 2).tolist()) for number in numbers]


IMAGES = stimuli(23, 2, 8, 8)
LABELS = RNG.integers(-1, 3, 23, np.int32)
LEARNS = RNG.random(23) < 0.8
EACH = np.float32(np.stack([2.0 ** RNG.integers(-6, -2, 23), -(2.0 ** RNG.integers(-7, -4, 23))], axis=1))
"""Rates of each stimulus."""


# STDP

QUICK = np.float32([1 / 16, -1 / 32])
EXACT = dict(rates=QUICK, threshold=3.0, k=2, radius=2, stabiliser=False)
STDP = {
    "exact": EXACT,
    "stabiliser": EXACT | dict(stabiliser=True, rates=np.float32([0.04, -0.03])),
    "strided, all features win": EXACT | dict(padding=1, stride=(2, 1), k=4, radius=0, bounds=(0.25, 0.875)),
    "signed": EXACT | dict(threshold=1.0, bounds=(-1.0, 1.0)),
    "thresholds of features": EXACT | dict(threshold=np.float32([3, 5, 2, 4]), padding=(1, 0)),
    "no threshold": EXACT | dict(threshold=None),
    "unbounded": EXACT | dict(bounds=(0.0, np.inf)),
    "rates of each": EXACT | dict(rates=EACH),
    "batches of 3": EXACT | dict(update_batch=3, rates=EACH),
    "batches of 16 and stabiliser": EXACT | dict(update_batch=16, stabiliser=True, rates=4 * QUICK),
    "many features": EXACT | dict(threshold=8.0, k=1),
}
LARGE = stimuli(12, 32, 3, 4)
"""Of so many channels that compiled kernels add up integers."""


def given_stdp(name: str) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Stimuli, weights and settings of a case."""
    large = name == "many features"
    shape = (64, 32, 2, 2) if large else (4, 2, 3, 3)
    return LARGE if large else IMAGES, np.float32(np.random.default_rng(1).integers(32, 70, shape) / 64), STDP[name]


def judged_stdp(
    weights: np.ndarray,
    latencies: np.ndarray,
    rates: np.ndarray,
    learns: np.ndarray,
    *,
    threshold: Any,
    k: int,
    radius: int,
    stabiliser: bool,
    bounds: tuple[float, float] = (0.0, 1.0),
    stride: Any = 1,
    padding: Any = 0,
    update_batch: int = 1,
) -> tuple[np.ndarray, list[list[int]]]:
    """The weights, and the features that won, stimulus after stimulus."""
    stride, padding = pairs(stride, padding)
    rates = np.broadcast_to(rates, (len(latencies), 2))
    weights = np.clip(np.float64(weights), *bounds)
    shown, features = weights, []
    for number, latency in enumerate(latencies):
        shown = shown if number % update_batch else weights
        padded = judge.pad(latency, padding, T)
        fired, potential = judge.fire(judge.potentials(padded, shown, T, stride), threshold)
        left = judge.pointwise_inhibition(fired, potential, T)
        winners = judge.k_winners(*left, k, radius, T) if learns[number] else []
        spikes = [(winner, fired[winner]) for winner in winners]
        weights = judge.stdp(weights, padded, spikes, rates[number], T, bounds, stabiliser, stride)
        features.append([winner[0] for winner in winners] + [-1] * (k - len(winners)))
    return weights, features


@pytest.mark.parametrize("name", STDP)
def test_stdp_is_that_of_the_judge(name, compiler):
    """Weights are clipped before the first stimulus; those that are left out, and silent ones, change nothing."""
    latencies, weights, settings = given_stdp(name)
    learns = LEARNS[: len(latencies)]
    given = weights, latencies, settings["rates"], learns
    expected, features = judged_stdp(*given, **{key: x for key, x in settings.items() if key != "rates"})
    exact = not settings["stabiliser"]
    for backend in BACKENDS:
        with kernels.use_backend(backend):
            found = kernels.learn_stdp(weights, latencies, learns=learns, **settings, **LAYER)
        assert found.feature.tolist() == features
        assert found.weights.dtype == np.float32
        np.testing.assert_allclose(found.weights, expected, rtol=0 if exact else 1e-4, atol=0 if exact else 1e-6)
    moved = np.abs(expected - weights.clip(*settings.get("bounds", (0, 1))))
    assert moved.max() > 0.05, "hardly anything was learned"
    assert sum(feature[0] < 0 for feature in features) > np.sum(~learns), "no stimulus is silent"
    if "update_batch" in settings:
        alone = {key: x for key, x in settings.items() if key not in ("rates", "update_batch")}
        assert judged_stdp(*given, **alone)[1] != features, "the case tells nothing"


@pytest.mark.parametrize("backend", BACKENDS)
def test_stdp_is_a_loop_of_winners_and_stdp(backend, compiler):
    """To the last bit where nothing rounds, otherwise up to rounding."""
    _, weights, settings = given_stdp("exact")
    for stabiliser, padding in ((False, 0), (True, 1)):
        wta = {name: settings[name] for name in ("threshold", "k", "radius")} | dict(padding=padding)

        @jax.jit
        def learn_next(weights, latency, wta=wta, stabiliser=stabiliser, padding=padding):
            won = kernels.winners(latency, weights, **wta, **LAYER)
            update = functools.partial(kernels.stdp, stabiliser=stabiliser, padding=padding, **LAYER)
            return update(weights, latency, won, settings["rates"]), won.feature

        with kernels.use_backend(backend):
            found = kernels.learn_stdp(weights, IMAGES, settings["rates"], stabiliser=stabiliser, **wta, **LAYER)
            learned, features = jax.lax.scan(learn_next, weights.clip(0, 1), IMAGES)
        np.testing.assert_array_equal(found.feature, features)
        np.testing.assert_allclose(found.weights, learned, rtol=0, atol=1e-6 * stabiliser)


# R-STDP

REWARD = dict(reward=np.float32([1 / 16, -1 / 32]), punish=np.float32([-1 / 16, 1 / 64]), bounds=(0.25, 0.75))
REWARDS = {
    "exact": REWARD,
    "stabiliser": REWARD | dict(stabiliser=True, padding=1),
    "strided, some kept": REWARD | dict(stride=(2, 1), kept=np.arange(6) % 4 > 0, bounds=(-1.0, 1.0)),
    "one feature of each class": REWARD | dict(classes=6, padding=(0, 1)),
    "batches of 5": REWARD | dict(update_batch=5, bounds=(-2.0, 2.0)),
    "unbounded": REWARD | dict(bounds=(-np.inf, np.inf)),
    "unbounded above": REWARD | dict(bounds=(0.25, np.inf)),
}


def judged_reward(
    weights: np.ndarray,
    latencies: np.ndarray,
    labels: np.ndarray,
    learns: np.ndarray,
    *,
    reward: np.ndarray,
    punish: np.ndarray,
    bounds: tuple[float, float],
    classes: int = 3,
    stabiliser: bool = False,
    kept: Any = True,
    stride: Any = 1,
    padding: Any = 0,
    update_batch: int = 1,
) -> tuple[np.ndarray, list[int], list[int]]:
    """The weights, votes, and the features that learned, stimulus after stimulus."""
    stride, padding = pairs(stride, padding)
    weights = np.clip(np.float64(weights), *bounds)
    kept = np.broadcast_to(kept, len(weights))[:, None, None]
    shown, votes, features = weights, [], []
    for number, (latency, label) in enumerate(zip(latencies, labels, strict=True)):
        shown = shown if number % update_batch else weights
        padded = judge.pad(latency, padding, T)
        potential = judge.potentials(padded // T, shown, 1, stride) * kept
        winners = judge.k_winners(*judge.fire(potential, None), 1, 0, 1) if learns[number] else []
        votes.append(winners[0][0] * classes // len(weights) if winners else -1)
        if label < 0:
            winners = []
        features.append(winners[0][0] if winners else -1)
        rates = reward if votes[-1] == label else punish
        weights = judge.stdp(
            weights, padded, [(winner, T - 1) for winner in winners], rates, T, bounds, stabiliser, stride
        )
    return weights, votes, features


@pytest.mark.parametrize("name", REWARDS)
def test_reward_is_that_of_the_judge(name, compiler):
    settings = REWARDS[name]
    weights = np.float32(np.random.default_rng(1).integers(10, 60, (6, 2, 6, 6)) / 64)
    expected, votes, features = judged_reward(weights, IMAGES, LABELS, LEARNS, **settings)
    exact = "stabiliser" not in settings
    for backend in BACKENDS:
        with kernels.use_backend(backend):
            found = kernels.learn_reward(
                weights, IMAGES, LABELS, learns=LEARNS, **(dict(classes=3) | settings), **LAYER
            )
        assert found.vote.tolist() == votes
        assert found.feature.tolist() == features
        np.testing.assert_allclose(found.weights, expected, rtol=0 if exact else 1e-4, atol=0 if exact else 1e-6)
    outcomes = {bool(vote == label) for vote, label in zip(votes, LABELS, strict=True) if label >= 0 and vote >= 0}
    assert outcomes == {True, False}, "the case tells nothing"
    assert np.abs(expected - weights).max() > 0.1
    assert len({*votes} - {-1}) > 1
    if "update_batch" in settings:
        alone = {key: x for key, x in settings.items() if key != "update_batch"}
        assert judged_reward(weights, IMAGES, LABELS, LEARNS, **alone)[1] != votes


# Networks and sequences side by side, derivatives, refusals

SHORT = stimuli(2 * 9, 2, 5, 6).reshape(2, 9, 2, 5, 6)
TWO = np.float32(RNG.integers(16, 70, (2, 6, 2, 3, 3)) / 64)
MASKS = RNG.random((2, 9)) < 0.8
TEACH = RNG.integers(-1, 3, (2, 9), np.int32)


def by_stdp(weights, latencies, learns, labels, rates, threshold):
    rule = dict(threshold=threshold, k=2, radius=1, bounds=(0.0, threshold / 2), padding=1)
    return kernels.learn_stdp(weights, latencies, rates, learns, **rule, **LAYER)


def by_stdp_of_each(weights, latencies, learns, labels, rates, threshold):
    rule = dict(threshold=jnp.stack([threshold] * 6), k=2, radius=1, stabiliser=False)
    return kernels.learn_stdp(weights, latencies, jnp.stack([rates] * 9), learns, **rule, **LAYER)


def by_reward(weights, latencies, learns, labels, rates, threshold):
    return kernels.learn_reward(weights, latencies, labels, rates, -rates, learns, classes=3, padding=1, **LAYER)


LEARNING = dict(stdp=by_stdp, stdp_of_each=by_stdp_of_each, reward=by_reward)
NUMBERS = np.float32([[1 / 16, -1 / 32], [1 / 8, -1 / 64]]), np.float32([2, 3])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", LEARNING)
def test_networks_and_sequences_side_by_side_are_a_loop(name, backend, contract, compiler):
    """In one call; other numbers compile nothing."""
    learn = jax.jit(LEARNING[name])
    with kernels.use_backend(backend):
        contract(learn, (TWO, SHORT, MASKS, TEACH, *NUMBERS))
        rest = [x[0] for x in (MASKS, TEACH, *NUMBERS)]
        both = jax.vmap(jax.vmap(lambda weights, latencies: learn(weights, latencies, *rest), (None, 0)), (0, None))
        loop = [[learn(weights, latencies, *rest) for latencies in SHORT] for weights in TWO]
        rows = [jax.tree.map(lambda *leaves: np.stack(leaves), *row) for row in loop]
        assert_close(jax.jit(both)(TWO, SHORT), jax.tree.map(lambda *leaves: np.stack(leaves), *rows))
        called = jax.jit(both).lower(TWO, SHORT).as_text().count("@snnjax_learn_")
        assert called == (backend == "native")


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNING)
def test_derivatives_are_those_of_xla(name, compiler):
    def total(weights, rates, learn=LEARNING[name]):
        learned = learn(weights, SHORT[0], MASKS[0], TEACH[0], rates, np.float32(2)).weights
        return jnp.sum(learned * jnp.arange(learned.size).reshape(learned.shape))

    def derivatives(backend):
        with kernels.use_backend(backend):
            return jax.grad(total, argnums=(0, 1))(TWO[0], NUMBERS[0][0])

    found = derivatives("native")
    assert_close(found, derivatives("xla"))
    assert all(np.any(each != 0) for each in found)


REFUSED = [
    ("latencies", dict(latencies=SHORT[0, 0]), r"`latencies` must have axes \(S C H W\)"),
    ("channels", dict(latencies=SHORT[0][:, :1]), "`latencies`"),
    (
        "too late",
        dict(latencies=SHORT[0] + np.uint8(1)),
        "`latencies` must hold time steps 0..14, or 15 if silent, got 16",
    ),
    ("mask", dict(learns=MASKS[0, 1:]), r"`learns` must have shape \(9,\)"),
    ("indices", dict(learns=np.arange(9)), "`learns` must hold booleans"),
    ("update_batch", dict(update_batch=0), "`update_batch` must be at least 1, got 0"),
    ("rates", dict(rates=np.zeros((8, 2), np.float32)), r"`rates` must have shape \(9, 2\)"),
    ("k", dict(k=0), "`k`"),
    ("threshold", dict(threshold=np.zeros(5, np.float32)), "`threshold`"),
    ("weights", dict(weights=np.zeros((0, 2, 3, 3), np.float32)), "`weights`"),
    ("classes", dict(classes=4), "`classes` must divide the 6 features of `weights`, got 4"),
    ("labels", dict(labels=TEACH[0] + 1), r"`labels` must lie in 0\.\.2, or be -1, got 0\.\.3"),
    ("no labels", dict(labels=np.zeros(9, np.float32)), "`labels` must hold integers"),
    ("kept", dict(kept=np.ones(5, bool)), r"`kept` must have shape \(6,\)"),
    ("reward", dict(reward=np.zeros(3, np.float32)), "`reward`"),
]


@pytest.mark.parametrize(("changes", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_arguments_that_do_not_fit_are_named(changes, message):
    stdp = dict(weights=TWO[0], latencies=SHORT[0], rates=NUMBERS[0][0], threshold=2.0, k=1, radius=0)
    reward = dict(weights=TWO[0], latencies=SHORT[0], labels=TEACH[0].clip(-1, 2), reward=NUMBERS[0][0])
    reward |= dict(punish=NUMBERS[0][0], classes=3)
    by_label = {"classes", "labels", "kept", "reward"} & changes.keys()
    learn, given = (kernels.learn_reward, reward) if by_label else (kernels.learn_stdp, stdp)
    with pytest.raises((InputError, InputTypeError), match=message):
        learn(**given | changes, **LAYER)


# What decides

DEEP = dict(weights=weights_of(64, 2, 3, 2) - np.float32(0.75), latencies=IMAGES[:6])
PLACES = [dict(), dict(padding=(1, 2)), dict(stride=(2, 1), padding=1)]
POOLS = [None, kernels.Pooling(2), kernels.Pooling(3, 2, (0, 1))]
LIMITS = [0.5, None, np.float32(RNG.integers(-8, 16, 64)) / 4]


@pytest.mark.parametrize(("place", "pool", "threshold"), list(zip(PLACES, POOLS, LIMITS, strict=True)))
def test_who_fires_at_the_last_step_is_that_of_the_judge(place, pool, threshold, compiler):
    """Pooled where windows overlap too, of thresholds that are hit exactly."""
    weights, latencies = DEEP["weights"], DEEP["latencies"]
    stride, padding = pairs(place.get("stride", 1), place.get("padding", 0))
    expected = []
    for latency in latencies:
        potential = judge.potentials(judge.pad(latency, padding, T), weights, T, stride)[-1:]
        fired = judge.fire(potential, threshold)[0] * 1 + T - 1
        if pool:
            window, step, margin = pairs(pool.window, pool.stride or pool.window, pool.padding)
            fired = judge.pool(fired, window, T, step, margin)
        expected.append(fired)
    for backend in BACKENDS:
        with kernels.use_backend(backend):
            found = kernels.final_latencies(latencies, weights, threshold=threshold, pool=pool, **place, **LAYER)
        np.testing.assert_array_equal(found, np.uint8(expected), strict=True)
    assert 0.1 < np.mean(np.array(expected) < T) < 0.9


@pytest.mark.parametrize("place", PLACES)
def test_the_strongest_of_each_class_is_that_of_the_judge(place, compiler):
    weights, latencies = DEEP["weights"], DEEP["latencies"]
    stride, padding = pairs(place.get("stride", 1), place.get("padding", 0))
    movies = [judge.potentials(judge.pad(latency, padding, T), weights, T, stride) for latency in latencies]
    expected = np.stack([movie[-1].reshape(8, -1).max(axis=1) for movie in movies])
    for backend in BACKENDS:
        with kernels.use_backend(backend):
            find = functools.partial(kernels.strongest_of_classes, latencies, weights, classes=8, **place, **LAYER)
            np.testing.assert_array_equal(find(), np.float32(expected), strict=True)
            fewer = find(only_largest=True)
        np.testing.assert_array_equal(fewer.argmax(axis=1), expected.argmax(axis=1))
        np.testing.assert_array_equal(fewer.max(axis=1), expected.max(axis=1))
        assert np.all(fewer <= expected)


@pytest.mark.parametrize("lowest", [-32, 0])
def test_winners_by_xla_are_those_of_the_three_kernels(lowest):
    """The search that stops early, for weights of at least 0, and the whole potentials below."""
    weights = np.float32(np.random.default_rng(2).integers(lowest, 64, (5, 2, 3, 3)) / 64)
    latencies, settings = IMAGES[:6], dict(k=3, radius=1, **LAYER)
    for threshold in (2.0, np.float32([1, -0.25, 2, 4, 0.5]), None):
        layer = dict(threshold=threshold, stride=(1, 2), padding=(0, 1))

        def composed(latency, weights=weights, layer=layer):
            spikes = kernels.integrate_and_fire(latency, weights, **layer, **LAYER)
            return kernels.k_winners(kernels.strongest_feature(spikes, **LAYER), **settings)

        with kernels.use_backend("xla"):
            found = jax.vmap(lambda latency, layer=layer: kernels.winners(latency, weights, **layer, **settings))(
                latencies
            )
            expected = jax.vmap(composed)(latencies)
        np.testing.assert_array_equal(found.feature, expected.feature)
        won = found.feature >= 0
        jax.tree.map(lambda x, y, won=won: np.testing.assert_array_equal(x[won], y[won]), found, expected)
        assert won.any()
