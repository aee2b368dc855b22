"""Supervised STDP: S2-STDP, SSTDP, paired competing neurons (PCN) and neuronal competition groups (NCG)."""

import dataclasses
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from snnjax import kernels
from snnjax.core import checks
from snnjax.core.components import component, number, static
from snnjax.core.errors import InputError
from snnjax.kernels import Spikes, supervised
from snnjax.kernels.supervised import LearningNeurons
from snnjax.layers.conv import Conv
from snnjax.layers.spiking import Layer
from snnjax.learners.protocol import (
    Diagnosis,
    Learned,
    Learner,
    Signal,
    UpdateResult,
    count_wins,
    extremes,
)

MAX_THRESHOLD_RATIO = 0.75
"""The most that a threshold may be of the potential of a neuron with mean weights; published ones are 0.4 to 0.6."""
FALLBACK_THRESHOLD_RATIO = 0.5
"""The share that a higher one is lowered to; 0.75 leaves pictures of thin lines unlearned."""


class TimedResponse(NamedTuple):
    """The response of a deciding layer with training thresholds.

    Attributes:
      spikes: `Spikes` of (F, 1, 1), which the decision is made from.
      training: those of the target neurons of the label's class at their training thresholds, of (m,); None where they
        have none.
    """

    spikes: Spikes
    training: Spikes | None


@component
class SupervisedSTDP(Learner):
    """STDP with a desired spike time for each neuron (Goupy et al. 2024): w += (t - d) a+ or (t - d) a-.

    This rule trains a deciding layer with M neurons per class, each of which reads the whole input, and whose decision
    depends on spike times, as `Earliest` does. If the initial neurons would hardly reach the threshold, it is lowered
    before the first image; see `initial_threshold`. Target neurons of the label's class should fire earlier than the
    mean time of the neurons that learn, and all other neurons later, as in `kernels.desired_times`. The defaults are
    those of NCG (M = 5). PCN has M = 2 and no training thresholds. S2-STDP has neither competition nor non-target
    neurons (M = 1). SSTDP is like S2-STDP, but one-sided and without normalisation. The papers are those on
    [NCG](https://ggoupy.github.io/publication/2024-ncg), [PCN and
    S2-STDP](https://doi.org/10.3389/fnins.2024.1401690), and
    [SSTDP](https://doi.org/10.3389/fnins.2021.756876).

    Attributes:
      ltp: a+, the rate for inputs up to the spike, above 0.
      ltd: a-, the rate for later and silent inputs, at most 0.
      gap: g, the time between the desired spikes of the label's class and of the other classes, as a share of T.
      competition: whether only the earliest neuron of each class learns, instead of all neurons.
      non_targets: the number of neurons of each class, its first ones, that learn to fire late even for images of their
        own class.
      one_sided: whether target neurons that fire too early, and other neurons that fire too late, learn nothing.
      normalise: whether weights are rescaled to their initial sum after each update.
      threshold_rate: eta, the learning rate of the training thresholds of target neurons. At an image of their class,
        the threshold of the winner rises, and those of the other target neurons fall. Training thresholds apply only to
        images of that class, and are reset to the threshold of the layer at the start of each epoch.
      threshold_annealing: the factor by which `threshold_rate` is multiplied after each epoch.
      annealing: the factor by which a+ and a- are multiplied after each epoch.
      bounds: lower and upper bound of a weight.

    Examples:
      >>> from snnjax import Conv, Network, SupervisedSTDP, stage
      >>> from snnjax.networks import Earliest
      >>> groups = Conv(50, kernel=28, threshold=100.0, learners=SupervisedSTDP(gap=0.03))
      >>> network = Network("groups", (2, 28, 28), 10, stages=(stage(groups),), decision=Earliest(fallback=True))
      >>> network.deciding, network.weight_shapes
      (('layer1',), {'layer1': (50, 2, 28, 28)})
    """

    ltp: float = number(default=0.05, above=0)
    ltd: float = number(default=-0.1, maximum=0)
    gap: float = number(default=0.03, minimum=0, maximum=1)
    competition: bool = static(default=True)
    non_targets: int = static(default=1, minimum=0)
    one_sided: bool = static(default=False)
    normalise: bool = static(default=True)
    threshold_rate: float = number(default=10.0, minimum=0)
    threshold_annealing: float = number(default=0.5, above=0, maximum=1)
    annealing: float = number(default=0.98, above=0, maximum=1)
    bounds: tuple[float, float] = (0.0, 1.0)
    supervised = True
    # The kernel does not return the winners, on which the figures of a subclass may depend.
    in_learn = frozenset({"forward", "update", "competitors", "group", "errors", "desired", "diagnose"})

    def check(self) -> None:
        checks.bounds(self.bounds, least=0)
        if self.non_targets and not self.competition:
            raise InputError(f"`non_targets` must be 0 without `competition`, got {self.non_targets}")

    def check_layer(self, name: str, conv: Conv, size: tuple[int, int], classes: int, timed: bool) -> None:
        """Raises InputError unless it can train a layer: one that decides by times, of one neuron a feature."""
        if not classes or not timed:
            place = "in the last stage, under a decision with times: decision=Earliest(fallback=True)"
            raise InputError(f"{name}, which learns by SupervisedSTDP, must be {place}")
        if size != (1, 1):
            whole = "`kernel` must be that of the whole map, so that there is one neuron a feature"
            raise InputError(f"{name} learns by SupervisedSTDP: {whole}, got {size[0]}x{size[1]} of them")
        checks.given("threshold", conv.threshold, f"a number for SupervisedSTDP of {name}")
        checks.number(f"threshold of {name}", conv.threshold, 0, arrays=True)
        if self.non_targets >= conv.features // classes:
            has = f"{name} has {conv.features // classes} neurons per class"
            raise InputError(f"`non_targets` must leave a target neuron in each class, got {self.non_targets}: {has}")

    def competitors(self, layer: Layer) -> int:
        """m, the target neurons of a class that have training thresholds; 0 where they would have no effect."""
        return supervised.count_competitors(
            layer.conv.features, layer.classes, non_targets=self.non_targets, competition=self.competition
        )

    def init(self, layer: Layer, key: np.ndarray, images_seen: int) -> Any:
        """The rates, the excess (F,) of training thresholds over the layer's, and the sums (F,) of weights: float32.

        It has a `threshold_rate` only where there are training thresholds.
        """
        features = layer.conv.features
        rate = dict(threshold_rate=np.float32(self.threshold_rate)) if self.competitors(layer) else {}
        return rate | dict(
            rates=np.array([self.ltp, self.ltd], np.float32),
            excess=np.zeros(features, np.float32),
            sums=np.asarray(layer.weights, np.float32).reshape(features, -1).sum(1),
        )

    def initial_threshold(self, layer: Layer, latency: np.ndarray) -> Any:
        """That of the description, or a lower one if no neuron would ever fire, as in large line drawings.

        A threshold above `MAX_THRESHOLD_RATIO` of the potential at the median input becomes
        `FALLBACK_THRESHOLD_RATIO` of it.
        """
        fired = np.median(np.sum(latency < layer.time_steps, axis=(1, 2, 3)))
        potential = np.float32(fired * np.mean(layer.weights))
        threshold = np.asarray(layer.conv.threshold)
        if not fired or np.all(threshold <= MAX_THRESHOLD_RATIO * potential):
            return layer.conv.threshold
        return np.minimum(threshold, FALLBACK_THRESHOLD_RATIO * potential)

    def forward(self, layer: Layer, state: Any, latency: jax.Array, label: jax.Array | None) -> TimedResponse:
        """The spikes at the threshold, and those of the class `label` at the training thresholds."""
        assert label is not None
        spikes = layer.timed_spikes(latency, layer.conv.threshold)
        count = self.competitors(layer)
        if not count:
            return TimedResponse(spikes, None)
        place = jnp.maximum(label, 0), layer.classes, count  # class 0 where there is no label
        weights = supervised.targets_of(layer.weights, *place)
        threshold = supervised.targets_of(layer.conv.threshold + state["excess"], *place)
        conv = dataclasses.replace(layer.conv, features=count)
        competing = dataclasses.replace(layer, conv=conv).with_weights(weights)
        return TimedResponse(spikes, jax.tree.map(jnp.ravel, competing.timed_spikes(latency, threshold)))

    def update(
        self, layer: Layer, state: Any, latency: jax.Array, response: Any, signal: Signal | None
    ) -> UpdateResult:
        """The neurons of `group` learn; silent images, and labels of -1, change nothing.

        By the equations a silent image would add gap a+ to all weights of the label's class, and move its thresholds.
        After rescaling weights are clipped once more, so that they keep their bounds.

        Info: of the n neurons that learn their `neuron` (n,), -1 where nothing is learned, `time` and `error`; `label`,
        and the training thresholds `threshold` (m,) of its class.
        """
        assert signal is not None
        inputs = layer.padded(latency)
        label = jnp.maximum(signal.label, 0)
        learns = (signal.label >= 0) & jnp.any(inputs < layer.time_steps)
        spikes = jax.tree.map(lambda x: x.reshape(layer.classes, -1), response.spikes)
        training = supervised.with_non_targets(response.training, self.non_targets)
        group = self.group(layer, spikes, training, label)
        error = self.errors(layer, group)
        weights, excess = supervised.learn_one(
            (layer.weights.reshape(layer.conv.features, -1), state["excess"]),
            inputs.reshape(-1),
            label,
            learns,
            response.training,
            group,
            error,
            rates=state["rates"],
            bounds=self.bounds,
            sums=state["sums"] if self.normalise else None,
            threshold_rate=state.get("threshold_rate", 0.0),
            classes=layer.classes,
        )
        thresholds = jnp.asarray(layer.conv.threshold, jnp.float32) + excess
        threshold = supervised.targets_of(thresholds, label, layer.classes, self.competitors(layer))
        info = dict(
            neuron=jnp.where(learns, group.neuron, -1),
            time=jnp.where(learns, group.time, 0),
            error=jnp.where(learns, error, 0),
            label=jnp.where(learns, signal.label, -1),
            threshold=jnp.where(learns, threshold, 0),
        )
        return layer.with_weights(weights.reshape(layer.weights.shape)), dict(state, excess=excess), info

    def group(self, layer: Layer, spikes: Spikes, training: Spikes | None, label: jax.Array) -> LearningNeurons:
        """The neurons that learn from an image of class `label`, () int32, given `Spikes` of (classes, M).

        `training`: spikes at the training thresholds, of (classes or 1, M); only target neurons of the label matter.
        """
        return supervised.learning_neurons(
            spikes, training, label, non_targets=self.non_targets, competition=self.competition
        )

    def errors(self, layer: Layer, group: LearningNeurons) -> jax.Array:
        """Actual minus desired times of the neurons that learn, (n,) float32."""
        desired = self.desired(group.time, group.target, len(group.neuron) // layer.classes)
        checks.shape("desired(...)", desired, group.time.shape, "the times of the neurons that learn")
        return group.time - desired

    def desired(self, time: jax.Array, target: jax.Array, per_class: int) -> jax.Array:
        """The times at which the neurons that learn should fire, (n,) float32, shares of T: `kernels.desired_times`.

        A subclass may return other times; `gap` and `one_sided` have no other use. The n neurons are ordered by class,
        with `per_class` neurons for each. `time` (n,) float32 contains the times at which they fire, 1 for silent ones;
        for target neurons of the label's class these are times at their training thresholds. `target` (n,) bool marks
        these target neurons; it marks none if a non-target neuron of the class was earlier.
        """
        return kernels.desired_times(time, target, gap=self.gap, per_class=per_class, one_sided=self.one_sided)

    def learn(
        self,
        layer: Layer,
        state: Any,
        latencies: jax.Array,
        labels: jax.Array | None,
        learns: jax.Array,
        *,
        update_batch: int = 1,
        vote: Any = None,
    ) -> Learned:
        """As the default, by `kernels.learn_readout` in a layer without padding."""
        assert labels is not None
        conv = layer.conv
        if not _sees_all(layer, latencies.shape[1:]):
            return super().learn(layer, state, latencies, labels, learns, update_batch=update_batch, vote=vote)
        learned = kernels.learn_readout(
            layer.weights,
            state["excess"],
            latencies,
            labels,
            state["rates"],
            learns,
            threshold=cast(Any, conv.threshold),
            classes=layer.classes,
            time_steps=layer.time_steps,
            gap=self.gap,
            bounds=self.bounds,
            sums=state["sums"] if self.normalise else None,
            threshold_rate=state.get("threshold_rate", 0.0),
            non_targets=self.non_targets,
            competition=self.competition,
            one_sided=self.one_sided,
            fractional=conv.fractional,
            update_batch=update_batch,
        )
        spikes = jax.tree.map(lambda x: x[..., None, None], learned.spikes)
        info = {name: getattr(learned, name) for name in ("neuron", "time", "error", "label", "threshold")}
        layer = dataclasses.replace(layer, weights=learned.weights)
        return Learned(layer, dict(state, excess=learned.excess), info, jax.vmap(vote)(spikes))

    def supports_native(self, layer: Layer, update_batch: int) -> bool:
        return (
            _sees_all(layer, layer.input_shape) and update_batch == 1 and super().supports_native(layer, update_batch)
        )

    def end_epoch(self, state: Any) -> Any:
        """Anneals the rates; resets training thresholds."""
        ended = dict(state, rates=state["rates"] * self.annealing, excess=jnp.zeros_like(state["excess"]))
        if "threshold_rate" in state:
            ended["threshold_rate"] = state["threshold_rate"] * self.threshold_annealing
        return ended

    def scalars(self, state: Any) -> dict[str, float]:
        rates = dict(rate_plus=float(state["rates"][0]), rate_minus=float(state["rates"][1]))
        if "threshold_rate" in state:
            rates["threshold_rate"] = float(state["threshold_rate"])
        return rates

    def diagnose(self, layer: Layer, info: Any) -> Diagnosis:
        """Which neurons have learned how often, when they fired, how far from their desired times, and thresholds."""
        features = layer.conv.features
        learned = info["label"] >= 0
        neuron, time, error = (info[key][learned].ravel() for key in ("neuron", "time", "error"))
        fired = time < 1
        spikes = np.bincount(neuron[fired], minlength=features)
        sums = np.bincount(neuron[fired], time[fired], features)
        times = np.where(spikes > 0, sums / np.maximum(spikes, 1), 1.0)
        figures: Diagnosis = dict(
            taught=[int(np.sum(learned)), len(learned)],
            silent_neurons=float(np.mean(~fired)) if len(time) else 1.0,  # `silent` is the network's in this phase
            time_error=float(np.mean(np.abs(error))) if len(error) else 0.0,
            spike_time=float(np.mean(time[fired])) if fired.any() else 1.0,
            **count_wins(neuron, features),
            times=np.round(times, 5).tolist(),
        )
        competitors = self.competitors(layer)
        if competitors:
            thresholds = np.broadcast_to(np.asarray(layer.conv.threshold, np.float64), features).copy()
            training = thresholds.reshape(layer.classes, -1)[:, -competitors:]
            for label in np.unique(info["label"][learned]):
                training[label] = info["threshold"][info["label"] == label][-1]
            figures |= extremes("training_threshold", training)
            figures["thresholds"] = np.round(thresholds, 5).tolist()
        return figures


def _sees_all(layer: Layer, input_shape: tuple[int, ...]) -> bool:
    """Whether each neuron sees the whole input (C, H, W), without padding."""
    return input_shape == layer.weights.shape[1:] and layer.conv.padding in (0, (0, 0))
