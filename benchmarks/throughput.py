"""Measures the phases of a training in milliseconds an image, alone or beside the PyTorch reference and Spyker.

python benchmarks/throughput.py --short                     one network, within a minute
python benchmarks/throughput.py --reference DIR --spyker    all networks, with a checkout of github.com/aidinattar/snn
                                                            and Spyker: pip install 'snnjax[benchmark,spyker]'
"""

import contextlib
import dataclasses
import datetime
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import ours
import pictures
from programs import Learning, Task, folder
from rich.console import Console
from rich.table import Table
from simple_parsing import field
from worker import Worker

from snnjax import data, devices, files
from snnjax.app import console
from snnjax.errors import InputError
from snnjax.networks import NETWORKS, Network
from snnjax.training.trainer import Settings, network_for

PAUSE = 0.3
"""Seconds between the turns of two programs: threads of the last one may spin for so long."""
ALIKE = 0.9
"""The least share of decisions that must agree with the reference's."""
EQUAL = 1e-5
"""Weights that differ no more are taken for equal; a change of a weight is hundreds of times larger."""
NATIVE = "snnjax, native"
"""The program on compiled kernels."""
SPYKER = {"Spyker, batches of 1": 1, "Spyker, batches of 64": 64}
"""Programs by name, with their batches."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure, on what, and against what."""

    networks: tuple[str, ...] = field(default=tuple(NETWORKS), help=f"which networks ({' '.join(NETWORKS)})")
    dataset: str = field(default="digits", help=f"the data set: {', '.join(data.DATASETS)}")
    data_dir: Path | None = field(default=None, help="folder of the data set's files, for all but digits")
    images: int = field(default=300, help="use the first so many training and as many test images")
    repeats: int = field(default=5, help="how often each phase is measured, after once that does not count")
    reference: Path | None = field(default=None, help="checkout of github.com/aidinattar/snn to measure side by side")
    spyker: bool = field(default=False, help="measure Spyker side by side (mozafari2018 only, on the CPU)")
    native: bool = field(default=False, help="measure snnjax on its compiled kernels too, on a CPU")
    protocol: int = field(default=0, help="how often to run whole trainings too, up to two minutes for each network")
    device: str = field(default="auto", help="auto, cpu, gpu or tpu; on a gpu the reference runs there too")
    short: bool = field(default=False, help="mozafari2018, 60 images and 2 repeats at most, no whole trainings")
    out: Path | None = field(default=None, help="folder to write to (runs/throughput_TIME)")


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A whole training: the images and epochs of the recorded runs of the reference, with more reward epochs."""

    train_images: int = 6000
    test_images: int = 2000
    reward_epochs: int = 20

    def epochs(self, spec: Network) -> tuple[int, ...]:
        """Two of the first layer, four of each other, then reward."""
        return (2, *[4] * (len(spec.stages) - 2), self.reward_epochs)


def prepare(options: Options) -> tuple[Options, data.Dataset, Path]:
    """The options that hold, all images and the folder to write to.

    Raises:
      ValueError, OSError: options or data are bad.
    """
    if options.short:
        less = {name: min(getattr(options, name), most) for name, most in (("images", 60), ("repeats", 2))}
        options = dataclasses.replace(options, networks=("mozafari2018",), protocol=0, **less)
    for network in options.networks:
        if network not in NETWORKS:
            raise InputError(f"`networks` must be of {', '.join(NETWORKS)}, got {network!r}")
    if not options.networks:
        raise InputError(f"`networks` must name at least one of {', '.join(NETWORKS)}")
    for name, least in (("images", 1), ("repeats", 1), ("protocol", 0)):
        if getattr(options, name) < least:
            raise InputError(f"`{name}` must be at least {least}, got {getattr(options, name)}")
    if options.device not in devices.KINDS:
        raise InputError(f"`device` must be one of {', '.join(devices.KINDS)}, got {options.device!r}")
    if options.reference and not (options.reference / "model" / "mozafari2018.py").is_file():
        where = options.reference
        raise InputError(f"`reference` {where} is no checkout of aidinattar/snn: it has no model/mozafari2018.py")
    if options.spyker and "mozafari2018" not in options.networks:
        raise InputError("`spyker` is measured with mozafari2018 only, which `networks` does not name")
    images = data.load(options.dataset, options.data_dir)
    if (options.reference or options.spyker) and images.train_images.ndim > 3:
        raise InputError(f"other programs are measured on grey images only, those of {images.name} have colours")
    return options, images, folder(options.out, "throughput")


@contextlib.contextmanager
def programs(options: Options, network: str) -> Iterator[list[Worker]]:
    """The programs that take part, snnjax first, each in a process of its own."""
    with contextlib.ExitStack() as stack:
        own = ("snnjax", NATIVE) if options.native else ("snnjax",)
        workers = [stack.enter_context(Worker(name, "ours", *ours_as(name, options))) for name in own]
        if options.reference:
            device = "cuda" if workers[0].about["platform"] == "gpu" else "cpu"
            workers.append(stack.enter_context(Worker("reference", "reference", options.reference, device)))
        if options.spyker and network == "mozafari2018":
            workers += [stack.enter_context(Worker(name, "with_spyker", batch)) for name, batch in SPYKER.items()]
        yield workers


def ours_as(program: str, options: Options) -> tuple[Any, ...]:
    """The arguments of snnjax as one of the programs; none if the program is another."""
    return {"snnjax": (options.device,), NATIVE: ("cpu", True)}.get(program, ())


def task_of(spec: Network, images: data.Dataset, first: Worker, batch_size: int) -> Task:
    """What the others are to do after snnjax has learned."""
    weights, latencies = first.ask("learned")
    learning = tuple(
        Learning(
            name,
            phase.stage,
            phase.layer or list(weights)[-1],
            phase.branch,
            len(spec.stages[phase.stage].branches),
            rewarded=not phase.layer,
        )
        for name, phase in ours.phases_of(spec)
    )
    return Task(
        network=spec.name,
        classes=spec.classes,
        time_steps=spec.time_steps,
        stages=len(spec.stages),
        learning=learning,
        images=ours.all_images(images),
        latencies=latencies,
        labels=images.train_labels,
        test_labels=images.test_labels,
        weights=weights,
        batch_size=batch_size,
    )


def measure(workers: list[Worker], repeats: int, start: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Milliseconds an image of each phase of each program, the programs taking turns phase by phase.

    Args:
      workers: snnjax first.
      repeats: that count.
      start: the weights that the learning phases start from.

    Returns:
      For each phase and program: phase, program, ms_per_image (the median), min, max, ms (of each repeat),
      compile_seconds and once; of the other programs also the ratio to snnjax, and the share of alike outcomes.
    """
    times: dict[tuple[str, str], list[float]] = {}
    for repeat in range(repeats + 1):  # the first does not count
        for phase in workers[0].phases:
            turn = [worker for worker in workers if phase in worker.phases]
            for worker in turn[repeat % len(turn) :] + turn[: repeat % len(turn)]:
                time.sleep(PAUSE if len(turn) > 1 else 0)
                times.setdefault((phase, worker.name), []).append(worker.ask("measure", phase))
    rows = []
    for phase in workers[0].phases:
        mine = statistics.median(times[phase, workers[0].name][1:])
        expected = workers[0].ask("outcome", phase)
        for worker in (worker for worker in workers if phase in worker.phases):
            ms = times[phase, worker.name][1:]
            about = {key: worker.phases[phase][key] for key in ("compile_seconds", "once")}
            median, ratio, same = statistics.median(ms), None, None
            if worker is not workers[0]:
                ratio, same = median / mine, alike(expected, worker.ask("outcome", phase), start.get(phase))
            row = dict(phase=phase, program=worker.name, ms_per_image=median, min=min(ms), max=max(ms), ms=ms)
            rows.append({**row, **about, "ratio": ratio, "alike": same})
    return rows


def alike(ours: np.ndarray, theirs: np.ndarray, start: np.ndarray | None = None) -> float:
    """The share of latencies or decisions that agree; of weights, of those that either program changed from `start`."""
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    counts = np.ones(ours.shape, bool)
    if start is not None:
        counts = (abs(ours - start) > EQUAL) | (abs(theirs - start) > EQUAL)
    return float((abs(ours - theirs) <= EQUAL)[counts].mean()) if counts.any() else 1.0


def whole(
    spec: Network, images: data.Dataset, rows: list[dict[str, Any]], options: Options, protocol: Protocol = Protocol()
) -> list[dict[str, Any]]:
    """Seconds of a whole training of each program: snnjax's measured, with all compilation; the others' added up.

    Each run of snnjax is in a process of its own, so that none finds anything compiled.
    """
    images = images.first(protocol.train_images, protocol.test_images)
    epochs, count = protocol.epochs(spec), (len(images.train_images), len(images.test_images))
    settings, found = Settings(epochs, batch_size=min(1000, count[0]), patience=0), list[dict[str, Any]]()
    common = dict(train_images=count[0], test_images=count[1], epochs=epochs)
    for program in dict.fromkeys(row["program"] for row in rows):
        if arguments := ours_as(program, options):
            runs = []
            for _ in range(options.protocol):
                with Worker(program, "ours", *arguments) as worker:
                    runs.append(worker.ask("train", spec, images, settings))
            seconds, compiling = ([run[key] for run in runs] for key in ("seconds", "compile_seconds"))
            row = dict(how="measured", seconds=statistics.median(seconds), min=min(seconds), max=max(seconds))
            row |= dict(compile_seconds=statistics.median(compiling), accuracy=runs[0]["accuracy"])
            row["ms_per_image"] = runs[0]["ms_per_image"]
        else:
            ms = {row["phase"]: row["ms_per_image"] for row in rows if row["program"] == program}
            row = dict(how="added up", seconds=added_up(ms, spec, epochs, *count))
        ratio = row["seconds"] / found[0]["seconds"] if found else None
        found.append(dict(program=program, ratio=ratio, **common, **row))
    return found


def added_up(ms: dict[str, float], spec: Network, epochs: tuple[int, ...], train: int, test: int) -> float:
    """Seconds of a whole training from milliseconds an image of its phases: all images once, then each epoch."""
    total = (train + test) * ms["encode"] + epochs[-1] * test * ms["test"]
    total += sum(phase.epochs * train * ms[name] for name, phase in ours.phases_of(spec, epochs))
    return total / 1e3


def table(result: dict[str, Any]) -> Table:
    """What was measured of one network: a line for each phase and program."""
    shown = Table(title=f"{result['network']}: milliseconds an image", title_justify="left")
    compared = len(result["memory"]) > 1
    comparison = ("ratio", "alike") if compared else ()
    for name in ("phase", "program", "median", "least .. most", *comparison, "compiling s"):
        shown.add_column(name, justify="left" if name in ("phase", "program") else "right")
    for row in result["phases"]:
        if first := row["program"] == "snnjax":
            shown.add_section()
        times = f"{row['ms_per_image']:.3g}", f"{row['min']:.3g} .. {row['max']:.3g}"
        ratio = ("", "") if row["ratio"] is None else (f"{row['ratio']:.1f}", f"{row['alike']:.1%}")
        compiling = f"{row['compile_seconds']:.1f}" if row["compile_seconds"] else ""
        shown.add_row(row["phase"] if first else "", row["program"], *times, *(ratio if compared else ()), compiling)
    return shown


def say(result: dict[str, Any], screen: Console) -> None:
    """Prints what was measured of one network."""
    screen.print(table(result))
    for program, ratios in result["in_one_epoch"].items():
        if program == NATIVE:
            continue
        listed = ", ".join(f"{phase} {ratio:.1f}" for phase, ratio in ratios.items())
        screen.print(f"ratios to {program} with all that is done once counted into one epoch: {listed}")
    for row in result["protocol"]:
        times = f" (of which compiling {row['compile_seconds']:.1f})" if row["how"] == "measured" else ""
        ratio = "" if row["ratio"] is None else f", ratio {row['ratio']:.1f}"
        screen.print(f"whole training, {row['program']}, {row['how']}: {row['seconds']:.1f} s{times}{ratio}")
    for program, memory in result["memory"].items():
        device = f", {memory['device_bytes'] / 2**20:.0f} MiB on the device" if memory["device_bytes"] else ""
        sizes = f"{memory['peak_bytes'] / 2**20:.0f} MiB, {memory['loaded_bytes'] / 2**20:.0f} before the first image"
        screen.print(f"peak memory, {program}: {sizes}{device}")


def in_one_epoch(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """By program and phase, the ratios if a single epoch had to pay for the outputs of frozen layers."""
    paid, mine = dict.fromkeys(("snnjax", NATIVE), 0.0), 0.0
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        program, ms = row["program"], row["ms_per_image"]
        if program in paid:
            paid[program] += ms * row["once"]
        if program == "snnjax":
            mine = ms + paid[program]
        elif paid["snnjax"] and not row["once"] and row["phase"] != "test":
            found.setdefault(program, {})[row["phase"]] = (ms + paid.get(program, 0.0)) / mine
    return found


def notes(options: Options) -> list[str]:
    """What the figures mean, and what is not like for like."""
    found = [
        "Medians, after one run that does not count. Compilation, once a run, is apart. Nothing is measured from "
        "random weights: snnjax learns a little first, and every repeat of every program starts from those weights."
    ]
    if options.native:
        found.append(
            f"{NATIVE}: the same program on its kernels in C++, which were compiled before; its seconds of compilation "
            "are XLA's alone. They round otherwise, so that near-ties part. R-STDP is the same code, but in deepr2024."
        )
    if options.reference or options.spyker:
        found += [
            "ratio: median over snnjax's. alike: the share of latencies and decisions that are snnjax's; of the "
            "weights that either program has changed, the share that agrees to 0.00001.",
            "snnjax learns from outputs of frozen layers that it computes once for all epochs, in the phases without "
            "a ratio; the other programs compute them anew for every image.",
            "Phases but encode start from encoded images: latencies in snnjax, byte waves made before in the others.",
            "snnjax spreads images that do not depend on each other over all cores, the reference and Spyker the "
            "parts of an operation. Learning is image after image, but in Spyker's batches of 64.",
        ]
    if options.reference:
        found.append("The reference encodes on the CPU whatever the device, as in its training program.")
    if options.spyker:
        found += [
            "Spyker's own encoding: its filters are not scaled alike, nothing is normalised locally, and the bins of "
            "its rank order differ by an image's remainder. Its other phases start from snnjax's encoded images.",
            "Spyker in batches of 64 chooses the winners of a batch by the weights at its start, and doubles rates "
            "between batches: another, coarser algorithm. It clips the winners' weights only.",
        ]
    if options.protocol:
        found.append(
            "Whole training: snnjax was run from images to last epoch, with all compilation; the other programs' "
            "seconds are their milliseconds an image times the images of each phase, since running them takes long."
        )
    return found


def markdown(results: list[dict[str, Any]], about: dict[str, Any]) -> str:
    """A table of networks by phases: milliseconds of snnjax, and how many times longer the others take.

    Where snnjax ran on compiled kernels too, a slash follows, and how many times longer than those.
    """
    names = {row["phase"] for result in results for row in result["phases"] if not row["once"]}
    order = {"encode": 0, "R-STDP": 2, "test": 3}
    columns = sorted(names, key=lambda name: (order.get(name, 1), name))
    columns += [pictures.TRAINING] * any(result["protocol"] for result in results)
    lines = [f"| network | | {' | '.join(columns)} |", "| --- | --- |" + " --- |" * len(columns)]

    def add(name: str, label: str, cells: dict[str, str]) -> None:
        lines.append(" | ".join([f"| {name}".rstrip(), label, *(cells.get(column, "") for column in columns)]) + " |")

    for result in results:
        ratios, single = pictures.bars_of(result, "ratio"), result["in_one_epoch"]
        for program in result["memory"]:
            if ours_as(program, Options()):
                times = pictures.bars_of(result, "ms_per_image")[program]
                cells = {phase: f"{ms:.3g}" for phase, ms in times.items()}
                seconds = [row["seconds"] for row in result["protocol"] if row["program"] == program]
                cells[pictures.TRAINING] = f"{seconds[0]:.0f} s" if seconds else ""
                add(result["network"] if program == "snnjax" else "", f"{program}, ms an image", cells)
                for row in result["protocol"]:
                    if row["program"] == program and "ms_per_image" in row:
                        add("", "in its whole training", {k: f"{ms:.3g}" for k, ms in row["ms_per_image"].items()})
            else:
                add("", f"{program}, times longer", longer(ratios, program))
                if program in single:
                    add("", "the same, one epoch alone", longer(single, program))
    lines += ["", caption(about)]
    others = [name for name in about["devices"] if not ours_as(name, Options())]
    if others:
        alone = "it has to pay for the outputs of frozen layers, which are computed once for all epochs."
        lines.append(f"One epoch alone: {alone}")
    if others and NATIVE in about["devices"]:
        lines.append(f"After a slash, how many times longer than {NATIVE}.")
    return "\n".join([*lines, ""])


def longer(ratios: dict[str, dict[str, float]], program: str) -> dict[str, str]:
    """By phase, how many times longer than snnjax a program takes, and than snnjax on compiled kernels."""
    native = ratios.get(NATIVE, {})
    return {
        phase: f"{ratio:.1f}" + (f" / {ratio / native[phase]:.1f}" if phase in native else "")
        for phase, ratio in ratios[program].items()
    }


def caption(about: dict[str, Any]) -> str:
    """On what and how the figures were obtained."""
    named = ("snnjax", "jax", "torch", "spyker")
    versions = ", ".join(f"{name} {about['versions'][name]}" for name in named if name in about["versions"])
    devices = {name: device.replace(f": {about['processor']}", "") for name, device in about["devices"].items()}
    where = "; ".join(f"{program} on {device}" for program, device in devices.items())
    return (
        f"{about['dataset']}, {about['images'][0]} training and {about['images'][1]} test images, "
        f"medians of {about['repeats']} repeats, {about['date']}, {about['processor']}; {where}; {versions}."
    )


def write(out: Path, about: dict[str, Any], results: list[dict[str, Any]], remarks: list[str]) -> None:
    """The measurements as JSON, as a Markdown table and as a figure."""
    with files.atomic_write(out / "throughput.json") as temporary:
        temporary.write_text(json.dumps(dict(about=about, notes=remarks, networks=results), indent=1) + "\n")
    with files.atomic_write(out / "throughput.md") as temporary:
        temporary.write_text(markdown(results, about))
    pictures.throughput(out / "throughput.png", results, caption(about).split("; ")[0])


def carry_out(options: Options, images: data.Dataset, out: Path, screen: Console) -> list[dict[str, Any]]:
    """Measures network after network, prints and writes what is known after each.

    Raises:
      ValueError, RuntimeError: a program cannot start, or fails.
      OSError: the folder cannot be written.
    """
    few, remarks = images.first(options.images, options.images), notes(options)
    results: list[dict[str, Any]] = []
    about: dict[str, Any] = dict(
        date=str(datetime.date.today()),
        dataset=images.name,
        images=(len(few.train_images), len(few.test_images)),
        repeats=options.repeats,
        load=os.getloadavg()[0],
        versions={},
        devices={},
    )
    if about["load"] > 1:
        screen.print(f"[yellow]Others are at work here (load {about['load']:.1f}): times and ratios mean little.[/]")
    for name in options.networks:
        spec = network_for(NETWORKS[name], few)
        # Layers that learn by turns change places after a batch; else all images are one batch, at the first rates.
        batch_size = -(-len(few.train_images) // (2 if spec.reward_by_turns else 1))
        with programs(options, name) as workers:
            about["processor"] = workers[0].about["processor"]
            for worker in workers:
                about["versions"] |= worker.about["versions"]
                about["devices"][worker.name] = worker.about["device"]
            if not results:
                screen.print(caption(about))
            workers[0].prepare((spec, few, batch_size, {}))
            start: dict[str, np.ndarray] = {}
            if len(workers) > 1:
                task = task_of(spec, few, workers[0], batch_size)
                for worker in workers[1:]:
                    own = (spec, few, batch_size, task.weights)
                    worker.prepare(own if worker.name == NATIVE else task)
                start = {phase.name: task.weights[phase.layer] for phase in task.learning}
            rows = measure(workers, options.repeats, start)
            memory = {worker.name: worker.ask("memory") for worker in workers}
        trained = whole(spec, images, rows, options) if options.protocol else []
        single = in_one_epoch(rows)
        results.append(dict(network=name, phases=rows, in_one_epoch=single, protocol=trained, memory=memory))
        say(results[-1], screen)
        write(out, about, results, remarks)
    for number, remark in enumerate(remarks, 1):
        screen.print(f"{number}. {remark}", soft_wrap=False)
    screen.print(f"{out}: throughput.json, throughput.md, throughput.png")
    return results


def main(arguments: list[str] | None = None) -> None:
    """Runs from the command line."""
    options = console.options(Options, __doc__, arguments)
    try:
        options, images, out = prepare(options)
    except (InputError, OSError) as error:
        console.fail(error)
    screen = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
    try:
        results = carry_out(options, images, out, screen)
    except (ValueError, OSError) as error:
        console.fail(error)
    except RuntimeError as error:
        console.fail(error, 1)
    except KeyboardInterrupt:
        console.stop(f"Stopped; what was measured of finished networks is in {out}.")
    for result in results:
        for row in result["phases"]:
            if (row["phase"], row["program"]) == ("test", "reference") and row["alike"] < ALIKE:
                share = f"only {row['alike']:.1%} of the decisions agree"
                console.fail(f"{result['network']}: the programs do not compute the same: {share}", 1)


if __name__ == "__main__":
    console.run(main)
