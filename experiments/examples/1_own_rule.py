"""A custom plasticity rule: a component with a method `update`, which the trainer uses like any other rule.

The weights of a winner move towards 1 for inputs that fired early, and towards 0 for all other inputs. The more often a
feature has won, the less it moves, so that it keeps what it has learned.

python experiments/examples/1_own_rule.py [FOLDER, by default runs/own_rule]
"""

import sys

import numpy as np

from snnjax import RSTDP, WTA, Conv, Learner, Network, Settings, Sweep, Trainer, component, load, stage
from snnjax.app import draw_run, draw_sweep
from snnjax.data import digits
from snnjax.runs import RunFolder, SweepFolder


@component
class EarlyInputs(Learner):
    """Hebbian learning of early inputs; the state counts the wins of each feature."""

    rate: float = 0.2  # share of the way that a winner moves at first
    settles: float = 10.0  # wins after which it moves half as far
    early: int = 5  # time steps that count as early

    bounds = (0.0, 1.0)  # of the weights; a lower bound of at least 0 allows faster kernels

    def init(self, layer, key, images_seen):
        return np.zeros(layer.conv.features, np.int32)

    def update(self, layer, state, latency, response, signal):
        winners = response.winners
        early = layer.receptive_fields(latency, winners) < self.early
        rate = self.rate / (1 + state[winners.feature] / self.settles)
        old = layer.weights_of(winners)
        layer = layer.with_weights_of(winners, old + rate[:, None, None, None] * (early - old))
        return layer, state.at[winners.feature].add(winners.valid), winners.feature


FEATURES = Conv(16, kernel=7, padding=3, threshold=30, competition=WTA(3, radius=3), learners=EarlyInputs())
NETWORK = Network("own_rule", (6, 28, 28), 10, (stage(FEATURES, pool=4), stage(Conv(50, kernel=5, learners=RSTDP()))))


def main(folder="runs/own_rule"):
    data = digits().subset(400, 200)
    settings = Settings(epochs=(2, 6), adapt_every=50, patience=0)
    with RunFolder(f"{folder}/run", Trainer(NETWORK, data, settings), resume=True, draw=draw_run) as run:
        print(f"best test accuracy {run.run()['test']['accuracy']:.1%}, see {run.path}/report.html")
    print("decision and label:", load(f"{folder}/run")(data.test_images[0]), data.test_labels[0])
    variants = [{"layer1.rate": rate} for rate in (0.05, 0.2, 0.5)]
    with SweepFolder(f"{folder}/sweep", Sweep(NETWORK, data, settings, variants), draw=draw_sweep) as sweep:
        for result in sweep.run():
            print(result["variant"], f"{result['epochs'][-1]['test']['accuracy']:.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
