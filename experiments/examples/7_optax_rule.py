"""A custom rule that learns by an optimiser of optax: the state of the optimiser is the state of the rule.

Each feature has its own Adam optimiser, whose rate halves with the wins of the feature. The gradient is that of the
squared distance between a winner's weights and their targets: 1 for inputs that fired in the first third of the time
steps, 0 for all other inputs.

python experiments/examples/7_optax_rule.py [FOLDER, by default runs/optax_rule]
"""

import sys

import jax
import jax.numpy as jnp
import optax

from snnjax import RSTDP, WTA, Conv, Learner, Network, Settings, Sweep, Trainer, component, stage, static
from snnjax.app import draw_run, draw_sweep
from snnjax.data import digits
from snnjax.runs import RunFolder, SweepFolder


@component
class AdamInputs(Learner):
    """Winners move towards the inputs that fired early, by Adam; the state is optax's, one per feature."""

    rate: float = 0.1  # at first; in `update` a tracer, so that a sweep can vary it
    halving: int = static(default=50)  # wins after which the rate is half; static, since optax asks for its value

    bounds = (0.0, 1.0)

    def optimiser(self):
        return optax.adam(optax.exponential_decay(self.rate, self.halving, 0.5))

    def init(self, layer, key, images_seen):
        return jax.vmap(self.optimiser().init)(layer.weights)

    def update(self, layer, state, latency, response, signal):
        winners = response.winners
        old = layer.weights_of(winners)
        early = layer.receptive_fields(latency, winners) < layer.time_steps // 3
        adam = jax.tree.map(lambda x: x[winners.feature], state)
        change, adam = jax.vmap(self.optimiser().update)(old - early, adam)
        place = jnp.where(winners.valid, winners.feature, layer.conv.features)  # out of range without a winner
        state = jax.tree.map(lambda x, new: x.at[place].set(new, mode="drop"), state, adam)
        return layer.with_weights_of(winners, jnp.clip(old + change, *self.bounds)), state, winners.feature


FEATURES = Conv(16, kernel=7, padding=3, threshold=30, competition=WTA(3, radius=3), learners=AdamInputs())
NETWORK = Network("optax_rule", (6, 28, 28), 10, (stage(FEATURES, pool=4), stage(Conv(50, kernel=5, learners=RSTDP()))))


def main(folder="runs/optax_rule"):
    data = digits().subset(400, 200)
    settings = Settings(epochs=(2, 6), adapt_every=50, patience=0)
    with RunFolder(f"{folder}/run", Trainer(NETWORK, data, settings), resume=True, draw=draw_run) as run:
        print(f"best test accuracy {run.run()['test']['accuracy']:.1%}, see {run.path}/report.html")
    variants = [{"layer1.rate": rate} for rate in (0.03, 0.1, 0.3)]
    with SweepFolder(f"{folder}/sweep", Sweep(NETWORK, data, settings, variants), draw=draw_sweep) as sweep:
        for result in sweep.run():
            print(result["variant"], f"{result['epochs'][-1]['test']['accuracy']:.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
