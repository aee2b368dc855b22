"""Readouts that learn by supervised STDP, and their decisions, in C++: whole sequences of stimuli in one call.

Weights are (F, C, H, W) float32, one neuron per feature that sees the whole input, none negative; latencies are
(S, C, H, W) uint8. The features form `classes` groups of equal size, in order.
"""

from typing import Any

import jax
import jax.numpy as jnp

from snnjax.core.checks import Number
from snnjax.kernels.native import _call, _steps, byte_array, float_array, int_array
from snnjax.kernels.neurons import Spikes


def learn(
    weights: jax.Array,
    excess: jax.Array,
    latencies: jax.Array,
    labels: jax.Array,
    learns: jax.Array,
    *,
    threshold: jax.Array,
    sums: jax.Array | None,
    numbers: jax.Array,
    classes: int,
    non_targets: int,
    competitors: int,
    time_steps: int,
    competition: bool,
    one_sided: bool,
    fractional: bool,
) -> tuple[Any, ...]:
    """The fields of `kernels.LearnedReadout`.

    `threshold` is (F,) float32. `numbers`, (6,) float32, are a+, a-, the gap, the rate of the training thresholds, and
    the bounds. `competitors` is the number of neurons in a class that have training thresholds.
    """
    count = classes if competition else len(weights)
    stimuli = len(latencies)
    per_class = (stimuli, classes)
    per_neuron = (stimuli, count)
    results = (
        float_array(weights.shape),
        float_array(excess.shape),
        byte_array(per_class),
        float_array(per_class),
        float_array(per_class),
        int_array(per_neuron),
        float_array(per_neuron),
        float_array(per_neuron),
        int_array((stimuli,)),
        float_array((stimuli, competitors)),
    )
    kept = jnp.zeros(len(weights), jnp.float32) if sums is None else sums
    learned = _call(
        "learn_readout",
        results,
        *(weights, excess, latencies, labels, learns, threshold, kept, numbers),
        replaced=2,
        classes=classes,
        non_targets=non_targets,
        competition=bool(competition),
        one_sided=bool(one_sided),
        normalise=sums is not None,
        fractional=bool(fractional),
        steps=_steps(time_steps),
    )
    return *learned[:2], Spikes(*learned[2:5]), *learned[5:]


def earliest_of_classes(
    latencies: jax.Array,
    weights: jax.Array,
    *,
    threshold: Number,
    classes: int,
    time_steps: int,
    fractional: bool = False,
) -> Spikes:
    """`kernels.earliest_of_classes`: `Spikes` of (S, classes)."""
    shape = (len(latencies), classes)
    thresholds = jnp.broadcast_to(jnp.asarray(threshold, jnp.float32), len(weights))
    spikes = _call(
        "earliest_of_classes",
        (byte_array(shape), float_array(shape), float_array(shape)),
        *(weights[None], latencies, thresholds[None]),  # all stimuli share them
        classes=classes,
        steps=_steps(time_steps),
        fractional=bool(fractional),
    )
    return Spikes(*spikes)
