"""Programs of a training are lowered for CUDA and TPU: no card is needed to see that they can be."""

import dataclasses
import functools
import re
import types
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from shipped import shipped

from snnjax.core import devices
from snnjax.encoding import GREY
from snnjax.learners import DecisionCounts
from snnjax.networks import Model, batches
from snnjax.networks.graph import Activations
from snnjax.training.job import Phase
from snnjax.training.learning import (
    Carry,
    ImageBatch,
    learn_deciding,
    learn_minibatches,
    learn_pair,
    learn_unsupervised,
    learning_of,
)
from snnjax.training.placement import model_of, to_32_bits

PLATFORMS = ["cuda", "tpu"]
IMAGES = 4
UPDATE_BATCH = 2


@pytest.fixture(autouse=True)
def accelerator(monkeypatch):
    """Programs take the form that they have on an accelerator, where images are mapped all at once."""
    monkeypatch.setattr(devices, "local_devices", lambda: np.array([types.SimpleNamespace(platform="gpu")]))


def assert_exported(function: Callable[..., Any], *arguments: Any) -> None:
    """It is lowered for all platforms, without compiled kernels, and calls nothing back on the host."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), np.asarray(x).dtype), arguments)
    exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(*shapes)
    assert exported.platforms == tuple(PLATFORMS)
    assert not {"callback", "snnjax_"} & {*re.findall("callback|snnjax_", exported.mlir_module())}


@functools.cache
def shipped_model(name: str) -> Model:
    """A shipped network with an encoder, and NumPy arrays as numbers."""
    network = shipped(name)
    network = network if network.encoder else dataclasses.replace(network, encoder=GREY)
    weights = {layer: np.zeros(shape, np.float32) for layer, shape in network.weight_shapes.items()}
    return model_of(network, weights)


def entering(model: Model, stage: int) -> np.ndarray:
    """Latencies that enter a stage."""
    known = Activations({0: np.zeros(model.network.input_shape, np.uint8)})
    shape = jax.eval_shape(functools.partial(model.input_of, stage), known)
    return np.zeros((IMAGES, *shape.shape), shape.dtype)


@pytest.mark.parametrize(
    "name",
    ["mozafari2018", "majority2024", "goupy2024_ncg", "kheradpisheh2018", "mozafari2018_objects", "softhebb_narrow"],
)
def test_decisions_and_times_of_images(name):
    """By the encoder, all stages and the decision, of which this is one network of each kind."""
    model = shipped_model(name)
    decide = functools.partial(batches.decide_batch, encode=True)
    assert_exported(decide, model, np.zeros((IMAGES, 28, 28), np.uint8))
    if name in ("majority2024", "softhebb_narrow"):
        forward = functools.partial(batches.input_batch, number=model.last)
        assert_exported(lambda model, latencies: forward(model, Activations({0: latencies})), model, entering(model, 0))


def batch_of(inputs: np.ndarray) -> ImageBatch:
    return ImageBatch(inputs, np.int32(0), np.int32(IMAGES), np.bool_(True), np.zeros(IMAGES, np.int32))


def test_layers_that_learn_from_batches():
    """Of an epoch whose last batch is short."""
    model = shipped_model("softhebb_narrow")
    for number, name in enumerate(model.network.ramped):
        carry = Carry({name: model.layers[name]}, {name: ()})
        phase = Phase((name,), number, learner=0, minibatch_size=IMAGES - 1, images=IMAGES)
        assert_exported(functools.partial(learn_minibatches, phase), carry, None, batch_of(entering(model, number)))


@pytest.mark.parametrize(
    ("name", "layer", "update_batch", "learn"),
    [
        ("mozafari2018", "layer1", 1, learn_unsupervised),
        ("goupy2024_ncg", "layer1", UPDATE_BATCH, learn_unsupervised),
        ("deepr2024", "", 1, learn_pair),
        ("deepr2024", "", UPDATE_BATCH, learn_pair),
        ("mozafari2018_objects", "", 1, learn_deciding),
        ("mozafari2018", "", 1, learn_deciding),
        ("majority2024", "", UPDATE_BATCH, learn_deciding),
        ("goupy2024_ncg", "", UPDATE_BATCH, learn_deciding),
    ],
)
def test_layers_that_learn(name, layer, update_batch, learn):
    """One without labels, or all that learn from them, by the function that a training takes."""
    model, learner = shipped_model(name), 0 if layer else -1
    stages = {each: stage for stage, each, _ in model.network.layers() if each == layer}
    if not layer:
        stages = {each: stage for stage, each, conv in model.network.layers() if conv.last_learner.supervised}
    by_turns = model.network.reward_by_turns and not layer
    how = dict(supervised=not layer, adapt_every=3, by_turns=by_turns)
    phase = Phase(tuple(stages), min(stages.values()), learner, update_batch, **how)
    assert learning_of(phase, model.network) is learn
    layers = {each: model.layers[each] for each in stages}
    states = {each: x.conv.each_learner[learner].init(x, np.zeros(2, np.uint32), 0) for each, x in layers.items()}
    counts = None if layer else DecisionCounts(*[np.int32(0)] * 5)
    carry = jax.tree.map(to_32_bits, Carry(layers, states, counts))
    batch = batch_of(entering(model, phase.first))
    assert_exported(functools.partial(learn, phase), carry, None if layer else model, batch)
