"""Runs the networks under the protocol of a recorded run of the PyTorch code, for several seeds, and compares.

python experiments/replicate.py --data_dir DIR      all six networks on MNIST; goes on where it stopped
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import train
from rich.console import Console
from rich.table import Table
from simple_parsing import field

from snnjax import devices, files
from snnjax.app import console, plots
from snnjax.networks import NETWORKS

REFERENCE = Path(__file__).with_name("reference.json")
"""The accuracies of the PyTorch code, and how they were obtained."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What to run; finished runs in the folder are kept, and one that was stopped goes on."""

    networks: tuple[str, ...] = field(default=tuple(NETWORKS), help=f"which networks ({' '.join(NETWORKS)})")
    seeds: int = field(default=5, help="how many runs of each network, with seeds 0, 1, ...")
    dataset: str = field(default="mnist", help="the data set; the recorded figures are of mnist")
    data_dir: Path | None = field(default=None, help="folder of the data set's files")
    train_images: int = field(default=6000, help="the first so many training images")
    test_images: int = field(default=2000, help="the first so many test images")
    reward_epochs: int = field(default=4, help="epochs of the reward phase")
    update_batch: int = field(
        default=1, help="images whose winners are found with the same weights; the recorded runs learn one by one"
    )
    native: bool = field(default=False, help="compiled kernels, several times faster; needs a CPU and a C++ compiler")
    device: str = field(default="auto", help="auto, cpu, gpu or tpu")
    out: Path = field(default=Path("runs/replication"), help="folder of all runs, the table and the figure")


def options_of(options: Options, network: str, seed: int) -> train.Options:
    """One run under the protocol: two epochs of the first layer, four of each other, no early stop."""
    names = ("dataset", "data_dir", "train_images", "test_images", "update_batch", "native", "device")
    stages = len(NETWORKS[network]((6, 28, 28), 10).stages)
    return train.Options(
        model=network,
        epochs=(2, *[4] * (stages - 2), options.reward_epochs),
        batch_size=min(1000, options.train_images),
        patience=0,
        seed=seed,
        out=options.out / network / f"seed{seed}",
        resume=True,
        reuse=False,  # so that the seconds are those of a whole training
        **{name: getattr(options, name) for name in names},
    )


def curves(results: list[dict[str, Any]], part: str) -> np.ndarray:
    """(seeds, epochs) accuracies in training or test."""
    return np.array([[epoch[part]["accuracy"] for epoch in result["epochs"]] for result in results])


def protocol(options: Options) -> dict[str, Any]:
    """What the recorded runs have in common with a run under these options."""
    return dict(dataset=options.dataset, train_images=options.train_images, test_images=options.test_images)


def statistics(values: np.ndarray) -> dict[str, Any]:
    """Mean, standard deviation and 95 % interval of the mean over the seeds, (seeds, epochs); None of one seed."""
    from scipy.stats import t

    count, mean = len(values), values.mean(axis=0)
    if count == 1:
        return dict(mean=mean.tolist(), sd=None, interval95=None)
    spread = values.std(axis=0, ddof=1)
    half = t.ppf(0.975, count - 1) * spread / math.sqrt(count)
    return dict(mean=mean.tolist(), sd=spread.tolist(), interval95=np.stack([mean - half, mean + half], 1).tolist())


def compare(
    network: str, results: list[dict[str, Any]], reference: dict[str, Any], settings: dict[str, Any]
) -> dict[str, Any]:
    """What is known of one network: the recorded accuracies if there are such, ours, and the time that both took."""
    seconds = [sum(phase["seconds"] + phase["compile_seconds"] for phase in result["phases"]) for result in results]
    row: dict[str, Any] = dict(network=network, seeds=len(results), seconds=float(np.mean(seconds)))
    recorded = reference["networks"].get(network, {}) if reference["protocol"] == settings else {}
    row["reference_seconds"] = recorded.get("seconds")
    for part in ("train", "test"):
        ours, theirs = curves(results, part), np.array(recorded.get(part, []))
        row[part] = dict(reference=theirs.tolist(), seeds=ours.tolist(), **statistics(ours))
        epochs = min(len(theirs), ours.shape[1])
        gap = theirs[:epochs] - ours.mean(axis=0)[:epochs]
        row[part]["gap"] = gap.tolist()
        if len(ours) > 1:
            row[part]["within_3_sd"] = (np.abs(gap) <= 3 * ours.std(axis=0, ddof=1)[:epochs]).tolist()
    return row


def table(rows: list[dict[str, Any]]) -> Table:
    """The last epochs side by side, in percent."""
    lines = []
    for row in rows:
        for part in ("train", "test"):
            ours, first = row[part], part == "train"
            last = min(len(curve) for curve in (ours["mean"], ours["reference"]) if curve) - 1
            epochs, faster = ours.get("within_3_sd", []), row["reference_seconds"]
            spread = f" ± {100 * ours['sd'][last]:.1f}" if ours["sd"] else ""
            cells = [row["network"] if first else "", part]
            cells.append(f"{100 * ours['reference'][last]:.1f}" if ours["reference"] else "")
            cells.append(f"{100 * ours['mean'][last]:.1f}{spread}")
            cells.append(" .. ".join(f"{100 * x:.1f}" for x in ours["interval95"][last]) if ours["sd"] else "")
            cells.append(f"{sum(epochs)} of {len(epochs)} within 3 sd" if epochs else "")
            cells.append(f"{row['seconds'] / 60:.1f}" if first else "")
            lines.append([*cells, f"{faster / row['seconds']:.0f}" if first and faster else ""])
    head = ("network", "", "reference", "snnjax", "95 % interval", "every epoch", "minutes", "times faster")
    title = "accuracy in %, training and test, after the last reward epoch that both have"
    return console.table(head, [lines], title, left=2)


def write(rows: list[dict[str, Any]], reference: dict[str, Any], shown: Table, out: Path) -> None:
    """The table as text and JSON, and the figure."""
    files.write_json(out / "replication.json", dict(reference=reference["how"], networks=rows))
    with files.atomic_write(out / "replication.txt") as temporary, temporary.open("w") as file:
        Console(file=file, width=120).print(shown)
    plots.replication_picture(out / "replication.png", rows)


def main(arguments: list[str] | None = None) -> None:
    """Runs from the command line."""
    options = console.options(Options, __doc__, arguments)
    reference = json.loads(REFERENCE.read_text())
    with console.user_errors("Stopped; finished epochs are kept. The same command goes on."):
        console.check_names(options, "networks", NETWORKS)
        console.check_least(options, 1, "seeds", "train_images", "test_images", "reward_epochs", "update_batch")
        devices.choose(options.device)
        rows = []
        for network in options.networks:
            results = [train.run(options_of(options, network, seed)) for seed in range(options.seeds)]
            rows.append(compare(network, results, reference, protocol(options)))
            shown = table(rows)
            write(rows, reference, shown, options.out)
    Console(width=120).print(shown)
    print(f"{options.out}: replication.json, replication.png, replication.txt, and a folder for each run")


if __name__ == "__main__":
    console.run(main)
