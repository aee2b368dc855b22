"""The same image gets the same decision and the same scores, whatever computes them, and however many at a time."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnjax import (
    RSTDP,
    STDP,
    WTA,
    Conv,
    Earliest,
    LatencyCode,
    Network,
    Settings,
    SoftHebb,
    SpikingNetwork,
    Standardise,
    SupervisedSTDP,
    Trainer,
    TrainState,
    Triangle,
    stage,
)
from snnjax.core import devices
from snnjax.data import Dataset
from snnjax.encoding import PIXELS
from snnjax.networks.model import rounded_weights

RANDOM = np.random.default_rng(0)
LABELS = np.arange(19, dtype=np.int32) % 2
IMAGES = RANDOM.integers(0, 256, (19, 16, 16), np.uint8)
DATA = Dataset("noise", IMAGES, LABELS, IMAGES, LABELS, classes=2)
TIMED = dict(time_steps=255, encoder=PIXELS, decision=Earliest(fallback=True))
FEATURES = Conv(20, 5, padding=2, threshold=6.0, competition=WTA(2), learners=STDP(), weight_mean=0.5, weight_std=0.1)
REWARDED = Conv(10, 5, padding=1, learners=RSTDP(bounds=(0.0, 1.0)), weight_mean=0.5, weight_std=0.1)
READOUT = Conv(10, 4, threshold=50.0, learners=SupervisedSTDP(), weight_mean=0.3, weight_std=0.05, fractional=True)
REAL = Conv(12, 3, padding=1, learners=SoftHebb(), activation=Triangle(0.7), standardise=Standardise(), weight_mean=0.0)
NETWORKS = [
    Network("rewarded", (6, 16, 16), 2, (stage(dataclasses.replace(FEATURES, threshold=32.0)), stage(REWARDED))),
    Network("timed", (1, 16, 16), 2, (stage(FEATURES, pool=4), stage(READOUT)), **TIMED),
    Network(
        "real",
        (1, 16, 16),
        2,
        (
            stage(dataclasses.replace(REAL, weight_std=2.0), pool=2),
            stage(dataclasses.replace(REAL, weight_std=0.6), pool=2, code=LatencyCode()),
            stage(READOUT),
        ),
        **TIMED,
    ),
]


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_decisions_are_the_same_everywhere(network, compiler):
    found = {}
    for native in (False, True):
        trainer = Trainer(network, DATA, Settings((1,) * len(network.stages), native=native))
        state = TrainState(trainer.network.initial_weights(3))
        found["compiled" if native else "XLA"] = trainer.predict(state, IMAGES)
    expected = found["XLA"]
    assert len(np.unique(expected[1], axis=0)) > 10
    trained = trainer.trained(state)
    assert isinstance(trained, SpikingNetwork)

    def decide(image):
        decided = trained.model.predict(trained.model.encode(image))
        return decided.decision, decided.scores

    def observe(image):
        decided = trained.model.observe(trained.model.encode(image)).decided
        return decided.decision, decided.scores

    for count in (3, 19):
        found[f"{count} at a time"] = jax.jit(jax.vmap(decide))(IMAGES[:count])
    found["one"] = jax.tree.map(lambda x: x[None], jax.jit(decide)(IMAGES[0]))
    found["observed"] = jax.tree.map(lambda x: x[None], jax.jit(observe)(IMAGES[0]))
    for name, (decisions, scores) in found.items():
        np.testing.assert_array_equal(decisions, expected[0][: len(decisions)], name)
        np.testing.assert_array_equal(scores, expected[1][: len(scores)], name)


def test_rounded_weights_stay_as_they_are():
    network = NETWORKS[1]
    weights = network.initial_weights(0)
    once = rounded_weights(network, weights)
    for name, weight in weights.items():
        largest = np.abs(weight).reshape(len(weight), -1).sum(axis=1).max()
        np.testing.assert_allclose(once[name], weight, rtol=0, atol=largest * 2.0**-23)
        np.testing.assert_array_equal(rounded_weights(network, once)[name], once[name])
        total = np.cumsum(RANDOM.permutation(once[name][0].ravel()), dtype=np.float32)[-1]
        assert total == np.float64(once[name][0]).sum()


def test_what_is_computed_in_blocks_has_gradients():
    weights, items = jnp.asarray(RANDOM.normal(0, 1, (2, 4, 5))), jnp.asarray(RANDOM.normal(0, 1, (3, 5)))

    def plain(weights, item):
        return jnp.tanh(weights @ item)

    def slope(function):
        return jax.grad(lambda weights, item: function(weights, item).sum(), argnums=(0, 1))

    blocks = devices.in_blocks(plain, 8)
    of_items = functools.partial(jax.vmap, in_axes=(None, 0))
    cases = (of_items, weights[0]), (lambda function: jax.vmap(of_items(function), (0, None)), weights)
    for mapped, given in cases:
        found, expected = (mapped(slope(function))(given, items) for function in (blocks, plain))
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), found, expected)
