"""Checkpoints: one flat file with all that a run needs to go on, checked when read, never half-written."""

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_META, _CHECKSUM = "meta", "checksum"


def save(path: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Writes arrays and JSON data into one .npz file, beside its place first and then renamed.

    Args:
      path: of the file.
      arrays: by name.
      meta: anything that JSON can hold.

    Raises:
      OSError: the file cannot be written; one that was there before is still there.
    """
    entries = {name: np.asarray(value) for name, value in arrays.items()}
    entries[_META] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    entries[_CHECKSUM] = np.frombuffer(_digest(entries), np.uint8)
    with beside(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **entries)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads what `save` wrote: arrays and meta. No code is ever executed.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is damaged, or no checkpoint.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            entries = {name: file[name] for name in file.files}
        stored = entries.pop(_CHECKSUM).tobytes()
        meta = json.loads(entries[_META].tobytes())
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged archive raises errors of many kinds
        raise ValueError(f"{path} is damaged or no checkpoint: {error}") from error
    if stored != _digest(entries):
        raise ValueError(f"{path} is damaged: its checksum does not match")
    del entries[_META]
    return entries, meta


def is_checkpoint(path: Path) -> bool:
    """Whether a file is one that `save` writes, by the names in it; false if there is none."""
    try:
        with zipfile.ZipFile(path) as file:
            return f"{_CHECKSUM}.npy" in file.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def _digest(entries: Mapping[str, np.ndarray]) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(entries):
        value = np.ascontiguousarray(entries[name])
        digest.update(f"{name} {value.dtype.str} {value.shape}\n".encode())
        digest.update(value.tobytes())
    return digest.digest()


class beside:
    """A context that gives the path of a temporary file beside `path`, and renames it to `path` if all went well."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> Path:
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.", suffix=self.path.suffix)
        os.close(handle)
        self.temporary = Path(name)
        return self.temporary

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                self.temporary.chmod(0o644)
                self.temporary.replace(self.path)
        finally:
            self.temporary.unlink(missing_ok=True)
