"""SoftHebb layers: the kernels on golden data, the learner in a training, and networks of such layers."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import snnjax
from snnjax import (
    Conv,
    Earliest,
    InputError,
    LatencyCode,
    Network,
    Pool,
    Settings,
    SoftHebb,
    SpikingNetwork,
    Standardise,
    SupervisedSTDP,
    Sweep,
    Trainer,
    Triangle,
    data,
    kernels,
    stage,
)
from snnjax.app import draw_run, report
from snnjax.app.features import drawn_back
from snnjax.data import Dataset
from snnjax.encoding import GABOR, PIXELS, Pixels
from snnjax.layers.layer_kernels import ROWS
from snnjax.layers.real import RealLayer
from snnjax.networks import NETWORKS, Images, Model
from snnjax.runs import RunFolder
from snnjax.training import draws, epoch
from snnjax.training.state import plan

GOLDEN = np.load(pathlib.Path(__file__).parent / "golden" / "softhebb.npz")
RNG = np.random.default_rng(0)
COLOURS = Dataset(
    "colours",
    RNG.integers(0, 256, (53, 8, 8, 3), np.uint8),
    np.arange(53) % 2,
    RNG.integers(0, 256, (20, 8, 8, 3), np.uint8),
    np.arange(20) % 2,
    classes=2,
)
LEARNED = "SoftHebb layer1, layer2"


def close(found, expected, tolerance=1e-4):
    """Raises AssertionError unless arrays differ by at most the tolerance, relative to the largest value."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def network(batch=4, images=None, rate=0.01):
    """Two real-valued layers under a readout, for images of 8x8 in three colours."""
    rule = SoftHebb(rate=rate, batch=batch, images=images)
    first = Conv(
        6,
        3,
        padding=1,
        learners=rule,
        weight_mean=0.0,
        weight_std=2.0,
        activation=Triangle(0.7),
        standardise=Standardise(),
    )
    second = dataclasses.replace(first, features=8, weight_std=1.0, learners=dataclasses.replace(rule, rate=2 * rate))
    readout = Conv(4, 2, threshold=3.0, weight_mean=0.5, learners=SupervisedSTDP(non_targets=0))
    stages = stage(first, pool=Pool(4, stride=2, padding=1)), stage(second, pool=Pool(2, mean=True), code=LatencyCode())
    settings = dict(time_steps=255, encoder=PIXELS, decision=Earliest(fallback=True), epochs=(1, 1, 3))
    return Network("soft", (3, 8, 8), 2, (*stages, stage(readout)), **settings)


def with_first(**changes):
    """The network with another first layer."""
    spec = network()
    first = dataclasses.replace(spec.stages[0].branches[0], **changes)
    return dataclasses.replace(spec, stages=(stage(first, pool=spec.stages[0].pool), *spec.stages[1:]))


def trained(spec, images=COLOURS, save=lambda state: None, **settings):
    """A trainer, and the state at the end of its training."""
    settings = Settings(spec.epochs, **(dict(patience=0, shuffle=True) | settings))
    trainer = Trainer(spec, images, settings)
    return trainer, trainer.run(trainer.initial_state(), save)


@pytest.mark.parametrize("case", range(10))
def test_learning_is_that_of_the_golden_data(case):
    """By the learner of a layer; batches of 1 to 4 images, then each again after learning."""
    golden = {key.split("/")[2]: GOLDEN[key] for key in GOLDEN if key.startswith(f"case/{case:03}/")}
    kernel, tau, power, rate, mean = golden["params"]
    weights, rule = golden["weights_before"], SoftHebb(float(tau), float(rate))
    size, activation = int(kernel), Triangle(float(power))
    conv = Conv(len(weights), size, padding=size // 2, learners=rule, activation=activation, standardise=Standardise())
    layer = RealLayer(conv.prepared(weights.shape[1]), ROWS.pack(jnp.asarray(weights)), 255, ROWS)
    for at, batch in enumerate(golden["x"]):
        response = rule.forward(layer, (), batch, None)
        maps = np.moveaxis(golden["u"][at], 1, -1)
        close(response.sums, maps.reshape(-1, len(weights)))
        signed = kernels.soft_competition(response.sums, inverse_temperature=tau)
        close(signed.reshape(maps.shape), np.moveaxis(golden["signed"][at], 1, -1))
        layer, _, info = rule.update(layer, (), batch, response, None)
        close(layer.weights, golden["weights_after"][at])
        close(layer.conv.standardise.mean, golden["mean_after"][at])
        close(layer.conv.standardise.variance, golden["var_after"][at])
        np.testing.assert_array_equal(info["wins"], np.bincount(maps.argmax(axis=-1).ravel(), minlength=len(weights)))
    pool = Pool(2, mean=True) if mean else Pool(4, stride=2, padding=1)
    for at, batch in enumerate(golden["x"]):
        close(jax.vmap(lambda x: layer.outputs(x, pool))(batch), golden["output"][at])


def test_by_hand():
    """One position that sees one value, and two features: the stronger one moves towards it."""
    sums = kernels.weighted_sums(jnp.float32([[2.0]]), jnp.float32([[1.0], [0.5]]))
    np.testing.assert_allclose(sums, [[2.0, 1.0]])
    signed = kernels.soft_competition(sums, inverse_temperature=1.0)
    share = 1 / (1 + np.exp(-1.0))
    np.testing.assert_allclose(signed, [[share, share - 1]], rtol=1e-6)
    change = kernels.hebbian_change(jnp.float32([[2.0]]), sums, signed, jnp.float32([[1.0], [0.5]]))
    pull = np.array([share * (2 - 2 * 1), (share - 1) * (2 - 1 * 0.5)])  # a (x - u w)
    np.testing.assert_allclose(change[:, 0], pull / np.abs(pull).max(), atol=1e-6)
    moved = kernels.towards_unit_norm(jnp.float32([[1.0], [0.5]]), change, rate=0.1)
    np.testing.assert_allclose(moved[:, 0], [1.0, 0.5 - 0.1 * np.sqrt(0.5)], atol=1e-5)
    np.testing.assert_allclose(kernels.triangle(jnp.float32([[2.0, 1.0, 0.0]]), power=2.0), [[1.0, 0, 0]])


def test_a_layer_sees_its_patches_reflected_at_the_border():
    maps = jnp.arange(12, dtype=jnp.float32).reshape(1, 3, 4)
    seen = kernels.reflected_patches(maps, kernel=3, padding=1)
    padded = np.pad(np.asarray(maps[0]), 1, mode="reflect")
    assert seen.shape == (3, 4, 9)
    np.testing.assert_array_equal(seen[2, 3], padded[2:5, 3:6].ravel())
    with pytest.raises(InputError, match="padding"):
        kernels.reflected_patches(maps, kernel=7, padding=3)


@pytest.mark.parametrize("channels", [1, 3, 15, 16, 20])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [((3, 2), (1, 2), (1, 0)), ((2, 3), (2, 1), (0, 2))])
def test_patches_are_in_the_order_of_rows_columns_and_channels(channels, kernel, stride, padding):
    maps = np.float32(RNG.random((channels, 6, 5)))
    how = dict(kernel=kernel, stride=stride, padding=padding)
    padded = np.pad(maps, ((0, 0), (padding[0],) * 2, (padding[1],) * 2), mode="reflect")
    seen = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(1, 2))[:, :: stride[0], :: stride[1]]
    expected = seen.transpose(1, 2, 3, 4, 0).reshape(*seen.shape[1:3], -1)
    np.testing.assert_array_equal(kernels.reflected_patches(maps, **how), expected)
    slope = jax.grad(lambda maps: kernels.reflected_patches(maps, **how).sum())(maps)
    assert slope.sum() == expected.size, "each value counts as often as it is seen"


@pytest.mark.parametrize("mean", [False, True])
def test_pooling_of_activities(mean):
    maps = np.float32(RNG.random((2, 6, 5)))
    found = kernels.pool_activities(jnp.asarray(maps), (3, 2), stride=(2, 1), padding=(1, 0), mean=mean)
    padded = np.pad(maps, ((0, 0), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 2), axis=(1, 2))[:, ::2, ::1]
    np.testing.assert_allclose(found, windows.mean(axis=(3, 4)) if mean else windows.max(axis=(3, 4)), rtol=1e-6)


def test_latencies_of_activities():
    """The largest of an image fires first; those of 0 are silent."""
    code = LatencyCode()
    np.testing.assert_array_equal(code(jnp.float32([[[4.0, 2.0, 1.0, 0.0]]]), time_steps=8), [[[0, 4, 6, 8]]])
    np.testing.assert_array_equal(code(jnp.zeros((1, 1, 2)), time_steps=8), [[[8, 8]]])


@pytest.mark.parametrize("time_steps", [255, 15, 1000])
def test_pixels_as_latencies(time_steps):
    encoder = Pixels(time_steps)
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    found = np.asarray(encoder(jnp.asarray(image)))
    assert found.shape == (1, 16, 16)
    assert found.ravel()[[255, 0]].tolist() == [0, time_steps]
    assert np.all(np.diff(found.ravel().astype(int)) <= 0)
    if time_steps == 255:
        np.testing.assert_array_equal(found.ravel(), 255 - image.ravel())
    colours = np.stack([image, image.T, image], axis=-1)
    np.testing.assert_array_equal(encoder(jnp.asarray(colours))[1], encoder(jnp.asarray(image.T))[0])
    with pytest.raises(InputError, match="axes"):
        encoder.output_shape((16, 16, 2))


def test_layers_learn_jointly_each_from_the_one_before():
    """As written out batch by batch: 13 batches of 4, and one of the image that is left."""
    spec = network()
    trainer, state = trained(spec)
    assert [phase.name for phase in plan(spec, spec.epochs)] == [LEARNED, "SupervisedSTDP"]
    model = Model.of(spec, spec.initial_weights(0))
    order = draws.shown_order(trainer.settings, [0], 0, 53, 0)
    layers = dict(model.layers)
    for at in range(0, 53, 4):
        inputs = jax.vmap(PIXELS)(jnp.asarray(COLOURS.train_images[order[at : at + 4]]))
        for number, name in enumerate(("layer1", "layer2")):
            learner = layers[name].conv.learners
            response = learner.forward(layers[name], (), inputs, None)
            layers[name], _, _ = learner.update(layers[name], (), inputs, response, None)
            inputs = jax.vmap(lambda x, number=number: model.join(number, [x]))(response.outputs)
    learned = trainer.trained(state).model
    for name in ("layer1", "layer2"):
        close(learned.layers[name].weights, np.asarray(layers[name].weights), 1e-5)
        close(learned.layers[name].conv.standardise.mean, np.asarray(layers[name].conv.standardise.mean), 1e-5)
        assert not np.allclose(state.weights[name], spec.initial_weights(0)[name])


def test_layers_learn_from_the_images_shown_first():
    """Up to a number of them; the readout learns from all."""
    _, state = trained(network(images=9))
    assert [each["images"] for each in state.phases if each["name"] in (LEARNED, "SupervisedSTDP")] == [9, 3 * 53]
    order = draws.shown_order(Settings((1, 1, 3), shuffle=True), [0], 0, 53, 0)[:9]
    alone = dataclasses.replace(COLOURS, train_images=COLOURS.train_images[order], train_labels=np.arange(9) % 2)
    _, expected = trained(network(), alone, shuffle=False)
    for name in ("layer1", "layer2"):
        close(state.weights[name], expected.weights[name], 1e-5)


class Killed(Exception):
    """What a test raises."""


@pytest.mark.parametrize("at", [1, 2, 5])
def test_a_killed_training_goes_on_within_an_epoch(at, tmp_path, monkeypatch):
    """Bit for bit; in the middle of the features, and of the readout."""
    monkeypatch.setattr(epoch, "EVERY", 0.0)
    monkeypatch.setattr(epoch, "SLICE", 12)
    monkeypatch.setattr(epoch, "ALIGNED", 4)
    trainer, expected = trained(network())
    with RunFolder(tmp_path, trainer) as run:
        saves = []

        def save(state):
            run.save(state)
            saves.append(state.shown)
            if state.shown and len([*filter(None, saves)]) == at:
                raise Killed

        with pytest.raises(Killed):
            trainer.run(run.start(), save)
    again = Trainer(network(), COLOURS, trainer.settings)
    with RunFolder(tmp_path, again, resume=True) as run:
        assert run.state.shown == saves[-1]
        state = again.run(run.start(), run.save)
        assert f"after {saves[-1]} of its images" in "".join(run.notes)
    for name, weights in expected.weights.items():
        np.testing.assert_array_equal(state.weights[name], weights)
    assert state.epochs == expected.epochs
    assert state.diagnoses == expected.diagnoses
    counts = [{each["name"]: each["images"] for each in found.phases} for found in (state, expected)]
    for name in (LEARNED, "SupervisedSTDP", "test"):
        assert counts[0][name] == counts[1][name]


@pytest.mark.parametrize("layers", [True, False])
def test_it_goes_on_with_slices_of_another_size(layers, monkeypatch):
    """As of another version or device; in the middle of the features, and of the readout."""
    monkeypatch.setattr(epoch, "EVERY", 0.0)
    monkeypatch.setattr(epoch, "SLICE", 12)
    monkeypatch.setattr(epoch, "ALIGNED", 4)
    trainer, expected = trained(network())
    state = trainer.initial_state()

    def save(state):
        if state.shown and bool(trainer.plan[state.phase].layers) == layers:
            raise Killed

    with pytest.raises(Killed):
        trainer.run(state, save)
    monkeypatch.setattr(epoch, "SLICE", 30)
    again = Trainer(network(), COLOURS, trainer.settings)
    state = again.run(state)
    for name, weights in expected.weights.items():
        np.testing.assert_array_equal(state.weights[name], weights)
    assert (state.epochs, state.diagnoses) == (expected.epochs, expected.diagnoses)


def test_a_sweep_is_each_network_alone():
    variants = [{"layer1.learners.inverse_temperature": 0.5}, {"layer2.activation.power": 1.4}, {"seed": 3}]
    sweep = Sweep(network(), COLOURS, Settings((1, 1, 3), patience=0, shuffle=True), variants)
    found = sweep.run()
    for at, (each, seed) in enumerate(zip(sweep.networks, sweep.seeds, strict=True)):
        _, state = trained(each, seed=seed)
        for name, weights in state.trained.weights.items():
            close(found.trained[at].weights[name], weights, 1e-5)
    assert {"layer1.activation.power", "layer1.learners.momentum"} <= {*network().hyperparameters()}
    assert "layer1.standardise.mean" not in network().hyperparameters()


def test_a_run_is_loaded_elsewhere_and_reported(tmp_path):
    """It predicts as the trainer; the report shows colours, norms and how evenly positions are won."""
    spec = network()
    trainer = Trainer(spec, COLOURS, Settings(spec.epochs, patience=0, shuffle=True))
    with RunFolder(tmp_path / "run", trainer, draw=draw_run) as run:
        results = run.run()
    loaded = snnjax.load(tmp_path / "run")
    decisions = np.array([int(loaded(image)) for image in COLOURS.test_images])
    # Products of one image and of several round differently, so that one decision may be another.
    assert np.mean(decisions == COLOURS.test_labels) == pytest.approx(results["test"]["accuracy"], abs=1.5 / 20)
    found = results["diagnoses"][LEARNED]
    assert {*found} >= {"norm_distance", "evenness", "never_won", "wins"}
    assert "weight vectors of layer2 have norms of" in "; ".join(found["words"])
    assert len(results["curves"][LEARNED]["layer1"]["evenness"]) == 1
    assert found["words"][0] in (tmp_path / "run" / "report.html").read_text()
    pictures = {path.stem for path in (tmp_path / "run" / "pictures").iterdir()}
    assert pictures >= {"features_layer1", "features_layer2", "wins_layer1", "wins_layer2", "weights"}
    titles = [figure.get_suptitle() for name, figure in report.figures(results, loaded) if name.startswith("curves")]
    assert titles == ["SoftHebb: layer1", "SoftHebb: layer2", "SupervisedSTDP: layer3"]
    drawn, weights = drawn_back(loaded)["layer1"], np.asarray(loaded.layer1[...])
    contrasts = weights - weights.mean(axis=(1, 2, 3), keepdims=True)
    expected = contrasts / np.sqrt((contrasts**2).sum(axis=(1, 2, 3), keepdims=True))
    np.testing.assert_allclose(drawn.images, np.moveaxis(expected, 1, -1), atol=1e-6)


def test_what_layers_have_learned_is_used_again(tmp_path):
    spec, settings = network(), Settings((1, 1, 1), patience=0, shuffle=True)
    with RunFolder(tmp_path / "first", Trainer(spec, COLOURS, settings)) as run:
        first = run.run()
    readout = dataclasses.replace(spec.stages[2].branches[0], threshold=4.0)
    trainer = Trainer(dataclasses.replace(spec, stages=(*spec.stages[:2], stage(readout))), COLOURS, settings)
    with RunFolder(tmp_path / "second", trainer) as run:
        state = run.start(reuse=True)
        assert "layer1, layer2 are those of" in "".join(run.notes)
        second = run.finish(trainer.run(state, run.save))
    assert {*second["reused"]} == {"layer1", "layer2"}
    assert second["diagnoses"][LEARNED] == first["diagnoses"][LEARNED]
    both = [snnjax.load(tmp_path / name).model.layers["layer2"] for name in ("first", "second")]
    for one, other in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_images_without_contrast_teach_nothing(value):
    """And are said to."""
    spec = network()
    images = dataclasses.replace(COLOURS, train_images=np.full_like(COLOURS.train_images, value))
    _, state = trained(spec, images)
    assert all(np.isfinite(each).all() for each in state.weights.values())
    np.testing.assert_allclose(state.weights["layer1"], spec.initial_weights(0)["layer1"], atol=1e-5)
    words = "; ".join(state.diagnoses[LEARNED]["words"])
    assert "layer1 has not moved: try a higher `rate`, or images with more contrast" in words


@pytest.mark.parametrize("value", [1, 37, 100, 200, 255])
def test_moments_of_equal_values_have_no_rounding(value):
    """Which would be scaled up to a change of full size."""
    values = jnp.full((10, 2, 28, 28), np.float32(value) / 255)
    found = kernels.moments(values)
    np.testing.assert_array_equal(found.mean, values[0, :, 0, 0])
    np.testing.assert_array_equal(found.variance, 0)


def test_one_image_is_learned_from():
    labels = dict(train_labels=np.zeros(1, int), test_labels=np.zeros(20, int), classes=1)
    one = dataclasses.replace(COLOURS, train_images=COLOURS.train_images[:1], **labels)
    _, state = trained(dataclasses.replace(network(), classes=1), one)
    assert all(np.isfinite(each).all() for each in state.weights.values())
    assert not np.array_equal(state.weights["layer1"], network().initial_weights(0)["layer1"])


def test_images_too_small_are_refused():
    with pytest.raises(
        InputError, match="the padding that is reflected, and a row and column, must fit into the map of 1x1"
    ):
        NETWORKS["softhebb_narrow"](Images((4, 4, 3)))


@pytest.mark.parametrize("shape", [(28, 28), (32, 32, 3), (17, 40, 3)])
@pytest.mark.parametrize("name", ["goupy2024_softhebb", "softhebb_narrow"])
def test_networks_are_made_for_any_images(name, shape):
    spec = NETWORKS[name](Images(shape, 3))
    assert spec.input_shape == (1 if len(shape) == 2 else 3, *shape[:2])
    assert spec.shapes[3][1:] == tuple(size // 4 // 2 for size in shape[:2])
    assert SpikingNetwork(spec).layer4[...].shape == (15, *spec.shapes[3])


def test_networks_have_so_many_features_as_asked():
    spec = NETWORKS["goupy2024_softhebb"](features=(3, 5, 7))
    assert [shape[0] for shape in spec.weight_shapes.values()] == [3, 5, 7, 50]
    for wrong in ((3, 5), 5):
        with pytest.raises(InputError, match="`features` must be 3 numbers, those of each layer, got"):
            NETWORKS["goupy2024_softhebb"](features=wrong)
    with pytest.raises(InputError, match="`features` must be at least 1, got 0"):
        NETWORKS["goupy2024_softhebb"](features=(3, 0, 5))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: with_first(learners=snnjax.STDP()), "such as SoftHebb, got STDP"),
        (lambda: with_first(threshold=3.0), "`threshold` of a layer with an `activation` must be None"),
        (lambda: with_first(learners=SoftHebb(batch=5)), "must have one batch and images"),
        (lambda: with_first(learners=(SoftHebb(), SoftHebb())), "must be one alone where it learns from batches"),
        (lambda: with_first(activation=snnjax.Majority()), "`activation` must have"),
        (lambda: Network("n", (3, 8, 8), 2, (stage(Conv(4, 3, learners=SoftHebb())),)), "needs|must"),
        (lambda: SoftHebb(inverse_temperature=0.0), "`inverse_temperature` must be finite and above 0"),
        (lambda: SoftHebb(rate=-1.0), "`rate` must be finite and at least 0"),
        (lambda: SoftHebb(momentum=2.0), r"`momentum` must lie in 0..1"),
        (lambda: SoftHebb(batch=0), "`batch` must be at least 1"),
        (lambda: SoftHebb(images=0), "`images` must be at least 1"),
        (lambda: Triangle(power=0.0), "`power` must be finite and above 0"),
        (lambda: Standardise(variance=-1.0), "`variance` at least 0"),
        (lambda: Standardise(mean=np.zeros(2), variance=np.ones(2)).prepared(3), r"of 3 channels, got \(2,\)"),
        (lambda: stage(Conv(4, 3, threshold=1.0), pool=Pool(2, mean=True)), "spikes have none"),
        (lambda: dataclasses.replace(GABOR, pool=Pool(7, mean=True)), "`pool` of an encoder must be of the largest"),
        (lambda: stage(Conv(4, 3, threshold=1.0), code=LatencyCode()), "`code` of a stage of spiking layers"),
        (
            lambda: stage(Conv(4, 3, threshold=1.0), Conv(4, 3, activation=Triangle())),
            "must all have an `activation`, or none",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()


def test_a_spiking_layer_is_told_what_it_lacks():
    spec = network()
    first = dataclasses.replace(spec.stages[0].branches[0], activation=None, standardise=None, threshold=1.0)
    with pytest.raises(InputError, match=r"layer1, which learns by SoftHebb, must be real-valued.*Triangle"):
        dataclasses.replace(spec, stages=(stage(first, pool=spec.stages[0].pool), *spec.stages[1:]))


def test_activities_need_a_code_before_spikes():
    spec = network()
    bare = dataclasses.replace(spec.stages[1], code=None)
    with pytest.raises(InputError, match=r"stage 2 of soft must have a `code`.*LatencyCode"):
        dataclasses.replace(spec, stages=(spec.stages[0], bare, spec.stages[2]))


def test_stages_that_learn_jointly_have_one_number_of_epochs():
    with pytest.raises(InputError, match="`epochs` must be the same for stages that learn jointly"):
        Trainer(network(), COLOURS, Settings((1, 2, 3)))


def test_what_layers_make_of_mirror_images_is_kept():
    held = COLOURS.hold_out(0.2, seed=0)
    _, state = trained(network(), held, mirror=True)
    images = {each["name"]: each["images"] for each in state.phases}
    assert images["outputs of stage 2"] == 2 * len(held.train_images)
    assert "validation" in state.epochs[-1]


def test_moments_that_nothing_moves_are_named():
    """As of features that stay random: a `rate` of 0 leaves the weights, but not the moments."""
    words = {}
    for rate, epochs in ((0.01, 0), (0.0, 1)):
        spec = network(rate=rate)
        trainer = Trainer(spec, COLOURS, Settings((epochs, epochs, 1), patience=0))
        state = trainer.run(trainer.initial_state())
        words[epochs] = "; ".join(state.diagnoses["outputs of stage 2"]["words"])
        np.testing.assert_array_equal(state.weights["layer1"], spec.initial_weights()["layer1"])
    assert "no learner has moved the moments that standardise layer1" in words[0]
    assert "standardise layer2: one with a `rate` of 0 may do" in words[0]
    assert "moments" not in words[1]


def test_numbers_without_effect_are_not_offered():
    names = network().hyperparameters().keys()
    assert "layer1.learners.rate" in names
    assert not [name for name in names if name.startswith("layer1.competition")]


def test_spiking_layers_may_come_before():
    """Latencies count as 1 - latency / T."""
    spec = network()
    spiking = Conv(5, 3, padding=1, threshold=2.0, weight_mean=0.5, learners=snnjax.STDP())
    soft, readout = spec.stages[0].branches[0], dataclasses.replace(spec.stages[2].branches[0], kernel=4)
    stages = stage(spiking), stage(soft, pool=Pool(4, stride=2, padding=1), code=LatencyCode()), stage(readout)
    mixed = dataclasses.replace(spec, stages=stages)
    _, state = trained(mixed)
    assert [each["name"] for each in state.phases][1:4] == ["STDP layer1", "outputs of stage 1", "SoftHebb layer2"]
    assert not np.array_equal(state.weights["layer2"], mixed.initial_weights(0)["layer2"])


def test_digits_are_learned():
    """Real data: far above chance, with features from one pass."""
    images = data.digits().first(1000, 300)
    spec = NETWORKS["softhebb_narrow"](Images.of(images))
    trainer = Trainer(spec, images, Settings((1, 1, 1, 5), patience=0, shuffle=True))
    state = trainer.run(trainer.initial_state())
    assert state.epochs[-1]["test"]["accuracy"] > 0.85


@snnjax.component
class Rectified:
    """An activation of this test's own."""

    def __call__(self, sums):
        return jnp.maximum(sums, 0)


@snnjax.component
class Threefold(LatencyCode):
    """A latency code of this test's own: three times."""

    def __call__(self, activities, *, time_steps):
        largest = jnp.maximum(activities.max(), 1e-9)
        step = jnp.floor((1 - activities / largest) * 3).clip(max=2)
        return jnp.where(activities > 0, step, time_steps).astype(jnp.uint8)


@snnjax.component
class Spiking(SoftHebb):
    """A rule that takes its layer for one of spiking neurons."""

    def forward(self, layer, state, latency, label):
        return layer.winners(latency)


@snnjax.component
class Centred(SoftHebb):
    """A rule of this test's own: all weight vectors keep their mean."""

    def update(self, layer, state, latency, response, signal):
        learned, state, info = super().update(layer, state, latency, response, signal)
        old, new = layer.weights, learned.weights
        kept = new - (new - old).mean(axis=(1, 2, 3), keepdims=True)
        return learned.with_weights(kept), state, info


def test_parts_of_ones_own():
    own = with_first(activation=Rectified(), learners=Centred(batch=4))
    coded = dataclasses.replace(own.stages[1], code=Threefold())
    _, state = trained(dataclasses.replace(own, stages=(own.stages[0], coded, own.stages[2])))
    means = [each["layer1"].mean(axis=(1, 2, 3)) for each in (state.weights, own.initial_weights(0))]
    np.testing.assert_allclose(*means, atol=1e-5)
    snnjax.testing.check_learner(Centred(batch=2))


@snnjax.component
class Positive(SoftHebb):
    """Keeps weights within bounds, as learners of spiking layers do."""

    bounds = (0.0, 1.0)

    def update(self, layer, state, latency, response, signal):
        learned, state, info = super().update(layer, state, latency, response, signal)
        return learned.with_weights(jnp.clip(learned.weights, 0, 1)), state, info


def test_real_valued_layers_have_no_last_step():
    """Also under a decision that asks only who fires, with weights that are never negative."""
    spec = network()
    soft = [
        dataclasses.replace(each.branches[0], learners=Positive(batch=4), weight_mean=0.5, weight_std=0.1)
        for each in spec.stages[:2]
    ]
    stages = [dataclasses.replace(each, branches=(conv,)) for each, conv in zip(spec.stages[:2], soft, strict=True)]
    readout = stage(Conv(4, 2, learners=snnjax.RSTDP()))
    _, state = trained(dataclasses.replace(spec, stages=(*stages, readout), decision=snnjax.Majority()))
    assert len(state.epochs) == 3


@snnjax.component
class Infinite(SoftHebb):
    """Leaves weights that are no numbers."""

    def update(self, layer, state, latency, response, signal):
        learned, state, info = super().update(layer, state, latency, response, signal)
        return learned.with_weights(learned.weights * jnp.inf), state, info


def test_nothing_invalid_is_saved_within_an_epoch(monkeypatch):
    monkeypatch.setattr(epoch, "EVERY", 0.0)
    monkeypatch.setattr(epoch, "SLICE", 12)
    monkeypatch.setattr(epoch, "ALIGNED", 4)
    saved = []
    with pytest.raises(InputError, match="`update` of Infinite left layer1 invalid in epoch 1"):
        trained(with_first(learners=Infinite(batch=4)), save=lambda state: saved.append(state.shown))
    assert not saved


@snnjax.component
class Summed:
    """Returns one activity for all features."""

    def __call__(self, sums):
        return sums.sum(axis=-1, keepdims=True)


@snnjax.component
class Floating(LatencyCode):
    """Returns no integers."""

    def __call__(self, activities, *, time_steps):
        return activities


@snnjax.component
class Outputless(SoftHebb):
    """Returns no outputs."""

    def forward(self, layer, state, latency, label):
        return super().forward(layer, state, latency, label)._replace(outputs=None)


def test_parts_that_return_what_they_may_not_are_refused_before_training():
    spec = network()
    coded = dataclasses.replace(
        spec, stages=(spec.stages[0], dataclasses.replace(spec.stages[1], code=Floating()), spec.stages[2])
    )
    for wrong, words in (
        (with_first(activation=Summed()), r"`activation\(...\) of layer1` must be float32 of shape \(6, 8, 8\)"),
        (with_first(learners=Outputless(batch=4)), r"`forward\(...\).outputs of Outputless of layer1` must be"),
        (
            with_first(learners=Spiking(batch=4)),
            r"`forward` of Spiking of layer1 fails: 'RealLayer' .* 'winners': real-valued layers lack it",
        ),
        (coded, r"`code\(...\) of stage 2` must be uint8 of shape \(8, 2, 2\), got float32"),
    ):
        with pytest.raises(InputError, match=words):
            Trainer(wrong, COLOURS, Settings((1, 1, 3)))
