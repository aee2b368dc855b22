"""The tables of benchmarks/simulators.py, in Markdown, from the results of its programs."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from snnjax.app.console import markdown
from snnjax.core.metrics import half_interval

Row = dict[str, Any]

RESULTS = (
    "recipe",
    "test accuracy, %",
    "classes by",
    "images shown",
    "training, s",
    "images/s",
    "test, ms/image",
    "memory, MB",
    "spikes/image",
    "synaptic operations/image",
    "lines",
)
FEATURES = ("recipe", "features", "training images", "logistic regression, test accuracy, %")
RECIPES = ("recipe", "neurons", "time steps", "spikes of a neuron", "its source", "version", "licence")


def by_recipe(results: Iterable[Row]) -> dict[str, list[Row]]:
    """The results of each recipe, by its name, one for each seed; those without a result hold a `reason`."""
    found: dict[str, list[Row]] = {}
    for result in results:
        found.setdefault(result["name"], []).append(result)
    return found


def measured(results: Iterable[Row]) -> dict[str, list[Row]]:
    """The results of each recipe that could be run."""
    ran = (result for result in results if "reason" not in result)
    return by_recipe(ran)


def percent(accuracies: Sequence[float]) -> str:
    """Mean and half of its 95 % interval over seeds, or a single accuracy, in percent."""
    values = 100 * np.array(accuracies)
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{values.mean():.1f} ± {half_interval(values):.1f}"


def mean_of(rows: Sequence[Row], value: Callable[[Row], float | None]) -> float | None:
    """The mean of a value over the seeds; None where it was not measured."""
    values = [value(row) for row in rows]
    return None if None in values else float(np.mean([x for x in values if x is not None]))


def number(value: float | None) -> str:
    """A number with three digits, or an empty cell."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def training_seconds(row: Row) -> float:
    """Of learning, and of the responses to training images from which classes are assigned."""
    return float(row["train_seconds"] + (row["label_seconds"] or 0))


def images_shown(row: Row) -> str:
    """How many images were shown in training, each time counted, of how many where there was no time for all."""
    shown = f"{row['train_presentations']:,}"
    planned = row.get("train_presentations_planned", row["train_presentations"])
    return shown if planned == row["train_presentations"] else f"{shown} of {planned:,}"


def results_table(results: Iterable[Row], *notes: str) -> str:
    """Accuracy, time, memory and activity of each recipe."""
    lines = []
    for name, rows in measured(results).items():
        first = rows[0]
        tested = len({row["test_images"] for row in rows}) == 1 and first["finished"]
        lines.append(
            [
                name,
                percent([row["accuracy"] for row in rows]) + ("" if tested else f" of {first['test_images']:,}"),
                first["assignment"],
                images_shown(first),
                number(mean_of(rows, training_seconds)),
                number(mean_of(rows, lambda row: row["train_presentations"] / row["train_seconds"])),
                number(mean_of(rows, lambda row: 1e3 * row["test_seconds"] / row["test_images"])),
                number(mean_of(rows, lambda row: row["peak_memory_mb"])),
                number(mean_of(rows, lambda row: row["spikes_per_image"])),
                number(mean_of(rows, lambda row: row["synops_per_image"])),
                str(first["recipe_lines"]),
            ]
        )
    return markdown(RESULTS, lines, *notes)


def features_table(results: Iterable[Row]) -> str:
    """The accuracy of one linear readout on the features of all recipes."""
    lines = []
    for name, (first, *_) in measured(results).items():
        if readout := first.get("readout"):
            accuracy = percent([readout["accuracy"]])
            lines.append([name, f"{readout['features']:,}", f"{readout['train_images']:,}", accuracy])
    return markdown(FEATURES, lines)


def recipes_table(results: Iterable[Row]) -> str:
    """What each recipe simulates, and where it is published."""
    lines = []
    for name, (first, *_) in measured(results).items():
        source = f"[{first['recipe']}]({first['url']})"
        lines.append(
            [
                name,
                first["neuron"],
                str(first["time_steps"]),
                first["spikes"],
                source,
                str(first["version"]),
                first["licence"],
            ]
        )
    return markdown(RECIPES, lines)


def reasons(results: Iterable[Row], without: dict[str, str]) -> list[str]:
    """Sentences on the simulators that have no row, and why."""
    failed = [f"{row['name']}: {row['reason']}" for row in results if "reason" in row]
    return [*failed, *(f"{name}: {reason}" for name, reason in without.items())]
