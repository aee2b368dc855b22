"""Trains the layers of local_narrow by backpropagation, without spikes, in flax: a baseline for local rules.

Sizes, padding, pooling and the variance of the initial weights are those of the network, and the inputs of each layer
are standardised without learned scales. The head has the settings of `LocalError`: dropout, smoothed labels, AdamW.
There are four differences: the learning rate falls after each minibatch instead of each epoch; the last, incomplete
minibatch of an epoch is left out; activities are not rounded to spike times; and the decision is that of the linear
head, which reads only the third layer.
"""

import dataclasses
import functools
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import common
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import Row

from snnjax import InputError, data
from snnjax.app import console, data_source, shared_options
from snnjax.app.main import command_options, protected
from snnjax.app.shared_options import option
from snnjax.core import checks, metrics
from snnjax.data import Dataset
from snnjax.kernels.local_error import part_means
from snnjax.learners import LocalError
from snnjax.networks.local_errors import FINAL_RATE_RATIO, INITIAL_RATIO
from snnjax.networks.softhebb import EPSILON, LAYERS

NAME = "backpropagation"
TEST_BATCH_SIZE = 500
RULE = LocalError()

Variables = Any
"""Parameters and running moments in the format of flax."""


@dataclasses.dataclass(frozen=True)
class Options(common.Options):
    """Train the layers of local_narrow by backpropagation, without spikes, in flax.

    $ python benchmarks/backpropagation.py
    $ python benchmarks/backpropagation.py --dataset folder --data_dir PICTURES --size 32 --mirror --seeds 5
    """

    dataset: Annotated[str, option("NAME", help=f"the data set: {', '.join(data.DATASETS)}, or folder")] = "digits"
    size: Annotated[tuple[int, ...], option("PIXELS", "their own")] = ()
    """height and width of pictures (`--dataset folder`)"""
    features: tuple[int, ...] = (48, 96, 384)
    """numbers of features of the three layers; those of local_wide are 96 384 1536"""
    epochs: int = 8
    """passes over the training images"""
    rate: float = 0.001
    """the learning rate of the first minibatch; it falls to a tenth at the last minibatch"""
    mirror: bool = False
    """mirror each image left-right at random in each epoch"""
    seeds: int = 1
    """number of training runs, with seeds 0, 1, ..."""
    validation: float = 0.1
    """share of the training images to hold out; the best epoch is selected on held-out images"""


class Layers(nn.Module):
    """Three convolutions and a linear head.

    Attributes:
      features: the number of feature maps of each convolution.
      classes: the number of classes.
    """

    features: Sequence[int]
    classes: int

    @nn.compact
    def __call__(self, images: jax.Array, learning: bool) -> jax.Array:
        """The scores (B, classes) of images (B, H, W, C), float32 in 0..1."""
        maps = images
        for count, (kernel, _, _, ramp, pool) in zip(self.features, LAYERS, strict=True):
            standardise = nn.BatchNorm(
                use_running_average=not learning,
                momentum=1 - RULE.momentum,
                epsilon=EPSILON,
                use_bias=False,
                use_scale=False,
            )
            initial = nn.initializers.variance_scaling(2 * INITIAL_RATIO**2, "fan_in", "truncated_normal")
            conv = nn.Conv(count, (kernel, kernel), padding="REFLECT", use_bias=False, kernel_init=initial)
            maps = nn.relu(conv(standardise(maps)))
            if pool is not None:
                maps = nn.max_pool(maps, (4, 4), (2, 2), [(1, 1), (1, 1)])
            if ramp.dendrites == 2:
                maps = 4 * nn.avg_pool(maps, (2, 2), (2, 2))
        means = part_means(maps, parts=RULE.parts)
        means = nn.Dropout(RULE.dropout, deterministic=not learning)(means)
        head = nn.Dense(self.classes, use_bias=False, kernel_init=nn.initializers.zeros)
        return head(means.reshape(len(means), -1))


class Training:
    """A network and its optimiser, with their learned parameters and states."""

    def __init__(self, options: Options, images: Dataset, seed: int):
        self.options = options
        self.images = images
        self.seed = seed
        self.layers = Layers(options.features, images.classes)
        self.updates = options.epochs * (len(images.train_labels) // RULE.minibatch_size)
        rate = optax.exponential_decay(options.rate, self.updates, FINAL_RATE_RATIO)
        self.optimizer = optax.adamw(rate, weight_decay=RULE.weight_decay)
        example = as_floats(images.train_images[:1])
        self.variables: Variables = self.layers.init(jax.random.key(seed), example, learning=False)
        self.state = self.optimizer.init(self.variables["params"])

    def learn_epoch(self, epoch: int) -> None:
        """Learns once from each training image, except those of the incomplete last minibatch."""
        random = np.random.default_rng([self.seed, epoch])
        order = random.permutation(len(self.images.train_labels))
        size = RULE.minibatch_size
        for first in range(0, len(order) - size + 1, size):
            chosen = order[first : first + size]
            images = self.images.train_images[chosen]
            if self.options.mirror:
                mirrored = random.random(size) < 0.5
                images[mirrored] = images[mirrored][:, :, ::-1]
            key = jax.random.fold_in(jax.random.key(self.seed), epoch * len(order) + first)
            learned = self.update(self.variables, self.state, images, self.images.train_labels[chosen], key)
            self.variables, self.state = learned

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
    def update(
        self, variables: Variables, state: Any, images: jax.Array, labels: jax.Array, key: jax.Array
    ) -> tuple[Variables, Any]:
        """Takes one step of the optimiser on a minibatch of uint8 images; returns the new variables and state."""

        def loss(parameters: Any) -> tuple[jax.Array, Any]:
            scores, moments = self.layers.apply(
                dict(variables, params=parameters),
                as_floats(images),
                learning=True,
                mutable="batch_stats",
                rngs=dict(dropout=key),
            )
            return RULE.loss(scores, labels), moments

        gradient, moments = jax.grad(loss, has_aux=True)(variables["params"])
        changes, state = self.optimizer.update(gradient, state, variables["params"])
        return dict(moments, params=optax.apply_updates(variables["params"], changes)), state

    def accuracy(self, images: np.ndarray, labels: np.ndarray) -> float:
        """The share of images whose label has the highest score."""
        decisions = [np.argmax(self.scores(self.variables, batch), 1) for batch in batches(images)]
        return float(np.mean(np.concatenate(decisions) == labels))

    @functools.partial(jax.jit, static_argnums=0)
    def scores(self, variables: Variables, images: jax.Array) -> jax.Array:
        """The scores of uint8 images."""
        return self.layers.apply(variables, as_floats(images), learning=False)  # type: ignore[return-value]


def as_floats(images: Any) -> jax.Array:
    """Converts images (B, H, W) or (B, H, W, C) with values 0..255 to (B, H, W, C) float32 in 0..1."""
    floats = jnp.asarray(images, jnp.float32) / 255
    return floats if floats.ndim == 4 else floats[..., None]


def batches(images: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the images in batches of at most `TEST_BATCH_SIZE`."""
    for first in range(0, len(images), TEST_BATCH_SIZE):
        yield images[first : first + TEST_BATCH_SIZE]


def train(options: Options, images: Dataset, seed: int) -> Row:
    """Trains a network; returns the accuracies of the epoch that is best on held-out images, the later one in a tie."""
    training = Training(options, images, seed)
    best = dict(validation=-1.0)
    seconds = 0.0
    for epoch in range(options.epochs):
        start = time.perf_counter()
        training.learn_epoch(epoch)
        jax.block_until_ready(training.variables)
        seconds += time.perf_counter() - start
        assert images.validation_images is not None
        assert images.validation_labels is not None
        held_out = training.accuracy(images.validation_images, images.validation_labels)
        print(f"seed {seed}, epoch {epoch + 1} of {options.epochs}: {held_out:.2%} of held-out images, {seconds:.0f} s")
        if held_out >= best["validation"]:
            test = training.accuracy(images.test_images, images.test_labels)
            best = dict(validation=held_out, test=test, epoch=epoch + 1)
    return dict(best, seed=seed, seconds=seconds)


def cells_of(row: Row) -> list[str]:
    """The cells of a line of the table."""
    return [str(row["seed"]), f"{row['test']:.2%}", str(row["epoch"]), f"{row['seconds']:.0f}"]


def run(options: Options) -> None:
    """Trains with each seed; writes the table after each training run, and prints it at the end."""
    shared_options.check_least(options, epochs=1, seeds=1, features=1)
    checks.length("features", options.features, len(LAYERS), "layers")
    checks.at_least("rate", options.rate, 0, above=True)
    source = dict(dataset=options.dataset, data_dir=options.data_dir, size=options.size)
    images = data_source.split(data_source.load(source), options.validation)
    if images.validation_images is None:
        raise InputError("`validation` must be above 0: the best epoch is selected on held-out images, got 0")
    checks.at_least("number of training images", len(images.train_labels), RULE.minibatch_size)
    out = options.folder(NAME)
    facts = common.about(images=str(images), features=" ".join(map(str, options.features)))
    trained = list[Row]()
    for seed in range(options.seeds):
        trained.append(train(options, images, seed))
        lines = [cells_of(row) for row in trained]
        table = common.markdown(["seed", "test accuracy", "best epoch", "seconds"], lines, common.caption(facts))
        accuracy = metrics.spread(np.array([row["test"] for row in trained]))
        written = common.write(out, NAME, dict(about=facts, trained=trained, accuracy=accuracy), table)
    console.screen().print(table, written, sep="\n", markup=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the options, by default those of the command line, and trains."""
    with command_options("python benchmarks/backpropagation.py", Options, arguments, common.STOPPED) as chosen:
        run(chosen)


if __name__ == "__main__":
    with protected():
        main()
