"""Shared by the benchmarks: options, the output folder, tables, plots."""

import dataclasses
import datetime
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from matplotlib.figure import Figure

from snnjax import data
from snnjax.app import plots
from snnjax.app.console import markdown as markdown
from snnjax.app.main import parse, user_errors
from snnjax.app.options import option
from snnjax.core import devices, files
from snnjax.runs.results_file import versions

T = TypeVar("T")

Row = dict[str, Any]  # JSON data of a measurement


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of all benchmarks."""

    dataset: Annotated[str, option("NAME", help=f"the data set: {', '.join(data.DATASETS)}")] = "digits"
    data_dir: Annotated[Path | None, option("DIR", "the cache folder, downloaded if need be")] = None
    """folder of the data set's files"""
    device: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """where to run"""
    out: Annotated[Path | None, option("DIR", "runs/BENCHMARK_TIME")] = None
    """folder to write into"""

    def folder(self, name: str) -> Path:
        """Creates the output folder; OSError if it cannot be created or already holds NAME.json."""
        out = self.out or Path("runs") / f"{name}_{datetime.datetime.now():%Y%m%d-%H%M%S}"
        if (out / f"{name}.json").exists():
            raise FileExistsError(f"{out} already holds measurements ({name}.json): name another --out")
        out.mkdir(parents=True, exist_ok=True)
        return out


def command(kind: type[T], description: str | None, device: bool = True) -> Callable[..., Callable[..., None]]:
    """Decorator: makes a function of options the `main` of a script, which chooses the device if `device`."""

    def decorate(work: Callable[[T], None]) -> Callable[..., None]:
        def main(arguments: list[str] | None = None) -> None:
            program = Path(sys.argv[0]).name
            chosen: Any = parse(kind, sys.argv[1:] if arguments is None else arguments, program, description)
            with user_errors(program, "Stopped; finished measurements are kept."):
                if device:
                    devices.choose(chosen.device)
                work(chosen)

        return main

    return decorate


def write(out: Path, name: str, content: Row, table: str, figure: Figure | None = None) -> str:
    """Writes NAME.json, NAME.md and, with a figure, NAME.png; returns a line that names them."""
    files.write_json(out / f"{name}.json", content)
    files.write_text(out / f"{name}.md", table)
    if figure is None:
        return f"{out}: {name}.json, {name}.md"
    plots.write(out / f"{name}.png", figure)
    return f"{out}: {name}.json, {name}.md, {name}.png"


def summary(name: str, values: list[float]) -> Row:
    """Median, under this name, min and max."""
    return {name: statistics.median(values), "min": min(values), "max": max(values)}


def about(**facts: str) -> tuple[Row, str]:
    """These facts about a measurement with its device, date and versions; all but the versions in one line."""
    facts |= dict(device=devices.name_of(devices.peers()[0]), date=str(datetime.date.today()))
    return dict(facts, versions=versions()), ", ".join(facts.values())


def draw(panels: dict[str, dict[str, dict[str, float]]], title: str, label: str, style: str = "o-") -> Figure:
    """Values by phase or case, for each curve of each panel."""
    figure, axes = plots.panels(len(panels), label, columns=2, width=6.4, extra=0.8)
    figure.suptitle(title, fontsize=9)
    for axis, (name, curves) in zip(axes, panels.items(), strict=True):
        for curve, values in curves.items():
            axis.plot(list(values), list(values.values()), style, label=curve)
        axis.set_title(name, fontsize=10)
        axis.tick_params(axis="x", rotation=20, labelsize=8)
        axis.grid(alpha=0.3, which="both")
        axis.legend(fontsize=8)
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
    return figure
