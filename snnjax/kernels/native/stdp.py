"""STDP of layers with many inputs, in C++: whole blocks of images in one call."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from snnjax.core import checks
from snnjax.core.checks import Number, Pair
from snnjax.kernels.blocks import check_latencies, check_shape, ends, limits, place
from snnjax.kernels.native import _call, _steps


class BlockResult(NamedTuple):
    """What a block of S images has taught.

    Attributes:
      weights: (kh, kw, F, C) float32.
      feature: (S, k) int32, the features that learned, -1 where none did and of images left out.
    """

    weights: jax.Array
    feature: jax.Array


def learn(
    weights: jax.Array,
    latencies: jax.Array,
    span: jax.Array,
    rates: jax.Array,
    *,
    threshold: Number,
    k: int,
    radius: Number,
    time_steps: int,
    bounds: checks.Bounds = (0.0, 1.0),
    stabiliser: bool = True,
    padding: Pair = 0,
    stride: Pair = 1,
) -> BlockResult:
    """A layer learns from the images `span`, (2,) int32 start and end, one after the other, by `kernels.stdp`.

    Its winners are those of `kernels.early_winners`. Latencies are (S, C, H, W) uint8, `rates` (S, 2) float32, (a+, a-)
    of each image, weights (kh, kw, F, C) float32; those outside the bounds are drawn in by the first update.
    """
    shape = check_latencies(latencies, time_steps)
    _, layer = place(weights, shape, padding, stride)
    check_shape("span", span, (2,), "int32")
    check_shape("rates", rates, (shape[0], 2), "float32")
    args = weights, latencies, span, *limits(threshold, radius), rates, ends(bounds)
    winners = jax.ShapeDtypeStruct((shape[0], checks.integer("k", k, 1)), jnp.int32)
    results = jax.ShapeDtypeStruct(weights.shape, jnp.float32), winners
    found = _call(
        "learn_by_stdp",
        results,
        *args,
        replaced=1,
        layer=layer,
        steps=_steps(time_steps),
        stabiliser=bool(stabiliser),
    )
    return BlockResult(*found)
