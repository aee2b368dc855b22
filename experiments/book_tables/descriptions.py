"""Tables and drawings of networks, made from their descriptions."""

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
from snnjax.core.codec import call_of
from snnjax.core.components import TYPES, is_component
from snnjax.core.errors import unknown
from snnjax.data.dataset import DEFAULT_ENCODERS
from snnjax.encoding import ENCODERS, Encoder
from snnjax.networks.graph import name_of

RULES = {
    "STDP": "stdp.md",
    "TargetTime": "target_times.md",
    "SoftHebb": "softhebb.md",
    "LocalError": "local_errors.md",
    "RSTDP": "reward.md",
    "SupervisedSTDP": "supervised.md",
    "Prototypes": "few_labels.md",
}
"""The page with the equations of each rule."""
COMPETITIONS = {
    "TargetTime": "the first neuron to fire for a patch",
    "SoftHebb": "soft, at each position",
    "LocalError": "none",
    "RSTDP": "one neuron of the decided class",
    "Prototypes": "within each class",
}
"""The competition of rules that do not use `Conv.competition`."""
LONGEST_CALL = 60  # characters; longer calls are shown without arguments


def make_network(name: str) -> Network:
    """A published network, for the images that are the default of its function."""
    if name not in NETWORKS:
        raise unknown("network", name, NETWORKS)
    return NETWORKS[name]()


def layers_by_rule(network: Network) -> str:
    """The number of layers that learn by each rule, and the class of the decision if it is fitted."""
    count = Counter(type(each).__name__ for _, _, conv in network.layers() for each in conv.each_learner)
    words = [f"{number} {rule}" for rule, number in count.items()]
    words += [type(network.decision).__name__] * hasattr(network.decision, "fit")
    return ", ".join(words)


def drawing(page: Path, names: str) -> str:
    """The drawing of the stages of one network, or the drawings of several networks with their names."""
    if " " in names:
        return "\n\n".join(f"{name}:\n{drawing(page, name)}" for name in names.split())
    (name,) = names.split()
    network = make_network(name)
    stages = [f"{row[0]} of {row[4]}" for row in diagram.rows(network)]
    text = f"Boxes from left to right, joined by arrows: the encoder gives {format_shape(network.input_shape)}"
    return f"![{text}, then {', '.join(stages)}]({relative(page, PICTURES / f'{name}.svg')})"


def layers(page: Path, names: str) -> str:
    """The table of the layers of one network, or of several networks."""
    head = ["stage", "inputs", "features", "kernel", "threshold", "competition", "rule", "neurons", "pooling"]
    if not names.count(" "):
        return markdown(head, rows_of_layers(names)).strip()
    lines = []
    for name in names.split():
        cells = rows_of_layers(name)
        lines += [[shown, *row] for shown, row in zip([name, *[""] * len(cells)], cells, strict=False)]
    return markdown(["network", *head], lines).strip()


def rows_of_layers(name: str) -> list[list[str]]:
    """The cells of each layer of a network."""
    network = make_network(name)
    lines = []
    for number, (stage, reads, _, shape, _, _) in enumerate(diagram.rows(network)):
        inputs = f"{reads}, {shape}"
        branches = network.stages[number].branches
        rows = [layer_cells(network, number, conv) for conv in branches] or [[""] * 6]
        names = network.names[number] if len(branches) > 1 else [stage]
        pooling = pooling_of(network.stages[number].pool)
        lines += [[name, inputs, *cells, pooling] for name, cells in zip(names, rows, strict=True)]
    return lines


def layer_cells(network: Network, number: int, conv: Conv) -> list[str]:
    """The cells of a layer from the column "features" to the column "neurons"."""
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
    """The threshold of a layer, or its ramp and the number of its dendrites if there are several per neuron."""
    if conv.ramp is None:
        return "none" if conv.threshold is None else f"{conv.threshold:.6g}"
    if conv.own_thresholds:
        return "learned"
    ramp = f"a ramp, power {conv.ramp.power:g}"
    dendrites = checks.pair("dendrites", conv.ramp.dendrites, 1)
    return ramp if dendrites == (1, 1) else f"{ramp}, dendrites {format_shape(dendrites)}"


def competition_of(network: Network, number: int, conv: Conv) -> str:
    """The competition of a layer, which selects the neurons that learn, in words."""
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
    """The window of a pool, and its stride and padding if they differ from the defaults."""
    if pool is None:
        return ""
    words = [format_shape(checks.pair("window", pool.window, 1))]
    if pool.stride is not None:
        words.append(f"stride {pool.stride}")
    if pool.padding:
        words.append(f"padding {pool.padding}")
    return ", ".join(words)


def training(page: Path, names: str) -> str:
    """The table of a network's settings; the settings in which several networks differ are in a second table."""
    settings = [settings_of(name) for name in names.split()]
    rules = [rules_of(name) for name in names.split()]
    shared = {key: value for key, value in settings[0].items() if all(value == each[key] for each in settings)}
    lines = [*shared.items(), *(rules[0] if len(rules) == 1 else ())]
    table = markdown(("setting", "value"), lines)
    if len(settings) == 1:
        return table.strip()
    differing = [key for key in settings[0] if key not in shared]
    rows = []
    for name, each, calls in zip(names.split(), settings, rules, strict=True):
        words = ", ".join(f"{layer} {call}" for layer, call in calls)
        rows.append([name, *(each[key] for key in differing), words])
    return f"{table.strip()}\n\n{markdown(('network', *differing, 'rules'), rows)}".strip()


def settings_of(name: str) -> dict[str, str]:
    """The settings of a network in words, except those of its rules."""
    network = make_network(name)
    images = inspect.signature(NETWORKS[name]).parameters["images"].default
    kind = {(): "grey", (3,): "colour", (2,): "events"}[images.shape[2:]]
    patience = "never stops early" if network.patience == 0 else str(network.patience)
    return {
        "images": f"{format_shape(images.shape[:2])}, {kind}, {images.classes} classes",
        "encoder": encoder_of(network, images.shape[2:]),
        "time steps": str(network.time_steps),
        "epochs": ", ".join(f"{count} for {name_of(at + 1)}" for at, count in enumerate(network.epochs) if count),
        "order of the images": "shuffled in each epoch" if network.shuffle else "that of the data set",
        "patience": "5; 0 (never) with fewer than 5,000 training images" if network.patience is None else patience,
        "decision": f"`{call_of(network.decision, LONGEST_CALL)}`",
        "initial weights": "; ".join(f"{name} {initial_weights_of(conv)}" for _, name, conv in network.layers()),
        "weights": f"{sum(map(math.prod, network.weight_shapes.values())):,}",
    }


def initial_weights_of(conv: Conv) -> str:
    """The distribution of the initial weights: a range, or a mean and a standard deviation."""
    if conv.weight_range:
        low, high = conv.weight_range
        return f"{low:g} to {high:g}, uniform"
    return f"{conv.weight_mean:g} ± {conv.weight_std:g}, normal"


def rules_of(name: str) -> list[tuple[str, str]]:
    """Pairs of a layer and a rule, as a call with the settings that differ from the defaults."""
    layers = make_network(name).layers()
    return [(layer, f"`{call_of(rule, LONGEST_CALL)}`") for _, layer, conv in layers for rule in conv.each_learner]


def settings(page: Path, name: str) -> str:
    """The table of the settings of a component, such as a rule or an encoder: types, defaults and descriptions."""
    kind = TYPES[name]
    explained = explanations(kind)
    lines = []
    for field in dataclasses.fields(kind):
        required = field.default is dataclasses.MISSING
        shown = "required" if required else f"`{format_default(field.default)}`"
        types = " or ".join(f"`{each}`" for each in inspect.formatannotation(field.type).split(" | "))
        lines.append([f"`{field.name}`", types, shown, explained[field.name]])
    return markdown(("setting", "type", "default", "description"), lines).strip()


def explanations(kind: type) -> dict[str, str]:
    """The description of each field, from the docstrings of a class and of its base classes."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        for names, text in re.findall(r"^  (\w[\w, ]*): (.*(?:\n    .*)*)", attributes_of(each), re.MULTILINE):
            found |= dict.fromkeys(names.split(", "), " ".join(text.split()).replace("|", "\\|"))
    return found


def attributes_of(kind: type) -> str:
    """The section "Attributes:" of the docstring of a class, without the examples behind it; "" if there is none."""
    return inspect.cleandoc(kind.__doc__ or "").partition("Attributes:")[2].partition("\nExamples:\n")[0]


def encoder_of(network: Network, axes: tuple[int, ...]) -> str:
    """The option that selects a network's encoder, and its pooling if it differs; otherwise the encoder as a call."""
    encoder: Any = network.encoder or DEFAULT_ENCODERS[axes]
    for name, known in ENCODERS.items():
        if encoder == known:
            return f"[`{name}`](encoders.md)"
        filters = isinstance(encoder, Encoder) and isinstance(known, Encoder)
        if filters and encoder == dataclasses.replace(known, pool=encoder.pool):
            return f"[`{name}`](encoders.md), pooled {pooling_of(encoder.pool)}"
    return f"`{call_of(encoder, LONGEST_CALL)}`"


def format_default(value: Any) -> str:
    """A value as in Python code: a function by its name, a component as a call, without its arguments if it is long."""
    if inspect.isroutine(value):
        return str(value.__name__).replace("<lambda>", "...")
    if not is_component(value):
        return repr(value)
    call = call_of(value, LONGEST_CALL)
    return call if len(call) <= LONGEST_CALL else f"{type(value).__name__}(...)"


def format_shape(shape: Iterable[int]) -> str:
    """As "128x6x6"."""
    return "x".join(map(str, shape))


def draw_svg(network: Network) -> str:
    """The stages of a network as SVG, with a digest of the drawn content."""
    buffer = io.StringIO()
    metadata = {"Date": None, "Creator": None, "Description": digest_of(network)}
    with matplotlib.rc_context({"svg.hashsalt": "snnjax", "svg.fonttype": "path"}):
        FigureCanvasSVG(diagram.picture(network)).print_svg(buffer, metadata=metadata)
    return re.sub(r"[ \t]+$", "", buffer.getvalue(), flags=re.MULTILINE)


def digest_of(network: Network) -> str:
    """The digest of a drawing's content; its bytes also depend on the version of matplotlib."""
    shown = json.dumps([network.input_shape, diagram.rows(network)])
    return hashlib.sha256(shown.encode()).hexdigest()
