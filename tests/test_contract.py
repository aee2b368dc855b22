"""What is true of every learner, and of a layer on both back ends; what a rule of one's own is written with."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from snnjax import (
    NETWORKS,
    ImageSpec,
    Network,
    Settings,
    SpikingNetwork,
    Stream,
    Trainer,
    component,
    kernels,
    learners,
    stage,
    testing,
)
from snnjax.core import checks
from snnjax.core.errors import InputError, InputTypeError
from snnjax.kernels import Winners
from snnjax.layers.conv import WTA, Conv
from snnjax.layers.spiking import Layer
from snnjax.learners import RSTDP, STDP, Learner, LocalError, Prototypes, Response, SoftHebb, SupervisedSTDP, TargetTime
from snnjax.networks import Earliest
from snnjax.runs import RunFolder
from snnjax.testing import check_learner
from snnjax.training.sweep import Sweep

T = 15
LATENCIES = np.random.default_rng(0).integers(0, 2 * T, (2, 2, 6, 7)).clip(max=T).astype(np.uint8)


@component
class Homeostatic(Learner):
    """A learner of this test's own: additive, noisy; with each winner the threshold rises and the rate falls."""

    rate: float = 0.125
    bounds: tuple[float, float] = (0.0, 1.0)

    def init(self, layer, key, images_seen):
        return dict(key=key, fired=np.int32(0))

    def forward(self, layer, state, latency, label):
        return Response(layer.winners(latency))

    def update(self, layer, state, latency, response, signal):
        key, now = jax.random.split(state["key"])
        rates = self.rate * jnp.float32([1, -0.5]) * jax.random.uniform(now, minval=0.5)
        learned = layer.learn(latency, response.winners, rates, bounds=self.bounds, stabiliser=False)
        won = (response.winners.feature >= 0).sum(dtype=jnp.int32)
        learner = dataclasses.replace(self, rate=self.rate * jnp.float32(0.75) ** won)
        conv = dataclasses.replace(layer.conv, threshold=layer.conv.threshold + 0.25 * won, learners=learner)
        return dataclasses.replace(learned, conv=conv), dict(key=key, fired=state["fired"] + won), won


def after(change):
    """An `update` that returns what `change` makes of the layer, state and info that `Homeostatic` has learned."""
    return dict(update=lambda self, *given: change(*Homeostatic.update(self, *given)))


LEARNERS = {
    "STDP": (STDP(ltp=0.04, ltd=-0.03, doubling=3), dict()),
    "signed STDP": (STDP(0.04, -0.03, bounds=(-1.0, 1.0), stabiliser=False), dict(conv=Conv(4, 3, threshold=0.25))),
    "RSTDP, earliest within its step": (
        RSTDP(floor=0.25, by_epoch=True),
        dict(deciding=True, decision=Earliest(fallback=True), conv=Conv(2, 5, threshold=17.0, fractional=True)),
    ),
    "RSTDP, earlier": (RSTDP(bounds=(0.0, 1.0), stabiliser=True, dropout=0.25, floor=0.25), dict()),
    "one that changes its own rate and threshold": (Homeostatic(), dict()),
    "TargetTime, many patches": (
        TargetTime(target_time=0.5, rate=0.05, beta=2.0, annealing=0.5, bounds=(0.25, 0.75), patches=3),
        dict(conv=Conv(5, (3, 2), stride=(2, 1), padding=(1, 0), threshold=np.float32([1, 2, 1.5, 3, 2.5]))),
    ),
    "SupervisedSTDP": (SupervisedSTDP(), dict(deciding=True, decision=Earliest(fallback=True))),
    "SoftHebb": (SoftHebb(minibatch_size=3), dict()),
    "LocalError": (LocalError(parts=2, minibatch_size=3), dict()),
    "LocalError, random feedback": (LocalError(feedback="random", dropout=0.0, minibatch_size=3), dict()),
    "Prototypes": (Prototypes(), dict(deciding=True)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNERS)
def test_learners_keep_the_contract(name):
    learner, settings = LEARNERS[name]
    check_learner(learner, **settings)


def cheat(self, layer, state, latency, label):
    """Decides by the label."""
    spikes = layer.deciding_spikes(latency)
    own = jnp.arange(layer.conv.features) // (layer.conv.features // layer.classes) == label
    potential = jnp.where(own[:, None, None], spikes.potential, 0)
    return Response(spikes=dataclasses.replace(spikes, potential=potential))


TRACED: list[int] = []


def forward_by_state(self, layer, state, latency, label):
    """Has a state elsewhere."""
    TRACED.append(0)
    threshold = layer.conv.threshold - len(TRACED) % 3
    return Response(layer.with_threshold(threshold).winners(latency))


def wrap_around(self, layer, state, latency, response, signal):
    """Takes an early input for a late one."""
    winners = response.winners
    later = winners.latency[:, None, None, None] - layer.receptive_fields(latency, winners) > 0
    return layer.with_weights_of(winners, jnp.where(later, 0.25, 0.75)), state, winners.feature


def remember(self, layer, key, seen):
    return np.uint8(0)


def wrap_winners(self, layer, state, latency, response, signal):
    """Takes the difference between two winners, and remembers a latency."""
    winners = response.winners
    later = winners.latency[0] - winners.latency[1] > 0
    rows = jnp.where(later, 0.25, 0.75) * jnp.ones_like(layer.weights_of(winners))
    return layer.with_weights_of(winners, rows), jnp.maximum(state, latency.min()), winners.feature


BROKEN = [  # the clause, methods, and the message
    ("shapes", after(lambda layer, state, info: (layer, state)), r"return \(layer, state, info\), got a tuple of 2$"),
    (
        "shapes",
        after(lambda layer, state, info: (layer, dict(state, fired=state["fired"] * 1.0), info)),
        r"`update\(\.\.\.\)\[1\]\['fired'\]` of .* must be int32 of shape \(\), got float32",
    ),
    (
        "results",
        after(lambda layer, state, won: (layer.with_weights(layer.weights / jnp.float32(won < 0)), state, won)),
        r"\.layers\['layer1'\]\.weights holds NaN or infinity",
    ),
    ("results", dict(diagnose=lambda self, layer, info: dict(learner=self)), "`diagnose` of Broken must be JSON data"),
    (
        "results",
        dict(diagnose=lambda self, layer, info: dict(least=info.sum("F"))),
        "Broken must raise nothing, got TypeError: ",
    ),
    (
        "results",
        dict(scalars=lambda self, state: dict(fired=np.zeros(3))),
        "`scalars` of Broken must be a dict of numbers, got ",
    ),
    (
        "results",
        after(lambda layer, state, won: (layer.with_weights(layer.weights.at[0].set(1.5)), state, won)),
        r"`weights` must lie within its `bounds`, 0\.\.1, got ",
    ),
    (
        "silence",
        after(lambda layer, state, info: (layer.with_threshold(layer.conv.threshold - 0.125), state, info)),
        r"a silent stimulus changes numbers of the layer: \.threshold",
    ),
    ("signs", dict(update=wrap_around), "Broken subtracts unsigned latencies, which wraps around: use"),
    (
        "signs",
        dict(update=wrap_winners, init=remember),
        "Broken subtracts unsigned latencies, which wraps around: use",
    ),
    ("vmap", dict(forward=forward_by_state), "under `jax.vmap` it learns differently"),
    ("order", dict(forward=forward_by_state), "the results differ from `forward`, then `update`"),
]


@pytest.mark.parametrize(("clause", "methods", "message"), BROKEN, ids=[message for _, _, message in BROKEN])
def test_learners_that_break_the_contract_are_found(clause, methods, message, monkeypatch):
    """Each by the check of its clause; the others are left out, since they take long."""
    check_only(monkeypatch, clause)
    broken = component(type("Broken", (Homeostatic,), methods | dict(__module__=__name__)))
    with pytest.raises(AssertionError, match=message) as found:
        check_learner(broken())
    assert str(found.value).startswith(f"Broken breaks the contract of learners:\n\n{clause}: ")


def check_only(monkeypatch, *clauses):
    """Leaves out all other clauses, which take long."""
    monkeypatch.setattr(testing, "CLAUSES", {name: testing.CLAUSES[name] for name in clauses})


def test_all_violations_are_found_and_explained(monkeypatch):
    """The check goes on after the first; a rule that is meant to act on silent images declares that."""
    check_only(monkeypatch, "silence", "signs")

    def update(self, layer, state, latency, response, signal):
        layer, state, info = wrap_around(self, layer, state, latency, response, signal)
        return layer.with_threshold(layer.conv.threshold - 0.125), state, info

    methods = dict(update=update, __module__=__name__)
    for declared, start in ((False, "silence: "), (True, "signs: ")):
        rule = component(type("Broken", (Homeostatic,), methods | dict(acts_on_silence=declared)))
        with pytest.raises(AssertionError, match="signs: Broken subtracts unsigned latencies") as found:
            check_learner(rule())
        text = str(found.value)
        assert text.partition("\n\n")[2].startswith(start)
        assert ("class: acts_on_silence = True" in text) is not declared


def test_learners_that_cheat_or_learn_nothing_are_found(monkeypatch):
    check_only(monkeypatch, "vmap", "label")
    with pytest.raises(AssertionError, match="neither weights nor numbers change"):
        check_learner(STDP(), Conv(4, kernel=3, threshold=1e6))
    check_only(monkeypatch, "label")
    with pytest.raises(AssertionError, match="the decision of `forward` depends on the label"):
        check_learner(component(type("Cheating", (RSTDP,), dict(forward=cheat)))(), deciding=True)


def timed_spikes(layer: Layer, latency: np.ndarray):
    """Those of a deciding layer under a timed decision; within their steps where they are above 0 at least."""
    fractional = layer.conv.threshold is not None and np.min(layer.conv.threshold) >= 0
    conv = dataclasses.replace(layer.conv, fractional=fractional)
    return dataclasses.replace(layer, conv=conv, classes=1, timed=True).deciding_spikes(latency)


EACH = np.float32([1, 4, 6, 2.5, 9])
CONVS = {
    "tall": Conv(5, (3, 2), stride=(2, 1), padding=(0, 1), threshold=2.5, competition=WTA(5), learners=STDP()),
    "deciding": Conv(5, kernel=3, padding=1, learners=RSTDP()),
    "signed": Conv(5, kernel=3, padding=1, threshold=0.5, competition=WTA(3), learners=STDP(bounds=(-1.0, 1.0))),
    "own thresholds": Conv(5, 3, padding=1, threshold=EACH, competition=WTA(3, radius=1), learners=STDP()),
    "below 0": Conv(5, kernel=3, padding=1, threshold=-0.5, competition=WTA(3, radius=1), learners=STDP()),
}


@pytest.mark.parametrize("name", CONVS)
def test_both_back_ends_compute_the_layer_of_the_definition(name, compiler):
    """Weights are multiples of 1/64, so that sums are exact in any order: all but the update is the same to the bit."""
    conv, rates = CONVS[name], np.float32([0.5, -0.25])
    rule = dict(bounds=conv.learners.bounds, stabiliser=conv.learners.stabiliser)
    shape = (conv.features, 2, *checks.pair("kernel", conv.kernel, 1))
    lower, upper = np.round(64 * np.array(rule["bounds"])).astype(int)
    weights = np.float32(np.random.default_rng(1).integers(lower, upper, shape) / 64)
    layer = Layer(conv, jnp.asarray(weights), T, conv.monotone)
    methods = Layer.responses, Layer.spikes, Layer.potentials, Layer.winners, timed_spikes

    def computed(latency):
        return [method(layer, latency) for method in methods], layer.last_outputs(latency[None], None)

    for latency in LATENCIES:
        results = {}
        for chosen in ("xla", "native"):
            with kernels.use_backend(chosen):
                (*found, winners, timed), last = computed(latency)
                there = np.asarray(winners.valid)
                won = jax.tree.map(lambda x, there=there: np.where(there, np.int64(x), -1), winners)
                results[chosen] = found, timed, last, won
        jax.tree.map(np.testing.assert_array_equal, results["native"], results["xla"])
        with kernels.use_backend("xla"):
            after = layer.learn(latency, winners, rates, **rule)
        learned = layer.learn(latency, winners, rates, **rule)
        np.testing.assert_allclose(learned.weights, after.weights, rtol=0, atol=1e-6)
        assert np.any(learned.weights != weights)


def test_rules_of_the_library_are_public_and_in_the_table_above():
    rules = {kind for kind in vars(learners).values() if isinstance(kind, type) and issubclass(kind, Learner)}
    for rule in rules - {Learner}:
        assert rule.__name__ in learners.__all__
        assert any(type(learner) is rule for learner, _ in LEARNERS.values())


STRIDE = (2, 1)
PADDING = (1, 2)
WINNERS = Winners(*np.int32([[2, -1, 0], [1, 0, 2], [0, 3, 5], [4, 15, 7]]))
RANDOM = np.random.default_rng(0)
DIGITS = tiny.images()


def test_winners_of_a_layer_see_its_padding():
    """Silence around latencies, 0 around other values, or what the rule asks for."""
    conv = Conv(3, (3, 2), padding=PADDING, stride=STRIDE, threshold=1)
    layer = Layer(conv, np.zeros((3, 4, 3, 2), np.float32), T)
    latency = RANDOM.integers(0, T + 1, (4, 7, 6)).astype(np.uint8)
    padded = np.pad(latency, ((0, 0), (1, 1), (2, 2)), constant_values=T)
    with_zeros = np.pad(latency, ((0, 0), (1, 1), (2, 2)))
    cases = [(latency, {}, padded)]
    cases += [(latency.astype(dtype), {}, with_zeros.astype(dtype)) for dtype in (np.float32, bool)]
    cases += [(latency.astype(np.int32), dict(padding_value=0), with_zeros.astype(np.int32))]
    for maps, options, expected in cases:
        found = np.asarray(layer.receptive_fields(maps, WINNERS, **options))
        assert found.dtype == maps.dtype
        for field, row, column in zip(found, WINNERS.row, WINNERS.column, strict=True):
            np.testing.assert_array_equal(field, expected[:, 2 * row : 2 * row + 3, column : column + 2])


@component
class Traced(Learner):
    """Remembers for each input how often it fired; the winner's weights become what they see of that."""

    def init(self, layer, key, images_seen):
        return np.zeros(layer.input_shape, np.float32)

    def update(self, layer, state, latency, response, signal):
        state = 0.5 * state + (latency < layer.time_steps)
        seen = layer.receptive_fields(state, response.winners)
        return layer.with_weights_of(response.winners, seen), state, ()


def test_rules_know_the_shape_of_the_input():
    """That of the stage, also of a later one, and of a layer with a ramp; other shapes are refused."""
    network = tiny.branches(ImageSpec())
    layers = SpikingNetwork(network).model.layers
    for number, name, _ in network.layers():
        assert layers[name].input_shape == network.input_shapes[number]
    (deep,) = SpikingNetwork(NETWORKS["softhebb_narrow"](ImageSpec((32, 32, 3)))).model.layers["layer2"].input_shape[:1]
    assert deep == 48
    trained = tiny.trained(tiny.with_first(tiny.plain(ImageSpec()), learners=Traced()), DIGITS, Settings((1, 0)))
    assert trained.weights["layer1"].max() > 1.5, "an input fired at two images in a row"
    with pytest.raises(
        InputError, match=r"`maps` must have shape \(6, 28, 28\) of the layer's input, got \(4, 28, 28\)"
    ):
        layers["layer1"].receptive_fields(np.zeros((4, 28, 28)), WINNERS)


@component
class Inherited(STDP):
    """A rule that derives from one with a sequence kernel, which it does not use; it moves a threshold too."""

    own_thresholds = True

    def update(self, layer, state, latency, response, signal):
        winners = response.winners
        early = layer.receptive_fields(latency, winners) < 5
        old = layer.weights_of(winners)
        layer = layer.with_weights_of(winners, old + 0.05 * (early - old))
        layer = layer.with_threshold(layer.conv.threshold + 0.125 * winners.valid.any())
        return layer, state, winners.feature


@component
class Peeping(Inherited):
    """A rule that has a fast way of learning, which is another one."""

    def learn(self, layer, state, latencies, labels, learns, *, update_batch=1, vote=None):
        return STDP.learn(self, layer, state, latencies, labels, learns, update_batch=update_batch)


@component
class Noted(STDP):
    """A rule that only reports more."""

    def scalars(self, state):
        return super().scalars(state) | dict(images=float(state))


@component
class Drifting(Inherited):
    """All weights go on moving once something was learned, as with one optimiser for all of them."""

    def init(self, layer, key, images_seen):
        return np.float32(0)

    def update(self, layer, state, latency, response, signal):
        drifted = layer.with_weights(jnp.clip(layer.weights - state, 0, 1))
        return drifted, jnp.maximum(state, 0.0625 * response.winners.valid.any()), response.winners.feature


def test_rules_of_ones_own_are_checked(compiler, monkeypatch):
    check_only(monkeypatch, "silence", "backends", "order")
    check_learner(Inherited())
    with pytest.raises(AssertionError, match="with `update_batch` 1 the results differ from `forward`, then `update`"):
        check_learner(Peeping())
    with pytest.raises(AssertionError, match="a silent stimulus changes the weights after an epoch of learning"):
        check_learner(Drifting())


@pytest.mark.parametrize(
    ("base", "name", "advice"),
    [
        (Learner, "end_batch", "rename it to `end_interval`"),
        (RSTDP, "end_batch", "rename it to `end_interval`"),
        (Learner, "joint", "declare a `minibatch_size`"),
        (Learner, "native", "`supports_native` says whether"),
        (STDP, "seen", "rename it to `learning_input`"),
        (Inherited, "seen", "rename it to `learning_input`"),
        (TargetTime, "rule", "override `update_weights` or `update_thresholds`"),
        (TargetTime, "learned", "override `update_weights` or `update_thresholds`"),
        (SoftHebb, "batch", "rename it to `minibatch_size`"),
    ],
)
def test_names_of_version_06_are_refused_where_a_rule_is_defined(base, name, advice):
    """Also of a mixin; other rules may have a field of a name that had a meaning in one rule only."""
    with pytest.raises(InputError, match=f"`{name}` of Old is a name of version 0.6, which has no effect: .*{advice}"):
        type("Old", (base,), {name: None})
    with pytest.raises(InputError, match=f"`{name}` of Mixed is"):
        type("Mixed", (type("Mixin", (), {name: None}), base), {})
    assert type("Own", (Learner,), dict(seen=1, rule=2, learned=3, batch=4)).seen == 1


def test_a_run_says_which_rules_learn_without_a_compiled_kernel(tmp_path, compiler):
    """A subclass that overrides what a kernel replaces learns without it; one that adds something else does not."""
    network = tiny.plain(ImageSpec())
    said = ["layer1 (Inherited): learning image by image, as no compiled sequence kernel supports rule and settings"]
    for rule, backend, notes in ((Inherited(), "native", said), (Noted(), "native", []), (Inherited(), "xla", [])):
        trainer = Trainer(tiny.with_first(network, learners=rule), DIGITS, Settings((1, 1), backend=backend))
        with RunFolder(tmp_path / f"{type(rule).__name__}_{backend}", trainer) as run:
            assert run.notes == notes
    network = tiny.labelled(ImageSpec())
    for update_batch, left in ((1, []), (4, ["layer1 (STDP)", "layer2 (SupervisedSTDP)"])):
        settings = Settings((1, 1), update_batch=update_batch, patience=0, backend="native")
        assert Trainer(network, DIGITS, settings).layers_without_native() == left
        assert Sweep(network, DIGITS, settings, [dict(seed=1)]).layers_without_native() == left


@component
class Halving(Learner):
    """After each image for which no neuron wins or decides, and after these alone, all weights are halved."""

    share: float = 0.5
    acts_on_silence = True

    def update(self, layer, state, latency, response, signal):
        silent = ~response.winners.valid.any()
        return layer.with_weights(jnp.where(silent, self.share, 1) * layer.weights), state, ()


@component
class HalvingReadout(Halving):
    """The same of a layer that decides."""

    supervised = True

    def update(self, layer, state, latency, response, signal):
        share = jnp.where(signal.vote < 0, self.share, 1)
        return layer.with_weights(share * layer.weights), state, ()


@pytest.mark.slow
def test_all_trainings_let_a_rule_act_on_silent_images(compiler):
    """Both back ends, batches, sweeps and streams: weights are halved as often as images are silent."""
    check_learner(Halving())
    silent = np.isin(np.arange(40), (0, 3, 17, 38, 39))
    images = np.where(silent[:, None, None], 0, DIGITS.train_images)
    data = dataclasses.replace(DIGITS, train_images=images.astype(DIGITS.train_images.dtype))
    first = dataclasses.replace(tiny.FIRST, threshold=0.0, learners=Halving())
    last = Conv(20, kernel=4, learners=HalvingReadout())
    stages = stage(first, pool=7), stage(last)
    network = Network("halving", data.input_shape, 10, stages, encoder=data.encoder)
    initial = network.initial_weights(0)
    expected = {name: weights * 0.5 ** silent.sum() for name, weights in initial.items()}
    trained = {}
    for update_batch, backend in ((1, "native"), (3, "xla")):
        settings = Settings((1, 1), patience=0, update_batch=update_batch, backend=backend)
        trained[update_batch, backend] = tiny.trained(network, data, settings).weights
    variants = [{"layer1.share": share, "layer2.share": share} for share in (0.25, 0.5)]
    trained["sweep"] = Sweep(network, data, settings, variants).run().trained[1].weights
    for path, weights in trained.items():
        jax.tree.map(functools.partial(np.testing.assert_array_equal, err_msg=f"{path}"), dict(weights), expected)
    stream = Stream(SpikingNetwork(network, weights=initial))
    _, learned = stream.learn(stream.init(), images, data.train_labels)
    np.testing.assert_array_equal(learned.carry.layers["layer2"].weights, expected["layer2"])


@component
class Underived:
    """Has what a layer asks a rule for, but does not derive from `Learner`."""

    bounds = None


def test_a_rule_must_derive_from_learner_and_lose_no_field():
    with pytest.raises(InputTypeError, match=r"`learners` must be .*got Underived.*: write class Underived\(snnjax.Le"):
        Conv(16, 16, threshold=15, learners=Underived())
    with pytest.raises(InputTypeError, match=r"`learner` must be .* derives"):
        check_learner(Underived())
    with pytest.raises(InputError, match=r"`Base`, a base of Kid, has fields \(rate\): decorate it"):
        component(type("Kid", (type("Base", (), {"__annotations__": {"rate": float}, "rate": 0.1}),), {}))
    with pytest.raises(InputError, match="`mode` of Text must be `static`"):
        component(type("Text", (Learner,), {"__annotations__": {"mode": str}, "mode": "a"}))
