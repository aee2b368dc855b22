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
from snnjax.kernels.neurons import product
from snnjax.kernels.plasticity import receptive_field
from snnjax.kernels.spikes import latency_dtype, output_size

_SCORES = 2048
"""Potentials computed at once, about: positions times features. Measured on two cores of a Xeon."""


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
    """Fire, pointwise inhibition and k winners of a layer at once: goes through the steps until the winners are known.

    At each step only positions are looked at that can matter: they have not fired, no winner inhibits them, and their
    inputs are enough to cross the threshold if all weights were as large as the largest. For weights >= 0.

    Loops here depend on the data. That suits a CPU; on an accelerator `k_winners(first_spikes(...))` is faster.

    Args:
      latency: (C, H, W) integers, the input spikes.
      weights: (F, C, kh, kw) float, none negative.
      threshold: a number, or None: neurons above 0 at the last step fire there.
      k: the most winners there can be.
      radius: of lateral inhibition around a winner, in neurons.
      time_steps: T.
      stride: rows and columns between neighbouring positions.

    Returns:
      `Winners` of (k,).

    Raises:
      TypeError, InputError: wrong rank, dtype or channel count; a kernel larger than the map; k or T < 1; radius < 0; a
        threshold that is not a number.
    """
    checks.threshold(threshold)
    checks.integer("k", k, 1)
    if not isinstance(radius, jax.Array):
        checks.integer("radius", radius, 0)
    return _early_winners(latency, weights, threshold, radius, k=k, time_steps=time_steps, stride=stride)


@functools.partial(jax.jit, static_argnames=("k", "time_steps", "stride"))
def _early_winners(
    latency: jax.Array,
    weights: jax.Array,
    threshold: float | jax.Array | None,
    radius: int | jax.Array,
    *,
    k: int,
    time_steps: int,
    stride: Pair,
) -> Winners:
    checks.time_steps(time_steps)
    checks.convolution(latency, weights, time_steps=time_steps)
    features, kernel = weights.shape[0], weights.shape[2:]
    strides = checks.pair("stride", stride, 1)
    height, width = output_size(latency.shape[1:], kernel, strides)
    size = height * width
    together = min(size, max(8, _SCORES // features))
    number, beyond = lax.iota(jnp.int32, size), jnp.iinfo(jnp.int32).max
    row, column = jnp.divmod(number, width)
    first = 0
    if threshold is None:
        first, threshold = time_steps - 1, 0.0
    # Rounding never carries a sum of n weights <= 1 above n.
    largest = weights.max().astype(jnp.float32)
    largest = jnp.where(largest <= 1, 1, largest * (1 + 1e-4))
    down, right = (_band(*sizes) for sizes in zip(latency.shape[1:], kernel, strides, (height, width), strict=True))
    flat = weights.reshape(features, -1)

    def enough(step: jax.Array) -> jax.Array:
        active = jnp.sum(latency <= step, axis=0, dtype=jnp.float32)
        return (product(product(down, active), right.T) * largest > threshold).ravel()

    def potentials(step: jax.Array, positions: jax.Array) -> jax.Array:
        fields = jax.vmap(lambda p: receptive_field(latency, p // width * strides[0], p % width * strides[1], kernel))
        return product(flat, (fields(positions).reshape(together, -1) <= step).T)

    def evaluate(step: jax.Array, found: Any) -> Any:
        """The strongest feature of the next few positions."""
        left, potential, feature = found
        chosen = lax.sort(jnp.where(left, number, beyond))[:together]
        tried = potentials(step, jnp.minimum(chosen, size - 1))
        strongest = tried.max(axis=0)
        index = lax.broadcasted_iota(jnp.int32, tried.shape, 0)
        lowest = jnp.where(tried == strongest[None], index, features).min(axis=0)
        potential = potential.at[chosen].set(strongest, mode="drop")
        return left & (number > chosen[-1]), potential, feature.at[chosen].set(lowest, mode="drop")

    def take(step: jax.Array, potential: jax.Array, feature: jax.Array, state: Any) -> Any:
        """The strongest of those that fire now wins."""
        fires, alive, used, won, winners = state
        strongest = jnp.where(fires, potential, -jnp.inf).max()
        flat_index = jnp.where(fires & (potential == strongest), feature * size + number, beyond).min()
        won_feature, position = jnp.divmod(flat_index, size)
        won_row, won_column = jnp.divmod(position, width)
        near = (jnp.abs(row - won_row) <= radius) & (jnp.abs(column - won_column) <= radius) & (radius > 0)
        winner = Winners(won_feature, won_row, won_column, step)
        winners = jax.tree.map(lambda places, place: places.at[won].set(place), winners, winner)
        fires &= ~near & (feature != won_feature)
        return fires, alive & ~near, used.at[won_feature].set(True), won + 1, winners

    def advance(state: Any) -> Any:
        step, alive, used, won, winners = state
        now = step.astype(latency.dtype)
        nothing = (alive & enough(now), jnp.full(size, -jnp.inf, weights.dtype), jnp.zeros(size, jnp.int32))
        found = lax.while_loop(lambda found: found[0].any(), functools.partial(evaluate, now), nothing)
        _, potential, feature = found
        fires = potential > threshold
        state = (fires & ~used[feature], alive & ~fires, used, won, winners)
        one = functools.partial(take, step.astype(winners.latency.dtype), potential, feature)
        state = lax.while_loop(lambda state: state[0].any() & (state[3] < k), one, state)
        return step + 1, *state[1:]

    empty = Winners(
        jnp.full(k, -1, jnp.int32),
        jnp.zeros(k, jnp.int32),
        jnp.zeros(k, jnp.int32),
        jnp.full(k, time_steps, latency_dtype(time_steps)),
    )
    start = (jnp.int32(first), jnp.ones(size, bool), jnp.zeros(features, bool), jnp.int32(0), empty)
    return lax.while_loop(lambda state: (state[0] < time_steps) & (state[3] < k), advance, start)[-1]


def _band(size: int, kernel: int, stride: int, positions: int) -> jax.Array:
    """(positions, size) ones where a position sees an input, along one axis."""
    offset = np.arange(size) - stride * np.arange(positions)[:, None]
    return jnp.asarray((offset >= 0) & (offset < kernel), jnp.float32)
