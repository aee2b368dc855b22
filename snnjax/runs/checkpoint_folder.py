"""Folders that a run, a sweep or a stream locks while it works, and from whose last checkpoint it continues."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from snnjax.core import devices, files
from snnjax.core.codec import call_of, to_data
from snnjax.core.differences import described, described_differences, list_differences
from snnjax.core.errors import InputError, explained
from snnjax.networks import Network
from snnjax.runs.earlier import advice_on
from snnjax.runs.results_file import versions
from snnjax.training.loop import SAVE_INTERVAL_S, Trainer
from snnjax.training.state import FORMAT, current_names
from snnjax.training.sweep import Sweep

CHECKPOINT, PREVIOUS = "checkpoint.npz", "checkpoint.previous.npz"
KINDS = dict(phase="a run", others="a sweep", stream="a stream")
"""The contents of a checkpoint in words, by a key that only the data of this kind have."""
# Saving takes at most a twentieth of the time: a checkpoint takes 0.03 s, an epoch of 6,000 images as little as 0.3 s.
PAUSE = 20
"""The time between two saves, as a multiple of the time that the first of them takes."""

Json = dict[str, Any]
Arrays = dict[str, np.ndarray]


class CheckpointFolder:
    """A folder with the last two checkpoints of a run, a sweep or a stream, which is locked during a `with` block.

    Nothing is created or read before the block.
    """

    kind: ClassVar[str]  # the contents in words: one of `KINDS`
    continued_by: ClassVar[str] = "--resume"

    def __init__(
        self,
        path: Path | str,
        network: Network,
        settings: Json,
        about: Json | None,
        command: str,
        notes: Iterable[str] = (),
    ):
        """`settings` are JSON data on which the result depends, besides the network; `about` is saved with them."""
        self.path = Path(path)
        self.command = command
        self.notes = [*notes]  # messages about the start
        self.since = time.perf_counter()  # when this command began
        self._spent = 0.0  # seconds that earlier commands took
        self._next_save = 0.0  # when the next checkpoint is due
        self._arrays: Arrays = {}
        self._network = to_data(network, self._arrays)
        self._settings: Json = json.loads(json.dumps(settings))
        self.device = devices.name_of(devices.local_devices()[0])
        self.settings: Json = self._settings | json.loads(json.dumps(about or {}))
        self._sound = True  # whether the last checkpoint is undamaged

    @functools.cached_property
    def _identity(self) -> Json:
        """The data that are compared with those of a checkpoint before it is continued."""
        identity = dict(
            settings=self._settings,
            network=described(self._network, self._arrays),
            format=FORMAT,
            versions=versions(),
            device=self.device,
        )
        return json.loads(json.dumps(identity))

    def __enter__(self) -> Self:
        """Creates the folder if necessary, locks it, and reads its checkpoint."""
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f"{self.path} is a file, not a folder: name another folder")
        with contextlib.ExitStack() as stack:  # unlocks the folder if it is rejected
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(files.lock(self.path))
            except FileExistsError:
                raise
            except OSError as error:
                raise OSError(f"{error}: name another folder (`out`)") from error
            self._read()
            self._lock = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    @property
    def seconds(self) -> float:
        """The wall time so far, including the time of earlier commands until their last checkpoints."""
        return self._spent + time.perf_counter() - self.since

    @property
    def saved(self) -> bool:
        """Whether there is a checkpoint to continue from."""
        return any((self.path / name).exists() for name in (CHECKPOINT, PREVIOUS))

    @contextlib.contextmanager
    def explain_losses(self) -> Iterator[None]:
        """Adds to the message of a disk error what has been saved, and how to continue."""
        try:
            yield
        except BrokenPipeError:  # the reader of the output has closed it
            raise
        except OSError as error:
            kept = "nothing was kept: name another folder (`out`)"
            if self.saved:
                go_on = f"make room, or copy it to another disk, and continue by {self.continued_by}"
                kept = f"{self.path} keeps all but the last half minute: {go_on}"
            raise OSError(f"{error}; {kept}") from error

    @property
    def due(self) -> bool:
        """Whether it is time to save: half a minute after the last save, or earlier if saving is fast."""
        return time.perf_counter() >= self._next_save

    def _check_existing(self, resume: bool, *names: str) -> None:
        """Raises FileExistsError if the folder contains a checkpoint or one of these files, unless it is resumed."""
        existing = [name for name in (*names, CHECKPOINT, PREVIOUS) if (self.path / name).exists()]
        if existing and not resume:
            problem = f"already holds {self.kind} ({', '.join(existing)}): `resume` (--resume) it, or"
        elif existing and not self.saved:
            problem = f"holds {', '.join(existing)} but no {CHECKPOINT} to go on from:"
        else:
            return
        raise FileExistsError(f"{self.path} {problem} name another folder")

    def _save_checkpoint(self, arrays: Arrays, meta: Json) -> None:
        """Writes a checkpoint and keeps the previous one, in case the new one is damaged later."""
        begin = time.perf_counter()
        current = self.path / CHECKPOINT
        # A damaged checkpoint must not replace the undamaged previous one.
        if current.exists() and self._sound:
            with contextlib.suppress(OSError), files.atomic_write(self.path / PREVIOUS) as temporary:
                temporary.unlink()
                # Linked rather than renamed, so that a checkpoint exists at every moment. Not all file systems support
                # links.
                os.link(current, temporary)
        files.save_checkpoint(current, arrays, meta | self._identity | dict(spent=self.seconds))
        self._sound = True
        now = time.perf_counter()
        self._next_save = now + min(PAUSE * (now - begin), SAVE_INTERVAL_S)

    def _restore(self, arrays: Arrays, meta: Json) -> None:
        """Restores the state from a checkpoint; raises various errors if it does not contain one."""
        raise NotImplementedError

    def _read(self) -> None:
        """Restores the last undamaged checkpoint, if there is one."""
        damaged = []
        for path in (self.path / CHECKPOINT, self.path / PREVIOUS):
            try:
                arrays, meta = files.load_checkpoint(path)
            except FileNotFoundError:
                continue
            except InputError as error:
                damaged.append(str(error))
                continue
            self._check(path, meta)
            self._sound = not damaged
            self._spent = float(meta.get("spent", 0.0))
            if damaged:
                self.notes.append(f"{'; '.join(damaged)}; continuing from {path.name}, the previous state")
            advice = self._advice_on(meta)
            with explained(f"{path} holds no state to go on from", KeyError, TypeError, AttributeError, advice=advice):
                self._restore(arrays, meta)
            return
        if damaged:
            raise InputError(f"{'; '.join(damaged)}: there is nothing to go on from, name another folder")

    def _check(self, path: Path, meta: Json) -> None:
        """Raises InputError if a checkpoint belongs to a different run; notes a change of versions or of the device."""
        expected = self._identity
        settings = current_names(meta.get("settings", {}))
        noun = self.kind.removeprefix("a ")
        files.check_format(path, meta, FORMAT, f"finish the {noun} with that version, or name another folder")
        holds = next((kind for name, kind in KINDS.items() if name in meta), "other data")
        if holds != self.kind:
            raise InputError(f"{self.path} holds {holds}, not {self.kind}: name another folder (`out`)")
        if changes := _changes(expected["settings"], settings):
            problem = f"the {noun} in {self.path} cannot be resumed with other settings or data"
            raise InputError(f"{problem}: it had {changes}")
        if found := described_differences(expected["network"], meta.get("network", {})):
            problem = f"{path} belongs to another network: name another folder, it has {list_differences(found)}"
            raise InputError(": ".join(filter(None, (problem, self._advice_on(meta)))))
        if changes := _changes(_versions(expected), _versions(meta)):
            self.notes.append(f"the {noun} began with {changes}: results may differ slightly")

    def _advice_on(self, meta: Json) -> str:
        """Advice for a checkpoint with these data that cannot be continued; "" if this version wrote it."""
        return advice_on(meta, self.kind.removeprefix("a "), self.path, self.command)


def training_settings(work: Trainer | Sweep) -> Json:
    """The settings on which a training run's result depends, with the number and the digest of its images."""
    data = work.data
    images = dict(train=data.train_images, validation=data.validation_images, test=data.test_images)
    sizes = {f"{part}_images": 0 if array is None else len(array) for part, array in images.items()}
    if data.unlabelled_images is not None:
        sizes["unlabelled_images"] = len(data.unlabelled_images)
    return dataclasses.asdict(work.settings) | sizes | dict(data=f"sha256:{data.digest}")


def network_digest(network: Network) -> str:
    """A digest of a network's description, which does not change if a later version adds fields that have defaults.

    Epochs, shuffling and patience are left out, because they often depend on the number of images; the values that are
    used are in the settings of the run.
    """
    of_any_training = dataclasses.replace(network, epochs=(), shuffle=False, patience=None)
    return f"sha256:{hashlib.sha256(call_of(of_any_training).encode()).hexdigest()}"


def backend_notes(work: Trainer | Sweep) -> list[str]:
    """A note about layers that are trained without a compiled sequence kernel although the back end is "native"."""
    names = work.layers_without_native() if work.settings.backend == "native" else []
    reason = "learning image by image, as no compiled sequence kernel supports rule and settings"
    return [f"{', '.join(names)}: {reason}"] * bool(names)


def _versions(about: Json) -> Json:
    return about.get("versions", {}) | dict(device=about.get("device"))


def _changes(now: Json, was: Json) -> str:
    return ", ".join(f"{name} {was.get(name)} (now {now[name]})" for name in now if was.get(name) != now[name])


def backend_of(path: Path) -> str:
    """The back end of the checkpoint in a folder, "native" or "xla"; "auto" if there is no checkpoint."""
    for checkpoint in (path / CHECKPOINT, path / PREVIOUS):
        with contextlib.suppress(OSError, InputError, LookupError, TypeError):
            return current_names(files.load_checkpoint(checkpoint)[1]["settings"])["backend"]
    return "auto"
