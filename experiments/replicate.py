"""Runs the networks under the protocol of a recorded run of the PyTorch code, and compares."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from results import STOPPED, seed_statistics, write_text
from rich.console import Console
from rich.table import Table

from snnjax import NETWORKS
from snnjax.app import console, names, options, parts, plots
from snnjax.app.commands import train
from snnjax.app.main import call, protected
from snnjax.app.options import option
from snnjax.core import files

REFERENCE = Path(__file__).parent / "reference.json"  # accuracies of the PyTorch code, and how they were obtained


@dataclasses.dataclass(frozen=True)
class ReplicateData(options.Data):
    """What to learn; the recorded runs are of the defaults."""

    dataset: Annotated[str, option("NAME", help=names.NAMES)] = "mnist"
    train_images: Annotated[int, option("N")] = 6000
    """use only the first N training images"""
    test_images: Annotated[int, option("N")] = 2000
    """use only the first N test images"""


@dataclasses.dataclass(frozen=True)
class Replicate:
    """Train under the protocol of a recorded run of the PyTorch code, from several seeds, and compare.

    $ python experiments/replicate.py

    The same command continues where it stopped.
    """

    model: Annotated[tuple[str, ...], option("NAME ...", "all eight of the PyTorch code")] = names.RECORDED
    """networks"""
    seeds: Annotated[int, option("N")] = 5
    """runs of each network, with seeds 0, 1, ..."""
    reward_epochs: Annotated[int, option("N")] = 4
    """epochs of learning by reward"""
    update_batch: Annotated[int, option("N")] = 1
    """images whose winners are found with the same weights; 1 in the recorded runs"""
    data: ReplicateData = field(default_factory=ReplicateData)
    machine: options.Machine = field(default_factory=options.Machine)
    out: Annotated[Path, option("DIR")] = Path("runs/replication")
    """folder of all runs, the table and the figure"""


def images_of(chosen: Replicate) -> Path:
    """Writes the first images into the folder, in order and not balanced by class; returns the file."""
    data = parts.load(vars(chosen.data))
    for note in console.notes(data):
        print(note)
    train = chosen.data.train_images
    test = chosen.data.test_images
    path = chosen.out / f"{data.name}_{train}_{test}.npz"
    chosen.out.mkdir(parents=True, exist_ok=True)
    data.first(train, test, in_order=True).save(path)
    return path


def options_of(chosen: Replicate, images: Path, network: str, seed: int) -> options.Train:
    """One run under the protocol: two epochs of the first layer, four of each other, no early stop."""
    return options.Train(
        network=options.Network(model=network),
        data=options.TrainData(
            dataset=str(images),
            train_images=chosen.data.train_images,
            test_images=chosen.data.test_images,
            validation=0,  # the reference tests each epoch on the test images
        ),
        training=options.Training(
            epochs=(*NETWORKS[network]().epochs[:-1], chosen.reward_epochs),
            batch_size=min(1000, chosen.data.train_images),
            patience=0,
            seed=seed,
            update_batch=chosen.update_batch,
            shuffle=False,
        ),
        machine=chosen.machine,
        run=options.Run(out=chosen.out / network / f"seed{seed}", resume=True),
    )


def compare(
    network: str, results: list[dict[str, Any]], reference: dict[str, Any], chosen: Replicate
) -> dict[str, Any]:
    """Our accuracies and time for one network, and those recorded if the options are of the same protocol."""
    seconds = [sum(phase["seconds"] + phase["compile_seconds"] for phase in result["phases"]) for result in results]
    same = all(
        getattr(chosen if name == "update_batch" else chosen.data, name) == value
        for name, value in reference["protocol"].items()
    )
    recorded = reference["networks"].get(network, {}) if same else {}
    row: dict[str, Any] = dict(network=network, seeds=len(results), seconds=float(np.mean(seconds)))
    row["reference_seconds"] = recorded.get("seconds")
    for part in ("train", "test"):
        ours = np.array([[epoch[part]["accuracy"] for epoch in result["epochs"]] for result in results])
        theirs = np.array(recorded.get(part, []))
        epochs = min(len(theirs), ours.shape[1])
        summary = seed_statistics(ours)
        gap = theirs[:epochs] - ours.mean(axis=0)[:epochs]
        row[part] = dict(reference=theirs.tolist(), seeds=ours.tolist(), **summary, gap=gap.tolist())
        if summary["sd"]:
            row[part]["within_3_sd"] = (np.abs(gap) <= 3 * np.array(summary["sd"])[:epochs]).tolist()
    return row


def table(rows: list[dict[str, Any]]) -> Table:
    """The last epochs side by side, in percent."""
    lines = []
    for row in rows:
        faster = f"{row['reference_seconds'] / row['seconds']:.0f}" if row["reference_seconds"] else ""
        shared = {"train": [row["network"], f"{row['seconds'] / 60:.1f}", faster], "test": ["", "", ""]}
        for part, (network, *times) in shared.items():
            ours = row[part]
            near = row[part].get("within_3_sd", [])
            last = min(len(curve) for curve in (ours["mean"], ours["reference"]) if curve) - 1
            recorded = f"{100 * ours['reference'][last]:.1f}" if ours["reference"] else ""
            spread = f" ± {100 * ours['sd'][last]:.1f}" if ours["sd"] else ""
            interval = " .. ".join(f"{100 * x:.1f}" for x in ours["interval95"][last]) if ours["sd"] else ""
            within = f"{sum(near)} of {len(near)} within 3 sd" if near else ""
            lines.append([network, part, recorded, f"{100 * ours['mean'][last]:.1f}{spread}", interval, within, *times])
    head = ("network", "", "reference", "snnjax", "95 % interval", "every epoch", "minutes", "times faster")
    title = "accuracy in %, training and test, after the last supervised epoch that both have"
    return console.table(head, [lines], title, left=2)


def replication_picture(path: Path, rows: list[dict[str, Any]]) -> None:
    """Draws for each network, a row of replication.json, the accuracies of all seeds, their mean, and the reference."""
    figure, axes = plots.panels(len(rows), "accuracy", extra=0.6)
    for axis, row in zip(axes, rows, strict=True):
        for part, color in plots.PARTS:
            curves = np.array(row[part]["seeds"])
            theirs = row[part]["reference"]
            epochs = np.arange(1, curves.shape[1] + 1)
            axis.plot(epochs, curves.T, color=color, linewidth=0.6, alpha=0.5)
            axis.plot(epochs, row[part]["mean"], color=color, linewidth=2, label=f"snnjax, {part}")
            axis.plot(range(1, len(theirs) + 1), theirs, "o--", color="black", markerfacecolor=color, markersize=6)
        axis.plot([], [], "o--", color="black", label="PyTorch, one run")
        axis.set_title(row["network"], fontsize=10)
        axis.set(xlabel="supervised epoch", xticks=epochs[:: -(-len(epochs) // 10)])
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8, loc="lower right")
    plots.write(path, figure)


def run(chosen: Replicate) -> None:
    """Trains all networks; after each, writes the table as text and JSON, and the figure."""
    parts.check_least(chosen, seeds=1, reward_epochs=1, update_batch=1)
    parts.check_least(chosen.data, train_images=1, test_images=1)
    networks = {name: parts.published(name) for name in chosen.model}
    reference = json.loads(REFERENCE.read_text())
    images = images_of(chosen)
    rows = []
    for network in networks:
        results = [train.train(options_of(chosen, images, network, seed)) for seed in range(chosen.seeds)]
        rows.append(compare(network, results, reference, chosen))
        shown = table(rows)
        files.write_json(chosen.out / "replication.json", dict(reference=reference["how"], networks=rows))
        write_text(chosen.out / "replication.txt", shown)
        replication_picture(chosen.out / "replication.png", rows)
    Console(width=120).print(shown)
    print(f"{chosen.out}: replication.json, replication.png, replication.txt, and a folder for each run")


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the options, by default those of the command line, and replicates."""
    call("python experiments/replicate.py", Replicate, arguments, run, STOPPED)


if __name__ == "__main__":
    protected(main)
