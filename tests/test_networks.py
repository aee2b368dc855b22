"""Networks as data, and the module that runs them."""

import dataclasses
import functools
import pathlib

import jax
import numpy as np
import pytest
import tiny
from flax import nnx
from shipped import NAMES, shipped

from snnjax.app.names import RECORDED
from snnjax.core import files, paths
from snnjax.core.errors import InputError, InputTypeError
from snnjax.data import Dataset, digits
from snnjax.encoding import DOG, GREY, ON_OFF, Encoder
from snnjax.kernels.exact import round_for_exact_sums
from snnjax.layers.conv import WTA, Conv
from snnjax.layers.ramp import Ramp
from snnjax.learners import RSTDP, STDP, SoftHebb
from snnjax.networks import NETWORKS, Earliest, ImageSpec, Model, Network, PlasticWeight, SpikingNetwork, stage
from snnjax.networks.batches import decide_batch, only_firing_matters
from snnjax.networks.graph import Activations
from snnjax.networks.model import rounded_weights
from snnjax.runs.trained import Trained, load
from snnjax.training.loop import Trainer
from snnjax.training.state import Settings, TrainState

T = 15
SHAPE = (2, 12, 12)
BRANCHES = tiny.branches(ImageSpec())
DECISION = Conv(6, kernel=3, padding=1, learners=RSTDP())
SMALL = Network("small", SHAPE, 3, (stage(DECISION),))
GOLDEN = dict(line.split(": ", 1) for line in (pathlib.Path(__file__).parent / "golden" / "networks.txt").open())

IMAGE = np.zeros((28, 28), np.uint8)
FORWARD = jax.jit(Model.forward)
OBSERVE = jax.jit(Model.observe)


def small(**change) -> Network:
    return dataclasses.replace(SMALL, **change)


@pytest.fixture(scope="module")
def network() -> SpikingNetwork:
    """Its weights are multiples of 1/16, whose sums are exact."""
    random = np.random.default_rng(0)
    drawn = {name: random.integers(0, 17, shape) / 16 for name, shape in BRANCHES.weight_shapes.items()}
    return SpikingNetwork(BRANCHES, weights=jax.tree.map(np.float32, drawn))


@pytest.fixture(scope="module")
def latencies() -> np.ndarray:
    """Of twenty images, the later ones with more silent inputs."""
    most = T * np.linspace(6, 12, 20)[:, None, None, None]
    return np.random.default_rng(0).integers(0, most, (20, 6, 28, 28)).clip(max=T).astype(np.uint8)


@pytest.mark.parametrize("name", GOLDEN)
def test_shipped_networks_are_those_that_were_measured(name):
    """Also for other images, on which their numbers depend.

    Whoever changes one trains it anew; then `str` of the network goes into golden/networks.txt.
    """
    made = eval(name, dict(NETWORKS, ImageSpec=ImageSpec, ON_OFF=ON_OFF, replace=dataclasses.replace))
    network = made if isinstance(made, Network) else made()
    assert " ".join(str(network).split()) == GOLDEN[name].rstrip("\n")


@pytest.mark.parametrize("name", NAMES)
def test_shipped_networks_decide_and_take_other_sizes_classes_and_encoders(name):
    assert name in GOLDEN
    network = shipped(name)
    assert network.name == name
    assert len(network.epochs) == len(network.stages)
    decided = jax.eval_shape(SpikingNetwork(network), jax.ShapeDtypeStruct((28, 28), np.uint8))
    assert (decided.shape, decided.dtype) == ((), np.int32)
    with pytest.raises(InputError, match=r"`images` must be an ImageSpec, got \(28, 28\): write ImageSpec"):
        NETWORKS[name]((28, 28))
    shape = (34, 30, 3) if "goupy" in name else (34, 30)
    network = NETWORKS[name](ImageSpec(shape, 3, encoder=DOG if name in RECORDED else None))
    if network.deciding:
        assert {conv.features % 3 for conv in network.stages[-1].branches} == {0}
    if name in RECORDED:
        assert {conv.features for conv in network.stages[-1].branches} == {30 if name == "deeper2024" else 60}
        assert network.input_shape == (2, 34, 30)
        return
    assert network.input_shape == network.encoder.output_shape(shape)
    again = NETWORKS[name](ImageSpec(shape, 3, encoder=dataclasses.replace(network.encoder, time_steps=9)))
    assert again.time_steps == 9


@pytest.mark.slow
def test_several_images_are_decided_as_each_alone(network, latencies):
    """On both back ends, also in parts of many images, and by `jax.vmap`."""
    description = dataclasses.replace(network.network, encoder=GREY, time_steps=GREY.time_steps)
    module = SpikingNetwork(description, weights=network.weights())
    images = digits().test_images[:20]
    for function in (module, module.scores, module.features, functools.partial(module.features, stages=1)):
        alone = np.stack([function(image) for image in images])
        np.testing.assert_array_equal(function(images), alone)
        np.testing.assert_array_equal(jax.jit(jax.vmap(function))(images), alone)
    np.testing.assert_array_equal(module.predict(latencies), jax.lax.map(module.model.predict, latencies).decision)
    many = np.resize(images, (1030, *images.shape[1:]))
    np.testing.assert_array_equal(module(many), np.resize(module(images), 1030))
    assert module(images[:0]).shape == (0,)
    expected = r"^`image` must have shape \(28, 28\), or \(N, 28, 28\) for several, got \(20, 27, 28\)"
    with pytest.raises(InputError, match=expected):
        module(images[:, 1:])


def test_initial_weights_may_be_uniformly_distributed(tmp_path):
    """In the same range of a network that is saved and read; the other layer is drawn as before."""
    uniform = Conv(64, kernel=5, threshold=15, weight_range=(0.25, 0.75), learners=STDP())
    network = dataclasses.replace(SOUND, stages=(stage(uniform, pool=4), stage(LAST)))
    weights = network.initial_weights(3)
    assert weights["layer1"].dtype == np.float32
    counts, _ = np.histogram(weights["layer1"], 5, (0.25, 0.75))
    np.testing.assert_allclose(counts / weights["layer1"].size, 0.2, atol=0.01)
    np.testing.assert_allclose([weights["layer2"].mean(), weights["layer2"].std()], [0.8, 0.05], atol=0.01)
    Trained(network, weights, (28, 28)).save(tmp_path / "weights.npz")
    assert load(tmp_path / "weights.npz").network.stages[0] == network.stages[0]
    with pytest.raises(InputError, match=r"`weight_range` of layer1 must lie within its bounds, got \(-0.1, 0.75\)"):
        network.vary("layer1.weight_range.0", -0.1).initial_weights()


def test_there_is_one_initialiser(network):
    """Of a description, of a module, and of a training; an optimizer of gradients finds no weights."""
    settings = Settings((0, 0, 0), seed=3)
    expected, other = BRANCHES.initial_weights(3), BRANCHES.initial_weights(4)
    for weights in (
        SpikingNetwork(BRANCHES, seed=3).weights(),
        Trainer(BRANCHES, tiny.images(), settings).initial_state().weights,
    ):
        assert list(weights) == list(BRANCHES.weight_shapes)
        for layer, value in expected.items():
            assert weights[layer].dtype == value.dtype == np.float32
            np.testing.assert_array_equal(weights[layer], value)
            assert np.any(value != other[layer])
            np.testing.assert_allclose([value.mean(), value.std()], [0.8, 0.05], atol=0.01)
    assert isinstance(network.layer1, PlasticWeight)
    assert not isinstance(network.layer1, nnx.Param)


def test_branches_are_joined_in_order(network, latencies):
    joined, observed = FORWARD(network.model, latencies[0]), OBSERVE(network.model, latencies[0])
    assert BRANCHES.shapes == ((6, 28, 28), (4, 4, 4), (12, 3, 3), (20, 1, 1))
    assert joined.shape == BRANCHES.shapes[2]
    assert list(observed.latencies) == ["input", "layer1", "layer2_1", "layer2_2", "layer3"]
    assert observed.latencies["layer1"].shape == (4, 28, 28), "before pooling"
    np.testing.assert_array_equal(joined[:6], observed.latencies["layer2_1"])
    padded = np.pad(observed.latencies["layer2_2"], ((0, 0), (1, 1), (1, 1)), constant_values=T)
    np.testing.assert_array_equal(joined[6:], padded)
    assert len(np.unique(joined[:6])) > 2, "the case tells nothing"


def test_the_deciding_layers_are_observed(network, latencies):
    """The spikes that decide; where times do not matter, at the last step."""
    decisive_spikes = jax.jit(Model.decisive_spikes)
    seen = OBSERVE(network.model, latencies[0]).latencies["layer3"]
    potentials = decisive_spikes(network.model, FORWARD(network.model, latencies[0]))[0].potential
    np.testing.assert_array_equal(seen, np.where(np.asarray(potentials) > 0, T - 1, T))
    deciding = stage(dataclasses.replace(DECISION, threshold=1.0))
    timed = SpikingNetwork(dataclasses.replace(SMALL, stages=(deciding,), decision=Earliest())).model
    latency = latencies[0, :2, :12, :12]
    spikes = decisive_spikes(timed, latency)[0]
    np.testing.assert_array_equal(OBSERVE(timed, latency).latencies["layer1"], spikes.latency)
    assert len(np.unique(spikes.latency)) > 2, "the case tells nothing"


def test_the_last_step_decides_and_batches_are_images_one_by_one(network, latencies):
    model = network.model
    predict, decide = jax.jit(Model.predict), jax.jit(Model.decide)
    decisions = []
    shares = []
    for latency in latencies:
        decisions.append(int(predict(model, latency).decision))
        read = np.asarray(FORWARD(model, latency))
        shares.append((read < T).mean())
        reached = np.where(read < T, T - 1, T).astype(read.dtype)
        assert decide(model, read).decision == decide(model, reached).decision == decisions[-1]
        assert OBSERVE(model, latency).decided.decision == decisions[-1]
    assert 0 < np.mean(shares) < 1, "the case tells nothing"
    assert only_firing_matters(model)
    assert jax.jit(decide_batch)(model, Activations({0: latencies}))[0].tolist() == decisions
    assert len({*decisions}) > 2, "the case tells nothing"


def test_signed_weights_are_propagated_in_time():
    """A neuron that fires early and is inhibited later has fired, though its last potential is below the threshold."""
    passing = Conv(2, kernel=1, threshold=0.5, learners=STDP())
    signed = Conv(1, kernel=1, threshold=0.5, learners=STDP(bounds=(-1, 1)))
    stages = stage(passing), stage(signed), stage(Conv(3, kernel=1, threshold=0.1, learners=STDP())), stage(DECISION)
    network = SpikingNetwork(Network("signed", (2, 1, 2), 3, stages))
    weights = dict(layer1=np.eye(2), layer2=np.array([[1, -1]]))
    network.set_weights({name: np.float32(rows)[:, :, None, None] for name, rows in weights.items()})
    latency = np.uint8([[0, 3], [3, 0]]).reshape(2, 1, 2)
    model = network.model
    known = Activations({0: latency})
    assert model.output_of(2, known).tolist() == [[[0, T]]]
    assert (model.output_of(3, known) < T).tolist() == [[[True, False]]] * 3
    decision = network.predict(latency)
    assert decision >= 0
    assert decide_batch(model, Activations({0: latency[None]}))[0] == decision


FIRST = Conv(4, kernel=5, threshold=15, competition=WTA(2), learners=(STDP(), RSTDP(bounds=(0, 1))))
LAST = Conv(10, kernel=6, learners=RSTDP())
SOUND = Network("sound", (6, 28, 28), 10, (stage(FIRST, pool=4), stage(LAST)), encoder=Encoder())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda net: net.set_weights(dict(layer1=np.zeros((4, 6, 5, 4)))),
            r"shape \(4, 6, 5, 5\) of branches, got \(4, 6, 5, 4\)",
        ),
        (lambda net: SpikingNetwork(BRANCHES, weights={}), "`weights` must be those of layer1, layer2_1, layer2_2, la"),
        (
            lambda net: net.predict(np.zeros((6, 28, 27), np.uint8)),
            r"shape \(6, 28, 28\) of branches, got \(6, 28, 27\)",
        ),
        (lambda net: net.model.observe(np.zeros((6, 28, 28), np.float32)), "`latency` must hold integer time steps"),
        (
            lambda net: SpikingNetwork(small(input_shape=(5, 28, 28))).features(IMAGE),
            "`encoder` must be given to take images",
        ),
        (lambda net: SpikingNetwork(small(encoder=DOG)).features(IMAGE, 1), "`stages` must be at most 0, those before"),
        (lambda net: SpikingNetwork(NETWORKS["kheradpisheh2018"]())(IMAGE), "`decision` of kheradpisheh2018 must be"),
    ],
)
def test_weights_and_inputs_that_do_not_fit_are_refused(network, call, message):
    with pytest.raises(InputError, match=message) as caught:
        call(network)
    assert isinstance(caught.value, InputTypeError) == ("integer" in message)


@pytest.mark.parametrize("pixel", [(), (3,), (2,)])
def test_a_network_without_an_encoder_gets_that_of_the_trainer(pixel):
    images = np.zeros((3, 28, 28, *pixel), np.uint8)
    labels = np.arange(3, dtype=np.int32)
    data = Dataset("images", images, labels, images, labels)
    described = small(input_shape=data.input_shape, time_steps=11)
    trainer = Trainer(described, data, Settings((0,)))
    network = SpikingNetwork(described)
    assert network.network.encoder == trainer.network.encoder
    assert network.network.encoder.time_steps == 11
    assert network(images[0]).shape == ()


def test_weights_below_the_bounds_are_refused_wherever_they_come_from(tmp_path):
    low = paths.replace(SOUND, "stages.0.branches.0.weight_mean", 0.01)
    trainer = Trainer(low, tiny.images(), Settings((1, 1), adapt_every=20))
    for make in (low.initial_weights, lambda: SpikingNetwork(low), trainer.initial_state):
        problem = r"`weight_mean` and `weight_std` of layer1 must keep weights within its .* `weight_std` of at most "
        with pytest.raises(InputError, match=rf"{problem}0\.0013$"):
            make()
    high = paths.replace(SOUND, "stages.0.branches.0.weight_mean", 1.5)
    with pytest.raises(InputError, match=r"`weight_mean` of layer1 .* at most 1, its upper bound, got 1\.5"):
        high.initial_weights()
    weights = SOUND.initial_weights()
    path = tmp_path / "weights.npz"
    Trained(SOUND, weights, (28, 28)).save(path)
    arrays, meta = files.load_checkpoint(path)
    for value in (-0.25, np.nan):
        weights["layer1"][0, 0, 0, 0] = value
        files.save_checkpoint(path, arrays | weights, meta)
        for take in (
            lambda: Model.of(low, weights),
            lambda: trainer.run(TrainState(dict(weights))),
            lambda: Trained.read(path),
        ):
            with pytest.raises(InputError, match=rf"`weights\['layer1'\]` must be at least 0 .* got {value}"):
                take()


def test_weights_are_rounded_in_layers_without_a_ramp_alone():
    stages = stage(Conv(3, kernel=1, ramp=Ramp(), learners=SoftHebb())), stage(Conv(4, kernel=6, learners=RSTDP()))
    network = Network("rounded", (2, 6, 6), 4, stages)
    weights = {
        name: np.float32(np.random.default_rng(0).random(shape)) for name, shape in network.weight_shapes.items()
    }
    rounded = rounded_weights(network, weights)
    expected = weights | dict(layer2=round_for_exact_sums(weights["layer2"]))
    assert (expected["layer2"] != weights["layer2"]).any()
    assert rounded.keys() == expected.keys()
    jax.tree.map(np.testing.assert_array_equal, rounded, expected)
