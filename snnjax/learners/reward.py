"""Reward-modulated STDP."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from snnjax import kernels
from snnjax.components import component, static
from snnjax.errors import InputError
from snnjax.kernels import Spikes, Winners, checks
from snnjax.layers import Layer
from snnjax.learners.protocol import Diagnosis, Learned, Learner, Signal, Tally, convergence


@component
class RSTDP(Learner):
    """R-STDP (Mozafari et al. 2018): STDP of the winners after a right decision, anti-STDP after a wrong one.

    After each batch the rates of reward become their base times the fraction of wrong decisions, those of punishment
    their base times the fraction of right ones. In a deciding layer the strongest neuron of the class that the layer
    voted for wins, and its vote is rewarded; elsewhere the competition finds the winners, and the network's decision is
    rewarded.

    Attributes:
      reward: base rates (a+, a-) after a right decision, a+ >= 0 >= a-.
      punish: base rates (a+, a-) after a wrong decision, a+ <= 0 <= a-.
      bounds: lower and upper bound of a weight.
      stabiliser: multiplies each change by (w - lower)(upper - w).
    """

    reward: tuple[float, float] = (0.004, -0.003)
    punish: tuple[float, float] = (-0.004, 0.0005)
    bounds: tuple[float, float] = (0.2, 0.8)
    stabiliser: bool = static(default=False)
    supervised = True
    native = True

    def check(self) -> None:
        checks.bounds(self.bounds)
        for name, sign in (("reward", 1), ("punish", -1)):
            rates = getattr(self, name)
            if len(rates) != 2 or not (0 <= sign * rates[0] < math.inf and -math.inf < sign * rates[1] <= 0):
                signs = "at least 0 and at most 0" if sign > 0 else "at most 0 and at least 0"
                raise InputError(f"`{name}` must be (a+, a-), {signs}, got {rates}")

    def init(self, layer: Layer, key: np.ndarray, seen: int) -> Any:
        """The rates (a+, a-) after reward, then after punishment, (2, 2) float32."""
        return np.array([self.reward, self.punish], np.float32)

    def update(self, layer: Layer, state: Any, latency: jax.Array, response: Any, signal: Signal | None) -> Learned:
        """The winners learn; info is their features, (k,) int32, -1 where nobody learned."""
        assert signal is not None
        winners = response.winners
        if winners is None:
            winners = strongest_of_class(layer, response.spikes, signal.vote)
        winners = dataclasses.replace(winners, feature=jnp.where(signal.reward == 0, -1, winners.feature))
        rates = kernels.reward_rates(signal.reward, state[0], state[1])
        layer = layer.learn(latency, winners, rates, bounds=self.bounds, stabiliser=self.stabiliser)
        return layer, state, winners.feature

    def end_batch(self, state: Any, tally: Tally) -> Any:
        """Adapts the rates to the fractions of right and wrong decisions."""
        seen = jnp.maximum(tally.seen, 1)
        fractions = jnp.stack([tally.wrong / seen, tally.correct / seen]).astype(jnp.float32)
        base = jnp.stack([jnp.stack(self.reward), jnp.stack(self.punish)])
        return kernels.adapted_rates(base, fractions[:, None])

    def scalars(self, state: Any) -> dict[str, float]:
        """The rates."""
        names = [f"rate_{rate}_after_{signal}" for signal in ("reward", "punishment") for rate in ("plus", "minus")]
        return dict(zip(names, map(float, np.ravel(state)), strict=True))

    def diagnose(self, name: str, layer: Layer, info: Any) -> Diagnosis:
        """How far the weights have converged."""
        open_ = convergence(np.asarray(layer.weights), self.bounds)
        return dict(convergence=open_, words=[f"mean w(1-w) between the bounds of {name} is {open_:.3f}"])


def strongest_of_class(layer: Layer, spikes: Any, vote: jax.Array) -> Winners:
    """The strongest neuron of the features of one class, then the lowest flat index: `Winners` of (1,)."""
    group = jnp.arange(layer.conv.features) // (layer.conv.features // layer.classes)
    silent = jnp.asarray(layer.time_steps, spikes.latency.dtype)
    latency = jnp.where((group == vote)[:, None, None], spikes.latency, silent)
    return kernels.k_winners(Spikes(latency, spikes.potential), k=1, radius=0, time_steps=layer.time_steps)
