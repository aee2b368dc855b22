"""Starts commands as several processes on this machine, as from several shells. Its networks are small."""

import os
import pathlib
import socket
import subprocess
import sys
from collections.abc import Sequence

from snnjax.layers.conv import WTA, Conv
from snnjax.learners import STDP, SupervisedSTDP
from snnjax.networks import Earliest, Network, stage

ROOT = pathlib.Path(__file__).parents[1]


def labelled(images) -> Network:
    """A small network with an STDP layer and a supervised one."""
    first = Conv(6, kernel=5, padding=2, threshold=15, competition=WTA(5, radius=3), learners=STDP(doubling=50))
    last = Conv(2 * images.classes, kernel=4, threshold=8, weight_mean=0.5, learners=SupervisedSTDP(0.05, -0.1))
    stages = stage(first, pool=7), stage(last)
    decision = Earliest(fallback=True)
    return Network("labelled", images.input_shape, images.classes, stages, decision=decision, epochs=(1, 1))


def start(folders: Sequence[pathlib.Path], command: Sequence[object], each: Sequence[Sequence[object]] = ()):
    """Starts `snnjax COMMAND` once in each folder, as processes of one training; `each` has more options for each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    environment = os.environ | dict(PYTHONPATH=str(ROOT))
    found = []
    for at, folder in enumerate(folders):
        folder.mkdir(parents=True, exist_ok=True)
        options = [*command, *(each[at] if each else ())]
        if len(folders) > 1:
            options += ["--distributed", address, len(folders), at]
        program = [sys.executable, "-m", "snnjax", *map(str, options)]
        streams = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        found.append(subprocess.Popen(program, cwd=folder, env=environment, text=True, **streams))
    return found


def ends(processes: Sequence[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """Status, output and messages of each, once all have ended."""
    found = [process.communicate() for process in processes]
    return [(process.returncode, *said) for process, said in zip(processes, found, strict=True)]
