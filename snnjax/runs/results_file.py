"""Reads and writes the results.json of finished runs, and reads the sweep.json of sweeps."""

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
"""The names of a run's folder of pictures, and of its report."""

Json = dict[str, Any]


def read_results(run: Path) -> Json:
    """Reads the results.json of a run.

    Raises FileNotFoundError if there is none, and InputError if it is damaged or was written by another version.
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
    """Reads a JSON object with these keys from a file; raises InputError, with advice, if there is none."""
    with explained(advice=advice):
        results = files.read_json(path)
        if not isinstance(results, dict) or not names <= results.keys():
            raise InputError(f"{path} is damaged, it holds no results")
    return results


def is_sweep(path: Path) -> bool:
    """Whether a folder contains the results of a sweep."""
    return (path / SWEEP).is_file()


def read_sweep(folder: Path) -> Json:
    """Reads the sweep.json of a sweep; raises InputError if it is damaged or contains no trained network."""
    path = folder / SWEEP
    advice = "delete it, and the command of the sweep writes it again"
    results = _read(path, {"settings", "about", "networks"}, advice)
    if not any(network["epochs"] for network in results["networks"]):
        raise InputError(f"{path} holds no network that was trained to the end")
    return results | dict(settings=current_names(results["settings"]))


def write_results(run: Path, results: Json) -> None:
    """Writes results.json, with a digest by which damage is detected."""
    plain = json.loads(json.dumps(results))
    files.write_json(run / RESULTS, plain | dict(digest=_digest(plain)))


def _digest(results: Json) -> str:
    return hashlib.sha256(json.dumps(results, sort_keys=True).encode()).hexdigest()


def misclassified(decisions: np.ndarray, data: Dataset) -> list[Json]:
    """Records of the test images that are misclassified or without a decision, given all decisions, (N,) integers.

    A record contains the number of the image, its file (None if unknown), and the names of its label and its decision.
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
    """The versions of Python and of the packages on which a result depends."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn")
    installed = {package: importlib.metadata.version(package) for package in packages}
    return dict(python=platform.python_version(), snnjax=snnjax.__version__, **installed)
