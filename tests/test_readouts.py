"""Learning from a sequence by supervised STDP, and decisions on many stimuli: `readout_judge` judges them."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import readout_judge
from conftest import assert_close
from refusals import assert_refused
from test_compiled import calls

from snnjax import kernels
from snnjax.kernels._readout_accelerator import learn_on_accelerator
from snnjax.kernels._readout_rule import ReadoutRule, ReadoutSettings
from snnjax.kernels._readout_xla import learn_on_cpu
from snnjax.kernels.readout import LearnedReadout

pytestmark = pytest.mark.usefixtures("compiler")
T = 15
SHAPE = (5, 2, 3)
STIMULI = 23
NCG = dict(gap=0.1, threshold_rate=2.0, non_targets=1, competition=True, one_sided=False)
ALL = dict(gap=0.1, threshold_rate=0.0, non_targets=0, competition=False, one_sided=False)
KINDS = {
    "NCG": (NCG, 15, 3),
    "NCG of 11 neurons": (NCG | dict(non_targets=2), 22, 2),
    "PCN, one-sided": (NCG | dict(one_sided=True), 6, 3),
    "SSTDP": (ALL | dict(one_sided=True, gap=0.2, sums=None), 3, 3),
    "three of each class": (ALL, 9, 3),
    "one class": (NCG, 5, 1),
}
"""The rule, and how many features and classes there are."""


def made(kind, time_steps=T, seed=1, count=STIMULI, **settings):
    """The arguments and the settings of `learn_readout`.

    Some stimuli are silent, some labels are -1, some stimuli are left out, and some weights lie outside the bounds.
    """
    rule, features, classes = KINDS[kind]
    rng = np.random.default_rng(seed)
    weights = np.float32(rng.integers(8, 40, (features, *SHAPE)) / 64)  # so that sums are exact at first
    weights[:, 0, 0, 0] = 2.0
    latencies = rng.integers(0, 2 * time_steps, (count, *SHAPE)).clip(max=time_steps)
    latencies[::9] = time_steps
    late = rng.random(count) < 0.2  # neurons stay silent
    latencies[late] = np.where(rng.random(latencies[late].shape) < 0.8, time_steps, latencies[late])
    latencies = latencies.astype(kernels.spikes.latency_dtype(time_steps))
    labels = np.int32(rng.integers(-1, classes, count))
    learns = rng.random(count) < 0.8
    arrays = weights, np.zeros(features, np.float32), latencies, labels, np.float32([0.05, -0.1]), learns
    defaults = dict(
        threshold=4.0 + np.float32(rng.integers(0, 3, features) / 4),
        classes=classes,
        time_steps=time_steps,
        bounds=(0.0, 1.0),
        sums=weights.reshape(features, -1).sum(axis=1),
        fractional=False,
    )
    return arrays, defaults | rule | settings


def judged(arrays, settings, update_batch=1):
    weights, excess, latencies, *rest = arrays
    flat = weights.reshape(len(weights), -1), excess, latencies.reshape(len(latencies), -1), *rest
    after, excess, spikes, *results = readout_judge.learn(*flat, update_batch=update_batch, **settings)
    return LearnedReadout(after.reshape(weights.shape), excess, kernels.Spikes(*spikes), *results)


def assert_judged(found, expected):
    """Equal choices, and numbers that are equal up to rounding."""
    for (path, other), one in zip(jax.tree.leaves_with_path(expected), jax.tree.leaves(found), strict=True):
        name = jax.tree_util.keystr(path)
        if np.issubdtype(other.dtype, np.integer):
            np.testing.assert_array_equal(one, other, name)
        else:
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-5, err_msg=name)


@pytest.mark.parametrize(
    ("kind", "time_steps", "fractional", "backends"),
    [
        ("NCG", 4, True, ("native", "xla")),
        ("NCG of 11 neurons", 4, True, ("native",)),
        ("PCN, one-sided", 4, False, ("native", "xla")),
        ("SSTDP", 255, True, ("native", "xla")),
        ("three of each class", T, False, ("native",)),
        ("one class", 4, True, ("native",)),
    ],
)
def test_what_is_learned_is_that_of_the_judge(kind, time_steps, fractional, backends):
    """Also from latencies of another type. What is left out has no results."""
    arrays, settings = made(kind, time_steps, fractional=fractional)
    expected = judged(arrays, settings)
    learns = arrays[-1]
    assert 0 < (expected.label >= 0).sum() < learns.sum() < STIMULI
    assert (np.abs(expected.weights - np.clip(arrays[0], 0, 1)) > 1e-3).mean() > 0.1, "hardly anything is learned"
    for backend in backends:
        with kernels.use_backend(backend):
            assert_judged(kernels.learn_readout(*arrays, **settings), expected)
    wide = *arrays[:2], arrays[2].astype(np.int32), *arrays[3:]
    assert_judged(kernels.learn_readout(*wide, **settings), expected)


def rule_of(rates, *, sums, **settings):
    """The `ReadoutRule` of the arguments of `learn_readout`."""
    numbers = {name: settings.pop(name) for name in ("threshold", "gap", "threshold_rate", "bounds")}
    return ReadoutRule(rates, **numbers, sums=sums, settings=ReadoutSettings(**settings, normalise=sums is not None))


@pytest.mark.parametrize(("kind", "update_batch"), [*(("NCG", size) for size in range(1, 6)), ("SSTDP", 4)])
def test_batches_have_the_same_weights(kind, update_batch):
    """The last group is short; on accelerators as on a CPU."""
    arrays, settings = made(kind, fractional=True)
    expected = judged(arrays, settings, update_batch)
    with kernels.use_backend("xla"):
        found = kernels.learn_readout(*arrays, update_batch=update_batch, **settings)
    assert_judged(found, expected)
    _, excess, latencies, labels, rates, learns = arrays
    inputs = latencies.reshape(STIMULI, -1)
    learned = learns & (labels >= 0) & (inputs < T).any(axis=1)
    begin = np.clip(arrays[0], 0, 1).reshape(len(excess), -1), excess
    rule = rule_of(rates, **settings)
    stimuli = inputs, np.maximum(labels, 0), learned
    learn = jax.jit(functools.partial(learn_on_accelerator, update_batch=update_batch))
    (weights, excess), (spikes, neuron, time, error, thresholds) = learn(rule, begin, stimuli)
    mask = learned[:, None]
    assert_judged(
        LearnedReadout(
            weights.reshape(arrays[0].shape),
            excess,
            jax.tree.map(lambda x, none: np.where(learns[:, None], x, none), spikes, kernels.Spikes(T, 0, 1)),
            np.where(mask, neuron, -1),
            np.where(mask, time, 0),
            np.where(mask, error, 0),
            expected.label,
            np.where(mask, thresholds, 0),
        ),
        expected,
    )


GOLDEN = np.load(pathlib.Path(__file__).parent / "golden" / "readout.npz")


@pytest.mark.parametrize("backend", ["native", "xla"])
@pytest.mark.parametrize("name", ["000", "001", "002", "007", "010"])
def test_recorded_results(name, backend):
    """Decisions, times and weights of the published code, stimulus by stimulus, for each kind of rule."""
    recorded = {key.split("/")[2]: GOLDEN[key] for key in GOLDEN.files if key.split("/")[1] == name}
    steps, classes, _, non_targets, threshold, gap, ltp, ltd, rate, competition, sstdp = recorded["params"].tolist()
    weights = recorded["weights_before"][:, :, None, None]
    rule = dict(
        gap=gap,
        sums=None if sstdp else weights.reshape(len(weights), -1).sum(axis=1),
        threshold_rate=rate,
        non_targets=int(non_targets),
        competition=bool(competition),
        one_sided=bool(sstdp),
    )
    layer = dict(threshold=threshold, classes=int(classes), time_steps=int(steps))
    known = recorded["weights_after"]
    after = dict(zip(range(6) if len(known) == 6 else (0, 5), known, strict=True))
    excess = np.zeros(len(weights), np.float32)
    rates = np.float32([ltp, ltd])
    for at in range(6):
        latency = recorded["latency"][at][None, :, None, None]
        labels = np.int32(recorded["labels"][at : at + 1])
        with kernels.use_backend(backend):
            found = kernels.learn_readout(weights, excess, latency, labels, rates, **rule, **layer)
        weights, excess = found.weights, found.excess
        time, potential = np.asarray(found.spikes.time[0]), np.asarray(found.spikes.potential[0])
        assert np.lexsort((-potential, time))[0] == recorded["decisions"][at]
        np.testing.assert_allclose(found.time[0], recorded["times"][at][np.asarray(found.neuron[0])], atol=1e-6)
        if at in after:
            np.testing.assert_allclose(weights[:, :, 0, 0], after[at], rtol=0, atol=5e-5)


def stacked(*cases):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *cases)


@pytest.mark.parametrize("backend", ["native", "xla"])
def test_contract(contract, backend):
    """Networks with numbers of their own, each with its sequence; and networks or sequences alone, or all pairs."""
    cases = [made("NCG", seed=seed, count=11) for seed in (1, 2)]
    arrays = stacked(*(case[0] for case in cases))
    names = "threshold", "gap", "threshold_rate", "bounds", "sums"
    numbers = stacked(*({name: np.float32(case[1][name]) for name in names} for case in cases))
    plain = {name: value for name, value in cases[0][1].items() if name not in names}

    def learn(weights, excess, latencies, labels, rates, learns, numbers):
        bounds = numbers["bounds"][0], numbers["bounds"][1]
        return kernels.learn_readout(
            *(weights, excess, latencies, labels, rates, learns), **plain | numbers | dict(bounds=bounds)
        )

    with kernels.use_backend(backend):
        contract(jax.jit(learn), [*arrays, numbers])
        network = 0, 0, None, None, None, None, 0
        sequence = None, None, 0, 0, None, 0, None
        given = arrays[0], arrays[1], *arrays[2:4], arrays[4][0], arrays[5], numbers

        def pairs(outer, inner):
            def one(number, axes):
                return (x if at is None else jax.tree.map(lambda leaf: leaf[number], x) for x, at in axes)

            def learned(i, j):
                partly = tuple(one(i, zip(given, outer, strict=True)))
                return learn(*one(j, zip(partly, inner, strict=True)))

            return stacked(*(stacked(*(learned(i, j) for j in range(2))) for i in range(2)))

        orders = ((network, sequence), (sequence, network)) if backend == "native" else ((network, sequence),)
        for outer, inner in orders:
            assert_close(jax.vmap(jax.vmap(learn, inner), outer)(*given), pairs(outer, inner))


def test_networks_and_sequences_are_learned_in_one_call():
    arrays, settings = made("NCG", count=4)

    def learn(weights, latencies):
        return kernels.learn_readout(weights, arrays[1], latencies, *arrays[3:], **settings).weights

    def decide(latencies, weights):
        how = {name: settings[name] for name in ("threshold", "classes", "time_steps")}
        return kernels.earliest_of_classes(latencies, jnp.clip(weights, 0, 1), **how)

    weights = np.stack([arrays[0]] * 3)
    latencies = np.stack([arrays[2]] * 2)
    pairs = jax.vmap(jax.vmap(learn, (None, 0)), (0, None))
    decisions = jax.vmap(jax.vmap(decide, (0, None)), (None, 0))
    assert calls(pairs, weights, latencies) == ["learn_readout"]
    assert calls(decisions, latencies, weights) == ["earliest_of_classes"]
    for function, given in ((pairs, (weights, latencies)), (decisions, (latencies, weights))):
        assert calls(function, *given, platform="cuda") == []


def test_derivatives_are_those_of_xla():
    arrays, settings = made("SSTDP", count=6, fractional=True)

    def moved(weights, gap):
        learned = kernels.learn_readout(weights, *arrays[1:], **settings | dict(gap=gap))
        return jnp.sum(learned.weights) + jnp.sum(learned.error)

    found = jax.jit(jax.grad(moved, (0, 1)))(arrays[0], jnp.float32(0.2))
    with kernels.use_backend("xla"):
        expected = jax.jit(jax.grad(moved, (0, 1)))(arrays[0], jnp.float32(0.2))
    assert_close(found, jax.tree.map(np.asarray, expected))
    assert all(np.any(x) for x in expected)


@pytest.mark.parametrize("time_steps", [4, T, 300])
def test_the_earliest_of_each_class_are_those_of_the_judge(time_steps):
    """One at a time and many; neurons of a class that stays silent are compared by their last potentials."""
    arrays, settings = made("NCG of 11 neurons", time_steps)
    weights = np.clip(arrays[0], 0, 1)
    latencies = arrays[2]
    how = {name: settings[name] for name in ("threshold", "classes", "time_steps")} | dict(fractional=True)
    step, potential, time = (np.zeros((STIMULI, 2)) for _ in range(3))
    for stimulus, latency in enumerate(latencies.reshape(STIMULI, -1)):
        for group in range(2):
            spikes = {
                f: readout_judge.fire(latency, np.float64(weights[f].ravel()), how["threshold"][f], time_steps, True)
                for f in range(11 * group, 11 * group + 11)
            }
            first = spikes[readout_judge.earliest(spikes)]
            time[stimulus, group], step[stimulus, group], potential[stimulus, group] = first
    assert 0 < (step == time_steps).sum() < step.size
    for backend in ("native", "xla"):
        with kernels.use_backend(backend):
            found = kernels.earliest_of_classes(latencies, weights, **how)
        np.testing.assert_array_equal(found.latency, step)
        np.testing.assert_allclose(found.potential, potential, rtol=1e-5)
        np.testing.assert_allclose(found.time, time, rtol=1e-5)


def test_no_stimuli_teach_nothing():
    arrays, settings = made("NCG")
    none = *arrays[:2], arrays[2][:0], arrays[3][:0], arrays[4], arrays[5][:0]
    for backend in ("native", "xla"):
        with kernels.use_backend(backend):
            found = kernels.learn_readout(*none, **settings)
        np.testing.assert_array_equal(found.weights, np.clip(arrays[0], 0, 1))
        assert [x.shape for x in jax.tree.leaves(found[2:])] == [*[(0, 3)] * 6, (0,), (0, 4)]


@pytest.mark.parametrize("kind", ["NCG", "SSTDP"])
def test_weights_keep_their_dtype(kind):
    """So do the potentials; times and thresholds are float32."""
    arrays, settings = made(kind, count=3)
    given = arrays[0].astype(np.float16), *arrays[1:]
    found = jax.eval_shape(functools.partial(kernels.learn_readout, update_batch=2, **settings), *given)
    floats = found.weights, found.spikes.potential, found.spikes.time, found.excess, found.error, found.threshold
    assert [x.dtype for x in floats] == [np.float16, np.float16, *[np.float32] * 4]


def test_neurons_that_do_not_compete_keep_their_excess():
    """On accelerators as on a CPU."""
    arrays, settings = made("NCG of 11 neurons", fractional=True)
    weights, _, latencies, labels, rates, _ = arrays
    begin = np.clip(weights, 0, 1).reshape(len(weights), -1), np.linspace(0.5, 1, len(weights), dtype=np.float32)
    stimuli = latencies.reshape(STIMULI, -1), np.maximum(labels, 0), labels >= 0
    rule = rule_of(rates, **settings)
    ways = learn_on_cpu, learn_on_accelerator
    expected, found = (jax.jit(functools.partial(learn, update_batch=4))(rule, begin, stimuli)[0] for learn in ways)
    np.testing.assert_array_equal(expected[1].reshape(2, -1)[:, :2], begin[1].reshape(2, -1)[:, :2])
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-6)


@pytest.mark.parametrize("backend", ["native", "xla"])
def test_sums_may_be_of_another_dtype(backend):
    arrays, settings = made("NCG", count=3)
    half = settings["sums"].astype(np.float16)
    with kernels.use_backend(backend):
        found = kernels.learn_readout(*arrays, **settings | dict(sums=half))
        expected = kernels.learn_readout(*arrays, **settings | dict(sums=half.astype(np.float32)))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_what_does_not_fit_is_refused():
    arrays, settings = made("NCG")
    names = "weights", "excess", "latencies", "labels", "rates", "learns"
    right = dict(zip(names, arrays, strict=True)) | settings

    def wrong(**changes):
        return functools.partial(kernels.learn_readout, **right | changes)

    def beyond(**changes):
        how = {name: right[name] for name in ("latencies", "weights", "threshold", "classes", "time_steps")}
        return functools.partial(kernels.earliest_of_classes, **how | changes)

    weights, excess, latencies, labels, rates, learns = arrays
    assert_refused(
        (wrong(latencies=latencies[0]), r"`latencies` must have axes \(S C H W\), got shape \(5, 2, 3\)"),
        (wrong(latencies=np.float32(latencies)), "`latencies` must hold integer time steps, got dtype float32"),
        (wrong(latencies=latencies + np.uint8(1)), r"`latencies` must hold time steps 0\.\.14, or 15 .*, got 16"),
        (wrong(weights=weights[:, :, :1]), r"`weights` must have shape \(15, 5, 2, 3\) of `latencies`, got"),
        (wrong(labels=labels[1:]), r"`labels` must have shape \(23,\) of `latencies`, got \(22,\)"),
        (wrong(labels=labels + 1), r"`labels` must lie in 0\.\.2, or be -1, got 0\.\.3"),
        (wrong(learns=np.int32(learns)), "`learns` must hold booleans, got dtype int32"),
        (wrong(excess=excess[1:]), r"`excess` must have shape \(15,\) of `weights`, got \(14,\)"),
        (wrong(sums=np.ones(3, np.float32)), r"`sums` must have shape \(15,\) of `weights`, got \(3,\)"),
        (wrong(rates=rates[:1]), r"`rates` must have shape \(2,\) of \(a\+, a-\)"),
        (wrong(classes=4), "`classes` must divide the 15 features of `weights`, got 4"),
        (wrong(non_targets=5), "`non_targets` must be at most 4, got 5"),
        (wrong(competition=False), "`non_targets` must be 0 without `competition`, got 1"),
        (wrong(threshold=None), "`threshold` must be a number or an array"),
        (wrong(threshold=-1.0), "`threshold` must be at least 0, got -1"),
        (wrong(bounds=(-1.0, 1.0)), "`bounds` must be at least 0, so that potentials never fall"),
        (wrong(gap="wide"), "`gap` must be a number or an array"),
        (wrong(threshold_rate=excess), "`threshold_rate` must be a number or an array"),
        (wrong(update_batch=0), "`update_batch` must be at least 1, got 0"),
        (wrong(update_batch=np.asarray(2)), "`update_batch` must be a plain integer, got an array"),
        (beyond(weights=-weights), "`weights` must be at least 0, got -2"),
        (beyond(classes=2), "`classes` must divide the 15 features of `weights`, got 2"),
        (beyond(threshold=None), "`threshold` must be a number or an array"),
    )
