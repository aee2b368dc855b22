"""Competition between neurons: pointwise inhibition, feature inhibition and k winners."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax

from snnjax.errors import InputError
from snnjax.kernels import checks
from snnjax.kernels.neurons import PositionSpikes, Spikes, strongest


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Winners:
    """The neurons that learn, in the order in which they won; empty places hold feature -1."""

    feature: jax.Array  # [k] int32, -1 where no neuron won
    row: jax.Array  # [k] int32
    column: jax.Array  # [k] int32
    latency: jax.Array  # [k] integers, the step of the winner's spike

    @property
    def valid(self) -> jax.Array:
        """[k] bool: the places that were won."""
        return self.feature >= 0


def _check(spikes: Spikes | PositionSpikes) -> None:
    axes = "H W" if isinstance(spikes, PositionSpikes) else "F H W"
    checks.latency("spikes.latency", spikes.latency, axes)
    checks.real("spikes.potential", spikes.potential, axes)


@functools.partial(jax.jit, static_argnames="time_steps")
def strongest_feature(spikes: Spikes, *, time_steps: int) -> PositionSpikes:
    """The one spike of each position that pointwise inhibition leaves: earliest, then strongest, then lowest feature.

    From `Spikes` of (F, H, W) to `PositionSpikes` of (H, W); silent positions hold some feature.
    """
    _check(spikes)
    earliest = spikes.latency.min(axis=0)
    features = lax.broadcasted_iota(jnp.int32, spikes.latency.shape, 0)
    potential, feature = strongest(spikes.potential, features, spikes.latency == earliest[None], axis=0)
    return PositionSpikes(feature, earliest, jnp.where(earliest < checks.time_steps(time_steps), potential, 0))


@functools.partial(jax.jit, static_argnames="time_steps")
def pointwise_inhibition(spikes: Spikes, *, time_steps: int) -> Spikes:
    """`Spikes` (F, H, W) of which at each position only that of `strongest_feature` is left."""
    kept = strongest_feature(spikes, time_steps=time_steps)
    features = lax.broadcasted_iota(jnp.int32, spikes.latency.shape, 0)
    return _silence(spikes, features != kept.feature[None], time_steps)


@functools.partial(jax.jit, static_argnames="time_steps")
def feature_inhibition(spikes: Spikes, inhibited: jax.Array, *, time_steps: int) -> Spikes:
    """`Spikes` (F, H, W) without those of the `inhibited` features, (F,) bool."""
    _check(spikes)
    checks.array("inhibited", inhibited, "F")
    if inhibited.shape[0] != spikes.latency.shape[0]:
        raise InputError(f"`inhibited` must have {spikes.latency.shape[0]} entries, got {inhibited.shape[0]}")
    return _silence(spikes, inhibited.astype(bool)[:, None, None], checks.time_steps(time_steps))


def _silence(spikes: Spikes, inhibited: jax.Array, time_steps: int) -> Spikes:
    silent = jnp.asarray(time_steps, spikes.latency.dtype)
    return Spikes(jnp.where(inhibited, silent, spikes.latency), jnp.where(inhibited, 0, spikes.potential))


@checks.kernel("k", "time_steps", radius=checks.radius)
def k_winners(spikes: Spikes | PositionSpikes, *, k: int, radius: int | jax.Array, time_steps: int) -> Winners:
    """Winner-take-all, `Winners` of (k,): each the earliest, then strongest, then lowest flat index of those left.

    A winner removes its whole feature map and, if radius > 0, all neurons within `radius` rows and columns of it.
    Latencies and potentials are compared one after the other, never folded into one float.

    `spikes` is (F, H, W), or the (H, W) of `strongest_feature`: pointwise inhibition first, then the same competition.
    """
    checks.integer("k", k, 1)
    checks.time_steps(time_steps)
    _check(spikes)
    shape = spikes.latency.shape
    feature = spikes.feature if isinstance(spikes, PositionSpikes) else lax.broadcasted_iota(jnp.int32, shape, 0)
    height, width = shape[-2:]
    row, column = (lax.broadcasted_iota(jnp.int32, shape, len(shape) - axis) for axis in (2, 1))
    flat = (feature * height + row) * width + column

    def take(latency: jax.Array, _: None) -> tuple[jax.Array, Winners]:
        earliest = latency.min()
        won_feature, position = jnp.divmod(strongest(spikes.potential, flat, latency == earliest)[1], height * width)
        won_row, won_column = jnp.divmod(position, width)
        near = (jnp.abs(row - won_row) <= radius) & (jnp.abs(column - won_column) <= radius) & (radius > 0)
        left = jnp.where((feature == won_feature) | near, jnp.asarray(time_steps, latency.dtype), latency)
        return left, Winners(jnp.where(earliest < time_steps, won_feature, -1), won_row, won_column, earliest)

    return lax.scan(take, spikes.latency, length=k)[1]
