"""What `throughput.py` has measured: on the screen, as a Markdown table, and in words."""

from typing import Any

import common
import pictures
from rich.console import Console
from rich.table import Table

from snnjax.app import console

NATIVE = "snnjax, native"
"""The program on native kernels."""
OWN = ("snnjax", NATIVE)
"""The programs that are snnjax."""


def table(result: dict[str, Any]) -> Table:
    """What was measured of one network: a line for each phase and program."""
    compared = len(result["memory"]) > 1
    sections: list[list[list[str]]] = []
    for row in result["phases"]:
        if first := row["program"] == "snnjax":
            sections.append([])
        cells = [row["phase"] if first else "", row["program"]]
        cells += [f"{row['ms_per_image']:.3g}", f"{row['min']:.3g} .. {row['max']:.3g}"]
        if compared:
            cells += ["", ""] if row["ratio"] is None else [f"{row['ratio']:.1f}", f"{row['alike']:.1%}"]
        sections[-1].append([*cells, f"{row['compile_seconds']:.1f}" if row["compile_seconds"] else ""])
    comparison = ("ratio", "alike") if compared else ()
    head = ("phase", "program", "median", "least .. most", *comparison, "compiling s")
    return console.table(head, sections, f"{result['network']}: milliseconds an image", left=2)


def show(result: dict[str, Any], screen: Console) -> None:
    """Prints what was measured of one network."""
    screen.print(table(result))
    for program, ratios in result["in_one_epoch"].items():
        if program != NATIVE:
            listed = ", ".join(f"{phase} {ratio:.1f}" for phase, ratio in ratios.items())
            screen.print(f"ratios to {program} with all that is done once counted into one epoch: {listed}")
    for row in result["protocol"]:
        times = f" (of which compiling {row['compile_seconds']:.1f})" if row["how"] == "measured" else ""
        ratio = "" if row["ratio"] is None else f", ratio {row['ratio']:.1f}"
        screen.print(f"whole training, {row['program']}, {row['how']}: {row['seconds']:.1f} s{times}{ratio}")
    for program, memory in result["memory"].items():
        peak, loaded, device = (f"{(memory[f'{key}_bytes'] or 0) / 2**20:.0f}" for key in ("peak", "loaded", "device"))
        on_device = f", {device} MiB on the device" if memory["device_bytes"] else ""
        screen.print(f"peak memory, {program}: {peak} MiB, {loaded} before the first image{on_device}")


def in_one_epoch(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """By program and phase, the ratios if a single epoch had to pay for the outputs of frozen layers."""
    paid, mine = dict.fromkeys(OWN, 0.0), 0.0
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        program, ms = row["program"], row["ms_per_image"]
        if program in OWN:
            paid[program] += ms * row["once"]
        if program == "snnjax":
            mine = ms + paid[program]
        elif paid["snnjax"] and not row["once"] and row["phase"] != "test":
            found.setdefault(program, {})[row["phase"]] = (ms + paid.get(program, 0.0)) / mine
    return found


def notes(native: bool, reference: bool, spyker: bool, protocol: bool) -> list[str]:
    """What the figures mean, and what is not like for like, given what was measured."""
    found = [
        "Medians, after one run that does not count. Compilation, once a run, is apart. Nothing is measured from "
        "random weights: snnjax learns a little first, and every repeat of every program starts from those weights."
    ]
    if native:
        found.append(
            f"{NATIVE}: the same program on its kernels in C++, which were compiled before; its seconds of compilation "
            "are XLA's alone. They round otherwise, so that near-ties part. R-STDP is the same code, but in deepr2024."
        )
    if reference or spyker:
        found += [
            "ratio: median over snnjax's. alike: the share of latencies and decisions that are snnjax's; of the "
            "weights that either program has changed, the share that agrees to 0.00001.",
            "snnjax learns from outputs of frozen layers that it computes once for all epochs, in the phases without "
            "a ratio; the other programs compute them anew for every image.",
            "Phases but encode start from encoded images: latencies in snnjax, byte waves made before in the others.",
            "snnjax spreads images that do not depend on each other over all cores, the reference and Spyker the "
            "parts of an operation. Learning is image after image, but in Spyker's batches of 64.",
        ]
    if reference:
        found.append("The reference encodes on the CPU whatever the device, as in its training program.")
    if spyker:
        found += [
            "Spyker's own encoding: its filters are not scaled alike, nothing is normalised locally, and the bins of "
            "its rank order differ by an image's remainder. Its other phases start from snnjax's encoded images.",
            "Spyker in batches of 64 chooses the winners of a batch by the weights at its start, and doubles rates "
            "between batches: another, coarser algorithm. It clips the winners' weights only.",
        ]
    if protocol:
        found.append(
            "Whole training: snnjax was run from images to last epoch, with all compilation; the other programs' "
            "seconds are their milliseconds an image times the images of each phase, since running them takes long."
        )
    return found


def markdown(results: list[dict[str, Any]], about: dict[str, Any]) -> str:
    """A table of networks by phases: milliseconds of snnjax, and how many times longer the others take.

    Where snnjax ran on native kernels too, a slash follows, and how many times longer than those.
    """
    names = {row["phase"] for result in results for row in result["phases"] if not row["once"]}
    order = {"encode": 0, "R-STDP": 2, "test": 3}
    columns = sorted(names, key=lambda name: (order.get(name, 1), name))
    columns += [pictures.TRAINING] * any(result["protocol"] for result in results)
    lines: list[list[str]] = []

    def add(name: str, label: str, cells: dict[str, str]) -> None:
        lines.append([name, label, *(cells.get(column, "") for column in columns)])

    for result in results:
        ratios, single = pictures.bars_of(result, "ratio"), result["in_one_epoch"]
        for program in result["memory"]:
            if program in OWN:
                cells = _rounded(pictures.bars_of(result, "ms_per_image")[program])
                trainings = [row for row in result["protocol"] if row["program"] == program]
                cells[pictures.TRAINING] = "".join(f"{row['seconds']:.0f} s" for row in trainings)
                add(result["network"] if program == "snnjax" else "", f"{program}, ms an image", cells)
                for row in trainings:
                    if "ms_per_image" in row:
                        add("", "in its whole training", _rounded(row["ms_per_image"]))
            else:
                add("", f"{program}, times longer", longer(ratios, program))
                if program in single:
                    add("", "the same, one epoch alone", longer(single, program))
    text = [*common.markdown(["network", "", *columns], lines), "", caption(about)]
    others = [name for name in about["devices"] if name not in OWN]
    if others:
        alone = "it has to pay for the outputs of frozen layers, which are computed once for all epochs."
        text.append(f"One epoch alone: {alone}")
    if others and NATIVE in about["devices"]:
        text.append(f"After a slash, how many times longer than {NATIVE}.")
    return "\n".join([*text, ""])


def _rounded(values: dict[str, float]) -> dict[str, str]:
    return {phase: f"{ms:.3g}" for phase, ms in values.items()}


def longer(ratios: dict[str, dict[str, float]], program: str) -> dict[str, str]:
    """By phase, how many times longer than snnjax a program takes, and than snnjax on native kernels."""
    native = ratios.get(NATIVE, {})
    return {
        phase: f"{ratio:.1f}" + (f" / {ratio / native[phase]:.1f}" if phase in native else "")
        for phase, ratio in ratios[program].items()
    }


def caption(about: dict[str, Any]) -> str:
    """On what and how the figures were obtained."""
    named = ("snnjax", "jax", "torch", "spyker")
    versions = ", ".join(f"{name} {about['versions'][name]}" for name in named if name in about["versions"])
    devices = {name: device.replace(f": {about['processor']}", "") for name, device in about["devices"].items()}
    where = "; ".join(f"{program} on {device}" for program, device in devices.items())
    return (
        f"{about['dataset']}, {about['images'][0]} training and {about['images'][1]} test images, "
        f"medians of {about['repeats']} repeats, {about['date']}, {about['processor']}; {where}; {versions}."
    )
