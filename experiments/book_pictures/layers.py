"""A drawing that explains what a layer computes."""

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from book_pictures import style
from snnjax.app import plots

SHIFT = 0.16  # offset between the maps of a stack
POTENTIAL = ((0, 0), (0.25, 0), (0.4, 0.3), (0.6, 0.3), (0.8, 0.55), (1.0, 0.55), (1.15, 1.0))
"""Pairs of time and potential of a neuron up to its spike."""


def layer() -> bytes:
    """Maps of input spikes, the kernel of one neuron, its potential up to the threshold, and the maps after it."""
    figure = style.sheet(2.2)
    axis = figure.subplots()
    axis.set(xlim=(-0.1, 12.2), ylim=(-1.1, 2.6), aspect="equal")
    axis.axis("off")
    draw_maps(axis, 0, 2.0, 3, "C maps of\ninput spikes")
    axis.add_patch(Rectangle((0.6, 0.7), 0.6, 0.6, facecolor=style.ORANGE, edgecolor="0.2"))
    axis.annotate("kernel", (0.9, 0.7), (0.9, 0.25), ha="center", color="0.2")
    draw_potential(axis, 3.6)
    draw_maps(axis, 7.0, 1.8, 4, "F maps: when\neach neuron fires")
    axis.add_patch(Rectangle((7.75, 0.85), 0.16, 0.16, facecolor=style.ON, edgecolor="0.2"))
    draw_maps(axis, 10.6, 0.9, 4, "pooled: the\nearliest spike")
    for start, end in (((1.3, 1.0), (3.5, 1.0)), ((5.6, 1.0), (7.65, 0.93)), ((9.5, 0.9), (10.5, 0.7))):
        axis.annotate("", end, start, arrowprops=dict(arrowstyle="->", color="0.3"))
    return plots.png(figure)


def draw_maps(axis: Axes, left: float, size: float, count: int, label: str) -> None:
    """Draws a stack of square maps with the first one in front."""
    for index in reversed(range(count)):
        corner = left + SHIFT * index, SHIFT * index
        axis.add_patch(Rectangle(corner, size, size, facecolor="white", edgecolor=style.OFF))
    axis.text(left + size / 2, -0.2, label, ha="center", va="top")


def draw_potential(axis: Axes, left: float) -> None:
    """Draws the potential of a neuron, which fires when it reaches the threshold."""
    times = [left + 1.5 * time for time, _ in POTENTIAL]
    heights = [1.8 * height for _, height in POTENTIAL]
    axis.plot(times, heights, color=style.ON, linewidth=2)
    axis.plot((left, left + 1.9), (1.8, 1.8), color="0.4", linestyle="--")
    axis.plot(times[-1], heights[-1], "*", color=style.ON, markersize=13)
    axis.plot((left, left, left + 1.9), (1.9, 0, 0), color="0.4")
    axis.text(left + 0.95, 2.0, "threshold", ha="center", color="0.2")
    axis.text(left + 0.95, -0.2, "potential of a\nneuron over time", ha="center", va="top")
