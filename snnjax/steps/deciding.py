"""Kernels of layers that do not learn: of deciding layers, and of earlier ones where only who fires matters."""

import functools
from collections.abc import Sequence
from typing import Any, cast

import jax

from snnjax.kernels import Spikes, neurons
from snnjax.kernels.native import blocks, readout
from snnjax.layers.conv import Conv
from snnjax.layers.layer import LayerKernels
from snnjax.layers.layer_kernels import TAPS, XLA, native_pooling
from snnjax.layers.pool import Pool
from snnjax.layers.spiking import Layer
from snnjax.learners import RSTDP, SupervisedSTDP
from snnjax.networks import Earliest, Majority, Network

_WIDE = 64  # features from which kernels that add up integers, 64 of them side by side, are the faster ones


def deciding_kernels(network: Network, *, native: bool, scores: bool) -> dict[str, LayerKernels]:
    """Kernels of layers by which a network decides, none of which learns, by name; others have their usual ones.

    Without `scores` they may compute decisions without right scores.
    """
    timed = network.decision.timed
    convs = network.stages[-1].branches if network.deciding else ()
    learners = {type(conv.last_learner) for conv in convs}
    last = None if timed else TAPS
    if native and learners == {RSTDP} and type(network.decision) is Majority:
        last = SCORED if scores else STRONGEST
    elif native and learners == {SupervisedSTDP} and type(network.decision) is Earliest and suits_readout(convs):
        last = READOUT
    before = {} if timed else kernels_before(network, native)
    return before | (dict.fromkeys(network.deciding, last) if last else {})


def suits_readout(convs: Sequence[Conv]) -> bool:
    """Whether the compiled kernels of readouts can compute layers: no padding, no strides."""
    return all(conv.padding in (0, (0, 0)) and conv.stride in (1, (1, 1)) for conv in convs)


def kernels_before(network: Network, native: bool) -> dict[str, LayerKernels]:
    """Kernels of the layers before a decision that asks only who fires, by name; the others are left out."""
    convs = {name: conv for _, name, conv in network.layers() if name not in network.deciding}
    if not native or not all(conv.monotone for conv in convs.values()):
        return {}
    suit: list[str] = []
    for number, names in enumerate(network.names):
        stage = [convs[name] for name in names if name in convs]
        suit += names if stage and _suits(stage, number < network.first_supervised) else []
    return dict.fromkeys(suit, FIRES)


def _suits(convs: Sequence[Conv], frozen: bool) -> bool:
    """Whether the kernels are faster for a stage of these layers; next to a layer that learns, times may be needed."""
    wide = all(conv.features >= _WIDE and (conv.one_threshold or conv.threshold is None) for conv in convs)
    return wide and (frozen or all(not conv.learners or conv.last_learner.supervised for conv in convs))


def _fires(layer: Layer, latencies: jax.Array, pool: Pool | None) -> jax.Array:
    conv = layer.conv
    return blocks.who_fires(
        latencies,
        layer.stored,
        time_steps=layer.time_steps,
        threshold=0.0 if conv.threshold is None else cast(Any, conv.threshold),
        padding=conv.padding,
        stride=conv.stride,
        pool=native_pooling(conv, pool),
    )


def _strongest(layer: Layer, latencies: jax.Array, winner_only: bool) -> Spikes:
    potential = blocks.strongest_of_classes(
        latencies,
        layer.stored,
        winner_only=winner_only,
        padding=layer.conv.padding,
        stride=layer.conv.stride,
        classes=layer.classes,
        time_steps=layer.time_steps,
    )
    return neurons.fire_at_last_step(potential[..., None, None], time_steps=layer.time_steps)


def _earliest(layer: Layer, latencies: jax.Array) -> Spikes:
    return readout.earliest_of_classes(
        latencies,
        layer.stored,
        classes=layer.classes,
        time_steps=layer.time_steps,
        threshold=cast(Any, layer.conv.threshold),
        fractional=layer.conv.fractional,
    )


FIRES = TAPS._replace(fires=_fires)
"""As `TAPS`; who fires, by compiled kernels."""
SCORED = TAPS._replace(of_classes=functools.partial(_strongest, winner_only=False))
"""As `TAPS`; decisions of `Majority` by compiled kernels."""
STRONGEST = TAPS._replace(of_classes=functools.partial(_strongest, winner_only=True))
"""The same decisions and votes; each layer gives only the score of its own vote."""
READOUT = XLA._replace(of_classes=_earliest)
"""As `XLA`; decisions of `Earliest` by compiled kernels."""
