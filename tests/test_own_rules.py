"""What a plasticity rule of one's own is written with: receptive fields, and rows of weights."""

import dataclasses
import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from snnjax import (
    NETWORKS,
    RSTDP,
    STDP,
    WTA,
    Conv,
    Layer,
    Learner,
    Network,
    Settings,
    SpikingNetwork,
    Trainer,
    component,
    kernels,
    stage,
    static,
)
from snnjax.core.errors import InputError, InputTypeError
from snnjax.data import digits
from snnjax.kernels import Winners
from snnjax.layers.layer_kernels import NATIVE, PLAIN, TAPS, XLA
from snnjax.learners import Response
from snnjax.runs import RunFolder
from snnjax.testing import check_learner
from snnjax.training import build
from snnjax.training.sweep import Sweep

T, STRIDE, PADDING = 15, (2, 1), (1, 2)
WINNERS = Winners(*(jnp.array(x) for x in ([2, -1, 0], [1, 0, 2], [0, 3, 5], [4, 15, 7])))


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_receptive_fields_by_definition(random, contract):
    latency = random.integers(0, T + 1, (2, 4, 9, 8)).astype(np.uint8)
    rows, columns = random.integers(0, 4, (2, 3)), random.integers(0, 6, (2, 3))

    def see(latency, row, column):
        winners = Winners(row, row, column, row)
        return kernels.receptive_fields(latency, winners, kernel=(3, 2), stride=STRIDE)

    contract(see, [jnp.asarray(latency), jnp.asarray(rows, jnp.int32), jnp.asarray(columns, jnp.int32)])
    for found, row, column in zip(see(latency[0], rows[0], columns[0]), rows[0], columns[0], strict=True):
        np.testing.assert_array_equal(found, latency[0][:, 2 * row : 2 * row + 3, column : column + 2])


def test_winners_of_a_layer_see_its_padding(random):
    conv = Conv(3, (3, 2), padding=PADDING, stride=STRIDE, threshold=1)
    layer = Layer(conv, jnp.zeros((3, 4, 3, 2)), T, XLA)
    latency = random.integers(0, T + 1, (4, 7, 6)).astype(np.uint8)
    padded = np.pad(latency, ((0, 0), (1, 1), (2, 2)), constant_values=T)
    found = layer.receptive_fields(jnp.asarray(latency), WINNERS)
    for field, row, column in zip(found, WINNERS.row, WINNERS.column, strict=True):
        np.testing.assert_array_equal(field, padded[:, 2 * row : 2 * row + 3, column : column + 2])


@pytest.mark.parametrize("form", [PLAIN, XLA, NATIVE, TAPS], ids=["plain", "fast", "native", "taps"])
def test_rows_are_put_where_they_were_won(random, form):
    weights = jnp.asarray(random.random((3, 4, 3, 2)), jnp.float32)
    layer = Layer(Conv(3, (3, 2), threshold=1), weights, T, PLAIN).packed(form)
    rows = jnp.asarray(random.random((3, 4, 3, 2)), jnp.float32)
    found = layer.with_rows(WINNERS, rows)
    expected = np.array(weights)
    expected[2], expected[0] = rows[0], rows[2]
    np.testing.assert_array_equal(found.weights, expected)
    assert found.kernels is form


@component
class Inherited(STDP):
    """A rule that derives from one for compiled kernels, and says nothing of them."""

    def update(self, layer, state, latency, response, signal):
        winners = response.winners
        early = layer.receptive_fields(latency, winners) < 5
        old = layer.rows_of(winners)
        return layer.with_rows(winners, old + 0.05 * (early - old)), state, winners.feature


def test_rules_derived_from_one_for_compiled_kernels_learn_the_same_on_them(compiler):
    """Their weights would be packed: 16 features of 16x16 as (kh, C, kw, F), which the rows fit."""
    conv = Conv(16, 16, threshold=15, competition=WTA(2), learners=Inherited())
    network = Network("own", (6, 28, 28), 10, (stage(conv), stage(Conv(20, 3, learners=RSTDP()))))
    data, found = digits().first(20, 10), []
    for native in (False, True):
        trainer = Trainer(network, data, Settings((1, 0), native=native))
        found.append(trainer.run(trainer.initial_state()).weights["layer1"])
    np.testing.assert_allclose(*found, atol=1e-6)


@component
class Sure(Inherited):
    """The same rule, which says that it may learn on compiled kernels, and moves a threshold too."""

    own_thresholds = True
    native = True

    def update(self, layer, state, latency, response, signal):
        layer, state, info = super().update(layer, state, latency, response, signal)
        return layer.with_threshold(layer.conv.threshold + 0.125 * (info >= 0).any()), state, info


@component
class Peeping(Sure):
    """A rule that takes the layout of the kernels for the weights."""

    native = True

    def update(self, layer, state, latency, response, signal):
        grown = layer.stored.at[0].add(0.25 * response.winners.valid.any())
        grown = dataclasses.replace(layer, stored=jnp.minimum(grown, 1))
        return grown, state, response.winners.feature


def test_native_rules_learn_the_same_on_both_kinds_of_kernels(compiler):
    conv = Conv(20, 5, threshold=15, competition=WTA(2), learners=Sure())
    network = Network("own", (6, 28, 28), 10, (stage(conv, pool=4), stage(Conv(20, 6, learners=RSTDP()))))
    data, found = digits().first(40, 10), []
    for native in (False, True):
        trainer = Trainer(network, data, Settings((1, 0), native=native))
        state = trainer.run(trainer.initial_state())
        found.append((state.weights["layer1"], state.numbers))
    assert np.std(found[0][0]) > 0.1
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-6), *found)


def test_native_rules_are_checked_on_compiled_kernels(compiler):
    check_learner(Sure())
    with pytest.raises(AssertionError, match="compiled kernels"):
        check_learner(Peeping())


@component
class Drifting(Inherited):
    """All weights go on moving once something was learned, as with one optimiser for all of them."""

    def init(self, layer, key, seen):
        return np.float32(0)

    def update(self, layer, state, latency, response, signal):
        drifted = layer.with_weights(jnp.clip(layer.weights - state, 0, 1))
        return drifted, jnp.maximum(state, 0.0625 * response.winners.valid.any()), response.winners.feature


def test_rules_that_a_silent_stimulus_moves_later_are_found():
    with pytest.raises(AssertionError, match="a silent stimulus changes the weights, once something is learned"):
        check_learner(Drifting())


def test_learning_clips_all_weights_to_the_bounds_that_it_is_given():
    """Whatever the layer is known to keep within."""
    rule = STDP()
    weights = jnp.linspace(0, 1, 3 * 4 * 3 * 2, dtype=jnp.float32).reshape(3, 4, 3, 2)
    layer = Layer(Conv(3, (3, 2), threshold=1, learners=rule), weights, T, XLA, in_bounds=True)
    latency = jnp.zeros((4, 5, 5), jnp.uint8)
    winners = Winners(*(jnp.array([each]) for each in (2, 0, 0, 1)))
    rates = jnp.float32([0.01, -0.01])
    narrow = layer.learn(latency, winners, rates, bounds=(0.25, 0.75)).weights
    np.testing.assert_allclose([narrow.min(), narrow.max()], [0.25, 0.75])
    grown = layer.with_weights(layer.weights * 2).learn(latency, winners, rates, bounds=rule.bounds).weights
    np.testing.assert_allclose(grown.max(), 1)


def test_fields_that_components_would_lose_are_refused():
    class Base:
        rate: float = 0.1

    with pytest.raises(InputError, match=r"`Base`, a base of Kid, has fields \(rate\): decorate it"):
        component(type("Kid", (Base,), {}))
    with pytest.raises(InputError, match="`mode` of Text must be `static`"):
        component(type("Text", (Learner,), {"__annotations__": {"mode": str}, "mode": "a"}))


def test_weights_and_thresholds_of_another_shape_are_refused():
    layer = Layer(Conv(3, (3, 2), threshold=1), jnp.zeros((3, 4, 3, 2)), T, PLAIN)
    for call, name in (
        (lambda: layer.with_weights(jnp.zeros((2, 4, 3, 2))), "weights"),
        (lambda: layer.with_weights(jnp.zeros((3, 4, 2, 3))), "weights"),
        (lambda: layer.with_threshold(jnp.zeros(2)), "threshold"),
    ):
        with pytest.raises(InputError, match=f"`{name}` must have shape"):
            call()


@pytest.mark.parametrize(("rule", "native"), [(Inherited, True), (STDP, True), (Inherited, False)])
def test_a_run_says_which_rules_compiled_kernels_leave_to_xla(rule, native, tmp_path, compiler):
    conv = Conv(16, 16, threshold=15, learners=rule())
    network = Network("own", (6, 28, 28), 10, (stage(conv), stage(Conv(20, 3, learners=RSTDP()))))
    trainer = Trainer(network, digits().first(20, 10), Settings((1, 1), native=native))
    with RunFolder(tmp_path, trainer) as run:
        said = ["layer1 (Inherited): learning on XLA's kernels, no compiled ones fit rule and settings"]
        assert run.notes == said * (native and rule is Inherited)


@pytest.mark.parametrize(("update_batch", "left"), [(1, []), (4, ["layer2 (SupervisedSTDP)"])])
def test_it_is_said_where_compiled_kernels_do_not_fit_the_settings(update_batch, left, compiler):
    data = digits().first(20, 10)
    network = build.network_for(NETWORKS["goupy2024_ncg"], data)
    settings = Settings((1, 1), update_batch=update_batch, patience=0, native=True)
    assert Trainer(network, data, settings).uncompiled() == left
    assert Sweep(network, data, settings, [dict(seed=1)]).uncompiled() == left


@component
class Underived:
    """Has the methods of a rule, but does not derive from `Learner`."""

    supervised = False
    joint = False
    bounds = None

    def init(self, layer, key, seen):
        return ()

    def forward(self, layer, state, latency, label):
        return Response(layer.winners(latency))

    def update(self, layer, state, latency, response, signal):
        return layer, state, ()


def test_a_rule_must_derive_from_learner():
    message = r"must be .* derive from snnjax.Learner, got .*Underived.*: write class Underived\(snnjax.Learner\)"
    with pytest.raises(InputTypeError, match="`learners` " + message):
        Conv(16, 16, threshold=15, learners=Underived())
    with pytest.raises(InputTypeError, match=r"`learner` must be .* derives"):
        check_learner(Underived())


def test_a_subclass_says_anew_whether_it_is_for_compiled_kernels():
    class Sure(Inherited):
        native = True

    class Annealed(Sure):
        def end_epoch(self, state):
            return state

    assert (STDP.native, Inherited.native, Sure.native, Annealed.native) == (True, False, True, True)


@component
class Wrong(STDP):
    """A rule that returns what the others cannot take, or asks for what is not known yet."""

    kind: str = static(default="")
    early: int = 5

    def init(self, layer, key, seen):
        return np.zeros(layer.conv.features, np.int32)

    def update(self, layer, state, latency, response, signal):
        match self.kind:
            case "two":
                return layer, state
            case "dtype":
                return layer, state * 1.0, ()
            case "threshold":
                return layer.with_threshold(jnp.ones(20)), state, ()
            case "rows":
                return layer.with_rows(response.winners, layer.rows_of(response.winners)[0]), state, ()
        return layer, state, ()


def page() -> str:
    """The page for authors of rules."""
    return (pathlib.Path(__file__).parents[1] / "experiments" / "own_rules.md").read_text()


@pytest.mark.parametrize("kind", ["two", "dtype", "threshold", "rows"])
def test_the_page_for_authors_has_the_messages_of_the_trainer(kind):
    conv = Conv(20, 5, padding=2, threshold=15, competition=WTA(5), learners=Wrong(kind=kind))
    network = Network("wrong", (6, 28, 28), 10, (stage(conv), stage(Conv(20, 3, learners=RSTDP()))))
    with pytest.raises(InputError) as error:
        Trainer(network, digits().first(20, 10), Settings((1, 1)))
    message = str(error.value).splitlines()[0].replace("Wrong", "Rule")
    assert f"| `` {message} `` |" in page()


def test_the_page_for_authors_has_the_message_of_kernels():
    with pytest.raises(InputError) as error:
        jax.jit(lambda k: kernels.k_winners(None, k=k, radius=0, time_steps=T))(1)
    assert str(error.value).splitlines()[0].partition(": ")[0] in page()


def test_one_update_of_the_rule_with_optax_without_a_trainer():
    """Each feature has an Adam of its own, of which only those of winners advance."""
    example = pathlib.Path(__file__).parents[1] / "experiments" / "examples" / "12_optax_rule.py"
    rule = runpy.run_path(str(example))["AdamInputs"](rate=0.2, halving=2)
    stages = stage(Conv(4, 3, threshold=4, learners=rule)), stage(Conv(2, 4, learners=RSTDP()))
    layer = SpikingNetwork(Network("one", (2, 6, 6), 2, stages)).model.layers["layer1"]
    before, state = layer.weights, rule.init(layer, np.zeros(2, np.uint32), 0)
    latency = jnp.full((2, 6, 6), T, jnp.uint8).at[0, 1, 1].set(3)
    update = jax.jit(lambda rule, *arguments: rule.update(*arguments))
    adam, expected = optax.adam(optax.exponential_decay(0.2, 2, 0.5)), before[2]
    own, early = adam.init(expected), jnp.zeros((2, 3, 3)).at[0, 0, 1].set(1)
    for feature in (2, -1, 2, 0, 2):
        winners = Winners(*(jnp.array([each]) for each in (feature, 1, 0, 4)))
        layer, state, _ = update(rule, layer, state, latency, Response(winners), None)
        if feature == 2:
            change, own = adam.update(expected - early, own)
            expected = jnp.clip(expected + change, 0, 1)
    np.testing.assert_allclose(layer.weights[2], expected, atol=1e-6)
    np.testing.assert_array_equal(layer.weights[jnp.array([1, 3])], before[jnp.array([1, 3])])
    counts = [each.tolist() for each in jax.tree.leaves(state) if each.dtype == jnp.int32]
    assert counts == [[1, 0, 3, 0]] * 2, "of Adam, and of its schedule"
