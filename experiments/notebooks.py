"""Makes the notebooks in `experiments/notebooks` from pages of the book: all notebooks, or only the named ones.

The page is the only source. Its Python code becomes code cells, while shell commands remain text. Printed results are
left out, since a notebook shows its own output. Solutions of exercises are hidden until they are opened.
"""

import argparse
import os.path
import re
from collections.abc import Sequence
from pathlib import Path

import jupytext
import nbformat

from snnjax.app.main import protected
from snnjax.core.errors import unknown
from snnjax.core.files import atomic_write

BOOK = Path(__file__).parent / "docs"
FOLDER = Path(__file__).parent / "notebooks"

PAGES = {
    "latency": "learn/latency.md",
    "stdp": "learn/stdp.md",
    "competition": "learn/competition.md",
    "reward": "learn/reward.md",
    "labels": "learn/labels.md",
    "streams": "learn/streams.md",
    "few_labels": "networks/few_labels.md",
    "custom_rule": "howto/custom_rule.md",
    "spyketorch": "coming_from/spyketorch.md",
}
"""The page from which each notebook is made."""
FIRST = """\
import os
from pathlib import Path

import snnjax

os.chdir(Path(snnjax.__file__).parents[1])  # the top folder of the checkout, where the files are that the code reads"""
HIDDEN = dict(tags=["solution"], jupyter=dict(source_hidden=True, outputs_hidden=True))
"""The metadata of a cell with a solution."""
BEGIN = "<details"
END = "</details>"
"""`BEGIN` and `END` enclose a solution on a page."""
SHELL = "%%sh\n"
"""The first line of a cell with a shell command, as jupytext writes it."""
RESULT = re.compile(r"^```\n.*?^```$", re.MULTILINE | re.DOTALL)
EQUATION = re.compile(r"^```math\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->")
LINK = re.compile(r"\]\(([^)\s:]+)\)")
TO_NOTEBOOK = re.compile(r"^\[[^]]*\]\(\S*/notebooks/\S*\).*$", re.MULTILINE)


def notebook(name: str) -> nbformat.NotebookNode:
    """Makes the notebook of this name, without outputs."""
    page = PAGES[name]
    origin = f"Made from the page [{page}](../docs/{page}). Run it in a checkout of snnjax."
    cells = [nbformat.v4.new_markdown_cell(origin), nbformat.v4.new_code_cell(FIRST)]
    in_solution = False
    for cell in jupytext.reads((BOOK / page).read_text(), "md").cells:
        if cell.cell_type == "markdown":
            text = cell.source
            explanation = ""
            if in_solution and END in text:
                explanation, text = text.split(END)
                in_solution = False
            in_solution = in_solution or BEGIN in text
            cell.source = _folded(_text(explanation, page)) + _text(text, page)
        elif cell.source.startswith(SHELL):
            command = cell.source.removeprefix(SHELL)
            cells.append(nbformat.v4.new_markdown_cell(f"```sh\n{command}\n```"))
            continue
        elif in_solution:
            cell.metadata.update(HIDDEN)
        if cell.source:
            cells.append(cell)
    for number, cell in enumerate(cells):
        cell.id = f"cell{number}"
    kernel = dict(name="python3", display_name="Python 3", language="python")
    return nbformat.v4.new_notebook(cells=cells, metadata=dict(kernelspec=kernel))


def _folded(explanation: str) -> str:
    """The explanation below the code of a solution, hidden until it is opened; "" if there is none."""
    return f"<details>\n<summary>Explanation</summary>\n\n{explanation}\n\n</details>\n\n" if explanation else ""


def _text(source: str, page: str) -> str:
    """Converts the text of a page for a notebook."""
    text = COMMENT.sub("", RESULT.sub("", TO_NOTEBOOK.sub("", source)))
    text = EQUATION.sub(r"$$\n\1$$", text)
    text = LINK.sub(lambda found: f"]({_from_notebooks(found[1], page)})", text)
    text = text.replace("<summary>Solution</summary>", "*Solution: open the next cell.*")
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"</?details.*?>", "", text)).strip()


def _from_notebooks(link: str, page: str) -> str:
    """Converts a link from a page into a link from the folder of the notebooks."""
    path, hash_sign, section = link.partition("#")
    target = (BOOK / page).parent / path if path else BOOK / page
    for name, made_from in PAGES.items():
        if not section and target.resolve() == (BOOK / made_from).resolve():
            return f"{name}.ipynb"
    return f"{Path(os.path.relpath(target, FOLDER)).as_posix()}{hash_sign}{section}"


def text_of(name: str) -> str:
    """The content of a notebook file, without outputs."""
    return f"{nbformat.writes(notebook(name))}\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes the named notebooks, or all if none is named; arguments are by default those of the command line."""
    parser = argparse.ArgumentParser("python experiments/notebooks.py", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(PAGES)}")
    names = parser.parse_args(arguments).names or [*PAGES]
    for name in names:
        if name not in PAGES:
            raise unknown("NAME", name, PAGES)
    FOLDER.mkdir(exist_ok=True)
    for name in names:
        with atomic_write(FOLDER / f"{name}.ipynb") as temporary:
            temporary.write_text(text_of(name))
        print(FOLDER / f"{name}.ipynb", flush=True)


if __name__ == "__main__":
    with protected():
        main()
