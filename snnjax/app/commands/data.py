"""`snnjax data`: lists data sets, downloads some of them, or inspects and stores a data set."""

import numpy as np
from rich.markup import escape
from rich.table import Table

from snnjax import InputError, data
from snnjax.app import console, data_source, options
from snnjax.core import files
from snnjax.core.errors import printable

MOST = 30  # maximum number of classes with separate rows


def at_hand(name: str) -> str:
    """The location of a data set, as text."""
    kind, path = data.find(name)
    return f"{kind}: {path}" if path else kind


def listing() -> None:
    """Prints a table of all data sets that have a name."""
    rows = []
    for name, entry in data.CATALOGUE.items():
        size = "x".join(map(str, entry.shape))
        megabytes = f"{entry.published.size / 1e6:.0f}" if entry.published else ""
        counts = [f"{entry.train_images:,}", f"{entry.test_images:,}", size, str(entry.classes), megabytes]
        rows.append([name, *counts, at_hand(name)])
    head = ("data set", "training", "test", "height x width", "classes", "MB to download", "available")
    console.screen().print(console.table(head, [rows], "data sets", left=1))
    print("`snnjax data NAME` downloads a set; the three EMNIST sets come in one download.")
    print(f"Recordings of event cameras, read by tonic: {', '.join(data.RECORDINGS)}.")
    print("`snnjax data folder --data_dir DIR` shows your pictures, a folder for each class.")


def counted(images: data.Dataset) -> Table:
    """A table of the number of images in each class; if there are many classes, the last ones share a row."""
    labels = dict(training=images.train_labels, test=images.test_labels)
    if images.validation_labels is not None:
        labels["validation"] = images.validation_labels
    counts = np.transpose([np.bincount(x, minlength=images.classes) for x in labels.values()])
    lines = [(escape(printable(name)), *count) for name, count in zip(images.names, counts, strict=True)]
    if len(lines) > MOST:
        lines[MOST:] = [(f"{len(lines) - MOST} more", *counts[MOST:].sum(axis=0))]
    rows = [[name, *(f"{number:,}" for number in numbers)] for name, *numbers in lines]
    return console.table(("class", *labels), [rows], left=1)


def run(chosen: options.Sets) -> None:
    """Lists, downloads or inspects data sets."""
    if chosen.out is not None:
        files.check_new(chosen.out)
        if len(chosen.dataset) != 1:
            raise InputError(f"`out` stores one data set, got {len(chosen.dataset)}")
    if not chosen.dataset:
        return listing()
    for name in chosen.dataset:
        if name in data.DATASETS and chosen.data_dir is None and data.find(name).kind == "absent":
            print(f"{name}: downloaded to {data.fetch(name)}")
        images = data_source.load(vars(chosen) | dict(dataset=name))
        print(images, *console.notes(images), sep="\n")
        console.screen().print(counted(images))
        if chosen.out is not None:
            images.save(chosen.out)
            print(f"{chosen.out}: as `--dataset {chosen.out}` reads it")
