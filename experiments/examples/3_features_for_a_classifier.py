"""STDP layers as a feature extractor for a scikit-learn classifier, as in Kheradpisheh et al. 2018.

The network has DoG filters, two layers that learn by STDP without labels, and a linear SVM on their outputs. The SVM is
a part of the network and saved with it, so that the network decides for single images and batches like any other.

python experiments/examples/3_features_for_a_classifier.py
"""

from snnjax import STDP, WTA, Conv, Network, Settings, Trainer, stage
from snnjax.data import digits
from snnjax.networks import LinearSVM

rule = STDP(doubling=300)
stages = (
    stage(Conv(30, kernel=5, padding=2, threshold=15, competition=WTA(5, radius=3), learners=rule), pool=2),
    stage(Conv(100, kernel=3, padding=1, threshold=10, competition=WTA(8, radius=1), learners=rule), pool=3),
)
network = Network("features", input_shape=(6, 28, 28), classes=10, stages=stages, decision=LinearSVM(C=0.01))
data = digits().subset(600, 300)

for name, epochs in {"random weights": (0, 0), "after STDP": (3, 4)}.items():
    trainer = Trainer(network, data, Settings(epochs))
    state = trainer.run(trainer.initial_state())  # its last phase fits the SVM
    density = state.diagnoses["outputs of stage 2"]["firing"]["layer2"]
    accuracy = state.epochs[-1]["test"]["accuracy"]
    print(f"{name}: {density:.0%} of the features fire, test accuracy {accuracy:.1%}")
