"""`snnjax sweep`: trains many networks side by side."""

import contextlib
import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from snnjax import InputError, Sweep
from snnjax.app import console, lookup, options, planning, shared_options
from snnjax.app.comparisons import draw_sweep
from snnjax.app.main import COMMAND
from snnjax.core import checks, devices
from snnjax.core.components import TYPES, check_component
from snnjax.core.metrics import ranking, tested_part
from snnjax.encoding import ENCODERS
from snnjax.layers.conv import WTA
from snnjax.networks.joins import Concatenate, EarliestSpike, Flatten, LatestSpike
from snnjax.runs.sweep_folder import SweepFolder
from snnjax.training import workers
from snnjax.training.advice import SILENT_SHARE
from snnjax.training.groups import Group, Outcome, Variant, named, words
from snnjax.training.sweep import Choice

MOST = 100_000  # maximum number of networks in a sweep


def choices(chosen: options.Sweep) -> dict[str, list[float] | list[str]]:
    """The values to vary, by name: numbers or names of components. Raises InputError if options are invalid."""
    values: dict[str, list[float] | list[str]] = {}
    for option in chosen.vary:
        name, _, listed = option.partition("=")
        parts = listed.split(",")
        numeric = [is_number(part) for part in parts]
        wanted = ""
        if name in ("seed", *values):
            wanted = "name each hyperparameter once, and no seed (--seeds does)"
        elif not all(parts):
            examples = "layer1.threshold=10,15 or layer1.learners=STDP,FILE.py:NAME"
            wanted = f"be a name and its values without blanks, as {examples}"
        elif any(numeric) and not all(numeric):
            wanted = "give numbers or names of components, not both"
        if wanted:
            raise InputError(f"`vary` must {wanted}, got {option!r}")
        values[name] = [float(part) for part in parts] if all(numeric) else parts
        checks.distinct(f"vary of {name}", values[name])
    if (count := chosen.seeds * math.prod(map(len, values.values()))) > MOST:
        raise InputError(f"`seeds` and `vary` must make at most {MOST:,} networks, got {count:,}")
    return values


def is_number(text: str) -> bool:
    """Whether a value of `--vary` is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def combinations_of(values: Mapping[str, Sequence[Any]], seeds: int) -> list[Variant]:
    """All combinations of the values, by name, each with all seeds."""
    every = dict(values, seed=range(seeds))
    return [dict(zip(every, combination, strict=True)) for combination in itertools.product(*every.values())]


def table_of(path: str) -> Mapping[str, Any]:
    """The components, by name, that may be at a path in a network; empty if they can only come from a file."""
    kind = next(part for part in reversed(path.split(".")) if not part.isdigit())
    if kind in ("learners", "decision"):
        method = dict(learners="update", decision="decide")[kind]
        return {name: cls for name, cls in TYPES.items() if hasattr(cls, method)}
    joins = (Concatenate, EarliestSpike, Flatten, LatestSpike)
    tables: dict[str, Mapping[str, Any]] = {
        "encoder": ENCODERS,
        "competition": {"WTA": WTA},
        "join": {cls.__name__: cls for cls in joins},
    }
    return tables.get(kind, {})


def component(option: str, path: str, name: str, own: Any) -> Any:
    """The component that a value of `--vary` names, which replaces `own`; raises InputError if there is none.

    If the value names a class, the component is `own` if that is an instance of it; otherwise the class is called
    without arguments.
    """
    table = table_of(path)
    if not table and ":" not in name:
        raise InputError(f"`{option}` must be FILE.py:NAME, no component has a name there: got {name!r}")
    found = lookup.find(option, name, table)
    if type(own) is found:
        return own
    try:
        made = found() if isinstance(found, type) else found
    except TypeError as error:
        wanted = "name an instance of it, as FILE.py:NAME"
        raise InputError(f"`vary` {option}={name}: {found.__name__} needs arguments, {wanted}: {error}") from error
    check_component(f"vary: {option}={name}", made)
    return made


def shared(variants: Sequence[Variant], group: Sequence[int]) -> list[str]:
    """The values that are common to all variants of a group, but not to all variants of the sweep."""
    first = variants[group[0]]
    common = [name for name in first if all(variants[index][name] == first[name] for index in group)]
    return [
        f"{name}={words(first[name])}" for name in common if any(variant[name] != first[name] for variant in variants)
    ]


def counted(networks: int) -> str:
    """The number of networks, as text."""
    return f"{networks} network{'s' * (networks != 1)}"


def accuracy_of(outcome: Outcome) -> str:
    """The mean accuracy of the best epochs in a group and the number of invalid networks, or its error, as text."""
    if outcome.error:
        return f"stopped: {outcome.error}"
    best = [record["epochs"][record["best_epoch"]] for record in outcome.records if record["epochs"]]
    words = list[str]()
    if best:
        part = tested_part(best[0])
        words.append(f"{part} {np.mean([epoch[part]['accuracy'] for epoch in best]):.1%}")
    if invalid := sum("error" in record for record in outcome.records):
        words.append(f"{invalid} invalid")
    return f"done: {', '.join(words)}"


def workers_of(chosen: options.Sweep, modules: Sequence[str]) -> contextlib.AbstractContextManager[workers.Workers]:
    """The workers that options request, which first import custom modules; by default, the present process."""
    if chosen.scheduler is not None:
        checks.only_for("workers", chosen.workers, f"this machine, `scheduler` {chosen.scheduler} has its own")
    ready = functools.partial(planning.ready, chosen.machine.device, tuple(modules))
    if chosen.scheduler is not None:
        return workers.cluster(chosen.scheduler, ready)
    if (chosen.workers or 1) == 1:
        return contextlib.nullcontext(workers.SERIAL)
    if (platform := devices.local_devices()[0].platform) != "cpu":
        raise InputError(f"`workers` share the cores of a CPU, got the device {platform}: use 1, or `device` cpu")
    return workers.processes(checks.integer("workers", chosen.workers, 1), ready)


def train_remaining(folder: SweepFolder, given: workers.Workers) -> list[dict[str, Any]]:
    """Trains the remaining networks of a sweep and shows the progress; returns the records of all networks."""
    groups = folder.groups(given.count)
    sweep = folder.sweep
    names = {group.places: f"program {number} of {len(groups)}" for number, group in enumerate(groups, 1)}
    total = sum(map(len, names))
    begin = time.perf_counter()
    done = 0

    def remaining() -> list[str]:
        spent = time.perf_counter() - begin
        return [console.left(spent / done * (total - done))] if 0 < done < total else []

    def heading(group: Group) -> str:
        nonlocal done
        special = [counted(len(group.places)), *shared(sweep.labels, group.places), *remaining()]
        if not given.executor:  # groups are trained one after another
            done += len(group.places)
        return f"{names[group.places]}: {', '.join(special)}"

    def ending(outcome: Outcome) -> str:
        nonlocal done
        done += len(outcome.group.places)
        return ", ".join([f"{names[outcome.group.places]} {accuracy_of(outcome)}", *remaining()])

    bars = console.Programs(total, heading, ending) if given.executor else console.Bars(heading)
    sweep.callback = bars
    with bars:
        return folder.run(given)


def prepare(chosen: options.Sweep, fold: int | None = None) -> tuple[Sweep, dict[str, Any], Path]:
    """The sweep of a fold, the data to save with its results, and its folder."""
    shared_options.check_least(chosen, seeds=1, at_once=1, workers=1)
    values: dict[str, Sequence[Any]] = dict(choices(chosen))
    lookup.import_all(chosen.network.modules)
    files = {}
    for option, listed in values.items():
        for value in listed:
            if isinstance(value, str) and (file := value.rpartition(":")[0]):
                lookup.import_one(file, option)
                files[file] = option
    imported = tuple(dict.fromkeys([*chosen.network.modules, *files]))
    network = dataclasses.replace(chosen.network, modules=imported)
    plan, path = planning.plan_run(
        network, chosen.data, chosen.training, chosen.machine, out=chosen.out, kind="sweep_", fold=fold
    )
    trainer = plan.trainer()
    if trainer.job.phases[-1].epochs < 1:
        raise InputError(f"`epochs` must end with at least 1 supervised epoch, got {trainer.settings.epochs}")
    for option, listed in values.items():
        if isinstance(listed[0], str):
            place = trainer.network.component_path(option)
            own = trainer.network.components()[place]
            found = {name: component(option, place, name, own) for name in listed}
            checks.distinct(f"vary of {option}", [*found.values()])
            made = dict.fromkeys(found)
            if option == "encoder":
                made = {name: planning.network_of(network, trainer.data, encoder=part) for name, part in found.items()}
            values[option] = [Choice(part, name, made[name]) for name, part in found.items()]
    sweep = Sweep(
        trainer.network,
        trainer.data,
        dataclasses.replace(trainer.settings, patience=0),
        combinations_of(values, chosen.seeds),
        at_once=chosen.at_once,
    )
    return sweep, dict(plan.source), path


def table(networks: list[dict[str, Any]], over: str = "seeds") -> Table:
    """A table of the accuracies of each combination over its seeds and folds, the best combination first.

    It includes test accuracies if all networks of the combination were tested.
    """
    names = [name for name in networks[0]["variant"] if name != "seed"]
    combinations = ranking(networks)
    lines = []
    part = tested_part(networks[combinations[0][0]]["epochs"][0])
    for places in combinations:
        several = [networks[index] for index in places]
        last = [network["epochs"][-1] for network in several]
        best = [network["epochs"][network["best_epoch"]] for network in several]
        columns = [[epoch["train"] for epoch in last], [epoch[part] for epoch in last]]
        if part == "validation":
            columns.append([epoch[part] for epoch in best])
        if all("test" in network for network in several):
            columns.append([network["test"] for network in several])
        values = (words(networks[places[0]]["variant"][name]) for name in names)
        means = (console.in_lines(console.mean_of(percent(column), 1)) for column in columns)
        lines.append([*values, str(len(places)), *means])
    head = [*names, over, "training, last epoch", f"{part}, last epoch"]
    head += ["validation, best epoch"] * (part == "validation") + ["test, best epoch"]
    title = "accuracy in %" + f", {console.MEAN}, over the {over}" * (max(map(len, combinations)) > 1)
    return console.table(head, [lines], title, left=0)


def percent(records: Iterable[dict[str, Any]]) -> np.ndarray:
    """The accuracies in records, in %."""
    return np.array([100 * record["accuracy"] for record in records])


def times(networks: list[dict[str, Any]]) -> list[str]:
    """A line about the training time of the networks; none if all of them are invalid."""
    networks = [network for network in networks if "error" not in network]
    if not networks:
        return []
    compiling = sum(network["compile_seconds"] for network in networks)
    total = compiling + sum(network["seconds"] for network in networks)
    seconds = total / len(networks)
    took = f"{total:.1f} s, of which compiling {compiling:.1f}; {seconds:.2f} s each"
    return [f"{counted(len(networks))} side by side: {took}"]


def shares(diagnosis: dict[str, Any]) -> list[float]:
    """The shares of images for which each learning layer, or else a stage or the whole network, is silent."""
    silent = diagnosis.get("silent", 0.0)
    return [*silent.values()] if isinstance(silent, dict) else [silent]


def problems(networks: list[dict[str, Any]]) -> list[str]:
    """Lines about networks that became invalid, are silent for most images, or got a different threshold."""
    lines = []
    for network in networks:
        variant = named(network["variant"])
        if "error" in network:
            lines.append(f"{network['error']}; to train it again, choose another folder (`out`)")
        elif silent := [x for x in network["diagnoses"].values() if max(shares(x)) > SILENT_SHARE]:
            lines.append(f"{variant}: {'; '.join(dict.fromkeys(x['words'][-1] for x in silent))}")
        for title, diagnosis in network.get("diagnoses", {}).items():
            if title.startswith("start of "):  # its rule chose another number than the sweep
                lines.append(f"{variant}: {title.removeprefix('start of ')}: {diagnosis['words'][0]}")
    return lines


def run(chosen: options.Sweep) -> None:
    """Runs the sweep once, or for each fold; in the latter case, prints the accuracies over all folds."""
    folds = chosen.data.folds
    if folds is None:
        run_one(chosen)
        return
    networks = list[dict[str, Any]]()
    tests = list[float]()
    for fold in console.each_fold(folds):
        trained = run_one(chosen, fold)
        networks += trained
        tests.append(percent(network["test"] for network in trained if "test" in network).mean())
    screen = console.screen()
    screen.print(table(networks, "folds" if chosen.seeds == 1 else "folds and seeds"))
    best = f"test accuracy over {folds} folds, of the best combination in each"
    screen.print(f"[bold]{best} {console.mean_of(np.array(tests), 2)} %[/]", console.MEAN, sep="\n")


def run_one(chosen: options.Sweep, fold: int | None = None) -> list[dict[str, Any]]:
    """Trains the remaining networks of a sweep, prints accuracies and times, and returns the records of all."""
    screen = console.screen()
    sweep, about, path = prepare(chosen, fold)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(SweepFolder(path, sweep, about=about, command=COMMAND.get(), draw=draw_sweep))
        given = stack.enter_context(workers_of(chosen, about["imports"]))
        count = f"{len(sweep.networks)} networks, {len(sweep.networks) - len(folder.state.done)} to be trained"
        back_end = console.back_end(folder.settings)
        head = f"{sweep.network.name} on {sweep.data.name}: {count}, {back_end}; into {path}"
        order = [console.order(folder.settings)] * bool(console.order(folder.settings))
        screen.print(head, *console.notes(sweep.data), *order, *folder.notes, sep="\n", markup=False)
        with folder.explain_losses():
            networks = train_remaining(folder, given)
    if all("error" in network for network in networks):
        raise InputError("; ".join(["learning left all networks invalid", *problems(networks)]))
    files = f"{path}: sweep.json, sweep.png, and the weights of each network"
    screen.print(table(networks), *problems(networks), *times(networks), files, sep="\n", markup=False)
    return networks
