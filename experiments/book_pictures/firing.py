"""Pictures of a trained layer: how its neurons fire, and which of them win."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from book_pictures import encoding, features, style
from book_pictures.features import KERNEL, RADIUS, STEPS, THRESHOLD, WINNERS
from snnjax import kernels
from snnjax.app import plots
from snnjax.kernels import Winners

Place = tuple[int, int]

COLOURS = (style.ON, style.OFF, style.GREEN, style.ORANGE, style.PURPLE)
APART = 7  # minimum distance between the neurons shown, in pixels


def potentials() -> bytes:
    """The potentials of three neurons of one feature: two of them reach the threshold, and one does not."""
    weights = features.course().weights[-1]
    response = features.compete(weights, encoding.latencies())
    courses = np.asarray(kernels.potentials(response.seen, weights, time_steps=STEPS))
    latency = np.asarray(response.spikes.latency)
    feature = int(response.winners.feature[0])
    places = _three(latency[feature], courses[-1, feature])
    figure = style.sheet(2.9)
    grid = figure.add_gridspec(2, 2, width_ratios=(1, 2), height_ratios=(2.6, 1))
    picture = figure.add_subplot(grid[0, 0])
    style.show_digit(picture, encoding.digit(), "three receptive fields")
    look = figure.add_subplot(grid[1, 0])
    features.show_feature(look, features.drawn(len(features.course().features))[feature])
    look.set_title("feature of all three", y=-0.45)
    axis = figure.add_subplot(grid[:, 1])
    axis.axhline(THRESHOLD, color="0.4", linestyle="--", linewidth=1)
    axis.text(STEPS - 1, THRESHOLD - 0.3, "threshold", color="0.3", ha="right", va="top")
    for color, (row, column) in zip(COLOURS, places, strict=False):
        style.box(picture, row, column, KERNEL, color)
        _course(axis, courses[:, feature, row, column], int(latency[feature, row, column]), color)
    axis.set(xlabel="time step", ylabel="potential", xticks=range(0, STEPS, 2))
    axis.legend(loc="lower center", bbox_to_anchor=(0.45, 1), ncols=3, columnspacing=1.2, handlelength=1)
    return plots.png(figure)


def _three(latency: np.ndarray, last: np.ndarray) -> list[Place]:
    """The positions of an early, a late and a silent neuron, at some distance from each other."""
    early = np.where(latency < STEPS, -latency.astype(float), -np.inf)
    late = np.where((latency < STEPS - 2) & (latency > 4), latency.astype(float), -np.inf)
    silent = np.where(latency == STEPS, -np.abs(last - 0.6 * THRESHOLD), -np.inf)
    places: list[Place] = []
    for wish in (early, late, silent):
        rows, columns = np.indices(wish.shape)
        near = np.any([np.hypot(rows - y, columns - x) < APART for y, x in places] or [np.zeros_like(wish)], axis=0)
        inside = (rows >= 3) & (rows < 25) & (columns >= 3) & (columns < 25)
        allowed = np.where(near | ~inside, -np.inf, wish)
        place = int(allowed.argmax())
        places.append(divmod(place, wish.shape[1]))
    return places


def _course(axis: Axes, course: np.ndarray, spike: int, color: str) -> None:
    """Draws the potential of a neuron, which is pale after its spike, with a label that tells when it fires."""
    axis.plot(course, "-", color=color, linewidth=1.2, alpha=0.3)
    name = f"fires at step {spike}" if spike < STEPS else "stays silent"
    axis.plot(course[: spike + 1], "o-", color=color, markersize=3.5, linewidth=2, label=name)
    if spike < STEPS:
        axis.plot(spike, course[spike], "*", color=color, markersize=15, markeredgecolor="white")


def winners() -> bytes:
    """All spikes, the first spike at each position, and the five winners, which differ in feature and position."""
    weights = features.course().weights[-1]
    response = features.compete(weights, encoding.latencies())
    spikes = response.spikes
    inhibited = response.inhibited
    won = response.winners
    figure = style.sheet(3.8)
    halves = style.parts(figure, 2.3, 1)
    above = halves[0]
    below = halves[1]
    (firing, first, picture), (*bars, words) = above.subplots(2, 3, height_ratios=(16, 1))
    count = np.asarray(spikes.latency < STEPS).sum(axis=0)
    drawn = firing.imshow(np.where(count, count, np.nan), cmap="Greys", vmin=0)
    style.bare(firing, f"{count.sum():,} neurons fire")
    above.colorbar(drawn, cax=bars[0], orientation="horizontal", label="features at a position")
    left = np.asarray(inhibited.latency)
    drawn = encoding.show_latency(first, left.min(axis=0))
    first.set_title(f"{(left < STEPS).sum()} remain, one per position")
    above.colorbar(drawn, cax=bars[1], orientation="horizontal", label="time step", ticks=range(0, STEPS, 7))
    style.show_digit(picture, encoding.digit(), f"{WINNERS} win")
    words.axis("off")
    words.text(0.5, 1.2, "dotted: no other neuron\ncan win here", ha="center", va="top", transform=words.transAxes)
    for bar in bars:
        bar.spines[:].set_visible(False)
    _winners(picture, below, won)
    return plots.png(figure)


def _winners(picture: Axes, below: SubFigure, won: Winners) -> None:
    """Frames the receptive field of each winner, and draws its feature."""
    numbers = zip(*(np.asarray(each).tolist() for each in (won.feature, won.row, won.column, won.latency)), strict=True)
    looks = features.drawn(len(features.course().features))
    axes = below.subplots(1, WINNERS)
    for place, (axis, (feature, row, column, step), color) in enumerate(zip(axes, numbers, COLOURS, strict=True), 1):
        style.box(picture, row, column, KERNEL, color)
        style.box(picture, row, column, 2 * RADIUS + 1, color, linestyle=":", linewidth=1)
        corner = dict(boxstyle="square,pad=0.15", facecolor=color, edgecolor="none")
        where = column - KERNEL / 2, row - KERNEL / 2
        picture.text(*where, str(place), color="white", ha="center", va="center", weight="bold", bbox=corner)
        features.show_feature(axis, looks[feature])
        axis.set_title(f"{place}: feature {feature},\nstep {step}", color=color)
