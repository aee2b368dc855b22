"""The paths of the files of the book, and links between them."""

import os
from pathlib import Path

from snnjax.app.names import RECORDED

TOP = Path(__file__).resolve().parents[2]
DOCS = TOP / "experiments" / "docs"
PICTURES = DOCS / "pictures" / "networks"
PAGES = DOCS / "networks"


SHARED = {
    "supervised": ("goupy2024_pcn", "goupy2024_s2stdp", "goupy2024_sstdp"),
    "goupy2024_ncg": ("ncg_scales",),
    "goupy2024_softhebb": ("softhebb_narrow",),
    "local_errors": ("local_narrow", "local_wide"),
    "few_labels": ("ncg_prototypes",),
    "mozafari2018": ("mozafari2018_objects",),
    "pytorch_networks": RECORDED[1:],  # mozafari2018 has its own page
}
"""Networks that are described in a section of a shared page, by the name of that page."""


def page_of(name: str) -> Path:
    """The page that describes a network."""
    return PAGES / f"{next((page for page, names in SHARED.items() if name in names), name)}.md"


def network_link(page: Path, name: str) -> str:
    """A link from a page to the page or the section of a network."""
    target = page_of(name)
    section = "" if target.stem == name else f"#{name}"
    path = "" if target == page else relative(page, target)
    return f"[{name}]({path}{section})" if path or section else name


def relative(page: Path, target: Path) -> str:
    """The path of a file relative to a page, as used in links."""
    return Path(os.path.relpath(target, page.parent)).as_posix()
