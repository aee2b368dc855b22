"""Networks whose readout learns prototypes: for few labels, and for streams."""

import dataclasses
import math

import numpy as np

from snnjax.core import checks, files
from snnjax.core.errors import InputError
from snnjax.layers.conv import Conv
from snnjax.layers.pool import Pool
from snnjax.layers.ramp import Ramp
from snnjax.learners import Prototypes
from snnjax.networks.decision import Majority
from snnjax.networks.goupy2024 import goupy2024_ncg
from snnjax.networks.graph import name_of
from snnjax.networks.images import MNIST, ImageSpec
from snnjax.networks.network import Network
from snnjax.networks.spiking_network import SpikingNetwork
from snnjax.networks.stage import Input, Stage

NEAR = Pool(2, stride=1)
"""The earliest spike of four neighbours, which the readout of single maps reads."""
EPOCHS = 21
"""One in which each image is learned, and twenty of corrections."""
PER_CLASS = 5
"""Neurons of each class."""
_BYTES = 24
"""Memory that a weight of a new readout takes while it is made: drawn as float64, and as float32 in several places."""


def ncg_prototypes(images: ImageSpec = MNIST) -> Network:
    """The features of goupy2024_ncg with a readout of five prototypes per class.

    Examples:
      >>> from snnjax.networks import ImageSpec, ncg_prototypes
      >>> ncg_prototypes(ImageSpec((28, 28), classes=10)).shapes  # of the encoded image, then of each stage
      ((2, 28, 28), (128, 6, 6), (50, 1, 1))
    """
    return dataclasses.replace(with_prototypes(goupy2024_ncg(images)), name="ncg_prototypes")


def with_prototypes(network: Network, *, per_class: int = PER_CLASS) -> Network:
    """The layers of a network before its readout, with a new readout that learns by `Prototypes`.

    If a single stage is read, the readout reads the earliest spike of each block of 2x2 positions. To reuse the layers
    of a trained network, pass it to the `Trainer` as `start`.

    Examples:
      >>> from snnjax.networks import ImageSpec, deep2024, with_prototypes
      >>> with_prototypes(deep2024(ImageSpec((28, 28), classes=10)), per_class=3).shapes  # the last layer is new
      ((6, 28, 28), (30, 14, 14), (150, 7, 7), (250, 2, 2), (30, 1, 1))
    """
    checks.integer("per_class", per_class, 1)
    if not network.classes:
        advice = "give their number: `prototypes_on(network, classes)`, or --classes of `snnjax export --learn`"
        raise InputError(f"`classes` must be at least 1, and {network.name} has none without a `decision`: {advice}")
    number = network.first_supervised
    if number < len(network.stages) and network.stages[number].inputs:
        replaced = network.stages[number]
        size = network.input_shapes[number][1:]
    else:
        size = network.shapes[number][1:]
        pool = NEAR if min(size) > 1 else None
        size = pool.output_size(size) if pool else size
        replaced = Stage(inputs=(Input(name_of(number), pool=pool),))
    readout = Conv(
        per_class * network.classes,
        size,
        threshold=0.0,
        weight_mean=0.0,
        weight_std=0.0,
        ramp=Ramp(inhibition=False, rise=0.5),
        learners=Prototypes(),
    )
    return dataclasses.replace(
        network,
        name=f"{network.name}_prototypes",
        stages=(*network.stages[:number], dataclasses.replace(replaced, branches=(readout,), pool=None)),
        epochs=(*network.epochs[:number], EPOCHS) if network.epochs else (),
        decision=Majority(),
        reward_by_turns=False,
        patience=0,
    )


def prototypes_on(trained: SpikingNetwork, classes: int | None = None, *, per_class: int = PER_CLASS) -> SpikingNetwork:
    """A trained network with a new, empty readout of prototypes, as `with_prototypes` describes it.

    The readout has the classes of the trained network or, with `classes`, as many other classes. It is silent until it
    learns, for example in a `Stream`. Raises InputError if its weights would not fit into memory.

    Examples:
      >>> import snnjax
      >>> from snnjax.networks import prototypes_on
      >>> network = prototypes_on(snnjax.load("pretrained:goupy2024_ncg_mnist"), classes=3)
      >>> {name: weights.shape for name, weights in network.weights().items()}  # layer2 is new
      {'layer1': (128, 2, 5, 5), 'layer2': (15, 128, 5, 5)}
    """
    features = (
        trained.network if classes is None else trained.network.with_classes(checks.integer("classes", classes, 1))
    )
    network = with_prototypes(features, per_class=per_class)
    _check_memory(network, per_class)
    learned = trained.weights()
    weights = network.initial_weights()
    weights |= {name: np.asarray(learned[name]) for name in weights if name not in network.deciding}
    return SpikingNetwork(network, weights=weights, class_names=trained.class_names if classes is None else ())


def _check_memory(network: Network, per_class: int) -> None:
    """Raises InputError, with the largest `per_class` that is possible, if a readout would not fit into the memory."""
    (name,) = network.deciding
    _, *inputs = network.weight_shapes[name]
    of_class = network.classes * math.prod(inputs) * _BYTES  # for one neuron of each class
    fits = f"so that {network.classes} classes fit into {files.MEMORY / 2**30:.1f} GiB of memory (default {PER_CLASS})"
    checks.integer("per_class", per_class, 1, files.MEMORY // of_class, why=fits)
