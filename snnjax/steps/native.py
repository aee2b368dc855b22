"""Steps by compiled kernels: many images of a slice in one call, one after the other."""

import dataclasses
import functools
from typing import Any, cast

import jax
import jax.numpy as jnp

from snnjax.kernels.native import learn_patches, readout, reward, stdp
from snnjax.layers.conv import WTA
from snnjax.layers.layer_kernels import native_pooling
from snnjax.layers.spiking import Layer
from snnjax.learners import RSTDP, STDP, SupervisedSTDP, Tally
from snnjax.networks import Earliest, Model
from snnjax.networks.decision import majority
from snnjax.steps.plain import Carry, Found, Slice, Supervised, Task, end_epoch, outcome


def learn_stdp(task: Task, carry: Carry, model: Model | None, part: Slice) -> tuple[Carry, Found]:
    """As `plain.learn_unsupervised`, by `STDP`, of a layer with the kernels `TAPS`."""
    (name,) = task.names
    layer = carry.layers[name]
    state = carry.states[name]
    conv = layer.conv
    learner = cast(STDP, conv.each_learner[task.learner])
    wta = cast(WTA, conv.competition)
    numbers = state + jnp.arange(len(part.inputs)) - part.start
    result = stdp.learn(
        layer.stored,
        part.inputs,
        jnp.stack([part.start, part.stop]),
        jax.vmap(learner.rates)(numbers),
        time_steps=layer.time_steps,
        threshold=cast(Any, conv.threshold),
        k=wta.winners,
        radius=wta.radius,
        bounds=learner.bounds,
        stabiliser=learner.stabiliser,
        padding=conv.padding,
        stride=conv.stride,
    )
    layers = {name: dataclasses.replace(layer, stored=result.weights)}
    states = {name: state + part.stop - part.start}
    return end_epoch(task, Carry(layers, states), part.last), Found({name: result.feature})


def learn_target_time(task: Task, carry: Carry, model: Model | None, part: Slice) -> tuple[Carry, Found]:
    """As `plain.learn_unsupervised`, by `TargetTime`, of a layer with the kernels `NATIVE` within its bounds."""
    (name,) = task.names
    layer = carry.layers[name]
    state = carry.states[name]
    conv = layer.conv
    learner = conv.each_learner[task.learner]
    size = conv.output_size((part.inputs.shape[2], part.inputs.shape[3]))
    shown = state["shown"] + (jnp.arange(len(part.inputs)) - part.start).astype(jnp.uint32)
    positions = jax.vmap(lambda number: learner.positions(state, number, size))(shown)
    patches = learn_patches(
        part.inputs,
        positions,
        jnp.stack([part.start, part.stop]),
        layer.stored,
        cast(Any, conv.threshold),
        features=conv.features,
        padding=conv.padding,
        stride=conv.stride,
        **learner.rule(state, layer.time_steps),
    )
    layer = dataclasses.replace(layer, stored=patches.weights)
    layer, state, info = learner.learned(layer, state, patches, part.stop - part.start)
    info["threshold_rate"] = jnp.full(len(part.inputs), info["threshold_rate"])
    return end_epoch(task, Carry({name: layer}, {name: state}), part.last), Found({name: info})


def learn_readout(task: Task, carry: Carry, model: Model, part: Slice) -> tuple[Carry, Found]:
    """As `plain.learn_supervised`, by `SupervisedSTDP`, of a single deciding layer with the kernels `XLA`."""
    (name,) = task.names
    layer = carry.layers[name]
    state = carry.states[name]
    learner = cast(SupervisedSTDP, layer.conv.supervised)
    numbers = learner.gap, state.get("threshold_rate", 0), *learner.bounds
    rates = jnp.concatenate([state["rates"], jnp.stack([jnp.asarray(number, jnp.float32) for number in numbers])])
    result = readout.learn(
        layer.stored,
        state["excess"],
        part.inputs,
        part.labels,
        jnp.stack([part.start, part.stop]),
        threshold=cast(Any, layer.conv.threshold),
        sums=state["sums"],
        numbers=rates,
        classes=model.classes,
        non_targets=learner.non_targets,
        competitors=learner.competitors(layer),
        time_steps=model.time_steps,
        fractional=layer.conv.fractional,
        fallback=cast(Earliest, model.decision).fallback,
        competition=learner.competition,
        one_sided=learner.one_sided,
        normalise=learner.normalise,
    )
    layers = {name: dataclasses.replace(layer, stored=result.weights)}
    states = {name: dict(state, excess=result.excess)}
    infos = {key: getattr(result, key) for key in ("neuron", "time", "error", "label", "threshold")}
    carry = Carry(layers, states, count_slice(carry.tally, outcome(result.decision, part.labels), part))
    carry = Supervised(task, model, part.batch_size).end_epoch(carry, part.last)
    return carry, Found({name: infos}, result.decision)


def count_slice(tally: Any, outcomes: jax.Array, part: Slice) -> Tally:
    """The tally after a slice with these outcomes (S,), of learners that do nothing after a batch."""
    total = tally.seen + part.stop - part.start
    ended = total // part.batch_size
    rest = total % part.batch_size
    old = ended == 0
    current = part._replace(start=jnp.where(ended > 0, part.stop - rest, part.start)).shown
    right = jnp.sum(current & (outcomes > 0), dtype=jnp.int32)
    wrong = jnp.sum(current & (outcomes < 0), dtype=jnp.int32)
    return Tally(right + old * tally.correct, wrong + old * tally.wrong, rest, tally.batch + ended, tally.epoch)


def learn_reward(task: Task, carry: Carry, model: Model, part: Slice) -> tuple[Carry, Found]:
    """As `plain.learn_supervised`, by `RSTDP`: of deciding layers, or of one and the one before, with kernels `TAPS`.

    Rates change after a batch only, so that layers learn from the rest of a batch in one call.
    """
    rule = Supervised(task, model, part.batch_size)
    learn_span = _learn_deciding if task.first == model.last else _learn_two

    def learn_batch(learned: Any) -> Any:
        start, carry, found = learned
        stop = jnp.minimum(part.stop, start + part.batch_size - carry.tally.seen)
        span = part._replace(start=start, stop=stop)
        layers, votes, features = learn_span(rule, carry, span)
        decisions = jax.vmap(lambda each: majority(each, model.classes), in_axes=1)(votes)
        outcomes = jnp.where(span.shown, outcome(decisions, part.labels), 0)
        states, tally = rule.count_outcomes(Carry(layers, carry.states, carry.tally), outcomes, stop - start)
        infos = jax.tree.map(lambda new, old: jnp.where(span.shown[:, None], new, old), features, found.infos)
        decisions = jnp.where(span.shown, decisions, found.decisions)
        return stop, Carry(layers, states, tally), Found(infos, decisions)

    _, votes, features = jax.eval_shape(functools.partial(learn_span, rule), carry, part)
    nothing = jax.tree.map(jnp.zeros_like, Found(features, votes))
    begin = part.start, carry, nothing._replace(decisions=nothing.decisions[0])
    _, carry, found = jax.lax.while_loop(lambda learned: learned[0] < part.stop, learn_batch, begin)
    return rule.end_epoch(carry, part.last), found


def _learn_deciding(rule: Supervised, carry: Carry, part: Slice) -> tuple[dict[str, Layer], jax.Array, Any]:
    """Deciding layers learn, each by its own votes, if it is their turn: layers, votes (layers, S), infos."""
    layers = {}
    votes = []
    infos = {}
    for name, turn in rule.turns(carry.tally).items():
        layer = carry.layers[name]
        result = reward.learn(
            _described(layer, carry.states[name]),
            part.inputs,
            jnp.where(turn, part.labels, -1),
            jnp.stack([part.start, part.stop]),
            classes=layer.classes,
            time_steps=layer.time_steps,
            kept=carry.states[name].get("kept"),
        )
        layers[name] = dataclasses.replace(layer, stored=result.weights)
        votes.append(result.vote)
        infos[name] = dict(feature=result.feature[:, None])
    return layers, jnp.stack(votes), infos


def _learn_two(rule: Supervised, carry: Carry, part: Slice) -> tuple[dict[str, Layer], jax.Array, Any]:
    """As `_learn_deciding`, of a layer and the deciding one, by the votes of that."""
    earlier, last = rule.task.names
    before = carry.layers[earlier]
    layer = carry.layers[last]
    wta = cast(WTA, before.conv.competition)
    turns = [jnp.asarray(turn, jnp.int32) for turn in rule.turns(carry.tally).values()]
    weights, winners, result = reward.learn_deep(
        _described(before, carry.states[earlier]),
        _described(layer, carry.states[last]),
        part.inputs,
        part.labels,
        jnp.stack([part.start, part.stop]),
        jnp.stack(turns),
        threshold=cast(Any, before.conv.threshold),
        winners=wta.winners,
        radius=wta.radius,
        classes=layer.classes,
        time_steps=layer.time_steps,
        kept=carry.states[last].get("kept"),
        **native_pooling(before.conv, rule.model.pools[rule.task.first]),
    )
    layers = {
        earlier: dataclasses.replace(before, stored=weights),
        last: dataclasses.replace(layer, stored=result.weights),
    }
    infos = {earlier: dict(feature=winners), last: dict(feature=result.feature[:, None])}
    return layers, result.vote[None], infos


def _described(layer: Layer, state: Any) -> reward.Layer:
    conv = layer.conv
    rule = cast(RSTDP, conv.supervised)
    return reward.Layer(layer.stored, state["rates"], rule.bounds, rule.stabiliser, conv.padding, conv.stride)
