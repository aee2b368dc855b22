"""Compiled kernels of whole slices: NumPy judges them, exactly where floats hold all sums exactly."""

import dataclasses

import jax
import numpy as np
import pytest

from snnjax import RSTDP, STDP, WTA, Conv, Network, Settings, Trainer, stage
from snnjax.core.errors import InputError, InputTypeError
from snnjax.data import digits
from snnjax.kernels.native import Pooling, blocks
from snnjax.layers.layer_kernels import TAPS
from snnjax.networks import Majority
from snnjax.steps import deciding

pytestmark = pytest.mark.usefixtures("compiler")
T = 15
CLASSES = 5
IMAGES = 12


def latencies_of(inputs: tuple[int, ...], rng: np.random.Generator, images: int = IMAGES) -> np.ndarray:
    """Images from empty to full."""
    share = np.linspace(0, 1, images)[:, None, None, None]
    size = (images, *inputs)
    return np.where(rng.random(size) < share, rng.integers(0, T, size), T).astype(np.uint8)


def exact_weights(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Multiples of 1/64, few of them, so that neurons tie."""
    return (rng.integers(0, 65, shape) / 64).astype(np.float32)


def as_taps(weights: np.ndarray) -> np.ndarray:
    """From (F, C, kh, kw) to (kh, kw, F, C)."""
    return np.ascontiguousarray(weights.transpose(2, 3, 0, 1))


def fields(maps: np.ndarray, kernel: tuple[int, int], padding=0, stride=1, fill=0) -> np.ndarray:
    """The part of maps (..., C, H, W) that each position sees: (..., C, H', W', kh, kw)."""
    (above, left), (down, right) = (each if isinstance(each, tuple) else (each, each) for each in (padding, stride))
    margins = [(0, 0)] * (maps.ndim - 2) + [(above, above), (left, left)]
    seen = np.pad(maps, margins, constant_values=fill)
    return np.lib.stride_tricks.sliding_window_view(seen, kernel, (-2, -1))[..., ::down, ::right, :, :]


def potentials(spiked: np.ndarray, weights: np.ndarray, **place) -> np.ndarray:
    """Of (S, C, H, W) bool: (S, F, H', W') float64."""
    seen = fields(spiked, weights.shape[2:], **place)
    return np.einsum("schwij,fcij->sfhw", seen, weights.astype(np.float64), optimize=True)


def winners(latency: np.ndarray, weights: np.ndarray, threshold: float, k: int, radius: int, **place) -> list:
    """Steps and places (feature, row, column) of up to k winners, the earliest first, then the strongest."""
    waves = potentials(np.stack([latency <= step for step in range(T)]), weights, **place)
    above = waves > threshold
    step = np.where(above.any(0), above.argmax(0), T)
    potential = np.take_along_axis(waves, step.clip(max=T - 1)[None], 0)[0]
    best = np.lexsort((-potential, step), axis=0)[:1]  # of each position, the lowest feature among equals
    left = np.full(step.shape, False)
    np.put_along_axis(left, best, True, 0)
    left &= step < T
    found = []
    while left.any() and len(found) < k:
        order = np.lexsort((-potential.ravel(), step.ravel(), ~left.ravel()))
        feature, row, column = (int(x) for x in np.unravel_index(order[0], step.shape))
        found.append((int(step[feature, row, column]), (feature, row, column)))
        left[feature] = False
        if radius:
            left[:, max(row - radius, 0) : row + radius + 1, max(column - radius, 0) : column + radius + 1] = False
    return found


def learned(weights, latency, won, rates, bounds, stabiliser=False, **place) -> np.ndarray:
    """STDP of winners in float32; if there are any, all weights are clipped."""
    seen, weights = fields(latency, weights.shape[2:], fill=T, **place), weights.copy()
    for step, (feature, row, column) in won:
        early = seen[:, row, column]
        change = np.where((early <= step) & (early < T), *np.float32(rates))
        if stabiliser:
            change = change * (weights[feature] - np.float32(bounds[0])) * (np.float32(bounds[1]) - weights[feature])
        weights[feature] += change
    return weights.clip(*np.float32(bounds)) if won else weights


SHAPES = {
    "many inputs": ((150, 7, 7), (70, 3, 3), dict(padding=1)),
    "few channels": ((5, 9, 8), (65, 3, 2), dict(padding=(1, 0), stride=(2, 3))),
    "one feature": ((33, 4, 4), (1, 2, 2), dict()),
    "one position": ((40, 3, 3), (130, 3, 3), dict()),
}


def made(name: str) -> tuple[np.ndarray, np.ndarray, dict]:
    """Latencies, weights (F, C, kh, kw), and where the layer lies."""
    rng, (inputs, (features, *kernel), place) = np.random.default_rng(8), SHAPES[name]
    return latencies_of(inputs, rng), exact_weights((features, inputs[0], *kernel), rng), place


@pytest.mark.parametrize(
    ("name", "share", "k", "radius", "bounds"),
    [
        ("many inputs", 0.05, 5, 1, (0.25, 0.75)),
        ("many inputs", -0.25, 4, 1, (0.0, 1.0)),
        ("few channels", 0.225, 2, 2, (0.0, 1.0)),
        ("few channels", 0.0, 3, 0, (0.25, 0.75)),
        ("one feature", 0.05, 5, 1, (0.0, 1.0)),
        ("one position", 0.225, 2, 2, (0.25, 0.75)),
    ],
)
def test_stdp_is_that_of_the_judge(name, share, k, radius, bounds):
    """Weights outside the bounds are drawn in by the first update; below a threshold of 0 all fire at once."""
    latencies, weights, place = made(name)
    rule = dict(threshold=share * weights[0].size, k=k, radius=radius)
    rates = np.tile(np.float32([[1 / 64, -1 / 128], [1 / 32, -1 / 64]]), (6, 1))
    given = as_taps(weights), latencies, np.int32([1, 11]), rates
    found = blocks.learn_by_stdp(*given, **rule, time_steps=T, bounds=bounds, stabiliser=False, **place)
    features = np.full((12, k), -1)
    for at in range(1, 11):
        won = winners(latencies[at], weights, **rule, **place)
        features[at, : len(won)] = [place[0] for _, place in won]
        weights = learned(weights, latencies[at], won, rates[at], bounds, **place)
    np.testing.assert_array_equal(found.feature, features)
    np.testing.assert_array_equal(found.weights, as_taps(weights))
    assert (features >= 0).any()


def test_a_neuron_that_has_fired_is_no_longer_looked_at():
    """It has crossed its threshold, whatever negative weights add later."""
    latency = np.uint8([0, 1, 2]).reshape(1, 3, 1, 1)
    weights = np.float32([[1.0, -2.0, 0.5], [0.25, 0.25, 0.25]])[:, :, None, None]
    rule = dict(threshold=0.5, k=2, radius=0, time_steps=T, bounds=(-2.0, 2.0), stabiliser=False)
    found = blocks.learn_by_stdp(as_taps(weights), latency, np.int32([0, 1]), np.float32([[0.5, -0.5]]), **rule)
    np.testing.assert_array_equal(found.feature, [[0, -1]])
    np.testing.assert_array_equal(found.weights[0, 0], [[1.5, -2.0, 0.0], [0.25, 0.25, 0.25]])


def test_one_time_step():
    latencies, weights, place = made("many inputs")
    latencies, rates = np.minimum(latencies, 1), np.ones((12, 2), np.float32)
    rule = dict(threshold=10.0, k=2, radius=0, time_steps=1)
    found = blocks.learn_by_stdp(as_taps(weights), latencies, np.int32([0, 12]), rates, **rule, **place)
    np.testing.assert_array_equal(
        np.asarray(found.feature) >= 0, [[at > 1] * 2 for at in range(12)], "two are too dark"
    )


@pytest.mark.parametrize(
    ("name", "share", "pool"),
    [
        ("many inputs", -0.1, Pooling()),
        ("many inputs", 0.2, Pooling((3, 2), (2, 1), 1)),
        ("few channels", 0.4, Pooling(2)),
        ("few channels", 0.0, Pooling()),
    ],
)
def test_who_fires_is_that_of_the_judge(name, share, pool):
    """Neurons whose potential is exactly the threshold stay silent."""
    latencies, weights, place = made(name)
    threshold = float(np.floor(share * weights[0].size))
    found = blocks.who_fires(latencies, as_taps(weights), threshold=threshold, time_steps=T, **place, pool=pool)
    fires = potentials(latencies < T, weights, **place) > threshold
    stride = pool.window if pool.stride is None else pool.stride
    window = (pool.window,) * 2 if isinstance(pool.window, int) else pool.window
    pooled = fields(fires, window, pool.padding, stride).any((-2, -1))
    np.testing.assert_array_equal(found, np.where(pooled, T - 1, T))
    assert 0 < fires.mean() < 1 or share < 0


def test_weights_that_are_no_numbers_fire_nowhere():
    """And touch no memory but their own."""
    latencies, weights = np.zeros((3, 4, 2, 2), np.uint8), np.full((2, 2, 64, 4), np.nan, np.float32)
    assert not np.nan_to_num(blocks.strongest_of_classes(latencies, weights, classes=64, time_steps=T)).any()
    assert (np.asarray(blocks.who_fires(latencies, weights, threshold=1.0, time_steps=T)) == T).all()
    rule = dict(threshold=1.0, k=2, radius=0, time_steps=T)
    found = blocks.learn_by_stdp(weights, latencies, np.int32([0, 3]), np.ones((3, 2), np.float32), **rule)
    assert (np.asarray(found.feature) == -1).all()


# Deciding layers

DECIDING = {
    "as mozafari2018": ((250, 4, 4), (200, 5, 5), dict(padding=2)),
    "one neuron a feature": ((1200, 1, 3), (10, 1, 3), dict()),
    "strides": ((7, 9, 8), (65, 3, 2), dict(padding=(1, 0), stride=(2, 3))),
    "many features": ((3, 5, 5), (500, 2, 2), dict()),
    "sums beyond 16 bits": ((1500, 2, 2), (70, 2, 2), dict(padding=1)),
}


def deciding_weights(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """(F, C, kh, kw): anything in 0..1, near the bounds, all near 0.8 as before learning, or of equal features."""
    made = {
        "random": lambda: rng.random(shape),
        "learned": lambda: np.clip(rng.choice([0.2, 0.8], shape) + rng.normal(0, 0.02, shape), 0.2, 0.8),
        "crowded": lambda: np.clip(rng.normal(0.8, 0.05, shape), 0, 1),
        "alike": lambda: rng.choice([0.25, 0.5], (1, *shape[1:])).repeat(shape[0], 0),
        "negative": lambda: rng.uniform(-1, 0.5, shape),
    }
    return made[kind]().astype(np.float32)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("as mozafari2018", "crowded"),
        ("one neuron a feature", "learned"),
        ("strides", "negative"),
        ("many features", "alike"),
        ("sums beyond 16 bits", "random"),
        ("sums beyond 16 bits", "negative"),
    ],
)
def test_potentials_and_votes_are_exact(name, kind):
    """The winner is the strongest neuron of all, but for ties of floats."""
    rng, (inputs, (features, *kernel), place) = np.random.default_rng(3), DECIDING[name]
    weights, images = deciding_weights(kind, (features, inputs[0], *kernel), rng), latencies_of(inputs, rng)
    how = dict(classes=CLASSES, time_steps=T)
    exact = potentials(images < T, weights, **place).reshape(IMAGES, features, -1).max(2)
    near = 1e-6 * np.sum(images < T) / IMAGES + 1e-4
    strongest = exact.reshape(IMAGES, CLASSES, -1).max(2)
    found = blocks.strongest_of_classes(images, as_taps(weights), **how, **place)
    np.testing.assert_allclose(found, strongest, rtol=1e-5, atol=near)
    rates, bounds = np.zeros((2, 2), np.float32), (float(weights.min()), float(weights.max()))
    layer = blocks.Layer(as_taps(weights), rates, bounds, False, **place)
    result = blocks.learn_by_reward(layer, images, np.zeros(IMAGES, np.int32), np.int32([2, 11]), **how)
    np.testing.assert_array_equal(result.weights, layer.weights)
    shown = (np.arange(IMAGES) >= 2) & (np.arange(IMAGES) < 11) & (exact.max(1) > 0)
    winner, vote = np.asarray(result.feature), np.asarray(result.vote)
    np.testing.assert_array_equal(winner >= 0, shown)
    np.testing.assert_array_equal(vote, np.where(shown, winner // (features // CLASSES), -1))
    assert (exact[shown, winner[shown]] >= exact[shown].max(1) - near).all()
    assert kind != "alike" or not winner[shown].any(), "of equal ones the lowest wins"
    only = np.asarray(blocks.strongest_of_classes(images, as_taps(weights), winner_only=True, **how, **place))
    np.testing.assert_array_equal(only[shown].argmax(1), vote[shown])
    assert ((only > 0).sum(1) == (exact.max(1) > 0)).all()


@pytest.mark.parametrize(
    ("name", "stabiliser", "dropped", "kind"),
    [
        ("as mozafari2018", False, 0.3, "learned"),
        ("strides", True, 0.3, "learned"),
        ("one neuron a feature", False, 0.0, "learned"),
        ("strides", False, 0.0, "random"),
    ],
)
def test_learning_by_reward_is_that_of_the_judge(name, stabiliser, dropped, kind):
    """Image by image, with rates large enough that integers and floats would part if they were not kept together."""
    rng, (inputs, (features, *kernel), place) = np.random.default_rng(4), DECIDING[name]
    bounds, shape = (0.2, 0.8), (features, inputs[0], *kernel)
    weights, images = deciding_weights(kind, shape, rng), latencies_of(inputs, rng, 40)
    labels, kept = rng.integers(-1, CLASSES, 40).astype(np.int32), rng.random(features) >= dropped
    rates = np.float32([[0.3, -0.2], [-0.25, 0.125]])
    layer = blocks.Layer(as_taps(weights), rates, bounds, stabiliser, **place)
    how = dict(classes=CLASSES, time_steps=T, kept=kept if dropped else None)
    found = blocks.learn_by_reward(layer, images, labels, np.int32([0, 40]), **how)
    for at, image in enumerate(images):
        potential = np.where(kept[:, None, None], potentials(image[None] < T, weights, **place)[0], -np.inf)
        winner = np.unravel_index(potential.argmax(), potential.shape)
        vote = winner[0] // (features // CLASSES) if potential.max() > 0 else -1
        taught = vote >= 0 and labels[at] >= 0
        assert (found.vote[at], found.feature[at]) == (vote, winner[0] if taught else -1), f"image {at}"
        won = [(T - 1, winner)] if taught else []
        weights = learned(weights, image, won, rates[int(vote != labels[at])], bounds, stabiliser, **place)
    np.testing.assert_allclose(found.weights, as_taps(weights), rtol=0, atol=1e-6 if stabiliser else 0)


def test_features_that_are_dropped_are_silent():
    """As many as are left win; none at all if all are dropped."""
    rng = np.random.default_rng(6)
    weights, images = rng.random((3, 3, 10, 4)).astype(np.float32), latencies_of((4, 6, 6), rng)
    layer = blocks.Layer(weights, np.ones((2, 2), np.float32), (0.0, 1.0), False)
    for kept, expected in ((np.zeros(10, bool), -1), (np.arange(10) == 7, 7)):
        given = layer, images, np.zeros(IMAGES, np.int32), np.int32([-1, 99])
        found = blocks.learn_by_reward(*given, classes=5, time_steps=T, kept=kept)
        assert {*found.feature.tolist()[:-1]} <= {expected, -1}
        assert found.feature[-1] == expected
        assert np.array_equal(found.weights, weights) == (expected == -1)


def test_it_is_the_same_under_jit_and_vmap():
    rng = np.random.default_rng(5)
    weights = np.stack([as_taps(deciding_weights(kind, (10, 4, 3, 3), rng)) for kind in ("random", "learned")])
    images, how = latencies_of((4, 6, 6), rng), dict(classes=CLASSES, time_steps=T)
    each = [blocks.strongest_of_classes(images, one, **how) for one in weights]
    both = jax.jit(jax.vmap(lambda one: blocks.strongest_of_classes(images, one, **how)))(weights)
    np.testing.assert_array_equal(both, each)


def stdp(**change):
    given = dict(weights=np.ones((3, 3, 10, 4), np.float32), latencies=np.zeros((12, 4, 6, 6), np.uint8))
    given |= dict(span=np.int32([0, 12]), rates=np.ones((12, 2), np.float32))
    return blocks.learn_by_stdp(**given | dict(threshold=1.0, k=1, radius=0, time_steps=T) | change)


def reward(rates=np.ones((2, 2), np.float32), **change):  # noqa: B008
    layer = blocks.Layer(np.zeros((3, 3, 10, 4), np.float32), rates, (0.0, 1.0), False)
    given = dict(latencies=np.zeros((12, 4, 6, 6), np.uint8), labels=np.zeros(12, np.int32), span=np.int32([0, 12]))
    return blocks.learn_by_reward(layer, **given | dict(classes=5, time_steps=T) | change)


def strongest(**change):
    given = dict(latencies=np.zeros((2, 4, 6, 6), np.uint8), weights=np.zeros((3, 3, 10, 4), np.float32))
    return blocks.strongest_of_classes(**given | dict(classes=CLASSES, time_steps=T) | change)


@pytest.mark.parametrize(
    ("call", "change", "error", "message"),
    [
        (stdp, dict(rates=np.ones((3, 2), np.float32)), InputError, r"`rates` .*\(12, 2\), got \(3, 2\)"),
        (stdp, dict(rates=np.ones((12, 2), np.float64)), InputTypeError, "`rates` must be float32"),
        (stdp, dict(span=np.zeros(1, np.int32)), InputError, r"`span` .*\(2,\), got \(1,\)"),
        (stdp, dict(span=np.zeros(2, np.float32)), InputTypeError, "`span` must be int32 .*, got float32"),
        (stdp, dict(radius=-3), InputError, "`radius`"),
        (stdp, dict(threshold=np.ones(65)), InputError, r"`threshold` must be one number .* got shape \(65,\)"),
        (stdp, dict(bounds=(0.0, np.inf)), InputError, r"`bounds` must be finite .*, got \(0.0, inf\)"),
        (stdp, dict(bounds=(-3e38, 3e38)), InputError, "`bounds` must be finite"),
        (stdp, dict(bounds=(1.0, 0.0)), InputError, "`bounds`"),
        (stdp, dict(k=0), InputError, "`k` must be at least 1, got 0"),
        (stdp, dict(time_steps=256), InputError, "`time_steps` must be at most 255"),
        (reward, dict(labels=np.zeros(39, np.int32)), InputError, r"`labels` .*\(12,\), got \(39,\)"),
        (reward, dict(span=np.zeros(3, np.int32)), InputError, r"`span` .*\(2,\), got \(3,\)"),
        (reward, dict(kept=np.ones(9, bool)), InputError, r"`kept` .*\(10,\), got \(9,\)"),
        (reward, dict(rates=np.ones(2, np.float32)), InputError, r"`rates` .*\(2, 2\), got \(2,\)"),
        (strongest, dict(latencies=np.zeros((2, 4, 6, 6), np.int32)), InputTypeError, "`latencies` must be uint8"),
        (strongest, dict(latencies=np.zeros((4, 6, 6), np.uint8)), InputError, r"`latencies` .*axes \(S C H W\)"),
        (strongest, dict(latencies=np.zeros((2, 3, 6, 6), np.uint8)), InputError, "`latencies` .*the 4 channels"),
        (strongest, dict(latencies=np.zeros((2, 4, 2, 2), np.uint8)), InputError, "must fit .*2x2, got 3x3"),
        (strongest, dict(weights=np.zeros((3, 3, 10, 4), np.float16)), InputTypeError, "`weights` must be float32"),
        (strongest, dict(classes=3), InputError, "`weights` must have a multiple of 3 features, got 10"),
    ],
)
def test_bad_input(call, change, error, message):
    with pytest.raises(error, match=message):
        call(**change)


# In networks

PLACE = dict(kernel=3, padding=1, threshold=6.0, competition=WTA(4, 1))
WIDE, REWARDED = Conv(400, learners=STDP(), **PLACE), Conv(64, learners=RSTDP(), **PLACE)
LAST = Conv(20, kernel=3, padding=1, learners=RSTDP())


def test_a_training_by_blocks_is_almost_that_of_other_kernels():
    """Sums round otherwise, which decides near-ties."""
    network = Network("wide", (6, 10, 10), 10, (stage(WIDE, pool=4), stage(LAST)))
    images, states, decisions = digits().first(30, 20), [], []
    small = dict(train_images=images.train_images[:, ::3, ::3], test_images=images.test_images[:, ::3, ::3])
    images = dataclasses.replace(images, **small)
    for native in (True, False):
        trainer = Trainer(network, images, Settings((1, 1), 10, patience=0, native=native))
        states.append(trainer.run(trainer.initial_state()))
        decisions.append(trainer.predict(states[0], images.test_images)[0])
    ours, theirs = (state.weights["layer1"] for state in states)
    assert np.mean(abs(ours - theirs) < 1e-4) > 0.9
    assert np.mean(ours != network.initial_weights()["layer1"]) > 0.01
    assert np.mean(decisions[0] == decisions[1]) > 0.9


@pytest.mark.parametrize(
    ("stages", "before"),
    [
        ((stage(WIDE), stage(LAST)), ["layer1"]),
        ((stage(Conv(63, learners=STDP(), **PLACE)), stage(LAST)), []),
        ((stage(Conv(64, learners=STDP(), **PLACE | dict(threshold=np.ones(64)))), stage(LAST)), []),
        ((stage(Conv(64, learners=STDP(bounds=(-1.0, 1.0)), **PLACE)), stage(LAST)), []),
        ((stage(WIDE, REWARDED), stage(LAST)), []),
        ((stage(REWARDED), stage(LAST)), ["layer1"]),
        ((stage(WIDE), stage(Conv(30, learners=RSTDP(), **PLACE)), stage(LAST)), ["layer1"]),
    ],
    ids=["wide", "narrow", "thresholds", "negative", "beside one by reward", "by reward", "before a narrow one"],
)
def test_kernels_of_layers_that_do_not_learn(stages, before):
    network = Network("kernels", (6, 8, 8), 10, stages, decision=Majority())
    last = network.names[-1][0]
    for scores, form in ((True, deciding.SCORED), (False, deciding.STRONGEST)):
        found = deciding.deciding_kernels(network, native=True, scores=scores)
        assert found == {**dict.fromkeys(before, deciding.FIRES), last: form}
    assert deciding.deciding_kernels(network, native=False, scores=False) == {last: TAPS}
