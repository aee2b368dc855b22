"""As deep2024, but the third layer goes on learning by reward (github.com/aidinattar/snn)."""

import dataclasses

from snnjax.layers import RSTDP, STDP
from snnjax.networks.deep2024 import deep2024
from snnjax.networks.network import Network, stage


def deepr2024(input_shape: tuple[int, int, int] = (6, 28, 28), classes: int = 10) -> Network:
    """Layers 3 and 4 learn by reward from every image, layer 3 with its own winners."""
    deep = deep2024(input_shape, classes)
    third = dataclasses.replace(
        deep.stages[2].branches[0],
        radius=0,
        stdp=STDP(stabiliser=False),
        rstdp=RSTDP(reward=(0.001, -0.00075), punish=(-0.001, 0.000125), bounds=(0.0, 1.0)),
    )
    stages = (*deep.stages[:2], stage(third, pool=3), deep.stages[3])
    return dataclasses.replace(deep, name="deepr2024", stages=stages)


def deepr2024_2(input_shape: tuple[int, int, int] = (6, 28, 28), classes: int = 10) -> Network:
    """Layer 3 learns by reward in every other batch of the first epoch, layer 4 in all other batches."""
    return dataclasses.replace(deepr2024(input_shape, classes), name="deepr2024_2", reward_by_turns=True)
