"""Where files of the book lie, and links between them."""

import os
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
DOCS = TOP / "experiments" / "docs"
PICTURES = DOCS / "pictures" / "networks"
PAGES = DOCS / "networks"


def network_link(page: Path, name: str) -> str:
    """A link from a page to that of a network."""
    return f"[{name}]({relative(page, PAGES / f'{name}.md')})"


def relative(page: Path, target: Path) -> str:
    """The path of a file as a link in a page has it."""
    return Path(os.path.relpath(target, page.parent)).as_posix()
