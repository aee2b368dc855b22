"""Measures the phases of a training run in milliseconds per image, optionally in alternation with other programs.

experiments/docs/notes/speed.md explains what is measured, and where the comparison is not like for like.
"""

import collections
import contextlib
import dataclasses
import datetime
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import common
import numpy as np
from common import Row
from programs import Worker
from rich.console import Console
from snnjax_program import shown

from snnjax import InputError, Network, data
from snnjax.app import console, lookup, shared_options
from snnjax.app.main import command_options, fail, protected
from snnjax.app.names import RECORDED
from snnjax.app.shared_options import option
from snnjax.training.job import phases_of
from snnjax.training.run_plan import network_for
from snnjax.training.state import Settings


class Study(NamedTuple):
    """Networks that are measured in the same way, and the programs with which they are compared."""

    models: tuple[str, ...]
    program: str  # class of the snnjax program, which prepares the phases
    options: tuple[str, ...]  # options that apply only to this study


STUDIES = {
    "reward": Study(RECORDED, "Program", ("reference", "protocol")),
    "readout": Study(("goupy2024_ncg", "goupy2024_s2stdp"), "TargetTimeReadout", ("spikenn",)),
    "softhebb": Study(("goupy2024_softhebb", "softhebb_narrow"), "SoftHebb", ()),
}
CHECKOUTS = dict(reference=("aidinattar/snn", "model/mozafari2018.py"), spikenn=("ggoupy/SpikeNN", "spikenn/snn.py"))
"""The GitHub repository of each option, and a file in it."""
XLA = "snnjax, XLA"
NATIVE = "snnjax, native"
SNNJAX = dict(xla=XLA, native=NATIVE)
"""The names of snnjax in the tables, by back end."""
TRAINING = "whole training"
ORDER = ("encode", "STDP", "TargetTime", "one", "outputs", "R-STDP", "SupervisedSTDP", "learn", "features", "test")
"""The first words of the names of phases, in the order of a training run."""
# Seconds between the turns of two programs: threads of the previous program may still spin, and PyTorch can be ten or
# more times slower while other programs use the cores.
PAUSE = 0.3
ALIKE = 0.9  # minimum share of decisions that agree with the reference's
EQUAL = 1e-5  # maximum difference of equal weights; an update changes a weight by hundreds of times more
PROTOCOL = (6000, 2000, 20)  # images of the reference's recorded runs, and more reward epochs than theirs


@dataclasses.dataclass(frozen=True)
class Options(common.Options):
    """Measure the phases of a training run in milliseconds per image, optionally in alternation with other programs.

    $ python benchmarks/throughput.py --short                   one network, within a minute
    $ python benchmarks/throughput.py --reference DIR           with a checkout of github.com/aidinattar/snn
    $ python benchmarks/throughput.py --study readout --spikenn DIR     a checkout of github.com/ggoupy/SpikeNN
    """

    device: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """device of the measured programs; the parent process uses none"""
    study: Literal["reward", "readout", "softhebb"] = "reward"
    """networks that learn by reward, or readouts on target-time features, or SoftHebb layers"""
    model: Annotated[tuple[str, ...], option("NAME ...", "those of the study")] = ()
    """names of the networks; those of the study `reward` are the eight of the reference"""
    images: int = 300
    """number of training images, and of test images"""
    repeats: int = 5
    """number of measurements of each phase, after one run that is not counted"""
    reference: Annotated[Path | None, option("DIR", "none")] = None
    """checkout of github.com/aidinattar/snn, for a comparison"""
    spikenn: Annotated[Path | None, option("DIR", "none")] = None
    """checkout of github.com/ggoupy/SpikeNN, for a comparison"""
    backend: tuple[Literal["auto", "xla", "native"], ...] = ("auto",)
    """back ends of snnjax; auto is the default of training runs. All programs are compared with the first one"""
    protocol: int = 0
    """number of complete training runs, up to two minutes each; 0: none"""
    short: bool = False
    """only the study's first network, at most 60 images and 2 repeats, and no complete training runs"""

    def snnjax(self, backend: str) -> Worker:
        """Starts a program of snnjax, which is named after its back end."""
        kind = f"snnjax_program:{STUDIES[self.study].program}"
        worker = Worker("snnjax", kind, "cpu" if backend == "native" else self.device, backend)
        worker.name = SNNJAX[worker.about["backend"]]
        return worker


def prepare(options: Options) -> tuple[Options, data.Dataset]:
    """The effective options, and all images; raises InputError or OSError if options or data are invalid."""
    models = options.model or STUDIES[options.study].models
    if options.short:
        images = min(options.images, 60)
        repeats = min(options.repeats, 2)
        options = dataclasses.replace(options, images=images, repeats=repeats, protocol=0)
        models = STUDIES[options.study].models[:1]
    options = dataclasses.replace(options, model=models)
    shared_options.check_least(options, images=1, repeats=1, protocol=0)
    chosen = options.backend
    if not chosen or len(set(chosen)) < len(chosen):
        raise InputError(f"`backend` must be auto, xla, native or two of them, got {' '.join(chosen) or 'none'}")
    for name in models:
        lookup.published(name)
    for study, its in STUDIES.items():
        if study != options.study and (wrong := [name for name in its.options if getattr(options, name)]):
            raise InputError(f"`{wrong[0]}` applies only to `study` {study}, got {options.study}")
    for name, (repository, file) in CHECKOUTS.items():
        if (folder := getattr(options, name)) and not (folder / file).is_file():
            raise InputError(f"`{name}` {folder} is not a checkout of {repository}: it has no {file}")
    source = data.load(options.dataset, options.data_dir)
    if options.reference and source.train_images.ndim > 3:
        raise InputError(f"`reference` requires grey images, but {source.name} has colour images")
    return options, source


def start(options: Options, stack: contextlib.ExitStack) -> list[Worker]:
    """Starts the programs, snnjax first; `stack` ends them."""
    workers = [stack.enter_context(options.snnjax(backend)) for backend in options.backend]
    if len({worker.name for worker in workers}) < len(workers):
        raise InputError(f"`backend` must name different back ends, got auto and {workers[0].about['backend']}")
    others: list[tuple[Any, ...]] = []
    if options.reference:
        device = "cuda" if workers[0].about["platform"] == "gpu" else "cpu"
        others.append(("reference", "reference_program:Program", options.reference, device))
    if options.spikenn:
        others.append(("SpikeNN", "spikenn_program:Program", options.spikenn))
    return workers + [stack.enter_context(Worker(*arguments)) for arguments in others]


def measure(workers: list[Worker], repeats: int) -> list[Row]:
    """Measures a row for each phase and program: milliseconds per image, ratio to snnjax, share of equal outcomes.

    The programs, snnjax first, take turns in each phase. Learning starts from the weights of the first program.
    """
    times: dict[tuple[str, str], list[float]] = collections.defaultdict(list)
    taking_part = {phase: [worker for worker in workers if phase in worker.phases] for phase in workers[0].phases}
    for repeat in range(repeats + 1):  # the first does not count
        for phase, turn in taking_part.items():
            # Each repeat begins with a different program, so that no program always follows the same one.
            first = repeat % len(turn)
            for worker in turn[first:] + turn[:first]:
                time.sleep(PAUSE if len(turn) > 1 else 0)
                times[phase, worker.name].append(worker.ask("measure", phase))
    rows: list[Row] = []
    for phase, turn in taking_part.items():
        expected = turn[0].ask("outcome", phase)
        initial = turn[0].ask("initial", phase)
        ours = statistics.median(times[phase, turn[0].name][1:])
        for worker in turn:
            row: Row = dict(phase=phase, program=worker.name, ratio=None, alike=None, ms=times[phase, worker.name][1:])
            row |= common.summary("ms_per_image", row["ms"]) | worker.phases[phase]
            if worker is not turn[0]:
                row["ratio"] = row["ms_per_image"] / ours
                row["alike"] = alike(expected, worker.ask("outcome", phase), initial)
            rows.append(row)
    return rows


def alike(ours: np.ndarray, theirs: np.ndarray, start: np.ndarray | None = None) -> float:
    """The share of equal latencies, decisions or weights, without weights that neither program changed from `start`."""
    ours = np.asarray(ours, float)
    theirs = np.asarray(theirs, float)
    equal = abs(ours - theirs) <= EQUAL
    if start is not None:
        equal = equal[(abs(ours - start) > EQUAL) | (abs(theirs - start) > EQUAL)]
    return float(equal.mean()) if equal.size else 1.0


def whole_training(name: str, images: data.Dataset, rows: list[Row], options: Options) -> list[Row]:
    """The seconds of a whole training run: measured for snnjax, with compilation, and added up for other programs."""
    *most, reward = PROTOCOL
    images = images.subset(*most)
    network = network_for(lookup.published(name), images)
    epochs = (*network.epochs[:-1], reward)
    trainings = list[Row]()
    count = dict(train_images=len(images.train_images), test_images=len(images.test_images))
    settings = Settings(epochs, adapt_every=min(1000, count["train_images"]), patience=0)
    backends = {name: backend for backend, name in SNNJAX.items()}
    for program in dict.fromkeys(row["program"] for row in rows):
        if program in SNNJAX.values():
            runs = []
            for _ in range(options.protocol):
                with options.snnjax(backends[program]) as worker:  # a new process, in which nothing is compiled yet
                    runs.append(worker.ask("train", network, images, settings))
            compiling = statistics.median(run["compile_seconds"] for run in runs)
            row = dict(runs[0], how="measured", compile_seconds=compiling)
            row |= common.summary("seconds", [run["seconds"] for run in runs])
        else:
            ms = {row["phase"]: row["ms_per_image"] for row in rows if row["program"] == program}
            row = dict(how="added up", seconds=added_up(ms, network, images, settings))
        ratio = row["seconds"] / trainings[0]["seconds"] if trainings else None
        trainings.append(dict(row, program=program, ratio=ratio, epochs=epochs, **count))
    return trainings


def added_up(ms: dict[str, float], network: Network, images: data.Dataset, settings: Settings) -> float:
    """The seconds of a whole training run, calculated from the milliseconds per image of its phases.

    All images are encoded once; each epoch counts fully, and each epoch of the last stage includes a test.
    """
    train = len(images.train_images)
    test = len(images.test_images)
    learning = sum(phase.epochs * train * ms[shown(phase.name)] for phase in phases_of(network, images, settings))
    return ((train + test) * ms["encode"] + learning + settings.epochs[-1] * test * ms["test"]) / 1e3


def measure_network(name: str, images: data.Dataset, options: Options, about: Row) -> Row:
    """Measures one network for throughput.json; adds versions and devices to `about`."""
    few = images.subset(options.images, options.images)
    network = network_for(lookup.published(name), few)
    # Layers that learn alternately take turns after each interval. Otherwise all images form one interval, in which the
    # initial rates apply.
    adapt_every = -(-len(few.train_images) // (2 if network.reward_by_turns else 1))
    with contextlib.ExitStack() as stack:
        workers = start(options, stack)
        first = workers[0]
        about["processor"] = first.about["processor"]
        for worker in workers:
            about["versions"] |= worker.about["versions"]
            about["devices"][worker.name] = worker.about["device"]
        first.prepare((network, few, adapt_every, None))
        for worker in workers[1:]:
            if worker.name in SNNJAX.values():
                worker.prepare((network, few, adapt_every, first.ask("trained")))
            else:
                worker.prepare(first.ask("task"))
        rows = measure(workers, options.repeats)
    protocol = whole_training(name, images, rows, options) if options.protocol else []
    return dict(network=name, phases=rows, protocol=protocol)


def show(result: Row, screen: Console) -> None:
    """Prints the measurements of one network."""
    sections: list[list[list[str]]] = []
    for row in result["phases"]:
        first = row["program"] == result["phases"][0]["program"]
        if first:
            sections.append([])
        cells = [row["phase"] if first else "", row["program"], f"{row['ms_per_image']:.3g}"]
        cells += [f"{row['min']:.3g} .. {row['max']:.3g}", f"{row['compile_seconds']:.1f}"]
        sections[-1].append(cells if first else [*cells, f"{row['ratio']:.1f}", f"{row['alike']:.1%}"])
    head = ("phase", "program", "median", "least .. most", "compiling s", "ratio", "alike")
    screen.print(console.table(head, sections, f"{result['network']}: milliseconds per image", left=2))


def values_of(result: Row, key: str) -> dict[str, dict[str, float]]:
    """Values by program and phase; ratios include the whole training run, but not phases that are computed once."""
    values: dict[str, dict[str, float]] = {}
    for row in result["phases"] + (result["protocol"] if key == "ratio" else []):
        if row[key] is not None and not (key == "ratio" and row.get("once")):
            values.setdefault(row["program"], {})[row.get("phase", TRAINING)] = row[key]
    return values


def markdown(results: list[Row], about: Row) -> str:
    """The table of networks and phases: milliseconds of snnjax, and its speed-ups over the other programs."""
    names = {row["phase"] for result in results for row in result["phases"] if not row["once"]}
    columns = sorted(names, key=lambda name: (ORDER.index(name.split()[0]), name))
    columns += [TRAINING] * any(result["protocol"] for result in results)
    lines = []
    for result in results:
        for index, (label, cells) in enumerate(entries(result)):
            lines.append(["" if index else result["network"], label, *(cells.get(column, "") for column in columns)])
    notes = []
    if set(SNNJAX.values()) < set(about["devices"]):
        notes.append(f"After a slash, the speed-up of {NATIVE}.")
    return common.markdown(["network", "", *columns], lines, caption(about), *notes)


def entries(result: Row) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the lines of the table for one network: a label, and cells by phase."""
    times = values_of(result, "ms_per_image")
    ratios = values_of(result, "ratio")
    trainings = {row["program"]: row for row in result["protocol"]}
    for program in times:
        if program in SNNJAX.values():
            training = trainings.get(program, {})
            cells = {phase: f"{ms:.3g}" for phase, ms in times[program].items()}
            if training:
                cells[TRAINING] = f"{training['seconds']:.0f} s"
            yield f"{program}, ms per image", cells
            if "ms_per_image" in training:
                yield "in its whole training", {phase: f"{ms:.3g}" for phase, ms in training["ms_per_image"].items()}
        else:
            yield f"speed-up over {program}", speed_ups(ratios, program)


def speed_ups(ratios: dict[str, dict[str, float]], program: str) -> dict[str, str]:
    """The speed-up of snnjax over a program by phase, followed by that of the back end "native"."""
    native = ratios.get(NATIVE, {})
    cells = {}
    for phase, ratio in ratios[program].items():
        cells[phase] = f"{ratio:.1f} / {ratio / native[phase]:.1f}" if phase in native else f"{ratio:.1f}"
    return cells


def caption(about: Row) -> str:
    """A line with the data set, repeats, date, devices and versions."""
    versions = about["versions"]
    processor = about["processor"]
    train, test = about["images"]
    named = [name for name in ("snnjax", "jax", "torch", "numba") if name in versions]
    listed = ", ".join(f"{name} {versions[name]}" for name in named)
    devices = [f"{name} on {device.replace(f': {processor}', '')}" for name, device in about["devices"].items()]
    counts = f"{train} training and {test} test images, medians of {about['repeats']} repeats"
    return "; ".join([f"{about['dataset']}, {counts}, {about['date']}, {processor}", *devices, f"{listed}."])


@contextlib.contextmanager
def failing() -> Iterator[None]:
    """Exits with a message if a measured program refuses a request, with status 2, or fails, with status 1."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        fail("throughput.py", error, 2 if isinstance(error, ValueError) else 1)


@failing()
def run(options: Options) -> None:
    """Measures one network after another; prints and writes all results after each network."""
    options, images = prepare(options)
    out = options.folder("throughput")
    screen = console.screen()
    counts = tuple(min(options.images, len(part)) for part in (images.train_images, images.test_images))
    about: Row = dict(date=str(datetime.date.today()), dataset=images.name, images=counts, repeats=options.repeats)
    about |= dict(load=os.getloadavg()[0], versions={}, devices={})
    if about["load"] > 1:
        screen.print(f"[yellow]Other programs are running (load {about['load']:.1f}): figures are unreliable.[/]")
    results: list[Row] = []
    for name in options.model:
        results.append(measure_network(name, images, options, about))
        if len(results) == 1:
            screen.print(caption(about))
        show(results[-1], screen)
        table = markdown(results, about)
        written = common.write(out, "throughput", dict(about=about, networks=results), table)
    screen.print(table, "experiments/docs/notes/speed.md explains the numbers.", written, sep="\n", markup=False)
    for result in results:
        for row in result["phases"]:
            if (row["phase"], row["program"]) == ("test", "reference") and row["alike"] < ALIKE:
                text = f"{result['network']}: only {row['alike']:.1%} of the reference's decisions are alike"
                raise RuntimeError(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the options, by default those of the command line, and measures."""
    with command_options("python benchmarks/throughput.py", Options, arguments, common.STOPPED) as chosen:
        run(chosen)


if __name__ == "__main__":
    with protected():
        main()
