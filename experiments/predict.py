"""Classifies image files by a trained network: the class, the score of each class, when the neurons fire.

python experiments/predict.py runs/mozafari2018_digits digit.png
python experiments/predict.py RUN one.png two.jpg --invert --out pictures
"""

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from rich.columns import Columns
from simple_parsing import field

from snnjax import InputError, devices
from snnjax.app import console, plots, report
from snnjax.networks import Observed
from snnjax.trained import Trained

MOST_PIXELS = 80_000_000  # of an image file
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")  # readers of other formats might run programs


@dataclasses.dataclass(frozen=True)
class Options:
    """The network and the images."""

    run: Path = field(positional=True, metavar="RUN", help="run folder, or its weights.npz")
    images: list[Path] = field(positional=True, metavar="IMAGE", nargs="+", help="image files: PNG, JPEG and the like")
    invert: bool = field(False, help="invert the images first: for dark strokes on a light background")
    out: Path | None = field(None, help="folder for pictures of the network's response to each image")
    device: str = field("auto", choices=devices.KINDS, help="where to run")


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


def show(path: Path, notes: list[str], seen: Observed, steps: int) -> None:
    """Prints the decision on one image."""
    decision = int(seen.decided.decision)
    print(f"{path}: {report.decided(seen)}", *notes, sep="\n  ")
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


@console.command(Options, __doc__)
def main(options: Options) -> None:
    """Prints the network's response to the images, and draws it if asked to."""
    trained = Trained.read(options.run)
    images = [read_image(path, trained.image_shape, options.invert) for path in options.images]
    model, steps, targets = trained.spiking_network().model, trained.network.time_steps, list[Path]()
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        targets = [options.out / f"{number}_{path.stem}.png" for number, path in enumerate(options.images)]
        for target in targets:
            console.check_new(target)
    for number, (path, (pixels, notes)) in enumerate(zip(options.images, images, strict=True)):
        seen = report.observe(model, pixels)
        show(path, notes, seen, steps)
        if targets:
            title = f"{path.name}: {report.decided(seen)}"
            plots.write(targets[number], plots.activity_picture(pixels, seen, steps, title))
            print(f"  drawn into {targets[number]}")


if __name__ == "__main__":
    console.run(main)
