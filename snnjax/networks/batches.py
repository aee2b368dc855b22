"""Computations on many images at once by a network that does not learn: latencies, outputs, decisions."""

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
    """`Model.input_of` of images, of which (B, ...) are known."""
    if number in known.inputs:
        return known.inputs[number]
    graph = model.network.graph
    (source, *_) = graph.sources(number)
    if graph.plain(number) and source in known.outputs:
        return known.outputs[source]
    return jax.vmap(functools.partial(model.input_of, number))(known)


def output_batch(model: Model, known: Activations, *, number: int) -> jax.Array:
    """`Model.output_of` of images, of which (B, ...) are known."""
    if number in known.outputs:
        return known.outputs[number]
    return jax.vmap(functools.partial(model.output_of, number))(known)


def decide_batch(
    model: Model, inputs: Any, *, encode: bool = False, scores: bool = True
) -> tuple[jax.Array, jax.Array]:
    """Decisions, (B,) int32, and scores, (B, classes), of a model.

    `inputs` are what is known of images, (B, ...); with `encode`, images as in `encode_batch`. Without `scores` those
    may be wrong, but for that of the decision of each layer.
    """
    known = Activations({0: encode_batch(model, inputs)}) if encode else inputs
    latencies = _decisive_inputs(model, known)
    decided = decide_inputs(model, latencies, scores=scores)
    return decided.decision, decided.scores


def only_firing_matters(model: Model) -> bool:
    """Whether the decision asks only who fires, in stages each of which reads the one before as it is.

    Under pointwise inhibition, who fires depends on when. The weights must be at least 0 too, so that the neurons that
    fire at any step are those above their thresholds at the last one. Then all may fire at the last step, which takes
    1/T of the work.
    """
    network = model.network
    graph = network.graph
    numbers = range(len(network.stages))
    chain = all(graph.plain(number) and graph.sources(number) == (number,) for number in numbers)
    times_matter = network.timed or network.stages[-1].ramped or any(stage.pointwise for stage in network.stages)
    monotone = all(layer.monotone for number in range(model.last) for layer in model.stage(number))
    return chain and monotone and bool(network.deciding) and not times_matter


def _decisive_inputs(model: Model, known: Activations) -> jax.Array:
    """What the deciding layers read, (B, C, H, W); with its times only where these matter."""
    if not only_firing_matters(model):
        return input_batch(model, known, number=model.last)
    first = max([*known.outputs, *known.inputs])
    inputs = known.inputs[first] if first in known.inputs else known.outputs[first]
    for number in range(first, model.last):
        inputs = _last_outputs(model, number, inputs)
    return inputs


def _last_outputs(model: Model, number: int, inputs: jax.Array) -> jax.Array:
    """The output of a stage, all of whose spikes are at the last step."""
    layers = model.stage(number)
    if not layers:
        return jax.vmap(lambda image: model.join(number, [image]))(inputs)
    pool = model.network.stages[number].pool
    return jnp.concatenate([layer.last_outputs(inputs, pool) for layer in layers], axis=1)


def decide_inputs(model: Model, latencies: jax.Array, *, scores: bool) -> Decided:
    """`Model.decide` of the inputs (B, C, H, W) of the deciding layers, by their kernels for batches if there are."""
    spikes = decisive_spikes(model, latencies, scores=scores)
    return jax.vmap(lambda x: decide(model.network.decision, x, model.network.classes))(spikes)


def potentials_batch(model: Model, known: Activations) -> jax.Array:
    """The potentials that the decision reads, (B, F, H, W) float32, of images, of which (B, ...) are known."""
    inputs = input_batch(model, known, number=model.last)
    return devices.map_each(lambda latencies: model.decisive_spikes(latencies)[0].potential, inputs)


def decisive_spikes(model: Model, latencies: jax.Array, *, scores: bool) -> list[Spikes]:
    """`Model.decisive_spikes` of inputs (B, C, H, W), or those of them from which the decision follows.

    `scores`: whether the scores of all classes matter, not only the largest.
    """
    network = model.network
    decisive = getattr(network.decision, "decisive_spikes", None)
    if decisive is None or not network.deciding or network.reads_potentials or network.stages[model.last].ramped:
        return jax.vmap(model.decisive_spikes)(latencies)
    return [decisive(layer, latencies, scores=scores) for layer in model.stage(model.last)]
