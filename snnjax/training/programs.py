"""The programs of a training: pure functions on plain pytrees, for one network or for many side by side."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from snnjax import devices
from snnjax.layers import Form, Layer
from snnjax.learners import Signal, Tally
from snnjax.networks import Model
from snnjax.networks.decision import Decided, decide


def encode_batch(model: Model, images: jax.Array, *, native: bool) -> jax.Array:
    """Latencies (B, C, H, W) of images (B, ...)."""
    return devices.map_each(functools.partial(model.encode, native=native), images)


def forward_batch(model: Model, latencies: jax.Array, *, first: int, last: int, timed: bool) -> jax.Array:
    """`Model.forward` of latencies (B, C, H, W)."""
    return model.forward_block(latencies, first, last, timed=timed)


def decide_batch(
    model: Model, inputs: jax.Array, *, first: int, encode: bool = False, native: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Decisions, (B,) int32, and scores, (B, classes), of a model; untimed deciding layers must be in the form `TAPS`.

    The inputs are latencies (B, C, H, W) that enter stage `first`; with `encode`, images as in `encode_batch`.
    """

    latencies = encode_batch(model, inputs, native=native) if encode else inputs
    latencies = model.forward_block(latencies, first, model.last, timed=model.decision.timed)
    decided = model.decide_block(latencies)
    return decided.decision, decided.scores


SupervisedCarry = tuple[dict[str, Layer], dict[str, Any], Tally]
"""The layers that learn supervised and the states of their learners, by name, and the network's decisions."""


UnsupervisedCarry = tuple[dict[str, Layer], dict[str, Any]]
"""The layers that learn without labels, one or jointly several, and the states of their learners, by name."""


def of_one(learn: Callable[..., Any]) -> Callable[..., tuple[UnsupervisedCarry, dict[str, Any]]]:
    """Decorates a function of (layer, state), ... that returns them anew, and info: it takes and gives them by name.

    The carry is then an `UnsupervisedCarry` of one layer.
    """

    @functools.wraps(learn)
    def by_name(carry: UnsupervisedCarry, *args: Any, **kwargs: Any) -> tuple[UnsupervisedCarry, dict[str, Any]]:
        ((name, layer),), (state,) = carry[0].items(), carry[1].values()
        (layer, state), info = learn((layer, state), *args, **kwargs)
        return ({name: layer}, {name: state}), {name: info}

    return by_name


@of_one
def learn_unsupervised(
    carry: Any, latencies: jax.Array, start: jax.Array, count: jax.Array, last: jax.Array, which: int, batch: int
) -> tuple[Any, Any]:
    """A slice of an epoch of learner number `which` of one layer, as in `learn`."""
    return learn(Unsupervised(which), carry, (latencies, None), start, count, last, batch)


def learn_supervised(
    carry: SupervisedCarry,
    model: Model,
    latencies: jax.Array,
    labels: jax.Array,
    start: jax.Array,
    count: jax.Array,
    last: jax.Array,
    batch_size: jax.Array,
    first: int,
    batch: int,
    by_turns: bool,
) -> tuple[SupervisedCarry, tuple[jax.Array, Any]]:
    """A slice of an epoch of all supervised layers, as in `learn`; latencies enter stage `first`.

    For each image it returns the decision, () int32, and info of each layer by name.
    """
    names = [name for stage in model.names for name in stage if name in carry[0]]
    rule = Supervised(model, names, first, by_turns, batch_size)
    return learn(rule, carry, (latencies, labels), start, count, last, batch)


def learn(
    rule: Any, carry: Any, images: Any, start: jax.Array, count: jax.Array, last: jax.Array, batch: int
) -> tuple[Any, Any]:
    """Learns from images start..count-1 of S; `last` ends the epoch. The new carry, and info (S, ...), 0 of the others.

    `rule` is `Unsupervised` or `Supervised`, images are (latencies, labels or None), `batch` is `update_batch`.
    """

    def forward(at: jax.Array, carry: Any) -> Any:
        return rule.forward(carry, jax.tree.map(lambda x: x[at], images))

    def update(at: jax.Array, learned: Any, response: Any) -> Any:
        carry, infos = learned
        carry, info = rule.update(carry, jax.tree.map(lambda x: x[at], images), response)
        if infos is None:
            return carry, info
        return carry, jax.tree.map(functools.partial(put, at), infos, info)

    def put(at: jax.Array, found: jax.Array, one: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_index_in_dim(found, one, at, 0)

    def one_batch(batches: Any) -> Any:
        at, learned = batches
        respond = functools.partial(forward, carry=learned[0])
        responses = devices.share_out(functools.partial(devices.map_each, respond), at + jnp.arange(batch))

        def one(i: jax.Array, learned: Any) -> Any:
            return update(at + i, learned, jax.tree.map(lambda x: x[i], responses))

        return at + batch, jax.lax.fori_loop(0, jnp.minimum(batch, count - at), one, learned)

    _, info = jax.eval_shape(lambda at: update(at, (carry, None), forward(at, carry)), jnp.int32(0))
    learned = carry, jax.tree.map(lambda x: jnp.zeros((len(images[0]), *x.shape), x.dtype), info)
    if batch == 1:
        learned = jax.lax.fori_loop(start, count, lambda at, each: update(at, each, forward(at, each[0])), learned)
    else:
        _, learned = jax.lax.while_loop(lambda batches: batches[0] < count, one_batch, (start, learned))
    return rule.end_epoch(learned[0], last), learned[1]


def learn_jointly(
    carry: UnsupervisedCarry,
    model: Model,
    latencies: jax.Array,
    start: jax.Array,
    count: jax.Array,
    last: jax.Array,
    first: int,
    end: int,
    batch: int,
    rest: int,
) -> tuple[UnsupervisedCarry, Any]:
    """A slice of an epoch of layers in stages `first` to `end` - 1 that learn from whole batches.

    Images start..count-1 of S are learned from, `batch` at a time; in an epoch's last batch there may be `rest`. The
    new carry, and for each batch of a slice info by layer, (S / batch rounded up, ...), 0 of the others.
    """

    def learn(learned: Any, at: jax.Array, size: int) -> Any:
        ((layers, states), infos), found = learned, dict[str, Any]()
        inputs, layers, states = jax.lax.dynamic_slice_in_dim(latencies, at, size), dict(layers), dict(states)
        for number in range(first, end):
            responses = []
            for name in model.names[number]:
                if name not in layers:
                    responses.append(jax.vmap(model.layers[name].responses)(inputs))
                    continue
                layer, state, learner = layers[name], states[name], layers[name].conv.each_learner[0]
                response = learner.forward(layer, state, inputs, None)
                after, states[name], found[name] = learner.update(layer, state, inputs, response, None)
                layers[name] = marked_as(layer, after)
                responses.append(response.outputs)
            inputs = jax.vmap(lambda *each, number=number: model.join(number, each))(*responses)
        if infos is None:
            return (layers, states), found
        put = functools.partial(jax.lax.dynamic_update_index_in_dim, index=at // batch, axis=0)
        return (layers, states), jax.tree.map(put, infos, found)

    _, info = jax.eval_shape(lambda: learn((carry, None), jnp.int32(0), rest or batch))
    batches = -(-len(latencies) // batch)
    learned: Any = carry, jax.tree.map(lambda x: jnp.zeros((batches, *x.shape), x.dtype), info)
    whole = count - (count - start) % batch
    learned = jax.lax.fori_loop(
        start // batch, whole // batch, lambda number, each: learn(each, number * batch, batch), learned
    )
    if rest:
        short = functools.partial(learn, at=whole, size=rest)
        learned = jax.lax.cond(whole < count, short, lambda each: each, learned)
    (layers, states), infos = learned
    ended = {name: layers[name].conv.each_learner[0].end_epoch(state) for name, state in states.items()}
    return (layers, where(last, ended, states)), infos


class FastForm(NamedTuple):
    """A function that computes what one of these programs does, where all weights lie within their bounds, or anywhere.

    Attributes:
      function: of the same carry and arguments, without the static ones.
      static: static arguments of its own.
      unit: the size of a slice of images is a multiple of it.
      form: of the layers that learn.
      clips: whether it takes weights outside of their bounds too, which the first update clips.
    """

    function: Callable[..., tuple[Any, Any]]
    static: dict[str, Any]
    unit: int
    form: Form
    clips: bool = False


class Unsupervised(NamedTuple):
    """How one layer learns by its learner number `which`; the carry is (layer, state), images are (latency, ...)."""

    which: int

    def forward(self, carry: tuple[Layer, Any], image: Any) -> Any:
        """The learner's response."""
        return carry[0].conv.each_learner[self.which].forward(*carry, image[0], None)

    def update(self, carry: tuple[Layer, Any], image: Any, response: Any) -> tuple[tuple[Layer, Any], Any]:
        """The new carry, and info."""
        layer, state, info = carry[0].conv.each_learner[self.which].update(*carry, image[0], response, None)
        return (marked_as(carry[0], layer), state), info

    def end_epoch(self, carry: tuple[Layer, Any], last: jax.Array) -> tuple[Layer, Any]:
        """The carry, after an epoch if `last`."""
        layer, state = carry
        return layer, where(last, layer.conv.each_learner[self.which].end_epoch(state), state)


class Supervised(NamedTuple):
    """How all supervised layers learn; the carry is a `SupervisedCarry`, images are (latency, label)."""

    model: Model  # layers of the carry take the place of its own
    names: Sequence[str]  # of the layers that learn, in order
    first: int  # number of the first stage that learns
    by_turns: bool  # as of `Network.reward_by_turns`
    batch_size: jax.Array  # [] int32, images of a batch, after which learners adapt

    def forward(self, carry: SupervisedCarry, image: Any) -> tuple[Any, Any, Decided]:
        """The input of each layer that learns, their responses, both by name, and the decision."""
        (layers, states, _), (latency, label) = carry, image
        model, inputs, found, at = self.model.updated(layers), {}, {}, self.first
        for number in range(self.first, model.last + 1):
            # Times matter up to the last of the earlier layers that learn, from there on only who fires.
            timed = number < model.last or model.decision.timed
            for name in (each for each in model.names[number] if each in self.names):
                latency, at = model.forward(latency, at, number, timed=timed), number
                inputs[name] = latency
                found[name] = layers[name].conv.supervised.forward(layers[name], states[name], latency, label)
        spikes = [found[name].spikes for name in model.names[model.last]]
        return inputs, found, decide(model.decision, spikes, model.classes)

    def update(self, carry: SupervisedCarry, image: Any, response: Any) -> tuple[SupervisedCarry, Any]:
        """The new carry; the decision, and info of each layer by name."""
        (_, _, tally), (_, _, decided) = carry, response
        layers, states, infos = self.teach(carry, image, response)
        counted = self.count_outcomes(layers, states, tally, outcome(decided.decision, image[1]), 1)
        return (layers, *counted), (decided.decision, infos)

    def teach(self, carry: SupervisedCarry, image: Any, response: Any, shown: Any = True) -> tuple[Any, Any, Any]:
        """The new layers, states and infos, all by name, without counting the decision; only `shown` images teach."""
        (layers, states, tally), label, results = carry, image[1], {}
        inputs, found, decided = response
        votes = dict(zip(self.model.names[self.model.last], decided.votes, strict=True))
        for name, turn in self.turns(tally).items():
            vote = votes.get(name, decided.decision)  # layers before the last learn from the network's decision
            turn &= shown
            signal = Signal(outcome(vote, label) * turn, jnp.where(turn, label, -1), vote)
            learner = layers[name].conv.supervised
            layer, *rest = learner.update(layers[name], states[name], inputs[name], found[name], signal)
            results[name] = marked_as(layers[name], layer), *rest
        layers, states, infos = ({name: each[part] for name, each in results.items()} for part in range(3))
        return layers, states, infos

    def turns(self, tally: Tally, ahead: int = 0) -> dict[str, Any]:
        """Whether each layer learns in this batch, or in one ahead, () bool by name."""
        first = tally.epoch + (tally.batch + ahead) % 2 == 0
        return {name: not self.by_turns or (first if name == self.names[0] else ~first) for name in self.names}

    def count_outcomes(
        self, layers: dict[str, Layer], states: Any, tally: Tally, outcomes: jax.Array, images: Any
    ) -> tuple[Any, Tally]:
        """Counts the outcomes of some images, and ends the batch after its last image: new states and tally."""
        right, wrong = (jnp.sum(each, dtype=jnp.int32) for each in (outcomes > 0, outcomes < 0))
        tally = Tally(tally.correct + right, tally.wrong + wrong, tally.seen + images, tally.batch, tally.epoch)
        return self._end_batch(tally.seen == self.batch_size, layers, states, tally)

    def _end_batch(self, last: jax.Array, layers: dict[str, Layer], states: Any, tally: Tally) -> tuple[Any, Tally]:
        """Ends a batch if `last`; of layers that learn by turns, only those of the next batch adapt."""
        adapted, zero = {}, jnp.zeros_like(tally.seen)
        for name, turn in self.turns(tally, ahead=1).items():
            adapted[name] = where(turn, layers[name].conv.supervised.end_batch(states[name], tally), states[name])
        return where(last, (adapted, Tally(zero, zero, zero, tally.batch + 1, tally.epoch)), (states, tally))

    def end_epoch(self, carry: SupervisedCarry, last: jax.Array) -> SupervisedCarry:
        """The carry, after an epoch if `last`: its last batch may be short."""
        layers, states, tally = carry
        states, tally = self._end_batch(last & (tally.seen > 0), layers, states, tally)
        ended = {name: layers[name].conv.supervised.end_epoch(state) for name, state in states.items()}
        return layers, where(last, ended, states), tally._replace(epoch=tally.epoch + last)


def marked_as(before: Layer, after: Layer) -> Layer:
    """A layer after an update, marked as `within` as before: a rule keeps weights within its bounds."""
    return dataclasses.replace(after, within=before.within)


def outcome(decision: jax.Array, label: jax.Array) -> jax.Array:
    """1 right, -1 wrong, 0 silent."""
    return jnp.where(decision < 0, 0, jnp.where(decision == label, 1, -1))


def where(condition: jax.Array, new: Any, old: Any) -> Any:
    """`jnp.where` of two trees."""
    return jax.tree.map(lambda one, other: jnp.where(condition, one, other), new, old)
