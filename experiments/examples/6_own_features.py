"""A custom rule that learns features from minibatches, as `SoftHebb` does.

Each feature moves towards the patches that it responds to, minus the part that it and earlier features explain,
so that the features become the principal components of patches (Sanger 1989).

python experiments/examples/6_own_features.py
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from snnjax import Conv, Learner, Network, Settings, SupervisedSTDP, Trainer, component, stage, static
from snnjax.data import digits
from snnjax.encoding import PIXELS
from snnjax.layers import Ramp, Standardise
from snnjax.networks import Earliest


class BatchResponse(NamedTuple):
    """The response to a minibatch, from which the rule learns."""

    patches: jax.Array  # (positions of all images, K)
    sums: jax.Array  # (positions, F)


@component
class PrincipalComponents(Learner):
    """w += rate (mean of u patch - lower triangle of (mean of u u) w), u = w patch."""

    rate: float = 0.02
    minibatch_size: int = static(default=10)  # number of images from which it learns at once

    def forward(self, layer, state, latency, label):
        patches, sums = layer.batch_sums(latency)  # standardised by the moments of the minibatch
        return BatchResponse(*(x.reshape(-1, x.shape[-1]) for x in (patches, sums)))

    def update(self, layer, state, latency, response, signal):
        rows = layer.rows()
        patches, sums = response
        change = (sums.T @ patches - jnp.tril(sums.T @ sums) @ rows) / len(sums)
        return layer.with_all_weights(rows + self.rate * change).with_moments_of(latency, 0.1), state, ()

    def diagnose(self, layer, info):
        rows = layer.weights.reshape(len(layer.weights), -1)
        oblique = float(np.abs(rows @ rows.T - np.eye(len(rows))).mean())
        return dict(oblique=oblique)


FEATURES = Conv(
    16,
    kernel=5,
    padding=2,
    learners=PrincipalComponents(),
    ramp=Ramp(),
    standardise=Standardise(),
    weight_mean=0.0,
    weight_std=0.1,
)
READOUT = Conv(50, kernel=7, threshold=60.0, weight_mean=0.3, fractional=True, learners=SupervisedSTDP(gap=0.01))
NETWORK = Network(
    "components",
    (1, 28, 28),
    10,
    (stage(FEATURES, pool=4), stage(READOUT)),
    decision=Earliest(fallback=True),
    encoder=PIXELS,
    time_steps=255,
)


def main():
    trainer = Trainer(NETWORK, digits(), Settings(epochs=(2, 15), adapt_every=100, patience=0, shuffle=True))
    state = trainer.run(trainer.initial_state())
    oblique = state.diagnoses["PrincipalComponents layer1"]["oblique"]["layer1"]
    print(f"products of components of layer1 are {oblique:.3f} off 1 and 0")
    print(f"test accuracy {state.epochs[-1]['test']['accuracy']:.1%}")


if __name__ == "__main__":
    main()
