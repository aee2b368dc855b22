"""What a plasticity rule of one's own is written with: receptive fields, and rows of weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from snnjax import (
    NETWORKS,
    STDP,
    Conv,
    Images,
    Layer,
    Learner,
    Network,
    Settings,
    Trainer,
    component,
    stage,
)
from snnjax.core.errors import InputError, InputTypeError
from snnjax.kernels import Winners
from snnjax.layers.layer import LayerKernels
from snnjax.layers.layer_kernels import BLOCKS, NATIVE, XLA
from snnjax.runs import RunFolder
from snnjax.testing import check_learner
from snnjax.training import build
from snnjax.training.sweep import Sweep

T, STRIDE, PADDING = 15, (2, 1), (1, 2)
WINNERS = Winners(*np.int32([[2, -1, 0], [1, 0, 2], [0, 3, 5], [4, 15, 7]]))
RANDOM = np.random.default_rng(0)
DIGITS = tiny.images()
CONV = Conv(3, (3, 2), threshold=1)


def plain(rule: Learner) -> Network:
    """A tiny network whose first layer learns by a rule."""
    network = tiny.plain(Images())
    first = stage(dataclasses.replace(tiny.FIRST, learners=rule), pool=7)
    return dataclasses.replace(network, stages=(first, network.stages[1]))


def test_winners_of_a_layer_see_its_padding():
    conv = Conv(3, (3, 2), padding=PADDING, stride=STRIDE, threshold=1)
    layer = Layer(conv, np.zeros((3, 4, 3, 2), np.float32), T, XLA)
    latency = RANDOM.integers(0, T + 1, (4, 7, 6)).astype(np.uint8)
    padded = np.pad(latency, ((0, 0), (1, 1), (2, 2)), constant_values=T)
    for field, row, column in zip(layer.receptive_fields(latency, WINNERS), WINNERS.row, WINNERS.column, strict=True):
        np.testing.assert_array_equal(field, padded[:, 2 * row : 2 * row + 3, column : column + 2])


@pytest.mark.parametrize("form", [LayerKernels(), XLA, NATIVE, BLOCKS], ids=["plain", "fast", "native", "taps"])
def test_rows_are_put_where_they_were_won(form):
    weights, rows = np.float32(RANDOM.random((2, 3, 4, 3, 2)))
    layer = Layer(CONV, weights, T, LayerKernels())
    found = jax.jit(lambda layer: layer.packed(form).with_rows(WINNERS, rows))(layer)
    expected = weights.copy()
    expected[2], expected[0] = rows[0], rows[2]
    np.testing.assert_array_equal(jax.jit(lambda layer: layer.weights)(found), expected)
    assert found.kernels is form


@component
class Inherited(STDP):
    """A rule that derives from one for compiled kernels, and says nothing of them."""

    def update(self, layer, state, latency, response, signal):
        winners = response.winners
        early = layer.receptive_fields(latency, winners) < 5
        old = layer.rows_of(winners)
        return layer.with_rows(winners, old + 0.05 * (early - old)), state, winners.feature


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


@component
class Drifting(Inherited):
    """All weights go on moving once something was learned, as with one optimiser for all of them."""

    def init(self, layer, key, seen):
        return np.float32(0)

    def update(self, layer, state, latency, response, signal):
        drifted = layer.with_weights(jnp.clip(layer.weights - state, 0, 1))
        return drifted, jnp.maximum(state, 0.0625 * response.winners.valid.any()), response.winners.feature


@pytest.mark.parametrize("rule", [Inherited(), Sure()], ids=["not for compiled kernels", "for compiled kernels"])
def test_rules_learn_the_same_on_both_kinds_of_kernels(rule, compiler):
    found = []
    for native in (False, True):
        trainer = Trainer(plain(rule), DIGITS, Settings((1, 0), batch_size=20, native=native))
        state = trainer.run(trainer.initial_state())
        found.append((state.weights["layer1"], state.numbers))
    assert np.std(found[0][0]) > 0.1
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-6), *found)


def test_rules_of_ones_own_are_checked(compiler):
    check_learner(Sure())
    with pytest.raises(AssertionError, match="compiled kernels"):
        check_learner(Peeping())
    with pytest.raises(AssertionError, match="a silent stimulus changes the weights, once something is learned"):
        check_learner(Drifting())


def test_a_run_says_which_rules_compiled_kernels_leave_to_xla(tmp_path, compiler):
    """A subclass says anew whether it is for compiled kernels."""
    said = ["layer1 (Inherited): learning on XLA's kernels, no compiled ones fit rule and settings"]
    for rule, native, notes in ((Inherited(), True, said), (Sure(), True, []), (Inherited(), False, [])):
        trainer = Trainer(plain(rule), DIGITS, Settings((1, 1), native=native))
        with RunFolder(tmp_path / f"{type(rule).__name__}_{native}", trainer) as run:
            assert run.notes == notes


@pytest.mark.parametrize(("update_batch", "left"), [(1, []), (4, ["layer2 (SupervisedSTDP)"])])
def test_it_is_said_where_compiled_kernels_do_not_fit_the_settings(update_batch, left, compiler):
    network = build.network_for(NETWORKS["goupy2024_ncg"], DIGITS)
    settings = Settings((1, 1), update_batch=update_batch, patience=0, native=True)
    assert Trainer(network, DIGITS, settings).uncompiled() == left
    assert Sweep(network, DIGITS, settings, [dict(seed=1)]).uncompiled() == left


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
