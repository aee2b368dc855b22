"""Non-leaky integrate-and-fire neurons over convolutional synapses.

All convolutions are products of patches (im2col) and weights, because on a CPU, XLA runs a convolution inside a scan
many times slower.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from snnjax.core import checks
from snnjax.core.checks import Number, Pair
from snnjax.core.sharding import vary_like
from snnjax.kernels.kernel import kernel
from snnjax.kernels.spikes import latency_dtype, output_size, windows


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Spikes:
    """The latency of each neuron, and its potential when it fired: all that a learner needs from a layer.

    Attributes:
      latency: (F, H, W) unsigned integers, T for silent neurons.
      potential: (F, H, W) float32, the potential at the time step of the spike, 0 for silent neurons.
      time: (F, H, W) float32, the spike times of `timed_spikes`, whose `potential` also holds the potentials of silent
        neurons; otherwise None.
    """

    latency: jax.Array
    potential: jax.Array
    time: jax.Array | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PositionSpikes:
    """The single spike that passes pointwise inhibition at each position.

    Attributes:
      feature: (H, W) int32.
      latency: (H, W) unsigned integers, T for silent positions.
      potential: (H, W) float32, 0 for silent positions.
    """

    feature: jax.Array
    latency: jax.Array
    potential: jax.Array


def strongest(
    potential: jax.Array, candidate: jax.Array | None = None, index: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """The largest potential among the candidates at each position, and the lowest feature that has it.

    With `index`, it is the largest potential of all neurons, and the lowest index among the neurons that have it.
    """
    axis = 0 if index is None else None
    index = lax.broadcasted_iota(jnp.int32, potential.shape, 0) if index is None else index
    if candidate is not None:
        potential = jnp.where(candidate, potential, -jnp.inf)
    largest = potential.max(axis, keepdims=True)
    lowest = jnp.where(potential == largest, index, jnp.iinfo(jnp.int32).max).min(axis)
    return largest.reshape(lowest.shape), lowest


def product(weights: jax.Array, spiked: jax.Array) -> jax.Array:
    """The matrix product of floats and spikes, of any dtype, at the highest precision of the device."""
    # The default precision of accelerators rounds weights to bfloat16 or TF32, and rounding decides which neurons fire:
    # trained weights lie near 0 and 1, so that potentials lie near integer thresholds.
    return jnp.matmul(weights, spiked.astype(weights.dtype), precision=lax.Precision.HIGHEST)


def unfold(
    latency: jax.Array, weights: jax.Array, stride: Pair, *, name: str = "latency", time_steps: int = 0
) -> tuple[jax.Array, jax.Array, tuple[int, ...]]:
    """Patches (K, P), weights (F, K) and the shape (F, H', W') of their product."""
    checks.convolution(latency, weights, name=name, time_steps=time_steps)
    features = weights.shape[0]
    kernel = weights.shape[2:]
    strides = checks.pair("stride", stride, 1)
    flat = weights.reshape(features, -1)
    shape = (features, *output_size(latency.shape[1:], kernel, strides))
    if math.prod(kernel) > _MANY_TAPS:  # rows first, then columns: this takes far fewer slices
        tall = jnp.stack(list(windows(latency, (kernel[0], 1), (strides[0], 1))), axis=1)
        latency = tall.reshape(-1, *tall.shape[2:])
        kernel = (1, kernel[1])
        strides = (1, strides[1])
    taps = jnp.stack(list(windows(latency, kernel, strides)), axis=1).reshape(flat.shape[1], -1)
    return taps, flat, shape


@kernel("time_steps", "stride")
def potentials(latency: jax.Array, weights: jax.Array, *, time_steps: int, stride: Pair = 1) -> jax.Array:
    """Membrane potentials at every time step, (T, F, H', W').

    They are the valid cross-correlation of the spike wave with the weights.
    """
    taps, flat, shape = unfold(latency, weights, stride, time_steps=checks.time_steps(time_steps))
    steps = jnp.arange(time_steps, dtype=latency.dtype)
    movie = lax.map(lambda step: product(flat, taps <= step), steps)
    return movie.reshape(time_steps, *shape)


@kernel("stride")
def final_potentials(spiked: jax.Array, weights: jax.Array, *, stride: Pair = 1) -> jax.Array:
    """Potentials at the last time step, (F, H', W') float; `spiked`, (C, H, W) bool, says which inputs fired."""
    checks.array("spiked", spiked, "C H W", "booleans")
    taps, flat, shape = unfold(spiked.astype(jnp.uint8), weights, stride, name="spiked")
    return product(flat, taps).reshape(shape)


@kernel("padding", "stride")
def final_potentials_of_block(spiked: jax.Array, taps: jax.Array, *, padding: Pair = 0, stride: Pair = 1) -> jax.Array:
    """`final_potentials` of B images at once, (B, F, H', W') float, which skips the taps that fall on padding.

    A small map under a large kernel is mostly padding: of the 400 taps of a 5x5 kernel on a 4x4 input padded by 2, only
    196 matter. `spiked` is (B, C, H, W) bool, without padding; `taps` holds the weights as (kh, kw, F, C) float.
    """
    checks.array("spiked", spiked, "B C H W")
    checks.array("taps", taps, "kh kw F C", "floats")
    paddings = checks.pair("padding", padding, 0)
    strides = checks.pair("stride", stride, 1)
    kernel = taps.shape[:2]
    size = spiked.shape[2:]
    padded = tuple(length + 2 * margin for length, margin in zip(size, paddings, strict=True))
    checks.fits("spiked", (spiked.shape[1], *padded), "taps", (taps.shape[3], *kernel))
    positions = output_size(padded, kernel, strides)
    # Along each axis, the index of the input below each tap at each position, (positions, taps), without padding.
    below = [
        stride * np.arange(count)[:, None] + np.arange(length) - margin
        for stride, count, length, margin in zip(strides, positions, kernel, paddings, strict=True)
    ]

    def in_one_product(spiked: jax.Array, taps: jax.Array) -> jax.Array:
        maps = jnp.pad(spiked, ((0, 0), (0, 0), *((margin, margin) for margin in paddings)))
        rows, columns = (inputs + margin for inputs, margin in zip(below, paddings, strict=True))
        fields = maps[:, :, rows[:, :, None, None], columns]  # B C H' kh W' kw
        return jnp.einsum("rsfc,bchrws->bfhw", taps, fields.astype(taps.dtype), precision=lax.Precision.HIGHEST)

    if math.prod(kernel) > _MANY_TAPS:
        return in_one_product(spiked, taps)
    # Each tap that lies on the map at some position: its row and column, these positions, and the inputs below it.
    reached = [tuple(zip(*spans, strict=True)) for spans in itertools.product(*map(_spans, below, size, strides))]

    def by_taps(spiked: jax.Array, taps: jax.Array) -> jax.Array:
        maps = jnp.transpose(spiked, (1, 2, 3, 0)).astype(taps.dtype)  # C H W B
        total = jnp.zeros((taps.shape[2], *positions, len(spiked)), taps.dtype)
        for tap, to, inputs in reached:
            pixels = maps[:, *inputs]
            part = product(taps[tap], pixels.reshape(len(pixels), -1))
            total = total.at[:, *to].add(part.reshape(-1, *pixels.shape[1:]))
        return jnp.moveaxis(total, 3, 0)

    # On an accelerator, multiplying by silent padding is faster than launching a product for each tap.
    return lax.platform_dependent(spiked, taps, cpu=by_taps, default=in_one_product)


_MANY_TAPS = 64
"""Kernels with more taps are not unrolled: they would take long to compile, and few of their taps fall on padding."""


def _spans(below: np.ndarray, size: int, stride: int) -> list[tuple[int, slice, slice]]:
    """For each tap that lies on the map at some position, along one axis: these positions, and the inputs below it."""
    spans = []
    for tap, inputs in enumerate(below.T.tolist()):
        on_map = [position for position, index in enumerate(inputs) if 0 <= index < size]
        if on_map:
            first = on_map[0]
            last = on_map[-1]
            spans.append((tap, slice(first, last + 1), slice(inputs[first], inputs[last] + 1, stride)))
    return spans


@kernel()
def fire(potentials: jax.Array, *, threshold: Number | None) -> Spikes:
    """The first spike of each neuron: it fires at the first time step at which its potential exceeds the threshold.

    A potential equal to the threshold does not suffice. Maps potentials (T, F, H, W) float to `Spikes` of (F, H, W).
    """
    checks.array("potentials", potentials, "T F H W", "floats")
    return _first_crossings(
        lambda step: potentials[step], potentials, threshold, checks.time_steps(potentials.shape[0])
    )


def _first_crossings(potential_at: Callable[[Any], jax.Array], arrays: Any, threshold: Any, time_steps: int) -> Spikes:
    """The spikes of neurons whose potentials are a function of the time step, computed from `arrays`."""
    if threshold is None:
        return fire_at_last_step(potential_at(time_steps - 1), time_steps=time_steps)

    def cross(step: jax.Array, spikes: Spikes) -> Spikes:
        potential = potential_at(step)
        now = jnp.asarray(step, spikes.latency.dtype)
        fires = (potential > threshold) & (spikes.latency > now)
        return Spikes(jnp.where(fires, now, spikes.latency), jnp.where(fires, potential, spikes.potential))

    neurons = jax.eval_shape(potential_at, 0)
    checks.threshold(threshold, neurons.shape[0])
    # The comparison is made in the dtype of the potentials: a threshold of a wider dtype that rounds to a potential may
    # still lie below it, so that the neuron would fire.
    threshold = jnp.asarray(threshold, neurons.dtype)
    if threshold.ndim:
        threshold = threshold.reshape(-1, *(1,) * (neurons.ndim - 1))
    latency = jnp.full(neurons.shape, time_steps, latency_dtype(time_steps))
    silent = Spikes(latency, jnp.zeros(neurons.shape, neurons.dtype))
    return lax.fori_loop(0, time_steps, cross, vary_like(silent, arrays, threshold))


def fire_at_last_step(potential: jax.Array, *, time_steps: int) -> Spikes:
    """Spikes of neurons without a threshold, of any shape: neurons with a potential above 0 fire at the last step."""
    fired = potential > 0
    return Spikes(at_last_step(fired, time_steps), jnp.where(fired, potential, 0))


def at_last_step(fired: jax.Array, time_steps: int) -> jax.Array:
    """Latencies of neurons that can only fire at the last time step; `fired`, bool of any shape, says which do."""
    return jnp.where(fired, time_steps - 1, time_steps).astype(latency_dtype(time_steps))


@kernel("time_steps", "stride")
def integrate_and_fire(
    latency: jax.Array, weights: jax.Array, *, threshold: Number | None, time_steps: int, stride: Pair = 1
) -> Spikes:
    """The implementation of `kernels.integrate_and_fire` in XLA."""
    taps, flat, shape = unfold(latency, weights, stride, time_steps=checks.time_steps(time_steps))

    def potential_at(step: Any) -> jax.Array:
        return product(flat, taps <= jnp.asarray(step, taps.dtype))

    spikes = _first_crossings(potential_at, (taps, flat), threshold, time_steps)
    return jax.tree.map(lambda x: x.reshape(shape), spikes)


MANY_STEPS = 24
"""With more time steps, `latencies` goes input by input. Measured on two cores: 20 times faster for T = 255."""


@kernel("time_steps", "stride")
def latencies(
    latency: jax.Array, weights: jax.Array, *, threshold: Number | None, time_steps: int, stride: Pair = 1
) -> jax.Array:
    """The implementation of `kernels.latencies` in XLA.

    With many time steps, the inputs of each position are sorted, and their weights are added up in the order in which
    they fire. This takes one sum for each input that fires, instead of one for each time step, but floats are added up
    in a different order.
    """
    size = math.prod(weights.shape[1:])
    # The last condition: sorting needs a time step and the index of an input in one integer, and JAX's integers have
    # only 32 bits by default.
    if threshold is None or time_steps <= MANY_STEPS or (time_steps + 1) * size > np.iinfo(np.int32).max:
        firing = integrate_and_fire(latency, weights, threshold=threshold, time_steps=time_steps, stride=stride)
        return firing.latency
    taps, flat, shape = unfold(latency, weights, stride, time_steps=time_steps)
    checks.threshold(threshold, len(flat))
    limits = jnp.broadcast_to(jnp.asarray(threshold, weights.dtype), len(flat))[None]
    # The time step at which each input fires, times K, plus the index of the input, sorted: [P, K].
    order = lax.sort(jnp.clip(taps.T, 0, time_steps).astype(jnp.int32) * size + jnp.arange(size)[None], is_stable=False)
    step, tap = jnp.divmod(order, size)
    gains = flat.T
    silent = jnp.asarray(time_steps, latency_dtype(time_steps))

    def fire(index: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        first, potential = state
        now = step[:, index]
        # Potentials count only once all inputs of a step have fired: with weights below 0 they may exceed the threshold
        # between two inputs of one step, and be below it at its end.
        last = (index == size - 1) | (step[:, jnp.minimum(index + 1, size - 1)] > step[:, index])
        potential += gains[tap[:, index]]
        fires = (potential > limits) & (last & (now < time_steps))[:, None]
        return jnp.where(fires, jnp.minimum(first, now.astype(first.dtype)[:, None]), first), potential

    # Below a threshold of 0 neurons fire without any input.
    start = jnp.where((limits < 0) & (step[:, :1] > 0), 0, silent)
    # The loop runs up to the largest number of inputs that fire in any receptive field: 25 of 50 in the layer of
    # goupy2024_ncg.
    used = jnp.max(jnp.sum(step < time_steps, axis=1))
    nothing = vary_like((start, jnp.zeros(start.shape, weights.dtype)), latency, weights, limits)
    first = lax.fori_loop(0, used, fire, nothing)[0]
    return first.T.reshape(shape)


@kernel("time_steps", "stride", "fractional")
def timed_spikes(
    latency: jax.Array,
    weights: jax.Array,
    *,
    threshold: Number | None,
    time_steps: int,
    stride: Pair = 1,
    fractional: bool = False,
) -> Spikes:
    """The implementation of `kernels.timed_spikes` in XLA."""
    taps, flat, shape = unfold(latency, weights, stride, time_steps=checks.time_steps(time_steps))
    checks.threshold(threshold, len(flat))
    limits = jnp.asarray(0.0 if threshold is None else threshold, weights.dtype)
    limits = limits[:, None] if limits.ndim else limits
    first = time_steps - 1 if threshold is None else 0

    def cross(step: jax.Array, state: Any) -> Any:
        before, spikes = state
        potential = product(flat, taps <= jnp.asarray(step, taps.dtype))
        fires = (potential > limits) & (spikes.latency == time_steps)
        silent = spikes.latency == time_steps
        time = spike_times(step, fires, before, potential, limits, time_steps=time_steps, fractional=fractional)
        latency = jnp.where(fires, jnp.asarray(step, latency_dtype(time_steps)), spikes.latency)
        spikes = Spikes(latency, jnp.where(silent, potential, spikes.potential), jnp.where(fires, time, spikes.time))
        return potential, spikes

    nothing = jnp.zeros((len(flat), taps.shape[1]), weights.dtype)
    silent = jnp.full(nothing.shape, time_steps, latency_dtype(time_steps))
    start = nothing, Spikes(silent, nothing, jnp.ones(nothing.shape, jnp.float32))
    _, spikes = lax.fori_loop(first, time_steps, cross, vary_like(start, latency, weights, limits))
    return jax.tree.map(lambda x: x.reshape(shape), spikes)


def spike_times(
    step: jax.Array,
    fires: jax.Array,
    before: jax.Array,
    potential: jax.Array,
    limits: jax.Array,
    *,
    time_steps: int,
    fractional: bool,
) -> jax.Array:
    """The times of `timed_spikes`, float32, for neurons that fire at `step`.

    They are computed from the potentials at this step and those `before` it.
    """
    # Potentials begin at 0, so that they exceed a negative threshold before the first step. Then the line through both
    # potentials would cross the threshold before the image begins.
    rises = fires & (before <= limits)
    within = jnp.where(rises, (limits - before) / jnp.where(rises, potential - before, 1), 0)
    late = step + within if fractional else step
    # XLA turns a division by a constant into a product anyway. With a product, compiled kernels can round the same way.
    time = jnp.asarray(late, jnp.float32) * (np.float32(1) / np.float32(time_steps))
    # Rounding must not turn a spike at the end of the last time step into silence.
    return jnp.minimum(time, np.nextafter(np.float32(1), np.float32(0)))
