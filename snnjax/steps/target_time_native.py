"""`TargetTime` by compiled kernels: all patches of a slice of images in one call."""

import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp

from snnjax.kernels import native
from snnjax.networks import Model
from snnjax.steps.case import Case
from snnjax.steps.plain import Carry, Found, Slice, Task, end_epoch


def fits(case: Case) -> bool:
    """Whether the kernels can compute a layer."""
    return case.native and case.layer.time_steps <= native.STEPS


def learn(task: Task, carry: Carry, model: Model | None, part: Slice) -> tuple[Carry, Found]:
    """As `plain.learn_unsupervised`, of a layer with the kernels `NATIVE` within its bounds."""
    (name,) = task.names
    layer = carry.layers[name]
    state = carry.states[name]
    conv = layer.conv
    learner = layer.conv.each_learner[task.learner]
    size = conv.output_size((part.inputs.shape[2], part.inputs.shape[3]))
    shown = state["shown"] + (jnp.arange(len(part.inputs)) - part.start).astype(jnp.uint32)
    positions = jax.vmap(lambda number: learner.positions(state, number, size))(shown)
    patches = native.learn_patches(
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
