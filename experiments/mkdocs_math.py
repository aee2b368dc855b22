"""An mkdocs hook that converts equations to MathML, which browsers render without a script."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

EQUATION = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    """Replaces the LaTeX that `pymdownx.arithmatex` leaves in a page by MathML."""
    return EQUATION.sub(_mathml, content)


def _mathml(found: re.Match[str]) -> str:
    latex = html.unescape(found[3]).strip()
    if found[2] == "[":
        return f'<div class="equation">{convert(latex, display="block")}</div>'  # scrolls if it is too wide
    return convert(latex, display="inline")
