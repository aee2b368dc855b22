"""Finds the pictures in a folder or .zip file, their classes, and those for testing."""

import contextlib
import functools
import io
import itertools
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from snnjax.core import checks
from snnjax.core.errors import InputError, printable
from snnjax.core.files import check_size, refuse_damaged
from snnjax.data.names import checked, composed, natural, some
from snnjax.data.splits import A_FIFTH, hold_out_groups

READ = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
NOT_READ = (".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg")  # these pictures are reported, not ignored
TRAIN, TEST, VALIDATION = ("train", "training"), ("test", "testing"), ("val", "valid", "validation")  # in any case
MOST_ENTRIES = 5_000_000  # files and folders at all depths
MOST_BYTES = 1 << 28  # in a picture in a zip file, uncompressed
UTF_8, UNIX = 0x800, 3  # in a zip file: the flag for names in UTF-8, and the number of the system that wrote it
MOST_RATIO, FREE = 50, 1 << 30  # uncompressed bytes per byte of a zip file, and bytes that are always allowed


class Source(NamedTuple):
    """The files in a folder or .zip file, without hidden files."""

    names: list[str]  # with / between folders; names of folders end in /
    open: Callable[[str], Path | io.BytesIO]
    broken: Sequence[str] = ()  # names of links that lead nowhere and do not have the name of a picture


class Part(NamedTuple):
    """The pictures of a training, test or validation set, in order."""

    purpose: str  # "train", "test" or "validation"
    names: list[str]
    labels: np.ndarray  # (N,) int32
    images: np.ndarray | None = None  # (N, H, W) or (N, H, W, 3) uint8, once they are read


class Layout(NamedTuple):
    """The pictures of a folder, by part, class and group."""

    classes: list[str]
    parts: list[Part]  # training, test and perhaps validation; or only test
    groups: dict[str, int]  # the number of a picture's group, by the picture's name; a group stays together
    group_names: dict[int, str]  # the text that the pictures of a group share, by its number
    notes: list[str]  # about pictures that are left out, and about the choice of test pictures


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Source]:
    """Opens a folder or .zip file; raises FileNotFoundError if it does not exist, InputError if it is neither."""
    if path.is_dir():
        broken: list[str] = []
        yield Source(list(itertools.islice(_walk(path, broken), MOST_ENTRIES + 1)), path.joinpath, broken)
        return
    if not path.exists():
        raise FileNotFoundError(f"`data_dir` {path}: there is no such folder or .zip file")
    with refuse_damaged(f"`data_dir` must be a folder of pictures or a .zip file of one, got {path}"):
        archive = zipfile.ZipFile(path)
    with archive:
        most = max(FREE, MOST_RATIO * path.stat().st_size)
        check_size(f"`data_dir` {path}", sum(info.file_size for info in archive.infolist()), most)
        infos = {}
        for info in archive.infolist():
            parts = [part for part in _file_name(info).replace("\\", "/").split("/") if part]
            if not any(map(_is_hidden, parts)):
                infos["/".join(parts) + "/" * info.is_dir()] = info
        yield Source([*infos], functools.partial(_unzipped, archive, infos))


def _file_name(info: zipfile.ZipInfo) -> str:
    """The name of a file in a .zip file.

    Programs on Unix write names in UTF-8 without setting the flag for it, so that they are misread as CP437.
    """
    if info.flag_bits & UTF_8 or info.create_system != UNIX:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _walk(folder: Path, broken: list[str], above: str = "", outer: tuple[Path, ...] = ()) -> Iterator[str]:
    """The names of all entries in a folder; links are followed unless they lead to a folder that contains them.

    A link that leads nowhere counts as an unreadable picture if it has the name of a picture; otherwise it is added to
    `broken`.
    """
    if (real := folder.resolve()) in outer:
        return
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not _is_hidden(entry.name)]
    for entry in visible:
        name = above + entry.name
        if entry.is_dir():
            yield f"{name}/"
            yield from _walk(folder / entry.name, broken, f"{name}/", (*outer, real))
        elif entry.is_file():
            yield name
        elif os.path.exists(entry.path):  # it is a pipe or a device
            continue
        elif _is_picture(name):
            yield name
        else:
            broken.append(name)


def _is_picture(name: str) -> bool:
    return name.lower().endswith((*READ, *NOT_READ))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _unzipped(archive: zipfile.ZipFile, infos: dict[str, zipfile.ZipInfo], name: str) -> io.BytesIO:
    info = infos[name]
    held = info.file_size
    check_size("cannot be read: it", held, MOST_BYTES)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # no size limit works for other types
        raise InputError(f"cannot be read: its compression, number {info.compress_type}, is not supported")
    with archive.open(info) as file:
        return io.BytesIO(file.read(held))  # no more, even if the archive contains more than it declares


class _File(NamedTuple):
    """The name of a picture in the source, and its folders and file, in Unicode normalization form NFC."""

    name: str
    path: list[str]


def arranged(
    names: list[str], test_only: bool = False, group: re.Pattern[str] | None = None, split_seed: int = 0
) -> Layout:
    """Sorts pictures by class and purpose, in an order that depends only on their names and `split_seed`.

    Without a test folder, a fifth of each class is for testing, or all pictures if they are `test_only`. `group`
    matches the part of a file name by which pictures stay together. Raises InputError if there are fewer than two
    classes, if the classes for testing differ from those for training, if `group` matches no picture, or if there is
    nothing for `split_seed` to draw.
    """
    if len(names) > MOST_ENTRIES:
        advice = "give the path of the folder that contains only the pictures"
        raise InputError(f"it holds more than {MOST_ENTRIES:,} files and folders: {advice}")
    pictures = list(filter(_is_picture, names))
    if not pictures:
        raise InputError(f"there are no pictures in it ({', '.join(READ)})")
    files = [_File(name, path.split("/")) for path, name in sorted((composed(name), name) for name in pictures)]
    notes = list[str]()
    depth, used = _folders(files, notes)
    if used:
        sets = [_by_class([file for file in files if file.path[depth - 1] == top], depth, notes) for top in used]
    else:
        sets = [_by_class(files, depth, notes)]
    classes = sorted(checked(sets[0]), key=natural)
    for top, part in zip(used[1:], sets[1:], strict=True):
        _check_same_classes(used[0], sets[0], top, part)
    if len(classes) < 2:
        got = f"only one class: {classes[0]}" if classes else "only pictures outside such folders"
        raise InputError(f"it must hold a folder of pictures for each of several classes, got {got}")
    folders = (composed(name[:-1]).split("/") for name in names if name.endswith("/"))
    if empty := sorted({path[depth] for path in folders if len(path) == depth + 1} - {*classes}, key=natural):
        notes.append(f"folders without pictures are left out: {some(empty)}")
    groups: dict[str, int] = {}
    group_names: dict[int, str] = {}
    if group is not None and not test_only:
        groups, group_names = _number_groups(files, group)
    if len(sets) > 1 and not test_only:
        checks.equal("split_seed", split_seed, 0, "there is a test folder, so that nothing is drawn (--split_seed)")
    rng = np.random.default_rng(split_seed)
    shuffled = [[[part[name][i] for i in rng.permutation(len(part[name]))] for name in classes] for part in sets]
    if len(shuffled) == 1 and test_only:
        notes.append("no test folder: all pictures are for testing")
        shuffled *= 2
    elif len(shuffled) == 1:
        notes.append(A_FIFTH)
        shuffled = _set_fifth_apart(classes, shuffled[0], groups, split_seed)
    purposes = ("train", "test", "validation")
    parts = [_spread(purpose, part, rng) for purpose, part in zip(purposes, shuffled, strict=False)]
    if groups and used:
        first, *others = ({groups[name] for name in part.names} for part in parts)
        if shared := len(first & set().union(*others)):
            ending = f"have pictures in {used[0]}/ and in other folders, which makes the test easier"
            notes.append(f"{shared:,} groups {ending}")
    return Layout(classes, parts[1:2] if test_only else parts, groups, group_names, notes)


def _folders(files: list[_File], notes: list[str]) -> tuple[int, list[str]]:
    """The number of levels above the folders of the classes, and the names of the folders on the lowest of them.

    These are the training, test and validation folders in this order, as far as they exist; or the list is empty.
    """
    depth = 0
    while len({file.path[depth] for file in files}) == 1 and any(len(file.path) > depth + 2 for file in files):
        depth += 1  # a single folder contains everything
    tops = sorted({file.path[depth] for file in files if len(file.path) > depth + 1})
    train, test, validation = (
        next((top for name in part for top in tops if top.lower() == name), "") for part in (TRAIN, TEST, VALIDATION)
    )
    if not any(file.path[depth] == train and len(file.path) > depth + 2 for file in files):
        return depth, []
    if validation and not test:
        notes.append(f"without a test folder, {validation}/ is for testing, not for validation")
        test = validation
        validation = ""
    used = [top for top in (train, test, validation) if top]
    if others := [f"{top}/" for top in tops if top not in used]:
        notes.append(f"{' and '.join(f'{top}/' for top in used)} are used; left out: {some(others)}")
    return depth + 1, used


def _by_class(files: list[_File], depth: int, notes: list[str]) -> dict[str, list[str]]:
    """The names of the pictures of each class, which is the name of the folder at this depth."""
    classes: dict[str, list[str]] = {}
    for file in files:
        if len(file.path) > depth + 1:
            classes.setdefault(file.path[depth], []).append(file.name)
    if strays := [file.name for file in files if len(file.path) == depth + 1]:
        notes.append(f"pictures outside the folders of classes are left out: {some(strays)}")
    return classes


def _check_same_classes(train: str, first: dict[str, list[str]], other: str, second: dict[str, list[str]]) -> None:
    """Raises InputError with the names of the classes that are missing in one of two parts, if there are any."""
    if first.keys() == second.keys():
        return
    if not second:
        ending = f"without {other}/, a fifth of {train}/ is for testing"
        raise InputError(f"{other}/ must hold a folder for each class as {train}/ does, it has none; {ending}")
    lacking = ((train, second.keys() - first.keys()), (other, first.keys() - second.keys()))
    words = [f"{top}/ lacks {some(sorted(names, key=natural))}" for top, names in lacking if names]
    raise InputError(f"{train}/ and {other}/ must hold folders of the same classes: {', '.join(words)}")


def _number_groups(files: list[_File], group: re.Pattern[str]) -> tuple[dict[str, int], dict[int, str]]:
    """The group number of each picture, by the name of the picture, and the text of each group, by its number.

    A picture whose file name does not match forms a group of its own, without a text.
    """
    numbers: dict[tuple[bool, str], int] = {}
    by_name: dict[str, int] = {}
    for file in files:
        match = group.search(file.path[-1])
        text = match and match[1 if group.groups else 0]
        key = (False, file.name) if text is None else (True, text)
        by_name[file.name] = numbers.setdefault(key, len(numbers))
    texts = {number: text for (matches, text), number in numbers.items() if matches}
    if not texts:
        name = printable(files[0].path[-1])
        raise InputError(f"`group` '{group.pattern}' matches no picture's file name, such as '{name}'")
    return by_name, texts


def _set_fifth_apart(
    classes: list[str], pictures: list[list[str]], groups: dict[str, int], split_seed: int
) -> list[list[list[str]]]:
    """Splits each class into four fifths for training and one fifth for testing; groups are not split."""
    if groups:
        labels = np.repeat(np.arange(len(pictures)), list(map(len, pictures)))
        names = [name for part in pictures for name in part]
        numbers = np.array([groups[name] for name in names])
        chosen = hold_out_groups(labels, numbers, 1 / 5, np.random.default_rng(split_seed))
        held = {name for name, is_held in zip(names, chosen, strict=True) if is_held}
    else:
        held = {name for part in pictures for name in part[: max(1, round(len(part) / 5))]}
    train = [[name for name in part if name not in held] for part in pictures]
    test = [[name for name in part if name in held] for part in pictures]
    if few := [name for name, *parts in zip(classes, train, test, strict=True) if not all(parts)]:
        unit = "groups of pictures" if groups else "pictures"
        raise InputError(f"a class must have at least 2 {unit}, one of them for testing, got 1 of {some(few)}")
    return [train, test]


def _spread(purpose: str, pictures: list[list[str]], rng: np.random.Generator) -> Part:
    """Spreads the pictures of each class evenly, at random distances; the first pictures of all classes come first."""
    labels = np.repeat(np.arange(len(pictures), dtype=np.int32), list(map(len, pictures)))
    ranks = np.concatenate([np.arange(len(part)) for part in pictures])
    sizes = np.array([len(pictures[label]) for label in labels])
    order = np.argsort((ranks + rng.random(len(ranks)) * (ranks > 0)) / sizes, kind="stable")
    names = [name for part in pictures for name in part]
    return Part(purpose, [names[index] for index in order], labels[order])
