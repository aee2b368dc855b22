"""The tutorial runs from top to bottom, and what it says holds; run as a program, this writes its outputs anew.

python tests/test_tutorial.py
"""

import pathlib
import re
import tempfile

import nbclient
import nbformat
import pytest
from command import ENVIRONMENT, ROOT

NOTEBOOK = ROOT / "experiments" / "tutorial.ipynb"
PYTHON = dict(display_name="Python 3", language="python", name="python3")
PATHS = re.compile(r"/(home|root|tmp|usr|var|opt|mnt|work|Users|content)/|[A-Z]:\\|site-packages|ipykernel")


def executed(folder: str | pathlib.Path) -> nbformat.NotebookNode:
    """The notebook as a fresh kernel in a folder leaves it; raises CellExecutionError at the first error."""
    notebook = nbformat.read(NOTEBOOK, 4)
    for cell in code(notebook):
        cell.outputs, cell.execution_count = [], None
    place = dict(metadata=dict(path=str(folder)))
    client = nbclient.NotebookClient(notebook, timeout=600, record_timing=False, resources=place)
    client.execute(env=ENVIRONMENT)
    notebook.metadata = nbformat.from_dict(dict(kernelspec=PYTHON, language_info=dict(name="python")))
    return notebook


def code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(cell: nbformat.NotebookNode) -> str:
    """What a cell prints."""
    return "".join(each.text for each in cell.outputs if each.get("name") == "stdout")


def pictures(cell: nbformat.NotebookNode) -> int:
    return sum("image/png" in each.get("data", {}) for each in cell.outputs)


def numbers(pattern: str, notebook: nbformat.NotebookNode) -> list[float]:
    """The numbers in the one line printed by the notebook that fits a pattern, "#" for a number."""
    found = re.findall(pattern.replace("#", r"([\d.]+)"), "\n".join(map(texts, code(notebook))))
    assert len(found) == 1, (pattern, found)
    return [float(each) for each in (found[0] if isinstance(found[0], tuple) else found)]


def test_committed_outputs_are_clean():
    """Executed in order, with pictures, small, and without a word about the machine that made them."""
    notebook = nbformat.read(NOTEBOOK, 4)
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in code(notebook)] == [*range(1, len(code(notebook)) + 1)]
    assert notebook.metadata == dict(kernelspec=PYTHON, language_info=dict(name="python"))
    assert {each.get("name", "stdout") for cell in code(notebook) for each in cell.outputs} == {"stdout"}, "no warnings"
    assert sum(map(pictures, code(notebook))) > 10
    assert not PATHS.search("".join(cell.source + texts(cell) for cell in code(notebook)))
    assert NOTEBOOK.stat().st_size < 700_000


@pytest.mark.slow
def test_a_fresh_kernel_gives_the_committed_outputs_and_what_the_text_claims(tmp_path):
    """But for their numbers, which differ from processor to processor: the same words and as many pictures."""
    committed, fresh = nbformat.read(NOTEBOOK, 4), executed(tmp_path)
    for one, other in zip(code(committed), code(fresh), strict=True):
        assert pictures(one) == pictures(other), one.source
        assert re.findall(r"[^\W\d]+", texts(one)) == re.findall(r"[^\W\d]+", texts(other)), one.source
    assert_claims(committed)
    assert_claims(fresh)


def assert_claims(notebook: nbformat.NotebookNode) -> None:
    """With room for another seed, which is how another processor's rounding acts."""
    (equal,) = numbers("equal to `encode\\(image\\)`: #%", notebook)
    assert equal > 99
    (error,) = numbers("largest difference from the potentials above: #", notebook)
    assert error < 1e-3
    before, after = numbers(r"mean w\(1-w\): # before, # after", notebook)
    assert after < 0.01 < 0.155 < before < 0.165
    (difference,) = numbers("from those of our own loop: #", notebook)
    assert difference < 0.15, "about 0.25 between networks that have learned other features"
    learned, untrained = numbers("after the last epoch: #% after STDP, #% without", notebook)
    assert learned > 82
    assert untrained < 40
    wrong, tested = numbers("# of # test images are decided wrongly\n", notebook)
    assert wrong / tested < 0.18
    first, last = numbers("by labels: #% after the first epoch, #% after the last", notebook)
    assert abs(first - learned) < 6
    assert last > max(95, learned + 2)
    missed, shown = numbers("# of # test images are decided wrongly by the readout", notebook)
    assert missed / shown < 0.05
    assert 2 < numbers("the right class is # steps ahead", notebook)[0] < 255 * 0.03 + 1
    rules = ("STDP", "soft border, τ = 0.1", "soft border, τ = 1", "soft border, τ = 6")
    stdp, hard, soft, slow = (numbers(f"\n{name} +# % \\(seeds", notebook)[0] for name in rules)
    assert min(stdp, hard, soft) > 84
    assert max(stdp, hard, soft) - min(stdp, hard, soft) < 4
    assert slow < min(stdp, hard, soft) - 2


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as away:
        nbformat.write(executed(away), NOTEBOOK)
