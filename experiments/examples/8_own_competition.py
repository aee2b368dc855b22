"""A competition of your own: potentials decide who may learn, and each time step that a neuron waits costs it some.

Winner-take-all, as the library has it, asks who fires first and only then who is the strongest.

python experiments/examples/8_own_competition.py FOLDER
"""

import dataclasses
import sys

import jax.numpy as jnp

import snnjax
from snnjax import RSTDP, STDP, Conv, Network, Settings, Sweep, Trainer, kernels, stage
from snnjax.app import RunFolder, SweepFolder
from snnjax.data import digits

SETTINGS = Settings(epochs=(3, 6), batch_size=50, patience=0)


@snnjax.component
class StrongestFirst:
    """Up to k neurons of distinct features and places, by potential minus the cost of waiting."""

    winners: int = snnjax.static(default=3)
    radius: int = 3
    waiting: float = 1.0  # what a time step costs, in units of the potential

    def __call__(self, spikes, *, time_steps):
        fired = spikes.latency < time_steps
        at_once = jnp.where(fired, 0, spikes.latency)  # so that times do not count but by what they cost
        worth = spikes.potential - self.waiting * spikes.latency
        bids = kernels.Spikes(at_once, worth)
        won = kernels.k_winners(bids, k=self.winners, radius=self.radius, time_steps=time_steps)
        return dataclasses.replace(won, latency=spikes.latency[won.feature, won.row, won.column])


def network():
    features = Conv(16, 5, padding=2, threshold=15, competition=StrongestFirst(), learners=STDP(doubling=150))
    stages = stage(features, pool=4), stage(Conv(50, 5, padding=1, learners=RSTDP()))
    return Network("own_competition", (6, 28, 28), 10, stages)


def train(folder, data):
    with RunFolder(f"{folder}/run", Trainer(network(), data, SETTINGS), resume=True) as run:
        print(f"best test accuracy {run.run()['test']['accuracy']:.1%}, see {run.path}/report.html")


def sweep(folder, data):
    variants = [{"layer1.waiting": waiting} for waiting in (0, 1, 10)]
    with SweepFolder(f"{folder}/sweep", Sweep(network(), data, SETTINGS, variants)) as networks:
        for each in networks.run():
            print(each["variant"], f"{each['epochs'][-1]['test']['accuracy']:.1%}")


def main(folder):
    data = digits().first(400, 200)
    train(folder, data)
    print("decision and label:", snnjax.load(f"{folder}/run")(data.test_images[0]), data.test_labels[0])
    sweep(folder, data)


if __name__ == "__main__":
    main(sys.argv[1])
