"""STDP layers as a feature extractor under a classifier of scikit-learn, as in Kheradpisheh et al. 2018.

DoG filters, two layers that learn by STDP without any label, and a linear SVM on what they make of the images.

python experiments/examples/5_features_for_a_classifier.py
"""

import jax
import numpy as np
from sklearn.svm import LinearSVC

from snnjax.data import digits
from snnjax.layers import RSTDP, STDP, Conv
from snnjax.networks import Network, stage
from snnjax.training.trainer import Settings, Trainer

rule = STDP(doubling=300)
network = Network(
    name="kheradpisheh",
    input_shape=(6, 28, 28),
    classes=10,
    stages=(
        stage(Conv(30, kernel=5, padding=2, threshold=15, winners=5, radius=3, stdp=rule), pool=2),
        stage(Conv(100, kernel=3, padding=1, threshold=10, winners=8, radius=1, stdp=rule), pool=3),
        stage(Conv(10, kernel=4, rstdp=RSTDP())),  # the trainer wants a stage that decides; it gets no epoch
    ),
)
data = digits().first(600, 300)
trainer = Trainer(network, data, Settings(epochs=(3, 4, 0)))


def features(trained):
    """An image as numbers: how early each neuron of the second layer fires, 0 where it is silent."""

    @jax.jit
    def of_image(image):
        latency = trained.respond(1, trained.respond(0, trainer.encoder(image)))
        return (network.time_steps - latency.astype(np.float32)).ravel() / network.time_steps

    return lambda images: np.asarray(jax.lax.map(of_image, images))


for name, learn in (("random weights", False), ("after STDP", True)):
    if learn:
        trainer.run(trainer.initial_state())
    extract = features(trainer.network)
    train, test = extract(data.train_images), extract(data.test_images)
    classifier = LinearSVC(C=0.01, tol=0.01).fit(train, data.train_labels)
    accuracy = classifier.score(test, data.test_labels)
    print(f"{name}: {train.shape[1]} features, {np.mean(train > 0):.0%} of them above 0, test accuracy {accuracy:.1%}")
