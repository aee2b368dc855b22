"""Tables of experiments: statistics over several seeds, and files of text."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from snnjax.core import files


def statistics(values: np.ndarray) -> dict[str, Any]:
    """Mean, standard deviation and 95 % interval of the mean over the seeds, (seeds, epochs); None of one seed."""
    from scipy.stats import t

    count = len(values)
    mean = values.mean(axis=0)
    if count == 1:
        return dict(mean=mean.tolist(), sd=None, interval95=None)
    spread = values.std(axis=0, ddof=1)
    half = t.ppf(0.975, count - 1) * spread / math.sqrt(count)
    return dict(mean=mean.tolist(), sd=spread.tolist(), interval95=np.stack([mean - half, mean + half], 1).tolist())


def write_text(path: Path, shown: Table, *notes: str) -> None:
    """Writes a table of the console and notes below it as text."""
    with files.atomic_write(path) as temporary, temporary.open("w") as file:
        Console(file=file, width=120).print(shown, *notes, sep="\n", markup=False, highlight=False)
