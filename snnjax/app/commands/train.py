"""`snnjax train`: trains one network into a run folder."""

import contextlib
import dataclasses
import time
from pathlib import Path
from typing import Any

from snnjax import Images, InputError, Network, Settings, Trainer, load
from snnjax.app import console, options, parts
from snnjax.app.main import COMMAND
from snnjax.app.report import draw_run
from snnjax.app.tracking import Tracker
from snnjax.core.defaults import FEW
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
    parts.check_least(data, train_images=1, test_images=1)
    draws = isinstance(data, options.TrainData) and data.draw
    labels = data.labels if isinstance(data, options.SplitData) else None
    if draws and data.train_images is None and labels is None:
        wanted = "the images of `train_images` or of `labels` (--train_images, --labels)"
        raise InputError(f"`draw` draws {wanted}: name their number")
    images = parts.note_fewer(parts.load(vars(data)), train=data.train_images, test=data.test_images)
    there = len(images.train_images)
    about = parts.source(network, data) | dict(images_taken=min(data.train_images or there, there))
    if labels is not None and labels > about["images_taken"]:
        images = parts.noted(images, f"--labels {labels}: there are only {about['images_taken']:,} training images")
    shares = ("labels", "validation", "draw", "augment", "ratio")
    about |= {name: vars(data)[name] for name in shares if name in vars(data)}
    images = parts.learned(images, about | dict(test_images=data.test_images, seed=getattr(training, "seed", 0)))
    spec = parts.network(network, images)
    few = Images.of(images).count < FEW and spec.epochs == parts.network(network, images, FEW).epochs
    shown = len(images.train_images) + Images.of(images).unlabelled
    epochs = epochs_of_few(spec, shown) if few else spec.epochs
    if not training.epochs and spec.epochs not in ((), epochs):
        images = parts.noted(images, replacement_note(epochs, spec.epochs))
    settings = Settings(training.epochs or epochs, shuffle=spec.shuffle)
    if few:
        settings = dataclasses.replace(settings, batch_size=100, patience=0)
    if spec.patience is not None:
        settings = dataclasses.replace(settings, patience=spec.patience)
    path = path or Path("runs") / f"{kind}{spec.name}_{images.name}"
    native = parts.use_native(machine.kernels, spec.time_steps, path)
    given = {
        name: value for name, value in vars(training).items() if name in vars(settings) and value not in (None, ())
    }
    if start is not None:
        about["from"] = str(start) if str(start).startswith(PREFIX) else str(start.resolve())
    settings = dataclasses.replace(settings, native=native, **given)
    trainer = Trainer(spec, images, settings, start=None if start is None else load(start))
    used = trainer.network
    about |= dict(encoder=network.encoder or parts.name_of(used.encoder), time_steps=used.time_steps)
    about |= dict(background=background(images.train_images))
    return trainer, about, path


def replacement_note(epochs: tuple[int, ...], own: tuple[int, ...]) -> str:
    """A note that `epochs` replace the network's `own`."""
    taken = " ".join(map(str, epochs))
    replaced = " ".join(map(str, own))
    why = f"for fewer than {FEW:,} labelled images; --epochs sets others"
    return f"epochs {taken} instead of the network's {replaced}, {why}"


def epochs_of_few(network: Network, shown: int) -> tuple[int, ...]:
    """Epochs of each stage where labels are few: 100 supervised ones, and enough others if few images are `shown`."""
    epochs = list(network.epochs)
    if shown < FEW or not epochs:
        enough = -(-options.SHOWN // shown)
        learns = [any(conv.each_learner for conv in stage.branches) for stage in network.stages]
        epochs = [enough if learning else 0 for learning in learns]
    if network.deciding:
        epochs[-1] = 100
    return tuple(epochs)


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
