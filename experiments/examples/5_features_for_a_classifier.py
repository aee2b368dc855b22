"""STDP layers as a feature extractor under a classifier of scikit-learn, as in Kheradpisheh et al. 2018.

DoG filters, two layers that learn by STDP without labels, and a linear SVM on their outputs.

python experiments/examples/5_features_for_a_classifier.py
"""

import jax
import numpy as np
from sklearn.svm import LinearSVC

from snnjax import RSTDP, STDP, WTA, Conv, Network, Settings, Trainer, stage
from snnjax.data import digits

rule = STDP(doubling=300)
stages = (
    stage(Conv(30, kernel=5, padding=2, threshold=15, competition=WTA(5, radius=3), learners=rule), pool=2),
    stage(Conv(100, kernel=3, padding=1, threshold=10, competition=WTA(8, radius=1), learners=rule), pool=3),
    stage(Conv(10, kernel=4, learners=RSTDP())),  # a network ends in a stage that decides; here it learns nothing
)
network = Network(name="kheradpisheh", input_shape=(6, 28, 28), classes=10, stages=stages)
data = digits().first(600, 300)
trainer = Trainer(network, data, Settings(epochs=(3, 4, 0)))


@jax.jit
def features(model, images):
    """(N, features) floats in 0..1: how early each neuron of the second layer fires, 0 where it is silent."""

    def of_image(image):
        latency = model.forward(model.encode(image))  # the input of the stage that decides
        return (network.time_steps - latency.astype(np.float32)).ravel() / network.time_steps

    return jax.lax.map(of_image, images)


states = {"random weights": trainer.initial_state(), "after STDP": trainer.run(trainer.initial_state())}
for name, state in states.items():
    model = trainer.trained(state).model
    train, test = (np.asarray(features(model, images)) for images in (data.train_images, data.test_images))
    classifier = LinearSVC(C=0.01, tol=0.01).fit(train, data.train_labels)
    accuracy = classifier.score(test, data.test_labels)
    print(f"{name}: {train.shape[1]} features, {np.mean(train > 0):.0%} of them above 0, test accuracy {accuracy:.1%}")
