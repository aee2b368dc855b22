"""HTML pages that are one file each: a style, sections with links to them, tables and pictures.

All HTML is in the templates of this folder; values that Jinja2 inserts are escaped.
"""

import base64
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from snnjax.app.plots import OVERSAMPLING
from snnjax.core import files

_OURS = '<meta name="generator" content="snnjax">'


def _breakable(text: str) -> Markup:
    """Text that may continue on another line within a path or a name."""
    # Escaped first, because Markup is inserted as it is: HTML in the names of classes and files would get into the
    # page.
    return Markup(re.sub(r"(?<=\w)([/._]+)(?=\D)", r"\1<wbr>", str(escape(text))))


def _anchor(heading: str) -> str:
    return re.sub(r"\W+", "-", heading.lower())


TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("snnjax.app"), autoescape=True, undefined=jinja2.StrictUndefined
)
TEMPLATES.filters |= dict(anchor=_anchor, breakable=_breakable)

html: Any = TEMPLATES.get_template("parts.html").module
"""The macros of parts.html: functions that return a part of a page as `Markup`."""


def page(title: str, sections: Mapping[str, Markup]) -> str:
    """A whole HTML file with links to its sections, HTML by heading; empty ones are left out."""
    filled = {heading: content for heading, content in sections.items() if content}
    return TEMPLATES.get_template("page.html").render(title=title, sections=filled)


def is_ours(path: Path) -> bool:
    """Whether a file is a page that `page` made."""
    return path.is_file() and _OURS in path.read_text(errors="replace")[:1000]


def check_path(path: Path) -> None:
    """Raises InputError unless a page's name ends in .html, and as `files.check_new` where another file is."""
    files.check_suffix("out", path, ".html")
    if not is_ours(path):
        files.check_new(path)


def picture(png: bytes, caption: str, description: str) -> Markup:
    """A PNG file as HTML that holds it, with a description for readers who do not see it."""
    width, height = (round(pixels / OVERSAMPLING) for pixels in struct.unpack(">2I", png[16:24]))
    return html.picture(base64.b64encode(png).decode(), width, height, caption, description)
