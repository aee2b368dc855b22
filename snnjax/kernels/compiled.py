"""Kernels with a compiled implementation for CPUs. The reference for their results is the XLA implementation.

The compiled implementation supports layers with 3 to 255 time steps, a threshold and float32 weights. `jax.vmap` over
stimuli, networks or both calls it once, and all cores share the work. Derivatives are those of the XLA implementation.
Floats are summed in a different order, so that near-ties may be decided differently.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from snnjax.core import checks
from snnjax.core.checks import Bounds, Number, Pair
from snnjax.kernels import neurons, plasticity
from snnjax.kernels.competition import Winners, early_winners, k_winners, strongest_feature
from snnjax.kernels.first_spikes import search_spikes
from snnjax.kernels.kernel import (
    byte_array,
    dispatch,
    float_array,
    int_array,
    kernel,
    layer_settings,
    native_call,
    supports_native,
)
from snnjax.kernels.neurons import Spikes
from snnjax.kernels.spikes import Pooling, check_pool, layer_shape, pad, to_unsigned
from snnjax.kernels.spikes import pool as max_pool

FEW_STEPS = 2
"""Up to so many time steps XLA's products are faster: a third of the time for dense inputs and one step."""


def _define(kernel: Callable[..., Any], time_steps: int, padding: Pair, **settings: Any) -> Callable[..., Any]:
    """XLA's implementation of a kernel as a function of weights, latencies without padding, and thresholds."""

    def xla(weights: jax.Array, latency: jax.Array, threshold: Any, **numbers: Any) -> Any:
        padded = pad(latency, padding, time_steps=time_steps)
        return kernel(padded, weights, threshold=threshold, time_steps=time_steps, **settings, **numbers)

    return xla


def _is_faster(weights: jax.Array, threshold: Any, time_steps: int) -> bool:
    """Whether the compiled implementation supports a layer and is faster: XLA needs one product for each step."""
    return threshold is not None and time_steps > FEW_STEPS and supports_native(weights, time_steps)


def _prepared(
    weights: jax.Array, latency: jax.Array, threshold: Number | None, time_steps: int, padding: Pair
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """The arrays from which a layer's spikes are computed, after checks of their shapes and dtypes."""
    checks.convolution(latency, weights, time_steps=time_steps, padding=padding)
    checks.threshold(threshold, len(weights))
    limit = None if threshold is None else jnp.asarray(threshold, weights.dtype)
    return weights, to_unsigned(latency, time_steps=time_steps), limit


class _Crossings(NamedTuple):
    """When the potentials of a layer cross their thresholds.

    Attributes:
      step: (F, H', W') uint8, the step at which each neuron fires; T if it is silent.
      potential: (F, H', W') float32, the potential at that step, or the last potential of a silent neuron.
      before: (F, H', W') float32, the potential one step earlier.
    """

    step: jax.Array
    potential: jax.Array
    before: jax.Array


def _native_crossings(
    shape: tuple[int, int, int], time_steps: int, stride: Pair, padding: Pair
) -> Callable[..., _Crossings]:
    """The C++ kernel that finds the `_Crossings` of a layer, as a function of weights, latencies and thresholds."""
    layer = layer_settings(time_steps, stride, padding)
    call = native_call("timed_spikes", (byte_array(shape), float_array(shape), float_array(shape)), **layer)
    return lambda *arrays: _Crossings(*call(*arrays))


@kernel("time_steps", "stride", "padding")
def integrate_and_fire(
    latency: jax.Array,
    weights: jax.Array,
    *,
    threshold: Number | None,
    time_steps: int,
    stride: Pair = 1,
    padding: Pair = 0,
) -> Spikes:
    """`fire(potentials(...))` of a layer, `Spikes` of (F, H', W'), holding one step in memory at a time."""
    arrays = _prepared(weights, latency, threshold, time_steps, padding)
    shape = layer_shape(latency.shape, weights.shape, stride, padding)
    find_crossings = _native_crossings(shape, time_steps, stride, padding)

    def run_native(weights: jax.Array, latency: jax.Array, threshold: jax.Array) -> Spikes:
        found = find_crossings(weights, latency, threshold)
        return Spikes(found.step, jnp.where(found.step < time_steps, found.potential, 0))

    xla = _define(neurons.integrate_and_fire, time_steps, padding, stride=stride)
    return dispatch(_is_faster(weights, threshold, time_steps), run_native, xla)(*arrays)


@kernel("time_steps", "stride", "padding", "pool")
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
    """The latencies of `integrate_and_fire`, (F, H', W') unsigned integers; faster, since it returns no potentials.

    If `pool` is given, the latencies are pooled. It is a `Pooling`, with the settings of `kernels.pool`. The compiled
    implementation then stops computing the neurons of a window once one of them has fired.
    """
    arrays = _prepared(weights, latency, threshold, time_steps, padding)
    check_pool(pool)
    inside = None if pool is None or pool.overlaps else pool  # positions of several windows are computed once
    outside = pool if inside is None else None
    maps = (inside or Pooling()).of(layer_shape(latency.shape, weights.shape, stride, padding))
    layer = layer_settings(time_steps, stride, padding)
    run_native = native_call("latencies", byte_array(maps.shape), pool=maps.setting, **layer)
    define = _define(neurons.latencies, time_steps, padding, stride=stride)

    def xla(weights: jax.Array, latency: jax.Array, threshold: jax.Array | None) -> jax.Array:
        return pooled(define(weights, latency, threshold), inside, time_steps)

    found = dispatch(_is_faster(weights, threshold, time_steps), run_native, xla)(*arrays)
    return pooled(found, outside, time_steps)


def pooled(latency: jax.Array, pool: Pooling | None, time_steps: int) -> jax.Array:
    """Latencies (F, H, W), pooled by `kernels.pool` with these settings, if any."""
    if pool is None:
        return latency
    return max_pool(latency, pool.window, stride=pool.stride, padding=pool.padding, time_steps=time_steps)


@kernel("time_steps", "stride", "padding")
def final_potentials(
    latency: jax.Array, weights: jax.Array, *, time_steps: int, stride: Pair = 1, padding: Pair = 0
) -> jax.Array:
    """Potentials at the last step, (F, H', W') float: the sums of the weights of all inputs that fire, at any step."""
    checks.convolution(latency, weights, time_steps=time_steps, padding=padding)
    shape = layer_shape(latency.shape, weights.shape, stride, padding)
    run_native = native_call("potentials", float_array(shape), **layer_settings(1, stride, padding))

    def xla(weights: jax.Array, at_once: jax.Array) -> jax.Array:
        return neurons.final_potentials(pad(at_once, padding, time_steps=1) < 1, weights, stride=stride)

    # Inputs as if all fired in a single step, because C++ goes through the whole input once for each step.
    at_once = jnp.where(latency < time_steps, 0, 1).astype(jnp.uint8)
    return dispatch(supports_native(weights, time_steps), run_native, xla)(weights, at_once)


@kernel("time_steps", "stride", "padding", "fractional")
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

    A time is latency / T, or 1 for a silent neuron. With `fractional`, the time lies within the step s of the spike: it
    is the time at which a potential that rises linearly from V(s-1) to V(s) crosses the threshold,
    (s + (threshold - V(s-1)) / (V(s) - V(s-1))) / T. Potentials start at 0. A spike at step 0 has the time 0 if the
    threshold is below 0.
    """
    arrays = _prepared(weights, latency, threshold, time_steps, padding)
    shape = layer_shape(latency.shape, weights.shape, stride, padding)
    find_crossings = _native_crossings(shape, time_steps, stride, padding)
    times = functools.partial(neurons.spike_times, time_steps=int(time_steps), fractional=fractional)
    by_step = _define(neurons.timed_spikes, time_steps, padding, stride=stride, fractional=fractional)

    def run_native(weights: jax.Array, latency: jax.Array, threshold: jax.Array) -> Spikes:
        found = find_crossings(weights, latency, threshold)
        fired = found.step < time_steps
        limit = threshold[:, None, None] if threshold.ndim else threshold
        time = times(found.step, fired, found.before, found.potential, limit)
        return Spikes(found.step, found.potential, jnp.where(fired, time, 1))

    def by_search(weights: jax.Array, latency: jax.Array, threshold: jax.Array) -> Spikes:
        rows = weights.reshape(len(weights), -1)
        spikes = search_spikes(latency.ravel(), rows, threshold=threshold, time_steps=time_steps, fractional=fractional)
        return jax.tree.map(lambda x: x[:, None, None], spikes)

    def xla(weights: jax.Array, latency: jax.Array, threshold: jax.Array | None) -> Spikes:
        if threshold is None or latency.shape != weights.shape[1:] or checks.pair("padding", padding, 0) != (0, 0):
            return by_step(weights, latency, threshold)
        # A neuron that sees the whole input is searched for in two products, if potentials never fall.
        return jax.lax.cond(jnp.all(weights >= 0), by_search, by_step, weights, latency, threshold)

    return dispatch(_is_faster(weights, threshold, time_steps), run_native, xla)(*arrays)


@kernel("k", "time_steps", "stride", "padding")
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

    The compiled implementation is faster than the three kernels, because it stops at the step of the last winner.
    """
    arrays = _prepared(weights, latency, threshold, time_steps, padding)
    places = (checks.integer("k", k, 1),)
    results = int_array(places), int_array(places), int_array(places), byte_array(places)
    run_native = native_call("winners", results, **layer_settings(time_steps, stride, padding))
    fire = _define(neurons.integrate_and_fire, time_steps, padding, stride=stride)
    search = _define(early_winners, time_steps, padding, stride=stride, k=k)

    def composed(weights: jax.Array, latency: jax.Array, threshold: jax.Array | None, radius: jax.Array) -> Winners:
        strongest = strongest_feature(fire(weights, latency, threshold), time_steps=time_steps)
        return k_winners(strongest, k=k, radius=radius, time_steps=time_steps)

    def early(weights: jax.Array, latency: jax.Array, threshold: jax.Array | None, radius: jax.Array) -> Winners:
        return search(weights, latency, threshold, radius=radius)

    def on_cpu(weights: jax.Array, latency: jax.Array, threshold: jax.Array | None, radius: jax.Array) -> Winners:
        return jax.lax.cond(jnp.all(weights >= 0), early, composed, weights, latency, threshold, radius)

    def xla(*arrays: Any) -> tuple[jax.Array, ...]:
        # Winners have no derivatives, and the loops of the search cannot be transposed.
        arrays = jax.lax.stop_gradient(arrays)
        # On a CPU, all steps in one product took 8.2 and 9.8 ms for an image (layers 1 and 2 of mozafari2018), and the
        # search that stops early 0.17 and 0.27 ms. An accelerator must not stop early: it would synchronise with the
        # host at each condition that depends on data.
        won = jax.lax.platform_dependent(*arrays, cpu=on_cpu, default=composed)
        return won.feature, won.row, won.column, won.latency

    find = dispatch(_is_faster(weights, threshold, time_steps), run_native, xla)
    _, height, width = layer_shape(latency.shape, weights.shape, stride, padding)
    feature, row, column, when = find(*arrays, jnp.asarray(radius, jnp.int32))
    return Winners(feature, row, column, when, size=(height, width))


@kernel("stabiliser", "stride", "padding", "time_steps", check=plasticity.check_stdp)
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

    A synapse is causal if its input fired, and no later than the winner. Weights of causal synapses change by a+, all
    other weights of the winner's feature by a-. If there is any winner, all weights are clipped to the bounds.

    Args:
      winners: `Winners` of (k,), of distinct features.
      rates: (2,) float, (a+, a-): learning rates of potentiation (LTP) and depression (LTD); those of `reward_rates`
        make it R-STDP.
      bounds: lower and upper bound of a weight, numbers or () float. Bounds and rates take the dtype of the weights.
      stabiliser: multiplies each change by (w - lower)(upper - w), so that weights settle at the bounds.
    """
    layer = layer_settings(time_steps, stride, padding)
    run_native = native_call("stdp", float_array(weights.shape), replaced=1, stabiliser=bool(stabiliser), **layer)
    define = functools.partial(plasticity.stdp, time_steps=time_steps, stabiliser=stabiliser, stride=stride)

    def xla(
        weights: jax.Array,
        latency: jax.Array,
        feature: jax.Array,
        row: jax.Array,
        column: jax.Array,
        step: jax.Array,
        rates: jax.Array,
        bounds: jax.Array,
    ) -> jax.Array:
        padded = pad(latency, padding, time_steps=time_steps)
        return define(weights, padded, Winners(feature, row, column, step), rates, bounds=tuple(bounds))

    won = [jnp.asarray(x, jnp.int32) for x in (winners.feature, winners.row, winners.column, winners.latency)]
    # Arrays instead of static settings, so that other rates or bounds do not recompile anything.
    rule = jnp.asarray(rates, weights.dtype), plasticity.bounds_array(weights, bounds)
    learn = dispatch(supports_native(weights, time_steps), run_native, xla)
    return learn(weights, to_unsigned(latency, time_steps=time_steps), *won, *rule)
