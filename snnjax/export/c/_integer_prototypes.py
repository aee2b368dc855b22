"""An integer version of a `Prototypes` readout, which decides and learns image by image exactly as in C."""

import math
from typing import Any, NamedTuple

import numpy as np

from snnjax.core import checks
from snnjax.core.errors import InputError
from snnjax.learners import Prototypes
from snnjax.networks.spiking_network import SpikingNetwork

LEAST_BITS = 4
MAX_BITS = 16
MOST_WINS = 2**16 - 1
MOST_CLASSES = 256
MAX_TIME_STEPS = 255
MEAN_BITS = 4
"""Inputs minus their means are multiples of 2^-4 time steps."""
LENGTH_BITS = 8
"""Lengths are multiples of 2^-8 time steps."""
RATE_BITS = 16
"""Rates and reciprocals of lengths are multiples of 2^-16."""
_WIDTH = 2
"""The range of weights: this many times the root mean square of the components of a vector of length 1, or more."""


class Ranking(NamedTuple):
    """The two best classes for an image, and their scores.

    Attributes:
      decision: the class of the largest potential, -1 if no potential is above 0.
      score: the agreement of the decision's neuron with the image, 0 if there is no decision.
      second: the class of the largest potential among all other classes, -1 if none of these is above 0.
      second_score: the agreement of the second class's neuron with the image, 0 if there is no second class.
    """

    decision: int
    score: int
    second: int
    second_score: int


class IntegerPrototypes(NamedTuple):
    """A readout that decides and learns as `Prototypes` does in its first epoch, with integers of at most 64 bits.

    A potential is a sum of weights times numbers of time steps, minus a threshold; its unit is
    2^-(shift + MEAN_BITS) time steps.

    Attributes:
      weights: (F, K) int64, at most 2^(bits - 1) - 1 in magnitude, in multiples of 2^-shift. The inputs are in the
        order of row, column and map.
      bias: (F,) int64, |w|^2 - 1 in multiples of 4^-shift; 0 for a neuron that has learned nothing. The threshold of a
        neuron is its bias times half the mean length.
      wins: (F,) int64, the number of wins of each neuron; the first image of a class counts for all of its neurons.
      length: the mean length of images, in multiples of 2^-LENGTH_BITS time steps.
      classes: the number of classes. All have the same number of neurons, and their neurons are in order.
      maps: the number of input maps.
      bits: the number of bits of a weight.
      shift: the exponent of the unit of weights, 2^-shift.
      tie: the `tie` of `Prototypes`, in multiples of 2^-RATE_BITS.
      rises: (T + 1,) uint8, by how much an input raises a potential per unit of weight, indexed by the number of time
        steps that remain after its spike.

    Examples:
      >>> import snnjax
      >>> from snnjax.export.c import inputs_of, integer_prototypes
      >>> from snnjax.networks import prototypes_on, quantise
      >>> network = quantise(prototypes_on(snnjax.load("pretrained:goupy2024_ncg_mnist")), bits=4)
      >>> data = snnjax.data.digits()
      >>> readout = integer_prototypes(network)
      >>> for image, label in zip(inputs_of(network, data.train_images[:20]), data.train_labels[:20], strict=True):
      ...     readout = readout.learn(image, int(label))
      >>> readout.images, readout.empty
      (20, False)
    """

    weights: np.ndarray
    bias: np.ndarray
    wins: np.ndarray
    length: int
    classes: int
    maps: int
    bits: int
    shift: int
    tie: int
    rises: np.ndarray

    @property
    def most(self) -> int:
        """The largest magnitude of a weight."""
        return 2 ** (self.bits - 1) - 1

    def centred(self, inputs: np.ndarray) -> np.ndarray:
        """The `rises` of inputs minus their mean over the maps at each position, (K,) int64, in 2^-MEAN_BITS steps.

        `inputs`, (H, W, C) uint8, are the numbers of time steps that remain after each spike, as `inputs_of` returns.
        """
        maps = self.rises[inputs].reshape(-1, self.maps).astype(np.int64) << MEAN_BITS
        means = (maps.sum(axis=1) + self.maps // 2) // self.maps
        return (maps - means[:, None]).ravel()

    def potentials(self, image: np.ndarray) -> np.ndarray:
        """The potentials (F,) int64 for an image (K,) that `centred` has returned."""
        thresholds = rounded(self.length * self.bias, LENGTH_BITS + self.shift + 1 - MEAN_BITS)
        return self.weights @ image - thresholds

    def decide(self, inputs: np.ndarray) -> int:
        """The class of the largest potential, in a tie the lowest class; -1 if no potential is above 0."""
        return self.rank(inputs).decision

    def rank(self, inputs: np.ndarray) -> Ranking:
        """The two classes with the largest potentials above 0, in a tie the lowest class, and their `agreement`."""
        image = self.centred(inputs)
        potentials = self.potentials(image)
        first = int(potentials.argmax())
        if potentials[first] <= 0:
            return Ranking(-1, 0, -1, 0)
        decision = first // self.neurons
        score = self.agreement(image, first)
        others = np.where(np.arange(len(potentials)) // self.neurons == decision, 0, potentials)
        second = int(others.argmax())
        if others[second] <= 0:
            return Ranking(decision, score, -1, 0)
        return Ranking(decision, score, second // self.neurons, self.agreement(image, second))

    def agreement(self, image: np.ndarray, neuron: int) -> int:
        """1 minus half the squared distance between the weights of a neuron and an image that is scaled to length 1.

        The result is in multiples of 2^-RATE_BITS. It is 0 if it would be negative or if the image has length 0.
        `image` is (K,), as `centred` returns it.
        """
        length = length_of(image)
        if not length:
            return 0
        product = int(self.weights[neuron] @ image) << LENGTH_BITS + RATE_BITS
        cosine = abs(product) // (length << self.shift + MEAN_BITS)
        half_a_square = rounded(int(self.bias[neuron]) << RATE_BITS, 2 * self.shift + 1)
        return max(0, int(np.sign(product)) * cosine - int(half_a_square))

    @property
    def neurons(self) -> int:
        """The number of neurons of each class."""
        return len(self.wins) // self.classes

    @property
    def empty(self) -> bool:
        """Whether the readout has learned nothing yet."""
        return not (self.wins.any() or self.length)

    def learn(self, inputs: np.ndarray, label: int) -> "IntegerPrototypes":
        """The readout after it has learned one more image; silent images and labels without a class change nothing."""
        image = self.centred(inputs)
        length = length_of(image)
        if not (length and 0 <= label < self.classes):
            return self
        own = slice(label * self.neurons, (label + 1) * self.neurons)
        wins = self.wins[own]
        winner = self.winner(self.potentials(image)[own], wins, length)
        reciprocal = (1 << self.shift + LENGTH_BITS + RATE_BITS - MEAN_BITS) // length
        unit = np.clip(rounded(image * reciprocal, RATE_BITS), -self.most, self.most)
        weights = self.weights.copy()
        for neuron, rate in enumerate(self.rates(wins, winner)):
            row = weights[own][neuron]
            row += rounded((unit - row) * rate, RATE_BITS)
        bias = self.bias.copy()
        bias[own] = np.square(weights[own]).sum(axis=1) - 4**self.shift
        first = wins == 0
        first[winner] = True
        counted = self.wins.copy()
        counted[own] = np.minimum(wins + first, MOST_WINS)
        mean = self.length + int(rounded(np.int64(length - self.length) * rate_of(self.images + 1), RATE_BITS))
        return self._replace(weights=weights, bias=bias, wins=counted, length=mean)

    def forget(self, label: int) -> "IntegerPrototypes":
        """The readout after it has forgotten class `label`, which can be learned again.

        The mean length of images does not change. A label without a class has no effect.
        """
        if not 0 <= label < self.classes:
            return self
        own = np.arange(len(self.wins)) // self.neurons == label
        return self._replace(
            weights=np.where(own[:, None], 0, self.weights),
            bias=np.where(own, 0, self.bias),
            wins=np.where(own, 0, self.wins),
        )

    def winner(self, potentials: np.ndarray, wins: np.ndarray, length: int) -> int:
        """The neuron with the fewest wins among neurons of a class whose potentials are close to the largest one."""
        margin = (length * self.tie << self.shift + MEAN_BITS) >> (LENGTH_BITS + RATE_BITS)
        tied = potentials >= potentials.max() - margin
        return int(np.argmin(np.where(tied, wins, MOST_WINS + 1)))

    def rates(self, wins: np.ndarray, winner: int) -> list[int]:
        """The rate at which each neuron of a class moves towards an image, in multiples of 2^-RATE_BITS."""
        if wins[winner] == 0:
            return [rate_of(1)] * len(wins)
        images = int(wins.sum()) - len(wins) + 2
        rates = [rate_of(images) if count == 1 else 0 for count in wins]
        rates[winner] = rate_of(int(wins[winner]) + 1)
        return rates

    @property
    def images(self) -> int:
        """The number of images that the readout has learned, computed from the wins."""
        of_class = self.wins.reshape(self.classes, -1)
        counts = of_class.sum(axis=1) - self.neurons + 1
        return int(counts[of_class[:, 0] > 0].sum())


def rate_of(count: int) -> int:
    """1 / count in multiples of 2^-RATE_BITS, rounded."""
    return ((1 << RATE_BITS) + count // 2) // count


def rounded(values: Any, shift: int) -> Any:
    """The int64 `values` divided by 2^shift and rounded to the nearest integer, halves away from 0."""
    return np.sign(values) * ((np.abs(values) + (1 << shift - 1)) >> shift)


def length_of(image: np.ndarray) -> int:
    """The length of a `centred` image (K,), in multiples of 2^-LENGTH_BITS time steps, rounded down."""
    return math.isqrt(int(np.square(image).sum()) << 2 * (LENGTH_BITS - MEAN_BITS))


def inputs_of(network: SpikingNetwork, images: np.ndarray) -> np.ndarray:
    """The inputs of a readout for images (N, ...): the time steps that remain after each spike, (N, H, W, C) uint8.

    Examples:
      >>> import snnjax
      >>> from snnjax.export.c import inputs_of
      >>> from snnjax.networks import prototypes_on, quantise
      >>> network = quantise(prototypes_on(snnjax.load("pretrained:goupy2024_ncg_mnist")), bits=4)
      >>> inputs_of(network, snnjax.data.digits().test_images[:3]).shape  # images, rows, columns, maps
      (3, 5, 5, 128)
    """
    return (network.network.time_steps - np.asarray(network.features(images)).transpose(0, 2, 3, 1)).astype(np.uint8)


def integer_prototypes(network: SpikingNetwork, bits: int = 8, *, classes: int | None = None) -> IntegerPrototypes:
    """Converts the readout of a network, whose rule must be `Prototypes`, to integers with weights of 4 to 16 `bits`.

    `classes` is the number of classes that can be learned, by default the number of classes of the network. It may be
    smaller than this only if the readout has learned nothing. Raises InputError if it is too small, if the readout has
    another rule or has corrected errors after its first epoch, if there are more than 255 time steps, and if 64-bit
    integers would overflow.

    Examples:
      >>> import snnjax
      >>> from snnjax.export.c import integer_prototypes, program
      >>> from snnjax.networks import prototypes_on
      >>> network = prototypes_on(snnjax.load("pretrained:goupy2024_ncg_mnist"))
      >>> readout = integer_prototypes(network, classes=3)
      >>> readout.classes, readout.neurons, readout.empty
      (3, 5, True)
      >>> exported = program(network, 4, (28, 28), learning=readout)  # learns three classes image by image
    """
    checks.integer("bits", bits, LEAST_BITS, MAX_BITS)
    description = network.network
    (layer,) = network.model.stage(network.model.last)
    conv = layer.conv
    learner = conv.last_learner
    checks.instance(f"learners of the readout of {description.name}", learner, Prototypes, "Prototypes")
    if learner.is_corrected(layer):
        advice = "train it for one epoch (--epochs), or use an empty readout, prototypes_on(network) (--per_class)"
        why = "has corrected errors, which learning image by image would undo"
        raise InputError(f"the readout of {description.name} {why}: {advice}")
    checks.integer("time_steps", description.time_steps, 1, MAX_TIME_STEPS)
    count = description.classes if classes is None else checks.integer("classes", classes, 1, MOST_CLASSES)
    wins = np.minimum(np.rint(np.asarray(learner.wins)), MOST_WINS).astype(np.int64)
    if count < description.classes and wins.any():
        why = f"because the readout of {description.name} has learned these classes"
        advice = "or use an empty readout, prototypes_on(network) (--per_class)"
        raise InputError(f"`classes` must be at least {description.classes}, {why}, got {count}: {advice}")
    neurons = conv.features // description.classes
    more = max(count - description.classes, 0) * neurons
    rows = np.asarray(layer.rows(), np.float64)[: count * neurons]
    shift = bits - 1 + math.floor(math.log2(math.sqrt(rows.shape[1]) / _WIDTH))
    largest = math.log2(description.time_steps * math.sqrt(rows.shape[1]))  # of the largest potential in time steps
    if max(2 * shift + LENGTH_BITS, shift + MEAN_BITS + LENGTH_BITS + RATE_BITS) + largest >= 63:
        why = "because 64-bit integers would overflow"
        raise InputError(f"`bits` must be smaller for {rows.shape[1]:,} inputs, {why}, got {bits}")
    mean_length = float(learner.length) * description.time_steps
    relative = np.asarray(conv.threshold, np.float64) / (mean_length or 1.0)
    most = 2 ** (bits - 1) - 1
    weights = np.clip(np.rint(rows * 2.0**shift), -most, most).astype(np.int64)
    bias = np.rint(2 * relative * 4.0**shift).astype(np.int64)
    return IntegerPrototypes(
        weights=np.pad(weights, ((0, more), (0, 0))),
        bias=np.pad(bias[: len(rows)], (0, more)),
        wins=np.pad(wins[: len(rows)], (0, more)),
        length=round(mean_length * 2**LENGTH_BITS),
        classes=count,
        maps=layer.weights.shape[1],
        bits=bits,
        shift=shift,
        tie=round(learner.tie * 2**RATE_BITS),
        rises=layer.ramp.rises(description.time_steps).astype(np.uint8),
    )
