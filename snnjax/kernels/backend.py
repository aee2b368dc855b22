"""The back end that computes a kernel: XLA, or on a CPU a compiled implementation in C++ ("native").

XLA's implementation is the definition. The compiled one adds floats up in another order, which decides near-ties.
"""

import functools
import os
import textwrap
from contextlib import AbstractContextManager

import jax

from snnjax.core import checks, devices
from snnjax.core.errors import InputError
from snnjax.kernels import native as compiled

CHOICES = ("auto", "xla", "native")
VARIABLE = "SNNJAX_BACKEND"
"""The environment variable that holds the choice outside of `use_backend`, read when snnjax is imported."""
EARLIER_VARIABLE = "SNNJAX_KERNELS"
"""Its name in version 0.6."""

# JAX's caches of traced and compiled programs have a user context in their key. With a plain variable, a function that
# is already compiled would keep the back end of the context in which it was first called.
_context = jax.make_user_context(os.environ.get(VARIABLE) or "auto")


def use_backend(chosen: str) -> AbstractContextManager[None]:
    """A context in which kernels, networks and encoders are computed by a back end.

    Programs that `jax.jit` has compiled in another context are compiled again. The choice holds for the thread that
    makes it.

    Args:
      chosen: "xla"; "native", the compiled implementations on a CPU, for what these support; or "auto", which is
        "native" if the C++ sources can be compiled, and "xla" otherwise. Outside of a context the environment variable
        SNNJAX_BACKEND makes this choice, and is "auto" if it is not set.

    Raises InputError for another choice, and OSError for "native" if the C++ sources cannot be compiled.
    """
    checks.one_of("backend", chosen, CHOICES)
    if chosen == "native":
        compiled.load()
        chosen = "auto"  # which computes the same from here on, by the same programs
    return _context(chosen)


def current() -> str:
    """The choice of the present context, or of the environment variable.

    Raises InputError if the variable makes another choice, or only that of version 0.6 is set.
    """
    if _context.value == "auto" and os.environ.get(EARLIER_VARIABLE) and not os.environ.get(VARIABLE):
        raise InputError(f"the environment variable `{EARLIER_VARIABLE}` is now `{VARIABLE}`: set that instead")
    checks.one_of(VARIABLE, _context.value, CHOICES)
    return _context.value


def current_is_native() -> bool:
    """Whether compiled implementations are used for arrays on a CPU; programs that are cached by key depend on it."""
    chosen = current()
    if chosen == "native":
        compiled.load()
    return chosen != "xla" and _compiles()


def prepare(chosen: str) -> None:
    """Begins to compile the C++ sources, in a thread, if a choice of the back end on a CPU needs them."""
    if "xla" not in (chosen, current()):
        compiled.begin()


@functools.cache
def _compiles() -> bool:
    """Whether the C++ sources can be compiled, which is tried once in a process."""
    try:
        compiled.load()
    except OSError:
        return False
    return True


def resolve(chosen: str, time_steps: int) -> str:
    """The back end of a computation that begins on JAX's default device, such as a training: "native" or "xla".

    "auto" is the choice of the present context. Raises InputError or OSError if "native" is chosen, but the device
    is no CPU, there are more time steps than bytes can hold, or the C++ sources cannot be compiled.
    """
    checks.one_of("backend", chosen, CHOICES)
    if chosen == "auto":
        chosen = current()
    if chosen == "auto":
        return "xla" if unavailable(time_steps) else "native"
    if chosen == "native":
        _check_native(time_steps)
    return chosen


def unavailable(time_steps: int = compiled.MAX_TIME_STEPS) -> str:
    """Why `resolve` would refuse "native", in a line; "" if it would not."""
    try:
        _check_native(time_steps)
    except (InputError, OSError) as error:
        return textwrap.shorten(str(error), 300, placeholder=" ...")
    return ""


def _check_native(time_steps: int) -> None:
    if (platform := devices.local_devices()[0].platform) != "cpu":
        raise InputError(f"`backend` native needs a CPU, got the device {platform}")
    if time_steps > compiled.MAX_TIME_STEPS:
        raise InputError(f"`backend` native supports at most {compiled.MAX_TIME_STEPS} time steps, got {time_steps}")
    compiled.load()
