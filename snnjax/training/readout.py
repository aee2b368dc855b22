"""A fast form of `SupervisedSTDP` where a single deciding layer learns: one call a slice, on a CPU."""

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp

from snnjax.kernels import Spikes
from snnjax.kernels.native import STEPS, readout
from snnjax.layers import FAST, Conv, Form, Layer
from snnjax.learners import SupervisedSTDP, Tally
from snnjax.networks import Earliest, Model, Network
from snnjax.training.programs import FastForm, Supervised, SupervisedCarry, outcome
from snnjax.training.state import Settings


def learn_at_once(
    carry: SupervisedCarry,
    model: Model,
    latencies: jax.Array,
    labels: jax.Array,
    start: jax.Array,
    count: jax.Array,
    last: jax.Array,
    batch_size: jax.Array,
) -> tuple[SupervisedCarry, tuple[jax.Array, Any]]:
    """As `programs.learn_supervised` with one image at a time, by compiled kernels."""
    (name,), (layers, states, tally) = model.names[model.last], carry
    layer, state = layers[name], states[name]
    learner, conv = cast(SupervisedSTDP, layer.conv.supervised), layer.conv
    numbers = learner.gap, state.get("threshold_rate", 0), *learner.bounds
    rates = jnp.concatenate([state["rates"], jnp.stack([jnp.asarray(each, jnp.float32) for each in numbers])])
    kind = dict(competition=learner.competition, one_sided=learner.one_sided, normalise=learner.normalise)
    found = readout.learn(
        layer.weights,
        state["excess"],
        latencies,
        labels,
        jnp.stack([start, count]),
        threshold=cast(Any, conv.threshold),
        sums=state["sums"],
        numbers=rates,
        classes=model.classes,
        non_targets=learner.non_targets,
        competitors=learner.competitors(layer),
        time_steps=model.time_steps,
        fractional=conv.fractional,
        fallback=cast(Earliest, model.decision).fallback,
        **kind,
    )
    layers = {name: dataclasses.replace(layer, weights=found.weights)}
    tally = counted(tally, outcome(found.decision, labels), start, count, batch_size)
    rule = Supervised(model, [name], model.last, False, batch_size)
    carry = rule.end_epoch((layers, {name: dict(state, excess=found.excess)}, tally), last)
    info = {key: getattr(found, key) for key in ("neuron", "time", "error", "label", "threshold")}
    return carry, (found.decision, {name: info})


def counted(tally: Tally, outcomes: jax.Array, start: jax.Array, count: jax.Array, batch_size: jax.Array) -> Tally:
    """The tally after images start..count-1 with these outcomes (S,), of learners that do nothing after a batch."""
    total = tally.seen + count - start
    ended, rest = total // batch_size, total % batch_size
    begin, old = jnp.where(ended > 0, count - rest, start), ended == 0
    numbers = jnp.arange(len(outcomes))
    current = (numbers >= begin) & (numbers < count)
    right, wrong = (jnp.sum(current & each, dtype=jnp.int32) for each in (outcomes > 0, outcomes < 0))
    return Tally(right + old * tally.correct, wrong + old * tally.wrong, rest, tally.batch + ended, tally.epoch)


def fast_form(model: Model, first: int, by_turns: bool, settings: Settings) -> FastForm | None:
    """That of a single deciding `SupervisedSTDP` layer, where no others learn, by compiled kernels."""
    convs = [layer.conv for layer in model.stage(model.last)]
    alone = first == model.last and len(convs) == 1 and settings.update_batch == 1 and not by_turns
    fits = alone and settings.native and _suits(convs, model.decision, model.time_steps)
    return FastForm(learn_at_once, {}, 1, FAST) if fits else None


def deciding_form(network: Network, settings: Settings, _scores: bool) -> Form | None:
    """That of deciding `SupervisedSTDP` layers, by compiled kernels."""
    fits = settings.native and _suits(network.stages[-1].branches, network.decision, network.time_steps)
    return READOUT if fits else None


def _suits(convs: Sequence[Conv], decision: Any, time_steps: int) -> bool:
    """Whether compiled kernels can do what deciding layers need: bytes, no padding, no strides, `Earliest`."""
    plain = all(conv.padding in (0, (0, 0)) and conv.stride in (1, (1, 1)) for conv in convs)
    return plain and type(decision) is Earliest and time_steps <= STEPS


def _earliest(layer: Layer, latencies: jax.Array) -> Spikes:
    limits = dict(threshold=cast(Any, layer.conv.threshold), fractional=layer.conv.fractional)
    return readout.earliest_of_classes(
        latencies, layer.weights, classes=layer.classes, time_steps=layer.time_steps, **limits
    )


READOUT = FAST._replace(of_classes=_earliest)
"""As `FAST`; decisions of `Earliest` on blocks of images by compiled kernels."""
