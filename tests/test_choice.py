"""A network made for a data set: what its function is given, and the encoder and time steps that are chosen for it."""

import dataclasses
import functools
import json
import pathlib
import re

import jax
import numpy as np
import own_classes as own
import pytest
from command import Command, refused
from documents import rows

from snnjax import Images, component, data
from snnjax.app import options
from snnjax.app.commands.train import prepare
from snnjax.core.components import static
from snnjax.core.errors import InputError, TooSmallError
from snnjax.data import Dataset
from snnjax.encoding import COLOUR, DOG, ENCODERS, EVENTS, GABOR, GREY, ON_OFF, WHITENING, Encoder
from snnjax.layers.conv import WTA, Conv
from snnjax.learners import RSTDP, STDP
from snnjax.networks import Network, mozafari2018, stage
from snnjax.runs.trained import Trained
from snnjax.training.build import network_for

DIGITS = data.digits().first(40, 20)
PICTURES = Dataset("pictures", *[np.zeros((12, 32, 30, 3), np.uint8), np.arange(12) % 3] * 2, classes=3)


def tiny(images, **others) -> Network:
    layer = Conv(4, kernel=5, padding=2, threshold=5, competition=WTA(2, radius=3), learners=STDP())
    stages = (stage(layer, pool=5), stage(Conv(2 * images.classes, kernel=1, learners=RSTDP())))
    return Network("tiny", images.input_shape, images.classes, stages, epochs=(1, 2), **others)


@component
class Fixed:
    """An encoder with the pixels as latencies, whose time steps are no choice."""

    low: int = static(default=0)

    @property
    def time_steps(self):
        return 255

    def __call__(self, image):
        return image[None].astype(np.uint8)

    def output_shape(self, image_shape):
        return (1, *image_shape)


def test_a_function_is_given_the_images():
    seen = []

    def make(images, *, width=3):
        seen.append(images)
        return tiny(images)

    assert network_for(make, PICTURES).encoder == COLOUR
    assert seen == [Images((32, 30, 3), 3, 12)] == [Images.of(PICTURES)]
    assert seen[0].input_shape == PICTURES.input_shape == (18, 34, 32)
    network_for(make, PICTURES.hold_out(0.25, 0))
    assert seen[1].count == 12, "those held out count too"
    network_for(make, PICTURES, count=5000)
    assert seen[2].count == 5000
    assert network_for(make, DIGITS, DOG).input_shape == (2, 28, 28)
    assert seen[3] == Images((28, 28), 10, 40, DOG)
    assert network_for(functools.partial(tiny, time_steps=7), DIGITS).encoder == Encoder(time_steps=7)


@pytest.mark.parametrize(
    ("make", "got"),
    [
        (lambda: None, r"<lambda>\(\): too many positional arguments"),
        (lambda a, b, c: None, r"<lambda>\(a, b, c\): missing a required argument: 'b'"),
        (
            lambda input_shape, classes: None,
            r"<lambda>\(input_shape, classes\): missing a required argument: 'classes'",
        ),
        (lambda images, *, width: None, r"<lambda>\(images, \*, width\): missing a required .*'width'"),
        (3, "int: 3 is not a callable object"),
    ],
)
def test_functions_of_something_else_are_refused(make, got):
    expected = "a function of `Images`, with defaults for all other arguments"
    with pytest.raises(InputError, match=f"^`model` must be {expected}, got {got}$"):
        network_for(make, DIGITS)


@pytest.mark.parametrize(
    ("time_steps", "encoder", "chosen", "expected"),
    [
        (15, None, dict(time_steps=9), Encoder(time_steps=9)),
        (30, None, {}, Encoder(time_steps=30)),
        (30, None, dict(time_steps=15), GREY),
        (15, DOG, {}, DOG),
        (15, DOG, dict(time_steps=9), dataclasses.replace(DOG, time_steps=9)),
        (15, DOG, dict(encoder=ON_OFF), ON_OFF),
        (30, None, dict(encoder=DOG), DOG),
        (30, None, dict(encoder=ON_OFF, time_steps=99), dataclasses.replace(ON_OFF, time_steps=99)),
        (255, Fixed(), dict(time_steps=255), Fixed()),
    ],
)
def test_encoders_and_time_steps(time_steps, encoder, chosen, expected):
    """Those chosen, else those of the network, else those of the data."""

    def make(images):
        return tiny(dataclasses.replace(images, encoder=expected), time_steps=time_steps, encoder=encoder)

    network = network_for(make, DIGITS, **chosen)
    assert (network.encoder, network.time_steps) == (expected, expected.time_steps)


def test_a_network_with_an_encoder_of_its_own_may_depend_on_its_time_steps():
    def make(images):
        encoder = images.encoder or WHITENING
        images = dataclasses.replace(images, encoder=encoder)
        network = tiny(images, encoder=encoder, time_steps=encoder.time_steps)
        return network.vary("layer1.threshold", 0.1 * encoder.time_steps)

    for steps in (None, 31):
        network = network_for(make, DIGITS, time_steps=steps)
        assert network.time_steps == network.encoder.time_steps == (steps or 255)
        assert network.hyperparameters()["layer1.threshold"] == 0.1 * (steps or 255)
    assert network_for(make, PICTURES, GABOR).encoder == GABOR


@pytest.mark.parametrize(
    ("chosen", "error", "message"),
    [
        (dict(encoder=DOG), InputError, r"takes \(6, 28, 28\), images of \(28, 28\) become \(2, .* another `encoder`$"),
        (dict(encoder=EVENTS), InputError, r"`image` must be an event picture, .* got shape \(28, 28\)"),
        (dict(encoder=Encoder), TypeError, r"`encoder` must be an instance .*: write Encoder\(...\)"),
        (dict(encoder="dog"), InputError, "`encoder` must be a component, .* got str"),
        (dict(time_steps=0), InputError, "`time_steps` must be at least 1, got 0"),
        (dict(time_steps=2.5), TypeError, "`time_steps` must be an integer, got 2.5"),
        (
            dict(encoder=Fixed(), time_steps=9),
            InputError,
            "`time_steps` must be 255, those of the encoder Fixed, .*: 9",
        ),
        (dict(encoder=own.Levels(np.arange(9.0))), InputError, r"images of \(28, 28\) become \(1, 28, 28\)"),
    ],
)
def test_what_does_not_fit_is_refused(chosen, error, message):
    with pytest.raises(error, match=message):
        network_for(lambda _: tiny(Images()), DIGITS, **chosen)


def test_images_that_are_too_small_want_a_larger_size():
    small = dataclasses.replace(DIGITS, train_images=DIGITS.train_images[:, :8], test_images=DIGITS.test_images[:, :8])
    with pytest.raises(TooSmallError, match=r"at least 9 rows .* have 8x28 pixels: take a larger `size`$"):
        network_for(tiny, small, WHITENING)
    with pytest.raises(TooSmallError, match=r"have 8x28 pixels: take a larger `size`$"):
        network_for(mozafari2018, small, GABOR)


@pytest.mark.parametrize("name", sorted({*ENCODERS} - {"events"}))
@pytest.mark.parametrize("images", [DIGITS, PICTURES], ids=["grey", "colour"])
def test_every_encoder_serves_grey_and_colour(name, images):
    network = network_for(tiny, images, ENCODERS[name])
    assert network.input_shape == ENCODERS[name].output_shape(images.train_images.shape[1:])
    assert network.time_steps == ENCODERS[name].time_steps


# The command line


TINY = """
from snnjax import RSTDP, STDP, WTA, Conv, Images, Network, stage
from snnjax.encoding import DOG
import dataclasses

def tiny(images, **others):
    layer = Conv(4, kernel=5, padding=2, threshold=5, competition=WTA(2, radius=3), learners=STDP())
    stages = (stage(layer, pool=5), stage(Conv(2 * images.classes, kernel=1, learners=RSTDP())))
    return Network("tiny", images.input_shape, images.classes, stages, epochs=(1, 1), **others)

READY = tiny(Images(encoder=DOG))
SEVEN = dataclasses.replace(DOG, radius=2, time_steps=7)
"""
FEW = ["--train_images", "40", "--test_images", "40", "--validation", "0", "--epochs", "1", "1", "--device", "cpu"]
FEW += ["--out", "run"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a file of networks, and a run of one with another encoder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("choice"))
        pathlib.Path("tiny_of_choice.py").write_text(TINY)
        Command("train").main(["--model", "tiny_of_choice.py:tiny", "--encoder", "dog", "--time_steps", "9", *FEW])
        yield pathlib.Path.cwd()
    jax.config.update("jax_default_device", None)


@pytest.fixture
def folder(trained, monkeypatch):
    """That folder, worked in."""
    monkeypatch.chdir(trained)
    return trained


def settings(path: str) -> dict:
    return json.loads(pathlib.Path(path).read_text())["settings"]


def test_a_run_keeps_the_encoder_chosen(folder, capsys):
    assert settings("run/results.json").items() >= dict(encoder="dog", time_steps=9).items()
    network = Trained.read("run").network
    assert (network.encoder, network.time_steps) == (dataclasses.replace(DOG, time_steps=9), 9)
    accuracy = json.loads(pathlib.Path("run/results.json").read_text())["test"]["accuracy"]
    Command("evaluate").main(["run", "--out", "figures.json", "--device", "cpu"])
    assert json.loads(pathlib.Path("figures.json").read_text())["accuracy"] == accuracy
    Command("predict").main(["run", "--images", "0", "--device", "cpu"])
    assert "test image 0" in capsys.readouterr().out


def test_it_is_not_resumed_with_another(folder, capsys):
    train = Command("train")
    model = ["--model", "tiny_of_choice.py:tiny", *FEW, "--resume"]
    for other in ([], ["--encoder", "dog"], ["--encoder", "gabor", "--time_steps", "9"]):
        assert "is of another network" in refused(train, capsys, *model, *other)
    train.main([*model, "--encoder", "dog", "--time_steps", "9"])


def test_encoders_of_ones_own(folder):
    run = [*FEW[:-1], "own"]
    model = ["--model", "tiny_of_choice.py:READY", "--encoder", "tiny_of_choice.py:SEVEN"]
    Command("train").main([*model, *run, "--epochs", "0", "0", "--kernels", "native"])
    assert settings("own/results.json").items() >= dict(encoder="tiny_of_choice.py:SEVEN", time_steps=7).items()
    assert str(folder / "tiny_of_choice.py") in settings("own/results.json")["imports"]
    assert Trained.read("own").network.encoder == dataclasses.replace(DOG, radius=2, time_steps=7)


def test_sweeps_take_one_too(folder):
    run = [*FEW[:-1], "sweep", "--vary", "layer1.threshold=3,5"]
    Command("sweep").main(["--model", "tiny_of_choice.py:tiny", "--encoder", "dog", "--time_steps", "5", *run])
    for each in json.loads(pathlib.Path("sweep/sweep.json").read_text())["networks"]:
        trained = Trained.read(f"sweep/{each['weights']}")
        assert trained.network.encoder == dataclasses.replace(DOG, time_steps=5)
        assert trained.settings.items() >= dict(encoder="dog", time_steps=5).items()


def test_the_default_is_said(folder):
    """In what a run keeps."""
    network, few = options.Network(model="tiny_of_choice.py:tiny"), options.SplitData(train_images=40, test_images=20)
    _, kept, _ = prepare(network, few, options.Epochs(), options.Machine())
    assert kept.items() >= dict(encoder="grey", time_steps=15).items()


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (["--encoder", "dogs"], "`encoder` must be one of grey, .*, or FILE.py:NAME, got 'dogs': did you mean 'dog'?"),
        (["--encoder", "tiny_of_choice.py:EIGHT"], "`encoder` tiny_of_choice.py:EIGHT: .* has no 'EIGHT'"),
        (["--encoder", "tiny_of_choice.py:tiny"], "`encoder` must be a component, .* got function"),
        (["--encoder", "none.py:X"], "`encoder` must name a Python file .*: there is no file none.py"),
        (["--encoder", "events"], "`image` must be an event picture"),
        (["--time_steps", "0"], "`time_steps` must be at least 1, got 0"),
        (["--time_steps", "256", "--kernels", "native"], "`native` kernels take at most 255 time steps, got 256"),
    ],
)
def test_wrong_options_are_refused(folder, capsys, chosen, message):
    said = refused(Command("train"), capsys, "--model", "tiny_of_choice.py:tiny", *FEW, *chosen)
    assert re.search(message, said), said


def test_a_ready_network_takes_no_other_maps(folder, capsys):
    said = refused(Command("train"), capsys, "--model", "tiny_of_choice.py:READY", "--encoder", "gabor", *FEW)
    assert "the network takes (2, 28, 28), images of (28, 28) become (4, 5, 5)" in said


def test_help_and_readme_name_the_encoders_there_are():
    assert [*ENCODERS] == [*options.ENCODERS]
    named = {name.strip("`"): (maps, steps) for name, maps, steps, _ in rows("experiments/README.md", "encoder")}
    assert [*named] == [*ENCODERS]
    for name, (maps, steps) in named.items():
        shapes = [(32, 32), (32, 32, 3), (32, 32, 2)]
        both = dict.fromkeys(("whitening", "pixels"), shapes[:2])
        made = (both | dict(colour=shapes[1:2], events=shapes[2:])).get(name, shapes[:1])
        assert ", in colour ".join(str(ENCODERS[name].output_shape(shape)[0]) for shape in made) == maps
        assert ENCODERS[name].time_steps == int(steps)
