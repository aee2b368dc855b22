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
from jax import lax

from snnjax.errors import wrong_type
from snnjax.kernels import checks
from snnjax.kernels.checks import Bounds, Number
from snnjax.kernels.neurons import Spikes, spike_times
from snnjax.kernels.spikes import latency_dtype


@checks.kernel("time_steps", "fractional")
def search_spikes(
    latency: jax.Array, weights: jax.Array, *, threshold: Number, time_steps: int, fractional: bool = False
) -> Spikes:
    """`timed_spikes` of (K,) latencies and weights (F, K) >= 0: `Spikes` of (F,), found in two products instead of T.

    With such weights potentials never fall. One product gives the potentials after each of about sqrt(T) intervals of
    steps, the other those after each step of the interval in which the neuron crosses its threshold.
    """
    checks.latency("latency", latency, "K", time_steps=checks.time_steps(time_steps))
    checks.array("weights", weights, "F K", "floats")
    checks.shape("weights", weights, (len(weights), *latency.shape), "`latency`")
    if threshold is None:
        raise wrong_type("threshold", "a number or an array (F,)", None)
    checks.threshold(threshold, len(weights))
    size = math.isqrt(time_steps - 1) + 1  # steps in an interval, and intervals
    limits = jnp.broadcast_to(jnp.asarray(threshold, weights.dtype), len(weights))[:, None]
    spiked, places = latency < time_steps, jnp.arange(size, dtype=latency.dtype)[:, None]
    interval, within = latency // size, latency % size
    ends = _product(weights, (interval[None] <= places) & spiked[None])  # [F, intervals]
    passed = jnp.sum(~(ends > limits), axis=1)  # intervals
    fires, crossed = passed < size, jnp.minimum(passed, size - 1)
    before = jnp.where(passed > 0, _taken(ends, jnp.maximum(passed - 1, 0)), 0)
    inside = (interval[None] == crossed[:, None].astype(latency.dtype)) & spiked[None]
    steps = before[:, None] + _product(jnp.where(inside, weights, 0), within[None] <= places)
    at = jnp.minimum(jnp.sum(~(steps > limits), axis=1), size - 1)
    now, step = _taken(steps, at), jnp.minimum(crossed * size + at, time_steps - 1)
    before = jnp.where(at > 0, _taken(steps, jnp.maximum(at - 1, 0)), before)
    time = spike_times(step, fires, before, now, limits[:, 0], time_steps=time_steps, fractional=fractional)
    spike = jnp.where(fires, step, time_steps).astype(latency_dtype(time_steps))
    return Spikes(spike, jnp.where(fires, now, ends[:, -1]), jnp.where(fires, time, 1))


def _product(weights: jax.Array, spiked: jax.Array) -> jax.Array:
    """Weights (F, K) and spikes (n, K) to (F, n): both with K last, which takes three quarters of the time on a CPU."""
    sides = (((1,), (1,)), ((), ()))
    return lax.dot_general(weights, spiked.astype(weights.dtype), sides, precision=lax.Precision.HIGHEST)


def _taken(values: jax.Array, at: jax.Array) -> jax.Array:
    return jnp.take_along_axis(values, at[:, None], axis=1)[:, 0]


@checks.kernel()
def earliest(time: jax.Array, potential: jax.Array) -> jax.Array:
    """The earliest neuron along the last axis, int32: at equal times the strongest, then that of the lowest index."""
    checks.array("time", time, None, "floats")
    checks.array("potential", potential, None, "floats")
    checks.shape("potential", potential, time.shape, "`time`")
    first = time.min(axis=-1, keepdims=True)
    return jnp.argmax(jnp.where(time == first, potential, -jnp.inf), axis=-1).astype(jnp.int32)


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
    count, fired = time.shape[0], time < 1
    mean = jnp.sum(jnp.where(fired, time, 0)) / jnp.maximum(jnp.sum(fired), 1)
    latest = 1 - gap * per_class / count
    base = jnp.where(jnp.any(fired), jnp.minimum(mean, latest), latest)
    early, late = base - gap * (count - per_class) / count, base + gap * per_class / count
    if one_sided:
        early, late = jnp.minimum(time, early), jnp.maximum(time, late)
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
    causal = latency[None] <= spike[:, None]
    change = jnp.where(causal, (error * rates[0])[:, None], (error * rates[1])[:, None])
    return jnp.clip(rows + change, bounds[0], bounds[1])


@checks.kernel()
def rescaled(rows: jax.Array, sums: jax.Array, *, bounds: Bounds) -> jax.Array:
    """Weights (n, K) rescaled to the sums (n,), then clipped to the bounds once more; rows of zeros remain."""
    checks.array("rows", rows, "n K", "floats")
    checks.array("sums", sums, "n", "floats")
    checks.shape("sums", sums, rows.shape[:1], "`rows`")
    total = _product(rows, jnp.ones_like(rows, shape=(1, rows.shape[1])))[:, 0]  # on a CPU faster than a sum
    return jnp.clip(rows * jnp.where(total > 0, sums / total, 1)[:, None], bounds[0], bounds[1])


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
