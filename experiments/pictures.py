"""Makes the pictures of the book from real runs: all pictures, or only named ones, such as `encoding.png race.png`.

Animations and screenshots are not made here; they are only kept as files.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
from book_pictures import (
    deciding,
    encoding,
    features,
    firing,
    layers,
    learning,
    plasticity,
    reports,
    simulators,
    speed,
    spoken_digits,
    style,
    windows,
)

from snnjax.app.main import protected
from snnjax.core.errors import unknown
from snnjax.core.files import atomic_write

FOLDER = Path(__file__).parent / "docs" / "pictures"

PICTURES: dict[str, Callable[[], bytes]] = {
    "encoding.png": encoding.encoded,
    "raster.png": deciding.raster,
    "potentials.png": firing.potentials,
    "winners.png": firing.winners,
    "stdp_window.png": plasticity.stdp_window,
    "features_growing.png": features.growing,
    "convergence.png": features.convergence,
    "reward_curve.png": learning.reward_curve,
    "race.png": deciding.race,
    "windows.png": windows.windows,
    "features.png": reports.features,
    "decision_features.png": reports.decision_features,
    "activity.png": reports.activity,
    "layer.png": layers.layer,
    "speed.png": speed.speed_ups,
    "simulators.png": simulators.accuracy_over_seconds,
    "spoken_digits.png": spoken_digits.accuracies_by_split,
    "costs.png": reports.costs_in_time,
    "graph_skip.png": reports.graph_skip,
    "graph_depths.png": reports.graph_depths,
    "graph_resnet2024.png": reports.graph_resnet2024,
}
"""The function that makes each file; its docstring describes the picture."""


def write(file: str, folder: Path) -> Path:
    """Makes one picture and returns its path."""
    with matplotlib.rc_context(style.RC):
        content = PICTURES[file]()
    path = folder / file
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes the named pictures, or all if none is named; arguments are by default those of the command line."""
    parser = argparse.ArgumentParser("python experiments/pictures.py", description=__doc__)
    parser.add_argument("files", nargs="*", metavar="FILE", help=f"any of {', '.join(PICTURES)}")
    files = parser.parse_args(arguments).files or [*PICTURES]
    for file in files:
        if file not in PICTURES:
            raise unknown("FILE", file, PICTURES)
    for file in files:
        path = write(file, FOLDER)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    with protected():
        main()
