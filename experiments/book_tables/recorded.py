"""Tables of recorded results."""

import functools
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from book_tables.descriptions import layers_by_rule
from book_tables.places import TOP, network_link
from snnjax import NETWORKS
from snnjax.app.console import markdown
from snnjax.core import files
from snnjax.core.metrics import half_interval

RECORDED = TOP / "experiments" / "recorded"
CARDS = TOP / "snnjax" / "runs" / "pretrained" / "cards.json"
TIMED = ("network", "images", "test accuracy, %", "seeds", "published, %", "seconds", "back end")
DATA = {"digits": "scikit-learn's digits", "mnist": "MNIST", "cifar10-jpeg": "CIFAR-10 (JPEG)"}
SHOWN_FIRST = ("goupy2024_ncg", "goupy2024_softhebb", "local_wide", "local_narrow", "kheradpisheh2018", "mozafari2018")
"""The networks in the table of the main page."""
MADE_FOR = {
    "mozafari2018_objects": "larger images",
    "ncg_prototypes": "few labels",
}
"""Networks without recorded results, with the purpose for which each was made."""
WHOLE = {"digits": 1_293, "mnist": 54_000, "cifar10-jpeg": 45_000}
"""The number of training images of each data set, without held-out images."""
JPEG_NOTE = (
    "CIFAR-10 (JPEG): slightly lossy copies of the images. The published accuracies were measured on the original ones."
)

Row = dict[str, Any]


@functools.cache
def recorded(name: str) -> Row:
    """The content of a file of recorded results."""
    return files.read_json(RECORDED / f"{name}.json")


def accuracy_of(row: Row) -> str:
    """Mean, interval and standard deviation of a row; for a single seed only the accuracy."""
    if row["interval"] is None:
        return f"{row['mean']:.2f}"
    return f"{row['mean']:.2f} ± {row['interval']:.2f}, sd {deviation_of(row):.2f}"


def deviation_of(row: Row) -> float:
    """The standard deviation over the seeds of a row, calculated from its interval: single values are not recorded."""
    example = np.arange(float(row["seeds"]))
    return float(row["interval"] * example.std(ddof=1) / half_interval(example))


def seconds_of(row: Row) -> str:
    """The seconds of a row with the mark of its machine, or "" if none were recorded."""
    seconds = row["seconds"]
    return "" if seconds is None else f"{seconds}{recorded('results')['machines'][row['machine']]['mark']}"


def data_of(row: Row) -> str:
    """The data set of a row, in words."""
    return DATA[row["data"]] + ", mirrored" * row["mirrored"]


def figures_of(row: Row) -> list[str]:
    """The cells of a row after network and data set, in the order of `TIMED`."""
    published = [f"{entry['accuracy']:g} [{entry['source']}]" for entry in row["published"]]
    return [
        f"{row['train_images']:,}",
        accuracy_of(row),
        str(row["seeds"]),
        ", ".join(published),
        seconds_of(row),
        row["backend"],
    ]


def notes_of(rows: Sequence[Row]) -> list[str]:
    """Notes on the columns of a table of results, on its machines and on its sources."""
    notes = [f"Seconds: the wall time of a run, from reading the data to writing its report. {machines_of(rows)}"]
    if any(row["data"] == "cifar10-jpeg" for row in rows):
        notes.append(JPEG_NOTE)
    days = sorted({row["date"] for row in rows})
    notes.append(f"Recorded from {days[0]} to {days[-1]}." if days[1:] else f"Recorded on {days[0]}.")
    cited = sorted({str(entry["source"]) for row in rows for entry in row["published"]})
    return [*notes, *(f"[{number}] {recorded('results')['sources'][number]}." for number in cited)]


def row_notes(rows: Sequence[Row], name_row: Callable[[Row], str]) -> list[str]:
    """The notes on single rows; a note that several rows share is listed once, with all their names."""
    named: dict[str, list[str]] = {}
    for row in rows:
        if note := row["note"]:
            xla = ", xla" * (row["backend"] == "xla")
            named.setdefault(note, []).append(f"{name_row(row)}{xla}")
    return [f"{'; '.join(dict.fromkeys(names))}: {note}" for note, names in named.items()]


def machines_of(rows: Sequence[Row]) -> str:
    """Sentences that explain the marks of the machines on which rows were measured."""
    machines = recorded("results")["machines"]
    names = sorted({row["machine"] for row in rows if row["machine"]}, key=[*machines].index)
    return " ".join(f"{machines[name]['mark'] or 'No mark'}: {machines[name]['words']}." for name in names)


def format_list(notes: Iterable[str]) -> str:
    """Notes as a Markdown list below a table."""
    return "\n".join(map(format_item, notes))


def format_item(text: str) -> str:
    """An item of a Markdown list, wrapped."""
    escaped = text.replace("*", "\\*")
    return textwrap.fill(f"- {escaped}", 120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def data_and_images(row: Row) -> str:
    """The data set of a row and the number of training images, for notes."""
    return f"{data_of(row)}, {row['train_images']:,} images"


def figures(page: Path, names: str) -> str:
    """The table of the results of one network, or of several networks."""
    rows = [row for name in names.split() for row in recorded("results")["rows"] if row["network"] == name]
    several = " " in names
    head = ("network", "data", *TIMED[1:]) if several else ("data", *TIMED[1:])
    lines = [[*[row["network"]] * several, data_of(row), *figures_of(row)] for row in rows]
    listed = [*notes_of(rows), *row_notes(rows, network_data_and_images if several else data_and_images)]
    return markdown(head, lines, format_list(listed)).strip()


def network_data_and_images(row: Row) -> str:
    """The network of a row, its data set and the number of training images, for notes."""
    return f"{row['network']}, {data_and_images(row)}"


def best_row(name: str, data: str) -> Row | None:
    """The row of a network trained on a whole data set: preferably on back end "native" and with mirrored images."""
    rows = [row for row in recorded("results")["rows"] if (row["network"], row["data"]) == (name, data)]
    whole = [row for row in rows if row["train_images"] == WHOLE[data]]
    return max(whole, key=lambda row: (row["backend"] == "native", row["mirrored"]), default=None)


def networks(page: Path, data: str) -> str:
    """The table of all networks with their test accuracies, or with "mnist" only of the networks in `SHOWN_FIRST`."""
    head = ["network", "layers by rule", "MNIST, test, %", "CIFAR-10, test, %", "based on"]
    lines = []
    for name, source in recorded("networks")["based_on"].items():
        if data == "mnist" and name not in SHOWN_FIRST:
            continue
        mnist = best_row(name, "mnist")
        cifar = best_row(name, "cifar10-jpeg")
        made_for = f"made for {MADE_FOR[name]}" if name in MADE_FOR else ""
        cells = [accuracy_of(mnist) if mnist else made_for, accuracy_of(cifar) if cifar else ""]
        lines.append([network_link(page, name), layers_by_rule(NETWORKS[name]()), *cells, source])
    return markdown(head, lines).strip()


def replication(page: Path, _: str) -> str:
    """The table that compares the recorded runs of aidinattar/snn with those of snnjax."""
    head = (
        "network",
        "aidinattar/snn, one run",
        "snnjax, five seeds",
        "95 % interval",
        "within 3 sd",
    )
    lines = []
    for row in recorded("replication")["rows"]:
        theirs = row["recorded"]
        ours = [f"{row[part]['mean']:.1f} ± {row[part]['sd']:.1f}" for part in ("train", "test")]
        low, high = row["interval"]
        cells = [
            network_link(page, row["network"]),
            f"{theirs['train']:.1f} / {theirs['test']:.1f}",
            " / ".join(ours),
            f"{low:.1f} .. {high:.1f}",
            f"{row['within_3_sd']} of {row['recorded_figures']}",
        ]
        lines.append(cells)
    return markdown(head, lines).strip()


def trained(page: Path, _: str) -> str:
    """The table of the pretrained networks."""
    head = ("name", "network", "data", "bits", "test accuracy, %", "file size, kB")
    lines = []
    for name, card in files.read_json(CARDS).items():
        cells = [f"`{name}`", network_link(page, card["model"]), card["data"], str(card["bits"])]
        lines.append([*cells, f"{100 * card['test_accuracy']:.2f}", f"{card['file_bytes'] / 1000:,.0f}"])
    return markdown(head, lines).strip()
