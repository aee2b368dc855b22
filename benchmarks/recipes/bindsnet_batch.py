"""BindsNET's Diehl & Cook network, 32 images at a time and 100 time steps each: its fastest published recipe.

Recipe: examples/mnist/batch_eth_mnist.py,
https://github.com/BindsNET/bindsnet/blob/master/examples/mnist/batch_eth_mnist.py,
rewritten from its settings on BindsNET's public API. Left out: plots and the voltage monitors that only feed them.
Added: the last, incomplete window of training images also assigns classes.
"""

import numpy as np
import recipe

RUN = recipe.Run(
    "bindsnet",
    simulator="BindsNET, batches of 32",
    recipe="examples/mnist/batch_eth_mnist.py",
    url="https://github.com/BindsNET/bindsnet/blob/34ee2920cf3b605a8d29e777ad6af1bf4bd04036/examples/mnist/batch_eth_mnist.py",
    licence="AGPL-3.0",
    assignment="most active neurons, assigned from responses during training",
    neuron="784 Poisson inputs, excitatory LIF with adaptive thresholds, as many inhibitory LIF",
    time_steps=100,
    spikes="many",
)

import torch
from bindsnet.encoding import PoissonEncoder
from bindsnet.evaluation import all_activity, assign_labels, proportion_weighting
from bindsnet.models import DiehlAndCook2015
from bindsnet.network.monitors import Monitor

torch.manual_seed(RUN.seed)
torch.set_num_threads(recipe.THREADS)
NEURONS = RUN.options.neurons or 100
RUN.about["neurons"] = NEURONS
BATCH = 32
TIME = 100
UPDATES = 10  # assignments in a training
WINDOW = max(1, len(RUN.train_labels) // BATCH // UPDATES)  # batches between two assignments
totals = dict(spikes=0.0, synops=0.0)

# recipe
network = DiehlAndCook2015(
    n_inpt=784,
    n_neurons=NEURONS,
    batch_size=BATCH,
    exc=22.5,
    inh=120,
    dt=1.0,
    norm=78.4,
    nu=(1e-4, 1e-2),
    theta_plus=0.05,
    inpt_shape=(1, 28, 28),
)
encode = PoissonEncoder(time=TIME, dt=1.0)
monitors = {name: Monitor(network.layers[name], ["s"], time=TIME) for name in ("X", "Ae", "Ai")}
for name, monitor in monitors.items():
    network.add_monitor(monitor, name=name)


def respond(images: np.ndarray) -> torch.Tensor:
    """Spikes of the excitatory neurons, (batch, time, neurons)."""
    rates = torch.from_numpy(images).float()[:, None] / 255 * 128
    network.reset_state_variables()
    network.run(inputs={"X": torch.stack([encode(one) for one in rates], 1)}, time=TIME)
    return monitors["Ae"].get("s").permute(1, 0, 2)


assigned = -torch.ones(NEURONS)
proportions = torch.zeros(NEURONS, 10)
rates = torch.zeros(NEURONS, 10)
window: list[torch.Tensor] = []
labels: list[int] = []


def assign() -> None:
    global assigned, proportions, rates
    assigned, proportions, rates = assign_labels(torch.cat(window), torch.tensor(labels), 10, rates)
    window.clear()
    labels.clear()


for index in RUN.phase("train", RUN.permutation(), BATCH):
    window.append(respond(RUN.train_images[index]))
    labels.extend(RUN.train_labels[index])
    if len(window) == WINDOW:
        assign()
if window:
    assign()

network.train(mode=False)
predicted = []
weighted = []
features = []
for index in RUN.phase("test", np.arange(len(RUN.test_labels)), BATCH):
    spikes = respond(RUN.test_images[index])
    predicted.append(all_activity(spikes, assigned, 10).numpy())
    weighted.append(proportion_weighting(spikes, assigned, proportions, 10).numpy())
    # end
    features.append(spikes.sum(1).numpy())
    counts = {name: float(monitor.get("s").sum()) for name, monitor in monitors.items()}
    totals["spikes"] += sum(counts.values())
    totals["synops"] += counts["X"] * NEURONS + counts["Ae"] + counts["Ai"] * (NEURONS - 1)

tested = RUN.test_labels[: sum(map(len, weighted))]
share = float(np.mean(np.concatenate(weighted) == tested))
RUN.finish(np.concatenate(predicted), accuracy_proportion=share, **totals)
if RUN.options.features:
    order = RUN.permutation()
    responses = [respond(RUN.train_images[index]).sum(1).numpy() for index in RUN.phase("features", order, BATCH)]
    RUN.save_features(order, np.concatenate(responses), np.concatenate(features))
