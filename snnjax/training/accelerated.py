"""Fast forms of learning on an accelerator, where what costs time is the number of kernels launched.

Who wins in a batch depends on the weights at its start alone, so that all updates are known before the first is made.
Image by image, what each must wait for is little: the potentials of the features that have changed within its block.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from snnjax import devices, kernels
from snnjax.forms import FAST, PLAIN, TAPS, block_potentials
from snnjax.kernels import Winners
from snnjax.layers import Layer, at_last_step
from snnjax.networks import Majority, Model
from snnjax.networks.decision import majority
from snnjax.training.blocks import BLOCK, Strongest
from snnjax.training.programs import FastForm, Supervised, SupervisedCarry, Unsupervised, of_one, outcome, where
from snnjax.training.state import Settings


def fast_form(layer: Layer, learner: int, settings: Settings) -> FastForm | None:
    """That of a layer by its `STDP` number `learner`."""
    static = dict(which=learner, batch=settings.update_batch)
    fits = devices.peers()[0].platform != "cpu"
    return FastForm(learn_alone, static, settings.update_batch, FAST) if fits else None


def reward_form(model: Model, first: int, by_turns: bool, settings: Settings) -> FastForm | None:
    """That of `RSTDP` layers from stage `first` on; in batches, of deciding ones under `Majority`."""
    batch, plain = settings.update_batch, first == model.last and type(model.decision) is Majority
    if devices.peers()[0].platform == "cpu" or (batch > 1 and not plain):
        return None
    if batch > 1:
        return FastForm(learn_by_reward, dict(batch=batch, by_turns=by_turns), batch, FAST)
    static = dict(block=BLOCK, by_turns=by_turns)
    if plain:
        return FastForm(learn_by_reward_one_by_one, static, BLOCK, TAPS)
    return FastForm(learn_deep_by_reward, static | dict(first=first), BLOCK, FAST)


@of_one
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

    def one_batch(carry: Any, images: Any) -> Any:
        (layer, state), (images, shown) = carry, images
        winners = jax.vmap(lambda image: learner.forward(layer, state, image, None).winners)(images)
        feature = jnp.where(shown[:, None], winners.feature, -1)
        rates = jax.vmap(learner.rates)(state + jnp.arange(batch))
        learned = _learned(layer, jax.vmap(learner.seen, (None, 0))(layer, images), winners, feature, rates, learner)
        return (learned, state + jnp.sum(shown, dtype=state.dtype)), feature

    carry, found = _each_batch(one_batch, carry, (latencies,), start, count, batch)
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

    def one_batch(carry: Any, images: Any) -> Any:
        (layers, states, tally), (images, known, valid) = carry, images
        winners = {name: _strongest(layers[name], states[name].get("kept"), images) for name in names}
        votes = {name: _voted(layers[name], each.feature[:, 0]) for name, each in winners.items()}
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

    carry, found = _each_batch(one_batch, carry, (latencies, labels), start, count, batch)
    return rule.end_epoch(carry, last), found


def learn_by_reward_one_by_one(
    carry: SupervisedCarry,
    model: Model,
    latencies: jax.Array,
    labels: jax.Array,
    start: jax.Array,
    count: jax.Array,
    last: jax.Array,
    batch_size: jax.Array,
    block: int,
    by_turns: bool,
) -> tuple[SupervisedCarry, tuple[jax.Array, Any]]:
    """As `blocks.learn_in_blocks`, one image at a time."""
    rule = Supervised(model, model.names[model.last], model.last, by_turns, batch_size)

    def teach(carry: SupervisedCarry, images: jax.Array, labels: jax.Array, shown: jax.Array) -> Any:
        (layers, states, tally), learned, votes, found = carry, {}, [], {}
        for name, turn in rule.turns(tally).items():
            layer, learns = layers[name], shown & turn
            learned[name], feature = _learned_in_block(layer, states[name], images, labels, learns)
            votes.append(_voted(layer, feature))
            found[name] = dict(feature=jnp.where(learns, feature, -1)[:, None])
        return learned, (jax.vmap(majority, (1, None))(jnp.stack(votes), model.classes), found)

    return _each_block(rule, teach, carry, (latencies, labels), start, count, last, block)


def learn_deep_by_reward(
    carry: SupervisedCarry,
    model: Model,
    latencies: jax.Array,
    labels: jax.Array,
    start: jax.Array,
    count: jax.Array,
    last: jax.Array,
    batch_size: jax.Array,
    block: int,
    first: int,
    by_turns: bool,
) -> tuple[SupervisedCarry, tuple[jax.Array, Any]]:
    """As `programs.learn_supervised`, one image at a time, of `RSTDP` layers in the form `FAST` within their bounds."""
    names = [name for stage in model.names for name in stage if name in carry[0]]
    rule = Supervised(model, names, first, by_turns, batch_size)

    def teach(carry: SupervisedCarry, images: jax.Array, labels: jax.Array, shown: jax.Array) -> Any:
        _, states, tally = carry

        def one(layers: Any, image: Any) -> Any:
            latency, label, shown = image
            now, image = (layers, states, tally), (latency, label)
            response = rule.forward(now, image)
            layers, _, infos = rule.teach(now, image, response, shown)
            return layers, (response[-1].decision, infos)

        def packed(layers: Any, image: Any) -> Any:
            layers, found = one(layers, image)
            return layers, ravel_pytree(found)[0]  # one array is one kernel

        each = images, labels, shown
        _, found = jax.eval_shape(one, carry[0], jax.tree.map(lambda x: x[0], each))
        _, unpack = ravel_pytree(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), found))
        layers, found = jax.lax.scan(packed, carry[0], each)
        return layers, jax.vmap(unpack)(found)

    return _each_block(rule, teach, carry, (latencies, labels), start, count, last, block)


def _each_block(
    rule: Supervised,
    teach: Any,
    carry: SupervisedCarry,
    images: tuple[jax.Array, jax.Array],
    start: jax.Array,
    count: jax.Array,
    last: jax.Array,
    block: int,
) -> tuple[SupervisedCarry, tuple[jax.Array, Any]]:
    """Learns by reward, block by block: decisions are counted after each, which ends where rates may change.

    `teach`, of (carry, latencies, labels, whether each of these B images is shown), gives the layers, and decisions and
    infos of each image. There must be at least `block` images.
    """
    size = len(images[0])

    def one_block(state: Any) -> Any:
        at, (layers, states, tally), found = state
        end = jnp.minimum(jnp.minimum(at + block, count), at + rule.batch_size - tally.seen)
        base = jnp.minimum(at, size - block)
        numbers = base + jnp.arange(block)
        latency, label = (jax.lax.dynamic_slice_in_dim(each, base, block) for each in images)
        shown = (numbers >= at) & (numbers < end)
        learned, new = teach((layers, states, tally), latency, label, shown)
        outcomes = jnp.where(shown, outcome(new[0], label), 0)
        counted = rule.count_outcomes(layers, states, tally, outcomes, end - at)
        places = jnp.where(shown, numbers, size)  # others are dropped
        return end, (learned, *counted), jax.tree.map(lambda all_, x: all_.at[places].set(x, mode="drop"), found, new)

    _, new = jax.eval_shape(teach, carry, *(each[:block] for each in images), jnp.ones(block, bool))
    nothing = jax.tree.map(lambda x: jnp.zeros((size, *x.shape[1:]), x.dtype), new)
    _, carry, found = jax.lax.while_loop(lambda state: state[0] < count, one_block, (start, carry, nothing))
    return rule.end_epoch(carry, last), found


def _learned_in_block(
    layer: Layer, state: Any, images: jax.Array, labels: jax.Array, learns: jax.Array
) -> tuple[Layer, jax.Array]:
    """The layer after B images, of which those that `learns`, (B,) bool, teach; who won in each, (B,), -1 for none."""
    size, features = len(images), layer.conv.features
    rule, spiked, places = layer.conv.supervised, images < layer.time_steps, jnp.arange(features + size)
    settings: dict[str, Any] = dict(bounds=rule.bounds, stabiliser=rule.stabiliser, stride=layer.conv.stride)
    before = Strongest.of(block_potentials(layer, spiked))
    if (kept := state.get("kept")) is not None:
        before = before._replace(potential=jnp.where(kept, before.potential, -jnp.inf))

    def one(carry: Any, image: Any) -> Any:
        (rows, marks), (at, stale, spiked, label, learns) = carry, image
        slot = marks[:features]
        exact = Strongest.of(block_potentials(dataclasses.replace(layer, stored=rows), spiked[None]))
        now = jax.tree.map(lambda new, old: jnp.where(slot < 0, old, new[0, slot]), exact, stale)
        values = now.potential, jnp.arange(features), now.place
        most, feature, place = kernels.of_earliest(jnp.zeros(features), now.potential, values)
        feature = jnp.where(most > 0, feature, -1)
        position = jnp.divmod(place, layer.conv.output_size((images.shape[2], images.shape[3]))[1])
        winner = Winners(*(x[None] for x in (feature, *position, jnp.int32(layer.time_steps - 1))))
        won = outcome(_voted(layer, feature), label) * learns
        old = jnp.where(slot[feature] < 0, layer.stored[:, :, feature], rows[:, :, slot[feature]])
        seen, rate = layer.padded(at_last_step(spiked, layer.time_steps)), kernels.reward_rates(won, *state["rates"])
        old = jnp.moveaxis(old, 2, 0)[None]
        row = kernels.learned_rows(old, seen, winner, rate, time_steps=layer.time_steps, **settings)[0]
        rows = jnp.where((jnp.arange(size) == at)[:, None], jnp.moveaxis(row, 0, 2)[:, :, None], rows)
        marks = jnp.where(places == features + at, feature, marks)
        return (rows, jnp.where(places == jnp.where(won == 0, -1, feature), at, marks)), None

    # Rows are weights as each image has changed them, (kh, kw, B, C). Marks are the image that has changed each feature
    # last, then the feature that has won in each image; -1 for none.
    rows = jnp.zeros((*layer.stored.shape[:2], size, layer.stored.shape[3]))
    begin, each = (rows, jnp.full(features + size, -1)), (jnp.arange(size), before, spiked, labels, learns)
    (rows, marks), _ = jax.lax.scan(one, begin, each, unroll=4)  # a loop copies what it changes
    slot = marks[:features]
    weights = jnp.where((slot < 0)[:, None], layer.stored, rows[:, :, slot])
    return dataclasses.replace(layer, stored=weights), marks[features:]


_UNROLLED = 16
"""Images whose outcomes are counted at once."""


def _each_batch(
    one_batch: Any, carry: Any, images: tuple[jax.Array, ...], start: jax.Array, count: jax.Array, batch: int
) -> Any:
    """The carry after all batches, and what was found of each image, 0 of those not shown.

    `one_batch` gets the arrays `images` of B images, and which of them are shown. `start` is a multiple of B, and so is
    the number of all images. A loop of known length needs no kernel that says when it ends.
    """
    numbers = jnp.arange(len(images[0]))
    shown = (numbers >= start) & (numbers < count)
    batches = jax.tree.map(lambda x: x.reshape(-1, batch, *x.shape[1:]), (*images, shown))
    carry, found = jax.lax.scan(one_batch, carry, batches, unroll=4 if batch == 1 else 1)

    def put(found: jax.Array) -> jax.Array:
        found = found.reshape(len(numbers), *found.shape[2:])
        return jnp.where(shown.reshape(-1, *(1,) * (found.ndim - 1)), found, 0)

    return carry, jax.tree.map(put, found)


def _strongest(layer: Layer, kept: jax.Array | None, images: jax.Array) -> Winners:
    """The strongest neuron of each image, `Winners` of (B, 1), among the features that dropout keeps."""
    potentials = jax.vmap(layer.packed(PLAIN).potentials)
    found = Strongest.of(potentials(images))
    if kept is not None:
        found = found._replace(potential=jnp.where(kept[None], found.potential, -jnp.inf))
    return jax.vmap(lambda one: one.winner(layer, images.shape[2:]))(found)


def _voted(layer: Layer, feature: jax.Array) -> jax.Array:
    """The class that each feature stands for, (B,) int32, -1 for none."""
    return jnp.where(feature < 0, -1, feature // (layer.conv.features // layer.classes))


def _learned(
    layer: Layer, images: jax.Array, winners: Winners, feature: jax.Array, rates: jax.Array, learner: Any
) -> Layer:
    """The layer after the updates of B images in their order, of which those of `feature` -1 do nothing."""
    place: dict[str, Any] = dict(kernel=layer.conv.kernel, stride=layer.conv.stride, time_steps=layer.time_steps)
    seen = jax.vmap(layer.padded)(images)
    causal = jax.vmap(lambda x, won: kernels.causal_inputs(x, won, **place))(seen, winners)
    rule: dict[str, Any] = dict(bounds=learner.bounds, stabiliser=learner.stabiliser)
    weights = kernels.learned_in_order(layer.weights, feature, causal, rates, **rule)
    return dataclasses.replace(layer, stored=layer.form.pack(weights))
