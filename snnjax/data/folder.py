"""Data sets from folders of pictures with a subfolder for each class, or from .zip files of such folders."""

import contextlib
import dataclasses
import math
import os
import re
import warnings
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from snnjax.core import checks
from snnjax.core.defaults import FITS, Fit
from snnjax.core.errors import InputError, explained, image_size, printable
from snnjax.data.dataset import Dataset
from snnjax.data.layout import Layout, Part, Source, arranged, opened
from snnjax.data.names import composed, natural, some
from snnjax.data.pictures import MUCH, Picture, cut, decode, depth_note, has_colour
from snnjax.data.splits import note_groups

SIZE = 32  # default number of rows and columns
LARGEST_SIZE = 4096  # rows and columns
OTHER_SIZE = "`size` (--size) sets another size"
PAD_ADVICE = "`fit='pad'` (--fit pad) adds a border instead"
LARGEST_KEPT = 512  # rows and columns up to which pictures keep their size by default
SAMPLE = 100  # pictures from which the default size and colour are determined
THREADS = 8
LARGEST_BATCH = 16  # pictures per task of a thread: passing on a small picture takes as long as decoding it

WORDS = dict(train="training", test="test", validation="validation")

Size = tuple[int, int]


def picture_folder(
    data_dir: Path | str,
    size: int | Size | None = None,
    colour: bool | None = None,
    *,
    group: str | None = None,
    split_seed: int = 0,
    fit: Fit = "crop",
    test_only: bool = False,
) -> Dataset:
    """Reads a folder of pictures with a subfolder for each class, or a .zip file of it, which is not unpacked.

    The folders of the classes are in `data_dir` itself; or in a train folder and a test folder (also called training
    and testing, in upper or lower case), optionally with a validation folder (val, valid or validation). Without a test
    folder, the validation folder is used for testing; if there is neither, a fifth of each class is drawn for testing,
    with `split_seed`. All of this may also be inside a single folder. Pictures may be in subfolders of the folder of
    their class. Classes are in natural order: 2 comes before 10. Hidden files and other types of files are ignored.
    Pictures that cannot be read are left out, with a note.

    Pictures are learned one at a time, so they are shuffled, always in the same way: the pictures of each class are
    spread evenly over the data set.

    Args:
      data_dir: the folder or .zip file.
      size: rows and columns of the images, or one number for both. Pictures are resized without changing their
        proportions, as `fit` says. None: the size of the pictures, if it is the same for all and at most 512;
        otherwise 32.
      colour: whether images have colour, (H, W, 3), or are grey, (H, W). None: as most of the pictures.
      group: a regular expression that matches, in a picture's file name without its folders, the group of the picture,
        such as an object or a person: the first group in parentheses or, without one, the whole match. Pictures with
        the same text belong to one group, even if they are of several classes. A group is used only for training, only
        for testing, or only for validation (`Dataset.hold_out`). `Dataset.test_group_names` are the names of the groups
        for testing.
      split_seed: the seed for drawing the test pictures or groups, 0 to 2**64 - 1.
      fit: how pictures are adapted whose proportions differ from those of the images: "crop" uses their middle, "pad"
        uses the whole picture and adds a border in the colour of its edge, the median of its outermost pixels.
      test_only: for a network trained on other pictures. Without a test folder, all pictures are for testing. Only the
        test pictures are read, and they also serve as the training images of the data set.

    The data set has the name of the folder and the names of the files; its `notes` report omissions and changes.
    Raises FileNotFoundError if there is nothing at `data_dir`. Raises InputError if the pictures are of fewer than two
    classes, if the classes for testing differ from those for training, if no training picture of a class can be read,
    if `group` is not a regular expression or matches no picture, or if `split_seed` is not 0 although there is a test
    folder.

    Examples:
      >>> from snnjax.data import picture_folder
      >>> data = picture_folder("pictures", size=32)  # pictures/cat/1.png, ..., pictures/dog/10.png
      >>> data
      Dataset(pictures: 16 training and 4 test images, 32 high, 32 wide, 2 classes)
      >>> data.class_names
      ('cat', 'dog')
    """
    path = Path(data_dir)
    pair = None if size is None else checks.pair("size", size, 1, LARGEST_SIZE)
    pattern = None if group is None else _compiled(group)
    checks.integer("split_seed", split_seed, 0, checks.LARGEST_SEED)
    checks.one_of("fit", fit, FITS)
    with opened(path) as source, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(PIL|joblib)\.")  # about oddities and unused pictures
        with explained(f"`data_dir` {path}"):
            layout = arranged(source.names, test_only, pattern, split_seed)
            if source.broken:
                layout.notes.append(f"links that lead nowhere are left out: {some(source.broken)}")
            return _dataset(composed(path.resolve().name).removesuffix(".zip"), source, layout, pair, colour, fit)


def _dataset(name: str, source: Source, layout: Layout, size: Size | None, colour: bool | None, fit: Fit) -> Dataset:
    """The data set of a layout; if size or colour are None, they are determined from a sample of the pictures."""
    notes = layout.notes
    sample = _sample(source, layout.parts) if size is None or colour is None else []
    if colour is None:
        colour = _is_coloured(sample, notes)
    planes: tuple[int, ...] = (3,) if colour else ()
    common = _common_size(sample) if size is None else None
    read = _read(source, layout.parts, (*common, *planes), fit, notes, same_size=True) if common else []
    if not read:
        if size is None:
            size_used = image_size((SIZE, SIZE))
            notes.append(f"sizes differ or are large, so that pictures are resized to {size_used}: {OTHER_SIZE}")
        read = _read(source, layout.parts, (*(size or (SIZE, SIZE)), *planes), fit, notes)
    for part, kept in zip(layout.parts, read, strict=True):
        if lost := [layout.classes[label] for label in np.setdiff1d(part.labels, kept.labels)]:
            notes.append(f"no {WORDS[part.purpose]} picture of {some(lost)} can be read")
            if part.purpose == "train" or not kept.names:
                raise InputError("; ".join(notes[-2:]))
    if layout.group_names:
        names = [name for part in read for name in part.names]
        notes.append(_grouped([layout.groups[name] for name in names], layout.group_names))
    if len(read) == 1:  # for testing only
        read.append(read[0]._replace(purpose="train"))
    fields: dict[str, Any] = {}
    if layout.groups:
        named = {number: layout.group_names.get(number, name) for name, number in layout.groups.items()}
        fields["group_names"] = tuple(named.values())  # groups are numbered in this order
    for part in read:
        fields[f"{part.purpose}_images"] = part.images
        fields[f"{part.purpose}_labels"] = part.labels
        fields[f"{part.purpose}_files"] = part.names
        if part.purpose != "validation" and layout.groups:
            fields[f"{part.purpose}_groups"] = np.array([layout.groups[name] for name in part.names], np.int32)
    data = Dataset(name, **fields, class_names=tuple(layout.classes))
    return dataclasses.replace(data, notes=(*notes, *note_groups(data.test_group_names)))


def _grouped(numbers: list[int], names: dict[int, str]) -> str:
    """A note on the groups of the pictures that were read, given the group number of each and the groups' names."""
    texts = sorted({names[number] for number in numbers if number in names}, key=natural)
    single = len(np.setdiff1d(numbers, [*names]))
    examples = " and ".join(f"'{printable(name)}'" for name in texts[:2])
    ending = f"; each of the {single:,} pictures that `group` does not match is its own group" if single else ""
    such = f", such as {examples}" if examples else ""
    return f"{len(numbers) - single:,} pictures belong to {len(texts):,} group{'s' * (len(texts) != 1)}{such}{ending}"


def _compiled(group: Any) -> re.Pattern[str]:
    checks.instance("group", group, str, "a regular expression")
    with explained(f"`group` must be a regular expression, got '{group}'", re.error):
        return re.compile(group)


def _sample(source: Source, parts: list[Part]) -> list[Picture]:
    """A sample of the pictures, in colour."""
    names = [name for part in parts for name in part.names]
    pictures = _decoded(source, names[:: -(-len(names) // SAMPLE)], (SIZE, SIZE, 3), "crop")
    return [picture for picture in pictures if isinstance(picture, Picture)]


def _is_coloured(sample: list[Picture], notes: list[str]) -> bool:
    """Whether most pictures have colour; adds a note if some of them do."""
    count = sum(has_colour(picture.pixels) for picture in sample)
    colour = 2 * count > len(sample)
    option = "`colour=False` (--no_colour) makes them grey" if colour else "`colour=True` (--colour) keeps the colour"
    if 0 < count < len(sample):
        how = "in colour" if colour else "in grey"
        notes.append(f"some pictures have colour, some are grey: all are read {how}; {option}")
    elif colour:
        notes.append(f"the pictures are read in colour; {option}")
    return colour


def _common_size(sample: list[Picture]) -> Size | None:
    """The common size of all pictures in a sample; None if sizes differ, or if it is too large to be kept."""
    sizes = {picture.size for picture in sample}
    return sizes.pop() if len(sizes) == 1 and max(map(max, sizes)) <= LARGEST_KEPT else None


def _read(
    source: Source, parts: list[Part], shape: tuple[int, ...], fit: Fit, notes: list[str], same_size: bool = False
) -> list[Part]:
    """Reads the pictures of each part, without those that cannot be read, and adds notes, the one on these last.

    With `same_size`, the result is empty if the size of a picture differs from `shape`.
    """
    read = []
    sizes: list[Size] = []
    changes: list[str] = []
    largest: list[int] = []
    faults: list[str] = []
    total = sum(len(part.names) for part in parts)
    with tqdm(desc="reading pictures", total=total, leave=False, disable=None) as bar:
        for part in parts:
            count = len(part.names)
            try:
                images = np.empty((count, *shape), np.uint8)
            except MemoryError as error:
                raise InputError(f"{count} pictures of {shape} need too much memory: choose a `size`") from error
            places: list[int] = []
            with contextlib.closing(_decoded(source, part.names, shape, fit)) as pictures:
                for index, picture in enumerate(pictures):
                    bar.update()
                    if isinstance(picture, str):
                        faults.append(picture)
                        continue
                    if same_size and picture.size != shape[:2]:
                        return []
                    images[len(places)] = picture.pixels
                    places.append(index)
                    sizes.append(picture.size)
                    changes += picture.notes
                    if picture.largest is not None:
                        largest.append(picture.largest)
            kept = [part.names[place] for place in places]
            read.append(Part(part.purpose, kept, part.labels[places], images[: len(places)]))
    if largest:
        changes += [depth_note(max(largest))] * len(largest)
    notes += _notes(shape, fit, sizes, changes, faults)
    return read


def _notes(shape: tuple[int, ...], fit: Fit, sizes: list[Size], changes: list[str], faults: list[str]) -> list[str]:
    """Notes about how pictures of these sizes were fitted into `shape`, and about pictures that cannot be read."""
    count = len(sizes)
    notes = [f"{times} of {count} pictures: {change}" for change, times in Counter(changes).items()]
    larger = any if fit == "crop" else all  # a padded picture need not be as large as the image
    if enlarged := [size for size in sizes if larger(side < wanted for side, wanted in zip(size, shape, strict=False))]:
        smallest = image_size(min(enlarged, key=math.prod))
        notes.append(f"{len(enlarged)} of {count} pictures: enlarged, the smallest from {smallest}")
    if changed := sum(cut(size, shape) > MUCH for size in sizes):
        much = f"{changed} of {count} pictures: more than {100 * MUCH:.0f} %"
        if fit == "pad":
            notes.append(f"{much} of the image is a border that was added to keep their proportions")
        else:
            notes.append(f"{much} cut off to keep their proportions; {PAD_ADVICE}")
    if faults:
        total = count + len(faults)
        notes.append(f"{len(faults)} of {total} pictures are left out: {some(sorted(faults), '; ')}")
    return notes


def _decoded(source: Source, names: list[str], shape: tuple[int, ...], fit: Fit) -> Generator[Picture | str]:
    """Each picture, fitted into `shape`, or a text that says why it cannot be read, in order."""
    import joblib

    def one(name: str) -> Picture | str:
        try:
            return decode(source.open(name), shape, fit)
        except MemoryError:
            raise
        except InputError as error:
            return f"{name} {error}"
        except Exception as error:  # a damaged archive raises errors of many kinds
            return f"{name} cannot be read: {error}"

    threads = min(THREADS, os.cpu_count() or 1)  # PIL releases the GIL
    size = max(1, min(LARGEST_BATCH, len(names) // THREADS))
    pool = joblib.Parallel(threads, backend="threading", batch_size=size, return_as="generator")
    return pool(joblib.delayed(one)(name) for name in names)
