"""The benchmarks and the script of tables: short forms from end to end, what they write and what they refuse."""

import dataclasses
import json
import pathlib
import re
import sys

import backpropagation
import local_errors
import microcontroller
import numpy as np
import protocols
import pytest
import results
import scaling
import throughput
from command import Command, refused, unboxed
from protocols import NARROW, NCG, TABLES, Row
from result_tables import accuracies, replication
from snnjax_program import TargetTimeReadout

from snnjax import cost, data
from snnjax.app import names
from snnjax.kernels import backend
from snnjax.networks import NETWORKS
from snnjax.runs import Trained

PHASES = ["encode", "STDP 1", "outputs of stage 1", "STDP 2", "outputs of stage 2", "R-STDP", "test"]


def measured(out: pathlib.Path, *arguments: str) -> dict:
    """What is measured of a network on a few digits."""
    throughput.main([*arguments, "--repeats", "1", "--device", "cpu", "--out", str(out)])
    (network,) = json.loads((out / "throughput.json").read_text())["networks"]
    return network


@pytest.mark.slow
def test_the_short_form_leaves_json_and_a_table(tmp_path, capsys):
    network = measured(tmp_path, "--short", "--images", "12", "--backend", "xla", "native")
    for program in (throughput.XLA, throughput.NATIVE):
        assert [row["phase"] for row in network["phases"] if row["program"] == program] == PHASES
    alike = {row["phase"]: row["alike"] for row in network["phases"] if row["program"] == throughput.NATIVE}
    # Of so few digits all inputs of the last layer fire: sums of 4,000 weights, of which rounding decides the largest.
    assert alike.pop("R-STDP") > 0.5, "compiled kernels learn by reward as the others, but for near ties"
    assert min(alike.values()) > 0.9, "compiled kernels learn and decide as the others"
    for row in network["phases"]:
        assert 0 < row["min"] <= row["ms_per_image"] <= row["max"]
    table = (tmp_path / "throughput.md").read_text()
    assert "| mozafari2018 | snnjax, XLA, ms per image |" in table
    assert table in capsys.readouterr().out


@pytest.mark.slow
def test_readouts_and_softhebb_layers_are_measured(tmp_path):
    readout = ["--study", "readout", "--images", "40", "--model", NCG, "--backend", "xla", "native"]
    rows = measured(tmp_path / "readout", *readout)["phases"]
    assert [row["phase"] for row in rows if row["program"] == throughput.XLA] == [*TargetTimeReadout.PHASES]
    alike = {row["phase"]: row["alike"] for row in rows if row["program"] == throughput.NATIVE}
    assert alike.keys() == {*TargetTimeReadout.PHASES}
    assert min(alike[phase] for phase in ("encode", "outputs", "learn", "test")) > 0.9
    softhebb = measured(tmp_path / "softhebb", "--study", "softhebb", "--images", "20", "--model", NARROW)
    assert [row["phase"] for row in softhebb["phases"]] == ["learn", "features"]
    by_default = throughput.XLA if backend.unavailable() else throughput.NATIVE
    assert {row["program"] for row in softhebb["phases"]} == {by_default}
    assert f"| {by_default}, ms per image |" in (tmp_path / "softhebb" / "throughput.md").read_text()


@pytest.mark.slow
def test_programs_run_on_an_emulated_processor(tmp_path, capsys):
    """They decide and learn as in Python, or the benchmark fails; divisions are not multiplications."""
    for package in ("unicorn", "ziglang", "elftools"):
        pytest.importorskip(package)
    from emulated import counted

    assert counted(bytes.fromhex("0120 4843 01fb0320 90fbf1f0")) == (4, 2)  # movs, muls, mla, sdiv
    options = "--images 2 --counted 1 --per_class 1 --floats soft --out"
    microcontroller.main([*options.split(), str(tmp_path)])
    for decides, learns in json.loads((tmp_path / "microcontroller.json").read_text())["columns"].values():
        assert len(decides) == 5, "nothing is learned"
        assert learns[0] < decides[0], "weights that learn are not in flash"
        assert learns[3] > learns[4] > 50_000, "multiplications of the encoder and of ten neurons"
        assert learns[5] > learns[6] > 3 * 3_200, "of each weight of a neuron: two to move it, and its square"
    assert (tmp_path / "microcontroller.md").read_text() in capsys.readouterr().out


@pytest.mark.slow
def test_backpropagation_learns_digits(tmp_path, capsys):
    out = tmp_path / "backpropagation"
    options = "--features 12 16 24 --epochs 6 --seeds 2 --out"
    backpropagation.main([*options.split(), str(out)])
    content = json.loads((out / "backpropagation.json").read_text())
    assert [trained["seed"] for trained in content["trained"]] == [0, 1]
    assert content["accuracy"]["mean"] > 0.8
    assert (out / "backpropagation.md").read_text() in capsys.readouterr().out


@pytest.mark.slow
def test_steps_of_local_errors_and_of_backpropagation_are_measured(tmp_path, capsys):
    local_errors.main(["--repeats", "1", "--out", str(tmp_path)])
    steps = json.loads((tmp_path / "local_errors.json").read_text())["steps"]
    assert [*steps] == ["layer1", "layer2", "layer3", "backpropagation"]
    # Positions, minibatch, features, inputs of a position; a multiplication and an addition.
    assert steps["layer1"]["operations"] == 32 * 32 * 128 * 48 * (3 * 5 * 5) * 2
    assert steps["layer3"]["operations"] == 8 * 8 * 128 * 384 * (96 * 3 * 3) * 2
    assert min(step["memory"] for step in steps.values()) > 0
    for name in ("layer1", "layer2", "layer3"):
        assert 0 < steps[name]["forward"] < steps[name]["gradient"]
    assert (tmp_path / "local_errors.md").read_text() in capsys.readouterr().out


def test_bad_options_give_one_clear_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "emulated", None)
    monkeypatch.chdir(tmp_path)
    pathlib.Path("held").mkdir()
    pathlib.Path("held/throughput.json").write_text("{}")
    for module, arguments, complaint in (
        (throughput, "--images 0", "`images` must be at least 1, got 0"),
        (throughput, "--short --out held", "already holds measurements"),
        (throughput, "--study readout --spikenn .", "is not a checkout of ggoupy/SpikeNN"),
        (throughput, "--study readout --model mozafari2018 --out out", "is not a SupervisedSTDP readout on"),
        (scaling, "--model mozafari2018 --axes neurons", "`axes` must name some of mozafari2018"),
        (local_errors, "--model softhebb_narrow", "`model` must have layers that learn by LocalError"),
        (backpropagation, "--epochs 0", "`epochs` must be at least 1, got 0"),
        (backpropagation, "--rate 0", "`rate` must be above 0, got 0"),
        (backpropagation, "--validation 0", "`validation` must be above 0"),
        (backpropagation, "--features 3 5", "`features` must"),
        (microcontroller, "--out out", "pip install 'snnjax[microcontroller]'"),
    ):
        with pytest.raises(SystemExit, match="2"):
            module.main(arguments.split())
        assert complaint in unboxed(capsys.readouterr().err)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["held", "out", "throughput.json"]


COMMAND = Command("results", results)
SHORT = Row("mozafari2018", "digits", train_images=30, test_images=20, backend="xla", epochs=(1, 1, 2), seeds=1)


@pytest.fixture
def table(monkeypatch, tmp_path):
    """Writes a table of one row, and reads its line."""

    def make(name, row):
        monkeypatch.setitem(TABLES, name, (row,))
        COMMAND.main(["--table", name, "--out", tmp_path])
        return json.loads((tmp_path / f"{name}.json").read_text())["rows"][0]

    return make


def test_each_option_of_a_row_reaches_its_runs(tmp_path):
    row = Row(NCG, protocols.JPEG, train_images=100, test_images=50, backend="xla", epochs=(3, 4))
    given = results.Results(data_dir=("cifar10-jpeg=pictures.zip",), out=tmp_path)
    run = results.options_of(row, 3, given)
    assert (run.network.model, run.data.dataset, str(run.data.data_dir)) == (NCG, "folder", "pictures.zip")
    assert (run.data.train_images, run.data.test_images) == (100, 50)
    assert (run.training.epochs, run.training.seed) == ((3, 4), 3)
    changed = dataclasses.replace(row, mirror=True, update_batch=8, labels=20)
    other = results.options_of(changed, 0, given)
    assert (other.training.mirror, other.training.update_batch, run.training.mirror) == (True, 8, False)
    assert (other.data.labels, run.data.labels) == (20, None)
    assert (run.data.validation, other.data.validation) == (0.1, 0.1)
    single = results.options_of(dataclasses.replace(row, train_images=10), 0, given)
    assert single.data.validation == 0, "a class has a single image"
    assert (run.machine.backend, run.run.resume) == ("xla", True)
    assert run.run.out == tmp_path / results.name_of(row) / "seed3"
    assert results.name_of(row) == f"{NCG}_cifar10-jpeg_100_xla_3_4_of50", "folders of earlier versions are found"
    for name, rows in TABLES.items():
        assert len({results.name_of(row) for row in rows}) == len(rows), f"folders of {name}"


def test_records_have_intervals_and_published_figures(tmp_path):
    phases = [dict(name="R-STDP", compile_seconds=3.0, images_per_second=10_000.0)]
    run = dict(seconds=50.0, epochs=[{}] * 7, phases=phases, device="cpu", versions={})
    records = []
    for row, images, shares in (
        (Row(NCG, "mnist", least=98.9), 54_000, (0.987, 0.989)),
        (Row(NCG, "mnist", train_images=10_000), 9_000, (0.97,)),
        (Row("deep2024", "mnist", backend="xla"), 54_000, (0.9,)),
    ):
        run["settings"] = dict(train_images=images, validation_images=images // 9, test_images=10_000)
        given = [run | dict(test=dict(accuracy=share)) for share in shares]
        records.append(accuracies.record_of(row, tmp_path, given))
    half = 12.706205 * 0.1  # of Student's t with one degree of freedom, times the standard error in %
    lines = [accuracies.line_of(record) for record in records]
    below = ", below the 98.9 % that it should reach"
    assert lines[0] == f"{tmp_path.name}: 98.80 ± {half:.2f}, sd 0.14 % of the test images, seeds: 2{below}"
    assert lines[2] == f"{tmp_path.name}: 90.00 % of the test images, seeds: 1"
    np.testing.assert_allclose(records[0]["interval95"], [0.988 - half / 100, 0.988 + half / 100], rtol=1e-6)
    assert [entry["accuracy"] for entry in records[0]["published"]] == [98.92, 96.7]
    assert (records[0]["train_images"], records[1]["interval95"], records[2]["published"]) == (54_000, None, [])


def test_bad_options_end_with_one_line(tmp_path, capsys):
    for wrong, message in (
        ("--table mnis", "`table` must be one of digits, mnist, .*, got 'mnis'"),
        ("--rows mozafari2018", "`rows` must be MODEL:DATASET, got 'mozafari2018'"),
        ("--rows mozafari2018:cifar10-jpeg", "`data_dir` must name the folder of cifar10-jpeg: cifar10-jpeg=DIR"),
        ("--table replication --rows goupy2024_ncg:mnist", "`rows` of replication must be some of mozafari2018:mnist"),
    ):
        assert re.search(message, refused(COMMAND, capsys, *wrong.split(), "--out", tmp_path / "out"))
        assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_recorded_runs_are_repeated_on_the_same_images(table, tmp_path):
    few = dict(dataset="digits", train_images=40, test_images=20, adapt_every=40, backend="xla", seeds=2)
    row = dataclasses.replace(protocols.recorded_run("mozafari2018"), **few)
    record = table("replication", row)
    images = data.load(tmp_path / "digits_40_20.npz")
    assert images.digest == data.digits().subset(40, 20, in_order=True).digest, "not of all classes alike"
    settings = json.loads((tmp_path / record["runs"] / "seed1" / "results.json").read_text())["settings"]
    assert (settings["train_images"], settings["shuffle"], settings["adapt_every"]) == (40, False, 40)
    assert np.shape(record["test"]["seeds"]) == (2, 4)
    np.testing.assert_allclose(record["test"]["mean"], np.mean(record["test"]["seeds"], axis=0))
    assert replication.line_of(record).endswith("seeds: 2; aidinattar/snn, one run: 79.2 %")


def test_replications_are_under_the_recorded_protocol(tmp_path):
    reference = json.loads(replication.REFERENCE.read_text())
    assert reference["networks"].keys() == {*names.RECORDED} <= NETWORKS.keys()
    assert [row.model for row in TABLES["replication"]] == [*reference["networks"]]
    for row in TABLES["replication"]:
        assert {name: getattr(row, name) for name in reference["protocol"]} == reference["protocol"]
    recorded = reference["networks"]["mozafari2018"]
    epochs = [
        dict(train=dict(accuracy=train), test=dict(accuracy=test + 0.01))
        for train, test in zip(recorded["train"], recorded["test"], strict=True)
    ]
    run = dict(epochs=epochs, phases=[dict(seconds=50, compile_seconds=10)])
    record = replication.record_of(TABLES["replication"][0], tmp_path, [run])
    np.testing.assert_allclose(record["test"]["gap"], -0.01)
    assert (record["seconds"], record["test"]["sd"]) == (60, None)
    assert replication.line_of(record).endswith(
        ": 80.2 % of the test images, seeds: 1; aidinattar/snn, one run: 79.2 %"
    )


@pytest.mark.slow
def test_networks_are_packed_with_their_cards_and_finished_runs_are_only_read(table, tmp_path):
    record = table("pretrained", SHORT)
    (finished,) = tmp_path.rglob("seed0/results.json")
    before = finished.stat().st_mtime_ns
    assert table("pretrained", SHORT) == record
    assert finished.stat().st_mtime_ns == before
    cards = json.loads((tmp_path / "packed" / "cards.json").read_text())
    assert dict(name="mozafari2018_digits", **cards["mozafari2018_digits"]) == record
    packed = Trained.read(tmp_path / "packed" / "mozafari2018_digits.npz")
    assert "data_dir" not in packed.settings
    test = data.digits()
    decisions = cost(packed.spiking_network(), test.test_images).decisions[:, -1]
    assert record["test_accuracy"] == np.mean(decisions == test.test_labels)
