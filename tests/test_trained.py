"""Trained networks as files: they decide after loading as before, in this process and in others."""

import dataclasses
import pathlib

import jax
import numpy as np
import own_classes as own
import pytest
from tiny import with_first

import snnjax
from snnjax import data
from snnjax.core import files
from snnjax.data import Dataset
from snnjax.encoding import COLOUR
from snnjax.layers.conv import WTA, Conv
from snnjax.learners import RSTDP, STDP
from snnjax.networks import Majority, Network, stage
from snnjax.runs.trained import Trained
from snnjax.training.loop import Trainer
from snnjax.training.state import Settings

FIRST = Conv(4, kernel=5, padding=2, threshold=15, competition=WTA(2, radius=3), learners=STDP())
DIGITS = data.digits().subset(20, 12)


def network(shape: tuple[int, int, int], kernel: int, **others) -> Network:
    last = Conv(20, kernel=kernel, learners=RSTDP())
    return Network("two", shape, 10, (stage(FIRST, pool=7), stage(last)), **others)


def of_own_parts() -> Network:
    encoder = own.Levels(np.linspace(20.0, 250.0, 9))
    made = network((1, 28, 28), 4, time_steps=9, encoder=encoder, decision=own.First())
    first = dataclasses.replace(FIRST, threshold=3.0, competition=own.Anyone(), learners=own.Hebb())
    last = Conv(20, kernel=4, threshold=2.0, learners=own.Teacher())
    return dataclasses.replace(made, stages=(stage(first, pool=7), stage(last)))


SPOTS = np.kron(np.random.default_rng(0).integers(0, 256, (12, 3, 3, 3)), np.ones((1, 8, 8, 1))).astype(np.uint8)
PICTURES = Dataset("pictures", SPOTS, np.arange(12) % 10, SPOTS, np.arange(12) % 10)
COLOURS = dataclasses.replace(COLOUR, time_steps=30)
NETWORKS = {
    "colour": (network((18, 26, 26), 3, time_steps=30, encoder=COLOURS), PICTURES),
    "own": (of_own_parts(), DIGITS),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[pathlib.Path, dict[str, Trained], dict[str, list[int]]]:
    """The folder of trained networks, the networks, and what they decide before they are saved."""
    folder, networks, decisions = tmp_path_factory.mktemp("trained"), {}, {}
    for name, (network, images) in NETWORKS.items():
        trainer, draw = Trainer(network, images, Settings((0, 0))), np.random.default_rng(1)
        state = trainer.initial_state()
        state.weights = {layer: draw.random(x.shape, np.float32) ** 3 for layer, x in state.weights.items()}
        state.weights["layer1"] *= dict(colour=0.3, own=1.5)[name]  # so that some fire and some do not
        decisions[name] = trainer.predict(state, images.test_images)[0].tolist()
        networks[name] = Trained(trainer.network, state.weights, images.test_images.shape[1:])
        (folder / name).mkdir()
        networks[name].save(folder / name / "weights.npz")
    return folder, networks, decisions


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_decides_after_loading_as_before(saved, name):
    """It takes images, for which its encoder and its time steps come with it."""
    folder, networks, decisions = saved
    loaded = snnjax.load(folder / name)
    assert jax.tree.structure(loaded.network) == jax.tree.structure(networks[name].network)
    assert len(set(decisions[name])) > 1
    assert jax.jit(jax.vmap(loaded))(NETWORKS[name][1].test_images).tolist() == decisions[name]


def test_names_of_classes_are_one_for_each_and_those_of_the_data(saved, tmp_path):
    """Where the network and the data have names."""
    names = tuple("abcdefghij")
    trained = dataclasses.replace(saved[1]["colour"], class_names=names)
    trained.save(tmp_path / "weights.npz")
    network = snnjax.load(tmp_path)
    assert [network.class_name(decision) for decision in (3, np.int32(0), -1)] == ["d", "a", "(silent)"]
    arrays, meta = files.load_checkpoint(tmp_path / "weights.npz")
    for wrong, message in (
        (["a"], "one value for each of 10"),
        ([], "`class_names` must be the names of its classes, got none"),
    ):
        files.save_checkpoint(tmp_path / "weights.npz", arrays, meta | dict(class_names=wrong))
        with pytest.raises(ValueError, match=rf"weights\.npz holds no trained network: .*{message}"):
            snnjax.load(tmp_path)
    for each in (names, tuple("0123456789")):
        assert trained.matched(dataclasses.replace(PICTURES, class_names=each)).test_labels is PICTURES.test_labels
    exchanged = tuple("abcdefghji")
    assert saved[1]["colour"].matched(dataclasses.replace(PICTURES, class_names=exchanged)).class_names == exchanged
    matched = trained.matched(dataclasses.replace(PICTURES, class_names=exchanged))
    assert matched.class_names == names
    eight_and_nine = np.array([0, 1, 2, 3, 4, 5, 6, 7, 9, 8])
    np.testing.assert_array_equal(matched.test_labels, eight_and_nine[PICTURES.test_labels])
    np.testing.assert_array_equal(matched.train_labels, eight_and_nine[PICTURES.train_labels])
    many = dict(train_images=np.resize(SPOTS, (20, *SPOTS.shape[1:])), train_labels=np.arange(20), classes=20)
    with pytest.raises(ValueError, match="`classes` of pictures must be 10, got 20: the network has these"):
        trained.matched(dataclasses.replace(PICTURES, **many))


def many_classes(arrays, network, last) -> None:
    network.update(decision=dict(type="LinearSVM"), classes=10**9)
    last["learners"] = []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays, network, last: last.update(unknown=1), "a 'Conv' with other fields than this program's"),
        (many_classes, "one value for each of 1000000000 classes"),
        (lambda arrays, network, last: network.update(input_shape=[6, 29, 29]), "does not make what its network takes"),
        (lambda arrays, network, last: arrays.update(layer1=arrays["layer1"] * np.float32(np.nan)), "got nan"),
        (lambda arrays, network, last: network["encoder"].update(type="Strange"), "'Strange', unknown to this program"),
    ],
)
def test_files_that_hold_no_network_are_refused(saved, tmp_path, change, message):
    """Wrong values by name, before anything is made in these shapes; parts that are unknown."""
    arrays, meta = files.load_checkpoint(saved[0] / "colour" / "weights.npz")
    change(arrays, meta["network"], meta["network"]["stages"][-1]["branches"][0])
    files.save_checkpoint(tmp_path / "weights.npz", arrays, meta)
    with pytest.raises(snnjax.InputError, match=f"holds no trained network: .*{message}"):
        snnjax.load(tmp_path)


def test_files_with_a_field_that_is_gone_are_read(saved, tmp_path):
    """Where it was None in the version that wrote them."""
    arrays, meta = files.load_checkpoint(saved[0] / "colour" / "weights.npz")
    meta["network"]["stages"][-1]["branches"][0].update(gone=None)
    files.save_checkpoint(tmp_path / "weights.npz", arrays, meta)
    assert snnjax.load(tmp_path).network == snnjax.load(saved[0] / "colour").network


def test_parts_that_are_no_components_are_refused_at_once():
    """When the trainer is made at the latest, not when its first layer or the whole network is saved."""

    class PlainDecision(Majority):
        """Not decorated."""

    class PlainLearner(STDP):
        """Not decorated."""

    unsaved = own.Levels(set())
    for make, message in (
        (lambda: network((6, 28, 28), 4, decision=PlainDecision()), "`decision` must be .*PlainDecision"),
        (
            lambda: with_first(network((6, 28, 28), 4), learners=(STDP(), PlainLearner())),
            "`learners` .*PlainLearner",
        ),
        (lambda: network((1, 28, 28), 4, time_steps=9, encoder=unsaved), "cannot be saved: .* got set"),
        (lambda: network((6, 28, 28), 4, decision=STDP()), "`decision` must have timed, scores, decide: STDP lacks"),
    ):
        with pytest.raises(ValueError, match=message):
            Trainer(make(), DIGITS, Settings((1, 1)))
