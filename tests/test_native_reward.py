"""Deciding layers by compiled kernels: winners are those of sums in float64, the update is that of the kernels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnjax import kernels
from snnjax.core.errors import InputError, InputTypeError
from snnjax.kernels import Winners
from snnjax.kernels.native import blocks

T = 15
CLASSES = 5
SHAPES = {
    "as mozafari2018": dict(inputs=(250, 4, 4), features=200, kernel=(5, 5), padding=2),
    "kernel 3": dict(inputs=(250, 4, 4), features=200, kernel=(3, 3), padding=2),
    "one neuron a feature": dict(inputs=(1200, 1, 3), features=10, kernel=(1, 3)),
    "strides": dict(inputs=(7, 9, 8), features=65, kernel=(3, 2), padding=(1, 0), stride=(2, 3)),
    "many features": dict(inputs=(3, 5, 5), features=500, kernel=(2, 2)),
    "sums beyond 16 bits": dict(inputs=(1500, 2, 2), features=70, kernel=(2, 2), padding=1),
}
KINDS = ("random", "learned", "crowded", "alike", "negative")


def weights_of(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """(F, C, kh, kw) float32: anything in 0..1, near the bounds, all near 0.8 as before learning, in a few values."""
    made = {
        "random": lambda: rng.random(shape),
        "learned": lambda: np.clip(rng.choice([0.2, 0.8], shape) + rng.normal(0, 0.02, shape), 0.2, 0.8),
        "crowded": lambda: np.clip(rng.normal(0.8, 0.05, shape), 0, 1),
        "alike": lambda: rng.choice([0.25, 0.5], (1, *shape[1:])).repeat(shape[0], 0),
        "negative": lambda: rng.uniform(-1, 0.5, shape),
    }
    return made[kind]().astype(np.float32)


def potentials(spiked: np.ndarray, weights: np.ndarray, padding=0, stride=1) -> np.ndarray:
    """(S, F, H', W') float64."""
    (above, left), (down, right) = (each if isinstance(each, tuple) else (each, each) for each in (padding, stride))
    seen = np.pad(spiked, ((0, 0), (0, 0), (above, above), (left, left)))
    fields = np.lib.stride_tricks.sliding_window_view(seen, weights.shape[2:], (2, 3))[:, :, ::down, ::right]
    return np.einsum("schwij,fcij->sfhw", fields, weights.astype(np.float64), optimize=True)


def images_of(inputs: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """40 images, from empty to full."""
    share = np.linspace(0, 1, 40)[:, None, None, None]
    return np.where(rng.random((40, *inputs)) < share, rng.integers(0, T, (40, *inputs)), T).astype(np.uint8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SHAPES)
def test_potentials_and_winners_are_exact(name, kind):
    """The winner is the strongest neuron of all, but for ties of floats."""
    rng, case = np.random.default_rng(3), dict(SHAPES[name])
    inputs, features, kernel = (case.pop(key) for key in ("inputs", "features", "kernel"))
    weights, images = weights_of(kind, (features, inputs[0], *kernel), rng), images_of(inputs, rng)
    place = dict(classes=CLASSES, time_steps=T, **case)
    taps = jnp.asarray(weights.transpose(2, 3, 0, 1))
    exact = potentials(images < T, weights, **case)
    near = 1e-6 * np.sum(images < T) / len(images) + 1e-4
    found = blocks.strongest_of_classes(images, taps, **place)
    strongest = exact.reshape(len(images), CLASSES, -1).max(2)
    np.testing.assert_allclose(found, strongest, rtol=1e-5, atol=near)
    labels, span, rates = np.zeros(len(images), np.int32), np.array([2, 38], np.int32), np.zeros((2, 2), np.float32)
    layer = blocks.Layer(taps, rates, (float(weights.min()), float(weights.max())), False, **case)
    learned = blocks.learn_by_reward(layer, images, labels, span, classes=CLASSES, time_steps=T)
    np.testing.assert_array_equal(learned.weights, taps)
    of_feature = exact.reshape(len(images), features, -1).max(2)
    for at in range(len(images)):
        winner, best = int(learned.feature[at]), of_feature[at].max()
        if not 2 <= at < 38 or best <= 0:
            assert winner == learned.vote[at] == -1
            continue
        assert of_feature[at, winner] >= best - near
        assert learned.vote[at] == winner // (features // CLASSES)
        if kind == "alike":
            assert winner == 0, "of equal ones the lowest wins"


@pytest.mark.parametrize("stabiliser", [False, True])
@pytest.mark.parametrize("name", ["as mozafari2018", "strides", "one neuron a feature"])
def test_weights_are_those_of_the_kernels(name, stabiliser):
    """Image by image, with rates large enough that integers and floats would part if they were not kept together."""
    rng, case = np.random.default_rng(4), dict(SHAPES[name])
    inputs, features, kernel = (case.pop(key) for key in ("inputs", "features", "kernel"))
    bounds, weights, images = (
        (0.2, 0.8),
        weights_of("learned", (features, inputs[0], *kernel), rng),
        images_of(inputs, rng),
    )
    labels, kept = rng.integers(-1, CLASSES, len(images), np.int32), rng.random(features) < 0.7
    rates = np.array([[0.3, -0.2], [-0.25, 0.125]], np.float32)
    bounds = 0.2, 0.8
    layer = blocks.Layer(jnp.asarray(weights.transpose(2, 3, 0, 1)), rates, bounds, stabiliser, **case)
    span = np.array([0, len(images)], np.int32)
    found = blocks.learn_by_reward(layer, images, labels, span, classes=CLASSES, time_steps=T, kept=kept)
    pads = case.get("padding", 0)
    pads = pads if isinstance(pads, tuple) else (pads, pads)
    for at, image in enumerate(images):
        potential = potentials(image[None] < T, weights, **case)[0]
        potential[~kept] = -np.inf
        winner = np.unravel_index(potential.argmax(), potential.shape)
        silent = potential.max() <= 0
        assert found.vote[at] == (-1 if silent else winner[0] // (features // CLASSES))
        assert found.feature[at] == (-1 if silent or labels[at] < 0 else winner[0])
        if silent or labels[at] < 0:
            continue
        won = Winners(*(jnp.asarray([each], jnp.int32) for each in (*winner, T - 1)))
        rate = rates[0 if found.vote[at] == labels[at] else 1]
        rule = dict(bounds=bounds, stabiliser=stabiliser, time_steps=T, stride=case.get("stride", 1))
        seen = kernels.pad(jnp.asarray(image), pads, time_steps=T)
        weights = np.asarray(kernels.stdp(jnp.asarray(weights), seen, won, rate, **rule))
    np.testing.assert_allclose(found.weights.transpose(2, 3, 0, 1), weights, atol=1e-6 if stabiliser else 0)


def test_features_that_are_dropped_are_silent():
    """As many as are left win; none at all if all are dropped."""
    rng = np.random.default_rng(6)
    weights, images = rng.random((3, 3, 10, 4)).astype(np.float32), images_of((4, 6, 6), rng)
    layer = blocks.Layer(jnp.asarray(weights), np.ones((2, 2), np.float32), (0.0, 1.0), False)
    for kept in (np.zeros(10, bool), np.arange(10) == 7):
        span = np.array([-1, 99], np.int32)
        found = blocks.learn_by_reward(layer, images, np.zeros(40, np.int32), span, classes=5, time_steps=T, kept=kept)
        expected = 7 if kept.any() else -1
        assert {*found.feature.tolist()} <= {expected, -1}
        assert found.feature[-1] == expected
        assert kept.any() or np.array_equal(found.weights, weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(labels=np.zeros(39, np.int32)), r"`labels` must have shape \(40,\), got \(39,\)"),
        (dict(span=np.zeros(3, np.int32)), r"`span` must have shape \(2,\), got \(3,\)"),
        (dict(kept=np.ones(9, bool)), r"`kept` must have shape \(10,\), got \(9,\)"),
        (dict(rates=np.ones(2, np.float32)), r"`rates` must have shape \(2, 2\), got \(2,\)"),
    ],
)
def test_bad_learning(change, message):
    images = images_of((4, 6, 6), np.random.default_rng(7))
    given = dict(labels=np.zeros(40, np.int32), span=np.array([0, 40], np.int32), kept=None) | change
    rates = given.pop("rates", np.ones((2, 2), np.float32))
    layer = blocks.Layer(jnp.zeros((3, 3, 10, 4)), rates, (0.0, 1.0), False)
    with pytest.raises(InputError, match=message):
        blocks.learn_by_reward(
            layer, images, given["labels"], given["span"], classes=5, time_steps=T, kept=given["kept"]
        )


def test_it_is_the_same_under_jit_and_vmap():
    rng = np.random.default_rng(5)
    weights = np.stack([weights_of(kind, (10, 4, 3, 3), rng).transpose(2, 3, 0, 1) for kind in ("random", "learned")])
    images, settings = images_of((4, 6, 6), rng), dict(classes=CLASSES, time_steps=T)
    each = [blocks.strongest_of_classes(images, jnp.asarray(one), **settings) for one in weights]
    both = jax.jit(jax.vmap(lambda one: blocks.strongest_of_classes(images, one, **settings)))(weights)
    np.testing.assert_array_equal(both, each)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(images=np.zeros((2, 4, 6, 6), np.int32)), InputTypeError, "`latencies` must be uint8 for native"),
        (dict(images=np.zeros((4, 6, 6), np.uint8)), InputError, r"`latencies` must have axes \(S C H W\)"),
        (dict(images=np.zeros((2, 3, 6, 6), np.uint8)), InputError, "`latencies` must have the 4 channels"),
        (dict(images=np.zeros((2, 4, 2, 2), np.uint8)), InputError, "must fit into the map of 2x2, got 3x3"),
        (dict(classes=3), InputError, "`weights` must have a multiple of 3 features, got 10"),
        (dict(time_steps=256), InputError, "`time_steps` must be at most 255"),
    ],
)
def test_bad_input(change, error, message):
    given = dict(images=np.zeros((2, 4, 6, 6), np.uint8), classes=CLASSES, time_steps=T) | change
    with pytest.raises(error, match=message):
        blocks.strongest_of_classes(given.pop("images"), jnp.zeros((3, 3, 10, 4)), **given)
