"""Images to take or hold out of a data set: the same share of each class, and groups kept together."""

import numpy as np


def relabel(train: np.ndarray, *others: np.ndarray) -> tuple[tuple[np.ndarray, ...], tuple[str, ...]]:
    """Numbers the classes of labels from 0 without gaps.

    Args:
      train: (N,) integers or text, of training: it has all classes.
      others: the same of other images.

    Returns all as int32 of 0..C-1 in the order of the old labels, and the names of the C classes, the old labels as
    text: `(train, test), names = relabel(train, test)`, then `Dataset(..., class_names=names)`. Raises ValueError where
    others have classes that the first have not.
    """
    from sklearn.preprocessing import LabelEncoder

    encoder = LabelEncoder().fit(train)
    numbers = [encoder.transform(labels).astype(np.int32) for labels in (train, *others)]
    return tuple(numbers), tuple(map(str, encoder.classes_.tolist()))


def stratified_indices(labels: np.ndarray, count: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """The places of `count` images in order, of each class a share as large as of all, at least one if enough.

    They are the first ones of each class, or drawn by `rng`.
    """
    sizes = np.bincount(labels)
    ranks = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # of the images within their class
    return np.sort(_by_class(labels, rng)[ranks < np.repeat(_shares(sizes, count), sizes)])


def _by_class(labels: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """The places of all images, class after class; at random within it if there is an `rng`."""
    order = np.arange(len(labels)) if rng is None else rng.permutation(len(labels))
    return order[np.argsort(labels[order], kind="stable")]


def _shares(sizes: np.ndarray, count: int) -> np.ndarray:
    """How many images of each class make `count`, given how many it has: by the largest remainder, at least one."""
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
    """Images to hold out, (N,) booleans: of each class about that share, never all of one.

    None are if no class has two images.
    """
    total = len(labels)
    ordered = _by_class(labels, rng)
    chosen = _pick(ordered, min(max(1, round(share * total)), total - 1), total)
    if len(np.unique(labels[~chosen])) < len(np.unique(labels)):
        first = np.unique(labels[ordered], return_index=True)[1]
        chosen = _pick(np.delete(ordered, first), chosen.sum(), total)
    return chosen


def _pick(ordered: np.ndarray, count: int, total: int) -> np.ndarray:
    """Which of `total` places are chosen: `count` of the `ordered` ones, at even distances."""
    chosen = np.zeros(total, bool)
    count = min(count, len(ordered))
    chosen[ordered[(2 * np.arange(count) + 1) * len(ordered) // (2 * max(count, 1))]] = True
    return chosen


def hold_out_groups(labels: np.ndarray, groups: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """As `hold_out`, but images of one group, which have the same number in `groups`, stay together.

    Of each class at least one group is held out and one is left, where that is possible.
    """
    names, group_of = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), labels.max() + 1), int)
    np.add.at(counts, (group_of, labels), 1)
    sizes = counts.sum(axis=0)
    held = np.zeros(len(sizes))
    chosen = np.zeros(len(names), bool)

    def take(group: int) -> None:
        held[:] += counts[group]
        chosen[group] = True

    def is_free(group: int) -> bool:
        """Whether images of each of its classes would be left."""
        count = counts[group]
        return not chosen[group] and bool(np.all((sizes - held > count) | (count == 0)))

    for group in rng.permutation(len(names)):
        there = counts[group] > 0
        count = counts[group, there]
        lacking = share * sizes[there] - held[there]
        if is_free(group) and np.abs(lacking - count).sum() < np.abs(lacking).sum():
            take(group)
    for label in np.flatnonzero(sizes):
        free = [group for group in np.flatnonzero(counts[:, label]).tolist() if is_free(group)]
        if held[label] == 0 and free:
            take(min(free, key=lambda group: counts[group].sum()))
    return chosen[group_of]
