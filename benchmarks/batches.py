"""What learning in batches brings and costs: images a second and accuracy over several seeds, by the size of a batch.

python benchmarks/batches.py --dataset mnist --data_dir DIR --native
"""

import dataclasses
import datetime
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pictures
from programs import folder
from rich.console import Console
from rich.table import Table
from simple_parsing import field

from snnjax import data, devices, files
from snnjax.app import console, runs
from snnjax.errors import InputError
from snnjax.networks import NETWORKS
from snnjax.training.trainer import Settings, Trainer, network_for, plan


@dataclasses.dataclass(frozen=True)
class Options:
    """What to train, in batches of which sizes, and how often."""

    network: str = field(default="mozafari2018", help=f"the network: {', '.join(NETWORKS)}")
    batches: tuple[int, ...] = field(
        default=(1, 2, 4, 8, 16, 32, 64, 128, 256), help="images whose winners are found with the same weights"
    )
    seeds: int = field(default=3, help="trainings of each size, with seeds 0, 1, ...")
    epochs: int = field(default=10, help="of the reward phase, after 2 of the first layer and 4 of each other")
    dataset: str = field(default="digits", help=f"the data set: {', '.join(data.DATASETS)}")
    data_dir: Path | None = field(default=None, help="folder of the data set's files, for all but digits")
    train_images: int = field(default=6000, help="use at most the first so many training images")
    test_images: int = field(default=2000, help="use at most the first so many test images")
    native: bool = field(default=False, help="compiled kernels, on a CPU")
    device: str = field(default="auto", help="auto, cpu, gpu or tpu")
    out: Path | None = field(default=None, help="folder to write to (runs/batches_TIME)")


def prepare(options: Options) -> tuple[data.Dataset, Path, Any]:
    """All images, the folder to write to and the device.

    Raises:
      ValueError, OSError: options or data are bad.
    """
    if options.network not in NETWORKS:
        raise InputError(f"`network` must be one of {', '.join(NETWORKS)}, got {options.network!r}")
    if not options.batches or min(options.batches) < 1:
        raise InputError(f"`batches` must be integers of at least 1, got {options.batches}")
    for name in ("seeds", "epochs", "train_images", "test_images"):
        if getattr(options, name) < 1:
            raise InputError(f"`{name}` must be at least 1, got {getattr(options, name)}")
    device = devices.choose(options.device)
    images = data.load(options.dataset, options.data_dir).first(options.train_images, options.test_images)
    return images, folder(options.out, "batches"), device


def train(options: Options, images: data.Dataset, size: int, seed: int) -> dict[str, Any]:
    """One training: images a second of each learning phase, and test accuracies."""
    spec = network_for(NETWORKS[options.network], images)
    epochs = (2, *[4] * (len(spec.stages) - 2), options.epochs)
    batch_size = min(1000, len(images.train_images))
    settings = Settings(epochs, batch_size, patience=0, seed=seed, update_batch=size, native=options.native)
    trainer = Trainer(spec, images, settings)
    state = trainer.run(trainer.initial_state())
    learning = {phase.name for phase in plan(spec, epochs)}
    rates = {each["name"]: each["images_per_second"] for each in state.phases if each["name"] in learning}
    accuracies = [epoch["test"]["accuracy"] for epoch in state.epochs]
    return dict(update_batch=size, seed=seed, images_per_second=rates, test=accuracies)


def rows_of(trainings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By size of batch: median images a second of each phase, mean and standard deviation of the last accuracy."""
    rows = []
    for size in dict.fromkeys(each["update_batch"] for each in trainings):
        same = [each for each in trainings if each["update_batch"] == size]
        last = np.array([each["test"][-1] for each in same])
        spread = float(last.std(ddof=1)) if len(last) > 1 else None
        phases = same[0]["images_per_second"]
        rates = {phase: float(np.median([each["images_per_second"][phase] for each in same])) for phase in phases}
        rows.append(dict(update_batch=size, images_per_second=rates, accuracy=float(last.mean()), sd=spread))
    return rows


def cells(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """The head and the lines of the table."""
    phases = list(rows[0]["images_per_second"])
    lines = []
    for row in rows:
        rates = [f"{row['images_per_second'][phase]:,.0f}" for phase in phases]
        spread = "" if row["sd"] is None else f" ± {100 * row['sd']:.1f}"
        gap = f"{100 * (row['accuracy'] - rows[0]['accuracy']):+.1f}"
        lines.append([str(row["update_batch"]), *rates, f"{100 * row['accuracy']:.1f}{spread}", gap])
    first = rows[0]["update_batch"]
    return ["B", *(f"{phase.replace('layer', '')}, images/s" for phase in phases), "test, %", f"to B = {first}"], lines


def write(out: Path, about: dict[str, Any], trainings: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    """The measurements as JSON, as a Markdown table and as a figure."""
    head, lines = cells(rows)
    text = [" | ".join(line) for line in [head, ["---"] * len(head), *lines]]
    caption = ", ".join(str(value) for key, value in about.items() if key != "versions")
    with files.atomic_write(out / "batches.json") as temporary:
        temporary.write_text(json.dumps(dict(about=about, rows=rows, trainings=trainings), indent=1) + "\n")
    with files.atomic_write(out / "batches.md") as temporary:
        temporary.write_text("\n".join([*(f"| {line} |" for line in text), "", f"{caption}.", ""]))
    pictures.batches(out / "batches.png", rows, caption)


def main(arguments: list[str] | None = None) -> None:
    """Runs from the command line."""
    options = console.options(Options, __doc__, arguments)
    screen = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
    trainings: list[dict[str, Any]] = []
    try:
        images, out, device = prepare(options)
    except (InputError, OSError) as error:
        console.fail(error)
    try:
        kernels = "native kernels" if options.native else "kernels of XLA"
        counts = f"{len(images.train_images)} training and {len(images.test_images)} test images"
        about: dict[str, Any] = dict(network=options.network, dataset=images.name, images=counts)
        about |= dict(seeds=f"{options.seeds} seeds", epochs=f"{options.epochs} reward epochs", kernels=kernels)
        about |= dict(device=runs.device_name(device), date=str(datetime.date.today()), versions=runs.versions())
        for size in options.batches:
            for seed in range(options.seeds):
                trainings.append(train(options, images, size, seed))
                last = trainings[-1]["test"][-1]
                screen.print(f"B = {size}, seed {seed}: test accuracy {last:.1%}")
            write(out, about, trainings, rows_of(trainings))
    except (InputError, OSError) as error:
        console.fail(error)
    except KeyboardInterrupt:
        console.stop(f"Stopped; what was measured of finished sizes is in {out}.")
    head, lines = cells(rows_of(trainings))
    shown = Table(*head)
    for line in lines:
        shown.add_row(*line)
    screen.print(shown)
    screen.print(f"{out}: batches.json, batches.md, batches.png")


if __name__ == "__main__":
    console.run(main)
