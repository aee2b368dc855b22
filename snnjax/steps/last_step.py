"""Stages of which it matters only who fires, by compiled kernels, on blocks of images."""

from collections.abc import Sequence
from typing import Any

import jax

from snnjax.kernels.native import STEPS, WIDE, reward
from snnjax.layers.conv import Conv
from snnjax.layers.layer import LayerKernels
from snnjax.layers.layer_kernels import TAPS, native_pooling
from snnjax.layers.pool import Pool
from snnjax.layers.spiking import Layer
from snnjax.networks import Network


def kernels_of(network: Network, native: bool) -> dict[str, LayerKernels]:
    """Kernels of the layers before a decision that asks only who fires, by name; the others are left out."""
    convs = {name: conv for _, name, conv in network.layers() if name not in network.deciding}
    if not native or network.time_steps > STEPS or not all(conv.monotone for conv in convs.values()):
        return {}
    suit: list[str] = []
    for number, names in enumerate(network.names):
        stage = [convs[name] for name in names if name in convs]
        suit += names if stage and _suits(stage, number < network.first_supervised) else []
    return dict.fromkeys(suit, FIRES)


def _suits(convs: Sequence[Conv], frozen: bool) -> bool:
    """Whether the kernels are faster for a stage of these layers; beside one that learns, times may be needed."""
    wide = all(conv.features >= WIDE and (conv.one_threshold or conv.threshold is None) for conv in convs)
    return wide and (frozen or all(conv.supervised.supervised for conv in convs))


def _fires(layer: Layer, latencies: jax.Array, pool: Pool | None) -> jax.Array:
    conv = layer.conv
    limits = dict[str, Any](time_steps=layer.time_steps)
    limits["threshold"] = 0.0 if conv.threshold is None else conv.threshold
    place: dict[str, Any] = dict(padding=conv.padding, stride=conv.stride)
    return reward.who_fires(latencies, layer.stored, **limits, **place, **native_pooling(conv, pool))


FIRES = TAPS._replace(fires=_fires)
"""As `TAPS`."""
