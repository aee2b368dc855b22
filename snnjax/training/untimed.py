"""Stages of which it matters only who fires, by compiled kernels, on blocks of images."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from snnjax.kernels.native import STEPS, WIDE, reward
from snnjax.layers import TAPS, Conv, Form, Layer, native_pooling
from snnjax.networks import Network
from snnjax.windows import Pool


def forms(network: Network, native: bool) -> dict[str, Form]:
    """Forms of the layers before a decision that asks only who fires, by name; the others are left out."""
    convs = {name: conv for _, name, conv in network.layers() if name not in network.deciding}
    if not native or network.time_steps > STEPS or not all(conv.monotone for conv in convs.values()):
        return {}
    stages = [[name for name in names if name in convs] for names in network.names]
    return {name: FIRES for names in stages if _suits([convs[name] for name in names]) for name in names}


def _suits(convs: Sequence[Conv]) -> bool:
    """Whether the kernels are faster for a stage of these layers."""
    return all(conv.features >= WIDE and np.ndim(conv.threshold or 0) == 0 for conv in convs)


def _fires(layer: Layer, latencies: jax.Array, pool: Pool | None) -> jax.Array:
    conv, limits = layer.conv, dict[str, Any](time_steps=layer.time_steps)
    limits["threshold"] = 0.0 if conv.threshold is None else conv.threshold
    place: dict[str, Any] = dict(padding=conv.padding, stride=conv.stride)
    return reward.who_fires(latencies, layer.weights, **limits, **place, **native_pooling(conv, pool))


FIRES = TAPS._replace(fires=_fires)
"""As `TAPS`."""
