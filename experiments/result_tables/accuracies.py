"""Tables of test accuracies, compared with published ones."""

import dataclasses
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import protocols
from protocols import Row

from snnjax.app import console
from snnjax.core.metrics import spread

COUNTS = ("train_images", "validation_images", "test_images")

Json = dict[str, Any]


def record_of(row: Row, folder: Path, results: list[Json]) -> Json:
    """The record of a row, from the `results` of its runs in a folder: accuracies as fractions, seconds of runs."""
    accuracies = np.array([result["test"]["accuracy"] for result in results])
    return dict(
        row=dataclasses.asdict(row),
        runs=folder.name,
        **{name: results[0]["settings"].get(name, 0) for name in COUNTS},
        accuracies=accuracies.tolist(),
        **spread(accuracies),
        seconds=[result["seconds"] for result in results],
        images_per_second=rates_of(results),
        compile_seconds=[sum(phase["compile_seconds"] for phase in result["phases"]) for result in results],
        epochs=[len(result["epochs"]) for result in results],
        devices=sorted({result["device"] for result in results}),
        versions=results[-1]["versions"],
        published=[entry._asdict() for entry in protocols.published(row)],
    )


def rates_of(results: list[Json]) -> dict[str, float]:
    """The images per second of each phase, as medians over the runs."""
    rates: dict[str, list[float]] = {}
    for result in results:
        for phase in result["phases"]:
            rates.setdefault(phase["name"], []).append(phase["images_per_second"])
    return {name: statistics.median(values) for name, values in rates.items()}


def line_of(record: Json) -> str:
    """A line with the mean accuracy of a row in %, and a remark if it is below its target."""
    accuracies = 100 * np.array(record["accuracies"])
    least = record["row"]["least"]
    below = f", below the {least:g} % that it should reach" if least is not None and accuracies.mean() < least else ""
    return f"{record['runs']}: {console.mean_of(accuracies, 2)} % of the test images, seeds: {len(accuracies)}{below}"
