"""Steps on an accelerator, where launching kernels takes most of the time.

The winners of a batch depend on the weights at its start alone, so that all updates are known before the first is made.
Image by image, each waits for little: the potentials of the features that have changed within its block.
"""

import dataclasses
import functools
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from snnjax import kernels
from snnjax.kernels import Spikes, Winners, plasticity, readout
from snnjax.layers.layer_kernels import PLAIN, block_potentials
from snnjax.layers.spiking import Layer, at_last_step
from snnjax.learners import SupervisedSTDP
from snnjax.networks import Model
from snnjax.networks.decision import decide, majority
from snnjax.steps import reward_in_blocks
from snnjax.steps.native import count_slice
from snnjax.steps.plain import Carry, Slice, StepResult, Supervised, Task, end_epoch, outcome, where
from snnjax.steps.reward_in_blocks import Strongest, class_of, learn_within_batches, learned_row, teach_deciding


def learn_features(task: Task, carry: Carry, model: Model | None, part: Slice) -> tuple[Carry, StepResult]:
    """As `plain.learn_unsupervised`, by `STDP`, of a layer with the kernels `XLA` within its bounds."""
    (name,) = task.names
    batch = task.batch

    def one_batch(learned: Any, images: Any) -> Any:
        layer, state = learned
        images, shown = images
        learner = layer.conv.each_learner[task.learner]
        winners = jax.vmap(lambda image: learner.forward(layer, state, image, None).winners)(images)
        feature = jnp.where(shown[:, None], winners.feature, -1)
        rates = jax.vmap(learner.rates)(state + jnp.arange(batch))
        inputs = jax.vmap(learner.seen, (None, 0))(layer, images)
        layer = _learned(layer, inputs, winners, feature, rates, learner)
        return (layer, state + jnp.sum(shown, dtype=state.dtype)), feature

    begin = carry.layers[name], carry.states[name]
    (layer, state), feature = _run_batches(one_batch, begin, (part.inputs,), part, batch)
    return end_epoch(task, Carry({name: layer}, {name: state}), part.last), StepResult({name: feature})


def learn_reward_batches(task: Task, carry: Carry, model: Model, part: Slice) -> tuple[Carry, StepResult]:
    """As `plain.learn_supervised`, of deciding `RSTDP` layers with the kernels `XLA` within their bounds."""
    rule = Supervised(task, model, part.batch_size)
    names = task.names
    batch = task.batch

    def one_batch(carry: Carry, images: Any) -> Any:
        layers, states, tally = carry
        images, labels, valid = images
        winners = {name: _strongest(layers[name], states[name].get("kept"), images) for name in names}
        votes = {name: class_of(layers[name], winner.feature[:, 0]) for name, winner in winners.items()}
        decisions = jax.vmap(majority, (1, None))(jnp.stack(list(votes.values())), model.network.classes)

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
            collapsed = at_last_step(images < model.network.time_steps, model.network.time_steps)
            learned[name] = _learned(layer, collapsed, winners[name], feature, rate, layer.conv.last_learner)
            infos[name] = dict(feature=feature)
        return Carry(learned, *counted), StepResult(infos, decisions)

    carry, result = _run_batches(one_batch, carry, (part.inputs, part.labels), part, batch)
    return rule.end_epoch(carry, part.last), result


def learn_reward(task: Task, carry: Carry, model: Model, part: Slice) -> tuple[Carry, StepResult]:
    """As `reward_in_blocks.learn`, one image at a time."""
    teach = functools.partial(teach_deciding, _learn_deciding)
    return learn_within_batches(teach, reward_in_blocks.BLOCK, Supervised(task, model, part.batch_size), carry, part)


def learn_deep_reward(task: Task, carry: Carry, model: Model, part: Slice) -> tuple[Carry, StepResult]:
    """As `plain.learn_supervised`, one image at a time, of `RSTDP` layers with the kernels `XLA` in their bounds."""
    rule = Supervised(task, model, part.batch_size)
    return learn_within_batches(_teach_deep, reward_in_blocks.BLOCK, rule, carry, part)


def _teach_deep(rule: Supervised, carry: Carry, part: Slice) -> tuple[dict[str, Layer], StepResult]:
    def one(layers: Any, image: Any) -> Any:
        latency, label, shown = image
        now = carry._replace(layers=layers)
        passed = rule.respond(now, latency, label)
        layers, _, infos = rule.teach(now, label, passed, shown)
        return layers, StepResult(infos, passed.decided.decision)

    return _scan_packed(one, carry.layers, (part.inputs, part.labels, part.shown))


def _scan_packed(function: Any, carry: Any, xs: Any, unroll: int = 1) -> Any:
    """`jax.lax.scan`, whose results travel as one array, which is one kernel."""
    _, result = jax.eval_shape(function, carry, jax.tree.map(lambda x: x[0], xs))
    _, unpack = ravel_pytree(jax.tree.map(jnp.zeros_like, result))

    def packed(carry: Any, one: Any) -> Any:
        carry, result = function(carry, one)
        return carry, ravel_pytree(result)[0]

    carry, result = jax.lax.scan(packed, carry, xs, unroll=unroll)
    return carry, jax.vmap(unpack)(result)


def learn_readout(task: Task, carry: Carry, model: Model, part: Slice) -> tuple[Carry, StepResult]:
    """As `plain.learn_supervised`, of a layer with the kernels `XLA` or `AT_ONCE` within its bounds.

    The slice starts at a multiple of the batch, and so does the number of images. Decisions and infos, which
    learning does not need, are computed after all images.
    """
    (name,) = task.names
    batch = task.batch
    layer = carry.layers[name]
    state = carry.states[name]
    shown = part.shown
    labels = jnp.maximum(part.labels, 0)
    learns = shown & (part.labels >= 0) & jnp.any(part.inputs < model.network.time_steps, axis=(1, 2, 3))
    images = jax.tree.map(lambda x: x.reshape(-1, batch, *x.shape[1:]), (part.inputs, labels, learns))
    # XLA makes fewer kernels of weights (F, K), and shares some between single images.
    begin = layer.stored.reshape(layer.conv.features, -1), state["excess"]
    learn_batch = functools.partial(_learn_batch, layer, state)
    (rows, excess), results = _scan_packed(learn_batch, begin, images, unroll=4 if batch == 1 else 1)
    result = _Results(*(x.reshape(-1, *x.shape[2:]) for x in results))

    def decided(time: jax.Array, potential: jax.Array) -> jax.Array:
        spikes = Spikes(time, potential, time)  # the decision is by times alone
        return decide(model.network.decision, [spikes], model.network.classes).decision

    decisions = jnp.where(shown, jax.vmap(decided)(result.times, result.potentials), 0)
    infos = {name: _infos(layer, result, shown, learns, labels)}
    tally = count_slice(carry.tally, outcome(decisions, part.labels), part)
    layers = {name: dataclasses.replace(layer, stored=rows.reshape(layer.stored.shape))}
    carry = Carry(layers, {name: dict(state, excess=excess)}, tally)
    return Supervised(task, model, part.batch_size).end_epoch(carry, part.last), StepResult(infos, decisions)


class _Results(NamedTuple):
    """The results for B images after they were learned."""

    neuron: jax.Array  # [B, n], of the neurons that learn
    time: jax.Array  # [B, n]
    error: jax.Array  # [B, n]
    excess: jax.Array  # [B, F], of the training thresholds afterwards
    times: jax.Array  # [B, F], of all neurons
    potentials: jax.Array  # [B, F]


def _learn_batch(layer: Layer, state: Any, carry: Any, images: Any) -> tuple[Any, _Results]:
    """Weights (F, K) and excess (F,) after a batch: latencies, labels, whether each is learned."""
    rows, excess = carry
    latency, label, learns = images
    learner = cast(SupervisedSTDP, layer.conv.last_learner)
    batch = len(label)
    classes = layer.classes
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
        (winner,) = readout.of_earliest(time, training.potential, (neuron - learner.non_targets,))
        competing = (label[:, None] == jnp.arange(classes)[None]) & learns[:, None]
        before = excess.reshape(classes, -1)[:, learner.non_targets :]
        after = readout.balanced_in_order(before, competing, winner, state["threshold_rate"])
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
    inputs = jax.vmap(layer.padded)(latency)
    inputs, step, errors, moved = (x.reshape(batch, -1) for x in (inputs, step, errors, moved))
    sums = state["sums"] if learner.normalise else None
    rows = readout.corrected_in_order(rows, inputs, step, errors, moved, state["rates"], sums, bounds=learner.bounds)
    times, potentials = (x.reshape(batch, -1) for x in (spikes.time, spikes.potential))
    return (rows, after[-1]), _Results(group.neuron, group.time, error, after, times, potentials)


def _infos(
    layer: Layer, result: _Results, shown: jax.Array, learns: jax.Array, label: jax.Array
) -> dict[str, jax.Array]:
    """The infos of `SupervisedSTDP`, 0 of images that were not shown."""
    learner = cast(SupervisedSTDP, layer.conv.last_learner)
    nothing = -shown.astype(jnp.int32)
    mask = learns[:, None]
    thresholds = (result.excess + jnp.asarray(layer.conv.threshold, jnp.float32)).reshape(len(label), layer.classes, -1)
    thresholds = jnp.take_along_axis(thresholds, label[:, None, None], axis=1)[:, 0, learner.non_targets :]
    return dict(
        neuron=jnp.where(mask, result.neuron, nothing[:, None]),
        time=jnp.where(mask, result.time, 0),
        error=jnp.where(mask, result.error, 0),
        label=jnp.where(learns, label, nothing),
        threshold=jnp.where(mask, thresholds[:, : learner.competitors(layer)], 0),
    )


def _learn_deciding(layer: Layer, state: Any, part: Slice, turn: Any) -> tuple[Layer, jax.Array, jax.Array]:
    size = len(part.inputs)
    features = layer.conv.features
    spiked = part.inputs < layer.time_steps
    taught = part.shown & turn
    places = jnp.arange(features + size)
    before = Strongest.of(block_potentials(layer, spiked)).among(state.get("kept"))

    def one(carry: Any, image: Any) -> Any:
        rows, marks = carry
        index, stale, spiked, label, learns = image
        slot = marks[:features]
        exact = Strongest.of(block_potentials(dataclasses.replace(layer, stored=rows), spiked[None]))
        now = jax.tree.map(lambda new, old: jnp.where(slot < 0, old, new[0, slot]), exact, stale)
        winner = now.winner(layer, spiked.shape[1:])
        feature = winner.feature[0]
        won = outcome(class_of(layer, feature), label) * learns
        old = jnp.where(slot[feature] < 0, layer.stored[:, :, feature], rows[:, :, slot[feature]])
        collapsed = at_last_step(spiked, layer.time_steps)
        row = learned_row(layer, old, collapsed, winner, kernels.reward_rates(won, *state["rates"]))
        rows = jnp.where((jnp.arange(size) == index)[:, None], row[:, :, None], rows)
        marks = jnp.where(places == features + index, feature, marks)
        return (rows, jnp.where(places == jnp.where(won == 0, -1, feature), index, marks)), None

    # Rows are weights as each image has changed them, (kh, kw, B, C). Marks are the image that has changed each feature
    # last, then the feature that has won in each image; -1 for none.
    rows = jnp.zeros((*layer.stored.shape[:2], size, layer.stored.shape[3]))
    begin = (rows, jnp.full(features + size, -1))
    xs = (jnp.arange(size), before, spiked, part.labels, taught)
    (rows, marks), _ = jax.lax.scan(one, begin, xs, unroll=4)  # a loop copies the arrays that it changes
    slot = marks[:features]
    weights = jnp.where((slot < 0)[:, None], layer.stored, rows[:, :, slot])
    won = marks[features:]
    return dataclasses.replace(layer, stored=weights), class_of(layer, won), jnp.where(taught, won, -1)


_UNROLLED = 16
"""Images whose outcomes are counted at once."""


def _run_batches(one_batch: Any, carry: Any, images: tuple[jax.Array, ...], part: Slice, batch: int) -> Any:
    """The carry after all batches, and the results for each image, 0 for those not shown.

    `one_batch` gets the arrays `images` of B images, and which of them are shown. The slice starts at a multiple of B,
    and so does the number of all images. A loop of known length needs no kernel that says when it ends.
    """
    shown = part.shown
    batches = jax.tree.map(lambda x: x.reshape(-1, batch, *x.shape[1:]), (*images, shown))
    carry, result = jax.lax.scan(one_batch, carry, batches, unroll=4 if batch == 1 else 1)
    result = jax.tree.map(lambda x: x.reshape(len(shown), *x.shape[2:]), result)
    return carry, jax.vmap(where)(shown, result, jax.tree.map(jnp.zeros_like, result))


def _strongest(layer: Layer, kept: jax.Array | None, images: jax.Array) -> Winners:
    """The strongest neuron of each image, `Winners` of (B, 1), among the features that dropout keeps."""
    potentials = jax.vmap(layer.packed(PLAIN).potentials)(images)
    return jax.vmap(lambda one: one.winner(layer, images.shape[2:]))(Strongest.of(potentials).among(kept))


def _learned(
    layer: Layer, images: jax.Array, winners: Winners, feature: jax.Array, rates: jax.Array, learner: Any
) -> Layer:
    """The layer after the updates of B images in their order; those with `feature` -1 do nothing."""

    def causal(image: jax.Array, winners: Winners) -> jax.Array:
        padded = layer.padded(image)
        kernel = layer.conv.kernel
        return plasticity.causal_inputs(
            padded, winners, kernel=kernel, time_steps=layer.time_steps, stride=layer.conv.stride
        )

    weights = plasticity.learned_in_order(
        layer.weights,
        feature,
        jax.vmap(causal)(images, winners),
        rates,
        bounds=learner.bounds,
        stabiliser=learner.stabiliser,
    )
    return dataclasses.replace(layer, stored=layer.kernels.pack(weights))
