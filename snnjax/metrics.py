"""Metrics of decisions over a whole set of images. A silent network (decision -1) is never correct."""

from typing import Any

import numpy as np


def fractions(decisions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy, wrong and silent as fractions of all images; they add up to 1.

    Args:
      decisions: (N,) integers, -1 where silent.
      labels: (N,) integers.
    """
    return dict(
        accuracy=float(np.mean(decisions == labels)),
        wrong=float(np.mean((decisions >= 0) & (decisions != labels))),
        silent=float(np.mean(decisions < 0)),
    )


def report(decisions: np.ndarray, labels: np.ndarray, classes: int) -> dict[str, Any]:
    """As `fractions`, and the confusion matrix: rows are labels, columns decisions; silent images are in no column."""
    from sklearn.metrics import confusion_matrix

    decided = decisions >= 0
    matrix = np.zeros((classes, classes), int)
    if decided.any():
        matrix = confusion_matrix(labels[decided], decisions[decided], labels=range(classes))
    return dict(**fractions(decisions, labels), confusion_matrix=matrix.tolist())
