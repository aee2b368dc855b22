"""Computations on many images at once by a network that does not learn: latencies, outputs, decisions."""

import functools
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp

from snnjax.core import devices
from snnjax.kernels import Spikes, neurons
from snnjax.layers.layer_kernels import block_potentials
from snnjax.networks.decision import Decided, decide
from snnjax.networks.graph import Known
from snnjax.networks.model import Model
from snnjax.networks.network import Network


def encode_batch(model: Model, images: jax.Array) -> jax.Array:
    """Latencies (B, C, H, W) of images (B, ...)."""
    return devices.map_each(model.encode, images)


def input_batch(model: Model, known: Known, *, number: int) -> jax.Array:
    """`Model.input_of` of images, of which (B, ...) are known."""
    if number in known.inputs:
        return known.inputs[number]
    graph = model.network.graph
    (source, *_) = graph.sources(number)
    if graph.plain(number) and source in known.outputs:
        return known.outputs[source]
    stages = graph.path_to(graph.sources(number), *known).stages
    return _map_images(model, stages, functools.partial(Model.input_of, number=number), known)


def output_batch(model: Model, known: Known, *, number: int) -> jax.Array:
    """`Model.output_of` of images, of which (B, ...) are known."""
    if number in known.outputs:
        return known.outputs[number]
    stages = model.network.graph.path_to({number}, *known).stages
    return _map_images(model, stages, functools.partial(Model.output_of, number=number), known)


def _map_images(model: Model, stages: Collection[int], function: Callable[..., jax.Array], known: Known) -> jax.Array:
    """`function` of the model and of what is known of each image."""

    def of_image(known: Known) -> jax.Array:
        return function(model, known=known)

    if any(model.network.stages[number].ramped for number in stages):
        return jax.vmap(of_image)(known)
    return devices.map_each(of_image, known)


def decide_batch(
    model: Model, inputs: Any, *, encode: bool = False, scores: bool = True
) -> tuple[jax.Array, jax.Array]:
    """Decisions, (B,) int32, and scores, (B, classes), of a model.

    `inputs` are what is known of images, (B, ...); with `encode`, images as in `encode_batch`. Without `scores` those
    may be wrong, but for that of the decision of each layer.
    """
    known = Known({0: encode_batch(model, inputs)}) if encode else inputs
    latencies = _decisive_inputs(model, known)
    decided = decide_inputs(model, latencies, scores=scores)
    return decided.decision, decided.scores


def only_firing_matters(network: Network, monotone: bool) -> bool:
    """Whether the decision asks only who fires, in stages each of which reads the one before as it is.

    Under pointwise inhibition, who fires depends on when.
    Then neurons may all fire at the last step, which takes 1/T of the work. `monotone`: whether all layers before the
    last stage are.
    """
    graph = network.graph
    numbers = range(len(network.stages))
    chain = all(graph.plain(number) and graph.sources(number) == (number,) for number in numbers)
    times_matter = network.timed or network.stages[-1].ramped or any(stage.pointwise for stage in network.stages)
    return chain and monotone and bool(network.deciding) and not times_matter


def _decisive_inputs(model: Model, known: Known) -> jax.Array:
    """What the deciding layers read, (B, C, H, W); with its times only where these matter."""
    before = [layer for number in range(model.last) for layer in model.stage(number)]
    if not only_firing_matters(model.network, all(layer.monotone for layer in before)):
        return input_batch(model, known, number=model.last)
    first = max([*known.outputs, *known.inputs])
    inputs = known.inputs[first] if first in known.inputs else known.outputs[first]
    for number in range(first, model.last):
        inputs = _who_fires(model, number, inputs)
    return inputs


def _who_fires(model: Model, number: int, inputs: jax.Array) -> jax.Array:
    """The output of a stage, all of whose spikes are at the last step, by kernels for batches if there are."""
    layers = model.stage(number)
    pool = model.network.stages[number].pool
    kernels: list[Any] = [layer.kernels.fires for layer in layers]
    if layers and all(kernels):
        return jnp.concatenate([fires(layer, inputs, pool) for fires, layer in zip(kernels, layers, strict=True)], 1)

    def fired(image: jax.Array) -> jax.Array:
        return model.join(number, [layer.last_latencies(image) for layer in layers] or [image])

    return devices.map_each(fired, inputs)


def decide_inputs(model: Model, latencies: jax.Array, *, scores: bool) -> Decided:
    """`Model.decide` of the inputs (B, C, H, W) of the deciding layers, by their kernels for batches if there are."""
    spikes = decisive_spikes(model, latencies, scores=scores)
    return jax.vmap(lambda x: decide(model.network.decision, x, model.network.classes))(spikes)


def potentials_batch(model: Model, known: Known) -> jax.Array:
    """The potentials that the decision reads, (B, F, H, W) float32, of images, of which (B, ...) are known."""
    inputs = input_batch(model, known, number=model.last)
    return devices.map_each(lambda latencies: model.decisive_spikes(latencies)[0].potential, inputs)


def decisive_spikes(model: Model, latencies: jax.Array, *, scores: bool) -> list[Spikes]:
    """`Model.decisive_spikes` of inputs (B, C, H, W); kernels for batches leave out those that do not matter."""
    if model.network.reads_potentials:
        return devices.map_each(model.decisive_spikes, latencies)
    if not model.network.deciding or model.network.stages[model.last].ramped:
        return jax.vmap(model.decisive_spikes)(latencies)
    layers = model.stage(model.last)
    of_classes: list[Any] = [layer.kernels.of_classes for layer in layers]
    if all(of_classes):
        return [function(layer, latencies, scores) for function, layer in zip(of_classes, layers, strict=True)]
    if model.network.timed:
        return devices.map_each(model.decisive_spikes, latencies)
    fire = jax.vmap(functools.partial(neurons.fire_at_last_step, time_steps=model.network.time_steps))
    return [fire(block_potentials(layer, latencies < model.network.time_steps)) for layer in layers]
