"""The counts of `snnjax.cost` are NeuroBench's, to the last digit. Needs the extra `neurobench`."""

import dataclasses

import numpy as np
import pytest

from snnjax import SpikingNetwork, cost
from snnjax.data import digits
from snnjax.networks import NETWORKS
from snnjax.training.build import network_for

torch = pytest.importorskip("torch")
snntorch = pytest.importorskip("snntorch")
neurobench = pytest.importorskip("neurobench.benchmarks")
models = pytest.importorskip("neurobench.models")
workload = pytest.importorskip("neurobench.metrics.workload")

COUNT = 3


class FiresOnce(snntorch.SpikingNeuron):
    """Integrates, and fires at the first step that brings its potential above a threshold."""

    def __init__(self, threshold, last_step=None):
        super().__init__()
        self.level = threshold
        self.last_step = last_step  # only then does it fire
        self.step = 0
        self.total = self.fired = 0

    def forward(self, sums):
        self.total = self.total + sums
        above = self.total > self.level
        if self.last_step is not None:
            above &= self.step == self.last_step
        new = above & ~torch.as_tensor(self.fired, dtype=torch.bool)
        self.fired = above | torch.as_tensor(self.fired, dtype=torch.bool)
        self.step += 1
        return new.float(), self.total


class Remembering(torch.nn.Module):
    """Max pooling of all spikes so far, of which it passes on the new ones."""

    def __init__(self, pool):
        super().__init__()
        self.pool = torch.nn.MaxPool2d(pool.window, pool.stride or pool.window, pool.padding, ceil_mode=False)
        self.seen = self.passed = 0

    def forward(self, spikes):
        self.seen = self.seen + spikes
        pooled = self.pool(self.seen)
        new = pooled - self.passed
        self.passed = pooled
        return new


class Chain(torch.nn.Module):
    """A network of stages one after the other, one step at a time."""

    def __init__(self, network):
        super().__init__()
        spec = network.spec
        weights = network.weights()
        layers = []
        for number, name, conv in spec.layers():
            channels = weights[name].shape[1]
            layer = torch.nn.Conv2d(channels, conv.features, conv.kernel, padding=conv.padding, bias=False)
            layer.weight.data = torch.tensor(np.asarray(weights[name]))
            untimed = name in spec.deciding and not spec.decision.timed
            level = 0.0 if untimed else np.array(conv.threshold, np.float32)
            threshold = torch.tensor(level).reshape(-1, 1, 1)
            layers += [layer, FiresOnce(threshold, spec.time_steps - 1 if untimed else None)]
            if spec.stages[number].pool:
                layers.append(Remembering(spec.stages[number].pool))
        self.layers = torch.nn.ModuleList(layers)

    def forward(self, spikes):
        for layer in self.layers:
            spikes = layer(spikes)
            if isinstance(layer, FiresOnce):
                spikes, potential = spikes
        return spikes, potential

    def reset(self):
        """Nothing to forget: each image gets a network of its own."""


def benchmark(network, latency):
    """NeuroBench's figures of one image, given its latencies (C, H, W)."""
    steps = torch.arange(network.spec.time_steps).reshape(-1, 1, 1, 1)
    data = (torch.tensor(latency.astype(np.int64)) == steps).float()[None]
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(data, torch.zeros(1)))
    metrics = [workload.SynapticOperations, workload.ActivationSparsity]
    run = neurobench.Benchmark(models.SNNTorchModel(Chain(network)), loader, [], [], [[], metrics])
    return run.run(quiet=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mozafari2018", "goupy2024_ncg"])
def test_neurobench_counts_the_same(name):
    data = digits()
    spec = network_for(NETWORKS[name], data)
    if hasattr(spec.encoder, "fit"):
        spec = dataclasses.replace(spec, encoder=spec.encoder.fit(data.train_images))
    random = np.random.default_rng(1)
    weights = spec.initial_weights(0)
    for layer, values in weights.items():
        weights[layer] = np.where(random.random(values.shape) < 0.3, 0, np.round(values * 64) / 64)
    network = SpikingNetwork(spec, weights=weights)
    images = data.test_images[:COUNT]
    found = cost(network, images)
    for number, image in enumerate(images):
        expected = benchmark(network, np.asarray(network.model.encode(image)))
        operations = expected["SynapticOperations"]
        alone = cost(network, image[None])
        assert found.effective_operations[number] == alone.effective_operations[0] == operations["Effective_ACs"] > 0
        assert (found.dense_operations, operations["Effective_MACs"]) == (operations["Dense"], 0)
        assert alone.activation_sparsity == pytest.approx(expected["ActivationSparsity"], rel=1e-12)
