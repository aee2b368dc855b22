"""Kernels for decisions on many stimuli at once: which neurons fire, and each class's strongest or earliest neuron."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from snnjax.core import checks
from snnjax.core.checks import Number, Pair
from snnjax.kernels import neurons
from snnjax.kernels.compiled import final_potentials, pooled
from snnjax.kernels.first_spikes import first_of_classes, search_spikes
from snnjax.kernels.kernel import (
    byte_array,
    dispatch,
    float_array,
    kernel,
    layer_settings,
    native_call,
    supports_native,
)
from snnjax.kernels.neurons import Spikes
from snnjax.kernels.sequences import check_classes, check_sequence, check_whole_inputs
from snnjax.kernels.spikes import Pooling, check_pool, layer_shape, to_unsigned

MANY_FEATURES = 64
"""Features from which the compiled form adds up integers, 64 of them side by side; with fewer, floats are faster."""


def _check(latencies: Any, weights: Any, time_steps: int, stride: Pair, padding: Pair, **_: Any) -> None:
    check_sequence(weights, latencies, None, 1, time_steps=time_steps, stride=stride, padding=padding)


@kernel("time_steps", "stride", "padding", "pool", check=_check)
def final_latencies(
    latencies: jax.Array,
    weights: jax.Array,
    *,
    threshold: Number | None,
    time_steps: int,
    stride: Pair = 1,
    padding: Pair = 0,
    pool: Pooling | None = None,
) -> jax.Array:
    """Which neurons fire at any step, for stimuli (S, C, H, W): (S, F, H', W') unsigned latencies, T - 1 or T.

    A neuron whose potential at the last step exceeds the threshold (None: 0) is reported to fire at that step, T - 1.
    All other neurons are silent, T. If no weight is below 0, these are the neurons that fire at any step, found with
    1/T of the work. The result is pooled as by `latencies`.
    """
    check_pool(pool)
    limit = jnp.asarray(0.0 if threshold is None else threshold, weights.dtype)
    maps = (pool or Pooling()).of(layer_shape(latencies.shape, weights.shape, stride, padding))
    result = byte_array((len(latencies), *maps.shape))
    layer = layer_settings(time_steps, stride, padding)
    run_native = native_call("final_latencies", result, pool=maps.setting, **layer)

    def xla(weights: jax.Array, latencies: jax.Array, limit: jax.Array) -> jax.Array:
        limits = limit[:, None, None] if limit.ndim else limit

        def fired(latency: jax.Array) -> jax.Array:
            potentials = final_potentials(latency, weights, time_steps=time_steps, stride=stride, padding=padding)
            above = potentials > limits
            return pooled(neurons.at_last_step(above, time_steps), pool, time_steps)

        return jax.vmap(fired)(latencies)

    many = limit.ndim == 0 and len(weights) >= MANY_FEATURES
    find = dispatch(many and supports_native(weights, time_steps), run_native, xla)
    return find(weights, to_unsigned(latencies, time_steps=time_steps), limit)


def _check_classes(
    latencies: Any, weights: Any, classes: int, time_steps: int, stride: Pair, padding: Pair, **_: Any
) -> None:
    _check(latencies, weights, time_steps, stride, padding)
    check_classes(len(weights), classes)


@kernel("classes", "time_steps", "stride", "padding", "only_largest", check=_check_classes)
def strongest_of_classes(
    latencies: jax.Array,
    weights: jax.Array,
    *,
    classes: int,
    time_steps: int,
    stride: Pair = 1,
    padding: Pair = 0,
    only_largest: bool = False,
) -> jax.Array:
    """The largest potential of each class at the last step, for stimuli (S, C, H, W): (S, classes) float.

    The features form as many groups of equal size as there are classes, in order. With `only_largest`, only the value
    of the class with the strongest neuron is exact, and the values of all other classes may be too low. A decision that
    needs only this class then takes half of the time.
    """
    result = float_array((len(latencies), classes))
    layer = layer_settings(time_steps, stride, padding)
    run_native = native_call("strongest_of_classes", result, classes=classes, only_largest=bool(only_largest), **layer)

    def xla(weights: jax.Array, latencies: jax.Array) -> jax.Array:
        spiked = latencies < time_steps
        taps = weights.transpose(2, 3, 0, 1)
        potentials = neurons.final_potentials_of_block(spiked, taps, padding=padding, stride=stride)
        return potentials.reshape(len(latencies), classes, -1).max(axis=2)

    find = dispatch(supports_native(weights, time_steps), run_native, xla)
    return find(weights, to_unsigned(latencies, time_steps=time_steps))


def _check_earliest(latencies: Any, weights: Any, threshold: Any, classes: int, time_steps: int, **_: Any) -> None:
    check_whole_inputs(latencies, weights, None, threshold, time_steps, 1)
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

    Among equally early neurons it is the strongest one. If no neuron of a class fires, the latency is T, the time is 1,
    and the potential is the largest one at the last step.

    Args:
      latencies: (S, C, H, W) integers in 0..T, the stimuli.
      weights: (F, C, H, W) float, at least 0, with one neuron per feature, which reads the whole input. The features
        form as many groups of equal size as there are classes, in order.
      threshold: a number, or an array (F,). A neuron below a threshold of 0 fires at the first step.
      fractional: as in `timed_spikes`.
    """
    shape = (len(latencies), classes)
    find_native = native_call(
        "earliest_of_classes",
        (byte_array(shape), float_array(shape), float_array(shape)),
        classes=classes,
        steps=int(time_steps),
        fractional=bool(fractional),
    )

    def run_native(weights: jax.Array, latencies: jax.Array, threshold: jax.Array) -> Spikes:
        spikes = Spikes(*find_native(weights[None], latencies, threshold[None]))  # all stimuli share weights, threshold
        # It follows the steps at which inputs fire; the other steps matter only to neurons with a threshold below 0.
        below = (threshold < 0).reshape(classes, -1).any(axis=1)
        at_once = below[None] & (latencies > 0).all(axis=(1, 2, 3))[:, None]
        return jax.tree.map(lambda x: jnp.where(at_once, jnp.zeros_like(x), x), spikes)

    def xla(weights: jax.Array, latencies: jax.Array, threshold: jax.Array) -> Spikes:
        rows = weights.reshape(len(weights), -1)

        def find(latency: jax.Array) -> Spikes:
            spikes = search_spikes(
                latency.reshape(-1), rows, threshold=threshold, time_steps=time_steps, fractional=fractional
            )
            return first_of_classes(jax.tree.map(lambda x: x.reshape(classes, -1), spikes))

        # One by one on a CPU, whose caches hold the products of one stimulus.
        one_by_one = functools.partial(lax.map, find)
        return lax.platform_dependent(latencies, cpu=one_by_one, default=jax.vmap(find))

    thresholds = jnp.broadcast_to(jnp.asarray(threshold, weights.dtype), len(weights))
    find = dispatch(supports_native(weights, time_steps), run_native, xla)
    return find(weights, to_unsigned(latencies, time_steps=time_steps), thresholds)
