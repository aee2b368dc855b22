"""Supervised STDP of fully connected readouts, in which the label gives each neuron a time at which to fire.

All neurons see all inputs: latencies (K,), weights (F, K). Times are latency / T in [0, 1), 1 where silent; neurons
come in groups of equal size, one for each class.

References:
  Goupy et al. 2024, Paired competing neurons improving STDP supervised local learning in spiking neural networks.
  Goupy et al. 2024, Neuronal competition groups with supervised STDP for spike-based classification.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from snnjax.core import checks
from snnjax.core.checks import Bounds, Number
from snnjax.core.errors import InputError, wrong_type
from snnjax.kernels.neurons import Spikes, spike_times
from snnjax.kernels.plasticity import in_dtype_of
from snnjax.kernels.spikes import latency_dtype


@checks.kernel("time_steps", "fractional")
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


@checks.kernel()
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


@checks.kernel("per_class", "one_sided")
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
    latest = 1 - gap * per_class / count
    base = jnp.where(jnp.any(fired), jnp.minimum(mean, latest), latest)
    early = base - gap * (count - per_class) / count
    late = base + gap * per_class / count
    if one_sided:
        early = jnp.minimum(time, early)
        late = jnp.maximum(time, late)
    return jnp.where(target, early, late).astype(jnp.float32)


@checks.kernel()
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


@checks.kernel()
def rescaled(rows: jax.Array, sums: jax.Array, *, bounds: Bounds) -> jax.Array:
    """Weights (n, K) rescaled to the sums (n,), then clipped to the bounds once more; rows of zeros remain."""
    checks.array("rows", rows, "n K", "floats")
    checks.array("sums", sums, "n", "floats")
    checks.shape("sums", sums, rows.shape[:1], "`rows`")
    lower, upper, sums = in_dtype_of(rows, *bounds, sums)
    total = _product(rows, jnp.ones_like(rows, shape=(1, rows.shape[1])))[:, 0]  # on a CPU faster than a sum
    return jnp.clip(rows * jnp.where(total > 0, sums / total, 1)[:, None], lower, upper)


@checks.kernel()
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
    total = jnp.maximum(rows.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return jnp.clip(rows / total * sums[:, None], lower, upper)


@checks.kernel()
def balanced(excess: jax.Array, winner: jax.Array, rate: Any) -> jax.Array:
    """The excess of the training thresholds of m competing neurons over their thresholds, (m,), after one has won.

    The winner's rises by rate (m - 1)/m, those of the others fall by rate/m, down to 0 (NCG).
    """
    checks.array("excess", excess, "m", "floats")
    checks.array("winner", winner, "", "integers")
    count = excess.shape[0]
    won = lax.broadcasted_iota(jnp.int32, (count,), 0) == winner
    return jnp.maximum(excess + rate * jnp.where(won, (count - 1) / count, -1 / count), 0).astype(jnp.float32)


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
