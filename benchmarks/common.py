"""What the benchmarks share: options, the output folder, tables, plots."""

import dataclasses
import datetime
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
from matplotlib.axes import Axes
from simple_parsing import field

from snnjax import data, devices
from snnjax.app import runs
from snnjax.networks import Network

Row = dict[str, Any]
"""JSON data of what is measured."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of all benchmarks."""

    dataset: str = field(default="digits", help=f"the data set: {', '.join(data.DATASETS)}")
    data_dir: Path | None = field(default=None, help="folder of the data set's files, for all but digits")
    device: str = field(default="auto", help="auto, cpu, gpu or tpu")
    out: Path | None = field(default=None, help="output folder (runs/BENCHMARK_TIME)")

    def folder(self, name: str) -> Path:
        """Creates the output folder; OSError if it cannot be created or already holds NAME.json."""
        out = self.out or Path("runs") / f"{name}_{datetime.datetime.now():%Y%m%d-%H%M%S}"
        if (out / f"{name}.json").exists():
            raise FileExistsError(f"{out} already holds measurements ({name}.json): name another --out")
        out.mkdir(parents=True, exist_ok=True)
        return out


def epochs(network: Network, reward: int) -> tuple[int, ...]:
    """Epochs by stage as in the reference's recorded runs: two of the first, four of the others, then reward."""
    return (2, *[4] * (len(network.stages) - 2), reward)


def summary(name: str, values: list[float]) -> Row:
    """Median, under this name, min and max."""
    return {name: statistics.median(values), "min": min(values), "max": max(values)}


def about(images: data.Dataset, device: jax.Device) -> Row:
    """Date, data set, device and versions of a measurement."""
    date, where = str(datetime.date.today()), devices.name_of(device)
    return dict(date=date, dataset=images.name, device=where, versions=runs.versions())


def caption(about: Row) -> str:
    """`about` in one line, without versions."""
    return ", ".join(str(value) for name, value in about.items() if name != "versions")


def markdown(head: list[str], lines: Iterable[list[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines)]


def plot_by(axis: Axes, values: list[int], label: str) -> None:
    """Makes the horizontal axis logarithmic, with ticks at these values."""
    axis.set_xscale("log")
    axis.set_xticks(values, [str(value) for value in values])
    axis.minorticks_off()
    axis.set_xlabel(label)
    axis.grid(alpha=0.3)
