"""Networks with weights of few bits, whose potentials are sums of integers."""

import dataclasses
from typing import NamedTuple

import numpy as np

from snnjax.core import checks
from snnjax.core.errors import InputError
from snnjax.layers.conv import Conv
from snnjax.networks.spiking_network import SpikingNetwork

MOST_BITS = 8
_HIGHEST = 2.0**53  # threshold: no sum of weights is as large


class IntegerLayer(NamedTuple):
    """A layer in integers: a neuron fires where the sum of its weights at inputs that have fired is above `threshold`.

    Attributes:
      weights: (F, C, kh, kw) uint8, 0 to 2^bits - 1.
      threshold: (F,) int64; -1 of a feature whose threshold is below 0, 0 where the layer has none.
    """

    weights: np.ndarray
    threshold: np.ndarray


def integer_layers(network: SpikingNetwork, bits: int) -> dict[str, IntegerLayer]:
    """Each spiking layer of a network in integers, by its name: a layer's largest weight becomes 2^bits - 1.

    Thresholds are rounded down, since sums are integers. Raises InputError for other than 1 to 8 bits, and where
    weights are below 0.
    """
    checks.integer("bits", bits, 1, MOST_BITS)
    layers: dict[str, IntegerLayer] = {}
    weights = network.weights()
    for _, name, conv in network.spec.layers():
        if conv.real:
            continue
        values = np.asarray(weights[name], np.float64)
        if values.min() < 0:
            raise InputError(f"`weights` of {name} must be at least 0 for weights of few bits, got {values.min():.4g}")
        unit = (values.max() or 1.0) / (2**bits - 1)
        threshold = 0.0 if conv.threshold is None else np.asarray(conv.threshold, np.float64)
        limits = np.clip(np.floor(threshold / unit), -1, _HIGHEST).astype(np.int64)
        layers[name] = IntegerLayer(np.rint(values / unit).astype(np.uint8), np.broadcast_to(limits, conv.features))
    return layers


def quantise(network: SpikingNetwork, bits: int) -> SpikingNetwork:
    """The network of the `integer_layers` of a network, as multiples of 2^-bits; real-valued layers stay as they are.

    Raises InputError as `integer_layers`.
    """
    layers = integer_layers(network, bits)
    unit = 2.0**-bits
    spec = network.spec
    weights = {name: np.asarray(values) for name, values in network.weights().items()}
    weights |= {name: (layer.weights * unit).astype(np.float32) for name, layer in layers.items()}
    stages = []
    for names, stage in zip(spec.names, spec.stages, strict=True):
        branches = [
            _with_limits(conv, layers.get(name), unit) for name, conv in zip(names, stage.branches, strict=True)
        ]
        stages.append(dataclasses.replace(stage, branches=tuple(branches)))
    described = dataclasses.replace(spec, stages=tuple(stages))
    return SpikingNetwork(described, weights=weights, class_names=network.class_names)


def _with_limits(conv: Conv, layer: IntegerLayer | None, unit: float) -> Conv:
    """The description of a layer with the threshold that it has in integers, in multiples of a unit."""
    if layer is None or conv.threshold is None:
        return conv
    limits: np.ndarray = (layer.threshold * unit).astype(np.float32)
    return dataclasses.replace(conv, threshold=limits if np.ndim(conv.threshold) else float(limits[0]))
