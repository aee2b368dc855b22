"""Every program of a training is lowered for CPU, CUDA and TPU: no card is needed to see that it can be."""

import dataclasses
import functools
import types
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from shipped import NAMES, each_of, shipped

from snnjax.core import devices
from snnjax.encoding import GREY
from snnjax.layers.layer_kernels import ROWS, TAPS, XLA
from snnjax.learners import Tally
from snnjax.networks import Model, batches
from snnjax.networks.decision import is_fitted
from snnjax.steps import plain, registry, reward_in_blocks
from snnjax.steps.plain import Carry, Slice, Task
from snnjax.steps.registry import Case
from snnjax.training.stage_cache import as_array

PLATFORMS = ["cpu", "cuda", "tpu"]
IMAGES, BLOCK = 4, 2


@pytest.fixture(autouse=True)
def accelerator(monkeypatch):
    """Programs take the form that they have on an accelerator, where images are mapped all at once."""
    monkeypatch.setattr(devices, "peers", lambda: np.array([types.SimpleNamespace(platform="gpu")]))


def assert_exported(function, *arguments, platforms=PLATFORMS) -> None:
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


@pytest.fixture(scope="module", params=each_of(NAMES))
def model(request) -> Model:
    """A network with its encoder, and NumPy arrays as numbers."""
    spec = shipped(request.param)
    spec = spec if spec.encoder else dataclasses.replace(spec, encoder=GREY)
    weights = {name: np.zeros(shape, np.float32) for name, shape in spec.weight_shapes.items()}
    return jax.tree.map(as_array, Model.of(spec, weights))


def entering(model: Model, number: int) -> np.ndarray:
    """Latencies, or activities, that enter a stage."""
    found = jax.eval_shape(lambda x: model.forward(x, 0, number), np.zeros(model.network.input_shape, np.uint8))
    return np.zeros((IMAGES, *found.shape), found.dtype)


def alone(inputs: np.ndarray) -> Slice:
    """A slice of learning without labels."""
    return Slice(inputs, np.int32(0), np.int32(IMAGES), np.bool_(True))


def labelled(inputs: np.ndarray) -> Slice:
    """A slice of supervised learning."""
    return alone(inputs)._replace(labels=np.zeros(IMAGES, np.int32), batch_size=np.int32(3))


def assert_step_exported(step: Callable[..., Any], task: Task, *arguments: Any, **how: Any) -> None:
    """The same of a step, given what follows its task."""
    assert_exported(functools.partial(step, task), *arguments, **how)


def carried(model: Model, form) -> Carry:
    """What learns supervised, its learners' states, and the tally."""
    layers = {
        name: dataclasses.replace(layer.packed(form), in_bounds=True)
        for name, layer in model.layers.items()
        if layer.conv.last_learner.supervised
    }
    states = {name: x.conv.last_learner.init(x, np.zeros(2, np.uint32), 0) for name, x in layers.items()}
    return jax.tree.map(as_array, Carry(layers, states, Tally(*[np.int32(0)] * 5)))


def supervised_task(model: Model, batch: int = 1, by_turns: bool = False) -> Task:
    """That of all supervised layers."""
    layers = carried(model, XLA).layers
    names = tuple(name for stage in model.network.names for name in stage if name in layers)
    first = min(number for number, stage in enumerate(model.network.names) if any(name in names for name in stage))
    return Task(names, first, batch=batch, by_turns=by_turns)


def test_encoding(model):
    function = functools.partial(batches.encode_batch, native=False)
    assert_exported(function, model, np.zeros((IMAGES, 28, 28), np.uint8))


@pytest.mark.parametrize("timed", [True, False])
def test_forward(model, timed):
    for number in range(model.last):
        function = functools.partial(batches.forward_batch, first=number, last=number + 1, timed=timed)
        assert_exported(function, model, entering(model, number))


def test_decisions(model):
    packed = jax.tree.map(as_array, model.packed(dict.fromkeys(model.network.names[-1], TAPS)))
    for number, encode in ((0, True), (model.last, False)):
        inputs = np.zeros((IMAGES, 28, 28), np.uint8) if encode else entering(model, number)
        assert_exported(functools.partial(batches.decide_batch, first=number, encode=encode), packed, inputs)


@pytest.mark.parametrize(("within", "batch"), [(False, 1), (True, 1), (True, BLOCK)])
def test_learning_alone(model, within, batch):
    """The first layer that learns so, and the last."""
    found = [
        (number, name)
        for number, names in enumerate(model.network.names)
        for name in names
        if not (model.layers[name].conv.each_learner[0].supervised or model.layers[name].conv.joint)
    ]
    for number, name in found[:1] + found[1:][-1:]:
        layer = dataclasses.replace(model.layers[name], in_bounds=within)
        state = as_array(layer.conv.each_learner[0].init(layer, np.zeros(2, np.uint32), 0))
        task, carry = Task((name,), number, learner=0, batch=batch), Carry({name: layer}, {name: state})
        assert_step_exported(plain.learn_unsupervised, task, carry, None, alone(entering(model, number)))


@pytest.mark.parametrize("rest", [0, 1])
def test_learning_jointly(model, rest):
    layers = {name: layer for name, layer in model.layers.items() if layer.conv.joint}
    if not layers:
        pytest.skip("no layers learn jointly")
    stages = [number for number, names in enumerate(model.network.names) if layers.keys() & {*names}]
    carry = Carry({name: layer.packed(ROWS) for name, layer in layers.items()}, dict.fromkeys(layers, ()))
    task = Task((*layers,), stages[0], learner=0, batch=IMAGES - rest, end=stages[-1] + 1, rest=rest)
    assert_step_exported(plain.learn_jointly, task, carry, model, alone(entering(model, stages[0])))


@pytest.mark.parametrize(("by_turns", "batch"), [(False, 1), (True, 1), (False, BLOCK)])
def test_learning_together(model, by_turns, batch):
    if is_fitted(model.network.decision):
        pytest.skip("nothing learns supervised")
    task = supervised_task(model, batch, by_turns)
    part = labelled(entering(model, task.first))
    assert_step_exported(plain.learn_supervised, task, carried(model, XLA), model, part)


def fast_step(model: Model, task: Task) -> registry.Step | None:
    """The one taken on an accelerator."""
    return registry.fast_step(Case(task, model, native=False, platform="gpu"))


@pytest.mark.parametrize("batch", [1, BLOCK])
def test_steps_of_accelerators(model, batch, monkeypatch):
    monkeypatch.setattr(reward_in_blocks, "BLOCK", BLOCK)
    for number, (name, *_) in enumerate(model.network.names):
        layer = dataclasses.replace(model.layers[name], in_bounds=True)
        learner = layer.conv.each_learner[0]
        task = Task((name,), number, learner=0, batch=batch)
        if not learner.supervised and (found := fast_step(model, task)):
            state = as_array(learner.init(layer, np.zeros(2, np.uint32), 0))
            carry = Carry({name: layer}, {name: state})
            assert_step_exported(found.run, task, carry, None, alone(entering(model, number)))
    if is_fitted(model.network.decision):
        return
    task = supervised_task(model, batch)
    if found := fast_step(model, task):
        part = labelled(entering(model, task.first))
        assert_step_exported(found.run, task, carried(model, found.kernels), model, part)


@pytest.mark.parametrize("at_once", [False, True])
def test_learning_in_blocks(model, at_once, monkeypatch):
    if is_fitted(model.network.decision) or model.network.decision.timed:
        pytest.skip("nothing learns by reward at the last step")
    task = supervised_task(model)
    assert fast_step(model, task) is not None
    if task.first < model.last:
        pytest.skip("earlier layers learn image by image")
    monkeypatch.setattr(reward_in_blocks, "BLOCK", BLOCK)
    task = task._replace(batch=BLOCK if at_once else 1)
    part = labelled(entering(model, task.first))
    assert_step_exported(reward_in_blocks.learn, task, carried(model, TAPS), model, part, platforms=["cpu"])
