"""Forms of a layer: how its weights lie, and the kernels that compute it, of XLA or compiled ones."""

import functools
from typing import Any, cast

import jax

from snnjax import kernels
from snnjax.core import checks
from snnjax.kernels import Spikes, Winners, native, neurons, plasticity
from snnjax.kernels import readout as readout_kernels
from snnjax.kernels.competition import early_winners
from snnjax.kernels.native import MOST_STEPS, ramp, sequences
from snnjax.layers.conv import Conv
from snnjax.layers.layer import BaseLayer, LayerKernels
from snnjax.layers.pool import Pool
from snnjax.layers.ramp_layer import RampLayer
from snnjax.layers.spiking import Layer


def _fast_latencies(layer: Layer, latency: jax.Array) -> jax.Array:
    return neurons.latencies(layer.padded(latency), layer.stored, **layer._firing())


def _fast_winners(layer: Layer, latency: jax.Array) -> Winners:
    """By a search that stops early, on a CPU."""
    competition = layer.conv.competition

    def compete(latency: jax.Array, weights: jax.Array) -> Winners:
        spikes = neurons.integrate_and_fire(latency, weights, **layer._firing())
        return competition(spikes, time_steps=layer.time_steps)

    early = functools.partial(early_winners, k=competition.winners, radius=competition.radius, **layer._firing())
    return jax.lax.platform_dependent(layer.padded(latency), layer.stored, cpu=early, default=compete)


def _fast_learn(layer: Layer, latency: jax.Array, winners: Winners, rates: jax.Array, **rule: Any) -> jax.Array:
    """Touches the winners' features alone."""
    learn = functools.partial(plasticity.learned_rows, time_steps=layer.time_steps, stride=layer.conv.stride)
    rows = learn(layer.stored[winners.feature], layer.padded(latency), winners, rates, **rule)
    return kernels.set_rows(layer.stored, winners, rows)


def _fast_timed(layer: Layer, latency: jax.Array, threshold: Any) -> Spikes:
    """In two products, if there is one neuron a feature and potentials never fall."""
    if not layer.monotone or layer.conv.output_size((latency.shape[1], latency.shape[2])) != (1, 1):
        return layer.spikes_by_step(latency, threshold)
    rows, columns = checks.pair("kernel", layer.conv.kernel, 1)
    inputs = layer.padded(latency)[:, :rows, :columns].reshape(-1)
    weights = layer.weights.reshape(layer.conv.features, -1)
    steps = layer.time_steps
    spikes = readout_kernels.search_spikes(
        inputs, weights, threshold=threshold, time_steps=steps, fractional=layer.conv.fractional
    )
    return jax.tree.map(lambda x: x.reshape(-1, 1, 1), spikes)


XLA = LayerKernels(latencies=_fast_latencies, winners=_fast_winners, learn=_fast_learn, timed_spikes=_fast_timed)
"""XLA's kernels, without the work that cannot change the result."""


def _settings(layer: Layer) -> dict[str, Any]:
    return dict(stride=layer.conv.stride, padding=layer.conv.padding, time_steps=layer.time_steps)


def _native_latencies(layer: Layer, latency: jax.Array, **pool: Any) -> jax.Array:
    threshold: Any = layer.conv.threshold
    return native.latencies(latency, layer.stored, threshold=threshold, **_settings(layer), **pool)


def native_pooling(conv: Conv, pool: Pool | None) -> native.Pooling:
    """The settings of `Layer.pooled` for the compiled kernels."""
    pool = pool or Pool(1)
    rows, columns = checks.pair("padding", conv.output_padding, 0)
    top, left = checks.pair("padding", pool.padding, 0)
    return native.Pooling(pool.window, pool.stride, (rows + top, columns + left))


def _native_outputs(layer: Layer, latency: jax.Array, pool: Pool | None) -> jax.Array:
    if pool is None or pool.overlaps:  # positions of several windows are computed once
        return layer.pooled(_native_latencies(layer, latency), pool)
    return _native_latencies(layer, latency, pool=native_pooling(layer.conv, pool))


def _native_potentials(layer: Layer, latency: jax.Array) -> jax.Array:
    spiked = latency < layer.time_steps
    return native.final_potentials(spiked, layer.stored, stride=layer.conv.stride, padding=layer.conv.padding)


def _native_winners(layer: Layer, latency: jax.Array) -> Winners:
    threshold: Any = layer.conv.threshold
    if threshold is None:
        return layer.conv.competition(layer.spikes(latency), time_steps=layer.time_steps)
    wta = layer.conv.competition
    compete = functools.partial(native.winners, k=wta.winners, radius=wta.radius)
    return compete(latency, layer.stored, threshold=threshold, **_settings(layer))


def _native_learn(layer: Layer, latency: jax.Array, winners: Winners, rates: jax.Array, **rule: Any) -> jax.Array:
    return native.stdp(layer.stored, latency, winners, rates, **rule, **_settings(layer))


def _native_timed_spikes(layer: Layer, latency: jax.Array, threshold: Any) -> Spikes:
    fractional = layer.conv.fractional
    return native.timed_spikes(latency, layer.stored, threshold=threshold, fractional=fractional, **_settings(layer))


NATIVE = LayerKernels(
    latencies=_native_latencies,
    outputs=_native_outputs,
    potentials=_native_potentials,
    winners=_native_winners,
    learn=_native_learn,
    timed_spikes=_native_timed_spikes,
)
"""The compiled kernels of `snnjax.kernels.native`, for CPUs; floats are added up in another order."""


def native_suits(conv: Conv, time_steps: int) -> bool:
    """Whether the compiled kernels can compute a layer: latencies fit into bytes."""
    return time_steps <= native.MOST_STEPS


def block_potentials(layer: Layer, spiked: jax.Array) -> jax.Array:
    """Last potentials of B images, (B, F, H', W') from bool (B, C, H, W); B decides how sums round."""
    taps = layer.weights.transpose(2, 3, 0, 1)
    return neurons.final_potentials_of_block(spiked, taps, padding=layer.conv.padding, stride=layer.conv.stride)


def _to_rows(weights: jax.Array) -> jax.Array:
    """From (F, C, kh, kw) to (F, kh, kw, C)."""
    return weights.transpose(0, 2, 3, 1)


def _from_rows(rows: jax.Array, features: int) -> jax.Array:
    """The inverse of `_to_rows`."""
    return rows.transpose(0, 3, 1, 2)


def _who_fires(layer: Layer, latencies: jax.Array, pool: Pool | None) -> jax.Array:
    conv = layer.conv
    return sequences.final_latencies(
        latencies,
        layer.stored,
        time_steps=layer.time_steps,
        threshold=0.0 if conv.threshold is None else cast(Any, conv.threshold),
        padding=conv.padding,
        stride=conv.stride,
        pool=native_pooling(conv, pool),
    )


def _strongest_of_classes(layer: Layer, latencies: jax.Array, scores: bool) -> Spikes:
    potential = sequences.strongest_of_classes(
        latencies,
        layer.stored,
        winner_only=not scores,
        padding=layer.conv.padding,
        stride=layer.conv.stride,
        classes=layer.classes,
        time_steps=layer.time_steps,
    )
    return neurons.fire_at_last_step(potential[..., None, None], time_steps=layer.time_steps)


def _earliest_of_classes(layer: Layer, latencies: jax.Array, scores: bool) -> Spikes:
    spikes = kernels.earliest_of_classes(
        latencies,
        layer.stored,
        classes=layer.classes,
        time_steps=layer.time_steps,
        threshold=cast(Any, layer.conv.threshold),
        fractional=layer.conv.fractional,
    )
    return jax.tree.map(lambda x: x[..., None, None], spikes)


def _ramp_outputs(layer: RampLayer, latency: jax.Array, pool: Pool | None) -> jax.Array:
    return ramp.fire_on_ramp(layer.potentials(latency), layer.levels, native_pooling(layer.conv, pool))


ROWS = LayerKernels(_to_rows, _from_rows)
"""Weights as (F, kh, kw, C), for the products of layers with ramps."""
RAMP = ROWS._replace(outputs=_ramp_outputs)
"""As `ROWS`; neurons are pooled and fire by compiled kernels."""
BLOCKS = LayerKernels(fires=_who_fires, of_classes=_strongest_of_classes)
"""Compiled kernels that take many images: who fires, and decisions of `Majority`."""
READOUT = XLA._replace(of_classes=_earliest_of_classes)
"""As `XLA`; decisions of `Earliest` by compiled kernels."""


def best_kernels(layer: BaseLayer, *, native: bool, learner: int | None = None) -> LayerKernels:
    """The fastest kernels of a layer, which learns by its learner number `learner` if given; `native`: compiled."""
    if layer.conv.ramped:
        return RAMP if native and layer.time_steps <= MOST_STEPS else ROWS
    suits = native and native_suits(layer.conv, layer.time_steps)
    rule = None if learner is None else layer.conv.each_learner[learner]
    return NATIVE if suits and (rule is None or rule.native) else XLA
