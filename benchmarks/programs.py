"""What all programs under measurement have in common: the work they are given, and how it is timed.

Imports no program, so that a process holds the one that it measures alone.
"""

import dataclasses
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

REFERENCES = {
    "mozafari2018": "MozafariMNIST2018",
    "deep2024": "DeepSNN",
    "deepr2024": "DeepRSNN",
    "deepr2024_2": "DeepRSNN2",
    "inception2024": "InceptionSNN",
    "majority2024": "MajoritySNN",
}
"""The reference's classes by the names of our networks."""


@dataclasses.dataclass(frozen=True)
class Learning:
    """One layer's STDP, or the reward phase: then `layer` is the last layer's name, and `rewarded` is true."""

    name: str
    stage: int
    layer: str
    branch: int
    branches: int
    rewarded: bool


@dataclasses.dataclass(frozen=True)
class Task:
    """What another program is to do after snnjax, on the same images and from the weights that snnjax has learned."""

    network: str
    classes: int
    time_steps: int
    stages: int
    learning: tuple[Learning, ...]  # the phases of a training, in order
    images: np.ndarray  # (N + M, H, W) the training images, then the test images
    latencies: np.ndarray  # (N + M, C, H, W) uint8, what snnjax encodes them to
    labels: np.ndarray  # (N,) of the training images
    test_labels: np.ndarray  # (M,)
    weights: dict[str, np.ndarray]  # by layer name
    batch_size: int  # images to a batch of the reward phase

    @property
    def waves(self) -> np.ndarray:
        """(N + M, T, C, H, W) uint8, the latencies as spikes that stay."""
        steps = np.arange(self.time_steps)[:, None, None, None]
        return (self.latencies[:, None] <= steps).astype(np.uint8)


@dataclasses.dataclass
class Work:
    """One phase of one program.

    Attributes:
      images: that one run goes over.
      run: what is timed, with the arguments that `prepare` returns.
      outcome: from what `run` returns to what all programs should agree on, an array.
      prepare: fresh arguments, with the weights that all repeats start from.
      compile_seconds: of tracing and compilation, which came before.
      once: its result serves all later epochs, while other programs compute it anew for each image.
    """

    images: int
    run: Callable[..., Any]
    outcome: Callable[[Any], Any] = np.asarray
    prepare: Callable[[], tuple[Any, ...]] = tuple
    compile_seconds: float = 0.0
    once: bool = False
    _result: Any = None

    def measure(self, finish: Callable[[Any], object]) -> float:
        """Runs once, to the end of the device's work that `finish` waits for: milliseconds an image."""
        self._result = None
        arguments = self.prepare()
        start = time.perf_counter()
        self._result = self.run(*arguments)
        finish(self._result)
        return (time.perf_counter() - start) / self.images * 1e3

    def last(self) -> np.ndarray:
        """The outcome of the last run."""
        return np.asarray(self.outcome(self._result))


class Program:
    """A program under measurement, in a process of its own: a `Worker` calls its methods by name.

    Attributes:
      about: what it is and where it runs.
      works: its phases by name, once `prepare(task)`, which each program has, has been called.
      loaded: bytes of memory before the first image.
    """

    about: dict[str, Any]
    works: dict[str, Work]
    loaded: int

    def phases(self) -> dict[str, dict[str, Any]]:
        """Of each phase images, compile_seconds and once."""
        keys = ("images", "compile_seconds", "once")
        return {phase: {key: getattr(work, key) for key in keys} for phase, work in self.works.items()}

    def measure(self, phase: str) -> float:
        """Milliseconds an image of one run."""
        return self.works[phase].measure(self.finish)

    def outcome(self, phase: str) -> np.ndarray:
        """The outcome of the last run."""
        return self.works[phase].last()

    def memory(self) -> dict[str, int | None]:
        """Bytes at most and before the first image, and at most on an accelerator."""
        return dict(peak_bytes=peak(), loaded_bytes=self.loaded, device_bytes=self.device_memory())

    def finish(self, result: Any) -> None:
        """Waits for the device, where calls return before the work is done."""

    def device_memory(self) -> int | None:
        """Bytes at most in use on an accelerator."""
        return None


def peak() -> int:
    """Bytes of memory that this process has had at most."""
    try:
        # Not ru_maxrss: on Linux a new process inherits that of the one that started it.
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
