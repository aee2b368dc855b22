"""Checkpoints: one flat file with all that a run needs to go on, checked when read, never half-written."""

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from snnjax.errors import InputError
from snnjax.files import atomic_write, is_disk_error

_META, _CHECKSUM = "meta", "checksum"


def save(path: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Writes arrays by name and JSON data into one .npz file; on OSError, a file that was there before is kept."""
    entries = {name: np.asarray(value) for name, value in arrays.items()}
    entries[_META] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    entries[_CHECKSUM] = np.frombuffer(_digest(entries), np.uint8)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **entries)  # type: ignore[arg-type]


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads what `save` wrote: arrays and meta. No code is ever executed, no memory taken beyond the file's length.

    Raises:
      OSError, MemoryError: it cannot be read.
      InputError: it is damaged, or no checkpoint.
    """
    try:
        entries = _read(path)
        stored = entries.pop(_CHECKSUM).tobytes()
        meta = json.loads(entries[_META].tobytes())
    except MemoryError:
        raise
    except Exception as error:  # a damaged archive raises errors of many kinds
        if is_disk_error(error):
            raise
        raise InputError(f"{path} is damaged or no checkpoint: {error}") from error
    if stored != _digest(entries):
        raise InputError(f"{path} is damaged: its checksum does not match")
    del entries[_META]
    return entries, meta


def _read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file that is not compressed, by name."""
    with zipfile.ZipFile(path) as file:
        infos = file.infolist()
        if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
            raise InputError("it is compressed")
        if sum(info.file_size for info in infos) > path.stat().st_size:
            raise InputError("its parts are longer than it is")
        return {info.filename.removesuffix(".npy"): _array(file.read(info)) for info in infos}


def _array(raw: bytes) -> np.ndarray:
    """An array from the bytes of an .npy file."""
    stream = io.BytesIO(raw)
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise InputError(f"it holds an array of format {version}")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    size, start = math.prod(shape), stream.tell()
    if dtype.hasobject or min(shape, default=0) < 0 or size * dtype.itemsize != len(raw) - start:
        raise InputError(f"it holds {len(raw) - start} bytes for an array of {dtype} {shape}")
    return np.frombuffer(raw, dtype, size, start).reshape(shape, order="F" if fortran else "C").copy()


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
