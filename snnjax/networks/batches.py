"""Computations on many images at once by a network that does not learn: latencies, outputs, decisions."""

import functools
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp

from snnjax.core import devices
from snnjax.kernels import Spikes, neurons
from snnjax.layers.layer_kernels import block_potentials
from snnjax.networks.decision import Decided, decide, is_fitted
from snnjax.networks.forward import Known
from snnjax.networks.model import Model


def encode_batch(model: Model, images: jax.Array, *, native: bool) -> jax.Array:
    """Latencies (B, C, H, W) of images (B, ...)."""
    return devices.map_each(functools.partial(model.encode, native=native), images)


def input_batch(model: Model, known: Known, *, number: int, timed: bool) -> jax.Array:
    """`Model.input_of` of images, of which (B, ...) are known."""
    graph = model.network.graph
    known = known if timed else _with_firing(model, known, graph.stages_for_input(number, *known), (number,))
    if number in known.inputs:
        return known.inputs[number]
    (source, *_) = graph.sources(number)
    if graph.plain(number) and source in known.outputs:
        return known.outputs[source]
    compute = functools.partial(Model.input_of, number=number, timed=timed)
    return _map_images(model, graph.stages_for_input(number, *known), compute, known)


def output_batch(model: Model, known: Known, *, number: int, timed: bool) -> jax.Array:
    """`Model.output_of` of images, of which (B, ...) are known."""
    graph = model.network.graph
    known = known if timed else _with_firing(model, known, graph.stages_for_output(number, *known))
    if number in known.outputs:
        return known.outputs[number]
    compute = functools.partial(Model.output_of, number=number, timed=timed)
    return _map_images(model, graph.stages_for_output(number, *known), compute, known)


def _with_firing(model: Model, known: Known, stages: Collection[int], reader: tuple[int, ...] = ()) -> Known:
    """What is known, and who fires in the given stages, up to the last one whose kernels compute it for batches."""
    monotone = all(layer.monotone for number in stages for layer in model.stage(number))
    if not monotone or any(model.network.graph.timed(number) for number in (*stages, *reader)):
        return known
    fast = [number for number in stages if _has_batch_kernels(model, number)]
    last = max(fast, default=-1)
    for number in sorted(stages):
        if number > last:
            break
        if number in fast:
            inputs = input_batch(model, known, number=number, timed=False)
            outputs = _who_fires(model, number, inputs)
        else:
            outputs = output_batch(model, known, number=number + 1, timed=False)
        known = known._replace(outputs=known.outputs | {number + 1: outputs})
    return known


def _has_batch_kernels(model: Model, number: int) -> bool:
    """Whether kernels compute for batches who fires in a stage."""
    layers = model.stage(number)
    return bool(layers) and all(layer.kernels.fires for layer in layers)


def _who_fires(model: Model, number: int, inputs: jax.Array) -> jax.Array:
    """The outputs of a stage by its kernels for batches."""
    pool = model.network.stages[number].pool
    outputs = []
    for layer in model.stage(number):
        fires: Any = layer.kernels.fires
        outputs.append(fires(layer, inputs, pool))
    return jnp.concatenate(outputs, axis=1)


def _map_images(model: Model, stages: Collection[int], function: Callable[..., jax.Array], known: Known) -> jax.Array:
    """`function` of the model and of what is known of each image."""

    def of_image(known: Known) -> jax.Array:
        return function(model, known=known)

    if any(model.network.stages[number].real for number in stages):
        return jax.vmap(of_image)(known)
    return devices.map_each(of_image, known)


def decide_batch(
    model: Model, inputs: Any, *, encode: bool = False, native: bool = False, scores: bool = True
) -> tuple[jax.Array, jax.Array]:
    """Decisions, (B,) int32, and scores, (B, classes), of a model.

    `inputs` are what is known of images, (B, ...); with `encode`, images as in `encode_batch`. Without `scores` those
    may be wrong, but for that of the decision of each layer.
    """
    known = Known({0: encode_batch(model, inputs, native=native)}) if encode else inputs
    latencies = input_batch(model, known, number=model.last, timed=model.network.decision.timed)
    decided = decide_inputs(model, latencies, scores=scores)
    return decided.decision, decided.scores


def decide_inputs(model: Model, latencies: jax.Array, *, scores: bool) -> Decided:
    """`Model.decide` of the inputs (B, C, H, W) of the deciding layers, by their kernels for batches if there are."""
    spikes = decisive_spikes(model, latencies, scores=scores)
    return jax.vmap(lambda x: decide(model.network.decision, x, model.network.classes))(spikes)


def decisive_spikes(model: Model, latencies: jax.Array, *, scores: bool) -> list[Spikes]:
    """`Model.decisive_spikes` of inputs (B, C, H, W); kernels for batches leave out those that do not matter."""
    if is_fitted(model.network.decision):
        return jax.vmap(model.decisive_spikes)(latencies)
    layers = model.stage(model.last)
    of_classes: list[Any] = [layer.kernels.of_classes for layer in layers]
    if all(of_classes):
        return [function(layer, latencies, scores) for function, layer in zip(of_classes, layers, strict=True)]
    if model.network.decision.timed:
        return devices.map_each(model.decisive_spikes, latencies)
    fire = jax.vmap(functools.partial(neurons.fire_at_last_step, time_steps=model.network.time_steps))
    return [fire(block_potentials(layer, latencies < model.network.time_steps)) for layer in layers]
