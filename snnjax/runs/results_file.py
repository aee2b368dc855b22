"""The results.json of a finished run."""

import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np

import snnjax
from snnjax.core import files
from snnjax.core.errors import InputError, explained
from snnjax.data import Dataset
from snnjax.data.names import name_of
from snnjax.runs.trained import STREAM, SWEEP, WEIGHTS, finished_file
from snnjax.training.state import FORMAT, current_names

RESULTS = "results.json"
PICTURES, PAGE = "pictures", "report.html"
"""Names of the report of a run, whoever draws it."""

Json = dict[str, Any]


def read_results(run: Path) -> Json:
    """Reads a run's results.json.

    Raises FileNotFoundError without one, InputError if it is damaged, or of another version.
    """
    path = finished_file(run, RESULTS)
    if (run / STREAM).exists():
        raise InputError(f"{run} is the folder of a stream: look at {run / STREAM}; its network is in {run / WEIGHTS}")
    advice = "delete it, and `resume` writes it again"
    results = _read(path, set(), advice)
    files.check_format(path, results, FORMAT, f"read it with that version, or {run}/{PAGE}")
    digest = results.pop("digest", None)
    if digest != _digest(results):
        raise InputError(f"{path} is damaged, its digest does not match: {advice}")
    return results | dict(settings=current_names(results["settings"]))


def _read(path: Path, names: set[str], advice: str) -> Json:
    """The JSON object of a file, which has these names; raises InputError, with advice, if there is none."""
    with explained(advice=advice):
        results = files.read_json(path)
        if not isinstance(results, dict) or not names <= results.keys():
            raise InputError(f"{path} is damaged, it holds no results")
    return results


def is_sweep(path: Path) -> bool:
    """Whether a folder is that of a sweep with results."""
    return (path / SWEEP).is_file()


def read_sweep(folder: Path) -> Json:
    """Reads a sweep's sweep.json; raises InputError if it is damaged, or holds no trained network."""
    path = folder / SWEEP
    advice = "delete it, and the command of the sweep writes it again"
    results = _read(path, {"settings", "about", "networks"}, advice)
    if not any(network["epochs"] for network in results["networks"]):
        raise InputError(f"{path} holds no network that was trained to the end")
    return results | dict(settings=current_names(results["settings"]))


def write_results(run: Path, results: Json) -> None:
    """Writes results.json, with a digest that reveals damage."""
    plain = json.loads(json.dumps(results))
    files.write_json(run / RESULTS, plain | dict(digest=_digest(plain)))


def _digest(results: Json) -> str:
    return hashlib.sha256(json.dumps(results, sort_keys=True).encode()).hexdigest()


def misclassified(decisions: np.ndarray, data: Dataset) -> list[Json]:
    """The test images that are decided wrongly or not at all, given all decisions, (N,) integers.

    Each record has its number, its file (None where unknown), and its label and the decision by name.
    """
    files = data.test_files
    names = data.names
    return [
        dict(
            image=number,
            file=files[number] if files else None,
            label=names[data.test_labels[number]],
            decision=name_of(int(decisions[number]), names),
        )
        for number in np.flatnonzero(decisions != data.test_labels).tolist()
    ]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn")
    installed = {package: importlib.metadata.version(package) for package in packages}
    return dict(python=platform.python_version(), snnjax=snnjax.__version__, **installed)
