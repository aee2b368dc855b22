"""The book's tables and drawings are those of the recorded results and of the networks."""

import dataclasses
import re

import book
import pictures
import pytest
from book_pictures import encoding
from book_tables import descriptions, recorded
from book_tables.places import PAGES, page_of
from documents import BOOK, ROOT, rows, text_of
from PIL import Image, ImageChops, ImageStat

from snnjax import InputError, learners
from snnjax.networks import NETWORKS

PARTS = ("drawing", "layers", "training")


def test_pages_and_drawings_are_what_the_script_would_write():
    assert book.update_files(check=True) == [], "run python experiments/book.py"


def test_each_network_has_a_page_and_its_rows():
    """The parts that follow from its description, and its results if there are any."""
    rows = recorded.recorded("results")["rows"]
    with_results = {row["network"] for row in rows}
    assert with_results == NETWORKS.keys() - recorded.MADE_FOR.keys()
    assert recorded.recorded("networks")["based_on"].keys() == NETWORKS.keys()
    for name in NETWORKS:
        text = page_of(name).read_text()
        assert re.search(rf"^#+ {name}$", text, re.MULTILINE)
        for part in (*PARTS, *["figures"] * (name in with_results)):
            assert re.search(rf"^<!-- table: {part} (.* )?{name}( .*)? -->$", text, re.MULTILINE), part


def test_each_rule_has_a_page_with_its_settings():
    rules = [rule for rule in learners.__dict__.values() if dataclasses.is_dataclass(rule) and hasattr(rule, "update")]
    assert {rule.__name__ for rule in rules} - descriptions.RULES.keys() == set()
    for name, page in descriptions.RULES.items():
        table = rows(f"experiments/docs/networks/{page}", "setting")
        default = {row[0].strip("`"): row[2].strip("`") for row in table if len(row) == 4}
        assert default == {field.name: repr(field.default) for field in dataclasses.fields(getattr(learners, name))}


def test_the_gallery_has_each_picture_and_each_example():
    gallery = text_of("experiments/docs/gallery.md")
    shown = {*re.findall(r'src="pictures/([\w.]+)"', gallery)}
    assert shown == {path.name for path in (BOOK / "pictures").iterdir() if path.is_file()}
    listed = {*re.findall(r"`experiments/examples/(\w+)\.py`", gallery)}
    assert listed == {path.stem for path in (ROOT / "experiments" / "examples").glob("*.py")}


def test_a_page_that_was_changed_by_hand_is_named_and_filled_anew(monkeypatch, capsys):
    page = PAGES / "goupy2024_ncg.md"
    text = page.read_text()
    changed = text.replace("| --- |", "| -- |")
    assert changed != text
    assert book.fill_tables(page, changed) == text
    monkeypatch.setattr(book, "outdated_files", lambda: iter([(page, changed)]))
    assert book.main(["--check"]) == 1
    assert "out of date: experiments/docs/networks/goupy2024_ncg.md" in capsys.readouterr().err
    assert page.read_text() == text


def test_wrong_marks_are_refused():
    page = PAGES / "index.md"
    with pytest.raises(InputError, match=r"`table` of index.md must be one of networks, .*, got 'network'"):
        book.fill_tables(page, "<!-- table: network -->\n<!-- end -->\n")
    with pytest.raises(InputError, match=r"index.md has a table without its end"):
        book.fill_tables(page, "<!-- table: networks -->\n")
    with pytest.raises(InputError, match="'goupy'"):
        book.fill_tables(page, "<!-- table: layers goupy -->\n<!-- end -->\n")


LARGEST = 300_000  # bytes
LEAST_WIDTH = 620  # pixels, as pages show them


@pytest.mark.parametrize("file", sorted({path.name for path in pictures.FOLDER.glob("*.*")} - {"digit.png"}))
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


def test_an_unknown_picture_is_refused():
    with pytest.raises(ValueError, match=r"did you mean 'encoding\.png'"):
        pictures.main(["encoding"])
