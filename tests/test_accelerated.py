"""Fast forms for accelerators learn what the plain programs define, bit by bit, also on a CPU."""

import dataclasses
import functools
import types

import jax
import numpy as np
import pytest

from snnjax import RSTDP, STDP, WTA, Conv, Encoder, Network, Settings, devices, stage
from snnjax.forms import FAST
from snnjax.learners import Tally
from snnjax.networks import Majority, Model
from snnjax.training import accelerated, fast, programs
from snnjax.training.outputs import as_array

IMAGES, BATCH = 24, 6
FIRST = Conv(7, 3, padding=1, threshold=3.0, competition=WTA(3, radius=1), learners=STDP(doubling=4))


def network(learner: object, branches: int = 1, **settings: object) -> Network:
    deciding = [Conv(20, kernel, padding=1, learners=learner) for kernel in (3, 2, 3)[:branches]]
    stages = stage(FIRST, pool=2), stage(*deciding)
    return Network("own", (2, 8, 8), 10, stages, encoder=Encoder(), decision=Majority(), **settings)


def model(network: Network) -> Model:
    random, weights = np.random.default_rng(0), {}
    for name, shape in network.weight_shapes.items():
        weights[name] = random.uniform(0.3, 0.7, shape).astype(np.float32)
    return jax.tree.map(as_array, Model.of(network, weights))


def latencies(shape: tuple[int, ...]) -> jax.Array:
    """Of which one image is silent."""
    found = np.random.default_rng(1).integers(0, 30, (IMAGES, *shape)).clip(max=15).astype(np.uint8)
    found[3] = 15
    return jax.numpy.asarray(found)


def assert_same(one: object, other: object, count: int) -> None:
    """The carries, and what was found of the images that were shown."""
    (carry, found), (expected, known) = jax.tree.map(np.asarray, (one, other))
    jax.tree.map(np.testing.assert_array_equal, carry, expected)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[:count], b[:count]), found, known)


@functools.cache
def compiled(function: object, **static: object) -> object:
    return jax.jit(functools.partial(function, **static))


SPANS = [(0, IMAGES, True), (6, 15, False), (0, 12, True)]


@pytest.mark.parametrize("learner", [STDP(doubling=4), STDP(stabiliser=False), STDP(pointwise=True)])
@pytest.mark.parametrize(("start", "count", "last", "batch"), [*((*each, BATCH) for each in SPANS), (5, 14, False, 1)])
def test_stdp(learner, start, count, last, batch):
    spec = network(RSTDP())
    layer = model(spec).layers["layer1"]
    conv = jax.tree.map(as_array, dataclasses.replace(FIRST, learners=learner))
    layer = dataclasses.replace(layer.packed(FAST), conv=conv, within=True)
    carry = dict(layer1=layer), dict(layer1=np.int32(2))
    given = carry, latencies(spec.shapes[0]), np.int32(start), np.int32(count), np.bool_(last)
    learn = (programs.learn_unsupervised, accelerated.learn_alone)
    found = [compiled(each, which=0, batch=batch)(*given) for each in learn]
    assert_same(*found, count)
    assert np.any(found[0][0][0]["layer1"].weights != layer.weights)


@pytest.mark.parametrize(
    ("learner", "branches", "by_turns"),
    [(RSTDP(), 1, False), (RSTDP(stabiliser=True, dropout=0.5), 1, False), (RSTDP(by_epoch=True), 3, True)],
)
@pytest.mark.parametrize(("start", "count", "last"), SPANS)
def test_reward_in_batches(learner, branches, by_turns, start, count, last):
    spec = network(learner, branches)
    made = model(spec)
    layers = {name: dataclasses.replace(made.layers[name].packed(FAST), within=True) for name in spec.names[1]}
    states = {name: x.conv.supervised.init(x, np.zeros(2, np.uint32), 0) for name, x in layers.items()}
    carry = jax.tree.map(as_array, (layers, states, Tally(*[np.int32(0)] * 5)))
    labels = jax.numpy.asarray(np.random.default_rng(2).integers(0, 10, IMAGES).astype(np.int32))
    span = np.int32(start), np.int32(count), np.bool_(last)
    given = carry, made, latencies(spec.shapes[1]), labels, *span, np.int32(4)
    static = dict(batch=BATCH, by_turns=by_turns)
    plain = compiled(programs.learn_supervised, first=1, **static)(*given)
    assert_same(compiled(accelerated.learn_by_reward, **static)(*given), plain, count)
    assert any(np.any(plain[0][0][name].weights != layers[name].weights) for name in layers)


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
def test_only_an_accelerator_takes_them(platform, monkeypatch):
    monkeypatch.setattr(devices, "peers", lambda: np.array([types.SimpleNamespace(platform=platform)]))
    spec = network(RSTDP())
    made, accelerator = model(spec), platform != "cpu"
    for batch in (1, BATCH):
        settings = Settings((1, 1), update_batch=batch)
        alone = fast.unsupervised(made.layers["layer1"], 0, settings)
        rewarded = fast.supervised(made, 1, by_turns=False, settings=settings)
        assert (alone is not None) == accelerator
        assert (rewarded.function is accelerated.learn_by_reward) == (accelerator and batch > 1)
        assert (rewarded.function is accelerated.learn_by_reward_one_by_one) == (accelerator and batch == 1)
        deep = accelerated.reward_form(made, 0, False, settings)
        assert (deep and deep.function) == (accelerated.learn_deep_by_reward if accelerator and batch == 1 else None)
