"""The benchmark: its short form from end to end, the programs in their processes, and what it writes."""

import importlib.util
import json
import os
import pathlib
import time

import numpy as np
import pytest
import scaling
import throughput
from command import unboxed
from programs import MeasuredProgram, Work, Worker

from snnjax import data
from snnjax.app import plots
from snnjax.networks import mozafari2018
from snnjax.training.loop import Trainer
from snnjax.training.state import Settings

PHASES = ["encode", "STDP 1", "outputs of stage 1", "STDP 2", "who fires in stage 2", "R-STDP", "test"]
SPYKER = list(throughput.SPYKER)


def short(out: pathlib.Path, *arguments: str) -> dict:
    """What the short form measures of a few digits."""
    throughput.main(["--short", "--images", "12", "--repeats", "1", "--out", str(out), *arguments])
    return json.loads((out / "throughput.json").read_text())


def row(phase: str, program: str, ms: float, ratio: float | None = None, once: bool = False) -> dict:
    times = dict(ms_per_image=ms, min=ms, max=ms, ms=[ms], compile_seconds=1.0)
    return dict(phase=phase, program=program, ratio=ratio, alike=ratio and 1.0, once=once, **times)


def result(network: str = "mozafari2018", trained: bool = True) -> dict:
    """Of a network, as if measured beside the reference."""
    phases = [
        *(row("encode", "snnjax", 0.1), row("encode", "reference", 1.0, 10.0)),
        *(row("STDP 1", "snnjax", 0.2), row("STDP 1", "reference", 3.0, 15.0)),
        row("outputs of stage 1", "snnjax", 0.3, once=True),
        *(row("STDP 2", "snnjax", 0.5), row("STDP 2", "reference", 4.0, 8.0)),
        row("who fires in stage 2", "snnjax", 0.2, once=True),
        *(row("R-STDP", "snnjax", 1.0), row("R-STDP", "reference", 12.0, 12.0)),
        *(row("test", "snnjax", 2.0), row("test", "reference", 9.0, 4.5)),
    ]
    sizes = dict(peak_bytes=2**28, loaded_bytes=2**27, device_bytes=None)
    memory = dict(snnjax=sizes, reference=sizes)
    times = dict(program="snnjax", how="measured", seconds=30.0, ratio=None, compile_seconds=9.0)
    protocol = [times, dict(program="reference", how="added up", seconds=600.0, ratio=20.0)]
    single = throughput.in_one_epoch(phases)
    trained = protocol if trained else []
    return dict(network=network, phases=phases, in_one_epoch=single, protocol=trained, memory=memory)


def about() -> dict:
    versions, devices = dict(snnjax="0.1.0", jax="0.10"), dict(snnjax="cpu", reference="cpu: 2 threads")
    where = dict(dataset="digits", processor="a processor, 2 cores", date="2026-01-01")
    return dict(**where, images=(60, 50), repeats=3, versions=versions, devices=devices)


@pytest.mark.slow
def test_the_short_form_leaves_json_a_table_and_a_figure(tmp_path, capsys):
    written = short(tmp_path, "--kernels", "xla", "native")
    (network,) = written["networks"]
    assert network["network"] == "mozafari2018"
    for program in ("snnjax", throughput.NATIVE):
        assert [row["phase"] for row in network["phases"] if row["program"] == program] == PHASES
    alike = [row["alike"] for row in network["phases"] if row["program"] == throughput.NATIVE]
    assert min(alike) > 0.9, "compiled kernels learn and decide as the others"
    for row in network["phases"]:
        assert 0 < row["min"] <= row["ms_per_image"] <= row["max"]
        assert len(row["ms"]) == 1
        assert row["compile_seconds"] > 0
        assert row["once"] == ("stage" in row["phase"])
    memory = network["memory"]["snnjax"]
    assert 2**26 < memory["loaded_bytes"] < memory["peak_bytes"]
    assert written["about"]["images"] == [12, 12]
    assert {"python", "jax", "snnjax"} <= set(written["about"]["versions"])
    assert written["about"]["processor"]
    assert (tmp_path / "throughput.png").stat().st_size > 1000
    assert "| mozafari2018 | snnjax, ms an image |" in (tmp_path / "throughput.md").read_text()
    printed = capsys.readouterr().out
    assert "peak memory, snnjax" in printed
    with pytest.raises(SystemExit) as stopped:
        short(tmp_path)
    assert stopped.value.code == 2
    assert "already holds measurements" in capsys.readouterr().err


@pytest.mark.skipif(not importlib.util.find_spec("spyker"), reason="needs pip install 'snnjax[spyker]'")
def test_spyker_learns_and_decides_as_snnjax(tmp_path):
    (network,) = short(tmp_path, "--spyker")["networks"]
    shared = {(row["phase"], row["program"]): row["alike"] for row in network["phases"] if row["alike"] is not None}
    assert set(shared) == {(phase, program) for phase in PHASES if "stage" not in phase for program in SPYKER}
    for phase in ("STDP 1", "STDP 2", "R-STDP", "test"):
        assert shared[phase, SPYKER[0]] > 0.9
    assert shared["test", SPYKER[1]] > 0.9
    assert set(network["memory"]) == {"snnjax", *SPYKER}


def test_the_reference_learns_and_decides_as_snnjax(tmp_path):
    if not (folder := os.environ.get("SNNJAX_REFERENCE")):
        pytest.skip("no checkout of github.com/aidinattar/snn: SNNJAX_REFERENCE names none")
    pytest.importorskip("torch")
    (network,) = short(tmp_path, "--reference", folder)["networks"]
    shared = {row["phase"]: row["alike"] for row in network["phases"] if row["program"] == "reference"}
    assert set(shared) == {phase for phase in PHASES if "stage" not in phase}
    assert min(shared.values()) > 0.9


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--model", "vgg"], "`model` must be one of mozafari2018, "),
        (["--images", "0"], "`images` must be at least 1, got 0"),
        (["--repeats", "0"], "`repeats` must be at least 1, got 0"),
        (["--protocol", "-1"], "`protocol` must be at least 0, got -1"),
        (["--device", "abacus"], "invalid choice 'abacus' for argument '--device'"),
        (["--reference", "."], "is no checkout of aidinattar/snn"),
        (["--spyker", "--model", "deep2024"], "`spyker` is measured with mozafari2018 only"),
        (["--quickly"], "Unrecognized options: --quickly"),
    ],
)
def test_bad_options_give_one_clear_line(arguments, complaint, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        throughput.main(arguments)
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert complaint in unboxed(error)
    assert error.count("\n") == 1 or "--help" in error
    assert not list(tmp_path.iterdir())


TOY = """
import os
import programs

class Program(programs.MeasuredProgram):
    def __init__(self, word):
        if word == "no":
            raise ValueError("it will not")
        self.about = dict(word=word)

    def phases(self, images):
        return {"add": programs.Work(images, sum, lambda: ([1, 2],), lambda total: [total], compile_seconds=3.0)}

    def finish(self, result):
        assert result == 3

    def device_memory(self):
        return 7

    def stumble(self):
        raise KeyError("lost")

    def die(self):
        os._exit(5)
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    (tmp_path / "toy.py").write_text(TOY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "toy:Program"


def test_a_worker_answers_and_measures(toy):
    with Worker("a toy", toy, "yes") as worker:
        assert worker.about == dict(word="yes")
        worker.prepare(10)
        assert worker.phases == {"add": dict(images=10, compile_seconds=3.0, once=False)}
        assert worker.ask("measure", "add") > 0
        assert worker.ask("outcome", "add").tolist() == [3]
        memory = worker.ask("memory")
        assert memory["device_bytes"] == 7
        assert 0 < memory["loaded_bytes"] <= memory["peak_bytes"] < 2**28  # its own, not that of these tests


def test_a_worker_tells_what_went_wrong_and_goes_on(toy):
    with pytest.raises(ValueError, match="a toy: it will not"):
        Worker("a toy", toy, "no")
    with Worker("a toy", toy, "yes") as worker:
        with pytest.raises(RuntimeError, match="a toy: KeyError: 'lost'"):
            worker.ask("stumble")
        worker.prepare(1)
        with pytest.raises(RuntimeError, match="a toy ended unexpectedly, with status 5"):
            worker.ask("die")


class Fake:
    """A worker whose phases take as long as told; notes whose turn it was."""

    def __init__(self, name: str, turns: list[tuple[str, str]], **ms: list[float]):
        self.name, self.turns, self.ms = name, turns, ms
        self.phases = {phase: dict(compile_seconds=0.0, once=False) for phase in ms}

    def ask(self, question: str, phase: str) -> object:
        if question == "initial":
            return None
        if question == "outcome":
            return np.array([1, 2, 3, 4 if self.name == "snnjax" else 5])
        self.turns.append((self.name, phase))
        return self.ms[phase].pop(0)


def test_programs_take_turns_and_the_first_round_does_not_count(monkeypatch):
    monkeypatch.setattr(throughput, "PAUSE", 0)
    turns: list[tuple[str, str]] = []
    ours = Fake("snnjax", turns, test=[9, 1, 2, 4], once=[9, 1, 1, 1])
    rows = throughput.measure([ours, Fake("other", turns, test=[90, 30, 10, 20])], 3)
    assert [name for name, phase in turns if phase == "test"] == ["snnjax", "other", "other", "snnjax"] * 2
    ours, theirs, once = rows
    assert (ours["ms_per_image"], ours["min"], ours["max"], ours["ratio"]) == (2, 1, 4, None)
    assert (theirs["ms"], theirs["ratio"], theirs["alike"]) == ([30, 10, 20], 10, 0.75)
    assert (once["phase"], once["program"]) == ("once", "snnjax")


def test_of_weights_only_those_that_changed_count():
    start = np.zeros(8)
    ours, theirs = start.copy(), start.copy()
    ours[:3], theirs[1:4] = 0.5, 0.5
    assert throughput.alike(ours, theirs, start) == 0.5
    assert throughput.alike(start, start, start) == 1.0
    assert throughput.alike(ours, theirs) == 0.75


def test_a_whole_training_is_added_up_from_its_phases():
    ms = {row["phase"]: row["ms_per_image"] for row in result()["phases"] if row["program"] == "reference"}
    total = throughput.added_up(ms, mozafari2018(), (2, 4, 20), train=6000, test=2000)
    assert total == pytest.approx(8 * 1 + 2 * 6 * 3 + 4 * 6 * 4 + 20 * 6 * 12 + 20 * 2 * 9)


@pytest.mark.slow
def test_a_whole_training_is_run_with_all_compilation(monkeypatch):
    few, spec = data.digits().first(12, 10), mozafari2018()
    monkeypatch.setattr(throughput, "PROTOCOL", (12, 10, 1))
    rows = result()["phases"]
    ours, theirs = throughput.whole_training(spec, few, rows, throughput.Options(protocol=1))
    assert 0 < ours["compile_seconds"] < ours["seconds"]
    assert ours["epochs"] == (2, 4, 1)
    trainer = Trainer(spec, few, Settings((2, 4, 1), batch_size=12, patience=0))
    assert ours["accuracy"] == trainer.run(trainer.initial_state()).epochs[-1]["test"]["accuracy"]
    assert theirs["ratio"] == pytest.approx(theirs["seconds"] / ours["seconds"])


def test_the_table_of_networks_by_phases():
    table = throughput.markdown([result(), result("majority2024", trained=False)], about())
    assert table.splitlines()[:8] == [
        "| network |  | encode | STDP 1 | STDP 2 | R-STDP | test | whole training |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| mozafari2018 | snnjax, ms an image | 0.1 | 0.2 | 0.5 | 1 | 2 | 30 s |",
        "|  | reference, times longer | 10.0 | 15.0 | 8.0 | 12.0 | 4.5 | 20.0 |",
        "|  | the same, one epoch alone |  |  | 5.0 | 8.0 |  |  |",
        "| majority2024 | snnjax, ms an image | 0.1 | 0.2 | 0.5 | 1 | 2 |  |",
        "|  | reference, times longer | 10.0 | 15.0 | 8.0 | 12.0 | 4.5 |  |",
        "|  | the same, one epoch alone |  |  | 5.0 | 8.0 |  |  |",
    ]
    for part in ("digits", "60 training and 50 test images", "3 repeats", "2 cores", "2026-01-01", "jax 0.10"):
        assert part in table.splitlines()[-2]
    assert table.splitlines()[-1].startswith("One epoch alone: ")


def test_the_table_tells_how_much_longer_than_compiled_kernels():
    found = result()
    for at, ours in reversed(list(enumerate(found["phases"]))):
        if ours["program"] == "snnjax":
            faster = row(ours["phase"], throughput.NATIVE, ours["ms_per_image"] / 4, 0.25, ours["once"])
            found["phases"].insert(at + 1, faster)
    found["protocol"].append(dict(found["protocol"][0], program=throughput.NATIVE, seconds=15.0, ratio=0.5))
    found["protocol"][-1]["ms_per_image"] = {"encode": 0.02, "R-STDP": 0.2, "outputs of stage 1": 0.1}
    sizes = found["memory"]["snnjax"]
    found["memory"] = {"snnjax": sizes, throughput.NATIVE: sizes, "reference": sizes}
    found["in_one_epoch"] = throughput.in_one_epoch(found["phases"])
    assert throughput.markdown([found], about()).splitlines()[2:7] == [
        "| mozafari2018 | snnjax, ms an image | 0.1 | 0.2 | 0.5 | 1 | 2 | 30 s |",
        "|  | snnjax, native, ms an image | 0.025 | 0.05 | 0.125 | 0.25 | 0.5 | 15 s |",
        "|  | in its whole training | 0.02 |  |  | 0.2 |  |  |",
        "|  | reference, times longer | 10.0 / 40.0 | 15.0 / 60.0 | 8.0 / 32.0 | 12.0 / 48.0 | 4.5 / 18.0 "
        "| 20.0 / 40.0 |",
        "|  | the same, one epoch alone |  |  | 5.0 / 20.0 | 8.0 / 32.0 |  |  |",
    ]


def test_what_is_done_once_is_counted_into_one_epoch():
    assert throughput.in_one_epoch(result()["phases"]) == {"reference": {"STDP 2": 5.0, "R-STDP": 8.0}}


def test_the_figure_shows_ratios_and_whole_trainings(tmp_path):
    figure = throughput.draw([result(), result("majority2024", trained=False)], "a title")
    plots.write(tmp_path / "figure.png", figure)
    assert (tmp_path / "figure.png").stat().st_size > 1000
    assert throughput.values_of(result(), "ratio")["reference"] == {
        "encode": 10.0,
        "STDP 1": 15.0,
        "STDP 2": 8.0,
        "R-STDP": 12.0,
        "test": 4.5,
        "whole training": 20.0,
    }


def test_work_is_timed_to_the_end_of_what_the_device_does(monkeypatch):
    finished = []

    def finish(result: int) -> None:
        time.sleep(0.02)
        finished.append(result)

    program = MeasuredProgram()
    program.works = {"add": Work(4, lambda start: start + 1, lambda: (1,), lambda result: [result])}
    monkeypatch.setattr(program, "finish", finish)
    assert program.measure("add") >= 20 / 4, "milliseconds an image"
    assert finished == [2]
    assert program.outcome("add").tolist() == [2]


def test_work_is_timed_by_the_clock_of_the_program():
    program = MeasuredProgram()
    program.clock = iter([1.0, 1.5]).__next__
    program.works = {"add": Work(4, lambda: 3)}
    assert program.measure("add") == 500 / 4


@pytest.mark.slow
def test_scaling_measures_a_point_of_each_network_and_counts_compilations(tmp_path):
    few = ["--axes", "features", "--points", "1", "--repeats", "1", "--images", "20", "--device", "cpu"]
    scaling.main([*few, "--kernels", "xla", "--out", str(tmp_path)])
    written = json.loads((tmp_path / "scaling.json").read_text())
    assert [(row["model"], row["axis"], row["value"], row["phase"]) for row in written["points"]] == [
        ("mozafari2018", "features", 50, "STDP 2"),
        ("mozafari2018", "features", 50, "R-STDP"),
        ("mozafari2018", "features", 50, "test"),
        ("goupy2024_ncg", "features", 32, "one patch"),
        ("goupy2024_ncg", "features", 32, "outputs"),
        ("goupy2024_ncg", "features", 32, "learn"),
        ("goupy2024_ncg", "features", 32, "test"),
    ]
    assert [counts["later"] for counts in written["compiled"].values()] == [0, 0]
    assert written["usual"]["goupy2024_ncg"]["images"] == 20
    assert written["about"]["kernels"] == "kernels of XLA"
    assert "| goupy2024_ncg | value | one patch | outputs | learn | test |" in (tmp_path / "scaling.md").read_text()
    assert (tmp_path / "scaling.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("model", "axis", "value", "parameters"),
    [
        ("mozafari2018", "features", 50, {"layer2.features": 50}),
        ("mozafari2018", "winners", 1, {"layer2.competition.winners": 1}),
        ("goupy2024_ncg", "features", 32, {"layer1.features": 32, "layer2.threshold": 50.0}),
        ("goupy2024_ncg", "neurons", 2, {"layer2.features": 20, "layer2.threshold": 200.0}),
        ("goupy2024_ncg", "patches", 300, {"layer1.learners.patches": 300}),
        ("goupy2024_ncg", "map_size", 56, {"layer2.kernel.0": 13, "layer1.learners.patches": 30}),
    ],
)
def test_scaling_varies_one_thing_of_a_network(model, axis, value, parameters):
    case = scaling.STUDIES[model].usual(20) | {axis: value}
    images = scaling.images_of(case, data.digits())
    assert images.train_images.shape == (20, case["map_size"], case["map_size"])
    known = scaling.network_of(model, case, images).hyperparameters()
    assert {name: known[name] for name in parameters} == pytest.approx(parameters)


@pytest.mark.parametrize("model", scaling.STUDIES)
def test_scaling_varies_time_steps_with_the_encoder(model):
    case = scaling.STUDIES[model].usual(20) | dict(time_steps=30)
    network = scaling.network_of(model, case, scaling.images_of(case, data.digits()))
    assert network.time_steps == network.encoder.time_steps == 30


@pytest.mark.parametrize("exponent", [-1, 0, 0.5, 1, 2])
def test_scaling_says_how_a_phase_grows(exponent):
    points = [dict(row("test", "snnjax", value**exponent / 7), value=value) for value in (1, 8, 32, 128)]
    assert scaling.growth(points) == pytest.approx(exponent)
    points = [dict(point, label="neurons", model="goupy2024_ncg") for point in points]
    content = dict(points=points, compiled=dict(goupy2024_ncg=dict(first=6, later=0)))
    _, (first, *_, last), notes = scaling.table_of("goupy2024_ncg", content)
    assert "first training: 6, in a longer one after it: 0." in notes
    assert first == ["neurons", "1", "0.143 (1.0)"]
    assert last[:2] == ["", "exponent"]
    assert float(last[2]) == pytest.approx(exponent)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--model", "deep2024"], "`model` must be one of mozafari2018, goupy2024_ncg, got 'deep2024'"),
        (["--axes", "feature"], "got 'feature': did you mean 'features'?"),
        (["--model", "mozafari2018", "--axes", "neurons"], "`axes` must name some of mozafari2018, got neurons"),
        (["--points", "0"], "`points` must be at least 1, got 0"),
        (["--kernels", "torch"], "invalid choice 'torch' for argument '--kernels'"),
    ],
)
def test_bad_options_of_scaling_give_one_clear_line(arguments, complaint, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        scaling.main([*arguments, "--out", str(tmp_path / "new")])
    assert stopped.value.code == 2
    assert complaint in unboxed(capsys.readouterr().err)
    assert not (tmp_path / "new").exists()
