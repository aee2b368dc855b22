"""Settings and fixtures of the tests."""

import gc
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import filelock
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from snnjax.core import files
from snnjax.runs import run_folder

run_folder.PAUSE = 0  # epochs of tests are short, and what is saved after them is tested

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 2)  # so that images are really spread over devices

# Compiled programs are cached outside the checkout: for all workers, later runs, and programs that tests start.
for name, value in dict(
    jax_compilation_cache_dir=os.environ.get("JAX_COMPILATION_CACHE_DIR")
    or str(files.cache_folder() / "programs-tests"),
    jax_persistent_cache_min_compile_time_secs=0,
    jax_persistent_cache_min_entry_size_bytes=-1,
).items():
    jax.config.update(name, value)
    os.environ[name.upper()] = str(value)

hypothesis.settings.register_profile("snnjax", deadline=None, max_examples=30, derandomize=True, database=None)
hypothesis.settings.load_profile("snnjax")

CHEAP = (
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters,xla_cpu_disable_loop_unrolling",
)
"""Flags of XLA with which tests spend less time on compiling; a benchmark compiles as users do."""


def pytest_collection_finish() -> None:
    """Lets Python look for garbage less often, and not at all in what was imported: a tenth of the time."""
    gc.freeze()
    gc.set_threshold(100_000)


def pytest_configure() -> None:
    """Sets how XLA compiles, here and in programs that tests start."""
    os.environ.setdefault("XLA_FLAGS", " ".join(CHEAP))


_compiled: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, _, **__: _compiled.append(event) if event.endswith("backend_compile_duration") else None
)


@pytest.fixture(scope="module", autouse=True)
def forgotten() -> Iterator[None]:
    """Drops compiled programs before the process runs out of memory maps, when XLA would abort it.

    Each program needs several; Linux allows a process 65,530.
    """
    yield
    maps = pathlib.Path("/proc/self/maps")
    if not maps.exists() or maps.read_bytes().count(b"\n") > 40_000:
        jax.clear_caches()


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    """Recorded results of the reference simulator, by name."""
    with np.load(pathlib.Path(__file__).parent / "golden" / "kernels.npz") as file:
        return dict(file)


@pytest.fixture(scope="session")
def compiler() -> None:
    """Skips where compiled kernels cannot be made."""
    from snnjax.kernels import native  # not before JAX has its settings

    try:
        native.load()
    except OSError as error:
        pytest.skip(f"no compiler: {error}")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder of a run of `snnjax train`, trained once for all workers: read it, or copy it to change it."""
    from snnjax.app.main import main  # its imports take a second

    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder = root / "finished"
    with filelock.FileLock(root / "finished.lock"):
        if not (folder / "results.json").exists():
            main(["train", *tiny.TRAIN, "--out", str(folder)])
    return folder


@pytest.fixture(autouse=True)
def device() -> Iterator[None]:
    """Resets the device that a command has chosen."""
    yield
    jax.config.update("jax_default_device", None)


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Counts the programs that XLA compiles while a function is called, as if no test had run before."""
    monkeypatch.setattr("snnjax.training.placement._COMPILED", {})

    def count(function: Callable[[], Any]) -> int:
        before = len(_compiled)
        jax.block_until_ready(function())
        return len(_compiled) - before

    assert count(lambda: jax.jit(lambda x: x + 1)(0)) == 1, "compilations are not counted"
    return count


def assert_close(result: Any, expected: Any) -> None:
    """Trees of equal integers and almost equal floats, all of the same shapes and dtypes."""

    def check(one: jax.Array, other: jax.Array) -> None:
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        tolerance = 1e-6 * float(jnp.abs(other).max()) if jnp.issubdtype(one.dtype, jnp.floating) else 0
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)

    jax.tree.map(check, result, expected)


@pytest.fixture
def contract(compilations: Callable[..., int]) -> Callable[[Callable[..., Any], Sequence[Any]], None]:
    """Checks a kernel: the same without `jax.jit`, under `jax.vmap` a loop; other numbers compile nothing.

    Takes the kernel and its arguments, which have a leading axis B of two or more.
    """

    def check(function: Callable[..., Any], batch: Sequence[Any]) -> None:
        size = len(jax.tree.leaves(batch)[0])
        arguments = [jax.tree.map(lambda leaf: leaf[index], batch) for index in range(size)]
        results = [function(*arguments[0])]
        assert compilations(lambda: results.append(function(*arguments[1]))) == 0
        results += [function(*each) for each in arguments[2:]]
        with jax.disable_jit():
            assert_close(results[0], function(*arguments[0]))
        assert_close(jax.vmap(function)(*batch), jax.tree.map(lambda *leaves: jnp.stack(leaves), *results))

    return check
