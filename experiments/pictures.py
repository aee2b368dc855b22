"""Makes the pictures of the book from real runs."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import matplotlib
from book_pictures import browser, deciding, encoding, features, firing, learning, reports, style
from tyro.conf import Positional

from snnjax.app.main import call, protected
from snnjax.app.options import option
from snnjax.core.errors import unknown
from snnjax.core.files import atomic_write

FOLDER = Path(__file__).parent / "docs" / "pictures"

PICTURES: dict[str, Callable[[], bytes]] = {
    "encoding.png": encoding.still,
    "encoding.gif": encoding.moving,
    "raster.png": deciding.raster,
    "potentials.png": firing.potentials,
    "winners.png": firing.winners,
    "features_growing.png": features.growing,
    "convergence.png": features.convergence,
    "reward_curve.png": learning.reward_curve,
    "race.png": deciding.race,
    "readout_times.png": deciding.readout_times,
    "images.png": learning.images,
    "replication.png": learning.replication,
    "mozafari2018_mnist.png": learning.reward_on_mnist,
    "demo.png": browser.demo,
    "features.png": reports.features,
    "decision_features.png": reports.decision_features,
    "activity.png": reports.activity,
    "costs.png": reports.costs_in_time,
    "graph_skip.png": reports.graph_skip,
    "graph_depths.png": reports.graph_depths,
    "graph_resnet2024.png": reports.graph_resnet2024,
}
"""What makes each file; its docstring says what one sees."""


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Make the pictures of the book from real runs, all or some of them.

    $ python experiments/pictures.py
    $ python experiments/pictures.py encoding race.png
    """

    names: Annotated[Positional[tuple[str, ...]], option("[NAME ...]", "all")] = ()
    """files, with or without their ending"""
    out: Annotated[Path, option("DIR", "experiments/docs/pictures")] = FOLDER
    """folder for the pictures"""


def chosen_files(names: Sequence[str]) -> list[str]:
    """The files that are named, with or without their ending; all if none is. Raises InputError for others."""
    known = {stem for file in PICTURES for stem in (file, Path(file).stem)}
    for name in names:
        if name not in known:
            raise unknown("names", name, known)
    return [file for file in PICTURES if not names or file in names or Path(file).stem in names]


def write(file: str, folder: Path) -> Path:
    """Makes one picture; returns its path."""
    with matplotlib.rc_context(style.RC):
        content = PICTURES[file]()
    path = folder / file
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
    return path


def run(chosen: Pictures) -> None:
    """Makes the pictures and prints their sizes."""
    chosen.out.mkdir(parents=True, exist_ok=True)
    for file in chosen_files(chosen.names):
        path = write(file, chosen.out)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the options, by default those of the command line, and makes the pictures."""
    call("python experiments/pictures.py", Pictures, arguments, run)


if __name__ == "__main__":
    protected(main)
