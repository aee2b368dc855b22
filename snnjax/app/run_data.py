"""Loads the data on which a trained network is tested: the data set of its training, or other data."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from snnjax import InputError, data
from snnjax.app import console, data_source, shared_options
from snnjax.core.errors import printable
from snnjax.data import Dataset
from snnjax.data.pictures import MNIST
from snnjax.runs.trained import Trained

LEAK = "training pictures may be among the test pictures"
AS_TRAINED = "these are the data of the training run: only its test images are used"

Json = Mapping[str, Any]


class Tested(NamedTuple):
    """The images on which a network is tested."""

    images: Dataset
    of_run: bool  # whether they are the test images of the run, or the first of them


def prepare(chosen: shared_options.OfRun, trained: Trained, run: Path) -> Tested:
    """Loads the images on which to test a network, and prints notes; raises as `load` and `Trained.matched`."""
    tested = load(chosen.data, trained.settings, trained.image_shape, run)
    tested = tested._replace(images=trained.matched(tested.images))
    for note in console.notes(tested.images):
        print(note)
    return tested


def load(chosen: shared_options.TestData, settings: Json, shape: tuple[int, ...], run: Path | str) -> Tested:
    """Loads the test images that options name or, if they name none, those in the `settings` of a run.

    The location of the data is printed if it comes from the settings. Pictures and recordings are converted to images
    of `shape`, (H, W, ...). The data belong to the run if they are in the same place or have the same digest; then the
    test images are those of the run. Of other folders of pictures without a test folder, all pictures are used. Raises
    errors as `data.load`.
    """
    shared_options.check_least(chosen, test_images=1)
    given: dict[str, Any] = {name: getattr(chosen, name, None) for name in data_source.SOURCE}
    if chosen.dataset is None:
        given |= source_of_run({name: settings.get(name) for name in data_source.SOURCE if not given[name]}, run)
        if given["dataset"] is None:
            names = f"one of {', '.join((*data.DATASETS, *data.RECORDINGS))}, folder, or an .npz file"
            raise InputError(f"`dataset` must be named, since the run does not say what it was trained on: {names}")
    pictures = given["dataset"] == "folder"
    given["size"] = shape[:2] if pictures or given["dataset"] in data.RECORDINGS else ()
    given["colour"] = shape[2:] == (3,) if pictures else None
    in_place = _same(given["dataset"], settings.get("dataset")) and _same(given["data_dir"], settings.get("data_dir"))
    given["group"] = settings.get("group") if pictures else None
    given["fit"] = (chosen.fit or settings.get("fit")) if pictures else chosen.fit
    as_split = given | {name: settings.get(name) for name in data_source.SPLIT}
    if pictures and given["data_dir"]:
        images, of_run = _pictures(as_split, settings, in_place)
    elif in_place:
        images = data_source.load(as_split)
        of_run = True
    else:
        images, of_run = _others(given, as_split, settings)
    images = data_source.note_fewer(images, test=chosen.test_images)
    count = chosen.test_images or (settings.get("test_images") if of_run else None)
    return Tested(images.subset(None, count), of_run)


def learned_handwriting(trained: Trained) -> bool:
    """Whether a network was trained on characters that are scaled and centred as in MNIST."""
    return trained.settings.get("dataset") in data.HANDWRITING and trained.image_shape == MNIST


def source_of_run(source: dict[str, Any], run: Path | str) -> dict[str, Any]:
    """Prints the path of a run's data, if there is one; raises FileNotFoundError if the folder does not exist.

    Returns `source`, which contains the names of `data_source.SOURCE`.
    """
    folder = source.get("data_dir")
    name = source.get("dataset") or ""
    path = folder or name
    option = "data_dir" if folder else "dataset"
    if folder and not Path(folder).exists():
        where = "give their new place as `data_dir` (--data_dir)"
        raise FileNotFoundError(f"the data of {run} are no longer in {folder}: {where}")
    if folder or name.endswith(".npz"):
        print(printable(f"data: {path}, as in {run}; for other data, use --{option}"))
    return source


def _pictures(given: dict[str, Any], settings: Json, in_place: bool) -> tuple[Dataset, bool]:
    """The images of a folder of pictures, and whether they belong to the run.

    `in_place` says whether the folder has the same path as the folder of the run.
    """
    folder = given["data_dir"]
    if in_place:
        images = data_source.load(given)
        other_fit = (given["fit"] or "crop") != (settings.get("fit") or "crop")
        if "data" not in settings or other_fit or is_own(images, settings):
            return images, True
        return data_source.noted(images, f"{printable(str(folder))} has changed since the training: {LEAK}"), False
    learned_pictures = settings.get("dataset") not in (*data.DATASETS, *data.RECORDINGS)
    if learned_pictures:
        with contextlib.suppress(InputError):  # a data set that cannot be split is not that of the run
            images = data_source.load(given)
            if is_own(images, settings):
                return data_source.noted(images, AS_TRAINED), True
    images = data.picture_folder(folder, **data_source.load_options(given), test_only=True)
    if learned_pictures:
        images = data_source.noted(images, f"these are not exactly the data of the training run: {LEAK}")
    return images, False


def _others(given: dict[str, Any], as_split: dict[str, Any], settings: Json) -> tuple[Dataset, bool]:
    """The images of a data set that is not in the place of the run's data, and whether they belong to the run."""
    if settings.get("folds"):
        with contextlib.suppress(InputError):  # a data set that cannot be split so is not that of the run
            fold = data_source.load(as_split)
            if is_own(fold, settings):
                return fold, True
    images = data_source.load(given)
    return images, is_own(images, settings)


def is_own(images: Dataset, settings: Json) -> bool:
    """Whether a data set, as it was loaded, is the data set of a run with these settings; the digests are compared."""
    try:
        held_out = settings["validation_images"] if images.validation_images is None else 0
        taken = settings.get("images_taken", settings["train_images"] + held_out)
        learned = data_source.learned(images, {**settings, "images_taken": taken})
    except (ValueError, TypeError, LookupError, ArithmeticError):  # different data, or a run from Python
        return False
    sizes = {f"{part}_images": len(getattr(learned, f"{part}_labels")) for part in ("train", "test")}
    same_sizes = all(settings[name] == size for name, size in sizes.items())  # digests of large sets take long
    return same_sizes and settings.get("data") == f"sha256:{learned.digest}"


def _same(one: Path | str | None, other: str | None) -> bool:
    """Whether two names of a data set or folder are equal, or lead to the same place."""
    if one is None or other is None:
        return one is other
    return Path(one).resolve() == Path(other).resolve()
