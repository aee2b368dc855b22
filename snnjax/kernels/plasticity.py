"""Spike-timing-dependent plasticity (STDP), and its reward-modulated form (R-STDP).

References:
  Kheradpisheh et al. 2018, STDP-based spiking deep convolutional neural networks for object recognition.
  Mozafari et al. 2018, First-spike-based visual categorization using reward-modulated STDP.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from snnjax.errors import InputError
from snnjax.kernels import checks
from snnjax.kernels.competition import Winners


def receptive_field(latency: jax.Array, row: jax.Array, column: jax.Array, kernel: tuple[int, ...]) -> jax.Array:
    """What one position sees of the input: (C, kh, kw) of (C, H, W), from input row and column on."""
    return lax.dynamic_slice(latency, (0, row, column), (latency.shape[0], *kernel))


@functools.partial(jax.jit, static_argnames=("kernel", "stride"))
def receptive_fields(
    latency: jax.Array, winners: Winners, *, kernel: checks.Pair, stride: checks.Pair = 1
) -> jax.Array:
    """What each winner sees of the input; places that nobody won see some part of it.

    Args:
      latency: (C, H, W) the input, padding included.
      winners: `Winners` of (k,).
      kernel: rows and columns of the kernel.
      stride: of the layer, in input rows and columns.

    Returns:
      (k, C, kh, kw), dtype as `latency`.
    """
    down, right = checks.pair("stride", stride, 1)
    size = checks.pair("kernel", kernel, 1)
    see = functools.partial(receptive_field, latency, kernel=size)
    return jax.vmap(see)(winners.row * down, winners.column * right)


def change(
    weights: jax.Array, causal: jax.Array, rates: jax.Array, *, bounds: checks.Bounds, stabiliser: bool
) -> jax.Array:
    """The STDP rule itself, elementwise: a+ where the synapse is causal, a- elsewhere, then the bounds.

    Args:
      weights: (...) float.
      causal: (...) bool: the input fired no later than the neuron.
      rates: (2,) float, (a+, a-).
      bounds: lower and upper bound of a weight, numbers or () float.
      stabiliser: multiplies the change by (w - lower)(upper - w), so that weights settle at the bounds.

    Returns:
      (...) the new weights.
    """
    lower, upper = (jnp.asarray(bound, weights.dtype) for bound in bounds)
    delta = jnp.where(causal, rates[0], rates[1])
    if stabiliser:
        delta *= (weights - lower) * (upper - weights)
    return jnp.clip(weights + delta, lower, upper)


def stdp(
    weights: jax.Array,
    latency: jax.Array,
    winners: Winners,
    rates: jax.Array,
    *,
    time_steps: int,
    bounds: checks.Bounds = (0.0, 1.0),
    stabiliser: bool = True,
    stride: checks.Pair = 1,
) -> jax.Array:
    """One STDP update: every winner moves the weights of its feature towards the inputs that made it fire.

    A synapse is causal if its input fired at all and no later than the winner. If there is any winner, the whole
    tensor is clipped to the bounds, the features that did not win too.

    Args:
      weights: (F, C, kh, kw) float.
      latency: (C, H, W) integers, the input that the winners saw, padding included.
      winners: `Winners` of (k,), of distinct features.
      rates: (2,) float, (a+, a-): learning rates of potentiation (LTP) and depression (LTD).
      time_steps: T.
      bounds: lower and upper bound of a weight, numbers or () float.
      stabiliser: multiplies each change by (w - lower)(upper - w).
      stride: of the layer, in input rows and columns.

    Returns:
      (F, C, kh, kw) the new weights.

    Raises:
      TypeError, InputError: wrong rank, dtype or channel count; bounds out of order.
    """
    checks.bounds(bounds)
    settings = dict(time_steps=time_steps, stabiliser=stabiliser, stride=stride)
    return _stdp(weights, latency, winners, rates, bounds, **settings)


_SETTINGS = ("stabiliser", "stride", "time_steps")


@functools.partial(jax.jit, static_argnames=_SETTINGS)
def _stdp(
    weights: jax.Array, latency: jax.Array, winners: Winners, rates: jax.Array, bounds: checks.Bounds, **settings: Any
) -> jax.Array:
    checks.convolution(latency, weights)
    rows = _learned_rows(weights[winners.feature], latency, winners, rates, bounds, **settings)
    clipped = jnp.where(winners.valid.any(), jnp.clip(weights, *bounds), weights)
    return set_rows(clipped, winners, rows)


def learned_rows(
    rows: jax.Array,
    latency: jax.Array,
    winners: Winners,
    rates: jax.Array,
    *,
    time_steps: int,
    bounds: checks.Bounds = (0.0, 1.0),
    stabiliser: bool = True,
    stride: checks.Pair = 1,
) -> jax.Array:
    """The part of `stdp` that learns: from the weights of the winners' features, (k, C, kh, kw), to their new weights.

    With `set_rows` it makes the same update where all weights lie within the bounds, without touching the others.
    """
    checks.bounds(bounds)
    settings = dict(time_steps=time_steps, stabiliser=stabiliser, stride=stride)
    return _learned_rows(rows, latency, winners, rates, bounds, **settings)


@functools.partial(jax.jit, static_argnames=_SETTINGS)
def _learned_rows(
    rows: jax.Array,
    latency: jax.Array,
    winners: Winners,
    rates: jax.Array,
    bounds: checks.Bounds,
    *,
    time_steps: int,
    stabiliser: bool,
    stride: checks.Pair,
) -> jax.Array:
    checks.convolution(latency, rows)
    checks.array("rates", rates, "2")
    if rates.shape != (2,):
        raise InputError(f"`rates` must be (a+, a-), of shape (2,), got shape {rates.shape}")
    fields = receptive_fields(latency, winners, kernel=rows.shape[2:], stride=stride)
    fired = fields < checks.time_steps(time_steps)
    causal = fired & (fields <= winners.latency.astype(fields.dtype)[:, None, None, None])
    return change(rows, causal, rates, bounds=bounds, stabiliser=stabiliser)


def set_rows(weights: jax.Array, winners: Winners, rows: jax.Array) -> jax.Array:
    """Puts the winners' rows, (k, ...), into the weights (F, ...); places that nobody won change nothing."""
    beyond = jnp.where(winners.valid, winners.feature, weights.shape[0])
    return weights.at[beyond].set(rows, mode="drop")


@jax.jit
def reward_rates(outcome: jax.Array, reward: jax.Array, punish: jax.Array) -> jax.Array:
    """The rates of one reward-modulated update (R-STDP), to be given to `stdp`.

    Args:
      outcome: () integer: 1 correct, -1 wrong, 0 silent.
      reward: (2,) float, (a+, a-) after a correct decision.
      punish: (2,) float, (a+, a-) after a wrong decision; signs reversed, this is anti-STDP.

    Returns:
      (2,) float; zeros where nothing was decided.
    """
    return jnp.where(outcome > 0, reward, jnp.where(outcome < 0, punish, 0))


@jax.jit
def adapted_rates(base: jax.Array, fraction: jax.Array) -> jax.Array:
    """Adaptive rates: base rates times the fraction of a batch with the opposite outcome.

    Rewards shrink as errors become rare, punishments as successes do (Mozafari et al. 2018).

    Args:
      base: (..., 2) float, (a+, a-).
      fraction: () float, of the last batch: wrong for reward rates, correct for punish rates.

    Returns:
      (..., 2) float.
    """
    return base * fraction
