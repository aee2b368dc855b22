"""A network of snnjax, trained by `SpikingClassifier` with its default settings.

Recipe: README.md, "In Python", with the network chosen by `--network`.
"""

import numpy as np
import recipe

NCG = "S2-STDP with neuronal competition groups; the first spike decides"
NETWORKS = dict(
    goupy2024_ncg=("a convolution (128 maps), then 5 neurons for each class", NCG),
    kheradpisheh2018=("two convolutions (32 and 150 maps)", "a linear SVM on spike times"),
    mozafari2018=("three convolutions (30, 250 and 200 maps)", "R-STDP; the highest potential decides"),
    softhebb_narrow=("three convolutions with ramps, then neurons for each class", NCG),
)
"""A description of the neurons and of the readout of each network."""

RUN = recipe.Run(
    "snnjax",
    simulator="snnjax",
    recipe="README.md, In Python",
    url=None,
    licence="MIT",
    spikes="at most one",
)
name = RUN.options.network
neurons, readout = NETWORKS[name]
RUN.about |= dict(neuron=f"integrate-and-fire without leak: {neurons}", assignment=f"supervised readout: {readout}")

from snnjax import SpikingClassifier, SpikingFeatures, cost

# With a rate of 0, the weights of the features keep their initial values, while their thresholds adapt.
CHANGED = {"layer1.learners.rate": 0.0} if RUN.options.untrained else None

# recipe
classifier = SpikingClassifier(name, random_state=RUN.seed, hyperparameters=CHANGED)
for index in RUN.phase("train", np.arange(len(RUN.train_labels)), len(RUN.train_labels)):
    classifier.fit(RUN.train_images[index], RUN.train_labels[index])
for index in RUN.phase("test", np.arange(len(RUN.test_labels)), len(RUN.test_labels)):
    predicted = classifier.network_.decide(RUN.test_images[index]).decision  # -1 if no neuron decides
# end

trained = classifier.network_.network
held_out = int(len(RUN.train_labels) * classifier.validation_fraction)
learned = len(RUN.train_labels) - held_out
RUN.learned = set(range(learned))
epochs = trained.epochs
if trained.deciding:  # the training of deciding layers may stop early
    epochs = (*epochs[:-1], len(classifier.validation_scores_))
RUN.counts["train"] = RUN.planned["train"] = sum(epochs) * learned
RUN.about["time_steps"] = trained.time_steps
costs = cost(classifier.network_, RUN.test_images)
RUN.finish(np.asarray(predicted), spikes=float(costs.spikes.mean()), synops=float(costs.effective_operations.mean()))
if RUN.options.features:
    features = SpikingFeatures(name, random_state=RUN.seed, hyperparameters=CHANGED).fit(RUN.train_images)
    order = np.arange(len(RUN.train_labels))
    RUN.save_features(order, features.transform(RUN.train_images), features.transform(RUN.test_images))
