"""Measures how the time per image depends on the size of a training run: images, features, map size, time steps, ..."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Annotated, Literal, NamedTuple
from unittest import mock

import common
import numpy as np
import snnjax_program

from snnjax import InputError, data
from snnjax.app import console, lookup, planning, shared_options
from snnjax.app.main import command_options, protected
from snnjax.app.shared_options import Machine, option
from snnjax.core import devices
from snnjax.core.errors import unknown
from snnjax.networks import Network
from snnjax.training.learning import forget_programs
from snnjax.training.run_plan import network_for

Case = dict[str, int]
"""A value for each axis of a study."""


class Axis(NamedTuple):
    """A quantity that is varied."""

    label: str
    values: tuple[int, ...]
    usual: int  # the value while another quantity is varied
    vary: Callable[[Network, int], Network] = lambda network, value: network


class Study(NamedTuple):
    """A network that is measured."""

    program: type[snnjax_program.Program]
    phases: tuple[str, ...]
    axes: dict[str, Axis]

    def usual(self, images: int) -> Case:
        """The case in which every axis has its usual value."""
        return {name: axis.usual for name, axis in self.axes.items()} | dict(images=images)


def parameter(path: str, times: int = 1) -> Callable[[Network, int], Network]:
    """A function that sets a parameter of a network to `times` the value."""
    return lambda network, value: network.vary(path, times * value)


def inputs_of_readout(network: Network, features: int) -> Network:
    """Varies the number of features that a readout reads, and its threshold in proportion."""
    values = network.hyperparameters()
    threshold = values["layer2.threshold"] * features / values["layer1.features"]
    return network.vary("layer1.features", features).vary("layer2.threshold", threshold)


IMAGES = Axis("images", (50, 200, 400, 800), 200)
ROWS = Axis("rows of the image", (14, 28, 42, 56), 28)
TOGETHER = Axis("images at a time", (1, 8, 64, 512), devices.BATCH_SIZES["cpu"])
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
            neurons=Axis("neurons per class", (2, 5, 10, 20), 5, parameter("layer2.features", 10)),
            map_size=ROWS,
            time_steps=Axis("time steps", (15, 60, 120, 255), 255),
            patches=Axis("patches per image", (10, 30, 100, 300), 30, parameter("layer1.patches")),
            together=TOGETHER,
        ),
    ),
}
"""The measured phases and the axes of each model. The same images are used for training and testing. `together` is the
batch size in phases that do not learn; it is that of `BATCH_SIZES` while another quantity is varied."""
AXES = tuple(dict.fromkeys(name for study in STUDIES.values() for name in study.axes))
TITLE = "minimum milliseconds per image (seconds of compilation)"
CLOCKS = dict(wall=time.perf_counter, cpu=time.process_time)


@dataclasses.dataclass(frozen=True)
class Options(common.Options):
    """Measure how the time per image depends on the size of a training run: images, features, map size, time steps, ...

    $ python benchmarks/scaling.py                        both networks
    $ python benchmarks/scaling.py --backend xla --model goupy2024_ncg --axes neurons patches
    """

    model: Annotated[tuple[str, ...], option("NAME ...", help=f"networks: {', '.join(STUDIES)}")] = tuple(STUDIES)
    axes: Annotated[tuple[str, ...], option("AXIS ...", help=f"quantities to vary: {', '.join(AXES)}")] = AXES
    repeats: int = 3
    """number of measurements of each point"""
    images: int = IMAGES.usual
    """number of images while another quantity is varied"""
    machine: Machine = field(default_factory=Machine)
    clock: Literal["wall", "cpu"] = "wall"
    """cpu: CPU time summed over all cores, for machines on which other programs run too"""


def images_of(case: Case, source: data.Dataset) -> data.Dataset:
    """The images of `source`, resized and repeated to the image size and number of this case."""
    source = source.subset(case["images"], None)
    size = source.train_images.shape[1]
    nearest = np.arange(case["map_size"]) * size // case["map_size"]
    images = np.resize(source.train_images, (case["images"], size, size))[:, nearest][:, :, nearest]
    labels = np.resize(source.train_labels, case["images"])
    return data.Dataset(source.name, images, labels, images, labels, source.classes)


def network_of(model: str, case: Case, images: data.Dataset) -> Network:
    """The network with the values of this case."""
    network = network_for(lookup.published(model), images, time_steps=case["time_steps"])
    for name, axis in STUDIES[model].axes.items():
        network = axis.vary(network, case[name])
    return network


def measure(model: str, program: snnjax_program.Program, source: data.Dataset, repeats: int, case: Case) -> common.Row:
    """Measures a case; returns ms_per_image (the median), min, max and compile_seconds by phase."""
    forget_programs()  # so that each point compiles all its programs
    images = images_of(case, source)
    together = case["together"]
    chunks = {} if together == TOGETHER.usual else dict.fromkeys(("cpu", "gpu", "tpu"), together)
    with mock.patch.dict(devices.BATCH_SIZES, chunks):
        program.prepare((network_of(model, case, images), images, case["images"], None))
        results = {}
        for phase in STUDIES[model].phases:
            ms = [program.measure(phase) for _ in range(repeats + 1)][1:]  # the first does not count
            compiling = dict(compile_seconds=program.works[phase].compile_seconds)
            results[phase] = common.summary("ms_per_image", ms) | compiling
    return results


def growth(points: list[common.Row]) -> float:
    """The exponent e of a power law through the points of one phase, minimum ms per image ~ value^e."""
    values = np.log([point["value"] for point in points])
    ms = np.log([point["min"] for point in points])
    return float(np.polyfit(values, ms, 1)[0]) if len(points) > 1 else 0.0


def table_of(model: str, points: list[common.Row]) -> str:
    """The table of a network: for each axis, a line per value with the minimum of all repeats, then the exponents."""
    lines = list[list[str]]()
    for label, of_axis in grouped(points, "label").items():
        for value, row in grouped(of_axis, "value").items():
            lines.append([label, str(value), *(f"{x['min']:.3g} ({x['compile_seconds']:.1f})" for x in row)])
        lines.append(["", "exponent", *(f"{growth(rows):.2f}" for rows in grouped(of_axis, "phase").values())])
    return common.markdown([model, "value", *STUDIES[model].phases], lines)


def grouped(rows: list[common.Row], key: str) -> dict[str, list[common.Row]]:
    """Groups rows by the value of a key, in order."""
    return {value: [row for row in rows if row[key] == value] for value in dict.fromkeys(row[key] for row in rows)}


def run(options: Options) -> None:
    """Measures each point of each axis for each network; writes all results after each axis."""
    shared_options.check_least(options, repeats=1, images=1)
    for name, choices in (("model", STUDIES), ("axes", AXES)):
        for choice in getattr(options, name):
            if choice not in choices:
                raise unknown(name, choice, choices)
    source = data.load(options.dataset, options.data_dir)
    if not any(name in STUDIES[model].axes for model in options.model for name in options.axes):
        raise InputError(f"`axes` must name some of {', '.join(options.model)}, got {', '.join(options.axes)}")
    if source.train_images.ndim > 3:
        raise InputError(f"`dataset` must have grey images, but {source.name} has colour images")
    backend = planning.resolve_backend(options.machine.backend, time_steps=1)
    out = options.folder("scaling")
    machine = dict(backend=f"back end {backend}", clock=f"{options.clock} time")
    about = common.about(dataset=source.name, **machine)
    content: common.Row = dict(about=about, usual={}, points=[])
    for model in dict.fromkeys(options.model):
        study = STUDIES[model]
        measured = dict[tuple[int, ...], common.Row]()
        case = study.usual(options.images)
        program = study.program(options.machine.device, backend)
        program.clock = CLOCKS[options.clock]
        content["usual"][model] = case
        for name in (name for name in options.axes if name in study.axes):
            axis = study.axes[name]
            for value in axis.values:
                varied = case | {name: value}
                key = tuple(varied.values())
                measured[key] = measured.get(key) or measure(model, program, source, options.repeats, varied)
                where = dict(model=model, axis=name, label=axis.label, value=value)
                content["points"] += [where | dict(phase=phase) | row for phase, row in measured[key].items()]
            tables = [table_of(network, points) for network, points in grouped(content["points"], "model").items()]
            table = "\n".join([*tables, f"{TITLE}; {common.caption(about)}", ""])
            written = common.write(out, "scaling", content, table)
    console.screen().print(table, written, sep="\n", markup=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the options, by default those of the command line, and measures."""
    with command_options("python benchmarks/scaling.py", Options, arguments, common.STOPPED) as chosen:
        run(chosen)


if __name__ == "__main__":
    with protected():
        main()
