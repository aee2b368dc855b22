"""What the benchmarks share: options, the output folder, tables, plots."""

import dataclasses
import datetime
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from simple_parsing import field

from snnjax import data, devices, files
from snnjax.app import plots, runs

Row = dict[str, Any]  # JSON data of what is measured


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of all benchmarks."""

    dataset: str = field("digits", help=f"the data set: {', '.join(data.DATASETS)}")
    data_dir: Path | None = field(None, help="folder of the data set's files, for all but digits")
    device: str = field("auto", choices=devices.KINDS, help="where to run")
    out: Path | None = field(None, help="output folder (runs/BENCHMARK_TIME)")

    def folder(self, name: str) -> Path:
        """Creates the output folder; OSError if it cannot be created or already holds NAME.json."""
        out = self.out or Path("runs") / f"{name}_{datetime.datetime.now():%Y%m%d-%H%M%S}"
        if (out / f"{name}.json").exists():
            raise FileExistsError(f"{out} already holds measurements ({name}.json): name another --out")
        out.mkdir(parents=True, exist_ok=True)
        return out


def write(out: Path, name: str, content: Row, table: str, figure: Figure) -> str:
    """Writes NAME.json, NAME.md and NAME.png; says so."""
    files.write_json(out / f"{name}.json", content)
    files.write_text(out / f"{name}.md", table)
    plots.write(out / f"{name}.png", figure)
    return f"{out}: {name}.json, {name}.md, {name}.png"


def summary(name: str, values: list[float]) -> Row:
    """Median, under this name, min and max."""
    return {name: statistics.median(values), "min": min(values), "max": max(values)}


def about(**facts: str) -> tuple[Row, str]:
    """These facts about a measurement with its device, date and versions; all but the versions in one line."""
    facts |= dict(device=devices.name_of(devices.peers()[0]), date=str(datetime.date.today()))
    return dict(facts, versions=runs.versions()), ", ".join(facts.values())


def markdown(head: list[str], lines: Iterable[list[str]], *notes: str) -> str:
    """A Markdown table with notes below."""
    table = (f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines))
    return "\n".join([*table, "", *notes, ""])


def plot_by(axis: Axes, values: list[int], label: str) -> None:
    """Makes the horizontal axis logarithmic, with ticks at these values."""
    axis.set(xscale="log", xlabel=label)
    axis.set_xticks(values, [str(value) for value in values])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
