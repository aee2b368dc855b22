"""The compiled kernels of one image: `snnjax.kernels` and `snnjax.encoding` judge them."""

import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnjax import kernels
from snnjax.encoding.encoder import rank_order
from snnjax.kernels import backend, native, plasticity
from snnjax.kernels.native import sequences

pytestmark = pytest.mark.usefixtures("compiler")
STEPS = 5
RNG = np.random.default_rng(0)
RATES = np.float32([0.5, -0.25])
# Encoding


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.5, 1e-30]), max_size=60), st.sampled_from([1, 7, 20]))
def test_rank_order_is_that_of_the_encoding(values, steps):
    """Of many equal values too."""
    intensities = np.float32(values + [0.0] * (60 - len(values)))
    with kernels.use_backend("xla"):
        expected = rank_order(intensities, time_steps=steps)
    np.testing.assert_array_equal(native.rank_order(intensities, time_steps=steps), expected)


# Layers

FEATURES = 17
"""Of two lanes of 16."""
BATCH = RNG.integers(0, STEPS + 3, (3, 2, 6, 5)).clip(max=STEPS).astype(np.uint8)
WEIGHTS = np.float32(RNG.integers(0, 65, (3, FEATURES, 2, 3, 2)) / 64)
SETTINGS = dict(threshold=2.0, time_steps=STEPS)


def learned_by_stdp(images, weights):
    rates = np.tile(RATES, (3, 1))
    rule = dict(threshold=2.0, k=3, radius=1, time_steps=STEPS)
    return sequences.learn_stdp(weights, images, rates, np.array([True, False, True]), **rule)


def learned_by_reward(images, weights):
    rates = np.stack([RATES, -RATES])
    how = dict(classes=FEATURES, time_steps=STEPS, stride=(2, 1), padding=1)
    return sequences.learn_reward(weights, images, np.int32([0, 1, -1]), rates, np.full(3, True), **how)


def learned_once(images, weights):
    won = kernels.Winners(np.int32([3, -1]), np.int32([1, 0]), np.int32([0, 0]), np.uint8([2, STEPS]))
    return native.stdp(weights, images[0], won, RATES, time_steps=STEPS)


def decided(images, weights):
    fired = sequences.final_latencies(images, weights, threshold=2.0, time_steps=STEPS)
    return fired, sequences.strongest_of_classes(images, weights, classes=FEATURES, time_steps=STEPS)


@pytest.mark.parametrize("kernel", [learned_by_stdp, learned_by_reward, learned_once, decided])
def test_contract(kernel, contract):
    """Networks with sequences of their own, then each network with each sequence, in one call."""
    images = np.stack([BATCH, BATCH[::-1], BATCH])
    contract(kernel, [images, WEIGHTS])
    found = jax.vmap(jax.vmap(kernel, (0, None)), (None, 0))(images, WEIGHTS)
    for network in range(3):
        alone = [kernel(sequence, WEIGHTS[network]) for sequence in images]
        jax.tree.map(lambda x, *each, n=network: np.testing.assert_array_equal(x[n], np.stack(each)), found, *alone)


def test_silent_inputs_are_not_causal_to_silent_winners():
    won = kernels.Winners(np.int32([3, 16, -1]), np.int32([1, 3, 0]), np.int32([0, 3, 0]), np.uint8([STEPS, 2, STEPS]))
    rule = dict(time_steps=STEPS, stabiliser=False)
    assert (BATCH[0][:, 1:4, :2] == STEPS).any()
    expected = plasticity.stdp(WEIGHTS[0], BATCH[0], won, RATES, **rule)
    np.testing.assert_array_equal(native.stdp(WEIGHTS[0], BATCH[0], won, RATES, **rule), expected)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(threshold=None), TypeError, "`threshold` must be a number on the back end native, got None"),
        (dict(threshold=np.ones(3)), ValueError, r"`threshold` .*\(17,\), got shape \(3,\)"),
        (dict(latency=BATCH[0] + np.uint8(1)), ValueError, r"`latency` must hold steps 0\.\.4, and 5 where silent"),
        (dict(time_steps=np.asarray(STEPS)), TypeError, "`time_steps` must be a plain integer, got an array"),
        (dict(time_steps=256), ValueError, "`time_steps` must be at most 255 .*, got 256"),
        (dict(latency=np.int32(BATCH[0])), TypeError, "float32 and uint8 .*, got float32 and int32"),
    ],
)
def test_bad_input(change, error, message):
    given = dict(latency=BATCH[0], weights=WEIGHTS[0], k=3, radius=1, **SETTINGS)
    with pytest.raises(error, match=message):
        native.winners(**given | change)


# The library


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A little source in place of the kernels, which takes no time, and an empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tmp_path / "kernels.cc"
    path.write_text("int one() { return 1; }")
    monkeypatch.setattr(native, "SOURCES", [path])
    return path


def test_it_is_compiled_once_also_for_programs_that_need_it_at_once(source, tmp_path, monkeypatch):
    run, compiled = subprocess.run, []

    def run_slowly(command, **how):
        time.sleep(0.2)
        compiled.append(command)
        return run(command, **how)

    monkeypatch.setattr(subprocess, "run", run_slowly)
    with ThreadPoolExecutor() as pool:
        (path,) = {*pool.map(lambda _: native.library(), range(4))}
    files = {path.name, path.with_suffix(".sha256").name}
    assert {file.name for file in (tmp_path / "snnjax").iterdir()} == files
    assert native.library() == path
    assert len(compiled) == 2, "into an object and a library"
    whole = path.read_bytes()
    for damaged in (whole[:-100], whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:]):
        path.write_bytes(damaged)
        native.library()
        assert path.read_bytes() != damaged, "it is compiled again"
    path.with_suffix(".sha256").unlink()
    native.library()
    assert {file.name for file in (tmp_path / "snnjax").iterdir()} == files


def test_what_the_compiler_says_is_told(source, tmp_path, monkeypatch):
    source.write_text("nonsense;")
    monkeypatch.setattr(native, "load", native.load.__wrapped__)
    line = backend.unavailable()
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
