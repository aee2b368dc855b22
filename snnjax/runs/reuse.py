"""Files of trained layers, which later runs take instead of training them again."""

import hashlib
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from snnjax.core import files
from snnjax.core.errors import InputError

LAYERS = "layers"  # folder in that of a run

Arrays = dict[str, np.ndarray]


def path_in(run: Path, layers: Sequence[str], key: str) -> Path:
    """The file in a run's folder of layers that have this `cache_key.layer_key`."""
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


def reason_not_owned(path: Path, run: Path) -> str:
    """Why a file in a run's folder may be someone else's, in words.

    "" where the file, the folder and all between them are this user's, and nobody else can change them.
    """
    if not path.resolve().is_relative_to(run.parent.resolve() / run.name):
        return "is a link out of its run folder"
    if not hasattr(os, "geteuid"):
        return "is of an owner that this system does not tell"
    folders = [folder for folder in reversed(path.parents) if folder.is_relative_to(run)]
    for entry in (*folders, path):
        status = entry.stat()
        if status.st_uid != os.geteuid():
            return "belongs to another user" if entry == path else f"lies in {entry}, which belongs to another user"
        others = status.st_mode & stat.S_IWOTH
        if others or (status.st_mode & stat.S_IWGRP and not _is_private(status.st_gid, entry)):
            return f"can be changed by others (chmod go-w {entry})"
    return ""


def _is_private(group: int, path: Path) -> bool:
    """Whether a group's rights to a path are this user's alone: the group is the user's own, and no list adds others.

    Such a group has the user's name, is the user's primary one, and has no other members.
    """
    import grp
    import pwd

    try:
        user = pwd.getpwuid(os.geteuid())
        of_group = grp.getgrgid(group)
    except KeyError:
        return False
    listed = hasattr(os, "listxattr") and "system.posix_acl_access" in os.listxattr(path)
    primary = [entry.pw_name for entry in pwd.getpwall() if entry.pw_gid == group]
    members = {user.pw_name, *of_group.gr_mem, *primary}
    return not listed and (user.pw_gid, of_group.gr_name, members) == (group, user.pw_name, {user.pw_name})


def _digest(arrays: Arrays, diagnosis: dict[str, Any]) -> str:
    """Of weights, numbers and diagnosis, as JSON holds the last."""
    hashed = hashlib.sha256(json.dumps(json.loads(json.dumps(diagnosis)), sort_keys=True).encode())
    hashed.update(files.digest(arrays))
    return hashed.hexdigest()
