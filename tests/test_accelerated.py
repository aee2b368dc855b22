"""Fast steps for accelerators learn what the plain ones define, bit by bit, also on a CPU."""

import dataclasses

import jax
import numpy as np
import pytest

from snnjax import RSTDP, STDP, WTA, Conv, Encoder, Network, Settings, Trainer, stage
from snnjax.core import devices
from snnjax.data import digits
from snnjax.layers.layer_kernels import XLA
from snnjax.learners import Tally
from snnjax.networks import Majority, Model
from snnjax.steps import accelerated, plain, registry, reward_in_blocks
from snnjax.steps.plain import Carry, Slice, Task
from snnjax.steps.registry import Case
from snnjax.training.stage_cache import as_array

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


PLAIN, PLAIN_REWARD, FEATURES, REWARD_BATCHES = (
    jax.jit(step, static_argnums=0)
    for step in (
        plain.learn_unsupervised,
        plain.learn_supervised,
        accelerated.learn_features,
        accelerated.learn_reward_batches,
    )
)
SPANS = [(0, IMAGES, True), (6, 15, False), (0, 12, True)]


@pytest.mark.parametrize("learner", [STDP(doubling=4), STDP(stabiliser=False), STDP(pointwise=True)])
@pytest.mark.parametrize(("start", "count", "last", "batch"), [*((*each, BATCH) for each in SPANS), (5, 14, False, 1)])
def test_stdp(learner, start, count, last, batch):
    spec = network(RSTDP())
    layer = model(spec).layers["layer1"]
    conv = jax.tree.map(as_array, dataclasses.replace(FIRST, learners=learner))
    layer = dataclasses.replace(layer.packed(XLA), conv=conv, in_bounds=True)
    carry = Carry(dict(layer1=layer), dict(layer1=np.int32(2)))
    part = Slice(latencies(spec.shapes[0]), np.int32(start), np.int32(count), np.bool_(last))
    given = Task(("layer1",), learner=0, batch=batch), carry, None, part
    expected = PLAIN(*given)
    assert_same(FEATURES(*given), expected, count)
    assert np.any(expected[0].layers["layer1"].weights != layer.weights)


@pytest.mark.parametrize(
    ("learner", "branches", "by_turns"),
    [(RSTDP(), 1, False), (RSTDP(stabiliser=True, dropout=0.5), 1, False), (RSTDP(by_epoch=True), 3, True)],
)
@pytest.mark.parametrize(("start", "count", "last"), SPANS)
def test_reward_in_batches(learner, branches, by_turns, start, count, last):
    spec = network(learner, branches)
    made = model(spec)
    layers = {name: dataclasses.replace(made.layers[name].packed(XLA), in_bounds=True) for name in spec.names[1]}
    states = {name: x.conv.last_learner.init(x, np.zeros(2, np.uint32), 0) for name, x in layers.items()}
    carry = jax.tree.map(as_array, Carry(layers, states, Tally(*[np.int32(0)] * 5)))
    labels = jax.numpy.asarray(np.random.default_rng(2).integers(0, 10, IMAGES).astype(np.int32))
    span = np.int32(start), np.int32(count), np.bool_(last)
    part = Slice(latencies(spec.shapes[1]), *span, labels, np.int32(4))
    given = Task(spec.names[1], 1, batch=BATCH, by_turns=by_turns), carry, made, part
    expected = PLAIN_REWARD(*given)
    assert_same(REWARD_BATCHES(*given), expected, count)
    assert any(np.any(expected[0].layers[name].weights != layers[name].weights) for name in layers)


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
def test_only_an_accelerator_takes_them(platform):
    spec = network(RSTDP())
    earlier = stage(dataclasses.replace(FIRST, learners=(STDP(doubling=4), RSTDP())), pool=2)
    deep = dataclasses.replace(spec, stages=(earlier, *spec.stages[1:]))
    accelerator = platform != "cpu"

    def taken(spec: Network, task: Task) -> object:
        found = registry.fast_step(Case(task, model(spec), native=False, platform=platform))
        return found and found.run

    for batch in (1, BATCH):
        alone = taken(spec, Task(("layer1",), learner=0, batch=batch))
        rewarded = taken(spec, Task(("layer2",), 1, batch=batch))
        both = taken(deep, Task(("layer1", "layer2"), batch=batch))
        assert alone == (accelerated.learn_features if accelerator else None)
        assert (rewarded is accelerated.learn_reward_batches) == (accelerator and batch > 1)
        assert (rewarded is accelerated.learn_reward) == (accelerator and batch == 1)
        assert (rewarded is reward_in_blocks.learn) == (not accelerator)
        assert both == (accelerated.learn_deep_reward if accelerator and batch == 1 else None)


@pytest.mark.parametrize(("platform", "unit"), [("cpu", 1), ("gpu", reward_in_blocks.BLOCK)])
def test_a_training_takes_those_of_its_devices(platform, unit):
    first = Conv(4, 5, threshold=5.0, learners=(STDP(), RSTDP()))
    spec = Network("deep", (6, 28, 28), 10, (stage(first, pool=8), stage(Conv(10, 3, learners=RSTDP()))))
    trainer = Trainer(spec, digits().first(40, 20), Settings((1, 1)))
    placement, state = trainer.training.cache.placement, trainer.initial_state()
    assert placement.platform == devices.peers()[0].platform
    placement.platform = platform
    state.phase = len(trainer.plan) - 1
    inputs = np.zeros((40, 6, 28, 28), np.uint8)
    assert trainer.training.runners.of_phase(trainer.plan[-1], [state], inputs).unit == unit
