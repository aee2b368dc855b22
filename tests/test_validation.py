"""Validation images choose the best epoch, and the test images are used only once, at the end."""

import copy
import csv
import dataclasses
import json
import pathlib
import re
from collections.abc import Iterable

import numpy as np
import pytest
import replicate
from command import Command, refused
from test_cli import TINY as WHOLE
from test_cli import tiny
from test_report import Page
from test_resume import SETTINGS, small
from test_trainer import SHALLOW, assert_same, scripted

from snnjax import STDP, WTA, Conv, LinearSVM, Network, Sweep, data, stage
from snnjax.app import comparisons, plots, report
from snnjax.app.commands.sweep import table
from snnjax.app.tracking import FOLDER, Tracker
from snnjax.core import metrics
from snnjax.core.errors import InputError
from snnjax.data import Dataset, digits
from snnjax.encoding import ON_OFF
from snnjax.networks import NETWORKS
from snnjax.runs.run_folder import RunFolder
from snnjax.runs.sweep_folder import SweepFolder
from snnjax.runs.trained import Trained
from snnjax.training.loop import Trainer, Training
from snnjax.training.state import Settings, TrainState
from snnjax.training.sweep import SweepState

TINY = WHOLE[: WHOLE.index("--validation")]
"""With what is held out by default."""
HELD_OUT = digits().first(80, 30).hold_out(0.25, 0)
QUICK = Settings((1, 4), batch_size=20, patience=0)


FITTED = Network(
    "fitted",
    (2, 28, 28),
    10,
    (stage(Conv(4, kernel=5, threshold=8, competition=WTA(2, radius=3), learners=STDP()), pool=4),),
    time_steps=255,
    encoder=ON_OFF,
    decision=LinearSVM(),
)
"""An encoder and a machine that are fitted to the images."""


def trained(images: Dataset, settings: Settings = QUICK, spec: Network = SHALLOW) -> TrainState:
    trainer = Trainer(spec, images, settings)
    return trainer.run(trainer.initial_state())


def of_labels(labels: np.ndarray, **more) -> Dataset:
    """A set of such labels."""
    images = np.arange(4 * len(labels), dtype=np.uint8).reshape(-1, 2, 2)
    return Dataset("few", images, labels, images[:1], labels[:1], **more)


def test_about_the_same_share_of_each_class_is_held_out():
    whole = digits()
    images = whole.hold_out(0.1, 0)
    assert repr(images).startswith("Dataset(digits: 1,293 training, 144 validation and 360 test images of 28x28")
    assert images.notes == ("144 of 1,437 training images are held out for validation",)
    counts = np.bincount(whole.train_labels)
    assert np.all(np.abs(np.bincount(images.validation_labels) - 0.1 * counts) <= 1)
    parts = [(images.train_images, images.train_labels), (images.validation_images, images.validation_labels)]
    places = []
    for pictures, labels in parts:
        found = [np.flatnonzero((whole.train_images == image).all(axis=(1, 2)))[0] for image in pictures]
        assert np.all(np.diff(found) > 0), "in their order, none twice"
        np.testing.assert_array_equal(whole.train_labels[found], labels)
        places += found
    assert sorted(places) == [*range(1437)], "each image is in one part"
    np.testing.assert_array_equal(images.test_images, whole.test_images)
    assert images.digest == whole.hold_out(0.1, 0).digest
    assert len({each.digest for each in (whole, images, whole.hold_out(0.1, 1), whole.hold_out(0.2, 0))}) == 4
    assert images.train_digest != whole.train_digest
    assert (images.tested, whole.tested) == ("validation", "test")


@pytest.mark.parametrize(("share", "total", "count"), [(0.001, 5, 1), (0.999, 5, 4), (0.5, 2, 1), (0.3, 10, 3)])
def test_each_part_keeps_an_image(share, total, count):
    images = of_labels(np.zeros(total, int)).hold_out(share, 0)
    assert (len(images.validation_images), len(images.train_images)) == (count, total - count)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_each_class_keeps_a_training_image(share):
    labels = np.array([0, 0, 1, 2, 2, 2, 3, 1])
    for seed in range(20):
        images = of_labels(labels).hold_out(share, seed)
        assert {*images.train_labels} == {0, 1, 2, 3}
        assert len(images.train_labels) + len(images.validation_labels) == 8
        assert len(images.validation_labels) >= 1


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_groups_are_held_out_as_a_whole(share):
    """Of one class or of several, of one image or of many."""
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(0, 4, 400), rng.integers(0, 40, 400)
    groups[:100] = 1000 + np.arange(100) // 20
    labels[:100] = 3
    for seed in range(10):
        images = of_labels(labels, train_groups=groups).hold_out(share, seed)
        held = np.setdiff1d(groups, images.train_groups)
        counts = np.bincount(labels, minlength=4)
        found = np.bincount(images.validation_labels, minlength=4)
        np.testing.assert_array_equal(found, np.bincount(labels[np.isin(groups, held)], minlength=4))
        assert {*images.train_labels.tolist()} == {0, 1, 2, 3}
        assert found.all()
        np.testing.assert_allclose(found / counts, share, atol=0.12)


def test_a_single_group_is_not_held_out():
    labels = np.repeat(np.arange(2), 5)
    with pytest.raises(InputError, match="a class must have at least 2 groups: take more, or hold out none"):
        of_labels(labels, train_groups=labels).hold_out(0.2, 0)


@pytest.mark.parametrize(
    ("images", "share", "message"),
    [
        (digits(), 0, "`share` of the validation images must lie between 0 and 1, got 0"),
        (digits(), 1.0, "must lie between 0 and 1, got 1.0"),
        (digits(), float("nan"), "must lie between 0 and 1, got nan"),
        (digits(), "0.1", "must lie between 0 and 1, got '0.1'"),
        (
            of_labels(np.arange(3)),
            0.1,
            r"few: .* a class must have at least 2 training images: .* \(--validation 0\)",
        ),
        (HELD_OUT, 0.1, "digits has 20 validation images already"),
    ],
)
def test_what_cannot_be_held_out_is_refused(images, share, message):
    with pytest.raises(InputError, match=message):
        images.hold_out(share, 0)


def test_validation_images_are_checked_as_the_others():
    with pytest.raises(InputError, match="`validation_images` and `validation_labels` must both be given"):
        dataclasses.replace(HELD_OUT, validation_labels=None)
    with pytest.raises(InputError, match="digits: 20 validation images but 3 labels"):
        dataclasses.replace(HELD_OUT, validation_labels=np.arange(3))
    with pytest.raises(InputError, match=r"training images are .* of \(28, 28\), validation images .* of \(27, 28\)"):
        dataclasses.replace(HELD_OUT, validation_images=HELD_OUT.validation_images[:, 1:])


def test_validation_images_are_kept_in_a_file(tmp_path):
    HELD_OUT.save(tmp_path / "kept.npz")
    loaded = data.load(tmp_path / "kept.npz")
    assert loaded.digest == HELD_OUT.digest
    np.testing.assert_array_equal(loaded.validation_labels, HELD_OUT.validation_labels)


@pytest.mark.parametrize(("spec", "settings"), [(SHALLOW, QUICK), (FITTED, Settings((1,)))], ids=["learned", "fitted"])
def test_the_test_images_have_no_influence(spec, settings):
    """Neither on what is learned, nor on the epoch that counts as the best: all is the same but for the last test."""
    expected = trained(HELD_OUT, settings, spec)
    labels = np.random.default_rng(0).permutation(HELD_OUT.test_labels)
    assert_same(trained(dataclasses.replace(HELD_OUT, test_labels=labels), settings, spec), expected)
    for level in (0, 255):  # which would be an extreme of each pixel
        same = dataclasses.replace(HELD_OUT, test_images=np.full_like(HELD_OUT.test_images, level))
        assert_same(trained(same, settings, spec), expected)
    assert [*expected.epochs[0]] == ["epoch", "train", "validation"]
    others = dataclasses.replace(HELD_OUT, validation_labels=np.full_like(HELD_OUT.validation_labels, 3))
    assert trained(others, settings, spec).epochs != expected.epochs


def test_an_encoder_and_a_machine_are_fitted_to_the_images_learned_from_alone():
    """Not to those held out either."""
    state = trained(HELD_OUT, Settings((1,)), FITTED)
    fitted = ON_OFF.fit(HELD_OUT.train_images)
    np.testing.assert_array_equal(state.trained.network(FITTED).encoder.maximum, fitted.maximum)
    images = np.full_like(HELD_OUT.validation_images, 255)
    bright = trained(dataclasses.replace(HELD_OUT, validation_images=images), Settings((1,)), FITTED)
    for path, numbers in state.numbers.items():
        np.testing.assert_array_equal(bright.numbers[path], numbers, path)
    assert any(path.startswith("decision.") for path in state.numbers)


def test_training_is_as_on_these_images_alone():
    """The validation images take the place of the test images, and are not learned from."""
    parts = dict(validation_images=None, validation_labels=None)
    alone = dataclasses.replace(
        HELD_OUT, test_images=HELD_OUT.validation_images, test_labels=HELD_OUT.validation_labels, **parts
    )
    found, expected = trained(HELD_OUT), trained(alone)
    for name, weights in expected.best.items():
        np.testing.assert_array_equal(found.best[name], weights)
    assert [each["validation"] for each in found.epochs] == [each["test"] for each in expected.epochs]
    assert [each["train"] for each in found.epochs] == [each["train"] for each in expected.epochs]
    phases = [phase["name"] for phase in found.phases]
    assert phases[-3:] == ["who fires in stage 1, validation", "R-STDP", "validation"]
    assert {phase["name"]: phase["images"] for phase in found.phases}["encode"] == 80, "test images are left alone"


def test_patience_and_the_best_epoch_go_by_validation(monkeypatch):
    named = dataclasses.replace(HELD_OUT, test_labels=HELD_OUT.validation_labels[:1].repeat(30))
    scripted(monkeypatch, named, [0.5, 0.7, 0.7, 0.6, 0.1, 0.2, 0.9, 0.9], part="validation")
    state = trained(named, Settings((0, 8), batch_size=20, patience=2))
    assert (len(state.epochs), state.best_epoch) == (6, 2)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> pathlib.Path:
    """The folder of a run with validation images, watched."""
    path = tmp_path_factory.mktemp("validated") / "run"
    trainer = Trainer(small(), HELD_OUT, Settings((1, 3), batch_size=20, patience=0, shuffle=True, mirror=True))
    with RunFolder(path, trainer, SETTINGS, draw=report.draw_run) as folder:
        state = folder.start()
        with Tracker(folder, state) as tracker:
            folder.finish(trainer.run(state, tracker.save))
    return path


def test_a_run_keeps_what_it_has_validated_and_tested(run):
    results = json.loads((run / "results.json").read_text())
    counts = dict(train_images=60, validation_images=20, test_images=30, shuffle=True, mirror=True)
    assert results["settings"].items() >= counts.items()
    best = max(range(3), key=lambda at: (results["epochs"][at]["validation"]["accuracy"], at))
    assert results["best_epoch"] == best
    network = Trained.read(run).spiking_network()
    decisions = np.array([int(network(image)) for image in HELD_OUT.test_images])
    assert metrics.fractions(decisions, HELD_OUT.test_labels).items() <= results["test"].items()
    with (run / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [*rows[0]] == ["epoch", "train_acc", "train_loss", "validation_acc", "validation_loss"]
    validated = [each["validation"] for each in results["epochs"]]
    assert [float(row["validation_acc"]) for row in rows] == [each["accuracy"] for each in validated]
    assert [float(row["validation_loss"]) for row in rows] == [each["wrong"] for each in validated]


def test_the_page_tells_validation_and_test_apart(run):
    results = json.loads((run / "results.json").read_text())
    seen, best = Page((run / "report.html").read_text()), results["epochs"][results["best_epoch"]]
    assert "60 training, 20 validation, 30 test images" in seen.text
    assert f"validation accuracy{best['validation']['accuracy']:.2%}" in seen.text.replace("\n", "")
    assert "validation images" in seen.text
    assert "images come in a new order each epoch, each image is mirrored left-right or not, at random" in seen.text
    figure = plots.history_picture(results["epochs"], results["best_epoch"])
    names = [line.get_label() for line in figure.axes[0].get_lines()]
    assert {"train, right", "validation, right"} <= {*names}
    assert not any("test" in str(name) for name in names)


def test_runs_with_and_without_validation_are_compared(run):
    validated = json.loads((run / "results.json").read_text())
    tested = validated | dict(epochs=[dict(each, test=each["validation"]) for each in validated["epochs"]])
    for each in tested["epochs"]:
        del each["validation"]
    rows = {row[0]: row[1:] for row in comparisons.compared(dict(one=validated, other=tested))[0]}
    best = validated["epochs"][validated["best_epoch"]]["validation"]["accuracy"]
    assert rows["validation accuracy of the best epoch, %"] == [f"{100 * best:.2f}", ""]
    last = validated["epochs"][-1]["validation"]["accuracy"]
    assert rows["test accuracy of the last epoch, %"] == ["", f"{100 * last:.2f}"]
    assert "Accuracy on the validation or test images" in comparisons.comparison_page(dict(one=validated, other=tested))
    names = [row[0] for row in comparisons.compared(dict(one=tested, other=tested))[0]]
    assert "validation accuracy of the best epoch, %" not in names, "nobody has any"


def test_tensorboard_shows_validation_and_the_last_test(run):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(run / FOLDER)).Reload()
    results = json.loads((run / "results.json").read_text())
    for what in ("accuracy", "wrong", "silent"):
        values = [(event.step, pytest.approx(event.value)) for event in events.Scalars(f"{what}/validation")]
        assert values == [(each["epoch"] + 1, each["validation"][what]) for each in results["epochs"]]
        (last,) = events.Scalars(f"{what}/test")
        assert (last.step, last.value) == (results["best_epoch"] + 1, pytest.approx(results["test"][what]))


BEST = [dict(seed=1), dict(seed=2)]
SILENT = [{"layer1.threshold": 1000.0, "seed": 1}, {"layer1.threshold": 1000.0, "seed": 2}]


def sweep_of(variants: list[dict], images: Dataset = HELD_OUT) -> Sweep:
    return Sweep(small(), images, Settings((1, 3), batch_size=20, patience=0), variants, at_once=3)


def plain(networks: Iterable[dict]) -> list[dict]:
    """Records of a sweep, but for seconds and files."""
    return [{key: x for key, x in each.items() if "seconds" not in key and key != "weights"} for each in networks]


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


def told(path: pathlib.Path) -> list[dict]:
    return json.loads((path / "sweep.json").read_text())["networks"]


def test_a_sweep_ranks_by_validation_and_tests_the_best_combination_once(swept):
    networks = told(swept)
    assert with_test(networks) == BEST
    for record in networks:
        best = max(range(3), key=lambda at: (record["epochs"][at]["validation"]["accuracy"], at))
        assert record["best_epoch"] == best
        assert metrics.ranking_accuracy(record) == 100 * record["epochs"][best]["validation"]["accuracy"]
    for record in networks[2:]:
        network = Trained.read(swept / record["weights"]).spiking_network()
        decisions = np.array([int(network(image)) for image in HELD_OUT.test_images])
        assert record["test"] == metrics.fractions(decisions, HELD_OUT.test_labels)
    with pytest.raises(FileNotFoundError) as error:
        Trained.read(swept)
    named = next(each for each in networks if each["weights"] in str(error.value))
    assert metrics.ranking_accuracy(named) == max(map(metrics.ranking_accuracy, networks))


def test_the_test_images_change_nothing_else_in_a_sweep(swept):
    blank = dataclasses.replace(HELD_OUT, test_images=np.zeros_like(HELD_OUT.test_images))
    state = sweep_of([*SILENT, *BEST], blank).run()
    found, expected = plain(state.done[at] for at in range(4)), plain(told(swept))
    assert with_test(found) == BEST
    assert [each.pop("test")["silent"] for each in found[2:]] == [1, 1]
    assert all(each.pop("test")["silent"] < 1 for each in expected[2:])
    assert found == expected


def test_a_sweep_without_a_folder_goes_on_from_each_state_before_and_amid_its_tests(swept):
    kept = []
    sweep = sweep_of([*SILENT, *BEST])
    sweep.run(save=lambda state: kept.append(copy.deepcopy(state.flatten())))
    ends = [(arrays, json.loads(json.dumps(meta))) for arrays, meta in kept if len(meta["done"]) == 4]
    assert [with_test(meta["done"].values()) for _, meta in ends] == [[], BEST[:1], BEST]
    for arrays, meta in ends:
        state = sweep.run(SweepState.unflatten(arrays, meta))
        assert plain(state.done[at] for at in range(4)) == plain(told(swept))


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
    assert with_test(told(tmp_path)) == BEST[:tests]
    monkeypatch.setattr(Training, "run", lambda *_: pytest.fail("trained again"))
    with SweepFolder(tmp_path, sweep_of([*SILENT, *BEST])) as folder:
        assert plain(folder.run()) == plain(told(tmp_path)) == plain(told(swept))


def test_another_combination_that_is_better_takes_the_test(swept, tmp_path):
    for variants, expected in ((SILENT, SILENT), (SILENT + BEST, BEST), (SILENT, SILENT), (SILENT + BEST, BEST)):
        with SweepFolder(tmp_path, sweep_of(variants)) as folder:
            networks = folder.run()
        assert with_test(networks) == with_test(told(tmp_path)) == expected
    assert plain(networks) == plain(told(swept))


def test_without_supervised_epochs_nothing_ranks_and_nothing_is_tested():
    done = Sweep(small(), HELD_OUT, Settings((1, 0), patience=0), BEST).run().done
    assert [done[at]["epochs"] for at in (0, 1)] == [[], []]
    assert with_test(done.values()) == []


def ranked(validation: float, test: float | None, threshold: float, part: str = "validation", seed: int = 0) -> dict:
    """The record of a network, as in sweep.json, whose last epoch is not its best."""
    scores = dict(train=dict(accuracy=0.9))
    epochs = [scores | {part: dict(accuracy=x)} for x in (validation, validation - 0.1)]
    found = {} if test is None else dict(test=dict(accuracy=test))
    return dict(variant=dict(threshold=threshold, seed=seed), epochs=epochs, best_epoch=0, **found)


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
    head = [str(column.header) for column in shown.columns]
    assert head[2:] == ["training, last epoch", "validation, last epoch", "validation, best epoch", "test, best epoch"]
    rows = list(zip(*(column.cells for column in shown.columns), strict=True))
    assert rows == [
        ("2", "1", "90.0", "70.0", "80.0", "20.0"),
        ("3", "1", "90.0", "50.0", "60.0", ""),
        ("1", "1", "90.0", "40.0", "50.0", ""),
    ]
    shown = table([ranked(0.5, 0.5, 1, "test"), ranked(0.6, 0.6, 2, "test")])
    head = [str(column.header) for column in shown.columns]
    assert head[2:] == ["training, last epoch", "test, last epoch", "test, best epoch"]
    assert [*shown.columns[4].cells] == ["60.0", "50.0"]


@pytest.fixture
def command(monkeypatch, tmp_path):
    """`snnjax train` with a small network, in a folder of its own."""
    monkeypatch.setitem(NETWORKS, "tiny", tiny)
    monkeypatch.chdir(tmp_path)
    return Command("train")


def test_the_command_holds_out_a_tenth_and_says_so(command, capsys):
    command.main([*TINY, "--shuffle", "--mirror", "--out", "run"])
    out = " ".join(capsys.readouterr().out.split())
    assert "tiny on digits: 36 training, 4 validation and 40 test images, epochs 2 3" in out
    assert "4 of 40 training images are held out for validation" in out
    assert "images come in a new order each epoch, each image is mirrored left-right or not, at random" in out
    assert re.search(r"epoch 3: train \S+ validation \S+", out)
    results = json.loads(pathlib.Path("run/results.json").read_text())
    best = results["best_epoch"]
    validated = (
        f"{results['epochs'][best]['validation']['accuracy']:.2%} of 4 images (best of 3 epochs: number {best + 1})"
    )
    assert f"validation accuracy {validated} test accuracy {results['test']['accuracy']:.2%}, wrong" in out
    assert results["settings"].items() >= dict(validation=0.1, train_images=36, validation_images=4).items()
    before = pathlib.Path("run/results.json").read_bytes()
    line = refused(command, capsys, *TINY, "--shuffle", "--out", "run", "--resume")
    assert "it had mirror True (now False)" in line
    line = refused(command, capsys, *TINY, "--shuffle", "--mirror", "--validation", 0, "--out", "run", "--resume")
    assert "it had train_images 36 (now 40), validation_images 4 (now 0)" in line
    assert pathlib.Path("run/results.json").read_bytes() == before


def test_no_validation_is_as_before(command, capsys):
    command.main([*TINY, "--validation", "0", "--out", "run"])
    out = " ".join(capsys.readouterr().out.split())
    assert "tiny on digits: 40 training and 40 test images, epochs 2 3" in out
    assert "validation" not in out
    results = json.loads(pathlib.Path("run/results.json").read_text())
    assert results["test"].items() >= results["epochs"][results["best_epoch"]]["test"].items()


@pytest.mark.parametrize("share", ["1", "-0.1", "nan"])
def test_shares_that_are_none_are_refused(command, capsys, share):
    line = refused(command, capsys, *TINY, "--validation", share, "--out", "run")
    assert "`validation`: `share` of the validation images must lie between 0 and 1, got " in line
    assert not pathlib.Path("run").exists()


def test_validation_images_of_a_file_are_taken_as_they_are(command):
    HELD_OUT.save("kept.npz")
    options = ["--model", "tiny", "--dataset", "kept.npz", "--epochs", "0", "1"]
    for name, extra, expected in (("own", [], (60, 20)), ("none", ["--validation", "0"], (60, 0))):
        command.main([*options, *extra, "--out", name])
        settings = json.loads(pathlib.Path(name, "results.json").read_text())["settings"]
        assert (settings["train_images"], settings["validation_images"]) == expected


def test_copies_are_made_of_training_images_alone(command):
    """What is held out is held out first."""
    command.main([*TINY, "--augment", "--out", "run"])
    settings = json.loads(pathlib.Path("run/results.json").read_text())["settings"]
    assert (settings["train_images"], settings["validation_images"]) == (72, 4)


def test_replications_do_as_the_reference_does():
    chosen = replicate.options_of(replicate.Replicate(), pathlib.Path("images.npz"), "mozafari2018", 0)
    assert (chosen.data.validation, chosen.training.shuffle, chosen.training.mirror) == (0, False, False)
