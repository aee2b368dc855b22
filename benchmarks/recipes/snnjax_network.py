"""A network of snnjax, trained by its estimator with the defaults.

Recipe: README.md, "In Python", with another network.
"""

import numpy as np
import recipe

NCG = "S2-STDP with neuronal competition groups; the first spike decides"
NETWORKS = dict(
    goupy2024_ncg=("a convolution (128 maps), then 5 neurons for each class", NCG),
    kheradpisheh2018=("two convolutions (32 and 150 maps)", "a linear SVM on spike times"),
    mozafari2018=("three convolutions (30, 250 and 200 maps)", "R-STDP; the first spike decides"),
    softhebb_narrow=("three convolutions with ramps, then neurons for each class", NCG),
)
"""The neurons and the readout of each."""

RUN = recipe.Run(
    "snnjax",
    simulator="snnjax",
    recipe="README.md",
    url="../../../README.md",
    licence="MIT",
    spikes="at most one",
)
name = RUN.options.network
neurons, readout = NETWORKS[name]
RUN.about |= dict(neuron=f"integrate-and-fire without leak: {neurons}", assignment=f"supervised readout: {readout}")

from snnjax import SpikingClassifier, SpikingFeatures, cost

# recipe
classifier = SpikingClassifier(name, random_state=RUN.seed)
for index in RUN.phase("train", np.arange(len(RUN.train_labels)), len(RUN.train_labels)):
    classifier.fit(RUN.train_images[index], RUN.train_labels[index])
for index in RUN.phase("test", np.arange(len(RUN.test_labels)), len(RUN.test_labels)):
    predicted = classifier.predict(RUN.test_images[index])
# end

trained = classifier.network_.network
RUN.counts["train"] = RUN.planned["train"] = sum(trained.epochs) * len(RUN.train_labels)  # presentations
RUN.about["time_steps"] = trained.time_steps
costs = cost(classifier.network_, RUN.test_images)
RUN.finish(predicted, spikes=float(costs.spikes.sum()), synops=float(costs.effective_operations.sum()))
if RUN.options.features:
    features = SpikingFeatures(name, random_state=RUN.seed).fit(RUN.train_images)
    order = np.arange(len(RUN.train_labels))
    RUN.save_features(order, features.transform(RUN.train_images), features.transform(RUN.test_images))
