"""Prototypes: neurons that move towards the images of their class, the first that fires the furthest."""

import dataclasses
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from snnjax.core import checks
from snnjax.core.components import component, learnable, number
from snnjax.core.errors import InputError, wrong_type
from snnjax.kernels import Spikes
from snnjax.layers.conv import Conv
from snnjax.layers.ramp import Numbers
from snnjax.layers.ramp_layer import RampLayer
from snnjax.learners.protocol import Diagnosis, Learner, Signal, UpdateResult, count_wins

_TINY = 1e-30
_LEAST_LENGTH = 2.0**-8
"""Of an image from which neurons learn, in steps: less is rounding."""
_TOLERANCE = 0.005
"""Between a threshold and that of a mean of images, as a share of the mean length."""


class PrototypeResponse(NamedTuple):
    """The response of a deciding layer with a ramp.

    Attributes:
      spikes: `Spikes` of (F, 1, 1), which the decision is made from.
      potential: (F,) float32, those below 0 too.
      inputs: (K,) float32, what each input adds to a potential per weight, in the order of `RampLayer.rows`.
    """

    spikes: Spikes
    potential: jax.Array
    inputs: jax.Array


@component
class Prototypes(Learner):
    """Each neuron stores the mean of the images that it wins: a readout for few labels and for streams.

    This rule trains a deciding layer with a ramp and with M neurons per class, each of which reads the whole input. An
    image is represented by a vector x: the time for which each input has been active, minus the mean over the features
    at its position, scaled to length 1. In the first epoch, and in a stream, the neuron k of the label's class with the
    largest potential wins and learns w_k += (x - w_k) / (n_k + 1), where n_k is the number of its earlier wins. If the
    potentials of several neurons differ by less than the `tie`, the one with the fewest wins is chosen, so that all
    neurons get a share of the images. A neuron that has not yet won an image by itself stores the mean of all images of
    its class. Only neurons of the label's class change, so that classes may be learned one after another. The
    thresholds are -T R (1 - |w|^2) / 2, where R is the mean length of the images before they are scaled, so that the
    neuron nearest to the image has the largest potential. Neurons of classes without images are silent.

    In later epochs, for which the images must be kept, errors are corrected: if the label's class does not lead by the
    `gap`, its strongest neuron learns w += step x, and the strongest neuron of all other classes w -= step x. A readout
    that has been corrected is corrected from the start when it learns again. It does not accept new classes, because
    its neurons are no longer means.

    Silent images and labels of -1 change nothing.

    Attributes:
      gap: g, the lead over all other classes below which an error is corrected, as a share of the length of the image.
      step: h, the size of a correction.
      tie: the difference below which potentials count as equal, as a share of the length of the image.
      wins: how many images each neuron has won, (F,) float32; the first image of a class counts for all of its neurons.
      length: R, the mean length of the images before they are scaled, divided by T.

    Examples:
      >>> from snnjax.learners import Prototypes
      >>> from snnjax.networks import NETWORKS, with_prototypes
      >>> network = with_prototypes(NETWORKS["goupy2024_ncg"](), per_class=3)
      >>> readout = network.stages[-1].branches[0]
      >>> readout.features, isinstance(readout.learners, Prototypes)
      (30, True)
    """

    gap: float = number(default=0.4, minimum=0)
    step: float = number(default=0.05, minimum=0)
    tie: float = number(default=0.03, minimum=0, maximum=1)
    wins: Numbers = learnable(default=0.0, minimum=0)
    length: Numbers = learnable(default=0.0, minimum=0)
    supervised = True
    own_thresholds = True
    ramped = True

    def check_layer(self, name: str, conv: Conv, size: tuple[int, int], classes: int, timed: bool) -> None:
        """Raises InputError unless it can train a layer: one that decides, of one neuron a feature, as its own."""
        if not classes or size != (1, 1):
            got = f"{size[0]}x{size[1]} of them" if classes else "one that does not decide"
            raise InputError(f"{name} must decide, with one neuron a feature, for Prototypes, got {got}")
        if conv.ramp is None or conv.ramp.inhibition:
            raise wrong_type("ramp", f"Ramp(inhibition=False) for Prototypes of {name}", conv.ramp)
        checks.given("threshold", conv.threshold, f"0.0 for Prototypes of {name}, which learns it")
        if conv.weight_mean or conv.weight_std or conv.weight_range:
            raise InputError(f"`weight_mean` and `weight_std` of {name} must be 0 for Prototypes: neurons begin silent")
        checks.equal(f"standardise of {name}", conv.standardise, None, "Prototypes centres inputs itself")
        checks.scalar_or_vector(f"wins of {name}", self.wins, conv.features, "neurons")

    def prepared(self, features: int, classes: int) -> "Prototypes":
        """The same with the wins of each of F neurons, (F,) float32."""
        return dataclasses.replace(self, wins=np.ones(features, np.float32) * self.wins)

    def init(self, layer: RampLayer, key: np.ndarray, images_seen: int) -> Any:
        """The epochs that it has learned, () int32: 1 where errors have been corrected already.

        Raises InputError if that is so, and a class has no images yet.
        """
        corrected = self.is_corrected(layer)
        of_class = np.broadcast_to(self.wins, layer.conv.features).reshape(layer.classes, -1)
        if corrected and not of_class.any(axis=1).all():
            reason = "has corrected errors, and takes no new classes"
            advice = "begin an empty one, networks.prototypes_on(network), or train the readout for one epoch"
            raise InputError(f"`network` has a readout that {reason}: {advice}")
        return np.int32(corrected)

    def is_corrected(self, layer: RampLayer) -> bool:
        """Whether thresholds are not those of means of images."""
        squares = np.sum(np.square(np.asarray(layer.rows(), np.float64)), axis=1)
        length = layer.time_steps * np.asarray(self.length, np.float64)
        missed = np.asarray(layer.conv.threshold) + length * (1 - squares) / 2
        return bool(np.any((np.asarray(self.wins) > 0) & (np.abs(missed) > _TOLERANCE * length)))

    def end_epoch(self, state: Any) -> Any:
        return state + 1

    def forward(self, layer: RampLayer, state: Any, latency: jax.Array, label: jax.Array | None) -> PrototypeResponse:
        patches, _ = layer.batch_sums(latency[None])
        return PrototypeResponse(layer.deciding_spikes(latency), layer.potentials(latency)[0, 0], patches[0, 0, 0])

    def update(
        self, layer: RampLayer, state: Any, latency: jax.Array, response: Any, signal: Signal | None
    ) -> UpdateResult:
        """Learns from one image. Info: `winner` () int32, of the label's class, or -1; whether it is `corrected`."""
        assert signal is not None
        image, length = _image(layer, response.inputs)
        potential_of_unit = layer.time_steps * length
        learns = (signal.label >= 0) & (potential_of_unit >= _LEAST_LENGTH)
        neuron = jnp.arange(layer.conv.features)
        own = neuron // (layer.conv.features // layer.classes) == jnp.maximum(signal.label, 0)
        wins = jnp.asarray(self.wins)
        teaches = learns & ((state == 0) | ~jnp.any(own & (wins > 0)))
        candidates = jnp.where(own, response.potential, -jnp.inf)
        tied = candidates >= candidates.max() - self.tie * potential_of_unit
        winner = jnp.argmin(jnp.where(tied, wins, jnp.inf))
        rate = jnp.where(teaches, _rates(wins, own, neuron == winner), 0)
        close = self._errors(wins, own, response.potential, potential_of_unit)
        errors = jnp.where(learns & ~teaches, close, 0)
        rows = layer.rows()
        rows = rows + (rate + self.step * errors)[:, None] * image[None] - rate[:, None] * rows
        taught = self._counted(layer, rows, own, neuron == winner, length)
        conv = jax.tree.map(lambda new, old: jnp.where(teaches, new, old), taught, layer.conv)
        layer = dataclasses.replace(layer, conv=conv).with_all_weights(rows)
        first = jnp.where(learns, winner, -1).astype(jnp.int32)
        return layer, state, dict(winner=first, corrected=jnp.any(errors != 0))

    def _errors(self, wins: jax.Array, own: jax.Array, potential: jax.Array, potential_of_unit: Any) -> jax.Array:
        """The signs of a correction, (F,) float32: 1 for the label's class, -1 for its rival, or 0 if none is needed.

        Both are the strongest neurons: that of the label's class, and that of all other classes.
        """
        neuron = jnp.arange(len(own))
        candidates = jnp.where(own & (wins > 0), potential, -jnp.inf)
        others = jnp.where(~own & (wins > 0), potential, -jnp.inf)
        lead = candidates.max() - others.max()
        signs = (neuron == candidates.argmax()).astype(jnp.float32) - (neuron == others.argmax())
        return jnp.where(jnp.isfinite(lead) & (lead < self.gap * potential_of_unit), signs, 0)

    def _counted(
        self, layer: RampLayer, rows: jax.Array, own: jax.Array, wins_now: jax.Array, length: jax.Array
    ) -> Conv:
        """The description once neurons of a class, which have new weights, have learned an image of some length."""
        wins = jnp.asarray(self.wins)
        before = jnp.asarray(self.length)
        mean_length = before + (length - before) / (_images(wins, layer.classes) + 1)
        nearest = -layer.time_steps * mean_length * (1 - jnp.sum(jnp.square(rows), axis=1)) / 2
        threshold: Any = layer.conv.threshold
        threshold = jnp.where(own, nearest, threshold * (mean_length / jnp.maximum(before, _TINY)))
        wins = wins + (own & ((wins == 0) | wins_now))
        learner = dataclasses.replace(self, wins=cast(Any, wins), length=cast(Any, mean_length))
        return dataclasses.replace(layer.conv, threshold=threshold, learners=layer.conv.as_learners((learner,)))

    def diagnose(self, layer: RampLayer, info: Any) -> Diagnosis:
        """Which neurons were the first of the label's class, how often, and the share of images that were corrected."""
        taught = info["winner"] >= 0
        return dict(
            taught=[int(np.sum(taught)), len(taught)],
            corrected=float(np.mean(info["corrected"][taught])) if taught.any() else 0.0,
            **count_wins(info["winner"], layer.conv.features),
        )


def _image(layer: RampLayer, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Inputs (K,) less their mean over the features at each position, at a length of 1; and the length, in windows."""
    maps = inputs.reshape(-1, layer.weights.shape[1]) / layer.time_steps
    centred = (maps - maps.mean(axis=1, keepdims=True)).ravel()
    length = jnp.linalg.norm(centred)
    return centred / jnp.maximum(length, _TINY), length


def _rates(wins: jax.Array, own: jax.Array, wins_now: jax.Array) -> jax.Array:
    """How far each neuron moves towards an image, (F,) float32.

    The winner becomes the mean of the images that it has won. Neurons of its class that have only won the first image,
    which counts for all of them, become the mean of all images of the class. `own` marks the neurons of the image's
    class, and `wins_now` the winner.
    """
    images = jnp.sum(jnp.where(own, wins - 1, 0)) + 2  # of the class, with this one
    shared = jnp.where(wins == 1, 1 / images, 0)
    rate = jnp.where(wins_now, 1 / (wins + 1), shared)
    return jnp.where(own, jnp.where(wins == 0, 1, rate), 0)


def _images(wins: jax.Array, classes: int) -> jax.Array:
    """The number of images that neurons of these wins have learned from; the first of a class counts for all of it."""
    of_class = wins.reshape(classes, -1)
    return jnp.sum(jnp.where(of_class[:, 0] > 0, of_class.sum(axis=1) - of_class.shape[1] + 1, 0))
