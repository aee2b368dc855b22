"""A plasticity rule of your own: a component with `forward` and `update`, which the trainer takes as any other.

Winners move towards the inputs that fired early: their weights are the share of images at which an input did. A feature
that has won often moves ever less, so that it stays what it has become.

python experiments/examples/3_own_rule.py FOLDER
"""

import sys

import jax.numpy as jnp
import numpy as np

import snnjax
from snnjax import RSTDP, WTA, Conv, Learner, Network, Settings, Sweep, Trainer, stage
from snnjax.app import RunFolder, SweepFolder
from snnjax.data import digits


@snnjax.component
class EarlyInputs(Learner):
    """Hebbian learning of early inputs; the state counts the wins of each feature."""

    rate: float = 0.2  # part of the way that a winner moves at first
    settles: float = 10.0  # wins after which it moves half as far
    early: int = 5  # time steps that count as early

    bounds = (0.0, 1.0)  # weights stay in there, which lets faster kernels find the winners

    def init(self, layer, key, seen):
        return np.zeros(layer.conv.features, np.int32)

    def forward(self, layer, state, latency):
        return layer.winners(latency)

    def update(self, layer, state, latency, winners, signal):
        early = layer.receptive_fields(latency, winners) < self.early
        rate = self.rate / (1 + state[winners.feature] / self.settles)
        old = layer.weights[winners.feature]
        layer = layer.with_rows(winners, old + rate[:, None, None, None] * (early - old))
        return layer, state.at[winners.feature].add(jnp.where(winners.valid, 1, 0)), winners.feature


def network():
    features = Conv(16, kernel=7, padding=3, threshold=30, competition=WTA(3, radius=3), learners=EarlyInputs())
    return Network("own_rule", (6, 28, 28), 10, (stage(features, pool=4), stage(Conv(50, kernel=5, learners=RSTDP()))))


def main(folder):
    data = digits().first(500, 200)
    with RunFolder(f"{folder}/run", Trainer(network(), data, Settings((2, 8), 50)), resume=True) as run:
        print(f"best test accuracy {run.run()['test']['accuracy']:.1%}, see {run.path / 'report.html'}")
    image = data.test_images[0]
    print(f"the network says {snnjax.load(f'{folder}/run')(image)}, the label is {data.test_labels[0]}")
    rates = [{"layer1.rate": rate} for rate in (0.05, 0.2, 0.5)]
    with SweepFolder(f"{folder}/sweep", Sweep(network(), data, Settings((2, 8), 50, patience=0), rates)) as sweep:
        for each in sweep.run():
            print(each["variant"], f"{each['epochs'][-1]['test']['accuracy']:.1%}")


if __name__ == "__main__":
    main(sys.argv[1])
