"""The networks that are shipped with snnjax: packs them from runs, and compares them with their cards."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
from protocols import JPEG, Row

import snnjax
from result_tables.accuracies import Json
from snnjax.app import data_source
from snnjax.core import files
from snnjax.networks.quantisation import quantise
from snnjax.runs.pretrained import CARDS, Card, cards
from snnjax.runs.trained import Trained

BITS = 8
WHOLE = 32  # bits of weights that are not quantised
LOST = 0.01  # maximum loss of accuracy by quantisation; if the loss is larger, weights are not quantised
APART = 0.005  # maximum difference between the accuracies of two training runs on different processors
DATA = {"mnist": "MNIST", JPEG: "CIFAR-10, JPEG copies, mirrored"}


def record_of(row: Row, folder: Path, results: list[Json]) -> Json:
    """Packs the first run of a row into the folder `packed`, with its card in cards.json; returns the card."""
    result = results[0]
    settings = result["settings"]
    images = data_source.load(settings)
    whole = without_places(Trained.read(folder / "seed0"))
    few = with_few_bits(whole)
    held_out = data_source.learned(images, settings)
    lost = accuracy(whole, held_out, "validation") - accuracy(few, held_out, "validation")
    network = few if lost <= LOST else whole
    name = f"{row.model}_{row.images}"
    packed = folder.parent / "packed"
    packed.mkdir(exist_ok=True)
    path = packed / f"{name}.npz"
    network.save(path)
    card = Card(
        model=row.model,
        data=DATA.get(row.dataset, row.dataset),
        train_images=settings["train_images"],
        seed=settings["seed"],
        command=f"snnjax train --model {row.model} --dataset {settings['dataset']}" + " --mirror" * row.mirror,
        bits=BITS if network is few else WHOLE,
        test_images=len(images.test_images),
        test_accuracy=accuracy(network, images, "test"),
        trained_accuracy=result["test"]["accuracy"],
        version=result["versions"]["snnjax"],
        file_bytes=path.stat().st_size,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    written = packed / CARDS.name
    others = files.read_json(written) if written.exists() else {}
    files.write_json(written, others | {name: card._asdict()})
    return dict(name=name, **card._asdict())


def without_places(network: Trained) -> Trained:
    """A copy of a trained network without the folder of its data in the settings."""
    settings = {key: value for key, value in network.settings.items() if key != "data_dir"}
    return dataclasses.replace(network, settings=settings)


def with_few_bits(network: Trained) -> Trained:
    """A copy of a trained network with quantised weights."""
    small = quantise(network.spiking_network(), BITS)
    weights = {name: np.asarray(values) for name, values in small.weights().items()}
    return dataclasses.replace(network, network=small.network, weights=weights)


def accuracy(network: Trained, images: snnjax.data.Dataset, part: str) -> float:
    """The share of the images of a part, "validation" or "test", that a network classifies correctly."""
    labels = getattr(images, f"{part}_labels")
    shares = snnjax.cost(network.spiking_network(), getattr(images, f"{part}_images"), labels).accuracy
    assert shares is not None
    return float(shares[-1])


def line_of(record: Json) -> str:
    """A line with the test accuracy of a packed network, compared with that of the shipped network."""
    name = record["name"]
    line = f"{name}: {record['test_accuracy']:.2%} of the test images"
    shipped = cards().get(name)
    if shipped is None:
        return line
    near = "within" if abs(record["test_accuracy"] - shipped.test_accuracy) <= APART else "more than"
    same = "the same file" if record["sha256"] == shipped.sha256 else "another file"
    return f"{line}, {near} {APART:.1%} of the {shipped.test_accuracy:.2%} on its card, {same}"
