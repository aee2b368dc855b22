"""Features that learn to fire at a target time."""

import dataclasses
import functools
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np

from snnjax import kernels
from snnjax.core import checks
from snnjax.core.components import component, number, static
from snnjax.core.errors import InputError
from snnjax.kernels import plasticity, target_time
from snnjax.layers.conv import Conv
from snnjax.layers.spiking import Layer
from snnjax.learners.protocol import (
    Diagnosis,
    Learned,
    Learner,
    Response,
    Signal,
    UpdateResult,
    convergence,
    count_wins,
    extremes,
)


@component
class TargetTime(Learner):
    """Features that learn to fire at a target time (Falez et al. 2019), from random patches of the input.

    A patch is the input of a neuron at one position of the layer, including padding; all positions are equally likely.
    All features read the patch, and the first one to fire wins and learns. Each feature has its own threshold. While it
    learns, it fires as soon as its potential reaches the threshold (>=); afterwards the potential must exceed it (>),
    as in all layers. The thresholds are adapted so that winners come to fire at the target time, and all features
    equally often. The winner's weights change by multiplicative STDP. The equations are those of
    `snnjax.kernels.target_time.update_weights` and `update_thresholds`. If no neuron fires, nothing changes, except
    that thresholds fall after many such patches in a row. Patches are learned one by one, regardless of `update_batch`.
    The layer's `competition` is not used. The paper is [arXiv 1904.01908](https://arxiv.org/abs/1904.01908).

    A subclass can override `update_weights` or `update_thresholds` to learn by another rule. It needs its own
    `diagnose` if it overrides the latter, or if its `update` returns a different info.

    Attributes:
      target_time: t*, as a share of the time steps, 0..1.
      rate: a, the initial learning rate of the weights.
      beta: how strongly changes of a weight shrink as it approaches a bound.
      threshold_rate: the initial learning rate of the thresholds.
      threshold_min: the lowest threshold.
      annealing: the factor by which both rates are multiplied after each epoch.
      bounds: lower and upper bound of a weight.
      patches: the number of random patches that are learned each time an image is shown.

    Examples:
      >>> from snnjax import Conv, TargetTime
      >>> learner = TargetTime(target_time=0.75, patches=20)
      >>> features = Conv(128, kernel=5, threshold=5.0, weight_mean=0.5, weight_std=0.01, learners=learner)
      >>> features.prepared(channels=2, classes=10).threshold.shape  # each feature learns its own
      (128,)
    """

    target_time: float = number(default=0.75, minimum=0, maximum=1)
    rate: float = number(default=0.1, minimum=0)
    beta: float = number(default=1.0, minimum=0)
    threshold_rate: float = number(default=1.0, minimum=0)
    threshold_min: float = number(default=2.0, above=0)
    # For 100 epochs. 60 epochs at 0.92 and 20 at 0.8 came out alike.
    annealing: float = number(default=0.95, above=0, maximum=1)
    bounds: tuple[float, float] = (0.0, 1.0)
    patches: int = static(default=1, minimum=1)
    own_thresholds = True
    in_learn = frozenset({"forward", "update", "update_weights", "update_thresholds"})
    _without_effect: ClassVar = dict.fromkeys(
        ("rule", "learned"), "override `update_weights` or `update_thresholds` instead"
    )

    def check(self) -> None:
        checks.bounds(self.bounds, least=0)

    def check_layer(self, name: str, conv: Conv, size: tuple[int, int], classes: int, timed: bool) -> None:
        """Raises InputError if a layer has no threshold above 0, or a competition that has no effect."""
        if conv.threshold is None or not np.all(np.asarray(conv.threshold) > 0):
            got = f"got {conv.threshold}: start where a neuron fires at some patches, such as 5"
            raise InputError(f"`threshold` of {name} must be above 0 for TargetTime, {got}")
        if conv.each_learner == (self,):
            why = "it has no effect, TargetTime has its own"
            checks.equal(f"competition of {name}", conv.competition, Conv.competition, why)

    def init(self, layer: Layer, key: np.ndarray, images_seen: int) -> Any:
        """The key of all random draws, the numbers of images shown and of quiet patches, and both rates."""
        rates = np.array([self.rate, self.threshold_rate], np.float32)
        return dict(key=np.asarray(key, np.uint32), shown=np.uint32(0), quiet=np.int32(0), rates=rates)

    def positions(self, state: Any, shown: jax.Array, size: tuple[int, int]) -> jax.Array:
        """Where the patches of image number `shown` lie among H' x W' positions, (patches, 2) int32: row, column."""
        # The key of an image is derived from its number, so that the patches of a whole sequence can be drawn at once,
        # and a resumed training run draws the same patches as an uninterrupted one.
        key = jax.random.fold_in(state["key"], shown)
        place = jax.random.randint(key, (self.patches,), 0, size[0] * size[1], jnp.int32)
        return jnp.stack(jnp.divmod(place, size[1]), axis=1)

    def forward(self, layer: Layer, state: Any, latency: jax.Array, label: jax.Array | None) -> Any:
        """Nothing: the neuron that fires at a patch depends on learning from the patch before."""
        return Response()

    def update(
        self, layer: Layer, state: Any, latency: jax.Array, response: Any, signal: Signal | None
    ) -> UpdateResult:
        """Learns from the patches of one image.

        Info is the winner's feature and step of each patch, (patches,) int32, -1 and T where no neuron fired, and the
        rate of the thresholds.
        """
        conv = layer.conv
        weights = layer.weights
        positions = self.positions(state, state["shown"], conv.output_size((latency.shape[1], latency.shape[2])))
        patches = plasticity.patches(layer.padded(latency), positions, kernel=conv.kernel, stride=conv.stride)
        learned = target_time.learn_patches(
            patches.reshape(len(positions), -1),
            weights.reshape(len(weights), -1),
            cast(jax.Array, conv.threshold),
            functools.partial(self.update_weights, layer, state),
            functools.partial(self.update_thresholds, layer, state),
            time_steps=layer.time_steps,
            quiet=state["quiet"],
        )
        layer = layer.with_weights(learned.weights.reshape(weights.shape)).with_threshold(learned.threshold)
        info = dict(feature=learned.feature, latency=learned.latency, threshold_rate=state["rates"][1])
        return layer, dict(state, shown=state["shown"] + jnp.uint32(1), quiet=learned.quiet), info

    def update_weights(
        self, layer: Layer, state: Any, weights: jax.Array, patch: jax.Array, step: jax.Array
    ) -> jax.Array:
        """The winner's weights (K,) after a patch (K,), latencies, at which it fired at `step`."""
        return target_time.update_weights(
            weights,
            patch,
            step,
            rate=state["rates"][0],
            beta=self.beta,
            bounds=self.bounds,
            time_steps=layer.time_steps,
        )

    def update_thresholds(
        self, layer: Layer, state: Any, threshold: jax.Array, feature: jax.Array, step: jax.Array
    ) -> jax.Array:
        """All thresholds (F,) after a patch at which `feature` fired at `step`; -1 and T once none has for long."""
        return target_time.update_thresholds(
            threshold,
            feature,
            step,
            threshold_rate=state["rates"][1],
            target_time=self.target_time,
            threshold_min=self.threshold_min,
            time_steps=layer.time_steps,
        )

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
        """As the default, by `kernels.learn_target_time`."""
        conv = layer.conv
        shown = state["shown"] + (jnp.cumsum(learns) - learns).astype(jnp.uint32)
        size = conv.output_size((latencies.shape[2], latencies.shape[3]))
        rate, threshold_rate = state["rates"]
        learned = kernels.learn_target_time(
            layer.weights,
            cast(jax.Array, conv.threshold),
            latencies,
            jax.vmap(lambda number: self.positions(state, number, size))(shown),
            learns,
            rate=rate,
            threshold_rate=threshold_rate,
            target_time=self.target_time,
            time_steps=layer.time_steps,
            beta=self.beta,
            threshold_min=self.threshold_min,
            bounds=self.bounds,
            quiet=state["quiet"],
            stride=conv.stride,
            padding=conv.padding,
        )
        layer = dataclasses.replace(layer, weights=learned.weights).with_threshold(learned.threshold)
        state = dict(state, shown=state["shown"] + jnp.sum(learns, dtype=jnp.uint32), quiet=learned.quiet)
        rates = jnp.full(len(latencies), threshold_rate)
        info = dict(feature=learned.feature, latency=learned.latency, threshold_rate=rates)
        return Learned(layer, state, info)

    def end_epoch(self, state: Any) -> Any:
        return dict(state, rates=state["rates"] * jnp.float32(self.annealing))

    def scalars(self, state: Any) -> dict[str, float]:
        return dict(rate=float(state["rates"][0]), threshold_rate=float(state["rates"][1]))

    def diagnose(self, layer: Layer, info: Any) -> Diagnosis:
        """Who has won and when, whether thresholds still move, and how far the weights have converged."""
        features = layer.conv.features
        threshold = np.asarray(layer.conv.threshold)
        feature = np.ravel(info["feature"])
        latency = np.ravel(info["latency"])
        fired = feature >= 0
        time = latency[fired] / layer.time_steps
        target = float(self.target_time)
        # Thresholds moved by this in the second half of the epoch, but for their least value.
        late = slice(len(feature) // 2, None)
        late_wins = np.bincount(feature[late][fired[late]], minlength=features)
        competed = (late_wins * features - late_wins.sum()) / max(features - 1, 1) * (features > 1)
        followed = np.sum(latency[late][fired[late]] / layer.time_steps - target)
        drift = float(np.mean(np.abs(info["threshold_rate"][-1] * (competed - followed))) / threshold.mean())
        return dict(
            silent=float(np.mean(~fired)),
            **count_wins(feature, features),
            spike_time=float(time.mean()) if time.size else 1.0,
            target_time=target,
            threshold_drift=drift,
            convergence=convergence(np.asarray(layer.weights), self.bounds),
            thresholds=np.round(threshold.astype(float), 5).tolist(),
            **extremes("threshold", threshold),
        )
