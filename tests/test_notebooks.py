"""The notebooks are those of their pages, have figures and exercises, and run from top to bottom."""

import re

import jax
import matplotlib
import matplotlib.pyplot as plt
import nbformat
import notebooks
import pytest
from documents import blocks, masked, text_of
from IPython.terminal.interactiveshell import TerminalInteractiveShell
from IPython.utils.capture import capture_output

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


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """What executes the cells of a notebook, without the sockets that Jupyter needs, which some machines refuse."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "settings"))
    backend = matplotlib.get_backend()
    shell = TerminalInteractiveShell.instance()
    shell.display_formatter.active_types = ["text/plain", "image/png"]
    shell.enable_matplotlib("inline")
    with jax.numpy_rank_promotion("allow"):
        yield shell
    shell.reset()
    plt.switch_backend(backend)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "page"), notebooks.PAGES.items())
def test_notebooks_run_show_figures_and_print_what_the_page_says(name, page, shell):
    """Numbers depend on the processor: only the words are compared."""
    shown = {}
    for cell in nbformat.read(notebooks.FOLDER / f"{name}.ipynb", 4).cells:
        if cell.cell_type == "code":
            with capture_output() as shown[cell.source]:
                result = shell.run_cell(cell.source)
            result.raise_error()
    assert any("image/png" in each.data for output in shown.values() for each in output.outputs)
    printed = ""
    for language, text in blocks(f"experiments/docs/{page}"):
        if language == "python":
            printed = shown[text.strip()].stdout
        elif language == "" and printed and page.startswith("learn/"):
            assert masked(text) == masked(printed)
            printed = ""
