"""Validation images choose the best epoch, and the test images are used only once, at the end."""

import contextlib
import csv
import dataclasses
import io
import itertools
import pathlib
from collections.abc import Iterable
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from command import Command
from same import assert_same_state, records_of, untimed
from test_trainer import SHALLOW

from snnjax import InputError, Network, Settings, Sweep, Trainer, data, stage
from snnjax.app import console, planning, shared_options
from snnjax.app.commands import train
from snnjax.app.commands.sweep import table
from snnjax.core import metrics
from snnjax.data import Dataset, digits
from snnjax.encoding import ON_OFF
from snnjax.networks import LinearSVM
from snnjax.runs.results_file import read_results
from snnjax.runs.sweep_folder import SweepFolder
from snnjax.runs.trained import Trained
from snnjax.training import TrainState

HELD_OUT = digits().subset(80, 40).hold_out(0.5, 0)
QUICK = Settings((1, 3), adapt_every=20, patience=0)
FIRST = stage(dataclasses.replace(tiny.FIRST, threshold=8), pool=7)
FITTED = Network("fitted", (2, 28, 28), 10, (FIRST,), time_steps=255, encoder=ON_OFF, decision=LinearSVM())
"""An encoder and a machine that are fitted to the images."""


def trained(images: Dataset, network: Network = SHALLOW) -> TrainState:
    trainer = Trainer(network, images, dataclasses.replace(QUICK, epochs=QUICK.epochs[: len(network.stages)]))
    return trainer.run(trainer.initial_state())


def of_labels(labels: np.ndarray, **more) -> Dataset:
    """A set of such labels."""
    images = np.arange(4 * len(labels), dtype=np.uint8).reshape(-1, 2, 2)
    return Dataset("few", images, labels, images[:1], labels[:1], **more)


def test_about_the_same_share_of_each_class_is_held_out():
    whole = digits()
    images = whole.hold_out(0.1, 0)
    counts = np.bincount(whole.train_labels)
    assert np.all(np.abs(np.bincount(images.validation_labels) - 0.1 * counts) <= 1)
    places = []
    for part in ("train", "validation"):
        pictures = getattr(images, f"{part}_images")
        own = [np.flatnonzero((whole.train_images == image).all(axis=(1, 2)))[0] for image in pictures]
        assert np.all(np.diff(own) > 0), "in their order, none twice"
        np.testing.assert_array_equal(whole.train_labels[own], getattr(images, f"{part}_labels"))
        places += own
    assert sorted(places) == [*range(1437)], "each image is in one part"
    np.testing.assert_array_equal(images.test_images, whole.test_images)
    assert images.digest == whole.hold_out(0.1, 0).digest
    assert len({each.digest for each in (whole, images, whole.hold_out(0.1, 1), whole.hold_out(0.2, 0))}) == 4
    assert (images.tested, whole.tested) == ("validation", "test")


def test_each_part_keeps_an_image_and_each_class_a_training_image():
    for share, total, count in ((0.001, 5, 1), (0.999, 5, 4), (0.5, 2, 1), (0.3, 10, 3)):
        images = of_labels(np.zeros(total, int)).hold_out(share, 0)
        assert (len(images.validation_images), len(images.train_images)) == (count, total - count)
    labels = np.array([0, 0, 1, 2, 2, 2, 3, 1])
    for share, seed in itertools.product((0.1, 0.5, 0.9), range(9)):
        images = of_labels(labels).hold_out(share, seed)
        assert {*images.train_labels} == {0, 1, 2, 3}, (share, seed)
        assert len(images.train_labels) + len(images.validation_labels) == 8
        assert len(images.validation_labels) >= 1


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_groups_are_held_out_as_a_whole(share):
    """Of one class or of several, of one image or of many."""
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(0, 4, 400), rng.integers(0, 40, 400)
    groups[:100] = 1000 + np.arange(100) // 20
    labels[:100] = 3
    for seed in range(10):
        images = of_labels(labels, train_groups=groups).hold_out(share, seed)
        held = np.setdiff1d(groups, images.train_groups)
        counts = np.bincount(images.validation_labels, minlength=4)
        np.testing.assert_array_equal(counts, np.bincount(labels[np.isin(groups, held)], minlength=4))
        assert {*images.train_labels.tolist()} == {0, 1, 2, 3}
        assert counts.all()
        np.testing.assert_allclose(counts / np.bincount(labels), share, atol=0.12)


PAIR = np.repeat([0, 1], 5)


def changed(**parts) -> Dataset:
    return dataclasses.replace(HELD_OUT, **parts)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: digits().hold_out(0, 0), "`share` of the validation images must be .* above 0 and below 1, got 0"),
        (lambda: of_labels(np.arange(3)).hold_out(0.1, 0), "few: .* at least 2 training images"),
        (lambda: of_labels(PAIR, train_groups=PAIR).hold_out(0.2, 0), "a class must have at least 2 groups"),
        (lambda: HELD_OUT.hold_out(0.1, 0), "digits has 40 validation images already"),
        (lambda: changed(validation_labels=None), "`validation_images` and `validation_labels` must both be given"),
        (lambda: changed(validation_images=HELD_OUT.validation_images[:, 1:]), r"validation images .* of \(27, 28\)"),
    ],
)
def test_what_cannot_be_held_out_is_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()


@pytest.mark.parametrize("network", [SHALLOW, FITTED], ids=lambda network: network.name)
def test_the_test_images_have_no_influence(network):
    """Neither on what is learned and fitted, nor on the epoch that counts as the best."""
    expected = trained(HELD_OUT, network)
    extremes = np.zeros_like(HELD_OUT.test_images)
    extremes[::2] = 255
    labels = np.random.default_rng(0).permutation(HELD_OUT.test_labels)
    assert_same_state(trained(changed(test_images=extremes, test_labels=labels), network), expected)
    assert [*expected.epochs[0]] == ["epoch", "train", "validation"]
    brighter = trained(changed(validation_images=extremes), network)
    assert brighter.epochs != expected.epochs
    for path, numbers in (expected.learned_params | expected.weights).items():
        np.testing.assert_array_equal((brighter.learned_params | brighter.weights)[path], numbers, path)
    if network is FITTED:
        assert {path.split(".")[0] for path in expected.learned_params} == {"encoder", "decision"}
        maximum = expected.network(FITTED).encoder.maximum
        np.testing.assert_array_equal(maximum, ON_OFF.fit(HELD_OUT.train_images).maximum)


# Runs


def test_the_command_holds_out_a_tenth_of_the_images_before_it_makes_copies():
    network = shared_options.Network(model=f"{tiny.__file__}:plain")
    for choices, counts in (({}, (36, 4)), (dict(validation=0.5), (20, 20)), (dict(augment=True), (72, 4))):
        chosen = shared_options.TrainData(train_images=40, **choices)
        plan, _ = planning.plan_run(network, chosen, shared_options.Epochs(), shared_options.Machine(), out=None)
        images = plan.data
        assert (len(images.train_images), len(images.validation_images)) == counts, choices


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[pathlib.Path, list[str], str]:
    """The folder of a run with validation images from a file, watched, its command, and what it printed."""
    path = tmp_path_factory.mktemp("validated")
    HELD_OUT.save(path / "kept.npz")
    command = [*tiny.TRAIN[:2], "--dataset", str(path / "kept.npz"), *tiny.TRAIN[6:], "--validation", "0.1"]
    command += ["--shuffle", "--mirror", "--patience", "0", "--out", str(path / "run")]
    with contextlib.redirect_stdout(io.StringIO()) as out, pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "draw", lambda *_: None)
        Command("train").main(command)
    return path / "run", command, " ".join(out.getvalue().split())


def test_a_run_keeps_and_says_what_it_has_validated_and_tested(run, capsys):
    folder, _, printed = run
    assert data.load(folder.parent / "kept.npz").digest == HELD_OUT.digest
    results = read_results(folder)
    counts = dict(train_images=40, validation_images=40, test_images=40, shuffle=True, mirror=True)
    assert results["settings"].items() >= counts.items()
    validated = [each["validation"] for each in results["epochs"]]
    best = max(range(3), key=lambda at: (validated[at]["accuracy"], at))
    assert results["best_epoch"] == best
    network = Trained.read(folder).spiking_network()
    decisions = np.array([int(network(image)) for image in HELD_OUT.test_images])
    assert metrics.fractions(decisions, HELD_OUT.test_labels).items() <= results["test"].items()
    with (folder / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["validation_acc"]) for row in rows] == [each["accuracy"] for each in validated]
    assert [float(row["validation_loss"]) for row in rows] == [each["wrong"] for each in validated]
    assert f"{validated[best]['accuracy']:.2%} of 40 images (best of 3 epochs: number {best + 1})" in printed
    planned = SimpleNamespace(
        path=folder, results=results, trainer=SimpleNamespace(job=SimpleNamespace(phases=[SimpleNamespace(epochs=9)]))
    )
    console.summary(planned)
    stopped = f"stopped after 3 of 9 epochs: none was better since number {best + 1} (--patience 0)"
    assert stopped in " ".join(capsys.readouterr().out.split())


# Sweeps

BEST = [dict(seed=1), dict(seed=2)]
SILENT = [{"layer1.threshold": 1000.0, "seed": 1}, {"layer1.threshold": 1000.0, "seed": 2}]


def sweep_of(variants: list[dict]) -> Sweep:
    return Sweep(SHALLOW, HELD_OUT, QUICK, variants, at_once=3)


def plain(networks: Iterable[dict]) -> list[dict]:
    """Records of a sweep, but for seconds and files."""
    return [{key: x for key, x in each.items() if key != "weights"} for each in untimed(networks)]


def with_test(networks: Iterable[dict]) -> list[dict]:
    """The variants that have a test result."""
    return [each["variant"] for each in networks if "test" in each]


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> pathlib.Path:
    """The folder of a sweep of two combinations with two seeds each, in two programs."""
    path = tmp_path_factory.mktemp("validated") / "swept"
    with SweepFolder(path, sweep_of([*SILENT, *BEST])) as folder:
        assert [each.places for each in folder.groups()] == [(0, 1), (2, 3)]
        folder.run()
    return path


def test_a_sweep_ranks_by_validation_and_tests_the_best_combination_once(swept):
    networks = records_of(swept)
    assert with_test(networks) == BEST
    for record in networks:
        best = max(range(3), key=lambda at: (record["epochs"][at]["validation"]["accuracy"], at))
        assert record["best_epoch"] == best
        assert metrics.ranking_accuracy(record) == 100 * record["epochs"][best]["validation"]["accuracy"]
    for record in networks[2:]:
        network = Trained.read(swept / record["weights"]).spiking_network()
        decisions = np.array([int(network(image)) for image in HELD_OUT.test_images])
        assert record["test"] == metrics.fractions(decisions, HELD_OUT.test_labels)


@pytest.mark.parametrize("tests", [0, 1])
def test_the_folder_of_a_sweep_that_stops_before_or_amid_its_tests_ends_the_same(swept, tmp_path, monkeypatch, tests):
    def stop(self):
        save(self)
        if len(self.networks) == 4 and len(with_test(self.networks)) == tests:
            raise KeyboardInterrupt

    save = SweepFolder.save
    with monkeypatch.context() as patch, SweepFolder(tmp_path, sweep_of([*SILENT, *BEST])) as folder:
        patch.setattr(SweepFolder, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            folder.run()
    assert with_test(records_of(tmp_path)) == BEST[:tests]
    monkeypatch.setattr(Trainer, "run", lambda *_: pytest.fail("trained again"))
    with SweepFolder(tmp_path, sweep_of([*SILENT, *BEST])) as folder:
        assert plain(folder.run()) == plain(records_of(tmp_path)) == plain(records_of(swept))


def test_another_combination_that_is_better_takes_the_test(swept, tmp_path):
    for variants, expected in ((SILENT, SILENT), (SILENT + BEST, BEST), (SILENT, SILENT), (SILENT + BEST, BEST)):
        with SweepFolder(tmp_path, sweep_of(variants)) as folder:
            networks = folder.run()
        assert with_test(networks) == with_test(records_of(tmp_path)) == expected
        tested = {place: each["test"] for place, each in enumerate(networks) if "test" in each}
        assert folder.sweep.test(folder.state) == tested
    assert plain(networks) == plain(records_of(swept))


def ranked(validation: float, test: float | None, threshold: float, part: str = "validation", seed: int = 0) -> dict:
    """The record of a network, as in sweep.json, whose last epoch is not its best."""
    scores = dict(train=dict(accuracy=0.9))
    epochs = [scores | {part: dict(accuracy=x)} for x in (validation, validation - 0.1)]
    tested = {} if test is None else dict(test=dict(accuracy=test))
    return dict(variant=dict(threshold=threshold, seed=seed), epochs=epochs, best_epoch=0, **tested)


def test_combinations_are_ranked_by_their_means():
    single = [ranked(0.9, None, 1), ranked(0.5, None, 2), ranked(0.2, None, 1, seed=1), ranked(0.7, None, 2, seed=1)]
    assert metrics.ranking(single) == [[1, 3], [0, 2]]
    assert metrics.ranking([ranked(0.5, None, at) for at in (3, 1, 2)]) == [[0], [1], [2]], "the first among equals"
    assert metrics.ranking([ranked(0.5, None, 3) | dict(epochs=[])]) == []
    invalid = ranked(0, None, 1, seed=2) | dict(epochs=[], error="`update` of ...")
    assert metrics.ranking([*single, invalid]) == [[1, 3], [0, 2]]
    better = [invalid, ranked(0.9, None, 1), ranked(0.1, None, 2)]
    assert metrics.ranking(better) == [[2], [1]], "combinations with invalid networks are last"


def test_the_table_of_a_sweep_has_the_best_in_validation_first():
    shown = table([ranked(0.5, None, 1), ranked(0.8, 0.2, 2), ranked(0.6, None, 3)])
    assert [[*row] for row in zip(*(column.cells for column in shown.columns), strict=True)] == [
        ["2", "1", "90.0", "70.0", "80.0", "20.0"],
        ["3", "1", "90.0", "50.0", "60.0", ""],
        ["1", "1", "90.0", "40.0", "50.0", ""],
    ]
    shown = table([ranked(0.5, 0.5, 1, "test"), ranked(0.6, 0.6, 2, "test"), ranked(0.8, 0.8, 2, "test", seed=1)])
    assert [*shown.columns[4].cells] == ["70.0 ± 127.1\nsd 14.1", "50.0"]
