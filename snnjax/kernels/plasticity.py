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
from snnjax.kernels.checks import Bounds, Pair
from snnjax.kernels.competition import Winners


@functools.partial(jax.jit, static_argnames=("kernel", "stride"))
def receptive_fields(latency: jax.Array, winners: Winners, *, kernel: Pair, stride: Pair = 1) -> jax.Array:
    """The inputs of each winner, (k, C, kh, kw) of the padded `latency`; those of empty places are arbitrary."""
    return patches(latency, jnp.stack([winners.row, winners.column], axis=1), kernel=kernel, stride=stride)


@functools.partial(jax.jit, static_argnames=("kernel", "stride"))
def patches(latency: jax.Array, positions: jax.Array, *, kernel: Pair, stride: Pair = 1) -> jax.Array:
    """What neurons at some `positions`, (N, 2) integers: row, column, see of the padded `latency`: (N, C, kh, kw)."""
    size = (latency.shape[0], *checks.pair("kernel", kernel, 1))
    down, right = checks.pair("stride", stride, 1)
    return jax.vmap(lambda at: lax.dynamic_slice(latency, (0, at[0] * down, at[1] * right), size))(positions)


@checks.kernel("stabiliser", "stride", "time_steps")
def stdp(
    weights: jax.Array,
    latency: jax.Array,
    winners: Winners,
    rates: jax.Array,
    *,
    time_steps: int,
    bounds: Bounds = (0.0, 1.0),
    stabiliser: bool = True,
    stride: Pair = 1,
) -> jax.Array:
    """The weights after one STDP update: every winner moves those of its feature towards the inputs that made it fire.

    A synapse is causal if its input fired at all and no later than the winner: its weight changes by a+, others by a-.
    If there is any winner, all weights are clipped to the bounds.

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


@checks.kernel("stabiliser", "stride", "time_steps")
def learned_rows(
    rows: jax.Array,
    latency: jax.Array,
    winners: Winners,
    rates: jax.Array,
    *,
    time_steps: int,
    bounds: Bounds = (0.0, 1.0),
    stabiliser: bool = True,
    stride: Pair = 1,
) -> jax.Array:
    """As `stdp`, of the weights of the winners' features alone, (k, C, kh, kw) in and out.

    With `set_rows` it makes the same update where all weights lie within the bounds.
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
    """The rates (2,) of one reward-modulated update (R-STDP) by `stdp`: `reward` after a correct decision, or `punish`.

    `outcome` is () integer: 1 correct, -1 wrong, 0 silent (no change). `reward` and `punish` are (2,) float, (a+, a-).
    """
    return jnp.where(outcome > 0, reward, jnp.where(outcome < 0, punish, 0))


@jax.jit
def adapted_rates(base: jax.Array, fraction: jax.Array) -> jax.Array:
    """Adaptive rates (Mozafari et al. 2018): rewards shrink as errors become rare, punishments as successes do.

    `base`, (..., 2) float, (a+, a-), times `fraction`, () float: of the last batch, the share of wrong decisions for
    reward rates, of correct ones for punish rates.
    """
    return base * fraction
