"""Effect of the batch size: images a second and accuracy over several seeds.

$ python benchmarks/batches.py --dataset mnist --data_dir DIR
"""

import dataclasses
import itertools
import operator
import statistics
from typing import Annotated, Literal

import common
from matplotlib.figure import Figure

from snnjax import Settings, data
from snnjax.app import console, parts
from snnjax.app.main import protected, user_errors
from snnjax.app.options import option
from snnjax.training.build import network_for
from snnjax.training.loop import Trainer


@dataclasses.dataclass(frozen=True)
class Options(common.Options):
    """What to train, with which batch sizes, and how often."""

    model: Annotated[str, option("NAME")] = "mozafari2018"
    """the network"""
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    """batch sizes"""
    seeds: int = 3
    """trainings of each batch size, with seeds 0, 1, ..."""
    epochs: int = 10
    """reward epochs, after 2 of the first layer and 4 of each other"""
    train_images: int = 6000
    """number of training images, at most"""
    test_images: int = 2000
    """number of test images, at most"""
    kernels: Literal["auto", "xla", "native"] = "auto"
    """as of `snnjax train`"""


def train(options: Options, native: bool, images: data.Dataset, size: int, seed: int) -> common.Row:
    """One training: images a second of each learning phase, and test accuracies."""
    network = network_for(parts.published(options.model), images)
    epochs = (*network.epochs[:-1], options.epochs)
    batch_size = min(1000, len(images.train_images))
    settings = Settings(epochs, batch_size, patience=0, seed=seed, update_batch=size, native=native)
    trainer = Trainer(network, images, settings)
    state = trainer.run(trainer.initial_state())
    learning = {phase.name for phase in trainer.plan}
    rates = {each["name"]: each["images_per_second"] for each in state.phases if each["name"] in learning}
    accuracies = [epoch["test"]["accuracy"] for epoch in state.epochs]
    return dict(update_batch=size, seed=seed, images_per_second=rates, test=accuracies)


def rows_of(trainings: list[common.Row]) -> list[common.Row]:
    """By batch size: median images a second of each phase, mean and standard deviation of the last accuracy."""
    rows = []
    for size, group in itertools.groupby(trainings, operator.itemgetter("update_batch")):
        rates, accuracies = zip(*((each["images_per_second"], each["test"][-1]) for each in group), strict=True)
        sd = statistics.stdev(accuracies) if len(accuracies) > 1 else None
        medians = {phase: statistics.median(each[phase] for each in rates) for phase in rates[0]}
        rows.append(dict(update_batch=size, images_per_second=medians, accuracy=statistics.mean(accuracies), sd=sd))
    return rows


def cells(rows: list[common.Row]) -> tuple[list[str], list[list[str]]]:
    """Head and lines of the table."""
    first = rows[0]
    lines = []
    for row in rows:
        rates = [f"{rate:,.0f}" for rate in row["images_per_second"].values()]
        spread = "" if row["sd"] is None else f" ± {100 * row['sd']:.1f}"
        gap = f"{100 * (row['accuracy'] - first['accuracy']):+.1f}"
        lines.append([str(row["update_batch"]), *rates, f"{100 * row['accuracy']:.1f}{spread}", gap])
    titles = [f"{phase.replace('layer', '')}, images/s" for phase in first["images_per_second"]]
    return ["B", *titles, "test, %", f"to B = {first['update_batch']}"], lines


def draw(rows: list[common.Row], title: str) -> Figure:
    """Images a second of each phase, and the accuracy, by batch size."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    figure.suptitle(title, fontsize=8)
    speed, accuracy = figure.subplots(1, 2)
    sizes = [row["update_batch"] for row in rows]
    for phase in rows[0]["images_per_second"]:
        speed.plot(sizes, [row["images_per_second"][phase] for row in rows], "o-", markersize=4, label=phase)
    speed.set(ylabel="images a second", ylim=(0, None))
    speed.legend(fontsize=8)
    means, spread = ([100 * (row[key] or 0) for row in rows] for key in ("accuracy", "sd"))
    accuracy.errorbar(sizes, means, spread, fmt="o-", markersize=4, capsize=3)
    accuracy.set_ylabel("test accuracy, %, mean ± sd")
    for axis in (speed, accuracy):
        common.plot_by(axis, sizes, "B, images that learn from the same weights")
    return figure


@common.command(Options, __doc__)
def main(options: Options) -> None:
    """Trains with each batch size and seed; writes all results after each batch size."""
    parts.check_least(options, batches=1, seeds=1, epochs=1, train_images=1, test_images=1)
    images = data.load(options.dataset, options.data_dir).first(options.train_images, options.test_images)
    native = parts.use_native(options.kernels)
    out = options.folder("batches")
    screen = console.screen()
    trainings = list[common.Row]()
    about, caption = common.about(
        network=options.model,
        dataset=images.name,
        images=f"{len(images.train_images)} training and {len(images.test_images)} test images",
        seeds=f"{options.seeds} seeds",
        epochs=f"{options.epochs} reward epochs",
        kernels="native kernels" if native else "kernels of XLA",
    )
    with user_errors(common.script(), lambda: f"Stopped; measurements of the finished batch sizes are in {out}."):
        for size in dict.fromkeys(options.batches):
            for seed in range(options.seeds):
                trainings.append(train(options, native, images, size, seed))
                screen.print(f"B = {size}, seed {seed}: test accuracy {trainings[-1]['test'][-1]:.1%}")
            rows = rows_of(trainings)
            head, lines = cells(rows)
            content = dict(about=about, rows=rows, trainings=trainings)
            table = common.markdown(head, lines, caption)
            written = common.write(out, "batches", content, table, draw(rows, caption))
    screen.print(console.table(head, [lines]), written, sep="\n")


if __name__ == "__main__":
    protected(main)
