"""Greedy unsupervised learning: one layer by STDP, image after image, from the outputs of the layers before it."""

import dataclasses
import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from snnjax import devices
from snnjax.errors import InputError
from snnjax.layers import SpikingConv
from snnjax.training.progress import reporting_scan

Carry = tuple[nnx.State, jax.Array]
"""Weights, and how many images they have learned from."""


def change(layer: SpikingConv, changes: Mapping[str, jax.Array]) -> SpikingConv:
    """Puts arrays in the place of a layer's threshold, radius, ltp and ltd, as `changes` names them: each ()."""
    spec = layer.spec
    rule, own = (dict[str, Any]({name: changes[name] for name in names if name in changes}) for names in (_RULE, _OWN))
    if rule:
        assert spec.stdp is not None  # whoever names rates knows of a rule
        own["stdp"] = dataclasses.replace(spec.stdp, **rule)
    layer.spec = dataclasses.replace(spec, **own)
    return layer


_OWN, _RULE = ("threshold", "radius"), ("ltp", "ltd")


def merged(graphdef: Any, state: nnx.State, changes: Mapping[str, jax.Array]) -> SpikingConv:
    """A layer, changed."""
    return change(nnx.merge(graphdef, state), changes)


@functools.partial(jax.jit, static_argnames="graphdef", donate_argnames="state")
def stdp_epoch(
    graphdef: nnx.GraphDef[SpikingConv],
    state: nnx.State,
    image: jax.Array,
    latencies: jax.Array,
    valid: jax.Array,
    changes: Mapping[str, jax.Array] = MappingProxyType({}),
) -> tuple[nnx.State, jax.Array]:
    """One epoch of STDP of one layer, as one scan.

    The winners of B images are found with the same weights, then their updates are applied in order; with B = 1 each
    image learns from what all before it have left.

    Args:
      graphdef: with `state`, what `nnx.split` makes of a `SpikingConv` that has an `stdp` rule; `state` is donated.
      state: the weights.
      image: () int32, how many images the layer has learned from before: the rates depend on it.
      latencies: (reports, n, B, C, H, W) the inputs, in order.
      valid: (reports, n, B) bool, False for padding, which changes nothing.
      changes: hyperparameters in the place of those of the layer, as `change` takes them, and `winners`, which is k
        where that is less than the layer's.

    Returns:
      The new state, and the features that won for each image, (reports * n * B, k) int32, -1 where nobody did.
    """
    spec = merged(graphdef, state, changes).spec
    rule = spec.stdp
    if rule is None:
        raise InputError("the layer has no STDP rule to learn by")
    places = jnp.arange(spec.winners) < changes.get("winners", spec.winners)

    def learn_one(learn: str, carry: Carry, inputs: Any) -> tuple[Carry, jax.Array]:
        (state, image), (latency, learns, winners) = carry, inputs
        layer = merged(graphdef, state, changes)
        winners = dataclasses.replace(winners, feature=jnp.where(learns & places, winners.feature, -1))
        getattr(layer, learn)(latency, winners, rule.rates(image), rule)
        return (nnx.state(layer), image + learns), winners.feature

    def step(learn: str, carry: Carry, inputs: tuple[jax.Array, jax.Array]) -> tuple[Carry, jax.Array]:
        winners = devices.map_images(merged(graphdef, carry[0], changes).winners, inputs[0])
        return jax.lax.scan(functools.partial(learn_one, learn), carry, (*inputs, winners))

    # Initial weights outside the bounds are pulled in by the first update, nearly always with the first image. From
    # then on the winners' features alone change, and the others need not be touched.
    count = valid.shape[0] * valid.shape[1]
    flat = jax.tree.map(lambda x: x.reshape(count, *x.shape[2:]), (latencies, valid))

    def outside(carry: Any) -> jax.Array:
        (state, _), at, _ = carry
        weights, (lower, upper) = nnx.merge(graphdef, state).weights(), rule.bounds
        return (at < count) & jnp.any((weights < lower) | (weights > upper))

    def enter(carry: Any) -> Any:
        inner, at, won = carry
        inner, features = step("learn", inner, jax.tree.map(lambda x: x[at], flat))
        return inner, at + 1, won.at[at].set(features)

    won = jnp.full((count, valid.shape[2], spec.winners), -1, jnp.int32)
    carry, start, won = jax.lax.while_loop(outside, enter, ((state, image), jnp.int32(0), won))
    rest = (jnp.arange(count) >= start).reshape(*valid.shape[:2], 1)
    (state, _), features = reporting_scan(
        lambda carry, inputs: step("learn_within", carry, inputs[:2]),
        carry,
        (latencies, valid & rest, valid),
        report=lambda xs, _: (xs[2].sum(), jnp.int32(0)),
    )
    features = jnp.where(rest.reshape(-1, 1, 1), features, won)
    return state, features.reshape(-1, features.shape[-1])
