"""What `snnjax.cost` and `snnjax cost` count, by hand, by convolutions, and by cutting the input."""

import csv
import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command import Command
from shipped import ALIKE, NAMES, shipped
from tiny import images, labelled, plain, with_zeros

from snnjax import Conv, InputError, Network, SpikingNetwork, cost, kernels, load, stage
from snnjax.app import cost_report
from snnjax.app.names import RECORDED
from snnjax.data import digits
from snnjax.encoding import Pixels
from snnjax.layers import Pool, Ramp
from snnjax.learners import SoftHebb, SupervisedSTDP
from snnjax.networks import Earliest, Input, LinearSVM
from snnjax.networks.graph import Activations
from snnjax.networks.operations import fan_out, firing_windows
from snnjax.networks.quantisation import quantise
from snnjax.training.run_plan import network_for

PICTURES = digits().test_images[:8]


def made(make):
    return with_zeros(network_for(make, images()))


def test_fan_out_by_hand():
    """Three rows of four inputs, padded by a column, under two features of 2x2 with a stride of two columns."""
    connected = np.array([[[[1, 1], [1, 0]]], [[[0, 1], [0, 0]]]], bool)
    conv = Conv(2, kernel=2, padding=(0, 1), stride=(1, 2))
    # Outputs stand at rows 0 and 1, columns -1, 1 and 3; each first row of taps has weights (1, 2), each second (1, 0).
    expected = [[[2, 1, 2, 1], [2, 2, 2, 2], [0, 1, 0, 1]]]
    np.testing.assert_array_equal(fan_out(conv, connected, (3, 4)), expected)


STEPS = 31


def ramp_layer(features, kernel, highest, dendrites=1, **geometry):
    ramp = Ramp(dendrites=dendrites, levels=kernels.ramp.ramp_levels(highest, power=1.0, time_steps=STEPS))
    return Conv(features, kernel, learners=SoftHebb(), weight_mean=0.0, ramp=ramp, **geometry)


ONE = stage(ramp_layer(4, 5, 12.0, padding=2, stride=(2, 1)), pool=Pool(3, stride=2, padding=1))
TWO = stage(ramp_layer(6, 3, 4.0, dendrites=2, padding=1))  # of seven rows of positions one is left over
READOUT = Conv(20, kernel=(3, 7), threshold=40.0, weight_mean=0.5, learners=SupervisedSTDP())
READERS = ONE, TWO, stage(READOUT, inputs=(Input("stage1", pool=Pool(2)), Input("stage2")))
RAMPS = Network("ramps", (1, 28, 28), 10, READERS, STEPS, encoder=Pixels(STEPS), decision=Earliest(fallback=True))
FAST = ("kheradpisheh2018", RAMPS.name)
OTHERS = [name for name in NAMES if name not in (*RECORDED, *ALIKE, *FAST)]  # those in RECORDED take latencies
observe = jax.jit(lambda model, image: model.observe(model.encode(image)))


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_spikes_of_all_networks_are_those_observed(name):
    description = RAMPS if name == RAMPS.name else shipped(name)
    network = with_zeros(description)
    found = cost(network, PICTURES[:2])
    if found.spiking:
        assert (len(found.steps), found.steps[-1]) == (min(description.time_steps, 20), description.time_steps - 1)
    for number, picture in enumerate(PICTURES[:2]):
        observed = observe(network.model, picture)
        assert found.decisions[number, -1] == observed.decided.decision
        latencies = {layer: np.asarray(x) for layer, x in observed.latencies.items()}
        assert found.input_spikes[number] == np.sum(latencies["input"] < description.time_steps)
        for layer in found.spiking:
            assert layer.spikes[number] == np.sum(latencies[layer.name] < description.time_steps), layer.name
    assert (found.multiply_accumulates > 0) == (name == "kheradpisheh2018")


def reflected(place, size):
    return size - 1 - abs(size - 1 - abs(place))


def counted(latencies, weights, conv):
    """Effective operations of an image, and all synapses, of a layer with a ramp, one by one."""
    down, right = np.broadcast_to(conv.stride, 2)
    operations = synapses = 0
    for row, column in np.ndindex(*np.multiply(conv.output_size(latencies.shape[1:]), conv.ramp.dendrites)):
        for feature, channel, i, j in np.ndindex(weights.shape):
            place_row = reflected(row * down + i - conv.padding, latencies.shape[1])
            place_column = reflected(column * right + j - conv.padding, latencies.shape[2])
            spike = latencies[channel, place_row, place_column] < STEPS
            operations += bool(spike and weights[feature, channel, i, j])
            synapses += 1
    return operations, synapses


# Whether the mean is subtracted without a residue depends on XLA's optimisation level, and fast tests have a lower one.
@pytest.mark.parametrize("bits", [pytest.param(None, marks=pytest.mark.slow), 2])
def test_operations_of_layers_with_ramps_are_counted_one_by_one(bits):
    network = SpikingNetwork(RAMPS)
    uniform = np.array(network.weights()["layer2"])
    uniform[:, 1] = 0.25  # less their mean, none is left
    network.set_weights(dict(layer2=uniform))
    network = quantise(network, bits) if bits else network
    found = cost(network, PICTURES)
    for index, layer in enumerate(found.layers[:2]):
        inputs = np.asarray(network.features(PICTURES[:1], index))[0]
        conv = network.network.stages[index].branches[0]
        weights = np.asarray(network.weights()[layer.name])
        weights = weights - weights.mean(axis=0) * conv.ramp.inhibition
        operations, synapses = counted(inputs, weights, conv)
        assert (layer.effective_operations[0], layer.dense_operations) == (operations, STEPS * synapses)
        assert layer.nonzero_weights == np.count_nonzero(weights)
    assert 0 < layer.nonzero_weights < layer.weights
    np.testing.assert_array_equal(found.decisions[:, -1], network(PICTURES))


def test_averaging_neurons_are_named_but_not_counted():
    """One for each pooling window of each map that a stage reads through them."""
    read = Input("stage1", pool=Pool(2, mean=True)), Input("stage2")
    network = dataclasses.replace(RAMPS, stages=(ONE, TWO, stage(READOUT, inputs=read)))
    found = cost(SpikingNetwork(network), PICTURES[:1])
    assert found.averaging_neurons == 4 * 3 * 7
    assert len(found.layers) == 3
    words = cost_report.facts(found.as_json())["averaging neurons"]
    assert words == "84, whose spikes and operations are not counted"


def test_layers_with_ramps_fire_window_after_window():
    assert firing_windows(RAMPS) == (0, 1, 2, 2)
    averaging = stage(READOUT, inputs=Input("stage2", pool=Pool(1, mean=True)))
    assert firing_windows(dataclasses.replace(RAMPS, stages=(ONE, TWO, averaging))) == (0, 1, 2, 3)
    network = SpikingNetwork(RAMPS)
    found = cost(network, PICTURES)
    assert found.averaging_neurons == 0
    assert cost_report.facts(found.as_json())["averaging neurons"] == ""
    assert [layer.window for layer in found.layers] == [1, 2, 2]
    second = np.asarray(network.features(PICTURES, 2)).reshape(len(PICTURES), -1)  # which is not pooled
    for number, latencies in enumerate(second):
        fired = np.sort(latencies[latencies < STEPS])
        layer = found.layers[1]
        assert layer.spikes[number] == len(fired) > 2
        assert layer.first_spike[number] == fired[0]
        assert layer.median_spike[number] == fired[(len(fired) - 1) // 2]
    assert cost_report.facts(found.as_json())["steps before the deciding window"] == "62, in addition to these"
    assert cost_report.times(found.as_json())[1][1][:3] == ["layer2", "62 to 92", f"{layer.first_spike.mean():.1f}"]


def test_operations_are_sums_of_convolutions():
    """Of who fires with where there are weights; in a dense program of all inputs with all weights at each step."""
    network = made(labelled)
    model = network.model
    steps = network.network.time_steps
    found = cost(network, PICTURES)

    @jax.jit
    def operations(latency):
        fired, dense, neurons = [], [], []
        for index, layer in enumerate(found.layers):
            inputs = model.input_of(index, Activations({0: latency}))[None]
            conv = network.network.stages[index].branches[0]
            weights = model.layers[layer.name].weights
            how = dict(window_strides=(1, 1), padding=[(conv.padding, conv.padding)] * 2)
            ones = jnp.ones(inputs.shape), jnp.ones(weights.shape)
            fired.append(jax.lax.conv_general_dilated(1.0 * (inputs < steps), 1.0 * (weights != 0), **how).sum())
            sums = jax.lax.conv_general_dilated(*ones, **how)
            dense.append(sums.sum())
            neurons.append(sums.size)
        return fired, dense, neurons

    for number, picture in enumerate(PICTURES):
        fired, dense, neurons = operations(model.encode(picture))
        assert [layer.effective_operations[number] for layer in found.layers] == fired
        assert found.dense_operations == steps * sum(dense)
    spikes = sum(layer.spikes.sum() for layer in found.layers)
    assert found.activation_sparsity == pytest.approx(1 - spikes / (len(PICTURES) * steps * sum(neurons)))


@pytest.mark.parametrize("make", [plain, labelled])
def test_decisions_after_a_step_are_those_on_what_came_until_then(make):
    network = made(make)
    model = network.model
    steps = network.network.time_steps
    predict = jax.jit(model.predict)
    found = cost(network, PICTURES)
    for number, picture in enumerate(PICTURES):
        latency = model.encode(picture)
        for place, step in enumerate(found.steps):
            cut = jnp.where(latency <= step, latency, jnp.asarray(steps, latency.dtype))
            assert found.decisions[number, place] == predict(cut).decision
    assert len(np.unique(found.decisions)) > 1
    assert found.steps.tolist() == [*range(15)]
    changes = found.decisions[:, 1:] != found.decisions[:, :-1]
    last = [row.nonzero()[0].max(initial=-1) + 1 for row in changes]
    np.testing.assert_array_equal(found.settled, found.steps[last])
    if make is plain:
        assert found.first_spike is None
        return
    for number, picture in enumerate(PICTURES):
        observed = observe(model, picture)
        assert found.first_spike[number] == np.asarray(observed.latencies["layer2"]).min()


def test_compiled_kernels_and_those_of_xla_count_the_same(compiler):
    network = made(labelled)
    one, other = (cost(network, PICTURES, backend=backend) for backend in ("xla", "native"))
    assert one.as_json() == other.as_json()
    np.testing.assert_array_equal(one.decisions, other.decisions)
    found = cost(network, np.zeros_like(PICTURES))  # which are silent
    assert found.as_json()["first_spike"] is None
    assert found.as_json()["first_spike_images"][-1] == len(PICTURES)
    assert "first readout spike" not in [name for name, words in cost_report.facts(found.as_json()).items() if words]


def test_a_decision_that_is_fitted_multiplies():
    decision = LinearSVM(coefficients=np.ones((10, 6, 3, 7), np.float32), intercepts=np.zeros(10, np.float32))
    network = Network("fitted", (1, 28, 28), 10, (ONE, TWO), STEPS, encoder=Pixels(STEPS), decision=decision)
    found = cost(SpikingNetwork(network, 0), PICTURES[:2])
    assert [layer.name for layer in found.spiking] == ["layer1", "layer2"]
    assert found.multiply_accumulates == 10 * 6 * 3 * 7 + 10
    with pytest.raises(InputError, match="`pj_multiply` must be given too"):
        found.energy(0.9)
    *_, decides, last = cost_report.layers(found.as_json())[1]
    assert (decides[0], last[0]) == ("decision, multiply-accumulates", "all spiking layers")


def test_costs_are_shown_briefly_and_energy_is_a_sum_of_what_is_assumed():
    found = cost(made(plain), PICTURES)
    np.testing.assert_allclose(found.energy(0.9, 4.6), found.effective_operations * 0.9e-3)
    np.testing.assert_allclose(found.energy(0.9), found.effective_operations * 0.9e-3)
    with pytest.raises(InputError, match="`pj_accumulate` must be"):
        found.energy(-1, 0)
    assert repr(found).startswith("Cost(plain, 8 images, ")
    assert found.accuracy is None
    assert found.same_as_last[-1] == 1
    labelled = cost(made(plain), PICTURES, np.full(8, 3))
    np.testing.assert_array_equal(labelled.accuracy, (labelled.decisions == 3).mean(axis=0))
    assert "accuracy" not in found.as_json()
    assert labelled.as_json()["accuracy"] == labelled.accuracy.tolist()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (dict(images=PICTURES[0]), "`images` must be"),
        (dict(images=PICTURES[:2] / 255), "`images` must hold values in 0..255, got values in 0..0.99.*: multiply it"),
        (dict(images=PICTURES[:2], labels=[1]), r"`labels` must have shape \(2,\) of the images, got \(1,\)"),
        (dict(images=PICTURES[:2], labels=[0, 99]), "`labels` must lie in 0..9, got 0..99"),
        (dict(images=PICTURES[:2, :20]), "`image` must have shape"),
        (dict(network=3, images=PICTURES[:2]), "`network` must be a SpikingNetwork"),
    ],
)
def test_wrong_arguments_are_named(given, words):
    with pytest.raises((InputError, TypeError), match=words):
        cost(**dict(network=made(plain)) | given)


@pytest.fixture(scope="module")
def run(finished, tmp_path_factory):
    return shutil.copytree(finished, tmp_path_factory.mktemp("costs") / "run")


def test_the_command_prints_writes_and_reports(run, capsys, tmp_path):
    Command("cost").main([run, "--csv", tmp_path / "costs.csv", "--pj_accumulate", 0.9])
    out = capsys.readouterr().out
    written = json.loads((run / "cost.json").read_text())
    found = cost(load(run), images().test_images, images().test_labels)
    assert written["effective_operations"]["mean"] == found.effective_operations.mean()
    assert f"{found.effective_operations.mean():,.0f} per image" in out
    nanojoules = found.effective_operations.mean() * 0.9e-3
    assert f"{nanojoules:,.1f} nJ per image, assuming 0.9 pJ per synaptic operation and nothing else" in out
    rows = list(csv.DictReader((tmp_path / "costs.csv").open()))
    assert [int(row["operations of layer1"]) for row in rows] == found.layers[0].effective_operations.tolist()
    assert [int(row["decided for good"]) for row in rows] == found.settled.tolist()
    page = (run / "report.html").read_text()
    assert "<h2>Costs and time</h2>" in page
    assert f"{found.dense_operations:,}" in page
    assert (run / "pictures" / "cost.png").exists()
    Command("report").main([run])
    assert "<h2>Costs and time</h2>" in (run / "report.html").read_text()


def test_weights_of_few_bits_are_counted_too(tmp_path):
    """Of the network that comes along, on digits that are not like those that it has learned."""
    out = tmp_path / "costs.json"
    given = ["pretrained:goupy2024_ncg_mnist", "--dataset", "digits", "--test_images", 20, "--bits", 8, 1]
    Command("cost").main([*given, "--pj_accumulate", 2, "--out", out])
    whole = json.loads(out.read_text())
    eight, one = whole["few_bits"]
    assert (eight["bits"], eight["same_decisions"], eight["bytes"]) == (8, 1.0, whole["footprint_bytes"] / 4)
    assert eight["accuracy"] == whole["accuracy"][-1]
    assert one["energy"]["nanojoules"]["mean"] == pytest.approx(2e-3 * one["effective_operations"]["mean"])
    assert one["effective_operations"]["mean"] < eight["effective_operations"]["mean"]


def test_other_data_leave_the_run_alone(run, capsys, tmp_path):
    other = images()
    arrays = dict(train_images=other.train_images, train_labels=other.train_labels)
    np.savez(tmp_path / "other.npz", test_images=other.test_images[::-1], test_labels=other.test_labels[::-1], **arrays)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    out = tmp_path / "other.json"
    Command("cost").main([run, "--dataset", tmp_path / "other.npz", "--out", out])
    assert json.loads(out.read_text())["images"] == 40
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
