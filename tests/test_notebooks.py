"""The notebooks are those of their pages, have figures and exercises, and run from top to bottom."""

import json
import os
import re
import subprocess
import sys

import nbformat
import notebooks
import pytest
import run_notebook
from documents import blocks, masked, text_of

PAGE = """# Title

[This page as a notebook, with exercises](../../notebooks/page.ipynb)

A [link](stdp.md#a) and ![a picture](../pictures/a.png).

```math
a
```

```python
f = [g](x)
```

```
1
```

```sh
snnjax train
```

<details markdown>
<summary>Solution</summary>

```python
2
```

```
2
```

Because.

</details>

Next
"""


@pytest.mark.parametrize("name", notebooks.PAGES)
def test_notebooks_are_made_from_their_pages_and_linked(name):
    file = notebooks.FOLDER / f"{name}.ipynb"
    assert file.read_text() == notebooks.text_of(name), f"run: python experiments/notebooks.py {name}"
    assert f"(../../notebooks/{name}.ipynb)" in text_of(f"experiments/docs/{notebooks.PAGES[name]}")
    nbformat.validate(nbformat.reads(file.read_text(), 4))


def test_there_are_no_others():
    assert {path.stem for path in notebooks.FOLDER.iterdir()} == {*notebooks.PAGES}


@pytest.mark.parametrize("name", notebooks.PAGES)
def test_they_have_a_figure_and_three_exercises_with_hidden_solutions(name):
    cells = notebooks.notebook(name).cells
    exercises = [int(number) for cell in cells for number in re.findall(r"^\*\*(\d)\.\*\*", cell.source, re.MULTILINE)]
    assert exercises == [1, 2, 3]
    asked = [index for index, cell in enumerate(cells) if "*Solution: open the next cell.*" in cell.source]
    assert [cells[index + 1].metadata.get("tags") for index in asked] == [["solution"]] * 3
    assert all(cell.metadata.jupyter.source_hidden for cell in cells if "solution" in cell.metadata.get("tags", []))
    assert any("plt.show()" in cell.source and not cell.metadata for cell in cells if cell.cell_type == "code")


def test_pages_become_cells(tmp_path, monkeypatch):
    page = tmp_path / "learn" / "page.md"
    page.parent.mkdir()
    page.write_text(PAGE)
    monkeypatch.setattr(notebooks, "BOOK", tmp_path)
    monkeypatch.setattr(notebooks, "FOLDER", tmp_path / "notebooks")
    monkeypatch.setitem(notebooks.PAGES, "page", "learn/page.md")
    made = [(cell.cell_type, cell.source, bool(cell.metadata)) for cell in notebooks.notebook("page").cells[2:]]
    title = "# Title\n\nA [link](../learn/stdp.md#a) and ![a picture](../pictures/a.png).\n\n$$\na\n$$"
    assert made == [
        ("markdown", title, False),
        ("code", "f = [g](x)", False),
        ("markdown", "```sh\nsnnjax train\n```", False),
        ("markdown", "*Solution: open the next cell.*", False),
        ("code", "2", True),
        ("markdown", "<details>\n<summary>Explanation</summary>\n\nBecause.\n\n</details>\n\nNext", False),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "page"), notebooks.PAGES.items())
def test_notebooks_run_show_figures_and_print_what_the_page_says(name, page, tmp_path):
    """Numbers depend on the processor: only the words are compared."""
    command = [sys.executable, run_notebook.__file__, str(notebooks.FOLDER / f"{name}.ipynb")]
    settings = dict(os.environ, IPYTHONDIR=str(tmp_path / "settings"))
    done = subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    cells = json.loads(done.stdout)
    assert sum(cell["figures"] for cell in cells) > 0
    outputs = {cell["source"]: cell["printed"] for cell in cells}
    printed = ""
    for language, text in blocks(f"experiments/docs/{page}"):
        if language == "python":
            printed = outputs[text.strip()]
        elif language == "" and printed and page.startswith("learn/"):
            assert masked(text) == masked(printed)
            printed = ""
