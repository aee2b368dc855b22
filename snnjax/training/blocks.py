"""A fast form of learning by reward where only deciding layers learn: block by block instead of image by image.

The potentials of a block of images come from one large product with the weights at its start. The few features that
change within the block are computed anew, image by image; on a CPU only where they may have become the strongest, since
the rates say how far an update can move a weight. The result is that of learning image by image, but for near-ties.
"""

import dataclasses
import functools
from typing import Any, cast

import jax
import jax.numpy as jnp

from snnjax import kernels
from snnjax.kernels import Winners
from snnjax.layers import Layer, at_last_step, block_potentials
from snnjax.learners import RSTDP
from snnjax.networks import Majority, Model
from snnjax.networks.decision import majority
from snnjax.training.programs import Schedule, SupervisedCarry, outcome, where

_ROUNDING = 1e-5
"""Room for the error of a float32 potential, as a part of the largest that there could be."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Strongest:
    """The strongest neuron of each feature of one layer."""

    potential: jax.Array  # [B, F] or [F] float32, the largest of all positions
    place: jax.Array  # [B, F] or [F] int32, the lowest position that has it

    @classmethod
    def of(cls, potentials: jax.Array) -> "Strongest":
        """From potentials (B, F, H, W)."""
        flat = potentials.reshape(*potentials.shape[:2], -1)
        return cls(flat.max(axis=2), jnp.argmax(flat, axis=2).astype(jnp.int32))

    def winner(self, layer: Layer, size: tuple[int, int]) -> Winners:
        """The winner of one image, (1,), given rows and columns of the layer's input."""
        feature = jnp.argmax(self.potential)
        row, column = jnp.divmod(self.place[feature], layer.conv.output_size(size)[1])
        won = jnp.where(self.potential[feature] > 0, feature, -1)
        return Winners(*(x[None] for x in (won, row, column, jnp.int32(layer.time_steps - 1))))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Changed:
    """The features of one layer that have changed within a block of B images.

    They are kept beside the weights: a scan that both read and wrote these would copy all of them for every image.
    """

    slot: jax.Array  # [F] int32, the image whose row holds the feature's weights, -1 where they have not changed
    rise: jax.Array  # [F] float32, the most by which any weight of the feature can have grown
    rows: jax.Array  # [B, kh, kw, C] float32, the weights that each image has changed

    @classmethod
    def nothing(cls, layer: Layer, size: int) -> "Changed":
        """Before the first image of a block of `size`."""
        rows, columns, features, channels = layer.weights.shape
        slot, rise = jnp.full(features, -1, jnp.int32), jnp.zeros(features, layer.weights.dtype)
        return cls(slot, rise, jnp.zeros((size, rows, columns, channels), layer.weights.dtype))

    def row(self, feature: jax.Array, layer: Layer) -> jax.Array:
        """The present weights of a feature, (kh, kw, C), given the layer at the start of the block."""
        slot = self.slot[feature]
        return jnp.where(slot < 0, layer.weights[:, :, feature], self.rows[slot])

    def note(self, at: jax.Array, feature: jax.Array, row: jax.Array, growth: jax.Array) -> "Changed":
        """Notes a feature's new weights as those of image `at`; feature -1 notes nothing."""
        beyond = jnp.where(feature < 0, len(self.slot), feature)
        return Changed(
            self.slot.at[beyond].set(at, mode="drop"),
            self.rise.at[beyond].add(growth, mode="drop"),
            self.rows.at[at].set(row),
        )

    def merged(self, layer: Layer) -> Layer:
        """The layer with the changed features in place."""
        features, size = len(self.slot), len(self.rows)
        owner = jnp.where(self.slot < 0, size, self.slot)
        feature = jnp.full(size, features).at[owner].set(jnp.arange(features), mode="drop")
        weights = layer.weights.at[:, :, feature].set(jnp.moveaxis(self.rows, 0, 2), mode="drop")
        return dataclasses.replace(layer, weights=weights)


def present(layer: Layer, rule: RSTDP, changed: Changed, stale: Strongest, spiked: jax.Array) -> Strongest:
    """The strongest neuron of each feature for one image now, (F,), given what it was when the block began."""
    forms = dict(
        cpu=functools.partial(_where_needed, layer, rule), default=functools.partial(_all_changed, layer, rule)
    )
    return jax.lax.platform_dependent(changed, stale, spiked, **forms)


def _rows_as_layer(layer: Layer, rows: jax.Array) -> Layer:
    return dataclasses.replace(layer, weights=jnp.moveaxis(rows, 0, 2))


def _all_changed(layer: Layer, rule: RSTDP, changed: Changed, stale: Strongest, spiked: jax.Array) -> Strongest:
    """Computes all features that have changed: without a loop that depends on data, as accelerators like it."""
    exact = Strongest.of(block_potentials(_rows_as_layer(layer, changed.rows), spiked[None]))
    return jax.tree.map(lambda new, old: jnp.where(changed.slot < 0, old, new[0, changed.slot]), exact, stale)


def _where_needed(layer: Layer, rule: RSTDP, changed: Changed, stale: Strongest, spiked: jax.Array) -> Strongest:
    """Computes the features that have changed only where they may have become the strongest.

    A potential grows at most by the growth of a weight, times the inputs that fired.
    """
    active, known = jnp.sum(spiked), changed.slot < 0
    margin = _ROUNDING * jnp.maximum(jnp.abs(rule.bounds[0]), jnp.abs(rule.bounds[1]))
    most = jnp.where(known, stale.potential, stale.potential + (changed.rise + margin) * active)

    def unknown(search: tuple[Strongest, jax.Array]) -> jax.Array:
        found, known = search
        return ~known[jnp.argmax(found.potential)]

    def compute(search: tuple[Strongest, jax.Array]) -> tuple[Strongest, jax.Array]:
        found, known = search
        feature = jnp.argmax(found.potential)
        row = changed.rows[changed.slot[feature]]
        exact = Strongest.of(block_potentials(_rows_as_layer(layer, row[None]), spiked[None]))
        found = jax.tree.map(lambda old, new: old.at[feature].set(new[0, 0]), found, exact)
        return found, known.at[feature].set(True)

    return jax.lax.while_loop(unknown, compute, (Strongest(most, stale.place), known))[0]


def learn_in_block(
    layer: Layer,
    rule: RSTDP,
    rates: jax.Array,
    changed: Changed,
    at: jax.Array,
    latency: jax.Array,
    winner: Winners,
    outcome: jax.Array,
) -> Changed:
    """The update of `RSTDP` for image `at` of a block, kept in `changed`.

    Args:
      layer: at the start of the block, in the form `TAPS`.
      rule: of the layer.
      rates: (2, 2) float32, its state.
      changed: what the images before have changed.
      at: () int32.
      latency: (C, H, W) input latencies.
      winner: `Winners` of (1,).
      outcome: () int32: 1 reward, -1 punishment, 0 neither.
    """
    rate = kernels.reward_rates(outcome, rates[0], rates[1])
    row = jnp.moveaxis(changed.row(winner.feature[0], layer), 2, 0)[None]
    settings: dict[str, Any] = dict(time_steps=layer.time_steps, stride=layer.conv.stride, stabiliser=rule.stabiliser)
    learned = kernels.learned_rows(row, layer.padded(latency), winner, rate, bounds=rule.bounds, **settings)
    stretch = (rule.bounds[1] - rule.bounds[0]) ** 2 / 4 if rule.stabiliser else 1.0  # the most that it multiplies by
    growth = jnp.maximum(rate.max(), 0) * stretch
    return changed.note(at, jnp.where(outcome == 0, -1, winner.feature[0]), jnp.moveaxis(learned[0], 0, 2), growth)


def in_blocks(model: Model, first: int) -> bool:
    """Whether `learn_in_blocks` can do the work of `programs.learn_supervised`."""
    rules = all(type(layer.conv.supervised) is RSTDP for layer in model.stage(model.last))
    return first == model.last and type(model.decision) is Majority and rules


def learn_in_blocks(
    carry: SupervisedCarry,
    model: Model,
    latencies: jax.Array,
    labels: jax.Array,
    start: jax.Array,
    count: jax.Array,
    last: jax.Array,
    batch_size: jax.Array,
    block: int,
    batched: bool,
    by_turns: bool,
) -> tuple[SupervisedCarry, tuple[jax.Array, Any]]:
    """`programs.learn_supervised` of deciding layers that learn by `RSTDP`, with their weights within the bounds.

    Args:
      carry: layers in the form `TAPS`.
      model: the whole network.
      latencies: (S, C, H, W) what enters the last stage, S >= B.
      labels, start, count, last, batch_size, by_turns: as of `learn_supervised`.
      block: B, images of a block.
      batched: all images of a block are seen with the weights at its start; otherwise the result does not depend on B.

    Returns:
      As `learn_supervised`.
    """
    names, size = model.names[model.last], len(latencies)
    schedule = Schedule(names, by_turns, batch_size)

    def one_image(layers: dict[str, Layer], inner: Any, image: Any) -> Any:
        states, tally, changed = inner
        at, stale, latency, label, valid = image
        spiked = latency < model.time_steps
        collapsed, votes, found = at_last_step(spiked, model.time_steps), [], {}
        for name, turn in zip(names, schedule.turns(tally), strict=True):
            layer, rule, now = layers[name], cast(RSTDP, layers[name].conv.supervised), stale[name]
            if not batched:
                now = present(layer, rule, changed[name], now, spiked)
            winner = now.winner(layer, (latency.shape[1], latency.shape[2]))
            feature = winner.feature[0]
            votes.append(jnp.where(feature < 0, -1, feature // (layer.conv.features // model.classes)))
            won = outcome(votes[-1], label) * (valid & turn)
            learned = learn_in_block(layer, rule, states[name], changed[name], at, collapsed, winner, won)
            changed, found[name] = {**changed, name: learned}, jnp.where(won == 0, -1, winner.feature)
        decision = majority(jnp.stack(votes), model.classes)
        _, *counted = schedule.count_outcome((layers, states, tally), outcome(decision, label))
        return (*where(valid, tuple(counted), (states, tally)), changed), (decision, found)

    def one_block(carry: Any) -> Any:
        at, (layers, states, tally), found = carry
        base = jnp.minimum(at, size - block)
        images, known = (jax.lax.dynamic_slice_in_dim(each, base, block) for each in (latencies, labels))
        numbers = base + jnp.arange(block)
        valid = (numbers >= at) & (numbers < count)
        stale = {name: Strongest.of(block_potentials(layers[name], images < model.time_steps)) for name in names}
        changed = {name: Changed.nothing(layers[name], block) for name in names}
        each = (jnp.arange(block), stale, images, known, valid)
        (states, tally, changed), results = jax.lax.scan(
            functools.partial(one_image, layers), (states, tally, changed), each
        )
        layers = {name: changed[name].merged(layers[name]) for name in names}
        places = jnp.where(valid, numbers, size)  # others are dropped
        found = jax.tree.map(lambda all_, new: all_.at[places].set(new, mode="drop"), found, results)
        return base + block, (layers, states, tally), found

    nothing = (jnp.full(size, -1, jnp.int32), {name: jnp.full((size, 1), -1, jnp.int32) for name in names})
    _, learned, found = jax.lax.while_loop(lambda c: c[0] < count, one_block, (start, carry, nothing))
    return schedule.end_epoch(learned, last), found
