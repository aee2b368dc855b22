"""Findings, in figures and words, on what the stages of a network put out and on what it decides."""

from collections.abc import Mapping, Sequence

import numpy as np

from snnjax.learners import LEARNED, SILENT, Diagnosis, listed, percent
from snnjax.networks import Network

CROWDED = 0.9  # a larger share of neurons that fire means that the threshold is too low


def diagnose_outputs(network: Network, stage: int, fired: np.ndarray, open_: Mapping[str, float]) -> Diagnosis:
    """Findings on the pooled outputs of a stage, `fired` (N, F, H, W) bool; `open_`: mean w(1-w) by layer, if known."""
    convs = dict(zip(network.names[stage], network.stages[stage].branches, strict=True))
    ends = np.cumsum([conv.features for conv in convs.values()])
    firing = {name: float(np.mean(x)) for name, x in zip(convs, np.split(fired, ends[:-1], axis=1), strict=True)}
    silent = float(np.mean(~fired.any(axis=(1, 2, 3))))
    words = [f"{percent(share)} of the neurons of {name} fire, after pooling" for name, share in firing.items()]
    words.append(f"{percent(silent)} of {len(fired):,} images leave all silent")
    for name, conv in convs.items():
        if conv.real:
            continue  # it has no threshold
        threshold = "None" if conv.threshold is None else f"{np.mean(conv.threshold):g}"
        if firing[name] > CROWDED:
            cause = f"the threshold {threshold} of {name} is too low"
            if open_.get(name, 0.0) >= LEARNED:
                cause = f"{name} has learned too little yet, or its threshold {threshold} is too low"
            words.append(f"{cause}: nearly every neuron fires")
        elif silent > SILENT:
            words.append(f"the threshold {threshold} of {name} is too high: try a lower one")
    for number, name, conv in network.layers():
        if number <= stage and conv.standardise and np.all(conv.standardise.variance == 1):
            words.append(f"no learner has moved the moments that standardise {name}: one with a `rate` of 0 may do")
    return dict(silent=silent, firing=firing, words=words)


def diagnose_decisions(names: Sequence[str], decisions: np.ndarray, learners: Mapping[str, Diagnosis]) -> Diagnosis:
    """Findings on the decisions of a supervised epoch, (N,), -1 where silent, with those of the learners by layer.

    `names` are those of the classes.
    """
    silent, counts = float(np.mean(decisions < 0)), np.bincount(decisions[decisions >= 0], minlength=len(names))
    never = [name for name, count in zip(names, counts, strict=True) if count == 0]
    words = [
        f"the network stayed silent at {percent(silent)} of the images",
        f"{len(never)} of {len(names)} classes were never predicted" + listed(never),
        *by_layer(learners)["words"],
    ]
    if silent > SILENT:
        words.append("too little reaches the deciding layer: see whether the layers before fire")
    elif len(never) and learners:
        words.append("some classes are never chosen: more epochs, or more features a class, may help")
    known = dict(silent=silent, never_decided=len(never), decided=counts.tolist(), words=words)
    return by_layer(learners) | known


def by_layer(learners: Mapping[str, Diagnosis]) -> Diagnosis:
    """The findings of several learners, by layer, as one: each figure by layer, and the words of all."""
    figures: dict[str, dict[str, object]] = {}
    for name, each in learners.items():
        for key, value in each.items():
            if key != "words":
                figures.setdefault(key, {})[name] = value
    return figures | dict(words=[word for each in learners.values() for word in each["words"]])
