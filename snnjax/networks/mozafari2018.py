"""The digit network of Mozafari et al. 2019 (arXiv 1804.00227): two STDP layers and one deciding layer."""

from snnjax.layers import WTA, Conv
from snnjax.learners import RSTDP, STDP
from snnjax.networks.network import Network, Stage, stage


def stages(classes: int) -> tuple[Stage, ...]:
    """Two stages that learn by STDP, and a deciding layer of 20 features to a class."""
    return (
        stage(Conv(30, kernel=5, padding=2, threshold=15, competition=WTA(5, radius=3), learners=STDP()), pool=2),
        stage(Conv(250, kernel=3, padding=1, threshold=10, competition=WTA(8, radius=1), learners=STDP()), pool=3),
        stage(Conv(20 * classes, kernel=5, padding=2, learners=RSTDP())),
    )


def mozafari2018(input_shape: tuple[int, int, int] = (6, 28, 28), classes: int = 10) -> Network:
    """The network for encoded images (C, H, W) of `classes` classes."""
    return Network("mozafari2018", input_shape, classes, stages(classes), epochs=(2, 4, 100))
