"""Supervised STDP of fully connected readouts, in which the label gives each neuron a time at which to fire.

All neurons see all inputs: latencies (K,), weights (F, K). Times are latency / T in [0, 1), 1 where silent; neurons
come in groups of equal size, one for each class.

References:
  Goupy et al. 2024, Paired competing neurons improving STDP supervised local learning in spiking neural networks.
  Goupy et al. 2024, Neuronal competition groups with supervised STDP for spike-based classification.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from snnjax.core import checks, devices
from snnjax.core.checks import Bounds, Number
from snnjax.core.components import static
from snnjax.core.errors import InputError, wrong_type
from snnjax.core.sharding import vary_like
from snnjax.kernels.kernel import byte_array, dispatch, float_array, int_array, kernel, native_call, supports_native
from snnjax.kernels.neurons import Spikes, spike_times
from snnjax.kernels.plasticity import in_dtype_of
from snnjax.kernels.sequences import check_classes, check_labels, check_sequence, in_groups
from snnjax.kernels.spikes import latency_dtype, to_unsigned


class LearningNeurons(NamedTuple):
    """The neurons that learn from one stimulus, n in all.

    Attributes:
      neuron: (n,) int32, their features.
      spike: (n,) time steps, T where silent.
      time: (n,) float32.
      target: (n,) bool, whether each is a target neuron of the label's class.
    """

    neuron: jax.Array
    spike: jax.Array
    time: jax.Array
    target: jax.Array


class LearnedReadout(NamedTuple):
    """The result of `learn_readout` from S stimuli, from each of which n neurons learn.

    n is the number of classes with `competition`, and F without. Each class has m training thresholds: as many as it
    has target neurons if these are several and compete, and otherwise 0.

    Attributes:
      weights: (F, C, H, W), after the last stimulus.
      excess: (F,) float32, after the last stimulus.
      spikes: `Spikes` of (S, classes) with times, of the earliest neuron of each class, as by `earliest_of_classes`; of
        stimuli that are left out, latencies are T, potentials 0 and times 1.
      neuron: (S, n) int32, the neurons that learned, -1 where nothing was learned.
      time: (S, n) float32, their times; 0 where nothing was learned.
      error: (S, n) float32, their actual minus their desired times; 0 where nothing was learned.
      label: (S,) int32, the label, -1 where nothing was learned.
      threshold: (S, m) float32, the training thresholds of the label's class after the stimulus; 0 where nothing was
        learned.
    """

    weights: jax.Array
    excess: jax.Array
    spikes: Spikes
    neuron: jax.Array
    time: jax.Array
    error: jax.Array
    label: jax.Array
    threshold: jax.Array


@kernel("time_steps", "fractional")
def search_spikes(
    latency: jax.Array, weights: jax.Array, *, threshold: Number, time_steps: int, fractional: bool = False
) -> Spikes:
    """`timed_spikes` of (K,) latencies and weights (F, K) >= 0: `Spikes` of (F,), found in two products instead of T.

    With such weights potentials never fall. One product gives the potentials after each of about sqrt(T) intervals of
    steps, the other the potentials after each step of the interval in which the neuron crosses its threshold.
    """
    _check(latency, weights, threshold, time_steps)
    size = math.isqrt(time_steps - 1) + 1  # steps in an interval, and intervals
    limits = jnp.broadcast_to(jnp.asarray(threshold, weights.dtype), len(weights))[:, None]
    spiked = latency < time_steps
    places = jnp.arange(size, dtype=latency.dtype)[:, None]
    interval = latency // size
    offsets = latency % size
    ends = _product(weights, (interval[None] <= places) & spiked[None])  # [F, intervals]
    passed = jnp.sum(~(ends > limits), axis=1)  # intervals
    fires = passed < size
    crossed = jnp.minimum(passed, size - 1)
    before = jnp.where(passed > 0, _taken(ends, jnp.maximum(passed - 1, 0)), 0)
    inside = (interval[None] == crossed[:, None].astype(latency.dtype)) & spiked[None]
    steps = before[:, None] + _product(jnp.where(inside, weights, 0), offsets[None] <= places)
    offset = jnp.minimum(jnp.sum(~(steps > limits), axis=1), size - 1)
    now = _taken(steps, offset)
    step = jnp.minimum(crossed * size + offset, time_steps - 1)
    before = jnp.where(offset > 0, _taken(steps, jnp.maximum(offset - 1, 0)), before)
    time = spike_times(step, fires, before, now, limits[:, 0], time_steps=time_steps, fractional=fractional)
    spike = jnp.where(fires, step, time_steps).astype(latency_dtype(time_steps))
    return Spikes(spike, jnp.where(fires, now, ends[:, -1]), jnp.where(fires, time, 1))


def _check(latency: jax.Array, weights: jax.Array, threshold: Number, time_steps: int) -> None:
    checks.latency("latency", latency, "K", time_steps=checks.time_steps(time_steps))
    checks.array("weights", weights, "F K", "floats")
    checks.shape("weights", weights, (len(weights), *latency.shape), "`latency`")
    if threshold is None:
        raise wrong_type("threshold", "a number or an array (F,)", None)
    checks.threshold(threshold, len(weights))


def _product(weights: jax.Array, spiked: jax.Array) -> jax.Array:
    """Weights (F, K) and spikes (n, K) to (F, n): both with K last, which takes three quarters of the time on a CPU."""
    sides = (((1,), (1,)), ((), ()))
    return lax.dot_general(weights, spiked.astype(weights.dtype), sides, precision=lax.Precision.HIGHEST)


def _taken(values: jax.Array, index: jax.Array) -> jax.Array:
    return jnp.take_along_axis(values, index[:, None], axis=1)[:, 0]


@kernel()
def earliest(time: jax.Array, potential: jax.Array) -> jax.Array:
    """The earliest neuron along the last axis, int32: at equal times the strongest, then that of the lowest index."""
    checks.array("time", time, None, "floats")
    checks.array("potential", potential, None, "floats")
    checks.shape("potential", potential, time.shape, "`time`")
    first = time.min(axis=-1, keepdims=True)
    return jnp.argmax(jnp.where(time == first, potential, -jnp.inf), axis=-1).astype(jnp.int32)


@jax.jit
def of_earliest(time: jax.Array, potential: jax.Array, values: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """Values of the `earliest` neuron along the last axis, each given in the shape of `time`."""
    first = earliest(time, potential)[..., None]
    return tuple(jnp.take_along_axis(x, first, axis=-1)[..., 0] for x in values)


def learning_neurons(
    spikes: Spikes, training: Spikes | None, label: jax.Array, *, non_targets: int, competition: bool
) -> LearningNeurons:
    """The neurons that learn from a stimulus of class `label`, given `Spikes` of (classes, M): all of them.

    With `competition`, only the earliest neuron of each class does. The first `non_targets` neurons of each class are
    not target neurons. `training` are the spikes at the training thresholds, of (classes or 1, M); only those of the
    label's target neurons matter.
    """
    assert spikes.time is not None
    neuron = jnp.arange(spikes.time.size, dtype=jnp.int32).reshape(spikes.time.shape)
    place = jnp.arange(neuron.shape[1])[None] >= non_targets
    target = (jnp.arange(neuron.shape[0])[:, None] == label) & place
    if training is not None:
        spikes = jax.tree.map(lambda usual, trained: jnp.where(target, trained, usual), spikes, training)
    fields: Any = neuron, spikes.latency, spikes.time, target
    if not competition:
        return LearningNeurons(*map(jnp.ravel, fields))
    return LearningNeurons(*of_earliest(spikes.time, spikes.potential, fields))


@kernel("per_class", "one_sided")
def desired_times(
    time: jax.Array, target: jax.Array, *, gap: Number, per_class: int, one_sided: bool = False
) -> jax.Array:
    """The times (n,) at which the n neurons that learn from an image should fire, given their times (n,).

    Of each class n_t = `per_class` neurons learn. From the mean time of those that fire, at most 1 - gap n_t/n, the
    target neurons of the label's class, `target` (n,) bool, are to fire earlier by gap (n - n_t)/n, all others later by
    gap n_t/n (S2-STDP). `one_sided`: earlier target neurons and later others are left alone (SSTDP).
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
    # The late neurons are to fire at `base + gap * per_class / count`, which must not lie beyond the end of the image.
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
    """STDP in proportion to the error e of a spike's time: w += e a+ for inputs up to the spike, e a- for the others.

    From weights (n, K) of n neurons that fire at the steps `spike` (n,), T where silent, with errors (n,), actual minus
    desired time, and rates (2,) (a+, a-), to new weights (n, K), clipped to the bounds. To silent neurons all inputs
    are up to the spike.
    """
    checks.array("rows", rows, "n K", "floats")
    checks.latency("latency", latency, "K")
    checks.latency("spike", spike, "n")
    checks.array("error", error, "n", "floats")
    checks.shape("rows", rows, (*spike.shape, *latency.shape), "`spike` and `latency`")
    checks.shape("error", error, spike.shape, "`spike`")
    checks.rates(rates)
    return _corrected(rows, latency[None] <= spike[:, None], error, rates, bounds)


def _corrected(rows: jax.Array, causal: jax.Array, error: jax.Array, rates: jax.Array, bounds: Bounds) -> jax.Array:
    lower, upper, rates, error = in_dtype_of(rows, *bounds, rates, error)
    change = jnp.where(causal, (error * rates[0])[:, None], (error * rates[1])[:, None])
    return jnp.clip(rows + change, lower, upper)


@kernel()
def rescaled(rows: jax.Array, sums: jax.Array, *, bounds: Bounds) -> jax.Array:
    """Weights (n, K) rescaled to the sums (n,), then clipped to the bounds once more; rows of zeros remain."""
    checks.array("rows", rows, "n K", "floats")
    checks.array("sums", sums, "n", "floats")
    checks.shape("sums", sums, rows.shape[:1], "`rows`")
    lower, upper, sums = in_dtype_of(rows, *bounds, sums)
    total = _product(rows, jnp.ones_like(rows, shape=(1, rows.shape[1])))[:, 0]  # on a CPU faster than a sum
    return jnp.clip(rows * jnp.where(total > 0, sums / total, 1)[:, None], lower, upper)


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
        rows = _corrected(weights, causal, error, rates, bounds)
        rows = rows if sums is None else _rescaled_at_once(rows, sums, bounds)
        return jnp.where(learns[:, None], rows, weights), None

    stimuli = latency, spike, error, learns
    return lax.scan(one, weights, stimuli, unroll=min(len(learns), _AT_ONCE))[0]


_AT_ONCE = 4
"""Stimuli of one kernel of `corrected_in_order`: to compile it for an H100 takes a second, with 16 a minute."""
_UNROLLED = 16
"""Stimuli whose thresholds `balanced_in_order` moves at once."""


def _rescaled_at_once(rows: jax.Array, sums: jax.Array, bounds: Bounds) -> jax.Array:
    """As `rescaled`, but each row is divided by its sum: XLA makes one kernel of it, as of a softmax."""
    lower, upper, sums = in_dtype_of(rows, *bounds, sums)
    total = jnp.maximum(rows.sum(axis=1, keepdims=True), jnp.finfo(rows.dtype).tiny)
    return jnp.clip(rows / total * sums[:, None], lower, upper)


@kernel()
def balanced(excess: jax.Array, winner: jax.Array, rate: Any) -> jax.Array:
    """The excess of the training thresholds of m competing neurons over their thresholds, (m,), after one has won.

    The winner's rises by rate (m - 1)/m, those of the others fall by rate/m, down to 0 (NCG).
    """
    checks.array("excess", excess, "m", "floats")
    checks.array("winner", winner, "", "integers")
    count = excess.shape[0]
    won = lax.broadcasted_iota(jnp.int32, (count,), 0) == winner
    return jnp.maximum(excess + rate * jnp.where(won, (count - 1) / count, -1 / count), 0).astype(jnp.float32)


def targets_of(values: jax.Array, label: jax.Array, classes: int, count: int) -> jax.Array:
    """The part (count, ...) of values (F, ...) that belongs to the last `count` neurons of a class."""
    return lax.dynamic_slice_in_dim(values, _first_target(values, label, classes, count), count)


def _first_target(values: jax.Array, label: jax.Array, classes: int, count: int) -> jax.Array:
    return (label + 1) * (len(values) // classes) - count


def balanced_class(excess: jax.Array, training: Spikes, label: jax.Array, rate: Any, *, classes: int) -> jax.Array:
    """The excess (F,) after the last m neurons of the label's class have competed, which is then `balanced`.

    `training` holds their `Spikes`, of (m,), at their training thresholds.
    """
    assert training.time is not None
    count = len(training.time)
    won = earliest(training.time, training.potential)
    moved = balanced(targets_of(excess, label, classes, count), won, rate)
    return lax.dynamic_update_slice_in_dim(excess, moved, _first_target(excess, label, classes, count), 0)


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


def count_competitors(features: int, classes: int, *, non_targets: int, competition: bool) -> int:
    """m, the neurons of a class that have training thresholds; 0 where these would have no effect."""
    count = features // classes - non_targets
    return count if competition and count > 1 else 0


def first_of_classes(spikes: Spikes) -> Spikes:
    """The `earliest` neuron along the last axis of `Spikes` with times."""
    assert spikes.time is not None
    return Spikes(*of_earliest(spikes.time, spikes.potential, (spikes.latency, spikes.potential, spikes.time)))


def with_non_targets(training: Any, non_targets: int) -> Any:
    """Spikes (m,) of the target neurons of a class as (1, M), in which those of its non-target neurons are 0."""
    return jax.tree.map(lambda x: jnp.pad(x[None], ((0, 0), (non_targets, 0))), training)


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
    """The weights (F, K) and the excess (F,) after one stimulus of class `label`, if it `learns`, () bool.

    The neurons `learning` have learned from their errors (n,), and the target neurons of the class have competed if
    there are `training` spikes of theirs, of (m,).
    """
    weights, excess = learned
    rows = devices.map_each(lambda neuron: weights[neuron], learning.neuron)  # on a CPU faster than one index for all
    rows = error_stdp(rows, latency, learning.spike, error, rates, bounds=bounds)
    if sums is not None:
        rows = rescaled(rows, sums[learning.neuron], bounds=bounds)
    # Where nothing is learned, the rows go to an index beyond the last, which JAX drops. Selecting between the old and
    # the new weights instead would go through all of them for each stimulus.
    places = jnp.where(learns, learning.neuron, len(weights))
    weights = weights.at[places].set(rows, mode="drop", unique_indices=True)
    if training is not None:
        after = balanced_class(excess, training, label, threshold_rate, classes=classes)
        excess = jnp.where(learns, after, excess)
    return weights, excess


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ReadoutRule:
    """The settings of `learn_readout`, by the same names.

    Attributes:
      rates: (2,) float.
      threshold: (F,) float.
      gap, threshold_rate: () float.
      bounds: two () floats.
      sums: (F,) float, or None.
      classes, time_steps, non_targets, competition, one_sided, fractional: plain numbers, True or False.
    """

    rates: jax.Array
    threshold: jax.Array
    gap: jax.Array
    threshold_rate: jax.Array
    bounds: Bounds
    sums: jax.Array | None
    classes: int = static()
    time_steps: int = static()
    non_targets: int = static()
    competition: bool = static()
    one_sided: bool = static()
    fractional: bool = static()

    @property
    def competitors(self) -> int:
        """The neurons of a class that have training thresholds."""
        how: Any = dict(non_targets=self.non_targets, competition=self.competition)
        return count_competitors(len(self.threshold), self.classes, **how)

    def fire(self, latency: jax.Array, weights: jax.Array, threshold: jax.Array) -> Spikes:
        how: Any = dict(time_steps=self.time_steps, fractional=self.fractional)
        return search_spikes(latency, weights, threshold=threshold, **how)

    def targets_of(self, values: jax.Array, label: jax.Array) -> jax.Array:
        """The part of values (F, ...) that belongs to the competing neurons of a class."""
        return targets_of(values, label, self.classes, self.competitors)

    def by_class(self, spikes: Spikes) -> Spikes:
        """Spikes of (F,) as (classes, M)."""
        return jax.tree.map(lambda x: x.reshape(self.classes, -1), spikes)

    def errors(self, spikes: Spikes, training: Any, label: jax.Array) -> tuple[LearningNeurons, jax.Array]:
        """The neurons that learn from a stimulus, and their actual minus their desired times."""
        how: Any = dict(non_targets=self.non_targets, competition=self.competition)
        learning = learning_neurons(spikes, training, label, **how)
        wanted: Any = dict(per_class=len(learning.neuron) // self.classes, one_sided=self.one_sided)
        return learning, learning.time - desired_times(learning.time, learning.target, gap=self.gap, **wanted)


def learn_in_order(rule: ReadoutRule, learned: Any, stimuli: Any, *, batch: int) -> tuple[Any, Any]:
    """The definition of `learn_readout`, which only touches the weights of neurons that learn, as a CPU needs it.

    `learned` are the weights (F, K) and the excess (F,), of which it returns new ones; `stimuli` are latencies (S, K),
    labels (S,), none below 0, and whether each is learned, (S,) bool. The results for each stimulus are the fields of
    `LearnedReadout` but for `label`, whether it is learned or not.
    """
    how: Any = dict(rates=rule.rates, bounds=rule.bounds, sums=rule.sums)
    how |= dict(threshold_rate=rule.threshold_rate, classes=rule.classes)

    def respond(learned: Any, latency: jax.Array, label: jax.Array) -> tuple[Spikes, Spikes | None]:
        """All neurons at their thresholds, and those that compete at their training thresholds."""
        weights, excess = learned
        spikes = rule.fire(latency, weights, rule.threshold)
        if not rule.competitors:
            return spikes, None
        raised = rule.targets_of(rule.threshold + excess, label)
        return spikes, rule.fire(latency, rule.targets_of(weights, label), raised)

    def learn(learned: Any, stimulus: Any) -> tuple[Any, Any]:
        latency, label, learns, (spikes, training) = stimulus
        spikes = rule.by_class(spikes)
        learning, error = rule.errors(spikes, with_non_targets(training, rule.non_targets), label)
        weights, excess = learn_one(learned, latency, label, learns, training, learning, error, **how)
        thresholds = rule.targets_of(rule.threshold + excess, label)
        return (weights, excess), (first_of_classes(spikes), learning.neuron, learning.time, error, thresholds)

    def learn_group(learned: Any, group: Any) -> tuple[Any, Any]:
        latencies, labels, learns = group
        responses = lax.map(lambda stimulus: respond(learned, *stimulus), (latencies, labels))
        return lax.scan(learn, learned, (latencies, labels, learns, responses))

    return in_groups(learn_group, learned, stimuli, batch)


def learn_at_once(rule: ReadoutRule, learned: Any, stimuli: Any, *, batch: int) -> tuple[Any, Any]:
    """As `learn_in_order`, but in few kernels, whatever rows these touch, as an accelerator needs it.

    The first spikes of classes, and thresholds, which learning does not need, are computed after all stimuli.
    """
    # Compiled for an H100, NCG launches 139 kernels for a batch of 64 stimuli this way, instead of 22 for each stimulus
    # if they are learned one at a time.
    classes = rule.classes
    features = len(rule.threshold)
    per_class = features // classes
    non_targets = rule.non_targets

    def learn_group(learned: Any, group: Any) -> tuple[Any, Any]:
        weights, excess = learned
        latencies, labels, learns = group

        def spikes_at(threshold: jax.Array) -> Any:
            return jax.vmap(lambda latency: rule.by_class(rule.fire(latency, weights, threshold)))(latencies)

        spikes = spikes_at(rule.threshold)
        training: Any = None
        after = jnp.broadcast_to(excess, (batch, features))
        if rule.competitors:
            training = spikes_at(rule.threshold + excess)
            neuron = jnp.broadcast_to(jnp.arange(per_class, dtype=jnp.int32), training.latency.shape)
            time = jnp.where(neuron >= non_targets, training.time, jnp.inf)
            (winner,) = of_earliest(time, training.potential, (neuron - non_targets,))
            competing = (labels[:, None] == jnp.arange(classes)[None]) & learns[:, None]
            others, before = jnp.split(excess.reshape(classes, -1), [non_targets], axis=1)
            competed = balanced_in_order(before, competing, winner, rule.threshold_rate)
            others = jnp.broadcast_to(others, (batch, *others.shape))
            after = jnp.concatenate([others, competed], axis=2).reshape(batch, -1)
        learning, error = jax.vmap(rule.errors)(spikes, training, labels)

        def of_all(values: jax.Array) -> jax.Array:
            """From (B, n) to (B, n, M): the neuron that learns for all of its class, or each for itself."""
            return jnp.broadcast_to(values[..., None], (*values.shape, features // values.shape[1]))

        step = of_all(learning.spike)
        place = jnp.arange(features).reshape(1, *step.shape[1:])
        moved = (of_all(learning.neuron) == place) & learns[:, None, None]
        errors, moved, after = lax.optimization_barrier((of_all(error), moved, after))  # together they are one kernel
        step, errors, moved = (x.reshape(batch, -1) for x in (step, errors, moved))
        how = rule.rates, rule.sums
        weights = corrected_in_order(weights, latencies, step, errors, moved, *how, bounds=rule.bounds)
        return (weights, after[-1]), (spikes, learning.neuron, learning.time, error, after)

    learned, (spikes, neuron, time, error, after) = _in_packed_groups(learn_group, learned, stimuli, batch)

    thresholds = (after + rule.threshold[None]).reshape(len(after), classes, per_class)
    thresholds = jnp.take_along_axis(thresholds, stimuli[1][:, None, None], axis=1)[:, 0]
    return learned, (first_of_classes(spikes), neuron, time, error, thresholds[:, per_class - rule.competitors :])


def _in_packed_groups(learn_group: Any, learned: Any, stimuli: Any, batch: int) -> tuple[Any, Any]:
    """`in_groups`, in which the results of a group travel as one array, which is one kernel on an accelerator."""

    def first_group(values: jax.Array) -> jax.Array:
        return jnp.pad(values, [(0, batch), *[(0, 0)] * (values.ndim - 1)])[:batch]

    _, results = jax.eval_shape(lambda: learn_group(learned, jax.tree.map(first_group, stimuli)))
    _, unpack = ravel_pytree(jax.tree.map(lambda x: jnp.zeros(x.shape[1:], x.dtype), results))

    def flattened(learned: Any, stimuli: Any) -> tuple[Any, jax.Array]:
        learned, results = learn_group(learned, stimuli)
        return learned, jax.vmap(lambda result: ravel_pytree(result)[0])(results)

    learned, values = in_groups(flattened, learned, stimuli, batch)
    return learned, jax.vmap(unpack)(values)


def _check_readout(
    weights: Any,
    excess: Any,
    latencies: Any,
    labels: Any,
    rates: Any,
    learns: Any,
    threshold: Any,
    classes: int,
    time_steps: int,
    gap: Any,
    bounds: Any,
    sums: Any,
    threshold_rate: Any,
    non_targets: int,
    competition: bool,
    batch: int,
    **_: Any,
) -> None:
    _check_whole(latencies, weights, learns, threshold, time_steps, batch)
    checks.at_least("threshold", threshold, 0)
    check_labels(labels, latencies, len(weights), classes)
    checks.rates(rates)
    checks.bounds(bounds, least=0)
    checks.real("gap", gap)
    checks.real("threshold_rate", threshold_rate)
    for name, value in (("excess", excess), ("sums", sums)):
        if value is not None:
            checks.array(name, value, "F", "floats")
            checks.shape(name, value, weights.shape[:1], "`weights`")
    checks.integer("non_targets", non_targets, 0, len(weights) // classes - 1)
    if non_targets and not competition:
        raise InputError(f"`non_targets` must be 0 without `competition`, got {non_targets}")


def _check_whole(latencies: Any, weights: Any, learns: Any, threshold: Any, time_steps: int, batch: int) -> None:
    """Raises InputError or InputTypeError unless the weights see whole stimuli, and fit to thresholds."""
    check_sequence(weights, latencies, learns, batch, time_steps=time_steps)
    checks.shape("weights", weights, (len(weights), *latencies.shape[1:]), "`latencies`")
    if threshold is None:
        raise wrong_type("threshold", "a number or an array (F,)", None)
    checks.threshold(threshold, len(weights))


_STATIC = "classes", "time_steps", "non_targets", "competition", "one_sided", "fractional", "batch"


@kernel(*_STATIC, check=_check_readout)
def learn_readout(
    weights: jax.Array,
    excess: jax.Array,
    latencies: jax.Array,
    labels: jax.Array,
    rates: jax.Array,
    learns: jax.Array | None = None,
    *,
    threshold: Number,
    classes: int,
    time_steps: int,
    gap: Number,
    bounds: Bounds = (0.0, 1.0),
    sums: jax.Array | None = None,
    threshold_rate: Number = 0.0,
    non_targets: int = 1,
    competition: bool = True,
    one_sided: bool = False,
    fractional: bool = False,
    batch: int = 1,
) -> LearnedReadout:
    """A readout learns by supervised STDP from stimuli and their labels, in order (Goupy et al. 2024).

    Each of the F neurons sees the whole input. They form as many groups of M = F / classes neurons as there are
    classes, in order; the last M - `non_targets` of a class are its target neurons. For each stimulus:

    1. All neurons fire at their thresholds, as by `timed_spikes`, which a decision can be made from.
    2. The target neurons of the label's class, if they compete and are several, fire at their training thresholds
       instead, threshold + excess. The excess of the earliest of these neurons rises, and that of the rest falls (NCG).
    3. With `competition` the earliest neuron of each class learns, and otherwise all neurons do: by `error_stdp`, with
       the differences between actual times and `desired_times` as errors. Then their weights are rescaled to `sums`.

    Nothing is learned from a stimulus without spikes, nor from one with the label -1. The weights are clipped to the
    bounds before the first stimulus, and whenever they have changed.

    Args:
      weights: (F, C, H, W) float, one neuron per feature.
      excess: (F,) float32, by which training thresholds exceed thresholds; zeros at the beginning.
      latencies: (S, C, H, W) integers in 0..T, the stimuli.
      labels: (S,) integers, the classes, -1 for a stimulus at which neurons only fire.
      rates: (2,) float, (a+, a-) of `error_stdp`.
      learns: (S,) bool, the stimuli to learn from; nothing is computed for all other stimuli. None: all.
      threshold: a number of at least 0, or an array (F,).
      gap: the time between the desired spikes of the label's class and of all other classes, as in `desired_times`.
      bounds: lower and upper bound of a weight, at least 0, so that potentials never fall.
      sums: (F,) float, to which the weights of a neuron are rescaled after each update. None: they are not.
      threshold_rate: how fast training thresholds change.
      non_targets: the number of neurons in each class that learn to fire late for stimuli of their class too, at most
        M - 1: so pass 0 if a class has a single neuron. It must be 0 without `competition`.
      one_sided: as in `desired_times`.
      fractional: as in `timed_spikes`.
      batch: the number of successive stimuli whose spikes are computed with the same weights and thresholds.
        Accelerators need large batches: with 1 they compute one stimulus at a time.
    """
    stimuli = len(latencies)
    features = len(weights)
    learning = classes if competition else features
    competitors = count_competitors(features, classes, non_targets=non_targets, competition=competition)
    results = (
        float_array(weights.shape),
        float_array((features,)),
        byte_array((stimuli, classes)),
        float_array((stimuli, classes)),
        float_array((stimuli, classes)),
        int_array((stimuli, learning)),
        float_array((stimuli, learning)),
        float_array((stimuli, learning)),
        int_array((stimuli,)),
        float_array((stimuli, competitors)),
    )
    run_native = native_call(
        "learn_readout",
        results,
        replaced=2,
        classes=classes,
        non_targets=non_targets,
        competition=bool(competition),
        one_sided=bool(one_sided),
        normalise=sums is not None,
        fractional=bool(fractional),
        steps=int(time_steps),
    )

    def xla(
        weights: jax.Array,
        excess: jax.Array,
        latencies: jax.Array,
        labels: jax.Array,
        shown: jax.Array,
        threshold: jax.Array,
        kept_sums: jax.Array,
        numbers: jax.Array,
    ) -> tuple[jax.Array, ...]:
        _, _, gap, threshold_rate, lower, upper = numbers
        rule = ReadoutRule(
            rates=numbers[:2],
            threshold=threshold,
            gap=gap,
            threshold_rate=threshold_rate,
            bounds=(lower, upper),
            sums=None if sums is None else kept_sums,
            classes=classes,
            time_steps=time_steps,
            non_targets=non_targets,
            competition=competition,
            one_sided=one_sided,
            fractional=fractional,
        )
        inputs = latencies.reshape(stimuli, math.prod(latencies.shape[1:]))
        learns = shown & (labels >= 0) & jnp.any(inputs < time_steps, axis=1)
        begin = vary_like((weights.reshape(features, -1), excess), (latencies, labels, shown), rule)
        (rows, excess), (spikes, neuron, time, error, thresholds) = lax.platform_dependent(
            rule,
            begin,
            (inputs, jnp.maximum(labels, 0), learns),
            cpu=functools.partial(learn_in_order, batch=batch),
            default=functools.partial(learn_at_once, batch=batch),
        )
        return (
            rows.reshape(weights.shape),
            excess,
            jnp.where(shown[:, None], spikes.latency, jnp.asarray(time_steps, spikes.latency.dtype)),
            jnp.where(shown[:, None], spikes.potential, 0),
            jnp.where(shown[:, None], spikes.time, 1),
            jnp.where(learns[:, None], neuron, -1),
            jnp.where(learns[:, None], time, 0),
            jnp.where(learns[:, None], error, 0),
            jnp.where(learns, labels, -1),
            jnp.where(learns[:, None], thresholds, 0).astype(jnp.float32),
        )

    numbers = (*rates, gap, threshold_rate, *bounds)
    dtype = jnp.promote_types(weights.dtype, jnp.float32)
    learned = dispatch(batch == 1 and supports_native(weights, time_steps), run_native, xla)(
        jnp.clip(weights, *in_dtype_of(weights, *bounds)),
        jnp.asarray(excess, jnp.float32),
        to_unsigned(latencies, time_steps=time_steps),
        jnp.asarray(labels, jnp.int32),
        jnp.ones(stimuli, bool) if learns is None else jnp.asarray(learns),
        jnp.broadcast_to(jnp.asarray(threshold, weights.dtype), features),
        jnp.zeros(features, weights.dtype) if sums is None else jnp.asarray(sums, weights.dtype),
        jnp.stack([jnp.asarray(number, dtype) for number in numbers]),
    )
    new_weights, new_excess, latency, potential, time, *info = learned
    return LearnedReadout(new_weights, new_excess, Spikes(latency, potential, time), *info)


def _check_earliest(latencies: Any, weights: Any, threshold: Any, classes: int, time_steps: int, **_: Any) -> None:
    _check_whole(latencies, weights, None, threshold, time_steps, 1)
    checks.at_least("weights", weights, 0)
    check_classes(len(weights), classes)


@kernel("classes", "time_steps", "fractional", check=_check_earliest)
def earliest_of_classes(
    latencies: jax.Array,
    weights: jax.Array,
    *,
    threshold: Number,
    classes: int,
    time_steps: int,
    fractional: bool = False,
) -> Spikes:
    """The earliest neuron of each class of a readout, for each of S stimuli: `Spikes` of (S, classes) with times.

    At equal times it is the strongest neuron. If no neuron of a class fires, the latency is T, the time 1, and the
    potential the largest at the last step.

    Args:
      latencies: (S, C, H, W) integers in 0..T, the stimuli.
      weights: (F, C, H, W) float, at least 0, one neuron per feature that sees the whole input. The features form as
        many groups of equal size as there are classes, in order.
      threshold: a number, or an array (F,). A neuron below a threshold of 0 fires at the first step.
      fractional: as in `timed_spikes`.
    """

    shape = (len(latencies), classes)
    results = byte_array(shape), float_array(shape), float_array(shape)
    settings = dict(classes=classes, steps=int(time_steps), fractional=bool(fractional))
    find_native = native_call("earliest_of_classes", results, **settings)

    def run_native(weights: jax.Array, latencies: jax.Array, threshold: jax.Array) -> Spikes:
        spikes = Spikes(*find_native(weights[None], latencies, threshold[None]))  # all stimuli share weights, threshold
        # It follows the steps at which inputs fire; the other steps matter only to neurons with a threshold below 0.
        below = (threshold < 0).reshape(classes, -1).any(axis=1)
        at_once = below[None] & (latencies > 0).all(axis=(1, 2, 3))[:, None]
        return jax.tree.map(lambda x: jnp.where(at_once, jnp.zeros_like(x), x), spikes)

    def xla(weights: jax.Array, latencies: jax.Array, threshold: jax.Array) -> Spikes:
        rows = weights.reshape(len(weights), -1)

        def find(latency: jax.Array) -> Spikes:
            how: Any = dict(threshold=threshold, time_steps=time_steps, fractional=fractional)
            spikes = search_spikes(latency.reshape(-1), rows, **how)
            return first_of_classes(jax.tree.map(lambda x: x.reshape(classes, -1), spikes))

        # One by one on a CPU, whose caches hold the products of one stimulus.
        one_by_one = functools.partial(lax.map, find)
        return lax.platform_dependent(latencies, cpu=one_by_one, default=jax.vmap(find))

    thresholds = jnp.broadcast_to(jnp.asarray(threshold, weights.dtype), len(weights))
    find = dispatch(supports_native(weights, time_steps), run_native, xla)
    return find(weights, to_unsigned(latencies, time_steps=time_steps), thresholds)
