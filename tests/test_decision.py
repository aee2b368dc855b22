"""Decisions: what they are made from, and the same whatever computes them, and however many images at a time."""

import dataclasses
import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.svm import LinearSVC

from snnjax import InputError, Settings, Trainer
from snnjax.core import devices
from snnjax.data import Dataset
from snnjax.encoding import PIXELS
from snnjax.kernels import Spikes
from snnjax.kernels.ramp import ramp_levels
from snnjax.layers import WTA, Conv, Ramp, Standardise
from snnjax.learners import RSTDP, STDP, SoftHebb, SupervisedSTDP
from snnjax.networks import Earliest, LinearSVM, Majority, Network, stage
from snnjax.networks.decision import decide, decides_by_votes, votes_of
from snnjax.training import TrainState

RANDOM = np.random.default_rng(0)
LABELS = np.arange(19, dtype=np.int32) % 2
IMAGES = RANDOM.integers(0, 256, (19, 16, 16), np.uint8)
DATA = Dataset("noise", IMAGES, LABELS, IMAGES, LABELS, classes=2)
TIMED = dict(time_steps=255, encoder=PIXELS, decision=Earliest(fallback=True))
FEATURES = Conv(20, 5, padding=2, threshold=32.0, competition=WTA(2), learners=STDP(), weight_mean=0.5, weight_std=0.1)
REWARDED = Conv(10, 5, padding=1, learners=RSTDP(bounds=(0.0, 1.0)), weight_mean=0.5, weight_std=0.1)
READOUT = Conv(10, 4, threshold=50.0, learners=SupervisedSTDP(), weight_mean=0.3, weight_std=0.05, fractional=True)
RAMP = Ramp(0.7, levels=ramp_levels(400.0, power=0.7, time_steps=255))
RAMPED = Conv(16, 3, padding=1, learners=SoftHebb(), ramp=RAMP, standardise=Standardise(), weight_mean=0.0)
RAMPED_STAGES = (
    stage(dataclasses.replace(RAMPED, weight_std=2.0), pool=2),
    stage(dataclasses.replace(RAMPED, weight_std=0.6), pool=2),
    stage(READOUT),
)
NETWORKS = [
    Network("rewarded", (6, 16, 16), 2, (stage(FEATURES), stage(REWARDED))),
    Network("ramped", (1, 16, 16), 2, RAMPED_STAGES, **TIMED),
]


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_decisions_are_the_same_everywhere(network, compiler):
    shown = []
    for backend in ("xla", "native"):
        trainer = Trainer(network, DATA, Settings((1,) * len(network.stages), backend=backend))
        state = TrainState(trainer.network.initial_weights(3))
        shown.append(trainer.predict(state, IMAGES))
    decisions, scores = shown[0]
    assert len(np.unique(scores, axis=0)) > 10
    model = trainer.trained(state).model

    def predicted(image):
        latency = model.encode(image)
        both = model.predict(latency), model.observe(latency).decided
        return [(decided.decision, decided.scores) for decided in both]

    shown += jax.jit(jax.vmap(predicted))(IMAGES[:3])
    for others, other_scores in shown:
        np.testing.assert_array_equal(others, decisions[: len(others)])
        np.testing.assert_array_equal(other_scores, scores[: len(others)])


def test_what_is_computed_in_blocks_has_gradients():
    weights = RANDOM.normal(0, 1, (4, 5)).astype(np.float32)
    items = RANDOM.normal(0, 1, (3, 5)).astype(np.float32)

    def plain(weights, item):
        return jnp.tanh(weights @ item)

    def slopes(function):
        slope = jax.grad(lambda weights, item: function(weights, item).sum(), argnums=(0, 1))
        return jax.jit(jax.vmap(slope, (None, 0)))(weights, items)

    same = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(same, slopes(devices.in_blocks(plain, 8)), slopes(plain))


def spikes_of(times, potentials) -> Spikes:
    """One neuron a feature; `Earliest` looks at times and potentials alone."""
    time, potential = (np.float32(x).reshape(-1, 1, 1) for x in (times, potentials))
    return Spikes(np.uint8(time), potential, time)


DECIDED = jax.jit(decide, static_argnums=2)


@pytest.mark.parametrize(
    ("times", "potentials", "decision", "fallback"),
    [
        ([0.5, 0.25, 0.75], [9, 1, 9], 1, 1),
        ([0.5, 0.25, 0.25], [9, 1, 2], 2, 2),
        ([1, 1, 1], [3, 3, 1], -1, 0),
        ([1, 1, 1], [0, 0, 0], -1, -1),
        ([1, 1, 1 - 2**-24], [1e6, 1e5, 1], 2, 2),
        ([0.5, 0.5 + 2**-24, 1], [1, 9, 9], 0, 0),
    ],
)
def test_the_earliest_neuron_decides_then_the_strongest_then_the_lowest(times, potentials, decision, fallback):
    for rule, expected in ((Earliest(), decision), (Earliest(fallback=True), fallback)):
        decided = DECIDED(rule, [spikes_of(times, potentials)], 3)
        assert decided.decision == decided.votes[0] == expected
        shown = [1 - time if time < 1 else 0 for time in times]
        np.testing.assert_allclose(decided.scores, shown, atol=1e-6)
    # two neurons a class: the better one counts
    worse = np.stack([times, np.ones(3)], 1), np.stack([potentials, np.zeros(3)], 1)
    assert DECIDED(Earliest(fallback=True), [spikes_of(*worse)], 3).decision == fallback


def test_the_majority_of_layers_decides_or_else_the_middle_one():
    for votes, expected in (([1, 2, 2], 2), ([2, 1, 0], 1), ([0, -1, 0], 0), ([-1, -1, 2], -1), ([1, 0, 2, 2, 0], 0)):
        scores = np.eye(3, dtype=np.float32)[votes] * (np.array(votes) >= 0)[:, None]
        assert votes_of(scores).tolist() == votes
        assert Majority().decide(scores) == expected, votes


@pytest.mark.parametrize("kind", [Majority, Earliest])
def test_own_scores_are_made_from_all_neurons_also_those_of_a_mixin(kind):
    own = dict(scores=lambda self, spikes, classes: spikes.potential.reshape(classes, -1).sum(axis=1))
    for other in (type("Own", (kind,), own), type("Mixed", (type("Mixin", (), own), kind), {})):
        assert other.decisive_spikes is not kind.decisive_spikes
        assert not decides_by_votes(other(), 1)
    other = type("Deciding", (type("Mixin", (), dict(decide=kind.decide)), kind), {})
    assert other.decisive_spikes is kind.decisive_spikes
    assert not decides_by_votes(other(), 1)


# The linear support vector machine


@jax.jit
def machine_decides(machine: LinearSVM, latencies: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """Scores and decisions on latencies of 15 steps."""

    def scores(latency):
        time = latency.astype(jnp.float32) / 15
        return machine.scores(Spikes(latency, jnp.zeros_like(time), time), 10)

    found = jax.vmap(scores)(latencies)
    return found, jax.vmap(machine.decide)(found[:, None])


@pytest.mark.parametrize("kept", [10, 2, 1])
def test_the_linear_machine_is_that_of_scikit_learn(kept):
    """The same margins and decisions as `LinearSVC` on 1 - t; classes without images are never decided for."""
    latencies = np.random.default_rng(0).integers(0, 25, (80, 4, 3, 2)).clip(max=15).astype(np.uint8)
    labels = np.arange(80) % kept
    machine = LinearSVM(C=0.3, tolerance=0.01).fit(latencies, labels.astype(np.int32), 10, 15)
    assert machine.fitted
    scores, decisions = map(np.asarray, machine_decides(machine, latencies))
    if kept == 1:
        assert not decisions.any()
        return
    inputs = 1 - latencies.reshape(80, -1) / 15
    known = LinearSVC(C=0.3, tol=0.01, max_iter=100, dual=True, random_state=0)
    with warnings.catch_warnings(action="ignore"):
        known.fit(inputs, labels)
    margins = known.decision_function(inputs)
    margins = np.stack([-margins, margins], axis=1) if kept == 2 else margins
    np.testing.assert_allclose(scores[:, :kept], np.log1p(np.exp(margins)), rtol=1e-5)
    assert (scores[:, kept:] == 0).all()
    np.testing.assert_array_equal(decisions, known.predict(inputs))
    low = dataclasses.replace(machine, intercepts=machine.intercepts - 500)
    np.testing.assert_array_equal(machine_decides(low, latencies)[1], decisions, "where log(1 + exp(margin)) is 0")
    silent = np.full_like(latencies, 15)
    assert np.all(machine_decides(machine, silent)[1] == -1), "no class without spikes"
    silent[:, 1, 0, 1] = 14
    assert np.all(machine_decides(machine, silent)[1] >= 0)


def test_settings_that_are_refused():
    for name in ("C", "tolerance", "iterations", "coefficients"):
        with pytest.raises(InputError, match=f"`{name}` must be"):
            LinearSVM(**{"intercepts": np.zeros(2), name: -1})
