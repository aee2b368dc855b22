"""Supervised STDP in a fully connected readout, in which the label gives each neuron a time at which to fire.

These are the equations for one stimulus. All neurons see all inputs: latencies are (K,), weights (F, K). Times are
latency / T in [0, 1), and 1 for silent neurons. The neurons form one group of equal size per class.

References:
  Goupy et al. 2024, Paired competing neurons improving STDP supervised local learning in spiking neural networks.
  Goupy et al. 2024, Neuronal competition groups with supervised STDP for spike-based classification.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from snnjax.core import checks, devices
from snnjax.core.checks import Bounds, Number
from snnjax.core.errors import InputError
from snnjax.kernels.first_spikes import earliest, of_earliest, product_of_rows
from snnjax.kernels.kernel import kernel
from snnjax.kernels.neurons import Spikes
from snnjax.kernels.plasticity import in_dtype_of


class LearningNeurons(NamedTuple):
    """The n neurons that learn from one stimulus.

    Attributes:
      neuron: (n,) int32, their features.
      spike: (n,) integers, the time steps at which they fire, T for silent neurons.
      time: (n,) float32, the times at which they fire, 1 for silent neurons.
      target: (n,) bool, whether each is a target neuron of the label's class.
    """

    neuron: jax.Array
    spike: jax.Array
    time: jax.Array
    target: jax.Array


def learning_neurons(
    spikes: Spikes, training: Spikes | None, label: jax.Array, *, non_targets: int, competition: bool
) -> LearningNeurons:
    """The neurons that learn from a stimulus of class `label`, given `Spikes` of (classes, M).

    With `competition`, only the earliest neuron of each class learns, and otherwise all neurons do. The first
    `non_targets` neurons of each class are not target neurons. `training` holds the spikes at the training thresholds,
    of (classes or 1, M); only the spikes of the target neurons of the label's class matter.
    """
    neuron = jnp.arange(spikes.latency.size, dtype=jnp.int32).reshape(spikes.latency.shape)
    place = jnp.arange(neuron.shape[1])[None] >= non_targets
    target = (jnp.arange(neuron.shape[0])[:, None] == label) & place
    if training is not None:
        spikes = jax.tree.map(lambda usual, trained: jnp.where(target, trained, usual), spikes, training)
    assert spikes.time is not None
    fields = LearningNeurons(neuron, spikes.latency, spikes.time, target)
    if not competition:
        return jax.tree.map(jnp.ravel, fields)
    return LearningNeurons(*of_earliest(spikes.time, spikes.potential, fields))


@kernel("per_class", "one_sided")
def desired_times(
    time: jax.Array, target: jax.Array, *, gap: Number, per_class: int, one_sided: bool = False
) -> jax.Array:
    """The desired times (n,) of the n neurons that learn from a stimulus, given their actual times (n,).

    In each class n_t = `per_class` neurons learn. The reference is the mean time of the neurons that fire, at most
    1 - gap n_t/n. The target neurons of the label's class, `target` (n,) bool, should fire earlier than it by
    gap (n - n_t)/n, and all other neurons later by gap n_t/n (S2-STDP). With `one_sided`, target neurons that fire even
    earlier and other neurons that fire even later should keep their times (SSTDP).
    """
    checks.array("time", time, "n", "floats")
    checks.array("target", target, "n", "booleans")
    checks.shape("target", target, time.shape, "`time`")
    checks.integer("per_class", per_class, 1)
    if per_class > len(time):
        raise InputError(f"`per_class` must be at most {len(time)}, the neurons of `time`, got {per_class}")
    count = time.shape[0]
    fired = time < 1
    mean = jnp.sum(jnp.where(fired, time, 0)) / jnp.maximum(jnp.sum(fired), 1)
    # The late neurons should fire at `base + gap * per_class / count`, which must not lie beyond the end of the image.
    latest = 1 - gap * per_class / count
    base = jnp.where(jnp.any(fired), jnp.minimum(mean, latest), latest)
    early = base - gap * (count - per_class) / count
    late = base + gap * per_class / count
    if one_sided:
        early = jnp.minimum(time, early)
        late = jnp.maximum(time, late)
    return jnp.where(target, early, late).astype(jnp.float32)


@kernel()
def error_stdp(
    rows: jax.Array, latency: jax.Array, spike: jax.Array, error: jax.Array, rates: jax.Array, *, bounds: Bounds
) -> jax.Array:
    """STDP in proportion to the error e of a spike time: w += e a+ for inputs up to the spike, and w += e a- after it.

    Maps weights (n, K) to new weights (n, K), which are clipped to the bounds. The n neurons fire at the time steps
    `spike`, (n,), with T for silent neurons; `error`, (n,), is their actual time minus their desired time, and `rates`,
    (2,), are (a+, a-). All inputs of a silent neuron count as inputs up to the spike.
    """
    checks.array("rows", rows, "n K", "floats")
    checks.latency("latency", latency, "K")
    checks.latency("spike", spike, "n")
    checks.array("error", error, "n", "floats")
    checks.shape("rows", rows, (*spike.shape, *latency.shape), "`spike` and `latency`")
    checks.shape("error", error, spike.shape, "`spike`")
    checks.rates(rates)
    return corrected(rows, latency[None] <= spike[:, None], error, rates, bounds)


def corrected(rows: jax.Array, causal: jax.Array, error: jax.Array, rates: jax.Array, bounds: Bounds) -> jax.Array:
    """`error_stdp`, given by `causal`, (n, K) bool, which inputs fire up to the spike of each neuron."""
    lower, upper, rates, error = in_dtype_of(rows, *bounds, rates, error)
    change = jnp.where(causal, (error * rates[0])[:, None], (error * rates[1])[:, None])
    return jnp.clip(rows + change, lower, upper)


@kernel()
def rescaled(rows: jax.Array, sums: jax.Array, *, bounds: Bounds) -> jax.Array:
    """Weights (n, K) rescaled to the sums (n,), then clipped to the bounds again; a row of zeros stays as it is."""
    checks.array("rows", rows, "n K", "floats")
    checks.array("sums", sums, "n", "floats")
    checks.shape("sums", sums, rows.shape[:1], "`rows`")
    lower, upper, sums = in_dtype_of(rows, *bounds, sums)
    total = product_of_rows(rows, jnp.ones_like(rows, shape=(1, rows.shape[1])))[:, 0]  # faster on a CPU than a sum
    return jnp.clip(rows * jnp.where(total > 0, sums / total, 1)[:, None], lower, upper)


def count_competitors(features: int, classes: int, *, non_targets: int, competition: bool) -> int:
    """m, the number of neurons of a class that have training thresholds; 0 if these would have no effect."""
    count = features // classes - non_targets
    return count if competition and count > 1 else 0


def targets_of(values: jax.Array, label: jax.Array, classes: int, count: int) -> jax.Array:
    """The entries (count, ...) of values (F, ...) for the last `count` neurons of the label's class."""
    return lax.dynamic_slice_in_dim(values, _first_target(values, label, classes, count), count)


def _first_target(values: jax.Array, label: jax.Array, classes: int, count: int) -> jax.Array:
    return (label + 1) * (len(values) // classes) - count


def with_non_targets(training: Any, non_targets: int) -> Any:
    """The spikes (m,) of the target neurons of a class as (1, M), padded with zeros for its non-target neurons."""
    return jax.tree.map(lambda x: jnp.pad(x[None], ((0, 0), (non_targets, 0))), training)


@kernel()
def balanced(excess: jax.Array, winner: jax.Array, rate: Any) -> jax.Array:
    """The new `excess`, (m,), of m competing neurons after one of them, `winner`, has won.

    The excess of a neuron is its training threshold minus its threshold. The winner's excess rises by rate (m - 1)/m;
    that of each other neuron falls by rate/m, but not below 0 (NCG).
    """
    checks.array("excess", excess, "m", "floats")
    checks.array("winner", winner, "", "integers")
    count = excess.shape[0]
    won = lax.broadcasted_iota(jnp.int32, (count,), 0) == winner
    return jnp.maximum(excess + rate * jnp.where(won, (count - 1) / count, -1 / count), 0).astype(jnp.float32)


def balanced_class(excess: jax.Array, training: Spikes, label: jax.Array, rate: Any, *, classes: int) -> jax.Array:
    """The excess (F,) after the last m neurons of the label's class have competed, updated by `balanced`.

    `training` holds the `Spikes`, of (m,), of these neurons at their training thresholds.
    """
    assert training.time is not None
    count = len(training.time)
    won = earliest(training.time, training.potential)
    moved = balanced(targets_of(excess, label, classes, count), won, rate)
    return lax.dynamic_update_slice_in_dim(excess, moved, _first_target(excess, label, classes, count), 0)


def learn_one(
    learned: tuple[jax.Array, jax.Array],
    latency: jax.Array,
    label: jax.Array,
    learns: jax.Array,
    training: Spikes | None,
    learning: LearningNeurons,
    error: jax.Array,
    *,
    rates: jax.Array,
    bounds: Bounds,
    sums: jax.Array | None,
    threshold_rate: Any,
    classes: int,
) -> tuple[jax.Array, jax.Array]:
    """The weights (F, K) and the excess (F,) after one stimulus of class `label`; they are unchanged unless `learns`.

    The neurons `learning` learn from their errors (n,). The target neurons of the class compete if `training`, their
    spikes of (m,) at their training thresholds, is given.
    """
    weights, excess = learned
    rows = devices.map_each(lambda neuron: weights[neuron], learning.neuron)  # faster on a CPU than one index for all
    rows = error_stdp(rows, latency, learning.spike, error, rates, bounds=bounds)
    if sums is not None:
        rows = rescaled(rows, sums[learning.neuron], bounds=bounds)
    # If nothing is learned, the rows go to an index beyond the last one, which JAX drops. Selecting between the old and
    # the new weights instead would read all weights for each stimulus.
    places = jnp.where(learns, learning.neuron, len(weights))
    weights = weights.at[places].set(rows, mode="drop", unique_indices=True)
    if training is not None:
        after = balanced_class(excess, training, label, threshold_rate, classes=classes)
        excess = jnp.where(learns, after, excess)
    return weights, excess
