"""Stages that read several earlier ones: forward passes by hand, trainings, and what is kept in between."""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from skipped import drawn_weights
from tiny import FIRST

import snnjax
from snnjax import Callback, Settings, Trainer, component
from snnjax.core.errors import InputError
from snnjax.data import digits
from snnjax.encoding import PIXELS, encode
from snnjax.layers import Conv, LatencyCode, Pool, Triangle
from snnjax.learners import RSTDP, STDP, Signal, SoftHebb
from snnjax.networks import (
    Concatenate,
    EarliestSpike,
    Flatten,
    Input,
    LatestSpike,
    LinearSVM,
    Majority,
    Model,
    Network,
    SpikingNetwork,
    deeper2024,
    resnet2024,
    stage,
)
from snnjax.networks.forward import Known
from snnjax.networks.graph import Graph
from snnjax.runs import RunFolder
from snnjax.training import epoch

T = 15
SLOW = functools.partial(pytest.param, marks=pytest.mark.slow)
SECOND = Conv(4, kernel=3, padding=1, threshold=9, learners=STDP(doubling=50))
LAST = Conv(20, kernel=4, learners=RSTDP())
IDENTITY = np.eye(4, dtype=np.float32)[:, :, None, None]


@component
class Middle:
    """The middle of the spikes of three maps."""

    def __call__(self, *maps, time_steps):
        return jnp.sort(jnp.stack(maps), axis=0)[1]


@component
class Two:
    """Takes two maps."""

    def __call__(self, first, second, *, time_steps):
        return first


@component
class Choosing:
    """Chooses by a number, which is traced."""

    order: int = 1

    def __call__(self, *maps, time_steps):
        return maps[0] if self.order > 0 else maps[1]


@component
class Indexing(Choosing):
    """Takes a map by a number, which is traced."""

    def __call__(self, *maps, time_steps):
        return maps[self.order]


@component
class Paired(Choosing):
    """Returns two maps."""

    def __call__(self, *maps, time_steps):
        return maps[0], maps[0]


@component
class Third:
    """Takes the third map."""

    def __call__(self, *maps, time_steps):
        return maps[2]


@component
class Rarely:
    """Fires where all of the maps do within some steps of each other."""

    steps: int = 2

    def __call__(self, *maps, time_steps):
        late, early = jnp.stack(maps).max(axis=0), jnp.stack(maps).min(axis=0)
        return jnp.where(late - early <= self.steps, late, time_steps)


def skipping(join=Concatenate(), last=LAST, threshold=FIRST.threshold, **more) -> Network:  # noqa: B008
    """The first stage is read by the second, and pooled by the last; a fixed layer passes the second on."""
    passing = Conv(4, kernel=1, threshold=0.5, weights=IDENTITY)
    stages = (
        stage(dataclasses.replace(FIRST, threshold=threshold), pool=4),
        stage(SECOND),
        stage(passing, pool=2, inputs="stage2"),
        stage(last, inputs=("stage3", Input("stage1", pool=Pool(2)), Input("stage2", pool=Pool(2))), join=join),
    )
    return Network("skipping", (6, 28, 28), 10, stages, epochs=(1, 1, 0, 2), **more)


def rarely(maps):
    late, early = np.max(maps, axis=0), np.min(maps, axis=0)
    return np.where(late - early <= 2, late, T)


FLAT = dataclasses.replace(LAST, kernel=1)
JOINS = {
    "concatenated": (Concatenate(), dataclasses.replace(LAST, kernel=3), lambda maps: np.concatenate(maps)),
    "earliest": (EarliestSpike(), dataclasses.replace(LAST, kernel=3), lambda maps: np.min(maps, axis=0)),
    "latest": (LatestSpike(), dataclasses.replace(LAST, kernel=3), lambda maps: np.max(maps, axis=0)),
    "flattened": (Flatten(), FLAT, lambda maps: np.concatenate([x.ravel() for x in maps])[:, None, None]),
    "rarely": (Rarely(), dataclasses.replace(LAST, kernel=3), rarely),
    "own": (Middle(), dataclasses.replace(LAST, kernel=3), lambda maps: np.median(maps, axis=0).astype(np.uint8)),
}


@pytest.mark.parametrize(("join", "last", "expected"), JOINS.values(), ids=JOINS)
def test_a_stage_reads_the_outputs_of_earlier_ones(join, last, expected):
    model = SpikingNetwork(skipping(join, last), seed=1).model
    latency = np.random.default_rng(0).integers(0, 9 * T, (6, 28, 28)).clip(max=T).astype(np.uint8)
    first = model.join(0, model.responses(0, latency))
    second = model.join(1, model.responses(1, first))
    assert 0 < np.mean(np.asarray(second) < T) < 1, "the case tells nothing"

    def earliest_of(maps):
        maps = np.asarray(maps)[:, :6, :6]
        return maps.reshape(len(maps), 3, 2, 3, 2).min(axis=(2, 4))

    read = [earliest_of(x) for x in (second, first, second)]
    np.testing.assert_array_equal(model.output_of(3, Known({0: latency})), read[0])
    np.testing.assert_array_equal(jax.jit(type(model).forward)(model, latency), expected(read))
    seen = model.observe(latency).latencies
    np.testing.assert_array_equal(seen["layer3"], second)
    assert seen.keys() == {"input", "layer1", "layer2", "layer3", "layer4"}


def real(features: int, **more) -> Conv:
    return Conv(
        features,
        3,
        padding=1,
        learners=SoftHebb(batch=10),
        activation=Triangle(),
        weight_mean=0.0,
        weight_std=1.0,
        **more,
    )


GRAPHS = np.load(pathlib.Path(__file__).parent / "golden" / "graphs.npz")
RECORDED = {
    "deeper2024/None": deeper2024(),
    "resnet2024/logical_and": resnet2024(),
    "resnet2024/logical_or": resnet2024(merge="logical_or"),
}


@pytest.mark.parametrize("name", RECORDED)
def test_decisions_are_those_of_the_pytorch_code(name):
    """And the potentials behind them, summed over each map of the deciding layer: all sums are exact."""
    network = RECORDED[name]
    model = jax.tree.map(jnp.asarray, Model.of(network, drawn_weights(network)))
    (last,) = network.deciding

    @jax.jit
    def decided(image):
        latency = encode(image)
        read = model.forward(latency)
        return model.predict(latency).decision, model.layers[last].potentials(read).sum(axis=(1, 2))

    decisions, potentials = jax.lax.map(decided, digits().test_images[:20])
    np.testing.assert_array_equal(decisions, GRAPHS[f"{name}/decisions"])
    np.testing.assert_array_equal(potentials, GRAPHS[f"{name}/potentials"])


@pytest.mark.parametrize("name", ["resnet2024/logical_and", SLOW("deeper2024/None")])
def test_single_steps_are_those_of_the_pytorch_code(name):
    network = RECORDED[name]
    model = jax.tree.map(jnp.asarray, Model.of(network, drawn_weights(network)))
    learning = [(number, layer) for number, layer, conv in network.layers() if conv.each_learner]
    for image in (0, 1):
        latency = encode(digits().test_images[image])
        for place, (number, layer_name) in enumerate(learning, 1):
            step = f"{name}/{image}/{place}"
            layer = model.layers[layer_name]
            read = model.input_of(number, Known({0: latency}))
            learner = layer.conv.last_learner
            state = jax.tree.map(jnp.asarray, learner.init(layer, np.zeros(2, np.uint32), 0))
            response = learner.forward(layer, state, read, None)
            signal = None
            if layer_name in network.deciding:
                vote = model.predict(latency).decision
                signal = Signal(jnp.int32(1 if image % 2 == 0 else -1), jnp.int32(0), vote)
            after, *_ = learner.update(layer, state, read, response, signal)
            before, weights = np.float64(layer.weights), np.float64(after.weights)
            changed = np.flatnonzero((weights != before).any(axis=(1, 2, 3)))
            assert changed.tolist() == GRAPHS[f"{step}/features"].tolist(), step
            if signal is None:
                places = zip(*(np.asarray(x).tolist() for x in dataclasses.astuple(response.winners)[:3]), strict=True)
                assert [list(x) for x in places if x[0] >= 0] == GRAPHS[f"{step}/winners"].tolist(), step
            means, squares = GRAPHS[f"{step}/means"], GRAPHS[f"{step}/squares"]
            np.testing.assert_allclose(weights[changed].mean(axis=(1, 2, 3)), means, atol=1e-6)
            np.testing.assert_allclose((weights[changed] ** 2).mean(axis=(1, 2, 3)), squares, atol=1e-6)


class Heard(Callback):
    """The phases that begin, in order."""

    def __init__(self) -> None:
        self.phases: list[str] = []

    def started(self, phase, images):
        self.phases.append(phase)


@pytest.mark.parametrize("native", [False, True])
def test_what_is_read_twice_is_computed_once_and_dropped_when_nobody_reads_it_any_more(native, compiler):
    trainer = Trainer(
        skipping(last=dataclasses.replace(LAST, kernel=3)),
        tiny.images(),
        Settings((1, 1, 0, 1), native=native),
        heard := Heard(),
    )
    cache = trainer.cache
    kept = []
    inputs = cache.inputs

    def inputs_and_kept(*args):
        result = inputs(*args)
        kept.append({part: sorted(values) for part, values in cache._kept.items()})
        return result

    cache.inputs = inputs_and_kept
    state = trainer.run(trainer.initial_state())
    assert heard.phases == [
        "encode",
        "STDP layer1",
        "outputs of stage 1",
        "STDP layer2",
        "outputs of stage 2",
        "outputs of stage 3",
        "inputs of stage 4",
        "outputs of stage 1, test",
        "outputs of stage 2, test",
        "outputs of stage 3, test",
        "inputs of stage 4, test",
        "R-STDP",
    ]
    assert kept == [
        dict(train=[0], test=[0]),
        dict(train=[1], test=[0]),
        dict(train=[1, 2, 3], test=[0]),
        dict(train=[1, 2, 3], test=[1, 2, 3]),
    ]
    np.testing.assert_array_equal(state.weights["layer3"], IDENTITY)
    assert state.epochs


BACK = (
    stage(FIRST, pool=4),
    stage(dataclasses.replace(SECOND, learners=RSTDP()), inputs=(Input("encoder", pool=Pool(4)), "stage1")),
    stage(dataclasses.replace(LAST, threshold=9, learners=(STDP(), RSTDP())), inputs=("stage1", "stage2")),
)
"""Its last layer learns without labels first, then both layers by reward: training goes back to an earlier stage."""
CASES = {
    **{name: skipping(join, last, threshold=44) for name, (join, last, _) in JOINS.items()},
    "back": Network("back", (6, 28, 28), 10, BACK),
    "real, by codes": Network(
        "codes",
        (1, 28, 28),
        10,
        (
            stage(real(4)),
            stage(real(64), pool=4),
            stage(
                dataclasses.replace(LAST, kernel=7),
                inputs=(Input("stage1", Pool(4), LatencyCode()), Input("stage2", code=LatencyCode())),
            ),
        ),
        encoder=dataclasses.replace(PIXELS, time_steps=T),
    ),
    "fixed behind a supervised one": Network(
        "fixed",
        (6, 28, 28),
        10,
        (
            stage(FIRST, pool=4),
            stage(Conv(64, 3, padding=1, threshold=1, learners=RSTDP(bounds=(0.0, 1.0)))),
            stage(Conv(64, 1, threshold=0.5, weights=np.eye(64)[:, :, None, None]), pool=2),
            stage(dataclasses.replace(LAST, kernel=3)),
        ),
    ),
}


@pytest.mark.parametrize(
    ("name", "native"),
    [
        *((name, True) for name in CASES),
        ("concatenated", False),
        ("back", False),
        *(SLOW(name, False) for name in CASES if name not in ("concatenated", "back")),
    ],
)
def test_what_enters_the_last_phase_is_what_the_model_computes(name, native, compiler):
    """For training and for test images; a decision that asks only who fires gets the same ones."""
    network = CASES[name]
    data = tiny.images()
    trainer = Trainer(network, data, Settings((1,) * len(network.stages), batch_size=20, native=native))
    entered = {}
    inputs = trainer.cache.inputs

    def recorded(phase, part, states):
        entered[part] = inputs(phase, part, states)
        return entered[part]

    trainer.cache.inputs = recorded
    state = trainer.run(trainer.initial_state())
    first = network.first_supervised
    if not network.graph.outputs_entering(first, len(network.stages) - 1):
        model = jax.tree.map(jnp.asarray, Model.of(trainer.network, state.weights))
        for part, images in dict(train=data.train_images, test=data.test_images).items():
            expected = [model.input_of(first, Known({0: model.encode(x)})) for x in images[:3]]
            same = np.asarray(entered[part])[0, :3] < network.time_steps, np.asarray(expected) < network.time_steps
            np.testing.assert_array_equal(*same)
            assert 0 < np.mean(same) < 1, "the case tells nothing"
    decisions, _ = trainer.predict(state, data.test_images)
    assert state.epochs[state.best_epoch]["test"]["accuracy"] == np.mean(decisions == data.test_labels)


def test_numbers_of_a_join_can_vary():
    network = skipping(Rarely(steps=3), dataclasses.replace(LAST, kernel=3))
    assert network.hyperparameters()["stage4.join.steps"] == 3
    assert network.vary("join.steps", 5).stages[3].join.steps == 5


def test_an_identity_changes_nothing():
    """A stage that passes on what it reads, as a layer of fixed weights or without layers; or the same stage twice."""
    data = tiny.images()
    first = stage(FIRST, pool=7)
    last = stage(LAST)
    passing = Conv(4, kernel=1, threshold=0.5, weights=IDENTITY)
    branch = stage(LAST, inputs=("stage1", "stage2"), join=EarliestSpike())
    networks = {
        "plain": (first, last),
        "joined": (first, stage(inputs="stage1"), last),
        "twice": (first, stage(passing), branch),
        "pooled": (stage(FIRST), stage(LAST, inputs=Input("stage1", pool=Pool(7)))),
    }
    weights = {}
    initial = Network("plain", (6, 28, 28), 10, networks["plain"]).initial_weights()["layer2"]
    for name, stages in networks.items():
        network = Network(name, (6, 28, 28), 10, stages)
        trainer = Trainer(network, data, Settings((2,) * (len(stages) - 1) + (3,), batch_size=20))
        start = trainer.initial_state()
        deciding = network.deciding[0]
        start.weights = start.weights | {deciding: initial}
        state = trainer.run(start)
        weights[name] = state.weights["layer1"], state.weights[deciding]
        assert np.any(state.weights[deciding] != initial), "nothing is learned"
    for name, learned in weights.items():
        for one, other in zip(learned, weights["plain"], strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)


REWARDED = dataclasses.replace(SECOND, learners=RSTDP(bounds=(0.0, 1.0)))
AROUND = (
    (stage(FIRST, pool=7), stage(REWARDED), stage(LAST, inputs=("stage1", "stage2"))),
    (
        stage(FIRST, pool=4),
        stage(dataclasses.replace(LAST, kernel=7), inputs=(Input("encoder", pool=Pool(4)), "stage1")),
    ),
)
"""In the first network the last layer reads what the layer before reads, too, and both learn by reward."""


@pytest.mark.parametrize("stages", [AROUND[0], SLOW(AROUND[1])], ids=["two layers learn by reward", "the image too"])
def test_networks_side_by_side_and_stopped_ones_are_each_alone(stages, monkeypatch):
    monkeypatch.setattr(epoch, "EVERY", 0.0)
    monkeypatch.setattr(epoch, "SLICE", 12)
    network = Network("around", (6, 28, 28), 10, stages)
    networks = [network.vary("layer1.threshold", value) for value in (15.0, 12.0)]
    settings = Settings((1,) * (len(stages) - 1) + (2,), batch_size=20, patience=0)
    together = Trainer(networks, tiny.images(), settings)
    stopped = [together.initial_state(index) for index in range(len(networks))]

    def stop(states):
        if states[0].phase == len(together.plan) - 1 and states[0].shown:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        together.run(stopped, stop)
    for state, each in zip(together.run(stopped), networks, strict=True):
        trainer = Trainer(each, tiny.images(), settings)
        alone = trainer.run(trainer.initial_state())
        for name in network.weight_shapes:
            np.testing.assert_array_equal(state.weights[name], alone.weights[name])
        assert state.epochs == alone.epochs
    for name in network.deciding:
        assert np.any(alone.weights[name] != trainer.initial_state().weights[name])
    decisions, _ = trainer.predict(alone, tiny.images().test_images)
    assert alone.epochs[alone.best_epoch]["test"]["accuracy"] == np.mean(decisions == tiny.images().test_labels)


def test_given_weights_are_structure_and_part_of_what_is_saved(tmp_path):
    network = skipping(last=dataclasses.replace(LAST, kernel=3))
    with RunFolder(tmp_path / "run", Trainer(network, tiny.images(), Settings((1, 1, 0, 1)))) as run:
        run.run()
    loaded = snnjax.load(tmp_path / "run")
    np.testing.assert_array_equal(loaded.layer3[...], IDENTITY)
    joined = Network("joined", (6, 28, 28), 10, (stage(FIRST, pool=7), stage(inputs="stage1"), stage(LAST)))
    seen = SpikingNetwork(joined).model.observe(np.zeros(joined.input_shape, np.uint8)).latencies
    assert seen.keys() == {"input", "layer1", "stage2", "layer3"}
    assert loaded.spec.stages == network.stages
    passing = network.stages[2].branches[0]
    other = dataclasses.replace(passing, weights=2 * IDENTITY)
    assert jax.tree.structure(passing) == jax.tree.structure(dataclasses.replace(passing, weights=IDENTITY.copy()))
    assert jax.tree.structure(passing) != jax.tree.structure(other)
    assert passing.monotone
    assert dataclasses.replace(passing, weights=jnp.asarray(IDENTITY)) == passing
    assert not dataclasses.replace(passing, weights=-IDENTITY).monotone


@pytest.mark.parametrize("decision", [SLOW("readout"), "fitted"])
def test_depths_of_real_valued_layers_are_read_by_codes_of_their_own(decision):
    """Of all three depths in one program; the layers themselves learn jointly."""
    code = LatencyCode()
    depths = [
        Input("stage1", pool=Pool(14, mean=True), code=code),
        Input("stage2", pool=Pool(7), code=code),
        Input("stage3", code=code),
    ]
    layers = stage(real(4)), stage(real(6), pool=2), stage(real(8), pool=7)
    if decision == "fitted":
        last = stage(inputs=depths)
        how = dict(decision=LinearSVM())
    else:
        last = stage(Conv(20, kernel=1, learners=RSTDP()), inputs=depths, join=Flatten())
        how = {}
    encoder = dataclasses.replace(PIXELS, time_steps=T)
    network = Network("depths", (1, 28, 28), 10, (*layers, last), T, encoder=encoder, **how)
    assert network.joint_stages == ((0, 3),)
    assert network.graph.latencies_needed(3) == (0,)
    assert network.input_shapes[3] == ((18, 2, 2) if decision == "fitted" else (18 * 4, 1, 1))
    trainer = Trainer(network, tiny.images(), Settings((1, 1, 1, 1)), heard := Heard())
    state = trainer.run(trainer.initial_state())
    title = "fit LinearSVM" if decision == "fitted" else "R-STDP"
    middle = (
        ["outputs of stage 4", "outputs of stage 4, test"]
        if decision == "fitted"
        else ["inputs of stage 4", "inputs of stage 4, test"]
    )
    assert heard.phases[:2] == ["encode", "SoftHebb layer1, layer2, layer3"]
    assert [x for x in heard.phases if x.startswith(("outputs", "inputs"))] == middle
    assert title in heard.phases
    model = trainer.trained(state).model
    latency = np.asarray(model.encode(tiny.images().test_images[0]))
    activities = [np.asarray(model.output_of(number, Known({0: latency}))) for number in (1, 2, 3)]
    coded = [
        np.asarray(
            code(
                x.reshape(len(x), 2, size, 2, size).mean(axis=(2, 4))
                if mean
                else x.reshape(len(x), 2, size, 2, size).max(axis=(2, 4)),
                time_steps=T,
            )
        )
        for x, size, mean in zip(activities, (14, 7, 1), (True, False, False), strict=True)
    ]
    expected = np.concatenate(coded if decision == "fitted" else [x.ravel()[:, None, None] for x in coded])
    found = np.asarray(model.forward(latency)).astype(int)
    assert np.mean(np.abs(found - expected) <= 1) == 1
    assert np.mean(found != expected) < 0.05, "rounding"


def test_the_outputs_that_stages_need_enter_and_leave():
    stages = (
        stage(FIRST),
        stage(SECOND, inputs=("encoder", "stage1"), join=Flatten()),
        stage(SECOND),
        stage(LAST, inputs=("stage1", "stage3")),
    )
    graph = Graph(stages)
    assert [graph.outputs_needed_from(number) for number in range(5)] == [(0,), (0, 1), (1, 2), (1, 3), (4,)]
    assert graph.outputs_to_compute((1, 3), {}) == [0, 1, 2, 3]
    assert graph.outputs_to_compute((1, 3), {1, 2}) == [3]
    assert graph.outputs_entering(3, 3) == ()
    assert graph.outputs_entering(2, 3) == (1, 2)
    assert graph.outputs_entering(0, 3) == (0,)
    assert graph.outputs_used(4, {1, 2}) == {1, 2}
    assert graph.stages_for_input(3, {1, 2}) == {2}


@pytest.mark.parametrize(
    ("number", "known", "message"),
    [
        (4, Known({0: np.zeros((6, 28, 28), np.uint8)}), "`number` must be at most 3, got 4"),
        (-1, Known({0: np.zeros((6, 28, 28), np.uint8)}), "`number` must be at least 0, got -1"),
        (1, {0: np.zeros((6, 28, 28), np.uint8)}, "`known` must be networks.Known, got dict: write Known"),
        (1, Known({0: np.zeros((6, 20, 28), np.uint8)}), r"`known.outputs\[0\]` must have shape \(6, 28, 28\), got"),
        (1, Known({4: np.zeros((6, 28, 28), np.uint8)}), "`number in known.outputs` must be at most 3, got 4"),
        (3, Known({1: np.zeros((4, 7, 7), np.uint8)}), "`known` must have output 0, the encoded image"),
    ],
)
def test_what_is_known_must_fit_and_be_enough(number, known, message):
    stages = (stage(FIRST, pool=4), stage(SECOND, inputs="encoder", pool=4), stage(LAST, inputs=("stage1", "stage2")))
    model = SpikingNetwork(Network("known", (6, 28, 28), 10, stages)).model
    with pytest.raises((InputError, TypeError), match=message):
        model.output_of(number, known)


MESSAGES = [
    (
        dict(inputs="stage2"),
        r"`inputs` of stage 2 of wrong must be earlier stages \(encoder, stage1\), got stage2: no cycles",
    ),
    (dict(inputs="stage3"), "got stage3: no cycles"),
    (
        dict(inputs="stagel"),
        "did you mean 'stage1'. `inputs` of stage 2 of wrong must name some of encoder, stage1, got 'stagel'",
    ),
    (dict(inputs="stage9"), "must name some of encoder, stage1, got 'stage9'"),
    (
        dict(inputs=("stage1", "encoder")),
        r"`inputs` must have maps of one size, got \(4, 7, 7\) and \(6, 28, 28\): pool the larger",
    ),
    (dict(inputs=("stage1", "encoder"), join=EarliestSpike()), r"`inputs` of EarliestSpike must have one shape"),
    (dict(inputs=Input("stage1", code=LatencyCode())), "stage1 gives latencies, so that a `code` has no effect"),
    (dict(inputs=Input("stage1", pool=Pool(2, mean=True))), "stage1 gives latencies, which have no means"),
    (dict(inputs="stage1", join=Two()), r"`join` Two does not take inputs of \(4, 7, 7\): .*missing 1 required"),
    (dict(inputs="stage1", join=Third()), r"`join` Third does not take inputs of \(4, 7, 7\): .*index out of range"),
    (dict(inputs="stage1", join=Indexing()), "`join` Indexing must not choose by traced numbers or maps"),
    (dict(inputs="stage1", join=Paired()), r"`join\(...\)` must be an array \(C, H, W\), got tuple"),
    (
        dict(inputs="stage1", join=Choosing()),
        "`join` Choosing must not choose by traced numbers or maps: take jnp.where",
    ),
    (dict(inputs="encoder"), "stage 1 of wrong must be read by a later stage"),
]


@pytest.mark.parametrize(("second", "message"), MESSAGES)
def test_what_cannot_be_read_is_refused(second, message):
    with pytest.raises(InputError, match=message):
        Network(
            "wrong",
            (6, 28, 28),
            10,
            (stage(FIRST, pool=4), stage(SECOND, **second), stage(dataclasses.replace(LAST, kernel=1))),
        )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: stage(), "`branches` of a stage must be one Conv layer or several, or it must have `inputs`"),
        (lambda: stage(LAST, inputs=3), "`inputs`"),
        (lambda: stage(LAST, join=max), "`join` must be a component"),
        (lambda: Conv(4, 1, weights=IDENTITY, learners=STDP()), "`weights` of a layer that learns must be None"),
        (lambda: Conv(5, 1, weights=IDENTITY), r"`weights` must have shape \(5, C, 1, 1\), got \(4, 4, 1, 1\)"),
        (lambda: Conv(4, 1, weights=np.nan * IDENTITY), "`weights` must be finite"),
        (lambda: Conv(4, 1, weights=[[1.0]]), r"`weights` must be an array of axes \(F C kh kw\), got tuple"),
        (
            lambda: Network("wrong", (6, 28, 28), 10, (stage(Conv(4, 1, weights=IDENTITY)), stage(LAST))),
            "`weights` of layer1, .* must be for as many maps as it reads, got 4 of maps: it reads 6",
        ),
        (
            lambda: Network("wrong", (6, 28, 28), 10, (stage(inputs="encoder", pool=Pool(2, mean=True)), stage(LAST))),
            "`pool` of stage 1 of wrong reads latencies, which have no means",
        ),
        (
            lambda: Network("wrong", (6, 28, 28), 10, (stage(FIRST), stage(inputs="stage1")), decision=Majority()),
            "must end with layers that decide",
        ),
        (
            lambda: Network(
                "wrong",
                (6, 28, 28),
                10,
                (stage(FIRST), stage(real(4)), stage(LAST, inputs=("stage1", Input("stage2")))),
            ),
            r"all be latencies or all activities, got both: give stage2 .*, Input\('stage2', code=LatencyCode\(\)\)",
        ),
        (
            lambda: Network("wrong", (6, 28, 28), 10, (stage(FIRST), stage(real(4)), stage(LAST))),
            "stage 2 of wrong must have a `code` that makes spikes of its activities",
        ),
        (lambda: stage(LAST, inputs=stage(FIRST)), "`inputs` must be names of stages, or Input.*, got Stage"),
    ],
)
def test_wrong_parts_are_refused(make, message):
    with pytest.raises((InputError, TypeError), match=message):
        make()
