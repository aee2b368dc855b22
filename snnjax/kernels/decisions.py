"""What decides, for many stimuli at once: which neurons of a layer fire, and the strongest neuron of each class."""

from typing import Any

import jax
import jax.numpy as jnp

from snnjax.core.checks import Number, Pair
from snnjax.kernels import neurons
from snnjax.kernels.compiled import final_potentials, pooled
from snnjax.kernels.kernel import (
    byte_array,
    dispatch,
    float_array,
    kernel,
    layer_settings,
    native_call,
    supports_native,
)
from snnjax.kernels.sequences import check_classes, check_sequence
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
    """Which neurons fire at all, for stimuli (S, C, H, W): (S, F, H', W') unsigned latencies, pooled as by `latencies`.

    A neuron whose potential at the last step exceeds the threshold (None: 0) counts as firing at that step, T - 1. All
    other neurons are silent, T. If no weight is below 0, these are the neurons that fire at any step, found in 1/T of
    the work.
    """
    check_pool(pool)
    limit = jnp.asarray(0.0 if threshold is None else threshold, weights.dtype)
    layer: dict[str, Any] = dict(time_steps=time_steps, stride=stride, padding=padding)
    maps = (pool or Pooling()).of(layer_shape(latencies.shape, weights.shape, stride, padding))
    result = byte_array((len(latencies), *maps.shape))
    run_native = native_call("final_latencies", result, pool=maps.setting, **layer_settings(**layer))

    def xla(weights: jax.Array, latencies: jax.Array, limit: jax.Array) -> jax.Array:
        limits = limit[:, None, None] if limit.ndim else limit

        def fired(latency: jax.Array) -> jax.Array:
            above = final_potentials(latency, weights, **layer) > limits
            return pooled(neurons.at_last_step(above, time_steps), pool, time_steps)

        return jax.vmap(fired)(latencies)

    many = limit.ndim == 0 and len(weights) >= MANY_FEATURES
    find = dispatch(many and supports_native(weights, time_steps), run_native, xla)
    return find(weights, to_unsigned(latencies, time_steps=time_steps), limit)


def _check_classes(latencies: Any, weights: Any, classes: int, **layer: Any) -> None:
    _check(latencies, weights, **{name: layer[name] for name in ("time_steps", "stride", "padding")})
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

    The features fall into as many groups of equal size as there are classes, in order. With `only_largest`, the values
    of all classes but that of the strongest neuron may be lower: a decision that asks only for this class takes half of
    the time.
    """
    result = float_array((len(latencies), classes))
    layer = layer_settings(time_steps, stride, padding)
    decided = dict(classes=classes, only_largest=bool(only_largest))
    run_native = native_call("strongest_of_classes", result, **decided, **layer)

    def xla(weights: jax.Array, latencies: jax.Array) -> jax.Array:
        spiked = latencies < time_steps
        taps = weights.transpose(2, 3, 0, 1)
        potentials = neurons.final_potentials_of_block(spiked, taps, padding=padding, stride=stride)
        return potentials.reshape(len(latencies), classes, -1).max(axis=2)

    find = dispatch(supports_native(weights, time_steps), run_native, xla)
    return find(weights, to_unsigned(latencies, time_steps=time_steps))
