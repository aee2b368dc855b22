"""Computations on many images at once by a network that does not learn: latencies, outputs, decisions."""

import functools

import jax
import jax.numpy as jnp

from snnjax import kernels
from snnjax.core import devices
from snnjax.layers.layer_kernels import block_potentials
from snnjax.networks.decision import Decided, decide, is_fitted
from snnjax.networks.model import Model


def encode_batch(model: Model, images: jax.Array, *, native: bool) -> jax.Array:
    """Latencies (B, C, H, W) of images (B, ...)."""
    return devices.map_each(functools.partial(model.encode, native=native), images)


def forward_batch(model: Model, latencies: jax.Array, *, first: int, last: int, timed: bool) -> jax.Array:
    """`Model.forward` of latencies (B, C, H, W): stage by stage where only who fires matters, if kernels compute it."""
    for number in range(first, last):
        layers = model.stage(number)
        fires = [layer.kernels.fires for layer in layers]
        if timed or None in fires or not all(layer.monotone for layer in model.layers_between(number, last)):
            continue
        latencies = _forward_images(model, latencies, first, number, timed)
        pool = model.network.stages[number].pool
        outputs = [fire(layer, latencies, pool) for fire, layer in zip(fires, layers, strict=True)]
        latencies = jnp.concatenate(outputs, axis=1)
        first = number + 1
    return _forward_images(model, latencies, first, last, timed)


def _forward_images(model: Model, latencies: jax.Array, first: int, last: int, timed: bool) -> jax.Array:
    if first == last:
        return latencies
    forward = functools.partial(model.forward, first=first, last=last, timed=timed)
    if any(layer.conv.real for layer in model.layers_between(first, last)):
        return jax.vmap(forward)(latencies)
    return devices.map_each(forward, latencies)


def decide_batch(
    model: Model, inputs: jax.Array, *, first: int, encode: bool = False, native: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Decisions, (B,) int32, and scores, (B, classes), of a model; untimed deciding layers must have kernels `TAPS`.

    The inputs are latencies (B, C, H, W) that enter stage `first`; with `encode`, images as in `encode_batch`.
    """
    latencies = encode_batch(model, inputs, native=native) if encode else inputs
    latencies = forward_batch(model, latencies, first=first, last=model.last, timed=model.network.decision.timed)
    decided = _decide_images(model, latencies)
    return decided.decision, decided.scores


def _decide_images(model: Model, latencies: jax.Array) -> Decided:
    """`Model.decide` of the inputs of the deciding layers, by their kernels for batches where they have some."""
    if is_fitted(model.network.decision):
        return jax.vmap(model.decide)(latencies)
    layers = model.stage(model.last)
    of_classes = [layer.kernels.of_classes for layer in layers]
    if None not in of_classes:
        spikes = [function(layer, latencies) for function, layer in zip(of_classes, layers, strict=True)]
    elif model.network.decision.timed:
        return devices.map_each(model.decide, latencies)
    else:
        fire = jax.vmap(functools.partial(kernels.fire_at_last_step, time_steps=model.network.time_steps))
        spikes = [fire(block_potentials(layer, latencies < model.network.time_steps)) for layer in layers]
    return jax.vmap(lambda x: decide(model.network.decision, x, model.network.classes))(spikes)
