"""As mozafari2018, but three deciding layers of different kernels vote (github.com/aidinattar/snn)."""

from snnjax.layers import Conv
from snnjax.learners import RSTDP
from snnjax.networks.mozafari2018 import stages as shallow_stages
from snnjax.networks.network import Network, stage


def majority2024(input_shape: tuple[int, int, int] = (6, 28, 28), classes: int = 10) -> Network:
    """Each deciding layer is rewarded by its own vote; two equal votes decide, else that of the middle layer."""
    voters = stage(*(Conv(20 * classes, kernel, padding=2, learners=RSTDP()) for kernel in (3, 5, 7)))
    stages = (*shallow_stages(classes)[:2], voters)
    return Network("majority2024", input_shape, classes, stages, epochs=(2, 4, 100))
