"""`RSTDP` where only deciding layers learn, by XLA: block by block instead of image by image.

The potentials of a block of images come from one large product with the weights at its start. The few features that
change within the block are computed anew, image by image, where they may have become the strongest, since the rates
bound the change of a weight. The result is that of learning image by image, but for near-ties.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from snnjax import kernels
from snnjax.kernels import Winners
from snnjax.layers.layer_kernels import block_potentials
from snnjax.layers.spiking import Layer, at_last_step
from snnjax.networks import Majority, Model
from snnjax.networks.decision import majority
from snnjax.steps.case import Case
from snnjax.steps.plain import Carry, Found, Slice, Supervised, Task, outcome, where

BLOCK = 32
"""Images whose potentials are computed at once where deciding layers learn; it affects near-ties alone."""
_ROUNDING = 1e-5  # bound of the error of a float32 potential, relative to the largest possible one


class Strongest(NamedTuple):
    """The strongest neuron of each feature of one layer."""

    potential: jax.Array  # [B, F] or [F] float32, the largest of all positions
    place: jax.Array  # [B, F] or [F] int32, the lowest position that has it

    @classmethod
    def of(cls, potentials: jax.Array) -> "Strongest":
        """From potentials (B, F, H, W)."""
        flat = potentials.reshape(*potentials.shape[:2], -1)
        return cls(flat.max(axis=2), jnp.argmax(flat, axis=2).astype(jnp.int32))

    def winner(self, layer: Layer, size: Any) -> Winners:
        """The winner of one image, (1,), given rows and columns of the layer's input."""
        feature = jnp.argmax(self.potential)
        row, column = jnp.divmod(self.place[feature], layer.conv.output_size(size)[1])
        won = jnp.where(self.potential[feature] > 0, feature, -1)
        return Winners(*(x[None] for x in (won, row, column, jnp.int32(layer.time_steps - 1))))


class Changed(NamedTuple):
    """The features of one layer that have changed within a block of B images.

    They are kept beside the weights: a scan that both read and wrote these would copy all of them for every image.
    """

    slot: jax.Array  # [F] int32, the image whose row holds the feature's weights, -1 where they have not changed
    rise: jax.Array  # [F] float32, upper bound of the growth of any weight of the feature
    rows: jax.Array  # [B, kh, kw, C] float32, the weights that each image has changed


def _unchanged(layer: Layer, block: int) -> Changed:
    """Before the first image of a block."""
    rows, columns, features, channels = layer.stored.shape
    slot = jnp.full(features, -1, jnp.int32)
    return Changed(slot, jnp.zeros(features), jnp.zeros((block, rows, columns, channels)))


def _merged(layer: Layer, changed: Changed) -> Layer:
    """The layer with the changed features in place."""
    features = len(changed.slot)
    size = len(changed.rows)
    owner = jnp.where(changed.slot < 0, size, changed.slot)
    feature = jnp.full(size, features).at[owner].set(jnp.arange(features), mode="drop")
    weights = layer.stored.at[:, :, feature].set(jnp.moveaxis(changed.rows, 0, 2), mode="drop")
    return dataclasses.replace(layer, stored=weights)


def _strongest(layer: Layer, rows: jax.Array, spiked: jax.Array) -> Strongest:
    """The strongest neurons of features with weights (F, kh, kw, C) for one image, (1, F)."""
    changed = dataclasses.replace(layer, stored=jnp.moveaxis(rows, 0, 2))
    return Strongest.of(block_potentials(changed, spiked[None]))


def _where_needed(layer: Layer, changed: Changed, stale: Strongest, spiked: jax.Array) -> Strongest:
    """The strongest neuron of each feature for one image now, (F,), given those when the block began.

    It computes the features that have changed only where they may have become the strongest.

    A potential grows at most by the growth of a weight, times the inputs that fired.
    """
    active = jnp.sum(spiked)
    known = changed.slot < 0
    bounds = layer.conv.supervised.bounds
    margin = _ROUNDING * jnp.maximum(jnp.abs(bounds[0]), jnp.abs(bounds[1]))
    most = jnp.where(known, stale.potential, stale.potential + (changed.rise + margin) * active)

    def unknown(search: Any) -> jax.Array:
        found, known = search
        return ~known[jnp.argmax(found.potential)]

    def compute(search: Any) -> tuple[Strongest, jax.Array]:
        found, known = search
        feature = jnp.argmax(found.potential)
        exact = _strongest(layer, changed.rows[changed.slot[feature]][None], spiked)
        found = jax.tree.map(lambda old, new: old.at[feature].set(new[0, 0]), found, exact)
        return found, known.at[feature].set(True)

    return jax.lax.while_loop(unknown, compute, (Strongest(most, stale.place), known))[0]


def _update(
    layer: Layer, rates: jax.Array, changed: Changed, at: jax.Array, latency: jax.Array, winner: Winners, won: jax.Array
) -> Changed:
    """The update of `RSTDP` after outcome `won` of image `at`; `layer` at the block's start, `rates` are (2, 2)."""
    rule = layer.conv.supervised
    feature = winner.feature[0]
    rate = kernels.reward_rates(won, rates[0], rates[1])
    slot = changed.slot[feature]
    row = jnp.where(slot < 0, layer.stored[:, :, feature], changed.rows[slot])
    settings: dict[str, Any] = dict(time_steps=layer.time_steps, stride=layer.conv.stride, stabiliser=rule.stabiliser)
    row = jnp.moveaxis(row, 2, 0)[None]
    learned = kernels.learned_rows(row, layer.padded(latency), winner, rate, bounds=rule.bounds, **settings)
    largest = (rule.bounds[1] - rule.bounds[0]) ** 2 / 4 if rule.stabiliser else 1.0  # of the stabiliser's factors
    target = jnp.where((won == 0) | (feature < 0), len(changed.slot), feature)  # one beyond the last is dropped
    return Changed(
        changed.slot.at[target].set(at, mode="drop"),
        changed.rise.at[target].add(jnp.maximum(rate.max(), 0) * largest, mode="drop"),
        jax.lax.dynamic_update_index_in_dim(changed.rows, jnp.moveaxis(learned[0], 0, 2), at, 0),
    )


def strongest_of_block(layer: Layer, state: Any, spiked: jax.Array) -> Strongest:
    """The strongest neurons of each feature for a block of images, (B, F), but of those that dropout silences."""
    found = Strongest.of(block_potentials(layer, spiked))
    if (kept := state.get("kept")) is None:
        return found
    return found._replace(potential=jnp.where(kept, found.potential, -jnp.inf))


def fits(case: Case) -> bool:
    """Whether deciding layers alone learn, under `Majority`."""
    return case.only_deciding and type(case.model.decision) is Majority


def unit(task: Task) -> int:
    """The number of images in a block."""
    return BLOCK if task.batch == 1 else task.batch


def learn(task: Task, carry: Carry, model: Model | None, part: Slice) -> tuple[Carry, Found]:
    """As `plain.learn_supervised`, of deciding layers with the kernels `TAPS` and weights within the bounds.

    There must be as many images as in a block. The result depends on the size of the block in batches alone.
    """
    rule = Supervised.of(task, model, part)
    names = task.names
    block = unit(task)
    size = len(part.inputs)
    network = rule.model
    one_by_one = task.batch == 1

    def one_image(layers: dict[str, Layer], inner: Any, image: Any) -> Any:
        states, tally, changed = inner
        index, stale, latency, label, valid = image
        spiked = latency < network.time_steps
        collapsed = at_last_step(spiked, network.time_steps)
        votes: list[jax.Array] = []
        learned: dict[str, Changed] = {}
        infos: dict[str, Any] = {}
        for name, turn in rule.turns(tally).items():
            layer = layers[name]
            now = stale[name]
            if one_by_one:
                now = _where_needed(layer, changed[name], now, spiked)
            winner = now.winner(layer, latency.shape[1:])
            feature = winner.feature[0]
            votes.append(jnp.where(feature < 0, -1, feature // (layer.conv.features // network.classes)))
            won = outcome(votes[-1], label) * (valid & turn)
            learned[name] = _update(layer, states[name]["rates"], changed[name], index, collapsed, winner, won)
            infos[name] = dict(feature=jnp.where(won == 0, -1, winner.feature))
        decision = majority(jnp.stack(votes), network.classes)
        counted = rule.count_outcomes(Carry(layers, states, tally), outcome(decision, label), 1)
        return (*where(valid, counted, (states, tally)), learned), Found(infos, decision)

    def one_block(learned: Any) -> Any:
        start, carry, found = learned
        layers = carry.layers
        base = jnp.minimum(start, size - block)
        images = jax.lax.dynamic_slice_in_dim(part.inputs, base, block)
        labels = jax.lax.dynamic_slice_in_dim(part.labels, base, block)
        numbers = base + jnp.arange(block)
        valid = (numbers >= start) & (numbers < part.stop)
        spiked = images < network.time_steps
        stale = {name: strongest_of_block(layers[name], carry.states[name], spiked) for name in names}
        before = carry.states, carry.tally, {name: _unchanged(layers[name], block) for name in names}
        each = (jnp.arange(block), stale, images, labels, valid)
        (states, tally, changed), results = jax.lax.scan(functools.partial(one_image, layers), before, each)
        layers = {name: _merged(layers[name], changed[name]) for name in names}
        places = jnp.where(valid, numbers, size)  # others are dropped
        found = jax.tree.map(lambda all_, new: all_.at[places].set(new, mode="drop"), found, results)
        return base + block, Carry(layers, states, tally), found

    nothing = {name: dict(feature=jnp.zeros((size, 1), jnp.int32)) for name in names}
    begin = part.start, carry, Found(nothing, jnp.zeros(size, jnp.int32))
    _, carry, found = jax.lax.while_loop(lambda learned: learned[0] < part.stop, one_block, begin)
    return rule.end_epoch(carry, part.last), found
