"""Shared by the recipe programs: arguments, the clock, assignment of classes, and the result file.

It needs only NumPy, so that it runs in the environment of every simulator. Import it before the simulator, because
importing it limits the process to two threads.

A program has a budget of `--seconds`. By default, training may take 60 % of it, the responses from which classes are
assigned 15 %, and testing has what is left. A phase that is out of time ends early, and the result says how many images
it had. The responses of the training images for `--features` are computed afterwards, outside the measured time, with a
quarter of the budget again.
"""

import os

THREADS = 2
for _name in ("OMP", "MKL", "OPENBLAS", "NUMBA", "NUMEXPR"):
    os.environ[f"{_name}_NUM_THREADS"] = str(THREADS)
# OpenMP's threads spin while they wait. On an idle machine this makes PyTorch up to 1.6 times as fast; beside another
# busy program it costs a factor of 8.
if hasattr(os, "sched_setaffinity"):  # JAX has no setting of its own
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])

import argparse
import ast
import contextlib
import ctypes
import importlib.metadata
import json
import platform
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

# glibc returns large arrays to the kernel at once, and every time step faults them in again: 4 times slower at worst
# (SpikingJelly's outer products). These settings keep the memory; all simulators have them.
if hasattr(ctypes.CDLL(None), "mallopt"):
    ctypes.CDLL(None).mallopt(-4, 0)  # M_MMAP_MAX
    ctypes.CDLL(None).mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD

STARTED = time.perf_counter()
CLASSES = 10
ENDS = dict(train=0.6, label=0.75, test=1.0, features=1.25)  # of the budget


def arguments() -> argparse.Namespace:
    """The command line of every recipe program."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--images", type=Path, required=True, help="npz: train_images (N, 28, 28), train_labels, test_…"
    )
    parser.add_argument("--out", type=Path, required=True, help="the result, JSON")
    parser.add_argument("--seconds", type=float, default=600, help="the budget, without imports and features")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--features", type=Path, help="npz: train_features, train_labels, test_features, test_labels")
    parser.add_argument("--neurons", type=int, help="instead of the recipe's number, where it is an option")
    parser.add_argument("--batch", type=int, default=1, help="images at a time, where it is an option")
    parser.add_argument("--checkout", type=Path, help="a repository's folder, for simulators outside the registry")
    parser.add_argument("--network", help="the network, where the simulator has several")
    parser.add_argument("--untrained", action="store_true", help="a control without STDP; thresholds still adapt")
    parser.add_argument("--given", type=Path, help="npz of another recipe's --features, for a readout on them")
    return parser.parse_args()


class Run:
    """One measured run of a recipe."""

    def __init__(self, package: str | None, training: float = ENDS["train"], **about: Any):
        """`package` is the distribution's name in the registry; `about` are fields of the result.

        `training` is the share of the budget that training may take.
        """
        self.options = arguments()
        with np.load(self.options.images) as data:
            self.train_images = data["train_images"]
            self.train_labels = data["train_labels"].astype(int)
            self.test_images = data["test_images"]
            self.test_labels = data["test_labels"].astype(int)
        self.seed: int = self.options.seed
        self.rng = np.random.default_rng(self.seed)
        self.about = about
        self.package = package
        self.ends = ENDS | dict(train=training)
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.by_layer: dict[str, int] = {}
        self.learned: set[int] = set()
        self.planned: dict[str, int] = {}
        self.begin = 0.0
        self.converged = False

    def permutation(self) -> np.ndarray:
        """Indices of the training images in a random order."""
        return self.rng.permutation(len(self.train_labels))

    def presentations(self, published: int) -> np.ndarray:
        """Indices of the training images for as many presentations as the recipe is published with, or all once.

        Where the recipe had more images, these are shown several times, in a new order each time.
        """
        count = max(published, len(self.train_labels))
        return np.concatenate([self.permutation() for _ in range(-(-count // len(self.train_labels)))])[:count]

    def phase(self, name: str, order: np.ndarray, batch: int = 1) -> Iterator[np.ndarray]:
        """Yields indices, `batch` at a time, until all had their turn or the phase is out of time.

        Phases: train, label, test, features.
        """
        now = time.perf_counter()
        self.begin = self.begin or now
        if not self.seconds:
            self.about["setup_seconds"] = now - STARTED
        yield from self._until(name, order, batch, self.begin + self.ends[name] * self.options.seconds)

    def enough(self) -> None:
        """Ends the current phase after this batch by the recipe's own criterion; what is left was not planned then."""
        self.converged = True

    @contextlib.contextmanager
    def also(self, name: str) -> Iterator[None]:
        """Adds what runs inside to the time of this phase: a readout that is fitted, say."""
        start = time.perf_counter()
        cpu = time.process_time()
        yield
        self.seconds[name] = self.seconds.get(name, 0) + time.perf_counter() - start
        self.cpu_seconds[name] = self.cpu_seconds.get(name, 0) + time.process_time() - cpu

    def stages(
        self, layers: dict[str, float], order: np.ndarray, batch: int = 1, epochs: dict[str, int] | None = None
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Trains layers one after another; a layer may use its share of the training time that is left then."""
        now = time.perf_counter()
        self.begin = self.begin or now
        self.about["setup_seconds"] = now - STARTED
        end = self.begin + self.ends["train"] * self.options.seconds
        left = sum(layers.values())
        for name, share in layers.items():
            now = time.perf_counter()
            repeated = np.tile(order, (epochs or {}).get(name, 1))
            for index in self._until("train", repeated, batch, now + (end - now) * share / left, label=name):
                yield name, index
            left -= share

    def _until(self, name: str, order: np.ndarray, batch: int, end: float, label: str = "") -> Iterator[np.ndarray]:
        start = time.perf_counter()
        cpu = time.process_time()
        shown = start
        done = 0
        for first in range(0, len(order), batch):
            index = order[first : first + batch]
            yield index
            done += len(index)
            if name == "train":
                self.learned.update(index.tolist())
            now = time.perf_counter()
            if now - shown > 5:
                print(f"{name} {label} {done}/{len(order)} {now - start:.0f} s", file=sys.stderr, flush=True)
                shown = now
            if self.converged:
                order = order[:done]
            if now > end or self.converged:
                break
        self.converged = False
        self.seconds[name] = self.seconds.get(name, 0) + time.perf_counter() - start
        self.cpu_seconds[name] = self.cpu_seconds.get(name, 0) + time.process_time() - cpu
        self.counts[name] = self.counts.get(name, 0) + done
        if label:
            self.by_layer[label] = done
        self.planned[name] = self.planned.get(name, 0) + len(order)
        print(f"{name} {label} {done}/{len(order)} in {self.seconds[name]:.1f} s", file=sys.stderr, flush=True)

    def finish(
        self,
        predicted: np.ndarray,
        *,
        spikes: float | None = None,
        synops: float | None = None,
        **more: Any,
    ) -> None:
        """Writes the result.

        `predicted` are the classes of the first test images, `spikes` and `synops` events of a test image on average.
        Training that took longer than its share, because it could not be ended, is not finished.
        """
        tested = len(predicted)
        result = dict(self.about, version=importlib.metadata.version(self.package) if self.package else None)
        result |= dict(
            python=platform.python_version(),
            numpy=np.__version__,
            threads=THREADS,
            seed=self.seed,
            budget_seconds=self.options.seconds,
            train_images=len(self.learned),
            train_presentations=self.counts.get("train", 0),
            train_presentations_planned=self.planned.get("train", 0),
            train_presentations_by_layer=self.by_layer or None,
            label_images=self.counts.get("label"),
            test_images=tested,
            test_images_planned=len(self.test_labels),
            accuracy=float(np.mean(np.asarray(predicted) == self.test_labels[:tested])) if tested else None,
            train_seconds=self.seconds.get("train"),
            label_seconds=self.seconds.get("label"),
            test_seconds=self.seconds.get("test"),
            cpu_seconds=self.cpu_seconds,
            peak_memory_mb=peak_memory(),
            spikes_per_image=spikes,
            synops_per_image=synops,
            finished=tested == len(self.test_labels)
            and self.counts == self.planned
            and self.seconds["train"] <= self.ends["train"] * self.options.seconds,
            recipe_statements=recipe_statements(Path(sys.argv[0])),
            **more,
        )
        self.options.out.write_text(json.dumps(result, indent=1, default=float) + "\n")
        shown = ("train_images", "test_images", "accuracy", "finished")
        print(json.dumps({key: result[key] for key in shown}), file=sys.stderr)

    def save_features(self, index: np.ndarray, train: np.ndarray, test: np.ndarray) -> None:
        """Writes the responses of these training images and of the first test images, if asked for."""
        if not self.options.features:
            return
        np.savez(
            self.options.features,
            train_features=np.asarray(train, np.float32).reshape(len(train), -1),
            train_labels=self.train_labels[index[: len(train)]],
            test_features=np.asarray(test, np.float32).reshape(len(test), -1),
            test_labels=self.test_labels[: len(test)],
        )


def peak_memory() -> float:
    """The largest resident memory of this process, in MB.

    Not `ru_maxrss` where there is another way: on Linux it begins with the memory of the program that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def assign(counts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The class of each neuron (Diehl & Cook 2015): that to whose images it responds most on average, -1 if silent."""
    means = np.zeros((CLASSES, counts.shape[1]))
    for one in np.unique(labels):
        means[one] = counts[labels == one].mean(0)
    return np.where(means.any(0), means.argmax(0), -1)


def vote(counts: np.ndarray, assigned: np.ndarray) -> np.ndarray:
    """The class whose neurons respond most on average to each image, -1 if none responds."""
    means = np.zeros((CLASSES, len(counts)))
    for one in np.unique(assigned[assigned >= 0]):
        means[one] = counts[:, assigned == one].mean(1)
    return np.where(means.any(0), means.argmax(0), -1)


def recipe_statements(path: Path) -> int:
    """Statements between `# recipe` and `# end`, without docstrings, and those of `assign` and `vote` if it uses them.

    Statements, because lines depend on how a program is formatted.
    """
    source = path.read_text()
    marks = [number for number, line in enumerate(source.splitlines(), 1) if line.strip() in ("# recipe", "# end")]
    ranges = list(zip(marks[::2], marks[1::2], strict=True))
    own = sum(any(first < line < last for first, last in ranges) for line in statement_lines(ast.parse(source)))
    used = [
        part
        for part in ast.parse(Path(__file__).read_text()).body
        if isinstance(part, ast.FunctionDef) and part.name in ("assign", "vote") and f"recipe.{part.name}(" in source
    ]
    return own + sum(len(statement_lines(part)) for part in used)


def statement_lines(tree: ast.AST) -> list[int]:
    """The line of each statement, without docstrings."""
    found = [part for part in ast.walk(tree) if isinstance(part, ast.stmt)]
    return [part.lineno for part in found if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))]
