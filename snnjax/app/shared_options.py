"""The options that several commands share, a class for each kind, so that each has one name and meaning.

Nothing heavy is imported, so that `--help` answers at once.
"""

import dataclasses
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import DisallowNone, UseAppendAction, arg

from snnjax.app.names import DEFAULT_MODEL, ENCODERS, MODELS, NAMES
from snnjax.core.defaults import EPOCHS_OF_FEW, FEW, FITS, SHOWN, Fit
from snnjax.core.errors import InputError

EPOCHS = (
    f"the network's own; those of published networks are {EPOCHS_OF_FEW} of the last, with fewer than {FEW:,} labelled "
    f"images, and before it enough to show each layer {SHOWN:,}, if there are fewer than {FEW:,} images in all"
)


def option(metavar: str, default: str | None = None, **rest: Any) -> Any:
    """An option in the help: the name of its value, and a text for the default if it depends on other options."""
    return arg(metavar=metavar, help_behavior_hint=f"(default: {default})" if default else default, **rest)


def fit_option(default: str, rest: str = "") -> Any:
    """The option `fit`; `rest` ends its help."""
    text = (
        "what to do to pictures of a folder that have other proportions than the images: crop keeps their middle, pad "
        "keeps all of them and adds a border in their colour"
    )
    return option(f"{{{','.join(FITS)}}}", default, help=text + rest)


def check_least(options: object, **least: int) -> None:
    """Raises InputError if an option, or one of its numbers, is less than the least given for it; None is not."""
    for name, minimum in least.items():
        value = getattr(options, name)
        numbers = value if isinstance(value, tuple | list) else (value,)
        if value is not None and min(numbers) < minimum:
            raise InputError(f"`{name}` must be at least {minimum}, got {value}")


@dataclasses.dataclass(frozen=True)
class Imports:
    """Custom components."""

    modules: Annotated[UseAppendAction[tuple[str, ...]], option("FILE.py", "none", name="import")] = ()
    """Python file, or module by name, to import first, which defines custom rules or other parts; may be repeated"""


@dataclasses.dataclass(frozen=True)
class Network(Imports):
    """What to train."""

    model: Annotated[
        str | None,
        option(
            "NAME",
            DEFAULT_MODEL,
            help=f"one of {', '.join(MODELS)}; or FILE.py:NAME, a custom network or a function that returns one",
        ),
    ] = None
    encoder: Annotated[
        str | None,
        option(
            "NAME",
            "the network's own, or that of the data",
            help=f"from images to latencies: one of {', '.join(ENCODERS)}; or FILE.py:NAME, a custom encoder",
        ),
    ] = None
    time_steps: Annotated[int | None, option("T", "those of the network or its encoder")] = None
    """time steps of the latencies, up to 255 on the native back end"""


@dataclasses.dataclass(frozen=True)
class TestData:
    """The test data; by default the data set on which the network was trained."""

    __test__ = False  # no test of pytest's

    dataset: Annotated[
        str | None,
        option("NAME", "that of the training", help=NAMES),
    ] = None
    data_dir: Annotated[Path | None, option("DIR", "the cache folder, downloaded if necessary")] = None
    """folder of the data set's files; for `--dataset folder`, the folder or .zip file of pictures"""
    fit: Annotated[Fit | None, fit_option("as in the training")] = None
    test_images: Annotated[int | None, option("N", "as in the training; all of another data set")] = None
    """use only N test images, stratified by class"""


@dataclasses.dataclass(frozen=True)
class Data(TestData):
    """What to learn."""

    dataset: Annotated[str, option("NAME", help=NAMES)] = "digits"
    fit: Annotated[Fit | None, fit_option("crop", "; `predict` and other commands then do the same")] = None
    size: Annotated[tuple[int, ...], option("PIXELS", "their own, 32 if they differ")] = ()
    """height and width of pictures (`--dataset folder`) or recordings, one number or two"""
    colour: Annotated[DisallowNone[bool | None], option("", "as most pictures")] = None
    """read pictures (`--dataset folder`) in colour; networks made for grey images learn less from it"""
    group: Annotated[str | None, option("REGEX", "none")] = None
    """matches, in a picture's file name without folders, the object or person that it shows, such as "obj\\d+".
    Pictures with the same text form a group, regardless of their class, and are used only for training, only for
    validation, or only for testing"""
    train_images: Annotated[int | None, option("N", "all")] = None
    """use only N training images, stratified by class: the first ones of each class"""
    test_images: Annotated[int | None, option("N", "all")] = None
    """use only N test images, stratified by class: the first ones of each class"""


@dataclasses.dataclass(frozen=True)
class SplitData(Data):
    """What to learn."""

    split_seed: Annotated[int, option("N")] = 0
    """seed for drawing the test pictures (`--dataset folder`), or with --group their groups, if there is no test
    folder, and for drawing the parts of --folds"""
    folds: Annotated[int | None, option("K", "none")] = None
    """split all labelled images, or with --group their groups, into K parts, and train K times, in the folders fold1,
    fold2, ...: each part is tested once, by a network that has learned from the other parts"""
    validation: Annotated[float, option("SHARE")] = 0.1
    """share of the training images to hold out, the same ones for every seed. The best epoch and the time to stop are
    chosen on them, and the test images are used only once, at the end. 0: none; then the test images are used for the
    choice, and the test accuracy is too optimistic"""
    labels: Annotated[int | None, option("N", "all")] = None
    """use the labels of only N training images, stratified by class: the first ones of each class; layers that learn
    without labels learn from all images that are not held out"""


@dataclasses.dataclass(frozen=True)
class TrainData(SplitData):
    """What to learn."""

    draw: bool = False
    """draw the images of --train_images or --labels at random, by --seed, instead of using the first ones"""
    augment: bool = False
    """add copies of the training images, rotated by up to 30 degrees and mirrored"""
    ratio: Annotated[float, option("SHARE")] = 1.0
    """share of the training images to use; with --augment, share of them to copy"""


@dataclasses.dataclass(frozen=True)
class Epochs:
    """How long."""

    epochs: Annotated[tuple[int, ...], option("N ...", EPOCHS)] = ()
    """epochs of each stage, the supervised ones last"""
    adapt_every: Annotated[int | None, option("N", "1000; 100 on few images")] = None
    """number of images after which the rates of supervised learners are adapted"""
    shuffle: Annotated[DisallowNone[bool | None], option("", "the network's own")] = None
    """show the images in a new order each epoch"""
    mirror: bool = False
    """show each image mirrored left-right or not, at random, in each epoch; takes twice the memory"""


@dataclasses.dataclass(frozen=True)
class Training(Epochs):
    """How to train."""

    patience: Annotated[int | None, option("N", "the network's own, or 5; 0 on few images")] = None
    """stop when the best epoch (in a tie, the latest) is older than N epochs; 0: never"""
    seed: Annotated[int, option("N")] = 0
    """seed for the initial weights, --shuffle, --mirror, --draw, --ratio and --augment, from 0 to 2^64 - 1"""
    update_batch: Annotated[int, option("N")] = 1
    """number of images whose winners are found with the same weights, before any update"""


@dataclasses.dataclass(frozen=True)
class Start:
    """What to start from."""

    run: Annotated[Path | None, option("RUN", "none", name="from")] = None
    """continue from this run folder, weights.npz or pretrained:NAME, with its network unless --model names another:
    layers before the first supervised one stay as they are; later layers keep learning, or restart if classes differ"""
    add_classes: bool = False
    """with --from: keep what was learned of its classes, and add neurons for the new classes of the data"""
    learn: Annotated[tuple[str, ...], option("STAGE ...", "from the first supervised one on")] = ()
    """with --from: the stages that learn, as stage1 stage2; all other stages stay as they are, and their outputs are
    computed once"""


@dataclasses.dataclass(frozen=True)
class Device:
    """Where to run."""

    device: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """auto prefers an accelerator"""


@dataclasses.dataclass(frozen=True)
class Machine(Device):
    """Where to run."""

    backend: Literal["auto", "xla", "native"] = "auto"
    """native is C++ compiled for this CPU, several times as fast as xla; auto is native if it is available"""


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
