"""A deciding layer with a ramp whose neurons read the whole input, in the form that the templates use."""

import zlib

import numpy as np

from snnjax.export._event_programs import sources
from snnjax.export.c._integer_prototypes import LENGTH_BITS, MEAN_BITS, MOST_WINS, RATE_BITS, IntegerPrototypes
from snnjax.export.c._layers import CodeLayer, pack_bits
from snnjax.export.c._text import Buffer, Table, unsigned
from snnjax.networks import Network
from snnjax.networks.quantisation import IntegerRampLayer


def ramped_readout(network: Network, layer: IntegerRampLayer, bits: int) -> CodeLayer:
    """The readout with constant weights, which does not learn."""
    name = network.names[-1][0]
    rows = layer.weights.transpose(0, 2, 3, 1).reshape(len(layer.weights), -1)  # kh kw C
    offset = 2 ** (bits - 1) - 1
    constants = _geometry(network) | dict(
        FEATURES=len(rows), ROW_BYTES=-(-rows.shape[1] * bits // 8), OFFSET=offset, INPUTS=rows.shape[1]
    )
    weights = pack_bits((rows.astype(np.int16) + offset).astype(np.uint8), bits)
    synapses = np.count_nonzero(rows, axis=0)
    (conv,) = network.stages[-1].branches
    assert conv.ramp is not None
    tables = (
        Table(f"{name}_weights", "uint8_t", weights, f"Weights + {offset}, by feature, {_ORDER}."),
        Table(f"{name}_thresholds", "int32_t", layer.threshold, "Values that are subtracted from sums, by feature."),
        Table(f"{name}_shifts", "uint8_t", layer.shift, "The bits by which potentials are shifted left, by feature."),
        Table(f"{name}_synapses", unsigned(len(rows)), synapses, f"Features whose weight is not 0, by {_ORDER}."),
        _rises(conv.ramp.rises(network.time_steps).astype(np.uint8)),
    )
    return CodeLayer(name, "int64_t", False, constants, tables, (_inputs(name, rows.shape[1]),), ramped=True)


def learning_readout(network: Network, layer: IntegerPrototypes) -> CodeLayer:
    """The readout with weights in memory, which learns."""
    name = network.names[-1][0]
    features, inputs = layer.weights.shape
    constants = _geometry(network) | dict(
        FEATURES=features,
        INPUTS=inputs,
        NEURONS=layer.neurons,
        SHIFT=layer.shift,
        MOST=layer.most,
        TIE=layer.tie,
        MEAN_BITS=MEAN_BITS,
        LENGTH_BITS=LENGTH_BITS,
        RATE_BITS=RATE_BITS,
        MOST_WINS=MOST_WINS,
    )
    kind = "int8_t" if layer.bits <= 8 else "int16_t"
    buffers = (
        _inputs(name, inputs),
        Buffer(
            "means",
            "int16_t",
            (constants["ROWS"] * constants["COLUMNS"],),
            "The mean of the inputs at each position, in 2^-MEAN_BITS steps.",
        ),
        Buffer("potentials", "int64_t", (features,), "The potentials of the neurons, in 2^-(SHIFT + MEAN_BITS) steps."),
        Buffer("length", "uint32_t", (), "The length of the image, in 2^-LENGTH_BITS steps."),
        Buffer(f"{name}_weights", kind, (features * inputs,), f"Weights, by neuron, {_ORDER}."),
        Buffer("bias", "int64_t", (features,), "Squared lengths of the weights minus 1, in 4^-SHIFT."),
        Buffer("wins", "uint16_t", (features,), "The number of images that each neuron has won."),
        Buffer("mean_length", "uint32_t", (), "The mean length of images, in 2^-LENGTH_BITS steps."),
    )
    return CodeLayer(name, kind, False, constants, (_rises(layer.rises),), buffers, ramped=True)


def known_at_start(layer: IntegerPrototypes) -> tuple[Table, ...]:
    """The state of the readout at the start, as constant tables; () if it has learned nothing."""
    if layer.empty:
        return ()
    kind = "int8_t" if layer.bits <= 8 else "int16_t"
    return (
        Table("weights_at_start", kind, layer.weights.ravel(), f"Weights at the start, by neuron, {_ORDER}."),
        Table("bias_at_start", "int64_t", layer.bias, "The bias of each neuron at the start."),
        Table("wins_at_start", "uint16_t", layer.wins, "The number of images that each neuron has won at the start."),
        Table("length_at_start", "uint32_t", np.array([layer.length]), "The mean length at the start."),
    )


def digest(readout: CodeLayer, tables: list[Table]) -> int:
    """A 32-bit checksum of the features and of the readout's geometry, by which saved data is matched to a program."""
    number = zlib.crc32(repr((readout.kind, readout.constants)).encode())
    for table in tables:
        number = zlib.crc32("\n".join(table.lines).encode(), number)
    return number


_ORDER = "row, column and map of the input"


def _rises(values: np.ndarray) -> Table:
    return Table("rises", "uint8_t", values, "What an input adds per unit of weight, by the steps that remain.")


def _inputs(name: str, count: int) -> Buffer:
    return Buffer(f"{name}_inputs", "uint8_t", (count,), "What each input adds per unit of weight, 0 if silent.")


def _geometry(network: Network) -> dict[str, int]:
    """The geometry of the layer's input, by names as in other layers; windows of one neuron if it is not pooled."""
    number = len(network.stages) - 1
    maps, rows, columns = network.input_shapes[number]
    constants = dict(MAPS=maps, ROWS=rows, COLUMNS=columns, OUTPUT_ROWS=rows, OUTPUT_COLUMNS=columns)
    axes = dict(MARGIN=(0, 0), POOL=(1, 1), POOL_STRIDE=(1, 1))
    if not (number and network.stages[number - 1].ramped):  # ramped stages are pooled before spikes are sorted
        (source,) = sources(network, number)
        axes = dict(MARGIN=source.margin, POOL=source.window, POOL_STRIDE=source.window_stride)
    for name, (down, right) in axes.items():
        constants |= {f"{name}_ROWS": down, f"{name}_COLUMNS": right}
    return constants
