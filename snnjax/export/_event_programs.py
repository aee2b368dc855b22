"""Checks and geometry of networks that are exported as event-driven programs, in C or on an HTML page."""

from typing import Any, NamedTuple

import numpy as np

from snnjax.core import checks
from snnjax.core.errors import InputError
from snnjax.encoding import Encoder, OnOff, Pixels
from snnjax.layers.conv import Conv
from snnjax.layers.pool import Pool
from snnjax.networks.decision import Earliest, Majority
from snnjax.networks.joins import Concatenate
from snnjax.networks.model import check_decides, check_fitted
from snnjax.networks.network import Network
from snnjax.networks.spiking_network import SpikingNetwork

ENCODERS = Encoder, OnOff, Pixels
DECISIONS = Earliest, Majority
ADVICE = dict(
    encoder="train with another one, such as --encoder on_off",
    decision="train a network that decides by spikes, such as goupy2024_ncg",
)

Size = tuple[int, int]


class Geometry(NamedTuple):
    """The geometry of a layer and of the pooling after it; all attributes are (rows, columns).

    Attributes:
      kernel, stride, padding: the geometry of the layer's convolution.
      size: the size of a map of the layer's neurons.
      dendrites: the dendrites of a neuron; (1, 1) without a ramp. Each dendrite has its own position of the kernel.
      margin: silent rows and columns that are added on each side of a map before it is pooled.
      window, window_stride: the geometry of the pooling; (1, 1) if there is none.
      output: the size of an output map of the stage.
    """

    kernel: Size
    stride: Size
    padding: Size
    size: Size
    dendrites: Size
    margin: Size
    window: Size
    window_stride: Size
    output: Size


class Source(NamedTuple):
    """An output that a stage reads, and the pooling before it is joined with other outputs; sizes are (rows, columns).

    Attributes:
      output: the number of the output: 0 for the encoder, 1 for the first stage.
      maps: the number of maps.
      size: the size of a map before it is pooled.
      margin: silent rows and columns that are added on each side of a map before it is pooled.
      window, window_stride: the geometry of the pooling; (1, 1) if there is none.
      pooled: the size of a pooled map.
      mean: whether neurons average each window, as in `kernels.spikes.mean_pool`.
    """

    output: int
    maps: int
    size: Size
    margin: Size
    window: Size
    window_stride: Size
    pooled: Size
    mean: bool


def geometry(network: Network, number: int) -> Geometry:
    """The geometry of stage `number`, which must have exactly one layer."""
    (conv,) = network.stages[number].branches
    rows, columns = checks.pair("output_padding", conv.output_padding, 0)
    (top, left), window, stride = _pooling(network.stages[number].pool)
    return Geometry(
        kernel=checks.pair("kernel", conv.kernel, 1),
        stride=checks.pair("stride", conv.stride, 1),
        padding=checks.pair("padding", conv.padding, 0),
        size=conv.output_size(network.input_shapes[number][1:]),
        dendrites=checks.pair("dendrites", conv.ramp.dendrites if conv.ramp else 1, 1),
        margin=(rows + top, columns + left),
        window=window,
        window_stride=stride,
        output=(network.shapes[number + 1][1], network.shapes[number + 1][2]),
    )


def sources(network: Network, number: int) -> list[Source]:
    """The outputs that stage `number` reads, in the order in which they are joined."""
    made = []
    shapes = network.graph.map_shapes(number, network.shapes)
    for (output, read), (maps, *pooled) in zip(network.graph.reads(number), shapes, strict=True):
        margin, window, stride = _pooling(read.pool)
        size = (network.shapes[output][1], network.shapes[output][2])
        made.append(Source(output, maps, size, margin, window, stride, (pooled[0], pooled[1]), read.averages))
    return made


def _pooling(pool: Pool | None) -> tuple[Size, Size, Size]:
    """The padding, window and stride of a pooling; without pooling, windows of one neuron."""
    if pool is None:
        return (0, 0), (1, 1), (1, 1)
    window = checks.pair("window", pool.window, 1)
    return checks.pair("padding", pool.padding, 0), window, checks.pair("stride", pool.stride or window, 1)


def first_within(network: Network) -> int:
    """The number of the first stage that has no ramp or that decides; all stages before it have ramps.

    Neurons of a layer without a ramp fire while their inputs do.
    """
    last = len(network.stages) - 1
    return next(number for number, stage in enumerate(network.stages) if not stage.ramped or number == last)


def times_matter(network: Network) -> bool:
    """Whether the decision depends on when neurons of the last layer fire."""
    return network.timed and network.stages[-1].branches[0].threshold is not None


def falls_back(network: Network) -> bool:
    """Whether the decision may be the class of the largest potential after the last time step.

    This is so if spike times do not matter, or if the decision falls back to it when no neuron of the last layer fires.
    """
    return not times_matter(network) or bool(getattr(network.decision, "fallback", False))


def check_network(network: SpikingNetwork, place: str, *, ramped_readout: bool = False) -> None:
    """Raises InputError unless a network can run as an event-driven program; `place`, such as "in C", says where.

    The network must be a chain of layers: first layers with ramps, then layers that fire while their inputs do, whose
    thresholds are at least 0. The first layer without a ramp may join the outputs of several earlier stages. With
    `ramped_readout`, the layer that decides may have a ramp if each of its neurons reads the whole input. Weights are
    not checked.
    """
    checks.instance("network", network, SpikingNetwork, "a SpikingNetwork", "snnjax.load(RUN)")
    description = network.network
    check_decides(description)
    _check_kind(description, "decision", DECISIONS, place)
    if description.stages[-1].ramped and not ramped_readout:
        name = description.names[-1][0]
        raise InputError(
            f"`ramp` of {name} of {description.name}, which decides, must be None {place}: use another readout"
        )
    check_features(description, place)
    _check_stage(description, len(description.stages) - 1, place)


def check_features(network: Network, place: str) -> None:
    """Raises InputError as `check_network` does, but checks only the encoder and the stages before the last one."""
    _check_kind(network, "encoder", ENCODERS, place)
    check_fitted(network, "encoder")
    _check_encoder(network, network.encoder, place)
    for number in range(len(network.stages) - 1):
        _check_stage(network, number, place)


def _check_kind(network: Network, name: str, kinds: tuple[type, ...], place: str) -> None:
    """Raises InputError unless attribute `name` of a network is an instance of exactly one of the `kinds`."""
    part = getattr(network, name)
    if type(part) in kinds:
        return
    expected = ", ".join(kind.__name__ for kind in kinds)
    got = f"got {type(part).__name__}: {ADVICE[name]}"
    raise InputError(f"`{name}` of {network.name} must be one of {expected} {place}, {got}")


def check_shape(network: Network, option: str, shape: tuple[int, ...]) -> None:
    """Raises InputError, which names `option`, unless the encoder turns images of `shape` into the network's input."""
    becomes = network.encoder.output_shape(shape)  # type: ignore[union-attr]
    if becomes != network.input_shape:
        got = f"{shape}, which becomes {becomes}"
        raise InputError(f"`{option}` must become {network.input_shape}, the input of {network.name}, got {got}")


def _check_encoder(network: Network, encoder: Any, place: str) -> None:
    """Raises InputError if an `Encoder` has steps other than filters, local normalisation and rank order."""
    if not isinstance(encoder, Encoder):
        return
    settings = dict(pool=encoder.pool, inhibition=encoder.inhibition, pointwise=encoder.pointwise)
    settings |= {"bank.absolute": encoder.bank.absolute, "bank.reflect": encoder.bank.reflect}
    for name, value in settings.items():
        if value:
            raise InputError(f"`encoder` of {network.name} must do without `{name}` {place}, got {value}")


def _check_stage(network: Network, number: int, place: str) -> None:
    """Raises InputError unless stage `number` has one layer, and its inputs and thresholds are supported."""
    stage = network.stages[number]
    title = f"stage {number + 1} of {network.name}"
    checks.equal(f"pointwise of {title} {place}", stage.pointwise, False)
    decides_by_ramp = stage.ramped and number == len(network.stages) - 1
    after_ramps = number > 0 and network.stages[number - 1].ramped and (decides_by_ramp or not stage.ramped)
    if after_ramps and type(stage.join) is not Concatenate:
        raise InputError(f"`join` of {title} must be Concatenate() {place}, got {type(stage.join).__name__}")
    readable = after_ramps or network.graph.plain(number) or (decides_by_ramp and _pools_alone(network, number))
    if not readable or number not in network.graph.sources(number):
        raise InputError(f"{title} must read only the stage before it {place}, got `inputs` {stage.inputs}")
    if len(stage.branches) != 1:
        raise InputError(f"{title} must have one layer {place}, got {len(stage.branches)}")
    (conv,) = stage.branches
    if decides_by_ramp:
        _check_ramped_readout(network, conv, place)
    elif conv.ramped:
        if number and not network.stages[number - 1].ramped:
            raise InputError(f"{title} must fire while its inputs do {place}, got a `ramp` after a layer without")
    elif conv.threshold is None:
        if number < len(network.stages) - 1:
            raise InputError(f"`threshold` of {title} must be a number {place}, got None")
    elif np.min(conv.threshold) < 0:
        raise InputError(f"`threshold` of {title} must be at least 0 {place}, got {np.min(conv.threshold):.4g}")


def _pools_alone(network: Network, number: int) -> bool:
    """Whether a stage reads a single output, without average pooling and without a special join."""
    reads = network.graph.reads(number)
    return len(reads) == 1 and not reads[0][1].averages and type(network.stages[number].join) is Concatenate


def _check_ramped_readout(network: Network, conv: Conv, place: str) -> None:
    """Raises InputError unless each neuron of a deciding layer with a ramp reads the whole input."""
    size = network.input_shapes[-1][1:]
    kernel = checks.pair("kernel", conv.kernel, 1)
    if kernel != size or checks.pair("padding", conv.padding, 0) != (0, 0):
        got = f"{kernel}, padding {conv.padding}"
        raise InputError(f"`kernel` of the layer of {network.name} that decides must be {size} {place}, got {got}")
