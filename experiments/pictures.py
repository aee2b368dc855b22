"""Figures of the experiments: accuracies by training images, and by seeds with the reference."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from snnjax.app.comparisons import colors, endings, logarithmic
from snnjax.app.plots import PARTS, layout, legend, panels, write


class ByImages(NamedTuple):
    """Test accuracies, fractions of one, against the number of training images."""

    ours: list[tuple[int, float, Sequence[float] | None]]  # images, mean, and its 95 % interval; None: of one seed
    published: list[tuple[int, float]]  # images, accuracy


def images_picture(courses: Mapping[str, ByImages]) -> Figure:
    """Test accuracies against the number of training images, with intervals; crosses are published."""
    figure = Figure(figsize=(6.6, 4.2 + 0.2 * len(courses)), layout=layout())
    axis = figure.subplots()
    lines = []
    for color, course in zip(colors(len(courses)), courses.values(), strict=True):
        counts, means, intervals = zip(*sorted(course.ours, key=lambda each: each[0]), strict=True)
        ends = np.array([interval or (mean, mean) for mean, interval in zip(means, intervals, strict=True)])
        bars = 100 * np.abs(ends - np.array(means)[:, None]).T
        lines.append(axis.errorbar(counts, 100 * np.array(means), bars, fmt="-o", ms=4, capsize=3, color=color)[0])
        if course.published:
            counts, others = zip(*course.published, strict=True)
            axis.plot(counts, 100 * np.array(others), "x", color=color)
    logarithmic(axis)
    axis.set(xlabel="training images", ylabel="test accuracy, %")
    axis.grid(alpha=0.3)
    cross = [Line2D([], [], color="0.3", linestyle="", marker="x")] * any(x.published for x in courses.values())
    legend(figure, [*lines, *cross], [*endings(courses), *["published"] * len(cross)], loc="outside lower left")
    return figure


def replication_picture(path: Path, rows: list[dict[str, Any]]) -> None:
    """Draws for each network, a row of replication.json, the accuracies of all seeds, their mean, and the reference."""
    figure, axes = panels(len(rows), "accuracy", extra=0.6)
    for axis, row in zip(axes, rows, strict=True):
        for part, color in PARTS:
            curves = np.array(row[part]["seeds"])
            theirs = row[part]["reference"]
            epochs = np.arange(1, curves.shape[1] + 1)
            axis.plot(epochs, curves.T, color=color, linewidth=0.6, alpha=0.5)
            axis.plot(epochs, row[part]["mean"], color=color, linewidth=2, label=f"snnjax, {part}")
            axis.plot(range(1, len(theirs) + 1), theirs, "o--", color="black", markerfacecolor=color, markersize=6)
        axis.plot([], [], "o--", color="black", label="PyTorch, one run")
        axis.set_title(row["network"], fontsize=10)
        axis.set(xlabel="supervised epoch", xticks=epochs[:: -(-len(epochs) // 10)])
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8, loc="lower right")
    write(path, figure)
