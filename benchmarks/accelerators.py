"""Compiles every program of a training for an H100 and a TPU v5e, which need not be there, and counts their kernels.

$ pip install -e '.[accelerators]'                        the compilers: no driver, no card
$ python benchmarks/accelerators.py                       three networks, about five minutes

Where a card is at hand, it also measures the programs on it. benchmarks/README.md says how kernels are counted.
"""

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

if not any(found for kind in ("nvidia[0-9]*", "accel*", "vfio/[0-9]*") for found in Path("/dev").glob(kind)):
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # the compilers' wheels look for cards otherwise, and complain

import common
import executables
import numpy as np
from snnjax_program import shown

from snnjax import InputError, Network, Settings, data
from snnjax.app import console, parts
from snnjax.app import options as app_options
from snnjax.app.main import protected
from snnjax.app.options import option
from snnjax.core import devices
from snnjax.networks import batches
from snnjax.networks.decision import is_fitted
from snnjax.training import fitting
from snnjax.training.loop import Training
from snnjax.training.placement import CHUNK, Timer

IMAGES = 1024
"""Images of an epoch, in one slice: a multiple of all batches, blocks and chunks."""


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


class Phase(NamedTuple):
    """A phase of a training, ready to run."""

    name: str
    images: int  # of one call of its program
    together: int  # images at a time
    timer: Timer
    run: Callable[[], Any]


def phases(network: Network, images: data.Dataset, count: int, batch: int) -> Iterator[Phase]:
    """The phases of `count` networks side by side, from made-up latencies; with `batch` > 1 only those that learn."""
    training = Training([network] * count, images, Settings((1,) * len(network.stages), patience=0, update_batch=batch))
    states = training.initial_states()
    fitting.fit_encoders(training.cache, states)
    for state in states:
        state.weights = {name: np.full_like(each, 0.5) for name, each in state.weights.items()}  # within all bounds
    random = np.random.default_rng(0)
    last = len(network.stages) - 1

    def entering(stage: int) -> np.ndarray:
        """Each network has its own, but for those that enter the first stage."""
        latencies = random.integers(0, network.time_steps + 1, (IMAGES, *network.shapes[stage]), np.uint8)
        return np.broadcast_to(latencies, (count, *latencies.shape)) if stage and count > 1 else latencies

    def mapped(name: str, kind: Any, inputs: np.ndarray, forms: Any = None, **static: Any) -> Phase:
        model = training.cache.pack(training.cache.models(states), forms)
        timer = Timer(name)
        run = functools.partial(training.cache.placement.map, timer, kind, model, inputs, **static)
        return Phase(name, CHUNK["gpu"], CHUNK["gpu"], timer, run)

    if batch == 1:
        yield mapped("encode", batches.encode_batch, images.train_images, native=False)
        stops = [number for number in range(last + 1) if not (number and network.stages[number - 1].activities)]
        for first, end in itertools.pairwise(stops):
            timed = end < last or network.decision.timed
            name = f"{'outputs of' if timed else 'who fires in'} stage {end}"
            yield mapped(name, batches.forward_batch, entering(first), first=first, last=end, timed=timed)
        if not is_fitted(network.decision):
            yield mapped("test", batches.decide_batch, entering(0), training.runners.testing_kernels, first=0)
    for number, phase in enumerate(training.plan):
        if phase.layers or not is_fitted(network.decision):
            begun = [dataclasses.replace(each, phase=number) for each in states]
            epoch = training.runners.of_phase(phase, begun, entering(phase.stage))
            yield Phase(shown(phase.name), IMAGES, epoch.unit, epoch.timer, epoch.run)


def counted(chip: str, *what: Any) -> Iterator[tuple[Phase, common.Row]]:
    """By phase, kernels launched for an image of all networks, and mebibytes."""
    with executables.compiled_only(executables.device(chip)) as found:
        for phase in phases(*what):
            phase.run()
            loops = phase.images / phase.together, phase.together
            kernels = executables.kernels(found[-1].as_text(), loops)
            memory = executables.memory(found[-1])
            yield phase, dict(kernels=kernels / phase.images, mebibytes=memory / 2**20)


def measured(*what: Any) -> Iterator[tuple[Phase, common.Row]]:
    """By phase, milliseconds an image of one network, on the device at hand."""
    for phase in phases(*what):
        phase.run()  # compiles
        phase.timer.reset()
        phase.run()
        yield phase, dict(ms_per_image=1e3 * phase.timer.seconds / phase.timer.images)


def cells(rows: list[common.Row]) -> tuple[list[str], list[list[str]]]:
    """Head and lines of the table: a line for each phase, N and number of images at a time."""
    found = dict[tuple[str, ...], dict[str, str]]()
    columns = dict[str, None]()
    for row in rows:
        place = (row["network"], row["phase"], f"{row['together']}", f"{row['networks']:,}")
        for key, unit in (("kernels", "kernels an image"), ("mebibytes", "MiB"), ("ms_per_image", "ms an image")):
            if key in row:
                columns[column := f"{row['device']}, {unit}"] = None
                found.setdefault(place, {})[column] = f"{row[key]:,.{0 if key == 'mebibytes' else 2}f}"
    lines = [[*place, *(values.get(each, "") for each in columns)] for place, values in found.items()]
    return ["network", "phase", "images at a time", "networks", *columns], lines


@common.command(Options, __doc__)
def main(options: Options) -> None:
    """Compiles the phases of each network for each chip; measures them where there is a card; writes all results."""
    parts.check_least(options, update_batch=1, networks=1)
    if wrong := [size for size in options.update_batch if IMAGES % size]:
        raise InputError(f"`update_batch` must be powers of 2 up to {IMAGES}, got {wrong[0]}")
    if unknown := [chip for chip in options.chips if chip not in executables.CHIPS]:
        raise InputError(f"`chips` must be some of {', '.join(executables.CHIPS)}, got {unknown[0]}")
    images = repeated(data.load(options.dataset, options.data_dir))
    out = options.folder("accelerators")
    screen = console.screen()
    rows = list[common.Row]()
    here = devices.name_of(devices.peers()[0])
    cards = [] if here.startswith("cpu") else [(here, measured)]
    about, caption = common.about(dataset=images.name, images=f"{IMAGES} images")
    caption += "" if cards else "; no accelerator is at hand, so nothing was measured on one"
    kinds = [(chip, functools.partial(counted, chip)) for chip in options.chips] + cards
    for name in options.model:
        network = parts.network(app_options.Network(model=name), images)
        for count, batch in itertools.product(options.networks, options.update_batch):
            for device, kind in kinds:
                for phase, row in kind(network, images, count, batch):
                    place = dict(network=name, phase=phase.name, together=phase.together, networks=count)
                    rows.append(place | dict(device=device) | row)
                    screen.print(*rows[-1].values(), sep="  ")
        table = common.markdown(*cells(rows), caption)
        written = common.write(out, "accelerators", dict(about=about, phases=rows), table)
    screen.print(table, written, sep="\n", markup=False)


def repeated(images: data.Dataset) -> data.Dataset:
    """The training images, cut or repeated to `IMAGES`."""
    places = np.resize(np.arange(len(images.train_images)), IMAGES)
    return dataclasses.replace(
        images,
        train_images=images.train_images[places],
        train_labels=images.train_labels[places],
        train_files=None,
        train_groups=None,
    )


if __name__ == "__main__":
    protected(main)
