"""Encoders and decisions that are fitted to the training images: trained, stopped, saved and swept like all others."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import snnjax
from snnjax import (
    RSTDP,
    STDP,
    WTA,
    Callback,
    Conv,
    InputError,
    LinearSVM,
    Network,
    Pool,
    Settings,
    Sweep,
    Trainer,
    component,
    data,
    fitted,
    stage,
    static,
)
from snnjax.app import draw_run
from snnjax.app.features import drawn_back
from snnjax.app.tracking import FOLDER, Tracker
from snnjax.core import files
from snnjax.core.metrics import fractions
from snnjax.runs.run_folder import CHECKPOINT, RunFolder
from snnjax.runs.sweep_folder import SweepFolder
from snnjax.runs.trained import Trained
from snnjax.training.state import plan

IMAGES = data.digits().first(60, 60)  # as many of each kind: they share programs
FITS: list[int] = []
"""The number of images of each fit of an encoder."""


@component
class Ranges:
    """The brighter a pixel within its range over the training images, the earlier its spike."""

    gain: float = 1.0
    least: np.ndarray | float = fitted(default=0.0)
    largest: np.ndarray | float = fitted(default=0.0)
    time_steps: int = static(default=15)

    @property
    def fitted(self):
        return np.ndim(self.least) > 0

    def fit(self, images):
        FITS.append(len(images))
        return dataclasses.replace(self, least=images.min(axis=0), largest=images.max(axis=0))

    def __call__(self, image):
        least, largest = (jnp.asarray(x, jnp.float32) for x in (self.least, self.largest))
        value = self.gain * (image.astype(jnp.float32) - least) / jnp.maximum(largest - least, 1)
        late = jnp.floor((1 - value.clip(0, 1)) * self.time_steps)
        return late.astype(jnp.uint8)[None]

    def output_shape(self, image_shape):
        return (1, *image_shape)


@component
class Nearest:
    """The class whose mean image, of who fires at all, is nearest: a fitted decision of one's own."""

    means: np.ndarray | float = fitted(default=0.0)
    timed = False

    @property
    def fitted(self):
        return np.ndim(self.means) > 0

    def fit(self, latencies, labels, classes, time_steps):
        fired = latencies < time_steps
        means = [fired[labels == each].mean(axis=0) for each in range(classes)]
        return dataclasses.replace(self, means=np.array(means, np.float32))

    def scores(self, spikes, classes):
        distances = jnp.square(self.means - (spikes.time < 1)[None]).sum(axis=(1, 2, 3))
        return 1 / (1 + distances)

    def decide(self, scores):
        return jnp.argmax(scores[0]).astype(jnp.int32)


FEATURES = Conv(8, 5, padding=2, threshold=8, competition=WTA(3, radius=3), learners=STDP(doubling=20))
SECOND = Conv(12, 3, padding=1, threshold=3, competition=WTA(3, radius=1), learners=STDP(doubling=20))
REWARDED = stage(FEATURES, pool=4), stage(Conv(20, 3, learners=RSTDP()))
EXTRACTED = stage(FEATURES, pool=Pool(3)), stage(SECOND, FEATURES, pool=Pool(2, 2, 1))
SPECS = {
    "encoder": Network("encoder", (1, 28, 28), 10, REWARDED, encoder=Ranges()),
    "decision": Network("decision", (6, 28, 28), 10, EXTRACTED, decision=LinearSVM(C=0.1)),
    "both": Network("both", (1, 28, 28), 10, EXTRACTED, encoder=Ranges(), decision=LinearSVM()),
    "own": Network("own", (1, 28, 28), 10, EXTRACTED[:1], encoder=Ranges(), decision=Nearest()),
}
SETTINGS = Settings((1, 2), patience=0, batch_size=20)


def trainer_of(name: str, spec: Network | None = None, callback: Callback | None = None, **others) -> Trainer:
    spec = spec or SPECS[name]
    epochs = SETTINGS.epochs[: len(spec.stages)]
    return Trainer(spec, IMAGES, dataclasses.replace(SETTINGS, epochs=epochs, **others), callback)


@pytest.fixture(scope="module", params=SPECS)
def trained(request):
    """A network's name, its trainer and its state after training."""
    trainer = trainer_of(request.param)
    return request.param, trainer, trainer.run(trainer.initial_state())


def test_encoders_are_fitted_to_the_images_learned_from(trained):
    name, _, state = trained
    if name == "decision":
        assert not [path for path in state.numbers if path.startswith("encoder")]
        return
    for numbers in (state.numbers, state.best_numbers):
        np.testing.assert_array_equal(numbers["encoder.least"], IMAGES.train_images.min(axis=0))
        np.testing.assert_array_equal(numbers["encoder.largest"], IMAGES.train_images.max(axis=0))
    assert "encoder.gain" not in state.numbers, "the gain has not changed"
    assert [each["name"] for each in state.phases][:2] == ["fit encoder", "encode"]
    assert (state.numbers["encoder.largest"] != IMAGES.test_images.max(axis=0)).any()


def test_a_run_that_fits_is_one_with_an_encoder_fitted_before(trained):
    """All that is learned, decided and scored, number by number."""
    name, trainer, state = trained
    if name == "decision":
        return
    encoder = Ranges().fit(IMAGES.train_images)
    other = trainer_of(name, dataclasses.replace(SPECS[name], encoder=encoder))
    fits = len(FITS)
    expected = other.run(other.initial_state())
    assert len(FITS) == fits, "it is not fitted again"
    for group in ("weights", "best"):
        for layer, weights in getattr(expected, group).items():
            np.testing.assert_array_equal(getattr(state, group)[layer], weights)
    assert state.epochs == expected.epochs
    pairs = zip(trainer.predict(state, IMAGES.test_images), other.predict(expected, IMAGES.test_images), strict=True)
    for one, another in pairs:
        np.testing.assert_array_equal(one, another)


def test_predictions_are_those_of_the_network_and_the_best_epoch(trained, tmp_path):
    name, trainer, state = trained
    decisions, scores = trainer.predict(state, IMAGES.test_images)
    record = state.epochs[state.best_epoch]["test"]
    assert np.mean(decisions == IMAGES.test_labels) == pytest.approx(record["accuracy"])
    assert record["accuracy"] > 0.3 or name == "encoder", "more than chance"
    network = trainer.trained(state)
    np.testing.assert_array_equal(jax.jit(jax.vmap(network))(IMAGES.test_images), decisions)
    Trained(network.spec, state.trained.weights, (28, 28)).save(tmp_path / "weights.npz")
    loaded = snnjax.load(tmp_path / "weights.npz")
    np.testing.assert_array_equal(jax.vmap(loaded)(IMAGES.test_images), decisions)
    model = loaded.model
    seen = model.observe(model.encode(IMAGES.test_images[0]))
    assert int(seen.decided.decision) == decisions[0]
    np.testing.assert_allclose(seen.decided.scores, scores[0], rtol=1e-5)
    assert list(seen.latencies) == ["input", *state.weights]
    # evaluation starts from the loaded description, which is fitted already
    again, fits = trainer_of(name, Trained.read(tmp_path / "weights.npz").network), len(FITS)
    found, _ = again.predict(snnjax.TrainState(state.trained.weights), IMAGES.test_images)
    np.testing.assert_array_equal(found, decisions)
    assert len(FITS) == fits


@pytest.mark.parametrize("name", SPECS)
def test_what_is_not_fitted_yet_says_so(name, tmp_path):
    trainer = trainer_of(name)
    state = trainer.initial_state()
    part = "decision" if name == "decision" else "encoder"
    kind = type(getattr(SPECS[name], part)).__name__
    expected = f"`{part}` of {name} must be fitted, got {kind} before its `fit`: train it first"
    with pytest.raises(InputError, match=expected):
        trainer.predict(state, IMAGES.test_images)
    with pytest.raises(InputError, match=expected):
        trainer.trained(state)(IMAGES.test_images[0])
    with pytest.raises(InputError, match=expected):
        Trained(trainer.network, state.weights, (28, 28)).save(tmp_path / "weights.npz")
    assert not list(tmp_path.iterdir())


class Stop(Callback):
    """Interrupts a run when a phase begins, the first time."""

    def __init__(self, phase: str):
        self.phase = phase

    def started(self, phase: str, images: int) -> None:
        if phase == self.phase:
            self.phase = ""
            raise KeyboardInterrupt


PHASES = {
    "encoder": ("fit encoder", "encode", "STDP layer1", "R-STDP"),
    "both": ("encode", "STDP layer1", "STDP layer2_1", "outputs of stage 2", "fit LinearSVM"),
    "own": ("fit encoder", "who fires in stage 1", "fit Nearest"),
}


@pytest.mark.parametrize("name", PHASES)
def test_a_run_stopped_in_any_phase_ends_as_one_that_was_not(name, tmp_path):
    trainer = trainer_of(name)
    expected = trainer.run(trainer.initial_state())
    for phase in PHASES[name]:
        stopped = trainer_of(name, callback=Stop(phase))
        with pytest.raises(KeyboardInterrupt), RunFolder(tmp_path / "run", stopped, resume=True) as run:
            run.run()
    fits = len(FITS)
    with RunFolder(tmp_path / "run", trainer_of(name), resume=True) as run:
        results = run.run()
    assert len(FITS) == fits, "the fit was kept"
    arrays, _ = files.load_checkpoint(tmp_path / "run" / CHECKPOINT)
    whole, _ = expected.flatten()
    assert arrays.keys() == whole.keys()
    for path, array in whole.items():
        np.testing.assert_array_equal(arrays[path], array, path)
    assert results["epochs"] == expected.epochs
    assert results["test"]["accuracy"] == expected.epochs[expected.best_epoch]["test"]["accuracy"]
    decisions, _ = trainer.predict(expected, IMAGES.test_images)
    np.testing.assert_array_equal(jax.vmap(snnjax.load(tmp_path / "run"))(IMAGES.test_images), decisions)
    parameters = results["hyperparameters"]
    assert "encoder.gain" in parameters
    assert not {"encoder.least", "decision.means", "decision.coefficients"} & set(parameters), "arrays to come"


def test_bars_and_clocks_of_a_fitted_decision_count_what_is_done():
    """Mirror images are fitted too; decisions on held-out images have the time of their own part."""
    heard: dict[str, list[int]] = {}

    class Bars(Callback):
        def started(self, phase, images):
            heard[phase] = [images]

        def advanced(self, images, correct):
            [*heard.values()][-1].append(images)

    spec, images = SPECS["own"], IMAGES.hold_out(0.25, 0)
    settings = Settings((1,), mirror=True)
    trainer = Trainer(spec, images, settings, Bars())
    state = trainer.run(trainer.initial_state())
    train, held_out = len(images.train_images), len(images.validation_images)
    assert heard["fit Nearest"] == [2 * train, 2 * train]
    counts = {each["name"]: each["images"] for each in state.phases[-3:]}
    assert counts == {"fit Nearest": 2 * train, "decisions, train": train, "validation": held_out}


def test_what_is_kept_of_the_input_is_of_the_encoder_that_made_it():
    trainer = trainer_of("encoder")
    cache, encoder = trainer.training.cache, trainer.network.encoder
    made = []
    for images in (IMAGES.train_images, IMAGES.train_images[:3]):
        state = trainer.initial_state()
        state.keep_numbers("encoder", encoder, jax.tree.leaves(encoder.fit(images)))
        made.append(cache.inputs("train", 0, [state]))
    assert np.any(made[0] != made[1])
    cache.clear()
    np.testing.assert_array_equal(cache.inputs("train", 0, [state]), made[1])


@component
class Shifted(Ranges):
    """Numbers of its own beside those that it inherits, one of which `fit` leaves a number."""

    shift: jax.Array | float = fitted(default=0.0)
    scale: float = 2.0


def test_arrays_to_come_are_no_numbers_of_a_subclass_either(tmp_path):
    spec = dataclasses.replace(SPECS["encoder"], name="shifted", encoder=Shifted())
    names = {name for name in spec.hyperparameters() if name.startswith("encoder.")} - {"encoder.time_steps"}
    assert names == {"encoder.gain", "encoder.scale"}
    with RunFolder(tmp_path, trainer_of("encoder", spec)) as run:
        results = run.run()
    assert not [name for name in results["trained_hyperparameters"] if name.startswith("encoder.")]
    assert snnjax.load(tmp_path).spec.encoder.shift == 0


def test_what_a_run_with_a_fitted_decision_leaves(tmp_path):
    """Report, event files, and the features of the layer under the decision."""
    trainer = trainer_of("both")
    with RunFolder(tmp_path, trainer, draw=draw_run) as run:
        state = run.start()
        with Tracker(run, state) as tracker:
            state = trainer.run(state, tracker.save)
            results = run.finish(state)
    page = (tmp_path / "report.html").read_text()
    assert "fit LinearSVM" in page
    assert "features_layer2_2" in {path.stem for path in (tmp_path / "pictures").iterdir()}
    assert [each["name"] for each in results["phases"]][-3:] == ["fit LinearSVM", "decisions, train", "test"]
    (event,) = EventAccumulator(str(tmp_path / FOLDER)).Reload().Scalars("accuracy/test")
    assert event.value == pytest.approx(results["epochs"][0]["test"]["accuracy"])
    decisions, _ = trainer.predict(state, IMAGES.train_images)
    assert results["diagnoses"]["fit LinearSVM"]["decided"] == np.bincount(decisions, minlength=10).tolist()
    assert np.mean(decisions == IMAGES.train_labels) == pytest.approx(results["epochs"][0]["train"]["accuracy"])
    assert len(drawn_back(trainer.trained(state))["layer2_1"].images) == 12


def test_layers_under_fitted_encoders_are_used_again(tmp_path):
    def start(place: str, trainer: Trainer):
        with RunFolder(tmp_path / place, trainer) as run:
            state = run.start(reuse=True)
            reused = dict(state.reused)
            return reused, trainer.run(state, run.save)

    _, first = start("one", trainer_of("both"))
    reused, second = start("two", trainer_of("both"))
    assert list(reused) == ["layer1", "layer2_1", "layer2_2"]
    for path, array in first.numbers.items():
        np.testing.assert_array_equal(second.numbers[path], array)
    assert first.epochs == second.epochs
    brighter = dataclasses.replace(SPECS["both"], encoder=Ranges(gain=2.0))
    assert start("three", trainer_of("both", brighter))[0] == {}
    others = dataclasses.replace(IMAGES, train_images=IMAGES.train_images[::-1])
    assert start("four", Trainer(SPECS["both"], others, SETTINGS))[0] == {}


@pytest.mark.parametrize(
    ("name", "variants", "fits"),
    [
        ("both", [{"decision.C": 0.01}, {"decision.C": 1.0, "seed": 2}, {"layer1.threshold": 6.0}], 1),
        ("encoder", [{"encoder.gain": 1.0}, {"encoder.gain": 2.0}, {"encoder.gain": 1.0, "seed": 1}], 2),
    ],
)
def test_swept_networks_come_to_what_they_come_to_alone(name, variants, fits, tmp_path):
    before = len(FITS)
    settings = trainer_of(name).settings
    with SweepFolder(tmp_path, Sweep(SPECS[name], IMAGES, settings, variants)) as folder:
        records = folder.run()
        sweep = folder.sweep
    assert len(FITS) - before == fits, "encoders that agree are fitted once"
    assert len({json.dumps(each["epochs"]) for each in records}) > 1
    for at, record in enumerate(records):
        alone = trainer_of(name, sweep.networks[at], seed=sweep.seeds[at])
        state = alone.run(alone.initial_state())
        assert state.epochs == record["epochs"]
        loaded = Trained.read(tmp_path / record["weights"])
        assert loaded.network == state.trained.network(alone.network)


def test_the_best_of_a_sweep_is_tested_with_what_it_has_fitted(tmp_path):
    """The numbers of encoder and decision come from its file, or from the state of the sweep."""
    images, settings, variants = IMAGES.hold_out(0.25, seed=0), trainer_of("own").settings, [{"seed": 1}, {"seed": 2}]
    with SweepFolder(tmp_path, Sweep(SPECS["own"], images, settings, variants)) as folder:
        records = folder.run()
    done = Sweep(SPECS["own"], images, settings, variants).run().done
    for at, record in enumerate(records):
        alone = Trainer(SPECS["own"], images, dataclasses.replace(settings, seed=variants[at]["seed"]))
        decisions, _ = alone.predict(alone.run(alone.initial_state()), images.test_images)
        assert record["test"] == done[at]["test"] == fractions(decisions, images.test_labels)


@component
class Odd(Ranges):
    """Returns from `fit` what it may not."""

    kind: str = static(default="")
    scale: float = 1.0

    def fit(self, images):
        if self.kind == "same":
            return self
        if self.kind == "other":
            return Ranges().fit(images)
        if self.kind == "number":
            return dataclasses.replace(super().fit(images), scale=2.0)
        if self.kind == "steps":
            return dataclasses.replace(super().fit(images), time_steps=14)
        return dataclasses.replace(self, least=np.full((28, 28), np.nan), largest=np.ones((28, 28)))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("same", r"`fit` of Odd must return dataclasses.replace\(self, ...\) .* got Odd"),
        ("other", "`fit` of Odd must return .* got Ranges"),
        ("steps", "`fit` of Odd must return .* got Odd"),
        (
            "number",
            r"`fit` of Odd must not change `scale`, which sweeps may vary: mark what is fitted, as scale: "
            r"np.ndarray \| float = snnjax.fitted\(default=0.0\)",
        ),
        ("nan", "`fit` of Odd must return finite numbers, got others in .least"),
    ],
)
def test_what_a_fit_may_not_return(kind, message):
    trainer = trainer_of("encoder", dataclasses.replace(SPECS["encoder"], encoder=Odd(kind=kind)))
    with pytest.raises(InputError, match=message):
        trainer.run(trainer.initial_state())


@component
class Silent(Ranges):
    """Makes an encoding of another dtype, which only its fit shows."""

    def __call__(self, image):
        return super().__call__(image).astype(jnp.int32)


@component
class Unsure(Nearest):
    """A score too few, which only its fit shows."""

    def scores(self, spikes, classes):
        return super().scores(spikes, classes)[1:]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(encoder=Silent()), r"`encoder\(image\)` must be uint8 .* got int32"),
        (dict(decision=Unsure()), r"`decision.scores\(...\)` must be float32 of shape \(10,\), got .* \(9,\)"),
    ],
)
def test_parts_are_checked_once_they_are_fitted(changes, message):
    trainer = trainer_of("own", dataclasses.replace(SPECS["own"], **changes))
    with pytest.raises(InputError, match=message):
        trainer.run(trainer.initial_state())


def test_which_layers_a_decision_that_is_fitted_may_have():
    spec = SPECS["decision"]
    with pytest.raises(InputError, match="`learners` of layer2 must be unsupervised, got RSTDP under LinearSVM"):
        dataclasses.replace(spec, stages=REWARDED)
    with pytest.raises(InputError, match=r"layer1, which decides, must .* got STDP and 8 features; .* LinearSVM"):
        Network("none", (6, 28, 28), 4, (stage(FEATURES),))
    with pytest.raises(InputError, match="stage 2: branches must be joined with maps of one size"):
        dataclasses.replace(spec, stages=(EXTRACTED[0], stage(SECOND, dataclasses.replace(SECOND, padding=0))))
    with pytest.raises(InputError, match="`epochs` must be 2 numbers for decision, got 3"):
        plan(spec, (1, 1, 1))
    with pytest.raises(InputError, match=r"`decision.coefficients` must name one of"):
        spec.vary("decision.coefficients", 1.0)
