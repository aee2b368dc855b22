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


def report(decisions: np.ndarray, labels: np.ndarray, potentials: np.ndarray) -> dict[str, Any]:
    """As `fractions`, with scikit-learn's metrics of a whole test set.

    Silent images lower the recall of their class and no precision; for the ROC AUC their potentials, zeros, count as
    they are: every class is as likely. Potentials grow with the number of an image's spikes, so that images are not on
    one scale, and the ROC AUC is far lower than the accuracy suggests.

    Args:
      decisions: (N,) integers, -1 where silent.
      labels: (N,) integers.
      potentials: (N, classes), the largest potential of each class.

    Returns:
      accuracy, wrong, silent; f1, precision, recall: means over the classes that have images; roc_auc: one class
      against the rest, mean over the classes that some but not all images have, None if there are none; classes: the
      same for each class; confusion_matrix: rows are labels, columns decisions, silent images in no column.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score

    classes, decided = range(potentials.shape[1]), decisions >= 0
    matrix = np.zeros((len(classes), len(classes)), int)
    if decided.any():
        matrix = confusion_matrix(labels[decided], decisions[decided], labels=classes)
    scores = precision_recall_fscore_support(labels, decisions, labels=classes, zero_division=0)
    areas = [
        float(roc_auc_score(labels == each, potentials[:, each])) if 0 < np.sum(labels == each) < len(labels) else None
        for each in classes
    ]
    each_class = dict(zip(("precision", "recall", "f1", "images"), (score.tolist() for score in scores), strict=True))
    counts, averaged = each_class["images"], ("f1", "precision", "recall")
    known = [area for area in areas if area is not None]
    return dict(
        **fractions(decisions, labels),
        **{name: float(np.mean([v for v, n in zip(each_class[name], counts, strict=True) if n])) for name in averaged},
        roc_auc=float(np.mean(known)) if known else None,
        classes=dict(each_class, roc_auc=areas),
        confusion_matrix=matrix.tolist(),
    )
