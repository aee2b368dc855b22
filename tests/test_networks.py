"""Networks as data, and the module that runs them."""

import collections
import dataclasses
import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from shipped import NAMES, each_of, shipped

from snnjax.app.names import RECORDED
from snnjax.core import components, files
from snnjax.core.errors import InputError
from snnjax.data import Dataset, digits
from snnjax.encoding import DOG, ON_OFF, Encoder
from snnjax.layers.conv import WTA, Conv
from snnjax.layers.pool import Pool
from snnjax.learners import RSTDP, STDP
from snnjax.networks import (
    NETWORKS,
    Earliest,
    Images,
    Majority,
    Model,
    Network,
    SpikingNetwork,
    Stage,
    mozafari2018,
    stage,
)
from snnjax.networks.decision import majority
from snnjax.runs.trained import Trained
from snnjax.training.build import network_for
from snnjax.training.loop import Trainer
from snnjax.training.state import Settings, TrainState

T = 15
SHAPE = (2, 12, 12)
DECISION = Conv(6, kernel=3, padding=1, learners=RSTDP())


def build(*stages: Stage, shape: tuple[int, int, int] = SHAPE, classes: int = 3) -> SpikingNetwork:
    return SpikingNetwork(Network("small", shape, classes, (*stages, stage(DECISION)), time_steps=T))


def latencies(count: int, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Nine in ten inputs are silent."""
    return np.random.default_rng(0).integers(0, 10 * T, (count, *shape)).clip(max=T).astype(np.uint8)


DEEP = (
    stage(Conv(5, kernel=3, padding=1, threshold=3.5, learners=STDP()), pool=Pool(3, stride=2, padding=1)),
    stage(
        Conv(4, kernel=2, threshold=5, learners=STDP()),
        Conv(3, kernel=4, threshold=24, learners=STDP(), output_padding=1),
        pool=2,
    ),
)


@pytest.fixture(scope="module")
def network() -> SpikingNetwork:
    return build(*DEEP)


def test_shapes_of_mozafari2018():
    spec = mozafari2018()
    assert spec.shapes == ((6, 28, 28), (30, 14, 14), (250, 4, 4), (200, 4, 4))
    shapes = dict(layer1=(30, 6, 5, 5), layer2=(250, 30, 3, 3), layer3=(200, 250, 5, 5))
    assert spec.weight_shapes == shapes
    assert {name: each.shape for name, each in spec.initial_weights().items()} == shapes
    assert mozafari2018(Images(classes=7)).stages[-1].branches[0].features == 140


def predict(spec: Network) -> jax.Array:
    """The decision of a new network on random latencies, by one program."""
    network = SpikingNetwork(spec)
    return jax.jit(type(network.model).predict)(network.model, latencies(1, spec.input_shape)[0]).decision


@pytest.mark.parametrize("name", each_of(NAMES))
def test_shipped_networks_know_their_name_and_decide(name):
    spec = shipped(name)
    assert spec.name == name
    assert len(spec.epochs) == len(spec.stages)
    falls_back = name in RECORDED or "goupy" in name  # where nobody fires, potentials decide
    assert (0 if falls_back else -1) <= int(predict(spec)) < 10


@pytest.mark.parametrize("name", each_of(RECORDED))
def test_shipped_networks_take_other_channels_sizes_and_classes(name):
    spec = NETWORKS[name](Images((34, 30), 3, encoder=DOG))
    assert {layer.features for layer in spec.stages[-1].branches} == {60}
    assert int(predict(spec)) in (-1, 0, 1, 2)
    with pytest.raises(ValueError, match=rf"^{name} on input \(6, 5, 5\): stage \d: .* must fit into the map"):
        NETWORKS[name](Images((5, 5)))


def test_weights_are_drawn_by_seed():
    spec = NETWORKS["inception2024"]()
    first, again, other = (spec.initial_weights(seed) for seed in (3, 3, 4))
    for name, weights in first.items():
        np.testing.assert_array_equal(weights, again[name])
        assert np.any(weights != other[name])
        np.testing.assert_allclose([weights.mean(), weights.std()], [0.8, 0.05], atol=0.003)


def test_there_is_one_initialiser():
    """Of a description, of a module, and of a training."""
    for name in ("mozafari2018", "inception2024"):
        spec = NETWORKS[name]()
        module = SpikingNetwork(spec, seed=3).weights()
        trainer = Trainer(spec, digits().first(10, 2), Settings((0,) * len(spec.stages), seed=3))
        for weights in (module, trainer.initial_state().weights):
            assert list(weights) == list(spec.weight_shapes)
            for layer, expected in spec.initial_weights(3).items():
                assert weights[layer].dtype == expected.dtype == np.float32
                np.testing.assert_array_equal(weights[layer], expected)


def test_stage_outputs_have_the_shapes_promised(network):
    assert network.spec.shapes == (SHAPE, (5, 6, 6), (7, 2, 2), (6, 2, 2))
    latency = latencies(1)[0]
    for number, shape in enumerate(network.spec.shapes[1:-1]):
        latency = network.model.forward(latency, number, number + 1)
        assert latency.shape == shape
    assert network.model.stage(2)[0].responses(latency).shape == network.spec.shapes[-1]


def test_branches_are_joined_in_order(network):
    model = network.model
    latency = model.forward(latencies(1)[0], 0, 1)
    outputs = [layer.responses(latency) for layer in model.stage(1)]
    joined = model.forward(latency, 1, 2)
    np.testing.assert_array_equal(joined[:4, 0, 0], outputs[0][:, :2, :2].min(axis=(1, 2)))
    np.testing.assert_array_equal(joined[4:, 0, 0], outputs[1][:, 0, 0], "padded by one row and column")
    observed = model.observe(latencies(1)[0])
    assert list(observed.latencies)[:4] == ["input", "layer1", "layer2_1", "layer2_2"]
    np.testing.assert_array_equal(observed.latencies["layer2_2"], outputs[1])


@pytest.mark.parametrize("decision", [Majority(), Earliest()])
def test_the_deciding_layers_are_observed(network, decision):
    """The spikes that decide; where times do not matter, at the last step."""
    model = SpikingNetwork(dataclasses.replace(network.spec, decision=decision)).model
    names = model.network.names[model.last]
    seen = model.observe(latencies(1)[0])
    assert list(seen.latencies)[-len(names) :] == list(names)
    inputs = model.forward(latencies(1)[0])
    for name in names:
        spikes = model.layers[name].deciding_spikes(inputs)
        np.testing.assert_array_equal(seen.latencies[name], spikes.latency)
        assert seen.latencies[name].shape == spikes.potential.shape
        if not decision.timed:
            np.testing.assert_array_equal(seen.latencies[name], np.where(spikes.potential > 0, T - 1, T))


def test_an_observed_input_of_another_shape_is_refused(network):
    with pytest.raises(InputError, match=r"`latency` must have shape \(2, 12, 12\), got \(3, 13, 12\)"):
        jax.jit(Model.observe)(network.model, np.zeros((3, 13, 12), np.uint8))
    with pytest.raises(TypeError, match="`latency` must hold integer time steps"):
        network.model.observe(np.zeros(SHAPE, np.float32))


def test_the_last_step_decides(network):
    full = spiked = 0
    model = network.model
    timed, untimed = (jax.jit(functools.partial(Model.forward, timed=timed)) for timed in (True, False))
    for latency in latencies(20):
        expected, reached = timed(model, latency), untimed(model, latency)
        np.testing.assert_array_equal(reached < T, expected < T)
        assert np.isin(reached, (T - 1, T)).all(), "no step but the last is computed"
        decisions = [model.decide(each).decision for each in (expected, reached)]
        assert network.predict(latency) == decisions[0] == decisions[1] == model.observe(latency).decided.decision
        full, spiked = full + reached.size, spiked + int((reached < T).sum())
    assert 0 < spiked < full, "the case tells nothing"


def test_signed_weights_are_propagated_in_time():
    """A neuron that fires early and is inhibited later has fired, though its last potential is below the threshold."""
    signed = Conv(1, kernel=1, threshold=0.5, learners=STDP(bounds=(-1, 1)))
    network = build(stage(signed), stage(Conv(3, kernel=1, threshold=0.1, learners=STDP())), shape=(2, 1, 2))
    network.set_weights(dict(layer1=np.float32([1, -1]).reshape(1, 2, 1, 1)))
    latency = np.uint8([[0, 3], [3, 0]]).reshape(2, 1, 2)
    model = network.model
    assert model.forward(latency, 0, 1).tolist() == [[[0, T]]]
    assert model.forward(latency, 0, 1, timed=False).tolist() == [[[0, T]]]
    assert (model.forward(latency, 0, 2, timed=False) < T).tolist() == [[[True, False]]] * 3
    assert network.predict(latency) >= 0


def test_vmap_is_a_loop(network):
    graphdef, state = nnx.split(network)
    images = latencies(20)
    batch = jax.vmap(lambda latency: nnx.merge(graphdef, state).predict(latency))(images)
    assert batch.tolist() == [int(network.predict(latency)) for latency in images]
    assert len(set(batch.tolist())) > 2, "the case tells nothing"


def test_features_are_what_stages_make_of_an_image(network):
    images = digits().test_images[:20, 6:18, 6:18]
    spec = dataclasses.replace(network.spec, encoder=dataclasses.replace(ON_OFF, time_steps=T).fit(images))
    coded = SpikingNetwork(spec, weights=network.weights())
    for stages in (0, 1, 2, None):
        features = jax.vmap(functools.partial(coded.features, stages=stages))(images)
        assert features.shape == (20, *spec.shapes[2 if stages is None else stages])
        assert features.dtype == np.uint8
        assert len(np.unique(features)) > 2, "the case tells nothing"
    assert jax.vmap(coded.model.decide)(features).decision.tolist() == jax.vmap(coded)(images).tolist()
    np.testing.assert_array_equal(coded.features(images[0], 0), coded.model.encode(images[0]))
    with pytest.raises(InputError, match="`stages` must be at most 2, those before the decision, got 3"):
        coded.features(images[0], 3)
    with pytest.raises(InputError, match=r"`image` must have shape .*, got \(20, 12, 12\): .* use jax\.vmap"):
        coded.features(images)
    with pytest.raises(InputError, match="`stages` must be at least 0, got -1"):
        coded.features(images[0], -1)
    with pytest.raises(InputError, match="`encoder` must be given to take images"):
        network.features(images[0])


def test_features_of_real_valued_stages_and_of_networks_that_are_not_fitted():
    deep = SpikingNetwork(NETWORKS["softhebb_narrow"](Images((8, 8))))
    image = digits().test_images[0, 10:18, 10:18]
    assert [deep.features(image, stages).dtype.name for stages in (0, 1, 2, 3)] == ["uint8", *["float32"] * 2, "uint8"]
    fitted = SpikingNetwork(NETWORKS["kheradpisheh2018"]())
    assert fitted.features(digits().test_images[0]).shape == fitted.spec.shapes[-1]
    with pytest.raises(InputError, match="`decision` of kheradpisheh2018 must be fitted"):
        fitted(digits().test_images[0])


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
def test_two_equal_votes_decide_else_the_middle_branch(votes, decision):
    assert majority(jnp.array(votes), classes=3) == decision


@pytest.mark.parametrize("layers", [1, 2, 3, 4, 5])
def test_the_majority_of_any_number_of_layers(layers):
    """As its docstring says: the most votes if two agree, the lowest class among equals, else layer L // 2's vote."""
    votes = np.array(list(itertools.product([-1, 0, 1, 2], repeat=layers)))
    expected = []
    for each in votes.tolist():
        counts = collections.Counter(vote for vote in each if vote >= 0)
        most = max(counts.values(), default=0)
        agreed = [vote for vote, count in counts.items() if count == most]
        expected.append(min(agreed) if most >= 2 else each[layers // 2])
    scores = np.float32(votes[:, :, None] == np.arange(3)) * np.arange(1, layers + 1, dtype=np.float32)[:, None]
    assert jax.vmap(Majority().decide)(scores).tolist() == expected
    assert jax.vmap(functools.partial(majority, classes=3))(votes).tolist() == expected


def test_branches_vote_for_the_class_of_their_winner():
    branches = [dataclasses.replace(DECISION, features=features, kernel=1, padding=0) for features in (3, 6, 9)]
    spec = Network("votes", (1, 1, 1), 3, (stage(*branches),))
    network = SpikingNetwork(spec)
    for (name, before), best in zip(network.weights().items(), (1, 4, 2), strict=True):
        weights = np.full(before.shape, 0.5, np.float32)
        weights[best] = 0.6
        network.set_weights({name: weights})
    decided = network.model.predict(np.zeros((1, 1, 1), np.uint8))
    assert decided.votes.tolist() == [1, 2, 0]
    np.testing.assert_allclose(decided.scores, [0.5 + 0.5 + 0.6, 0.6 + 0.5 + 0.5, 0.5 + 0.6 + 0.5], rtol=1e-6)
    assert int(decided.decision) == 2
    silent = network.model.predict(np.full((1, 1, 1), T, np.uint8))
    assert (int(silent.decision), silent.votes.tolist(), silent.scores.tolist()) == (-1, [-1] * 3, [0] * 3)


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


@pytest.mark.parametrize("name", ["a/../../esc", "/esc", "a\\b", "a\x1b[31m", "a\nb", "a\0"])
def test_names_that_are_no_part_of_a_path_are_refused(name, tmp_path):
    with pytest.raises(InputError, match="`name` must be"):
        dataclasses.replace(SOUND, name=name)
    path = tmp_path / "weights.npz"
    Trained(SOUND, SOUND.initial_weights(), (28, 28)).save(path)
    arrays, meta = files.load_checkpoint(path)
    meta["network"]["name"] = name
    files.save_checkpoint(path, arrays, meta)
    with pytest.raises(InputError, match="`name` must be"):
        Trained.read(path)


def last(**change) -> dict:
    """The stages of a network of one deciding layer, which is changed."""
    return dict(stages=(stage(dataclasses.replace(DECISION, **change)),))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(classes=4), "multiple of 4 features"),
        (dict(classes=0), "`classes` must be at least 1"),
        (
            dict(stages=(stage(Conv(6, kernel=3, learners=STDP())),)),
            "must have a supervised learner, such as RSTDP",
        ),
        (dict(time_steps=0), "`time_steps` must be at least 1"),
        (dict(epochs=(1, 2)), "`epochs` must be one for each of 1 stages"),
        (last(threshold=3.0), "`threshold` of layer1, which decides, must be None: 3.0 has no effect"),
        (last(competition=WTA(2)), "`competition` of layer1, which decides, must be"),
        (last(output_padding=1), "`output_padding` of layer1, which decides, must be 0: 1 has no effect"),
        (
            dict(stages=(stage(Conv(4, kernel=3, threshold=1.0, fractional=True, learners=STDP())), stage(DECISION))),
            "`fractional` of layer1, which does not decide, must be False: True has no effect",
        ),
        (last(output_padding=(0, 2)), "`output_padding` of layer1, which decides, must be 0"),
        (dict(stages=(stage(DECISION, pool=2),)), "`pool` of the last stage of small must be None, it has no effect"),
        (last(learners=(RSTDP(), STDP())), "`learners` of layer1 must be unsupervised but for the last"),
        (last(learners=(RSTDP(), RSTDP())), "`learners` of layer1 must be unsupervised but for the last"),
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
        network.predict(np.zeros((2, 12, 11), np.uint8))


FIRST = Conv(4, kernel=5, threshold=15, competition=WTA(2), learners=(STDP(), RSTDP(bounds=(0, 1))))
SOUND = Network(
    "sound", (6, 28, 28), 10, (stage(FIRST, pool=4), stage(Conv(10, kernel=6, learners=RSTDP()))), encoder=Encoder()
)
WRONG = [
    (STDP, dict(doubling=0), "`doubling` must be at least 1, got 0"),
    (STDP, dict(ltp=0), "`ltp` must lie above 0 and up to `ltp_max`"),
    (STDP, dict(ltp=0.2, ltp_max=0.1), "`ltp` must lie above 0 and up to `ltp_max`"),
    (STDP, dict(ltd=0.001), "`ltd` must be finite and at most 0, got 0.001"),
    (STDP, dict(ltd=float("nan")), "ltd` must be (finite and at most 0|a finite number of 32 bits), got nan"),
    (STDP, dict(bounds=(1.0, 0.0)), "`bounds` must be .* lower < upper"),
    (RSTDP, dict(reward=(-0.004, -0.003)), r"`reward` must be \(a\+, a-\), at least 0 and at most 0"),
    (RSTDP, dict(reward=(0.004, 0.003)), r"`reward` must be \(a\+, a-\), at least 0 and at most 0"),
    (RSTDP, dict(punish=(0.004, 0.0005)), r"`punish` must be \(a\+, a-\), at most 0 and at least 0"),
    (RSTDP, dict(punish=(-0.004, -0.0005)), r"`punish` must be \(a\+, a-\), at most 0 and at least 0"),
    (RSTDP, dict(punish=(-0.004, float("nan"))), r"`punish` must be \(a\+, a-\)"),
]


@pytest.mark.parametrize(("kind", "change", "message"), WRONG)
def test_rates_that_cannot_be_are_refused_wherever_they_come_from(kind, change, message, tmp_path):
    """From the constructor, by a change of a network, and from a file, whose checksum is right."""
    with pytest.raises(InputError, match=message):
        kind(**change)
    at = [type(each) for each in FIRST.learners].index(kind)
    for name, value in change.items():
        if not isinstance(value, tuple) and len(change) == 1:
            with pytest.raises(InputError, match=message):
                SOUND.vary(f"layer1.learners.{at}.{name}", value)
    path = tmp_path / "weights.npz"
    Trained(SOUND, SOUND.initial_weights(), (28, 28)).save(path)
    assert Trained.read(path).network == SOUND
    arrays, meta = files.load_checkpoint(path)
    meta["network"]["stages"][0]["branches"][0]["learners"][at] |= change
    files.save_checkpoint(path, arrays, meta)
    with pytest.raises(InputError, match=message):
        Trained.read(path)


def test_initial_weights_below_the_bounds_are_refused_wherever_they_come_from(tmp_path):
    low = components.replace(SOUND, "stages.0.branches.0.weight_mean", 0.01)
    trainer = Trainer(low, digits().first(10, 10), Settings((1, 1), batch_size=10))
    for make in (low.initial_weights, lambda: SpikingNetwork(low), trainer.initial_state):
        with pytest.raises(InputError, match="`weight_mean` and `weight_std` of layer1 must keep weights within its"):
            make()
    weights = SOUND.initial_weights()
    path = tmp_path / "weights.npz"
    Trained(SOUND, weights, (28, 28)).save(path)
    arrays, meta = files.load_checkpoint(path)
    for value in (-0.25, np.nan):
        weights["layer1"][0, 0, 0, 0] = value
        files.save_checkpoint(path, arrays | weights, meta)
        for take in (
            lambda: Trained(SOUND, weights, (28, 28)),
            lambda: SpikingNetwork(low, weights=weights),
            lambda: SpikingNetwork(SOUND).set_weights(weights),
            lambda: Model.of(low, weights),
            lambda: trainer.run(TrainState(dict(weights))),
            lambda: Trained.read(path),
        ):
            with pytest.raises(InputError, match=rf"`weights\['layer1'\]` must be at least 0 .* got {value}"):
                take()
    signed = components.replace(low, "stages.0.branches.0.learners", STDP(bounds=(-1.0, 1.0)))
    assert signed.initial_weights()["layer1"].min() < 0, "where bounds allow it, weights may be below 0"


@pytest.mark.parametrize("name", [each for each in NAMES if each not in RECORDED])
def test_networks_with_their_own_encoder_take_other_sizes_and_classes(name):
    shape = (34, 30, 3) if "goupy" in name else (34, 30)
    spec = NETWORKS[name](Images(shape, 3))
    assert spec.input_shape == spec.encoder.output_shape(shape)
    assert all(layer.features % 3 == 0 for layer in spec.stages[-1].branches if spec.deciding)
    again = NETWORKS[name](Images(shape, 3, encoder=dataclasses.replace(spec.encoder, time_steps=9)))
    assert again.time_steps == 9
    small = Dataset("small", *(np.arange(108, dtype=np.uint8).reshape(3, 6, 6), np.arange(3, dtype=np.int32)) * 2)
    if "goupy" in name:
        with pytest.raises(ValueError, match="images of small have 6x6 pixels: take a larger `size`"):
            network_for(NETWORKS[name], small)


@pytest.mark.parametrize(
    ("name", "grey", "colour", "inputs"),
    [
        ("goupy2024_sstdp", 200, 200, 4608),
        ("goupy2024_s2stdp", 250, 250, 4608),
        ("goupy2024_pcn", 250, 250, 4608),
        ("goupy2024_ncg", 200, 660, 12544),
    ],
)
def test_thresholds_of_readouts_belong_to_so_many_inputs(name, grey, colour, inputs):
    for shape, maps, threshold in (((28, 28), 6, grey), ((32, 32, 3), 7, colour * 12544 / inputs)):
        readout = NETWORKS[name](Images(shape)).stages[-1].branches[0]
        assert readout.kernel == (maps, maps)
        assert readout.threshold == pytest.approx(threshold)


def test_few_colour_images_have_few_patches_and_a_low_threshold():
    for images, patches, threshold in ((50_000, 1, 660), (10_000, 6, 660), (1_000, 10, 300), (90, 10, 300)):
        network = NETWORKS["goupy2024_ncg"](Images((32, 32, 3), count=images))
        features, readout = (each.branches[0] for each in network.stages)
        assert (features.each_learner[0].patches, readout.threshold) == (patches, threshold)
    grey = NETWORKS["goupy2024_ncg"](Images(count=90))
    assert grey.stages[0].branches[0].each_learner[0].patches == 667, "grey ones have all"


def test_spikes_lie_within_steps_where_the_gap_is_below_three_steps():
    for shape, steps, within in (((28, 28), 255, False), ((28, 28), 101, False), ((28, 28), 99, True)):
        encoder = dataclasses.replace(ON_OFF, time_steps=steps)
        assert NETWORKS["goupy2024_ncg"](Images(shape, encoder=encoder)).stages[1].branches[0].fractional == within
    assert NETWORKS["goupy2024_ncg"](Images((32, 32, 3))).stages[1].branches[0].fractional


def test_shapes_that_are_none_of_images_are_refused():
    for shape in ((6, 28, 28), (28, 28, 4), (28,)):
        got = re.escape(str(shape))
        with pytest.raises(InputError, match=rf"`shape` of images must be \(H, W\), .* or \(H, W, 2\), got {got}"):
            Images(shape)
    for field in ("count", "classes"):
        with pytest.raises(InputError, match=f"`{field}` must be at least 1, got 0"):
            Images(**{field: 0})


@pytest.mark.parametrize("name", NAMES)
def test_networks_want_images_and_say_so(name):
    with pytest.raises(InputError, match=r"`images` must be Images, got \(28, 28\): write Images\(\(28, 28\), classes"):
        NETWORKS[name]((28, 28))


def test_few_images_are_shown_in_more_patches():
    for images, patches, epochs in ((60_000, 1, 14), (54_000, 1, 14), (1_000, 60, 100), (100, 600, 100)):
        spec = NETWORKS["goupy2024_ncg"](Images(count=images))
        assert spec.stages[0].branches[0].learners.patches == patches
        assert spec.epochs == (20, epochs)
