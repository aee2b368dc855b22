"""The libraries of kernels in C++ for CPUs, which `snnjax.kernels.kernel` calls: how they are built and loaded.

The first use compiles the C++ sources for this machine's processor and keeps the libraries in the user's cache folder,
or raises OSError. The kernels process only inputs that fire, event by event. They add floats up in another order than
XLA, which decides near-ties.
"""

import ctypes
import functools
import hashlib
import importlib.util
import itertools
import os
import shlex
import shutil
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

import jax

from snnjax.core import devices
from snnjax.core.files import atomic_write, cache_folder, lock, write_text

# Each source becomes a separate library, because a program then waits only for the kernels that it calls. The first
# one takes a second, and shows whether the compiler works.
SOURCES = [Path(__file__).with_name(f"{name}.cc") for name in ("target_time", "kernels", "readout")]
# It takes the longest, and trainings without STDP layers do not call it: it is not compiled before it is needed.
SEQUENCES = Path(__file__).with_name("sequences.cc")
# No -ffast-math: it assumes that no float is infinite or NaN, but features that fill up a block never fire because
# their thresholds are infinite, and weights that are NaN must fire nowhere.
FLAGS = ("-std=c++20", "-O3", "-march=native", "-fPIC", "-shared", "-pthread", "-w")
MAX_TIME_STEPS = 255  # latencies are bytes


def load(source: Path | None = None) -> ctypes.CDLL:
    """The library of a source, by default of the first; compiles it if no earlier run has, or raises OSError."""
    begin()
    return ctypes.CDLL(str(_find(source or SOURCES[0]).result()))


def begin() -> None:
    """Begins to look for the libraries, and to compile those that are missing, in threads.

    The commands begin before they import what else they need, and JAX compiles programs meanwhile.
    """
    for source in SOURCES:
        _find(source)


_found: dict[Path, Future[Path]] = {}
_turns = threading.Semaphore(os.cpu_count() or 1)  # the first libraries are ready sooner than if all were compiled
_builds = itertools.count()


def _find(source: Path) -> Future[Path]:
    """The library of a source, which a thread looks for or compiles; again if the last attempt has failed."""
    found = _found.get(source)
    if found is None or (found.done() and found.exception()):  # such as by Ctrl-C, which stops the compiler too
        found = _found[source] = Future()
        # No program waits for the thread to end.
        threading.Thread(target=_fulfil, args=(found, source), daemon=True).start()
    return found


def _fulfil(found: Future[Path], source: Path) -> None:
    """Gives a library, or the error, to those that wait for it."""
    try:
        with _turns:
            found.set_result(library(source))
    except BaseException as error:
        found.set_exception(error)


@functools.cache
def register(name: str) -> str:
    """The name by which XLA knows a kernel from now on."""
    symbol = f"snnjax_{name}"
    (source,) = (source for source in (*SOURCES, SEQUENCES) if f"\nSNNJAX_KERNEL({name})\n" in source.read_text())
    jax.ffi.register_ffi_target(symbol, jax.ffi.pycapsule(getattr(load(source), symbol)), platform="cpu")
    return symbol


def compiler() -> list[str]:
    """The command of a C++ compiler: $CXX, one of the system's, or that of the package ziglang, or raises OSError."""
    for name in filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++")):
        program, *options = shlex.split(name)
        if path := shutil.which(program):
            return [path, *options]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "c++"]
    raise OSError("the native back end needs a C++ compiler: install g++ or clang, or pip install 'snnjax[native]'")


def library(source: Path) -> Path:
    """The compiled library of a source, one for each jaxlib and processor; it is compiled again if it is damaged."""
    # The features of the processor are part of the name because of -march=native: a cache folder may be shared by
    # machines, and a processor that lacks an instruction kills the program.
    texts = [path.read_text() for path in (source, *sorted(source.parent.glob("*.h")))]
    made_of = f"{texts} {FLAGS} {jax.lib.__version__} {devices.processor_features()}"
    folder = cache_folder() / f"{source.stem}-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}"
    folder.mkdir(exist_ok=True)
    path = folder / "kernels.so"
    if not _is_sound(path):
        with lock(folder, waiting=lambda: None):
            if not _is_sound(path):  # no other program has compiled it meanwhile
                _build(path, source)
    return path


def _build(path: Path, source: Path) -> None:
    """Compiles the library of a source, and writes its digest; raises OSError if the compiler fails."""
    if next(_builds) == 0 or source == SEQUENCES:
        which = "C++ kernels of sequences" if source == SEQUENCES else "C++ kernels"
        print(f"snnjax compiles its {which}, once: this takes up to a minute", file=sys.stderr, flush=True)
    with atomic_write(path) as made:
        command = [*compiler(), *FLAGS, "-I", jax.ffi.include_dir(), "-o", str(made), str(source)]
        run = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if run.returncode:
            said = run.stderr.strip()[-2000:] or f"nothing, and ended with status {run.returncode}"
            raise OSError(f"the C++ source {source.name} did not compile, {command[0]} said: {said}")
        digest = _digest(made)
    write_text(_digest_file(path), digest)  # after the library: a program killed in between leaves one without


def _is_sound(path: Path) -> bool:
    """Whether a library has the SHA-256 that was written next to it."""
    digest = _digest_file(path)
    return path.is_file() and digest.is_file() and digest.read_bytes() == _digest(path).encode()


def _digest_file(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
