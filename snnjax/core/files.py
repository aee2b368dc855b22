"""Files that are never half-written, such as checkpoints, and folders that only one run at a time writes into."""

import contextlib
import errno
import hashlib
import json
import math
import mmap
import os
import re
import secrets
import struct
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from snnjax.core.errors import InputError, title

_TEMPORARY = re.compile(r"\..+(\.\w+)\.[a-z0-9_]{8}\1")
"""The names of temporary files: a dot, the file's name, a dot, eight random characters, and the file's suffix again."""
_META, _CHECKSUM = "meta", "checksum"


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields the path of a temporary file in the same folder, which is then renamed to `path`, or removed on any error.

    When the `with` block has ended, the contents and the new name are on the disk. The umask applies. The messages of
    disk errors name `path`, not the temporary file.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{path.suffix}")
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        with temporary.open("rb+") as file:
            # The contents must be on the disk before the file is renamed. Otherwise `path` could be an empty file after
            # a power cut.
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if str(error.filename) == str(temporary):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        with contextlib.suppress(NotADirectoryError):  # a parent of `path` is a file
            temporary.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not every system can sync a folder; the file is complete in any case
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8, completely or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: object) -> None:
    """Writes JSON data to a file, completely or not at all."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def clear(folder: Path) -> None:
    """Removes the temporary files that were left in a folder by programs killed during `atomic_write`."""
    for path in folder.glob(".*"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EIO)
"""The error numbers of file systems that do not support locks."""


@contextlib.contextmanager
def lock(folder: Path, waiting: Callable[[], object] | None = None) -> Iterator[None]:
    """Locks a folder against other runs in the `with` block; on a file system without locks it only warns.

    After locking, it removes the temporary files of runs that were killed. While another run holds the lock, `waiting`
    is called repeatedly. Raises FileExistsError if another run holds the lock and `waiting` is None.
    """
    path = folder / ".lock"
    held = FileLock(path, blocking=False, fallback_to_soft=False)  # it locks no file that was removed meanwhile
    try:
        while not held.is_locked:
            try:
                held.acquire()
            except Timeout as error:
                if waiting is None:
                    raise FileExistsError(f"another run is writing into {folder}: name another folder") from error
                waiting()
                time.sleep(0.1)
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _WITHOUT_LOCKS:
            raise
        warnings.warn(f"{folder} cannot be locked ({error}): let no other run write into it", stacklevel=3)
    try:
        if held.is_locked:
            # Without the lock, a temporary file may be one that another program is still writing.
            clear(folder)
        yield
    finally:
        if held.is_locked:
            # The file is removed while the lock is still held, because after the release it may be the lock of another
            # run. Windows does not allow the removal of open files.
            with contextlib.suppress(OSError):
                path.unlink()
        held.release()


@contextlib.contextmanager
def refuse_damaged(words: str) -> Iterator[None]:
    """Raises InputError, with `words` and the reason, for any error in the `with` block that a damaged file can cause.

    Errors of the disk or of memory, and errors due to missing packages, are raised unchanged.
    """
    try:
        yield
    except (MemoryError, ImportError):
        raise
    except Exception as error:  # damaged files cause errors of many kinds
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: an invalid offset
            raise
        reason = str(error) or type(error).__name__
        raise InputError(f"{words}: {reason.splitlines()[0]}") from error


def read_npz(path: Path, kind: str, most: int = 0) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, keyed by name; no code in the file is executed.

    It reads at most `most` bytes, or as many bytes as the file has if that is more. Raises OSError or MemoryError if
    the file cannot be read, and InputError if it is damaged, is not a `kind`, or holds Python objects.
    """
    with refuse_damaged(f"{path} is damaged or not a valid {kind}"), zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        most = max(most, path.stat().st_size)
        check_size("it", sum(info.file_size for info in infos), most)
        return {info.filename.removesuffix(".npy"): _read_npy(path, archive, info) for info in infos}


def _read_npy(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """An array of an .npz file, whose size must match its header; a large array is mapped into memory, not read."""
    with archive.open(info) as file:
        if (version := np.lib.format.read_magic(file)) != (1, 0):
            raise InputError(f"it holds an array of format {version}")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        start = file.tell()
        held = info.file_size - start
    if math.prod(shape) * dtype.itemsize != held and not dtype.hasobject:
        raise InputError(f"it holds {held} bytes for an array of {dtype} {shape}")
    stays = held > LARGE and info.compress_type == zipfile.ZIP_STORED
    if stays and not fortran and not dtype.hasobject:
        with path.open("rb") as raw:
            raw.seek(info.header_offset + 26)  # here are the lengths of the name and the extra field
            start += info.header_offset + 30 + sum(struct.unpack("<HH", raw.read(4)))
        return np.memmap(path, dtype, "r", start, shape)
    with archive.open(info) as file:  # opened again, because a seek would skip the checksum
        return np.lib.format.read_array(file, allow_pickle=False)


def read_json(path: Path) -> Any:
    """The JSON data of a file; raises OSError if it cannot be read, and InputError if it does not hold JSON data."""
    with refuse_damaged(f"{path} is damaged"):
        return json.loads(path.read_bytes())


def _memory() -> int:
    """The number of bytes of memory available to this program."""
    sizes = [1 << 34]
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not on every system
        sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with contextlib.suppress(ImportError):
        import resource

        limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
        sizes += [limit for limit in limits if limit != resource.RLIM_INFINITY]
    # In a container the memory is limited by the control group, version 2 or 1, while `sysconf` gives the memory of the
    # whole computer.
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            sizes.append(int(Path(path).read_text()))
    return min(sizes)


MEMORY = _memory()
"""The number of bytes of memory available to this program."""
LARGE = MEMORY // 8  # the outputs of three stages and the inputs of the next one may be kept at the same time
"""Arrays with more bytes than this are kept in a file rather than in memory."""
# On a CPU, JAX uses a NumPy array in place if its address is a multiple of 64 bytes, and copies it otherwise.
_ALIGNED = 64


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array with arbitrary content, which JAX uses on a CPU without a copy; a large array is in a temporary file.

    The file is in $TMPDIR, or else in the cache folder, and is removed with the array. Raises OSError if the disk is
    full.
    """
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if size > LARGE:
        with tempfile.TemporaryFile(dir=_large_folder()) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)  # if the disk were full later, the program would be killed
            else:
                file.truncate(size)
            # Not np.memmap: joblib passes a memmap to other processes by the name of its file, and this file has no
            # name. Of this array, the other processes get a copy.
            return np.frombuffer(mmap.mmap(file.fileno(), size), kind).reshape(shape)
    raw = np.empty(size + _ALIGNED, np.uint8)
    start = -raw.ctypes.data % _ALIGNED
    return raw[start : start + size].view(kind).reshape(shape)


def kept(array: np.ndarray) -> str:
    """Where an array made by `empty` is kept, in words that follow its size."""
    return "of memory" if array.nbytes <= LARGE else f"in a temporary file in {_large_folder()}"


def _large_folder() -> Path:
    """The folder for the temporary files of large arrays."""
    return Path(os.environ.get("TMPDIR") or cache_folder())


def take_rows(array: np.ndarray, places: np.ndarray, axis: int = 0) -> np.ndarray:
    """`np.take` for indices that are known to be valid; the result is an array made by `empty`."""
    shape = list(array.shape)
    shape[axis] = len(places)
    # In the default mode "raise", NumPy buffers the whole result before it writes it into `out`.
    return np.take(array, places, axis, out=empty(tuple(shape), array.dtype), mode="clip")


def save_checkpoint(path: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Writes named arrays and JSON data to an .npz file with a checksum, completely or not at all."""
    entries = {name: np.asarray(value) for name, value in arrays.items()}
    entries[_META] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    entries[_CHECKSUM] = np.frombuffer(digest(entries), np.uint8)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **entries)  # type: ignore[arg-type]


def load_checkpoint(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the JSON data of a checkpoint; raises the errors of `read_npz`, and executes no code either."""
    entries = read_npz(path, "checkpoint")
    with refuse_damaged(f"{path} is damaged or not a valid checkpoint"):
        if entries.pop(_CHECKSUM).tobytes() != digest(entries):
            raise InputError("its checksum does not match")
        meta = json.loads(entries.pop(_META).tobytes())
        if not isinstance(meta, dict):
            raise InputError("its data are not a JSON object")
    return entries, meta


def check_size(subject: str, held: int, most: int) -> None:
    """Raises InputError if a file holds more than `most` bytes; `held` is their number after decompression."""
    if held > most:
        raise InputError(f"{subject} holds {held} bytes when decompressed, but at most {most} are read")


def check_exists(path: Path) -> None:
    """Raises FileNotFoundError unless `path` is a file."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")


def check_suffix(name: str, path: Path, *endings: str) -> None:
    """Raises InputError unless the suffix of a path is one of `endings`."""
    if path.suffix not in endings:
        raise InputError(f"{title(name)} must end in {', '.join(endings)}, got {path}")


def check_format(path: Path | str, meta: Mapping[str, Any], now: int, advice: str) -> None:
    """Raises InputError, with `advice`, unless the format in a file's `meta` is `now`, the current format."""
    if (version := meta.get("format")) != now:
        raise InputError(f"{path} was written by another version of snnjax (format {version}, now {now}): {advice}")


def is_checkpoint(path: Path) -> bool:
    """Whether a file is a checkpoint, judged by the names of its arrays."""
    try:
        with zipfile.ZipFile(path) as file:
            return f"{_CHECKSUM}.npy" in file.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def digest(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The SHA-256 digest of arrays with their names, dtypes and shapes."""
    hashed = hashlib.sha256()
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        hashed.update(f"{name} {value.dtype.str} {value.shape}\n".encode())
        if value.nbytes:
            hashed.update(value.reshape(-1).view(np.uint8).data)  # not copied, because it may be larger than memory
    return hashed.digest()


def cache_folder() -> Path:
    """The user's folder for compiled programs and data sets, created if necessary; raises OSError if this fails."""
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "snnjax"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"nothing can be kept in {path} ({error}): set XDG_CACHE_HOME") from error
    return path


def check_new(path: Path, alternatives: str = "file") -> None:
    """Raises FileExistsError if a file already exists, and FileNotFoundError if its folder does not exist.

    `alternatives` is the thing for which the message suggests another name.
    """
    if path.exists():
        raise FileExistsError(f"{path} already exists: delete it, or name another {alternatives}")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} into")
