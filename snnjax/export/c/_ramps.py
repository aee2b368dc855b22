"""Layers with ramps, in the form that the templates use."""

import math
from typing import NamedTuple

import numpy as np

from snnjax.export._event_programs import Geometry, Source, first_within, geometry, sources
from snnjax.export.c._layers import pack_bits
from snnjax.export.c._text import Buffer, Table, unsigned
from snnjax.networks import Network
from snnjax.networks.quantisation import IntegerRampLayer


class CodeRamp(NamedTuple):
    """A layer with a ramp in the program.

    Attributes:
      name: the name of the layer in the network, such as layer1.
      output: the number of its stage's output, from 1.
      constants: the fields of its `ramp_layer`, by name.
      pool: the fields of the `pooling` of its stage, by name.
      tables: weights, thresholds, shifts, levels, and for each input the number of weights that are not 0.
    """

    name: str
    output: int
    constants: dict[str, int]
    pool: dict[str, int]
    tables: tuple[Table, ...]


class CodeJoin(NamedTuple):
    """The joined input of the first layer without a ramp, in the program.

    Attributes:
      maps: the number of joined maps.
      inputs: the number of neurons in these maps.
      sources: for each joined output its number, the number of its first map, and the fields of its `pooling`.
    """

    maps: int
    inputs: int
    sources: list[tuple[int, int, dict[str, int]]]


def code_ramps(network: Network, integers: dict[str, IntegerRampLayer], bits: int) -> list[CodeRamp]:
    """The layers with ramps that do not decide, in order."""
    ramps = []
    layers = [
        (number, name, conv) for number, name, conv in network.layers() if conv.ramped and name not in network.deciding
    ]
    count = unsigned(max((conv.features for _, _, conv in layers), default=0))  # the type of numbers of features
    for number, name, conv in layers:
        sizes = geometry(network, number)
        maps = network.input_shapes[number][0]
        layer = integers[name]
        rows = layer.weights.transpose(0, 2, 3, 1).reshape(conv.features, -1)  # kh kw C
        constants = dict(maps=maps, features=conv.features, size=rows.shape[1])
        constants |= _axes(dict(input=network.input_shapes[number][1:], to=sizes.size, dendrite=sizes.dendrites))
        constants |= _axes(dict(kernel=sizes.kernel, stride=sizes.stride, padding=sizes.padding))
        constants |= dict(row_bytes=-(-rows.shape[1] * bits // 8), offset=2 ** (bits - 1) - 1)
        pool = _pooling(conv.features, sizes, sizes.output)
        # In int16, because 8-bit weights with their offset are up to 254.
        weights = pack_bits((rows.astype(np.int16) + constants["offset"]).astype(np.uint8), bits)
        tables = _tables(name, layer, weights, constants["offset"])
        synapses = np.count_nonzero(rows, axis=0)
        tables += (Table(f"{name}_synapses", count, synapses, f"Features whose weight is not 0, by {_ORDER}."),)
        ramps.append(CodeRamp(name, number + 1, constants, pool, tables))
    return ramps


def code_join(network: Network) -> CodeJoin:
    """The joined input of the first layer without a ramp."""
    first = first_within(network)
    parts = []
    place = 0
    for source in sources(network, first):
        parts.append((source.output, place, _pooling(source.maps, source, source.pooled, source.mean)))
        place += source.maps
    return CodeJoin(place, math.prod(network.input_shapes[first]), parts)


def ramp_buffers(network: Network, ramps: list[CodeRamp]) -> list[Buffer]:
    """The buffers for the outputs of the encoder and of stages with ramps, and the working memory of their layers."""
    each = [layer.constants for layer in ramps]
    neurons = max(layer["to_rows"] * layer["to_columns"] * layer["features"] for layer in each)
    positions = [layer["to_columns"] * layer["dendrite_columns"] for layer in each]
    in_row = max(count * layer["size"] for count, layer in zip(positions, each, strict=True))
    neurons_in_row = max(layer["to_columns"] * layer["features"] for layer in each)
    outputs = [
        Buffer(f"output{number}", "uint8_t", (math.prod(shape),), "Steps that remain after each spike, 0 if silent.")
        for number, shape in enumerate(network.shapes[: len(ramps) + 1])
    ]
    return [
        *outputs,
        Buffer("unpooled", "uint8_t", (neurons,), "Steps that remain after each spike of a layer, before pooling."),
        Buffer("patches", "uint8_t", (in_row,), "The inputs of each position of a row."),
        Buffer("patch_sums", "uint32_t", (max(positions),), "The sum of the inputs of each position."),
        Buffer("row_potentials", "int32_t", (neurons_in_row,), "The potentials of a row of neurons."),
    ]


def _axes(pairs: dict[str, tuple[int, ...]]) -> dict[str, int]:
    """The rows and columns of each pair, by its name with "_rows" and "_columns" added."""
    numbers: dict[str, int] = {}
    for name, (rows, columns) in pairs.items():
        numbers |= {f"{name}_rows": rows, f"{name}_columns": columns}
    return numbers


def _pooling(maps: int, sizes: Geometry | Source, pooled: tuple[int, int], mean: bool = False) -> dict[str, int]:
    """The fields of a `pooling` of the program."""
    window = dict(margin=sizes.margin, window=sizes.window, stride=sizes.window_stride)
    return dict(maps=maps, mean=int(mean)) | _axes(dict(input=sizes.size, **window, to=pooled))


_ORDER = "row, column and map of the kernel"


def _tables(name: str, layer: IntegerRampLayer, weights: np.ndarray, offset: int) -> tuple[Table, ...]:
    """The tables of a layer whose packed weights are given."""
    return (
        Table(f"{name}_weights", "uint8_t", weights, f"Weights + {offset}, by feature, {_ORDER}."),
        Table(f"{name}_thresholds", "int32_t", layer.threshold, "Values that are subtracted from sums, by feature."),
        Table(f"{name}_shifts", "uint8_t", layer.shift, "The bits by which potentials are shifted left, by feature."),
        Table(f"{name}_levels", "int64_t", layer.levels, "The level that a potential must reach to fire, by step."),
    )
