"""Learning by reward: R-STDP of the decision layers, and of earlier layers that have a rule for it.

Two forms of an epoch with the same result. `reward_images` makes one full step after the other and works for
every network. `reward_blocks` is for networks whose last stage alone learns, with weights within their bounds:
it computes the potentials of a block of images by one large product. The few features that change within the block are
looked at anew, image by image; on a CPU only where they may have become the strongest, since the rates say how far an
update can move a weight.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from snnjax import devices, kernels
from snnjax.kernels import Winners
from snnjax.layers import RSTDP, SpikingConv, spiked_to_latency
from snnjax.networks import Network, SpikingNetwork
from snnjax.training.progress import reporting_scan

_ROUNDING = 1e-5
"""Room for the error of a float32 potential, as a part of the largest that there could be."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RewardState:
    """What the reward phase carries from image to image. L layers learn."""

    weights: nnx.State | None  # of the layers that learn; None while they are kept apart
    base: jax.Array  # [L, 2, 2] float32: (a+, a-) after reward, then after punishment, which the rates derive from
    rates: jax.Array  # [L, 2, 2] float32: the rates of this batch
    correct: jax.Array  # [] int32, in this batch so far
    wrong: jax.Array  # [] int32
    seen: jax.Array  # [] int32
    batch: jax.Array  # [] int32, batches done in all epochs
    epoch: jax.Array  # [] int32


def rewarded(spec: Network) -> tuple[str, ...]:
    """Names of the layers that learn by reward, in order."""
    return tuple(name for _, name, layer in spec.layers() if layer.rstdp is not None)


def split(network: SpikingNetwork) -> tuple[nnx.GraphDef[SpikingNetwork], nnx.State, nnx.State]:
    """A network as its structure, the weights that learn by reward, and the frozen ones."""
    names = rewarded(network.spec)
    return nnx.split(network, lambda path, _: path[0] in names, ...)  # type: ignore[return-value]


def base_rates(spec: Network) -> jax.Array:
    """(L, 2, 2) float32, the rates (a+, a-) after reward and after punishment of each layer that learns."""
    rules = [layer.rstdp for _, _, layer in spec.layers() if layer.rstdp is not None]
    return jnp.array([[rule.reward, rule.punish] for rule in rules], jnp.float32)


def initial_state(network: SpikingNetwork) -> RewardState:
    """The state before the first image, with base rates and a copy of the network's weights."""
    learning, base = jax.tree.map(jnp.array, split(network)[1]), base_rates(network.spec)
    return RewardState(learning, base, base, *(jnp.int32(0) for _ in range(5)))


def within_bounds(network: SpikingNetwork) -> jax.Array:
    """Whether the weights of all layers that learn by reward lie within their bounds, () bool."""
    weights = [(layer.weights(), *rule.bounds) for layer, rule in plastic(network)]
    return jnp.all(jnp.array([jnp.all((w >= lower) & (w <= upper)) for w, lower, upper in weights]))


def _turns(spec: Network, layers: int, epoch: jax.Array, batch: jax.Array) -> jax.Array:
    """Which of the layers learn in this batch, (L,) bool."""
    if not spec.reward_by_turns:
        return jnp.ones(layers, bool)
    first = epoch + batch % 2 == 0
    return jnp.where(jnp.arange(layers) == 0, first, ~first)


def _count(spec: Network, state: RewardState, outcome: jax.Array, valid: jax.Array, batch_size: jax.Array) -> Any:
    """Counts one outcome, and adapts the rates after the last image of a batch."""
    state = dataclasses.replace(
        state,
        correct=state.correct + (valid & (outcome > 0)),
        wrong=state.wrong + (valid & (outcome < 0)),
        seen=state.seen + valid,
    )
    adapted = adapt(spec, state)
    full = state.seen == batch_size
    return jax.tree.map(lambda new, old: jnp.where(full, new, old), adapted, state)


def adapt(spec: Network, state: RewardState) -> RewardState:
    """Ends a batch: reward rates become base times the fraction wrong, punish rates base times the fraction correct."""
    seen = jnp.maximum(state.seen, 1)
    fractions = jnp.stack([state.wrong / seen, state.correct / seen]).astype(jnp.float32)
    adapted = kernels.adapted_rates(state.base, fractions[None, :, None])
    turns = _turns(spec, state.rates.shape[0], state.epoch, state.batch + 1)
    zero = jnp.zeros_like(state.seen)
    return dataclasses.replace(
        state,
        rates=jnp.where(turns[:, None, None], adapted, state.rates),
        correct=zero,
        wrong=zero,
        seen=zero,
        batch=state.batch + 1,
    )


def _outcome(decision: jax.Array, label: jax.Array) -> jax.Array:
    """1 correct, -1 wrong, 0 silent."""
    return jnp.where(decision < 0, 0, jnp.where(decision == label, 1, -1))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Looked:
    """The network's response to one image before it learns from it. L layers learn, the decision layers last."""

    decision: jax.Array  # [] int32
    votes: jax.Array  # [decision layers] int32
    seen: list[jax.Array]  # [L] of (C, H, W) the latencies that enter each layer
    winners: list[Winners]  # [L]


def plastic(network: SpikingNetwork) -> list[tuple[SpikingConv, RSTDP]]:
    """The layers that learn by reward, in order, with their rules."""
    layers = [(getattr(network, name), layer.rstdp) for _, name, layer in network.spec.layers()]
    return [(layer, rule) for layer, rule in layers if rule is not None]


def look(network: SpikingNetwork, inputs: jax.Array) -> Looked:
    """The winners of each layer that learns, and the decision.

    Args:
      network: its weights stay as they are.
      inputs: (C, H, W) what enters the first stage that learns: latencies, or bool (who fired) if it is the last one.
    """
    spec, last = network.spec, len(network.spec.stages) - 1
    seen, winners = [], []
    at, latency = spec.first_rewarded, inputs
    # Times matter up to the last of the earlier stages that learn, from there on only who fires.
    for number in (number for number, _, layer in spec.layers() if layer.rstdp is not None and number < last):
        while at < number:
            latency, at = network.respond(at, latency), at + 1
        for layer in network.branches(number):
            if layer.spec.rstdp is not None:
                seen.append(latency)
                winners.append(layer.winners(latency))
    earlier = len(seen)
    spiked = inputs if inputs.dtype == bool else network.reach(at, last, latency)
    latency = spiked_to_latency(spiked, time_steps=spec.time_steps)
    for layer in network.branches(last):
        seen.append(latency)
        winners.append(layer.decide(layer.final_potentials(spiked)))
    votes = network.votes(winners[earlier:])
    return Looked(network.decision(votes), votes, seen, winners)


def reward_step(
    network: SpikingNetwork,
    rates: jax.Array,
    looked: Looked,
    label: jax.Array,
    learns: jax.Array,
    learn: str = "learn",
) -> None:
    """Reward or punishment of one image: an update of every layer that learns.

    Earlier layers are rewarded by the network's decision, each decision layer by its own vote.

    Args:
      network: its weights are updated in place.
      rates: (L, 2, 2) float32.
      looked: what the image came to.
      label: () int32.
      learns: (L,) bool.
      learn: how: "learn_within", as the method of `SpikingConv`, is faster where all weights lie within their bounds.
    """
    layers = plastic(network)
    earlier = len(layers) - len(looked.votes)
    outcomes = jnp.concatenate([jnp.full(earlier, _outcome(looked.decision, label)), _outcome(looked.votes, label)])
    for index, (layer, rule) in enumerate(layers):
        outcome, winners = outcomes[index] * learns[index], looked.winners[index]
        won = dataclasses.replace(winners, feature=jnp.where(outcome == 0, -1, winners.feature))
        getattr(layer, learn)(looked.seen[index], won, kernels.reward_rates(outcome, *rates[index]), rule)


def _report(xs: tuple[jax.Array, ...], decisions: jax.Array) -> tuple[jax.Array, jax.Array]:
    _, labels, valid = xs
    return valid.sum(), (valid & (decisions == labels)).sum()


@functools.partial(jax.jit, static_argnames=("graphdef", "within"))
def reward_images(
    graphdef: nnx.GraphDef[SpikingNetwork],
    state: RewardState,
    frozen: nnx.State,
    inputs: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
    batch_size: jax.Array,
    within: bool = False,
) -> tuple[RewardState, jax.Array]:
    """Learns by `look` and `reward_step`, for any network.

    B images are looked at with the same weights, then their updates are applied in order; with B = 1 each image learns
    from what all before it have left.

    Args:
      graphdef: with the weights in `state` and `frozen`, what `split` makes of a network.
      state: is carried on.
      frozen: weights that do not learn.
      inputs: (reports, n, B, C, H, W) what enters the first stage that learns.
      labels: (reports, n, B) int32.
      valid: (reports, n, B) bool, False for images to pass over.
      batch_size: () int32, images after which the rates adapt.
      within: all weights lie within their bounds, which saves much of the work.

    Returns:
      The new state and the decisions, (reports * n, B) int32.
    """
    learn = "learn_within" if within else "learn"
    spec = nnx.merge(graphdef, state.weights, frozen).spec

    def learn_one(state: RewardState, image: tuple[Looked, jax.Array, jax.Array]) -> tuple[RewardState, jax.Array]:
        looked, label, valid = image
        network = nnx.merge(graphdef, state.weights, frozen)
        learns = valid & _turns(spec, state.rates.shape[0], state.epoch, state.batch)
        reward_step(network, state.rates, looked, label, learns, learn)
        counters = dataclasses.replace(state, weights=None)
        counters = _count(spec, counters, _outcome(looked.decision, label), valid, batch_size)
        return dataclasses.replace(counters, weights=split(network)[1]), looked.decision

    def step(state: RewardState, images: tuple[jax.Array, ...]) -> tuple[RewardState, jax.Array]:
        inputs, labels, valid = images
        network = nnx.merge(graphdef, state.weights, frozen)
        looked = devices.map_images(functools.partial(look, network), inputs)
        return jax.lax.scan(learn_one, state, (looked, labels, valid))

    return reporting_scan(step, state, (inputs, labels, valid), report=_report)


@functools.partial(jax.jit, static_argnames=("graphdef", "together"))
def reward_blocks(
    graphdef: nnx.GraphDef[SpikingNetwork],
    state: RewardState,
    frozen: nnx.State,
    spiked: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
    batch_size: jax.Array,
    together: bool = False,
) -> tuple[RewardState, jax.Array]:
    """As `reward_images`, block by block: for networks whose last stage alone learns, with weights within bounds.

    Args:
      graphdef: as in `reward_images`.
      state: is carried on.
      frozen: weights that do not learn.
      spiked: (reports, blocks, B, C, H, W) bool, who fired of the inputs of the last stage.
      labels: (reports, blocks, B) int32.
      valid: (reports, blocks, B) bool, False for images to pass over.
      batch_size: () int32, images after which the rates adapt.
      together: all images of a block are looked at with the weights at its start, as in `reward_images`; otherwise
        each learns from what all before it have left, and the result does not depend on B.

    Returns:
      The new state and the decisions, (reports * blocks, B) int32.
    """
    network = nnx.merge(graphdef, state.weights, frozen)
    layers = network.branches(len(network.spec.stages) - 1)
    size = spiked.shape[2]

    def block(carry: Any, images: tuple[jax.Array, ...]) -> Any:
        # Within a block the weights stay as they are, and the features that change are kept beside them: a scan that
        # both read and wrote the weights would copy all of them for every image.
        counters, taps = carry
        potentials = [
            layer.final_potentials_of_block(images[0], each) for layer, each in zip(layers, taps, strict=True)
        ]
        stale = [_Stale.of(each) for each in potentials]
        changed = [_Changed.nothing(each, size) for each in taps]
        step = functools.partial(_block_step, network, taps, batch_size, together)
        (counters, changed), decisions = jax.lax.scan(step, (counters, changed), (jnp.arange(size), stale, *images))
        taps = [rows.merged(each) for each, rows in zip(taps, changed, strict=True)]
        return (counters, taps), decisions

    carry = (dataclasses.replace(state, weights=None), network.decision_taps())
    (counters, taps), decisions = reporting_scan(block, carry, (spiked, labels, valid), report=_report)
    for layer, each in zip(layers, taps, strict=True):
        layer.set_weights(jnp.moveaxis(each, (0, 1), (2, 3)))
    return dataclasses.replace(counters, weights=split(network)[1]), decisions


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Stale:
    """What each feature of one layer had to show for each image of a block when the block began."""

    potential: jax.Array  # [B, F] or [F] float32, the largest of all positions
    place: jax.Array  # [B, F] or [F] int32, the lowest position that has it

    @classmethod
    def of(cls, potentials: jax.Array) -> "_Stale":
        """From potentials (B, F, H, W)."""
        flat = potentials.reshape(*potentials.shape[:2], -1)
        return cls(flat.max(axis=2), jnp.argmax(flat, axis=2).astype(jnp.int32))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Changed:
    """The features of one layer that have changed within a block of B images."""

    slot: jax.Array  # [F] int32, the image whose row holds the feature's weights, -1 where they have not changed
    rise: jax.Array  # [F] float32, the most by which any weight of the feature can have grown
    rows: jax.Array  # [B, kh, kw, C] float32, the weights that each image has changed

    @classmethod
    def nothing(cls, taps: jax.Array, size: int) -> "_Changed":
        """Before the first image of a block of `size`; `taps` are the layer's, (kh, kw, F, C)."""
        rows, columns, features, channels = taps.shape
        slot, rise = jnp.full(features, -1, jnp.int32), jnp.zeros(features, taps.dtype)
        return cls(slot, rise, jnp.zeros((size, rows, columns, channels), taps.dtype))

    def row(self, feature: jax.Array, taps: jax.Array) -> jax.Array:
        """The present weights of a feature, (kh, kw, C), given the layer's at the start of the block."""
        slot = self.slot[feature]
        return jnp.where(slot < 0, taps[:, :, feature], self.rows[slot])

    def note(self, at: jax.Array, feature: jax.Array, row: jax.Array, growth: jax.Array) -> "_Changed":
        """Notes a feature's new weights as those of image `at`; feature -1 notes nothing."""
        beyond = jnp.where(feature < 0, len(self.slot), feature)
        return _Changed(
            self.slot.at[beyond].set(at, mode="drop"),
            self.rise.at[beyond].add(growth, mode="drop"),
            self.rows.at[at].set(row),
        )

    def merged(self, taps: jax.Array) -> jax.Array:
        """The layer's weights, (kh, kw, F, C), with the changed features in place."""
        features, size = len(self.slot), len(self.rows)
        owner = jnp.where(self.slot < 0, size, self.slot)
        feature = jnp.full(size, features).at[owner].set(jnp.arange(features), mode="drop")
        return taps.at[:, :, feature].set(jnp.moveaxis(self.rows, 0, 2), mode="drop")


def _look_again(layer: SpikingConv, changed: _Changed, stale: _Stale, spiked: jax.Array) -> _Stale:
    """What the features have to show for one image now, (F,), given what it was when the block began."""
    forms = dict(cpu=functools.partial(_look_where_needed, layer), default=functools.partial(_look_at_all, layer))
    return jax.lax.platform_dependent(changed, stale, spiked, **forms)


def _strongest(layer: SpikingConv, present: _Stale, spiked: jax.Array) -> Winners:
    """The winner of one image."""
    feature = jnp.argmax(present.potential)
    _, height, width = spiked.shape
    row, column = jnp.divmod(present.place[feature], layer.spec.output_size((height, width))[1])
    won = jnp.where(present.potential[feature] > 0, feature, -1)
    return Winners(*(x[None] for x in (won, row, column, jnp.int32(layer.time_steps - 1))))


def _look_at_all(layer: SpikingConv, changed: _Changed, stale: _Stale, spiked: jax.Array) -> _Stale:
    """Looks at all features that have changed: without a loop that depends on data, as accelerators like it."""
    exact = _Stale.of(layer.final_potentials_of_block(spiked[None], jnp.moveaxis(changed.rows, 0, 2)))
    return jax.tree.map(lambda new, old: jnp.where(changed.slot < 0, old, new[0, changed.slot]), exact, stale)


def _look_where_needed(layer: SpikingConv, changed: _Changed, stale: _Stale, spiked: jax.Array) -> _Stale:
    """Looks at the features that have changed only where they may have become the strongest.

    A potential grows at most by the growth of a weight, times the inputs that fired.
    """
    assert layer.spec.rstdp is not None  # `Network` sees to it
    active = jnp.sum(spiked)
    known = changed.slot < 0
    margin = _ROUNDING * max(map(abs, layer.spec.rstdp.bounds))
    most = jnp.where(known, stale.potential, stale.potential + (changed.rise + margin) * active)

    def unknown(search: tuple[_Stale, jax.Array]) -> jax.Array:
        present, known = search
        return ~known[jnp.argmax(present.potential)]

    def look(search: tuple[_Stale, jax.Array]) -> tuple[_Stale, jax.Array]:
        present, known = search
        feature = jnp.argmax(present.potential)
        row = changed.rows[changed.slot[feature]]
        exact = _Stale.of(layer.final_potentials_of_block(spiked[None], row[:, :, None]))
        present = jax.tree.map(lambda old, new: old.at[feature].set(new[0, 0]), present, exact)
        return present, known.at[feature].set(True)

    return jax.lax.while_loop(unknown, look, (_Stale(most, stale.place), known))[0]


def _block_step(
    network: SpikingNetwork, taps: list[jax.Array], batch_size: jax.Array, together: bool, carry: Any, image: Any
) -> tuple[Any, jax.Array]:
    """One image of a block, given the weights and potentials at the start of the block."""
    (counters, changed), (at, stale, spiked, label, valid) = carry, image
    spec = network.spec
    layers = network.branches(len(spec.stages) - 1)
    if not together:
        stale = [_look_again(*each, spiked) for each in zip(layers, changed, stale, strict=True)]
    won = [_strongest(layer, each, spiked) for layer, each in zip(layers, stale, strict=True)]
    votes = network.votes(won)
    decision = network.decision(votes)
    latency = spiked_to_latency(spiked, time_steps=spec.time_steps)
    outcomes = _outcome(votes, label) * (valid & _turns(spec, len(layers), counters.epoch, counters.batch))
    changed = [
        _learn_in_block(layer, each, rows, at, latency, winner, outcome, rates)
        for layer, each, rows, winner, outcome, rates in zip(
            layers, taps, changed, won, outcomes, counters.rates, strict=True
        )
    ]
    return (_count(spec, counters, _outcome(decision, label), valid, batch_size), changed), decision


def _learn_in_block(
    layer: SpikingConv,
    taps: jax.Array,
    changed: _Changed,
    at: jax.Array,
    latency: jax.Array,
    winner: Winners,
    outcome: jax.Array,
    rates: jax.Array,
) -> _Changed:
    rule = layer.spec.rstdp
    assert rule is not None  # `Network` sees to it
    rates = kernels.reward_rates(outcome, *rates)
    row = jnp.moveaxis(changed.row(winner.feature[0], taps), 2, 0)[None]
    learned = layer.learned_rows(row, latency, winner, rates, rule)
    stretch = (rule.bounds[1] - rule.bounds[0]) ** 2 / 4 if rule.stabiliser else 1.0  # the most that it multiplies by
    growth = jnp.maximum(rates.max(), 0) * stretch
    return changed.note(at, jnp.where(outcome == 0, -1, winner.feature[0]), jnp.moveaxis(learned[0], 0, 2), growth)


def end_epoch(spec: Network, state: RewardState) -> RewardState:
    """Ends an epoch: the last batch, if it is short, adapts the rates too."""
    state = jax.tree.map(functools.partial(jnp.where, state.seen > 0), adapt(spec, state), state)
    return dataclasses.replace(state, epoch=state.epoch + 1)


@functools.partial(jax.jit, static_argnames=("graphdef", "together"))
def reward_epoch(
    graphdef: nnx.GraphDef[SpikingNetwork],
    state: RewardState,
    frozen: nnx.State,
    inputs: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
    batch_size: jax.Array,
    together: bool = False,
) -> tuple[RewardState, jax.Array]:
    """One epoch of learning by reward as one program, by the faster of the two forms that suits the network.

    Args:
      graphdef: with the weights in `state` and `frozen`, what `split` makes of a network.
      state: is carried on.
      frozen: weights that do not learn.
      inputs: (reports, n, B, C, H, W) what enters the first stage that learns: bool if it is the last one.
      labels: (reports, n, B) int32.
      valid: (reports, n, B) bool, False for images to pass over.
      batch_size: () int32, images after which the rates adapt.
      together: B images are looked at with the same weights; otherwise B decides nothing but near-ties, and must be 1
        for networks in which earlier stages learn.

    Returns:
      The new state and the decisions, (reports * n * B,) int32.
    """
    reports, blocks, size = valid.shape
    fast = reward_blocks if inputs.dtype == bool else reward_images
    within: dict[str, bool] = dict(together=together) if inputs.dtype == bool else dict(within=True)
    flat = jax.tree.map(lambda x: x.reshape(reports * blocks, *x.shape[2:]), (inputs, labels, valid))
    single = (1, 1, size) if together else (1, size, 1)

    # Initial weights outside the bounds are pulled in by the first update. Until then images are learned from in the
    # general form.
    def outside(carry: Any) -> jax.Array:
        state, at, _ = carry
        return (at < reports * blocks) & ~within_bounds(nnx.merge(graphdef, state.weights, frozen))

    def enter(carry: Any) -> Any:
        state, at, decisions = carry
        block = jax.tree.map(lambda x: x[at].reshape(*single, *x.shape[2:]), flat)
        state, decided = reward_images(graphdef, state, frozen, *block, batch_size)
        return state, at + 1, decisions.at[at].set(decided.ravel())

    nothing = jnp.full((reports * blocks, size), -1, jnp.int32)
    state, start, early = jax.lax.while_loop(outside, enter, (state, jnp.int32(0), nothing))
    left = jnp.arange(reports * blocks) >= start
    rest = (inputs, labels, valid & left.reshape(reports, blocks, 1))
    state, decided = fast(graphdef, state, frozen, *rest, batch_size, **within)
    spec = nnx.merge(graphdef, state.weights, frozen).spec
    return end_epoch(spec, state), jnp.where(left[:, None], decided, early).ravel()
