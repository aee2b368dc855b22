"""Spiking layers: their descriptions, and a layer with its weights as the kernels see it."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from snnjax import kernels
from snnjax.components import check_component, component, static
from snnjax.errors import InputError
from snnjax.kernels import Spikes, Winners, checks, native
from snnjax.kernels.checks import Pair
from snnjax.kernels.neurons import fire_at_last_step
from snnjax.kernels.spikes import output_size


class Competition(Protocol):
    """Who may learn from a stimulus: a component that is called with the spikes of a layer."""

    def __call__(self, spikes: Spikes, *, time_steps: int) -> Winners:
        """From `Spikes` of (F, H, W) to `Winners` of (k,), of distinct features."""


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
        """Raises TypeError or InputError where a number is wrong."""
        checks.integer("winners", self.winners, 1)
        checks.integer("radius", self.radius, 0)

    def __call__(self, spikes: Spikes, *, time_steps: int) -> Winners:
        """From `Spikes` of (F, H, W) to `Winners` of (k,)."""
        strongest = kernels.strongest_feature(spikes, time_steps=time_steps)
        return kernels.k_winners(strongest, k=self.winners, radius=self.radius, time_steps=time_steps)


@component
class Pool:
    """Max pooling of spikes; the stride is the window's size by default."""

    window: Pair = static()
    stride: Pair | None = static(default=None)
    padding: Pair = static(default=0)

    def check(self) -> None:
        """Raises TypeError or InputError where a number is wrong."""
        checks.pair("window", self.window, 1)
        checks.pair("padding", self.padding, 0)
        if self.stride is not None:
            checks.pair("stride", self.stride, 1)

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the pooled map."""
        window = checks.pair("window", self.window, 1)
        stride = window if self.stride is None else checks.pair("stride", self.stride, 1)
        padded = _padded(size, self.padding)
        checks.window("the pooling window", window, padded)
        return output_size(padded, window, stride)


@component
class Conv:
    """A convolutional spiking layer.

    Attributes:
      features: F, the number of feature maps.
      kernel: rows and columns of the kernel; one integer for both.
      padding: silent rows and columns added to the input.
      stride: input rows and columns between neighbouring neurons.
      threshold: of firing; with None, as in a deciding layer, neurons above 0 fire at the last step.
      competition: who may learn from a stimulus, where its learner asks.
      learners: how the layer learns: one learner, or several, unsupervised ones first.
      output_padding: silent rows and columns added to the output, to join branches of different size.
      weight_mean: mean of the initial weights, normally distributed.
      weight_std: their standard deviation.
    """

    features: int = static()
    kernel: Pair = static()
    padding: Pair = static(default=0)
    stride: Pair = static(default=1)
    threshold: float | None = None
    competition: Any = WTA()
    learners: Any = ()
    output_padding: Pair = static(default=0)
    weight_mean: float = 0.8
    weight_std: float = 0.05

    def check(self) -> None:
        """Raises TypeError or InputError where a number is wrong."""
        checks.integer("features", self.features, 1)
        checks.threshold(self.threshold)
        for name, minimum in (("kernel", 1), ("padding", 0), ("stride", 1), ("output_padding", 0)):
            checks.pair(name, getattr(self, name), minimum)
        if not math.isfinite(self.weight_mean):
            raise InputError(f"`weight_mean` must be finite, got {self.weight_mean}")
        if not 0 <= self.weight_std < math.inf:
            raise InputError(f"`weight_std` must be at least 0, got {self.weight_std}")
        self.check_parts()

    def check_parts(self) -> None:
        """Raises InputError where competition or learners are no components, which makes all of it unknown to JAX."""
        check_component("competition", self.competition, "__call__")
        for learner in self.each_learner:
            check_component("learners", learner, "init", "forward", "update", "supervised")

    @property
    def each_learner(self) -> tuple[Any, ...]:
        """The learners in order."""
        return self.learners if isinstance(self.learners, tuple) else (self.learners,)

    @property
    def supervised(self) -> Any:
        """The supervised learner, which is the last."""
        return self.each_learner[-1]

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the output map, without `output_padding`."""
        kernel = checks.pair("kernel", self.kernel, 1)
        padded = _padded(size, self.padding)
        checks.window("the kernel", kernel, padded)
        return output_size(padded, kernel, checks.pair("stride", self.stride, 1))

    @property
    def monotone(self) -> bool:
        """Whether all learners keep weights >= 0, so that potentials never fall and the last step decides who fires."""
        bounds = [getattr(learner, "bounds", None) for learner in self.each_learner]
        return bool(bounds) and all(each is not None and each[0] >= 0 for each in bounds)


def _padded(size: tuple[int, int], padding: Pair) -> tuple[int, int]:
    rows, columns = checks.pair("padding", padding, 0)
    return size[0] + 2 * rows, size[1] + 2 * columns


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer with its weights. Its methods take one stimulus; batches come from `jax.vmap`.

    Attributes:
      conv: the description; its numbers may be arrays.
      weights: (F, C, kh, kw) float32, laid out as `form` takes them.
      time_steps: T.
      form: the kernels that compute it.
      monotone: as of `Conv`.
      classes: of a deciding layer, whose features fall into as many groups; 0 elsewhere.
      timed: of a deciding layer, as of its `Decision`.
      within: all weights lie within the bounds of the learner at work, so that only the winners' weights change.
    """

    conv: Conv
    weights: jax.Array
    time_steps: int = static()
    form: "Form" = static()  # noqa: RUF009
    monotone: bool = static(default=False)
    classes: int = static(default=0)
    timed: bool = static(default=False)
    within: bool = static(default=False)

    def latencies(self, latency: jax.Array) -> jax.Array:
        """When each neuron fires, (F, H', W') latencies, given those of the input, (C, H, W)."""
        return self.form.latencies(self, latency)

    def spikes(self, latency: jax.Array) -> Spikes:
        """`Spikes` of (F, H', W'): latencies, and potentials at the step of the spike."""
        return kernels.integrate_and_fire(
            self.padded(latency),
            self.plain_weights(),
            threshold=self.conv.threshold,
            time_steps=self.time_steps,
            stride=self.conv.stride,
        )

    def potentials(self, latency: jax.Array) -> jax.Array:
        """Potentials at the last step, (F, H', W') float32, for which only matters which inputs fire."""
        return self.form.potentials(self, latency < self.time_steps)

    def last_spikes(self, latency: jax.Array) -> Spikes:
        """`Spikes` at the last step of all neurons above 0 or the threshold, whenever they crossed it."""
        return fire_at_last_step(self.potentials(latency), time_steps=self.time_steps)

    def deciding_spikes(self, latency: jax.Array) -> Spikes:
        """`Spikes` of (F, H', W') that the network's `Decision` is made from, of a deciding layer."""
        return self.spikes(latency) if self.timed else self.last_spikes(latency)

    def winners(self, latency: jax.Array) -> Winners:
        """Who may learn from (C, H, W) input latencies: `Winners` of (k,), by the layer's competition."""
        if not self.monotone or not isinstance(self.conv.competition, WTA):
            return plain_winners(self, latency)
        return self.form.winners(self, latency)

    def learn(
        self, latency: jax.Array, winners: Winners, rates: jax.Array, *, bounds: Any, stabiliser: bool = True
    ) -> "Layer":
        """The layer after one STDP update, as `kernels.stdp` defines it.

        Args:
          latency: (C, H, W) the input latencies that the winners saw.
          winners: `Winners` of (k,), of distinct features; who has feature -1 does not learn.
          rates: (2,) float32, (a+, a-).
          bounds: lower and upper bound of a weight.
          stabiliser: multiplies each change by (w - lower)(upper - w).
        """
        return dataclasses.replace(self, weights=self.form.learn(self, latency, winners, rates, bounds, stabiliser))

    def receptive_fields(self, latency: jax.Array, winners: Winners) -> jax.Array:
        """What each winner sees of the (C, H, W) input: (k, C, kh, kw) latencies."""
        kernel = checks.pair("kernel", self.conv.kernel, 1)
        return kernels.receptive_fields(self.padded(latency), winners, kernel=kernel, stride=self.conv.stride)

    def with_rows(self, winners: Winners, rows: jax.Array) -> "Layer":
        """The layer with new weights of the winners' features, (k, C, kh, kw); where nobody won, nothing changes."""
        weights = kernels.set_rows(self.plain_weights(), winners, rows)
        return dataclasses.replace(self, weights=self.form.pack(weights))

    def plain_weights(self) -> jax.Array:
        """The weights, (F, C, kh, kw) float32."""
        return self.form.unpack(self.weights, self.conv.features)

    def packed(self, form: "Form") -> "Layer":
        """The same layer, computed by other kernels."""
        return dataclasses.replace(self, weights=form.pack(self.plain_weights()), form=form)

    def padded(self, latency: jax.Array) -> jax.Array:
        """The input with the layer's padding."""
        return kernels.pad(latency, self.conv.padding, time_steps=self.time_steps)


class Form(NamedTuple):
    """The kernels of a layer in one form: functions that take the layer first. All forms compute the same.

    Attributes:
      pack: from weights (F, C, kh, kw) to the layout of this form.
      unpack: of (weights, F), the inverse.
      latencies: of (layer, latency).
      potentials: of (layer, spiked), at the last step; `spiked` is bool (C, H, W).
      winners: of (layer, latency), for weights >= 0 and the competition `WTA`.
      learn: of (layer, latency, winners, rates, bounds, stabiliser): the new weights.
    """

    pack: Callable[[jax.Array], jax.Array]
    unpack: Callable[[jax.Array, int], jax.Array]
    latencies: Callable[[Layer, jax.Array], jax.Array]
    potentials: Callable[[Layer, jax.Array], jax.Array]
    winners: Callable[[Layer, jax.Array], Winners]
    learn: Callable[[Layer, jax.Array, Winners, jax.Array, Any, bool], jax.Array]


def at_last_step(spiked: jax.Array, time_steps: int) -> jax.Array:
    """Who fired at all as latencies: the last step where `spiked`, silence elsewhere."""
    return jnp.where(spiked, time_steps - 1, time_steps).astype(kernels.latency_dtype(time_steps))


def plain_winners(layer: Layer, latency: jax.Array) -> Winners:
    """The winners by definition: who fires when, then the competition."""
    return layer.conv.competition(layer.spikes(latency), time_steps=layer.time_steps)


def _plain_latencies(layer: Layer, latency: jax.Array) -> jax.Array:
    return layer.spikes(latency).latency


def _plain_potentials(layer: Layer, spiked: jax.Array) -> jax.Array:
    rows, columns = checks.pair("padding", layer.conv.padding, 0)
    padded = jnp.pad(spiked, ((0, 0), (rows, rows), (columns, columns)))
    return kernels.final_potentials(padded, layer.plain_weights(), stride=layer.conv.stride)


def _settings(layer: Layer) -> dict[str, Any]:
    return dict(time_steps=layer.time_steps, stride=layer.conv.stride)


def _plain_learn(
    layer: Layer, latency: jax.Array, winners: Winners, rates: jax.Array, bounds: Any, stabiliser: bool
) -> jax.Array:
    rule = dict(bounds=bounds, stabiliser=stabiliser, **_settings(layer))
    return kernels.stdp(layer.weights, layer.padded(latency), winners, rates, **rule)


PLAIN = Form(lambda w: w, lambda w, _: w, _plain_latencies, _plain_potentials, plain_winners, _plain_learn)
"""The definition: `integrate_and_fire`, the competition, `stdp`. The other forms are held to it by a test."""


def _fast_winners(layer: Layer, latency: jax.Array) -> Winners:
    """By a search that stops early on a CPU, by bisection elsewhere."""
    limits: dict[str, Any] = dict(threshold=layer.conv.threshold, **_settings(layer))
    wta = layer.conv.competition
    places: dict[str, Any] = dict(k=wta.winners, radius=wta.radius)

    def early(latency: jax.Array, weights: jax.Array) -> Winners:
        return kernels.early_winners(latency, weights, **limits, **places)

    def by_bisection(latency: jax.Array, weights: jax.Array) -> Winners:
        spikes = kernels.first_spikes(latency, weights, **limits)
        return kernels.k_winners(spikes, time_steps=layer.time_steps, **places)

    return jax.lax.platform_dependent(layer.padded(latency), layer.weights, cpu=early, default=by_bisection)


def _fast_learn(
    layer: Layer, latency: jax.Array, winners: Winners, rates: jax.Array, bounds: Any, stabiliser: bool
) -> jax.Array:
    """Touches the winners' features alone once all weights lie within the bounds."""
    if not layer.within:
        return _plain_learn(layer, latency, winners, rates, bounds, stabiliser)
    rule = dict(bounds=bounds, stabiliser=stabiliser, **_settings(layer))
    rows = kernels.learned_rows(layer.weights[winners.feature], layer.padded(latency), winners, rates, **rule)
    return kernels.set_rows(layer.weights, winners, rows)


FAST = PLAIN._replace(winners=_fast_winners, learn=_fast_learn)
"""XLA's kernels, without the work that cannot change the result."""


def _place(layer: Layer) -> dict[str, Any]:
    return dict(features=layer.conv.features, padding=layer.conv.padding)


def _native_latencies(layer: Layer, latency: jax.Array) -> jax.Array:
    if layer.conv.threshold is None:
        return _plain_latencies(layer, latency)
    limits: dict[str, Any] = dict(threshold=layer.conv.threshold, time_steps=layer.time_steps)
    return native.latencies(latency, layer.weights, **limits, **_place(layer))


def _native_potentials(layer: Layer, spiked: jax.Array) -> jax.Array:
    return native.final_potentials(spiked, layer.weights, **_place(layer))


def _native_winners(layer: Layer, latency: jax.Array) -> Winners:
    if layer.conv.threshold is None:
        return plain_winners(layer, latency)
    wta = layer.conv.competition
    limits: dict[str, Any] = dict(threshold=layer.conv.threshold, k=wta.winners, radius=wta.radius)
    return native.winners(latency, layer.weights, time_steps=layer.time_steps, **limits, **_place(layer))


def _native_learn(
    layer: Layer, latency: jax.Array, winners: Winners, rates: jax.Array, bounds: Any, stabiliser: bool
) -> jax.Array:
    if not layer.within:
        plain = layer.packed(PLAIN)
        return native.arrange(_plain_learn(plain, latency, winners, rates, bounds, stabiliser))
    rule: dict[str, Any] = dict(time_steps=layer.time_steps, bounds=bounds, stabiliser=stabiliser)
    return native.learn(layer.weights, latency, winners, rates, **rule, **_place(layer))


NATIVE = Form(native.arrange, native.restore, _native_latencies, _native_potentials, _native_winners, _native_learn)
"""The compiled kernels of `snnjax.kernels.native`, for CPUs; floats are added up in another order."""


def native_suits(conv: Conv, time_steps: int) -> bool:
    """Whether the compiled kernels can be such a layer: its stride is 1, and it fires only when inputs do."""
    return conv.stride in (1, (1, 1)) and (conv.threshold or 0) >= 0 and time_steps <= native.STEPS


def _taps_potentials(layer: Layer, spiked: jax.Array) -> jax.Array:
    return block_potentials(layer, spiked[None])[0]


def block_potentials(layer: Layer, spiked: jax.Array) -> jax.Array:
    """Potentials at the last step of B images by one product, (B, F, H', W'), of a layer in the form `TAPS`.

    How many images come together decides in which order floats are added up, and so near-ties.

    Args:
      layer: its weights are (kh, kw, any F, C).
      spiked: (B, C, H, W) bool.
    """
    conv = layer.conv
    return kernels.final_potentials_of_block(spiked, layer.weights, padding=conv.padding, stride=conv.stride)


def _taps_learn(layer: Layer, *update: Any) -> jax.Array:
    return TAPS.pack(_plain_learn(layer.packed(PLAIN), *update))


TAPS = Form(
    lambda w: w.transpose(2, 3, 0, 1),
    lambda w, _: w.transpose(2, 3, 0, 1),
    _plain_latencies,
    _taps_potentials,
    plain_winners,
    _taps_learn,
)
"""Weights as (kh, kw, F, C), for the products of deciding layers over blocks of images."""
