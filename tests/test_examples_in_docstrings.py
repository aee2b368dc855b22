"""The examples in docstrings: they print what they show, and no public function or class of some packages lacks one.

Each example starts without any names, in a folder of its own, which contains the files that examples read.
"""

import doctest
import importlib
import inspect
import io
import pathlib
import pkgutil
import types
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest
from conftest import made_once
from made_files import idx, png
from PIL import Image

import snnjax
from snnjax import app, data, encoding, estimators, layers, learners, networks, runs, testing, training
from snnjax.core import components
from snnjax.export import c, nir, page, pytorch

PACKAGES = (encoding, data, layers, learners, networks, training, runs, estimators, testing, app)
PACKAGES += (c, nir, page, pytorch, snnjax)
"""Packages whose public functions and classes all have an example; names imported from elsewhere are not counted."""

WITHOUT = {
    # Protocols and base classes: pages of the book describe how to write a class of one's own.
    "snnjax.encoding.FittedEncoder",
    "snnjax.encoding.ImageEncoder",
    "snnjax.Learner",
    "snnjax.learners.Learner",
    "snnjax.networks.Decision",
    "snnjax.networks.FittedDecision",
    "snnjax.networks.Join",
    # Containers that functions return, or that rules receive and return.
    "snnjax.data.Location",
    "snnjax.encoding.Filters",
    "snnjax.learners.DecisionCounts",
    "snnjax.learners.Learned",
    "snnjax.learners.Response",
    "snnjax.learners.Signal",
    "snnjax.networks.Observed",
    "snnjax.training.Cost",
    "snnjax.training.SweepState",
    "snnjax.training.TrainState",
    "snnjax.export.c.Program",
    "snnjax.export.c.Ranking",
    "snnjax.export.c.Results",
}
"""Public functions and classes that need no example. Those of `kernels` are on their page of the reference."""


def modules() -> list[types.ModuleType]:
    """All modules except that of the command line."""
    names = [found.name for found in pkgutil.walk_packages(snnjax.__path__, "snnjax.")]
    return [importlib.import_module(name) for name in names if name != "snnjax.__main__"]


def examples() -> list[doctest.DocTest]:
    """The examples of each docstring that has some. Each must import what it uses."""
    finder = doctest.DocTestFinder()
    tests = [test for module in modules() for test in finder.find(module, globs={})]
    return [test for test in tests if test.examples]


EXAMPLES = examples()


def write_files(path: pathlib.Path) -> None:
    """Writes the files that examples read: pictures, and public data sets in black."""
    for label, name in enumerate(("cat", "dog")):
        (path / "pictures" / name).mkdir(parents=True)
        for number in range(1, 11):
            (path / "pictures" / name / f"{number}.png").write_bytes(png(40 * label + number, (48, 64)))
    Image.new("RGB", (64, 48), "navy").save(path / "photo.jpg")
    paper = np.full((300, 300), 255, np.uint8)
    paper[60:80, 100:200] = 0
    paper[60:240, 180:200] = 0
    Image.fromarray(paper).save(path / "seven.png")
    (path / "t10k-images-idx3-ubyte").write_bytes(idx(np.zeros((10_000, 28, 28), np.uint8)))
    (path / "cifar-10-batches-bin").mkdir()
    (path / "cifar-10-batches-bin" / "test_batch.bin").write_bytes(bytes(10_000 * (1 + 3 * 32 * 32)))


@pytest.fixture
def folder(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pathlib.Path]:
    """A folder to work in, with the files that examples read."""
    for path in made_once(tmp_path_factory, "files_of_examples", write_files).iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    with mock.patch.dict(components.TYPES):  # without the components that other examples define
        yield tmp_path


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name.removeprefix("snnjax."))
def test_an_example_prints_what_it_shows(example, folder):
    if example.name.startswith("snnjax.export.nir."):
        pytest.importorskip("nir")
    before = sorted(folder.iterdir())
    printed = io.StringIO()
    results = doctest.DocTestRunner(verbose=False).run(example, out=printed.write)
    assert results.failed == 0, printed.getvalue()
    assert sorted(folder.iterdir()) == before, "an example leaves no files"


def public_functions_and_classes(package: types.ModuleType) -> Iterator[tuple[str, Any]]:
    """Those that are defined in a package, by their public names."""
    for name in getattr(package, "__all__", [name for name in vars(package) if not name.startswith("_")]):
        value = getattr(package, name)
        is_function_or_class = inspect.isclass(value) or inspect.isroutine(inspect.unwrap(value))
        if is_function_or_class and f"{value.__module__}.".startswith(f"{package.__name__}."):
            yield f"{package.__name__}.{name}", value


def test_public_functions_and_classes_have_an_example():
    having = {example.name for example in EXAMPLES}
    public = {name: value for package in PACKAGES for name, value in public_functions_and_classes(package)}
    assert len(public) > 50
    lacking = {name for name, value in public.items() if f"{value.__module__}.{value.__qualname__}" not in having}
    assert lacking - WITHOUT == set()
    assert WITHOUT - lacking == set(), "these have one by now, or are not public any more"
