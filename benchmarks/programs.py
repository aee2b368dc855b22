"""Measured programs, each in a separate process, so that thread pools are separate too.

Such a process runs this file (a `multiprocessing.Process` would import the parent's main module, and JAX with it) and
loads only the program that it measures.
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
    layer: str  # where rewarded, the last one
    branch: tuple[int, ...]  # its number, if the stage has several
    rewarded: bool


class Task(NamedTuple):
    """The task of the other programs after snnjax: the same images, and the weights that snnjax has learned."""

    network: str
    classes: int
    time_steps: int
    stages: int
    learning: list[Learning]  # in the order of a training
    images: np.ndarray  # (N + M, H, W) training images, then test images
    latencies: np.ndarray  # (N + M, C, H, W) uint8, as snnjax encodes them
    labels: np.ndarray  # (N,)
    test_labels: np.ndarray  # (M,)
    weights: dict[str, np.ndarray]  # by the PyTorch program's name of the layer
    adapt_every: int  # of the reward phase


@dataclasses.dataclass
class Work:
    """One phase of one program."""

    images: int  # of one run
    run: Callable[..., Any]  # what is timed, with the arguments that `prepare` returns
    prepare: Callable[[], tuple[Any, ...]] = tuple  # fresh arguments: all repeats start from the same weights
    outcome: Callable[[Any], Any] = np.asarray  # what all programs should agree on, from the result of `run`
    initial: Callable[[], Any] = lambda: None  # weights that have this outcome without learning
    compile_seconds: float = 0.0  # spent before
    unit: int = 0  # images at a time of a phase of snnjax that learns
    once: bool = False  # the result serves all epochs; the other programs compute it anew for each image
    result: Any = None  # of the last run


class MeasuredProgram:
    """Base of the classes `Program`, which prepare their phases for a task: `phases`, by name."""

    about: dict[str, Any]  # versions and device
    phases: Callable[[Any], dict[str, Work]]
    clock = staticmethod(time.perf_counter)

    def prepare(self, task: Any) -> dict[str, dict[str, Any]]:
        """Prepares the phases; returns their images, compile_seconds and once."""
        self.works = self.phases(task)
        keys = ("images", "compile_seconds", "once")
        return {phase: {key: getattr(work, key) for key in keys} for phase, work in self.works.items()}

    def measure(self, phase: str) -> float:
        """Milliseconds per image of one run by the clock, to the end of the device's work."""
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
        """The weights that a phase starts from, if it learns."""
        return self.works[phase].initial()

    def finish(self, result: Any) -> None:
        """Waits for the device, where calls return before the work is done."""


class Worker(contextlib.AbstractContextManager["Worker"]):
    """The parent's end of a program; ValueError if it refuses a request, RuntimeError if it fails or ends.

    `kind` is "MODULE:CLASS", a `MeasuredProgram` of these arguments.
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
        """Prepares the phases: `phases` then holds their images, compile_seconds and once."""
        self.phases = self.ask("prepare", task)

    def ask(self, question: str, *arguments: Any) -> Any:
        """The answer of the program's method of this name."""
        try:
            self._pipe.send((question, arguments))
            answer = self._pipe.recv()
        except (EOFError, OSError) as broken:
            raise RuntimeError(f"{self.name} ended unexpectedly, with status {self._process.wait()}") from broken
        if isinstance(answer, Exception):
            raise type(answer)(f"{self.name}: {answer}")
        return answer

    def __exit__(self, *_: object) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.wait()


def serve(kind: str, pipe: Connection) -> None:
    """Answers questions until the parent hangs up."""
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
    sys.path.insert(1, str(Path(__file__).parents[1]))  # measures this snnjax, even where another one is installed
    serve(sys.argv[1], Connection(int(sys.argv[2])))
