"""The mutants of tests/mutants, by which the strength of the suite is measured: they still fit the code."""

import csv
import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PATCHES = sorted((ROOT / "tests/mutants").glob("*.patch"))


def lines(patch: pathlib.Path, sign: str) -> list[str]:
    """The lines of a patch that it removes (-) or adds (+)."""
    text = patch.read_text().splitlines()
    return [line[1:] for line in text if line.startswith(sign) and not line.startswith(3 * sign)]


def test_each_is_noticed_by_a_test_that_there_is():
    with (ROOT / "tests/mutants/noticed.csv").open(newline="") as file:
        noticed = {row["mutant"]: row["test"] for row in csv.DictReader(file)}
    assert [*noticed] == [patch.stem for patch in PATCHES]
    for test in noticed.values():
        file, _, name = test.partition("::")
        assert f"def {name.partition('[')[0]}(" in (ROOT / file).read_text(), test


def test_each_says_what_it_breaks_and_changes_one_line():
    for patch in PATCHES:
        assert patch.read_text()[0].isalpha(), patch.name
        removed, added = lines(patch, "-"), lines(patch, "+")
        assert (len(removed), len(added)) == (1, 1), patch.name
        assert removed != added, patch.name


@pytest.mark.skipif(not shutil.which("git"), reason="no git")
def test_all_apply_to_the_code():
    outside = dict(os.environ, GIT_CEILING_DIRECTORIES=str(ROOT.parent))  # also where the tree lies in a repository
    command = ["git", "apply", "--check"]
    done = [subprocess.run([*command, str(x)], cwd=ROOT, env=outside, capture_output=True, text=True) for x in PATCHES]
    refused = {patch.stem: one.stderr for patch, one in zip(PATCHES, done, strict=True) if one.returncode}
    assert not refused
