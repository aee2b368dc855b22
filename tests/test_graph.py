"""Stages that read several earlier ones: what they read, computed by hand, and what cannot be read."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import FIRST

from snnjax import component
from snnjax.core.errors import InputError
from snnjax.layers import Conv, Pool
from snnjax.learners import RSTDP, STDP
from snnjax.networks import (
    Concatenate,
    EarliestSpike,
    Flatten,
    Input,
    LatestSpike,
    Network,
    SpikingNetwork,
    stage,
)
from snnjax.networks.graph import Activations

T = 15
SHAPE = (6, 28, 28)
SECOND = Conv(4, kernel=3, padding=1, threshold=9, learners=STDP(doubling=50))
LAST = Conv(20, kernel=4, learners=RSTDP())
POOLED = dataclasses.replace(LAST, kernel=3)
IDENTITY = np.eye(4, dtype=np.float32)[:, :, None, None]


@component
class Choosing:
    """Chooses by a number, which is traced."""

    order: int = 1

    def __call__(self, *maps, time_steps):
        return maps[0] if self.order > 0 else maps[1]


@component
class Rarely:
    """Fires where all of the maps do within some steps of each other."""

    steps: int = 2

    def __call__(self, *maps, time_steps):
        late, early = jnp.stack(maps).max(axis=0), jnp.stack(maps).min(axis=0)
        return jnp.where(late - early <= self.steps, late, time_steps)


def skipping(join=Concatenate(), last=POOLED, threshold=FIRST.threshold) -> Network:  # noqa: B008
    """The first stage is read by the second, and pooled by the last; a fixed layer passes the second on."""
    passing = Conv(4, kernel=1, threshold=0.5, weights=IDENTITY)
    stages = (
        stage(dataclasses.replace(FIRST, threshold=threshold), pool=4),
        stage(SECOND),
        stage(passing, pool=2, inputs="stage2"),
        stage(last, inputs=("stage3", Input("stage1", pool=Pool(2)), Input("stage2", pool=Pool(2))), join=join),
    )
    return Network("skipping", SHAPE, 10, stages, epochs=(1, 1, 0, 2))


def rarely(maps):
    late, early = np.max(maps, axis=0), np.min(maps, axis=0)
    return np.where(late - early <= 2, late, T)


JOINS = {
    "concatenated": (Concatenate(), POOLED, lambda maps: np.concatenate(maps)),
    "earliest": (EarliestSpike(), POOLED, lambda maps: np.min(maps, axis=0)),
    "latest": (LatestSpike(), POOLED, lambda maps: np.max(maps, axis=0)),
    "flattened": (
        Flatten(),
        dataclasses.replace(LAST, kernel=1),
        lambda maps: np.concatenate([x.ravel() for x in maps])[:, None, None],
    ),
    "own": (Rarely(), POOLED, rarely),
}


@pytest.mark.parametrize(("join", "last", "expected"), JOINS.values(), ids=JOINS)
def test_a_stage_reads_the_outputs_of_earlier_ones(join, last, expected):
    model = SpikingNetwork(skipping(join, last), seed=1).model
    latency = np.random.default_rng(0).integers(0, 9 * T, (6, 28, 28)).clip(max=T).astype(np.uint8)
    first = model.join(0, model.responses(0, latency))
    second = model.join(1, model.responses(1, first))
    assert 0 < np.mean(np.asarray(second) < T) < 1, "the case tells nothing"

    def earliest_of(maps):
        maps = np.asarray(maps)[:, :6, :6]
        return maps.reshape(len(maps), 3, 2, 3, 2).min(axis=(2, 4))

    read = [earliest_of(x) for x in (second, first, second)]
    np.testing.assert_array_equal(model.output_of(3, Activations({0: latency})), read[0])
    np.testing.assert_array_equal(jax.jit(type(model).forward)(model, latency), expected(read))
    seen = model.observe(latency).latencies
    np.testing.assert_array_equal(seen["layer3"], second)
    assert seen.keys() == {"input", "layer1", "layer2", "layer3", "layer4"}


def test_numbers_of_a_join_can_vary():
    network = skipping(Rarely(steps=3))
    assert network.hyperparameters()["stage4.join.steps"] == 3
    assert network.vary("join.steps", 5).stages[3].join.steps == 5


def test_given_weights_are_part_of_the_structure():
    passing = skipping().stages[2].branches[0]
    other = dataclasses.replace(passing, weights=2 * IDENTITY)
    assert jax.tree.structure(passing) == jax.tree.structure(dataclasses.replace(passing, weights=IDENTITY.copy()))
    assert jax.tree.structure(passing) != jax.tree.structure(other)
    assert passing.monotone
    assert dataclasses.replace(passing, weights=jnp.asarray(IDENTITY)) == passing
    assert not dataclasses.replace(passing, weights=-IDENTITY).monotone


def test_a_stage_without_layers_is_observed_too():
    joined = Network("joined", SHAPE, 10, (stage(FIRST, pool=7), stage(inputs="stage1"), stage(LAST)))
    seen = SpikingNetwork(joined).model.observe(np.zeros(SHAPE, np.uint8)).latencies
    assert seen.keys() == {"input", "layer1", "stage2", "layer3"}


@pytest.mark.parametrize(
    ("number", "known", "message"),
    [
        (4, Activations({0: np.zeros(SHAPE, np.uint8)}), "`number` must be at most 3, got 4"),
        (-1, Activations({0: np.zeros(SHAPE, np.uint8)}), "`number` must be at least 0, got -1"),
        (1, {0: np.zeros(SHAPE, np.uint8)}, "`known` must be networks.Activations, got dict: write Activations"),
        (
            1,
            Activations({0: np.zeros((6, 20, 28), np.uint8)}),
            r"`known.outputs\[0\]` must have shape \(6, 28, 28\) of known, got",
        ),
        (1, Activations({4: np.zeros(SHAPE, np.uint8)}), "`number in known.outputs` must be at most 3, got 4"),
        (3, Activations({1: np.zeros((4, 7, 7), np.uint8)}), "`known` must have output 0, the encoded image"),
    ],
)
def test_what_is_known_must_fit_and_be_enough(number, known, message):
    stages = (stage(FIRST, pool=4), stage(SECOND, inputs="encoder", pool=4), stage(LAST, inputs=("stage1", "stage2")))
    model = SpikingNetwork(Network("known", SHAPE, 10, stages)).model
    with pytest.raises((InputError, TypeError), match=message):
        model.output_of(number, known)
