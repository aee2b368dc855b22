"""The commands, called in this process as from the command line."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import pytest

from snnjax import __version__
from snnjax.app.main import main


class Command(NamedTuple):
    """A command by its name."""

    name: str

    def main(self, arguments: Sequence[object]) -> None:
        main([self.name, *map(str, arguments)])


def refused(command: Command, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What is said when a command is refused: one line, or a box where the command line itself is wrong."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    out, err = capsys.readouterr()
    assert caught.value.code == 2
    said = [line for line in out.splitlines() if not line.startswith("data: ")]  # where the run says that they are
    assert said in ([], [f"snnjax {__version__}"])
    if f"snnjax {command.name} --help" in err:
        return unboxed(err)
    assert err.startswith(f"snnjax {command.name}: "), err
    assert err.count("\n") == 1, err
    return err


def unboxed(text: str) -> str:
    """The words in a box, in one line."""
    return " ".join(re.sub("[│|]", " ", text).split())
