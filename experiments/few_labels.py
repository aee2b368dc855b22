"""Readouts that learn from few labels of MNIST, on the features of a shipped network: a table for the book.

The features of pretrained:goupy2024_ncg_mnist are used as they are. Each draw selects a number of images of each class
from the training images from number 10,000 on, because the settings were chosen on earlier ones. Accuracies are those
on all test images after the last epoch. Only "NCG, a tenth held out" differs: it learns from nine tenths of the labels,
and its epoch is selected on the remaining tenth, as in `snnjax train --labels`.
"""

import argparse
import dataclasses
import warnings

import numpy as np
from sklearn.neighbors import NearestCentroid
from sklearn.svm import LinearSVC

import snnjax
from snnjax.data import Dataset
from snnjax.networks import ImageSpec, Network, goupy2024_ncg, with_prototypes

COUNTS = 1, 2, 5, 10, 50
"""Labels per class."""
DRAWS = 10
FIRST = 10_000
START = snnjax.load("pretrained:goupy2024_ncg_mnist")
NAMES = tuple(f"digit {digit}" for digit in range(10))
"""These names differ from those of the network, so that its readout is reinitialised."""


def drawn(mnist: Dataset, count: int, draw: int) -> Dataset:
    """`count` training images of each class, in random order."""
    random = np.random.default_rng(draw)
    of_classes = [FIRST + np.flatnonzero(mnist.train_labels[FIRST:] == digit) for digit in range(10)]
    chosen = random.permutation(np.concatenate([random.choice(x, count, replace=False) for x in of_classes]))
    return dataclasses.replace(
        mnist,
        train_images=mnist.train_images[chosen],
        train_labels=mnist.train_labels[chosen],
        class_names=NAMES,
    )


def to_the_end(data: Dataset) -> Dataset:
    """Data in which the epoch is selected on the labelled images themselves, nearly always the last epoch."""
    return dataclasses.replace(data, validation_images=data.train_images, validation_labels=data.train_labels)


def readout(network: Network, data: Dataset) -> np.ndarray:
    """The decisions of a readout, trained on the features, on the test images."""
    trainer = snnjax.Trainer(network, data, start=START)
    trained = trainer.trained(trainer.run(trainer.initial_state()))
    return np.asarray(trained(data.test_images))


def machine(kind: type, train: np.ndarray, data: Dataset, test: np.ndarray) -> np.ndarray:
    """The decisions of a scikit-learn classifier with default settings on the rows of `test`."""
    return kind().fit(unit(train), data.train_labels).predict(unit(test))


def unit(values: np.ndarray) -> np.ndarray:
    """Values as one row per image, scaled to length 1."""
    rows = values.reshape(len(values), -1).astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def decisions(data: Dataset, test: np.ndarray) -> dict[str, np.ndarray]:
    """The decisions of each readout on the test images, whose latencies are `test`."""
    latencies = np.asarray(START.features(data.train_images))
    ncg = goupy2024_ncg(ImageSpec.of(data))
    prototypes = with_prototypes(ncg)
    once = dataclasses.replace(prototypes, epochs=(*prototypes.epochs[:-1], 1))
    found = {
        "pixels, NearestCentroid": machine(NearestCentroid, data.train_images, data, data.test_images),
        "pixels, LinearSVC": machine(LinearSVC, data.train_images, data, data.test_images),
        "features, NearestCentroid": machine(NearestCentroid, 255 - latencies, data, 255 - test),
        "features, LinearSVC": machine(LinearSVC, 255 - latencies, data, 255 - test),
        "NCG": readout(ncg, to_the_end(data)),
        "prototypes, each image once": readout(once, to_the_end(data)),
        "prototypes, 20 epochs of corrections": readout(prototypes, to_the_end(data)),
    }
    if len(data.train_labels) >= 100:
        found["NCG, a tenth held out"] = readout(ncg, data.hold_out(0.1, seed=0))
    return found


def main() -> None:
    """Prints the mean and standard deviation over the draws for each number of labels and each readout."""
    parser = argparse.ArgumentParser("python experiments/few_labels.py", description=__doc__)
    parser.add_argument("folder", nargs="?", help="the folder of MNIST; by default MNIST is downloaded")
    mnist = snnjax.data.load("mnist", parser.parse_args().folder)
    warnings.simplefilter("ignore")
    test = np.asarray(START.features(mnist.test_images))
    for count in COUNTS:
        found: dict[str, list[float]] = {}
        for draw in range(DRAWS):
            for title, decided in decisions(drawn(mnist, count, draw), test).items():
                found.setdefault(title, []).append(100 * np.mean(decided == mnist.test_labels))
        for title, values in found.items():
            print(f"{count} labels, {title}: {np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}", flush=True)


if __name__ == "__main__":
    main()
