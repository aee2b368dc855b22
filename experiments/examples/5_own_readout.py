"""A custom rule for a readout: supervised STDP in which desired times do not depend on the other neurons.

python experiments/examples/5_own_readout.py [FOLDER, by default runs/own_readout]
"""

import dataclasses
import sys

import jax.numpy as jnp

from snnjax import ImageSpec, Settings, SupervisedSTDP, Sweep, Trainer, component, load, stage
from snnjax.app import draw_run, draw_sweep
from snnjax.data import digits
from snnjax.networks import goupy2024_pcn
from snnjax.runs import RunFolder, SweepFolder


@component
class FixedTimes(SupervisedSTDP):
    """Target neurons of the label's class should fire at one time or earlier, all other neurons at another or later."""

    early: float = 0.6  # shares of all time steps
    late: float = 0.9

    def desired(self, time, target, per_class):
        return jnp.where(target, jnp.minimum(time, self.early), jnp.maximum(time, self.late))


def network(images):
    """goupy2024_pcn with this rule: the same features, thresholds and encoder."""
    published = goupy2024_pcn(images)
    features, deciding = published.stages
    readout = dataclasses.replace(deciding.branches[0], learners=FixedTimes(ltp=0.02, ltd=-0.02))
    return dataclasses.replace(published, name="own_readout", stages=(features, stage(readout)))


def main(folder="runs/own_readout"):
    data = digits().subset(400, 200)
    settings = Settings(epochs=(5, 10), patience=0, shuffle=True)
    pcn = network(ImageSpec.of(data))
    with RunFolder(f"{folder}/run", Trainer(pcn, data, settings), resume=True, draw=draw_run) as run:
        print(f"best test accuracy {run.run()['test']['accuracy']:.1%}, see {run.path}/report.html")
    print("decision and label:", load(f"{folder}/run")(data.test_images[0]), data.test_labels[0])
    variants = [{"layer2.late": late} for late in (0.7, 0.9, 0.95)]
    with SweepFolder(f"{folder}/sweep", Sweep(pcn, data, settings, variants), draw=draw_sweep) as sweep:
        for result in sweep.run():
            print(result["variant"], f"{result['epochs'][-1]['test']['accuracy']:.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
