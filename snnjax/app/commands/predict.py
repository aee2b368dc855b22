"""`snnjax predict`: classifies pictures by a trained network."""

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.columns import Columns
from rich.markup import escape

from snnjax import InputError, files
from snnjax.app import console, options, parts, plots, report
from snnjax.data.layout import READ
from snnjax.data.pictures import read_picture
from snnjax.networks import Observed
from snnjax.trained import Trained

DETAILED = 4  # pictures of which scores and spikes are printed; of more, a line each


def pictures_in(folder: Path) -> list[Path]:
    """The picture files in a folder and those below it; raises FileNotFoundError if there are none."""
    found = [path for path in sorted(folder.rglob("[!.]*")) if path.suffix.lower() in READ and path.is_file()]
    if not found:
        raise FileNotFoundError(f"{folder} holds no pictures ({', '.join(READ)})")
    return found


def chosen_images(chosen: options.Predict, trained: Trained) -> Iterator[tuple[str, str, np.ndarray, list[str]]]:
    """Each image's name, that of its drawing, its pixels, and notes on how they were read."""
    if chosen.images:
        images = parts.dataset(chosen.data, trained.settings, trained.image_shape)
        trained.check_data(images)
        parts.check_images(chosen.images, images)
        for number in chosen.images:
            label = trained.class_names[images.test_labels[number]]
            name = f"test image {number} of {images.name}, label {label}"
            yield name, f"image_{number:05}", images.test_images[number], []
    if chosen.pictures and trained.image_shape[2:] == (2,):
        raise InputError(f"`PICTURE` {chosen.pictures[0]}: the network takes recordings, name test ones by --images")
    for named in chosen.pictures:
        for path in pictures_in(named) if named.is_dir() else [named]:
            try:
                yield str(path), path.stem, *read_picture(path, trained.image_shape, chosen.invert)
            except InputError as error:
                if path == named:
                    raise
                print(f"{error}; left out", file=sys.stderr)


def show(name: str, notes: list[str], seen: Observed, steps: int, names: Sequence[str]) -> None:
    """Prints the decision on one image."""
    decision = int(seen.decided.decision)
    print(f"{name}: {report.decided(seen, names)}", *notes, sep="\n  ")
    values = np.asarray(seen.decided.scores)
    scores = [[escape(each), f"{value:.1f}"] for each, value in zip(names, values, strict=True)]
    if decision >= 0:
        scores[decision] = [f"[bold]{cell}" for cell in scores[decision]]
    counts = [np.bincount(np.asarray(x).ravel(), minlength=steps + 1) for x in seen.latencies.values()]
    times = zip([*map(str, range(steps)), "silent"], np.transpose(counts), strict=True)
    spikes = [[time, *(f"{count:,}" for count in row)] for time, row in times]
    tables = [
        console.table(("class", "score"), [scores], "classes", left=1),
        console.table(("time step", *seen.latencies), [spikes], "spikes", left=0),
    ]
    console.screen().print(Columns(tables))


def run(chosen: options.Predict) -> None:
    """Prints the network's decisions, and draws its responses or writes its scores if asked to."""
    parts.import_all(chosen.parts.modules)
    trained = Trained.read(chosen.run)
    images = list(chosen_images(chosen, trained))
    if not images:
        raise InputError("`PICTURE` is missing: name image files or folders of them, or test images by --images")
    names = trained.class_names
    model, steps, targets = trained.spiking_network().model, trained.network.time_steps, list[Path]()
    if chosen.csv is not None:
        parts.check_new(chosen.csv)
    if chosen.out is not None:
        chosen.out.mkdir(parents=True, exist_ok=True)
        targets = [chosen.out / f"{number}_{stem}.png" for number, (_, stem, *_) in enumerate(images)]
        for target in targets:
            parts.check_new(target)
    rows: list[list[object]] = [["image", "class", *(f"score {each}" for each in names)]]
    for number, (name, _, pixels, notes) in enumerate(images):
        seen = report.observe(model, pixels)
        rows.append([name, int(seen.decided.decision), *np.asarray(seen.decided.scores).tolist()])
        if len(images) <= DETAILED:
            show(name, notes, seen, steps, names)
        else:
            print("; ".join([f"{name}: {report.decided(seen, names)}", *notes]))
        if targets:
            title = f"{Path(name).name}: {report.decided(seen, names)}"
            plots.write(targets[number], plots.activity_picture(pixels, seen, steps, title, names))
            print(f"  drawn into {targets[number]}")
    if chosen.csv is not None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        files.write_text(chosen.csv, text.getvalue())
        print(f"{chosen.csv}: the class of each image, -1 where the network stays silent, and the scores")
