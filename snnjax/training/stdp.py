"""Fast forms of `STDP`: by compiled kernels, or in batches on an accelerator."""

import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp

from snnjax.forms import TAPS
from snnjax.kernels.blocks import finite
from snnjax.kernels.native import STEPS, WIDE, stdp
from snnjax.layers import WTA, Layer
from snnjax.learners import STDP
from snnjax.training import accelerated
from snnjax.training.programs import FastForm, Unsupervised, of_one
from snnjax.training.state import Settings


def fast_form(layer: Layer, learner: int, settings: Settings) -> FastForm | None:
    """That of a layer by its `STDP` number `learner`."""
    conv, rule = layer.conv, cast(STDP, layer.conv.each_learner[learner])
    plain = type(conv.competition) is WTA and conv.one_threshold and finite(rule.bounds)
    wide = conv.features >= WIDE and not rule.pointwise  # one input a position: too few to gain
    if settings.update_batch > 1 or not (settings.native and plain and wide and layer.time_steps <= STEPS):
        return accelerated.fast_form(layer, learner, settings)
    return FastForm(learn_at_once, dict(which=learner), 1, TAPS, clips=True)


@of_one
def learn_at_once(
    carry: tuple[Layer, Any], latencies: jax.Array, start: jax.Array, count: jax.Array, last: jax.Array, which: int
) -> tuple[Any, Any]:
    """As `programs.learn_unsupervised` with one image at a time, of a layer in the form `TAPS`."""
    layer, state = carry
    conv, learner = layer.conv, cast(STDP, layer.conv.each_learner[which])
    wta, numbers = cast(WTA, conv.competition), state + jnp.arange(len(latencies)) - start
    limits: dict[str, Any] = dict(threshold=conv.threshold, k=wta.winners, radius=wta.radius)
    limits |= dict(bounds=learner.bounds, stabiliser=learner.stabiliser, padding=conv.padding, stride=conv.stride)
    span, rates = jnp.stack([start, count]), jax.vmap(learner.rates)(numbers)
    found = stdp.learn(layer.stored, latencies, span, rates, time_steps=layer.time_steps, **limits)
    learned = dataclasses.replace(layer, stored=found.weights), state + count - start
    return Unsupervised(which).end_epoch(learned, last), found.feature
