"""Records the results of an epoch in the states of the networks: weights, numbers, figures and decisions."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from snnjax.core.errors import DivergedError, InputError
from snnjax.core.metrics import fractions
from snnjax.core.paths import leaves
from snnjax.data import Dataset
from snnjax.learners import Diagnosis
from snnjax.learners.protocol import default_figures, has_default_figures
from snnjax.networks import Network
from snnjax.training import contracts
from snnjax.training.advice import describe, describe_winners, diagnose_decisions
from snnjax.training.job import Phase
from snnjax.training.learning import Carry, StepResult
from snnjax.training.state import States, TrainState


def record_learned(phase: Phase, states: States, networks: Sequence[Network], carries: Sequence[Carry]) -> None:
    """Records what the untrained `networks` have learned; raises DivergedError if some of it is invalid."""
    errors: dict[int, str] = {}
    cause = None
    for index, (state, network, carry) in enumerate(zip(states, networks, carries, strict=True)):
        convs = {name: conv for _, name, conv in network.layers()}
        state.learning = learning_arrays(carry.states, carry.counts)
        try:
            for name, layer in carry.layers.items():
                before = state.weights[name]
                state.keep_layer(name, convs[name], np.ascontiguousarray(layer.weights), jax.tree.leaves(layer.conv))
                contracts.check_learned(network, name, state, layer.conv.each_learner[phase.learner], before)
        except InputError as error:
            errors[index] = str(error)
            cause = error
    if errors:
        raise DivergedError(errors) from cause


def record_figures(phase: Phase, state: TrainState, carry: Carry, result: StepResult) -> Diagnosis:
    """Adds the figures of each layer's learner to the curves; returns them by layer, with sentences about them."""
    diagnosis: Diagnosis = {}
    words: list[str] = []
    curves = state.curves.setdefault(phase.name, {})
    for name in carry.layers:
        layer = dataclasses.replace(carry.layers[name], weights=state.weights[name])  # type: ignore[arg-type]
        learner = layer.conv.each_learner[phase.learner]
        kind = f"{type(learner).__name__} of {name}"
        figures: Diagnosis = {}
        if has_default_figures(learner):
            figures = default_figures(layer, learner.bounds, (result.winners or {}).get(name))
            words += describe_winners(name, layer, figures)
        own = contracts.checked_diagnosis(kind, learner.diagnose(layer, result.infos[name]))
        words += describe(name, layer, learner, own)
        figures |= own
        scalars = contracts.checked_scalars(kind, learner.scalars(carry.states[name]))
        for figure, value in figures.items():
            diagnosis.setdefault(figure, {})[name] = value
        curve = curves.setdefault(name, {})
        for figure, value in (figures | scalars).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                curve.setdefault(figure, []).append(value)
    return diagnosis | dict(words=words)


def record_decisions(
    phase: Phase, state: TrainState, data: Dataset, trained: Any, tested: Any, learners: Diagnosis
) -> None:
    """Records the end of a supervised epoch, given the decisions on the training images and on the tested images."""
    state.diagnoses[phase.name] = diagnose_decisions(data.names, trained, learners)
    record = {
        "epoch": state.done,
        "train": fractions(trained, data.train_labels),
        data.tested: fractions(tested, getattr(data, f"{data.tested}_labels")),
    }
    state.epochs.append(record)
    if state.best_epoch == state.done:
        state.best = dict(state.weights)
        state.best_params = dict(state.learned_params)
    state.done += 1


def learning_arrays(states: Any, counts: Any) -> dict[str, np.ndarray]:
    """The states of learners, by the name of the layer, and the decision counts, as arrays by path."""
    arrays = leaves(states) | leaves(counts, "counts")
    return {path: np.asarray(leaf) for path, leaf in arrays.items()}
