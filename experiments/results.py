"""Trains the networks of a table with several seeds, and writes their results with accuracies to compare with."""

import dataclasses
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any

import jax
from protocols import JPEG, TABLES, Row
from result_tables import accuracies, pretrained, replication

from snnjax import InputError, data
from snnjax.app import lookup, options, planning, shared_options
from snnjax.app.commands import train
from snnjax.app.main import command_options, protected
from snnjax.app.shared_options import option
from snnjax.core import files
from snnjax.core.errors import unknown
from snnjax.data.catalogue import CATALOGUE
from snnjax.training.learning import forget_programs

STOPPED = "Stopped; all but the last half minute is kept. The same command continues."
LONGEST = 100  # maximum number of characters in the name of a table
KINDS = {"replication": replication, "pretrained": pretrained}
"""The modules that make the records of the tables for which `accuracies` does not."""


@dataclasses.dataclass(frozen=True)
class Results:
    """Train the networks of a table of results with several seeds each, and write the results.

    $ python experiments/results.py                                      on scikit-learn's digits
    $ python experiments/results.py --table mnist                        takes hours
    $ python experiments/results.py --table replication                  the recorded runs of aidinattar/snn
    $ python experiments/results.py --table pretrained --data_dir cifar10-jpeg=PICTURES        the shipped networks
    $ python experiments/results.py --rows goupy2024_ncg:fashion_mnist --seeds 1

    The same command continues where it stopped; finished runs are only read.
    """

    table: Annotated[str, option("NAME", help=f"one of {', '.join(TABLES)}")] = "digits"
    rows: Annotated[tuple[str, ...], option("MODEL:DATASET ...", "those of the table")] = ()
    """only these rows, from any table or new ones; a row keeps the settings that it has in a table"""
    seeds: Annotated[int | None, option("N", "those of each row, 5 if a run is short")] = None
    """number of runs of each row, with seeds 0, 1, ..."""
    data_dir: Annotated[tuple[str, ...], option("SET=DIR ...", "the cache folder, downloaded if need be")] = ()
    """folders of the data sets, for example mnist=DIR; required for cifar10-jpeg, a folder or .zip file of pictures"""
    machine: shared_options.Device = field(default_factory=shared_options.Device)
    out: Annotated[Path, option("DIR")] = Path("runs/results")
    """folder of all runs and tables"""


def rows_of(chosen: Results) -> list[Row]:
    """The rows that the options select; raises InputError for an unknown table, network or data set."""
    shared_options.check_least(chosen, seeds=1)
    if chosen.table not in TABLES:
        raise unknown("table", chosen.table, TABLES)
    rows = [row_of(text, chosen.table) for text in chosen.rows] or TABLES[chosen.table]
    if chosen.table in KINDS and not {*rows} <= {*TABLES[chosen.table]}:
        known = ", ".join(f"{row.model}:{row.dataset}" for row in TABLES[chosen.table])
        raise InputError(f"`rows` of {chosen.table} must be some of {known}")
    if chosen.seeds is not None:
        rows = [dataclasses.replace(row, seeds=chosen.seeds) for row in rows]
    if planning.resolve_backend("auto", time_steps=1) == "xla":
        rows = [dataclasses.replace(row, backend="xla") for row in rows]
    rows = list(dict.fromkeys(rows))
    folders = folders_of(chosen.data_dir)
    for row in rows:
        if not row.model.rpartition(":")[0]:
            lookup.published(row.model, ", or FILE.py:NAME")
        names = (*data.DATASETS, *data.RECORDINGS, JPEG)
        if row.dataset not in names and not row.dataset.endswith(".npz"):
            raise unknown("rows", row.dataset, names, ", or an .npz file, behind MODEL:")
        if row.dataset == JPEG and JPEG not in folders:
            wanted = f"{JPEG}=DIR, a folder of pictures or a .zip file of one"
            raise InputError(f"`data_dir` must name the folder of {JPEG}: {wanted}")
    return rows


def row_of(text: str, table: str) -> Row:
    """The row for MODEL:DATASET, from this table, from another table, or new; MODEL may be FILE.py:NAME."""
    model, _, dataset = text.rpartition(":")
    if not model or not dataset:
        raise InputError(f"`rows` must be MODEL:DATASET, got {text!r}")
    rows = (row for rows in (TABLES[table], *TABLES.values()) for row in rows)
    return next((row for row in rows if (row.model, row.dataset) == (model, dataset)), Row(model, dataset))


def folders_of(data_dir: Sequence[str]) -> dict[str, Path]:
    """The folder of each data set, given options such as mnist=DIR."""
    pairs = [text.partition("=") for text in data_dir]
    if wrong := ["".join(pair) for pair in pairs if not pair[0] or not pair[2]]:
        raise InputError(f"`data_dir` must be SET=DIR, for example mnist=DIR, got {wrong[0]!r}")
    return {name: Path(folder) for name, _, folder in pairs}


def name_of(row: Row) -> str:
    """The name of the folder of a row's runs, made from all settings except the seeds."""
    marks = [Path(row.model).name, Path(row.dataset).name, row.train_images, row.in_order and "in_order"]
    marks += [row.labels and f"labels{row.labels}", row.drawn and "drawn", row.mirror and "mirrored"]
    marks += [row.backend == "xla" and "xla", *row.epochs, row.update_batch > 1 and f"batch{row.update_batch}"]
    marks += [row.patience is not None and f"patience{row.patience}", row.test_images and f"of{row.test_images}"]
    return joined(marks)


def table_name(chosen: Results, rows: Sequence[Row]) -> str:
    """The name of a table's files, made from the table or its rows, and from the number of seeds."""
    marks = list[Any]()
    if chosen.table in KINDS or not chosen.rows:
        marks.append(chosen.table)
    if chosen.rows:
        marks += dict.fromkeys(f"{Path(row.model).name}-{Path(row.dataset).name}" for row in rows)
    marks.append(chosen.seeds and f"seeds{chosen.seeds}")
    return joined(marks)[:LONGEST]


def joined(marks: Iterable[Any]) -> str:
    """The non-empty marks, joined into a file name."""
    return re.sub(r"[^\w-]+", "-", "_".join(str(mark) for mark in marks if mark))


def options_of(row: Row, seed: int, chosen: Results) -> options.Train:
    """The options of `snnjax train` for one run."""
    place = folders_of(chosen.data_dir).get(row.dataset)
    dataset = "folder" if row.dataset == JPEG else row.dataset
    if row.in_order:
        dataset = str(first_images(row, place, chosen.out))
        place = None
    return options.Train(
        network=shared_options.Network(model=row.model),
        data=shared_options.TrainData(
            dataset=dataset,
            data_dir=place,
            train_images=row.train_images,
            test_images=row.test_images,
            labels=row.labels,
            draw=row.drawn,
            validation=validation_of(row),
        ),
        training=shared_options.Training(
            epochs=row.epochs,
            adapt_every=row.adapt_every,
            shuffle=row.shuffle,
            patience=row.patience,
            seed=seed,
            update_batch=row.update_batch,
            mirror=row.mirror,
        ),
        machine=shared_options.Machine(device=chosen.machine.device, backend=row.backend),
        run=shared_options.Run(out=chosen.out / name_of(row) / f"seed{seed}", resume=True),
    )


def first_images(row: Row, place: Path | None, out: Path) -> Path:
    """The file with the first images of a row's data set, whatever their classes; writes it if it does not exist."""
    path = out / f"{row.dataset}_{row.train_images}_{row.test_images}.npz"
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        data.load(row.dataset, place).subset(row.train_images, row.test_images, in_order=True).save(path)
    return path


def validation_of(row: Row) -> float:
    """The share of images to hold out; 0 if there is no more than one image per class (unknown data: 10 classes)."""
    count = row.labels or row.train_images
    classes = CATALOGUE[row.dataset].classes if row.dataset in CATALOGUE else 10
    single = count is not None and count <= classes
    return 0.0 if single else row.validation


def run(chosen: Results) -> None:
    """Trains all rows; prints and writes the results after each."""
    rows = rows_of(chosen)
    kind = KINDS.get(chosen.table, accuracies)
    path = chosen.out / f"{table_name(chosen, rows)}.json"
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_enable_compilation_cache", False)  # the seconds of each run include all compilation
    records: list[dict[str, Any]] = []
    for row in rows:
        results = []
        for seed in range(row.seeds):
            forget_programs()  # each run compiles its programs, as a command does
            results.append(train.train(options_of(row, seed, chosen))[1])
        records.append(kind.record_of(row, chosen.out / name_of(row), results))
        files.write_json(path, dict(table=path.stem, rows=records))
        print(kind.line_of(records[-1]), flush=True)
    print(f"{path}, and next to it a folder with the runs of each row")


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the options, by default those of the command line, and makes the table."""
    with command_options("python experiments/results.py", Results, arguments, STOPPED) as chosen:
        run(chosen)


if __name__ == "__main__":
    with protected():
        main()
