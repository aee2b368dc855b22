"""Event-camera recordings, read and downloaded with tonic, as event pictures for `snnjax.encoding.EventEncoder`."""

import contextlib
import functools
import math
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from snnjax.core import checks, files
from snnjax.core.errors import DownloadError, MissingPackageError, optional_package
from snnjax.data.dataset import Dataset


class _Recordings(NamedTuple):
    """A data set of tonic, and which part of each recording is read by default."""

    kind: str  # the name of its class in tonic.datasets
    sensor: tuple[int, int]  # rows and columns
    counts: tuple[int, ...]  # numbers of training recordings and test recordings, or of all recordings
    window: float  # microseconds from the first event
    size: tuple[int, int]  # rows and columns of the event pictures


RECORDINGS = {
    "nmnist": _Recordings("NMNIST", (34, 34), (60_000, 10_000), 50e3, (34, 34)),
    "pokerdvs": _Recordings("POKERDVS", (35, 35), (48, 20), math.inf, (35, 35)),
    "dvs_gesture": _Recordings("DVSGesture", (128, 128), (1_077, 264), 500e3, (32, 32)),
    "cifar10dvs": _Recordings("CIFAR10DVS", (128, 128), (10_000,), 100e3, (64, 64)),
    "ncaltech101": _Recordings("NCALTECH101", (180, 240), (8_709,), 50e3, (60, 80)),  # smaller recordings: upper left
    "asl_dvs": _Recordings("ASLDVS", (180, 240), (100_800,), math.inf, (45, 60)),
}
"""The event-camera data sets, by name. The sizes of the pictures keep each data set below 1 GB.

For N-MNIST and N-Caltech101, the window is half of the first saccade, which lasts 105 ms: later, a stroke has passed
most of the pixels on its way, and the picture is smeared.
"""


def recordings(
    name: str,
    data_dir: Path | str | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    window: float | None = None,
) -> Dataset:
    """Reads a data set of `RECORDINGS` as event pictures (N, H, W, 2) uint8, in a fixed order.

    About 8,000 N-MNIST recordings are read per second; `Dataset.save` stores the pictures in a file.

    Args:
      name: one of `RECORDINGS`.
      data_dir: the folder into which tonic has downloaded, its `save_to`, which contains a folder such as NMNIST. All
        recordings that it contains are read; if some are missing, `notes` says so. None: the recordings are downloaded
        into the cache folder, once.
      size: rows and columns of the pictures, or one number for both; by default as in `RECORDINGS`. Several pixels of
        the sensor are merged into one pixel of the picture.
      window: the part of each recording that is used, in microseconds from its first event; by default as in
        `RECORDINGS`.

    If a data set has no test recordings, a fifth of each class is used for testing. Raises MissingPackageError if tonic
    is not installed, FileNotFoundError if `data_dir` contains no recordings, DownloadError if they cannot be
    downloaded, and InputError if a recording is damaged.

    Examples:
      >>> from snnjax.data import recordings
      >>> recordings("pokerdvs")  # doctest: +SKIP
      Dataset(pokerdvs: 48 training and 20 test images, 35 high, 35 wide, 2 channels, 4 classes)
    """
    checks.one_of("name", name, RECORDINGS)
    source = RECORDINGS[name]
    if size is not None:
        source = source._replace(size=checks.pair("size", size, 1))
    if window is not None:
        source = source._replace(window=window)
    with optional_package(f"{name} needs tonic", "'snnjax[events]'"):
        import tonic.datasets
    kind = getattr(tonic.datasets, source.kind)
    parts: list[dict[str, bool]] = [{"train": True}, {"train": False}] if len(source.counts) == 2 else [{}]
    if data_dir is None:
        readers = _downloaded(name, kind, files.cache_folder() / "data" / name, parts)
    else:
        readers = [_present(name, kind, Path(data_dir), part) for part in parts]
    return _dataset(name, source, readers, getattr(kind, "classes", ()))


def _dataset(name: str, source: _Recordings, readers: list[Any], named: Iterable[Any]) -> Dataset:
    """The data set that tonic's readers provide, for training and test recordings or for all recordings together.

    `named` are the names of the classes, if they are known.
    """
    notes = []
    for purpose, reader, count in zip(("training ", "test "), readers, source.counts, strict=False):
        if (present := len(reader.targets)) < count:
            notes.append(f"{present:,} of {count:,} {purpose if len(readers) > 1 else ''}recordings are there")
    classes = [str(label) for label in named] or sorted({*readers[0].targets})
    arrays = [array for reader in readers for array in _read(reader, classes, source)]
    if len(readers) == 1:
        arrays = _divided(*arrays)
    train_images, train_labels, test_images, test_labels = arrays
    names = tuple(label.partition(" - ")[0] for label in classes)  # N-MNIST has names such as "0 - zero"
    return Dataset(name, train_images, train_labels, test_images, test_labels, len(classes), names, tuple(notes))


def event_picture(
    events: np.ndarray, sensor: tuple[int, int], size: tuple[int, int], window: float = math.inf
) -> np.ndarray:
    """Converts a recording to an event picture (H, W, 2) uint8, which holds the time of the first event at each pixel.

    The value is 255 for the time of the first event of the recording and decreases to 0 at the end of the window;
    pixels without an event are 0. The last axis is the polarity, off and on.

    Args:
      events: a structured array with the fields x, y, t in microseconds and p (0 off, 1 on), as tonic's readers return
        it.
      sensor: rows and columns of the sensor.
      size: rows and columns of the picture. If several events fall on a pixel, the earliest one is used.
      window: the length of the window in microseconds from the first event; infinite: the whole recording.

    With this function, custom recordings can be converted to a `Dataset`; `tonic.io` reads the files of several types
    of cameras. Raises InputError if events lie outside the sensor.

    Examples:
      >>> import numpy as np
      >>> from snnjax.data import event_picture
      >>> fields = [("x", int), ("y", int), ("t", int), ("p", int)]
      >>> events = np.array([(0, 0, 1000, 1), (3, 2, 1500, 0)], fields)
      >>> event_picture(events, sensor=(4, 4), size=(2, 2), window=1000).tolist()
      [[[0, 255], [0, 0]], [[0, 0], [128, 0]]]
    """
    checks.at_least("window", window, 0, above=True)
    picture = np.zeros((*size, 2), np.uint8)
    if len(events) == 0:
        return picture
    x, y, t, p = (np.ravel(events[name]).astype(np.int64) for name in "xytp")
    for axis, values, limit in (("x", x, sensor[1]), ("y", y, sensor[0]), ("p", p, 2)):
        checks.all_within(f"{axis} of events", values, 0, limit - 1)
    t -= t.min()
    duration = t.max() + 1 if math.isinf(window) else window
    place = (y * size[0] // sensor[0], x * size[1] // sensor[1], p)
    value = 255 - np.floor(255 * t / duration)
    kept = t < duration
    # If several events fall on a pixel, plain indexing would keep an arbitrary one. The earliest one has the largest
    # value.
    np.maximum.at(picture, tuple(indices[kept] for indices in place), value[kept].astype(np.uint8))
    return picture


def _present(name: str, kind: Any, folder: Path, part: dict[str, bool]) -> Any:
    """Tonic's reader of the recordings in a folder, which may be incomplete and need not contain the archive."""
    # The subclass has the same name, because tonic derives the name of its folder from the name of the class.
    partial = type(kind.__name__, (kind,), dict(_check_exists=lambda self: True))
    with files.refuse_damaged(f"{folder / kind.__name__} does not hold {name} as tonic unpacks it"):
        reader = partial(str(folder), **part)
    if not reader.targets:
        where = folder / kind.__name__ / reader.folder_name
        raise FileNotFoundError(
            f"there are no recordings of {name} in {where}: `data_dir` must be the folder that tonic has downloaded "
            f"into, with {kind.__name__} in it; without `data_dir`, they are downloaded"
        )
    return reader


def _downloaded(name: str, kind: Any, folder: Path, parts: list[dict[str, bool]]) -> list[Any]:
    """Tonic's readers of all recordings, which are downloaded if necessary; other processes wait until this is done.

    Tonic regards an incomplete folder as complete, so a marker file is written once all recordings are unpacked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    unpacked = folder / kind.__name__
    marker = unpacked / ".whole"
    waiting = functools.cache(lambda: print(f"waiting for another download of {name}", file=sys.stderr))  # printed once
    with files.lock(folder, waiting):
        if not marker.exists():
            for path in unpacked.glob("*/"):  # but not the archives, which tonic checks
                shutil.rmtree(path)
        readers = [_tonic(name, kind, folder, part) for part in parts]
        marker.touch()
    return readers


def _tonic(name: str, kind: Any, folder: Path, part: dict[str, bool]) -> Any:
    """Tonic's reader, which downloads and unpacks missing files."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return kind(str(folder), **part)
    except Exception as error:  # from the network, archives or checksums
        raise DownloadError(
            f"{name} cannot be downloaded into {folder} ({error}): try again with a network, or name the folder that "
            f"holds {kind.__name__} with `data_dir` (--data_dir)"
        ) from error


def _read(reader: Any, classes: list[str], source: _Recordings) -> tuple[np.ndarray, np.ndarray]:
    """All pictures, (N, H, W, 2) uint8, and labels, (N,) int32, shuffled in a fixed order."""
    labels = np.array([classes.index(x) if isinstance(x, str) else x for x in reader.targets], np.int32)
    names = [x if isinstance(x, str) else f"recording {index}" for index, x in enumerate(reader.data)]
    fixed = sorted(range(len(names)), key=lambda index: (labels[index], names[index]))  # folders are unordered
    order = np.random.default_rng(0).permutation(fixed)
    pictures = np.zeros((len(order), *source.size, 2), np.uint8)
    for index, number in enumerate(tqdm(order, f"reading {reader!r}", unit=" recordings", leave=False, disable=None)):
        try:
            with files.refuse_damaged(f"{names[number]} is damaged or not a recording of {reader!r}"):
                pictures[index] = event_picture(reader[number][0], source.sensor, source.size, source.window)
        except ImportError as error:
            raise MissingPackageError(f"{reader!r} needs {error.name} too: pip install {error.name}") from error
    return pictures, labels[order]


def _divided(pictures: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """Sets apart every fifth picture of each class: pictures and labels for training, then those for testing."""
    test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        test[np.flatnonzero(labels == label)[4::5]] = True
    return [pictures[~test], labels[~test], pictures[test], labels[test]]
