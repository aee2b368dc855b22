"""What several processes gain that train one network: the time of each phase with 1, 2 and 4, and on 8 by arithmetic.

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


def measure(options: Options) -> tuple[list[common.Row], list[str]]:
    """The records of the phases of a training that compiles nothing, one epoch each, and which of them learn."""
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
    return state.phases, [phase.name for phase in trainer.plan]


def start(options: Options, count: int) -> list[tuple[list[common.Row], list[str]]]:
    """What `measure` finds in each of so many processes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, *sys.argv]
    cores = sorted(os.sched_getaffinity(0))
    started = []
    for at in range(count):
        pinned = ["taskset", "-c", str(cores[at % len(cores)])]
        place = ["--place", f"localhost:{port}", str(count), str(at)]
        started.append(subprocess.Popen([*pinned, *command, *place], stdout=subprocess.PIPE, text=True))
    said = [each.communicate()[0] for each in started]
    if any(each.returncode for each in started):
        raise OSError(f"{count} processes ended with {[each.returncode for each in started]}")
    return [json.loads(each.strip().split("\n")[-1]) for each in said]


def row_of(options: Options, count: int) -> common.Row:
    """Milliseconds an image of each phase, those of the slowest process, and which phases learn."""
    found = start(options, count)
    spent = dict[str, float]()
    for records, _ in found:
        for each in records:
            spent[each["name"]] = max(spent.get(each["name"], 0.0), 1000 * each["seconds"] / each["images"])
    return dict(processes=count, ms_an_image=spent, learning=found[0][1])


def cells(rows: list[common.Row], batched: bool) -> tuple[list[str], list[list[str]]]:
    """Head and lines of the table."""
    first, *others = rows
    head = ["phase", f"{first['processes']}: ms an image", *(f"{row['processes']}: faster" for row in others)]
    lines = []
    for name, spent in first["ms_an_image"].items():
        faster = [f"{spent / row['ms_an_image'][name]:.2f}" for row in others]
        shared = name not in first["learning"] or (batched and not name.startswith("R-STDP"))
        lines.append([name, f"{spent:.3g}", *faster, "8" if shared else "1"])
    return [*head, "8, by arithmetic"], lines


def compare(options: Options) -> None:
    """Measures each number of processes, and writes after each."""
    out = options.folder("processes")
    screen = console.screen()
    rows = list[common.Row]()
    timed = "the processor's time" if options.cpu_time else "the clock's time"
    chosen = dict(network=options.model, dataset=options.dataset, update_batch=f"batches of {options.update_batch}")
    about, caption = common.about(**chosen, train=f"{options.train_images} training images", timed=timed)
    for count in options.processes:
        rows.append(row_of(options, count))
        head, lines = cells(rows, options.update_batch > 1)
        written = common.write(out, "processes", dict(about=about, rows=rows), common.markdown(head, lines, caption))
    screen.print(console.table(head, [lines]), written, sep="\n")


@common.command(Options, __doc__)
def main(options: Options) -> None:
    """Measures, or is one of the processes that are measured."""
    if options.place:
        print(json.dumps(measure(options)))
    else:
        compare(options)


if __name__ == "__main__":
    if "--place" in sys.argv:  # before JAX has a device
        several.join(sys.argv[sys.argv.index("--place") + 1 :])
    protected(main)
