"""SpikingJelly's own network on MNIST: one layer that learns by `STDPLearner`, new in release 2.0.0.

Recipe: spikingjelly/activation_based/examples/plasticity/stdp_mnist.py in the wheel of spikingjelly 2.0.0 (Apache-2.0),
rewritten from its equations and settings with SpikingJelly's API. Checkpoints, and the untrained network that the
example simulates beside the trained network, are left out. Classes are assigned from at most 5,000 training images
instead of 5,000 held-out images, so that all simulators learn from the same images.
"""

import numpy as np
import recipe

RUN = recipe.Run(
    "spikingjelly",
    simulator="SpikingJelly",
    recipe="spikingjelly/activation_based/examples/plasticity/stdp_mnist.py",
    url="https://github.com/fangwei123456/spikingjelly",
    licence="Apache-2.0",
    assignment="most active neurons, assigned after training from training images",
    neuron="784 regular inputs, one layer of LIF with filtered current, fast and slow adaptation, recurrent inhibition",
    time_steps=700,
    spikes="many",
)

import math

import torch
from spikingjelly.activation_based import learning, neuron
from torch import nn

torch.manual_seed(RUN.seed)
torch.set_grad_enabled(False)
torch.set_num_threads(recipe.THREADS)
NEURONS = RUN.options.neurons or 3200
RUN.about["neurons"] = NEURONS
STEPS = 700
BATCH = 32
ASSIGNED = 5000

# recipe
RATE = 0.00229619779275505  # learning rate of potentiation and of depression
HOMEOSTASIS = 0.007774997243242785
INHIBITION = 0.09978118161925603
TARGET = 120 / (NEURONS * STEPS)  # spikes of a neuron in a time step


class Population(nn.Module):
    """LIF neurons that inhibit one another, adapt to their own spikes, and regulate their mean firing rate."""

    def __init__(self) -> None:
        super().__init__()
        self.membrane = neuron.SimpleLIFNode(tau=100.0, decay_input=True, v_threshold=0.01)
        self.bias = -0.01 * torch.rand(NEURONS)
        self.gain = torch.ones(NEURONS)

    def start(self, images: int) -> None:
        self.membrane.reset()
        self.spikes = torch.zeros(images, NEURONS)
        self.current = torch.zeros(images, NEURONS)
        self.tired = torch.zeros(images, NEURONS)
        self.waits = torch.zeros(images, NEURONS)

    def forward(self, field: torch.Tensor) -> torch.Tensor:
        drive = self.gain * (field - field.mean(1, keepdim=True))
        drive -= INHIBITION * (self.spikes.sum(1, keepdim=True) - self.spikes)
        self.current += (drive - self.current) / 5
        self.membrane.neuronal_charge(self.current + self.bias - self.tired)
        ready = self.waits <= 0
        self.membrane.v = self.membrane.v * ready
        self.spikes = ((self.membrane.v >= 0.01) & ready).float()
        self.membrane.neuronal_reset(self.spikes)
        self.waits = torch.where(self.spikes > 0, 5.0, (self.waits - 1).clamp_min(0))
        self.tired = math.exp(-1 / 200) * self.tired + 0.01 * self.spikes
        if self.training:
            self.bias += HOMEOSTASIS * (TARGET - self.spikes.mean(0))
        return self.spikes


def variance() -> torch.Tensor:
    """The variance over the training images of each neuron's input, from which the mean over neurons is subtracted."""
    relative = weight - weight.mean(0, keepdim=True)
    return (relative @ covariance * relative).sum(1)


synapse = nn.Linear(784, NEURONS, bias=False)
weight = synapse.weight.data.uniform_(0, 1)
weight *= 78.4 / weight.sum(1, keepdim=True)
population = Population()
learner = learning.STDPLearner(
    "s", synapse, population, 20.0, 20.0, f_pre=lambda w: RATE * w, f_post=lambda w: RATE * (1 - w)
)
covariance = torch.cov(torch.from_numpy(RUN.train_images.reshape(-1, 784).T.astype(np.float32) / 255))
reference = variance()


def respond(images: np.ndarray, learn: bool = False) -> np.ndarray:
    """The spike counts of the neurons, (batch, neurons)."""
    pixels = torch.from_numpy(images.reshape(-1, 784).astype(np.float32) / 255)
    encoder = neuron.SimpleIFNode(v_threshold=1.0, v_reset=None)
    encoder.v = torch.rand(pixels.shape)
    population.start(len(images))
    counts = torch.zeros(len(images), NEURONS)
    for _ in range(STEPS):
        inputs = encoder(0.064 * pixels)
        counts += population(synapse(inputs))
        if learn:
            weight.add_(learner.step(on_grad=False, scale=1 / len(images))).clamp_(0, 1)
            weight.mul_(78.4 / weight.sum(1, keepdim=True)).clamp_(0, 1)
    if learn:
        population.gain = (reference / variance()).sqrt()
        learner.reset()
    return counts.numpy()


# end
if RUN.options.untrained:
    learner.disable()  # an enabled learner that takes no steps would keep the spikes of all images
# recipe
for index in RUN.phase("train", RUN.presentations(50_000), BATCH):
    respond(RUN.train_images[index], learn=not RUN.options.untrained)
learner.disable()
population.eval()

order = RUN.permutation()
observed = [respond(RUN.train_images[index]) for index in RUN.phase("label", order[:ASSIGNED], BATCH)]
responses = np.concatenate(observed)
assigned = recipe.assign(responses, RUN.train_labels[order[: len(responses)]])
features = []
for index in RUN.phase("test", np.arange(len(RUN.test_labels)), BATCH):
    features.append(respond(RUN.test_images[index]))
# end

counts = np.concatenate(features)
# The encoder fires regularly, so that each spike count differs from its expected value by less than one spike.
inputs = 0.064 / 255 * STEPS * float(RUN.test_images[: len(counts)].sum(axis=(1, 2)).mean())
outputs = float(counts.sum(axis=1).mean())
synops = inputs * NEURONS + outputs * (NEURONS - 1)
RUN.finish(recipe.vote(counts, assigned), spikes=inputs + outputs, synops=synops)
if RUN.options.features:
    later = order[len(responses) :]
    observed += [respond(RUN.train_images[index]) for index in RUN.phase("features", later, BATCH)]
    RUN.save_features(order, np.concatenate(observed), counts)
