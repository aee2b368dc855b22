"""The measurements of `throughput.py`: on the screen, as a Markdown table, as a figure, and their notes."""

import collections
from pathlib import Path
from typing import Any

import common
import numpy as np
from rich.console import Console

from snnjax.app import console, plots

NATIVE = "snnjax, native"
OWN = ("snnjax", NATIVE)
SPYKER = {"Spyker, batches of 1": 1, "Spyker, batches of 64": 64}  # batch size
COLORS = dict(zip((*OWN, "reference", *SPYKER), ("blue", "cyan", "orange", "green", "olive"), strict=True))
TRAINING = "whole training"
_OTHERS = {"reference", "spyker"}
NOTES = (
    ({"snnjax"}, "Medians; the first run does not count. Compilation, once a run, is apart."),
    (
        {"snnjax"},
        "Nothing is measured from random weights: all repeats start from those that snnjax has learned before.",
    ),
    ({"native"}, f"{NATIVE}: kernels in C++, compiled before; its seconds of compilation are XLA's alone."),
    ({"native"}, "They round differently, which can decide near-ties. R-STDP is the same code, except in deepr2024."),
    (_OTHERS, "ratio: median divided by snnjax's. alike: share of latencies and decisions that equal snnjax's."),
    (_OTHERS, "alike, learning: share of equal weights (to 0.00001) among those that either program has changed."),
    (_OTHERS, "snnjax computes the outputs of frozen layers once for all epochs, the others anew for every image."),
    (_OTHERS, "All phases except encode start from encoded images: latencies in snnjax, byte waves in the others."),
    (_OTHERS, "snnjax spreads independent images over all cores, the others the parts of an operation."),
    (_OTHERS, "Learning is image after image, except in Spyker's batches of 64."),
    ({"reference"}, "The reference encodes on the CPU whatever the device, as in its training program."),
    (
        {"spyker"},
        "Spyker encodes in its own way: other scale of filters, no local normalisation, other bins of rank order.",
    ),
    ({"spyker"}, "Its batches of 64 choose all winners by the weights at their start: another, coarser algorithm."),
    ({"spyker"}, "Rates double between batches, and only the winners' weights are clipped."),
    ({"protocol"}, "Whole training: snnjax's is measured from images to last epoch, with all compilation."),
    ({"protocol"}, "The others' seconds are added up: milliseconds an image of each phase times its images."),
)
"""Each note with what it is about: it is shown if any of it was measured."""


def show(result: common.Row, screen: Console) -> None:
    """Prints the measurements of one network."""
    compared = len(result["memory"]) > 1
    sections: list[list[list[str]]] = []
    for row in result["phases"]:
        if first := row["program"] == "snnjax":
            sections.append([])
        spread = f"{row['min']:.3g} .. {row['max']:.3g}"
        cells = [row["phase"] if first else "", row["program"], f"{row['ms_per_image']:.3g}", spread]
        if compared:
            cells += ["", ""] if row["ratio"] is None else [f"{row['ratio']:.1f}", f"{row['alike']:.1%}"]
        sections[-1].append([*cells, f"{row['compile_seconds']:.1f}" if row["compile_seconds"] else ""])
    comparison = ("ratio", "alike") if compared else ()
    head = ("phase", "program", "median", "least .. most", *comparison, "compiling s")
    screen.print(console.table(head, sections, f"{result['network']}: milliseconds an image", left=2))
    words = dict(peak_bytes="", loaded_bytes=" before the first image", device_bytes=" on the device")
    for program, memory in result["memory"].items():
        sizes = [f"{memory[key] / 2**20:.0f} MiB{where}" for key, where in words.items() if memory[key]]
        screen.print(f"peak memory, {program}: {', '.join(sizes)}")


def in_one_epoch(rows: list[common.Row]) -> dict[str, dict[str, float]]:
    """By program and phase, the ratios if a single epoch had to pay for the outputs of frozen layers."""
    once: collections.Counter[str] = collections.Counter()
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        program, total = row["program"], row["ms_per_image"] + once[row["program"]]
        if row["once"]:
            once[program] = total
        elif program == "snnjax":
            ours = total
        elif once["snnjax"] and row["phase"] != "test":
            found.setdefault(program, {})[row["phase"]] = total / ours
    return found


def values_of(result: common.Row, key: str) -> dict[str, dict[str, float]]:
    """Values by program and phase; as the last of the ratios, that of the whole training."""
    values: dict[str, dict[str, float]] = {}
    for row in result["phases"]:
        if row[key] is not None and not (key == "ratio" and row["once"]):
            values.setdefault(row["program"], {})[row["phase"]] = row[key]
    for row in result["protocol"]:
        if key == "ratio" and row["ratio"] is not None:
            values[row["program"]][TRAINING] = row["ratio"]
    return values


def markdown(results: list[common.Row], about: common.Row) -> str:
    """A table of networks by phases: milliseconds of snnjax, and how many times longer the others take."""
    names = {row["phase"] for result in results for row in result["phases"] if not row["once"]}
    order = ("encode", "STDP", "R-STDP", "test")
    columns = sorted(names, key=lambda name: (order.index(name.split()[0]), name))
    columns += [TRAINING] * any(result["protocol"] for result in results)
    entries: list[tuple[str, str, dict[str, str]]] = []
    for result in results:
        times, ratios, single = values_of(result, "ms_per_image"), values_of(result, "ratio"), result["in_one_epoch"]
        trainings = {row["program"]: row for row in result["protocol"]}
        for program in result["memory"]:
            if program not in OWN:
                entries.append(("", f"{program}, times longer", longer(ratios, program)))
                if program in single:
                    entries.append(("", "the same, one epoch alone", longer(single, program)))
                continue
            training, cells = trainings.get(program), {phase: f"{ms:.3g}" for phase, ms in times[program].items()}
            entries.append((result["network"] if program == "snnjax" else "", f"{program}, ms an image", cells))
            if training:
                cells[TRAINING] = f"{training['seconds']:.0f} s"
            if training and "ms_per_image" in training:
                cells = {phase: f"{ms:.3g}" for phase, ms in training["ms_per_image"].items()}
                entries.append(("", "in its whole training", cells))
    lines = [[name, label, *(cells.get(column, "") for column in columns)] for name, label, cells in entries]
    text = [*common.markdown(["network", "", *columns], lines), "", caption(about)]
    if set(about["devices"]) - set(OWN):
        text.append("One epoch alone: it has to pay for the outputs of frozen layers, computed once for all epochs.")
        if NATIVE in about["devices"]:
            text.append(f"After a slash, how many times longer than {NATIVE}.")
    return "\n".join([*text, ""])


def longer(ratios: dict[str, dict[str, float]], program: str) -> dict[str, str]:
    """By phase, how many times longer than snnjax a program takes, and than snnjax on native kernels."""
    cells, native = {phase: f"{ratio:.1f}" for phase, ratio in ratios[program].items()}, ratios.get(NATIVE, {})
    shared = cells.keys() & native
    return cells | {phase: f"{cells[phase]} / {ratios[program][phase] / native[phase]:.1f}" for phase in shared}


def draw(path: Path, results: list[common.Row], title: str) -> None:
    """Draws times relative to snnjax's by phase, a panel a network; snnjax's milliseconds if it was measured alone."""
    compared = any(row["ratio"] is not None for result in results for row in result["phases"])
    label = "times longer than snnjax" if compared else "snnjax, ms an image"
    figure, axes = plots.panels(len(results), label, columns=2, width=6.4, extra=0.8)
    figure.suptitle(title, fontsize=9)
    bottom, lowest, highest = float(compared), 1.0, 0.0
    shown: dict[str, Any] = {}
    for axis, result in zip(axes, results, strict=True):
        bars = values_of(result, "ratio" if compared else "ms_per_image")
        phases = list(dict.fromkeys(phase for values in bars.values() for phase in values))
        width = 0.8 / len(bars)
        for number, (program, values) in enumerate(bars.items()):
            heights = np.array(list(values.values()))
            places = [phases.index(phase) + (number - (len(bars) - 1) / 2) * width for phase in values]
            color = f"tab:{COLORS[program]}"
            shown[program] = axis.bar(places, heights - bottom, width * 0.95, bottom=bottom, color=color)
            labels = [f"{height:.2g}" if height < 10 else f"{height:.0f}" for height in heights]
            axis.bar_label(shown[program], labels, fontsize=7)
            lowest, highest = min(lowest, *heights), max(highest, *heights)
        names = [name.replace("outputs of stage", "outputs").replace("who fires in stage", "fires") for name in phases]
        axis.set_xticks(range(len(phases)), names, fontsize=8 if len(phases) < 9 else 6)
        axis.set_title(result["network"], fontsize=10)
        axis.grid(axis="y", alpha=0.3)
        axis.set_axisbelow(True)
        if compared:
            axis.axhline(1, color="tab:blue", linewidth=1.5)
    axes[0].set(yscale="log", ylim=(0.6 * lowest, 2 * highest))
    if compared:
        figure.legend(list(shown.values()), list(shown), fontsize=8, loc="outside lower center", ncols=len(shown))
    plots.write(path, figure)


def caption(about: common.Row) -> str:
    """Data, repeats, date, devices and versions in a line."""
    known, processor, (train, test) = about["versions"], about["processor"], about["images"]
    versions = ", ".join(f"{name} {known[name]}" for name in ("snnjax", "jax", "torch", "spyker") if name in known)
    devices = [f"{name} on {device.replace(f': {processor}', '')}" for name, device in about["devices"].items()]
    counts = f"{train} training and {test} test images, medians of {about['repeats']} repeats"
    return "; ".join([f"{about['dataset']}, {counts}, {about['date']}, {processor}", *devices, f"{versions}."])
