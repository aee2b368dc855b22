"""The table of the accuracies of examples/14_spoken_digits.py."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from book_tables.recorded import recorded
from snnjax.app.console import markdown
from snnjax.core.metrics import half_interval

OFFICIAL = "official split"


def spoken_digits(_: Path, __: str) -> str:
    """The test accuracies of each method: on the official split, and for each speaker held out; means over seeds."""
    record = recorded("spoken_digits")["accuracy"]
    speakers = [split for split in next(iter(record.values())) if split != OFFICIAL]
    rows = []
    for method, accuracies in record.items():
        of_speakers = np.array([accuracies[speaker] for speaker in speakers])
        rows.append([method, *map(cell_of, [accuracies[OFFICIAL], of_speakers.mean(axis=0), *of_speakers])])
    return markdown(["method", OFFICIAL, "mean of speakers", *speakers], rows)


def cell_of(accuracies: Sequence[float]) -> str:
    """The mean over the seeds ± half of its 95 % interval, which a single value lacks."""
    mean = f"{np.mean(accuracies):.1f}"
    return mean if len(accuracies) == 1 else f"{mean} ± {half_interval(np.array(accuracies)):.1f}"
