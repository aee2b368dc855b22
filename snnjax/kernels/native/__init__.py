"""The kernels of a layer in C++, for CPUs: an optional, faster form of what `snnjax.kernels` defines.

They process only inputs that fire, event by event. Results are those of `snnjax.kernels`, except that floats are added
up in another order, which decides near-ties. The first use compiles the C++ sources for the processor at hand and keeps
the library in the user's cache folder, or raises OSError.

Arguments are those of `snnjax.kernels`, but for:

  latency: (C, H, W) uint8, without padding; at most 255 time steps.
  weights: (F, C, kh, kw) float32; each call packs them as it needs them, under `jax.vmap` once for all stimuli.
  threshold: a number, or a () or (F,) array.

Under `jax.vmap`, over stimuli, networks or both, all of them are one call, which the cores share.
"""

import ctypes
import functools
import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from snnjax.core import checks, devices
from snnjax.core.checks import Number, Pair
from snnjax.core.errors import InputError, InputTypeError, wrong_type
from snnjax.core.files import atomic_write, cache_folder, lock, write_text
from snnjax.core.sharding import vary_like
from snnjax.kernels.competition import Winners
from snnjax.kernels.neurons import Spikes, spike_times
from snnjax.kernels.spikes import Pooling, output_size

SOURCES = sorted(Path(__file__).parent.glob("*.cc"))
FLAGS = ("-std=c++20", "-O3", "-march=native", "-fPIC", "-shared", "-pthread", "-w")
MOST_STEPS = 255  # maximum number of time steps: latencies are bytes


@functools.cache
def load() -> ctypes.CDLL:
    """The library of the kernels; compiles them if no earlier run has, or raises OSError."""
    return ctypes.CDLL(str(library()))


@functools.cache
def _registered(name: str) -> str:
    """The name by which XLA knows a kernel from now on."""
    symbol = f"snnjax_{name}"
    jax.ffi.register_ffi_target(symbol, jax.ffi.pycapsule(getattr(load(), symbol)), platform="cpu")
    return symbol


def compiler() -> list[str]:
    """The command of a C++ compiler: $CXX, one of the system's, or that of the package ziglang, or raises OSError."""
    for name in filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++")):
        program, *options = shlex.split(name)
        if path := shutil.which(program):
            return [path, *options]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "c++"]
    raise OSError("the back end native needs a C++ compiler: install g++ or clang, or pip install 'snnjax[native]'")


def _sources() -> list[str]:
    return [path.read_text() for kind in ("*.cc", "*.h") for path in sorted(Path(__file__).parent.glob(kind))]


def library() -> Path:
    """The compiled library, one for each source, jaxlib and processor; compiled anew where its digest is another."""
    made_of = f"{_sources()} {FLAGS} {jax.lib.__version__} {devices.processor_features()}"
    path = cache_folder() / f"kernels-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.so"
    digest = path.with_suffix(".sha256")
    if not _is_sound(path, digest):
        with lock(path.parent, waiting=lambda: None):
            if not _is_sound(path, digest):  # no other program has compiled it meanwhile
                _build(path, digest)
    return path


def _build(path: Path, digest: Path) -> None:
    """Compiles the library, and writes its digest."""
    command = [*compiler(), *FLAGS, "-I", jax.ffi.include_dir()]
    print("snnjax compiles its C++ kernels, once: this takes up to a minute", file=sys.stderr, flush=True)
    with atomic_write(path) as library, tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
        objects = [Path(folder) / f"{source.stem}.o" for source in SOURCES]
        list(pool.map(lambda source, made: _compile([*command, "-c"], [source], made), SOURCES, objects))
        _compile(command, objects, library)
        made = _digest(library)
    write_text(digest, made)  # after the library: a program killed in between leaves one that is made anew


def _is_sound(path: Path, digest: Path) -> bool:
    """Whether a file has the SHA-256 that another one holds."""
    return path.is_file() and digest.is_file() and digest.read_bytes() == _digest(path).encode()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _compile(command: list[str], sources: list[Path], made: Path) -> None:
    done = subprocess.run([*command, "-o", str(made), *map(str, sources)], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"the C++ sources did not compile, {command[0]} said: {done.stderr.strip()[-2000:]}")


float_array = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
int_array = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.int32)
byte_array = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.uint8)


def _call(name: str, results: Any, *args: jax.Array, replaced: int = 0, **settings: Any) -> Any:
    """Calls a kernel, once for all stimuli of `jax.vmap`; that many results take the place of the first arguments."""
    call = functools.partial(
        jax.ffi.ffi_call(
            _registered(name),
            results,
            vmap_method="expand_dims",
            input_output_aliases={index: index for index in range(replaced)},
        ),
        **{key: np.int64(x) if type(x) is int else x for key, x in settings.items()},
    )
    return vary_like(_with_copies(call, replaced)(*args) if replaced else call(*args), args)


def _with_copies(call: Callable[..., Any], replaced: int) -> Callable[..., Any]:
    """A call that under `jax.vmap` has a copy for each stimulus of the first arguments, whose place results take."""

    @jax.custom_batching.custom_vmap
    def run(*args: jax.Array) -> Any:
        return call(*args)

    @run.def_vmap
    def _(size: int, batched: list[bool], *args: jax.Array) -> Any:
        copied = [batch or index < replaced for index, batch in enumerate(batched)]
        whole = [
            jnp.broadcast_to(x, (size, *x.shape)) if copy and not batch else x
            for x, copy, batch in zip(args, copied, batched, strict=True)
        ]
        results = _with_copies(jax.vmap(call, [0 if copy else None for copy in copied]), replaced)(*whole)
        return results, jax.tree.map(lambda _: True, results)

    return run


def _steps(time_steps: int) -> int:
    if checks.time_steps(time_steps) > MOST_STEPS:
        raise InputError(f"`time_steps` must be at most {MOST_STEPS} on the back end native, got {time_steps}")
    return int(time_steps)


def layer(
    latency: jax.Array | jax.ShapeDtypeStruct, weights: jax.Array, time_steps: int, stride: Pair, padding: Pair
) -> tuple[tuple[int, int, int], dict[str, Any]]:
    """The shape (F, H', W') of a layer's output, and the settings of a call; raises where they do not fit."""
    checks.array("weights", weights, "F C kh kw")
    if (dtypes := f"{weights.dtype} and {latency.dtype}") != "float32 and uint8":
        raise InputTypeError(f"`weights` and `latency` must be float32 and uint8 on the back end native, got {dtypes}")
    margins = checks.pair("padding", padding, 0)
    strides = checks.pair("stride", stride, 1)
    size = latency.shape[-2] + 2 * margins[0], latency.shape[-1] + 2 * margins[1]
    features, _, *kernel = weights.shape
    checks.fits("latency", (latency.shape[-3], *size), "weights", weights.shape[1:])
    checks.check_latency_range("latency", latency, time_steps)
    rows, columns = output_size(size, (kernel[0], kernel[1]), strides)
    return (features, rows, columns), dict(steps=_steps(time_steps), layer=np.array([*margins, *strides], np.int64))


def winners(
    latency: jax.Array,
    weights: jax.Array,
    *,
    threshold: Number,
    k: int,
    radius: Number,
    time_steps: int,
    stride: Pair = 1,
    padding: Pair = 0,
) -> Winners:
    """`kernels.competition.early_winners`: `Winners` of (k,)."""
    checks.array("latency", latency, "C H W")
    (_, height, width), settings = layer(latency, weights, time_steps, stride, padding)
    checks.radius(radius)
    places = (checks.integer("k", k, 1),)
    results = [int_array(places)] * 3 + [byte_array(places)]
    limits = _thresholds(threshold, weights), _one(radius, jnp.int32)
    feature, row, column, when = _call("winners", results, weights, latency, *limits, **settings)
    return Winners(feature, row, column, when, (height, width))


def _thresholds(threshold: Number, weights: jax.Array) -> jax.Array:
    """(1,) float32, or one for each feature, (F,)."""
    checks.threshold(threshold, len(weights))
    if threshold is None:
        raise wrong_type("threshold", "a number on the back end native", threshold)
    return jnp.asarray(threshold, jnp.float32).reshape(-1)


def _one(number: Number, dtype: Any) -> jax.Array:
    """A number as an array, (1,)."""
    return jnp.asarray(number, dtype).reshape(1)


def _ends(bounds: checks.Bounds) -> jax.Array:
    """The bounds as an array, (2,) float32."""
    return jnp.stack([jnp.asarray(bound, jnp.float32) for bound in bounds])


def latencies(
    latency: jax.Array,
    weights: jax.Array,
    *,
    threshold: Number,
    time_steps: int,
    stride: Pair = 1,
    padding: Pair = 0,
    pool: Pooling | None = None,
) -> jax.Array:
    """The latencies of `kernels.integrate_and_fire`, (F, H', W') uint8, pooled as by `kernels.pool` if at all."""
    checks.array("latency", latency, "C H W")
    shape, settings = layer(latency, weights, time_steps, stride, padding)
    pooled, numbers = (pool or Pooling()).of(shape)
    limits = _thresholds(threshold, weights)
    return _call("latencies", byte_array(pooled), weights, latency, limits, **settings, pool=numbers)


def timed_spikes(
    latency: jax.Array,
    weights: jax.Array,
    *,
    threshold: Number,
    time_steps: int,
    stride: Pair = 1,
    padding: Pair = 0,
    fractional: bool = False,
) -> Spikes:
    """`kernels.timed_spikes`, `Spikes` of (F, H', W')."""
    checks.array("latency", latency, "C H W")
    shape, settings = layer(latency, weights, time_steps, stride, padding)
    limits = _thresholds(threshold, weights)
    results = byte_array(shape), float_array(shape), float_array(shape)
    step, potential, before = _call("timed_spikes", results, weights, latency, limits, **settings)
    fired = step < time_steps
    limit = limits[0] if limits.size == 1 else limits[:, None, None]
    time = spike_times(step, fired, before, potential, limit, time_steps=int(time_steps), fractional=fractional)
    return Spikes(step, potential, jnp.where(fired, time, 1))


def final_potentials(spiked: jax.Array, weights: jax.Array, *, stride: Pair = 1, padding: Pair = 0) -> jax.Array:
    """`kernels.neurons.final_potentials` of (C, H, W) bool, (F, H', W') float32."""
    latency = jnp.where(spiked, 0, 1).astype(jnp.uint8)
    checks.array("spiked", spiked, "C H W")
    shape, settings = layer(latency, weights, 1, stride, padding)
    return _call("potentials", float_array(shape), weights, latency, **settings)


def stdp(
    weights: jax.Array,
    latency: jax.Array,
    won: Winners,
    rates: jax.Array,
    *,
    time_steps: int,
    bounds: checks.Bounds = (0.0, 1.0),
    stabiliser: bool = True,
    stride: Pair = 1,
    padding: Pair = 0,
) -> jax.Array:
    """`kernels.stdp` of weights (F, C, kh, kw) float32, in place where XLA allows."""
    _, settings = layer(latency, weights, time_steps, stride, padding)
    integers = [x.astype(jnp.int32) for x in (won.feature, won.row, won.column, won.latency)]
    args = weights, latency, *integers, rates.astype(jnp.float32), _ends(bounds)
    result = float_array(weights.shape)
    return _call("stdp", result, *args, replaced=1, stabiliser=bool(stabiliser), **settings)


def rank_order(intensities: jax.Array, *, time_steps: int) -> jax.Array:
    """`encoding.rank_order`: (...) float intensities, none negative, to (...) uint8 latencies, T where silent."""
    checks.array("intensities", intensities, None, "floats")
    floats = intensities.astype(jnp.float32)
    settings = dict(steps=_steps(time_steps), rank=floats.ndim)
    return _call("rank_order", byte_array(floats.shape), floats, **settings)
