"""Lets a trained network decide on image files: the class, each class's potential, when the neurons fire.

python experiments/predict.py runs/mozafari2018_digits digit.png
python experiments/predict.py RUN one.png two.jpg --invert --out pictures
"""

import dataclasses
from pathlib import Path

import numpy as np
from rich.columns import Columns
from rich.console import Console
from rich.table import Table
from simple_parsing import field

from snnjax import devices
from snnjax.app import console, report
from snnjax.errors import InputError
from snnjax.networks import Observed
from snnjax.trained import Trained

MOST_PIXELS = 80_000_000
"""No image file may hold more."""
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
"""Of image files; others might run programs of their own."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Which network decides, and on what."""

    run: Path = field(positional=True, metavar="RUN", help="run folder, or its weights.npz")
    images: list[Path] = field(positional=True, metavar="IMAGE", nargs="+", help="image files: PNG, JPEG and the like")
    invert: bool = field(default=False, help="turn light to dark first: for dark strokes on a light ground")
    out: Path | None = field(default=None, help="folder for pictures of the network's response to each image")
    device: str = field(default="auto", help="auto, cpu, gpu or tpu")


def read_image(path: Path, trained: Trained, invert: bool) -> tuple[np.ndarray, list[str]]:
    """An image file as the network takes it, and what was done to it.

    Returns:
      (H, W) or (H, W, 3) uint8, and sentences.

    Raises:
      OSError: there is no such file.
      InputError: it is no image, or too large.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    size, colour = (trained.image_shape[1], trained.image_shape[0]), len(trained.image_shape) == 3
    notes: list[str] = []
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
        plain = whole.convert("RGB" if colour else "L")
    except FileNotFoundError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is no image that can be read, of {', '.join(FORMATS)}") from error
    except Exception as error:  # damaged files raise errors of many kinds
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split()) or type(error).__name__}") from error
    if plain.size != size:
        notes.append(f"resized from {plain.width}x{plain.height} to {size[0]}x{size[1]}")
        plain = plain.resize(size, Image.Resampling.BOX if plain.width >= size[0] else Image.Resampling.BILINEAR)
    pixels = np.asarray(plain)
    if invert:
        pixels = 255 - pixels
        notes.append("inverted")
    if np.median(pixels) > 127:
        notes.append("its ground is light: where the network has learned light strokes on dark, take --invert")
    return pixels, notes


def show(path: Path, notes: list[str], seen: Observed, steps: int) -> None:
    """Prints the decision on one image."""
    decision, potentials = int(seen.decided.decision), np.asarray(seen.decided.scores)
    decided = "the network stays silent" if decision < 0 else f"class {decision}"
    print(f"{path}: {decided}" + "".join(f"\n  {note}" for note in notes))
    classes = Table("class", "score", title="classes", title_justify="left")
    for number, potential in enumerate(potentials):
        classes.add_row(str(number), f"{potential:.1f}", style="bold" if number == decision else None)
    times = Table("time step", *seen.latencies, title="spikes", title_justify="left")
    counts = [np.bincount(np.asarray(x).ravel(), minlength=steps + 1) for x in seen.latencies.values()]
    for name, row in zip([*map(str, range(steps)), "silent"], np.transpose(counts), strict=True):
        times.add_row(name, *(f"{count:,}" for count in row))
    for table in (classes, times):
        for column in table.columns:
            column.justify = "right"
    Console().print(Columns([classes, times]))


def predict(options: Options) -> None:
    """Prints, and draws if asked to, the network's response to the images.

    Raises:
      InputError, OSError: run or images are bad.
    """
    trained = Trained.read(options.run)
    images = [read_image(path, trained, options.invert) for path in options.images]
    network, targets = trained.spiking_network(), list[Path]()
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        targets = [options.out / f"{number}_{path.stem}.png" for number, path in enumerate(options.images)]
        for target in targets:
            console.check_new(target)
    for number, (path, (pixels, notes)) in enumerate(zip(options.images, images, strict=True)):
        seen = report.observe(network, pixels)
        show(path, notes, seen, trained.network.time_steps)
        if targets:
            report.draw_activity(
                targets[number], network, pixels, seen, f"{path.name}: class {int(seen.decided.decision)}"
            )
            print(f"  drawn into {targets[number]}")


def main(arguments: list[str] | None = None) -> None:
    """Runs from the command line."""
    options = console.options(Options, __doc__, arguments)
    with console.user_errors():
        devices.choose(options.device)
        predict(options)


if __name__ == "__main__":
    console.run(main)
