"""The parts that the options of a command name: modules of the user's, data sets, networks."""

import dataclasses
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from snnjax import NETWORKS, Images, InputError, Network, SpikingNetwork, data
from snnjax.app import shared_options
from snnjax.app.names import DEFAULT_MODEL
from snnjax.core import devices
from snnjax.core.errors import nearest, unknown
from snnjax.data import Dataset
from snnjax.encoding import ENCODERS, ImageEncoder
from snnjax.kernels import backend
from snnjax.runs.checkpoint_folder import backend_of
from snnjax.training.build import encoded_by, network_for

SOURCE = ("dataset", "data_dir", "size", "colour", "group", "fit")  # options that say where a data set comes from
SPLIT = ("split_seed", "folds", "fold")  # and which of its images are tested


def check_least(options: object, **least: int) -> None:
    """Raises InputError where an option is less than the least number given for it; None is not checked."""
    for name, minimum in least.items():
        if (value := getattr(options, name)) is not None and np.min(value) < minimum:
            raise InputError(f"`{name}` must be at least {minimum}, got {value}")


def check_new(path: Path, alternatives: str = "file") -> None:
    """Raises FileExistsError if a file exists already, FileNotFoundError if there is no folder for it.

    `alternatives`: another one of which the message suggests to name.
    """
    if path.exists():
        raise FileExistsError(f"{path} already exists: delete it, or name another {alternatives}")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} into")


def ready(device: str, modules: Iterable[str]) -> None:
    """Makes a process ready to train: its device, and the user's modules."""
    devices.choose(device)
    import_all(modules)


def import_all(modules: Iterable[str]) -> None:
    """Imports the user's modules, which may define components; raises InputError where there is none."""
    for module in modules:
        import_one(module)


def import_one(module: str, option: str = "import") -> ModuleType:
    """A module of the user's, by the path of its file or by name; raises InputError if there is none."""
    if not module.endswith(".py"):
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise InputError(f"`{option}` must name a Python file or a module, got {module!r}: {error}") from error
    path = Path(module).resolve()
    if not path.is_file():
        raise InputError(f"`{option}` must name a Python file or a module: there is no file {module}")
    known = getattr(sys.modules.get(path.stem), "__file__", None)
    if known and Path(known).resolve() == path:  # imported by name
        return sys.modules[path.stem]
    if path not in _imported:  # its components are registered once
        name = path.stem if path.stem not in sys.modules else f"{path.stem}_{len(_imported)}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = loaded = importlib.util.module_from_spec(spec)
        sys.path.append(str(path.parent))  # for modules in the same folder
        try:
            spec.loader.exec_module(loaded)
        except BaseException as error:
            del sys.modules[name]
            if isinstance(error, InputError):
                frames = traceback.extract_tb(error.__traceback__)
                line = max((frame.lineno or 0 for frame in frames if frame.filename == str(path)), default=0)
                raise InputError(f"{module}, line {line}: {error}") from error
            raise
        _imported[path] = loaded
    return _imported[path]


_imported: dict[Path, ModuleType] = {}


def learned(images: Dataset, settings: Mapping[str, Any]) -> Dataset:
    """A data set as a run with these settings learns it, given as it was read.

    Of `images_taken` for training the first of each class are taken, or some that `seed` draws where `draw` is set; so
    are those that keep their labels. Raises as `Dataset.first`, `split`, `Dataset.augment` and `Dataset.share`.
    """
    taken = settings["images_taken"]
    seed = settings["seed"] if settings.get("draw", False) else None
    images = images.first(taken, None, seed=seed).first(None, settings["test_images"])
    labels = settings.get("labels")
    if labels is not None:
        images = images.keep_labels(labels, seed=seed)
    if "validation" in settings:
        images = split(images, settings["validation"])
    if "ratio" in settings:
        images = (images.augment if settings["augment"] else images.share)(settings["ratio"], settings["seed"])
    return images


def note_fewer(images: Dataset, **asked: int | None) -> Dataset:
    """A data set with a note where it has fewer images of a part, "train" or "test", than the command asks for."""
    for part, count in asked.items():
        there = len(getattr(images, f"{part}_labels"))
        if count is not None and count > there:
            images = noted(images, f"--{part}_images {count}: there are only {there:,}")
    return images


def noted(images: Dataset, note: str) -> Dataset:
    """A data set with one note more."""
    return dataclasses.replace(images, notes=(*images.notes, note))


def split(images: Dataset, validation: float) -> Dataset:
    """A data set with a share of its training images held out; 0: none. Existing validation images are kept."""
    if not validation:
        return dataclasses.replace(images, validation_images=None, validation_labels=None, validation_files=None)
    if images.validation_images is not None:
        return images
    try:
        return images.hold_out(validation, seed=0)  # the same whatever the seed of the network
    except InputError as error:
        raise InputError(f"`validation`: {error}") from error


def load(source: Mapping[str, Any]) -> Dataset:
    """The data set of options or of settings, which hold the names of `SOURCE` and perhaps of `SPLIT`.

    Raises as `data.load` and `Dataset.folds`.
    """
    options = load_options(source)
    folds = source.get("folds")
    if folds is None:
        return data.load(source["dataset"], source["data_dir"], **options)
    seed = options.pop("split_seed", 0)
    images = data.load(source["dataset"], source["data_dir"], **options)
    return images.folds(folds, groups=bool(source.get("group")) or None, seed=seed)[source["fold"] - 1]


def load_options(source: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `data.load` that options or settings hold, besides the name of the data and their folder."""
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


def source(network: shared_options.Network, chosen: shared_options.Data) -> dict[str, Any]:
    """The origin of a run's network and data, by which other commands find them from any folder."""
    name = chosen.dataset
    folder = chosen.data_dir
    files = [named.rpartition(":")[0] for named in (network.model or "", network.encoder or "")]
    imported = [module for module in (*network.modules, *files) if module]
    return dict(
        model=network.model,
        imports=[str(Path(path).resolve()) if path.endswith(".py") else path for path in dict.fromkeys(imported)],
        dataset=str(Path(name).resolve()) if name.endswith(".npz") else name,
        data_dir=folder and str(folder.resolve()),
        size=list(chosen.size),
        colour=chosen.colour,
        group=chosen.group,
        fit=chosen.fit,
    )


def check_images(numbers: Iterable[int], images: Dataset) -> None:
    """Raises InputError unless all are numbers of test images."""
    last = len(images.test_images) - 1
    if wrong := [number for number in numbers if not 0 <= number <= last]:
        raise InputError(f"`images` must lie in 0..{last}, got {wrong[0]}")


def published(model: str, others: str = "") -> Callable[[Images], Network]:
    """The function of a published network; raises InputError for another name, saying what `others` may be named."""
    if model not in NETWORKS:
        raise unknown("model", model, NETWORKS, others)
    return NETWORKS[model]


def named(option: str, name: str, table: Mapping[str, Any]) -> Any:
    """An entry of a table by its name, or of a file of the user's, as FILE.py:NAME; raises InputError without one."""
    file, _, attribute = name.rpartition(":")
    if not file:
        if name not in table:
            raise unknown(option, name, table, ", or FILE.py:NAME")
        return table[name]
    module = import_one(file, option)
    if (part := getattr(module, attribute, None)) is None:
        names = (name for name, value in vars(module).items() if not isinstance(value, ModuleType))
        meant = nearest(attribute, names)
        question = f": did you mean {meant!r}?" if meant else ""
        raise InputError(f"`{option}` {name}: {file} has no {attribute!r}{question}")
    return part


def name_of(encoder: Any) -> str:
    """The name of an encoder, whatever its time steps, or that of its class."""
    for name, other in ENCODERS.items():
        if type(other) is type(encoder) and dataclasses.replace(other, time_steps=encoder.time_steps) == encoder:
            return name
    return type(encoder).__name__


def network(
    chosen: shared_options.Network,
    images: Dataset,
    start: SpikingNetwork | None = None,
    encoder: ImageEncoder | None = None,
) -> Network:
    """A published network by its name, or the user's as FILE.py:NAME, for the images of a data set.

    Without a name it is that of `start`, before it learned, for the classes of the images. `encoder` replaces the one
    that is chosen.
    """
    check_least(chosen, time_steps=1)
    if chosen.model is None and start is not None:
        for name in ("encoder", "time_steps"):
            if (value := getattr(chosen, name)) is not None:
                raise InputError(f"`{name}` must be that of `start` (--from), got {value}: leave --{name} out")
        return start.recipe.with_classes(images.classes)
    if encoder is None and chosen.encoder is not None:
        encoder = named("encoder", chosen.encoder, ENCODERS)
    make = named("model", chosen.model or DEFAULT_MODEL, NETWORKS)
    if isinstance(make, Network):
        unchanged = encoder is None and chosen.time_steps is None
        return make if unchanged else encoded_by(make, images, encoder, chosen.time_steps)
    if not callable(make):
        raise InputError(f"`model` {chosen.model} must be a Network, or a function of `Images`, got {make!r}")
    return network_for(make, images, encoder, chosen.time_steps)


def resolve_backend(chosen: str, time_steps: int, path: Path | None = None) -> str:
    """The back end, "native" or "xla": as `chosen` or, by "auto", as the run in a folder has it, if there is one.

    Otherwise prints why "auto" is not "native". Raises InputError if it is not available to a run that needs it.
    """
    began = backend_of(path) if path and chosen == "auto" else "auto"
    if began == "native" and (why := backend.unavailable(time_steps)):
        raise InputError(f"the run in {path} began on the back end native: {why}")
    if began != "auto":
        return began
    found = backend.resolve(chosen, time_steps)
    if chosen == backend.current() == "auto" and found == "xla":
        print(f"on the back end xla: {backend.unavailable(time_steps)}")
    return found
