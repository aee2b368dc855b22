"""The back end that computes a kernel: XLA or, on a CPU, a compiled implementation in C++ ("native").

The implementation in XLA is the definition. The compiled one adds floats in a different order, which can decide
near-ties differently.
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
"""The environment variable that sets the back end outside of `use_backend`; it is read when snnjax is imported."""
EARLIER_VARIABLE = "SNNJAX_KERNELS"
"""The name of this environment variable in version 0.6."""

# The keys of JAX's caches of traced and compiled programs include the user context. With a plain variable, a function
# that is already compiled would keep the back end of the context in which it was first called.
_context = jax.make_user_context(os.environ.get(VARIABLE) or "auto")


def use_backend(chosen: str) -> AbstractContextManager[None]:
    """A context manager that selects the back end of kernels, networks and encoders.

    Programs that `jax.jit` has compiled in another context are compiled again. The choice applies only to the current
    thread.

    Args:
      chosen: "xla"; "native", which uses the compiled implementations on a CPU for everything that they support; or
        "auto", which is "native" if the C++ sources can be compiled, and "xla" otherwise. Outside of a context, the
        back end is that of the environment variable SNNJAX_BACKEND, or "auto" if the variable is not set.

    Raises InputError for any other value, and OSError for "native" if the C++ sources cannot be compiled.
    """
    checks.one_of("backend", chosen, CHOICES)
    if chosen == "native":
        compiled.load()
        chosen = "auto"  # equivalent from here on, and it uses the same compiled programs
    return _context(chosen)


def current() -> str:
    """The back end selected by the current context, or otherwise by the environment variable.

    Raises InputError if the value of the variable is not a back end, or if only the variable of version 0.6 is set.
    """
    if _context.value == "auto" and os.environ.get(EARLIER_VARIABLE) and not os.environ.get(VARIABLE):
        raise InputError(f"the environment variable `{EARLIER_VARIABLE}` is now `{VARIABLE}`: set that instead")
    checks.one_of(VARIABLE, _context.value, CHOICES)
    return _context.value


def current_is_native() -> bool:
    """Whether compiled implementations are used for arrays on a CPU; keys of cached programs must include it."""
    chosen = current()
    if chosen == "native":
        compiled.load()
    return chosen != "xla" and _compiles()


def prepare(chosen: str) -> None:
    """Starts to compile the C++ sources in a thread if the chosen back end needs them on a CPU."""
    if "xla" not in (chosen, current()):
        compiled.begin()


@functools.cache
def _compiles() -> bool:
    """Whether the C++ sources can be compiled, which is tried only once per process."""
    try:
        compiled.load()
    except OSError:
        return False
    return True


def resolve(chosen: str, time_steps: int) -> str:
    """The back end of a computation on JAX's default device, such as a training run: "native" or "xla".

    "auto" stands for the choice of the current context. Raises InputError or OSError if "native" is chosen, but the
    device is not a CPU, there are more time steps than a byte can hold, or the C++ sources cannot be compiled.
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
    """The reason why `resolve` would refuse "native", in one line; "" if it would accept it."""
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
