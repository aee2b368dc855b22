"""The checkpoints of long work: the last one, and the one before should it be damaged."""

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from snnjax import checkpoint, files
from snnjax.components import to_data
from snnjax.errors import InputError

CHECKPOINT, PREVIOUS = "checkpoint.npz", "checkpoint.previous.npz"
FORMAT = 2
"""Of the checkpoints: another number, another meaning."""


def described(network: Any) -> dict[str, Any]:
    """All that tells a network from others, as JSON data: its description, and digests of the arrays in it."""
    arrays: dict[str, np.ndarray] = {}
    data = to_data(network, arrays)
    digests = {name: hashlib.sha256(np.ascontiguousarray(x).data).hexdigest()[:16] for name, x in arrays.items()}
    return dict(data=data, arrays=digests)


class Checkpoints:
    """Checkpoints in one folder.

    Attributes:
      path: of the folder.
      notes: what a person should know about what was found.
    """

    def __init__(self, path: Path, settings: dict[str, Any], network: Any, versions: dict[str, str], device: str):
        """Says what the work depends on.

        Args:
          path: of the folder.
          settings: all that the result depends on, JSON data.
          network: what is trained, JSON data.
          versions: of Python and packages.
          device: the name of the device.
        """
        self.path, self.notes = path, list[str]()
        self._sound = True  # whether the last checkpoint is
        known = dict(settings=settings, network=network, format=FORMAT, versions=versions, device=device)
        self._known = json.loads(json.dumps(known))

    def save(self, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
        """Writes a checkpoint; the one before is kept as well, should the new one be damaged later."""
        current = self.path / CHECKPOINT
        if current.exists() and self._sound:
            with contextlib.suppress(OSError), files.atomic_write(self.path / PREVIOUS) as temporary:
                temporary.unlink()
                os.link(current, temporary)  # not on every file system
        checkpoint.save(current, arrays, meta | self._known)
        self._sound = True

    def load(self) -> tuple[dict[str, np.ndarray], dict[str, Any], Path]:
        """The last checkpoint; if it is damaged, the one before: arrays, meta and the file.

        Raises:
          InputError: there is none that is whole, or it is of other work.
        """
        damaged = []
        for name in (CHECKPOINT, PREVIOUS):
            try:
                arrays, meta = checkpoint.load(self.path / name)
            except FileNotFoundError:
                continue
            except InputError as error:
                damaged.append(str(error))
                continue
            self._check(self.path / name, meta)
            self._sound = not damaged
            if damaged:
                self.notes.append(f"{'; '.join(damaged)}; going on from {name}, the state before")
            return arrays, meta, self.path / name
        raise InputError(f"{'; '.join(damaged)}: there is nothing to go on from, name another --out")

    def _check(self, path: Path, meta: dict[str, Any]) -> None:
        """Checks that a checkpoint is of this work; notes what has changed around it."""
        known = self._known
        if meta.get("format") != FORMAT:
            raise InputError(
                f"{path} was written by another version of snnjax (format {meta.get('format')}, now {FORMAT}): finish "
                "the run with that version, or name another --out"
            )
        stored, now = meta.get("settings", {}), known["settings"]
        differ = [name for name in now if stored.get(name) != now[name]]
        if differ:
            changes = ", ".join(f"{name} {stored.get(name)} (now {now[name]})" for name in differ)
            raise InputError(f"the run in {self.path} cannot be resumed with other settings or data: it had {changes}")
        if meta.get("network") != known["network"]:
            raise InputError(f"{path} is of another network than that of this name is now: name another --out")
        was = dict(meta.get("versions", {}), device=meta.get("device"))
        is_ = dict(known["versions"], device=known["device"])
        others = [f"{name} {value} (now {is_.get(name)})" for name, value in was.items() if value != is_.get(name)]
        if others:
            self.notes.append(f"the run began with {', '.join(others)}: it may end a little otherwise")
