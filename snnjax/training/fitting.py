"""Parts that are fitted to the training images, on the host: encoders, ramps, deciding layers, decisions.

Their arrays are kept in the states.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from snnjax.core import devices
from snnjax.layers.ramp_layer import RampLayer
from snnjax.layers.spiking import Layer
from snnjax.learners import Learner
from snnjax.networks import Model
from snnjax.networks.batches import decide_batch, input_batch, potentials_batch
from snnjax.networks.decision import unfitted
from snnjax.training import contracts
from snnjax.training.advice import diagnose_threshold
from snnjax.training.epoch_results import record_decisions
from snnjax.training.job import Job, Phase
from snnjax.training.learning import activations_of
from snnjax.training.placement import count_of, has_own
from snnjax.training.state import TrainState
from snnjax.training.timer import Timer

FITTING_IMAGES = 100
"""The number of images by whose inputs the thresholds of deciding layers are chosen."""
RAMP_IMAGES = 300
"""The number of images to whose potentials ramps are fitted."""


def fit_encoders(job: Job, states: Sequence[TrainState]) -> bool:
    """Fits the encoders that are not fitted yet, equal ones only once; returns whether there were any."""
    images = job.images[job.unsupervised]
    networks = job.networks
    fitted = dict[Any, Any]()
    encoders = [state.network(network).encoder for state, network in zip(states, networks, strict=True)]
    remaining = {index: encoder for index, encoder in enumerate(encoders) if unfitted(encoder)}
    if not remaining:
        return False
    timer = Timer("fit encoder")
    image = jax.ShapeDtypeStruct(images.shape[1:], images.dtype)
    job.callback.started(timer.name, len(images) * len(set(remaining.values())))
    for index, encoder in remaining.items():
        if encoder not in fitted:
            result = timer.time_call(len(images), contracts.checked_fit, encoder, images)
            fitted[encoder] = jax.tree.leaves(result)
            job.callback.advanced(len(images), 0)
        states[index].keep_params("encoder", encoder, fitted[encoder])
        contracts.check_encoder(states[index].network(networks[index]), image)
    job.finish(timer, states)
    return True


def fit_ramps(job: Job, phase: Phase, states: Sequence[TrainState], inputs: Any) -> None:
    """Fits the ramp of the layer that has learned in a phase, to some of its `inputs`, see `StageCache`."""
    (name,) = phase.layers
    for index, (network, state) in enumerate(zip(job.networks, states, strict=True)):
        layer = job.model(state, index).layers[name]
        potentials = np.asarray(_potentials(layer, _some_of(inputs, index, RAMP_IMAGES)))
        ramp = contracts.checked_fit(layer.ramp, potentials, network.time_steps)
        ramp.check_levels(name, network.time_steps)
        conv = next(conv for _, other, conv in network.layers() if other == name)
        state.keep_params(name, conv, jax.tree.leaves(dataclasses.replace(layer.conv, ramp=ramp)))


def unfitted_ramp(job: Job, phase: Phase, states: Sequence[TrainState]) -> bool:
    """Whether the layer that has learned in a phase has an unfitted ramp and does not learn in later phases."""
    if phase.supervised or not phase.layers:
        return False
    (name,) = phase.layers
    later = job.phases[job.phases.index(phase) + 1 :]
    if any(name in other.layers for other in later):
        return False
    conv = job.model(states[0]).layers[name].conv
    return conv.ramped and not conv.ramp.fitted


@jax.jit
def _potentials(layer: RampLayer, inputs: jax.Array) -> jax.Array:
    return jax.lax.map(layer.frozen().potentials, inputs, batch_size=devices.BATCH_SIZES["ramp"])


def fit_thresholds(job: Job, phase: Phase, states: Sequence[TrainState], inputs: Any) -> None:
    """Lets the learners of deciding layers choose their thresholds, from some `inputs` of a phase, see `StageCache`."""
    for index, (network, state) in enumerate(zip(job.networks, states, strict=True)):
        model = job.model(state, index)
        known = activations_of(_some_of(inputs, index, FITTING_IMAGES), phase.first)
        chosen = choose_thresholds(model, functools.partial(input_batch, model, known, number=model.last))
        convs = dict(zip(network.deciding, network.stages[-1].branches, strict=True))
        for name, layer in chosen.items():
            before: Any = model.layers[name].conv.threshold
            after: Any = layer.conv.threshold
            if np.array_equal(after, before):
                continue
            state.keep_params(name, convs[name], jax.tree.leaves(layer.conv))
            title = f"start of {name}"
            state.diagnoses[title] = diagnose_threshold(before, after)
            if len(states) == 1:
                job.callback.diagnosed(title, state.diagnoses[title])


def choose_thresholds(model: Model, inputs: Callable[[], Any]) -> dict[str, Layer]:
    """The deciding layers with the initial thresholds that their learners choose, keyed by name.

    The result is empty if no learner chooses thresholds. `inputs` returns the inputs of these layers for some images,
    (N, C, H, W) latencies; it is called only if a learner needs them.
    """
    layers = {name: model.layers[name] for name in model.network.deciding}
    rules = {type(layer.conv.last_learner) for layer in layers.values()}
    if all(rule.initial_threshold is Learner.initial_threshold for rule in rules):
        return {}
    latencies = np.asarray(inputs())
    thresholds = {name: x.conv.last_learner.initial_threshold(x, latencies) for name, x in layers.items()}
    return {name: layer.with_threshold(thresholds[name]) for name, layer in layers.items()}


def _some_of(inputs: Any, index: int, most: int) -> Any:
    """The inputs of network `index` for at most `most` images, evenly spaced in the data."""
    count = count_of(inputs)
    chosen = np.linspace(0, count - 1, min(most, count)).astype(int)
    own = has_own(inputs)
    return jax.tree.map(lambda values: (values[index] if own else values)[chosen], inputs)


def fit_decisions(
    job: Job, phase: Phase, states: Sequence[TrainState], inputs: Mapping[str, np.ndarray]
) -> list[Timer]:
    """Fits each network's decision to the responses of its last stage, then tests it; returns the timers.

    `inputs` are the `StageCache.inputs` of the phase, keyed by part, for the training images and the tested images:
    the outputs of the last stage or, if the decision reads potentials, the inputs from which the potentials are
    computed.
    """
    fit = Timer(phase.name)
    potentials = Timer("potentials")
    timers = {"train": Timer("decisions, train"), job.data.tested: Timer(job.data.tested)}
    labels = job.data.train_labels
    all_labels = np.tile(labels, count_of(inputs["train"]) // len(labels))  # mirror images come after the images
    evidence = inputs["train"]
    if job.network.reads_potentials:
        known = activations_of(evidence, phase.first)
        evidence = job.placement.map(potentials, potentials_batch, job.placement.stack(job.models(states)), known)
    job.callback.started(fit.name, len(all_labels) * len(states))
    for state, network, values in zip(states, job.networks, evidence, strict=True):
        about = values, all_labels.astype(np.int32), network.classes, network.time_steps
        fitted = fit.time_call(len(all_labels), contracts.checked_fit, network.decision, *about)
        state.keep_params("decision", network.decision, jax.tree.leaves(fitted))
        contracts.check_decision(state.network(network))
        job.callback.advanced(len(all_labels), 0)
    model = job.placement.stack(job.models(states))
    images = inputs["train"]
    parts = {"train": images[:, : len(labels)] if has_own(images) else images[: len(labels)]}
    parts[job.data.tested] = inputs[job.data.tested]
    decided = {}
    for part, images in parts.items():
        known = activations_of(images, phase.first)
        decided[part], _ = job.placement.map(timers[part], decide_batch, model, known)
        contracts.check_decisions(decided[part], job.network.classes)
    for state, trained, tested in zip(states, decided["train"], decided[job.data.tested], strict=True):
        record_decisions(phase, state, job.data, trained, tested, {})
    return [*[potentials] * job.network.reads_potentials, fit, *timers.values()]
