"""Layers, spiking or real-valued: their descriptions, and a layer with its weights as the kernels see it."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from snnjax import kernels
from snnjax.activations import Standardise, activities_of
from snnjax.components import check_component, component, static
from snnjax.errors import InputError, wrong_type
from snnjax.kernels import Moments, Spikes, Winners, checks
from snnjax.kernels.checks import Pair
from snnjax.windows import Pool as Pool
from snnjax.windows import check_pairs, map_size


@component
class WTA:
    """Winner-take-all: at each position one feature, then the k earliest, strongest neurons of distinct features.

    Attributes:
      winners: k, how many neurons may learn from one stimulus.
      radius: of lateral inhibition around a winner, in neurons; 0 inhibits none.
    """

    winners: int = static(default=1)
    radius: int = 0

    def check(self) -> None:
        checks.integer("winners", self.winners, 1)
        checks.integer("radius", self.radius, 0)

    def __call__(self, spikes: Spikes, *, time_steps: int) -> Winners:
        """From `Spikes` of (F, H, W) to `Winners` of (k,)."""
        strongest = kernels.strongest_feature(spikes, time_steps=time_steps)
        return kernels.k_winners(strongest, k=self.winners, radius=self.radius, time_steps=time_steps)


@component
class Conv:
    """A convolutional layer of spiking neurons or, with an `activation`, of real-valued ones.

    Attributes:
      features: F, the number of feature maps.
      kernel: rows and columns of the kernel; one integer for both.
      padding: rows and columns added to the input: silent, or those of a real-valued layer reflected.
      stride: input rows and columns between neighbouring neurons.
      threshold: of firing, or an array (F,) of one for each feature; with None, as in a deciding layer, neurons above 0
        fire at the last step.
      fractional: whether spikes of a deciding layer lie within their time steps, as in `kernels.timed_spikes`.
      competition: who may learn: a component called as `WTA`, from `Spikes` to `Winners` of distinct features.
      learners: one learner, or several, unsupervised ones first.
      output_padding: silent rows and columns added to the output, to join branches of different size.
      weight_mean, weight_std: mean and standard deviation of the initial weights, normally distributed.
      activation: makes the layer real-valued: a component called as `Triangle`, from sums to activities; None: it
        spikes.
      standardise: `Standardise`, of what a real-valued layer sees; None: nothing is standardised.
    """

    features: int = static()
    kernel: Pair = static()
    padding: Pair = static(default=0)
    stride: Pair = static(default=1)
    threshold: float | np.ndarray | None = None
    fractional: bool = static(default=False)
    competition: Any = WTA()
    learners: Any = ()
    output_padding: Pair = static(default=0)
    weight_mean: float = 0.8
    weight_std: float = 0.05
    activation: Any = None
    standardise: Standardise | None = None

    def check(self) -> None:
        checks.integer("features", self.features, 1)
        checks.threshold(self.threshold, self.features)
        if self.fractional and self.threshold is not None and np.min(self.threshold) < 0:
            raise InputError(f"`threshold` must be at least 0 with `fractional`, got {self.threshold}")
        check_pairs(self, kernel=1, padding=0, stride=1, output_padding=0)
        if not math.isfinite(self.weight_mean):
            raise InputError(f"`weight_mean` must be finite, got {self.weight_mean}")
        if not 0 <= self.weight_std < math.inf:
            raise InputError(f"`weight_std` must be finite and at least 0, got {self.weight_std}")
        check_component("competition", self.competition, "__call__")
        if isinstance(self.competition, WTA) and self.competition.winners > self.features:
            got = f"{self.competition.winners} of {self.features}"
            raise InputError(f"`winners` of the competition must be at most the layer's features, got {got}")
        for learner in self.each_learner:
            check_component("learners", learner, "init", "forward", "update", "supervised")
        if not isinstance(self.standardise, Standardise | None):
            raise wrong_type("standardise", "Standardise(...) or None", self.standardise)
        if self.real:
            self._check_real()
        elif self.standardise is not None:
            raise InputError("`standardise` of a layer without an `activation` must be None: it has no effect")

    def _check_real(self) -> None:
        """Raises InputError where a real-valued layer has what only spikes need."""
        check_component("activation", self.activation, "__call__")
        for field, idle in dict(threshold=None, fractional=False, competition=Conv.competition).items():
            value = getattr(self, field)
            if isinstance(value, np.ndarray | jax.Array) or value != idle:
                raise InputError(f"`{field}` of a layer with an `activation` must be {idle}: {value} has no effect")
        for learner in self.each_learner:
            if not getattr(learner, "joint", False):
                got = f"got {type(learner).__name__}, which learns from spikes (`joint = True`: from batches)"
                raise InputError(f"`learners` of a layer with an `activation` must be such as SoftHebb, {got}")

    @property
    def each_learner(self) -> tuple[Any, ...]:
        """The learners in order."""
        return self.learners if isinstance(self.learners, tuple) else (self.learners,)

    @property
    def supervised(self) -> Any:
        """The supervised learner, which is the last."""
        return self.each_learner[-1]

    @property
    def real(self) -> bool:
        """Whether its neurons are real-valued: it has an `activation`."""
        return self.activation is not None

    @property
    def joint(self) -> Any:
        """The learner that learns from whole batches, jointly with neighbouring stages; None: there is none."""
        return next((learner for learner in self.each_learner if getattr(learner, "joint", False)), None)

    def prepared(self, channels: int) -> "Conv":
        """The layer on `channels` maps with arrays for the numbers that learn.

        They are a threshold for each feature, (F,) float32, if a learner needs that, and the moments of inputs.
        """
        if self.standardise is not None:
            return dataclasses.replace(self, standardise=self.standardise.prepared(channels))
        if not self.own_thresholds or self.threshold is None or np.ndim(self.threshold):
            return self
        return dataclasses.replace(self, threshold=np.ones(self.features, np.float32) * self.threshold)

    @property
    def own_thresholds(self) -> bool:
        """Whether a learner needs a threshold for each feature."""
        return any(getattr(learner, "own_thresholds", False) for learner in self.each_learner)

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the output map, without `output_padding`."""
        if self.real:
            margins = checks.pair("padding", self.padding, 0)
            checks.window("the padding that is reflected, and a row and column,", [x + 1 for x in margins], size)
        return map_size(size, "the kernel", self.kernel, self.stride, self.padding)

    @property
    def one_threshold(self) -> bool:
        """Whether all features have the same threshold."""
        return self.threshold is not None and not np.ndim(self.threshold) and not self.own_thresholds

    @property
    def monotone(self) -> bool:
        """Whether it spikes and all learners keep weights >= 0, so that the last step decides who fires."""
        if self.real:
            return False
        bounds = [getattr(learner, "bounds", None) for learner in self.each_learner]
        return bool(bounds) and all(each is not None and each[0] >= 0 for each in bounds)


class Form(NamedTuple):
    """A layout of weights and its kernels, functions of (layer, latencies...); None: as `Layer` defines it.

    Attributes:
      pack: from weights (F, C, kh, kw) to the layout of this form.
      unpack: its inverse, of (weights, F).
      latencies: of layers with a threshold.
      outputs: of (layer, latency, pool), of layers with a threshold.
      potentials: at the last step.
      winners: of layers with weights >= 0 and the competition `WTA`.
      learn: of (..., winners, rates, rule): new weights of a layer `within`.
      timed_spikes: of (..., threshold), for deciding layers with a threshold under a timed decision.
      fires: of (layer, B inputs, pool): who fires at all, pooled latencies of the last step, or T where silent.
      of_classes: of a deciding layer and B inputs: `Spikes` of (B, classes, 1, 1), those of the neuron of each class
        that matters to the decision.
    """

    pack: Callable[[jax.Array], jax.Array]
    unpack: Callable[[jax.Array, int], jax.Array]
    latencies: Callable[..., jax.Array] | None = None
    outputs: Callable[..., jax.Array] | None = None
    potentials: Callable[..., jax.Array] | None = None
    winners: Callable[..., Winners] | None = None
    learn: Callable[..., jax.Array] | None = None
    timed_spikes: Callable[..., Spikes] | None = None
    fires: Callable[..., jax.Array] | None = None
    of_classes: Callable[..., Spikes] | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer with its weights. Its methods take one stimulus, (C, H, W); batches come from `jax.vmap`.

    A stimulus is latencies or, from a real-valued layer, activities, which only real-valued layers take.

    Rules read `weights` and `rows_of`, and make new layers by `with_rows`, `with_weights` and `with_threshold`, which
    mean the same whatever the kernels.

    Attributes:
      conv: the description; its numbers may be arrays, () each, but for a `threshold` of (F,).
      stored: the weights, float32, in the layout of `form`, which is for kernels alone.
      time_steps: T.
      form: the layout of the weights, and its kernels.
      monotone: as of `Conv`.
      classes: of a deciding layer, whose features fall into as many groups of one size, in order; 0 elsewhere.
      timed: as of the network's `Decision`.
      within: whether all weights lie within the learner's bounds, so that `learn` changes winners' weights only.
    """

    conv: Conv
    stored: jax.Array
    time_steps: int = static()
    form: Form = static()  # noqa: RUF009
    monotone: bool = static(default=False)
    classes: int = static(default=0)
    timed: bool = static(default=False)
    within: bool = static(default=False)

    @property
    def weights(self) -> jax.Array:
        """All weights, (F, C, kh, kw) float32."""
        return self.form.unpack(self.stored, self.conv.features)

    def with_weights(self, weights: jax.Array) -> "Layer":
        """The layer with other weights, (F, C, kh, kw) float32; raises InputError for another shape."""
        kernel = checks.pair("kernel", self.conv.kernel, 1)
        checks.array("weights", weights, "F C kh kw", "floats")
        if (weights.shape[0], *weights.shape[2:]) != (self.conv.features, *kernel):
            expected = f"({self.conv.features}, C, {kernel[0]}, {kernel[1]})"
            raise InputError(f"`weights` must have shape {expected}, got {weights.shape}")
        return dataclasses.replace(self, stored=self.form.pack(weights), within=False)

    def with_threshold(self, threshold: Any) -> "Layer":
        """The layer with another threshold, a number or an array (F,); raises InputError for another shape."""
        checks.threshold(threshold, self.conv.features)
        return dataclasses.replace(self, conv=dataclasses.replace(self.conv, threshold=threshold))

    def latencies(self, latency: jax.Array) -> jax.Array:
        """When each neuron fires: (F, H', W') latencies."""
        if self.form.latencies is None or self.conv.threshold is None:
            return self.spikes(latency).latency
        return self.form.latencies(self, latency)

    def sums(self, inputs: jax.Array, moments: Moments | None = None) -> tuple[jax.Array, jax.Array]:
        """What each position of a real-valued layer sees of its inputs (C, H, W), and its sums.

        (H', W', K) and (H', W', F) float32, as of `kernels.reflected_patches` and `kernels.weighted_sums`; inputs are
        standardised by the `moments` given, if at all, or by running ones.
        """
        values, standardise = activities_of(inputs, self.time_steps), self.conv.standardise
        sizes = {name: getattr(self.conv, name) for name in ("kernel", "stride", "padding")}
        patches = kernels.reflected_patches(standardise(values, moments) if standardise else values, **sizes)
        return patches, kernels.weighted_sums(patches, self.rows())

    def batch_sums(self, batch: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`sums` of each of B inputs (B, C, H, W), standardised by the moments of this batch."""
        moments = kernels.moments(activities_of(batch, self.time_steps))
        return jax.vmap(lambda inputs: self.sums(inputs, moments))(batch)

    def with_moments_of(self, batch: jax.Array, momentum: float | jax.Array) -> "Layer":
        """The layer with running moments moved by this share of the way to those of a batch (B, C, H, W), if any."""
        if (standardise := self.conv.standardise) is None:
            return self
        values = activities_of(batch, self.time_steps)
        moved = kernels.moved_moments(standardise.moments, kernels.moments(values), values, momentum=momentum)
        return dataclasses.replace(
            self, conv=dataclasses.replace(self.conv, standardise=standardise.with_moments(moved))
        )

    def rows(self) -> jax.Array:
        """The weights as a row for each feature, (F, K) float32, in the order of `kernels.reflected_patches`."""
        return self.weights.transpose(0, 2, 3, 1).reshape(self.conv.features, -1)

    def with_all_rows(self, rows: jax.Array) -> "Layer":
        """The layer with new weights, (F, K) in the order of `rows`; raises InputError for another shape."""
        features, channels, *kernel = self.weights.shape
        checks.array("rows", rows, "F K", "floats")
        checks.shape("rows", rows, (features, channels * math.prod(kernel)), "`Layer.rows`")
        weights = rows.reshape(features, *kernel, channels).transpose(0, 3, 1, 2)
        return self.with_weights(weights)

    def activities(self, inputs: jax.Array) -> jax.Array:
        """What the neurons of a real-valued layer put out, (F, H', W') float32."""
        return self.activated(self.sums(inputs)[1])

    def activated(self, sums: jax.Array) -> jax.Array:
        """The activities, (..., F, H', W') float32, of weighted sums, (..., H', W', F)."""
        return jnp.moveaxis(self.conv.activation(sums), -1, -3)

    def responses(self, inputs: jax.Array) -> jax.Array:
        """What its neurons put out, (F, H', W'): `latencies` or, of a real-valued layer, `activities`."""
        return self.activities(inputs) if self.conv.real else self.latencies(inputs)

    def outputs(self, latency: jax.Array, pool: Pool | None) -> jax.Array:
        """What its stage gets of this layer: `pooled` of `responses`."""
        if self.form.outputs is None or self.conv.threshold is None:
            return self.pooled(self.responses(latency), pool)
        return self.form.outputs(self, latency, pool)

    def pooled(self, responses: jax.Array, pool: Pool | None) -> jax.Array:
        """Responses of the layer, (F, H', W'), with its `output_padding`, then pooled."""
        if self.conv.real:
            rows, columns = checks.pair("output_padding", self.conv.output_padding, 0)
            padded = jnp.pad(responses, ((0, 0), (rows, rows), (columns, columns)))
            if pool is None:
                return padded
            window: dict[str, Any] = dict(stride=pool.stride, padding=pool.padding, mean=pool.mean)
            return kernels.pool_activities(padded, pool.window, **window)
        padded = kernels.pad(responses, self.conv.output_padding, time_steps=self.time_steps)
        if pool is None:
            return padded
        return kernels.pool(padded, pool.window, stride=pool.stride, padding=pool.padding, time_steps=self.time_steps)

    def spikes(self, latency: jax.Array) -> Spikes:
        """`Spikes` of (F, H', W'): latencies, and potentials at the step of the spike."""
        return kernels.integrate_and_fire(self.padded(latency), self.weights, **self._firing())

    def potentials(self, latency: jax.Array) -> jax.Array:
        """Potentials at the last step, (F, H', W') float32; which inputs fire matters, not when."""
        if self.form.potentials is not None:
            return self.form.potentials(self, latency)
        rows, columns = checks.pair("padding", self.conv.padding, 0)
        spiked = jnp.pad(latency < self.time_steps, ((0, 0), (rows, rows), (columns, columns)))
        return kernels.final_potentials(spiked, self.weights, stride=self.conv.stride)

    def last_spikes(self, latency: jax.Array) -> Spikes:
        """`Spikes` at the last step of all neurons above 0, whatever the threshold."""
        return kernels.fire_at_last_step(self.potentials(latency), time_steps=self.time_steps)

    def last_latencies(self, latency: jax.Array) -> jax.Array:
        """As `latencies`, of a monotone layer, but all that fire do so at the last step; input times do not matter."""
        threshold = 0.0 if self.conv.threshold is None else self.conv.threshold
        each = threshold if np.ndim(threshold) == 0 else threshold[:, None, None]  # type: ignore[index]
        return at_last_step(self.potentials(latency) > each, self.time_steps)

    def deciding_spikes(self, latency: jax.Array) -> Spikes:
        """`Spikes` of (F, H', W') of a deciding layer, as the network's `Decision` needs them."""
        return self.timed_spikes(latency, self.conv.threshold) if self.timed else self.last_spikes(latency)

    def timed_spikes(self, latency: jax.Array, threshold: Any) -> Spikes:
        """As `kernels.timed_spikes`, with other thresholds than the layer's own if these are given."""
        if self.form.timed_spikes is not None and threshold is not None:
            return self.form.timed_spikes(self, latency, threshold)
        return self.spikes_by_step(latency, threshold)

    def spikes_by_step(self, latency: jax.Array, threshold: Any) -> Spikes:
        """`kernels.timed_spikes` as it is defined."""
        firing = self._firing() | dict(threshold=threshold, fractional=self.conv.fractional)
        return kernels.timed_spikes(self.padded(latency), self.weights, **firing)

    def one_neuron(self, latency: jax.Array) -> bool:
        """Whether the kernel has one position on a (C, H, W) input: one neuron a feature."""
        return self.conv.output_size((latency.shape[-2], latency.shape[-1])) == (1, 1)

    def winners(self, latency: jax.Array) -> Winners:
        """The neurons that may learn, by the layer's competition: `Winners` of (k,)."""
        if self.form.winners is None or not self.monotone or not isinstance(self.conv.competition, WTA):
            return self.conv.competition(self.spikes(latency), time_steps=self.time_steps)
        return self.form.winners(self, latency)

    def learn(
        self, latency: jax.Array, winners: Winners, rates: jax.Array, *, bounds: Any, stabiliser: bool = True
    ) -> "Layer":
        """The layer after one STDP update with rates (2,) float32 (a+, a-), as in `kernels.stdp`.

        `winners` are `Winners` of (k,), of distinct features; a winner of feature -1 learns nothing.
        """
        rule: dict[str, Any] = dict(bounds=bounds, stabiliser=stabiliser, time_steps=self.time_steps)
        own = any(bounds is getattr(learner, "bounds", None) for learner in self.conv.each_learner)
        if self.within and own and self.form.learn is not None:
            return dataclasses.replace(self, stored=self.form.learn(self, latency, winners, rates, rule))
        seen = self.padded(latency)
        return self.with_weights(kernels.stdp(self.weights, seen, winners, rates, stride=self.conv.stride, **rule))

    def receptive_fields(self, latency: jax.Array, winners: Winners) -> jax.Array:
        """What each winner sees of the (C, H, W) input: (k, C, kh, kw) latencies."""
        seen, kernel = self.padded(latency), self.conv.kernel
        return kernels.receptive_fields(seen, winners, kernel=kernel, stride=self.conv.stride)

    def rows_of(self, winners: Winners) -> jax.Array:
        """The weights of the winners' features, (k, C, kh, kw) float32; arbitrary ones for a winner of feature -1."""
        return self.weights[winners.feature]

    def with_rows(self, winners: Winners, rows: jax.Array) -> "Layer":
        """The layer with new weights of the winners' features, (k, C, kh, kw); a winner of feature -1 changes none."""
        return self.with_weights(kernels.set_rows(self.weights, winners, rows))

    def packed(self, form: Form) -> "Layer":
        """The same layer in another form."""
        return dataclasses.replace(self, stored=form.pack(self.weights), form=form)

    def padded(self, latency: jax.Array) -> jax.Array:
        """The input with the layer's padding."""
        return kernels.pad(latency, self.conv.padding, time_steps=self.time_steps)

    def _firing(self) -> dict[str, Any]:
        return dict(threshold=self.conv.threshold, time_steps=self.time_steps, stride=self.conv.stride)


def at_last_step(spiked: jax.Array, time_steps: int) -> jax.Array:
    """Latencies of neurons that fired at all: the last step where `spiked`, silence elsewhere."""
    return jnp.where(spiked, time_steps - 1, time_steps).astype(kernels.latency_dtype(time_steps))
