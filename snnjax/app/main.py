"""The command `snnjax`: reads the options, and calls the module in `snnjax.app.commands` that does the work.

No slow import takes place before the options are read.
"""

import contextlib
import functools
import importlib
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import tyro

from snnjax import __version__
from snnjax.app import interrupts, options
from snnjax.core.errors import InputError, printable, unknown

T = TypeVar("T")

COMMANDS: dict[str, type] = {
    "train": options.Train,
    "evaluate": options.Evaluate,
    "predict": options.Predict,
    "cost": options.Cost,
    "stream": options.Stream,
    "sweep": options.Sweep,
    "pretrained": options.Pretrained,
    "report": options.Report,
    "demo": options.Demo,
    "export": options.Export,
    "convert": options.Convert,
    "data": options.Sets,
    "doctor": options.Doctor,
}
"""The options of each command; its work is done by `run` in the module of the same name."""

USAGE = """usage: snnjax COMMAND [OPTIONS]

Convolutional spiking networks with local learning, in JAX.

{commands}

snnjax COMMAND --help explains the options of a command; snnjax --version prints the version."""

COMMAND: ContextVar[str] = ContextVar("COMMAND", default="")
"""The command that is being run, as a user would type it."""


def fail(program: str, message: object, status: int = 2) -> NoReturn:
    """Prints one line to the error stream, and ends the program with an exit status."""
    print(f"{program}: {printable(' '.join(str(message).split()))}", file=sys.stderr)
    raise SystemExit(status)


@contextlib.contextmanager
def user_errors(program: str, stopped: str = "Stopped.") -> Iterator[None]:
    """Ends the program with one line if options, files or data are invalid, and with the line `stopped` on Ctrl-C."""
    before = interrupts.LAST_LINE.set(stopped)
    try:
        yield
    except BrokenPipeError:  # the reader of the output has closed it
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (Python flushes it at exit)
        raise SystemExit(1) from None
    except (Exception, KeyboardInterrupt) as error:
        if interrupts.INTERRUPTED.is_set() or isinstance(error, KeyboardInterrupt):
            interrupts.stop()
        if isinstance(error, (InputError, OSError)):
            fail(program, error)
        raise
    finally:
        interrupts.LAST_LINE.reset(before)


def parse(kind: type[T], arguments: Sequence[str], program: str) -> T:
    """Parses options into a dataclass; if they are invalid, ends the program with a message about what is expected."""
    settings = (tyro.conf.OmitArgPrefixes,)
    return tyro.cli(kind, prog=program, args=list(arguments), use_underscores=True, config=settings)


@contextlib.contextmanager
def protected() -> Iterator[None]:
    """A context in which Ctrl-C and SIGTERM stop the program at once, without waiting for JAX's threads."""
    interrupts.catch()
    try:
        with user_errors(Path(sys.argv[0]).name):  # errors that are not caught closer to their cause
            yield
    except SystemExit as end:
        if end.code != interrupts.STOPPED:
            raise
        sys.stderr.flush()
        os._exit(interrupts.STOPPED)


@contextlib.contextmanager
def command(arguments: Sequence[str] | None = None) -> Iterator[Callable[[], None]]:
    """A context with a function that does the work of a command, by default of the command on the command line.

    It is a context rather than a call, so that tracebacks lead directly from the program to the code of the command.
    """
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("--version", "-V"):
        yield functools.partial(print, f"snnjax {__version__}")
    elif name in ("--help", "-h"):
        lines = [f"  {name:<10} {(kind.__doc__ or '').splitlines()[0]}" for name, kind in COMMANDS.items()]
        yield functools.partial(print, USAGE.format(commands="\n".join(lines)))
    else:
        with user_errors("snnjax"):
            if name not in COMMANDS:
                raise unknown("COMMAND", name, COMMANDS)
        kind: Any = COMMANDS[name]
        with command_options(f"snnjax {name}", kind, rest, _STOPPED.get(name, "")) as chosen:
            yield functools.partial(importlib.import_module(f"snnjax.app.commands.{name}").run, chosen)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command, by default the one on the command line."""
    with command(arguments) as work:
        work()


_KEPT = "Stopped; all but the last half minute is kept."
_STOPPED = dict(
    train=f"{_KEPT} Continue with the same command and --resume.",
    sweep=f"{_KEPT} The same command continues.",
    stream="Stopped; what was learned is kept. Continue with the same command and --resume.",
    data="Stopped; what has been downloaded is kept. The same command continues.",
)
"""The last lines of commands that are stopped by Ctrl-C."""


@contextlib.contextmanager
def command_options(
    program: str, kind: type[T], arguments: Sequence[str] | None = None, stopped: str = ""
) -> Iterator[T]:
    """A context with the options of a program, by default from the command line, in which it uses the chosen device.

    `stopped` is the last line that a long command prints after Ctrl-C.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    chosen = parse(kind, given, program)
    COMMAND.set(shlex.join([*program.split(), *given]))
    with user_errors(program, stopped or "Stopped."):
        if machine := getattr(chosen, "machine", None):
            if stopped:
                print(f"snnjax {__version__}", flush=True)  # printed first, because importing JAX takes a while
            device = importlib.import_module("snnjax.core.devices").choose(machine.device)
            if device.platform == "cpu" and hasattr(machine, "backend"):
                importlib.import_module("snnjax.kernels.backend").prepare(machine.backend)
        yield chosen


def script(path: str) -> None:
    """Runs the command that has the same name as a script."""
    with protected():
        main([Path(path).stem, *sys.argv[1:]])
