"""The scripts that train a table of results and replicate the recorded runs, on a little of the embedded digits."""

import dataclasses
import json
import re

import numpy as np
import protocols
import pytest
import replicate
import results
from command import Command, refused
from protocols import NCG, TABLES, Row

from snnjax import data
from snnjax.app import names
from snnjax.networks import NETWORKS

COMMAND, REPLICATE = Command("results", results), Command("replicate", replicate)


@pytest.mark.slow
def test_a_table_is_written_and_finished_runs_are_only_read(tmp_path):
    given = ["--rows", "mozafari2018:digits", "--seeds", "1", "--epochs", "1", "1", "2", "--kernels", "xla"]
    given += ["--train_images", "30", "--test_images", "20", "--out", tmp_path]
    COMMAND.main(given)
    name = "mozafari2018-digits_30_xla_1_1_2_of20_seeds1"
    (row,) = json.loads((tmp_path / f"{name}.json").read_text())["rows"]
    finished = tmp_path / row["runs"] / "seed0" / "results.json"
    assert row["accuracies"] == [json.loads(finished.read_text())["test"]["accuracy"]]
    assert row["train_images"] + row["validation_images"] == 30
    before = finished.stat().st_mtime_ns
    COMMAND.main(given)
    assert finished.stat().st_mtime_ns == before
    assert json.loads((tmp_path / f"{name}.json").read_text())["rows"] == [row]


@pytest.mark.slow
def test_a_learning_curve_is_one_command(tmp_path):
    """Each seed learns from images of its own, of all classes alike, also of a file."""
    path = tmp_path / "some.npz"
    data.digits().first(200, 40).save(path)
    given = ["--rows", f"mozafari2018:{path}", "--train_images", "20", "30", "--test_images", "20", "--seeds", "2"]
    COMMAND.main([*given, "--epochs", "1", "1", "1", "--out", tmp_path / "out"])
    (table,) = (tmp_path / "out").glob("*.json")
    rows = json.loads(table.read_text())["rows"]
    assert [row["train_images"] + row["validation_images"] for row in rows] == [20, 30]
    assert all(row["row"]["drawn"] and row["interval95"] for row in rows)
    assert table.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert "Drawn: each seed draws the images counted" in table.with_suffix(".md").read_text()
    runs = [tmp_path / "out" / rows[0]["runs"] / f"seed{seed}" / "results.json" for seed in (0, 1)]
    one, other = (json.loads(run.read_text())["settings"] for run in runs)
    assert one["draw"]
    assert other["draw"]
    assert one["seed"] != other["seed"]


def test_each_option_of_a_row_reaches_its_runs(tmp_path):
    row = Row(NCG, protocols.JPEG, train_images=100, native=False, epochs=(3, 4))
    given = results.Results(data_dir=("cifar10-jpeg=pictures.zip",), out=tmp_path, test_images=50)
    run = results.options_of(row, 3, given)
    assert (run.network.model, run.data.dataset, str(run.data.data_dir)) == (NCG, "folder", "pictures.zip")
    assert (run.data.colour, run.data.train_images, run.data.test_images) == (True, 100, 50)
    assert (run.training.epochs, run.training.seed) == ((3, 4), 3)
    changed = dataclasses.replace(row, mirror=True, update_batch=8, labels=20)
    other = results.options_of(changed, 0, given)
    assert (other.training.mirror, other.training.update_batch, run.training.mirror) == (True, 8, False)
    assert (other.data.labels, run.data.labels) == (20, None)
    assert (run.data.validation, other.data.validation) == (0.1, 0.1)
    single = results.options_of(dataclasses.replace(row, train_images=10), 0, given)
    assert single.data.validation == 0, "a class has a single image"
    assert (run.machine.kernels, run.run.resume) == ("xla", True)
    assert run.run.out == tmp_path / results.name_of(row, 50) / "seed3"
    assert results.name_of(row) == f"{NCG}_cifar10-jpeg_100_xla_3_4", "folders of earlier versions are found"
    for name, rows in TABLES.items():
        assert len({results.name_of(row) for row in rows}) == len(rows), f"folders of {name}"


def test_a_table_has_intervals_published_figures_and_a_picture(tmp_path):
    phases = [dict(name="R-STDP", compile_seconds=3.0, images_per_second=10_000.0)]
    run = dict(seconds=50.0, epochs=[{}] * 7, phases=phases, device="cpu", versions={})
    records = []
    for row, images, accuracies in (
        (Row(NCG, "mnist", least=98.9), 54_000, (0.987, 0.989)),
        (Row(NCG, "mnist", train_images=10_000), 9_000, (0.97,)),
        (Row("deep2024", "mnist", native=False), 54_000, (0.9,)),
    ):
        run["settings"] = dict(train_images=images, validation_images=images // 9, test_images=10_000)
        records.append(results.record_of(row, [run | dict(test=dict(accuracy=each)) for each in accuracies]))
    results.write(tmp_path, "table", records)
    lines = (tmp_path / "table.md").read_text().splitlines()
    half = 12.706205 * 0.1  # of Student's t with one degree of freedom, times the standard error in %
    assert lines[2] == f"| {NCG} | mnist | 54,000 | 98.80 ± {half:.2f} | 2 | 98.92 [1], 96.7 [2] | 50 | native |"
    assert lines[4] == "| deep2024 | mnist | 54,000 | 90.00 | 1 |  | 50 | XLA |"
    assert sum("mnist is below the 98.9 %" in line for line in lines) == 1
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".md", ".png", ".txt"}
    assert list(results.courses_of(records)) == [f"{NCG}, mnist"], "of another network there is one number of images"


def test_the_files_of_own_rows_are_named_briefly():
    """Without folders, and after each network and data set once."""
    given = results.Results(rows=("/some/folder/OWN.py:net:digits", "own.py:other:/data/my.npz"), labels=(10, 20))
    rows = [results.row_of(text) for text in given.rows]
    twice = [row for row in rows for _ in given.labels]
    assert results.table_of(given, twice) == "OWN-py-net-digits_own-py-other-my-npz_labels10_labels20"


def test_the_picture_of_labels_has_them_below():
    row = dict(folder="", dataset="digits", mirror=False, labels=10, train_images=None, drawn=True, update_batch=1)
    record = dict(row=row, mean=0.9, interval95=(0.7, 1.1), train_images=9, validation_images=1, published=[])
    figure = results.images_picture({"network": [record, record | dict(train_images=90)]})
    (axis,) = figure.axes
    assert axis.get_xlabel() == "labelled images"
    assert axis.get_ylim()[1] == 100, "an interval may be wider than what can be"


def test_bad_options_end_with_one_line(tmp_path, capsys):
    for wrong, message in (
        ("--table mnis", "`table` must be one of digits, mnist, .*, got 'mnis'"),
        ("--rows mozafari:mnist", "`model` must be one of mozafari2018, .*, got 'mozafari'"),
        ("--rows mozafari2018:digit", "`rows` must be one of digits, .*, got 'digit'"),
        ("--rows mozafari2018", "`rows` must be MODEL:DATASET, got 'mozafari2018'"),
        ("--rows mozafari2018:folder", "`data_dir` must say where folder is, as folder=DIR"),
        ("--data_dir here", "`data_dir` must be SET=DIR, .*, got 'here'"),
        ("--seeds 0", "`seeds` must be at least 1, got 0"),
    ):
        assert re.search(message, refused(COMMAND, capsys, *wrong.split(), "--out", tmp_path / "out"))
        assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_runs_are_compared_and_kept(tmp_path):
    given = ["--dataset", "digits", "--model", "mozafari2018", "--seeds", "2", "--reward_epochs", "2"]
    REPLICATE.main([*given, "--train_images", "40", "--test_images", "20", "--out", tmp_path])
    images = data.load(tmp_path / "digits_40_20.npz")
    assert images.digest == data.digits().first(40, 20, in_order=True).digest, "not of all classes alike"
    (row,) = json.loads((tmp_path / "replication.json").read_text())["networks"]
    assert np.shape(row["test"]["seeds"]) == (2, 2)
    np.testing.assert_allclose(row["test"]["mean"], np.mean(row["test"]["seeds"], axis=0))
    assert row["train"]["reference"] == [], "the recorded run is of other data"
    assert (tmp_path / "replication.png").read_bytes().startswith(b"\x89PNG")
    assert "mozafari2018" in (tmp_path / "replication.txt").read_text()


def test_the_recorded_run_is_compared_under_its_protocol_alone():
    reference = json.loads(replicate.REFERENCE.read_text())
    assert reference["networks"].keys() == {*names.RECORDED} <= NETWORKS.keys()
    recorded = reference["networks"]["mozafari2018"]
    epochs = [
        dict(train=dict(accuracy=train), test=dict(accuracy=test + 0.01))
        for train, test in zip(recorded["train"], recorded["test"], strict=True)
    ]
    ours = [dict(epochs=epochs, phases=[dict(seconds=50, compile_seconds=10)])]
    row = replicate.compare("mozafari2018", ours, reference, replicate.Replicate())
    np.testing.assert_allclose(row["test"]["gap"], -0.01)
    assert (row["seconds"], row["test"]["sd"]) == (60, None)
    row = replicate.compare("mozafari2018", ours, reference, replicate.Replicate(update_batch=64))
    assert row["test"]["reference"] == []
