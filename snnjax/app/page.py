"""HTML pages that are one file each: a style, sections with links to them, tables and pictures."""

import base64
import re
import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from snnjax.app.plots import OVERSAMPLING

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2127; --soft: #59616d; --line: #d8dce2; --page: #ffffff; --card: #f4f6f8;
  --mark: #dcebfa; --link: #0a58a8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --soft: #a4adb9; --line: #3a414b; --page: #14171b;
  --card: #1f242a; --mark: #1b3d5e; --link: #82bcf8; } }
* { box-sizing: border-box; }
html { scroll-padding-top: 4rem; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
a { color: var(--link); }
header, nav, main { padding: 0 1rem; min-width: 0; }
h1 { margin: 1.6rem 0 .8rem; font-size: 1.7rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 0 0 .8rem; font-size: 1.25rem; }
h3 { margin: 1.6rem 0 .4rem; font-size: 1rem; }
p { max-width: 46rem; margin: .6rem 0; }
section { padding: 1.6rem 0; border-top: 1px solid var(--line); }
section:first-child { border-top: 0; padding-top: 1rem; }
nav { position: sticky; top: 0; z-index: 2; background: var(--page); border-bottom: 1px solid var(--line); }
nav ul { display: flex; gap: 1.2rem; margin: 0; padding: 0; list-style: none; overflow-x: auto; white-space: nowrap; }
nav a { display: block; padding: .65rem 0; font-size: .9rem; text-decoration: none; }
nav a:hover { text-decoration: underline; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.6rem, 1fr)); gap: .6rem; margin: 0; }
.cards div { padding: .6rem .8rem; background: var(--card); border-radius: 8px; }
.cards dt { color: var(--soft); font-size: .85rem; }
.cards dd { margin: 0; font-size: 1.3rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.cards div:first-child { background: var(--mark); }
.facts { display: grid; grid-template-columns: minmax(6.5rem, max-content) minmax(0, 1fr); gap: .25rem 1.2rem; }
.facts div { display: contents; }
.facts dt { color: var(--soft); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
.words dt { font-weight: 600; }
.words dd { margin: 0 0 .8rem; max-width: 46rem; overflow-wrap: anywhere; }
pre { margin: .6rem 0; padding: .7rem .9rem; overflow-x: auto; background: var(--card); border-radius: 8px;
  font: .86rem/1.5 ui-monospace, monospace; }
pre.command { white-space: pre-wrap; }
pre.command span { display: inline-block; max-width: 100%; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .93rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .9rem .28rem 0; text-align: right; border-bottom: 1px solid var(--line); }
th + th, td { padding-left: .5rem; }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
tbody th { min-width: 5.5rem; font-weight: 400; text-align: left; }
th:first-child { position: sticky; left: 0; background: var(--page); text-align: left; }
td.best { background: var(--mark); font-weight: 700; }
figure { margin: .8rem 0 1.6rem; }
figure .scroll { display: inline-block; max-width: 100%; margin: 0; padding: 8px; background: #fff; border-radius: 8px;
  border: 1px solid var(--line); vertical-align: top; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption { max-width: 46rem; margin-top: .4rem; color: var(--soft); font-size: .9rem; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
@media (max-width: 47.99rem) { img.wide { min-width: 40rem; } th, td { padding-right: .45rem; } }
@media (min-width: 70rem) {
  .columns { display: grid; grid-template-columns: 12.5rem minmax(0, 1fr); max-width: 82rem; margin: 0 auto; }
  header { max-width: 82rem; margin: 0 auto; }
  html { scroll-padding-top: 1rem; }
  nav { align-self: start; padding-top: 1rem; border: 0; }
  nav ul { display: block; }
  nav a { padding: .22rem 0; white-space: normal; }
}
@media print { nav { display: none; } figure, tr, pre { break-inside: avoid; } .scroll { overflow: visible; }
  h2 { break-after: avoid; } img, img.wide { min-width: 0; } }
"""


_OURS = '<meta name="generator" content="snnjax">'


def is_ours(path: Path) -> bool:
    """Whether a file is a page that `page` made."""
    return path.is_file() and _OURS in path.read_text(errors="replace")[:1000]


def page(title: str, sections: Mapping[str, str]) -> str:
    """A whole HTML file with links to its sections, HTML by heading; those without content are left out."""
    filled = {heading: content for heading, content in sections.items() if content}
    links, parts = [], []
    for heading, content in filled.items():
        name = re.sub(r"\W+", "-", heading.lower())
        links.append(f'<li><a href="#{name}">{escape(heading)}</a></li>')
        parts.append(f'<section id="{name}">\n<h2>{escape(heading)}</h2>\n{content}\n</section>')
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{_OURS}
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header><h1>{escape(title)}</h1></header>
<div class="columns">
<nav aria-label="Sections"><ul>
{"".join(links)}
</ul></nav>
<main>
{"".join(parts)}
</main>
</div>
</body>
</html>
"""


def table(names: Iterable[str], rows: Iterable[Sequence[str]], best: Sequence[Collection[int]] = ()) -> str:
    """A table as HTML, in a box that scrolls; `best` are the places of the cells to mark in each row."""
    names = list(names)
    head = "".join(f'<th scope="col">{_breakable(name)}</th>' for name in names)
    lines = []
    for number, (first, *rest) in enumerate(rows):
        marked = best[number] if best else ()
        kinds = ['<td class="best">' if at in marked else "<td>" for at in range(1, len(rest) + 1)]
        cells = [f"{kind}{_breakable(cell)}</td>" for kind, cell in zip(kinds, rest, strict=True)]
        lines.append(f'<tr><th scope="row">{_breakable(first)}</th>{"".join(cells)}</tr>\n')
    if not lines:
        return ""
    inside = f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{''.join(lines)}</tbody></table>"
    return f'<div class="scroll" tabindex="0">{inside}</div>'


def _breakable(text: str) -> str:
    """Text as HTML that may go on in another line within a path or a name."""
    return re.sub(r"(?<=\w)([/._]+)(?=\D)", r"\1<wbr>", escape(text))


def pairs(kind: str, entries: Mapping[str, str]) -> str:
    """Names and what belongs to them as an HTML list of a kind: "cards", "facts" or "words"."""
    lines = [f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>\n" for name, text in entries.items()]
    return f'<dl class="{kind}">\n{"".join(lines)}</dl>' if lines else ""


def code(text: str) -> str:
    """Lines of commands or of a program as HTML, in a box that scrolls."""
    return f'<pre tabindex="0"><code>{escape(text)}</code></pre>'


def command(text: str) -> str:
    """A command as HTML; it goes on in another line between its words."""
    words = " ".join(f"<span>{escape(word)}</span>" for word in text.split(" "))
    return f'<pre class="command"><code>{words}</code></pre>\n'


def picture(png: bytes, caption: str, description: str) -> str:
    """A PNG file as HTML that holds it, with a description for those who do not see it."""
    width, height = (round(pixels / OVERSAMPLING) for pixels in struct.unpack(">2I", png[16:24]))
    data, kind = base64.b64encode(png).decode(), ' class="wide"' * (width > 720)
    image = (
        f'<img{kind} width="{width}" height="{height}" alt="{escape(description)}" src="data:image/png;base64,{data}">'
    )
    focus = ' tabindex="0"' * (width > 720)
    return f'<figure><div class="scroll"{focus}>{image}</div><figcaption>{escape(caption)}</figcaption></figure>\n'
