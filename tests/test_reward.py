"""Learning by reward, against a plain loop over images.

Weights and rates are multiples of powers of two and batches hold a power of two images, so every sum and every adapted
rate is exact: all forms of an epoch must agree to the last bit, whatever the order in which they add.
"""

import collections
import dataclasses

import jax
import jax.numpy as jnp
import judge
import numpy as np
import pytest
from flax import nnx

from snnjax.layers import RSTDP, STDP, Conv
from snnjax.networks import Network, SpikingNetwork, stage
from snnjax.training import reward
from snnjax.training.trainer import BLOCK, Clock, RewardEpoch

T = 15
CLASSES = 3
RULE = RSTDP(reward=(4 / 1024, -3 / 1024), punish=(-4 / 1024, 1 / 1024), bounds=(0.25, 0.75))
FAST = dataclasses.replace(RULE, reward=(64 / 1024, -32 / 1024), punish=(-64 / 1024, 16 / 1024), bounds=(0.0, 1.0))
ONE = stage(Conv(9, kernel=3, padding=1, rstdp=RULE))
THREE = stage(*(Conv(6, kernel=kernel, padding=1, rstdp=RULE) for kernel in (1, 2, 4)))
EARLIER = Conv(5, kernel=3, threshold=5, winners=3, stdp=STDP(), rstdp=FAST)
IMAGES = 68  # in batches of 8 or 16, the last batch is one of 4


def network_of(*stages, dyadic=(256, 768), by_turns=False) -> SpikingNetwork:
    """A network with weights of `dyadic` / 1024."""
    spec = Network("small", (4, 6, 6), CLASSES, stages, time_steps=T, reward_by_turns=by_turns)
    graphdef, shapes = nnx.split(nnx.eval_shape(lambda: SpikingNetwork(spec, rngs=nnx.Rngs(0))))
    rng = np.random.default_rng(0)
    low, high = dyadic
    return nnx.merge(graphdef, jax.tree.map(lambda w: jnp.float32(rng.integers(low, high, w.shape) / 1024), shapes))


def images_of(network: SpikingNetwork, silent: slice = slice(10, 20, 3)) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of the first stage that learns by reward, some of them silent, and labels that follow from them."""
    first = network.spec.first_rewarded
    rng = np.random.default_rng(1)
    labels = rng.integers(0, CLASSES, IMAGES, np.int32)
    shape = network.spec.shapes[first]
    latencies = rng.integers(0, 5 * T, (IMAGES, *shape))
    bright = np.arange(shape[0]) % CLASSES == labels[:, None]
    latencies[bright] //= 5
    latencies = latencies.clip(max=T).astype(np.uint8)
    latencies[silent] = T
    return (latencies < T if first == len(network.spec.stages) - 1 else latencies), labels


@dataclasses.dataclass
class Judged:
    """What the loop has learned."""

    weights: dict[str, np.ndarray]
    rates: np.ndarray
    decisions: list[list[int]]  # epochs, images


def judged(
    network: SpikingNetwork, inputs: np.ndarray, labels: np.ndarray, batch_size: int, epochs: int, together: int = 1
) -> Judged:
    """The reward phase as described: image after image, batch after batch; so many are decided by the same weights."""
    spec = network.spec
    rules = {name: layer.rstdp for _, name, layer in spec.layers() if layer.rstdp}
    base = np.array([[rule.reward, rule.punish] for rule in rules.values()])
    result = Judged({name: np.float64(w) for name, w in network.weights().items()}, base, [])
    latencies = np.where(inputs, T - 1, T) if inputs.dtype == bool else inputs
    batch = 0

    def learns(index: int, epoch: int, batch: int) -> bool:
        return not spec.reward_by_turns or (index == 0) == (epoch + batch % 2 == 0)

    for epoch in range(epochs):
        result.decisions.append([])
        for start in range(0, len(labels), batch_size):
            right = labels[start : start + batch_size]
            for number, label in enumerate(right, start):
                if number % together == 0:
                    group = latencies[number : number + together]
                    looked = iter([judged_decision(spec, result.weights, latency) for latency in group])
                decision, plastic = next(looked)
                result.decisions[-1].append(decision)
                for index, (name, layer, seen, winners, vote) in enumerate(plastic):
                    if vote >= 0 and learns(index, epoch, batch):
                        rates, rule = result.rates[index][0 if vote == label else 1], layer.rstdp
                        new = judge.stdp(result.weights[name], seen, winners, rates, T, rule.bounds, rule.stabiliser)
                        result.weights[name] = new
            made = np.array(result.decisions[-1][start:])
            fractions = np.mean((made >= 0) & (made != right)), np.mean(made == right)
            turns = np.array([learns(index, epoch, batch + 1) for index in range(len(rules))])
            adapted = base * np.array(fractions)[:, None]
            result.rates = np.where(turns[:, None, None], adapted, result.rates)
            batch += 1
    return result


def judged_decision(spec: Network, weights: dict[str, np.ndarray], latency: np.ndarray):
    """Decision, and for each layer that learns: name, description, what it saw, its winners, the vote that counts."""
    first = spec.first_rewarded
    last = len(spec.stages) - 1
    plastic, votes = [], []
    for number, name, layer in spec.layers():
        if number < first:
            continue
        seen = judge.pad(latency, (layer.padding, layer.padding), T)
        if number == last:  # the last step is all that counts
            spikes = judge.fire(judge.potentials(seen // T, weights[name], 1), None)
            winners = [(winner, T - 1) for winner in judge.k_winners(*spikes, 1, 0, 1)]
            votes.append(winners[0][0][0] * CLASSES // layer.features if winners else -1)
        else:
            latency, potential = judge.fire(judge.potentials(seen, weights[name], T), layer.threshold)
            left = judge.pointwise_inhibition(latency, potential, T)
            winners = [(w, latency[w]) for w in judge.k_winners(*left, layer.winners, layer.radius, T)]
        plastic.append((name, layer, seen, winners, number == last))
    counts = collections.Counter(vote for vote in votes if vote >= 0).most_common(1)
    decision = counts[0][0] if counts and counts[0][1] >= 2 else votes[len(votes) // 2]
    own = iter(votes)
    return decision, [(*layer, next(own) if decides else decision) for *layer, decides in plastic]


def learn(network, inputs, labels, batch_size: int, epochs: int, block: int | None) -> Judged:
    """`reward_images`, or `reward_blocks` with blocks of so many, over images with gaps of invalid ones between."""
    graphdef, _, frozen = reward.split(network)
    state, decisions = reward.initial_state(network), []
    shape = (3, -(-24 // (block or 1)), block or 1)
    at = np.sort(np.random.default_rng(2).permutation(int(np.prod(shape)))[:IMAGES])
    for _ in range(epochs):
        arrays = [
            np.random.default_rng(3).integers(0, 2, (int(np.prod(shape)), *x.shape[1:])) for x in (inputs, labels)
        ]
        arrays = [spread.astype(x.dtype) for spread, x in zip(arrays, (inputs, labels), strict=True)]
        arrays.append(np.zeros(int(np.prod(shape)), bool))
        for spread, values in zip(arrays, (inputs, labels, True), strict=True):
            spread[at] = values
        function = reward.reward_blocks if block else reward.reward_images
        arranged = [x.reshape(*shape, *x.shape[1:]) for x in arrays]
        state, decided = function(graphdef, state, frozen, *arranged, jnp.int32(batch_size))
        state = reward.end_epoch(network.spec, state)
        decisions.append(np.asarray(decided).ravel()[at].tolist())
    weights = {name: np.asarray(layer["weight"][...]) for name, layer in state.weights.items()}
    assert int(state.epoch) == epochs
    assert int(state.batch) == epochs * -(-IMAGES // batch_size)
    return Judged(weights, np.asarray(state.rates), decisions)


def assert_judged(result: Judged, expected: Judged) -> None:
    assert result.decisions == expected.decisions
    np.testing.assert_array_equal(result.rates, expected.rates)
    for name, weights in result.weights.items():
        np.testing.assert_array_equal(weights, expected.weights[name])


@pytest.mark.parametrize(
    ("decision", "blocks"), [(ONE, (None, 1, 24)), (THREE, (None, 16))], ids=["one branch", "three branches"]
)
def test_images_one_by_one_and_in_blocks_are_the_judges(decision, blocks):
    network = network_of(decision)
    inputs, labels = images_of(network)
    for batch_size in (4, 16):
        expected = judged(network, inputs, labels, batch_size, epochs=2)
        for block in blocks:
            assert_judged(learn(network, inputs, labels, batch_size, epochs=2, block=block), expected)


def test_the_cases_tell_something():
    """Correct, wrong and silent decisions; features that change more than once in a block; votes that differ."""
    for decision in (ONE, THREE):
        network = network_of(decision)
        inputs, labels = images_of(network)
        made = np.array(judged(network, inputs, labels, 4, epochs=1).decisions[0])
        assert min(np.sum(made == labels), np.sum((made >= 0) & (made != labels))) >= 8
        assert np.sum(made < 0) == 4
    winners = [plastic[0][3][0][0][0] for _, plastic in (judged_decision(*case) for case in decided_cases(ONE))]
    assert len(set(winners[:16])) < 12
    votes = [
        [layer[4] for layer in plastic] for _, plastic in (judged_decision(*case) for case in decided_cases(THREE))
    ]
    assert {len(set(vote)) for vote in votes} == {1, 2, 3}


def decided_cases(decision):
    network = network_of(decision)
    inputs, _ = images_of(network, silent=slice(0))
    weights = {name: np.float64(w) for name, w in network.weights().items()}
    return [(network.spec, weights, np.where(spiked, T - 1, T)) for spiked in inputs]


ROUGH = {
    "narrow bounds": RSTDP((16 / 256, -64 / 256), (-200 / 256, 64 / 256), bounds=(0.25, 0.5)),
    "wide bounds": RSTDP((-64 / 256, 200 / 256), (200 / 256, -16 / 256), bounds=(-2.0, 2.0)),
    "stabiliser": RSTDP((64 / 256, -16 / 256), (-200 / 256, 200 / 256), bounds=(-2.0, 2.0), stabiliser=True),
}
"""Rules whose updates often change which feature is the strongest."""


@pytest.mark.parametrize("name", ROUGH)
def test_a_feature_that_may_have_become_the_strongest_is_looked_at(name, monkeypatch):
    """In blocks, whichever way they look, as in images one by one."""
    rule, rng, changes = ROUGH[name], np.random.default_rng(5), 0
    network = network_of(stage(Conv(12, kernel=5, padding=1, rstdp=rule)))
    graphdef, _, frozen = reward.split(network)

    def at_all(*args):  # a function of its own, which jax traces while the other way is replaced
        with monkeypatch.context() as patch:
            patch.setattr(reward, "_look_where_needed", reward._look_at_all)
            return reward.reward_blocks.__wrapped__(*args)

    eager = jax.jit(at_all, static_argnums=0)
    for _ in range(10):
        levels = np.linspace(*rule.bounds, 5)
        network.layer1.weight[...] = jnp.float32(rng.choice(levels, network.layer1.weight.shape))
        inputs = rng.random((64, 4, 6, 6)) < rng.choice([0.05, 0.3, 0.9])
        images = inputs, rng.integers(0, CLASSES, 64, np.int32), rng.random(64) < 0.85

        def run(function, block, **static):
            arranged = (x.reshape(1, -1, block, *x.shape[1:]) for x in images)
            state = reward.initial_state(network)
            state, decided = function(graphdef, state, frozen, *arranged, jnp.int32(8), **static)
            return np.asarray(decided).ravel(), np.asarray(state.weights["layer1"]["weight"][...])

        decisions, weights = run(reward.reward_images, 1)
        for decided, learned in (run(eager, 16), run(reward.reward_blocks, 16)):
            assert decided.tolist() == decisions.tolist()
            np.testing.assert_allclose(learned, weights, rtol=0, atol=1e-4 if rule.stabiliser else 0)
        changes += np.sum(decisions != run(reward.reward_blocks, 16, together=True)[0])
    assert changes > 50, "the cases tell nothing"


DEEP = (stage(Conv(4, kernel=2, threshold=1, stdp=STDP())), stage(EARLIER), ONE)


def test_decision_layers_take_turns_in_blocks_too():
    network = network_of(THREE, by_turns=True)
    inputs, labels = images_of(network)
    expected = judged(network, inputs, labels, 8, epochs=2)
    assert_judged(learn(network, inputs, labels, 8, epochs=2, block=16), expected)


@pytest.mark.parametrize("by_turns", [False, True])
def test_an_earlier_layer_learns_by_the_decision(by_turns):
    network = network_of(*DEEP, by_turns=by_turns)
    inputs, labels = images_of(network)
    expected = judged(network, inputs, labels, 8, epochs=2)
    result = learn(network, inputs, labels, 8, epochs=2, block=None)
    assert set(result.weights) == {"layer2", "layer3"}
    assert_judged(result, expected)
    for name, weights in result.weights.items():
        assert np.any(weights != network.weights()[name]), f"{name} has learned nothing"


def test_by_turns_the_first_layer_learns_in_every_other_batch_of_the_first_epoch():
    network = network_of(*DEEP, by_turns=True)
    inputs, labels = images_of(network)
    graphdef, _, frozen = reward.split(network)
    state = reward.initial_state(network)
    base = reward.base_rates(network.spec)
    for epoch in range(2):
        for batch in range(4):
            old, part = state, slice(8 * batch, 8 * batch + 8)
            arrays = inputs[None, part, None], labels[None, part, None], np.ones((1, 8, 1), bool)
            state, decided = reward.reward_images(graphdef, state, frozen, *arrays, jnp.int32(8))
            decided = decided.ravel()
            learned = [
                bool(jnp.any(old.weights[name]["weight"][...] != state.weights[name]["weight"][...]))
                for name in ("layer2", "layer3")
            ]
            first = epoch == 0 and batch % 2 == 0
            assert learned == [first, not first]
            wrong = np.mean((decided >= 0) & (decided != labels[part]))
            next_first = epoch == 0 and batch % 2 == 1
            kept, adapted = (1, 0) if next_first else (0, 1)
            np.testing.assert_array_equal(state.rates[kept], old.rates[kept])
            np.testing.assert_array_equal(state.rates[adapted, 0], base[adapted, 0] * np.float32(wrong))
        state = reward.end_epoch(network.spec, state)


@pytest.mark.parametrize("together", [1, 6])
@pytest.mark.parametrize("stages", [(ONE,), (THREE,), DEEP], ids=["one branch", "three branches", "earlier layer"])
def test_epochs_of_the_trainer_are_the_judges(stages, together, compilations):
    """Weights out of bounds are pulled in by the first update, which here comes only in the second block of images."""
    network = network_of(*stages, dyadic=(700, 1100))
    inputs, labels = images_of(network, silent=slice(0, BLOCK + 2))
    expected = judged(network, inputs, labels, 8, epochs=2, together=together)
    epoch = RewardEpoch(network, inputs, labels, 8, Clock(""), together)
    first = epoch(reward.initial_state(network))
    results = [first]
    assert compilations(lambda: results.append(epoch(first[0]))) == 0, "the second epoch compiles again"
    weights = {name: np.asarray(w) for name, w in network.weights().items()}
    decisions = [decided.tolist() for _, decided in results]
    assert_judged(Judged(weights, np.asarray(results[1][0].rates), decisions), expected)


def test_base_rates_and_bounds():
    network = network_of(*DEEP)
    np.testing.assert_array_equal(reward.base_rates(network.spec)[:, 0], np.float32([FAST.reward, RULE.reward]))
    np.testing.assert_array_equal(reward.base_rates(network.spec)[:, 1], np.float32([FAST.punish, RULE.punish]))
    assert reward.within_bounds(network)
    assert not reward.within_bounds(network_of(*DEEP, dyadic=(200, 1000)))
