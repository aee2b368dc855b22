"""Why a network does or does not learn: what its outputs and decisions show, in figures and in words."""

from collections.abc import Mapping

import numpy as np

from snnjax.learners import LEARNED, SILENT, Diagnosis, listed, percent
from snnjax.networks import Network

CROWDED = 0.9  # a larger share of neurons that fire means that the threshold is too low


def of_outputs(network: Network, stage: int, fired: np.ndarray, open_: Mapping[str, float] | None = None) -> Diagnosis:
    """Of the pooled outputs of a stage, `fired` (N, F, H, W) bool; `open_`: mean w(1-w) by layer, where known."""
    convs = dict(zip(network.names[stage], network.stages[stage].branches, strict=True))
    ends = np.cumsum([conv.features for conv in convs.values()])
    firing = {name: float(np.mean(x)) for name, x in zip(convs, np.split(fired, ends[:-1], axis=1), strict=True)}
    silent = float(np.mean(~fired.any(axis=(1, 2, 3))))
    words = [f"{percent(share)} of the neurons of {name} fire, after pooling" for name, share in firing.items()]
    words.append(f"{percent(silent)} of {len(fired):,} images leave all silent")
    for name, conv in convs.items():
        threshold = "None" if conv.threshold is None else f"{np.mean(conv.threshold):g}"
        if firing[name] > CROWDED:
            cause = f"the threshold {threshold} of {name} is too low"
            if (open_ or {}).get(name, 0.0) >= LEARNED:
                cause = f"{name} has learned too little yet, or its threshold {threshold} is too low"
            words.append(f"{cause}: nearly every neuron fires")
        elif silent > SILENT:
            words.append(f"the threshold {threshold} of {name} is too high: try a lower one")
    return dict(silent=silent, firing=firing, words=words)


def of_decisions(classes: int, decisions: np.ndarray, learners: Mapping[str, Diagnosis]) -> Diagnosis:
    """Of the decisions of a supervised epoch, (N,), -1 where silent, and the learners' own diagnoses by layer."""
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
    return figures | dict(silent=silent, never_decided=len(never), decided=counts.tolist(), words=words)
