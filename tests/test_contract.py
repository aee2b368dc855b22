"""What is true of every learner, and of every form of a layer's kernels."""

import dataclasses
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import snnjax
from snnjax import Earliest, component, learners
from snnjax.layers.conv import WTA, Conv
from snnjax.layers.layer_kernels import NATIVE, PLAIN, TAPS, XLA, native_suits
from snnjax.layers.spiking import Layer
from snnjax.learners import RSTDP, STDP, Learner, Response, SoftHebb, SupervisedSTDP, TargetTime
from snnjax.testing import check_learner

T = 15
RNG = np.random.default_rng(0)
LATENCIES = RNG.integers(0, 2 * T, (3, 2, 6, 7)).clip(max=T).astype(np.uint8)


@component
class Homeostatic(Learner):
    """A learner of this test's own: additive, noisy, and with a threshold that rises with each winner."""

    rate: float = 0.125
    rise: float = 0.25
    bounds: tuple[float, float] = (0.0, 1.0)

    def init(self, layer, key, seen):
        return dict(key=key, fired=np.int32(0))

    def forward(self, layer, state, latency, label):
        return Response(layer.winners(latency))

    def update(self, layer, state, latency, response, signal):
        key, now = jax.random.split(state["key"])
        rates = self.rate * jnp.float32([1, -0.5]) * jax.random.uniform(now, minval=0.5)
        learned = layer.learn(latency, response.winners, rates, bounds=self.bounds, stabiliser=False)
        won = (response.winners.feature >= 0).sum(dtype=jnp.int32)
        conv = dataclasses.replace(layer.conv, threshold=layer.conv.threshold + self.rise * won)
        return dataclasses.replace(learned, conv=conv), dict(key=key, fired=state["fired"] + won), won


@component
class Annealed(Homeostatic):
    """Learns by a rate that falls with each winner."""

    def update(self, layer, state, latency, response, signal):
        layer, state, won = super().update(layer, state, latency, response, signal)
        learner = dataclasses.replace(self, rate=self.rate * jnp.float32(0.75) ** won)
        return dataclasses.replace(layer, conv=dataclasses.replace(layer.conv, learners=learner)), state, won


@component
class ThresholdsOnly(Homeostatic):
    """Moves thresholds, and no weights."""

    rate: float = 0.0


ROOT = pathlib.Path(__file__).parents[1]
LEARNERS = {
    "STDP": (STDP(ltp=0.04, ltd=-0.03, doubling=3), dict()),
    "signed STDP": (
        STDP(ltp=0.04, ltd=-0.03, bounds=(-1.0, 1.0), stabiliser=False),
        dict(conv=Conv(4, 3, threshold=0.25)),
    ),
    "RSTDP, deciding": (RSTDP(), dict(deciding=True)),
    "RSTDP, earlier": (RSTDP(bounds=(0.0, 1.0), stabiliser=True), dict()),
    "RSTDP, earliest spike": (
        RSTDP(bounds=(0.0, 1.0), dropout=0.5, floor=0.25),
        dict(deciding=True, decision=Earliest(), conv=Conv(6, 3, threshold=2.5)),
    ),
    "RSTDP, earliest within its step": (
        RSTDP(floor=0.25, by_epoch=True),
        dict(deciding=True, decision=Earliest(fallback=True), conv=Conv(2, 5, threshold=17.0, fractional=True)),
    ),
    "RSTDP, dropout, deciding": (RSTDP(dropout=0.25, by_epoch=True), dict(deciding=True, conv=Conv(8, 3))),
    "RSTDP, dropout, earlier": (RSTDP(bounds=(0.0, 1.0), stabiliser=True, dropout=0.25, floor=0.25), dict()),
    "one of its own": (Homeostatic(), dict()),
    "one that changes its own rate": (Annealed(), dict()),
    "TargetTime": (TargetTime(threshold_min=0.5), dict(conv=Conv(4, 3, threshold=2.0))),
    "TargetTime, many patches": (
        TargetTime(target_time=0.5, rate=0.05, beta=2.0, annealing=0.5, bounds=(0.25, 0.75), patches=3),
        dict(conv=Conv(5, (3, 2), stride=(2, 1), padding=(1, 0), threshold=np.float32([1, 2, 1.5, 3, 2.5]))),
    ),
    "TargetTime, one feature": (TargetTime(threshold_min=0.5), dict(conv=Conv(1, 6, threshold=3.0))),
    "TargetTime, by default": (TargetTime(), dict()),
    "SupervisedSTDP, by default": (SupervisedSTDP(), dict(deciding=True, decision=Earliest(fallback=True))),
    "SoftHebb": (SoftHebb(batch=3), dict()),
    "thresholds alone": (ThresholdsOnly(), dict()),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNERS)
def test_learners_keep_the_contract(name):
    learner, settings = LEARNERS[name]
    check_learner(learner, **settings)


@component
class Forgetful(Homeostatic):
    """Weights decay, by silence too."""

    def update(self, layer, state, latency, response, signal):
        layer, state, won = super().update(layer, state, latency, response, signal)
        return layer.with_weights(layer.weights * 0.875), state, won


@component
class Unbounded(Homeostatic):
    """Says that it keeps bounds."""

    def update(self, layer, state, latency, response, signal):
        won = response.winners.feature >= 0
        layer = layer.with_weights(layer.weights + jnp.where(won.any(), 1.0, 0.0))
        return layer, state, won


@component
class Methodless(Learner):
    """Does not learn yet."""


@component
class Returned(Homeostatic):
    """Says nothing of what it has learned."""

    def update(self, layer, state, latency, response, signal):
        return super().update(layer, state, latency, response, signal)[:2]


@component
class Choosy(Homeostatic):
    """Asks for the value of a number."""

    def update(self, layer, state, latency, response, signal):
        if self.rate > 0:
            return super().update(layer, state, latency, response, signal)
        return layer, state, response.winners.feature


@component
class Growing(Homeostatic):
    """Its state changes its type."""

    def update(self, layer, state, latency, response, signal):
        layer, state, won = super().update(layer, state, latency, response, signal)
        return layer, dict(state, fired=state["fired"] * 1.0), won


@component
class Global(Homeostatic):
    """Keeps what belongs into its state elsewhere."""

    def forward(self, layer, state, latency, label):
        COUNT.append(0)
        threshold = layer.conv.threshold + len(COUNT) % 7
        return Response(
            dataclasses.replace(layer, conv=dataclasses.replace(layer.conv, threshold=threshold)).winners(latency)
        )


COUNT: list[int] = []


@component
class Earlier(Homeostatic):
    """Written for 0.3."""

    def forward(self, layer, state, latency):
        return super().forward(layer, state, latency, None)


@component
class Restless(Homeostatic):
    """Its threshold falls while nothing fires."""

    def update(self, layer, state, latency, response, signal):
        layer, state, won = super().update(layer, state, latency, response, signal)
        conv = dataclasses.replace(layer.conv, threshold=layer.conv.threshold - 0.125)
        return dataclasses.replace(layer, conv=conv), state, won


@component
class Undefined(Homeostatic):
    """Divides by the number of images without spikes."""

    def update(self, layer, state, latency, response, signal):
        layer, state, won = super().update(layer, state, latency, response, signal)
        return layer.with_weights(layer.weights / jnp.float32(won < 0)), state, won


@component
class Mute(Homeostatic):
    """Says nothing that can be saved."""

    def diagnose(self, layer, info):
        return dict(learner=self)


@component
class Array(Homeostatic):
    """Gives an array to log."""

    def scalars(self, state):
        return dict(fired=np.zeros(3))


@pytest.mark.parametrize(
    ("learner", "message"),
    [
        (Methodless(), "Methodless must have a method `update"),
        (Earlier(), r"^`forward` of Earlier of layer1 fails: .* positional .*: write forward\("),
        (Returned(), r"^`update of Returned of layer1` must be \(layer, state, info\), got a tuple of 2$"),
        (Forgetful(), "a silent stimulus changes the weights"),
        (Unbounded(), r"`bounds` are \(0.0, 1.0\), but weights lie in"),
        (Choosy(), "^`update` of Choosy of layer1 fails under `jax.jit`: "),
        (Growing(), r"of Growing of layer1, the state,\['fired'\]` must be int32 of shape \(\), got float32"),
        (Global(), "otherwise|is not `forward`, then `update`"),
        (Restless(), r"a silent stimulus changes numbers of the layer: \.threshold"),
        (Undefined(), r"numbers must be finite, \.layers\['layer1'\]\.weights holds NaN or infinity"),
        (Mute(), "`diagnose` of Mute of layer1 must be JSON data .*: got Mute"),
        (Array(), "`scalars` must be a dict of numbers of Python, got {'fired': array"),
    ],
)
def test_learners_that_break_the_contract_are_found(learner, message):
    with pytest.raises(AssertionError, match=message):
        check_learner(learner)


@component
class Cheating(RSTDP):
    """Decides by the label."""

    def forward(self, layer, state, latency, label):
        spikes = layer.deciding_spikes(latency)
        own = jnp.arange(layer.conv.features) // (layer.conv.features // layer.classes) == label
        potential = jnp.where(own[:, None, None], spikes.potential, 0)
        return Response(spikes=dataclasses.replace(spikes, potential=potential))


def test_the_label_is_for_learning_alone():
    with pytest.raises(AssertionError, match="`forward` lets the decision depend on the label"):
        check_learner(Cheating(), deciding=True)


def test_a_layer_that_learns_nothing_is_no_check():
    with pytest.raises(
        AssertionError, match="nothing is learned, neither weights nor numbers: the check needs another `conv`"
    ):
        check_learner(STDP(), Conv(4, kernel=3, threshold=1e6))


def timed_spikes(layer: Layer, latency: np.ndarray):
    """Those of a deciding layer under a timed decision; within their steps where they are above 0 at least."""
    fractional = layer.conv.threshold is not None and np.min(layer.conv.threshold) >= 0
    conv = dataclasses.replace(layer.conv, fractional=fractional)
    return dataclasses.replace(layer, conv=conv, classes=1, timed=True).deciding_spikes(latency)


CONVS = {
    "padded": Conv(5, kernel=3, padding=1, threshold=4.0, competition=WTA(3, radius=1), learners=STDP()),
    "tall": Conv(5, kernel=(3, 2), padding=(0, 1), threshold=2.5, competition=WTA(5), learners=STDP()),
    "strided": Conv(5, kernel=3, stride=(2, 1), threshold=4.0, competition=WTA(2), learners=STDP()),
    "deciding": Conv(6, kernel=3, padding=1, learners=RSTDP()),
    "signed": Conv(5, kernel=3, threshold=0.5, competition=WTA(3), learners=STDP(bounds=(-1.0, 1.0))),
    "own thresholds": Conv(
        5, kernel=3, threshold=np.float32([1, 4, 6, 2.5, 9]), competition=WTA(3, radius=1), learners=STDP()
    ),
    "below 0": Conv(5, kernel=3, threshold=-0.5, competition=WTA(3, radius=1), learners=STDP()),
}


@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("form", [XLA, NATIVE, TAPS], ids=["fast", "native", "taps"])
def test_forms_are_the_plain_one(name, form, request):
    """Weights are multiples of 1/64, so that sums are exact in any order: all but the update is the same to the bit."""
    conv = CONVS[name]
    if form is NATIVE:
        if not native_suits(conv, T):
            pytest.skip("compiled kernels have no strides")
        request.getfixturevalue("compiler")
    rule = conv.learners
    lower, upper = (math.ceil(64 * rule.bounds[0]), math.floor(64 * rule.bounds[1]))
    kernel = conv.kernel if isinstance(conv.kernel, tuple) else (conv.kernel,) * 2
    weights = jnp.float32(np.random.default_rng(1).integers(lower, upper + 1, (conv.features, 2, *kernel)) / 64)
    plain = Layer(conv, weights, T, PLAIN, conv.monotone)
    layer = plain.packed(form)
    np.testing.assert_array_equal(layer.weights, weights)
    np.testing.assert_array_equal(layer.packed(PLAIN).weights, weights)
    how, learned = dict(bounds=rule.bounds, stabiliser=rule.stabiliser), 0
    for latency in LATENCIES:
        for method in (Layer.responses, Layer.potentials, Layer.spikes, Layer.last_spikes, timed_spikes):
            found, expected = method(layer, latency), method(plain, latency)
            jax.tree.map(np.testing.assert_array_equal, found, expected)
        found, expected = layer.winners(latency), plain.winners(latency)
        np.testing.assert_array_equal(found.feature, expected.feature)
        there = np.asarray(expected.valid)
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(one[there], other[there])
        for rates in ((0.5, -0.25), (-0.5, 0.25)):
            after = plain.learn(latency, expected, jnp.float32(rates), **how).weights
            for within in (False, True):
                each = dataclasses.replace(layer, in_bounds=within).learn(latency, expected, jnp.float32(rates), **how)
                assert each.kernels is form
                np.testing.assert_allclose(each.weights, after, rtol=0, atol=1e-6)
            learned += int((after != weights).sum())
    assert learned > 100, "hardly anything is learned"


def test_rules_of_the_library_are_public_explained_and_held_to_the_contract():
    rules = [kind for kind in vars(learners).values() if isinstance(kind, type) and issubclass(kind, Learner)]
    explained = (ROOT / "experiments" / "rules.md").read_text()
    for rule in set(rules) - {Learner}:
        assert getattr(snnjax, rule.__name__) is rule
        assert f"`{rule.__name__}`" in explained
        assert any(type(learner) is rule for learner, _ in LEARNERS.values())
