"""Tables and drawings of networks, from their descriptions."""

import dataclasses
import hashlib
import inspect
import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG

from book_tables.places import PICTURES, relative
from snnjax import NETWORKS, RSTDP, STDP, Conv, Network, Pool
from snnjax.app import diagram
from snnjax.app.console import markdown
from snnjax.core import checks
from snnjax.core.errors import unknown
from snnjax.data.dataset import DEFAULT_ENCODERS
from snnjax.encoding import ENCODERS, Encoder
from snnjax.networks.graph import name_of

RULES = {
    "STDP": "stdp.md",
    "TargetTime": "target_times.md",
    "SoftHebb": "softhebb.md",
    "RSTDP": "reward.md",
    "SupervisedSTDP": "supervised.md",
    "Prototypes": "prototypes.md",
}
"""The pages with the equations of the rules."""
COMPETITIONS = {
    "TargetTime": "the first neuron of a patch",
    "SoftHebb": "soft, at each position",
    "RSTDP": "one neuron of the class decided for",
    "Prototypes": "within each class",
}
"""Of rules that have a competition of their own."""


def make_network(name: str) -> Network:
    """A network for the images that its function has as default."""
    if name not in NETWORKS:
        raise unknown("network", name, NETWORKS)
    return NETWORKS[name]()


def layers_by_rule(network: Network) -> str:
    """How many layers learn by each rule, and a fitted decision."""
    count = Counter(type(each).__name__ for _, _, conv in network.layers() for each in conv.each_learner)
    words = [f"{number} {rule}" for rule, number in count.items()]
    words += [type(network.decision).__name__] * hasattr(network.decision, "fit")
    return ", ".join(words)


def drawing(page: Path, name: str) -> str:
    """The picture of a network's stages."""
    network = make_network(name)
    stages = [f"{row[0]} {row[4]}" for row in diagram.rows(network)]
    text = f"The stages of {name}: encoder {format_shape(network.input_shape)}, {', '.join(stages)}"
    return f"![{text}]({relative(page, PICTURES / f'{name}.svg')})"


def layers(page: Path, name: str) -> str:
    """A row for each layer."""
    head = ("stage", "inputs", "features", "kernel", "threshold", "competition", "rule", "neurons", "pooling")
    network = make_network(name)
    lines = []
    for number, (stage, reads, _, shape, _, _) in enumerate(diagram.rows(network)):
        inputs = f"{reads}, {shape}"
        branches = network.stages[number].branches
        rows = [layer_cells(network, number, conv) for conv in branches] or [[""] * 6]
        names = network.names[number] if len(branches) > 1 else [stage]
        pooling = pooling_of(network.stages[number].pool)
        lines += [[name, inputs, *cells, pooling] for name, cells in zip(names, rows, strict=True)]
    return markdown(head, lines).strip()


def layer_cells(network: Network, number: int, conv: Conv) -> list[str]:
    """The cells of a layer from its features to its neurons."""
    maps = conv.output_size(network.input_shapes[number][1:])
    rules = [f"[{name}]({RULES[name]})" for name in (type(rule).__name__ for rule in conv.each_learner)]
    return [
        str(conv.features),
        format_shape(checks.pair("kernel", conv.kernel, 1)),
        threshold_of(conv),
        competition_of(network, number, conv),
        ", ".join(rules) or "fixed",
        format_shape((conv.features, *maps)),
    ]


def threshold_of(conv: Conv) -> str:
    """The threshold of a layer, or its ramp and what else differs from one neuron a position."""
    if conv.ramp is None:
        return "none" if conv.threshold is None else f"{conv.threshold:.6g}"
    if conv.own_thresholds:
        return "learned"
    ramp = f"a ramp, power {conv.ramp.power:g}"
    dendrites = checks.pair("dendrites", conv.ramp.dendrites, 1)
    return ramp if dendrites == (1, 1) else f"{ramp}, dendrites {format_shape(dendrites)}"


def competition_of(network: Network, number: int, conv: Conv) -> str:
    """Who may learn, in words."""
    rules = conv.each_learner
    if not rules:
        return ""
    kind = type(rules[0]).__name__
    if kind == "SupervisedSTDP":
        return "within each class" if rules[0].competition else "none"
    last = number == len(network.stages) - 1
    if isinstance(rules[0], STDP) or (isinstance(rules[0], RSTDP) and not last):
        wta: Any = conv.competition
        return f"{wta.winners} winners, radius {wta.radius}"
    return COMPETITIONS[kind]


def pooling_of(pool: Pool | None) -> str:
    """The window of a pool, and what else differs from its default."""
    if pool is None:
        return ""
    words = [format_shape(checks.pair("window", pool.window, 1))]
    if pool.stride is not None:
        words.append(f"stride {pool.stride}")
    if pool.padding:
        words.append(f"padding {pool.padding}")
    return ", ".join(words)


def training(page: Path, name: str) -> str:
    """Encoder, epochs, order of images, decision, and the settings of each rule."""
    network = make_network(name)
    images = inspect.signature(NETWORKS[name]).parameters["images"].default
    kind = {(): "grey", (3,): "colour", (2,): "events"}[images.shape[2:]]
    lines = [
        ["images", f"{format_shape(images.shape[:2])}, {kind}, {images.classes} classes"],
        ["encoder", encoder_of(network, images.shape[2:])],
        ["time steps", str(network.time_steps)],
        ["epochs", ", ".join(f"{count} of {name_of(at + 1)}" for at, count in enumerate(network.epochs) if count)],
        ["order of the images", "new in each epoch" if network.shuffle else "as they come"],
        [
            "patience",
            "5, the default of the command"
            if network.patience is None
            else str(network.patience or "never stops early"),
        ],
        ["decision", f"`{format_call(network.decision)}`"],
        ["weights", f"{sum(map(math.prod, network.weight_shapes.values())):,}"],
        *([layer, f"`{rule}`"] for _, layer, conv in network.layers() for rule in conv.each_learner),
    ]
    return markdown(("setting", "value"), lines).strip()


def encoder_of(network: Network, axes: tuple[int, ...]) -> str:
    """The option of a network's encoder, and what differs from it."""
    encoder: Any = network.encoder or DEFAULT_ENCODERS[axes]
    for name, known in ENCODERS.items():
        if encoder == known:
            return f"[`{name}`](encoders.md)"
        filters = isinstance(encoder, Encoder) and isinstance(known, Encoder)
        if filters and encoder == dataclasses.replace(known, pool=encoder.pool):
            return f"[`{name}`](encoders.md), pooled {pooling_of(encoder.pool)}"
    return f"`{format_call(encoder)}`"


def format_call(component: Any) -> str:
    """A component as a call with the arguments that are not defaults."""
    fields = ((field, getattr(component, field.name)) for field in dataclasses.fields(component) if field.init)
    arguments = [f"{field.name}={value!r}" for field, value in fields if value != field.default]
    return f"{type(component).__name__}({', '.join(arguments)})"


def format_shape(shape: Iterable[int]) -> str:
    """As "128x6x6"."""
    return "x".join(map(str, shape))


def draw_svg(network: Network) -> str:
    """The stages of a network as SVG, with a digest of what is drawn."""
    buffer = io.StringIO()
    metadata = {"Date": None, "Creator": None, "Description": digest_of(network)}
    with matplotlib.rc_context({"svg.hashsalt": "snnjax", "svg.fonttype": "path"}):
        FigureCanvasSVG(diagram.picture(network)).print_svg(buffer, metadata=metadata)
    return re.sub(r"[ \t]+$", "", buffer.getvalue(), flags=re.MULTILINE)


def digest_of(network: Network) -> str:
    """Of what a drawing shows: another version of matplotlib draws the same with other bytes."""
    shown = json.dumps([network.input_shape, diagram.rows(network)])
    return hashlib.sha256(shown.encode()).hexdigest()
