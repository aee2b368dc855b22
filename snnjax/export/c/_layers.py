"""Layers without ramps, in the form that the templates use."""

from typing import NamedTuple

import numpy as np

from snnjax.export._event_programs import geometry, times_matter
from snnjax.export.c._text import BYTES, Buffer, Table, unsigned
from snnjax.layers.conv import Conv
from snnjax.networks import Network
from snnjax.networks.quantisation import IntegerLayer


class CodeLayer(NamedTuple):
    """A layer of the program.

    Attributes:
      name: the name of the layer in the network, such as layer1.
      kind: the C type of potentials and thresholds.
      pooled: whether the spikes of the layer are pooled.
      constants: the constants of its geometry, by their names without the prefix.
      tables: the tables of weights and thresholds.
      buffers: the buffers of potentials and, if the layer is pooled, of the pooled spikes so far.
      ramped: whether this is a deciding layer with a ramp; see `ramped_readout`.
    """

    name: str
    kind: str
    pooled: bool
    constants: dict[str, int]
    tables: tuple[Table, ...]
    buffers: tuple[Buffer, ...]
    ramped: bool = False

    @property
    def prefix(self) -> str:
        """The prefix of the names of the layer's constants."""
        return self.name.upper()


def code_layers(network: Network, integers: dict[str, IntegerLayer], bits: int) -> list[CodeLayer]:
    """The layers of a network that have no ramp, in order."""
    layers = []
    for number, name, conv in network.layers():
        if conv.ramped:
            continue
        pool = network.stages[number].pool
        deciding = name in network.deciding
        constants = _geometry(network, number, conv)
        by_input = integers[name].weights.transpose(1, 2, 3, 0).reshape(-1, conv.features)  # C kh kw F
        if deciding:
            constants |= dict(ROW_BYTES=-(-conv.features * bits // 8))
            tables = _all_weights(name, by_input, bits)
        else:
            tables = _weights_above_0(name, by_input)
        kind = "uint32_t"
        if not deciding or times_matter(network):
            thresholds = _reachable(integers[name])
            if not deciding:
                kind = unsigned(int(thresholds.max()) + len(_MARKS))
                constants |= {mark: 256 ** BYTES[kind] - place for place, mark in enumerate(_MARKS, 1)}
            tables += (Table(f"{name}_thresholds", kind, thresholds, "Neurons fire above this potential, by feature."),)
        buffers = _buffers(name, kind, constants, deciding=deciding, pooled=pool is not None)
        layers.append(CodeLayer(name, kind, pool is not None, constants, tables, buffers))
    return layers


_MARKS = "FIRED", "FIRES"
"""The largest values of a type, which mark neurons that have fired and neurons that are about to fire."""


def _geometry(network: Network, number: int, conv: Conv) -> dict[str, int]:
    """The geometry of the layer of stage `number`, by the names of its constants."""
    sizes = geometry(network, number)
    axes = dict(KERNEL_=sizes.kernel, STRIDE_=sizes.stride, PADDING_=sizes.padding, MARGIN_=sizes.margin)
    axes |= {"": sizes.size, "OUTPUT_": sizes.output}
    if network.stages[number].pool is not None:
        axes |= dict(POOL_=sizes.window, POOL_STRIDE_=sizes.window_stride)
    constants = dict(MAPS=network.input_shapes[number][0], FEATURES=conv.features)
    for name, (rows, columns) in axes.items():
        constants |= {f"{name}ROWS": rows, f"{name}COLUMNS": columns}
    return constants


def _reachable(layer: IntegerLayer) -> np.ndarray:
    """Thresholds (F,) int64 that are at most the largest possible potential, at which a neuron also stays silent."""
    most = layer.weights.sum(axis=(1, 2, 3), dtype=np.int64)
    return np.minimum(layer.threshold, most)


_ORDER = "by map of the input, row and column of the kernel"


def _all_weights(name: str, rows: np.ndarray, bits: int) -> tuple[Table, ...]:
    """The tables of weights (n, F) with `bits` bits, by input."""
    counts = np.count_nonzero(rows, axis=1)
    return (
        Table(f"{name}_weights", "uint8_t", pack_bits(rows, bits), f"Weights, {_ORDER}."),
        Table(f"{name}_synapses", unsigned(rows.shape[1]), counts, f"Features whose weight is not 0, {_ORDER}."),
    )


def _weights_above_0(name: str, rows: np.ndarray) -> tuple[Table, ...]:
    """The tables of those weights (n, F) that are above 0, by input.

    STDP leaves few such weights, so that a spike only needs to read these.
    """
    inputs, features = rows.nonzero()
    weights = rows[inputs, features]
    starts = np.append(0, np.count_nonzero(rows, axis=1).cumsum())
    if not weights.size:  # an array in C has at least one element
        features = weights = np.zeros(1, np.uint8)
    return (
        Table(f"{name}_weights", "uint8_t", weights, f"Weights above 0, {_ORDER}."),
        Table(f"{name}_features", unsigned(rows.shape[1] - 1), features, "The feature of each weight above 0."),
        Table(f"{name}_starts", unsigned(int(starts[-1])), starts, f"The first weight of each input, {_ORDER}."),
    )


def pack_bits(rows: np.ndarray, bits: int) -> np.ndarray:
    """Packs rows (n, F) of weights with `bits` bits into uint8, low bits first; each row begins with a new byte."""
    digits = (rows[..., None] >> np.arange(bits, dtype=np.uint8)) & 1
    return np.packbits(digits.reshape(len(rows), -1), axis=1, bitorder="little").ravel()


def _buffers(name: str, kind: str, constants: dict[str, int], *, deciding: bool, pooled: bool) -> tuple[Buffer, ...]:
    shape = tuple(constants[key] for key in ("ROWS", "COLUMNS", "FEATURES"))
    if deciding:
        return (Buffer(f"{name}_potentials", kind, shape, "Potentials."),)
    left = Buffer(f"{name}_left", kind, shape, "Thresholds minus potentials; FIRED for neurons that have fired.")
    if not pooled:
        return (left,)
    cells = constants["FEATURES"] * constants["OUTPUT_ROWS"] * constants["OUTPUT_COLUMNS"]
    return left, Buffer(f"{name}_pooled", "uint8_t", (-(-cells // 8),), "Pooled spikes so far, one bit each.")


def row_of_weights(most: int, bits: int) -> Buffer:
    """The buffer for a row of at most `most` unpacked weights, one byte each; it has room for whole packed bytes."""
    return Buffer("row_of_weights", "uint8_t", (most + 8 // bits - 1,), "Unpacked weights of a row.")


def time_buffers(network: Network, readout: CodeLayer) -> tuple[Buffer, ...]:
    """The buffers for times of spikes within a time step, when potentials cross thresholds."""
    shape = readout.buffers[0].shape
    return (
        Buffer("potentials_before", "uint32_t", shape, "Potentials before the current step."),
        Buffer("crossings", "crossing", (network.classes,), "The earliest crossing of each class, with its potential."),
    )
