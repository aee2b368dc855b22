"""Measures how snnjax's work grows: images, features, map size, time steps, winners, and images taken together.

python benchmarks/scaling.py                        about four minutes on two cores; a JSON file and a figure
"""

import dataclasses
from typing import Any
from unittest import mock

import common
import jax
import numpy as np
import pictures
from rich.table import Table
from simple_parsing import field
from snnjax_program import Program

from snnjax import data, files
from snnjax.app import console
from snnjax.errors import InputError
from snnjax.networks import Network, mozafari2018
from snnjax.training import engine, spread
from snnjax.training.state import Settings, TrainState
from snnjax.training.trainer import Trainer

POINTS: dict[str, tuple[str, tuple[int, ...]]] = {
    "images": ("images", (50, 200, 400, 800)),
    "features": ("features of layer 2", (50, 125, 250, 500)),
    "map_size": ("rows of the image", (14, 28, 42, 56)),
    "time_steps": ("time steps", (5, 10, 15, 30)),
    "winners": ("winners of layer 2", (1, 4, 8, 16)),
    "together": ("images at a time", (1, 8, 32, 128)),
}
"""What grows, by the field of `Case`, in words and from where to where; the other fields stay as they are there."""
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
    together: int = engine.BLOCK

    @property
    def network(self) -> Network:
        """The network."""
        usual = mozafari2018((6, self.map_size, self.map_size))
        first, second, last = usual.stages
        (layer,) = second.branches
        competition = dataclasses.replace(layer.competition, winners=self.winners)
        layer = dataclasses.replace(layer, features=self.features, competition=competition)
        stages = (first, dataclasses.replace(second, branches=(layer,)), last)
        return dataclasses.replace(usual, stages=stages, time_steps=self.time_steps)

    def data(self, source: data.Dataset) -> data.Dataset:
        """As many images as wanted, again and again the same if there are too few, in the wanted size."""
        size = source.train_images.shape[1]
        nearest = np.arange(self.map_size) * size // self.map_size
        images = np.resize(source.train_images, (self.images, size, size))[:, nearest][:, :, nearest]
        labels = np.resize(source.train_labels, self.images)
        return data.Dataset(source.name, images, labels, images, labels, source.classes)


@dataclasses.dataclass(frozen=True)
class Options(common.Options):
    """What grows, and how often each point is measured."""

    axes: tuple[str, ...] = field(default=tuple(POINTS), help=f"what grows ({' '.join(POINTS)})")
    points: int = field(default=4, help="measure the first so many points of each axis")
    repeats: int = field(default=3, help="how often each point is measured")
    images: int = field(default=Case.images, help="train with and test so many images, where another thing grows")


def measure(program: Program, case: Case, source: data.Dataset, repeats: int) -> dict[str, dict[str, float]]:
    """Of STDP of the second layer, R-STDP and test: ms_per_image (the median), min, max and compile_seconds."""
    for cache in (jax.clear_caches, spread.learning_program.cache_clear, spread.mapping_program.cache_clear):
        cache()  # so that each point compiles all that it needs
    chunk = spread.CHUNK if case.together == Case.together else case.together
    with mock.patch.multiple(engine, BLOCK=case.together), mock.patch.multiple(spread, CHUNK=chunk):
        program.prepare((case.network, case.data(source), case.images, {}))
        works, found = program.works, {}
        for name in PHASES:
            ms = [works[name].measure(program.finish) for _ in range(repeats + 1)][1:]  # the first does not count
            found[name] = common.summary("ms_per_image", ms) | dict(compile_seconds=works[name].compile_seconds)
    return found


def count_compilations(source: data.Dataset, images: int) -> dict[str, int]:
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

        def save(state: TrainState, seed: int = seed) -> None:
            counts.setdefault((seed, state.phase, state.done), len(compiled))

        settings = Settings((3, 3, 3), batch_size=max(1, images // 10), patience=0, seed=seed)
        trainer = Trainer(Case().network, source.first(images, images), settings)
        trainer.run(trainer.initial_state(), save)
    later = sum(counts[seed, phase, 3] - counts[seed, phase, 1] for seed in range(2) for phase in range(3))
    first = counts[0, 2, 1] - counts[0, 0, 3] + counts[0, 0, 1]
    return dict(first=first, later=later, seed=counts[1, 2, 3] - counts[0, 2, 3])


def table(rows: list[dict[str, Any]]) -> Table:
    """The measurements, a line for each point."""
    sections: dict[str, dict[int, list[str]]] = {}
    for row in rows:
        axis, value = row["axis"], row["value"]
        cells = sections.setdefault(axis, {}).setdefault(value, [POINTS[axis][0], str(value)])
        cells.append(f"{row['ms_per_image']:.3g} ({row['compile_seconds']:.1f})")
    lines = [list(section.values()) for section in sections.values()]
    return console.table(("grows", "value", *PHASES), lines, "milliseconds an image (compiling s)")


def main(arguments: list[str] | None = None) -> None:
    """Runs from the command line."""
    options, screen = console.options(Options, __doc__, arguments), console.screen()
    with console.user_errors():
        console.check_names(options, "axes", POINTS)
        console.check_least(options, 1, "points", "repeats", "images")
        images = data.load(options.dataset, options.data_dir)
        if images.train_images.ndim > 3:
            raise InputError(f"`dataset` must be of grey images, those of {images.name} have colours")
        out, program = options.folder("scaling"), Program(options.device)
    about = common.about(images, program.device)
    caption = common.caption(about)
    screen.print(caption)
    compiled = count_compilations(images, options.images)
    screen.print(
        f"compiled in a training: {compiled['first']} programs by the end of each phase's first epoch, "
        f"{compiled['later']} in later epochs and batches, {compiled['seed']} with another seed in the same process"
    )
    usual, known = Case(options.images), dict[Case, dict[str, dict[str, float]]]()
    rows: list[dict[str, Any]] = []
    for axis in options.axes:
        for value in POINTS[axis][1][: options.points]:
            case = dataclasses.replace(usual, **{axis: value})
            if case not in known:
                known[case] = measure(program, case, images, options.repeats)
            rows += [dict(axis=axis, value=value, phase=name, **row) for name, row in known[case].items()]
    screen.print(table(rows))
    measured = dict(about=about, compiled=compiled, usual=dataclasses.asdict(usual), points=rows)
    files.write_json(out / "scaling.json", measured)
    pictures.scaling(out / "scaling.png", rows, {axis: label for axis, (label, _) in POINTS.items()}, caption)
    screen.print(f"{out}: scaling.json, scaling.png")


if __name__ == "__main__":
    console.run(main)
