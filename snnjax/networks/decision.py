"""How a network decides, given the spikes of its last stage."""

import dataclasses
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp

from snnjax.components import component
from snnjax.kernels import Spikes


class Decision(Protocol):
    """A component of two pure functions. Each layer of the last stage has equally many features per class, in order.

    If not `timed`, neurons above 0 fire at the last step, without a threshold, which takes 1/T of the work.
    """

    timed: ClassVar[bool]  # whether it needs to know when neurons fire

    def scores(self, spikes: Spikes, classes: int) -> jax.Array:
        """The evidence for each class, (classes,) float32 >= 0, from `Spikes` of (F, H, W) of one layer.

        The layer votes for the largest, for the lowest class among equals, for none if all are 0.
        """

    def decide(self, scores: jax.Array) -> jax.Array:
        """The class, () int32, -1 for none, from the scores of each deciding layer, (layers, classes)."""


@component
class Majority:
    """Each layer votes for the class of its strongest neuron.

    The class of most votes wins if two agree, the lowest among equals; otherwise the middle layer's, L // 2 from 0.
    """

    timed: ClassVar[bool] = False

    def scores(self, spikes: Spikes, classes: int) -> jax.Array:
        """The largest potential among the features of each class, (classes,) float32."""
        return spikes.potential.reshape(classes, -1).max(axis=1)

    def decide(self, scores: jax.Array) -> jax.Array:
        """The class of most votes, () int32."""
        return majority(votes_of(scores), scores.shape[1])


def majority(votes: jax.Array, classes: int) -> jax.Array:
    """The decision of `Majority`, () int32, from votes (layers,) int32."""
    counts = jnp.sum(votes[:, None] == jnp.arange(classes)[None], axis=0)
    middle = votes[votes.shape[0] // 2]
    return jnp.where(counts.max() >= 2, jnp.argmax(counts).astype(middle.dtype), middle)


def votes_of(scores: jax.Array) -> jax.Array:
    """The vote of each deciding layer, (layers,) int32, -1 where it is silent, from scores (layers, classes)."""
    return jnp.where(scores.max(axis=1) > 0, jnp.argmax(scores, axis=1), -1).astype(jnp.int32)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Decided:
    """The decision on one stimulus."""

    decision: jax.Array  # [] int32, the class, -1 if the network stays silent
    votes: jax.Array  # [deciding layers] int32
    scores: jax.Array  # [classes] float32, added up over the deciding layers


def decide(decision: Decision, spikes: list[Spikes], classes: int) -> Decided:
    """The decision on one stimulus from the `Spikes` of each deciding layer."""
    scores = jnp.stack([decision.scores(each, classes) for each in spikes])
    return Decided(decision.decide(scores), votes_of(scores), scores.sum(axis=0))
