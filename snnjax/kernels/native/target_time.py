"""Layers that learn patches with target times, in C++: whole blocks of images in one call."""

from typing import Any

import jax
import jax.numpy as jnp

from snnjax.core import checks
from snnjax.core.checks import Number, Pair
from snnjax.kernels.native import _call, _limits, _one, _steps, float_array, int_array
from snnjax.kernels.target_time import QUIET, Patches


def learn(
    images: jax.Array,
    positions: jax.Array,
    span: jax.Array,
    taps: jax.Array,
    threshold: jax.Array,
    *,
    features: int,
    rate: Number,
    threshold_rate: Number,
    target_time: Number,
    time_steps: int,
    beta: Number = 1.0,
    threshold_min: Number = 2.0,
    bounds: checks.Bounds = (0.0, 1.0),
    quiet: Number = 0,
    padding: Pair = 0,
    stride: Pair = 1,
) -> Patches:
    """`target_time.learn_patches` by its `update_weights` and `update_thresholds`: `Patches` of new taps and (N, P).

    The patches are those of images (N, C, H, W) uint8. Images number span[0] to before span[1], (2,) int32, are learned
    from, each by P neurons at `positions` (N, P, 2) int32: row, column; feature and latency of the others are -1 and T.
    `threshold` is (F,) float32, for any stride.
    """
    places = zip(checks.pair("stride", stride, 1), checks.pair("padding", padding, 0), strict=True)
    corners = jnp.stack([positions[..., axis] * step - margin for axis, (step, margin) in enumerate(places)], axis=-1)
    numbers = jnp.stack([jnp.float32(x) for x in (rate, threshold_rate, beta, target_time, threshold_min, *bounds)])
    per_patch = int_array(positions.shape[:2])
    limits = _limits(threshold, features)
    results = float_array(taps.shape), float_array(limits.shape), per_patch, per_patch, int_array((1,))
    args = taps, limits, images, corners.astype(jnp.int32), span, numbers, _one(quiet, jnp.int32)
    counts: dict[str, Any] = dict(steps=_steps(time_steps), features=features, most_quiet=QUIET)
    learned = Patches(*_call("target_time", results, *args, replaced=2, **counts))
    return learned._replace(threshold=learned.threshold[:features], quiet=learned.quiet[0])
