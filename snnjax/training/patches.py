"""A fast form of learning features with target times: all patches of a slice of images in one call, on a CPU."""

import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp

from snnjax.forms import NATIVE
from snnjax.kernels import native
from snnjax.layers import Layer
from snnjax.training.programs import FastForm, Unsupervised, of_one
from snnjax.training.state import Settings


def fast_form(layer: Layer, learner: int, settings: Settings) -> FastForm | None:
    """That of a layer by its `TargetTime` number `learner`, by compiled kernels."""
    fits = settings.native and layer.time_steps <= native.STEPS
    return FastForm(learn_from_patches, dict(which=learner), 1, NATIVE) if fits else None


@of_one
def learn_from_patches(
    carry: tuple[Layer, Any], latencies: jax.Array, start: jax.Array, count: jax.Array, last: jax.Array, which: int
) -> tuple[Any, Any]:
    """As `programs.learn_unsupervised`, by `TargetTime`, of a layer in the form `NATIVE` within its bounds."""
    layer, state = carry
    conv, learner = layer.conv, layer.conv.each_learner[which]
    size = conv.output_size((latencies.shape[2], latencies.shape[3]))
    shown = state["shown"] + (jnp.arange(len(latencies)) - start).astype(jnp.uint32)
    positions = jax.vmap(lambda number: learner.positions(state, number, size))(shown)
    place: dict[str, Any] = dict(features=conv.features, padding=conv.padding, stride=conv.stride)
    span, threshold, rule = (
        jnp.stack([start, count]),
        cast(jax.Array, conv.threshold),
        learner.rule(state, layer.time_steps),
    )
    found = native.learn_patches(latencies, positions, span, layer.stored, threshold, **place, **rule)
    layer = dataclasses.replace(layer, stored=found.weights)
    layer, state, info = learner.learned(layer, state, found, count - start)
    info["threshold_rate"] = jnp.full(len(latencies), info["threshold_rate"])
    return Unsupervised(which).end_epoch((layer, state), last), info
