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

from snnjax import NETWORKS, Settings, data, devices
from snnjax.app import console
from snnjax.app.runs import RunFolder
from snnjax.app.tracking import Tracker
from snnjax.training.trainer import Trainer, network_for


@dataclasses.dataclass(frozen=True)
class Training:
    """What to train, on what and for how long: the options that train.py and sweep.py share."""

    model: str = field("mozafari2018", choices=NETWORKS, help="the network")
    dataset: str = field("digits", help=f"the data set: {', '.join(data.DATASETS)}, or an .npz file of Dataset.save")
    data_dir: Path | None = field(None, help="folder of the set's files, or of sets that tensorflow-datasets prepared")
    epochs: tuple[int, ...] = field((), help="by stage, reward last (2 4 100 or 2 4 4 10; digits 7 7 100 or 7 7 7 100)")
    batch_size: int | None = field(None, help="images between changes of the reward rates (100 on digits, else 1000)")
    train_images: int | None = field(None, help="use only the first N training images")
    test_images: int | None = field(None, help="use only the first N test images")
    native: bool = field(False, help="compiled kernels, several times faster; need a CPU and a C++ compiler")
    device: str = field("auto", choices=devices.KINDS, help="where to run; auto prefers an accelerator")


@dataclasses.dataclass(frozen=True)
class Options(Training):
    """What to train, on what, for how long, and where to."""

    update_batch: int = field(1, help="images whose winners are found with the same weights, before any update")
    augment: bool = field(False, help="add copies of the training images, rotated by up to 30 degrees and mirrored")
    ratio: float = field(1.0, help="share of the training images to use; with --augment, share of them to copy")
    patience: int | None = field(None, help="stop if the best epoch is older than this; 0: never (0 on digits, else 5)")
    seed: int = field(0, help="of the initial weights, --ratio and --augment")
    out: Path | None = field(None, help="run folder (runs/MODEL_DATASET)")
    resume: bool = field(False, help="go on with the run in the folder where it stopped")
    tensorboard: bool = field(False, help="write event files for TensorBoard into the run folder; needs tensorboardX")
    reuse: bool = field(True, help="begin with layers of a neighbouring run with the same images, settings and seed")


def prepare(options: Options) -> tuple[Trainer, dict[str, Any]]:
    """The trainer of a run, and the options that its results record."""
    console.check_least(options, train_images=1, test_images=1)
    network = NETWORKS[options.model]
    settings: dict[str, Any] = dict(epochs=network((6, 28, 28), 10).epochs)
    if options.dataset == "digits":
        settings = dict(epochs=(*[7] * (len(settings["epochs"]) - 1), 100), batch_size=100, patience=0)
    for name in ("epochs", "batch_size", "patience", "seed", "update_batch", "native"):
        if (value := getattr(options, name)) not in (None, ()):
            settings[name] = value
    checked = Settings(**settings)
    images = data.load(options.dataset, options.data_dir).first(options.train_images, options.test_images)
    images = (images.augment if options.augment else images.share)(options.ratio, options.seed)
    recorded = {name: getattr(options, name) for name in ("model", "dataset", "augment", "ratio")}
    if options.dataset.endswith(".npz"):  # so that evaluate.py finds it from any folder
        recorded["dataset"] = str(Path(options.dataset).resolve())
    return Trainer(network_for(network, images), images, checked), recorded


def run(options: Options) -> dict[str, Any]:
    """Trains to the end and leaves a run folder; returns its results.json. A finished run is only read."""
    trainer, recorded = prepare(options)
    path = options.out or Path("runs") / f"{options.model}_{Path(options.dataset).stem}"
    with RunFolder(path, trainer, recorded, resume=options.resume) as folder:
        state = folder.start(options.reuse)
        console.header(folder)
        if not folder.results:
            try:
                with console.Bars() as trainer.callback, contextlib.ExitStack() as stack:
                    save = stack.enter_context(Tracker(folder, state)).save if options.tensorboard else folder.save
                    folder.finish(trainer.run(state, save))
            except OSError as error:
                raise OSError(f"{error}; finished epochs are kept, go on once {path} can be written") from error
        console.summary(folder)
        return folder.results


@console.command(Options, __doc__, "Stopped; finished epochs are kept. Go on with the same command and --resume.")
def main(options: Options) -> None:
    """Trains one network."""
    run(options)


if __name__ == "__main__":
    console.run(main)
