"""As deep2024, but the third layer goes on learning by reward (github.com/aidinattar/snn)."""

import dataclasses

from snnjax.layers import WTA
from snnjax.learners import RSTDP, STDP
from snnjax.networks.deep2024 import stages as deep_stages
from snnjax.networks.network import Network, Stage, stage


def stages(classes: int) -> tuple[Stage, ...]:
    """The stages of deep2024 with two that learn by reward."""
    first, second, third, decision = deep_stages(classes)
    rewarded = dataclasses.replace(
        third.branches[0],
        competition=WTA(15),
        learners=(
            STDP(stabiliser=False),
            RSTDP(reward=(0.001, -0.00075), punish=(-0.001, 0.000125), bounds=(0.0, 1.0)),
        ),
    )
    return first, second, stage(rewarded, pool=3), decision


def deepr2024(input_shape: tuple[int, int, int] = (6, 28, 28), classes: int = 10) -> Network:
    """Layers 3 and 4 learn by reward from every image, layer 3 with its own winners."""
    return Network("deepr2024", input_shape, classes, stages(classes), epochs=(2, 4, 4, 10))


def deepr2024_2(input_shape: tuple[int, int, int] = (6, 28, 28), classes: int = 10) -> Network:
    """Layer 3 learns by reward in every other batch of the first epoch, layer 4 in all other batches."""
    return Network("deepr2024_2", input_shape, classes, stages(classes), epochs=(2, 4, 4, 10), reward_by_turns=True)
