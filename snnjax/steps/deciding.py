"""Kernels of layers that do not learn: of deciding layers, and of earlier ones where only who fires matters."""

from collections.abc import Sequence

import numpy as np

from snnjax.layers.conv import Conv
from snnjax.layers.layer import LayerKernels
from snnjax.layers.layer_kernels import BLOCKS, READOUT, XLA
from snnjax.learners import RSTDP
from snnjax.networks import Earliest, Majority, Network
from snnjax.networks.batches import only_firing_matters

_WIDE = 64  # features from which kernels that add up integers, 64 of them side by side, are the faster ones


def deciding_kernels(network: Network, *, native: bool) -> dict[str, LayerKernels]:
    """Kernels of layers by which a network decides, none of which learns, by name; others have their usual ones."""
    convs = network.stages[-1].branches if network.deciding else ()
    learners = {type(conv.last_learner) for conv in convs}
    last = None if network.timed else XLA
    if native and learners == {RSTDP} and type(network.decision) is Majority:
        last = BLOCKS
    elif native and type(network.decision) is Earliest and suits_readout(convs, network.input_shapes[-1][1:]):
        last = READOUT
    kernels = dict.fromkeys(network.deciding, last) if last else {}
    convs_before = [conv for stage in network.stages[:-1] for conv in stage.branches]
    if native and only_firing_matters(network, all(conv.monotone for conv in convs_before)):
        for number, stage in enumerate(network.stages[:-1]):
            if _suits(stage.branches, frozen=number < network.first_supervised):
                kernels |= dict.fromkeys(network.names[number], BLOCKS)
    return kernels


def suits_readout(convs: Sequence[Conv], size: tuple[int, int]) -> bool:
    """Whether the compiled kernels of readouts can compute layers: all see the whole input, of this size."""

    def suits(conv: Conv) -> bool:
        plain = conv.padding in (0, (0, 0)) and conv.stride in (1, (1, 1)) and conv.output_size(size) == (1, 1)
        fires = conv.monotone and conv.threshold is not None and np.min(conv.threshold) >= 0
        return bool(plain and fires and not conv.own_thresholds)

    return all(map(suits, convs))


def _suits(convs: Sequence[Conv], *, frozen: bool) -> bool:
    """Whether the kernels that add up integers are faster for a stage of these layers, `frozen` ones or such as learn.

    Beside a layer that learns, one that does not is computed for each image, with its times.
    """
    wide = all(conv.features >= _WIDE and (conv.one_threshold or conv.threshold is None) for conv in convs)
    return wide and (frozen or all(not conv.learners or conv.last_learner.supervised for conv in convs))
