"""Steps of batches on an accelerator, where launching kernels takes most of the time.

The winners of a batch depend on the weights at its start alone, so that all updates are known before the first is made.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from snnjax import kernels
from snnjax.kernels import Winners, plasticity
from snnjax.kernels.neurons import at_last_step
from snnjax.layers.spiking import Layer
from snnjax.networks import Model
from snnjax.networks.decision import majority
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
