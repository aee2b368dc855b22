"""Building NIR graphs from convolutions and from neurons without memory that fire above a threshold."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from snnjax.core import checks
from snnjax.core.checks import Pair
from snnjax.core.errors import InputError
from snnjax.layers.pool import Pool, map_size

if TYPE_CHECKING:
    from nir import NIRGraph

Neuron = Literal["IF", "LIF"]
TAU = 1e-4
"""The time constant of LIF nodes and the time step of the simulation, in seconds; LIF neurons forget within it."""


def common_threshold(sums: np.ndarray, threshold: np.ndarray) -> float:
    """The threshold B of all neurons of a layer. V - threshold stays below B, as some readers fire twice above 2 B."""
    return 2.0 ** math.ceil(math.log2(max(float((sums - threshold).max()) + 1, 1)))


class Square(NamedTuple):
    """A kernel with zeros around it: square, and with the same sums at the same positions.

    It is needed because the package nir, when it computes the size of a map, takes all kernels to be square.

    Attributes:
      side: the number of rows, and of columns.
      before: rows of zeros above the kernel, and columns of zeros to its left.
      stride: input rows and columns between neighbouring outputs.
      padding: silent rows and columns added to the input.
    """

    side: int
    before: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    def place(self, kernel: Sequence[int]) -> tuple[Any, slice, slice]:
        """The index of the kernel, whose rows and columns are given, in the weights of the square."""
        rows = slice(self.before[0], self.before[0] + kernel[0])
        columns = slice(self.before[1], self.before[1] + kernel[1])
        return ..., rows, columns


def square(size: Sequence[int], name: str, kernel: Pair, stride: Pair, padding: Pair) -> Square:
    """The square of a kernel on maps of size (H, W); raises InputError, which names the kernel, if none is exact.

    If both sides of the kernel get the same number of zeros, the padding grows by that number. If one side gets one
    more, the maps have a row too many or too few. The number of outputs then stays the same only if the stride is above
    1, or if there is only one output, so that the stride can be raised.
    """
    taps = checks.pair("kernel", kernel, 1)
    settings = checks.pair("stride", stride, 1), checks.pair("padding", padding, 0)
    for side in (max(taps), max(taps) + 1):
        axes = [_axis(side, *axis) for axis in zip(size, taps, *settings, strict=True)]
        if all(axes):
            return Square(side, *zip(*axes, strict=True))
    needs = "must have an even number of rows and of columns for NIR, or an odd number of both, if its stride is 1"
    raise InputError(f"{name} {needs}, got {taps}")


def _axis(side: int, size: int, taps: int, step: int, pad: int) -> tuple[int, int, int] | None:
    """The zeros before a kernel, its stride and its padding on one axis of a `Square`; None if no choice is exact."""
    spare = size + 2 * pad - taps
    outputs = spare // step + 1
    zeros = side - taps
    for stride in (step, spare + 2) if outputs == 1 else (step,):
        for before in (zeros // 2, zeros - zeros // 2):
            if (spare + 2 * before - zeros) // stride + 1 == outputs:
                return before, stride, pad + before
    return None


class Source(NamedTuple):
    """A node that another one reads.

    Attributes:
      node: its name.
      padding: silent rows and columns to add to its maps.
    """

    node: str
    padding: tuple[int, int] = (0, 0)


class Convolution(NamedTuple):
    """A Conv2d node.

    Attributes:
      name: its name.
      source: the name of the node that it reads.
      weights: (F, C, kh, kw).
      stride: input rows and columns between neighbouring outputs.
      padding: silent rows and columns added to the input.
    """

    name: str
    source: str
    weights: np.ndarray
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)


class Builder:
    """Builds a NIR graph. Its methods add nodes, and return the name of the last one."""

    def __init__(self, package: Any, neuron: Neuron):
        self.package = package
        self.neuron = neuron
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.shapes: dict[str, tuple[int, int, int]] = {}  # (F, H, W) of the output of each node

    def add_input(self, shape: tuple[int, int, int]) -> str:
        self.nodes["input"] = self.package.Input({"input": np.array(shape)})
        self.shapes["input"] = shape
        return "input"

    def add_output(self, source: str) -> str:
        self.nodes["output"] = self.package.Output({"output": np.array(self.shapes[source])})
        self.edges.append((source, "output"))
        return "output"

    @property
    def is_chain(self) -> bool:
        """Whether no node has several inputs."""
        targets = [target for _, target in self.edges]
        return len({*targets}) == len(targets)

    def graph(self, metadata: dict[str, Any]) -> "NIRGraph":
        """The graph of all nodes added so far."""
        graph = self.package.NIRGraph(nodes=self.nodes, edges=self.edges)
        graph.metadata = metadata
        return graph

    def add_convolution(self, conv: Convolution, bias: np.ndarray | float = 0.0) -> str:
        """Adds a convolution with a `bias`, (F,) or a single number for all features."""
        size = self.shapes[conv.source][1:]
        features, channels, rows, columns = conv.weights.shape
        kernel = rows, columns
        padded = square(size, conv.name, kernel, conv.stride, conv.padding)
        weights = np.zeros((features, channels, padded.side, padded.side), np.float32)
        weights[padded.place(kernel)] = conv.weights
        self.nodes[conv.name] = self.package.Conv2d(
            input_shape=size,
            weight=weights,
            stride=padded.stride,
            padding=padded.padding,
            dilation=(1, 1),
            groups=1,
            bias=np.float32(np.broadcast_to(bias, features)),
        )
        self.edges.append((conv.source, conv.name))
        self.shapes[conv.name] = features, *map_size(size, conv.name, kernel, conv.stride, conv.padding)
        return conv.name

    def add_layer(self, name: str, convs: Sequence[Convolution], threshold: np.ndarray) -> str:
        """Adds neurons that fire if the sum of the convolutions is above `threshold`, (F,)."""
        sums = np.sum([conv.weights.sum(axis=(1, 2, 3), dtype=np.float64) for conv in convs], axis=0)
        # Several readers use one threshold for all neurons of a layer, so the thresholds of the features become biases.
        level = common_threshold(sums, threshold)
        neurons = f"{name}_neurons"
        for index, conv in enumerate(convs):
            source = self.add_convolution(conv, 0.0 if index else level - threshold)
            self.edges.append((source, neurons))
        ones = np.ones(self.shapes[source], np.float32)
        # The neurons have no memory, because a neuron that fires only once cannot be expressed by a v_reset of -1e9:
        # norse, snnTorch, sinabs and spyx ignore it, and SpikingJelly starts from it.
        if self.neuron == "IF":
            self.nodes[neurons] = self.package.IF(r=ones, v_threshold=level * ones)
        else:
            tau = np.float32(TAU) * ones
            self.nodes[neurons] = self.package.LIF(tau=tau, r=ones, v_leak=0 * ones, v_threshold=level * ones)
        self.shapes[neurons] = ones.shape
        return neurons

    def add_pool(self, name: str, source: str, pool: Pool) -> str:
        """Adds neurons that fire if any neuron in their window of the same map fires."""
        features = self.shapes[source][0]
        window = checks.pair("window", pool.window, 1)
        stride = checks.pair("stride", pool.stride or pool.window, 1)
        padding = checks.pair("padding", pool.padding, 0)
        # A dense convolution, because neither a pooling node nor a grouped convolution is supported by all of norse,
        # snnTorch, sinabs, spyx, SpikingJelly and jaxpike.
        weights = np.eye(features)[:, :, None, None] * np.ones(window)
        name = f"{name}_pool"
        return self.add_layer(name, [Convolution(name, source, weights, stride, padding)], np.full(features, 0.5))

    def add_concatenation(self, name: str, sources: Sequence[Source]) -> str:
        """Adds neurons that repeat the maps of all sources, one source after the other."""
        counts = [self.shapes[source.node][0] for source in sources]
        features = sum(counts)
        parts = np.split(np.eye(features)[:, :, None, None], np.cumsum(counts)[:-1], axis=1)
        convs = [
            Convolution(f"{name}_{number}", source.node, weights, padding=source.padding)
            for number, (source, weights) in enumerate(zip(sources, parts, strict=True), 1)
        ]
        return self.add_layer(name, convs, np.full(features, 0.5))

    def add_count(self, name: str, sources: Sequence[str], least: int) -> str:
        """Adds neurons that have one input in each source, and fire if at least `least` of these have fired."""
        features = self.shapes[sources[0]][0]
        weights = np.eye(features)[:, :, None, None]
        convs = [Convolution(f"{name}_{number}", source, weights) for number, source in enumerate(sources, 1)]
        return self.add_layer(name, convs, np.full(features, least - 0.5))
