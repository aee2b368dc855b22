"""A threshold for each feature: given, moved by features with target times, trained with, saved and loaded."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from conftest import assert_close
from refusals import assert_refused
from test_compiled import calls

from snnjax import Conv, ImageSpec, Network, Settings, TargetTime, Trainer, kernels, stage
from snnjax.layers import Layer
from snnjax.runs.trained import Trained
from snnjax.training.advice import describe

T = 15
DIGITS = tiny.images()
EACH = np.float32([8, 15, 20, 500])
FIRST = dataclasses.replace(tiny.FIRST, threshold=EACH)
MOVING = dataclasses.replace(tiny.FIRST, threshold=10.0, competition=Conv.competition, learners=TargetTime())


def network(first: Conv, pool: int = 7, **settings) -> Network:
    plain, changed = tiny.plain(ImageSpec()), dataclasses.replace(first, **settings)
    return dataclasses.replace(plain, stages=(stage(changed, pool=pool), plain.stages[1]))


def judge(patch, weights, threshold, time_steps, *, rate, threshold_rate, target_time, threshold_min, beta, bounds):
    """LEARNING of one patch, neuron by neuron and step by step, in float64: weights, thresholds, winner and step."""
    for step in range(time_steps):
        if not (patch == step).any():
            continue  # neurons fire at spikes of their inputs
        potential = [sum(w for w, at in zip(row, patch, strict=True) if at <= step) for row in weights]
        firing = [f for f, limit in enumerate(threshold) if potential[f] >= limit]
        if firing:
            break
    else:
        return weights, threshold, -1, time_steps
    winner = max(firing, key=lambda f: (potential[f], -f))
    weights, threshold, (lower, upper) = weights.copy(), threshold.copy(), bounds
    for f in range(len(threshold)):
        threshold[f] -= threshold_rate * (step / time_steps - target_time)
        if len(threshold) > 1:
            threshold[f] += threshold_rate if f == winner else -threshold_rate / (len(threshold) - 1)
        threshold[f] = max(threshold[f], threshold_min)
    for k, at in enumerate(patch):
        place = (weights[winner, k] - lower) / (upper - lower)
        change = rate * np.exp(-beta * place) if at <= step else -rate * np.exp(-beta * (1 - place))
        weights[winner, k] = min(max(weights[winner, k] + change, lower), upper)
    return weights, threshold, winner, step


@pytest.mark.parametrize(
    ("features", "steps", "bounds"),
    [(6, T, (0.0, 1.0)), (6, T, (0.25, 1.5)), (1, T, (0.0, 1.0)), (20, 255, (0.0, 1.0))],
)
def test_patches_are_those_of_the_judge(features, steps, bounds, compiler):
    """Of images with two patches each, the first silent, with padding and strides, by both back ends.

    The next one brings the last two neurons, which are alike, exactly to their threshold; the lower one wins.
    """
    rng = np.random.default_rng(features)
    images = rng.integers(0, 2 * steps, (30, 2, 6, 5)).clip(max=steps).astype(np.uint8)
    images[2] = steps
    positions = np.int32(rng.integers(0, (3, 4), (30, 2, 2)))
    weights = np.float32(rng.uniform(size=(features, 2, 3, 2)))
    weights[-2:] = rng.integers(1, 5, (2, 3, 2)) / 4
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (0, 0)), constant_values=steps)
    patches = [
        image[:, 2 * row : 2 * row + 3, column : column + 2].ravel()
        for image, at in zip(padded[2:28], positions[2:28], strict=True)
        for row, column in at
    ]
    reached = float(weights[-1].ravel()[patches[2] <= np.sort(patches[2])[2]].sum())
    threshold = np.float32(reached + rng.uniform(1, 2, features))
    threshold[-2:] = reached
    rule = dict(rate=0.1, threshold_rate=0.5, target_time=0.6, threshold_min=reached, beta=1.5, bounds=bounds)
    begin = np.clip(weights, *bounds).reshape(features, -1)
    expected, fired = (np.float64(begin), np.float64(threshold)), []
    for patch in patches:
        *expected, winner, step = judge(patch, *expected, steps, **rule)
        fired.append((winner, step))
    assert len({winner for winner, _ in fired}) > min(features, 3)
    assert [winner for winner, _ in fired[:3]] == [-1, -1, max(features - 2, 0)]
    learns = (np.arange(30) >= 2) & (np.arange(30) < 28)
    settings = dict(padding=(1, 0), stride=(2, 1), time_steps=steps, **rule)
    for backend in ("native", "xla"):
        with kernels.use_backend(backend):
            found = kernels.learn_target_time(weights, threshold, images, positions, learns, **settings)
        others = np.stack([found.feature, found.latency], axis=-1)[~learns]
        np.testing.assert_array_equal(others, np.broadcast_to([-1, steps], others.shape))
        at = np.stack([found.feature, found.latency], axis=-1)[learns]
        np.testing.assert_array_equal(at.reshape(-1, 2), fired)
        np.testing.assert_allclose(found.weights.reshape(features, -1), expected[0], atol=1e-5)
        np.testing.assert_allclose(found.threshold, expected[1], atol=1e-4)


@pytest.mark.parametrize("backend", ["native", "xla"])
def test_thresholds_fall_once_no_neuron_has_fired_for_long(backend, compiler):
    """Counted over calls and images; patches without spikes do not count, and a neuron that fires ends it."""
    images = np.zeros((40, 1, 1, 2), np.uint8)
    images[1::4] = T
    weights = np.full((3, 1, 1, 2), 0.5, np.float32)
    threshold = np.float32([1.75, 4, 9])
    rule = dict(rate=0.1, threshold_rate=0.5, target_time=0.6, threshold_min=0.5, time_steps=T)

    def learn(images, threshold, quiet=0):
        with kernels.use_backend(backend):
            positions = np.zeros((len(images), 1, 2), np.int32)
            return kernels.learn_target_time(weights, threshold, images, positions, quiet=quiet, **rule)

    first = learn(images[:27], threshold)  # of which 20 have spikes
    assert int(first.quiet) == 20
    np.testing.assert_array_equal(first.threshold, threshold)
    second = learn(images[27:31], first.threshold, first.quiet)  # one has none
    assert int(second.quiet) == 23
    np.testing.assert_allclose(second.threshold, threshold - 3 * 0.5 * 0.4, rtol=1e-5)
    third = learn(images[[31, 32, 34]], second.threshold, second.quiet)  # a neuron fires at the second one
    assert np.ravel(third.feature).tolist() == [-1, 0, -1]
    assert int(third.quiet) == 1
    moved = -0.2 + 0.3 + np.float32([0.5, -0.25, -0.25])
    np.testing.assert_allclose(third.threshold, second.threshold + moved, rtol=1e-5)


SMALL = dict(rate=0.1, threshold_rate=0.5, target_time=0.5, threshold_min=0.5, time_steps=T, padding=1)


def small(networks, features=5, images=4):
    """Weights, thresholds, latencies and positions of some networks, and which stimuli they learn from."""
    rng = np.random.default_rng(features)
    latencies = np.uint8(rng.integers(0, 2 * T, (networks, images, 2, 6, 5)).clip(max=T))
    weights = np.float32(rng.integers(0, 65, (networks, features, 2, 3, 2)) / 64)
    thresholds = np.float32(rng.uniform(1, 2, (networks, features)))
    positions = np.int32(rng.integers(0, (6, 6), (networks, images, 2, 2)))
    return weights, thresholds, latencies, positions, rng.random((networks, images)) < 0.7


@pytest.mark.parametrize("backend", ["native", "xla"])
def test_contract(contract, backend, compiler):
    """Each network with its own sequence, or all networks with all sequences."""
    given = small(3)
    learn = jax.jit(functools.partial(kernels.learn_target_time, **SMALL))
    with kernels.use_backend(backend):
        contract(learn, given)
        both = jax.vmap(jax.vmap(learn, (None, None, 0, 0, 0)), (0, 0, None, None, None))(*given)
        for network in range(3):
            of_network = [learn(given[0][network], given[1][network], *(x[i] for x in given[2:])) for i in range(3)]
            expected = jax.tree.map(lambda *leaves: np.stack(leaves), *of_network)
            assert_close(jax.tree.map(lambda x, at=network: x[at], both), expected)


def test_networks_and_sequences_are_learned_in_one_call(compiler):
    learn = functools.partial(kernels.learn_target_time, **SMALL)
    pairs = jax.vmap(jax.vmap(learn, (None, None, 0, 0, 0)), (0, 0, None, None, None))
    assert calls(pairs, *small(2)) == ["learn_target_time"]
    assert calls(pairs, *small(2), platform="cuda") == []


def test_derivatives_are_those_of_xla(compiler):
    weights, threshold, *rest = (x[0] for x in small(1))

    def moved(weights, rate):
        learned = kernels.learn_target_time(weights, threshold, *rest, **SMALL | dict(rate=rate))
        return jnp.sum(learned.weights) + jnp.sum(learned.threshold)

    given = weights, jnp.float32(0.1)
    found = jax.jit(jax.grad(moved, (0, 1)))(*given)
    with kernels.use_backend("xla"):
        expected = jax.jit(jax.grad(moved, (0, 1)))(*given)
    assert_close(found, jax.tree.map(np.asarray, expected))
    assert all(np.any(x) for x in expected)


def test_weights_outside_the_bounds_are_clipped_first(compiler):
    """Whether anything is learned or not; so latencies of other types and no stimuli at all."""
    weights, threshold, latencies, positions, learns = (x[0] for x in small(1))
    wide = weights * 2 - 0.5
    clipped = np.clip(wide, 0, 1)
    for backend in ("native", "xla"):
        with kernels.use_backend(backend):
            learn = functools.partial(kernels.learn_target_time, **SMALL)
            expected = learn(clipped, threshold, latencies, positions, learns)
            found = learn(wide, threshold, latencies.astype(np.int32), positions, learns)
            assert_close(found, jax.tree.map(np.asarray, expected))
            none = learn(wide, threshold, latencies[:0], positions[:0])
            np.testing.assert_array_equal(none.weights, clipped)
            assert none.feature.shape == (0, 2)


def test_what_does_not_fit_is_refused():
    names = "weights", "threshold", "latencies", "positions", "learns"
    right = dict(zip(names, (x[0] for x in small(1)), strict=True)) | SMALL

    def wrong(**changes):
        return functools.partial(kernels.learn_target_time, **right | changes)

    below = right["positions"] + np.int32([3, 0])
    assert_refused(
        (wrong(latencies=right["latencies"][0]), r"`latencies` must have axes \(S C H W\), got shape \(2, 6, 5\)"),
        (
            wrong(latencies=right["latencies"] + np.uint8(1)),
            r"`latencies` must hold time steps 0\.\.14, or 15 if silent",
        ),
        (wrong(weights=right["weights"][:, :1]), "`latencies` must have the 1 channels of `weights`, got 2"),
        (wrong(threshold=right["threshold"][1:]), r"`threshold` must have shape \(5,\) of `weights`, got \(4,\)"),
        (wrong(threshold=np.zeros(5, np.float32)), "`threshold` must be above 0, got 0"),
        (wrong(threshold=1.0), r"`threshold` must be an array with axes \(F\), got float"),
        (wrong(positions=right["positions"][1:]), r"`positions` must have shape \(4, 2, 2\) of `latencies`"),
        (wrong(positions=below), "`positions` must lie on the 6x6 positions of the layer, got row and column"),
        (wrong(learns=right["learns"][1:]), r"`learns` must have shape \(4,\) of `latencies`, got \(3,\)"),
        (wrong(bounds=(-1.0, 1.0)), "`bounds` must be at least 0, so that potentials never fall"),
        (wrong(threshold_min=0.0), "`threshold_min` must be above 0, got 0"),
        (wrong(rate=right["threshold"]), "`rate` must be a number or an array"),
    )


def test_compiled_kernels_learn_the_same(tmp_path, compiler):
    """As does any `update_batch`: each patch is learned from by what was learned from the one before."""
    description = network(
        MOVING, pool=3, stride=2, threshold=np.float32([8, 10, 12, 9]), learners=TargetTime(patches=3)
    )
    trainer = Trainer(description, DIGITS, Settings((2, 0), backend="xla", update_batch=4))
    plain = trainer.run(trainer.initial_state())
    fast = tiny.trained(description, DIGITS, Settings((2, 0), backend="native"))
    np.testing.assert_allclose(fast.weights["layer1"], plain.weights["layer1"], atol=1e-5)
    (path,) = plain.learned_params
    np.testing.assert_allclose(fast.learned_params[path], plain.learned_params[path], rtol=1e-4)
    found, expected = (state.diagnoses["TargetTime layer1"] for state in (fast, plain))
    assert found["wins"] == expected["wins"]
    assert sum(found["wins"]["layer1"]) + round(found["silent"]["layer1"] * 120) == 120
    Trained(trainer.trained(plain).network, plain.weights, (28, 28)).save(tmp_path / "weights.npz")
    saved = Trained.read(tmp_path).network.stages[0].branches[0].threshold
    assert len({8, 10, 12, 9, *np.asarray(saved).tolist()}) == 8
    np.testing.assert_array_equal(saved, plain.learned_params[path])


def test_patches_lie_everywhere_equally_often():
    """And elsewhere each time."""
    learner, key = TargetTime(patches=2), np.array([0, 3], np.uint32)
    draw = jax.jit(jax.vmap(lambda shown: learner.positions(dict(key=key), shown, (3, 4))))
    drawn = np.asarray(draw(jnp.arange(3000, dtype=jnp.uint32))).reshape(-1, 2)
    counts = np.bincount(drawn[:, 0] * 4 + drawn[:, 1], minlength=12)
    assert drawn.max(axis=0).tolist() == [2, 3]
    assert (abs(counts - 500) < 5 * np.sqrt(500)).all(), counts
    other = jax.vmap(lambda shown: learner.positions(dict(key=key + 1), shown, (3, 4)))(jnp.arange(3000))
    assert (drawn != np.asarray(other).reshape(-1, 2)).any(axis=1).mean() > 0.8


def test_figures_by_hand():
    """The drift is that of the last half of the patches; rates fall by `annealing`."""
    learner = TargetTime(target_time=0.6, annealing=0.5)
    conv = Conv(3, 1, threshold=np.float32([2, 3, 4]), learners=learner)
    layer = Layer(conv, np.full((3, 1, 1, 1), 0.5), T)
    info = dict(feature=np.int32([[0], [2], [2], [-1]]), latency=np.int32([[3], [6], [12], [T]]))
    found = learner.diagnose(layer, info | dict(threshold_rate=np.float32([1, 1, 1, 0.5])))
    assert (found["silent"], found["wins"], found["never_won"]) == (0.25, [1, 0, 2], 1)
    assert found["spike_time"] == pytest.approx(7 / T)
    assert found["threshold_drift"] == pytest.approx(0.5 * (0.7 + 0.7 + 0.8) / 3 / 3)
    assert (found["thresholds"], found["threshold_min"], found["threshold_max"]) == ([2, 3, 4], 2, 4)
    for figures, words in (
        (found | dict(silent=0.6), "learns from few of the patches"),
        (found | dict(silent=1.0, wins=[0, 0, 0]), "nothing is learned yet"),
        (found, "the target is not reached: more epochs may help"),
        (found | dict(spike_time=0.6), "would let the thresholds settle"),
    ):
        assert words in describe("layer1", layer, learner, figures)[-1]
    state = learner.init(layer, np.zeros(2, np.uint32), 0)
    assert learner.scalars(learner.end_epoch(state)) == dict(rate=np.float32(0.05), threshold_rate=0.5)


def test_networks_are_compared_and_hashed(compilations):
    """By their numbers; as a static argument, a network compiles once for each value, as numbers once."""
    one, same, other = (network(FIRST, threshold=EACH + more) for more in (0, 0, 1))
    assert same == one != other
    assert FIRST != dataclasses.replace(FIRST, threshold=15.0) != FIRST
    assert hash(same) == hash(one)
    assert type(dataclasses.replace(FIRST, threshold=15).threshold) is float, "where the annotation allows no integers"
    given = dataclasses.replace(FIRST, threshold=jnp.float32(EACH))
    assert (given, hash(given)) == (FIRST, hash(FIRST))
    fixed, traced = (jax.jit(lambda conv: conv.threshold + jnp.zeros(4), static_argnums=at) for at in (0, ()))
    for program in (fixed, traced):
        np.testing.assert_array_equal(program(FIRST), EACH)
    changed = dataclasses.replace(FIRST, threshold=EACH + 1)
    assert compilations(lambda: (fixed(given), traced(changed))) == 0
    np.testing.assert_array_equal(fixed(changed), EACH + 1)
