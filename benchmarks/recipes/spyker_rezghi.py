"""Spyker's own network on MNIST: two convolutions that learn by STDP, then PCA and a support vector machine.

Recipe: examples/rezghi_mnist_sparse.py (BSD-3-Clause),
https://github.com/ShahriarRezghi/Spyker/blob/main/examples/rezghi_mnist_sparse.py, rewritten from its settings with
Spyker's Python API. rezghi_mnist_dense.py is the same network with dense tensors; it is slower on a CPU and meant for
GPUs.
"""

import numpy as np
import recipe

RUN = recipe.Run(
    "spyker",
    simulator="Spyker",
    recipe="examples/rezghi_mnist_sparse.py",
    url="https://github.com/ShahriarRezghi/Spyker/blob/bec246434f1a978d751ecac70662f8aabce46c54/examples/rezghi_mnist_sparse.py",
    licence="BSD-3-Clause",
    assignment="supervised readout: PCA to 200 components, then an SVM with an RBF kernel, on spike times",
    neuron="integrate-and-fire without leak, two convolutions (100 and 200 maps), LoG-filtered input",
    time_steps=15,
    spikes="at most one",
)

import spyker
import torch
from sklearn.decomposition import PCA
from sklearn.svm import SVC
from spyker import sparse

spyker.random_seed(RUN.seed)
spyker.set_max_threads(recipe.THREADS)
torch.set_num_threads(recipe.THREADS)
BATCH = 64
STEPS = 15

# recipe
filters = spyker.LoG(3, [0.471404521, 1.099943882, 2.042752923], pad=3)
first = spyker.Conv(6, 100, 5, pad=2, mean=0.5, std=0.02)
second = spyker.Conv(100, 200, 3, pad=1, mean=0.5, std=0.02)
for layer in (first, second):
    layer.stdpconfig = [spyker.STDPConfig(0.0004, -0.0003)]


def encode(images: np.ndarray) -> spyker.SparseTensor:
    """Latency-coded spikes, (batch, time, channels, height, width)."""
    pixels = torch.from_numpy(images[:, None].astype(np.float32) / 255)
    return sparse.code(spyker.threshold(filters(pixels), 0.01), STEPS)


def pooled(spikes: spyker.SparseTensor) -> spyker.SparseTensor:
    return sparse.pool(first(spikes, 16), 2)


def learn(layer: spyker.Conv, spikes: spyker.SparseTensor, threshold: float, winners: int, radius: int) -> None:
    layer.stdp(spikes, sparse.convwta(sparse.inhibit(layer(spikes, threshold)), winners, radius))


def times(images: np.ndarray) -> np.ndarray:
    """The features: the number of time steps left when the pooled neurons of the second layer spike."""
    spikes = sparse.pool(second(pooled(encode(images)), 5), 3)
    return (STEPS - spyker.to_torch(sparse.gather(spikes))).flatten(1).numpy()


seen = dict(first=0, second=0)
for name, index in RUN.stages(dict(first=1, second=3), RUN.presentations(60_000), BATCH):
    spikes = encode(RUN.train_images[index])
    if name == "first":
        learn(first, spikes, 16, 3, 5)
    else:
        learn(second, pooled(spikes), 5, 1, 8)
    seen[name] += len(index)
    if seen[name] > 2000:  # the learning rates grow
        seen[name] -= 2000
        (rates,) = (first if name == "first" else second).stdpconfig
        ratio = rates.negative / rates.positive
        rates.positive = min(rates.positive * 1.5, 1.5)
        rates.negative = rates.positive * ratio

order = RUN.permutation()
features = np.concatenate([times(RUN.train_images[index]) for index in RUN.phase("label", order, BATCH)])
labels = RUN.train_labels[order[: len(features)]]
with RUN.also("label"):
    pca = PCA(n_components=min(200, len(features)), random_state=RUN.seed).fit(features)
    svm = SVC(C=2.4).fit(pca.transform(features), labels)

predicted = []
tested = []
for index in RUN.phase("test", np.arange(len(RUN.test_labels)), BATCH):
    tested.append(times(RUN.test_images[index]))
    predicted.append(svm.predict(pca.transform(tested[-1])))
# end


def count(spikes: spyker.SparseTensor) -> float:
    return float((spyker.to_torch(sparse.gather(spikes)) < STEPS).sum())


inputs = encode(RUN.test_images[:BATCH])
hidden = pooled(inputs)
outputs = second(hidden, 5)
counted = len(RUN.test_images[:BATCH])
spikes = sum(map(count, (inputs, first(inputs, 16), outputs))) / counted
synops = (count(inputs) * 25 * 100 + count(hidden) * 9 * 200) / counted
RUN.finish(np.concatenate(predicted), spikes=spikes, synops=synops)
RUN.save_features(order, features, np.concatenate(tested))
