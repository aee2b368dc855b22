"""The options of each command, as data: `snnjax.app.main` reads them, `snnjax.app.commands` hold the work.

Nothing heavy is imported, so that `--help` answers at once.
"""

import dataclasses
from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import DisallowNone, Positional

from snnjax.app.shared_options import (
    Epochs,
    Imports,
    Machine,
    Network,
    OfRun,
    Run,
    SplitData,
    Start,
    TrainData,
    Training,
    fit_option,
    option,
)
from snnjax.core.defaults import Fit


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a network, and save it and its report in a run folder.

    $ snnjax train                                     scikit-learn's digits, half a minute
    $ snnjax train --dataset mnist                     MNIST, downloaded once
    $ snnjax train --dataset folder --data_dir DIR     your own pictures, a folder for each class
    """

    network: Network = field(default_factory=Network)
    data: TrainData = field(default_factory=TrainData)
    training: Training = field(default_factory=Training)
    start: Start = field(default_factory=Start)
    machine: Machine = field(default_factory=Machine)
    run: Run = field(default_factory=Run)


@dataclasses.dataclass(frozen=True)
class Evaluate(OfRun):
    """Test a trained network: its accuracy, and figures for each class.

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
    """Count what the decisions of a trained network cost: spikes, synaptic operations, bytes, and time to decision.

    $ snnjax cost runs/goupy2024_ncg_digits
    $ snnjax cost RUN --test_images 1000 --csv costs.csv
    $ snnjax cost RUN --bits 8 4 2
    $ snnjax cost RUN --pj_accumulate 0.9 --pj_multiply 4.6         energy, if these hold
    """

    run: Annotated[Positional[Path], option("RUN")]
    """run folder, its weights.npz, or pretrained:NAME"""
    machine: Machine = field(default_factory=Machine, kw_only=True)
    pj_accumulate: Annotated[float | None, option("PJ", "no estimate")] = None
    """picojoules that you assume for a synaptic operation; the energy per image is then estimated"""
    pj_multiply: Annotated[float | None, option("PJ", "no estimate")] = None
    """picojoules that you assume for a multiply-accumulate operation of a fitted decision"""
    bits: Annotated[tuple[int, ...], option("N ...", "none")] = ()
    """count again with N-bit weights, 1 to 8 bits, or at least 2 if layers have ramps"""
    out: Annotated[Path | None, option("FILE.json", "cost.json and the report of the run, for its test images")] = None
    """file to write the figures into"""
    csv: Annotated[Path | None, option("FILE.csv", "none")] = None
    """file for the counts for each image: its label, decision, spikes, operations, and the time of the decision"""


@dataclasses.dataclass(frozen=True)
class Predict(OfRun):
    """Classify pictures with a trained network: the class, the score of each class, and when the neurons fire.

    $ snnjax predict runs/goupy2024_ncg_mnist digit.png
    $ snnjax predict RUN PICTURES --csv predictions.csv
    $ snnjax predict pretrained:goupy2024_ncg_mnist PICTURES
    """

    run: Annotated[Positional[Path], option("RUN")]
    """run folder, its weights.npz, or pretrained:NAME"""
    pictures: Annotated[Positional[tuple[Path, ...]], option("[PICTURE ...]", "")] = ()
    """image files (PNG, JPEG and similar), or folders of image files; they precede the options"""
    as_is: bool = False
    """use pictures as they are. Otherwise, for a network trained on MNIST's digits or EMNIST's letters, each picture is
    converted to light ink on a dark background, and scaled and centred as in these data sets"""
    invert: bool = False
    """invert the pictures: for dark strokes on a light background that are not recognised as such"""
    images: Annotated[tuple[int, ...], option("N ...", "none")] = ()
    """numbers of test images to classify, instead of pictures"""
    out: Annotated[Path | None, option("DIR", "none")] = None
    """folder for drawings of the network's response to each picture"""
    csv: Annotated[Path | None, option("FILE.csv", "none")] = None
    """file with a line for each picture: label (the nearest folder named after a class), class, number and scores"""


@dataclasses.dataclass(frozen=True)
class Stream(Imports):
    """Let a trained network learn from pictures one by one: it decides on each, then learns from its label.

    $ snnjax stream runs/goupy2024_ncg_digits PICTURES              a folder with a folder for each class
    $ snnjax stream pretrained:goupy2024_ncg_mnist kmnist --memory 20 --replays 2

    Ctrl-C, SIGTERM and a closed terminal stop it. What it has learned is kept, and the same command with --resume
    continues.
    """

    run: Annotated[Positional[Path], option("RUN")] = field(kw_only=True)
    """run folder, its weights.npz, or pretrained:NAME"""
    pictures: Annotated[Positional[str], option("PICTURES")] = field(kw_only=True)
    """folder of pictures, each in a folder named after its class (pictures in other places are only decided), or a data
    set as in `--dataset` of the other commands, whose training images are shown"""
    machine: Machine = field(default_factory=Machine)
    data_dir: Annotated[Path | None, option("DIR", "the cache folder, downloaded if necessary")] = None
    """folder of the data set's files"""
    train_images: Annotated[int | None, option("N", "all")] = None
    """show only N images of the data set, stratified by class: the first ones of each class"""
    as_is: bool = False
    """use pictures as they are, as in `snnjax predict`"""
    invert: bool = False
    """invert the pictures, as in `snnjax predict`"""
    memory: Annotated[int, option("N")] = 0
    """how many of the latest images of each class to keep, as latencies; needs --replays"""
    replays: Annotated[int, option("N")] = 0
    """images, drawn from the memory, that are learned again after each image"""
    shuffle: bool = True
    """show the images in an order drawn by --seed, instead of class after class or as the data set has them"""
    seed: Annotated[int, option("N")] = 0
    """seed of --shuffle, of the draws from the memory, and of the random numbers of learners"""
    out: Annotated[Path | None, option("DIR", "runs/stream_MODEL_PICTURES")] = None
    """new folder for weights.npz, results.json and stream.png; checkpoint.npz is saved there every 30 seconds"""
    resume: bool = False
    """continue the stream in the folder, with the same result as if it had not been stopped"""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Train many networks side by side, with several seeds and all combinations of the given hyperparameters.

    $ snnjax sweep --seeds 4
    $ snnjax sweep --seeds 2 --vary layer1.target_time=0.7,0.75 layer2.gap=0.02,0.03
    $ snnjax sweep --seeds 5 --vary layer1.learners=TargetTime,rules.py:MyRule      compares two rules
    $ snnjax sweep --seeds 16 --workers 4                           on four shares of the cores
    $ snnjax sweep --seeds 99 --scheduler tcp://HOST:8786           on the workers of a Dask cluster

    Combinations are ranked on the validation images; only the networks of the best one are tested, at the end. The same
    command resumes a stopped sweep; more seeds or values add networks to a finished one.
    """

    vary: Annotated[tuple[str, ...], option("PART=VALUE,... ...", "none")] = ()
    """numbers of the network with their values, such as layer1.threshold=10,15, and components by name, such as
    layer1.learners=STDP,FILE.py:NAME, encoder=dog,gabor or decision=Majority,FILE.py:NAME; an unknown name lists all"""
    seeds: Annotated[int, option("N")] = 1
    """number of networks for each combination, with seeds 0, 1, ..."""
    at_once: Annotated[int, option("N")] = 16
    """networks that one program trains together, and saves when they are done; more of them need more memory"""
    workers: Annotated[int | None, option("N", "1")] = None
    """number of processes on this machine, each with its own share of the cores"""
    scheduler: Annotated[str | None, option("ADDRESS", "none")] = None
    """Dask scheduler of the cluster on which to train, such as tcp://HOST:8786; needs distributed"""
    network: Network = field(default_factory=Network)
    data: SplitData = field(default_factory=SplitData)
    training: Epochs = field(default_factory=Epochs)
    machine: Machine = field(default_factory=Machine)
    out: Annotated[Path | None, option("DIR", "runs/sweep_MODEL_DATASET")] = None
    """folder for the results"""


@dataclasses.dataclass(frozen=True)
class Report(OfRun):
    """Write the figures and report.html of a run again, or compare runs and sweeps on one page.

    $ snnjax report runs/goupy2024_ncg_digits --images 3 17     draws these test images too
    $ snnjax report RUN1 RUN2 RUN3                              compares three runs
    $ snnjax report SWEEP1 SWEEP2 RUN                           compares means over seeds, and paired differences
    """

    runs: Annotated[Positional[tuple[Path, ...]], option("RUN [RUN ...]", "")]
    """folders of runs, sweeps and cross-validations (--folds); they precede the options"""
    images: Annotated[tuple[int, ...], option("N ...", "none")] = ()
    """numbers of test images to draw layer by layer, for one run"""
    out: Annotated[Path | None, option("FILE.html", "runs/comparison.html; report.html in a sweep")] = None
    """page for the comparison of several runs or sweeps"""


@dataclasses.dataclass(frozen=True)
class Export(Imports):
    """Export a trained network: as NIR for simulators and neuromorphic chips, or as C code for microcontrollers.

    $ snnjax export RUN --to nir
    $ snnjax export pretrained:goupy2024_ncg_mnist --to c --bits 4
    $ snnjax export pretrained:goupy2024_ncg_mnist --to c --learn --classes 12
    """

    run: Annotated[Positional[Path], option("RUN")] = field(kw_only=True)
    """run folder, its weights.npz, or pretrained:NAME"""
    to: Annotated[Literal["nir", "c"], option("KIND", help="nir: NETWORK.nir; c: NETWORK.c and NETWORK.h, in C99")] = (
        field(kw_only=True)
    )
    neuron: Annotated[Literal["IF", "LIF", None], option("KIND", "IF")] = None
    """neuron type in NIR: IF, for which each step is a separate sample, or LIF neurons that forget within a step"""
    bits: Annotated[int | None, option("N", "8")] = None
    """bits of a weight in C, 1 to 8; `snnjax cost RUN --bits` shows the accuracy for a number of bits"""
    learn: bool = False
    """in C: the readout learns image by image, in memory; it is replaced unless it learns by Prototypes"""
    classes: Annotated[int | None, option("N", "the network's, if it has a decision")] = None
    """number of classes that can be learned, with --learn; fewer than the network has only if the readout is empty"""
    per_class: Annotated[int | None, option("N", "that of the readout, or 5 for a new one")] = None
    """neurons for each class of a new, empty readout, with --learn"""
    name: Annotated[str | None, option("NAME", "the network's")] = None
    """name of the files and, in C, of the functions; two networks in one program need different names"""
    out: Annotated[Path, option("DIR")] = Path()
    """folder for the files"""


@dataclasses.dataclass(frozen=True)
class Demo(OfRun):
    """Make a web page on which a trained network runs: draw a picture, and watch the spikes until it decides.

    $ snnjax demo runs/goupy2024_ncg_digits
    $ snnjax demo pretrained:goupy2024_ncg_mnist --bits 4 --out demo.html
    $ snnjax demo pretrained:goupy2024_ncg_mnist --dataset digits --teach --out teach.html
    """

    run: Annotated[Positional[Path], option("RUN")]
    """run folder, its weights.npz, or pretrained:NAME"""
    bits: Annotated[int, option("N")] = 8
    """bits of a weight, 1 to 8"""
    teach: bool = False
    """start with the features of the network but without classes; whoever opens the page names and teaches them"""
    out: Annotated[Path, option("FILE.html")] = Path("demo.html")
    """page to write; an earlier page from this command is replaced"""


@dataclasses.dataclass(frozen=True)
class Convert:
    """Convert weights between snnjax and the PyTorch program github.com/aidinattar/snn, depending on the source file.

    $ snnjax convert runs/mozafari2018_digits/weights.npz mozafari2018.pth
    $ snnjax convert --model mozafari2018 mozafari2018.pth weights.npz
    """

    source: Annotated[Positional[Path], option("SOURCE")]
    """weights.npz of a run, or a state_dict (.pth, .pt, .npz)"""
    destination: Annotated[Positional[Path], option("DESTINATION")]
    """file to write, in the other format"""
    model: Annotated[str | None, option("NAME", "that of a run's file")] = None
    """network to which a state_dict belongs"""
    channels: Annotated[int, option("N")] = 6
    """number of maps of an encoded image, for a state_dict: 6 for grey images, 18 for colour images"""
    classes: Annotated[int, option("N")] = 10
    """number of classes of the network, for a state_dict"""


@dataclasses.dataclass(frozen=True)
class Sets:
    """List the data sets and their folders, download some of them, or inspect a folder of pictures.

    $ snnjax data
    $ snnjax data mnist fashion_mnist
    $ snnjax data folder --data_dir DIR --size 32 --out pictures.npz
    """

    dataset: Annotated[Positional[tuple[str, ...]], option("[NAME ...]", "")] = ()
    """data sets, as in the option `--dataset` of the other commands"""
    data_dir: Annotated[Path | None, option("DIR", "the cache folder, downloaded if necessary")] = None
    """folder of the data set's files; for `folder`, the folder or .zip file of pictures"""
    size: Annotated[tuple[int, ...], option("PIXELS", "their own, 32 if they differ")] = ()
    """height and width of pictures (`folder`) or recordings, one number or two"""
    fit: Annotated[Fit | None, fit_option("crop")] = None
    colour: Annotated[DisallowNone[bool | None], option("", "as most pictures")] = None
    """read pictures (`folder`) in colour"""
    group: Annotated[str | None, option("REGEX", "none")] = None
    """matches the group of a picture in its file name, without folders; a group is used only for training or only for
    testing"""
    out: Annotated[Path | None, option("FILE.npz", "none")] = None
    """file in which to store one data set, for `--dataset FILE.npz`"""


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """List the trained networks that come with snnjax, with their accuracies.

    $ snnjax pretrained
    $ snnjax predict pretrained:goupy2024_ncg_mnist PICTURES
    $ snnjax evaluate pretrained:goupy2024_ncg_mnist
    """

    name: Annotated[Positional[str | None], option("[NAME]", "")] = None
    """network whose complete model card is printed"""


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Show which device, compiler, versions and data are available, and what is missing."""
