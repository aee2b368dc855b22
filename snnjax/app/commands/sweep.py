"""`snnjax sweep`: trains many networks side by side."""

import dataclasses
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from snnjax import InputError, Sweep, Trainer
from snnjax.app import console, options, parts, report
from snnjax.app.commands import train
from snnjax.app.main import COMMAND
from snnjax.app.runs import SweepFolder
from snnjax.metrics import ranking, tested_part
from snnjax.training.engine import Engine
from snnjax.training.trainer import Variant

STOPPED = "Stopped; finished epochs are kept. The same command goes on."


def variants(chosen: options.Sweep) -> list[dict[str, float]]:
    """Every combination of the values to vary, each with every seed."""
    values: dict[str, list[float]] = {}
    for each in chosen.vary:
        name, _, listed = each.partition("=")
        if name in ("seed", *values):
            raise InputError(f"`vary` must name each hyperparameter once, and no seed (--seeds does), got {each!r}")
        try:
            values[name] = [float(value) for value in listed.split(",")]
        except ValueError:
            wanted = "a name and its values, numbers without blanks, as layer1.threshold=10,15"
            raise InputError(f"`vary` must be {wanted}, got {each!r}") from None
        if len(set(values[name])) < len(values[name]):
            raise InputError(f"`vary` must give values that differ, got {each!r}")
    values["seed"] = list(range(chosen.seeds))
    return [dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())]


class Headed(Sweep):
    """A sweep that says which networks train next, above their bars."""

    def engine(self, group: Sequence[int]) -> Engine:
        if isinstance(self.callback, console.Bars):
            number = next(at for at, each in enumerate(self.groups, 1) if group[0] in each)
            words = ", ".join([f"{len(group)} network{'s' * (len(group) > 1)}", *shared(self.variants, group)])
            self.callback.heading(f"program {number} of {len(self.groups)}: {words}")
        return super().engine(group)


def shared(variants: Sequence[Variant], group: Sequence[int]) -> list[str]:
    """What the variants of a group have in common and not all others have."""
    first = variants[group[0]]
    alike = [name for name in first if all(variants[at][name] == first[name] for at in group)]
    return [f"{name}={first[name]:g}" for name in alike if any(each[name] != first[name] for each in variants)]


def prepare(chosen: options.Sweep) -> tuple[Sweep, dict[str, Any], Path]:
    """The sweep, what is kept of the options with its results, and its folder."""
    parts.check_least(chosen, seeds=1, at_once=1, alone=0)
    varied = variants(chosen)
    what = chosen.network, chosen.data, chosen.training, chosen.machine
    trainer, about, path = train.prepare(*what, chosen.out, "sweep_")
    if trainer.plan[-1].epochs < 1:
        raise InputError(f"`epochs` must end with at least 1 supervised epoch, got {trainer.settings.epochs}")
    settings = dataclasses.replace(trainer.settings, patience=0)
    return Headed(trainer.network, trainer.data, settings, varied, at_once=chosen.at_once), about, path


def train_alone(sweep: Sweep, at: int, record: dict[str, Any]) -> None:
    """Trains one of the networks by itself; records its time, and whether its accuracies are the same."""
    begin = time.perf_counter()
    with console.Bars() as bars:
        settings = dataclasses.replace(sweep.settings, seed=sweep.seeds[at])
        single = Trainer(sweep.networks[at], sweep.data, settings, bars)
        epochs = single.run(single.initial_state()).epochs
    record |= dict(alone_seconds=time.perf_counter() - begin, alone_same=epochs == record["epochs"])


def table(networks: list[dict[str, Any]]) -> Table:
    """Accuracies of each combination over its seeds, the best first; those that are not tested have none in test."""
    names, part = [name for name in networks[0]["variant"] if name != "seed"], tested_part(networks[0]["epochs"][0])
    lines = []
    for places in ranking(networks):
        accuracies = []
        for network in (networks[at] for at in places):
            last, best = network["epochs"][-1], network["epochs"][network["best_epoch"]]
            found = last["train"], last[part], best.get("validation"), network.get("test")
            accuracies.append([100 * each["accuracy"] for each in found if each])
        values = (f"{networks[places[0]]['variant'][name]:g}" for name in names)
        lines.append([*values, str(len(places)), *map(spread, np.array(accuracies).T)])
    head = [*names, "seeds", "training, last epoch", f"{part}, last epoch"]
    head += ["validation, best epoch"] * (part == "validation") + ["test, best epoch"]
    return console.table(head, [lines], "accuracy in %, over the seeds", left=0)


def spread(values: np.ndarray) -> str:
    """Mean and standard deviation."""
    return f"{values.mean():.1f}" + (f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else "")


def times(networks: list[dict[str, Any]]) -> list[str]:
    """How long the networks took side by side, and how long one by one."""
    compiling, running = (sum(network[name] for network in networks) for name in ("compile_seconds", "seconds"))
    total, each = compiling + running, (compiling + running) / len(networks)
    took = f"{total:.1f} s, of which compiling {compiling:.1f}; {each:.2f} s each"
    lines = [f"{len(networks)} networks side by side: {took}"]
    if single := [network for network in networks if "alone_seconds" in network]:
        alone = sum(network["alone_seconds"] for network in single) / len(single)
        same = sum(network["alone_same"] for network in single)
        took = f"{alone:.2f} s each, {alone / each:.1f} times as long"
        lines.append(f"{len(single)} of them one by one: {took}; {same} reached exactly the same accuracies")
    return lines


def run(chosen: options.Sweep) -> None:
    """Trains what is left of a sweep, and prints its accuracies and times."""
    screen, (sweep, about, path) = console.screen(), prepare(chosen)
    with SweepFolder(path, sweep, about=about, command=COMMAND.get()) as folder:
        count = f"{len(sweep.networks)} networks, {len(sweep.networks) - len(folder.state.done)} to be trained"
        kernels = report.kernels(folder.settings)
        head = f"{sweep.network.name} on {sweep.data.name}: {count}, on {kernels}; into {path}"
        order = [report.order(folder.settings)] * bool(report.order(folder.settings))
        screen.print(head, *sweep.data.notes, *order, *folder.notes, sep="\n", markup=False)
        with console.Bars() as sweep.callback:
            networks = folder.run()
        for at, record in enumerate(networks[: chosen.alone]):
            if "alone_seconds" not in record:
                words = ", ".join(f"{name}={value:g}" for name, value in sweep.variants[at].items())
                screen.print(f"alone: network {at + 1} of {min(chosen.alone, len(networks))}, {words}", markup=False)
                train_alone(sweep, at, record)
                folder.save()
    files = f"{path}: sweep.json, sweep.png, and the weights of each network"
    screen.print(table(networks), *times(networks), files, sep="\n", markup=False)
