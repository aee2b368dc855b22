"""Settings and fixtures of the tests."""

import gc
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import filelock
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from PIL import Image

from snnjax.core import files
from snnjax.core.devices import BATCH_SIZES
from snnjax.data import digits
from snnjax.runs import checkpoint_folder

checkpoint_folder.PAUSE = 0  # epochs of tests are short, and what is saved after them is tested

# Arrays of different ranks that are broadcast against each other usually lack an axis by mistake.
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

# The first example of a test compiles, so there is no deadline; each run draws the same cases, so that failures recur.
hypothesis.settings.register_profile("snnjax", deadline=None, max_examples=30, derandomize=True, database=None)
hypothesis.settings.load_profile("snnjax")

CHEAP = (
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters,xla_cpu_disable_loop_unrolling",
)
"""Flags of XLA with which tests spend less time on compiling; a benchmark compiles as users do."""
CHEAPEST = (*CHEAP, "--xla_backend_optimization_level=0")
"""Those of fast tests. At this level, programs that compute the same differ in the last bit."""


def pytest_collection_finish() -> None:
    """Lets Python look for garbage less often, and not at all in what was imported: a tenth of the time."""
    gc.freeze()
    gc.set_threshold(100_000)


def pytest_configure(config: pytest.Config) -> None:
    """Sets how XLA compiles, here and in programs that tests start."""
    os.environ.setdefault("XLA_FLAGS", " ".join(CHEAPEST if config.option.markexpr == "not slow" else CHEAP))


programs = dict(compiled=0, checked=0)
"""How many programs this process has compiled, or read from the cache, and how many it had at the last check."""


def count_program(event: str, _: float, **__: Any) -> None:
    programs["compiled"] += event.endswith("backend_compile_duration")


jax.monitoring.register_event_duration_secs_listener(count_program)


def pytest_runtest_teardown() -> None:
    """Drops compiled programs before the process runs out of memory maps, when XLA would abort it.

    Each program needs several; Linux allows a process 65,530.
    """
    if programs["compiled"] < programs["checked"] + 100:
        return
    programs["checked"] = programs["compiled"]
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
    """Skips a test if the C++ sources cannot be compiled."""
    from snnjax.kernels import native  # not before JAX has its settings

    try:
        native.load()
    except OSError as error:
        pytest.skip(f"no compiler: {error}")


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[pathlib.Path], object]):
    """The path of a folder that `make` writes, once for all workers: read it, or copy it to change it."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    made = root / f"{name}.made"
    with filelock.FileLock(root / f"{name}.lock"):
        if not made.exists():
            make(root / name)
            made.touch()
    return root / name


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder of a run of `snnjax train`."""
    from snnjax.app.main import main  # its imports take a second

    return made_once(tmp_path_factory, "finished", lambda path: main(["train", *tiny.TRAIN, "--out", str(path)]))


@pytest.fixture
def work(finished: pathlib.Path, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder to work in, with a run and pictures, where drawing takes no time."""
    from command import RUN

    from snnjax.app import plots

    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, RUN)
    picture = Image.fromarray(digits().test_images[3].astype(np.uint8))
    picture.save("digit.png")
    Image.fromarray(255 - np.asarray(picture)).resize((300, 300)).convert("RGB").save("paper.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    drawn = (finished / "pictures" / "weights.png").read_bytes()
    monkeypatch.setattr(plots, "png", lambda figure: drawn)
    monkeypatch.setitem(BATCH_SIZES, "cpu", 4)
    return tmp_path


@pytest.fixture(autouse=True)
def device() -> Iterator[None]:
    """Resets the device that a command has chosen."""
    yield
    jax.config.update("jax_default_device", None)


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Counts the programs that XLA compiles while a function is called, as if no test had run before."""
    monkeypatch.setattr("snnjax.training.timer.PROGRAMS", {})

    def count(function: Callable[[], Any]) -> int:
        before = programs["compiled"]
        jax.block_until_ready(function())
        return programs["compiled"] - before

    assert count(lambda: jax.jit(lambda x: x + 1)(0)) == 1, "compilations are not counted"
    return count


def assert_close(result: Any, expected: Any) -> None:
    """Trees of equal integers and almost equal floats, all of the same shapes and dtypes."""

    def check(one: jax.Array, other: np.ndarray) -> None:
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        tolerance = 1e-6 * float(np.abs(other).max()) if jnp.issubdtype(one.dtype, jnp.floating) else 0
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)

    jax.tree.map(check, result, expected)


@pytest.fixture
def contract(compilations: Callable[..., int]) -> Callable[[Callable[..., Any], Sequence[Any]], None]:
    """Checks a kernel: under `jax.vmap` it is a loop; other numbers compile nothing.

    Takes the kernel and its arguments, which have a leading axis B of two or more.
    """

    def check(function: Callable[..., Any], batch: Sequence[Any]) -> None:
        size = len(jax.tree.leaves(batch)[0])
        arguments = [jax.tree.map(lambda leaf: leaf[index], batch) for index in range(size)]
        results = [function(*arguments[0])]
        assert compilations(lambda: results.append(function(*arguments[1]))) == 0
        results += [function(*each) for each in arguments[2:]]
        assert_close(jax.vmap(function)(*batch), jax.tree.map(lambda *leaves: np.stack(leaves), *results))

    return check
