"""Stratified selections of images from a data set, in which groups stay together."""

from typing import Any

import numpy as np

from snnjax.core import checks
from snnjax.core.errors import InputError, InputTypeError, printable, shown
from snnjax.data.names import natural, some


def relabel(*labels: Any) -> tuple[tuple[np.ndarray, ...], tuple[str, ...]]:
    """Numbers the classes of labels from 0 without gaps.

    Args:
      labels: (N,) integers or text; the first array is of training and has all classes.

    Returns them as int32 of 0..C-1 in the order of the old labels, and the names of the C classes, the old labels as
    text: `(train, test), names = relabel(train, test)`, then `Dataset(..., class_names=names)`. Raises InputError if a
    later array has classes that the first one lacks.

    Examples:
      >>> from snnjax.data import relabel
      >>> (train, test), names = relabel([7, 3, 7], [3])
      >>> train.tolist(), test.tolist(), names
      ([1, 0, 1], [0], ('3', '7'))
    """
    arrays = [_label_array(x) for x in labels]
    checks.some("labels", arrays[0] if arrays else (), "of at least one image")
    if len({array.dtype.kind == "U" for array in arrays}) > 1:
        raise InputTypeError("`labels` must all be integers, or all text, got both")
    values = np.unique(arrays[0])
    if values.dtype.kind == "U":
        values = np.array(sorted(values.tolist(), key=natural))
    for array in arrays[1:]:
        if unknown := [str(label) for label in np.setdiff1d(array, values)]:
            raise InputError(f"`labels` of training must have all classes, they lack {some(unknown)}")
    sorting = np.argsort(values)
    numbers = (sorting[np.searchsorted(values, array, sorter=sorting)].astype(np.int32) for array in arrays)
    return tuple(numbers), tuple(map(str, values.tolist()))


def _label_array(labels: Any) -> np.ndarray:
    array = np.asanyarray(labels)
    if array.dtype.kind not in "uibU" or array.ndim != 1 or isinstance(array, np.ma.MaskedArray):
        raise InputTypeError(f"`labels` must be (N,) integers or text, got {shown(labels)} of {array.dtype}")
    return array


def stratified_indices(labels: np.ndarray, count: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """The indices of `count` images in order, stratified by class, with at least one image per class if possible.

    They are the first ones of each class, or drawn by `rng`.
    """
    sizes = np.bincount(labels)
    ranks = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # of the images within their class
    return np.sort(_by_class(labels, rng)[ranks < np.repeat(_shares(sizes, count), sizes)])


def _by_class(labels: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """The indices of all images, class after class; in random order within a class if there is an `rng`."""
    order = np.arange(len(labels)) if rng is None else rng.permutation(len(labels))
    # Stable, because without an `rng` it is the first images of each class that are taken.
    return order[np.argsort(labels[order], kind="stable")]


def _shares(sizes: np.ndarray, count: int) -> np.ndarray:
    """How `count` images are shared by the classes, given their sizes: by the largest remainder, at least one each."""
    total = sizes.sum()
    least = (sizes > 0) * (count >= np.count_nonzero(sizes))
    shares = np.maximum(count * sizes // total, least)
    missing = max(0, count - shares.sum())
    remainders = count * sizes - shares * total
    shares[np.argsort(-remainders, kind="stable")[:missing]] += 1
    while shares.sum() > count:
        surplus = np.where(shares > least, shares * total - count * sizes, -total)
        shares[np.argmax(surplus)] -= 1
    return shares


def hold_out(labels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Images to hold out, (N,) booleans: about this share of each class, but never all images of a class.

    Nothing is held out if no class has two images.
    """
    total = len(labels)
    ordered = _by_class(labels, rng)
    chosen = _pick(ordered, min(max(1, round(share * total)), total - 1), total)
    if len(np.unique(labels[~chosen])) < len(np.unique(labels)):
        first = np.unique(labels[ordered], return_index=True)[1]
        chosen = _pick(np.delete(ordered, first), chosen.sum(), total)
    return chosen


def _pick(ordered: np.ndarray, count: int, total: int) -> np.ndarray:
    """Which of `total` indices are chosen: `count` of the `ordered` ones, at even distances."""
    chosen = np.zeros(total, bool)
    count = min(count, len(ordered))
    chosen[ordered[(2 * np.arange(count) + 1) * len(ordered) // (2 * max(count, 1))]] = True
    return chosen


def hold_out_groups(labels: np.ndarray, groups: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """As `hold_out`, but images of one group, which have the same number in `groups`, stay together.

    If possible, at least one group of each class is held out, and at least one is not.
    """
    names, group_of = np.unique(groups, return_inverse=True)
    pairs, counts = np.unique(np.stack([group_of, labels]), axis=1, return_counts=True)
    sizes = np.bincount(labels)
    starts = np.searchsorted(pairs[0], np.arange(len(names) + 1))
    kept = sizes.copy()
    held = np.zeros(len(sizes))
    chosen = np.zeros(len(names), bool)
    order = rng.permutation(len(names))

    def of(group: int) -> tuple[np.ndarray, np.ndarray]:
        """The classes of a group, and how many of its images are of each."""
        part = slice(starts[group], starts[group + 1])
        return pairs[1, part], counts[part]

    def take(group: int) -> None:
        classes, count = of(group)
        kept[classes] -= count
        held[classes] += count
        chosen[group] = True

    def is_free(group: int) -> bool:
        classes, count = of(group)
        return not chosen[group] and bool(np.all(kept[classes] > count))

    for group in order:
        classes, count = of(group)
        lacking = share * sizes[classes] - held[classes]
        if is_free(group) and np.abs(lacking - count).sum() < np.abs(lacking).sum():
            take(group)
    for label in np.flatnonzero(sizes > 0):
        if held[label] == 0 and (free := [group for group in pairs[0, pairs[1] == label] if is_free(group)]):
            take(min(free, key=lambda group: of(group)[1].sum()))
    return chosen[group_of]


FEW_GROUPS = 8
A_FIFTH = "no test folder: a fifth of each class is for testing"


def note_groups(names: tuple[str, ...]) -> list[str]:
    """A note on the groups that are tested, by their names; none without groups."""
    if not names:
        return []
    if len(names) >= FEW_GROUPS:
        return [f"{len(names):,} groups are tested: {some(names)}"]
    few = f"only {len(names)} group{'s' * (len(names) > 1)} tested, and the accuracy depends on which"
    return [f"{few}: {printable(', '.join(names))}; `folds` (--folds) tests all groups in turn"]
