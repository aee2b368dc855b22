"""`snnjax train`: trains one network into a run folder."""

import contextlib
import dataclasses
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from snnjax import InputError, Network, Settings, SpikingNetwork, Trainer
from snnjax.app import console, options, parts, shared_options
from snnjax.app.main import COMMAND
from snnjax.app.report import draw_run
from snnjax.app.tracking import Tracker
from snnjax.core import files, metrics
from snnjax.core.errors import image_size
from snnjax.data import Dataset
from snnjax.data.pictures import background
from snnjax.runs.pretrained import PREFIX
from snnjax.runs.run_folder import RunFolder
from snnjax.runs.trained import Trained

FOLDS = "summary.json"
FOLD_FIGURES = ("accuracy", "wrong", "silent", "f1", "precision", "recall", "roc_auc")
"""What summary.json has of each fold's test."""


class Prepared(NamedTuple):
    """What a run needs.

    Attributes:
      trainer: of its network, on its data.
      about: the options that are kept with its results.
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
    start: shared_options.Start | None = None,
    fold: int | None = None,
) -> Prepared:
    """What a run with these options needs; its folder is `path` if given, or else named by `kind`, network and data.

    `fold` is the number of the part that is tested, from 1, which has a folder in that one; None: all is not cut into
    parts.
    """
    parts.import_all(network.modules)
    _check_numbers(data)
    images = parts.load(vars(data) | dict(fold=fold))
    images = parts.note_fewer(images, train=data.train_images, test=data.test_images)
    about = _source(network, data, images) | dict(fold=fold)
    images = _note_fewer_labels(images, about)
    seed = getattr(training, "seed", 0)
    images = parts.learned(images, about | dict(test_images=data.test_images, seed=seed))
    start = start or shared_options.Start()
    trained = None if start.run is None else _start(start.run, images)
    spec = parts.network(network, images, trained)
    path = path or Path("runs") / f"{kind}{spec.name}_{images.name}"
    if fold is not None:
        path = path / f"fold{fold}"
    chosen = parts.resolve_backend(machine.backend, spec.time_steps, path)
    settings = dataclasses.replace(_settings(spec, images, training), backend=chosen)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`start` gives")  # the folder notes how layers have learned
        trainer = Trainer(
            spec,
            images,
            settings,
            start=trained,
            learn=start.learn or None,
            add_classes=start.add_classes,
        )
    if start.run is not None:
        about["from"] = str(start.run) if str(start.run).startswith(PREFIX) else str(start.run.resolve())
    about["model"] = network.model or spec.name
    about["encoder"] = network.encoder or parts.name_of(trainer.network.encoder)
    about["time_steps"] = trainer.network.time_steps
    about["background"] = background(images.train_images)
    return Prepared(trainer, about, path)


def _start(run: Path, images: Dataset) -> SpikingNetwork:
    """The network to start from; raises InputError unless it takes images of this shape."""
    trained = Trained.read(run)
    shape = images.train_images.shape[1:]
    if trained.image_shape != shape:
        takes = image_size(trained.image_shape)
        got = image_size(shape)
        advice = "pictures are read in other sizes by --size, in grey by --no_colour"
        raise InputError(f"`start` (--from) takes images {takes}, those of {images.name} are {got}: {advice}")
    return trained.spiking_network()


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
    shares = ("split_seed", "folds", "labels", "validation", "draw", "augment", "ratio")
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


def _settings(network: Network, images: Dataset, training: shared_options.Epochs) -> Settings:
    """The settings of a run: the options that are given, and the defaults."""
    settings = Settings.of(network, images)
    options_of_settings = {name: value for name, value in vars(training).items() if name in vars(settings)}
    given = {name: value for name, value in options_of_settings.items() if value not in (None, ())}
    return dataclasses.replace(settings, **given)


def train(chosen: options.Train, fold: int | None = None) -> tuple[Path, dict[str, Any]]:
    """Trains to the end and leaves a run folder; returns it and its results.json. A finished run is only read.

    `fold` is the number of the part that is tested, as for `prepare`.
    """
    begin = time.perf_counter()
    what = chosen.network, chosen.data, chosen.training, chosen.machine
    run = prepare(*what, chosen.run.out, start=chosen.start, fold=fold)
    trainer = run.trainer
    if fold is not None and trainer.network.decision is None:
        raise InputError(f"`folds` compares accuracies, and {trainer.network.name} decides nothing: leave it out")
    trainer.network.check_initial_weights(trainer.settings.seed)
    resume = chosen.run.resume
    command = COMMAND.get().replace(" --resume", "")  # so that it makes the run again
    with RunFolder(run.path, trainer, resume=resume, about=run.about, command=command, draw=draw_run) as folder:
        folder.since = begin  # reading the data takes time too
        if resume and not folder.state:
            folder.notes.append("it holds no run yet: one begins")
        state = folder.start()
        console.header(folder)
        if not folder.results:
            with (
                folder.explain_losses(),
                console.Bars() as trainer.callback,
                contextlib.ExitStack() as stack,
            ):
                save = folder.save
                if chosen.run.tensorboard:
                    save = stack.enter_context(Tracker(folder, state)).save
                folder.finish(trainer.run(state, save))
        console.summary(folder)
        return folder.path, folder.results


def run(chosen: options.Train) -> None:
    """Trains one network, or one for each fold."""
    folds = chosen.data.folds
    if folds is None:
        train(chosen)
        return
    runs = dict[str, dict[str, Any]]()
    for fold in console.each_fold(folds):
        path, results = train(chosen, fold)
        runs[path.name] = results
        if fold == folds and results["test"]:
            summarise(path.parent, runs)


def summarise(folder: Path, runs: dict[str, dict[str, Any]]) -> None:
    """Prints a table of the tests of all folds, given their results.json by folder, and writes summary.json."""
    accuracies = np.array([run["test"]["accuracy"] for run in runs.values()])
    rows = []
    records = []
    for name, run in runs.items():
        test = run["test"]
        images = run["settings"]["test_images"]
        shares = [f"{100 * test[part]:.2f}" for part in ("accuracy", "wrong", "silent")]
        rows.append([name, f"{images:,}", *shares, f"{test['f1']:.4f}", str(run["best_epoch"] + 1)])
        records.append(
            dict(
                folder=name,
                test_images=images,
                test_groups=run["test_groups"],
                best_epoch=run["best_epoch"],
                test={part: test[part] for part in FOLD_FIGURES},
            )
        )
    head = ["fold", "test images", "accuracy, %", "wrong, %", "silent, %", "macro F1", "best epoch"]
    files.write_json(folder / FOLDS, dict(folds=records, accuracy=metrics.spread(accuracies)))
    screen = console.screen()
    screen.print(console.table(head, [rows], "test"))
    mean = console.mean_of(100 * accuracies, 2)
    screen.print(f"[bold]test accuracy over {len(runs)} folds {mean} %[/]", console.MEAN, sep="\n")
    screen.print(f"{folder / FOLDS}: the table, and mean, standard deviation and interval", markup=False)
