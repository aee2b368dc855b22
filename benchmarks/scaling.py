"""Measures how snnjax's work grows: images, features, map size, time steps, winners, and images taken together.

python benchmarks/scaling.py                        about four minutes on two cores; a JSON file and a figure
"""

import dataclasses
import datetime
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import ours
import pictures
from flax import nnx
from programs import Work, folder
from rich.console import Console
from rich.table import Table
from simple_parsing import field

from snnjax import data, devices, files
from snnjax.app import console, runs
from snnjax.errors import InputError
from snnjax.networks import Network, SpikingNetwork, draw, mozafari2018, stage
from snnjax.training import trainer
from snnjax.training.trainer import Batched, Clock, encoding, method

POINTS: dict[str, tuple[int, ...]] = {
    "images": (50, 200, 400, 800),
    "features": (50, 125, 250, 500),
    "map_size": (14, 28, 42, 56),
    "time_steps": (5, 10, 15, 30),
    "winners": (1, 4, 8, 16),
    "together": (1, 8, 32, 128),
}
"""What grows, by the field of `Case`; the others stay as they are there."""
PHASES = ("STDP 2", "R-STDP", "test")


@dataclasses.dataclass(frozen=True)
class Case:
    """mozafari2018 with another second layer, other images, or another number of images at a time.

    Attributes:
      images: that are trained with and tested.
      features: of the second layer.
      map_size: rows and columns of the images.
      time_steps: T.
      winners: k of the second layer.
      together: images whose potentials the reward phase computes at once, and images to a chunk of the test.
    """

    images: int = 200
    features: int = 250
    map_size: int = 28
    time_steps: int = 15
    winners: int = 8
    together: int = trainer.BLOCK

    @property
    def spec(self) -> Network:
        """The network."""
        usual = mozafari2018((6, self.map_size, self.map_size))
        first, second, last = usual.stages
        layer = dataclasses.replace(second.branches[0], features=self.features, winners=self.winners)
        stages = (first, stage(layer, pool=second.pool), last)
        return dataclasses.replace(usual, stages=stages, time_steps=self.time_steps)

    def data(self, source: data.Dataset) -> data.Dataset:
        """As many images as wanted, again and again the same if there are too few, in the wanted size."""
        size = source.train_images.shape[1]
        nearest = np.arange(self.map_size) * size // self.map_size
        images = np.resize(source.train_images, (self.images, size, size))[:, nearest][:, :, nearest]
        labels = np.resize(source.train_labels, self.images)
        return data.Dataset(source.name, images, labels, images, labels, source.classes)


@dataclasses.dataclass(frozen=True)
class Options:
    """What grows, and how often each point is measured."""

    axes: tuple[str, ...] = field(default=tuple(POINTS), help=f"what grows ({' '.join(POINTS)})")
    points: int = field(default=4, help="measure the first so many points of each axis")
    repeats: int = field(default=3, help="how often each point is measured")
    dataset: str = field(default="digits", help=f"the data set, of grey images: {', '.join(data.DATASETS)}")
    data_dir: Path | None = field(default=None, help="folder of the data set's files, for all but digits")
    device: str = field(default="auto", help="auto, cpu, gpu or tpu")
    out: Path | None = field(default=None, help="folder to write to (runs/scaling_TIME)")


def measure(case: Case, source: data.Dataset, repeats: int) -> dict[str, dict[str, float]]:
    """Of STDP of the second layer, R-STDP and test: ms_per_image (the median), min, max and compile_seconds."""
    jax.clear_caches()  # so that each point compiles all that it needs
    images, spec, works = case.data(source), case.spec, dict[str, Work]()
    network = draw(spec)
    encoder = dataclasses.replace(images.encoder, time_steps=spec.time_steps)
    encoded = mapped(network, encoding(encoder), images.train_images)
    ours.stdp(network, "layer1", encoded)
    inputs = mapped(network, method(network, "respond", 0), encoded)
    works["STDP 2"] = ours.stdp(network, "layer2", inputs)
    usual, trainer.BLOCK = trainer.BLOCK, case.together
    try:
        fired = mapped(network, method(network, "reach", 1, 2), inputs)
        works["R-STDP"] = ours.rewarding(network, fired, images.train_labels, case.images)
    finally:
        trainer.BLOCK = usual
    works["test"] = ours.deciding(network, encoded, chunk=case.together if case.together != Case.together else 128)
    found = {}
    for name, work in works.items():
        ms = [work.measure(jax.block_until_ready) for _ in range(repeats + 1)][1:]  # the first does not count
        times = dict(ms_per_image=statistics.median(ms), min=min(ms), max=max(ms))
        found[name] = {**times, "compile_seconds": work.compile_seconds}
    return found


def mapped(network: SpikingNetwork, function: Callable[..., Any], inputs: np.ndarray) -> np.ndarray:
    """A function of the network's state and one image, over all images."""
    state = nnx.state(network)
    return Batched(function, state, inputs, Clock(""))(state, inputs)


def recompiled(source: data.Dataset, images: int = 200) -> dict[str, int]:
    """Programs compiled in a training of three epochs a phase, in ten batches each, and then with another seed.

    Returns:
      "first": by the end of the first epoch of each phase; "later": in the other epochs; "seed": in all of the
      training with another seed.
    """
    compiled: list[str] = []
    counts: dict[tuple[int, int, int], int] = {}

    def heard(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(heard)
    for seed in range(2):

        def save(state: trainer.TrainState, seed: int = seed) -> None:
            counts.setdefault((seed, state.phase, state.done), len(compiled))

        settings = trainer.Settings((3, 3, 3), batch_size=max(1, images // 10), patience=0, seed=seed)
        training = trainer.Trainer(Case().spec, source.first(images, images), settings)
        training.run(training.initial_state(), save)
    later = sum(counts[seed, phase, 3] - counts[seed, phase, 1] for seed in range(2) for phase in range(3))
    first = counts[0, 2, 1] - counts[0, 0, 3] + counts[0, 0, 1]
    return dict(first=first, later=later, seed=counts[1, 2, 3] - counts[0, 2, 3])


def table(rows: list[dict[str, Any]]) -> Table:
    """The measurements, a line for each point."""
    shown = Table(title="milliseconds an image (compiling s)", title_justify="left")
    for name in ("grows", "value", *PHASES):
        shown.add_column(name, justify="left" if name == "grows" else "right")
    for axis in dict.fromkeys(row["axis"] for row in rows):
        shown.add_section()
        for value in dict.fromkeys(row["value"] for row in rows if row["axis"] == axis):
            found = {row["phase"]: row for row in rows if (row["axis"], row["value"]) == (axis, value)}
            cells = (
                f"{row['ms_per_image']:.3g} ({row['compile_seconds']:.1f})" for row in map(found.get, PHASES) if row
            )
            shown.add_row(pictures.LABELS[axis], str(value), *cells)
    return shown


def prepare(options: Options) -> tuple[data.Dataset, Path, jax.Device]:
    """Images, the folder to write to, and the device.

    Raises:
      ValueError, OSError: options or data are bad.
    """
    for axis in options.axes:
        if axis not in POINTS:
            raise InputError(f"`axes` must be of {', '.join(POINTS)}, got {axis!r}")
    for name in ("points", "repeats"):
        if getattr(options, name) < 1:
            raise InputError(f"`{name}` must be at least 1, got {getattr(options, name)}")
    images = data.load(options.dataset, options.data_dir)
    if images.train_images.ndim > 3:
        raise InputError(f"`dataset` must be of grey images, those of {images.name} have colours")
    return images, folder(options.out, "scaling"), devices.choose(options.device)


def main(arguments: list[str] | None = None) -> None:
    """Runs from the command line."""
    options = console.options(Options, __doc__, arguments)
    try:
        images, out, device = prepare(options)
    except (InputError, OSError) as error:
        console.fail(error)
    screen = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
    about = dict(date=str(datetime.date.today()), device=runs.device_name(device), dataset=images.name)
    screen.print(", ".join(about.values()))
    compiled = recompiled(images)
    screen.print(
        f"compiled in a training: {compiled['first']} programs by the end of each phase's first epoch, "
        f"{compiled['later']} in later epochs and batches, {compiled['seed']} with another seed in the same process"
    )
    known: dict[Case, dict[str, dict[str, float]]] = {}
    rows: list[dict[str, Any]] = []
    for axis in options.axes:
        for value in POINTS[axis][: options.points]:
            case = dataclasses.replace(Case(), **{axis: value})
            if case not in known:
                known[case] = measure(case, images, options.repeats)
            rows += [dict(axis=axis, value=value, phase=name, **row) for name, row in known[case].items()]
    screen.print(table(rows))
    with files.atomic_write(out / "scaling.json") as temporary:
        result = dict(about={**about, "versions": runs.versions()}, compiled=compiled, usual=dataclasses.asdict(Case()))
        temporary.write_text(json.dumps({**result, "points": rows}, indent=1) + "\n")
    pictures.scaling(out / "scaling.png", rows, ", ".join(about.values()))
    screen.print(f"{out}: scaling.json, scaling.png")


if __name__ == "__main__":
    console.run(main)
