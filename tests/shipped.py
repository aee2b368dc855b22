"""The shipped networks, ready to use: made for grey images of 28x28 pixels, with what is fitted to images fitted."""

import dataclasses
import functools

import numpy as np

from snnjax.app.names import RECORDED
from snnjax.data import digits
from snnjax.layers.conv import Conv
from snnjax.networks import NETWORKS, Network
from snnjax.networks.decision import is_fitted, unfitted
from snnjax.training.run_plan import network_for

NAMES = tuple(NETWORKS)
ALIKE = ("deep2024", "deepr2024_2", "goupy2024_pcn", "goupy2024_s2stdp", "local_wide")
"""Made of the same kinds of layers and learners as another shipped network, in other numbers."""


@functools.cache
def shipped(name: str) -> Network:
    """A network by its name; those of the PyTorch code have six input maps and no encoder."""
    if name in RECORDED:
        return NETWORKS[name]()
    data = digits().subset(60, 20)
    network = network_for(NETWORKS[name], data)
    if unfitted(network.encoder):
        network = dataclasses.replace(network, encoder=network.encoder.fit(data.train_images))
    stages = [dataclasses.replace(x, branches=tuple(map(_with_levels, x.branches))) for x in network.stages]
    network = dataclasses.replace(network, stages=tuple(stages))
    if is_fitted(network.decision):
        outputs = np.random.default_rng(0).integers(0, 16, (60, *network.shapes[-1])).astype(np.uint8)
        decision = network.decision.fit(outputs, data.train_labels, network.classes, network.time_steps)
        network = dataclasses.replace(network, decision=decision)
    return network


def _with_levels(conv: Conv) -> Conv:
    """A layer whose ramp, if it has one, is fitted."""
    return conv if conv.ramp is None else dataclasses.replace(conv, ramp=conv.ramp.fit(np.linspace(0, 9), 255))
