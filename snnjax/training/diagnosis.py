"""Why a network does or does not learn: what its outputs and decisions show, in figures and in words."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from snnjax.learners.learner import LEARNED, Diagnosis, listed, percent
from snnjax.learners.stdp import SILENT
from snnjax.networks import Network

CROWDED = 0.9
"""Share of the neurons that fire above which the threshold is too low."""


def of_outputs(
    network: Network, stage: int, fired: np.ndarray, open_: Mapping[str, float] = MappingProxyType({})
) -> Diagnosis:
    """What the outputs of a stage show.

    Args:
      network: the network.
      stage: number of the stage, from 0.
      fired: (N, F, H, W) bool, which of its pooled outputs fired.
      open_: mean w(1-w) of its layers, by name, where learners say it.
    """
    by_layer, start = {}, 0
    convs = dict(zip(network.names[stage], network.stages[stage].branches, strict=True))
    for name, conv in convs.items():
        by_layer[name] = float(np.mean(fired[:, start : start + conv.features]))
        start += conv.features
    silent = float(np.mean(~fired.any(axis=(1, 2, 3))))
    words = [f"{percent(share)} of the neurons of {name} fire, after pooling" for name, share in by_layer.items()]
    words.append(f"{percent(silent)} of {len(fired):,} images leave all silent")
    for name, conv in convs.items():
        if by_layer[name] > CROWDED:
            cause = f"the threshold {_number(conv.threshold)} of {name} is too low"
            if open_.get(name, 0.0) >= LEARNED:
                cause = f"{name} has learned too little yet, or its threshold {_number(conv.threshold)} is too low"
            words.append(f"{cause}: nearly every neuron fires")
        elif silent > SILENT:
            words.append(f"the threshold {_number(conv.threshold)} of {name} is too high: try a lower one")
    return dict(silent=silent, firing=by_layer, words=words)


def _number(value: float | None) -> str:
    return "None" if value is None else f"{np.mean(value):g}"


def of_decisions(classes: int, decisions: np.ndarray, learners: Mapping[str, Diagnosis]) -> Diagnosis:
    """What the last supervised epoch shows.

    Args:
      classes: how many there are.
      decisions: (N,) integers, -1 where silent.
      learners: what the learners say themselves, by layer name.
    """
    silent, counts = float(np.mean(decisions < 0)), np.bincount(decisions[decisions >= 0], minlength=classes)
    never = np.flatnonzero(counts == 0)
    words = [
        f"the network stayed silent at {percent(silent)} of the images",
        f"{len(never)} of {classes} classes were never decided for" + listed(never),
        *(word for each in learners.values() for word in each["words"]),
    ]
    if silent > SILENT:
        words.append("too little reaches the deciding layer: see whether the layers before fire")
    elif len(never):
        words.append("some classes get no reward at all: more epochs, or more features a class, may bring them in")
    figures: dict[str, dict[str, object]] = {}
    for name, each in learners.items():
        for key, value in each.items():
            if key != "words":
                figures.setdefault(key, {})[name] = value
    ours = dict(silent=silent, never_decided=len(never), decided=counts.tolist(), words=words)
    return figures | ours
