"""A skip connection: the decision reads the first layer in addition to the second, which reads the first one pooled.

python experiments/examples/8_skip_connection.py
"""

from snnjax import STDP, WTA, Conv, Network, Pool, Settings, Trainer, stage
from snnjax.data import digits
from snnjax.networks import Input, LinearSVM

fast = STDP(doubling=200)
POOLED = Input("stage1", pool=Pool(2))  # applies only to this input
FIRST = stage(Conv(20, kernel=5, padding=2, threshold=15, competition=WTA(5, radius=3), learners=fast), pool=2)
SECOND = stage(
    Conv(60, kernel=3, padding=1, threshold=6, competition=WTA(8, radius=1), learners=fast), inputs=POOLED, pool=2
)
NETWORKS = {
    "only the second layer": (FIRST, SECOND),
    "both layers": (FIRST, SECOND, stage(inputs=("stage2", Input("stage1", pool=Pool(4))))),
}
"""The last stage has no layers: it joins 60 and 20 maps of one size for a decision that is fitted to them."""


def network(stages):
    return Network("skip", (6, 28, 28), 10, stages, decision=LinearSVM())


NETWORK = network(NETWORKS["both layers"])


def main():
    for title, stages in NETWORKS.items():
        trainer = Trainer(network(stages), digits(), Settings(epochs=(2, 4, 0)[: len(stages)]))
        state = trainer.run(trainer.initial_state())
        print(f"{title}, {trainer.network.shapes[-1]}: test accuracy {state.epochs[-1]['test']['accuracy']:.1%}")


if __name__ == "__main__":
    main()
