"""What decides, for many stimuli at once: which neurons of a layer fire, and the strongest neuron of each class."""

from typing import Any

import jax
import jax.numpy as jnp

from snnjax.core import checks
from snnjax.core.checks import Number, Pair
from snnjax.kernels import backend, neurons
from snnjax.kernels.compiled import final_potentials, pooled
from snnjax.kernels.native import sequences
from snnjax.kernels.sequences import check_classes, check_sequence
from snnjax.kernels.spikes import Pooling, check_pool, to_unsigned

MANY_FEATURES = 64
"""Features from which the compiled form adds up integers, 64 of them side by side; with fewer, floats are faster."""


def _check(latencies: Any, weights: Any, time_steps: int, stride: Pair, padding: Pair, **_: Any) -> None:
    check_sequence(weights, latencies, None, 1, time_steps=time_steps, stride=stride, padding=padding)


@checks.kernel("time_steps", "stride", "padding", "pool", check=_check)
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
    threshold = 0.0 if threshold is None else threshold
    layer: dict[str, Any] = dict(time_steps=time_steps, stride=stride, padding=padding)

    def xla(latencies: jax.Array, weights: jax.Array, threshold: Any) -> jax.Array:
        limits = threshold if threshold.ndim == 0 else threshold[:, None, None]

        def fired(latency: jax.Array) -> jax.Array:
            above = final_potentials(latency, weights, **layer) > limits
            return pooled(neurons.at_last_step(above, time_steps), pool, time_steps)

        return jax.vmap(fired)(latencies)

    def compiled(latencies: jax.Array, weights: jax.Array, threshold: Any) -> jax.Array:
        return sequences.final_latencies(
            to_unsigned(latencies, time_steps=time_steps), weights, threshold=threshold, pool=pool, **layer
        )

    many = jnp.ndim(threshold) == 0 and len(weights) >= MANY_FEATURES
    supported = many and backend.supports_bytes(weights, time_steps)
    return backend.dispatch(supported, compiled, xla, latencies, weights, threshold)


def _check_classes(latencies: Any, weights: Any, classes: int, **layer: Any) -> None:
    _check(latencies, weights, **{name: layer[name] for name in ("time_steps", "stride", "padding")})
    check_classes(len(weights), classes)


@checks.kernel("classes", "time_steps", "stride", "padding", "only_largest", check=_check_classes)
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
    layer: dict[str, Any] = dict(time_steps=time_steps, stride=stride, padding=padding)

    def xla(latencies: jax.Array, weights: jax.Array) -> jax.Array:
        spiked = latencies < time_steps
        taps = weights.transpose(2, 3, 0, 1)
        potentials = neurons.final_potentials_of_block(spiked, taps, padding=padding, stride=stride)
        return potentials.reshape(len(latencies), classes, -1).max(axis=2)

    def compiled(latencies: jax.Array, weights: jax.Array) -> jax.Array:
        given = to_unsigned(latencies, time_steps=time_steps), weights
        return sequences.strongest_of_classes(*given, classes=classes, only_largest=only_largest, **layer)

    return backend.dispatch(backend.supports_bytes(weights, time_steps), compiled, xla, latencies, weights)
