"""Metrics of the decisions for a set of images. A decision of -1, made by a silent network, is never correct."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def fractions(decisions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The fractions of images that are decided correctly, decided wrongly and silent.

    The keys are accuracy, wrong and silent. `decisions` and `labels` are integers (N,); the decision for a silent image
    is -1.
    """
    return dict(
        accuracy=float(np.mean(decisions == labels)),
        wrong=float(np.mean((decisions >= 0) & (decisions != labels))),
        silent=float(np.mean(decisions < 0)),
    )


def half_interval(values: np.ndarray) -> np.ndarray:
    """Half the width of the 95 % confidence interval of the mean of >= 2 values along the first axis (Student's t)."""
    from scipy import stats

    count = len(values)
    return stats.t.ppf(0.975, count - 1) * values.std(axis=0, ddof=1) / math.sqrt(count)


def tested_part(epoch: Mapping[str, Any]) -> str:
    """The part of the data on which a supervised epoch was tested, "validation" or "test", given the epoch's record."""
    return "validation" if "validation" in epoch else "test"


def spread(values: np.ndarray) -> dict[str, Any]:
    """The mean, its 95 % confidence interval and the sample standard deviation along the first axis.

    For a single value, the interval and the standard deviation are None.
    """
    mean = values.mean(axis=0)
    if len(values) == 1:
        return dict(mean=mean.tolist(), sd=None, interval95=None)
    half = half_interval(values)
    interval = np.stack([mean - half, mean + half], axis=-1)
    return dict(mean=mean.tolist(), sd=values.std(axis=0, ddof=1).tolist(), interval95=interval.tolist())


def ranking_accuracy(network: Mapping[str, Any]) -> float:
    """The accuracy in % by which a network is ranked in a sweep, given its record as in sweep.json.

    It is the validation accuracy of the best epoch or, without held-out images, the test accuracy of the last epoch,
    because the best test accuracy of many epochs would be too optimistic.
    """
    best = network["epochs"][network.get("best_epoch", -1)]
    part = tested_part(best)
    return 100 * (best if part == "validation" else network["epochs"][-1])[part]["accuracy"]


def ranking(networks: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """The indices of networks, grouped by combination of values and ranked, given the records of a sweep.

    The networks of a combination differ only in their seeds. The combination with the best mean `ranking_accuracy`
    comes first; in a tie, the earlier combination. Networks without supervised epochs are not ranked. Combinations that
    include networks which learning has made invalid come last.
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
    """The `fractions` and scikit-learn's metrics; `scores` (N, classes) >= 0 holds a score for each image and class.

    Silent images lower the recall of their class, but no precision. For the ROC AUC, images are ranked by
    `comparable_scores`.

    Returns:
      A dict with these keys: accuracy, wrong and silent, the `fractions`; precision, recall and f1, averaged over the
      classes that have images; roc_auc, one class against the rest, averaged over the classes that some but not all
      images belong to, or None if there are no such classes; classes, lists of the same metrics for each class and of
      its number of images; confusion_matrix, whose rows are labels and whose columns are decisions, and which has no
      column for silent images.
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
    """Scores (N, classes), float64, that can be compared between images, given the `decisions`, (N,) integers.

    Let s be the score of a class, and m the largest score of the image's other classes. The result is s / (s + m) for
    the class of the decision and -m / (s + m) for every other class, so that the images decided for a class rank before
    all other images. If both scores are 0, the result is 1/2 or -1/2; for silent images it is 0.
    """
    exact = np.asarray(scores, np.float64)
    *_, second, largest = np.sort(np.pad(exact, ((0, 0), (1, 0))), axis=1).T[:, :, None]
    rival = np.where(exact == largest, second, largest)
    decided = decisions[:, None] == np.arange(exact.shape[1])
    total = exact + rival
    equal = np.where(decided, 0.5, -0.5)
    shares = np.divide(np.where(decided, exact, -rival), total, out=equal, where=total > 0)
    return np.where(decisions[:, None] < 0, 0.0, shares)
