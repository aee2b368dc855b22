"""Kernels of sequences on the native back end: NumPy judges them, exactly where floats hold all sums exactly."""

import judge
import numpy as np
import pytest

from snnjax import kernels
from snnjax.kernels import Pooling

T = 7
CLASSES = 5
IMAGES = 12


@pytest.fixture(autouse=True)
def native(compiler):
    with kernels.use_backend("native"):
        yield


def latencies_of(inputs: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Images from empty to full."""
    share = np.linspace(0, 1, IMAGES)[:, None, None, None]
    size = (IMAGES, *inputs)
    return np.where(rng.random(size) < share, rng.integers(0, T, size), T).astype(np.uint8)


def last_potentials(image: np.ndarray, weights: np.ndarray, padding=(0, 0), stride=(1, 1)) -> np.ndarray:
    """At the last step, (F, H', W') float64."""
    return judge.potentials(judge.pad(image, padding, T) // T, weights, 1, stride)[0]


SHAPES = {
    "many inputs": ((150, 7, 7), (70, 3, 3), dict(padding=(1, 1))),
    "few channels": ((5, 9, 8), (65, 3, 2), dict(padding=(1, 0), stride=(2, 3))),
    "one position": ((40, 3, 3), (130, 3, 3), dict()),
}


def made(name: str) -> tuple[np.ndarray, np.ndarray, dict]:
    """Latencies, weights (F, C, kh, kw) of few values, so that neurons tie, and where the layer lies."""
    rng, (inputs, (features, *kernel), place) = np.random.default_rng(8), SHAPES[name]
    return latencies_of(inputs, rng), rng.integers(0, 65, (features, inputs[0], *kernel)) / 64, place


@pytest.mark.parametrize(
    ("name", "share", "k", "radius", "bounds"),
    [
        ("many inputs", 0.05, 5, 1, (0.25, 0.75)),
        ("few channels", 0.225, 2, 2, (0.0, 1.0)),
        ("few channels", -0.25, 3, 0, (0.25, 0.75)),
        ("many inputs", 0.05, 5, 1, (0.25, np.inf)),
        ("one position", 0.225, 2, 2, (0.25, 0.75)),
    ],
)
def test_stdp_is_that_of_the_judge(name, share, k, radius, bounds):
    """Below a threshold of 0 all fire at once.

    With a threshold for each feature, layers of all sizes learn by floats.
    """
    latencies, weights, place = made(name)
    weights = weights.clip(*bounds)
    threshold, padding, stride = share * weights[0].size, place.get("padding", (0, 0)), place.get("stride", (1, 1))
    rates = np.tile(np.float32([[1 / 64, -1 / 128], [1 / 32, -1 / 64]]), (6, 1))
    rule = dict(k=k, radius=radius, time_steps=T, bounds=bounds, stabiliser=False, **place)
    learns = np.arange(IMAGES) % 7 != 3
    sequence = np.float32(weights), latencies, rates, learns
    thresholds = threshold, np.full(len(weights), threshold, np.float32)
    learned = [kernels.learn_stdp(*sequence, threshold=each, **rule) for each in thresholds]
    features = np.full((IMAGES, k), -1)
    for at in np.flatnonzero(learns):
        seen = judge.pad(latencies[at], padding, T)
        latency, potential = judge.fire(judge.potentials(seen, weights, T, stride), threshold)
        winners = judge.k_winners(*judge.pointwise_inhibition(latency, potential, T), k, radius, T)
        features[at, : len(winners)] = [winner[0] for winner in winners]
        winners = [(winner, latency[winner]) for winner in winners]
        weights = judge.stdp(weights, seen, winners, rates[at], T, bounds, stabiliser=False, stride=stride)
    for found_weights, found_features in learned:
        np.testing.assert_array_equal(found_features, features)
        np.testing.assert_array_equal(found_weights, weights)
    assert (features >= 0).any()


@pytest.mark.parametrize(
    ("name", "share", "pool"),
    [
        ("many inputs", -0.1, Pooling()),
        ("many inputs", 0.2, Pooling((3, 2), (2, 1), 1)),
        ("few channels", 0, Pooling()),
    ],
)
def test_final_latencies_are_those_of_the_judge(name, share, pool):
    """Neurons whose potential is exactly the threshold stay silent."""
    latencies, weights, place = made(name)
    threshold = float(np.floor(share * weights[0].size))
    found = kernels.final_latencies(
        latencies, np.float32(weights), threshold=threshold, time_steps=T, **place, pool=pool
    )
    fires = np.stack([last_potentials(image, weights, **place) > threshold for image in latencies])
    if pool != Pooling():
        padded = np.pad(fires, ((0, 0), (0, 0), (1, 1), (1, 1)))
        fires = judge.slide(padded, pool.window, pool.stride, lambda seen: seen.any(axis=(-2, -1)))
    np.testing.assert_array_equal(found, np.where(fires, T - 1, T))
    assert 0 < fires.mean() < 1 or share < 0


def test_weights_that_are_no_numbers_fire_nowhere():
    """And touch no memory but their own."""
    latencies, weights = np.zeros((3, 4, 2, 2), np.uint8), np.full((64, 4, 2, 2), np.nan, np.float32)
    assert not np.nan_to_num(kernels.strongest_of_classes(latencies, weights, classes=64, time_steps=T)).any()
    assert (np.asarray(kernels.final_latencies(latencies, weights, threshold=1.0, time_steps=T)) == T).all()
    rule = dict(threshold=1.0, k=2, radius=0, time_steps=T)
    _, feature = kernels.learn_stdp(weights, latencies, np.ones((3, 2), np.float32), np.full(3, True), **rule)
    assert (np.asarray(feature) == -1).all()


# Deciding layers

DECIDING = {
    "as mozafari2018": ((250, 4, 4), (200, 5, 5), dict(padding=(2, 2))),
    "one neuron a feature": ((1200, 1, 3), (10, 1, 3), dict()),
    "strides": ((7, 9, 8), (65, 3, 2), dict(padding=(1, 0), stride=(2, 3))),
    "many features": ((3, 5, 5), (500, 2, 2), dict()),
    "sums beyond 16 bits": ((1500, 2, 2), (70, 2, 2), dict(padding=(1, 1))),
}


def deciding_layer(name: str, kind: str) -> tuple[np.ndarray, np.ndarray, dict]:
    """Latencies, weights near their bounds, near 0.8 as before learning, of equal features, or negative; the place."""
    rng, (inputs, (features, *kernel), place) = np.random.default_rng(3), DECIDING[name]
    shape = features, inputs[0], *kernel
    weights = {
        "learned": lambda: np.clip(rng.choice([0.2, 0.8], shape) + rng.normal(0, 0.02, shape), 0.2, 0.8),
        "crowded": lambda: np.clip(rng.normal(0.8, 0.05, shape), 0, 1),
        "alike": lambda: rng.choice([0.25, 0.5], (1, *shape[1:])).repeat(features, 0),
        "negative": lambda: rng.uniform(-1, 0.5, shape),
    }
    return latencies_of(inputs, rng), np.float32(weights[kind]()), place


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("as mozafari2018", "crowded"),
        ("one neuron a feature", "learned"),
        ("strides", "negative"),
        ("many features", "alike"),
        ("sums beyond 16 bits", "negative"),
    ],
)
def test_potentials_and_votes_are_exact(name, kind):
    """The winner is the strongest neuron of all, but for ties of floats."""
    images, weights, place = deciding_layer(name, kind)
    how = dict(classes=CLASSES, time_steps=T)
    exact = np.stack([last_potentials(image, weights, **place).max(axis=(1, 2)) for image in images])
    near = 1e-6 * np.sum(images < T) / IMAGES + 1e-4
    found = kernels.strongest_of_classes(images, weights, **how, **place)
    np.testing.assert_allclose(found, exact.reshape(IMAGES, CLASSES, -1).max(2), rtol=1e-5, atol=near)
    rates, bounds = np.zeros(2, np.float32), (float(weights.min()), float(weights.max()))
    learns = np.arange(IMAGES) % 5 != 3
    learned, vote, winner = kernels.learn_reward(
        weights, images, np.zeros(IMAGES, np.int32), rates, rates, learns, bounds=bounds, **how, **place
    )
    np.testing.assert_array_equal(learned, weights)
    shown = learns & (exact.max(1) > 0)
    winner = np.asarray(winner)
    np.testing.assert_array_equal(winner >= 0, shown)
    np.testing.assert_array_equal(vote, np.where(shown, winner // (len(weights) // CLASSES), -1))
    assert (exact[shown, winner[shown]] >= exact[shown].max(1) - near).all()
    assert kind != "alike" or not winner[shown].any(), "of equal ones the lowest wins"
    only = np.asarray(kernels.strongest_of_classes(images, weights, only_largest=True, **how, **place))
    np.testing.assert_array_equal(only[shown].argmax(1), np.asarray(vote)[shown])
    assert ((only > 0).sum(1) == (exact.max(1) > 0)).all()


@pytest.mark.parametrize(
    ("name", "stabiliser", "dropped"),
    [("sums beyond 16 bits", False, 0.3), ("strides", True, 0.3), ("one neuron a feature", False, 0.0)],
)
def test_learning_by_reward_is_that_of_the_judge(name, stabiliser, dropped):
    """Image by image, with rates large enough that integers and floats would part if they were not kept together."""
    images, weights, place = deciding_layer(name, "learned")
    rng, features = np.random.default_rng(4), len(weights)
    images = np.concatenate([images, images[:, ::-1]])
    labels, kept = rng.integers(-1, CLASSES, len(images)).astype(np.int32), rng.random(features) >= dropped
    rates, bounds = np.float32([[0.3, -0.2], [-0.25, 0.125]]), tuple(map(float, np.float32([0.2, 0.8])))
    how = dict(classes=CLASSES, time_steps=T, kept=kept if dropped else None, bounds=bounds, stabiliser=stabiliser)
    learned, votes, learning = kernels.learn_reward(weights, images, labels, *rates, **how, **place)
    for at, image in enumerate(images):
        potential = np.where(kept[:, None, None], last_potentials(image, weights, **place), -np.inf)
        winner = np.unravel_index(potential.argmax(), potential.shape)
        vote = winner[0] // (features // CLASSES) if potential.max() > 0 else -1
        taught = vote >= 0 and labels[at] >= 0
        assert (votes[at], learning[at]) == (vote, winner[0] if taught else -1), f"image {at}"
        seen, won = judge.pad(image, place.get("padding", (0, 0)), T), [(winner, T)] if taught else []
        now = rates[int(vote != labels[at])]
        weights = np.float32(judge.stdp(weights, seen, won, now, T, bounds, stabiliser, place.get("stride", (1, 1))))
    np.testing.assert_allclose(learned, weights, rtol=0, atol=1e-6 if stabiliser else 0)


def test_an_image_is_not_read_over_while_a_slow_layer_uses_it():
    """Another core reads ahead. All features are alike, so that the first wins unless the image changes meanwhile."""
    rng, count = np.random.default_rng(6), 200
    images = np.where(rng.random((count, 64, 12, 12)) < 0.5, 0, T).astype(np.uint8)
    weights = np.float32(rng.integers(0, 65, (1, 64, 5, 5)) / 64).repeat(1000, axis=0)
    labels, rates, how = np.zeros(count, np.int32), np.zeros(2, np.float32), dict(bounds=(0.0, 1.0), time_steps=T)
    for _ in range(3):
        *_, feature = kernels.learn_reward(weights, images, labels, rates, rates, classes=CLASSES, **how)
        np.testing.assert_array_equal(feature, np.zeros(count))
