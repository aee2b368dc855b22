"""The picture of speed-ups of snnjax, from recorded runs of the reference and from the table of other programs."""

import re
import statistics

from book_tables.places import DOCS
from book_tables.speed import measured

from book_pictures import style
from snnjax.app import plots

PAGE = DOCS / "speed" / "index.md"
REFERENCE = "aidinattar/snn"


def speed_ups() -> bytes:
    """Speed-ups over other programs on one scale, with a dot for each network or layer and a bar for each range."""
    figure = style.sheet(2.9)
    axis = figure.subplots()
    rows: list[str] = []
    for part, values in reference_speed_ups().items():
        axis.plot(values, [len(rows)] * len(values), "o", color=style.ON, alpha=0.7)
        rows.append(f"{REFERENCE}: {part}")
    for name, low, high in other_speed_ups():
        axis.plot((low, high), (len(rows), len(rows)), color=style.OFF, linewidth=7, solid_capstyle="butt")
        rows.append(name)
    axis.axvline(1, color="0.5", linestyle=":")
    axis.set(xscale="log", xlim=(0.9, 5000), xlabel="speed-up over the other program", ylim=(len(rows) - 0.5, -0.5))
    axis.set_xticks((1, 10, 100, 1000), ("1", "10", "100", "1,000"))
    axis.set_yticks(range(len(rows)), rows)
    axis.grid(axis="x", alpha=0.3)
    return plots.png(figure)


def reference_speed_ups() -> dict[str, list[float]]:
    """Median speed-ups for all networks: whole training runs, single epochs of learning layers, and tests."""
    rows = measured()
    return {
        "whole training": [statistics.median(row.training) for row in rows],
        "single epoch": [statistics.median(values) for row in rows for values in row.epochs.values()],
        "test": [statistics.median(row.speed_ups["test"]) for row in rows],
    }


def other_speed_ups() -> list[tuple[str, float, float]]:
    """A short name, the minimum and the maximum speed-up of each other program, read from the page."""
    found = []
    table = PAGE.read_text(encoding="utf-8").partition("| other program |")[2].partition("\n\n")[0]
    for line in table.splitlines()[2:]:
        program, work, range_of, _ = (cell.strip() for cell in line.strip("|").split("|"))
        low, high = (float(limit) for limit in range_of.split(" to "))
        name = re.match(r"\w+", program)[0]  # type: ignore[index]
        found.append((f"{name}: {work}", low, high))
    return found
