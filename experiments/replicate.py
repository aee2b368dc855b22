"""Runs the networks under the protocol of a recorded run of the PyTorch code, for several seeds, and compares.

python experiments/replicate.py --data_dir DIR      all six networks on MNIST; goes on where it stopped
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import train
from rich.console import Console
from rich.table import Table
from simple_parsing import field

from snnjax import NETWORKS, devices, files
from snnjax.app import console, plots

REFERENCE = Path(__file__).with_name("reference.json")  # accuracies of the PyTorch code, and how they were obtained


@dataclasses.dataclass(frozen=True)
class Options:
    """What to run; finished runs in the folder are kept, and one that was stopped goes on."""

    networks: Sequence[str] = field(tuple(NETWORKS), choices=NETWORKS, nargs="+", required=False, help="which networks")
    seeds: int = field(5, help="runs of each network, with seeds 0, 1, ...")
    dataset: str = field("mnist", help="the data set; the recorded figures are of mnist")
    data_dir: Path | None = field(None, help="folder of the data set's files")
    train_images: int = field(6000, help="use only the first N training images")
    test_images: int = field(2000, help="use only the first N test images")
    reward_epochs: int = field(4, help="epochs of the reward phase")
    update_batch: int = field(1, help="images whose winners are found with the same weights; 1 in the recorded runs")
    native: bool = field(False, help="compiled kernels, several times faster; need a CPU and a C++ compiler")
    device: str = field("auto", choices=devices.KINDS, help="where to run")
    out: Path = field(Path("runs/replication"), help="folder of all runs, the table and the figure")


def options_of(options: Options, network: str, seed: int) -> train.Options:
    """One run under the protocol: two epochs of the first layer, four of each other, no early stop."""
    names = ("dataset", "data_dir", "train_images", "test_images", "update_batch", "native", "device")
    return train.Options(
        model=network,
        epochs=(*NETWORKS[network]().epochs[:-1], options.reward_epochs),
        batch_size=min(1000, options.train_images),
        patience=0,
        seed=seed,
        out=options.out / network / f"seed{seed}",
        resume=True,
        reuse=False,  # so that the seconds are those of a whole training
        **{name: getattr(options, name) for name in names},
    )


def statistics(values: np.ndarray) -> dict[str, Any]:
    """Mean, standard deviation and 95 % interval of the mean over the seeds, (seeds, epochs); None of one seed."""
    from scipy.stats import t

    count, mean = len(values), values.mean(axis=0)
    if count == 1:
        return dict(mean=mean.tolist(), sd=None, interval95=None)
    spread = values.std(axis=0, ddof=1)
    half = t.ppf(0.975, count - 1) * spread / math.sqrt(count)
    return dict(mean=mean.tolist(), sd=spread.tolist(), interval95=np.stack([mean - half, mean + half], 1).tolist())


def compare(network: str, results: list[dict[str, Any]], reference: dict[str, Any], options: Options) -> dict[str, Any]:
    """Our accuracies and time for one network, and those recorded if `options` are of the same protocol."""
    seconds = [sum(phase["seconds"] + phase["compile_seconds"] for phase in result["phases"]) for result in results]
    same = all(getattr(options, name) == value for name, value in reference["protocol"].items())
    recorded = reference["networks"].get(network, {}) if same else {}
    row: dict[str, Any] = dict(network=network, seeds=len(results), seconds=float(np.mean(seconds)))
    row["reference_seconds"] = recorded.get("seconds")
    for part in ("train", "test"):
        ours = np.array([[epoch[part]["accuracy"] for epoch in result["epochs"]] for result in results])
        theirs = np.array(recorded.get(part, []))
        epochs, found = min(len(theirs), ours.shape[1]), statistics(ours)
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
            ours, near = row[part], row[part].get("within_3_sd", [])
            last = min(len(curve) for curve in (ours["mean"], ours["reference"]) if curve) - 1
            recorded = f"{100 * ours['reference'][last]:.1f}" if ours["reference"] else ""
            spread = f" ± {100 * ours['sd'][last]:.1f}" if ours["sd"] else ""
            interval = " .. ".join(f"{100 * x:.1f}" for x in ours["interval95"][last]) if ours["sd"] else ""
            within = f"{sum(near)} of {len(near)} within 3 sd" if near else ""
            lines.append([network, part, recorded, f"{100 * ours['mean'][last]:.1f}{spread}", interval, within, *times])
    head = ("network", "", "reference", "snnjax", "95 % interval", "every epoch", "minutes", "times faster")
    title = "accuracy in %, training and test, after the last reward epoch that both have"
    return console.table(head, [lines], title, left=2)


@console.command(Options, __doc__, "Stopped; finished epochs are kept. The same command goes on.")
def main(options: Options) -> None:
    """Trains all networks; after each, writes the table as text and JSON, and the figure."""
    console.check_least(options, seeds=1, train_images=1, test_images=1, reward_epochs=1, update_batch=1)
    reference, rows = json.loads(REFERENCE.read_text()), []
    for network in options.networks:
        results = [train.run(options_of(options, network, seed)) for seed in range(options.seeds)]
        rows.append(compare(network, results, reference, options))
        shown = table(rows)
        files.write_json(options.out / "replication.json", dict(reference=reference["how"], networks=rows))
        with files.atomic_write(options.out / "replication.txt") as temporary, temporary.open("w") as file:
            Console(file=file, width=120).print(shown)
        plots.replication_picture(options.out / "replication.png", rows)
    Console(width=120).print(shown)
    print(f"{options.out}: replication.json, replication.png, replication.txt, and a folder for each run")


if __name__ == "__main__":
    console.run(main)
