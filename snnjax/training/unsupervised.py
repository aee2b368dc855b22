"""Greedy unsupervised learning: one layer by STDP, image after image, from the outputs of the layers before it."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from snnjax.layers import SpikingConv
from snnjax.training.progress import reporting_scan


@functools.partial(jax.jit, static_argnames="graphdef", donate_argnames="state")
def stdp_epoch(
    graphdef: nnx.GraphDef[SpikingConv], state: nnx.State, image: jax.Array, latencies: jax.Array, valid: jax.Array
) -> tuple[nnx.State, jax.Array]:
    """One epoch of STDP of one layer, as one scan.

    Args:
      graphdef: with `state`, what `nnx.split` makes of a `SpikingConv` that has an `stdp` rule; `state` is donated.
      state: the weights.
      image: () int32, how many images the layer has learned from before: the rates depend on it.
      latencies: (reports, n, C, H, W) the inputs, in order.
      valid: (reports, n) bool, False for padding, which changes nothing.

    Returns:
      The new state, and the features that won for each image, (reports * n, k) int32, -1 where nobody did.
    """
    rule = nnx.merge(graphdef, state).spec.stdp
    if rule is None:
        raise ValueError("the layer has no STDP rule to learn by")

    def step(
        learn: Callable[..., None], carry: tuple[nnx.State, jax.Array], inputs: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[nnx.State, jax.Array], jax.Array]:
        (state, image), (latency, learns) = carry, inputs
        layer = nnx.merge(graphdef, state)
        winners = layer.winners(latency)
        winners = dataclasses.replace(winners, feature=jnp.where(learns, winners.feature, -1))
        learn(layer, latency, winners, rule.rates(image), rule)
        return (nnx.state(layer), image + learns), winners.feature

    # Initial weights outside the bounds are pulled in by the first update, nearly always with the first image. From
    # then on the winners' features alone change, and the others need not be touched.
    count = valid.size
    flat = jax.tree.map(lambda x: x.reshape(count, *x.shape[2:]), (latencies, valid))

    def outside(carry: Any) -> jax.Array:
        (state, _), at, _ = carry
        (weights,), (lower, upper) = jax.tree.leaves(state), rule.bounds
        return (at < count) & jnp.any((weights < lower) | (weights > upper))

    def enter(carry: Any) -> Any:
        inner, at, won = carry
        inner, features = step(SpikingConv.learn, inner, jax.tree.map(lambda x: x[at], flat))
        return inner, at + 1, won.at[at].set(features)

    won = jnp.full((count, nnx.merge(graphdef, state).spec.winners), -1, jnp.int32)
    carry, start, won = jax.lax.while_loop(outside, enter, ((state, image), jnp.int32(0), won))
    rest = jnp.arange(count) >= start
    (state, _), features = reporting_scan(
        lambda carry, inputs: step(SpikingConv.learn_within, carry, inputs[:2]),
        carry,
        (latencies, valid & rest.reshape(valid.shape), valid),
        report=lambda xs, _: (xs[2].sum(), jnp.int32(0)),
    )
    return state, jnp.where(rest[:, None], features, won)
