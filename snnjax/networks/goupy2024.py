"""Features with target times under readouts that learn by supervised STDP, for images of any size.

Goupy et al. 2024, Paired competing neurons improving STDP supervised local learning in spiking neural networks (SSTDP,
S2-STDP, PCN), and Neuronal competition groups with supervised STDP for spike-based classification (NCG). The features
are those of Falez et al. 2019. Links: [paired competing neurons](https://doi.org/10.3389/fnins.2024.1401690),
[neuronal competition groups](https://ggoupy.github.io/publication/2024-ncg),
[features](https://arxiv.org/abs/1904.01908).
"""

import dataclasses
import math
from typing import Any

from snnjax.core.defaults import EPOCHS_OF_FEW, FEW
from snnjax.encoding import EventEncoder, ImageEncoder, OnOff, Whitening
from snnjax.layers.conv import Conv
from snnjax.layers.pool import Pool
from snnjax.learners import SupervisedSTDP, TargetTime
from snnjax.networks.decision import Earliest
from snnjax.networks.images import CIFAR10, MNIST, ImageSpec, check_images
from snnjax.networks.joins import Flatten
from snnjax.networks.network import Network
from snnjax.networks.stage import stage

LEARNED_PATCHES = 60_000
"""Patches that the features learn from in an epoch, however few images there are."""
POOL = Pool(4)
# Accuracy on held-out images of CIFAR-10 with ten neurons per class: 66.1 % with only 5x5 features, 66.4 % with 3x3
# features in addition, 66.8 % with 7x7 features in addition.
SIZES = (5, 7)
"""Rows and columns of the features of ncg_scales."""
OF_IMAGES: dict[tuple[int, ...], ImageEncoder] = {
    (): OnOff(),
    (2,): EventEncoder(255, equal_counts=False),
    (3,): Whitening(),
}
"""Of grey images, recordings and colour images, by the axes of an image behind the second."""


GREY = Conv(
    128,
    5,
    threshold=5.0,
    weight_mean=0.5,
    weight_std=0.01,
    learners=TargetTime(0.75, annealing=0.8, patches=LEARNED_PATCHES),
)
"""Features of grey images and recordings, with the most patches of an image that they learn from in an epoch."""
# SSTDP on MNIST, held out, three seeds: 96.06 % with this target time, 95.94 % with the published 0.75.
LATER = dataclasses.replace(GREY, learners=dataclasses.replace(GREY.learners, target_time=0.8))
# Held-out images of CIFAR-10: 65.6 % with 256 features, 65.1 % with 128. With more patches of few images the features
# would learn the same patches again and again, and fewer of them would fire.
COLOUR = dataclasses.replace(GREY, features=256, threshold=10.0, learners=TargetTime(0.95, annealing=0.92, patches=10))

# Published are half this a+, weights of 0.5 and t* = 0.75: 0.3 points worse on held-out images of MNIST.
SSTDP = SupervisedSTDP(0.02, 0.0, gap=0.09, competition=False, non_targets=0, one_sided=True, normalise=False)
S2STDP = SupervisedSTDP(0.005, -0.05, gap=0.04, competition=False, non_targets=0)
PCN = SupervisedSTDP(0.001, -0.1, gap=0.02)
NCG = SupervisedSTDP(0.05, -0.1, gap=0.03, threshold_rate=10.0, threshold_annealing=0.5)
# Held-out images of CIFAR-10: A- of -0.1 reaches 63.1 %, the published -0.05 62.4 %. With times within steps, -0.2 and
# a gap of 0.0075 are worse than these (64.9 and 63.8 instead of 65.1 %).
NCG_COLOUR = SupervisedSTDP(0.1, -0.1, gap=0.005, threshold_rate=5.0, threshold_annealing=0.5)


def goupy2024_sstdp(images: ImageSpec = MNIST) -> Network:
    """One neuron per class: that of the label should fire early, all other neurons late (SSTDP).

    Examples:
      >>> from snnjax.networks import ImageSpec, goupy2024_sstdp
      >>> goupy2024_sstdp(ImageSpec((28, 28), classes=10)).shapes  # of the encoded image, then of each stage
      ((2, 28, 28), (128, 6, 6), (10, 1, 1))
    """
    return _network("goupy2024_sstdp", images, SSTDP, neurons=1, threshold=200, features=LATER)


def goupy2024_s2stdp(images: ImageSpec = MNIST) -> Network:
    """One neuron a class, each brought to its desired time (S2-STDP).

    Examples:
      >>> from snnjax.networks import ImageSpec, goupy2024_s2stdp
      >>> goupy2024_s2stdp(ImageSpec((32, 32, 3), classes=10)).shapes  # of the encoded image, then of each stage
      ((6, 32, 32), (256, 7, 7), (10, 1, 1))
    """
    return _network("goupy2024_s2stdp", images, S2STDP, neurons=1, threshold=250)


def goupy2024_pcn(images: ImageSpec = MNIST) -> Network:
    """A pair of competing neurons per class, one for images of the class and one for all other images (PCN).

    Examples:
      >>> from snnjax.networks import ImageSpec, goupy2024_pcn
      >>> goupy2024_pcn(ImageSpec((28, 28), classes=10)).shapes  # of the encoded image, then of each stage
      ((2, 28, 28), (128, 6, 6), (20, 1, 1))
    """
    return _network("goupy2024_pcn", images, PCN, neurons=2, threshold=250)


def goupy2024_ncg(images: ImageSpec = MNIST) -> Network:
    """Five competing neurons per class, four of which share its images by thresholds that adapt (NCG).

    Examples:
      >>> from snnjax.networks import ImageSpec, goupy2024_ncg
      >>> goupy2024_ncg(ImageSpec((28, 28), classes=10)).shapes  # of the encoded image, then of each stage
      ((2, 28, 28), (128, 6, 6), (50, 1, 1))
      >>> goupy2024_ncg(ImageSpec((34, 34, 2), classes=10)).shapes  # for the pictures of an event camera
      ((2, 34, 34), (128, 7, 7), (50, 1, 1))
    """
    check_images(images)
    if images.shape[2:] != (3,):
        # More epochs hardly help on MNIST: 13 reach 98.73 %, 15 reach 98.76 % and 20 reach 98.82 % (five seeds each).
        return _network("goupy2024_ncg", images, NCG, neurons=5, threshold=200, epochs=14)
    # The fewer images features learn from, the fewer of them fire: with 1,000 images of CIFAR-10, 300 gives 51 % and
    # 400 only 35 %. With all images 800 is too high: neurons fire at 0.99 T, 64.2 instead of 65.6 %.
    threshold = 300 if images.total < FEW else 660
    return _network("goupy2024_ncg", images, NCG_COLOUR, neurons=5, threshold=threshold, inputs=12544, epochs=60)


def ncg_scales(images: ImageSpec = CIFAR10) -> Network:
    """As goupy2024_ncg, with features of 5x5 and 7x7 and ten neurons per class.

    Examples:
      >>> from snnjax.networks import ImageSpec, ncg_scales
      >>> ncg_scales(ImageSpec((32, 32, 3), classes=10)).shapes  # of the encoded image, then of each stage
      ((6, 32, 32), (256, 7, 7), (256, 6, 6), (100, 1, 1))
    """
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
        # With five neurons per class: 66.1 instead of 66.8 % of held-out images of CIFAR-10.
        features=10 * images.classes,
        kernel=1,
        threshold=last.threshold * inputs / math.prod(network.weight_shapes["layer2"][1:]),
    )
    stages.append(stage(readout, inputs=tuple(names), join=Flatten()))
    epochs.append(network.epochs[-1] if images.few else min(network.epochs[-1], 30))
    return dataclasses.replace(network, name="ncg_scales", stages=tuple(stages), epochs=tuple(epochs))


def _network(
    name: str,
    images: ImageSpec,
    learner: SupervisedSTDP,
    *,
    neurons: int,
    threshold: float,
    inputs: int = 4608,
    epochs: int = 40,
    features: Conv = GREY,
) -> Network:
    """A network whose readout has so many neurons of each class, with a threshold for so many inputs.

    Grey images are encoded as on and off centre, colour images are whitened, recordings show their first events.
    """
    check_images(images)
    colour = images.shape[2:] == (3,)
    encoder = images.encoder or OF_IMAGES[images.shape[2:]]
    shape = encoder.output_shape(images.shape)
    template = COLOUR if colour else features
    patches = min(max(1, round(LEARNED_PATCHES / images.total)), template.learners.patches)
    first = dataclasses.replace(template, learners=dataclasses.replace(template.learners, patches=patches))
    kernel = POOL.output_size(first.output_size(shape[1:]))
    deciding = Conv(
        neurons * images.classes,
        kernel,
        threshold=threshold * first.features * kernel[0] * kernel[1] / inputs,
        # A gap of a few steps needs times within them: 65.1 instead of 63.1 % on CIFAR-10, where the gap is 1.3 steps,
        # and 98.7 instead of 97.3 % on MNIST with 31 steps.
        fractional=learner.gap * encoder.time_steps < 3,
        weight_mean=0.3,
        weight_std=0.01,
        learners=learner,
    )
    return Network(
        name,
        shape,
        images.classes,
        stages=(stage(first, pool=POOL), stage(deciding)),
        time_steps=encoder.time_steps,
        epochs=(60 if colour else 20, EPOCHS_OF_FEW if images.few else epochs),
        encoder=encoder,
        decision=Earliest(fallback=True),
        shuffle=True,
        patience=0 if images.few else 10,
    )
