"""Digits that are learned one class after another, each image once: a table for the book.

Features learn only from images of the digits 0 to 4. A readout of prototypes, which has no classes at first, is then
shown 100 other images of each of these digits in random order, followed by 100 images of a 5, of a 6, and so on, each
image once. Accuracies are those on all test images of all ten digits. "mixed": the same 1,000 images in random order.
"""

import argparse
import dataclasses
import sys
import warnings

import numpy as np
from jax.typing import ArrayLike
from sklearn.linear_model import SGDClassifier

import snnjax
from snnjax import SpikingFeatures, SpikingNetwork, Stream, Trainer
from snnjax.data import Dataset
from snnjax.networks import prototypes_on, with_prototypes

SEEDS = 3
FIRST = 5  # digits from which features learn
LEARNED = 10_000  # images from which they learn, out of those before `REST`
REST = 40_000
EACH = 100
MEMORY = 20  # images per class whose latencies are kept

Orders = list[np.ndarray]
"""The indices of training images in each part of a stream; the parts are shown one after another."""


def arriving(labels: np.ndarray, seed: int) -> Orders:
    """The parts of the stream: images of the first digits together, then images of each further digit."""
    random = np.random.default_rng(seed)
    of_digits = [REST + np.flatnonzero(labels[REST:] == digit) for digit in range(10)]
    drawn = [random.choice(numbers, EACH, replace=False) for numbers in of_digits]
    return [random.permutation(np.concatenate(drawn[:FIRST])), *drawn[FIRST:]]


def accuracy(decided: ArrayLike, mnist: Dataset) -> float:
    """The share of correct decisions on the test images, in %."""
    return 100 * float(np.mean(decided == mnist.test_labels))


def streamed(
    features: SpikingNetwork, mnist: Dataset, orders: Orders, per_class: int = 5, memory: int = 0
) -> list[float]:
    """The accuracies of a prototype readout after each part."""
    new = prototypes_on(features, classes=10, per_class=per_class)
    stream = Stream(new, memory, replays=min(memory, 1))
    state = stream.init()
    course = []
    for order in orders:
        _, state = stream.learn(state, mnist.train_images[order], mnist.train_labels[order])
        course.append(accuracy(stream.network(state)(mnist.test_images), mnist))
    return course


def by_gradients(features: SpikingNetwork, mnist: Dataset, orders: Orders) -> list[float]:
    """The accuracies after each part of an `SGDClassifier`, which learns from the features of one image at a time."""
    machine = SGDClassifier(random_state=0)
    test = unit(features, mnist.test_images)
    course = []
    for order in orders:
        for row, label in zip(unit(features, mnist.train_images[order]), mnist.train_labels[order], strict=True):
            machine.partial_fit(row[None], [label], classes=np.arange(10))
        course.append(accuracy(machine.predict(test), mnist))
    return course


def unit(features: SpikingNetwork, images: np.ndarray) -> np.ndarray:
    """The time steps that remain after the spikes of the features, as one row per image, scaled to length 1."""
    rows = features.network.time_steps - np.asarray(features.features(images), np.float32).reshape(len(images), -1)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def trained(features: SpikingNetwork, mnist: Dataset, order: np.ndarray) -> list[float]:
    """The accuracy of a prototype readout that is trained on all images, including the epochs of corrections."""
    images = mnist.train_images[order]
    labels = mnist.train_labels[order]
    known = dict(train_images=images, train_labels=labels, validation_images=images, validation_labels=labels)
    data = dataclasses.replace(mnist, **known)
    trainer = Trainer(with_prototypes(features.untrained.with_classes(10)), data, start=features)
    return [accuracy(trainer.trained(trainer.run(trainer.initial_state()))(mnist.test_images), mnist)]


def ways(mnist: Dataset, seed: int) -> dict[str, list[float]]:
    """The accuracies of each way to learn, after each part."""
    seen = np.flatnonzero(mnist.train_labels[:REST] < FIRST)[:LEARNED]
    features = SpikingFeatures(random_state=seed).fit(mnist.train_images[seen]).network_
    orders = arriving(mnist.train_labels, seed)
    mixed = np.random.default_rng(seed).permutation(np.concatenate(orders))
    return {
        "prototypes": streamed(features, mnist, orders),
        f"prototypes, memory of {MEMORY} a class": streamed(features, mnist, orders, memory=MEMORY),
        "ten prototypes a class": streamed(features, mnist, orders, per_class=10),
        "SGDClassifier": by_gradients(features, mnist, orders),
        "prototypes, mixed": streamed(features, mnist, [mixed]),
        "SGDClassifier, mixed": by_gradients(features, mnist, [mixed]),
        "prototypes, mixed, 20 epochs of corrections": trained(features, mnist, mixed),
    }


def main() -> None:
    """Prints the mean accuracies over the seeds for each way to learn, and the standard deviation of the last one."""
    parser = argparse.ArgumentParser("python experiments/new_classes.py", description=__doc__)
    parser.add_argument("folder", nargs="?", help="the folder of MNIST; by default MNIST is downloaded")
    mnist = snnjax.data.load("mnist", parser.parse_args().folder)
    warnings.simplefilter("ignore")
    found: dict[str, list[list[float]]] = {}
    for seed in range(SEEDS):
        for title, course in ways(mnist, seed).items():
            found.setdefault(title, []).append(course)
            print(f"seed {seed}, {title}: {course[-1]:.1f}", file=sys.stderr, flush=True)
    for title, courses in found.items():
        means = " ".join(f"{value:.1f}" for value in np.mean(courses, axis=0))
        print(f"{title}: {means} ± {np.std([course[-1] for course in courses], ddof=1):.1f}")


if __name__ == "__main__":
    main()
