"""Figures as PNG files, drawn by two processes: Matplotlib keeps one core busy, for a third of a short training.

The second process imports this module and Matplotlib, but not JAX.
"""

import contextlib
import io
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from snnjax.core.files import atomic_write

OVERSAMPLING = 1.6  # pixels of a picture for each of the page that shows it, 100 an inch


def png(figure: Figure) -> bytes:
    """A figure as a PNG file. `Figure.savefig` would draw it twice."""
    buffer = io.BytesIO()
    figure.set_dpi(100 * OVERSAMPLING)
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def write_picture(path: Path, picture: bytes) -> None:
    """Writes a PNG file, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(picture)


class Drawers(contextlib.AbstractContextManager["Drawers"]):
    """Draws figures into files, in this process and, as soon as it is ready, in a second one, until its block ends.

    Both draw the same pictures. On a single core there is no second process.
    """

    def __init__(self, draw: Callable[[Path, Figure], None]) -> None:
        """`draw` draws a figure into a file in this process."""
        self._draw = draw

    def __enter__(self) -> "Drawers":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._second = _Second(self._draw) if cores > 1 else None
        return self

    def write(self, path: Path, figure: Figure) -> None:
        """Draws a figure into a file, later at the latest when the block ends."""
        if self._second is None or not self._second.take(path, figure):
            self._draw(path, figure)

    def __exit__(self, kind: Any, *_: object) -> None:
        if self._second is not None:
            self._second.end(wait=kind is None)


class _Second:
    """The second process, with one figure at a time."""

    def __init__(self, draw: Callable[[Path, Figure], None]) -> None:
        self._draw = draw
        code = f"import sys; sys.path[:] = {sys.path!r}; from snnjax.app import drawing; drawing.serve()"
        streams: Any = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._process = subprocess.Popen([sys.executable, "-c", code], **streams)
        self._pool = ThreadPoolExecutor(1)
        self._given: tuple[Path, Figure] | None = None
        settings = {name: value for name, value in dict.items(matplotlib.rcParams) if name != "backend"}
        self._reply: Future[Any] = self._pool.submit(self._ask, settings)  # which comes once Matplotlib is imported

    def _ask(self, message: Any) -> Any:
        """The reply of the process to a message; None if it has none."""
        try:
            pickle.dump(message, self._process.stdin)  # type: ignore[arg-type]
            self._process.stdin.flush()  # type: ignore[union-attr]
            return pickle.load(self._process.stdout)  # type: ignore[arg-type]
        except (OSError, EOFError, ValueError, TypeError, AttributeError, pickle.PickleError):
            return None

    def take(self, path: Path, figure: Figure) -> bool:
        """Draws a figure into a file, if the process has nothing else to do; returns whether it has taken it."""
        if not self._reply.done():
            return False
        self._finish()
        if self._reply.result() is None:
            return False
        self._given = path, figure
        self._reply = self._pool.submit(self._ask, figure)
        return True

    def _finish(self) -> None:
        """Writes the picture of the figure that the process was given; draws it if the process could not."""
        if self._given is not None:
            path, figure = self._given
            self._given = None
            if picture := self._reply.result():
                write_picture(path, picture)
            else:
                self._draw(path, figure)

    def end(self, wait: bool) -> None:
        """Ends the process, at once or after the last picture."""
        try:
            if wait:
                self._finish()
        finally:
            self._process.kill()
            self._process.wait()
            self._pool.shutdown()


def serve() -> None:
    """The work of the second process: takes settings of Matplotlib, then figures, and replies with PNG files."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end of the first process ends it
    replies = sys.stdout.buffer
    dict.update(matplotlib.rcParams, pickle.load(sys.stdin.buffer))
    reply: Any = True
    while True:
        pickle.dump(reply, replies)
        replies.flush()
        try:
            reply = png(pickle.load(sys.stdin.buffer))
        except EOFError:
            return
