"""Recordings in N-MNIST's own files, made of pictures of digits: no camera has seen them.

As in N-MNIST (Orchard et al. 2015) a digit moves along three saccades of 105 ms, the first to the right and down, by
3.5 and 7 pixels. A pixel sends an event where the logarithm of its brightness has changed enough; a few come at random.
"""

import itertools
from pathlib import Path

import numpy as np
from scipy.ndimage import shift

SACCADES = np.array([(0, 0), (7, 3.5), (0, 7), (0, 0)])  # rows and columns where they begin and end
SACCADE, FRAMES = 105_000, 21  # microseconds and frames of one
THRESHOLD, NOISE = 0.35, 0.07  # change of the logarithm for an event; random events of a pixel


def record(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """x, y, t and p, (N,) integers in order of time, of an image (28, 28) of 0..255 before a camera of 34x34 pixels."""
    start, events = np.pad(image / 255, ((1, 5), (0, 6))), []
    seen = np.log(0.1 + start)
    for number, (begin, end) in enumerate(itertools.pairwise(SACCADES)):
        for frame in range(FRAMES):
            s = np.clip((frame + 1) / FRAMES * 1.4 - 0.15, 0, 1)  # each begins and ends at rest
            bright = np.log(0.1 + shift(start, begin + (end - begin) * s**2 * (3 - 2 * s), order=1))
            y, x = np.nonzero(abs(bright - seen) > THRESHOLD)
            t = number * SACCADE + (frame + rng.random(len(x))) * SACCADE / FRAMES
            events.append(np.stack([x, y, t, bright[y, x] > seen[y, x]]))
            seen[y, x] = bright[y, x]
    count = rng.poisson(NOISE * start.size)
    events.append(rng.uniform(0, [[34], [34], [3 * SACCADE], [2]], (4, count)))
    whole = np.concatenate(events, axis=1).astype(np.int64)
    return tuple(whole[:, np.argsort(whole[2])])


def write_bin(path: Path, x: np.ndarray, y: np.ndarray, t: np.ndarray, p: np.ndarray) -> None:
    """A file of N-MNIST's: five bytes for each event, 8 bits of x, 8 of y, one of p, 23 of t in microseconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.stack([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255], axis=1).astype(np.uint8).tobytes())


def write_nmnist(folder: Path, part: str, images: np.ndarray, labels: np.ndarray, seed: int) -> None:
    """Recordings of images (N, 28, 28) as tonic unpacks N-MNIST into `folder`; `part` is Train or Test."""
    rng = np.random.default_rng(seed)
    for number, (image, label) in enumerate(zip(images, labels, strict=True), 1):
        write_bin(folder / "NMNIST" / part / str(label) / f"{number:05}.bin", *record(image, rng))
