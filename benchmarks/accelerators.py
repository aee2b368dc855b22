"""Compiles every program of a training for accelerators, and counts their kernels.

See experiments/docs/speed/accelerators.md for how kernels are counted.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Annotated

import common
import executables
import jax
import numpy as np
from snnjax_program import Given, Program

from snnjax import InputError, data
from snnjax.app import console, parts
from snnjax.app.main import call, protected
from snnjax.app.shared_options import option
from snnjax.core.devices import AT_ONCE
from snnjax.training.build import network_for
from snnjax.training.state import TrainState

IMAGES = 1024
"""Images of an epoch, in one slice: a multiple of all batches and chunks."""


@dataclasses.dataclass(frozen=True)
class Options(common.Options):
    """Compile every program of a training for an H100 and a TPU v5e, which need not be there, and count their kernels.

    $ pip install -e '.[accelerators]'                    the compilers: no driver, no card
    $ python benchmarks/accelerators.py                   three networks, about five minutes
    """

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


def measure(chip: str, program: Program, task: Given) -> Iterator[common.Row]:
    """A row for each phase: kernels launched for an image of all networks, and mebibytes."""
    with executables.compiled_only(executables.device(chip)) as programs:
        program.prepare(task)
    for (phase, work), compiled in zip(program.works.items(), programs.values(), strict=True):
        images = IMAGES if work.unit else AT_ONCE["gpu"]  # of one call
        together = work.unit or images
        kernels = executables.kernels(compiled.as_text(), (images / together, together))
        if work.unit or program.update_batch == 1:
            yield dict(
                network=task[0].name,
                phase=phase,
                together=together,
                networks=program.networks,
                chip=chip,
                kernels=kernels / images,
                mebibytes=executables.memory(compiled) / 2**20,
            )


def table_of(rows: list[common.Row], caption: str) -> str:
    """A line for each row."""
    head = ("network", "phase", "images at a time", "networks", "chip", "kernels an image", "MiB")
    lines = []
    for row in rows:
        *words, kernels, mebibytes = row.values()
        lines.append([*map(str, words), f"{kernels:,.2f}", f"{mebibytes:,.0f}"])
    return common.markdown(head, lines, caption)


def run(options: Options) -> None:
    """Compiles the phases of each network for each chip; writes all results after each network."""
    parts.check_least(options, update_batch=1, networks=1)
    if wrong := [size for size in options.update_batch if IMAGES % size]:
        raise InputError(f"`update_batch` must be powers of 2 up to {IMAGES}, got {wrong[0]}")
    if unknown := [chip for chip in options.chips if chip not in executables.CHIPS]:
        raise InputError(f"`chips` must be some of {', '.join(executables.CHIPS)}, got {unknown[0]}")
    jax.config.update("jax_platforms", "cpu")  # the compilers' wheels look for cards otherwise, and complain
    source = data.load(options.dataset, options.data_dir)
    places = np.resize(np.arange(len(source.train_images)), IMAGES)
    part = (source.train_images[places], source.train_labels[places])
    images = data.Dataset(source.name, *part, *part, source.classes)
    out = options.folder("accelerators")
    screen = console.screen()
    rows = list[common.Row]()
    program = Program("cpu")
    about, caption = common.about(dataset=images.name, images=f"{IMAGES} images")
    for name in options.model:
        network = network_for(parts.published(name), images)
        state = TrainState({layer: np.full(shape, 0.5, np.float32) for layer, shape in network.weight_shapes.items()})
        combinations = itertools.product(options.networks, options.update_batch, options.chips)
        for program.networks, program.update_batch, chip in combinations:
            for row in measure(chip, program, (network, images, IMAGES, state)):
                rows.append(row)
                screen.print(*row.values(), sep="  ")
        table = table_of(rows, caption)
        written = common.write(out, "accelerators", dict(about=about, phases=rows), table)
    screen.print(table, written, sep="\n", markup=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the options, by default those of the command line, and compiles."""
    call("python benchmarks/accelerators.py", Options, arguments, run, common.STOPPED)


if __name__ == "__main__":
    protected(main)
