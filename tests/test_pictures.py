"""The pictures of the book: all are there, small enough, and can be made."""

import pictures
import pytest
from book_pictures import encoding
from PIL import Image, ImageChops, ImageStat

LARGEST = 300_000  # bytes
LEAST_WIDTH = 620  # pixels, as pages show them


@pytest.mark.parametrize("file", pictures.PICTURES)
def test_a_picture_is_there_and_small_enough(file):
    path = pictures.FOLDER / file
    assert path.stat().st_size < LARGEST
    with Image.open(path) as image:
        assert image.width >= LEAST_WIDTH
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)  # a margin, on dark pages too


def test_a_picture_is_made(tmp_path):
    encoding.latencies.cache_clear()
    path = pictures.write("encoding.png", tmp_path)
    with Image.open(path) as made, Image.open(pictures.FOLDER / path.name) as kept:
        assert made.size == kept.size
        difference = ImageChops.difference(made.convert("L"), kept.convert("L"))
    assert ImageStat.Stat(difference).mean[0] < 5


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"did you mean 'encoding\.png'"):
        pictures.main(["encoding"])
