"""Competition between neurons: pointwise inhibition, feature inhibition, k winners, and a search for them."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from snnjax.core import checks
from snnjax.core.checks import Number, Pair
from snnjax.core.errors import InputError, wrong_type
from snnjax.core.sharding import vary_like
from snnjax.kernels.kernel import kernel
from snnjax.kernels.neurons import PositionSpikes, Spikes, product, strongest
from snnjax.kernels.spikes import latency_dtype, output_size


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Winners:
    """The neurons that learn, in the order in which they won; unused entries have feature -1.

    Attributes:
      feature: (k,) int32, -1 for unused entries.
      row: (k,) int32.
      column: (k,) int32.
      latency: (k,) integers, the step of the winner's spike.
      size: rows and columns of positions of the layer, if known. It is part of the structure of the pytree. To exchange
        winners of layers of different size, for example in `jax.lax.cond`, set it to None with `dataclasses.replace`.
    """

    feature: jax.Array
    row: jax.Array
    column: jax.Array
    latency: jax.Array
    size: tuple[int, int] | None = dataclasses.field(default=None, metadata=dict(static=True))

    @property
    def valid(self) -> jax.Array:
        """(k,) bool: whether an entry is a winner."""
        return self.feature >= 0


def check_winners(
    name: str,
    winners: Any,
    size: tuple[int, ...] | None = None,
    write: str = "",
    *,
    time_steps: int = 0,
    features: int | None = None,
) -> None:
    """Raises InputError unless these are `Winners` of (k,) that, as far as is known, fit on a map of `size`.

    `write` is the advice in the message if the map is too small; `features` is the number of features, if known.
    """
    if not isinstance(winners, Winners):
        raise wrong_type(name, "Winners", winners)
    for field in ("feature", "row", "column", "latency"):
        array = getattr(winners, field)
        checks.array(f"{name}.{field}", array, "k", "integers")
        checks.shape(f"{name}.{field}", array, winners.feature.shape, f"`{name}.feature`")
    if size is not None and winners.size not in (None, size):
        expected = f"be of a layer with {size[0]}x{size[1]} positions"
        raise InputError(f"`{name}` must {expected}, got one with {winners.size[0]}x{winners.size[1]}: {write}")
    values = [checks.concrete_values(x) for x in (winners.feature, winners.row, winners.column, winners.latency)]
    if any(x is None for x in values):
        return
    feature, *position, step = (np.asarray(x) for x in values)
    if features is not None and (feature >= features).any():
        raise InputError(f"`{name}.feature` must lie below {features}, the features of `weights`, got {feature.max()}")
    if size is None:
        return
    checks.check_positions(name, np.stack(position, axis=1)[feature >= 0], size, write)
    if time_steps:
        checks.check_latency_range(f"{name}.latency", step[feature >= 0], time_steps)


def _check_spikes(spikes: Any, time_steps: int, kinds: Any = (Spikes,), **_: Any) -> None:
    if not isinstance(spikes, kinds):
        raise wrong_type("spikes", " or ".join(kind.__name__ for kind in kinds), spikes)
    axes = "H W" if isinstance(spikes, PositionSpikes) else "F H W"
    checks.latency("spikes.latency", spikes.latency, axes, time_steps=checks.time_steps(time_steps))
    checks.not_empty("spikes.latency", spikes.latency)
    fields = dict(potential="floats", feature="integers", time="floats")
    for field, kind in fields.items():
        if (array := getattr(spikes, field, None)) is not None:
            checks.array(f"spikes.{field}", array, axes, kind)
            checks.shape(f"spikes.{field}", array, spikes.latency.shape, "`spikes.latency`")
    potential = checks.concrete_values(spikes.potential, jnp.floating)
    if potential is not None and np.isnan(potential).any():
        raise InputError("`spikes.potential` must be numbers, got NaN")


_check_any_spikes = functools.partial(_check_spikes, kinds=(Spikes, PositionSpikes))


@kernel("time_steps", check=_check_spikes)
def strongest_feature(spikes: Spikes, *, time_steps: int) -> PositionSpikes:
    """The spike of each position that passes pointwise inhibition: the earliest one.

    Among equally early spikes it is the one with the largest potential, and in a tie that of the lowest feature. Maps
    `Spikes` of (F, H, W) to `PositionSpikes` of (H, W); the feature of a silent position is arbitrary.
    """
    earliest = spikes.latency.min(axis=0)
    potential, feature = strongest(spikes.potential, spikes.latency == earliest[None])
    return PositionSpikes(feature, earliest, jnp.where(earliest < time_steps, potential, 0))


@kernel("time_steps", check=_check_spikes)
def pointwise_inhibition(spikes: Spikes, *, time_steps: int) -> Spikes:
    """`Spikes` (F, H, W) in which only the spike of `strongest_feature` remains at each position."""
    kept = strongest_feature(spikes, time_steps=time_steps).feature
    return _silence(spikes, lax.broadcasted_iota(jnp.int32, spikes.latency.shape, 0) != kept[None], time_steps)


@kernel("time_steps", check=_check_spikes)
def feature_inhibition(spikes: Spikes, inhibited: jax.Array, *, time_steps: int) -> Spikes:
    """`Spikes` (F, H, W) without the spikes of the `inhibited` features, (F,) bool."""
    checks.array("inhibited", inhibited, "F")
    if inhibited.shape[0] != spikes.latency.shape[0]:
        raise InputError(f"`inhibited` must have {spikes.latency.shape[0]} entries, got {inhibited.shape[0]}")
    return _silence(spikes, inhibited.astype(bool)[:, None, None], time_steps)


def _silence(spikes: Spikes, inhibited: jax.Array, time_steps: int) -> Spikes:
    silent = jnp.asarray(time_steps, spikes.latency.dtype)
    time = None if spikes.time is None else jnp.where(inhibited, 1, spikes.time)
    return Spikes(jnp.where(inhibited, silent, spikes.latency), jnp.where(inhibited, 0, spikes.potential), time)


@kernel("k", "time_steps", check=_check_any_spikes)
def k_winners(spikes: Spikes | PositionSpikes, *, k: int, radius: Number, time_steps: int) -> Winners:
    """Winner-take-all: selects up to k winners one after another, `Winners` of (k,).

    Each winner is the earliest of the remaining neurons; among equally early ones it is that with the largest
    potential, and in a tie that with the lowest flat index. A winner removes its whole feature map and, if `radius` is
    above 0, all neurons within `radius` rows and columns. `spikes` is (F, H, W), or the result of `strongest_feature`,
    (H, W), for pointwise inhibition before the competition.
    """
    checks.integer("k", k, 1)
    shape = spikes.latency.shape
    feature = spikes.feature if isinstance(spikes, PositionSpikes) else lax.broadcasted_iota(jnp.int32, shape, 0)
    height, width = shape[-2:]
    row, column = (lax.broadcasted_iota(jnp.int32, shape, len(shape) - axis) for axis in (2, 1))
    # The lowest place, feature, row and column in one number, wins among equals.
    row_bits = (height - 1).bit_length()
    column_bits = (width - 1).bit_length()
    place = (feature << (row_bits + column_bits)) | (row << column_bits) | column
    silent = jnp.asarray(time_steps, spikes.latency.dtype)

    def take(latency: jax.Array, _: None) -> tuple[jax.Array, Winners]:
        earliest = latency.min()
        # First the step, then the potential: one float32 score of both would lose the low bits of the potential, which
        # changed one list of winners in ten.
        won = strongest(spikes.potential, latency == earliest, place)[1]
        won_feature = won >> (row_bits + column_bits)
        won_row = (won >> column_bits) & ((1 << row_bits) - 1)
        won_column = won & ((1 << column_bits) - 1)
        # Without the last condition, a radius of 0 would still silence the other features at the winner's position.
        near = (jnp.abs(row - won_row) <= radius) & (jnp.abs(column - won_column) <= radius) & (radius > 0)
        winner = Winners(jnp.where(earliest < time_steps, won_feature, -1), won_row, won_column, earliest)
        return jnp.where((feature == won_feature) | near, silent, latency), winner

    won = lax.scan(take, vary_like(spikes.latency, spikes, radius), length=k)[1]
    return dataclasses.replace(won, size=(height, width))


@kernel("k", "time_steps", "stride")
def early_winners(
    latency: jax.Array,
    weights: jax.Array,
    *,
    threshold: Number | None,
    k: int,
    radius: Number,
    time_steps: int,
    stride: Pair = 1,
) -> Winners:
    """`k_winners` of `strongest_feature`, without the steps after the last winner: `Winners` of (k,), for weights >= 0.

    At each step, only positions that can matter are evaluated: positions that have not fired, that no winner inhibits,
    and whose inputs would suffice to cross the threshold if all weights were as large as the largest one. The loops
    depend on the data, so that this function is only suitable for CPUs.
    """
    checks.integer("k", k, 1)
    checks.convolution(latency, weights, time_steps=checks.time_steps(time_steps))
    checks.threshold(threshold, len(weights))
    strides = checks.pair("stride", stride, 1)
    height, width = output_size(latency.shape[1:], weights.shape[2:], strides)
    first = time_steps - 1 if threshold is None else 0
    limit = jnp.asarray(0.0 if threshold is None else threshold, weights.dtype)
    # Rounding never carries a sum of n weights <= 1 above n. Above 1 it may, so the bound is widened a little there.
    largest = weights.max().astype(jnp.float32)
    largest = jnp.where(largest <= 1, 1, largest * (1 + 1e-4))
    sizes = zip(latency.shape[1:], weights.shape[2:], strides, (height, width), strict=True)
    down, right = (_band(*axis) for axis in sizes)

    def advance(state: Any) -> Any:
        step, alive, used, won, winners = state
        now = step.astype(latency.dtype)
        # Counted by two products, because XLA's convolutions are slow inside a loop on a CPU: that of layer 1 of
        # mozafari2018 took 22 ms for an image, instead of 0.4 ms as a product.
        active = product(product(down, jnp.sum(latency <= now, axis=0, dtype=jnp.float32)), right.T)
        enough = (active * largest > jnp.min(limit)).ravel()
        potential, feature = _strongest_features(alive & enough, latency, now, weights, limit, strides, width)
        fires = potential > (limit if np.ndim(limit) == 0 else -jnp.inf)
        state = (fires & ~used[feature], alive & ~fires, used, won, winners)
        return step + 1, *_take_winners(state, step, potential, feature, radius, width)

    zeros = jnp.zeros(k, jnp.int32)
    empty = Winners(jnp.full(k, -1, jnp.int32), zeros, zeros, jnp.full(k, time_steps, latency_dtype(time_steps)))
    start = (jnp.int32(first), jnp.ones(height * width, bool), jnp.zeros(len(weights), bool), jnp.int32(0), empty)
    start = vary_like(start, latency, weights, limit, radius)
    won = lax.while_loop(lambda state: (state[0] < time_steps) & (state[3] < k), advance, start)[-1]
    return dataclasses.replace(won, size=(height, width))


_SCORES = 2048
"""Potentials that `early_winners` computes at once: positions times features. Measured on two cores of a Xeon."""


def _strongest_features(
    candidates: jax.Array,
    latency: jax.Array,
    now: jax.Array,
    weights: jax.Array,
    threshold: Any,
    strides: tuple[int, int],
    width: int,
) -> tuple[jax.Array, jax.Array]:
    """The largest potential and its feature at the candidate positions, (P,) bool; -inf at all other positions.

    A few positions are computed at a time. With thresholds (F,), a potential that does not exceed its threshold counts
    as -inf.
    """
    size = candidates.size
    # Not more positions at once: that was slower for layers of 100 to 250 features.
    batch = min(size, max(8, _SCORES // len(weights)))
    number = lax.iota(jnp.int32, size)
    flat = weights.reshape(len(weights), -1)

    def receptive_field(position: jax.Array) -> jax.Array:
        corner = (jnp.zeros_like(position), position // width * strides[0], position % width * strides[1])
        # Fields are gathered. To choose them by a product with one-hot columns took twice as long, and to lay out rows
        # of patches beforehand cost as much as it saved.
        return lax.dynamic_slice(latency, corner, weights.shape[1:]).ravel()

    def evaluate(state: Any) -> Any:
        candidates, potential, feature = state
        chosen = lax.sort(jnp.where(candidates, number, jnp.iinfo(jnp.int32).max))[:batch]
        spiked = jax.vmap(receptive_field)(jnp.minimum(chosen, size - 1)) <= now
        # To stop adding up features that can no longer win saves nothing: their potentials lie within a few percent of
        # each other, and after half of the inputs 600 of 3,200 candidates are left.
        tried = product(flat, spiked.T)
        if np.ndim(threshold):
            tried = jnp.where(tried > threshold[:, None], tried, -jnp.inf)
        most, lowest = strongest(tried)
        potential = potential.at[chosen].set(most, mode="drop")
        return candidates & (number > chosen[-1]), potential, feature.at[chosen].set(lowest, mode="drop")

    nothing = (candidates, jnp.full(size, -jnp.inf, weights.dtype), jnp.zeros(size, jnp.int32))
    nothing = vary_like(nothing, candidates, latency, weights, threshold)
    return lax.while_loop(lambda state: state[0].any(), evaluate, nothing)[1:]


def _take_winners(
    start: Any, step: jax.Array, potential: jax.Array, feature: jax.Array, radius: Number, width: int
) -> Any:
    """The state of `early_winners` after the strongest neurons that fire at a step, (P,), have won, from `start`."""
    size = potential.size
    number = lax.iota(jnp.int32, size)
    row, column = jnp.divmod(number, width)

    def take(state: Any) -> Any:
        fires, alive, used, won, winners = state
        won_feature, position = jnp.divmod(strongest(potential, fires, feature * size + number)[1], size)
        won_row, won_column = jnp.divmod(position, width)
        near = (jnp.abs(row - won_row) <= radius) & (jnp.abs(column - won_column) <= radius) & (radius > 0)
        winner = Winners(won_feature, won_row, won_column, step.astype(winners.latency.dtype))
        winners = jax.tree.map(lambda places, place: places.at[won].set(place), winners, winner)
        fires &= ~near & (feature != won_feature)
        return fires, alive & ~near, used.at[won_feature].set(True), won + 1, winners

    k = len(start[-1].feature)
    return lax.while_loop(lambda state: state[0].any() & (state[3] < k), take, start)[1:]


def _band(size: int, kernel: int, stride: int, positions: int) -> jax.Array:
    """(positions, size) ones where a position sees an input, along one axis."""
    offset = np.arange(size) - stride * np.arange(positions)[:, None]
    return jnp.asarray((offset >= 0) & (offset < kernel), jnp.float32)
