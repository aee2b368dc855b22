"""Two custom classes of images, learned from reward: rings and crosses, which are drawn at random.

python experiments/examples/4_two_classes_of_pictures.py
"""

import numpy as np

from snnjax import RSTDP, STDP, WTA, Conv, Network, Settings, Trainer, stage
from snnjax.data import Dataset


def picture(kind, random):
    """A ring (0) or a cross (1) of random size, position and brightness, (32, 32) uint8."""
    row = random.uniform(12, 20)
    column = random.uniform(12, 20)
    size = random.uniform(6, 10)
    y, x = np.mgrid[:32, :32] - np.array([row, column])[:, None, None]
    if kind == 0:
        shape = np.abs(np.hypot(x, y) - size) < 1.5
    else:
        shape = (np.abs(np.abs(x) - np.abs(y)) < 1.8) & (np.maximum(np.abs(x), np.abs(y)) < size)
    return (shape * random.uniform(120, 255) + random.uniform(0, 25, (32, 32))).astype(np.uint8)


random = np.random.default_rng(0)
labels = random.integers(0, 2, 400).astype(np.int32)
images = np.stack([picture(kind, random) for kind in labels])
data = Dataset("rings_and_crosses", images[:300], labels[:300], images[300:], labels[300:], classes=2)

features = Conv(12, 5, padding=2, threshold=12, competition=WTA(4, radius=3), learners=STDP(doubling=150))
decision = Conv(20, kernel=8, learners=RSTDP())  # 10 features for each class; each reads the whole image
stages = stage(features, pool=4), stage(decision)
network = Network(data.name, input_shape=data.input_shape, classes=data.classes, stages=stages)
trainer = Trainer(network, data, Settings(epochs=(3, 10), adapt_every=50, patience=0))
state = trainer.run(trainer.initial_state())
for record in state.epochs[::3]:
    train = record["train"]["accuracy"]
    test = record["test"]["accuracy"]
    print(f"epoch {record['epoch'] + 1}: training {train:.1%}, test {test:.1%}")

chosen = np.concatenate([np.flatnonzero(data.test_labels == kind)[:2] for kind in (0, 1)])
decisions, scores = trainer.predict(state, data.test_images[chosen])
for decision, score, label in zip(decisions, scores, data.test_labels[chosen], strict=True):
    print(f"decided {decision} by potentials {score[0]:.1f} and {score[1]:.1f}, the label is {label}")
