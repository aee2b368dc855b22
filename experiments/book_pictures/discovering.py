"""A rule that evolves: its window over time differences, and what each generation gains."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import evolved
import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from book_pictures import style
from snnjax.app import plots

DIFFERENCES = np.concatenate([np.linspace(-0.75, -0.001, 40), np.linspace(0, 0.9, 60)])
"""Of time, neuron minus input, in shares of all steps."""
SILENT = -0.9  # where the point of silent inputs is drawn
LIMIT = 5.2  # of windows that are drawn
FRAME = 350  # milliseconds
REST = 3000  # on the last frame

RECORDED = Path(__file__).parents[1] / "recorded" / "found_generations.json"

Records = Sequence[dict[str, Any]]


def discovered() -> bytes:
    """The search of the book."""
    return animated(json.loads(RECORDED.read_text())["generations"])


def drawn(records: Records) -> bytes:
    """The windows of the last generation, and the gains of all."""
    return plots.png(_figure(records, len(records), _most(records)))


def animated(records: Records) -> bytes:
    """The same, generation after generation."""
    frames = []
    for count in range(1, len(records) + 1):
        figure = _figure(records[:count], len(records), _most(records))
        frames.append(style.image_of(figure).quantize(colors=32, dither=Image.Dither.NONE))
    return style.animation(frames, FRAME, REST)


def _figure(records: Records, total: int, most: float) -> Figure:
    figure = style.sheet(2.8)
    axes: Any = figure.subplots(1, 2, width_ratios=(1.6, 1))
    _draw_windows(axes[0], records[-1], f"generation {len(records)}")
    _draw_gains(axes[1], records)
    axes[1].set(xlim=(0, total + 1), ylim=(-1.5, most))
    return figure


def _draw_windows(axis: Axes, record: dict[str, Any], title: str) -> None:
    """Those of a generation's rules, of the start and of the centre."""
    for rule in record["rules"]:
        _draw_window(axis, evolved.rule_of(rule), color="0.8", linewidth=0.7)
    _draw_window(axis, evolved.Evolved(), color=style.ON, linestyle="--")
    _draw_window(axis, evolved.rule_of(record["centre"]), color=style.OFF, linewidth=2)
    axis.axhline(0, color="0.4", linewidth=0.8)
    axis.set(xlim=(-1, 0.95), ylim=(-LIMIT, LIMIT), ylabel="window", title=title)
    axis.set_xticks((SILENT, -0.5, 0, 0.5), ("silent", "-T/2", "0", "T/2"))
    axis.set_xlabel("the neuron fires so long after the input")


def _draw_gains(axis: Axes, records: Records) -> None:
    """The best and the median of each generation."""
    gains = 100 * np.array([record["gains"] for record in records])
    numbers = np.arange(1, len(records) + 1)
    axis.axhline(0, color=style.ON, linestyle="--")
    axis.plot(numbers, gains.max(axis=1), ".", color="0.6", label="best")
    axis.plot(numbers, np.median(gains, axis=1), color=style.OFF, label="median")
    axis.set(xlabel="generation", ylabel="above the start, points")
    axis.legend(loc="lower right")


def _most(records: Records) -> float:
    """The upper end of the axis of gains, in points; lower ones than -1.5 are not drawn."""
    return 100 * max(max(record["gains"]) for record in records) + 0.3


def _draw_window(axis: Axes, rule: Any, **line: Any) -> None:
    """The window of a rule, and a point for silent inputs."""
    with jax.default_device(jax.devices("cpu")[0]):
        heights = np.asarray(rule.window(DIFFERENCES))
    for part in (DIFFERENCES < 0, DIFFERENCES >= 0):
        axis.plot(DIFFERENCES[part], heights[part], **line)
    axis.plot(SILENT, float(rule.silent), "o", markersize=4, color=line["color"])
