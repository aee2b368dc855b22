"""Results of a C program, computed in Python."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from snnjax.export._event_programs import check_network, times_matter
from snnjax.networks import SpikingNetwork
from snnjax.networks.model import Model
from snnjax.networks.quantisation import integer_layers, quantise


class Results(NamedTuple):
    """The results of a program that does not learn, for N images; all attributes are (N,) int64.

    Attributes:
      decision: the class, -1 if the network stays silent.
      step: the time step of the decision; the last time step if the decision depends on all spikes.
      score: the largest potential of the decided class at this time step, as an integer; 0 without a decision.
      second: the class with the largest potential among all other classes, in a tie the lowest class; -1 if none of
        these potentials is above 0.
      second_score: the largest potential of the second class, 0 if there is no second class.
    """

    decision: np.ndarray
    step: np.ndarray
    score: np.ndarray
    second: np.ndarray
    second_score: np.ndarray


def results(network: SpikingNetwork, bits: int, images: ArrayLike) -> Results:
    """The results of `program(network, bits, ...)` for images (N, ...), bit for bit.

    For a program that learns, use `IntegerPrototypes.rank` instead. Raises InputError for networks that `program` does
    not accept.

    Examples:
      >>> import numpy as np
      >>> import snnjax
      >>> from snnjax.export.c import results
      >>> images = np.zeros((1, 28, 28), np.uint8)
      >>> images[0, 4:24, 13:15] = 255  # a vertical stroke
      >>> found = results(snnjax.load("pretrained:goupy2024_ncg_mnist"), 4, images)
      >>> found.decision.tolist(), found.step.tolist()  # the class, and the time step at which it is decided
      ([1], [238])
    """
    check_network(network, "in C", ramped_readout=True)
    quantised = quantise(network, bits)
    layer = integer_layers(network, bits)[network.network.names[-1][0]]
    exponent = layer.exponent if network.network.stages[-1].ramped else -bits  # type: ignore[union-attr]
    inputs = quantised.features(images)
    decision = np.asarray(quantised.decide(images).decision, np.int64)
    found = _at_decision(quantised.model, inputs)
    step, potentials = jax.tree.map(np.asarray, found)
    classes = np.arange(network.network.classes)
    scores: np.ndarray = np.maximum(potentials.astype(np.float64) * 2.0**-exponent, 0).astype(np.int64)
    decided = decision[:, None] == classes
    others = np.where(decided, 0, scores)
    second_score = others.max(axis=1)
    second = np.where(second_score > 0, others.argmax(axis=1), -1)
    return Results(decision, step.astype(np.int64), np.where(decided, scores, 0).max(axis=1), second, second_score)


@jax.jit
def _at_decision(model: Model, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The time step of each decision, (N,), and the largest potential of each class at that time, (N, classes).

    `inputs` are the latencies (N, C, H, W) that the readout reads.
    """
    network = model.network
    last = network.time_steps - 1

    def of_image(latency: jax.Array) -> tuple[jax.Array, jax.Array]:
        (spikes,) = model.decisive_spikes(latency)
        if not times_matter(network):
            return jnp.full((), last, latency.dtype), spikes.potential.reshape(network.classes, -1).max(axis=1)
        step = jnp.minimum(spikes.latency.min(), last).astype(latency.dtype)
        (layer,) = model.stage(model.last)
        potentials = layer.potentials(jnp.where(latency <= step, latency, network.time_steps))
        return step, potentials.reshape(network.classes, -1).max(axis=1)

    return jax.lax.map(of_image, inputs)
