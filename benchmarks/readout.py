"""Measures supervised readouts on target-time features in milliseconds an image, alone or beside SpikeNN.

$ python benchmarks/readout.py                            scikit-learn's digits, within two minutes
$ python benchmarks/readout.py --kernels xla native --spikenn DIR     with a checkout of github.com/ggoupy/SpikeNN

The programs take turns, each in a process of its own. SpikeNN learns and tests on its own sparse spikes, made from the
features that snnjax has computed, and its functions are compiled before.
"""

import contextlib
import dataclasses
import datetime
from pathlib import Path
from typing import Annotated, Literal

import common
import throughput
from common import Row
from programs import Worker

from snnjax import InputError, data
from snnjax.app import console, parts
from snnjax.app import options as app_options
from snnjax.app.main import protected
from snnjax.app.options import option


@dataclasses.dataclass(frozen=True)
class Options(common.Options):
    """What to measure, on what, and against what."""

    model: Annotated[tuple[str, ...], option("NAME ...")] = ("goupy2024_ncg", "goupy2024_s2stdp")
    """networks with a readout on target-time features"""
    images: int = 1000
    """number of training images, and of test images"""
    repeats: int = 5
    """how often each phase is measured, after a run that does not count"""
    spikenn: Annotated[Path | None, option("DIR", "none")] = None
    """checkout of github.com/ggoupy/SpikeNN, to measure side by side"""
    kernels: tuple[Literal["xla", "native"], ...] = ("xla",)
    """snnjax's kernels, of XLA or compiled ones (native, on a CPU); all is compared with the first"""


def measure_network(name: str, images: data.Dataset, options: Options, about: Row) -> Row:
    """The part of readout.json about one network; adds versions and devices to `about`."""
    network = parts.network(app_options.Network(model=name), images)
    with contextlib.ExitStack() as stack:

        def start(*program: object) -> Worker:
            worker = stack.enter_context(Worker(*program))  # type: ignore[arg-type]
            about["versions"] |= worker.about["versions"]
            about["devices"][worker.name] = worker.about["device"]
            return worker

        task = (network, images, len(images.train_images))
        workers = list[Worker]()
        for kind in options.kernels:
            program = ("cpu", True) if kind == "native" else (options.device,)
            workers.append(start(throughput.OWN[kind], "readout_program", *program))
            workers[-1].prepare((*task, workers[0].ask("trained") if workers[1:] else None))
        first = workers[0]
        about["processor"] = first.about["processor"]
        if options.spikenn:
            workers.append(start("SpikeNN", "spikenn_program", options.spikenn))
            workers[-1].prepare(first.ask("readout"))
        features, deciding = first.ask("trained").weights.values()
        initial = {"one patch": features, "learn": deciding.reshape(len(deciding), -1)}
        rows = throughput.measure(workers, options.repeats, initial)
        memory = {worker.name: worker.ask("memory") for worker in workers}
    return dict(network=name, phases=rows, in_one_epoch={}, protocol=[], memory=memory)


@common.command(Options, __doc__)
def main(options: Options) -> None:
    """Measures one network after the other; prints and writes all results after each."""
    parts.check_least(options, images=1, repeats=1)
    throughput.check_kernels(options.kernels)
    if options.spikenn and not (options.spikenn / "spikenn" / "snn.py").is_file():
        raise InputError(f"`spikenn` {options.spikenn} is no checkout of ggoupy/SpikeNN (no spikenn/snn.py)")
    images = data.load(options.dataset, options.data_dir).first(options.images, options.images)
    out = options.folder("readout")
    screen = console.screen()
    results = list[Row]()
    counts = (len(images.train_images), len(images.test_images))
    about: Row = dict(date=str(datetime.date.today()), dataset=images.name, images=counts, repeats=options.repeats)
    about |= dict(versions={}, devices={})
    for name in options.model:
        with common.failing():
            results.append(measure_network(name, images, options, about))
        throughput.show(results[-1], screen)
        table = throughput.markdown(results, about)
        figure = throughput.draw(results, throughput.caption(about).split("; ")[0])
        written = common.write(out, "readout", dict(about=about, networks=results), table, figure)
    screen.print(table, written, sep="\n", markup=False)


if __name__ == "__main__":
    protected(main)
