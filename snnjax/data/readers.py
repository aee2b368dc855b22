"""Readers of the files that data sets come in: IDX and CIFAR's binary version, gzipped or not, and .npz."""

import gzip
import math
import zipfile
import zlib
from pathlib import Path

import numpy as np

from snnjax.errors import InputError
from snnjax.files import is_disk_error

MOST_BYTES = 1 << 30
"""No file of a data set may hold more, unzipped; the largest known, EMNIST's by class, holds half of it."""


def read_cifar(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads one file of CIFAR-10's binary version: a label, then the red, green and blue plane of each image.

    Returns:
      (N, 32, 32, 3) and (N,), uint8.

    Raises:
      InputError: not a whole number of images, or damaged compression.
    """
    raw, record = _read(path, MOST_BYTES), 1 + 3 * 32 * 32
    if not raw or len(raw) % record:
        raise InputError(f"{path} must hold {record} bytes for each image, got {len(raw)} bytes in all")
    records = np.frombuffer(raw, np.uint8).reshape(-1, record)
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, 0]


def read_idx(path: Path, rank: int) -> np.ndarray:
    """Reads one IDX file of unsigned bytes, gzipped or not.

    Args:
      path: of the file.
      rank: number of axes it must have: 3 for images, 1 for labels.

    Returns:
      uint8 array of `rank` axes.

    Raises:
      InputError: wrong magic number, rank or length, or damaged compression.
    """
    header = 4 + 4 * rank
    magic = bytes([0, 0, 8, rank])
    begin = _read(path, header)
    if begin[:4] != magic:
        raise InputError(
            f"{path} must begin with the IDX magic number {magic.hex()}, got {begin[:4].hex() or 'nothing'}"
        )
    if len(begin) < header:
        raise InputError(f"{path} is truncated: it ends within its header")
    shape = tuple(int.from_bytes(begin[at : at + 4], "big") for at in range(4, header, 4))
    expected = header + math.prod(shape)
    if expected > MOST_BYTES:
        raise InputError(f"{path} must hold at most {MOST_BYTES} bytes, its header says {expected} for shape {shape}")
    raw = _read(path, expected + 1)
    if len(raw) != expected:
        more = "more" if len(raw) > expected else len(raw)
        raise InputError(f"{path} must hold {expected} bytes for shape {shape}, got {more}")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Reads the arrays of an .npz file by name, compressed or not. No code in it is ever executed.

    Raises:
      OSError: it cannot be read.
      InputError: it is damaged or no .npz file; it holds objects, or much more than its length lets expect.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            held, most = sum(info.file_size for info in archive.infolist()), max(MOST_BYTES, path.stat().st_size)
            if held > most:
                raise InputError(f"it holds {held} bytes, at most {most} are read")
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
    except Exception as error:  # a damaged archive raises errors of many kinds
        if is_disk_error(error):
            raise
        raise InputError(f"{path} is damaged or no .npz file: {error}") from error


def _read(path: Path, most: int) -> bytes:
    """The bytes of a file up to so many, unzipped if it is gzipped."""
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream, pieces, left = gzip.GzipFile(fileobj=file) if gzipped else file, list[bytes](), most
        try:
            while left and (piece := stream.read(min(left, 1 << 20))):
                pieces.append(piece)
                left -= len(piece)
        except (OSError, EOFError, zlib.error) as error:
            if is_disk_error(error):
                raise
            raise InputError(f"{path} is truncated or damaged: {error}") from error
    return b"".join(pieces)
