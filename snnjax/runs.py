"""The folder of a run: what it leaves behind, and how it goes on."""

import contextlib
import csv
import fcntl
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np

from snnjax import checkpoint, metrics, plots
from snnjax.training.trainer import Trainer, TrainState

CHECKPOINT, RESULTS = "checkpoint.npz", "results.json"


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Keeps other runs out of a folder.

    Raises:
      FileExistsError: another run is in it.
    """
    lock = path / ".lock"
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FileExistsError(f"another run is writing into {path}: name another --out") from error
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


class RunFolder:
    """A folder that one run holds, from `open` to the end of the `with` block.

    Attributes:
      path: of the folder.
      state: where an earlier run into it stopped, if it is to go on.
      results: what results.json holds, once the run is finished; {} before.
    """

    def __init__(self, path: Path, settings: dict[str, Any], resume: bool):
        """Takes the folder, creating it.

        Raises:
          FileExistsError: it holds another run, and `resume` was not asked for; or another run holds it now.
          ValueError: what is to be resumed is damaged, or had other settings.
          OSError: the folder cannot be written.
        """
        self.path, self.settings = path, json.loads(json.dumps(settings))
        self.state: TrainState | None = None
        self.results: dict[str, Any] = {}
        held = [name for name in (RESULTS, CHECKPOINT) if (path / name).exists()]
        if held and not resume:
            raise FileExistsError(
                f"{path} already holds a run ({', '.join(held)}): go on with it by --resume, or name another --out"
            )
        if held == [RESULTS]:
            raise FileExistsError(f"{path} holds results but no {CHECKPOINT} to go on from: name another --out")
        if (path / CHECKPOINT).exists():
            self.state = self._stored()
            self.results = self._finished()
        if path.is_file():
            raise FileExistsError(f"{path} is a file, not a folder: name another --out")
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(f"{path} cannot be written")
        self._held = hold(path)
        self._held.__enter__()

    def _stored(self) -> TrainState:
        arrays, meta = checkpoint.load(self.path / CHECKPOINT)
        stored = meta.pop("settings")
        differ = [name for name in self.settings if stored.get(name) != self.settings[name]]
        if differ:
            changes = ", ".join(f"{name} {stored.get(name)} (now {self.settings[name]})" for name in differ)
            raise ValueError(f"the run in {self.path} cannot be resumed with other settings or data: it had {changes}")
        return TrainState.unflatten(arrays, meta)

    def _finished(self) -> dict[str, Any]:
        path = self.path / RESULTS
        try:
            return json.loads(path.read_text())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise ValueError(f"{path} is damaged: delete it, and --resume writes it anew") from error

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.__exit__(None, None, None)

    def save(self, state: TrainState) -> None:
        """Writes the checkpoint, and history.csv once there are reward epochs."""
        arrays, meta = state.flatten()
        checkpoint.save(self.path / CHECKPOINT, arrays, dict(meta, settings=self.settings))
        if state.epochs:
            self._write_history(state)

    def _write_history(self, state: TrainState) -> None:
        with checkpoint.beside(self.path / "history.csv") as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", "train_acc", "train_loss", "test_acc", "test_loss"])
            for record in state.epochs:
                parts = (record["train"], record["test"])
                writer.writerow([record["epoch"], *(part[key] for part in parts for key in ("accuracy", "wrong"))])

    def finish(self, trainer: Trainer, state: TrainState, device: jax.Device) -> None:
        """Tests the best network from images to decisions and writes weights, features and results."""
        best = state.best or state.weights
        decisions, potentials = trainer.judge(best, trainer.data.test_images)
        results = dict(
            settings=self.settings,
            versions=versions(),
            device=device_name(device),
            phases=state.phases,
            epochs=state.epochs,
            best_epoch=state.best_epoch,
            test=metrics.report(decisions, trainer.data.test_labels, potentials),
        )
        checkpoint.save(self.path / "weights.npz", best, dict(settings=self.settings))
        first = next(iter(best))
        title, filters = f"{trainer.spec.name}, features of {first}", trainer.encoder.bank.weights
        plots.features_picture(self.path / "features.png", best[first], filters, title)
        with checkpoint.beside(self.path / RESULTS) as temporary:
            temporary.write_text(json.dumps(results, indent=1) + "\n")
        self.results = results


def device_name(device: jax.Device) -> str:
    """What a person calls a device."""
    if device.platform != "cpu":
        return f"{device.platform}: {device.device_kind}"
    return f"cpu: {_processor()}, {os.cpu_count()} cores"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    packages = ("snnjax", "jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn")
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def load_weights(path: Path) -> dict[str, np.ndarray]:
    """Weights by layer name, as a run has left them in weights.npz.

    Raises:
      FileNotFoundError, ValueError: there is no such file, or it is damaged.
    """
    return checkpoint.load(path)[0]
