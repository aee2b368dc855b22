"""Readouts that learn from few labels of MNIST, on the features of a shipped network: a table for the book.

$ python experiments/few_labels.py [FOLDER OF MNIST]

The features of pretrained:goupy2024_ncg_mnist are taken as they are. Each draw takes so many images of each class of
the training images from number 10,000 on, since the settings were chosen on earlier ones. Accuracies are of the first
2,000 test images, equally many of each class: of the last epoch, as nothing is held out that could choose one.
"""

import dataclasses
import sys
import warnings
from collections.abc import Iterator

import numpy as np
from sklearn.neighbors import NearestCentroid
from sklearn.svm import LinearSVC

import snnjax
from snnjax import Images, Trainer
from snnjax.data import Dataset
from snnjax.networks import NETWORKS, Known
from snnjax.networks.batches import decide_batch

NETWORK = "goupy2024_ncg"
LABELS = 1, 2, 5, 10, 50
DRAWS = dict(ncg_prototypes=10, goupy2024_ncg=5)  # the second learns for a hundred epochs
FIRST = 10_000


def drawn(mnist: Dataset, count: int, draw: int) -> Dataset:
    """`count` training images of each class, in random order, and ten test images, which training does not need."""
    random = np.random.default_rng(draw)
    of_classes = [FIRST + np.flatnonzero(mnist.train_labels[FIRST:] == label) for label in range(10)]
    chosen = random.permutation(np.concatenate([random.choice(x, count, replace=False) for x in of_classes]))
    few = dataclasses.replace(mnist, train_images=mnist.train_images[chosen], train_labels=mnist.train_labels[chosen])
    return few.first(None, 10)


def unit(values: np.ndarray) -> np.ndarray:
    """Rows of a length of 1."""
    rows = values.reshape(len(values), -1).astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def by_network(name: str, few: Dataset, start: snnjax.SpikingNetwork, spikes: np.ndarray) -> Iterator[np.ndarray]:
    """The decisions of a network on the spikes of the features, after its first epoch with labels and after all."""
    trainer = Trainer(NETWORKS[name](Images.of(few)), few, start=start)
    first: list[np.ndarray] = []

    def decide(state: snnjax.TrainState) -> np.ndarray:
        return np.asarray(decide_batch(trainer.job.model(state), Known({1: spikes}), scores=False)[0])

    state = trainer.run(trainer.initial_state(), lambda state: first or state.epochs and first.append(decide(state)))
    yield from (first[0], decide(state))


def main() -> None:
    """Prints a line for each number of labels and each readout: mean and standard deviation over the draws."""
    warnings.simplefilter("ignore")
    start = snnjax.load(f"pretrained:{NETWORK}_mnist")
    mnist = snnjax.data.load("mnist", *sys.argv[1:]).first(None, 2_000)
    spikes = np.asarray(start.features(mnist.test_images))
    for count in LABELS:
        found: dict[str, list[float]] = {}

        def keep(title: str, decisions: np.ndarray, found: dict[str, list[float]] = found) -> None:
            found.setdefault(title, []).append(100 * np.mean(decisions == mnist.test_labels))

        for draw in range(max(DRAWS.values())):
            few = drawn(mnist, count, draw)
            for name in (name for name, draws in DRAWS.items() if draw < draws):
                first, last = by_network(name, few, start, spikes)
                keep(f"{name}, first epoch", first)
                keep(f"{name}, last epoch", last)
                keep(f"{name}, silent", np.where(last < 0, mnist.test_labels, -1))
            learned = 1 - np.asarray(start.features(few.train_images), np.float32) / 255
            pairs = dict(pixels=(few.train_images, mnist.test_images), features=(learned, 1 - spikes / 255))
            for title, (train, test) in pairs.items():
                for machine in (NearestCentroid(), LinearSVC()):
                    fitted = machine.fit(unit(train), few.train_labels)
                    keep(f"{title}, {type(machine).__name__}", fitted.predict(unit(test)))
            print(count, draw, {title: round(values[-1], 1) for title, values in found.items()}, flush=True)
        for title, values in found.items():
            print(f"{count} labels, {title}: {np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}", flush=True)


if __name__ == "__main__":
    main()
