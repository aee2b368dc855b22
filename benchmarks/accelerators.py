"""Compiles every program of a training for an H100 and a TPU v5e, which need not be there, and counts their kernels.

$ pip install -e '.[accelerators]'                        the compilers: no driver, no card
$ python benchmarks/accelerators.py                       three networks, about five minutes

On a machine with a card it also times the programs there. See experiments/docs/speed/accelerators.md for how kernels
are counted.
"""

import dataclasses
import functools
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

if not any(card for kind in ("nvidia[0-9]*", "accel*", "vfio/[0-9]*") for card in Path("/dev").glob(kind)):
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # the compilers' wheels look for cards otherwise, and complain

import common
import executables
import numpy as np
from programs import Work
from snnjax_program import Given, Program

from snnjax import InputError, data
from snnjax.app import console, parts
from snnjax.app.main import protected
from snnjax.app.options import option
from snnjax.core import devices
from snnjax.training.build import network_for
from snnjax.training.placement import CHUNK
from snnjax.training.state import TrainState

IMAGES = 1024
"""Images of an epoch, in one slice: a multiple of all batches and chunks."""


@dataclasses.dataclass(frozen=True)
class Options(common.Options):
    """What to compile."""

    model: Annotated[tuple[str, ...], option("NAME ...")] = ("mozafari2018", "deepr2024", "goupy2024_ncg")
    """the networks"""
    update_batch: Annotated[tuple[int, ...], option("B ...")] = (1, 64)
    """images seen with the same weights, powers of 2"""
    networks: Annotated[tuple[int, ...], option("N ...")] = (1,)
    """how many networks train side by side; 1 64 1024 shows what a card gains by them"""
    chips: Annotated[tuple[str, ...], option("NAME ...", f"all: {', '.join(executables.CHIPS)}")] = tuple(
        executables.CHIPS
    )
    """the accelerators to compile for"""


def counted(chip: str, program: Program, task: Given) -> Iterator[tuple[str, Work, common.Row]]:
    """By phase, kernels launched for an image of all networks, and mebibytes."""
    with executables.compiled_only(executables.device(chip)) as programs:
        program.prepare(task)
    for (phase, work), compiled in zip(program.works.items(), programs.values(), strict=True):
        images = IMAGES if work.unit else CHUNK["gpu"]  # of one call
        together = work.unit or images
        kernels = executables.kernels(compiled.as_text(), (images / together, together))
        yield phase, work, dict(kernels=kernels / images, mebibytes=executables.memory(compiled) / 2**20)


def measured(program: Program, task: Given) -> Iterator[tuple[str, Work, common.Row]]:
    """By phase, milliseconds an image of one network, on the device at hand."""
    program.prepare(task)
    for phase, work in program.works.items():
        yield phase, work, dict(ms_per_image=program.measure(phase) / program.networks)


def cells(rows: list[common.Row]) -> tuple[list[str], list[list[str]]]:
    """Head and lines of the table: a line for each phase, N and number of images at a time."""
    entries = dict[tuple[str, ...], dict[str, str]]()
    columns = dict[str, None]()
    for row in rows:
        place = (row["network"], row["phase"], f"{row['together']}", f"{row['networks']:,}")
        for key, unit in (("kernels", "kernels an image"), ("mebibytes", "MiB"), ("ms_per_image", "ms an image")):
            if key in row:
                columns[column := f"{row['device']}, {unit}"] = None
                entries.setdefault(place, {})[column] = f"{row[key]:,.{0 if key == 'mebibytes' else 2}f}"
    lines = [[*place, *(values.get(column, "") for column in columns)] for place, values in entries.items()]
    return ["network", "phase", "images at a time", "networks", *columns], lines


@common.command(Options, __doc__)
def main(options: Options) -> None:
    """Compiles the phases of each network for each chip; measures them where there is a card; writes all results."""
    parts.check_least(options, update_batch=1, networks=1)
    if wrong := [size for size in options.update_batch if IMAGES % size]:
        raise InputError(f"`update_batch` must be powers of 2 up to {IMAGES}, got {wrong[0]}")
    if unknown := [chip for chip in options.chips if chip not in executables.CHIPS]:
        raise InputError(f"`chips` must be some of {', '.join(executables.CHIPS)}, got {unknown[0]}")
    source = data.load(options.dataset, options.data_dir)
    places = np.resize(np.arange(len(source.train_images)), IMAGES)
    part = (source.train_images[places], source.train_labels[places])
    images = data.Dataset(source.name, *part, *part, source.classes)
    out = options.folder("accelerators")
    screen = console.screen()
    rows = list[common.Row]()
    program = Program(options.device)
    here = devices.name_of(devices.peers()[0])
    cards = [] if here.startswith("cpu") else [(here, measured)]
    about, caption = common.about(dataset=images.name, images=f"{IMAGES} images")
    caption += "" if cards else "; no accelerator is at hand, so nothing was measured on one"
    kinds = [(chip, functools.partial(counted, chip)) for chip in options.chips] + cards
    for name in options.model:
        network = network_for(parts.published(name), images)
        state = TrainState({layer: np.full(shape, 0.5, np.float32) for layer, shape in network.weight_shapes.items()})
        combinations = itertools.product(options.networks, options.update_batch, kinds)
        for program.networks, program.update_batch, (device, kind) in combinations:
            for phase, work, row in kind(program, (network, images, IMAGES, state)):
                if work.unit or program.update_batch == 1:
                    together = work.unit or CHUNK["gpu"]
                    place = dict(network=name, phase=phase, together=together, networks=program.networks)
                    rows.append(place | dict(device=device) | row)
                    screen.print(*rows[-1].values(), sep="  ")
        table = common.markdown(*cells(rows), caption)
        written = common.write(out, "accelerators", dict(about=about, phases=rows), table)
    screen.print(table, written, sep="\n", markup=False)


if __name__ == "__main__":
    protected(main)
