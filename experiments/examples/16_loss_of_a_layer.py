"""Two layers learn from labels with a custom loss: each layer minimises the loss of its own linear head.

`LocalError` trains a layer by the cross entropy of a linear head. Here a margin replaces it: the score of the label
must exceed every other score by 1.

python experiments/examples/16_loss_of_a_layer.py
"""

import jax
import jax.numpy as jnp

from snnjax import Conv, Network, Settings, SupervisedSTDP, Trainer, component, number, stage
from snnjax.data import digits
from snnjax.encoding import PIXELS
from snnjax.layers import Ramp, Standardise
from snnjax.learners import LocalError
from snnjax.networks import Earliest


@component
class MarginError(LocalError):
    """Scores that come closer to the score of the label than the margin count as errors, which are squared."""

    margin: float = number(default=1.0, above=0)

    def loss(self, scores, labels):
        wanted = jax.nn.one_hot(labels, scores.shape[1])
        own = jnp.sum(scores * wanted, axis=1, keepdims=True)
        missing = jnp.maximum(0, self.margin - (own - scores)) * (1 - wanted)
        return jnp.mean(jnp.sum(jnp.square(missing), axis=1))


def network(rule):
    """Two layers that learn by a rule, and a readout that learns by supervised STDP."""
    both = dict(padding=1, learners=rule, ramp=Ramp(), standardise=Standardise(), weight_mean=0.0)
    last = dict(threshold=60.0, weight_mean=0.15, weight_std=0.01, fractional=True)
    readout = Conv(50, kernel=7, learners=SupervisedSTDP(gap=0.01), **last)
    stages = (
        stage(Conv(16, kernel=3, weight_std=0.47, **both), pool=2),
        stage(Conv(32, kernel=3, weight_std=0.12, **both), pool=2),
        stage(readout),
    )
    training = dict(encoder=PIXELS, time_steps=255, decision=Earliest(fallback=True))
    return Network("margins", (1, 28, 28), 10, stages, **training)


def main():
    settings = Settings(epochs=(4, 4, 10), adapt_every=100, patience=0, shuffle=True)
    for rule in (LocalError(minibatch_size=32), MarginError(minibatch_size=32)):
        trainer = Trainer(network(rule), digits(), settings)
        state = trainer.run(trainer.initial_state())
        name = type(rule).__name__
        first = state.curves[f"{name} layer1"]["layer1"]["head_right"][-1]
        second = state.curves[f"{name} layer2"]["layer2"]["head_right"][-1]
        print(f"{name}: in their last epoch the heads were right for {first:.1%} and {second:.1%} of the images")
        print(f"test accuracy {state.epochs[-1]['test']['accuracy']:.1%}")


if __name__ == "__main__":
    main()
