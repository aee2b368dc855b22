"""A custom network: layers as data, two branches side by side, and a callback that prints the progress of training.

python experiments/examples/2_own_network.py
"""

from snnjax import RSTDP, STDP, WTA, Conv, Network, Settings, Trainer, stage
from snnjax.data import digits
from snnjax.training import Callback

fast = STDP(doubling=200)
small = Conv(12, kernel=3, padding=1, threshold=6, competition=WTA(5, radius=2), learners=fast)
large = Conv(20, kernel=7, padding=3, threshold=25, competition=WTA(5, radius=3), learners=fast)
views = stage(small, large, pool=4)  # both see the same image; their maps are joined, then pooled
decision = stage(Conv(100, kernel=5, padding=1, learners=RSTDP()))
network = Network(name="two_views", input_shape=(6, 28, 28), classes=10, stages=(views, decision))
print("(maps, rows, columns) of the image and of the output of each stage:", network.shapes)


class Words(Callback):
    """Prints the diagnosis of each phase and the accuracies of every third epoch."""

    def diagnosed(self, phase, diagnosis):
        print(f"{phase}: {'; '.join(diagnosis['words'])}")

    def tested(self, record):
        if record["epoch"] % 3 == 2:
            train = record["train"]["accuracy"]
            test = record["test"]["accuracy"]
            print(f"epoch {record['epoch'] + 1}: training {train:.1%}, test {test:.1%}")


trainer = Trainer(network, digits().subset(600, 200), Settings(epochs=(2, 9), adapt_every=100), Words())
state = trainer.run(trainer.initial_state())
print(f"best test accuracy {state.epochs[state.best_epoch]['test']['accuracy']:.1%}")
