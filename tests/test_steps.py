"""Steps: the plain ones against a judge, the fast ones against the plain ones, and which of them the registry takes.

Where weights and rates are multiples of a power of two nothing rounds, and a fast step learns bit for bit alike.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
from typing import Any

import jax
import judge
import numpy as np
import pytest
import reward_judge
import tiny

import snnjax
from snnjax.core import components, devices
from snnjax.layers.conv import WTA, Conv
from snnjax.layers.layer import LayerKernels
from snnjax.layers.layer_kernels import BLOCKS, NATIVE, XLA
from snnjax.layers.spiking import Layer
from snnjax.learners import RSTDP, STDP, SupervisedSTDP, Tally, TargetTime
from snnjax.networks import Earliest, Majority, Model, Network, stage
from snnjax.runs.run_folder import ONE_BY_ONE, RunFolder
from snnjax.steps import accelerated, native, plain
from snnjax.steps.plain import Carry, Phase, Slice
from snnjax.steps.registry import Case, fast_step
from snnjax.training.placement import as_array

T = 15
PLAIN = LayerKernels()
RNG = np.random.default_rng(0)


@functools.cache
def compiled(step: Any) -> Any:
    """A step of (phase, carry, model, slice), one jitted function for all tests."""
    return jax.jit(step, static_argnums=0)


def span(inputs: np.ndarray, start: int, stop: int, last: bool, labels: Any = None, batch_size: Any = None) -> Slice:
    return Slice(inputs, np.int32(start), np.int32(stop), np.bool_(last), labels, batch_size)


def assert_equal(found: Any, expected: Any, atol: float, rtol: float = 0) -> None:
    """Trees of the same shapes and dtypes; without tolerances bit for bit."""
    for one, other in zip(*(jax.tree.leaves(tree) for tree in (found, expected)), strict=True):
        assert (np.shape(one), one.dtype) == (np.shape(other), other.dtype)
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


# STDP

IMAGES = RNG.integers(0, 3 * T, (30, 2, 8, 8)).clip(max=T).astype(np.uint8)
IMAGES[9:12] = T
SEEN = 2
"""Images that the layer has seen before."""
SPANS = (5, 20, False), (20, 28, True)
"""The images before and after these neither teach nor count; the last batch is short."""
EXACT = STDP(ltp=1 / 64, ltd=-1 / 128, doubling=10, ltp_max=0.25, stabiliser=False)
QUICK = STDP(ltp=0.04, ltd=-0.03, doubling=10, ltp_max=0.25)
BASE = Conv(4, 3, threshold=3.0, competition=WTA(2, radius=2), learners=EXACT)
WITHIN = dataclasses.replace(EXACT, bounds=(0.25, 0.875))
SIGNED = dataclasses.replace(EXACT, bounds=(-1.0, 1.0))
LAYERS = {
    "exact": BASE,
    "stabiliser": dataclasses.replace(BASE, learners=QUICK),
    "strided, all features win": dataclasses.replace(BASE, padding=1, stride=2, competition=WTA(4), learners=WITHIN),
    "signed": dataclasses.replace(BASE, threshold=1.0, learners=SIGNED),
    "pointwise": dataclasses.replace(BASE, padding=1, learners=dataclasses.replace(EXACT, pointwise=True)),
    "no threshold": dataclasses.replace(BASE, threshold=None),
    "target times": dataclasses.replace(BASE, competition=Conv.competition, learners=TargetTime(patches=2)),
}
OUTSIDE = "exact", "signed"
"""Layers with some weights outside of their bounds, which the first update clips."""


def weights_of(name: str) -> np.ndarray:
    """Multiples of 1/64 (F, C, kh, kw)."""
    weights = np.float32(np.random.default_rng(1).integers(32, 70, (4, 2, 3, 3)) / 64)
    return weights if name in OUTSIDE else weights.clip(*LAYERS[name].learners.bounds)


@functools.cache
def learned(name: str, step: Any, kernels: LayerKernels, batch: int) -> tuple[Carry, list[Any]]:
    """The carry after both spans, its layer as `PLAIN`, and the infos of the images learned from."""
    conv = LAYERS[name].prepared(2)
    layer = Layer(conv, weights_of(name), T, PLAIN, conv.monotone)
    state = conv.learners.init(layer, np.array([0, 1], np.uint32), SEEN)
    layer = dataclasses.replace(layer.packed(kernels), in_bounds=name not in OUTSIDE)
    carry, infos = jax.tree.map(as_array, Carry(dict(layer1=layer), dict(layer1=state))), []
    for start, stop, last in SPANS:
        phase = Phase(("layer1",), learner=0, batch=batch)
        carry, found = compiled(step)(phase, carry, None, span(IMAGES, start, stop, last))
        infos.append(jax.tree.map(lambda x, here=slice(start, stop): np.asarray(x[here]), found.infos["layer1"]))
    return carry._replace(layers=dict(layer1=carry.layers["layer1"].packed(PLAIN))), infos


def judged(name: str, batch: int) -> tuple[np.ndarray, list[list[int]]]:
    """By the judge, image after image, of which `batch` win by the same weights: weights, and features that won."""
    conv, weights, features = LAYERS[name], np.float64(weights_of(name)), []
    rule, padding, stride = conv.learners, (conv.padding,) * 2, (conv.stride,) * 2
    shown = weights
    for number, image in enumerate(IMAGES[SPANS[0][0] : SPANS[-1][1]]):
        shown = shown if number % batch else weights
        if rule.pointwise:
            image, _ = judge.pointwise_inhibition(image, np.ones(image.shape), T)
        padded = judge.pad(image, padding, T)
        latency, potential = judge.fire(judge.potentials(padded, shown, T, stride), conv.threshold)
        left = judge.pointwise_inhibition(latency, potential, T)
        winners = judge.k_winners(*left, conv.competition.winners, conv.competition.radius, T)
        ltp = min(rule.ltp * 2 ** ((SEEN + number + 1) // rule.doubling), rule.ltp_max)
        spikes = [(winner, latency[winner]) for winner in winners]
        rates = (ltp, ltp * rule.ltd / rule.ltp)
        weights = judge.stdp(weights, padded, spikes, rates, T, rule.bounds, rule.stabiliser, stride)
        features.append([winner[0] for winner in winners] + [-1] * (conv.competition.winners - len(winners)))
    return weights, features


@pytest.mark.parametrize(
    ("name", "batch"), [*((name, 1) for name in LAYERS if name != "target times"), ("stabiliser", 5)]
)
def test_plain_stdp_is_that_of_the_judge(name, batch):
    """Silent images teach nothing but count."""
    carry, infos = learned(name, plain.learn_unsupervised, XLA, batch)
    weights, features = judged(name, batch)
    assert np.concatenate(infos).tolist() == features
    assert features[4:7] == [[-1] * LAYERS[name].competition.winners] * 3
    assert int(carry.states["layer1"]) == SEEN + 23
    rule = LAYERS[name].learners
    found = carry.layers["layer1"].weights
    rounding = dict(rtol=1e-4, atol=1e-6) if rule.stabiliser else dict(rtol=0, atol=0)
    np.testing.assert_allclose(found, weights, **rounding)
    assert np.abs(found - weights_of(name).clip(*rule.bounds)).max() > 0.05, "hardly anything was learned"
    assert batch == 1 or features != judged(name, 1)[1], "the case tells nothing"


COMPILED_STDP = native.learn_stdp, BLOCKS, 1
FEATURES = accelerated.learn_features, XLA
FAST_STDP = [
    ("exact", *COMPILED_STDP),
    ("signed", *COMPILED_STDP),
    ("strided, all features win", *COMPILED_STDP),
    ("stabiliser", *COMPILED_STDP),
    ("strided, all features win", *FEATURES, 1),
    ("pointwise", *FEATURES, 5),
    ("target times", native.learn_target_time, NATIVE, 1),
]


@pytest.mark.parametrize(
    ("name", "step", "kernels", "batch"),
    FAST_STDP,
    ids=[f"{name} by {step.__name__}, {batch} at a time" for name, step, _, batch in FAST_STDP],
)
def test_fast_steps_without_labels_are_the_plain_one(name, step, kernels, batch, compiler):
    """Bit for bit, but where compiled kernels round."""
    expected = learned(name, plain.learn_unsupervised, XLA, batch)
    rounds = name in ("stabiliser", "target times")
    assert_equal(learned(name, step, kernels, batch), expected, atol=1e-5 if rounds else 0)
    assert (expected[0].layers["layer1"].weights != weights_of(name)).mean() > 0.3


def test_a_layer_without_a_learner_does_not_learn():
    stages = stage(Conv(4, 3, threshold=3)), stage(Conv(10, 3, learners=RSTDP()))
    trainer = snnjax.Trainer(Network("fixed", (6, 28, 28), 10, stages), tiny.images(), snnjax.Settings((5, 5)))
    assert [(phase.layers, phase.first) for phase in trainer.plan] == [(("layer2",), 1)]


# RSTDP: tests/test_reward.py compares its other steps with a judge

REWARDED = {
    "dropout": ((3,), RSTDP(stabiliser=True, dropout=0.5), False),
    "branches by turns": ((3, 2), RSTDP(by_epoch=True), True),
}


@pytest.mark.parametrize("name", REWARDED)
def test_batches_learned_by_reward_are_those_of_the_plain_step(name):
    kernels, learner, by_turns = REWARDED[name]
    convs = (Conv(12, kernel, padding=1, learners=learner) for kernel in kernels)
    network = reward_judge.network_of(stage(*convs), by_turns=by_turns)
    images, labels = (each[:24] for each in reward_judge.images_of(network))
    phase, model, carry = reward_judge.start_of(network, XLA, batch=6)
    for start, stop, last in ((0, 24, True), (6, 15, False), (0, 12, True)):
        part = span(images, start, stop, last, labels, np.int32(4))
        found, expected = (
            compiled(step)(phase, carry, model, part)
            for step in (accelerated.learn_reward_batches, plain.learn_supervised)
        )
        assert_equal(found[0], expected[0], atol=0)
        assert_equal(*(jax.tree.map(lambda x: x[:stop], each[1]) for each in (found, expected)), atol=0)
        assert any(np.any(expected[0].layers[x].weights != model.layers[x].weights) for x in phase.layers)


# SupervisedSTDP

READOUTS = {
    "NCG": (SupervisedSTDP(gap=0.1, threshold_rate=2.0), 15, 3),
    "NCG of 11 neurons": (SupervisedSTDP(gap=0.1, threshold_rate=2.0, non_targets=2), 22, 2),
    "PCN, one-sided": (SupervisedSTDP(gap=0.1, one_sided=True), 6, 3),
    "SSTDP": (SupervisedSTDP(competition=False, non_targets=0, one_sided=True, normalise=False, gap=0.2), 3, 3),
    "three of each class": (SupervisedSTDP(competition=False, non_targets=0, gap=0.1), 9, 3),
    "one class": (SupervisedSTDP(), 5, 1),
}
BY_STEP = plain.learn_supervised, PLAIN
BY_SEARCH = plain.learn_supervised, XLA
COMPILED = native.learn_readout, XLA
BATCHES = native.learn_readout, XLA
LABELLED = (2, 5, False), (5, 23, False), (23, 37, True)
"""The first ends within a batch, the last ends the epoch."""


def readout(
    learner: SupervisedSTDP,
    features: int,
    classes: int,
    steps: int = T,
    fractional: bool = False,
    fallback: bool = True,
) -> tuple[Model, np.ndarray, np.ndarray]:
    """A network of 30 inputs, its 40 images, of which some are silent, and labels, of which some are -1."""
    rng = np.random.default_rng(1)
    conv = Conv(features, (2, 3), threshold=4.0, fractional=fractional, learners=learner)
    decision = Earliest(fallback=fallback)
    network = Network("small", (5, 2, 3), classes, (stage(conv),), decision=decision, time_steps=steps)
    weights = np.float32(rng.integers(8, 40, (features, 5, 2, 3)) / 64)  # so that sums are exact at first
    images = rng.integers(0, 2 * steps, (40, 5, 2, 3)).clip(max=steps)
    images[::9] = steps
    late = rng.random(40) < 0.2  # neurons stay silent
    images[late] = np.where(rng.random(images[late].shape) < 0.8, steps, images[late])
    labels = rng.integers(-1, classes, 40)
    model = jax.tree.map(as_array, Model.of(network, {"layer1": weights}))
    return model, images.astype(np.uint8), labels.astype(np.int32)


def carry_of(model: Model) -> Carry:
    layer = model.layers["layer1"]
    states = jax.tree.map(as_array, layer.conv.last_learner.init(layer, np.zeros(2, np.uint32), 0))
    return Carry(model.layers, dict(layer1=states), Tally(*[np.int32(0)] * 5))


def taught(case: Any, step: Any, kernels: LayerKernels, batch: int = 1, spans: Any = LABELLED) -> tuple[Carry, list]:
    """The carry, its layer as `PLAIN`; after each span the tally, and the results for images learned from."""
    model, images, labels = case
    packed, results = model.packed({"layer1": kernels}), []
    carry, phase = carry_of(packed), Phase(("layer1",), batch=batch)
    for start, stop, last in spans:
        carry, found = compiled(step)(phase, carry, packed, span(images, start, stop, last, labels, np.int32(9)))
        found = jax.tree.map(lambda x, here=slice(start, stop): np.asarray(x[here]), found)
        results.append((carry.tally, found))
    return carry._replace(layers=dict(layer1=carry.layers["layer1"].packed(PLAIN))), results


@pytest.mark.parametrize(
    ("kind", "steps", "fractional", "forms"),
    [
        ("NCG", 4, True, (BY_STEP, COMPILED)),
        ("NCG of 11 neurons", 4, True, (COMPILED,)),
        ("PCN, one-sided", 4, False, (COMPILED,)),
        ("SSTDP", 255, True, (COMPILED,)),
        ("three of each class", T, False, (COMPILED,)),
        ("one class", 4, True, (COMPILED,)),
    ],
)
def test_fast_steps_of_readouts_are_the_plain_one(kind, steps, fractional, forms, compiler):
    """Rounding may decide a near-tie, but hardly in 40 images."""
    case = readout(*READOUTS[kind], steps, fractional, fallback=steps != 4)
    carry, results = expected = taught(case, *BY_SEARCH)
    moved = np.abs(carry.layers["layer1"].weights - case[0].layers["layer1"].weights)
    assert (moved > 1e-3).mean() > 0.1, "hardly anything is learned"
    labels = np.concatenate([found.infos["layer1"]["label"] for _, found in results])
    silent = (case[1][2:37] == steps).all((1, 2, 3))
    np.testing.assert_array_equal(labels, np.where(silent, -1, case[2][2:37]), "neither silent nor unlabelled images")
    for form in forms:
        assert_equal(taught(case, *form), expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("kind", ["NCG", "SSTDP"])
def test_an_accelerator_learns_batches_of_a_readout_as_the_plain_step(kind):
    """Batches of 8 images, of which the last may be short."""
    case = readout(*READOUTS[kind])
    for spans in (((0, 24, False), (24, 37, True)), ((32, 40, True),)):
        expected = taught(case, *BY_SEARCH, batch=8, spans=spans)
        assert_equal(taught(case, *BATCHES, batch=8, spans=spans), expected, rtol=1e-5, atol=2e-5)
        assert np.any(expected[0].layers["layer1"].weights != case[0].layers["layer1"].weights)


@pytest.mark.skipif(not pathlib.Path("/proc/self/task").exists(), reason="sets the cores of threads as Linux does")
def test_two_cores_learn_exactly_as_one(compiler):
    if len(cores := os.sched_getaffinity(0)) < 2:
        pytest.skip("this process has one core")
    learner = SupervisedSTDP(gap=0.1, threshold_rate=2.0)
    conv = Conv(50, 1, threshold=400.0, fractional=True, weight_mean=0.3, weight_std=0.01, learners=learner)
    network = Network("readout", (5000, 1, 1), 10, (stage(conv),), decision=Earliest(), time_steps=255)
    model = jax.tree.map(as_array, Model.of(network, network.initial_weights(0)))
    images = RNG.integers(0, 256, (100, 5000, 1, 1), dtype=np.uint8)
    case = model, images, RNG.integers(-1, 10, 100).astype(np.int32)

    def run_on(chosen: set[int]) -> None:
        for thread in map(int, os.listdir("/proc/self/task")):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(thread, chosen)

    results = []
    try:
        for chosen in (cores, {min(cores)}, cores):
            run_on(chosen)
            results.append(jax.tree.map(np.asarray, taught(case, *COMPILED, spans=[(0, 100, False)])))
    finally:
        run_on(cores)
    for other in results[1:]:
        assert_equal(other, results[0], atol=0)


# The registry


@snnjax.component
class OtherRule(STDP):
    """A subclass may learn otherwise."""


@snnjax.component
class OtherCompetition(WTA):
    """A subclass may choose otherwise."""


def network_of(*stages: Any, decision: Any = None) -> Network:
    """Stages of one layer or, in a tuple, of several, for 64 maps of 4x4."""
    made = (stage(*each) if isinstance(each, tuple) else stage(each) for each in stages)
    return Network("registry", (64, 4, 4), 2, tuple(made), decision=decision or Majority())


LAST = Conv(4, 4, learners=RSTDP())
LARGE = Conv(32, 1, threshold=2.0, competition=WTA(2), learners=STDP())
"""Of 2,048 features times input maps."""
SMALL = dataclasses.replace(LARGE, features=31)
DEEP = Conv(6, 1, threshold=2.0, competition=WTA(2), learners=RSTDP(bounds=(0.0, 1.0)))
READOUT = Conv(4, 4, threshold=2.0, learners=SupervisedSTDP())


def first(**changes: Any) -> Network:
    """A layer that learns by STDP."""
    return network_of(dataclasses.replace(LARGE, **changes), LAST)


def deep(**changes: Any) -> Network:
    """A layer that learns by reward before the deciding one."""
    return network_of(dataclasses.replace(DEEP, **changes), LAST)


def inhibited(network: Network) -> Network:
    """The network with pointwise inhibition after its first stage."""
    return components.replace(network, "stages.0.pointwise", True)


def read(*stages: Any) -> Network:
    return network_of(*stages, decision=Earliest(fallback=True))


PLATFORMS = (False, "cpu"), (True, "cpu"), (False, "gpu")
COLUMNS = [(*platform, batch) for platform in PLATFORMS for batch in (1, 4)]
"""Whether compiled kernels are wanted, the platform, and how many images learn at a time."""
COMPILED_REWARD = native.learn_reward, BLOCKS, True
REWARD_ON_GPU = None, (accelerated.learn_reward_batches, XLA, False)
TARGETS = native.learn_target_time, NATIVE, False
ON_GPU = ((*FEATURES, False),) * 2
READ_ON_GPU = None, (*BATCHES, False)
NO = (None, None)
REWARD = *NO, COMPILED_REWARD, None, *REWARD_ON_GPU
BY_STDP = *NO, (*COMPILED_STDP[:2], True), None, *ON_GPU
TAKEN = {
    "large STDP": (first(), BY_STDP),
    "small STDP": (network_of(SMALL, LAST), BY_STDP),
    "thresholds of features": (first(threshold=np.linspace(1, 2, 32)), BY_STDP),
    "another competition": (first(competition=OtherCompetition()), (*NO, *NO, *ON_GPU)),
    "unbounded STDP": (first(learners=STDP(bounds=(0.0, np.inf), stabiliser=False)), BY_STDP),
    "pointwise STDP": (first(learners=STDP(pointwise=True)), (*NO, *NO, *ON_GPU)),
    "another rule": (first(learners=OtherRule()), (*NO, *NO, *NO)),
    "target times": (
        first(competition=Conv.competition, learners=TargetTime()),
        (*NO, TARGETS, TARGETS, *NO),
    ),
    "reward": (network_of(LAST), REWARD),
    "branches": (network_of((LAST, LAST)), REWARD),
    "unbounded reward": (
        network_of(dataclasses.replace(LAST, learners=RSTDP(bounds=(0.0, np.inf)))),
        (*NO, *NO, *REWARD_ON_GPU),
    ),
    "reward by times": (read(dataclasses.replace(LAST, threshold=2.0)), (*NO, *NO, *NO)),
    "deep reward": (deep(), (*NO, COMPILED_REWARD, None, *NO)),
    "deep, thresholds of features": (deep(threshold=np.linspace(1, 2, 6)), (*NO, *NO, *NO)),
    "deep, pointwise inhibition": (inhibited(deep()), (*NO, *NO, *NO)),
    "deep, another competition": (deep(competition=OtherCompetition()), (*NO, *NO, *NO)),
    "deep, negative weights": (deep(learners=RSTDP(bounds=(-1.0, 1.0))), (*NO, *NO, *NO)),
    "deep, dropout": (deep(learners=RSTDP(bounds=(0.0, 1.0), dropout=0.5)), (*NO, *NO, *NO)),
    "deep branches": (network_of((DEEP, DEEP), LAST), (*NO, *NO, *NO)),
    "readout": (read(READOUT), (*NO, (*COMPILED, False), None, *READ_ON_GPU)),
    "readout with padding": (read(dataclasses.replace(READOUT, kernel=6, padding=1)), (*NO, *NO, *READ_ON_GPU)),
    "readout with strides": (read(dataclasses.replace(READOUT, stride=2)), (*NO, *NO, *READ_ON_GPU)),
    "two readouts": (read((READOUT, READOUT)), (*NO, *NO, *NO)),
}
"""Networks; of each column the step with its kernels, and whether it clips."""


@pytest.mark.parametrize("name", TAKEN)
def test_the_registry_takes_the_step(name):
    network, expected = TAKEN[name]
    model = Model.of(network, network.initial_weights())
    supervised = network.stages[0].branches[0].learners.supervised
    names = [layer for _, layer, _ in network.layers()] if supervised else ["layer1"]
    for (compiled_kernels, platform, batch), wanted in zip(COLUMNS, expected, strict=True):
        phase = Phase(tuple(names), batch=batch)
        step = fast_step(Case(phase, model, compiled_kernels, platform))
        found = step and (step.run, step.kernels, step.clips)
        assert found == wanted, f"{batch} at a time on a {platform}, compiled kernels: {compiled_kernels}"
        by_turns = fast_step(Case(phase._replace(by_turns=True), model, compiled_kernels, platform))
        assert by_turns == (None if name.startswith("readout") else step)


def test_a_training_takes_the_steps_of_its_devices_and_says_where_one_image_at_a_time_is_slow(tmp_path):
    network = Network("taken", (6, 4, 4), 2, (stage(SMALL), stage(LAST)))
    images = snnjax.data.Dataset("none", *[np.zeros((4, 4, 4), np.uint8), np.arange(4) % 2] * 2, classes=2)
    model = Model.of(network, network.initial_weights())
    for batch, one_by_one in ((1, ["layer1 (STDP)", "layer2 (RSTDP)"]), (4, [])):
        trainer = snnjax.Trainer(network, images, snnjax.Settings((1, 1), update_batch=batch, backend="xla"))
        assert trainer.job.placement.platform == devices.peers()[0].platform
        for platform, step, slow in (("cpu", None, []), ("gpu", accelerated.learn_features, one_by_one)):
            trainer.job.placement.platform = platform
            fast = fast_step(Case(trainer.plan[0], model, False, platform))
            assert (fast and fast.run) is step
            assert trainer.one_by_one(trainer.initial_state()) == slow
            with RunFolder(tmp_path / f"{batch}_{platform}", trainer) as run:
                run.start()
                assert run.notes == [f"layer1 (STDP), layer2 (RSTDP): {ONE_BY_ONE}"] * bool(slow)
