"""The benchmarks: short forms from end to end, what they refuse, and programs compiled for chips."""

import importlib.util
import json
import os
import pathlib

import accelerators
import executables
import pytest
import scaling
import throughput
from command import unboxed
from protocols import NARROW, NCG, S2STDP, SSTDP
from snnjax_program import TargetTimeReadout

PHASES = ["encode", "STDP 1", "outputs of stage 1", "STDP 2", "outputs of stage 2", "R-STDP", "test"]
COMPILERS = {"h100": "jax_plugins.xla_cuda13", "v5e": "libtpu"}


def measured(out: pathlib.Path, *arguments: str) -> dict:
    """What is measured of a network on a few digits."""
    throughput.main([*arguments, "--repeats", "1", "--device", "cpu", "--out", str(out)])
    (network,) = json.loads((out / "throughput.json").read_text())["networks"]
    return network


@pytest.mark.slow
def test_the_short_form_leaves_json_and_a_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XLA_FLAGS", "")  # compiles as users do
    network = measured(tmp_path, "--short", "--images", "12", "--kernels", "xla", "native")
    for program in ("snnjax", throughput.NATIVE):
        assert [row["phase"] for row in network["phases"] if row["program"] == program] == PHASES
    alike = [row["alike"] for row in network["phases"] if row["program"] == throughput.NATIVE]
    assert min(alike) > 0.9, "compiled kernels learn and decide as the others"
    for row in network["phases"]:
        assert 0 < row["min"] <= row["ms_per_image"] <= row["max"]
    table = (tmp_path / "throughput.md").read_text()
    assert "| mozafari2018 | snnjax, ms an image |" in table
    assert table in capsys.readouterr().out


@pytest.mark.slow
def test_readouts_and_softhebb_layers_are_measured(tmp_path):
    readout = ["--study", "readout", "--images", "40", "--model", NCG, "--kernels", "xla", "native"]
    rows = measured(tmp_path / "readout", *readout)["phases"]
    assert [row["phase"] for row in rows if row["program"] == "snnjax"] == [*TargetTimeReadout.PHASES]
    alike = {row["phase"]: row["alike"] for row in rows if row["program"] == throughput.NATIVE}
    assert alike.keys() == {*TargetTimeReadout.PHASES}
    assert min(alike[phase] for phase in ("encode", "outputs", "learn", "test")) > 0.9
    softhebb = measured(tmp_path / "softhebb", "--study", "softhebb", "--images", "20", "--model", NARROW)
    assert [row["phase"] for row in softhebb["phases"]] == ["learn", "features"]


@pytest.mark.slow
@pytest.mark.parametrize("model", [NCG, S2STDP, SSTDP])
def test_spikenn_learns_and_decides_as_snnjax(tmp_path, model):
    if not (folder := os.environ.get("SNNJAX_SPIKENN")):
        pytest.skip("no checkout of github.com/ggoupy/SpikeNN: SNNJAX_SPIKENN names none")
    pytest.importorskip("numba")
    given = ["--study", "readout", "--images", "40", "--model", model, "--spikenn", folder]
    rows = measured(tmp_path, *given)["phases"]
    alike = {row["phase"]: row["alike"] for row in rows if row["program"] == "SpikeNN"}
    assert alike.keys() == {"learn", "test"}
    assert min(alike.values()) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("chip", COMPILERS)
def test_programs_are_compiled_for_a_chip(chip, tmp_path):
    if not importlib.util.find_spec(COMPILERS[chip].split(".")[0]):
        pytest.skip("the compilers are not installed")
    few = ["--model", "goupy2024_ncg", "--update_batch", "1"]
    accelerators.main(["--chips", chip, *few, "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "accelerators.json").read_text())["phases"]
    names = ["encode", "outputs of stage 1", "test", "TargetTime 1", "SupervisedSTDP"]
    assert {row["phase"]: row["together"] for row in rows} == dict(zip(names, [128, 128, 128, 1, 1], strict=True))
    assert all(row["kernels"] > 0 and row["mebibytes"] > 0 for row in rows)
    assert len((tmp_path / "accelerators.md").read_text().splitlines()) > len(rows)


def test_bad_options_give_one_clear_line(tmp_path, capsys, monkeypatch):
    def nothing(**_):
        raise NotImplementedError("topology not implemented")

    monkeypatch.setattr(executables.topologies, "get_topology_desc", nothing)
    monkeypatch.chdir(tmp_path)
    pathlib.Path("held").mkdir()
    pathlib.Path("held/throughput.json").write_text("{}")
    for module, arguments, complaint in (
        (throughput, "--images 0", "`images` must be at least 1, got 0"),
        (throughput, "--reference .", "is no checkout of aidinattar/snn"),
        (throughput, "--spyker --model deep2024", "`spyker` is measured with mozafari2018 only"),
        (throughput, "--short --out held", "already holds measurements"),
        (throughput, "--study readout --spikenn .", "is no checkout of ggoupy/SpikeNN"),
        (throughput, "--study readout --model mozafari2018 --out out", "is no readout by SupervisedSTDP on"),
        (scaling, "--model mozafari2018 --axes neurons", "`axes` must name some of mozafari2018"),
        (accelerators, "--chips v5e --out out", "no compiler for v5e: pip install -e '.[accelerators]'"),
        (accelerators, "--chips a100 --out out", "`chips` must be some of h100, v5e"),
    ):
        with pytest.raises(SystemExit, match="2"):
            module.main(arguments.split())
        assert complaint in unboxed(capsys.readouterr().err)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["held", "out", "throughput.json"]
