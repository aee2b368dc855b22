"""As mozafari2018, but three decision layers of different kernels vote (github.com/aidinattar/snn)."""

import dataclasses

from snnjax.layers import RSTDP, Conv
from snnjax.networks.mozafari2018 import mozafari2018
from snnjax.networks.network import Network, stage


def majority2024(input_shape: tuple[int, int, int] = (6, 28, 28), classes: int = 10) -> Network:
    """Each decision layer is rewarded by its own vote; two equal votes decide, else that of the middle layer."""
    shallow = mozafari2018(input_shape, classes)
    voters = stage(*(Conv(20 * classes, kernel, padding=2, rstdp=RSTDP()) for kernel in (3, 5, 7)))
    return dataclasses.replace(shallow, name="majority2024", stages=(*shallow.stages[:2], voters))
