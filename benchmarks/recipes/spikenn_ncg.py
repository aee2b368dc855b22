"""SpikeNN's supervised readout with neuronal competition groups, on latencies from an unsupervised extractor.

Recipe: app/run.py with config/STDP-CSNN/MNIST/s2stdp+ncg.json in https://github.com/ggoupy/SpikeNN (GPL-3.0), imported
from a checkout. A tenth of the training images is held out for early stopping, as in that configuration. SpikeNN has no
unsupervised layer: its authors use features from a C++ simulator. Here `--given` holds the features of snnjax's
goupy2024_ncg, which is the same method.
"""

import json
import sys

import numpy as np
import recipe

RUN = recipe.Run(
    None,
    training=0.95,  # the test takes only seconds
    simulator="SpikeNN",
    recipe="app/run.py config/STDP-CSNN/MNIST/s2stdp+ncg.json",
    url="https://github.com/ggoupy/SpikeNN/blob/b3d18651eaac25ccacaee770bbb6b5e1c3fca934/app/run.py",
    licence="GPL-3.0",
    assignment="supervised readout: 5 neurons a class (S2-STDP with NCG); the first spike decides",
    neuron="integrate-and-fire without leak, fully connected, on given latencies",
    time_steps="none: exact times",
    spikes="at most one",
)
sys.path[:0] = [str(RUN.options.checkout.resolve() / "app"), str(RUN.options.checkout.resolve())]
from readout import Readout
from spikenn._impl import spike_sort
from spikenn.dataset import SpikingDataset
from spikenn.utils import EarlyStopper

np.random.seed(RUN.seed)  # noqa: NPY002 - SpikeNN draws from it
with np.load(RUN.options.given) as data:
    latencies = 1 - data["train_features"]  # as a fraction of the time T; 1 if there is no spike
    test_latencies = 1 - data["test_features"]

# recipe
config = json.loads((RUN.options.checkout / "config/STDP-CSNN/MNIST/s2stdp+ncg.json").read_text())
epochs = config["trainer"]["epochs"]
config["trainer"] |= dict(epochs=1, early_stopping=0)
stopper = EarlyStopper(config["trainer"]["early_stopping"])
learned = len(latencies) - len(latencies) // 10
train = SpikingDataset.from_numpy(latencies[:learned], RUN.train_labels[:learned], max_time=1)
held_out = SpikingDataset.from_numpy(latencies[learned:], RUN.train_labels[learned:], max_time=1)
test = SpikingDataset.from_numpy(test_latencies, RUN.test_labels, max_time=1)
model = Readout.init_from_dict(config, train.shape[1], 10, None, 1)
size = train.shape[0]
for _ in RUN.phase("train", np.tile(np.arange(size), epochs), size):
    model.fit(train)
    if stopper.early_stop(model.predict(held_out)):
        RUN.enough()

(layer,) = model.network
layer.test()
predicted = []
for (index,) in RUN.phase("test", np.arange(len(RUN.test_labels))):
    _, times, potentials = layer(test.data[index])
    predicted.append(model.decision_map.get_class(spike_sort(potentials, times)[0]))
# end

spikes = float(np.mean([len(test.data[index]) for index in range(len(predicted))]))
RUN.finish(np.array(predicted), spikes=spikes, synops=spikes * layer.n_neurons, versions=dict(commit="b3d1865"))
