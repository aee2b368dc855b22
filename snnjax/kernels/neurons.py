"""Non-leaky integrate-and-fire neurons over convolutional synapses, without a movie of potentials where none is needed.

All convolutions are patches (im2col) times weights: on the CPU, XLA runs a convolution inside a scan many times slower.
Potentials are sums of float32 weights at the highest precision of the device.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from snnjax.errors import InputError
from snnjax.kernels import checks
from snnjax.kernels.checks import Pair
from snnjax.kernels.spikes import latency_dtype, output_size, windows


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Spikes:
    """What learning needs to know of a layer: when each neuron fired, and how far its potential had grown by then."""

    latency: jax.Array  # [F, H, W] unsigned integers, T where silent
    potential: jax.Array  # [F, H, W] float32, the potential at the step of the spike, 0 where silent


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PositionSpikes:
    """The one spike that pointwise inhibition leaves at each position."""

    feature: jax.Array  # [H, W] int32
    latency: jax.Array  # [H, W] unsigned integers, T where silent
    potential: jax.Array  # [H, W] float32, 0 where silent


def patches(maps: jax.Array, kernel: tuple[int, ...], stride: tuple[int, ...]) -> jax.Array:
    """The receptive field of each position as a column: (C, H, W) to (C kh kw, H' W')."""
    taps = jnp.stack(list(windows(maps, kernel, stride)), axis=1)
    return taps.reshape(maps.shape[0] * kernel[0] * kernel[1], -1)


def product(weights: jax.Array, spiked: jax.Array) -> jax.Array:
    """Matrix product of floats and spikes, of any dtype, at the highest precision of the device."""
    return jnp.matmul(weights, spiked.astype(weights.dtype), precision=lax.Precision.HIGHEST)


def _unfold(
    latency: jax.Array, weights: jax.Array, stride: Pair, *, name: str = "latency", time_steps: int = 0
) -> tuple[jax.Array, jax.Array, tuple[int, ...]]:
    """Patches (K, P), weights (F, K) and the shape (F, H', W') of what they make."""
    checks.convolution(latency, weights, name=name, time_steps=time_steps)
    kernel = weights.shape[2:]
    strides = checks.pair("stride", stride, 1)
    shape = (weights.shape[0], *output_size(latency.shape[1:], kernel, strides))
    return patches(latency, kernel, strides), weights.reshape(weights.shape[0], -1), shape


@functools.partial(jax.jit, static_argnames=("time_steps", "stride"))
def potentials(latency: jax.Array, weights: jax.Array, *, time_steps: int, stride: Pair = 1) -> jax.Array:
    """Membrane potentials at every step: valid cross-correlation of the spike wave with the weights.

    Args:
      latency: (C, H, W) integers, the input spikes.
      weights: (F, C, kh, kw) float.
      time_steps: T.
      stride: rows and columns between neighbouring positions.

    Returns:
      (T, F, H', W') float, with H' = (H - kh) // stride + 1.

    Raises:
      TypeError, InputError: wrong rank, dtype or channel count; a kernel larger than the map; T < 1.
    """
    checks.time_steps(time_steps)
    taps, flat, shape = _unfold(latency, weights, stride, time_steps=time_steps)
    steps = jnp.arange(time_steps, dtype=latency.dtype)
    movie = lax.map(lambda step: product(flat, taps <= step), steps)
    return movie.reshape(time_steps, *shape)


@functools.partial(jax.jit, static_argnames="stride")
def final_potentials(spiked: jax.Array, weights: jax.Array, *, stride: Pair = 1) -> jax.Array:
    """Potentials at the last step, from nothing but who fired at all.

    Args:
      spiked: (C, H, W) bool: the input neurons that fired.
      weights: (F, C, kh, kw) float.
      stride: rows and columns between neighbouring positions.

    Returns:
      (F, H', W') float.

    Raises:
      TypeError, InputError: wrong rank or channel count; a kernel larger than the map.
    """
    checks.array("spiked", spiked, "C H W")
    if spiked.dtype != bool:
        raise TypeError(f"`spiked` must hold booleans, got dtype {spiked.dtype}")
    taps, flat, shape = _unfold(spiked.astype(jnp.uint8), weights, stride, name="spiked")
    return product(flat, taps).reshape(shape)


@functools.partial(jax.jit, static_argnames=("padding", "stride"))
def final_potentials_of_block(spiked: jax.Array, taps: jax.Array, *, padding: Pair = 0, stride: Pair = 1) -> jax.Array:
    """`final_potentials` of B images at once, leaving out the taps that fall on padding.

    Small maps under large kernels are mostly padding: of the 400 taps of a 5x5 kernel over 4x4 inputs padded by 2, 196
    carry anything. Tap by tap, the images' parts below it are multiplied by the weights of that tap.

    Args:
      spiked: (B, C, H, W) bool: the input neurons that fired, without padding.
      taps: (kh, kw, F, C) float, the weights with the taps in front.
      padding: silent rows and columns around the input.
      stride: rows and columns between neighbouring positions.

    Returns:
      (B, F, H', W') float.

    Raises:
      TypeError, InputError: wrong rank or channel count; a kernel larger than the padded map.
    """
    checks.array("spiked", spiked, "B C H W")
    checks.real("taps", taps, "kh kw F C")
    if spiked.shape[1] != taps.shape[3]:
        raise InputError(f"`spiked` must have the {taps.shape[3]} channels of `taps`, got {spiked.shape[1]}")
    paddings, strides = checks.pair("padding", padding, 0), checks.pair("stride", stride, 1)
    kernel, size = taps.shape[:2], spiked.shape[2:]
    padded = tuple(length + 2 * margin for length, margin in zip(size, paddings, strict=True))
    checks.window("the kernel of `taps`", kernel, padded)
    positions = output_size(padded, kernel, strides)
    if math.prod(kernel) > _MANY_TAPS:
        return _fields_at_once(spiked, taps, paddings, strides, positions)
    spans = [
        [_span(tap, *lengths) for tap in range(length)]
        for length, *lengths in zip(kernel, size, positions, strides, paddings, strict=True)
    ]
    tapwise = _all_taps_at_once if spiked.shape[0] == 1 else _tap_by_tap
    return tapwise(spiked, taps, spans, positions)


_MANY_TAPS = 64
"""Kernels with more taps are not unrolled: compilation would take long, and little of them lies on padding."""


def _fields_at_once(
    spiked: jax.Array,
    taps: jax.Array,
    paddings: tuple[int, int],
    strides: tuple[int, int],
    positions: tuple[int, int],
) -> jax.Array:
    padded = jnp.pad(spiked, ((0, 0), (0, 0), *((margin, margin) for margin in paddings)))
    rows, columns = (
        stride * np.arange(count)[:, None] + np.arange(length)
        for stride, count, length in zip(strides, positions, taps.shape[:2], strict=True)
    )
    fields = padded[:, :, rows[:, :, None, None], columns]  # B C H' kh W' kw
    return jnp.einsum("rsfc,bchrws->bfhw", taps, fields.astype(taps.dtype), precision=lax.Precision.HIGHEST)


Spans = list[list[tuple[slice, slice]]]


def _tap_by_tap(spiked: jax.Array, taps: jax.Array, spans: Spans, positions: tuple[int, int]) -> jax.Array:
    maps = jnp.transpose(spiked, (1, 2, 3, 0)).astype(taps.dtype)  # C H W B
    total = jnp.zeros((taps.shape[2], *positions, spiked.shape[0]), taps.dtype)
    for row, (to_rows, from_rows) in enumerate(spans[0]):
        for column, (to_columns, from_columns) in enumerate(spans[1]):
            below = maps[:, from_rows, from_columns]
            if below.size:
                part = product(taps[row, column], below.reshape(below.shape[0], -1))
                total = total.at[:, to_rows, to_columns].add(part.reshape(-1, *below.shape[1:]))
    return jnp.moveaxis(total, 3, 0)


def _all_taps_at_once(spiked: jax.Array, taps: jax.Array, spans: Spans, positions: tuple[int, int]) -> jax.Array:
    """Twice the arithmetic in one product: better for one image and few features."""
    rows, columns, features, channels = taps.shape
    parts = product(taps.reshape(-1, channels), spiked[0].reshape(channels, -1))
    parts = parts.reshape(rows, columns, features, *spiked.shape[2:])
    total = jnp.zeros((features, *positions), taps.dtype)
    for row, (to_rows, from_rows) in enumerate(spans[0]):
        for column, (to_columns, from_columns) in enumerate(spans[1]):
            part = parts[row, column, :, from_rows, from_columns]
            edges = [(0, 0), *((to.start, n - to.stop) for to, n in zip((to_rows, to_columns), positions, strict=True))]
            total += jnp.pad(part, edges)
    return total[None]


def _span(tap: int, size: int, positions: int, stride: int, padding: int) -> tuple[slice, slice]:
    """Along one axis: the positions at which a tap lies on the map, and what of the map lies below it there."""
    first = min(positions, max(0, -(-(padding - tap) // stride)))
    last = min(positions - 1, (size - 1 + padding - tap) // stride)
    start = first * stride + tap - padding
    count = max(0, last - first + 1)
    return slice(first, first + count), slice(start, start + max(0, (count - 1) * stride + 1), stride)


def fire(potentials: jax.Array, *, threshold: float | jax.Array | None) -> Spikes:
    """First crossing: a neuron fires at the first step whose potential is strictly greater than the threshold.

    Args:
      potentials: (T, F, H, W) float.
      threshold: with None, neurons whose potential is above 0 at the last step fire there.

    Returns:
      `Spikes` of (F, H, W).

    Raises:
      TypeError, InputError: wrong rank or dtype; a threshold that is not a number.
    """
    checks.threshold(threshold)
    checks.real("potentials", potentials, "T F H W")
    checks.time_steps(potentials.shape[0])
    return _fire(potentials, threshold)


@jax.jit
def _fire(potentials: jax.Array, threshold: float | jax.Array | None) -> Spikes:
    time_steps = potentials.shape[0]
    silent = _silent(potentials.shape[1:], potentials.dtype, time_steps)
    if threshold is None:
        return fire_at_last_step(potentials[-1], time_steps=time_steps)
    return lax.fori_loop(0, time_steps, lambda step, spikes: _cross(spikes, potentials[step], step, threshold), silent)


def _silent(shape: tuple[int, ...], dtype: jnp.dtype, time_steps: int) -> Spikes:
    return Spikes(jnp.full(shape, time_steps, latency_dtype(time_steps)), jnp.zeros(shape, dtype))


def fire_at_last_step(potential: jax.Array, *, time_steps: int) -> Spikes:
    """Neurons without a threshold, of any shape: who is above 0 at the last step fires there."""
    fired = potential > 0
    latency = jnp.where(fired, time_steps - 1, time_steps).astype(latency_dtype(time_steps))
    return Spikes(latency, jnp.where(fired, potential, 0))


def _cross(spikes: Spikes, potential: jax.Array, step: jax.Array, threshold: float | jax.Array) -> Spikes:
    """Adds the neurons that cross the threshold at `step`, if they have not fired before."""
    step = jnp.asarray(step, spikes.latency.dtype)
    fires = (potential > threshold) & (spikes.latency > step)
    return Spikes(
        jnp.where(fires, step, spikes.latency),
        jnp.where(fires, potential, spikes.potential),
    )


def integrate_and_fire(
    latency: jax.Array, weights: jax.Array, *, threshold: float | jax.Array | None, time_steps: int, stride: Pair = 1
) -> Spikes:
    """`fire(potentials(...))` of a layer, one step in memory at a time.

    Args:
      latency: (C, H, W) integers, the input spikes.
      weights: (F, C, kh, kw) float, of any sign.
      threshold: a number, or None: neurons above 0 at the last step fire there.
      time_steps: T.
      stride: rows and columns between neighbouring positions.

    Returns:
      `Spikes` of (F, H', W').

    Raises:
      TypeError, InputError: as `potentials` and `fire`.
    """
    checks.threshold(threshold)
    return _integrate_and_fire(latency, weights, threshold, time_steps=time_steps, stride=stride)


@functools.partial(jax.jit, static_argnames=("time_steps", "stride"))
def _integrate_and_fire(
    latency: jax.Array, weights: jax.Array, threshold: float | jax.Array | None, *, time_steps: int, stride: Pair
) -> Spikes:
    checks.time_steps(time_steps)
    taps, flat, shape = _unfold(latency, weights, stride, time_steps=time_steps)
    if threshold is None:
        spikes = fire_at_last_step(product(flat, taps < time_steps), time_steps=time_steps)
    else:
        silent = _silent((flat.shape[0], taps.shape[1]), weights.dtype, time_steps)

        def step(at: jax.Array, spikes: Spikes) -> Spikes:
            return _cross(spikes, product(flat, taps <= jnp.asarray(at, taps.dtype)), at, threshold)

        spikes = lax.fori_loop(0, time_steps, step, silent)
    return jax.tree.map(lambda x: x.reshape(shape), spikes)


def first_spikes(
    latency: jax.Array, weights: jax.Array, *, threshold: float | jax.Array | None, time_steps: int, stride: Pair = 1
) -> PositionSpikes:
    """The earliest and strongest spike of each position: a layer followed by pointwise inhibition, by bisection.

    Only for weights >= 0: then potentials never fall, "some feature fires here by step t" is monotone in t, and each
    position bisects its earliest step, all of them together in ceil(log2(T + 1)) products instead of T.

    Args:
      latency: (C, H, W) integers, the input spikes.
      weights: (F, C, kh, kw) float, none negative.
      threshold: a number, or None: neurons above 0 at the last step fire there.
      time_steps: T.
      stride: rows and columns between neighbouring positions.

    Returns:
      `PositionSpikes` of (H', W'); among equal latencies the largest potential, then the lowest feature.

    Raises:
      TypeError, InputError: as `potentials` and `fire`.
    """
    checks.threshold(threshold)
    return _first_spikes(latency, weights, threshold, time_steps=time_steps, stride=stride)


@functools.partial(jax.jit, static_argnames=("time_steps", "stride"))
def _first_spikes(
    latency: jax.Array, weights: jax.Array, threshold: float | jax.Array | None, *, time_steps: int, stride: Pair
) -> PositionSpikes:
    checks.time_steps(time_steps)
    taps, flat, shape = _unfold(latency, weights, stride, time_steps=time_steps)
    positions = taps.shape[1]
    # A position's earliest step lies in [low, high]; high = T stands for silence.
    low = jnp.zeros(positions, jnp.int32)
    high = jnp.full(positions, time_steps, jnp.int32)
    if threshold is None:
        low, threshold, products = high - 1, 0.0, 1
    else:
        products = int(time_steps).bit_length()
    potential = jnp.zeros((flat.shape[0], positions), weights.dtype)
    for _ in range(products):
        middle = jnp.minimum((low + high) // 2, time_steps - 1)
        tried = product(flat, taps <= middle.astype(taps.dtype)[None])
        fires = (tried.max(axis=0) > threshold) & (low < high)
        potential = jnp.where(fires, tried, potential)
        low, high = jnp.where(fires | (low >= high), low, middle + 1), jnp.where(fires, middle, high)
    strongest = potential.max(axis=0)
    features = lax.broadcasted_iota(jnp.int32, potential.shape, 0)
    feature = jnp.where(potential == strongest[None], features, flat.shape[0]).min(axis=0)
    spikes = PositionSpikes(feature, high.astype(latency_dtype(time_steps)), strongest)
    return jax.tree.map(lambda x: x.reshape(shape[1:]), spikes)
