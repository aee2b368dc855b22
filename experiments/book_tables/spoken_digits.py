"""The table of the accuracies of examples/14_spoken_digits.py."""

from pathlib import Path

import numpy as np

from book_tables.recorded import recorded
from snnjax.app.console import markdown

OFFICIAL = "official split"


def spoken_digits(_: Path, __: str) -> str:
    """The test accuracies of each method: on the official split, and for each speaker held out."""
    record = recorded("spoken_digits")["accuracy"]
    speakers = [split for split in next(iter(record.values())) if split != OFFICIAL]
    rows = []
    for method, accuracies in record.items():
        means = {split: float(np.mean(values)) for split, values in accuracies.items()}
        mean = float(np.mean([means[speaker] for speaker in speakers]))
        rows.append([method, *(f"{value:.1f}" for value in (means[OFFICIAL], mean, *map(means.get, speakers)))])
    return markdown(["method", OFFICIAL, "mean of speakers", *speakers], rows)
