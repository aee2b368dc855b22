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
from snnjax.layers.layer_kernels import ROWS, XLA
from snnjax.learners import Tally
from snnjax.networks import Model, batches
from snnjax.networks.graph import Known
from snnjax.steps import accelerated, native, plain, registry
from snnjax.steps.plain import Carry, Phase, Slice
from snnjax.steps.registry import Case
from snnjax.training.placement import as_array

PLATFORMS = ["cpu", "cuda", "tpu"]
IMAGES = 4
BLOCK = 2


@pytest.fixture(autouse=True)
def accelerator(monkeypatch):
    """Programs take the form that they have on an accelerator, where images are mapped all at once."""
    monkeypatch.setattr(devices, "peers", lambda: np.array([types.SimpleNamespace(platform="gpu")]))


def assert_exported(function: Callable[..., Any], *arguments: Any) -> None:
    """It is lowered for all platforms, and calls nothing back on the host."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), np.asarray(x).dtype), arguments)
    allowed = [jax.export.DisabledSafetyCheck.custom_call("snnjax_rank_order")]  # on the CPU
    exported = jax.export.export(jax.jit(function), platforms=PLATFORMS, disabled_checks=allowed)(*shapes)
    assert exported.platforms == tuple(PLATFORMS)
    assert "callback" not in exported.mlir_module()


@functools.cache
def model_of(name: str) -> Model:
    """A shipped network with an encoder, and NumPy arrays as numbers."""
    network = shipped(name)
    network = network if network.encoder else dataclasses.replace(network, encoder=GREY)
    weights = {layer: np.zeros(shape, np.float32) for layer, shape in network.weight_shapes.items()}
    return jax.tree.map(as_array, Model.of(network, weights))


def entering(model: Model, stage: int) -> np.ndarray:
    """Latencies that enter a stage."""
    known = Known({0: np.zeros(model.network.input_shape, np.uint8)})
    shape = jax.eval_shape(functools.partial(model.input_of, stage), known)
    return np.zeros((IMAGES, *shape.shape), shape.dtype)


@pytest.mark.parametrize(
    "name",
    ["mozafari2018", "majority2024", "goupy2024_ncg", "kheradpisheh2018", "mozafari2018_objects", "softhebb_narrow"],
)
def test_decisions_and_times_of_images(name):
    """By the encoder, all stages and the decision, of which this is one network of each kind."""
    model = model_of(name)
    decide = functools.partial(batches.decide_batch, encode=True)
    assert_exported(decide, model, np.zeros((IMAGES, 28, 28), np.uint8))
    if name in ("majority2024", "softhebb_narrow"):
        forward = functools.partial(batches.input_batch, number=model.last)
        assert_exported(lambda model, latencies: forward(model, Known({0: latencies})), model, entering(model, 0))


def slice_of(inputs: np.ndarray, labelled: bool) -> Slice:
    part = Slice(inputs, np.int32(0), np.int32(IMAGES), np.bool_(True))
    return part._replace(labels=np.zeros(IMAGES, np.int32), batch_size=np.int32(3)) if labelled else part


def test_plain_steps_of_layers_that_learn_from_batches():
    """Of an epoch whose last batch is short."""
    model = model_of("softhebb_narrow")
    for number, name in enumerate(model.network.ramped):
        carry = Carry({name: model.layers[name].packed(ROWS)}, {name: ()})
        phase = Phase((name,), number, learner=0, batch=IMAGES - 1, joint=True, images=IMAGES)
        part = slice_of(entering(model, number), False)
        assert_exported(functools.partial(plain.learn_jointly, phase), carry, None, part)


@pytest.mark.parametrize(
    ("name", "layer", "batch", "run"),
    [
        ("mozafari2018", "layer1", 1, plain.learn_unsupervised),
        ("goupy2024_ncg", "layer1", BLOCK, plain.learn_unsupervised),
        ("deepr2024", "layer3", BLOCK, accelerated.learn_features),
        ("deepr2024", "", 1, plain.learn_supervised),
        ("majority2024", "", BLOCK, plain.learn_supervised),
        ("mozafari2018_objects", "", 1, plain.learn_supervised),
        ("mozafari2018", "", 1, plain.learn_supervised),
        ("majority2024", "", BLOCK, accelerated.learn_reward_batches),
        ("goupy2024_ncg", "", BLOCK, native.learn_readout),
    ],
)
def test_steps(name, layer, batch, run):
    """Of a layer without labels, or of all that learn from them: plain ones, and those taken on an accelerator."""
    model, learner, kernels = model_of(name), 0 if layer else -1, XLA
    stages = {each: stage for stage, each, _ in model.network.layers() if each == layer}
    if not layer:
        stages = {each: stage for stage, each, conv in model.network.layers() if conv.last_learner.supervised}
    phase = Phase(tuple(stages), min(stages.values()), learner, batch)
    if run is plain.learn_supervised:
        phase = phase._replace(by_turns=model.network.reward_by_turns)
    elif run is not plain.learn_unsupervised:
        step = registry.fast_step(Case(phase, model, native=False, platform="gpu"))
        assert step.run is run
        kernels = step.kernels
    layers = {each: dataclasses.replace(model.layers[each].packed(kernels), in_bounds=batch > 1) for each in stages}
    states = {each: x.conv.each_learner[learner].init(x, np.zeros(2, np.uint32), 0) for each, x in layers.items()}
    tally = None if layer else Tally(*[np.int32(0)] * 5)
    carry = jax.tree.map(as_array, Carry(layers, states, tally))
    part = slice_of(entering(model, phase.first), not layer)
    assert_exported(functools.partial(run, phase), carry, None if layer else model, part)
