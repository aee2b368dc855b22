"""Networks and images that take little time, the same for all tests that train: what one compiles, others use.

Also named on the command line, as `--model tests/tiny.py:plain`.
"""

import dataclasses
import pathlib

import numpy as np

from snnjax.core import paths
from snnjax.data import Dataset, digits
from snnjax.layers.conv import WTA, Conv
from snnjax.learners import RSTDP, STDP, SupervisedSTDP
from snnjax.networks import Earliest, ImageSpec, Network, SpikingNetwork, stage
from snnjax.training.loop import Trainer
from snnjax.training.state import Settings, TrainState

FIRST = Conv(4, kernel=5, padding=2, threshold=15, competition=WTA(2, radius=3), learners=STDP(doubling=50))

TRAIN = ["--model", f"{pathlib.Path(__file__)}:plain", "--train_images", "40", "--test_images", "40"]
TRAIN += ["--epochs", "2", "3", "--adapt_every", "20", "--validation", "0", "--device", "cpu"]
"""What `snnjax train` is given for the run of the fixture `finished`."""


def images() -> Dataset:
    """Forty training images and forty test images of scikit-learn's digits."""
    return digits().subset(40, 40)


def with_first(network: Network, **changes) -> Network:
    """A network with another first layer."""
    first = network.stages[0].branches[0]
    return paths.replace(network, "stages.0.branches.0", dataclasses.replace(first, **changes))


def with_zeros(network: Network, seed: int = 0) -> SpikingNetwork:
    """A network with initial weights, of which a tenth is 0."""
    weights = network.initial_weights(seed)
    random = np.random.default_rng(0)
    for name, values in weights.items():
        weights[name] = np.where(random.random(values.shape) < 0.1, 0, values)
    return SpikingNetwork(network, weights=weights)


def trained(network: Network, data: Dataset, settings: Settings) -> TrainState:
    """The state after a training."""
    trainer = Trainer(network, data, settings)
    return trainer.run(trainer.initial_state())


def plain(images: ImageSpec) -> Network:
    """A layer that learns by STDP, and a decision layer that learns by R-STDP.

    Its threshold leaves some images silent, and the others differ: in the run `finished` the best epoch is not the last
    one, and its network decides for most classes. At a low threshold all images are alike to the decision layer.
    """
    first = dataclasses.replace(FIRST, threshold=50)
    last = Conv(2 * images.classes, kernel=4, weight_mean=0.5, weight_std=0.01, learners=RSTDP())
    return Network("plain", images.input_shape, images.classes, (stage(first, pool=7), stage(last)), epochs=(2, 3))


def labelled(images: ImageSpec) -> Network:
    """A layer that learns by STDP, and a readout that learns from labels."""
    last = Conv(2 * images.classes, kernel=4, threshold=8, weight_mean=0.5, learners=SupervisedSTDP(0.05, -0.1))
    stages = stage(FIRST, pool=7), stage(last)
    decision = Earliest(fallback=True)
    return Network("labelled", images.input_shape, images.classes, stages, decision=decision, epochs=(2, 3))


def branches(images: ImageSpec) -> Network:
    """Two layers side by side between the first and the decision layer."""
    fast = STDP(doubling=50)
    one = Conv(6, kernel=2, threshold=2, competition=WTA(4, radius=1), learners=fast)
    other = Conv(6, kernel=4, threshold=6, competition=WTA(4, radius=1), learners=fast, output_padding=1)
    last = Conv(2 * images.classes, kernel=3, learners=RSTDP())
    stages = stage(FIRST, pool=7), stage(one, other), stage(last)
    return Network("branches", images.input_shape, images.classes, stages, epochs=(1, 1, 3))
