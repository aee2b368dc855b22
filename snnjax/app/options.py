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
    """Train a network; leaves a run folder with all that it learned.

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
    """picojoules that you assume for a multiply-accumulate of a decision that is fitted"""
    bits: Annotated[tuple[int, ...], option("N ...", "none")] = ()
    """count again with weights of N bits, 1 to 8; of layers with ramps, from 2"""
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
    """folder of pictures, each in a folder named after its class (others are only decided), or a data set of which the
    training images are shown, as `--dataset` of the other commands takes it"""
    machine: Machine = field(default_factory=Machine)
    data_dir: Annotated[Path | None, option("DIR", "the cache folder, downloaded if need be")] = None
    """folder of the data set's files"""
    train_images: Annotated[int | None, option("N", "all")] = None
    """show only N images of the data set, of all classes alike: the first ones of each"""
    as_is: bool = False
    """take pictures as they are, as in `snnjax predict`"""
    invert: bool = False
    """invert the pictures, as in `snnjax predict`"""
    memory: Annotated[int, option("N")] = 0
    """images of each class to keep as latencies, the newest; needs --replays"""
    replays: Annotated[int, option("N")] = 0
    """images, drawn from the memory, to learn again after each image"""
    shuffle: bool = True
    """show the images in an order drawn by --seed, instead of class after class or as the data set has them"""
    seed: Annotated[int, option("N")] = 0
    """of --shuffle, of what is drawn from the memory, and of what learners draw"""
    out: Annotated[Path | None, option("DIR", "runs/stream_MODEL_PICTURES")] = None
    """new folder for weights.npz, results.json and stream.png; checkpoint.npz is saved there every half minute"""
    resume: bool = False
    """continue the stream in the folder, with the same result as if it had not been stopped"""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Train many networks side by side: several seeds, and every combination of hyperparameters.

    $ snnjax sweep --seeds 4
    $ snnjax sweep --seeds 2 --vary layer1.target_time=0.7,0.75 layer2.gap=0.02,0.03
    $ snnjax sweep --seeds 5 --vary layer1.learners=TargetTime,rules.py:MyRule      compares two rules
    $ snnjax sweep --seeds 16 --workers 4                           on four shares of the cores
    $ snnjax sweep --seeds 99 --scheduler tcp://HOST:8786           on the workers of a Dask cluster

    Validation ranks the combinations; the networks of the best one alone are tested, at the end. The same command
    resumes a stopped sweep; more seeds or values add networks to a finished one.
    """

    vary: Annotated[tuple[str, ...], option("PART=VALUE,... ...", "none")] = ()
    """numbers of the network and their values, as layer1.threshold=10,15; and components by name, as
    layer1.learners=STDP,FILE.py:NAME, encoder=dog,gabor or decision=Majority,FILE.py:NAME; a wrong name lists all"""
    seeds: Annotated[int, option("N")] = 1
    """networks of each combination, with seeds 0, 1, ..."""
    at_once: Annotated[int, option("N")] = 16
    """networks in one program, kept when it ends; more need more memory"""
    workers: Annotated[int | None, option("N", "1")] = None
    """processes of this machine to train on, each on its own share of the cores"""
    scheduler: Annotated[str | None, option("ADDRESS", "none")] = None
    """Dask scheduler of a cluster to train on, as tcp://HOST:8786; needs distributed"""
    network: Network = field(default_factory=Network)
    data: SplitData = field(default_factory=SplitData)
    training: Epochs = field(default_factory=Epochs)
    machine: Machine = field(default_factory=Machine)
    out: Annotated[Path | None, option("DIR", "runs/sweep_MODEL_DATASET")] = None
    """folder to write into"""


@dataclasses.dataclass(frozen=True)
class Report(OfRun):
    """Rewrite a run's pictures and report.html, or compare runs and sweeps on one page.

    $ snnjax report runs/goupy2024_ncg_digits --images 3 17     draws these test images too
    $ snnjax report RUN1 RUN2 RUN3                              compares three runs
    $ snnjax report SWEEP1 SWEEP2 RUN                           compares means over seeds, and paired differences
    """

    runs: Annotated[Positional[tuple[Path, ...]], option("RUN [RUN ...]", "")]
    """folders of runs, of sweeps and of trainings of several folds, before the options"""
    images: Annotated[tuple[int, ...], option("N ...", "none")] = ()
    """numbers of test images to draw layer by layer, for one run"""
    out: Annotated[Path | None, option("FILE.html", "runs/comparison.html; report.html in a sweep")] = None
    """page to compare several runs or sweeps on"""


@dataclasses.dataclass(frozen=True)
class Export(Imports):
    """Write a trained network for others: as NIR for simulators and neuromorphic chips, or in C for microcontrollers.

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
    """neurons in NIR: IF ones, each step a sample of its own, or LIF ones that forget within a step"""
    bits: Annotated[int | None, option("N", "8")] = None
    """bits of the weights in C, 1 to 8; `snnjax cost RUN --bits` says how accurate they are"""
    learn: bool = False
    """in C: the readout learns image by image, in memory; one that is not of Prototypes is replaced by one that is"""
    classes: Annotated[int | None, option("N", "the network's, if it has a decision")] = None
    """classes that can be learned, with --learn; fewer than the network has only if the readout is empty"""
    per_class: Annotated[int | None, option("N", "the readout's, or 5 of a new one")] = None
    """neurons for each class, with --learn: of a new readout, which knows nothing yet"""
    name: Annotated[str | None, option("NAME", "the network's")] = None
    """name of the files and, in C, of the functions: two networks in one program need two"""
    out: Annotated[Path, option("DIR")] = Path()
    """folder to write into"""


@dataclasses.dataclass(frozen=True)
class Demo(OfRun):
    """Make a page on which a trained network runs: draw a picture, and watch its spikes until it decides.

    $ snnjax demo runs/goupy2024_ncg_digits
    $ snnjax demo pretrained:goupy2024_ncg_mnist --bits 4 --out demo.html
    $ snnjax demo pretrained:goupy2024_ncg_mnist --dataset digits --teach --out teach.html
    """

    run: Annotated[Positional[Path], option("RUN")]
    """run folder, its weights.npz, or pretrained:NAME"""
    bits: Annotated[int, option("N")] = 8
    """bits of a weight, 1 to 8"""
    teach: bool = False
    """begin with its features and no class; whoever opens the page names classes and teaches them"""
    out: Annotated[Path, option("FILE.html")] = Path("demo.html")
    """page to write; an earlier page of ours is replaced"""


@dataclasses.dataclass(frozen=True)
class Convert:
    """Carry weights between snnjax and the PyTorch program github.com/aidinattar/snn; the source says which way.

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
    """List the data sets and where they lie; download some; look at a folder of pictures.

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
    fit: Annotated[Fit | None, fit_option("crop")] = None
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
    """Say which device, compiler, versions and data are available, and what is missing."""
