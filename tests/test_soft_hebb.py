"""SoftHebb layers: the kernels on golden data, the learner in a training, and networks of such layers."""

import dataclasses
import functools
import pathlib

import jax
import numpy as np
import pytest
import tiny
from refusals import assert_refused

import snnjax
from snnjax import InputError, Settings, Sweep, Trainer, data
from snnjax.app import draw_run, plots
from snnjax.data import Dataset
from snnjax.encoding import PIXELS
from snnjax.kernels import hebbian
from snnjax.kernels.ramp import remaining_steps
from snnjax.layers import Conv, Pool, Ramp, Standardise
from snnjax.layers.ramp_layer import RampLayer
from snnjax.learners import RSTDP, STDP, SoftHebb, SupervisedSTDP
from snnjax.networks import NETWORKS, Earliest, ImageSpec, Majority, Network, SpikingNetwork, stage
from snnjax.networks.batches import output_batch
from snnjax.networks.graph import Activations
from snnjax.runs import RunFolder
from snnjax.training import learning_phase

GOLDEN = np.load(pathlib.Path(__file__).parent / "golden" / "softhebb.npz")
RNG = np.random.default_rng(0)
COLOURS = Dataset(
    "colours",
    RNG.integers(0, 256, (53, 8, 8, 3), np.uint8),
    np.arange(53) % 2,
    RNG.integers(0, 256, (53, 8, 8, 3), np.uint8),
    np.arange(53) % 2,
    classes=2,
)
LEARNED = "SoftHebb layer1"
LAYERS = "layer1", "layer2"


def close(found, expected, tolerance=1e-4):
    """Raises AssertionError unless arrays differ by at most the tolerance, relative to the largest value."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def network(batch=4, images=None, rate=0.01):
    """Two layers with ramps under a readout, for images of 8x8 in three colours."""
    rule = SoftHebb(rate=rate, minibatch_size=batch, images=images)
    both = dict(padding=1, weight_mean=0.0, ramp=Ramp(0.7), standardise=Standardise())
    first = Conv(6, 3, **both, learners=rule, weight_std=2.0)
    second = Conv(8, 3, **both, learners=dataclasses.replace(rule, rate=2 * rate))
    readout = Conv(4, 2, threshold=3.0, weight_mean=0.5, learners=SupervisedSTDP(non_targets=0))
    stages = stage(first, pool=Pool(4, stride=2, padding=1)), stage(second, pool=2)
    settings = dict(time_steps=255, encoder=PIXELS, decision=Earliest(fallback=True), epochs=(1, 1, 3))
    return Network("soft", (3, 8, 8), 2, (*stages, stage(readout)), **settings)


def trained(network, images=COLOURS, **settings):
    """The state at the end of a training."""
    return tiny.trained(network, images, Settings(**dict(epochs=network.epochs, patience=0, shuffle=True) | settings))


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A trainer, the state at the end of its training, and the folder of the run, with report."""
    folder = tmp_path_factory.mktemp("soft") / "run"
    trainer = Trainer(network(), COLOURS, Settings((1, 1, 3), patience=0, shuffle=True))
    with pytest.MonkeyPatch.context() as patch, RunFolder(folder, trainer, draw=draw_run) as run:
        patch.setattr(plots, "png", lambda figure: b"a picture, which takes longer to draw than all the rest")
        state = trainer.run(run.start(), run.save)
        run.finish(state)
    return trainer, state, folder


# Kernels


@functools.partial(jax.jit, static_argnames="kernel")
def learned_batch(weights, running, values, *, kernel, tau, rate, epsilon=1e-5, momentum=0.1):
    """Weights (F, C, k, k) and moments after a batch (B, C, H, W), its sums, and the shares of features in learning."""
    batch = hebbian.moments(values)
    standardised = jax.vmap(lambda x: hebbian.standardised(x, batch, epsilon=epsilon))(values)
    patches = jax.vmap(lambda x: hebbian.reflected_patches(x, kernel=kernel, padding=kernel // 2))(standardised)
    rows = weights_of(weights)
    sums = hebbian.weighted_sums(patches, rows)
    inputs, flat = (x.reshape(-1, x.shape[-1]) for x in (patches, sums))
    signed = hebbian.soft_competition(flat, inverse_temperature=tau)
    rows = hebbian.towards_unit_norm(rows, hebbian.hebbian_change(inputs, flat, signed, rows), rate=rate)
    moved = hebbian.moved_moments(running, batch, values, momentum=momentum)
    features, channels, *size = weights.shape
    return rows.reshape(features, *size, channels).transpose(0, 3, 1, 2), moved, sums, signed.reshape(sums.shape)


def weights_of(weights):
    """Weights (F, C, k, k) as (F, K)."""
    return weights.transpose(0, 2, 3, 1).reshape(len(weights), -1)


@pytest.mark.parametrize("case", [1, 6])
def test_learning_is_that_of_the_golden_data(case):
    """Batches of 1 to 4 images; and what learned neurons make of them, by running moments, inhibited."""
    golden = {key.split("/")[2]: GOLDEN[key] for key in GOLDEN if key.startswith(f"case/{case:03}/")}
    size, tau, power, rate, mean = golden["params"]
    weights = golden["weights_before"]
    running = hebbian.Moments(*np.float32([[0], [1]] * np.ones(weights.shape[1])))
    how = dict(kernel=int(size), tau=tau, rate=rate)
    for at, batch in enumerate(golden["x"]):
        weights, running, sums, signed = learned_batch(weights, running, batch, **how)
        close(sums, np.moveaxis(golden["u"][at], 1, -1))
        close(signed, np.moveaxis(golden["signed"][at], 1, -1))
        close(weights, golden["weights_after"][at])
        close(running.mean, golden["mean_after"][at])
        close(running.variance, golden["var_after"][at])
    if mean:
        return  # outputs are means, which spikes have none of
    standardise = Standardise(1e-5, np.asarray(running.mean), np.asarray(running.variance))
    conv = Conv(len(weights), int(size), ramp=Ramp(), standardise=standardise, weight_mean=0.0)
    integrator = RampLayer(conv, weights, 255).frozen().integrator
    for images, expected in zip(golden["x"], golden["output"], strict=True):
        for image, output in zip(images, expected, strict=True):
            patches = hebbian.reflected_patches(image, kernel=int(size), padding=int(size) // 2)
            sums = np.asarray(hebbian.weighted_sums(patches, integrator.weights))
            potential = np.moveaxis(sums - np.asarray(integrator.threshold), -1, 0)
            close(hebbian.pool_largest(np.maximum(potential, 0) ** power, 4, stride=2, padding=1), output)


# Trainings


def written_out(number, inputs, images):
    """Weights and moments of a layer after its first images, batch by batch: the last one is short."""
    conv = network().stages[number].branches[0]
    weights = network().initial_weights(0)[f"layer{number + 1}"]
    running = hebbian.Moments(*np.float32([[0], [1]] * np.ones(weights.shape[1])))
    rule = conv.learners
    how = dict(kernel=3, tau=rule.inverse_temperature, rate=rule.rate, epsilon=conv.standardise.epsilon)
    order = learning_phase.shown_order(Settings((1, 1, 3), shuffle=True), [0], number, 53, 0)[:images]
    for at in range(0, images, 4):
        batch = remaining_steps(inputs[order[at : at + 4]], time_steps=255)
        weights, running, *_ = learned_batch(weights, running, batch, **how)
    return weights, running


@pytest.mark.parametrize("images", [pytest.param(9, marks=pytest.mark.slow), 53])
def test_layers_learn_one_after_the_other_from_the_images_shown_first(images, learned):
    """Each from the last outputs of the one before, as written out; the readout learns from all images."""
    trainer, state, _ = learned
    if images < 53:
        state = trained(network(images=images))
    rules = ["SoftHebb layer1", "SoftHebb layer2", "SupervisedSTDP"]
    phases = [(each["name"], each["images"]) for each in state.phases if each["name"] in rules]
    assert phases == list(zip(rules, [images, images, 3 * 53], strict=True))
    model = trainer.trained(state).model
    encoded = jax.jit(jax.vmap(PIXELS))(COLOURS.train_images)
    for number, name in enumerate(LAYERS):
        weights, moments = written_out(number, output_batch(model, Activations({0: encoded}), number=number), images)
        layer = model.layers[name]
        close(layer.weights, np.asarray(weights), 1e-4)
        for moment, expected in zip(layer.conv.standardise.moments, moments, strict=True):
            close(moment, np.asarray(expected), 1e-4)
        assert not np.allclose(state.weights[name], network().initial_weights(0)[name])


@pytest.mark.slow
def test_a_sweep_is_each_network_alone(learned):
    varied = {"layer1.learners.inverse_temperature": 0.5, "layer2.ramp.power": 1.4}
    sweep = Sweep(network(), COLOURS, Settings((1, 1, 3), patience=0, shuffle=True), [varied, {}])
    found = sweep.run()
    for at, each in enumerate(sweep.networks):
        state = learned[1] if at else trained(each)
        for name, weights in state.trained.weights.items():
            close(found.trained[at].weights[name], weights, 1e-5)
    names = {*network().hyperparameters()}
    assert {"layer1.ramp.power", "layer1.ramp.first", "layer1.learners.momentum"} <= names
    assert not names & {"layer1.standardise.mean", "layer1.ramp.levels", "layer1.competition.radius"}, "without effect"


def test_a_run_is_loaded_elsewhere_and_reported(learned):
    """It predicts as the trainer; the report shows norms and how evenly positions are won."""
    *_, folder = learned
    loaded, results = snnjax.load(folder), snnjax.runs.results_file.read_results(folder)
    decisions = jax.jit(jax.vmap(loaded))(COLOURS.test_images)
    # Products of one image and of several round differently, so that one decision may be another.
    assert np.mean(decisions == COLOURS.test_labels) == pytest.approx(results["test"]["accuracy"], abs=1.5 / 53)
    found = results["diagnoses"][LEARNED]
    assert {*found} >= {"norm_distance", "evenness", "never_won", "wins"}
    assert len(results["curves"][LEARNED]["layer1"]["evenness"]) == 1
    assert found["words"][0] in (folder / "report.html").read_text()
    pictures = {path.stem for path in (folder / "pictures").iterdir()}
    assert pictures >= {"features_layer1", "features_layer2", "wins_layer1", "wins_layer2", "weights"}


def test_images_without_contrast_teach_nothing():
    """And are said to; what layers make of mirror images is kept."""
    images = dataclasses.replace(COLOURS, train_images=np.full_like(COLOURS.train_images, 200))
    state = trained(network(), images, mirror=True)
    assert all(np.isfinite(each).all() for each in state.weights.values())
    np.testing.assert_allclose(state.weights["layer1"], network().initial_weights(0)["layer1"], atol=1e-5)
    assert 2 * 53 in [each["images"] for each in state.phases if each["name"] == "outputs of stage 2"]
    assert "layer1 has not moved: try a higher `rate`" in "; ".join(state.diagnoses[LEARNED]["words"])


def test_layers_without_a_ramp_may_come_before():
    """And behind: under `Majority` too, and read by layers that fire while their inputs do."""
    first = Conv(5, 3, padding=1, threshold=2.0, weight_mean=0.5, learners=STDP())
    soft = network().stages[0].branches[0]
    last = Conv(4, 2, learners=RSTDP(bounds=(0.0, 1.0)))
    stages = stage(first), stage(soft, pool=Pool(4)), stage(last)
    mixed = dataclasses.replace(network(), stages=stages, decision=Majority())
    state = trained(mixed)
    assert [each["name"] for each in state.phases][1:4] == ["STDP layer1", "outputs of stage 1", "SoftHebb layer2"]
    for name in state.weights:
        assert not np.array_equal(state.weights[name], mixed.initial_weights(0)[name]), name


@pytest.mark.slow
def test_digits_are_learned():
    """Real data, with features from one pass: random ones reach 77 %."""
    images = data.digits().subset(400, 200)
    state = trained(NETWORKS["softhebb_narrow"](ImageSpec.of(images)), images, epochs=(1, 1, 1, 4))
    assert state.epochs[-1]["test"]["accuracy"] > 0.9


# Levels


@snnjax.component
class Linear(Ramp):
    """Levels that fall evenly to the smallest potential above 0."""

    def fit(self, potential, time_steps):
        above = potential[potential > 0]
        levels = np.linspace(above.max(), above.min(), time_steps, dtype=np.float32)
        return dataclasses.replace(self, levels=levels)


@snnjax.component
class OneTooMany(Linear):
    """As `Linear`, with a level after the last step."""

    def fit(self, potential, time_steps):
        return super().fit(potential, time_steps + 1)


def test_a_fit_must_give_a_level_for_each_step():
    trainer = Trainer(tiny.with_first(network(), ramp=OneTooMany()), COLOURS, Settings((0, 0, 1), patience=0))
    with pytest.raises(InputError, match=r"`levels` of layer1 must be .* each of 255 time steps, got shape \(256,\)"):
        trainer.run(trainer.initial_state())


def test_levels_are_fitted_after_no_epoch_too_and_kept(tmp_path):
    """By a class of one's own, to the potentials of training images."""
    description = tiny.with_first(network(), ramp=Linear())
    trainer = Trainer(description, COLOURS, Settings((0, 0, 1), patience=0))
    with RunFolder(tmp_path, trainer) as run:
        run.finish(trainer.run(run.start(), run.save))
    found = snnjax.load(tmp_path)
    np.testing.assert_array_equal(found.weights()["layer1"], description.initial_weights(0)["layer1"])
    latency = jax.jit(jax.vmap(PIXELS))(COLOURS.train_images)
    potential = jax.jit(jax.vmap(found.model.layers["layer1"].potentials))(latency)
    levels = Linear().fit(np.asarray(potential), 255).levels
    close(found.network.stages[0].branches[0].ramp.levels, levels)


def test_levels_are_fitted_again_where_a_layer_learns_on(learned):
    """The levels of the network that it starts from fit other potentials."""
    trainer, state, _ = learned
    before = trainer.trained(state)
    settings = Settings((1, 1, 3), patience=0, shuffle=True)
    again = Trainer(network(), COLOURS, settings, start=before, learn=("stage1", "stage2", "stage3"))
    assert not any(stage.branches[0].ramp.fitted for stage in again.network.stages[:2])
    found = again.trained(again.run(again.initial_state()))
    latency = jax.jit(jax.vmap(PIXELS))(COLOURS.train_images)
    potential = jax.jit(jax.vmap(found.model.layers["layer1"].potentials))(latency)
    ramp = found.network.stages[0].branches[0].ramp
    close(ramp.levels, ramp.fit(np.asarray(potential), 255).levels)
    assert not np.array_equal(ramp.levels, before.network.stages[0].branches[0].ramp.levels)


def test_untrained_networks_have_no_levels():
    untrained = SpikingNetwork(network())
    assert untrained.features(COLOURS.train_images[0], 0).shape == (3, 8, 8)
    words = r"`ramp` of layer1 of soft must be fitted, got Ramp before its `fit`: train it first"
    assert_refused(
        (lambda: untrained(COLOURS.train_images[0]), words),
        (lambda: untrained.features(COLOURS.train_images), words),
        (lambda: untrained.predict(np.zeros((3, 8, 8), np.uint8)), words),
    )
