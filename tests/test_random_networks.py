"""Random networks and rules: compiled, XLA, batched, mapped and one by one they decide and learn alike.

200 networks: of each of 20 random structures ten with other numbers, weights and images. SNNJAX_FUZZ_SEED is the
number of the first structure, 0 by default; a failing test names its structure and draw.
"""

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnjax import Settings, Trainer, component, static
from snnjax.core.errors import TooSmallError
from snnjax.data import Dataset
from snnjax.encoding import DOG, ON_OFF, PIXELS
from snnjax.layers import WTA, Conv, Pool, Ramp, Standardise
from snnjax.learners import RSTDP, STDP, Learner, SoftHebb, SupervisedSTDP, TargetTime
from snnjax.networks import (
    Concatenate,
    Earliest,
    EarliestSpike,
    LatestSpike,
    LinearSVM,
    Majority,
    Network,
    Stage,
    stage,
)
from snnjax.networks.graph import name_of

FIRST = int(os.environ.get("SNNJAX_FUZZ_SEED", "0"))
STRUCTURES = 8
DRAWS = 10
IMAGES = 18
CLASSES = 2
EXACT = ("STDP", "RSTDP", "Moving")
"""Rules with numbers such that all sums are exact while they learn: compiled kernels learn bit for bit alike."""


@component
class Moving(Learner):
    """Moves winners towards inputs that fired early, or all weights, or thresholds."""

    rate: float = 0.125
    early: int = 5
    kind: int = static(default=0)
    bounds = (0.0, 1.0)

    def update(self, layer, state, latency, response, signal):
        winners = response.winners
        early = layer.receptive_fields(latency, winners) < self.early
        rows = layer.weights_of(winners)
        if self.kind == 0:
            layer = layer.with_weights_of(winners, jnp.clip(rows + self.rate * jnp.where(early, 1, -1), 0, 1))
        elif self.kind == 1:
            drop = self.rate * winners.valid.any()
            layer = layer.with_weights(jnp.clip(layer.weights - drop / 8, 0, 1)).with_weights_of(
                winners, early.astype(float)
            )
        else:
            raised = layer.conv.threshold + self.rate * winners.valid.sum()
            layer = layer.with_weights_of(winners, jnp.where(early, 1 - rows, rows)).with_threshold(raised)
        return layer, state, winners.feature

    @property
    def own_thresholds(self):
        return self.kind == 2


def pick(random: np.random.Generator, *choices: Any) -> Any:
    return choices[random.integers(len(choices))]


def features(random: np.random.Generator, time_steps: int) -> Conv:
    """A layer that finds features, with or without a ramp."""
    sizes = dict(
        features=int(random.integers(1, 20)),
        kernel=pick(random, 1, 2, 3, (3, 2), (2, 4), 5),
        padding=pick(random, 0, 1, (1, 0)),
        stride=pick(random, 1, 1, 1, 2, (1, 2)),
    )
    kind = pick(random, "STDP", "STDP", "Moving", "Moving", "TargetTime", "SoftHebb")
    if kind == "SoftHebb":
        rule = SoftHebb(minibatch_size=pick(random, 3, 6))
        return Conv(**sizes, learners=rule, ramp=Ramp(0.75), standardise=Standardise(), weight_mean=0.0, weight_std=1.0)
    if kind == "TargetTime":
        return Conv(**sizes, threshold=2.0, learners=TargetTime(patches=pick(random, 1, 3)))
    winners = int(random.integers(1, min(4, sizes["features"]) + 1))
    competition = WTA(winners, radius=int(random.integers(0, 3)))
    stdp = STDP(0.125, -0.0625, ltp_max=0.125, stabiliser=False, pointwise=pick(random, False, True))
    rule = stdp if kind == "STDP" else Moving(kind=int(random.integers(0, 3)))
    return Conv(**sizes, threshold=2.0, competition=competition, learners=rule)


def structure(seed: int) -> Network:
    """A random network; its numbers do not matter yet."""
    random = np.random.default_rng([7, seed])
    time_steps = pick(random, 6, 15, 40, 255)
    encoder = dataclasses.replace(pick(random, PIXELS, DOG, ON_OFF), time_steps=time_steps)
    size = tuple(random.integers(7, 13, 2).tolist())
    shape = encoder.output_shape(size)
    while True:
        stages: list[Stage] = []
        reads = dict[str, Any]()  # what the next stage reads, by default the one before
        for _ in range(int(random.integers(1, 3))):
            conv = features(random, time_steps)
            pool = pick(random, None, 2, Pool(2, stride=1), Pool(3, stride=2, padding=1))
            branches = [conv]
            if not conv.ramped and random.random() < 0.3:  # another layer side by side
                branches.append(dataclasses.replace(conv, features=conv.features + 3))
            stages.append(stage(*branches, pool=pool, **reads))
            if random.random() < 0.4:  # another stage that reads the same, and the next one reads both
                same = reads or dict(inputs=name_of(len(stages) - 1))
                features_too = sum(x.features for x in branches) + pick(random, 0, 3)
                stages.append(stage(dataclasses.replace(conv, features=features_too), pool=pool, **same))
                joins = [Concatenate()]
                if features_too == sum(x.features for x in branches):
                    joins += [EarliestSpike(), LatestSpike()]
                reads = dict(inputs=(name_of(len(stages) - 1), name_of(len(stages))), join=pick(random, *joins))
            else:
                reads = {}
        if reads:
            stages.append(stage(**reads))
        try:
            before = Network("fuzz", shape, CLASSES, tuple(stages), time_steps, decision=LinearSVM())
            return deciding(random, before, encoder, reads)
        except TooSmallError:
            continue


def deciding(random: np.random.Generator, before: Network, encoder: Any, reads: dict[str, Any]) -> Network:
    """The network with something that decides, given what it reads."""
    named = dict(encoder=encoder, name=f"{'x'.join(map(str, before.input_shape))}")
    kind = pick(random, "untimed", "timed", "supervised", "supervised", "fitted")
    if kind == "fitted":
        return dataclasses.replace(before, **named)
    stages = before.stages[:-1] if reads else before.stages  # without the stage that only joins
    size = before.shapes[-1][1:]
    common = dict(features=CLASSES * int(random.integers(1, 5)))
    reward = RSTDP((0.125, -0.0625), (-0.125, 0.0625), bounds=(0.0, 1.0))
    if kind == "untimed":
        last = Conv(**common, kernel=pick(random, 1, size), padding=pick(random, 0, 1), learners=reward)
        return dataclasses.replace(before, **named, stages=(*stages, stage(last, **reads)), decision=Majority())
    timed = dict(kernel=size, threshold=2.0, fractional=pick(random, False, True))
    few = common["features"] // CLASSES == 1
    rule = SupervisedSTDP(non_targets=0 if few else 1) if kind == "supervised" else reward
    last = Conv(**common, **timed, learners=rule)
    decision = Earliest(fallback=pick(random, False, True))
    return dataclasses.replace(before, **named, stages=(*stages, stage(last, **reads)), decision=decision)


def numbered(network: Network, random: np.random.Generator) -> Network:
    """The network with other thresholds, some of which hardly any neuron exceeds."""
    stages = []
    for each, shape in zip(network.stages, network.input_shapes, strict=True):
        branches = []
        inputs = shape[0] * int(np.prod(np.broadcast_to(each.branches[0].kernel, 2))) if each.branches else 0
        for conv in each.branches:
            threshold = max(1, round(inputs * random.uniform(0.05, 0.3))) / 2
            branches.append(conv if conv.threshold is None else dataclasses.replace(conv, threshold=threshold))
        stages.append(dataclasses.replace(each, branches=tuple(branches)))
    return dataclasses.replace(network, stages=tuple(stages))


def weights_of(network: Network, random: np.random.Generator, exact: bool) -> dict[str, np.ndarray]:
    """Multiples of 1/64 for layers without a ramp whose sums must be exact.

    Other weights are arbitrary: a potential that is exactly a threshold exceeds it or not by how its sum is rounded.
    """
    weights = network.initial_weights(int(random.integers(2**31)))
    for name in sorted(weights.keys() - {*network.ramped}):
        values = random.uniform(0.2, 0.8, weights[name].shape)
        weights[name] = np.float32(np.round(values * 64) / 64 if exact else values)
    return weights


def images(random: np.random.Generator, network: Network) -> Dataset:
    """Pictures of noise, smooth ones and some that are flat, so that there are ties."""
    _, height, width = network.input_shape
    pictures = random.integers(0, 256, (2 * IMAGES, height, width))
    pictures[::3] = pictures[::3] // 128 * 255
    pictures[1::7] = pictures[1::7, :1, :1]
    pictures[0] = 0
    labels = np.arange(2 * IMAGES, dtype=np.int32) % CLASSES
    halves = np.uint8(pictures[:IMAGES]), np.uint8(pictures[IMAGES:])
    return Dataset("noise", halves[0], labels[:IMAGES], halves[1], labels[IMAGES:], classes=CLASSES)


def trained(network: Network, data: Dataset, weights: dict[str, np.ndarray], backend: str) -> tuple[Trainer, Any]:
    epochs = (1,) * len(network.stages)
    trainer = Trainer(network, data, Settings(epochs, adapt_every=1000, patience=0, backend=backend))
    state = trainer.initial_state()
    state.weights = dict(weights)
    return trainer, trainer.run(state)


@jax.jit
def decide(model: Any, image: Any) -> tuple[Any, Any]:
    prediction = model.predict(model.encode(image))
    return prediction.decision, prediction.scores


@jax.jit
def decide_many(model: Any, batch: Any) -> tuple[Any, Any]:
    return jax.vmap(lambda image: decide(model, image))(batch)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(FIRST, FIRST + STRUCTURES))
def test_random_networks_learn_and_decide_alike(seed, compiler):
    network = structure(seed)
    kinds = {type(learner).__name__ for _, _, conv in network.layers() for learner in conv.each_learner}
    for draw in range(DRAWS):
        random = np.random.default_rng([11, seed, draw])
        where = f"structure {seed}, draw {draw}: {sorted(kinds)}"
        numbers = numbered(network, random)
        exact = kinds <= {*EXACT}
        data = images(random, numbers)
        weights = weights_of(numbers, random, exact)
        trainer, state = trained(numbers, data, weights, "xla")
        compiled, other = trained(numbers, data, weights, "native")
        tolerance = 0 if exact else 2e-4
        for name, each in state.weights.items():
            np.testing.assert_allclose(other.weights[name], each, 0, tolerance, err_msg=f"{name}, {where}", strict=True)
        model = jax.tree.map(jnp.asarray, trainer.trained(state).model)
        one_by_one = [decide(model, image) for image in data.test_images[:4]]
        found = dict(
            compiled=compiled.predict(state, data.test_images),
            fewer=trainer.predict(state, data.test_images[:5]),
            together=decide_many(model, data.test_images),
            one_by_one=jax.tree.map(lambda *x: np.stack(x), *one_by_one),
        )
        expected = trainer.predict(state, data.test_images)
        for name, result in found.items():
            for one, other in zip(result, expected, strict=True):
                np.testing.assert_array_equal(one, other[: len(one)], f"{name}, {where}", strict=True)
    jax.clear_caches()  # hundreds of programs that no other test needs
