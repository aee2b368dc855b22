"""Self-contained HTML pages: a single file with its style, sections with links to them, tables and pictures.

All HTML is in the templates in this folder; Jinja2 escapes the values that it inserts.
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
    """Text in which line breaks are allowed within paths and names."""
    # The text is escaped first, because Markup is inserted unchanged: otherwise HTML in the names of classes and files
    # would become part of the page.
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
    """A complete HTML page with links to its sections, given their contents by heading; empty sections are left out."""
    filled = {heading: content for heading, content in sections.items() if content}
    return TEMPLATES.get_template("page.html").render(title=title, sections=filled)


def is_ours(path: Path) -> bool:
    """Whether a file was written from the result of `page`."""
    return path.is_file() and _OURS in path.read_text(errors="replace")[:1000]


def check_path(path: Path) -> None:
    """Raises InputError unless the name of a page ends in .html, and as `files.check_new` if it is some other file."""
    files.check_suffix("out", path, ".html")
    if not is_ours(path):
        files.check_new(path)


def picture(png: bytes, caption: str, description: str) -> Markup:
    """HTML with an embedded PNG file, a caption, and a description for readers who cannot see the picture."""
    width, height = (round(pixels / OVERSAMPLING) for pixels in struct.unpack(">2I", png[16:24]))
    return html.picture(base64.b64encode(png).decode(), width, height, caption, description)
