"""Deep features with labels in every layer, each of which learns by the error of a linear head of its own.

The networks have the layers, the pooling and the readout of `goupy2024_softhebb`. Their layers learn by local errors
(Nøkland and Eidnes 2019, [arXiv 1901.06656](https://arxiv.org/abs/1901.06656)): by gradients within a layer, none of
which passes to another layer. Every neuron fires at most once.
"""

import dataclasses
import math
from collections.abc import Sequence

from snnjax.layers.conv import Conv
from snnjax.layers.ramp import Ramp
from snnjax.learners import LocalError
from snnjax.networks.images import CIFAR10, ImageSpec
from snnjax.networks.network import Network
from snnjax.networks.softhebb import goupy2024_softhebb

IMAGES = 45_000
EPOCHS = (3, 6, 8)
"""Epochs of each layer with `IMAGES` labelled images."""
MAX_EPOCHS = 100
READOUT_EPOCHS = 16
BLOCKS = (4, 2, 1)
"""Of each layer, as of `LocalError.block`.

The head of the first layer was right for 51.5 % of the same images with blocks of 1, 53.7 % with 2, 55.8 % with 4, and
56.0 % where it saw overlapping windows, as the next layer does, which takes twice the time.
"""
FINAL_RATE_RATIO = 0.1
"""The rate of a layer's last epoch, divided by that of its first.

With 0.01 the head of the first layer of local_narrow was right for 49.9 % of held-out images of CIFAR-10, with 0.1 for
51.4 %, with a rate that falls linearly to 0 for 51.5 % (20,000 images, 4 epochs, seed 0, `BLOCKS` of 1).
"""
FIRST_STEP_SHARE = 0.001
"""The share of the active neurons of a layer that fire at the first step of their window."""


def local_wide(images: ImageSpec = CIFAR10, *, features: Sequence[int] = (96, 384, 1536)) -> Network:
    """The layers of goupy2024_softhebb, each of which learns from labels."""
    network = goupy2024_softhebb(images, features=features)
    epochs = _epochs(images)
    stages = list(network.stages)
    for place, shape in enumerate([*network.weight_shapes.values()][:-1]):
        (conv,) = stages[place].branches
        annealing = round(FINAL_RATE_RATIO ** (1 / max(1, epochs[place] - 1)), 4)
        rule = LocalError(annealing=annealing, block=BLOCKS[place])
        stages[place] = dataclasses.replace(stages[place], branches=(_labelled(conv, shape, rule),))
    readout = images.epochs(supervised=READOUT_EPOCHS)
    return dataclasses.replace(network, name="local_wide", stages=tuple(stages), epochs=(*epochs, *readout))


def local_narrow(images: ImageSpec = CIFAR10) -> Network:
    """As local_wide with 48, 96 and 384 features: a tenth of the work."""
    return dataclasses.replace(local_wide(images, features=(48, 96, 384)), name="local_narrow")


def _labelled(conv: Conv, shape: tuple[int, ...], rule: LocalError) -> Conv:
    """A layer with weights of a shape, which learns by a rule."""
    assert conv.ramp is not None
    return dataclasses.replace(
        conv,
        learners=rule,
        weight_std=math.sqrt(2 / math.prod(shape[1:])),  # He initialisation
        ramp=Ramp(first=FIRST_STEP_SHARE, inhibition=False, dendrites=conv.ramp.dendrites),
    )


def _epochs(images: ImageSpec) -> tuple[int, ...]:
    """Epochs of each layer: with fewer labelled images than `IMAGES` more, by the root of the ratio."""
    labelled = max(1, images.count - images.held_out)
    factor = max(1.0, math.sqrt(IMAGES / labelled))
    return tuple(min(MAX_EPOCHS, round(factor * epochs)) for epochs in EPOCHS)
