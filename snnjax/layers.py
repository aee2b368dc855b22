"""Spiking layers: their descriptions, frozen dataclasses, and the flax.nnx module that holds a layer's weights.

The module has no arithmetic of its own: it calls `snnjax.kernels` with the settings of its description. All its methods
take one stimulus; batches come from `jax.vmap`.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from snnjax import kernels
from snnjax.kernels import Spikes, Winners, checks, native
from snnjax.kernels.checks import Pair
from snnjax.kernels.neurons import fire_at_last_step
from snnjax.kernels.spikes import output_size


@dataclasses.dataclass(frozen=True)
class STDP:
    """Unsupervised STDP: a+ starts at `ltp` and doubles every `doubling` images up to `ltp_max`; a- keeps its ratio."""

    ltp: float = 0.004
    ltd: float = -0.003
    doubling: int = 500
    ltp_max: float = 0.15
    bounds: tuple[float, float] = (0.0, 1.0)
    stabiliser: bool = True

    def rates(self, image: jax.Array) -> jax.Array:
        """(2,) float32 (a+, a-) for image number `image`, () integer, of a layer's training, counted from 0."""
        schedule = optax.exponential_decay(self.ltp, self.doubling, 2.0, staircase=True, end_value=self.ltp_max)
        return schedule(image + 1) * jnp.array([1.0, self.ltd / self.ltp], jnp.float32)


@dataclasses.dataclass(frozen=True)
class RSTDP:
    """Reward-modulated STDP: base rates (a+, a-) after a correct and after a wrong decision."""

    reward: tuple[float, float] = (0.004, -0.003)
    punish: tuple[float, float] = (-0.004, 0.0005)
    bounds: tuple[float, float] = (0.2, 0.8)
    stabiliser: bool = False


@dataclasses.dataclass(frozen=True)
class Pool:
    """Max pooling of spikes; the stride is the window's size by default."""

    window: Pair
    stride: Pair | None = None
    padding: Pair = 0

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the pooled map."""
        window = checks.pair("window", self.window, 1)
        stride = window if self.stride is None else checks.pair("stride", self.stride, 1)
        padded = _padded(size, self.padding)
        checks.window("the pooling window", window, padded)
        return output_size(padded, window, stride)


@dataclasses.dataclass(frozen=True)
class Conv:
    """A convolutional spiking layer.

    Attributes:
      features: F, the number of feature maps.
      kernel: rows and columns of the kernel; one integer for both.
      padding: silent rows and columns added to the input.
      stride: input rows and columns between neighbouring neurons.
      threshold: of firing; with None, neurons above 0 fire at the last step, as in a decision layer.
      winners: k, how many neurons may learn from one stimulus.
      radius: of lateral inhibition around a winner.
      stdp: how the layer learns unsupervised, if it does.
      rstdp: how the layer learns by reward, if it does.
      output_padding: silent rows and columns added to the output, to join branches of different size.
      weight_mean: mean of the initial weights, normally distributed.
      weight_std: their standard deviation.
    """

    features: int
    kernel: Pair
    padding: Pair = 0
    stride: Pair = 1
    threshold: float | None = None
    winners: int = 1
    radius: int = 0
    stdp: STDP | None = None
    rstdp: RSTDP | None = None
    output_padding: Pair = 0
    weight_mean: float = 0.8
    weight_std: float = 0.05

    def __post_init__(self) -> None:
        checks.integer("features", self.features, 1)
        checks.integer("winners", self.winners, 1)
        if not isinstance(self.radius, jax.Array):  # `Sweep` puts arrays in the place of some numbers
            checks.integer("radius", self.radius, 0)
        checks.threshold(self.threshold)
        for name, minimum in (("kernel", 1), ("padding", 0), ("stride", 1), ("output_padding", 0)):
            checks.pair(name, getattr(self, name), minimum)

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the output map, without `output_padding`."""
        kernel = checks.pair("kernel", self.kernel, 1)
        padded = _padded(size, self.padding)
        checks.window("the kernel", kernel, padded)
        return output_size(padded, kernel, checks.pair("stride", self.stride, 1))

    @property
    def monotone(self) -> bool:
        """Whether its rules keep weights >= 0, so that potentials never fall and the last step decides who fires."""
        rules = [rule for rule in (self.stdp, self.rstdp) if rule is not None]
        return bool(rules) and all(rule.bounds[0] >= 0 for rule in rules)


def _padded(size: tuple[int, int], padding: Pair) -> tuple[int, int]:
    rows, columns = checks.pair("padding", padding, 0)
    return size[0] + 2 * rows, size[1] + 2 * columns


class PlasticWeight(nnx.Variable):
    """Weights that learn by plasticity, not by gradient."""


class SpikingConv(nnx.Module):
    """A convolutional spiking layer with its weights, (F, C, kh, kw) float32."""

    def __init__(self, spec: Conv, channels: int, *, time_steps: int, rngs: nnx.Rngs):
        """Draws the initial weights.

        Args:
          spec: the layer's description.
          channels: C, the number of input maps.
          time_steps: T.
          rngs: their `params` stream draws the weights.
        """
        self.spec = spec
        self.time_steps = checks.time_steps(time_steps)
        shape = (spec.features, checks.integer("channels", channels, 1), *checks.pair("kernel", spec.kernel, 1))
        noise = jax.random.normal(rngs.params(), shape, jnp.float32)
        self.weight = PlasticWeight(spec.weight_mean + spec.weight_std * noise)

    def weights(self) -> jax.Array:
        """The weights, (F, C, kh, kw) float32."""
        return self.weight[...]

    def set_weights(self, weights: jax.Array) -> None:
        """Sets the weights, (F, C, kh, kw)."""
        self.weight[...] = weights

    def __call__(self, latency: jax.Array) -> Spikes:
        """The spikes of (C, H, W) input latencies: `Spikes` of (F, H', W')."""
        spec = self.spec
        return kernels.integrate_and_fire(
            self._padded(latency),
            self.weights(),
            threshold=spec.threshold,
            time_steps=self.time_steps,
            stride=spec.stride,
        )

    def latencies(self, latency: jax.Array) -> jax.Array:
        """The latencies alone of the spikes of (C, H, W) input latencies: (F, H', W')."""
        return self(latency).latency

    def fired(self, spiked: jax.Array) -> jax.Array:
        """Who fires at all, (F, H', W') bool, of (C, H, W) bool inputs that did; for weights >= 0."""
        threshold = self.spec.threshold
        return self.final_potentials(spiked) > (0.0 if threshold is None else threshold)

    def final_potentials(self, spiked: jax.Array) -> jax.Array:
        """Potentials at the last step, (F, H', W') float, from (C, H, W) bool: which inputs fired at all."""
        rows, columns = checks.pair("padding", self.spec.padding, 0)
        padded = jnp.pad(spiked, ((0, 0), (rows, rows), (columns, columns)))
        return kernels.final_potentials(padded, self.weights(), stride=self.spec.stride)

    def final_potentials_of_block(self, spiked: jax.Array, taps: jax.Array) -> jax.Array:
        """The same of B images, (B, F, H', W'), with weights (kh, kw, any F, C) in place of the layer's own."""
        return kernels.final_potentials_of_block(spiked, taps, padding=self.spec.padding, stride=self.spec.stride)

    def winners(self, latency: jax.Array) -> Winners:
        """Who learns from (C, H, W) input latencies: `Winners` of (k,), after pointwise inhibition."""
        spec, padded, weights = self.spec, self._padded(latency), self.weights()
        neurons: dict[str, Any] = dict(threshold=spec.threshold, time_steps=self.time_steps, stride=spec.stride)
        places: dict[str, Any] = dict(k=spec.winners, radius=spec.radius, time_steps=self.time_steps)
        if not spec.monotone:
            fired = kernels.strongest_feature(self(latency), time_steps=self.time_steps)
            return kernels.k_winners(fired, **places)
        return jax.lax.platform_dependent(
            padded,
            weights,
            cpu=lambda *inputs: kernels.early_winners(*inputs, **neurons | places),
            default=lambda *inputs: kernels.k_winners(kernels.first_spikes(*inputs, **neurons), **places),
        )

    def decide(self, potentials: jax.Array) -> Winners:
        """The one winner, (1,), of a decision layer with potentials (F, H', W') at the last step."""
        spikes = fire_at_last_step(potentials, time_steps=self.time_steps)
        return kernels.k_winners(spikes, k=1, radius=0, time_steps=self.time_steps)

    def learn(self, latency: jax.Array, winners: Winners, rates: jax.Array, rule: STDP | RSTDP) -> None:
        """Updates the weights by one stimulus.

        Args:
          latency: (C, H, W) integers, the input.
          winners: who learns.
          rates: (2,) float, (a+, a-).
          rule: its bounds and stabiliser apply.
        """
        settings = dict(**self._rule(rule), stride=self.spec.stride)
        self.set_weights(kernels.stdp(self.weights(), self._padded(latency), winners, rates, **settings))

    def learn_within(self, latency: jax.Array, winners: Winners, rates: jax.Array, rule: STDP | RSTDP) -> None:
        """As `learn`, but touches the winners' features alone: the same if all weights lie within the bounds."""
        weights = self.weights()
        rows = self.learned_rows(weights[winners.feature], latency, winners, rates, rule)
        self.set_weights(kernels.set_rows(weights, winners, rows))

    def learned_rows(
        self, rows: jax.Array, latency: jax.Array, winners: Winners, rates: jax.Array, rule: STDP | RSTDP
    ) -> jax.Array:
        """From the weights of the winners' features, (k, C, kh, kw) within the bounds, to their new weights."""
        settings = dict(**self._rule(rule), stride=self.spec.stride)
        return kernels.learned_rows(rows, self._padded(latency), winners, rates, **settings)

    def _rule(self, rule: STDP | RSTDP) -> dict[str, Any]:
        return dict(time_steps=self.time_steps, bounds=rule.bounds, stabiliser=rule.stabiliser)

    def _padded(self, latency: jax.Array) -> jax.Array:
        return kernels.pad(latency, self.spec.padding, time_steps=self.time_steps)


class NativeConv(SpikingConv):
    """`SpikingConv` on the compiled kernels of `snnjax.kernels.native`, for CPUs; its weights lie as those take them.

    `NativeConv.suits` tells which layers it can be.
    """

    def __init__(self, spec: Conv, channels: int, *, time_steps: int, rngs: nnx.Rngs):
        """Draws the initial weights, as `SpikingConv` does."""
        super().__init__(spec, channels, time_steps=time_steps, rngs=rngs)
        self.weight = PlasticWeight(native.arrange(self.weight[...]))

    @staticmethod
    def suits(spec: Conv, time_steps: int) -> bool:
        """Whether the compiled kernels can be such a layer: its stride is 1, and it fires only when inputs do."""
        return spec.stride in (1, (1, 1)) and (spec.threshold or 0) >= 0 and time_steps <= native.STEPS

    def weights(self) -> jax.Array:
        """The weights, (F, C, kh, kw) float32."""
        return native.restore(self.weight[...], self.spec.features)

    def set_weights(self, weights: jax.Array) -> None:
        """Sets the weights, (F, C, kh, kw)."""
        self.weight[...] = native.arrange(weights)

    def latencies(self, latency: jax.Array) -> jax.Array:
        """The latencies alone of the spikes of (C, H, W) input latencies: (F, H', W')."""
        if self.spec.threshold is None:
            return super().latencies(latency)
        limits: dict[str, Any] = dict(threshold=self.spec.threshold, time_steps=self.time_steps)
        return native.latencies(latency, self.weight[...], **limits, **self._place())

    def final_potentials(self, spiked: jax.Array) -> jax.Array:
        """Potentials at the last step, (F, H', W') float, from (C, H, W) bool: which inputs fired at all."""
        return native.final_potentials(spiked, self.weight[...], **self._place())

    def winners(self, latency: jax.Array) -> Winners:
        """Who learns from (C, H, W) input latencies: `Winners` of (k,), after pointwise inhibition."""
        spec = self.spec
        if spec.threshold is None or not spec.monotone:
            return super().winners(latency)
        limits: dict[str, Any] = dict(threshold=spec.threshold, k=spec.winners, radius=spec.radius)
        return native.winners(latency, self.weight[...], time_steps=self.time_steps, **limits, **self._place())

    def learn_within(self, latency: jax.Array, winners: Winners, rates: jax.Array, rule: STDP | RSTDP) -> None:
        """As `learn`, but touches the winners' features alone: the same if all weights lie within the bounds."""
        settings = self._rule(rule) | self._place()
        self.weight[...] = native.learn(self.weight[...], latency, winners, rates, **settings)

    def _place(self) -> dict[str, Any]:
        return dict(features=self.spec.features, padding=self.spec.padding)


@functools.partial(jax.jit, static_argnames="time_steps")
def spiked_to_latency(spiked: jax.Array, *, time_steps: int) -> jax.Array:
    """Who fired at all as latencies: the last step where `spiked`, silence elsewhere."""
    return jnp.where(spiked, time_steps - 1, time_steps).astype(kernels.latency_dtype(time_steps))
