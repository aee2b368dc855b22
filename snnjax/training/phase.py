"""What the functions of `snnjax.training.learning` take and return: a phase, what learns in it, and the images."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from snnjax.layers.spiking import Layer


class Phase(NamedTuple):
    """A part of a training: what learns, and from how many images.

    One layer learns without labels, or all supervised layers. Without `layers`, the decision is fitted or, if the
    network has none, its features are described.

    Attributes:
      layers: names of those that learn, in order.
      first: number of the stage that the inputs enter.
      learner: index among a layer's learners of the one that learns.
      update_batch: images that are passed forward with the same weights, as of `Settings.update_batch`.
      by_turns: as of `Network.reward_by_turns`.
      minibatch_size: images after which a minibatch learner changes its weights; 0 for all other learners.
      images: of an epoch.
      supervised: whether labels are needed.
      adapt_every: images after which supervised learners adapt, as of `Settings.adapt_every`.
      name: as in messages and reports, such as "STDP layer1".
      epochs: passes over the images.
    """

    layers: tuple[str, ...]
    first: int = 0
    learner: int = -1
    update_batch: int = 1
    by_turns: bool = False
    minibatch_size: int = 0
    images: int = 0
    supervised: bool = False
    adapt_every: int = 1
    name: str = ""
    epochs: int = 1


class Carry(NamedTuple):
    """Layers that learn and states of learners, which go from batch to batch.

    Attributes:
      layers: those that learn, by name.
      states: of their learners, by name.
      counts: the `DecisionCounts` of the network's decisions, where layers learn supervised; None elsewhere.
    """

    layers: dict[str, Layer]
    states: dict[str, Any]
    counts: Any = None


class ImageBatch(NamedTuple):
    """The images of an epoch that one call of a program gets; it learns from some of them.

    Attributes:
      inputs: (S, C, H, W), what the phase's first stage reads; or `Activations`, the outputs (S, F, H, W) that stages
        read from before it, where later ones do too.
      start, stop: () int32, the images from number `start` to before `stop` are learned from.
      last: () bool, whether the epoch ends with them.
      labels: (S,) int32, where layers learn supervised.
    """

    inputs: Any
    start: jax.Array
    stop: jax.Array
    last: jax.Array
    labels: Any = None

    @property
    def shown(self) -> jax.Array:
        """Which images are learned from, (S,) bool."""
        numbers = jnp.arange(self.size)
        return (numbers >= self.start) & (numbers < self.stop)

    @property
    def size(self) -> int:
        """S."""
        return len(jax.tree.leaves(self.inputs)[0])


class StepResult(NamedTuple):
    """The results for the S images of a batch, 0 for images that were not learned from.

    Attributes:
      infos: the info of each learner by the name of its layer, (S, ...); of minibatch learners, of minibatches.
      decisions: (S,) int32, -1 where silent, where layers learn supervised.
      winners: the features of the winners, (S, k) int32, by the name of the layer, for the `default_figures` of custom
        learners; None if there are none.
    """

    infos: dict[str, Any]
    decisions: Any = None
    winners: dict[str, Any] | None = None
