"""Tests a trained network on a data set, by default the one that it was trained on.

python experiments/evaluate.py runs/mozafari2018_digits
python experiments/evaluate.py RUN --dataset mnist --data_dir DIR --out evaluation.json
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from simple_parsing import field

from snnjax import InputError, Settings, Trainer, TrainState, data, devices, files, metrics
from snnjax.app import console, report
from snnjax.trained import Trained


@dataclasses.dataclass(frozen=True)
class Options:
    """Which network to test, and on what."""

    run: Path = field(positional=True, metavar="RUN", help="run folder, or its weights.npz")
    dataset: str | None = field(None, help=f"{', '.join(data.DATASETS)}, or an .npz file (that of the training)")
    data_dir: Path | None = field(None, help="folder of the set's files, for all but digits and .npz")
    test_images: int | None = field(None, help="use only the first N test images")
    native: bool = field(False, help="use the compiled kernels, on a CPU")
    device: str = field("auto", choices=devices.KINDS, help="where to run")
    out: Path | None = field(None, help="JSON file to write the figures into")


def show(result: dict[str, Any]) -> None:
    """Prints the figures."""
    print(f"{result['run']} on {result['test_images']:,} test images of {result['dataset']}")
    console.scores(result)
    wrong = np.array(result["confusion_matrix"])
    np.fill_diagonal(wrong, 0)
    taken = [f"{row.argmax()} ({row.max()} times)" if row.any() else "" for row in wrong]
    head, rows = report.classes(result)
    lines = [[*row, other] for row, other in zip(rows, taken, strict=True)]
    console.screen().print(console.table([*head, "most often taken for"], [lines], "classes", left=0))


@console.command(Options, __doc__)
def main(options: Options) -> None:
    """Tests the network, prints the figures, and writes them if asked to."""
    trained = Trained.read(options.run)
    console.check_least(options, test_images=1)
    if options.out is not None:
        console.check_new(options.out)
    name = options.dataset or trained.settings.get("dataset")
    if name is None:
        known = f"one of {', '.join(data.DATASETS)}, or an .npz file"
        raise InputError(f"`dataset` must be named, {options.run} does not say what it was trained on: {known}")
    images = data.load(name, options.data_dir).first(1, options.test_images)
    settings = Settings(epochs=(0,) * len(trained.network.stages), native=options.native)
    trainer = Trainer(trained.network, images, settings)
    decisions, scores = trainer.predict(TrainState(trained.weights), images.test_images)
    result = dict(run=str(options.run), dataset=name, test_images=len(images.test_images))
    result |= metrics.report(decisions, images.test_labels, scores)
    show(result)
    if options.out is not None:
        files.write_json(options.out, result)


if __name__ == "__main__":
    console.run(main)
