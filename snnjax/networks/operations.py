"""The cost of a network's decision on an image: spikes, synaptic operations, and the time steps that it takes.

A synaptic operation is the addition of one weight to the potential of one neuron. An event-driven program performs one
for each spike and each non-zero weight that the spike meets: these are the effective operations. A program that goes
through all inputs at every time step performs T operations for each synapse: these are the dense operations. Neither
includes synapses on silent padding. The definitions are those of NeuroBench (Yik et al. 2025, The NeuroBench framework
for benchmarking neuromorphic computing).

In a layer with a ramp, a spike adds each weight that it meets to a slope once; near a reflected border, it meets a
neuron several times. The weights are those of an exported network: with inhibition, their mean over the features is
subtracted. The growth of each potential by its slope, one addition per neuron and time step, is not counted.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from snnjax.core import checks
from snnjax.layers.conv import Conv
from snnjax.layers.layer import BaseLayer
from snnjax.layers.ramp_layer import RampLayer
from snnjax.networks.batches import decide_inputs, encode_batch, input_batch
from snnjax.networks.graph import Activations
from snnjax.networks.model import Model
from snnjax.networks.network import Network


class Counts(NamedTuple):
    """Counts for B images.

    Attributes:
      spikes: (B, 3) int32 arrays for the encoded image, "input", and for each layer, keyed by name: the number of
        spikes before pooling, the time step of the first spike in its window, and the time step by which half of the
        spikes have occurred. The time steps are T if there are no spikes.
      effective: (B, C) int32 arrays, keyed by the name of the layer: effective synaptic operations for each input map.
      decisions: (B, K) int32, the decisions on the spikes up to each of K time steps of the deciding window; -1 if the
        network is silent.
    """

    spikes: dict[str, jax.Array]
    effective: dict[str, jax.Array]
    decisions: jax.Array


def fan_out(conv: Conv, connected: Any, size: tuple[int, int]) -> jax.Array:
    """The number of synapses of each input of a layer: (C, H, W) float32, whole numbers.

    `connected`, (F, C, kh, kw) bool, says which weights exist; `size` is (H, W) of the input, without padding.
    """
    taps = jnp.sum(connected, axis=0, dtype=jnp.float32)[None]
    strides = checks.pair("stride", conv.stride, 1)
    margins = [(margin, margin) for margin in checks.pair("padding", conv.padding, 0)]

    def sums(inputs: jax.Array) -> jax.Array:
        padded = jnp.pad(inputs, [(0, 0), *margins], mode="reflect" if conv.ramped else "constant")
        # By default GPUs and TPUs round the inputs of convolutions to TF32 or bfloat16, which cannot hold these counts.
        return lax.conv_general_dilated(padded[None], taps, strides, "VALID", precision=lax.Precision.HIGHEST)[0, 0]

    inputs = jax.ShapeDtypeStruct((taps.shape[1], *size), jnp.float32)
    rows, columns = np.multiply(conv.output_size(size), conv.ramp.dendrites if conv.ramp else 1)
    positions = np.zeros(conv.positions(size), np.float32)
    positions[:rows, :columns] = 1  # positions at the edge that no complete group of dendrites covers stay 0
    (synapses,) = jax.linear_transpose(sums, inputs)(positions)
    return synapses


def synapses(network: Network) -> dict[str, int]:
    """The number of synapses of each layer, keyed by the name of the layer."""
    counts: dict[str, int] = {}
    weights = network.weight_shapes
    for number, name, conv in network.layers():
        met = fan_out(conv, np.ones(weights[name], bool), network.input_shapes[number][1:])
        counts[name] = int(np.asarray(met, np.int64).sum())
    return counts


def connections(layer: BaseLayer) -> jax.Array:
    """Whether each weight of a layer is not 0, (F, C, kh, kw) bool."""
    weights = layer.weights
    if isinstance(layer, RampLayer) and layer.ramp.inhibition:
        weights = weights - weights.mean(axis=0, keepdims=True)
    return weights != 0


def firing_windows(network: Network) -> tuple[int, ...]:
    """The index, from 0, of the window of T time steps in which the encoded image fires, and that of each stage.

    Neurons with a ramp fire one window after their inputs, unless they decide; so do neurons that average.
    """
    found = [0]
    for number, stage in enumerate(network.stages):
        inputs = network.graph.reads(number)
        latest = max(found[output] + read.averages for output, read in inputs)
        decides = bool(network.deciding) and number == len(network.stages) - 1
        found.append(latest + (stage.ramped and not decides))
    return tuple(found)


def averaging_neurons(network: Network) -> int:
    """The number of neurons that average the latencies of a pooling window, over all inputs with such pooling."""
    count = 0
    for number in range(len(network.stages)):
        for output, read in network.graph.reads(number):
            if read.pool is not None and read.pool.mean:
                features, *size = network.shapes[output]
                count += features * math.prod(read.pool.output_size((size[0], size[1])))
    return count


def count_batch(model: Model, images: jax.Array, *, steps: tuple[int, ...]) -> Counts:
    """`Counts` for images (B, ...), with decisions after each of the K time steps in `steps`."""
    network = model.network
    known = Activations({0: encode_batch(model, images)})
    fired = dict(input=known.outputs[0])
    effective: dict[str, jax.Array] = {}
    for number, names in enumerate(network.names[: model.last]):
        inputs = input_batch(model, known, number=number)
        responses = jax.vmap(functools.partial(model.responses, number))(inputs)
        outputs = jax.vmap(functools.partial(model.join, number))(responses)
        known = known._replace(outputs=known.outputs | {number + 1: outputs})
        fired |= dict(zip(names, responses, strict=False))  # a stage without layers has its input as its response
        effective |= {name: _operations(model.layers[name], inputs) for name in names}
    evidence = input_batch(model, known, number=model.last)
    fired |= jax.vmap(model.decisive_latencies)(evidence)
    effective |= {name: _operations(model.layers[name], evidence) for name in network.evidence}
    count = functools.partial(_count_spikes, time_steps=network.time_steps)
    spikes = {name: jax.vmap(count)(latencies) for name, latencies in fired.items()}
    return Counts(spikes, effective, _decisions_after(model, evidence, steps))


def _count_spikes(latencies: jax.Array, time_steps: int) -> jax.Array:
    """`Counts.spikes` of latencies, (F, H, W): (3,) int32."""
    spikes = jnp.bincount(latencies.ravel(), length=time_steps + 1)[:time_steps]  # at each time step
    fired = jnp.cumsum(spikes, dtype=jnp.int32)
    half = jnp.maximum(1, (fired[-1] + 1) // 2)
    return jnp.stack([fired[-1], *jnp.searchsorted(fired, jnp.stack([1, half]))])


def _operations(layer: BaseLayer, inputs: jax.Array) -> jax.Array:
    """Effective synaptic operations for each image and input map, (B, C) int32, given a layer's inputs (B, C, H, W)."""
    met = fan_out(layer.conv, connections(layer), (inputs.shape[2], inputs.shape[3])).astype(jnp.int32)
    return jnp.sum(jnp.where(inputs < layer.time_steps, met, 0), axis=(2, 3), dtype=jnp.int32)


def _decisions_after(model: Model, evidence: jax.Array, steps: tuple[int, ...]) -> jax.Array:
    """Decisions, (B, K) int32, on the spikes of the evidence (B, C, H, W) up to each of K time steps."""
    silent = jnp.asarray(model.network.time_steps, evidence.dtype)

    def after(step: jax.Array) -> jax.Array:
        return decide_inputs(model, jnp.where(evidence <= step, evidence, silent), scores=False).decision

    if not steps:
        return jnp.zeros((len(evidence), 0), jnp.int32)
    return jax.lax.map(after, jnp.asarray(steps, evidence.dtype)).T
