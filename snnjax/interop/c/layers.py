"""The layers of a network, as the templates take them."""

from typing import NamedTuple

import numpy as np

from snnjax.core import checks
from snnjax.core.checks import Pair
from snnjax.interop.c.text import BYTES, Buffer, Table, unsigned
from snnjax.layers.conv import Conv
from snnjax.layers.pool import Pool
from snnjax.networks import Network
from snnjax.networks.quantised import Integers


class CodeLayer(NamedTuple):
    """A layer of the program.

    Attributes:
      name: as in the network, such as layer1.
      kind: the type of potentials and thresholds.
      pooled: whether its spikes are pooled.
      constants: numbers of its geometry, by their names without that of the layer.
      tables: weights, thresholds, and the number of weights that are not 0.
      buffers: potentials, and the pooled spikes so far.
    """

    name: str
    kind: str
    pooled: bool
    constants: dict[str, int]
    tables: tuple[Table, ...]
    buffers: tuple[Buffer, ...]

    @property
    def prefix(self) -> str:
        """Of the names of its constants."""
        return self.name.upper()


def code_layers(spec: Network, integers: dict[str, Integers], bits: int) -> list[CodeLayer]:
    """The layers of a chain of stages, in order; the last one decides."""
    layers = []
    for number, name, conv in spec.layers():
        pool = spec.stages[number].pool
        deciding = name in spec.deciding
        constants = _geometry(conv, spec.input_shapes[number], pool, spec.shapes[number + 1])
        constants |= dict(ROW_BYTES=-(-conv.features * bits // 8))
        tables = _weights(name, integers[name].weights, bits)
        kind = "uint32_t"
        if not deciding or times_matter(spec):
            thresholds = _reachable(integers[name])
            if not deciding:
                kind = unsigned(int(thresholds.max()) + len(_MARKS))
                constants |= {mark: 256 ** BYTES[kind] - place for place, mark in enumerate(_MARKS, 1)}
            tables += (Table(f"{name}_thresholds", kind, thresholds, "Neurons fire above it, by feature."),)
        buffers = _buffers(name, kind, constants, deciding=deciding, pooled=pool is not None)
        layers.append(CodeLayer(name, kind, pool is not None, constants, tables, buffers))
    return layers


_MARKS = "FIRED", "FIRES"
"""Largest numbers of a type: of neurons that have fired, and that are about to."""


def times_matter(spec: Network) -> bool:
    """Whether the decision depends on when neurons of the last layer fire."""
    return spec.decision.timed and spec.stages[-1].branches[0].threshold is not None


def _geometry(conv: Conv, inputs: tuple[int, ...], pool: Pool | None, outputs: tuple[int, ...]) -> dict[str, int]:
    """The numbers of a layer, by name."""
    pairs: dict[str, Pair] = dict(KERNEL=conv.kernel, STRIDE=conv.stride, PADDING=conv.padding)
    size = conv.output_size((inputs[1], inputs[2]))
    margins = np.array(checks.pair("output_padding", conv.output_padding, 0))
    if pool is not None:
        pairs |= dict(POOL=pool.window, POOL_STRIDE=pool.stride or pool.window)
        margins += checks.pair("padding", pool.padding, 0)
    axes = {name: checks.pair(name, value, 0) for name, value in pairs.items()}
    axes |= dict(MARGIN=(int(margins[0]), int(margins[1])))
    axes |= {"": size, "OUTPUT": (outputs[1], outputs[2])}
    names = {name: f"{name}_" if name else "" for name in axes}
    constants = dict(MAPS=inputs[0], FEATURES=conv.features)
    for name, (rows, columns) in axes.items():
        constants |= {f"{names[name]}ROWS": rows, f"{names[name]}COLUMNS": columns}
    return constants


def _reachable(layer: Integers) -> np.ndarray:
    """Thresholds, (F,) int64, no higher than a neuron's potential can be: with these it stays silent, too."""
    most = layer.weights.sum(axis=(1, 2, 3), dtype=np.int64)
    return np.minimum(layer.threshold, most)


def _weights(name: str, weights: np.ndarray, bits: int) -> tuple[Table, ...]:
    """The tables of weights (F, C, kh, kw) of so many bits."""
    by_input = weights.transpose(1, 2, 3, 0)  # C kh kw F
    counts = np.count_nonzero(by_input, axis=3).ravel()
    order = "by map of the input, row and column of the kernel"
    return (
        Table(f"{name}_weights", "uint8_t", packed(by_input.reshape(-1, len(weights)), bits), f"Weights, {order}."),
        Table(f"{name}_synapses", unsigned(len(weights)), counts, f"Features whose weight is not 0, {order}."),
    )


def packed(rows: np.ndarray, bits: int) -> np.ndarray:
    """Rows (n, F) of weights of so many bits as bytes, uint8, low bits first; each row begins at a byte."""
    digits = (rows[..., None] >> np.arange(bits)) & 1
    return np.packbits(digits.reshape(len(rows), -1), axis=1, bitorder="little").ravel()


def _buffers(name: str, kind: str, constants: dict[str, int], *, deciding: bool, pooled: bool) -> tuple[Buffer, ...]:
    shape = tuple(constants[key] for key in ("ROWS", "COLUMNS", "FEATURES"))
    if deciding:
        return (Buffer(f"{name}_potentials", kind, shape, "Potentials."),)
    left = Buffer(f"{name}_left", kind, shape, "Thresholds less potentials; FIRED of neurons that have fired.")
    if not pooled:
        return (left,)
    cells = constants["FEATURES"] * constants["OUTPUT_ROWS"] * constants["OUTPUT_COLUMNS"]
    return left, Buffer(f"{name}_pooled", "uint8_t", (-(-cells // 8),), "Pooled spikes so far, a bit each.")


def row_of_weights(spec: Network, bits: int) -> Buffer:
    """The buffer for the weights that an input has at one position, each as a byte; whole packed bytes are written."""
    most = max(conv.features for _, _, conv in spec.layers())
    return Buffer("row_of_weights", "uint8_t", (most + 8 // bits - 1,), "Unpacked weights, by feature.")
