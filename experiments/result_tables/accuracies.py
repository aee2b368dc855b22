"""Test accuracies beside published figures."""

import dataclasses
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import protocols
from protocols import Row

from snnjax.app import console
from snnjax.core.metrics import half_interval

COUNTS = ("train_images", "validation_images", "test_images")

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


def line_of(record: Json) -> str:
    """The mean accuracy of a row, in %, and whether it should be larger."""
    accuracies = 100 * np.array(record["accuracies"])
    least = record["row"]["least"]
    below = f", below the {least:g} % that it should reach" if least is not None and accuracies.mean() < least else ""
    return f"{record['runs']}: {console.mean_of(accuracies, 2)} % of the test images, seeds: {len(accuracies)}{below}"
