"""A command that runs as several processes at once: how they come together, who prints, and how they end."""

import contextlib
import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from snnjax.core import processes
from snnjax.core.errors import InputError

HEARTBEAT = 30  # seconds without a sign of life, after which a process counts as lost
LOST = "another process has ended or cannot be reached: see its messages; a training goes on with --resume"


def join(place: Sequence[str]) -> None:
    """Brings the processes together before anything else of JAX; they wait for each other.

    `place` is (), where JAX finds the others by itself, or address and port of the first process, the number of
    processes, and the number of this one from 0. Raises InputError where it is neither.
    """
    wanted = "nothing (under Slurm, MPI, Kubernetes, on TPUs) or HOST:PORT N ID, with ID from 0 to N - 1"
    try:
        address, total, number = place or (None, None, None)
        count = None if total is None else int(total)
        index = None if number is None else int(number)
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.config.update("jax_enable_preemption_service", False)  # it would catch SIGTERM
        jax.distributed.initialize(address, count, index, heartbeat_timeout_seconds=HEARTBEAT)
    except (ValueError, IndexError, RuntimeError) as error:
        raise InputError(f"`distributed` must be {wanted}, got {' '.join(place) or 'nothing'}: {error}") from error


@contextlib.contextmanager
def one_of_several(program: str) -> Iterator[str]:
    """Gives the name of this process for messages; of all processes, the first alone prints.

    One that fails ends at once, as JAX would have it wait for the others; these end too, and say why.
    """
    named = f"{program}, process {processes.index()} of {processes.count()}"
    if processes.index():
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    _on_abort(f"{named}: {LOST}")
    try:
        yield named
    except SystemExit as end:
        if end.code:
            _end(int(end.code))
    except BaseException as error:
        lost = isinstance(error, ValueError | RuntimeError)
        if lost and any(name in str(error) for name in ("Gloo", "NCCL", "RCCL")):
            print(f"{named}: {LOST} ({' '.join(str(error).split())})", file=sys.stderr)
        else:
            traceback.print_exc()
        _end(1)


def _end(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _on_abort(line: str) -> None:
    """Ends the program with a line and status 1 where JAX aborts it, as it does once it has lost another process.

    Python's own handlers run when abort() returns, which it does not.
    """

    def end(_: int) -> None:
        os.write(2, f"{line}\n".encode())
        os._exit(1)

    _handlers.append(ctypes.CFUNCTYPE(None, ctypes.c_int)(end))
    set_handler = ctypes.CDLL(None).signal
    set_handler.argtypes = (ctypes.c_int, ctypes.c_void_p)
    set_handler(signal.SIGABRT, ctypes.cast(_handlers[-1], ctypes.c_void_p))


_handlers: list[Any] = []  # C may call them at any time
