"""What the benchmarks share: options, checks of them, tables, and the folder that they write to."""

import dataclasses
import datetime
import json
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table
from simple_parsing import field

from snnjax import data, devices, files
from snnjax.app import runs
from snnjax.errors import InputError
from snnjax.networks import Network


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of all benchmarks."""

    dataset: str = field(default="digits", help=f"the data set: {', '.join(data.DATASETS)}")
    data_dir: Path | None = field(default=None, help="folder of the data set's files, for all but digits")
    device: str = field(default="auto", help="auto, cpu, gpu or tpu")
    out: Path | None = field(default=None, help="folder to write to (runs/BENCHMARK_TIME)")

    def check_least(self, least: int, *names: str) -> None:
        """Raises InputError where one of these numbers is less."""
        for name in names:
            if getattr(self, name) < least:
                raise InputError(f"`{name}` must be at least {least}, got {getattr(self, name)}")

    def check_names(self, name: str, known: Iterable[str]) -> None:
        """Raises InputError unless this option lists names that are known, at least one."""
        listed, expected = getattr(self, name), ", ".join(known)
        for each in listed:
            if each not in known:
                raise InputError(f"`{name}` must be of {expected}, got {each!r}")
        if not listed:
            raise InputError(f"`{name}` must name at least one of {expected}")

    def folder(self, name: str) -> Path:
        """The folder to write to, created: `out`, or runs/NAME_TIME.

        Raises:
          OSError: it already holds NAME.json, or cannot be created.
        """
        out = self.out or Path("runs") / f"{name}_{datetime.datetime.now():%Y%m%d-%H%M%S}"
        if (out / f"{name}.json").exists():
            raise FileExistsError(f"{out} already holds measurements ({name}.json): name another --out")
        out.mkdir(parents=True, exist_ok=True)
        return out


def epochs(network: Network, reward: int) -> tuple[int, ...]:
    """Those of the recorded runs of the reference: two of the first layer, four of each other, then reward."""
    return (2, *[4] * (len(network.stages) - 2), reward)


def summary(name: str, values: list[float]) -> dict[str, Any]:
    """Median, by this name, min and max."""
    return {name: statistics.median(values), "min": min(values), "max": max(values)}


def screen() -> Console:
    """Where results are shown."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)


def about(images: data.Dataset, device: jax.Device) -> dict[str, Any]:
    """When, on what and by which versions something is measured."""
    where = dict(dataset=images.name, device=devices.name_of(device))
    return dict(date=str(datetime.date.today()), **where, versions=runs.versions())


def caption(about: dict[str, Any]) -> str:
    """`about` in one line, without versions."""
    return ", ".join(str(value) for name, value in about.items() if name != "versions")


def table(head: Iterable[str], sections: Iterable[Iterable[Iterable[str]]], title: str = "", left: int = 1) -> Table:
    """A table for the screen.

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


def markdown(head: list[str], lines: Iterable[list[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines)]


def write_json(path: Path, measured: dict[str, Any]) -> None:
    """Writes measurements."""
    write_text(path, json.dumps(measured, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a file, whole or not at all."""
    with files.atomic_write(path) as temporary:
        temporary.write_text(text)
