"""Readouts that learn by supervised STDP, in C++: whole blocks of images in one call.

Weights are (F, C, H, W) float32, one neuron a feature that sees the whole input, none negative; latencies
(S, C, H, W) uint8; the features fall into `classes` groups of one size, in order.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from snnjax.core.checks import Number
from snnjax.kernels.native import _call, _steps, byte_array, float_array, int_array
from snnjax.kernels.neurons import Spikes


class LearnedReadout(NamedTuple):
    """The results of learning from a block of S images, by n neurons each, with m training thresholds.

    Attributes:
      weights: (F, C, H, W) float32.
      excess: (F,) float32, of training thresholds over the layer's.
      decision: (S,) int32.
      neuron: (S, n) int32, the neurons that learned; -1 where nothing was learned.
      time, error: (S, n) float32, their times and errors; 0 where nothing was learned.
      threshold: (S, m) float32, the training thresholds of the image's class.
      label: (S,) int32, -1 where nothing was learned.
    """

    weights: jax.Array
    excess: jax.Array
    decision: jax.Array
    neuron: jax.Array
    time: jax.Array
    error: jax.Array
    threshold: jax.Array
    label: jax.Array


def learn(
    weights: jax.Array,
    excess: jax.Array,
    latencies: jax.Array,
    labels: jax.Array,
    span: jax.Array,
    *,
    threshold: Number,
    sums: jax.Array,
    numbers: jax.Array,
    classes: int,
    non_targets: int,
    competitors: int,
    time_steps: int,
    competition: bool,
    fallback: bool,
    one_sided: bool,
    normalise: bool,
    fractional: bool,
) -> LearnedReadout:
    """Learns from the images `span`, (2,) int32 start and end, one after the other, as `SupervisedSTDP` does.

    `numbers`, (6,) float32: a+, a-, the gap, the rate of training thresholds, bounds; `fallback` is that of `Earliest`.
    """
    images = len(latencies)
    count = classes if competition else len(weights)
    learned = _call(
        "learn_readout",
        (
            float_array(weights.shape),
            float_array(excess.shape),
            int_array((images,)),
            int_array((images, count)),
            *[float_array((images, count))] * 2,
            float_array((images, competitors)),
            int_array((images,)),
        ),
        *(weights, excess, latencies, labels, span, _thresholds(threshold, weights), sums, numbers),
        replaced=2,
        classes=classes,
        non_targets=non_targets,
        competition=bool(competition),
        fallback=bool(fallback),
        one_sided=bool(one_sided),
        normalise=bool(normalise),
        fractional=bool(fractional),
        steps=_steps(time_steps),
    )
    return LearnedReadout(*learned)


def earliest_of_classes(
    latencies: jax.Array,
    weights: jax.Array,
    *,
    threshold: Number,
    classes: int,
    time_steps: int,
    fractional: bool = False,
) -> Spikes:
    """The earliest, then strongest neuron of each class of `kernels.timed_spikes`: `Spikes` of (S, classes, 1, 1)."""
    shape = (len(latencies), classes, 1, 1)
    spikes = _call(
        "earliest_of_classes",
        (byte_array(shape), float_array(shape), float_array(shape)),
        *(weights, latencies, _thresholds(threshold, weights)),
        classes=classes,
        steps=_steps(time_steps),
        fractional=bool(fractional),
    )
    return Spikes(*spikes)


def _thresholds(threshold: Number, weights: jax.Array) -> jax.Array:
    """The thresholds of all features, (F,) float32."""
    return jnp.broadcast_to(jnp.asarray(threshold, jnp.float32), len(weights))
