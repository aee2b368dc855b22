"""Layers of spiking neurons."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from snnjax import kernels
from snnjax.core import checks
from snnjax.core.components import static
from snnjax.kernels import Spikes, Winners, neurons
from snnjax.layers.conv import is_wta
from snnjax.layers.layer import BaseLayer
from snnjax.layers.pool import Pool, pooling


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Layer(BaseLayer):
    """A layer of spiking neurons, whose inputs are latencies.

    Learning rules read `weights` and `weights_of`, and create new layers with `with_weights`, `with_weights_of` and
    `with_threshold`.

    Attributes:
      monotone: whether potentials never fall, as in `Conv`.
      classes: the number of classes of a deciding layer, whose features form one group of equal size per class, in
        order; 0 in all other layers.
      timed: whether the decision needs spike times, as in the network's `Decision`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from snnjax.layers import Conv, Layer
      >>> layer = Layer(Conv(4, kernel=3, threshold=8.0), weights=jnp.ones((4, 2, 3, 3)), time_steps=15)
      >>> latency = jnp.full((2, 6, 6), 7, jnp.uint8)
      >>> layer.responses(latency).shape
      (4, 4, 4)
    """

    monotone: bool = static(default=False)
    classes: int = static(default=0)
    timed: bool = static(default=False)

    def with_threshold(self, threshold: Any) -> "Layer":
        """The layer with another threshold, a number or an array (F,); raises InputError for another shape."""
        checks.threshold(threshold, self.conv.features)
        return dataclasses.replace(self, conv=dataclasses.replace(self.conv, threshold=threshold))

    @property
    def _geometry(self) -> dict[str, Any]:
        return dict(time_steps=self.time_steps, stride=self.conv.stride, padding=self.conv.padding)

    def responses(self, latency: jax.Array) -> jax.Array:
        """The latencies of the neurons, (F, H', W')."""
        return kernels.latencies(latency, self.weights, threshold=self.conv.threshold, **self._geometry)

    def outputs(self, inputs: jax.Array, pool: Pool | None) -> jax.Array:
        """This layer's part of the output of its stage: its `responses`, then `pooled`."""
        fire = functools.partial(kernels.latencies, pool=pooling(pool, self.conv.output_padding))
        return fire(inputs, self.weights, threshold=self.conv.threshold, **self._geometry)

    def spikes(self, latency: jax.Array) -> Spikes:
        """`Spikes` of (F, H', W'), with latencies and the potentials at the time step of the spike."""
        return kernels.integrate_and_fire(latency, self.weights, threshold=self.conv.threshold, **self._geometry)

    def potentials(self, latency: jax.Array) -> jax.Array:
        """Potentials at the last time step, (F, H', W') float32; it only matters which inputs fire, not when."""
        return kernels.final_potentials(latency, self.weights, **self._geometry)

    def last_spikes(self, latency: jax.Array) -> Spikes:
        """`Spikes` in which all neurons with a potential above 0 fire at the last time step, whatever the threshold."""
        return neurons.fire_at_last_step(self.potentials(latency), time_steps=self.time_steps)

    def last_outputs(self, latencies: jax.Array, pool: Pool | None) -> jax.Array:
        """`outputs` of stimuli (S, C, H, W) for neurons that fire only at the last time step.

        They are computed by `kernels.final_latencies`. In a monotone layer, the same neurons fire as in `outputs`.
        """
        fire = functools.partial(kernels.final_latencies, pool=pooling(pool, self.conv.output_padding))
        return fire(latencies, self.weights, threshold=self.conv.threshold, **self._geometry)

    def strongest_of_classes(self, latencies: jax.Array, *, only_largest: bool = False) -> Spikes:
        """`last_spikes` of the strongest neuron of each class, for stimuli (S, C, H, W).

        They are `Spikes` of (S, classes, 1, 1), by `kernels.strongest_of_classes`.
        """
        find = functools.partial(kernels.strongest_of_classes, classes=self.classes, only_largest=only_largest)
        potential = find(latencies, self.weights, **self._geometry)
        return neurons.fire_at_last_step(potential[..., None, None], time_steps=self.time_steps)

    def earliest_of_classes(self, latencies: jax.Array) -> Spikes:
        """`deciding_spikes` of the earliest neuron of each class, for stimuli (S, C, H, W); in a tie, of the strongest.

        They are `Spikes` of (S, classes, 1, 1), by `kernels.earliest_of_classes`, if each neuron sees the whole input
        and potentials never fall. Otherwise they are the `Spikes` of all neurons.
        """
        conv = self.conv
        whole = conv.padding in (0, (0, 0)) and latencies.shape[1:] == self.weights.shape[1:]
        if not (whole and self.monotone) or conv.threshold is None:
            return jax.vmap(self.deciding_spikes)(latencies)
        find = functools.partial(kernels.earliest_of_classes, classes=self.classes, fractional=conv.fractional)
        spikes = find(latencies, self.weights, threshold=conv.threshold, time_steps=self.time_steps)
        return jax.tree.map(lambda x: x[..., None, None], spikes)

    def deciding_spikes(self, latency: jax.Array) -> Spikes:
        """`Spikes` of (F, H', W') of a deciding layer, as the network's `Decision` needs them."""
        return self.timed_spikes(latency, self.conv.threshold) if self.timed else self.last_spikes(latency)

    def timed_spikes(self, latency: jax.Array, threshold: Any) -> Spikes:
        """`kernels.timed_spikes` of the layer at the given threshold, which may differ from the layer's own."""
        fire = functools.partial(kernels.timed_spikes, threshold=threshold, fractional=self.conv.fractional)
        return fire(latency, self.weights, **self._geometry)

    def first_spikes(self, latency: jax.Array) -> Spikes:
        """`spikes` in which the potential of a silent neuron is its potential at the last time step."""
        spikes = self.timed_spikes(latency, self.conv.threshold)
        return dataclasses.replace(spikes, time=None)

    def winners(self, latency: jax.Array) -> Winners:
        """The neurons that may learn, selected by the layer's competition: `Winners` of (k,)."""
        competition = self.conv.competition
        if not is_wta(competition):
            return competition(self.spikes(latency), time_steps=self.time_steps)
        compete = functools.partial(kernels.winners, k=competition.winners, radius=competition.radius)
        return compete(latency, self.weights, threshold=self.conv.threshold, **self._geometry)

    def learn(
        self, latency: jax.Array, winners: Winners, rates: jax.Array, *, bounds: Any, stabiliser: bool = True
    ) -> "Layer":
        """The layer after one STDP update with rates (2,) float32 (a+, a-), as in `kernels.stdp`.

        `winners` are `Winners` of (k,), of distinct features; a winner of feature -1 learns nothing.
        """
        learn = functools.partial(kernels.stdp, bounds=bounds, stabiliser=stabiliser)
        return dataclasses.replace(self, weights=learn(self.weights, latency, winners, rates, **self._geometry))

    def receptive_fields(self, maps: jax.Array, winners: Winners, *, padding_value: Any = None) -> jax.Array:
        """The part of `maps` (C, H, W) that each winner sees: (k, C, kh, kw) of the same dtype.

        `maps` holds the latencies of the input, or other values of each input, such as traces. The layer's padding is
        filled with `padding_value`, by default T for integers, as for latencies, and 0 for other dtypes. For a winner
        of feature -1, the values are arbitrary.
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
        """The time step of each winner's spike minus those of its inputs, (k, C, kh, kw) int32.

        They are computed by `kernels.plasticity.time_differences`. Do not subtract latencies directly: they are
        unsigned, so that negative differences would wrap around.
        """
        kernel = self.conv.kernel
        return kernels.plasticity.time_differences(
            self.padded(latency), winners, kernel=kernel, stride=self.conv.stride
        )

    def weights_of(self, winners: Winners) -> jax.Array:
        """The weights of the winners' features, (k, C, kh, kw) float32; arbitrary values for feature -1."""
        return self.weights[winners.feature]

    def with_weights_of(self, winners: Winners, rows: jax.Array) -> "Layer":
        """The layer with new weights, (k, C, kh, kw), for the winners' features; a feature -1 changes nothing."""
        return self.with_weights(kernels.plasticity.set_rows(self.weights, winners, rows))

    def padded(self, latency: jax.Array) -> jax.Array:
        """The input with the layer's padding."""
        return kernels.pad(latency, self.conv.padding, time_steps=self.time_steps)
