"""`snnjax predict`: classifies pictures with a trained network."""

import csv
import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from rich.columns import Columns
from rich.markup import escape

from snnjax import InputError
from snnjax.app import console, data_source, lookup, options, plots, report, run_data
from snnjax.core import checks, files
from snnjax.core.defaults import Fit
from snnjax.core.devices import BATCH_SIZES
from snnjax.core.errors import printable
from snnjax.data.layout import READ
from snnjax.data.names import SILENT, composed, name_of
from snnjax.data.pictures import is_light, read_handwriting, read_picture
from snnjax.networks import Model, Network, Observed
from snnjax.networks.decision import Decided
from snnjax.networks.model import check_decides
from snnjax.runs.trained import Trained

ROWS = 20  # maximum number of rows in the table of spikes
DETAILED = 4  # up to this number of pictures, scores and spikes are printed; for more, only a line per picture

_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First characters of cells that a spreadsheet evaluates; the last four are full-width (see OWASP, CSV Injection)."""


def csv_text(text: str) -> str:
    """A text for a cell of a CSV file, with an apostrophe before it if a spreadsheet would evaluate it as a formula."""
    return f"'{text}" if text.startswith(_FORMULAS) else text


def pictures_in(folder: Path) -> list[Path]:
    """The picture files in a folder and its subfolders; raises FileNotFoundError if there are none.

    Links that lead nowhere are included, so that they are reported when they are read.
    """
    named = (path for path in sorted(folder.rglob("[!.]*")) if path.suffix.lower() in READ)
    paths = [path for path in named if path.is_file() or not path.exists()]
    if not paths:
        raise FileNotFoundError(f"{folder} holds no pictures ({', '.join(READ)})")
    return paths


Read = tuple[np.ndarray, list[str]]
"""The pixels of an image, and notes about the changes to them."""


class Source(NamedTuple):
    """An image to be classified."""

    name: str  # the name that is printed
    image: str  # the entry in the CSV file: the path of the image, or the number of the test image
    file: str  # the path, or the name of the file of a test image; "" if unknown
    label: str  # the name of its class; "" if unknown
    drawn: Path | None  # the file for a drawing of the response, if requested
    read: Callable[[], Read | None]  # returns None if the image cannot be read


def sources(chosen: options.Predict, trained: Trained) -> list[Source]:
    """The images that options name, which are not read yet.

    If there are several pictures, those that cannot be read will be left out; a single one raises InputError.
    """
    entries = list[Source]()
    if chosen.images:
        images = run_data.prepare(chosen, trained, chosen.run).images
        data_source.check_images(chosen.images, images)
        for number in chosen.images:
            label = trained.class_names[images.test_labels[number]]
            file = printable(images.test_files[number]) if images.test_files else ""
            name = printable(f"test image {number} of {images.name}{f' ({file})' if file else ''}, label {label}")
            read: Callable[[], Read | None] = functools.partial(tuple, (images.test_images[number], []))
            drawn = chosen.out and chosen.out / f"{len(entries)}_image_{number:05}.png"
            entries.append(Source(name, str(number), file, label, drawn, read))
    if chosen.pictures and trained.image_shape[2:] == (2,):
        raise InputError(f"`PICTURE` {chosen.pictures[0]}: the network expects recordings, select some by --images")
    read_one = reader_of(chosen, trained, chosen.data.fit)
    for named in chosen.pictures:
        many = named.is_dir()
        if named.suffix.lower() == ".zip" and not many:
            problem = f"`PICTURE` must be an image file or a folder, got {named}"
            raise InputError(f"{problem}: unpack it; only `--data_dir` takes it as it is, as in `snnjax evaluate`")
        reader = functools.partial(readable, read_one) if many or len(chosen.pictures) > 1 else read_one
        for path in pictures_in(named) if many else [named]:
            name = printable(str(path))
            label = label_of(path, trained.class_names)
            drawn = chosen.out and chosen.out / f"{len(entries)}_{path.stem}.png"
            read = functools.partial(reader, path)
            entries.append(Source(name, name, name, label, drawn, read))
    return entries


def label_of(path: Path, names: Sequence[str]) -> str:
    """The class after which the nearest folder in the absolute path of a picture is named; "" if there is none."""
    above = reversed(Path(os.path.abspath(path)).parts[:-1])  # without following links, as in training
    return next((name for name in map(composed, above) if name in names), "")


def reader_of(
    chosen: options.Predict | options.Stream, trained: Trained, fit: Fit | None = None
) -> Callable[[Path], Read]:
    """A function that reads a picture for a network.

    It uses `read_handwriting` if the network was trained on handwriting and pictures should not be used as they are;
    otherwise `read_picture`, whose `fit` is as in training if it is None.
    """
    if run_data.learned_handwriting(trained) and not chosen.as_is:
        return functools.partial(read_handwriting, invert=chosen.invert)
    # If a network was trained on padded pictures, other pictures are padded too, because cropped ones look different.
    fit = fit or trained.settings.get("fit") or "crop"
    return functools.partial(read_picture, shape=trained.image_shape, invert=chosen.invert, fit=fit)


def background_advice(trained: Trained, light: float, inverted: bool) -> str:
    """Advice if most images have another background than the training images; `light` is the share of light ones."""
    learned = trained.settings.get("background", "dark" if run_data.learned_handwriting(trained) else None)
    shown = "light" if light > 0.5 else "dark"
    if learned in (None, shown):
        return ""
    advice = "leave out --invert" if inverted else "try --invert"
    return f"the background is {shown}, that of the training was {learned}: {advice}"


def readable(read: Callable[[Path], Read], path: Path) -> Read | None:
    """Reads a picture with a reader; if this is not possible, prints the reason and returns None."""
    try:
        return read(path)
    except InputError as error:
        print(f"{printable(str(error))}; left out", file=sys.stderr)
        return None


class Classified(NamedTuple):
    """An image and the network's response to it."""

    source: Source
    pixels: np.ndarray
    notes: list[str]
    response: Observed  # with the responses of the layers only if they were requested


@jax.jit
def predict(model: Model, images: jax.Array) -> Decided:
    """The decisions on a batch of images, with a leading axis."""
    return jax.vmap(lambda image: model.predict(model.encode(image)))(images)


def classified(model: Model, images: Sequence[Source], closely: bool) -> Iterator[list[Classified]]:
    """The images that can be read, in batches; with `closely`, each with the responses of all layers."""
    size = min(len(images), DETAILED if closely else BATCH_SIZES["cpu"])
    for start in range(0, len(images), size):
        batch = []
        for source in images[start : start + size]:
            if read := source.read():
                batch.append((source, *read))
        if closely:
            yield [Classified(*entry, report.observe(model, entry[1])) for entry in batch]
        elif batch:
            same = np.resize([pixels for _, pixels, _ in batch], (size, *batch[0][1].shape))  # one program for all
            responses = (Observed({}, Decided(*x)) for x in zip(*map(np.asarray, predict(model, same)), strict=True))
            yield [Classified(*entry, response) for entry, response in zip(batch, responses, strict=False)]


def show(image: Classified, network: Network, names: Sequence[str]) -> None:
    """Prints the decision on an image, the scores, and the spikes."""
    latencies, decided = image.response
    print(f"{image.source.name}: {report.decided(decided, names)}", *image.notes, sep="\n  ")
    steps = network.time_steps
    decision = int(decided.decision)
    scores = [[escape(name), f"{value:.4g}"] for name, value in zip(names, np.asarray(decided.scores), strict=True)]
    if decision >= 0:
        scores[decision] = [f"[bold]{cell}" for cell in scores[decision]]
    counts = np.transpose([np.bincount(np.asarray(x).ravel(), minlength=steps + 1) for x in latencies.values()])
    starts = np.arange(0, steps, -(-steps // ROWS))
    ends = [*starts[1:], steps]
    times = [
        f"{start}" if end == start + 1 else f"{start} to {end - 1}" for start, end in zip(starts, ends, strict=True)
    ]
    rows = zip([*times, "silent"], np.add.reduceat(counts, [*starts, steps]), strict=True)
    spikes = [[time, *(f"{count:,}" for count in row)] for time, row in rows]
    tables = [
        console.table(("class", "score"), [scores], "classes", left=1),
        console.table(("time step", *latencies), [spikes], "spikes", left=0),
    ]
    console.screen().print(Columns(tables))


def append(path: Path, batch: Sequence[Classified], names: tuple[str, ...]) -> None:
    """Appends decisions and scores to a CSV file, so that those of earlier batches remain if the command is stopped."""
    new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        if new:
            writer.writerow(["image", "file", "label", "class", "number", *(f"score {name}" for name in names)])
        for image in batch:
            decision = int(image.response.decided.decision)
            scores = np.asarray(image.response.decided.scores).tolist()
            texts = map(csv_text, (image.source.image, image.source.file, image.source.label, name_of(decision, names)))
            writer.writerow([*texts, decision, *scores])


def run(chosen: options.Predict) -> None:
    """Prints the decisions of the network, and draws its responses or writes its scores if requested."""
    lookup.import_all(chosen.parts.modules)
    trained = Trained.read(chosen.run)
    check_decides(trained.network)
    images = sources(chosen, trained)
    checks.some("PICTURE", images, "image files or folders of them, or test images named by --images")
    if chosen.csv is not None:
        files.check_new(chosen.csv)
    if chosen.out is not None:
        chosen.out.mkdir(parents=True, exist_ok=True)
    for drawn in filter(None, (source.drawn for source in images)):
        files.check_new(drawn)
    few = len(images) <= DETAILED
    done = 0
    light = 0
    labelled = list[tuple[str, str]]()  # labels and decisions
    names = trained.class_names
    network = trained.network
    for batch in classified(trained.spiking_network().model, images, few or chosen.out is not None):
        for image in batch:
            decided = report.decided(image.response.decided, names)
            if few:
                show(image, network, names)
            else:
                print("; ".join([f"{image.source.name}: {decided}", *image.notes]))
            if image.source.drawn:
                title = f"{Path(image.source.name).name}: {decided}"
                figure = plots.activity_picture(image.pixels, image.response, network, title, names)
                plots.write(image.source.drawn, figure)
                print(f"  drawn into {printable(str(image.source.drawn))}")
        if chosen.csv is not None and batch:
            append(chosen.csv, batch, names)
        done += len(batch)
        light += sum(is_light(image.pixels) for image in batch)
        decisions = ((image.source.label, name_of(int(image.response.decided.decision), names)) for image in batch)
        labelled += [(label, decision) for label, decision in decisions if label]
    if not done:
        raise InputError(f"none of {len(images):,} pictures can be read")
    if chosen.csv is not None:
        what = "file and label of each image if known, its class and the number of this (-1 if silent), and the scores"
        print(f"{printable(str(chosen.csv))}: {what}")
    if chosen.pictures and (advice := background_advice(trained, light / done, chosen.invert)):
        print(advice)
    if labelled:
        right = sum(label == decision for label, decision in labelled)
        silent = sum(decision == SILENT for _, decision in labelled)
        print(f"{right:,} of {len(labelled):,} agree with their labels, {silent:,} silent")
