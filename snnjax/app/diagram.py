"""Shows the graph of a network's stages as a table and as a picture."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from snnjax.core import checks
from snnjax.layers import Conv
from snnjax.networks import Concatenate, Input, Network
from snnjax.networks.graph import name_of

if TYPE_CHECKING:  # the table precedes training, during which Matplotlib is imported
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

HEAD = ("stage", "reads", "layers", "input", "output", "parameters")
COLUMN = 2.1  # inches between successive stages
ROW = 1.0  # inches between parallel stages
BEND = 0.35  # height of an arrow that passes over other stages, as a multiple of half its length


def rows(network: Network) -> list[list[str]]:
    """A row for each stage, with the cells that `HEAD` names."""
    graph = network.graph
    shapes = network.weight_shapes
    inputs = network.input_shapes
    outputs = network.shapes[1:]
    table = []
    for number, stage in enumerate(network.stages):
        names = network.names[number]
        sources = ", ".join(_input(source) for _, source in graph.reads(number))
        join = _join(network, number)
        layers = [_layer(name, conv) for name, conv in zip(names, stage.branches, strict=True)]
        parameters = sum(math.prod(shapes[name]) for name in names)
        cells = [
            name_of(number + 1),
            f"{sources}: {join}" if join else sources,
            "\n".join(layers),
            _size(inputs[number]),
            _size(outputs[number]),
            f"{parameters:,}",
        ]
        table.append(cells)
    return table


def picture(network: Network) -> Figure:
    """A figure of the encoder and all stages as boxes, from left to right, with arrows from their inputs."""
    from matplotlib.figure import Figure

    from snnjax.app.plots import WIDTH

    places = _places(network)
    columns = 1 + int(max(column for column, _ in places))
    lowest = min(row for _, row in places)
    width = min(WIDTH, COLUMN * columns)
    arrows = [
        (source, number + 1, read)
        for number in range(len(network.stages))
        for source, read in network.graph.reads(number)
    ]
    bends = [_bend(places[source][0], places[target][0], width / columns) for source, target, _ in arrows]
    figure = Figure(figsize=(width, ROW * (1.2 + max(bends) - lowest)))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(-0.5, columns - 0.5), ylim=(lowest - 0.5, max(bends) + 0.7))
    axis.axis("off")
    boxes = [_box(axis, network, output, place) for output, place in enumerate(places)]
    for (source, target, read), bend in zip(arrows, bends, strict=True):
        _arrow(axis, boxes[source], boxes[target], bend, "\n".join(_changes(read)))
    return figure


def _places(network: Network) -> list[tuple[float, float]]:
    """Column and row of the encoder and of each stage; a stage is one column to the right of its last input."""
    columns = [0]
    for number in range(len(network.stages)):
        columns.append(1 + max(columns[source] for source in network.graph.sources(number)))
    return [(column, -float(columns[:output].count(column))) for output, column in enumerate(columns)]


def _bend(start: float, end: float, inches: float) -> float:
    """The height, in rows, of an arrow between two columns that are `inches` wide; 0 if the arrow is straight."""
    return BEND * inches * (end - start) / 2 / ROW if end - start > 1 else 0.0


def _box(axis: Axes, network: Network, output: int, place: tuple[float, float]) -> Text:
    """Draws the box of the encoder or of a stage."""
    lines = [name_of(output), *([_kind(network, output - 1)] if output else []), _size(network.shapes[output])]
    box = dict(boxstyle="round", facecolor="white", edgecolor="0.4")
    return axis.text(*place, "\n".join(lines), ha="center", va="center", fontsize=8, bbox=box, parse_math=False)


def _arrow(axis: Axes, source: Text, target: Text, bend: float, label: str) -> None:
    """Draws an arrow between two boxes, with a label in the middle."""
    start = source.get_position()
    end = target.get_position()
    style = dict(
        arrowstyle="-|>",
        color="0.4",
        shrinkA=2,
        shrinkB=2,
        patchA=source.get_bbox_patch(),
        patchB=target.get_bbox_patch(),
        connectionstyle=f"arc3,rad={-BEND if bend else 0}",
    )
    axis.annotate("", end, start, arrowprops=style)
    middle = (start[0] + end[0]) / 2
    height = (start[1] + end[1]) / 2 + bend
    ground = dict(facecolor="white", edgecolor="none", pad=0.6)  # hides the arrows behind it
    axis.text(middle, height + 0.06, label, ha="center", va="bottom", fontsize=6.5, bbox=ground if label else None)


def _kind(network: Network, number: int) -> str:
    """The join of a stage, if it has one, and the learning rules of its layers."""
    stage = network.stages[number]
    kinds = ", ".join(dict.fromkeys(_learning(conv) for conv in stage.branches)) or "no layers"
    if len(stage.branches) > 1:
        kinds = f"{len(stage.branches)} layers: {kinds}"
    join = _join(network, number)
    return f"{join}\n{kinds}" if join else kinds


def _join(network: Network, number: int) -> str:
    """The type of a stage's join; "" if it only passes on a single input."""
    join = network.stages[number].join
    single = len(network.graph.reads(number)) == 1
    return "" if single and isinstance(join, Concatenate) else type(join).__name__


def _layer(name: str, conv: Conv) -> str:
    kernel = _size(checks.pair("kernel", conv.kernel, 1))
    return f"{name}: {conv.features} of {kernel}, {_learning(conv)}"


def _learning(conv: Conv) -> str:
    rules = [type(learner).__name__ for learner in conv.each_learner]
    if rules:
        return " and ".join(rules)
    return "does not learn" if conv.weights is None else "given weights"


def _input(source: Input) -> str:
    changes = ", ".join(_changes(source))
    return f"{source.stage} ({changes})" if changes else source.stage


def _changes(source: Input) -> list[str]:
    """The changes to an output before a stage reads it: pooling, or none."""
    changes = []
    if source.pool is not None:
        window = _size(checks.pair("window", source.pool.window, 1))
        changes.append(f"mean of {window}" if source.pool.mean else f"pooled {window}")
    return changes


def _size(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))
