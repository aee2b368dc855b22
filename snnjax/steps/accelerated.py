"""Steps of batches on an accelerator, where launching kernels takes most of the time.

The winners of a batch depend on the weights at its start alone, so that all updates are known before the first is made.
"""

import dataclasses
import functools
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from snnjax import kernels
from snnjax.kernels import Spikes, Winners, plasticity, readout
from snnjax.kernels.neurons import at_last_step
from snnjax.layers.spiking import Layer
from snnjax.learners import SupervisedSTDP
from snnjax.networks import Model
from snnjax.networks.decision import decide, majority
from snnjax.steps.native import count_slice
from snnjax.steps.phase import Carry, Phase, Slice, StepResult
from snnjax.steps.plain import Supervised, end_epoch, outcome, where


def learn_features(phase: Phase, carry: Carry, model: Model | None, part: Slice) -> tuple[Carry, StepResult]:
    """As `plain.learn_unsupervised`, by `STDP`, of a layer with the kernels `XLA` within its bounds."""
    (name,) = phase.layers
    batch = phase.batch

    def one_batch(learned: Any, images: Any) -> Any:
        layer, state = learned
        images, shown = images
        learner = layer.conv.each_learner[phase.learner]
        winners = jax.vmap(lambda image: learner.forward(layer, state, image, None).winners)(images)
        feature = jnp.where(shown[:, None], winners.feature, -1)
        rates = jax.vmap(learner.rates)(state + jnp.arange(batch))
        inputs = jax.vmap(learner.seen, (None, 0))(layer, images)
        layer = _learned(layer, inputs, winners, feature, rates, learner)
        return (layer, state + jnp.sum(shown, dtype=state.dtype)), feature

    begin = carry.layers[name], carry.states[name]
    (layer, state), feature = _run_batches(one_batch, begin, (part.inputs,), part, batch)
    return end_epoch(phase, Carry({name: layer}, {name: state}), part.last), StepResult({name: feature})


def learn_reward_batches(phase: Phase, carry: Carry, model: Model, part: Slice) -> tuple[Carry, StepResult]:
    """As `plain.learn_supervised`, of deciding `RSTDP` layers with the kernels `XLA` within their bounds."""
    rule = Supervised(phase, model, part.batch_size)
    names = phase.layers
    batch = phase.batch

    def one_batch(carry: Carry, images: Any) -> Any:
        layers, states, tally = carry
        images, labels, valid = images
        winners = {name: _strongest(layers[name], states[name].get("kept"), images) for name in names}
        votes = {name: _class_of(layers[name], winner.feature[:, 0]) for name, winner in winners.items()}
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


def _scan_packed(function: Any, carry: Any, xs: Any) -> Any:
    """`jax.lax.scan`, whose results travel as one array, which is one kernel."""
    _, result = jax.eval_shape(function, carry, jax.tree.map(lambda x: x[0], xs))
    _, unpack = ravel_pytree(jax.tree.map(jnp.zeros_like, result))

    def packed(carry: Any, one: Any) -> Any:
        carry, result = function(carry, one)
        return carry, ravel_pytree(result)[0]

    carry, result = jax.lax.scan(packed, carry, xs)
    return carry, jax.vmap(unpack)(result)


def learn_readout(phase: Phase, carry: Carry, model: Model, part: Slice) -> tuple[Carry, StepResult]:
    """As `plain.learn_supervised`, of a layer with the kernels `XLA` within its bounds.

    The slice starts at a multiple of the batch, and so does the number of images. Decisions and infos, which
    learning does not need, are computed after all images.
    """
    (name,) = phase.layers
    batch = phase.batch
    layer = carry.layers[name]
    state = carry.states[name]
    shown = part.shown
    labels = jnp.maximum(part.labels, 0)
    learns = shown & (part.labels >= 0) & jnp.any(part.inputs < model.network.time_steps, axis=(1, 2, 3))
    images = jax.tree.map(lambda x: x.reshape(-1, batch, *x.shape[1:]), (part.inputs, labels, learns))
    # XLA makes fewer kernels of weights (F, K).
    begin = layer.stored.reshape(layer.conv.features, -1), state["excess"]
    learn_batch = functools.partial(_learn_batch, layer, state)
    (rows, excess), results = _scan_packed(learn_batch, begin, images)
    result = _Results(*(x.reshape(-1, *x.shape[2:]) for x in results))

    def decided(time: jax.Array, potential: jax.Array) -> jax.Array:
        spikes = Spikes(time, potential, time)  # the decision is by times alone
        return decide(model.network.decision, [spikes], model.network.classes).decision

    decisions = jnp.where(shown, jax.vmap(decided)(result.times, result.potentials), 0)
    infos = {name: _infos(layer, result, shown, learns, labels)}
    tally = count_slice(carry.tally, outcome(decisions, part.labels), part)
    layers = {name: dataclasses.replace(layer, stored=rows.reshape(layer.stored.shape))}
    carry = Carry(layers, {name: dict(state, excess=excess)}, tally)
    return Supervised(phase, model, part.batch_size).end_epoch(carry, part.last), StepResult(infos, decisions)


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
        neuron = jnp.broadcast_to(jnp.arange(training.time.shape[2], dtype=jnp.int32), training.time.shape)
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
    steps = layer.time_steps

    def of_image(image: jax.Array) -> Winners:
        spikes = layer.last_spikes(image)
        if kept is not None:
            spikes = kernels.feature_inhibition(spikes, ~kept, time_steps=steps)
        return kernels.k_winners(spikes, k=1, radius=0, time_steps=steps)

    return jax.vmap(of_image)(images)


def _class_of(layer: Layer, feature: jax.Array) -> jax.Array:
    """The class that features of a deciding layer stand for, -1 for none."""
    return jnp.where(feature < 0, -1, feature // (layer.conv.features // layer.classes))


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
