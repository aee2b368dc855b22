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
from snnjax.core.errors import unknown
from snnjax.core.metrics import half_interval

RECORDED = TOP / "experiments" / "recorded"
CARDS = TOP / "snnjax" / "runs" / "pretrained" / "cards.json"
TIMED = ("network", "images", "test accuracy, %", "seeds", "published, %", "seconds", "back end")
DATA = {"digits": "scikit-learn's digits", "mnist": "MNIST", "cifar10-jpeg": "CIFAR-10 (JPEG)"}
SHOWN_FIRST = ("goupy2024_ncg", "goupy2024_softhebb", "local_narrow", "kheradpisheh2018", "mozafari2018")
"""The networks of the main page."""
MADE_FOR = {
    "mozafari2018_objects": "larger images",
    "ncg_prototypes": "few labels",
    "local_wide": "photographs with labels",
}
"""Networks without recorded results."""
WHOLE = {"digits": 1_293, "mnist": 54_000, "cifar10-jpeg": 45_000}
"""Training images of each set, without those held out."""
FIGURES_NOTES = (
    "Images: those learned from, nine tenths of those given. The others are held out and choose the best epoch.",
    "The test images are used once, at the end.",
    "Test accuracy: the mean over the seeds and half of its 95 % interval (Student's t), then the standard deviation "
    "(sd) over the seeds, by which a single run differs from the mean. A single seed has neither.",
    "Accuracies of single seeds were not recorded. The standard deviations are calculated from the rounded intervals.",
)
JPEG_NOTE = "CIFAR-10 (JPEG): slightly lossy copies; published figures are of the original images."

Row = dict[str, Any]


@functools.cache
def recorded(name: str) -> Row:
    """The content of a file of recorded results."""
    return files.read_json(RECORDED / f"{name}.json")


def accuracy_of(row: Row) -> str:
    """Mean, interval and standard deviation of a row; of one seed only the accuracy."""
    if row["interval"] is None:
        return f"{row['mean']:.2f}"
    return f"{row['mean']:.2f} ± {row['interval']:.2f}, sd {deviation_of(row):.2f}"


def deviation_of(row: Row) -> float:
    """The standard deviation over the seeds of a row, calculated from its interval: no file has the single values."""
    example = np.arange(float(row["seeds"]))
    return float(row["interval"] * example.std(ddof=1) / half_interval(example))


def seconds_of(row: Row) -> str:
    """Seconds with the mark of their machine, "" where none were recorded."""
    seconds = row["seconds"]
    return "" if seconds is None else f"{seconds}{recorded('results')['machines'][row['machine']]['mark']}"


def data_of(row: Row) -> str:
    """The data of a row, in words."""
    return DATA[row["data"]] + ", mirrored" * row["mirrored"]


def figures_of(row: Row) -> list[str]:
    """The cells of a row behind network and data, as the end of `TIMED` names them."""
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
    """What the columns of tables of results are, machines and sources."""
    notes = [f"Seconds: a whole run, from reading the data to its report. {machines_of(rows)}"]
    if any(row["data"] == "cifar10-jpeg" for row in rows):
        notes.append(JPEG_NOTE)
    days = sorted({row["date"] for row in rows})
    notes.append(f"Recorded from {days[0]} to {days[-1]}." if days[1:] else f"Recorded on {days[0]}.")
    cited = sorted({str(entry["source"]) for row in rows for entry in row["published"]})
    return [*notes, *(f"[{number}] {recorded('results')['sources'][number]}." for number in cited)]


def row_notes(rows: Sequence[Row], name_row: Callable[[Row], str]) -> list[str]:
    """What is to be known of single rows; once, where it is the same of several."""
    named: dict[str, list[str]] = {}
    for row in rows:
        if note := row["note"]:
            xla = ", xla" * (row["backend"] == "xla")
            named.setdefault(note, []).append(f"{name_row(row)}{xla}")
    return [f"{'; '.join(dict.fromkeys(names))}: {note}" for note, names in named.items()]


def machines_of(rows: Sequence[Row]) -> str:
    """The machines of rows with their marks, as sentences."""
    machines = recorded("results")["machines"]
    names = sorted({row["machine"] for row in rows if row["machine"]}, key=[*machines].index)
    return " ".join(f"{machines[name]['mark'] or 'No mark'}: {machines[name]['words']}." for name in names)


def format_list(notes: Iterable[str]) -> str:
    """A list below a table."""
    return "\n".join(map(format_item, notes))


def format_item(text: str) -> str:
    """An item of a list, wrapped."""
    escaped = text.replace("*", "\\*")
    return textwrap.fill(f"- {escaped}", 120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def data_and_images(row: Row) -> str:
    """The data of a row and their number, for notes."""
    return f"{data_of(row)}, {row['train_images']:,} images"


def name_of_row(row: Row) -> str:
    """The network of a row, for notes."""
    return str(row["network"])


def results(page: Path, data: str) -> str:
    """All training images of a data set, or with "fewer" the rows of fewer images."""
    rows = recorded("results")["rows"]
    chosen = [row for row in rows if (row["train_images"] == WHOLE[row["data"]]) == (data != "fewer")]
    if data == "fewer":
        head = (TIMED[0], "data", *TIMED[1:])
        lines = [[network_link(page, row["network"]), data_of(row), *figures_of(row)] for row in chosen]
        return markdown(head, lines, format_list(row_notes(chosen, name_of_row))).strip()
    of_data = [row for row in chosen if row["data"] == data]
    if not of_data:
        raise unknown("results", data, [*DATA, "fewer"])
    links = [f"{network_link(page, row['network'])}{', mirrored' * row['mirrored']}" for row in of_data]
    lines = [[name, *figures_of(row)] for name, row in zip(links, of_data, strict=True)]
    return markdown(TIMED, lines, format_list(row_notes(of_data, name_of_row))).strip()


def figures(page: Path, names: str) -> str:
    """The results of one network, or of several."""
    rows = [row for name in names.split() for row in recorded("results")["rows"] if row["network"] == name]
    several = " " in names
    head = ("network", "data", *TIMED[1:]) if several else ("data", *TIMED[1:])
    lines = [[*[row["network"]] * several, data_of(row), *figures_of(row)] for row in rows]
    listed = [*notes_of(rows), *row_notes(rows, network_data_and_images if several else data_and_images)]
    return markdown(head, lines, format_list(listed)).strip()


def network_data_and_images(row: Row) -> str:
    """The network of a row, its data and their number, for notes."""
    return f"{row['network']}, {data_and_images(row)}"


def notes(page: Path, _: str) -> str:
    """What the columns of all tables of results are."""
    return format_list([*FIGURES_NOTES, *notes_of(recorded("results")["rows"])])


def best_row(name: str, data: str) -> Row | None:
    """The row of a network and all images of a data set: on the back end native, of mirrored images if there are."""
    rows = [row for row in recorded("results")["rows"] if (row["network"], row["data"]) == (name, data)]
    whole = [row for row in rows if row["train_images"] == WHOLE[data]]
    return max(whole, key=lambda row: (row["backend"] == "native", row["mirrored"]), default=None)


def networks(page: Path, data: str) -> str:
    """All networks with their figures; with "mnist" those that are shown first, with figures of MNIST alone."""
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
    """The runs of aidinattar/snn beside those of snnjax."""
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
    """The pretrained networks."""
    head = ("name", "network", "data", "bits", "test accuracy, %", "file, kB")
    lines = []
    for name, card in files.read_json(CARDS).items():
        cells = [f"`{name}`", network_link(page, card["model"]), card["data"], str(card["bits"])]
        lines.append([*cells, f"{100 * card['test_accuracy']:.2f}", f"{card['file_bytes'] / 1000:,.0f}"])
    return markdown(head, lines).strip()
