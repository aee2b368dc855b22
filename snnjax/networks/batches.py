"""Computations on batches of images by a network that does not learn: latencies, outputs and decisions."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from snnjax.core import devices
from snnjax.kernels import Spikes
from snnjax.networks.decision import Decided, decide
from snnjax.networks.graph import Activations
from snnjax.networks.model import Model


def encode_batch(model: Model, images: jax.Array) -> jax.Array:
    """Latencies (B, C, H, W) of images (B, ...)."""
    return devices.map_each(model.encode, images)


def input_batch(model: Model, known: Activations, *, number: int) -> jax.Array:
    """`Model.input_of` for B images, whose known activations are (B, ...)."""
    if number in known.inputs:
        return known.inputs[number]
    graph = model.network.graph
    (source, *_) = graph.sources(number)
    if graph.plain(number) and source in known.outputs:
        return known.outputs[source]
    return jax.vmap(functools.partial(model.input_of, number))(known)


def output_batch(model: Model, known: Activations, *, number: int) -> jax.Array:
    """`Model.output_of` for B images, whose known activations are (B, ...)."""
    if number in known.outputs:
        return known.outputs[number]
    return jax.vmap(functools.partial(model.output_of, number))(known)


def decide_batch(
    model: Model, inputs: Any, *, encode: bool = False, scores: bool = True
) -> tuple[jax.Array, jax.Array]:
    """Decisions, (B,) int32, and scores, (B, classes), of a model.

    `inputs` are the known `Activations` of images, (B, ...), or with `encode`, images as in `encode_batch`. Without
    `scores`, the returned scores may be wrong, except for the class that each layer decides on.
    """
    known = Activations({0: encode_batch(model, inputs)}) if encode else inputs
    latencies = _decisive_inputs(model, known)
    decided = decide_inputs(model, latencies, scores=scores)
    return decided.decision, decided.scores


def only_firing_matters(model: Model) -> bool:
    """Whether the decision depends only on which neurons fire, in a chain of stages without pooled or joined inputs.

    Under pointwise inhibition, latencies decide which neurons fire. The weights must also be at least 0, so that the
    neurons that fire at any time step are those above their thresholds at the last one. Then all spikes can be computed
    at the last time step, which takes 1/T of the work.
    """
    network = model.network
    graph = network.graph
    numbers = range(len(network.stages))
    chain = all(graph.plain(number) and graph.sources(number) == (number,) for number in numbers)
    times_matter = network.timed or network.stages[-1].ramped or any(stage.pointwise for stage in network.stages)
    monotone = all(layer.monotone for number in range(model.last) for layer in model.stage(number))
    return chain and monotone and bool(network.deciding) and not times_matter


def _decisive_inputs(model: Model, known: Activations) -> jax.Array:
    """The inputs of the deciding layers, (B, C, H, W); their latencies are correct only if they matter."""
    if not only_firing_matters(model):
        return input_batch(model, known, number=model.last)
    first = max([*known.outputs, *known.inputs])
    inputs = known.inputs[first] if first in known.inputs else known.outputs[first]
    for number in range(first, model.last):
        inputs = _last_outputs(model, number, inputs)
    return inputs


def _last_outputs(model: Model, number: int, inputs: jax.Array) -> jax.Array:
    """The output of a stage if all of its spikes are at the last time step."""
    layers = model.stage(number)
    if not layers:
        return jax.vmap(lambda image: model.join(number, [image]))(inputs)
    pool = model.network.stages[number].pool
    return jnp.concatenate([layer.last_outputs(inputs, pool) for layer in layers], axis=1)


def decide_inputs(model: Model, latencies: jax.Array, *, scores: bool) -> Decided:
    """`Model.decide` for inputs (B, C, H, W) of the deciding layers, with kernels for whole batches if possible."""
    spikes = decisive_spikes(model, latencies, scores=scores)
    return jax.vmap(lambda x: decide(model.network.decision, x, model.network.classes))(spikes)


def potentials_batch(model: Model, known: Activations) -> jax.Array:
    """The potentials that the decision reads, (B, F, H, W) float32, for B images with known activations (B, ...)."""
    inputs = input_batch(model, known, number=model.last)
    return devices.map_each(lambda latencies: model.decisive_spikes(latencies)[0].potential, inputs)


def decisive_spikes(model: Model, latencies: jax.Array, *, scores: bool) -> list[Spikes]:
    """`Model.decisive_spikes` of inputs (B, C, H, W), or the subset of these spikes that determines the decision.

    `scores` says whether the scores of all classes matter, and not only the largest one.
    """
    network = model.network
    decisive = getattr(network.decision, "decisive_spikes", None)
    if decisive is None or not network.deciding or network.reads_potentials or network.stages[model.last].ramped:
        return jax.vmap(model.decisive_spikes)(latencies)
    return [decisive(layer, latencies, scores=scores) for layer in model.stage(model.last)]
