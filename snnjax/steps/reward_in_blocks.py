"""`RSTDP` where only deciding layers learn, by XLA: block by block instead of image by image.

The potentials of a block of images come from one large product with the weights at its start. The few features that
change within the block are computed anew, image by image, where they may have become the strongest, since the rates
bound the change of a weight. The result is that of learning image by image, but for near-ties.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from snnjax import kernels
from snnjax.kernels import Winners, plasticity, readout
from snnjax.layers.layer_kernels import block_potentials
from snnjax.layers.spiking import Layer, at_last_step
from snnjax.networks import Model
from snnjax.networks.decision import majority
from snnjax.steps.plain import Carry, Slice, StepResult, Supervised, Task, outcome, where

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

    def among(self, kept: jax.Array | None) -> "Strongest":
        """Without the features that dropout silences, given which it keeps, (F,) bool, or None for all."""
        return self if kept is None else self._replace(potential=jnp.where(kept, self.potential, -jnp.inf))

    def winner(self, layer: Layer, size: Any) -> Winners:
        """The winner of one image, (1,), given rows and columns of the layer's input."""
        features = jnp.arange(len(self.potential))
        values = self.potential, features, self.place
        most, feature, place = readout.of_earliest(jnp.zeros(len(features)), self.potential, values)
        row, column = jnp.divmod(place, layer.conv.output_size(size)[1])
        won = jnp.where(most > 0, feature, -1)
        return Winners(*(x[None] for x in (won, row, column, jnp.int32(layer.time_steps - 1))))


def class_of(layer: Layer, feature: jax.Array) -> jax.Array:
    """The class that features of a deciding layer stand for, -1 for none."""
    return jnp.where(feature < 0, -1, feature // (layer.conv.features // layer.classes))


class Changed(NamedTuple):
    """The features of one layer that have changed within a block of B images.

    They are kept apart from the weights: a scan that both read and wrote these would copy all of them for every image.
    """

    slot: jax.Array  # [F] int32, the image whose row holds the feature's weights, -1 where they have not changed
    rise: jax.Array  # [F] float32, upper bound of the growth of any weight of the feature
    rows: jax.Array  # [B, kh, kw, C] float32, the weights that each image has changed


def _merged(layer: Layer, changed: Changed) -> Layer:
    """The layer with the changed features in place."""
    features = len(changed.slot)
    size = len(changed.rows)
    owner = jnp.where(changed.slot < 0, size, changed.slot)
    feature = jnp.full(size, features).at[owner].set(jnp.arange(features), mode="drop")
    weights = layer.stored.at[:, :, feature].set(jnp.moveaxis(changed.rows, 0, 2), mode="drop")
    return dataclasses.replace(layer, stored=weights)


def _where_needed(layer: Layer, changed: Changed, stale: Strongest, spiked: jax.Array) -> Strongest:
    """The strongest neuron of each feature for one image now, (F,), given the ones at the block's start.

    It computes the features that have changed only where they may have become the strongest.

    A potential grows at most by the growth of a weight, times the inputs that fired.
    """
    active = jnp.sum(spiked)
    current = changed.slot < 0
    bounds = layer.conv.last_learner.bounds
    margin = _ROUNDING * jnp.maximum(jnp.abs(bounds[0]), jnp.abs(bounds[1]))
    most = jnp.where(current, stale.potential, stale.potential + (changed.rise + margin) * active)

    def outdated(search: Any) -> jax.Array:
        strongest, current = search
        return ~current[jnp.argmax(strongest.potential)]

    def compute(search: Any) -> tuple[Strongest, jax.Array]:
        strongest, current = search
        feature = jnp.argmax(strongest.potential)
        row = changed.rows[changed.slot[feature]]
        exact = Strongest.of(block_potentials(dataclasses.replace(layer, stored=row[:, :, None]), spiked[None]))
        strongest = jax.tree.map(lambda old, new: old.at[feature].set(new[0, 0]), strongest, exact)
        return strongest, current.at[feature].set(True)

    return jax.lax.while_loop(outdated, compute, (Strongest(most, stale.place), current))[0]


def _update(
    layer: Layer, rates: jax.Array, changed: Changed, i: jax.Array, latency: jax.Array, winner: Winners, won: jax.Array
) -> Changed:
    """The update of `RSTDP` after outcome `won` of image `i`; `layer` at the block's start, `rates` are (2, 2)."""
    rule = layer.conv.last_learner
    feature = winner.feature[0]
    rate = kernels.reward_rates(won, rates[0], rates[1])
    slot = changed.slot[feature]
    row = jnp.where(slot < 0, layer.stored[:, :, feature], changed.rows[slot])
    learned = learned_row(layer, row, latency, winner, rate)
    largest = (rule.bounds[1] - rule.bounds[0]) ** 2 / 4 if rule.stabiliser else 1.0  # of the stabiliser's factors
    target = jnp.where((won == 0) | (feature < 0), len(changed.slot), feature)  # one beyond the last is dropped
    return Changed(
        changed.slot.at[target].set(i, mode="drop"),
        changed.rise.at[target].add(jnp.maximum(rate.max(), 0) * largest, mode="drop"),
        jax.lax.dynamic_update_index_in_dim(changed.rows, learned, i, 0),
    )


def learned_row(layer: Layer, row: jax.Array, latency: jax.Array, winner: Winners, rate: jax.Array) -> jax.Array:
    """The weights of the winner's feature, (kh, kw, C), after the update of `RSTDP` with rates (2,)."""
    rule = layer.conv.last_learner
    learned = plasticity.learned_rows(
        jnp.moveaxis(row, 2, 0)[None],
        layer.padded(latency),
        winner,
        rate,
        time_steps=layer.time_steps,
        bounds=rule.bounds,
        stabiliser=rule.stabiliser,
        stride=layer.conv.stride,
    )
    return jnp.moveaxis(learned[0], 0, 2)


def unit(task: Task) -> int:
    """The number of images in a block."""
    return BLOCK if task.batch == 1 else task.batch


def learn(task: Task, carry: Carry, model: Model, part: Slice) -> tuple[Carry, StepResult]:
    """As `plain.learn_supervised`, of deciding layers with the kernels `TAPS` and weights within the bounds.

    There must be as many images as in a block. The result depends on the size of the block in batches alone.
    """
    rule = Supervised(task, model, part.batch_size)
    block = unit(task)

    def learn_block(carry: Carry, span: Slice) -> tuple[Carry, StepResult]:
        spiked = span.inputs < model.network.time_steps
        stale = {}
        unchanged = {}
        for name, layer in carry.layers.items():
            stale[name] = Strongest.of(block_potentials(layer, spiked)).among(carry.states[name].get("kept"))
            rows, columns, features, channels = layer.stored.shape
            slot = jnp.full(features, -1, jnp.int32)
            unchanged[name] = Changed(slot, jnp.zeros(features), jnp.zeros((block, rows, columns, channels)))
        xs = (jnp.arange(block), stale, span.inputs, span.labels, span.shown)
        learn_image = functools.partial(_learn_image, rule, carry.layers)
        after, result = jax.lax.scan(learn_image, (carry.states, carry.tally, unchanged), xs)
        states, tally, changed = after
        layers = {name: _merged(layer, changed[name]) for name, layer in carry.layers.items()}
        return Carry(layers, states, tally), result

    carry, result = _run_blocks(learn_block, carry, part, block)
    return rule.end_epoch(carry, part.last), result


def _learn_image(rule: Supervised, layers: dict[str, Layer], inner: Any, image: Any) -> Any:
    """Learns from one image of a block at whose beginning `layers` were."""
    states, tally, changed = inner
    index, stale, latency, label, shown = image
    spiked = latency < rule.model.network.time_steps
    collapsed = at_last_step(spiked, rule.model.network.time_steps)
    votes: list[jax.Array] = []
    learned: dict[str, Changed] = {}
    infos: dict[str, Any] = {}
    for name, turn in rule.turns(tally).items():
        layer = layers[name]
        now = stale[name]
        if rule.task.batch == 1:
            now = _where_needed(layer, changed[name], now, spiked)
        winner = now.winner(layer, latency.shape[1:])
        votes.append(class_of(layer, winner.feature[0]))
        won = outcome(votes[-1], label) * (shown & turn)
        learned[name] = _update(layer, states[name]["rates"], changed[name], index, collapsed, winner, won)
        infos[name] = dict(feature=jnp.where(won == 0, -1, winner.feature))
    decision = majority(jnp.stack(votes), rule.model.network.classes)
    counted = rule.count_outcomes(Carry(layers, states, tally), outcome(decision, label), 1)
    return (*where(shown, counted, (states, tally)), learned), StepResult(infos, decision)


def learn_within_batches(
    teach: Callable[[Supervised, Carry, Slice], tuple[dict[str, Layer], StepResult]],
    block: int,
    rule: Supervised,
    carry: Carry,
    part: Slice,
) -> tuple[Carry, StepResult]:
    """Learns block by block: decisions are counted after each, which ends where a batch does, since rates change there.

    `teach`, of (rule, carry, slice), gives the layers after a block, and the results for its images.
    """

    def learn_block(carry: Carry, span: Slice) -> tuple[Carry, StepResult]:
        layers, result = teach(rule, carry, span)
        outcomes = jnp.where(span.shown, outcome(result.decisions, span.labels), 0)
        carry = Carry(layers, carry.states, carry.tally)
        states, tally = rule.count_outcomes(carry, outcomes, span.stop - span.start)
        return Carry(layers, states, tally), result

    carry, result = _run_blocks(learn_block, carry, part, block, within_batches=True)
    return rule.end_epoch(carry, part.last), result


def teach_deciding(
    learn_layer: Callable[..., tuple[Layer, jax.Array, jax.Array]], rule: Supervised, carry: Carry, part: Slice
) -> tuple[dict[str, Layer], StepResult]:
    """Deciding layers learn, each by its own votes, if it is their turn.

    `learn_layer`, of (layer, state, slice, turn), gives the layer, its votes (S,), and the feature that learned from
    each image, (S,), -1 for none.
    """
    layers: dict[str, Layer] = {}
    votes: list[jax.Array] = []
    infos: dict[str, Any] = {}
    for name, turn in rule.turns(carry.tally).items():
        layers[name], vote, feature = learn_layer(carry.layers[name], carry.states[name], part, turn)
        votes.append(vote)
        infos[name] = dict(feature=feature[:, None])
    return layers, StepResult(infos, jax.vmap(majority, (1, None))(jnp.stack(votes), rule.model.network.classes))


def _run_blocks(
    learn_block: Callable[[Carry, Slice], tuple[Carry, StepResult]],
    carry: Carry,
    part: Slice,
    block: int,
    within_batches: bool = False,
) -> tuple[Carry, StepResult]:
    """The carry after all blocks of a slice, and the results for its images, of which there must be B at least.

    `within_batches`: no block reaches beyond the end of a batch.
    """
    size = len(part.inputs)

    def one_block(state: Any) -> Any:
        start, carry, result = state
        stop = jnp.minimum(start + block, part.stop)
        if within_batches:
            stop = jnp.minimum(stop, start + part.batch_size - carry.tally.seen)
        base = jnp.minimum(start, size - block)
        cut = functools.partial(jax.lax.dynamic_slice_in_dim, start_index=base, slice_size=block)
        span = Slice(cut(part.inputs), start - base, stop - base, part.last, cut(part.labels), part.batch_size)
        carry, new = learn_block(carry, span)
        new = jax.vmap(where)(span.shown, new, jax.tree.map(cut, result))
        put = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=base, axis=0)
        return stop, carry, jax.tree.map(put, result, new)

    first = part._replace(inputs=part.inputs[:block], labels=part.labels[:block])
    _, new = jax.eval_shape(learn_block, carry, first)
    nothing = jax.tree.map(lambda x: jnp.zeros((size, *x.shape[1:]), x.dtype), new)
    _, carry, result = jax.lax.while_loop(lambda state: state[0] < part.stop, one_block, (part.start, carry, nothing))
    return carry, result
