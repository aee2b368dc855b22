"""Trains the networks of a table from several seeds, and writes the table with published figures."""

import dataclasses
import hashlib
import math
import os
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import protocols
import scipy.stats
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from protocols import JPEG, Row
from rich.console import Console
from rich.table import Table

from snnjax import InputError, data
from snnjax.app import console, options, parts, plots
from snnjax.app.commands import train
from snnjax.app.comparisons import colors, endings, logarithmic
from snnjax.app.main import call, protected
from snnjax.app.options import option
from snnjax.core import checks, files
from snnjax.core.errors import unknown
from snnjax.data.catalogue import CATALOGUE
from snnjax.training.placement import forget_programs

STOPPED = "Stopped; all but the last half minute is kept. The same command continues."
COUNTS = ("train_images", "validation_images", "test_images")
LONGEST = 100  # letters of the name of a table
HEAD = ("network", "data", "images", "test accuracy, %", "seeds", "published, %", "seconds", "kernels")


@dataclasses.dataclass(frozen=True)
class Results:
    """Train the networks of a table of results from several seeds each, and write the table.

    $ python experiments/results.py                                      on scikit-learn's digits
    $ python experiments/results.py --table mnist                        takes hours
    $ python experiments/results.py --rows goupy2024_ncg:fashion_mnist --seeds 1
    $ python experiments/results.py --train_images 10 50 200             a learning curve
    $ python experiments/results.py --labels 10 50 200                   the same, with features learned from all images

    The same command continues where it stopped; finished runs are only read.
    """

    table: Annotated[str, option("NAME", help=f"one of {', '.join(protocols.TABLES)}")] = "digits"
    rows: Annotated[tuple[str, ...], option("MODEL:DATASET ...", "those of the table")] = ()
    """rows of your own, instead of a table; one that a table has is as there"""
    seeds: Annotated[int | None, option("N", "each row's own, 5 where a run is short")] = None
    """runs of each row, with seeds 0, 1, ..."""
    epochs: Annotated[tuple[int, ...], option("N ...", "each row's own")] = ()
    """epochs of each stage, of all rows"""
    train_images: Annotated[tuple[int, ...], option("N ...", "each row's own")] = ()
    """use only N training images in all rows, of all classes alike; of several N, each seed draws its own images"""
    labels: Annotated[tuple[int, ...], option("N ...", "each row's own")] = ()
    """use the labels of only N training images in all rows, of all classes alike; layers that learn without labels see
    all images; of several N, each seed draws its own"""
    test_images: Annotated[int | None, option("N", "all")] = None
    """use only N test images, of all classes alike"""
    data_dir: Annotated[tuple[str, ...], option("SET=DIR ...", "the cache folder, downloaded if need be")] = ()
    """folders of the data sets, as mnist=DIR; `folder` and cifar10-jpeg, folders or .zip files of pictures, need one"""
    machine: options.Machine = field(default_factory=options.Machine)
    """`--kernels auto`: those of each row, compiled ones unless it says XLA's, where they can be had"""
    out: Annotated[Path, option("DIR")] = Path("runs/results")
    """folder of all runs and tables"""


def rows_of(chosen: Results) -> list[Row]:
    """The rows that options name; raises InputError where there is no such table, network or data set."""
    parts.check_least(chosen, seeds=1, test_images=1)
    for name in ("train_images", "labels"):
        for count in getattr(chosen, name):
            checks.integer(name, count, 1)
    if chosen.table not in protocols.TABLES:
        raise unknown("table", chosen.table, protocols.TABLES)
    given = dict(seeds=chosen.seeds, epochs=chosen.epochs or None)
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if chosen.train_images or chosen.labels or chosen.test_images or chosen.epochs:
        changes["least"] = None  # which holds for the unchanged row
    if chosen.machine.kernels != "auto" or not parts.use_native("auto"):
        changes["native"] = chosen.machine.kernels == "native"
    rows = [row_of(text) for text in chosen.rows] or protocols.TABLES[chosen.table]
    folders = folders_of(chosen.data_dir)
    folder = str(folders.get("folder", ""))
    placed = (dataclasses.replace(row, folder=folder) if row.dataset == "folder" else row for row in rows)
    changed = [dataclasses.replace(row, **changes) for row in placed]
    sized = [size for row in changed for size in sizes_of(row, "train_images", chosen.train_images)]
    rows = list(dict.fromkeys(size for row in sized for size in sizes_of(row, "labels", chosen.labels)))
    for row in rows:
        if not row.model.rpartition(":")[0]:
            parts.published(row.model, ", or FILE.py:NAME")
        names = (*data.DATASETS, *data.RECORDINGS, JPEG, "folder")
        if row.dataset not in names and not row.dataset.endswith(".npz"):
            raise unknown("rows", row.dataset, names, ", or an .npz file, behind MODEL:")
        if row.dataset in (JPEG, "folder") and row.dataset not in folders:
            wanted = f"{row.dataset}=DIR, a folder of pictures or a .zip file of one"
            raise InputError(f"`data_dir` must say where {row.dataset} is, as {wanted}")
    return rows


def sizes_of(row: Row, name: str, counts: Sequence[int]) -> list[Row]:
    """A row with each number of images, a field of that name; by itself where none is given."""
    drawn = row.drawn or len(counts) > 1
    sizes: list[dict[str, Any]] = [{name: count, "drawn": drawn} for count in counts]
    return [dataclasses.replace(row, **size) for size in sizes] or [row]


def row_of(text: str) -> Row:
    """The row that MODEL:DATASET names, MODEL perhaps FILE.py:NAME; the first one of the tables, if they have any."""
    model, _, dataset = text.rpartition(":")
    if not model or not dataset:
        raise InputError(f"`rows` must be MODEL:DATASET, got {text!r}")
    named = (row for rows in protocols.TABLES.values() for row in rows if (row.model, row.dataset) == (model, dataset))
    return next(named, Row(model, dataset))


def folders_of(data_dir: Sequence[str]) -> dict[str, Path]:
    """The folder of each data set that options such as mnist=DIR name."""
    pairs = [text.partition("=") for text in data_dir]
    if wrong := ["".join(pair) for pair in pairs if not pair[0] or not pair[2]]:
        raise InputError(f"`data_dir` must be SET=DIR, as mnist=DIR, got {wrong[0]!r}")
    return {name: Path(folder) for name, _, folder in pairs}


def name_of(row: Row, test_images: int | None = None) -> str:
    """Folder name of a row's runs, from all that they depend on but their seeds; `test_images` as the option."""
    marks = [Path(row.model).name, Path(row.folder or row.dataset).name, row.train_images]
    marks += [row.labels and f"labels{row.labels}", row.drawn and "drawn", row.mirror and "mirrored"]
    marks += ["" if row.native else "xla", *row.epochs, row.update_batch > 1 and f"batch{row.update_batch}"]
    marks += [row.patience is not None and f"patience{row.patience}", test_images and f"of{test_images}"]
    return joined(marks)


def table_of(chosen: Results, rows: Sequence[Row]) -> str:
    """The name of a table's files: from the table or its rows, and from the options that change them."""
    named = [f"{Path(row.model).name}-{Path(row.folder or row.dataset).name}" for row in rows]
    marks: list[Any] = [*dict.fromkeys(named)] if chosen.rows else [chosen.table]
    marks += [*chosen.train_images, *(f"labels{count}" for count in chosen.labels)]
    marks += ["" if chosen.machine.kernels == "auto" else chosen.machine.kernels, *chosen.epochs]
    marks += [chosen.test_images and f"of{chosen.test_images}", chosen.seeds and f"seeds{chosen.seeds}"]
    name = joined(marks)
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def joined(marks: Iterable[Any]) -> str:
    """The non-empty marks, joined into a file name."""
    return re.sub(r"[^\w-]+", "-", "_".join(str(mark) for mark in marks if mark))


def options_of(row: Row, seed: int, chosen: Results) -> options.Train:
    """The options of one run, as `snnjax train` has them."""
    pictures = dict(dataset="folder", colour=True) if row.dataset == JPEG else dict(dataset=row.dataset)
    return options.Train(
        network=options.Network(model=row.model),
        data=options.TrainData(
            data_dir=folders_of(chosen.data_dir).get(row.dataset),
            train_images=row.train_images,
            labels=row.labels,
            draw=row.drawn,
            validation=validation_of(row),
            test_images=chosen.test_images,
            **pictures,
        ),
        training=options.Training(
            epochs=row.epochs,
            patience=row.patience,
            seed=seed,
            update_batch=row.update_batch,
            mirror=row.mirror,
        ),
        machine=options.Machine(device=chosen.machine.device, kernels="native" if row.native else "xla"),
        run=options.Run(out=chosen.out / name_of(row, chosen.test_images) / f"seed{seed}", resume=True),
    )


def validation_of(row: Row) -> float:
    """The share of the images that is held out: none where each class has a single one, if there are ten classes."""
    count = row.labels or row.train_images
    classes = CATALOGUE[row.dataset].classes if row.dataset in CATALOGUE else 10
    single = count is not None and count <= classes
    return 0.0 if single else options.TrainData.validation


def seed_statistics(values: np.ndarray) -> dict[str, Any]:
    """Mean, standard deviation and 95 % interval of the mean over the seeds, (seeds, epochs); None for one seed."""
    count = len(values)
    mean = values.mean(axis=0)
    if count == 1:
        return dict(mean=mean.tolist(), sd=None, interval95=None)
    spread = values.std(axis=0, ddof=1)
    half = scipy.stats.t.ppf(0.975, count - 1) * spread / math.sqrt(count)
    return dict(mean=mean.tolist(), sd=spread.tolist(), interval95=np.stack([mean - half, mean + half], 1).tolist())


def write_text(path: Path, shown: Table, *notes: str) -> None:
    """Writes a table of the console and notes below it as text."""
    with files.atomic_write(path) as temporary, temporary.open("w") as file:
        Console(file=file, width=120).print(shown, *notes, sep="\n", markup=False, highlight=False)


def record_of(row: Row, results: list[dict[str, Any]], test_images: int | None = None) -> dict[str, Any]:
    """Results of a row's runs, as JSON data: accuracies as fractions, seconds of each whole run."""
    accuracies = np.array([[result["test"]["accuracy"]] for result in results])
    summary = {name: value and value[0] for name, value in seed_statistics(accuracies).items()}
    return dict(
        row=dataclasses.asdict(row),
        runs=name_of(row, test_images),
        **{name: results[0]["settings"].get(name, 0) for name in COUNTS},
        accuracies=accuracies[:, 0].tolist(),
        **summary,
        seconds=[result["seconds"] for result in results],
        images_per_second=rates_of(results),
        compile_seconds=[sum(phase["compile_seconds"] for phase in result["phases"]) for result in results],
        epochs=[len(result["epochs"]) for result in results],
        devices=sorted({result["device"] for result in results}),
        versions=results[-1]["versions"],
        published=[entry._asdict() for entry in protocols.published(row)],
    )


def rates_of(results: list[dict[str, Any]]) -> dict[str, float]:
    """Images a second of each phase, the median of the runs."""
    rates: dict[str, list[float]] = {}
    for result in results:
        for phase in result["phases"]:
            rates.setdefault(phase["name"], []).append(phase["images_per_second"])
    return {name: statistics.median(values) for name, values in rates.items()}


def dataset_of(row: dict[str, Any]) -> str:
    """The data of a row, and how the network sees them, in words."""
    words = [row["folder"] or row["dataset"]]
    if row["mirror"]:
        words.append("mirrored")
    if row["labels"]:
        count = "all" if row["train_images"] is None else f"{row['train_images']:,}"
        words.append(f"features of {count} images")
    if row["drawn"]:
        words.append("drawn")
    if row["update_batch"] > 1:
        words.append(f"batches of {row['update_batch']}")
    return ", ".join(words)


def cells_of(record: dict[str, Any], sources: list[str]) -> list[str]:
    """A line of the table; published figures bear the number of their source."""
    row = record["row"]
    mean = record["mean"]
    interval = record["interval95"]
    accuracy = f"{100 * mean:.2f}" + (f" ± {100 * (interval[1] - mean):.2f}" if interval else "")
    published = [f"{entry['accuracy']:g} [{sources.index(entry['source']) + 1}]" for entry in record["published"]]
    return [
        row["model"],
        dataset_of(row),
        f"{record['train_images']:,}",
        accuracy,
        str(len(record["accuracies"])),
        ", ".join(published),
        f"{np.mean(record['seconds']):.0f}",
        "native" if row["native"] else "XLA",
    ]


def notes_of(records: list[dict[str, Any]], sources: list[str]) -> list[str]:
    """The notes below the table."""
    interval = "mean and 95 % interval over the seeds (Student's t)"
    compiling = [seconds for record in records for seconds in record["compile_seconds"]]
    few = ", none of one seed and wide of two" * any(len(record["accuracies"]) < 3 for record in records)
    devices = "; ".join(sorted({name for record in records for name in record["devices"]}))
    images = "Images: those that the network learned from; held-out ones do not count."
    if any(record["row"]["labels"] for record in records):
        images = "Images: those whose labels the network learned from; features learn from all but those held out."
    notes = [
        images,
        f"Test accuracy: {interval}{few}. {chosen_by(records)}",
        "Seconds: mean wall time of a run, from reading the data to its report, of which "
        f"{min(compiling):.0f} to {max(compiling):.0f} compiling; on {devices}.",
    ]
    if any(record["row"]["dataset"] == JPEG for record in records):
        notes.append(f"{JPEG} is a slightly lossy copy; the published figures are of the original images.")
    if any(record["row"]["drawn"] for record in records):
        notes.append("Drawn: each seed draws the images counted, of all classes alike.")
    if any(record["row"]["update_batch"] > 1 for record in records):
        for record in records:
            rates = ", ".join(f"{name} {rate:,.0f}" for name, rate in record["images_per_second"].items())
            notes.append(f"Images a second in batches of {record['row']['update_batch']}: {rates}.")
    for record in records:
        row = record["row"]
        least = record["row"]["least"]
        if least is not None and 100 * record["mean"] < least:
            notes.append(f"{row['model']} on {row['dataset']} is below the {least:g} % that it should reach.")
    return notes + [f"[{number}] {source}." for number, source in enumerate(sources, 1)]


def images_picture(courses: Mapping[str, list[dict[str, Any]]]) -> Figure:
    """Test accuracies of records against their training images, with intervals; crosses are published."""
    figure = Figure(figsize=(6.6, 4.2 + 0.2 * len(courses)), layout=plots.layout())
    axis = figure.subplots()
    lines = []
    crosses = 0
    for color, records in zip(colors(len(courses)), courses.values(), strict=True):
        records = sorted(records, key=lambda record: record["train_images"])
        counts = [record["train_images"] for record in records]
        means = 100 * np.array([record["mean"] for record in records])
        ends = 100 * np.array([record["interval95"] or [record["mean"]] * 2 for record in records])
        bars = np.abs(ends.T - means)
        lines.append(axis.errorbar(counts, means, bars, fmt="-o", ms=4, capsize=3, color=color)[0])
        for record in records:
            whole = record["train_images"] + record["validation_images"]
            for entry in record["published"]:
                axis.plot(entry["train_images"] or whole, entry["accuracy"], "x", color=color)
                crosses = 1
    logarithmic(axis)
    labelled = any(record["row"]["labels"] for records in courses.values() for record in records)
    axis.set(xlabel="labelled images" if labelled else "training images", ylabel="test accuracy, %")
    lowest, highest = axis.get_ylim()
    axis.set_ylim(max(lowest, 0), min(highest, 100))
    axis.grid(alpha=0.3)
    lines += [Line2D([], [], color="0.3", linestyle="", marker="x")] * crosses
    plots.legend(figure, lines, [*endings(courses), *["published"] * crosses], loc="outside lower left")
    return figure


def courses_of(records: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The records that differ in the number of training images, by network and data.

    Rows of .npz files differ in it from file to file: files whose names differ in their digits alone are one course.
    """
    courses: dict[str, list[dict[str, Any]]] = {}
    groups: dict[str, str] = {}  # of the courses whose files may differ in the number of images
    counts: dict[str, set[int]] = {}
    for record in records:
        row = record["row"]
        kernels = "" if row["native"] else ", XLA"
        name = group = f"{row['model']}, {dataset_of(row)}{kernels}"
        if row["dataset"].endswith(".npz"):
            name = f"{row['model']}, {re.sub('[0-9]+', 'N', dataset_of(row))}{kernels}"
            group = f"{row['model']}, .npz files{kernels}"
        groups[name] = group
        counts.setdefault(group, set()).add(record["train_images"])
        courses.setdefault(name, []).append(record)
    return {name: course for name, course in courses.items() if len(counts[groups[name]]) > 1}


def chosen_by(records: list[dict[str, Any]]) -> str:
    """A sentence that says which images have chosen the best epochs."""
    if all(record["validation_images"] for record in records):
        return "Held-out training images choose the best epoch; the test images are tested once."
    return "In some runs the test images choose the best epoch, which flatters."


def write(out: Path, name: str, records: list[dict[str, Any]]) -> None:
    """Writes the table as text, Markdown and JSON, and a picture where rows differ in their training images."""
    sources = list(dict.fromkeys(entry["source"] for record in records for entry in record["published"]))
    lines = [cells_of(record, sources) for record in records]
    notes = notes_of(records, sources)
    files.write_json(out / f"{name}.json", dict(table=name, rows=records))
    if courses := courses_of(records):
        plots.write(out / f"{name}.png", images_picture(courses))
    else:
        (out / f"{name}.png").unlink(missing_ok=True)
    files.write_text(out / f"{name}.md", console.markdown(HEAD, lines, *notes))
    write_text(out / f"{name}.txt", console.table(HEAD, [lines], left=2), *notes)


def run(chosen: Results) -> None:
    """Trains all rows; writes the table after each."""
    rows = rows_of(chosen)
    records: list[dict[str, Any]] = []
    name = table_of(chosen, rows)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_enable_compilation_cache", False)  # each run's seconds are with all compilation
    for row in rows:
        results = []
        for seed in range(row.seeds):
            forget_programs()  # each run compiles its own, as a command does
            results.append(train.train(options_of(row, seed, chosen)))
        records.append(record_of(row, results, chosen.test_images))
        write(chosen.out, name, records)
    print((chosen.out / f"{name}.txt").read_text())
    written = [f"{name}.{kind}" for kind in ("json", "md", "txt", "png") if (chosen.out / f"{name}.{kind}").exists()]
    print(f"{chosen.out}: {', '.join(written)}, and a folder for each row with its runs")


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the options, by default those of the command line, and makes the table."""
    call("python experiments/results.py", Results, arguments, run, STOPPED)


if __name__ == "__main__":
    protected(main)
