"""`SupervisedSTDP` of a single deciding layer by compiled kernels: all images of a slice in one call."""

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp

from snnjax.kernels import Spikes
from snnjax.kernels.native import STEPS, readout
from snnjax.layers.conv import Conv
from snnjax.layers.layer import LayerKernels
from snnjax.layers.layer_kernels import XLA
from snnjax.layers.spiking import Layer
from snnjax.learners import SupervisedSTDP, Tally
from snnjax.networks import Earliest, Model, Network
from snnjax.steps.case import Case
from snnjax.steps.plain import Carry, Found, Slice, Supervised, Task, outcome


def is_single(case: Case) -> bool:
    """Whether a single deciding layer learns, under `Earliest`."""
    single = case.only_deciding and len(case.layers) == 1
    return single and not case.task.by_turns and type(case.model.decision) is Earliest


def fits(case: Case) -> bool:
    """Whether the kernels can teach a layer."""
    plain = is_single(case) and case.native and case.task.batch == 1
    return plain and _suit([layer.conv for layer in case.layers], case.model)


def deciding_kernels(network: Network) -> LayerKernels | None:
    """The kernels of deciding layers, if there are any for the network."""
    return READOUT if _suit(network.stages[-1].branches, network) else None


def _suit(convs: Sequence[Conv], network: Network | Model) -> bool:
    """Whether the kernels can do what deciding layers need: bytes, no padding, no strides, `Earliest`."""
    plain = all(conv.padding in (0, (0, 0)) and conv.stride in (1, (1, 1)) for conv in convs)
    return plain and type(network.decision) is Earliest and network.time_steps <= STEPS


def learn(task: Task, carry: Carry, model: Model | None, part: Slice) -> tuple[Carry, Found]:
    """As `plain.learn_supervised`."""
    rule = Supervised.of(task, model, part)
    network = rule.model
    (name,) = task.names
    layer = carry.layers[name]
    state = carry.states[name]
    learner = cast(SupervisedSTDP, layer.conv.supervised)
    conv = layer.conv
    numbers = learner.gap, state.get("threshold_rate", 0), *learner.bounds
    rates = jnp.concatenate([state["rates"], jnp.stack([jnp.asarray(number, jnp.float32) for number in numbers])])
    result = readout.learn(
        layer.stored,
        state["excess"],
        part.inputs,
        part.labels,
        jnp.stack([part.start, part.stop]),
        threshold=cast(Any, conv.threshold),
        sums=state["sums"],
        numbers=rates,
        classes=network.classes,
        non_targets=learner.non_targets,
        competitors=learner.competitors(layer),
        time_steps=network.time_steps,
        fractional=conv.fractional,
        fallback=cast(Earliest, network.decision).fallback,
        competition=learner.competition,
        one_sided=learner.one_sided,
        normalise=learner.normalise,
    )
    tally = count_slice(carry.tally, outcome(result.decision, part.labels), part)
    layers = {name: dataclasses.replace(layer, stored=result.weights)}
    states = {name: dict(state, excess=result.excess)}
    infos = {key: getattr(result, key) for key in ("neuron", "time", "error", "label", "threshold")}
    return rule.end_epoch(Carry(layers, states, tally), part.last), Found({name: infos}, result.decision)


def count_slice(tally: Any, outcomes: jax.Array, part: Slice) -> Tally:
    """The tally after a slice with these outcomes (S,), of learners that do nothing after a batch."""
    total = tally.seen + part.stop - part.start
    ended = total // part.batch_size
    rest = total % part.batch_size
    begin = jnp.where(ended > 0, part.stop - rest, part.start)
    old = ended == 0
    numbers = jnp.arange(len(outcomes))
    current = (numbers >= begin) & (numbers < part.stop)
    right = jnp.sum(current & (outcomes > 0), dtype=jnp.int32)
    wrong = jnp.sum(current & (outcomes < 0), dtype=jnp.int32)
    return Tally(right + old * tally.correct, wrong + old * tally.wrong, rest, tally.batch + ended, tally.epoch)


def _earliest(layer: Layer, latencies: jax.Array) -> Spikes:
    return readout.earliest_of_classes(
        latencies,
        layer.stored,
        classes=layer.classes,
        time_steps=layer.time_steps,
        threshold=cast(Any, layer.conv.threshold),
        fractional=layer.conv.fractional,
    )


READOUT = XLA._replace(of_classes=_earliest)
"""As `XLA`; decisions of `Earliest` on blocks of images by compiled kernels."""
