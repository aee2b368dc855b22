"""The steps that define learning: the effect of a slice of an epoch on layers, image by image or batch by batch.

Every step, plain or fast, is a pure function `step(phase, carry, model, part)` from which come a new `Carry` and a
`StepResult`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from snnjax.core import devices
from snnjax.kernels import Spikes, Winners
from snnjax.layers.spiking import Layer
from snnjax.learners import Learner, Signal, Tally, winner_of_class
from snnjax.learners.protocol import has_default_figures
from snnjax.networks import Model
from snnjax.networks.decision import Decided, decide
from snnjax.networks.graph import Known
from snnjax.steps.phase import Carry, Phase, Slice, StepResult


def learn_unsupervised(phase: Phase, carry: Carry, model: Model | None, part: Slice) -> tuple[Carry, StepResult]:
    """One layer learns without labels."""
    respond = functools.partial(respond_unsupervised, phase)
    update = functools.partial(update_unsupervised, phase)
    carry, result = _learn_in_order(respond, update, carry, part, phase.batch)
    return end_epoch(phase, carry, part.last), result


def learn_supervised(phase: Phase, carry: Carry, model: Model, part: Slice) -> tuple[Carry, StepResult]:
    """All supervised layers learn, from labels and from the network's decisions."""
    rule = Supervised(phase, model, part.batch_size)
    carry, result = _learn_in_order(rule.respond, rule.update, carry, part, phase.batch)
    return rule.end_epoch(carry, part.last), result


def _learn_in_order(
    respond: Callable[..., Any], update: Callable[..., tuple[Carry, StepResult]], carry: Carry, part: Slice, batch: int
) -> tuple[Carry, StepResult]:
    """Learns from the images of a slice in their order, of which `batch` are passed forward with the same weights."""

    def image_of(index: jax.Array) -> tuple[jax.Array, Any]:
        image = jax.tree.map(lambda x: x[index], part.inputs)
        return image, None if part.labels is None else part.labels[index]

    def learn_one(index: jax.Array, learned: tuple[Carry, StepResult], response: Any) -> tuple[Carry, StepResult]:
        carry, info = update(learned[0], *image_of(index), response)
        put = functools.partial(jax.lax.dynamic_update_index_in_dim, index=index, axis=0)
        return carry, jax.tree.map(put, learned[1], info)

    def learn_next(index: jax.Array, learned: tuple[Carry, StepResult]) -> tuple[Carry, StepResult]:
        return learn_one(index, learned, respond(learned[0], *image_of(index)))

    def learn_batch(batches: Any) -> Any:
        start, learned = batches

        def answer(index: jax.Array) -> Any:
            return respond(learned[0], *image_of(index))

        responses = devices.map_each(answer, start + jnp.arange(batch))

        def learn_response(place: jax.Array, learned: tuple[Carry, StepResult]) -> tuple[Carry, StepResult]:
            return learn_one(start + place, learned, jax.tree.map(lambda x: x[place], responses))

        return start + batch, jax.lax.fori_loop(0, jnp.minimum(batch, part.stop - start), learn_response, learned)

    image = jax.eval_shape(image_of, jnp.int32(0))
    response = jax.eval_shape(respond, carry, *image)
    _, info = jax.eval_shape(update, carry, *image, response)
    nothing = jax.tree.map(lambda x: jnp.zeros((part.size, *x.shape), x.dtype), info)
    if batch == 1:
        return jax.lax.fori_loop(part.start, part.stop, learn_next, (carry, nothing))
    _, learned = jax.lax.while_loop(lambda batches: batches[0] < part.stop, learn_batch, (part.start, (carry, nothing)))
    return learned


def learn_jointly(phase: Phase, carry: Carry, model: Model | None, part: Slice) -> tuple[Carry, StepResult]:
    """One layer learns without labels, from whole batches."""
    batch = phase.batch
    rest = phase.images % batch  # images in the last batch of an epoch, 0 if it is whole

    def learn(learned: tuple[Carry, Any], start: jax.Array, size: int) -> tuple[Carry, Any]:
        carry, all_infos = learned
        inputs = jax.lax.dynamic_slice_in_dim(part.inputs, start, size)
        (name,) = phase.layers
        layer = carry.layers[name]
        learner = layer.conv.each_learner[phase.learner]
        response = learner.forward(layer, carry.states[name], inputs, None)
        learned_layer, state, info = learner.update(layer, carry.states[name], inputs, response, None)
        carry = Carry({name: marked_as(layer, learned_layer)}, {name: state})
        infos = {name: info}
        if all_infos is None:
            return carry, infos
        put = functools.partial(jax.lax.dynamic_update_index_in_dim, index=start // batch, axis=0)
        return carry, jax.tree.map(put, all_infos, infos)

    _, info = jax.eval_shape(lambda: learn((carry, None), jnp.int32(0), rest or batch))
    batches = -(-part.size // batch)
    learned = carry, jax.tree.map(lambda x: jnp.zeros((batches, *x.shape), x.dtype), info)
    whole = part.stop - (part.stop - part.start) % batch
    learned = jax.lax.fori_loop(
        part.start // batch, whole // batch, lambda number, x: learn(x, number * batch, batch), learned
    )
    if rest:
        short = functools.partial(learn, start=whole, size=rest)
        learned = jax.lax.cond(whole < part.stop, short, lambda x: x, learned)
    return end_epoch(phase, learned[0], part.last), StepResult(learned[1])


def known_of(inputs: Any, first: int) -> Known:
    """What is known of images, given the inputs of a phase whose first stage is number `first`."""
    return inputs if isinstance(inputs, Known) else Known(inputs={first: inputs})


def end_epoch(phase: Phase, carry: Carry, last: jax.Array) -> Carry:
    """The carry with the states of learners after an epoch, if `last`."""
    learners = {name: carry.layers[name].conv.each_learner[phase.learner] for name in phase.layers}
    ended = {name: learners[name].end_epoch(state) for name, state in carry.states.items()}
    return carry._replace(states=where(last, ended, carry.states))


def respond_unsupervised(phase: Phase, carry: Carry, image: jax.Array, label: None) -> Any:
    """The response of the learner that learns without labels to an image (C, H, W)."""
    (name,) = phase.layers
    layer = carry.layers[name]
    return layer.conv.each_learner[phase.learner].forward(layer, carry.states[name], image, None)


def update_unsupervised(
    phase: Phase, carry: Carry, image: jax.Array, label: None, response: Any
) -> tuple[Carry, StepResult]:
    """Learns from it."""
    (name,) = phase.layers
    layer = carry.layers[name]
    learner = layer.conv.each_learner[phase.learner]
    learned, state, info = learner.update(layer, carry.states[name], image, response, None)
    result = StepResult({name: info}, winners=_winners(name, layer, learner, response, None) or None)
    return Carry({name: marked_as(layer, learned)}, {name: state}), result


def _winners(name: str, layer: Layer, learner: Learner, response: Any, vote: jax.Array | None) -> dict[str, jax.Array]:
    """The features of a response's winners, (k,) int32, for `default_figures`; {} if it has none, or needs none.

    In a deciding layer they are those of the neuron that its vote follows.
    """
    winners = getattr(response, "winners", None)
    spikes = getattr(response, "spikes", None)
    if not has_default_figures(learner):
        return {}
    if vote is not None and layer.classes and isinstance(spikes, Spikes):
        winners = winner_of_class(layer, spikes, vote)
    return {name: winners.feature} if isinstance(winners, Winners) else {}


class _Passed(NamedTuple):
    """The inputs and responses of the supervised layers for one image, and its decision."""

    inputs: dict[str, jax.Array]  # of each layer that learns, by name
    responses: dict[str, Any]  # of their learners, by name
    decided: Decided


class Supervised(NamedTuple):
    """Learning of supervised layers.

    Attributes:
      phase: names them.
      model: the network; layers of the carry take the place of its own.
      batch_size: as of `Slice`.
    """

    phase: Phase
    model: Model
    batch_size: jax.Array

    def respond(self, carry: Carry, image: Any, label: jax.Array) -> _Passed:
        """Passes an image forward, one of the inputs of a `Slice`."""
        model = self.model.updated(carry.layers)
        known = known_of(image, self.phase.first)
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

    def update(self, carry: Carry, image: jax.Array, label: jax.Array, passed: _Passed) -> tuple[Carry, StepResult]:
        """Learns from it."""
        return self._update(carry, passed, label, functools.partial(outcome, label=label))

    def update_by_reward(self, carry: Carry, reward: jax.Array, passed: _Passed) -> tuple[Carry, StepResult]:
        """Learns from it without a label: () int32, 1 where the decision was right, -1 wrong, 0 nothing to be learned.

        A layer that voted otherwise than the network decided learns nothing.
        """

        def of_vote(vote: jax.Array) -> jax.Array:
            return jnp.where(vote == passed.decided.decision, reward, 0)

        return self._update(carry, passed, jnp.int32(-1), of_vote)

    def _update(
        self, carry: Carry, passed: _Passed, label: jax.Array, reward_of: Callable[[jax.Array], jax.Array]
    ) -> tuple[Carry, StepResult]:
        """Learns from an image, given the reward of a vote."""
        votes = dict(zip(self.model.network.names[self.model.last], passed.decided.votes, strict=True))
        decision = passed.decided.decision
        layers: dict[str, Layer] = {}
        states: dict[str, Any] = {}
        infos: dict[str, Any] = {}
        winners: dict[str, jax.Array] = {}
        for name, turn in self.turns(carry.tally).items():
            vote = votes.get(name, decision)  # layers before the last learn from the network's decision
            signal = Signal(reward_of(vote) * turn, jnp.where(turn, label, -1), vote)
            before = carry.layers[name]
            given = (carry.states[name], passed.inputs[name], passed.responses[name])
            layer, states[name], infos[name] = before.conv.last_learner.update(before, *given, signal)
            layers[name] = marked_as(before, layer)
            winners |= _winners(name, before, before.conv.last_learner, passed.responses[name], vote)
        states, tally = self.count_outcomes(Carry(layers, states, carry.tally), reward_of(decision), 1)
        return Carry(layers, states, tally), StepResult(infos, decision, winners or None)

    def turns(self, tally: Any, ahead: int = 0) -> dict[str, Any]:
        """Whether each layer learns in this batch, or in one ahead, () bool by name."""
        first = tally.epoch + (tally.batch + ahead) % 2 == 0
        names = self.phase.layers
        return {name: not self.phase.by_turns or (first if name == names[0] else ~first) for name in names}

    def count_outcomes(self, carry: Carry, outcomes: jax.Array, images: Any) -> tuple[Any, Tally]:
        """Counts the outcomes of some images, and ends the batch after its last image: new states and tally."""
        tally = carry.tally
        right = jnp.sum(outcomes > 0, dtype=jnp.int32)
        wrong = jnp.sum(outcomes < 0, dtype=jnp.int32)
        tally = Tally(tally.correct + right, tally.wrong + wrong, tally.seen + images, tally.batch, tally.epoch)
        return self._end_batch(tally.seen >= self.batch_size, carry._replace(tally=tally))

    def _end_batch(self, last: jax.Array, carry: Carry) -> tuple[Any, Tally]:
        """Ends a batch if `last`; of layers that learn by turns, only those of the next batch adapt."""
        tally = carry.tally
        zero = jnp.zeros_like(tally.seen)
        adapted = {}
        for name, turn in self.turns(tally, ahead=1).items():
            state = carry.states[name]
            learner = carry.layers[name].conv.last_learner
            adapted[name] = where(turn, learner.end_batch(state, tally), state)
        after = adapted, Tally(zero, zero, zero, tally.batch + 1, tally.epoch)
        return where(last, after, (carry.states, tally))

    def end_epoch(self, carry: Carry, last: jax.Array) -> Carry:
        """The carry, after an epoch if `last`: its last batch may be short."""
        states, tally = self._end_batch(last & (carry.tally.seen > 0), carry)
        return end_epoch(self.phase, Carry(carry.layers, states, tally._replace(epoch=tally.epoch + last)), last)


def marked_as(before: Layer, after: Layer) -> Layer:
    """A layer after an update, marked as `in_bounds` as before: a rule keeps weights within its bounds."""
    return dataclasses.replace(after, in_bounds=before.in_bounds)


def outcome(decision: jax.Array, label: jax.Array) -> jax.Array:
    """1 right, -1 wrong, 0 silent."""
    return jnp.where(decision < 0, 0, jnp.where(decision == label, 1, -1))


def where(condition: jax.Array, new: Any, old: Any) -> Any:
    """`jnp.where` of two trees."""
    return jax.tree.map(lambda one, other: jnp.where(condition, one, other), new, old)
