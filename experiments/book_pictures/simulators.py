"""The picture that compares STDP across simulators, from the recorded results of benchmarks/simulators.py."""

import numpy as np
from book_tables.recorded import Row, recorded
from book_tables.simulators import tables
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from book_pictures import style
from snnjax.app import plots
from snnjax.core.metrics import half_interval

OURS = "snnjax"
ONCE = "other simulators, neurons fire at most once"
OFTEN = "other simulators, neurons fire many times"
GREY = "0.5"
LITTLE = "other simulators, trained on fewer than 1,000 images"
COLORS = {OURS: style.ON, ONCE: style.GREEN, OFTEN: style.OFF, LITTLE: GREY}
UNPUBLISHED = "untrained", "100 neurons"
"""Recipes whose names end like this are not drawn: controls, and a setting that was not published."""
FEW = 1000  # recipes that were trained on fewer images have learned little
OFFSETS = {
    "snnjax softhebb_narrow": (0, 12),
    "snnjax goupy2024_ncg": (0, 22),
    "snnjax kheradpisheh2018": (-4, -12),
    "SpikeNN": (7, -7),
    "SpykeTorch (aidinattar/snn)": (-7, 3),
    "BindsNET, batches of 32": (-7, -4),
    "BindsNET, batches of 32, 400 neurons": (-7, 9),
    "Spyker": (-7, 0),
    "ngc-learn": (-7, -1),
    "SpikingJelly": (7, 0),
    "BindsNET": (7, -5),
}
"""Offsets of the names of recipes from their points, in points to the right and up, if not the default."""
ALIGNMENT = {-1: "right", 0: "center", 1: "left"}
"""The alignment of a name, by the sign of its horizontal offset."""
TICKS = (0, 50, 70, 80, 90, 95, 97, 98, 99)


def accuracy_over_seconds() -> bytes:
    """Test accuracy over training time, with a point for each recipe, which is hollow if it ran out of time."""
    figure = style.sheet(4.4)
    axis = figure.subplots()
    for name, rows in tables.measured(recorded("simulators")["results"]).items():
        if not name.endswith(UNPUBLISHED):
            draw_recipe(axis, name, rows)
    # Equal distances are equal factors of the error, since most recipes are near 100 %.
    axis.set_yscale("function", functions=(lambda x: -np.log(101 - np.minimum(x, 100)), lambda y: 101 - np.exp(-y)))
    axis.set(
        xscale="log",
        xlabel="time to train and to assign classes, s",
        ylabel="test accuracy, %",
        ylim=(0, 99.2),
        xlim=(6, 1000),
    )
    axis.set_xticks((10, 30, 100, 300), ("10", "30", "100", "300"))
    axis.set_yticks(TICKS, [str(tick) for tick in TICKS])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    kinds = [Line2D([], [], marker="o", linestyle="", color=color, label=kind) for kind, color in COLORS.items()]
    axis.legend(handles=kinds, loc="lower left", fontsize=8)
    return plots.png(figure)


def kind_of(name: str, row: Row) -> str:
    """The kind of a recipe, a key of `COLORS`."""
    if name.startswith(OURS):
        return OURS
    if row["train_images"] < FEW:
        return LITTLE
    return ONCE if row["spikes"] == "at most one" else OFTEN


def draw_recipe(axis: Axes, name: str, rows: list[Row]) -> None:
    """Draws the point of a recipe with its name and the interval over its seeds, or over test images for one seed."""
    seconds = float(np.mean([tables.training_seconds(row) for row in rows]))
    accuracies = 100 * np.array([row["accuracy"] for row in rows])
    color = COLORS[kind_of(name, rows[0])]
    interval = (
        half_interval(accuracies)
        if len(rows) > 1
        else 100 * tables.binomial_interval(rows[0]["accuracy"], rows[0]["test_images"])
    )
    filling = color if rows[0]["finished"] else "white"
    axis.errorbar(seconds, accuracies.mean(), interval, fmt="o", color=color, markerfacecolor=filling, capsize=2)
    offset = OFFSETS.get(name, (6, 0))
    axis.annotate(
        name.removeprefix(f"{OURS} "),
        (seconds, accuracies.mean()),
        offset,
        textcoords="offset points",
        fontsize=8,
        ha=ALIGNMENT[np.sign(offset[0])],
        va="center",
    )
