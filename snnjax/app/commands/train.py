"""`snnjax train`: trains one network into a run folder."""

import contextlib
import dataclasses
import time
import warnings
from pathlib import Path
from typing import Any

from snnjax import InputError, Network, Settings, Trainer, load
from snnjax.app import console, options, parts
from snnjax.app.main import COMMAND
from snnjax.app.report import draw_run
from snnjax.app.tracking import Tracker
from snnjax.data import Dataset
from snnjax.data.pictures import background
from snnjax.runs.pretrained import PREFIX
from snnjax.runs.run_folder import RunFolder


def prepare(
    network: options.Network,
    data: options.Data,
    training: options.Epochs,
    machine: options.Machine,
    path: Path | None = None,
    kind: str = "",
    start: Path | None = None,
) -> tuple[Trainer, dict[str, Any], Path]:
    """The trainer of a run, the options that are stored with its results, and its folder, `path` if given.

    Otherwise `kind`, network and data name the folder. `start` is the run whose layers are taken.
    """
    parts.import_all(network.modules)
    images, about = _images(network, data, seed=getattr(training, "seed", 0))
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
    return trainer, about, path


def _images(network: options.Network, data: options.Data, seed: int) -> tuple[Dataset, dict[str, Any]]:
    """The images of a run, with notes on those that are missing, and the options by which they are found again."""
    parts.check_least(data, train_images=1, test_images=1)
    labels = data.labels if isinstance(data, options.SplitData) else None
    draws = isinstance(data, options.TrainData) and data.draw
    if draws and data.train_images is None and labels is None:
        wanted = "the images of `train_images` or of `labels` (--train_images, --labels)"
        raise InputError(f"`draw` draws {wanted}: name their number")
    images = parts.note_fewer(parts.load(vars(data)), train=data.train_images, test=data.test_images)
    there = len(images.train_images)
    taken = min(data.train_images or there, there)
    if labels is not None and labels > taken:
        images = parts.noted(images, f"--labels {labels}: there are only {taken:,} training images")
    shares = ("labels", "validation", "draw", "augment", "ratio")
    about = parts.source(network, data) | dict(images_taken=taken)
    about |= {name: vars(data)[name] for name in shares if name in vars(data)}
    return parts.learned(images, about | dict(test_images=data.test_images, seed=seed)), about


def _settings(network: Network, images: Dataset, training: options.Epochs, native: bool) -> Settings:
    """The settings of a run: the options that are given, and the defaults."""
    settings = Settings.of(network, images)
    options_of_settings = {name: value for name, value in vars(training).items() if name in vars(settings)}
    given = {name: value for name, value in options_of_settings.items() if value not in (None, ())}
    return dataclasses.replace(settings, native=native, **given)


def train(chosen: options.Train) -> dict[str, Any]:
    """Trains to the end and leaves a run folder; returns its results.json. A finished run is only read."""
    begin = time.perf_counter()
    what = chosen.network, chosen.data, chosen.training, chosen.machine
    trainer, about, path = prepare(*what, chosen.run.out, start=chosen.training.start)
    with RunFolder(
        path, trainer, resume=chosen.run.resume, about=about, command=COMMAND.get(), draw=draw_run
    ) as folder:
        folder.since = begin  # reading the data takes time too
        if chosen.run.resume and not folder.state:
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
                kept = f"all but the last half minute is kept, continue by --resume once {path} can be written"
                raise OSError(f"{error}; {kept if folder.saved else 'nothing was kept'}") from error
        console.summary(folder)
        return folder.results


def run(chosen: options.Train) -> None:
    """Trains one network."""
    train(chosen)
