"""Cross-validation: data sets in which a different part of the same images is for testing."""

import dataclasses
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from snnjax.core import checks
from snnjax.core.errors import InputError
from snnjax.data.names import some
from snnjax.data.splits import A_FIFTH, note_groups

if TYPE_CHECKING:
    from snnjax.data.dataset import Dataset


def cut_into_folds(data: "Dataset", k: int, *, groups: bool | None, seed: int) -> "list[Dataset]":
    """As `Dataset.folds`."""
    together = data.train_groups is not None if groups is None else groups
    if together and (data.train_groups is None or data.test_groups is None):
        needed = "`train_groups` and `test_groups`, which a `group` (--group) of pictures gives"
        raise InputError(f"{data.name}: `groups` stay together where images have {needed}")
    images = _pooled(data)
    of_groups = images.train_groups if together else None
    seed = checks.integer("seed", seed, 0, 2**32 - 1)
    numbers = fold_numbers(images.train_labels, of_groups, k, seed)
    return [_tested_on(images, numbers == number, f"part {number + 1} of {k}") for number in range(k)]


def _pooled(data: "Dataset") -> "Dataset":
    """The data set with its test images appended to the training images."""
    fields: dict[str, Any] = {}
    for name in ("images", "labels", "groups"):
        train = getattr(data, f"train_{name}")
        test = getattr(data, f"test_{name}")
        fields[f"train_{name}"] = None if train is None or test is None else np.concatenate([train, test])
    if data.train_files and data.test_files:
        fields["train_files"] = data.train_files + data.test_files
    else:
        fields["train_files"] = None
    return dataclasses.replace(data, **fields)


def _tested_on(data: "Dataset", tested: np.ndarray, part: str) -> "Dataset":
    """The data set whose test images are the marked training images, (N,) booleans; `part` names them in a note."""
    kept = data.part_fields("train", np.flatnonzero(~tested))
    test = data.part_fields("train", np.flatnonzero(tested), "test")
    note = f"training and test images are split again: {part} is for testing"
    fold = dataclasses.replace(data, **kept, **test)
    if names := fold.test_group_names:
        note += f", of groups {some(names)}"
    replaced = [A_FIFTH, *note_groups(data.test_group_names)]
    notes = [kept_note for kept_note in data.notes if kept_note not in replaced]
    return dataclasses.replace(fold, notes=(*notes, note))


def fold_numbers(labels: np.ndarray, groups: np.ndarray | None, folds: int, seed: int) -> np.ndarray:
    """The fold, from 0, in which each image is tested, (N,), stratified by class.

    Images of one group, which have the same number in `groups`, are in one fold. The folds are those of StratifiedKFold
    or StratifiedGroupKFold in scikit-learn. Raises InputError if no class has as many images, or groups, as folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    units = np.arange(len(labels)) if groups is None else groups
    pairs = np.unique(np.stack([labels, units]), axis=1)
    most = int(np.bincount(pairs[0]).max())
    kind = "images" if groups is None else "groups"
    checks.integer("k", folds, 2, most, why=f"the {kind} of the largest class (--folds)")
    splitter = StratifiedKFold if groups is None else StratifiedGroupKFold
    parts = splitter(folds, shuffle=True, random_state=seed).split(labels, labels, groups)
    numbers = np.zeros(len(labels), int)
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # of classes that some folds lack
        for number, (_, tested) in enumerate(parts):
            numbers[tested] = number
    return numbers
