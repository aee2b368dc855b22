"""Fast forms of `RSTDP` in the last layers: by compiled kernels, which also decide, or in blocks."""

import dataclasses
import functools
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from snnjax import kernels
from snnjax.forms import TAPS, native_pooling
from snnjax.kernels import Spikes
from snnjax.kernels.blocks import finite
from snnjax.kernels.native import STEPS, reward
from snnjax.layers import WTA, Form, Layer
from snnjax.learners import RSTDP
from snnjax.networks import Majority, Model, Network
from snnjax.networks.decision import majority
from snnjax.training import accelerated, blocks
from snnjax.training.programs import FastForm, Supervised, SupervisedCarry, outcome
from snnjax.training.state import Settings


def fast_form(model: Model, first: int, by_turns: bool, settings: Settings) -> FastForm | None:
    """That of layers from stage `first` on: deciding ones, by compiled kernels also of a single one and one before."""
    layers = (layer for number in range(first, model.last + 1) for layer in model.stage(number))
    bounded = all(finite(layer.conv.supervised.bounds) for layer in layers)
    if settings.update_batch > 1 or not (bounded and _suits(model, settings)):
        in_blocks = None if first < model.last else blocks.fast_form(model, by_turns, settings)
        return accelerated.reward_form(model, first, by_turns, settings) or in_blocks
    if first < model.last and not _deep(model, first):
        return None
    return FastForm(learn_at_once, dict(first=first, by_turns=by_turns), 1, STRONGEST, clips=True)


def deciding_form(network: Network, settings: Settings, scores: bool) -> Form | None:
    """That of deciding `RSTDP` layers, by compiled kernels."""
    if not _suits(network, settings):
        return None
    return SCORED if scores else STRONGEST


def _suits(network: Network | Model, settings: Settings) -> bool:
    """Whether compiled kernels can do what deciding layers need: bytes, and `Majority`."""
    return settings.native and type(network.decision) is Majority and network.time_steps <= STEPS


def _deep(model: Model, first: int) -> bool:
    """Whether compiled kernels can learn in stage `first` and in the deciding one: of one layer each, with `WTA`."""
    if first != model.last - 1 or any(len(model.stage(number)) > 1 for number in (first, model.last)):
        return False
    (layer,) = model.stage(first)
    conv = layer.conv
    plain = type(conv.competition) is WTA and conv.supervised.dropout is None and layer.monotone
    return plain and conv.one_threshold


def learn_at_once(
    carry: SupervisedCarry,
    model: Model,
    latencies: jax.Array,
    labels: jax.Array,
    start: jax.Array,
    count: jax.Array,
    last: jax.Array,
    batch_size: jax.Array,
    first: int,
    by_turns: bool,
) -> tuple[SupervisedCarry, tuple[jax.Array, Any]]:
    """As `programs.learn_supervised` with one image at a time, of `RSTDP` layers in the form `TAPS`.

    Rates change after a batch only, so that layers learn from the rest of a batch in one call.
    """
    names, numbers = [name for stage in model.names[first:] for name in stage], jnp.arange(len(latencies))
    rule = Supervised(model, names, first, by_turns, batch_size)
    learn = _alone if first == model.last else _with_earlier

    def of_span(carry: SupervisedCarry, begin: jax.Array, end: jax.Array) -> _Learned:
        return learn(rule, carry, latencies, labels, jnp.stack([begin, end]))

    def one_batch(learned: Any) -> Any:
        at, (layers, states, tally), (decisions, features) = learned
        end = jnp.minimum(count, at + batch_size - tally.seen)
        found = of_span((layers, states, tally), at, end)
        layers = {name: dataclasses.replace(each, stored=found.weights[name]) for name, each in layers.items()}
        now = (numbers >= at) & (numbers < end)
        decided = jax.vmap(lambda votes: majority(votes, model.classes), in_axes=1)(found.votes)
        outcomes = jnp.where(now, outcome(decided, labels), 0)
        states, tally = rule.count_outcomes(layers, states, tally, outcomes, end - at)
        features = jax.tree.map(lambda new, old: jnp.where(now[:, None], new, old), found.features, features)
        return end, (layers, states, tally), (jnp.where(now, decided, decisions), features)

    shapes = jax.eval_shape(of_span, carry, start, count).features
    nothing = jnp.zeros(len(latencies), jnp.int32), jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    _, carry, found = jax.lax.while_loop(lambda each: each[0] < count, one_batch, (start, carry, nothing))
    decisions, features = found
    return rule.end_epoch(carry, last), (decisions, {name: dict(feature=each) for name, each in features.items()})


class _Learned(NamedTuple):
    """What a span of S images has taught.

    Attributes:
      weights: by name of the layer.
      votes: (deciding layers, S) int32.
      features: (S, k) int32 by name, those that learned, -1 where none did.
    """

    weights: dict[str, jax.Array]
    votes: jax.Array
    features: dict[str, jax.Array]


def _alone(
    rule: Supervised, carry: SupervisedCarry, latencies: jax.Array, labels: jax.Array, span: jax.Array
) -> _Learned:
    """Deciding layers learn, each by its own votes, if it is their turn."""
    (layers, states, tally), found = carry, {}
    for name, turn in rule.turns(tally).items():
        layer, images = layers[name], (latencies, jnp.where(turn, labels, -1), span)
        found[name] = reward.learn(_native(layer, states[name]), *images, **_deciding(layer, states[name]))
    weights, features = {n: x.weights for n, x in found.items()}, {n: x.feature[:, None] for n, x in found.items()}
    return _Learned(weights, jnp.stack([each.vote for each in found.values()]), features)


def _with_earlier(
    rule: Supervised, carry: SupervisedCarry, latencies: jax.Array, labels: jax.Array, span: jax.Array
) -> _Learned:
    """A layer and the deciding one learn by the votes of that, each if it is its turn."""
    (layers, states, tally), (before, last) = carry, rule.names
    turns = jnp.stack([jnp.asarray(each, jnp.int32) for each in rule.turns(tally).values()])
    earlier, deciding = (_native(layers[name], states[name]) for name in (before, last))
    conv, wta = layers[before].conv, cast(WTA, layers[before].conv.competition)
    how: dict[str, Any] = dict(threshold=conv.threshold, winners=wta.winners, radius=wta.radius)
    how |= native_pooling(conv, rule.model.pools[rule.first]) | _deciding(layers[last], states[last])
    weights, winners, found = reward.learn_deep(earlier, deciding, latencies, labels, span, turns, **how)
    features = {before: winners, last: found.feature[:, None]}
    return _Learned({before: weights, last: found.weights}, found.vote[None], features)


def _native(layer: Layer, state: Any) -> reward.Layer:
    conv, rule = layer.conv, cast(RSTDP, layer.conv.supervised)
    return reward.Layer(layer.stored, state["rates"], rule.bounds, rule.stabiliser, conv.padding, conv.stride)


def _deciding(layer: Layer, state: Any) -> dict[str, Any]:
    return dict(classes=layer.classes, time_steps=layer.time_steps, kept=state.get("kept"))


def _of_classes(layer: Layer, latencies: jax.Array, winner_only: bool) -> Spikes:
    place: dict[str, Any] = dict(padding=layer.conv.padding, stride=layer.conv.stride)
    sizes: dict[str, int] = dict(classes=layer.classes, time_steps=layer.time_steps)
    potential = reward.strongest_of_classes(latencies, layer.stored, winner_only=winner_only, **place, **sizes)
    return kernels.fire_at_last_step(potential[..., None, None], time_steps=layer.time_steps)


SCORED = TAPS._replace(of_classes=functools.partial(_of_classes, winner_only=False))
"""As `TAPS`; decisions of `Majority` on blocks of images by compiled kernels."""
STRONGEST = TAPS._replace(of_classes=functools.partial(_of_classes, winner_only=True))
"""The same decisions and votes; of the scores each layer gives only that of its own vote."""
