"""A digit network with three kernel sizes side by side in its third stage (github.com/aidinattar/snn)."""

from snnjax.layers import WTA, Conv
from snnjax.learners import RSTDP, STDP
from snnjax.networks.network import Network, stage


def inception2024(input_shape: tuple[int, int, int] = (6, 28, 28), classes: int = 10) -> Network:
    """The network for encoded images (C, H, W) of `classes` classes, 20 features of the deciding layer to a class."""
    branches = (
        Conv(
            100, kernel, padding=1, threshold=50, competition=WTA(15, radius=1), learners=STDP(), output_padding=margin
        )
        for kernel, margin in ((3, 0), (5, 1), (7, 2))
    )
    return Network(
        name="inception2024",
        input_shape=input_shape,
        classes=classes,
        stages=(
            stage(Conv(30, kernel=5, padding=2, threshold=15, competition=WTA(5, radius=3), learners=STDP()), pool=2),
            stage(Conv(75, kernel=3, padding=1, threshold=10, competition=WTA(8, radius=1), learners=STDP()), pool=2),
            stage(*branches, pool=3),
            stage(Conv(20 * classes, kernel=5, padding=2, learners=RSTDP())),
        ),
        epochs=(2, 4, 4, 10),
    )
