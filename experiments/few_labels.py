"""Readouts that learn from few labels of MNIST, on the features of a shipped network: a table for the book.

$ python experiments/few_labels.py [FOLDER OF MNIST]

The features of pretrained:goupy2024_ncg_mnist are taken as they are. Each draw takes so many images of each class of
the training images from number 10,000 on, since the settings were chosen on earlier ones. Accuracies are of 2,000 test
images, the first ones of each class, after the last epoch: nothing is held out that could choose one.
"""

import sys
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.neighbors import NearestCentroid
from sklearn.svm import LinearSVC

import snnjax
from snnjax.layers.layer_kernels import ROWS
from snnjax.learners import Signal
from snnjax.networks import Known, Model, with_prototypes
from snnjax.networks.batches import decide_inputs, input_batch
from snnjax.networks.prototypes import EPOCHS

DRAWS = {1: 10, 2: 10, 5: 10, 10: 10, 50: 3}
"""By the number of labels a class."""
FIRST = 10_000


def drawn(labels: np.ndarray, count: int, draw: int) -> np.ndarray:
    """The numbers of `count` training images of each class, in random order."""
    random = np.random.default_rng(draw)
    of_classes = [FIRST + np.flatnonzero(labels[FIRST:] == label) for label in range(10)]
    return random.permutation(np.concatenate([random.choice(x, count, replace=False) for x in of_classes]))


def unit(values: np.ndarray) -> np.ndarray:
    """Rows of a length of 1."""
    rows = values.reshape(len(values), -1).astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


@jax.jit
def learn(layer: Any, inputs: jax.Array, labels: jax.Array, order: jax.Array, epoch: int) -> Any:
    """The layer after an epoch of images, as `Trainer` shows them."""

    def learn_one(layer: Any, index: jax.Array) -> tuple[Any, None]:
        rule = layer.conv.learners
        response = rule.forward(layer, epoch, inputs[index], None)
        signal = Signal(jnp.int32(0), labels[index], jnp.int32(0))
        return rule.update(layer, epoch, inputs[index], response, signal)[0], None

    return jax.lax.scan(learn_one, layer, order)[0]


def main() -> None:
    """Prints a line for each number of labels and each readout: mean and standard deviation over the draws."""
    warnings.simplefilter("ignore")
    start = snnjax.load("pretrained:goupy2024_ncg_mnist")
    mnist = snnjax.data.load("mnist", *sys.argv[1:])
    tested = mnist.first(None, 2_000)
    spikes = np.asarray(start.features(tested.test_images))
    spec = with_prototypes(start.spec)
    model = Model.of(spec, dict(start.weights(), layer2=np.zeros(spec.weight_shapes["layer2"], np.float32)))
    model = jax.tree.map(jnp.float32, model.packed({"layer2": ROWS}))
    read = jax.jit(lambda latencies: input_batch(model, Known({1: latencies}), number=1))
    seen = read(spikes)
    decide = jax.jit(lambda layer, seen: decide_inputs(model.updated({"layer2": layer}), seen, scores=False).decision)
    for count, draws in DRAWS.items():
        found: dict[str, list[float]] = {}

        def keep(title: str, decisions: np.ndarray, found: dict[str, list[float]] = found) -> None:
            found.setdefault(title, []).append(100 * np.mean(decisions == tested.test_labels))

        for draw in range(draws):
            chosen = drawn(mnist.train_labels, count, draw)
            images = mnist.train_images[chosen]
            labels = mnist.train_labels[chosen]
            learned = np.asarray(start.features(images))
            layer = model.layers["layer2"]
            for epoch in range(EPOCHS):
                order = np.random.default_rng(epoch).permutation(len(labels)) if epoch else np.arange(len(labels))
                layer = learn(layer, read(learned), labels, order, epoch)
                if epoch in (0, EPOCHS - 1):
                    keep(f"prototypes, {epoch + 1} epochs", np.asarray(decide(layer, seen)))
            keep("silent", np.where(np.asarray(decide(layer, seen)) < 0, tested.test_labels, -1))
            for title, (train, test) in dict(
                pixels=(images, tested.test_images), features=(1 - learned / 255, 1 - spikes / 255)
            ).items():
                for machine in (NearestCentroid(), LinearSVC()):
                    fitted = machine.fit(unit(train), labels)
                    keep(f"{title}, {type(machine).__name__}", fitted.predict(unit(test)))
        for title, values in found.items():
            print(f"{count} labels, {title}: {np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}", flush=True)


if __name__ == "__main__":
    main()
