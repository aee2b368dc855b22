"""Networks as files of NIR: exact to the last bit, whoever reads them. Needs the package nir."""

import dataclasses
import json
import re
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from made_nir import (
    BEHIND,
    FIRST,
    GRAPHS,
    LAST,
    POOLED,
    cumulative,
    decided,
    judged,
    latencies_of,
    made,
    network_of,
    random_latencies,
    read_by,
    responses_of,
)

from snnjax import RSTDP, Conv, Pool, SpikingNetwork, stage
from snnjax.core.errors import InputError, MissingPackageError
from snnjax.data import digits
from snnjax.encoding import OnOff
from snnjax.export import nir as exchange
from snnjax.networks import Activations, Earliest, Flatten, Input, LinearSVM, Majority
from snnjax.runs.trained import Trained

pytestmark = pytest.mark.slow

nir = pytest.importorskip("nir")
PAGE = Path(__file__).parents[1] / "experiments" / "docs" / "howto" / "export_nir.md"
COUNT = 50
READERS = ("norse", "snntorch")
CHAINS = ("chain", "strides", "oblong")


@pytest.fixture(scope="module")
def published():
    """Networks by name, few time steps, with the latencies of test images and what snnjax makes of them."""
    cases = {}
    for name in ("goupy2024_ncg", "mozafari2018"):
        network = exchange.exportable(made(name, time_steps=8))
        latency = latencies_of(network, digits().test_images[:COUNT])
        cases[name] = network, latency, *responses_of(network, latency)
    return cases


def assert_same_network(network, expected):
    assert network.network == expected.network
    assert network.class_names == expected.class_names
    for name, weights in expected.weights().items():
        np.testing.assert_array_equal(network.weights()[name], weights)


@pytest.mark.parametrize(("name", "neuron"), [("goupy2024_ncg", "LIF"), ("mozafari2018", "IF")])
def test_a_file_holds_what_was_exported(name, neuron, tmp_path):
    network = made(name)
    path = tmp_path / "network.nir"
    assert exchange.write(network, path, neuron) == ""
    exported = exchange.exportable(network)
    assert_same_network(exchange.exportable(exported), exported)  # what was rounded stays
    graph = nir.read(path)
    for layer, weights in exported.weights().items():
        np.testing.assert_array_equal(graph.nodes[layer].weight, weights)
    assert int(graph.metadata["time_steps"]) == network.network.time_steps
    assert json.loads(graph.metadata["class_names"]) == [*network.class_names]
    recipe = graph.metadata["recipe"]
    named = dict(goupy2024_ncg="by the encoder OnOff(window=7, ", mozafari2018="by the encoder Encoder(bank=")
    assert named[name] in recipe
    assert "array" not in recipe.lower()
    assert ("an image lasts 0.0255 s" in recipe) == (neuron == "LIF")
    assert [file.name for file in tmp_path.iterdir()] == ["network.nir"]


def test_rounding_changes_little():
    network = made("mozafari2018")
    exported = exchange.exportable(network)
    for name, weights in network.weights().items():
        np.testing.assert_allclose(exported.weights()[name], weights, rtol=0, atol=2.0**-11)
    before, after = (each.network.stages[0].branches[0].threshold for each in (network, exported))
    np.testing.assert_allclose(after, before, rtol=0, atol=2.0**-12)


def test_potentials_that_equal_a_threshold_still_do_not_fire():
    network = network_of((stage(dataclasses.replace(FIRST, threshold=9.0), pool=2), stage(LAST)))
    network.set_weights({name: np.rint(weights) for name, weights in network.weights().items()})
    exported = exchange.exportable(network)
    latency = random_latencies(network, count=4)
    expected = responses_of(network, latency)
    assert (expected[0] == LAST.threshold).any()
    for found, known in zip(responses_of(exported, latency), expected, strict=True):
        np.testing.assert_array_equal(found, known)


@pytest.mark.parametrize("scale", [1e-6, 3e4])
def test_sums_are_exact_whatever_the_weights(scale):
    network = made("mozafari2018")
    stages = []
    for each in network.network.stages:
        convs = [
            x if x.threshold is None else dataclasses.replace(x, threshold=x.threshold * scale) for x in each.branches
        ]
        bounds = [dataclasses.replace(x, learners=tuple(unbounded(y) for y in x.each_learner)) for x in convs]
        stages.append(dataclasses.replace(each, branches=tuple(bounds)))
    description = dataclasses.replace(network.network, stages=tuple(stages))
    scaled = {name: np.asarray(weights) * np.float32(scale) for name, weights in network.weights().items()}
    graph = exchange.to_nir(SpikingNetwork(description, weights=scaled))
    for node in graph.nodes.values():
        if type(node).__name__ != "Conv2d":
            continue
        numbers = np.concatenate([node.weight.ravel(), node.bias]).astype(np.float64)
        unit = 2.0**30
        while (np.rint(numbers / unit) * unit != numbers).any():
            unit /= 2
        sums = node.weight.astype(np.float64).sum(axis=(1, 2, 3))
        assert max(np.max(np.abs(x)) for x in (sums, node.bias, sums + node.bias)) <= unit * 2.0**24


def unbounded(learner):
    """A learner whose weights may be of any size."""
    return dataclasses.replace(learner, bounds=(0.0, 1e9)) if hasattr(learner, "bounds") else learner


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["goupy2024_ncg", "mozafari2018"])
def test_others_decide_the_same_with_the_same_potentials(name, reader, published, tmp_path):
    pytest.importorskip("torch").set_num_threads(1)
    pytest.importorskip("nirtorch")
    pytest.importorskip(reader)
    network, latency, expected, decisions = published[name]
    path = tmp_path / "network.nir"
    exchange.write(network, path, "LIF")
    potentials = read_by(reader, nir.read(path), cumulative(latency, network.network.time_steps))
    np.testing.assert_array_equal(potentials, expected)
    np.testing.assert_array_equal(exchange.decide(potentials, nir.read(path).metadata), decisions)
    assert len({*decisions.tolist()}) >= 3


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_of_stages(name):
    network = exchange.exportable(network_of(GRAPHS[name]))
    latency = random_latencies(network)
    expected, decisions = responses_of(network, latency)
    assert len(np.unique(expected)) > 50
    frames = cumulative(latency, network.network.time_steps)
    for neuron in exchange.NEURONS:
        graph = exchange.to_nir(network, neuron)
        assert ("do not form a chain" in graph.metadata["note"]) == (name not in CHAINS)
        np.testing.assert_array_equal(judged(graph, frames), expected)
        np.testing.assert_array_equal(exchange.decide(expected, graph.metadata), decisions)


def test_the_readout_of_oblong_images_is_padded_to_a_square():
    """With zeros on both sides, or on one if a single output remains: every potential stays the same."""
    for size, kernel in (((20, 28), (5, 7)), ((20, 24), (5, 6))):
        last = stage(dataclasses.replace(LAST, kernel=kernel, threshold=90.0))
        network = exchange.exportable(network_of((stage(FIRST, pool=4), last), size))
        graph = exchange.to_nir(network)
        assert graph.nodes["layer2"].weight.shape[2] == graph.nodes["layer2"].weight.shape[3]
        latency = random_latencies(network, count=4)
        expected, decisions = responses_of(network, latency)
        np.testing.assert_array_equal(judged(graph, cumulative(latency, network.network.time_steps)), expected)
        np.testing.assert_array_equal(exchange.decide(expected, graph.metadata), decisions)


@pytest.mark.parametrize("name", ["strides", "oblong", "branches", "latest"])
def test_snntorch_reads_graphs(name):
    """Norse reads no joins: nirtorch.load, which it calls, runs the nodes of joins in the wrong order."""
    for package in ("torch", "nirtorch", "snntorch"):
        pytest.importorskip(package)
    network = exchange.exportable(network_of(GRAPHS[name]))
    latency = random_latencies(network)
    frames = cumulative(latency, network.network.time_steps)
    potentials = read_by("snntorch", exchange.to_nir(network, "LIF"), frames)
    np.testing.assert_array_equal(potentials, responses_of(network, latency)[0])


@pytest.mark.parametrize(
    ("changes", "fallback"),
    [
        (dict(), False),
        (dict(), True),
        (dict(fractional=True), True),
        (dict(threshold=1e6), True),
        (dict(threshold=np.linspace(10, 40, 20, dtype=np.float32)), False),
        (dict(threshold=None, learners=RSTDP()), False),
    ],
    ids=["whole-steps", "fallback", "fractional", "silent", "thresholds", "no-threshold"],
)
def test_the_recipe_decides_as_snnjax(changes, fallback):
    stages = stage(FIRST, pool=2), stage(dataclasses.replace(LAST, **changes))
    network = exchange.exportable(network_of(stages, decision=Earliest(fallback=fallback)))
    latency = random_latencies(network)
    latency[0] = network.network.time_steps  # silent
    metadata = exchange.to_nir(network).metadata
    potentials, expected = responses_of(network, latency)
    decisions = exchange.decide(potentials, metadata)
    np.testing.assert_array_equal(decisions, expected)
    assert decisions[0] == -1
    assert ("threshold" in metadata) == (changes.get("threshold", 0) is not None)
    assert ("V(t-1)" in metadata["recipe"]) == ("fractional" in changes)


def test_a_deciding_layer_may_have_negative_weights():
    last = Conv(20, 3, learners=RSTDP(bounds=(-1.0, 1.0)))
    network = network_of((stage(FIRST, pool=2), stage(last)), decision=Majority())
    network.set_weights(dict(layer2=network.layer2[...] - 0.5))
    exported = exchange.exportable(network)
    latency = random_latencies(exported)
    expected, decisions = responses_of(exported, latency)
    assert expected.min() < 0
    graph = exchange.to_nir(exported)
    np.testing.assert_array_equal(judged(graph, cumulative(latency, exported.network.time_steps)), expected)
    np.testing.assert_array_equal(exchange.decide(expected, graph.metadata), decisions)


@pytest.mark.parametrize("name", BEHIND)
def test_the_export_begins_behind_layers_with_ramps(name, tmp_path):
    stages, first = BEHIND[name]
    network = network_of(
        stages, encoder=OnOff(minimum=np.zeros((2, 12, 12)), maximum=np.ones((2, 12, 12)), time_steps=9)
    )
    path = tmp_path / "network.nir"
    note = exchange.write(network, path)
    exported = exchange.exportable(network)
    assert f"that stage {first + 1} of made reads" in note
    assert str(exported.network.input_shape) in note
    graph = nir.read(path)
    assert graph.metadata["note"] == note
    assert "by the encoder OnOff(window=7, centre=1.0, surround=2.0, time_steps=9) and" in graph.metadata["recipe"]
    assert exported.network.input_shape == network.network.input_shapes[first]
    images = random_latencies(network, count=4)
    model = network.model
    known = jax.jit(jax.vmap(lambda image: model.input_of(first, Activations({0: image}))))(images)
    np.testing.assert_array_equal(decided(exported, known), decided(network, images))
    potentials = judged(graph, cumulative(np.asarray(known), exported.network.time_steps))
    np.testing.assert_array_equal(potentials, responses_of(exported, known)[0])


BELOW = dataclasses.replace(FIRST, learners=(), weights=np.full((6, 2, 5, 5), -0.1, np.float32))
FLAT = stage(dataclasses.replace(LAST, kernel=1), inputs="stage1", join=Flatten())
REFUSED = {
    "layer1.*at least 0, got -0.1.*fire once": (stage(BELOW, pool=2), stage(LAST)),
    "threshold.*layer1.*None": (stage(dataclasses.replace(FIRST, threshold=None), pool=2), stage(LAST)),
    "one layer that decides for NIR, got 2": (stage(FIRST, pool=2), stage(LAST, LAST)),
    r"kernel.*layer1 of made .*even number.*got \(5, 4\)": (
        stage(dataclasses.replace(FIRST, kernel=(5, 4)), pool=2),
        stage(LAST),
    ),
    r"window.*stage 1 of made .*got \(2, 3\)": (
        stage(FIRST, pool=Pool((2, 3), stride=1)),
        stage(dataclasses.replace(LAST, kernel=(11, 10))),
    ),
    r"window.*stage 2 of made .*got \(1, 2\)": (
        stage(FIRST, pool=2),
        stage(dataclasses.replace(LAST, kernel=(6, 5)), inputs=Input("stage1", pool=Pool((1, 2), stride=1))),
    ),
    "join.*stage 2.*LatestSpike for NIR, got Flatten": (stage(FIRST), FLAT),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_nir_cannot_express_is_refused(words):
    with pytest.raises(InputError, match=words):
        exchange.exportable(network_of(REFUSED[words]))


def test_fitted_decisions_and_wrong_arguments_are_refused(tmp_path):
    network = network_of(GRAPHS["chain"])
    machine = LinearSVM(coefficients=np.ones((4, 6, 6, 6), np.float32), intercepts=np.zeros(4, np.float32))
    fitted = network_of((stage(FIRST, pool=POOLED),), decision=machine)
    with pytest.raises(InputError, match=r"Earliest or Majority.*LinearSVM"):
        exchange.to_nir(fitted)
    with pytest.raises(InputError, match=r"neuron.*IF, LIF.*'lif'"):
        exchange.to_nir(network, "lif")
    with pytest.raises(TypeError, match="SpikingNetwork"):
        exchange.to_nir(network.network)
    (tmp_path / "taken.nir").write_text("kept")
    with pytest.raises(FileExistsError, match=r"taken\.nir"):
        exchange.write(network, tmp_path / "taken.nir")
    assert (tmp_path / "taken.nir").read_text() == "kept"


def test_without_the_package_an_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(MissingPackageError, match=r"snnjax\[nir\]"):
        exchange.write(network_of(GRAPHS["chain"]), tmp_path / "network.nir")


def test_files_leave_out_what_older_packages_do_not_know(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "network.nir"
    exchange.write(network_of(GRAPHS["chain"]), path)
    with h5py.File(path) as file:
        assert not [name for name, node in file["node/nodes"].items() if "v_reset" in node]
    assert "v_threshold" in vars(nir.read(path).nodes["layer1_neurons"])


@pytest.fixture
def run_folder(tmp_path, monkeypatch):
    """A folder to work in, with a run of few time steps of which the page makes use."""
    network = made("goupy2024_ncg", time_steps=8)
    folder = tmp_path / "runs" / "goupy2024_ncg_digits"
    folder.mkdir(parents=True)
    weights = {name: np.asarray(values) for name, values in network.weights().items()}
    Trained(network.network, weights, (28, 28)).save(folder / "weights.npz")
    monkeypatch.chdir(tmp_path)
    return folder


def test_the_code_of_the_page_runs(run_folder, capsys):
    for package in ("torch", "nirtorch", "norse", "snntorch"):
        pytest.importorskip(package)
    names = {}
    for text in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE):
        with jax.numpy_rank_promotion("allow"):
            exec(compile(text, str(PAGE), "exec"), names)
    assert capsys.readouterr().out.endswith("True True\n")
