"""Pictures of what a network has learned."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from snnjax.files import atomic_write


def write(path: Path, figure: Figure) -> None:
    """Writes a figure as a PNG file, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(png(figure))


def png(figure: Figure) -> bytes:
    """A figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DOTS, format="png")
    return buffer.getvalue()


DOTS = 110
"""Dots per inch."""


def panels(
    count: int, columns: int = 3, width: float = 4, extra: float = 0
) -> tuple[Figure, Sequence[Axes], Sequence[Axes]]:
    """Plots side by side with one vertical axis: the figure, all plots, and those on the left.

    Args:
      count: how many.
      columns: plots in a row, at most.
      width: of each, in inches.
      extra: height besides the plots, in inches.
    """
    columns = min(columns, count)
    lines = -(-count // columns)
    figure = Figure(figsize=(width * columns, 3.2 * lines + extra), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for axis in axes.flat[count:]:
        axis.axis("off")
    return figure, list(axes.flat[:count]), list(axes[:, 0])


def features_picture(images: np.ndarray, title: str, strengths: np.ndarray, rows: Sequence[str] = ()) -> Figure:
    """A contact sheet of what features are selective to.

    Args:
      images: (F, h, w), light where a feature wants light.
      title: above it.
      strengths: (F,) contrasts to draw them in, relative to each other.
      rows: a name for each row, where the features fall into rows of one kind, such as classes; numbers by default.
    """
    columns = len(images) // len(rows) if rows else _columns(len(images))
    scale = np.abs(images).max(axis=(1, 2)).clip(1e-12) * strengths.max(initial=1e-12) / strengths.clip(1e-12)
    sheet, (height, width) = tiled(images / scale[:, None, None], columns)
    lines = -(-len(images) // columns)
    size = min(0.9, 16 / columns)
    figure = Figure(figsize=(columns * size + 0.8, lines * size * height / width + 0.6), layout="constrained")
    axis = figure.subplots()
    axis.imshow(sheet, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
    names = rows or [str(row * columns) for row in range(lines)]
    axis.set_yticks(np.arange(lines) * height + (height - 1) / 2, names, fontsize=8)
    axis.set_xticks(np.arange(columns) * width + (width - 1) / 2, [f"+{at}" for at in range(columns)], fontsize=7)
    axis.set_xlabel("feature", fontsize=8)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_title(title, fontsize=10)
    return figure


def _columns(count: int) -> int:
    return min(count, 10 if count <= 50 else 25)


def tiled(images: np.ndarray, columns: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Images side by side in rows, NaN between them: the sheet, and rows and columns of it that each takes.

    Args:
      images: (N, h, w).
      columns: images in a row.
    """
    count, height, width = images.shape
    gap = 1 + max(height, width) // 16
    lines = -(-count // columns)
    sheet = np.full((lines * columns, height + gap, width + gap), np.nan)
    sheet[:count, :height, :width] = images
    whole = sheet.reshape(lines, columns, height + gap, width + gap).swapaxes(1, 2)
    return whole.reshape(lines * (height + gap), -1)[:-gap, :-gap], (height + gap, width + gap)


def history_picture(epochs: list[dict[str, Any]], best: int) -> Figure:
    """Accuracy and silence by reward epoch, in training and test.

    Args:
      epochs: a record for each, as in results.json.
      best: number of the best epoch.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    numbers = np.arange(1, len(epochs) + 1)
    few = "o-" if len(epochs) <= 30 else "-"
    for part, color in (("train", "tab:blue"), ("test", "tab:orange")):
        accuracy = 100 * np.array([epoch[part]["accuracy"] for epoch in epochs])
        axis.plot(numbers, accuracy, few, markersize=4, color=color, label=f"{part}, right")
        silent = 100 * np.array([epoch[part]["silent"] for epoch in epochs])
        if silent.any():
            axis.plot(numbers, silent, ":", color=color, label=f"{part}, silent")
    value = 100 * epochs[best]["test"]["accuracy"]
    axis.plot(best + 1, value, "k*", markersize=11, label=f"best network, {value:.1f} %")
    return _by_epoch(figure, "images, %")


def confusion_picture(matrix: np.ndarray, counts: Sequence[int]) -> Figure:
    """The confusion matrix: of the images of each class, how many were taken for which.

    Args:
      matrix: (classes, classes) integers, rows are labels.
      counts: of each class's images, silent ones included: they are the last column.
    """
    images = np.asarray(counts)
    whole = np.concatenate([matrix, (images - matrix.sum(axis=1))[:, None]], axis=1)
    classes = len(matrix)
    size = max(5.0, 0.42 * classes + 1)
    figure = Figure(figsize=(size + 0.5, size), layout="constrained")
    axis = figure.subplots()
    shares = whole / np.maximum(images[:, None], 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(whole > 0) if classes <= 30 else ():
        dark = shares[row, column] > 0.5
        number = whole[row, column]
        axis.text(column, row, number, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    axis.set_xticks(range(classes + 1), [*map(str, range(classes)), "silent"], fontsize=8)
    axis.set_yticks(range(classes), [*map(str, range(classes))], fontsize=8)
    axis.set_xlabel("decision")
    axis.set_ylabel("label")
    return figure


def weights_picture(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> Figure:
    """How many weights of each layer have which value, before and after training."""
    figure = Figure(figsize=(3.4 * len(after), 3), layout="constrained")
    for axis, name in zip(figure.subplots(1, len(after), squeeze=False)[0], after, strict=True):
        low = min(0.0, float(after[name].min()), float(before[name].min()))
        high = max(1.0, float(after[name].max()), float(before[name].max()))
        for weights, label, color in ((before, "before", "0.7"), (after, "after", "tab:blue")):
            axis.hist(weights[name].ravel(), bins=50, range=(low, high), color=color, alpha=0.8, label=label)
        axis.set_yscale("log")
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("weight")
    figure.axes[0].set_ylabel("synapses")
    figure.axes[0].legend(fontsize=8)
    return figure


def activity_picture(image: np.ndarray, layers: dict[str, np.ndarray], scores: np.ndarray, title: str) -> Figure:
    """The network's response to one image: when each neuron fires, and how many of each map fire at each step.

    Args:
      image: (H, W) or (H, W, 3) of 0..255.
      layers: by name latencies (F, H', W') as floats, NaN where silent, in units of the T steps.
      scores: (classes,) what speaks for each class; the largest potential by default.
      title: above it.
    """
    figure = Figure(figsize=(13, 2.6 + 3.1 * len(layers)), layout="constrained")
    figure.suptitle(title, fontsize=11, parse_math=False)
    steps = int(max(np.nanmax(each, initial=0) for each in layers.values())) + 1
    grid = figure.add_gridspec(1 + len(layers), 2, width_ratios=(3, 1), height_ratios=(0.8, *[1] * len(layers)))
    axis = figure.add_subplot(grid[0, 0])
    axis.imshow(image / 255, cmap="gray")
    axis.set_title("image", fontsize=9)
    axis.axis("off")
    axis = figure.add_subplot(grid[0, 1])
    winner = int(np.argmax(scores))
    axis.plot(scores, "o", color="0.6")
    axis.plot(winner, scores[winner], "o", color="tab:orange")
    axis.grid(alpha=0.3)
    axis.set_xticks(range(len(scores)) if len(scores) <= 20 else range(0, len(scores), 5))
    axis.tick_params(labelsize=7)
    axis.set_title("score of each class", fontsize=9)
    for row, (name, latency) in enumerate(layers.items(), 1):
        axis = figure.add_subplot(grid[row, 0])
        across = len(latency) if len(latency) <= 8 else round(np.sqrt(3.2 * len(latency)))
        shown = axis.imshow(
            tiled(latency, across)[0], cmap="viridis_r", vmin=0, vmax=steps - 1, interpolation="nearest"
        )
        figure.colorbar(shown, ax=axis, label="time step", fraction=0.03, pad=0.01)
        axis.set_facecolor("0.93")
        share = np.mean(~np.isnan(latency))
        axis.set_title(f"{name}: {len(latency)} maps, {share:.0%} of the neurons fire", fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
        axis = figure.add_subplot(grid[row, 1])
        counts = (latency.reshape(len(latency), 1, -1) == np.arange(steps)[:, None]).sum(axis=2)
        axis.imshow(counts, aspect="auto", cmap="Greys", interpolation="nearest", norm="asinh")
        axis.set_title("spikes of each map at each step", fontsize=9)
        axis.set_xlabel("time step", fontsize=8)
        axis.set_ylabel("feature map", fontsize=8)
        axis.tick_params(labelsize=7)
    return figure


def comparison_picture(histories: dict[str, list[dict[str, Any]]]) -> Figure:
    """Test accuracies of several runs by reward epoch; each history as in results.json, by the run's name."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axis = figure.subplots()
    for name, epochs in histories.items():
        accuracy = [100 * epoch["test"]["accuracy"] for epoch in epochs]
        label = f" {name}" if name.startswith("_") else name  # a legend leaves such names out
        axis.plot(range(1, len(epochs) + 1), accuracy, "o-" if len(epochs) <= 30 else "-", markersize=4, label=label)
    return _by_epoch(figure, "test accuracy, %")


def _by_epoch(figure: Figure, label: str) -> Figure:
    """A figure whose one plot is by reward epoch, finished."""
    (axis,) = figure.axes
    axis.set_xlabel("reward epoch")
    axis.set_ylabel(label)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    handles, names = axis.get_lines(), [str(line.get_label()) for line in axis.get_lines()]
    for text in axis.legend(handles, names, fontsize=8).get_texts():
        text.set_parse_math(False)
    return figure


def replication_picture(path: Path, rows: list[dict[str, Any]]) -> None:
    """Draws the accuracy curves of each network: all our runs, their mean, and the recorded run.

    Args:
      path: of the PNG file to write.
      rows: by network: its name, and under "train" and "test" the accuracies "reference" (epochs,), "seeds"
        (seeds, epochs) and "mean" (epochs,).
    """
    figure, axes, left = panels(len(rows), extra=0.6)
    for axis, row in zip(axes, rows, strict=True):
        for part, color in (("train", "tab:blue"), ("test", "tab:orange")):
            curves = np.array(row[part]["seeds"])
            epochs = np.arange(1, curves.shape[1] + 1)
            axis.plot(epochs, curves.T, color=color, linewidth=0.6, alpha=0.5)
            axis.plot(epochs, row[part]["mean"], color=color, linewidth=2, label=f"snnjax, {part}")
            theirs = row[part]["reference"]
            axis.plot(range(1, len(theirs) + 1), theirs, "o--", color="black", markerfacecolor=color, markersize=6)
        axis.plot([], [], "o--", color="black", label="PyTorch, one run")
        axis.set_title(row["network"], fontsize=10)
        axis.set_xlabel("reward epoch")
        axis.set_xticks(epochs[:: -(-len(epochs) // 10)])
        axis.grid(alpha=0.3)
    for axis in left:
        axis.set_ylabel("accuracy")
    axes[0].legend(fontsize=8, loc="lower right")
    write(path, figure)


def sweep_picture(path: Path, networks: list[dict[str, Any]]) -> None:
    """Draws the last test accuracies of networks that differ, over each value that they differ in.

    Args:
      path: of the PNG file to write.
      networks: of each, "variant" (what is special about it, by name) and "epochs" (with "test" and "accuracy").
    """
    names = list(networks[0]["variant"])
    varied = [name for name in names if len({network["variant"][name] for network in networks}) > 1] or names[-1:]
    figure, axes, left = panels(len(varied))
    accuracy = np.array([network["epochs"][-1]["test"]["accuracy"] for network in networks])
    for axis, name in zip(axes, varied, strict=True):
        values = np.array([network["variant"][name] for network in networks])
        known = np.unique(values)
        places = np.searchsorted(known, values)
        axis.plot(places, 100 * accuracy, "o", alpha=0.5, markersize=5, label="one network")
        if name != "seed":
            axis.plot([100 * accuracy[places == at].mean() for at in range(len(known))], "-", label="mean")
        axis.set_xticks(range(len(known)), [f"{value:g}" for value in known])
        axis.set_xlabel(name)
        axis.grid(alpha=0.3)
    for axis in left:
        axis.set_ylabel("test accuracy, %")
    axes[0].legend(fontsize=8)
    write(path, figure)
