"""The command that carries weights between snnjax and the PyTorch code."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
from command import Command, refused

from snnjax.data import Dataset
from snnjax.encoding import COLOUR, GREY
from snnjax.interop import pytorch
from snnjax.networks import NETWORKS, Images, SpikingNetwork
from snnjax.networks.model import rounded_weights
from snnjax.runs.trained import Trained

CONVERT = Command("convert")
SPEC = dataclasses.replace(NETWORKS["deep2024"](Images((28, 28), 2, encoder=GREY)), encoder=GREY)


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {layer: draw.random(shape, np.float32) for layer, shape in SPEC.weight_shapes.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, weights) -> pathlib.Path:
    """Holds what a run of deep2024 leaves, and what the PyTorch code saves."""
    folder = tmp_path_factory.mktemp("convert")
    Trained(SPEC, weights, (28, 28), dict(model="deep2024", dataset="digits", seed=0)).save(folder / "run.npz")
    pytorch.write(folder / "theirs.npz", SPEC, weights)
    return folder


@pytest.mark.parametrize("suffix", [".npz", ".pth"])
def test_there_and_back(folder, tmp_path, weights, suffix):
    if suffix == ".pth":
        pytest.importorskip("torch", minversion="2.10")
    there, back = tmp_path / f"there{suffix}", tmp_path / "back.npz"
    CONVERT.main([folder / "run.npz", there])
    CONVERT.main(["--model", "deep2024", "--classes", 2, there, back])
    trained = Trained.read(back)
    assert (trained.network, trained.image_shape) == (SPEC, (28, 28))
    assert trained.weights.keys() == weights.keys()
    for layer, value in rounded_weights(SPEC, weights).items():
        np.testing.assert_array_equal(trained.weights[layer], value, err_msg=layer)


@pytest.mark.slow
def test_a_network_for_colour_is_carried_over_and_evaluated(tmp_path):
    """Its encoder, time steps and images come with it: it decides as the network that it came from."""
    spec = dataclasses.replace(
        NETWORKS["mozafari2018"](Images((32, 32, 3))), encoder=COLOUR, time_steps=COLOUR.time_steps
    )
    draw = np.random.default_rng(0)
    weights = {name: draw.random(shape, np.float32) ** 3 for name, shape in spec.weight_shapes.items()}
    pytorch.write(tmp_path / "theirs.npz", spec, weights)
    images = np.zeros((4, 32, 32, 3), np.uint8)
    for image, (row, column) in zip(images, [(0, 0), (0, 22), (22, 0), (22, 22)], strict=True):
        image[row : row + 10, column : column + 10] = draw.integers(0, 256, (10, 10, 3))
    labels = np.arange(4, dtype=np.int32)
    Dataset("mine", np.resize(images, (10, 32, 32, 3)), np.arange(10), images, labels).save(tmp_path / "mine.npz")
    command = f"--model mozafari2018 --channels 18 {tmp_path}/theirs.npz {tmp_path}/ours.npz"
    CONVERT.main(command.split())
    trained = Trained.read(tmp_path / "ours.npz")
    assert (trained.network, trained.image_shape) == (spec, (32, 32, 3))
    arguments = f"{tmp_path}/ours.npz --dataset {tmp_path}/mine.npz --out {tmp_path}/out.json --device cpu"
    Command("evaluate").main(arguments.split())
    found = json.loads((tmp_path / "out.json").read_text())
    model = SpikingNetwork(spec, weights=weights)
    decisions = [int(model(image)) for image in images]
    assert len(set(decisions)) > 1
    assert found["accuracy"] == np.mean(decisions == labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run.npz out.npz --model deep", "`model` must be that of run.npz, deep2024, got deep"),
        ("theirs.npz out.npz --model deep", "`model` must be one of mozafari2018, deep2024, "),
        ("theirs.npz out.npz", "`model` must be named for the state_dict theirs.npz"),
        ("run.npz theirs.npz --model deep2024", "theirs.npz already exists"),
        ("run.npz out.txt", "`path` must end in .npz, .pth, .pt, got out.txt"),
        ("none.pth out.npz", "there is no file none.pth"),
        ("theirs.npz out.pth", "`destination` must end in .npz for weights from theirs.npz, got out.pth"),
        ("theirs.npz out.npz --model deep2024 --classes 0", "`classes` must be at least 1, got 0"),
        ("theirs.npz out.npz --model deep2024 --channels 3", "`channels` must be one of 6, 18, got 3"),
    ],
)
def test_mistakes_end_in_one_line_and_leave_no_file(folder, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(folder)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert message in refused(CONVERT, capsys, *arguments.split())
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
