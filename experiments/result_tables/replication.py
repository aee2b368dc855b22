"""The recorded runs of aidinattar/snn, repeated with several seeds."""

from pathlib import Path
from typing import Any

import numpy as np
from protocols import Row

from result_tables.accuracies import Json
from snnjax.app import console
from snnjax.core import files
from snnjax.core.metrics import spread

REFERENCE = Path(__file__).parents[1] / "reference.json"  # accuracies of aidinattar/snn, and how they were obtained
PARTS = ("train", "test")


def record_of(row: Row, folder: Path, results: list[Json]) -> Json:
    """The accuracies of all epochs and seeds as fractions, with the recorded ones, and the mean duration of a run."""
    reference = files.read_json(REFERENCE)["networks"][row.model]
    seconds = [sum(phase["seconds"] + phase["compile_seconds"] for phase in result["phases"]) for result in results]
    record: dict[str, Any] = dict(
        network=row.model,
        runs=folder.name,
        seeds=len(results),
        seconds=float(np.mean(seconds)),
        reference_seconds=reference["seconds"],
    )
    for part in PARTS:
        ours = np.array([[epoch[part]["accuracy"] for epoch in result["epochs"]] for result in results])
        summary = spread(ours)
        gap = np.array(reference[part]) - ours.mean(axis=0)
        record[part] = dict(reference=reference[part], seeds=ours.tolist(), **summary, gap=gap.tolist())
        if summary["sd"]:
            record[part]["within_3_sd"] = (np.abs(gap) <= 3 * np.array(summary["sd"])).tolist()
    return record


def line_of(record: Json) -> str:
    """A line with the test accuracy after the last epoch in %, compared with that of aidinattar/snn."""
    accuracies = 100 * np.array(record["test"]["seeds"])[:, -1]
    theirs = 100 * record["test"]["reference"][-1]
    ours = f"{console.mean_of(accuracies, 1)} % of the test images, seeds: {len(accuracies)}"
    return f"{record['runs']}: {ours}; aidinattar/snn, one run: {theirs:.1f} %"
