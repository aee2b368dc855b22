"""Tables of test accuracies with published figures."""

import dataclasses
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import protocols
from protocols import JPEG, Row

from snnjax.core.metrics import half_interval

COUNTS = ("train_images", "validation_images", "test_images")
HEAD = ("network", "data", "images", "test accuracy, %", "seeds", "published, %", "seconds", "kernels")

Json = dict[str, Any]


def record_of(row: Row, folder: Path, results: list[Json]) -> Json:
    """The `results` of a row's runs, which lie in a folder: accuracies as fractions, seconds of whole runs."""
    accuracies = np.array([[result["test"]["accuracy"]] for result in results])
    summary = {name: value and value[0] for name, value in seed_statistics(accuracies).items()}
    return dict(
        row=dataclasses.asdict(row),
        runs=folder.name,
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


def seed_statistics(values: np.ndarray) -> Json:
    """Mean, standard deviation and 95 % interval of the mean over the seeds, (seeds, epochs); None for one seed."""
    count = len(values)
    mean = values.mean(axis=0)
    if count == 1:
        return dict(mean=mean.tolist(), sd=None, interval95=None)
    spread = values.std(axis=0, ddof=1)
    half = half_interval(values)
    return dict(mean=mean.tolist(), sd=spread.tolist(), interval95=np.stack([mean - half, mean + half], 1).tolist())


def rates_of(results: list[Json]) -> dict[str, float]:
    """Images a second of each phase, the median of the runs."""
    rates: dict[str, list[float]] = {}
    for result in results:
        for phase in result["phases"]:
            rates.setdefault(phase["name"], []).append(phase["images_per_second"])
    return {name: statistics.median(values) for name, values in rates.items()}


def table_of(records: list[Json]) -> tuple[list[list[str]], list[str]]:
    """The lines of the table, and the notes below it."""
    sources = list(dict.fromkeys(entry["source"] for record in records for entry in record["published"]))
    return [cells_of(record, sources) for record in records], notes_of(records, sources)


def cells_of(record: Json, sources: list[str]) -> list[str]:
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


def dataset_of(row: Json) -> str:
    """The data of a row, and how the network sees them, in words."""
    words = [row["dataset"]]
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


def notes_of(records: list[Json], sources: list[str]) -> list[str]:
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


def chosen_by(records: list[Json]) -> str:
    """A sentence that says which images have chosen the best epochs."""
    if all(record["validation_images"] for record in records):
        return "Held-out training images choose the best epoch; the test images are tested once."
    return "In some runs the test images choose the best epoch: these accuracies are too optimistic."
