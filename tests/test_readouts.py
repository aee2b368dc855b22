"""The benchmark of readouts and of SoftHebb layers on a few digits."""

import json
import os
import pathlib

import pytest
import throughput
from command import unboxed
from protocols import NARROW, NCG, S2STDP, SSTDP
from snnjax_program import TargetTimeReadout


def measured(out: pathlib.Path, *arguments: str) -> list[dict]:
    """What is measured of a few digits, by network."""
    few = ["--images", "40", "--repeats", "1", "--out", str(out), "--device", "cpu"]
    throughput.main(["--study", "readout", *few, *arguments])
    return json.loads((out / "throughput.json").read_text())["networks"]


@pytest.mark.slow
def test_phases_are_measured_on_both_kernels(tmp_path, capsys):
    (network,) = measured(tmp_path, "--model", NCG, "--kernels", "xla", "native")
    for program in ("snnjax", "snnjax, native"):
        assert tuple(row["phase"] for row in network["phases"] if row["program"] == program) == TargetTimeReadout.PHASES
    alike = {row["phase"]: row["alike"] for row in network["phases"] if row["program"] != "snnjax"}
    assert min(alike[phase] for phase in ("encode", "outputs", "learn", "test")) > 0.9
    table = (tmp_path / "throughput.md").read_text()
    assert f"| {NCG} | snnjax, ms an image |" in table
    assert table in capsys.readouterr().out


@pytest.mark.slow
def test_softhebb_layers_learn_in_one_pass(tmp_path):
    few = ["--model", NARROW, "--images", "20", "--repeats", "1", "--device", "cpu"]
    throughput.main(["--study", "softhebb", *few, "--out", str(tmp_path)])
    (network,) = json.loads((tmp_path / "throughput.json").read_text())["networks"]
    assert [row["phase"] for row in network["phases"]] == ["learn", "features"]


@pytest.mark.slow
@pytest.mark.parametrize("model", [NCG, S2STDP, SSTDP])
def test_spikenn_learns_and_decides_as_snnjax(tmp_path, model):
    if not (folder := os.environ.get("SNNJAX_SPIKENN")):
        pytest.skip("no checkout of github.com/ggoupy/SpikeNN: SNNJAX_SPIKENN names none")
    pytest.importorskip("numba")
    (network,) = measured(tmp_path, "--model", model, "--spikenn", folder)
    alike = {row["phase"]: row["alike"] for row in network["phases"] if row["program"] == "SpikeNN"}
    assert alike.keys() == {"learn", "test"}
    assert min(alike.values()) > 0.9


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--spikenn", "."], "is no checkout of ggoupy/SpikeNN"),
        (["--model", "mozafari2018"], "mozafari2018 is no readout by SupervisedSTDP on features by TargetTime"),
    ],
)
def test_bad_options_give_one_clear_line(arguments, complaint, capsys):
    with pytest.raises(SystemExit):
        throughput.main(["--study", "readout", *arguments])
    assert complaint in unboxed(capsys.readouterr().err)
