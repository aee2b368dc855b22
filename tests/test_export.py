"""Programs of a training are lowered for CPU, CUDA and TPU: no card is needed to see that they can be."""

import dataclasses
import functools
import types
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from shipped import shipped

from snnjax.core import devices
from snnjax.encoding import GREY
from snnjax.layers.layer_kernels import ROWS, TAPS, XLA
from snnjax.learners import Tally
from snnjax.networks import Model, batches
from snnjax.steps import accelerated, plain, registry, reward_in_blocks
from snnjax.steps.plain import Carry, Slice, Task
from snnjax.steps.registry import Case
from snnjax.training.stage_cache import as_array

PLATFORMS = ["cpu", "cuda", "tpu"]
IMAGES = 4
BLOCK = 2


@pytest.fixture(autouse=True)
def accelerator(monkeypatch):
    """Programs take the form that they have on an accelerator, where images are mapped all at once."""
    monkeypatch.setattr(reward_in_blocks, "BLOCK", BLOCK)
    monkeypatch.setattr(devices, "peers", lambda: np.array([types.SimpleNamespace(platform="gpu")]))


def assert_exported(function: Callable[..., Any], *arguments: Any, platforms: list[str] = PLATFORMS) -> None:
    """It is lowered for all platforms, and calls nothing back on the host."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), np.asarray(x).dtype), arguments)
    exported = jax.export.export(jax.jit(function), platforms=platforms)(*shapes)
    assert exported.platforms == tuple(platforms)
    assert "callback" not in exported.mlir_module()


def test_a_callback_would_be_seen():
    def tells(x):
        jax.debug.callback(print, x)
        return x

    with pytest.raises((AssertionError, NotImplementedError), match="callback"):
        assert_exported(tells, np.float32(0), platforms=["cpu"])


@functools.cache
def model_of(name: str) -> Model:
    """A shipped network with an encoder, and NumPy arrays as numbers."""
    network = shipped(name)
    network = network if network.encoder else dataclasses.replace(network, encoder=GREY)
    weights = {layer: np.zeros(shape, np.float32) for layer, shape in network.weight_shapes.items()}
    return jax.tree.map(as_array, Model.of(network, weights))


def entering(model: Model, stage: int) -> np.ndarray:
    """Latencies, or activities, that enter a stage."""
    shape = jax.eval_shape(lambda x: model.forward(x, 0, stage), np.zeros(model.network.input_shape, np.uint8))
    return np.zeros((IMAGES, *shape.shape), shape.dtype)


def unlabelled(inputs: np.ndarray) -> Slice:
    """A slice of learning without labels."""
    return Slice(inputs, np.int32(0), np.int32(IMAGES), np.bool_(True))


@pytest.mark.parametrize(
    "name",
    ["mozafari2018", "majority2024", "goupy2024_ncg", "kheradpisheh2018", "mozafari2018_objects", "softhebb_narrow"],
)
def test_decisions_of_images(name):
    """By the encoder, all stages and the decision, of which this is one network of each kind."""
    model = model_of(name)
    packed = jax.tree.map(as_array, model.packed(dict.fromkeys(model.network.names[-1], TAPS)))
    decide = functools.partial(batches.decide_batch, first=0, encode=True)
    assert_exported(decide, packed, np.zeros((IMAGES, 28, 28), np.uint8))


@pytest.mark.parametrize("name", ["inception2024", "softhebb_narrow"])
def test_times_of_all_stages(name):
    model = model_of(name)
    forward = functools.partial(batches.forward_batch, first=0, last=model.last, timed=True)
    assert_exported(forward, model, entering(model, 0))


@pytest.mark.parametrize(
    ("name", "layer", "batch", "in_bounds", "fast"),
    [
        ("mozafari2018", "layer1", 1, False, False),
        ("goupy2024_ncg", "layer1", 1, True, False),
        ("deepr2024", "layer3", BLOCK, True, True),
    ],
)
def test_steps_without_labels(name, layer, batch, in_bounds, fast):
    """Plain ones, and those that are taken on an accelerator."""
    model = model_of(name)
    (stage,) = (number for number, names in enumerate(model.network.names) if layer in names)
    learning = dataclasses.replace(model.layers[layer], in_bounds=in_bounds)
    state = as_array(learning.conv.each_learner[0].init(learning, np.zeros(2, np.uint32), 0))
    task = Task((layer,), stage, learner=0, batch=batch)
    carry = Carry({layer: learning}, {layer: state})
    part = unlabelled(entering(model, stage))
    assert_exported(functools.partial(plain.learn_unsupervised, task), carry, None, part)
    if fast:
        step = fast_step(model, task)
        assert step.run is accelerated.learn_features
        assert_exported(functools.partial(step.run, task), carry, None, part)


def test_plain_steps_of_layers_that_learn_jointly():
    """Of an epoch whose last batch is short."""
    model = model_of("softhebb_narrow")
    layers = {name: layer.packed(ROWS) for name, layer in model.layers.items() if layer.conv.joint}
    carry = Carry(layers, dict.fromkeys(layers, ()))
    task = Task((*layers,), 0, learner=0, batch=IMAGES - 1, end=len(layers), rest=1)
    assert_exported(functools.partial(plain.learn_jointly, task), carry, model, unlabelled(entering(model, 0)))


def supervised(name: str, batch: int, by_turns: bool = False) -> tuple[Model, Task, Slice]:
    """All layers of a network that learn from labels, and what they see."""
    model = model_of(name)
    stages = {name: stage for stage, name, conv in model.network.layers() if conv.last_learner.supervised}
    task = Task(tuple(stages), min(stages.values()), batch=batch, by_turns=by_turns)
    part = unlabelled(entering(model, task.first))
    return model, task, part._replace(labels=np.zeros(IMAGES, np.int32), batch_size=np.int32(3))


def supervised_carry(model: Model, task: Task, kernels: Any) -> Carry:
    """The layers of such a task, their learners' states, and the tally."""
    layers = {name: dataclasses.replace(model.layers[name].packed(kernels), in_bounds=True) for name in task.names}
    states = {name: x.conv.last_learner.init(x, np.zeros(2, np.uint32), 0) for name, x in layers.items()}
    return jax.tree.map(as_array, Carry(layers, states, Tally(*[np.int32(0)] * 5)))


@pytest.mark.parametrize(
    ("name", "by_turns", "batch"),
    [("deepr2024", True, 1), ("majority2024", False, BLOCK), ("mozafari2018_objects", False, 1)],
)
def test_plain_steps_with_labels(name, by_turns, batch):
    model, task, part = supervised(name, batch, by_turns)
    step = functools.partial(plain.learn_supervised, task)
    assert_exported(step, supervised_carry(model, task, XLA), model, part)


def fast_step(model: Model, task: Task) -> registry.Step:
    """The one taken on an accelerator."""
    found = registry.fast_step(Case(task, model, native=False, platform="gpu"))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "batch", "run"),
    [
        ("mozafari2018", 1, accelerated.learn_reward),
        ("majority2024", BLOCK, accelerated.learn_reward_batches),
        ("deepr2024", 1, accelerated.learn_deep_reward),
        ("goupy2024_ncg", BLOCK, accelerated.learn_readout),
    ],
)
def test_accelerated_steps_with_labels(name, batch, run):
    model, task, part = supervised(name, batch)
    step = fast_step(model, task)
    assert step.run is run
    assert_exported(functools.partial(step.run, task), supervised_carry(model, task, step.kernels), model, part)
