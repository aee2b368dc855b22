"""HTML pages that are one file each: a style, sections with links to them, tables and pictures.

The HTML is in the templates of this folder; what Jinja2 puts into it is escaped.
"""

import base64
import functools
import re
import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from snnjax.app.plots import OVERSAMPLING

_OURS = '<meta name="generator" content="snnjax">'


def is_ours(path: Path) -> bool:
    """Whether a file is a page that `page` made."""
    return path.is_file() and _OURS in path.read_text(errors="replace")[:1000]


def _breakable(text: str) -> Markup:
    """Text that may continue on another line within a path or a name."""
    return Markup(re.sub(r"(?<=\w)([/._]+)(?=\D)", r"\1<wbr>", str(escape(text))))


def _anchor(heading: str) -> str:
    return re.sub(r"\W+", "-", heading.lower())


@functools.cache
def _templates() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("snnjax.app"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    found.filters |= dict(anchor=_anchor, breakable=_breakable)
    return found


def _part(name: str, *values: Any) -> str:
    """HTML of one of the parts in the templates."""
    module: Any = _templates().get_template("parts.html").module
    return str(getattr(module, name)(*values)) + "\n"


def page(title: str, sections: Mapping[str, str]) -> str:
    """A whole HTML file with links to its sections, HTML by heading; those without content are left out."""
    filled = {heading: content for heading, content in sections.items() if content}
    return _templates().get_template("page.html").render(title=title, sections=filled)


def table(names: Iterable[str], rows: Iterable[Sequence[str]], best: Sequence[Collection[int]] = ()) -> str:
    """A table as HTML, in a box that scrolls; `best` are the places of the cells to mark in each row."""
    lines = list(rows)
    return _part("table", list(names), lines, best) if lines else ""


def pairs(kind: str, entries: Mapping[str, str]) -> str:
    """Names and what belongs to them as an HTML list of a kind: "cards", "facts" or "words"."""
    return _part("pairs", kind, entries) if entries else ""


def code(text: str) -> str:
    """Lines of commands or of a program as HTML, in a box that scrolls."""
    return _part("code", text)


def command(text: str) -> str:
    """A command as HTML; it continues on another line between its words."""
    return _part("command", text.split(" "))


def picture(png: bytes, caption: str, description: str) -> str:
    """A PNG file as HTML that holds it, with a description for those who do not see it."""
    width, height = (round(pixels / OVERSAMPLING) for pixels in struct.unpack(">2I", png[16:24]))
    return _part("picture", base64.b64encode(png).decode(), width, height, caption, description)
