"""Measures exported C programs on an emulated Cortex-M4: memory, and instructions per decision and learning step."""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import common
import numpy as np

from snnjax import SpikingNetwork, data
from snnjax.app import console, shared_options
from snnjax.app.main import command_options, protected
from snnjax.app.shared_options import option
from snnjax.core.errors import MissingPackageError
from snnjax.export import c
from snnjax.export.c import IntegerPrototypes, inputs_of, integer_prototypes
from snnjax.networks import prototypes_on, quantise
from snnjax.runs import Trained

LEVELS = "-Os", "-O3"
ROWS = (
    "flash, bytes",
    "memory, bytes",
    "stack, bytes",
    "instructions of a decision",
    "multiplications among them",
    "instructions of a learning step, without its decision",
    "multiplications among these",
)
NOTE = (
    "Decisions and weights are the same as in Python. Multiplications are integer multiplications. Instructions are not"
    " cycles: on a Cortex-M4, loads and branches take up to three cycles, divisions up to twelve; flash may stall it."
)


@dataclasses.dataclass(frozen=True)
class Options(common.Options):
    """Run programs of `snnjax export --to c` on an emulated Cortex-M4, and count their instructions."""

    run: Annotated[str, option("RUN", help="a trained network")] = "pretrained:goupy2024_ncg_mnist"
    bits: int = 4
    """bits of the weights that do not learn; those that learn have 8"""
    per_class: Annotated[tuple[int, ...], option("N ...", help="neurons per class of programs that learn")] = (
        1,
        3,
        5,
        10,
    )
    images: int = 40
    """test images on which each program decides, and from which it learns"""
    counted: int = 2
    """number of final images for which instructions are counted"""
    floats: Literal["hard", "soft"] = "hard"
    """hard: the processor computes with floats; soft: functions of the compiler do"""


def learned_in_python(
    network: SpikingNetwork, prototypes: IntegerPrototypes, images: np.ndarray, labels: np.ndarray
) -> tuple[list[int], IntegerPrototypes]:
    """The decisions, each of which is made before its image is learned, and the prototypes at the end."""
    decisions = []
    for inputs, label in zip(inputs_of(network, images), labels, strict=True):
        decisions.append(prototypes.decide(inputs))
        prototypes = prototypes.learn(inputs, int(label))
    return decisions, prototypes


def measured(board: Any, images: np.ndarray, labels: np.ndarray, counted: int) -> tuple[list[int], list[float]]:
    """Runs a program on all images; returns its decisions, and the values of `ROWS`, as means over counted images."""
    decisions = []
    counts = []
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        board.counts = number >= len(images) - counted
        decision, *steps = board.run("network_classify", image)
        if "network_learn" in board.symbols:
            decision, *both = board.run("network_learn", image, int(label))
            steps += [more - less for more, less in zip(both, steps, strict=True)]
        decisions.append(decision)
        if board.counts:
            counts.append(steps)
    return decisions, [board.flash, board.memory, board.stack(), *np.mean(counts, axis=0)]


def has_learned(board: Any, readout: str, learned: IntegerPrototypes) -> bool:
    """Whether a program has learned the same state as in Python, bit for bit."""
    state: dict[str, Any] = {
        f"{readout}_weights": learned.weights.astype(np.int8),
        "wins": learned.wins.astype(np.uint16),
        "bias": learned.bias,
        "mean_length": np.uint32(learned.length),
    }
    return all(board.read(name) == values.tobytes() for name, values in state.items())


def run(options: Options) -> None:
    """Measures each program; prints and writes the tables."""
    shared_options.check_least(options, bits=1, images=1, counted=1)
    try:
        from emulated import built
    except ModuleNotFoundError as error:
        raise MissingPackageError(f"emulation needs more: pip install 'snnjax[microcontroller]' ({error})") from error
    trained = Trained.read(options.run)
    source = data.load(options.dataset, options.data_dir)
    images = np.rint(source.test_images[: options.images]).astype(np.uint8)
    labels = source.test_labels[: options.images]
    out = options.folder("microcontroller")
    columns: dict[str, list[list[float]]] = {level: [] for level in LEVELS}
    for neurons in (None, *options.per_class):
        network = trained.spiking_network()
        learned = None
        if neurons is None:
            program = c.program(network, options.bits, trained.image_shape, name="network")
            decisions = np.asarray(quantise(network, options.bits)(images)).tolist()
        else:
            network = prototypes_on(network, per_class=neurons)
            empty = integer_prototypes(network)
            program = c.program(network, options.bits, trained.image_shape, name="network", learning=empty)
            decisions, learned = learned_in_python(quantise(network, options.bits), empty, images, labels)
        for level in LEVELS:
            with tempfile.TemporaryDirectory() as folder:
                board = built(program, Path(folder), level, options.floats)
            found, column = measured(board, images, labels, options.counted)
            alike = learned is None or has_learned(board, network.network.names[-1][0], learned)
            if found != decisions or not alike:
                raise RuntimeError(f"{level}, {neurons} per class: decisions or weights are not those of Python")
            columns[level].append(column)
    counted = f"{len(images)} images of {options.dataset}, the last {options.counted} counted"
    facts = common.about(network=f"{options.run}, {options.bits} bits", images=counted, floats=options.floats)
    tables = [table_of(level, options.per_class, columns[level]) for level in LEVELS]
    table = "\n".join([*tables, NOTE, common.caption(facts), ""])
    content = dict(about=facts, rows=ROWS, per_class=[None, *options.per_class], columns=columns)
    written = common.write(out, "microcontroller", content, table)
    console.screen().print(table, written, sep="\n", markup=False)


def table_of(level: str, per_class: Sequence[int], columns: list[list[float]]) -> str:
    """A line for each of `ROWS`, a column for each program."""
    head = [f"clang {level}", "decides only", *(f"learns, {neurons} per class" for neurons in per_class)]
    lines = []
    for number, name in enumerate(ROWS):
        cells = (f"{column[number]:,.0f}" if number < len(column) else "" for column in columns)
        lines.append([name, *cells])
    return common.markdown(head, lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the options, by default those of the command line, and measures."""
    with command_options("python benchmarks/microcontroller.py", Options, arguments, common.STOPPED) as chosen:
        run(chosen)


if __name__ == "__main__":
    with protected():
        main()
