"""Greedy unsupervised learning: one layer by STDP, image after image, from the outputs of the layers before it."""

import dataclasses
import functools

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
        carry: tuple[nnx.State, jax.Array], inputs: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[nnx.State, jax.Array], jax.Array]:
        (state, image), (latency, valid) = carry, inputs
        layer = nnx.merge(graphdef, state)
        winners = layer.winners(latency)
        winners = dataclasses.replace(winners, feature=jnp.where(valid, winners.feature, -1))
        layer.learn(latency, winners, rule.rates(image), rule)
        return (nnx.state(layer), image + valid), winners.feature

    (state, _), features = reporting_scan(
        step, (state, image), (latencies, valid), report=lambda xs, _: (xs[1].sum(), jnp.int32(0))
    )
    return state, features
