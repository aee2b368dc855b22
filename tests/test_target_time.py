"""Features with target times: the kernel against a judge in NumPy, the learner, and its compiled form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from snnjax import RSTDP, STDP, WTA, Conv, Layer, Model, Network, Settings, TargetTime, Trainer, kernels, stage
from snnjax.kernels import native
from snnjax.layers.layer_kernels import XLA

T = 15
DIGITS = tiny.images()
RULE = dict(rate=0.1, threshold_rate=0.5, target_time=0.6, threshold_min=1.0, beta=1.5, bounds=(0.0, 1.0))
RNG = np.random.default_rng(0)


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


@st.composite
def cases(draw):
    """A patch, weights whose sums are exact, thresholds that they reach exactly, T, bounds."""
    steps, features, inputs = draw(st.sampled_from([(15, 4, 6), (1, 1, 3), (255, 3, 5)]))
    patch = draw(st.lists(st.integers(0, steps), min_size=inputs, max_size=inputs))
    quarters = st.lists(st.integers(1, 4), min_size=features * inputs, max_size=features * inputs)
    threshold = draw(st.lists(st.integers(1, 12), min_size=features, max_size=features))
    weights = np.reshape(draw(quarters), (features, inputs)) / 4
    return np.uint8(patch), weights, np.array(threshold) / 4, steps, draw(st.sampled_from([(0.0, 1.0), (0.25, 1.5)]))


@given(cases())
def test_one_patch_is_that_of_the_judge(compiler, case):
    """As an image of one row, too."""
    patch, weights, threshold, steps, bounds = case
    rule = dict(RULE, bounds=bounds)
    weights, limits = np.float32(weights), np.float32(threshold)
    expected = judge(patch, weights, threshold, steps, **rule)
    found = kernels.learn_patches(patch[None], weights, limits, time_steps=steps, **rule)
    image, taps = patch.reshape(1, 1, 1, -1), native.arrange(weights[:, None, None])
    place = np.zeros((1, 1, 2), np.int32), np.array([0, 1], np.int32)
    compiled = native.learn_patches(image, *place, taps, limits, features=len(weights), time_steps=steps, **rule)
    after = native.restore(compiled.weights, len(weights))
    for result, learned in ((found, found.weights), (compiled, after[:, 0, 0])):
        assert (int(result.feature.item()), int(result.latency.item())) == expected[2:]
        np.testing.assert_allclose(learned, expected[0], atol=1e-6)
        np.testing.assert_allclose(result.threshold, expected[1], atol=1e-6)
        if expected[2] < 0:
            np.testing.assert_array_equal(result.threshold, limits)


@pytest.mark.parametrize(("features", "steps"), [(6, T), (1, T), (20, 255)])
def test_many_patches_are_those_of_the_judge(features, steps, compiler):
    """Of two images with two patches each, many times; the compiled form with padding and strides."""
    rng = np.random.default_rng(features)
    images = rng.integers(0, 2 * steps, (30, 2, 6, 5)).clip(max=steps).astype(np.uint8)
    positions = np.int32(rng.integers(0, (3, 4), (30, 2, 2)))
    weights, threshold = np.float32(rng.uniform(size=(features, 2, 3, 2))), np.float32(rng.uniform(1, 4, features))
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (0, 0)), constant_values=steps)
    patches = [
        image[:, 2 * row : 2 * row + 3, column : column + 2].ravel()
        for image, at in zip(padded[2:28], positions[2:28], strict=True)
        for row, column in at
    ]
    expected, fired = (np.float64(weights.reshape(features, -1)), np.float64(threshold)), []
    for patch in patches:
        *expected, winner, step = judge(patch, *expected, steps, **RULE)
        fired.append((winner, step))
    assert len({winner for winner, _ in fired}) > min(features, 3) - 1
    settings = dict(time_steps=steps, **RULE)
    found = kernels.learn_patches(np.stack(patches), weights.reshape(features, -1), threshold, **settings)
    where = images, positions, np.int32([2, 28]), native.arrange(weights), threshold
    compiled = native.learn_patches(*where, features=features, padding=(1, 0), stride=(2, 1), **settings)
    others = np.stack([compiled.feature, compiled.latency], axis=-1)[[0, 1, 28, 29]]
    np.testing.assert_array_equal(others, np.broadcast_to([-1, steps], others.shape))
    learned = native.restore(compiled.weights, features)
    compiled = kernels.Patches(learned, compiled.threshold, compiled.feature[2:28], compiled.latency[2:28])
    for result in (found, compiled):
        np.testing.assert_array_equal(np.stack([np.ravel(result.feature), np.ravel(result.latency)], axis=1), fired)
        np.testing.assert_allclose(np.reshape(result.weights, (features, -1)), expected[0], atol=1e-5)
        np.testing.assert_allclose(result.threshold, expected[1], atol=1e-4)


def network(learner=None, **settings):
    conv = dict(features=6, kernel=5, threshold=3.0, learners=learner or TargetTime(), weight_mean=0.5, weight_std=0.1)
    conv |= settings
    deciding = Conv(20, Conv(**conv).output_size((28, 28))[0] // 4, learners=RSTDP())
    return Network("target", (6, 28, 28), 10, (stage(Conv(**conv), pool=4), stage(deciding)), T)


def trained(spec, epochs, **settings):
    """The state after epochs of the first layer alone."""
    trainer = Trainer(spec, DIGITS, Settings((epochs, 0), **settings))
    return trainer.run(trainer.initial_state())


def test_compiled_kernels_learn_the_same(compiler):
    """As does any `update_batch`: each patch is learned from by what was learned from the one before."""
    spec = network(TargetTime(patches=3), padding=2, stride=2, threshold=np.float32([2, 3, 4, 3, 2, 5]))
    plain, fast = trained(spec, 2, native=False, update_batch=4), trained(spec, 2, native=True)
    np.testing.assert_allclose(fast.weights["layer1"], plain.weights["layer1"], atol=1e-5)
    (path,) = plain.numbers
    np.testing.assert_allclose(fast.numbers[path], plain.numbers[path], rtol=1e-4)
    found, expected = (state.diagnoses["TargetTime layer1"] for state in (fast, plain))
    assert found["wins"] == expected["wins"]
    assert sum(found["wins"]["layer1"]) + round(found["silent"]["layer1"] * 120) == 120


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
    layer = Layer(conv, np.full((3, 1, 1, 1), 0.5), T, XLA)
    info = dict(feature=np.int32([[0], [2], [2], [-1]]), latency=np.int32([[3], [6], [12], [T]]))
    found = learner.diagnose(layer, info | dict(threshold_rate=np.float32([1, 1, 1, 0.5])))
    assert (found["silent"], found["wins"], found["never_won"]) == (0.25, [1, 0, 2], 1)
    assert found["spike_time"] == pytest.approx(7 / T)
    assert found["threshold_drift"] == pytest.approx(0.5 * (0.7 + 0.7 + 0.8) / 3 / 3)
    assert (found["thresholds"], found["threshold_min"], found["threshold_max"]) == ([2, 3, 4], 2, 4)
    state = learner.init(layer, np.zeros(2, np.uint32), 0)
    assert learner.scalars(learner.end_epoch(state)) == dict(rate=np.float32(0.05), threshold_rate=0.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TargetTime(target_time=1.5), "`target_time`.*got 1.5"),
        (lambda: TargetTime(threshold_min=0.0), "`threshold_min`.*above 0, got 0"),
        (lambda: TargetTime(annealing=0.0), "`annealing`.*above 0.*got 0"),
        (lambda: TargetTime(bounds=(-1.0, 1.0)), "`bounds` must be at least 0"),
        (lambda: TargetTime(patches=0), "`patches`.*got 0"),
        (lambda: network(threshold=None), "`threshold` of layer1.*got None"),
        (lambda: network(threshold=0.0), "`threshold` of layer1.*got 0"),
        (lambda: network(competition=WTA(3)), "`competition` of layer1.*WTA.*has no effect"),
        (
            lambda: kernels.first_to_fire(np.zeros(3, np.uint8), np.ones((2, 4)), np.ones(2), time_steps=T),
            r"`weights`.*\(2, 3\) of `threshold` and `patch`, got \(2, 4\)",
        ),
    ],
)
def test_what_does_not_suit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_only_learning_spreads_a_threshold_over_the_features():
    for learner, shape in ((TargetTime(), (6,)), (STDP(), ())):
        spec = network(learner)
        assert spec.stages[0].branches[0].threshold == 3.0
        assert np.shape(Model.of(spec, spec.initial_weights()).layers["layer1"].conv.threshold) == shape
