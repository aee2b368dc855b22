"""Every program of a training is lowered for CPU, CUDA and TPU: no card is needed to see that it can be."""

import dataclasses
import functools
import types

import jax
import numpy as np
import pytest
from shipped import NAMES, each_of, shipped

from snnjax import devices
from snnjax.encoding import GREY
from snnjax.forms import FAST, ROWS, TAPS
from snnjax.learners import Tally
from snnjax.networks import Model
from snnjax.networks.decision import is_fitted
from snnjax.training import accelerated, blocks, fast, programs
from snnjax.training.outputs import as_array
from snnjax.training.state import Settings

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
    found = jax.eval_shape(lambda x: model.forward(x, 0, number), np.zeros(model.input_shape, np.uint8))
    return np.zeros((IMAGES, *found.shape), found.dtype)


SLICE = dict(start=np.int32(0), count=np.int32(IMAGES), last=np.bool_(True))


def carried(model: Model, form) -> tuple:
    """What learns supervised, its learners' states, and the tally."""
    layers = {
        name: dataclasses.replace(layer.packed(form), within=True)
        for name, layer in model.layers.items()
        if layer.conv.supervised.supervised
    }
    states = {name: x.conv.supervised.init(x, np.zeros(2, np.uint32), 0) for name, x in layers.items()}
    return jax.tree.map(as_array, (layers, states, Tally(*[np.int32(0)] * 5)))


def first_supervised(model: Model) -> int:
    names = carried(model, FAST)[0]
    return min(number for number, stage in enumerate(model.names) if any(name in names for name in stage))


def test_encoding(model):
    function = functools.partial(programs.encode_batch, native=False)
    assert_exported(function, model, np.zeros((IMAGES, 28, 28), np.uint8))


@pytest.mark.parametrize("timed", [True, False])
def test_forward(model, timed):
    for number in range(model.last):
        function = functools.partial(programs.forward_batch, first=number, last=number + 1, timed=timed)
        assert_exported(function, model, entering(model, number))


def test_decisions(model):
    packed = jax.tree.map(as_array, model.packed(dict.fromkeys(model.names[-1], TAPS)))
    for number, encode in ((0, True), (model.last, False)):
        inputs = np.zeros((IMAGES, 28, 28), np.uint8) if encode else entering(model, number)
        assert_exported(functools.partial(programs.decide_batch, first=number, encode=encode), packed, inputs)


@pytest.mark.parametrize(("within", "batch"), [(False, 1), (True, 1), (True, BLOCK)])
def test_learning_alone(model, within, batch):
    """The first layer that learns so, and the last."""
    alone = [
        (number, name)
        for number, names in enumerate(model.names)
        for name in names
        if not (model.layers[name].conv.each_learner[0].supervised or model.layers[name].conv.joint)
    ]
    for number, name in alone[:1] + alone[1:][-1:]:
        layer = dataclasses.replace(model.layers[name], within=within)
        state = as_array(layer.conv.each_learner[0].init(layer, np.zeros(2, np.uint32), 0))
        function = functools.partial(programs.learn_unsupervised, which=0, batch=batch)
        assert_exported(function, ({name: layer}, {name: state}), entering(model, number), *SLICE.values())


@pytest.mark.parametrize("rest", [0, 1])
def test_learning_jointly(model, rest):
    layers = {name: layer for name, layer in model.layers.items() if layer.conv.joint}
    if not layers:
        pytest.skip("no layers learn jointly")
    stages = [number for number, names in enumerate(model.names) if layers.keys() & {*names}]
    carry = {name: layer.packed(ROWS) for name, layer in layers.items()}, dict.fromkeys(layers, ())
    static = dict(first=stages[0], end=stages[-1] + 1, batch=IMAGES - rest, rest=rest)
    function = functools.partial(programs.learn_jointly, **static)
    assert_exported(function, carry, model, entering(model, stages[0]), *SLICE.values())


@pytest.mark.parametrize(("by_turns", "batch"), [(False, 1), (True, 1), (False, BLOCK)])
def test_learning_together(model, by_turns, batch):
    if is_fitted(model.decision):
        pytest.skip("nothing learns supervised")
    first = first_supervised(model)
    arguments = (
        carried(model, FAST),
        model,
        entering(model, first),
        np.zeros(IMAGES, np.int32),
        *SLICE.values(),
    )
    function = functools.partial(programs.learn_supervised, first=first, batch=batch, by_turns=by_turns)
    assert_exported(function, *arguments, np.int32(3))


@pytest.mark.parametrize("batch", [1, BLOCK])
def test_forms_of_accelerators(model, batch, monkeypatch):
    monkeypatch.setattr(accelerated, "BLOCK", BLOCK)
    settings = Settings((1,), update_batch=batch)
    for number, (name, *_) in enumerate(model.names):
        layer = dataclasses.replace(model.layers[name], within=True)
        learner = layer.conv.each_learner[0]
        if not learner.supervised and (found := fast.unsupervised(layer, 0, settings)):
            state = as_array(learner.init(layer, np.zeros(2, np.uint32), 0))
            function = functools.partial(found.function, **found.static)
            assert_exported(function, ({name: layer}, {name: state}), entering(model, number), *SLICE.values())
    if is_fitted(model.decision):
        return
    first = first_supervised(model)
    if found := fast.supervised(model, first, False, settings):
        arguments = (carried(model, found.form), model, entering(model, first), np.zeros(IMAGES, np.int32))
        function = functools.partial(found.function, **found.static)
        assert_exported(function, *arguments, *SLICE.values(), np.int32(3))


@pytest.mark.parametrize("at_once", [False, True])
def test_learning_in_blocks(model, at_once):
    if is_fitted(model.decision) or model.decision.timed:
        pytest.skip("nothing learns by reward at the last step")
    first = first_supervised(model)
    found = fast.supervised(model, first, by_turns=False, settings=Settings((1,)))
    assert found is not None
    if first < model.last:
        pytest.skip("earlier layers learn image by image")
    arguments = (
        carried(model, TAPS),
        model,
        entering(model, first),
        np.zeros(IMAGES, np.int32),
        *SLICE.values(),
    )
    function = functools.partial(blocks.learn_in_blocks, block=BLOCK, batched=at_once, by_turns=False)
    assert_exported(function, *arguments, np.int32(3), platforms=["cpu"])
