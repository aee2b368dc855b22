"""The project: what is imported when, what a package holds, and mutants that still fit the code."""

import csv
import importlib
import inspect
import os
import pydoc
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
from documents import ROOT

import snnjax

ESTIMATORS = {"estimators", "SpikingClassifier", "SpikingFeatures"}
"""They derive from classes of scikit-learn, which is imported with them."""


def test_the_library_pulls_in_nothing_that_only_commands_need():
    """Neither what draws and prints nor what only some data sets need, beyond what JAX, Flax and optax pull in."""
    known = "import jax, flax.nnx, optax; sys.modules['matplotlib'] = None; known = {*sys.modules}"
    lazy = "from snnjax import Trainer; assert 'snnjax.runs.run_folder' not in sys.modules"
    names = ", ".join({*snnjax.__all__} - ESTIMATORS)
    loaded = printed(
        f"{known}; {lazy}; from snnjax import {names}; from snnjax.runs import RunFolder, SweepFolder, load",
        "{*sys.modules} - known",
    )
    heavy = {"rich", "tensorflow_datasets", "sklearn", "scipy", "tyro", "PIL", "tensorboardX"}
    assert {"snnjax.training.loop", "snnjax.runs.run_folder"} <= {*loaded}
    assert {name.split(".")[0] for name in loaded} & heavy == set()
    assert [name for name in loaded if name.startswith("snnjax.app.")] == []


def test_the_command_line_answers_before_jax_is_imported():
    loaded = printed("from snnjax.app.main import main; main([]); main(['--version'])", "sys.modules")
    assert {"jax", "numpy", "rich", "matplotlib"} & {*loaded} == set()


def printed(code: str, names: str) -> list[str]:
    """The words that a new Python prints of some names, after some code."""
    program = [sys.executable, "-c", f"import sys; {code}; print(*({names}))"]
    return subprocess.run(program, capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()


PACKAGES = (
    "app",
    "data",
    "encoding",
    "estimators",
    "export.c",
    "export.nir",
    "export.page",
    "export.pytorch",
    "kernels",
    "layers",
    "learners",
    "networks",
    "runs",
)


@pytest.mark.parametrize("name", PACKAGES)
def test_help_lists_what_a_package_offers(name):
    """Its functions and classes, which other modules define, and nothing that it only needs itself."""
    package = importlib.import_module(f"snnjax.{name}")
    text = pydoc.plaintext.document(package)
    offered = {key: value for key in package.__all__ if callable(value := getattr(package, key))}
    assert offered
    for key, value in offered.items():
        assert re.search(rf"^    (class )?{key}\b", text, re.MULTILINE), key
        assert getattr(value, "__module__", "snnjax").partition(".")[0] in ("snnjax", "builtins"), key
    functions = [key for key, value in vars(package).items() if inspect.isfunction(value) and not key.startswith("_")]
    missing = {*functions} - {*package.__all__}
    assert missing == set()


def test_a_package_has_its_files_and_is_found_beside_its_checkout(tmp_path):
    """The checkout's folder, of the same name, is found first, as a package without a file; an installed path wins."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = settings["package-data"]
    for package, names in found.items():
        assert all(list((ROOT / package.replace(".", "/")).glob(name)) for name in names)
    suffixes = {name.rpartition(".")[2] for names in found.values() for name in names}
    assert suffixes == {"typed", "pyi", "cc", "h", "json", "npz", "html", "js", "in"}
    assert settings["package-dir"] == {"": "."}, "setuptools then puts this folder on the path, where the package is"
    (tmp_path / "snnjax").symlink_to(ROOT)
    (tmp_path / "script.py").write_text("import snnjax; print(snnjax.__version__)")
    environment = os.environ | dict(PYTHONPATH=str(ROOT))
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.stdout == f"{snnjax.__version__}\n", done.stderr


@pytest.mark.skipif(not shutil.which("git"), reason="no git")
def test_mutants_apply():
    """And each was noticed by a test that there is."""
    with (ROOT / "tests/mutants/noticed.csv").open(newline="") as file:
        noticed = {row["mutant"]: row["test"] for row in csv.DictReader(file)}
    patches = sorted((ROOT / "tests/mutants").glob("*.patch"))
    assert [*noticed] == [patch.stem for patch in patches]
    outside = dict(os.environ, GIT_CEILING_DIRECTORIES=str(ROOT.parent))  # also where the tree lies in a repository
    for patch in patches:
        file, _, name = noticed[patch.stem].partition("::")
        assert f"def {name.partition('[')[0]}(" in (ROOT / file).read_text(), patch.stem
        subprocess.run(["git", "apply", "--check", str(patch)], cwd=ROOT, env=outside, check=True)
