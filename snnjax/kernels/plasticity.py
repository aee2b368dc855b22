"""Spike-timing-dependent plasticity (STDP), and its reward-modulated form (R-STDP).

References:
  Kheradpisheh et al. 2018, STDP-based spiking deep convolutional neural networks for object recognition.
  Mozafari et al. 2018, First-spike-based visual categorization using reward-modulated STDP.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from snnjax.kernels import checks
from snnjax.kernels.competition import Winners


def receptive_field(latency: jax.Array, row: jax.Array, column: jax.Array, kernel: tuple[int, ...]) -> jax.Array:
    """The inputs (C, kh, kw) of one position, from row and column of `latency` (C, H, W) on."""
    return lax.dynamic_slice(latency, (0, row, column), (latency.shape[0], *kernel))


@functools.partial(jax.jit, static_argnames=("kernel", "stride"))
def receptive_fields(
    latency: jax.Array, winners: Winners, *, kernel: checks.Pair, stride: checks.Pair = 1
) -> jax.Array:
    """The inputs of each winner, (k, C, kh, kw) of the padded `latency`; those of empty places are arbitrary."""
    down, right = checks.pair("stride", stride, 1)
    size = checks.pair("kernel", kernel, 1)
    see = functools.partial(receptive_field, latency, kernel=size)
    return jax.vmap(see)(winners.row * down, winners.column * right)


@checks.kernel("stabiliser", "stride", "time_steps", bounds=checks.bounds)
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
    """The weights after one STDP update: every winner moves those of its feature towards the inputs that made it fire.

    A synapse is causal if its input fired at all and no later than the winner: its weight changes by a+, others by a-.
    If there is any winner, the whole tensor is clipped to the bounds, the features that did not win too.

    Args:
      latency: the input of the winners, padding included.
      winners: `Winners` of (k,), of distinct features.
      rates: (2,) float, (a+, a-): learning rates of potentiation (LTP) and depression (LTD).
      bounds: lower and upper bound of a weight, numbers or () float.
      stabiliser: multiplies each change by (w - lower)(upper - w), so that weights settle at the bounds.
    """
    checks.convolution(latency, weights)
    rule = dict(time_steps=time_steps, stabiliser=stabiliser, stride=stride)
    rows = learned_rows(weights[winners.feature], latency, winners, rates, bounds=bounds, **rule)  # type: ignore
    clipped = jnp.where(winners.valid.any(), jnp.clip(weights, *bounds), weights)
    return set_rows(clipped, winners, rows)


@checks.kernel("stabiliser", "stride", "time_steps", bounds=checks.bounds)
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
    checks.convolution(latency, rows)
    checks.rates(rates)
    fields = receptive_fields(latency, winners, kernel=rows.shape[2:], stride=stride)
    fired = fields < checks.time_steps(time_steps)
    causal = fired & (fields <= winners.latency.astype(fields.dtype)[:, None, None, None])
    lower, upper = (jnp.asarray(bound, rows.dtype) for bound in bounds)
    change = jnp.where(causal, rates[0], rates[1])
    if stabiliser:
        change *= (rows - lower) * (upper - rows)
    return jnp.clip(rows + change, lower, upper)


def set_rows(weights: jax.Array, winners: Winners, rows: jax.Array) -> jax.Array:
    """Puts the winners' rows, (k, ...), into the weights (F, ...); empty places change nothing."""
    beyond = jnp.where(winners.valid, winners.feature, weights.shape[0])
    return weights.at[beyond].set(rows, mode="drop")


@jax.jit
def reward_rates(outcome: jax.Array, reward: jax.Array, punish: jax.Array) -> jax.Array:
    """The rates (2,) of one reward-modulated update (R-STDP) by `stdp`; zeros where nothing was decided.

    `outcome` is () integer: 1 correct, -1 wrong, 0 silent. `reward` and `punish` are the rates (2,), (a+, a-), after a
    correct and after a wrong decision; with signs reversed, punishment is anti-STDP.
    """
    return jnp.where(outcome > 0, reward, jnp.where(outcome < 0, punish, 0))


@jax.jit
def adapted_rates(base: jax.Array, fraction: jax.Array) -> jax.Array:
    """Adaptive rates (Mozafari et al. 2018): rewards shrink as errors become rare, punishments as successes do.

    `base`, (..., 2) float, (a+, a-), times `fraction`, () float: of the last batch, the share of wrong decisions for
    reward rates, of correct ones for punish rates.
    """
    return base * fraction
