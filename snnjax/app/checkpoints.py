"""A folder with the last two checkpoints of a run or a sweep: the one before serves if the last is damaged."""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np

from snnjax import checkpoint, devices, files
from snnjax.components import to_data
from snnjax.errors import InputError
from snnjax.training.sweep import Sweep
from snnjax.training.trainer import Trainer

CHECKPOINT, PREVIOUS = "checkpoint.npz", "checkpoint.previous.npz"
FORMAT = 2
"""Version of the checkpoint format."""


class CheckpointFolder:
    """A folder that one run or sweep locks until its `with` block ends."""

    def __init__(self, path: Path | str, work: Trainer | Sweep, settings: dict[str, Any] | None):
        """Creates and locks the folder; `settings` are added to those of the trainer or sweep."""
        self.path, self.notes, data = Path(path), list[str](), work.data
        sizes = dict(train_images=len(data.train_images), test_images=len(data.test_images))
        own = dataclasses.asdict(work.settings) | sizes | dict(data=f"sha256:{data.digest}")
        arrays: dict[str, np.ndarray] = {}
        network = dict(data=to_data(work.network, arrays), arrays={name: _digest(x) for name, x in arrays.items()})
        self.device = devices.name_of(devices.peers().devices[0])
        known = dict(settings=(settings or {}) | own, network=network, format=FORMAT)
        self._known = json.loads(json.dumps(known | dict(versions=versions(), device=self.device)))
        self.settings: dict[str, Any] = self._known["settings"]
        self._sound = True  # whether the last checkpoint is
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f"{self.path} is a file, not a folder: name another --out")
        self.path.mkdir(parents=True, exist_ok=True)
        if not os.access(self.path, os.W_OK):
            raise PermissionError(f"{self.path} cannot be written")
        self._lock = contextlib.ExitStack()
        self._lock.enter_context(files.lock(self.path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def _save_checkpoint(self, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
        """Writes a checkpoint and keeps the one before, in case the new one is damaged later."""
        current = self.path / CHECKPOINT
        if current.exists() and self._sound:
            with contextlib.suppress(OSError), files.atomic_write(self.path / PREVIOUS) as temporary:
                temporary.unlink()
                os.link(current, temporary)  # not on every file system
        checkpoint.save(current, arrays, meta | self._known)
        self._sound = True

    def _load_checkpoint(self, read: Callable[[dict[str, np.ndarray], dict[str, Any]], None]) -> None:
        """Passes arrays and meta of the last undamaged checkpoint to `read`; does nothing where there is none."""
        damaged = []
        for path in (self.path / CHECKPOINT, self.path / PREVIOUS):
            try:
                arrays, meta = checkpoint.load(path)
            except FileNotFoundError:
                continue
            except InputError as error:
                damaged.append(str(error))
                continue
            self._check(path, meta)
            self._sound = not damaged
            if damaged:
                self.notes.append(f"{'; '.join(damaged)}; going on from {path.name}, the state before")
            try:
                read(arrays, meta)
            except (KeyError, TypeError, AttributeError, InputError) as error:
                raise InputError(f"{path} holds no state to go on from: {error}") from error
            files.clear(self.path)  # what a killed program was writing
            return
        if damaged:
            raise InputError(f"{'; '.join(damaged)}: there is nothing to go on from, name another --out")

    def _check(self, path: Path, meta: dict[str, Any]) -> None:
        """Raises InputError where a checkpoint is of another run; notes other versions or another device."""
        known, stored = self._known, meta.get("settings", {})
        if meta.get("format") != FORMAT:
            raise InputError(
                f"{path} was written by another version of snnjax (format {meta.get('format')}, now {FORMAT}): finish "
                "the run with that version, or name another --out"
            )
        if changes := _changes(known["settings"], stored):
            raise InputError(f"the run in {self.path} cannot be resumed with other settings or data: it had {changes}")
        if meta.get("network") != known["network"]:
            raise InputError(f"{path} is of another network than that of this name is now: name another --out")
        now, was = (x.get("versions", {}) | dict(device=x.get("device")) for x in (known, meta))
        if changes := _changes(now, was):
            self.notes.append(f"the run began with {changes}: it may end a little otherwise")


def _changes(now: dict[str, Any], was: dict[str, Any]) -> str:
    return ", ".join(f"{name} {was.get(name)} (now {now[name]})" for name in now if was.get(name) != now[name])


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    found = {"python": platform.python_version()}
    for package in ("snnjax", "jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
