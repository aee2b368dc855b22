"""XLA's implementation of `learn_readout`, which on a CPU learns from one stimulus after the other."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from snnjax.core.sharding import vary_like
from snnjax.kernels._readout_accelerator import learn_on_accelerator
from snnjax.kernels._readout_rule import ReadoutInputs, ReadoutRule, ReadoutSettings, StimulusResults
from snnjax.kernels.first_spikes import first_of_classes
from snnjax.kernels.neurons import Spikes
from snnjax.kernels.sequences import in_groups
from snnjax.kernels.supervised import learn_one, with_non_targets


def learn_by_xla(settings: ReadoutSettings, *arrays: jax.Array, update_batch: int) -> tuple[jax.Array, ...]:
    """The results of `learn_readout` in the order of C++, given the arrays of `ReadoutInputs`."""
    inputs = ReadoutInputs(*arrays)
    weights = inputs.weights
    latencies = inputs.latencies
    shown = inputs.shown
    rule = ReadoutRule.of(settings, inputs)
    flat = latencies.reshape(len(latencies), math.prod(latencies.shape[1:]))
    learns = shown & (inputs.labels >= 0) & jnp.any(flat < settings.time_steps, axis=1)
    begin = weights.reshape(len(weights), -1), inputs.excess
    (rows, excess), results = lax.platform_dependent(
        rule,
        vary_like(begin, (latencies, inputs.labels, shown), rule),
        (flat, jnp.maximum(inputs.labels, 0), learns),
        cpu=functools.partial(learn_on_cpu, update_batch=update_batch),
        default=functools.partial(learn_on_accelerator, update_batch=update_batch),
    )
    spikes = results.spikes
    return (
        rows.reshape(weights.shape),
        excess,
        jnp.where(shown[:, None], spikes.latency, jnp.asarray(settings.time_steps, spikes.latency.dtype)),
        jnp.where(shown[:, None], spikes.potential, 0),
        jnp.where(shown[:, None], spikes.time, 1),
        jnp.where(learns[:, None], results.neuron, -1),
        jnp.where(learns[:, None], results.time, 0),
        jnp.where(learns[:, None], results.error, 0),
        jnp.where(learns, inputs.labels, -1),
        jnp.where(learns[:, None], results.threshold, 0).astype(jnp.float32),
    )


def learn_on_cpu(rule: ReadoutRule, learned: Any, stimuli: Any, *, update_batch: int) -> tuple[Any, StimulusResults]:
    """The definition of `learn_readout`, which only touches the weights of neurons that learn, as a CPU needs it.

    `learned` are the weights (F, K) and the excess (F,), of which it returns new ones; `stimuli` are latencies (S, K),
    labels (S,), none below 0, and whether each is learned, (S,) bool.
    """

    def respond(learned: Any, latency: jax.Array, label: jax.Array) -> tuple[Spikes, Spikes | None]:
        """All neurons at their thresholds, and those that compete at their training thresholds."""
        weights, excess = learned
        spikes = rule.fire(latency, weights, rule.threshold)
        if not rule.competitors:
            return spikes, None
        raised = rule.targets_of(rule.threshold + excess, label)
        return spikes, rule.fire(latency, rule.targets_of(weights, label), raised)

    def learn(learned: Any, stimulus: Any) -> tuple[Any, StimulusResults]:
        latency, label, learns, (spikes, training) = stimulus
        spikes = rule.by_class(spikes)
        learning, error = rule.errors(spikes, with_non_targets(training, rule.settings.non_targets), label)
        weights, excess = learn_one(
            learned,
            latency,
            label,
            learns,
            training,
            learning,
            error,
            rates=rule.rates,
            bounds=rule.bounds,
            sums=rule.sums,
            threshold_rate=rule.threshold_rate,
            classes=rule.settings.classes,
        )
        threshold = rule.targets_of(rule.threshold + excess, label)
        results = StimulusResults(first_of_classes(spikes), learning.neuron, learning.time, error, threshold)
        return (weights, excess), results

    def learn_group(learned: Any, group: Any) -> tuple[Any, StimulusResults]:
        latencies, labels, learns = group
        responses = lax.map(lambda stimulus: respond(learned, *stimulus), (latencies, labels))
        return lax.scan(learn, learned, (latencies, labels, learns, responses))

    return in_groups(learn_group, learned, stimuli, update_batch)
