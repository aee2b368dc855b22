"""The protocol of learners, and functions for their diagnoses."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from snnjax.core.components import overrides
from snnjax.core.errors import InputError
from snnjax.kernels import Spikes, Winners
from snnjax.kernels.neurons import strongest
from snnjax.layers.conv import Conv
from snnjax.learners.sequence import learn_from_sequence

UpdateResult = tuple[Any, Any, Any]
"""The new layer and state, and info."""
Diagnosis = dict[str, Any]
"""Findings of a phase, JSON data: figures by name; of a whole phase by layer, and "words", a list of sentences."""


class Response(NamedTuple):
    """A layer's response to one stimulus, before anything is learned from it.

    Attributes:
      winners: `Winners` of (k,), the neurons that may learn; None in a deciding layer with the default `forward`.
      spikes: `Spikes` of (F, H', W') of a deciding layer, on which the decision is based; None in all other layers.
    """

    winners: Winners = None  # type: ignore[assignment]  # a rule knows which of them its `forward` gives
    spikes: Spikes = None  # type: ignore[assignment]


class Signal(NamedTuple):
    """The teaching signal of a supervised learner for one stimulus.

    Attributes:
      reward: () int32, 1 if the decision was right, -1 if it was wrong, 0 if the network was silent or nothing should
        be learned.
      label: () int32, the class; -1 if nothing should be learned, or if only the reward is known.
      vote: () int32, the class that a deciding layer voted for, -1 if it was silent; in all other layers the decision.
    """

    reward: jax.Array
    label: jax.Array
    vote: jax.Array


class DecisionCounts(NamedTuple):
    """Counts of the network's decisions in the current interval, and of completed intervals and epochs.

    An interval has `adapt_every` images, after which supervised learners adapt.

    Attributes:
      correct: () int32, the number of images that were decided correctly.
      wrong: () int32, the number of images that were decided wrongly.
      seen: () int32, the number of all images, including those for which the network was silent.
      interval: () int32, the number of completed intervals, in all epochs.
      epoch: () int32, the number of completed epochs.
    """

    correct: jax.Array
    wrong: jax.Array
    seen: jax.Array
    interval: jax.Array
    epoch: jax.Array


class Learned(NamedTuple):
    """The result of learning from a sequence of S stimuli; values for stimuli that were skipped are arbitrary.

    Attributes:
      layer: the layer after the last stimulus.
      state: the state after the last stimulus.
      info: the info returned by `update`, stacked: (S, ...).
      vote: (S,) int32, the class that a deciding layer voted for, -1 if it was silent; None in all other layers.
      winners: (S, k) int32, the features of the winners, -1 for unused entries; None if they are not known.
    """

    layer: Any
    state: Any
    info: Any
    vote: Any = None
    winners: Any = None


class Learner:
    """The protocol of a component that learns, with defaults.

    The methods from `forward` to `end_epoch` are pure, and are jitted and vmapped. For each stimulus, `forward`
    computes the response, and `update` learns from it. With an `update_batch` of B, the responses to B stimuli are
    computed with the same weights before these stimuli are learned in order. `update` is also called for stimuli for
    which no neuron wins, but must not change weights or numbers in this case, unless the learner `acts_on_silence`.
    `learn` does all this for a sequence of stimuli; a learner that has a sequence kernel overrides it.

    A minibatch learner has a `minibatch_size` B above 0 and learns from B stimuli at once: `forward` and `update`
    receive (B, C, H, W), and possibly fewer stimuli in the last minibatch of an epoch. If the learner is `labelled`,
    `label` and the fields of `signal` are (B,). Its `info` describes a minibatch. `RampLayer` offers `batch_sums`,
    `activities`, `rows`, `with_all_weights` and `with_moments_of` for such learners.

    Attributes:
      supervised: whether it needs a reward or a label for each stimulus. Unsupervised layers learn one after another,
        then all supervised layers learn together.
      bounds: (lower, upper), if it keeps weights within bounds; lower >= 0 allows faster kernels.
      own_thresholds: whether it needs a threshold for each feature. A single number then serves as the initial
        threshold of all features.
      title: the name of its phase; "": the name of its class.
      in_learn: the names of the methods that `learn` does not call because it does their work itself. If a subclass
        overrides one of them, but not `learn`, the default `learn` is used.
      rewarded: whether it learns only from `signal.reward` and `signal.vote`, so that it needs no label. A subclass
        with its own `forward` or `update` must declare this again.
      acts_on_silence: whether it may change weights or numbers after a stimulus for which no neuron wins, as a rule
        does whose weights decay or whose rewards arrive later. `update` is called for such a stimulus in any case.
        `snnjax.testing.check_learner` reports a change as a mistake unless this is declared.
      ramped: whether it trains layers with a `ramp`, as minibatch learners do.
      minibatch_size: B, the number of stimuli in a minibatch; 0: it learns from single stimuli.
      images: the largest number of images that a minibatch learner uses in an epoch, the first ones shown; None: all.
      labelled: whether a minibatch learner needs the label of each stimulus. Its layer then learns only from labelled
        images. Like all layers that do not decide, it learns after the layers before it.
    """

    supervised: ClassVar[bool] = False
    own_thresholds: ClassVar[bool] = False
    title: ClassVar[str] = ""
    in_learn: ClassVar[frozenset[str]] = frozenset({"forward", "update"})
    rewarded: ClassVar[bool] = False
    acts_on_silence: ClassVar[bool] = False
    ramped: ClassVar[bool] = False
    labelled: ClassVar[bool] = False
    bounds: tuple[float, float] | None = None
    minibatch_size: int = 0
    images: int | None = None

    # Names of version 0.6, and what to do instead. A subclass is refused if it has one of them, because nothing uses it
    # any more.
    _without_effect: ClassVar[Mapping[str, str]] = {
        "end_batch": "rename it to `end_interval`",
        "joint": "declare a `minibatch_size`, the number of images that were its `batch`",
        "native": "delete it, `supports_native` says whether a rule has a compiled kernel",
    }

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        _check_names(cls)
        if overrides(cls, {"forward", "update"}, "rewarded"):
            cls.rewarded = False
        if overrides(cls, cls.in_learn, "learn"):
            cls.learn = Learner.learn  # type: ignore[method-assign]

    def check_layer(self, name: str, conv: Conv, size: tuple[int, int], classes: int, timed: bool) -> None:
        """Raises InputError unless it can train a layer with output maps of `size`.

        `classes`: of a deciding layer, 0 elsewhere; `timed`: as of the network's decision.
        """

    def prepared(self, features: int, classes: int) -> "Learner":
        """The same for a layer of F features in a network of some classes, with arrays for the numbers that it learns.

        `classes` is 0 in a network without a decision.
        """
        return self

    def deployed(self) -> "Learner":
        """The same without the numbers that are needed only for learning, for quantised and exported networks."""
        return self

    def init(self, layer: Any, key: np.ndarray, images_seen: int) -> Any:
        """The state before the first stimulus, a pytree of arrays; `key` is a raw `jax.random` key, (2,) uint32.

        `images_seen`: number of stimuli that earlier branches of the stage have learned from.
        """
        return ()

    def initial_threshold(self, layer: Any, latency: np.ndarray) -> Any:
        """The initial threshold of a deciding layer, given some of its inputs, (N, C, H, W) latencies.

        It is computed on the host, outside of jit. The default is the threshold of the layer's description.
        """
        return layer.conv.threshold

    def forward(self, layer: Any, state: Any, latency: jax.Array, label: jax.Array | None) -> Any:
        """The response to one stimulus, (C, H, W) latencies; the response of a deciding layer must have `spikes`.

        `label`, () int32, may be used to avoid work for other classes, but the decision must not depend on it. It is
        None for unsupervised learners.
        """
        if self.supervised and layer.classes:
            return Response(spikes=layer.deciding_spikes(latency))
        return Response(layer.winners(latency))

    def update(self, layer: Any, state: Any, latency: jax.Array, response: Any, signal: Signal | None) -> UpdateResult:
        """Learns from one stimulus. Returns the new layer, the new state, and a pytree of small arrays for `diagnose`.

        `response` is the result of `forward`; `signal` is None for unsupervised learners. The weights of the layer and
        the numbers of its description may change, but not their shapes.
        """
        raise NotImplementedError(f"{type(self).__name__} must have a method `update`")

    def learn(
        self,
        layer: Any,
        state: Any,
        latencies: jax.Array,
        labels: jax.Array | None,
        learns: jax.Array,
        *,
        update_batch: int = 1,
        vote: Callable[[Spikes], jax.Array] | None = None,
    ) -> Learned:
        """Learns from a sequence of stimuli in order; by default, `forward` and `update` are called for each.

        It is not used for minibatch learners.

        Args:
          latencies: (S, C, H, W).
          labels: (S,) int32, -1 if nothing should be learned; None for unsupervised learners.
          learns: (S,) bool, the stimuli to learn from; all other stimuli leave the layer and the state unchanged.
          update_batch: the number of successive stimuli whose responses are computed with the same weights.
          vote: for a deciding layer, a function from the `Spikes` of its response to its vote, () int32.
        """

        place = self.place_in(layer)

        def rule_of(layer: Any) -> Learner:  # a rule may have changed its own numbers
            return self if place is None else layer.conv.each_learner[place]

        def respond(learned: Any, stimulus: Any) -> Any:
            layer, state = learned
            latency, label = stimulus
            return rule_of(layer).forward(layer, state, latency, label)

        def update(learned: Any, stimulus: Any, response: Any) -> Any:
            layer, state = learned
            latency, label = stimulus
            signal = None
            voted = None
            if labels is not None:
                assert vote is not None
                voted = vote(response.spikes)
                signal = Signal(jnp.where(label < 0, 0, outcome(voted, label)), label, voted)
            layer, state, info = rule_of(layer).update(layer, state, latency, response, signal)
            winners = winning_features(layer, response, voted) if has_default_figures(self) else None
            return (layer, state), (info, voted, winners)

        learned, results = learn_from_sequence(
            respond, update, (layer, state), (latencies, labels), learns, update_batch
        )
        return Learned(*learned, *results)

    def place_in(self, layer: Any) -> int | None:
        """The index of this learner among those of a layer; None if several of them have its class."""
        rules = [*enumerate(layer.conv.each_learner)]
        # A layer that JAX has rebuilt, as `jax.jit` does with its arguments, holds another object in place of this one.
        places = [place for place, rule in rules if rule is self][:1]
        places = places or [place for place, rule in rules if type(rule) is type(self)]
        return places[0] if len(places) == 1 else None

    def supports_native(self, layer: Any, update_batch: int) -> bool:
        """Whether compiled code computes `learn` on a CPU; a training run reports the layers for which it does not.

        By default this is assumed if the class defines its own `learn`, which then calls a sequence kernel.

        Args:
          update_batch: as of `learn`.
        """
        return type(self).learn is not Learner.learn

    def end_interval(self, state: Any, counts: DecisionCounts) -> Any:
        """The state after an interval of `adapt_every` stimuli, for supervised learners."""
        return state

    def end_epoch(self, state: Any) -> Any:
        """The state after an epoch."""
        return state

    def scalars(self, state: Any) -> dict[str, float]:
        """Numbers of the state to log, such as rates."""
        return {}

    def diagnose(self, layer: Any, info: Any) -> Diagnosis:
        """Figures of an epoch, by name, given NumPy arrays: the layer after it, its weights (F, C, kh, kw), and infos.

        Infos are (N, ...), in the order in which the images were shown. The figures are added to those of
        `default_figures`, or replace them. `snnjax.training.advice` composes sentences from them.
        """
        return {}


def _check_names(cls: type) -> None:
    """Raises InputError if a rule has an attribute that only version 0.6 used."""
    for kind in cls.__mro__:
        for name, advice in vars(kind).get("_without_effect", {}).items():
            if hasattr(cls, name):
                raise InputError(f"`{name}` of {cls.__name__} is a name of version 0.6, which has no effect: {advice}")


def outcome(decision: jax.Array, label: jax.Array) -> jax.Array:
    """1 if a decision is right, -1 if it is wrong, 0 if the network or the layer is silent."""
    return jnp.where(decision < 0, 0, jnp.where(decision == label, 1, -1))


def winning_features(layer: Any, response: Any, vote: jax.Array | None) -> jax.Array | None:
    """The features of a response's winners, (k,) int32, -1 for unused entries; None if it has no winners.

    In a deciding layer, the winner is the neuron that determines the vote.
    """
    winners = getattr(response, "winners", None)
    spikes = getattr(response, "spikes", None)
    if vote is not None and layer.classes and isinstance(spikes, Spikes):
        winners = winner_of_class(layer, spikes, vote)
    return winners.feature if isinstance(winners, Winners) else None


def winner_of_class(layer: Any, spikes: Spikes, vote: jax.Array) -> Winners:
    """The earliest neuron of one class, `Winners` of (1,); ties are broken by potential, then by the lowest flat index.

    If none of them fired although the layer voted, because its decision falls back to potentials, it is the strongest
    neuron, at step T.

    Examples:
      >>> import jax.numpy as jnp
      >>> from snnjax.kernels import Spikes
      >>> from snnjax.layers import Conv, Layer
      >>> from snnjax.learners import winner_of_class
      >>> layer = Layer(Conv(4, kernel=1), jnp.ones((4, 1, 1, 1)), time_steps=15, classes=2)
      >>> latency = jnp.array([3, 9, 8, 5], jnp.uint8).reshape(4, 1, 1)  # features 2 and 3 are of class 1
      >>> winner_of_class(layer, Spikes(latency, jnp.ones(latency.shape)), jnp.array(1)).feature.tolist()
      [3]
    """
    features, rows, columns = spikes.latency.shape
    group = jnp.arange(features) // (features // layer.classes)
    when = (spikes.latency if spikes.time is None else spikes.time).astype(jnp.float32)
    when = jnp.where((group == vote)[:, None, None], when, jnp.inf)
    flat = jnp.arange(spikes.latency.size, dtype=jnp.int32).reshape(spikes.latency.shape)
    potential, index = strongest(spikes.potential, when == when.min(), flat)
    latency = spikes.latency.ravel()[index]
    latency = jnp.where(vote < 0, layer.time_steps, latency).astype(spikes.latency.dtype)
    feature, position = jnp.divmod(index, rows * columns)
    row, column = jnp.divmod(position, columns)
    learns = (vote >= 0) & ((latency < layer.time_steps) | (potential > 0))
    winners = Winners(jnp.where(learns, feature, -1), row, column, latency)
    return jax.tree.map(lambda x: x.reshape(1), winners)


def has_default_figures(learner: Learner) -> bool:
    """Whether `default_figures` belong to a learner: not if its `diagnose` is one of the library's rules."""
    owner = next(kind for kind in type(learner).__mro__ if "diagnose" in vars(kind))
    return owner is Learner or not owner.__module__.startswith("snnjax.")


def default_figures(layer: Any, bounds: tuple[float, float] | None, features: np.ndarray | None) -> Diagnosis:
    """Figures of an epoch that do not depend on the rule, from the layer after it and a learner's `bounds`.

    `features` (N, k) are the features of the winners of each image, -1 for unused entries; None if they are not known,
    as for minibatch learners. In a deciding layer the winner is the first neuron of the class that the layer voted for.

    They are `weights_mean`; with bounds `at_bounds`, the share of weights that lie at one of them or within 1 % of
    their distance; with winners `silent_images`, the share of images for which no neuron won, and `count_wins`.
    """
    weights = np.asarray(layer.weights)
    figures: Diagnosis = dict(weights_mean=float(weights.mean()))
    if bounds is not None:
        lower, upper = map(float, bounds)
        margin = 0.01 * (upper - lower) if np.isfinite(upper - lower) else 0.0
        figures["at_bounds"] = float(np.mean((weights <= lower + margin) | (weights >= upper - margin)))
    if features is not None:
        figures["silent_images"] = float(np.mean(np.all(features < 0, axis=1)))
        figures |= count_wins(features, layer.conv.features)
    return figures


def convergence(weights: np.ndarray, bounds: tuple[float, float] = (0.0, 1.0)) -> float:
    """The mean of w (1 - w), where w is the position of a weight between its bounds, 0..1; 0 if all are at a bound.

    Examples:
      >>> import numpy as np
      >>> from snnjax.learners import convergence
      >>> convergence(np.array([0.0, 0.5, 1.0, 1.0]))
      0.0625
    """
    lower, upper = map(float, bounds)
    place = (np.asarray(weights, np.float64) - lower) / (upper - lower)
    return float(np.mean(np.clip(place * (1 - place), 0, None)))  # initial weights may lie beyond the bounds


def count_wins(features: np.ndarray, count: int) -> dict[str, Any]:
    """Figures that tell how often each of `count` features has won, given the winners' features, -1 for none."""
    wins = np.bincount(features[features >= 0], minlength=count)
    return dict(never_won=int(np.sum(wins == 0)), wins=wins.tolist())


def extremes(name: str, values: np.ndarray) -> dict[str, float]:
    """Figures of the smallest, the mean and the largest of some values, which are plotted over the epochs."""
    return {f"{name}_{kind}": float(getattr(np, kind)(values)) for kind in ("min", "mean", "max")}
