"""The examples run, and say what they are there to show; parts of one's own do all that the library's own do."""

import json
import pathlib
import re
import runpy
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest
from own_parts import folder_of

from snnjax.core import files
from snnjax.testing import check_learner

TESTS = pathlib.Path(__file__).parent
EXAMPLES = TESTS.parent / "experiments" / "examples"
OWN = {
    "3_own_rule": ("layer1.learners.rate", [0.05, 0.2, 0.5], "EarlyInputs layer1"),
    "7_own_encoder": ("encoder.least", [0.1, 0.3, 0.6], "STDP layer1"),
    "8_own_competition": ("layer1.competition.waiting", [0, 1, 10], "STDP layer1"),
    "9_own_decision": ("decision.power", [1, 8, 64], "STDP layer1"),
    "10_own_readout": ("layer2.learners.late", [0.7, 0.9, 0.95], "TargetTime layer1"),
    "12_optax_rule": ("layer1.learners.rate", [0.03, 0.1, 0.3], "AdamInputs layer1"),
}
"""Of each example of a part of one's own: the path of its own number, the values of its sweep, its first phase."""
KILLED = ("3_own_rule", "10_own_readout", "12_optax_rule")
"""Those that are killed once, and run again."""


@pytest.fixture
def output(request, capsys) -> str:
    """What the example of this name prints."""
    with jax.numpy_rank_promotion("allow"):
        runpy.run_path(str(EXAMPLES / f"{request.param}.py"), run_name="__main__")
    return capsys.readouterr().out


def percents(text: str) -> list[float]:
    return [float(value) for value in re.findall(r"(\d+\.\d)%", text)]


@pytest.mark.parametrize("output", ["1_encode_images"], indirect=True)
def test_encoding(output):
    assert "(5, 28, 28) images of float64 become (5, 6, 28, 28) latencies of uint8" in output
    assert "as a wave: (15, 6, 28, 28)" in output


@pytest.mark.parametrize("output", ["2_own_scan_and_vmap"], indirect=True)
def test_own_scan(output):
    spreads = [float(value) for value in re.findall(r"mean w\(1-w\) (0\.\d+)", output)]
    assert len(spreads) == 8
    assert max(spreads) < 0.1 < 0.16, "weights move to their bounds"


@pytest.mark.slow
@pytest.mark.parametrize("output", ["11_own_features"], indirect=True)
def test_own_features(output):
    (oblique,) = re.findall(r"products of components of layer1 are (0\.\d+) off", output)
    assert float(oblique) < 0.1
    assert percents(output)[-1] > 93
    rule = runpy.run_path(str(EXAMPLES / "11_own_features.py"))["PrincipalComponents"]
    check_learner(rule(batch=3))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("output", "least", "shown"),
    [
        ("4_own_network", 50, "((6, 28, 28), (32, 7, 7), (100, 5, 5))"),
        ("5_features_for_a_classifier", 85, "random weights"),
        ("6_two_classes_of_pictures", 80, "the label is"),
    ],
    indirect=["output"],
)
def test_networks_learn(output, least, shown):
    first, last = percents(output)[0], percents(output)[-1]
    assert shown in output
    assert last > max(first, least)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> pathlib.Path:
    return tmp_path_factory.mktemp("own")


@pytest.fixture(scope="module")
def ran(root) -> dict[str, Any]:
    """What became of the examples of parts of one's own, some killed once and run again, then loaded elsewhere."""
    moments = [(name, at) for name in OWN for at in (5, 0) if at == 0 or name in KILLED]
    words = [f"{name}:{at}" for name, at in moments]
    command = [sys.executable, str(TESTS / "own_parts.py"), str(root), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    statuses = {(name, int(at)): int(code) for name, at, code in re.findall(r"^(\w+) (\d) (-?\d+)$", done.stdout, re.M)}
    assert statuses == {(name, at): -9 * (at > 0) for name, at in moments} | {("load", 0): 0}, done.stderr
    return json.loads(re.search(r"^loaded (.*)$", done.stdout, re.M)[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN)
def test_own_parts_learn_are_loaded_swept_and_reported(ran, root, name):
    """By a program that imports them; the sweep has trained the same network without a stop, beside others."""
    path, values, first_phase = OWN[name]
    folder = root / "runs" / folder_of(name)
    results = json.loads((folder / "run" / "results.json").read_text())
    assert results["test"]["accuracy"] > 0.4
    assert first_phase in [phase["name"] for phase in results["phases"]]
    assert results["hyperparameters"][path] in values
    assert "unknown to this program: import the module that defines it first" in ran[name]["refused"]
    assert ran[name]["accuracy"] == results["test"]["accuracy"]
    assert ran[name]["varied"][path] == values[-1]

    networks = json.loads((folder / "sweep" / "sweep.json").read_text())["networks"]
    (short,) = networks[0]["variant"]
    assert [each["variant"][short] for each in networks] == values
    paths = [folder / "run" / "weights.npz", *(folder / "sweep" / f"weights_{at:03}.npz" for at in (0, 1, 2))]
    found, first, second, third = (files.load_checkpoint(each)[0] for each in paths)
    assert np.mean(found["layer1"] * (1 - found["layer1"])) < 0.1 < 0.16, "weights move to their bounds"
    assert any((first[layer] != third[layer]).any() for layer in first), "the number makes a difference"
    assert found.keys() == second.keys() >= {"layer1", "layer2"}
    for layer, array in second.items():
        np.testing.assert_array_equal(found[layer], array, err_msg=layer)

    page = (folder / "run" / "report.html").read_text()
    pictures = {each.name for each in (folder / "run" / "pictures").iterdir()}
    assert pictures >= {"history.png", "confusion.png", "weights.png", "features_layer1.png", "features_layer2.png"}
    assert page.count("data:image/png;base64,") == len(pictures)
    for words in (f"{results['test']['accuracy']:.2%}", first_phase):
        assert words in page.replace("<wbr>", "")


def test_every_example_is_run():
    tested = re.findall(r'^.*"(\d+_\w+)"', pathlib.Path(__file__).read_text(), re.M)
    assert {*tested} == {path.stem for path in EXAMPLES.glob("*.py")}
