"""The table of the recorded runs of aidinattar/snn, repeated from several seeds."""

from pathlib import Path
from typing import Any

import numpy as np
from protocols import Row

from result_tables.accuracies import Json, seed_statistics
from snnjax.core import files

REFERENCE = Path(__file__).parents[1] / "reference.json"  # accuracies of aidinattar/snn, and how they were obtained
HEAD = ("network", "aidinattar/snn, one run", "snnjax", "95 % interval", "within 3 sd", "minutes", "times faster")
PARTS = ("train", "test")
NOTES = [
    "Accuracies in %, training / test, after the last epoch, and one standard deviation (sd) over the seeds; the "
    "interval is that of the mean test accuracy.",
    "Within 3 sd: accuracies of aidinattar/snn, of all epochs, within three standard deviations of our mean.",
]


def record_of(row: Row, folder: Path, results: list[Json]) -> Json:
    """The accuracies of all epochs and seeds as fractions, beside those recorded, and the mean time of a run."""
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
        summary = seed_statistics(ours)
        gap = np.array(reference[part]) - ours.mean(axis=0)
        record[part] = dict(reference=reference[part], seeds=ours.tolist(), **summary, gap=gap.tolist())
        if summary["sd"]:
            record[part]["within_3_sd"] = (np.abs(gap) <= 3 * np.array(summary["sd"])).tolist()
    return record


def table_of(records: list[Json]) -> tuple[list[list[str]], list[str]]:
    """The lines of the table, and the notes below it."""
    return [cells_of(record) for record in records], NOTES


def cells_of(record: Json) -> list[str]:
    """A line of the table."""
    parts = [record[part] for part in PARTS]
    near = [within for part in parts for within in part.get("within_3_sd", [])]
    interval = record["test"]["interval95"]
    return [
        record["network"],
        " / ".join(f"{100 * part['reference'][-1]:.1f}" for part in parts),
        " / ".join(f"{100 * part['mean'][-1]:.1f}" + spread_of(part) for part in parts),
        " .. ".join(f"{100 * end:.1f}" for end in interval[-1]) if interval else "",
        f"{sum(near)} of {len(near)}" if near else "",
        f"{record['seconds'] / 60:.1f}",
        f"{record['reference_seconds'] / record['seconds']:.0f}",
    ]


def spread_of(part: Json) -> str:
    """The standard deviation after the last epoch, in %; "" of one seed."""
    return f" ± {100 * part['sd'][-1]:.1f}" if part["sd"] else ""
