"""Metrics of decisions over a whole set of images. A silent network (decision -1) is never correct."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def fractions(decisions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy, wrong and silent as fractions of all images, from (N,) integers each; a decision is -1 where silent."""
    return dict(
        accuracy=float(np.mean(decisions == labels)),
        wrong=float(np.mean((decisions >= 0) & (decisions != labels))),
        silent=float(np.mean(decisions < 0)),
    )


def half_interval(values: np.ndarray) -> np.ndarray:
    """Half of the 95 % interval of the mean of at least two values, by Student's t, along the first axis."""
    from scipy import stats

    count = len(values)
    return stats.t.ppf(0.975, count - 1) * values.std(axis=0, ddof=1) / math.sqrt(count)


def tested_part(epoch: Mapping[str, Any]) -> str:
    """The part of the data that a supervised epoch was tested on, given its record: "validation" or "test"."""
    return "validation" if "validation" in epoch else "test"


def spread(values: np.ndarray) -> dict[str, Any]:
    """Mean, sample standard deviation and 95 % interval of the mean along the first axis; None for a single value."""
    mean = values.mean(axis=0)
    if len(values) == 1:
        return dict(mean=mean.tolist(), sd=None, interval95=None)
    half = half_interval(values)
    interval = np.stack([mean - half, mean + half], axis=-1)
    return dict(mean=mean.tolist(), sd=values.std(axis=0, ddof=1).tolist(), interval95=interval.tolist())


def ranking_accuracy(network: Mapping[str, Any]) -> float:
    """The accuracy in % that a sweep ranks a network by, given its record as in sweep.json.

    In validation it is that of the best epoch, in test the last: the best of many epochs in test would flatter.
    """
    best = network["epochs"][network.get("best_epoch", -1)]
    part = tested_part(best)
    return 100 * (best if part == "validation" else network["epochs"][-1])[part]["accuracy"]


def ranking(networks: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """The indices of the networks of each combination, given the records of a sweep; they differ only in their seeds.

    The combination with the best mean `ranking_accuracy` comes first; in a tie, the earlier one. Networks without
    supervised epochs are not ranked. Combinations with networks that learning made invalid come last.
    """
    combinations: dict[Any, list[int]] = {}
    invalid = set()
    for index, network in enumerate(networks):
        numbers = frozenset((name, value) for name, value in network["variant"].items() if name != "seed")
        if network["epochs"]:
            combinations.setdefault(numbers, []).append(index)
        elif "error" in network:
            invalid.add(numbers)

    def rank(numbers: Any) -> tuple[bool, float]:
        accuracies = [ranking_accuracy(networks[index]) for index in combinations[numbers]]
        return numbers in invalid, -float(np.mean(accuracies))

    return [combinations[numbers] for numbers in sorted(combinations, key=rank)]


def report(decisions: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """`fractions`, and scikit-learn's metrics with `scores` (N, classes) >= 0, the score of each class.

    Silent images lower the recall of their class and no precision. The ROC AUC ranks images by `comparable_scores`.

    Returns:
      accuracy, wrong, silent; precision, recall, f1: means over the classes that have images; roc_auc: one class
      against the rest, mean over the classes that some but not all images have, or None; classes: the same for each
      class, and images, their number; confusion_matrix: rows are labels, columns decisions, silent images in no column.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score

    classes = range(scores.shape[1])
    *rates, _ = precision_recall_fscore_support(labels, decisions, labels=classes, zero_division=0)
    named = dict(zip(("precision", "recall", "f1"), rates, strict=True))
    images = np.bincount(labels, minlength=len(classes))
    ranked = comparable_scores(decisions, scores)
    areas = [
        float(roc_auc_score(labels == label, ranked[:, label])) if 0 < images[label] < len(labels) else None
        for label in classes
    ]
    defined = [area for area in areas if area is not None]
    return dict(
        **fractions(decisions, labels),
        **{name: float(rate[images > 0].mean()) for name, rate in named.items()},
        roc_auc=float(np.mean(defined)) if defined else None,
        classes={name: rate.tolist() for name, rate in named.items()} | dict(images=images.tolist(), roc_auc=areas),
        confusion_matrix=confusion_matrix(labels, decisions, labels=[-1, *classes])[1:, 1:].tolist(),
    )


def comparable_scores(decisions: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Scores (N, classes) of N images on one scale, float64, given their decisions, (N,) integers.

    A score s, given the largest score m of the image's other classes, becomes s / (s + m) for the class of the
    decision and -m / (s + m) for every other class, so that the images decided for a class rank before all other
    images. If both scores are 0, it becomes 1/2 or -1/2; for silent images it becomes 0.
    """
    exact = np.asarray(scores, np.float64)
    *_, second, largest = np.sort(np.pad(exact, ((0, 0), (1, 0))), axis=1).T[:, :, None]
    rival = np.where(exact == largest, second, largest)
    decided = decisions[:, None] == np.arange(exact.shape[1])
    total = exact + rival
    equal = np.where(decided, 0.5, -0.5)
    shares = np.divide(np.where(decided, exact, -rival), total, out=equal, where=total > 0)
    return np.where(decisions[:, None] < 0, 0.0, shares)
