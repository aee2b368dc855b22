"""Recordings in N-MNIST's own files, made of pictures of digits: no camera has seen them."""

from pathlib import Path

import numpy as np


def record(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """x, y, t and p, (N,) integers in order of time, of an image (28, 28) of 0..255 before a camera of 34x34 pixels."""
    bright = np.pad(image, 3) > rng.integers(30, 255, (20, 34, 34))  # the brighter, the more events
    _, y, x = np.nonzero(bright)
    t = np.sort(rng.integers(0, 300_000, len(x)))
    order = rng.permutation(len(x))
    return x[order], y[order], t, rng.integers(0, 2, len(x))


def write_bin(path: Path, x: np.ndarray, y: np.ndarray, t: np.ndarray, p: np.ndarray) -> None:
    """A file of N-MNIST's: five bytes for each event, 8 bits of x, 8 of y, one of p, 23 of t in microseconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.stack([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255], axis=1).astype(np.uint8).tobytes())


def write_nmnist(folder: Path, part: str, images: np.ndarray, labels: np.ndarray, seed: int) -> None:
    """Recordings of images (N, 28, 28) as tonic unpacks N-MNIST into `folder`; `part` is Train or Test."""
    rng = np.random.default_rng(seed)
    for number, (image, label) in enumerate(zip(images, labels, strict=True), 1):
        write_bin(folder / "NMNIST" / part / str(label) / f"{number:05}.bin", *record(image, rng))
