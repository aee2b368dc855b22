"""Steps by compiled kernels: many images of a slice in one call, one after the other."""

import dataclasses
import functools
from typing import Any, cast

import jax
import jax.numpy as jnp

from snnjax import kernels
from snnjax.core import checks
from snnjax.kernels.native import sequences
from snnjax.layers.conv import WTA
from snnjax.layers.layer_kernels import native_pooling
from snnjax.layers.spiking import Layer
from snnjax.learners import RSTDP, STDP, SupervisedSTDP, Tally
from snnjax.networks import Model
from snnjax.networks.decision import decide, majority
from snnjax.steps.phase import Carry, Phase, Slice, StepResult
from snnjax.steps.plain import Supervised, end_epoch, outcome, where


def learn_stdp(phase: Phase, carry: Carry, model: Model | None, part: Slice) -> tuple[Carry, StepResult]:
    """As `plain.learn_unsupervised`, by `STDP`, of a layer with the kernels `BLOCKS`."""
    (name,) = phase.layers
    layer = carry.layers[name]
    state = carry.states[name]
    conv = layer.conv
    learner = cast(STDP, conv.each_learner[phase.learner])
    wta = cast(WTA, conv.competition)
    numbers = state + jnp.arange(len(part.inputs), dtype=jnp.int32) - part.start
    result = sequences.learn_stdp(
        layer.stored,
        part.inputs,
        jax.vmap(learner.rates)(numbers),
        part.shown,
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
    return end_epoch(phase, Carry(layers, states), part.last), StepResult({name: result.feature})


def learn_target_time(phase: Phase, carry: Carry, model: Model | None, part: Slice) -> tuple[Carry, StepResult]:
    """As `plain.learn_unsupervised`, by `TargetTime`, of a layer with the kernels `NATIVE` within its bounds."""
    (name,) = phase.layers
    layer = carry.layers[name]
    state = carry.states[name]
    conv = layer.conv
    learner = conv.each_learner[phase.learner]
    size = conv.output_size((part.inputs.shape[2], part.inputs.shape[3]))
    shown = state["shown"] + (jnp.arange(len(part.inputs)) - part.start).astype(jnp.uint32)
    positions = jax.vmap(lambda number: learner.positions(state, number, size))(shown)
    learned = kernels.learn_target_time(
        layer.weights,
        cast(Any, conv.threshold),
        part.inputs,
        positions,
        part.shown,
        padding=conv.padding,
        stride=conv.stride,
        **learner.rule(state, layer.time_steps),
    )
    layer = dataclasses.replace(layer, stored=learned.weights)
    layer, state, info = learner.learned(layer, state, learned, part.stop - part.start)
    info["threshold_rate"] = jnp.full(len(part.inputs), info["threshold_rate"])
    return end_epoch(phase, Carry({name: layer}, {name: state}), part.last), StepResult({name: info})


def learn_readout(phase: Phase, carry: Carry, model: Model, part: Slice) -> tuple[Carry, StepResult]:
    """As `plain.learn_supervised`, by `SupervisedSTDP`, of a single deciding layer with the kernels `XLA`."""
    (name,) = phase.layers
    layer = carry.layers[name]
    state = carry.states[name]
    learner = cast(SupervisedSTDP, layer.conv.last_learner)
    rows, columns = checks.pair("kernel", layer.conv.kernel, 1)
    learned = kernels.learn_readout(
        layer.stored,
        state["excess"],
        jax.vmap(layer.padded)(part.inputs)[:, :, :rows, :columns],
        part.labels,
        state["rates"],
        part.shown,
        threshold=cast(Any, layer.conv.threshold),
        classes=model.network.classes,
        time_steps=model.network.time_steps,
        gap=learner.gap,
        bounds=learner.bounds,
        sums=state["sums"] if learner.normalise else None,
        threshold_rate=state.get("threshold_rate", 0.0),
        non_targets=learner.non_targets,
        competition=learner.competition,
        one_sided=learner.one_sided,
        fractional=layer.conv.fractional,
        batch=phase.batch,
    )
    layers = {name: dataclasses.replace(layer, stored=learned.weights)}
    states = {name: dict(state, excess=learned.excess)}
    infos = {key: getattr(learned, key) for key in ("neuron", "time", "error", "label", "threshold")}
    decisions = jax.vmap(lambda spikes: decide(model.network.decision, [spikes], model.network.classes).decision)(
        learned.spikes
    )
    carry = Carry(layers, states, count_slice(carry.tally, outcome(decisions, part.labels), part))
    carry = Supervised(phase, model, part.batch_size).end_epoch(carry, part.last)
    return carry, StepResult({name: infos}, jnp.where(part.shown, decisions, 0))


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


def learn_reward(phase: Phase, carry: Carry, model: Model, part: Slice) -> tuple[Carry, StepResult]:
    """As `plain.learn_supervised`, by `RSTDP`: of deciding layers, or of one and the one before, with kernels `BLOCKS`.

    Rates change after a batch only, so that layers learn from the rest of a batch in one call.
    """
    teach = _teach_deciding if phase.first == model.last else _teach_two
    rule = Supervised(phase, model, part.batch_size)

    def learn_batch(state: Any) -> Any:
        start, carry, result = state
        stop = jnp.minimum(start + part.batch_size - carry.tally.seen, part.stop)
        span = part._replace(start=start, stop=stop)
        layers, new = teach(rule, carry, span)
        outcomes = jnp.where(span.shown, outcome(new.decisions, part.labels), 0)
        states, tally = rule.count_outcomes(carry._replace(layers=layers), outcomes, stop - start)
        return stop, Carry(layers, states, tally), jax.vmap(where)(span.shown, new, result)

    _, result = jax.eval_shape(functools.partial(teach, rule), carry, part)
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), result)
    begin = part.start, carry, nothing
    _, carry, result = jax.lax.while_loop(lambda state: state[0] < part.stop, learn_batch, begin)
    return rule.end_epoch(carry, part.last), result


def _teach_deciding(steps: Supervised, carry: Carry, part: Slice) -> tuple[dict[str, Layer], StepResult]:
    """Deciding layers learn, each by its own votes, if it is their turn."""
    layers: dict[str, Layer] = {}
    votes: list[jax.Array] = []
    infos: dict[str, Any] = {}
    for name, turn in steps.turns(carry.tally).items():
        layer = carry.layers[name]
        rule = cast(RSTDP, layer.conv.last_learner)
        result = sequences.learn_reward(
            layer.stored,
            part.inputs,
            jnp.where(turn, part.labels, -1),
            carry.states[name]["rates"],
            part.shown,
            carry.states[name].get("kept"),
            classes=layer.classes,
            time_steps=layer.time_steps,
            bounds=rule.bounds,
            stabiliser=rule.stabiliser,
            stride=layer.conv.stride,
            padding=layer.conv.padding,
        )
        layers[name] = dataclasses.replace(layer, stored=result.weights)
        votes.append(result.vote)
        infos[name] = dict(feature=result.feature[:, None])
    return layers, StepResult(infos, jax.vmap(majority, (1, None))(jnp.stack(votes), steps.model.network.classes))


def _teach_two(rule: Supervised, carry: Carry, part: Slice) -> tuple[dict[str, Layer], StepResult]:
    """A layer and the deciding one learn, by the votes of the latter."""
    earlier, last = rule.phase.layers
    before = carry.layers[earlier]
    layer = carry.layers[last]
    wta = cast(WTA, before.conv.competition)
    turns = [jnp.asarray(turn, jnp.int32) for turn in rule.turns(carry.tally).values()]
    first, result = sequences.learn_deep_by_reward(
        _described(before, carry.states[earlier]),
        _described(layer, carry.states[last]),
        part.inputs,
        part.labels,
        part.shown,
        jnp.stack(turns),
        threshold=cast(Any, before.conv.threshold),
        winners=wta.winners,
        radius=wta.radius,
        classes=layer.classes,
        time_steps=layer.time_steps,
        kept=carry.states[last].get("kept"),
        pool=native_pooling(before.conv, rule.model.network.stages[rule.phase.first].pool),
    )
    layers = {
        earlier: dataclasses.replace(before, stored=first.weights),
        last: dataclasses.replace(layer, stored=result.weights),
    }
    infos = {earlier: dict(feature=first.feature), last: dict(feature=result.feature[:, None])}
    return layers, StepResult(infos, result.vote)


def _described(layer: Layer, state: Any) -> sequences.Layer:
    conv = layer.conv
    rule = cast(RSTDP, conv.last_learner)
    return sequences.Layer(layer.stored, state["rates"], rule.bounds, rule.stabiliser, conv.stride, conv.padding)
