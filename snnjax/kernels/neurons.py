"""Non-leaky integrate-and-fire neurons over convolutional synapses; no movie of potentials where none is needed.

All convolutions are patches (im2col) times weights: on the CPU, XLA runs a convolution inside a scan many times slower.
Potentials are sums of float32 weights at the highest precision of the device.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from snnjax.kernels import checks
from snnjax.kernels.checks import Pair
from snnjax.kernels.spikes import latency_dtype, output_size, windows

Size = tuple[int, int]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Spikes:
    """When each neuron fired, and its potential then: all that learning needs to know of a layer."""

    latency: jax.Array  # [F, H, W] unsigned integers, T where silent
    potential: jax.Array  # [F, H, W] float32, the potential at the step of the spike, 0 where silent


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PositionSpikes:
    """The one spike that pointwise inhibition leaves at each position."""

    feature: jax.Array  # [H, W] int32
    latency: jax.Array  # [H, W] unsigned integers, T where silent
    potential: jax.Array  # [H, W] float32, 0 where silent


def strongest(
    potential: jax.Array, index: jax.Array, candidate: jax.Array | None = None, axis: int | None = None
) -> tuple[jax.Array, jax.Array]:
    """The largest potential along an axis (None: of all), among candidates, and the lowest `index` that has it."""
    if candidate is not None:
        potential = jnp.where(candidate, potential, -jnp.inf)
    largest = potential.max(axis, keepdims=True)
    lowest = jnp.where(potential == largest, index, jnp.iinfo(jnp.int32).max).min(axis)
    return largest.reshape(lowest.shape), lowest


def product(weights: jax.Array, spiked: jax.Array) -> jax.Array:
    """Matrix product of floats and spikes, of any dtype, at the highest precision of the device."""
    return jnp.matmul(weights, spiked.astype(weights.dtype), precision=lax.Precision.HIGHEST)


def _unfold(
    latency: jax.Array, weights: jax.Array, stride: Pair, *, name: str = "latency", time_steps: int = 0
) -> tuple[jax.Array, jax.Array, tuple[int, ...]]:
    """Patches (K, P), weights (F, K) and the shape (F, H', W') of their product."""
    checks.convolution(latency, weights, name=name, time_steps=time_steps)
    features, kernel = weights.shape[0], weights.shape[2:]
    strides = checks.pair("stride", stride, 1)
    flat = weights.reshape(features, -1)
    taps = jnp.stack(list(windows(latency, kernel, strides)), axis=1).reshape(flat.shape[1], -1)
    return taps, flat, (features, *output_size(latency.shape[1:], kernel, strides))


@functools.partial(jax.jit, static_argnames=("time_steps", "stride"))
def potentials(latency: jax.Array, weights: jax.Array, *, time_steps: int, stride: Pair = 1) -> jax.Array:
    """Membrane potentials at every step, (T, F, H', W'): valid cross-correlation of the spike wave with the weights."""
    taps, flat, shape = _unfold(latency, weights, stride, time_steps=checks.time_steps(time_steps))
    steps = jnp.arange(time_steps, dtype=latency.dtype)
    movie = lax.map(lambda step: product(flat, taps <= step), steps)
    return movie.reshape(time_steps, *shape)


@functools.partial(jax.jit, static_argnames="stride")
def final_potentials(spiked: jax.Array, weights: jax.Array, *, stride: Pair = 1) -> jax.Array:
    """Potentials at the last step, (F, H', W') float, from the inputs that fired at all, (C, H, W) bool."""
    checks.array("spiked", spiked, "C H W", "booleans")
    taps, flat, shape = _unfold(spiked.astype(jnp.uint8), weights, stride, name="spiked")
    return product(flat, taps).reshape(shape)


@functools.partial(jax.jit, static_argnames=("padding", "stride"))
def final_potentials_of_block(spiked: jax.Array, taps: jax.Array, *, padding: Pair = 0, stride: Pair = 1) -> jax.Array:
    """`final_potentials` of B images at once, (B, F, H', W') float, leaving out the taps that fall on padding.

    Small maps under large kernels are mostly padding: of the 400 taps of a 5x5 kernel over 4x4 inputs padded by 2, only
    196 matter. Each tap's weights are multiplied by the part of the images below it.
    `spiked` is (B, C, H, W) bool, without padding; `taps` is the weights as (kh, kw, F, C) float.
    """
    checks.array("spiked", spiked, "B C H W")
    checks.real("taps", taps, "kh kw F C")
    paddings, strides = checks.pair("padding", padding, 0), checks.pair("stride", stride, 1)
    kernel, size = taps.shape[:2], spiked.shape[2:]
    padded = tuple(length + 2 * margin for length, margin in zip(size, paddings, strict=True))
    checks.fits("spiked", (spiked.shape[1], *padded), "taps", (taps.shape[3], *kernel))
    positions = output_size(padded, kernel, strides)
    if math.prod(kernel) > _MANY_TAPS:
        return _fields_at_once(spiked, taps, paddings, strides, positions)
    spans = [
        [(tap, *span) for tap in range(length) if (span := _span(tap, *lengths))]
        for length, *lengths in zip(kernel, size, positions, strides, paddings, strict=True)
    ]
    # The taps that lie on the map at some position: row and column, those positions, and the inputs below it there.
    reached: list[Any] = [tuple(zip(*row_and_column, strict=True)) for row_and_column in itertools.product(*spans)]
    tapwise = _all_taps_at_once if spiked.shape[0] == 1 else _tap_by_tap
    return tapwise(spiked, taps, reached, positions)


_MANY_TAPS = 64
"""Kernels with more taps are not unrolled: compilation would take long, and few of their taps fall on padding."""


def _fields_at_once(spiked: jax.Array, taps: jax.Array, paddings: Size, strides: Size, positions: Size) -> jax.Array:
    padded = jnp.pad(spiked, ((0, 0), (0, 0), *((margin, margin) for margin in paddings)))
    rows, columns = (
        stride * np.arange(count)[:, None] + np.arange(length)
        for stride, count, length in zip(strides, positions, taps.shape[:2], strict=True)
    )
    fields = padded[:, :, rows[:, :, None, None], columns]  # B C H' kh W' kw
    return jnp.einsum("rsfc,bchrws->bfhw", taps, fields.astype(taps.dtype), precision=lax.Precision.HIGHEST)


def _tap_by_tap(spiked: jax.Array, taps: jax.Array, reached: list[Any], positions: Size) -> jax.Array:
    maps = jnp.transpose(spiked, (1, 2, 3, 0)).astype(taps.dtype)  # C H W B
    total = jnp.zeros((taps.shape[2], *positions, spiked.shape[0]), taps.dtype)
    for tap, to, inputs in reached:
        below = maps[:, *inputs]
        part = product(taps[tap], below.reshape(below.shape[0], -1))
        total = total.at[:, *to].add(part.reshape(-1, *below.shape[1:]))
    return jnp.moveaxis(total, 3, 0)


def _all_taps_at_once(spiked: jax.Array, taps: jax.Array, reached: list[Any], positions: Size) -> jax.Array:
    """Twice the arithmetic in one product: better for one image and few features."""
    rows, columns, features, channels = taps.shape
    parts = product(taps.reshape(-1, channels), spiked[0].reshape(channels, -1))
    parts = parts.reshape(rows, columns, features, *spiked.shape[2:])
    total = jnp.zeros((features, *positions), taps.dtype)
    for tap, to, inputs in reached:
        edges = [(span.start, count - span.stop) for span, count in zip(to, positions, strict=True)]
        total += jnp.pad(parts[*tap, :, *inputs], [(0, 0), *edges])
    return total[None]


def _span(tap: int, size: int, positions: int, stride: int, padding: int) -> tuple[slice, slice] | None:
    """Along one axis: the positions at which a tap lies on the map, and the inputs below it there; None if never."""
    first = max(0, -(-(padding - tap) // stride))
    last = min(positions - 1, (size - 1 + padding - tap) // stride)
    if first > last:
        return None
    start = first * stride + tap - padding
    return slice(first, last + 1), slice(start, start + (last - first) * stride + 1, stride)


@checks.kernel(threshold=checks.threshold)
def fire(potentials: jax.Array, *, threshold: float | jax.Array | None) -> Spikes:
    """First crossing: a neuron fires at the first step whose potential is strictly greater than the threshold.

    From potentials (T, F, H, W) float to `Spikes` of (F, H, W). Without a threshold (None), the neurons whose potential
    is above 0 at the last step fire there.
    """
    checks.real("potentials", potentials, "T F H W")
    return _first_crossings(lambda step: potentials[step], threshold, checks.time_steps(potentials.shape[0]))


def _first_crossings(
    potential_at: Callable[[int | jax.Array], jax.Array], threshold: float | jax.Array | None, time_steps: int
) -> Spikes:
    """Spikes of neurons whose potentials are a function of the step."""
    if threshold is None:
        return fire_at_last_step(potential_at(time_steps - 1), time_steps=time_steps)

    def cross(step: jax.Array, spikes: Spikes) -> Spikes:
        potential = potential_at(step)
        now = jnp.asarray(step, spikes.latency.dtype)
        fires = (potential > threshold) & (spikes.latency > now)
        return Spikes(jnp.where(fires, now, spikes.latency), jnp.where(fires, potential, spikes.potential))

    neurons = jax.eval_shape(potential_at, 0)
    latency = jnp.full(neurons.shape, time_steps, latency_dtype(time_steps))
    return lax.fori_loop(0, time_steps, cross, Spikes(latency, jnp.zeros(neurons.shape, neurons.dtype)))


def fire_at_last_step(potential: jax.Array, *, time_steps: int) -> Spikes:
    """Neurons without a threshold, of any shape: those above 0 at the last step fire there."""
    fired = potential > 0
    latency = jnp.where(fired, time_steps - 1, time_steps).astype(latency_dtype(time_steps))
    return Spikes(latency, jnp.where(fired, potential, 0))


@checks.kernel("time_steps", "stride", threshold=checks.threshold)
def integrate_and_fire(
    latency: jax.Array, weights: jax.Array, *, threshold: float | jax.Array | None, time_steps: int, stride: Pair = 1
) -> Spikes:
    """`fire(potentials(...))` of a layer, `Spikes` of (F, H', W'), with one step in memory at a time."""
    taps, flat, shape = _unfold(latency, weights, stride, time_steps=checks.time_steps(time_steps))
    spikes = _first_crossings(lambda at: product(flat, taps <= jnp.asarray(at, taps.dtype)), threshold, time_steps)
    return jax.tree.map(lambda x: x.reshape(shape), spikes)


@checks.kernel("time_steps", "stride", threshold=checks.threshold)
def first_spikes(
    latency: jax.Array, weights: jax.Array, *, threshold: float | jax.Array | None, time_steps: int, stride: Pair = 1
) -> PositionSpikes:
    """`strongest_feature(integrate_and_fire(...))` by bisection, `PositionSpikes` of (H', W'), for weights >= 0.

    With such weights potentials never fall, "some feature fires here by step t" is monotone in t, and all positions
    bisect their earliest steps at once in ceil(log2(T + 1)) products instead of T.
    """
    taps, flat, shape = _unfold(latency, weights, stride, time_steps=checks.time_steps(time_steps))
    positions = taps.shape[1]
    # A position's earliest step lies in [low, high]; high = T stands for silence.
    low = jnp.zeros(positions, jnp.int32)
    high = jnp.full(positions, time_steps, jnp.int32)
    products = int(time_steps).bit_length()
    if threshold is None:
        low, threshold, products = high - 1, 0.0, 1
    potential = jnp.zeros((flat.shape[0], positions), weights.dtype)
    for _ in range(products):
        middle = jnp.minimum((low + high) // 2, time_steps - 1)
        tried = product(flat, taps <= middle.astype(taps.dtype)[None])
        fires = (tried.max(axis=0) > threshold) & (low < high)
        potential = jnp.where(fires, tried, potential)
        low, high = jnp.where(fires | (low >= high), low, middle + 1), jnp.where(fires, middle, high)
    features = lax.broadcasted_iota(jnp.int32, potential.shape, 0)
    largest, feature = strongest(potential, features, axis=0)
    spikes = PositionSpikes(feature, high.astype(latency_dtype(time_steps)), largest)
    return jax.tree.map(lambda x: x.reshape(shape[1:]), spikes)
