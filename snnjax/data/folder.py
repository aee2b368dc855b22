"""Data sets that are folders of pictures, a folder for each class, or a .zip file of that."""

import contextlib
import itertools
import math
import os
import re
import warnings
from collections import Counter
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from snnjax.core.errors import InputError, printable, wrong_type
from snnjax.data.dataset import Dataset
from snnjax.data.layout import Part, Source, arranged, opened
from snnjax.data.names import composed, natural, some
from snnjax.data.pictures import MUCH, Picture, cut, decode, has_colour

SIZE, LARGEST = 32, 4096  # rows and columns, by default and at most
OTHER_SIZE = "`size` (--size) sets another"
MOST_OWN = 512  # rows and columns of pictures that keep their size unasked
SAMPLE = 100  # pictures by which size and colour are chosen
THREADS = 8
AT_ONCE = 16  # pictures, at most, that a thread decodes in a row: handing a small one over costs as much as decoding it

Size = tuple[int, int]


class _OtherSize(Exception):
    """A picture has another size than the others."""


def picture_folder(
    data_dir: Path | str,
    size: int | Size | None = None,
    colour: bool | None = None,
    *,
    group: str | None = None,
    test_only: bool = False,
) -> Dataset:
    """Reads pictures sorted into a folder for each class, or a .zip file of such folders, which is not unpacked.

    The classes' folders lie in `data_dir`, or in a train and a test folder in it (also training, testing, in upper or
    lower case) and perhaps a validation folder (val, valid, validation), which is the test folder where there is no
    other; or all this in one folder. Without a test folder a fifth of each class is for testing, always the same.
    Pictures may lie in folders within a class's. Classes are sorted as people do, 2 before 10. Files of other kinds and
    hidden ones are left out; pictures that cannot be read too, with a note.

    Learning goes picture after picture, so they are shuffled, always alike: each class is spread evenly over the whole
    set.

    Args:
      data_dir: the folder or .zip file.
      size: rows and columns of the images, or one number for both. Pictures are resized keeping their proportions and
        cropped to their middle. None: as the pictures are, if all are alike and at most 512; else 32.
      colour: whether images have colour, (H, W, 3), or are grey, (H, W). None: as most pictures.
      group: a regular expression that finds in the name of a picture's file, without folders, the group that it is of,
        such as an object or a person: its first group in parentheses, or else all that it matches. Pictures with the
        same text there are one group, also where they are of several classes, and are all for training, all for
        testing, or all held out by `Dataset.hold_out`.
      test_only: for a network trained on other pictures: without a test folder all are for testing. No others are read,
        and the training images are those for testing.

    The data set is named as the folder and has the names of the files; its `notes` say what was left out or altered.
    Raises FileNotFoundError if there is nothing at `data_dir`; InputError if it holds no pictures of at least two
    classes, other classes for testing than for training, or no training picture of a class that can be read, or where
    `group` is no regular expression or matches no picture.
    """
    path = Path(data_dir)
    known = _checked(size)
    pattern = _compiled(group)
    with opened(path) as source, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")  # of oddities in files; what cannot be read is noted
        try:
            classes, train, test, validation, group_names, notes = arranged(source.names, test_only, pattern)
            parts = [test] if test_only else [train, test]
            if validation is not None and not test_only:
                parts.append(validation)
            sample = _sample(source, parts) if known is None or colour is None else []
            if colour is None:
                colour = _is_coloured(sample, notes)
            own = _common_size(sample) if known is None else None
            planes: tuple[int, ...] = (3,) if colour else ()
            try:
                images, kept, words = _read(
                    source, parts, (*(known or own or (SIZE, SIZE)), *planes), alike=own is not None
                )
            except _OtherSize:
                own = None
                images, kept, words = _read(source, parts, (SIZE, SIZE, *planes))
            if known is None and own is None:
                notes.append(f"pictures of several sizes or large ones are taken as {SIZE}x{SIZE}: {OTHER_SIZE}")
            if group_names:
                numbers = [part.groups[at] for part, at in zip(parts, kept, strict=True) if part.groups is not None]
                notes.append(_grouped(np.concatenate(numbers), group_names))
            for part, places in zip(parts, kept, strict=True):
                if lost := [classes[label] for label in np.setdiff1d(part.labels, part.labels[places])]:
                    words.append(f"no {part.purpose} picture of {some(lost)} can be read")
                    if part is train or len(places) == 0:
                        raise InputError("; ".join(words[-2:]))
        except InputError as error:
            raise InputError(f"`data_dir` {path}: {error}") from error
    name = composed(path.resolve().name).removesuffix(".zip")
    fields: dict[str, Any] = {}
    for part, pixels, places in zip(parts, images, kept, strict=True):
        fields |= _fields(part, pixels, places)
    if test_only:
        fields |= _fields(test._replace(purpose="training"), images[0], kept[0])
    return Dataset(name, **fields, class_names=tuple(classes), notes=(*notes, *words))


def _fields(part: Part, images: np.ndarray, places: list[int]) -> dict[str, Any]:
    """What a data set holds of a part, of which the pictures at `places` were read."""
    name = {"training": "train"}.get(part.purpose, part.purpose)
    files = tuple(part.names[place] for place in places)
    fields = {f"{name}_images": images, f"{name}_labels": part.labels[places], f"{name}_files": files}
    if name == "train" and part.groups is not None:
        fields["train_groups"] = part.groups[places]
    return fields


def _grouped(numbers: np.ndarray, names: dict[int, str]) -> str:
    """A note on the groups of the pictures that were read, given the number of each one's, and the groups' names."""
    found = sorted({names[number] for number in numbers.tolist() if number in names}, key=natural)
    alone = len(np.setdiff1d(numbers, [*names]))
    examples = " and ".join(f"'{printable(name)}'" for name in found[:2])
    ending = f"; {alone:,} that `group` does not match are groups of their own" if alone else ""
    such = f", such as {examples}" if examples else ""
    return f"{len(numbers) - alone:,} pictures are of {len(found):,} group{'s' * (len(found) != 1)}{such}{ending}"


def _compiled(group: Any) -> re.Pattern[str] | None:
    """`group` as a pattern."""
    if group is None:
        return None
    if not isinstance(group, str):
        raise wrong_type("group", "a regular expression", group)
    try:
        return re.compile(group)
    except re.error as error:
        raise InputError(f"`group` must be a regular expression, got '{group}': {error}") from error


def _checked(size: Any) -> Size | None:
    """`size` as rows and columns."""
    if size is None:
        return None
    numbers = tuple(size) if isinstance(size, tuple | list) else (size, size)
    if len(numbers) != 2 or not all(type(each) is int and 1 <= each <= LARGEST for each in numbers):
        raise InputError(f"`size` must be a number of 1..{LARGEST}, or two for rows and columns, got {size!r}")
    return numbers


def _sample(source: Source, parts: list[Part]) -> list[Picture]:
    """Some of the pictures, in colour."""
    names = [name for part in parts for name in part.names]
    pictures = _decoded(source, names[:: -(-len(names) // SAMPLE)], (SIZE, SIZE, 3))
    return [each for each in pictures if isinstance(each, Picture)]


def _is_coloured(sample: list[Picture], notes: list[str]) -> bool:
    """Whether most pictures have colour; notes if any have."""
    count = sum(has_colour(each.pixels) for each in sample)
    colour = 2 * count > len(sample)
    option = "`colour=False` (--no_colour) takes them as grey" if colour else "`colour=True` (--colour) keeps it"
    if 0 < count < len(sample):
        taken = "in colour" if colour else "as grey"
        notes.append(f"some pictures have colour, some are grey: all are taken {taken}; {option}")
    elif colour:
        notes.append(f"the pictures are taken in colour; {option}")
    return colour


def _common_size(sample: list[Picture]) -> Size | None:
    """The size of all pictures of a sample; None if they have several, or one too large for a network."""
    first = sample[0].size if sample else (SIZE, SIZE)
    return first if max(first) <= MOST_OWN and all(each.size == first for each in sample) else None


def _read(
    source: Source, parts: list[Part], shape: tuple[int, ...], alike: bool = False
) -> tuple[list[np.ndarray], list[list[int]], list[str]]:
    """Images of each part, the places of their pictures in it, and notes, the last of them on what cannot be read.

    If pictures are to be `alike`, raises _OtherSize at the first that has not the size of `shape`.
    """
    arrays = list[np.ndarray]()
    kept = list[list[int]]()
    changes = Counter[str]()
    faults = list[str]()
    cropped = 0
    enlarged = list[Size]()
    total = sum(len(part.names) for part in parts)
    with tqdm(desc="reading pictures", total=total, leave=False, disable=None) as bar:
        for part in parts:
            try:
                images = np.empty((len(part.names), *shape), np.uint8)
            except MemoryError as error:
                count = len(part.names)
                raise InputError(f"{count} pictures of {shape} need too much memory: choose a `size`") from error
            places: list[int] = []
            with contextlib.closing(_decoded(source, part.names, shape)) as pictures:
                for at, picture in enumerate(pictures):
                    bar.update()
                    if isinstance(picture, str):
                        faults.append(picture)
                        continue
                    if alike and picture.size != shape[:2]:
                        raise _OtherSize
                    images[len(places)] = picture.pixels
                    places.append(at)
                    changes.update(picture.notes)
                    cropped += cut(picture.size, shape) > MUCH
                    if picture.size[0] < shape[0] or picture.size[1] < shape[1]:
                        enlarged.append(picture.size)
            arrays.append(images[: len(places)])
            kept.append(places)
    read = total - len(faults)
    notes = [f"{count} of {read} pictures: {change}" for change, count in changes.items()]
    if enlarged:
        height, width = min(enlarged, key=math.prod)
        notes.append(f"{len(enlarged)} of {read} pictures: enlarged, the smallest from {width}x{height}")
    if cropped:
        notes.append(f"{cropped} of {read} pictures: more than {100 * MUCH:.0f} % cut off to keep their proportions")
    if faults:
        notes.append(f"{len(faults)} of {total} pictures are left out: {some(sorted(faults), '; ')}")
    return arrays, kept, notes


def _decoded(source: Source, names: list[str], shape: tuple[int, ...]) -> Generator[Picture | str]:
    """Each picture made to fit into `shape`, or words on why it cannot be read, in order."""

    def one(name: str) -> Picture | str:
        try:
            return decode(source.open(name), shape)
        except MemoryError:
            raise
        except InputError as error:
            return f"{name} {error}"
        except Exception as error:  # a damaged archive raises errors of many kinds
            return f"{name} cannot be read: {error}"

    pool = ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1))  # PIL releases the GIL
    size = max(1, min(AT_ONCE, -(-len(names) // THREADS)))
    parts = [names[at : at + size] for at in range(0, len(names), size)]
    try:
        yield from itertools.chain.from_iterable(pool.map(lambda part: [*map(one, part)], parts))
    finally:
        pool.shutdown(cancel_futures=True)
