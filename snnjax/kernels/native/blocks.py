"""Layers that learn by STDP, or by reward up to the deciding one, in C++: whole blocks of images in one call.

Latencies are (S, C, H, W) uint8, weights (kh, kw, F, C) float32. Of latencies that enter a deciding layer it matters
who fires, not when. Its features fall into `classes` groups of one size, in order. Images `span`, (2,) int32 start and
end, are learned from one after the other; the first update draws in weights outside the bounds.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from snnjax.core import checks
from snnjax.core.checks import Bounds, Number, Pair
from snnjax.kernels.native import Pooling, _call, _ends, _one, _steps, byte_array, float_array, int_array
from snnjax.kernels.spikes import output_size


class BlockResult(NamedTuple):
    """The results of learning from a block of S images.

    Attributes:
      weights: (kh, kw, F, C) float32.
      feature: (S, k) int32, the features that learned, -1 where none did and of images left out.
    """

    weights: jax.Array
    feature: jax.Array


class Rewarded(NamedTuple):
    """The results of learning by reward from a block of S images.

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
      weights: (kh, kw, F, C) float32.
      rates: (2, 2) float32, (a+, a-) after a right and after a wrong vote.
      bounds: lower and upper bound of a weight.
      stabiliser: whether each change is multiplied by (w - lower)(upper - w).
      padding, stride: rows and columns.
    """

    weights: jax.Array
    rates: jax.Array
    bounds: Bounds
    stabiliser: bool
    padding: Pair = 0
    stride: Pair = 1

    @property
    def arrays(self) -> tuple[jax.Array, jax.Array]:
        """The rates and the bounds, as the kernels take them."""
        return self.rates, _ends(self.bounds)


def learn_by_stdp(
    weights: jax.Array,
    latencies: jax.Array,
    span: jax.Array,
    rates: jax.Array,
    *,
    threshold: Number,
    k: int,
    radius: Number,
    time_steps: int,
    bounds: Bounds = (0.0, 1.0),
    stabiliser: bool = True,
    padding: Pair = 0,
    stride: Pair = 1,
) -> BlockResult:
    """A layer learns by `kernels.stdp`; its winners are as of `kernels.competition.early_winners`.

    `rates` are (S, 2) float32, (a+, a-) of each image, `threshold` one number.
    """
    _check_weights(weights, latencies.shape, padding, stride)
    results = _call(
        "learn_by_stdp",
        (float_array(weights.shape), int_array((len(latencies), k))),
        *(weights, latencies, span, *_limits(threshold, radius), rates, _ends(bounds)),
        replaced=1,
        layer=_setting(padding, stride),
        steps=_steps(time_steps),
        stabiliser=bool(stabiliser),
    )
    return BlockResult(*results)


def learn_by_reward(
    layer: Layer,
    latencies: jax.Array,
    labels: jax.Array,
    span: jax.Array,
    *,
    classes: int,
    time_steps: int,
    kept: jax.Array | None = None,
) -> Rewarded:
    """A deciding layer learns by its own votes.

    Of an image with label -1 nothing is learned. `kept` is (F,) bool, the features that may win, or None for all.
    """
    weights = layer.weights
    _check_weights(weights, latencies.shape, layer.padding, layer.stride)
    results = _call(
        "learn_by_reward",
        (float_array(weights.shape), int_array(labels.shape), int_array(labels.shape)),
        *(weights, latencies, labels, span, *layer.arrays, _open(kept, weights.shape[2])),
        replaced=1,
        deciding=_setting(layer.padding, layer.stride),
        deciding_stabiliser=bool(layer.stabiliser),
        steps=_steps(time_steps),
        classes=classes,
    )
    return Rewarded(*results)


def learn_deep_by_reward(
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
) -> tuple[BlockResult, Rewarded]:
    """As `learn_by_reward`, with a pooled layer before, whose `kernels.competition.early_winners` learn from that vote.

    `threshold`, `winners` and `radius` are those of the earlier layer, `threshold` one number; `turns`, (2,) int32,
    says which of the two layers learns: 0 does not.
    """
    weights = deciding.weights
    before = earlier.weights
    size = _output_shape(before, latencies.shape, earlier.padding, earlier.stride)
    pooled, pool_numbers = (pool or Pooling()).of(size)
    _check_weights(weights, pooled, deciding.padding, deciding.stride)
    per_image = int_array(labels.shape)
    per_winner = int_array((len(labels), winners))
    before, weights, vote, won, feature = _call(
        "learn_deep_by_reward",
        (float_array(before.shape), float_array(weights.shape), per_image, per_winner, per_image),
        *(before, weights, latencies, labels, span, turns, *_limits(threshold, radius)),
        *(*earlier.arrays, *deciding.arrays, _open(kept, weights.shape[2])),
        replaced=2,
        earlier=_setting(earlier.padding, earlier.stride),
        deciding=_setting(deciding.padding, deciding.stride),
        pool=pool_numbers,
        earlier_stabiliser=bool(earlier.stabiliser),
        deciding_stabiliser=bool(deciding.stabiliser),
        steps=_steps(time_steps),
        classes=classes,
    )
    return BlockResult(before, won), Rewarded(weights, vote, feature)


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
    """The largest of each class's `kernels.neurons.final_potentials`, (S, classes) float32.

    With `winner_only` it is 0 but for the class of the strongest neuron, in half of the time.
    """
    _check_weights(weights, latencies.shape, padding, stride)
    return _call(
        "strongest_of_classes",
        float_array((len(latencies), classes)),
        *(weights, latencies),
        layer=_setting(padding, stride),
        steps=_steps(time_steps),
        classes=classes,
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

    They are of the last step, or `time_steps` where silent.
    """
    size = _output_shape(weights, latencies.shape, padding, stride)
    layer = _setting(padding, stride)
    pooled, numbers = (pool or Pooling()).of(size)
    result = byte_array((len(latencies), *pooled))
    args = weights, latencies, _one(threshold, jnp.float32)
    return _call("who_fires", result, *args, layer=layer, pool=numbers, steps=_steps(time_steps))


def finite(bounds: Bounds) -> bool:
    """Whether integers can stand for weights between these bounds."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.float32(bounds[1]) - np.float32(bounds[0])))


def _check_weights(weights: jax.Array, shape: tuple[int, ...], padding: Pair, stride: Pair) -> None:
    """Raises InputError unless weights (kh, kw, F, C) fit inputs (..., C, H, W)."""
    _output_shape(weights, shape, padding, stride)


def _output_shape(weights: jax.Array, shape: tuple[int, ...], padding: Pair, stride: Pair) -> tuple[int, int, int]:
    """(F, H', W') of a layer on inputs (..., C, H, W); raises InputError where weights (kh, kw, F, C) do not fit."""
    rows, columns, features, channels = weights.shape
    margins = checks.pair("padding", padding, 0)
    size = shape[-2] + 2 * margins[0], shape[-1] + 2 * margins[1]
    checks.fits("latencies", (shape[-3], *size), "weights", (channels, rows, columns))
    return features, *output_size(size, (rows, columns), checks.pair("stride", stride, 1))


def _setting(padding: Pair, stride: Pair) -> np.ndarray:
    """How a layer lies on its inputs, as the C++ functions take it: padding and strides, (4,) int64."""
    return np.array([*checks.pair("padding", padding, 0), *checks.pair("stride", stride, 1)], np.int64)


def _limits(threshold: Number, radius: Number) -> tuple[jax.Array, jax.Array]:
    """A threshold of all features, (1,) float32, and the radius of inhibition, (1,) int32."""
    return _one(threshold, jnp.float32), _one(radius, jnp.int32)


def _open(kept: jax.Array | None, features: int) -> jax.Array:
    return jnp.zeros(features, jnp.float32) if kept is None else jnp.where(kept, jnp.float32(0), -jnp.inf)
