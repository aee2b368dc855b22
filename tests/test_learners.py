"""Unsupervised learning of one layer, against a plain loop over images, neurons and steps."""

import dataclasses

import jax
import jax.numpy as jnp
import judge
import numpy as np
import pytest

from snnjax.layers.conv import WTA, Conv
from snnjax.layers.layer_kernels import PLAIN, XLA
from snnjax.layers.spiking import Layer
from snnjax.learners import RSTDP, STDP
from snnjax.networks import Network, stage
from snnjax.steps import plain
from snnjax.steps.plain import Carry, Slice, Task
from snnjax.training.state import plan

T = 15
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 3 * T, (30, 2, 8, 8)).clip(max=T).astype(np.uint8)
WEIGHTS = RNG.normal(0.8, 0.15, (4, 2, 3, 3)).astype(np.float32)
QUICK = STDP(ltp=0.04, ltd=-0.03, doubling=10, ltp_max=0.25)
BASE = Conv(4, kernel=3, threshold=3, competition=WTA(2, radius=2), learners=QUICK)
LAYERS = {
    "plain": BASE,
    "padded, strided": dataclasses.replace(BASE, padding=1, stride=2),
    "all features, no radius": dataclasses.replace(BASE, competition=WTA(4)),
    "no stabiliser": dataclasses.replace(
        BASE, learners=dataclasses.replace(QUICK, stabiliser=False, bounds=(0.2, 0.9))
    ),
    "signed": dataclasses.replace(BASE, threshold=1, learners=dataclasses.replace(QUICK, bounds=(-1, 1))),
    "pointwise": dataclasses.replace(BASE, padding=1, learners=dataclasses.replace(QUICK, pointwise=True)),
    "no threshold": dataclasses.replace(BASE, threshold=None),
}
LEARN = jax.jit(plain.learn_unsupervised, static_argnums=0)


def learn(
    conv: Conv,
    images: np.ndarray,
    weights: np.ndarray,
    seen: int = 0,
    part: slice = slice(None),
    batched: int = 1,
    form=XLA,
):
    """`learn_unsupervised` from a part of images (N, C, H, W): the new weights and the features that won, (N, k)."""
    layer = Layer(conv, jnp.asarray(weights), T, form, conv.monotone)
    start, count, _ = part.indices(len(images))
    carry = Carry(dict(layer1=layer), dict(layer1=jnp.int32(seen)))
    span = Slice(images, jnp.int32(start), jnp.int32(count), jnp.bool_(True))
    carry, found = LEARN(Task(("layer1",), learner=0, batch=batched), carry, None, span)
    assert int(carry.states["layer1"]) == seen + count - start
    return np.asarray(carry.layers["layer1"].weights), np.asarray(found.infos["layer1"])


def judged(
    conv: Conv, images: np.ndarray, weights: np.ndarray, seen: int = 0, batched: int = 1
) -> tuple[np.ndarray, list[list[int]]]:
    """The same by the judge, one image after the other; so many of them win by the same weights."""
    rule, features = conv.learners, []
    pair = (conv.padding,) * 2, (conv.stride,) * 2
    for number, image in enumerate(images, seen):
        if (number - seen) % batched == 0:
            shown = weights
        if rule.pointwise:
            image, _ = judge.pointwise_inhibition(image, np.ones(image.shape), T)
        padded = judge.pad(image, pair[0], T)
        latency, potential = judge.fire(judge.potentials(padded, shown, T, pair[1]), conv.threshold)
        left = judge.pointwise_inhibition(latency, potential, T)
        winners = judge.k_winners(*left, conv.competition.winners, conv.competition.radius, T)
        ltp = min(rule.ltp * 2 ** ((number + 1) // rule.doubling), rule.ltp_max)
        rates = (ltp, ltp * rule.ltd / rule.ltp)
        spikes = [(winner, latency[winner]) for winner in winners]
        weights = judge.stdp(weights, padded, spikes, rates, T, rule.bounds, rule.stabiliser, pair[1])
        features.append([winner[0] for winner in winners] + [-1] * (conv.competition.winners - len(winners)))
    return weights, features


@pytest.mark.parametrize("name", LAYERS)
def test_an_epoch_is_that_of_the_judge(name):
    conv = LAYERS[name]
    weights, features = learn(conv, IMAGES, WEIGHTS)
    expected, winners = judged(conv, IMAGES, WEIGHTS)
    assert features.tolist() == winners
    np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-6)
    assert np.abs(weights - WEIGHTS.clip(*conv.learners.bounds)).max() > 0.05, "hardly anything was learned"


@pytest.mark.parametrize("name", ["plain", "signed"])
def test_images_together_win_by_the_same_weights_and_learn_in_order(name):
    """Also where the last group is short."""
    conv = LAYERS[name]
    for batched in (5, 7):
        weights, features = learn(conv, IMAGES, WEIGHTS, batched=batched)
        expected, winners = judged(conv, IMAGES, WEIGHTS, batched=batched)
        assert features.tolist() == winners
        np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-6)
        assert winners != judged(conv, IMAGES, WEIGHTS)[1], "the case tells nothing"


def test_the_image_number_runs_on_from_epoch_to_epoch():
    first, _ = learn(BASE, IMAGES, WEIGHTS)
    second, features = learn(BASE, IMAGES, first, seen=30)
    expected, winners = judged(BASE, IMAGES, first, seen=30)
    assert features.tolist() == winners
    np.testing.assert_allclose(second, expected, rtol=1e-4, atol=1e-6)
    assert np.any(second != learn(BASE, IMAGES, first)[0]), "the number has no effect"


@pytest.mark.parametrize("batched", [1, 5])
def test_images_before_and_after_the_part_neither_teach_nor_count(batched):
    """Those that fill up the last slice of an epoch, and those that an earlier call has learned from."""
    part = slice(6, 6 + len(IMAGES))
    images = RNG.integers(0, T, (part.stop + 9, *IMAGES.shape[1:]), np.uint8)
    images[part] = IMAGES
    weights, features = learn(BASE, images, WEIGHTS, part=part, batched=batched)
    expected, winners = learn(BASE, IMAGES, WEIGHTS, batched=batched)
    np.testing.assert_array_equal(weights, expected)
    np.testing.assert_array_equal(features[part], winners)


def test_silent_images_teach_nothing_but_count():
    images = IMAGES.copy()
    images[3:20] = T
    weights, features = learn(BASE, images, WEIGHTS)
    expected, winners = judged(BASE, images, WEIGHTS)
    assert features.tolist() == winners
    assert np.all(features[3:20] == -1)
    np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-6)


def test_the_potentiation_rate_doubles_every_500_images():
    images = np.arange(4000)
    rates = jax.vmap(STDP().rates)(images)
    ltp = np.minimum(0.004 * 2.0 ** ((images + 1) // 500), 0.15)
    np.testing.assert_allclose(rates, np.stack([ltp, -0.75 * ltp], axis=1), rtol=1e-6)
    assert rates[498, 0] < rates[499, 0] == rates[998, 0], "number 499 is the 500th image"


def test_branches_begin_with_the_first_rates():
    """However many images their stage has seen before, in step with its doubling."""
    layer = Layer(BASE, jnp.asarray(WEIGHTS), T, PLAIN, True)
    starts = [QUICK.init(layer, np.zeros(2, np.uint32), seen) for seen in (0, 9, 10, 25)]
    assert [(int(each), each.dtype) for each in starts] == [(at, np.int32) for at in (0, 9, 0, 5)]


def test_a_layer_without_a_learner_does_not_learn():
    spec = Network("fixed", (2, 8, 8), 2, (stage(Conv(4, 3, threshold=3)), stage(Conv(2, 3, learners=RSTDP()))))
    assert [(phase.layers, phase.stage) for phase in plan(spec, (5, 5))] == [((), 1)]
