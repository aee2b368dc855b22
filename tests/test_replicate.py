"""The command that replicates the recorded runs, on a little of the embedded digits."""

import json

import numpy as np
import pytest
import replicate
from command import Command
from results import seed_statistics

from snnjax import data
from snnjax.app import names
from snnjax.networks import NETWORKS

COMMAND = Command("replicate", replicate)


@pytest.mark.slow
def test_runs_are_compared_and_kept(tmp_path):
    given = ["--dataset", "digits", "--model", "mozafari2018", "--seeds", "2", "--reward_epochs", "2"]
    COMMAND.main([*given, "--train_images", "40", "--test_images", "20", "--out", str(tmp_path)])
    (row,) = json.loads((tmp_path / "replication.json").read_text())["networks"]
    assert np.shape(row["test"]["seeds"]) == (2, 2)
    np.testing.assert_allclose(row["test"]["mean"], np.mean(row["test"]["seeds"], axis=0))
    assert row["train"]["reference"] == [], "the recorded run is of other data"
    assert (tmp_path / "replication.png").read_bytes().startswith(b"\x89PNG")
    assert "mozafari2018" in (tmp_path / "replication.txt").read_text()


def test_the_images_are_those_of_the_recorded_run(tmp_path):
    """The first ones as they come, and not of all classes alike."""
    images = replicate.ReplicateData(dataset="digits", train_images=40, test_images=20)
    chosen = replicate.Replicate(data=images, out=tmp_path / "out")
    options = replicate.options_of(chosen, replicate.images_of(chosen), "mozafari2018", 0)
    found = data.load(options.data.dataset)
    assert found.digest == data.digits().first(40, 20, in_order=True).digest
    assert (options.data.train_images, options.data.test_images) == (40, 20), "none of them is left out"


def test_statistics_by_hand():
    found = seed_statistics(np.array([[0.5, 1], [0.7, 1], [0.9, 1]]))
    np.testing.assert_allclose(found["mean"], [0.7, 1])
    np.testing.assert_allclose(found["sd"], [0.2, 0])
    half = 4.302653 * 0.2 / 3**0.5  # of Student's t with two degrees of freedom
    np.testing.assert_allclose(found["interval95"], [[0.7 - half, 0.7 + half], [1, 1]], rtol=1e-6)


def test_the_recorded_run_is_compared_under_its_protocol_alone():
    reference = json.loads(replicate.REFERENCE.read_text())
    assert reference["networks"].keys() == {*names.RECORDED} <= NETWORKS.keys()
    recorded = reference["networks"]["mozafari2018"]
    epochs = [
        dict(train=dict(accuracy=train), test=dict(accuracy=test + 0.01))
        for train, test in zip(recorded["train"], recorded["test"], strict=True)
    ]
    results = [dict(epochs=epochs, phases=[dict(seconds=50, compile_seconds=10)])]
    row = replicate.compare("mozafari2018", results, reference, replicate.Replicate())
    np.testing.assert_allclose(row["test"]["gap"], -0.01)
    assert (row["seconds"], row["test"]["sd"]) == (60, None)
    assert replicate.table([row]).row_count == 2
    for other in (dict(data=replicate.ReplicateData(train_images=600)), dict(update_batch=64)):
        row = replicate.compare("mozafari2018", results, reference, replicate.Replicate(**other))
        assert row["test"]["reference"] == []
