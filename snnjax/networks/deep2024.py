"""A deeper digit network: three STDP layers and one decision layer (github.com/aidinattar/snn)."""

from snnjax.layers import RSTDP, STDP, Conv
from snnjax.networks.network import Network, Stage, stage


def stages(classes: int) -> tuple[Stage, ...]:
    """Three stages that learn by STDP, and a decision layer of 20 features to a class."""
    return (
        stage(Conv(30, kernel=5, padding=2, threshold=15, winners=5, radius=3, stdp=STDP()), pool=2),
        stage(Conv(150, kernel=3, padding=1, threshold=10, winners=8, radius=1, stdp=STDP()), pool=2),
        stage(Conv(250, kernel=3, padding=1, threshold=50, winners=15, radius=1, stdp=STDP()), pool=3),
        stage(Conv(20 * classes, kernel=5, padding=2, rstdp=RSTDP())),
    )


def deep2024(input_shape: tuple[int, int, int] = (6, 28, 28), classes: int = 10) -> Network:
    """The network for encoded images (C, H, W) of `classes` classes."""
    return Network("deep2024", input_shape, classes, stages(classes), epochs=(2, 4, 4, 10))
