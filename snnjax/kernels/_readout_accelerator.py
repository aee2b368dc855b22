"""XLA's implementation of `learn_readout` on an accelerator: many stimuli in few kernels."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from snnjax.core import checks
from snnjax.core.checks import Bounds
from snnjax.kernels._readout_rule import ReadoutRule, StimulusResults
from snnjax.kernels.first_spikes import first_of_classes, of_earliest
from snnjax.kernels.kernel import kernel
from snnjax.kernels.neurons import Spikes
from snnjax.kernels.plasticity import in_dtype_of
from snnjax.kernels.sequences import in_groups
from snnjax.kernels.supervised import balanced, corrected

_AT_ONCE = 4
"""Stimuli of one kernel of `corrected_in_order`: to compile it for an H100 takes a second, with 16 a minute."""
_UNROLLED = 16
"""Stimuli whose thresholds `balanced_in_order` moves at once."""


def learn_on_accelerator(
    rule: ReadoutRule, learned: Any, stimuli: Any, *, update_batch: int
) -> tuple[Any, StimulusResults]:
    """As `learn_on_cpu`, but in few kernels, whatever rows these touch, as an accelerator needs it.

    The first spikes of classes, and thresholds, which learning does not need, are computed after all stimuli.
    """
    # Compiled for an H100, NCG launches 139 kernels for a batch of 64 stimuli this way, instead of 22 for each stimulus
    # if they are learned one at a time.
    learn_group = functools.partial(_learn_group, rule)
    learned, (spikes, neuron, time, error, after) = _in_packed_groups(learn_group, learned, stimuli, update_batch)
    classes = rule.settings.classes
    per_class = len(rule.threshold) // classes
    thresholds = (after + rule.threshold[None]).reshape(len(after), classes, per_class)
    thresholds = jnp.take_along_axis(thresholds, stimuli[1][:, None, None], axis=1)[:, 0]
    thresholds = thresholds[:, per_class - rule.competitors :]
    return learned, StimulusResults(first_of_classes(spikes), neuron, time, error, thresholds)


def _learn_group(rule: ReadoutRule, learned: Any, group: Any) -> tuple[Any, Any]:
    """The weights (F, K) and the excess (F,) after B stimuli, whose spikes are computed with those before.

    The results are the spikes (B, classes, M), then (B, n) neurons, times and errors of those that learn, and the
    excess (B, F) after each stimulus.
    """
    weights, excess = learned
    latencies, labels, learns = group
    features = len(rule.threshold)

    def spikes_at(threshold: jax.Array) -> Spikes:
        return jax.vmap(lambda latency: rule.by_class(rule.fire(latency, weights, threshold)))(latencies)

    spikes = spikes_at(rule.threshold)
    training: Any = None
    after = jnp.broadcast_to(excess, (len(labels), features))
    if rule.competitors:
        training = spikes_at(rule.threshold + excess)
        after = _excess_in_order(rule, excess, training, labels, learns)
    learning, error = jax.vmap(rule.errors)(spikes, training, labels)

    def of_all(values: jax.Array) -> jax.Array:
        """From (B, n) to (B, n, M): the neuron that learns for all of its class, or each for itself."""
        return jnp.broadcast_to(values[..., None], (*values.shape, features // values.shape[1]))

    step = of_all(learning.spike)
    place = jnp.arange(features).reshape(1, *step.shape[1:])
    moved = (of_all(learning.neuron) == place) & learns[:, None, None]
    # Behind the barrier they are computed together, by one kernel.
    errors, moved, after = lax.optimization_barrier((of_all(error), moved, after))
    step = step.reshape(after.shape)
    errors = errors.reshape(after.shape)
    moved = moved.reshape(after.shape)
    weights = corrected_in_order(weights, latencies, step, errors, moved, rule.rates, rule.sums, bounds=rule.bounds)
    return (weights, after[-1]), (spikes, learning.neuron, learning.time, error, after)


def _excess_in_order(
    rule: ReadoutRule, excess: jax.Array, training: Spikes, labels: jax.Array, learns: jax.Array
) -> jax.Array:
    """The excess (B, F) after each of B stimuli, given the `Spikes` (B, classes, M) at the training thresholds."""
    classes = rule.settings.classes
    non_targets = rule.settings.non_targets
    assert training.time is not None
    neuron = jnp.broadcast_to(jnp.arange(training.latency.shape[2], dtype=jnp.int32), training.latency.shape)
    time = jnp.where(neuron >= non_targets, training.time, jnp.inf)
    (winner,) = of_earliest(time, training.potential, (neuron - non_targets,))
    competing = (labels[:, None] == jnp.arange(classes)[None]) & learns[:, None]
    by_class = excess.reshape(classes, -1)
    competed = balanced_in_order(by_class[:, non_targets:], competing, winner, rule.threshold_rate)
    unchanged = jnp.broadcast_to(by_class[:, :non_targets], (len(labels), classes, non_targets))
    return jnp.concatenate([unchanged, competed], axis=2).reshape(len(labels), -1)


@kernel()
def corrected_in_order(
    weights: jax.Array,
    latency: jax.Array,
    spike: jax.Array,
    error: jax.Array,
    learns: jax.Array,
    rates: jax.Array,
    sums: jax.Array | None,
    *,
    bounds: Bounds,
) -> jax.Array:
    """Weights (F, K) after the updates of B stimuli in their order: `error_stdp`, then `rescaled` if given sums (F,).

    The neurons do not depend on each other, so that several stimuli make one kernel on an accelerator.

    Args:
      latency: (B, K).
      spike: (B, F), as of `error_stdp`.
      error: (B, F).
      learns: (B, F) bool, the neurons that learn from each stimulus.
    """
    checks.array("weights", weights, "F K", "floats")
    checks.array("learns", learns, "B F", "booleans")

    def one(weights: jax.Array, stimulus: Any) -> tuple[jax.Array, None]:
        latency, spike, error, learns = stimulus
        causal = lax.optimization_barrier(latency[None] <= spike[:, None])  # XLA makes one kernel of the rest only
        rows = corrected(weights, causal, error, rates, bounds)
        rows = rows if sums is None else _rescaled_at_once(rows, sums, bounds)
        return jnp.where(learns[:, None], rows, weights), None

    stimuli = latency, spike, error, learns
    return lax.scan(one, weights, stimuli, unroll=min(len(learns), _AT_ONCE))[0]


def _rescaled_at_once(rows: jax.Array, sums: jax.Array, bounds: Bounds) -> jax.Array:
    """As `rescaled`, but each row is divided by its sum: XLA makes one kernel of it, as of a softmax."""
    lower, upper, sums = in_dtype_of(rows, *bounds, sums)
    total = jnp.maximum(rows.sum(axis=1, keepdims=True), jnp.finfo(rows.dtype).tiny)
    return jnp.clip(rows / total * sums[:, None], lower, upper)


@jax.jit
def balanced_in_order(excess: jax.Array, own: jax.Array, winner: jax.Array, rate: Any) -> jax.Array:
    """The excess of the m competing neurons of each class, (classes, m), after each of B stimuli: (B, classes, m).

    `own` (B, classes) bool are the classes in which neurons compete for a stimulus, `winner` (B, classes) who wins.
    """
    checks.array("excess", excess, "classes m", "floats")
    checks.array("own", own, "B classes", "booleans")

    def one(excess: jax.Array, stimulus: Any) -> tuple[jax.Array, jax.Array]:
        competing, winner = stimulus
        excess = jnp.where(competing[:, None], jax.vmap(balanced, (0, 0, None))(excess, winner, rate), excess)
        return excess, excess

    return lax.scan(one, excess, (own, winner), unroll=min(len(own), _UNROLLED))[1]


def _in_packed_groups(learn_group: Any, learned: Any, stimuli: Any, update_batch: int) -> tuple[Any, Any]:
    """`in_groups`, in which the results of a group travel as one array, which is one kernel on an accelerator."""

    def first_group(values: jax.Array) -> jax.Array:
        return jnp.pad(values, [(0, update_batch), *[(0, 0)] * (values.ndim - 1)])[:update_batch]

    _, results = jax.eval_shape(lambda: learn_group(learned, jax.tree.map(first_group, stimuli)))
    _, unpack = ravel_pytree(jax.tree.map(lambda x: jnp.zeros(x.shape[1:], x.dtype), results))

    def flattened(learned: Any, stimuli: Any) -> tuple[Any, jax.Array]:
        learned, results = learn_group(learned, stimuli)
        return learned, jax.vmap(lambda result: ravel_pytree(result)[0])(results)

    learned, values = in_groups(flattened, learned, stimuli, update_batch)
    return learned, jax.vmap(unpack)(values)
