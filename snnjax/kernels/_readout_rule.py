"""How a readout learns: the settings, arrays and results that the implementations of `learn_readout` share."""

import dataclasses
from typing import Any, NamedTuple

import jax

from snnjax.core.checks import Bounds
from snnjax.kernels.first_spikes import search_spikes
from snnjax.kernels.neurons import Spikes
from snnjax.kernels.supervised import LearningNeurons, count_competitors, desired_times, learning_neurons, targets_of


class ReadoutSettings(NamedTuple):
    """The arguments of `learn_readout` that programs are compiled for.

    Attributes:
      classes, time_steps, non_targets, competition, one_sided, fractional: the arguments of the same names.
      normalise: whether weights are rescaled, which they are if there are `sums`.
    """

    classes: int
    time_steps: int
    non_targets: int
    competition: bool
    one_sided: bool
    fractional: bool
    normalise: bool


class ReadoutInputs(NamedTuple):
    """The arrays from which each implementation computes `learn_readout`, in the order of C++.

    Attributes:
      weights: (F, C, H, W), within the bounds.
      excess: (F,) float32.
      latencies: (S, C, H, W), of `latency_dtype`.
      labels: (S,) int32.
      shown: (S,) bool, `learns`.
      threshold: (F,), in the dtype of the weights.
      sums: (F,), in the dtype of the weights; without effect if weights are not rescaled.
      numbers: (6,) float, (a+, a-, gap, threshold_rate, lower bound, upper bound).
    """

    weights: jax.Array
    excess: jax.Array
    latencies: jax.Array
    labels: jax.Array
    shown: jax.Array
    threshold: jax.Array
    sums: jax.Array
    numbers: jax.Array


class StimulusResults(NamedTuple):
    """What is found for each of S stimuli, whether it is learned from or not.

    Attributes:
      spikes, neuron, time, error, threshold: the fields of `LearnedReadout` of the same names.
    """

    spikes: Spikes
    neuron: jax.Array
    time: jax.Array
    error: jax.Array
    threshold: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ReadoutRule:
    """How a readout learns, by the arguments of `learn_readout` of the same names.

    Attributes:
      rates: (2,) float.
      threshold: (F,) float.
      gap, threshold_rate: () float.
      bounds: two () floats.
      sums: (F,) float, or None.
      settings: the other arguments, plain numbers, True or False.
    """

    rates: jax.Array
    threshold: jax.Array
    gap: jax.Array
    threshold_rate: jax.Array
    bounds: Bounds
    sums: jax.Array | None
    settings: ReadoutSettings = dataclasses.field(metadata=dict(static=True))

    @classmethod
    def of(cls, settings: ReadoutSettings, inputs: ReadoutInputs) -> "ReadoutRule":
        """The rule with the numbers in `inputs`."""
        _, _, gap, threshold_rate, lower, upper = inputs.numbers
        return cls(
            rates=inputs.numbers[:2],
            threshold=inputs.threshold,
            gap=gap,
            threshold_rate=threshold_rate,
            bounds=(lower, upper),
            sums=inputs.sums if settings.normalise else None,
            settings=settings,
        )

    @property
    def competitors(self) -> int:
        """The neurons of a class that have training thresholds."""
        return count_competitors(
            len(self.threshold),
            self.settings.classes,
            non_targets=self.settings.non_targets,
            competition=self.settings.competition,
        )

    def fire(self, latency: jax.Array, weights: jax.Array, threshold: jax.Array) -> Spikes:
        """The `Spikes` of all or some neurons, given their weights and thresholds."""
        return search_spikes(
            latency,
            weights,
            threshold=threshold,
            time_steps=self.settings.time_steps,
            fractional=self.settings.fractional,
        )

    def targets_of(self, values: jax.Array, label: jax.Array) -> jax.Array:
        """The part of values (F, ...) that belongs to the competing neurons of a class."""
        return targets_of(values, label, self.settings.classes, self.competitors)

    def by_class(self, spikes: Spikes) -> Spikes:
        """Spikes of (F,) as (classes, M)."""
        return jax.tree.map(lambda x: x.reshape(self.settings.classes, -1), spikes)

    def errors(self, spikes: Spikes, training: Any, label: jax.Array) -> tuple[LearningNeurons, jax.Array]:
        """The neurons that learn from a stimulus, and their actual minus their desired times."""
        learning = learning_neurons(
            spikes,
            training,
            label,
            non_targets=self.settings.non_targets,
            competition=self.settings.competition,
        )
        desired = desired_times(
            learning.time,
            learning.target,
            gap=self.gap,
            per_class=len(learning.neuron) // self.settings.classes,
            one_sided=self.settings.one_sided,
        )
        return learning, learning.time - desired
