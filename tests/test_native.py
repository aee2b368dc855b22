"""The compiled kernels of one image: `snnjax.kernels` and `snnjax.encoding` judge them."""

import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnjax import kernels
from snnjax.encoding.encoder import local_normalization, rank_order
from snnjax.kernels import native

pytestmark = pytest.mark.usefixtures("compiler")
STEPS = 5
RNG = np.random.default_rng(0)
RATES = np.float32([0.5, -0.25])
# Encoding


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.5, 1e-30]), max_size=60), st.sampled_from([1, 7, 20]))
def test_rank_order_is_that_of_the_encoding(values, steps):
    """Of many equal values too."""
    intensities = np.float32(values + [0.0] * (60 - len(values)))
    expected = rank_order(intensities, time_steps=steps)
    np.testing.assert_array_equal(native.rank_order(intensities, time_steps=steps), expected)


SIZE = (3, 28, 28)


@pytest.mark.parametrize(("shape", "radius"), [(SIZE, 8), ((2, 5, 33), 40), ((3, 1, 17), 0)])
def test_local_normalization_is_that_of_the_encoding(shape, radius):
    values = RNG.uniform(0, 300, shape) * RNG.integers(0, 2, shape)
    for maps in np.float32([values, values * 1e-9, -values, 10 ** (values / 10 - 20), values * 0]):
        expected = local_normalization(maps, radius=radius)
        np.testing.assert_array_equal(local_normalization(maps, radius=radius, native=True), expected)


def test_what_is_no_number_stays_none():
    """Of values that are traced, which are not checked."""
    maps = np.ones((2, 5, 4), np.float32)
    for bad in (np.nan, np.inf):
        maps[1, 2, 3] = bad
        assert np.isnan(local_normalization(maps, radius=1, native=True)).all()


# Layers

FEATURES = 17
"""Of two lanes of 16."""
BATCH = RNG.integers(0, STEPS + 3, (3, 2, 6, 5)).clip(max=STEPS).astype(np.uint8)
WEIGHTS = np.float32(RNG.integers(0, 65, (3, FEATURES, 2, 3, 2)) / 64)
TAPS = np.stack([native.arrange(weights) for weights in WEIGHTS])
SETTINGS = dict(features=FEATURES, threshold=2.0, time_steps=STEPS)


def learned(latency, taps, lower, upper):
    """By its own winners, between bounds that are arrays."""
    won = native.winners(latency, taps, k=3, radius=1, **SETTINGS)
    rule = dict(features=FEATURES, time_steps=STEPS, bounds=(lower, upper))
    return native.learn(taps, latency, won, RATES, **rule)


def learned_patches(images, taps):
    """From two patches of each image but the first."""
    positions = np.int32([[[0, 0], [1, 2]], [[4, 2], [1, 1]], [[3, 0], [0, 2]]])
    thresholds = np.linspace(1, 3, FEATURES, dtype=np.float32)
    rule = dict(rate=0.1, threshold_rate=0.5, target_time=0.5, time_steps=STEPS, features=FEATURES, padding=1)
    return native.learn_patches(images, positions, np.int32([1, 3]), taps, thresholds, **rule)


CONTRACTS = {
    "learn patches": (learned_patches, [np.stack([BATCH, BATCH[::-1], BATCH]), TAPS]),
    "winners": (lambda x, w: native.winners(x, w, k=3, radius=1, **SETTINGS), [BATCH, TAPS]),
    "latencies": (lambda x, w: native.latencies(x, w, **SETTINGS, padding=1), [BATCH, TAPS]),
    "learn": (learned, [BATCH, TAPS, np.float32([0, 0.25, -1]), np.float32([1, 0.75, 2])]),
    "potentials": (lambda x, w: native.final_potentials(x < STEPS, w, features=FEATURES), [BATCH, TAPS]),
    "local normalization": (lambda x: local_normalization(x, radius=2, native=True), [WEIGHTS[..., 0]]),
    "rank order": (lambda w: native.rank_order(w, time_steps=STEPS), [WEIGHTS]),
}


@pytest.mark.parametrize("case", CONTRACTS)
def test_contract(case, contract):
    function, inputs = CONTRACTS[case]
    contract(function, inputs)


def test_silent_inputs_are_not_causal_to_silent_winners():
    won = kernels.Winners(np.int32([3, 16, -1]), np.int32([1, 3, 0]), np.int32([0, 3, 0]), np.uint8([STEPS, 2, STEPS]))
    rule = dict(time_steps=STEPS, stabiliser=False)
    assert (BATCH[0][:, 1:4, :2] == STEPS).any()
    expected = kernels.stdp(WEIGHTS[0], BATCH[0], won, RATES, **rule)
    found = native.learn(TAPS[0], BATCH[0], won, RATES, features=FEATURES, **rule)
    np.testing.assert_array_equal(native.restore(found, FEATURES), expected)


@pytest.mark.parametrize("threshold", [2.0, -0.5, np.nan, [2.0, -0.5, 6.0, 0.0], [2.0, np.nan, np.inf, 1.0]])
def test_any_thresholds_in_arrays(threshold):
    """A rule may take them anywhere in the middle of an epoch: below 0 neurons without input fire too."""
    threshold = np.float32(threshold if np.ndim(threshold) == 0 else np.resize(threshold, FEATURES))
    limits, found = dict(threshold=jnp.asarray(threshold), time_steps=STEPS), []
    for latency, weights, taps in zip(BATCH, WEIGHTS, TAPS, strict=True):
        spikes = kernels.integrate_and_fire(latency, weights, **limits)
        times = native.latencies(latency, taps, features=FEATURES, **limits)
        np.testing.assert_array_equal(times, spikes.latency)
        strongest = kernels.strongest_feature(spikes, time_steps=STEPS)
        expected = kernels.k_winners(strongest, k=3, radius=1, time_steps=STEPS)
        won = native.winners(latency, taps, features=FEATURES, k=3, radius=1, **limits)
        there = np.asarray(expected.valid)
        np.testing.assert_array_equal(won.feature, expected.feature)
        jax.tree.map(lambda x, y, there=there: np.testing.assert_array_equal(x[there], y[there]), won, expected)
        assert (np.asarray(won.latency)[~there] == STEPS).all()
        found.append(np.asarray(times))
    assert (np.stack(found) < STEPS).any() != np.isnan(threshold).all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(threshold=None), TypeError, "`threshold` must be a number for native kernels, got None"),
        (dict(threshold=np.ones(3)), ValueError, r"`threshold` .*\(17,\), got shape \(3,\)"),
        (dict(time_steps=256), ValueError, "`time_steps` must be at most 255 .*, got 256"),
        (dict(latency=np.int32(BATCH[0])), TypeError, "float32 and uint8 .*, got float32 and int32"),
        (dict(latency=BATCH[0, :, :2]), ValueError, "the kernel of `taps` must fit .*2x5, got 3x2"),
        (dict(features=4), ValueError, "`taps` must be arranged for 4 features"),
    ],
)
def test_bad_input(change, error, message):
    given = dict(latency=BATCH[0], taps=TAPS[0], k=3, radius=1, **SETTINGS)
    with pytest.raises(error, match=message):
        native.winners(**given | change)


# The library


def test_it_is_compiled_once(tmp_path, monkeypatch):
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
    for damaged in (whole[:-100], whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:]):
        path.write_bytes(damaged)
        assert native._library() == path
        assert path.stat().st_size == len(whole), "it is compiled again"
        assert native._is_sound(path, path.with_suffix(".sha256"))
    path.with_suffix(".sha256").unlink()
    native._library()
    assert {file.name for file in (tmp_path / "snnjax").iterdir()} == files


def test_programs_that_need_it_at_once_compile_it_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "kernels.cc").write_text("int one() { return 1; }")
    monkeypatch.setattr(native, "SOURCES", [tmp_path / "kernels.cc"])
    compiled = []

    def compile_slowly(command, sources, made, compile=native._compile):
        time.sleep(0.2)
        compiled.append(made.suffix)
        compile(command, sources, made)

    monkeypatch.setattr(native, "_compile", compile_slowly)
    with ThreadPoolExecutor() as pool:
        paths = list(pool.map(lambda _: native._library(), range(4)))
    assert len({*paths}) == 1
    assert sorted(compiled) == [".o", ".so"]


def test_what_the_compiler_says_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    broken = tmp_path / "kernels.cc"
    broken.write_text("nonsense;")
    monkeypatch.setattr(native, "SOURCES", [broken])
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
