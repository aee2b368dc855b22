"""Supervised STDP of readouts: its kernels, the learner, and its fast steps."""

import contextlib
import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import snnjax
from snnjax import Conv, Earliest, InputError, Majority, Model, Network, SupervisedSTDP, kernels, stage
from snnjax.data import digits
from snnjax.kernels.native import readout as native_readout
from snnjax.kernels.readout import _of_earliest_at_once
from snnjax.layers.layer_kernels import AT_ONCE, PLAIN, TAPS, XLA
from snnjax.layers.spiking import Layer
from snnjax.learners import Tally
from snnjax.networks.batches import decide_batch
from snnjax.steps import accelerated, deciding, native, plain, registry
from snnjax.steps.plain import Carry, Slice, Task
from snnjax.steps.registry import Case
from snnjax.testing import check_learner
from snnjax.training.advice import describe
from snnjax.training.stage_cache import as_array

HERE = pathlib.Path(__file__)
# All recorded cases, where the data of tests/test_agreement.py are at hand; the three largest are not kept here.
WHOLE = pathlib.Path(os.environ.get("SNNJAX_SHARED", HERE.parents[2] / "shared"), "golden", "readout.npz")
GOLDEN = np.load(WHOLE if WHOLE.exists() else HERE.parent / "golden" / "readout.npz")
CASES = sorted({name.split("/")[1] for name in GOLDEN.files})
STEPS = 15


class Recorded(NamedTuple):
    """A recorded case; without competition or targets of its own SSTDP, it normalises."""

    time_steps: int
    classes: int
    threshold: float
    learner: SupervisedSTDP
    arrays: dict[str, np.ndarray]

    @classmethod
    def of(cls, name: str) -> "Recorded":
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


def carry_of(model: Model) -> Carry:
    """What learns of a model, as the steps take it."""
    states = {
        name: jax.tree.map(as_array, layer.conv.last_learner.init(layer, np.zeros(2, np.uint32), 0))
        for name, layer in model.layers.items()
    }
    return Carry(model.layers, states, Tally(*jnp.zeros(5, jnp.int32)))


ALONE = Task(("layer1",))
"""One image at a time."""
FORMS = dict(
    plain=(PLAIN, plain.learn_supervised),
    fast=(XLA, plain.learn_supervised),
    compiled=(XLA, native.learn_readout),
    accelerated=(AT_ONCE, accelerated.learn_readout),
)


def compiled(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step of (task, carry, model, slice), compiled."""
    return jax.jit(step, static_argnums=0)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("search", [None, kernels.search_spikes, kernels.spikes_at_once])
def test_recorded_spikes_and_weights_of_the_kernels(name, search):
    case = Recorded.of(name)
    weights, rule = jnp.asarray(case.arrays["weights_before"]), case.learner
    size = len(weights) // case.classes
    sums, rates = weights.sum(1), jnp.float32([rule.ltp, rule.ltd])
    for at, (latency, label) in enumerate(zip(case.arrays["latency"], case.arrays["labels"], strict=True)):
        how = dict(threshold=case.arrays["thresholds"][at], time_steps=case.time_steps)
        if search:
            spikes = search(jnp.asarray(latency), weights, **how)
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
        settings = dict(gap=rule.gap, per_class=len(neuron) // case.classes, one_sided=rule.one_sided)
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
@pytest.mark.parametrize("form", FORMS)
def test_recorded_decisions_and_weights_of_the_learner(name, form, compiler):
    """By the steps of the trainer, image by image; thresholds in training show in the infos."""
    case = Recorded.of(name)
    layout, step = FORMS[form]
    model, program = case.model.packed({"layer1": layout}), compiled(step)
    carry, (images, labels) = carry_of(model), case.images
    for at in range(6):
        span = jnp.int32(at), jnp.int32(at + 1), jnp.bool_(False)
        carry, found = program(ALONE, carry, model, Slice(images, *span, labels, jnp.int32(4)))
        assert found.decisions[at] == case.arrays["decisions"][at]
        info = jax.tree.map(lambda x, at=at: np.asarray(x[at]), found.infos["layer1"])
        np.testing.assert_allclose(info["time"], case.arrays["times"][at][info["neuron"]], rtol=0, atol=1e-6)
        if (after := case.after(at)) is not None:
            np.testing.assert_allclose(carry.layers["layer1"].weights[:, :, 0, 0], after, rtol=0, atol=5e-5)
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


@pytest.mark.parametrize("search", [kernels.search_spikes, kernels.spikes_at_once])
@given(readout=readouts(), fractional=st.booleans())
def test_the_search_finds_the_spikes_of_all_steps(search, readout, fractional):
    latency, weights, steps, threshold = readout
    how = dict(threshold=threshold, time_steps=steps, fractional=fractional)
    expected = kernels.timed_spikes(latency[:, None, None], weights[:, :, None, None], **how)
    found = search(latency, weights, **how)
    np.testing.assert_array_equal(found.latency, expected.latency[:, 0, 0])
    np.testing.assert_array_equal(found.potential, expected.potential[:, 0, 0])
    np.testing.assert_allclose(found.time, expected.time[:, 0, 0], rtol=1e-6)


def small(learner: SupervisedSTDP, features: int, classes: int, steps: int, fractional: bool, seed: int) -> Any:
    """A network of 30 inputs, its images, of which some are silent, and labels, of which some are -1."""
    rng = np.random.default_rng(seed)
    conv = Conv(features, (2, 3), threshold=4.0, fractional=fractional, learners=learner)
    decision = Earliest(fallback=bool(seed % 2))
    network = Network("small", (5, 2, 3), classes, (stage(conv),), decision=decision, time_steps=steps)
    weights = np.float32(rng.integers(8, 40, (features, 5, 2, 3)) / 64)  # so that sums are exact at first
    images = rng.integers(0, 2 * steps, (40, 5, 2, 3)).clip(max=steps)
    images[::9] = steps
    late = rng.random(40) < 0.2  # neurons stay silent
    images[late] = np.where(rng.random(images[late].shape) < 0.8, steps, images[late])
    labels = rng.integers(-1, classes, 40)
    model = jax.tree.map(as_array, Model.of(network, {"layer1": weights}))
    return model, jnp.asarray(images, jnp.uint8), jnp.asarray(labels, jnp.int32)


KINDS = {
    "NCG": (SupervisedSTDP(gap=0.1, threshold_rate=2.0), 15, 3),
    "NCG of 11 neurons": (SupervisedSTDP(gap=0.1, threshold_rate=2.0, non_targets=2), 22, 2),
    "PCN": (SupervisedSTDP(gap=0.1), 6, 3),
    "S2-STDP": (SupervisedSTDP(competition=False, non_targets=0, gap=0.1), 3, 3),
    "SSTDP": (SupervisedSTDP(competition=False, non_targets=0, one_sided=True, normalise=False, gap=0.2), 3, 3),
    "three of each class": (SupervisedSTDP(competition=False, non_targets=0, gap=0.1), 9, 3),
    "one of each class competes": (SupervisedSTDP(non_targets=0, one_sided=True), 3, 3),
    "one class": (SupervisedSTDP(), 5, 1),
}


@pytest.mark.parametrize(
    ("steps", "fractional"),
    [(4, True), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((1, False), (255, False), (255, True)))],
)
@pytest.mark.parametrize("kind", KINDS)
def test_fast_forms_are_the_plain_one(kind, fractional, steps, compiler):
    """In two slices, of which the last ends the epoch; rounding may decide a near-tie, but hardly in 40 images."""
    learner, features, classes = KINDS[kind]
    model, images, labels = small(learner, features, classes, steps, fractional, len(kind) + steps)
    found = {}
    for form, (layout, step) in FORMS.items():
        packed, infos, program = model.packed({"layer1": layout}), [], compiled(step)
        carry = carry_of(packed)
        for start, end in ((0, 23), (23, 40)):
            span = jnp.int32(start), jnp.int32(end), jnp.bool_(end == 40)
            carry, results = program(ALONE, carry, packed, Slice(images, *span, labels, jnp.int32(9)))
            infos.append(jax.tree.map(lambda x, here=slice(start, end): x[here], results))
        carry.layers["layer1"] = carry.layers["layer1"].packed(PLAIN)
        found[form] = carry, infos
    learned = np.abs(found["plain"][0].layers["layer1"].weights - model.layers["layer1"].weights)
    assert steps == 1 or (learned > 1e-3).mean() > 0.1, "hardly anything is learned"
    for form in FORMS:
        for one, other in zip(jax.tree.leaves(found[form]), jax.tree.leaves(found["plain"]), strict=True):
            assert (one.shape, one.dtype) == (other.shape, other.dtype)
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("spans", [((0, 24), (24, 40)), ((0, 21),), ((32, 40),)])
@pytest.mark.parametrize("kind", ["NCG", "S2-STDP", "SSTDP", "one of each class competes"])
def test_an_accelerator_learns_batches_as_the_plain_program(kind, spans):
    """Batches of 8 images, of which the last may be short; what is not shown is 0 in both."""
    learner, features, classes = KINDS[kind]
    model, images, labels = small(learner, features, classes, STEPS, False, len(kind))
    found, task = [], ALONE._replace(batch=8)
    for step in (plain.learn_supervised, accelerated.learn_readout):
        carry, program, results = carry_of(model), compiled(step), []
        for start, end in spans:
            span = jnp.int32(start), jnp.int32(end), jnp.bool_(end == 40)
            carry, result = program(task, carry, model, Slice(images, *span, labels, jnp.int32(9)))
            results.append(result)
        found.append((carry, results))
    assert np.any(found[0][0].layers["layer1"].weights != model.layers["layer1"].weights)
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(("platform", "batch", "form"), [("gpu", 1, AT_ONCE), ("tpu", 8, XLA), ("cpu", 8, None)])
def test_an_accelerator_takes_a_step_of_its_own(platform, batch, form):
    model, *_ = small(SupervisedSTDP(), 15, 3, STEPS, False, 1)
    task = ALONE._replace(batch=batch)
    found = registry.fast_step(Case(task, model, native=False, platform=platform))
    taken = found and (found.run, found.kernels, found.unit(task))
    assert taken == (form and (accelerated.learn_readout, form, batch))


@given(st.lists(st.tuples(st.sampled_from([0.25, 0.5, 1.0]), st.integers(-2, 2)), min_size=1, max_size=8))
def test_the_earliest_in_one_reduction(neurons):
    time, potential = (jnp.asarray(x, jnp.float32)[None] for x in zip(*neurons, strict=True))
    values = jnp.arange(len(neurons))[None], time
    expected = kernels.of_earliest(time, potential, values)
    assert int(expected[0][0]) == int(kernels.earliest(time, potential)[0])
    jax.tree.map(np.testing.assert_array_equal, _of_earliest_at_once(time, potential, *values), expected)


@snnjax.component
class AsTheyFire(SupervisedSTDP):
    """Desires the times at which neurons fire already; of target neurons, half a step earlier."""

    def desired(self, time, target, per_class):
        assert (time.shape, target.shape, per_class) == ((3,), (3,), 1)
        return jnp.where(target, time - 0.5 / STEPS, time)


def test_a_subclass_desires_times_of_its_own():
    model, images, labels = small(AsTheyFire(non_targets=0), 6, 3, STEPS, False, 0)
    part = Slice(images, jnp.int32(0), jnp.int32(40), jnp.bool_(False), labels, jnp.int32(1000))
    _, found = compiled(plain.learn_supervised)(ALONE, carry_of(model), model, part)
    error, label = (np.asarray(found.infos["layer1"][key]) for key in ("error", "label"))
    target = np.arange(3) == label[:, None]
    assert 20 < target.sum() < 40
    np.testing.assert_allclose(error, target * 0.5 / STEPS, atol=1e-6)


@snnjax.component
class InColumns(SupervisedSTDP):
    def desired(self, time, target, per_class):
        return time[:, None]


def test_desired_times_of_another_shape_are_refused():
    conv = Conv(6, (4, 4), threshold=8.0)
    with pytest.raises(AssertionError, match=r"`desired` must return times \(2,\), got shape \(2, 1\)"):
        check_learner(InColumns(), conv, deciding=True, decision=Earliest(fallback=True), input_shape=(2, 4, 4))


@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.parametrize("fractional", [False, True])
@pytest.mark.parametrize("features", [3, 33])
def test_blocks_are_decided_as_single_images(features, fractional, fallback, compiler):
    model, images, _ = small(SupervisedSTDP(non_targets=0), features, 3, 15, fractional, int(fallback))
    expected = [model.packed({"layer1": PLAIN}).decide(image) for image in images]
    expected = jax.tree.map(lambda *x: np.stack(x), *expected)
    assert len(np.unique(expected.decision)) > 2
    for form in (XLA, TAPS, deciding.READOUT):
        decision, scores = decide_batch(model.packed({"layer1": form}), images, first=model.last)
        np.testing.assert_array_equal(decision, expected.decision)
        np.testing.assert_allclose(scores, expected.scores, rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("label", [1, -1])
def test_silent_images_and_images_without_a_label_teach_nothing(form, label, compiler):
    layout, step = FORMS[form]
    model, images, _ = small(SupervisedSTDP(), 15, 3, 15, False, 1)
    model = model.packed({"layer1": layout})
    images = jnp.full_like(images, 15) if label >= 0 else images
    before = carry_of(model)
    span = jnp.int32(0), jnp.int32(40), jnp.bool_(False)
    part = Slice(images, *span, jnp.full(40, label), jnp.int32(1000))
    after, found = compiled(step)(ALONE, before, model, part)
    jax.tree.map(np.testing.assert_array_equal, after[:2], before[:2])
    assert all((found.infos["layer1"][key] == -1).all() for key in ("neuron", "label"))
    assert (found.decisions == -1).all() == (label >= 0)


def test_desired_times_by_hand():
    """Three neurons that fire at 0.2, 0.4 and never; the first is the target of the label's class."""
    time, target = jnp.float32([0.2, 0.4, 1]), jnp.array([True, False, False])
    found = kernels.desired_times(time, target, gap=0.3, per_class=1)
    np.testing.assert_allclose(found, [0.3 - 0.2, 0.3 + 0.1, 0.3 + 0.1], rtol=1e-6)
    found = kernels.desired_times(time, target, gap=0.3, per_class=1, one_sided=True)
    np.testing.assert_allclose(found, [0.1, 0.4, 1], rtol=1e-6)
    found = kernels.desired_times(jnp.ones(3), target, gap=0.3, per_class=1)
    np.testing.assert_allclose(found, [0.7, 1, 1], rtol=1e-6)


def test_thresholds_of_competitors_by_hand():
    found = kernels.balanced(jnp.float32([0, 1, 5]), jnp.int32(1), 3.0)
    np.testing.assert_allclose(found, [0, 3, 4])


def test_rows_without_weights_remain():
    found = kernels.rescaled(jnp.float32([[0, 0], [1, 1], [0.5, 0]]), jnp.float32([1, 1, 2]), bounds=(0.0, 1.0))
    np.testing.assert_array_equal(found, [[0, 0], [0.5, 0.5], [1, 0]])


TIMES = jnp.float32([0.2, 0.4, 1])
ROWS = jnp.ones((3, 5))
SPIKES = jnp.uint8([1, 2, 3])
FIVE = jnp.zeros(5, jnp.uint8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kernels.search_spikes(FIVE, ROWS[:, 1:], threshold=1.0, time_steps=15), r"\(3, 5\) of `latency`, got"),
        (lambda: kernels.search_spikes(FIVE, ROWS[0], threshold=1.0, time_steps=15), r"`weights` .* axes \(F K\)"),
        (lambda: kernels.search_spikes(FIVE, ROWS, threshold=TIMES[:2], time_steps=15), r"`threshold` .* \(3,\), got"),
        (lambda: kernels.search_spikes(FIVE, ROWS, threshold=np.nan, time_steps=15), "`threshold` must be finite"),
        (lambda: kernels.search_spikes(FIVE, ROWS, threshold=None, time_steps=15), "`threshold` must be a number or"),
        (lambda: kernels.earliest(TIMES, TIMES[:2]), r"`potential` must have shape \(3,\) of `time`, got \(2,\)"),
        (lambda: kernels.earliest([0.2, 1.0], TIMES), "`time` must be an array, got list"),
        (
            lambda: kernels.desired_times(TIMES, TIMES, gap=0.1, per_class=1),
            "`target` must hold booleans, got dtype float32",
        ),
        (
            lambda: kernels.desired_times(TIMES, TIMES[:2] > 0, gap=0.1, per_class=1),
            r"`target` .*of `time`, got \(2,\)",
        ),
        (
            lambda: kernels.desired_times(TIMES, TIMES > 0, gap=0.1, per_class=0),
            "`per_class` must be at least 1, got 0",
        ),
        (
            lambda: kernels.desired_times(SPIKES, TIMES > 0, gap=0.1, per_class=1),
            "`time` must hold floats, got dtype uint8",
        ),
        (lambda: stdp(rows=ROWS[:2]), r"`rows` must have shape \(3, 5\) of `spike` and `latency`, got \(2, 5\)"),
        (lambda: stdp(latency=FIVE[1:]), r"`rows` must have shape \(3, 4\) of `spike` and `latency`, got \(3, 5\)"),
        (lambda: stdp(error=TIMES[:1]), r"`error` must have shape \(3,\) of `spike`, got \(1,\)"),
        (lambda: stdp(spike=TIMES), "`spike` must hold integer time steps, got dtype float32"),
        (lambda: stdp(rates=TIMES), r"`rates` must be \(a\+, a-\), of shape \(2,\), got shape \(3,\)"),
        (lambda: stdp(bounds=(1.0, 0.0)), "`bounds` must be .* lower < upper"),
        (lambda: kernels.rescaled(ROWS, TIMES[:2], bounds=(0.0, 1.0)), r"`sums` .*\(3,\) of `rows`, got \(2,\)"),
        (lambda: kernels.rescaled(ROWS, TIMES, bounds=0.5), "`bounds` must be"),
        (lambda: kernels.balanced(ROWS, jnp.int32(1), 3.0), r"`excess` must have axes \(m\), got shape \(3, 5\)"),
        (lambda: kernels.balanced(TIMES, TIMES[0], 3.0), "`winner` must hold integers, got dtype float32"),
    ],
)
def test_bad_input_of_the_kernels(call, message):
    with pytest.raises(InputError, match=message):
        call()


def stdp(**changes) -> jax.Array:
    """Calls `error_stdp`."""
    args = dict(rows=ROWS, latency=FIVE, spike=SPIKES, error=TIMES, rates=jnp.float32([0.1, -0.1]), bounds=(0.0, 1.0))
    return kernels.error_stdp(**args | changes)


@pytest.mark.parametrize("fires", ["early", "as expected", "late", "never"])
@pytest.mark.parametrize("beyond", [15, 255])
def test_neurons_are_followed_from_late_on(fires, beyond, compiler):
    """Where their weights are at the inputs that fire early, late or anywhere; three lanes of weights and a rest."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 16, (30, 50, 1, 1), dtype=np.uint8)
    images[:, :25] //= 2
    weights = rng.uniform(0.4, 0.6, (15, 50, 1, 1)).astype(np.float32)
    weights[:, :25] *= dict(early=8, late=0.1).get(fires, 1)
    kinds = dict(threshold=100.0 if fires == "never" else 10.0, fractional=True, time_steps=15)
    shown = jnp.asarray(np.where(images == 15, beyond, images))  # silent by a latency of 15, or more
    found = jax.jit(lambda x: native_readout.earliest_of_classes(x, jnp.asarray(weights), classes=3, **kinds))(shown)
    spikes = jax.vmap(lambda image: kernels.timed_spikes(image, jnp.asarray(weights), **kinds))(jnp.asarray(images))
    each = [np.asarray(x).reshape(30, 3, 5) for x in (spikes.time, spikes.potential, spikes.latency)]
    earliest = np.lexsort((-each[1], each[0]))[..., :1]
    time, potential, latency = (np.take_along_axis(x, earliest, axis=2)[..., 0] for x in each)
    assert fires == "never" or (latency < 15).any()
    np.testing.assert_allclose(found.time.reshape(30, 3), time, atol=1e-5)
    np.testing.assert_allclose(found.potential.reshape(30, 3), potential, rtol=1e-4)
    np.testing.assert_array_equal(found.latency.reshape(30, 3), latency)


@pytest.mark.skipif(not pathlib.Path("/proc/self/task").exists(), reason="sets the cores of threads as Linux does")
def test_two_cores_learn_exactly_as_one(compiler):
    if len(cores := os.sched_getaffinity(0)) < 2:
        pytest.skip("this process has one core")
    rng, learner = np.random.default_rng(0), SupervisedSTDP(gap=0.1, threshold_rate=2.0)
    conv = Conv(50, 1, threshold=400.0, fractional=True, weight_mean=0.3, weight_std=0.01, learners=learner)
    network = Network("readout", (5000, 1, 1), 10, (stage(conv),), decision=Earliest(), time_steps=255)
    model = jax.tree.map(as_array, Model.of(network, network.initial_weights(0))).packed({"layer1": XLA})
    images = jnp.asarray(rng.integers(0, 256, (300, 5000, 1, 1), dtype=np.uint8))
    labels = jnp.asarray(rng.integers(-1, 10, 300), jnp.int32)
    part = Slice(images, jnp.int32(0), jnp.int32(300), jnp.bool_(False), labels, jnp.int32(1000))
    learn = compiled(native.learn_readout)

    def run_on(each: set[int]) -> None:
        for thread in map(int, os.listdir("/proc/self/task")):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(thread, each)

    found = []
    try:
        for each in (cores, {min(cores)}, cores):
            run_on(each)
            found.append(jax.tree.map(np.asarray, learn(ALONE, carry_of(model), model, part)))
    finally:
        run_on(cores)
    for other in found[1:]:
        jax.tree.map(np.testing.assert_array_equal, found[0], other)


def test_images_outside_the_span_teach_nothing(compiler):
    model, images, labels = small(SupervisedSTDP(), 15, 3, 15, False, 1)
    model = model.packed({"layer1": XLA})
    part = Slice(images, jnp.int32(10), jnp.int32(30), jnp.bool_(False), labels, jnp.int32(1000))
    _, found = compiled(native.learn_readout)(ALONE, carry_of(model), model, part)
    info = jax.tree.map(np.asarray, found.infos["layer1"])
    for key in ("label", "neuron"):
        assert (info[key][:10] == -1).all()
        assert (info[key][30:] == -1).all()
        assert (info[key][10:30] >= 0).any()


def diagnosed(learner: SupervisedSTDP, features: int, **info) -> dict[str, Any]:
    """What a layer of two classes, with thresholds of 4, finds in an epoch's infos."""
    conv = Conv(features, 1, threshold=4.0, learners=learner)
    network = Network("two", (3, 1, 1), 2, (stage(conv),), decision=Earliest())
    layer = Model.of(network, {"layer1": np.ones((features, 3, 1, 1), np.float32)}).layers["layer1"]
    state = learner.init(layer, np.zeros(2, np.uint32), 0)
    found = learner.diagnose(layer, {key: np.array(value) for key, value in info.items()})
    words = describe("layer1", layer, learner, found)
    return dict(found, scalars=learner.scalars(learner.end_epoch(state)), text=" | ".join(words))


def test_figures_by_hand():
    """Of two classes of three neurons, of which the first of each is no target; the last image taught nothing."""
    found = diagnosed(
        SupervisedSTDP(threshold_rate=8.0),
        6,
        label=[0, 1, 0, -1],
        neuron=[[1, 3], [1, 4], [2, 4], [-1, -1]],
        time=[[0.2, 1.0], [0.5, 0.3], [0.6, 1.0], [0.0, 0.0]],
        error=[[0.1, 0.1], [-0.1, -0.1], [0.2, 0.0], [0.0, 0.0]],
        threshold=[[9.0, 6.0], [7.0, 5.0], [8.0, 10.0], [0.0, 0.0]],
    )
    assert found["wins"] == [0, 2, 1, 1, 2, 0]
    assert found["times"] == [1, 0.35, 0.6, 1, 0.3, 1], "silence is not a time"
    assert found["thresholds"] == [4, 8, 10, 4, 7, 5], "the last of each class"
    spread = [found[f"training_threshold_{kind}"] for kind in ("min", "mean", "max")]
    assert spread == [5, 7.5, 10], "of the target neurons"
    assert (found["never_won"], found["silent_neurons"]) == (2, pytest.approx(1 / 3))
    assert (found["spike_time"], found["time_error"]) == (pytest.approx(0.4), pytest.approx(0.1))
    assert "2 of 6 neurons never won (0, 5)" in found["text"]
    assert "training thresholds of layer1 end at 5..10, mean 7.5" in found["text"], "without those that have none"
    assert found["scalars"]["threshold_rate"] == 4.0
    assert "too high" not in found["text"]


@pytest.mark.parametrize(
    ("learner", "features"), [(SupervisedSTDP(), 4), (SupervisedSTDP(competition=False, non_targets=0), 2)]
)
def test_without_training_thresholds_there_are_no_figures_of_them(learner, features):
    none = np.zeros((1, 0))
    found = diagnosed(learner, features, label=[0], neuron=[[0, 1]], time=[[1.0, 1.0]], error=[[0, 0]], threshold=none)
    assert "the threshold 4 is too high: try a lower one" in found["text"]
    assert "thresholds" not in found
    assert "training thresholds" not in found["text"]
    assert set(found["scalars"]) == {"rate_plus", "rate_minus"}


def spec(**changes) -> Network:
    """A network for digits; changes are those of its layer, or of itself."""
    conv = dict(features=20, kernel=28, threshold=100.0, weight_mean=0.3, weight_std=0.01)
    conv |= {key: value for key, value in changes.items() if key in ("features", "kernel", "threshold")}
    layer, decision = Conv(**conv, learners=SupervisedSTDP()), changes.get("decision", Earliest(fallback=True))
    return Network("readout", (6, 28, 28), 10, (stage(layer),), decision=decision)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SupervisedSTDP(ltp=0.0), "`ltp` must be finite and above 0, got 0.0"),
        (lambda: SupervisedSTDP(ltd=0.1), "`ltd` must be finite and at most 0, got 0.1"),
        (lambda: SupervisedSTDP(gap=2.0), r"`gap` must lie in 0\.\.1, got 2.0"),
        (lambda: SupervisedSTDP(annealing=1.5), "`annealing` must lie above 0 and up to 1, got 1.5"),
        (lambda: SupervisedSTDP(threshold_annealing=0.0), "`threshold_annealing` must lie above 0 and up to 1, got 0"),
        (lambda: SupervisedSTDP(threshold_rate=-1.0), "`threshold_rate` must be finite and at least 0, got -1.0"),
        (lambda: SupervisedSTDP(bounds=(-1.0, 1.0)), "`bounds` must be at least 0, so that potentials never fall"),
        (lambda: SupervisedSTDP(competition=False), "`non_targets` must be 0 without `competition`, got 1"),
        (
            lambda: spec(decision=Majority(), threshold=None),
            "under a decision with times",
        ),
        (lambda: spec(kernel=27), "`kernel` must be that of the whole map, .* got 2x2 of them"),
        (lambda: spec(threshold=None), "`threshold` must be a number for SupervisedSTDP of layer1"),
        (lambda: spec(threshold=-1.0), "`threshold` of layer1 must be at least 0 for SupervisedSTDP, got -1.0"),
        (lambda: spec(features=10), "must leave a target neuron in each class, got 1: layer1 has 1 neurons a class"),
    ],
)
def test_what_cannot_learn_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("compiled", [False, True], ids=["XLA", "compiled"])
def test_it_learns_digits(compiled, compiler):
    """Without features: each neuron sees all pixels."""
    data = digits().first(400, 200)
    trainer = snnjax.Trainer(spec(), data, snnjax.Settings((3,), native=compiled))
    state = trainer.run(trainer.initial_state())
    assert state.epochs[-1]["test"]["accuracy"] > 0.7
    diagnosis = state.diagnoses["SupervisedSTDP"]
    assert sum(diagnosis["wins"]["layer1"]) == 4000


def test_neurons_that_fire_at_once_are_said_to():
    """Of a threshold that the first inputs reach."""
    rule, conv = SupervisedSTDP(), Conv(10, 2, threshold=2.0)
    layer = Layer(conv, np.zeros((10, 1, 2, 2), np.float32), 15, classes=2, kernels=XLA)
    info = dict(label=np.zeros(4, int), neuron=np.zeros((4, 2), int), error=np.zeros((4, 2)), threshold=np.ones((4, 4)))

    def words_at(time: float) -> str:
        figures = rule.diagnose(layer, info | dict(time=np.full((4, 2), time)))
        return " ".join(describe("layer2", layer, rule, figures))

    assert "the threshold 2 is too low: neurons fire at the first steps" in words_at(0.02)
    assert "too low" not in words_at(0.5)
