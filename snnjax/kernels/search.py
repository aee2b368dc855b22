"""The winners of a layer, without the work that cannot change them."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from snnjax.kernels import checks
from snnjax.kernels.checks import Pair
from snnjax.kernels.competition import Winners
from snnjax.kernels.neurons import product, strongest
from snnjax.kernels.plasticity import receptive_field
from snnjax.kernels.spikes import latency_dtype, output_size

_SCORES = 2048
"""Potentials computed at once, about: positions times features. Measured on two cores of a Xeon."""


@checks.kernel("k", "time_steps", "stride", threshold=checks.threshold, radius=checks.radius)
def early_winners(
    latency: jax.Array,
    weights: jax.Array,
    *,
    threshold: float | jax.Array | None,
    k: int,
    radius: int | jax.Array,
    time_steps: int,
    stride: Pair = 1,
) -> Winners:
    """`k_winners(first_spikes(...))` without the steps after the last winner, `Winners` of (k,), for weights >= 0.

    At each step it evaluates only positions that can matter: they have not fired, no winner inhibits them, and their
    inputs would suffice to cross the threshold if all weights were as large as the largest.

    Loops here depend on the data. That suits a CPU; on an accelerator `k_winners(first_spikes(...))` is faster.
    """
    checks.integer("k", k, 1)
    checks.convolution(latency, weights, time_steps=checks.time_steps(time_steps))
    features, kernel = weights.shape[0], weights.shape[2:]
    strides = checks.pair("stride", stride, 1)
    height, width = output_size(latency.shape[1:], kernel, strides)
    size = height * width
    batch = min(size, max(8, _SCORES // features))
    number = lax.iota(jnp.int32, size)
    row, column = jnp.divmod(number, width)
    first = 0
    if threshold is None:
        first, threshold = time_steps - 1, 0.0
    # Rounding never carries a sum of n weights <= 1 above n.
    largest = weights.max().astype(jnp.float32)
    largest = jnp.where(largest <= 1, 1, largest * (1 + 1e-4))
    down, right = (_band(*sizes) for sizes in zip(latency.shape[1:], kernel, strides, (height, width), strict=True))
    flat = weights.reshape(features, -1)

    def evaluate(step: jax.Array, found: Any) -> Any:
        """The strongest feature of the next few positions."""
        left, potential, feature = found
        chosen = lax.sort(jnp.where(left, number, jnp.iinfo(jnp.int32).max))[:batch]
        fields = jax.vmap(lambda p: receptive_field(latency, p // width * strides[0], p % width * strides[1], kernel))
        tried = product(flat, (fields(jnp.minimum(chosen, size - 1)).reshape(batch, -1) <= step).T)
        most, lowest = strongest(tried, lax.broadcasted_iota(jnp.int32, tried.shape, 0), axis=0)
        potential = potential.at[chosen].set(most, mode="drop")
        return left & (number > chosen[-1]), potential, feature.at[chosen].set(lowest, mode="drop")

    def take(step: jax.Array, potential: jax.Array, feature: jax.Array, state: Any) -> Any:
        """The strongest of those that fire now wins."""
        fires, alive, used, won, winners = state
        won_feature, position = jnp.divmod(strongest(potential, feature * size + number, fires)[1], size)
        won_row, won_column = jnp.divmod(position, width)
        near = (jnp.abs(row - won_row) <= radius) & (jnp.abs(column - won_column) <= radius) & (radius > 0)
        winner = Winners(won_feature, won_row, won_column, step)
        winners = jax.tree.map(lambda places, place: places.at[won].set(place), winners, winner)
        fires &= ~near & (feature != won_feature)
        return fires, alive & ~near, used.at[won_feature].set(True), won + 1, winners

    def advance(state: Any) -> Any:
        step, alive, used, won, winners = state
        now = step.astype(latency.dtype)
        active = jnp.sum(latency <= now, axis=0, dtype=jnp.float32)
        enough = (product(product(down, active), right.T) * largest > threshold).ravel()
        nothing = (alive & enough, jnp.full(size, -jnp.inf, weights.dtype), jnp.zeros(size, jnp.int32))
        _, potential, feature = lax.while_loop(lambda found: found[0].any(), functools.partial(evaluate, now), nothing)
        fires = potential > threshold
        state = (fires & ~used[feature], alive & ~fires, used, won, winners)
        one = functools.partial(take, step.astype(winners.latency.dtype), potential, feature)
        state = lax.while_loop(lambda state: state[0].any() & (state[3] < k), one, state)
        return step + 1, *state[1:]

    zeros = jnp.zeros(k, jnp.int32)
    empty = Winners(jnp.full(k, -1, jnp.int32), zeros, zeros, jnp.full(k, time_steps, latency_dtype(time_steps)))
    start = (jnp.int32(first), jnp.ones(size, bool), jnp.zeros(features, bool), jnp.int32(0), empty)
    return lax.while_loop(lambda state: (state[0] < time_steps) & (state[3] < k), advance, start)[-1]


def _band(size: int, kernel: int, stride: int, positions: int) -> jax.Array:
    """(positions, size) ones where a position sees an input, along one axis."""
    offset = np.arange(size) - stride * np.arange(positions)[:, None]
    return jnp.asarray((offset >= 0) & (offset < kernel), jnp.float32)
