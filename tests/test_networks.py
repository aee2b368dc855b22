"""Networks as data, and the module that runs them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from snnjax.layers import RSTDP, STDP, Conv, Pool
from snnjax.networks import NETWORKS, Network, SpikingNetwork, Stage, draw, mozafari2018, stage

T = 15
SHAPE = (2, 12, 12)
DECISION = Conv(6, kernel=3, padding=1, rstdp=RSTDP())


def build(*stages: Stage, shape: tuple[int, int, int] = SHAPE, classes: int = 3) -> SpikingNetwork:
    return draw(Network("small", shape, classes, (*stages, stage(DECISION)), time_steps=T))


def latencies(count: int, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Nine in ten inputs are silent."""
    return np.random.default_rng(0).integers(0, 10 * T, (count, *shape)).clip(max=T).astype(np.uint8)


DEEP = (
    stage(Conv(5, kernel=3, padding=1, threshold=3.5, stdp=STDP()), pool=Pool(3, stride=2, padding=1)),
    stage(
        Conv(4, kernel=2, threshold=5, stdp=STDP()),
        Conv(3, kernel=4, threshold=24, stdp=STDP(), output_padding=1),
        pool=2,
    ),
)


@pytest.fixture(scope="module")
def network() -> SpikingNetwork:
    return build(*DEEP)


def test_shapes_of_mozafari2018():
    spec = mozafari2018()
    assert spec.shapes == ((6, 28, 28), (30, 14, 14), (250, 4, 4), (200, 4, 4))
    network = nnx.eval_shape(lambda: SpikingNetwork(spec, rngs=nnx.Rngs(0)))
    shapes = {name: getattr(network, name).weight.shape for _, name, _ in spec.layers()}
    assert shapes == dict(layer1=(30, 6, 5, 5), layer2=(250, 30, 3, 3), layer3=(200, 250, 5, 5))
    assert mozafari2018(classes=7).stages[-1].branches[0].features == 140


@pytest.mark.parametrize("name", NETWORKS)
def test_shipped_networks_know_their_name_and_decide(name):
    spec = NETWORKS[name]((6, 28, 28), 10)
    assert spec.name == name
    assert len(spec.epochs) == len(spec.stages)
    assert 0 <= int(draw(spec)(latencies(1, spec.input_shape)[0])) < 10


@pytest.mark.parametrize("name", NETWORKS)
def test_shipped_networks_take_other_channels_sizes_and_classes(name):
    spec = NETWORKS[name]((2, 34, 30), 3)
    assert {layer.features for layer in spec.stages[-1].branches} == {60}
    assert int(draw(spec)(latencies(1, spec.input_shape)[0])) in (-1, 0, 1, 2)
    with pytest.raises(ValueError, match=rf"^{name} on input \(6, 5, 5\): stage \d: .* must fit into the map"):
        NETWORKS[name]((6, 5, 5), 10)


def test_weights_are_drawn_by_seed():
    spec = NETWORKS["inception2024"]((6, 28, 28), 10)
    first, again, other = (draw(spec, seed).weights() for seed in (3, 3, 4))
    for name, weights in first.items():
        np.testing.assert_array_equal(weights, again[name])
        assert np.any(weights != other[name])
        np.testing.assert_allclose([weights.mean(), weights.std()], [0.8, 0.05], atol=0.003)


def test_stage_outputs_have_the_shapes_promised(network):
    assert network.spec.shapes == (SHAPE, (5, 6, 6), (7, 2, 2), (6, 2, 2))
    latency = latencies(1)[0]
    for number, shape in enumerate(network.spec.shapes[1:]):
        latency = network.respond(number, latency)
        assert latency.shape == shape


def test_branches_are_joined_in_order(network):
    latency = network.respond(0, latencies(1)[0])
    outputs = [layer(latency).latency for layer in network.branches(1)]
    joined = network.respond(1, latency)
    np.testing.assert_array_equal(joined[:4, 0, 0], outputs[0][:, :2, :2].min(axis=(1, 2)))
    np.testing.assert_array_equal(joined[4:, 0, 0], outputs[1][:, 0, 0], "padded by one row and column")


def test_the_last_step_decides(network):
    full = spiked = 0
    for latency in latencies(20):
        expected = latency
        for number in range(2):
            expected = network.respond(number, expected)
        reached = network.reach(0, 2, latency)
        np.testing.assert_array_equal(reached, expected < T)
        assert network(latency) == network.decide(expected < T) == network.decide_from(2, reached)
        full, spiked = full + reached.size, spiked + int(reached.sum())
    assert 0 < spiked < full, "the case tells nothing"


def test_signed_weights_are_propagated_in_time():
    """A neuron that fires early and is inhibited later has fired, though its last potential is below the threshold."""
    signed = Conv(1, kernel=1, threshold=0.5, stdp=STDP(bounds=(-1, 1)))
    network = build(stage(signed), stage(Conv(3, kernel=1, threshold=0.1, stdp=STDP())), shape=(2, 1, 2))
    network.set_weights(dict(layer1=np.float32([1, -1]).reshape(1, 2, 1, 1)))
    latency = np.uint8([[0, 3], [3, 0]]).reshape(2, 1, 2)
    assert network.respond(0, latency).tolist() == [[[0, T]]]
    assert network.reach(0, 1, latency).tolist() == [[[True, False]]]
    assert network.reach(0, 2, latency).tolist() == [[[True, False]]] * 3
    assert network(latency) >= 0
    with pytest.raises(ValueError, match="stage 0 allows negative weights"):
        network.fired(0, latency < T)


def test_vmap_is_a_loop(network):
    graphdef, state = nnx.split(network)
    images = latencies(20)
    batch = jax.vmap(lambda latency: nnx.merge(graphdef, state)(latency))(images)
    assert batch.tolist() == [int(network(latency)) for latency in images]
    assert len(set(batch.tolist())) > 2, "the case tells nothing"


@pytest.mark.parametrize(
    ("votes", "decision"),
    [
        ([2], 2),
        ([-1], -1),
        ([2, 1, 2], 2),
        ([0, 2, 2], 2),
        ([0, 0, 1], 0),
        ([1, 1, 1], 1),
        ([0, 1, 2], 1),
        ([2, -1, 1], -1),
        ([2, -1, 2], 2),
        ([-1, 2, -1], 2),
        ([-1, -1, 2], -1),
    ],
)
def test_two_equal_votes_decide_else_the_middle_branch(network, votes, decision):
    assert network.decision(jnp.array(votes)) == decision


def test_branches_vote_for_the_class_of_their_winner():
    branches = [dataclasses.replace(DECISION, features=features, kernel=1, padding=0) for features in (3, 6, 9)]
    spec = Network("votes", (1, 1, 1), 3, (stage(*branches),))
    network = draw(spec)
    for name, best in zip(network.weights(), (1, 4, 2), strict=True):
        weights = np.full((getattr(network, name).spec.features, 1, 1, 1), 0.5, np.float32)
        weights[best] = 0.6
        network.set_weights({name: weights})
    winners = [layer.decide(layer.final_potentials(np.ones((1, 1, 1), bool))) for layer in network.branches(0)]
    assert network.votes(winners).tolist() == [1, 2, 0]
    assert int(network(np.zeros((1, 1, 1), np.uint8))) == 2
    assert int(network(np.full((1, 1, 1), T, np.uint8))) == -1, "a silent input"


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ((stage(Conv(4, kernel=3, threshold=1), pool=12),), r"stage 1: .* must fit into the map of 10x10, got 12x12"),
        ((stage(Conv(4, kernel=13, threshold=1)),), r"stage 1: .* must fit into the map of 12x12, got 13x13"),
        (
            (stage(Conv(4, kernel=5, threshold=1), pool=8), stage(Conv(4, kernel=2, threshold=1))),
            r"stage 2: .* must fit into the map of 1x1, got 2x2",
        ),
        (
            (stage(Conv(4, kernel=3, threshold=1), Conv(4, kernel=5, threshold=1)),),
            r"stage 1: branches must be joined with maps of one size, got \[\(8, 8\), \(10, 10\)\]",
        ),
    ],
)
def test_maps_that_do_not_fit_are_refused(stages, message):
    with pytest.raises(ValueError, match=message):
        build(*stages)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(classes=4), "multiple of 4 features"),
        (dict(classes=0), "`classes` must be at least 1"),
        (dict(stages=(stage(Conv(6, kernel=3, stdp=STDP())),)), "must learn by R-STDP"),
        (dict(time_steps=0), "`time_steps` must be at least 1"),
        (dict(epochs=(1, 2)), "`epochs` must be one for each of 1 stages"),
    ],
)
def test_networks_that_cannot_decide_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(Network("small", SHAPE, 3, (stage(DECISION),)), **change)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (dict(layer4=np.zeros(1)), r"layer1, layer2_1, layer2_2, layer3\), got 'layer4'"),
        (
            dict(layer1=np.zeros((5, 2, 3, 4))),
            r"`weights\['layer1'\]` must have shape \(5, 2, 3, 3\), got \(5, 2, 3, 4\)",
        ),
        (dict(layer1=np.full((5, 2, 3, 3), -0.5)), r"`weights\['layer1'\]` must be at least 0 .*, got -0.5"),
        (dict(layer1=np.full((5, 2, 3, 3), np.nan)), r"`weights\['layer1'\]` must be at least 0 .*, got nan"),
    ],
)
def test_weights_that_do_not_fit_are_refused(network, weights, message):
    with pytest.raises(ValueError, match=message):
        network.set_weights(weights)


def test_an_input_of_another_shape_is_refused(network):
    with pytest.raises(ValueError, match=r"`latency` must have shape \(2, 12, 12\), got \(2, 12, 11\)"):
        network(np.zeros((2, 12, 11), np.uint8))
