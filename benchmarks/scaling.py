"""How the time per image grows with images, features, map size, time steps, winners and images processed together.

$ python benchmarks/scaling.py                        about four minutes on two cores
"""

import dataclasses
import functools
from typing import Annotated
from unittest import mock

import common
import jax
import numpy as np
from matplotlib.figure import Figure
from snnjax_program import Program

from snnjax import InputError, Settings, Trainer, data
from snnjax.app import console, parts, plots
from snnjax.app.main import protected
from snnjax.app.options import option
from snnjax.networks import Network, mozafari2018
from snnjax.training import blocks, spread

POINTS: dict[str, tuple[str, tuple[int, ...]]] = {
    "images": ("images", (50, 200, 400, 800)),
    "features": ("features of layer 2", (50, 125, 250, 500)),
    "map_size": ("rows of the image", (14, 28, 42, 56)),
    "time_steps": ("time steps", (5, 10, 15, 30)),
    "winners": ("winners of layer 2", (1, 4, 8, 16)),
    "together": ("images at a time", (1, 8, 32, 128)),
}
"""Label and values of each axis, a field of `Case`; the other fields keep their defaults."""
PHASES = ("STDP 2", "R-STDP", "test")


@dataclasses.dataclass(frozen=True)
class Case:
    """mozafari2018 with another second layer, other images, or another number of images at a time."""

    images: int = 200  # for training, and the same ones for testing
    features: int = 250  # of layer 2
    map_size: int = 28  # rows and columns of an image
    time_steps: int = 15
    winners: int = 8  # of layer 2
    together: int = blocks.BLOCK  # images to a block of the reward phase, and to a chunk of the test

    def network(self) -> Network:
        """mozafari2018, varied."""
        usual = mozafari2018((6, self.map_size, self.map_size))
        varied = usual.vary("layer2.features", self.features).vary("layer2.winners", self.winners)
        return dataclasses.replace(varied, time_steps=self.time_steps)

    def data(self, source: data.Dataset) -> data.Dataset:
        """`source` in this number (repeated if there are too few) and size."""
        size = source.train_images.shape[1]
        nearest = np.arange(self.map_size) * size // self.map_size
        images = np.resize(source.train_images, (self.images, size, size))[:, nearest][:, :, nearest]
        labels = np.resize(source.train_labels, self.images)
        return data.Dataset(source.name, images, labels, images, labels, source.classes)


@dataclasses.dataclass(frozen=True)
class Options(common.Options):
    """What grows, and how often each point is measured."""

    axes: Annotated[tuple[str, ...], option("AXIS ...", help=f"what grows: {', '.join(POINTS)}")] = tuple(POINTS)
    points: int = 4
    """number of points of each axis, from the first"""
    repeats: int = 3
    """how often each point is measured"""
    images: int = Case.images
    """number of images, where another thing grows"""


def measure(program: Program, source: data.Dataset, repeats: int, case: Case) -> dict[str, common.Row]:
    """By phase: ms_per_image (the median), min, max and compile_seconds."""
    spread.forget_programs()  # each point compiles all that it needs
    chunk = spread.CHUNK if case.together == Case.together else case.together
    with mock.patch.object(blocks, "BLOCK", case.together), mock.patch.object(spread, "CHUNK", chunk):
        program.prepare((case.network(), case.data(source), case.images, None))
        found = {}
        for phase in PHASES:
            ms = [program.measure(phase) for _ in range(repeats + 1)][1:]  # the first does not count
            compiling = dict(compile_seconds=program.works[phase].compile_seconds)
            found[phase] = common.summary("ms_per_image", ms) | compiling
    return found


def count_compilations(source: data.Dataset, images: int) -> dict[str, int]:
    """Programs compiled in a first training, one epoch a phase, and in a later one: three epochs, another seed."""
    events, counts = list[str](), dict[str, int]()

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    for training, seed, epochs in (("first", 0, 1), ("later", 1, 3)):
        events.clear()
        settings = Settings((epochs,) * 3, batch_size=max(1, images // 10), patience=0, seed=seed)
        trainer = Trainer(Case().network(), source.first(images, images), settings)
        trainer.run(trainer.initial_state())
        counts[training] = sum(event.endswith("backend_compile_duration") for event in events)
    return counts


def draw(rows: list[common.Row], title: str) -> Figure:
    """Milliseconds an image and seconds of compilation by what grows, a panel each."""
    grows = list(dict.fromkeys(row["axis"] for row in rows))
    figure, panels = plots.panels(len(grows), "", extra=0.8)
    figure.suptitle(title, fontsize=9)
    for panel, axis in zip(panels, grows, strict=True):
        for number, phase in enumerate(PHASES):
            points = [row for row in rows if (row["axis"], row["phase"]) == (axis, phase)]
            keys = ("value", "ms_per_image", "min", "max", "compile_seconds")
            values, middle, least, most, compiling = ([row[key] for row in points] for key in keys)
            panel.fill_between(values, least, most, color=f"C{number}", alpha=0.2)
            panel.plot(values, middle, "o-", color=f"C{number}", markersize=4, label=f"{phase}, ms an image")
            panel.plot(values, compiling, ":", color=f"C{number}", label=f"{phase}, compiling s")
        panel.set_yscale("log")
        common.plot_by(panel, values, POINTS[axis][0])
    figure.legend(*panels[0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=3)
    return figure


@common.command(Options, __doc__)
def main(options: Options) -> None:
    """Counts compilations, then measures each point of each axis."""
    parts.check_least(options, points=1, repeats=1, images=1)
    if wrong := [axis for axis in options.axes if axis not in POINTS]:
        raise InputError(f"`axes` must be some of {', '.join(POINTS)}, got {', '.join(wrong)}")
    images = data.load(options.dataset, options.data_dir)
    if images.train_images.ndim > 3:
        raise InputError(f"`dataset` must be of grey images, those of {images.name} have colours")
    out, program, screen = options.folder("scaling"), Program(options.device), console.screen()
    (about, caption), usual = common.about(dataset=images.name), Case(options.images)
    counts = count_compilations(images, options.images)
    compiled = f"Programs compiled in a first training: {counts['first']}, in a longer one after it: {counts['later']}."
    screen.print(caption, compiled, sep="\n")
    rows, lines = list[common.Row](), list[list[str]]()
    measured = functools.cache(functools.partial(measure, program, images, options.repeats))
    for axis in options.axes:
        label, values = POINTS[axis]
        for value in values[: options.points]:
            found = measured(dataclasses.replace(usual, **{axis: value}))
            rows += [dict(axis=axis, value=value, phase=name, **row) for name, row in found.items()]
            times = [f"{row['ms_per_image']:.3g} ({row['compile_seconds']:.1f})" for row in found.values()]
            lines.append([label, str(value), *times])
    head, title = ["grows", "value", *PHASES], "milliseconds an image (compiling s)"
    table = common.markdown(head, lines, f"{title}; {caption}", compiled)
    content = dict(about=about, compiled=counts, usual=dataclasses.asdict(usual), points=rows)
    written = common.write(out, "scaling", content, table, draw(rows, caption))
    screen.print(console.table(head, [lines], title), written, sep="\n")


if __name__ == "__main__":
    protected(main)
