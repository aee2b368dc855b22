"""What several processes gain that train one network: the time of each phase with 1, 2 and 4.

$ python benchmarks/processes.py

Each has one core of this machine; where there are fewer cores than processes, or others use them, --cpu_time counts
only the time that the processor spends on the process.
"""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import time
from typing import Annotated, Literal
from unittest import mock

import common

from snnjax import Settings, Trainer, data
from snnjax.app import console, parts, several
from snnjax.app.main import protected
from snnjax.app.options import option
from snnjax.training.build import network_for


@dataclasses.dataclass(frozen=True)
class Options(common.Options):
    """What to train, by how many processes."""

    model: Annotated[str, option("NAME")] = "mozafari2018"
    """the network"""
    processes: tuple[int, ...] = (1, 2, 4)
    """numbers of processes"""
    train_images: int = 1000
    """number of training images, at most"""
    test_images: int = 1000
    """number of test images, at most"""
    update_batch: int = 1
    """as of `snnjax train`"""
    kernels: Literal["auto", "xla", "native"] = "auto"
    """as of `snnjax train`"""
    cpu_time: bool = False
    """count the processor's time instead of the clock's"""
    place: tuple[str, ...] = ()
    """of a process that this program starts: as `--distributed` of `snnjax train`"""


def measure(options: Options) -> dict[str, float]:
    """Milliseconds an image of each phase of a training that compiles nothing, one epoch each."""
    images = data.load(options.dataset, options.data_dir).first(options.train_images, options.test_images)
    network = network_for(parts.published(options.model), images)
    epochs = (1,) * len(network.stages)
    native = parts.use_native(options.kernels)
    settings = Settings(epochs, patience=0, update_batch=options.update_batch, native=native)
    trainer = Trainer(network, images, settings)
    trainer.run(trainer.initial_state())
    clock = time.process_time if options.cpu_time else time.perf_counter
    with mock.patch("snnjax.training.placement.time.perf_counter", clock):
        state = trainer.run(trainer.initial_state())
    return {phase["name"]: 1e3 * phase["seconds"] / phase["images"] for phase in state.phases}


def start(count: int) -> dict[str, float]:
    """The results of `measure` in `count` processes: for each phase, that of the slowest."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    cores = sorted(os.sched_getaffinity(0))
    started = []
    for number in range(count):
        pinned = ["taskset", "-c", str(cores[number % len(cores)])]
        place = ["--place", f"localhost:{port}", str(count), str(number)]
        command = [*pinned, sys.executable, *sys.argv, *place]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    outputs = [process.communicate()[0] for process in started]
    statuses = [process.returncode for process in started]
    if any(statuses):
        raise OSError(f"{count} processes ended with {statuses}")
    measured = [json.loads(text.strip().split("\n")[-1]) for text in outputs]
    return {phase: max(ms[phase] for ms in measured) for phase in measured[0]}


def cells(rows: list[common.Row]) -> tuple[list[str], list[list[str]]]:
    """Head and lines of the table."""
    first, *others = rows
    head = ["phase", f"{first['processes']}: ms an image", *(f"{row['processes']}: faster" for row in others)]
    lines = []
    for phase, ms in first["ms_per_image"].items():
        lines.append([phase, f"{ms:.3g}", *(f"{ms / row['ms_per_image'][phase]:.2f}" for row in others)])
    return head, lines


@common.command(Options, __doc__)
def main(options: Options) -> None:
    """Measures each number of processes, and writes after each; with `place`, is one of these processes."""
    if options.place:
        print(json.dumps(measure(options)))
        return
    out = options.folder("processes")
    screen = console.screen()
    rows = list[common.Row]()
    about, caption = common.about(
        network=options.model,
        dataset=options.dataset,
        update_batch=f"batches of {options.update_batch}",
        train=f"{options.train_images} training images",
        timed="the processor's time" if options.cpu_time else "the clock's time",
    )
    for count in options.processes:
        rows.append(dict(processes=count, ms_per_image=start(count)))
        head, lines = cells(rows)
        written = common.write(out, "processes", dict(about=about, rows=rows), common.markdown(head, lines, caption))
    screen.print(console.table(head, [lines]), written, sep="\n")


if __name__ == "__main__":
    if "--place" in sys.argv:  # before JAX has a device
        several.join(sys.argv[sys.argv.index("--place") + 1 :])
    protected(main)
