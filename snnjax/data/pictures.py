"""Pictures as arrays: files of the usual formats and of any size, read within limits, made to fit a network."""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from snnjax.core.errors import InputError

MOST_PIXELS = 80_000_000  # of an image file
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")  # readers of other formats might run programs
MUCH = 0.25  # share of a picture that is not cut off without a word


class Picture(NamedTuple):
    """A picture made to fit."""

    pixels: np.ndarray  # (H, W) or (H, W, 3) uint8
    size: tuple[int, int]  # rows and columns that it had, upright
    notes: list[str]  # on changes to its pixels


def decode(file: Path | io.BytesIO, shape: tuple[int, ...]) -> Picture:
    """Reads an image file as uint8 of `shape`, (H, W) grey or (H, W, 3) colour; of an animation the first picture.

    It is set upright as its EXIF data say, resized keeping its proportions, and cropped to its middle. Raises
    InputError, a sentence that lacks its subject, if it cannot be read.
    """
    from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

    notes = []
    height, width = shape[:2]
    try:
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise InputError(f"it has {image.width}x{image.height} pixels, at most {MOST_PIXELS:,} are read")
            if image.mode == "F":
                raise InputError("it holds floats: save it with 8 bits a pixel")
            size = (image.height, image.width)
            if image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8):  # rows and columns are exchanged
                size = image.size
            transparent = image.has_transparency_data
            image.draft(None, (2 * max(shape[:2]),) * 2)  # a large JPEG is decoded at a fraction of its size
            whole = ImageOps.exif_transpose(image)
        if whole.mode.startswith("I"):
            whole = Image.fromarray((np.asarray(whole).astype(np.int64).clip(0, 65535) // 257).astype(np.uint8))
            notes.append("16 bits a pixel taken as 8")
        if transparent and np.asarray(whole := whole.convert("RGBA"))[..., 3].min() < 255:
            whole = Image.alpha_composite(Image.new("RGBA", whole.size, "black"), whole)
            notes.append("transparent pixels taken as black")
        if whole.mode in ("LAB", "HSV"):
            whole = whole.convert("RGB")  # the only way to grey
        plain = whole.convert("RGB" if len(shape) == 3 else "L")
        if plain.size != (width, height):
            smaller = plain.width >= width and plain.height >= height
            how = Image.Resampling.BOX if smaller else Image.Resampling.BILINEAR
            plain = ImageOps.fit(plain, (width, height), how)
    except UnidentifiedImageError as error:
        raise InputError(f"is no image that can be read, of {', '.join(FORMATS)}") from error
    except MemoryError:
        raise
    except Exception as error:  # damaged files raise errors of many kinds
        raise InputError(f"cannot be read: {' '.join(str(error).split()) or type(error).__name__}") from error
    return Picture(np.asarray(plain), size, notes)


def read_picture(path: Path, shape: tuple[int, ...], invert: bool = False) -> tuple[np.ndarray, list[str]]:
    """An image file as uint8 of a shape, (H, W) or (H, W, 3), and notes on the changes to it.

    It is made to fit as `decode` says, then inverted if asked to. Raises InputError if it cannot be read.
    """
    if not path.exists():
        raise InputError(f"there is no file {path}")
    try:
        pixels, size, notes = decode(path, shape)
    except InputError as error:
        raise InputError(f"{path} {error}") from error
    if size != shape[:2]:
        lost = cut(size, shape[:2])
        ending = f", {100 * lost:.0f} % of it cut off to keep its proportions" if lost >= 0.01 else ""
        notes.append(f"resized from {size[1]}x{size[0]} to {shape[1]}x{shape[0]}{ending}")
    if invert:
        pixels = 255 - pixels
        notes.append("inverted")
    return pixels, notes


def is_light(pixels: np.ndarray) -> bool:
    """Whether the background of an image of 0..255 is light."""
    return bool(np.median(pixels) > 127)


def cut(size: tuple[int, ...], shape: tuple[int, ...]) -> float:
    """The share of a picture of `size` that is cut off to fit into `shape`, both (rows, columns)."""
    ratio = size[0] * shape[1] / (size[1] * shape[0])
    return 1 - min(ratio, 1 / ratio)


def has_colour(pixels: np.ndarray) -> bool:
    """Whether an image (H, W, 3) holds colour, more than the compression of a grey one leaves."""
    return bool(np.ptp(pixels, axis=2).max() > 20)
