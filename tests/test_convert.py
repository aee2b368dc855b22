"""The command that carries weights between snnjax and the PyTorch code."""

import dataclasses
import pathlib

import numpy as np
import pytest
from command import Command, refused

from snnjax.encoding import COLOUR, GREY
from snnjax.interop import pytorch
from snnjax.networks import NETWORKS, Images, Network
from snnjax.networks.model import rounded_weights
from snnjax.runs.trained import Trained

CONVERT = Command("convert")
SPEC = dataclasses.replace(NETWORKS["deep2024"](Images((28, 28), 2, encoder=GREY)), encoder=GREY)
COLOURED = NETWORKS["mozafari2018"](Images((32, 32, 3), encoder=COLOUR))
COLOURED = dataclasses.replace(COLOURED, encoder=COLOUR, time_steps=COLOUR.time_steps)


def random_weights(network: Network) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {layer: draw.random(shape, np.float32) for layer, shape in network.weight_shapes.items()}


@pytest.mark.parametrize(
    ("network", "image_shape", "options", "suffix"),
    [
        (SPEC, (28, 28), "--classes 2", ".npz"),
        (SPEC, (28, 28), "--classes 2", ".pth"),
        (COLOURED, (32, 32, 3), "--channels 18", ".npz"),
    ],
)
def test_there_and_back(tmp_path, network, image_shape, options, suffix):
    """A network's encoder, time steps and images come with it."""
    if suffix == ".pth":
        pytest.importorskip("torch", minversion="2.10")
    run, there, back = tmp_path / "run.npz", tmp_path / f"there{suffix}", tmp_path / "back.npz"
    weights = random_weights(network)
    Trained(network, weights, image_shape, dict(model=network.name, dataset="digits", seed=0)).save(run)
    CONVERT.main([run, there])
    CONVERT.main(["--model", network.name, *options.split(), there, back])
    trained = Trained.read(back)
    assert (trained.network, trained.image_shape) == (network, image_shape)
    assert trained.weights.keys() == weights.keys()
    for layer, value in rounded_weights(network, weights).items():
        np.testing.assert_array_equal(trained.weights[layer], value, err_msg=layer)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """Holds what a run of deep2024 leaves, and what the PyTorch code saves."""
    folder, weights = tmp_path_factory.mktemp("convert"), random_weights(SPEC)
    Trained(SPEC, weights, (28, 28), dict(model="deep2024", dataset="digits", seed=0)).save(folder / "run.npz")
    pytorch.write(folder / "theirs.npz", SPEC, weights)
    return folder


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
