"""The picture of the encoding: how an image becomes spikes."""

import functools
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from book_pictures import style
from snnjax.app import plots
from snnjax.data import read_handwriting
from snnjax.encoding import DIGITS, encode, filter_image

STEPS = 15
DIGIT = Path(__file__).parents[1] / "docs" / "pictures" / "digit.png"
SCALES = ("fine", "medium", "coarse")
KINDS = {"on": style.ON, "off": style.OFF}


@functools.cache
def digit() -> np.ndarray:
    """The image that is used in the pictures, a handwritten 5: (28, 28), values 0..255."""
    return read_handwriting(DIGIT)[0]


@functools.cache
def latencies() -> np.ndarray:
    """The latencies of the image, (6, 28, 28): on and off contrasts at each of three scales."""
    return np.asarray(encode(jnp.asarray(digit())))


def encoded() -> bytes:
    """A digit, its contrasts at three scales, and the latencies of the resulting spikes."""
    figure = style.sheet(2.45, 0.02)
    grid = figure.add_gridspec(2, 7, width_ratios=(1.6, *[1] * 6))
    style.show_digit(figure.add_subplot(grid[:, 0]), digit(), "image")
    contrasts = np.asarray(filter_image(digit(), bank=DIGITS))
    axes = np.array([[figure.add_subplot(grid[row, 1 + column]) for column in range(6)] for row in range(2)])
    names = [(f"{scale}, {kind}", color) for scale in SCALES for kind, color in KINDS.items()]
    for (above, below), contrast, latency, name in zip(axes.T, contrasts, latencies(), names, strict=True):
        above.imshow(contrast, cmap="gray", vmin=0, vmax=contrast.max())
        style.bare(above)
        above.set_title("\n".join(name[0].split(", ")), color=name[1])
        drawn = show_latency(below, latency)
    axes[0, 0].set_ylabel("contrast")
    axes[1, 0].set_ylabel("latency")
    time_bar(figure, drawn, axes, "time step of the spike: strong contrasts fire first (grey: silent)")
    return plots.png(figure)


def show_latency(axis: Axes, latency: np.ndarray) -> ScalarMappable:
    """Draws the latencies of one map in colour; returns the mappable for a colour bar."""
    drawn = axis.imshow(style.fired(latency, STEPS), cmap="viridis", vmin=0, vmax=STEPS - 1)
    style.bare(axis)
    return drawn


def time_bar(figure: Figure, drawn: ScalarMappable, axes: np.ndarray, label: str) -> None:
    """Draws the colour bar of the time steps below some axes."""
    bar = figure.colorbar(drawn, ax=axes, location="bottom", aspect=45, pad=0.02, ticks=range(0, STEPS, 2))
    bar.set_label(label)
    bar.outline.set_visible(False)
