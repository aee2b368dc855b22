"""`RSTDP` of the last layers by compiled kernels: one image at a time, all images of a batch in one call."""

import dataclasses
import functools
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from snnjax import kernels
from snnjax.kernels import Spikes
from snnjax.kernels.blocks import finite
from snnjax.kernels.native import STEPS, reward
from snnjax.layers.conv import WTA
from snnjax.layers.layer import LayerKernels
from snnjax.layers.layer_kernels import TAPS, native_pooling
from snnjax.layers.spiking import Layer
from snnjax.learners import RSTDP
from snnjax.networks import Majority, Model, Network
from snnjax.networks.decision import majority
from snnjax.steps.case import Case
from snnjax.steps.plain import Carry, Found, Slice, Supervised, Task, outcome


def fits(case: Case) -> bool:
    """Whether the kernels can teach deciding layers, or a single one and the single one before."""
    bounded = all(finite(layer.conv.supervised.bounds) for layer in case.layers)
    decides = case.native and _decides(case.model)
    return case.task.batch == 1 and bounded and decides and (case.only_deciding or _two_layers(case))


def deciding_kernels(network: Network, scores: bool) -> LayerKernels | None:
    """The kernels of deciding layers, if there are any for the network's decision; they give right `scores` or none."""
    if not _decides(network):
        return None
    return SCORED if scores else STRONGEST


def _decides(network: Network | Model) -> bool:
    """Whether the kernels can do what deciding layers need: bytes, and `Majority`."""
    return type(network.decision) is Majority and network.time_steps <= STEPS


def _two_layers(case: Case) -> bool:
    """Whether two stages of one layer each learn, the first with `WTA`."""
    stages = [case.model.stage(number) for number in range(case.task.first, case.model.last + 1)]
    if [len(stage) for stage in stages] != [1, 1]:
        return False
    layer = stages[0][0]
    conv = layer.conv
    plain = type(conv.competition) is WTA and conv.supervised.dropout is None and layer.monotone
    return plain and conv.one_threshold


def learn(task: Task, carry: Carry, model: Model | None, part: Slice) -> tuple[Carry, Found]:
    """As `plain.learn_supervised`, of layers with the kernels `TAPS`.

    Rates change after a batch only, so that layers learn from the rest of a batch in one call.
    """
    rule = Supervised.of(task, model, part)
    images = jnp.arange(len(part.inputs))
    learn_span = _learn_deciding if task.first == rule.model.last else _learn_two

    def learn_batch(learned: Any) -> Any:
        start, carry, found = learned
        stop = jnp.minimum(part.stop, start + part.batch_size - carry.tally.seen)
        span = learn_span(rule, carry, part._replace(start=start, stop=stop))
        layers = {name: dataclasses.replace(layer, stored=span.weights[name]) for name, layer in carry.layers.items()}
        now = (images >= start) & (images < stop)
        decided = jax.vmap(lambda votes: majority(votes, rule.model.classes), in_axes=1)(span.votes)
        outcomes = jnp.where(now, outcome(decided, part.labels), 0)
        states, tally = rule.count_outcomes(Carry(layers, carry.states, carry.tally), outcomes, stop - start)
        features = jax.tree.map(lambda new, old: jnp.where(now[:, None], new, old), span.features, found.infos)
        return stop, Carry(layers, states, tally), Found(features, jnp.where(now, decided, found.decisions))

    shapes = jax.eval_shape(functools.partial(learn_span, rule), carry, part).features
    features = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    begin = part.start, carry, Found(features, jnp.zeros(len(images), jnp.int32))
    _, carry, found = jax.lax.while_loop(lambda learned: learned[0] < part.stop, learn_batch, begin)
    infos = {name: dict(feature=feature) for name, feature in found.infos.items()}
    return rule.end_epoch(carry, part.last), Found(infos, found.decisions)


class _Span(NamedTuple):
    """What a span of S images has taught.

    Attributes:
      weights: by name of the layer.
      votes: (deciding layers, S) int32.
      features: (S, k) int32 by name, those that learned, -1 where none did.
    """

    weights: dict[str, jax.Array]
    votes: jax.Array
    features: dict[str, jax.Array]


def _learn_deciding(rule: Supervised, carry: Carry, part: Slice) -> _Span:
    """Deciding layers learn, each by its own votes, if it is their turn."""
    results = {}
    for name, turn in rule.turns(carry.tally).items():
        layer = carry.layers[name]
        state = carry.states[name]
        labels = jnp.where(turn, part.labels, -1)
        span = jnp.stack([part.start, part.stop])
        results[name] = reward.learn(_native(layer, state), part.inputs, labels, span, **_deciding(layer, state))
    weights = {name: result.weights for name, result in results.items()}
    features = {name: result.feature[:, None] for name, result in results.items()}
    return _Span(weights, jnp.stack([result.vote for result in results.values()]), features)


def _learn_two(rule: Supervised, carry: Carry, part: Slice) -> _Span:
    """A layer and the deciding one learn by the votes of that, each if it is its turn."""
    earlier, last = rule.task.names
    layer = carry.layers[earlier]
    wta = cast(WTA, layer.conv.competition)
    turns = [jnp.asarray(turn, jnp.int32) for turn in rule.turns(carry.tally).values()]
    weights, winners, result = reward.learn_deep(
        _native(layer, carry.states[earlier]),
        _native(carry.layers[last], carry.states[last]),
        part.inputs,
        part.labels,
        jnp.stack([part.start, part.stop]),
        jnp.stack(turns),
        threshold=cast(Any, layer.conv.threshold),
        winners=wta.winners,
        radius=wta.radius,
        **native_pooling(layer.conv, rule.model.pools[rule.task.first]),
        **_deciding(carry.layers[last], carry.states[last]),
    )
    features = {earlier: winners, last: result.feature[:, None]}
    return _Span({earlier: weights, last: result.weights}, result.vote[None], features)


def _native(layer: Layer, state: Any) -> reward.Layer:
    conv = layer.conv
    rule = cast(RSTDP, layer.conv.supervised)
    return reward.Layer(layer.stored, state["rates"], rule.bounds, rule.stabiliser, conv.padding, conv.stride)


def _deciding(layer: Layer, state: Any) -> dict[str, Any]:
    return dict(classes=layer.classes, time_steps=layer.time_steps, kept=state.get("kept"))


def _of_classes(layer: Layer, latencies: jax.Array, winner_only: bool) -> Spikes:
    potential = reward.strongest_of_classes(
        latencies,
        layer.stored,
        winner_only=winner_only,
        padding=layer.conv.padding,
        stride=layer.conv.stride,
        classes=layer.classes,
        time_steps=layer.time_steps,
    )
    return kernels.fire_at_last_step(potential[..., None, None], time_steps=layer.time_steps)


SCORED = TAPS._replace(of_classes=functools.partial(_of_classes, winner_only=False))
"""As `TAPS`; decisions of `Majority` on blocks of images by compiled kernels."""
STRONGEST = TAPS._replace(of_classes=functools.partial(_of_classes, winner_only=True))
"""The same decisions and votes; of the scores each layer gives only that of its own vote."""
