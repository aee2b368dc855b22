"""The main page: of this version, and its figures are those of the longer pages."""

from documents import rows, text_of

import snnjax
from snnjax.app import names


def test_the_main_page_is_of_this_version():
    major, minor, _ = snnjax.__version__.split(".")
    assert f"Version** {major}.{minor} " in text_of("README.md")


def test_speed_on_the_main_page_is_that_of_the_benchmarks():
    """The least and the most over the networks that the reference has."""
    table = rows("experiments/docs/speed/phases.md", "network")
    starts = [index for index, row in enumerate(table) if row[0]][: len(names.RECORDED)]
    assert [table[index][0] for index in starts] == [*names.RECORDED]
    ours = [table[index] for index in starts]
    longer = [table[index + 2] for index in starts]
    assert {row[1] for row in ours} == {"snnjax, native, ms an image"}
    assert {row[1] for row in longer} == {"reference, times longer"}
    training, tests = ([float(row[column]) for row in longer] for column in (-1, -2))
    seconds = [float(row[-1].removesuffix(" s")) for row in ours]
    words = " ".join(text_of("README.md").split())
    assert f"{int(min(training))} to {max(training):,.0f} times as fast" in words
    assert f"Tests are {min(tests):.0f} to {max(tests):.0f} times as fast" in words
    assert f"takes {min(seconds):g} to {max(seconds):g} seconds" in words
