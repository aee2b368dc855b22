"""Which pictures a folder or .zip file holds, of which classes, and which of them are for testing."""

import contextlib
import functools
import io
import os
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from snnjax.data.names import checked, natural, some
from snnjax.errors import InputError
from snnjax.files import is_system_error

READ = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
NOT_READ = (".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg")  # pictures too, so that they are named, not overlooked
TRAIN, TEST = ("train", "training"), ("test", "testing", "val", "valid", "validation")  # in upper or lower case
MOST_BYTES = 1 << 28  # of a picture in a zip file, unzipped
MOST_RATIO, FREE = 50, 1 << 30  # bytes, unzipped, for each byte of a zip file, and those that any may hold


class Source(NamedTuple):
    """The files of a folder or .zip file, hidden ones left out."""

    names: list[str]  # with / between folders; those of folders end in it
    open: Callable[[str], Path | io.BytesIO]


class Part(NamedTuple):
    """The pictures of a training or test set, in order."""

    purpose: str  # "training" or "test"
    names: list[str]
    labels: np.ndarray  # (N,) int32


class Layout(NamedTuple):
    """What the pictures are for."""

    classes: list[str]
    train: Part
    test: Part
    notes: list[str]  # on what is left out, and what is for testing without a test folder


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Source]:
    """The files of a folder or .zip file; FileNotFoundError if there is neither, InputError if it is something else."""
    if path.is_dir():
        yield Source(list(_walk(path)), path.joinpath)
        return
    if not path.exists():
        raise FileNotFoundError(f"`data_dir` {path}: there is no such folder or .zip file")
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # a damaged archive raises errors of many kinds
        if is_system_error(error):
            raise
        raise InputError(
            f"`data_dir` must be a folder of pictures or a .zip file of one, got {path}: {error}"
        ) from error
    with archive:
        most = max(FREE, MOST_RATIO * path.stat().st_size)
        if (held := sum(info.file_size for info in archive.infolist())) > most:
            raise InputError(f"`data_dir` {path} holds {held} bytes, unzipped: at most {most} are read")
        infos = {}
        for info in archive.infolist():
            parts = [part for part in info.filename.replace("\\", "/").split("/") if part]
            if not any(map(_is_hidden, parts)):
                infos["/".join(parts) + "/" * info.is_dir()] = info
        yield Source([*infos], functools.partial(_unzipped, archive, infos))


def _walk(folder: Path, above: str = "", outer: tuple[Path, ...] = ()) -> Iterator[str]:
    """The names of what a folder holds, links followed unless they lead to a folder that they lie in."""
    if (real := folder.resolve()) in outer:
        return
    with os.scandir(folder) as entries:
        found = [entry for entry in entries if not _is_hidden(entry.name)]
    for entry in found:
        name = above + entry.name
        if entry.is_dir():
            yield f"{name}/"
            yield from _walk(folder / entry.name, f"{name}/", (*outer, real))
        elif entry.is_file() or not os.path.exists(entry.path):  # a broken link, to be named; but no pipe or device
            yield name


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _unzipped(archive: zipfile.ZipFile, infos: dict[str, zipfile.ZipInfo], name: str) -> io.BytesIO:
    info = infos[name]
    if (held := info.file_size) > MOST_BYTES:
        raise InputError(f"cannot be read: it holds {held} bytes, unzipped, at most {MOST_BYTES} are read")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # no limit holds for the others
        raise InputError(f"cannot be read: its compression, number {info.compress_type}, is none that is read")
    with archive.open(info) as file:
        return io.BytesIO(file.read(held))  # no more, even where the archive holds more than it says


def arranged(names: list[str], test_only: bool = False) -> Layout:
    """Sorts pictures by class and purpose, in an order that depends on nothing but their names.

    Without a test folder a fifth of each class is for testing, or all if they are `test_only`. InputError where there
    are no two classes, or others for testing than for training.
    """
    pictures = [name.split("/") for name in sorted(names) if name.lower().endswith((*READ, *NOT_READ))]
    if not pictures:
        raise InputError(f"there are no pictures in it ({', '.join(READ)})")
    depth, notes = 0, list[str]()
    while len({each[depth] for each in pictures}) == 1 and any(len(each) > depth + 2 for each in pictures):
        depth += 1  # one folder holds all
    tops = sorted({each[depth] for each in pictures if len(each) > depth + 1})
    deep = {each[depth] for each in pictures if len(each) > depth + 2}
    train, test = (next((top for name in part for top in tops if top.lower() == name), "") for part in (TRAIN, TEST))
    if train in deep:
        used = [train, test] if test else [train]
        if others := [f"{top}/" for top in tops if top not in used]:
            notes.append(f"{' and '.join(f'{top}/' for top in used)} are used; left out: {some(others)}")
        depth += 1
        groups = [_by_class([each for each in pictures if each[depth - 1] == top], depth, notes) for top in used]
    else:
        groups = [_by_class(pictures, depth, notes)]
    classes = sorted(checked(groups[0], len(groups[0])), key=natural)
    if len(groups) == 2 and (groups[0].keys() != groups[1].keys()):
        _refuse(train, groups[0], test, groups[1])
    if len(classes) < 2:
        found = f"those of one: {classes[0]}" if classes else "pictures in no class's folder"
        raise InputError(f"it must hold a folder of pictures for each of several classes, got {found}")
    folders = (name[:-1].split("/") for name in names if name.endswith("/"))
    if empty := sorted({each[depth] for each in folders if len(each) == depth + 1} - {*classes}, key=natural):
        notes.append(f"folders without pictures are left out: {some(empty)}")
    rng = np.random.default_rng(0)
    parts = [[rng.permutation(group[name]).tolist() for name in classes] for group in groups]
    if len(parts) == 1 and test_only:
        notes.append("no test folder: all pictures are for testing")
        parts *= 2
    elif len(parts) == 1:
        notes.append("no test folder: a fifth of each class is for testing")
        counts = [max(1, round(len(group) / 5)) for group in parts[0]]
        if few := [name for name, group in zip(classes, parts[0], strict=True) if len(group) < 2]:
            raise InputError(f"a class must have at least 2 pictures, one of them for testing, got 1 of {some(few)}")
        split = [(group[count:], group[:count]) for group, count in zip(parts[0], counts, strict=True)]
        parts = [list(part) for part in zip(*split, strict=True)]
    return Layout(classes, _spread("training", parts[0], rng), _spread("test", parts[1], rng), notes)


def _by_class(pictures: list[list[str]], depth: int, notes: list[str]) -> dict[str, list[str]]:
    """The names of pictures by the folder at a depth, the name of their class."""
    groups: dict[str, list[str]] = {}
    for each in pictures:
        if len(each) > depth + 1:
            groups.setdefault(unicodedata.normalize("NFC", each[depth]), []).append("/".join(each))
    if strays := ["/".join(each) for each in pictures if len(each) == depth + 1]:
        notes.append(f"pictures in no class's folder are left out: {some(strays)}")
    return groups


def _refuse(train: str, first: dict[str, list[str]], test: str, second: dict[str, list[str]]) -> None:
    """Raises InputError that names the classes which one of two parts lacks."""
    if not second:
        ending = f"without {test}/, a fifth of {train}/ is for testing"
        raise InputError(f"{test}/ must hold a folder for each class as {train}/ does, it has none; {ending}")
    lacking = ((train, second.keys() - first.keys()), (test, first.keys() - second.keys()))
    words = [f"{top}/ lacks {some(sorted(names, key=natural))}" for top, names in lacking if names]
    raise InputError(f"{train}/ and {test}/ must hold folders of the same classes: {', '.join(words)}")


def _spread(purpose: str, groups: list[list[str]], rng: np.random.Generator) -> Part:
    """All pictures, those of each class spread evenly in random distances; the first of each come first."""
    labels = np.repeat(np.arange(len(groups), dtype=np.int32), list(map(len, groups)))
    ranks = np.concatenate([np.arange(len(group)) for group in groups])
    sizes = np.array([len(groups[label]) for label in labels])
    order = np.argsort((ranks + rng.random(len(ranks)) * (ranks > 0)) / sizes, kind="stable")
    names = [name for group in groups for name in group]
    return Part(purpose, [names[at] for at in order], labels[order])
