"""How a file of NIR is read: the recipe in its metadata as text, and the decision that it describes as code."""

import dataclasses
from typing import Any

import jax
import numpy as np

from snnjax.interop.nir_nodes import TAU, Neuron
from snnjax.networks import Network
from snnjax.networks.decision import Earliest


def decide(potentials: np.ndarray, metadata: dict[str, Any]) -> np.ndarray:
    """The classes (N,), -1 for none, from potentials (N, T, F, H, W), as the recipe of a file says."""
    values = potentials.reshape(*potentials.shape[:3], -1)
    last = _of_classes(values[:, -1], metadata).max(axis=2)
    decided = np.where(last.max(axis=1) > 0, last.argmax(axis=1), -1)
    if "threshold" not in metadata:
        return decided
    threshold = np.reshape(metadata["threshold"], (-1, 1))
    before = np.pad(values, ((0, 0), (1, 0), (0, 0), (0, 0)))[:, :-1]
    fires = values > threshold
    step = fires.argmax(axis=1)[:, None]
    at_spike, below = (np.take_along_axis(each, step, axis=1)[:, 0] for each in (values, before))
    fraction = (threshold - below) / np.where(at_spike > below, at_spike - below, 1) * bool(metadata["fractional"])
    time = np.where(fires.any(axis=1), step[:, 0] + fraction, np.inf)
    for image, first in enumerate(time.min(axis=(1, 2))):
        if np.isfinite(first):
            competing = np.where(time[image] == first, at_spike[image], -np.inf)
            decided[image] = _of_classes(competing[None], metadata).max(axis=2).argmax()
        elif not metadata["fallback"]:
            decided[image] = -1
    return decided


def _of_classes(values: np.ndarray, metadata: dict[str, Any]) -> np.ndarray:
    """Values (N, F, positions) as (N, classes, values of a class)."""
    return values.reshape(len(values), int(metadata["classes"]), -1)


def note(whole: Network, part: Network, *, chain: bool) -> str:
    """What a file leaves out of a network, and whether few readers can run it; "" if neither."""
    notes = []
    if first := len(whole.stages) - len(part.stages):
        how = f"snnjax computes them by model.input_of({first}, Known({{0: latency}}))"
        shape = f"latencies of shape {part.input_shape}"
        notes.append(f"The file begins with the {shape} that stage {first + 1} of {whole.name} reads: {how}.")
    if not chain:
        wrong = "norse 1.1, sinabs 3.1 and spyx 1.0 run them in a wrong order, without an error"
        notes.append(f"The nodes form no chain: {wrong}; snnTorch 1.0 and SpikingJelly 2.0 run them right.")
    return " ".join(notes)


_STEPS = {
    "IF": "The IF neurons must start from 0 at each step: give each step of each image as a sample of its own.",
    "LIF": "Simulate the steps one after the other with dt = {tau} s, the time constant tau of the LIF neurons, which"
    " forget within a step: an image lasts {seconds:g} s.",
}


def recipe(spec: Network, neuron: Neuron, encoder: Any) -> str:
    """How a reader gets from an image to a decision, as text. `encoder` is that of the whole network."""
    made = ""
    if encoder is not None:
        before = "" if spec.encoder is not None else " and the stages before the file, which its note names"
        made = f" snnjax computes them from an image by the encoder {_named(encoder)}{before}."
    features = spec.stages[-1].branches[0].features
    lines = (
        f"Input: latencies {spec.input_shape}, the step of the spike of each input, {spec.time_steps} where it is"
        f" silent.{made}",
        f"At each step t = 0..{spec.time_steps - 1} the input is 1.0 where latency <= t, else 0.0: all spikes so far.",
        _STEPS[neuron].format(tau=TAU, seconds=TAU * spec.time_steps),
        f"Output: V(t), the potentials of {spec.names[-1][0]}, {spec.shapes[-1]}. Feature f, the first axis, belongs to"
        f" class f // {features // spec.classes}.",
        _decision(spec),
    )
    return "\n".join(lines)


def _named(encoder: Any) -> str:
    """An encoder with its settings, but not the arrays that it was fitted with."""
    if not dataclasses.is_dataclass(encoder):
        return type(encoder).__name__
    fields = {field.name: getattr(encoder, field.name) for field in dataclasses.fields(encoder)}
    settings = [f"{name}={value}" for name, value in fields.items() if not isinstance(value, np.ndarray | jax.Array)]
    return f"{type(encoder).__name__}({', '.join(settings)})"


def _decision(spec: Network) -> str:
    """The line of the recipe that says how a network decides."""
    last = (
        f"the class of the largest V({spec.time_steps - 1}), the lowest among equals, if it is above 0, otherwise none"
    )
    conv = spec.stages[-1].branches[0]
    if not isinstance(spec.decision, Earliest) or conv.threshold is None:
        return f"Decision: {last}."
    fires = "a neuron fires at the first t with V(t) > threshold[f], which the metadata have"
    if conv.fractional:
        fires += ", at the time t + (threshold[f] - V(t-1)) / (V(t) - V(t-1)), with V(-1) = 0"
    silent = last if spec.decision.fallback else "none"
    equal = "at equal times the largest V(t) at its t, then the lowest class"
    return f"Decision: {fires}. The class of the earliest; {equal}. If no neuron fires: {silent}."
