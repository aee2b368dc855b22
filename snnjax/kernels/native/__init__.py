"""The library of kernels in C++ for CPUs, which `snnjax.kernels.kernel` calls: how it is built and loaded.

The first use compiles the C++ sources for the processor at hand and keeps the library in the user's cache folder, or
raises OSError. The kernels process only inputs that fire, event by event. They add floats up in another order than XLA,
which decides near-ties.
"""

import ctypes
import functools
import hashlib
import importlib.util
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import jax

from snnjax.core import devices
from snnjax.core.files import atomic_write, cache_folder, lock, write_text

SOURCES = sorted(Path(__file__).parent.glob("*.cc"))
# No -ffast-math: it assumes that no float is infinite or NaN, but features that fill up a block never fire because
# their thresholds are infinite, and weights that are NaN must fire nowhere.
FLAGS = ("-std=c++20", "-O3", "-march=native", "-fPIC", "-shared", "-pthread", "-w")
MAX_TIME_STEPS = 255  # latencies are bytes


@functools.cache
def load() -> ctypes.CDLL:
    """The library of the kernels; compiles them if no earlier run has, or raises OSError."""
    return ctypes.CDLL(str(begin().result()))


@functools.cache
def begin() -> Future[Path]:
    """Begins to look for the library, and to compile it if need be, in a thread that no program waits for to end.

    The commands begin before they import what else they need, which takes a third of the time of the compilers.
    """
    found: Future[Path] = Future()

    def find() -> None:
        try:
            found.set_result(library())
        except BaseException as error:
            found.set_exception(error)

    threading.Thread(target=find, daemon=True).start()
    return found


@functools.cache
def register(name: str) -> str:
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
    # The features of the processor are part of the name because of -march=native: a cache folder may be shared by
    # machines, and a processor that lacks an instruction kills the program.
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
    # Of the names of temporary files, which the next program that builds removes if this one is killed.
    objects = [path.with_name(f".{source.stem}.o.{secrets.token_hex(4)}.o") for source in SOURCES]
    try:
        # The sources are compiled at the same time, which takes two cores half of the time.
        with atomic_write(path) as library:
            pairs = zip(objects, SOURCES, strict=True)
            _compile([[*command, "-c", "-o", str(made), str(source)] for made, source in pairs])
            _compile([[*command, "-o", str(library), *map(str, objects)]])
            made = _digest(library)
    finally:
        for file in objects:
            file.unlink(missing_ok=True)
    write_text(digest, made)  # after the library: a program killed in between leaves one that is made anew


def _is_sound(path: Path, digest: Path) -> bool:
    """Whether a file has the SHA-256 that another one holds."""
    return path.is_file() and digest.is_file() and digest.read_bytes() == _digest(path).encode()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _compile(commands: Sequence[Sequence[str]]) -> None:
    """Runs compilers at the same time; raises OSError unless all succeed."""
    streams: Any = dict(stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    processes = [subprocess.Popen(command, **streams) for command in commands]
    try:
        for command, process in zip(commands, processes, strict=True):
            _, said = process.communicate()
            if process.returncode:
                raise OSError(f"the C++ sources did not compile, {command[0]} said: {said.strip()[-2000:]}")
    finally:
        for process in processes:
            process.kill()
            process.wait()
