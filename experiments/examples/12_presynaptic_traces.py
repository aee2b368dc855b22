"""STDP with presynaptic traces: a winner's weights follow traces of its inputs, which outlast an image.

Each input has a trace, which grows by 1 when the input fires and decays exponentially, as in Diehl & Cook 2015 (doi
10.3389/fncom.2015.00099). When a neuron wins, each weight changes in proportion to the trace of its input minus a
target, so that the weights of inputs that have not fired for a long time decrease. Images follow each other without a
pause. The state of the rule contains the traces at the end of the image, in the shape of the input.

python experiments/examples/12_presynaptic_traces.py
"""

import jax.numpy as jnp
import numpy as np

from snnjax import WTA, Conv, ImageSpec, Learner, Network, Settings, Trainer, component, stage
from snnjax.data import digits
from snnjax.networks import LinearSVM


@component
class TraceSTDP(Learner):
    """The winner's weights change by rate * (trace - target)."""

    rate: float = 0.05
    target: float = 0.4
    tau: float = 10.0  # time steps in which a trace decays to 1/e

    bounds = (0.0, 1.0)

    def init(self, layer, key, images_seen):
        return np.zeros(layer.input_shape, np.float32)

    def update(self, layer, state, latency, response, signal):
        winners = response.winners
        step = winners.latency.astype(jnp.float32)[:, None, None, None]
        earlier = layer.receptive_fields(state, winners) * self.decayed(step)  # what earlier images have left
        since = layer.time_differences(latency, winners)  # steps since an input fired, below 0 if it has not yet
        trace = earlier + jnp.where(since >= 0, self.decayed(since), 0)
        old = layer.weights_of(winners)
        new = jnp.clip(old + self.rate * (trace - self.target), *self.bounds)

        remaining = layer.time_steps - latency.astype(jnp.float32)  # 0 if an input is silent
        left = jnp.where(remaining > 0, self.decayed(remaining), 0)
        state = state * self.decayed(layer.time_steps) + left
        return layer.with_weights_of(winners, new), state, ()

    def decayed(self, steps):
        return jnp.exp(-steps / self.tau)


def network_for(images):
    features = Conv(32, kernel=5, padding=2, threshold=15, competition=WTA(5, radius=3), learners=TraceSTDP())
    stages = (stage(features, pool=4),)
    return Network("presynaptic_traces", images.input_shape, images.classes, stages, decision=LinearSVM())


def main():
    data = digits().subset(600, 300)
    for name, epochs in {"random weights": 0, "after learning": 2}.items():
        trainer = Trainer(network_for(ImageSpec.of(data)), data, Settings((epochs,)))
        state = trainer.run(trainer.initial_state())
        print(f"{name}: test accuracy {state.epochs[-1]['test']['accuracy']:.1%}")


if __name__ == "__main__":
    main()
