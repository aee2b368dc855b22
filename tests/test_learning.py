"""Learning from sequences: rules that have a kernel learn as their `forward` and `update` do, and phases alike.

Where weights and rates are multiples of a power of two nothing rounds, and results are the same to the bit.
"""

import dataclasses
import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import snnjax
from snnjax import kernels
from snnjax.core.devices import BATCH_SIZES
from snnjax.data import Dataset
from snnjax.layers.conv import WTA, Conv
from snnjax.layers.spiking import Layer
from snnjax.learners import RSTDP, STDP, DecisionCounts, Learner, SupervisedSTDP, TargetTime
from snnjax.networks import Earliest, Majority, Network, stage
from snnjax.networks.decision import votes_of
from snnjax.runs.run_folder import ONE_BY_ONE, RunFolder
from snnjax.training.job import Phase, supervised_phase
from snnjax.training.learning import Carry, ImageBatch, learn_deciding, learn_pair, learn_supervised, learning_of
from snnjax.training.learning_phase import batches_of
from snnjax.training.placement import model_of, to_32_bits

T = 15
RNG = np.random.default_rng(0)
BACKENDS = "xla", "native"
IMAGES = RNG.integers(0, 3 * T, (23, 2, 7, 6)).clip(max=T).astype(np.uint8)
IMAGES[4::7] = T
LABELS = RNG.integers(0, 3, 23, np.int32)
PARTLY = np.where(np.arange(23) % 5, LABELS, -1)
"""Labels of which some are missing."""
LEARNS = RNG.random(23) < 0.8


# Rules

EXACT = STDP(ltp=1 / 64, ltd=-1 / 128, doubling=10, ltp_max=0.25, stabiliser=False)
FEATURES = Conv(4, 3, threshold=3.0, competition=WTA(2, radius=2), learners=EXACT)
REWARD = RSTDP((1 / 16, -1 / 32), (-1 / 16, 1 / 64), bounds=(0.25, 0.75))
READOUT = Conv(9, (7, 6), threshold=4.0, fractional=True)
RULES = {
    "STDP": FEATURES,
    "STDP with pointwise inhibition": dataclasses.replace(
        FEATURES, padding=1, stride=(1, 2), learners=dataclasses.replace(EXACT, pointwise=True)
    ),
    "RSTDP": Conv(6, 4, padding=(1, 0), learners=REWARD),
    "RSTDP with dropout": Conv(6, 4, stride=2, learners=dataclasses.replace(REWARD, dropout=0.5)),
    "TargetTime": Conv(4, (3, 2), padding=(0, 1), threshold=3.0, learners=TargetTime(patches=2)),
    "NCG": dataclasses.replace(READOUT, learners=SupervisedSTDP(gap=0.1, threshold_rate=2.0)),
    "SSTDP": dataclasses.replace(
        READOUT, learners=SupervisedSTDP(competition=False, non_targets=0, one_sided=True, normalise=False, gap=0.2)
    ),
}
EXACTLY = "STDP", "STDP with pointwise inhibition", "RSTDP", "RSTDP with dropout"


def noted(rule: Learner) -> Learner:
    """The same rule with figures of its own, for which its winners are known."""
    if "diagnose" in rule.in_learn:
        return rule
    own = dict(diagnose=lambda self, layer, info: {}, __module__=__name__)
    kind = snnjax.component(type(f"Figured{type(rule).__name__}", (type(rule),), own))
    return kind(**{field.name: getattr(rule, field.name) for field in dataclasses.fields(rule)})


def layer_of(conv: Conv) -> Layer:
    learner = conv.last_learner
    timed = isinstance(learner, SupervisedSTDP)
    drawn = np.random.default_rng(1).integers(16, 48, (conv.features, 2, *np.broadcast_to(conv.kernel, 2))) / 64
    classes = 3 if learner.supervised else 0
    layer = Layer(conv.prepared(2, 2), np.float32(drawn), T, conv.monotone, classes, timed, input_shape=(2, 7, 6))
    return jax.tree.map(lambda x: jnp.asarray(to_32_bits(x)), layer)


def vote(decision: Any, spikes: Any) -> jax.Array:
    return votes_of(decision.scores(spikes, 3)[None])[0]


@functools.partial(jax.jit, static_argnames=("name", "by_default", "update_batch", "backend"))
def learned(
    layer: Layer, state: Any, learns: jax.Array, *, name: str, by_default: bool, update_batch: int, backend: str
):
    learner = layer.conv.last_learner
    learn = functools.partial(Learner.learn, learner) if by_default else learner.learn
    labels = jnp.asarray(PARTLY) if learner.supervised else None
    decision = Earliest(fallback=True) if layer.timed else Majority()
    with kernels.use_backend(backend):
        images = jnp.asarray(IMAGES)
        return learn(
            layer, state, images, labels, learns, update_batch=update_batch, vote=functools.partial(vote, decision)
        )


@pytest.mark.parametrize(
    ("name", "update_batch"), [*((name, 1) for name in RULES), ("STDP", 5), ("RSTDP", 5), ("NCG", 5)]
)
def test_rules_learn_as_they_do_from_one_stimulus_after_the_other(name, update_batch, compiler):
    """From those that are chosen, on both back ends: the layer, the state, votes, info and winners."""
    conv = RULES[name]
    layer = layer_of(dataclasses.replace(conv, learners=noted(conv.last_learner)))
    state = jax.tree.map(to_32_bits, layer.conv.last_learner.init(layer, np.array([0, 1], np.uint32), 2))
    run = functools.partial(learned, layer, state, LEARNS, name=name, update_batch=update_batch)
    expected = run(by_default=True, backend="xla")
    assert np.mean(expected.layer.weights != layer.weights) > 0.2, "hardly anything is learned"
    for backend in BACKENDS if update_batch == 1 else ("xla",):
        found = run(by_default=False, backend=backend)
        assert_same(found[:2], expected[:2], exact=name in EXACTLY)
        results = [jax.tree.map(lambda x: x[LEARNS], (each.info, each.vote)) for each in (found, expected)]
        assert_same(*results, exact=name in EXACTLY)
        taught = LEARNS & (PARTLY >= 0) if layer.classes else LEARNS
        assert_same(*[jax.tree.map(lambda x, taught=taught: x[taught], each.winners) for each in (found, expected)])


def assert_same(found: Any, expected: Any, exact: bool = True) -> None:
    """Trees of the same shapes and dtypes; bit for bit, or up to rounding."""

    def compare(one: Any, other: Any) -> None:
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        np.testing.assert_allclose(one, other, rtol=0 if exact else 1e-5, atol=0 if exact else 2e-5)

    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(compare, found, expected)


def test_rates_of_stdp_double_after_so_many_images():
    for image, rate in {0: 1 / 64, 8: 1 / 64, 9: 1 / 32, 18: 1 / 32, 19: 1 / 16, 500: 0.25}.items():
        assert EXACT.rates(jnp.int32(image)).tolist() == [rate, -rate / 2]


def test_a_rule_that_replaces_a_part_of_its_kernel_learns_without_it():
    """Whatever the part; one that only adds something keeps the kernel, and one may bring its own."""
    for rule in (STDP, RSTDP, TargetTime, SupervisedSTDP):
        assert rule.learn is not Learner.learn
        assert {"forward", "update"} <= rule.in_learn
        for part in rule.in_learn:
            method = {part: getattr(rule, part), "__module__": __name__}
            assert type("Other", (rule,), method).learn is Learner.learn, part
            assert type("Fast", (rule,), method | dict(learn=rule.learn)).learn is rule.learn
            mixed = type("Mixed", (type("Mixin", (), method), rule), dict(__module__=__name__))
            assert mixed.learn is Learner.learn, part
            assert mixed.rewarded == (rule.rewarded and part not in ("forward", "update")), part
        assert type("Noted", (rule,), dict(scalars=rule.scalars, __module__=__name__)).learn is rule.learn


@pytest.mark.parametrize("place", [0, 1])
def test_a_rule_learns_by_itself_in_a_layer_that_jax_has_rebuilt(place):
    """Not by the other rule of the layer, nor by one of another class."""
    for other in (dataclasses.replace(EXACT, ltp=1 / 8), REWARD):
        rules = [EXACT, EXACT]
        rules[1 - place] = other
        layer = layer_of(dataclasses.replace(FEATURES, learners=EXACT))
        layer = dataclasses.replace(layer, conv=dataclasses.replace(layer.conv, learners=tuple(rules)))
        learn = functools.partial(Learner.learn, rules[place], state=jnp.int32(0), labels=None)
        given = dict(latencies=jnp.asarray(IMAGES), learns=jnp.asarray(LEARNS))
        expected = learn(layer, **given).layer.weights
        assert np.any(expected != layer.weights)
        np.testing.assert_array_equal(jax.jit(learn)(layer, **given).layer.weights, expected)


NOT_NATIVE = {
    "STDP without a threshold": dataclasses.replace(FEATURES, threshold=None),
    "timed RSTDP": dataclasses.replace(READOUT, learners=REWARD),
    "NCG with padding": dataclasses.replace(RULES["NCG"], kernel=(9, 8), padding=1),
    "STDP that fires otherwise": dataclasses.replace(
        FEATURES, learners=snnjax.component(type("Firing", (STDP,), dict(forward=STDP.forward, __module__=__name__)))()
    ),
}


@pytest.mark.parametrize("update_batch", [1, 5])
@pytest.mark.parametrize("name", [*RULES, *NOT_NATIVE])
def test_rules_say_whether_compiled_code_computes_them(name, update_batch, compiler):
    """As the program shows that learns."""
    conv = (RULES | NOT_NATIVE)[name]
    learner = conv.last_learner
    layer = layer_of(conv)
    if name == "timed RSTDP":
        layer = dataclasses.replace(layer, timed=True)
    state = jax.tree.map(to_32_bits, learner.init(layer, np.array([0, 1], np.uint32), 2))
    labels = jnp.asarray(PARTLY) if learner.supervised else None
    decision = Earliest(fallback=True) if layer.timed else Majority()
    learn = functools.partial(
        learner.learn, labels=labels, update_batch=update_batch, vote=functools.partial(vote, decision)
    )
    with kernels.use_backend("native"):
        program = jax.make_jaxpr(learn)(layer, state, jnp.asarray(IMAGES), learns=jnp.asarray(LEARNS))
    assert learner.supports_native(layer, update_batch) == ("snnjax_learn_" in str(program))
    assert learner.supports_native(layer, 1) == (name in RULES)


AROUND = vars(Learner).keys() - {"forward", "update"} | {"check", "__module__"}
"""What learning from a sequence does not replace."""


@pytest.mark.parametrize("rule", [STDP, RSTDP, TargetTime, SupervisedSTDP])
def test_each_method_of_a_rule_is_asked_by_its_kernel_or_replaced_by_it(rule):
    methods = {name for name, value in vars(rule).items() if callable(value) and not name.startswith("_")}
    source = inspect.getsource(rule.learn)
    assert [name for name in methods - AROUND - rule.in_learn if f"self.{name}" not in source] == []


@snnjax.component
class Tiring(STDP):
    """A rule whose own number changes: each winner halves the next change."""

    share: float = 1.0

    def update(self, layer, state, latency, response, signal):
        won = response.winners.valid.any()
        rates = self.share * jnp.float32([0.25, -0.125])
        layer = layer.learn(latency, response.winners, rates, bounds=self.bounds, stabiliser=False)
        learner = dataclasses.replace(self, share=self.share * jnp.where(won, jnp.float32(0.5), 1))
        conv = dataclasses.replace(layer.conv, learners=learner)
        return dataclasses.replace(layer, conv=conv), state, response.winners.feature


def test_a_rule_that_changes_its_own_numbers_learns_by_the_new_ones():
    layer = layer_of(dataclasses.replace(FEATURES, learners=Tiring()))
    rule = layer.conv.last_learner
    found = rule.learn(layer, jnp.int32(0), jnp.asarray(IMAGES), None, jnp.asarray(LEARNS))
    won = int(np.sum(LEARNS & (np.asarray(found.info) >= 0).any(axis=1)))
    assert won > 5
    assert float(found.layer.conv.last_learner.share) == 0.5**won


@snnjax.component
class Latest(WTA):
    """A subclass may let others win: here no neuron."""

    def __call__(self, spikes, *, time_steps):
        won = super().__call__(spikes, time_steps=time_steps)
        return dataclasses.replace(won, feature=jnp.full_like(won.feature, -1))


def test_a_competition_that_derives_from_another_is_asked(compiler):
    conv = dataclasses.replace(FEATURES, competition=Latest(2))
    layer = layer_of(conv)
    found = conv.last_learner.learn(layer, jnp.int32(0), jnp.asarray(IMAGES), None, jnp.asarray(LEARNS))
    np.testing.assert_array_equal(found.layer.weights, layer.weights)


# Phases


@snnjax.component
class Slow(RSTDP):
    """The same rule, of one stimulus after the other."""

    def update(self, layer, state, latency, response, signal):
        return super().update(layer, state, latency, response, signal)


LAST = Conv(6, 4, weight_mean=0.5, learners=REWARD)
PAIR = stage(LAST, dataclasses.replace(LAST, kernel=3, learners=dataclasses.replace(REWARD, by_epoch=True)))
DECIDING = {
    "one": (stage(LAST), Majority(), 1),
    "groups within batches": (stage(LAST), Majority(), 3),
    "groups longer than batches": (stage(LAST), Majority(), 16),
    "by turns": (PAIR, Majority(), 1),
    "a rule of one's own": (stage(dataclasses.replace(LAST, learners=Slow())), Majority(), 1),
    "the earliest": (stage(dataclasses.replace(LAST, threshold=4.0)), Earliest(fallback=True), 1),
    "a readout": (stage(RULES["NCG"]), Earliest(fallback=True), 1),
    "no thresholds": (stage(RULES["SSTDP"]), Earliest(fallback=True), 4),
}


@pytest.mark.parametrize("name", DECIDING)
def test_deciding_layers_learn_from_batches_as_image_by_image(name, compiler):
    """From batches that begin and end within an interval, too; the last interval of an epoch is short."""
    each, decision, update_batch = DECIDING[name]
    by_turns = name == "by turns"
    network = Network("deciding", (2, 7, 6), 3, (each,), T, decision=decision, reward_by_turns=by_turns)
    drawn = {key: RNG.integers(16, 48, shape) / 64 for key, shape in network.weight_shapes.items()}
    model = model_of(network, {key: np.float32(x) for key, x in drawn.items()})
    names = tuple(model.layers)
    phase = Phase(names, update_batch=update_batch, by_turns=by_turns, supervised=True, adapt_every=8)
    assert learning_of(phase, network) is learn_deciding
    states = {}
    for key, layer in model.layers.items():
        states[key] = jax.tree.map(to_32_bits, layer.conv.last_learner.init(layer, np.zeros(2, np.uint32), 0))
    programs = [jax.jit(functools.partial(learn, phase)) for learn in (learn_deciding, learn_supervised)]
    carries = [Carry(model.layers, states, DecisionCounts(*np.zeros(5, np.int32)))] * 2
    for start, stop, last in ((0, 12, False), (12, 20, False), (20, 23, True)):
        batch = ImageBatch(IMAGES, np.int32(start), np.int32(stop), np.bool_(last), LABELS)
        (found, one), (expected, other) = (
            learn(carry, model, batch) for learn, carry in zip(programs, carries, strict=True)
        )
        carries = [found, expected]
        exact = name not in ("a readout", "no thresholds", "the earliest")
        assert_same(found, expected, exact)
        shown = [jax.tree.map(lambda x, here=slice(start, stop): x[here], result) for result in (one, other)]
        assert_same(*shown, exact)
    for key, layer in expected.layers.items():
        assert np.any(layer.weights != model.layers[key].weights)
    assert int(expected.counts.interval) == 3


@pytest.mark.parametrize("images", [1, 40, 100, 777, 5000])
@pytest.mark.parametrize(("adapt_every", "update_batch"), [(1, 1), (20, 1), (64, 8), (1000, 1), (1000, 32), (9999, 1)])
def test_batches_end_with_intervals_or_lie_within_one(images, adapt_every, update_batch):
    phase = Phase(("layer1",), supervised=True, images=images, adapt_every=adapt_every, update_batch=update_batch)
    batches = batches_of(phase)
    assert [batch.start for batch in batches] == [0, *(batch.stop for batch in batches[:-1])]
    assert batches[-1].stop == images
    assert max(batch.stop - batch.start for batch in batches) == batches[0].stop
    for batch in batches:
        aligned = batch.start % adapt_every == 0 and batch.stop % adapt_every in (0, images % adapt_every)
        assert aligned or batch.start // adapt_every == (batch.stop - 1) // adapt_every
    assert batches[0].stop <= 2 * max(BATCH_SIZES["learned"], min(adapt_every, BATCH_SIZES["learned"]), update_batch)


DATA = tiny.images()


def test_weights_are_clipped_when_a_phase_begins():
    """By the bounds of the learner that learns in it, of a training and of a stream, whatever is learned."""
    still = RSTDP(reward=(0, 0), punish=(0, 0), bounds=(0.4, 0.9))
    rules = STDP(bounds=(0.3, 0.8)), dataclasses.replace(still, bounds=(0.5, 0.7))
    first = dataclasses.replace(tiny.FIRST, threshold=1e6, weight_mean=0.6, learners=rules)
    stages = stage(first, pool=7), stage(Conv(20, kernel=4, learners=still))
    network = Network("clipped", (6, 28, 28), 10, stages)
    trainer = snnjax.Trainer(network, DATA, snnjax.Settings((1, 1), adapt_every=20, patience=0))
    state = trainer.initial_state()
    given = {name: np.float32(RNG.uniform(0, 1.5, x.shape)) for name, x in state.weights.items()}
    state.weights = dict(given)
    saved = []
    state = trainer.run(state, lambda state: saved.append(dict(state.weights)))

    def clipped(name, *bounds):
        return np.clip(given[name], *np.float32(bounds))

    after_stdp = next(weights["layer1"] for weights in saved if np.any(weights["layer1"] != given["layer1"]))
    np.testing.assert_array_equal(after_stdp, clipped("layer1", 0.3, 0.8))
    ended = dict(layer1=clipped("layer1", 0.5, 0.7), layer2=clipped("layer2", 0.4, 0.9))
    jax.tree.map(np.testing.assert_array_equal, state.weights, ended)
    stream = snnjax.Stream(snnjax.SpikingNetwork(network, weights=given))
    _, learned = stream.learn(stream.init(), DATA.train_images[0], DATA.train_labels[0])
    for name, layer in learned.carry.layers.items():
        np.testing.assert_array_equal(layer.weights, ended[name])


BEFORE = Conv(6, 2, threshold=2.0, competition=WTA(2), learners=RSTDP(bounds=(0.0, 1.0)))
PAIRS = {
    "a pair": (dict(), True),
    "thresholds of features": (dict(threshold=np.linspace(1, 2, 6)), False),
    "another competition": (dict(competition=Latest(2)), False),
    "weights below 0": (dict(learners=RSTDP(bounds=(-1.0, 1.0))), False),
    "dropout": (dict(learners=RSTDP(bounds=(0.0, 1.0), dropout=0.5)), False),
    "a rule of one's own": (dict(learners=Slow(bounds=(0.0, 1.0))), False),
    "inhibition": (None, False),
}


@pytest.mark.parametrize("name", PAIRS)
def test_two_layers_learn_in_one_call_only_if_nothing_else_matters(name):
    changes, expected = PAIRS[name]
    first = stage(dataclasses.replace(BEFORE, **(changes or {})), pointwise=changes is None)
    network = Network("pair", (2, 7, 6), 3, (first, stage(Conv(6, 4, learners=RSTDP()))), T)
    assert (learning_of(supervised_phase(network), network) is learn_pair) == expected
    beside = dataclasses.replace(network, stages=(stage(BEFORE, BEFORE), network.stages[1]))
    assert learning_of(supervised_phase(beside), beside) is learn_supervised


def test_a_layer_without_a_learner_does_not_learn():
    stages = stage(Conv(4, 3, threshold=3)), stage(Conv(10, 3, learners=RSTDP()))
    trainer = snnjax.Trainer(Network("fixed", (6, 28, 28), 10, stages), DATA, snnjax.Settings((5, 5)))
    assert [(phase.layers, phase.first) for phase in trainer.job.phases] == [(("layer2",), 1)]


def test_a_training_says_where_one_image_at_a_time_is_slow(tmp_path):
    stages = stage(Conv(31, 1, threshold=2.0, competition=WTA(2), learners=STDP())), stage(LAST)
    images = Dataset("none", *[np.zeros((4, 4, 4), np.uint8), np.arange(4) % 2] * 2, classes=2)
    for batch, one_by_one in ((1, ["layer1 (STDP)", "layer2 (RSTDP)"]), (4, [])):
        settings = snnjax.Settings((1, 1), update_batch=batch)
        trainer = snnjax.Trainer(Network("taken", (6, 4, 4), 2, stages), images, settings)
        for platform, slow in (("cpu", []), ("gpu", one_by_one)):
            trainer.job.placement.platform = platform
            assert trainer.sequential_layers(trainer.initial_state()) == slow
            with RunFolder(tmp_path / f"{batch}_{platform}", trainer) as run:
                run.start()
                assert run.notes.count(f"layer1 (STDP), layer2 (RSTDP): {ONE_BY_ONE}") == bool(slow)


def test_layers_that_learn_by_compiled_kernels_are_not_reported(compiler):
    """Those that learn from times or from groups of images are."""
    second = Conv(6, 2, threshold=2.0, competition=WTA(2), learners=RSTDP(bounds=(0.0, 1.0)))
    network = Network(
        "pair", (6, 28, 28), 10, (stage(tiny.FIRST, pool=7), stage(second), stage(Conv(20, 3, learners=RSTDP())))
    )
    timed = dataclasses.replace(network, decision=Earliest())
    for given, batch, reported in (
        (network, 1, []),
        (network, 5, ["layer1 (STDP)", "layer2 (RSTDP)", "layer3 (RSTDP)"]),
        (timed, 1, ["layer2 (RSTDP)", "layer3 (RSTDP)"]),
    ):
        trainer = snnjax.Trainer(given, DATA, snnjax.Settings((1, 1, 1), update_batch=batch, patience=0))
        assert trainer.layers_without_native() == reported
