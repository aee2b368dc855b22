"""Measures the phases of a training in milliseconds an image, alone or beside the PyTorch reference and Spyker.

python benchmarks/throughput.py --short                     one network, within a minute
python benchmarks/throughput.py --reference DIR --spyker    all networks, with a checkout of github.com/aidinattar/snn
                                                            and Spyker: pip install 'snnjax[benchmark,spyker]'
"""

import contextlib
import dataclasses
import datetime
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common
import numpy as np
import pictures
import throughput_report
from programs import Learning, Task
from rich.console import Console
from simple_parsing import field
from snnjax_program import all_images, phases_of
from throughput_report import NATIVE, OWN, caption
from worker import Worker

from snnjax import data, devices, files
from snnjax.app import console
from snnjax.errors import InputError
from snnjax.networks import NETWORKS, Network
from snnjax.training.state import Settings
from snnjax.training.trainer import network_for

PAUSE = 0.3
"""Seconds between the turns of two programs: threads of the last one may spin for so long."""
ALIKE = 0.9
"""The least share of decisions that must agree with the reference's."""
EQUAL = 1e-5
"""Weights that differ no more are taken for equal; a change of a weight is hundreds of times larger."""
Row = dict[str, Any]
"""What is known of one phase, network or training: JSON data."""
PROTOCOL = (6000, 2000, 20)
"""Training and test images of the recorded runs of the reference, and more reward epochs than theirs."""
SPYKER = {"Spyker, batches of 1": 1, "Spyker, batches of 64": 64}
"""Programs by name, with their batches."""


@dataclasses.dataclass(frozen=True)
class Options(common.Options):
    """What to measure, on what, and against what."""

    networks: tuple[str, ...] = field(default=tuple(NETWORKS), help=f"which networks ({' '.join(NETWORKS)})")
    images: int = field(default=300, help="use the first so many training and as many test images")
    repeats: int = field(default=5, help="how often each phase is measured, after once that does not count")
    reference: Path | None = field(
        default=None, help="checkout of github.com/aidinattar/snn to measure side by side, on a gpu if snnjax is there"
    )
    spyker: bool = field(default=False, help="measure Spyker side by side (mozafari2018 only, on the CPU)")
    native: bool = field(default=False, help="measure snnjax on its compiled kernels too, on a CPU")
    protocol: int = field(default=0, help="how often to run whole trainings too, up to two minutes for each network")
    short: bool = field(default=False, help="mozafari2018, 60 images and 2 repeats at most, no whole trainings")

    def check(self) -> None:
        """Raises InputError where an option is bad."""
        console.check_names(self, "networks", NETWORKS)
        console.check_least(self, 1, "images", "repeats")
        console.check_least(self, 0, "protocol")
        if self.device not in devices.KINDS:
            raise InputError(f"`device` must be one of {', '.join(devices.KINDS)}, got {self.device!r}")
        if self.reference and not (self.reference / "model" / "mozafari2018.py").is_file():
            missing = "is no checkout of aidinattar/snn: it has no model/mozafari2018.py"
            raise InputError(f"`reference` {self.reference} {missing}")
        if self.spyker and "mozafari2018" not in self.networks:
            raise InputError("`spyker` is measured with mozafari2018 only, which `networks` does not name")

    def snnjax(self, program: str) -> tuple[Any, ...]:
        """The arguments of snnjax as one of its programs."""
        return ("cpu", True) if program == NATIVE else (self.device,)


def prepare(options: Options) -> tuple[Options, data.Dataset, Path]:
    """The options that hold, all images and the folder to write to.

    Raises:
      InputError, OSError: options or data are bad.
    """
    if options.short:
        less = {name: min(getattr(options, name), most) for name, most in (("images", 60), ("repeats", 2))}
        options = dataclasses.replace(options, networks=("mozafari2018",), protocol=0, **less)
    options.check()
    images = data.load(options.dataset, options.data_dir)
    if (options.reference or options.spyker) and images.train_images.ndim > 3:
        raise InputError(f"other programs are measured on grey images only, those of {images.name} have colours")
    return options, images, options.folder("throughput")


@contextlib.contextmanager
def programs(options: Options, network: str) -> Iterator[list[Worker]]:
    """The programs that take part, snnjax first, each in a process of its own."""
    with contextlib.ExitStack() as stack:

        def start(name: str, module: str, *arguments: Any) -> Worker:
            return stack.enter_context(Worker(name, module, *arguments))

        own = OWN if options.native else OWN[:1]
        workers = [start(name, "snnjax_program", *options.snnjax(name)) for name in own]
        if options.reference:
            device = "cuda" if workers[0].about["platform"] == "gpu" else "cpu"
            workers.append(start("reference", "reference_program", options.reference, device))
        if options.spyker and network == "mozafari2018":
            workers += [start(name, "spyker_program", batch) for name, batch in SPYKER.items()]
        yield workers


def task_of(network: Network, images: data.Dataset, first: Worker, batch_size: int) -> Task:
    """What the others are to do after snnjax has learned."""
    weights, latencies = first.ask("learned")
    branches, last = [len(stage.branches) for stage in network.stages], list(weights)[-1]
    learning = tuple(
        Learning(name, each.stage, each.layer or last, each.branch, branches[each.stage], rewarded=not each.layer)
        for name, each in phases_of(network)
    )
    described = (network.name, network.classes, network.time_steps, len(network.stages))
    seen = (all_images(images), latencies, images.train_labels, images.test_labels)
    return Task(*described, learning, *seen, weights, batch_size)


def measure(workers: list[Worker], repeats: int, start: dict[str, np.ndarray]) -> list[Row]:
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
        expected = workers[0].ask("outcome", phase)
        for worker in (worker for worker in workers if phase in worker.phases):
            ms = times[phase, worker.name][1:]
            row = dict(phase=phase, program=worker.name, **common.summary("ms_per_image", ms), ms=ms)
            row |= {key: worker.phases[phase][key] for key in ("compile_seconds", "once")} | dict(
                ratio=None, alike=None
            )
            if worker is not workers[0]:
                row["ratio"] = row["ms_per_image"] / statistics.median(times[phase, workers[0].name][1:])
                row["alike"] = alike(expected, worker.ask("outcome", phase), start.get(phase))
            rows.append(row)
    return rows


def alike(ours: np.ndarray, theirs: np.ndarray, start: np.ndarray | None = None) -> float:
    """The share of latencies or decisions that agree; of weights, of those that either program changed from `start`."""
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    counts = np.ones(ours.shape, bool)
    if start is not None:
        counts = (abs(ours - start) > EQUAL) | (abs(theirs - start) > EQUAL)
    return float((abs(ours - theirs) <= EQUAL)[counts].mean()) if counts.any() else 1.0


def whole_training(
    network: Network, images: data.Dataset, rows: list[Row], options: Options, protocol: tuple[int, int, int] = PROTOCOL
) -> list[Row]:
    """Seconds of a whole training of each program: snnjax's measured, with all compilation; the others' added up.

    Each run of snnjax is in a process of its own, so that none finds anything compiled.
    """
    *most, reward = protocol
    images, epochs, found = images.first(*most), common.epochs(network, reward), list[Row]()
    count = len(images.train_images), len(images.test_images)
    settings = Settings(epochs, batch_size=min(1000, count[0]), patience=0)
    for program in dict.fromkeys(row["program"] for row in rows):
        if program in OWN:
            runs = []
            for _ in range(options.protocol):
                with Worker(program, "snnjax_program", *options.snnjax(program)) as worker:
                    runs.append(worker.ask("train", network, images, settings))
            compiling = statistics.median(run["compile_seconds"] for run in runs)
            row = dict(runs[0], how="measured", compile_seconds=compiling)
            row |= common.summary("seconds", [run["seconds"] for run in runs])
        else:
            ms = {row["phase"]: row["ms_per_image"] for row in rows if row["program"] == program}
            row = dict(how="added up", seconds=added_up(ms, network, epochs, *count))
        ratio = row["seconds"] / found[0]["seconds"] if found else None
        row |= dict(program=program, ratio=ratio, train_images=count[0], test_images=count[1], epochs=epochs)
        found.append(row)
    return found


def added_up(ms: dict[str, float], network: Network, epochs: tuple[int, ...], train: int, test: int) -> float:
    """Seconds of a whole training from milliseconds an image of its phases: all images once, then each epoch."""
    total = (train + test) * ms["encode"] + epochs[-1] * test * ms["test"]
    total += sum(phase.epochs * train * ms[name] for name, phase in phases_of(network, epochs))
    return total / 1e3


def measure_network(name: str, images: data.Dataset, options: Options, about: Row) -> Row:
    """What throughput.json holds of one network; notes versions and devices in `about`.

    Raises:
      ValueError, RuntimeError: a program cannot start, or fails.
    """
    few = images.first(options.images, options.images)
    network = network_for(NETWORKS[name], few)
    # Layers that learn by turns change places after a batch; else all images are one batch, at the first rates.
    batch_size = -(-len(few.train_images) // (2 if network.reward_by_turns else 1))
    with programs(options, name) as workers:
        first, *others = workers
        about["processor"] = first.about["processor"]
        for worker in workers:
            about["versions"] |= worker.about["versions"]
            about["devices"][worker.name] = worker.about["device"]
        first.prepare((network, few, batch_size, {}))
        start: dict[str, np.ndarray] = {}
        if others:
            task = task_of(network, few, first, batch_size)
            for worker in others:
                worker.prepare((network, few, batch_size, task.weights) if worker.name == NATIVE else task)
            start = {phase.name: task.weights[phase.layer] for phase in task.learning}
        rows = measure(workers, options.repeats, start)
        memory = {worker.name: worker.ask("memory") for worker in workers}
    trained = whole_training(network, images, rows, options) if options.protocol else []
    single = throughput_report.in_one_epoch(rows)
    return dict(network=name, phases=rows, in_one_epoch=single, protocol=trained, memory=memory)


def run(options: Options, images: data.Dataset, out: Path, screen: Console) -> None:
    """Measures network after network, prints and writes what is known after each.

    Raises:
      ValueError, RuntimeError: a program cannot start, or fails; or decisions differ.
      OSError: the folder cannot be written.
    """
    measured = dict(reference=bool(options.reference), spyker=options.spyker, protocol=bool(options.protocol))
    notes = throughput_report.notes(options.native, **measured)
    about: dict[str, Any] = dict(
        date=str(datetime.date.today()),
        dataset=images.name,
        images=tuple(min(options.images, len(each)) for each in (images.train_images, images.test_images)),
        repeats=options.repeats,
        load=os.getloadavg()[0],
        versions={},
        devices={},
    )
    if about["load"] > 1:
        screen.print(f"[yellow]Others are at work here (load {about['load']:.1f}): times and ratios mean little.[/]")
    results: list[Row] = []
    for name in options.networks:
        results.append(measure_network(name, images, options, about))
        if len(results) == 1:
            screen.print(caption(about))
        throughput_report.show(results[-1], screen)
        files.write_json(out / "throughput.json", dict(about=about, notes=notes, networks=results))
        files.write_text(out / "throughput.md", throughput_report.markdown(results, about))
        pictures.throughput(out / "throughput.png", results, caption(about).split("; ")[0])
    for number, note in enumerate(notes, 1):
        screen.print(f"{number}. {note}", soft_wrap=False)
    screen.print(f"{out}: throughput.json, throughput.md, throughput.png")
    for result in results:
        for row in result["phases"]:
            if (row["phase"], row["program"]) == ("test", "reference") and row["alike"] < ALIKE:
                raise RuntimeError(
                    f"{result['network']}: only {row['alike']:.1%} of the reference's decisions are alike"
                )


def main(arguments: list[str] | None = None) -> None:
    """Runs from the command line."""
    options = console.options(Options, __doc__, arguments)
    with console.user_errors():
        options, images, out = prepare(options)
    with console.user_errors(f"Stopped; what was measured of finished networks is in {out}."):
        try:
            run(options, images, out, console.screen())
        except (ValueError, RuntimeError) as error:
            console.fail(error, 2 if isinstance(error, ValueError) else 1)


if __name__ == "__main__":
    console.run(main)
