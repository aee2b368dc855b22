"""Files of trained layers, which later runs take instead of training them again."""

import hashlib
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from snnjax import files
from snnjax.errors import InputError

LAYERS = "layers"  # folder in that of a run
WRITABLE = stat.S_IWGRP | stat.S_IWOTH

Arrays = dict[str, np.ndarray]


def path_in(run: Path, layers: Sequence[str], key: str) -> Path:
    """The file in a run's folder of layers that have this `origin.layer_key`."""
    return run / LAYERS / f"{'_'.join(layers)}-{key}.npz"


def save(path: Path, key: str, arrays: Arrays, diagnosis: dict[str, Any]) -> None:
    """Writes layers that have learned: weights and numbers by name, and the diagnosis of their phase."""
    path.parent.mkdir(exist_ok=True)
    files.save_checkpoint(path, arrays, dict(key=key, content=_digest(arrays, diagnosis), diagnosis=diagnosis))


def load(path: Path, key: str, layers: Sequence[str]) -> tuple[Arrays, Arrays, dict[str, Any]]:
    """Weights, numbers and diagnosis of layers; raises InputError unless the file was written for this key, OSError."""
    arrays, meta = files.load_checkpoint(path)
    diagnosis = meta.get("diagnosis")
    if not {*layers} <= arrays.keys() or not isinstance(diagnosis, dict):
        raise InputError(f"{path} holds no {', '.join(layers)} with its diagnosis")
    if meta.get("key") != key:
        raise InputError(f"{path} holds layers of another training (key {meta.get('key')}): it was renamed")
    if meta.get("content") != _digest(arrays, diagnosis):
        raise InputError(f"{path} holds other weights or another diagnosis than the run wrote")
    weights = {name: arrays.pop(name) for name in layers}
    return weights, arrays, diagnosis


def why_foreign(path: Path) -> str:
    """Why a file of layers may be someone else's, in words; "" where its folders and itself are this user's alone."""
    runs = path.parents[2].resolve()
    if not path.resolve().is_relative_to(runs / path.parents[1].name):
        return "is a link out of its run folder"
    if not hasattr(os, "geteuid"):
        return "is of an owner that this system does not tell"
    for each in (path.parents[1], path.parent, path):
        found = each.stat()
        if found.st_uid != os.geteuid():
            return "belongs to another user" if each == path else f"lies in {each}, which belongs to another user"
        if found.st_mode & WRITABLE:
            return f"can be changed by others (chmod go-w {each})"
    return ""


def _digest(arrays: Arrays, diagnosis: dict[str, Any]) -> str:
    """Of weights, numbers and diagnosis, as JSON holds the last."""
    hashed = hashlib.sha256(json.dumps(json.loads(json.dumps(diagnosis)), sort_keys=True).encode())
    hashed.update(files.digest(arrays))
    return hashed.hexdigest()
