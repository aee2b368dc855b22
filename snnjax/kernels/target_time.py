"""Features with target times: thresholds that adapt until winners fire at a given time, and multiplicative STDP.

References:
  Falez et al. 2019, Multi-layered spiking neural network with target timestamp threshold adaptation and STDP.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from snnjax.core import checks
from snnjax.core.checks import Bounds, Number, Pair
from snnjax.core.sharding import vary_like
from snnjax.kernels import plasticity
from snnjax.kernels.kernel import dispatch, float_array, int_array, kernel, layer_settings, native_call, supports_native
from snnjax.kernels.neurons import product, strongest
from snnjax.kernels.plasticity import in_dtype_of
from snnjax.kernels.sequences import check_sequence
from snnjax.kernels.spikes import output_size, pad, to_unsigned

QUIET = 20
"""Patches in a row at which inputs fire, but no neuron: after so many, thresholds fall."""


class Patches(NamedTuple):
    """The results of learning from N patches, one after the other.

    Attributes:
      weights: (F, K) float32, after the last patch.
      threshold: (F,) float32, after the last patch.
      feature: (N,) int32, the winner of each patch, -1 where no neuron fired.
      latency: (N,) int32, the step of the winner's spike, T where no neuron fired.
      quiet: () int32, the number of latest consecutive patches at which inputs fired but no neuron did.
    """

    weights: jax.Array
    threshold: jax.Array
    feature: jax.Array
    latency: jax.Array
    quiet: jax.Array


class LearnedTargetTime(NamedTuple):
    """The result of `learn_target_time` from P patches of each of S stimuli.

    Attributes:
      weights: (F, C, kh, kw), after the last stimulus.
      threshold: (F,), after the last stimulus.
      feature: (S, P) int32, the winner of each patch, -1 where no neuron fired or nothing was learned.
      latency: (S, P) int32, the step of the winner's spike, T where no neuron fired or nothing was learned.
      quiet: () int32, the number of latest consecutive patches at which inputs fired but no neuron did.
    """

    weights: jax.Array
    threshold: jax.Array
    feature: jax.Array
    latency: jax.Array
    quiet: jax.Array


@kernel("time_steps")
def first_to_fire(
    patch: jax.Array, weights: jax.Array, threshold: jax.Array, *, time_steps: int
) -> tuple[jax.Array, jax.Array]:
    """The neuron that reaches its threshold first; in a tie, that with the largest potential, then the lowest index.

    A neuron fires at the first input spike that brings its potential to its threshold or above it. `patch` is (K,)
    latencies, `weights` (F, K) >= 0 and `threshold` (F,) > 0 float. Returns the feature and the step, () int32 each, or
    -1 and T if no neuron fires.
    """
    checks.latency("patch", patch, "K", time_steps=checks.time_steps(time_steps))
    checks.array("weights", weights, "F K", "floats")
    checks.array("threshold", threshold, "F", "floats")
    checks.shape("weights", weights, (*threshold.shape, *patch.shape), "`threshold` and `patch`")

    def potential(step: Any) -> jax.Array:
        return product(weights, patch <= jnp.minimum(step, time_steps - 1).astype(patch.dtype))

    first = jnp.int32(0)
    step = jnp.int32(time_steps)
    # Potentials never fall, so the first step at which any neuron fires can be bisected: 255 time steps take nine
    # products.
    for _ in range(time_steps.bit_length()):
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
    """Learns from patches (N, K) of latencies, in order: `Patches`; weights (F, K) and thresholds (F,) are float32.

    The neuron that `first_to_fire` finds wins a patch. Its weights (K,) become `update_weights(weights, patch, step)`,
    and all thresholds become `update_thresholds(threshold, feature, step)`. If no neuron fires, nothing changes.

    This goes beyond the paper: after `QUIET` consecutive patches at which inputs fire but no neuron does, each further
    such patch changes the thresholds like a spike of feature -1 at T, because otherwise they would never fall again.
    `quiet` is the number of such patches immediately before the first one.
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

    Weights of inputs that fired at `step` or earlier change by w += rate exp(-beta w), all other weights by
    w -= rate exp(-beta (1 - w)). In the exponents, w is the position of the weight between its bounds, 0..1. Weights
    are clipped to their bounds.
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
    """All thresholds (F,) after a patch at which `feature` (-1: none) fired at the time t = step / T.

    Every threshold falls by threshold_rate (t - target_time). In addition, the winner's threshold rises by
    threshold_rate, and the thresholds of the other F - 1 features fall by threshold_rate / (F - 1). None falls below
    threshold_min. If F is 1, only the first change applies.
    """
    threshold_rate, target_time, threshold_min = in_dtype_of(threshold, threshold_rate, target_time, threshold_min)
    count = len(threshold)
    rest = -1 / (count - 1) if count > 1 else 0.0
    share = jnp.where(jnp.arange(count) == feature, float(count > 1), rest) * (feature >= 0)
    moved = threshold + threshold_rate * (share - (step.astype(threshold.dtype) / time_steps - target_time))
    return jnp.maximum(moved, threshold_min)


def _check_target_time(
    weights: Any,
    threshold: Any,
    latencies: Any,
    positions: Any,
    learns: Any,
    bounds: Any,
    time_steps: int,
    stride: Pair,
    padding: Pair,
    **numbers: Any,
) -> None:
    check_sequence(weights, latencies, learns, 1, time_steps=time_steps, stride=stride, padding=padding)
    checks.array("threshold", threshold, "F", "floats")
    checks.shape("threshold", threshold, weights.shape[:1], "`weights`")
    checks.at_least("threshold", threshold, 0, above=True)
    checks.array("positions", positions, "S P 2", "integers")
    checks.shape("positions", positions, (len(latencies), positions.shape[1], 2), "`latencies`, row and column")
    if (known := checks.concrete_values(positions)) is not None:
        rows, columns = checks.pair("padding", padding, 0)
        size = latencies.shape[2] + 2 * rows, latencies.shape[3] + 2 * columns
        neurons = output_size(size, weights.shape[2:], checks.pair("stride", stride, 1))
        checks.check_positions("positions", known.reshape(-1, 2), neurons, "give the layer's `padding` and `stride`")
    checks.bounds(bounds, least=0)
    for name, value in numbers.items():
        checks.real(name, value)
    checks.at_least("threshold_min", numbers["threshold_min"], 0, above=True)


@kernel("time_steps", "stride", "padding", check=_check_target_time)
def learn_target_time(
    weights: jax.Array,
    threshold: jax.Array,
    latencies: jax.Array,
    positions: jax.Array,
    learns: jax.Array | None = None,
    *,
    rate: Number,
    threshold_rate: Number,
    target_time: Number,
    time_steps: int,
    beta: Number = 1.0,
    threshold_min: Number = 2.0,
    bounds: Bounds = (0.0, 1.0),
    quiet: Number = 0,
    stride: Pair = 1,
    padding: Pair = 0,
) -> LearnedTargetTime:
    """Features with target times learn from patches of stimuli, in order (Falez et al. 2019).

    A patch is the input of a neuron at one of the layer's positions. For each patch, the first neuron to fire learns by
    multiplicative STDP (`snnjax.kernels.target_time.update_weights`), and all thresholds are adapted so that winners
    come to fire at the target time, and all features equally often (`snnjax.kernels.target_time.update_thresholds`).
    The patches are processed as by `snnjax.kernels.target_time.learn_patches`.

    The weights are clipped to the bounds before the first stimulus.

    Args:
      weights: (F, C, kh, kw) float.
      threshold: (F,) float above 0. While features learn, a neuron fires as soon as its potential reaches it (>=).
      latencies: (S, C, H, W) integers in 0..T, the stimuli.
      positions: (S, P, 2) integers, row and column of the P patches of each stimulus, among the layer's H' x W'.
      learns: (S,) bool, the stimuli to learn from; all other stimuli change nothing. None: all.
      rate: the learning rate of the weights.
      threshold_rate: the learning rate of the thresholds.
      target_time: t*, as a share of the time steps, 0..1.
      beta: how strongly changes of a weight shrink as it approaches a bound.
      threshold_min: the lowest threshold, above 0.
      bounds: lower and upper bound of a weight, at least 0.
      quiet: the number of consecutive patches, immediately before the first one, at which inputs have fired but no
        neuron has. This goes beyond the paper: thresholds fall once there are more than 20 such patches, because
        otherwise they would never fall again.
    """
    per_patch = int_array(positions.shape[:2])
    results = float_array(weights.shape), float_array(threshold.shape), per_patch, per_patch, int_array(())
    layer = layer_settings(time_steps, stride, padding)
    run_native = native_call("learn_target_time", results, most_quiet=QUIET, **layer)

    def xla(
        weights: jax.Array,
        threshold: jax.Array,
        latencies: jax.Array,
        positions: jax.Array,
        learns: jax.Array,
        numbers: jax.Array,
        quiet: jax.Array,
    ) -> tuple[jax.Array, ...]:
        rate, threshold_rate, beta, target_time, threshold_min, lower, upper = numbers
        change_weights = functools.partial(
            update_weights, rate=rate, beta=beta, bounds=(lower, upper), time_steps=time_steps
        )
        change_thresholds = functools.partial(
            update_thresholds,
            threshold_rate=threshold_rate,
            target_time=target_time,
            threshold_min=threshold_min,
            time_steps=time_steps,
        )

        def learn_one(learned: Any, stimulus: Any) -> tuple[Any, Any]:
            weights, threshold, quiet = learned
            latency, positions, learns = stimulus
            latency = jnp.where(learns, latency, time_steps)  # nothing is learned from a patch without spikes
            padded = pad(latency, padding, time_steps=time_steps)
            patches = plasticity.patches(padded, positions, kernel=weights.shape[2:], stride=stride)
            found = learn_patches(
                patches.reshape(len(positions), -1),
                weights.reshape(len(weights), -1),
                threshold,
                change_weights,
                change_thresholds,
                time_steps=time_steps,
                quiet=quiet,
            )
            after = found.weights.reshape(weights.shape), found.threshold, found.quiet
            return after, (found.feature, found.latency)

        stimuli = latencies, positions, learns
        learned = vary_like((weights, threshold, quiet), stimuli, numbers)
        (weights, threshold, quiet), (feature, latency) = lax.scan(learn_one, learned, stimuli)
        return weights, threshold, feature, latency, quiet

    numbers = rate, threshold_rate, beta, target_time, threshold_min, *bounds
    dtype = jnp.result_type(weights, threshold)
    supported = supports_native(weights, time_steps) and threshold.dtype == jnp.float32
    learned = dispatch(supported, run_native, xla)(
        jnp.clip(weights, *in_dtype_of(weights, *bounds)),
        threshold,
        to_unsigned(latencies, time_steps=time_steps),
        jnp.asarray(positions, jnp.int32),
        jnp.ones(len(latencies), bool) if learns is None else jnp.asarray(learns),
        jnp.stack([jnp.asarray(number, dtype) for number in numbers]),
        jnp.asarray(quiet, jnp.int32),
    )
    return LearnedTargetTime(*learned)
