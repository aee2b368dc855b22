"""What a plasticity rule of one's own is written with: receptive fields, and rows of weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnjax import RSTDP, STDP, WTA, Conv, Layer, Network, Settings, Trainer, component, kernels, stage
from snnjax.app import RunFolder
from snnjax.data import digits
from snnjax.errors import InputError
from snnjax.forms import FAST, NATIVE, PLAIN, TAPS
from snnjax.kernels import Winners
from snnjax.learners import Response
from snnjax.testing import check_learner

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
    layer = Layer(conv, jnp.zeros((3, 4, 3, 2)), T, FAST)
    latency = random.integers(0, T + 1, (4, 7, 6)).astype(np.uint8)
    padded = np.pad(latency, ((0, 0), (1, 1), (2, 2)), constant_values=T)
    found = layer.receptive_fields(jnp.asarray(latency), WINNERS)
    for field, row, column in zip(found, WINNERS.row, WINNERS.column, strict=True):
        np.testing.assert_array_equal(field, padded[:, 2 * row : 2 * row + 3, column : column + 2])


@pytest.mark.parametrize("form", [PLAIN, FAST, NATIVE, TAPS], ids=["plain", "fast", "native", "taps"])
def test_rows_are_put_where_they_were_won(random, form):
    weights = jnp.asarray(random.random((3, 4, 3, 2)), jnp.float32)
    layer = Layer(Conv(3, (3, 2), threshold=1), weights, T, PLAIN).packed(form)
    rows = jnp.asarray(random.random((3, 4, 3, 2)), jnp.float32)
    found = layer.with_rows(WINNERS, rows)
    expected = np.array(weights)
    expected[2], expected[0] = rows[0], rows[2]
    np.testing.assert_array_equal(found.weights, expected)
    assert found.form is form


@component
class Inherited(STDP):
    """A rule of one's own that says nothing of compiled kernels, and indexes the weights themselves."""

    def update(self, layer, state, latency, response, signal):
        winners = response.winners
        early = layer.receptive_fields(latency, winners) < 5
        old = layer.weights[winners.feature]
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
        said = ["layer1 (Inherited): rules without a compiled form, which learn on XLA's kernels"]
        assert run.notes == said * (native and rule is Inherited)


@component
class Underived:
    """A rule that keeps the protocol without deriving from `Learner`: the winner's weights grow."""

    supervised = False
    rate: float = 0.1

    def init(self, layer, key, seen):
        return jnp.int32(0)

    def forward(self, layer, state, latency, label):
        return Response(layer.winners(latency))

    def update(self, layer, state, latency, response, signal):
        winners = response.winners
        rows = jnp.minimum(layer.weights[winners.feature] + self.rate, 1)
        return layer.with_rows(winners, rows), state + 1, winners.feature

    def end_epoch(self, state):
        return state

    def scalars(self, state):
        return {}

    def diagnose(self, name, layer, info):
        return dict(words=[f"{np.sum(info >= 0)} wins"])


def test_a_rule_need_not_derive_from_another(tmp_path, compiler):
    conv = Conv(16, 16, threshold=15, competition=WTA(2), learners=Underived())
    network = Network("own", (6, 28, 28), 10, (stage(conv), stage(Conv(20, 3, learners=RSTDP()))))
    trainer = Trainer(network, digits().first(20, 10), Settings((1, 1), native=True))
    with RunFolder(tmp_path, trainer) as run:
        assert run.notes == ["layer1 (Underived): rules without a compiled form, which learn on XLA's kernels"]
        assert run.run()["epochs"]
    check_learner(Underived())


def test_a_subclass_says_anew_whether_it_is_for_compiled_kernels():
    class Sure(Inherited):
        native = True

    class Annealed(Sure):
        def end_epoch(self, state):
            return state

    assert (STDP.native, Inherited.native, Sure.native, Annealed.native) == (True, False, True, True)
