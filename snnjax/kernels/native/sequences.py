"""Sequences of stimuli in C++: layers that learn by STDP, or by reward up to the deciding one, and decisions.

Latencies are (S, C, H, W) uint8, weights (F, C, kh, kw) float32. Stimuli `learns`, (S,) bool, are learned from one
after the other. Nothing is computed for all other stimuli, whose winners, votes and features are -1. The weights of
layers that learn lie within their bounds. Of latencies that enter a deciding layer it matters which inputs fire, not
when; its features fall into `classes` groups of equal size, in order.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from snnjax.core import checks
from snnjax.core.checks import Bounds, Number, Pair
from snnjax.kernels.native import (
    _call,
    _ends,
    _one,
    _thresholds,
    byte_array,
    float_array,
    int_array,
    layer,
)
from snnjax.kernels.spikes import Pooling


class Layer(NamedTuple):
    """A layer of several that learn by reward.

    Attributes:
      weights: (F, C, kh, kw) float32.
      rates: (2, 2) float32, (a+, a-) after a right and after a wrong vote.
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

    @property
    def arrays(self) -> tuple[jax.Array, jax.Array]:
        """The rates and the bounds, as the kernels take them."""
        return self.rates, _ends(self.bounds)


def learn_stdp(
    weights: jax.Array,
    latencies: jax.Array,
    rates: jax.Array,
    learns: jax.Array,
    *,
    threshold: Number,
    k: int,
    radius: Number,
    time_steps: int,
    bounds: Bounds = (0.0, 1.0),
    stabiliser: bool = True,
    stride: Pair = 1,
    padding: Pair = 0,
) -> tuple[jax.Array, jax.Array]:
    """The fields of `kernels.LearnedSTDP`; `rates` are (S, 2) float32, (a+, a-) of each stimulus."""
    checks.array("latencies", latencies, "S C H W")
    _, settings = layer(latencies, weights, time_steps, stride, padding)
    return _call(
        "learn_stdp",
        (float_array(weights.shape), int_array((len(latencies), k))),
        *(weights, latencies, _thresholds(threshold, weights), _one(radius, jnp.int32)),
        *(rates, _ends(bounds), learns),
        stabiliser=bool(stabiliser),
        **settings,
    )


def learn_reward(
    weights: jax.Array,
    latencies: jax.Array,
    labels: jax.Array,
    rates: jax.Array,
    learns: jax.Array,
    kept: jax.Array | None = None,
    *,
    classes: int,
    time_steps: int,
    bounds: Bounds = (0.0, 1.0),
    stabiliser: bool = False,
    stride: Pair = 1,
    padding: Pair = 0,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The fields of `kernels.LearnedReward`; rates (2, 2) float32 are (a+, a-) after a right and after a wrong vote.

    `kept` is (F,) bool, the features that may win, or None for all.
    """
    checks.array("latencies", latencies, "S C H W")
    _, settings = layer(latencies, weights, time_steps, stride, padding)
    return _call(
        "learn_reward",
        (float_array(weights.shape), int_array(labels.shape), int_array(labels.shape)),
        *(weights, latencies, labels, rates, _ends(bounds), _open(kept, len(weights)), learns),
        stabiliser=bool(stabiliser),
        classes=classes,
        **settings,
    )


def learn_deep_by_reward(
    earlier: Layer,
    deciding: Layer,
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
    """As `learn_reward`, with a pooled layer before, whose `kernels.winners` learn from that vote.

    The result is the weights of both layers, then the vote (S,), the winners (S, k), and the feature (S,), int32, that
    has learned in the deciding layer.

    `threshold`, one number, `winners` and `radius` are those of the earlier layer; `turns`, (2,) int32, says which of
    the two layers learns: 0 does not.
    """
    checks.array("latencies", latencies, "S C H W")
    shape, first = layer(latencies, earlier.weights, time_steps, earlier.stride, earlier.padding)
    pooled, pool_numbers = (pool or Pooling()).of(shape)
    between = jax.ShapeDtypeStruct(pooled, jnp.uint8)
    _, settings = layer(between, deciding.weights, time_steps, deciding.stride, deciding.padding)
    per_image = int_array(labels.shape)
    per_winner = int_array((len(labels), winners))
    return _call(
        "learn_deep_by_reward",
        (float_array(earlier.weights.shape), float_array(deciding.weights.shape), per_image, per_winner, per_image),
        *(earlier.weights, deciding.weights, latencies, labels, turns),
        *(_one(threshold, jnp.float32), _one(radius, jnp.int32)),
        *(*earlier.arrays, *deciding.arrays, _open(kept, len(deciding.weights)), learns),
        earlier=first["layer"],
        pool=pool_numbers,
        earlier_stabiliser=bool(earlier.stabiliser),
        stabiliser=bool(deciding.stabiliser),
        classes=classes,
        **settings,
    )


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
    """The largest of each class's `kernels.neurons.final_potentials`, (S, classes) float32.

    With `only_largest` it is 0 but for the class of the strongest neuron, in half of the time.
    """
    checks.array("latencies", latencies, "S C H W")
    _, settings = layer(latencies, weights, time_steps, stride, padding)
    result = float_array((len(latencies), classes))
    settings |= dict(classes=classes, only_largest=bool(only_largest))
    return _call("strongest_of_classes", result, weights, latencies, **settings)


def final_latencies(
    latencies: jax.Array,
    weights: jax.Array,
    *,
    threshold: Number,
    time_steps: int,
    stride: Pair = 1,
    padding: Pair = 0,
    pool: Pooling | None = None,
) -> jax.Array:
    """Neurons of (S, F, H', W'), pooled as by `kernels.pool`, that end above the threshold: uint8 latencies.

    They are of the last step, or `time_steps` where silent. The threshold is one number.
    """
    checks.array("latencies", latencies, "S C H W")
    shape, settings = layer(latencies, weights, time_steps, stride, padding)
    pooled, numbers = (pool or Pooling()).of(shape)
    result = byte_array((len(latencies), *pooled))
    args = weights, latencies, _one(threshold, jnp.float32)
    return _call("final_latencies", result, *args, pool=numbers, **settings)


def _open(kept: jax.Array | None, features: int) -> jax.Array:
    return jnp.zeros(features, jnp.float32) if kept is None else jnp.where(kept, jnp.float32(0), -jnp.inf)
