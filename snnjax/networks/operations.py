"""What the decision of a network on an image takes: spikes, synaptic operations, and the time that is available.

A synaptic operation is the addition of one weight to the potential of one neuron. An event-driven program makes one for
each spike and each weight, not zero, that the spike meets: these are effective. A program that goes through all inputs
at every step makes T for each synapse: these are dense. Both leave out the synapses that lie on padding, and count as
NeuroBench does (Yik et al. 2025, The NeuroBench framework for benchmarking neuromorphic computing).
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from snnjax.core import checks, devices
from snnjax.layers.conv import Conv
from snnjax.layers.spiking import Layer
from snnjax.networks.batches import decide_inputs, decisive_spikes, encode_batch, input_batch
from snnjax.networks.graph import Known
from snnjax.networks.model import Model
from snnjax.networks.network import Network


class Counts(NamedTuple):
    """Counts of B images.

    Attributes:
      spikes: (B,) int32 of the encoded image, "input", and of each spiking layer by its name, before pooling.
      effective: (B, C) int32 synaptic operations of each spiking layer by its name, for each map that it reads.
      first_spike: (B,) unsigned integers, the step of the first spike of a deciding layer, T where all are silent; None
        where the decision is not timed, or is fitted.
      decisions: (B, K) int32, by what has come after each of K steps, -1 where silent.
    """

    spikes: dict[str, jax.Array]
    effective: dict[str, jax.Array]
    first_spike: jax.Array | None
    decisions: jax.Array


def fan_out(conv: Conv, connected: Any, size: tuple[int, int]) -> jax.Array:
    """The number of synapses of each input of a layer: (C, H, W) float32, whole numbers.

    `connected` is (F, C, kh, kw) bool, which weights there are; `size` is (H, W) of the input, without padding.
    """
    taps = jnp.sum(connected, axis=0, dtype=jnp.float32)[None]
    strides = checks.pair("stride", conv.stride, 1)
    padding = [(margin, margin) for margin in checks.pair("padding", conv.padding, 0)]

    def sums(inputs: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(inputs[None], taps, strides, padding, precision=lax.Precision.HIGHEST)[0, 0]

    inputs = jax.ShapeDtypeStruct((taps.shape[1], *size), jnp.float32)
    (synapses,) = jax.linear_transpose(sums, inputs)(jnp.ones(conv.positions(size), jnp.float32))
    return synapses


def synapses(network: Network) -> dict[str, int]:
    """The number of synapses of each layer, by its name; those of a layer with a ramp take in what is reflected."""
    counts: dict[str, int] = {}
    weights = network.weight_shapes
    for number, name, conv in network.layers():
        size = network.input_shapes[number][1:]
        if conv.ramped:
            counts[name] = math.prod(weights[name]) * math.prod(conv.positions(size))
        else:
            connected = np.ones(weights[name], bool)
            counts[name] = int(np.asarray(fan_out(conv, connected, size), np.int64).sum())
    return counts


def count_batch(model: Model, images: jax.Array, *, native: bool, steps: tuple[int, ...]) -> Counts:
    """`Counts` of images (B, ...), with decisions after each of K steps; kernels as those of `decide_batch`."""
    network = model.network
    latencies = encode_batch(model, images, native=native)
    known = Known({0: latencies})
    spikes = dict(input=jnp.sum(latencies < network.time_steps, axis=(1, 2, 3), dtype=jnp.int32))
    effective: dict[str, jax.Array] = {}
    for number, stage in enumerate(network.stages[: model.last]):
        inputs = input_batch(model, known, number=number)
        outputs, fired = devices.map_each(functools.partial(_respond, model, number), inputs)
        known = known._replace(outputs=known.outputs | {number + 1: outputs})
        spikes |= fired
        effective |= {name: _operations(model.layers[name], inputs) for name in fired}
    evidence = input_batch(model, known, number=model.last)
    first_spike = None
    if network.deciding:
        spikes |= devices.map_each(functools.partial(_decisive, model), evidence)
        effective |= {name: _operations(model.layers[name], evidence) for name in network.deciding}
    if network.deciding and network.decision.timed:
        latest = [layer.latency.reshape(len(images), -1) for layer in decisive_spikes(model, evidence, scores=False)]
        first_spike = jnp.concatenate(latest, axis=1).min(axis=1)
    return Counts(spikes, effective, first_spike, _decisions_after(model, evidence, steps))


def _respond(model: Model, number: int, inputs: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The output of a stage that does not decide, and the number of spikes of each of its layers, () int32."""
    responses = model.responses(number, inputs)
    spikes = {name: _spikes(x, model) for name, x in zip(model.network.names[number], responses, strict=False)}
    return model.join(number, responses), spikes


def _decisive(model: Model, inputs: jax.Array) -> dict[str, jax.Array]:
    """The number of spikes of each deciding layer, () int32; of monotone ones who fires depends on no time."""
    counts: dict[str, jax.Array] = {}
    for name in model.network.deciding:
        layer = model.layers[name]
        timed = model.network.decision.timed
        latencies = layer.last_latencies(inputs) if timed and layer.monotone else layer.deciding_spikes(inputs).latency
        counts[name] = _spikes(latencies, model)
    return counts


def _spikes(latencies: jax.Array, model: Model) -> jax.Array:
    """The number of spikes in latencies, (F, H, W): () int32."""
    return jnp.sum(latencies < model.network.time_steps, dtype=jnp.int32)


def _operations(layer: Layer, inputs: jax.Array) -> jax.Array:
    """Effective synaptic operations of each image and map, (B, C) int32, of a layer's inputs (B, C, H, W)."""
    met = fan_out(layer.conv, layer.weights != 0, (inputs.shape[2], inputs.shape[3])).astype(jnp.int32)
    return jnp.sum(jnp.where(inputs < layer.time_steps, met, 0), axis=(2, 3), dtype=jnp.int32)


def _decisions_after(model: Model, evidence: jax.Array, steps: tuple[int, ...]) -> jax.Array:
    """Decisions, (B, K) int32, on what has come of the evidence (B, C, H, W) after each of K steps."""
    silent = jnp.asarray(model.network.time_steps, evidence.dtype)

    def after(step: jax.Array) -> jax.Array:
        return decide_inputs(model, jnp.where(evidence <= step, evidence, silent), scores=False).decision

    return jax.lax.map(after, jnp.asarray(steps, evidence.dtype)).T
