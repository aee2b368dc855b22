"""`snnjax train`: trains one network into a run folder."""

import contextlib
import dataclasses
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from snnjax import InputError, Network, Settings, Trainer, load
from snnjax.app import console, options, parts, shared_options
from snnjax.app.main import COMMAND
from snnjax.app.report import draw_run
from snnjax.app.tracking import Tracker
from snnjax.data import Dataset
from snnjax.data.pictures import background
from snnjax.runs.pretrained import PREFIX
from snnjax.runs.run_folder import RunFolder


class Prepared(NamedTuple):
    """What a run needs.

    Attributes:
      trainer: of its network, on its data.
      about: the options that are stored with its results.
      path: its folder.
    """

    trainer: Trainer
    about: dict[str, Any]
    path: Path


def prepare(
    network: shared_options.Network,
    data: shared_options.Data,
    training: shared_options.Epochs,
    machine: shared_options.Machine,
    path: Path | None = None,
    kind: str = "",
    start: Path | None = None,
) -> Prepared:
    """What a run with these options needs; its folder is `path` if given, or else named by `kind`, network and data.

    `start` is the run whose layers are taken.
    """
    parts.import_all(network.modules)
    _check_numbers(data)
    images = parts.note_fewer(parts.load(vars(data)), train=data.train_images, test=data.test_images)
    about = _source(network, data, images)
    images = _note_fewer_labels(images, about)
    seed = getattr(training, "seed", 0)
    images = parts.learned(images, about | dict(test_images=data.test_images, seed=seed))
    spec = parts.network(network, images)
    path = path or Path("runs") / f"{kind}{spec.name}_{images.name}"
    settings = _settings(spec, images, training, parts.use_native(machine.kernels, spec.time_steps, path))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`start` gives")  # the folder notes how layers have learned
        trainer = Trainer(spec, images, settings, start=None if start is None else load(start))
    if start is not None:
        about["from"] = str(start) if str(start).startswith(PREFIX) else str(start.resolve())
    about["encoder"] = network.encoder or parts.name_of(trainer.network.encoder)
    about["time_steps"] = trainer.network.time_steps
    about["background"] = background(images.train_images)
    return Prepared(trainer, about, path)


def _check_numbers(data: shared_options.Data) -> None:
    """Raises InputError where numbers of images are below 1, or images are to be drawn and no number says how many."""
    parts.check_least(data, train_images=1, test_images=1)
    if not (isinstance(data, shared_options.TrainData) and data.draw):
        return
    if data.train_images is None and data.labels is None:
        wanted = "the images of `train_images` or of `labels` (--train_images, --labels)"
        raise InputError(f"`draw` draws {wanted}: name their number")


def _source(network: shared_options.Network, data: shared_options.Data, images: Dataset) -> dict[str, Any]:
    """The options by which a run's network and its share of the images are found again."""
    shares = ("labels", "validation", "draw", "augment", "ratio")
    there = len(images.train_images)
    about = parts.source(network, data)
    about["images_taken"] = min(data.train_images or there, there)
    return about | {name: vars(data)[name] for name in shares if name in vars(data)}


def _note_fewer_labels(images: Dataset, about: dict[str, Any]) -> Dataset:
    """The images with a note where fewer are taken than are to keep their labels."""
    labels = about.get("labels") or 0
    taken = about["images_taken"]
    if labels <= taken:
        return images
    return parts.noted(images, f"--labels {labels}: there are only {taken:,} training images")


def _settings(network: Network, images: Dataset, training: shared_options.Epochs, native: bool) -> Settings:
    """The settings of a run: the options that are given, and the defaults."""
    settings = Settings.of(network, images, native=native)
    options_of_settings = {name: value for name, value in vars(training).items() if name in vars(settings)}
    given = {name: value for name, value in options_of_settings.items() if value not in (None, ())}
    return dataclasses.replace(settings, **given)


def train(chosen: options.Train) -> dict[str, Any]:
    """Trains to the end and leaves a run folder; returns its results.json. A finished run is only read."""
    begin = time.perf_counter()
    what = chosen.network, chosen.data, chosen.training, chosen.machine
    run = prepare(*what, chosen.run.out, start=chosen.training.start)
    trainer = run.trainer
    resume = chosen.run.resume
    command = COMMAND.get()
    with RunFolder(run.path, trainer, resume=resume, about=run.about, command=command, draw=draw_run) as folder:
        folder.since = begin  # reading the data takes time too
        if resume and not folder.state:
            folder.notes.append("it holds no run yet: one begins")
        state = folder.start()
        console.header(folder)
        if not folder.results:
            try:
                with console.Bars() as trainer.callback, contextlib.ExitStack() as stack:
                    save = folder.save
                    if chosen.run.tensorboard:
                        save = stack.enter_context(Tracker(folder, state)).save
                    folder.finish(trainer.run(state, save))
            except OSError as error:
                kept = f"all but the last half minute is kept, continue by --resume once {run.path} can be written"
                raise OSError(f"{error}; {kept if folder.saved else 'nothing was kept'}") from error
        console.summary(folder)
        return folder.results


def run(chosen: options.Train) -> None:
    """Trains one network."""
    train(chosen)
