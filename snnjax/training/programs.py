"""The programs of a training: pure functions on plain pytrees, for one network or for many side by side."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from snnjax import devices
from snnjax.encoding import Encoder
from snnjax.layers import Layer
from snnjax.learners import Learner, Signal, Tally
from snnjax.networks import Model
from snnjax.networks.decision import Decided, decide


def encode_batch(model: Model, images: jax.Array, *, native: bool) -> jax.Array:
    """Latencies (B, C, H, W) of images (B, ...), by compiled kernels if the encoder has such."""
    return devices.map_images(functools.partial(_encode, model, native), images)


def _encode(model: Model, native: bool, image: jax.Array) -> jax.Array:
    return model.encoder(image, native=True) if native and type(model.encoder) is Encoder else model.encode(image)


def forward_batch(model: Model, latencies: jax.Array, *, first: int, last: int, timed: bool) -> jax.Array:
    """`Model.forward` of latencies (B, C, H, W)."""
    return devices.map_images(lambda each: model.forward(each, first, last, timed=timed), latencies)


def decide_batch(
    model: Model, inputs: jax.Array, *, first: int, encode: bool = False, native: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Decisions, (B,) int32, and scores, (B, classes).

    Args:
      model: its deciding layers are in the form `TAPS`.
      inputs: (B, C, H, W) latencies that enter stage `first`, or images (B, ...).
      first: number of the stage.
      encode: whether the inputs are images.
      native: encodes them by compiled kernels.
    """
    if encode or first < model.last:

        def enter(each: jax.Array) -> jax.Array:
            latency = _encode(model, native, each) if encode else each
            return model.forward(latency, first, timed=model.decision.timed)

        inputs = devices.map_images(enter, inputs)
    decided = model.decide_block(inputs)
    return decided.decision, decided.scores


def learn_unsupervised(
    carry: tuple[Layer, Any],
    latencies: jax.Array,
    start: jax.Array,
    count: jax.Array,
    last: jax.Array,
    which: int,
    batch: int,
) -> tuple[tuple[Layer, Any], Any]:
    """A slice of an epoch of unsupervised learning of one layer.

    Args:
      carry: the layer and the state of its learner.
      latencies: (S, C, H, W) the inputs, in order.
      start: () int32, the first image to learn from.
      count: () int32, of the image after the last one.
      last: () bool, whether an epoch ends with it.
      which: index of the learner.
      batch: B, images that `forward` sees with the same weights.

    Returns:
      The new carry, and info of each image, (S, ...).
    """

    def learner(layer: Layer) -> Learner:
        return layer.conv.each_learner[which]

    def respond(learned: Any, at: jax.Array) -> Any:
        layer, state, _ = learned
        return learner(layer).forward(layer, state, latencies[at])

    def update(learned: Any, at: jax.Array, response: Any) -> Any:
        layer, state, infos = learned
        layer, state, info = learner(layer).update(layer, state, latencies[at], response, None)
        return layer, state, _put(infos, at, info)

    infos = _room(
        lambda: learner(carry[0]).update(*carry, latencies[0], respond((*carry, None), jnp.int32(0)), None)[2],
        latencies,
    )
    layer, state, infos = _in_order(respond, update, (*carry, infos), start, count, batch)
    state = where(last, learner(layer).end_epoch(state), state)
    return (layer, state), infos


SupervisedCarry = tuple[dict[str, Layer], dict[str, Any], Tally]
"""The layers that learn supervised and the states of their learners, by name, and the network's decisions."""


def learn_supervised(
    carry: SupervisedCarry,
    model: Model,
    latencies: jax.Array,
    labels: jax.Array,
    start: jax.Array,
    count: jax.Array,
    last: jax.Array,
    batch_size: jax.Array,
    first: int,
    batch: int,
    by_turns: bool,
) -> tuple[SupervisedCarry, tuple[jax.Array, Any]]:
    """A slice of an epoch of all layers that learn supervised.

    Args:
      carry: what learns.
      model: the whole network; layers in `carry` take the place of its own.
      latencies: (S, C, H, W) what enters stage `first`.
      labels: (S,) int32.
      start: () int32, the first image to learn from.
      count: () int32, of the image after the last one.
      last: () bool, whether an epoch ends with it.
      batch_size: () int32, images of a batch, after which learners adapt.
      first: number of the first stage that learns.
      batch: B, images that `forward` sees with the same weights.
      by_turns: as `Network.reward_by_turns`.

    Returns:
      The new carry; decisions, (S,) int32, and info of each layer and image, (S, ...) by name.
    """
    schedule = Schedule([name for stage in model.names for name in stage if name in carry[0]], by_turns, batch_size)

    def respond(learned: Any, at: jax.Array) -> Any:
        (layers, states, _), *_ = learned
        return _responses(model.updated(layers), states, latencies[at], first)

    def update(learned: Any, at: jax.Array, responses: Any) -> Any:
        (layers, states, tally), decisions, infos = learned
        seen, response, decided = responses
        signals = schedule.signals(model, decided, labels[at], tally)
        results = {
            name: layers[name].conv.supervised.update(layers[name], states[name], seen[name], response[name], signal)
            for name, signal in signals.items()
        }
        layers, states, found = ({name: each[part] for name, each in results.items()} for part in range(3))
        carry = schedule.count_outcome((layers, states, tally), outcome(decided.decision, labels[at]))
        return carry, decisions.at[at].set(decided.decision), _put(infos, at, found)

    silent = jnp.full(len(latencies), -1, jnp.int32)

    def first_info() -> Any:
        nothing = (carry, silent, None)
        return update(nothing, jnp.int32(0), respond(nothing, jnp.int32(0)))[2]

    learned = (carry, silent, _room(first_info, latencies))
    learned, decisions, infos = _in_order(respond, update, learned, start, count, batch)
    return schedule.end_epoch(learned, last), (decisions, infos)


def _responses(model: Model, states: dict[str, Any], latency: jax.Array, first: int) -> tuple[Any, Any, Decided]:
    """What enters each layer that learns, their responses, both by name, and the decision on one stimulus."""
    seen, found, at = {}, {}, first
    for number in range(first, model.last + 1):
        learning = [name for name in model.names[number] if name in states]
        if learning:
            # Times matter up to the last of the earlier layers that learn, from there on only who fires.
            latency = model.forward(latency, at, number, timed=number < model.last or model.decision.timed)
            at = number
        for name in learning:
            layer = model.layers[name]
            seen[name], found[name] = latency, layer.conv.supervised.forward(layer, states[name], latency)
    spikes = [found[name].spikes for name in model.names[model.last]]
    return seen, found, decide(model.decision, spikes, model.classes)


def outcome(decision: jax.Array, label: jax.Array) -> jax.Array:
    """1 right, -1 wrong, 0 silent."""
    return jnp.where(decision < 0, 0, jnp.where(decision == label, 1, -1))


class Schedule(NamedTuple):
    """How supervised layers learn: their names in order, whether by turns, and images of a batch, () int32."""

    names: Sequence[str]
    by_turns: bool
    batch_size: jax.Array

    def turns(self, tally: Tally, ahead: int = 0) -> jax.Array:
        """Which of the layers learn in this batch, or in one ahead, (L,) bool."""
        layers = jnp.arange(len(self.names))
        if not self.by_turns:
            return layers >= 0
        first = tally.epoch + (tally.batch + ahead) % 2 == 0
        return jnp.where(layers == 0, first, ~first)

    def signals(self, model: Model, decided: Decided, label: jax.Array, tally: Tally) -> dict[str, Signal]:
        """What each layer is told: of its own vote if it decides, of the network's decision otherwise."""
        signals, deciding, turns = {}, model.names[model.last], self.turns(tally)
        for at, name in enumerate(self.names):
            vote = decided.votes[deciding.index(name)] if name in deciding else decided.decision
            signals[name] = Signal(outcome(vote, label) * turns[at], jnp.where(turns[at], label, -1), vote)
        return signals

    def count_outcome(self, carry: SupervisedCarry, won: jax.Array) -> SupervisedCarry:
        """Counts one outcome, and ends the batch after its last image."""
        layers, states, tally = carry
        counts = dict(correct=tally.correct + (won > 0), wrong=tally.wrong + (won < 0), seen=tally.seen + 1)
        counted = (states, dataclasses.replace(tally, **counts))
        ended = self._end_batch(layers, *counted)
        return layers, *where(counted[1].seen == self.batch_size, ended, counted)

    def _end_batch(
        self, layers: dict[str, Layer], states: dict[str, Any], tally: Tally
    ) -> tuple[dict[str, Any], Tally]:
        """Ends a batch; of layers that learn by turns, only those of the next batch adapt."""
        turns, adapted = self.turns(tally, ahead=1), {}
        for at, name in enumerate(self.names):
            adapted[name] = where(turns[at], layers[name].conv.supervised.end_batch(states[name], tally), states[name])
        zero = jnp.zeros_like(tally.seen)
        return adapted, Tally(zero, zero, zero, tally.batch + 1, tally.epoch)

    def end_epoch(self, carry: SupervisedCarry, last: jax.Array) -> SupervisedCarry:
        """Ends an epoch where it is over: the last batch, if it is short, is one too."""
        layers, states, tally = carry
        states, tally = where(last & (tally.seen > 0), self._end_batch(layers, states, tally), (states, tally))
        states = {
            name: where(last, layers[name].conv.supervised.end_epoch(each), each) for name, each in states.items()
        }
        return layers, states, dataclasses.replace(tally, epoch=tally.epoch + last)


def _in_order(
    respond: Callable[..., Any], update: Callable[..., Any], learned: Any, start: Any, count: Any, batch: int
) -> Any:
    """Learns from images start..count-1: `respond` of B of them with the same weights, then `update` one by one."""
    if batch == 1:
        return jax.lax.fori_loop(start, count, lambda at, learned: update(learned, at, respond(learned, at)), learned)

    def group(carry: Any) -> Any:
        at, learned = carry
        responses = devices.map_images(functools.partial(respond, learned), at + jnp.arange(batch))

        def one(i: jax.Array, learned: Any) -> Any:
            return update(learned, at + i, jax.tree.map(lambda x: x[i], responses))

        return at + batch, jax.lax.fori_loop(0, jnp.minimum(batch, count - at), one, learned)

    return jax.lax.while_loop(lambda carry: carry[0] < count, group, (start, learned))[1]


def _room(info: Callable[[], Any], images: jax.Array) -> Any:
    """Zeros for what `info` returns of each of the images."""
    return jax.tree.map(lambda x: jnp.zeros((len(images), *x.shape), x.dtype), jax.eval_shape(info))


def _put(values: Any, at: jax.Array, value: Any) -> Any:
    return value if values is None else jax.tree.map(lambda all_, one: all_.at[at].set(one), values, value)


def where(condition: jax.Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda one, other: jnp.where(condition, one, other), new, old)
