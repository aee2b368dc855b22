"""The book's tables and drawings are those of the recorded results and of the networks."""

import json

import book
import numpy as np
import pytest
from book_tables import recorded
from book_tables.places import PAGES
from documents import ROOT

from snnjax import InputError
from snnjax.networks import NETWORKS

PARTS = ("drawing", "layers", "training")


def test_pages_and_drawings_are_what_the_script_would_write():
    assert book.update_files(check=True) == [], "run python experiments/book.py"


@pytest.mark.parametrize("name", NETWORKS)
def test_each_network_has_a_page(name):
    """With the parts that follow from its description, and its results if there are any."""
    text = (PAGES / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    results = any(row["network"] == name for row in recorded.recorded("results")["rows"])
    for part in (*PARTS, *["figures"] * results):
        assert f"<!-- table: {part} {name} -->" in text, part


def test_a_page_that_was_changed_by_hand_is_filled_anew():
    page = PAGES / "goupy2024_ncg.md"
    text = page.read_text()
    changed = text.replace("| --- |", "| -- |")
    assert changed != text
    assert book.fill_tables(page, changed) == text


def test_a_check_names_the_pages(monkeypatch, capsys):
    page = PAGES / "index.md"
    monkeypatch.setattr(book, "outdated_files", lambda: iter([(page, "other text")]))
    before = page.read_text()
    assert book.main(["--check"]) == 1
    assert "networks/index.md are not what" in capsys.readouterr().err
    assert page.read_text() == before


def test_wrong_marks_are_refused():
    page = PAGES / "index.md"
    with pytest.raises(InputError, match=r"`table of index.md` must be one of networks, .*, got 'network'"):
        book.fill_tables(page, "<!-- table: network -->\n<!-- end -->\n")
    with pytest.raises(InputError, match=r"index.md has a table without its end"):
        book.fill_tables(page, "<!-- table: networks -->\n")
    with pytest.raises(InputError, match="'goupy'"):
        book.fill_tables(page, "<!-- table: layers goupy -->\n<!-- end -->\n")


def test_all_networks_are_in_the_table():
    assert recorded.recorded("networks")["after"].keys() == NETWORKS.keys()
    assert {row["network"] for row in recorded.recorded("results")["rows"]} == NETWORKS.keys() - {
        "mozafari2018_objects"
    }


def test_replicated_figures_are_against_the_recorded_ones():
    reference = json.loads((ROOT / "experiments" / "reference.json").read_text())["networks"]
    rows = recorded.recorded("replication")["rows"]
    assert [row["network"] for row in rows] == [*reference]
    for row in rows:
        last = [100 * reference[row["network"]][part][3] for part in ("train", "test")]
        np.testing.assert_allclose([row["recorded"][part] for part in ("train", "test")], last, rtol=0, atol=0.0501)
