"""Breaks the code, one line at a time, and says which test notices, and after how many seconds.

    python tests/mutants/run.py                 all mutants, each by the test that noticed it last time
    python tests/mutants/run.py NAME ...        some of them

A mutant is a file NAME.patch in this folder: a line that says what is broken, then the diff of one line. It is applied
in a copy of the tracked files, where pytest stops at the first failure. `noticed.csv` records for each mutant the test
that noticed it. The file of that test runs first; if it passes, the fast suite, then the slow one. A test that fails
without the mutant too notices nothing: the script stops. The exit status is 1 if a mutant goes unnoticed.

To add a mutant, commit your work, since what is not committed would be lost. Then break a line as a contributor might,
without a look at the tests:

    (echo "What is broken"; git diff snnjax) > tests/mutants/NAME.patch
    git checkout snnjax
    python tests/mutants/run.py NAME --first tests/test_x.py
"""

import argparse
import contextlib
import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RECORD = HERE / "noticed.csv"
LONGEST = 3600  # seconds of a suite: one that takes longer hangs
APPLY = "tests/test_imports.py::test_mutants_apply"  # which no mutant passes
FAST, SLOW = (), ("-m", "slow")  # arguments of pytest


@contextlib.contextmanager
def copied(patch: Path | None) -> Iterator[Path]:
    """A temporary folder with the tracked files of this checkout, broken by a patch if one is given."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    with tempfile.TemporaryDirectory(prefix="mutant_") as folder:
        copy = Path(folder)
        for name in filter(None, tracked.split("\0")):
            if (ROOT / name).exists():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, copy / name)
        if patch:
            outside = dict(os.environ, GIT_CEILING_DIRECTORIES=str(copy.parent))  # in no repository
            done = subprocess.run(["git", "apply", str(patch)], cwd=copy, env=outside, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{patch.name} does not apply, make it anew: {done.stderr.strip()}")
        yield copy


def first_failure(copy: Path, *arguments: str) -> str:
    """The first test of a copy that fails, or that pytest takes too long; "" if all pass."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "--color=no",
        f"--deselect={APPLY}",
        *arguments,
    ]
    env = os.environ | dict(PYTHONPATH=str(copy))
    try:
        done = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True, timeout=LONGEST)
    except subprocess.TimeoutExpired:
        return f"pytest {' '.join(arguments)} takes more than {LONGEST} s"
    if done.returncode in (0, 5):  # 5: no tests
        return ""
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    if not failed:
        sys.exit(f"pytest names no test, and ends with status {done.returncode}:\n{done.stdout[-2000:]}{done.stderr}")
    return failed[1]


def noticed_by(patch: Path, recorded: str) -> tuple[str, tuple[str, ...]]:
    """The test that notices a mutant, "" if none does, and what pytest was given."""
    file = recorded.partition("::")[0]
    likely = [("-n", "0", file), ("-n", "0", file, *SLOW)] if (ROOT / file).is_file() else []
    with copied(patch) as copy:
        for arguments in (*likely, FAST, SLOW):
            if test := first_failure(copy, *arguments):
                return test, arguments
    return "", ()


def check_without_mutant(test: str, arguments: tuple[str, ...]) -> None:
    """Ends the script where a test fails, or pytest takes too long, although nothing is broken."""
    if not test:
        return
    if test.startswith("tests/"):
        arguments = ("-n", "0", "-m", "", test)
    with copied(None) as copy:
        if first_failure(copy, *arguments):
            sys.exit(f"this fails without the mutant too, mend it first: {test}")


def main() -> None:
    """Checks the mutants that are named, by default all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutants, by default all")
    parser.add_argument("--first", metavar="FILE", help="a file of tests to run first, by default the recorded one")
    chosen = parser.parse_args()
    patches = {path.stem: path for path in sorted(HERE.glob("*.patch"))}
    names = chosen.names or [*patches]
    if unknown := sorted({*names} - {*patches}):
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(patches)}")
    for name in names:
        counts = [len(re.findall(rf"^[{sign}](?![{sign}]{{2}})", patches[name].read_text(), re.M)) for sign in "-+"]
        if counts != [1, 1]:
            parser.error(f"{name}.patch must change one line, it removes {counts[0]} and adds {counts[1]}")
    record: dict[str, tuple[str, str]] = {}
    if RECORD.exists():
        with RECORD.open(newline="") as file:
            record = {name: (test, seconds) for name, test, seconds in csv.reader(file) if name in patches}
    noticed = 0
    for name in names:
        begin = time.perf_counter()
        test, arguments = noticed_by(patches[name], chosen.first or record.get(name, ("", ""))[0])
        seconds = f"{time.perf_counter() - begin:.0f}"
        print(f"{name:<30} {test or 'NOT NOTICED'}, {seconds} s", flush=True)
        check_without_mutant(test, arguments)
        record.pop(name, None)
        if test:
            record[name] = (test, seconds)
            noticed += 1
        with RECORD.open("w", newline="") as file:
            rows = sorted((mutant, *found) for mutant, found in record.items())
            csv.writer(file, lineterminator="\n").writerows([("mutant", "test", "seconds"), *rows])
    print(f"{noticed} of {len(names)} noticed")
    sys.exit(noticed < len(names))


if __name__ == "__main__":
    main()
