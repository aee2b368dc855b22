"""Measures SoftHebb layers, which learn in one pass, in milliseconds an image, alone or beside the same in PyTorch.

$ python benchmarks/softhebb.py                           scikit-learn's digits, a minute
$ python benchmarks/softhebb.py --pytorch                 with PyTorch, of the extra benchmark

The programs take turns, each in a process of its own, on the CPU; both learn from the same images and weights.
"""

import contextlib
import dataclasses
import datetime
import os
from typing import Annotated, Any

import common
import numpy as np
import throughput
from common import Row
from programs import Worker
from torch_program import Deep, SoftLayer

from snnjax import InputError, Network, data
from snnjax.app import console, parts
from snnjax.app import options as app_options
from snnjax.app.main import protected
from snnjax.app.options import option

OURS = "snnjax"


@dataclasses.dataclass(frozen=True)
class Options(common.Options):
    """What to measure."""

    model: Annotated[tuple[str, ...], option("NAME ...")] = ("goupy2024_softhebb", "softhebb_narrow")
    """networks with SoftHebb layers"""
    images: int = 200
    """number of training images"""
    repeats: int = 5
    """how often each phase is measured, after a run that does not count"""
    pytorch: bool = False
    """measure PyTorch too"""


def deep(network: Network, images: data.Dataset) -> Deep:
    """What PyTorch learns: the layers before the latency code."""
    weights = network.initial_weights(0)
    layers = []
    for name, stage in zip(weights, network.stages[: network.joint_stages[0][1]], strict=False):
        (conv,), pool = stage.branches, stage.pool
        assert pool is not None
        ones = np.ones(weights[name].shape[1], np.float32)
        rule = conv.each_learner[0]
        numbers = rule.inverse_temperature, conv.activation.power, rule.rate
        window = pool.window, pool.stride or pool.window, pool.padding
        layers.append(SoftLayer(weights[name], (0 * ones, ones), *numbers, *window, mean=pool.mean))
    pixels = images.train_images.reshape(*images.train_images.shape[:3], -1)
    pixels = np.moveaxis(pixels.astype(np.float32) / 255, -1, 1)
    return Deep(np.ascontiguousarray(pixels), layers, rule.batch, network.time_steps)


def measure_network(name: str, images: data.Dataset, options: Options, about: Row) -> Row:
    """The part of softhebb.json about one network; adds versions and devices to `about`."""
    network = parts.network(app_options.Network(model=name), images)
    if not network.joint_stages:
        raise InputError(f"`model` {name} has no SoftHebb layers")
    with contextlib.ExitStack() as stack:
        programs: list[tuple[Any, ...]] = [(OURS, "softhebb_program")]
        if options.pytorch:
            programs.append(("PyTorch", "torch_program", len(os.sched_getaffinity(0))))
        workers = [stack.enter_context(Worker(*each)) for each in programs]
        for worker in workers:
            about["versions"] |= worker.about["versions"]
            about["devices"][worker.name] = worker.about["device"]
        task = deep(network, images)
        workers[0].prepare((network, images, 1, None))
        for worker in workers[1:]:
            worker.prepare(task)
        rows = throughput.measure(workers, options.repeats, {"learning": task.layers[-1].weights})
        memory = {worker.name: worker.ask("memory") for worker in workers}
    return dict(network=name, phases=rows, in_one_epoch={}, protocol=[], memory=memory)


@common.command(Options, __doc__)
def main(options: Options) -> None:
    """Measures one network after the other; prints and writes all results after each."""
    parts.check_least(options, images=1, repeats=1)
    images = data.load(options.dataset, options.data_dir).first(options.images, 1)
    out = options.folder("softhebb")
    screen = console.screen()
    results = list[Row]()
    about: Row = dict(date=str(datetime.date.today()), dataset=images.name, images=options.images)
    about |= dict(repeats=options.repeats, versions={}, devices={})
    for name in options.model:
        with common.failing():
            results.append(measure_network(name, images, options, about))
        throughput.show(results[-1], screen)
    head = ["network", "phase", *about["devices"], *["times longer"] * options.pytorch]
    lines = []
    for result in results:
        for phase in dict.fromkeys(row["phase"] for row in result["phases"]):
            rows = [row for row in result["phases"] if row["phase"] == phase]
            cells = [f"{row['ms_per_image']:.3g}" for row in rows] + [f"{row['ratio']:.1f}" for row in rows[1:]]
            lines.append([result["network"], phase, *cells])
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    counted = f"{images.name}, {options.images} images, medians of {options.repeats}, {about['date']}"
    facts = f"Milliseconds an image; {counted}; {versions}."
    written = common.write(out, "softhebb", dict(about=about, networks=results), common.markdown(head, lines, facts))
    print(written)


if __name__ == "__main__":
    protected(main)
