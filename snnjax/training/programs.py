"""The programs of a training: pure functions on plain pytrees, for one network or for many side by side."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from snnjax import devices
from snnjax.encoding import Encoder
from snnjax.layers import Layer, at_last_step, block_potentials
from snnjax.learners import RSTDP, Learner, Signal, Tally
from snnjax.learners.blocks import Changed, Strongest, learn_in_block, present
from snnjax.networks import Model
from snnjax.networks.decision import Decided, Majority, decide, majority

EVERYWHERE, APART = PartitionSpec(), PartitionSpec("images")


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


def learn_alone(
    carry: tuple[Layer, Any],
    latencies: jax.Array,
    start: jax.Array,
    count: jax.Array,
    last: jax.Array,
    which: int,
    batch: int,
) -> tuple[tuple[Layer, Any], Any]:
    """A slice of an epoch of one layer that learns without a teacher.

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
    state = _where(last, learner(layer).end_epoch(state), state)
    return (layer, state), infos


Together = tuple[dict[str, Layer], dict[str, Any], Tally]
"""The layers that learn with a teacher and the states of their learners, by name, and the network's decisions."""


def learn_together(
    carry: Together,
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
) -> tuple[Together, tuple[jax.Array, Any]]:
    """A slice of an epoch of all layers that learn with a teacher.

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
    names = [name for stage in model.names for name in stage if name in carry[0]]

    def respond(learned: Any, at: jax.Array) -> Any:
        (layers, states, _), *_ = learned
        return _responses(model.updated(layers), states, latencies[at], first)

    def update(learned: Any, at: jax.Array, responses: Any) -> Any:
        (layers, states, tally), decisions, infos = learned
        seen, response, decided = responses
        outcomes = _outcomes(model, names, decided, labels[at])
        signals = _signals(outcomes, labels[at], _turns(by_turns, len(names), tally.epoch, tally.batch))
        new_layers, new_states, new_infos = {}, {}, {}
        for name, signal in zip(names, signals, strict=True):
            learner, state = taught(layers[name]), states[name]
            results = learner.update(layers[name], state, seen[name], response[name], signal)
            new_layers[name], new_states[name], new_infos[name] = results
        decisions = decisions.at[at].set(decided.decision)
        ended = _count(
            new_layers, new_states, tally, outcome(decided.decision, labels[at]), batch_size, by_turns, names
        )
        return (new_layers, *ended), decisions, _put(infos, at, new_infos)

    def first_info() -> Any:
        nothing = (carry, jnp.zeros(len(latencies), jnp.int32), None)
        return update(nothing, jnp.int32(0), respond(nothing, jnp.int32(0)))[2]

    infos = _room(first_info, latencies)
    learned = (carry, jnp.full(len(latencies), -1, jnp.int32), infos)
    (layers, states, tally), decisions, infos = _in_order(respond, update, learned, start, count, batch)
    return (layers, *_ended(layers, states, tally, last, by_turns, names)), (decisions, infos)


def taught(layer: Layer) -> Learner:
    """The learner of a layer that needs a teacher."""
    return layer.conv.each_learner[-1]


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
            seen[name], found[name] = latency, taught(layer).forward(layer, states[name], latency)
    spikes = [found[name].spikes for name in model.names[model.last]]
    return seen, found, decide(model.decision, spikes, model.classes)


def outcome(decision: jax.Array, label: jax.Array) -> jax.Array:
    """1 right, -1 wrong, 0 silent."""
    return jnp.where(decision < 0, 0, jnp.where(decision == label, 1, -1))


def _outcomes(model: Model, names: list[str], decided: Decided, label: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    """What each layer that learns is told: the outcome of its vote, or of the decision for earlier layers; the vote."""
    deciding = model.names[model.last]
    votes = [decided.votes[deciding.index(name)] if name in deciding else decided.decision for name in names]
    return [(outcome(vote, label), vote) for vote in votes]


def _signals(outcomes: list[tuple[jax.Array, jax.Array]], label: jax.Array, turns: jax.Array) -> list[Signal]:
    return [Signal(won * turns[at], jnp.where(turns[at], label, -1), vote) for at, (won, vote) in enumerate(outcomes)]


def _turns(by_turns: bool, layers: int, epoch: jax.Array, batch: jax.Array) -> jax.Array:
    """Which of the layers learn in this batch, (L,) bool."""
    if not by_turns:
        return jnp.ones(layers, bool)
    first = epoch + batch % 2 == 0
    return jnp.where(jnp.arange(layers) == 0, first, ~first)


def _count(
    layers: dict[str, Layer],
    states: dict[str, Any],
    tally: Tally,
    won: jax.Array,
    batch_size: jax.Array,
    by_turns: bool,
    names: list[str],
) -> tuple[dict[str, Any], Tally]:
    """Counts one outcome, and ends the batch after its last image."""
    tally = dataclasses.replace(
        tally, correct=tally.correct + (won > 0), wrong=tally.wrong + (won < 0), seen=tally.seen + 1
    )
    return _where(tally.seen == batch_size, _end_batch(layers, states, tally, by_turns, names), (states, tally))


def _end_batch(
    layers: dict[str, Layer], states: dict[str, Any], tally: Tally, by_turns: bool, names: list[str]
) -> tuple[dict[str, Any], Tally]:
    """Ends a batch; of layers that learn by turns, only those of the next batch adapt."""
    turns = _turns(by_turns, len(names), tally.epoch, tally.batch + 1)
    adapted = {
        name: _where(turns[at], taught(layers[name]).end_batch(states[name], tally), states[name])
        for at, name in enumerate(names)
    }
    zero = jnp.zeros_like(tally.seen)
    return adapted, Tally(zero, zero, zero, tally.batch + 1, tally.epoch)


def _ended(
    layers: dict[str, Layer], states: dict[str, Any], tally: Tally, last: jax.Array, by_turns: bool, names: list[str]
) -> tuple[dict[str, Any], Tally]:
    """Ends an epoch where it is over: the last batch, if it is short, is one too."""
    short = last & (tally.seen > 0)
    states, tally = _where(short, _end_batch(layers, states, tally, by_turns, names), (states, tally))
    ended = {name: _where(last, taught(layers[name]).end_epoch(state), state) for name, state in states.items()}
    return ended, dataclasses.replace(tally, epoch=tally.epoch + last)


def in_blocks(model: Model, first: int) -> bool:
    """Whether `learn_in_blocks` can do the work of `learn_together`."""
    deciding = model.stage(model.last)
    rules = all(type(taught(layer)) is RSTDP for layer in deciding)
    return first == model.last and type(model.decision) is Majority and rules


def learn_in_blocks(
    carry: Together,
    model: Model,
    latencies: jax.Array,
    labels: jax.Array,
    start: jax.Array,
    count: jax.Array,
    last: jax.Array,
    batch_size: jax.Array,
    block: int,
    together: bool,
    by_turns: bool,
) -> tuple[Together, tuple[jax.Array, Any]]:
    """`learn_together` of deciding layers that learn by `RSTDP`, block by block; see `snnjax.learners.blocks`.

    Args:
      carry: layers in the form `TAPS`, their weights within the bounds.
      model: the whole network.
      latencies: (S, C, H, W) what enters the last stage, S >= B.
      labels: (S,) int32.
      start: () int32, the first image to learn from.
      count: () int32, of the image after the last one.
      last: () bool, whether an epoch ends with it.
      batch_size: () int32, images after which rates adapt.
      block: B, images of a block.
      together: all images of a block are seen with the weights at its start; otherwise the result does not depend on B.
      by_turns: as `Network.reward_by_turns`.

    Returns:
      As `learn_together`.
    """
    names = list(model.names[model.last])

    def step(layers: dict[str, Layer], inner: Any, image: Any) -> Any:
        states, tally, changed = inner
        at, stale, latency, label, valid = image
        spiked = latency < model.time_steps
        rules: list[Any] = [taught(layers[name]) for name in names]
        if not together:
            stale = [
                present(layers[name], rule, c, s, spiked)
                for name, rule, c, s in zip(names, rules, changed, stale, strict=True)
            ]
        size = (latency.shape[1], latency.shape[2])
        won = [each.winner(layers[name], size) for name, each in zip(names, stale, strict=True)]
        votes = jnp.stack([_vote(layers[name], each) for name, each in zip(names, won, strict=True)])
        decision = majority(votes, model.classes)
        learns = valid & _turns(by_turns, len(names), tally.epoch, tally.batch)
        outcomes = outcome(votes, label) * learns
        collapsed = at_last_step(spiked, model.time_steps)
        changed = [
            learn_in_block(layers[name], rule, states[name], c, at, collapsed, winner, told)
            for name, rule, c, winner, told in zip(names, rules, changed, won, outcomes, strict=True)
        ]
        counted = _count(layers, states, tally, outcome(decision, label), batch_size, by_turns, names)
        states, tally = _where(valid, counted, (states, tally))
        features = {name: jnp.where(o == 0, -1, w.feature) for name, w, o in zip(names, won, outcomes, strict=True)}
        return (states, tally, changed), (decision, features)

    def one_block(carry: Any) -> Any:
        at, (layers, states, tally), found = carry
        base = jnp.minimum(at, len(latencies) - block)
        numbers = base + jnp.arange(block)
        images, known = (jax.lax.dynamic_slice_in_dim(each, base, block) for each in (latencies, labels))
        valid = (numbers >= at) & (numbers < count)
        stale = [Strongest.of(block_potentials(layers[name], images < model.time_steps)) for name in names]
        changed = [Changed.nothing(layers[name], block) for name in names]
        each = (jnp.arange(block), stale, images, known, valid)
        inner = functools.partial(step, layers)
        (states, tally, changed), results = jax.lax.scan(inner, (states, tally, changed), each)
        layers = {name: c.merged(layers[name]) for name, c in zip(names, changed, strict=True)}
        old = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, base, block), found)
        kept = jax.tree.map(lambda new, was: jnp.where(_like(valid, was), new, was), results, old)
        found = jax.tree.map(lambda x, new: jax.lax.dynamic_update_slice_in_dim(x, new, base, 0), found, kept)
        return base + block, (layers, states, tally), found

    size = len(latencies)
    found = (jnp.full(size, -1, jnp.int32), {name: jnp.full((size, 1), -1, jnp.int32) for name in names})
    _, carry, found = jax.lax.while_loop(lambda c: c[0] < count, one_block, (start, carry, found))
    layers, states, tally = carry
    return (layers, *_ended(layers, states, tally, last, by_turns, names)), found


def _vote(layer: Layer, winner: Any) -> jax.Array:
    feature = winner.feature[0]
    return jnp.where(feature < 0, -1, feature // (layer.conv.features // layer.classes))


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


def _where(condition: jax.Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda one, other: jnp.where(condition, one, other), new, old)


def _like(condition: jax.Array, values: jax.Array) -> jax.Array:
    return condition.reshape(-1, *(1,) * (values.ndim - 1))


@functools.lru_cache(maxsize=256)
def learning_program(function: Callable[..., Any], mesh: Mesh | None, static: tuple[tuple[str, Any], ...]) -> Any:
    """A jitted `function` of (carry, own, shared), where `own` and `shared` hold its other arguments by name.

    Args:
      function: of (carry, ...), for one network.
      mesh: None for one network; for many, the devices that they are spread over: `carry` and `own` then have a leading
        axis of networks.
      static: arguments that are no arrays.
    """

    def one(carry: Any, own: dict[str, Any], shared: dict[str, Any]) -> Any:
        return function(carry, **own, **shared, **dict(static))

    if mesh is None:
        return jax.jit(one, donate_argnums=0)

    def of_device(carry: Any, own: dict[str, Any], shared: dict[str, Any]) -> Any:
        return devices.map_images(lambda each: one(each[0], each[1], shared), (carry, own))

    specs = (APART, APART, EVERYWHERE)
    return jax.jit(jax.shard_map(of_device, mesh=mesh, in_specs=specs, out_specs=APART, check_vma=False))


@functools.lru_cache(maxsize=256)
def mapping_program(
    function: Callable[..., Any], mesh: Mesh, many: bool, own_images: bool, static: tuple[tuple[str, Any], ...]
) -> Any:
    """A jitted `function` of (model, images), spread over devices: by images for one network, by networks for many.

    Args:
      function: of (model, images), to arrays with a leading axis of images.
      mesh: the devices.
      many: models have a leading axis of networks.
      own_images: images have it too.
      static: arguments that are no arrays.
    """
    bound = functools.partial(function, **dict(static))
    if not many:
        specs = (EVERYWHERE, APART)
        return jax.jit(jax.shard_map(bound, mesh=mesh, in_specs=specs, out_specs=APART, check_vma=False))

    def of_device(models: Any, images: Any) -> Any:
        if own_images:
            return devices.map_images(lambda each: bound(*each), (models, images))
        return devices.map_images(lambda model: bound(model, images), models)

    specs = (APART, APART if own_images else EVERYWHERE)
    return jax.jit(jax.shard_map(of_device, mesh=mesh, in_specs=specs, out_specs=APART, check_vma=False))


def place(values: Any, mesh: Mesh | None, spec: PartitionSpec) -> Any:
    """Puts arrays where a program takes them."""
    return jax.device_put(values, None if mesh is None else NamedSharding(mesh, spec))
