"""`snnjax predict`: classifies pictures by a trained network."""

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from rich.columns import Columns

from snnjax import InputError, files
from snnjax.app import console, options, parts, plots, report
from snnjax.networks import Observed
from snnjax.trained import Trained

MOST_PIXELS = 80_000_000  # of an image file
SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")  # readers of other formats might run programs


DETAILED = 4  # pictures of which scores and spikes are printed; of more, a line each


def read_image(path: Path, shape: tuple[int, ...], invert: bool) -> tuple[np.ndarray, list[str]]:
    """An image file as uint8 of a shape, (H, W) or (H, W, 3), and notes on what was done to it."""
    notes = []
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise InputError(f"it has {image.width}x{image.height} pixels, at most {MOST_PIXELS:,} are read")
            if image.mode == "F":
                raise InputError("it holds floats: save it with 8 bits a pixel")
            transparent = image.has_transparency_data
            whole = ImageOps.exif_transpose(image)
        if whole.mode.startswith("I"):
            whole = Image.fromarray((np.asarray(whole).astype(np.int64).clip(0, 65535) // 257).astype(np.uint8))
            notes.append("16 bits a pixel taken as 8")
        if transparent and np.asarray(whole := whole.convert("RGBA"))[..., 3].min() < 255:
            whole = Image.alpha_composite(Image.new("RGBA", whole.size, "black"), whole)
            notes.append("transparent pixels taken as black")
        plain = whole.convert("RGB" if len(shape) == 3 else "L")
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is no image that can be read, of {', '.join(FORMATS)}") from error
    except Exception as error:  # damaged files raise errors of many kinds
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split()) or type(error).__name__}") from error
    if plain.size != (size := (shape[1], shape[0])):
        notes.append(f"resized from {plain.width}x{plain.height} to {size[0]}x{size[1]}")
        plain = plain.resize(size, Image.Resampling.BOX if plain.width >= size[0] else Image.Resampling.BILINEAR)
    pixels = np.asarray(plain)
    if invert:
        pixels = 255 - pixels
        notes.append("inverted")
    if np.median(pixels) > 127:
        notes.append("its background is light: use --invert if the network has learned light strokes on dark")
    return pixels, notes


def pictures_in(paths: Iterable[Path]) -> list[Path]:
    """The picture files named, and those in folders named; raises FileNotFoundError where a folder holds none."""
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = [each for each in sorted(path.rglob("[!.]*")) if each.suffix.lower() in SUFFIXES and each.is_file()]
        if not inside:
            raise FileNotFoundError(f"{path} holds no pictures ({', '.join(SUFFIXES)})")
        found += inside
    return found


def chosen_images(chosen: options.Predict, trained: Trained) -> Iterator[tuple[str, str, np.ndarray, list[str]]]:
    """Each image's name, that of its drawing, its pixels, and notes on how they were read."""
    if chosen.images:
        images = parts.dataset(chosen.data, trained.settings)
        parts.check_images(chosen.images, images)
        for number in chosen.images:
            label = images.test_labels[number]
            name = f"test image {number} of {images.name}, label {label}"
            yield name, f"image_{number:05}", images.test_images[number], []
    for path in pictures_in(chosen.pictures):
        pixels, notes = read_image(path, trained.image_shape, chosen.invert)
        yield str(path), path.stem, pixels, notes


def show(name: str, notes: list[str], seen: Observed, steps: int) -> None:
    """Prints the decision on one image."""
    decision = int(seen.decided.decision)
    print(f"{name}: {report.decided(seen)}", *notes, sep="\n  ")
    scores = [[str(number), f"{score:.1f}"] for number, score in enumerate(np.asarray(seen.decided.scores))]
    if decision >= 0:
        scores[decision] = [f"[bold]{cell}" for cell in scores[decision]]
    counts = [np.bincount(np.asarray(x).ravel(), minlength=steps + 1) for x in seen.latencies.values()]
    times = zip([*map(str, range(steps)), "silent"], np.transpose(counts), strict=True)
    spikes = [[time, *(f"{count:,}" for count in row)] for time, row in times]
    tables = [
        console.table(("class", "score"), [scores], "classes", left=0),
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
    model, steps, targets = trained.spiking_network().model, trained.network.time_steps, list[Path]()
    if chosen.csv is not None:
        parts.check_new(chosen.csv)
    if chosen.out is not None:
        chosen.out.mkdir(parents=True, exist_ok=True)
        targets = [chosen.out / f"{number}_{stem}.png" for number, (_, stem, *_) in enumerate(images)]
        for target in targets:
            parts.check_new(target)
    rows: list[list[object]] = [["image", "class", *(f"score {number}" for number in range(trained.network.classes))]]
    for number, (name, _, pixels, notes) in enumerate(images):
        seen = report.observe(model, pixels)
        rows.append([name, int(seen.decided.decision), *np.asarray(seen.decided.scores).tolist()])
        if len(images) <= DETAILED:
            show(name, notes, seen, steps)
        else:
            print("; ".join([f"{name}: {report.decided(seen)}", *notes]))
        if targets:
            title = f"{Path(name).name}: {report.decided(seen)}"
            plots.write(targets[number], plots.activity_picture(pixels, seen, steps, title))
            print(f"  drawn into {targets[number]}")
    if chosen.csv is not None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        files.write_text(chosen.csv, text.getvalue())
        print(f"{chosen.csv}: the class of each image, -1 where the network stays silent, and the scores")
