"""Tests a trained network on a data set, the one that it was trained on by default.

python experiments/evaluate.py runs/mozafari2018_digits
python experiments/evaluate.py RUN --dataset mnist --data_dir DIR --out evaluation.json
"""

import dataclasses
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from simple_parsing import field

from snnjax import data, devices, files, metrics
from snnjax.app import console
from snnjax.errors import InputError
from snnjax.trained import Trained
from snnjax.training.state import Settings, TrainState
from snnjax.training.trainer import Trainer


@dataclasses.dataclass(frozen=True)
class Options:
    """Which network to test, and on what."""

    run: Path = field(positional=True, metavar="RUN", help="run folder, or its weights.npz")
    dataset: str | None = field(
        default=None, help=f"{', '.join(data.DATASETS)}, or an .npz file (the set that it was trained on)"
    )
    data_dir: Path | None = field(default=None, help="folder of the set's files, for all but digits")
    test_images: int | None = field(default=None, help="use only the first so many test images")
    native: bool = field(default=False, help="use the compiled kernels, on a CPU")
    device: str = field(default="auto", help="auto, cpu, gpu or tpu")
    out: Path | None = field(default=None, help="JSON file to write the figures into")


def evaluate(options: Options) -> dict[str, Any]:
    """The figures of `metrics.report`, with what was tested on what.

    Raises:
      InputError, OSError: options, run or data are bad.
    """
    trained = Trained.read(options.run)
    if options.test_images is not None and options.test_images < 1:
        raise InputError(f"`test_images` must be at least 1, got {options.test_images}")
    if options.out is not None:
        console.check_new(options.out)
    name = options.dataset or trained.settings.get("dataset")
    if name is None:
        raise InputError(
            f"`dataset` must be named, {options.run} does not say what it was trained on: one of "
            f"{', '.join(data.DATASETS)}, or an .npz file as `Dataset.save` writes it"
        )
    images = data.load(name, options.data_dir).first(1, options.test_images)
    settings = Settings(epochs=(0,) * len(trained.network.stages), native=options.native)
    trainer = Trainer(trained.network, images, settings)
    decisions, scores = trainer.predict(TrainState(trained.weights), images.test_images)
    result = dict(run=str(options.run), dataset=name, test_images=len(images.test_images))
    return result | metrics.report(decisions, images.test_labels, scores)


def show(result: dict[str, Any]) -> None:
    """Prints the figures."""
    print(f"{result['run']} on {result['test_images']:,} test images of {result['dataset']}")
    console.scores(result)
    table = Table(title="classes", title_justify="left")
    for name in ("class", "images", "precision", "recall", "F1", "most often taken for"):
        table.add_column(name, justify="right")
    classes = result["classes"]
    for number, row in enumerate(result["confusion_matrix"]):
        others = [0 if at == number else count for at, count in enumerate(row)]
        worst = max(range(len(row)), key=others.__getitem__)
        scores = [f"{classes[name][number]:.3f}" for name in ("precision", "recall", "f1")]
        taken = f"{worst} ({others[worst]} times)" if others[worst] else ""
        table.add_row(str(number), f"{classes['images'][number]:,}", *scores, taken)
    Console().print(table)


def main(arguments: list[str] | None = None) -> None:
    """Runs from the command line."""
    options = console.options(Options, __doc__, arguments)
    with console.user_errors():
        devices.choose(options.device)
        result = evaluate(options)
        show(result)
        if options.out is not None:
            files.write_json(options.out, result)


if __name__ == "__main__":
    console.run(main)
