"""Graphs of NIR in the making: convolutions, and neurons without memory that fire above a threshold."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from snnjax.core import checks
from snnjax.layers.pool import Pool, map_size

if TYPE_CHECKING:
    from nir import NIRGraph

Neuron = Literal["IF", "LIF"]
TAU = 1e-4
"""Time constant of LIF nodes and step of the simulation, in seconds: within a step such a neuron forgets all."""


def common_threshold(sums: np.ndarray, threshold: np.ndarray) -> float:
    """The threshold B of all neurons of a layer: V - threshold stays below B, since some fire twice above 2 B."""
    return 2.0 ** math.ceil(math.log2(max(float((sums - threshold).max()) + 1, 1)))


class Source(NamedTuple):
    """A node that is read.

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
    """A graph of NIR in the making. Its methods add nodes, and return the name of the last one."""

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
        """The graph, once it is complete."""
        graph = self.package.NIRGraph(nodes=self.nodes, edges=self.edges)
        graph.metadata = metadata
        return graph

    def add_convolution(self, conv: Convolution, bias: np.ndarray | float = 0.0) -> str:
        """A convolution with a `bias`, (F,) or one for all features."""
        size = self.shapes[conv.source][1:]
        features, _, rows, columns = conv.weights.shape
        self.nodes[conv.name] = self.package.Conv2d(
            input_shape=size,
            weight=np.float32(conv.weights),
            stride=conv.stride,
            padding=conv.padding,
            dilation=(1, 1),
            groups=1,
            bias=np.float32(np.broadcast_to(bias, features)),
        )
        self.edges.append((conv.source, conv.name))
        self.shapes[conv.name] = features, *map_size(size, conv.name, (rows, columns), conv.stride, conv.padding)
        return conv.name

    def add_layer(self, name: str, convs: Sequence[Convolution], threshold: np.ndarray) -> str:
        """Neurons that fire where the sum of some convolutions is above `threshold`, (F,)."""
        sums = np.sum([conv.weights.sum(axis=(1, 2, 3), dtype=np.float64) for conv in convs], axis=0)
        level = common_threshold(sums, threshold)
        neurons = f"{name}_neurons"
        for index, conv in enumerate(convs):
            source = self.add_convolution(conv, 0.0 if index else level - threshold)
            self.edges.append((source, neurons))
        ones = np.ones(self.shapes[source], np.float32)
        if self.neuron == "IF":
            self.nodes[neurons] = self.package.IF(r=ones, v_threshold=level * ones)
        else:
            tau = np.float32(TAU) * ones
            self.nodes[neurons] = self.package.LIF(tau=tau, r=ones, v_leak=0 * ones, v_threshold=level * ones)
        self.shapes[neurons] = ones.shape
        return neurons

    def add_pool(self, name: str, source: str, pool: Pool) -> str:
        """Neurons that fire with any in their window of the same map."""
        features = self.shapes[source][0]
        window = checks.pair("window", pool.window, 1)
        stride = checks.pair("stride", pool.stride or pool.window, 1)
        padding = checks.pair("padding", pool.padding, 0)
        weights = np.eye(features)[:, :, None, None] * np.ones(window)
        name = f"{name}_pool"
        return self.add_layer(name, [Convolution(name, source, weights, stride, padding)], np.full(features, 0.5))

    def add_concatenation(self, name: str, sources: Sequence[Source]) -> str:
        """The maps of all sources, one after the other."""
        counts = [self.shapes[source.node][0] for source in sources]
        features = sum(counts)
        parts = np.split(np.eye(features)[:, :, None, None], np.cumsum(counts)[:-1], axis=1)
        convs = [
            Convolution(f"{name}_{number}", source.node, weights, padding=source.padding)
            for number, (source, weights) in enumerate(zip(sources, parts, strict=True), 1)
        ]
        return self.add_layer(name, convs, np.full(features, 0.5))

    def add_count(self, name: str, sources: Sequence[str], least: int) -> str:
        """Neurons that fire where at least so many of their inputs have fired, one in each source."""
        features = self.shapes[sources[0]][0]
        weights = np.eye(features)[:, :, None, None]
        convs = [Convolution(f"{name}_{number}", source, weights) for number, source in enumerate(sources, 1)]
        return self.add_layer(name, convs, np.full(features, least - 0.5))
