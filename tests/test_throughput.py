"""The benchmarks: short forms from end to end, the programs in their processes, and what they write."""

import json
import pathlib

import numpy as np
import pytest
import scaling
import throughput

PHASES = ["encode", "STDP 1", "outputs of stage 1", "STDP 2", "who fires in stage 2", "R-STDP", "test"]


@pytest.mark.slow
def test_the_short_form_leaves_json_a_table_and_a_figure(tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")  # compiles as users do
    few = ["--short", "--images", "12", "--repeats", "1", "--kernels", "xla", "native"]
    throughput.main([*few, "--out", str(tmp_path)])
    (network,) = json.loads((tmp_path / "throughput.json").read_text())["networks"]
    for program in ("snnjax", throughput.NATIVE):
        assert [row["phase"] for row in network["phases"] if row["program"] == program] == PHASES
    alike = [row["alike"] for row in network["phases"] if row["program"] == throughput.NATIVE]
    assert min(alike) > 0.9, "compiled kernels learn and decide as the others"
    for row in network["phases"]:
        assert 0 < row["min"] <= row["ms_per_image"] <= row["max"]
        assert row["compile_seconds"] > 0
        assert row["once"] == ("stage" in row["phase"])
    memory = network["memory"]["snnjax"]
    assert 2**26 < memory["loaded_bytes"] < memory["peak_bytes"]
    assert (tmp_path / "throughput.png").stat().st_size > 1000
    assert "| mozafari2018 | snnjax, ms an image |" in (tmp_path / "throughput.md").read_text()


def test_bad_options_give_one_clear_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("held").mkdir()
    pathlib.Path("held/throughput.json").write_text("{}")
    for module, arguments, complaint in (
        (throughput, "--images 0", "`images` must be at least 1, got 0"),
        (throughput, "--reference .", "is no checkout of aidinattar/snn"),
        (throughput, "--spyker --model deep2024", "`spyker` is measured with mozafari2018 only"),
        (throughput, "--short --out held", "already holds measurements"),
        (scaling, "--model mozafari2018 --axes neurons", "`axes` must name some of mozafari2018"),
    ):
        with pytest.raises(SystemExit, match="2"):
            module.main(arguments.split())
        assert complaint in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["held", "throughput.json"]


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
