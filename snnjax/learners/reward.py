"""Reward-modulated STDP."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from snnjax import kernels
from snnjax.core import checks
from snnjax.core.components import component, number, static
from snnjax.core.errors import InputError
from snnjax.kernels import plasticity
from snnjax.layers.spiking import Layer
from snnjax.learners.protocol import (
    DecisionCounts,
    Diagnosis,
    Learned,
    Learner,
    Response,
    Signal,
    UpdateResult,
    convergence,
    count_wins,
    winner_of_class,
)


@component
class RSTDP(Learner):
    """R-STDP (Mozafari et al. 2018): STDP of the winners after a right decision, anti-STDP after a wrong one.

    After each interval of `adapt_every` images, the reward rates are set to their base rates times the fraction of
    wrong decisions, and the punishment rates to their base rates times the fraction of right decisions. In a deciding
    layer, the winner is the earliest neuron of the class that the layer voted for (among equally early ones the
    strongest), and the layer's vote is rewarded or punished. In all other layers, the competition determines the
    winners, and the decision of the network is rewarded or punished. With an untimed decision, all neurons that fire do
    so at the last step. The paper is [arXiv 1705.09132](https://arxiv.org/abs/1705.09132).

    Attributes:
      reward: base rates (a+, a-) after a right decision, a+ >= 0 >= a-.
      punish: base rates (a+, a-) after a wrong decision, a+ <= 0 <= a-.
      bounds: lower and upper bound of a weight.
      stabiliser: multiplies each change by (w - lower)(upper - w).
      dropout: the probability that a feature cannot fire while the layer learns, drawn again for each epoch; None:
        nothing is drawn. In layers before the last, such a feature cannot win, but later layers receive its spikes.
        Tests use all features.
      floor: if given, rates are base * (floor + (1 - floor) * fraction), and a deciding layer starts with the fractions
        of random guessing, 1 - 1/classes wrong and 1/classes right. None: the floor is 0, and the base rates apply
        until they are adapted.
      by_epoch: whether rates are adapted after each epoch, by all its decisions, as in the paper, instead of after each
        interval.

    Examples:
      >>> from snnjax import RSTDP, Conv, Network, stage
      >>> readout = Conv(100, kernel=28, learners=RSTDP(dropout=0.4))
      >>> network = Network("rewarded", (6, 28, 28), 10, stages=(stage(readout),))
      >>> network.deciding, network.weight_shapes
      (('layer1',), {'layer1': (100, 6, 28, 28)})
    """

    # On 6,000 held-out images of MNIST, these rates and bounds reach 92.8 % after 10 epochs (mozafari2018). A reward a-
    # of -0.002 gives 91.7, a punish a- of 0.002 57.8, and bounds of 0 and 1 give 91.2 %.
    reward: tuple[float, float] = (0.004, -0.003)
    punish: tuple[float, float] = (-0.004, 0.0005)
    bounds: tuple[float, float] = (0.2, 0.8)
    # With the stabiliser, a decision layer on MNIST reached 91.1 instead of 94.6 % after 25 epochs.
    stabiliser: bool = static(default=False)
    # Off by default: dropping half of the features of a class reached 93.9 instead of 95.1 % after 30 epochs, and a
    # floor of 0.2 did not get beyond 91 %.
    dropout: float | None = number(default=None, minimum=0, below=1)
    floor: float | None = number(default=None, minimum=0, maximum=1)
    by_epoch: bool = static(default=False)
    supervised = True
    title = "R-STDP"
    rewarded = True

    def check(self) -> None:
        checks.bounds(self.bounds)
        for name, sign in (("reward", 1), ("punish", -1)):
            rates = getattr(self, name)
            if not (0 <= sign * rates[0] < math.inf and -math.inf < sign * rates[1] <= 0):
                signs = "at least 0 and at most 0" if sign > 0 else "at most 0 and at least 0"
                raise InputError(f"`{name}` must be (a+, a-), {signs}, got {rates}")

    def init(self, layer: Layer, key: np.ndarray, images_seen: int) -> Any:
        """`rates` (a+, a-) after reward, then after punishment, (2, 2) float32, and more as the settings need.

        With `by_epoch` that is `counts`, (3,) int32, wrong and right decisions, and images, of the epoch so far; with
        `dropout` it is `kept`, (F,) bool, the features that may fire in this epoch, and the `key` of later draws.
        """
        state: dict[str, Any] = dict(rates=np.array([self.reward, self.punish], np.float32))
        if self.floor is not None and layer.classes:
            state["rates"] = self._adapted(np.array([layer.classes - 1, 1, layer.classes], np.int32))
        if self.by_epoch:
            state["counts"] = np.zeros(3, np.int32)
        return state if self.dropout is None else self._redrawn(state, jnp.asarray(key), layer.conv.features)

    def forward(self, layer: Layer, state: Any, latency: jax.Array, label: jax.Array | None) -> Response:
        """The response of the features that dropout keeps."""
        if self.dropout is None:
            return super().forward(layer, state, latency, label)
        kept = state["kept"]
        if not layer.classes and layer.conv.threshold is not None:
            # Infinite thresholds instead of inhibition afterwards, so that the search for winners can still stop early.
            return Response(layer.with_threshold(jnp.where(kept, layer.conv.threshold, jnp.inf)).winners(latency))
        spikes = layer.deciding_spikes(latency) if layer.classes else layer.spikes(latency)
        spikes = kernels.feature_inhibition(spikes, ~kept, time_steps=layer.time_steps)
        if layer.classes:
            return Response(spikes=spikes)
        return Response(layer.conv.competition(spikes, time_steps=layer.time_steps))

    def update(
        self, layer: Layer, state: Any, latency: jax.Array, response: Any, signal: Signal | None
    ) -> UpdateResult:
        """The winners learn. Info: their `feature`, (k,) int32, -1 where no neuron learned.

        A deciding layer under a timed decision adds the `step` of the spike, (1,) integers, T where no neuron of the
        class voted for fired.
        """
        assert signal is not None
        winners = response.winners
        if winners is None:
            winners = winner_of_class(layer, response.spikes, signal.vote)
        winners = dataclasses.replace(winners, feature=jnp.where(signal.reward == 0, -1, winners.feature))
        rates = kernels.reward_rates(signal.reward, *state["rates"])
        layer = layer.learn(latency, winners, rates, bounds=self.bounds, stabiliser=self.stabiliser)
        step = dict(step=winners.latency) if layer.timed and layer.classes else {}
        return layer, state, dict(feature=winners.feature, **step)

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
        """As the default, by `kernels.learn_reward` in a layer that decides without times.

        `vote` is not needed: layers learn from their own votes only under `Majority`, whose votes the kernel finds.
        """
        if layer.timed or not layer.classes:
            return super().learn(layer, state, latencies, labels, learns, update_batch=update_batch, vote=vote)
        assert labels is not None
        reward, punish = state["rates"]
        learned = kernels.learn_reward(
            layer.weights,
            latencies,
            labels,
            reward,
            punish,
            learns,
            state.get("kept"),
            classes=layer.classes,
            time_steps=layer.time_steps,
            bounds=self.bounds,
            stabiliser=self.stabiliser,
            stride=layer.conv.stride,
            padding=layer.conv.padding,
            update_batch=update_batch,
        )
        layer = dataclasses.replace(layer, weights=learned.weights)
        feature = learned.feature[:, None]
        return Learned(layer, state, dict(feature=feature), learned.vote, feature)

    def supports_native(self, layer: Layer, update_batch: int) -> bool:
        decides_untimed = bool(layer.classes) and not layer.timed
        return decides_untimed and update_batch == 1 and super().supports_native(layer, update_batch)

    def end_interval(self, state: Any, counts: DecisionCounts) -> Any:
        """Adapts the rates to the fractions of right and wrong decisions, or counts these until the epoch ends."""
        decisions = jnp.stack([counts.wrong, counts.correct, counts.seen])
        if self.by_epoch:
            return dict(state, counts=state["counts"] + decisions)
        return dict(state, rates=self._adapted(decisions))

    def end_epoch(self, state: Any) -> Any:
        """Adapts the rates `by_epoch`, and draws the features that `dropout` keeps in the next epoch."""
        if self.by_epoch:
            counts = state["counts"]
            # An epoch without images has no wrong and no right decisions, which would make all rates of the next one 0.
            rates = jnp.where(counts[2] > 0, self._adapted(counts), state["rates"])
            state = dict(state, rates=rates, counts=jnp.zeros_like(counts))
        return state if self.dropout is None else self._redrawn(state, state["key"], len(state["kept"]))

    def _adapted(self, counts: Any) -> jax.Array:
        """Rates (2, 2) float32 after so many wrong and right decisions on so many images, (3,)."""
        shares = (counts[:2] / jnp.maximum(counts[2], 1)).astype(jnp.float32)
        if self.floor is not None:
            shares = self.floor + (1 - self.floor) * shares
        base = jnp.asarray([self.reward, self.punish], jnp.float32)
        return plasticity.adapted_rates(base, shares[:, None])

    def _redrawn(self, state: dict[str, Any], key: jax.Array, features: int) -> dict[str, Any]:
        """With the features that the next epoch keeps."""
        # The state keeps a new key for the next epoch, which would otherwise drop the same features.
        key, now = jax.random.split(key)
        dropped = jax.random.bernoulli(now, jnp.float32(self.dropout), (features,))
        return dict(state, key=key, kept=~dropped)

    def scalars(self, state: Any) -> dict[str, float]:
        names = [f"rate_{rate}_after_{signal}" for signal in ("reward", "punishment") for rate in ("plus", "minus")]
        return dict(zip(names, map(float, np.ravel(state["rates"])), strict=True))

    def diagnose(self, layer: Layer, info: Any) -> Diagnosis:
        """Convergence of the weights, winners, and the steps of their spikes where the decision is timed."""
        figures: Diagnosis = dict(
            convergence=convergence(np.asarray(layer.weights), self.bounds),
            **count_wins(info["feature"], layer.conv.features),
        )
        if "step" not in info:
            return figures
        step = np.asarray(info["step"])  # of the first spike of the class voted for, (N, 1)
        fired = step[step < layer.time_steps]
        return figures | dict(
            silent_neurons=float(np.mean(step >= layer.time_steps)),
            spike_time=float(np.mean(fired) / layer.time_steps) if fired.size else 1.0,
            at_first_step=float(np.mean(fired == 0)) if fired.size else 0.0,
        )
