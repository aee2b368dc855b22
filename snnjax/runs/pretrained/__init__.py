"""Networks that come with snnjax, trained: a file of each, and a card that says how it was made and what it reaches."""

import json
from pathlib import Path
from typing import NamedTuple

from snnjax.core.errors import unknown

PREFIX = "pretrained:"
"""What stands before a name wherever a run is named."""
FOLDER = Path(__file__).parent
CARDS = FOLDER / "cards.json"


class Card(NamedTuple):
    """What there is to know of a trained network.

    Attributes:
      model: the network that was trained.
      data: the training data, in words.
      train_images: their number, without those held out.
      seed: of the training.
      command: that trained it; `--data_dir` says where the data are.
      bits: of the weights of spiking layers; 32 as they were trained.
      test_images: the number of test images.
      test_accuracy: in 0..1, of the network with these weights.
      trained_accuracy: in 0..1, of the network as it was trained.
      version: of snnjax, which trained it.
      file_bytes: the size of the file.
      sha256: of the file.
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
    """The card of each network, by its name."""
    return {name: Card(**card) for name, card in json.loads(CARDS.read_text()).items()}


def path_of(name: str) -> Path:
    """The file of a network; raises InputError for an unknown name."""
    if name not in cards():
        raise unknown("pretrained", name, cards())
    return FOLDER / f"{name}.npz"


def resolved(run: Path | str) -> Path:
    """The path of a run, or of the network that a name such as "pretrained:goupy2024_ncg_mnist" stands for.

    Raises InputError for an unknown name.
    """
    text = str(run)
    return path_of(text.removeprefix(PREFIX)) if text.startswith(PREFIX) else Path(run)
