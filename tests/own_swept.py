"""A file of a user's: a rule and a network, for sweeps whose workers have to import it. Run by test_workers.py."""

from snnjax import RSTDP, STDP, WTA, Conv, Network, component, stage


@component
class Own(STDP):
    """A rule that this file alone knows."""


def network(images) -> Network:
    """A small network that learns by the rule, and then by reward."""
    first = Conv(4, kernel=5, padding=2, threshold=15, competition=WTA(2, radius=3), learners=Own())
    stages = stage(first, pool=7), stage(Conv(2 * images.classes, kernel=4, learners=RSTDP()))
    return Network("swept", images.input_shape, images.classes, stages)
