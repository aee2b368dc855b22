"""Features with target times: thresholds that adapt until winners fire at a given time, and multiplicative STDP.

References:
  Falez et al. 2019, Multi-layered spiking neural network with target timestamp threshold adaptation and STDP.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from snnjax.core import checks
from snnjax.core.checks import Bounds, Number
from snnjax.kernels.neurons import product, strongest
from snnjax.kernels.plasticity import in_dtype_of

QUIET = 20
"""Patches in a row at which inputs fire, but no neuron: after so many, thresholds fall."""


class Patches(NamedTuple):
    """The results of learning from N patches, one after the other.

    Attributes:
      weights: (F, K) float32, after the last patch.
      threshold: (F,) float32, after the last patch.
      feature: (N,) int32, the winner of each patch, -1 where no neuron fired.
      latency: (N,) int32, the step of the winner's spike, T where no neuron fired.
      quiet: () int32, the last patches in a row at which inputs fired, but no neuron.
    """

    weights: jax.Array
    threshold: jax.Array
    feature: jax.Array
    latency: jax.Array
    quiet: jax.Array


@checks.kernel("time_steps")
def first_to_fire(
    patch: jax.Array, weights: jax.Array, threshold: jax.Array, *, time_steps: int
) -> tuple[jax.Array, jax.Array]:
    """The neuron that reaches its threshold first, then of the largest potential, then of the lowest index.

    A neuron fires at the first input spike that brings its potential to its threshold or above it. `patch` is (K,)
    latencies, `weights` (F, K) >= 0 and `threshold` (F,) > 0 float. The feature and step, () int32, are -1
    and T where no neuron fires.
    """
    checks.latency("patch", patch, "K", time_steps=checks.time_steps(time_steps))
    checks.array("weights", weights, "F K", "floats")
    checks.array("threshold", threshold, "F", "floats")
    checks.shape("weights", weights, (*threshold.shape, *patch.shape), "`threshold` and `patch`")

    def potential(step: Any) -> jax.Array:
        return product(weights, patch <= jnp.minimum(step, time_steps - 1).astype(patch.dtype))

    first = jnp.int32(0)
    step = jnp.int32(time_steps)
    for _ in range(time_steps.bit_length()):  # bisection: potentials never fall
        middle = (first + step) // 2
        fired = (potential(middle) >= threshold).any()
        first = jnp.where(fired, first, jnp.minimum(middle + 1, step))
        step = jnp.where(fired, middle, step)
    then = potential(step)
    feature = strongest(then, then >= threshold)[1]
    return jnp.where(step < time_steps, feature, -1), step


def learn_patches(
    patches: jax.Array,
    weights: jax.Array,
    threshold: jax.Array,
    update_weights: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    update_thresholds: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    *,
    time_steps: int,
    quiet: Number = 0,
) -> Patches:
    """Learns from patches (N, K), latencies, in order: `Patches`; weights are (F, K) float32, thresholds (F,) float32.

    For each patch `first_to_fire` wins. Its weights (K,) become `update_weights(weights, patch, step)`, and all
    thresholds `update_thresholds(threshold, feature, step)`. If no neuron fires, nothing changes.

    Beyond the paper: after `QUIET` patches in a row at which inputs fire, but no neuron, thresholds change at each
    further one as after a spike of feature -1 at T, since otherwise they would never fall again. `quiet` is the number
    of such patches before the first one.
    """
    checks.array("patches", patches, "N K")

    def one(learned: Any, patch: jax.Array) -> Any:
        weights, threshold, quiet = learned
        feature, step = first_to_fire(patch, weights, threshold, time_steps=time_steps)
        row = lax.dynamic_index_in_dim(weights, feature, 0, keepdims=False)  # of any feature where no neuron fired
        row = jnp.where(feature < 0, row, update_weights(row, patch, step))
        lit = (patch < time_steps).any()
        quiet = jnp.where(feature < 0, quiet + lit, 0)
        moves = (feature >= 0) | (lit & (quiet > QUIET))
        threshold = jnp.where(moves, update_thresholds(threshold, feature, step), threshold)
        return (lax.dynamic_update_index_in_dim(weights, row, feature, 0), threshold, quiet), (feature, step)

    learned, (feature, step) = lax.scan(one, (weights, threshold, jnp.int32(quiet)), patches)
    return Patches(learned[0], learned[1], feature, step, learned[2])


def update_weights(
    weights: jax.Array,
    patch: jax.Array,
    step: jax.Array,
    *,
    rate: Number,
    beta: Number,
    bounds: Bounds,
    time_steps: int,
) -> jax.Array:
    """The winner's weights (K,) after a patch (K,) at which it fired at `step`, by multiplicative STDP.

    w += rate exp(-beta w) where the input fired at `step` or before it, w -= rate exp(-beta (1 - w)) elsewhere, w the
    weight's place between its bounds; clipped to them.
    """
    lower, upper, rate, beta = in_dtype_of(weights, *bounds, rate, beta)
    place = (weights - lower) / (upper - lower)
    causal = (patch <= step.astype(patch.dtype)) & (patch < time_steps)
    change = rate * jnp.where(causal, 1, -1) * jnp.exp(-beta * jnp.where(causal, place, 1 - place))
    return jnp.clip(weights + change, lower, upper)


def update_thresholds(
    threshold: jax.Array,
    feature: jax.Array,
    step: jax.Array,
    *,
    threshold_rate: Number,
    target_time: Number,
    threshold_min: Number,
    time_steps: int,
) -> jax.Array:
    """All thresholds (F,) after a patch at which `feature` fired, -1 for none, at t = step / T.

    All fall by threshold_rate (t - target_time); the winner's rises by threshold_rate, those of the F - 1 others fall
    by threshold_rate / (F - 1); none below threshold_min. One feature alone just follows t.
    """
    threshold_rate, target_time, threshold_min = in_dtype_of(threshold, threshold_rate, target_time, threshold_min)
    count = len(threshold)
    rest = -1 / (count - 1) if count > 1 else 0.0
    share = jnp.where(jnp.arange(count) == feature, float(count > 1), rest) * (feature >= 0)
    moved = threshold + threshold_rate * (share - (step.astype(jnp.float32) / time_steps - target_time))
    return jnp.maximum(moved, threshold_min)
