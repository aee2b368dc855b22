"""Learning by reward as a plain loop over images, and networks, images and steps to hold against it.

Weights and rates are multiples of powers of two and batches hold a power of two images, so every sum and every adapted
rate is exact: all ways to learn must agree to the last bit, whatever the order in which they add.
"""

import collections
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import judge
import numpy as np

from snnjax import kernels
from snnjax.encoding import GABOR
from snnjax.layers.conv import WTA, Conv
from snnjax.learners import RSTDP, STDP, DecisionCounts
from snnjax.networks import Majority, Model, Network, SpikingNetwork, stage
from snnjax.training.job import Phase
from snnjax.training.learning import Carry, ImageBatch, learn_deciding, learn_pair, learn_supervised

T = 15
CLASSES = 3
RULE = RSTDP(reward=(4 / 1024, -3 / 1024), punish=(-4 / 1024, 1 / 1024), bounds=(0.25, 0.75))
QUICK = dataclasses.replace(RULE, reward=(64 / 1024, -32 / 1024), punish=(-64 / 1024, 16 / 1024), bounds=(0.0, 1.0))
ONE = stage(Conv(9, kernel=3, padding=1, weight_mean=0.75, learners=RULE))
THREE = stage(*(Conv(6, kernel=kernel, padding=1, weight_mean=0.75, learners=RULE) for kernel in (1, 2, 4)))
EARLIER = Conv(5, kernel=3, threshold=5, competition=WTA(3), learners=(STDP(), QUICK))
BEFORE = stage(Conv(4, kernel=2, threshold=1, learners=STDP()))
DEEP = (BEFORE, stage(EARLIER), ONE)
BESIDE = Conv(4, 5, padding=1, threshold=12, competition=WTA(2), learners=dataclasses.replace(QUICK, dropout=0.5))
WIDE = (BEFORE, stage(EARLIER, BESIDE), ONE)
"""Two layers side by side learn by reward, one of them by reward alone, with dropout."""
ALL = dict(dropout=0.25, floor=0.25, by_epoch=True)
"""All settings of a rule that are off by default."""


def network_of(*stages, dyadic=(256, 768), by_turns=False, decision=None) -> SpikingNetwork:
    """A network with weights of `dyadic` / 1024; what enters the layers that learn is given, and never encoded."""
    how = dict(encoder=dataclasses.replace(GABOR, pool=None), decision=decision or Majority())
    network = Network("small", (4, 6, 6), CLASSES, stages, T, reward_by_turns=by_turns, **how)
    rng = np.random.default_rng(0)
    weights = {name: np.float32(rng.integers(*dyadic, shape) / 1024) for name, shape in network.weight_shapes.items()}
    return SpikingNetwork(network, weights=weights)


def images_of(network: SpikingNetwork, silent: slice = slice(10, 20, 3)) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of the first stage that learns by reward, some of them silent, and labels that follow from them."""
    shape, rng = network.network.input_shapes[network.network.first_supervised], np.random.default_rng(1)
    labels = rng.integers(0, CLASSES, 68, np.int32)  # in batches of 8 or 16, the last batch is one of 4
    latencies = rng.integers(0, 5 * T, (68, *shape))
    bright = np.arange(shape[0]) % CLASSES == labels[:, None]
    latencies[bright] //= 5
    latencies = latencies.clip(max=T).astype(np.uint8)
    latencies[silent] = T
    return latencies, labels


def rule_of(conv: Conv) -> RSTDP | None:
    """The rule by which a layer learns by reward."""
    return next((each for each in conv.each_learner if each.supervised), None)


@dataclasses.dataclass
class Judged:
    """What the loop has learned."""

    weights: dict[str, np.ndarray]
    rates: np.ndarray
    decisions: list[list[int]]  # epochs, images


def judged(network, inputs, labels, batch_size: int, epochs: int, batched: int = 1, kept=None) -> Judged:
    """The reward phase as described: image after image, batch after batch; so many are decided by the same weights.

    `kept`: for each epoch, by layer, the features that may fire.
    """
    description = network.network
    rules = {name: rule_of(conv) for _, name, conv in description.layers() if rule_of(conv)}
    guessing = [(1, 1) if rule.floor is None else (1 - 1 / CLASSES, 1 / CLASSES) for rule in rules.values()]
    first = np.stack([rates(rule, *shares) for rule, shares in zip(rules.values(), guessing, strict=True)])
    result = Judged({name: np.float64(w) for name, w in network.weights().items()}, first, [])
    for name, rule in rules.items():
        result.weights[name] = np.clip(result.weights[name], *rule.bounds)
    batch = 0

    def learns(index: int, epoch: int, batch: int) -> bool:
        turn_of_the_first = epoch == 0 and batch % 2 == 0
        return not description.reward_by_turns or (index == 0) == turn_of_the_first

    for epoch in range(epochs):
        result.decisions.append([])
        for start in range(0, len(labels), batch_size):
            right = labels[start : start + batch_size]
            for number, label in enumerate(right, start):
                if (number - start) % batched == 0:
                    group = inputs[number : min(number + batched, start + batch_size)]
                    left = (kept or [{}] * epochs)[epoch]
                    looked = [judged_decision(description, result.weights, latency, left) for latency in group]
                decision, plastic = looked[(number - start) % batched]
                result.decisions[-1].append(decision)
                for index, (name, seen, winners, vote) in enumerate(plastic):
                    if vote >= 0 and learns(index, epoch, batch):
                        now, rule = result.rates[index][0 if vote == label else 1], rules[name]
                        how = now, T, rule.bounds, rule.stabiliser
                        result.weights[name] = judge.stdp(result.weights[name], seen, winners, *how)
            ends = start + batch_size >= len(labels)
            for index, rule in enumerate(rules.values()):
                since = 0 if rule.by_epoch else start
                due = ends if rule.by_epoch else learns(index, epoch, batch + 1)
                if due:
                    made, right = np.array(result.decisions[-1][since:]), labels[since : start + batch_size]
                    wrong = np.mean((made >= 0) & (made != right))
                    result.rates = result.rates.copy()
                    result.rates[index] = rates(rule, wrong, np.mean(made == right))
            batch += 1
    return result


def rates(rule: RSTDP, wrong: float, right: float) -> np.ndarray:
    """The rates after these fractions of decisions, (2, 2)."""
    shares = np.array([wrong, right])
    if rule.floor is not None:
        shares = rule.floor + (1 - rule.floor) * shares
    return np.array([rule.reward, rule.punish]) * shares[:, None]


def judged_decision(network: Network, weights: dict[str, np.ndarray], latency: np.ndarray, kept=None):
    """Decision, and for each layer that learns: name, what it saw, its winners, the vote that counts."""
    kept = {name: (kept or {}).get(name, np.ones(len(x), bool))[:, None, None] for name, x in weights.items()}
    if network.decision.timed:
        return judged_first(network, weights, latency, kept)
    plastic, votes, last = [], [], len(network.stages) - 1
    for number, (names, each) in enumerate(zip(network.names, network.stages, strict=True)):
        outputs = []
        for name, conv in zip(names, each.branches, strict=True) if number >= network.first_supervised else ():
            seen = judge.pad(latency, (conv.padding, conv.padding), T)
            if number == last:  # the last step is all that counts
                spikes = judge.fire(judge.potentials(seen // T, weights[name], 1) * kept[name], None)
                winners = [(winner, T - 1) for winner in judge.k_winners(*spikes, 1, 0, 1)]
                votes.append(winners[0][0][0] * CLASSES // conv.features if winners else -1)
            else:
                fired, potential = judge.fire(judge.potentials(seen, weights[name], T), conv.threshold)
                left = judge.pointwise_inhibition(np.where(kept[name], fired, T), potential, T)
                found = judge.k_winners(*left, conv.competition.winners, conv.competition.radius, T)
                winners = [(w, fired[w]) for w in found]
                outputs.append(fired)
            plastic.append((name, seen, winners, number == last))
        latency = np.concatenate(outputs) if outputs else latency
    counts = collections.Counter(vote for vote in votes if vote >= 0).most_common(1)
    decision = counts[0][0] if counts and counts[0][1] >= 2 else votes[len(votes) // 2]
    own = iter(votes)
    return decision, [(*layer, next(own) if decides else decision) for *layer, decides in plastic]


def judged_first(network: Network, weights: dict[str, np.ndarray], latency: np.ndarray, kept):
    """`judged_decision` by the earliest, then strongest neuron of deciding layers, which are all there is."""
    plastic, firsts = [], []
    for name, conv in zip(network.names[0], network.stages[0].branches, strict=True):
        seen = judge.pad(latency, (conv.padding, conv.padding), T)
        potential = judge.potentials(seen, weights[name], T) * kept[name]
        fired, at_spike = judge.fire(potential, conv.threshold)
        (winner,) = judge.k_winners(fired, at_spike, 1, 0, T) or [None]
        if winner:
            first = (fired[winner], -at_spike[winner])
        elif network.decision.fallback and potential[-1].max() > 0:
            (winner,) = judge.k_winners(*judge.fire(potential[-1:], None), 1, 0, 1)
            first = (T, -potential[-1][winner])
        vote = winner[0] * CLASSES // conv.features if winner else -1
        if winner:
            firsts.append((*first, vote))
        plastic.append((name, seen, [(winner, min(first[0], T - 1))] if winner else [], vote))
    return min(firsts)[-1] if firsts else -1, plastic


WAYS = {
    "image by image": (learn_supervised, "xla"),
    "image by image, compiled": (learn_supervised, "native"),
    "pair, compiled": (learn_pair, "native"),
    "sequences": (learn_deciding, "xla"),
    "sequences, compiled": (learn_deciding, "native"),
}
"""Functions that must agree, and back ends."""


@functools.partial(jax.jit, static_argnums=(0, 1))
def program(way: str, phase: Phase, *given: Any) -> Any:
    """One jitted function for all tests."""
    function, backend = WAYS[way]
    with kernels.use_backend(backend):
        return function(phase, *given)


def start_of(network: SpikingNetwork, adapt_every: int, update_batch: int = 1) -> tuple[Phase, Model, Carry]:
    """What learns, the model, and the carry before the first image."""
    description, model, key = network.network, network.model, np.zeros(2, np.uint32)
    names = tuple(name for _, name, conv in description.layers() if rule_of(conv))
    how = dict(
        update_batch=update_batch, by_turns=description.reward_by_turns, supervised=True, adapt_every=adapt_every
    )
    layers = {name: model.layers[name] for name in names}
    states = {name: jax.tree.map(jnp.asarray, x.conv.last_learner.init(x, key, 0)) for name, x in layers.items()}
    return (
        Phase(names, description.first_supervised, **how),
        model,
        Carry(layers, states, DecisionCounts(*jnp.zeros(5, jnp.int32))),
    )


BATCH_SIZE = 32
"""Images of a batch, of whole intervals."""


def learn(
    network, inputs, labels, adapt_every: int, epochs: int, way="image by image", kept=None, update_batch=1
) -> Judged:
    """An epoch batch by batch, each of which is interrupted; images that are not its turn neither teach nor count.

    The features that may fire in each epoch are added to `kept`.
    """
    phase, model, carry = start_of(network, adapt_every, update_batch)
    decisions, rng = [], np.random.default_rng(2)
    for _ in range(epochs):
        decisions.append([])
        if kept is not None:
            kept.append({name: np.asarray(state["kept"]) for name, state in carry.states.items() if "kept" in state})
        for first in range(0, len(labels), BATCH_SIZE):
            count = min(BATCH_SIZE, len(labels) - first)
            middle = int(rng.integers(1, count)) // update_batch * update_batch
            for start, stop in ((0, middle), (middle, count)):
                images = rng.integers(0, T + 1, (BATCH_SIZE, *inputs.shape[1:]), np.uint8)
                known = rng.integers(0, CLASSES, BATCH_SIZE, np.int32)
                images[start:stop] = inputs[first + start : first + stop]
                known[start:stop] = labels[first + start : first + stop]
                where = jnp.int32(start), jnp.int32(stop), jnp.bool_(first + stop == len(labels))
                carry, found = program(way, phase, carry, model, ImageBatch(images, *where, known))
                decisions[-1] += np.asarray(found.decisions)[start:stop].tolist()
    layers, states, counts = carry
    assert int(counts.epoch) == epochs
    assert int(counts.interval) == epochs * -(-len(labels) // adapt_every)
    assert int(counts.seen) == 0
    weights = {name: np.asarray(layer.weights) for name, layer in layers.items()}
    return Judged(weights, np.stack([states[name]["rates"] for name in layers]), decisions)


def assert_judged(result: Judged, expected: Judged) -> None:
    assert result.decisions == expected.decisions
    np.testing.assert_array_equal(result.rates, expected.rates)
    for name, weights in result.weights.items():
        np.testing.assert_array_equal(weights, expected.weights[name])
