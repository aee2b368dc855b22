"""Means over the seeds and folds of runs and sweeps, with confidence intervals, and paired differences."""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from snnjax.app import console
from snnjax.app.plots import grid
from snnjax.core.codec import completed
from snnjax.core.metrics import half_interval, tested_part
from snnjax.training.groups import listed

Json = dict[str, Any]

SIZES = ("train_images", "validation_images", "test_images", "unlabelled_images", "images_taken")
PARTS = ("validation", "test")
HEAD = ("row", "runs", "what varies", "seeds")


class Accuracies(NamedTuple):
    """The accuracies of a trained network, in %; None if it was not tested on this part.

    Attributes:
      validation: the accuracy of the best epoch on held-out images.
      test: the accuracy of the network of this epoch on the test images.
      data: the digest of all images of the run.
    """

    validation: float | None
    test: float | None
    data: str | None


@dataclasses.dataclass
class Row:
    """Networks that differ only in their seed and fold.

    Attributes:
      varied: the values of the varied hyperparameters, each with its name; empty for runs.
      sources: the numbers, from 1, of the runs and sweeps from which the networks come.
      networks: the accuracies, by seed and fold.
      invalid: the number of networks that became invalid during training.
    """

    varied: list[str]
    sources: list[int] = dataclasses.field(default_factory=list)
    networks: dict[tuple[int, int], Accuracies] = dataclasses.field(default_factory=dict)
    invalid: int = 0

    def values(self, part: str, keys: Iterable[tuple[int, int]] | None = None) -> np.ndarray:
        """The accuracies on a part, in %, of all networks, or only of those with these seeds and folds."""
        chosen = self.networks if keys is None else keys
        values = [getattr(self.networks[key], part) for key in chosen]
        return np.array([value for value in values if value is not None])

    def tested(self, part: str) -> set[tuple[int, int]]:
        """The seeds and folds of all networks that were tested on a part."""
        return {key for key, accuracies in self.networks.items() if getattr(accuracies, part) is not None}


def rows_of(sources: Iterable[Json]) -> list[Row]:
    """The rows of a table of means, given several results.json and sweep.json in order.

    Networks that differ only in seed and fold are in the same row, unless they have the same seed and fold.
    """
    rows: dict[tuple[str, int], Row] = {}
    for number, source in enumerate(sources, 1):
        settings = source["settings"]
        for network in source.get("networks", [source]):
            variant = dict(network.get("variant", {}))
            key = (int(variant.pop("seed", settings["seed"])), settings.get("fold") or 0)
            configuration = _configuration(source, network, variant)
            copy = 0
            while key in (row := rows.setdefault((configuration, copy), Row(listed(variant)))).networks:
                copy += 1
            if number not in row.sources:
                row.sources.append(number)
            if "error" in network:
                row.invalid += 1
            else:
                row.networks[key] = _accuracies(network, settings.get("data"))
    return [row for row in rows.values() if row.networks]


def _configuration(source: Json, network: Json, variant: Mapping[str, Any]) -> str:
    """Everything except seed and fold on which the result of a network depends, as text."""
    settings = {name: value for name, value in source["settings"].items() if name not in ("seed", "fold")}
    if source["settings"].get("fold") is not None:
        settings = {name: value for name, value in settings.items() if name not in (*SIZES, "data")}
    if settings.get("draw") or settings.get("augment") or settings.get("ratio", 1) != 1:
        settings.pop("data", None)  # the seed draws the images
    about = source.get("about", source)
    kinds = {name: about.get(name) for name in ("network", "network_digest", "hyperparameters", "components")}
    parts = completed(network.get("components", {})) if "networks" in source else {}
    return json.dumps([settings, kinds, variant, parts, "networks" in source], sort_keys=True)


def _accuracies(network: Json, data: str | None) -> Accuracies:
    validation = None
    if network["epochs"]:
        best = network["epochs"][network["best_epoch"]]
        validation = 100 * best["validation"]["accuracy"] if tested_part(best) == "validation" else None
    tested = network.get("test")  # it is also None for a network without a decision
    return Accuracies(validation, 100 * tested["accuracy"] if tested else None, data)


def table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """The heads and the cells of the table of means.

    For each part there is the mean with its interval and the standard deviation, and the difference from the first row.
    Within a cell, each varied value is on a separate line.
    """
    parts = [part for part in PARTS if any(row.tested(part) for row in rows)]
    head = [*HEAD, *(title for part in parts for title in (f"{part}, %", f"{part}, minus row 1"))]
    lines = []
    for number, row in enumerate(rows, 1):
        count = f"{len(row.networks)}" + f", {row.invalid} invalid" * bool(row.invalid)
        cells = [str(number), in_ranges(row.sources), "\n".join(row.varied), count]
        for part in parts:
            values = row.values(part)
            cells.append(console.mean_of(values, 2) if len(values) else "")
            cells.append("" if number == 1 else difference(row, rows[0], part))
        lines.append(cells)
    used = [column for column, name in enumerate(head) if name in HEAD[:2] or any(line[column] for line in lines)]
    return [head[column] for column in used], [[line[column] for column in used] for line in lines]


def difference(row: Row, other: Row, part: str) -> str:
    """The mean difference between two rows over their common seeds and folds, its interval, and the number of pairs.

    Networks with the same seed are not a pair if their images differ; the result is "" if there is no pair for this
    reason.
    """
    both = sorted(row.tested(part) & other.tested(part))
    common = [key for key in both if row.networks[key].data == other.networks[key].data]
    if not common:
        return "no common seeds" if row.tested(part) and other.tested(part) and not both else ""
    gaps = row.values(part, common) - other.values(part, common)
    interval = f" ± {half_interval(gaps):.2f}" if len(gaps) > 1 else ""
    return f"{gaps.mean():+.2f}{interval} ({len(gaps)})"


def in_ranges(numbers: Sequence[int]) -> str:
    """Numbers as text, with ranges for successive numbers: "1-5, 7"."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1].append(number)
        else:
            ranges.append([number])
    return ", ".join(f"{part[0]}-{part[-1]}" if part[1:] else str(part[0]) for part in ranges)


def picture(rows: Sequence[Row]) -> Figure:
    """A figure with the accuracy of each network as a dot, row by row, with the mean and its interval.

    It shows test accuracies if all rows have one, and otherwise validation accuracies.
    """
    part = "test" if all(row.tested("test") for row in rows) else "validation"
    figure, (axis,) = grid(1, 1, 7, 0.9 + 0.34 * len(rows))
    labels = []
    for place, row in enumerate(rows):
        values = row.values(part)
        short = ", ".join(re.sub(r"^[\w.]*\.(\w+=)", r"\1", value) for value in row.varied)  # the last names of paths
        label = f"row {place + 1}" + f": {short}" * bool(short)
        labels.append(label if len(label) <= 60 else f"{label[:20]}…{label[-39:]}")
        axis.plot(values, np.full(len(values), place - 0.12), "o", color="tab:blue", alpha=0.5, markersize=5)
        if len(values):
            half = half_interval(values) if len(values) > 1 else None
            axis.errorbar(values.mean(), place + 0.14, xerr=half, fmt="D", color="black", markersize=4, capsize=3)
    axis.set_yticks(range(len(rows)), labels, fontsize=8)
    for label_text in axis.get_yticklabels():
        label_text.set_parse_math(False)
    axis.set(xlabel=f"{part} accuracy, %", ylim=(len(rows) - 0.5, -0.5))
    axis.grid(axis="x", alpha=0.3)
    return figure
