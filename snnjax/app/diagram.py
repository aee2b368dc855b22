"""The graph of a network's stages, as the rows of a table and as a picture."""

import math

from matplotlib.figure import Figure

from snnjax.app.plots import WIDTH
from snnjax.core import checks
from snnjax.layers import Conv, Pool
from snnjax.networks import Concatenate, Input, Network
from snnjax.networks.graph import name_of

HEAD = ("stage", "reads", "layers", "input", "output", "parameters")
COLUMN = 2.1  # inches between stages that follow each other
ROW = 1.0  # inches between stages side by side
BEND = 0.35  # of arrows that pass over stages: their height by half their length


def rows(network: Network) -> list[list[str]]:
    """A row for each stage, as `HEAD` names its cells."""
    table = []
    for number, names in enumerate(network.names):
        inputs = [_input(each) for _, each in network.graph.reads(number)]
        joined = _join(network, number)
        layers = [_layer(name, conv) for name, conv in zip(names, network.stages[number].branches, strict=True)]
        sizes = _size(network.input_shapes[number]), _size(network.shapes[number + 1])
        parameters = sum(math.prod(network.weight_shapes[name]) for name in names)
        table.append(
            [
                name_of(number + 1),
                ": ".join(filter(None, (", ".join(inputs), joined))),
                "\n".join(layers),
                *sizes,
                f"{parameters:,}",
            ]
        )
    return table


def picture(network: Network) -> Figure:
    """The encoder and all stages as boxes, from left to right, with an arrow to each from what it reads."""
    graph = network.graph
    numbers = range(len(network.stages))
    depths = [0]
    for number in numbers:
        depths.append(1 + max(depths[source] for source in graph.sources(number)))
    places: list[tuple[float, float]] = []
    for output, depth in enumerate(depths):
        places.append((depth, -float(depths[:output].count(depth))))
    lowest = min(y for _, y in places)
    width = min(WIDTH, COLUMN * (max(depths) + 1))
    column = width / (max(depths) + 1)
    skips = [depths[number + 1] - depths[source] for number in numbers for source in graph.sources(number)]
    highest = BEND * column * max(skips) / 2 / ROW if max(skips) > 1 else 0.0
    figure = Figure(figsize=(width, ROW * (1.2 + highest - lowest)))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(-0.5, max(depths) + 0.5), ylim=(lowest - 0.5, highest + 0.7))
    axis.axis("off")
    labels = ["encoder", *(f"{name_of(number + 1)}\n{_kind(network, number)}" for number in numbers)]
    boxes = []
    for place, label, shape in zip(places, labels, network.shapes, strict=True):
        box = dict(boxstyle="round", facecolor="white", edgecolor="0.4")
        text = f"{label}\n{_size(shape)}"
        boxes.append(axis.text(*place, text, ha="center", va="center", fontsize=8, bbox=box, parse_math=False))
    for number in numbers:
        for source, each in graph.reads(number):
            skipped = depths[number + 1] - depths[source] > 1
            ends = dict(patchA=boxes[source].get_bbox_patch(), patchB=boxes[number + 1].get_bbox_patch())
            bent = f"arc3,rad={-BEND if skipped else 0}"
            style = dict(arrowstyle="-|>", color="0.4", shrinkA=2, shrinkB=2, connectionstyle=bent) | ends
            axis.annotate("", places[number + 1], places[source], arrowprops=style)
            height = BEND * column * (depths[number + 1] - depths[source]) / 2 / ROW if skipped else 0.0
            x, y = ((one + other) / 2 for one, other in zip(places[source], places[number + 1], strict=True))
            axis.text(x, y + height + 0.06, "\n".join(_changes(each)), ha="center", va="bottom", fontsize=6.5)
    return figure


def _kind(network: Network, number: int) -> str:
    """The layers of a stage in few words, and how its inputs are joined."""
    stage = network.stages[number]
    kinds = dict.fromkeys(_learning(conv) for conv in stage.branches)
    several = f"{len(stage.branches)} layers: " * (len(stage.branches) > 1)
    joined = [_join(network, number)] * (_join(network, number) != "")
    return "\n".join([*joined, several + ", ".join(kinds) or "no layers"])


def _join(network: Network, number: int) -> str:
    """The kind of a stage's join, "" where a single output is read as it is or only pooled and coded."""
    join = network.stages[number].join
    alone = len(network.graph.reads(number)) == 1 and isinstance(join, Concatenate)
    return "" if alone else type(join).__name__


def _layer(name: str, conv: Conv) -> str:
    rows, columns = checks.pair("kernel", conv.kernel, 1)
    return f"{name}: {conv.features} of {rows}x{columns}, {_learning(conv)}"


def _learning(conv: Conv) -> str:
    rules = [type(learner).__name__ for learner in conv.each_learner]
    return " and ".join(rules) or ("given weights" if conv.weights is not None else "does not learn")


def _input(each: Input) -> str:
    changes = ", ".join(_changes(each))
    return each.stage + (f" ({changes})" if changes else "")


def _changes(each: Input) -> list[str]:
    """What becomes of an output on its way to a reader."""
    return [_pool(each.pool)] * (each.pool is not None) + [type(each.code).__name__] * (each.code is not None)


def _pool(pool: Pool | None) -> str:
    if pool is None:
        return ""
    rows, columns = checks.pair("window", pool.window, 1)
    return f"{'mean of' if pool.mean else 'pooled'} {rows}x{columns}"


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
