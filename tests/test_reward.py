"""Learning by reward, against a plain loop over images.

Weights and rates are multiples of powers of two and batches hold a power of two images, so every sum and every adapted
rate is exact: all forms of an epoch must agree to the last bit, whatever the order in which they add.
"""

import collections
import dataclasses
import functools

import jax
import jax.numpy as jnp
import judge
import numpy as np
import pytest

from snnjax import component
from snnjax.data import Dataset
from snnjax.layers import FAST, TAPS, WTA, Conv
from snnjax.learners import RSTDP, STDP, Tally
from snnjax.learners.reward import Rewarded
from snnjax.networks import Majority, Model, Network, SpikingNetwork, stage
from snnjax.training import blocks, programs
from snnjax.training import epoch as epoch_module
from snnjax.training.epoch import outside
from snnjax.training.fast import BLOCK
from snnjax.training.state import Settings
from snnjax.training.trainer import Trainer

T = 15
CLASSES = 3
RULE = RSTDP(reward=(4 / 1024, -3 / 1024), punish=(-4 / 1024, 1 / 1024), bounds=(0.25, 0.75))
QUICK = dataclasses.replace(RULE, reward=(64 / 1024, -32 / 1024), punish=(-64 / 1024, 16 / 1024), bounds=(0.0, 1.0))
ONE = stage(Conv(9, kernel=3, padding=1, learners=RULE))
THREE = stage(*(Conv(6, kernel=kernel, padding=1, learners=RULE) for kernel in (1, 2, 4)))
EARLIER = Conv(5, kernel=3, threshold=5, competition=WTA(3), learners=(STDP(), QUICK))
BEFORE = stage(Conv(4, kernel=2, threshold=1, learners=STDP()))
DEEP = (BEFORE, stage(EARLIER), ONE)
WIDE = (
    BEFORE,
    stage(EARLIER, Conv(4, kernel=5, padding=1, threshold=12, competition=WTA(2, radius=1), learners=QUICK)),
    ONE,
)
"""Two layers side by side learn by reward, one of them by reward alone."""
IMAGES = 68  # in batches of 8 or 16, the last batch is one of 4


@component
class Raw:
    """Stands for an encoder: what enters the layers that learn is given, and this never."""

    time_steps = T

    def __call__(self, image):
        return jnp.full((4, *image.shape), T, jnp.uint8)

    def output_shape(self, image_shape):
        return 4, *image_shape


def network_of(*stages, dyadic=(256, 768), by_turns=False, decision=None) -> SpikingNetwork:
    """A network with weights of `dyadic` / 1024."""
    how = dict(time_steps=T, reward_by_turns=by_turns, encoder=Raw(), decision=decision or Majority())
    spec = Network("small", (4, 6, 6), CLASSES, stages, **how)
    rng = np.random.default_rng(0)
    weights = {name: np.float32(rng.integers(*dyadic, shape) / 1024) for name, shape in spec.weight_shapes.items()}
    return SpikingNetwork(spec, weights=weights)


def images_of(network: SpikingNetwork, silent: slice = slice(10, 20, 3)) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of the first stage that learns by reward, some of them silent, and labels that follow from them."""
    first = network.spec.first_supervised
    rng = np.random.default_rng(1)
    labels = rng.integers(0, CLASSES, IMAGES, np.int32)
    shape = network.spec.shapes[first]
    latencies = rng.integers(0, 5 * T, (IMAGES, *shape))
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


def judged(
    network: SpikingNetwork,
    inputs: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    epochs: int,
    batched: int = 1,
    kept: list[dict[str, np.ndarray]] | None = None,
) -> Judged:
    """The reward phase as described: image after image, batch after batch; so many are decided by the same weights.

    `kept`: for each epoch, by layer, the features that may fire.
    """
    spec = network.spec
    rules = {name: rule_of(conv) for _, name, conv in spec.layers() if rule_of(conv)}
    base = np.array([[rule.reward, rule.punish] for rule in rules.values()])
    result = Judged({name: np.float64(w) for name, w in network.weights().items()}, base, [])
    batch = 0
    if any(rule.floor is not None for rule in rules.values()):
        result.rates = np.stack([rates(rule, 1 - 1 / CLASSES, 1 / CLASSES) for rule in rules.values()])

    def learns(index: int, epoch: int, batch: int) -> bool:
        return not spec.reward_by_turns or (index == 0) == (epoch + batch % 2 == 0)

    for epoch in range(epochs):
        result.decisions.append([])
        for start in range(0, len(labels), batch_size):
            right = labels[start : start + batch_size]
            for number, label in enumerate(right, start):
                if number % batched == 0:
                    group = inputs[number : number + batched]
                    left = (kept or [{}] * epochs)[epoch]
                    looked = iter([judged_decision(spec, result.weights, latency, left) for latency in group])
                decision, plastic = next(looked)
                result.decisions[-1].append(decision)
                for index, (name, conv, seen, winners, vote) in enumerate(plastic):
                    if vote >= 0 and learns(index, epoch, batch):
                        now, rule = result.rates[index][0 if vote == label else 1], rule_of(conv)
                        new = judge.stdp(result.weights[name], seen, winners, now, T, rule.bounds, rule.stabiliser)
                        result.weights[name] = new
            ends = start + batch_size >= len(labels)
            for index, rule in enumerate(rules.values()):
                since = 0 if rule.by_epoch else start
                if ends if rule.by_epoch else learns(index, epoch, batch + 1):
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


def judged_decision(spec: Network, weights: dict[str, np.ndarray], latency: np.ndarray, kept=None):
    """Decision, and for each layer that learns: name, description, what it saw, its winners, the vote that counts."""
    weights = {name: x * (kept or {}).get(name, np.ones(len(x)))[:, None, None, None] for name, x in weights.items()}
    if spec.decision.timed:
        return judged_first(spec, weights, latency)
    plastic, votes, last = [], [], len(spec.stages) - 1
    for number, (names, each) in enumerate(zip(spec.names, spec.stages, strict=True)):
        outputs = []
        for name, conv in zip(names, each.branches, strict=True) if number >= spec.first_supervised else ():
            seen = judge.pad(latency, (conv.padding, conv.padding), T)
            if number == last:  # the last step is all that counts
                spikes = judge.fire(judge.potentials(seen // T, weights[name], 1), None)
                winners = [(winner, T - 1) for winner in judge.k_winners(*spikes, 1, 0, 1)]
                votes.append(winners[0][0][0] * CLASSES // conv.features if winners else -1)
            else:
                fired, potential = judge.fire(judge.potentials(seen, weights[name], T), conv.threshold)
                left = judge.pointwise_inhibition(fired, potential, T)
                found = judge.k_winners(*left, conv.competition.winners, conv.competition.radius, T)
                winners = [(w, fired[w]) for w in found]
                outputs.append(fired)
            plastic.append((name, conv, seen, winners, number == last))
        latency = np.concatenate(outputs) if outputs else latency
    counts = collections.Counter(vote for vote in votes if vote >= 0).most_common(1)
    decision = counts[0][0] if counts and counts[0][1] >= 2 else votes[len(votes) // 2]
    own = iter(votes)
    return decision, [(*layer, next(own) if decides else decision) for *layer, decides in plastic]


def judged_first(spec: Network, weights: dict[str, np.ndarray], latency: np.ndarray):
    """`judged_decision` by the earliest, then strongest neuron of deciding layers, which are all there is."""
    plastic, firsts = [], []
    for name, conv in zip(spec.names[0], spec.stages[0].branches, strict=True):
        seen = judge.pad(latency, (conv.padding, conv.padding), T)
        potential = judge.potentials(seen, weights[name], T)
        fired, at_spike = judge.fire(potential, conv.threshold)
        (winner,) = judge.k_winners(fired, at_spike, 1, 0, T) or [None]
        if winner:
            first = (fired[winner], -at_spike[winner])
        elif spec.decision.fallback and potential[-1].max() > 0:
            (winner,) = judge.k_winners(*judge.fire(potential[-1:], None), 1, 0, 1)
            first = (T, -potential[-1][winner])
        vote = winner[0] * CLASSES // conv.features if winner else -1
        if winner:
            firsts.append((*first, vote))
        plastic.append((name, conv, seen, [(winner, min(first[0], T - 1))] if winner else [], vote))
    return min(firsts)[-1] if firsts else -1, plastic


def model_of(network: SpikingNetwork, form) -> Model:
    """The model, its layers that learn by reward in one form, and within their bounds."""
    model = network.model
    names = [name for _, name, conv in network.spec.layers() if rule_of(conv)]
    layers = {name: dataclasses.replace(model.layers[name].packed(form), within=True) for name in names}
    return model.updated(layers)


def carry_of(network: SpikingNetwork, model: Model) -> programs.SupervisedCarry:
    """The start of `programs.learn_supervised` and `blocks.learn_in_blocks`."""
    layers = {name: model.layers[name] for _, name, conv in network.spec.layers() if rule_of(conv)}
    key = np.zeros(2, np.uint32)
    states = {name: jax.tree.map(jnp.asarray, x.conv.supervised.init(x, key, 0)) for name, x in layers.items()}
    return layers, states, Tally(*jnp.zeros(5, jnp.int32))


STATIC = ("block", "batched", "by_turns")
TOGETHER = jax.jit(programs.learn_supervised, static_argnames=("first", "batch", "by_turns"))
BLOCKS = jax.jit(blocks.learn_in_blocks, static_argnames=STATIC)


def program_of(network: SpikingNetwork, block: int | None):
    """`learn_supervised` image by image, or `learn_in_blocks` with blocks of so many."""
    turns = dict(by_turns=network.spec.reward_by_turns)
    if block:
        return functools.partial(BLOCKS, block=block, batched=False, **turns)
    return functools.partial(TOGETHER, first=network.spec.first_supervised, batch=1, **turns)


def learn(network, inputs, labels, batch_size: int, epochs: int, block: int | None, form=FAST, kept=None) -> Judged:
    """An epoch in three slices, each within other images that neither teach nor count.

    The features that may fire in each epoch are added to `kept`.
    """
    program, model = program_of(network, block), model_of(network, TAPS if block else form)
    carry, decisions, rng = carry_of(network, model), [], np.random.default_rng(2)
    for _ in range(epochs):
        decisions.append([])
        if kept is not None:
            kept.append({name: np.asarray(Rewarded.of(state).kept) for name, state in carry[1].items()})
        for at in range(0, len(labels), 24):
            part = slice(at, at + 24)
            count, start = len(labels[part]), int(rng.integers(0, 8))
            images = rng.integers(0, T + 1, (32, *inputs.shape[1:]), np.uint8)
            known = rng.integers(0, CLASSES, 32, np.int32)
            images[start : start + count], known[start : start + count] = inputs[part], labels[part]
            where = jnp.int32(start), jnp.int32(start + count), jnp.bool_(part.stop >= len(labels))
            carry, (decided, _) = program(carry, model, images, known, *where, jnp.int32(batch_size))
            decisions[-1] += np.asarray(decided)[start : start + count].tolist()
    layers, states, tally = carry
    assert int(tally.epoch) == epochs
    assert int(tally.batch) == epochs * -(-len(labels) // batch_size)
    assert int(tally.seen) == 0
    weights = {name: np.asarray(layer.plain_weights()) for name, layer in layers.items()}
    return Judged(weights, np.stack([Rewarded.of(states[name]).rates for name in layers]), decisions)


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
    return [(network.spec, weights, latency) for latency in inputs]


ROUGH = {
    "narrow bounds": RSTDP((16 / 256, -64 / 256), (-200 / 256, 64 / 256), bounds=(0.25, 0.5)),
    "wide bounds": RSTDP((200 / 256, -16 / 256), (-64 / 256, 200 / 256), bounds=(-2.0, 2.0)),
    "stabiliser": RSTDP((64 / 256, -16 / 256), (-200 / 256, 200 / 256), bounds=(-2.0, 2.0), stabiliser=True),
}
"""Rules whose updates often change which feature is the strongest."""


@functools.partial(jax.jit, static_argnames=STATIC)
def all_changed(*args, block, batched, by_turns):
    """`learn_in_blocks` in the way that accelerators take."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "present", blocks._all_changed)
        return blocks.learn_in_blocks(*args, block=block, batched=batched, by_turns=by_turns)


@pytest.mark.slow
@pytest.mark.parametrize("name", ROUGH)
def test_a_feature_that_may_have_become_the_strongest_is_looked_at(name):
    """In blocks, whichever way they look, as in images one by one."""
    rule, rng, changes = ROUGH[name], np.random.default_rng(5), 0
    network = network_of(stage(Conv(12, kernel=5, padding=1, learners=rule)))
    for _ in range(10):
        levels = np.linspace(*rule.bounds, 5)
        network.set_weights(dict(layer1=np.float32(rng.choice(levels, network.layer1[...].shape))))
        spiked = rng.random((64, 4, 6, 6)) < rng.choice([0.05, 0.3, 0.9])
        images, labels = np.where(spiked, np.uint8(T - 1), np.uint8(T)), rng.integers(0, CLASSES, 64, np.int32)
        start, count = np.int32(rng.integers(0, 9)), np.int32(rng.integers(50, 65))

        def run(function, form, **static):
            model = model_of(network, form)
            where = start, count, np.bool_(False), np.int32(8)
            (layers, *_), (decided, _) = function(
                carry_of(network, model), model, images, labels, *where, by_turns=False, **static
            )
            return np.asarray(decided), np.asarray(layers["layer1"].plain_weights())

        decisions, weights = run(TOGETHER, FAST, first=0, batch=1)
        in_blocks = dict(block=16, batched=False)
        for decided, learned in (run(all_changed, TAPS, **in_blocks), run(BLOCKS, TAPS, **in_blocks)):
            assert decided.tolist() == decisions.tolist()
            np.testing.assert_allclose(learned, weights, rtol=0, atol=1e-4 if rule.stabiliser else 0)
        at_once = run(BLOCKS, TAPS, block=16, batched=True)
        np.testing.assert_array_equal(at_once[0], run(TOGETHER, FAST, first=0, batch=16)[0], "with the same weights")
        changes += np.sum(decisions != at_once[0])
    assert changes > 50, "the cases tell nothing"


def test_decision_layers_take_turns_in_blocks_too():
    network = network_of(THREE, by_turns=True)
    inputs, labels = images_of(network)
    expected = judged(network, inputs, labels, 8, epochs=2)
    assert_judged(learn(network, inputs, labels, 8, epochs=2, block=16), expected)


@pytest.mark.parametrize(("stages", "by_turns"), [(DEEP, False), (DEEP, True), (WIDE, False), (WIDE, True)])
def test_earlier_layers_learn_by_the_decision(stages, by_turns):
    """Each of those side by side learns once from an image, by winners of its own; the last from its own winner."""
    network = network_of(*stages, by_turns=by_turns)
    inputs, labels = images_of(network)
    expected = judged(network, inputs, labels, 8, epochs=2)
    result = learn(network, inputs, labels, 8, epochs=2, block=None)
    assert set(result.weights) == set(network.weights()) - {"layer1"}
    assert_judged(result, expected)
    for name, weights in result.weights.items():
        assert np.any(weights != network.weights()[name]), f"{name} has learned nothing"


def test_by_turns_the_first_layer_learns_in_every_other_batch_of_the_first_epoch():
    network = network_of(*DEEP, by_turns=True)
    inputs, labels = images_of(network)
    program, model = program_of(network, None), model_of(network, FAST)
    carry, base = carry_of(network, model), {}
    names = list(carry[0])
    base = [np.float32([QUICK.reward, QUICK.punish]), np.float32([RULE.reward, RULE.punish])]
    for epoch in range(2):
        for batch in range(4):
            old, start, end = carry, 8 * batch, 8 * batch + 8
            where = np.int32(start), np.int32(end), np.bool_(batch == 3), np.int32(8)
            carry, (decided, _) = program(carry, model, inputs, labels, *where)
            decided, right = np.asarray(decided)[start:end], labels[start:end]
            learned = [bool(jnp.any(old[0][name].weights != carry[0][name].weights)) for name in names]
            first = epoch == 0 and batch % 2 == 0
            assert learned == [first, not first]
            wrong = np.mean((decided >= 0) & (decided != right))
            next_first = epoch == 0 and batch % 2 == 1
            kept, adapted = (1, 0) if next_first else (0, 1)
            np.testing.assert_array_equal(carry[1][names[kept]], old[1][names[kept]])
            np.testing.assert_array_equal(carry[1][names[adapted]][0], base[adapted][0] * np.float32(wrong))


@pytest.mark.slow
@pytest.mark.parametrize("batched", [1, 6])
@pytest.mark.parametrize(
    "stages",
    [(ONE,), (THREE,), DEEP, WIDE],
    ids=["one branch", "three branches", "earlier layer", "two earlier layers"],
)
def test_epochs_of_the_trainer_are_the_judges(stages, batched, compilations, monkeypatch):
    """Weights out of bounds are pulled in by the first update, which here comes only in the second block of images.

    The second slice of an epoch is short.
    """
    monkeypatch.setattr(epoch_module, "SLICE", BLOCK)
    network = network_of(*stages, dyadic=(700, 1100))
    inputs, labels = images_of(network, silent=slice(0, BLOCK + 2))
    expected = judged(network, inputs, labels, 8, epochs=2, batched=batched)
    images = np.zeros((IMAGES, 6, 6), np.uint8)
    data = Dataset("none", images, labels, images, labels, CLASSES)
    epochs = (0,) * (len(stages) - 1) + (2,)
    trainer = Trainer(network.spec, data, Settings(epochs, batch_size=8, update_batch=batched))
    state = dataclasses.replace(
        trainer.initial_state(), weights={n: np.asarray(w) for n, w in network.weights().items()}
    )
    state.phase = len(trainer.plan) - 1
    epoch = trainer.engine.supervised(trainer.plan[-1], [state], inputs)
    _, first = epoch()
    results = [first]
    assert compilations(lambda: results.append(epoch()[1])) == 0, "the second epoch compiles again"
    layers, states, tally = epoch.spread.unstacked(epoch.carry)[0]
    assert (int(tally.epoch), int(tally.seen)) == (2, 0)
    weights = {name: np.asarray(layer.plain_weights()) for name, layer in layers.items()}
    rates = np.stack([states[name] for name in layers])
    assert_judged(Judged(weights, rates, [decided[0].tolist() for decided, _ in results]), expected)
    assert all(decided.shape == (1, IMAGES) for decided, _ in results)


def test_base_rates_and_bounds():
    model = network_of(*DEEP).model
    rates = {name: model.layers[name].conv.supervised.init(None, None, 0) for name in ("layer2", "layer3")}
    np.testing.assert_array_equal(rates["layer2"], np.float32([QUICK.reward, QUICK.punish]))
    np.testing.assert_array_equal(rates["layer3"], np.float32([RULE.reward, RULE.punish]))
    assert not outside({name: model.layers[name] for name in rates}, -1)
    rough = network_of(*DEEP, dyadic=(200, 1000)).model
    assert outside({name: rough.layers[name] for name in rates}, -1)
