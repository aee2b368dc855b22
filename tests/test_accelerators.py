"""Kernels are counted in an executable's text; where the compilers are installed, programs are compiled for chips."""

import importlib.util
import json

import accelerators
import executables
import pytest
from command import unboxed

COMPILERS = {"h100": "jax_plugins.xla_cuda13", "v5e": "libtpu"}
TEXT = """
%body (c: (s32[], f32[8])) -> (s32[], f32[8]) {
  %next = s32[] fusion(%at), kind=kLoop, calls=%fused, metadata={op_name="while/body (add)"}
  %y = (f32[8,8]{1,0:T(8,128)(2,1)S(1)}, s8[128]{0}) custom-call(%z, %z), custom_call_target="__cublas$gemm"
  ROOT %both = (s32[], f32[8]{0}) tuple(%next, %y)
}
%known (c.1: (s32[], f32[8])) -> pred[] {
  %five = s32[]{:T(128)} constant(5)
  ROOT %less = pred[] compare(%at.1, %five), direction=LT
}
%data (e: (s32[], f32[8])) -> pred[] {
  ROOT %fewer = pred[] compare(%i, %n), direction=LT
}
%outer_body (g: (s32[], f32[8])) -> (s32[], f32[8]) {
  %w.0 = (s32[], f32[8]{0}) while(%g), condition=%known, body=%body
  ROOT %w.1 = (s32[], f32[8]{0}) while(%w.0), condition=%data, body=%body
}
ENTRY %main (a: f32[8]) -> f32[8] {
  %copy-start = (f32[8]{0}, f32[8]{0}, u32[]) copy-start(%b)
  %copy-done = f32[8]{0} copy-done(%copy-start)
  %w.2 = (s32[], f32[8]{0}) while(%t), condition=%data, body=%body, backend_config={"known_trip_count":{"n":"7"}}
  %w.3 = (s32[], f32[8]{0}) while(%w.2), condition=%data, body=%outer_body
  ROOT %r = f32[8]{0} get-tuple-element(%w.3), index=1
}
"""


@pytest.mark.parametrize(("outer", "inner"), [(1, 0), (3, 4)])
def test_kernels_are_counted_through_loops(outer, inner):
    """A copy; 7 turns of 2; then outer turns, each of 5 turns of 2, inner turns of 3, and a condition."""
    assert executables.kernels(TEXT, (outer, inner)) == 1 + 7 * 2 + outer * (5 * 2 + inner * 3 + 1)


@pytest.mark.parametrize(
    ("chip", "problem"),
    [("v5e", "no compiler for v5e: pip install -e '.[accelerators]'"), ("a100", "`chips` must be some of h100, v5e")],
)
def test_chips_without_a_compiler_are_named(chip, problem, tmp_path, capsys, monkeypatch):
    def nothing(**_):
        raise NotImplementedError("topology not implemented")

    monkeypatch.setattr(executables.topologies, "get_topology_desc", nothing)
    with pytest.raises(SystemExit):
        accelerators.main(["--chips", chip, "--out", str(tmp_path / "out")])
    assert problem in unboxed(capsys.readouterr().err)


@pytest.mark.slow
@pytest.mark.parametrize("chip", COMPILERS)
def test_programs_are_compiled_for_a_chip(chip, tmp_path):
    if not importlib.util.find_spec(COMPILERS[chip].split(".")[0]):
        pytest.skip("the compilers are not installed")
    few = ["--model", "goupy2024_ncg", "--update_batch", "1", "--device", "cpu"]
    accelerators.main(["--chips", chip, *few, "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "accelerators.json").read_text())["phases"]
    names = ["encode", "outputs of stage 1", "test", "TargetTime 1", "SupervisedSTDP"]
    assert {row["phase"]: row["together"] for row in rows} == dict(zip(names, [128, 128, 128, 1, 1], strict=True))
    assert all(row["kernels"] > 0 and row["mebibytes"] > 0 for row in rows)
    assert len((tmp_path / "accelerators.md").read_text().splitlines()) > len(rows)
