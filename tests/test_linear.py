"""The linear support vector machine as a decision, and the network that has it."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from snnjax import STDP, WTA, Conv, Images, InputError, LinearSVM, Network, Settings, Trainer, stage
from snnjax.data import digits
from snnjax.encoding import DOG
from snnjax.kernels import Spikes
from snnjax.networks import kheradpisheh2018
from snnjax.runs.trained import Trained
from snnjax.training.state import plan

ROOT = pathlib.Path(__file__).parents[1]
IMAGES = digits().first(60, 40)
FEATURES = Conv(8, 5, padding=2, threshold=8, competition=WTA(3, radius=3), learners=STDP(doubling=20))


@pytest.mark.parametrize("kept", [10, 3, 2, 1])
def test_the_linear_machine_is_that_of_scikit_learn(kept):
    """The same margins and decisions as `LinearSVC` on 1 - t; classes without images are never decided for."""
    random = np.random.default_rng(0)
    latencies, labels = random.integers(0, 25, (80, 4, 3, 2)).clip(max=15).astype(np.uint8), np.arange(80) % kept
    machine = LinearSVM(C=0.3, tolerance=0.01).fit(latencies, labels.astype(np.int32), 10, 15)
    assert machine.fitted

    def scores(latency):
        time = latency.astype(jnp.float32) / 15
        return machine.scores(Spikes(latency, jnp.zeros_like(time), time), 10)

    found = np.asarray(jax.jit(jax.vmap(scores))(latencies))
    decisions = jax.vmap(machine.decide)(found[:, None])
    if kept == 1:
        assert not decisions.any()
        return
    inputs = 1 - latencies.reshape(80, -1) / 15
    known = LinearSVC(C=0.3, tol=0.01, max_iter=100, dual=True, random_state=0)
    with warnings.catch_warnings(action="ignore"):
        known.fit(inputs, labels)
    margins = known.decision_function(inputs)
    margins = np.stack([-margins, margins], axis=1) if kept == 2 else margins
    np.testing.assert_allclose(found[:, :kept], np.log1p(np.exp(margins)), rtol=1e-5)
    assert (found[:, kept:] == 0).all()
    np.testing.assert_array_equal(decisions, known.predict(inputs))


def test_nobody_decides_for_an_image_without_spikes():
    silent = np.full((3, 2, 2), 15, np.uint8)
    machine = LinearSVM(coefficients=np.ones((2, 3, 2, 2), np.float32), intercepts=np.ones(2, np.float32))
    for latency, decision in ((silent, -1), (silent - (np.arange(12).reshape(3, 2, 2) == 5).astype(np.uint8), 0)):
        time = jnp.asarray(latency / np.float32(15))
        scores = machine.scores(Spikes(latency, jnp.zeros_like(time), time), 2)
        assert int(machine.decide(scores[None])) == decision


def test_the_largest_margin_decides_where_all_are_far_below_zero():
    """Where log(1 + exp(margin)) is 0 for all classes."""
    time = jnp.zeros((1, 1, 1), jnp.float32)
    intercepts = np.array([-300.0, -200.0, -400.0, -200.0], np.float32)
    machine = LinearSVM(coefficients=np.zeros((4, 1, 1, 1), np.float32), intercepts=intercepts)
    scores = jax.jit(lambda time: machine.scores(Spikes(time, time, time), 4))(time)
    assert (int(machine.decide(scores[None])), int(machine.decide(scores[None, ::-1]))) == (1, 0)
    assert scores[2] < scores[0] < scores[1] == scores[3]


def test_a_network_under_a_linear_machine_is_used_without_scikit_learn(tmp_path):
    network = Network("machine", (6, 28, 28), 10, (stage(FEATURES, pool=4),), decision=LinearSVM(C=0.1))
    trainer = Trainer(network, IMAGES, Settings((1,), patience=0))
    state = trainer.run(trainer.initial_state())
    Trained(trainer.trained(state).spec, state.trained.weights, (28, 28)).save(tmp_path / "weights.npz")
    np.save(tmp_path / "images.npy", IMAGES.test_images)
    program = """
import sys, json
sys.modules["sklearn"] = sys.modules["scipy.sparse"] = None
import numpy as np, jax, snnjax
network = snnjax.load(sys.argv[1] + "/weights.npz")
print(json.dumps(jax.jit(jax.vmap(network))(np.load(sys.argv[1] + "/images.npy")).tolist()))
"""
    environment = os.environ | dict(PYTHONPATH=str(ROOT))
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert json.loads(done.stdout) == trainer.predict(state, IMAGES.test_images)[0].tolist()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(C=0.0), "`C` must be finite and above 0, got 0.0"),
        (dict(iterations=0), "`iterations` must be at least 1, got 0"),
        (dict(coefficients=1.0, intercepts=np.zeros(2)), "`coefficients` must be"),
    ],
)
def test_settings_that_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        LinearSVM(**settings)


def test_of_warnings_only_that_it_has_not_converged_is_left_out(monkeypatch):
    """Of scikit-learn's fit, which here stops after one pass."""
    latencies, labels = np.random.default_rng(0).integers(0, 16, (40, 4, 3, 3)).astype(np.uint8), np.arange(40) % 4
    fit = LinearSVC.fit

    def warned(self, *data):
        warnings.warn("something else", UserWarning, stacklevel=1)
        return fit(self, *data)

    with pytest.warns(ConvergenceWarning):
        LinearSVC(max_iter=1, dual=True).fit(latencies.reshape(40, -1), labels)
    monkeypatch.setattr(LinearSVC, "fit", warned)
    with pytest.warns(UserWarning, match="something else") as told:
        LinearSVM(tolerance=1e-6, iterations=1).fit(latencies, labels, 4, 15)
    assert [each.category for each in told] == [UserWarning]


def test_the_network_of_kheradpisheh():
    network = kheradpisheh2018()
    assert network.encoder == DOG
    assert network.shapes == ((2, 28, 28), (32, 15, 15), (150, 9, 9))
    assert [phase.name for phase in plan(network, network.epochs)] == ["STDP layer1", "STDP layer2", "fit LinearSVM"]
    assert kheradpisheh2018(Images((20, 24), 3)).shapes[-1] == (150, 7, 8)
    coarse = dataclasses.replace(network.encoder, time_steps=8)
    assert kheradpisheh2018(Images(encoder=coarse)).time_steps == 8


@pytest.mark.slow
def test_what_the_network_of_kheradpisheh_learns():
    network = kheradpisheh2018()
    images = digits().first(300, 200, in_order=True)
    trainer = Trainer(network, images, Settings((4, 10)))
    (record,) = trainer.run(trainer.initial_state()).epochs
    assert record["test"]["accuracy"] > 0.85
    assert record["train"]["accuracy"] == 1
