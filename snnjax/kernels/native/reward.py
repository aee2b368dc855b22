"""Layers that learn by reward up to the deciding one, in C++: whole blocks of images in one call.

Latencies are (S, C, H, W) uint8; of those that enter a deciding layer it matters who fires, not when. Its features fall
into `classes` groups of one size, in order.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from snnjax.core import checks
from snnjax.core.checks import Number, Pair
from snnjax.core.errors import InputError
from snnjax.kernels.blocks import check_latencies, check_shape, common_threshold, ends, limits, place
from snnjax.kernels.native import Pooling, _call, _steps


class Rewarded(NamedTuple):
    """What a block of S images has taught.

    Attributes:
      weights: (kh, kw, F, C) float32.
      vote: (S,) int32, the class of the strongest neuron, -1 where none is above 0 and of images left out.
      feature: (S,) int32, the feature that learned, -1 where none did.
    """

    weights: jax.Array
    vote: jax.Array
    feature: jax.Array


class Layer(NamedTuple):
    """A layer that learns by reward, as `RSTDP` does.

    Attributes:
      weights: (kh, kw, F, C) float32; the first update draws in those outside the bounds.
      rates: (2, 2) float32, (a+, a-) after a right and after a wrong vote.
      bounds: lower and upper bound of a weight.
      stabiliser: whether each change is multiplied by (w - lower)(upper - w).
      padding, stride: rows and columns.
    """

    weights: jax.Array
    rates: jax.Array
    bounds: checks.Bounds
    stabiliser: bool
    padding: Pair = 0
    stride: Pair = 1

    @property
    def arrays(self) -> tuple[jax.Array, jax.Array]:
        """The rates and the bounds, as the kernels take them."""
        check_shape("rates", self.rates, (2, 2))
        return self.rates, ends(self.bounds)


def _classes(weights: jax.Array, classes: int) -> np.int64:
    if weights.shape[2] % checks.integer("classes", classes, 1):
        raise InputError(f"`weights` must have a multiple of {classes} features, got {weights.shape[2]}")
    return np.int64(classes)


def _open(kept: jax.Array | None, features: int) -> jax.Array:
    if kept is not None:
        check_shape("kept", kept, (features,))
    return jnp.zeros(features) if kept is None else jnp.where(kept, 0.0, -jnp.inf)


def learn(
    layer: Layer,
    latencies: jax.Array,
    labels: jax.Array,
    span: jax.Array,
    *,
    classes: int,
    time_steps: int,
    kept: jax.Array | None = None,
) -> Rewarded:
    """A deciding layer learns from the images `span`, (2,) int32 start and end, one after the other, by its own votes.

    Of an image with label -1 nothing is learned. `kept` is (F,) bool, the features that may win, or None for all.
    """
    weights = layer.weights
    shape = check_latencies(latencies, time_steps)
    _, deciding = place(weights, shape, layer.padding, layer.stride)
    check_shape("labels", labels, shape[:1], "int32")
    check_shape("span", span, (2,), "int32")
    each = jax.ShapeDtypeStruct(labels.shape, jnp.int32)
    found = _call(
        "learn_by_reward",
        (jax.ShapeDtypeStruct(weights.shape, jnp.float32), each, each),
        *(weights, latencies, labels, span, *layer.arrays, _open(kept, weights.shape[2])),
        replaced=1,
        deciding=deciding,
        deciding_stabiliser=bool(layer.stabiliser),
        steps=_steps(time_steps),
        classes=_classes(weights, classes),
    )
    return Rewarded(*found)


def learn_deep(
    earlier: Layer,
    deciding: Layer,
    latencies: jax.Array,
    labels: jax.Array,
    span: jax.Array,
    turns: jax.Array,
    *,
    threshold: Number,
    winners: int,
    radius: Number,
    classes: int,
    time_steps: int,
    kept: jax.Array | None = None,
    pool: Pooling | None = None,
) -> tuple[jax.Array, jax.Array, Rewarded]:
    """As `learn`, with a pooled layer before, whose winners, found as by `kernels.early_winners`, learn from that vote.

    `threshold`, `winners` and `radius` are those of the earlier layer, `threshold` one number; `turns`, (2,) int32,
    says which of the two layers learns: 0 does not. Returns the earlier layer's weights and the features that have
    learned there, (S, winners) int32, -1 where none did, then the deciding layer.
    """
    shape = check_latencies(latencies, time_steps)
    weights = deciding.weights
    before = earlier.weights
    size, first = place(before, shape, earlier.padding, earlier.stride)
    pooled, pool_numbers = (pool or Pooling()).of(size)
    _, last = place(weights, pooled, deciding.padding, deciding.stride)
    for name, array, wanted in (("labels", labels, shape[:1]), ("span", span, (2,)), ("turns", turns, (2,))):
        check_shape(name, array, wanted, "int32")
    places = shape[0], checks.integer("winners", winners, 1)
    each, many = (jax.ShapeDtypeStruct(x, jnp.int32) for x in (shape[:1], places))
    results = *(jax.ShapeDtypeStruct(x.shape, jnp.float32) for x in (before, weights)), each, many, each
    competing = limits(threshold, radius)
    args = before, weights, latencies, labels, span, turns, *competing, *earlier.arrays, *deciding.arrays
    before, weights, vote, won, feature = _call(
        "learn_deep_by_reward",
        results,
        *(*args, _open(kept, weights.shape[2])),
        replaced=2,
        earlier=first,
        deciding=last,
        pool=pool_numbers,
        earlier_stabiliser=bool(earlier.stabiliser),
        deciding_stabiliser=bool(deciding.stabiliser),
        steps=_steps(time_steps),
        classes=_classes(weights, classes),
    )
    return before, won, Rewarded(weights, vote, feature)


def strongest_of_classes(
    latencies: jax.Array,
    weights: jax.Array,
    *,
    classes: int,
    time_steps: int,
    padding: Pair = 0,
    stride: Pair = 1,
    winner_only: bool = False,
) -> jax.Array:
    """The largest of each class's `kernels.final_potentials`, (S, classes) float32; weights are (kh, kw, F, C).

    With `winner_only` it is 0 but for the class of the strongest neuron, in half of the time.
    """
    _, layer = place(weights, check_latencies(latencies, time_steps), padding, stride)
    result = jax.ShapeDtypeStruct((len(latencies), classes), jnp.float32)
    return _call(
        "strongest_of_classes",
        result,
        *(weights, latencies),
        layer=layer,
        steps=_steps(time_steps),
        classes=_classes(weights, classes),
        winner_only=bool(winner_only),
    )


def who_fires(
    latencies: jax.Array,
    weights: jax.Array,
    *,
    threshold: Number,
    time_steps: int,
    padding: Pair = 0,
    stride: Pair = 1,
    pool: Pooling | None = None,
) -> jax.Array:
    """Neurons of (S, F, H', W'), pooled as by `kernels.pool`, that end above the threshold: uint8 latencies.

    They are of the last step, or `time_steps` where silent; weights are (kh, kw, F, C).
    """
    shape = check_latencies(latencies, time_steps)
    size, layer = place(weights, shape, padding, stride)
    pooled, numbers = (pool or Pooling()).of(size)
    result = jax.ShapeDtypeStruct((shape[0], *pooled), jnp.uint8)
    args = weights, latencies, common_threshold(threshold)
    return _call("who_fires", result, *args, layer=layer, pool=numbers, steps=_steps(time_steps))
