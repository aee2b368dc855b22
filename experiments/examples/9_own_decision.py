"""A decision of your own: all features of a class add to its score, not the strongest alone.

python experiments/examples/9_own_decision.py [FOLDER, by default runs/own_decision]
"""

import sys

import jax.numpy as jnp

from snnjax import RSTDP, STDP, WTA, Conv, Network, Settings, Sweep, Trainer, component, load, stage
from snnjax.app import draw_run, draw_sweep
from snnjax.data import digits
from snnjax.runs import RunFolder, SweepFolder


@component
class Choir:
    """The score of a class is a power mean of the largest potentials of its features."""

    power: float = 8.0  # with 1 all features count alike; a larger one favours the strongest
    timed = False  # potentials at the last step are enough; True gives spikes with their times

    def scores(self, spikes, classes):
        best = spikes.potential.max(axis=(1, 2)).reshape(classes, -1)
        scale = best.max().clip(1e-6)
        return scale * jnp.mean((best / scale) ** self.power, axis=1) ** (1 / self.power)

    def decide(self, scores):
        total = scores.sum(axis=0)  # over the deciding layers
        return jnp.where(total.max() > 0, jnp.argmax(total), -1).astype(jnp.int32)


FEATURES = Conv(16, 5, padding=2, threshold=15, competition=WTA(3, radius=3), learners=STDP(doubling=150))
STAGES = stage(FEATURES, pool=4), stage(Conv(50, 5, padding=1, learners=RSTDP()))
NETWORK = Network("own_decision", (6, 28, 28), 10, STAGES, decision=Choir())


def main(folder="runs/own_decision"):
    data = digits().first(400, 200)
    settings = Settings(epochs=(3, 6), batch_size=50, patience=0)
    with RunFolder(f"{folder}/run", Trainer(NETWORK, data, settings), resume=True, draw=draw_run) as run:
        print(f"best test accuracy {run.run()['test']['accuracy']:.1%}, see {run.path}/report.html")
    print("decision and label:", load(f"{folder}/run")(data.test_images[0]), data.test_labels[0])
    variants = [{"decision.power": power} for power in (1, 8, 64)]
    with SweepFolder(f"{folder}/sweep", Sweep(NETWORK, data, settings, variants), draw=draw_sweep) as sweep:
        for result in sweep.run():
            print(result["variant"], f"{result['epochs'][-1]['test']['accuracy']:.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
