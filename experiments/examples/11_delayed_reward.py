"""R-STDP whose reward arrives three images later: an eligibility trace remembers which synapses have been active.

Each image marks the synapses of the neuron that has decided. The marks decay from image to image, and a reward
changes all weights in proportion to them, regardless of the images from which they come. The running mean of the
rewards, which is the expected part, is subtracted, so that the marks of all other images cancel out in the long run:
see Frémaux & Gerstner 2016 (doi 10.3389/fncir.2015.00085). For the same reason, images are shown in a new order in each
epoch.

A silent image marks nothing, but the trace decays, and the reward of an earlier image may arrive and change weights.
Therefore the rule declares that it acts on silent images.

python experiments/examples/11_delayed_reward.py
"""

import jax.numpy as jnp
import numpy as np

from snnjax import STDP, WTA, Conv, ImageSpec, Learner, Network, Settings, Trainer, component, stage, static
from snnjax.data import digits
from snnjax.learners import winner_of_class


@component
class DelayedReward(Learner):
    """Weights change by rate * (reward - its mean) * trace."""

    rate: float = 0.0005
    depression: float = 0.4  # mark of an input that has not fired, relative to that of one that has
    decay: float = 0.8  # of the trace, from image to image
    memory: float = 0.01  # share of a reward that enters the mean
    delay: int = static(default=3)  # images until a reward arrives

    supervised = True
    rewarded = True  # it needs no label
    acts_on_silence = True
    bounds = (0.2, 0.8)

    def init(self, layer, key, images_seen):
        return dict(
            trace=np.zeros(layer.weights.shape, np.float32),
            rewards=np.zeros(self.delay + 1, np.int32),  # the newest first; 0: the network was silent
            mean=np.float32(0),
        )

    def update(self, layer, state, latency, response, signal):
        winners = winner_of_class(layer, response.spikes, signal.vote)
        fired = layer.receptive_fields(latency, winners) < layer.time_steps
        marked = jnp.where(winners.valid, winners.feature, layer.conv.features)  # beyond the end if it was silent
        trace = self.decay * state["trace"]
        trace = trace.at[marked].add(jnp.where(fired, 1.0, -self.depression), mode="drop")

        rewards = jnp.roll(state["rewards"], 1).at[0].set(signal.reward)
        arrived = rewards[self.delay]
        surprise = jnp.where(arrived == 0, 0, arrived - state["mean"])
        weights = jnp.clip(layer.weights + self.rate * surprise * trace, *self.bounds)
        state = dict(trace=trace, rewards=rewards, mean=state["mean"] + self.memory * surprise)
        return layer.with_weights(weights), state, ()


def network_for(images, rule):
    stdp = STDP(doubling=200)
    features = Conv(20, kernel=5, padding=2, threshold=15, competition=WTA(5, radius=3), learners=stdp)
    decision = Conv(100, kernel=7, learners=rule)  # no threshold: the largest potential decides
    stages = stage(features, pool=4), stage(decision)
    return Network("delayed_reward", images.input_shape, images.classes, stages)


def main():
    data = digits()
    network = network_for(ImageSpec.of(data), DelayedReward())
    trainer = Trainer(network, data, Settings(epochs=(3, 30), shuffle=True, patience=0))
    state = trainer.run(trainer.initial_state())
    for epoch in (1, 3, 10, 30):
        print(f"epoch {epoch:2}: test accuracy {state.epochs[epoch - 1]['test']['accuracy']:.1%}")


if __name__ == "__main__":
    main()
