"""Supervised STDP of readouts: the learner against recorded results; test_readouts judges its kernels."""

import dataclasses
import functools
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import snnjax
from snnjax import Conv, InputError, Settings, SupervisedSTDP, Trainer, kernels
from snnjax.data import Dataset
from snnjax.kernels import supervised
from snnjax.layers.spiking import Layer
from snnjax.learners import DecisionCounts
from snnjax.networks import NETWORKS, Earliest, Model, Network, stage
from snnjax.training.advice import describe
from snnjax.training.job import Phase
from snnjax.training.learning import Carry, ImageBatch, learn_deciding, learn_supervised
from snnjax.training.placement import model_of, to_32_bits
from snnjax.training.run_plan import network_for

HERE = pathlib.Path(__file__)
# All recorded cases, where the data of tests/test_agreement.py are at hand; the three largest are not kept here.
WHOLE = pathlib.Path(os.environ.get("SNNJAX_SHARED", HERE.parents[2] / "shared"), "golden", "readout.npz")
GOLDEN = np.load(WHOLE if WHOLE.exists() else HERE.parent / "golden" / "readout.npz")


def recorded_case(name: str) -> tuple[Model, dict[str, np.ndarray]]:
    """The network before the first image, whose inputs are (K, 1, 1), and the arrays of a recorded case.

    Without competition or targets of its own SSTDP, it normalises.
    """
    arrays = {key.split("/")[2]: GOLDEN[key] for key in GOLDEN.files if key.split("/")[1] == name}
    steps, classes, _, others, threshold, gap, ltp, ltd, rate, competition, sstdp = arrays["params"].tolist()
    kind = dict(competition=bool(competition), non_targets=int(others), one_sided=bool(sstdp), normalise=not sstdp)
    learner = SupervisedSTDP(**kind, ltp=ltp, ltd=ltd, gap=gap, threshold_rate=rate)
    weights = arrays["weights_before"][:, :, None, None]
    stages = (stage(Conv(len(weights), 1, threshold=threshold, learners=learner)),)
    how = dict(decision=Earliest(fallback=True), time_steps=int(steps))
    network = Network("golden", weights.shape[1:], int(classes), stages, **how)
    return model_of(network, {"layer1": weights}), arrays


def drawn(size: tuple[int, int], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Squares and crosses of thin lines somewhere on black, (count, H, W) uint8, and their labels."""
    random = np.random.default_rng(count)
    images = np.zeros((count, *size), np.uint8)
    labels = np.arange(count, dtype=np.int32) % 2
    length = min(size) // 2
    for image, label in zip(images, labels, strict=True):
        top, left = random.integers(2, np.array(size) - length - 2)
        part = image[top : top + length, left : left + length]
        edges = [length // 2] if label else [0, -1]
        part[edges] = 255
        part[:, edges] = 255
    return images, labels


@pytest.mark.parametrize(
    "size", [(64, 64), *(pytest.param(size, marks=pytest.mark.slow) for size in ((48, 48), (20, 30)))]
)
def test_pictures_of_other_sizes_are_learned(size, compiler):
    """Thresholds of features fall after they were too high, that of the readout is fitted to its inputs."""
    data = Dataset("drawn", *drawn(size, 100), *drawn(size, 50), classes=2)
    network = network_for(NETWORKS["goupy2024_ncg"], data)
    trainer = Trainer(network, data, Settings(epochs=(2, 4), backend="native", patience=0))
    state = trainer.run(trainer.initial_state())
    assert state.epochs[-1]["test"]["silent"] == 0
    assert state.epochs[-1]["test"]["accuracy"] > 0.75
    given = network.stages[-1].branches[0].threshold
    fitted = trainer.trained(state).network.stages[-1].branches[0].threshold
    assert fitted < given
    assert f"the threshold {given:g} becomes {fitted:g}" in state.diagnoses["start of layer2"]["words"][0]


FEW = "000", "001", "002", "007", "010"
"""Recorded cases of each kind of learner."""
OTHERS = sorted({name.split("/")[1] for name in GOLDEN.files} - {*FEW})


@functools.partial(jax.jit, static_argnums=0)
def program(by_kernel: bool, carry: Carry, model: Model, part: ImageBatch) -> Any:
    """What a training learns, by the compiled kernel, or by XLA image by image."""
    phase = Phase(("layer1",), supervised=True, adapt_every=4)
    with kernels.use_backend("native" if by_kernel else "xla"):
        return (learn_deciding if by_kernel else learn_supervised)(phase, carry, model, part)


@pytest.mark.parametrize(
    ("name", "by_kernel"),
    [
        *((name, by_kernel) for by_kernel in (False, True) for name in FEW),
        ("006", True),
        *(pytest.param(name, False, marks=pytest.mark.slow) for name in OTHERS),
    ],
)
def test_recorded_decisions_times_and_weights(name, by_kernel, compiler):
    """Image by image; thresholds in training show in the infos."""
    model, recorded = recorded_case(name)
    labels, known = recorded["labels"].astype(np.int32), recorded["weights_after"]
    after = dict(zip(range(6) if len(known) == 6 else (0, 5), known, strict=True))
    layer = model.layers["layer1"]
    states = jax.tree.map(to_32_bits, layer.conv.last_learner.init(layer, np.zeros(2, np.uint32), 0))
    carry = Carry(model.layers, dict(layer1=states), DecisionCounts(*np.zeros(5, np.int32)))
    images = recorded["latency"][:, :, None, None]
    for at in range(6):
        batch = ImageBatch(images, np.int32(at), np.int32(at + 1), np.bool_(False), labels)
        carry, found = program(by_kernel, carry, model, batch)
        assert found.decisions[at] == recorded["decisions"][at]
        info = jax.tree.map(lambda x, at=at: np.asarray(x[at]), found.infos["layer1"])
        np.testing.assert_allclose(info["time"], recorded["times"][at][info["neuron"]], rtol=0, atol=1e-6)
        if at in after:
            weights = np.asarray(carry.layers["layer1"].weights)[:, :, 0, 0]
            np.testing.assert_allclose(weights, after[at], rtol=0, atol=5e-5)
        count = len(info["threshold"])
        if at < 5 and labels[at] == labels[at + 1] and count:
            start = labels[at] * (count + 1) + 1
            np.testing.assert_allclose(
                info["threshold"], recorded["thresholds"][at + 1][start : start + count], rtol=1e-6
            )


@st.composite
def readouts(draw):
    """Latencies (40,), weights (6, 40) whose sums are exact, T and thresholds."""
    steps = draw(st.sampled_from([1, 15, 255]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    latency = rng.integers(0, draw(st.sampled_from([steps, 2 * steps])) + 1, 40).clip(max=steps).astype(np.uint8)
    latency[draw(st.sampled_from([40, 20, 3])) :] = steps
    threshold = draw(st.sampled_from([0.0, 0.5, 2.25, 6.0, 100.0])) + rng.integers(0, 3, 6)
    return latency, np.float32(rng.integers(0, 65, (6, 40)) / 64), steps, np.float32(threshold)


@given(readout=readouts(), fractional=st.booleans())
def test_a_search_finds_the_spikes_of_all_steps(readout, fractional):
    latency, weights, steps, threshold = readout
    how = dict(threshold=threshold, time_steps=steps, fractional=fractional)
    expected = kernels.timed_spikes(latency[:, None, None], weights[:, :, None, None], **how)
    found = kernels.first_spikes.search_spikes(latency, weights, **how)
    np.testing.assert_array_equal(found.latency, expected.latency[:, 0, 0])
    np.testing.assert_array_equal(found.potential, expected.potential[:, 0, 0])
    np.testing.assert_allclose(found.time, expected.time[:, 0, 0], rtol=1e-6)


@snnjax.component
class InColumns(SupervisedSTDP):
    def desired(self, time, target, per_class):
        assert (time.shape, target.tolist(), per_class) == ((3,), [False, True, False], 1)
        return time[:, None]


def test_times_that_a_rule_desires_are_checked():
    layer = Layer(Conv(6, 1, threshold=4.0), np.ones((6, 3, 1, 1), np.float32), 15, classes=3)
    time = np.float32([[0.2, 0.4], [0.5, 0.1], [0.3, 0.6]])
    spikes = kernels.Spikes(np.uint8(time * 15), np.ones((3, 2), np.float32), time)
    group = InColumns(non_targets=0).group(layer, spikes, None, np.int32(1))
    assert group.neuron.tolist() == [0, 3, 4], "the earliest of each class"
    with pytest.raises(InputError, match=r"`desired\(\.\.\.\)` must have shape \(3,\) of the times .*, got \(3, 1\)"):
        InColumns().errors(layer, group)


@snnjax.component
class TwoTimes(SupervisedSTDP):
    def desired(self, time, target, per_class):
        return jnp.where(target, 0.6, 0.9)


def test_a_custom_readout_is_tested_by_compiled_kernels(compiler):
    data = snnjax.data.digits().subset(60, 40)
    network = NETWORKS["goupy2024_pcn"](snnjax.ImageSpec.of(data))
    last = dataclasses.replace(network.stages[1].branches[0], learners=TwoTimes(0.02, -0.02))
    network = dataclasses.replace(network, stages=(network.stages[0], stage(last)))
    trainer, plain_trainer = (
        Trainer(network, data, Settings(epochs=(1, 2), patience=0, backend=backend)) for backend in ("native", "xla")
    )
    state = trainer.run(trainer.initial_state())
    found, expected = (each.predict(state, data.test_images) for each in (trainer, plain_trainer))
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5)


OTHER = dict(
    plain=dict(),
    strided=dict(stride=2),
    smaller=dict(kernel=4),
    padded=dict(padding=1),
    without_threshold=dict(threshold=None),
    below_zero=dict(threshold=-1.0),
    own_thresholds=dict(threshold=np.float32([2, 3, 2.5, 4])),
    signed=dict(learners=snnjax.STDP(bounds=(-1.0, 1.0))),
)


@pytest.mark.parametrize("name", OTHER)
def test_the_earliest_of_each_class_decide_as_all_neurons(name, compiler):
    """By a kernel of their own where each neuron sees the whole input, and potentials never fall."""
    plain = Conv(4, 5, threshold=2.0, fractional=name != "below_zero", learners=TwoTimes())
    conv = dataclasses.replace(plain, **OTHER[name])
    random = np.random.default_rng(0)
    kernel = np.broadcast_to(conv.kernel, 2)
    weights = np.float32(random.integers(-40 if name == "signed" else 0, 40, (4, 2, *kernel)) / 64)
    layer = Layer(conv.prepared(2, 2), weights, 15, conv.monotone, classes=2, timed=True)
    latencies = random.integers(0, 60, (8, 2, 5, 5)).clip(max=15).astype(np.uint8)
    latencies[3] = 15
    traced = jax.tree.map(to_32_bits, layer)
    scores = jax.vmap(lambda spikes: Earliest(fallback=True).scores(spikes, 2))
    for backend in ("xla", "native"):
        with kernels.use_backend(backend):
            found = jax.jit(Layer.earliest_of_classes)(traced, latencies)
            expected = jax.vmap(layer.deciding_spikes)(latencies)
        np.testing.assert_array_equal(scores(found), scores(expected))
    assert (found.latency.shape[1] == 2) == (name in ("plain", "strided", "below_zero", "own_thresholds"))


def test_rows_without_weights_remain():
    found = supervised.rescaled(np.float32([[0, 0], [1, 1], [0.5, 0]]), np.float32([1, 1, 2]), bounds=(0.0, 1.0))
    np.testing.assert_array_equal(found, [[0, 0], [0.5, 0.5], [1, 0]])


TIMES = np.float32([0.2, 0.4, 1])
ROWS = np.ones((3, 5), np.float32)
FIVE = np.zeros(5, np.uint8)
RULE = dict(gap=0.1, per_class=1)
STDP = dict(rows=ROWS, latency=FIVE, spike=np.uint8([1, 2, 3]), error=TIMES, rates=TIMES[:2], bounds=(0.0, 1.0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kernels.desired_times(TIMES, TIMES[1:] > 0, **RULE), r"`target` .*of `time`, got \(2,\)"),
        (lambda: kernels.desired_times(TIMES, TIMES > 0, **RULE | dict(per_class=0)), "`per_class` must be at least 1"),
        (
            lambda: kernels.supervised.error_stdp(**STDP | dict(rows=ROWS[:2])),
            r"`rows` .*\(3, 5\) of `spike`",
        ),
    ],
)
def test_bad_input_of_the_kernels(call, message):
    with pytest.raises(InputError, match=message):
        call()


def diagnosed(learner: SupervisedSTDP, features: int, **info) -> dict[str, Any]:
    """What a layer of two classes, with thresholds of 4, finds in an epoch's infos."""
    conv = Conv(features, 1, threshold=4.0, learners=learner)
    network = Network("two", (3, 1, 1), 2, (stage(conv),), decision=Earliest())
    layer = Model.of(network, {"layer1": np.ones((features, 3, 1, 1), np.float32)}).layers["layer1"]
    state = learner.init(layer, np.zeros(2, np.uint32), 0)
    found = learner.diagnose(layer, {key: np.array(value) for key, value in info.items()})
    words = describe("layer1", layer, learner, found)
    return dict(found, scalars=learner.scalars(learner.end_epoch(state)), text=" | ".join(words))


def test_figures_by_hand():
    """Of two classes of three neurons, of which the first of each is no target; the last image taught nothing.

    Neurons that fire at once are said to.
    """
    found = diagnosed(
        SupervisedSTDP(threshold_rate=8.0),
        6,
        label=[0, 1, 0, -1],
        neuron=[[1, 3], [1, 4], [2, 4], [-1, -1]],
        time=[[0.2, 1.0], [0.5, 0.3], [0.6, 1.0], [0.0, 0.0]],
        error=[[0.1, 0.1], [-0.1, -0.1], [0.2, 0.0], [0.0, 0.0]],
        threshold=[[9.0, 6.0], [7.0, 5.0], [8.0, 10.0], [0.0, 0.0]],
    )
    assert found["wins"] == [0, 2, 1, 1, 2, 0]
    assert found["times"] == [1, 0.35, 0.6, 1, 0.3, 1], "silence is not a time"
    assert found["thresholds"] == [4, 8, 10, 4, 7, 5], "the last of each class"
    assert [found[f"training_threshold_{kind}"] for kind in ("min", "mean", "max")] == [5, 7.5, 10]
    assert (found["never_won"], found["silent_neurons"]) == (2, pytest.approx(1 / 3))
    assert (found["spike_time"], found["time_error"]) == (pytest.approx(0.4), pytest.approx(0.1))
    assert "2 of 6 neurons never won (0, 5)" in found["text"]
    assert "training thresholds of layer1 end at 5..10, mean 7.5" in found["text"], "without those that have none"
    assert found["scalars"]["threshold_rate"] == 4.0
    assert "too low" not in found["text"]
    # Without competition there are no training thresholds to speak of.
    info = dict(label=[0], neuron=[[0, 1]], time=[[0.02, 0.02]], error=[[0, 0]], threshold=np.zeros((1, 0)))
    found = diagnosed(SupervisedSTDP(competition=False, non_targets=0), 2, **info)
    assert "the threshold 4 is too low: neurons fire at the first steps" in found["text"]
    assert "thresholds" not in found
    assert set(found["scalars"]) == {"rate_plus", "rate_minus"}


def test_an_epoch_anneals_rates_and_resets_training_thresholds():
    rule = SupervisedSTDP(annealing=0.5, threshold_annealing=0.25)
    ones = np.ones(4, np.float32)
    state = dict(rates=np.float32([0.5, -1]), excess=ones, sums=ones, threshold_rate=np.float32(8))
    ended = {key: np.asarray(value).tolist() for key, value in rule.end_epoch(state).items()}
    assert ended == dict(rates=[0.25, -0.5], excess=[0] * 4, sums=[1] * 4, threshold_rate=2)
