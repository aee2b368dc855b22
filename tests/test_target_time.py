"""Features with target times: the kernel against a judge in NumPy, the learner, and its compiled form."""

import copy
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

import snnjax
from snnjax import RSTDP, STDP, WTA, Conv, Network, Settings, TargetTime, Trainer, TrainState, kernels, stage
from snnjax.kernels import native
from snnjax.layers.layer_kernels import XLA
from snnjax.runs import RunFolder

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
def test_one_patch_is_that_of_the_judge(case):
    patch, weights, threshold, steps, bounds = case
    rule = dict(RULE, bounds=bounds)
    expected = judge(patch, weights, threshold, steps, **rule)
    found = kernels.learn_patches(patch[None], np.float32(weights), np.float32(threshold), time_steps=steps, **rule)
    assert (int(found.feature[0]), int(found.latency[0])) == expected[2:]
    np.testing.assert_allclose(found.weights, expected[0], atol=1e-6)
    np.testing.assert_allclose(found.threshold, expected[1], atol=1e-6)
    if expected[2] < 0:
        np.testing.assert_array_equal(found.threshold, np.float32(threshold))


@pytest.mark.parametrize(
    ("features", "steps", "compiled"),
    [(6, T, False), (6, T, True), (1, T, True), (20, 255, True), (3, 1, True)],
    ids=["xla", "native", "one feature", "many features", "one step"],
)
def test_many_patches_are_those_of_the_judge(features, steps, compiled, request):
    """Of two images with two patches each, many times; the compiled form with padding and strides."""
    if compiled:
        request.getfixturevalue("compiler")
    rng = np.random.default_rng(features)
    images = rng.integers(0, 2 * steps, (30, 2, 6, 5)).clip(max=steps).astype(np.uint8)
    positions = np.int32(rng.integers(0, (3, 5), (30, 2, 2)))
    weights, threshold = np.float32(rng.uniform(size=(features, 2, 3, 2))), np.float32(rng.uniform(1, 4, features))
    span, place = np.int32([2, 28]), dict(padding=(1, 0), stride=(2, 1))
    positions[..., 1] = positions[..., 1].clip(max=3)
    patches = [
        padded(image, steps)[:, 2 * row : 2 * row + 3, column : column + 2].ravel()
        for image, at in zip(images[2:28], positions[2:28], strict=True)
        for row, column in at
    ]
    expected, who, when = (np.float64(weights.reshape(features, -1)), np.float64(threshold)), [], []
    for patch in patches:
        *expected, winner, step = judge(patch, *expected, steps, **RULE)
        who.append(winner)
        when.append(step)
    settings = dict(time_steps=steps, **RULE)
    if compiled:
        taps = native.arrange(weights)
        found = native.learn_patches(images, positions, span, taps, threshold, features=features, **settings, **place)
        assert (np.asarray(found.feature)[[0, 1, 28, 29]] == -1).all()
        assert (np.asarray(found.latency)[[0, 1, 28, 29]] == steps).all()
        after, who_found, when_found = native.restore(found.weights, features), found.feature[2:28], found.latency[2:28]
    else:
        found = kernels.learn_patches(np.stack(patches), weights.reshape(features, -1), threshold, **settings)
        after, who_found, when_found = found.weights, found.feature, found.latency
    np.testing.assert_array_equal(np.ravel(who_found), who)
    np.testing.assert_array_equal(np.ravel(when_found), when)
    np.testing.assert_allclose(np.reshape(after, (features, -1)), expected[0], atol=1e-5)
    np.testing.assert_allclose(found.threshold, expected[1], atol=1e-4)
    assert len(set(who)) > min(features, 3) - 1


def padded(image, steps):
    return np.pad(image, ((0, 0), (1, 1), (0, 0)), constant_values=steps)


def network(learner=None, **settings):
    conv = dict(features=6, kernel=5, threshold=3.0, learners=learner or TargetTime(), weight_mean=0.5, weight_std=0.1)
    conv |= settings
    deciding = Conv(20, Conv(**conv).output_size((28, 28))[0] // 4, learners=RSTDP())
    return Network("target", (6, 28, 28), 10, (stage(Conv(**conv), pool=4), stage(deciding)), T)


def trained(spec, epochs, **settings):
    """The state after epochs of the first layer alone."""
    trainer = Trainer(spec, DIGITS, Settings((epochs, 0), **settings))
    return trainer.run(trainer.initial_state())


STRIDED = dict(learner=TargetTime(patches=3), padding=2, stride=2, threshold=np.float32([2, 3, 4, 3, 2, 5]))


@pytest.mark.parametrize("settings", [dict(), STRIDED], ids=["one patch", "three patches, strided"])
def test_compiled_kernels_learn_the_same(settings, compiler):
    spec = network(**settings)
    plain, fast = (trained(spec, 2, native=compiled) for compiled in (False, True))
    np.testing.assert_allclose(fast.weights["layer1"], plain.weights["layer1"], atol=1e-5)
    (path,) = plain.numbers
    np.testing.assert_allclose(fast.numbers[path], plain.numbers[path], rtol=1e-4)
    found, expected = (state.diagnoses["TargetTime layer1"] for state in (fast, plain))
    assert found["wins"] == expected["wins"]
    shown = 40 * spec.stages[0].branches[0].learners.patches
    assert sum(found["wins"]["layer1"]) + round(found["silent"]["layer1"] * shown) == shown


def test_update_batch_changes_nothing():
    """Each patch is learned from by what was learned from the one before."""
    one, four = (trained(network(), 2, update_batch=batch).weights["layer1"] for batch in (1, 4))
    np.testing.assert_allclose(one, four, atol=1e-6)


def test_patches_lie_everywhere_equally_often():
    """And elsewhere each time."""
    learner, key = TargetTime(patches=2), np.array([0, 3], np.uint32)
    draw = jax.jit(jax.vmap(lambda shown: learner.positions(dict(key=key), shown, (3, 4))))
    drawn = np.asarray(draw(jnp.arange(3000, dtype=jnp.uint32))).reshape(-1, 2)
    counts = np.bincount(drawn[:, 0] * 4 + drawn[:, 1], minlength=12)
    assert len(counts) == 12
    assert (abs(counts - 500) < 5 * np.sqrt(500)).all(), counts
    other = jax.vmap(lambda shown: learner.positions(dict(key=key + 1), shown, (3, 4)))(jnp.arange(3000))
    assert (drawn != np.asarray(other).reshape(-1, 2)).any(axis=1).mean() > 0.8


@pytest.mark.slow
def test_one_threshold_becomes_one_for_each_feature(tmp_path, compiler):
    """It is kept as numbers, resumed from and saved."""
    spec, settings, kept = network(), Settings((4, 1), batch_size=10, native=True), []
    whole = Trainer(spec, DIGITS, settings)
    save = lambda state: kept.append(TrainState.unflatten(*copy.deepcopy(state.flatten())))  # noqa: E731
    expected = whole.run(whole.initial_state(), save)
    state = Trainer(spec, DIGITS, settings).run(kept[1])
    np.testing.assert_array_equal(state.weights["layer1"], expected.weights["layer1"])
    with RunFolder(tmp_path / "run", Trainer(spec, DIGITS, settings)) as run:
        run.run()
    learned = np.asarray(snnjax.load(tmp_path / "run").spec.stages[0].branches[0].threshold)
    assert len(set(learned.tolist())) == 6
    np.testing.assert_array_equal(learned, whole.trained(expected).spec.stages[0].branches[0].threshold)


def test_thresholds_and_rates_are_hyperparameters():
    numbers = network().hyperparameters()
    assert numbers["layer1.threshold"] == 3.0
    assert numbers["layer1.learners.target_time"] == 0.75


@pytest.mark.parametrize("target", [0.4, 0.7])
def test_winners_learn_to_fire_at_the_target(target, compiler):
    learner = TargetTime(target_time=target, threshold_min=0.5, annealing=0.8, patches=10)
    found = trained(network(learner), 20, native=True).diagnoses["TargetTime layer1"]
    assert abs(found["spike_time"]["layer1"] - target) < 0.06
    assert found["threshold_drift"]["layer1"] < 0.05
    assert min(found["wins"]["layer1"]) > np.mean(found["wins"]["layer1"]) / 3


def diagnosis(**settings):
    """Figures of the only layer, and words."""
    found = trained(network(**settings), 1).diagnoses["TargetTime layer1"]
    return {key: value if key == "words" else value["layer1"] for key, value in found.items()}


def test_a_diagnosis_says_what_is_wrong():
    high = diagnosis(threshold=500.0)
    assert (high["silent"], high["never_won"], high["wins"]) == (1.0, 6, [0] * 6)
    assert "no neuron fired at 100 % of the patches" in high["words"]
    assert any("too high" in word for word in high["words"])
    early = diagnosis(learner=TargetTime(target_time=0.0, threshold_min=5.0, threshold_rate=0.01), threshold=5.0)
    assert any("the target is not reached: a lower `threshold_min` may help" in word for word in early["words"])
    moving = diagnosis(learner=TargetTime(threshold_rate=0.5, target_time=0.5, threshold_min=0.1))
    assert any("still moving" in word for word in moving["words"])
    assert len(moving["thresholds"]) == 6
    for kind in (np.min, np.mean, np.max):
        expected = kind(moving["thresholds"])
        np.testing.assert_allclose(moving[f"threshold_{kind.__name__.removeprefix('a')}"], expected, rtol=1e-5)
    words = diagnosis(learner=TargetTime(threshold_rate=0.0, threshold_min=0.1))["words"]
    assert any(word.startswith("thresholds lie in 3.00..3.00, mean 3.00, settled") for word in words)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TargetTime(target_time=1.5), "`target_time`.*got 1.5"),
        (lambda: TargetTime(rate=-0.1), "`rate`.*got -0.1"),
        (lambda: TargetTime(beta=-1.0), "`beta`.*got -1"),
        (lambda: TargetTime(threshold_rate=-1.0), "`threshold_rate`.*got -1"),
        (lambda: TargetTime(threshold_min=0.0), "`threshold_min`.*above 0, got 0"),
        (lambda: TargetTime(annealing=0.0), "`annealing`.*above 0.*got 0"),
        (lambda: TargetTime(bounds=(-1.0, 1.0)), "`bounds` must be at least 0"),
        (lambda: TargetTime(patches=0), "`patches`.*got 0"),
        (lambda: TargetTime(patches=1.5), "`patches` must be an integer"),
        (lambda: network(threshold=None), "`threshold` of layer1.*got None: start where"),
        (lambda: network(threshold=-1.0), "`threshold` of layer1.*got -1"),
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


def test_a_layer_keeps_its_own_description():
    """Only learning spreads a threshold over the features."""
    spec = network()
    assert spec.stages[0].branches[0].threshold == 3.0
    assert snnjax.Model.of(spec, spec.initial_weights()).layers["layer1"].conv.threshold.shape == (6,)
    plain = dataclasses.replace(spec.stages[0].branches[0], learners=STDP())
    assert plain.prepared(2) is plain
    assert snnjax.Model.of(spec, spec.initial_weights()).layers["layer1"].kernels is XLA
    network(learner=(STDP(), TargetTime()), competition=WTA(3))


def test_compiled_kernels_resolve_ties(compiler):
    """The lowest index; a threshold is reached exactly; the largest potential; nobody."""
    weights = np.float32([[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.25], [0.5, 0.5, 0.5, 0.5]]).reshape(3, 1, 2, 2)
    image, rule = np.uint8([5, 7, 5, 7]).reshape(1, 1, 2, 2), dict(RULE, time_steps=T)
    place = np.zeros((1, 1, 2), np.int32), np.array([0, 1], np.int32)
    thresholds = [2.0, 1.0, 1.0], [1.0, 1.0, 2.0], [2.25, 1.5, 1.75], [2.25, 2.25, 2.25]
    for threshold, won in zip(thresholds, ((1, 5), (0, 5), (2, 7), (-1, T)), strict=True):
        expected = judge(image.ravel(), np.float64(weights.reshape(3, 4)), np.float64(threshold), T, **RULE)
        assert expected[2:] == won, threshold
        found = native.learn_patches(image, *place, native.arrange(weights), np.float32(threshold), features=3, **rule)
        assert (int(found.feature[0, 0]), int(found.latency[0, 0])) == won, threshold
        np.testing.assert_allclose(found.threshold, expected[1], atol=1e-6)
