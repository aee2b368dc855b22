"""Sentences that explain the figures of a phase, with advice if they are bad."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from snnjax.layers.conv import Conv
from snnjax.learners import RSTDP, STDP, Diagnosis, LocalError, Prototypes, SoftHebb, SupervisedSTDP, TargetTime
from snnjax.networks import Network
from snnjax.networks.graph import name_of

Figures = Mapping[str, Any]

SILENT_SHARE = 0.5  # a larger share of images without spikes means that the threshold is too high
CROWDED = 0.9  # a larger share of neurons that fire means that the threshold is too low
CONVERGED = 0.05  # mean w(1-w) below which weights count as converged; 0.16 at the initial 0.8, 0 at the bounds 0 and 1
OFTEN = 5.0  # a feature with more than this multiple of the mean wins is too dominant
AT_FIRST_STEP = 0.9  # a larger share of decisions at the first step means that the threshold is too low
EARLY = 0.05  # an earlier mean spike time means that the threshold is too low
MISSED = 0.1  # a larger mean |actual - desired time| means that targets are not reached
OFF_TARGET = 0.05  # a larger distance of the mean spike time from the target
DRIFT = 0.02  # a larger change of the thresholds in half an epoch, relative to their mean
STILL = 1e-3  # a layer whose weights have moved less, relative to their size, has not learned


def describe(name: str, layer: Any, learner: Any, figures: Figures) -> list[str]:
    """Sentences about the figures that a learner of a layer `name` has diagnosed; generic ones for a custom learner."""
    for kind, sentences in _SENTENCES.items():
        if isinstance(learner, kind) and type(learner).diagnose is kind.diagnose:
            return sentences(name, layer, learner, figures)
    return [f"{key} of {name} is {value:.4g}" for key, value in figures.items() if isinstance(value, int | float)]


def describe_winners(name: str, layer: Any, figures: Figures) -> list[str]:
    """Sentences about `default_figures` of a layer `name`."""
    words = []
    advice = []
    if "wins" in figures:
        silent = figures["silent_images"]
        words += [
            f"{percent(silent)} of the images had no winner in {name}",
            _never_won(figures, f"features of {name}"),
            _won_often(figures),
        ]
        if silent > SILENT_SHARE and layer.conv.threshold is not None:
            advice = [f"{_threshold(layer.conv)} of {name} is too high: try a lower one"]
        elif figures["never_won"] > len(figures["wins"]) / 2 and not layer.classes:
            advice = [_FEWER_FEATURES]
    words.append(f"the mean weight of {name} is {figures['weights_mean']:.4g}")
    if "at_bounds" in figures:
        words.append(f"{percent(figures['at_bounds'])} of the weights of {name} lie at their bounds")
    return words + advice


_FEWER_FEATURES = "most features never win: try fewer features, more winners or a smaller radius"


def _of_stdp(name: str, layer: Any, learner: STDP, figures: Figures) -> list[str]:
    wins = np.asarray(figures["wins"])
    silent = figures["silent"]
    words = [
        f"{percent(silent)} of the images were silent",
        _never_won(figures, "features"),
        _won_often(figures),
        _convergence(figures),
    ]
    if silent > SILENT_SHARE and layer.conv.threshold is not None:
        words.append(f"{_threshold(layer.conv)} is too high: try a lower one")
    elif figures["never_won"] > len(wins) / 2:
        words.append(_FEWER_FEATURES)
    elif figures["convergence"] >= CONVERGED:
        words.append("more images or epochs, or higher rates, would let the weights converge")
    return words


def _of_target_time(name: str, layer: Any, learner: TargetTime, figures: Figures) -> list[str]:
    threshold = np.asarray(layer.conv.threshold)
    mean = figures["spike_time"]
    target = figures["target_time"]
    drift = figures["threshold_drift"]
    span = f"{threshold.min():.2f}..{threshold.max():.2f}, mean {threshold.mean():.2f}"
    silent = f"{percent(figures['silent'])} of the patches were silent"
    if not sum(figures["wins"]):
        falling = "thresholds fall as long as inputs fire, so train for more epochs, or start from a lower threshold"
        return [silent, f"thresholds of {name} lie in {span}", f"nothing is learned yet: {falling}"]
    moving = f"still moving: by {percent(drift)} in half an epoch" if drift > DRIFT else "settled"
    words = [
        silent,
        _never_won(figures, "features"),
        f"winners fired at {mean:.3f} of the time on average, the target is {target:g}",
        f"thresholds lie in {span}, {moving}",
        _convergence(figures),
    ]
    if figures["silent"] > SILENT_SHARE:
        words.append(f"{name} learns from few of the patches: smaller images (--size) have fewer blank ones")
    elif abs(mean - target) > OFF_TARGET:
        stuck = mean > target and np.median(threshold) < 1.05 * learner.threshold_min
        advice = "a lower `threshold_min`" if stuck else "more epochs"
        words.append(f"the target is not reached: {advice} may help")
    elif drift > DRIFT:
        words.append("more epochs, or a smaller `annealing`, would let the thresholds settle")
    return words


def _of_soft_hebb(name: str, layer: Any, learner: SoftHebb, figures: Figures) -> list[str]:
    least, largest = figures["norms"]
    settled, count = figures["settled"]
    wins = np.asarray(figures["wins"])
    most = float(wins.max() / max(wins.sum(), 1))
    words = [
        f"weight vectors of {name} have norms of {least:.3g}..{largest:.3g}, {figures['norm_distance']:.2g} from 1 on "
        f"average: {settled} of {count} have settled",
        _never_won(figures, "features"),
        f"the evenness of wins is {figures['evenness']:.2f} (1: all features win equally often, 0: always the same "
        f"one), and the feature with the most wins has {percent(most)} of them",
    ]
    if figures["moved"] < STILL:
        words.append(f"{name} has not moved: try a higher `rate`, or images with more contrast")
    if figures["never_won"] > len(wins) / 2:
        words.append(f"most features of {name} never win: try fewer, or a smaller `inverse_temperature`")
    return words


def _of_local_error(name: str, layer: Any, learner: LocalError, figures: Figures) -> list[str]:
    words = [
        f"the head of {name} was right for {percent(figures['head_right'])} of the images while it learned, its mean "
        f"loss was {figures['loss']:.3g}",
        f"{percent(figures['active'])} of the activities that its head read were above 0",
    ]
    if figures["moved"] < STILL:
        words.append(f"{name} has not moved: try a higher `rate`")
    return words


def _of_reward(name: str, layer: Any, learner: RSTDP, figures: Figures) -> list[str]:
    dropped = ", dropped ones among them" if learner.dropout and figures["never_won"] else ""
    words = [
        f"mean w(1-w) between the bounds of {name} is {figures['convergence']:.3f}",
        _never_won(figures, f"features of {name}") + dropped,
    ]
    if "silent_neurons" not in figures:
        return words
    silent = figures["silent_neurons"]
    early = figures["at_first_step"]
    words.append(f"{percent(silent)} of the images were silent in {name}")
    if silent < 1:
        step = figures["spike_time"] * layer.time_steps
        words.append(f"the first one fired at step {step:.1f} of {layer.time_steps} on average, counted from 0")
    if layer.conv.threshold is not None and silent > SILENT_SHARE:
        words.append(f"{_threshold(layer.conv)} of {name} is too high: try a lower one")
    elif layer.conv.threshold is not None and early > AT_FIRST_STEP:
        first = f"{percent(early)} of the first spikes occur at the first step"
        words.append(f"{_threshold(layer.conv)} of {name} is too low: {first}")
    return words


def _untaught(figures: Figures) -> str:
    taught, images = figures["taught"]
    return f"nothing was learned from {percent(1 - taught / images if images else 1.0)} of the images"


def _of_supervised(name: str, layer: Any, learner: SupervisedSTDP, figures: Figures) -> list[str]:
    silent = figures["silent_neurons"]
    mean = figures["spike_time"]
    missed = figures["time_error"]
    wins = figures["wins"]
    words = [
        _untaught(figures),
        f"{percent(silent)} of the neurons that learned from an image were silent; the neurons that fired did so at "
        f"{mean:.3f} T on average, {missed:.3f} T from their desired times",
        _never_won(figures, "neurons"),
    ]
    if "training_threshold_min" in figures:
        least, average, largest = (figures[f"training_threshold_{kind}"] for kind in ("min", "mean", "max"))
        words.append(f"training thresholds of {name} end at {least:.4g}..{largest:.4g}, mean {average:.4g}")
    if silent > SILENT_SHARE:
        words.append(f"{_threshold(layer.conv)} is too high: try a lower one")
    elif figures["taught"][0] and mean < EARLY:
        fire = "neurons fire at the first steps, regardless of later inputs: try a higher one"
        words.append(f"{_threshold(layer.conv)} is too low: {fire}")
    elif missed > MISSED:
        words.append("desired times are not reached: try more epochs, higher rates or another threshold")
    if figures["never_won"] and learner.competitors(layer) and sum(wins):
        words.append("some neurons never win in their class: try a higher `threshold_rate`, or fewer neurons per class")
    return words


def _of_prototypes(name: str, layer: Any, learner: Prototypes, figures: Figures) -> list[str]:
    unseen = int(np.sum(np.asarray(learner.wins) == 0))
    wins = np.asarray(figures["wins"])
    words = [
        _untaught(figures),
        f"{percent(figures['corrected'])} of the remaining images were corrected",
        f"{np.sum(wins == 0)} of {len(wins)} neurons of {name} won no image, and are means of their classes",
    ]
    if unseen:
        words.append(f"{unseen} neurons of {name} are silent, because their classes had no images")
    return words


_SENTENCES: dict[Any, Callable[..., list[str]]] = {
    STDP: _of_stdp,
    TargetTime: _of_target_time,
    SoftHebb: _of_soft_hebb,
    LocalError: _of_local_error,
    RSTDP: _of_reward,
    SupervisedSTDP: _of_supervised,
    Prototypes: _of_prototypes,
}


def _threshold(conv: Conv) -> str:
    return f"the threshold {None if conv.threshold is None else format(np.mean(np.asarray(conv.threshold)), 'g')}"


def _never_won(figures: Figures, kind: str) -> str:
    wins = np.asarray(figures["wins"])
    never = np.flatnonzero(wins == 0)
    if not len(never):
        return f"all {len(wins)} {kind} won at least once"
    return f"{len(never)} of {len(wins)} {kind} never won" + listed(never)


def _won_often(figures: Figures) -> str:
    wins = np.asarray(figures["wins"])
    often = np.flatnonzero(wins > OFTEN * wins.mean())
    return f"{len(often)} won more than {OFTEN:g} times as often as the mean" + listed(often)


def _convergence(figures: Figures) -> str:
    converged = "converged" if figures["convergence"] < CONVERGED else "not converged yet"
    return f"mean w(1-w) is {figures['convergence']:.3f}, {converged}"


def diagnose_outputs(network: Network, stage: int, fired: np.ndarray, open_: Mapping[str, float]) -> Diagnosis:
    """Findings on the pooled outputs of a stage, `fired` (N, F, H, W) bool; `open_`: mean w(1-w) by layer, if known.

    For a stage without layers, they are named after the stage.
    """
    convs = dict(zip(network.names[stage], network.stages[stage].branches, strict=True))
    ends = np.cumsum([conv.features for conv in convs.values()])
    parts = np.split(fired, ends[:-1], axis=1)
    firing = {name: float(np.mean(x)) for name, x in zip(convs or [name_of(stage + 1)], parts, strict=True)}
    silent = float(np.mean(~fired.any(axis=(1, 2, 3))))
    words = [f"{percent(share)} of the neurons of {name} fire, after pooling" for name, share in firing.items()]
    words.append(f"{percent(silent)} of {len(fired):,} images make no neuron fire")
    for name, conv in convs.items():
        if conv.ramped:
            continue  # it has no threshold
        if firing[name] > CROWDED:
            cause = f"{_threshold(conv)} of {name} is too low"
            if open_.get(name, 0.0) >= CONVERGED:
                cause = f"{name} has learned too little yet, or {_threshold(conv)} is too low"
            words.append(f"{cause}: nearly every neuron fires")
        elif silent > SILENT_SHARE:
            words.append(f"{_threshold(conv)} of {name} is too high: try a lower one")
    for number, name, conv in network.layers():
        if number <= stage and conv.standardise and np.all(conv.standardise.variance == 1):
            words.append(f"no learner has set the moments that standardise {name}: a `rate` of 0 is sufficient")
    return dict(silent=silent, firing=firing, words=words)


def diagnose_threshold(given: Any, chosen: Any) -> Diagnosis:
    """Findings on a deciding layer whose learner has chosen another threshold than the one given."""
    before = np.mean(np.asarray(given))
    after = np.mean(np.asarray(chosen))
    return dict(words=[f"the threshold {before:g} becomes {after:g}: neurons would hardly reach it"])


def diagnose_decisions(names: Sequence[str], decisions: np.ndarray, learners: Diagnosis) -> Diagnosis:
    """Findings on the decisions of a supervised epoch, (N,), -1 where silent, with those of its `learners`.

    `names` are the classes' names.
    """
    silent = float(np.mean(decisions < 0))
    counts = np.bincount(decisions[decisions >= 0], minlength=len(names))
    never = [name for name, count in zip(names, counts, strict=True) if count == 0]
    predicted = f"{len(never)} of {len(names)} classes were never predicted" + listed(never)
    words = [
        f"the network was silent for {percent(silent)} of the images",
        predicted if never else f"all {len(names)} classes were predicted",
        *learners.get("words", []),
    ]
    if silent > SILENT_SHARE:
        words.append("the deciding layer receives too few spikes: check whether the layers before it fire")
    elif len(never) and learners:
        words.append("some classes are never chosen: more epochs, or more features per class, may help")
    return learners | dict(silent=silent, never_decided=len(never), decided=counts.tolist(), words=words)


def percent(share: float) -> str:
    """A share in percent, with a digit after the point if it is small."""
    return f"{100 * share:.{0 if share == 0 or share > 0.1 else 1}f} %"


def listed(things: Sequence[Any] | np.ndarray) -> str:
    """The first of some numbers or names in parentheses."""
    first = ", ".join(map(str, things[:8]))
    return f" ({first}{', ...' if len(things) > 8 else ''})" if len(things) else ""
