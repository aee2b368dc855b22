"""The options of every command, as data: `snnjax.app.main` reads them, `snnjax.app.commands` hold the work.

Those that several commands share come first, a class for each kind, so that each has one name and meaning. Nothing
heavy is imported, so that `--help` answers at once.
"""

import dataclasses
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import DisallowNone, Positional, arg

from snnjax.app.names import ENCODERS, MODELS, NAMES
from snnjax.core.defaults import EPOCHS_OF_FEW, FEW, SHOWN

EPOCHS = (
    f"the network's own; those of published networks are {EPOCHS_OF_FEW} of the last, with fewer than {FEW:,} labelled "
    f"images, and before it enough to show each layer {SHOWN:,}, if there are fewer than {FEW:,} images in all"
)


def option(metavar: str, default: str | None = None, **rest: Any) -> Any:
    """An option in the help: the name of its value, and the default in words where it depends on others."""
    return arg(metavar=metavar, help_behavior_hint=f"(default: {default})" if default else default, **rest)


@dataclasses.dataclass(frozen=True)
class Imports:
    """Custom components."""

    modules: Annotated[tuple[str, ...], option("FILE.py ...", "none", name="import")] = ()
    """Python files, or modules by name, to import first: files that define custom rules and other custom parts"""


@dataclasses.dataclass(frozen=True)
class Network(Imports):
    """What to train."""

    model: Annotated[
        str,
        option(
            "NAME", help=f"one of {', '.join(MODELS)}; or FILE.py:NAME, a custom network or a function that returns one"
        ),
    ] = "goupy2024_ncg"
    encoder: Annotated[
        str | None,
        option(
            "NAME",
            "the network's own, or that of the data",
            help=f"from images to latencies: one of {', '.join(ENCODERS)}; or FILE.py:NAME, a custom encoder",
        ),
    ] = None
    time_steps: Annotated[int | None, option("T", "those of the network or its encoder")] = None
    """time steps of the latencies, up to 255 on compiled kernels"""


@dataclasses.dataclass(frozen=True)
class TestData:
    """What to test on: by default what the network was trained on."""

    __test__ = False  # no test of pytest's

    dataset: Annotated[
        str | None,
        option("NAME", "that of the training", help=NAMES),
    ] = None
    data_dir: Annotated[Path | None, option("DIR", "the cache folder, downloaded if need be")] = None
    """folder of the set's files; for `--dataset folder`, the folder or .zip file of pictures"""
    test_images: Annotated[int | None, option("N", "as in the training; all of another data set")] = None
    """use only N test images, of all classes alike"""


@dataclasses.dataclass(frozen=True)
class Data(TestData):
    """What to learn."""

    dataset: Annotated[str, option("NAME", help=NAMES)] = "digits"
    size: Annotated[tuple[int, ...], option("PIXELS", "their own, 32 if they differ")] = ()
    """height and width of pictures (`--dataset folder`) or recordings, one number or two"""
    colour: Annotated[DisallowNone[bool | None], option("", "as most pictures")] = None
    """read pictures (`--dataset folder`) in colour; networks made for grey images learn less from it"""
    group: Annotated[str | None, option("REGEX", "none")] = None
    """what of a picture's file name, without folders, names the object or person that it shows, as "obj\\d+": pictures
    with the same text there, of whichever classes, are all for training, all held out, or all for testing"""
    train_images: Annotated[int | None, option("N", "all")] = None
    """use only N training images, of all classes alike: the first ones of each"""
    test_images: Annotated[int | None, option("N", "all")] = None
    """use only N test images, of all classes alike: the first ones of each"""


@dataclasses.dataclass(frozen=True)
class SplitData(Data):
    """What to learn."""

    validation: Annotated[float, option("SHARE")] = 0.1
    """share of the training images to hold out, the same whatever the seed: they choose the best epoch, and when to
    stop; the test images are used only once, at the end. 0: none, the test images choose, which flatters"""
    labels: Annotated[int | None, option("N", "all")] = None
    """use the labels of only N training images, of all classes alike: the first ones of each; layers that learn without
    labels learn from all images that are not held out"""


@dataclasses.dataclass(frozen=True)
class TrainData(SplitData):
    """What to learn."""

    draw: bool = False
    """draw the images of --train_images, or of --labels, by --seed, instead of the first ones"""
    augment: bool = False
    """add copies of the training images, rotated by up to 30 degrees and mirrored"""
    ratio: Annotated[float, option("SHARE")] = 1.0
    """share of the training images to use; with --augment, share of them to copy"""


@dataclasses.dataclass(frozen=True)
class Epochs:
    """How long."""

    epochs: Annotated[tuple[int, ...], option("N ...", EPOCHS)] = ()
    """epochs of each stage, the supervised ones last"""
    batch_size: Annotated[int | None, option("N", "1000; 100 on few images")] = None
    """images after which the rates of supervised learners adapt"""
    shuffle: Annotated[DisallowNone[bool | None], option("", "the network's own")] = None
    """show the images in a new order each epoch"""
    mirror: bool = False
    """show each image mirrored left-right or not, at random, in each epoch; takes twice the memory"""


@dataclasses.dataclass(frozen=True)
class Training(Epochs):
    """How to train."""

    patience: Annotated[int | None, option("N", "the network's own, or 5; 0 on few images")] = None
    """stop when the best epoch, the last among equals, is older than N epochs; 0: never"""
    seed: Annotated[int, option("N")] = 0
    """of the initial weights, --shuffle, --mirror, --draw, --ratio and --augment, from 0 to 2^64 - 1"""
    update_batch: Annotated[int, option("N")] = 1
    """images whose winners are found with the same weights, before any update"""
    start: Annotated[Path | None, option("RUN", "none", name="from")] = None
    """run folder, its weights.npz, or pretrained:NAME: its encoder and its layers that learned without labels are taken
    as they are, and only the others learn"""


@dataclasses.dataclass(frozen=True)
class Device:
    """Where to run."""

    device: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """auto prefers an accelerator"""


@dataclasses.dataclass(frozen=True)
class Machine(Device):
    """Where to run."""

    kernels: Literal["auto", "xla", "native"] = "auto"
    """native: compiled by a C++ compiler for a CPU, several times faster; auto takes them where they can be had"""


@dataclasses.dataclass(frozen=True)
class Run:
    """What to keep."""

    out: Annotated[Path | None, option("DIR", "runs/MODEL_DATASET")] = None
    """run folder"""
    resume: bool = False
    """go on with the run in the folder where it stopped"""
    tensorboard: bool = False
    """write event files for TensorBoard into the run folder; needs tensorboardX"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfRun:
    """Options of commands that use a trained network."""

    data: TestData = field(default_factory=TestData)
    parts: Imports = field(default_factory=Imports)
    machine: Device = field(default_factory=Device)


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a network; leaves a run folder with all that it learned.

    $ snnjax train                                     scikit-learn's digits, half a minute
    $ snnjax train --dataset mnist                     MNIST, downloaded once
    $ snnjax train --dataset folder --data_dir DIR     your own pictures, a folder for each class
    """

    network: Network = field(default_factory=Network)
    data: TrainData = field(default_factory=TrainData)
    training: Training = field(default_factory=Training)
    machine: Machine = field(default_factory=Machine)
    run: Run = field(default_factory=Run)


@dataclasses.dataclass(frozen=True)
class Evaluate(OfRun):
    """Test a trained network: accuracy, and the figures of each class.

    $ snnjax evaluate runs/goupy2024_ncg_digits
    $ snnjax evaluate RUN --dataset mnist --out evaluation.json
    """

    run: Annotated[Positional[Path], option("RUN")]
    """run folder, its weights.npz, or pretrained:NAME"""
    machine: Machine = field(default_factory=Machine, kw_only=True)
    out: Annotated[Path | None, option("FILE.json", "none")] = None
    """file to write the figures into"""


@dataclasses.dataclass(frozen=True)
class Cost(OfRun):
    """Count what decisions of a trained network cost: spikes, synaptic operations, bytes, and time until it decides.

    $ snnjax cost runs/goupy2024_ncg_digits
    $ snnjax cost RUN --test_images 1000 --csv costs.csv
    $ snnjax cost RUN --bits 8 4 2
    $ snnjax cost RUN --pj_accumulate 0.9 --pj_multiply 4.6         energy, if these hold
    """

    run: Annotated[Positional[Path], option("RUN")]
    """run folder, its weights.npz, or pretrained:NAME"""
    machine: Machine = field(default_factory=Machine, kw_only=True)
    pj_accumulate: Annotated[float | None, option("PJ", "no estimate")] = None
    """picojoules that you assume for a synaptic operation: the energy of an image is then estimated"""
    pj_multiply: Annotated[float | None, option("PJ", "no estimate")] = None
    """picojoules that you assume for a multiply-accumulate of a real-valued layer or a decision that is fitted"""
    bits: Annotated[tuple[int, ...], option("N ...", "none")] = ()
    """count again with weights of N bits, 1 to 8, in spiking layers"""
    out: Annotated[Path | None, option("FILE.json", "cost.json and the report of the run, of its test images")] = None
    """file to write the figures into"""
    csv: Annotated[Path | None, option("FILE.csv", "none")] = None
    """file for the counts of each image: its label, decision, spikes, operations, and when it was decided"""


@dataclasses.dataclass(frozen=True)
class Predict(OfRun):
    """Classify pictures by a trained network: the class, the score of each class, when the neurons fire.

    $ snnjax predict runs/goupy2024_ncg_mnist digit.png
    $ snnjax predict RUN PICTURES --csv predictions.csv
    $ snnjax predict pretrained:goupy2024_ncg_mnist PICTURES
    """

    run: Annotated[Positional[Path], option("RUN")]
    """run folder, its weights.npz, or pretrained:NAME"""
    pictures: Annotated[Positional[tuple[Path, ...]], option("[PICTURE ...]", "")] = ()
    """image files (PNG, JPEG and the like), or folders of them, before the options"""
    as_is: bool = False
    """take pictures as they are: otherwise a network of MNIST's digits or EMNIST's letters gets each as light ink on a
    dark background, scaled and centred as these are"""
    invert: bool = False
    """invert the pictures: for dark strokes on a light background, where these are not noticed"""
    images: Annotated[tuple[int, ...], option("N ...", "none")] = ()
    """numbers of test images to classify, instead of pictures"""
    out: Annotated[Path | None, option("DIR", "none")] = None
    """folder to draw the network's response to each picture into"""
    csv: Annotated[Path | None, option("FILE.csv", "none")] = None
    """file for the label of each picture (of the nearest folder named after a class), its class, number and scores"""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Train many networks side by side: several seeds, and every combination of hyperparameters.

    $ snnjax sweep --seeds 4
    $ snnjax sweep --seeds 2 --vary layer1.target_time=0.7,0.75 layer2.gap=0.02,0.03
    $ snnjax sweep --seeds 16 --workers 4                           on four shares of the cores
    $ snnjax sweep --seeds 99 --scheduler tcp://HOST:8786           on the workers of a Dask cluster

    Validation ranks the combinations; the networks of the best one alone are tested, at the end. The same command
    resumes a stopped sweep; more seeds or values add networks to a finished one.
    """

    vary: Annotated[tuple[str, ...], option("NUMBER=VALUE,... ...", "none")] = ()
    """numbers of the network and their values, as layer1.threshold=10,15; a wrong name lists all"""
    seeds: Annotated[int, option("N")] = 1
    """networks of each combination, with seeds 0, 1, ..."""
    at_once: Annotated[int, option("N")] = 16
    """networks in one program, kept when it ends; more need more memory"""
    workers: Annotated[int | None, option("N", "1")] = None
    """processes of this machine to train on, each on its own share of the cores"""
    scheduler: Annotated[str | None, option("ADDRESS", "none")] = None
    """Dask scheduler of a cluster to train on, as tcp://HOST:8786; needs distributed"""
    alone: Annotated[int, option("N")] = 0
    """also train the first N networks one by one, once, and compare the time"""
    network: Network = field(default_factory=Network)
    data: SplitData = field(default_factory=SplitData)
    training: Epochs = field(default_factory=Epochs)
    machine: Machine = field(default_factory=Machine)
    out: Annotated[Path | None, option("DIR", "runs/sweep_MODEL_DATASET")] = None
    """folder to write into"""


@dataclasses.dataclass(frozen=True)
class Report(OfRun):
    """Write a run's pictures and report.html anew, or compare several runs on one page.

    $ snnjax report runs/goupy2024_ncg_digits --images 3 17     draws these test images too
    $ snnjax report RUN1 RUN2 RUN3                              compares three runs
    """

    runs: Annotated[Positional[tuple[Path, ...]], option("RUN [RUN ...]", "")]
    """run folders, one or several, before the options"""
    images: Annotated[tuple[int, ...], option("N ...", "none")] = ()
    """numbers of test images to draw layer by layer, for one run"""
    out: Annotated[Path | None, option("FILE.html", "runs/comparison.html")] = None
    """page to compare several runs on"""


@dataclasses.dataclass(frozen=True)
class Export(Imports):
    """Write a trained network for others: as NIR for simulators and neuromorphic chips, or in C for microcontrollers.

    $ snnjax export RUN --to nir
    $ snnjax export pretrained:goupy2024_ncg_mnist --to c --bits 4
    """

    run: Annotated[Positional[Path], option("RUN")] = field(kw_only=True)
    """run folder, its weights.npz, or pretrained:NAME"""
    to: Annotated[Literal["nir", "c"], option("KIND", help="nir: NETWORK.nir; c: NETWORK.c and NETWORK.h, in C99")] = (
        field(kw_only=True)
    )
    neuron: Annotated[Literal["IF", "LIF", None], option("KIND", "IF")] = None
    """neurons in NIR: IF ones, each step a sample of its own, or LIF ones that forget within a step"""
    bits: Annotated[int | None, option("N", "8")] = None
    """bits of the weights in C, 1 to 8; `snnjax cost RUN --bits` says how accurate they are"""
    name: Annotated[str | None, option("NAME", "the network's")] = None
    """name of the files and, in C, of the functions: two networks in one program need two"""
    out: Annotated[Path, option("DIR")] = Path()
    """folder to write into"""


@dataclasses.dataclass(frozen=True)
class Demo(OfRun):
    """Make a page on which a trained network runs: draw a picture, and watch its spikes until it decides.

    $ snnjax demo runs/goupy2024_ncg_digits
    $ snnjax demo pretrained:goupy2024_ncg_mnist --bits 4 --out demo.html
    """

    run: Annotated[Positional[Path], option("RUN")]
    """run folder, its weights.npz, or pretrained:NAME"""
    bits: Annotated[int, option("N")] = 8
    """bits of a weight, 1 to 8"""
    out: Annotated[Path, option("FILE.html")] = Path("demo.html")
    """page to write; an earlier page of ours is replaced"""


@dataclasses.dataclass(frozen=True)
class Convert:
    """Carry weights between snnjax and the PyTorch code github.com/aidinattar/snn; the source says which way.

    $ snnjax convert runs/mozafari2018_digits/weights.npz mozafari2018.pth
    $ snnjax convert --model mozafari2018 mozafari2018.pth weights.npz
    """

    source: Annotated[Positional[Path], option("SOURCE")]
    """weights.npz of a run, or a state_dict (.pth, .pt, .npz)"""
    destination: Annotated[Positional[Path], option("DESTINATION")]
    """file to write, of the other kind"""
    model: Annotated[str | None, option("NAME", "that of a run's file")] = None
    """network of a state_dict"""
    channels: Annotated[int, option("N")] = 6
    """maps of an encoded image of a state_dict: 6 grey, 18 in colour"""
    classes: Annotated[int, option("N")] = 10
    """classes of the network of a state_dict"""


@dataclasses.dataclass(frozen=True)
class Sets:
    """List the data sets and where they are stored; download some; look at a folder of pictures.

    $ snnjax data
    $ snnjax data mnist fashion_mnist
    $ snnjax data folder --data_dir DIR --size 32 --out pictures.npz
    """

    dataset: Annotated[Positional[tuple[str, ...]], option("[NAME ...]", "")] = ()
    """data sets, as the option `--dataset` of the other commands takes them"""
    data_dir: Annotated[Path | None, option("DIR", "the cache folder, downloaded if need be")] = None
    """folder of the set's files; of `folder`, the folder or .zip file of pictures"""
    size: Annotated[tuple[int, ...], option("PIXELS", "their own, 32 if they differ")] = ()
    """height and width of pictures (`folder`) or recordings, one number or two"""
    colour: Annotated[DisallowNone[bool | None], option("", "as most pictures")] = None
    """read pictures (`folder`) in colour"""
    group: Annotated[str | None, option("REGEX", "none")] = None
    """what of a picture's file name, without folders, names its group, which is all for training or all for testing"""
    out: Annotated[Path | None, option("FILE.npz", "none")] = None
    """file to store one data set in, as `--dataset FILE.npz` reads it"""


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """List the networks that come with snnjax, trained, and how accurate they are.

    $ snnjax pretrained
    $ snnjax predict pretrained:goupy2024_ncg_mnist PICTURES
    $ snnjax evaluate pretrained:goupy2024_ncg_mnist
    """

    name: Annotated[Positional[str | None], option("[NAME]", "")] = None
    """network of which to print the whole card"""


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Say which device, compiler, versions and data are at hand, and what is missing."""
