"""Kernels that have a compiled implementation for CPUs; what they compute is defined by that of XLA.

The compiled implementation supports layers of 3 to 255 time steps with a threshold and float32 weights. `jax.vmap` over
stimuli, networks or both calls it once, and all cores share the work. Derivatives are those of XLA's implementation.
Floats are added up in another order, which decides near-ties.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from snnjax.core import checks
from snnjax.core.checks import Bounds, Number, Pair
from snnjax.kernels import native, neurons, plasticity
from snnjax.kernels.backend import dispatch, supports_bytes
from snnjax.kernels.competition import Winners, early_winners, k_winners, strongest_feature
from snnjax.kernels.neurons import Spikes
from snnjax.kernels.readout import search_spikes
from snnjax.kernels.spikes import Pooling, check_pool, pad, to_unsigned
from snnjax.kernels.spikes import pool as max_pool

FEW_STEPS = 2
"""Up to so many time steps XLA's products are faster: a third of the time for dense inputs and one step."""


def supports_native(weights: jax.Array, threshold: Any, time_steps: int) -> bool:
    """Whether the compiled implementation can compute a layer, and is faster: XLA needs one product for each step."""
    return threshold is not None and time_steps > FEW_STEPS and supports_bytes(weights, time_steps)


def _define(kernel: Callable[..., Any], time_steps: int, padding: Pair, **settings: Any) -> Callable[..., Any]:
    """XLA's implementation of a kernel as a function of latencies without padding, weights and thresholds."""

    def xla(latency: jax.Array, weights: jax.Array, threshold: Any) -> Any:
        padded = pad(latency, padding, time_steps=time_steps)
        return kernel(padded, weights, threshold=threshold, time_steps=time_steps, **settings)

    return xla


@checks.kernel("time_steps", "stride", "padding")
def integrate_and_fire(
    latency: jax.Array,
    weights: jax.Array,
    *,
    threshold: Number | None,
    time_steps: int,
    stride: Pair = 1,
    padding: Pair = 0,
) -> Spikes:
    """`fire(potentials(...))` of a layer, `Spikes` of (F, H', W'), with one step in memory at a time."""
    checks.convolution(latency, weights, time_steps=time_steps, padding=padding)
    xla = _define(neurons.integrate_and_fire, time_steps, padding, stride=stride)
    follow = functools.partial(native.timed_spikes, stride=stride, padding=padding, time_steps=time_steps)

    def compiled(latency: jax.Array, weights: jax.Array, threshold: Any) -> Spikes:
        spikes = follow(to_unsigned(latency, time_steps=time_steps), weights, threshold=threshold)
        return Spikes(spikes.latency, jnp.where(spikes.latency < time_steps, spikes.potential, 0))

    supported = supports_native(weights, threshold, time_steps)
    return dispatch(supported, compiled, xla, latency, weights, threshold)


@checks.kernel("time_steps", "stride", "padding", "pool")
def latencies(
    latency: jax.Array,
    weights: jax.Array,
    *,
    threshold: Number | None,
    time_steps: int,
    stride: Pair = 1,
    padding: Pair = 0,
    pool: Pooling | None = None,
) -> jax.Array:
    """The latencies of `integrate_and_fire`, (F, H', W') unsigned integers, in less time; pooled if `pool` is given.

    `pool` is a `Pooling`, with the settings of `kernels.pool`. The compiled implementation then stops following the
    neurons of a window once one of them has fired.
    """
    checks.convolution(latency, weights, time_steps=time_steps, padding=padding)
    check_pool(pool)
    define = _define(neurons.latencies, time_steps, padding, stride=stride)
    find = functools.partial(native.latencies, stride=stride, padding=padding, time_steps=time_steps)
    inside = None if pool is None or pool.overlaps else pool  # positions of several windows are computed once
    outside = pool if inside is None else None

    def xla(latency: jax.Array, weights: jax.Array, threshold: Any) -> jax.Array:
        return pooled(define(latency, weights, threshold), pool, time_steps)

    def compiled(latency: jax.Array, weights: jax.Array, threshold: Any) -> jax.Array:
        found = find(to_unsigned(latency, time_steps=time_steps), weights, threshold=threshold, pool=inside)
        return pooled(found, outside, time_steps)

    supported = supports_native(weights, threshold, time_steps)
    return dispatch(supported, compiled, xla, latency, weights, threshold)


def pooled(latency: jax.Array, pool: Pooling | None, time_steps: int) -> jax.Array:
    """Latencies (F, H, W), pooled by `kernels.pool` with these settings, if any."""
    if pool is None:
        return latency
    return max_pool(latency, pool.window, stride=pool.stride, padding=pool.padding, time_steps=time_steps)


@checks.kernel("time_steps", "stride", "padding")
def final_potentials(
    latency: jax.Array, weights: jax.Array, *, time_steps: int, stride: Pair = 1, padding: Pair = 0
) -> jax.Array:
    """Potentials at the last step, (F, H', W') float: the sums of the weights of all inputs that fire, at any step."""
    checks.convolution(latency, weights, time_steps=time_steps, padding=padding)

    def xla(latency: jax.Array, weights: jax.Array) -> jax.Array:
        spiked = pad(latency, padding, time_steps=time_steps) < time_steps
        return neurons.final_potentials(spiked, weights, stride=stride)

    def compiled(latency: jax.Array, weights: jax.Array) -> jax.Array:
        spiked = latency < time_steps
        return native.final_potentials(spiked, weights, stride=stride, padding=padding)

    return dispatch(supports_bytes(weights, time_steps), compiled, xla, latency, weights)


@checks.kernel("time_steps", "stride", "padding", "fractional")
def timed_spikes(
    latency: jax.Array,
    weights: jax.Array,
    *,
    threshold: Number | None,
    time_steps: int,
    stride: Pair = 1,
    padding: Pair = 0,
    fractional: bool = False,
) -> Spikes:
    """`integrate_and_fire`, `Spikes` of (F, H', W') with times, and with the last potentials of silent neurons.

    Times are latency / T, 1 where silent. With `fractional` a spike lies within its step s, where a potential that
    rises evenly from V(s-1) to V(s) crosses the threshold: (s + (threshold - V(s-1)) / (V(s) - V(s-1))) / T.
    Potentials begin at 0: a spike in step 0 has the time 0 if its threshold is below 0.
    """
    checks.convolution(latency, weights, time_steps=time_steps, padding=padding)
    by_step = _define(neurons.timed_spikes, time_steps, padding, stride=stride, fractional=fractional)
    follow = functools.partial(native.timed_spikes, stride=stride, padding=padding, time_steps=time_steps)

    def by_search(latency: jax.Array, weights: jax.Array, threshold: Any) -> Spikes:
        rows = weights.reshape(len(weights), -1)
        settings = dict(threshold=threshold, time_steps=time_steps, fractional=fractional)
        return jax.tree.map(lambda x: x[:, None, None], search_spikes(latency.ravel(), rows, **settings))

    def xla(latency: jax.Array, weights: jax.Array, threshold: Any) -> Spikes:
        if threshold is None or latency.shape != weights.shape[1:] or checks.pair("padding", padding, 0) != (0, 0):
            return by_step(latency, weights, threshold)
        # A neuron that sees the whole input is searched for in two products, if potentials never fall.
        return jax.lax.cond(jnp.all(weights >= 0), by_search, by_step, latency, weights, threshold)

    def compiled(latency: jax.Array, weights: jax.Array, threshold: Any) -> Spikes:
        return follow(to_unsigned(latency, time_steps=time_steps), weights, threshold=threshold, fractional=fractional)

    supported = supports_native(weights, threshold, time_steps)
    return dispatch(supported, compiled, xla, latency, weights, threshold)


@checks.kernel("k", "time_steps", "stride", "padding")
def winners(
    latency: jax.Array,
    weights: jax.Array,
    *,
    threshold: Number | None,
    k: int,
    radius: Number,
    time_steps: int,
    stride: Pair = 1,
    padding: Pair = 0,
) -> Winners:
    """The winners of a layer, `Winners` of (k,): `k_winners(strongest_feature(integrate_and_fire(...)))`.

    The compiled implementation is faster than these three kernels, because it ends at the step of the last winner.
    """
    checks.convolution(latency, weights, time_steps=time_steps, padding=padding)
    fire = _define(neurons.integrate_and_fire, time_steps, padding, stride=stride)
    find = functools.partial(native.winners, stride=stride, padding=padding, k=k)

    def composed(latency: jax.Array, weights: jax.Array, threshold: Any, radius: Any) -> Winners:
        strongest = strongest_feature(fire(latency, weights, threshold), time_steps=time_steps)
        return k_winners(strongest, k=k, radius=radius, time_steps=time_steps)

    def early(latency: jax.Array, weights: jax.Array, threshold: Any, radius: Any) -> Winners:
        padded = pad(latency, padding, time_steps=time_steps)
        settings = dict(threshold=threshold, k=k, radius=radius, time_steps=time_steps, stride=stride)
        return early_winners(padded, weights, **settings)

    def on_cpu(latency: jax.Array, weights: jax.Array, threshold: Any, radius: Any) -> Winners:
        return jax.lax.cond(jnp.all(weights >= 0), early, composed, latency, weights, threshold, radius)

    def xla(*arrays: Any) -> Winners:
        # Winners have no derivatives, and the loops of the search cannot be transposed.
        arrays = jax.lax.stop_gradient(arrays)
        return jax.lax.platform_dependent(*arrays, cpu=on_cpu, default=composed)

    def compiled(latency: jax.Array, weights: jax.Array, threshold: Any, radius: Any) -> Winners:
        given = to_unsigned(latency, time_steps=time_steps), weights
        return find(*given, threshold=threshold, radius=radius, time_steps=time_steps)

    supported = supports_native(weights, threshold, time_steps)
    return dispatch(supported, compiled, xla, latency, weights, threshold, radius)


@checks.kernel("stabiliser", "stride", "padding", "time_steps", check=plasticity.check_stdp)
def stdp(
    weights: jax.Array,
    latency: jax.Array,
    winners: Winners,
    rates: jax.Array,
    *,
    time_steps: int,
    bounds: Bounds = (0.0, 1.0),
    stabiliser: bool = True,
    stride: Pair = 1,
    padding: Pair = 0,
) -> jax.Array:
    """The weights after one STDP update: each winner moves its feature's weights towards the inputs that made it fire.

    A synapse is causal if its input fired at all and no later than the winner: its weight changes by a+, others by a-.
    If there is any winner, all weights are clipped to the bounds.

    Args:
      winners: `Winners` of (k,), of distinct features.
      rates: (2,) float, (a+, a-): learning rates of potentiation (LTP) and depression (LTD); those of `reward_rates`
        make it R-STDP.
      bounds: lower and upper bound of a weight, numbers or () float. Bounds and rates take the dtype of the weights.
      stabiliser: multiplies each change by (w - lower)(upper - w), so that weights settle at the bounds.
    """
    define = functools.partial(plasticity.stdp, time_steps=time_steps, stabiliser=stabiliser, stride=stride)
    learn = functools.partial(native.stdp, time_steps=time_steps, stabiliser=stabiliser, stride=stride, padding=padding)

    def xla(weights: jax.Array, latency: jax.Array, winners: Winners, rates: jax.Array, bounds: Any) -> jax.Array:
        return define(weights, pad(latency, padding, time_steps=time_steps), winners, rates, bounds=bounds)

    def compiled(weights: jax.Array, latency: jax.Array, winners: Winners, rates: jax.Array, bounds: Any) -> jax.Array:
        return learn(weights, to_unsigned(latency, time_steps=time_steps), winners, rates, bounds=bounds)

    return dispatch(supports_bytes(weights, time_steps), compiled, xla, weights, latency, winners, rates, bounds)
