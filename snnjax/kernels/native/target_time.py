"""Layers that learn patches with target times, in C++: whole sequences of stimuli in one call."""

import jax
import jax.numpy as jnp

from snnjax.core import checks
from snnjax.core.checks import Number, Pair
from snnjax.kernels.native import _call, float_array, int_array, layer


def learn(
    weights: jax.Array,
    threshold: jax.Array,
    latencies: jax.Array,
    positions: jax.Array,
    learns: jax.Array,
    *,
    rate: Number,
    threshold_rate: Number,
    target_time: Number,
    time_steps: int,
    beta: Number,
    threshold_min: Number,
    bounds: checks.Bounds,
    quiet: Number,
    most_quiet: int,
    stride: Pair = 1,
    padding: Pair = 0,
) -> tuple[jax.Array, ...]:
    """The fields of `kernels.LearnedTargetTime`.

    Weights are (F, C, kh, kw) float32, latencies (S, C, H, W) uint8, and positions (S, P, 2) int32. Thresholds fall
    after `most_quiet` patches in a row at which inputs fire, but no neuron.
    """
    numbers = jnp.stack([jnp.float32(x) for x in (rate, threshold_rate, beta, target_time, threshold_min, *bounds)])
    per_patch = int_array(positions.shape[:2])
    results = float_array(weights.shape), float_array(threshold.shape), per_patch, per_patch, int_array(())
    args = weights, threshold, latencies, positions, learns, numbers, jnp.asarray(quiet, jnp.int32)
    _, settings = layer(latencies, weights, time_steps, stride, padding)
    return _call("learn_target_time", results, *args, most_quiet=most_quiet, **settings)
