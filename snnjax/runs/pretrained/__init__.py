"""Trained networks that come with snnjax: a file for each, and a card that says how it was made and its accuracy."""

import json
from pathlib import Path
from typing import NamedTuple

from snnjax.core.errors import unknown

PREFIX = "pretrained:"
"""The prefix that distinguishes the name of a pretrained network from the path of a run."""
FOLDER = Path(__file__).parent
CARDS = FOLDER / "cards.json"


class Card(NamedTuple):
    """The description of a pretrained network.

    Attributes:
      model: the name of the network that was trained.
      data: the training data, in words.
      train_images: the number of training images, without held-out images.
      seed: the seed of the training run.
      command: the command that trained the network; `--data_dir` says where the data are.
      bits: the number of bits per weight in spiking layers; 32 if they are as trained.
      test_images: the number of test images.
      test_accuracy: the test accuracy of the network with these weights, in 0..1.
      trained_accuracy: the test accuracy of the network as it was trained, in 0..1.
      version: the version of snnjax that trained the network.
      file_bytes: the size of the file in bytes.
      sha256: the SHA-256 of the file.
    """

    model: str
    data: str
    train_images: int
    seed: int
    command: str
    bits: int
    test_images: int
    test_accuracy: float
    trained_accuracy: float
    version: str
    file_bytes: int
    sha256: str


def cards() -> dict[str, Card]:
    """The cards of all pretrained networks, by name."""
    return {name: Card(**card) for name, card in json.loads(CARDS.read_text()).items()}


def path_of(name: str) -> Path:
    """The path of the file of a pretrained network; raises InputError if the name is unknown."""
    if name not in cards():
        raise unknown("pretrained", name, cards())
    return FOLDER / f"{name}.npz"


def resolved(run: Path | str) -> Path:
    """The path of a run, or of the file of a pretrained network, given as "pretrained:goupy2024_ncg_mnist".

    Raises InputError if there is no pretrained network with this name.
    """
    text = str(run)
    return path_of(text.removeprefix(PREFIX)) if text.startswith(PREFIX) else Path(run)
