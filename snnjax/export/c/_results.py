"""What a program in C finds for images, in Python."""

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
    """The results of a program that does not learn, for N images, (N,) int64 each.

    Attributes:
      decision: the class, -1 if the network stays silent.
      step: the time step of the decision, the last one if all spikes are read.
      score: the largest potential of the class that was decided for, at this step, as an integer; 0 for none.
      second: the class, other than the decision, with the largest potential above 0; the lowest of equals; -1 for none.
      second_score: this potential, 0 for none.
    """

    decision: np.ndarray
    step: np.ndarray
    score: np.ndarray
    second: np.ndarray
    second_score: np.ndarray


def results(network: SpikingNetwork, bits: int, images: ArrayLike) -> Results:
    """What `program(network, bits, ...)` finds for images (N, ...), bit for bit.

    Of a program that learns, `IntegerPrototypes.rank` gives the scores. Raises InputError as `program`.
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
    """The step of each decision, (N,), and the largest potential of each class then, (N, classes).

    `inputs` are latencies (N, C, H, W) that the readout reads.
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
