"""Kernels on the native back end, which XLA judges, and the library that they are in."""

import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close
from hypothesis import given
from hypothesis import strategies as st

from snnjax import kernels
from snnjax.encoding.encoder import rank_order
from snnjax.kernels import backend, native

pytestmark = pytest.mark.usefixtures("compiler")
STEPS = 5
RNG = np.random.default_rng(0)
RATES = np.float32([0.5, -0.25])


def on_both(compute):
    """What is computed on the native back end, and by XLA."""
    with kernels.use_backend("native"):
        found = compute()
    with kernels.use_backend("xla"):
        return found, compute()


# Encoding


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.5, 1e-30]), max_size=60), st.sampled_from([1, 7, 20]))
def test_rank_order_is_that_of_the_encoding(values, steps):
    """Of many equal values too."""
    intensities = np.float32(values + [0.0] * (60 - len(values)))
    found, expected = on_both(lambda: rank_order(intensities, time_steps=steps))
    np.testing.assert_array_equal(found, expected)


# Layers

FEATURES = 17
"""Of two lanes of 16."""
BATCH = RNG.integers(0, STEPS + 3, (3, 2, 6, 5)).clip(max=STEPS).astype(np.uint8)
WEIGHTS = np.float32(RNG.integers(0, 65, (3, FEATURES, 2, 3, 2)) / 64)


def learned_by_stdp(images, weights):
    rule = dict(threshold=2.0, k=3, radius=1, time_steps=STEPS)
    return kernels.learn_stdp(weights, images, RATES, np.array([True, False, True]), **rule)


def learned_by_reward(images, weights):
    how = dict(classes=FEATURES, time_steps=STEPS, bounds=(0.0, 1.0), stride=(2, 1), padding=1)
    return kernels.learn_reward(weights, images, np.int32([0, 1, -1]), RATES, -RATES, **how)


def learned_once(images, weights):
    won = kernels.Winners(np.int32([3, -1]), np.int32([1, 0]), np.int32([0, 0]), np.uint8([2, STEPS]))
    return kernels.stdp(weights, images[0], won, RATES, time_steps=STEPS)


def decided(images, weights):
    many = jnp.tile(jnp.asarray(weights), (4, 1, 1, 1))  # of so many features that integers are faster
    fired = kernels.final_latencies(images, many, threshold=2.0, time_steps=STEPS)
    return fired, kernels.strongest_of_classes(images, weights, classes=FEATURES, time_steps=STEPS)


@pytest.mark.parametrize("kernel", [learned_by_stdp, learned_by_reward, learned_once, decided])
def test_contract(kernel, contract):
    """Networks with sequences of their own, then each network with each sequence, in one call."""
    images = np.stack([BATCH, BATCH[::-1], BATCH])
    with kernels.use_backend("native"):
        contract(kernel, [images, WEIGHTS])
    found, expected = on_both(lambda: jax.vmap(jax.vmap(kernel, (0, None)), (None, 0))(images, WEIGHTS))
    assert_close(found, expected)
    for network in range(3):
        alone = [kernel(sequence, WEIGHTS[network]) for sequence in images]
        jax.tree.map(lambda x, *each, n=network: np.testing.assert_array_equal(x[n], np.stack(each)), found, *alone)


def test_silent_inputs_are_not_causal_to_silent_winners():
    won = kernels.Winners(np.int32([3, 16, -1]), np.int32([1, 3, 0]), np.int32([0, 3, 0]), np.uint8([STEPS, 2, STEPS]))
    rule = dict(time_steps=STEPS, stabiliser=False)
    assert (BATCH[0][:, 1:4, :2] == STEPS).any()
    found, expected = on_both(lambda: kernels.stdp(WEIGHTS[0], BATCH[0], won, RATES, **rule))
    np.testing.assert_array_equal(found, expected)


GIVEN = dict(latency=BATCH[0], weights=WEIGHTS[0], threshold=2.0, k=3, radius=1, time_steps=STEPS)


@pytest.mark.parametrize(
    "change",
    [
        dict(threshold=None),
        dict(time_steps=256, latency=np.uint16(BATCH[0])),
        dict(latency=np.int32(BATCH[0])),
        dict(time_steps=2),
    ],
)
def test_whatever_it_does_not_support_is_computed_as_xla_does(change):
    """No threshold, more time steps than bytes hold, and few time steps; other latencies are converted."""
    given = GIVEN | change
    given["latency"] = given["latency"].clip(max=given["time_steps"])
    found, expected = on_both(lambda: kernels.winners(**given))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(threshold=np.ones(3)), ValueError, r"`threshold` .*\(17,\), got shape \(3,\)"),
        (dict(latency=BATCH[0] + np.uint8(1)), ValueError, r"`latency` must hold time steps 0\.\.4, or 5 if silent"),
        (dict(time_steps=np.asarray(STEPS)), TypeError, "`time_steps` must be a plain integer, got an array"),
        (dict(k=0), ValueError, "`k` must be at least 1, got 0"),
    ],
)
def test_bad_input(change, error, message):
    with kernels.use_backend("native"), pytest.raises(error, match=message):
        kernels.winners(**GIVEN | change)


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
    run, compiled = subprocess.Popen, []

    def run_slowly(command, **how):
        time.sleep(0.2)
        compiled.append(command)
        return run(command, **how)

    monkeypatch.setattr(subprocess, "Popen", run_slowly)
    with ThreadPoolExecutor() as pool:
        (path,) = {*pool.map(native.library, [source] * 4)}
    files = {path.name, path.with_suffix(".sha256").name}
    assert {file.name for file in path.parent.iterdir()} == files
    assert [*(tmp_path / "snnjax").iterdir()] == [path.parent]
    assert native.library(source) == path
    assert len(compiled) == 1
    whole = path.read_bytes()
    for damaged in (whole[:-100], whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:]):
        path.write_bytes(damaged)
        native.library(source)
        assert path.read_bytes() != damaged, "it is compiled again"
    path.with_suffix(".sha256").unlink()
    native.library(source)
    assert {file.name for file in path.parent.iterdir()} == files


def test_what_the_compiler_says_is_told(source, tmp_path, monkeypatch):
    source.write_text("nonsense;")
    line = backend.unavailable()
    assert "did not compile" in line
    assert "nonsense" in line
    assert "\n" not in line
    (folder,) = (tmp_path / "snnjax").iterdir()
    assert not [*folder.iterdir()]


def test_what_did_not_compile_is_tried_again(source):
    """Such as after Ctrl-C in a notebook, which stops the compiler too."""
    source.write_text("nonsense;")
    with pytest.raises(OSError, match=r"the C\+\+ source kernels\.cc did not compile"):
        native.load(source)
    source.write_text('extern "C" int one() { return 1; }')
    assert native.load(source).one() == 1


def test_without_a_compiler_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setitem(sys.modules, "ziglang", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(OSError, match=re.escape("install g++ or clang, or pip install 'snnjax[native]'")):
        native.compiler()
