"""Layers of spiking neurons."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from snnjax import kernels
from snnjax.core import checks
from snnjax.core.components import static
from snnjax.kernels import Spikes, Winners, neurons, plasticity
from snnjax.layers.conv import WTA
from snnjax.layers.layer import BaseLayer
from snnjax.layers.pool import Pool


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Layer(BaseLayer):
    """A layer of spiking neurons. It takes latencies.

    Rules read `weights` and `rows_of`, and make new layers by `with_rows`, `with_weights` and `with_threshold`, which
    mean the same whatever the kernels.

    Attributes:
      monotone: as of `Conv`.
      classes: of a deciding layer, whose features fall into as many groups of one size, in order; 0 elsewhere.
      timed: as of the network's `Decision`.
    """

    monotone: bool = static(default=False)
    classes: int = static(default=0)
    timed: bool = static(default=False)

    def with_threshold(self, threshold: Any) -> "Layer":
        """The layer with another threshold, a number or an array (F,); raises InputError for another shape."""
        checks.threshold(threshold, self.conv.features)
        return dataclasses.replace(self, conv=dataclasses.replace(self.conv, threshold=threshold))

    def _firing(self) -> dict[str, Any]:
        return dict(threshold=self.conv.threshold, time_steps=self.time_steps, stride=self.conv.stride)

    def responses(self, latency: jax.Array) -> jax.Array:
        """When each neuron fires: (F, H', W') latencies."""
        if self.kernels.latencies is None or self.conv.threshold is None:
            return self.spikes(latency).latency
        return self.kernels.latencies(self, latency)

    def spikes(self, latency: jax.Array) -> Spikes:
        """`Spikes` of (F, H', W'): latencies, and potentials at the step of the spike."""
        return neurons.integrate_and_fire(self.padded(latency), self.weights, **self._firing())

    def potentials(self, latency: jax.Array) -> jax.Array:
        """Potentials at the last step, (F, H', W') float32; which inputs fire matters, not when."""
        if self.kernels.potentials is not None:
            return self.kernels.potentials(self, latency)
        rows, columns = checks.pair("padding", self.conv.padding, 0)
        spiked = jnp.pad(latency < self.time_steps, ((0, 0), (rows, rows), (columns, columns)))
        return neurons.final_potentials(spiked, self.weights, stride=self.conv.stride)

    def last_spikes(self, latency: jax.Array) -> Spikes:
        """`Spikes` at the last step of all neurons above 0, whatever the threshold."""
        return neurons.fire_at_last_step(self.potentials(latency), time_steps=self.time_steps)

    def last_latencies(self, latency: jax.Array) -> jax.Array:
        """As `responses`, of a monotone layer, but all that fire do so at the last step; input times do not matter."""
        threshold = 0.0 if self.conv.threshold is None else self.conv.threshold
        thresholds = threshold if np.ndim(threshold) == 0 else threshold[:, None, None]  # type: ignore[index]
        return neurons.at_last_step(self.potentials(latency) > thresholds, self.time_steps)

    def deciding_spikes(self, latency: jax.Array) -> Spikes:
        """`Spikes` of (F, H', W') of a deciding layer, as the network's `Decision` needs them."""
        return self.timed_spikes(latency, self.conv.threshold) if self.timed else self.last_spikes(latency)

    def timed_spikes(self, latency: jax.Array, threshold: Any) -> Spikes:
        """As `kernels.timed_spikes`, with other thresholds than the layer's own if these are given."""
        if self.kernels.timed_spikes is not None and threshold is not None:
            return self.kernels.timed_spikes(self, latency, threshold)
        return self.spikes_by_step(latency, threshold)

    def first_spikes(self, latency: jax.Array) -> Spikes:
        """As `spikes`, but the potential of a silent neuron is that of the last step."""
        spikes = self.timed_spikes(latency, self.conv.threshold)
        return dataclasses.replace(spikes, time=None)

    def spikes_by_step(self, latency: jax.Array, threshold: Any) -> Spikes:
        """`kernels.timed_spikes` as it is defined."""
        firing = self._firing() | dict(threshold=threshold, fractional=self.conv.fractional)
        return neurons.timed_spikes(self.padded(latency), self.weights, **firing)

    def winners(self, latency: jax.Array) -> Winners:
        """The neurons that may learn, by the layer's competition: `Winners` of (k,)."""
        if self.kernels.winners is None or not self.monotone or not isinstance(self.conv.competition, WTA):
            return self.conv.competition(self.spikes(latency), time_steps=self.time_steps)
        return self.kernels.winners(self, latency)

    def learn(
        self, latency: jax.Array, winners: Winners, rates: jax.Array, *, bounds: Any, stabiliser: bool = True
    ) -> "Layer":
        """The layer after one STDP update with rates (2,) float32 (a+, a-), as in `kernels.stdp`.

        `winners` are `Winners` of (k,), of distinct features; a winner of feature -1 learns nothing.
        """
        same_bounds = any(_same(bounds, learner.bounds) for learner in self.conv.each_learner)
        if self.in_bounds and same_bounds and self.kernels.learn is not None:
            stored = self.kernels.learn(self, latency, winners, rates, bounds=bounds, stabiliser=stabiliser)
            return dataclasses.replace(self, stored=stored)
        learn = functools.partial(plasticity.stdp, time_steps=self.time_steps, stride=self.conv.stride)
        padded = self.padded(latency)
        return self.with_weights(learn(self.weights, padded, winners, rates, bounds=bounds, stabiliser=stabiliser))

    def receptive_fields(self, maps: jax.Array, winners: Winners, *, padding_value: Any = None) -> jax.Array:
        """The part of `maps` (C, H, W) that each winner sees: (k, C, kh, kw) of the same dtype.

        `maps` are the latencies of the input, or other values for each input, such as traces. The layer's padding holds
        `padding_value`, by default T if they are integers, as latencies are, and otherwise 0. A winner of feature -1
        sees arbitrary values.
        """
        checks.array("maps", maps, "C H W")
        if self.input_shape:
            checks.shape("maps", maps, self.input_shape, "the layer's input")
        if padding_value is None:
            padding_value = self.time_steps if jnp.issubdtype(maps.dtype, jnp.integer) else 0
        rows, columns = checks.pair("padding", self.conv.padding, 0)
        padded = jnp.pad(maps, ((0, 0), (rows, rows), (columns, columns)), constant_values=padding_value)
        return kernels.receptive_fields(padded, winners, kernel=self.conv.kernel, stride=self.conv.stride)

    def time_differences(self, latency: jax.Array, winners: Winners) -> jax.Array:
        """The step of each winner's spike minus those of its inputs, as in `kernels.time_differences`.

        (k, C, kh, kw) int32, for which differences of latencies, which are unsigned, have the wrong sign.
        """
        kernel = self.conv.kernel
        return kernels.time_differences(self.padded(latency), winners, kernel=kernel, stride=self.conv.stride)

    def rows_of(self, winners: Winners) -> jax.Array:
        """The weights of the winners' features, (k, C, kh, kw) float32; arbitrary ones for a winner of feature -1."""
        return self.weights[winners.feature]

    def with_rows(self, winners: Winners, rows: jax.Array) -> "Layer":
        """The layer with new weights of the winners' features, (k, C, kh, kw); a winner of feature -1 changes none."""
        return self.with_weights(kernels.set_rows(self.weights, winners, rows))

    def padded(self, latency: jax.Array) -> jax.Array:
        """The input with the layer's padding."""
        return kernels.pad(latency, self.conv.padding, time_steps=self.time_steps)

    def outputs(self, inputs: jax.Array, pool: Pool | None) -> jax.Array:
        """The part of its stage's output that is this layer's: `pooled` of `responses`."""
        if self.kernels.outputs is None or self.conv.threshold is None:
            return self.pooled(self.responses(inputs), pool)
        return self.kernels.outputs(self, inputs, pool)


def _same(bounds: Any, others: Any) -> bool:
    """Whether pairs of bounds are the same numbers. Within a compiled program they are if they are the same objects."""
    if others is None:
        return False
    traced = any(isinstance(bound, jax.core.Tracer) for bound in (*bounds, *others))
    return all(one is other if traced else one == other for one, other in zip(bounds, others, strict=True))
