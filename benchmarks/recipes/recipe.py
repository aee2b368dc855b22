"""The parts that all recipe programs share: arguments, the clock, assignment of classes, and the result file.

It needs only NumPy, so that it runs in the environment of every simulator. Import it before the simulator, because
importing it limits the process to two threads.

A program has a budget of `--seconds`. By default, training may use 60 % of it, computing the responses from which
classes are assigned 15 %, and testing the remaining time. A phase that runs out of time ends early, and the result
contains the number of its images. The responses to the training images for `--features` are computed afterwards,
outside the measured time, with an additional quarter of the budget.
"""

import os

THREADS = 2
for _name in ("OMP", "MKL", "OPENBLAS", "NUMBA", "NUMEXPR"):
    os.environ[f"{_name}_NUM_THREADS"] = str(THREADS)
# OpenMP's threads spin while they wait. On an idle machine this makes PyTorch up to 1.6 times as fast; beside another
# busy program it costs a factor of 8.
if hasattr(os, "sched_setaffinity"):  # JAX has no setting for the number of its threads
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

# glibc returns the memory of large arrays to the operating system at once, and every time step faults it in again,
# which is up to 4 times slower (SpikingJelly's outer products). These settings keep the memory, for all simulators.
if hasattr(ctypes.CDLL(None), "mallopt"):
    ctypes.CDLL(None).mallopt(-4, 0)  # M_MMAP_MAX
    ctypes.CDLL(None).mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD

STARTED = time.perf_counter()
CLASSES = 10
ENDS = dict(train=0.6, label=0.75, test=1.0, features=1.25)  # of the budget


def arguments() -> argparse.Namespace:
    """The parsed command line, whose options all recipe programs share."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--images", type=Path, required=True, help="npz with train_images (N, 28, 28), train_labels, test_…"
    )
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to which the result is written")
    parser.add_argument("--seconds", type=float, default=600, help="the budget, without imports and features")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--features", type=Path, help="npz to write train_features, train_labels, test_features and test_labels to"
    )
    parser.add_argument("--neurons", type=int, help="number of neurons, if the recipe has this option")
    parser.add_argument("--batch", type=int, default=1, help="images at a time, if the recipe has this option")
    parser.add_argument("--checkout", type=Path, help="a repository's folder, for simulators outside the registry")
    parser.add_argument("--network", help="the network, if the simulator has several")
    parser.add_argument("--untrained", action="store_true", help="run a control without STDP; thresholds still adapt")
    parser.add_argument("--given", type=Path, help="npz from another recipe's --features, on which to train a readout")
    return parser.parse_args()


class Run:
    """One measured run of a recipe."""

    def __init__(self, package: str | None, training: float = ENDS["train"], **about: Any):
        """`package` is the name of the simulator's distribution, and `about` are fields of the result.

        `training` is the share of the budget that training may use.
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
        """Indices of the training images for the `published` number of presentations, but at least one for each image.

        If there are fewer images than presentations, the images are shown several times, each time in a new order.
        """
        count = max(published, len(self.train_labels))
        return np.concatenate([self.permutation() for _ in range(-(-count // len(self.train_labels)))])[:count]

    def phase(self, name: str, order: np.ndarray, batch: int = 1) -> Iterator[np.ndarray]:
        """Yields the indices in `order`, `batch` at a time, until none is left or the phase runs out of time.

        `name` is train, label, test or features.
        """
        now = time.perf_counter()
        self.begin = self.begin or now
        if not self.seconds:
            self.about["setup_seconds"] = now - STARTED
        yield from self._until(name, order, batch, self.begin + self.ends[name] * self.options.seconds)

    def enough(self) -> None:
        """Ends the current phase after this batch, because the recipe's own stopping criterion is met.

        The remaining images then do not count as planned.
        """
        self.converged = True

    @contextlib.contextmanager
    def also(self, name: str) -> Iterator[None]:
        """Adds the time of the enclosed code to the time of a phase, for example when a readout is fitted."""
        start = time.perf_counter()
        cpu = time.process_time()
        yield
        self.seconds[name] = self.seconds.get(name, 0) + time.perf_counter() - start
        self.cpu_seconds[name] = self.cpu_seconds.get(name, 0) + time.process_time() - cpu

    def stages(
        self, layers: dict[str, float], order: np.ndarray, batch: int = 1, epochs: dict[str, int] | None = None
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Yields each layer's name with the indices of its training images, `batch` at a time, one layer after another.

        `layers` maps each layer to its share of the training time: the time that is left when a layer begins is divided
        among the remaining layers by their shares. `epochs` are the numbers of passes over `order`, by default 1.
        """
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

        `predicted` are the classes predicted for the first test images, `spikes` and `synops` are the mean numbers of
        spikes and of synaptic operations for a test image, and `more` are further fields. The result is `finished` if
        all phases had all planned images and training took no longer than its share, which not all recipes can ensure.
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
        """Writes the responses to the training images `index` and to the first test images, if asked for."""
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

    On Linux it is read from /proc, because `ru_maxrss` there begins with the memory of the parent process.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def assign(counts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The class to whose images each neuron responds most on average, -1 if it is silent (Diehl & Cook 2015)."""
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
    """The number of statements between `# recipe` and `# end`, without docstrings, with `assign` and `vote` if used.

    Statements are counted because the number of lines depends on how a program is formatted.
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
    """The line number of each statement, without docstrings."""
    found = [part for part in ast.walk(tree) if isinstance(part, ast.stmt)]
    return [part.lineno for part in found if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))]
