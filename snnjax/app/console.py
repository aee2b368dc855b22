"""The output of commands: progress bars and tables, and the texts and rows that reports share with them."""

import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from snnjax.app import diagram
from snnjax.core import checks
from snnjax.core.metrics import half_interval, tested_part
from snnjax.data import Dataset
from snnjax.runs.run_folder import RunFolder
from snnjax.training import Callback
from snnjax.training.groups import Group, Outcome

Rows = tuple[list[str], list[list[str]]]
"""The heads of a table, and its rows."""
_INTERVAL = 10.0  # seconds between the lines of a phase in a log file


def screen() -> Console:
    """The console for results, which does not wrap lines; tables have up to 120 columns if the output is a file."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)


def table(head: Iterable[str], sections: Iterable[Iterable[Iterable[str]]], title: str = "", left: int = 1) -> Table:
    """A table with rules between sections of rows; the first `left` columns contain words, all other columns numbers.

    On a narrow screen, long cells continue on the next line, so that nothing is cut off.
    """
    columns = [Column(name, justify="left" if i < left else "right", overflow="fold") for i, name in enumerate(head)]
    shown = Table(*columns, title=title or None, title_justify="left")
    for rows in sections:
        shown.add_section()
        for cells in rows:
            shown.add_row(*cells)
    return shown


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]], *notes: str) -> str:
    """A Markdown table, with notes below it."""
    table = (f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines))
    return "\n".join([*table, "", *notes, ""])


def notes(images: Dataset) -> list[str]:
    """The notes about a data set; if a note names an argument and its option, only the option is kept."""
    return [re.sub(r"`[^`]*` \((--\w+)\)", r"\1", note) for note in images.notes]


def order(settings: Mapping[str, Any]) -> str:
    """A text that says whether images are shuffled or mirrored; "" if they are neither."""
    shuffled = "images are shown in a new order each epoch" * settings.get("shuffle", False)
    mirrored = "each image is mirrored left-right or not, at random" * settings.get("mirror", False)
    return ", ".join(filter(None, (shuffled, mirrored)))


def back_end(settings: Mapping[str, Any]) -> str:
    """The back end of a run, as text."""
    return f"back end {settings['backend']}"


def duration(seconds: float) -> str:
    """A time in seconds, minutes or hours, as text."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def phases(results: dict[str, Any]) -> Rows:
    """Images and times of each phase in a results.json: the heads of a table and its rows."""
    keys = dict(images=",", compile_seconds=".1f", seconds=".1f", images_per_second=",.0f")
    rows = [[phase["name"], *(format(phase[key], spec) for key, spec in keys.items())] for phase in results["phases"]]
    return ["phase", "images", "compiling s", "running s", "images/s"], rows


MEAN = "mean ± half of its 95 % interval (Student's t), and standard deviation (sd)"


def mean_of(values: np.ndarray, digits: int) -> str:
    """The mean of values as text; for several values, with half of its 95 % interval and the standard deviation."""
    if len(values) == 1:
        return f"{values.mean():.{digits}f}"
    interval = f"± {half_interval(values):.{digits}f}"
    return f"{values.mean():.{digits}f} {interval}, sd {values.std(ddof=1):.{digits}f}"


def in_lines(cell: str) -> str:
    """Splits the text of `mean_of` into two lines, the second of which has the standard deviation."""
    return cell.replace(", ", "\n")


def times(count: int) -> str:
    """A number of times, as text: "once" or "3 times"."""
    return "once" if count == 1 else f"{count:,} times"


def left(seconds: float) -> str:
    """An estimate of the remaining time, as text."""
    return f"about {seconds:.0f} s left" if seconds < 100 else f"about {duration(seconds)} left"


def each_fold(folds: int) -> Iterator[int]:
    """Iterates over the folds, numbered from 1; prints a line for each, with an estimate of the remaining time."""
    begin = time.perf_counter()
    for fold in range(1, checks.integer("folds", folds, 2) + 1):
        remaining = ""
        if fold > 1:
            spent = time.perf_counter() - begin
            remaining = f", {left(spent / (fold - 1) * (folds - fold + 1))}"
        screen().print(f"[bold]fold {fold} of {folds}[/]{remaining}")
        yield fold


class Bars(Callback):
    """A progress bar for each phase, with images/s and accuracies; if the output is a file, occasional lines."""

    def __init__(self, heading: Callable[[Group], str] = str) -> None:
        """`heading` returns the line above the bars for a group of a sweep."""
        self.console = screen()
        self._heading = heading
        self._progress = self._bars()

    def _bars(self) -> Progress:
        return Progress(
            TextColumn("{task.description:<26}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:>13}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def group_started(self, group: Group) -> None:
        self._progress.stop()
        self.print(self._heading(group))
        self._progress = self._bars()
        self._progress.start()

    def print(self, words: str) -> None:
        """Prints a line above the bars."""
        self.console.print(words, markup=False)

    def add(self, name: str, total: int, note: str = "") -> None:
        """Starts a new bar."""
        self._progress.add_task(name, total=total, rate="", note=note)

    def advance(self, count: int) -> None:
        """Advances the last bar by `count`."""
        self._progress.update(self._task.id, advance=count)

    @property
    def _task(self) -> Task:
        return self._progress.tasks[-1]

    def started(self, phase: str, images: int) -> None:
        self.add(phase, images, "compiling")

    def advanced(self, images: int, correct: int) -> None:
        task = self._task
        now = time.perf_counter()
        if not task.completed:
            self._start = self._printed = now  # compilation ends before the first report
            self._progress.update(task.id, note="")
        self.advance(images)
        if now - self._start > 0.5:
            self._progress.update(task.id, rate=f"{task.completed / (now - self._start):,.0f} img/s")
        if now - self._printed > _INTERVAL:
            self._printed = now
            remaining = (now - self._start) / task.completed * ((task.total or 0) - task.completed)
            self._print_line(f"{task.completed:.0f}/{task.total:.0f}", left(remaining))

    def tested(self, record: dict[str, Any]) -> None:
        part = tested_part(record)
        train = record["train"]["accuracy"]
        tested = record[part]["accuracy"]
        self.note(f"epoch {record['epoch'] + 1}: train {train:.1%} {part} {tested:.1%}")

    def note(self, words: str) -> None:
        """Shows a text at the end of the last bar."""
        self._progress.update(self._task.id, note=words)

    def invalid(self, problem: str) -> None:
        self.print(f"stopped: {problem}")

    def diagnosed(self, phase: str, diagnosis: dict[str, Any]) -> None:
        self.console.print(f"[bold]{phase}[/]: {escape('; '.join(diagnosis['words']))}")

    def finished(self, record: dict[str, Any]) -> None:
        task = self._task
        if record["name"] == task.description:
            self._progress.update(task.id, total=task.completed, rate=f"{record['images_per_second']:,.0f} img/s")
            self._print_line(str(task.completed))

    def _print_line(self, count: str, remaining: str = "") -> None:
        task = self._task
        if not self.console.is_terminal:
            words = ", ".join(filter(None, (task.fields["note"], remaining)))
            line = f"{task.description:<26} {count:>15} {task.fields['rate']:>13}  {words}"
            self.console.print(line.rstrip())


class Programs(Bars):
    """A progress bar for networks that workers train, with a line for the start and the end of each program."""

    def __init__(self, networks: int, heading: Callable[[Group], str], ending: Callable[[Outcome], str]) -> None:
        super().__init__(heading)
        self._ending = ending
        self.add("networks", networks)

    def group_started(self, group: Group) -> None:
        self.print(self._heading(group))

    def group_ended(self, outcome: Outcome) -> None:
        self.print(self._ending(outcome))
        self.advance(len(outcome.group.places))


def header(run: RunFolder) -> None:
    """Prints the network, the data, the device and the folder of a run, its notes, and a table of its stages."""
    console = screen()
    data = run.trainer.data
    settings = run.trainer.settings
    console.print(
        f"[bold]{escape(run.trainer.network.name)}[/] on {escape(data.name)}: {data.counts}, "
        f"epochs {' '.join(map(str, settings.epochs))}, seed {settings.seed}"
    )
    shown = order(run.settings)
    where = f"on {run.device}, {back_end(run.settings)}; into {run.path}"
    console.print(*notes(data), *[shown] * bool(shown), where, *run.notes, sep="\n", markup=False)
    console.print(table(diagram.HEAD, [diagram.rows(run.trainer.network)], "stages", left=3))


def summary(run: RunFolder) -> None:
    """Prints the phases, the test result and the files of a finished run."""
    console = screen()
    results = run.results
    best = results["best_epoch"]
    head, rows = phases(results)
    console.print(table(head, [rows], "phases"))
    planned = run.trainer.job.phases[-1].epochs
    done = len(results["epochs"])
    if results["test"] and done < planned:
        patience = results["settings"]["patience"]
        console.print(
            f"stopped after {done} of {planned} epochs: none was better since number {best + 1} (--patience {patience})"
        )
    note = f" (best of {len(results['epochs'])} epochs: number {best + 1})" if best >= 0 else ""
    if best >= 0 and (part := tested_part(results["epochs"][best])) != "test":
        accuracy = results["epochs"][best][part]["accuracy"]
        images = results["settings"][f"{part}_images"]
        console.print(f"[bold]{part} accuracy {accuracy:.2%}[/] of {images:,} images{note}")
        note = ""
    if results["test"]:
        scores(results["test"], note)
    else:
        name = run.trainer.network.name
        console.print(f"{name} has no decision: `snnjax.load(run).features(images)` returns its features", markup=False)
    files = ", ".join(sorted(path.name for path in run.path.iterdir() if path.name[0] != "."))
    console.print(f"{run.path}: {files}", markup=False)


def scores(test: dict[str, Any], note: str = "") -> None:
    """Prints the results of `metrics.report` in two lines."""
    area = "" if test["roc_auc"] is None else f", ROC AUC {test['roc_auc']:.4f}"
    screen().print(
        f"[bold]test accuracy {test['accuracy']:.2%}[/], wrong {test['wrong']:.2%}, silent {test['silent']:.2%}{note}\n"
        f"macro F1 {test['f1']:.4f}, precision {test['precision']:.4f}, recall {test['recall']:.4f}{area}"
    )
