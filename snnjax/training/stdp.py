"""Fast forms of `STDP`: by compiled kernels, or in batches on an accelerator."""

import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from snnjax import devices
from snnjax.kernels.native import STEPS, stdp
from snnjax.layers import TAPS, WTA, Layer
from snnjax.learners import STDP
from snnjax.training import accelerated
from snnjax.training.programs import FastForm, Unsupervised
from snnjax.training.state import Settings

MANY = 64
"""Features from which compiled kernels add up integers, block by block, rather than floats image by image."""


def fast_form(layer: Layer, learner: int, settings: Settings) -> FastForm | None:
    """That of a layer by its `STDP` number `learner`."""
    conv = layer.conv
    plain = type(conv.competition) is WTA and conv.threshold is not None and np.ndim(conv.threshold) == 0
    fits = settings.native and plain and layer.monotone and layer.time_steps <= STEPS and conv.features >= MANY
    if settings.update_batch > 1 or not fits:
        return accelerated.fast_form(layer, learner, settings)
    return FastForm(learn_at_once, dict(which=learner), 1, TAPS, anywhere=True)


def learn_at_once(
    carry: tuple[Layer, Any], latencies: jax.Array, start: jax.Array, count: jax.Array, last: jax.Array, which: int
) -> tuple[Any, Any]:
    """As `programs.learn_unsupervised` with one image at a time, of a layer in the form `TAPS`."""
    layer, state = carry
    conv, learner = layer.conv, cast(STDP, layer.conv.each_learner[which])
    wta, numbers = cast(WTA, conv.competition), state + jnp.arange(len(latencies)) - start
    images = devices.map_each(lambda each: learner.seen(layer, each), latencies) if learner.pointwise else latencies
    limits: dict[str, Any] = dict(threshold=conv.threshold, k=wta.winners, radius=wta.radius)
    limits |= dict(bounds=learner.bounds, stabiliser=learner.stabiliser, padding=conv.padding, stride=conv.stride)
    span, rates = jnp.stack([start, count]), jax.vmap(learner.rates)(numbers)
    found = stdp.learn(layer.weights, images, span, rates, time_steps=layer.time_steps, **limits)
    learned = dataclasses.replace(layer, weights=found.weights), state + count - start
    return Unsupervised(which).end_epoch(learned, last), found.feature
