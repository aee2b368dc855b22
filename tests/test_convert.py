"""The command that carries weights between snnjax and the PyTorch code."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from command import Command, refused

from snnjax.data import Dataset
from snnjax.encoding import COLOUR, GREY
from snnjax.interop import pytorch
from snnjax.networks import NETWORKS, Images, SpikingNetwork
from snnjax.networks.model import rounded_weights
from snnjax.runs.trained import Trained

ROOT = pathlib.Path(__file__).parents[1]
SCRIPT = ROOT / "experiments" / "convert.py"
CONVERT = Command("convert")
SPEC = dataclasses.replace(NETWORKS["deep2024"](Images((28, 28), 2, encoder=GREY)), encoder=GREY)


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    shapes = dict(layer1=(30, 6, 5, 5), layer2=(150, 30, 3, 3), layer3=(250, 150, 3, 3), layer4=(40, 250, 5, 5))
    return {layer: draw.random(shape, np.float32) for layer, shape in shapes.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, weights) -> pathlib.Path:
    """Holds what a run of deep2024 leaves, sound and damaged, and what the PyTorch code saves."""
    folder = tmp_path_factory.mktemp("convert")
    run = folder / "run.npz"
    Trained(SPEC, weights, (28, 28), dict(model="deep2024", dataset="digits", seed=0)).save(run)
    damaged = bytearray(run.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (folder / "damaged.npz").write_bytes(damaged)
    pytorch.write(folder / "theirs.npz", SPEC, weights)
    return folder


@pytest.mark.parametrize("suffix", [".npz", ".pth"])
def test_there_and_back(folder, tmp_path, weights, suffix, capsys):
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
    to_them, to_us = capsys.readouterr().out.splitlines()
    assert to_them == f"{there}: state_dict of deep2024 for the PyTorch code"
    assert to_us == f"{back}: weights of deep2024 for snnjax"


def test_as_a_person_starts_it(tmp_path):
    command = [sys.executable, SCRIPT, "--model", "deep2024", tmp_path / "none.npz", tmp_path / "ours.npz"]
    process = subprocess.run(command, capture_output=True, text=True, env=os.environ | dict(PYTHONPATH=str(ROOT)))
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == f"snnjax convert: there is no file {tmp_path / 'none.npz'}\n"


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
    confusion = np.zeros((10, 10), int)
    np.add.at(confusion, (labels, decisions), 1)
    assert found["confusion_matrix"] == confusion.tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run.npz out.npz --model deep", "`model` must be that of run.npz, deep2024, got deep"),
        ("theirs.npz out.npz --model deep", "`model` must be one of mozafari2018, deep2024, "),
        ("theirs.npz out.npz", "`model` must be named for the state_dict theirs.npz"),
        ("run.npz theirs.npz --model deep2024", "theirs.npz already exists"),
        ("run.npz none/out.npz", "there is no folder none to write out.npz into"),
        ("run.npz out.txt", "`path` must end in .npz, .pth, .pt, got out.txt"),
        ("none.pth out.npz", "there is no file none.pth"),
        ("theirs.npz out.pth", "`destination` must end in .npz for weights from theirs.npz, got out.pth"),
        ("theirs.npz out.npz --model deep2024 --classes 2 --channels 18", "theirs.npz: block1.conv.weight must have"),
        ("theirs.npz out.npz --model deep2024 --classes 1", "theirs.npz is no state_dict of deep2024: it has"),
        ("theirs.npz out.npz --model deep2024 --classes 0", "`classes` must be at least 1, got 0"),
        ("theirs.npz out.npz --model deep2024 --channels 3", "`channels` must be one of 6, 18, got 3"),
        ("damaged.npz out.npz", "damaged.npz is damaged"),
        ("theirs.npz", "DESTINATION"),
    ],
)
def test_mistakes_end_in_one_line_and_leave_no_file(folder, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(folder)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert message in refused(CONVERT, capsys, *arguments.split())
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
