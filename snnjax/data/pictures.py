"""Reads image files of common formats and any size, within limits, as arrays that a network accepts."""

import contextlib
import functools
import io
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from snnjax.core import checks
from snnjax.core.defaults import FITS, Fit
from snnjax.core.errors import InputError, image_size

MOST_PIXELS = 80_000_000  # in an image file
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")  # readers of other formats might run programs
MUCH = 0.25  # if more than this share of a picture is cut off, there is a note about it
HANDWRITING = 500  # minimum number of rows and columns at which a photograph of a character is decoded
FAINT = 0.3  # contrast, relative to the maximum, up to which a pixel contains no ink
BOX = 20  # rows and columns of the box into which a character is scaled
MNIST = (28, 28)
ENLARGED = 24  # length of the longer side of small images after they are enlarged
SAMPLE = 1000  # images whose background is examined
MIXED = 0.1  # share of images with a different background above which the images have no common background


class Picture(NamedTuple):
    """A picture that has been converted to the requested shape."""

    pixels: np.ndarray  # (H, W) or (H, W, 3) uint8
    size: tuple[int, int]  # original rows and columns, upright
    notes: list[str]  # about changes to its pixels
    largest: int | None = None  # the largest value, if the file has more than 8 bits per pixel


class Opened(NamedTuple):
    """A picture as read from a file, before it is fitted to a network."""

    image: Any  # a Pillow image, upright
    size: tuple[int, int]  # rows and columns, upright
    notes: list[str]  # about changes to its pixels
    largest: int | None  # the largest value, if the file has more than 8 bits per pixel


def decode(file: Path | io.BytesIO, shape: tuple[int, ...], fit: Fit) -> Picture:
    """Reads an image file as uint8 with a `shape`, (H, W) for grey or (H, W, 3) for colour.

    The picture is turned upright according to its EXIF data, and resized without changing its proportions. `fit="crop"`
    keeps the middle; `fit="pad"` keeps the whole picture and adds a border in the median colour of its outermost
    pixels. Only the first frame of an animation is read. Raises InputError if the file cannot be read; the message is a
    sentence without its subject, to which callers add the name of the file.
    """
    from PIL import Image, ImageOps

    height, width = shape[:2]
    with _refused():
        opened = _opened(file, 2 * max(height, width))
        plain = opened.image.convert("RGB" if len(shape) == 3 else "L")
        if fit == "pad":
            plain = _padded(plain, height, width)
        elif plain.size != (width, height):
            smaller = plain.width >= width and plain.height >= height
            how = Image.Resampling.BOX if smaller else Image.Resampling.BILINEAR
            plain = ImageOps.fit(plain, (width, height), how)
        return Picture(np.asarray(plain), opened.size, opened.notes, opened.largest)


def _scaled(size: tuple[int, ...], scale: float) -> tuple[int, int]:
    """Rows and columns of a picture of this size after scaling, at least one of each."""
    height, width = size
    return max(1, round(scale * height)), max(1, round(scale * width))


def _padded(plain: Any, height: int, width: int) -> Any:
    """Resizes a picture to fit into height and width, and adds a border in the colour of its outermost pixels."""
    from PIL import Image

    scale = min(height / plain.height, width / plain.width)
    rows, columns = _scaled((plain.height, plain.width), scale)
    if plain.size != (columns, rows):
        plain = plain.resize((columns, rows), Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR)
    pixels = np.asarray(plain)
    outermost = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    colour = np.sort(outermost, axis=0)[len(outermost) // 2]
    image = np.empty((height, width, *pixels.shape[2:]), np.uint8)
    image[:] = colour
    top = (height - rows) // 2
    left = (width - columns) // 2
    image[top : top + rows, left : left + columns] = pixels
    return Image.fromarray(image)


@contextlib.contextmanager
def _refused() -> Iterator[None]:
    """Converts the errors of a reader to InputError; the message is a sentence without its subject."""
    from PIL import UnidentifiedImageError

    try:
        yield
    except UnidentifiedImageError as error:
        raise InputError(f"is not an image that can be read ({', '.join(FORMATS)})") from error
    except MemoryError:
        raise
    except Exception as error:  # damaged files raise errors of many kinds
        raise InputError(f"cannot be read: {' '.join(str(error).split()) or type(error).__name__}") from error


def _opened(file: Path | io.BytesIO, least: int, behind: str = "black") -> Opened:
    """The first picture in a file.

    A large JPEG is decoded at a fraction of its size, but with at least `least` rows and columns. Transparent pixels
    get the colour `behind`; "contrast" means white if the opaque pixels are dark, and otherwise black.
    """
    from PIL import ExifTags, Image, ImageOps

    notes = []
    with Image.open(file, formats=FORMATS) as image:
        if image.width * image.height > MOST_PIXELS:
            found = image_size((image.height, image.width))
            raise InputError(f"it is {found}, at most {MOST_PIXELS:,} pixels are read")
        if image.mode == "F":
            raise InputError("it contains floats: save it with 8 bits per pixel")
        size = (image.height, image.width)
        deep = re.search(";16[BLN]", str(image.tile)) is not None
        if image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8):  # rows and columns are exchanged
            size = image.size
        transparent = image.has_transparency_data
        image.draft(None, (least,) * 2)
        whole = ImageOps.exif_transpose(image)
    largest = None
    if whole.mode.startswith("I"):
        values = np.asarray(whole).astype(np.int64)
        largest = int(values.max())
        whole = Image.fromarray((values.clip(0, 65535) // 257).astype(np.uint8))
    elif deep:  # Pillow reads only the upper bytes of colour pictures
        largest = 256 * int(np.asarray(whole.convert("RGB")).max()) + 255
    if transparent and np.asarray(whole := whole.convert("RGBA"))[..., 3].min() < 255:
        if behind == "contrast":
            planes = np.asarray(whole.convert("LA"))
            opaque = planes[..., 0][planes[..., 1] > 0]
            behind = "white" if opaque.size and np.median(opaque) < 128 else "black"
        whole = Image.alpha_composite(Image.new("RGBA", whole.size, behind), whole)
        notes.append(f"transparent pixels became {behind}")
    if whole.mode in ("LAB", "HSV"):
        whole = whole.convert("RGB")  # they can be converted to grey only via RGB
    return Opened(whole, size, notes, largest)


def depth_note(largest: int) -> str:
    """A note about files with more than 8 bits per pixel, given their largest value."""
    reduced = "16 bits per pixel were reduced to 8"
    if largest > 65535:
        return f"{reduced}, and larger values to white: the largest is {largest:,}"
    if largest > 4095:
        return reduced
    if largest < 256:
        look = "they become black: if values have 8 bits, save them with 8 bits per pixel"
    else:
        look = "they become nearly black: if values have 12 bits, divide them by 16, save them with 8 bits per pixel"
    return f"{reduced}: no value exceeds {largest:,} of 65,535, so {look}"


def read_picture(
    path: Path | str, shape: tuple[int, ...], invert: bool = False, fit: Fit = "crop"
) -> tuple[np.ndarray, list[str]]:
    """Reads an image file as uint8 with a shape, (H, W) or (H, W, 3); returns it with notes about the changes made.

    The picture is resized without changing its proportions, then inverted if `invert` is True. If its proportions
    differ from those of the shape, `fit="crop"` keeps the middle; `fit="pad"` keeps the whole picture and adds a border
    in the median colour of its outermost pixels. Raises InputError if the file cannot be read.

    Examples:
      >>> from snnjax.data import read_picture
      >>> image, notes = read_picture("photo.jpg", (32, 32, 3))
      >>> image.shape, image.dtype
      ((32, 32, 3), dtype('uint8'))
      >>> notes
      ['resized from 48 high, 64 wide to 32 high, 32 wide, 25 % of it cut off to keep its proportions']
    """
    checks.one_of("fit", fit, FITS)
    picture = _read(Path(path), functools.partial(decode, shape=shape, fit=fit))
    pixels = picture.pixels
    notes = picture.notes
    size = picture.size
    if size != shape[:2]:
        lost = cut(size, shape[:2])
        done = "of it cut off" if fit == "crop" else "of the image added as a border"
        ending = f", {100 * lost:.0f} % {done} to keep its proportions" if lost >= 0.01 else ""
        notes.append(f"resized from {image_size(size)} to {image_size(shape[:2])}{ending}")
    if invert:
        pixels = 255 - pixels
        notes.append("inverted")
    return pixels, notes


def _read(path: Path, decoder: Callable[[Path], Picture]) -> Picture:
    """Reads an image file with a decoder; raises InputError, with the name of the file, if it cannot be read."""
    if not path.exists():
        raise InputError(f"there is no file {path}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")  # about oddities and refused sizes
        try:
            picture = decoder(path)
        except InputError as error:
            raise InputError(f"{path} {error}") from error
    if picture.largest is not None:
        picture.notes.append(depth_note(picture.largest))
    return picture


def read_handwriting(path: Path | str, invert: bool = False) -> tuple[np.ndarray, list[str]]:
    """Reads a picture of one character and normalises it as in MNIST; returns it with notes about the changes made.

    The result is (28, 28) uint8, with light ink on a dark background. A picture with 28x28 pixels and light ink remains
    as it is. Otherwise, the ink is scaled into a box of 20x20 pixels, without changing its proportions, and its centre
    of mass is moved to the middle (LeCun et al. 1998). With `invert`, the ink is assumed to be dark; otherwise this is
    detected. Raises InputError if the file cannot be read, or contains no ink.

    Examples:
      >>> from snnjax.data import read_handwriting
      >>> image, notes = read_handwriting("seven.png")
      >>> image.shape, image.dtype
      ((28, 28), dtype('uint8'))
      >>> notes
      ["inverted, scaled and centred as MNIST's digits"]
    """
    picture = _read(Path(path), _decode_grey)
    pixels = picture.pixels
    notes = picture.notes
    dark = invert or has_dark_ink(pixels)
    if picture.size == MNIST and not dark:
        return pixels, notes
    ink = _ink(255.0 - pixels if dark else pixels.astype(float))
    rows = np.flatnonzero(ink.any(axis=1))
    columns = np.flatnonzero(ink.any(axis=0))
    if not rows.size:
        known = "".join(f" ({note})" for note in notes)
        raise InputError(f"{path} shows no ink on its background{known}; `as_is` (--as_is) uses it nevertheless")
    box = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    notes.append("inverted, scaled and centred as MNIST's digits" if dark else "scaled and centred as MNIST's digits")
    return _centred(box), notes


def _decode_grey(file: Path) -> Picture:
    """Reads an image file in grey, without resizing it to a shape."""
    with _refused():
        opened = _opened(file, HANDWRITING, behind="contrast")
        return Picture(np.asarray(opened.image.convert("L")), opened.size, opened.notes, opened.largest)


def _ink(pixels: np.ndarray) -> np.ndarray:
    """The amount of ink at each pixel, (H, W) float in 0..1, for light strokes on a darker background of any shade."""
    background = np.median(pixels)
    contrast = np.clip(pixels - background, 0, None) / max(pixels.max() - background, 1.0)
    return np.where(contrast > FAINT, contrast, 0.0)


def _centred(ink: np.ndarray) -> np.ndarray:
    """Scales ink, (h, w) float, into a box of 20x20 pixels with its centre of mass in the middle of (28, 28) uint8."""
    from PIL import Image

    scale = BOX / max(ink.shape)
    rows, columns = _scaled(ink.shape, scale)
    picture = Image.fromarray(ink.astype(np.float32)).resize((columns, rows), Image.Resampling.BOX)
    small = np.asarray(picture)
    small = small / small.max()
    weight = small.sum()
    height, width = MNIST
    # The mass of a pixel lies in its middle, at 0.5; with its corner, characters would be centred half a pixel off.
    top = round(height / 2 - (small.sum(axis=1) @ (np.arange(rows) + 0.5)) / weight)
    left = round(width / 2 - (small.sum(axis=0) @ (np.arange(columns) + 0.5)) / weight)
    top = min(max(top, 0), height - rows)
    left = min(max(left, 0), width - columns)
    centred = np.zeros(MNIST)
    centred[top : top + rows, left : left + columns] = small
    return np.rint(255 * centred).astype(np.uint8)


def has_dark_ink(pixels: np.ndarray) -> bool:
    """Whether the strokes in an image, (H, W) of 0..255, are darker than the background, whatever its shade."""
    darkest, background, lightest = np.percentile(pixels, (0.1, 50, 99.9))
    return bool(background - darkest > lightest - background)


def is_light(pixels: np.ndarray) -> bool:
    """Whether the background of an image of 0..255 is light."""
    return bool(np.median(pixels) > 127)


def background(images: np.ndarray) -> str | None:
    """The background of images (N, H, W, ...) of 0..255: "light" or "dark", or None if more than a tenth differ.

    About a thousand of the images are examined.
    """
    light = np.mean([is_light(image) for image in images[:: -(-len(images) // SAMPLE)]])
    if min(light, 1 - light) > MIXED:
        return None
    return "light" if light > MIXED else "dark"


def cut(size: tuple[int, ...], shape: tuple[int, ...]) -> float:
    """The share of a picture of `size` that is cut off to obtain the proportions of `shape`, both (rows, columns)."""
    ratio = size[0] * shape[1] / (size[1] * shape[0])
    return 1 - min(ratio, 1 / ratio)


def has_colour(pixels: np.ndarray) -> bool:
    """Whether an image (H, W, 3) has more colour than compression adds to a grey image."""
    return bool(np.ptp(pixels, axis=2).max() > 20)


def is_small(shape: tuple[int, ...]) -> bool:
    """Whether images of this shape, (H, W) or (H, W, 3), are so small that they should be enlarged with `enlarged`.

    This is never so for event pictures, whose values are times.
    """
    return max(shape[:2]) < ENLARGED and shape[2:] != (2,)


def enlarged(images: np.ndarray) -> np.ndarray:
    """Enlarges small images (N, H, W) or (N, H, W, 3) bilinearly and centres them on black: (N, 28, 28, ...) float32.

    The longer side is enlarged to 24 pixels, so that 8x8 pixels become 24x24.
    """
    from scipy.ndimage import zoom

    factor = ENLARGED / max(images.shape[1:3])
    channels = (1,) * (images.ndim - 3)
    large = zoom(images.astype(np.float32), (1, factor, factor, *channels), order=1)
    margins = []
    for size, wanted in zip(large.shape[1:3], MNIST, strict=True):
        before = (wanted - size) // 2
        margins.append((before, wanted - size - before))
    return np.pad(large, [(0, 0), *margins, *((0, 0) for _ in channels)])


def rotated_and_mirrored(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A copy of an image that is rotated and flipped at random, as described in `Dataset.augment`."""
    from scipy.ndimage import rotate

    image = rotate(image, rng.uniform(-30, 30), reshape=False, order=0, mode="grid-constant")
    return np.flip(image, tuple(axis for axis in (1, 0) if rng.random() < 0.5))
