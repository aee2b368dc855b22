"""A competition of your own: the highest potential wins, minus a cost for each time step before the spike.

The library's winner-take-all ranks neurons by spike time first and by potential second.

python experiments/examples/8_own_competition.py [FOLDER, by default runs/own_competition]
"""

import dataclasses
import sys

import jax.numpy as jnp

from snnjax import RSTDP, STDP, Conv, Network, Settings, Sweep, Trainer, component, kernels, load, stage, static
from snnjax.app import draw_run, draw_sweep
from snnjax.data import digits
from snnjax.runs import RunFolder, SweepFolder


@component
class StrongestFirst:
    """Up to `winners` neurons of distinct features and places, by potential minus the cost of waiting."""

    winners: int = static(default=3)
    radius: int = 3
    waiting: float = 1.0  # cost of a time step, in units of the potential

    def __call__(self, spikes, *, time_steps):
        fired = spikes.latency < time_steps
        at_once = jnp.where(fired, 0, spikes.latency)  # equal times, so that the value alone ranks neurons
        bids = kernels.Spikes(at_once, spikes.potential - self.waiting * spikes.latency)
        won = kernels.k_winners(bids, k=self.winners, radius=self.radius, time_steps=time_steps)
        return dataclasses.replace(won, latency=spikes.latency[won.feature, won.row, won.column])


FEATURES = Conv(16, 5, padding=2, threshold=15, competition=StrongestFirst(), learners=STDP(doubling=150))
STAGES = stage(FEATURES, pool=4), stage(Conv(50, 5, padding=1, learners=RSTDP()))
NETWORK = Network("own_competition", (6, 28, 28), 10, STAGES)


def main(folder="runs/own_competition"):
    data = digits().first(400, 200)
    settings = Settings(epochs=(3, 6), batch_size=50, patience=0)
    with RunFolder(f"{folder}/run", Trainer(NETWORK, data, settings), resume=True, draw=draw_run) as run:
        print(f"best test accuracy {run.run()['test']['accuracy']:.1%}, see {run.path}/report.html")
    print("decision and label:", load(f"{folder}/run")(data.test_images[0]), data.test_labels[0])
    variants = [{"layer1.waiting": waiting} for waiting in (0, 1, 10)]
    with SweepFolder(f"{folder}/sweep", Sweep(NETWORK, data, settings, variants), draw=draw_sweep) as sweep:
        for result in sweep.run():
            print(result["variant"], f"{result['epochs'][-1]['test']['accuracy']:.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
