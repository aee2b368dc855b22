"""Deep networks that learn from labels in every layer, each through the error of its own linear head.

The networks have the layers, the pooling and the readout of `goupy2024_softhebb`. Their layers learn by local errors
(Nøkland and Eidnes 2019, [arXiv 1901.06656](https://arxiv.org/abs/1901.06656)): by gradients that stay within a layer.
Every neuron fires at most once.
"""

import dataclasses
import math
from collections.abc import Sequence

from snnjax.layers.ramp import Ramp
from snnjax.learners import LocalError
from snnjax.networks.images import CIFAR10, ImageSpec
from snnjax.networks.network import Network
from snnjax.networks.softhebb import goupy2024_softhebb
from snnjax.networks.stage import Stage

IMAGES = 45_000
EPOCHS = (6, 6, 8)
"""Epochs of each layer with `IMAGES` labelled images."""
MAX_EPOCHS = 100
READOUT_EPOCHS = 12
BLOCKS = (4, 2, 1)
"""`LocalError.block` of each layer.

The head of the first layer of local_narrow classified 51.5 % of held-out images of CIFAR-10 correctly with blocks of 1,
53.7 % with 2 and 55.8 % with 4 (20,000 images, 4 epochs, seed 0, a rate that falls to 0 with each minibatch).
Overlapping windows like those of the next layer gave 56.0 %, but the whole epoch took a fifth longer than with 4.
"""
RATES = (0.02, 0.004, 0.001)
"""`LocalError.rate` of each layer of local_narrow.

They were chosen by the share of held-out images of CIFAR-10 that the head classified correctly (20,000 images, seed 0).
For layer 1 it was 55.7 % with 0.004, 56.6 % with 0.008, 57.6 % with 0.02 and 56.3 % with 0.05 (4 epochs; 58.7 % with
0.02 after 6). For layer 2 it was 65.1 % with 0.001, 66.5 % with 0.002, and 66.8 % with 0.004 and with 0.008 (4 epochs,
with a first layer that had learned with 0.002). For layer 3 it was 74.4 % with 0.001 (4 epochs, as before). With a rate
that rises to a peak and falls to 0, and with He initialisation, it was 70.6 % for a peak of 0.002, 73.6 % for 0.001 and
73.9 % for 0.0005. With the rates given here, the heads of the three layers reached 58.7, 71.2 and 76.1 % after 6 epochs
each. Copies of the inputs that were shifted by up to one position gave 57.6, 70.6 and 75.3 %.
"""
WIDE_RATES = (0.02, 0.002, 0.0003)
"""`LocalError.rate` of each layer of local_wide, whose layers 2 and 3 have two and four times as many inputs.

The rate of layer 2 is half of that in `RATES`, since it has twice as many inputs. The head of layer 2 classified 71.2 %
of 5,000 held-out images of CIFAR-10 correctly with 0.001, 70.9 % with 0.002 and 69.7 % with 0.004 (20,000 images, 4
epochs, seed 0); the difference between the first two is within the error of sampling 5,000 images (about 0.6 %). The
rate of layer 3 was chosen on 20,000 images of CIFAR-10 (seed 0), with 768 features: its head classified 75.0 % of the
held-out images correctly with 0.001, and 77.8 % with 0.0003 (3 epochs). Copies of the layer's inputs that were shifted
by up to one position gave 76.8 % with 0.0003.
"""
INITIAL_RATIO = 0.4
"""The standard deviation of the initial weights, divided by that of He initialisation.

The head of layer 3 reached 73.6 % with 1, 74.3 % with 0.4 and 73.6 % with 0.2 (as above, with a rate that rises and
falls). It made no difference in layer 1 (53.3 and 52.9 %).
"""
FINAL_RATE_RATIO = 0.1
"""The rate of a layer's last epoch, divided by that of its first.

With blocks of 1 a ratio of 0.01 gave 49.9 %, and 0.1 gave 51.4 %.
"""
FIRST_STEP_SHARE = 0.001
"""The share of the active neurons of a layer that fire at the first step of their window."""


def local_wide(
    images: ImageSpec = CIFAR10,
    *,
    features: Sequence[int] = (96, 384, 1536),
    rates: Sequence[float] = WIDE_RATES,
) -> Network:
    """The layers of goupy2024_softhebb, each of which learns from labels.

    Examples:
      >>> from snnjax.networks import local_wide
      >>> local_wide().shapes  # of the encoded image and of each stage
      ((3, 32, 32), (96, 16, 16), (384, 8, 8), (1536, 4, 4), (100, 1, 1))
    """
    network = goupy2024_softhebb(images, features=features)
    epochs = _epochs(images)
    shapes = network.weight_shapes.values()
    layers = zip(network.stages[:-1], shapes, epochs, rates, BLOCKS, strict=False)
    stages = [_with_local_error(*layer) for layer in layers]
    readout = images.epochs(supervised=READOUT_EPOCHS)
    return dataclasses.replace(
        network, name="local_wide", stages=(*stages, network.stages[-1]), epochs=(*epochs, *readout)
    )


def local_narrow(images: ImageSpec = CIFAR10) -> Network:
    """As local_wide with 48, 96 and 384 features: a tenth of the work.

    Examples:
      >>> from snnjax.networks import ImageSpec, local_narrow
      >>> local_narrow(ImageSpec((28, 28), classes=10)).shapes[-2:]  # of the last layer of features, and the readout
      ((384, 3, 3), (100, 1, 1))
    """
    return dataclasses.replace(local_wide(images, features=(48, 96, 384), rates=RATES), name="local_narrow")


def _with_local_error(stage: Stage, shape: tuple[int, ...], epochs: int, rate: float, block: int) -> Stage:
    """The stage with a plain ramp and small random weights, learning by LocalError."""
    (conv,) = stage.branches
    assert conv.ramp is not None
    annealing = round(FINAL_RATE_RATIO ** (1 / max(1, epochs - 1)), 4)
    conv = dataclasses.replace(
        conv,
        learners=LocalError(rate=rate, annealing=annealing, block=block),
        weight_std=INITIAL_RATIO * math.sqrt(2 / math.prod(shape[1:])),
        ramp=Ramp(first=FIRST_STEP_SHARE, inhibition=False, dendrites=conv.ramp.dendrites),
    )
    return dataclasses.replace(stage, branches=(conv,))


def _epochs(images: ImageSpec) -> tuple[int, ...]:
    """The epochs of each layer: more if fewer than `IMAGES` images have labels, by the square root of the ratio.

    The root is a choice between equally many epochs and equally many minibatches; its effect has not been measured.
    """
    labelled = max(1, images.count - images.held_out)
    factor = max(1.0, math.sqrt(IMAGES / labelled))
    return tuple(min(MAX_EPOCHS, round(factor * epochs)) for epochs in EPOCHS)
