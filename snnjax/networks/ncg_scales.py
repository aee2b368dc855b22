"""Features with target times of several sizes side by side, under one readout.

The parts are those of goupy2024_ncg.
"""

import dataclasses
import math
from typing import Any

from snnjax.networks.goupy2024 import POOL, goupy2024_ncg
from snnjax.networks.images import CIFAR10, Images
from snnjax.networks.joins import Flatten
from snnjax.networks.network import Network
from snnjax.networks.stage import stage

SIZES = (5, 7)
"""Rows and columns of the features."""
NEURONS = 10  # of a class
EPOCHS = 30  # of the readout at most


def ncg_scales(images: Images = CIFAR10) -> Network:
    """As goupy2024_ncg, with features of 5x5 and 7x7 and ten neurons a class."""
    network = goupy2024_ncg(images)
    plain: Any = network.stages[0].branches[0]
    last: Any = network.stages[1].branches[0]
    stages = []
    names = []
    epochs = []
    inputs = 0
    for size in SIZES:
        threshold = plain.threshold * (size / plain.kernel) ** 2  # in proportion to what they see
        features = dataclasses.replace(plain, kernel=size, threshold=threshold)
        stages.append(stage(features, pool=POOL, inputs="encoder"))
        names.append(f"stage{len(stages)}")
        epochs.append(network.epochs[0])
        inputs += features.features * math.prod(POOL.output_size(features.output_size(network.input_shape[1:])))
    readout = dataclasses.replace(
        last,
        features=NEURONS * images.classes,
        kernel=1,
        threshold=last.threshold * inputs / math.prod(network.weight_shapes["layer2"][1:]),
    )
    stages.append(stage(readout, inputs=tuple(names), join=Flatten()))
    epochs.append(network.epochs[-1] if images.few else min(network.epochs[-1], EPOCHS))
    return dataclasses.replace(network, name="ncg_scales", stages=tuple(stages), epochs=tuple(epochs))
