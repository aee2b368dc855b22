"""`STDP` by compiled kernels: one image at a time, all images of a slice in one call."""

import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp

from snnjax.kernels.blocks import finite
from snnjax.kernels.native import STEPS, WIDE, stdp
from snnjax.layers.conv import WTA
from snnjax.learners import STDP
from snnjax.networks import Model
from snnjax.steps.case import Case
from snnjax.steps.plain import Carry, Found, Slice, Task, end_epoch


def fits(case: Case) -> bool:
    """Whether the kernels can compute a layer, and are faster."""
    conv = case.layer.conv
    rule = cast(STDP, case.learner)
    plain = type(conv.competition) is WTA and conv.one_threshold and finite(rule.bounds)
    wide = conv.features >= WIDE and not rule.pointwise  # one input a position: too few to gain
    return case.native and case.task.batch == 1 and plain and wide and case.layer.time_steps <= STEPS


def learn(task: Task, carry: Carry, model: Model | None, part: Slice) -> tuple[Carry, Found]:
    """As `plain.learn_unsupervised`, of a layer with the kernels `TAPS`."""
    (name,) = task.names
    layer = carry.layers[name]
    state = carry.states[name]
    conv = layer.conv
    learner = cast(STDP, layer.conv.each_learner[task.learner])
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
