"""What the benchmarks share: options, checks of them, tables, and the folder that they write to."""

import dataclasses
import datetime
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
from simple_parsing import field

from snnjax import data, devices
from snnjax.app import runs
from snnjax.networks import Network


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of all benchmarks."""

    dataset: str = field(default="digits", help=f"the data set: {', '.join(data.DATASETS)}")
    data_dir: Path | None = field(default=None, help="folder of the data set's files, for all but digits")
    device: str = field(default="auto", help="auto, cpu, gpu or tpu")
    out: Path | None = field(default=None, help="folder to write to (runs/BENCHMARK_TIME)")

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


def about(images: data.Dataset, device: jax.Device) -> dict[str, Any]:
    """When, on what and by which versions something is measured."""
    where = dict(dataset=images.name, device=devices.name_of(device))
    return dict(date=str(datetime.date.today()), **where, versions=runs.versions())


def caption(about: dict[str, Any]) -> str:
    """`about` in one line, without versions."""
    return ", ".join(str(value) for name, value in about.items() if name != "versions")


def markdown(head: list[str], lines: Iterable[list[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines)]
