"""How layers learn: `Learner` is the protocol, `STDP` and `RSTDP` follow it, and so may learners of your own."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from snnjax import kernels
from snnjax.components import component, static
from snnjax.errors import InputError
from snnjax.kernels import Spikes, Winners, checks
from snnjax.layers import Layer

Learned = tuple[Layer, Any, Any]
"""The new layer and state, and info."""
Diagnosis = dict[str, Any]
"""Findings of a phase, JSON data: figures by name, and "words", a list of sentences."""
LEARNED = 0.05  # mean w(1-w) below which weights count as converged; 0.16 at the initial 0.8, 0 at the bounds 0 and 1
SILENT = 0.5  # a larger share of images without spikes means that the threshold is too high
OFTEN = 5.0  # a feature with more than this multiple of the mean wins is too dominant


class Response(NamedTuple):
    """A layer's response to one stimulus, before anything is learned from it.

    Attributes:
      winners: `Winners` of (k,): who may learn; None of a deciding layer, unless `forward` is your own.
      spikes: `Spikes` of (F, H', W') of a deciding layer, which the decision is made from; None elsewhere.
    """

    winners: Winners = None  # type: ignore[assignment]  # a learner knows which of them its `forward` gives
    spikes: Spikes = None  # type: ignore[assignment]


class Signal(NamedTuple):
    """What a supervised learner is told about one stimulus.

    Attributes:
      reward: () int32: 1 the decision was right, -1 wrong, 0 silent or nothing to be learned.
      label: () int32, the class; -1 where nothing is to be learned.
      vote: () int32, the class that a deciding layer voted for, -1 where it was silent; elsewhere the decision.
    """

    reward: jax.Array
    label: jax.Array
    vote: jax.Array


class Tally(NamedTuple):
    """The network's decisions since the last batch ended, and the batches and epochs before.

    Attributes:
      correct: () int32, images of right decisions.
      wrong: () int32, images of wrong decisions.
      seen: () int32, images: correct, wrong and silent.
      batch: () int32, batches done in all epochs.
      epoch: () int32, epochs done.
    """

    correct: jax.Array
    wrong: jax.Array
    seen: jax.Array
    batch: jax.Array
    epoch: jax.Array


class Learner:
    """The protocol of a component that learns, with defaults; `forward` to `end_epoch` are pure, jitted and vmapped.

    For each stimulus `forward` computes the response, then `update` learns; with `update_batch` B, B stimuli are passed
    forward with the same weights, then learned in order. A silent stimulus must not change weights, nor numbers.

    Attributes:
      supervised: whether it needs a reward or a label for each stimulus. Unsupervised layers learn one after the other,
        then all supervised ones at once.
      bounds: (lower, upper), if it keeps weights within bounds; lower >= 0 allows faster kernels.
      native: whether it accesses the weights by the methods of `Layer` alone, so that compiled kernels may hold them.
    """

    supervised: ClassVar[bool] = False
    native: ClassVar[bool] = False

    def init(self, layer: Layer, key: np.ndarray, seen: int) -> Any:
        """The state before the first stimulus, a pytree of arrays, from a raw `jax.random` key of its own, (2,) uint32.

        `seen`: number of stimuli that earlier branches of the stage have learned from.
        """
        return ()

    def forward(self, layer: Layer, state: Any, latency: jax.Array) -> Any:
        """The response to one stimulus, (C, H, W) latencies; that of a deciding layer must have `spikes`."""
        if self.supervised and layer.classes:
            return Response(spikes=layer.deciding_spikes(latency))
        return Response(layer.winners(latency))

    def update(self, layer: Layer, state: Any, latency: jax.Array, response: Any, signal: Signal | None) -> Learned:
        """Learns from one stimulus: the new layer and state, and info, a pytree of small arrays for `diagnose`.

        `response` is that of `forward`; `signal` is None for unsupervised learners. The layer's weights and the numbers
        of its description may change, shapes may not.
        """
        raise NotImplementedError(f"{type(self).__name__} must have a method `update`")

    def end_batch(self, state: Any, tally: Tally) -> Any:
        """The state after a batch of `batch_size` stimuli, for supervised learners."""
        return state

    def end_epoch(self, state: Any) -> Any:
        """The state after an epoch."""
        return state

    def scalars(self, state: Any) -> dict[str, float]:
        """Numbers of the state to log, such as rates."""
        return {}

    def diagnose(self, name: str, layer: Layer, info: Any) -> Diagnosis:
        """Findings of an epoch, from NumPy arrays: the layer after it, weights (F, C, kh, kw), and infos (N, ...)."""
        weights = layer.weights
        words = [f"the weights of {name} lie in {weights.min():.3f}..{weights.max():.3f}, mean {weights.mean():.3f}"]
        return dict(weights_mean=float(weights.mean()), words=words)


def convergence(weights: np.ndarray, bounds: tuple[float, float] = (0.0, 1.0)) -> float:
    """Mean w(1-w), w the weight's place between its bounds: 0 where all have reached one of them."""
    lower, upper = map(float, bounds)
    place = (np.asarray(weights, np.float64) - lower) / (upper - lower)
    return float(np.mean(np.clip(place * (1 - place), 0, None)))  # initial weights may lie beyond the bounds


def percent(share: float) -> str:
    """A share in percent, with a digit after the point where it is small."""
    return f"{100 * share:.{0 if share == 0 or share > 0.1 else 1}f} %"


def listed(things: Sequence[Any] | np.ndarray) -> str:
    """The first of some numbers or names in parentheses."""
    shown = ", ".join(map(str, things[:8]))
    return f" ({shown}{', ...' if len(things) > 8 else ''})" if len(things) else ""


@component
class STDP(Learner):
    """STDP of the winners' features (Kheradpisheh et al. 2018): a+ doubles periodically, a- keeps its ratio to it.

    Attributes:
      ltp: initial a+, of potentiation.
      ltd: initial a-, of depression, at most 0.
      doubling: images after which a+ doubles.
      ltp_max: upper limit of a+.
      bounds: lower and upper bound of a weight.
      stabiliser: multiplies each change by (w - lower)(upper - w).
    """

    ltp: float = 0.004
    ltd: float = -0.003
    doubling: int = 500
    ltp_max: float = 0.15
    bounds: tuple[float, float] = (0.0, 1.0)
    stabiliser: bool = static(default=True)
    native = True

    def check(self) -> None:
        checks.integer("doubling", self.doubling, 1)
        checks.bounds(self.bounds)
        if not 0 < self.ltp <= self.ltp_max < math.inf:
            raise InputError(f"`ltp` must lie above 0 and up to `ltp_max` ({self.ltp_max}), got {self.ltp}")
        if not -math.inf < self.ltd <= 0:
            raise InputError(f"`ltd` must be at most 0, got {self.ltd}")

    def rates(self, image: jax.Array) -> jax.Array:
        """(2,) float32 (a+, a-) for image number `image`, () integer, of a layer's training, counted from 0."""
        doubled = optax.exponential_decay(1.0, 1, 2.0, staircase=True)((image + 1) / self.doubling)
        rate = jnp.minimum(self.ltp * doubled, self.ltp_max)
        return jnp.stack([rate, rate * (self.ltd / self.ltp)]).astype(jnp.float32)

    def init(self, layer: Layer, key: np.ndarray, seen: int) -> Any:
        """The number of images learned from, () int32, so that branches double their rates in step with their stage."""
        return np.int32(seen % int(self.doubling))

    def update(self, layer: Layer, state: Any, latency: jax.Array, response: Any, signal: Signal | None) -> Learned:
        """The winners learn; info is their features, (k,) int32, -1 where nobody won."""
        winners, rates = cast(Winners, response.winners), self.rates(state)
        layer = layer.learn(latency, winners, rates, bounds=self.bounds, stabiliser=self.stabiliser)
        return layer, state + 1, winners.feature

    def scalars(self, state: Any) -> dict[str, float]:
        """The rate that the last image was learned with."""
        return dict(rate_plus=float(self.rates(jnp.int32(state - 1))[0]))

    def diagnose(self, name: str, layer: Layer, info: Any) -> Diagnosis:
        """Who has won, and how far the weights have converged."""
        features = layer.conv.features
        wins = np.bincount(info[info >= 0], minlength=features)
        silent = float(np.mean(np.all(info < 0, axis=1)))
        never, often = np.flatnonzero(wins == 0), np.flatnonzero(wins > OFTEN * wins.mean())
        open_ = convergence(np.asarray(layer.weights), self.bounds)
        words = [
            f"nobody fired at {percent(silent)} of the images",
            f"{len(never)} of {features} features never won" + listed(never),
            f"{len(often)} won more than {OFTEN:g} times as often as the mean" + listed(often),
            f"mean w(1-w) is {open_:.3f}" + (", converged" if open_ < LEARNED else ", not converged yet"),
        ]
        if silent > SILENT and layer.conv.threshold is not None:
            words.append(f"the threshold {np.mean(layer.conv.threshold):g} is too high: try a lower one")
        elif len(never) > features / 2:
            words.append("most features never win: try fewer features, more winners or a smaller radius")
        elif open_ >= LEARNED:
            words.append("more images or epochs, or higher rates, would let the weights converge")
        counts = dict(never_won=len(never), won_too_often=len(often), wins=wins.tolist())
        return dict(silent=silent, **counts, convergence=open_, words=words)


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
