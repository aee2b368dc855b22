"""What a command takes from its user and shows: options, errors, bars in a terminal, lines in a log file, tables."""

import _thread
import contextlib
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from simple_parsing import ArgumentParser

from snnjax import devices
from snnjax.app import report, runs
from snnjax.errors import InputError
from snnjax.networks import Network
from snnjax.training.state import Callback

T = TypeVar("T")

STOPPED = 130
"""Exit status after Ctrl-C."""
_EVERY = 10.0
"""Seconds between the lines of a phase in a log file."""


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        fail(f"{message} (--help explains the options)")


def fail(message: object, status: int = 2) -> NoReturn:
    """Ends the program with one clear line on the error stream and an exit status."""
    print(f"{Path(sys.argv[0]).name}: {' '.join(str(message).split())}", file=sys.stderr)
    raise SystemExit(status)


def stop(message: str) -> NoReturn:
    """Ends the program after Ctrl-C, with a line that says how to go on."""
    print(f"\n{message}", flush=True)
    raise SystemExit(STOPPED) from None


def check_least(options: object, least: int, *names: str) -> None:
    """Raises InputError where one of these options is a number less than `least`."""
    for name in names:
        if (value := getattr(options, name)) is not None and value < least:
            raise InputError(f"`{name}` must be at least {least}, got {value}")


def check_names(options: object, name: str, known: Iterable[str]) -> None:
    """Raises InputError unless this option lists known names, at least one."""
    listed, expected = getattr(options, name), ", ".join(known)
    for each in listed:
        if each not in known:
            raise InputError(f"`{name}` must be of {expected}, got {each!r}")
    if not listed:
        raise InputError(f"`{name}` must name at least one of {expected}")


def check_new(path: Path) -> None:
    """Checks that a file can be written at a place where there is none.

    Raises:
      FileExistsError, FileNotFoundError: there is one, or no folder for it.
    """
    if path.exists():
        raise FileExistsError(f"{path} already exists: name another file")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} into")


@contextlib.contextmanager
def user_errors(stopped: str = "Stopped.") -> Iterator[None]:
    """Within it, what is wrong with options, files or data ends the program with one line, and so does Ctrl-C.

    Any other exception is a fault of the program, and keeps its traceback.

    Args:
      stopped: the line after Ctrl-C, which says how to go on.
    """
    try:
        yield
    except (InputError, OSError) as error:
        fail(error)
    except KeyboardInterrupt:
        stop(stopped)


def run(main: Callable[[], None]) -> None:
    """Runs a script; one that was stopped ends at once, without waiting for what JAX still computes in its threads.

    A request to terminate (SIGTERM) stops it as Ctrl-C does.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.unraisablehook = _unraisable
    try:
        main()
    except SystemExit as end:
        if end.code != STOPPED:
            raise
        sys.stderr.flush()
        os._exit(STOPPED)


def _unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Ctrl-C during a callback of Python's own, which would only be printed there, stops the program too."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        _thread.interrupt_main()
    else:
        sys.__unraisablehook__(unraisable)


def options(kind: type[T], description: str | None, arguments: list[str] | None = None) -> T:
    """Reads options from the command line, as a frozen dataclass declares them; bad ones end the program."""
    parser = _Parser(description=description, add_config_path_arg=False)
    parser.add_arguments(kind, dest="options")  # type: ignore[type-var]
    return parser.parse_args(arguments).options


def command(kind: type[T], description: str | None, stopped: str = "Stopped.") -> Callable[..., Callable[..., None]]:
    """Decorator: makes a function of options the `main` of a script; `stopped` is the line after Ctrl-C."""

    def decorate(work: Callable[[T], None]) -> Callable[..., None]:
        def main(arguments: list[str] | None = None) -> None:
            chosen = options(kind, description, arguments)
            with user_errors(stopped):
                if device := getattr(chosen, "device", None):
                    devices.choose(device)
                work(chosen)

        return main

    return decorate


def screen() -> Console:
    """Where tables of results are shown; wide enough for them in a file."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)


def table(head: Iterable[str], sections: Iterable[Iterable[Iterable[str]]], title: str = "", left: int = 1) -> Table:
    """A table.

    Args:
      head: names of the columns.
      sections: lines of cells, with a rule between sections.
      title: above it.
      left: columns that hold words; the others hold numbers.
    """
    shown = Table(title=title or None, title_justify="left")
    for at, name in enumerate(head):
        shown.add_column(name, justify="left" if at < left else "right")
    for lines in sections:
        shown.add_section()
        for cells in lines:
            shown.add_row(*cells)
    return shown


class Bars(Callback):
    """A bar for each phase with images/s and the running accuracy; in a file, a line now and then."""

    def __init__(self, console: Console | None = None):
        self.console = console or Console()
        self._progress = Progress(
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:>7} img/s"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def started(self, phase: str, images: int) -> None:
        """Begins a bar."""
        self._task = self._progress.add_task(phase, total=images, rate="", note="compiling")
        self._name, self._total, self._done, self._epoch = phase, images, 0, ""
        self._start = self._said = time.perf_counter()

    def advanced(self, images: int, correct: int) -> None:
        """Moves the bar."""
        now = time.perf_counter()
        if self._done == 0:
            self._start = self._said = now  # the first report ends the compilation
        self._done += images
        self._show(now)

    def tested(self, record: dict[str, Any]) -> None:
        """Notes the accuracies of a reward epoch."""
        train, test = record["train"]["accuracy"], record["test"]["accuracy"]
        self._epoch = f"epoch {record['epoch'] + 1}: train {train:.1%} test {test:.1%}"
        self._show(time.perf_counter())

    def diagnosed(self, phase: str, diagnosis: dict[str, Any]) -> None:
        """Says in words what a phase has shown."""
        self.console.print(f"[bold]{phase}[/]: {'; '.join(diagnosis['words'])}", highlight=False, soft_wrap=True)

    def _show(self, now: float) -> None:
        seconds = now - self._start
        rate = f"{self._done / seconds:,.0f}" if seconds > 0.5 else ""
        if self._task is not None:
            self._progress.update(self._task, completed=self._done, rate=rate, note=self._epoch)
        if not self.console.is_terminal and now - self._said > _EVERY:
            self._said = now
            self._line(f"{self._done}/{self._total}", rate)

    def _line(self, count: str, rate: str) -> None:
        self.console.print(f"{self._name:<22} {count:>15} {rate:>7} img/s  {self._epoch}".rstrip(), soft_wrap=True)

    def finished(self, record: dict[str, Any]) -> None:
        """Ends the bar; in a file, says how long the phase took."""
        if self._task is not None and record["name"] == self._name:
            rate = f"{record['images_per_second']:,.0f}"
            self._progress.update(self._task, completed=self._done, total=self._done, rate=rate)
            if not self.console.is_terminal:
                self._line(str(self._done), rate)


def header(run: runs.RunFolder, console: Console | None = None) -> None:
    """Says what is about to be trained, on what, where to and what it begins with."""
    console = console or Console()
    trainer, data, settings = run.trainer, run.trainer.data, run.trainer.settings
    console.print(
        f"[bold]{trainer.network.name}[/] on {data.name}: {len(data.train_images):,} training and "
        f"{len(data.test_images):,} test images, epochs {' '.join(map(str, settings.epochs))}, seed {settings.seed}",
        highlight=False,
        soft_wrap=True,
    )
    for line in (f"on {run.device}; into {run.path}", *run.notes):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def summary(network: Network, results: dict[str, Any], folder: Path, console: Console | None = None) -> None:
    """Prints layers, phases and the test result as tables."""
    console = console or Console()
    shapes, weights = network.shapes, network.weight_shapes
    layers = [
        [name, _by(shapes[at]), _by(weights[name]), _by(shapes[at + 1]), f"{math.prod(weights[name]):,}"]
        for at, name, _ in network.layers()
    ]
    head = ("layer", "input", "weights", "output of stage", "parameters")
    console.print(table(head, [layers], "layers", left=4))
    console.print(table(report.PHASES, [report.phases(results)], "phases"))
    test, best = results["test"], results["best_epoch"]
    which = f" (best of {len(results['epochs'])} epochs: number {best + 1})" if best >= 0 else ""
    scores(test, which, console)
    files = ", ".join(sorted(path.name for path in folder.iterdir() if path.name[0] != "."))
    console.print(f"{folder}: {files}", markup=False, soft_wrap=True)


def scores(test: dict[str, Any], note: str = "", console: Console | None = None) -> None:
    """Prints what `metrics.report` found, in two lines."""
    area = "" if test["roc_auc"] is None else f", ROC AUC {test['roc_auc']:.4f}"
    fractions = f"wrong {test['wrong']:.2%}, silent {test['silent']:.2%}"
    for line in (
        f"[bold]test accuracy {test['accuracy']:.2%}[/], {fractions}{note}",
        f"macro F1 {test['f1']:.4f}, precision {test['precision']:.4f}, recall {test['recall']:.4f}{area}",
    ):
        (console or Console()).print(line, highlight=False, soft_wrap=True)


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
