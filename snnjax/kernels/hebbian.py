"""Soft winner-take-all Hebbian learning (SoftHebb), and the weighted sums of patches that it learns from.

There are N positions, in all images of a batch. At each of them, F features read a patch of K values. Weights are
(F, K) float32.

References:
  Moraitis et al. 2022, SoftHebb: Bayesian inference in unsupervised Hebbian soft winner-take-all networks.
  Journé et al. 2023, Hebbian deep learning without feedback (arXiv 2209.11883).
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from snnjax.core import checks
from snnjax.core.checks import Number, Pair
from snnjax.kernels.kernel import kernel
from snnjax.kernels.plasticity import in_dtype_of
from snnjax.kernels.spikes import windows

_TINY = 1e-30  # keeps changes that are all 0 from being divided by 0
_LEAST = 1e-10  # keeps the step of a weight vector of norm 1 above 0
_FEW = 16  # channels: fewer are too short a row to be copied on their own


class Moments(NamedTuple):
    """Mean and variance of each channel.

    Attributes:
      mean: (C,) float32.
      variance: (C,) float32.
    """

    mean: jax.Array
    variance: jax.Array


@jax.jit
def moments(values: jax.Array) -> Moments:
    """`Moments` of values (B, C, H, W) float over images and positions, with the biased variance."""
    checks.array("values", values, "B C H W", "floats")
    origin = values[:1, :, :1, :1]  # so that the mean of equal values is theirs, without rounding
    mean = (origin + (values - origin).mean(axis=(0, 2, 3), keepdims=True)).ravel()
    return Moments(mean, jnp.square(values - mean[None, :, None, None]).mean(axis=(0, 2, 3)))


@jax.jit
def moved_moments(running: Moments, batch: Moments, values: jax.Array, *, momentum: Number) -> Moments:
    """Running moments after a batch of values (B, C, H, W) with the given moments.

    They move towards the moments of the batch at the rate `momentum`, 0..1, whose variance is converted to the unbiased
    one. If there is only one value per channel, the running variance does not change.
    """
    checks.array("values", values, "B C H W", "floats")
    count = values.size // values.shape[1]
    unbiased = batch.variance * count / (count - 1) if count > 1 else running.variance
    mean, variance = (old + momentum * (new - old) for old, new in zip(running, (batch.mean, unbiased), strict=True))
    return Moments(mean, variance)


@jax.jit
def standardised(values: jax.Array, given: Moments, *, epsilon: Number = 1e-5) -> jax.Array:
    """Values (C, H, W) float minus their channel's mean, divided by the root of its variance plus `epsilon` > 0."""
    checks.array("values", values, "C H W", "floats")
    mean, variance = (jnp.asarray(moment)[:, None, None] for moment in given)
    return (values - mean) * lax.rsqrt(variance + epsilon)


@kernel("kernel", "stride", "padding")
def reflected_patches(values: jax.Array, *, kernel: Pair, stride: Pair = 1, padding: Pair = 0) -> jax.Array:
    """The patch of values (C, H, W) at each position: (H', W', K), K row by row, column by column, channel by channel.

    The map continues beyond its borders by reflection; padding must be smaller than the map.
    """
    checks.array("values", values, "C H W")
    size = checks.pair("kernel", kernel, 1)
    padded = reflected(values, padding)
    checks.window("the kernel", size, padded.shape[:2])
    steps = checks.pair("stride", stride, 1)
    if values.shape[0] < _FEW:  # a row of taps is copied at once
        wide = jnp.concatenate([*_windows(padded, (1, size[1]), (1, steps[1]))], axis=-1)
        return jnp.concatenate([*_windows(wide, (size[0], 1), (steps[0], 1))], axis=-1)
    return jnp.concatenate([*_windows(padded, size, steps)], axis=-1)


def reflected(values: jax.Array, padding: Pair) -> jax.Array:
    """Values (C, H, W) as (H, W, C), continued beyond their borders by reflection."""
    margins = checks.pair("padding", padding, 0)
    needed = [margin + 1 for margin in margins]
    checks.window("the padding that is reflected, and a row and column,", needed, values.shape[1:])
    both_sides = [(margin, margin) for margin in margins]
    # Channels come last, so that all values of a pixel are copied at once into a patch: features of deep layers take up
    # to a third less time.
    return jnp.pad(values.transpose(1, 2, 0), [*both_sides, (0, 0)], mode="reflect")


def _windows(maps: jax.Array, kernel: tuple[int, int], stride: tuple[int, int]) -> Iterator[jax.Array]:
    """As `windows`, for maps (H, W, C), which allow C consecutive values to be copied at once."""
    return (view.transpose(1, 2, 0) for view in windows(maps.transpose(2, 0, 1), kernel, stride))


@jax.jit
def weighted_sums(patches: jax.Array, weights: jax.Array) -> jax.Array:
    """u = patches (..., K) times weights (F, K): (..., F) float32. Raises InputError for other shapes."""
    checks.array("patches", patches, None, "floats")
    checks.array("weights", weights, "F K", "floats")
    checks.shape("weights", weights, (weights.shape[0], patches.shape[-1]), "`patches`")
    return lax.dot_general(patches, weights, (((patches.ndim - 1,), (1,)), ((), ())), precision=lax.Precision.HIGHEST)


@jax.jit
def soft_competition(sums: jax.Array, *, inverse_temperature: Number) -> jax.Array:
    """The share of each feature in learning from a position: a, (N, F) float32, from u, (N, F).

    a = softmax(inverse_temperature u) over the features, with a negative sign for all features except the one with the
    largest u (in a tie, the lowest): this feature moves towards the patch, all other features move away from it.
    """
    checks.array("sums", sums, "N F", "floats")
    (inverse_temperature,) = in_dtype_of(sums, inverse_temperature)
    shares = jax.nn.softmax(inverse_temperature * sums, axis=1)
    won = jnp.argmax(sums, axis=1)[:, None] == jnp.arange(sums.shape[1])[None]
    return jnp.where(won, shares, -shares)


@jax.jit
def hebbian_change(patches: jax.Array, sums: jax.Array, signed: jax.Array, weights: jax.Array) -> jax.Array:
    """The direction in which weights (F, K) learn from N positions: (F, K), with a largest magnitude of 1, or all 0.

    It is the sum over positions of a (patch - u w), with a = `signed` (N, F) and u = `sums` (N, F), divided by its
    largest magnitude.
    """
    pulled = lax.dot_general(signed, patches, (((0,), (0,)), ((), ())), precision=lax.Precision.HIGHEST)
    change = pulled - jnp.sum(signed * sums, axis=0)[:, None] * weights
    return change / (jnp.abs(change).max() + _TINY)


@jax.jit
def towards_unit_norm(weights: jax.Array, change: jax.Array, *, rate: Number) -> jax.Array:
    """Weights (F, K) after a change (F, K) with a step of rate sqrt(| |w| - 1 |), which brings the norm of w to 1."""
    (rate,) = in_dtype_of(weights, rate)
    norm = jnp.sqrt(jnp.sum(jnp.square(weights), axis=1, keepdims=True))
    return weights + rate * jnp.sqrt(jnp.abs(norm - 1) + _LEAST) * change


def relative_change(old: jax.Array, new: jax.Array) -> jax.Array:
    """The norm of the change of weights, relative to the norm of the old weights: () float32."""
    return jnp.sqrt(jnp.sum(jnp.square(new - old)) / jnp.maximum(jnp.sum(jnp.square(old)), _TINY))


@kernel("window", "stride", "padding")
def pool_largest(values: jax.Array, window: Pair, *, stride: Pair | None = None, padding: Pair = 0) -> jax.Array:
    """The largest value of each window of (C, H, W) float, padded with 0. Sizes are as of `pool`."""
    checks.array("values", values, "C H W", "floats")
    (rows, columns), size = checks.pair("padding", padding, 0), checks.pair("window", window, 1)
    padded = jnp.pad(values.transpose(1, 2, 0), ((rows, rows), (columns, columns), (0, 0)))
    checks.window("`window`", size, padded.shape[:2])
    steps = checks.pair("stride", size if stride is None else stride, 1)
    tall = functools.reduce(jnp.maximum, _windows(padded, (size[0], 1), (steps[0], 1)))
    pooled = functools.reduce(jnp.maximum, _windows(tall, (1, size[1]), (1, steps[1])))
    # On CPUs, XLA would compute the pooling again for each window of the next layer in which a value is used.
    return lax.platform_dependent(pooled, cpu=lax.optimization_barrier, default=lambda x: x).transpose(2, 0, 1)
