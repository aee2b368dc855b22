"""Checkpoints: one flat file with all that a run needs to go on, checked when read, never half-written."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from snnjax.errors import InputError
from snnjax.files import atomic_write, read_npz

_META, _CHECKSUM = "meta", "checksum"


def save(path: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Writes arrays by name and JSON data into one .npz file; on OSError, a file that was there before is kept."""
    entries = {name: np.asarray(value) for name, value in arrays.items()}
    entries[_META] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    entries[_CHECKSUM] = np.frombuffer(_digest(entries), np.uint8)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **entries)  # type: ignore[arg-type]


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and JSON data that `save` wrote; raises and is safe as `files.read_npz`."""
    entries = read_npz(path, "checkpoint")
    try:
        if entries.pop(_CHECKSUM).tobytes() != _digest(entries):
            raise InputError("its checksum does not match")
        meta = json.loads(entries.pop(_META).tobytes())
    except (KeyError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged or no checkpoint: {error}") from error
    return entries, meta


def is_checkpoint(path: Path) -> bool:
    """Whether a file is one that `save` writes, by the names in it."""
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
