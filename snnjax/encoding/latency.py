"""From the outputs of filters to latencies: local normalisation, lateral inhibition, rank order."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from snnjax.kernels import checks
from snnjax.kernels.spikes import latency_dtype


@functools.partial(jax.jit, static_argnames="radius")
def local_normalization(maps: jax.Array, *, radius: int, epsilon: float = 1e-12) -> jax.Array:
    """Divides each value by the mean of its zero-padded square neighbourhood, channel by channel.

    Args:
      maps: (C, H, W) float.
      radius: of the neighbourhood, in pixels; it has 2 radius + 1 rows and columns.
      epsilon: added to the mean.

    Returns:
      (C, H, W) float.

    Raises:
      TypeError, InputError: wrong rank or dtype; a radius below 0.
    """
    checks.real("maps", maps, "C H W")
    width = 2 * checks.integer("radius", radius, 0) + 1
    mean = _box_sum(maps, radius) / width**2
    return maps / (mean + epsilon)


def _box_sum(maps: jax.Array, radius: int) -> jax.Array:
    """Sums over square neighbourhoods, as products with a band of ones on each side."""

    def band(size: int) -> jax.Array:
        distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
        return jnp.asarray(distance <= radius, maps.dtype)

    rows, columns = band(maps.shape[1]), band(maps.shape[2])
    return jnp.einsum("ih,chw,wj->cij", rows, maps, columns, precision=lax.Precision.HIGHEST)


@jax.jit
def lateral_inhibition(maps: jax.Array, percents: jax.Array) -> jax.Array:
    """Raises each value by a share of itself for every smaller neighbour, by their Chebyshev distance.

    The step is optional, before `rank_order`: values that stand out gain on their surroundings (Kheradpisheh et al.).

    Args:
      maps: (C, H, W) float; beyond the border lie zeros.
      percents: (D,) float, the share for a neighbour at distance 1, 2, ... D.

    Returns:
      (C, H, W) float.

    Raises:
      TypeError, InputError: wrong rank or dtype.
    """
    checks.real("maps", maps, "C H W")
    checks.array("percents", percents, "D")
    radius = percents.shape[0]
    padded = jnp.pad(maps, ((0, 0), (radius, radius), (radius, radius)))
    factor = jnp.ones_like(maps)
    for row in range(-radius, radius + 1):
        for column in range(-radius, radius + 1):
            if distance := max(abs(row), abs(column)):
                start = (0, radius + row, radius + column)
                neighbour = lax.dynamic_slice(padded, start, maps.shape)
                factor += jnp.where(neighbour < maps, percents[distance - 1].astype(maps.dtype), 0)
    return maps * factor


@functools.partial(jax.jit, static_argnames="time_steps")
def rank_order(intensities: jax.Array, *, time_steps: int) -> jax.Array:
    """Intensity to latency: the strongest values spike first, in equal numbers a step.

    With n values above zero and bins of n // T, the value of rank r (descending; equal values in order of flat index)
    spikes at step r // bin; the last n - T bin stay silent. With n < T, each spikes at a step of its own.

    No indices are sorted: the boundaries between the bins come from one sort of bare values, and where a boundary
    splits equal values, from one sort of those values' positions. That is several times faster than an argsort.

    Args:
      intensities: (...) float32, none negative.
      time_steps: T.

    Returns:
      (...) unsigned integer latencies, T where silent.

    Raises:
      TypeError, InputError: wrong dtype; T < 1.
    """
    checks.real("intensities", intensities, None)
    checks.time_steps(time_steps)
    # Floats that are not negative order as the integers of their bits do, and integers sort fast.
    keys = lax.bitcast_convert_type(jnp.maximum(intensities, 0).astype(jnp.float32).ravel(), jnp.int32)
    size = keys.size
    ascending = lax.sort(keys, is_stable=False)
    count = jnp.sum(keys > 0, dtype=jnp.int32)
    bin_size = jnp.maximum(count // time_steps, 1)
    # Rank and value of the first spike of the bins 1..T; below rank `count` there is nothing but zeros.
    ranks = jnp.arange(1, time_steps + 1, dtype=jnp.int32) * bin_size
    boundaries = jnp.where(ranks < size, ascending[jnp.clip(size - 1 - ranks, 0, size - 1)], 0)
    greater, at_least = (size - jnp.searchsorted(ascending, boundaries, side=side) for side in ("right", "left"))

    def apart() -> jax.Array:
        """Equal values on both sides of a boundary are told apart by position: from `first` on they come after it."""
        below, equal = keys[None] < boundaries[:, None], keys[None] == boundaries[:, None]
        boundary = jnp.arange(time_steps, dtype=jnp.int32)
        alike = jnp.argmax(boundaries[:, None] == boundaries[None], axis=1)  # the first boundary of the same value
        group = jnp.where(equal, boundary[:, None], time_steps).min(axis=0)
        positions = lax.iota(jnp.int32, size)
        grouped = lax.sort(group * size + positions, is_stable=False)
        members = jnp.where(alike == boundary, at_least - greater, 0)
        start = (jnp.cumsum(members) - members)[alike]
        first = grouped[jnp.clip(start + ranks - greater, 0, size - 1)] % size
        return jnp.sum(below | (equal & (positions[None] >= first[:, None])), axis=0, dtype=jnp.int32)

    split = (greater < ranks) & (boundaries > 0)
    latency = lax.cond(split.any(), apart, lambda: jnp.sum(keys[None] <= boundaries[:, None], axis=0, dtype=jnp.int32))
    latency = jnp.where(keys > 0, latency, time_steps).astype(latency_dtype(time_steps))
    return latency.reshape(intensities.shape)
