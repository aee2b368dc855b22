"""Trains in child processes that kill themselves at given moments, until one gets to its end. Run by test_resume.py.

python killed.py FOLDER MOMENT...

A moment is PHASE:SECONDS after the start of a phase, or of a later one; or step:NAME:COUNT.

Everything is imported once and then forked, before JAX starts, so that a child takes little time.
"""

import os
import pathlib
import signal
import sys
import threading
import time
import traceback

from snnjax.app import console, plots
from snnjax.app.commands import train  # noqa: F401  (imported once, for all children)
from snnjax.app.main import main as command
from snnjax.core import files
from snnjax.runs import run_folder

PHASES = [
    "encode",
    "STDP layer1",
    "outputs of stage 1",
    "STDP layer2_1",
    "STDP layer2_2",
    "outputs of stage 2",
    "outputs of stage 2, validation",
    "R-STDP",
]
TINY = f"{pathlib.Path(__file__).parent / 'tiny.py'}"
OPTIONS = ["--model", f"{TINY}:branches", "--train_images", "40", "--test_images", "40", "--epochs", "1", "1", "5"]
OPTIONS += ["--batch_size", "20", "--patience", "0", "--device", "cpu"]

run_folder.PAUSE = 0
plots.png = lambda figure: b"a picture, which takes longer to draw than all the rest"


def die() -> None:
    """As if the power had failed."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def die_in_phase(name: str, seconds: float) -> None:
    """Arranges for the end so many seconds after a phase, or the first one after it, has begun."""
    started = console.Bars.started

    def start(self, phase, images):
        started(self, phase, images)
        tested = phase.endswith(", validation")
        if PHASES.index("outputs of stage 2, validation" if tested else phase) >= PHASES.index(name):
            threading.Timer(seconds, die).start()

    console.Bars.started = start


def die_in_step(step: str, count: int) -> None:
    """Arranges for the end before the count-th time that a file is written, synced or renamed."""
    module = dict(savez=files.np, fsync=os, replace=pathlib.Path, link=os)[step]
    real, left = getattr(module, step), [count]

    def call(*args, **settings):
        left[0] -= 1
        if left[0] < 0:
            if step == "savez":
                args[0].write(b"half of it")
                args[0].flush()
            die()
        return real(*args, **settings)

    setattr(module, step, call)


def child(folder: str, moment: str) -> None:
    """One training, from where the one before has ended."""
    if moment:
        place, *rest = moment.split(":")
        die_in_step(rest[0], int(rest[1])) if place == "step" else die_in_phase(place, float(rest[0]))
    resume = ["--resume"] if os.path.isdir(folder) else []
    command(["train", *OPTIONS, "--out", folder, *resume])


def main() -> None:
    """Says what became of each child."""
    folder, *moments = sys.argv[1:]
    for moment in [*moments, ""]:
        pid = os.fork()
        if pid == 0:
            out = os.open(os.devnull, os.O_WRONLY)
            os.dup2(out, 1)
            try:
                child(folder, moment)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        print(f"{moment or 'end'}={os.waitstatus_to_exitcode(status)}", flush=True)


if __name__ == "__main__":
    main()
