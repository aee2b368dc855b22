"""How the time per image grows with what a training is made of: images, features, map size, time steps and more.

$ python benchmarks/scaling.py                        both networks
$ python benchmarks/scaling.py --kernels xla --model goupy2024_ncg --axes neurons patches
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple
from unittest import mock

import common
import jax
import numpy as np
import snnjax_program
from matplotlib.figure import Figure

from snnjax import InputError, Settings, Trainer, data
from snnjax.app import console, parts
from snnjax.app.main import protected
from snnjax.app.options import option
from snnjax.core.errors import unknown
from snnjax.networks import Network
from snnjax.training import placement
from snnjax.training.build import network_for

Case = dict[str, int]
"""A value of each axis of a network."""


class Axis(NamedTuple):
    """A quantity that grows."""

    label: str
    values: tuple[int, ...]
    usual: int  # where another quantity grows
    vary: Callable[[Network, int], Network] = lambda network, value: network


class Study(NamedTuple):
    """A network that is measured."""

    program: type[snnjax_program.Program]
    phases: tuple[str, ...]
    axes: dict[str, Axis]

    def usual(self, images: int) -> Case:
        """The case from which each axis departs."""
        return {name: axis.usual for name, axis in self.axes.items()} | dict(images=images)


def parameter(path: str, times: int = 1) -> Callable[[Network, int], Network]:
    """Sets a parameter of a network to `times` the value."""
    return lambda network, value: network.vary(path, times * value)


def inputs_of_readout(network: Network, features: int) -> Network:
    """Varies the features that a readout sees, and its threshold in proportion."""
    values = network.hyperparameters()
    threshold = values["layer2.threshold"] * features / values["layer1.features"]
    return network.vary("layer1.features", features).vary("layer2.threshold", threshold)


IMAGES = Axis("images", (50, 200, 400, 800), 200)
ROWS = Axis("rows of the image", (14, 28, 42, 56), 28)
TOGETHER = Axis("images at a time", (1, 8, 64, 512), placement.CHUNK["cpu"])
STUDIES = {
    "mozafari2018": Study(
        snnjax_program.Program,
        ("STDP 2", "R-STDP", "test"),
        dict(
            images=IMAGES,
            features=Axis("features of layer 2", (50, 125, 250, 500), 250, parameter("layer2.features")),
            map_size=ROWS,
            time_steps=Axis("time steps", (5, 10, 15, 30), 15),
            winners=Axis("winners of layer 2", (1, 4, 8, 16), 8, parameter("layer2.winners")),
            together=TOGETHER,
        ),
    ),
    "goupy2024_ncg": Study(
        snnjax_program.TargetTimeReadout,
        ("one patch", "outputs", "learn", "test"),
        dict(
            images=IMAGES,
            features=Axis("features of layer 1", (32, 64, 128, 256), 128, inputs_of_readout),
            neurons=Axis("neurons a class", (2, 5, 10, 20), 5, parameter("layer2.features", 10)),
            map_size=ROWS,
            time_steps=Axis("time steps", (15, 60, 120, 255), 255),
            patches=Axis("patches an image", (10, 30, 100, 300), 30, parameter("layer1.patches")),
            together=TOGETHER,
        ),
    ),
}
"""By model, the phases that are measured and the axes. The same images train and test. `together` is the size of chunks
in phases that do not learn; `CHUNK` where another quantity grows."""
AXES = tuple(dict.fromkeys(name for study in STUDIES.values() for name in study.axes))
TITLE = "least milliseconds an image (compiling s)"
CLOCKS = dict(wall=time.perf_counter, cpu=time.process_time)


@dataclasses.dataclass(frozen=True)
class Options(common.Options):
    """What grows, and how often each point is measured."""

    model: Annotated[tuple[str, ...], option("NAME ...", help=f"networks: {', '.join(STUDIES)}")] = tuple(STUDIES)
    axes: Annotated[tuple[str, ...], option("AXIS ...", help=f"what grows: {', '.join(AXES)}")] = AXES
    points: int = 4
    """number of points of each axis, from the first"""
    repeats: int = 3
    """how often each point is measured"""
    images: int = IMAGES.usual
    """number of images, where another thing grows"""
    kernels: Literal["auto", "xla", "native"] = "auto"
    """as of `snnjax train`"""
    clock: Literal["wall", "cpu"] = "wall"
    """cpu: the seconds of all cores of a CPU, where other programs share them"""


def images_of(case: Case, source: data.Dataset) -> data.Dataset:
    """Images of `source` in the case's number (repeated if there are too few) and size."""
    source = source.first(case["images"], None)
    size = source.train_images.shape[1]
    nearest = np.arange(case["map_size"]) * size // case["map_size"]
    images = np.resize(source.train_images, (case["images"], size, size))[:, nearest][:, :, nearest]
    labels = np.resize(source.train_labels, case["images"])
    return data.Dataset(source.name, images, labels, images, labels, source.classes)


def network_of(model: str, case: Case, images: data.Dataset) -> Network:
    """The network with the values of this case."""
    network = network_for(parts.published(model), images, time_steps=case["time_steps"])
    for name, axis in STUDIES[model].axes.items():
        network = axis.vary(network, case[name])
    return network


def measure(model: str, program: snnjax_program.Program, source: data.Dataset, repeats: int, case: Case) -> common.Row:
    """By phase: ms_per_image (the median), min, max and compile_seconds."""
    placement.forget_programs()  # each point compiles all that it needs
    images = images_of(case, source)
    together = case["together"]
    chunks = {} if together == TOGETHER.usual else dict.fromkeys(placement.CHUNK, together)
    with mock.patch.dict(placement.CHUNK, chunks):
        program.prepare((network_of(model, case, images), images, case["images"], None))
        results = {}
        for phase in STUDIES[model].phases:
            ms = [program.measure(phase) for _ in range(repeats + 1)][1:]  # the first does not count
            compiling = dict(compile_seconds=program.works[phase].compile_seconds)
            results[phase] = common.summary("ms_per_image", ms) | compiling
    return results


def count_compilations(model: str, source: data.Dataset, case: Case, native: bool) -> dict[str, int]:
    """Programs compiled in a first training, one epoch a phase, and in a later one: three epochs, another seed."""
    events = list[str]()
    counts = dict[str, int]()
    images = images_of(case, source)
    network = network_of(model, case, images)

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    for training, seed, epochs in (("first", 0, 1), ("later", 1, 3)):
        events.clear()
        stages = (epochs,) * len(network.stages)
        batch = max(1, case["images"] // 10)
        trainer = Trainer(network, images, Settings(stages, batch, patience=0, seed=seed, native=native))
        trainer.run(trainer.initial_state())
        counts[training] = sum(event.endswith("backend_compile_duration") for event in events)
    return counts


def growth(points: list[common.Row]) -> float:
    """The exponent e of a power law through points of one phase, least ms an image ~ value^e."""
    values = np.log([point["value"] for point in points])
    ms = np.log([point["min"] for point in points])
    return float(np.polyfit(values, ms, 1)[0]) if len(points) > 1 else 0.0


def table_of(model: str, content: common.Row) -> tuple[list[str], list[list[str]], str]:
    """Head, lines and notes: for each axis a line a value, the least of all repeats, then how each phase grows."""
    lines = list[list[str]]()
    counts = content["compiled"][model]
    for label, points in grouped(grouped(content["points"], "model")[model], "label").items():
        for value, row in grouped(points, "value").items():
            lines.append([label, str(value), *(f"{x['min']:.3g} ({x['compile_seconds']:.1f})" for x in row)])
        lines.append(["", "exponent", *(f"{growth(rows):.2f}" for rows in grouped(points, "phase").values())])
    compiled = f"Programs compiled in a first training: {counts['first']}, in a longer one after it: {counts['later']}."
    return [model, "value", *STUDIES[model].phases], lines, f"{TITLE}. {compiled}"


def grouped(rows: list[common.Row], key: str) -> dict[str, list[common.Row]]:
    """Rows by the value of a key, in order."""
    return {value: [row for row in rows if row[key] == value] for value in dict.fromkeys(row[key] for row in rows)}


def draw(rows: list[common.Row], title: str) -> Figure:
    """Milliseconds an image by the value that grows, a panel for each axis of each model."""
    panels = dict[str, dict[str, dict[str, float]]]()
    for row in rows:
        curves = panels.setdefault(f"{row['model']}, {row['label']}", {})
        curves.setdefault(row["phase"], {})[str(row["value"])] = row["ms_per_image"]
    return common.draw(panels, title, "ms an image")


@common.command(Options, __doc__)
def main(options: Options) -> None:
    """For each network counts compilations, then measures each point of each axis; writes all results after each."""
    parts.check_least(options, points=1, repeats=1, images=1)
    for name, choices in (("model", STUDIES), ("axes", AXES)):
        for choice in getattr(options, name):
            if choice not in choices:
                raise unknown(name, choice, choices)
    source = data.load(options.dataset, options.data_dir)
    if not any(name in STUDIES[model].axes for model in options.model for name in options.axes):
        raise InputError(f"`axes` must name some of {', '.join(options.model)}, got {', '.join(options.axes)}")
    if source.train_images.ndim > 3:
        raise InputError(f"`dataset` must be of grey images, those of {source.name} have colours")
    native = parts.use_native(options.kernels)
    out = options.folder("scaling")
    screen = console.screen()
    kernels = "native kernels" if native else "kernels of XLA"
    about, caption = common.about(dataset=source.name, kernels=kernels, clock=f"{options.clock} time")
    content: common.Row = dict(about=about, compiled={}, usual={}, points=[])
    for model in dict.fromkeys(options.model):
        study = STUDIES[model]
        measured = dict[tuple[int, ...], common.Row]()
        case = study.usual(options.images)
        program = study.program(options.device, native)
        program.clock = CLOCKS[options.clock]
        content["usual"][model] = case
        content["compiled"][model] = count_compilations(model, source, case, native)
        for name in (name for name in options.axes if name in study.axes):
            axis = study.axes[name]
            for value in axis.values[: options.points]:
                varied = case | {name: value}
                key = tuple(varied.values())
                measured[key] = measured.get(key) or measure(model, program, source, options.repeats, varied)
                where = dict(model=model, axis=name, label=axis.label, value=value)
                content["points"] += [where | dict(phase=phase) | row for phase, row in measured[key].items()]
            tables = [common.markdown(*table_of(network, content)) for network in grouped(content["points"], "model")]
            figure = draw(content["points"], caption)
            written = common.write(out, "scaling", content, "\n".join([*tables, caption, ""]), figure)
    for model in grouped(content["points"], "model"):
        head, lines, notes = table_of(model, content)
        screen.print(console.table(head, [lines], TITLE), notes, sep="\n")
    screen.print(written)


if __name__ == "__main__":
    protected(main)
