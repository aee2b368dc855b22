"""Unsupervised learning of one layer, against a plain loop over images, neurons and steps."""

import dataclasses

import jax
import jax.numpy as jnp
import judge
import numpy as np
import pytest
from flax import nnx

from snnjax.layers import RSTDP, STDP, Conv, SpikingConv
from snnjax.training.unsupervised import stdp_epoch

T = 15
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 3 * T, (30, 2, 8, 8)).clip(max=T).astype(np.uint8)
WEIGHTS = RNG.normal(0.8, 0.15, (4, 2, 3, 3)).astype(np.float32)
FAST = STDP(ltp=0.04, ltd=-0.03, doubling=10, ltp_max=0.25)
PLAIN = Conv(4, kernel=3, threshold=3, winners=2, radius=2, stdp=FAST)
LAYERS = {
    "plain": PLAIN,
    "padded, strided": dataclasses.replace(PLAIN, padding=1, stride=2),
    "all features, no radius": dataclasses.replace(PLAIN, winners=4, radius=0),
    "no stabiliser": dataclasses.replace(PLAIN, stdp=dataclasses.replace(FAST, stabiliser=False, bounds=(0.2, 0.9))),
    "signed": dataclasses.replace(PLAIN, threshold=1, stdp=dataclasses.replace(FAST, bounds=(-1, 1))),
    "no threshold": dataclasses.replace(PLAIN, threshold=None),
}


def learn(
    spec: Conv,
    images: np.ndarray,
    weights: np.ndarray,
    seen: int = 0,
    valid: np.ndarray | None = None,
    together: int = 1,
):
    """`stdp_epoch` over (reports, n, C, H, W): the new weights and the features that won, (reports * n, k)."""
    layer = nnx.eval_shape(lambda: SpikingConv(spec, images.shape[2], time_steps=T, rngs=nnx.Rngs(0)))
    graphdef, shapes = nnx.split(layer)
    state = jax.tree.map(lambda _: jnp.array(weights), shapes)
    valid = np.ones(images.shape[:2], bool) if valid is None else valid
    images, valid = (x.reshape(len(x), -1, together, *x.shape[2:]) for x in (images, valid))
    state, features = stdp_epoch(graphdef, state, jnp.int32(seen), images, valid)
    return np.asarray(state["weight"][...]), np.asarray(features)


def judged(
    spec: Conv, images: np.ndarray, weights: np.ndarray, seen: int = 0, together: int = 1
) -> tuple[np.ndarray, list[list[int]]]:
    """The same by the judge, one image after the other; so many of them win by the same weights."""
    rule, features = spec.stdp, []
    pair = (spec.padding,) * 2, (spec.stride,) * 2
    for number, image in enumerate(images, seen):
        if (number - seen) % together == 0:
            shown = weights
        padded = judge.pad(image, pair[0], T)
        latency, potential = judge.fire(judge.potentials(padded, shown, T, pair[1]), spec.threshold)
        left = judge.pointwise_inhibition(latency, potential, T)
        winners = judge.k_winners(*left, spec.winners, spec.radius, T)
        ltp = min(rule.ltp * 2 ** ((number + 1) // rule.doubling), rule.ltp_max)
        rates = (ltp, ltp * rule.ltd / rule.ltp)
        spikes = [(winner, latency[winner]) for winner in winners]
        weights = judge.stdp(weights, padded, spikes, rates, T, rule.bounds, rule.stabiliser, pair[1])
        features.append([winner[0] for winner in winners] + [-1] * (spec.winners - len(winners)))
    return weights, features


@pytest.mark.parametrize("name", LAYERS)
def test_an_epoch_is_that_of_the_judge(name):
    spec = LAYERS[name]
    weights, features = learn(spec, IMAGES.reshape(3, 10, *IMAGES.shape[1:]), WEIGHTS)
    expected, winners = judged(spec, IMAGES, WEIGHTS)
    assert features.tolist() == winners
    np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-6)
    assert np.abs(weights - WEIGHTS.clip(*spec.stdp.bounds)).max() > 0.05, "hardly anything was learned"


@pytest.mark.parametrize("name", ["plain", "signed"])
def test_images_together_win_by_the_same_weights_and_learn_in_order(name):
    spec = LAYERS[name]
    weights, features = learn(spec, IMAGES.reshape(3, 10, *IMAGES.shape[1:]), WEIGHTS, together=5)
    expected, winners = judged(spec, IMAGES, WEIGHTS, together=5)
    assert features.tolist() == winners
    np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-6)
    assert winners != judged(spec, IMAGES, WEIGHTS)[1], "the case tells nothing"


def test_the_image_number_runs_on_from_epoch_to_epoch():
    images = IMAGES.reshape(3, 10, *IMAGES.shape[1:])
    first, _ = learn(PLAIN, images, WEIGHTS)
    second, features = learn(PLAIN, images, first, seen=30)
    expected, winners = judged(PLAIN, IMAGES, first, seen=30)
    assert features.tolist() == winners
    np.testing.assert_allclose(second, expected, rtol=1e-4, atol=1e-6)
    assert np.any(second != learn(PLAIN, images, first)[0]), "the number has no effect"


def test_padding_changes_nothing():
    """Images marked invalid, wherever they stand, neither teach nor count."""
    valid = np.ones((3, 14), bool)
    valid[0, [0, 5, 6]] = valid[1, 2] = False
    valid[2, 6:] = False
    images = RNG.integers(0, T, (3, 14, *IMAGES.shape[1:]), np.uint8)
    images[valid] = IMAGES
    weights, features = learn(PLAIN, images, WEIGHTS, valid=valid)
    expected, winners = learn(PLAIN, IMAGES[None], WEIGHTS)
    np.testing.assert_array_equal(weights, expected)
    np.testing.assert_array_equal(features[valid.ravel()], winners)
    assert np.all(features[~valid.ravel()] == -1)


def test_silent_images_teach_nothing_but_count():
    images = IMAGES.copy()
    images[3:20] = T
    weights, features = learn(PLAIN, images[None], WEIGHTS)
    expected, winners = judged(PLAIN, images, WEIGHTS)
    assert features.tolist() == winners
    assert np.all(features[3:20] == -1)
    np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-6)


def test_the_potentiation_rate_doubles_every_500_images():
    images = np.arange(4000)
    rates = jax.vmap(STDP().rates)(images)
    ltp = np.minimum(0.004 * 2.0 ** ((images + 1) // 500), 0.15)
    np.testing.assert_allclose(rates, np.stack([ltp, -0.75 * ltp], axis=1), rtol=1e-6)
    assert rates[498, 0] < rates[499, 0] == rates[998, 0], "number 499 is the 500th image"


def test_a_layer_without_a_rule_does_not_learn():
    with pytest.raises(ValueError, match="no STDP rule"):
        learn(dataclasses.replace(PLAIN, stdp=None, rstdp=RSTDP()), IMAGES[None], WEIGHTS)
