"""What all programs under measurement have in common: the work they are given, and how it is timed.

Imports no program, so that a process holds the one that it measures alone.
"""

import dataclasses
import time
from collections.abc import Callable
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
