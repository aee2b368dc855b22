"""What imports what: the contracts of pyproject.toml, and what is imported when."""

import os
import pathlib
import re
import shlex
import subprocess
import sys
import tomllib

import pytest

import snnjax

ROOT = pathlib.Path(__file__).parents[1]
FILES = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "snnjax").rglob("*.py"))]


def test_rooms_import_those_below_alone():
    """The contracts of import-linter in pyproject.toml."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_the_library_pulls_in_nothing_that_only_commands_need():
    """Neither what draws and prints nor what only some data sets need, beyond what JAX, Flax and optax pull in."""
    known = "import jax, flax.nnx, optax; sys.modules['matplotlib'] = None; known = {*sys.modules}"
    lazy = "from snnjax import Trainer; assert 'snnjax.runs.run_folder' not in sys.modules; from snnjax import *"
    loaded = printed(f"{known}; {lazy}; from snnjax.runs import RunFolder, SweepFolder, load", "{*sys.modules} - known")
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


@pytest.mark.slow
def test_the_reference_of_the_library_is_built_by_the_command_in_the_text(tmp_path):
    text = (ROOT / "experiments" / "README.md").read_text()
    (command,) = re.findall(r"^pdoc ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    arguments = shlex.split(command.replace("\\\n", " "))
    arguments[arguments.index("--output-directory") + 1] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pdoc", *arguments], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "already been added" not in done.stderr
    built = {str(path.relative_to(tmp_path).with_suffix("")) for path in tmp_path.rglob("*.html")}
    rooms = {str(pathlib.Path(file).with_suffix("")).removesuffix("/__init__") for file in FILES}
    packages = ["kernels/", "layers/", "encoding/", "learners/", "networks/", "data/", "runs/", "app/", "__main__"]
    inside = tuple(f"snnjax/{name}" for name in packages)
    shown = {"kernels/native", *(f"kernels/native/{name}" for name in ("blocks", "encoding", "readout"))}
    shown |= {f"networks/{name}" for name in ("kheradpisheh2018", "mozafari2018_objects")}  # functions of this name
    hidden = {name for name in rooms if name.startswith(inside)} - {f"snnjax/{name}" for name in shown}
    assert built == rooms - hidden | {"index"}, "the packages say what is public of these"
    assert "over all maps" in (tmp_path / "snnjax" / "encoding.html").read_text()


def test_the_package_says_that_it_is_typed():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for package, files in settings.items():
        assert all(list((ROOT / package.replace(".", "/")).glob(name)) for name in files)
    assert {name for files in settings.values() for name in files} == {
        "py.typed",
        "*.pyi",
        "*.cc",
        "*.h",
        "templates/*.html",
    }


def test_a_script_beside_a_checkout_imports_the_package(tmp_path):
    """The checkout's folder, of the same name, is found first, as a package without a file; an installed path wins."""
    place = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
    assert place == {"": "."}, "setuptools then puts this folder on the path, where the package is"
    (tmp_path / "snnjax").symlink_to(ROOT)
    (tmp_path / "script.py").write_text("import snnjax; print(snnjax.__version__)")
    command = [sys.executable, "script.py"]
    environment = os.environ | dict(PYTHONPATH=str(ROOT / place[""]))
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.stdout == f"{snnjax.__version__}\n", done.stderr
