"""Readers of IDX files and of CIFAR's binary files, gzipped or not.

They raise InputError if a file is damaged or has unexpected contents.
"""

import gzip
import math
from pathlib import Path

import numpy as np

from snnjax.core import files
from snnjax.core.errors import InputError

MOST_BYTES = 1 << 30  # in an uncompressed file; the largest known file, of EMNIST by class, has half as many


def read_cifar(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """Reads images (N, 32, 32, 3) and labels (N,), both uint8, from a file of the binary version of CIFAR-10.

    Examples:
      >>> from snnjax.data import read_cifar
      >>> images, labels = read_cifar("cifar-10-batches-bin/test_batch.bin")
      >>> images.shape, labels.shape
      ((10000, 32, 32, 3), (10000,))
    """
    raw = _read(path)
    record = 1 + 3 * 32 * 32  # a label, then the red, green and blue plane
    if not raw or len(raw) % record:
        raise InputError(f"{path} must hold {record} bytes for each image, got {len(raw)} bytes in all")
    records = np.frombuffer(raw, np.uint8).reshape(-1, record)
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, 0]


def read_idx(path: Path | str, rank: int) -> np.ndarray:
    """Reads an IDX file as a uint8 array with `rank` axes: 3 for images, 1 for labels.

    Examples:
      >>> from snnjax.data import read_idx
      >>> images = read_idx("t10k-images-idx3-ubyte", 3)
      >>> images.shape, images.dtype
      ((10000, 28, 28), dtype('uint8'))
    """
    raw = _read(path)
    header = 4 + 4 * rank
    magic = bytes([0, 0, 8, rank])
    if raw[:4] != magic:
        got = raw[:4].hex() or "nothing"
        raise InputError(f"{path} must begin with the IDX magic number {magic.hex()}, got {got}")
    shape = tuple(int.from_bytes(raw[start : start + 4], "big") for start in range(4, header, 4))
    try:
        return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)
    except ValueError as error:
        expected = header + math.prod(shape)
        raise InputError(f"{path} must hold {expected} bytes for shape {shape}, got {len(raw)}") from error


def _read(path: Path | str) -> bytearray:
    """The bytes of a file, decompressed if it is gzipped."""
    raw = bytearray()
    with files.refuse_damaged(f"{path} is truncated or damaged"), Path(path).open("rb") as file:
        stream = gzip.GzipFile(fileobj=file) if file.peek(2).startswith(b"\x1f\x8b") else file
        # It is read in pieces up to the limit, because a few kilobytes of gzip may decompress to any size.
        while len(raw) <= MOST_BYTES and (piece := stream.read(1 << 18)):
            raw += piece
    files.check_size(str(path), len(raw), MOST_BYTES)
    return raw
