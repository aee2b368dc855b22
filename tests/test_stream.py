"""Streams: a network that decides and learns image by image does what an epoch of a training does."""

import copy
import dataclasses
import functools
import itertools
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import own_classes
import pytest
import tiny
from refusals import assert_refused

import snnjax
from snnjax import InputError, Network, Settings, SpikingNetwork, Stream, Trainer
from snnjax.core.paths import leaves
from snnjax.layers.conv import Conv
from snnjax.networks import ImageSpec, Input, stage
from snnjax.runs.stream import StreamState
from snnjax.training import learning

DATA = tiny.images()
IMAGES = DATA.train_images
LABELS = DATA.train_labels
BATCH = 16  # the last one of an epoch is short


def of_teacher(images: ImageSpec) -> Network:
    """A readout that learns by a rule of a user's."""
    network = tiny.plain(images)
    last = Conv(2 * images.classes, kernel=4, learners=own_classes.Teacher())
    return dataclasses.replace(network, name="teacher", stages=(network.stages[0], stage(last)))


def deep(images: ImageSpec) -> Network:
    """Two layers learn from rewards, the second of which reads the encoded image too."""
    network = tiny.plain(images)
    rule = network.stages[1].branches[0].learners
    middle = dataclasses.replace(tiny.FIRST, threshold=5, kernel=2, padding=1, learners=rule)
    inputs = Input("stage2", snnjax.Pool(5)), Input("encoder", snnjax.Pool(28))
    last = Conv(2 * images.classes, kernel=1, learners=rule)
    stages = network.stages[0], stage(middle), stage(last, inputs=inputs)
    return dataclasses.replace(network, name="deep", stages=stages, epochs=(1, 1, 1))


NETWORKS = dict(labelled=tiny.labelled, plain=tiny.plain, branches=tiny.branches, teacher=of_teacher, deep=deep)
BEGUN: dict[tuple[str, str], tuple[SpikingNetwork, SpikingNetwork]] = {}


def begun(name: str, backend: str = "native") -> tuple[SpikingNetwork, SpikingNetwork]:
    """A network whose features have learned, and the same after two epochs of its readout image by image."""
    if (name, backend) not in BEGUN:
        network = NETWORKS[name](ImageSpec.of(DATA))
        epochs = *[1] * (len(network.stages) - 1), 2
        trainer = Trainer(network, DATA, Settings(epochs, adapt_every=BATCH, patience=0, backend=backend))
        kept = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(learning, "decides_by_votes", lambda decision, layers: False)
            patch.setattr(learning, "is_pair", lambda phase, network: False)
            state = trainer.run(trainer.initial_state(), lambda state: kept.append(dataclasses.replace(state)))
        first = next(each for each in kept if each.phase == len(trainer.job.phases) - 1)
        features = SpikingNetwork(first.network(trainer.network), weights=first.weights)
        learned = SpikingNetwork(state.network(trainer.network), weights=state.weights)
        BEGUN[name, backend] = features, learned
    return BEGUN[name, backend]


def made(name: str = "labelled", backend: str = "native", **how) -> tuple[Stream, StreamState]:
    stream = Stream(begun(name, backend)[0], adapt_every=BATCH, backend=backend, **how)
    return stream, stream.init(0, IMAGES)


CASES = [
    ("labelled", "native"),
    ("plain", "native"),
    *(pytest.param(name, "native", marks=pytest.mark.slow) for name in ("branches", "teacher", "deep")),
    # Equal to the last bit, which XLA's programs are at the optimisation level of users, but not at that of fast tests.
    pytest.param("labelled", "xla", marks=pytest.mark.slow),
]


def assert_same(one, other) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize(("name", "backend"), CASES)
def test_a_stream_is_an_epoch_of_a_training(name, backend):
    stream, state = made(name, backend)
    _, first = stream.learn(state, IMAGES, LABELS)
    _, ended = stream.learn(stream.end_epoch(first), IMAGES, LABELS)
    expected = begun(name, backend)[1]
    learned = state.carry.layers.keys()
    assert learned
    for layer in learned:
        np.testing.assert_array_equal(ended.carry.layers[layer].weights, expected.weights()[layer], layer)
        assert not np.array_equal(ended.carry.layers[layer].weights, state.carry.layers[layer].weights)
    numbers = leaves(expected.network)
    for path, value in leaves(stream.network(ended).network).items():
        np.testing.assert_array_equal(value, numbers[path], path)


def test_a_scan_over_images_learns_as_they_do_together():
    stream, state = made()
    scanned = jax.jit(lambda state, *images: jax.lax.scan(lambda s, x: stream.learn(s, *x)[::-1], state, images))
    assert_same(scanned(state, IMAGES, LABELS)[::-1], stream.learn(state, IMAGES, LABELS))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["labelled", "plain"])
def test_streams_side_by_side_are_single_ones(name):
    stream, state = made(name, memory=2, replays=1)
    states = [stream.init(seed, IMAGES) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    labels = np.stack([np.roll(LABELS, shift) for shift in range(3)])
    learn = jax.vmap(stream.learn, in_axes=(0, None, 0))
    decisions, learned = learn(stacked, IMAGES, labels)
    _, further = jax.vmap(stream.learn)(learned, IMAGES[:3], labels[:, 0])
    for index, state in enumerate(states):
        expected, single = stream.learn(state, IMAGES, labels[index])
        np.testing.assert_array_equal(decisions[index], expected)
        assert_same(jax.tree.map(lambda x, index=index: x[index], learned), single)
        _, single = stream.learn(single, IMAGES[index], labels[index, 0])
        assert_same(jax.tree.map(lambda x, index=index: x[index], further), single)


def test_it_decides_before_it_learns_and_without_a_label_only_decides():
    stream, state = made()
    decisions, same = stream.learn(state, IMAGES)
    assert_same(same, state)
    np.testing.assert_array_equal(decisions, stream.start(IMAGES))
    decision, _ = stream.learn(state, IMAGES[0], LABELS[0])
    assert decision == decisions[0]
    labels = np.where(np.arange(40) % 3, -1, LABELS)
    _, ended = stream.learn(state, IMAGES, labels)
    expected = state
    for image, label in zip(IMAGES[::3], LABELS[::3], strict=True):
        _, expected = stream.learn(expected, image, label)
    assert_same(ended, expected)
    assert int(ended.carry.counts.interval) == 0
    assert int(ended.carry.counts.seen) == 14


def test_a_reward_teaches_what_the_label_would():
    stream, state = made("plain")
    rewarded = state
    for image, label in zip(IMAGES[:20], LABELS, strict=False):
        decision, _ = stream.learn(rewarded, image)
        again, rewarded = stream.reward(rewarded, image, 0 if decision < 0 else int(decision == label) * 2 - 1)
        assert again == decision
        _, state = stream.learn(state, image, label)
    assert_same(rewarded, state)
    assert int(state.carry.counts.interval) == 1
    stream, state = made("labelled")
    with pytest.raises(InputError, match=r"`reward` is for learners such as RSTDP, got SupervisedSTDP of layer2"):
        stream.reward(state, IMAGES[0], 1)


def test_a_layer_that_voted_otherwise_learns_nothing_from_a_reward():
    start = begun("plain")[0]
    first, last = start.network.stages
    (conv,) = last.branches
    network = dataclasses.replace(start.network, stages=(first, stage(conv, dataclasses.replace(conv, features=30))))
    weights = network.initial_weights(1) | dict(layer1=start.weights()["layer1"])
    stream = Stream(SpikingNetwork(network, weights=weights), backend="native")
    state = stream.init()
    names = [*state.carry.layers]
    assert len(names) == 2
    model = stream.network(state).model
    observe = jax.jit(lambda image: model.observe(model.encode(image)))
    seen = set()
    for image in IMAGES:
        decided = observe(image).decided
        for reward in (1, -1):
            decision, learned = stream.reward(state, image, reward)
            assert decision == decided.decision
            for name, vote in zip(names, decided.votes, strict=True):
                stays = np.array_equal(learned.carry.layers[name].weights, state.carry.layers[name].weights)
                assert stays == (vote != decision or vote < 0)
                seen.add((stays, reward))
    assert seen == {(stays, reward) for stays in (True, False) for reward in (1, -1)}


def test_as_many_images_are_learned_again_as_replays_ask_for():
    """Each is drawn for itself."""
    stream, state = made("plain", memory=1, replays=3)
    plain, alone = made("plain")
    places = [int(np.flatnonzero(label == LABELS)[0]) for label in (3, 5)]
    last = int(np.flatnonzero(LABELS == 7)[0])
    for place in places[:1]:
        _, state = stream.learn(state, IMAGES[place], LABELS[place])
    _, second = stream.learn(state, IMAGES[places[1]], LABELS[places[1]])
    shown = [places[0], places[1], *places[:1] * 3]
    for place in shown:
        _, alone = plain.learn(alone, IMAGES[place], LABELS[place])
    assert_same(second.carry, alone.carry)
    drawn = []
    for seed in range(3):
        memory = second.memory._replace(key=jnp.array([seed, 1], jnp.uint32))
        _, third = stream.learn(second._replace(memory=memory), IMAGES[last], LABELS[last])
        for again in itertools.product(places, repeat=3):
            expected = alone
            for place in (last, *again):
                _, expected = plain.learn(expected, IMAGES[place], LABELS[place])
            if np.array_equal(third.carry.layers["layer2"].weights, expected.carry.layers["layer2"].weights):
                drawn.append(again)
                break
    assert len(drawn) == 3
    assert any(len(set(again)) == 2 for again in drawn)


def test_the_memory_keeps_the_newest_latencies_of_each_class():
    stream, state = made(memory=3, replays=2)
    _, ended = stream.learn(state, IMAGES, LABELS)
    stages = np.asarray(stream.start.features(IMAGES))
    memory = ended.memory
    assert memory.inputs.shape == (10, 3, *stages.shape[1:])
    assert memory.inputs.dtype == np.uint8
    np.testing.assert_array_equal(memory.counts, np.bincount(LABELS, minlength=10))
    for label, kept in enumerate(np.asarray(memory.inputs)):
        of_class = stages[label == LABELS]
        places = [np.flatnonzero((of_class == image).all(axis=(1, 2, 3))).tolist() for image in kept]
        shown = {place for found in places for place in found}
        assert shown == set(range(len(of_class) - 3, len(of_class)))


def test_what_is_in_the_memory_is_learned_again():
    """Of two classes one is shown first: its only image is learned again after each of the others."""
    stream, state = made("plain", memory=1, replays=1)
    first = np.flatnonzero(LABELS == 3)[0]
    others = np.flatnonzero(LABELS != 3)[:4]
    _, state = stream.learn(state, IMAGES[first], 3)
    assert int(state.carry.counts.seen) == 1, "nothing to replay yet"
    plain, expected = made("plain")
    _, expected = plain.learn(expected, IMAGES[first], 3)
    _, learned = stream.learn(state, IMAGES[others[0]], LABELS[others[0]])
    for index in (others[0], first):
        _, expected = plain.learn(expected, IMAGES[index], LABELS[index])
    assert_same(learned.carry, expected.carry)
    seen = learned
    for index in others[1:]:
        _, seen = stream.learn(seen, IMAGES[index], LABELS[index])
    assert int(seen.carry.counts.seen) == 9


def test_a_saved_stream_goes_on(tmp_path):
    stream, state = made("labelled")
    names = tuple("abcdefghij")
    stream.start.class_names = names
    _, state = stream.learn(state, IMAGES, LABELS)
    stream.save(state, tmp_path / "weights.npz", dict(dataset="digits"))
    network = stream.network(state)
    loaded = snnjax.load(tmp_path / "weights.npz")
    assert_same(loaded.weights(), network.weights())
    assert loaded.class_names == names
    assert loaded.untrained == network.untrained
    further = Stream(loaded)
    assert_same(further.network(further.init()).weights(), loaded.weights())
    broken = jax.tree.map(lambda x: x * np.nan if x.dtype == np.float32 else x, state)
    with pytest.raises(InputError, match="must be finite"):
        stream.save(broken, tmp_path / "broken.npz")


@pytest.mark.parametrize(
    ("name", "backend", "memory"),
    [
        ("labelled", "native", 2),
        pytest.param("labelled", "xla", 0, marks=pytest.mark.slow),
        pytest.param("deep", "native", 2, marks=pytest.mark.slow),
        ("teacher", "native", 0),
    ],
)
def test_a_state_goes_on_from_a_file_or_a_pickle_as_if_it_had_not_stopped(name, backend, memory, tmp_path):
    stream, state = made(name, backend, memory=memory, replays=memory)
    _, half = stream.learn(state, IMAGES[:20], LABELS[:20])
    _, expected = stream.learn(half, IMAGES[20:], LABELS[20:])
    stream.save_state(half, tmp_path / "state.npz")
    arrays, meta = stream.flatten(half)
    assert meta["stream"]["format"] == 2
    shapes = stream.start.network.weight_shapes
    assert arrays["stream/carry.layers.layer2.weights"].shape == shapes["layer2"], "whatever the kernels"
    fresh = Stream(begun(name, backend)[0], adapt_every=BATCH, backend=backend, memory=memory, replays=memory)
    older = {re.sub(r"(carry\.layers\..*)\.weights$", r"\1.stored", name): array for name, array in arrays.items()}
    kept = fresh.load_state(tmp_path / "state.npz"), pickle.loads(pickle.dumps(half)), copy.deepcopy(half)
    kept += (fresh.unflatten(older, meta),)
    for one in kept:
        assert_same(one, half)
        assert_same(fresh.learn(one, IMAGES[20:], LABELS[20:])[1], expected)


def test_a_state_of_another_stream_is_refused(tmp_path):
    plain, state = made()
    keeping, kept = made(memory=2, replays=1)
    larger, more = made(memory=3, replays=1)
    others, other = made("plain")
    traced = jax.jit(lambda state: keeping.learn(state, IMAGES[0], 1))
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), kept)
    assert_refused(
        (lambda: keeping.learn(state, IMAGES[0], 1), "`memory` of the stream that made `state` must be 2, got 0"),
        (lambda: plain.learn(kept, IMAGES[0], 1), "`memory` of the stream that made `state` must be 0, got 2"),
        (lambda: keeping.learn(more, IMAGES[0], 1), "`memory` of the stream that made `state` must be 2, got 3"),
        (lambda: larger.end_epoch(kept), "`memory` of the stream that made `state` must be 3, got 2"),
        (lambda: traced(more), "`memory` of the stream that made `state` must be 2, got 3"),
        (lambda: keeping.learn(stacked, IMAGES[0], 1), r"of one stream, got a stack of shape \(2,\): use jax.vmap"),
        (lambda: others.reward(state, IMAGES[0], 1), "`state.carry.* must be .* in this stream, got"),
        (lambda: plain.network(other), "`state.carry.* must be .* in this stream, got"),
    )
    short = kept._replace(memory=kept.memory._replace(counts=kept.memory.counts[:9]))
    assert_refused((lambda: keeping.learn(short, IMAGES[0], 1), r"`state.memory.counts` must be int32\[10\]"))
    keeping.save_state(kept, tmp_path / "kept.npz")
    keeping.save(kept, tmp_path / "network.npz")
    changed = begun("labelled")[0].weights() | dict(layer1=np.zeros_like(begun("labelled")[0].weights()["layer1"]))
    elsewhere = Stream(SpikingNetwork(begun("labelled")[0].network, weights=changed), 2, 1)
    assert_refused(
        (lambda: plain.load_state(tmp_path / "kept.npz"), "the state must have no memory"),
        (
            lambda: larger.load_state(tmp_path / "kept.npz"),
            r"memory.inputs` must be uint8\[10, 3, .* got uint8\[10",
        ),
        (lambda: others.load_state(tmp_path / "kept.npz"), "another encoder or other features: layer1.* \\(now .*\\)"),
        (lambda: elsewhere.load_state(tmp_path / "kept.npz"), r"other features: layer1 \w+ \(now \w+\)$"),
        (lambda: keeping.load_state(tmp_path / "network.npz"), "network.npz: it holds no state of a stream"),
    )
    with pytest.raises(FileNotFoundError):
        keeping.load_state(tmp_path / "nothing.npz")
    differing = Stream(keeping.start, 2, replays=3, adapt_every=BATCH + 1)
    assert_same(differing.load_state(tmp_path / "kept.npz"), kept)  # which depends on neither


def test_a_state_is_read_by_versions_whose_components_have_more_fields():
    """A field that the file lacks has its default, as in all other files; another value is another network."""
    stream, state = made()
    for field, refused in (("stride", False), ("padding", True)):  # 1 as by default, 2
        arrays, meta = copy.deepcopy(stream.flatten(state))
        del meta["stream"]["features"]["data"]["layer1"][field]
        if refused:
            assert_refused((functools.partial(stream.unflatten, arrays, meta), r"layer1.padding 0 \(now 2\)"))
        else:
            assert_same(stream.unflatten(arrays, meta), state)


def test_numbers_that_rules_learn_are_kept(tmp_path):
    stream, state = made("teacher")
    layer = state.carry.layers["layer2"]
    learner = dataclasses.replace(layer.conv.last_learner, rate=jnp.float32(0.25))
    layer = dataclasses.replace(layer, conv=dataclasses.replace(layer.conv, learners=learner))
    state = state._replace(carry=state.carry._replace(layers=dict(layer2=layer)))
    stream.save(state, tmp_path / "weights.npz")
    loaded = snnjax.load(tmp_path / "weights.npz")
    assert loaded.network.stages[1].branches[0].learners.rate == 0.25
    assert loaded.untrained.stages[1].branches[0].learners.rate == 0.05


def test_what_cannot_be_a_stream_is_refused():
    network = begun("labelled")[0]
    stream, state = made()
    svm = snnjax.load("pretrained:kheradpisheh2018_mnist")
    assert_refused(
        (lambda: Stream(network.network), "`network` must be a SpikingNetwork, got Network: write snnjax.load"),
        (lambda: Stream(svm), "`network` must have layers that learn from labels, got one whose LinearSVM is fitted"),
        (lambda: Stream(network, memory=5), "`replays` must be at least 1 with a `memory`"),
        (lambda: Stream(network, replays=5), "`memory` must be at least 1 with `replays`"),
        (lambda: Stream(network, adapt_every=0), "`adapt_every` must be at least 1"),
        (lambda: Stream(network, 10**9, 1), "`memory` must be at most .* GiB of this machine, got 1000000000"),
        (lambda: Stream(network, backend="cpp"), "`backend` must be one of auto, xla, native, got 'cpp'"),
        (lambda: stream.init(1.5), "`seed` must be an integer, got 1.5"),
        (lambda: stream.init(0, IMAGES[0]), "`images` must have shape"),
        (lambda: stream.init(0, IMAGES[:0]), "`images` must be at least 1 image, got none"),
        (lambda: stream.init(0, "pictures"), "`images` must be"),
        (lambda: stream.learn(None, IMAGES[0], 1), "`state` must be a StreamState, got None: write stream.init"),
        (lambda: stream.learn((1, 2), IMAGES[0], 1), r"`state` must be a StreamState, got \(1, 2\)"),
        (lambda: stream.learn(StreamState(1, 2), IMAGES[0], 1), "`state.carry` must be that of a StreamState, got 1"),
        (lambda: stream.learn(state, None, 1), "`image` must be an array, got NoneType"),
        (lambda: stream.learn(state, IMAGES[0], "1"), "`label` must hold integers"),
        (lambda: stream.end_epoch(None), "`state` must be a StreamState"),
        (lambda: stream.network(None), "`state` must be a StreamState"),
        (lambda: stream.save_state(None, "state.npz"), "`state` must be a StreamState"),
        (lambda: jax.jit(stream.flatten)(state), "got traced ones: call `save`, `save_state`, `flatten` and"),
        (lambda: jax.jit(stream.network)(state), "`state` must have known values, got traced ones"),
        (lambda: stream.save(state, None), "`path` must be the path of a file, got None"),
        (lambda: stream.save_state(state, 3), "`path` must be the path of a file, got 3"),
        (lambda: stream.load_state(None), "`path` must be the path of a file, got None"),
        (lambda: stream.save(state, "network.npz", [1]), "`settings` must be a dictionary"),
        (lambda: stream.save(state, "network.npz", dict(a=np.ones(2))), "`settings` must be JSON data"),
        (lambda: stream.learn(state, IMAGES[0], 10), r"`label` must lie in 0\.\.9, or be -1, got 10"),
        (lambda: stream.learn(state, IMAGES, LABELS[:3]), r"`label` must have shape \(40,\)"),
        (lambda: stream.learn(state, IMAGES[0], 1.0), "`label` must hold integers"),
        (lambda: stream.learn(state, IMAGES[0] / 255, 1), "`image` must .* 0..255"),
        (lambda: stream.learn(state, IMAGES[:, :9], LABELS), "`image` must have shape"),
    )
    taught, state = made("plain")
    assert_refused(
        (lambda: taught.reward(None, IMAGES[0], 1), "`state` must be a StreamState"),
        (lambda: taught.reward(state, None, 1), "`image` must be an array, got NoneType"),
        (
            lambda: taught.reward(state, IMAGES, 1),
            r"`image` must be a single one, .* got \(40, 28, 28\)",
        ),
        (lambda: taught.reward(state, IMAGES[0], 2), "`reward` must be 1, -1 or 0, got 2"),
        (lambda: taught.reward(state, IMAGES[0], 0.5), "`reward` must hold integers"),
        (lambda: taught.reward(state, IMAGES[0], None), "`reward` must hold integers"),
        (lambda: taught.reward(state, IMAGES[0], [1]), r"`reward` must have shape \(\)"),
    )
