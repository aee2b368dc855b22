"""Comparisons of runs and sweeps: an HTML page, and figures over epochs, over time, and over what a sweep varies."""

import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from snnjax.app import console, means, page, report
from snnjax.app.plots import grid, legend, png, whole_numbers, write
from snnjax.core.metrics import ranking_accuracy, tested_part
from snnjax.networks.network import matching_paths
from snnjax.training.groups import words


class Course(NamedTuple):
    """The accuracies of a run over time, in 0..1."""

    epochs: Sequence[float]
    seconds: Sequence[float]
    train: Sequence[float]
    tested: Sequence[float]
    part: str  # the part that was tested: "validation" or "test"


def comparison_picture(courses: Mapping[str, Course]) -> Figure:
    """The validation or test accuracies of several runs over epochs and over time, with dashed training accuracies."""
    figure, axes = grid(2, 1, 6.6, 3.4, 0.22 * len(courses), sharey=True)
    lines: list[Line2D] = []
    for color, course in zip(colors(len(courses)), courses.values(), strict=True):
        marker = "o" if len(course.epochs) <= 30 else ""
        for axis, over in zip(axes, (course.epochs, course.seconds), strict=True):
            plot = functools.partial(axis.plot, over, marker=marker, ms=4, color=color)
            plot(100 * np.array(course.train), linestyle="--", mfc="white", alpha=0.6)
            (drawn,) = plot(100 * np.array(course.tested))
        lines.append(drawn)
    ends = [course.seconds[-1] for course in courses.values()]
    if max(ends) > 10 * min(ends) > 0:
        logarithmic(axes[1])
    epochs = [epoch for course in courses.values() for epoch in course.epochs]
    whole_numbers(axes[0], min(epochs), max(epochs))
    for axis, label in zip(axes, ("supervised epoch", "seconds since the start"), strict=True):
        axis.set(xlabel=label, ylabel="accuracy, %")
        axis.grid(alpha=0.3)
    kinds = [Line2D([], [], color="0.3", linestyle=style) for style in ("-", "--")]
    parts = " or ".join(dict.fromkeys(course.part for course in courses.values()))
    legend(figure, [*kinds, *lines], [parts, "training", *endings(courses)], loc="outside lower left")
    return figure


def draw_sweep(folder: Path, networks: list[dict[str, Any]]) -> None:
    """Draws sweep.png into a folder: the `ranking_accuracy` of networks over each value that varies.

    `networks` are records as in sweep.json; at least one of them must have epochs.

    Examples:
      >>> import json
      >>> from pathlib import Path
      >>> from snnjax.app import draw_sweep
      >>> folder = Path("sweeps/digits")
      >>> records = json.loads((folder / "sweep.json").read_text())["networks"]  # doctest: +SKIP
      >>> draw_sweep(folder, records)  # doctest: +SKIP
    """
    variants = [network["variant"] for network in networks]
    shared = [name for name in variants[0] if all(name in variant for variant in variants)]
    varied = [name for name in shared if len({variant[name] for variant in variants}) > 1]
    if not varied:
        varied = shared[-1:] or ["network"]
    done = np.array([bool(network["epochs"]) for network in networks])
    part = tested_part(networks[int(done.argmax())]["epochs"][0])
    figure, axes = grid(len(varied), 3, 4, 3.2, sharey=True)
    figure.supylabel(f"{part} accuracy, %")
    accuracy = np.array([ranking_accuracy(network) if network["epochs"] else 0.0 for network in networks])
    for axis, name in zip(axes, varied, strict=True):
        values = [variant.get(name, index) for index, variant in enumerate(variants)]
        distinct, places = np.unique(values, return_inverse=True)
        axis.plot(places[done], accuracy[done], "o", alpha=0.5, markersize=5, label="one network")
        if not done.all():
            lowest = np.full(np.sum(~done), accuracy[done].min())
            axis.plot(places[~done], lowest, "x", color="tab:red", label="invalid")
        if name != "seed":
            shown = np.unique(places[done])
            axis.plot(shown, [accuracy[done & (places == place)].mean() for place in shown], "-", label="mean")
        axis.set_xticks(range(len(distinct)), endings(map(words, distinct.tolist()), 20))
        axis.set_xlabel(name)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    write(folder / "sweep.png", figure)


def colors(count: int) -> Iterable[Any]:
    """A colour for each of `count` curves."""
    return (colormaps["tab10"](i) if count <= 10 else colormaps["turbo"](i / (count - 1)) for i in range(count))


def endings(names: Iterable[str], longest: int = 70) -> list[str]:
    """Names for a picture: only the last letters of names that are longer than `longest`, which may be paths."""
    return [name if len(name) <= longest else f"…{name[1 - longest :]}" for name in names]


def logarithmic(axis: Axes) -> None:
    """Makes the horizontal axis logarithmic, and labels its ticks with plain numbers."""
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:,g}")
    axis.xaxis.set_minor_formatter(NullFormatter())


def course(results: dict[str, Any]) -> Course:
    """The accuracies of a run over time; if there are no supervised epochs, only the test accuracy.

    The seconds include all phases and compilation. They are measured per phase; the epochs of a phase are assumed to be
    equally long.
    """
    epochs = results["epochs"]
    phases = results["phases"]
    total = sum(phase["seconds"] + phase["compile_seconds"] for phase in phases)
    learning = sum(phase["seconds"] for phase in phases[-2:])  # the supervised phase and the test
    if not epochs:
        return Course([0], [total], [math.nan], [_tested(results, "accuracy", math.nan)], "test")
    seconds = np.linspace(total - learning, total, len(epochs) + 1)[1:]
    part = tested_part(epochs[0])
    train = [epoch["train"]["accuracy"] for epoch in epochs]
    tested = [epoch[part]["accuracy"] for epoch in epochs]
    return Course([*range(1, len(epochs) + 1)], seconds.tolist(), train, tested, part)


_COMPARED: dict[str, tuple[Any, str, Callable[[dict[str, Any]], float | None]]] = {
    "test accuracy, %": (max, ".2f", lambda run: _tested(run, "accuracy", scale=100)),
    "best epoch": (None, "d", lambda run: run["best_epoch"] + 1),
    "supervised epochs": (None, "d", lambda run: len(run["epochs"])),
    "validation accuracy of the best epoch, %": (max, ".2f", lambda run: _accuracy(run, "validation", "best_epoch")),
    "test accuracy of the last epoch, %": (max, ".2f", lambda run: _accuracy(run, "test")),
    "training accuracy of the last epoch, %": (max, ".2f", lambda run: _accuracy(run, "train")),
    "silent, %": (min, ".2f", lambda run: _tested(run, "silent", scale=100)),
    "macro F1": (max, ".4f", lambda run: _tested(run, "f1")),
    "running, s": (min, ".1f", lambda run: sum(phase["seconds"] for phase in run["phases"])),
    "compiling, s": (min, ".1f", lambda run: sum(phase["compile_seconds"] for phase in run["phases"])),
}
"""The rows of a comparison: how the best value is selected, the format, and the value in a results.json."""


def _tested(results: dict[str, Any], figure: str, other: Any = None, *, scale: float = 1) -> Any:
    """A figure of the test, multiplied by `scale`; `other` for a network without a decision."""
    return scale * results["test"][figure] if results["test"] else other


def _accuracy(results: dict[str, Any], part: str, epoch: str = "") -> float | None:
    """The accuracy on a part in an epoch, by default the last one, in %; None if the part was not tested."""
    epochs = results["epochs"]
    record = epochs[results[epoch] if epoch else -1] if epochs else {}
    return 100 * record[part]["accuracy"] if part in record else None


def runs_of(sources: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The results.json among several results.json and sweep.json, by their numbers from 1."""
    return {str(number): source for number, source in enumerate(sources.values(), 1) if "networks" not in source}


def compared(results: Mapping[str, dict[str, Any]]) -> tuple[list[list[str]], list[list[int]]]:
    """The figures of several results.json: the rows of a table, and the columns of the best cells in each row.

    If all values in a row are equal, none of them is marked as the best.
    """
    rows = []
    best = []
    for name, (choose, form, value) in _COMPARED.items():
        values = (value(run) for run in results.values())
        cells = ["" if number is None else format(number, form) for number in values]
        if not any(cells):
            continue
        numbers = {float(cell) for cell in cells if cell}
        top = choose(numbers) if choose and len(numbers) > 1 else None
        rows.append([name, *cells])
        best.append([column for column, cell in enumerate(cells, 1) if cell and float(cell) == top])
    return rows, best


def differing(sources: Mapping[str, dict[str, Any]]) -> list[list[str]]:
    """The networks, settings, devices and versions in which runs and sweeps differ: the rows of a table.

    `sources` are several results.json and sweep.json, by name. The column of a sweep has the settings that are common
    to its networks, and all values of the numbers and components that it varies.
    """
    abouts = [source.get("about", source) for source in sources.values()]
    parameters = [_parameters(source) for source in sources.values()]
    shared = set(parameters[0]).intersection(*parameters)
    columns = list[dict[str, Any]]()
    for source, about, numbers in zip(sources.values(), abouts, parameters, strict=True):
        settings = {"digest of the data" if key == "data" else key: x for key, x in source["settings"].items()}
        named = {name: about.get(name, "") for name in ("network", "data", "device")}
        named["digest of the network"] = about.get("network_digest", "")
        column = named | settings | about["versions"]
        if "networks" in source:
            seeds = {int(network["variant"].get("seed", column["seed"])) for network in source["networks"]}
            column["seed"] = means.in_ranges(sorted(seeds))
        columns.append(column | {name: value for name, value in numbers.items() if name in shared})
    names = dict.fromkeys(name for column in columns for name in column)
    if len({"networks" in source for source in sources.values()}) > 1:  # runs have settings that sweeps do not have
        names = dict.fromkeys(name for name in names if all(name in column for column in columns))
    rows = [[name, *(report.plain_text(column.get(name, "")) for column in columns)] for name in names]
    return [row for row in rows if len(set(row[1:])) > 1]


def _parameters(source: dict[str, Any]) -> dict[str, Any]:
    """The components and numbers of a results.json or sweep.json, by path; with all values that a sweep uses."""
    about = source.get("about", source)
    parameters: dict[str, Any] = about.get("components", {}) | about.get("hyperparameters", {})
    variants = [network["variant"] for network in source.get("networks", [])]
    for name in dict.fromkeys(name for variant in variants for name in variant if name != "seed"):
        matches = matching_paths(name, parameters)
        path = matches[0] if len(matches) == 1 else name
        own = parameters.get(path)
        values = [variant.get(name, own) for variant in variants if own is not None or name in variant]
        if any(isinstance(value, str) for value in values):  # components, whose parts and numbers differ
            several = re.sub(r"\.\d+$", "", path)  # the tuple that contains it
            parameters = {key: x for key, x in parameters.items() if key != several and not key.startswith(f"{path}.")}
            values = [re.sub(r"^[^(]*:(?=\w+$)", "", str(value)) for value in values]  # the name of FILE.py:NAME
        elif own is not None:
            values = [type(own)(value) for value in values]
        parameters[path] = ", ".join(dict.fromkeys(map(report.plain_text, values)))
    return parameters


def comparison_page(sources: Mapping[str, dict[str, Any]]) -> str:
    """The HTML page that compares runs and sweeps, given their results.json and sweep.json by name."""
    numbers = [str(number) for number in range(1, len(sources) + 1)]
    names = dict(zip(numbers, sources, strict=True))
    runs = runs_of(sources)
    tested_groups = [", ".join(source.get("about", source).get("test_groups", ())) for source in sources.values()]
    networks = [len(source["networks"]) if "networks" in source else None for source in sources.values()]
    listed = zip(sources, networks, tested_groups, strict=True)
    rows = means.rows_of(sources.values())
    head, lines = means.table(rows)
    unbroken = [[cell.replace(" ± ", "\u00a0±\u00a0").replace("sd ", "sd\u00a0") for cell in line] for line in lines]
    sections = {
        "Runs": page.html.runs([*listed], any(tested_groups)),
        "Means": page.html.means(head, unbroken, console.MEAN),
    }
    if len(sources) > len(runs) or len(rows) < len(runs):
        caption = (
            "Each dot is one network. Below, the mean of the row with its 95 % interval (Student's t). Rows whose "
            "intervals overlap may still differ: the differences over common seeds are in the table."
        )
        drawn = page.picture(png(means.picture(rows)), caption, "Dots and means with error bars, row by row")
        sections["Means"] += drawn
    if runs:
        courses = {f"{number}: {names[number]}": course(run) for number, run in runs.items()}
        sections["Figures"] = page.html.compared(["", *runs], *compared(runs))
        sections["Accuracy over time"] = _courses(courses, runs)
    sections["What differs"] = page.html.differing(["", *numbers], differing(sources)) if len(sources) > 1 else ""
    kinds = {"runs": len(runs), "sweeps": len(sources) - len(runs)}
    title = " and ".join(f"{count} {kind if count > 1 else kind[:-1]}" for kind, count in kinds.items() if count)
    return page.page(title, sections)


def _courses(courses: Mapping[str, Course], runs: Mapping[str, dict[str, Any]]) -> Markup:
    """The picture of the accuracies over time, as HTML."""
    tested = dict.fromkeys(x.part for x in courses.values())
    caption = (
        f"Accuracy on the {' or '.join(tested)} images, and dashed on the training images while the network learned, "
        "by supervised epoch and by time. The time is that of all phases of a run, compilation included; "
        "its epochs count as equally long."
    )
    if any(run.get("start", {}).get("frozen") for run in runs.values()):
        caption += " Layers taken from another run cost no time here."
    return page.picture(png(comparison_picture(courses)), caption, "Curves of all runs over epochs and seconds")
