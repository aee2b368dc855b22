"""Figures of what was measured."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from snnjax.app import plots

COLORS = {
    "snnjax": "tab:blue",
    "snnjax, native": "tab:cyan",
    "reference": "tab:orange",
    "Spyker, batches of 1": "tab:green",
    "Spyker, batches of 64": "tab:olive",
}

TRAINING = "whole training"


def throughput(path: Path, results: list[dict[str, Any]], title: str) -> None:
    """Draws how many times longer than snnjax the others take, phase by phase; snnjax's milliseconds if it is alone.

    Args:
      path: of the PNG file to write.
      results: of each network, as in throughput.json.
      title: above the figure.
    """
    compared = any(row["ratio"] is not None for result in results for row in result["phases"])
    figure, axes, left = plots.panels(len(results), columns=2, width=6.4, extra=0.8)
    figure.suptitle(title, fontsize=9)
    bottom, lowest, highest = float(compared), 1.0, 0.0
    shown: dict[str, Any] = {}
    for axis, result in zip(axes, results, strict=True):
        bars = bars_of(result, "ratio" if compared else "ms_per_image")
        phases = list(dict.fromkeys(phase for values in bars.values() for phase in values))
        width = 0.8 / len(bars)
        for number, (program, values) in enumerate(bars.items()):
            places = [phases.index(phase) + (number - (len(bars) - 1) / 2) * width for phase in values]
            heights = [value - bottom for value in values.values()]
            shown[program] = axis.bar(places, heights, width * 0.95, bottom=bottom, color=COLORS[program])
            labels = [f"{value:.2g}" if value < 10 else f"{value:.0f}" for value in values.values()]
            axis.bar_label(shown[program], labels, fontsize=7)
            lowest, highest = min(lowest, *values.values()), max(highest, *values.values())
        axis.set_yscale("log")
        names = [name.replace("outputs of stage", "outputs").replace("who fires in stage", "fires") for name in phases]
        axis.set_xticks(range(len(phases)), names, fontsize=8 if len(phases) < 9 else 6)
        axis.set_title(result["network"], fontsize=10)
        axis.grid(axis="y", alpha=0.3)
        axis.set_axisbelow(True)
        if compared:
            axis.axhline(1, color="tab:blue", linewidth=1.5)
    axes[0].set_ylim(0.6 * lowest, 2 * highest)
    for axis in left:
        axis.set_ylabel("times longer than snnjax" if compared else "snnjax, ms an image")
    if compared:
        figure.legend(list(shown.values()), list(shown), fontsize=8, loc="outside lower center", ncols=len(shown))
    plots.write(path, figure)


def bars_of(result: dict[str, Any], key: str) -> dict[str, dict[str, float]]:
    """Of each program the phases and their values, the whole training last."""
    bars: dict[str, dict[str, float]] = {}
    for row in result["phases"]:
        if row.get(key) is not None and not (key == "ratio" and row["once"]):
            bars.setdefault(row["program"], {})[row["phase"]] = row[key]
    for row in result["protocol"]:
        if key == "ratio" and row["ratio"] is not None:
            bars[row["program"]][TRAINING] = row["ratio"]
    return bars


def scaling(path: Path, rows: list[dict[str, Any]], labels: dict[str, str], title: str) -> None:
    """Draws milliseconds an image, and seconds of compilation, over what grows: a panel for each.

    Args:
      path: of the PNG file to write.
      rows: axis, value, phase, ms_per_image, min, max and compile_seconds of each point.
      labels: what grows in words, by axis.
      title: above the figure.
    """
    grows = list(dict.fromkeys(row["axis"] for row in rows))
    figure, panels, _ = plots.panels(len(grows), extra=0.8)
    figure.suptitle(title, fontsize=9)
    for panel, axis in zip(panels, grows, strict=True):
        for number, phase in enumerate(dict.fromkeys(row["phase"] for row in rows)):
            points = [row for row in rows if (row["axis"], row["phase"]) == (axis, phase)]
            keys = ("value", "ms_per_image", "min", "max", "compile_seconds")
            values, middle, least, most, compiling = ([row[key] for row in points] for key in keys)
            color = f"tab:{('blue', 'orange', 'green')[number]}"
            panel.fill_between(values, least, most, color=color, alpha=0.2)
            panel.plot(values, middle, "o-", color=color, markersize=4, label=f"{phase}, ms an image")
            panel.plot(values, compiling, ":", color=color, label=f"{phase}, compiling s")
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xticks(values, [str(value) for value in values])
        panel.minorticks_off()
        panel.set_xlabel(labels[axis])
        panel.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=3)
    plots.write(path, figure)


def batches(path: Path, rows: list[dict[str, Any]], title: str) -> None:
    """Draws images a second of each phase, and the accuracy, over the size of a batch.

    Args:
      path: of the PNG file to write.
      rows: of each size update_batch: images_per_second by phase, accuracy and sd.
      title: above the figure.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    figure.suptitle(title, fontsize=8)
    speed, accuracy = figure.subplots(1, 2)
    sizes = [row["update_batch"] for row in rows]
    for phase in rows[0]["images_per_second"]:
        speed.plot(sizes, [row["images_per_second"][phase] for row in rows], "o-", markersize=4, label=phase)
    speed.set_ylabel("images a second")
    speed.legend(fontsize=8)
    spread = [100 * (row["sd"] or 0) for row in rows]
    accuracy.errorbar(sizes, [100 * row["accuracy"] for row in rows], spread, fmt="o-", markersize=4, capsize=3)
    accuracy.set_ylabel("test accuracy, %, mean ± sd")
    for axis in (speed, accuracy):
        axis.set_xscale("log", base=2)
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.set_xlabel("B, images that learn from the same weights")
        axis.grid(alpha=0.3)
    speed.set_ylim(bottom=0)
    plots.write(path, figure)
