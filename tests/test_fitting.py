"""Encoders and decisions that are fitted to the training images: trained, stopped, saved and swept like all others."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import snnjax
from snnjax import ImageSpec, InputError, Network, Settings, Sweep, Trainer, component
from snnjax.core import files
from snnjax.core.metrics import fractions
from snnjax.data import digits
from snnjax.encoding import OnOff
from snnjax.networks import LinearSVM, stage
from snnjax.runs.checkpoint_folder import CHECKPOINT
from snnjax.runs.run_folder import RunFolder
from snnjax.runs.sweep_folder import SweepFolder
from snnjax.runs.trained import Trained
from snnjax.training import Callback

IMAGES = tiny.images()
FITS: list[int] = []
"""The number of images of each fit of an encoder."""


@component
class Counted(OnOff):
    """Counts its fits, and has a number that may vary."""

    gamma: float = 1.0

    def maps(self, image):
        return super().maps(image) ** self.gamma

    def fit(self, images):
        FITS.append(len(images))
        return super().fit(images)


@component
class Nearest(LinearSVM):
    """The class whose mean image, of who fires at all, is nearest: a custom fitted decision."""

    timed = False

    def fit(self, latencies, labels, classes, time_steps):
        fired = latencies < time_steps
        means = np.float32([fired[labels == each].mean(axis=0) for each in range(classes)])
        return dataclasses.replace(self, coefficients=2 * means, intercepts=-(means**2).sum(axis=(1, 2, 3)))

    def scores(self, spikes, classes):
        silent = (spikes.time >= 1).astype(jnp.float32)
        return super().scores(dataclasses.replace(spikes, time=silent), classes)


ENCODER = Counted(time_steps=15)
FITTED = ENCODER.fit(IMAGES.train_images)
PLAIN = tiny.plain(ImageSpec(encoder=ENCODER))
BRANCHES = tiny.branches(ImageSpec(encoder=ENCODER))
EXTRACTED = BRANCHES.stages[:2]
FIRST = stage(dataclasses.replace(tiny.FIRST, threshold=8, features=8), pool=4)
SPECS = {
    "encoder": dataclasses.replace(PLAIN, name="encoder", encoder=ENCODER, stages=(EXTRACTED[0], PLAIN.stages[1])),
    "both": Network("both", (2, 28, 28), 10, EXTRACTED, encoder=ENCODER, decision=LinearSVM()),
    "own": Network("own", (2, 28, 28), 10, (FIRST,), encoder=ENCODER, decision=Nearest()),
}
SETTINGS = Settings((1, 2), patience=0, adapt_every=20)


def trainer_of(network: Network, images=IMAGES, callback: Callback | None = None, **others) -> Trainer:
    settings = dataclasses.replace(SETTINGS, epochs=SETTINGS.epochs[: len(network.stages)], **others)
    return Trainer(network, images, settings, callback)


def trained(trainer: Trainer) -> snnjax.training.TrainState:
    return trainer.run(trainer.initial_state())


@pytest.fixture(scope="module", params=SPECS)
def case(request) -> tuple[str, Trainer, snnjax.training.TrainState]:
    """A network's name, its trainer and its state after training."""
    trainer = trainer_of(SPECS[request.param])
    return request.param, trainer, trained(trainer)


def test_a_run_that_fits_is_one_with_an_encoder_fitted_before(case):
    """To the images learned from; all that is learned and scored agrees, number by number."""
    name, _, state = case
    for numbers in (state.learned_params, state.best_params):
        np.testing.assert_array_equal(numbers["encoder.minimum"], FITTED.minimum)
        np.testing.assert_array_equal(numbers["encoder.maximum"], FITTED.maximum)
    assert "encoder.gamma" not in state.learned_params, "it has not changed"
    assert (state.learned_params["encoder.maximum"] != ENCODER.fit(IMAGES.test_images).maximum).any()
    expected = trained(trainer_of(dataclasses.replace(SPECS[name], encoder=FITTED)))
    jax.tree.map(np.testing.assert_array_equal, state.weights, expected.weights)
    assert state.epochs == expected.epochs


def test_predictions_are_those_of_the_network_and_the_best_epoch(case, tmp_path, monkeypatch):
    """Also of the network in a file, which is used without scikit-learn."""
    name, trainer, state = case
    decisions, _ = trainer.predict(state, IMAGES.test_images)
    record = state.epochs[state.best_epoch]["test"]
    assert fractions(decisions, IMAGES.test_labels) == pytest.approx(record)
    assert record["accuracy"] > dict(encoder=0, both=0.15, own=0.3)[name], "more than chance"
    Trained(trainer.trained(state).network, state.trained.weights, (28, 28)).save(tmp_path / "weights.npz")
    with monkeypatch.context() as patch:
        for module in [module for module in sys.modules if module.startswith(("sklearn", "scipy.sparse"))]:
            patch.setitem(sys.modules, module, None)
        loaded = snnjax.load(tmp_path / "weights.npz")
        np.testing.assert_array_equal(jax.jit(jax.vmap(loaded))(IMAGES.test_images), decisions)


def test_what_is_not_fitted_yet_says_so(tmp_path):
    for part, network in dict(
        encoder=SPECS["both"], decision=dataclasses.replace(SPECS["both"], encoder=FITTED)
    ).items():
        trainer = trainer_of(network)
        state = trainer.initial_state()
        for call in (
            lambda: trainer.predict(state, IMAGES.test_images),
            lambda: trainer.trained(state)(IMAGES.test_images[0]),
            lambda: Trained(trainer.network, state.weights, (28, 28)).save(tmp_path / "weights.npz"),
        ):
            with pytest.raises(InputError, match=f"`{part}` of both must be fitted, got "):
                call()
    assert not list(tmp_path.iterdir())


def stop_at(phase: str) -> Callback:
    """Interrupts a run when a phase begins."""

    def started(name, images):
        if name == phase:
            raise KeyboardInterrupt

    callback = Callback()
    callback.started = started
    return callback


PHASES = {
    "encoder": ("fit encoder", "R-STDP"),
    "both": ("encode", "STDP layer1", "STDP layer2_1", "outputs of stage 2", "fit LinearSVM"),
    "own": ("fit encoder", "outputs of stage 1", "fit Nearest"),
}


def test_a_run_stopped_in_any_phase_ends_as_one_that_was_not(case, tmp_path):
    name, _, expected = case
    for phase in PHASES[name]:
        stopped = trainer_of(SPECS[name], callback=stop_at(phase))
        with pytest.raises(KeyboardInterrupt), RunFolder(tmp_path / "run", stopped, resume=True) as run:
            run.run()
    fits = len(FITS)
    with RunFolder(tmp_path / "run", trainer_of(SPECS[name]), resume=True) as run:
        results = run.run()
    assert len(FITS) == fits, "the fit was kept"
    arrays, _ = files.load_checkpoint(tmp_path / "run" / CHECKPOINT)
    jax.tree.map(np.testing.assert_array_equal, arrays, expected.flatten()[0])
    assert results["epochs"] == expected.epochs
    assert results["test"]["accuracy"] == expected.epochs[expected.best_epoch]["test"]["accuracy"]
    assert "encoder.minimum" not in results["hyperparameters"], "an array to come"


def test_a_fitted_encoder_is_taken_with_the_layers(case):
    name, trainer, state = case
    start = trainer.trained(state)
    fits = len(FITS)
    images = dataclasses.replace(IMAGES, train_images=IMAGES.train_images // 2)
    other = Trainer(SPECS[name], images, trainer.settings, start=start)
    again = trained(other)
    assert len(FITS) == fits
    np.testing.assert_array_equal(other.trained(again).network.encoder.maximum, state.learned_params["encoder.maximum"])
    assert all(phase["name"] != "fit encoder" and not phase["name"].startswith("STDP") for phase in again.phases)


def test_swept_networks_end_as_they_end_alone(tmp_path):
    before = len(FITS)
    network = SPECS["own"]
    held_out = digits().subset(80, 40).hold_out(0.5, 0)
    variants = [{"encoder.gamma": 0.5}, {"encoder.gamma": 1.0}, {"encoder.gamma": 0.5, "seed": 1}]
    ordered = dict(shuffle=True, mirror=True)
    sweep = Sweep(network, held_out, trainer_of(network, **ordered).settings, variants)
    with SweepFolder(tmp_path, sweep) as folder:
        records = folder.run()
    assert len(FITS) - before == 2, "encoders that agree are fitted once"
    for at, record in enumerate(records):
        alone = trainer_of(sweep.networks[at], held_out, seed=sweep.seeds[at], **ordered)
        state = trained(alone)
        assert state.epochs == record["epochs"]
        assert Trained.read(tmp_path / record["weights"]).network == state.trained.network(alone.network)
        if "test" in record:
            decisions, _ = alone.predict(state, held_out.test_images)
            assert record["test"] == fractions(decisions, held_out.test_labels)
    assert 1 <= sum("test" in record for record in records) <= 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda right: Nearest(), "`fit` of Counted must return .* got Nearest"),
        (lambda right: dataclasses.replace(right, gamma=0.5), "`fit` of Counted must not change `gamma`"),
        (
            lambda right: dataclasses.replace(right, minimum=jnp.full((2, 28, 28), jnp.nan)),
            "`minimum` of the Counted that `fit` returns must be finite",
        ),
    ],
)
def test_what_a_fit_returns_is_checked(change, words, monkeypatch):
    fit = Counted.fit
    monkeypatch.setattr(Counted, "fit", lambda self, images: change(fit(self, images)))
    with pytest.raises(InputError, match=words):
        trained(trainer_of(SPECS["own"]))


def test_which_layers_a_decision_that_is_fitted_may_have():
    uneven = stage(BRANCHES.stages[1].branches[0], dataclasses.replace(BRANCHES.stages[1].branches[0], kernel=3))
    for stages, words in ((PLAIN.stages, "layer2 must be unsupervised"), ((EXTRACTED[0], uneven), "maps of one size")):
        with pytest.raises(InputError, match=words):
            dataclasses.replace(SPECS["both"], stages=stages)
