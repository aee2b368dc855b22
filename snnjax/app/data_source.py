"""Loads the data set that options or settings describe, and selects the images that a run learns and tests."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from snnjax import InputError, data
from snnjax.app import shared_options
from snnjax.data import Dataset

SOURCE = ("dataset", "data_dir", "size", "colour", "group", "fit")  # options for the origin of a data set
SPLIT = ("split_seed", "folds", "fold")  # options and settings that select its test images
SHARES = ("split_seed", "folds", "labels", "validation", "draw", "augment", "ratio")  # options that select the images


def load(source: Mapping[str, Any]) -> Dataset:
    """Loads the data set that options or settings describe, by the names in `SOURCE` and, optionally, in `SPLIT`.

    Raises errors as `data.load` and `Dataset.folds`.
    """
    options = load_options(source)
    folds = source.get("folds")
    if folds is None:
        return data.load(source["dataset"], source["data_dir"], **options)
    seed = options.pop("split_seed", 0)
    images = data.load(source["dataset"], source["data_dir"], **options)
    return images.folds(folds, groups=bool(source.get("group")) or None, seed=seed)[source["fold"] - 1]


def load_options(source: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `data.load` in options or settings, without the name and the folder of the data set."""
    sides = tuple(source.get("size") or ())
    if len(sides) > 2:
        raise InputError(f"`size` must be one number or two, height and width, got {len(sides)}")
    given = dict(
        size=(sides[0], sides[-1]) if sides else None,
        colour=source.get("colour"),
        group=source.get("group"),
        fit=source.get("fit"),
        split_seed=source.get("split_seed") or None,
    )
    return {name: value for name, value in given.items() if value is not None}


def source(
    network: shared_options.Network, chosen: shared_options.Data, images: Dataset, fold: int | None = None
) -> dict[str, Any]:
    """The origin of a run's network and images, from which other commands load them again, in any working directory.

    `images` is the result of `read_images`.
    """
    name = chosen.dataset
    folder = chosen.data_dir
    files = [named.rpartition(":")[0] for named in (network.model or "", network.encoder or "")]
    imported = [module for module in (*network.modules, *files) if module]
    origin = dict(
        model=network.model,
        imports=[str(Path(path).resolve()) if path.endswith(".py") else path for path in dict.fromkeys(imported)],
        dataset=str(Path(name).resolve()) if name.endswith(".npz") else name,
        data_dir=folder and str(folder.resolve()),
        size=list(chosen.size),
        colour=chosen.colour,
        group=chosen.group,
        fit=chosen.fit,
        images_taken=_taken(chosen, images),
        fold=fold,
    )
    return origin | {name: vars(chosen)[name] for name in SHARES if name in vars(chosen)}


def read_images(chosen: shared_options.Data, fold: int | None = None) -> Dataset:
    """Loads the data set that options describe, and adds notes if it has fewer images than requested.

    Raises InputError if a number of images is below 1, or if images should be drawn but their number is not given.
    """
    shared_options.check_least(chosen, train_images=1, test_images=1)
    labels = getattr(chosen, "labels", None)
    if getattr(chosen, "draw", False) and chosen.train_images is None and labels is None:
        wanted = "the images of `train_images` or of `labels` (--train_images, --labels)"
        raise InputError(f"`draw` draws {wanted}: name their number")
    images = load(vars(chosen) | dict(fold=fold))
    images = note_fewer(images, train=chosen.train_images, test=chosen.test_images)
    taken = _taken(chosen, images)
    if labels is not None and labels > taken:
        images = noted(images, f"--labels {labels}: there are only {taken:,} training images")
    return images


def _taken(chosen: shared_options.Data, images: Dataset) -> int:
    """The number of training images of a data set that options select."""
    there = len(images.train_images)
    return min(chosen.train_images or there, there)


def learned(images: Dataset, settings: Mapping[str, Any]) -> Dataset:
    """The data set that a run with these settings learns and tests, given the data set as it was loaded.

    The first `images_taken` training images, stratified by class, are used, or if `draw` is set, images that are drawn
    with `seed`; the images that keep their labels are selected in the same way. Raises errors as `Dataset.subset`,
    `split`, `Dataset.augment` and `Dataset.share`.
    """
    taken = settings["images_taken"]
    seed = settings["seed"] if settings.get("draw", False) else None
    images = images.subset(taken, None, seed=seed).subset(None, settings["test_images"])
    labels = settings.get("labels")
    if labels is not None:
        images = images.keep_labels(labels, seed=seed)
    if "validation" in settings:
        images = split(images, settings["validation"])
    if "ratio" in settings:
        images = (images.augment if settings["augment"] else images.share)(settings["ratio"], settings["seed"])
    return images


def split(images: Dataset, validation: float) -> Dataset:
    """A data set with a share of its training images held out, unless it has validation images; 0: none at all."""
    if not validation:
        return dataclasses.replace(images, validation_images=None, validation_labels=None, validation_files=None)
    if images.validation_images is not None:
        return images
    try:
        return images.hold_out(validation, seed=0)  # the same images for every seed of the network
    except InputError as error:
        raise InputError(f"`validation`: {error}") from error


def note_fewer(images: Dataset, **asked: int | None) -> Dataset:
    """A data set with a note if a part, "train" or "test", has fewer images than the command requests."""
    for part, count in asked.items():
        there = len(getattr(images, f"{part}_labels"))
        if count is not None and count > there:
            images = noted(images, f"--{part}_images {count}: there are only {there:,}")
    return images


def noted(images: Dataset, note: str) -> Dataset:
    """A data set with one more note."""
    return dataclasses.replace(images, notes=(*images.notes, note))


def check_images(numbers: Iterable[int], images: Dataset) -> None:
    """Raises InputError unless all numbers are indices of test images."""
    last = len(images.test_images) - 1
    if wrong := [number for number in numbers if not 0 <= number <= last]:
        raise InputError(f"`images` must lie in 0..{last}, got {wrong[0]}")
