"""Runs each measured program in a separate process, so that thread pools are separate too.

The process runs this file and loads only the program that it measures. A `multiprocessing.Process` would import the
main module of the parent, and with it JAX.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import pkgutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Learning(NamedTuple):
    """A learning phase."""

    name: str
    stage: int
    layer: str  # the last layer if the phase is rewarded
    branch: tuple[int, ...]  # its number, if the stage has several
    rewarded: bool


class Task(NamedTuple):
    """The task of the programs compared with snnjax: the same images, and the weights that snnjax has learned."""

    network: str
    classes: int
    time_steps: int
    stages: int
    learning: list[Learning]  # in the order of a training run
    images: np.ndarray  # (N + M, H, W) training images, then test images
    latencies: np.ndarray  # (N + M, C, H, W) uint8, as snnjax encodes them
    labels: np.ndarray  # (N,)
    test_labels: np.ndarray  # (M,)
    weights: dict[str, np.ndarray]  # by the name of the layer in the PyTorch program
    adapt_every: int  # of the reward phase


@dataclasses.dataclass
class Work:
    """One phase of one program."""

    images: int  # number of images of one run
    run: Callable[..., Any]  # the timed function, called with the arguments that `prepare` returns
    prepare: Callable[[], tuple[Any, ...]] = tuple  # fresh arguments: all repeats start from the same weights
    outcome: Callable[[Any], Any] = np.asarray  # the part of the result on which all programs should agree
    initial: Callable[[], Any] = lambda: None  # the outcome if nothing were learned: the initial weights
    compile_seconds: float = 0.0  # spent before the measurement
    unit: int = 0  # number of images at a time in a learning phase of snnjax
    once: bool = False  # whether the result serves all epochs; other programs recompute it
    result: Any = None  # the result of the last run


class MeasuredProgram:
    """Base class of measured programs; `phases` prepares the phases for a task, by name."""

    about: dict[str, Any]  # versions and device
    phases: Callable[[Any], dict[str, Work]]
    clock = staticmethod(time.perf_counter)

    def prepare(self, task: Any) -> dict[str, dict[str, Any]]:
        """Prepares the phases; returns their images, compile_seconds and once."""
        self.works = self.phases(task)
        keys = ("images", "compile_seconds", "once")
        return {phase: {key: getattr(work, key) for key in keys} for phase, work in self.works.items()}

    def measure(self, phase: str) -> float:
        """The milliseconds per image of one run, until the device has finished its work."""
        work = self.works[phase]
        work.result = None
        arguments = work.prepare()
        start = self.clock()
        work.result = work.run(*arguments)
        self.finish(work.result)
        return (self.clock() - start) / work.images * 1e3

    def outcome(self, phase: str) -> np.ndarray:
        """The outcome of the last run."""
        return np.asarray(self.works[phase].outcome(self.works[phase].result))

    def initial(self, phase: str) -> np.ndarray | None:
        """The weights from which a phase starts, if it learns."""
        return self.works[phase].initial()

    def finish(self, result: Any) -> None:
        """Waits for the device, if calls return before the work is done."""


class Worker(contextlib.AbstractContextManager["Worker"]):
    """The connection of the parent process to a program.

    `kind` is "MODULE:CLASS", a `MeasuredProgram` that receives the arguments. Raises ValueError if the program refuses
    a request, and RuntimeError if it fails or ends.
    """

    def __init__(self, name: str, kind: str, *arguments: Any):
        self.name = name
        self.phases = dict[str, dict[str, Any]]()
        self._pipe, theirs = multiprocessing.Pipe()
        # Several programs may share an accelerator, and progress bars cost time.
        settings = dict(XLA_PYTHON_CLIENT_PREALLOCATE="false", TQDM_DISABLE="1", TF_CPP_MIN_LOG_LEVEL="3") | os.environ
        with theirs:
            command = [sys.executable, __file__, kind, str(theirs.fileno())]
            files = [theirs.fileno()]
            self._process = subprocess.Popen(command, pass_fds=files, stdout=subprocess.DEVNULL, env=settings)
        try:
            self.about: dict[str, Any] = self.ask("start", *arguments)
        except BaseException:
            self.__exit__()
            raise

    def prepare(self, task: Any) -> None:
        """Prepares the phases; afterwards, `phases` holds their images, compile_seconds and once."""
        self.phases = self.ask("prepare", task)

    def ask(self, question: str, *arguments: Any) -> Any:
        """Calls the method of this name of the program, and returns its answer."""
        try:
            self._pipe.send((question, arguments))
            answer = self._pipe.recv()
        except (EOFError, OSError) as broken:
            raise RuntimeError(f"{self.name} ended unexpectedly, with status {self._process.wait()}") from broken
        if isinstance(answer, Exception):
            raise type(answer)(f"{self.name}: {answer}")
        return answer

    def __exit__(self, *_: object) -> None:
        """Closes the connection, and waits for the process to end."""
        self._pipe.close()
        self._process.wait()


def serve(kind: str, pipe: Connection) -> None:
    """Answers the requests of the parent until it closes the connection."""
    program: Any = None
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            question, arguments = pipe.recv()
            try:
                if question == "start":
                    program = pkgutil.resolve_name(kind)(*arguments)
                    answer = program.about
                else:
                    answer = getattr(program, question)(*arguments)
            except (ValueError, ImportError, OSError) as refusal:
                missing = isinstance(refusal, ModuleNotFoundError)
                answer = ValueError(f"{refusal}: pip install 'snnjax[benchmark,spikenn]'" if missing else str(refusal))
            except Exception as failure:
                traceback.print_exc()
                answer = RuntimeError(f"{type(failure).__name__}: {failure}")
            pipe.send(answer)


if __name__ == "__main__":
    sys.path.insert(1, str(Path(__file__).parents[1]))  # measures this snnjax, even if another one is installed
    serve(sys.argv[1], Connection(int(sys.argv[2])))
