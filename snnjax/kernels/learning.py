"""Learning from a sequence of stimuli in one call, which applies `winners` and `stdp` to one stimulus after another.

Each function is defined by a `jax.lax.scan` over groups of stimuli. Within a group, all responses are computed with the
same weights; then the weights are updated for each stimulus in order. On a CPU, compiled code is used for groups of one
stimulus.

References:
  Kheradpisheh et al. 2018, STDP-based spiking deep convolutional neural networks for object recognition.
  Mozafari et al. 2018, First-spike-based visual categorization using reward-modulated STDP.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from snnjax.core import checks
from snnjax.core.checks import Bounds, Number, Pair
from snnjax.kernels import plasticity
from snnjax.kernels.competition import Winners, feature_inhibition, k_winners
from snnjax.kernels.compiled import final_potentials, stdp, winners
from snnjax.kernels.kernel import dispatch, float_array, int_array, kernel, layer_settings, native_call, supports_native
from snnjax.kernels.neurons import fire_at_last_step
from snnjax.kernels.plasticity import bounds_array, reward_rates
from snnjax.kernels.sequences import check_labels, check_sequence, in_groups
from snnjax.kernels.spikes import Pooling, layer_shape, pad, to_unsigned


class LearnedSTDP(NamedTuple):
    """The result of `learn_stdp`.

    Attributes:
      weights: (F, C, kh, kw), after the last stimulus.
      feature: (S, k) int32, the features that won and learned, -1 for unused entries.
    """

    weights: jax.Array
    feature: jax.Array


class LearnedReward(NamedTuple):
    """The result of `learn_reward`.

    Attributes:
      weights: (F, C, kh, kw), after the last stimulus.
      vote: (S,) int32, the class of the strongest neuron; -1 if no potential is above 0, or if `learns` excludes the
        stimulus.
      feature: (S,) int32, the feature that learned, or -1 if none did.
    """

    weights: jax.Array
    vote: jax.Array
    feature: jax.Array


def update_in_order(
    weights: jax.Array,
    latencies: jax.Array,
    won: Winners,
    rates: jax.Array,
    *,
    bounds: Bounds,
    time_steps: int,
    stabiliser: bool,
    stride: Pair,
    padding: Pair,
) -> jax.Array:
    """The weights after the updates for B stimuli (B, C, H, W), in order, given their winners (B, k)."""

    def one_by_one(weights: jax.Array, latencies: jax.Array, won: Winners, rates: jax.Array, bounds: Any) -> jax.Array:
        learn = functools.partial(
            stdp, bounds=bounds, time_steps=time_steps, stabiliser=stabiliser, stride=stride, padding=padding
        )

        def update(weights: jax.Array, stimulus: Any) -> tuple[jax.Array, None]:
            return learn(weights, *stimulus), None

        return lax.scan(update, weights, (latencies, won, rates))[0]

    def at_once(weights: jax.Array, latencies: jax.Array, won: Winners, rates: jax.Array, bounds: Any) -> jax.Array:
        kernel = weights.shape[2], weights.shape[3]

        def causal(latency: jax.Array, won: Winners) -> jax.Array:
            padded = pad(latency, padding, time_steps=time_steps)
            return plasticity.causal_inputs(padded, won, kernel=kernel, time_steps=time_steps, stride=stride)

        causes = jax.vmap(causal)(latencies, won)
        in_order = plasticity.learned_in_order
        return in_order(weights, won.feature, causes, rates, bounds=bounds, stabiliser=stabiliser)

    # On an accelerator, launching an update costs more than computing all rows; on a CPU, only the rows of the winners
    # are touched.
    return lax.platform_dependent(weights, latencies, won, rates, bounds, cpu=one_by_one, default=at_once)


def _check_stdp(
    weights: Any,
    latencies: Any,
    rates: Any,
    learns: Any,
    threshold: Any,
    k: int,
    time_steps: int,
    stride: Pair,
    padding: Pair,
    update_batch: int,
    **_: Any,
) -> None:
    check_sequence(weights, latencies, learns, update_batch, time_steps=time_steps, stride=stride, padding=padding)
    checks.integer("k", k, 1)
    checks.threshold(threshold, len(weights))
    if np.ndim(rates) < 2:
        checks.rates(rates)
        return
    checks.array("rates", rates, "S 2", "real numbers")
    checks.shape("rates", rates, (len(latencies), 2), "`latencies`")


@kernel("k", "stabiliser", "stride", "padding", "time_steps", "update_batch", check=_check_stdp)
def learn_stdp(
    weights: jax.Array,
    latencies: jax.Array,
    rates: jax.Array,
    learns: jax.Array | None = None,
    *,
    threshold: Number | None,
    k: int,
    radius: Number,
    time_steps: int,
    bounds: Bounds = (0.0, 1.0),
    stabiliser: bool = True,
    stride: Pair = 1,
    padding: Pair = 0,
    update_batch: int = 1,
) -> LearnedSTDP:
    """Trains a layer by STDP on stimuli, in order: applies `winners` and then `stdp` to each stimulus.

    The weights are clipped to the bounds before the first stimulus.

    Args:
      latencies: (S, C, H, W) integers in 0..T, the stimuli.
      rates: (a+, a-) as in `stdp`, (2,) float for all stimuli, or (S, 2) for each stimulus.
      learns: (S,) bool, whether to learn from each stimulus; the other stimuli change nothing and have no winners.
        None selects all stimuli.
      update_batch: the number of successive stimuli whose winners are found with the same weights. Accelerators need a
        large number: with 1, they compute one stimulus at a time.
    """
    count = len(latencies)
    layer = layer_settings(time_steps, stride, padding)
    results = float_array(weights.shape), int_array((count, k))
    run_native = native_call("learn_stdp", results, stabiliser=bool(stabiliser), **layer)

    def xla(
        weights: jax.Array,
        latencies: jax.Array,
        threshold: jax.Array | None,
        radius: jax.Array,
        rates: jax.Array,
        bounds: jax.Array,
        learns: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        find_winners = functools.partial(
            winners,
            threshold=threshold,
            k=k,
            radius=radius,
            time_steps=time_steps,
            stride=stride,
            padding=padding,
        )
        update = functools.partial(
            update_in_order,
            bounds=tuple(bounds),
            time_steps=time_steps,
            stabiliser=stabiliser,
            stride=stride,
            padding=padding,
        )

        def learn_group(weights: jax.Array, group: Any) -> tuple[jax.Array, jax.Array]:
            latencies, rates, learns = group
            won = jax.vmap(lambda latency: find_winners(latency, weights))(latencies)
            won = dataclasses.replace(won, feature=jnp.where(learns[:, None], won.feature, -1))
            return update(weights, latencies, won, rates), won.feature

        return in_groups(learn_group, weights, (latencies, rates, learns), update_batch)

    # Compiled code learns from single stimuli only. Batches gain nothing on a CPU: on two cores, layer 2 of
    # mozafari2018 learned from 32,800 images a second one by one, and from 23,000 to 24,000 in batches of 16 or more.
    supported = update_batch == 1 and threshold is not None and supports_native(weights, time_steps)
    ends = bounds_array(weights, bounds)
    learned = dispatch(supported, run_native, xla)(
        jnp.clip(weights, *ends),
        to_unsigned(latencies, time_steps=time_steps),
        None if threshold is None else jnp.asarray(threshold, weights.dtype),
        jnp.asarray(radius, jnp.int32),
        jnp.broadcast_to(jnp.asarray(rates, weights.dtype), (count, 2)),
        ends,
        jnp.ones(count, bool) if learns is None else learns,
    )
    return LearnedSTDP(*learned)


def _check_reward(
    weights: Any,
    latencies: Any,
    labels: Any,
    reward: Any,
    punish: Any,
    learns: Any,
    kept: Any,
    classes: int,
    time_steps: int,
    stride: Pair,
    padding: Pair,
    update_batch: int,
    **_: Any,
) -> None:
    check_sequence(weights, latencies, learns, update_batch, time_steps=time_steps, stride=stride, padding=padding)
    check_labels(labels, latencies, len(weights), classes)
    checks.rates(reward, "reward")
    checks.rates(punish, "punish")
    if kept is not None:
        checks.array("kept", kept, "F", "booleans")
        checks.shape("kept", kept, weights.shape[:1], "`weights`")


@kernel("classes", "stabiliser", "stride", "padding", "time_steps", "update_batch", check=_check_reward)
def learn_reward(
    weights: jax.Array,
    latencies: jax.Array,
    labels: jax.Array,
    reward: jax.Array,
    punish: jax.Array,
    learns: jax.Array | None = None,
    kept: jax.Array | None = None,
    *,
    classes: int,
    time_steps: int,
    bounds: Bounds = (0.2, 0.8),
    stabiliser: bool = False,
    stride: Pair = 1,
    padding: Pair = 0,
    update_batch: int = 1,
) -> LearnedReward:
    """Trains a deciding layer by R-STDP on stimuli and their labels, in order.

    The features form one group of equal size per class, in order. For each stimulus, the neuron with the largest
    potential at the last time step votes for the class of its feature; in a tie it is the neuron with the lowest flat
    index. If no potential is above 0, the layer is silent and learns nothing. The feature that has voted learns by
    `stdp`, with the rates `reward` if the vote equals the label, and otherwise `punish`. All inputs that fire are
    causal.

    The weights are clipped to the bounds before the first stimulus.

    Args:
      latencies: (S, C, H, W) integers in 0..T, the stimuli. It only matters whether inputs fire, not when.
      labels: (S,) integers, the classes; -1 for a stimulus from which nothing is learned, but which has a vote.
      reward: (2,) float, (a+, a-) after a correct vote.
      punish: (2,) float, (a+, a-) after a wrong vote.
      learns: (S,) bool, whether to vote on and learn from each stimulus; the other stimuli have the vote -1. None
        selects all stimuli.
      kept: (F,) bool, the features that may fire, as with dropout; with None, all features may.
      update_batch: the number of successive stimuli that are voted on with the same weights.
    """
    count = len(latencies)
    per_class = len(weights) // classes
    layer = layer_settings(time_steps, stride, padding)
    results = float_array(weights.shape), int_array((count,)), int_array((count,))
    run_native = native_call("learn_reward", results, classes=classes, stabiliser=bool(stabiliser), **layer)

    def xla(
        weights: jax.Array,
        latencies: jax.Array,
        labels: jax.Array,
        rates: jax.Array,
        bounds: jax.Array,
        handicap: jax.Array,
        learns: jax.Array,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        add_up = functools.partial(final_potentials, time_steps=time_steps, stride=stride, padding=padding)
        update = functools.partial(
            update_in_order,
            bounds=tuple(bounds),
            time_steps=time_steps,
            stabiliser=stabiliser,
            stride=stride,
            padding=padding,
        )

        def learn_group(weights: jax.Array, group: Any) -> tuple[jax.Array, Any]:
            latencies, labels, learns = group

            def respond(latency: jax.Array) -> Winners:
                spikes = fire_at_last_step(add_up(latency, weights), time_steps=time_steps)
                spikes = feature_inhibition(spikes, handicap < 0, time_steps=time_steps)
                return k_winners(spikes, k=1, radius=0, time_steps=time_steps)

            won = jax.vmap(respond)(latencies)
            feature = jnp.where(learns, won.feature[:, 0], -1)
            vote = jnp.where(feature < 0, -1, feature // per_class)
            outcome = jnp.where((vote < 0) | (labels < 0), 0, jnp.where(vote == labels, 1, -1))
            feature = jnp.where(outcome == 0, -1, feature)
            won = dataclasses.replace(won, feature=feature[:, None])
            of_each = jax.vmap(lambda outcome: reward_rates(outcome, *rates))(outcome)
            return update(weights, latencies, won, of_each), (vote, feature)

        learned, (vote, feature) = in_groups(learn_group, weights, (latencies, labels, learns), update_batch)
        return learned, vote, feature

    ends = bounds_array(weights, bounds)
    # Compiled code learns from single stimuli only: 20,000 images a second on two cores (mozafari2018). Sharing the
    # weights among several stimuli was never faster: the best batch size, with one product for all stimuli, reached
    # 13,300.
    learned = dispatch(update_batch == 1 and supports_native(weights, time_steps), run_native, xla)(
        jnp.clip(weights, *ends),
        to_unsigned(latencies, time_steps=time_steps),
        jnp.asarray(labels, jnp.int32),
        jnp.stack([jnp.asarray(reward, weights.dtype), jnp.asarray(punish, weights.dtype)]),
        ends,
        _handicap(kept, len(weights)),
        jnp.ones(count, bool) if learns is None else learns,
    )
    return LearnedReward(*learned)


def _handicap(kept: jax.Array | None, features: int) -> jax.Array:
    """The value added to the potentials of each feature, (F,): -inf for features that must not fire, otherwise 0."""
    return jnp.zeros(features, jnp.float32) if kept is None else jnp.where(kept, jnp.float32(0), -jnp.inf)


class RewardLayer(NamedTuple):
    """One of the two layers of `learn_deep_by_reward`.

    Attributes:
      weights: (F, C, kh, kw) float32, within the bounds.
      rates: (2, 2) float32, (a+, a-) after a correct and after a wrong vote.
      bounds: lower and upper bound of a weight.
      stabiliser: whether each change is multiplied by (w - lower)(upper - w).
      stride, padding: rows and columns.
    """

    weights: jax.Array
    rates: jax.Array
    bounds: Bounds
    stabiliser: bool
    stride: Pair = 1
    padding: Pair = 0


def learn_deep_by_reward(
    earlier: RewardLayer,
    deciding: RewardLayer,
    latencies: jax.Array,
    labels: jax.Array,
    learns: jax.Array,
    turns: jax.Array,
    *,
    threshold: Number,
    winners: int,
    radius: Number,
    classes: int,
    time_steps: int,
    kept: jax.Array | None = None,
    pool: Pooling | None = None,
) -> tuple[jax.Array, ...]:
    """`learn_reward` on a CPU for two layers: the winners of an earlier, pooled layer learn from the same vote.

    Returns the weights of both layers, then int32 arrays: the vote (S,), the features of the winners of the earlier
    layer (S, k), and the feature of the deciding layer that has learned (S,).

    `threshold`, a single number, `winners` and `radius` are those of the earlier layer, as in `kernels.winners`;
    `turns`, (2,) int32, says which of the two layers learn: a layer with 0 does not. Latencies are uint8.
    """
    shape = layer_shape(latencies.shape, earlier.weights.shape, earlier.stride, earlier.padding)
    learn = native_call(
        "learn_deep_by_reward",
        (
            float_array(earlier.weights.shape),
            float_array(deciding.weights.shape),
            int_array(labels.shape),
            int_array((len(labels), winners)),
            int_array(labels.shape),
        ),
        earlier=layer_settings(time_steps, earlier.stride, earlier.padding)["layer"],
        pool=(pool or Pooling()).of(shape).setting,
        earlier_stabiliser=bool(earlier.stabiliser),
        stabiliser=bool(deciding.stabiliser),
        classes=classes,
        **layer_settings(time_steps, deciding.stride, deciding.padding),
    )
    return learn(
        earlier.weights,
        deciding.weights,
        latencies,
        labels,
        turns,
        jnp.asarray(threshold, jnp.float32),
        jnp.asarray(radius, jnp.int32),
        earlier.rates,
        bounds_array(earlier.weights, earlier.bounds),
        deciding.rates,
        bounds_array(deciding.weights, deciding.bounds),
        _handicap(kept, len(deciding.weights)),
        learns,
    )
