"""A network made for a data set: what its function is given, and the encoder and time steps that are chosen for it."""

import dataclasses
import json
import pathlib
import re

import numpy as np
import pytest
import tiny
from command import Command, refused
from documents import rows

from snnjax import ImageSpec, data
from snnjax.app import names
from snnjax.core.errors import InputError, TooSmallError
from snnjax.data import Dataset
from snnjax.encoding import COLOUR, DOG, ENCODERS, GABOR, ON_OFF, WHITENING, Encoder
from snnjax.networks import Network, mozafari2018, mozafari2018_objects
from snnjax.runs.trained import Trained
from snnjax.training.run_plan import network_for

DIGITS = data.digits().subset(40, 20)
PICTURES = Dataset("pictures", *[np.zeros((12, 32, 30, 3), np.uint8), np.arange(12) % 3] * 2, classes=3)


def plain(images: ImageSpec, **others) -> Network:
    return dataclasses.replace(tiny.plain(images), **others)


def test_a_function_is_given_the_images():
    seen = []

    def make(images, *, width=3):
        seen.append(images)
        encoder = images.encoder or WHITENING
        images = dataclasses.replace(images, encoder=encoder)
        return plain(images, epochs=(width, 1), encoder=encoder, time_steps=encoder.time_steps)

    assert network_for(plain, PICTURES).encoder == COLOUR
    assert network_for(make, PICTURES).encoder == WHITENING
    assert seen == [ImageSpec((32, 30, 3), 3, 12)] == [ImageSpec.of(PICTURES)]
    assert seen[0].input_shape == PICTURES.input_shape == (18, 34, 32)
    network_for(make, PICTURES.hold_out(0.25, 0))
    assert (seen[1].count, seen[1].held_out) == (12, 3), "those held out count too"
    assert network_for(make, DIGITS, DOG).input_shape == (2, 28, 28)
    assert seen[2] == ImageSpec((28, 28), 10, 40, DOG)
    assert network_for(make, DIGITS, time_steps=31).time_steps == 31
    assert seen[4].encoder.time_steps == 31, "a network with an encoder of its own may depend on its time steps"


def test_encoders_and_time_steps():
    """Those chosen, else those of the network, else those of the data."""
    for time_steps, encoder, chosen, expected in (
        (15, None, dict(time_steps=9), Encoder(time_steps=9)),
        (30, None, {}, Encoder(time_steps=30)),
        (15, DOG, {}, DOG),
        (30, None, dict(encoder=ON_OFF, time_steps=99), dataclasses.replace(ON_OFF, time_steps=99)),
    ):
        network = plain(ImageSpec(encoder=expected), time_steps=time_steps, encoder=encoder)
        made = network_for(lambda images: network, DIGITS, **chosen)
        assert (made.encoder, made.time_steps) == (expected, expected.time_steps)


def small(_: ImageSpec) -> Network:
    """A network for images of 28x28, whatever there are."""
    return tiny.plain(ImageSpec())


ROWS = dataclasses.replace(DIGITS, train_images=DIGITS.train_images[:, :8], test_images=DIGITS.test_images[:, :8])


@pytest.mark.parametrize(
    ("make", "images", "chosen", "error", "message"),
    [
        (lambda a, b, c: None, DIGITS, {}, InputError, r"got <lambda>\(a, b, c\): missing a required argument: 'b'"),
        (lambda _: 3, DIGITS, {}, InputError, r"`<lambda>\(images\)` must be a Network, got 3"),
        (small, DIGITS, dict(encoder=DOG), InputError, r"shape \(6, 28, 28\), .*encoded as \(2, .* another `encoder`$"),
        (small, DIGITS, dict(encoder="dog"), InputError, "`encoder` must be a component, .* got str"),
        (mozafari2018, ROWS, dict(encoder=GABOR), TooSmallError, "are 8 high, 28 wide: take a larger `size`$"),
    ],
)
def test_what_does_not_fit_is_refused(make, images, chosen, error, message):
    with pytest.raises(error, match=message):
        network_for(make, images, **chosen)


# The command line


MINE = """
import dataclasses

from snnjax.encoding import DOG

SEVEN = dataclasses.replace(DOG, radius=2, time_steps=7)
"""
MODEL = tiny.TRAIN[:2]
FEW = [*tiny.TRAIN[2:], "--epochs", "0", "0", "--backend", "native", "--out", "run"]


def test_a_run_keeps_the_encoder_chosen(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("mine_of_choice.py").write_text(MINE)
    seven = ["--encoder", "mine_of_choice.py:SEVEN"]
    Command("train").main([*MODEL, *FEW, *seven])
    results = json.loads(pathlib.Path("run/results.json").read_text())
    assert results["settings"].items() >= dict(encoder="mine_of_choice.py:SEVEN", time_steps=7).items()
    assert str(tmp_path / "mine_of_choice.py") in results["settings"]["imports"]
    network = Trained.read("run").network
    assert (network.encoder, network.time_steps) == (dataclasses.replace(DOG, radius=2, time_steps=7), 7)
    Command("train").main([*MODEL, *FEW, "--resume", *seven])
    for chosen, message in (
        (["--encoder", "dogs"], "`encoder` must be one of grey, .*, or FILE.py:NAME, got 'dogs': did you mean 'dog'?"),
        (["--time_steps", "256"], "`backend` native supports at most 255 time steps, got 256"),
    ):
        assert re.search(message, refused(Command("train"), capsys, *MODEL, *FEW, *chosen))


def test_help_and_readme_name_the_encoders_there_are():
    assert [*ENCODERS] == [*names.ENCODERS]
    table = [row for row in rows("experiments/docs/networks/encoders.md", "encoder") if len(row) == 4]
    named = {name.strip("`"): (maps, steps) for name, maps, steps, _ in table}
    assert [*named] == [*ENCODERS]
    both = [(32, 32), (32, 32, 3)]
    for name, (maps, steps) in named.items():
        made = dict(whitening=both, pixels=both, colour=both[1:], events=[(32, 32, 2)]).get(name, both[:1])
        assert ", in colour ".join(str(ENCODERS[name].output_shape(shape)[0]) for shape in made) == maps
        assert ENCODERS[name].time_steps == int(steps)


@pytest.mark.parametrize(("name", "value"), [("kernel", 1.01), ("kernel", 0), ("threshold", np.inf)])
def test_shares_that_cannot_be_are_refused(name, value):
    with pytest.raises(InputError, match=f"`{name}` must .*above 0.*, got {value}"):
        mozafari2018_objects(ImageSpec((40, 40), 2), **{name: value})
