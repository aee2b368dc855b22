"""Options, output folders and tables that the benchmarks share."""

import dataclasses
import datetime
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import jax

from snnjax import data
from snnjax.app.console import markdown as markdown
from snnjax.app.shared_options import option
from snnjax.core import devices, files
from snnjax.runs.results_file import versions

STOPPED = "Stopped; finished measurements are kept."

Row = dict[str, Any]  # JSON data of a measurement


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of all benchmarks."""

    dataset: Annotated[str, option("NAME", help=f"the data set: {', '.join(data.DATASETS)}")] = "digits"
    data_dir: Annotated[Path | None, option("DIR", "the cache folder, downloaded if need be")] = None
    """folder of the data set's files"""
    out: Annotated[Path | None, option("DIR", "runs/BENCHMARK_TIME")] = None
    """folder to write into"""

    def folder(self, name: str) -> Path:
        """Creates the output folder, as `output_folder` does."""
        return output_folder(self.out, name)


def output_folder(out: Path | None, name: str) -> Path:
    """Creates the output folder; OSError if it cannot be created or already holds NAME.json."""
    out = out or Path("runs") / f"{name}_{datetime.datetime.now():%Y%m%d-%H%M%S}"
    if (out / f"{name}.json").exists():
        raise FileExistsError(f"{out} already holds measurements ({name}.json): name another --out")
    out.mkdir(parents=True, exist_ok=True)
    return out


def write(out: Path, name: str, content: Row, table: str) -> str:
    """Writes NAME.json and NAME.md; returns a line that names them."""
    files.write_json(out / f"{name}.json", content)
    files.write_text(out / f"{name}.md", table)
    return f"{out}: {name}.json, {name}.md"


def summary(name: str, values: list[float]) -> Row:
    """The median of values, with `name` as its key, their min and their max."""
    return {name: statistics.median(values), "min": min(values), "max": max(values)}


def shortest(programs: Sequence[Callable[[], Any]], repeats: int) -> list[float]:
    """The seconds of the fastest call of each program; programs take turns, after a first call that compiles."""
    for program in programs:
        jax.block_until_ready(program())
    seconds: list[list[float]] = [[] for _ in programs]
    for _ in range(repeats):
        for program, measured in zip(programs, seconds, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(program())
            measured.append(time.perf_counter() - start)
    return [min(measured) for measured in seconds]


def about(**facts: str) -> Row:
    """These facts about a measurement, with its device, date and versions."""
    facts |= dict(device=devices.name_of(devices.local_devices()[0]), date=str(datetime.date.today()))
    return dict(facts, versions=versions())


def caption(facts: Row) -> str:
    """The facts of `about` in one line, without the versions."""
    return ", ".join(value for name, value in facts.items() if name != "versions")
