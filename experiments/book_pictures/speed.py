"""How many times as fast snnjax is, from the tables of the page on speed."""

import re

from book_tables.places import DOCS

from book_pictures import style
from snnjax.app import plots

PAGE = DOCS / "speed" / "index.md"
REFERENCE = "aidinattar/snn"


def speed_ups() -> bytes:
    """The speed-ups over other programs on one scale: a dot for each network, a bar for each range."""
    trainings, tests = reference_speed_ups()
    figure = style.sheet(2.6)
    axis = figure.subplots()
    rows = [f"{REFERENCE}: training", f"{REFERENCE}: test"]
    axis.plot(trainings, [0] * len(trainings), "o", color=style.ON, alpha=0.7)
    axis.plot(tests, [1] * len(tests), "o", color=style.ON, alpha=0.7)
    for name, low, high in other_speed_ups():
        axis.plot((low, high), (len(rows), len(rows)), color=style.OFF, linewidth=7, solid_capstyle="butt")
        rows.append(name)
    axis.axvline(1, color="0.5", linestyle=":")
    axis.set(xscale="log", xlim=(0.9, 5000), xlabel="times as fast as the other program", ylim=(len(rows) - 0.5, -0.5))
    axis.set_xticks((1, 10, 100, 1000), ("1", "10", "100", "1,000"))
    axis.set_yticks(range(len(rows)), rows)
    axis.grid(axis="x", alpha=0.3)
    return plots.png(figure)


def cells_below(head: str) -> list[list[str]]:
    """The cells of the rows of the table whose head begins so."""
    table = PAGE.read_text(encoding="utf-8").partition(f"| {head} |")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def reference_speed_ups() -> tuple[list[float], list[float]]:
    """Those of the trainings and of the tests of all networks."""
    rows = cells_below("network")
    return [float(row[4]) for row in rows], [float(row[2]) for row in rows]


def other_speed_ups() -> list[tuple[str, float, float]]:
    """A short name, the least and the greatest speed-up of each other program."""
    found = []
    for program, work, range_of, _ in cells_below("other program"):
        low, high = (float(limit) for limit in range_of.split(" to "))
        name = re.match(r"\w+", program)[0]  # type: ignore[index]
        found.append((f"{name}: {work}", low, high))
    return found
