"""Training images without labels: layers that learn without labels learn from them, readouts do not."""

import copy
import dataclasses

import numpy as np
import pytest
import tiny
from command import Command
from same import assert_same_state

from snnjax import ImageSpec, InputError, Settings, Trainer
from snnjax.app.commands import train
from snnjax.data import load
from snnjax.networks import stage
from snnjax.runs.results_file import read_results
from snnjax.training import TrainState

DATA = tiny.images()
FEW = DATA.keep_labels(20)


def weights_of(images: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in images}


def test_the_labels_of_some_images_are_kept():
    assert str(FEW) == "Dataset(digits: 20 training, 20 unlabelled and 40 test images, 28 high, 28 wide, 10 classes)"
    assert np.bincount(FEW.train_labels).tolist() == [2] * 10
    assert weights_of(FEW.all_images) == weights_of(DATA.train_images)
    np.testing.assert_array_equal(FEW.train_images, DATA.subset(20, None).train_images)
    drawn = DATA.keep_labels(20, seed=3)
    np.testing.assert_array_equal(drawn.train_images, DATA.subset(20, None, seed=3).train_images)
    held = FEW.hold_out(0.5, seed=0)
    assert len(held.all_images) == 30, "held-out images are not learned from"
    assert DATA.keep_labels(40) is DATA
    assert weights_of(FEW.keep_labels(10).all_images) == weights_of(DATA.train_images)


def test_a_readout_learns_from_labelled_images_alone():
    network = tiny.labelled(ImageSpec.of(FEW))
    settings = Settings((1, 2), shuffle=False)
    states = []

    def save(state: TrainState) -> None:
        states.append(copy.deepcopy(state))

    trainer = Trainer(network, FEW, settings)
    state = trainer.run(trainer.initial_state(), save)

    in_order = [np.flatnonzero((DATA.train_images == image).all(axis=(1, 2)))[0] for image in FEW.all_images]
    everything = dataclasses.replace(DATA, train_images=FEW.all_images, train_labels=DATA.train_labels[in_order])
    other = Trainer(network, everything, settings)
    features = other.run(other.initial_state()).weights["layer1"]
    np.testing.assert_array_equal(state.weights["layer1"], features)

    fixed = dataclasses.replace(tiny.FIRST, learners=(), weights=features)
    readout = dataclasses.replace(network, stages=(stage(fixed, pool=7), network.stages[1]))
    alone = Trainer(readout, dataclasses.replace(FEW, unlabelled_images=None), settings)
    expected = alone.run(alone.initial_state())
    np.testing.assert_array_equal(state.weights["layer2"], expected.weights["layer2"])
    assert [epoch["train"] for epoch in state.epochs] == [epoch["train"] for epoch in expected.epochs]

    between = next(saved for saved in states if saved.phase == 1)
    assert_same_state(trainer.run(between), state)


def test_a_run_with_few_labels_is_tested_as_it_was_trained(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train, "draw", lambda *_: None)
    given = ["--model", tiny.TRAIN[1].replace(":plain", ":labelled"), "--train_images", "40", "--test_images", "40"]
    given += ["--labels", "20", "--draw", "--epochs", "1", "2", "--device", "cpu", "--out", tmp_path / "run"]
    Command("train").main([*given, "--mirror", "--shuffle"])
    results = read_results(tmp_path / "run")
    settings = results["settings"]
    sizes = {name: settings[f"{name}_images"] for name in ("train", "unlabelled", "validation", "test")}
    assert sizes == dict(train=18, unlabelled=20, validation=2, test=40)
    capsys.readouterr()
    Command("evaluate").main([tmp_path / "run"])
    said = capsys.readouterr().out
    assert f"test accuracy {results['test']['accuracy']:.2%}" in said
    assert "not exactly" not in said


def test_unlabelled_images_are_kept_in_a_file(tmp_path):
    FEW.save(tmp_path / "few.npz")
    read = load(str(tmp_path / "few.npz"))
    np.testing.assert_array_equal(read.unlabelled_images, FEW.unlabelled_images)
    assert read.digest == FEW.digest != DATA.digest


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: DATA.keep_labels(9), "`labels` must be at least 10, one of each class of digits, got 9"),
        (
            lambda: dataclasses.replace(DATA, train_groups=np.arange(40)).keep_labels(20),
            r"digits: `labels` cannot be left out where images have groups \(--group\)",
        ),
        (
            lambda: dataclasses.replace(DATA, unlabelled_images=np.zeros((3, 4, 4), np.uint8)),
            r"training images are float32 of \(28, 28\), unlabelled images uint8 of \(4, 4\)",
        ),
        (lambda: ImageSpec(unlabelled=-1), "`unlabelled` must be at least 0, got -1"),
    ],
)
def test_labels_that_cannot_be_kept_are_refused(make, error):
    with pytest.raises(InputError, match=error):
        make()
