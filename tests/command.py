"""The commands, called in this process as from the command line."""

import csv
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest

from snnjax import __version__
from snnjax.app.main import main

ROOT = pathlib.Path(__file__).parents[1]
RUN = "runs/first"
"""The run in the folder of the fixture `work`."""
STATE = ["checkpoint.npz", "checkpoint.previous.npz", "history.csv"]
"""The files of a run that has not ended."""
ENVIRONMENT = os.environ | dict(PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))


class Command(NamedTuple):
    """A command by its name, or a script of the experiments, which has its own `main`."""

    name: str
    script: Any = None

    @property
    def program(self) -> str:
        return f"python experiments/{self.name}.py" if self.script else f"snnjax {self.name}"

    def main(self, arguments: Sequence[object]) -> None:
        given = list(map(str, arguments))
        self.script.main(given) if self.script else main([self.name, *given])


def called(capsys: pytest.CaptureFixture[str], name: str, *arguments: object) -> str:
    """What a command prints, in one line."""
    capsys.readouterr()
    Command(name).main(arguments)
    return " ".join(capsys.readouterr().out.split())


def read(folder: pathlib.Path | str) -> dict[str, Any]:
    """The results of a run."""
    return json.loads(pathlib.Path(folder, "results.json").read_text())


def table(path: str | pathlib.Path) -> list[dict[str, str]]:
    """The rows of a .csv file."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def begin(*arguments: object, **how: Any) -> subprocess.Popen:
    """Begins `snnjax` in a process of its own, which Ctrl-C stops; its output is piped."""
    program = [sys.executable, "-m", "snnjax", *map(str, arguments)]
    streams = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C
    try:
        return subprocess.Popen(program, env=ENVIRONMENT, **streams, **how)
    finally:
        signal.signal(signal.SIGINT, before)


def until(condition: Callable[[], object], *processes: subprocess.Popen) -> None:
    """Waits until a condition holds, five minutes at most; the processes must not end before, and end if it fails."""
    end = time.monotonic() + 300
    try:
        while not condition():
            assert time.monotonic() < end
            for process in processes:
                assert process.poll() is None, process.communicate()
            time.sleep(0.01)
    except BaseException:
        for process in processes:
            process.kill()
        raise


def refused(command: Command, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What is said when a command is refused: one line, or a box where the command line itself is wrong."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    out, err = capsys.readouterr()
    assert caught.value.code == 2
    said = [line for line in out.splitlines() if not line.startswith("data: ")]  # where the run says that they are
    assert said in ([], [f"snnjax {__version__}"])
    if f"{command.program} --help" in err:
        return unboxed(err)
    assert err.startswith(f"{command.program}: "), err
    assert err.count("\n") == 1, err
    return err


def unboxed(text: str) -> str:
    """The words in a box, in one line."""
    return " ".join(re.sub("[│|]", " ", text).split())
