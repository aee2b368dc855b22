"""Fills the tables and drawings of the book from recorded results and from the descriptions of the networks.

A table stands between `<!-- table: NAME ARGUMENT -->` and `<!-- end -->` in a page; `TABLES` has the names.
"""

import argparse
import dataclasses
import functools
import hashlib
import inspect
import io
import json
import math
import os
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG

from snnjax import NETWORKS, RSTDP, STDP, Conv, InputError, Network, Pool
from snnjax.app import diagram
from snnjax.app.console import markdown
from snnjax.core import checks, files
from snnjax.core.errors import unknown
from snnjax.data.dataset import DEFAULT_ENCODERS
from snnjax.encoding import ENCODERS, Encoder
from snnjax.networks.graph import name_of

TOP = Path(__file__).resolve().parents[1]
DOCS = TOP / "experiments" / "docs"
RECORDED = TOP / "experiments" / "recorded"
PAGES = DOCS / "networks"
CARDS = TOP / "snnjax" / "runs" / "pretrained" / "cards.json"
PICTURES = DOCS / "pictures" / "networks"
MARKED = re.compile(r"^<!-- table: (?P<name>\w+) ?(?P<argument>[\w-]*) -->\n(?P<table>.*?)^<!-- end -->$", re.M | re.S)
TIMED = ("network", "images", "test accuracy, %", "seeds", "published, %", "seconds", "kernels")
DATA = {"digits": "scikit-learn's digits", "mnist": "MNIST", "cifar10-jpeg": "CIFAR-10 (JPEG)"}
WHOLE = {"digits": 1_293, "mnist": 54_000, "cifar10-jpeg": 45_000}
"""Training images of each set, without those held out."""
RULES = {
    "STDP": "stdp.md",
    "TargetTime": "target_times.md",
    "SoftHebb": "softhebb.md",
    "RSTDP": "reward.md",
    "SupervisedSTDP": "supervised.md",
}
"""The pages with the equations of the rules."""
COMPETITIONS = {
    "TargetTime": "the first neuron of a patch",
    "SoftHebb": "soft, at each position",
    "RSTDP": "one neuron of the class decided for",
}
"""Of rules that have a competition of their own."""
FIGURES_NOTES = (
    "Images: those learned from, nine tenths of those given. The others are held out and choose the best epoch.",
    "The test images are used once, at the end.",
    "Test accuracy: mean and 95 % interval over the seeds (Student's t), none of one seed.",
)
JPEG_NOTE = "CIFAR-10 (JPEG): slightly lossy copies; published figures are of the original images."

Row = dict[str, Any]


@functools.cache
def recorded(name: str) -> Row:
    """The content of a file of recorded results."""
    return files.read_json(RECORDED / f"{name}.json")


# Tables of recorded results.


def accuracy_of(row: Row) -> str:
    """Mean and interval of a row."""
    interval = row["interval"]
    return f"{row['mean']:.2f}" + ("" if interval is None else f" ± {interval:.2f}")


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
        row["kernels"],
    ]


def notes_of(rows: Sequence[Row]) -> str:
    """A list below tables of results: what their columns are, machines and sources."""
    notes = [*FIGURES_NOTES, f"Seconds: a whole run, from reading the data to its report. {machines_of(rows)}"]
    if any(row["data"] == "cifar10-jpeg" for row in rows):
        notes.append(JPEG_NOTE)
    cited = sorted({str(entry["source"]) for row in rows for entry in row["published"]})
    notes += [f"[{number}] {recorded('results')['sources'][number]}." for number in cited]
    return "\n".join(item(note) for note in notes)


def row_notes(rows: Sequence[Row], name_row: Callable[[Row], str]) -> str:
    """A list of what is to be known of single rows."""
    lines = []
    for row in rows:
        if note := row["note"]:
            kernels = ", XLA" * (row["kernels"] == "XLA")
            lines.append(item(f"{name_row(row)}{kernels}: {note[0].lower()}{note[1:]}"))
    return "\n".join(lines)


def machines_of(rows: Sequence[Row]) -> str:
    """The machines of rows with their marks, as sentences."""
    machines = recorded("results")["machines"]
    names = sorted({row["machine"] for row in rows if row["machine"]}, key=[*machines].index)
    return " ".join(f"{machines[name]['mark'] or 'No mark'}: {machines[name]['words']}." for name in names)


def item(text: str) -> str:
    """An item of a list, wrapped."""
    escaped = text.replace("*", "\\*")
    return textwrap.fill(f"- {escaped}", 120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def name_of_row(row: Row) -> str:
    """The network of a row, for notes."""
    return str(row["network"])


def network_link(page: Path, name: str) -> str:
    """A link from a page to that of a network."""
    return f"[{name}]({relative(page, PAGES / f'{name}.md')})"


def relative(page: Path, target: Path) -> str:
    """The path of a file as a link in a page has it."""
    return Path(os.path.relpath(target, page.parent)).as_posix()


def results(page: Path, data: str) -> str:
    """All training images of a data set, or with "fewer" the rows of fewer images."""
    rows = recorded("results")["rows"]
    whole = [row for row in rows if (row["train_images"] == WHOLE[row["data"]]) == (data != "fewer")]
    if data == "fewer":
        head = (TIMED[0], "data", *TIMED[1:])
        lines = [[network_link(page, row["network"]), data_of(row), *figures_of(row)] for row in whole]
        return markdown(head, lines, row_notes(whole, name_of_row)).strip()
    chosen = [row for row in whole if row["data"] == data]
    if not chosen:
        raise unknown("results", data, [*DATA, "fewer"])
    mirrored = [f"{network_link(page, row['network'])}{', mirrored' * row['mirrored']}" for row in chosen]
    lines = [[name, *figures_of(row)] for name, row in zip(mirrored, chosen, strict=True)]
    return markdown(TIMED, lines, row_notes(chosen, name_of_row)).strip()


def figures(page: Path, name: str) -> str:
    """The results of one network."""
    rows = [row for row in recorded("results")["rows"] if row["network"] == name]
    lines = [[data_of(row), *figures_of(row)] for row in rows]
    return markdown(("data", *TIMED[1:]), lines, *filter(None, (notes_of(rows), row_notes(rows, data_of)))).strip()


def notes(page: Path, _: str) -> str:
    """What the columns of all tables of results are."""
    return notes_of(recorded("results")["rows"])


def best_row(name: str, data: str) -> Row | None:
    """The row of a network and all images of a data set: on compiled kernels, of mirrored images where there are."""
    rows = [row for row in recorded("results")["rows"] if (row["network"], row["data"]) == (name, data)]
    whole = [row for row in rows if row["train_images"] == WHOLE[data]]
    return max(whole, key=lambda row: (row["kernels"] == "native", row["mirrored"]), default=None)


def networks(page: Path, data: str) -> str:
    """All networks with their figures, of MNIST alone if "mnist" is asked for."""
    head = ["network", "layers by rule", "MNIST, test, %", "seconds", "CIFAR-10, test, %", "after"]
    lines = []
    for name, after in recorded("networks")["after"].items():
        mnist = best_row(name, "mnist")
        cifar = best_row(name, "cifar10-jpeg")
        cells = [accuracy_of(mnist), seconds_of(mnist)] if mnist else ["made for larger images", ""]
        more = [] if data == "mnist" else [accuracy_of(cifar) if cifar else ""]
        lines.append([network_link(page, name), layers_by_rule(NETWORKS[name]()), *cells, *more, after])
    if data == "mnist":
        head.remove("CIFAR-10, test, %")
    return markdown(head, lines).strip()


def labels(page: Path, _: str) -> str:
    """Few labels, with features of as many images and of all."""
    head = ("network", "data", "labelled images", "features of these, %", "features of all, %")
    lines = []
    for row in recorded("labels")["rows"]:
        cells = [network_link(page, row["network"]), data_of(row), f"{row['labels']:,}"]
        lines.append([*cells, accuracy_of(row["these"]), accuracy_of(row["all"])])
    return markdown(head, lines).strip()


def widths(page: Path, _: str) -> str:
    """SoftHebb networks of several widths."""
    lines = []
    for row in recorded("widths")["rows"]:
        name = f" ({network_link(page, row['network'])})" if row["network"] else ""
        lines.append([", ".join(map(str, row["features"])) + name, accuracy_of(row), str(row["seeds"])])
    return markdown(("features of the three layers", "test accuracy, %", "seeds"), lines).strip()


def replication(page: Path, _: str) -> str:
    """The runs of the PyTorch code beside those of snnjax."""
    head = (
        "network",
        "PyTorch, one run",
        "snnjax, five seeds",
        "95 % interval",
        "within 3 sd",
        "minutes",
        "times faster",
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
            f"{row['minutes']:.1f}",
            str(row["times_faster"]),
        ]
        lines.append(cells)
    return markdown(head, lines).strip()


def trained(page: Path, _: str) -> str:
    """The networks that come trained."""
    head = ("name", "network", "data", "bits", "test accuracy, %", "file, kB")
    lines = []
    for name, card in files.read_json(CARDS).items():
        cells = [f"`{name}`", network_link(page, card["model"]), card["data"], str(card["bits"])]
        lines.append([*cells, f"{100 * card['test_accuracy']:.2f}", f"{card['file_bytes'] / 1000:,.0f}"])
    return markdown(head, lines).strip()


def bits(page: Path, _: str) -> str:
    """C programs with weights of few bits."""
    rows = recorded("bits")["rows"]
    names = {
        "test_accuracy": "test accuracy, %",
        "weights_kb": "weights, kB",
        "flash_kb": "flash, kB",
        "memory_kb": "memory, kB",
    }
    lines = [
        [words, *(f"{row[key]:.2f}" if key == "test_accuracy" else str(row[key]) for row in rows)]
        for key, words in names.items()
    ]
    lines.append(["operations until the decision", *(f"{row['operations']:,}" for row in rows)])
    return markdown(["bits", *(str(row["bits"]) for row in rows)], lines).strip()


def reward_epochs(page: Path, _: str) -> str:
    """mozafari2018 on MNIST over 680 epochs of reward."""
    rows = recorded("reward_epochs")["rows"]
    names = {"test": "test, %", "train": "training, %"}
    lines = [[words, *(f"{row[key]:.1f}" for row in rows)] for key, words in names.items()]
    return markdown(["after reward epoch", *(str(row["epoch"]) for row in rows)], lines).strip()


# Tables of the descriptions of networks.


def described(name: str) -> Network:
    """A network for the images that its function has as default."""
    if name not in NETWORKS:
        raise unknown("network", name, NETWORKS)
    return NETWORKS[name]()


def layers_by_rule(network: Network) -> str:
    """How many layers learn by each rule, and a fitted decision."""
    count = Counter(type(each).__name__ for _, _, conv in network.layers() for each in conv.each_learner)
    words = [f"{number} {rule}" for rule, number in count.items()]
    words += [type(network.decision).__name__] * hasattr(network.decision, "fit")
    return ", ".join(words)


def drawing(page: Path, name: str) -> str:
    """The picture of a network's stages."""
    network = described(name)
    stages = [f"{row[0]} {row[4]}" for row in diagram.rows(network)]
    text = f"The stages of {name}: encoder {size(network.input_shape)}, {', '.join(stages)}"
    return f"![{text}]({relative(page, PICTURES / f'{name}.svg')})"


def layers(page: Path, name: str) -> str:
    """A row for each layer."""
    head = ("stage", "inputs", "features", "kernel", "threshold", "competition", "rule", "neurons", "pooling")
    network = described(name)
    lines = []
    for number, (stage, reads, _, shape, _, _) in enumerate(diagram.rows(network)):
        inputs = f"{reads}, {shape}"
        branches = network.stages[number].branches
        rows = [layer_cells(network, number, conv) for conv in branches] or [[""] * 6]
        names = network.names[number] if len(branches) > 1 else [stage]
        pooling = pooling_of(network.stages[number].pool)
        lines += [[name, inputs, *cells, pooling] for name, cells in zip(names, rows, strict=True)]
    return markdown(head, lines).strip()


def layer_cells(network: Network, number: int, conv: Conv) -> list[str]:
    """The cells of a layer from its features to its neurons."""
    maps = conv.output_size(network.input_shapes[number][1:])
    threshold = "real-valued" if conv.real else "none" if conv.threshold is None else f"{conv.threshold:.6g}"
    rules = [f"[{name}]({RULES[name]})" for name in (type(rule).__name__ for rule in conv.each_learner)]
    return [
        str(conv.features),
        size(checks.pair("kernel", conv.kernel, 1)),
        threshold,
        competition_of(network, number, conv),
        ", ".join(rules) or "fixed",
        size((conv.features, *maps)),
    ]


def competition_of(network: Network, number: int, conv: Conv) -> str:
    """Who may learn, in words."""
    rules = conv.each_learner
    if not rules:
        return ""
    kind = type(rules[0]).__name__
    if kind == "SupervisedSTDP":
        return "within each class" if rules[0].competition else "none"
    last = number == len(network.stages) - 1
    if isinstance(rules[0], STDP) or (isinstance(rules[0], RSTDP) and not last):
        wta: Any = conv.competition
        return f"{wta.winners} winners, radius {wta.radius}"
    return COMPETITIONS[kind]


def pooling_of(pool: Pool | None) -> str:
    """The window of a pool, and what else differs from its default."""
    if pool is None:
        return ""
    words = [f"{'mean of ' * pool.mean}{size(checks.pair('window', pool.window, 1))}"]
    if pool.stride is not None:
        words.append(f"stride {pool.stride}")
    if pool.padding:
        words.append(f"padding {pool.padding}")
    return ", ".join(words)


def training(page: Path, name: str) -> str:
    """Encoder, epochs, order of images, decision, and the settings of each rule."""
    network = described(name)
    images = inspect.signature(NETWORKS[name]).parameters["images"].default
    kind = {(): "grey", (3,): "colour", (2,): "events"}[images.shape[2:]]
    lines = [
        ["images", f"{size(images.shape[:2])}, {kind}, {images.classes} classes"],
        ["encoder", encoder_of(network, images.shape[2:])],
        ["time steps", str(network.time_steps)],
        ["epochs", ", ".join(f"{count} of {name_of(at + 1)}" for at, count in enumerate(network.epochs) if count)],
        ["order of the images", "new in each epoch" if network.shuffle else "as they come"],
        [
            "patience",
            "5, the default of the command"
            if network.patience is None
            else str(network.patience or "never stops early"),
        ],
        ["decision", f"`{changed(network.decision)}`"],
        ["weights", f"{sum(map(math.prod, network.weight_shapes.values())):,}"],
        *([layer, f"`{rule}`"] for _, layer, conv in network.layers() for rule in conv.each_learner),
    ]
    return markdown(("setting", "value"), lines).strip()


def encoder_of(network: Network, axes: tuple[int, ...]) -> str:
    """The option of a network's encoder, and what differs from it."""
    encoder: Any = network.encoder or DEFAULT_ENCODERS[axes]
    for name, known in ENCODERS.items():
        if encoder == known:
            return f"[`{name}`](encoders.md)"
        filters = isinstance(encoder, Encoder) and isinstance(known, Encoder)
        if filters and encoder == dataclasses.replace(known, pool=encoder.pool):
            return f"[`{name}`](encoders.md), pooled {pooling_of(encoder.pool)}"
    return f"`{changed(encoder)}`"


def changed(component: Any) -> str:
    """A component as a call with the arguments that are not defaults."""
    fields = ((field, getattr(component, field.name)) for field in dataclasses.fields(component) if field.init)
    arguments = [f"{field.name}={value!r}" for field, value in fields if value != field.default]
    return f"{type(component).__name__}({', '.join(arguments)})"


def size(shape: Iterable[int]) -> str:
    """As "128x6x6"."""
    return "x".join(map(str, shape))


TABLES: dict[str, Callable[[Path, str], str]] = {
    table.__name__: table
    for table in (
        networks,
        results,
        figures,
        notes,
        labels,
        widths,
        replication,
        trained,
        bits,
        reward_epochs,
        drawing,
        layers,
        training,
    )
}
"""By the names that stand in the pages; each gets the page and its argument."""


# Pages and pictures.


def filled(page: Path, text: str) -> str:
    """The text of a page with all its tables; raises InputError where it names one that there is not."""

    def fill(match: re.Match[str]) -> str:
        if match["name"] not in TABLES:
            raise unknown(f"table of {page.name}", match["name"], TABLES)
        mark = f"<!-- table: {match['name']}{' ' * bool(match['argument'])}{match['argument']} -->"
        return f"{mark}\n\n{TABLES[match['name']](page, match['argument']).strip()}\n\n<!-- end -->"

    if len(re.findall(r"^<!-- table:", text, re.MULTILINE)) != len(MARKED.findall(text)):
        raise InputError(f"{page.name} has a table without its end, <!-- end -->")
    return MARKED.sub(fill, text)


def drawn(network: Network) -> str:
    """The stages of a network as SVG, with a digest of what is drawn."""
    buffer = io.StringIO()
    metadata = {"Date": None, "Creator": None, "Description": digest_of(network)}
    with matplotlib.rc_context({"svg.hashsalt": "snnjax", "svg.fonttype": "path"}):
        FigureCanvasSVG(diagram.picture(network)).print_svg(buffer, metadata=metadata)
    return re.sub(r"[ \t]+$", "", buffer.getvalue(), flags=re.MULTILINE)


def digest_of(network: Network) -> str:
    """Of what a drawing shows: another version of matplotlib draws the same with other bytes."""
    shown = json.dumps([network.input_shape, diagram.rows(network)])
    return hashlib.sha256(shown.encode()).hexdigest()


def files_of() -> Iterator[tuple[Path, str]]:
    """Each file that should be another, with what it should be."""
    for page in (TOP / "README.md", *sorted(DOCS.rglob("*.md"))):
        text = page.read_text(encoding="utf-8")
        if "<!-- table:" in text and (new := filled(page, text)) != text:
            yield page, new
    for name, make in NETWORKS.items():
        path = PICTURES / f"{name}.svg"
        network = make()
        if not path.exists() or digest_of(network) not in path.read_text(encoding="utf-8"):
            yield path, drawn(network)


def run(check: bool) -> list[str]:
    """Writes what is not as it should be, or only checks it; returns the names of these files."""
    names = []
    for path, text in files_of():
        names.append(path.relative_to(TOP).as_posix())
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_text(path, text)
    return names


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the options, by default those of the command line; 1 where a check fails."""
    parser = argparse.ArgumentParser("python experiments/book.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file would change")
    options = parser.parse_args(arguments)
    try:
        names = run(options.check)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.check and names:
        words = "are not what recorded results and networks say: run python experiments/book.py"
        print(f"{', '.join(names)} {words}", file=sys.stderr)
        return 1
    print("nothing to change" if not names else f"written: {', '.join(names)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
