"""Tables of the speed-up of snnjax over aidinattar/snn, from repeated runs of benchmarks/throughput.py."""

import dataclasses
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from book_tables.places import network_link
from book_tables.recorded import Row, recorded
from snnjax.app.console import markdown

REFERENCE = "reference"
EXCEPTION = "resnet2024"
"""The network for which the reference spends most of its time on garbage collection."""
TRAINING = "whole training"
PHASES = ("encode", "STDP 1", "STDP 2", "STDP 3", "STDP 4", "STDP 3_1", "STDP 3_2", "STDP 3_3", "R-STDP", "test")
"""The phases of all networks, in the order of a training run."""

ByPhase = dict[str, list[float]]
"""A number for each run, keyed by the name of a phase."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """The measurements of one network, with a number for each run.

    Attributes:
      network: the name of the network.
      ms: milliseconds per image of snnjax.
      in_training: milliseconds per image of snnjax within a whole training run.
      speed_ups: speed-ups over the reference. The outputs of frozen layers, which learning phases read, are computed
        beforehand.
      epochs: speed-ups of learning phases if a single epoch also computes these outputs.
      seconds: the duration of whole training runs of snnjax, including compilation.
      training: speed-ups of whole training runs.
    """

    network: str
    ms: ByPhase = dataclasses.field(default_factory=lambda: defaultdict(list))
    in_training: ByPhase = dataclasses.field(default_factory=lambda: defaultdict(list))
    speed_ups: ByPhase = dataclasses.field(default_factory=lambda: defaultdict(list))
    epochs: ByPhase = dataclasses.field(default_factory=lambda: defaultdict(list))
    seconds: list[float] = dataclasses.field(default_factory=list)
    training: list[float] = dataclasses.field(default_factory=list)

    @property
    def stdp_epochs(self) -> list[float]:
        """The median speed-up of an epoch for each STDP layer."""
        return [statistics.median(values) for name, values in self.epochs.items() if name.startswith("STDP")]


def measured() -> list[Measured]:
    """The measurements of all networks."""
    runs = recorded("throughput")["runs"]
    return [_of_network(parts) for parts in zip(*(run["networks"] for run in runs), strict=True)]


def _of_network(parts: Sequence[Row]) -> Measured:
    """Collects the measurements of one network from its part of each run."""
    found = Measured(parts[0]["network"])
    for part in parts:
        frozen = 0.0  # milliseconds per image for the outputs of frozen layers so far
        ours = 0.0
        for row in part["phases"]:
            name = row["phase"]
            if row["program"] != REFERENCE:
                ours = row["ms_per_image"]
                if row["once"]:
                    frozen += ours
                else:
                    found.ms[name].append(ours)
            elif not row["once"]:
                found.speed_ups[name].append(row["ms_per_image"] / ours)
                if name not in ("encode", "test"):
                    found.epochs[name].append(row["ms_per_image"] / (ours + frozen))
        whole, theirs = part["protocol"]
        for name, value in whole["ms_per_image"].items():
            found.in_training[name].append(value)
        found.seconds.append(whole["seconds"])
        found.training.append(theirs["ratio"])
    return found


def spread(values: Iterable[float], digits: int = 0) -> str:
    """The median over the runs, followed by the minimum and the maximum in parentheses."""
    numbers = list(values)
    return "{:,.{d}f} ({:,.{d}f} to {:,.{d}f})".format(statistics.median(numbers), min(numbers), max(numbers), d=digits)


def speed_ups(page: Path, _: str) -> str:
    """The table of speed-ups over the reference for tests, single epochs and whole training runs."""
    head = ("network", "test", "STDP epoch", "R-STDP epoch", TRAINING, "training, s", "test, ms/image")
    lines = []
    for row in measured():
        cells = [
            network_link(page, row.network),
            spread(row.speed_ups["test"]),
            f"{min(row.stdp_epochs):.0f} to {max(row.stdp_epochs):.0f}",
            spread(row.epochs["R-STDP"]),
            spread(row.training),
            spread(row.seconds, 1),
            f"{statistics.median(row.ms['test']):.3f}",
        ]
        lines.append(cells)
    return markdown(head, lines, f"*{conditions(', with the minimum and maximum in parentheses')}*").strip()


def speed_phases(_: Path, __: str) -> str:
    """The table of milliseconds per image and speed-ups of all phases: medians over the runs."""
    lines = []
    for row in measured():
        entries = {
            "snnjax, native, ms per image": (row.ms, 3, f"{statistics.median(row.seconds):.1f} s"),
            "in its whole training": (row.in_training, 3, ""),
            "speed-up over the reference": (row.speed_ups, 0, f"{statistics.median(row.training):,.0f}"),
            "speed-up of a single epoch": (row.epochs, 0, ""),
        }
        for index, (label, (values, digits, whole)) in enumerate(entries.items()):
            cells = [f"{statistics.median(values[name]):,.{digits}f}" if values[name] else "" for name in PHASES]
            lines.append(["" if index else row.network, label, *cells, whole])
    return markdown(("network", "", *PHASES, TRAINING), lines, f"*{conditions()}*").strip()


def conditions(spreads: str = "") -> str:
    """The data set, the machine and the versions of the runs, and how `spreads` are given, as a caption."""
    runs = recorded("throughput")["runs"]
    about = runs[0]["about"]
    versions = about["versions"]
    train, test = about["images"]
    listed = ", ".join(f"{name} {versions[name]}" for name in ("snnjax", "jax", "torch"))
    days = " and ".join(sorted({run["about"]["date"] for run in runs}))
    return (
        f"MNIST, {train} training and {test} test images; medians of {len(runs)} runs of the benchmark{spreads};"
        f" {about['processor']}, {days}; {listed}."
    )
