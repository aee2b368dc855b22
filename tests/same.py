"""What must be the same to the last bit, in all but how long it took."""

import json
import pathlib
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from snnjax.core import files
from snnjax.runs.checkpoint_folder import CHECKPOINT, PREVIOUS
from snnjax.training.state import TrainState


def assert_same_state(state: TrainState, expected: TrainState) -> None:
    """States of trainings."""
    (arrays, meta), (others, other_meta) = state.flatten(), expected.flatten()
    jax.tree.map(np.testing.assert_array_equal, arrays, others)
    assert meta | dict(phases=[]) == other_meta | dict(phases=[])


def assert_same_file(one: pathlib.Path, other: pathlib.Path) -> None:
    """Checkpoints or weights."""
    (arrays, meta), (expected, expected_meta) = map(files.load_checkpoint, (one, other))
    jax.tree.map(np.testing.assert_array_equal, arrays, expected)
    times = dict(phases=[], spent=0)
    assert meta | times == expected_meta | times


def records_of(folder: pathlib.Path) -> list[dict[str, Any]]:
    """The records of the networks in sweep.json."""
    return json.loads((folder / "sweep.json").read_text())["networks"]


def untimed(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records but for how long the networks took."""
    return [{name: x for name, x in each.items() if "seconds" not in name} for each in records]


def assert_same_sweep(one: pathlib.Path, other: pathlib.Path) -> None:
    """Two folders hold the same networks, and nothing of any training."""
    records = untimed(records_of(one))
    assert records == untimed(records_of(other))
    trained = [each["weights"] for each in records]
    for path in (one, other):
        names = {each.name for each in path.iterdir()} - {CHECKPOINT, PREVIOUS, ".lock", "sweep.png"}
        assert names == {"sweep.json", *trained}
    for name in trained:
        assert_same_file(one / name, other / name)
