"""LocalError: labels in a layer before the last, by the error of a head of its own."""

import dataclasses

import jax
import jax.numpy as jnp
import local_variants
import numpy as np
import optax
import pytest
import tiny
from refusals import assert_refused

import snnjax
from snnjax import ImageSpec, Settings, Sweep, Trainer
from snnjax.core import paths
from snnjax.data import Dataset
from snnjax.encoding import PIXELS
from snnjax.estimators import SpikingClassifier, SpikingFeatures
from snnjax.kernels import local_error
from snnjax.layers import Conv, Pool, Ramp, Standardise
from snnjax.learners import STDP, LocalError, Prototypes, Signal, SoftHebb, SupervisedSTDP
from snnjax.networks import Earliest, Model, Network, SpikingNetwork, local_errors, quantise, stage
from snnjax.networks.batches import output_batch
from snnjax.networks.graph import Activations
from snnjax.runs import RunFolder
from snnjax.testing import check_learner

RNG = np.random.default_rng(0)
LABELS = np.arange(53) % 2
# The two classes differ in how bright the left half is, in noise.
SHADES = (
    RNG.integers(0, 256, (106, 8, 8, 3)) // 2
    + 60 * (np.arange(106) % 2)[:, None, None, None] * (np.arange(8) < 4)[None, None, :, None]
)
IMAGES = Dataset("shades", np.uint8(SHADES[:53]), LABELS, np.uint8(SHADES[53:]), 1 - LABELS, classes=2)
RULE = LocalError(parts=2, minibatch_size=4)


@snnjax.component
class Plain(LocalError):
    """Gradient descent, so that a change is the gradient."""

    def optimizer(self, rate):
        return optax.sgd(rate)


@snnjax.component
class LabelledSTDP(STDP):
    """A rule that learns from single stimuli, and cannot get labels."""

    labelled = True


PLAIN = Plain(rate=0.5, parts=2, minibatch_size=4, dropout=0.0)


def network(first=RULE, second=RULE, **settings):
    """Two layers with ramps under a readout, for images of 8x8 in three colours."""
    both = dict(padding=1, weight_mean=0.0, ramp=Ramp(), standardise=Standardise())
    layers = (
        Conv(6, 3, **both, learners=first, weight_std=0.3),
        Conv(16, 3, **both, learners=second, weight_std=0.2),
    )
    readout = Conv(4, 2, threshold=3.0, weight_mean=0.5, learners=SupervisedSTDP(non_targets=0))
    stages = stage(layers[0], pool=Pool(4, stride=2, padding=1)), stage(layers[1], pool=2), stage(readout)
    about = dict(time_steps=255, encoder=PIXELS, decision=Earliest(fallback=True), epochs=(2, 2, 3)) | settings
    return Network("local", (3, 8, 8), 2, stages, **about)


def trained(network, images=IMAGES, **settings):
    """The trainer, and the state at the end of its training."""
    trainer = Trainer(network, images, Settings(**dict(epochs=network.epochs, patience=0, shuffle=True) | settings))
    return trainer, trainer.run(trainer.initial_state())


# The rule


@pytest.mark.parametrize(("size", "parts"), [((8, 6), 2), ((7, 5), 4), ((2, 3), 4)])
def test_parts_are_those_of_adaptive_pooling(size, parts):
    maps = RNG.normal(size=(2, *size, 3)).astype(np.float32)
    found = local_error.part_means(maps, parts=parts)
    for row in range(parts):
        for column in range(parts):
            inside = [
                slice(part * length // parts, -(-(part + 1) * length // parts))
                for part, length in zip((row, column), size, strict=True)
            ]
            np.testing.assert_allclose(found[:, row, column], maps[:, *inside].mean((1, 2)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("shape", "size"), [((8, 6), 2), ((7, 5), 3), ((4, 4), 1), ((2, 3), 4)])
def test_the_largest_of_each_block_is_seen(shape, size):
    maps = RNG.normal(size=(2, *shape, 3)).astype(np.float32)
    found = local_error.block_maxima(maps, size=size)
    assert found.shape == (2, -(-shape[0] // size), -(-shape[1] // size), 3)
    for row, column in np.ndindex(found.shape[1:3]):
        block = maps[:, row * size : (row + 1) * size, column * size : (column + 1) * size]
        np.testing.assert_array_equal(found[:, row, column], block.max((1, 2)))


def case(learner, channels=3):
    """The first layer of a network with a head that is not 0, its state, and a minibatch with labels."""
    description = network(learner)
    conv = description.stages[0].branches[0]
    readout = Conv(4, 4, threshold=3.0, weight_mean=0.5, learners=SupervisedSTDP())
    about = dict(input_shape=(channels, 8, 8), epochs=(1, 1), encoder=None)
    description = dataclasses.replace(description, stages=(stage(conv, pool=2), stage(readout)), **about)
    weights = description.initial_weights(0)
    layer = Model.of(description, weights).layers["layer1"]
    head = RNG.normal(size=(2, 2, conv.features, 2)).astype(np.float32)
    rule = dataclasses.replace(layer.conv.learners, head=head)
    layer = dataclasses.replace(layer, conv=dataclasses.replace(layer.conv, learners=rule))
    state = rule.init(layer, np.array([0, 0], np.uint32), 0)
    latency = RNG.integers(0, 256, (4, channels, 8, 8)).astype(np.uint8)
    labels = jnp.array([0, 1, 1, 0], jnp.int32)
    return layer, rule, state, latency, Signal(jnp.zeros_like(labels), labels, labels)


def direct_activities(layer, weights, latency):
    """Activities (B, H, W, F) by a convolution of XLA."""
    values = 255.0 - latency
    variance = values.var((0, 2, 3), keepdims=True, ddof=1)
    values = (values - values.mean((0, 2, 3), keepdims=True)) / np.sqrt(variance + layer.conv.standardise.epsilon)
    padded = jnp.pad(values, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
    sums = jax.lax.conv(padded, weights, (1, 1), "VALID").transpose(0, 2, 3, 1)
    return jnp.maximum(sums - sums.mean(-1, keepdims=True), 0)


@pytest.mark.parametrize("channels", [3, 16])
@pytest.mark.parametrize(("feedback", "block"), [("transposed", 1), ("random", 1), ("transposed", 2)])
def test_weights_follow_the_gradient_of_the_loss_of_their_own_head(feedback, block, channels):
    """Of 3 channels by patches, of 16 by tiles; random feedback replaces the head only in the backward pass."""
    layer, rule, state, latency, signal = case(dataclasses.replace(PLAIN, feedback=feedback, block=block), channels)
    after, state_after, info = jax.jit(lambda *given: rule.update(*given))(layer, state, latency, None, signal)

    def means(weights):
        maps = direct_activities(layer, weights, latency)
        maxima = maps.reshape(4, 8 // block, block, 8 // block, block, -1).max((2, 4))
        return maxima.reshape(4, 2, 4 // block, 2, 4 // block, -1).mean((2, 4))

    def loss_of_scores(scores):
        wanted = 0.95 * jax.nn.one_hot(signal.label, 2) + 0.05 / 2
        return -jnp.mean(jnp.sum(wanted * jax.nn.log_softmax(scores), -1))

    inputs, back = jax.vjp(means, layer.weights)
    loss, error = jax.value_and_grad(loss_of_scores)(jnp.einsum("bijf, ijfc -> bc", inputs, rule.head))
    way_back = rule.head if feedback == "transposed" else state["feedback"]
    (gradient,) = back(jnp.einsum("bc, ijfc -> bijf", error, way_back))
    moved = np.asarray(after.weights - layer.weights)
    np.testing.assert_allclose(moved, -0.5 * gradient, rtol=0, atol=2e-4 * np.abs(moved).max())
    head = rule.head - 0.5 * jnp.einsum("bijf, bc -> ijfc", inputs, error)
    np.testing.assert_allclose(after.conv.learners.head, head, rtol=1e-3, atol=1e-4)
    assert info["loss"] == pytest.approx(float(loss), rel=1e-4)
    assert state_after["minibatches"] == 1
    assert np.abs(moved).max() > 1e-3


def test_dropout_hides_a_share_of_the_heads_inputs():
    """Other ones in each minibatch; the rest count for more, so that the mean is that of all."""
    layer, rule, state, latency, signal = case(dataclasses.replace(PLAIN, dropout=0.5))
    one = latency[:1], jax.tree.map(lambda x: x[:1], signal)

    @jax.jit
    def moved(rule, state):
        after, state, _ = rule.update(layer, state, one[0], None, one[1])
        return after.conv.learners.head - rule.head, state

    blind = dataclasses.replace(rule, head=np.zeros_like(rule.head))  # scores of 0, whose error is the same each time
    whole, _ = moved(dataclasses.replace(blind, dropout=0.0), state)
    found = []
    for _ in range(400):
        change, state = moved(blind, state)
        found.append(np.asarray(change))
    seen = np.abs(whole) > 1e-6
    assert np.mean(np.stack(found)[:, seen] == 0) == pytest.approx(0.5, abs=0.05)
    np.testing.assert_allclose(np.mean(found, 0), whole, rtol=0, atol=0.2 * np.abs(whole).max())
    assert not np.array_equal(found[0], found[1])


@pytest.mark.parametrize("threshold", [None, 1.5])
@pytest.mark.parametrize(
    "ramp", [Ramp(), Ramp(inhibition=False), Ramp(dendrites=2)], ids=["plain", "free", "dendrites"]
)
@pytest.mark.parametrize("channels", [3, pytest.param(16, marks=pytest.mark.slow)])
def test_activities_are_potentials_above_0(channels, ramp, threshold):
    """Those of a layer whose running moments are the minibatch's."""
    layer, _, _, latency, _ = case(PLAIN, channels)
    layer = dataclasses.replace(layer, conv=dataclasses.replace(layer.conv, ramp=ramp, threshold=threshold))
    rows = RNG.normal(0, 0.2, layer.rows().shape).astype(np.float32)
    found = layer.activities(latency, rows)
    other = layer.with_all_weights(rows).with_moments_of(latency, 1.0)
    expected = np.maximum(np.stack([np.asarray(other.potentials(each)) for each in latency]), 0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)
    assert 0.02 < np.mean(expected > 0) < 0.98
    if threshold is None and ramp == Ramp():
        weights = rows.reshape(len(rows), 3, 3, channels).transpose(0, 3, 1, 2)
        np.testing.assert_allclose(found, direct_activities(layer, weights, latency), rtol=0, atol=1e-3)


@pytest.mark.parametrize("channels", [3, pytest.param(16, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("shape", "block"), [((6, 7, 9), 2), ((6, 40, 50), 4), ((4, 70, 66), 1)])
def test_largest_activities_of_blocks_have_the_gradient_of_a_maximum(shape, block, channels):
    """On maps of several sizes, of which a CPU computes all stimuli, two, or one at once."""
    layer = case(PLAIN, channels)[0]
    count, height, width = shape
    latency = RNG.integers(0, 256, (count, channels, height, width)).astype(np.uint8)

    def expected_maxima(rows):
        other = layer.with_all_weights(rows).with_moments_of(latency, 1.0)
        activities = jnp.maximum(jnp.stack([other.potentials(each) for each in latency]), 0)
        window = (1, block, block, 1)
        beyond = [(0, 0), (0, -height % block), (0, -width % block), (0, 0)]
        return jax.lax.reduce_window(activities, -jnp.inf, jax.lax.max, window, window, beyond)

    rows = RNG.normal(0, 0.2, layer.rows().shape).astype(np.float32)
    found, gradient = jax.vjp(lambda rows: layer.activities(latency, rows, block), rows)
    expected, expected_gradient = jax.vjp(expected_maxima, rows)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)
    error = np.float32(RNG.normal(size=expected.shape))
    for wanted, got in zip(expected_gradient(error), gradient(error), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-3 * np.abs(wanted).max())


def test_the_gradient_of_a_maximum_goes_to_the_first_of_equal_values():
    gradient = jax.grad(lambda maps: local_error.block_maxima(maps, size=2).sum())(jnp.ones((1, 3, 2, 1)))
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[1, 0], [0, 0], [1, 0]])


def test_another_optimiser_keeps_the_contract():
    check_learner(PLAIN)


# Trainings


@pytest.fixture(scope="module")
def learned():
    return trained(network())


def test_layers_learn_one_after_another_with_labels(learned):
    _, state = learned
    rules = [each["name"] for each in state.phases if not each["name"].startswith(("encode", "outputs", "test"))]
    assert rules == ["LocalError layer1", "LocalError layer2", "SupervisedSTDP"]
    for name in ("layer1", "layer2"):
        curve = state.curves[f"LocalError {name}"][name]
        assert curve["loss"][-1] < curve["loss"][0]
        assert curve["rate"] == pytest.approx([0.002 * 0.6, 0.002 * 0.36], rel=1e-4)
    assert state.diagnoses["LocalError layer2"]["head_right"]["layer2"] > 0.9
    words = state.diagnoses["LocalError layer2"]["words"]
    assert words[0].startswith("the head of layer2 was right for ")


def test_the_head_is_saved_and_decisions_do_not_use_it(learned, tmp_path):
    """A network with weights of eight bits, as it is exported, has none."""
    trainer, state = learned
    with RunFolder(tmp_path, trainer) as run:
        run.finish(state)
    found = snnjax.load(tmp_path)
    head = found.network.stages[1].branches[0].learners.head
    assert head.shape == (2, 2, 16, 2)
    np.testing.assert_array_equal(head, trainer.trained(state).network.stages[1].branches[0].learners.head)
    assert np.abs(head).max() > 0
    eight = quantise(found, 8)
    assert [np.ndim(stage.branches[0].learners.head) for stage in eight.network.stages[:2]] == [0, 0]
    paths_of_heads = "stages.0.branches.0.learners.head", "stages.1.branches.0.learners.head"
    headless = paths.with_leaves(found.network, dict.fromkeys(paths_of_heads, 0.0))
    other = SpikingNetwork(headless, weights=found.weights())
    np.testing.assert_array_equal(other(IMAGES.test_images), found(IMAGES.test_images))


@pytest.mark.parametrize("mirror", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_only_labelled_images_teach_it(mirror):
    """A SoftHebb layer before it learns from all images."""
    few = IMAGES.keep_labels(20)
    trainer, state = trained(network(SoftHebb(minibatch_size=4)), few, shuffle=False, mirror=mirror)
    phases = {each["name"]: each["images"] for each in state.phases}
    assert phases["SoftHebb layer1"] == 2 * 53
    assert phases["LocalError layer2"] == 2 * 20
    only = dataclasses.replace(few, unlabelled_images=None)
    fixed = dataclasses.replace(
        trainer.trained(state).network.stages[0].branches[0], learners=(), weights=state.weights["layer1"]
    )
    stages = stage(fixed, pool=network().stages[0].pool), *network().stages[1:]
    _, alone = trained(dataclasses.replace(network(), stages=stages), only, shuffle=False)
    same = np.allclose(state.weights["layer2"], alone.weights["layer2"], rtol=0, atol=1e-5)
    assert same != mirror, "mirror images of the labelled ones teach it too, if any"


@pytest.mark.slow
def test_a_layer_may_begin_with_soft_hebb():
    """The levels of its ramp are fitted once, to what both rules have made of it."""
    both = SoftHebb(minibatch_size=4), dataclasses.replace(RULE, rate=0.0005)
    trainer, state = trained(network(both))
    rules = [each["name"] for each in state.phases if each["name"].endswith("layer1")]
    assert rules == ["SoftHebb layer1", "LocalError layer1"]
    found = trainer.trained(state)
    layer = found.model.layers["layer1"]
    latency = jax.jit(jax.vmap(PIXELS))(IMAGES.train_images)
    potential = np.asarray(jax.jit(jax.vmap(layer.potentials))(latency))
    np.testing.assert_allclose(layer.levels, layer.ramp.fit(potential, 255).levels, rtol=1e-4)
    assert np.ndim(layer.conv.learners[1].head)


@pytest.mark.slow
def test_a_sweep_is_each_network_by_itself(learned):
    settings = Settings((2, 2, 3), patience=0, shuffle=True)
    sweep = Sweep(network(), IMAGES, settings, [{"layer1.learners.rate": 0.004, "layer2.learners.dropout": 0.1}, {}])
    found = sweep.run()
    for at, each in enumerate(sweep.networks):
        state = learned[1] if at else trained(each)[1]
        for name, weights in state.trained.weights.items():
            np.testing.assert_allclose(found.trained[at].weights[name], weights, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_run_that_was_stopped_within_an_epoch_goes_on(tmp_path, monkeypatch):
    """With the state of its optimiser."""
    monkeypatch.setattr("snnjax.training.loop.SAVE_INTERVAL_S", 0.0)
    monkeypatch.setitem(snnjax.core.devices.BATCH_SIZES, "learned", 16)
    saves = []
    expected = Trainer(network(), IMAGES, Settings((2, 2, 3), patience=0, shuffle=True))
    whole = expected.run(expected.initial_state())

    class Stopped(Exception):
        pass

    trainer = Trainer(network(), IMAGES, Settings((2, 2, 3), patience=0, shuffle=True))

    def run_until_the_second_layer():
        with RunFolder(tmp_path, trainer) as run:

            def save(state):
                run.save(state)
                saves.append((state.phase, state.shown))
                if state.phase == 1 and state.shown:
                    raise Stopped

            trainer.run(run.start(), save)

    with pytest.raises(Stopped):
        run_until_the_second_layer()
    assert saves[-1][1] > 0
    with RunFolder(tmp_path, trainer, resume=True) as run:
        state = trainer.run(run.start(), run.save)
    for name, weights in whole.weights.items():
        np.testing.assert_array_equal(state.weights[name], weights)


@pytest.mark.slow
def test_layers_of_a_network_of_other_classes_start_without_its_head(learned):
    trainer, state = learned
    three = dataclasses.replace(IMAGES, train_labels=np.arange(53) % 3, test_labels=np.arange(53) % 3, classes=3)
    settings = Settings((1, 1, 1), patience=0)
    again = Trainer(
        network().with_classes(3), three, settings, start=trainer.trained(state), learn=("stage1", "stage2", "stage3")
    )
    before = again.trained(again.initial_state())
    np.testing.assert_array_equal(before.weights()["layer1"], trainer.trained(state).weights()["layer1"])
    after = again.trained(again.run(again.initial_state()))
    assert after.network.stages[0].branches[0].learners.head.shape == (2, 2, 6, 3)


@pytest.mark.slow
def test_the_first_partial_fit_teaches_it_by_the_labels():
    classifier = SpikingClassifier(network(), random_state=0)
    classifier.partial_fit(IMAGES.train_images, IMAGES.train_labels)
    layer = classifier.network_.network.stages[1].branches[0]
    _, state = trained(network(), IMAGES)
    other = dataclasses.replace(IMAGES, train_labels=np.arange(53) // 2 % 2)
    _, wrong = trained(network(), other)
    right_head, wrong_head = (each.learned_params["layer2.learners.head"] for each in (state, wrong))
    agreement = [np.corrcoef(layer.learners.head.ravel(), head.ravel())[0, 1] for head in (right_head, wrong_head)]
    assert agreement[0] > agreement[1] + 0.2


def test_what_is_refused():
    spiking = Conv(4, 3, threshold=1.0, learners=(STDP(), RULE))
    twice = RULE, dataclasses.replace(RULE, parts=1)
    mixed = Conv(4, 2, ramp=Ramp(inhibition=False), threshold=0.0, learners=(RULE, Prototypes()))
    assert_refused(
        (lambda: network(decision=None), "in a network without a `decision`, which has no labels"),
        (lambda: tiny.with_first(network(), ramp=None, standardise=None, threshold=1.0), "must have a `ramp`"),
        (lambda: tiny.with_first(network(), learners=spiking.learners), "must be such as SoftHebb, got STDP"),
        (
            lambda: tiny.with_first(tiny.plain(ImageSpec()), learners=LabelledSTDP()),
            "`minibatch_size` of LabelledSTDP, which is `labelled`, must be at least 1, got 0",
        ),
        (lambda: tiny.with_first(network(), learners=twice), "unsupervised, of different classes and all with a"),
        (lambda: tiny.with_first(network(), learners=mixed.learners), "unsupervised, of different classes and all"),
        (
            lambda: SpikingFeatures(network()).fit(IMAGES.train_images),
            r"`layers` of local that learn from labels must be \(\), got \('layer1', 'layer2'\)",
        ),
        (lambda: LocalError(feedback="none"), "`feedback` must be one of transposed, random"),
        (lambda: LocalError(dropout=1.0), "`dropout` must"),
    )


def test_outputs_are_what_the_head_has_seen(learned):
    """Steps that remain to a spike are in proportion to the layer's activity, but for the largest ones."""
    trainer, state = learned
    found = trainer.trained(state)
    model = found.model
    encoded = jax.jit(jax.vmap(PIXELS))(IMAGES.train_images)
    layer = model.layers["layer1"]
    activities = np.asarray(layer.activities(encoded, layer.rows()))
    pooled = np.stack([np.asarray(network().stages[0].pool.largest(np.moveaxis(x, -1, 0))) for x in activities])
    remaining = 255 - np.asarray(output_batch(model, Activations({0: encoded}), number=1), int)
    expected = np.clip(pooled / layer.levels[0], 0, 1) * 255
    # The moments of all images are those of the last minibatches only nearly.
    assert np.mean(np.abs(remaining - expected)) < 10
    assert np.corrcoef(remaining.ravel(), expected.ravel())[0, 1] > 0.95


# The networks


def test_layers_learn_for_more_epochs_if_fewer_images_have_labels():
    made = {count: local_errors.local_narrow(ImageSpec((32, 32, 3), count=count)) for count in (100, 10_000, 50_000)}
    assert made[50_000].epochs[:3] == local_errors.EPOCHS
    for fewer, more in ((100, 10_000), (10_000, 50_000)):
        for epochs, epochs_of_more in zip(made[fewer].epochs[:3], made[more].epochs[:3], strict=True):
            assert epochs_of_more < epochs <= 100
    for network in made.values():
        for number, epochs in enumerate(network.epochs[:3]):
            last = network.stages[number].branches[0].learners.annealing ** (epochs - 1)
            assert last == pytest.approx(local_errors.FINAL_RATE_RATIO, rel=0.02)


@pytest.mark.parametrize(
    ("variant", "rules"),
    [
        (local_errors.local_wide, [(LocalError,)] * 3),
        (local_variants.labels_last, [(SoftHebb,), (SoftHebb,), (LocalError,)]),
        (local_variants.softhebb_first, [(SoftHebb, LocalError)] * 3),
        (local_variants.random_feedback, [(LocalError,)] * 3),
    ],
)
def test_variants_learn_by_the_rules_that_their_names_say(variant, rules):
    made = variant(ImageSpec((32, 32, 3), count=50_000))
    assert made.name == variant.__name__
    layers = [part.branches[0] for part in made.stages[:3]]
    assert [tuple(map(type, conv.each_learner)) for conv in layers] == rules
    feedback = {learner.feedback for conv in layers for learner in conv.each_learner if isinstance(learner, LocalError)}
    assert feedback == {"random" if variant is local_variants.random_feedback else "transposed"}
