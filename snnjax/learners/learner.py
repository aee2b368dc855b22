"""The protocol of a learner, and what it is told."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np

from snnjax.kernels import Spikes, Winners
from snnjax.layers import Layer

Learned = tuple[Layer, Any, Any]  # the new layer and state, and info
Diagnosis = dict[str, Any]  # figures by name, and "words": sentences; all of it JSON data
LEARNED = 0.05  # mean w(1-w) below which weights count as converged; 0.16 at the initial 0.8, 0 at the bounds 0 and 1


class Response(NamedTuple):
    """A layer's response to one stimulus, before anything is learned from it."""

    winners: Winners | None = None  # (k,) who may learn
    spikes: Spikes | None = None  # (F, H', W') of a deciding layer, which the decision is made from


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Signal:
    """What a supervised learner is told about one stimulus."""

    reward: jax.Array  # [] int32: 1 the decision was right, -1 wrong, 0 silent or nothing to be learned
    label: jax.Array  # [] int32, the class; -1 where nothing is to be learned
    vote: jax.Array  # [] int32, the class that this layer voted for, -1 where it was silent


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tally:
    """The network's decisions since the last batch ended, and the batches and epochs before."""

    correct: jax.Array  # [] int32
    wrong: jax.Array  # [] int32
    seen: jax.Array  # [] int32, images: correct, wrong and silent
    batch: jax.Array  # [] int32, batches done in all epochs
    epoch: jax.Array  # [] int32


class Learner:
    """The protocol of a component that learns, with defaults that suit most. `init` to `end_epoch` are pure, jitted.

    For each stimulus `forward` finds the response with the weights as they are, then `update` learns. With
    `update_batch` B, `forward` sees B stimuli with the same weights before their updates are applied in order. A silent
    stimulus must not change weights.

    Attributes:
      supervised: whether it needs a reward or a label for each stimulus. Unsupervised layers learn one after the other;
        then all supervised ones at once, each stimulus passing through the whole network.
      bounds: (lower, upper), if it keeps weights within bounds; lower >= 0 allows faster kernels.
      native: whether it accesses the weights by the methods of `Layer` alone, so that compiled kernels may hold them.
    """

    supervised: ClassVar[bool] = False
    native: ClassVar[bool] = False

    def init(self, layer: Layer, key: np.ndarray, seen: int) -> Any:
        """The state before the first stimulus, a pytree of arrays.

        `key`: (2,) uint32, a raw `jax.random` key of this layer; `seen`: stimuli that branches before it learned from.
        """
        return ()

    def forward(self, layer: Layer, state: Any, latency: jax.Array) -> Any:
        """The response to one stimulus, (C, H, W) latencies, without learning: by default the layer's winners.

        In a deciding layer it must have an attribute `spikes` for the decision, by default `layer.deciding_spikes`.
        """
        if self.supervised and layer.classes:
            return Response(spikes=layer.deciding_spikes(latency))
        return Response(layer.winners(latency))

    def update(self, layer: Layer, state: Any, latency: jax.Array, response: Any, signal: Signal | None) -> Learned:
        """Learns from one stimulus: the new layer and state, and info, a pytree of small arrays for `diagnose`.

        The layer's weights and the numbers of its description may change; shapes may not. `response` is that of
        `forward` to `latency`, (C, H, W); `signal` is None for unsupervised learners.
        """
        raise NotImplementedError

    def end_batch(self, state: Any, tally: Tally) -> Any:
        """The state after a batch of `batch_size` stimuli, for supervised learners."""
        return state

    def end_epoch(self, state: Any) -> Any:
        """The state after an epoch."""
        return state

    def scalars(self, state: Any) -> dict[str, float]:
        """Numbers of the state to be logged, such as rates."""
        return {}

    def diagnose(self, name: str, layer: Layer, info: Any) -> Diagnosis:
        """Findings of an epoch, from the layer after it and the info of all updates, (N, ...), in NumPy arrays."""
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


def listed(numbers: Sequence[int] | np.ndarray) -> str:
    """The first of some numbers in parentheses."""
    shown = ", ".join(map(str, numbers[:8]))
    return f" ({shown}{', ...' if len(numbers) > 8 else ''})" if len(numbers) else ""
