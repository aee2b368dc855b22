"""A threshold for each feature: given, trained with, moved by a rule, saved, loaded and resumed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import snnjax
from snnjax import Conv, Encoder, Model, Network, Settings, TargetTime, Trainer, stage
from snnjax.layers.layer_kernels import NATIVE
from snnjax.networks import Images
from snnjax.runs import RunFolder
from snnjax.runs.trained import Trained

DIGITS = tiny.images()
EACH = np.float32([8, 15, 20, 500])
FIRST = dataclasses.replace(tiny.FIRST, threshold=EACH)


def network(first: Conv) -> Network:
    plain = tiny.plain(Images((28, 28), 10))
    return dataclasses.replace(plain, stages=(stage(first, pool=7), plain.stages[1]))


NETWORK = network(FIRST)


def test_networks_are_compared_and_hashed(compilations):
    """By their numbers; as a static argument, a network compiles once for each value, as numbers once."""
    same, other = (network(dataclasses.replace(FIRST, threshold=EACH + more)) for more in (0, 1))
    assert same == NETWORK != other
    assert FIRST != dataclasses.replace(FIRST, threshold=15.0) != FIRST
    assert {NETWORK: 1}[same] == 1
    assert other not in {NETWORK, same}
    assert type(dataclasses.replace(FIRST, threshold=15).threshold) is float, "where the annotation allows no integers"
    given = dataclasses.replace(FIRST, threshold=jnp.float32(EACH))
    assert (given, hash(given)) == (FIRST, hash(FIRST))
    fixed, traced = (jax.jit(lambda conv: conv.threshold + jnp.zeros(4), static_argnums=at) for at in (0, ()))
    for program in (fixed, traced):
        np.testing.assert_array_equal(program(FIRST), EACH)
    changed = dataclasses.replace(FIRST, threshold=EACH + 1)
    assert compilations(lambda: (fixed(given), traced(changed))) == 0
    np.testing.assert_array_equal(fixed(changed), EACH + 1)


def test_a_network_is_trained_saved_and_loaded(tmp_path, compiler):
    trainer = Trainer(NETWORK, DIGITS, Settings((1, 1), batch_size=10, native=True))
    model = trainer.training.cache.model(trainer.initial_state())
    assert trainer.training.cache.kernels(model.layers["layer1"]) is NATIVE
    with RunFolder(tmp_path / "run", trainer) as run:
        run.run()
        state = run.state
    wins = state.diagnoses["STDP layer1"]["wins"]["layer1"]
    assert wins[3] == 0 < min(wins[:3]), "the last threshold is out of reach"
    spiking = snnjax.load(tmp_path / "run")
    np.testing.assert_array_equal(spiking.spec.stages[0].branches[0].threshold, EACH)
    decided = [int(spiking(image)) for image in DIGITS.test_images[:20]]
    assert decided == trainer.predict(state, DIGITS.test_images)[0].tolist()[:20]
    other = dataclasses.replace(FIRST, threshold=EACH + 1)
    with pytest.raises(ValueError, match="is of another network"):
        RunFolder(tmp_path / "run", Trainer(network(other), DIGITS, trainer.settings), resume=True)


def test_thresholds_that_a_rule_has_moved_are_saved(tmp_path):
    moving = dict(threshold=10.0, learners=TargetTime(), competition=Conv.competition)
    trainer = Trainer(network(dataclasses.replace(FIRST, **moving)), DIGITS, Settings((2, 1), batch_size=10))
    state = trainer.run(trainer.initial_state())
    learned = trainer.trained(state).spec
    moved = np.asarray(learned.stages[0].branches[0].threshold)
    assert len({10, *moved.tolist()}) == 5
    Trained(learned, state.weights, (28, 28)).save(tmp_path / "weights.npz")
    np.testing.assert_array_equal(Trained.read(tmp_path).network.stages[0].branches[0].threshold, moved)


def test_who_has_fired_at_the_last_step():
    first = dataclasses.replace(FIRST, threshold=np.float32([1, 38, 48, 500]))
    model, latency = Model.of(network(first), NETWORK.initial_weights()), Encoder()(DIGITS.test_images[0])
    timed, untimed = (np.asarray(model.forward(latency, timed=each)) < 15 for each in (True, False))
    np.testing.assert_array_equal(timed, untimed)
    shares = timed.mean(axis=(1, 2))
    assert shares[0] > shares[1] > shares[2] > shares[3] == 0, shares
