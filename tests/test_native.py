"""The compiled kernels: `snnjax.kernels` judges them."""

import dataclasses
import functools
import itertools
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shipped import each_of
from test_golden import layer as golden_layer  # noqa: F401  (a fixture)

from snnjax import data, kernels
from snnjax.app.names import RECORDED
from snnjax.core.errors import InputError
from snnjax.encoding import (
    COLOUR,
    DOG,
    GABOR,
    GREY,
    FilterBank,
    dog_kernel,
    encode,
    filter_image,
    gabor_kernel,
    local_normalization,
    rank_order,
)
from snnjax.kernels import native
from snnjax.layers.conv import WTA, Conv
from snnjax.layers.layer_kernels import NATIVE, XLA, native_suits
from snnjax.layers.spiking import Layer
from snnjax.learners import RSTDP, STDP
from snnjax.networks import NETWORKS, Model, Network, stage
from snnjax.training.loop import Trainer
from snnjax.training.state import Settings

STEPS = 5
RNG = np.random.default_rng(0)


@st.composite
def layers(draw):
    """Latencies, weights whose sums are exact, and settings."""
    sizes = {name: draw(st.integers(1, most)) for name, most in dict(C=3, H=7, W=7, F=20, kh=4, kw=4).items()}
    padding = (draw(st.integers(0, 2)), draw(st.integers(0, 2)))
    sizes |= dict(H=max(sizes["H"], sizes["kh"]), W=max(sizes["W"], sizes["kw"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    latency = rng.integers(0, draw(st.integers(2, 12)), [sizes[n] for n in "CHW"]).clip(max=STEPS).astype(np.uint8)
    weights = np.float32(rng.integers(0, 65, [sizes[n] for n in ("F", "C", "kh", "kw")]) / 64)
    return jnp.asarray(latency), jnp.asarray(weights), padding, draw(st.sampled_from([0.0, 0.5, 2.25, 6.0]))


def padded(latency, padding):
    return kernels.pad(latency, padding, time_steps=STEPS)


@pytest.mark.slow
@settings(max_examples=15)  # each compiles anew
@given(layers(), st.sampled_from([1, 3, 8]), st.integers(0, 2))
def test_winners_are_those_of_the_kernels(layer, k, radius):
    latency, weights, padding, threshold = layer
    limits = dict(threshold=threshold, k=k, radius=radius, time_steps=STEPS)
    expected = kernels.early_winners(padded(latency, padding), weights, **limits)
    won = native.winners(latency, native.arrange(weights), features=len(weights), padding=padding, **limits)
    there = np.asarray(expected.valid)
    np.testing.assert_array_equal(won.feature, expected.feature)
    for name in ("row", "column", "latency"):
        np.testing.assert_array_equal(getattr(won, name)[there], getattr(expected, name)[there])
    assert (won.latency[~there] == STEPS).all()


@pytest.mark.slow
@settings(max_examples=15)
@given(layers())
def test_latencies_and_potentials_are_those_of_the_kernels(layer):
    latency, weights, padding, threshold = layer
    taps, place = native.arrange(weights), dict(features=len(weights), padding=padding)
    expected = kernels.integrate_and_fire(padded(latency, padding), weights, threshold=threshold, time_steps=STEPS)
    found = native.latencies(latency, taps, threshold=threshold, time_steps=STEPS, **place)
    np.testing.assert_array_equal(found, expected.latency)
    spiked = latency < STEPS
    expected = kernels.final_potentials(jnp.pad(spiked, ((0, 0), *((n, n) for n in padding))), weights)
    np.testing.assert_array_equal(native.final_potentials(spiked, taps, **place), expected)


@pytest.mark.slow
@settings(max_examples=15)
@given(layers(), st.booleans(), st.booleans())
def test_timed_spikes_are_those_of_the_kernels(layer, fractional, own):
    """With potentials of silent neurons, and a threshold for each feature too."""
    latency, weights, padding, threshold = layer
    threshold = threshold + np.float32(np.arange(len(weights)) % 3) if own else threshold
    limits = dict(threshold=threshold, time_steps=STEPS, fractional=fractional)
    expected = kernels.timed_spikes(padded(latency, padding), weights, **limits)
    found = native.timed_spikes(latency, native.arrange(weights), features=len(weights), padding=padding, **limits)
    np.testing.assert_array_equal(found.latency, expected.latency)
    np.testing.assert_array_equal(found.potential, expected.potential)
    np.testing.assert_allclose(found.time, expected.time, rtol=0, atol=1e-6)


@pytest.mark.slow
@settings(max_examples=15)
@given(layers(), st.booleans(), st.sampled_from([(0.0, 1.0), (-1.5, 2.0)]))
def test_learning_is_that_of_the_kernels(layer, stabiliser, bounds):
    latency, weights, padding, threshold = layer
    limits = dict(time_steps=STEPS, stabiliser=stabiliser, bounds=bounds)
    competition = dict(k=4, radius=0, time_steps=STEPS)
    won = kernels.early_winners(padded(latency, padding), weights, threshold=threshold, **competition)
    rates = jnp.float32([0.5, -0.25])
    expected = kernels.stdp(weights, padded(latency, padding), won, rates, **limits)
    taps = native.arrange(weights)
    learned = native.learn(taps, latency, won, rates, features=len(weights), padding=padding, **limits)
    np.testing.assert_allclose(native.restore(learned, len(weights)), expected, atol=1e-6)
    assert not learned[..., len(weights) :].any()
    np.testing.assert_array_equal(native.restore(taps, len(weights)), weights)  # not overwritten where still needed


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.5, 1e-30]), min_size=1, max_size=60), st.integers(1, 20))
def test_rank_order_is_that_of_the_encoding(values, steps):
    """Of many equal values too."""
    intensities = jnp.float32(values)
    expected = rank_order(intensities, time_steps=steps)
    np.testing.assert_array_equal(native.rank_order(intensities, time_steps=steps), expected)


WIDE = RNG.standard_normal((2, 33, 33))  # wider than some images
BANKS = {
    "grey": GREY.bank,
    "colour": COLOUR.bank,
    "dog": DOG.bank,
    "gabor": GABOR.bank,
    "of any kernels": FilterBank.of([*WIDE, WIDE[0] + WIDE[0, ::-1], WIDE[1, :5, :5]], absolute=True),
    "of single pixels": FilterBank.of([np.ones((1, 1)), gabor_kernel(5, 22.5), dog_kernel(7, 1, 2)], padding=0),
}
PIXELS = RNG.integers(0, 256, (3, 28, 28), np.uint8)
PICTURES = {
    "bytes": PIXELS,
    "floats": RNG.uniform(0, 255, (3, 28, 28)).astype(np.float32),
    "floats of many sizes": np.float32(10.0 ** RNG.uniform(-20, 4, (3, 17, 21))),
    "bytes in colour": RNG.integers(0, 256, (3, 18, 35, 3), np.uint8),
    "floats in colour": RNG.uniform(0, 255, (3, 19, 33, 3)).astype(np.float32),
    "narrow": PIXELS[:, :, :7],
    "flat": np.broadcast_to(np.float32([1.1, 77.7, 255]).reshape(3, 1, 1), (3, 20, 16)),
    "black": np.zeros((3, 9, 50), np.float32),
}


@pytest.mark.parametrize(
    ("bank", "pictures"),
    [
        *itertools.product(["grey", "of any kernels"], PICTURES),
        *itertools.product(["colour", "dog", "gabor", "of single pixels"], ["bytes", "floats in colour"]),
    ],
)
def test_filters_are_those_of_the_encoding(bank, pictures):
    images, how = PICTURES[pictures], dict(bank=BANKS[bank], scale=0.7)
    expected = np.stack([filter_image(image, **how) for image in images])
    np.testing.assert_array_equal(filter_image(images[0], **how, native=True), expected[0])
    batched = jax.vmap(lambda image: filter_image(image, **how, native=True))
    np.testing.assert_array_equal(batched(images), expected)


@pytest.mark.parametrize("radius", [0, 1, 8, 40])
@pytest.mark.parametrize("shape", [(6, 28, 28), (2, 5, 33), (1, 16, 1), (3, 1, 17)])
def test_local_normalization_is_that_of_the_encoding(shape, radius):
    values = RNG.uniform(0, 300, (3, *shape)) * RNG.integers(0, 2, (3, *shape))
    for maps in np.float32([values, values * 1e-9, -values, 10 ** (values / 10 - 20), values * 0]):
        expected = np.stack([local_normalization(each, radius=radius) for each in maps])
        np.testing.assert_array_equal(local_normalization(maps[0], radius=radius, native=True), expected[0])
        batched = jax.vmap(lambda each: local_normalization(each, radius=radius, native=True))
        np.testing.assert_array_equal(batched(maps), expected)


@pytest.mark.parametrize(
    ("encoder", "pictures"),
    [
        *itertools.product([GREY], PICTURES),
        *itertools.product([GABOR], ["bytes", "floats in colour"]),
        (DOG, "floats"),
        (COLOUR, "bytes in colour"),
        (COLOUR, "floats in colour"),
    ],
)
def test_an_encoder_has_the_same_latencies(encoder, pictures):
    images = PICTURES[pictures]
    expected = np.stack([encoder(image) for image in images])
    one_by_one = jax.jit(lambda images: jax.lax.map(lambda image: encoder(image, native=True), images))
    np.testing.assert_array_equal(one_by_one(images), expected)


def test_what_is_no_number_stays_none():
    """Of values that are traced, which are not checked."""
    maps = np.ones((2, 5, 4), np.float32)
    for bad in (np.nan, np.inf):
        maps[1, 2, 3] = bad
        assert np.isnan(local_normalization(maps, radius=1, native=True)).all()
        assert np.isnan(filter_image(maps[1], native=True)).all()


@pytest.mark.parametrize("shape", [(3, 3, 2), (4,), (2, 2)])
def test_images_that_do_not_fit_are_refused_in_the_same_words(shape):
    said = []
    for compiled in (False, True):
        with pytest.raises(InputError) as error:
            encode(np.full(shape, 9.0), bank=GABOR.bank, native=compiled)
        said.append(str(error.value))
    assert said[0] == said[1]


def test_recorded_winners_and_weights(golden_layer):  # noqa: F811
    """Of the reference simulator."""
    g = golden_layer
    latency, taps, features = (
        jnp.asarray(g.latency_in, jnp.uint8),
        native.arrange(jnp.asarray(g.weights)),
        len(g.weights),
    )
    found = native.final_potentials(latency < g.time_steps, taps, features=features)
    np.testing.assert_allclose(found, g.final_potentials, rtol=1e-4)
    if g.threshold is None:
        return
    limits = dict(features=features, time_steps=g.time_steps)
    np.testing.assert_array_equal(native.latencies(latency, taps, threshold=g.threshold, **limits), g.latency_out)
    won = native.winners(latency, taps, threshold=g.threshold, k=g.k, radius=g.radius, **limits)
    found = np.stack([won.feature, won.row, won.column], axis=1)[np.asarray(won.valid)]
    np.testing.assert_array_equal(found, g.winners.reshape(-1, 3))
    if (g.weights >= g.lower).all() and (g.weights <= g.upper).all():
        learned = native.learn(taps, latency, won, jnp.float32(g.rates), **limits, **g.rule)
        np.testing.assert_allclose(native.restore(learned, features), g.weights_after, rtol=1e-4, atol=1e-6)


BATCH = jnp.asarray(RNG.integers(0, STEPS + 3, (3, 2, 6, 5)).clip(max=STEPS), jnp.uint8)
WEIGHTS = jnp.float32(RNG.integers(0, 65, (3, 4, 2, 3, 2)) / 64)
TAPS = jax.vmap(native.arrange)(WEIGHTS)
SETTINGS = dict(features=4, threshold=2.0, time_steps=STEPS)


def learned(latency, taps, lower, upper):
    """By its own winners, between bounds that are arrays."""
    won = native.winners(latency, taps, k=3, radius=1, **SETTINGS)
    rule = dict(features=4, time_steps=STEPS, bounds=(lower, upper))
    return native.learn(taps, latency, won, jnp.float32([0.5, -0.25]), **rule)


def learned_patches(images, taps):
    """From two patches of each image but the first."""
    positions = jnp.array([[[0, 0], [1, 2]], [[4, 2], [1, 1]], [[3, 0], [0, 2]]], jnp.int32)
    rule = dict(rate=0.1, threshold_rate=0.5, target_time=0.5, time_steps=STEPS, features=4, padding=1)
    return native.learn_patches(images, positions, jnp.array([1, 3]), taps, jnp.float32([1, 2, 3, 2.5]), **rule)


CONTRACTS = {
    "learn patches": (learned_patches, [jnp.stack([BATCH, BATCH[::-1], BATCH]), TAPS]),
    "winners": (lambda x, w: native.winners(x, w, k=3, radius=1, **SETTINGS), [BATCH, TAPS]),
    "latencies": (lambda x, w: native.latencies(x, w, **SETTINGS, padding=1), [BATCH, TAPS]),
    "learn": (learned, [BATCH, TAPS, jnp.float32([0, 0.25, -1]), jnp.float32([1, 0.75, 2])]),
    "potentials": (lambda x, w: native.final_potentials(x < STEPS, w, features=4), [BATCH, TAPS]),
    "filters": (lambda x: filter_image(x, native=True), [PICTURES["floats"]]),
    "local normalization": (lambda x: local_normalization(x, radius=2, native=True), [WEIGHTS[..., 0]]),
    "rank order": (lambda w: native.rank_order(w, time_steps=STEPS), [WEIGHTS]),
}


@pytest.mark.parametrize("case", CONTRACTS)
def test_contract(case, contract):
    function, inputs = CONTRACTS[case]
    contract(function, inputs)


@pytest.mark.parametrize("kernel", [3, (2, 4)])
@pytest.mark.parametrize(
    ("native_too", "change"),
    [
        (True, dict()),
        (True, dict(threshold=None, learners=RSTDP())),
        (True, dict(learners=STDP(bounds=(-1.0, 1.0)))),
        (False, dict(stride=2)),
        (True, dict(threshold=-1.0)),
        (True, dict(threshold=np.float32([3, 2, 5, 0.5, 0, 100, 4]))),
        (True, dict(threshold=np.float32([3, -2, 5, 0.5, 0, 100, 4]), learners=STDP(bounds=(-1.0, 1.0)))),
    ],
)
def test_a_layer_is_the_same_on_both_kernels(kernel, native_too, change):
    conv = Conv(7, kernel, padding=1, threshold=3.0, competition=WTA(3, radius=1), learners=STDP())
    conv = dataclasses.replace(conv, **change)
    assert native_suits(conv, STEPS) == native_too
    if not native_too:
        return
    shape = (7, 2, *(kernel if isinstance(kernel, tuple) else (kernel, kernel)))
    weights = jnp.float32(RNG.integers(0, 65, shape) / 64)
    plain = Layer(conv, weights, STEPS, XLA, conv.monotone)
    compiled = plain.packed(NATIVE)
    np.testing.assert_array_equal(compiled.weights, weights)
    rule = conv.learners
    how = dict(bounds=rule.bounds, stabiliser=rule.stabiliser)
    for latency in BATCH:
        np.testing.assert_array_equal(plain.responses(latency), compiled.responses(latency))
        np.testing.assert_array_equal(plain.potentials(latency), compiled.potentials(latency))
        np.testing.assert_array_equal(plain.last_spikes(latency).latency, compiled.last_spikes(latency).latency)
        won = plain.winners(latency)
        np.testing.assert_array_equal(won.feature, compiled.winners(latency).feature)
        for within in (False, True):
            learned = [
                dataclasses.replace(layer, in_bounds=within).learn(latency, won, jnp.float32([0.5, -0.25]), **how)
                for layer in (plain, compiled)
            ]
            np.testing.assert_allclose(learned[0].weights, learned[1].weights, atol=1e-6)


@pytest.mark.parametrize("name", each_of(RECORDED))
def test_networks_respond_alike(name):
    """Stage by stage on the same inputs; sums differ by rounding, which decides near-ties."""
    spec, images = NETWORKS[name](), data.digits()
    rng = np.random.default_rng(0)
    weights = {}
    for _, layer, conv in spec.layers():  # about a half of the neurons fire
        shape = spec.weight_shapes[layer]
        weights[layer] = jnp.float32(rng.random(shape) * 8 * (conv.threshold or 1) / np.prod(shape[1:]))
    plain = Model.of(spec, weights)
    assert all(native_suits(layer.conv, layer.time_steps) for layer in plain.layers.values())
    compiled = plain.packed(dict.fromkeys(plain.layers, NATIVE))
    encoded = jax.lax.map(functools.partial(images.encoder, native=True), images.train_images[:4])
    np.testing.assert_array_equal(encoded, jax.lax.map(images.encoder, images.train_images[:4]))
    for number, shape in enumerate(spec.shapes[:-1]):
        latencies = jnp.asarray(rng.integers(0, 4 * spec.time_steps, (4, *shape)).clip(max=spec.time_steps), jnp.uint8)
        if number < len(spec.stages) - 1:
            found, expected = (
                jax.lax.map(lambda x, n=n: n.forward(x, number, number + 1), latencies) for n in (compiled, plain)
            )
            assert (found == expected).mean() > 0.999
            assert 0 < (expected < spec.time_steps).mean() < 1
    found, expected = (jax.lax.map(lambda x, n=n: n.decide(x).scores, latencies) for n in (compiled, plain))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


WINNERS = WTA(4, radius=3)
FEATURES = stage(Conv(12, kernel=5, padding=2, threshold=15, competition=WINNERS, learners=STDP()), pool=4)
BOTH = STDP(), RSTDP(bounds=(0.0, 1.0))
SECOND = stage(Conv(20, kernel=3, padding=1, threshold=3, competition=WTA(4), learners=BOTH))
DECISION = stage(Conv(20, kernel=3, padding=1, learners=RSTDP()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stages", "update_batch"), [((FEATURES, DECISION), 4), ((FEATURES, SECOND, DECISION), 1)], ids=["frozen", "all"]
)
def test_training_is_almost_that_of_the_kernels(stages, update_batch):
    """Whole runs part where rounding decides a near-tie, so that few weights may differ after so short a run."""
    spec = Network("small", (6, 28, 28), 10, stages)
    images = data.digits().first(24, 10)
    weights = []
    for kernels_in_cpp in (False, True):
        how = Settings((1,) * len(stages), batch_size=12, update_batch=update_batch, native=kernels_in_cpp)
        trainer = Trainer(spec, images, how)
        state = trainer.run(trainer.initial_state())
        initial = spec.initial_weights()
        assert all(np.abs(state.weights[name] - initial[name]).max() > 0.01 for name in initial)
        weights.append(state.weights)
    for name in weights[0]:
        assert (np.abs(weights[0][name] - weights[1][name]) < 1e-5).mean() > 0.9


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(k=0), ValueError, "`k` must be at least 1, got 0"),
        (dict(radius=-1), ValueError, "`radius` must be at least 0, got -1"),
        (dict(threshold=None), TypeError, "`threshold` must be a number for native kernels, got None"),
        (dict(threshold=jnp.ones(3)), ValueError, r"`threshold` must have shape \(\) or \(4,\), got shape \(3,\)"),
        (dict(threshold="2"), TypeError, "`threshold` must be a number, .*, got '2'"),
        (dict(time_steps=256), ValueError, "`time_steps` must be at most 255 for native kernels, got 256"),
        (dict(padding=-1), ValueError, "`padding` must be at least 0, got -1"),
        (dict(latency=BATCH[0].astype(jnp.int32)), TypeError, "float32 and uint8 .*, got float32 and int32"),
        (dict(latency=BATCH[0, :1]), ValueError, "`latency` must have the 2 channels of `taps`, got 1"),
        (dict(latency=BATCH[0, :, :2]), ValueError, "the kernel of `taps` must fit .*2x5, got 3x2"),
        (dict(taps=TAPS[0][..., :4]), ValueError, "`taps` must be arranged for 4 features"),
        (dict(features=17), ValueError, "`taps` must be arranged for 17 features"),
    ],
)
def test_bad_input(change, error, message):
    inputs = dict(latency=BATCH[0], taps=TAPS[0], k=3, radius=1, **SETTINGS) | change
    with pytest.raises(error, match=message):
        native.winners(**inputs)


OWN = [2.0, -0.5, 6.0, 0.0]


@pytest.mark.parametrize("threshold", [-0.5, np.nan, OWN, [2.0, np.nan, np.inf, 1.0]])
def test_any_thresholds_in_arrays(threshold):
    """A rule may take them anywhere in the middle of an epoch: below 0 neurons without input fire too."""
    limits, found = dict(threshold=jnp.float32(threshold), time_steps=STEPS), []
    for latency, weights, taps in zip(BATCH, WEIGHTS, TAPS, strict=True):
        spikes = kernels.integrate_and_fire(latency, weights, **limits)
        times = native.latencies(latency, taps, features=4, **limits)
        np.testing.assert_array_equal(times, spikes.latency)
        strongest = kernels.strongest_feature(spikes, time_steps=STEPS)
        expected = kernels.k_winners(strongest, k=3, radius=1, time_steps=STEPS)
        won = native.winners(latency, taps, features=4, k=3, radius=1, **limits)
        np.testing.assert_array_equal(won.feature, expected.feature)
        there = np.asarray(expected.valid)
        for name in ("row", "column", "latency"):
            np.testing.assert_array_equal(getattr(won, name)[there], getattr(expected, name)[there])
        found.append(np.asarray(times))
    assert (np.stack(found) < STEPS).any() != np.isnan(threshold).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(rates=jnp.zeros(3)), r"`rates` must be \(a\+, a-\), of shape \(2,\), got shape \(3,\)"),
        (dict(row=jnp.zeros(1, jnp.int32)), r"`won.row` must have shape \(3,\) of `won.feature`, got \(1,\)"),
        (dict(features=0), "`features` must be at least 1, got 0"),
        (dict(bounds=(1.0, 0.0)), r"`bounds` must be \(lower, upper\)"),
    ],
)
def test_bad_learning(change, message):
    numbers = jnp.zeros(3, jnp.int32)
    won = kernels.Winners(numbers, change.pop("row", numbers), numbers, jnp.zeros(3, jnp.uint8))
    inputs = dict(taps=TAPS[0], latency=BATCH[0], won=won, rates=jnp.zeros(2), features=4, time_steps=STEPS) | change
    with pytest.raises(ValueError, match=message):
        native.learn(**inputs)


def test_it_is_compiled_once(tmp_path, monkeypatch, compiler):
    """A little source, which takes no time."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "kernels.cc").write_text("int one() { return 1; }")
    monkeypatch.setattr(native, "SOURCES", [tmp_path / "kernels.cc"])
    path = native._library()
    files = {path.name, path.with_suffix(".sha256").name}
    assert {file.name for file in (tmp_path / "snnjax").iterdir()} == files
    with monkeypatch.context() as patch:
        patch.setattr("subprocess.run", lambda *_, **__: pytest.fail("compiled again"))
        assert native._library() == path
    whole = path.read_bytes()
    for damaged in (whole[:-100], whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:], b""):
        path.write_bytes(damaged)
        assert native._library() == path
        assert path.stat().st_size == len(whole), "it is compiled again"
        assert native._is_sound(path, path.with_suffix(".sha256"))
    path.with_suffix(".sha256").unlink()
    native._library()
    assert {file.name for file in (tmp_path / "snnjax").iterdir()} == files


def test_what_the_compiler_says_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    broken = tmp_path / "kernels.cc"
    broken.write_text("nonsense;")
    monkeypatch.setattr(native, "SOURCES", [broken])
    with pytest.raises(OSError, match=r"(?s)did not compile, .* said: .*nonsense"):
        native._library()
    monkeypatch.setattr(native, "load", native.load.__wrapped__)
    line = native.unavailable()
    assert "did not compile" in line
    assert "nonsense" in line
    assert "\n" not in line
    assert not list((tmp_path / "snnjax").iterdir())


def test_without_a_compiler_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setitem(sys.modules, "ziglang", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(OSError, match=re.escape("install g++ or clang, or pip install 'snnjax[native]'")):
        native.compiler()
