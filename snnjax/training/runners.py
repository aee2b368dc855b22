"""The runners of phases: by which step and kernels layers learn, from which states of their learners."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from snnjax.core.components import with_leaves
from snnjax.layers.conv import Conv
from snnjax.layers.layer import BaseLayer, LayerKernels
from snnjax.layers.layer_kernels import XLA, best_kernels
from snnjax.learners import Tally
from snnjax.networks import Model
from snnjax.steps import deciding, plain
from snnjax.steps.phase import Carry, Phase
from snnjax.steps.registry import Case, fast_step
from snnjax.training import arguments
from snnjax.training import epoch_results as results
from snnjax.training.draws import key_of, shown_order
from snnjax.training.epoch import EpochImages, EpochRunner
from snnjax.training.job import Job
from snnjax.training.placement import as_array, count_of
from snnjax.training.state import TrainState


def runner_of(job: Job, phase: Phase, states: Sequence[TrainState], inputs: Any) -> EpochRunner:
    """The runner of a phase's epochs, given the `StageCache.inputs` of the stages that learn in it."""
    models = job.models(states)
    fast = fast_step(Case(phase, models[0], job.native, job.placement.platform))
    carries = []
    for index, (model, state) in enumerate(zip(models, states, strict=True)):
        layers = {}
        for name in phase.layers:
            layer = model.layers[name]
            layers[name] = layer.packed(fast.kernels if fast else _kernels(job, layer, phase))
        learners, tally = learners_at_start(job, state, index)
        learners = with_leaves(learners, state.learning)
        tally = with_leaves(tally, state.learning, "tally")
        carries.append(Carry(layers, learners, tally))
    others = [_without_weights(model, phase.layers) for model in models]
    shown = count_of(inputs) // (1 + job.settings.mirror)
    order = functools.partial(shown_order, job.settings, job.seeds, job.plan.index(phase), shown)
    labels = None
    frozen: Any = None
    if phase.joint:
        step: Any = plain.learn_jointly
    elif phase.supervised:
        step = plain.learn_supervised
        frozen = job.pack(others, deciding.deciding_kernels(job.network, native=job.native))
        labels = job.data.train_labels.astype(np.int32)
    else:
        step = plain.learn_unsupervised
    return EpochRunner(
        phase=phase,
        placement=job.placement,
        step=step,
        fast=fast,
        carry=job.placement.stack(carries),
        model=frozen,
        images=EpochImages(inputs, labels, order, job.settings.batch_size),
    )


def learners_at_start(job: Job, state: TrainState, index: int) -> tuple[dict[str, Any], Tally | None]:
    """States of learners and the tally of network `index`, before the first image of a phase."""
    phase = job.plan[state.phase]
    layers = job.model(state, index).layers
    shown = 0  # images from which earlier layers of the stage have learned
    if not phase.supervised:
        earlier = [other for other in job.plan[: state.phase] if other.first == phase.first]
        shown = sum(other.epochs * other.images for other in earlier)
    learners = initial_learners(phase, layers, job.seeds[index], shown)
    return learners, Tally(*np.zeros(5, np.int32)) if phase.supervised else None


def initial_learners(phase: Phase, layers: Mapping[str, Any], seed: int, shown: int = 0) -> dict[str, Any]:
    """States of learners by layer before their first image, given all layers of the network; `shown`: see `Learner`."""
    learners = {}
    for name in phase.layers:
        rules = layers[name].conv.each_learner
        key = key_of(list(layers).index(name), seed, phase.learner % len(rules))
        learners[name] = jax.tree.map(as_array, rules[phase.learner].init(layers[name], key, shown))
    return learners


def check_state(job: Job, state: TrainState) -> None:
    """Raises InputError unless the training can continue from a state."""
    arguments.check_state(job.network, state)
    if state.learning and state.phase < len(job.plan):
        fresh = results.learning_arrays(*learners_at_start(job, state, 0))
        shapes = {name: array.shape for name, array in fresh.items()}
        arguments.check_shapes(job.network, state, "learning", shapes)


def uncompiled(job: Job) -> list[str]:
    """Spiking layers that learn by XLA: "layer1 (Rule)", ..."""
    zeros = {name: np.zeros(shape, np.float32) for name, shape in job.network.weight_shapes.items()}
    model = Model.of(job.network, zeros)  # shapes alone matter
    names = []
    for phase in job.plan:
        case = Case(phase, model, job.native, job.placement.platform)
        fast = fast_step(case) if phase.layers else None
        for name in phase.layers:
            layer = model.layers[name]
            compiled = fast.compiled if fast else _kernels(job, layer, phase) is not XLA
            if not compiled:
                names.append(_with_rule(name, layer.conv, phase))
    return names


def one_by_one(job: Job, first: int) -> list[str]:
    """Layers that learn from one image at a time on an accelerator, from phase `first` on: "layer1 (Rule)", ..."""
    if job.placement.platform == "cpu":
        return []
    convs = {name: conv for _, name, conv in job.network.layers()}
    names = []
    for phase in job.plan[first:]:
        if phase.batch == 1 and phase.epochs and not phase.joint:
            names += [_with_rule(name, convs[name], phase) for name in phase.layers]
    return names


def _kernels(job: Job, layer: BaseLayer, phase: Phase) -> LayerKernels:
    """The kernels of a layer that learns in a phase, step by step as it is defined."""
    return best_kernels(layer, native=job.native, learner=phase.learner)


def _with_rule(name: str, conv: Conv, phase: Phase) -> str:
    """The layer of this name, with the rule by which it learns in a phase."""
    return f"{name} ({type(conv.each_learner[phase.learner]).__name__})"


def _without_weights(model: Model, names: Iterable[str]) -> Model:
    """The model without the weights of layers that learn, which are in the carry of their program."""
    nothing: Any = np.zeros((0, 0, 0, 0), np.float32)
    return model.updated({name: dataclasses.replace(model.layers[name], stored=nothing) for name in names})
