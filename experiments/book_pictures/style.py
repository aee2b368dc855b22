"""Sizes, colours and helpers that all pictures of the book share."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle

WIDTH = 6.2  # inches, 620 pixels on a page

ON = "#D55E00"  # vermilion; colour-blind people can distinguish all of these colours (Okabe and Ito)
OFF = "#0072B2"  # blue
GREEN = "#009E73"
ORANGE = "#E69F00"
PURPLE = "#CC79A7"
QUIET = "0.72"
SILENT = "0.93"  # background of maps, which marks silent neurons

RC: Any = {
    "axes.edgecolor": "0.4",
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9.5,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "image.interpolation": "nearest",
    "legend.fontsize": 9,
    "legend.frameon": False,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}
"""The settings of matplotlib with which the figures are made."""


def sheet(height: float, space: float | None = None) -> Figure:
    """An empty figure of the width of a page and of this height in inches, with a margin for dark pages.

    `space` is the space between its parts, as a share of their size.
    """
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1, wspace=space, hspace=space)
    return Figure(figsize=(WIDTH, height), layout=layout)


def parts(figure: Figure, above: float, below: float) -> tuple[SubFigure, SubFigure]:
    """Divides a figure into an upper and a lower part with these height ratios."""
    halves: Any = figure.subfigures(2, 1, height_ratios=(above, below))
    return halves[0], halves[1]


def bare(axis: Axes, title: str = "", **settings: Any) -> None:
    """Removes the ticks and the frame of an axis that shows an image."""
    axis.set(xticks=[], yticks=[], facecolor=SILENT, **settings)
    axis.spines[:].set_visible(False)
    if title:
        axis.set_title(title)


def show_digit(axis: Axes, image: np.ndarray, title: str = "") -> None:
    """Draws a grey image with values 0..255."""
    axis.imshow(image, cmap="gray", vmin=0, vmax=255)
    bare(axis, title)


def box(axis: Axes, row: float, column: float, size: float, color: str, **settings: Any) -> None:
    """Frames a square of `size` pixels around one pixel."""
    corner = column - size / 2, row - size / 2
    axis.add_patch(Rectangle(corner, size, size, fill=False, edgecolor=color, **(dict(linewidth=2) | settings)))


def fired(latency: np.ndarray, time_steps: int) -> np.ndarray:
    """Latencies for drawing, with NaN for silent neurons."""
    return np.where(latency < time_steps, latency, np.nan)
