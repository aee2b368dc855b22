"""Kernels are counted in an executable's text; where the compilers are installed, programs are compiled for chips."""

import importlib.util
import json

import accelerators
import executables
import pytest
from command import unboxed

COMPILERS = {"h100": "jax_plugins.xla_cuda13", "v5e": "libtpu"}
TEXT = """
HloModule jit_learn, is_scheduled=true, entry_computation_layout={(f32[8]{0})->f32[8]{0}}

%known_body (c: (s32[], f32[8])) -> (s32[], f32[8]) {
  %next = s32[] fusion(%at), kind=kLoop, calls=%fused
  %y = f32[8]{0} fusion(%x), kind=kLoop, calls=%fused, metadata={op_name="while/body (add)"}
  ROOT %both = (s32[], f32[8]{0}) tuple(%next, %y)
}

%known_condition (c.1: (s32[], f32[8])) -> pred[] {
  %at.1 = s32[] get-tuple-element(%c.1), index=0
  %five = s32[]{:T(128)} constant(5)
  ROOT %less = pred[] compare(%at.1, %five), direction=LT
}

%inner_body (d: (s32[], f32[8])) -> (s32[], f32[8]) {
  %product = (f32[8,8]{1,0:T(8,128)(2,1)S(1)}, s8[128]{0}) custom-call(%z, %z), custom_call_target="__cublas$gemm"
  ROOT %out = (s32[], f32[8]{0}) tuple(%z, %z)
}

%data_condition (e: (s32[], f32[8])) -> pred[] {
  %i = s32[] get-tuple-element(%e), index=0
  %n = s32[] get-tuple-element(%e), index=1
  ROOT %fewer = pred[] compare(%i, %n), direction=LT
}

%outer_body (g: (s32[], f32[8])) -> (s32[], f32[8]) {
  %total = f32[] reduce(%h, %h), dimensions={0}, to_apply=%add
  %w.0 = (s32[], f32[8]{0}) while(%g), condition=%known_condition, body=%known_body
  ROOT %w.1 = (s32[], f32[8]{0}) while(%w.0), condition=%data_condition, body=%inner_body
}

ENTRY %main (a: f32[8]) -> f32[8] {
  %b = f32[8]{0} bitcast(%a)
  %copy-start = (f32[8]{0}, f32[8]{0}, u32[]) copy-start(%b)
  %copy-done = f32[8]{0} copy-done(%copy-start)
  %w.2 = (s32[], f32[8]{0}) while(%t), condition=%data_condition, body=%known_body, config={"known_trip_count":{"n":"7"}}
  %w.3 = (s32[], f32[8]{0}) while(%w.2), condition=%data_condition, body=%outer_body
  ROOT %r = f32[8]{0} get-tuple-element(%w.3), index=1
}
"""


def test_kernels_are_counted_through_loops():
    """A copy; 7 turns of 2 kernels; then outer turns, each with a reduction, 5 turns of 2, and inner turns of 2."""
    for outer, inner in ((1, 0), (3, 4), (0.5, 64)):
        of_turn = 1 + 5 * 2 + inner * (1 + 1) + 1  # each turn of unknown number has its condition
        assert executables.kernels(TEXT, (outer, inner)) == 1 + 7 * 2 + outer * of_turn


def test_a_missing_compiler_is_named(tmp_path, capsys, monkeypatch):
    def nothing(**_):
        raise NotImplementedError("topology not implemented")

    monkeypatch.setattr(executables.topologies, "get_topology_desc", nothing)
    with pytest.raises(SystemExit):
        accelerators.main(["--chips", "v5e", "--out", str(tmp_path / "out")])
    assert "no compiler for v5e: pip install -e '.[accelerators]'" in unboxed(capsys.readouterr().err)


def test_another_chip_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        accelerators.main(["--chips", "a100", "--out", str(tmp_path / "out")])
    assert "`chips` must be some of h100, v5e, got a100" in unboxed(capsys.readouterr().err)


@pytest.mark.slow
@pytest.mark.parametrize("chip", COMPILERS)
def test_programs_are_compiled_for_a_chip(chip, tmp_path):
    if not importlib.util.find_spec(COMPILERS[chip].split(".")[0]):
        pytest.skip("the compilers are not installed")
    few = ["--model", "goupy2024_ncg", "--update_batch", "1", "--device", "cpu"]
    accelerators.main(["--chips", chip, *few, "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "accelerators.json").read_text())["phases"]
    together = {row["phase"]: row["together"] for row in rows}
    assert together == {
        "encode": 128,
        "outputs of stage 1": 128,
        "test": 128,
        "TargetTime 1": 1,
        "SupervisedSTDP": 1,
    }
    assert all(row["kernels"] > 0 and row["mebibytes"] > 0 for row in rows)
    assert len((tmp_path / "accelerators.md").read_text().splitlines()) > len(rows)
