"""Figures of a single network: its learning curves, the preferred stimuli of its features, its response to images."""

import functools
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from snnjax.core.errors import printable
from snnjax.core.files import atomic_write
from snnjax.core.metrics import tested_part
from snnjax.data.names import SILENT, shortened
from snnjax.networks import Network, Observed
from snnjax.networks.features import Drawn

PARTS = (("train", "tab:blue"), ("test", "tab:orange"))
VALIDATION = ("validation", "tab:green")
OVERSAMPLING = 1.6  # pixels of a picture per pixel of the page that shows it, which has 100 pixels per inch
WIDTH = 10.0  # width of the widest pictures, which fill a page, in inches
MISCLASSIFIED = 24  # maximum number of images in the picture of misclassified images
MAX_LETTERS = 18  # maximum length of the name of a class in a figure
LETTER = 0.075  # width of a letter in inches

WINDOW = 500  # number of images over which the recent accuracy of a stream is computed

_WHOLE = functools.partial(MaxNLocator, integer=True, min_n_ticks=1)  # ticks at whole numbers


def write(path: Path, figure: Figure) -> None:
    """Writes a figure as a PNG file, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(png(figure))


def png(figure: Figure) -> bytes:
    """The contents of a PNG file with a figure. `Figure.savefig` would draw the figure twice."""
    buffer = io.BytesIO()
    figure.set_dpi(100 * OVERSAMPLING)
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def layout() -> ConstrainedLayoutEngine:
    """A layout engine that leaves a margin around a figure, so that no title touches its edge."""
    return ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)


def grid(
    count: int, columns: int, width: float, height: float, extra: float = 0, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` plots in up to `columns` columns, and its axes.

    Each plot is `width` by `height` inches; the figure is `extra` inches higher.
    """
    columns = min(columns, count)
    lines = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * lines + extra), layout=layout())
    axes = list(figure.subplots(lines, columns, squeeze=False, sharey=sharey).flat)
    for axis in axes[count:]:
        axis.axis("off")
    return figure, axes[:count]


def features_picture(drawn: Drawn, title: str, rows: Sequence[str] = ()) -> Figure:
    """A figure of all features, side by side.

    If its `rows` have names, the contrast depends on the strength of a feature: those that learned little are faint.
    """
    images = drawn.images
    strengths = drawn.strengths if rows else np.ones(len(drawn.images))
    columns = len(images) // len(rows) if rows else min(len(images), 10 if len(images) <= 50 else 25)
    largest = np.abs(images).reshape(len(images), -1).max(axis=1).clip(1e-12)
    scale = largest * strengths.max(initial=1e-12) / strengths.clip(1e-12)
    sheet, (height, width) = tiled((images.T / scale).T, columns)
    if sheet.ndim == 3:  # in colour, from -1..1 to 0..1, white between the images
        sheet = np.nan_to_num((sheet + 1) / 2, nan=1.0)
    lines = -(-len(images) // columns)
    size = min(0.9, (WIDTH - 0.8) / columns)
    names = [shortened(name, MAX_LETTERS) for name in rows] or [str(row * columns) for row in range(lines)]
    margin = 0.3 + LETTER * max(map(len, names))
    figure, (axis,) = grid(1, 1, columns * size + margin, lines * size * height / width + 0.7)
    axis.imshow(sheet, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
    _label(axis.yaxis, np.arange(lines) * height + (height - 1) / 2, names)
    axis.set_xticks(np.arange(columns) * width + (width - 1) / 2, [f"+{i}" for i in range(columns)], fontsize=7)
    axis.set_xlabel("feature", fontsize=8)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_title(title, fontsize=10, loc="left")
    return figure


def tiled(images: np.ndarray, columns: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Arranges images (N, h, w[, 3]) in rows of `columns`, separated by NaN.

    Returns the sheet, and the numbers of rows and columns of it that an image takes up, with its margin.
    """
    count, height, width, *colours = images.shape
    gap = 1 + max(height, width) // 16
    lines = -(-count // columns)
    margins = [(0, lines * columns - count), (0, gap), (0, gap), *[(0, 0)] * len(colours)]
    high = height + gap
    wide = width + gap
    rows = np.pad(images, margins, constant_values=np.nan).reshape(lines, columns, high, wide, *colours).swapaxes(1, 2)
    return rows.reshape(lines * high, columns * wide, *colours)[:-gap, :-gap], (high, wide)


def misclassified_picture(images: np.ndarray, records: Sequence[Mapping[str, Any]]) -> Figure:
    """A figure of the first `misclassified` test images of a results.json, with their names, labels and decisions."""
    shown = records[:MISCLASSIFIED]
    figure, axes = grid(len(shown), 6, WIDTH / 6, 2.2)
    for axis, record in zip(axes, shown, strict=True):
        axis.axis("off")
        draw_image(axis, images[record["image"]])
        name = record["file"] or f"test image {record['image']}"
        words = (shortened(printable(text), 24) for text in (name, record["label"], f"as {record['decision']}"))
        axis.set_title("\n".join(words), fontsize=7, parse_math=False)
    return figure


def draw_image(axis: Axes, image: np.ndarray) -> None:
    """Draws a grey image, a colour image or an event picture, with values in 0..255."""
    pixels = polarities(image) if image.shape[2:] == (2,) else image
    axis.imshow(pixels / 255, cmap="gray", vmin=0, vmax=1)


def history_picture(epochs: list[dict[str, Any]], best: int) -> Figure:
    """The shares of right and silent images by epoch, in training and in validation or test.

    `epochs` are those of a results.json; `best` is the index of the best epoch, which is marked.
    """
    figure, (axis,) = grid(1, 1, 6.6, 4)
    marker = "o" if len(epochs) <= 30 else ""
    plot = functools.partial(axis.plot, range(1, len(epochs) + 1), marker=marker, markersize=4)
    for part, color in (*PARTS, VALIDATION):
        if part not in epochs[best]:
            continue
        right = np.array([epoch[part]["accuracy"] for epoch in epochs])
        silent = np.array([epoch[part]["silent"] for epoch in epochs])
        plot(100 * right, color=color, label=f"{part}, right")
        if silent.any():
            plot(100 * silent, color=color, label=f"{part}, silent", linestyle=":", mfc="white")
    highest = 100 * epochs[best][tested_part(epochs[best])]["accuracy"]
    axis.plot(best + 1, highest, "k*", markersize=11, label=f"best network, {highest:.1f} %")
    axis.set(xlabel="supervised epoch", ylabel="images, %")
    whole_numbers(axis, 1, len(epochs))
    axis.grid(alpha=0.3)
    handles = axis.get_lines()
    legend(axis, handles, [str(line.get_label()) for line in handles])
    return figure


def stream_picture(right: np.ndarray) -> Figure:
    """The accuracies of all decisions so far and of recent decisions, given which decisions were right, (N,) bool."""
    figure, (axis,) = grid(1, 1, 6.6, 4)
    counts = np.arange(1, len(right) + 1)
    total = np.cumsum(right)
    before = np.concatenate([np.zeros(min(WINDOW, len(right)), int), total[:-WINDOW]])
    axis.plot(counts, 100 * (total - before) / counts.clip(max=WINDOW), color="tab:blue", label=f"of the last {WINDOW}")
    axis.plot(counts, 100 * total / counts, color="0.5", label="of all so far")
    axis.set(xlabel="images with labels", ylabel="decided right before they were learned, %")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=9)
    return figure


def whole_numbers(axis: Axes, first: float, last: float) -> None:
    """Labels the horizontal axis with whole numbers, even if there is only one."""
    gap = max(0.5, 0.03 * (last - first))
    axis.set_xlim(first - gap, last + gap)
    axis.xaxis.set_major_locator(_WHOLE())


def legend(place: Figure | Axes, handles: Sequence[Line2D], names: Iterable[str], **settings: Any) -> None:
    """Adds a legend with names that may contain any characters."""
    shown = [f" {name}" if name.startswith("_") else name for name in names]  # Matplotlib leaves such names out
    for text in place.legend(handles, shown, fontsize=9, **settings).get_texts():
        text.set_parse_math(False)


CURVES = dict(
    convergence="mean w(1-w)",
    threshold_drift="drift of thresholds in half an epoch",
    time_error="|spike time - desired one|, in T",
    silent_neurons="silent, of the neurons that learn",
    silent="share without a spike",
    silent_images="share of images without a winner",
    at_bounds="share of weights at their bounds",
    weights_mean="mean weight",
    spike_time="mean spike time, in T",
    never_won="features that never won",
    norm_distance="mean distance of norms from 1",
    moved="sum of relative changes, in an epoch",
)
"""Titles of some figures of learners; the title of any other figure is its name."""


def curves_picture(curves: Mapping[str, Sequence[float]], title: str) -> Figure:
    """The figures of a layer over the epochs of a phase, each in a separate panel."""
    figure, axes = grid(len(curves), 4, WIDTH / 4, 1.7, 0.5)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left", parse_math=False)
    for axis, (name, values) in zip(axes, curves.items(), strict=True):
        axis.plot(range(1, len(values) + 1), values, marker="o" if len(values) <= 30 else "", markersize=3)
        plain = name.replace("rate_plus", "rate a+").replace("rate_minus", "rate a-").replace("_", " ")
        axis.set_title(CURVES.get(name, plain), fontsize=9, parse_math=False)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
        whole_numbers(axis, 1, len(values))
        axis.locator_params(nbins=4)  # tick labels take most of the drawing time
    axes[0].set_xlabel("epoch", fontsize=8)
    return figure


def wins_picture(wins: Sequence[int], classes: Sequence[str], title: str) -> Figure:
    """The wins of each feature, as sorted bars; or for a deciding layer, given its classes, as a table of neurons."""
    if not classes:
        figure, (axis,) = grid(1, 1, WIDTH / 2, 2.6)
        axis.bar(range(len(wins)), np.sort(wins)[::-1], width=1)
        axis.set(xlabel="features, sorted", ylabel="wins")
    else:
        table = np.reshape(wins, (len(classes), -1))
        names = [shortened(name, MAX_LETTERS) for name in classes]
        width = 1.2 + LETTER * max(map(len, names)) + max(2.5, 0.36 * table.shape[1])
        figure, (axis,) = grid(1, 1, min(width, WIDTH), 0.9 + 0.28 * len(classes))
        drawn = axis.imshow(table, cmap="Blues", vmin=0, aspect="auto")
        _label(axis.yaxis, range(len(classes)), names)
        axis.xaxis.set_major_locator(_WHOLE())
        axis.set(xlabel="neuron of the class", ylabel="class")
        if table.size <= 100:
            _write_numbers(axis, table, table > 0.5 * table.max(), np.ndindex(table.shape))
        else:
            figure.colorbar(drawn, ax=axis, shrink=0.8).ax.tick_params(labelsize=7)
    axis.set_title(title, fontsize=10, loc="left", parse_math=False)
    return figure


def confusion_picture(test: dict[str, Any], names: Sequence[str]) -> Figure:
    """The confusion matrix of `metrics.report` with a column for silent images, given the names of the classes."""
    matrix = np.array(test["confusion_matrix"])
    images = np.array(test["classes"]["images"])
    classes = len(matrix)
    whole = np.concatenate([matrix, (images - matrix.sum(axis=1))[:, None]], axis=1)
    shown = [*(shortened(name, MAX_LETTERS) for name in names), SILENT]
    longest = max(map(len, shown[:-1]))
    turned = longest > 3
    cell = max(0.42, min(0.8, 4.5 / classes))
    # The cells are square; in a figure of any other size, there would be an empty margin.
    width = 0.75 + LETTER * longest + cell * (classes + 1)
    height = 0.75 + LETTER * max(longest, len(SILENT)) * turned + cell * classes
    figure, (axis,) = grid(1, 1, width, height)
    shares = whole / np.maximum(images[:, None], 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if classes <= 30:
        _write_numbers(axis, whole, shares > 0.5, np.argwhere(whole > 0))
    _label(axis.xaxis, range(classes + 1), shown, rotation=90 if turned else 0)
    _label(axis.yaxis, range(classes), shown[:-1])
    axis.set(xlabel="decision", ylabel="label")
    return figure


def _write_numbers(axis: Axes, numbers: np.ndarray, dark: np.ndarray, places: Iterable[Any]) -> None:
    """Writes the numbers of a table into its cells at these places, (row, column); in white if a cell is dark."""
    for row, column in places:
        color = "white" if dark[row, column] else "black"
        axis.text(column, row, str(numbers[row, column]), ha="center", va="center", fontsize=8, color=color)


def _label(axis: Axis, places: Iterable[float], names: Sequence[str], **how: Any) -> None:
    """Writes names along an axis unchanged, even if they contain dollar signs."""
    axis.set_ticks([*places], [*names], **(dict(fontsize=8) | how))
    for label in axis.get_ticklabels():
        label.set_parse_math(False)


def weights_picture(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> Figure:
    """Histograms of the weights of each layer before and after training."""
    figure, axes = grid(len(after), 3, WIDTH / 3, 3)
    for axis, name in zip(axes, after, strict=True):
        bins = np.histogram_bin_edges(np.concatenate([[0, 1], before[name].ravel(), after[name].ravel()]), 50).tolist()
        for weights, label, color in ((before, "before", "0.7"), (after, "after", "tab:blue")):
            axis.hist(weights[name].ravel(), bins, color=color, alpha=0.8, label=label)
        axis.set(yscale="log", xlabel="weight")
        axis.set_title(name, fontsize=10)
    axes[0].set_ylabel("synapses")
    axes[0].legend(fontsize=8)
    return figure


def polarities(image: np.ndarray) -> np.ndarray:
    """Converts an event picture, (H, W, 2), to colours, (H, W, 3): on events are red, off events blue, both violet."""
    return np.stack([image[..., 1], np.zeros_like(image[..., 0]), image[..., 0]], axis=-1)


def activity_picture(
    image: np.ndarray, response: Observed, network: Network, title: str, names: Sequence[str] = ()
) -> Figure:
    """The response to an image, (H, W), (H, W, 3) or (H, W, 2): the latencies, and the scores of the classes."""
    layers = {name: np.where(np.asarray(x) < network.time_steps, x, np.nan) for name, x in response.latencies.items()}
    steps = int(max(np.nanmax(x, initial=0) for x in layers.values())) + 1  # up to the last spike
    sheets = {name: tiled(x, len(x) if len(x) <= 8 else round(np.sqrt(3.2 * len(x))))[0] for name, x in layers.items()}
    heights = [2.0, *(0.6 + np.clip(6.4 * len(x) / x.shape[1], 1.3, 3) for x in sheets.values())]
    figure = Figure(figsize=(WIDTH, 0.8 + sum(heights)), layout=layout())
    figure.suptitle(title, fontsize=11, parse_math=False, x=0.01, ha="left")
    (picture, classes), *rows = figure.subplots(len(heights), 2, width_ratios=(2.7, 1), height_ratios=heights)
    events = image.shape[2:] == (2,)
    draw_image(picture, image)
    picture.set_title("first events: on red, off blue, early ones bright" if events else "image", fontsize=9)
    picture.axis("off")
    if network.decision is None:
        classes.axis("off")
    else:
        _draw_scores(classes, np.asarray(response.decided.scores), names)
    for (maps, counts), (name, latency) in zip(rows, layers.items(), strict=True):
        drawn = maps.imshow(sheets[name], cmap="viridis", vmin=0, vmax=steps - 1, interpolation="nearest")
        maps.set(facecolor="0.93", xticks=[], yticks=[])
        share = np.mean(~np.isnan(latency))
        maps.set_title(f"{name}: {len(latency)} maps, spikes of {share:.0%} of the neurons", fontsize=9)
        _draw_counts(counts, latency, steps)
    places = [maps for maps, _ in rows]
    colors = figure.colorbar(drawn, ax=places, location="bottom", ticks=_WHOLE(6), aspect=60, shrink=0.6, pad=0.01)
    windows = ", in the window of its layer" if network.ramped else ""
    colors.set_label(f"time step of the spike{windows}", fontsize=8)
    colors.ax.tick_params(labelsize=7)
    return figure


def _draw_scores(axis: Axes, scores: np.ndarray, names: Sequence[str]) -> None:
    """Draws the score of each class as a dot, with the largest score in orange."""
    winner = int(np.argmax(scores))
    axis.plot(scores, "o", color="0.6")
    axis.plot(winner, scores[winner], "o", color="tab:orange")
    axis.grid(alpha=0.3)
    places = range(0, len(scores), 1 if len(scores) <= 20 else 5)
    shown = [shortened(names[place] if names else str(place), 10) for place in places]
    _label(axis.xaxis, places, shown, fontsize=7, rotation=90 if max(map(len, shown)) > 3 else 0)
    axis.tick_params(axis="y", labelsize=7)
    axis.set_title("score of each class", fontsize=9)


def _draw_counts(axis: Axes, latency: np.ndarray, steps: int) -> None:
    """Draws the number of neurons in each map of a layer that spike at each time step."""
    spikes = (latency.reshape(len(latency), 1, -1) == np.arange(steps)[:, None]).sum(axis=2)
    axis.imshow(spikes, aspect="auto", cmap="Greys", interpolation="nearest", norm="asinh")
    axis.set_title("spikes of each map at each step", fontsize=9)
    axis.set_xlabel("time step", fontsize=8)
    axis.set_ylabel("feature map", fontsize=8)
    axis.xaxis.set_major_locator(_WHOLE(6))
    axis.yaxis.set_major_locator(_WHOLE(6))
    axis.tick_params(labelsize=7)
