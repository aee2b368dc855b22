"""What a batch of images does to the layers that learn: one layer by itself, or all supervised layers.

Each of `learn_unsupervised`, `learn_minibatches`, `learn_deciding`, `learn_pair` and `learn_supervised` is a pure
function `learn(phase, carry, model, batch)` that returns a new `Carry` and a `StepResult`; `learning_of` says which
of them a phase uses, and `learning_program` compiles it.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from snnjax.core import devices
from snnjax.kernels.kernel import dispatch
from snnjax.kernels.learning import RewardLayer, learn_deep_by_reward
from snnjax.kernels.native import MAX_TIME_STEPS
from snnjax.kernels.sequences import in_groups
from snnjax.layers.conv import is_wta
from snnjax.layers.pool import pooling
from snnjax.layers.spiking import Layer
from snnjax.learners import RSTDP, DecisionCounts, Learner, Signal
from snnjax.learners.protocol import has_default_figures, outcome, winning_features
from snnjax.learners.sequence import learn_from_sequence
from snnjax.networks import Majority, Model, Network
from snnjax.networks.decision import Decided, decide, decides_by_votes, majority, votes_of
from snnjax.networks.graph import Activations
from snnjax.training.job import Phase
from snnjax.training.placement import NETWORKS, SHARED, mapping_program, spread
from snnjax.training.timer import PROGRAMS


class Carry(NamedTuple):
    """The layers that learn and the states of their learners, which are passed from batch to batch.

    Attributes:
      layers: the layers that learn, by name.
      states: the states of their learners, by the name of the layer.
      counts: the `DecisionCounts` of the network's decisions if layers learn supervised; otherwise None.
    """

    layers: dict[str, Layer]
    states: dict[str, Any]
    counts: Any = None


class ImageBatch(NamedTuple):
    """The images that one call of a program receives; the program learns from a contiguous range of them.

    Attributes:
      inputs: (S, C, H, W) latencies, the input of the phase's first stage; or, if later stages also read earlier
        outputs, `Activations` with these outputs, (S, F, H, W).
      start: () int32, the number of the first image to learn from.
      stop: () int32, the number of the last image to learn from, plus one.
      last: () bool, whether the epoch ends with this range.
      labels: (S,) int32, the classes, if layers learn from labels; otherwise None.
    """

    inputs: Any
    start: jax.Array
    stop: jax.Array
    last: jax.Array
    labels: Any = None

    @property
    def learns(self) -> jax.Array:
        """Whether each image is learned from, (S,) bool."""
        numbers = jnp.arange(self.size)
        return (numbers >= self.start) & (numbers < self.stop)

    @property
    def size(self) -> int:
        """S, the number of images."""
        return len(jax.tree.leaves(self.inputs)[0])


class StepResult(NamedTuple):
    """The results for the S images of a batch; those of images that were not learned from are 0.

    Attributes:
      infos: the info of each learner, keyed by the name of its layer, (S, ...); a minibatch learner has one info for
        each minibatch instead of each image.
      decisions: (S,) int32, the decisions, -1 if the network is silent; None unless supervised layers learn.
      winners: the features of the winners, (S, k) int32, keyed by the name of the layer, from which the
        `default_figures` of custom learners are computed; None if no learner has these figures.
    """

    infos: dict[str, Any]
    decisions: Any = None
    winners: dict[str, Any] | None = None


def learning_of(phase: Phase, network: Network) -> Callable[..., Any]:
    """The function of this module by which the layers of a phase learn."""
    if phase.minibatch_size:
        return learn_minibatches
    if not phase.supervised:
        return learn_unsupervised
    only_deciding = phase.layers == network.deciding
    if only_deciding and decides_by_votes(network.decision, len(network.deciding)):
        return learn_deciding
    return learn_pair if is_pair(phase, network) else learn_supervised


@functools.lru_cache(maxsize=256)
def learning_program(learn: Callable[..., Any], phase: Phase, mesh: Mesh) -> Any:
    """A jitted function of (carry, model, per_network, shared): for each network `learn(phase, carry, model, batch)`.

    `per_network` are the fields of its `ImageBatch` that differ between networks, `shared` all other fields.
    """

    def of_device(carry: Any, model: Any, per_network: dict[str, Any], shared: dict[str, Any]) -> Any:
        def of_network(item: Any) -> Any:
            carry, model, per_network = item
            return learn(phase, carry, model, ImageBatch(**per_network, **shared))

        if len(jax.tree.leaves(carry)[0]) > 1:
            return devices.map_each(of_network, (carry, model, per_network))
        carry, model, per_network = jax.tree.map(lambda x: x[0], (carry, model, per_network))
        return jax.tree.map(lambda x: x[None], learn(phase, carry, model, ImageBatch(**per_network, **shared)))

    specs = (NETWORKS, NETWORKS, NETWORKS, SHARED)
    # The carry is donated, so that the weights are updated in place rather than copied for each batch.
    return jax.jit(spread(of_device, mesh, specs, NETWORKS), donate_argnums=0)


def forget_programs() -> None:
    """Forgets compiled programs, so that the times of the next training run include all compilation."""
    PROGRAMS.clear()
    for cache in (learning_program, mapping_program):
        cache.cache_clear()
    jax.clear_caches()


def learn_unsupervised(phase: Phase, carry: Carry, model: Model | None, batch: ImageBatch) -> tuple[Carry, StepResult]:
    """One layer learns without labels."""
    (name,) = phase.layers
    layer = carry.layers[name]
    learner = layer.conv.each_learner[phase.learner]
    learned = learner.learn(
        layer, carry.states[name], batch.inputs, None, batch.learns, update_batch=phase.update_batch
    )
    winners = {name: learned.winners} if has_default_figures(learner) else None
    carry = Carry({name: learned.layer}, {name: learned.state})
    return end_epoch(phase, carry, batch.last), StepResult({name: learned.info}, winners=winners)


def learn_minibatches(phase: Phase, carry: Carry, model: Model | None, batch: ImageBatch) -> tuple[Carry, StepResult]:
    """One layer learns by itself from whole minibatches, with their labels if its learner is `labelled`."""
    size = phase.minibatch_size
    rest = phase.images % size  # images in the last minibatch of an epoch, 0 if it is whole

    def learn(learned: tuple[Carry, Any], start: jax.Array, count: int) -> tuple[Carry, Any]:
        carry, all_infos = learned
        inputs = jax.lax.dynamic_slice_in_dim(batch.inputs, start, count)
        (name,) = phase.layers
        layer = carry.layers[name]
        learner = layer.conv.each_learner[phase.learner]
        labels = jax.lax.dynamic_slice_in_dim(batch.labels, start, count) if learner.labelled else None
        signal = None if labels is None else Signal(jnp.zeros_like(labels), labels, jnp.full_like(labels, -1))
        response = learner.forward(layer, carry.states[name], inputs, labels)
        layer, state, info = learner.update(layer, carry.states[name], inputs, response, signal)
        carry = Carry({name: layer}, {name: state})
        infos = {name: info}
        if all_infos is None:
            return carry, infos
        put = functools.partial(jax.lax.dynamic_update_index_in_dim, index=start // size, axis=0)
        return carry, jax.tree.map(put, all_infos, infos)

    _, info = jax.eval_shape(lambda: learn((carry, None), jnp.int32(0), rest or size))
    minibatches = -(-batch.size // size)
    learned = carry, jax.tree.map(lambda x: jnp.zeros((minibatches, *x.shape), x.dtype), info)
    whole = batch.stop - (batch.stop - batch.start) % size
    learned = jax.lax.fori_loop(
        batch.start // size, whole // size, lambda number, x: learn(x, number * size, size), learned
    )
    if rest:
        short = functools.partial(learn, start=whole, count=rest)
        learned = jax.lax.cond(whole < batch.stop, short, lambda x: x, learned)
    return end_epoch(phase, learned[0], batch.last), StepResult(learned[1])


def learn_deciding(phase: Phase, carry: Carry, model: Model, batch: ImageBatch) -> tuple[Carry, StepResult]:
    """The deciding layers learn, each from its own votes, under a decision that depends only on these."""
    decision: Any = model.network.decision
    classes = model.network.classes

    def vote(spikes: Any) -> jax.Array:
        return votes_of(decision.scores(spikes, classes)[None])[0]

    def learn(carry: Carry, turns: Mapping[str, Any], images: Images) -> tuple[dict[str, Layer], Any, StepResult]:
        layers: dict[str, Layer] = {}
        states: dict[str, Any] = {}
        infos: dict[str, Any] = {}
        winners: dict[str, Any] = {}
        votes: list[jax.Array] = []
        for name, turn in turns.items():
            layer = carry.layers[name]
            labels = jnp.where(turn, images.labels, -1)
            teach = functools.partial(
                layer.conv.last_learner.learn, update_batch=min(phase.update_batch, len(labels)), vote=vote
            )
            learned = teach(layer, carry.states[name], images.inputs, labels, images.learns)
            layers[name] = learned.layer
            states[name] = learned.state
            infos[name] = learned.info
            votes.append(learned.vote)
            if has_default_figures(layer.conv.last_learner):
                winners[name] = learned.winners
        decisions = jax.vmap(majority, (1, None))(jnp.stack(votes), classes)
        return layers, states, StepResult(infos, decisions, winners or None)

    return learn_intervals(phase, carry, model, batch, learn)


class Images(NamedTuple):
    """Some images of a batch, between two adaptations of the learners.

    Attributes:
      inputs: (S, C, H, W), as of `ImageBatch`.
      labels: (S,) int32, the classes.
      learns: (S,) bool, whether each image is learned from.
    """

    inputs: jax.Array
    labels: jax.Array
    learns: jax.Array


def learn_intervals(
    phase: Phase, carry: Carry, model: Model, batch: ImageBatch, learn: Callable[..., Any]
) -> tuple[Carry, StepResult]:
    """Supervised layers learn by `learn`, which is called for each interval of `adapt_every` images of a batch.

    Learners adapt at the end of an interval. A batch begins with an interval, or lies within one.
    `learn(carry, turns, images)` gets which layers learn, by name, and the `Images` of the interval; it returns the
    layers, the states of their learners and a `StepResult`.
    """
    rule = Supervised(phase, model)

    def count(layers: dict[str, Layer], counted: Any, images: tuple[jax.Array, jax.Array]) -> tuple[Any, tuple[()]]:
        states, counts = counted
        outcomes, learns = images
        carry = Carry(layers, states, counts)
        return rule.count_outcomes(carry, jnp.where(learns, outcomes, 0), jnp.sum(learns, dtype=jnp.int32)), ()

    def learn_interval(carry: Carry, images: Images) -> tuple[Carry, StepResult]:
        layers, states, result = learn(carry, rule.turns(carry.counts), images)
        outcomes = outcome(result.decisions, images.labels), images.learns
        counted, _ = count(layers, (states, carry.counts), outcomes)
        return Carry(layers, *counted), result

    images = Images(batch.inputs, batch.labels, batch.learns)
    size = min(phase.adapt_every, batch.size)
    learners = [layer.conv.last_learner for layer in carry.layers.values()]
    adapt = any(type(learner).end_interval is not Learner.end_interval for learner in learners)
    if adapt or phase.by_turns or phase.update_batch > 1:
        carry, result = in_groups(learn_interval, carry, images, size)
    else:  # nothing changes at the end of an interval, so one call learns from the whole batch
        layers, states, result = learn(carry, rule.turns(carry.counts), images)
        outcomes = outcome(result.decisions, images.labels), images.learns
        counted, _ = in_groups(functools.partial(count, layers), (states, carry.counts), outcomes, size)
        carry = Carry(layers, *counted)
    return rule.end_epoch(carry, batch.last), result


def learn_supervised(phase: Phase, carry: Carry, model: Model, batch: ImageBatch) -> tuple[Carry, StepResult]:
    """All supervised layers learn, from labels and from the network's decisions, image by image."""
    rule = Supervised(phase, model)

    def respond(carry: Carry, stimulus: Any) -> Any:
        image, label = stimulus
        return rule.respond(carry, image, label)

    def update(carry: Carry, stimulus: Any, passed: Any) -> tuple[Carry, StepResult]:
        _, label = stimulus
        return rule.update(carry, label, passed)

    def learn(carry: Carry, images: Images) -> tuple[Carry, StepResult]:
        update_batch = min(phase.update_batch, len(images.learns))
        return learn_from_sequence(respond, update, carry, (images.inputs, images.labels), images.learns, update_batch)

    # Images that share weights lie in one interval; if no images do, intervals do not matter here.
    size = batch.size if phase.update_batch == 1 else min(phase.adapt_every, batch.size)
    carry, result = in_groups(learn, carry, Images(batch.inputs, batch.labels, batch.learns), size)
    return rule.end_epoch(carry, batch.last), result


def activations_of(inputs: Any, first: int) -> Activations:
    """What is known of images, given the inputs of a phase whose first stage is number `first`."""
    return inputs if isinstance(inputs, Activations) else Activations(inputs={first: inputs})


def end_epoch(phase: Phase, carry: Carry, last: jax.Array) -> Carry:
    """The carry with the states of learners after an epoch, if `last`."""
    learners = {name: carry.layers[name].conv.each_learner[phase.learner] for name in phase.layers}
    ended = {name: learners[name].end_epoch(state) for name, state in carry.states.items()}
    return carry._replace(states=where(last, ended, carry.states))


class _Passed(NamedTuple):
    """The inputs and responses of the supervised layers for one image, and its decision."""

    inputs: dict[str, jax.Array]  # of each layer that learns, by name
    responses: dict[str, Any]  # of their learners, by name
    decided: Decided


class Supervised(NamedTuple):
    """Trains all supervised layers on one image at a time, and lets their learners adapt after each interval.

    Attributes:
      phase: the phase; its `layers` are the supervised layers that learn.
      model: the network; the layers of a carry replace the layers of the same name.
    """

    phase: Phase
    model: Model

    def respond(self, carry: Carry, image: Any, label: jax.Array) -> _Passed:
        """Computes the responses of the supervised layers to an image of class `label`, and the decision.

        `image` is one of the `inputs` of an `ImageBatch`.
        """
        model = self.model.updated(carry.layers)
        known = activations_of(image, self.phase.first)
        inputs: dict[str, jax.Array] = {}
        responses: dict[str, Any] = {}
        for stage in range(self.phase.first, model.last + 1):
            for name in (x for x in model.network.names[stage] if x in self.phase.layers):
                latency = model.input_of(stage, known)
                known = known._replace(inputs=known.inputs | {stage: latency})
                inputs[name] = latency
                layer = carry.layers[name]
                responses[name] = layer.conv.last_learner.forward(layer, carry.states[name], latency, label)
        spikes = [responses[name].spikes for name in model.network.names[model.last]]
        return _Passed(inputs, responses, decide(model.network.decision, spikes, model.network.classes))

    def update(self, carry: Carry, label: jax.Array, passed: _Passed) -> tuple[Carry, StepResult]:
        """Learns from an image of class `label`; `passed` is the result of `respond` for this image."""
        return self._update(carry, passed, label, functools.partial(outcome, label=label))

    def update_by_reward(self, carry: Carry, reward: jax.Array, passed: _Passed) -> tuple[Carry, StepResult]:
        """Learns like `update`, but from a reward instead of a label.

        `reward`, () int32, is 1 if the decision was right, -1 if it was wrong, and 0 if it was neither. A layer whose
        vote differs from the network's decision does not learn.
        """

        def of_vote(vote: jax.Array) -> jax.Array:
            return jnp.where(vote == passed.decided.decision, reward, 0)

        return self._update(carry, passed, jnp.int32(-1), of_vote)

    def _update(
        self, carry: Carry, passed: _Passed, label: jax.Array, reward_of: Callable[[jax.Array], jax.Array]
    ) -> tuple[Carry, StepResult]:
        """Learns from an image; `reward_of` gives the reward, () int32, for a vote."""
        votes = dict(zip(self.model.network.names[self.model.last], passed.decided.votes, strict=True))
        decision = passed.decided.decision
        layers: dict[str, Layer] = {}
        states: dict[str, Any] = {}
        infos: dict[str, Any] = {}
        winners: dict[str, Any] = {}
        for name, turn in self.turns(carry.counts).items():
            vote = votes.get(name, decision)  # layers before the last learn from the network's decision
            signal = Signal(reward_of(vote) * turn, jnp.where(turn, label, -1), vote)
            before = carry.layers[name]
            given = (carry.states[name], passed.inputs[name], passed.responses[name])
            layers[name], states[name], infos[name] = before.conv.last_learner.update(before, *given, signal)
            if has_default_figures(before.conv.last_learner):
                winners[name] = winning_features(before, passed.responses[name], vote)
        states, counts = self.count_outcomes(Carry(layers, states, carry.counts), reward_of(decision), 1)
        return Carry(layers, states, counts), StepResult(infos, decision, winners or None)

    def turns(self, counts: Any, ahead: int = 0) -> dict[str, Any]:
        """Whether each layer learns in the current interval, or `ahead` intervals later; () bool, keyed by name."""
        # As in aidinattar/snn, the first layer learns in every other interval of epoch 0. In later epochs the sum is
        # above 0, so that this layer never learns again.
        first = counts.epoch + (counts.interval + ahead) % 2 == 0
        names = self.phase.layers
        return {name: not self.phase.by_turns or (first if name == names[0] else ~first) for name in names}

    def count_outcomes(self, carry: Carry, outcomes: jax.Array, images: Any) -> tuple[Any, DecisionCounts]:
        """Counts the outcomes of some images, and ends the interval if it is full; returns new states and counts."""
        counts = carry.counts
        right = jnp.sum(outcomes > 0, dtype=jnp.int32)
        wrong = jnp.sum(outcomes < 0, dtype=jnp.int32)
        counts = DecisionCounts(
            counts.correct + right, counts.wrong + wrong, counts.seen + images, counts.interval, counts.epoch
        )
        return self._end_interval(counts.seen >= self.phase.adapt_every, carry._replace(counts=counts))

    def _end_interval(self, last: jax.Array, carry: Carry) -> tuple[Any, DecisionCounts]:
        """Ends the interval if `last`; if layers learn by turns, only layers that learn in the next interval adapt."""
        counts = carry.counts
        zero = jnp.zeros_like(counts.seen)
        adapted = {}
        # As in aidinattar/snn, the rates that adapt belong to the layers that learn in the next interval; the layers of
        # this interval keep theirs.
        for name, turn in self.turns(counts, ahead=1).items():
            state = carry.states[name]
            learner = carry.layers[name].conv.last_learner
            adapted[name] = where(turn, learner.end_interval(state, counts), state)
        after = adapted, DecisionCounts(zero, zero, zero, counts.interval + 1, counts.epoch)
        return where(last, after, (carry.states, counts))

    def end_epoch(self, carry: Carry, last: jax.Array) -> Carry:
        """The carry after the epoch, if `last`; its last interval, which may be shorter, then ends too."""
        states, counts = self._end_interval(last & (carry.counts.seen > 0), carry)
        return end_epoch(self.phase, Carry(carry.layers, states, counts._replace(epoch=counts.epoch + last)), last)


def where(condition: jax.Array, new: Any, old: Any) -> Any:
    """Applies `jnp.where` to the leaves of two trees of the same structure."""
    return jax.tree.map(lambda one, other: jnp.where(condition, one, other), new, old)


def is_pair(phase: Phase, network: Network) -> bool:
    """Whether a phase trains a `WTA` layer and, directly after it, the deciding layer, both by `RSTDP`.

    The other conditions of the native call by which `learn_pair` trains them must also be met.
    """
    last = len(network.stages) - 1
    if phase.first != last - 1 or len(phase.layers) != 2:
        return False
    convs = [conv for stage in network.stages[phase.first :] for conv in stage.branches]
    chain = network.graph.plain(last) and network.graph.sources(last) == (last,)
    if len(convs) != 2 or not chain or network.stages[phase.first].pointwise:
        return False
    rules = [conv.last_learner for conv in convs]
    by_reward = all(type(rule).learn is RSTDP.learn and not has_default_figures(rule) for rule in rules)
    before = convs[0]
    one_race = is_wta(before.competition) and before.one_threshold and before.monotone
    # The compiled call can drop out features of the deciding layer (`kept`), but not of the layer before it.
    undropped = by_reward and before.last_learner.dropout is None
    return undropped and one_race and type(network.decision) is Majority and network.time_steps <= MAX_TIME_STEPS


def learn_pair(phase: Phase, carry: Carry, model: Model, batch: ImageBatch) -> tuple[Carry, StepResult]:
    """Trains the two layers of a pair, see `is_pair`, as `learn_supervised` does; on a CPU, in one native call."""

    def run_native(carry: Carry, model: Model, batch: ImageBatch) -> tuple[Carry, StepResult]:
        def learn(carry: Carry, turns: Mapping[str, Any], images: Images) -> tuple[dict[str, Layer], Any, StepResult]:
            layers, result = _learn_both(phase, carry, model, turns, images)
            return layers, carry.states, result

        return learn_intervals(phase, carry, model, batch, learn)

    def xla(carry: Carry, model: Model, batch: ImageBatch) -> tuple[Carry, StepResult]:
        return learn_supervised(phase, carry, model, batch)

    return dispatch(phase.update_batch == 1, run_native, xla)(carry, model, batch)


def _learn_both(
    phase: Phase, carry: Carry, model: Model, turns: Mapping[str, Any], images: Images
) -> tuple[dict[str, Layer], StepResult]:
    """Trains both layers on the images of one interval in a native call; returns them by name, and the results."""
    earlier, last = phase.layers
    before = carry.layers[earlier]
    deciding = carry.layers[last]
    competition: Any = before.conv.competition
    threshold: Any = before.conv.threshold
    first, second, vote, winners, feature = learn_deep_by_reward(
        _reward_layer(before, carry.states[earlier]),
        _reward_layer(deciding, carry.states[last]),
        images.inputs,
        images.labels,
        images.learns,
        jnp.stack([jnp.asarray(turn, jnp.int32) for turn in turns.values()]),
        threshold=threshold,
        winners=competition.winners,
        radius=competition.radius,
        classes=deciding.classes,
        time_steps=deciding.time_steps,
        kept=carry.states[last].get("kept"),
        pool=pooling(model.network.stages[phase.first].pool, before.conv.output_padding),
    )
    layers = {
        earlier: dataclasses.replace(before, weights=first),
        last: dataclasses.replace(deciding, weights=second),
    }
    infos: dict[str, Any] = {earlier: dict(feature=winners), last: dict(feature=feature[:, None])}
    return layers, StepResult(infos, vote)


def _reward_layer(layer: Layer, state: Mapping[str, jax.Array]) -> RewardLayer:
    conv = layer.conv
    rule = conv.last_learner
    return RewardLayer(layer.weights, state["rates"], rule.bounds, rule.stabiliser, conv.stride, conv.padding)
