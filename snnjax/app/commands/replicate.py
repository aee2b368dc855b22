"""`snnjax replicate`: runs the networks under the protocol of a recorded run of the PyTorch code, and compares."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from snnjax import NETWORKS
from snnjax.app import comparisons, console, options, parts, tables
from snnjax.app.commands import train
from snnjax.core import files

REFERENCE = Path(__file__).parents[1] / "reference.json"  # accuracies of the PyTorch code, and how they were obtained
STOPPED = "Stopped; all but the last half minute is kept. The same command goes on."


def options_of(chosen: options.Replicate, network: str, seed: int) -> options.Train:
    """One run under the protocol: two epochs of the first layer, four of each other, no early stop."""
    data = {field.name: getattr(chosen.data, field.name) for field in dataclasses.fields(chosen.data)}
    return options.Train(
        network=options.Network(model=network),
        data=options.TrainData(**data, validation=0),  # the reference tests each epoch on the test images
        training=options.Training(
            epochs=(*NETWORKS[network]().epochs[:-1], chosen.reward_epochs),
            batch_size=min(1000, chosen.data.train_images or 1000),
            patience=0,
            seed=seed,
            update_batch=chosen.update_batch,
            shuffle=False,
            reuse=False,  # so that the seconds are those of a whole training
        ),
        machine=chosen.machine,
        run=options.Run(out=chosen.out / network / f"seed{seed}", resume=True),
    )


def compare(
    network: str, results: list[dict[str, Any]], reference: dict[str, Any], chosen: options.Replicate
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
        found = tables.statistics(ours)
        gap = theirs[:epochs] - ours.mean(axis=0)[:epochs]
        row[part] = dict(reference=theirs.tolist(), seeds=ours.tolist(), **found, gap=gap.tolist())
        if found["sd"]:
            row[part]["within_3_sd"] = (np.abs(gap) <= 3 * np.array(found["sd"])[:epochs]).tolist()
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


def run(chosen: options.Replicate) -> None:
    """Trains all networks; after each, writes the table as text and JSON, and the figure."""
    parts.check_least(chosen, seeds=1, reward_epochs=1, update_batch=1)
    parts.check_least(chosen.data, train_images=1, test_images=1)
    networks = {name: parts.published(name) for name in chosen.model}
    reference = json.loads(REFERENCE.read_text())
    rows = []
    for network in networks:
        results = [train.train(options_of(chosen, network, seed), in_order=True) for seed in range(chosen.seeds)]
        rows.append(compare(network, results, reference, chosen))
        shown = table(rows)
        files.write_json(chosen.out / "replication.json", dict(reference=reference["how"], networks=rows))
        tables.write_text(chosen.out / "replication.txt", shown)
        comparisons.replication_picture(chosen.out / "replication.png", rows)
    Console(width=120).print(shown)
    print(f"{chosen.out}: replication.json, replication.png, replication.txt, and a folder for each run")
