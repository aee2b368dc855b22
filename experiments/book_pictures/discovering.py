"""The picture of an evolving rule: its window over time differences, or its numbers, and the gains of generations."""

from collections.abc import Sequence
from typing import Any

import evolved
import jax
import numpy as np
from judging import Judge
from matplotlib.axes import Axes

from book_pictures import style
from snnjax.app import plots

DIFFERENCES = np.concatenate([np.linspace(-0.75, -0.001, 40), np.linspace(0, 0.9, 60)])
"""Differences between the spike times of neuron and input, as shares of all time steps."""
SILENT = -0.9  # position of the point for silent inputs
LIMIT = 3.2  # largest absolute value of a window that is drawn

Records = Sequence[dict[str, Any]]


def picture(records: Records, judge: Judge) -> bytes:
    """The rules of the last generation, and the gains of all generations."""
    figure = style.sheet(2.8)
    axes: Any = figure.subplots(1, 2, width_ratios=(1.6, 1))
    draw = _draw_windows if judge.rule is evolved else _draw_numbers
    draw(axes[0], records[-1], judge)
    axes[0].set_title(f"generation {len(records)}")
    axes[0].axhline(0, color="0.4", linewidth=0.8)
    _draw_gains(axes[1], records)
    axes[1].set(xlim=(0, len(records) + 1), ylim=(-1.5, _most(records)))
    return plots.png(figure)


def _draw_windows(axis: Axes, record: dict[str, Any], judge: Judge) -> None:
    """Draws the windows of the rules of a generation, of the start and of the mean."""
    for point in record["points"]:
        _draw_window(axis, judge.learner(point), color="0.8", linewidth=0.7)
    _draw_window(axis, judge.learner(judge.start), color=style.ON, linestyle="--")
    _draw_window(axis, judge.learner(record["mean"]), color=style.OFF, linewidth=2)
    axis.set(xlim=(-1, 0.95), ylim=(-LIMIT, LIMIT), ylabel="window")
    axis.set_xticks((SILENT, -0.5, 0, 0.5), ("silent", "-T/2", "0", "T/2"))
    axis.set_xlabel("spike time of the neuron minus that of the input")


def _draw_numbers(axis: Axes, record: dict[str, Any], judge: Judge) -> None:
    """Draws the numbers of the rules of a generation, and of the mean."""
    axis.plot(np.transpose(record["points"]), color="0.8", linewidth=0.7)
    axis.plot(record["mean"], color=style.OFF, linewidth=2)
    axis.set(ylabel="distance from the start, steps")
    axis.set_xticks(range(len(judge.start)), judge.rule.NUMBERS, rotation=30, ha="right")


def _draw_gains(axis: Axes, records: Records) -> None:
    """Draws the best gain and the median gain of each generation."""
    gains = 100 * np.array([record["gains"] for record in records])
    numbers = np.arange(1, len(records) + 1)
    axis.axhline(0, color=style.ON, linestyle="--")
    axis.plot(numbers, gains.max(axis=1), ".", color="0.6", label="best")
    axis.plot(numbers, np.median(gains, axis=1), color=style.OFF, label="median")
    axis.set(xlabel="generation", ylabel="gain over the start, points")
    axis.legend(loc="lower right")


def _most(records: Records) -> float:
    """The upper end of the axis of gains, in percentage points; gains below -1.5 are not drawn."""
    return 100 * max(0, *(max(record["gains"]) for record in records)) + 0.3


def _draw_window(axis: Axes, rule: Any, **line: Any) -> None:
    """Draws the window of a rule, and a point for silent inputs."""
    with jax.default_device(jax.devices("cpu")[0]):
        heights = np.asarray(rule.window(DIFFERENCES))
    for part in (DIFFERENCES < 0, DIFFERENCES >= 0):
        axis.plot(DIFFERENCES[part], heights[part], **line)
    axis.plot(SILENT, float(rule.silent), "o", markersize=4, color=line["color"])
