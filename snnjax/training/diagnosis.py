"""Why a layer does or does not learn: a few figures after each phase, and what they mean in words."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from snnjax.layers import Conv
from snnjax.networks import Network

SILENT, CROWDED = 0.5, 0.9
"""Shares above which something is plainly wrong: of images at which nobody fires, of neurons that fire."""
OFTEN = 5.0
"""A feature that wins so many times as often as the mean wins too often."""
LEARNED = 0.05
"""Mean w(1-w) below which weights count as converged; 0.16 at the initial 0.8, 0 at the bounds 0 and 1."""

Diagnosis = dict[str, Any]
"""Figures by name, and "words": sentences; all of it JSON data."""


def convergence(weights: np.ndarray, bounds: tuple[float, float] = (0.0, 1.0)) -> float:
    """Mean w(1-w), w the weight's place between its bounds: 0 where all have reached one of them."""
    place = (np.asarray(weights, np.float64) - bounds[0]) / (bounds[1] - bounds[0])
    return float(np.mean(np.clip(place * (1 - place), 0, None)))  # initial weights may lie beyond the bounds


def of_stdp(layer: Conv, weights: np.ndarray, won: np.ndarray) -> Diagnosis:
    """What one epoch of STDP of a layer shows.

    Args:
      layer: its description.
      weights: (F, C, kh, kw) after the epoch.
      won: (N, k) integers, the features that won for each image, -1 where nobody did.
    """
    assert layer.stdp is not None  # whoever asks has trained it
    wins = np.bincount(won[won >= 0], minlength=layer.features)
    silent = float(np.mean(np.all(won < 0, axis=1)))
    never, often = np.flatnonzero(wins == 0), np.flatnonzero(wins > OFTEN * wins.mean())
    open_ = convergence(weights, layer.stdp.bounds)
    words = [
        f"nobody fired at {_percent(silent)} of the images",
        f"{len(never)} of {layer.features} features never won" + _which(never),
        f"{len(often)} won more than {OFTEN:g} times as often as the mean" + _which(often),
        f"mean w(1-w) is {open_:.3f}" + (", converged" if open_ < LEARNED else ", not converged yet"),
    ]
    if silent > SILENT:
        words.append(f"the threshold {layer.threshold} is plainly too high: try a lower one")
    elif len(never) > layer.features / 2:
        words.append("most features never win: fewer of them, more winners or a smaller radius would use them better")
    elif open_ >= LEARNED:
        words.append("more images or epochs, or higher rates, would let the weights converge")
    return dict(
        silent=silent,
        never_won=len(never),
        won_too_often=len(often),
        wins=wins.tolist(),
        convergence=open_,
        words=words,
    )


def of_outputs(
    spec: Network, stage: int, fired: np.ndarray, open_: Mapping[str, float] = MappingProxyType({})
) -> Diagnosis:
    """What the outputs of a stage show.

    Args:
      spec: the network.
      stage: number of the stage, from 0.
      fired: (N, F, H, W) bool, which of its pooled outputs fired.
      open_: `convergence` of its layers that have learned by STDP.
    """
    by_layer, start = {}, 0
    for number, name, layer in spec.layers():
        if number == stage:
            by_layer[name] = float(np.mean(fired[:, start : start + layer.features]))
            start += layer.features
    silent = float(np.mean(~fired.any(axis=(1, 2, 3))))
    words = [f"{_percent(share)} of the neurons of {name} fire, after pooling" for name, share in by_layer.items()]
    words.append(f"{_percent(silent)} of the {len(fired):,} images looked at leave all silent")
    for number, name, layer in spec.layers():
        if number == stage and by_layer[name] > CROWDED:
            cause = f"the threshold {layer.threshold} of {name} is plainly too low"
            if open_.get(name, 0.0) >= LEARNED:
                cause = f"{name} has learned too little yet, or its threshold {layer.threshold} is too low"
            words.append(f"{cause}: nearly every neuron fires")
        elif number == stage and silent > SILENT:
            words.append(f"the threshold {layer.threshold} of {name} is plainly too high: try a lower one")
    return dict(silent=silent, firing=by_layer, words=words)


def of_reward(spec: Network, weights: dict[str, np.ndarray], decisions: np.ndarray) -> Diagnosis:
    """What the last epoch of the reward phase shows.

    Args:
      spec: the network.
      weights: after the epoch, by layer name.
      decisions: (N,) integers, -1 where silent.
    """
    open_ = {
        name: convergence(weights[name], layer.rstdp.bounds)
        for _, name, layer in spec.layers()
        if layer.rstdp is not None
    }
    silent, counts = float(np.mean(decisions < 0)), np.bincount(decisions[decisions >= 0], minlength=spec.classes)
    never = np.flatnonzero(counts == 0)
    words = [
        f"the network stayed silent at {_percent(silent)} of the images",
        f"{len(never)} of {spec.classes} classes were never decided for" + _which(never),
        *(f"mean w(1-w) between the bounds of {name} is {value:.3f}" for name, value in open_.items()),
    ]
    if silent > SILENT:
        words.append("too little reaches the decision layer: see whether the layers before fire")
    elif len(never):
        words.append("some classes get no reward at all: more epochs, or more features a class, may bring them in")
    return dict(silent=silent, never_decided=len(never), decided=counts.tolist(), convergence=open_, words=words)


def _percent(share: float) -> str:
    return f"{100 * share:.{0 if share == 0 or share > 0.1 else 1}f} %"


def _which(numbers: Sequence[int] | np.ndarray) -> str:
    shown = ", ".join(map(str, numbers[:8]))
    return f" ({shown}{', ...' if len(numbers) > 8 else ''})" if len(numbers) else ""
