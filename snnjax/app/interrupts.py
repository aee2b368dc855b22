"""How Ctrl-C, SIGTERM and a closed terminal end a program: at once and in one line, from its first import on.

Little is imported here: the handlers are set before anything that takes long.
"""

import os
import signal
import sys
import threading
from contextvars import ContextVar
from types import FrameType
from typing import NoReturn

STOPPED = 130  # exit status after Ctrl-C
RESEND_AFTER = 2.0  # seconds until an interrupt that did not end the program is sent again

INTERRUPTED = threading.Event()
"""Set once a signal has interrupted the program: errors of the code that it interrupted are of no interest."""

TERMINALS: list[int] = []
"""The outputs of the program, 1 and 2, that go to a terminal."""

LAST_LINE: ContextVar[str] = ContextVar("LAST_LINE", default="Stopped.")
"""What the program prints when it is stopped."""


def catch() -> None:
    """Lets Ctrl-C, SIGTERM and a terminal that is closed interrupt the program."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # background jobs of a shell ignore it
        signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup ignores it
        TERMINALS.extend(number for number in (1, 2) if os.isatty(number))
        signal.signal(signal.SIGHUP, _hang_up)
    sys.unraisablehook = _unraisable


def ignore() -> None:
    """Lets nothing interrupt the end of an interrupted program."""
    for number in signal.valid_signals():
        if signal.getsignal(number) in (_interrupt, _hang_up):
            signal.signal(number, signal.SIG_IGN)


def stop() -> NoReturn:
    """Ends an interrupted program; nothing may interrupt that."""
    ignore()
    line = f"\n{LAST_LINE.get()}"
    try:
        print(line, flush=True)
    except RuntimeError:  # the signal came while the program was printing, within which it cannot print again
        os.write(1, f"{line}\n".encode())
    raise SystemExit(STOPPED) from None


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Interrupts the program, and sends the signal again later: third-party code may swallow the exception.

    While a module is imported it ends the program at once: compiled modules such as NumPy's may crash by an exception.
    """
    INTERRUPTED.set()
    if _imports(frame):
        try:
            stop()
        finally:
            os._exit(STOPPED)
    resend = threading.Timer(RESEND_AFTER, os.kill, (os.getpid(), number))
    # Otherwise Python would wait for the timer before it ends.
    resend.daemon = True
    resend.start()
    raise KeyboardInterrupt


def _hang_up(number: int, frame: FrameType | None) -> None:
    """Interrupts the program as its terminal is closed: what it prints from then on is lost, instead of an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for terminal in TERMINALS:
        os.dup2(nowhere, terminal)
    _interrupt(number, frame)


def _imports(frame: FrameType | None) -> bool:
    """Whether a frame runs within an import."""
    while frame and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def _unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Hides errors in callbacks of the interpreter once the program is interrupted: the signal is sent again."""
    if not INTERRUPTED.is_set():
        sys.__unraisablehook__(unraisable)
