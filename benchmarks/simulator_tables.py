"""Makes the Markdown tables of benchmarks/simulators.py from the results of its programs."""

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
    "classes, s",
    "training images/s",
    "test, ms/image",
    "memory, MB",
    "spikes/image",
    "synaptic operations/image",
    "statements",
)
FEATURES = ("recipe", "features", "training images", "test images", "logistic regression, test accuracy, %")
RECIPES = ("recipe", "neurons", "time steps", "spikes per neuron", "source", "version", "licence")


def by_recipe(results: Iterable[Row]) -> dict[str, list[Row]]:
    """The results of each recipe, by name, one for each seed; a recipe that could not be run has a `reason`."""
    found: dict[str, list[Row]] = {}
    for result in results:
        found.setdefault(result["name"], []).append(result)
    return found


def measured(results: Iterable[Row]) -> dict[str, list[Row]]:
    """The results of each recipe that could be run."""
    ran = (result for result in results if "reason" not in result)
    return by_recipe(ran)


def percent(accuracies: Sequence[float], tested: int) -> str:
    """The mean and half its 95 % interval in percent: over seeds, or for a single seed over the tested images."""
    values = 100 * np.array(accuracies)
    if len(values) == 1:
        return f"{values[0]:.1f} ± {100 * binomial_interval(accuracies[0], tested):.1f}"
    return f"{values.mean():.1f} ± {half_interval(values):.1f}"


def binomial_interval(share: float, count: int) -> float:
    """Half the width of the 95 % interval of a share of independent images."""
    return 1.96 * float(np.sqrt(share * (1 - share) / count))


def mean_of(rows: Sequence[Row], value: Callable[[Row], float | None]) -> float | None:
    """The mean of a value over the seeds; None if it was not measured."""
    values = [value(row) for row in rows]
    return None if None in values else float(np.mean([x for x in values if x is not None]))


def number(value: float | None) -> str:
    """A number with three significant digits, or an empty cell for None."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def training_seconds(row: Row) -> float:
    """The seconds of learning, plus those of the responses to training images from which classes are assigned."""
    return float(row["train_seconds"] + (row["label_seconds"] or 0))


def accuracy(rows: Sequence[Row]) -> str:
    """The accuracy of a recipe, the number of tested images if it is not all, and the second score, if any."""
    first = rows[0]
    text = percent([row["accuracy"] for row in rows], first["test_images"])
    if first["test_images"] < first["test_images_planned"]:
        text += f" of {first['test_images']:,}"
    if "accuracy_proportion" in first:
        text += f" ({100 * np.mean([row['accuracy_proportion'] for row in rows]):.1f} by proportion weighting)"
    return text


def classes_by(row: Row) -> str:
    """How a recipe assigns classes, and from how many images, if it shows images for this purpose."""
    count = row["label_images"]
    return row["assignment"] if count is None else f"{row['assignment']}; from {count:,} images"


def seconds_of(row: Row) -> float:
    """The seconds of training and testing."""
    return training_seconds(row) + float(row["test_seconds"])


def images_shown(rows: Sequence[Row]) -> str:
    """The mean number of image presentations in training, and the planned number if time did not suffice for all."""
    mean = np.mean([row["train_presentations"] for row in rows])
    planned = np.mean([row.get("train_presentations_planned", row["train_presentations"]) for row in rows])
    return f"{mean:,.0f}" if planned == mean else f"{mean:,.0f} of {planned:,.0f}"


def results_table(results: Iterable[Row], *notes: str) -> str:
    """The table of accuracy, time, memory and activity of each recipe."""
    lines = []
    for name, rows in measured(results).items():
        first = rows[0]
        lines.append(
            [
                name,
                accuracy(rows),
                classes_by(first),
                images_shown(rows),
                number(mean_of(rows, lambda row: row["train_seconds"])),
                number(mean_of(rows, lambda row: row["label_seconds"])),
                number(mean_of(rows, lambda row: row["train_images"] / row["train_seconds"])),
                number(mean_of(rows, lambda row: 1e3 * row["test_seconds"] / row["test_images"])),
                number(mean_of(rows, lambda row: row["peak_memory_mb"])),
                number(mean_of(rows, lambda row: row["spikes_per_image"])),
                number(mean_of(rows, lambda row: row["synops_per_image"])),
                str(first["recipe_statements"]),
            ]
        )
    return markdown(RESULTS, lines, *notes)


def features_table(results: Iterable[Row], pixels: Row) -> str:
    """The table of the accuracy of the same linear readout on the features of each recipe, and on the `pixels`."""
    readouts = {name: first["readout"] for name, (first, *_) in measured(results).items() if "readout" in first}
    lines = []
    for name, readout in (readouts | {"the pixels, without a network": pixels}).items():
        accuracy = percent([readout["accuracy"]], readout["test_images"])
        tested = f"{readout['test_images']:,}"
        lines.append([name, f"{readout['features']:,}", f"{readout['train_images']:,}", tested, accuracy])
    return markdown(FEATURES, lines)


def recipes_table(results: Iterable[Row]) -> str:
    """The table of the neurons that each recipe simulates, and of its source."""
    lines = []
    for name, (first, *_) in measured(results).items():
        source = f"[{first['recipe']}]({first['url']})" if first["url"] else first["recipe"]
        lines.append(
            [
                name,
                first["neuron"],
                str(first["time_steps"]),
                first["spikes"],
                source,
                first["version"] or "commit in the link",
                first["licence"],
            ]
        )
    return markdown(RECIPES, lines)


def repeats_table(results: Iterable[Row], repeats: dict[str, list[Row]]) -> str:
    """The table of accuracy and training time of recipes that were measured again, with a column for each run."""
    first = measured(results)
    runs = [{row["recipe"]: row for row in rows} for rows in repeats.values()]
    lines = []
    for name in dict.fromkeys(name for run in runs for name in run):
        rows = first[name]
        seconds = float(np.mean([row["train_seconds"] for row in rows]))
        complete = all(row["finished"] for row in rows)
        cells = [repeat_cell(accuracy(rows), seconds, complete)]
        for run in runs:
            cell = ""
            if name in run:
                row = run[name]
                cell = repeat_cell(row["accuracy"], row["seconds"], row["complete"])
            cells.append(cell)
        lines.append([name, *cells])
    return markdown(("recipe", "first run", *repeats), lines)


def repeat_cell(accuracy: str, seconds: float, complete: bool) -> str:
    """The cell with accuracy and seconds of a recipe in one run."""
    cell = f"{accuracy}; {seconds:.0f} s"
    return cell if complete else f"{cell}, out of time"


def reasons(results: Iterable[Row], without: dict[str, str]) -> list[str]:
    """Lines that name the simulators that have no row, with the reasons."""
    failed = [f"{row['name']}: {row['reason']}" for row in results if "reason" in row]
    return [*failed, *(f"{name}: {reason}" for name, reason in without.items())]
