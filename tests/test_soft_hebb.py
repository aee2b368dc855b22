"""SoftHebb layers: the kernels on golden data, the learner in a training, and networks of such layers."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import snnjax
from snnjax import InputError, Settings, Sweep, Trainer, data
from snnjax.app import draw_run, plots
from snnjax.core.devices import AT_ONCE
from snnjax.data import Dataset
from snnjax.encoding import PIXELS
from snnjax.kernels import hebbian, winograd
from snnjax.layers import Conv, LatencyCode, Pool, RealLayer, Standardise, Triangle
from snnjax.layers.layer_kernels import ROWS
from snnjax.learners import RSTDP, STDP, SoftHebb, SupervisedSTDP
from snnjax.networks import NETWORKS, Earliest, Images, Input, Majority, Model, Network, SpikingNetwork, stage
from snnjax.runs import RunFolder
from snnjax.training import draws, epoch

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
LEARNED = "SoftHebb layer1, layer2"
LAYERS = "layer1", "layer2"


def close(found, expected, tolerance=1e-4):
    """Raises AssertionError unless arrays differ by at most the tolerance, relative to the largest value."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def network(batch=4, images=None, rate=0.01):
    """Two real-valued layers under a readout, for images of 8x8 in three colours."""
    rule = SoftHebb(rate=rate, batch=batch, images=images)
    real = dict(padding=1, weight_mean=0.0, activation=Triangle(0.7), standardise=Standardise())
    first = Conv(6, 3, **real, learners=rule, weight_std=2.0)
    second = Conv(8, 3, **real, learners=dataclasses.replace(rule, rate=2 * rate))
    readout = Conv(4, 2, threshold=3.0, weight_mean=0.5, learners=SupervisedSTDP(non_targets=0))
    stages = stage(first, pool=Pool(4, stride=2, padding=1)), stage(second, pool=Pool(2, mean=True), code=LatencyCode())
    settings = dict(time_steps=255, encoder=PIXELS, decision=Earliest(fallback=True), epochs=(1, 1, 3))
    return Network("soft", (3, 8, 8), 2, (*stages, stage(readout)), **settings)


def with_first(**changes):
    """The network with another first layer."""
    spec = network()
    first = dataclasses.replace(spec.stages[0].branches[0], **changes)
    return dataclasses.replace(spec, stages=(dataclasses.replace(spec.stages[0], branches=(first,)), *spec.stages[1:]))


def with_code(code):
    """The network with other latencies of the second stage."""
    first, second, readout = network().stages
    return dataclasses.replace(network(), stages=(first, dataclasses.replace(second, code=code), readout))


def trained(spec, images=COLOURS, save=lambda state: None, **settings):
    """A trainer, and the state at the end of its training."""
    settings = Settings(**dict(epochs=spec.epochs, patience=0, shuffle=True) | settings)
    trainer = Trainer(spec, images, settings)
    return trainer, trainer.run(trainer.initial_state(), save)


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


@jax.jit
def learn_batch(layer, batch):
    response = layer.conv.learners.forward(layer, (), batch, None)
    after, _, info = layer.conv.learners.update(layer, (), batch, response, None)
    return after, info, response


@pytest.mark.parametrize("case", [1, 6])
def test_learning_is_that_of_the_golden_data(case):
    """By the learner of a layer; batches of 1 to 4 images, then each again after learning."""
    golden = {key.split("/")[2]: GOLDEN[key] for key in GOLDEN if key.startswith(f"case/{case:03}/")}
    kernel, tau, power, rate, mean = golden["params"]
    weights, size = golden["weights_before"], int(kernel)
    own = dict(learners=SoftHebb(float(tau), float(rate)), activation=Triangle(float(power)))
    conv = Conv(len(weights), size, padding=size // 2, **own, standardise=Standardise())
    layer = RealLayer(conv.prepared(weights.shape[1]), np.asarray(ROWS.pack(weights)), 255, ROWS)
    for at, batch in enumerate(golden["x"]):
        layer, info, response = learn_batch(layer, batch)
        maps = np.moveaxis(golden["u"][at], 1, -1)
        close(response.sums, maps.reshape(-1, len(weights)))
        signed = hebbian.soft_competition(response.sums, inverse_temperature=tau)
        close(np.asarray(signed).reshape(maps.shape), np.moveaxis(golden["signed"][at], 1, -1))
        close(layer.weights, golden["weights_after"][at])
        close(layer.conv.standardise.mean, golden["mean_after"][at])
        close(layer.conv.standardise.variance, golden["var_after"][at])
        np.testing.assert_array_equal(info["wins"], np.bincount(maps.argmax(axis=-1).ravel(), minlength=len(weights)))
    pool = Pool(2, mean=True) if mean else Pool(4, stride=2, padding=1)
    outputs = jax.jit(lambda layer, x: layer.outputs(x, pool))
    for images, expected in zip(golden["x"], golden["output"], strict=True):
        close(np.stack([outputs(layer, x) for x in images]), expected)


def test_without_a_pool_activities_are_padded_alone():
    conv = Conv(2, 3, padding=1, activation=Triangle(), output_padding=(1, 0), weight_mean=0.0)
    layer = RealLayer(conv, ROWS.pack(np.float32(RNG.normal(size=(2, 3, 3, 3)))), 255, ROWS)
    maps = np.float32(RNG.random((3, 4, 5)))
    padded = np.pad(layer.responses(maps), ((0, 0), (1, 1), (0, 0)))
    np.testing.assert_allclose(layer.outputs(maps, None), padded, rtol=1e-6)
    assert padded.any()


@pytest.mark.parametrize(
    ("shape", "padding"), [((20, 7, 9), 1), ((16, 8, 8), 1), ((3, 5, 6), 0), ((16, 4, 3), (2, 0)), ((2, 3, 3), 0)]
)
def test_sums_by_tiles_are_those_of_patches(shape, padding):
    maps = np.float32(RNG.random(shape))
    weights = np.float32(RNG.normal(size=(5, shape[0], 3, 3)))
    patches = hebbian.reflected_patches(maps, kernel=3, padding=padding)
    expected = hebbian.weighted_sums(patches, weights.transpose(0, 2, 3, 1).reshape(5, -1))
    found = winograd.tiled_sums(maps, winograd.tile_weights(weights), padding=padding)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("channels", "change", "by_tiles"),
    [(16, {}, True), (15, {}, False), (16, dict(kernel=5), False), (16, dict(stride=2), False)],
)
def test_layers_with_many_maps_are_computed_by_tiles(channels, change, by_tiles):
    conv = Conv(**dict(features=4, kernel=3, padding=1, activation=Triangle(), weight_mean=0.0) | change)
    weights = np.float32(RNG.normal(size=(4, channels, conv.kernel, conv.kernel)))
    layer = RealLayer(conv, ROWS.pack(weights), 255, ROWS)
    assert (layer.tiled().tiles is not None) == by_tiles
    maps = np.float32(RNG.random((channels, 6, 6)))
    np.testing.assert_allclose(layer.tiled().responses(maps), layer.responses(maps), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(layer.tiled().with_weights(0 * weights).responses(maps), 0)


# Trainings


def written_out(images):
    """The layers after their first images, batch by batch: the last one is short."""
    model = Model.of(network(), network().initial_weights(0))
    encode = jax.jit(jax.vmap(PIXELS))
    join = jax.jit(jax.vmap(lambda maps: model.join(0, [maps])))
    order = draws.shown_order(Settings((1, 1, 3), shuffle=True), [0], 0, 53, 0)[:images]
    layers = dict(model.layers)
    for at in range(0, images, 4):
        inputs = encode(COLOURS.train_images[order[at : at + 4]])
        layers["layer1"], _, response = learn_batch(layers["layer1"], inputs)
        layers["layer2"], *_ = learn_batch(layers["layer2"], join(response.outputs))
    return layers


@pytest.mark.parametrize("images", [9, 53])
def test_layers_learn_jointly_from_the_images_shown_first(images, learned):
    """Each from the one before, as written out; the readout learns from all images."""
    trainer, state, *_ = learned if images == 53 else trained(network(images=images))
    counts = [each["images"] for each in state.phases if each["name"] in (LEARNED, "SupervisedSTDP")]
    assert counts == [images, 3 * 53]
    found, expected = trainer.trained(state).model.layers, written_out(images)
    for name in LAYERS:
        close(found[name].weights, np.asarray(expected[name].weights), 1e-5)
        close(found[name].conv.standardise.mean, np.asarray(expected[name].conv.standardise.mean), 1e-5)
        assert not np.allclose(state.weights[name], network().initial_weights(0)[name])


@pytest.fixture
def saved_often(monkeypatch):
    """Slices of 12 images, after each of which a state is saved."""
    for name, value in dict(EVERY=0.0, ALIGNED=4).items():
        monkeypatch.setattr(epoch, name, value)
    monkeypatch.setitem(AT_ONCE, "learned", 12)


def test_a_killed_training_goes_on_within_an_epoch(learned, saved_often, tmp_path, monkeypatch):
    """Bit for bit, also with slices of another size, as of another version or device."""
    (trainer, expected, _), saves = learned, []
    with RunFolder(tmp_path, trainer) as run:

        def save(state):
            run.save(state)
            saves.append(state.shown)
            if state.shown:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            trainer.run(run.start(), save)
    monkeypatch.setitem(AT_ONCE, "learned", 1000)
    again = Trainer(network(), COLOURS, trainer.settings)
    with RunFolder(tmp_path, again, resume=True) as run:
        assert run.state.shown == saves[-1]
        state = again.run(run.start(), run.save)
        assert f"after {saves[-1]} of its images" in "".join(run.notes)
    jax.tree.map(np.testing.assert_array_equal, state.weights, expected.weights)
    assert (state.epochs, state.diagnoses) == (expected.epochs, expected.diagnoses)


def test_a_sweep_is_each_network_alone(learned):
    varied = {"layer1.learners.inverse_temperature": 0.5, "layer2.activation.power": 1.4}
    sweep = Sweep(network(), COLOURS, Settings((1, 1, 3), patience=0, shuffle=True), [varied, {}])
    found = sweep.run()
    for at, each in enumerate(sweep.networks):
        _, state, *_ = learned if at else trained(each)
        for name, weights in state.trained.weights.items():
            close(found.trained[at].weights[name], weights, 1e-5)
    names = {*network().hyperparameters()}
    assert {"layer1.activation.power", "layer1.learners.momentum"} <= names
    assert not names & {"layer1.standardise.mean", "layer1.competition.radius"}, "without effect"


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


def test_layers_that_learned_jointly_are_taken_together(learned):
    *_, folder = learned
    trained = snnjax.load(folder)
    readout = dataclasses.replace(network().stages[2].branches[0], threshold=4.0)
    spec = dataclasses.replace(network(), stages=(*network().stages[:2], stage(readout)))
    trainer = Trainer(spec, COLOURS, Settings((1, 1, 3), patience=0, shuffle=True), start=trained)
    state = trainer.run(trainer.initial_state())
    assert LEARNED not in {phase["name"] for phase in state.phases}
    layers = [each.model.layers[name] for each in (trained, trainer.trained(state)) for name in LAYERS]
    jax.tree.map(np.testing.assert_array_equal, layers[:2], layers[2:])
    inputs = Input("stage1", code=LatencyCode())
    stages = network().stages[0], stage(Conv(4, 4, threshold=3.0, learners=SupervisedSTDP()), inputs=inputs)
    alone = SpikingNetwork(dataclasses.replace(network(), stages=stages, epochs=()))
    with pytest.raises(InputError, match=r"all layers that learn jointly in soft, got layer1 of soft$"):
        Trainer(network(), COLOURS, trainer.settings, start=alone)


def test_images_without_contrast_teach_nothing():
    """And are said to; what layers make of mirror images is kept."""
    images = dataclasses.replace(COLOURS, train_images=np.full_like(COLOURS.train_images, 200))
    _, state = trained(network(), images, mirror=True)
    assert all(np.isfinite(each).all() for each in state.weights.values())
    np.testing.assert_allclose(state.weights["layer1"], network().initial_weights(0)["layer1"], atol=1e-5)
    assert 2 * 53 in [each["images"] for each in state.phases if each["name"] == "outputs of stage 2"]
    assert "layer1 has not moved: try a higher `rate`" in "; ".join(state.diagnoses[LEARNED]["words"])


@snnjax.component
class Rectified:
    def __call__(self, sums):
        return jnp.maximum(sums, 0)


def test_spiking_layers_may_come_before():
    """Real-valued layers have no last step: under `Majority` too."""
    first = Conv(5, 3, padding=1, threshold=2.0, weight_mean=0.5, learners=STDP())
    soft = dataclasses.replace(network().stages[0].branches[0], activation=Rectified())
    last = Conv(4, 2, learners=RSTDP(bounds=(0.0, 1.0)))
    stages = stage(first), stage(soft, pool=Pool(4), code=LatencyCode()), stage(last)
    mixed = dataclasses.replace(network(), stages=stages, decision=Majority())
    _, state = trained(mixed)
    assert [each["name"] for each in state.phases][1:4] == ["STDP layer1", "outputs of stage 1", "SoftHebb layer2"]
    for name in state.weights:
        assert not np.array_equal(state.weights[name], mixed.initial_weights(0)[name]), name


@pytest.mark.slow
def test_digits_are_learned():
    """Real data, with features from one pass: random ones reach 77 %."""
    images = data.digits().first(400, 200)
    _, state = trained(NETWORKS["softhebb_narrow"](Images.of(images)), images, epochs=(1, 1, 1, 4))
    assert state.epochs[-1]["test"]["accuracy"] > 0.9


def test_where_few_images_have_labels_fewer_neurons_compete():
    for count, neurons in ((4_999, 5), (5_000, 10)):
        narrow = NETWORKS["softhebb_narrow"](Images(classes=7, count=count))
        assert narrow.weight_shapes["layer4"][0] == 7 * neurons


# Custom parts


@snnjax.component
class Summed:
    def __call__(self, sums):
        return sums.sum(axis=-1, keepdims=True)


@snnjax.component
class Floating(LatencyCode):
    def __call__(self, activities, *, time_steps):
        return activities


@snnjax.component
class Outputless(SoftHebb):
    def forward(self, layer, state, latency, label):
        return super().forward(layer, state, latency, label)._replace(outputs=None)


# What is refused


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: with_first(learners=SoftHebb(batch=5)), "must have one batch and images"),
        (lambda: with_first(learners=(SoftHebb(), SoftHebb())), "must be one alone where it learns from batches"),
        (lambda: with_first(activation=None, standardise=None, threshold=1.0), "layer1, .* real-valued.*Triangle"),
        (lambda: with_code(None), r"stage 2 of soft must have a `code`.*LatencyCode"),
        (lambda: trained(network(), epochs=(1, 2, 3)), "`epochs` must be the same for stages that learn jointly"),
        (lambda: SoftHebb(inverse_temperature=0.0), "`inverse_temperature` must be finite and above 0"),
        (lambda: SoftHebb(momentum=2.0), r"`momentum` must lie in 0..1"),
        (lambda: winograd.tiled_sums(jnp.ones((2, 6, 6)), jnp.ones((6, 6, 4, 3))), r"`weights` .* \(6, 6, 4, 2\)"),
        (lambda: NETWORKS["goupy2024_softhebb"](features=(3, 5)), r"`features` must be 3 numbers, .* got \(3, 5\)"),
        (lambda: trained(with_first(activation=Summed())), r"`activation\(...\) of layer1` .* shape \(6, 8, 8\)"),
        (lambda: trained(with_first(learners=Outputless(batch=4))), r"`forward\(...\).outputs of Outputless"),
        (lambda: trained(with_code(Floating())), r"`code\(...\) of stage 2` must be uint8 .* got float32"),
    ],
)
def test_what_makes_no_sense_is_refused(make, words):
    """Before anything is learned."""
    with pytest.raises(InputError, match=words):
        make()
