"""Deciding layers that learn by reward, in C++: whole blocks of images in one call.

Weights are (kh, kw, F, C) float32; latencies (S, C, H, W) uint8, of which it matters who fires, not when; the features
fall into `classes` groups of one size, in order.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from snnjax.errors import InputError, InputTypeError
from snnjax.kernels import checks
from snnjax.kernels.checks import Pair
from snnjax.kernels.native import _call, _steps


class Rewarded(NamedTuple):
    """What a block of S images has taught.

    Attributes:
      weights: (kh, kw, F, C) float32.
      vote: (S,) int32, the class of the strongest neuron, -1 where none is above 0 and of images left out.
      feature: (S,) int32, the feature that learned, -1 where none did.
    """

    weights: jax.Array
    vote: jax.Array
    feature: jax.Array


def _check(
    latencies: jax.Array, weights: jax.Array, classes: int, time_steps: int, padding: Pair, stride: Pair
) -> dict[str, np.int64]:
    """The settings of a call; raises where the arguments do not fit."""
    checks.array("latencies", latencies, "S C H W")
    checks.array("weights", weights, "kh kw F C")
    if (dtypes := f"{weights.dtype} and {latencies.dtype}") != "float32 and uint8":
        raise InputTypeError(f"`weights` and `latencies` must be float32 and uint8 for native kernels, got {dtypes}")
    rows, columns, features, channels = weights.shape
    if features % checks.integer("classes", classes, 1):
        raise InputError(f"`weights` must have a multiple of {classes} features, got {features}")
    (above, left), (down, right) = checks.pair("padding", padding, 0), checks.pair("stride", stride, 1)
    size = latencies.shape[2] + 2 * above, latencies.shape[3] + 2 * left
    checks.fits("latencies", (latencies.shape[1], *size), "weights", (channels, rows, columns))
    settings = dict(above=above, left=left, down=down, right=right, classes=classes)
    return {name: np.int64(value) for name, value in settings.items()} | dict(steps=_steps(time_steps))


def learn(
    weights: jax.Array,
    latencies: jax.Array,
    labels: jax.Array,
    span: jax.Array,
    rates: jax.Array,
    *,
    kept: jax.Array | None,
    classes: int,
    time_steps: int,
    bounds: checks.Bounds,
    stabiliser: bool,
    padding: Pair = 0,
    stride: Pair = 1,
) -> Rewarded:
    """Learns from the images `span`, (2,) int32 start and end, one after the other, as a deciding `RSTDP` layer does.

    Of an image with label -1 nothing is learned. `rates` are (a+, a-) after a right and after a wrong vote, (2, 2)
    float32; `kept` is (F,) bool, the features that may win, or None. All weights must lie within the bounds.
    """
    settings = _check(latencies, weights, classes, time_steps, padding, stride)
    checks.bounds(bounds)
    limits = jnp.stack([jnp.asarray(bound, jnp.float32) for bound in bounds])
    open_ = jnp.zeros(weights.shape[2]) if kept is None else jnp.where(kept, 0.0, -jnp.inf)
    each = jax.ShapeDtypeStruct(labels.shape, jnp.int32)
    results = jax.ShapeDtypeStruct(weights.shape, jnp.float32), each, each
    args = weights, latencies, labels, span, rates, limits, open_
    return Rewarded(*_call("learn_by_reward", results, *args, stabiliser=bool(stabiliser), **settings))


def strongest_of_classes(
    latencies: jax.Array, weights: jax.Array, *, classes: int, time_steps: int, padding: Pair = 0, stride: Pair = 1
) -> jax.Array:
    """The largest of each class's `kernels.final_potentials`, (S, classes) float32."""
    settings: dict[str, Any] = _check(latencies, weights, classes, time_steps, padding, stride)
    result = jax.ShapeDtypeStruct((len(latencies), classes), jnp.float32)
    return _call("strongest_of_classes", result, weights, latencies, **settings)
