"""Shared by the recipe programs: arguments, the clock, assignment of classes, and the result file.

It needs only NumPy, so that it runs in the environment of every simulator. Import it before the simulator, because
importing it limits the process to two threads.

A program has a budget of `--seconds`. Training may take 60 % of it, the responses from which classes are assigned 15 %,
and testing has what is left. A phase that is out of time ends early, and the result says how many images it had. The
responses of the training images for `--features` are computed afterwards, with half the budget again, outside the
measured time.
"""

import os

THREADS = 2
for _name in ("OMP", "MKL", "OPENBLAS", "NUMBA", "NUMEXPR"):
    os.environ[f"{_name}_NUM_THREADS"] = str(THREADS)
# Threads that wait spin by default, and beside another busy program they cost PyTorch a factor of 8 here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if hasattr(os, "sched_setaffinity"):  # JAX has no setting of its own
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])

import argparse
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
ENDS = dict(train=0.6, label=0.75, test=1.0, features=1.5)  # of the budget


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
    parser.add_argument("--checkout", type=Path, help="a repository's folder, for simulators outside the registry")
    parser.add_argument("--network", help="the network, where the simulator has several")
    parser.add_argument("--given", type=Path, help="npz of another recipe's --features, for a readout on them")
    return parser.parse_args()


class Run:
    """One measured run of a recipe."""

    def __init__(self, package: str | None, **about: Any):
        """`package` is the distribution's name in the registry; `about` are fields of the result."""
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
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.by_layer: dict[str, int] = {}
        self.learned: set[int] = set()
        self.planned: dict[str, int] = {}
        self.begin = 0.0
        self.end = float("inf")  # of the current phase

    def permutation(self, epochs: int = 1) -> np.ndarray:
        """Indices of the training images, shuffled in each epoch."""
        return np.concatenate([self.rng.permutation(len(self.train_labels)) for _ in range(epochs)])

    def phase(self, name: str, order: np.ndarray, batch: int = 1) -> Iterator[np.ndarray]:
        """Yields indices, `batch` at a time, until all had their turn or the phase is out of time.

        Phases: train, label, test, features.
        """
        now = time.perf_counter()
        self.begin = self.begin or now
        if not self.seconds:
            self.about["setup_seconds"] = now - STARTED
        yield from self._until(name, order, batch, self.begin + ENDS[name] * self.options.seconds)

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
        end = self.begin + ENDS["train"] * self.options.seconds
        left = sum(layers.values())
        for name, share in layers.items():
            now = time.perf_counter()
            repeated = np.tile(order, (epochs or {}).get(name, 1))
            for index in self._until("train", repeated, batch, now + (end - now) * share / left, label=name):
                yield name, index
            left -= share

    def late(self) -> bool:
        """Whether the current phase is out of time: for recipes whose single batch takes minutes.

        A batch that is left early does not count as learned.
        """
        return time.perf_counter() > self.end

    def _until(self, name: str, order: np.ndarray, batch: int, end: float, label: str = "") -> Iterator[np.ndarray]:
        start = time.perf_counter()
        cpu = time.process_time()
        shown = start
        done = 0
        self.end = end
        self.cut = False
        for first in range(0, len(order), batch):
            index = order[first : first + batch]
            yield index
            if not self.cut:
                done += len(index)
                if name == "train":
                    self.learned.update(index.tolist())
            now = time.perf_counter()
            if now - shown > 5:
                print(f"{name} {label} {done}/{len(order)} {now - start:.0f} s", file=sys.stderr, flush=True)
                shown = now
            if now > end or self.cut:
                break
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
        """Writes the result; `predicted` are the classes of the first test images, `spikes` and `synops` their sums."""
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
            accuracy=float(np.mean(np.asarray(predicted) == self.test_labels[:tested])) if tested else None,
            train_seconds=self.seconds.get("train"),
            label_seconds=self.seconds.get("label"),
            test_seconds=self.seconds.get("test"),
            cpu_seconds=self.cpu_seconds,
            peak_memory_mb=peak_memory(),
            spikes_per_image=spikes / tested if spikes is not None and tested else None,
            synops_per_image=synops / tested if synops is not None and tested else None,
            finished=tested == len(self.test_labels) and self.counts.get("train") == self.planned.get("train"),
            recipe_lines=recipe_lines(Path(sys.argv[0])),
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


def recipe_lines(path: Path) -> int:
    """Lines of code between `# recipe` and `# end`, without blank lines and comments."""
    count = 0
    inside = False
    for line in map(str.strip, path.read_text().splitlines()):
        if line in ("# recipe", "# end"):
            inside = line == "# recipe"
        elif inside and line and not line.startswith("#"):
            count += 1
    return count
