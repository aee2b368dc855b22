"""Trains many networks at once, in one program: several seeds, and every combination of the hyperparameters given.

python experiments/sweep.py --seeds 4
python experiments/sweep.py --seeds 2 --vary layer1.threshold=10,15,20 layer2.winners=4,8

What is finished is kept, and the same command goes on where it stopped.
"""

import dataclasses
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import train
from rich.console import Console
from rich.table import Table
from simple_parsing import field

from snnjax import checkpoint, data, devices, files
from snnjax.app import console, plots, runs
from snnjax.errors import InputError
from snnjax.networks import NETWORKS
from snnjax.training.sweep import Sweep, check, plain
from snnjax.training.trainer import Trainer


@dataclasses.dataclass(frozen=True)
class Options:
    """What to vary, what to train and on what."""

    vary: tuple[str, ...] = field(
        default=(), help="hyperparameters and their values, as layer1.threshold=10,15,20; a wrong name lists all"
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
    if options.seeds < 1:
        raise InputError(f"`seeds` must be at least 1, got {options.seeds}")
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


def prepare(options: Options) -> tuple[Trainer, list[dict[str, float]], dict[str, Any]]:
    """A trainer of the network that all vary, the variants, and the settings of the sweep.

    Raises:
      ValueError, OSError: options or data are bad.
    """
    for name, least in (("at_once", 1), ("alone", 0)):
        if getattr(options, name) < least:
            raise InputError(f"`{name}` must be at least {least}, got {getattr(options, name)}")
    ours, theirs = ({each.name for each in dataclasses.fields(kind)} for kind in (Options, train.Options))
    trainer, recorded = train.prepare(train.Options(**{name: getattr(options, name) for name in ours & theirs}))
    if trainer.settings.epochs[-1] < 1:
        raise InputError(f"`epochs` must end with at least 1 of the reward phase, got {trainer.settings.epochs}")
    wanted = variants(options)
    for variant in wanted:
        check(trainer.spec, variant)
    return trainer, wanted, {name: value for name, value in recorded.items() if name not in ("seed", "patience")}


def known(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What an earlier start of the same sweep has left, or an empty result.

    Raises:
      ValueError: another sweep has left something here.
    """
    fresh = dict(settings=json.loads(json.dumps(settings)), networks=[], programs=[])
    if not path.exists():
        return fresh
    found = json.loads(path.read_text())
    if found["settings"] != fresh["settings"]:
        different = [name for name in fresh["settings"] if found["settings"].get(name) != fresh["settings"][name]]
        raise InputError(f"`out` {path.parent} holds a sweep of other settings ({', '.join(different)}): name another")
    return found


def carry_out(options: Options, screen: Console) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Trains group after group, and writes what is known after each: the result, and the networks of this sweep.

    Raises:
      ValueError, OSError: options, data or folder are bad.
    """
    where = devices.choose(options.device)
    trainer, wanted, settings = prepare(options)
    out = folder_of(options)
    out.mkdir(parents=True, exist_ok=True)
    with files.lock(out):
        result = known(out / "sweep.json", settings)
        result["about"] = dict(device=runs.device_name(where), versions=runs.versions())
        left = [each for each in wanted if each not in [network["variant"] for network in result["networks"]]]
        kind = f"{trainer.spec.name} on {trainer.data.name}"
        screen.print(f"{kind}: {len(wanted)} networks, {len(left)} to be trained; into {out}")
        for start in range(0, len(left), options.at_once):
            train_together(trainer, left[start : start + options.at_once], result, out, screen)
            write(out, result, wanted)
        networks = [network for network in result["networks"] if network["variant"] in wanted]
        for network in networks[: options.alone]:
            if "alone_seconds" not in network:
                train_alone(trainer, network, screen)
        write(out, result, wanted)
    return result, networks


def folder_of(options: Options) -> Path:
    """The folder of the sweep."""
    return options.out or Path("runs") / f"sweep_{options.model}_{options.dataset}"


def train_together(
    trainer: Trainer, group: list[dict[str, float]], result: dict[str, Any], out: Path, screen: Console
) -> None:
    """Trains networks in one program, keeps their weights, and adds them to the result."""
    begin = time.perf_counter()
    with console.Bars(screen) as bars:
        sweep = Sweep(trainer.spec, trainer.data, trainer.settings, group, bars)
        trained = sweep.run()
    seconds = time.perf_counter() - begin
    compiling = sum(phase["compile_seconds"] for phase in sweep.phases)
    result["programs"].append(dict(networks=len(group), seconds=seconds, compile_seconds=compiling))
    for network in trained:
        name = f"weights_{len(result['networks']):03d}.npz"
        checkpoint.save(out / name, network.pop("weights"), {})
        result["networks"].append(dict(network, weights=name, program=len(result["programs"]) - 1))


def train_alone(trainer: Trainer, network: dict[str, Any], screen: Console) -> None:
    """Trains one of the networks by itself, and notes how long that takes and whether it comes to the same."""
    begin, variant = time.perf_counter(), network["variant"]
    settings = dataclasses.replace(trainer.settings, seed=int(variant["seed"]), patience=0)
    with console.Bars(screen) as bars:
        single = Trainer(plain(trainer.spec, variant), trainer.data, settings, bars)
        epochs = single.run(single.initial_state()).epochs
    network |= dict(alone_seconds=time.perf_counter() - begin, alone_same=epochs == network["epochs"])


def write(out: Path, result: dict[str, Any], wanted: list[dict[str, float]]) -> None:
    """The results as JSON, and the networks of this sweep as a figure: the folder may hold more, of earlier ones."""
    with files.atomic_write(out / "sweep.json") as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")
    plots.sweep_picture(out / "sweep.png", [each for each in result["networks"] if each["variant"] in wanted])


def table(networks: list[dict[str, Any]]) -> Table:
    """Test accuracies of each combination over its seeds, the best first."""
    names = [name for name in networks[0]["variant"] if name != "seed"]
    shown = Table(title="accuracy in %, over the seeds", title_justify="left")
    for name in (*names, "seeds", "training, last epoch", "test, last epoch", "test, best epoch"):
        shown.add_column(name, justify="right")
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
    for _, cells in sorted(rows, key=lambda row: -row[0]):
        shown.add_row(*cells)
    return shown


def spread(values: np.ndarray) -> str:
    """Mean and standard deviation."""
    return f"{values.mean():.1f}" + (f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else "")


def say(result: dict[str, Any], networks: list[dict[str, Any]], screen: Console) -> None:
    """How long it took, program by program, and how long one by one."""
    for program in (result["programs"][at] for at in sorted({network["program"] for network in networks})):
        count, seconds = program["networks"], program["seconds"]
        took = f"{seconds:.1f} s, of which compiling {program['compile_seconds']:.1f}"
        screen.print(f"{count} networks together: {took}; {seconds / count:.2f} s each")
    if single := [network for network in networks if "alone_seconds" in network]:
        programs = [result["programs"][network["program"]] for network in single]
        together = float(np.mean([program["seconds"] / program["networks"] for program in programs]))
        each = float(np.mean([network["alone_seconds"] for network in single]))
        same = sum(network["alone_same"] for network in single)
        times = f"{each:.2f} s each, {each / together:.1f} times as long"
        screen.print(f"{len(single)} of them one by one: {times}; {same} came to the very same accuracies")


def main(arguments: list[str] | None = None) -> None:
    """Runs from the command line."""
    options = console.options(Options, __doc__, arguments)
    screen = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
    with console.user_errors("Stopped; finished groups of --at_once networks are kept. The same command goes on."):
        result, networks = carry_out(options, screen)
    screen.print(table(networks))
    say(result, networks, screen)
    screen.print(f"{folder_of(options)}: sweep.json, sweep.png, and the weights of each network")


if __name__ == "__main__":
    console.run(main)
