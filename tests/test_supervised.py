"""Supervised STDP of readouts: its kernels, the learner, and its fast forms."""

import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnjax import (
    Conv,
    Earliest,
    Model,
    Network,
    SupervisedSTDP,
    kernels,
    stage,
)
from snnjax.layers import FAST, PLAIN
from snnjax.learners import Tally
from snnjax.testing import check_learner
from snnjax.training import programs
from snnjax.training.outputs import as_array

GOLDEN = np.load(pathlib.Path(__file__).parent / "golden" / "readout.npz")
CASES = sorted({name.split("/")[1] for name in GOLDEN.files})
STEPS = 15


class Case(NamedTuple):
    """A recorded case; without competition or targets of its own SSTDP, it normalises."""

    time_steps: int
    classes: int
    threshold: float
    learner: SupervisedSTDP
    arrays: dict[str, np.ndarray]

    @classmethod
    def of(cls, name: str) -> "Case":
        arrays = {key.split("/")[2]: GOLDEN[key] for key in GOLDEN.files if key.split("/")[1] == name}
        steps, classes, _, others, threshold, gap, ltp, ltd, rate, competition, sstdp = arrays["params"].tolist()
        kind = dict(competition=bool(competition), non_targets=int(others), one_sided=bool(sstdp))
        rates = dict(ltp=ltp, ltd=ltd, gap=gap, threshold_rate=rate)
        learner = SupervisedSTDP(**kind, **rates, normalise=not sstdp)
        return cls(int(steps), int(classes), threshold, learner, arrays)

    @property
    def model(self) -> Model:
        """The network before the first image; its inputs are (K, 1, 1)."""
        weights = self.arrays["weights_before"]
        conv = Conv(len(weights), 1, threshold=self.threshold, learners=self.learner)
        shape, decision = (weights.shape[1], 1, 1), Earliest(fallback=True)
        network = Network("golden", shape, self.classes, (stage(conv),), decision=decision, time_steps=self.time_steps)
        return jax.tree.map(as_array, Model.of(network, {"layer1": weights[:, :, None, None]}))

    @property
    def images(self) -> tuple[jax.Array, jax.Array]:
        return jnp.asarray(self.arrays["latency"][:, :, None, None]), jnp.asarray(self.arrays["labels"])

    def after(self, image: int) -> np.ndarray | None:
        """The weights after an image, if they are recorded."""
        recorded = self.arrays["weights_after"]
        return recorded[image] if len(recorded) == 6 else {0: recorded[0], 5: recorded[1]}.get(image)


def carry_of(model: Model) -> Any:
    """What learns of a model, as the programs take it."""
    states = {
        name: jax.tree.map(as_array, layer.conv.supervised.init(layer, np.zeros(2, np.uint32), 0))
        for name, layer in model.layers.items()
    }
    return model.layers, states, Tally(*jnp.zeros(5, jnp.int32))


def learn(model: Model, images: Any, labels: Any, batch: int = 1, start: int = 0, count: int | None = None) -> Any:
    """By the program of the trainer."""
    numbers = (jnp.int32(start), jnp.int32(len(images) if count is None else count), jnp.bool_(False), jnp.int32(4))
    settings = dict(first=0, batch=batch, by_turns=False)
    program = jax.jit(programs.learn_supervised, static_argnames=settings)
    return program(carry_of(model), model, images, labels, *numbers, **settings)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("search", [False, True])
def test_recorded_spikes_and_weights_of_the_kernels(name, search):
    case = Case.of(name)
    weights, rule = jnp.asarray(case.arrays["weights_before"]), case.learner
    size = len(weights) // case.classes
    sums, rates = weights.sum(1), jnp.float32([rule.ltp, rule.ltd])
    for at, (latency, label) in enumerate(zip(case.arrays["latency"], case.arrays["labels"], strict=True)):
        how = dict(threshold=case.arrays["thresholds"][at], time_steps=case.time_steps)
        if search:
            spikes = kernels.search_spikes(jnp.asarray(latency), weights, **how)
        else:
            spikes = kernels.timed_spikes(jnp.asarray(latency[:, None, None]), weights[:, :, None, None], **how)
            spikes = jax.tree.map(lambda x: x[:, 0, 0], spikes)
        np.testing.assert_allclose(spikes.time, case.arrays["times"][at], rtol=0, atol=1e-6)
        np.testing.assert_allclose(spikes.potential, case.arrays["potentials"][at], rtol=1e-5, atol=1e-5)
        group, place = np.divmod(np.arange(len(weights)), size)
        neuron = np.arange(len(weights))
        if rule.competition:
            first = kernels.earliest(spikes.time.reshape(-1, size), spikes.potential.reshape(-1, size))
            neuron = np.arange(case.classes) * size + first
        target = jnp.asarray((group == label) & (place >= rule.non_targets))[neuron]
        settings = dict(gap=rule.gap, own=len(neuron) // case.classes, one_sided=rule.one_sided)
        time, spike = spikes.time[neuron], spikes.latency[neuron]
        error = time - kernels.desired_times(time, target, **settings)
        latency = jnp.asarray(latency)
        rows = kernels.error_stdp(weights[neuron], latency, spike, error, rates, bounds=rule.bounds)
        if rule.normalise:
            rows = kernels.rescaled(rows, sums[neuron], bounds=rule.bounds)
        weights = weights.at[neuron].set(rows)
        if (after := case.after(at)) is not None:
            np.testing.assert_allclose(weights, after, rtol=0, atol=5e-5)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("form", [PLAIN, FAST], ids=["plain", "fast"])
def test_recorded_decisions_and_weights_of_the_learner(name, form):
    """By the program of the trainer, image by image; thresholds in training show in the infos."""
    case = Case.of(name)
    model = case.model.packed({"layer1": form})
    carry, (images, labels) = carry_of(model), case.images
    settings = dict(first=0, batch=1, by_turns=False)
    program = jax.jit(programs.learn_supervised, static_argnames=settings)
    for at in range(6):
        numbers = (jnp.int32(at), jnp.int32(at + 1), jnp.bool_(False), jnp.int32(4))
        carry, (decisions, infos) = program(carry, model, images, labels, *numbers, **settings)
        assert decisions[at] == case.arrays["decisions"][at]
        info = jax.tree.map(lambda x, at=at: np.asarray(x[at]), infos["layer1"])
        np.testing.assert_allclose(info["time"], case.arrays["times"][at][info["neuron"]], rtol=0, atol=1e-6)
        if (after := case.after(at)) is not None:
            np.testing.assert_allclose(carry[0]["layer1"].weights[:, :, 0, 0], after, rtol=0, atol=5e-5)
        if at < 5 and case.arrays["labels"][at] == case.arrays["labels"][at + 1] and len(info["threshold"]):
            first = case.arrays["labels"][at] * (len(info["threshold"]) + 1) + 1
            expected = case.arrays["thresholds"][at + 1][first : first + len(info["threshold"])]
            np.testing.assert_allclose(info["threshold"], expected, rtol=1e-6)


DECIDING = dict(deciding=True, decision=Earliest(fallback=True), input_shape=(5, 2, 3))
LEARNERS = {
    "NCG": (SupervisedSTDP(), 10, False),
    "PCN": (SupervisedSTDP(gap=0.1), 4, False),
    "S2-STDP": (SupervisedSTDP(competition=False, non_targets=0, gap=0.1), 2, False),
    "SSTDP": (SupervisedSTDP(competition=False, non_targets=0, one_sided=True, normalise=False, gap=0.2), 2, False),
    "within the steps": (SupervisedSTDP(threshold_rate=1.0), 6, True),
    "several of each class": (SupervisedSTDP(competition=False, non_targets=0), 6, False),
    "one of each class competes": (SupervisedSTDP(non_targets=0), 2, False),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNERS)
def test_it_keeps_the_contract(name):
    learner, features, fractional = LEARNERS[name]
    conv = Conv(features, kernel=(2, 3), threshold=6.0, fractional=fractional)
    check_learner(learner, conv, **DECIDING)


@st.composite
def readouts(draw):
    """Latencies (K,), weights (F, K) whose sums are exact, T and a threshold."""
    inputs, features, steps = draw(st.integers(1, 40)), draw(st.integers(1, 6)), draw(st.sampled_from([1, 2, 15, 255]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    latency = rng.integers(0, draw(st.sampled_from([steps, 2 * steps])) + 1, inputs).clip(max=steps).astype(np.uint8)
    weights = np.float32(rng.integers(0, 65, (features, inputs)) / 64)
    threshold = draw(st.sampled_from([0.0, 0.5, 2.25, 6.0, 100.0]))
    return jnp.asarray(latency), jnp.asarray(weights), steps, np.float32(threshold + rng.integers(0, 3, features))


@given(readouts(), st.booleans())
def test_the_search_finds_the_spikes_of_all_steps(readout, fractional):
    latency, weights, steps, threshold = readout
    how = dict(threshold=threshold, time_steps=steps, fractional=fractional)
    expected = kernels.timed_spikes(latency[:, None, None], weights[:, :, None, None], **how)
    found = kernels.search_spikes(latency, weights, **how)
    np.testing.assert_array_equal(found.latency, expected.latency[:, 0, 0])
    np.testing.assert_array_equal(found.potential, expected.potential[:, 0, 0])
    np.testing.assert_allclose(found.time, expected.time[:, 0, 0], rtol=1e-6)
