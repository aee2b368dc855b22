"""A readout of `Prototypes` in integers, which decides and learns image by image, as the program in C does."""

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
"""Inputs less their means are multiples of 2^-4 steps."""
LENGTH_BITS = 8
"""Lengths are multiples of 2^-8 steps."""
RATE_BITS = 16
"""Rates, and reciprocals of lengths, are multiples of 2^-16."""
_WIDTH = 2
"""Weights hold numbers up to this many times the root mean square of the components of a vector of length 1."""


class Ranking(NamedTuple):
    """The two best classes for an image, and their scores.

    Attributes:
      decision: the class of the largest potential above 0, -1 for none.
      score: of the decision, 0 for none: its agreement with the image.
      second: the class of the largest potential above 0 among all other classes, -1 for none.
      second_score: of that class, 0 for none.
    """

    decision: int
    score: int
    second: int
    second_score: int


class IntegerPrototypes(NamedTuple):
    """Neurons that decide and learn as `Prototypes` in its first epoch, in integers of at most 64 bits.

    Potentials are sums of weights times steps, less thresholds: multiples of 2^-(shift + MEAN_BITS) steps.

    Attributes:
      weights: (F, K) int64, at most 2^(bits - 1) - 1 in magnitude, multiples of 2^-shift; inputs in the order of rows,
        columns and maps.
      bias: (F,) int64, |w|^2 - 1 in multiples of 4^-shift; 0 of a neuron that has learned nothing. A threshold is half
        of it times the mean length.
      wins: (F,) int64, of each neuron; the first image of a class counts for all of its neurons.
      length: mean length of images, in multiples of 2^-LENGTH_BITS steps.
      classes: each with equally many neurons, in order.
      maps: of the inputs.
      bits, shift: of the weights.
      tie: of `Prototypes`, in multiples of 2^-RATE_BITS.
      rises: (T + 1,) uint8, what an input adds per weight, by the steps that remain to it.
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
        """What inputs add per weight less the mean over the maps at each position, (K,) int64, of 2^-MEAN_BITS steps.

        `inputs` are the steps that remain to each, (H, W, C) uint8, as `inputs_of` gives them.
        """
        maps = self.rises[inputs].reshape(-1, self.maps).astype(np.int64) << MEAN_BITS
        means = (maps.sum(axis=1) + self.maps // 2) // self.maps
        return (maps - means[:, None]).ravel()

    def potentials(self, image: np.ndarray) -> np.ndarray:
        """Those of an image (K,) as `centred` makes it, (F,) int64."""
        thresholds = rounded(self.length * self.bias, LENGTH_BITS + self.shift + 1 - MEAN_BITS)
        return self.weights @ image - thresholds

    def decide(self, inputs: np.ndarray) -> int:
        """The class of the largest potential above 0, the lowest of equals; -1 for none."""
        return self.rank(inputs).decision

    def rank(self, inputs: np.ndarray) -> Ranking:
        """The classes of the two largest potentials above 0, the lowest of equals, with their `agreement`."""
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
        """1 less half the squared distance between an image, at a length of 1, and the weights of a neuron.

        In multiples of 2^-RATE_BITS; 0 if it is below 0, and for an image of length 0. `image` is (K,) as `centred`
        makes it.
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
        """Of a class."""
        return len(self.wins) // self.classes

    @property
    def empty(self) -> bool:
        """Whether it knows no class."""
        return not (self.wins.any() or self.length)

    def learn(self, inputs: np.ndarray, label: int) -> "IntegerPrototypes":
        """The same after one more image; silent ones, and labels of no class, change nothing."""
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
        """The same without what was learned of a class, which can be learned again; labels of no class change nothing.

        The mean length of images remains.
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
        """The neuron of a class of fewest wins among those whose potentials are near the largest."""
        margin = (length * self.tie << self.shift + MEAN_BITS) >> (LENGTH_BITS + RATE_BITS)
        tied = potentials >= potentials.max() - margin
        return int(np.argmin(np.where(tied, wins, MOST_WINS + 1)))

    def rates(self, wins: np.ndarray, winner: int) -> list[int]:
        """How far each neuron of a class moves towards an image, in multiples of 2^-RATE_BITS."""
        if wins[winner] == 0:
            return [rate_of(1)] * len(wins)
        images = int(wins.sum()) - len(wins) + 2
        rates = [rate_of(images) if count == 1 else 0 for count in wins]
        rates[winner] = rate_of(int(wins[winner]) + 1)
        return rates

    @property
    def images(self) -> int:
        """How many it has learned from, as wins tell."""
        of_class = self.wins.reshape(self.classes, -1)
        counts = of_class.sum(axis=1) - self.neurons + 1
        return int(counts[of_class[:, 0] > 0].sum())


def rate_of(count: int) -> int:
    """1 / count, rounded, in multiples of 2^-RATE_BITS."""
    return ((1 << RATE_BITS) + count // 2) // count


def rounded(values: Any, shift: int) -> Any:
    """int64 values / 2^shift, rounded to the nearest, halves away from 0."""
    return np.sign(values) * ((np.abs(values) + (1 << shift - 1)) >> shift)


def length_of(image: np.ndarray) -> int:
    """The length of a `centred` image (K,), in multiples of 2^-LENGTH_BITS steps, rounded down."""
    return math.isqrt(int(np.square(image).sum()) << 2 * (LENGTH_BITS - MEAN_BITS))


def inputs_of(network: SpikingNetwork, images: np.ndarray) -> np.ndarray:
    """The steps that remain to what a readout reads of images (N, ...), (N, H, W, C) uint8."""
    return (network.network.time_steps - np.asarray(network.features(images)).transpose(0, 2, 3, 1)).astype(np.uint8)


def integer_prototypes(network: SpikingNetwork, bits: int = 8, *, classes: int | None = None) -> IntegerPrototypes:
    """The readout of a network in integers, with weights of so many bits, 4 to 16; it must learn as `Prototypes`.

    `classes`: how many it can learn, by default those of the network; fewer only if the readout has learned nothing.
    Raises InputError if it has, if errors were corrected after the first epoch, and if 64 bits are too few for so many
    inputs.
    """
    checks.integer("bits", bits, LEAST_BITS, MAX_BITS)
    description = network.network
    (layer,) = network.model.stage(network.model.last)
    conv = layer.conv
    learner = conv.last_learner
    checks.instance(f"learners of the readout of {description.name}", learner, Prototypes, "Prototypes")
    if learner.is_corrected(layer):
        advice = "train it for one epoch (--epochs), or use an empty one, prototypes_on(network) (--per_class)"
        raise InputError(f"the readout of {description.name} has corrected errors, learning would undo that: {advice}")
    checks.integer("time_steps", description.time_steps, 1, MAX_TIME_STEPS)
    count = description.classes if classes is None else checks.integer("classes", classes, 1, MOST_CLASSES)
    wins = np.minimum(np.rint(np.asarray(learner.wins)), MOST_WINS).astype(np.int64)
    if count < description.classes and wins.any():
        advice = "or use an empty one, prototypes_on(network) (--per_class)"
        got = f"got {count}: {advice}"
        raise InputError(
            f"`classes` must be at least {description.classes}, as the readout of {description.name} has learned, {got}"
        )
    neurons = conv.features // description.classes
    more = max(count - description.classes, 0) * neurons
    rows = np.asarray(layer.rows(), np.float64)[: count * neurons]
    shift = bits - 1 + math.floor(math.log2(math.sqrt(rows.shape[1]) / _WIDTH))
    largest = math.log2(description.time_steps * math.sqrt(rows.shape[1]))  # potential, of 2^-(shift + MEAN_BITS) steps
    if max(2 * shift + LENGTH_BITS, shift + MEAN_BITS + LENGTH_BITS + RATE_BITS) + largest >= 63:
        raise InputError(f"`bits` must be fewer for {rows.shape[1]:,} inputs, or 64 bits overflow: got {bits}")
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
