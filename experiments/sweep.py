"""Trains many networks side by side: several seeds, and every combination of the numbers given.

python experiments/sweep.py --seeds 4
python experiments/sweep.py --seeds 2 --vary layer1.threshold=10,15,20 layer2.radius=1,2

What is finished is kept, and the same command goes on where it stopped; more seeds or values add to it.
"""

import dataclasses
import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import train
from rich.console import Console
from rich.table import Table
from simple_parsing import field

from snnjax import data, devices
from snnjax.app import console
from snnjax.app.sweeps import SweepFolder
from snnjax.errors import InputError
from snnjax.networks import NETWORKS, Network
from snnjax.training.sweep import Sweep
from snnjax.training.trainer import Trainer


@dataclasses.dataclass(frozen=True)
class Options:
    """What to vary, what to train and on what."""

    vary: tuple[str, ...] = field(
        default=(), help="numbers of the network and their values, as layer1.threshold=10,15,20; a wrong name lists all"
    )
    seeds: int = field(default=1, help="networks of each combination, with seeds 0, 1, ...")
    model: str = field(default="mozafari2018", help=f"the network: {', '.join(NETWORKS)}")
    dataset: str = field(default="digits", help=f"the data set: {', '.join(data.DATASETS)}")
    data_dir: Path | None = field(default=None, help="folder of the data set's files, for all but digits")
    epochs: tuple[int, ...] = field(default=(), help="epochs of each stage, reward phase last; as of train.py")
    batch_size: int | None = field(default=None, help="images after which the reward phase adapts its learning rates")
    train_images: int | None = field(default=None, help="use only the first so many training images")
    test_images: int | None = field(default=None, help="use only the first so many test images")
    at_once: int = field(default=16, help="networks to one program, kept when it ends; more need more memory")
    alone: int = field(
        default=0, help="train the first so many one by one too, once, and tell how much longer it takes"
    )
    native: bool = field(default=False, help="compiled kernels, several times faster; needs a CPU and a C++ compiler")
    device: str = field(default="auto", help="auto, cpu, gpu or tpu")
    out: Path | None = field(default=None, help="folder to write to (runs/sweep_MODEL_DATASET)")


def variants(options: Options) -> list[dict[str, float]]:
    """Every combination of the values to vary, each with every seed.

    Raises:
      ValueError: something that is no name with values.
    """
    console.check_least(options, 1, "seeds")
    values: dict[str, list[float]] = {}
    for each in options.vary:
        name, _, listed = each.partition("=")
        if name in ("seed", *values):
            raise InputError(f"`vary` must name each hyperparameter once, and no seed (--seeds does), got {each!r}")
        try:
            values[name] = [float(value) for value in listed.split(",")]
        except ValueError:
            raise InputError(f"`vary` must be a name and its values, as layer1.threshold=10,15, got {each!r}") from None
        if len(set(values[name])) < len(values[name]):
            raise InputError(f"`vary` must give values that differ, got {each!r}")
    values["seed"] = list(range(options.seeds))
    return [dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())]


def prepare(options: Options) -> tuple[Sweep, Network, dict[str, Any]]:
    """The sweep, the network that all vary, and the settings.

    Raises:
      InputError, OSError: options or data are bad.
    """
    console.check_least(options, 1, "at_once")
    console.check_least(options, 0, "alone")
    ours, theirs = ({each.name for each in dataclasses.fields(kind)} for kind in (Options, train.Options))
    trainer, recorded = train.prepare(train.Options(**{name: getattr(options, name) for name in ours & theirs}))
    if trainer.settings.epochs[-1] < 1:
        raise InputError(f"`epochs` must end with at least 1 of the reward phase, got {trainer.settings.epochs}")
    settings = dataclasses.replace(trainer.settings, patience=0)
    sweep = Sweep(trainer.network, trainer.data, settings, variants(options), at_once=options.at_once)
    return sweep, trainer.network, recorded


def folder_of(options: Options) -> Path:
    """The folder of the sweep."""
    return options.out or Path("runs") / f"sweep_{options.model}_{Path(options.dataset).stem}"


def run(options: Options, screen: Console) -> list[dict[str, Any]]:
    """Trains what is left of a sweep; what is known of each network.

    Raises:
      InputError, OSError: options, data or folder are bad.
    """
    sweep, network, settings = prepare(options)
    with SweepFolder(folder_of(options), sweep, settings) as folder:
        left = len(sweep.networks) - len(folder.state.done)
        count = f"{len(sweep.networks)} networks, {left} to be trained"
        screen.print(f"{network.name} on {sweep.data.name}: {count}; into {folder.path}")
        for note in folder.notes:
            screen.print(note, markup=False)
        with console.Bars(screen) as bars:
            sweep.callback = bars
            networks = folder.run()
        for at, record in enumerate(networks[: options.alone]):
            if "alone_seconds" not in record:
                train_alone(sweep, at, record, screen)
                folder.save()
        return networks


def train_alone(sweep: Sweep, at: int, record: dict[str, Any], screen: Console) -> None:
    """Trains one of the networks by itself, and notes how long that takes and whether it comes to the same."""
    begin = time.perf_counter()
    with console.Bars(screen) as bars:
        settings = dataclasses.replace(sweep.settings, seed=sweep.seeds[at])
        single = Trainer(sweep.networks[at], sweep.data, settings, bars)
        epochs = single.run(single.initial_state()).epochs
    record |= dict(alone_seconds=time.perf_counter() - begin, alone_same=epochs == record["epochs"])


def table(networks: list[dict[str, Any]]) -> Table:
    """Test accuracies of each combination over its seeds, the best first."""
    names = [name for name in networks[0]["variant"] if name != "seed"]
    groups: dict[tuple[float, ...], list[Any]] = {}
    for network in networks:
        groups.setdefault(tuple(network["variant"][name] for name in names), []).append(network["epochs"])
    rows = []
    for values, runs_of in groups.items():
        train, test = (
            100 * np.array([[epoch[part]["accuracy"] for epoch in run] for run in runs_of])
            for part in ("train", "test")
        )
        cells = [spread(each) for each in (train[:, -1], test[:, -1], test.max(axis=1))]
        rows.append((test[:, -1].mean(), [*(f"{value:g}" for value in values), str(len(runs_of)), *cells]))
    lines = [cells for _, cells in sorted(rows, key=lambda row: -row[0])]
    head = (*names, "seeds", "training, last epoch", "test, last epoch", "test, best epoch")
    return console.table(head, [lines], "accuracy in %, over the seeds", left=0)


def spread(values: np.ndarray) -> str:
    """Mean and standard deviation."""
    return f"{values.mean():.1f}" + (f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else "")


def say(networks: list[dict[str, Any]], screen: Console) -> None:
    """How long it took side by side, and how long one by one."""
    seconds = [each["seconds"] + each["compile_seconds"] for each in networks]
    compiling = sum(each["compile_seconds"] for each in networks)
    took = f"{sum(seconds):.1f} s, of which compiling {compiling:.1f}"
    screen.print(f"{len(networks)} networks side by side: {took}; {np.mean(seconds):.2f} s each")
    if single := [network for network in networks if "alone_seconds" in network]:
        each, same = float(np.mean([x["alone_seconds"] for x in single])), sum(x["alone_same"] for x in single)
        times = f"{each:.2f} s each, {each / float(np.mean(seconds)):.1f} times as long"
        screen.print(f"{len(single)} of them one by one: {times}; {same} came to the very same accuracies")


def main(arguments: list[str] | None = None) -> None:
    """Runs from the command line."""
    options = console.options(Options, __doc__, arguments)
    screen = console.screen()
    with console.user_errors("Stopped; finished epochs are kept. The same command goes on."):
        devices.choose(options.device)
        networks = run(options, screen)
    screen.print(table(networks))
    say(networks, screen)
    screen.print(f"{folder_of(options)}: sweep.json, sweep.png, and the weights of each network")


if __name__ == "__main__":
    console.run(main)
