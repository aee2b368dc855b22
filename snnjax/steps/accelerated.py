"""Steps on an accelerator, where what costs time is the number of kernels launched.

The winners of a batch depend on the weights at its start alone, so that all updates are known before the first is made.
Image by image, what each must wait for is little: the potentials of the features that have changed within its block.
"""

import dataclasses
import functools
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from snnjax import kernels
from snnjax.kernels import Spikes, Winners
from snnjax.layers.layer_kernels import PLAIN, block_potentials
from snnjax.layers.spiking import Layer, at_last_step
from snnjax.learners import SupervisedSTDP
from snnjax.networks import Model
from snnjax.networks.decision import decide, majority
from snnjax.steps import reward_in_blocks, supervised_native
from snnjax.steps.case import Case
from snnjax.steps.plain import Carry, Found, Slice, Supervised, Task, end_epoch, outcome, where
from snnjax.steps.reward_in_blocks import Strongest, strongest_of_block


def fits(case: Case) -> bool:
    """Whether it is an accelerator."""
    return case.platform != "cpu"


def fits_reward_batches(case: Case) -> bool:
    """Whether deciding layers alone learn on an accelerator in batches, under `Majority`."""
    return fits(case) and case.task.batch > 1 and reward_in_blocks.fits(case)


def fits_reward(case: Case) -> bool:
    """Whether deciding layers alone learn on an accelerator image by image, under `Majority`."""
    return fits(case) and case.task.batch == 1 and reward_in_blocks.fits(case)


def fits_deep_reward(case: Case) -> bool:
    """Whether layers learn on an accelerator image by image."""
    return fits(case) and case.task.batch == 1


def fits_readout(case: Case) -> bool:
    """Whether a single deciding layer learns on an accelerator in batches, under `Earliest`."""
    return fits(case) and case.task.batch > 1 and supervised_native.is_single(case)


def fits_readout_one_by_one(case: Case) -> bool:
    """Whether a single deciding layer learns on an accelerator image by image, under `Earliest`."""
    return fits(case) and case.task.batch == 1 and supervised_native.is_single(case)


def learn_features(task: Task, carry: Carry, model: Model | None, part: Slice) -> tuple[Carry, Found]:
    """As `plain.learn_unsupervised`, by `STDP`, of a layer with the kernels `XLA` within its bounds."""
    (name,) = task.names
    batch = task.batch

    def one_batch(learned: Any, images: Any) -> Any:
        (layer, state), (images, shown) = learned, images
        learner = layer.conv.each_learner[task.learner]
        winners = jax.vmap(lambda image: learner.forward(layer, state, image, None).winners)(images)
        feature = jnp.where(shown[:, None], winners.feature, -1)
        rates = jax.vmap(learner.rates)(state + jnp.arange(batch))
        seen = jax.vmap(learner.seen, (None, 0))(layer, images)
        layer = _learned(layer, seen, winners, feature, rates, learner)
        return (layer, state + jnp.sum(shown, dtype=state.dtype)), feature

    begin = carry.layers[name], carry.states[name]
    (layer, state), feature = _each_batch(one_batch, begin, (part.inputs,), part, batch)
    return end_epoch(task, Carry({name: layer}, {name: state}), part.last), Found({name: feature})


def learn_reward_batches(task: Task, carry: Carry, model: Model | None, part: Slice) -> tuple[Carry, Found]:
    """As `plain.learn_supervised`, of deciding `RSTDP` layers with the kernels `XLA` within their bounds."""
    rule = Supervised.of(task, model, part)
    network = rule.model
    names = task.names
    batch = task.batch

    def one_batch(carry: Carry, images: Any) -> Any:
        (layers, states, tally), (images, labels, valid) = carry, images
        winners = {name: _strongest(layers[name], states[name].get("kept"), images) for name in names}
        votes = {name: _voted(layers[name], each.feature[:, 0]) for name, each in winners.items()}
        decisions = jax.vmap(majority, (1, None))(jnp.stack(list(votes.values())), network.classes)

        def count_one(inner: Any, image: Any) -> Any:
            states, tally = inner
            won, valid = image
            rates = {name: states[name]["rates"] for name in names}
            after = where(valid, rule.count_outcomes(Carry(layers, states, tally), won, 1), inner)
            return after, (rates, rule.turns(tally))

        outcomes = jax.vmap(outcome)(decisions, labels)
        unroll = min(batch, _UNROLLED)
        counted, (rates, turns) = jax.lax.scan(count_one, (states, tally), (outcomes, valid), unroll=unroll)
        learned: dict[str, Layer] = {}
        infos: dict[str, Any] = {}
        for name, layer in layers.items():
            won = outcome(votes[name], labels) * (valid & turns[name])
            feature = jnp.where(won == 0, -1, winners[name].feature[:, 0])[:, None]
            rate = jax.vmap(kernels.reward_rates)(won, rates[name][:, 0], rates[name][:, 1])
            seen = at_last_step(images < network.time_steps, network.time_steps)
            learned[name] = _learned(layer, seen, winners[name], feature, rate, layer.conv.supervised)
            infos[name] = dict(feature=feature)
        return Carry(learned, *counted), Found(infos, decisions)

    carry, found = _each_batch(one_batch, carry, (part.inputs, part.labels), part, batch)
    return rule.end_epoch(carry, part.last), found


def learn_reward(task: Task, carry: Carry, model: Model | None, part: Slice) -> tuple[Carry, Found]:
    """As `reward_in_blocks.learn`, one image at a time."""
    rule = Supervised.of(task, model, part)

    def teach(carry: Carry, images: jax.Array, labels: jax.Array, shown: jax.Array) -> Any:
        learned: dict[str, Layer] = {}
        votes: list[jax.Array] = []
        infos: dict[str, Any] = {}
        for name, turn in rule.turns(carry.tally).items():
            layer = carry.layers[name]
            learns = shown & turn
            learned[name], feature = _learned_in_block(layer, carry.states[name], images, labels, learns)
            votes.append(_voted(layer, feature))
            infos[name] = dict(feature=jnp.where(learns, feature, -1)[:, None])
        decisions = jax.vmap(majority, (1, None))(jnp.stack(votes), rule.model.classes)
        return learned, Found(infos, decisions)

    return _each_block(rule, teach, carry, part)


def learn_deep_reward(task: Task, carry: Carry, model: Model | None, part: Slice) -> tuple[Carry, Found]:
    """As `plain.learn_supervised`, one image at a time, of `RSTDP` layers with the kernels `XLA` in their bounds."""
    rule = Supervised.of(task, model, part)

    def teach(carry: Carry, images: jax.Array, labels: jax.Array, shown: jax.Array) -> Any:
        def one(layers: Any, image: Any) -> Any:
            latency, label, shown = image
            now = carry._replace(layers=layers)
            passed = rule.respond(now, latency, label)
            layers, _, infos = rule.teach(now, label, passed, shown)
            return layers, Found(infos, passed.decided.decision)

        def packed(layers: Any, image: Any) -> Any:
            layers, found = one(layers, image)
            return layers, ravel_pytree(found)[0]  # one array is one kernel

        each = images, labels, shown
        _, found = jax.eval_shape(one, carry.layers, jax.tree.map(lambda x: x[0], each))
        _, unpack = ravel_pytree(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), found))
        layers, found = jax.lax.scan(packed, carry.layers, each)
        return layers, jax.vmap(unpack)(found)

    return _each_block(rule, teach, carry, part)


def _each_block(rule: Supervised, teach: Any, carry: Carry, part: Slice) -> tuple[Carry, Found]:
    """Learns by reward, block by block: decisions are counted after each, which ends where rates may change.

    `teach`, of (carry, latencies, labels, whether each of these B images is shown), gives the layers, and what is found
    of each image. There must be at least as many images as in a block.
    """
    size = len(part.inputs)
    block = reward_in_blocks.BLOCK

    def one_block(state: Any) -> Any:
        start, carry, found = state
        end = jnp.minimum(jnp.minimum(start + block, part.stop), start + part.batch_size - carry.tally.seen)
        base = jnp.minimum(start, size - block)
        numbers = base + jnp.arange(block)
        latency = jax.lax.dynamic_slice_in_dim(part.inputs, base, block)
        label = jax.lax.dynamic_slice_in_dim(part.labels, base, block)
        shown = (numbers >= start) & (numbers < end)
        learned, new = teach(carry, latency, label, shown)
        outcomes = jnp.where(shown, outcome(new.decisions, label), 0)
        states, tally = rule.count_outcomes(carry, outcomes, end - start)
        places = jnp.where(shown, numbers, size)  # others are dropped
        found = jax.tree.map(lambda all_, x: all_.at[places].set(x, mode="drop"), found, new)
        return end, Carry(learned, states, tally), found

    _, new = jax.eval_shape(teach, carry, part.inputs[:block], part.labels[:block], jnp.ones(block, bool))
    nothing = jax.tree.map(lambda x: jnp.zeros((size, *x.shape[1:]), x.dtype), new)
    _, carry, found = jax.lax.while_loop(lambda state: state[0] < part.stop, one_block, (part.start, carry, nothing))
    return rule.end_epoch(carry, part.last), found


def learn_readout(task: Task, carry: Carry, model: Model | None, part: Slice) -> tuple[Carry, Found]:
    """As `plain.learn_supervised`, of a layer with the kernels `XLA` or `AT_ONCE` within its bounds.

    The slice starts at a multiple of the batch, and so does the number of images. What learning does not need is
    computed after all images: decisions and infos.
    """
    rule = Supervised.of(task, model, part)
    network = rule.model
    (name,), batch = task.names, task.batch
    layer = carry.layers[name]
    state = carry.states[name]
    numbers = jnp.arange(len(part.inputs))
    shown = (numbers >= part.start) & (numbers < part.stop)
    labels = jnp.maximum(part.labels, 0)
    learns = shown & (part.labels >= 0) & jnp.any(part.inputs < network.time_steps, axis=(1, 2, 3))
    images = jax.tree.map(lambda x: x.reshape(-1, batch, *x.shape[1:]), (part.inputs, labels, learns))
    # XLA makes fewer kernels of weights (F, K), and shares some between single images.
    begin = layer.stored.reshape(layer.conv.features, -1), state["excess"]
    learn_batch = functools.partial(_learn_batch, layer, state)
    (rows, excess), packed = jax.lax.scan(learn_batch, begin, images, unroll=4 if batch == 1 else 1)
    result = _Results.unpacked(packed.reshape(len(numbers), -1), layer)

    def decided(time: jax.Array, potential: jax.Array) -> jax.Array:
        return decide(network.decision, [Spikes(time, potential, time)], network.classes).decision  # by times alone

    decisions = jnp.where(shown, jax.vmap(decided)(result.times, result.potentials), 0)
    infos = {name: _infos(layer, result, shown, learns, labels)}
    tally = supervised_native.count_slice(carry.tally, outcome(decisions, part.labels), part)
    layers = {name: dataclasses.replace(layer, stored=rows.reshape(layer.stored.shape))}
    carry = Carry(layers, {name: dict(state, excess=excess)}, tally)
    return rule.end_epoch(carry, part.last), Found(infos, decisions)


class _Results(NamedTuple):
    """What is known of B images after they were learned; all in float32, so that one array holds it: one kernel.

    Attributes:
      neuron, time, error: (B, n), of the neurons that learn.
      excess: (B, F), of the training thresholds afterwards.
      times, potentials: (B, F), of all neurons.
    """

    neuron: jax.Array
    time: jax.Array
    error: jax.Array
    excess: jax.Array
    times: jax.Array
    potentials: jax.Array

    def packed(self) -> jax.Array:
        return jnp.concatenate([x.reshape(len(x), -1).astype(jnp.float32) for x in self], axis=1)

    @classmethod
    def unpacked(cls, packed: jax.Array, layer: Layer) -> "_Results":
        features = layer.conv.features
        learn = layer.classes if layer.conv.supervised.competition else features
        return cls(*jnp.split(packed, np.cumsum([learn] * 3 + [features] * 2), axis=1))


def _learn_batch(layer: Layer, state: Any, carry: Any, images: Any) -> tuple[Any, jax.Array]:
    """Weights (F, K) and excess (F,) after a batch: latencies, labels, whether each is learned; `_Results`, packed."""
    (rows, excess), (latency, label, learns) = carry, images
    learner, (batch,), classes = cast(SupervisedSTDP, layer.conv.supervised), label.shape, layer.classes
    now = dataclasses.replace(layer, stored=rows.reshape(layer.stored.shape))

    def spikes_at(threshold: Any) -> Any:
        spikes = jax.vmap(lambda image: now.timed_spikes(image, threshold))(latency)
        return jax.tree.map(lambda x: x.reshape(batch, classes, -1), spikes)

    spikes = spikes_at(layer.conv.threshold)
    training = None
    after = jnp.broadcast_to(excess, (batch, *excess.shape))
    if learner.competitors(layer):
        training = spikes_at(layer.conv.threshold + excess)
        neuron = jnp.broadcast_to(jnp.arange(training.time.shape[2]), training.time.shape)
        time = jnp.where(neuron >= learner.non_targets, training.time, jnp.inf)
        (winner,) = kernels.of_earliest(time, training.potential, (neuron - learner.non_targets,))
        own = (label[:, None] == jnp.arange(classes)[None]) & learns[:, None]
        before = excess.reshape(classes, -1)[:, learner.non_targets :]
        after = kernels.balanced_in_order(before, own, winner, state["threshold_rate"])
        after = jnp.pad(after, ((0, 0), (0, 0), (learner.non_targets, 0))).reshape(batch, -1)
    group = jax.vmap(functools.partial(learner.group, layer))(spikes, training, label)
    error = jax.vmap(functools.partial(learner.errors, layer))(group)

    def of_all(values: jax.Array) -> jax.Array:
        """From (B, n) to (B, n, M): the neuron that learns for all of its class, or each for itself."""
        return jnp.broadcast_to(values[..., None], (*values.shape, layer.conv.features // values.shape[1]))

    step = of_all(group.spike)
    place = jnp.arange(layer.conv.features).reshape(1, *of_all(group.spike).shape[1:])
    moved = (of_all(group.neuron) == place) & learns[:, None, None]
    errors, moved, after = jax.lax.optimization_barrier((of_all(error), moved, after))  # together they are one kernel
    seen = jax.vmap(layer.padded)(latency)
    seen, step, errors, moved = (x.reshape(batch, -1) for x in (seen, step, errors, moved))
    sums = state["sums"] if learner.normalise else None
    rows = kernels.corrected_in_order(rows, seen, step, errors, moved, state["rates"], sums, bounds=learner.bounds)
    found = _Results(group.neuron, group.time, error, after, spikes.time, spikes.potential)
    return (rows, after[-1]), found.packed()


def _infos(
    layer: Layer, result: _Results, shown: jax.Array, learns: jax.Array, label: jax.Array
) -> dict[str, jax.Array]:
    """The infos of `SupervisedSTDP`, 0 of images that were not shown."""
    learner = cast(SupervisedSTDP, layer.conv.supervised)
    nothing = -shown.astype(jnp.int32)
    own = learns[:, None]
    thresholds = (result.excess + jnp.asarray(layer.conv.threshold, jnp.float32)).reshape(len(label), layer.classes, -1)
    thresholds = jnp.take_along_axis(thresholds, label[:, None, None], axis=1)[:, 0, learner.non_targets :]
    return dict(
        neuron=jnp.where(own, result.neuron.astype(jnp.int32), nothing[:, None]),
        time=jnp.where(own, result.time, 0),
        error=jnp.where(own, result.error, 0),
        label=jnp.where(learns, label, nothing),
        threshold=jnp.where(own, thresholds[:, : learner.competitors(layer)], 0),
    )


def _learned_in_block(
    layer: Layer, state: Any, images: jax.Array, labels: jax.Array, learns: jax.Array
) -> tuple[Layer, jax.Array]:
    """The layer after B images, of which those that `learns`, (B,) bool, teach; who won in each, (B,), -1 for none."""
    size = len(images)
    features = layer.conv.features
    rule = layer.conv.supervised
    spiked = images < layer.time_steps
    places = jnp.arange(features + size)
    settings: dict[str, Any] = dict(bounds=rule.bounds, stabiliser=rule.stabiliser, stride=layer.conv.stride)
    before = strongest_of_block(layer, state, spiked)

    def one(carry: Any, image: Any) -> Any:
        (rows, marks), (at, stale, spiked, label, learns) = carry, image
        slot = marks[:features]
        exact = Strongest.of(block_potentials(dataclasses.replace(layer, stored=rows), spiked[None]))
        now = jax.tree.map(lambda new, old: jnp.where(slot < 0, old, new[0, slot]), exact, stale)
        values = now.potential, jnp.arange(features), now.place
        most, feature, place = kernels.of_earliest(jnp.zeros(features), now.potential, values)
        feature = jnp.where(most > 0, feature, -1)
        # As `Strongest.winner`, of fewer kernels.
        position = jnp.divmod(place, layer.conv.output_size((images.shape[2], images.shape[3]))[1])
        winner = Winners(*(x[None] for x in (feature, *position, jnp.int32(layer.time_steps - 1))))
        won = outcome(_voted(layer, feature), label) * learns
        old = jnp.where(slot[feature] < 0, layer.stored[:, :, feature], rows[:, :, slot[feature]])
        seen = layer.padded(at_last_step(spiked, layer.time_steps))
        rate = kernels.reward_rates(won, *state["rates"])
        old = jnp.moveaxis(old, 2, 0)[None]
        row = kernels.learned_rows(old, seen, winner, rate, time_steps=layer.time_steps, **settings)[0]
        rows = jnp.where((jnp.arange(size) == at)[:, None], jnp.moveaxis(row, 0, 2)[:, :, None], rows)
        marks = jnp.where(places == features + at, feature, marks)
        return (rows, jnp.where(places == jnp.where(won == 0, -1, feature), at, marks)), None

    # Rows are weights as each image has changed them, (kh, kw, B, C). Marks are the image that has changed each feature
    # last, then the feature that has won in each image; -1 for none.
    rows = jnp.zeros((*layer.stored.shape[:2], size, layer.stored.shape[3]))
    begin = (rows, jnp.full(features + size, -1))
    each = (jnp.arange(size), before, spiked, labels, learns)
    (rows, marks), _ = jax.lax.scan(one, begin, each, unroll=4)  # a loop copies what it changes
    slot = marks[:features]
    weights = jnp.where((slot < 0)[:, None], layer.stored, rows[:, :, slot])
    return dataclasses.replace(layer, stored=weights), marks[features:]


_UNROLLED = 16
"""Images whose outcomes are counted at once."""


def _each_batch(one_batch: Any, carry: Any, images: tuple[jax.Array, ...], part: Slice, batch: int) -> Any:
    """The carry after all batches, and what was found of each image, 0 of those not shown.

    `one_batch` gets the arrays `images` of B images, and which of them are shown. The slice starts at a multiple of B,
    and so does the number of all images. A loop of known length needs no kernel that says when it ends.
    """
    numbers = jnp.arange(len(images[0]))
    shown = (numbers >= part.start) & (numbers < part.stop)
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
    return dataclasses.replace(layer, stored=layer.kernels.pack(weights))
