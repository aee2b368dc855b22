"""How a phase begins: by which function its layers learn, and from which weights and states of their learners."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from snnjax.core.paths import with_leaves
from snnjax.layers.conv import Conv
from snnjax.learners import DecisionCounts
from snnjax.networks import Model, Network
from snnjax.networks.decision import decides_by_votes
from snnjax.training import arguments, learning
from snnjax.training import epoch_results as results
from snnjax.training.draws import key_of, shown_order
from snnjax.training.epoch import EpochImages, LearningPhase
from snnjax.training.job import Job
from snnjax.training.pair import is_pair, learn_pair
from snnjax.training.phase import Carry, Phase
from snnjax.training.placement import count_of, to_32_bits
from snnjax.training.state import TrainState


def begin_phase(job: Job, phase: Phase, states: Sequence[TrainState], inputs: Any) -> LearningPhase:
    """A phase before its first epoch, given the `StageCache.inputs` of the stages that learn in it."""
    models = job.models(states)
    carries = []
    for index, state in enumerate(states):
        carry = carry_at_start(job, state, index)
        # A resumed phase continues with the rates and random keys that were saved, not with those of a new phase.
        learners = with_leaves(carry.states, state.learning)
        carries.append(carry._replace(states=learners, counts=with_leaves(carry.counts, state.learning, "counts")))
    others = [_without_weights(model, phase.layers) for model in models]
    shown = count_of(inputs) // (1 + job.settings.mirror)
    order = functools.partial(shown_order, job.settings, job.seeds, job.plan.index(phase), shown)
    return LearningPhase(
        phase=phase,
        placement=job.placement,
        learn=learning_of(phase, job.network),
        carry=job.placement.stack(carries),
        model=job.placement.stack(others) if phase.supervised else None,
        images=EpochImages(inputs, job.data.train_labels.astype(np.int32) if phase.supervised else None, order),
    )


def learning_of(phase: Phase, network: Network) -> Callable[..., Any]:
    """The function of `snnjax.training.learning` by which the layers of a phase learn."""
    if phase.minibatch_size:
        return learning.learn_minibatches
    if not phase.supervised:
        return learning.learn_unsupervised
    only_deciding = phase.layers == network.deciding
    if only_deciding and decides_by_votes(network.decision, len(network.deciding)):
        return learning.learn_deciding
    return learn_pair if is_pair(phase, network) else learning.learn_supervised


def carry_at_start(job: Job, state: TrainState, index: int) -> Carry:
    """What network `index` has learned, and the new states of its learners, before the first image of a phase."""
    phase = job.plan[state.phase]
    shown = 0  # images from which earlier layers of the stage have learned
    if not phase.supervised:
        earlier = [other for other in job.plan[: state.phase] if other.first == phase.first]
        shown = sum(other.epochs * other.images for other in earlier)
    learning, learners = begin_learning(phase, job.model(state, index).layers, job.seeds[index], shown)
    return Carry(learning, learners, DecisionCounts(*np.zeros(5, np.int32)) if phase.supervised else None)


def begin_learning(
    phase: Phase, layers: Mapping[str, Any], seed: int, shown: int = 0
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The layers that learn in a phase, within their bounds, and the states of their learners before the first image.

    `layers` are all those of the network; `shown` is that of `Learner.init`.
    """
    learning = {name: _clip_weights(layers[name], phase) for name in phase.layers}
    learners = {}
    for name, layer in learning.items():
        rules = layer.conv.each_learner
        key = key_of(list(layers).index(name), seed, phase.learner % len(rules))
        learners[name] = jax.tree.map(to_32_bits, rules[phase.learner].init(layer, key, shown))
    return learning, learners


def _clip_weights(layer: Any, phase: Phase) -> Any:
    """The layer with weights within the bounds of the learner that learns in a phase, if it has any."""
    # A layer may learn by several rules in turn, whose bounds may differ: those of the rule of this phase apply.
    bounds = layer.conv.each_learner[phase.learner].bounds
    if bounds is None:
        return layer
    lower, upper = map(np.float32, bounds)
    return layer.with_weights(np.clip(layer.weights, lower, upper))


def check_state(job: Job, state: TrainState) -> None:
    """Raises InputError unless the training can continue from a state."""
    arguments.check_state(job.network, state)
    if state.learning and state.phase < len(job.plan):
        carry = carry_at_start(job, state, 0)
        fresh = results.learning_arrays(carry.states, carry.counts)
        shapes = {name: array.shape for name, array in fresh.items()}
        arguments.check_shapes(job.network, state, "learning", shapes)


def layers_without_native(job: Job) -> list[str]:
    """Spiking layers that learn without a compiled sequence kernel: "layer1 (Rule)", ..."""
    zeros = {name: np.zeros(shape, np.float32) for name, shape in job.network.weight_shapes.items()}
    model = jax.tree.map(to_32_bits, Model.of(job.network, zeros))  # only the shapes matter
    names = []
    for phase in job.plan:
        if phase.update_batch == 1 and phase.layers and is_pair(phase, job.network):
            continue
        for name in phase.layers:
            layer = model.layers[name]
            learner = layer.conv.each_learner[phase.learner]
            if not layer.conv.ramped and not learner.supports_native(layer, phase.update_batch):
                names.append(_with_rule(name, layer.conv, phase))
    return names


def sequential_layers(job: Job, first: int) -> list[str]:
    """Layers that learn from one image at a time on an accelerator, from phase `first` on: "layer1 (Rule)", ..."""
    if job.placement.platform == "cpu":
        return []
    convs = {name: conv for _, name, conv in job.network.layers()}
    names = []
    for phase in job.plan[first:]:
        if phase.update_batch == 1 and phase.epochs and not phase.minibatch_size:
            names += [_with_rule(name, convs[name], phase) for name in phase.layers]
    return names


def _with_rule(name: str, conv: Conv, phase: Phase) -> str:
    """The layer of this name, with the rule by which it learns in a phase."""
    return f"{name} ({type(conv.each_learner[phase.learner]).__name__})"


def _without_weights(model: Model, names: Iterable[str]) -> Model:
    """The model without the weights of layers that learn, which are in the carry of their program."""
    nothing: Any = np.zeros((0, 0, 0, 0), np.float32)
    return model.updated({name: dataclasses.replace(model.layers[name], weights=nothing) for name in names})
