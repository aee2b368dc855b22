"""Trains the networks that come with snnjax anew, packs them, and compares their accuracy with that on their cards."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Annotated

import numpy as np
from results import STOPPED, folders_of

import snnjax
from snnjax import InputError
from snnjax.app import console, options, parts
from snnjax.app.main import call, main, protected
from snnjax.app.options import option
from snnjax.core import files
from snnjax.core.errors import unknown
from snnjax.data import Dataset
from snnjax.networks.quantisation import quantise
from snnjax.runs import pretrained
from snnjax.runs.pretrained import Card
from snnjax.runs.results import read_results
from snnjax.runs.trained import Trained

BITS = 8
WHOLE = 32  # bits of weights as they were trained
LOST = 0.001  # of the accuracy, by weights of few bits: with more, a network keeps its weights
APART = 0.005  # accuracies of two trainings on different processors
MNIST = "--dataset mnist"
MADE = {
    "goupy2024_ncg_mnist": f"--model goupy2024_ncg {MNIST}",
    "kheradpisheh2018_mnist": f"--model kheradpisheh2018 {MNIST}",
    "mozafari2018_mnist": f"--model mozafari2018 {MNIST}",
    "deep2024_mnist": f"--model deep2024 {MNIST}",
    "softhebb_narrow_cifar10": "--model softhebb_narrow --dataset folder --mirror",
}
"""The options of each training."""
DATA = dict(mnist="MNIST", folder="CIFAR-10, JPEG copies, mirrored")


@dataclasses.dataclass(frozen=True)
class Pretrain:
    """Train the networks that come with snnjax anew, pack them, and compare their accuracy with their cards.

    $ python experiments/pretrained.py --data_dir folder=cifar10-jpeg.zip
    $ python experiments/pretrained.py --names goupy2024_ncg_mnist --out packed

    Finished trainings are only read, stopped ones continue.
    """

    names: Annotated[tuple[str, ...], option("NAME ...", "all")] = ()
    """networks, as `snnjax pretrained` lists them"""
    data_dir: Annotated[tuple[str, ...], option("SET=DIR ...", "the cache folder, downloaded if need be")] = ()
    """folders of the data sets, as mnist=DIR; `folder`, the JPEG copies of CIFAR-10, needs one"""
    runs: Annotated[Path, option("DIR")] = Path("runs/pretrained")
    """folder of the runs"""
    machine: options.Machine = dataclasses.field(default_factory=options.Machine)
    out: Annotated[Path, option("DIR")] = Path("runs/pretrained/packed")
    """folder for the packed networks and cards.json; snnjax/runs/pretrained replaces those of this checkout"""


def trained(name: str, chosen: Pretrain) -> Path:
    """The folder of a finished run."""
    folder = chosen.runs / name
    given = [*MADE[name].split(), "--out", str(folder), "--resume"]
    given += ["--device", chosen.machine.device, "--kernels", chosen.machine.kernels]
    for source, place in folders_of(chosen.data_dir).items():
        if f"--dataset {source}" in MADE[name]:
            given += ["--data_dir", str(place)]
    main(["train", *given])
    return folder


def without_places(network: Trained) -> Trained:
    """A trained network whose settings do not say where its data were."""
    settings = {key: value for key, value in network.settings.items() if key != "data_dir"}
    return dataclasses.replace(network, settings=settings)


def with_few_bits(network: Trained) -> Trained:
    """A trained network with weights of few bits."""
    small = quantise(network.spiking_network(), BITS)
    weights = {name: np.asarray(values) for name, values in small.weights().items()}
    return dataclasses.replace(network, network=small.spec, weights=weights)


def decides_as_well(few: Trained, whole: Trained, images: Dataset) -> bool:
    """Whether a network decides as well as another on held-out images, of data with a validation part."""
    held_out = images.validation_images
    labels = images.validation_labels
    return accuracy(few, held_out, labels) >= accuracy(whole, held_out, labels) - LOST


def accuracy(network: Trained, images: np.ndarray | None, labels: np.ndarray | None) -> float:
    """The share of images (N, ...) that a network decides right."""
    assert images is not None
    shares = snnjax.cost(network.spiking_network(), images, labels).accuracy
    assert shares is not None
    return float(shares[-1])


def made(name: str, chosen: Pretrain) -> Card:
    """Trains and packs a network; its card."""
    run = trained(name, chosen)
    results = read_results(run)
    settings = results["settings"]
    images = parts.load(settings)
    whole = without_places(Trained.read(run))
    few = with_few_bits(whole)
    suits = decides_as_well(few, whole, parts.learned(images, settings))
    network = few if suits else whole
    path = chosen.out / f"{name}.npz"
    network.save(path)
    return Card(
        model=settings["model"],
        data=DATA[settings["dataset"]],
        train_images=settings["train_images"],
        seed=settings["seed"],
        command=f"snnjax train {MADE[name]}",
        bits=BITS if suits else WHOLE,
        test_images=len(images.test_images),
        test_accuracy=accuracy(network, images.test_images, images.test_labels),
        trained_accuracy=results["test"]["accuracy"],
        version=results["versions"]["snnjax"],
        file_bytes=path.stat().st_size,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def run(chosen: Pretrain) -> None:
    """Makes the networks, writes their cards, and says where accuracies are not those of the shipped cards."""
    for name in chosen.names:
        if name not in MADE:
            raise unknown("names", name, MADE)
    chosen.out.mkdir(parents=True, exist_ok=True)
    shipped = pretrained.cards()
    written = chosen.out / pretrained.CARDS.name
    cards = files.read_json(written) if written.exists() else {}
    rows: list[list[str]] = []
    for name in chosen.names or MADE:
        card = made(name, chosen)
        cards[name] = card._asdict()
        files.write_json(written, cards)
        rows.append([name, f"{card.test_accuracy:.2%}", *compared(card, shipped.get(name))])
    head = ("network", "test accuracy", "shipped", "same file", "within half a point")
    console.screen().print(console.table(head, [rows], "trained anew", left=1))
    if apart := [row[0] for row in rows if row[-1] == "no"]:
        raise InputError(f"more than {APART:.1%} from the accuracy on the card: {', '.join(apart)}")


def compared(card: Card, shipped: Card | None) -> list[str]:
    """The accuracy of the shipped network, and whether it is the same."""
    if shipped is None:
        return ["", "", ""]
    near = abs(card.test_accuracy - shipped.test_accuracy) <= APART
    return [f"{shipped.test_accuracy:.2%}", *("yes" if x else "no" for x in (card.sha256 == shipped.sha256, near))]


if __name__ == "__main__":
    protected(lambda: call("python experiments/pretrained.py", Pretrain, None, run, STOPPED))
