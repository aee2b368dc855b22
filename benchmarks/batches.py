"""What learning in batches brings and costs: images a second and accuracy over several seeds, by the size of a batch.

python benchmarks/batches.py --dataset mnist --data_dir DIR --native
"""

import dataclasses
from pathlib import Path
from typing import Any

import common
import numpy as np
import pictures
from simple_parsing import field

from snnjax import data, devices, files
from snnjax.app import console
from snnjax.errors import InputError
from snnjax.networks import NETWORKS
from snnjax.training.state import Settings
from snnjax.training.trainer import Trainer, network_for


@dataclasses.dataclass(frozen=True)
class Options(common.Options):
    """What to train, in batches of which sizes, and how often."""

    network: str = field(default="mozafari2018", help=f"the network: {', '.join(NETWORKS)}")
    batches: tuple[int, ...] = field(
        default=(1, 2, 4, 8, 16, 32, 64, 128, 256), help="images whose winners are found with the same weights"
    )
    seeds: int = field(default=3, help="trainings of each size, with seeds 0, 1, ...")
    epochs: int = field(default=10, help="of the reward phase, after 2 of the first layer and 4 of each other")
    train_images: int = field(default=6000, help="use at most the first so many training images")
    test_images: int = field(default=2000, help="use at most the first so many test images")
    native: bool = field(default=False, help="compiled kernels, on a CPU")

    def check(self) -> None:
        """Raises InputError where an option is bad."""
        if self.network not in NETWORKS:
            raise InputError(f"`network` must be one of {', '.join(NETWORKS)}, got {self.network!r}")
        if not self.batches or min(self.batches) < 1:
            raise InputError(f"`batches` must be integers of at least 1, got {self.batches}")
        console.check_least(self, 1, "seeds", "epochs", "train_images", "test_images")


def train(options: Options, images: data.Dataset, size: int, seed: int) -> dict[str, Any]:
    """One training: images a second of each learning phase, and test accuracies."""
    network = network_for(NETWORKS[options.network], images)
    epochs = common.epochs(network, options.epochs)
    batch_size = min(1000, len(images.train_images))
    settings = Settings(epochs, batch_size, patience=0, seed=seed, update_batch=size, native=options.native)
    trainer = Trainer(network, images, settings)
    state = trainer.run(trainer.initial_state())
    learning = {phase.name for phase in trainer.plan}
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
    phases, first, lines = list(rows[0]["images_per_second"]), rows[0], []
    for row in rows:
        rates = [f"{row['images_per_second'][phase]:,.0f}" for phase in phases]
        spread = "" if row["sd"] is None else f" ± {100 * row['sd']:.1f}"
        gap = f"{100 * (row['accuracy'] - first['accuracy']):+.1f}"
        lines.append([str(row["update_batch"]), *rates, f"{100 * row['accuracy']:.1f}{spread}", gap])
    titles = [f"{phase.replace('layer', '')}, images/s" for phase in phases]
    return ["B", *titles, "test, %", f"to B = {first['update_batch']}"], lines


def write(out: Path, about: dict[str, Any], trainings: list[dict[str, Any]]) -> None:
    """The measurements as JSON, as a Markdown table and as a figure."""
    rows, caption = rows_of(trainings), common.caption(about)
    files.write_json(out / "batches.json", dict(about=about, rows=rows, trainings=trainings))
    files.write_text(out / "batches.md", "\n".join([*common.markdown(*cells(rows)), "", f"{caption}.", ""]))
    pictures.batches(out / "batches.png", rows, caption)


def main(arguments: list[str] | None = None) -> None:
    """Runs from the command line."""
    options, screen = console.options(Options, __doc__, arguments), console.screen()
    with console.user_errors():
        options.check()
        device = devices.choose(options.device)
        images = data.load(options.dataset, options.data_dir).first(options.train_images, options.test_images)
        out = options.folder("batches")
    kernels = "native kernels" if options.native else "kernels of XLA"
    counts = f"{len(images.train_images)} training and {len(images.test_images)} test images"
    about = dict(network=options.network, dataset=images.name, images=counts, seeds=f"{options.seeds} seeds")
    about |= dict(epochs=f"{options.epochs} reward epochs", kernels=kernels) | common.about(images, device)
    trainings: list[dict[str, Any]] = []
    with console.user_errors(f"Stopped; what was measured of finished sizes is in {out}."):
        for size in options.batches:
            for seed in range(options.seeds):
                trainings.append(train(options, images, size, seed))
                screen.print(f"B = {size}, seed {seed}: test accuracy {trainings[-1]['test'][-1]:.1%}")
            write(out, about, trainings)
    head, lines = cells(rows_of(trainings))
    screen.print(console.table(head, [lines], left=len(head)))
    screen.print(f"{out}: batches.json, batches.md, batches.png")


if __name__ == "__main__":
    console.run(main)
