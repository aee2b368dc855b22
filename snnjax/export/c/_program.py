"""Generation of the source text of a C program."""

import itertools
import math
import re
from typing import Any, NamedTuple

import jinja2
import numpy as np

from snnjax.core import checks
from snnjax.core.errors import InputError
from snnjax.encoding import Pixels
from snnjax.export._event_programs import check_network, check_shape, falls_back, first_within, times_matter
from snnjax.export.c._encoders import code_encoder, sorts
from snnjax.export.c._integer_prototypes import IntegerPrototypes
from snnjax.export.c._layers import code_layers, row_of_weights, time_buffers
from snnjax.export.c._ramped_readout import digest, known_at_start, learning_readout, ramped_readout
from snnjax.export.c._ramps import code_join, code_ramps, ramp_buffers
from snnjax.export.c._text import Buffer, Table, identifier, lines, string
from snnjax.networks import Network, SpikingNetwork
from snnjax.networks.quantisation import MAX_BITS, integer_layers

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("snnjax.export.c"),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters |= dict(lines=lambda names: lines([string(name) for name in names]))

MAX_TIME_STEPS = 255


class Program(NamedTuple):
    """A network as a C99 program.

    Attributes:
      name: a C identifier, which is the name of the files and the prefix of all public names.
      source: the text of NAME.c, in ASCII.
      header: the text of NAME.h, in ASCII.
      table_bytes: the size of the constant tables in bytes.
      memory_bytes: the size of the static memory in bytes.
    """

    name: str
    source: str
    header: str
    table_bytes: int
    memory_bytes: int


def program(
    network: SpikingNetwork,
    bits: int,
    image_shape: tuple[int, ...],
    *,
    name: str | None = None,
    learning: IntegerPrototypes | None = None,
) -> Program:
    """Exports a trained network as a C99 program that classifies uint8 images of shape (H, W) or (H, W, 3).

    The weights have `bits` bits, 1 to 8. The decisions are the same as those of `networks.quantise(network, bits)`.
    `name` is the name of the files and the prefix of the functions, by default the network's name. If the program is
    compiled with -DNAME_MAIN, it reads images from standard input and writes one line per image, with the decision, its
    time step, and the numbers of spikes and of synaptic operations.

    `learning` is a readout that `integer_prototypes` has made from the same network. If it is given, it replaces the
    network's readout, learns image by image, and may have more classes than the network.

    Raises InputError as `networks.quantise` does, if images of `image_shape` do not become the network's input, and for
    networks that cannot become C programs. A network must be a chain of layers: first layers with ramps, then layers
    that fire while their inputs do, whose thresholds are at least 0. The first layer without a ramp may join the
    outputs of several stages by `Concatenate`. A layer that decides may have a ramp if each of its neurons reads the
    whole input. There may be at most 255 time steps, the decision must be `Earliest` or `Majority`, and the encoder
    must be `Pixels`, `OnOff`, or `Encoder` without pooling or inhibition.

    Examples:
      >>> from pathlib import Path
      >>> import snnjax
      >>> from snnjax.export.c import program
      >>> exported = program(snnjax.load("pretrained:goupy2024_ncg_mnist"), 4, (28, 28), name="digits")
      >>> exported.name, exported.table_bytes, exported.memory_bytes
      ('digits', 136848, 79771)
      >>> written = Path("digits.c").write_text(exported.source)  # doctest: +SKIP
      >>> written = Path("digits.h").write_text(exported.header)  # doctest: +SKIP
    """
    check_network(network, "in C", ramped_readout=True)
    checks.integer("time_steps", network.network.time_steps, 1, MAX_TIME_STEPS)
    checks.instance("image_shape", image_shape, tuple, "a tuple such as (28, 28)")
    check_shape(network.network, "image_shape", image_shape)
    if learning is not None:
        _check_learning(network.network, learning)
    values = _values(network, bits, image_shape, identifier(name or network.network.name), learning)
    source, header = (_rendered(f"program.{end}.in", values) for end in "ch")
    return Program(values["name"], source, header, values["table_bytes"], values["ram_bytes"])


def _check_learning(network: Network, learning: IntegerPrototypes) -> None:
    """Raises InputError unless `learning` fits the last layer of a network."""
    inputs = math.prod(network.input_shapes[-1])
    if not network.stages[-1].ramped or learning.weights.shape[1] != inputs:
        got = f"one with {learning.weights.shape[1]} inputs"
        raise InputError(f"`learning` must be made from {network.name}, whose readout has {inputs} inputs, got {got}")


def _rendered(template: str, values: dict[str, Any]) -> str:
    """Renders a template; successive blank lines become one."""
    return re.sub(r"\n{3,}", "\n\n", _TEMPLATES.get_template(template).render(values)).lstrip()


def _values(
    network: SpikingNetwork,
    bits: int,
    image_shape: tuple[int, ...],
    name: str,
    learning: IntegerPrototypes | None,
) -> dict[str, Any]:
    """The variables of the templates, by name."""
    description: Network = network.network
    integers: dict[str, Any] = integer_layers(network, bits)
    ramps = code_ramps(description, integers, bits)
    layers = code_layers(description, integers, bits)
    if learning is not None:
        layers.append(learning_readout(description, learning))
    elif description.stages[-1].ramped:
        layers.append(ramped_readout(description, integers[description.names[-1][0]], bits))
    encoder = code_encoder(description, image_shape)
    tables = [*encoder.tables]
    for tables_of_layer in [layer.tables for layer in ramps] + [layer.tables for layer in layers]:
        tables += tables_of_layer
    buffers = [*encoder.buffers, *(buffer for layer in layers for buffer in layer.buffers)]
    if ramps:
        buffers += ramp_buffers(description, ramps)
    packed_rows = [layer.constants["size"] for layer in ramps]
    if learning is None:
        packed_rows.append(layers[-1].constants["INPUTS" if layers[-1].ramped else "FEATURES"])
    if packed_rows and bits < MAX_BITS:
        buffers.append(row_of_weights(max(packed_rows), bits))
    timed = times_matter(description)
    fractional = timed and description.stages[-1].branches[0].fractional
    if fractional:
        buffers += time_buffers(description, layers[-1])
    class_names = list(network.class_names)
    starts: tuple[Table, ...] = ()
    if learning is not None:
        more = [f"class {number}" for number in range(len(class_names), learning.classes)]
        class_names = (class_names + more)[: learning.classes]
        starts = known_at_start(learning)
    if starts:
        buffers.append(
            Buffer("started", "uint8_t", (), "Whether the state of the readout has been initialised or loaded.")
        )
    image = dict(zip(("rows", "columns", "colours (red, green, blue)"), image_shape, strict=False))
    return dict(
        name=name,
        upper=name.upper(),
        bits=bits,
        classes=class_names,
        steps=description.time_steps,
        layout=" x ".join(f"{size} {axis}" for axis, size in image.items()),
        image_bytes=math.prod(image_shape),
        encoder=encoder,
        sorts=sorts(description),
        floats=not isinstance(description.encoder, Pixels),
        ramps=ramps,
        synapses=ramps[0].tables[-1].kind if ramps else "",
        join=code_join(description),
        columns=description.input_shapes[first_within(description)][2],
        layers=layers,
        hidden=layers[:-1],
        readout=layers[-1],
        following={layer.name: following for layer, following in itertools.pairwise(layers)},
        score_type="uint64_t" if layers[-1].ramped and learning is None else "uint32_t",
        score_text=_score_text(description, learning is not None),
        timed=timed,
        fractional=fractional,
        # The program multiplies by 1 / STEPS, because XLA replaces a division by a constant in this way, and a division
        # would be rounded differently.
        reciprocal=int((np.float32(1) / np.float32(description.time_steps)).view(np.uint32)),
        fallback=falls_back(description),
        unpacks=bool(packed_rows),
        tables=[*tables, *starts],
        buffers=buffers,
        learns=learning is not None,
        starts=bool(starts),
        digest=digest(layers[-1], tables) if learning is not None else 0,
        saved_bytes=sum(buffer.size for buffer in layers[-1].buffers[-4:]) + 12,
        table_bytes=sum(table.size for table in [*tables, *starts]),
        ram_bytes=sum(buffer.size for buffer in buffers),
    )


def _score_text(network: Network, learns: bool) -> tuple[str, ...]:
    """The lines that explain the score of a class, in a comment of the header that begins with other words."""
    if learns:
        return (
            "The score of a class is the agreement of the image with the weights of the neuron that has",
            "the largest potential in the class: 65536 (1 - d^2 / 2), where d is the distance between these weights",
            "and the image scaled to length 1. It is at most 65536, and 0 if it would be negative or if the image is",
            "blank.",
        )
    if network.stages[-1].ramped:
        return (
            "The score of a class is the largest potential of its neurons, in the smallest unit of the",
            "readout; 0 if no potential is above 0.",
        )
    return (
        "The score of a class is the largest potential of its neurons after `step`: the sum of the",
        "weights whose inputs have fired by then, in the unit of the readout. If thresholds differ between neurons, or",
        "if spikes have times within a step, another class may have a higher score than the decision. If the network",
        "stays silent, `score` is 0, and `second` is the class of the largest potential.",
    )
