"""Starts commands as several processes on this machine, as from several shells."""

import os
import pathlib
import socket
import subprocess
import sys
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).parents[1]


def start(folders: Sequence[pathlib.Path], command: Sequence[object], each: Sequence[Sequence[object]] = ()):
    """Starts `snnjax COMMAND` once in each folder, as processes of one training; `each` has more options for each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    processes = []
    for at, folder in enumerate(folders):
        folder.mkdir(parents=True, exist_ok=True)
        options = [*command, *(each[at] if each else ())]
        if len(folders) > 1:
            options += ["--distributed", address, len(folders), at]
        program = [sys.executable, "-m", "snnjax", *map(str, options)]
        environment = os.environ | dict(PYTHONPATH=str(ROOT))
        streams = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        processes.append(subprocess.Popen(program, cwd=folder, env=environment, text=True, **streams))
    return processes


def ends(processes: Sequence[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """Status, output and messages of each, once all have ended."""
    said = [process.communicate() for process in processes]
    return [(process.returncode, *words) for process, words in zip(processes, said, strict=True)]
