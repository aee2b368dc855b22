"""Supervised STDP in a fully connected readout, from a sequence of stimuli and their labels.

References:
  Goupy et al. 2024, Paired competing neurons improving STDP supervised local learning in spiking neural networks.
  Goupy et al. 2024, Neuronal competition groups with supervised STDP for spike-based classification.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from snnjax.core import checks
from snnjax.core.checks import Bounds, Number
from snnjax.core.errors import InputError
from snnjax.kernels._readout_rule import ReadoutInputs, ReadoutSettings
from snnjax.kernels._readout_xla import learn_by_xla
from snnjax.kernels.kernel import byte_array, dispatch, float_array, int_array, kernel, native_call, supports_native
from snnjax.kernels.neurons import Spikes
from snnjax.kernels.plasticity import in_dtype_of
from snnjax.kernels.sequences import check_labels, check_whole_inputs
from snnjax.kernels.spikes import to_unsigned
from snnjax.kernels.supervised import count_competitors


class LearnedReadout(NamedTuple):
    """The result of `learn_readout` for S stimuli, from each of which n neurons learn.

    n is the number of classes with `competition`, and F without. Each class has m training thresholds: m is the number
    of its target neurons if there are several and they compete, and 0 otherwise.

    Attributes:
      weights: (F, C, H, W), after the last stimulus.
      excess: (F,) float32, after the last stimulus.
      spikes: `Spikes` of (S, classes) with times, of the earliest neuron of each class, as from `earliest_of_classes`.
        For stimuli that are skipped, latencies are T, potentials 0 and times 1.
      neuron: (S, n) int32, the neurons that learned; -1 if nothing was learned from the stimulus.
      time: (S, n) float32, the times of these neurons; 0 if nothing was learned.
      error: (S, n) float32, their actual times minus their desired times; 0 if nothing was learned.
      label: (S,) int32, the label; -1 if nothing was learned.
      threshold: (S, m) float32, the training thresholds of the label's class after the stimulus; 0 if nothing was
        learned.
    """

    weights: jax.Array
    excess: jax.Array
    spikes: Spikes
    neuron: jax.Array
    time: jax.Array
    error: jax.Array
    label: jax.Array
    threshold: jax.Array


def _check_readout(
    weights: Any,
    excess: Any,
    latencies: Any,
    labels: Any,
    rates: Any,
    learns: Any,
    threshold: Any,
    classes: int,
    time_steps: int,
    gap: Any,
    bounds: Any,
    sums: Any,
    threshold_rate: Any,
    non_targets: int,
    competition: bool,
    update_batch: int,
    **_: Any,
) -> None:
    check_whole_inputs(latencies, weights, learns, threshold, time_steps, update_batch)
    checks.at_least("threshold", threshold, 0)
    check_labels(labels, latencies, len(weights), classes)
    checks.rates(rates)
    checks.bounds(bounds, least=0)
    checks.real("gap", gap)
    checks.real("threshold_rate", threshold_rate)
    for name, value in (("excess", excess), ("sums", sums)):
        if value is not None:
            checks.array(name, value, "F", "floats")
            checks.shape(name, value, weights.shape[:1], "`weights`")
    checks.integer("non_targets", non_targets, 0, len(weights) // classes - 1)
    if non_targets and not competition:
        raise InputError(f"`non_targets` must be 0 without `competition`, got {non_targets}")


_STATIC = "classes", "time_steps", "non_targets", "competition", "one_sided", "fractional", "update_batch"


@kernel(*_STATIC, check=_check_readout)
def learn_readout(
    weights: jax.Array,
    excess: jax.Array,
    latencies: jax.Array,
    labels: jax.Array,
    rates: jax.Array,
    learns: jax.Array | None = None,
    *,
    threshold: Number,
    classes: int,
    time_steps: int,
    gap: Number,
    bounds: Bounds = (0.0, 1.0),
    sums: jax.Array | None = None,
    threshold_rate: Number = 0.0,
    non_targets: int = 1,
    competition: bool = True,
    one_sided: bool = False,
    fractional: bool = False,
    update_batch: int = 1,
) -> LearnedReadout:
    """Trains a readout by supervised STDP on stimuli and their labels, in order (Goupy et al. 2024).

    Each of the F neurons sees the whole input. The neurons form one group of M = F / classes neurons per class, in
    order; the last M - `non_targets` neurons of a class are its target neurons. For each stimulus:

    1. All neurons fire at their thresholds, as in `timed_spikes`. A decision can be made from these spikes.
    2. If there are several target neurons of the label's class and they compete, they fire at their training thresholds
       instead, threshold + excess. The excess of the earliest of these neurons rises, and that of the rest falls (NCG).
    3. With `competition` the earliest neuron of each class learns, and otherwise all neurons do. They learn by
       `snnjax.kernels.supervised.error_stdp`, and the error is the actual time minus that of `desired_times`. Then
       their weights are rescaled to `sums`.

    Nothing is learned from a stimulus without spikes, nor from one with the label -1. The weights are clipped to the
    bounds before the first stimulus and after each change.

    Args:
      weights: (F, C, H, W) float, one neuron per feature.
      excess: (F,) float32, the differences between training thresholds and thresholds; zeros at the beginning.
      latencies: (S, C, H, W) integers in 0..T, the stimuli.
      labels: (S,) integers, the classes; -1 for a stimulus from which nothing is learned.
      rates: (2,) float, (a+, a-) of `snnjax.kernels.supervised.error_stdp`.
      learns: (S,) bool, whether to learn from each stimulus; nothing is computed for the other stimuli. None selects
        all stimuli.
      threshold: a number of at least 0, or an array (F,).
      gap: the time between the desired spikes of the label's class and of all other classes, as in `desired_times`.
      bounds: lower and upper bound of a weight, at least 0, so that potentials never fall.
      sums: (F,) float, the sums to which the weights of the neurons are rescaled after each update. With None, they are
        not rescaled.
      threshold_rate: the rate at which training thresholds change.
      non_targets: the number of neurons in each class that learn to fire late even for stimuli of their class, at most
        M - 1, so that it must be 0 if a class has a single neuron. It must also be 0 without `competition`.
      one_sided: as in `desired_times`.
      fractional: as in `timed_spikes`.
      update_batch: the number of successive stimuli whose spikes are computed with the same weights and thresholds.
        Accelerators need a large number: with 1, they compute one stimulus at a time.
    """
    settings = ReadoutSettings(
        classes=classes,
        time_steps=int(time_steps),
        non_targets=non_targets,
        competition=bool(competition),
        one_sided=bool(one_sided),
        fractional=bool(fractional),
        normalise=sums is not None,
    )
    inputs = ReadoutInputs(
        weights=jnp.clip(weights, *in_dtype_of(weights, *bounds)),
        excess=jnp.asarray(excess, jnp.float32),
        latencies=to_unsigned(latencies, time_steps=time_steps),
        labels=jnp.asarray(labels, jnp.int32),
        shown=jnp.ones(len(latencies), bool) if learns is None else jnp.asarray(learns),
        threshold=jnp.broadcast_to(jnp.asarray(threshold, weights.dtype), len(weights)),
        sums=jnp.zeros(len(weights), weights.dtype) if sums is None else jnp.asarray(sums, weights.dtype),
        numbers=_stacked(*rates, gap, threshold_rate, *bounds, dtype=jnp.promote_types(weights.dtype, jnp.float32)),
    )
    run_native = _native_readout(settings, inputs)
    xla = functools.partial(learn_by_xla, settings, update_batch=update_batch)
    learned = dispatch(update_batch == 1 and supports_native(weights, time_steps), run_native, xla)(*inputs)
    new_weights, new_excess, latency, potential, time, *info = learned
    return LearnedReadout(new_weights, new_excess, Spikes(latency, potential, time), *info)


def _stacked(*numbers: Number, dtype: Any) -> jax.Array:
    """Numbers as an array (N,)."""
    return jnp.stack([jnp.asarray(number, dtype) for number in numbers])


def _native_readout(settings: ReadoutSettings, inputs: ReadoutInputs) -> Callable[..., Any]:
    """The C++ kernel of `learn_readout`, as a function of the arrays of `ReadoutInputs`.

    Its results are the fields of `LearnedReadout` in order, with the fields of `Spikes` in place of `spikes`.
    """
    stimuli = len(inputs.latencies)
    features = len(inputs.weights)
    classes = settings.classes
    learning = classes if settings.competition else features
    competitors = count_competitors(
        features, classes, non_targets=settings.non_targets, competition=settings.competition
    )
    return native_call(
        "learn_readout",
        (
            float_array(inputs.weights.shape),
            float_array((features,)),
            byte_array((stimuli, classes)),
            float_array((stimuli, classes)),
            float_array((stimuli, classes)),
            int_array((stimuli, learning)),
            float_array((stimuli, learning)),
            float_array((stimuli, learning)),
            int_array((stimuli,)),
            float_array((stimuli, competitors)),
        ),
        replaced=2,
        classes=classes,
        non_targets=settings.non_targets,
        competition=settings.competition,
        one_sided=settings.one_sided,
        normalise=settings.normalise,
        fractional=settings.fractional,
        steps=settings.time_steps,
    )
