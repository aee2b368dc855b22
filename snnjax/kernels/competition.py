"""Competition between neurons: pointwise inhibition, feature inhibition and k winners."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax

from snnjax.errors import InputError
from snnjax.kernels import checks
from snnjax.kernels.neurons import PositionSpikes, Spikes


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Winners:
    """The neurons that learn, in the order in which they won; places that stayed empty hold feature -1."""

    feature: jax.Array  # [k] int32, -1 where nobody was left
    row: jax.Array  # [k] int32
    column: jax.Array  # [k] int32
    latency: jax.Array  # [k] integers, the step of the winner's spike

    @property
    def valid(self) -> jax.Array:
        """[k] bool: the places that were won."""
        return self.feature >= 0


def _check(spikes: Spikes) -> None:
    checks.latency("spikes.latency", spikes.latency, "F H W")
    checks.real("spikes.potential", spikes.potential, "F H W")


@functools.partial(jax.jit, static_argnames="time_steps")
def strongest_feature(spikes: Spikes, *, time_steps: int) -> PositionSpikes:
    """The one spike that pointwise inhibition leaves at each position: earliest, then strongest, then lowest feature.

    Args:
      spikes: `Spikes` of (F, H, W).
      time_steps: T.

    Returns:
      `PositionSpikes` of (H, W).

    Raises:
      TypeError, InputError: wrong rank or dtype.
    """
    _check(spikes)
    earliest = spikes.latency.min(axis=0)
    candidate = spikes.latency == earliest[None]
    strongest = jnp.where(candidate, spikes.potential, -jnp.inf).max(axis=0)
    features = lax.broadcasted_iota(jnp.int32, spikes.latency.shape, 0)
    candidate &= spikes.potential == strongest[None]
    feature = jnp.where(candidate, features, features.shape[0]).min(axis=0)
    fired = earliest < checks.time_steps(time_steps)
    return PositionSpikes(feature, earliest, jnp.where(fired, strongest, 0))


@functools.partial(jax.jit, static_argnames="time_steps")
def pointwise_inhibition(spikes: Spikes, *, time_steps: int) -> Spikes:
    """At each position lets only one feature spike: the earliest, then strongest, then lowest; silences the others.

    Args:
      spikes: `Spikes` of (F, H, W).
      time_steps: T, the latency of silence.

    Returns:
      `Spikes` of (F, H, W).

    Raises:
      TypeError, InputError: wrong rank or dtype.
    """
    kept = strongest_feature(spikes, time_steps=time_steps)
    features = lax.broadcasted_iota(jnp.int32, spikes.latency.shape, 0)
    return _silence(spikes, features != kept.feature[None], time_steps)


@functools.partial(jax.jit, static_argnames="time_steps")
def feature_inhibition(spikes: Spikes, inhibited: jax.Array, *, time_steps: int) -> Spikes:
    """Silences whole feature maps.

    Args:
      spikes: `Spikes` of (F, H, W).
      inhibited: (F,) bool, the features to silence.
      time_steps: T, the latency of silence.

    Returns:
      `Spikes` of (F, H, W).

    Raises:
      TypeError, InputError: wrong rank or dtype; as many entries as features are needed.
    """
    _check(spikes)
    checks.array("inhibited", inhibited, "F")
    if inhibited.shape[0] != spikes.latency.shape[0]:
        raise InputError(f"`inhibited` must have {spikes.latency.shape[0]} entries, got {inhibited.shape[0]}")
    return _silence(spikes, inhibited.astype(bool)[:, None, None], checks.time_steps(time_steps))


def _silence(spikes: Spikes, inhibited: jax.Array, time_steps: int) -> Spikes:
    silent = jnp.asarray(time_steps, spikes.latency.dtype)
    return Spikes(jnp.where(inhibited, silent, spikes.latency), jnp.where(inhibited, 0, spikes.potential))


def k_winners(spikes: Spikes | PositionSpikes, *, k: int, radius: int | jax.Array, time_steps: int) -> Winners:
    """Winner-take-all: up to k neurons, each the earliest, then strongest, then lowest flat index of those left.

    A winner removes its whole feature map and, if radius > 0, all neurons within `radius` rows and columns of it.
    Times and potentials are compared one after the other, never folded into one float.

    Args:
      spikes: (F, H, W), or the (H, W) left by pointwise inhibition, which is the same competition among fewer.
      k: the most winners there can be.
      radius: of lateral inhibition around a winner, in neurons.
      time_steps: T, the latency of silence.

    Returns:
      `Winners` of (k,).

    Raises:
      TypeError, InputError: wrong rank or dtype; k < 1; radius < 0.
    """
    checks.integer("k", k, 1)
    if not isinstance(radius, jax.Array):
        checks.integer("radius", radius, 0)
    checks.time_steps(time_steps)
    return _k_winners(spikes, radius, k=k, time_steps=time_steps)


@functools.partial(jax.jit, static_argnames=("k", "time_steps"))
def _k_winners(spikes: Spikes | PositionSpikes, radius: int | jax.Array, *, k: int, time_steps: int) -> Winners:
    if isinstance(spikes, PositionSpikes):
        checks.latency("spikes.latency", spikes.latency, "H W")
        checks.real("spikes.potential", spikes.potential, "H W")
        feature = spikes.feature
    else:
        _check(spikes)
        feature = lax.broadcasted_iota(jnp.int32, spikes.latency.shape, 0)
    shape = spikes.latency.shape
    height, width = shape[-2:]
    row = lax.broadcasted_iota(jnp.int32, shape, len(shape) - 2)
    column = lax.broadcasted_iota(jnp.int32, shape, len(shape) - 1)
    flat = (feature * height + row) * width + column
    nobody = jnp.iinfo(jnp.int32).max

    def take(latency: jax.Array, _: None) -> tuple[jax.Array, Winners]:
        earliest = latency.min()
        candidate = latency == earliest
        strongest = jnp.where(candidate, spikes.potential, -jnp.inf).max()
        index = jnp.where(candidate & (spikes.potential == strongest), flat, nobody).min()
        won_feature, position = jnp.divmod(index, height * width)
        won_row, won_column = jnp.divmod(position, width)
        near = (jnp.abs(row - won_row) <= radius) & (jnp.abs(column - won_column) <= radius) & (radius > 0)
        won = earliest < time_steps
        left = jnp.where((feature == won_feature) | near, jnp.asarray(time_steps, latency.dtype), latency)
        winner = Winners(jnp.where(won, won_feature, -1), won_row, won_column, earliest)
        return left, winner

    return lax.scan(take, spikes.latency, length=k)[1]
