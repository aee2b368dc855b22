"""Encoders and decisions that are fitted to the training images, on the host; their arrays are kept in the states."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from snnjax import processes
from snnjax.networks.decision import unfitted
from snnjax.training import foreign
from snnjax.training.outputs import Outputs
from snnjax.training.spread import Clock
from snnjax.training.state import TrainState


def fit_encoders(outputs: Outputs, states: Sequence[TrainState]) -> bool:
    """Fits encoders that are not fitted yet, those that agree once; whether there were any."""
    images, networks, fitted = outputs.images["train"], outputs.networks, dict[Any, Any]()
    encoders = [state.network(network).encoder for state, network in zip(states, networks, strict=True)]
    left = {at: encoder for at, encoder in enumerate(encoders) if unfitted(encoder)}
    if not left:
        return False
    clock, image = Clock("fit encoder"), jax.ShapeDtypeStruct(images.shape[1:], images.dtype)
    outputs.callback.started(clock.name, len(images) * len(set(left.values())))
    for at, encoder in left.items():
        if encoder not in fitted:
            found = clock.call(len(images), foreign.checked_fit, encoder, images)
            fitted[encoder] = processes.share_arrays(jax.tree.leaves(found))
            outputs.callback.advanced(len(images), 0)
        states[at].keep_numbers("encoder", encoder, fitted[encoder])
        foreign.check_encoder(states[at].network(networks[at]), image)
    outputs.finish(clock, states)
    return True


def fit_decisions(
    outputs: Outputs, states: Sequence[TrainState], clock: Clock, latencies: np.ndarray, labels: np.ndarray
) -> None:
    """Fits the decision of each network to its latencies (networks, N, F, H, W) and the labels (N,)."""
    outputs.callback.started(clock.name, len(labels) * len(states))
    for state, network, own in zip(states, outputs.networks, latencies, strict=True):
        about = own, labels.astype(np.int32), network.classes, network.time_steps
        found = clock.call(len(labels), foreign.checked_fit, network.decision, *about)
        state.keep_numbers("decision", network.decision, processes.share_arrays(jax.tree.leaves(found)))
        foreign.check_decision(state.network(network))
        outputs.callback.advanced(len(labels), 0)
