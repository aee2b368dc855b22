"""A rule that evolves: its window over time differences, and what each generation gains."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import evolved
import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from book_pictures import style
from snnjax.app import plots

DIFFERENCES = np.concatenate([np.linspace(-0.75, -0.001, 40), np.linspace(0, 0.9, 60)])
"""Of time, neuron minus input, in shares of all steps."""
SILENT = -0.9  # where the point of silent inputs is drawn
LIMIT = 5.2  # of windows that are drawn
FRAME, REST = 350, 3000  # milliseconds, and on the last frame

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
    frames = [_image(_figure(records[:count], len(records), _most(records))) for count in range(1, len(records) + 1)]
    first, *others = [frame.quantize(colors=32, dither=Image.Dither.NONE) for frame in frames]
    buffer = io.BytesIO()
    waits = [FRAME] * len(others) + [REST]
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=waits, loop=0)
    return buffer.getvalue()


def _figure(records: Records, total: int, most: float) -> Figure:
    figure = style.sheet(2.8)
    left, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
    for rule in records[-1]["rules"]:
        _draw_window(left, evolved.rule_of(rule), color="0.8", linewidth=0.7)
    _draw_window(left, evolved.Evolved(), color=style.ON, linestyle="--")
    _draw_window(left, evolved.rule_of(records[-1]["centre"]), color=style.OFF, linewidth=2)
    left.axhline(0, color="0.4", linewidth=0.8)
    left.set(xlim=(-1, 0.95), ylim=(-LIMIT, LIMIT), ylabel="window", title=f"generation {len(records)}")
    left.set_xticks((SILENT, -0.5, 0, 0.5), ("silent", "-T/2", "0", "T/2"))
    left.set_xlabel("the neuron fires so long after the input")
    gains = 100 * np.array([record["gains"] for record in records])
    numbers = np.arange(1, len(records) + 1)
    right.axhline(0, color=style.ON, linestyle="--")
    right.plot(numbers, gains.max(axis=1), ".", color="0.6", label="best")
    right.plot(numbers, np.median(gains, axis=1), color=style.OFF, label="median")
    right.set(xlim=(0, total + 1), ylim=(-1.5, most), xlabel="generation", ylabel="above the start, points")
    right.legend(loc="lower right")
    return figure


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


def _image(figure: Figure) -> Image.Image:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
