"""Fills the tables and drawings of the book from recorded results and from the descriptions of the networks.

A table stands between `<!-- table: NAME ARGUMENT -->` and `<!-- end -->` in a page. The names are the keys of `TABLES`.
Some tables accept several arguments, such as the networks of a page.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from book_tables import descriptions, recorded, simulators, speed, spoken_digits
from book_tables.places import DOCS, PICTURES, TOP

from snnjax import NETWORKS, InputError
from snnjax.core import files
from snnjax.core.errors import unknown

MARKED = re.compile(r"^<!-- table: (?P<name>\w+) ?(?P<argument>[\w -]*) -->\n(?P<table>.*?)^<!-- end -->$", re.M | re.S)


TABLES: dict[str, Callable[[Path, str], str]] = {
    table.__name__: table
    for table in (
        recorded.networks,
        recorded.figures,
        recorded.replication,
        recorded.trained,
        speed.speed_ups,
        speed.speed_phases,
        simulators.simulators,
        simulators.simulator_features,
        simulators.simulator_recipes,
        simulators.simulator_repeats,
        simulators.simulators_without,
        spoken_digits.spoken_digits,
        descriptions.drawing,
        descriptions.layers,
        descriptions.training,
        descriptions.settings,
    )
}
"""The functions that make the tables, by the names used in pages. Each receives the page and the argument."""


def fill_tables(page: Path, text: str) -> str:
    """Returns the text of a page with all its tables filled; raises InputError if a table does not exist."""

    def fill(match: re.Match[str]) -> str:
        if match["name"] not in TABLES:
            raise unknown(f"table of {page.name}", match["name"], TABLES)
        mark = f"<!-- table: {match['name']}{' ' * bool(match['argument'])}{match['argument']} -->"
        return f"{mark}\n\n{TABLES[match['name']](page, match['argument']).strip()}\n\n<!-- end -->"

    if len(re.findall(r"^<!-- table:", text, re.MULTILINE)) != len(MARKED.findall(text)):
        raise InputError(f"{page.name} has a table without its end, <!-- end -->")
    return MARKED.sub(fill, text)


def outdated_files() -> Iterator[tuple[Path, str]]:
    """Yields each outdated file and its new content."""
    for page in (TOP / "README.md", *sorted(DOCS.rglob("*.md"))):
        text = page.read_text(encoding="utf-8")
        if "<!-- table:" in text and (new := fill_tables(page, text)) != text:
            yield page, new
    for name, make in NETWORKS.items():
        path = PICTURES / f"{name}.svg"
        network = make()
        if not path.exists() or descriptions.digest_of(network) not in path.read_text(encoding="utf-8"):
            yield path, descriptions.draw_svg(network)


def update_files(check: bool) -> list[str]:
    """Writes the outdated files, or with `check` only finds them; returns their names."""
    names = []
    for path, text in outdated_files():
        names.append(path.relative_to(TOP).as_posix())
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_text(path, text)
    return names


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command with these arguments, by default those of the command line; returns 1 if a check fails."""
    parser = argparse.ArgumentParser("python experiments/book.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file would change")
    options = parser.parse_args(arguments)
    try:
        names = update_files(options.check)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.check and names:
        print(f"out of date: {', '.join(names)}; run python experiments/book.py", file=sys.stderr)
        return 1
    print("nothing to change" if not names else f"written: {', '.join(names)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
