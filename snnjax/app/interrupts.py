"""Ends a program on Ctrl-C, SIGTERM or a closed terminal, at once and with a single line, even during its imports.

This module imports little, because the handlers are set before any slow import.
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
"""Set once a signal has interrupted the program, so that errors of the interrupted code can be ignored."""

TERMINALS: list[int] = []
"""The file descriptors, of 1 and 2, that are connected to a terminal."""

LAST_LINE: ContextVar[str] = ContextVar("LAST_LINE", default="Stopped.")
"""The last line that the program prints when it is stopped."""


def catch() -> None:
    """Sets the handlers, so that Ctrl-C, SIGTERM and closing the terminal interrupt the program."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # background jobs of a shell ignore it
        signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup ignores it
        TERMINALS.extend(number for number in (1, 2) if os.isatty(number))
        signal.signal(signal.SIGHUP, _hang_up)
    sys.unraisablehook = _unraisable


def ignore() -> None:
    """Ignores further signals, so that an interrupted program can finish its work."""
    for number in signal.valid_signals():
        if signal.getsignal(number) in (_interrupt, _hang_up):
            signal.signal(number, signal.SIG_IGN)


def stop() -> NoReturn:
    """Ends an interrupted program; further signals are ignored."""
    ignore()
    line = f"\n{LAST_LINE.get()}"
    try:
        print(line, flush=True)
    except RuntimeError:  # the signal interrupted a print, during which printing is impossible
        os.write(1, f"{line}\n".encode())
    raise SystemExit(STOPPED) from None


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Interrupts the program, and sends the signal again later, because third-party code may swallow the exception.

    During an import, the program ends at once, because an exception may crash compiled modules such as NumPy's.
    """
    INTERRUPTED.set()
    if _imports(frame):
        try:
            stop()
        finally:
            os._exit(STOPPED)
    resend = threading.Timer(RESEND_AFTER, os.kill, (os.getpid(), number))
    # Otherwise, Python would wait for the timer before it exits.
    resend.daemon = True
    resend.start()
    raise KeyboardInterrupt


def _hang_up(number: int, frame: FrameType | None) -> None:
    """Interrupts the program when its terminal is closed; further output is discarded rather than causing errors."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for terminal in TERMINALS:
        os.dup2(nowhere, terminal)
    _interrupt(number, frame)


def _imports(frame: FrameType | None) -> bool:
    """Whether a frame runs during an import."""
    while frame and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def _unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Hides errors in callbacks of the interpreter after an interrupt, because the signal is sent again."""
    if not INTERRUPTED.is_set():
        sys.__unraisablehook__(unraisable)
