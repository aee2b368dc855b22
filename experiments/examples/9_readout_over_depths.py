"""A readout over several depths of layers with ramps.

python experiments/examples/9_readout_over_depths.py
"""

import snnjax
from snnjax import Conv, Network, Pool, Settings, SupervisedSTDP, Trainer, stage
from snnjax.data import digits
from snnjax.layers import Ramp
from snnjax.learners import SoftHebb
from snnjax.networks import Input

DEPTHS = (
    Input("stage1", pool=Pool(4)),  # 16 maps of 14x14 become 3x3
    Input("stage2", pool=Pool(2)),  # 32 maps of 7x7 become 3x3
    Input("stage3"),  # 64 maps of 3x3
)
DECISION = snnjax.networks.Earliest(fallback=True)


def features(count):
    neurons = dict(ramp=Ramp(0.7), standardise=snnjax.layers.Standardise(), weight_mean=0.0, weight_std=1.0)
    return stage(Conv(count, kernel=3, padding=1, learners=SoftHebb(minibatch_size=10), **neurons), pool=2)


def network(depths):
    """A network whose readout reads these depths, concatenated: 64 or 112 maps of 3x3."""
    weights = dict(weight_mean=0.15, weight_std=0.01)
    readout = Conv(50, kernel=3, threshold=30.0, fractional=True, learners=SupervisedSTDP(gap=0.01), **weights)
    stages = (features(16), features(32), features(64), stage(readout, inputs=depths))
    encoder = snnjax.encoding.PIXELS
    return Network("depths", (1, 28, 28), 10, stages, decision=DECISION, encoder=encoder, time_steps=255)


if __name__ == "__main__":
    for title, depths in {"the third layer": DEPTHS[2:], "all three": DEPTHS}.items():
        trainer = Trainer(network(depths), digits(), Settings(epochs=(1, 1, 1, 15), patience=0, shuffle=True))
        state = trainer.run(trainer.initial_state())
        print(f"{title}: test accuracy {state.epochs[-1]['test']['accuracy']:.1%}")
