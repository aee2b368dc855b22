"""Fast forms of learning in batches on an accelerator, where what costs time is the number of kernels launched.

Who wins in a batch depends on the weights at its start alone, so that all updates are known before the first is made.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from snnjax import devices, kernels
from snnjax.kernels import Winners
from snnjax.layers import FAST, PLAIN, Layer, at_last_step
from snnjax.networks import Majority, Model
from snnjax.networks.decision import majority
from snnjax.training.blocks import Strongest
from snnjax.training.programs import FastForm, Supervised, SupervisedCarry, Unsupervised, outcome, where
from snnjax.training.state import Settings


def fast_form(layer: Layer, learner: int, settings: Settings) -> FastForm | None:
    """That of a layer by its `STDP` number `learner`."""
    batch = settings.update_batch
    fits = batch > 1 and devices.peers()[0].platform != "cpu"
    return FastForm(learn_alone, dict(which=learner, batch=batch), batch, FAST) if fits else None


def reward_form(model: Model, by_turns: bool, settings: Settings) -> FastForm | None:
    """That of deciding `RSTDP` layers, where no others learn: under `Majority`."""
    batch = settings.update_batch
    fits = batch > 1 and devices.peers()[0].platform != "cpu" and type(model.decision) is Majority
    return FastForm(learn_by_reward, dict(batch=batch, by_turns=by_turns), batch, FAST) if fits else None


def learn_alone(
    carry: tuple[Layer, Any],
    latencies: jax.Array,
    start: jax.Array,
    count: jax.Array,
    last: jax.Array,
    which: int,
    batch: int,
) -> tuple[Any, Any]:
    """As `programs.learn_unsupervised`, by `STDP`, of a layer in the form `FAST` within its bounds."""
    learner = carry[0].conv.each_learner[which]

    def one_batch(at: jax.Array, carry: Any) -> Any:
        layer, state = carry
        numbers = at + jnp.arange(batch)
        images = latencies[jnp.minimum(numbers, len(latencies) - 1)]
        respond = jax.vmap(lambda image: learner.forward(layer, state, image, None).winners)
        winners = respond(images)
        feature = jnp.where((numbers < count)[:, None], winners.feature, -1)
        rates = jax.vmap(learner.rates)(state + jnp.arange(batch))
        learned = _learned(layer, jax.vmap(learner.seen, (None, 0))(layer, images), winners, feature, rates, learner)
        return (learned, state + jnp.minimum(batch, count - at)), feature

    found = jnp.zeros((len(latencies), carry[0].conv.competition.winners), jnp.int32)
    carry, found = _each_batch(one_batch, carry, found, start, count, batch)
    return Unsupervised(which).end_epoch(carry, last), found


def learn_by_reward(
    carry: SupervisedCarry,
    model: Model,
    latencies: jax.Array,
    labels: jax.Array,
    start: jax.Array,
    count: jax.Array,
    last: jax.Array,
    batch_size: jax.Array,
    batch: int,
    by_turns: bool,
) -> tuple[SupervisedCarry, tuple[jax.Array, Any]]:
    """As `programs.learn_supervised`, of deciding `RSTDP` layers in the form `FAST` within their bounds."""
    names = model.names[model.last]
    rule = Supervised(model, names, model.last, by_turns, batch_size)

    def one_batch(at: jax.Array, carry: Any) -> Any:
        layers, states, tally = carry
        numbers = at + jnp.arange(batch)
        places = jnp.minimum(numbers, len(latencies) - 1)
        valid, images, known = numbers < count, latencies[places], labels[places]
        winners = {name: _strongest(layers[name], states[name].get("kept"), images) for name in names}
        votes = {name: _voted(layers[name], each) for name, each in winners.items()}
        decisions = jax.vmap(majority, (1, None))(jnp.stack(list(votes.values())), model.classes)

        def count_one(inner: Any, each: Any) -> Any:
            states, tally = inner
            won, valid = each
            rates = {name: states[name]["rates"] for name in names}
            after = where(valid, rule.count_outcomes(layers, states, tally, won, 1), inner)
            return after, (rates, rule.turns(tally))

        outcomes = jax.vmap(outcome)(decisions, known)
        unroll = min(batch, _UNROLLED)
        counted, (rates, turns) = jax.lax.scan(count_one, (states, tally), (outcomes, valid), unroll=unroll)
        learned, found = {}, {}
        for name, layer in layers.items():
            won = outcome(votes[name], known) * (valid & turns[name])
            feature = jnp.where(won == 0, -1, winners[name].feature[:, 0])[:, None]
            rate = jax.vmap(kernels.reward_rates)(won, rates[name][:, 0], rates[name][:, 1])
            seen = at_last_step(images < model.time_steps, model.time_steps)
            learned[name] = _learned(layer, seen, winners[name], feature, rate, layer.conv.supervised)
            found[name] = dict(feature=feature)
        return (learned, *counted), (decisions, found)

    size = len(latencies)
    found = jnp.zeros(size, jnp.int32), {name: dict(feature=jnp.zeros((size, 1), jnp.int32)) for name in names}
    carry, found = _each_batch(one_batch, carry, found, start, count, batch)
    return rule.end_epoch(carry, last), found


_UNROLLED = 16
"""Images whose outcomes are counted at once."""


def _each_batch(one_batch: Any, carry: Any, found: Any, start: jax.Array, count: jax.Array, batch: int) -> Any:
    """The carry after all batches, and what was found of each image, (S, ...)."""
    size = len(jax.tree.leaves(found)[0])

    def step(state: Any) -> Any:
        at, carry, found = state
        carry, new = one_batch(at, carry)
        numbers = at + jnp.arange(batch)
        places = jnp.where(numbers < count, numbers, size)  # others are dropped
        return at + batch, carry, jax.tree.map(lambda all_, one: all_.at[places].set(one, mode="drop"), found, new)

    return jax.lax.while_loop(lambda state: state[0] < count, step, (start, carry, found))[1:]


def _strongest(layer: Layer, kept: jax.Array | None, images: jax.Array) -> Winners:
    """The strongest neuron of each image, `Winners` of (B, 1), among the features that dropout keeps."""
    potentials = jax.vmap(layer.packed(PLAIN).potentials)
    found = Strongest.of(potentials(images))
    if kept is not None:
        found = found._replace(potential=jnp.where(kept[None], found.potential, -jnp.inf))
    return jax.vmap(lambda one: one.winner(layer, images.shape[2:]))(found)


def _voted(layer: Layer, winners: Winners) -> jax.Array:
    """The class that each winner stands for, (B,) int32, -1 for none."""
    feature = winners.feature[:, 0]
    return jnp.where(feature < 0, -1, feature // (layer.conv.features // layer.classes))


def _learned(
    layer: Layer, images: jax.Array, winners: Winners, feature: jax.Array, rates: jax.Array, learner: Any
) -> Layer:
    """The layer after the updates of B images in their order, of which those of `feature` -1 do nothing."""
    place: dict[str, Any] = dict(kernel=layer.conv.kernel, stride=layer.conv.stride, time_steps=layer.time_steps)
    seen = jax.vmap(layer.padded)(images)
    causal = jax.vmap(lambda x, won: kernels.causal_inputs(x, won, **place))(seen, winners)
    rule: dict[str, Any] = dict(bounds=learner.bounds, stabiliser=learner.stabiliser)
    weights = kernels.learned_in_order(layer.plain_weights(), feature, causal, rates, **rule)
    return dataclasses.replace(layer, weights=layer.form.pack(weights))
