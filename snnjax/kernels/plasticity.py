"""Spike-timing-dependent plasticity (STDP), and its reward-modulated form (R-STDP).

References:
  Kheradpisheh et al. 2018, STDP-based spiking deep convolutional neural networks for object recognition.
  Mozafari et al. 2018, First-spike-based visual categorization using reward-modulated STDP.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from snnjax.core import checks
from snnjax.core.checks import Bounds, Pair
from snnjax.core.errors import InputError, wrong_type
from snnjax.kernels.competition import Winners, check_winners
from snnjax.kernels.kernel import kernel
from snnjax.kernels.spikes import output_size


def _check_fields(maps: Any, winners: Any, kernel: Pair, stride: Pair) -> None:
    checks.array("maps", maps, "C H W")
    _check_places("maps", maps, winners, kernel, stride)


def _check_differences(latency: Any, winners: Any, kernel: Pair, stride: Pair) -> None:
    checks.latency("latency", latency)
    _check_places("latency", latency, winners, kernel, stride)


def _check_places(name: str, maps: Any, winners: Any, kernel: Pair, stride: Pair) -> None:
    taken = checks.pair("kernel", kernel, 1)
    checks.window("`kernel`", taken, maps.shape[1:])
    size = output_size(maps.shape[1:], taken, checks.pair("stride", stride, 1))
    check_winners("winners", winners, size, f"give the padded `{name}`, by `kernels.pad`")


def check_stdp(
    weights: Any, latency: Any, winners: Any, rates: Any, stride: Pair, padding: Pair, time_steps: int, **_: Any
) -> None:
    """Raises InputError or InputTypeError unless the arguments of `kernels.stdp` fit."""
    size = checks.convolution(latency, weights, time_steps=time_steps, padding=padding)
    checks.rates(rates)
    positions = output_size(size, weights.shape[2:], checks.pair("stride", stride, 1))
    write = "give the `padding` and the `stride` of the layer"
    check_winners("winners", winners, positions, write, time_steps=time_steps, features=len(weights))


@kernel("kernel", "stride", check=_check_fields)
def receptive_fields(maps: jax.Array, winners: Winners, *, kernel: Pair, stride: Pair = 1) -> jax.Array:
    """The values of `maps` at the inputs of each winner, (k, C, kh, kw) of the same dtype.

    `maps`, (C, H, W) of any dtype, contains latencies, or other values of each input such as traces. If the layer has
    padding, pass padded maps (`kernels.pad`). The result is arbitrary for unused entries.
    """
    return patches(maps, jnp.stack([winners.row, winners.column], axis=1), kernel=kernel, stride=stride)


@kernel("kernel", "stride", check=_check_differences)
def time_differences(latency: jax.Array, winners: Winners, *, kernel: Pair, stride: Pair = 1) -> jax.Array:
    """The step of each winner's spike minus that of each of its inputs, (k, C, kh, kw) int32.

    Inputs that fired before the winner have positive differences, later ones negative differences; silent inputs count
    as firing at step T. The result is arbitrary for unused entries. `latency` is padded, as by `pad`.
    """
    fields = receptive_fields(latency, winners, kernel=kernel, stride=stride)
    # Latencies are unsigned: their differences would wrap around instead of falling below 0.
    return winners.latency.astype(jnp.int32)[:, None, None, None] - fields.astype(jnp.int32)


@kernel("kernel", "stride")
def patches(maps: jax.Array, positions: jax.Array, *, kernel: Pair, stride: Pair = 1) -> jax.Array:
    """The inputs of neurons at `positions`, (N, 2) integers: row, column; (N, C, kh, kw) of padded `maps` (C, H, W)."""
    size = (maps.shape[0], *checks.pair("kernel", kernel, 1))
    down, right = checks.pair("stride", stride, 1)

    def patch(position: jax.Array) -> jax.Array:
        row, column = position
        return lax.dynamic_slice(maps, (jnp.zeros_like(row), row * down, column * right), size)

    return jax.vmap(patch)(positions)


@kernel("stabiliser", "stride", "time_steps")
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
    """As `kernels.stdp`, by XLA, of `latency` with the padding."""
    won = winners.feature[None] == jnp.arange(len(weights))[:, None]  # [F, k]
    kernel = weights.shape[2], weights.shape[3]
    causal = causal_inputs(latency, winners, kernel=kernel, stride=stride, time_steps=time_steps)
    moved = _moved(weights, causal[jnp.argmax(won, axis=1)], rates, bounds, stabiliser)
    lower, upper = in_dtype_of(weights, *bounds)
    # As in SpykeTorch, the update of any feature clips the whole layer, so that initial weights outside the bounds are
    # pulled in by the first one.
    clipped = jnp.where(winners.valid.any(), jnp.clip(weights, lower, upper), weights)
    # All weights in one kernel: XLA copies them all if the winners' rows are taken out and put back.
    return jnp.where(jnp.any(won, axis=1)[:, None, None, None], moved, clipped)


@kernel("kernel", "stride", "time_steps")
def causal_inputs(
    latency: jax.Array, winners: Winners, *, kernel: Pair, time_steps: int, stride: Pair = 1
) -> jax.Array:
    """The causal inputs of each winner, (k, C, kh, kw) bool: inputs that fired no later than the winner."""
    fields = receptive_fields(latency, winners, kernel=kernel, stride=stride)
    # A winner may be silent itself, at step T, if a decision falls back to potentials. Without this mask, silent inputs
    # would be causal to it. Inputs of the winner's own step are causal, because its potential includes them.
    fired = fields < time_steps
    return fired & (fields.astype(jnp.int32) <= winners.latency.astype(jnp.int32)[:, None, None, None])


def in_dtype_of(weights: jax.Array, *settings: Any) -> tuple[jax.Array, ...]:
    """Bounds and rates in the dtype of the weights, which an update keeps."""
    return tuple(jnp.asarray(setting, weights.dtype) for setting in settings)


def bounds_array(weights: jax.Array, bounds: Bounds) -> jax.Array:
    """The lower and the upper bound, (2,), in the dtype of the weights."""
    return jnp.stack(in_dtype_of(weights, *bounds))


def _moved(rows: jax.Array, causal: jax.Array, rates: Any, bounds: Bounds, stabiliser: bool) -> jax.Array:
    """The updated weights (k, ...), given which of their inputs are causal."""
    lower, upper, rates = in_dtype_of(rows, *bounds, rates)
    change = jnp.where(causal, rates[0], rates[1])
    if stabiliser:
        change *= (rows - lower) * (upper - rows)
    return jnp.clip(rows + change, lower, upper)


@kernel("stabiliser")
def learned_in_order(
    weights: jax.Array,
    winners: jax.Array,
    causal: jax.Array,
    rates: jax.Array,
    *,
    bounds: Bounds = (0.0, 1.0),
    stabiliser: bool = True,
) -> jax.Array:
    """The weights (F, C, kh, kw), which lie within the bounds, after the updates for B stimuli in order.

    Features do not depend on each other: for each stimulus, all features that won are updated at once, and on an
    accelerator several stimuli share a kernel.

    Args:
      winners: (B, k) int32, distinct features, -1 for unused entries.
      causal: (B, k, C, kh, kw) bool, from `causal_inputs`.
      rates: (B, 2) float, (a+, a-) for each stimulus.
    """
    checks.array("weights", weights, "F C kh kw", "floats")
    checks.array("winners", winners, "B k", "integers")
    checks.array("causal", causal, "B k C kh kw", "booleans")
    checks.shape("causal", causal, (*winners.shape, *weights.shape[1:]), "`winners` and `weights`")
    checks.array("rates", rates, "B 2", "floats")
    checks.shape("rates", rates, (len(winners), 2), "`winners`")
    won = winners[:, None, :] == jnp.arange(len(weights))[None, :, None]  # [B, F, k]

    def one(weights: jax.Array, stimulus: Any) -> tuple[jax.Array, None]:
        wins, place, causal, rates = stimulus
        moved = _moved(weights, causal[place], rates, bounds, stabiliser)
        return jnp.where(wins[:, None, None, None], moved, weights), None

    stimuli = won.any(axis=2), jnp.argmax(won, axis=2), causal, rates
    return lax.scan(one, weights, stimuli, unroll=min(len(winners), _UNROLLED))[0]


_UNROLLED = 16
"""Stimuli whose updates `learned_in_order` makes at once."""


def _check_rows(weights: Any, winners: Any, rows: Any) -> None:
    checks.array("weights", weights, None, "floats")
    if not weights.ndim:
        raise InputError("`weights` must have axes (F ...), got shape ()")
    checks.array("rows", rows, None, "floats")
    check_winners("winners", winners, features=weights.shape[0])
    expected = *winners.feature.shape, *weights.shape[1:]
    checks.shape("rows", rows, expected, "`winners` and `weights`")


@kernel(check=_check_rows)
def set_rows(weights: jax.Array, winners: Winners, rows: jax.Array) -> jax.Array:
    """Writes the winners' weights, (k, ...), into the weights (F, ...); unused entries change nothing."""
    # An index beyond the last feature is dropped, but -1 would be the last feature.
    beyond = jnp.where(winners.valid, winners.feature, weights.shape[0])
    return weights.at[beyond].set(rows.astype(weights.dtype), mode="drop")


def _check_outcome(outcome: Any, reward: Any, punish: Any) -> None:
    checks.rates(reward, "reward")
    checks.rates(punish, "punish")
    if not isinstance(outcome, int | np.integer | jax.Array | np.ndarray) or isinstance(outcome, bool):
        raise wrong_type("outcome", "an integer", outcome, "jnp.where(right, 1, -1)")
    if np.ndim(outcome) or not jnp.issubdtype(jnp.result_type(outcome), jnp.integer):
        raise wrong_type("outcome", "an integer", outcome, "jnp.where(right, 1, -1)")


@kernel(check=_check_outcome)
def reward_rates(outcome: jax.Array, reward: jax.Array, punish: jax.Array) -> jax.Array:
    """The rates (2,) of one reward-modulated update (R-STDP) by `stdp`: `reward` after a correct decision, or `punish`.

    `outcome` is () integer: 1 correct, -1 wrong, 0 silent (no change). `reward` and `punish` are (2,) float, (a+, a-).
    """
    return jnp.where(outcome > 0, reward, jnp.where(outcome < 0, punish, 0))


@jax.jit
def adapted_rates(base: jax.Array, fraction: jax.Array) -> jax.Array:
    """Adaptive rates (Mozafari et al. 2018): rewards shrink as errors become rare, punishments as successes do.
    Returns `base`, (..., 2) float, (a+, a-), times `fraction`, () float. For reward rates this is the share of wrong
    decisions in the last interval, for punishment rates the share of correct ones.
    """
    return base * fraction
