"""The loop over groups of stimuli, and the checks, of all kernels that learn from a sequence of stimuli."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from snnjax.core import checks
from snnjax.core.checks import Pair
from snnjax.core.errors import InputError, wrong_type
from snnjax.core.sharding import vary_like


def check_sequence(
    weights: Any,
    latencies: Any,
    learns: Any,
    update_batch: int,
    *,
    time_steps: int,
    stride: Pair = 1,
    padding: Pair = 0,
) -> None:
    """Raises InputError or InputTypeError unless stimuli (S, C, H, W) fit the weights, and a mask fits the stimuli."""
    checks.integer("update_batch", update_batch, 1)
    checks.latency("latencies", latencies, "S C H W", time_steps=checks.time_steps(time_steps))
    checks.array("weights", weights, "F C kh kw", "floats")
    checks.not_empty("weights", weights)
    _, channels, height, width = latencies.shape
    rows, columns = checks.pair("padding", padding, 0)
    checks.fits("latencies", (channels, height + 2 * rows, width + 2 * columns), "weights", weights.shape[1:])
    checks.pair("stride", stride, 1)
    if learns is not None:
        checks.array("learns", learns, "S", "booleans")
        checks.shape("learns", learns, latencies.shape[:1], "`latencies`")


def check_whole_inputs(
    latencies: Any, weights: Any, learns: Any, threshold: Any, time_steps: int, update_batch: int
) -> None:
    """Raises InputError or InputTypeError unless each neuron sees the whole stimuli, and the threshold fits."""
    check_sequence(weights, latencies, learns, update_batch, time_steps=time_steps)
    checks.shape("weights", weights, (len(weights), *latencies.shape[1:]), "`latencies`")
    if threshold is None:
        raise wrong_type("threshold", "a number or an array (F,)", None)
    checks.threshold(threshold, len(weights))


def check_labels(labels: Any, latencies: Any, features: int, classes: int) -> None:
    """Raises InputError or InputTypeError unless each stimulus has a valid label, and `check_classes` passes."""
    checks.array("labels", labels, "S", "integers")
    checks.shape("labels", labels, latencies.shape[:1], "`latencies`")
    check_classes(features, classes)
    known = checks.concrete_values(labels)
    if known is not None and known.size and not -1 <= known.min() <= known.max() < classes:
        raise InputError(f"`labels` must lie in 0..{classes - 1}, or be -1, got {known.min()}..{known.max()}")


def check_classes(features: int, classes: int) -> None:
    """Raises InputError unless the features form as many groups of equal size as there are classes."""
    if features % checks.integer("classes", classes, 1):
        raise InputError(f"`classes` must divide the {features} features of `weights`, got {classes}")


def in_groups(learn_group: Callable[..., Any], learned: Any, stimuli: Any, update_batch: int) -> tuple[Any, Any]:
    """The state after `learn_group(learned, group)` for all groups of `update_batch` stimuli, and all results.

    `stimuli` is a pytree of (S, ...) arrays. A boolean one among them must say which stimuli are learned from, because
    the last group is padded with zeros.
    """
    count = len(jax.tree.leaves(stimuli)[0])
    missing = -count % update_batch

    def group(values: jax.Array) -> jax.Array:
        padded = jnp.pad(values, [(0, missing), *[(0, 0)] * (values.ndim - 1)])
        return padded.reshape(len(padded) // update_batch, update_batch, *values.shape[1:])

    learned, results = lax.scan(learn_group, vary_like(learned, stimuli), jax.tree.map(group, stimuli))
    return learned, jax.tree.map(lambda x: x.reshape(count + missing, *x.shape[2:])[:count], results)
