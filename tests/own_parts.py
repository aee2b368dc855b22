"""Runs the examples of parts of one's own as their users might: kills some, goes on with them, loads them elsewhere.

python own_parts.py FOLDER EXAMPLE:CHECKPOINTS...    after which a child is killed, 0: not at all

Everything is imported once and then forked, before JAX starts, so that a child takes little time. Prints what became of
each child, and what a program of its own finds in the folders that they leave, as JSON.
"""

import contextlib
import importlib
import json
import os
import pathlib
import signal
import sys
import time
import traceback
from collections.abc import Callable

import jax
import numpy as np
import sklearn.datasets  # noqa: F401  (what the children need, imported once)

import snnjax
from snnjax.core.errors import InputError
from snnjax.data import digits
from snnjax.runs.run_folder import CheckpointFolder

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "experiments" / "examples"))


def die_after(count: int) -> None:
    """Arranges for the end, as if the power had failed, after so many checkpoints."""
    save, saved = CheckpointFolder._save_checkpoint, []

    def call(*args, **settings):
        save(*args, **settings)
        saved.append(None)
        if len(saved) == count:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)

    CheckpointFolder._save_checkpoint = call


def run(name: str, root: str, checkpoints: int) -> None:
    """Runs an example as `python NAME.py` does in this folder, killed after so many checkpoints."""
    if checkpoints:
        die_after(checkpoints)
    os.chdir(root)
    importlib.import_module(name).main()


def folder_of(name: str) -> str:
    """That an example writes to: "3_own_rule" to own_rule."""
    return name.split("_", 1)[1]


def load(names: list[str], root: str) -> None:
    """Loads what the examples leave, in a process that has run none of them."""
    found, data = {}, digits().first(None, 200)
    for name in names:
        try:
            snnjax.load(f"{root}/runs/{folder_of(name)}/run")
            refused = ""
        except InputError as error:
            refused = str(error)
        importlib.import_module(name)
        network = snnjax.load(f"{root}/runs/{folder_of(name)}/run")
        decisions = np.asarray(jax.jit(lambda images, network=network: jax.lax.map(network, images))(data.test_images))
        varied = snnjax.load(f"{root}/runs/{folder_of(name)}/sweep/weights_002.npz").spec.hyperparameters()
        found[name] = dict(refused=refused, accuracy=float(np.mean(decisions == data.test_labels)), varied=varied)
    print("loaded " + json.dumps(found), flush=True)


def forked(work: Callable[[], None]) -> int:
    """The exit status of a child that does some work."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    """Says what became of each child."""
    root, *words = sys.argv[1:]
    names = {}
    for word in words:
        name, checkpoints = word.split(":")
        names[name] = None
        with contextlib.redirect_stdout(sys.stderr):
            status = forked(lambda name=name, checkpoints=checkpoints: run(name, root, int(checkpoints)))
        print(f"{name} {checkpoints} {status}", flush=True)
    print(f"load 0 {forked(lambda: load([*names], root))}", flush=True)


if __name__ == "__main__":
    main()
