"""The picture of the accuracies of examples/14_spoken_digits.py."""

import numpy as np
from book_tables.recorded import recorded
from book_tables.spoken_digits import OFFICIAL

from book_pictures import style
from snnjax.app import plots
from snnjax.core.metrics import half_interval

MARKS = {
    "linear": ("s", "0.7"),
    "gaussian": ("v", "0.4"),
    "convolutional": ("^", style.GREEN),
    "softhebb_narrow": ("D", style.OFF),
    "local_narrow": ("o", style.ON),
}
"""The marker and the colour of each method."""


def accuracies_by_split() -> bytes:
    """Test accuracies of five methods on the official split, and for each speaker held out; lines are intervals."""
    record = recorded("spoken_digits")["accuracy"]
    speakers = sorted(
        (split for split in record["linear"] if split != OFFICIAL),
        key=lambda speaker: -np.mean(record["linear"][speaker]),
    )
    splits = [OFFICIAL, *speakers]
    figure = style.sheet(3.0)
    axis = figure.subplots()
    for number, (method, (marker, color)) in enumerate(MARKS.items()):
        accuracies = np.array([record[method][split] for split in splits]).T
        axis.errorbar(
            accuracies.mean(axis=0),
            np.arange(len(splits)) + (number - 2) * 0.14,
            xerr=half_interval(accuracies) if len(accuracies) > 1 else None,
            fmt=marker,
            color=color,
            label=method,
        )
    axis.set(xlabel="test accuracy, %", ylim=(len(splits) - 0.5, -0.5))
    axis.set_yticks(range(len(splits)), [OFFICIAL, *(f"speaker {speaker}" for speaker in speakers)])
    axis.axhline(0.5, color="0.8", linewidth=0.8)
    axis.grid(alpha=0.3, axis="x")
    axis.legend(loc="upper left", frameon=True, facecolor="white", edgecolor="none", framealpha=1)
    return plots.png(figure)
