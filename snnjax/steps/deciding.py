"""Kernels of layers that do not learn: of deciding layers, and of earlier ones where only who fires matters."""

from collections.abc import Sequence

from snnjax.layers.conv import Conv
from snnjax.layers.layer import LayerKernels
from snnjax.layers.layer_kernels import BLOCKS, READOUT, XLA
from snnjax.learners import RSTDP, SupervisedSTDP
from snnjax.networks import Earliest, Majority, Network

_WIDE = 64  # features from which kernels that add up integers, 64 of them side by side, are the faster ones


def deciding_kernels(network: Network, *, native: bool) -> dict[str, LayerKernels]:
    """Kernels of layers by which a network decides, none of which learns, by name; others have their usual ones."""
    timed = network.decision.timed
    convs = network.stages[-1].branches if network.deciding else ()
    learners = {type(conv.last_learner) for conv in convs}
    last = None if timed else XLA
    if native and learners == {RSTDP} and type(network.decision) is Majority:
        last = BLOCKS
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
    return dict.fromkeys(suit, BLOCKS)


def _suits(convs: Sequence[Conv], frozen: bool) -> bool:
    """Whether the kernels are faster for a stage of these layers; next to a layer that learns, times may be needed."""
    wide = all(conv.features >= _WIDE and (conv.one_threshold or conv.threshold is None) for conv in convs)
    return wide and (frozen or all(not conv.learners or conv.last_learner.supervised for conv in convs))
