"""Encoders in the form that the templates use; for uint8 images, their latencies are the same as in Python."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from snnjax.encoding import Encoder, FilterBank, OnOff, Pixels, filters, programs
from snnjax.encoding.encoder import EPSILON
from snnjax.encoding.fitted import ROUNDING
from snnjax.export._event_programs import first_within
from snnjax.export.c._text import Buffer, Table, floating, unsigned
from snnjax.networks import Network


class CodeFilter(NamedTuple):
    """A filter of the program, as the sum of parts with integer weights.

    Attributes:
      size: the number of rows, and of columns, of the filter.
      before: the number of rows, and of columns, of its window that lie before the position of the output.
      parts: the number of parts.
      first_tap: the index of its first weight in the table of all filters.
      first_unit: the index of the unit of its first part.
    """

    size: int
    before: int
    parts: int
    first_tap: int
    first_unit: int


class CodeEncoder(NamedTuple):
    """The encoder of the program.

    Attributes:
      template: the file name of its template.
      constants: the constants by name, as text.
      tables: the constant arrays.
      buffers: the arrays in memory.
      filters: the filters.
    """

    template: str
    constants: dict[str, str]
    tables: tuple[Table, ...]
    buffers: tuple[Buffer, ...]
    filters: tuple[CodeFilter, ...] = ()


def sorts(network: Network) -> bool:
    """Whether the program sorts inputs by latency; `Encoder` sorts its outputs by strength instead."""
    return type(network.encoder) is not Encoder or first_within(network) > 0


def code_encoder(network: Network, image_shape: tuple[int, ...]) -> CodeEncoder:
    """The encoder of a network for images of shape `image_shape`."""
    count = int(np.prod(network.input_shape))
    maps, rows, columns = network.input_shape
    shape = dict(IMAGE_ROWS=image_shape[0], IMAGE_COLUMNS=image_shape[1], PLANES=filters.planes(image_shape))
    shape |= dict(MAPS=maps, ROWS=rows, COLUMNS=columns, INPUTS=count)
    makers: dict[type, Any] = {Pixels: _pixels, OnOff: _on_off, Encoder: _ranked}
    made: CodeEncoder = makers[type(network.encoder)](network, shape)
    most = max(count, int(np.prod(network.input_shapes[first_within(network)])))  # sorted once or twice
    kind = unsigned(most)
    events: tuple[Buffer, ...] = (
        Buffer("events", kind, (most,), "Inputs that fire, in order of time."),
        Buffer("starts", kind, (network.time_steps + 1,), "The index in `events` of the first spike of each step."),
    )
    if sorts(network):
        events += (Buffer("latencies", "uint8_t", (most,), "The step of each input, STEPS if it is silent."),)
    constants = {name: str(value) for name, value in shape.items()} | made.constants
    return made._replace(constants=constants, buffers=(*events, *made.buffers))


def _pixels(network: Network, _: dict[str, int]) -> CodeEncoder:
    """The encoder `Pixels`: a table with the latency of each pixel value."""
    values = jnp.arange(256, dtype=jnp.uint8).reshape(16, 16)
    latencies = np.asarray(jax.jit(network.encoder)(values)).ravel()  # type: ignore[arg-type]
    table = Table("latency_of", "uint8_t", latencies, "The step at which a pixel fires, by its value.")
    return CodeEncoder("pixels.c.in", {}, (table,), ())


def _on_off(network: Network, shape: dict[str, int]) -> CodeEncoder:
    """The encoder `OnOff`: a filter, and the range of each of its outputs over the training images."""
    encoder: Any = network.encoder
    bank = _bank(encoder.bank, shape["PLANES"], encoder.window // 2, 1 / (255 * shape["PLANES"]))
    minimum = np.ravel(encoder.minimum)
    span = programs.span(encoder).ravel()
    tables = (
        Table("minimum", "float", minimum, "The smallest value of each input over the training images."),
        Table("span", "float", span, "The difference between the largest and the smallest value of each input."),
    )
    constants = bank.constants | dict(ROUNDING=floating(ROUNDING))
    return bank._replace(template="on_off.c.in", constants=constants, tables=bank.tables + tables)


def _ranked(network: Network, shape: dict[str, int]) -> CodeEncoder:
    """The encoder `Encoder`: filters with thresholds, local normalisation and rank order."""
    encoder: Any = network.encoder
    bank = _bank(encoder.bank, shape["PLANES"], encoder.bank.margin, encoder.scale)
    thresholds = programs.map_thresholds(encoder.bank)
    table = Table("map_threshold", "float", thresholds, "The threshold below which outputs become 0, by map.")
    buffers: tuple[Buffer, ...] = (
        Buffer("intensities", "float", (shape["INPUTS"],), "The strength of each input, 0 if it is silent."),
    )
    constants = bank.constants
    if encoder.radius is not None:
        normalisation, more = _normalisation(encoder.radius, shape)
        constants = constants | normalisation
        buffers += more
    return bank._replace(template="rank_order.c.in", constants=constants, tables=(*bank.tables, table), buffers=buffers)


def _normalisation(radius: int, shape: dict[str, int]) -> tuple[dict[str, str], tuple[Buffer, ...]]:
    """Constants and buffers of `local_normalization`; values are split as in Python, so that sums are exact."""
    rows = shape["ROWS"]
    columns = shape["COLUMNS"]
    exact = programs.normalisation(radius, (rows, columns))
    constants = dict(
        RADIUS=str(radius),
        PARTS=str(exact.parts),
        PART_SIZE=floating(2.0**exact.bits),
        NEIGHBOUR=floating(exact.neighbour),
        EPSILON=floating(EPSILON),
    )
    buffers = (
        Buffer("normalised", "float", (rows * columns,), "The current map after normalisation."),
        Buffer("units", "float", (exact.parts,), "The unit of the integers of each part of a value."),
        Buffer("column_sums", "int32_t", (exact.parts, columns), "The sums of a few rows in each column, by part."),
    )
    return constants, buffers


def _bank(bank: FilterBank, planes: int, margin: int, scale: float) -> CodeEncoder:
    """The filters of a bank with integer weights, and the filter and factor of each map."""
    kernels = filters.distinct_kernels(bank, 2 ** (filters.PIXEL_BITS + (planes - 1).bit_length()))
    taps: list[np.ndarray] = []
    units: list[float] = []
    made = []
    for kernel in programs.exact_filters(bank, kernels, margin):
        parts = kernel.parts.astype(np.float64)
        sizes = [_unit(part) for part in parts]
        integers = np.concatenate([(part / unit).ravel() for part, unit in zip(parts, sizes, strict=True)])
        made.append(CodeFilter(kernel.size, kernel.before, len(parts), sum(map(len, taps)), len(units)))
        taps.append(integers.astype(np.int64))
        units += sizes
    factors = kernels.factors * np.float32(scale)
    tables = (
        Table("taps", "int32_t", np.concatenate(taps), "The weights of each filter and part, row by row."),
        Table("tap_unit", "float", np.array(units), "The unit of the taps of each part."),
        Table("map_filter", "uint8_t", np.repeat(kernels.places, bank.copies), "The filter of each map."),
        Table("map_factor", "float", np.repeat(factors, bank.copies), "The factor of each map."),
    )
    return CodeEncoder("", {}, tables, (), tuple(made))


def _unit(values: np.ndarray) -> float:
    """The largest power of two that is at most 1 and of which all values are multiples."""
    return 1 / max(float(value).as_integer_ratio()[1] for value in values.flat)
