"""Trains a spiking network on digits by STDP and reward, and leaves a folder with what it learned.

python experiments/train.py                                     scikit-learn's digits, about a minute
python experiments/train.py --dataset mnist --data_dir DIR      MNIST from IDX files, gzipped or not
python experiments/train.py --dataset cifar10 --data_dir DIR    colour images, from the files of the binary version
"""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

from simple_parsing import field

from snnjax import data, devices
from snnjax.app import console
from snnjax.app.runs import RunFolder
from snnjax.app.tracking import Tracker
from snnjax.errors import InputError
from snnjax.networks import NETWORKS
from snnjax.training.state import Settings, TrainState
from snnjax.training.trainer import Trainer, network_for

DIGITS: dict[str, Any] = dict(batch_size=100, patience=0)
"""Defaults for the small embedded set, besides longer epochs; for the others, those of the network and `Settings`."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What to train, on what, for how long, and where to."""

    model: str = field(default="mozafari2018", help=f"the network: {', '.join(NETWORKS)}")
    dataset: str = field(
        default="digits", help=f"the data set: {', '.join(data.DATASETS)}, or an .npz file as Dataset.save writes it"
    )
    data_dir: Path | None = field(
        default=None,
        help="folder of the set's own files, or of sets that tensorflow-datasets prepared; for all but digits and .npz",
    )
    epochs: tuple[int, ...] = field(
        default=(),
        help="epochs of each stage, reward phase last (by default 2 4 100 or 2 4 4 10, on digits 7 7 100 or 7 7 7 100)",
    )
    batch_size: int | None = field(
        default=None, help="images after which the reward phase adapts its learning rates (100 on digits, else 1000)"
    )
    update_batch: int = field(
        default=1, help="images whose winners are found with the same weights before any of them changes a weight"
    )
    native: bool = field(
        default=False, help="learn and test by compiled kernels, several times faster; needs a CPU and a C++ compiler"
    )
    augment: bool = field(
        default=False, help="add a copy of the training images, rotated by up to 30 degrees and mirrored at random"
    )
    ratio: float = field(
        default=1.0, help="share of the training images to use; with --augment, share of them to add copies of"
    )
    train_images: int | None = field(default=None, help="use only the first so many training images")
    test_images: int | None = field(default=None, help="use only the first so many test images")
    patience: int | None = field(
        default=None, help="stop when the best test accuracy lies more epochs back; 0: never (0 on digits, else 5)"
    )
    device: str = field(default="auto", help="auto, cpu, gpu or tpu; auto takes an accelerator where there is one")
    seed: int = field(default=0, help="of the initial weights, --ratio and --augment")
    out: Path | None = field(default=None, help="run folder (runs/MODEL_DATASET)")
    resume: bool = field(default=False, help="go on with the run in the folder where it stopped")
    tensorboard: bool = field(
        default=False, help="write scalars and pictures for TensorBoard into the run folder; needs tensorboardX"
    )
    reuse: bool = field(
        default=True,
        help="begin with layers that a run in a folder beside has trained from the same images, settings and seed",
    )


def prepare(options: Options) -> tuple[Trainer, dict[str, Any]]:
    """Trainer and settings of a run.

    Raises:
      InputError, OSError: options or data are bad.
    """
    if options.model not in NETWORKS:
        raise InputError(f"`model` must be one of {', '.join(NETWORKS)}, got {options.model!r}")
    for name in ("train_images", "test_images"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise InputError(f"`{name}` must be at least 1, got {value}")
    if not 0 < options.ratio <= 1:
        raise InputError(f"`ratio` must lie in (0, 1], got {options.ratio}")
    network = NETWORKS[options.model]
    defaults: dict[str, Any] = dict(epochs=network((6, 28, 28), 10).epochs)
    if options.dataset == "digits":
        defaults = DIGITS | dict(epochs=(*[7] * (len(defaults["epochs"]) - 1), 100))
    chosen = dict(epochs=options.epochs or None, batch_size=options.batch_size, patience=options.patience)
    chosen = {name: value for name, value in chosen.items() if value is not None}
    given = dict(seed=options.seed, update_batch=options.update_batch, native=options.native)
    settings = Settings(**{**defaults, **chosen, **given})
    images = data.load(options.dataset, options.data_dir).first(options.train_images, options.test_images)
    images = (images.augment if options.augment else images.share)(options.ratio, options.seed)
    recorded = {name: getattr(options, name) for name in ("model", "dataset", "augment", "ratio")}
    if options.dataset.endswith(".npz"):  # so that evaluate.py finds it from any folder
        recorded["dataset"] = str(Path(options.dataset).resolve())
    return Trainer(network_for(network, images), images, settings), recorded


def folder_of(options: Options) -> Path:
    """The run folder."""
    return options.out or Path("runs") / f"{options.model}_{Path(options.dataset).stem}"


def run(options: Options) -> dict[str, Any]:
    """Trains to the end and leaves a run folder; returns what its results.json holds. A finished run is only read.

    Raises:
      InputError, OSError: options, data or folder are bad.
    """
    trainer, settings = prepare(options)
    with RunFolder(folder_of(options), trainer, settings, resume=options.resume) as folder:
        state = folder.start(options.reuse)
        console.header(folder)
        if not folder.results:
            try:
                train(folder, state, options.tensorboard)
            except OSError as error:
                raise OSError(f"{error}; finished epochs are kept, go on once {folder.path} can be written") from error
        console.summary(trainer.network, folder.results, folder.path)
        return folder.results


def train(folder: RunFolder, state: TrainState, tensorboard: bool) -> None:
    """Trains to the end, with bars, and with event files if asked for."""
    trainer = folder.trainer
    tracking = Tracker(folder.path, trainer, folder.settings, state) if tensorboard else contextlib.nullcontext()
    with console.Bars() as bars, tracking as tracker:

        def save(state: TrainState) -> None:
            folder.save(state)
            if tracker:
                tracker.note(state)

        trainer.callback = bars
        folder.finish(trainer.run(state, save))
        if tracker:
            tracker.finish(folder.path)


def main(arguments: list[str] | None = None) -> None:
    """Runs from the command line."""
    options = console.options(Options, __doc__, arguments)
    with console.user_errors("Stopped; finished epochs are kept. Go on with the same command and --resume."):
        devices.choose(options.device)
        run(options)


if __name__ == "__main__":
    console.run(main)
