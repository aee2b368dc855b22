"""BindsNET's Diehl & Cook network, one image at a time.

Recipe: examples/mnist/eth_mnist.py,
https://github.com/BindsNET/bindsnet/blob/master/examples/mnist/eth_mnist.py,
rewritten from its settings on BindsNET's public API. Left out: plots and the voltage monitors that only feed them.
Added: the last, incomplete window of training images also assigns classes.
"""

import numpy as np
import recipe

RUN = recipe.Run(
    "bindsnet",
    simulator="BindsNET",
    recipe="examples/mnist/eth_mnist.py",
    url="https://github.com/BindsNET/bindsnet/blob/34ee2920cf3b605a8d29e777ad6af1bf4bd04036/examples/mnist/eth_mnist.py",
    licence="AGPL-3.0",
    assignment="most active neurons, assigned from responses during training",
    neuron="784 Poisson inputs, excitatory LIF with adaptive thresholds, as many inhibitory LIF",
    time_steps=250,
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
WINDOW = 250  # images between two assignments
totals = dict(spikes=0.0, synops=0.0)

# recipe
network = DiehlAndCook2015(
    n_inpt=784, n_neurons=NEURONS, exc=22.5, inh=120, dt=1.0, norm=78.4, theta_plus=0.05, inpt_shape=(1, 28, 28)
)
encode = PoissonEncoder(time=250, dt=1.0)
monitors = {name: Monitor(network.layers[name], ["s"], time=250) for name in ("X", "Ae", "Ai")}
for name, monitor in monitors.items():
    network.add_monitor(monitor, name=name)


def respond(image: np.ndarray) -> torch.Tensor:
    """Spikes of the excitatory neurons, (1, time, neurons)."""
    rates = torch.from_numpy(image).float() / 255 * 128
    network.reset_state_variables()
    network.run(inputs={"X": encode(rates).view(250, 1, 1, 28, 28)}, time=250)
    return monitors["Ae"].get("s").view(1, 250, NEURONS)


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


for (index,) in RUN.phase("train", RUN.permutation()):
    window.append(respond(RUN.train_images[index]))
    labels.append(RUN.train_labels[index])
    if len(window) == WINDOW:
        assign()
if window:
    assign()

network.train(mode=False)
predicted = []
weighted = []
features = []
for (index,) in RUN.phase("test", np.arange(len(RUN.test_labels))):
    spikes = respond(RUN.test_images[index])
    predicted.append(int(all_activity(spikes, assigned, 10)))
    weighted.append(int(proportion_weighting(spikes, assigned, proportions, 10)))
    # end
    features.append(spikes.sum(1).numpy()[0])
    counts = {name: float(monitor.get("s").sum()) for name, monitor in monitors.items()}
    totals["spikes"] += sum(counts.values())
    totals["synops"] += counts["X"] * NEURONS + counts["Ae"] + counts["Ai"] * (NEURONS - 1)

tested = RUN.test_labels[: len(weighted)]
RUN.finish(np.array(predicted), accuracy_proportion=float(np.mean(np.array(weighted) == tested)), **totals)
if RUN.options.features:
    order = RUN.permutation()
    responses = [respond(RUN.train_images[index]).sum(1).numpy()[0] for (index,) in RUN.phase("features", order)]
    RUN.save_features(order, np.array(responses), np.array(features))
